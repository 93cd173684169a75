/*
 * kafka_client.c
 *	  The one place that talks to librdkafka.
 *
 * Partitions are read by explicit offset, without a consumer group: the broker
 * neither balances nor stores anything for us.
 *
 * Invariants: only the backend's own thread calls into PostgreSQL.  librdkafka's
 * threads wake it through a pipe; its callbacks run inside rd_kafka_poll, which
 * we call, and do no more than copy text.  A client never outlives its memory
 * context, and closing it takes a bounded time: what librdkafka has not ended by
 * then (a name look-up, for example) ends by itself in a thread of its own.
 */
#include "postgres.h"

#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "source/kafka_client.h"
#include "source/server.h"

/* records that librdkafka may read ahead, and bytes (kB) */
#define AHEAD_MESSAGES 50000
#define AHEAD_KBYTES 16384

/* how long closing a client may hold up the backend */
#define CLOSE_LIMIT_MS 2000

/* a complaint about a connection explains a failure for this long */
#define REASON_LIMIT_MS 15000

/* the longest single wait in librdkafka, hence the answer to a cancel */
#define SLICE_LIMIT_MS 500

/* One topic that is read, or was asked about. */
typedef struct Topic
{
	rd_kafka_topic_t *rkt;
	char	   *name;
	int		   *slots;			/* by partition; -1 = not read */
	int			partitions;		/* size of slots */
} Topic;

/* All of it malloc'ed: the thread that closes a client may survive the context. */
struct LhKafka
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;	/* of all partitions */
	rd_kafka_queue_t *main_queue;	/* errors and log lines */
	Topic	  **topics;
	int			topic_count;
	int			wake[2];		/* pipe: librdkafka writes, we wait */
	char	   *username;		/* for wake_brokers */
	char	   *password;
	bool		drained;		/* less than half of the read-ahead is left */
	rd_kafka_message_t **taken; /* room for lh_kafka_take */
	int			taken_size;

	/* what the callbacks remembered */
	bool		down;			/* no broker can be reached */
	bool		refused;		/* credentials or certificates */
	TimestampTz since;			/* when that was first told */
	char		reason[320];	/* last text of librdkafka about a connection */
	TimestampTz reason_since;	/* when it came; it is no reason for long */
	LhError		trouble;		/* for lh_kafka_trouble */

	MemoryContextCallback *callback;
	LhKafka    *next;			/* in open_clients */
};

/* What the closing thread and the backend share. */
typedef struct Closing
{
	LhKafka    *kafka;
	int			ended;			/* first to set it leaves the other to free */
} Closing;

static LhKafka *open_clients = NULL;

static rd_kafka_conf_t *make_conf(List *properties, LhKafka *kafka);
static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque);
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text);
static void close_at_exit(int code, Datum arg);
static void close_at_reset(void *arg);
static void *run_closing(void *arg);
static void free_client(LhKafka *kafka);
static Topic *find_topic(LhKafka *kafka, const char *name);
static void make_queue(LhKafka *kafka);
static void connection_error(LhKafka *kafka, LhError *error);
static void topic_error(rd_kafka_resp_err_t err, LhError *error);
static void heard_of_broker(LhKafka *kafka);
static void copy_text(char *to, Size size, const char *from);
static int	remaining_slice(TimestampTz deadline, int *slice);

bool
lh_kafka_check_property(const char *name, const char *value, char *message, Size size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		text[512];
	rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, name, value, text, sizeof(text));

	rd_kafka_conf_destroy(conf);
	if (result == RD_KAFKA_CONF_OK)
		return true;
	copy_text(message, size, text);
	return false;
}

/*
 * lh_kafka_open makes a client; see the header.
 */
LhKafka *
lh_kafka_open(List *properties, MemoryContext context)
{
	static bool registered = false;
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
	LhKafka    *kafka = calloc(1, sizeof(LhKafka));
	rd_kafka_conf_t *conf;
	char		message[512];

	if (kafka == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (pipe2(kafka->wake, O_NONBLOCK | O_CLOEXEC) != 0)
	{
		free(kafka);
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create a pipe for the Kafka client: %m")));
	}
	conf = make_conf(properties, kafka);
	kafka->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, message, sizeof(message));
	if (kafka->rk == NULL)
	{
		char		text[320];

		rd_kafka_conf_destroy(conf);
		free_client(kafka);
		copy_text(text, sizeof(text), message);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not create a Kafka client"),
				 errdetail("librdkafka: %s.", text),
				 errhint("Check the options of the server and of the user mapping.")));
	}
	rd_kafka_set_log_queue(kafka->rk, NULL);
	kafka->main_queue = rd_kafka_queue_get_main(kafka->rk);
	rd_kafka_queue_io_event_enable(kafka->main_queue, kafka->wake[1], "m", 1);
	make_queue(kafka);

	if (!registered)
		before_shmem_exit(close_at_exit, (Datum) 0);
	registered = true;
	kafka->next = open_clients;
	open_clients = kafka;
	callback->func = close_at_reset;
	callback->arg = kafka;
	kafka->callback = callback;
	MemoryContextRegisterResetCallback(context, callback);
	return kafka;
}

/*
 * make_conf sets the user's properties, then ours, which win.  Raises before
 * anything but the configuration and the pipe exists.
 */
static rd_kafka_conf_t *
make_conf(List *properties, LhKafka *kafka)
{
	static const char *const own[][2] = {
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"isolation.level", "read_committed"},
		{"enable.partition.eof", "true"},
		{"check.crcs", "true"},
		{"queued.min.messages", CppAsString2(AHEAD_MESSAGES)},
		{"queued.max.messages.kbytes", CppAsString2(AHEAD_KBYTES)},
		{"allow.auto.create.topics", "false"},
		{"topic.metadata.refresh.interval.ms", "30000"},
		{"log.queue", "true"},
		{"log_level", "4"}
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_conf_t *topic_conf = rd_kafka_topic_conf_new();
	const char *failed = NULL;
	char		message[512];
	ListCell   *cell;

	/* the default would run kinit if the protocol were a SASL one */
	rd_kafka_conf_set(conf, "sasl.mechanism", "PLAIN", message, sizeof(message));
	rd_kafka_conf_set(conf, "client.id", "lakehouse", message, sizeof(message));
	/* a smaller answer keeps the memory for read-ahead near its bound */
	rd_kafka_conf_set(conf, "fetch.max.bytes", "16777216", message, sizeof(message));
	foreach(cell, properties)
	{
		const LhKafkaProperty *property = lfirst(cell);

		if (rd_kafka_conf_set(conf, property->name, property->value,
							  message, sizeof(message)) != RD_KAFKA_CONF_OK)
			failed = property->name;
		if (strcmp(property->name, "sasl.username") == 0)
			kafka->username = strdup(property->value);
		else if (strcmp(property->name, "sasl.password") == 0)
			kafka->password = strdup(property->value);
	}
	/* versions that lack it need wake_brokers */
	rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "5", message, sizeof(message));
	for (int i = 0; i < lengthof(own); i++)
	{
		if (rd_kafka_conf_set(conf, own[i][0], own[i][1],
							  message, sizeof(message)) != RD_KAFKA_CONF_OK)
			failed = own[i][0];
	}
	if (rd_kafka_topic_conf_set(topic_conf, "auto.offset.reset", "error",
								message, sizeof(message)) != RD_KAFKA_CONF_OK ||
		rd_kafka_topic_conf_set(topic_conf, "auto.commit.enable", "false",
								message, sizeof(message)) != RD_KAFKA_CONF_OK)
		failed = "auto.offset.reset";
	rd_kafka_conf_set_default_topic_conf(conf, topic_conf);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_log_cb(conf, on_log);
	rd_kafka_conf_set_opaque(conf, kafka);
	if (failed != NULL)
	{
		rd_kafka_conf_destroy(conf);
		free_client(kafka);
		/* the message of librdkafka may quote a secret */
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("librdkafka refuses the value of property \"%s\"", failed)));
	}
	return conf;
}

/*
 * on_error remembers what librdkafka tells about connections.  Runs in our
 * thread, inside rd_kafka_poll.
 */
static void
on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	LhKafka    *kafka = opaque;
	bool		was_well = !kafka->down && !kafka->refused;

	if (err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		kafka->reason_since = GetCurrentTimestamp();
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
			kafka->down = true;
			break;
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR__SSL:
			kafka->refused = true;
			copy_text(kafka->reason, sizeof(kafka->reason), reason);
			break;
		default:
			/* "all brokers are down" comes next and says less */
			if (!kafka->refused)
				copy_text(kafka->reason, sizeof(kafka->reason), reason);
			break;
	}
	if (was_well && (kafka->down || kafka->refused))
		kafka->since = GetCurrentTimestamp();
}

static void
on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	/* errors come through on_error; the rest is for those who debug librdkafka */
}

/*
 * copy_text copies text of librdkafka or of a broker, which may hold anything.
 */
static void
copy_text(char *to, Size size, const char *from)
{
	Size		i = 0;

	for (; i < size - 1 && from[i] != '\0'; i++)
		to[i] = from[i] >= ' ' && from[i] < 0x7f ? from[i] : '?';
	to[i] = '\0';
	while (i > 0 && (to[i - 1] == '.' || to[i - 1] == ' ' || to[i - 1] == '?'))
		to[--i] = '\0';
}

static void
make_queue(LhKafka *kafka)
{
	kafka->queue = rd_kafka_queue_new(kafka->rk);
	rd_kafka_queue_io_event_enable(kafka->queue, kafka->wake[1], "q", 1);
}

/*
 * lh_kafka_close ends a client within CLOSE_LIMIT_MS.
 */
void
lh_kafka_close(LhKafka *kafka)
{
	Closing    *closing;
	pthread_t	thread;
	sigset_t	all;
	sigset_t	saved;
	int			failed;

	for (LhKafka **link = &open_clients; *link != NULL; link = &(*link)->next)
	{
		if (*link == kafka)
		{
			*link = kafka->next;
			break;
		}
	}
	kafka->callback->arg = NULL;

	closing = calloc(1, sizeof(Closing));
	if (closing == NULL)
		return;
	closing->kafka = kafka;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	failed = pthread_create(&thread, NULL, run_closing, closing);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (failed)
	{
		run_closing(closing);
		return;
	}
	pthread_detach(thread);
	for (int waited = 0; waited < CLOSE_LIMIT_MS; waited++)
	{
		if (__atomic_load_n(&closing->ended, __ATOMIC_ACQUIRE))
			break;
		pg_usleep(1000);
	}
	if (__atomic_exchange_n(&closing->ended, 1, __ATOMIC_ACQ_REL))
		free(closing);
}

/*
 * run_closing releases everything; runs in a thread of its own.
 */
static void *
run_closing(void *arg)
{
	Closing    *closing = arg;
	LhKafka    *kafka = closing->kafka;

	for (int t = 0; t < kafka->topic_count; t++)
	{
		Topic	   *topic = kafka->topics[t];

		for (int p = 0; p < topic->partitions; p++)
		{
			if (topic->slots[p] >= 0)
				rd_kafka_consume_stop(topic->rkt, p);
		}
		rd_kafka_topic_destroy(topic->rkt);
		free(topic->slots);
		free(topic->name);
		free(topic);
	}
	rd_kafka_queue_io_event_enable(kafka->queue, -1, NULL, 0);
	rd_kafka_queue_io_event_enable(kafka->main_queue, -1, NULL, 0);
	rd_kafka_queue_destroy(kafka->queue);
	rd_kafka_queue_destroy(kafka->main_queue);
	rd_kafka_destroy(kafka->rk);
	free_client(kafka);
	if (__atomic_exchange_n(&closing->ended, 1, __ATOMIC_ACQ_REL))
		free(closing);
	return NULL;
}

static void
free_client(LhKafka *kafka)
{
	close(kafka->wake[0]);
	close(kafka->wake[1]);
	free(kafka->topics);
	free(kafka->taken);
	free(kafka->username);
	if (kafka->password != NULL)
		explicit_bzero(kafka->password, strlen(kafka->password));
	free(kafka->password);
	free(kafka);
}

static void
close_at_reset(void *arg)
{
	if (arg != NULL)
		lh_kafka_close(arg);
}

static void
close_at_exit(int code, Datum arg)
{
	while (open_clients != NULL)
		lh_kafka_close(open_clients);
}

static Topic *
find_topic(LhKafka *kafka, const char *name)
{
	Topic	   *topic;
	Topic	  **grown;

	for (int t = 0; t < kafka->topic_count; t++)
	{
		if (strcmp(kafka->topics[t]->name, name) == 0)
			return kafka->topics[t];
	}
	grown = realloc(kafka->topics, sizeof(Topic *) * (kafka->topic_count + 1));
	topic = calloc(1, sizeof(Topic));
	if (grown != NULL)
		kafka->topics = grown;
	if (grown == NULL || topic == NULL || (topic->name = strdup(name)) == NULL)
	{
		free(topic);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	topic->rkt = rd_kafka_topic_new(kafka->rk, name, NULL);
	if (topic->rkt == NULL)
	{
		free(topic->name);
		free(topic);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be the name of a Kafka topic", name)));
	}
	kafka->topics[kafka->topic_count++] = topic;
	return topic;
}

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
	Topic	   *topic = find_topic(kafka, name);
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
		heard_of_broker(kafka);
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
		topic_error(err, error);
		if (err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
			return -1;
		pg_usleep(20000L);
	}
	if (error->sqlstate == 0)
		connection_error(kafka, error);
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
		heard_of_broker(kafka);
	if (answered == count)
		return true;
	if (worst != RD_KAFKA_RESP_ERR_NO_ERROR)
		topic_error(worst, error);
	else
		connection_error(kafka, error);
	return answered > 0;
}

/*
 * connection_error says why no broker answered.
 */
static void
connection_error(LhKafka *kafka, LhError *error)
{
	if (kafka->refused)
		lh_error_set(error, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
					 "Kafka cluster refuses the connection: %s", kafka->reason);
	else if (!TimestampDifferenceExceeds(kafka->reason_since, GetCurrentTimestamp(), REASON_LIMIT_MS))
		lh_error_set(error, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					 "could not reach the Kafka cluster: %s", kafka->reason);
	else
		lh_error_set(error, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					 "could not reach the Kafka cluster: no broker answered in time");
}

static void
topic_error(rd_kafka_resp_err_t err, LhError *error)
{
	int			sqlstate = ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;

	if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
		sqlstate = ERRCODE_UNDEFINED_OBJECT;
	else if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
		sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
	else if (err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
		sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;
	else if (err == RD_KAFKA_RESP_ERR__BAD_MSG)
		sqlstate = ERRCODE_DATA_CORRUPTED;
	lh_error_set(error, sqlstate, "%s", rd_kafka_err2str(err));
}

static void
heard_of_broker(LhKafka *kafka)
{
	kafka->down = kafka->refused = false;
}

/*
 * lh_kafka_start begins to read one partition.
 */
bool
lh_kafka_start(LhKafka *kafka, const char *name, int32 partition, int64 offset,
			   int slot, LhError *error)
{
	Topic	   *topic = find_topic(kafka, name);

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
		topic_error(rd_kafka_last_error(), error);
		return false;
	}
	topic->slots[partition] = slot;
	return true;
}

void
lh_kafka_stop(LhKafka *kafka, const char *name, int32 partition)
{
	Topic	   *topic = find_topic(kafka, name);

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
		Topic	   *topic = kafka->topics[t];

		for (int p = 0; p < topic->partitions; p++)
		{
			if (topic->slots[p] >= 0)
				rd_kafka_consume_stop(topic->rkt, p);
			topic->slots[p] = -1;
		}
	}
	rd_kafka_queue_io_event_enable(kafka->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(kafka->queue);
	make_queue(kafka);
}

/*
 * take_one translates one message of librdkafka; false if it says nothing.
 */
static bool
take_one(LhKafka *kafka, rd_kafka_message_t *from, LhKafkaMessage *to)
{
	Topic	   *topic = NULL;

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
 * bound the rate by the size of the read-ahead.  Setting the credentials that
 * are set already wakes them and has no other effect.
 */
static void
wake_brokers(LhKafka *kafka)
{
	size_t		left = rd_kafka_queue_length(kafka->queue);

	if (left > AHEAD_MESSAGES / 2)
		kafka->drained = false;
	else if (!kafka->drained)
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
	wake_brokers(kafka);
	for (ssize_t i = 0; i < count; i++)
	{
		if (take_one(kafka, kafka->taken[i], &messages[taken]))
			taken++;
		else
			rd_kafka_message_destroy(kafka->taken[i]);
	}
	if (taken > 0 && (kafka->down || kafka->refused))
		heard_of_broker(kafka);
	return taken;
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
	topic_error(((rd_kafka_message_t *) message->handle)->err, error);
}

int64
lh_kafka_known_end(LhKafka *kafka, const char *topic, int32 partition)
{
	int64_t		low;
	int64_t		high;

	if (rd_kafka_get_watermark_offsets(kafka->rk, topic, partition, &low, &high) !=
		RD_KAFKA_RESP_ERR_NO_ERROR || high < 0)
		return -1;
	return high;
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

/*
 * lh_kafka_trouble tells what is wrong with the connection as a whole.
 */
const LhError *
lh_kafka_trouble(LhKafka *kafka, long *age)
{
	rd_kafka_poll(kafka->rk, 0);
	if (!kafka->down && !kafka->refused)
		return NULL;
	*age = TimestampDifferenceMilliseconds(kafka->since, GetCurrentTimestamp());
	connection_error(kafka, &kafka->trouble);
	return &kafka->trouble;
}

int
lh_kafka_headers(const LhKafkaMessage *message)
{
	rd_kafka_headers_t *headers;

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

	if (rd_kafka_message_headers(message->handle, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		rd_kafka_header_get_all(headers, i, name, &bytes, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	*value = bytes;
	*length = size;
	return true;
}
