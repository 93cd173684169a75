/*
 * kafka_headers.h
 *	  Headers of a Kafka message as JSON, and back.
 */
#ifndef LH_KAFKA_HEADERS_H
#define LH_KAFKA_HEADERS_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "source/kafka_client.h"

/*
 * Appends the headers, of which there are some, as an array of objects in UTF-8:
 * a value that is text as "value", another one as "value_base64".  False with
 * *error if a name is no text.
 */
extern bool lh_kafka_headers_write(const LhKafkaMessage *message, StringInfo text, LhError *error);

/* bytes of all names and values */
extern Size lh_kafka_headers_size(const LhKafkaMessage *message);

/*
 * The same in the server's encoding, in a form that takes any headers: a name
 * that is no text stands as "key_base64", and what that encoding may lack counts
 * as no text.  NULL if there are none; in the current context.
 */
extern char *lh_kafka_headers_keep(const LhKafkaMessage *message);

/* gives a message without a handle the headers that were kept (NULL = none), in
 * the current context */
extern void lh_kafka_headers_restore(Jsonb *kept, LhKafkaMessage *message);

#endif							/* LH_KAFKA_HEADERS_H */
