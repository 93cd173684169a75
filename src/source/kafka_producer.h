/*
 * kafka_producer.h
 *	  Messages to a Kafka cluster.
 *
 * Messages are sent in batches.  While one is under way each of its messages has
 * a state; the batch ends when none is in flight any more, or is given up.
 */
#ifndef LH_KAFKA_PRODUCER_H
#define LH_KAFKA_PRODUCER_H

#include "source/kafka_client.h"

typedef struct LhKafkaOutgoing
{
	const char *topic;
	int32		partition;		/* -1 = by key */
	const char *key;			/* NULL = none */
	Size		key_length;
	const char *value;			/* NULL = none (a tombstone) */
	Size		value_length;
	int			header_count;
	const LhKafkaHeader *headers;
} LhKafkaOutgoing;

typedef enum LhKafkaDelivery
{
	LH_KAFKA_UNSENT,			/* not given to the client yet */
	LH_KAFKA_IN_FLIGHT,
	LH_KAFKA_DELIVERED,			/* the cluster has it */
	LH_KAFKA_REFUSED,			/* it can never be stored as it is */
	LH_KAFKA_TOPIC_REFUSED,		/* nor can any other of its topic now */
	LH_KAFKA_UNCERTAIN			/* nobody knows; nothing more can be sent now */
} LhKafkaDelivery;

/*
 * lh_kafka_open_producer makes a client that sends, as lh_kafka_open does one
 * that reads.  It is idempotent: within its life, messages with one key arrive
 * once and in their order.
 */
extern LhKafka *lh_kafka_open_producer(List *properties, MemoryContext context);

/* makes room for a batch of "count" messages; forgets the one before */
extern void lh_kafka_send_begin(LhKafka *kafka, int count);

/*
 * lh_kafka_send copies one message of the batch to the client, which sends it;
 * *error tells why it did not take it.  To be called once for a number.
 */
extern LhKafkaDelivery lh_kafka_send(LhKafka *kafka, int number, const LhKafkaOutgoing *message,
									 LhError *error);

/* messages of the batch of which nothing is known yet */
extern int	lh_kafka_in_flight(const LhKafka *kafka);

/* what became of a message; *error if it was not delivered */
extern LhKafkaDelivery lh_kafka_delivery(const LhKafka *kafka, int number, LhError *error);

/* true if the client is of no more use: *error tells why */
extern bool lh_kafka_is_fatal(LhKafka *kafka, LhError *error);

#endif							/* LH_KAFKA_PRODUCER_H */
