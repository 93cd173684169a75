/*
 * mock_broker.c
 *	  A Kafka cluster for the demo and the tests: librdkafka's mock brokers.
 *
 *	  mock_broker --topics user_info:4,bpm:8 [--brokers N] [--bootstrap-file F]
 *				  [--control FIFO] [--keep]
 *
 * Listens on loopback, on ports that the system chooses, and prints them as
 * HOST:PORT[,HOST:PORT].  Ends on SIGTERM and SIGINT and, unless --keep is
 * given, when standard input ends or its parent does.  Commands come on
 * standard input, or on the FIFO that --control makes; each is answered by one
 * line on standard output, "ok ..." or "error ...":
 *
 *	  produce JSON				one message (see produce.h)
 *	  file PATH [RATE]			every line of a file
 *	  fill TOPIC PARTITIONS COUNT SIZE
 *								made-up messages, evenly over the partitions
 *	  topic NAME:PARTITIONS		a further topic
 *	  down, up					all brokers
 *	  fail TOPIC CODE			requests for the topic answer with this Kafka
 *								error code (3 = unknown topic, 29 = not
 *								authorized); 0 ends it
 *	  refuse CODE CODE			the next two requests to store messages answer
 *								with these Kafka error codes (0 = none)
 *	  rtt MILLISECONDS			delay of every answer
 *	  committed GROUP TOPIC PARTITION
 *								answers with the offset that the group was told
 *
 * Messages wait in memory: about 5 MB or 100,000 in each partition, of which
 * the oldest are dropped first.  No transactions.
 */
#include "produce.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <librdkafka/rdkafka_mock.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Cluster
{
	rd_kafka_t *rk;
	rd_kafka_mock_cluster_t *mock;
	int			brokers;
	ProduceCounts counts;
} Cluster;

static volatile sig_atomic_t stopping = 0;

static void
on_signal(int number)
{
	(void) number;
	stopping = 1;
}

static void
fail(const char *text)
{
	fprintf(stderr, "mock_broker: %s\n", text);
	exit(2);
}

static bool
create_topic(Cluster *cluster, char *definition)
{
	char	   *colon = strrchr(definition, ':');
	long		partitions = 1;

	if (colon != NULL)
	{
		*colon = '\0';
		partitions = strtol(colon + 1, NULL, 10);
	}
	return partitions > 0 &&
		rd_kafka_mock_topic_create(cluster->mock, definition, (int) partitions, 1) ==
		RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void
start(Cluster *cluster, char *topics)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[512];
	char		number[16];

	produce_configure(conf, &cluster->counts);
	snprintf(number, sizeof(number), "%d", cluster->brokers);
	if (rd_kafka_conf_set(conf, "test.mock.num.brokers", number, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		fail(error);
	cluster->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (cluster->rk == NULL)
		fail(error);
	cluster->mock = rd_kafka_handle_mock_cluster(cluster->rk);
	for (char *topic = strtok(topics, ","); topic != NULL; topic = strtok(NULL, ","))
	{
		if (!create_topic(cluster, topic))
			fail("could not create a topic of --topics");
	}
}

/*
 * announce prints the bootstrap servers, and writes them to a file that
 * appears complete.
 */
static void
announce(const Cluster *cluster, const char *path)
{
	const char *servers = rd_kafka_mock_cluster_bootstraps(cluster->mock);
	char		temporary[4096];
	FILE	   *file;

	printf("%s\n", servers);
	fflush(stdout);
	if (path == NULL)
		return;
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	file = fopen(temporary, "w");
	if (file == NULL || fprintf(file, "%s\n", servers) < 0 || fclose(file) != 0 ||
		rename(temporary, path) != 0)
		fail("could not write the bootstrap file");
}

static bool
set_brokers(Cluster *cluster, bool up)
{
	for (int id = 1; id <= cluster->brokers; id++)
	{
		rd_kafka_resp_err_t err = up ? rd_kafka_mock_broker_set_up(cluster->mock, id)
			: rd_kafka_mock_broker_set_down(cluster->mock, id);

		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return false;
	}
	return true;
}

static bool
set_rtt(Cluster *cluster, const char *text)
{
	for (int id = 1; id <= cluster->brokers; id++)
	{
		if (rd_kafka_mock_broker_set_rtt(cluster->mock, id, atoi(text)) != RD_KAFKA_RESP_ERR_NO_ERROR)
			return false;
	}
	return true;
}

/*
 * read_committed asks for the position of a consumer group, as any other client
 * would.
 */
static bool
read_committed(Cluster *cluster, const char *text, int64_t *offset)
{
	char		group[250];
	char		topic[250];
	int			partition;
	char		error[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_t *rk;
	bool		good;

	if (sscanf(text, "%249s %249s %d", group, topic, &partition) != 3 ||
		rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster->mock),
						  error, sizeof(error)) != RD_KAFKA_CONF_OK ||
		rd_kafka_conf_set(conf, "group.id", group, error, sizeof(error)) != RD_KAFKA_CONF_OK)
	{
		rd_kafka_conf_destroy(conf);
		return false;
	}
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (rk == NULL)
		fail(error);
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, partition);
	good = rd_kafka_committed(rk, list, 10000) == RD_KAFKA_RESP_ERR_NO_ERROR;
	*offset = list->elems[0].offset;
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_destroy(rk);
	return good;
}

/*
 * run_command carries out one line and answers it.
 */
static void
run_command(Cluster *cluster, char *line)
{
	ProduceCounts *counts = &cluster->counts;
	long		before = counts->delivered;
	char	   *verb = line;
	char	   *rest = line + strcspn(line, " ");
	bool		good = false;

	counts->failed = 0;
	snprintf(counts->error, sizeof(counts->error), "command failed");
	if (*rest != '\0')
		*rest++ = '\0';
	if (strcmp(verb, "produce") == 0)
		good = produce_line(cluster->rk, rest, counts) && produce_flush(cluster->rk, counts);
	else if (strcmp(verb, "file") == 0)
	{
		char	   *rate = rest + strcspn(rest, " ");

		if (*rate != '\0')
			*rate++ = '\0';
		good = produce_file(cluster->rk, rest, strtol(rate, NULL, 10), counts);
	}
	else if (strcmp(verb, "fill") == 0)
	{
		char		topic[250];
		int			partitions;
		long		count;
		int			size;

		good = sscanf(rest, "%249s %d %ld %d", topic, &partitions, &count, &size) == 4 &&
			partitions > 0 && size >= 0 &&
			produce_fill(cluster->rk, topic, partitions, count, size, counts);
	}
	else if (strcmp(verb, "topic") == 0)
		good = create_topic(cluster, rest);
	else if (strcmp(verb, "down") == 0 || strcmp(verb, "up") == 0)
		good = set_brokers(cluster, verb[0] == 'u');
	else if (strcmp(verb, "fail") == 0)
	{
		char		topic[250];
		int			code;

		good = sscanf(rest, "%249s %d", topic, &code) == 2;
		if (good)
			rd_kafka_mock_topic_set_error(cluster->mock, topic, (rd_kafka_resp_err_t) code);
	}
	else if (strcmp(verb, "refuse") == 0)
	{
		int			first;
		int			second;

		/* 0 is the request Produce */
		good = sscanf(rest, "%d %d", &first, &second) == 2;
		if (good)
			rd_kafka_mock_push_request_errors(cluster->mock, 0, 2,
											  (rd_kafka_resp_err_t) first, (rd_kafka_resp_err_t) second);
	}
	else if (strcmp(verb, "rtt") == 0)
		good = set_rtt(cluster, rest);
	else if (strcmp(verb, "committed") == 0)
	{
		int64_t		offset;

		good = read_committed(cluster, rest, &offset);
		if (good)
		{
			printf("ok %" PRId64 "\n", offset);
			fflush(stdout);
			return;
		}
	}
	else
		snprintf(counts->error, sizeof(counts->error), "unknown command");

	if (good)
		printf("ok %ld\n", counts->delivered - before);
	else
		printf("error %s\n", counts->error);
	fflush(stdout);
}

/*
 * serve reads commands until it is told to stop, or the input ends.
 */
static void
serve(Cluster *cluster, int input, bool keep)
{
	size_t		size = 1 << 16;
	size_t		used = 0;
	char	   *buffer = malloc(size);

	while (!stopping)
	{
		struct pollfd waiting = {.fd = input, .events = POLLIN};
		ssize_t		count;
		char	   *end;

		rd_kafka_poll(cluster->rk, 0);
		if (poll(&waiting, 1, 200) <= 0)
			continue;
		if (used + 1 >= size)
			buffer = realloc(buffer, size *= 2);
		count = read(input, buffer + used, size - used - 1);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
		{
			if (!keep)
				break;
			input = -1;			/* poll() ignores it from now on */
			continue;
		}
		used += (size_t) count;
		while ((end = memchr(buffer, '\n', used)) != NULL)
		{
			*end = '\0';
			if (buffer[0] != '\0')
				run_command(cluster, buffer);
			used -= (size_t) (end + 1 - buffer);
			memmove(buffer, end + 1, used);
		}
	}
	free(buffer);
}

int
main(int argc, char **argv)
{
	Cluster		cluster = {.brokers = 1};
	const char *bootstrap_file = NULL;
	const char *control = NULL;
	char		none[] = "";
	char	   *topics = none;
	bool		keep = false;
	int			input = STDIN_FILENO;
	pid_t		parent = getppid();
	struct sigaction action = {.sa_handler = on_signal};

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--keep") == 0)
			keep = true;
		else if (value == NULL)
			fail("usage: mock_broker --topics name:partitions,... [--brokers N] [--bootstrap-file F] [--control FIFO] [--keep]");
		else if (strcmp(argv[i], "--topics") == 0)
			topics = argv[++i];
		else if (strcmp(argv[i], "--brokers") == 0)
			cluster.brokers = atoi(argv[++i]);
		else if (strcmp(argv[i], "--bootstrap-file") == 0)
			bootstrap_file = argv[++i];
		else if (strcmp(argv[i], "--control") == 0)
			control = argv[++i];
		else
			fail("unknown option");
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!keep)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			return 0;
	}
	if (control != NULL)
	{
		if (mkfifo(control, 0600) != 0 && errno != EEXIST)
			fail("could not make the control FIFO");
		/* open for both, so that it does not end with its first writer */
		input = open(control, O_RDWR);
		if (input < 0)
			fail("could not open the control FIFO");
	}
	start(&cluster, topics);
	announce(&cluster, bootstrap_file);
	serve(&cluster, input, keep);
	rd_kafka_destroy(cluster.rk);
	return 0;
}
