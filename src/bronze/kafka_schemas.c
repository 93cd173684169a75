/*
 * kafka_schemas.c
 *	  Schemas of the values that a Kafka ingest has read.
 *
 * Invariant: a worker asks the registry outside of any transaction, and no
 * message is written before its schema, or that there is none, is known.  So the
 * messages that wait are looked at before the batch that writes them.  Those that
 * a batch takes beyond them are held back where they need a question: the batch
 * ends without them, with the positions that were before, and they wait for the
 * next one.
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
	if (ingest->learning == 0)
	{
		lh_schema_registry_trim(ingest->registry);
		ingest->learning = started;
	}
	for (int i = 0; i < ingest->message_count; i++)
	{
		const LhKafkaMessage *message = &ingest->messages[i];

		if (lh_schema_registry_knows(ingest->registry, message->value, message->value_length, ingest->learning))
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
	ingest->learning = 0;
	return true;
}

bool
lh_kafka_schemas_known(const LhKafkaIngest *ingest)
{
	for (int i = 0; i < ingest->message_count && ingest->registry != NULL; i++)
	{
		const LhKafkaMessage *message = &ingest->messages[i];

		if (!lh_schema_registry_knows(ingest->registry, message->value, message->value_length, 0))
			return false;
	}
	return true;
}

/*
 * lh_kafka_schemas_mark remembers the slots before a batch takes more messages.
 */
void
lh_kafka_schemas_mark(LhKafkaIngest *ingest)
{
	Size		size = sizeof(LhKafkaSlot) * Max(ingest->count, 1);

	if (ingest->registry == NULL)
		return;
	ingest->held.before = palloc(size);
	memcpy(ingest->held.before, ingest->slots, size);
}

/*
 * lh_kafka_schemas_hold takes the messages that came since the mark out of the
 * batch, if there is one that needs a question.
 */
void
lh_kafka_schemas_hold(LhKafkaIngest *ingest)
{
	Size		size = sizeof(LhKafkaSlot) * Max(ingest->count, 1);
	LhKafkaHeld *held = &ingest->held;

	if (ingest->registry == NULL)
		return;
	if (lh_kafka_schemas_known(ingest))
	{
		pfree(held->before);
		return;
	}
	held->after = palloc(size);
	memcpy(held->after, ingest->slots, size);
	memcpy(ingest->slots, held->before, size);
	held->count = ingest->message_count;
	held->bytes = ingest->message_bytes;
	ingest->message_count = 0;
	ingest->message_bytes = 0;
}

/*
 * resume_slot gives a slot what taking messages had changed, which is all that
 * take_event and what it calls may change.
 */
static void
resume_slot(LhKafkaSlot *slot, const LhKafkaSlot *before, const LhKafkaSlot *after)
{
	slot->next = after->next;
	slot->end = Max(slot->end, after->end);
	slot->epoch = after->epoch;
	slot->records += after->records - before->records;
	slot->bytes += after->bytes - before->bytes;
	slot->heard = after->heard;
	slot->running = after->running;
	slot->stopped = after->stopped;
	slot->foreign = after->foreign;
	slot->at_end = after->at_end;
	slot->verify = after->verify;
	slot->news = after->news;
	slot->alarms = after->alarms;
	slot->stalls = after->stalls;
	slot->error = after->error;
	slot->changed |= after->changed;
}

/*
 * lh_kafka_schemas_resume puts the messages that were held back into memory as
 * if they had been taken only now, when the batch has saved its positions.
 */
void
lh_kafka_schemas_resume(LhKafkaIngest *ingest)
{
	LhKafkaHeld *held = &ingest->held;

	if (held->count == 0)
		return;
	for (int i = 0; i < ingest->count; i++)
	{
		resume_slot(&ingest->slots[i], &held->before[i], &held->after[i]);
		ingest->changed |= ingest->slots[i].changed;
	}
	ingest->message_count = held->count;
	ingest->message_bytes = held->bytes;
	held->count = 0;
}
