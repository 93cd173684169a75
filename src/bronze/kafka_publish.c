/*
 * kafka_publish.c
 *	  Positions told to a consumer group, for tools that show how far readers are.
 *
 * Invariant: only committed positions are told, and nothing depends on whether
 * the cluster takes them: where reading goes on stands in lakehouse.kafka_offset.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/kafka_internal.h"

/* positions are told at most so often */
#define PUBLISH_INTERVAL_MS 1000

/* how long the end of a worker may wait for the group's answer */
#define CLOSE_WAIT_MS 500

/*
 * hear_answer remembers what the cluster said to the positions told last.
 */
static void
hear_answer(LhKafkaIngest *ingest)
{
	LhError		error;

	if (!lh_kafka_publish_answer(ingest->kafka, &error))
		return;
	if (error.sqlstate == 0 && ingest->publish_error == NULL)
		return;
	if (error.sqlstate != 0 && ingest->publish_error != NULL &&
		strcmp(error.message, ingest->publish_error) == 0)
		return;
	if (ingest->publish_error != NULL)
		pfree(ingest->publish_error);
	ingest->publish_error = error.sqlstate == 0 ? NULL
		: MemoryContextStrdup(ingest->base.context, error.message);
	ingest->publish_changed = ingest->changed = true;
}

/*
 * lh_kafka_publish_positions tells positions that are new; to be called when
 * what was saved is committed.
 */
void
lh_kafka_publish_positions(LhKafkaIngest *ingest, bool closing)
{
	TimestampTz now;
	LhKafkaQuestion *positions;
	int			count = 0;

	if (ingest->options.publish_group == NULL || !ingest->continuous || ingest->reload)
		return;
	now = GetCurrentTimestamp();
	hear_answer(ingest);
	if (!closing && !TimestampDifferenceExceeds(ingest->published, now, PUBLISH_INTERVAL_MS))
		return;
	positions = palloc(sizeof(LhKafkaQuestion) * Max(ingest->count, 1));
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		if (slot->saved < 0 || slot->saved == slot->published)
			continue;
		positions[count++] = (LhKafkaQuestion) {slot->topic, slot->partition, slot->saved};
		slot->published = slot->saved;
	}
	if (count > 0)
	{
		lh_kafka_publish(ingest->kafka, positions, count, closing ? CLOSE_WAIT_MS : 0);
		ingest->published = now;
	}
	pfree(positions);
}
