/*
 * kafka.h
 *	  What the definition of a Kafka source needs of Kafka.
 */
#ifndef LH_KAFKA_H
#define LH_KAFKA_H

#include "utils/jsonb.h"

struct LhSource;

/*
 * lh_kafka_source_validate checks topics and the options of a Kafka source that
 * do not depend on its target, and returns the options under their own names.
 * Reaches no broker.  Raises 22023, 2201B.
 */
extern Jsonb *lh_kafka_source_validate(char **topics, Jsonb *options, bool continuous);

/*
 * lh_kafka_source_prepare resolves where the source starts and writes one row
 * for each partition into lakehouse.kafka_offset, in the caller's transaction,
 * as the source's owner (whose USAGE of the server and user mapping count).
 * "source" need not be visible in lakehouse.source.  With old_options, those of
 * the definition that was there before, topics that have rows keep their
 * positions and partitions that are no longer read lose their rows.  Raises
 * 08001 if no broker answers within 10 s, 42704 for a topic that the cluster
 * does not know.
 */
extern void lh_kafka_source_prepare(const struct LhSource *source, const char *old_options);

#endif							/* LH_KAFKA_H */
