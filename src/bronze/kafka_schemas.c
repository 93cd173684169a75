/*
 * kafka_schemas.c
 *	  Schemas of the values that a Kafka ingest has read.
 *
 * Invariant: a worker asks the registry outside of any transaction, and no
 * message is written before its schema, or that there is none, is known.  So the
 * messages that wait are looked at before the batch that writes them.  Those that
 * a batch takes beyond them are given back where they need a question: after the
 * batch they are read again, and then they wait.  That happens once for a schema.
 *
 * While the registry does not answer, nothing is stored and nothing is rejected:
 * the messages are dropped from memory and the source fails, to be tried again.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "bronze/kafka_decode.h"
#include "bronze/kafka_internal.h"

/* a worker looks after other things when questions have taken so long */
#define LEARN_MS 500

void
lh_kafka_schemas_open(LhKafkaIngest *ingest)
{
	const LhSource *source = ingest->base.source;
	Jsonb	   *options;

	if (source->options == NULL)
		return;
	options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));
	ingest->registry = lh_kafka_decode_registry(options, source->server, source->owner);
}

/*
 * lh_kafka_schemas_learn asks for the schemas of the messages in memory; false if
 * time is over and there are more.
 */
bool
lh_kafka_schemas_learn(LhKafkaIngest *ingest)
{
	TimestampTz started = GetCurrentTimestamp();
	bool		asked = false;

	if (ingest->registry == NULL || ingest->reload)
		return true;
	if (!ingest->learning)
		lh_schema_registry_trim(ingest->registry);
	ingest->learning = true;
	for (int i = 0; i < ingest->message_count; i++)
	{
		const LhKafkaMessage *message = &ingest->messages[i];

		if (lh_schema_registry_knows(ingest->registry, message->value, message->value_length, true))
			continue;
		if (asked && ingest->continuous &&
			TimestampDifferenceExceeds(started, GetCurrentTimestamp(), LEARN_MS))
			return false;
		asked = true;
		if (!lh_schema_registry_ask(ingest->registry, message->value, message->value_length,
									&ingest->trouble))
		{
			/* what is in memory is read again when the registry is there again */
			ingest->reload = true;
			break;
		}
	}
	ingest->learning = false;
	return true;
}

LhKafkaSlot *
lh_kafka_schemas_before(const LhKafkaIngest *ingest)
{
	LhKafkaSlot *copy;

	if (ingest->registry == NULL)
		return NULL;
	copy = palloc(sizeof(LhKafkaSlot) * Max(ingest->count, 1));
	memcpy(copy, ingest->slots, sizeof(LhKafkaSlot) * ingest->count);
	return copy;
}

bool
lh_kafka_schemas_known(const LhKafkaIngest *ingest)
{
	for (int i = 0; i < ingest->message_count; i++)
	{
		const LhKafkaMessage *message = &ingest->messages[i];

		if (!lh_schema_registry_knows(ingest->registry, message->value, message->value_length, false))
			return false;
	}
	return true;
}
