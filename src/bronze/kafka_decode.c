/*
 * kafka_decode.c
 *	  Messages to rows of a bronze table: parts, decoded fields, rescued data.
 *
 * What is decoded goes together with columns as the fields of files do, by the
 * same code and options.  Columns are not added: a batch of messages cannot be
 * read twice as a file can.
 */
#include "postgres.h"

#include "bronze/kafka_decode.h"
#include "catalog/options.h"
#include "source/decoder.h"

static void
check_mode(Jsonb *options)
{
	char	   *mode = lh_options_text(options, "schema_evolution_mode", "none");

	if (strcmp(mode, "addNewColumns") == 0 || strcmp(mode, "failOnNewColumns") == 0 ||
		strcmp(mode, "addNewColumnsWithTypeWidening") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("schema evolution mode \"%s\" is for files only", mode),
				 errhint("Use \"rescue\" with a column \"%s\" of type jsonb: fields without a column are kept there.",
						 LH_RESCUED_COLUMN)));
}

LhKafkaReader *
lh_kafka_decode_open(Jsonb *options, LhSchemaRegistry *registry, TupleDesc tupdesc,
					 const bool *fillable, LhFileSchema **schema)
{
	bool	   *left = palloc(sizeof(bool) * (tupdesc->natts + 1));
	LhFieldSink *sink = NULL;

	for (int i = 0; i < tupdesc->natts; i++)
		left[i] = fillable == NULL || fillable[i];
	*schema = NULL;
	if (lh_decoder_find(options) != NULL)
	{
		check_mode(options);
		*schema = lh_file_schema_parse(options, tupdesc, left);
		sink = lh_file_schema_begin(*schema, "");
	}
	return lh_kafka_reader_open(tupdesc, left, options, registry, sink);
}

LhSchemaRegistry *
lh_kafka_decode_registry(Jsonb *options, Oid server, Oid role)
{
	const LhDecoderRoutine *decoder = lh_decoder_find(options);

	if (decoder == NULL || decoder->needs_registry == NULL || !decoder->needs_registry(options))
		return NULL;
	return lh_schema_registry_open(server, role, CurrentMemoryContext);
}
