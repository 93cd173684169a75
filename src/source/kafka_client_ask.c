/*
 * kafka_client_ask.c
 *	  Questions to the Kafka cluster: which topics, partitions and offsets it has.
 *
 * Invariant: every question ends in bounded time with an answer or a reason, and
 * a cancel is noticed within SLICE_LIMIT_MS.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "source/kafka_client_internal.h"

/* the longest single wait in librdkafka, hence the answer to a cancel */
#define SLICE_LIMIT_MS 500

/*
 * remaining_slice returns how long the next wait in librdkafka may take: slices
 * grow, because an answer that comes after its slice is lost.
 */
static int
remaining_slice(TimestampTz deadline, int *slice)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	CHECK_FOR_INTERRUPTS();
	*slice = Min(*slice * 2, SLICE_LIMIT_MS);
	return (int) Min(left, (long) *slice);
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

	while ((wait = remaining_slice(deadline, &slice)) > 0)
	{
		const struct rd_kafka_metadata *metadata;
		rd_kafka_resp_err_t err = rd_kafka_metadata(kafka->rk, all, topic, &metadata, wait);

		rd_kafka_poll(kafka->rk, 0);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			lh_kafka_heard(kafka);
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
 * ask_offsets asks once and returns how many questions were answered; *worst
 * is the error of one that was not.
 */
static int
ask_offsets(LhKafka *kafka, LhKafkaQuestion *questions, int count, int wait,
			rd_kafka_resp_err_t *worst)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
	rd_kafka_resp_err_t err;
	int			answered = 0;

	for (int i = 0; i < count; i++)
	{
		if (questions[i].unanswered)
			rd_kafka_topic_partition_list_add(list, questions[i].topic,
											  questions[i].partition)->offset = questions[i].offset;
	}
	err = rd_kafka_offsets_for_times(kafka->rk, list, wait);
	rd_kafka_poll(kafka->rk, 0);
	for (int i = 0, l = 0; i < count; i++)
	{
		rd_kafka_topic_partition_t *answer;

		if (!questions[i].unanswered)
			continue;
		answer = &list->elems[l++];
		/* the list's own error means that some were not reached in time */
		if (answer->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			*worst = answer->err;
		else if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			questions[i].offset = answer->offset;
			questions[i].unanswered = false;
			answered++;
		}
	}
	rd_kafka_topic_partition_list_destroy(list);
	return answered;
}

/*
 * lh_kafka_offsets asks for many offsets at once; see the header.
 */
bool
lh_kafka_offsets(LhKafka *kafka, LhKafkaQuestion *questions, int count,
				 int timeout_ms, LhError *error)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	rd_kafka_resp_err_t worst = RD_KAFKA_RESP_ERR_NO_ERROR;
	int			answered = 0;
	int			slice = 100;
	int			wait;

	error->sqlstate = 0;
	for (int i = 0; i < count; i++)
		questions[i].unanswered = true;
	while (answered < count && !kafka->refused && (wait = remaining_slice(deadline, &slice)) > 0)
	{
		answered += ask_offsets(kafka, questions, count, wait, &worst);
		if (answered < count)
			pg_usleep(20000L);
	}
	if (answered > 0)
		lh_kafka_heard(kafka);
	if (answered == count)
		return true;
	if (worst != RD_KAFKA_RESP_ERR_NO_ERROR)
		lh_kafka_topic_error(worst, error);
	else
		lh_kafka_connection_error(kafka, error);
	return answered > 0;
}
