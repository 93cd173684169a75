/*
 * kafka_decode.h
 *	  Messages to rows of a bronze table: parts, decoded fields, rescued data.
 */
#ifndef LH_KAFKA_DECODE_H
#define LH_KAFKA_DECODE_H

#include "bronze/file_schema.h"
#include "source/kafka_reader.h"

/*
 * lh_kafka_decode_open makes the reader for a source with these options.
 * registry (or NULL) has the schemas of its server; fillable (NULL = all) tells
 * which columns a source may fill.  *schema is NULL where values are not decoded;
 * otherwise records must be wrapped by lh_file_schema_wrap.  Lives in the current
 * context.  Raises as lh_kafka_reader_open and lh_file_schema_parse do, and 0A000.
 */
extern LhKafkaReader *lh_kafka_decode_open(Jsonb *options, LhSchemaRegistry *registry,
										   TupleDesc tupdesc, const bool *fillable,
										   LhFileSchema **schema);

/*
 * lh_kafka_decode_registry opens the schema registry of a server if values of a
 * source with these options need one; NULL if they do not, or the server has none.
 */
extern LhSchemaRegistry *lh_kafka_decode_registry(Jsonb *options, Oid server, Oid role);

#endif							/* LH_KAFKA_DECODE_H */
