/*
 * server.h
 *	  Servers: landing directories and Kafka clusters, as foreign servers.
 */
#ifndef LH_SERVER_H
#define LH_SERVER_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* One librdkafka property; elements of lh_server_kafka_properties. */
typedef struct LhKafkaProperty
{
	const char *name;
	const char *value;
} LhKafkaProperty;

/* true = Kafka cluster, false = landing directory; raises 42809 for a server
 * of any other foreign-data wrapper */
extern bool lh_server_is_kafka(Oid server);

/* raises 42501 unless the current user may use the server */
extern void lh_server_check_usage(Oid server);

/*
 * Directory of a lakehouse_files server, without trailing slash (except "/"),
 * in the current context.  Checks USAGE of the current user.
 */
extern char *lh_server_directory(Oid server);

/* raises 42809 unless the server is a Kafka cluster, 42501 unless the current
 * user may use it */
extern void lh_server_check_kafka(Oid server);

/* bytes that a message for a Kafka cluster may have, as its options say */
extern int64 lh_server_message_limit(Oid server);

/* the same without any check of privileges; NULL if there is none */
extern char *lh_server_directory_of(Oid server);

/*
 * Properties for a connection to a lakehouse_kafka server as "role": the
 * server's options and those of the role's user mapping (or PUBLIC's), a list
 * of LhKafkaProperty in the current context.  Checks USAGE of the current
 * user.  The list holds secrets: never put a value into a message.
 */
extern List *lh_server_kafka_properties(Oid server, Oid role);

/* The schema registry of a server; what is not given is NULL. */
typedef struct LhServerRegistry
{
	const char *url;
	const char *ca_pem;
	const char *username;
	const char *password;
} LhServerRegistry;

/* the same for the schema registry of the server; holds secrets, too */
extern void lh_server_registry(Oid server, Oid role, LhServerRegistry *result);

#endif							/* LH_SERVER_H */
