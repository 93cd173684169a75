/*
 * kafka_client.h
 *	  The one place that talks to librdkafka.
 */
#ifndef LH_KAFKA_CLIENT_H
#define LH_KAFKA_CLIENT_H

#include "postgres.h"

/*
 * lh_kafka_check_property asks librdkafka whether it takes a value for a
 * property; false with its reason in message.  The reason may quote the value.
 */
extern bool lh_kafka_check_property(const char *name, const char *value,
									char *message, Size size);

#endif							/* LH_KAFKA_CLIENT_H */
