/*
 * kafka_internal.h
 *	  What the files of the Kafka ingest share; nobody else includes it.
 */
#ifndef LH_KAFKA_INTERNAL_H
#define LH_KAFKA_INTERNAL_H

#include "utils/palloc.h"

#include "bronze/ingest.h"
#include "bronze/kafka_offset.h"
#include "bronze/kafka_share.h"
#include "source/kafka_bound.h"
#include "source/kafka_client.h"
#include "source/kafka_options.h"
#include "source/kafka_reader.h"
#include "source/schema_registry.h"

/* messages taken and written at once */
#define CHUNK 2000

/* looks without a record of a partition that has some before it is stopped */
#define LH_KAFKA_STALL_LIMIT 3

/* Messages that a batch has taken and cannot write yet; they stay in memory. */
typedef struct LhKafkaHeld
{
	int			count;			/* 0 = there are none */
	int64		bytes;
	LhKafkaSlot *before;		/* the slots before they were taken, and after: in
								 * the context of the batch */
	LhKafkaSlot *after;
} LhKafkaHeld;

/* Sizes of records in a sample, in bytes; kafka_ahead.c. */
typedef struct LhKafkaSizes
{
	int64		count;			/* of records */
	int64		values;
	int64		keys;
	int64		headers;
} LhKafkaSizes;

/* A source being read.  Lives in the context of its LhIngest. */
typedef struct LhKafkaIngest
{
	LhIngest	base;
	bool		continuous;
	LhKafkaOptions options;
	LhKafkaBound ending;		/* of a bounded run */
	LhKafka    *kafka;
	LhSchemaRegistry *registry; /* has schemas of values; NULL = none is needed */
	TimestampTz learning;		/* when asking for those of the messages began; 0 =
								 * all of them are known */
	LhKafkaHeld held;
	LhKafka    *twin;			/* of lh_kafka_prove; NULL until it is needed */
	LhShare		share;			/* as the slots were chosen */
	LhKafkaShare *shares;		/* who reads what; in slot_context */
	int			share_count;
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
	LhKafkaSizes sizes;
	TimestampTz ahead_set;		/* when the client was replaced for them */
	bool		again;			/* look again when what is in memory is written */
	bool		drained;		/* nothing read ahead was left, since the last look */
	bool		answered;		/* a broker gave something */
	bool		proved;			/* ... and a batch said so */
	bool		changed;		/* a slot is to be saved even without messages */
	LhError		trouble;		/* to be raised by the next batch */
	TimestampTz emptied;		/* when all that was fetched had been taken */
	bool		suspect;		/* what was taken is to be proved */
	int64		sure;			/* events that are here and need no proof */
	TimestampTz prove_after;	/* no proof before */
	bool		replaced;		/* another topic has the name, by its id */
	List	   *strangers;		/* see kafka_prove.c; in base.context */
	List	   *losses;			/* LhKafkaLoss, to be saved; in slot_context */
	TimestampTz published;		/* when the group was last told positions */
	char	   *publish_error;	/* why it could not be told, or NULL; as saved
								 * unless "changed" */
	bool		publish_changed;
} LhKafkaIngest;

/* the properties of the source's connections, in the current context */
extern List *lh_kafka_client_properties(const LhKafkaIngest *ingest);

/* turns silence or a lost connection into ingest->trouble */
extern void lh_kafka_check_connection(LhKafkaIngest *ingest, TimestampTz now);

/*
 * lh_kafka_look learns partitions and ranges from the cluster and starts what
 * is not running.
 */
extern void lh_kafka_look(LhKafkaIngest *ingest);

/* does another worker read the source, too?  is the partition this worker's? */
extern bool lh_kafka_is_shared(const LhKafkaIngest *ingest);
extern bool lh_kafka_owns(const LhKafkaIngest *ingest, const char *topic, int32 partition);

/* stops one partition with a reason, which is news once */
extern void lh_kafka_slot_stop(LhKafkaIngest *ingest, LhKafkaSlot *slot, int sqlstate,
							   const char *format,...) pg_attribute_printf(4, 5);

/*
 * lh_kafka_slot_lose does with a partition whose next records are not there what
 * the source's policy says: records [first,next) are lost, and reading could go
 * on at "resumed".
 */
extern void lh_kafka_slot_lose(LhKafkaIngest *ingest, LhKafkaSlot *slot, const char *reason,
							   int64 first, int64 next, int64 resumed,
							   const char *format,...) pg_attribute_printf(7, 8);
extern void lh_kafka_slot_is_well(LhKafkaIngest *ingest, LhKafkaSlot *slot);
extern void lh_kafka_slot_count_stall(LhKafkaIngest *ingest, LhKafkaSlot *slot);

extern void lh_kafka_guard_messages(LhKafkaIngest *ingest);

/* stops all partitions; what was read ahead is gone */
extern void lh_kafka_stop_reading(LhKafkaIngest *ingest);

/* how many records are read ahead, kafka_ahead.c */
extern int64 lh_kafka_measure(LhKafkaIngest *ingest, const LhKafkaMessage *messages, int count);
extern bool lh_kafka_ahead_fits(const LhKafkaIngest *ingest);
extern void lh_kafka_ahead_fit(LhKafkaIngest *ingest);

/*
 * Whether topics are still those that were read, kafka_prove.c.  What came after
 * a gap, and whatever lh_kafka_suspects tells, is proved before it is committed, and
 * outside of the transaction that does so.
 */
extern void lh_kafka_note_taken(LhKafkaIngest *ingest, int count);
extern bool lh_kafka_suspects(LhKafkaIngest *ingest);
extern int	lh_kafka_may_take(LhKafkaIngest *ingest);
extern bool lh_kafka_went_back(LhKafkaIngest *ingest, const LhKafkaMessage *events, int count);
extern bool lh_kafka_prove(LhKafkaIngest *ingest);
extern void lh_kafka_compare_ids(LhKafkaIngest *ingest, const char *topic, int timeout_ms);
extern void lh_kafka_apply_strangers(LhKafkaIngest *ingest);

/*
 * Schemas of values, kafka_schemas.c.  Learn asks for those of the messages in
 * memory, outside of a worker's transaction; false if it should be called again.
 * Known tells whether all of them can be judged.  Within a transaction, what is
 * taken after "mark" is held back by "hold" if not, until "resume".
 */
extern void lh_kafka_schemas_open(LhKafkaIngest *ingest);
extern bool lh_kafka_schemas_learn(LhKafkaIngest *ingest);
extern bool lh_kafka_schemas_known(const LhKafkaIngest *ingest);
extern void lh_kafka_schemas_mark(LhKafkaIngest *ingest);
extern void lh_kafka_schemas_hold(LhKafkaIngest *ingest);
extern void lh_kafka_schemas_resume(LhKafkaIngest *ingest);

/* tells the group the saved positions, now and then, and hears of its answer */
extern void lh_kafka_publish_positions(LhKafkaIngest *ingest, bool closing);

#endif							/* LH_KAFKA_INTERNAL_H */
