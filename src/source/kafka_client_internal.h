/*
 * kafka_client_internal.h
 *	  What the files of the Kafka client share.
 *
 * The one place that includes librdkafka's header; only kafka_client*.c include
 * this one.  Whoever else needs something of Kafka asks for it in
 * kafka_client.h.
 */
#ifndef LH_KAFKA_CLIENT_INTERNAL_H
#define LH_KAFKA_CLIENT_INTERNAL_H

#include <librdkafka/rdkafka.h>

#include "datatype/timestamp.h"
#include "utils/palloc.h"

#include "source/kafka_client.h"

/* One topic that is read, or was asked about. */
typedef struct LhKafkaTopic
{
	rd_kafka_topic_t *rkt;
	char	   *name;
	int		   *slots;			/* by partition; -1 = not read */
	int			partitions;		/* size of slots */
} LhKafkaTopic;

/* All of it malloc'ed: the thread that closes a client may survive the context. */
struct LhKafka
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;	/* of all partitions */
	rd_kafka_queue_t *main_queue;	/* errors and log lines */
	LhKafkaTopic **topics;
	int			topic_count;
	int			wake[2];		/* pipe: librdkafka writes, we wait */
	char	   *username;		/* for wake_brokers */
	char	   *password;
	char	   *token;			/* of OAUTHBEARER */
	int			ahead;			/* records that may be read ahead */
	bool		drained;		/* less than half of the read-ahead is left */
	bool		twin;			/* made by lh_kafka_twin */
	rd_kafka_message_t **taken; /* room for lh_kafka_take */
	int			taken_size;
	int32		answered_by;	/* a broker that answers, for lh_kafka_topic_id; -1 = none yet */
	struct LhKafkaSending *sending; /* producer: what is under way, or NULL */

	/* what the callbacks remembered */
	bool		down;			/* no broker can be reached */
	bool		refused;		/* credentials or certificates */
	bool		doubt;			/* for lh_kafka_doubtful */
	TimestampTz since;			/* when that was first told */
	char		reason[320];	/* last text of librdkafka about a connection */
	TimestampTz reason_since;	/* when it came; it is no reason for long */
	LhError		trouble;		/* for lh_kafka_trouble */

	/* the last answer to lh_kafka_publish */
	bool		publish_answered;
	rd_kafka_resp_err_t publish_error;

	MemoryContextCallback *callback;
	LhKafka    *next;			/* in open_clients */
};

/* the topic of that name, made if it is not known; raises for an impossible name */
extern LhKafkaTopic *lh_kafka_find_topic(LhKafka *kafka, const char *name);

/* producer: librdkafka tells what became of a message; frees what is kept of it */
extern void lh_kafka_on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);
extern void lh_kafka_forget_sending(LhKafka *kafka);

/* makes the queue that all partitions are read from */
extern void lh_kafka_make_queue(LhKafka *kafka);

/* says why no broker answered, or what one answered about a topic */
extern void lh_kafka_connection_error(LhKafka *kafka, LhError *error);
extern void lh_kafka_topic_error(rd_kafka_resp_err_t err, LhError *error);

/* the cluster's answer to lh_kafka_publish */
extern void lh_kafka_on_publish(rd_kafka_t *rk, rd_kafka_resp_err_t err,
								rd_kafka_topic_partition_list_t *positions, void *opaque);

/* how long the next wait in librdkafka may take, 0 = no longer; looks for interrupts */
extern int	lh_kafka_slice(TimestampTz deadline, int *slice);

/* asks who leads the partitions of the topics that the client knows */
extern bool lh_kafka_learn_leaders(LhKafka *kafka, TimestampTz deadline);

/* a broker answered: what was known to be wrong is over */
extern void lh_kafka_heard(LhKafka *kafka);

#endif							/* LH_KAFKA_CLIENT_INTERNAL_H */
