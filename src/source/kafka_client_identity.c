/*
 * kafka_client_identity.c
 *	  Which topic has a name, where librdkafka and the brokers tell it.
 *
 * Every topic of a cluster has an id of its own, which one that is deleted and
 * made again does not inherit.  librdkafka tells it from 2.3 on, brokers from 2.8
 * on.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "source/kafka_client_internal.h"

/* what an older broker gives instead */
#define NO_ID "AAAAAAAAAAAAAAAAAAAAAA"

#if RD_KAFKA_VERSION >= 0x020300ff

/*
 * read_id copies the id out of an answer.
 */
static bool
read_id(rd_kafka_event_t *event, char *id)
{
	const rd_kafka_DescribeTopics_result_t *result = rd_kafka_event_DescribeTopics_result(event);
	const rd_kafka_TopicDescription_t **topics;
	const rd_kafka_Uuid_t *uuid;
	size_t		count = 0;

	if (result == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	topics = rd_kafka_DescribeTopics_result_topics(result, &count);
	if (count != 1 ||
		rd_kafka_error_code(rd_kafka_TopicDescription_error(topics[0])) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	uuid = rd_kafka_TopicDescription_topic_id(topics[0]);
	if (uuid == NULL)
		return false;
	strlcpy(id, rd_kafka_Uuid_base64str(uuid), LH_KAFKA_ID_SIZE);
	return strcmp(id, NO_ID) != 0;
}

/*
 * send_question asks for a topic; the answer comes to the queue.  Any broker knows
 * it.  Left to itself, librdkafka would wait for the controller, which may be away.
 */
static void
send_question(LhKafka *kafka, const char *topic, rd_kafka_queue_t *queue)
{
	rd_kafka_TopicCollection_t *topics = rd_kafka_TopicCollection_of_topic_names(&topic, 1);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->rk, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
	char		message[512];

	if (kafka->answered_by >= 0)
		rd_kafka_AdminOptions_set_broker(options, kafka->answered_by, message, sizeof(message));
	rd_kafka_DescribeTopics(kafka->rk, topics, options, queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_TopicCollection_destroy(topics);
}

bool
lh_kafka_topic_id(LhKafka *kafka, const char *topic, int timeout_ms, char *id)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->rk);
	rd_kafka_event_t *event = NULL;
	bool		known = false;

	send_question(kafka, topic, queue);
	while (event == NULL && !QueryCancelPending && !ProcDiePending && GetCurrentTimestamp() < deadline)
		event = rd_kafka_queue_poll(queue, 20);
	if (event != NULL)
	{
		known = read_id(event, id);
		rd_kafka_event_destroy(event);
	}
	/* an answer that comes later is dropped with the queue */
	rd_kafka_queue_destroy(queue);
	CHECK_FOR_INTERRUPTS();
	return known;
}

#else

bool
lh_kafka_topic_id(LhKafka *kafka, const char *topic, int timeout_ms, char *id)
{
	return false;
}

#endif

bool
lh_kafka_tells_ids(void)
{
	return RD_KAFKA_VERSION >= 0x020300ff;
}
