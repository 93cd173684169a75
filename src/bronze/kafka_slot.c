/*
 * kafka_slot.c
 *	  What becomes of one partition: read, stopped with a reason, or moved past
 *	  records that are lost.
 *
 * Invariant: a position moves past records that were not read only where the
 * source's policy says "skip", and then the range is written down by the
 * transaction that moves it.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "bronze/kafka_internal.h"

bool
lh_kafka_is_shared(const LhKafkaIngest *ingest)
{
	/* more than one bit */
	return (ingest->share.alive & (ingest->share.alive - 1)) != 0;
}

bool
lh_kafka_owns(const LhKafkaIngest *ingest, const char *topic, int32 partition)
{
	return !lh_kafka_is_shared(ingest) ||
		lh_kafka_share_owner(ingest->shares, ingest->share_count, ingest->share.alive,
							 topic, partition) == ingest->share.worker;
}

/*
 * lh_kafka_slot_count_stall stops a partition that has records and gives none,
 * for example because one is larger than the client takes.  While there is
 * enough read ahead nothing is asked for, which is no stall.
 */
void
lh_kafka_slot_count_stall(LhKafkaIngest *ingest, LhKafkaSlot *slot)
{
	if (slot->next != slot->seen || slot->next >= slot->end)
		slot->stalls = 0;
	else if (!ingest->drained)
		return;
	else if (++slot->stalls >= LH_KAFKA_STALL_LIMIT)
		lh_kafka_slot_stop(ingest, slot, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  "partition %d of topic \"%s\" gives no record from offset " INT64_FORMAT " although it ends at " INT64_FORMAT,
				  slot->partition, slot->topic, slot->next, slot->end);
	slot->seen = slot->next;
}

/*
 * stop_slot stops one partition with a reason, which is news once.
 */
static void
stop_slot(LhKafkaIngest *ingest, LhKafkaSlot *slot, const LhError *error)
{
	if (slot->running)
		lh_kafka_stop(ingest->kafka, slot->topic, slot->partition);
	slot->running = slot->verify = slot->at_end = false;
	slot->stopped = true;
	if (slot->error.sqlstate == error->sqlstate && strcmp(slot->error.message, error->message) == 0)
		return;
	slot->error = *error;
	slot->news = true;
	slot->changed = ingest->changed = true;
}

void
lh_kafka_slot_stop(LhKafkaIngest *ingest, LhKafkaSlot *slot, int sqlstate, const char *format,...)
{
	LhError		error;
	va_list		args;

	error.sqlstate = sqlstate;
	va_start(args, format);
	vsnprintf(error.message, sizeof(error.message), format, args);
	va_end(args);
	stop_slot(ingest, slot, &error);
}

/*
 * lh_kafka_slot_lose follows the policy; see the header.  Records of the
 * partition that are in memory must be written first.
 */
void
lh_kafka_slot_lose(LhKafkaIngest *ingest, LhKafkaSlot *slot, const char *reason,
				   int64 first, int64 next, int64 resumed, const char *format,...)
{
	LhError		error;
	va_list		args;

	error.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	va_start(args, format);
	vsnprintf(error.message, sizeof(error.message), format, args);
	va_end(args);
	slot->foreign = slot->late = false;
	if (ingest->options.on_data_loss == LH_ON_DATA_LOSS_SKIP)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(ingest->slot_context);
		LhKafkaLoss *loss = palloc(sizeof(LhKafkaLoss));

		*loss = (LhKafkaLoss) {slot->topic, slot->partition, first, next, resumed, reason};
		ingest->losses = lappend(ingest->losses, loss);
		MemoryContextSwitchTo(oldcontext);
		if (slot->running)
			ingest->reading = false;
		slot->next = resumed;
		slot->last_offset = slot->anchor_offset = slot->epoch = -1;
		strlcpy(slot->topic_id, slot->other_id, LH_KAFKA_ID_SIZE);
		slot->other_id[0] = '\0';
		slot->stopped = slot->at_end = false;
		slot->error.sqlstate = 0;
		slot->changed = ingest->changed = true;
		return;
	}
	stop_slot(ingest, slot, &error);
	slot->held = ingest->options.on_data_loss == LH_ON_DATA_LOSS_STOP;
}

/*
 * lh_kafka_slot_is_well forgets why a partition was stopped once it gives
 * records again, or has none to give.
 */
void
lh_kafka_slot_is_well(LhKafkaIngest *ingest, LhKafkaSlot *slot)
{
	slot->alarms = slot->stalls = 0;
	if (slot->error.sqlstate == 0)
		return;
	slot->error.sqlstate = 0;
	slot->changed = ingest->changed = true;
}
