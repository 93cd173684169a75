/*
 * kafka_connection.c
 *	  How a Kafka source is connected, and when its connection counts as lost.
 *
 * Invariants: no partition can take all of a broker's answers.  A cluster that
 * says nothing is asked whether it is there, within the 10 seconds that we promise.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "bronze/kafka_internal.h"
#include "guc.h"
#include "source/server.h"

/* a lost connection is an error after this long: brokers restart */
#define DOWN_LIMIT_MS 3000

/* a run that hears nothing for this long looks at the cluster again */
#define SILENCE_LIMIT_MS 5000

/* a worker that hears nothing for this long asks whether anybody is there, and
 * waits for an answer until it has heard nothing for the second one: together less
 * than the 10 seconds that we promise */
#define IDLE_LIMIT_MS 4000
#define SILENT_LIMIT_MS 8000

/* a look in passing may have waited before, but an answer takes its time */
#define LEAST_WAIT_MS 1500

/* bytes that one partition may have of an answer */
#define LEAST_PART (16 * 1024)
#define MOST_PART (1024 * 1024)

/* librdkafka takes no larger answers */
#define MOST_ANSWER (1000 * 1024 * 1024)

static List *
add_property(List *properties, const char *name, const char *value)
{
	LhKafkaProperty *property = palloc(sizeof(LhKafkaProperty));

	property->name = name;
	property->value = value;
	return lappend(properties, property);
}

/*
 * share_answers gives each partition its part of an answer of a broker.  A
 * broker fills it in the order of the request, which is always the same, so
 * partitions with a backlog would leave no room for those that come behind.  One
 * whose next record is larger gets more by itself.
 */
static List *
share_answers(List *properties, int partitions)
{
	int64		answer = (int64) Min(lh_kafka_read_ahead, LH_KAFKA_ANSWER_KB) * 1024;
	int64		part;
	bool		bounded = false;
	ListCell   *cell;

	foreach(cell, properties)
	{
		const LhKafkaProperty *property = lfirst(cell);

		if (strcmp(property->name, "max.partition.fetch.bytes") == 0)
			return properties;
		if (strcmp(property->name, "fetch.max.bytes") == 0)
		{
			answer = strtoll(property->value, NULL, 10);
			bounded = true;
		}
	}
	part = answer / Max(partitions, 1);
	part = Max(LEAST_PART, Min(part, MOST_PART));
	properties = add_property(properties, "max.partition.fetch.bytes", psprintf(INT64_FORMAT, part));
	if (!bounded && part * partitions > answer)
		properties = add_property(properties, "fetch.max.bytes",
								  psprintf(INT64_FORMAT, Min(part * partitions, MOST_ANSWER)));
	return properties;
}

/*
 * lh_kafka_client_properties returns the properties of the connection.  A bounded run has
 * no group: it may only publish what is committed, and it ends before that.
 */
List *
lh_kafka_client_properties(const LhKafkaIngest *ingest)
{
	const LhSource *source = ingest->base.source;
	List	   *properties = lh_server_kafka_properties(source->server, source->owner);

	properties = share_answers(properties, ingest->count);
	if (ingest->options.publish_group != NULL && ingest->continuous)
		properties = add_property(properties, "group.id", ingest->options.publish_group);
	return properties;
}

/*
 * lh_kafka_check_connection turns silence or a lost connection into ingest->trouble.
 */
void
lh_kafka_check_connection(LhKafkaIngest *ingest, TimestampTz now)
{
	const LhError *trouble;
	LhError		error;
	long		age;
	bool		silent = !ingest->continuous &&
		TimestampDifferenceExceeds(ingest->heard, now, SILENCE_LIMIT_MS);

	trouble = lh_kafka_trouble(ingest->kafka, &age);
	if (trouble == NULL && ingest->continuous &&
		TimestampDifferenceExceeds(ingest->heard, now, IDLE_LIMIT_MS))
	{
		long		since = TimestampDifferenceMilliseconds(ingest->heard, now);
		int			wait = Max(SILENT_LIMIT_MS - since, LEAST_WAIT_MS);

		if (lh_kafka_ping(ingest->kafka, wait, &error))
			ingest->heard = GetCurrentTimestamp();
		else
			ingest->trouble = error;
		return;
	}
	if (trouble == NULL && !silent)
		return;
	if (trouble != NULL && trouble->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
		ingest->trouble = *trouble;
	else if (silent || age > DOWN_LIMIT_MS)
	{
		/* an answer also ends what librdkafka last complained of */
		if (!lh_kafka_ping(ingest->kafka, 1500, &error) &&
			error.sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
			ingest->trouble = error;
		else if (silent)
		{
			/* start afresh, without those for which that did not help */
			for (int i = 0; i < ingest->count; i++)
			{
				if (ingest->slots[i].running)
					lh_kafka_slot_count_stall(ingest, &ingest->slots[i]);
			}
			ingest->reading = false;
			ingest->heard = GetCurrentTimestamp();
		}
	}
}
