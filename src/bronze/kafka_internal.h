/*
 * kafka_internal.h
 *	  What the files of the Kafka ingest share; nobody else includes it.
 */
#ifndef LH_KAFKA_INTERNAL_H
#define LH_KAFKA_INTERNAL_H

#include "utils/palloc.h"

#include "bronze/ingest.h"
#include "bronze/kafka_offset.h"
#include "source/kafka_client.h"
#include "source/kafka_reader.h"

/* messages taken and written at once */
#define CHUNK 2000

/* A source being read.  Lives in the context of its LhIngest. */
typedef struct LhKafkaIngest
{
	LhIngest	base;
	bool		continuous;
	LhKafka    *kafka;
	MemoryContext slot_context;
	LhKafkaSlot *slots;
	LhKafkaPlace *places;		/* the reader's view of slots */
	int			count;
	bool		reload;			/* slots are in doubt: read them again */
	bool		reading;		/* false = look at the cluster, start afresh */
	TimestampTz looked;			/* when */
	TimestampTz heard;			/* last event of any partition */
	LhKafkaMessage messages[CHUNK];
	int			message_count;
	int64		message_bytes;
	TimestampTz first_message;	/* when the oldest of them came */
	bool		changed;		/* a slot is to be saved even without messages */
	LhError		trouble;		/* to be raised by the next batch */
	MemoryContextCallback callback;
} LhKafkaIngest;

/*
 * lh_kafka_look learns partitions and ranges from the cluster and starts what
 * is not running.
 */
extern void lh_kafka_look(LhKafkaIngest *ingest);

/* stops one partition with a reason, which is news once */
extern void lh_kafka_slot_stop(LhKafkaIngest *ingest, LhKafkaSlot *slot, int sqlstate,
							   const char *format,...) pg_attribute_printf(4, 5);
extern void lh_kafka_slot_is_well(LhKafkaIngest *ingest, LhKafkaSlot *slot);
extern void lh_kafka_slot_count_stall(LhKafkaIngest *ingest, LhKafkaSlot *slot);

#endif							/* LH_KAFKA_INTERNAL_H */
