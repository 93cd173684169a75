/*
 * kafka_client_send.c
 *	  Messages to a Kafka cluster.
 *
 * Invariant: what librdkafka remembers of a message is a number and that of its
 * batch, never a pointer, so that an answer which comes after its batch was
 * given up touches nothing.
 */
#include "postgres.h"

#include "source/kafka_client_internal.h"
#include "source/kafka_producer.h"

/* The batch under way; malloc'ed with its client. */
typedef struct LhKafkaSending
{
	uint32		batch;			/* goes up with each batch */
	int			count;
	int			in_flight;
	struct
	{
		LhKafkaDelivery state;
		rd_kafka_resp_err_t err;
	}			messages[FLEXIBLE_ARRAY_MEMBER];
} LhKafkaSending;

/*
 * judge tells what an error means for the message, and for others.
 */
static LhKafkaDelivery
judge(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			return LH_KAFKA_DELIVERED;
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR__INVALID_ARG:
			return LH_KAFKA_REFUSED;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			return LH_KAFKA_TOPIC_REFUSED;
		default:
			return LH_KAFKA_UNCERTAIN;
	}
}

void
lh_kafka_forget_sending(LhKafka *kafka)
{
	free(kafka->sending);
	kafka->sending = NULL;
}

void
lh_kafka_send_begin(LhKafka *kafka, int count)
{
	uint32		batch = kafka->sending ? kafka->sending->batch + 1 : 1;
	LhKafkaSending *sending = calloc(1, offsetof(LhKafkaSending, messages) +
									 sizeof(sending->messages[0]) * Max(count, 1));

	if (sending == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	sending->batch = batch;
	sending->count = count;
	lh_kafka_forget_sending(kafka);
	kafka->sending = sending;
}

/*
 * lh_kafka_on_delivery notes what became of a message.  Runs in our thread,
 * inside rd_kafka_poll.
 */
void
lh_kafka_on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	LhKafka    *kafka = opaque;
	LhKafkaSending *sending = kafka->sending;
	uint64		token = (uint64) (uintptr_t) message->_private;
	uint32		number = (uint32) token;

	if (sending == NULL || (uint32) (token >> 32) != sending->batch ||
		number >= (uint32) sending->count ||
		sending->messages[number].state != LH_KAFKA_IN_FLIGHT)
		return;
	sending->messages[number].err = message->err;
	sending->messages[number].state = judge(message->err);
	sending->in_flight--;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		lh_kafka_heard(kafka);
}

static rd_kafka_headers_t *
make_headers(const LhKafkaOutgoing *message)
{
	rd_kafka_headers_t *headers;

	if (message->header_count == 0)
		return NULL;
	headers = rd_kafka_headers_new(message->header_count);
	for (int i = 0; i < message->header_count; i++)
	{
		const LhKafkaHeader *header = &message->headers[i];

		rd_kafka_header_add(headers, header->name, -1, header->value, header->length);
	}
	return headers;
}

LhKafkaDelivery
lh_kafka_send(LhKafka *kafka, int number, const LhKafkaOutgoing *message, LhError *error)
{
	LhKafkaSending *sending = kafka->sending;
	LhKafkaTopic *topic = lh_kafka_find_topic(kafka, message->topic);
	rd_kafka_headers_t *headers = make_headers(message);
	uint64		token = ((uint64) sending->batch << 32) | (uint32) number;
	rd_kafka_resp_err_t err;

	Assert(number < sending->count);
	err = rd_kafka_producev(kafka->rk,
							RD_KAFKA_V_RKT(topic->rkt),
							RD_KAFKA_V_PARTITION(message->partition < 0 ? RD_KAFKA_PARTITION_UA
												 : message->partition),
							RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							RD_KAFKA_V_KEY(message->key, message->key_length),
							RD_KAFKA_V_VALUE(unconstify(char *, message->value), message->value_length),
							RD_KAFKA_V_HEADERS(headers),
							RD_KAFKA_V_OPAQUE((void *) (uintptr_t) token),
							RD_KAFKA_V_END);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		sending->messages[number].state = LH_KAFKA_IN_FLIGHT;
		sending->in_flight++;
		return LH_KAFKA_IN_FLIGHT;
	}
	if (headers != NULL)
		rd_kafka_headers_destroy(headers);
	sending->messages[number].err = err;
	sending->messages[number].state = judge(err);
	return lh_kafka_delivery(kafka, number, error);
}

int
lh_kafka_in_flight(const LhKafka *kafka)
{
	return kafka->sending->in_flight;
}

LhKafkaDelivery
lh_kafka_delivery(const LhKafka *kafka, int number, LhError *error)
{
	rd_kafka_resp_err_t err = kafka->sending->messages[number].err;

	switch (kafka->sending->messages[number].state)
	{
		case LH_KAFKA_REFUSED:
			lh_error_set(error, err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
						 ? ERRCODE_UNDEFINED_OBJECT : ERRCODE_PROGRAM_LIMIT_EXCEEDED,
						 "%s", rd_kafka_err2str(err));
			break;
		case LH_KAFKA_TOPIC_REFUSED:
			lh_kafka_topic_error(err, error);
			break;
		case LH_KAFKA_UNCERTAIN:
			lh_error_set(error, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
						 "the Kafka cluster did not take a message: %s", rd_kafka_err2str(err));
			break;
		default:
			break;
	}
	return kafka->sending->messages[number].state;
}

bool
lh_kafka_is_fatal(LhKafka *kafka, LhError *error)
{
	char		text[256];
	rd_kafka_resp_err_t err = rd_kafka_fatal_error(kafka->rk, text, sizeof(text));

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	lh_error_set(error, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, "%s", rd_kafka_err2str(err));
	return true;
}
