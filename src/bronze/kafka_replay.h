/*
 * kafka_replay.h
 *	  Kept rejects of a Kafka source as messages again.
 */
#ifndef LH_KAFKA_REPLAY_H
#define LH_KAFKA_REPLAY_H

#include "bronze/file_schema.h"
#include "bronze/ingest.h"
#include "bronze/writer.h"
#include "source/record.h"

typedef struct LhKafkaReplay LhKafkaReplay;

/*
 * Makes the reader for the source as it is defined now, and tells the writer
 * whether it may raise; raises as lh_kafka_decode_open does, which also says what
 * *schema is.  Lives in the current context.
 */
extern LhKafkaReplay *lh_kafka_replay_open(const LhSource *source, LhWriter *writer,
										   LhFileSchema **schema);

/* the message of a reject as one record for the writer; valid until the next call */
extern const LhRecords *lh_kafka_replay_read(LhKafkaReplay *replay, int64 reject_id, int64 *bytes);

/* counts records that a replay has resolved as rows of their partitions */
extern void lh_kafka_replay_count(int32 source_id, Datum reject_ids);

#endif							/* LH_KAFKA_REPLAY_H */
