/*
 * kafka_client_read.c
 *	  Partitions being read from explicit offsets on.
 *
 * Invariant: what librdkafka read ahead of a partition is given only while that
 * partition is read; after a stop nothing of it appears.
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "source/kafka_client_internal.h"

static void wake_brokers(LhKafka *kafka);

/*
 * lh_kafka_start begins to read one partition.
 */
bool
lh_kafka_start(LhKafka *kafka, const char *name, int32 partition, int64 offset,
			   int slot, LhError *error)
{
	LhKafkaTopic	   *topic = lh_kafka_find_topic(kafka, name);

	if (partition >= topic->partitions)
	{
		int			size = partition + 1;
		int		   *grown = realloc(topic->slots, sizeof(int) * size);

		if (grown == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		for (int p = topic->partitions; p < size; p++)
			grown[p] = -1;
		topic->slots = grown;
		topic->partitions = size;
	}
	if (rd_kafka_consume_start_queue(topic->rkt, partition, offset, kafka->queue) != 0)
	{
		lh_kafka_topic_error(rd_kafka_last_error(), error);
		return false;
	}
	topic->slots[partition] = slot;
	return true;
}

void
lh_kafka_stop(LhKafka *kafka, const char *name, int32 partition)
{
	LhKafkaTopic	   *topic = lh_kafka_find_topic(kafka, name);

	if (partition >= topic->partitions || topic->slots[partition] < 0)
		return;
	rd_kafka_consume_stop(topic->rkt, partition);
	topic->slots[partition] = -1;
}

/*
 * lh_kafka_stop_all stops all partitions.  What was read ahead goes with the
 * queue, so that nothing of it can appear after a later start.
 */
void
lh_kafka_stop_all(LhKafka *kafka)
{
	for (int t = 0; t < kafka->topic_count; t++)
	{
		LhKafkaTopic	   *topic = kafka->topics[t];

		for (int p = 0; p < topic->partitions; p++)
		{
			if (topic->slots[p] >= 0)
				rd_kafka_consume_stop(topic->rkt, p);
			topic->slots[p] = -1;
		}
	}
	rd_kafka_queue_io_event_enable(kafka->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(kafka->queue);
	lh_kafka_make_queue(kafka);
}

/*
 * take_one translates one message of librdkafka; false if it says nothing.
 */
static bool
take_one(LhKafka *kafka, rd_kafka_message_t *from, LhKafkaMessage *to)
{
	LhKafkaTopic	   *topic = NULL;

	/* a source has few topics */
	for (int t = 0; t < kafka->topic_count && topic == NULL; t++)
	{
		if (kafka->topics[t]->rkt == from->rkt)
			topic = kafka->topics[t];
	}
	if (topic == NULL || from->partition < 0 || from->partition >= topic->partitions ||
		topic->slots[from->partition] < 0)
		return false;
	to->slot = topic->slots[from->partition];
	to->offset = from->offset;
	to->handle = from;
	switch (from->err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			{
				rd_kafka_timestamp_type_t type;

				to->event = LH_KAFKA_RECORD;
				to->timestamp = rd_kafka_message_timestamp(from, &type);
				to->timestamp_type = type == RD_KAFKA_TIMESTAMP_CREATE_TIME ? 0
					: type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME ? 1 : -1;
				to->epoch = -1;
#if RD_KAFKA_VERSION >= 0x020100ff
				to->epoch = rd_kafka_message_leader_epoch(from);
#endif
				to->key = from->key;
				to->key_length = from->key_len;
				to->value = from->payload;
				to->value_length = from->len;
				return true;
			}
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			to->event = LH_KAFKA_EOF;
			return true;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
			to->event = LH_KAFKA_RANGE;
			return true;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
			to->event = LH_KAFKA_FAILURE;
			return true;
		default:
			/* librdkafka tries again by itself */
			return false;
	}
}

/*
 * wake_brokers makes librdkafka's threads look again whether they should fetch.
 * Before 2.2 they look once a second after the read-ahead was full, which would
 * bound the rate by the size of the read-ahead; so they do for a partition that
 * is started, which a twin does not wait for.  Setting the credentials that are
 * set already wakes them and has no other effect.
 */
static void
wake_brokers(LhKafka *kafka)
{
	size_t		left = rd_kafka_queue_length(kafka->queue);

	if (left > (size_t) kafka->ahead / 2)
		kafka->drained = false;
	else if (!kafka->drained || kafka->twin)
	{
		rd_kafka_error_t *error;

		kafka->drained = true;
		error = rd_kafka_sasl_set_credentials(kafka->rk, kafka->username ? kafka->username : "",
											  kafka->password ? kafka->password : "");
		if (error != NULL)
			rd_kafka_error_destroy(error);
	}
}

/*
 * lh_kafka_take gives up to "max" events that are here already.  The caller
 * releases each of them.
 */
int
lh_kafka_take(LhKafka *kafka, LhKafkaMessage *messages, int max)
{
	ssize_t		count;
	int			taken = 0;

	if (max > kafka->taken_size)
	{
		rd_kafka_message_t **grown = realloc(kafka->taken, sizeof(*grown) * max);

		if (grown == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		kafka->taken = grown;
		kafka->taken_size = max;
	}
	rd_kafka_poll(kafka->rk, 0);
	count = rd_kafka_consume_batch_queue(kafka->queue, 0, kafka->taken, max);
	/* what librdkafka told before it had these must be known before they are used */
	rd_kafka_poll(kafka->rk, 0);
	wake_brokers(kafka);
	for (ssize_t i = 0; i < count; i++)
	{
		if (take_one(kafka, kafka->taken[i], &messages[taken]))
			taken++;
		else
			rd_kafka_message_destroy(kafka->taken[i]);
	}
	if (taken > 0 && (kafka->down || kafka->refused))
		lh_kafka_heard(kafka);
	return taken;
}

bool
lh_kafka_doubtful(LhKafka *kafka)
{
	bool		doubt = kafka->doubt;

	kafka->doubt = false;
	return doubt;
}

void
lh_kafka_release(LhKafkaMessage *messages, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (messages[i].handle != NULL)
			rd_kafka_message_destroy(messages[i].handle);
		messages[i].handle = NULL;
	}
}

/*
 * lh_kafka_failure tells why a partition cannot be read (LH_KAFKA_FAILURE).
 */
void
lh_kafka_failure(const LhKafkaMessage *message, LhError *error)
{
	lh_kafka_topic_error(((rd_kafka_message_t *) message->handle)->err, error);
}

int64
lh_kafka_left(LhKafka *kafka)
{
	return (int64) rd_kafka_queue_length(kafka->queue);
}

int64
lh_kafka_known_end(LhKafka *kafka, const char *topic, int32 partition, int64 *low)
{
	int64_t		known_low = -1;
	int64_t		high = -1;

	if (rd_kafka_get_watermark_offsets(kafka->rk, topic, partition, &known_low, &high) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		known_low = high = -1;
	if (low != NULL)
		*low = Max(known_low, -1);
	return Max(high, -1);
}

/*
 * lh_kafka_wait waits until events may be here, the latch is set or the time is
 * over.
 */
void
lh_kafka_wait(LhKafka *kafka, long timeout_ms)
{
	char		drained[64];
	int			events;

	events = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   kafka->wake[0], timeout_ms, PG_WAIT_EXTENSION);
	if (events & WL_SOCKET_READABLE)
	{
		while (read(kafka->wake[0], drained, sizeof(drained)) > 0)
			;
	}
	if (events & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	rd_kafka_poll(kafka->rk, 0);
}

int
lh_kafka_headers(const LhKafkaMessage *message)
{
	rd_kafka_headers_t *headers;

	if (message->handle == NULL)
		return message->header_count;
	if (rd_kafka_message_headers(message->handle, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	return (int) rd_kafka_header_cnt(headers);
}

bool
lh_kafka_header(const LhKafkaMessage *message, int i, const char **name,
				const char **value, Size *length)
{
	rd_kafka_headers_t *headers;
	const void *bytes;
	size_t		size;

	if (message->handle == NULL)
	{
		*name = message->headers[i].name;
		*value = message->headers[i].value;
		*length = message->headers[i].length;
		return true;
	}
	if (rd_kafka_message_headers(message->handle, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		rd_kafka_header_get_all(headers, i, name, &bytes, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	*value = bytes;
	*length = size;
	return true;
}
