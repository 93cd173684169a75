/*
 * kafka_client.h
 *	  The Kafka cluster as the rest of lakehouse sees it.
 */
#ifndef LH_KAFKA_CLIENT_H
#define LH_KAFKA_CLIENT_H

#include "postgres.h"

#include "error.h"
#include "nodes/pg_list.h"

typedef struct LhKafka LhKafka;

/* what may stand where an offset is asked for */
#define LH_KAFKA_BEGINNING	INT64CONST(-2)
#define LH_KAFKA_END		INT64CONST(-1)

/* kilobytes of one answer of a broker, unless the server says otherwise */
#define LH_KAFKA_ANSWER_KB	(16 * 1024)

/* property of a user mapping that is no property of librdkafka */
#define LH_KAFKA_TOKEN "sasl.oauthbearer.token"

typedef enum LhKafkaEvent
{
	LH_KAFKA_RECORD,
	LH_KAFKA_EOF,				/* offset = next offset of the partition */
	LH_KAFKA_RANGE,				/* the offset that was asked for is not there */
	LH_KAFKA_FAILURE			/* the partition cannot be read: see error */
} LhKafkaEvent;

/* One header of a message that is to be sent, or was kept. */
typedef struct LhKafkaHeader
{
	const char *name;
	const char *value;			/* NULL = has none */
	Size		length;
} LhKafkaHeader;

/* One thing that happened in a partition. */
typedef struct LhKafkaMessage
{
	LhKafkaEvent event;
	int			slot;			/* as given to lh_kafka_start */
	int64		offset;
	int64		timestamp;		/* milliseconds; -1 = none */
	int			timestamp_type; /* 0 = set by the producer, 1 = by the broker,
								 * -1 = none */
	int32		epoch;			/* how often the leader had changed when it was
								 * written; -1 = not told */
	const char *key;			/* NULL = no key */
	const char *value;			/* NULL = no value (a tombstone) */
	Size		key_length;
	Size		value_length;
	void	   *handle;			/* owns the bytes until lh_kafka_release; NULL = a
								 * message that was kept, whose headers follow */
	const LhKafkaHeader *headers;
	int			header_count;
} LhKafkaMessage;

/* One partition in a question for offsets. */
typedef struct LhKafkaQuestion
{
	const char *topic;
	int32		partition;
	int64		offset;			/* in: LH_KAFKA_BEGINNING, LH_KAFKA_END or a
								 * time in milliseconds; out: an offset, or
								 * LH_KAFKA_END when nothing is that late */
	bool		unanswered;		/* out: nobody could answer this one */
} LhKafkaQuestion;

/*
 * lh_kafka_check_property asks librdkafka whether it takes a value for a
 * property; false with its reason, without a final period, in message.  The
 * reason may quote the value.
 */
extern bool lh_kafka_check_property(const char *name, const char *value,
									char *message, Size size);

/*
 * lh_kafka_open makes a client with a list of LhKafkaProperty.  It reaches no
 * broker yet.  The client is closed when "context" is reset, or by
 * lh_kafka_close.  Raises 22023 if librdkafka refuses the properties.
 */
extern LhKafka *lh_kafka_open(List *properties, MemoryContext context);

/*
 * lh_kafka_twin makes a second client with the properties of one that reads, for
 * questions that must not disturb what that one reads ahead: it asks for little
 * at once, and at once.
 */
extern LhKafka *lh_kafka_twin(const LhKafka *kafka, MemoryContext context);

/*
 * A client holds no more than LH_KAFKA_AHEAD records, and no more bytes of values
 * than lakehouse.kafka_read_ahead, before it asks for more.  lh_kafka_with_ahead
 * makes one like another one that holds no more than "records".
 */
#define LH_KAFKA_AHEAD 50000
extern LhKafka *lh_kafka_with_ahead(const LhKafka *kafka, int records, MemoryContext context);
extern int	lh_kafka_ahead(const LhKafka *kafka);
extern void lh_kafka_close(LhKafka *kafka);

/*
 * Number of partitions of a topic; -1 with *error (42704 no such topic, 42501
 * not permitted, 28000 credentials refused, 08001 no broker answered in time).
 * Waits, looking for interrupts.
 */
extern int	lh_kafka_partitions(LhKafka *kafka, const char *topic, int timeout_ms,
								LhError *error);

/*
 * Names of the topics of the cluster that the client may see, NULL-terminated, in
 * the current context; NULL with *error (28000, 08001).  Waits as above.
 */
extern char **lh_kafka_topics(LhKafka *kafka, int timeout_ms, LhError *error);

/* room for the id of a topic, with its end */
#define LH_KAFKA_ID_SIZE 23

/*
 * lh_kafka_topic_id asks for the id of a topic; false if nobody tells it in time.
 * Waits, looking for interrupts.  Whether librdkafka can ask at all,
 * lh_kafka_tells_ids says.
 */
extern bool lh_kafka_topic_id(LhKafka *kafka, const char *topic, int timeout_ms, char *id);
extern bool lh_kafka_tells_ids(void);

/* does any broker answer?  If not, *error as above */
extern bool lh_kafka_ping(LhKafka *kafka, int timeout_ms, LhError *error);

/*
 * Answers questions for offsets; false with *error if no broker answered at
 * all.  Where the leader of a partition did not, its question is marked and
 * *error says why.  Waits as above.
 */
extern bool lh_kafka_offsets(LhKafka *kafka, LhKafkaQuestion *questions, int count,
							 int timeout_ms, LhError *error);

/* reads a partition from an offset on; its events carry "slot" */
extern bool lh_kafka_start(LhKafka *kafka, const char *topic, int32 partition,
						   int64 offset, int slot, LhError *error);

/* stops one partition; what was read ahead of it is not given any more */
extern void lh_kafka_stop(LhKafka *kafka, const char *topic, int32 partition);

/* stops all partitions and forgets what was read ahead */
extern void lh_kafka_stop_all(LhKafka *kafka);

/* up to "max" events that are here already; does not wait */
extern int	lh_kafka_take(LhKafka *kafka, LhKafkaMessage *messages, int max);

/* whether the messages of the last take, and what follows, may come from another
 * log than those before: a leader changed, a connection was lost; told once */
extern bool lh_kafka_doubtful(LhKafka *kafka);
extern void lh_kafka_release(LhKafkaMessage *messages, int count);
extern void lh_kafka_failure(const LhKafkaMessage *message, LhError *error);

/* how many events are here that were not taken yet */
extern int64 lh_kafka_left(LhKafka *kafka);

/* end of the partition as the last answer of the broker told it, or -1; *low (or
 * NULL) is set to its oldest offset likewise */
extern int64 lh_kafka_known_end(LhKafka *kafka, const char *topic, int32 partition, int64 *low);

/* waits until events may be here, the latch is set or the time is over */
extern void lh_kafka_wait(LhKafka *kafka, long timeout_ms);

/*
 * What is wrong with the connection as a whole, as librdkafka last told:
 * milliseconds since then in *age.  NULL if nothing is known to be wrong.
 */
extern const LhError *lh_kafka_trouble(LhKafka *kafka, long *age);

/*
 * lh_kafka_publish tells the client's group (property group.id) positions, and
 * waits for the answer for at most wait_ms.  lh_kafka_publish_answer gives an
 * answer that came since, sqlstate 0 for a good one; false if none did.
 */
extern void lh_kafka_publish(LhKafka *kafka, const LhKafkaQuestion *positions, int count, int wait_ms);
extern bool lh_kafka_publish_answer(LhKafka *kafka, LhError *error);

/* headers of a record */
extern int	lh_kafka_headers(const LhKafkaMessage *message);
extern bool lh_kafka_header(const LhKafkaMessage *message, int i, const char **name,
							const char **value, Size *length);

#endif							/* LH_KAFKA_CLIENT_H */
