/*
 * kafka_client.c
 *	  The one place that talks to librdkafka.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "source/kafka_client.h"

bool
lh_kafka_check_property(const char *name, const char *value, char *message, Size size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, name, value, message, size);

	rd_kafka_conf_destroy(conf);
	return result == RD_KAFKA_CONF_OK;
}
