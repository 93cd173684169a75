/*
 * kafka_prove.c
 *	  Whether the topics that are read are still those that were read.
 *
 * A topic that is deleted and made again while nobody asks for its records looks
 * like the old one as soon as it has grown past our position.  What tells them
 * apart is a record that we know: it is read once more, by a client of its own,
 * where there is reason to (see lh_kafka_suspects) and now and then.
 *
 * Invariant: an anchor is a record of the log that was read when it was last
 * proved.  If it is still in its place, everything that was fetched since is of
 * the same log.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/kafka_internal.h"

/* how long the proof of a batch, or of a look in passing, may take */
#define PROOF_LIMIT_MS 2000

/* after a proof that got no answer the next one has to wait */
#define PROOF_PAUSE_MS 10000

/* while nothing is left to take, librdkafka keeps a question at the broker, which
 * is refused when the topic goes; while it has read ahead enough, it asks nothing */
#define GAP_LIMIT_MS 250

/* events of the second client that are taken at once */
#define PROOF_EVENTS 32

/* What became of a topic behind our back; survives a rollback. */
typedef struct Stranger
{
	const char *topic;
	int32		partition;
	bool		late;			/* records of the other topic may be loaded */
	int64		offset;			/* the record that should have been there */
	int64		timestamp;
	int64		hash;
} Stranger;

/*
 * set_anchor makes the last record that was loaded the one to look for.
 */
static void
set_anchor(LhKafkaSlot *slot)
{
	slot->anchor_offset = slot->last_offset;
	slot->anchor_timestamp = slot->last_timestamp;
	slot->anchor_hash = slot->last_hash;
	slot->proved = slot->next;
}

/*
 * has_gap tells whether fetches may have paused since all was taken: only then
 * can a topic be deleted and made again without a fetch that is refused.
 */
static bool
has_gap(const LhKafkaIngest *ingest)
{
	return TimestampDifferenceExceeds(ingest->emptied, GetCurrentTimestamp(), GAP_LIMIT_MS);
}

/*
 * lh_kafka_note_taken notes that events were taken; those behind a gap are to be
 * proved, but for what was here already at the last proof.
 */
void
lh_kafka_note_taken(LhKafkaIngest *ingest, int count)
{
	if (!has_gap(ingest))
		ingest->sure = 0;
	else if (ingest->sure >= count)
		ingest->sure -= count;
	else
	{
		ingest->sure = 0;
		ingest->suspect = true;
	}
	if (lh_kafka_left(ingest->kafka) == 0)
		ingest->emptied = GetCurrentTimestamp();
}

/*
 * lh_kafka_suspects tells whether what was read since the last proof has to be
 * proved before it is committed: fetches had a pause, or the broker told a range
 * of offsets that lies before one that it told already.
 */
bool
lh_kafka_suspects(LhKafkaIngest *ingest)
{
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];
		int64		low;
		int64		high;

		if (!slot->running)
			continue;
		/* the first records of a partition: there was nothing to compare them with */
		if (slot->anchor_offset < 0)
			set_anchor(slot);
		high = lh_kafka_known_end(ingest->kafka, slot->topic, slot->partition, &low);
		if (high >= 0)
		{
			if (high < slot->top || (low >= 0 && low < slot->bottom))
				ingest->suspect = true;
			slot->top = high;
			slot->bottom = low;
		}
	}
	return ingest->suspect;
}

/*
 * lh_kafka_may_take returns how many of the events that are here may be taken and
 * committed without another proof, for which a transaction must not wait.  The
 * broker's range is known before the records are here that came with it.
 */
int
lh_kafka_may_take(LhKafkaIngest *ingest)
{
	int64		left = lh_kafka_left(ingest->kafka);

	if (left == 0 || lh_kafka_suspects(ingest))
		return 0;
	return (int) Min(left, has_gap(ingest) ? ingest->sure : PG_INT32_MAX);
}

/*
 * lh_kafka_went_back tells whether the leader's epoch fell from one record to the
 * next, which it never does in one log.
 */
bool
lh_kafka_went_back(LhKafkaIngest *ingest, const LhKafkaMessage *events, int count)
{
	bool		back = false;

	for (int i = 0; i < count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[events[i].slot];

		/* what is delivered a second time is of an older epoch */
		if (events[i].event != LH_KAFKA_RECORD || events[i].epoch < 0 || slot->stopped ||
			events[i].offset < slot->next)
			continue;
		back |= events[i].epoch < slot->epoch;
		slot->epoch = events[i].epoch;
	}
	return back;
}

/*
 * judge tells whether an event answers for its slot, and whether the record that
 * was asked for is not there.  One that was taken away (by compaction or retention)
 * proves nothing, and is no contradiction either.
 */
static bool
judge(const LhKafkaMessage *message, const LhKafkaSlot *slot, bool *strange)
{
	int64		offset = slot->proving_last ? slot->last_offset : slot->anchor_offset;
	int64		timestamp = slot->proving_last ? slot->last_timestamp : slot->anchor_timestamp;
	int64		hash = slot->proving_last ? slot->last_hash : slot->anchor_hash;

	*strange = false;
	if (message->event == LH_KAFKA_RECORD && message->offset < offset)
		return false;
	if (message->event == LH_KAFKA_RECORD && message->offset == offset)
		*strange = message->timestamp != timestamp || lh_kafka_offset_hash(message) != hash;
	else if (slot->proving_last && message->event != LH_KAFKA_FAILURE)
		/* the new log ends before it */
		*strange = message->event == LH_KAFKA_RANGE || message->offset <= offset;
	return true;
}

/*
 * note_stranger remembers what lh_kafka_apply_strangers does when the positions
 * are read again.  If the last record that was loaded is another one, too, all that
 * was loaded is of the log we knew.
 */
static void
note_stranger(LhKafkaIngest *ingest, const LhKafkaSlot *slot, bool late)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(ingest->base.context);
	Stranger   *stranger = palloc(sizeof(Stranger));

	stranger->topic = pstrdup(slot->topic);
	stranger->partition = slot->partition;
	stranger->late = late;
	stranger->offset = late ? slot->anchor_offset : slot->last_offset;
	stranger->timestamp = late ? slot->anchor_timestamp : slot->last_timestamp;
	stranger->hash = late ? slot->anchor_hash : slot->last_hash;
	ingest->strangers = lappend(ingest->strangers, stranger);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * lh_kafka_apply_strangers marks the slots, just read from the catalog, whose log
 * is another one than that of the record we knew.
 */
void
lh_kafka_apply_strangers(LhKafkaIngest *ingest)
{
	ListCell   *cell;

	foreach(cell, ingest->strangers)
	{
		const Stranger *stranger = lfirst(cell);

		for (int i = 0; i < ingest->count; i++)
		{
			LhKafkaSlot *slot = &ingest->slots[i];

			if (slot->partition != stranger->partition || strcmp(slot->topic, stranger->topic) != 0 ||
				slot->last_offset < stranger->offset)
				continue;
			slot->foreign = true;
			slot->late = stranger->late && slot->last_offset > stranger->offset;
			slot->last_offset = slot->anchor_offset = stranger->offset;
			slot->last_timestamp = slot->anchor_timestamp = stranger->timestamp;
			slot->last_hash = slot->anchor_hash = stranger->hash;
		}
	}
	list_free(ingest->strangers);
	ingest->strangers = NIL;
}

/*
 * lh_kafka_compare_ids compares the id of a topic with those that are known of its
 * partitions, which get it if they have none.
 */
void
lh_kafka_compare_ids(LhKafkaIngest *ingest, const char *topic, int timeout_ms)
{
	char		id[LH_KAFKA_ID_SIZE];

	if (!lh_kafka_tells_ids() || !lh_kafka_topic_id(ingest->kafka, topic, timeout_ms, id))
		return;
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		if (strcmp(slot->topic, topic) != 0 || slot->held || strcmp(slot->topic_id, id) == 0)
			continue;
		/* lh_kafka_prove compares those that are being read */
		if (slot->topic_id[0] != '\0' && slot->running && ingest->reading)
			continue;
		if (slot->topic_id[0] == '\0')
		{
			strlcpy(slot->topic_id, id, LH_KAFKA_ID_SIZE);
			slot->changed = ingest->changed = true;
		}
		else
		{
			strlcpy(slot->other_id, id, LH_KAFKA_ID_SIZE);
			slot->foreign = true;
		}
	}
}

/*
 * prove_by_id asks for the ids of the topics whose partitions moved; false if one
 * is another.  *all tells whether every one was told.
 */
static bool
prove_by_id(LhKafkaIngest *ingest, bool *all)
{
	const char *asked = NULL;
	char		id[LH_KAFKA_ID_SIZE] = "";

	*all = true;
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		if (!slot->running || slot->next == slot->proved)
			continue;
		if (asked == NULL || strcmp(asked, slot->topic) != 0)
		{
			asked = slot->topic;
			if (!lh_kafka_topic_id(ingest->kafka, asked, PROOF_LIMIT_MS, id))
				id[0] = '\0';
		}
		if (id[0] == '\0' || slot->topic_id[0] == '\0')
			*all = false;
		else if (strcmp(id, slot->topic_id) != 0)
			return false;
		else
			set_anchor(slot);
	}
	return true;
}

/*
 * ask makes the second client read a record of a slot, from where it is.
 */
static bool
ask(LhKafkaIngest *ingest, LhKafkaSlot *slot, bool last)
{
	LhError		error;

	if (ingest->twin == NULL)
		ingest->twin = lh_kafka_twin(ingest->kafka, ingest->base.context);
	slot->proving_last = last;
	slot->proving = lh_kafka_start(ingest->twin, slot->topic, slot->partition,
								   last ? slot->last_offset : slot->anchor_offset,
								   (int) (slot - ingest->slots), &error);
	return slot->proving;
}

/*
 * ask_anchors asks for the anchors of slots that moved since they were proved;
 * returns how many.
 */
static int
ask_anchors(LhKafkaIngest *ingest)
{
	int			open = 0;

	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		slot->proving = false;
		if (!slot->running || slot->verify || slot->anchor_offset < 0 ||
			(slot->next == slot->proved && slot->last_offset == slot->anchor_offset))
			continue;
		if (ask(ingest, slot, false))
			open++;
	}
	return open;
}

/*
 * hear_anchors takes what the second client has and returns how many slots were
 * answered; strangers are noted.
 */
static int
hear_anchors(LhKafkaIngest *ingest)
{
	LhKafkaMessage events[PROOF_EVENTS];
	int			count = lh_kafka_take(ingest->twin, events, PROOF_EVENTS);
	int			answered = 0;

	for (int e = 0; e < count; e++)
	{
		LhKafkaSlot *slot = &ingest->slots[events[e].slot];
		bool		first = !slot->proving_last;
		bool		strange;
		bool		late;

		if (!slot->proving || !judge(&events[e], slot, &strange))
			continue;
		lh_kafka_stop(ingest->twin, slot->topic, slot->partition);
		late = first ? slot->last_offset > slot->anchor_offset : !strange;
		if (first && strange && late && ask(ingest, slot, true))
			continue;
		slot->proving = false;
		answered++;
		if (first && !strange)
			set_anchor(slot);
		else
			note_stranger(ingest, slot, late);
	}
	lh_kafka_release(events, count);
	return answered;
}

/*
 * give_up ends a proof that got no answer in time.
 */
static void
give_up(LhKafkaIngest *ingest)
{
	ingest->prove_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PROOF_PAUSE_MS);
	for (int i = 0; i < ingest->count; i++)
	{
		if (ingest->slots[i].proving && ingest->slots[i].proving_last)
			note_stranger(ingest, &ingest->slots[i], true);
	}
}

/*
 * lh_kafka_prove reads the anchors once more, of all slots that moved since that
 * was done; false if one is not there: then what was read since is not to be
 * stored, and the positions must be read again.  Waits for a bounded time, looking
 * for interrupts; a broker that does not answer contradicts nothing.
 */
bool
lh_kafka_prove(LhKafkaIngest *ingest)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz deadline = TimestampTzPlusMilliseconds(now, PROOF_LIMIT_MS);
	int			open;

	ingest->suspect = false;
	/* what is here now was fetched before the anchors are */
	ingest->sure = lh_kafka_left(ingest->kafka);
	if (now < ingest->prove_after)
		return true;
	if (lh_kafka_tells_ids())
	{
		bool		all;
		bool		good = prove_by_id(ingest, &all);

		ingest->replaced |= !good;
		if (!good || all)
			return good;
	}
	open = ask_anchors(ingest);
	if (open == 0)
		return true;
	while (open > 0 && GetCurrentTimestamp() < deadline)
	{
		open -= hear_anchors(ingest);
		if (open > 0)
			lh_kafka_wait(ingest->twin, 1);
		CHECK_FOR_INTERRUPTS();
	}
	if (open > 0)
		give_up(ingest);
	lh_kafka_stop_all(ingest->twin);
	return ingest->strangers == NIL;
}
