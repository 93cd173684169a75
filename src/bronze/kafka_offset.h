/*
 * kafka_offset.h
 *	  Positions of a Kafka source: rows of lakehouse.kafka_offset.
 */
#ifndef LH_KAFKA_OFFSET_H
#define LH_KAFKA_OFFSET_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "error.h"
#include "nodes/pg_list.h"
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
	int64		last_epoch;		/* epoch of its leader, -1 = unknown */
	int64		epoch;			/* that of the last record taken, -1 = unknown */
	char		topic_id[LH_KAFKA_ID_SIZE]; /* "" = unknown */
	char		other_id[LH_KAFKA_ID_SIZE]; /* of the topic that has its name now,
											 * if that is another one; else "" */
	int64		anchor_offset;	/* record that was there at the last proof, -1 =
								 * none */
	int64		anchor_timestamp;
	int64		anchor_hash;
	int64		proved;			/* next at that time */
	int64		top;			/* range of offsets as the broker told it last, */
	int64		bottom;			/* -1 = not yet */
	int64		target;			/* where this run ends (available_now), -1 =
								 * not known yet */
	int64		limit;			/* never to be read from here on, -1 = no limit */
	int64		high;			/* end with open transactions, -1 = unknown */
	int64		records;		/* taken since the position was saved */
	int64		bytes;			/* of these */
	int64		rejected;		/* of these */
	int64		published;		/* position that the group was told, -1 = none */
	TimestampTz heard;			/* last record or end of partition, 0 = never */
	bool		running;		/* the client reads it */
	bool		stopped;		/* is not to be read until the next look */
	bool		held;			/* ... nor then: a person must move it */
	bool		foreign;		/* its last record is not the one that was loaded */
	bool		late;			/* ... which was found after later ones were loaded */
	bool		proving;		/* its anchor is being read once more */
	bool		proving_last;	/* ... or its last record instead */
	bool		at_end;			/* nothing was left to read when last heard */
	bool		absent;			/* its topic cannot be asked */
	bool		verify;			/* the next record should be last_offset's */
	bool		news;			/* ... and nobody was told yet */
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

/*
 * lh_kafka_offset_lock locks the rows of a source, or only those of the slots if
 * others read it, too, and makes rows for partitions that have none; false if
 * they are not as the slots say.
 */
extern bool lh_kafka_offset_lock(int32 source_id, LhKafkaSlot *slots, int count, bool shared);

/* adds to slots how many records of the load were rejected */
extern void lh_kafka_offset_count_rejects(int32 source_id, int64 load_id,
										  LhKafkaSlot *slots, int count);

/* writes the slots whose position moved or that are marked as changed */
extern void lh_kafka_offset_save(int32 source_id, LhKafkaSlot *slots, int count);

/* A range of offsets that was not read because it was not there any more. */
typedef struct LhKafkaLoss
{
	const char *topic;
	int32		partition;
	int64		first;
	int64		next;
	int64		resumed;		/* where reading goes on */
	const char *reason;			/* retention, shortened or recreated */
} LhKafkaLoss;

/* writes a list of LhKafkaLoss */
extern void lh_kafka_offset_save_losses(int32 source_id, List *losses);

/* writes why the group could not be told positions; NULL = it could */
extern void lh_kafka_offset_save_publish_error(int32 source_id, const char *error);

/* "offsets" of a load: {"topic": {"partition": [first, next]}} */
extern char *lh_kafka_offset_json(const LhKafkaSlot *slots, int count);

/* what last_hash holds */
extern int64 lh_kafka_offset_hash(const LhKafkaMessage *message);

#endif							/* LH_KAFKA_OFFSET_H */
