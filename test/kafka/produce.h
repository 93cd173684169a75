/*
 * produce.h
 *	  JSON lines to Kafka messages, for the test broker and kafka_produce.
 */
#ifndef PRODUCE_H
#define PRODUCE_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct ProduceCounts
{
	long		sent;			/* handed to librdkafka */
	long		delivered;		/* acknowledged by the broker */
	long		failed;
	char		error[512];		/* of the last failure */
} ProduceCounts;

/* settings of a producer that keeps the order of each partition */
extern void produce_configure(rd_kafka_conf_t *conf, ProduceCounts *counts);

/*
 * Sends one line: {"topic": "t", "partition": 0, "key": "k", "value": "v",
 * "timestamp": 1600000000000, "headers": [{"key": "h", "value": "x"}]}.
 * "key" and "value" may be null or absent (a message without it), text, or any
 * other JSON value (sent as its JSON text); "key_hex" and "value_hex" give
 * bytes.  Other members, for example "offset", are passed over.  The line is
 * changed in place.  False with counts->error if it is no such line.
 */
extern bool produce_line(rd_kafka_t *rk, char *line, ProduceCounts *counts);

/* sends every line of a file ("-" = standard input), at most "rate" a second
 * (0 = as fast as it goes), and waits for their delivery */
extern bool produce_file(rd_kafka_t *rk, const char *path, long rate, ProduceCounts *counts);

/* sends "count" made-up messages of "size" bytes, evenly over the partitions */
extern bool produce_fill(rd_kafka_t *rk, const char *topic, int partitions,
						 long count, int size, ProduceCounts *counts);

extern bool produce_flush(rd_kafka_t *rk, ProduceCounts *counts);

#endif							/* PRODUCE_H */
