/*
 * kafka_client_ask.c
 *	  Questions to the Kafka cluster: which topics, partitions and offsets it has.
 *
 * Invariant: every question ends in bounded time with an answer or a reason, and
 * a cancel is noticed within SLICE_LIMIT_MS.
 */
#include "postgres.h"

#include "miscadmin.h"
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
 * lh_kafka_partitions asks the cluster for a topic; see the header.
 */
int
lh_kafka_partitions(LhKafka *kafka, const char *name, int timeout_ms, LhError *error)
{
	LhKafkaTopic	   *topic = lh_kafka_find_topic(kafka, name);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	int			slice = 50;
	int			wait;

	error->sqlstate = 0;
	while ((wait = remaining_slice(deadline, &slice)) > 0)
	{
		const struct rd_kafka_metadata *metadata;
		rd_kafka_resp_err_t err = rd_kafka_metadata(kafka->rk, 0, topic->rkt, &metadata, wait);
		int			count = 0;

		rd_kafka_poll(kafka->rk, 0);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (kafka->refused)
				break;
			continue;
		}
		lh_kafka_heard(kafka);
		if (metadata->topic_cnt > 0)
		{
			err = metadata->topics[0].err;
			count = metadata->topics[0].partition_cnt;
		}
		else
			err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		rd_kafka_metadata_destroy(metadata);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return count;
		lh_kafka_topic_error(err, error);
		if (err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
			return -1;
		pg_usleep(20000L);
	}
	if (error->sqlstate == 0)
		lh_kafka_connection_error(kafka, error);
	return -1;
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
