/*
 * kafka_share.h
 *	  Which worker of a Kafka source reads which partition.
 */
#ifndef LH_KAFKA_SHARE_H
#define LH_KAFKA_SHARE_H

#include "postgres.h"

/* One row of lakehouse.kafka_share. */
typedef struct LhKafkaShare
{
	const char *topic;
	int32		partition;
	int			worker;
} LhKafkaShare;

/* reads the rows of a source, ordered, into the current context */
extern int	lh_kafka_share_read(int32 source_id, LhKafkaShare **shares);

/*
 * lh_kafka_share_owner gives the number of the worker that reads a partition:
 * the one it was given to, if that is alive (a bit of "alive" each), else one
 * that follows from the name of the topic and the number of the partition.
 */
extern int	lh_kafka_share_owner(const LhKafkaShare *shares, int count, uint64 alive,
								 const char *topic, int32 partition);

/*
 * lh_kafka_share_divide gives partitions to other workers where that helps;
 * true if a partition has another worker now.  In a transaction of the
 * scheduler's; waits for no lock of a worker.
 */
extern bool lh_kafka_share_divide(int32 source_id, uint64 alive);

#endif							/* LH_KAFKA_SHARE_H */
