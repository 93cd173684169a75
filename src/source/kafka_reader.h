/*
 * kafka_reader.h
 *	  Kafka messages as records of a bronze table.
 */
#ifndef LH_KAFKA_READER_H
#define LH_KAFKA_READER_H

#include "access/tupdesc.h"
#include "utils/jsonb.h"

#include "source/field_sink.h"
#include "source/kafka_client.h"
#include "source/record.h"
#include "source/schema_registry.h"

typedef struct LhKafkaReader LhKafkaReader;

/* names of a partition; index = slot of the messages */
typedef struct LhKafkaPlace
{
	const char *topic;
	int32		partition;
} LhKafkaPlace;

/*
 * lh_kafka_reader_open decides which column takes which part of a message: a
 * column is filled by the part of its name, unless the option "columns" says
 * otherwise.  With the option "value_format" the other columns are filled by
 * the fields of the decoded value, by schemas of "registry" (or NULL) where it
 * needs some, and "sink" (or NULL) is told of fields that find no column.  fillable (NULL = all) tells which columns a source may fill.
 * Lives in the current context.  Raises 22023, 42703 (no such column or part, or
 * no column for the value), 42804 (type that cannot hold the part), 42P10.
 */
extern LhKafkaReader *lh_kafka_reader_open(TupleDesc tupdesc, const bool *fillable,
										   Jsonb *options, LhSchemaRegistry *registry,
										   LhFieldSink *sink);

/* can the conversion to any column raise? */
extern bool lh_kafka_reader_may_raise(const LhKafkaReader *reader);

/* the messages as records; they and places stay the caller's */
extern void lh_kafka_reader_records(LhKafkaReader *reader, const LhKafkaMessage *messages,
									int count, const LhKafkaPlace *places,
									LhRecords *records);

#endif							/* LH_KAFKA_READER_H */
