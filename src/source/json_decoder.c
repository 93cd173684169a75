/*
 * json_decoder.c
 *	  Messages whose value is a JSON object: its members to typed columns.
 */
#include "postgres.h"

#include "json/json_document.h"
#include "mb/pg_wchar.h"
#include "source/decoder.h"
#include "source/encoding.h"

struct LhDecoder
{
	LhEncoding	encoding;
	LhJsonDocument *document;
	LhFieldSink *sink;
};

static const char *const option_names[] = {
	"paths", "rescued_data_column", "schema_evolution_mode", "reader_case_sensitive", NULL
};

static LhDecoder *
json_open(TupleDesc tupdesc, const bool *fillable, Jsonb *options, LhSchemaRegistry *registry,
		  LhFieldSink *sink)
{
	LhDecoder  *decoder = palloc0(sizeof(LhDecoder));

	lh_encoding_init(&decoder->encoding, PG_UTF8);
	decoder->document = lh_json_document_create(options, tupdesc, fillable, NULL, CurrentMemoryContext);
	decoder->sink = sink;
	return decoder;
}

static bool
json_may_raise(const LhDecoder *decoder)
{
	return lh_json_document_may_raise(decoder->document);
}

static bool
json_fill(LhDecoder *decoder, const char *value, Size length, Datum *values, bool *nulls,
		  LhError *error, const char **column)
{
	const char *text;
	int			text_length;

	return lh_encoding_convert(&decoder->encoding, value, (int) length, &text, &text_length, error) &&
		lh_json_document_fill(decoder->document, text, text_length, decoder->sink, values, nulls,
							  error, column);
}

const LhDecoderRoutine lh_json_decoder = {
	.format = "json",
	.options = option_names,
	.open = json_open,
	.may_raise = json_may_raise,
	.fill = json_fill
};
