/*
 * kafka_bound.h
 *	  Where reading of a Kafka source starts or ends: offsets, times, or an end
 *	  of the partition.
 */
#ifndef LH_KAFKA_BOUND_H
#define LH_KAFKA_BOUND_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "source/kafka_client.h"

/* a partition that an object does not name keeps its position */
#define LH_KAFKA_KEEP INT64CONST(-3)

typedef struct LhKafkaBound
{
	bool		ending;			/* else starting */
	bool		given;			/* an option says it */
	int64		everywhere;		/* LH_KAFKA_BEGINNING, LH_KAFKA_END, or a time
								 * in milliseconds */
	JsonbContainer *offsets;	/* {"topic": {"partition": offset}}, or NULL */
	JsonbContainer *times;		/* the same with times, or NULL */
	int64		unnamed;		/* for partitions that these do not name */
	bool		strict;			/* a time behind the last record is an error */
} LhKafkaBound;

/* Where one partition stands. */
typedef struct LhKafkaPosition
{
	int32		partition;
	int64		wanted;			/* what the bound says, resolved */
	int64		low;			/* oldest offset of the broker */
	int64		end;
} LhKafkaPosition;

/*
 * lh_kafka_bound_parse reads starting_timestamp, starting_offsets_by_timestamp
 * and starting_offsets (the first that is given counts), or those of the end.
 * The result refers to "options".  Raises 22023.
 */
extern void lh_kafka_bound_parse(Jsonb *options, bool ending, LhKafkaBound *bound);

/* raises 22023 if the bound names a partition that is not read */
struct LhKafkaSubscription;
extern void lh_kafka_bound_check(const LhKafkaBound *bound,
								 const struct LhKafkaSubscription *subscription);

/*
 * lh_kafka_bound_question tells what to ask the broker for one partition: *wanted
 * is an offset, LH_KAFKA_BEGINNING, LH_KAFKA_END or LH_KAFKA_KEEP, or, if the
 * result is true, a time in milliseconds.
 */
extern bool lh_kafka_bound_question(const LhKafkaBound *bound, const char *topic,
									int32 partition, int64 *wanted);

/* does the bound give a position to any partition of the topic? */
extern bool lh_kafka_bound_moves(const LhKafkaBound *bound, const char *topic);

/*
 * lh_kafka_bound_resolve fills the positions of a topic's partitions.  Raises
 * 08001, 42704 (also for a partition that is not there), 22023 (an offset that the broker does not have, or a time behind
 * the last record where the bound is strict).
 */
extern void lh_kafka_bound_resolve(const LhKafkaBound *bound, LhKafka *kafka, const char *topic,
								   LhKafkaPosition *positions, int count);

/* raises what the client reported about a topic */
extern void lh_kafka_raise(const LhError *error, const char *topic) pg_attribute_noreturn();

#endif							/* LH_KAFKA_BOUND_H */
