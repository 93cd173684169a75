/*
 * kafka_client.c
 *	  A Kafka client of librdkafka: made, watched and closed.
 *
 * Partitions are read by explicit offset, without a consumer group: the broker
 * neither balances nor stores anything that we rely on.
 *
 * Invariants: only the backend's own thread calls into PostgreSQL.  librdkafka's
 * threads, which have all signals blocked, wake it through a pipe.  Its callbacks
 * (on_error, on_token and on_log here, lh_kafka_on_publish, lh_kafka_on_delivery)
 * run inside rd_kafka_poll, which we call, and do no more than copy text and set
 * flags: none allocates memory of PostgreSQL's, raises, or looks for interrupts,
 * since librdkafka's frames lie between.  A client never outlives its memory
 * context, and closing it takes a bounded time: what librdkafka has not ended by
 * then (a name look-up, for example) ends by itself in a thread of its own.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "source/kafka_client_internal.h"
#include "source/kafka_producer.h"
#include "source/server.h"

/* librdkafka before this one sends a nonce that Kafka 4 does not accept */
#define FIRST_STRICT_SCRAM 0x02060100

/* how long closing a client may hold up the backend */
#define CLOSE_LIMIT_MS 2000

/* a complaint about a connection explains a failure for this long */
#define REASON_LIMIT_MS 15000

/* what a twin asks of one partition at once: a batch of records comes whole */
#define TWIN_FETCH_BYTES "16384"

/* after this the token of OAUTHBEARER is given once more */
#define TOKEN_LIFETIME_MS 600000

/* What the closing thread and the backend share. */
typedef struct Closing
{
	LhKafka    *kafka;
	int			ended;			/* first to set it leaves the other to free */
} Closing;

static LhKafka *open_clients = NULL;

static LhKafka *open_client(List *properties, MemoryContext context, rd_kafka_type_t type);
static void start_client(LhKafka *kafka, rd_kafka_conf_t *conf, rd_kafka_type_t type,
						 MemoryContext context, MemoryContextCallback *callback);
static rd_kafka_conf_t *make_conf(List *properties, LhKafka *kafka, rd_kafka_type_t type);
static const char *set_own(rd_kafka_conf_t *conf, const char *const own[][2]);
static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque);
static void on_token(rd_kafka_t *rk, const char *config, void *opaque);
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text);
static void close_at_exit(int code, Datum arg);
static void close_at_reset(void *arg);
static void *run_closing(void *arg);
static void free_client(LhKafka *kafka);
static void copy_text(char *to, Size size, const char *from);

/*
 * check_token accepts what RFC 6750 says a bearer token looks like.
 */
static bool
check_token(const char *value)
{
	size_t		length = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/");

	return length > 0 && value[length + strspn(value + length, "=")] == '\0';
}

bool
lh_kafka_check_property(const char *name, const char *value, char *message, Size size)
{
	rd_kafka_conf_t *conf;
	char		text[512];
	rd_kafka_conf_res_t result;

	if (strcmp(name, LH_KAFKA_TOKEN) == 0)
		return check_token(value);
	conf = rd_kafka_conf_new();
	result = rd_kafka_conf_set(conf, name, value, text, sizeof(text));
	rd_kafka_conf_destroy(conf);
	if (result == RD_KAFKA_CONF_OK)
		return true;
	copy_text(message, size, text);
	return false;
}

/*
 * lh_kafka_open makes a client that reads; see the header.
 */
LhKafka *
lh_kafka_open(List *properties, MemoryContext context)
{
	return open_client(properties, context, RD_KAFKA_CONSUMER);
}

/*
 * lh_kafka_open_producer makes a client that sends; see kafka_producer.h.
 */
LhKafka *
lh_kafka_open_producer(List *properties, MemoryContext context)
{
	return open_client(properties, context, RD_KAFKA_PRODUCER);
}

/*
 * new_client makes what a client needs beside librdkafka's own.
 */
static LhKafka *
new_client(void)
{
	LhKafka    *kafka = calloc(1, sizeof(LhKafka));

	if (kafka == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (pipe2(kafka->wake, O_NONBLOCK | O_CLOEXEC) != 0)
	{
		free(kafka);
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create a pipe for the Kafka client: %m")));
	}
	kafka->answered_by = -1;
	kafka->ahead = LH_KAFKA_AHEAD;
	return kafka;
}

static LhKafka *
open_client(List *properties, MemoryContext context, rd_kafka_type_t type)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
	LhKafka    *kafka = new_client();

	start_client(kafka, make_conf(properties, kafka, type), type, context, callback);
	return kafka;
}

/*
 * copy_client makes the parts of a client like another one, but for librdkafka's,
 * of which it gives the configuration.
 */
static LhKafka *
copy_client(const LhKafka *kafka, rd_kafka_conf_t **conf)
{
	LhKafka    *copy = new_client();

	copy->username = kafka->username ? strdup(kafka->username) : NULL;
	copy->password = kafka->password ? strdup(kafka->password) : NULL;
	copy->token = kafka->token ? strdup(kafka->token) : NULL;
	*conf = rd_kafka_conf_dup(rd_kafka_conf(kafka->rk));
	rd_kafka_conf_set_opaque(*conf, copy);
	return copy;
}

/*
 * lh_kafka_twin makes a client like another one; see the header.
 */
LhKafka *
lh_kafka_twin(const LhKafka *kafka, MemoryContext context)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
	rd_kafka_conf_t *conf;
	LhKafka    *twin = copy_client(kafka, &conf);
	char		message[512];

	twin->twin = true;
	rd_kafka_conf_set(conf, "fetch.message.max.bytes", TWIN_FETCH_BYTES, message, sizeof(message));
	rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", message, sizeof(message));
	rd_kafka_conf_set(conf, "queued.min.messages", "1", message, sizeof(message));
	start_client(twin, conf, RD_KAFKA_CONSUMER, context, callback);
	return twin;
}

LhKafka *
lh_kafka_with_ahead(const LhKafka *kafka, int records, MemoryContext context)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
	rd_kafka_conf_t *conf;
	LhKafka    *copy = copy_client(kafka, &conf);
	char		number[16];
	char		message[512];

	copy->ahead = records;
	snprintf(number, sizeof(number), "%d", records);
	rd_kafka_conf_set(conf, "queued.min.messages", number, message, sizeof(message));
	start_client(copy, conf, RD_KAFKA_CONSUMER, context, callback);
	return copy;
}

int
lh_kafka_ahead(const LhKafka *kafka)
{
	return kafka->ahead;
}

/*
 * start_client makes librdkafka's part of a client from a configuration, which
 * it uses up, and sees to it that the client is closed with the context.
 */
static void
start_client(LhKafka *kafka, rd_kafka_conf_t *conf, rd_kafka_type_t type, MemoryContext context,
			 MemoryContextCallback *callback)
{
	static bool registered = false;
	char		message[512];

	kafka->rk = rd_kafka_new(type, conf, message, sizeof(message));
	if (kafka->rk == NULL)
	{
		char		text[320];

		rd_kafka_conf_destroy(conf);
		free_client(kafka);
		copy_text(text, sizeof(text), message);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not create a Kafka client: %s", text),
				 errhint("Check the options of the server and of the user mapping.")));
	}
	rd_kafka_set_log_queue(kafka->rk, NULL);
	kafka->main_queue = rd_kafka_queue_get_main(kafka->rk);
	rd_kafka_queue_io_event_enable(kafka->main_queue, kafka->wake[1], "m", 1);
	lh_kafka_make_queue(kafka);

	if (!registered)
		before_shmem_exit(close_at_exit, (Datum) 0);
	registered = true;
	kafka->next = open_clients;
	open_clients = kafka;
	callback->func = close_at_reset;
	callback->arg = kafka;
	kafka->callback = callback;
	MemoryContextRegisterResetCallback(context, callback);
}

/* what we set ourselves, whatever the user says; the last entry is empty */
static const char *const own_settings[][2] = {
	{"allow.auto.create.topics", "false"},
	{"topic.metadata.refresh.interval.ms", "30000"},
	{"log.queue", "true"},
	{"log_level", "4"},
	{NULL, NULL}
};

static const char *const consumer_settings[][2] = {
	{"enable.auto.commit", "false"},
	{"enable.auto.offset.store", "false"},
	{"isolation.level", "read_committed"},
	{"enable.partition.eof", "true"},
	{"check.crcs", "true"},
	/* on_log hears of leaders that change from nowhere else */
	{"debug", "topic"},
	{"queued.min.messages", CppAsString2(LH_KAFKA_AHEAD)},
	{"auto.offset.reset", "error"},
	{"auto.commit.enable", "false"},
	{NULL, NULL}
};

/*
 * The partition of a key is the one that Java's clients choose.  One request at a
 * time to each broker: it takes up the next one of a connection only after it
 * answered the one before, which may wait for a replica that is down, and it
 * does so even if the client is dead by then and another one has long sent the
 * same messages and later ones.
 */
static const char *const producer_settings[][2] = {
	{"enable.idempotence", "true"},
	{"max.in.flight.requests.per.connection", "1"},
	{"partitioner", "murmur2_random"},
	{"message.timeout.ms", "60000"},
	{NULL, NULL}
};

/*
 * set_own returns the name of a setting that librdkafka refuses, or NULL.  Those
 * of topics go to the default for topics.
 */
static const char *
set_own(rd_kafka_conf_t *conf, const char *const own[][2])
{
	char		message[512];

	for (int i = 0; own[i][0] != NULL; i++)
	{
		if (rd_kafka_conf_set(conf, own[i][0], own[i][1],
							  message, sizeof(message)) != RD_KAFKA_CONF_OK)
			return own[i][0];
	}
	return NULL;
}

/*
 * make_conf sets the user's properties, then ours, which win.  Raises before
 * anything but the configuration and the pipe exists.
 */
static rd_kafka_conf_t *
make_conf(List *properties, LhKafka *kafka, rd_kafka_type_t type)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const char *failed = NULL;
	char		message[512];
	char		number[16];
	ListCell   *cell;

	/* the default would run kinit if the protocol were a SASL one */
	rd_kafka_conf_set(conf, "sasl.mechanism", "PLAIN", message, sizeof(message));
	rd_kafka_conf_set(conf, "client.id", "lakehouse", message, sizeof(message));
	/* a smaller answer keeps the memory for read-ahead near its bound; it must hold
	 * the largest message that is taken anyhow */
	snprintf(number, sizeof(number), "%d", Min(lh_kafka_read_ahead, LH_KAFKA_ANSWER_KB) * 1024);
	rd_kafka_conf_set(conf, "fetch.max.bytes", number, message, sizeof(message));
	foreach(cell, properties)
	{
		const LhKafkaProperty *property = lfirst(cell);

		if (strcmp(property->name, LH_KAFKA_TOKEN) == 0)
		{
			/* ours, not librdkafka's */
			kafka->token = strdup(property->value);
			continue;
		}
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
	if (failed == NULL)
		failed = set_own(conf, own_settings);
	if (failed == NULL)
		failed = set_own(conf, type == RD_KAFKA_CONSUMER ? consumer_settings : producer_settings);
	snprintf(number, sizeof(number), "%d", lh_kafka_read_ahead);
	rd_kafka_conf_set(conf, "queued.max.messages.kbytes", number, message, sizeof(message));
	if (type == RD_KAFKA_PRODUCER)
		rd_kafka_conf_set_dr_msg_cb(conf, lh_kafka_on_delivery);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_log_cb(conf, on_log);
	rd_kafka_conf_set_offset_commit_cb(conf, lh_kafka_on_publish);
	rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, on_token);
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
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
			/* of the group that is told positions: nothing that reading needs */
			kafka->publish_error = err;
			kafka->publish_answered = true;
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
	/* whoever answers next may have another log */
	kafka->doubt = true;
	if (was_well && (kafka->down || kafka->refused))
		kafka->since = GetCurrentTimestamp();
}

/*
 * on_token gives librdkafka the token of the user mapping.  It asks again before
 * the time given here is over; whether the token is still good the brokers know.
 */
static void
on_token(rd_kafka_t *rk, const char *config, void *opaque)
{
	LhKafka    *kafka = opaque;
	int64		now_ms = (GetCurrentTimestamp() / 1000) +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
	char		message[512];

	if (kafka->token == NULL)
		rd_kafka_oauthbearer_set_token_failure(rk, "the user mapping has no \"" LH_KAFKA_TOKEN "\"");
	else if (rd_kafka_oauthbearer_set_token(rk, kafka->token, now_ms + TOKEN_LIFETIME_MS, "lakehouse", NULL, 0,
											message, sizeof(message)) != RD_KAFKA_RESP_ERR_NO_ERROR)
		/* the message may quote the token */
		rd_kafka_oauthbearer_set_token_failure(rk, "librdkafka refuses the token of the user mapping");
}

static void
on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	LhKafka    *kafka = rd_kafka_opaque(rk);

	/* a fetch was refused: another broker leads, or another topic has the name */
	if (strcmp(facility, "BROKERUA") == 0 || strcmp(facility, "LEADERUA") == 0)
		kafka->doubt = true;
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

void
lh_kafka_make_queue(LhKafka *kafka)
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

	if (rd_kafka_type(kafka->rk) == RD_KAFKA_PRODUCER)
		rd_kafka_purge(kafka->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
					   RD_KAFKA_PURGE_F_NON_BLOCKING);
	for (int t = 0; t < kafka->topic_count; t++)
	{
		LhKafkaTopic *topic = kafka->topics[t];

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
free_secret(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

static void
free_client(LhKafka *kafka)
{
	close(kafka->wake[0]);
	close(kafka->wake[1]);
	free(kafka->topics);
	free(kafka->taken);
	lh_kafka_forget_sending(kafka);
	free(kafka->username);
	free_secret(kafka->password);
	free_secret(kafka->token);
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

LhKafkaTopic *
lh_kafka_find_topic(LhKafka *kafka, const char *name)
{
	LhKafkaTopic	   *topic;
	LhKafkaTopic	  **grown;

	for (int t = 0; t < kafka->topic_count; t++)
	{
		if (strcmp(kafka->topics[t]->name, name) == 0)
			return kafka->topics[t];
	}
	grown = realloc(kafka->topics, sizeof(LhKafkaTopic *) * (kafka->topic_count + 1));
	topic = calloc(1, sizeof(LhKafkaTopic));
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
 * connection_error says why no broker answered.
 */
void
lh_kafka_connection_error(LhKafka *kafka, LhError *error)
{
	if (kafka->refused)
		lh_error_set(error, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
					 "Kafka cluster refuses the connection: %s%s", kafka->reason,
					 strstr(kafka->reason, "SCRAM") != NULL && rd_kafka_version() < FIRST_STRICT_SCRAM
					 ? " (for SCRAM, brokers of Kafka 4 need librdkafka 2.6.1 or newer here)" : "");
	else if (!TimestampDifferenceExceeds(kafka->reason_since, GetCurrentTimestamp(), REASON_LIMIT_MS))
		lh_error_set(error, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					 "could not reach the Kafka cluster: %s", kafka->reason);
	else
		lh_error_set(error, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					 "could not reach the Kafka cluster: no broker answered in time");
}

void
lh_kafka_topic_error(rd_kafka_resp_err_t err, LhError *error)
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

void
lh_kafka_heard(LhKafka *kafka)
{
	kafka->down = kafka->refused = false;
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
	lh_kafka_connection_error(kafka, &kafka->trouble);
	return &kafka->trouble;
}
