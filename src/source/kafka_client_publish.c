/*
 * kafka_client_publish.c
 *	  Positions committed to a consumer group of the cluster.
 *
 * Invariant: never waited for but at the end of a client, and there not for long.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "source/kafka_client_internal.h"

/*
 * lh_kafka_on_publish is called by librdkafka with the cluster's answer, in our
 * thread, inside rd_kafka_poll.
 */
void
lh_kafka_on_publish(rd_kafka_t *rk, rd_kafka_resp_err_t err,
					rd_kafka_topic_partition_list_t *positions, void *opaque)
{
	LhKafka    *kafka = opaque;

	for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && positions != NULL && i < positions->cnt; i++)
		err = positions->elems[i].err;
	if (err == RD_KAFKA_RESP_ERR__NO_OFFSET)
		return;
	/* the cluster told why there is no coordinator once, before this */
	if (err == RD_KAFKA_RESP_ERR__WAIT_COORD && kafka->publish_error != RD_KAFKA_RESP_ERR_NO_ERROR)
		err = kafka->publish_error;
	kafka->publish_error = err;
	kafka->publish_answered = true;
}

/*
 * lh_kafka_publish sends positions to the client's group; see the header.
 */
void
lh_kafka_publish(LhKafka *kafka, const LhKafkaQuestion *positions, int count, int wait_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
	TimestampTz deadline;
	rd_kafka_resp_err_t err;

	for (int i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, positions[i].topic, positions[i].partition)->offset =
			positions[i].offset;
	kafka->publish_answered = false;
	err = rd_kafka_commit(kafka->rk, list, 1);
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		lh_kafka_on_publish(kafka->rk, err, NULL, kafka);
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
	while (!kafka->publish_answered && GetCurrentTimestamp() < deadline)
		rd_kafka_poll(kafka->rk, 10);
}

/*
 * hear_coordinator takes what librdkafka tells about the group itself, which is
 * all that its own queue ever holds here: nothing is read as a group.  It tells
 * once; positions are answered with "waiting for coordinator" from then on.
 */
static void
hear_coordinator(LhKafka *kafka)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(kafka->rk);
	rd_kafka_message_t *message;

	if (queue == NULL)
		return;
	while ((message = rd_kafka_consume_queue(queue, 0)) != NULL)
	{
		if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			kafka->publish_error = message->err;
			kafka->publish_answered = true;
		}
		rd_kafka_message_destroy(message);
	}
	rd_kafka_queue_destroy(queue);
}

bool
lh_kafka_publish_answer(LhKafka *kafka, LhError *error)
{
	hear_coordinator(kafka);
	rd_kafka_poll(kafka->rk, 0);
	if (!kafka->publish_answered)
		return false;
	kafka->publish_answered = false;
	error->sqlstate = 0;
	if (kafka->publish_error != RD_KAFKA_RESP_ERR_NO_ERROR)
		lh_error_set(error, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "%s", rd_kafka_err2str(kafka->publish_error));
	return true;
}
