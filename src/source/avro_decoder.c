/*
 * avro_decoder.c
 *	  Messages whose value is an Avro record: its fields to typed columns.
 *
 * The value becomes JSON text, which is read as that of other messages is.  So
 * paths, conversions, rescued data and rejects are the same for both formats, by
 * one piece of code; what that costs is a text that is written and read again.
 *
 * The schema is that of the source's option, and values are bare; or it is told
 * by each value: a byte 0, the number of the schema in four bytes, the value.
 */
#include "postgres.h"

#include "avro/avro_json.h"
#include "catalog/options.h"
#include "guc.h"
#include "json/json_document.h"
#include "mb/pg_wchar.h"
#include "source/decoder.h"
#include "source/encoding.h"

/* option: the schema of all values */
#define SCHEMA_OPTION "avro_schema"

struct LhDecoder
{
	LhAvroSchema *schema;		/* of all values, or NULL: */
	LhSchemaRegistry *registry; /* has those that values name */
	bool		convert;		/* text is to be converted to the server's encoding */
	LhEncoding	encoding;
	StringInfoData json;		/* of the value at hand */
	LhJsonDocument *document;
	LhFieldSink *sink;
};

static const char *const option_names[] = {
	"paths", "rescued_data_column", "schema_evolution_mode", "reader_case_sensitive",
	SCHEMA_OPTION, NULL
};

/*
 * parse_option reads the schema of the option, an object or its text.
 */
static LhAvroSchema *
parse_option(const JsonbValue *value)
{
	LhAvroSchema *schema = lh_avro_schema_create(CurrentMemoryContext);
	LhError		error;
	bool		good;

	if (value->type == jbvString)
		good = lh_avro_schema_add(schema, value->val.string.val, value->val.string.len, &error);
	else
		good = lh_avro_schema_add_value(schema, value, &error);
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is no Avro schema", SCHEMA_OPTION),
				 errdetail("%s.", error.message),
				 errhint("For example {\"type\": \"record\", \"name\": \"event\", \"fields\": [{\"name\": \"id\", \"type\": \"long\"}]}.")));
	if (!lh_avro_schema_has_members(schema))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is not the schema of a record", SCHEMA_OPTION),
				 errdetail("Columns are filled by the fields of a record, or by the entries of a map.")));
	return schema;
}

/*
 * given_schema returns the option, or NULL if values name their schemas.
 */
static JsonbValue *
given_schema(Jsonb *options)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, SCHEMA_OPTION,
													 strlen(SCHEMA_OPTION), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

static bool
avro_needs_registry(Jsonb *options)
{
	return given_schema(options) == NULL;
}

static LhDecoder *
avro_open(TupleDesc tupdesc, const bool *fillable, Jsonb *options, LhSchemaRegistry *registry,
		  LhFieldSink *sink)
{
	LhDecoder  *decoder = palloc0(sizeof(LhDecoder));
	JsonbValue *given = given_schema(options);

	if (given != NULL)
		decoder->schema = parse_option(given);
	else if (registry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("values in format \"avro\" need a schema"),
				 errdetail("The source has no option \"%s\", and its server names no schema registry.",
						   SCHEMA_OPTION),
				 errhint("Use ALTER SERVER name OPTIONS (ADD \"" LH_REGISTRY_URL "\" 'https://...') where values begin with the number of their schema, otherwise the option \"%s\".",
						 SCHEMA_OPTION)));
	decoder->registry = registry;
	decoder->convert = GetDatabaseEncoding() != PG_UTF8;
	lh_encoding_init(&decoder->encoding, PG_UTF8);
	initStringInfo(&decoder->json);
	decoder->document = lh_json_document_create(options, tupdesc, fillable, NULL, CurrentMemoryContext);
	decoder->sink = sink;
	return decoder;
}

static bool
avro_may_raise(const LhDecoder *decoder)
{
	return lh_json_document_may_raise(decoder->document);
}

static bool
avro_fill(LhDecoder *decoder, const char *value, Size length, Datum *values, bool *nulls,
		  LhError *error, const char **column)
{
	LhAvroSchema *schema = decoder->schema;
	const char *text;
	int			text_length;

	*column = NULL;
	if (schema == NULL)
	{
		schema = lh_schema_registry_find(decoder->registry, value, length, error);
		if (schema == NULL)
			return false;
		value += LH_REGISTRY_HEADER;
		length -= LH_REGISTRY_HEADER;
	}
	resetStringInfo(&decoder->json);
	if (!lh_avro_json_write(schema, value, length, (Size) lh_max_record_size * 1024,
							&decoder->json, error))
		return false;
	text = decoder->json.data;
	text_length = decoder->json.len;
	/* that it is UTF-8 was seen when it was written */
	if (decoder->convert &&
		!lh_encoding_convert(&decoder->encoding, text, text_length, &text, &text_length, error))
		return false;
	return lh_json_document_fill(decoder->document, text, text_length, decoder->sink, values, nulls,
								 error, column);
}

const LhDecoderRoutine lh_avro_decoder = {
	.format = "avro",
	.options = option_names,
	.needs_registry = avro_needs_registry,
	.open = avro_open,
	.may_raise = avro_may_raise,
	.fill = avro_fill
};
