/*
 * kafka_offset.h
 *	  Positions of a Kafka source: rows of lakehouse.kafka_offset.
 */
#ifndef LH_KAFKA_OFFSET_H
#define LH_KAFKA_OFFSET_H

#include "postgres.h"

#include "error.h"
#include "source/kafka_client.h"

/* One partition. */
typedef struct LhKafkaSlot
{
	const char *topic;
	int32		partition;
	int64		saved;			/* next_offset of its row; -1 = has no row */
	int64		next;			/* next offset to take from the client; -1 =
								 * not known yet */
	int64		low;			/* oldest offset of the broker, -1 = unknown */
	int64		end;			/* end of the partition, -1 = unknown */
	int64		last_offset;	/* last record taken, -1 = none */
	int64		last_timestamp;
	int64		last_hash;
	int64		target;			/* where this run ends (available_now), -1 =
								 * not known yet */
	int64		records;		/* taken since the position was saved */
	int64		rejected;		/* of these */
	bool		running;		/* the client reads it */
	bool		stopped;		/* is not to be read until the next look */
	bool		absent;			/* its topic cannot be asked */
	bool		verify;			/* the next record should be last_offset's */
	bool		changed;		/* more than the position is to be saved */
	int			alarms;			/* times that a good offset was refused */
	int			stalls;			/* looks at the cluster without a record */
	int64		seen;			/* next at the last look */
	int			chunk;			/* last chunk that held a record of it */
	LhError		error;			/* why it is or was stopped, until a record
								 * proves that it is well; sqlstate 0 = none */
} LhKafkaSlot;

/* reads the rows of a source into the current context */
extern int	lh_kafka_offset_read(int32 source_id, LhKafkaSlot **slots);

/* locks the rows; false if they are not as the slots say */
extern bool lh_kafka_offset_lock(int32 source_id, const LhKafkaSlot *slots, int count);

/* adds to slots how many records of the load were rejected */
extern void lh_kafka_offset_count_rejects(int32 source_id, int64 load_id,
										  LhKafkaSlot *slots, int count);

/* writes the slots whose position moved or that are marked as changed */
extern void lh_kafka_offset_save(int32 source_id, LhKafkaSlot *slots, int count);

/* "offsets" of a load: {"topic": {"partition": [first, next]}} */
extern char *lh_kafka_offset_json(const LhKafkaSlot *slots, int count);

/* what last_hash holds */
extern int64 lh_kafka_offset_hash(const LhKafkaMessage *message);

#endif							/* LH_KAFKA_OFFSET_H */
