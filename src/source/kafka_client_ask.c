/*
 * kafka_client_ask.c
 *	  Questions to the Kafka cluster: which topics and partitions it has.
 *
 * Invariant: every question ends in bounded time with an answer or a reason, and
 * a cancel is noticed within SLICE_LIMIT_MS.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "source/kafka_client_internal.h"

/* the longest single wait in librdkafka, hence the answer to a cancel; and the
 * longest round trip with which there is an answer */
#define SLICE_LIMIT_MS 2500

/*
 * lh_kafka_slice returns how long the next wait in librdkafka may take, 0 when the
 * time is over: slices grow, because an answer that comes after its slice is lost.
 */
int
lh_kafka_slice(TimestampTz deadline, int *slice)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	CHECK_FOR_INTERRUPTS();
	*slice = Min(*slice * 3, SLICE_LIMIT_MS);
	return (int) Min(left, (long) *slice);
}

/*
 * note_broker remembers a broker that is there: the one that gave the answer, or
 * one that it names, for those of "bootstrap.servers" have no number.
 */
static void
note_broker(LhKafka *kafka, const struct rd_kafka_metadata *metadata)
{
	if (metadata->orig_broker_id >= 0)
		kafka->answered_by = metadata->orig_broker_id;
	else if (metadata->broker_cnt > 0)
		kafka->answered_by = metadata->brokers[0].id;
}

/*
 * ask_metadata asks for one topic, for all (all = true) or for those that the
 * client knows (topic = NULL); NULL with *error if nobody answers in time.  The
 * caller releases the answer.
 */
static const struct rd_kafka_metadata *
ask_metadata(LhKafka *kafka, bool all, rd_kafka_topic_t *topic, TimestampTz deadline, LhError *error)
{
	int			slice = 50;
	int			wait;

	while ((wait = lh_kafka_slice(deadline, &slice)) > 0)
	{
		const struct rd_kafka_metadata *metadata;
		rd_kafka_resp_err_t err = rd_kafka_metadata(kafka->rk, all, topic, &metadata, wait);

		rd_kafka_poll(kafka->rk, 0);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			lh_kafka_heard(kafka);
			note_broker(kafka, metadata);
			return metadata;
		}
		if (kafka->refused)
			break;
	}
	lh_kafka_connection_error(kafka, error);
	return NULL;
}

/*
 * lh_kafka_partitions asks the cluster for a topic; see the header.
 */
int
lh_kafka_partitions(LhKafka *kafka, const char *name, int timeout_ms, LhError *error)
{
	LhKafkaTopic *topic = lh_kafka_find_topic(kafka, name);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	error->sqlstate = 0;
	for (;;)
	{
		const struct rd_kafka_metadata *metadata = ask_metadata(kafka, false, topic->rkt, deadline, error);
		rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		int			count = 0;

		if (metadata == NULL)
			return -1;
		if (metadata->topic_cnt > 0)
		{
			err = metadata->topics[0].err;
			count = metadata->topics[0].partition_cnt;
		}
		rd_kafka_metadata_destroy(metadata);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return count;
		lh_kafka_topic_error(err, error);
		if (err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE || GetCurrentTimestamp() >= deadline)
			return -1;
		pg_usleep(20000L);
	}
}

/*
 * lh_kafka_topics lists the topics of the cluster; see the header.
 */
char **
lh_kafka_topics(LhKafka *kafka, int timeout_ms, LhError *error)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	const struct rd_kafka_metadata *metadata = ask_metadata(kafka, true, NULL, deadline, error);
	Size		size = 0;
	int			count = 0;
	char	  **names;
	char	   *copy;

	if (metadata == NULL)
		return NULL;
	for (int t = 0; t < metadata->topic_cnt; t++)
		size += strlen(metadata->topics[t].topic) + 1;
	/* nothing may raise while the answer is held */
	names = palloc_extended(sizeof(char *) * (metadata->topic_cnt + 1) + size,
							MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (names == NULL)
	{
		rd_kafka_metadata_destroy(metadata);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	copy = (char *) &names[metadata->topic_cnt + 1];
	for (int t = 0; t < metadata->topic_cnt; t++)
	{
		const struct rd_kafka_metadata_topic *topic = &metadata->topics[t];

		if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR && topic->err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
			continue;
		names[count++] = strcpy(copy, topic->topic);
		copy += strlen(copy) + 1;
	}
	names[count] = NULL;
	rd_kafka_metadata_destroy(metadata);
	return names;
}

bool
lh_kafka_ping(LhKafka *kafka, int timeout_ms, LhError *error)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	const struct rd_kafka_metadata *metadata = ask_metadata(kafka, false, NULL, deadline, error);

	if (metadata == NULL)
		return false;
	rd_kafka_metadata_destroy(metadata);
	return true;
}

/*
 * lh_kafka_learn_leaders asks anew who leads the partitions of the topics that the
 * client knows; false if no broker answers in time.
 */
bool
lh_kafka_learn_leaders(LhKafka *kafka, TimestampTz deadline)
{
	LhError		error;
	const struct rd_kafka_metadata *metadata = ask_metadata(kafka, false, NULL, deadline, &error);

	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	return metadata != NULL;
}
