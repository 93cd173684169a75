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

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/kafka_internal.h"

/* a cluster that does not answer is an error after this long */
#define ANSWER_LIMIT_MS 8000

/* ... or after this one, if that shows only in passing */
#define PASSING_LIMIT_MS 4000

/* ... but an answer takes its time */
#define LEAST_LIMIT_MS 1000

/* how often a good offset may be refused before the partition is stopped */
#define ALARM_LIMIT 3

/* an end before a position is asked for so often, with pauses, before it counts */
#define DOUBT_LIMIT 4
#define DOUBT_PAUSE_MS 250

static bool look_at_topics(LhKafkaIngest *ingest);
static bool look_at_topic(LhKafkaIngest *ingest, const char *topic);
static bool look_at_ranges(LhKafkaIngest *ingest);
static bool ask_ranges(LhKafkaIngest *ingest);
static bool check_range(LhKafkaIngest *ingest, LhKafkaSlot *slot);
static void note_open_transactions(LhKafkaIngest *ingest);
static void start_partitions(LhKafkaIngest *ingest);

/*
 * answer_limit returns how long to wait for an answer.  A worker that heard
 * nothing for a while has waited already: what it promises counts from then on.
 */
static int
answer_limit(const LhKafkaIngest *ingest)
{
	int			limit = ingest->reading ? PASSING_LIMIT_MS : ANSWER_LIMIT_MS;
	long		silent;

	if (!ingest->continuous || ingest->heard == 0)
		return limit;
	silent = TimestampDifferenceMilliseconds(ingest->heard, GetCurrentTimestamp());
	return Max(Min(limit, ANSWER_LIMIT_MS - silent), LEAST_LIMIT_MS);
}

/*
 * lh_kafka_look learns partitions and ranges and starts what is not running.
 * Where it must begin and cannot, ingest->trouble says why; a look in passing
 * that fails is repeated later, for a part of the brokers may well be there.
 */
void
lh_kafka_look(LhKafkaIngest *ingest)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lakehouse Kafka look",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(scratch);
	bool		passing = ingest->reading;

	if (!passing)
		lh_kafka_ahead_fit(ingest);
	if (look_at_topics(ingest) && look_at_ranges(ingest))
		start_partitions(ingest);
	else if (ingest->reading)
		ingest->trouble.sqlstate = 0;
	if (passing && ingest->reading)
		note_open_transactions(ingest);
	ingest->drained = false;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(scratch);
	ingest->looked = GetCurrentTimestamp();
	if (!passing)
		ingest->heard = ingest->looked;
}

/*
 * note_open_transactions lets positions be saved whose partition has more or
 * less behind its end than was saved: of that no event tells.
 */
static void
note_open_transactions(LhKafkaIngest *ingest)
{
	for (int i = 0; i < ingest->count && ingest->continuous; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];
		int64		high;

		if (!slot->running || !slot->at_end)
			continue;
		high = lh_kafka_known_end(ingest->kafka, slot->topic, slot->partition, NULL);
		if (high >= 0 && Max(high, slot->next) != slot->high)
			slot->changed = ingest->changed = true;
	}
}

static LhKafkaSlot *
find_slot(LhKafkaIngest *ingest, const char *topic, int32 partition)
{
	for (int i = 0; i < ingest->count; i++)
	{
		if (ingest->slots[i].partition == partition && strcmp(ingest->slots[i].topic, topic) == 0)
			return &ingest->slots[i];
	}
	return NULL;
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
	slot->topic = MemoryContextStrdup(ingest->slot_context, topic);
	slot->partition = partition;
	slot->saved = slot->next = slot->low = slot->end = slot->high = slot->last_offset =
		slot->last_epoch = slot->epoch = slot->anchor_offset = slot->proved = slot->top = slot->bottom =
		slot->target = slot->limit = slot->seen = slot->published = -1;
	ingest->places[ingest->count].topic = slot->topic;
	ingest->places[ingest->count].partition = partition;
	ingest->count++;
}

/*
 * look_at_topics compares the partitions of each topic with the slots.
 */
static bool
look_at_topics(LhKafkaIngest *ingest)
{
	const LhKafkaSubscription *subscription = &ingest->options.subscription;
	int			known = ingest->count;
	char	  **topics;

	topics = lh_kafka_topics_of(subscription, ingest->kafka, answer_limit(ingest), &ingest->trouble);
	if (topics == NULL)
		return false;
	ingest->trouble.sqlstate = 0;
	for (int t = 0; topics[t] != NULL; t++)
	{
		if (!look_at_topic(ingest, topics[t]))
			return false;
	}
	/* topics that matched the pattern once and are gone */
	for (int i = 0; i < known && subscription->pattern != (Datum) 0; i++)
	{
		const char *topic = ingest->slots[i].topic;
		bool		seen = i > 0 && strcmp(ingest->slots[i - 1].topic, topic) == 0;

		for (int t = 0; topics[t] != NULL && !seen; t++)
			seen = strcmp(topics[t], topic) == 0;
		if (!seen && !look_at_topic(ingest, topic))
			return false;
	}
	return true;
}

/*
 * look_at_topic adds the partitions that are new and stops those that are gone.
 */
static bool
look_at_topic(LhKafkaIngest *ingest, const char *topic)
{
	LhError		error;
	int			partitions = lh_kafka_partitions(ingest->kafka, topic, answer_limit(ingest), &error);
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
		known++;
		slot->absent = slot->partition >= partitions;
		if (slot->held)
			continue;
		if (partitions < 0)
			lh_kafka_slot_stop(ingest, slot, error.sqlstate, "topic \"%s\": %s", topic, error.message);
		else if (slot->absent)
			lh_kafka_slot_stop(ingest, slot, ERRCODE_UNDEFINED_OBJECT,
							   "partition %d of topic \"%s\" does not exist any more: the topic was created again",
							   slot->partition, topic);
	}
	if (partitions < 0 && known == 0 && !lh_kafka_is_shared(ingest) &&
		ingest->options.subscription.pattern == (Datum) 0)
	{
		lh_error_set(&ingest->trouble, error.sqlstate, "topic \"%s\": %s", topic, error.message);
		return false;
	}
	for (int p = 0; p < partitions; p++)
	{
		if (lh_kafka_reads(&ingest->options.subscription, topic, p) &&
			lh_kafka_owns(ingest, topic, p) && find_slot(ingest, topic, p) == NULL)
			add_slot(ingest, topic, p);
	}
	if (partitions > 0)
		lh_kafka_compare_ids(ingest, topic, answer_limit(ingest));
	return true;
}

/*
 * look_at_ranges asks which offsets the brokers have, and compares.  An end that
 * lies before a position may be that of a broker which has just taken over, so
 * that is asked again before it is believed.
 */
static bool
look_at_ranges(LhKafkaIngest *ingest)
{
	for (int tries = 0; tries < DOUBT_LIMIT; tries++)
	{
		bool		doubt = false;

		if (!ask_ranges(ingest))
			return false;
		for (int i = 0; i < ingest->count; i++)
		{
			const LhKafkaSlot *slot = &ingest->slots[i];

			doubt |= !slot->absent && !slot->held && slot->next > slot->end;
		}
		if (!doubt)
			break;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(DOUBT_PAUSE_MS * 1000L);
	}
	for (int i = 0; i < ingest->count; i++)
	{
		if (!ingest->slots[i].absent && !check_range(ingest, &ingest->slots[i]))
			return false;
	}
	return true;
}

/*
 * ask_ranges sets low and end of all slots whose topic is there.
 */
static bool
ask_ranges(LhKafkaIngest *ingest)
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

		good = lh_kafka_offsets(ingest->kafka, questions + part * n, n, answer_limit(ingest), &error);
		if (!good)
			ingest->trouble = error;
		for (int q = 0; q < n && good; q++)
		{
			LhKafkaSlot *slot = &ingest->slots[asked[q]];

			slot->absent |= questions[part * n + q].unanswered;
			if (slot->absent && !(slot->running && ingest->reading) && !slot->held)
				lh_kafka_slot_stop(ingest, slot, error.sqlstate, "partition %d of topic \"%s\": %s",
								   slot->partition, slot->topic, error.message);
		}
	}
	for (int q = 0; q < n && good; q++)
	{
		LhKafkaSlot *slot = &ingest->slots[asked[q]];

		if (slot->absent)
			continue;
		/* of one that is read, the next batch tells the end */
		if (slot->stopped && slot->end != questions[n + q].offset)
			slot->changed = ingest->changed = true;
		slot->low = questions[q].offset;
		slot->end = questions[n + q].offset;
	}
	pfree(questions);
	pfree(asked);
	return good;
}

/*
 * set_target decides how far a bounded run reads a partition.
 */
static bool
set_target(LhKafkaIngest *ingest, LhKafkaSlot *slot)
{
	LhKafkaQuestion question = {slot->topic, slot->partition};

	if (slot->target >= 0)
		return true;
	if (ingest->ending.given)
	{
		bool		time = lh_kafka_bound_question(&ingest->ending, slot->topic, slot->partition,
												   &question.offset);

		if (time && !lh_kafka_offsets(ingest->kafka, &question, 1, answer_limit(ingest), &ingest->trouble))
			return false;
		/* LH_KAFKA_END: to its end, which no later run may pass either */
		slot->limit = question.offset < 0 ? slot->end : question.offset;
	}
	slot->target = slot->limit < 0 ? slot->end : Min(slot->end, slot->limit);
	return true;
}

/*
 * resume_after finds where reading could go on in a partition whose log is
 * another one than we knew: at its first record that is later than the last one
 * loaded, which is its beginning if all of them are new.
 */
static bool
resume_after(LhKafkaIngest *ingest, const LhKafkaSlot *slot, int64 *offset)
{
	LhKafkaQuestion question = {slot->topic, slot->partition, slot->last_timestamp + 1};

	*offset = slot->low;
	if (slot->last_offset < 0 || slot->last_timestamp < 0)
		return true;
	if (!lh_kafka_offsets(ingest->kafka, &question, 1, answer_limit(ingest), &ingest->trouble))
		return false;
	*offset = question.offset < 0 ? slot->end : question.offset;
	return true;
}

/*
 * check_loss finds out whether the next record of a partition is lost; false if
 * no broker could tell.
 */
static bool
check_loss(LhKafkaIngest *ingest, LhKafkaSlot *slot)
{
	int64		resumed;

	if (!slot->foreign && slot->next >= slot->low && slot->next <= slot->end)
		return true;
	if (slot->records > 0)
	{
		/* what is in memory comes first; then this is looked at again */
		slot->stopped = ingest->again = true;
		return true;
	}
	if (!slot->foreign && slot->next < slot->low)
	{
		lh_kafka_slot_lose(ingest, slot, "retention", slot->next, slot->low, slot->low,
						   "offsets [" INT64_FORMAT "," INT64_FORMAT ") of partition %d of topic \"%s\" were lost: the broker dropped them before they were read",
						   slot->next, slot->low, slot->partition, slot->topic);
		return true;
	}
	if (slot->late)
	{
		/* records of the new topic are loaded already: it goes on behind them */
		lh_kafka_slot_lose(ingest, slot, "recreated", slot->low, slot->last_offset + 1, slot->next,
						   "record " INT64_FORMAT " of partition %d of topic \"%s\" is not the one that was loaded: the topic was created again, and later offsets may have been loaded from the new one",
						   slot->last_offset, slot->partition, slot->topic);
		return true;
	}
	if (!resume_after(ingest, slot, &resumed))
		return false;
	if (slot->other_id[0] != '\0')
		lh_kafka_slot_lose(ingest, slot, "recreated", slot->low, resumed, resumed,
						   "partition %d of topic \"%s\" cannot be read on: the topic was created again, its id is %s and was %s",
						   slot->partition, slot->topic, slot->other_id, slot->topic_id);
	else if (slot->foreign)
		lh_kafka_slot_lose(ingest, slot, "recreated", slot->low, resumed, resumed,
						   "record " INT64_FORMAT " of partition %d of topic \"%s\" is not the one that was loaded: the topic was created again",
						   slot->last_offset, slot->partition, slot->topic);
	else
		lh_kafka_slot_lose(ingest, slot, "shortened", slot->end, slot->next, resumed,
						   "partition %d of topic \"%s\" ends at offset " INT64_FORMAT ", before offset " INT64_FORMAT " that is next: the topic was shortened or created again",
						   slot->partition, slot->topic, slot->end, slot->next);
	return true;
}

/*
 * check_range stops a partition whose next record is not there, or moves it, as
 * the policy says.  One that was stopped may try again, unless a person has to
 * decide.  False if no broker answered.
 */
static bool
check_range(LhKafkaIngest *ingest, LhKafkaSlot *slot)
{
	if (!set_target(ingest, slot))
		return false;
	if (slot->next < 0)
	{
		/* a partition that was added later is read from its beginning */
		slot->next = slot->low;
		slot->changed = ingest->changed = true;
	}
	if (slot->held)
	{
		slot->stopped = true;
		return true;
	}
	/* while it runs, the broker is the judge: next may be older than low */
	if (slot->running && ingest->reading && slot->next <= slot->end && !slot->foreign)
	{
		lh_kafka_slot_count_stall(ingest, slot);
		return true;
	}
	/* one that stalls is tried again by the next run, or the next look */
	if (!ingest->continuous && slot->stalls >= LH_KAFKA_STALL_LIMIT)
		return true;
	slot->stopped = false;
	if (!check_loss(ingest, slot))
		return false;
	if (!slot->stopped && slot->alarms > ALARM_LIMIT)
		lh_kafka_slot_stop(ingest, slot, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
						   "offset " INT64_FORMAT " of partition %d of topic \"%s\" is there but the broker refuses to give it",
						   slot->next, slot->partition, slot->topic);
	return true;
}

void
lh_kafka_stop_reading(LhKafkaIngest *ingest)
{
	lh_kafka_stop_all(ingest->kafka);
	for (int i = 0; i < ingest->count; i++)
		ingest->slots[i].running = false;
}

/*
 * start_partitions reads every partition that is not stopped, from its last
 * record on, so that a topic that was created again is recognised.
 */
static void
start_partitions(LhKafkaIngest *ingest)
{
	if (!ingest->reading)
		lh_kafka_stop_reading(ingest);
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];
		LhError		error;
		int64		from = slot->next;

		if (slot->stopped || slot->running || (slot->limit >= 0 && slot->next >= slot->limit))
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
	ingest->emptied = GetCurrentTimestamp();
	ingest->sure = 0;
	ingest->reading = true;
}

