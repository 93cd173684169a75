/*
 * kafka_produce.c
 *	  Sends JSON lines to a Kafka cluster: kafka_produce HOST:PORT [FILE] [--rate N]
 *
 * Prints the number of messages that the brokers acknowledged; ends with
 * status 1 if any was not.
 */
#include "produce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
main(int argc, char **argv)
{
	ProduceCounts counts = {0};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const char *servers = NULL;
	const char *path = "-";
	long		rate = 0;
	char		error[512];
	rd_kafka_t *rk;
	bool		good;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--rate") == 0 && i + 1 < argc)
			rate = strtol(argv[++i], NULL, 10);
		else if (servers == NULL)
			servers = argv[i];
		else
			path = argv[i];
	}
	if (servers == NULL)
	{
		fprintf(stderr, "usage: kafka_produce HOST:PORT [FILE] [--rate MESSAGES_PER_SECOND]\n");
		return 2;
	}
	produce_configure(conf, &counts);
	if (rd_kafka_conf_set(conf, "bootstrap.servers", servers, error, sizeof(error)) != RD_KAFKA_CONF_OK ||
		(rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error))) == NULL)
	{
		fprintf(stderr, "%s\n", error);
		return 2;
	}
	good = produce_file(rk, path, rate, &counts);
	if (!good)
		fprintf(stderr, "%ld of %ld messages were not delivered: %s\n",
				counts.sent - counts.delivered, counts.sent, counts.error);
	printf("%ld\n", counts.delivered);
	rd_kafka_destroy(rk);
	return good ? 0 : 1;
}
