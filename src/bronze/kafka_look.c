/*
 * kafka_look.c
 *	  Which partitions a Kafka source has, which offsets they hold, and which of
 *	  them can be read.
 *
 * Invariant: a partition is started only where every record from its position
 * on is still there; otherwise it is stopped with the reason, and the position
 * stays.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/kafka_internal.h"

/* a cluster that does not answer is an error after this long */
#define ANSWER_LIMIT_MS 8000

/* how often a good offset may be refused before the partition is stopped */
#define ALARM_LIMIT 3

/* looks without a record of a partition that has some before it is stopped */
#define STALL_LIMIT 3

static bool look_at_topics(LhKafkaIngest *ingest);
static bool look_at_ranges(LhKafkaIngest *ingest);
static void check_range(LhKafkaIngest *ingest, LhKafkaSlot *slot, int64 low, int64 end);
static void start_partitions(LhKafkaIngest *ingest);

/*
 * lh_kafka_look learns partitions and ranges and starts what is not running.
 * Where it must begin and cannot, ingest->trouble says why; a look in passing
 * that fails is repeated later, for a part of the brokers may well be there.
 */
void
lh_kafka_look(LhKafkaIngest *ingest)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(ingest->slot_context);

	if (look_at_topics(ingest) && look_at_ranges(ingest))
		start_partitions(ingest);
	else if (ingest->reading)
		ingest->trouble.sqlstate = 0;
	MemoryContextSwitchTo(oldcontext);
	ingest->looked = ingest->heard = GetCurrentTimestamp();
}

/*
 * add_slot makes room for a partition that has no position yet.
 */
static void
add_slot(LhKafkaIngest *ingest, const char *topic, int32 partition)
{
	LhKafkaSlot *slot;

	ingest->slots = repalloc(ingest->slots, sizeof(LhKafkaSlot) * (ingest->count + 1));
	ingest->places = repalloc(ingest->places, sizeof(LhKafkaPlace) * (ingest->count + 1));
	slot = &ingest->slots[ingest->count];
	memset(slot, 0, sizeof(LhKafkaSlot));
	slot->topic = topic;
	slot->partition = partition;
	slot->saved = slot->next = slot->low = slot->end = slot->last_offset = slot->target = slot->seen = -1;
	ingest->places[ingest->count].topic = topic;
	ingest->places[ingest->count].partition = partition;
	ingest->count++;
}

/*
 * look_at_topics compares the partitions of each topic with the slots.
 */
static bool
look_at_topics(LhKafkaIngest *ingest)
{
	for (int t = 0; ingest->base.source->topics[t] != NULL; t++)
	{
		const char *topic = ingest->base.source->topics[t];
		LhError		error;
		int			partitions = lh_kafka_partitions(ingest->kafka, topic, ANSWER_LIMIT_MS, &error);
		int			known = 0;

		if (partitions < 0 && error.sqlstate != ERRCODE_UNDEFINED_OBJECT &&
			error.sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE)
		{
			ingest->trouble = error;
			return false;
		}
		for (int i = 0; i < ingest->count; i++)
		{
			LhKafkaSlot *slot = &ingest->slots[i];

			if (strcmp(slot->topic, topic) != 0)
				continue;
			known = Max(known, slot->partition + 1);
			slot->absent = slot->partition >= partitions;
			if (partitions < 0)
				lh_kafka_slot_stop(ingest, slot, error.sqlstate, "topic \"%s\": %s", topic, error.message);
			else if (slot->absent)
				lh_kafka_slot_stop(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						  "partition %d of topic \"%s\" does not exist any more: the topic was created again",
						  slot->partition, topic);
		}
		if (partitions < 0 && known == 0)
		{
			lh_error_set(&ingest->trouble, error.sqlstate, "topic \"%s\": %s", topic, error.message);
			return false;
		}
		for (int p = known; p < partitions; p++)
			add_slot(ingest, topic, p);
	}
	return true;
}

/*
 * look_at_ranges asks which offsets the brokers have, and compares.
 */
static bool
look_at_ranges(LhKafkaIngest *ingest)
{
	LhKafkaQuestion *questions = palloc(sizeof(LhKafkaQuestion) * Max(2 * ingest->count, 1));
	int		   *asked = palloc(sizeof(int) * Max(ingest->count, 1));
	int			n = 0;
	bool		good = true;

	for (int i = 0; i < ingest->count; i++)
	{
		if (!ingest->slots[i].absent)
			asked[n++] = i;
	}
	for (int q = 0; q < n; q++)
	{
		questions[q].topic = questions[n + q].topic = ingest->slots[asked[q]].topic;
		questions[q].partition = questions[n + q].partition = ingest->slots[asked[q]].partition;
		questions[q].offset = LH_KAFKA_BEGINNING;
		questions[n + q].offset = LH_KAFKA_END;
	}
	/* one list cannot name a partition twice */
	for (int part = 0; part < 2 && n > 0 && good; part++)
	{
		LhError		error;

		good = lh_kafka_offsets(ingest->kafka, questions + part * n, n, ANSWER_LIMIT_MS, &error);
		if (!good)
			ingest->trouble = error;
		for (int q = 0; q < n && good; q++)
		{
			LhKafkaSlot *slot = &ingest->slots[asked[q]];

			slot->absent |= questions[part * n + q].unanswered;
			if (slot->absent && !(slot->running && ingest->reading))
				lh_kafka_slot_stop(ingest, slot, error.sqlstate, "partition %d of topic \"%s\": %s",
						  slot->partition, slot->topic, error.message);
		}
	}
	for (int q = 0; q < n && good; q++)
	{
		if (!ingest->slots[asked[q]].absent)
			check_range(ingest, &ingest->slots[asked[q]], questions[q].offset, questions[n + q].offset);
	}
	pfree(questions);
	pfree(asked);
	return good;
}

/*
 * check_range stops a partition whose next record is not there.  One that was
 * stopped may try again.
 */
static void
check_range(LhKafkaIngest *ingest, LhKafkaSlot *slot, int64 low, int64 end)
{
	slot->low = low;
	slot->end = end;
	if (slot->target < 0)
		slot->target = end;
	if (slot->next < 0)
	{
		/* a partition that was added later is read from its beginning */
		slot->next = low;
		slot->changed = ingest->changed = true;
	}
	/* while it runs, the broker is the judge: next may be older than low */
	if (slot->running && ingest->reading)
	{
		lh_kafka_slot_count_stall(ingest, slot);
		return;
	}
	/* one that stalls is tried again by the next run, or the next look */
	if (!ingest->continuous && slot->stalls >= STALL_LIMIT)
		return;
	slot->stopped = false;
	if (slot->next < low)
		lh_kafka_slot_stop(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				  "offsets [" INT64_FORMAT "," INT64_FORMAT ") of partition %d of topic \"%s\" were lost: the broker dropped them before they were read",
				  slot->next, low, slot->partition, slot->topic);
	else if (slot->next > end)
		lh_kafka_slot_stop(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				  "partition %d of topic \"%s\" ends at offset " INT64_FORMAT ", before offset " INT64_FORMAT " that is next: the topic was shortened or created again",
				  slot->partition, slot->topic, end, slot->next);
	else if (slot->alarms > ALARM_LIMIT)
		lh_kafka_slot_stop(ingest, slot, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  "offset " INT64_FORMAT " of partition %d of topic \"%s\" is there but the broker refuses to give it",
				  slot->next, slot->partition, slot->topic);
}

/*
 * lh_kafka_slot_count_stall stops a partition that has records and gives none, for example
 * because one is larger than the client takes.
 */
void
lh_kafka_slot_count_stall(LhKafkaIngest *ingest, LhKafkaSlot *slot)
{
	if (slot->next != slot->seen || slot->next >= slot->end)
		slot->stalls = 0;
	else if (++slot->stalls >= STALL_LIMIT)
		lh_kafka_slot_stop(ingest, slot, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  "partition %d of topic \"%s\" gives no record from offset " INT64_FORMAT " although it ends at " INT64_FORMAT,
				  slot->partition, slot->topic, slot->next, slot->end);
	slot->seen = slot->next;
}

/*
 * lh_kafka_slot_stop stops one partition with a reason, which is news once.
 */
void
lh_kafka_slot_stop(LhKafkaIngest *ingest, LhKafkaSlot *slot, int sqlstate, const char *format,...)
{
	LhError		error;
	va_list		args;

	error.sqlstate = sqlstate;
	va_start(args, format);
	vsnprintf(error.message, sizeof(error.message), format, args);
	va_end(args);
	if (slot->running)
		lh_kafka_stop(ingest->kafka, slot->topic, slot->partition);
	slot->running = slot->verify = false;
	slot->stopped = true;
	if (slot->error.sqlstate == sqlstate && strcmp(slot->error.message, error.message) == 0)
		return;
	slot->error = error;
	slot->changed = ingest->changed = true;
}

/*
 * start_partitions reads every partition that is not stopped, from its last
 * record on, so that a topic that was created again is recognised.
 */
static void
start_partitions(LhKafkaIngest *ingest)
{
	if (!ingest->reading)
	{
		lh_kafka_stop_all(ingest->kafka);
		for (int i = 0; i < ingest->count; i++)
			ingest->slots[i].running = false;
	}
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];
		LhError		error;
		int64		from = slot->next;

		if (slot->stopped || slot->running)
			continue;
		/* records taken but not yet saved need no such look */
		slot->verify = slot->last_offset >= slot->low && slot->last_offset < slot->next &&
			slot->next == slot->saved;
		if (slot->verify)
			from = slot->last_offset;
		slot->running = lh_kafka_start(ingest->kafka, slot->topic, slot->partition, from, i, &error);
		if (!slot->running)
			lh_kafka_slot_stop(ingest, slot, error.sqlstate, "partition %d of topic \"%s\": %s",
					  slot->partition, slot->topic, error.message);
	}
	ingest->reading = true;
}

/*
 * lh_kafka_slot_is_well forgets why a partition was stopped once it gives records again,
 * or has none to give.
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
