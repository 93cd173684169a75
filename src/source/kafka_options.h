/*
 * kafka_options.h
 *	  Options of a Kafka source: what it reads, and how.
 */
#ifndef LH_KAFKA_OPTIONS_H
#define LH_KAFKA_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "source/kafka_client.h"

/* what becomes of a partition whose next records are not there any more */
typedef enum LhOnDataLoss
{
	LH_ON_DATA_LOSS_STOP,		/* until a person moves the position */
	LH_ON_DATA_LOSS_SKIP,		/* the range is recorded and reading goes on */
	LH_ON_DATA_LOSS_WAIT		/* until the records are there again */
} LhOnDataLoss;

/* Some partitions of one topic. */
typedef struct LhKafkaAssigned
{
	char	   *topic;
	int			count;
	int32	   *partitions;
} LhKafkaAssigned;

/* What a source reads: exactly one of topics, pattern and assigned. */
typedef struct LhKafkaSubscription
{
	char	  **topics;			/* NULL-terminated; also those of "assigned" */
	Datum		pattern;		/* text; 0 = none */
	LhKafkaAssigned *assigned;	/* NULL = all partitions */
} LhKafkaSubscription;

typedef struct LhKafkaOptions
{
	LhKafkaSubscription subscription;
	LhOnDataLoss on_data_loss;
	int			min_batch_rows; /* records that wait make a batch; 0 = any number */
	int			linger_ms;		/* ... after this long; these three: -1 = as the
								 * setting says */
	int			batch_rows;
	int			batch_bytes;	/* kB */
	int			workers;
	char	   *publish_group;	/* consumer group that is told positions, or NULL */
} LhKafkaOptions;

/* names of the options as they are stored, for messages */
extern const char *const lh_kafka_option_names[];

/* the options under their own names and in their own form, however they were
 * spelt; raises 22023, and 22P02 for text that should hold JSON */
extern Jsonb *lh_kafka_options_canonical(Jsonb *options);

/*
 * lh_kafka_options_parse reads options that are canonical; the result lives in
 * the current context.  Raises 22023 (a value, or not exactly one of topics,
 * topic_pattern and partitions), 2201B (pattern).
 */
extern void lh_kafka_options_parse(char **topics, Jsonb *options, LhKafkaOptions *result);

/* does the source read the topic, the partition?  Reaches no broker */
extern bool lh_kafka_reads_topic(const LhKafkaSubscription *subscription, const char *topic);
extern bool lh_kafka_reads(const LhKafkaSubscription *subscription, const char *topic, int32 partition);

/*
 * lh_kafka_topics_of gives the topics that are named, or those of the cluster
 * that match the pattern, in the current context; NULL with *error as
 * lh_kafka_partitions gives it.
 */
extern char **lh_kafka_topics_of(const LhKafkaSubscription *subscription, LhKafka *kafka,
								 int timeout_ms, LhError *error);

#endif							/* LH_KAFKA_OPTIONS_H */
