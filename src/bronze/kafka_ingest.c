/*
 * kafka_ingest.c
 *	  A Kafka source being read into its bronze table.
 *
 * Looking at the cluster and waiting for records (ingest_wait) happen outside of
 * any transaction where the caller is a worker; what they found is written by
 * ingest_batch, in the caller's transaction, together with the positions.
 *
 * Invariants: the messages in memory and slot->next belong together: next is
 * the offset behind the last message taken.  After a rollback both are thrown
 * away and the positions are read again from the catalog.  A partition whose
 * records between its position and what the broker has are not all there is
 * stopped, never skipped; the others go on.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/ingest.h"
#include "bronze/kafka_offset.h"
#include "bronze/writer.h"
#include "delta/load.h"
#include "fault.h"
#include "guc.h"
#include "source/kafka_client.h"
#include "source/kafka_reader.h"
#include "source/server.h"

/* messages taken and written at once */
#define CHUNK 2000

/* ... unless they are large */
#define CHUNK_BYTES (16 * 1024 * 1024)

/* a cluster that does not answer is an error after this long */
#define ANSWER_LIMIT_MS 8000

/* a lost connection is an error after this long: brokers restart */
#define DOWN_LIMIT_MS 3000

/* a run that hears nothing for this long looks at the cluster again */
#define SILENCE_LIMIT_MS 5000

/* ... and writes what it has after this long */
#define PATIENCE_MS 1000

/* how often a good offset may be refused before the partition is stopped */
#define ALARM_LIMIT 3

/* looks without a record of a partition that has some before it is stopped */
#define STALL_LIMIT 3

typedef struct KafkaIngest
{
	LhIngest	base;
	bool		continuous;
	LhKafka    *kafka;
	MemoryContext slot_context;
	LhKafkaSlot *slots;
	LhKafkaPlace *places;		/* the reader's view of slots */
	int			count;
	bool		reload;			/* slots are in doubt: read them again */
	bool		reading;		/* false = look at the cluster, start afresh */
	TimestampTz looked;			/* when */
	TimestampTz heard;			/* last event of any partition */
	LhKafkaMessage messages[CHUNK];
	int			message_count;
	int64		message_bytes;
	TimestampTz first_message;	/* when the oldest of them came */
	bool		changed;		/* a slot is to be saved even without messages */
	LhError		trouble;		/* to be raised by the next batch */
	MemoryContextCallback callback;
} KafkaIngest;

static void read_slots(KafkaIngest *ingest);
static void discard_messages(KafkaIngest *ingest);
static void release_at_reset(void *arg);
static void look_at_cluster(KafkaIngest *ingest);
static bool look_at_topics(KafkaIngest *ingest);
static bool look_at_ranges(KafkaIngest *ingest);
static void check_range(KafkaIngest *ingest, LhKafkaSlot *slot, int64 low, int64 end);
static void start_partitions(KafkaIngest *ingest);
static void stop_slot(KafkaIngest *ingest, LhKafkaSlot *slot, int sqlstate, const char *format,...) pg_attribute_printf(4, 5);
static void count_stall(KafkaIngest *ingest, LhKafkaSlot *slot);
static void slot_is_well(KafkaIngest *ingest, LhKafkaSlot *slot);
static int	take_messages(KafkaIngest *ingest, int limit);
static bool memory_full(const KafkaIngest *ingest);
static bool take_event(KafkaIngest *ingest, LhKafkaMessage *message);
static bool take_record(KafkaIngest *ingest, LhKafkaSlot *slot, LhKafkaMessage *message);
static bool ready(KafkaIngest *ingest, TimestampTz now);
static bool caught_up(const KafkaIngest *ingest);
static void check_connection(KafkaIngest *ingest, TimestampTz now);
static void raise_trouble(KafkaIngest *ingest);
static void write_batch(KafkaIngest *ingest, LhIngestCounts *counts);
static void write_messages(KafkaIngest *ingest, LhIngestCounts *counts);
static void remember_last(KafkaIngest *ingest, int chunk);
static void save_positions(KafkaIngest *ingest);

/*
 * ingest_open reads the positions and makes a client.  It reaches no broker.
 * The ingest lives in the current context, and the client is closed with it.
 */
static LhIngest *
ingest_open(const LhSource *source, bool continuous)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(context, "properties", ALLOCSET_SMALL_SIZES);
	KafkaIngest *ingest = palloc0(sizeof(KafkaIngest));

	ingest->base.routine = &lh_kafka_ingest;
	ingest->base.source = source;
	ingest->base.context = context;
	ingest->continuous = continuous;
	ingest->slot_context = AllocSetContextCreate(context, "partitions", ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(scratch);
	ingest->kafka = lh_kafka_open(lh_server_kafka_properties(source->server, source->owner), context);
	MemoryContextSwitchTo(context);
	MemoryContextDelete(scratch);
	/* runs before the client is closed, whose messages these are */
	ingest->callback.func = release_at_reset;
	ingest->callback.arg = ingest;
	MemoryContextRegisterResetCallback(context, &ingest->callback);
	read_slots(ingest);
	return &ingest->base;
}

static bool
reads_topic(const LhSource *source, const char *topic)
{
	for (int i = 0; source->topics[i] != NULL; i++)
	{
		if (strcmp(source->topics[i], topic) == 0)
			return true;
	}
	return false;
}

/*
 * read_slots takes the positions of the catalog as the truth.
 */
static void
read_slots(KafkaIngest *ingest)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(ingest->slot_context);
	LhKafkaSlot *slots;
	int			rows;

	MemoryContextReset(ingest->slot_context);
	rows = lh_kafka_offset_read(ingest->base.source->source_id, &slots);
	ingest->count = 0;
	for (int i = 0; i < rows; i++)
	{
		if (reads_topic(ingest->base.source, slots[i].topic))
			slots[ingest->count++] = slots[i];
	}
	ingest->slots = slots;
	ingest->places = palloc(sizeof(LhKafkaPlace) * Max(ingest->count, 1));
	for (int i = 0; i < ingest->count; i++)
	{
		ingest->places[i].topic = slots[i].topic;
		ingest->places[i].partition = slots[i].partition;
	}
	ingest->reload = ingest->reading = ingest->changed = false;
	MemoryContextSwitchTo(oldcontext);
}

static void
discard_messages(KafkaIngest *ingest)
{
	lh_kafka_release(ingest->messages, ingest->message_count);
	ingest->message_count = 0;
	ingest->message_bytes = 0;
}

static void
release_at_reset(void *arg)
{
	discard_messages(arg);
}

/*
 * look_at_cluster learns partitions and ranges and starts what is not running.
 * Where it must begin and cannot, ingest->trouble says why; a look in passing
 * that fails is repeated later, for a part of the brokers may well be there.
 */
static void
look_at_cluster(KafkaIngest *ingest)
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
add_slot(KafkaIngest *ingest, const char *topic, int32 partition)
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
look_at_topics(KafkaIngest *ingest)
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
				stop_slot(ingest, slot, error.sqlstate, "topic \"%s\": %s", topic, error.message);
			else if (slot->absent)
				stop_slot(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
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
look_at_ranges(KafkaIngest *ingest)
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
				stop_slot(ingest, slot, error.sqlstate, "partition %d of topic \"%s\": %s",
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
check_range(KafkaIngest *ingest, LhKafkaSlot *slot, int64 low, int64 end)
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
		count_stall(ingest, slot);
		return;
	}
	/* one that stalls is tried again by the next run, or the next look */
	if (!ingest->continuous && slot->stalls >= STALL_LIMIT)
		return;
	slot->stopped = false;
	if (slot->next < low)
		stop_slot(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				  "offsets [" INT64_FORMAT "," INT64_FORMAT ") of partition %d of topic \"%s\" were lost: the broker dropped them before they were read",
				  slot->next, low, slot->partition, slot->topic);
	else if (slot->next > end)
		stop_slot(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				  "partition %d of topic \"%s\" ends at offset " INT64_FORMAT ", before offset " INT64_FORMAT " that is next: the topic was shortened or created again",
				  slot->partition, slot->topic, end, slot->next);
	else if (slot->alarms > ALARM_LIMIT)
		stop_slot(ingest, slot, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  "offset " INT64_FORMAT " of partition %d of topic \"%s\" is there but the broker refuses to give it",
				  slot->next, slot->partition, slot->topic);
}

/*
 * count_stall stops a partition that has records and gives none, for example
 * because one is larger than the client takes.
 */
static void
count_stall(KafkaIngest *ingest, LhKafkaSlot *slot)
{
	if (slot->next != slot->seen || slot->next >= slot->end)
		slot->stalls = 0;
	else if (++slot->stalls >= STALL_LIMIT)
		stop_slot(ingest, slot, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  "partition %d of topic \"%s\" gives no record from offset " INT64_FORMAT " although it ends at " INT64_FORMAT,
				  slot->partition, slot->topic, slot->next, slot->end);
	slot->seen = slot->next;
}

/*
 * stop_slot stops one partition with a reason, which is news once.
 */
static void
stop_slot(KafkaIngest *ingest, LhKafkaSlot *slot, int sqlstate, const char *format,...)
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
start_partitions(KafkaIngest *ingest)
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
			stop_slot(ingest, slot, error.sqlstate, "partition %d of topic \"%s\": %s",
					  slot->partition, slot->topic, error.message);
	}
	ingest->reading = true;
}

/*
 * slot_is_well forgets why a partition was stopped once it gives records again,
 * or has none to give.
 */
static void
slot_is_well(KafkaIngest *ingest, LhKafkaSlot *slot)
{
	slot->alarms = slot->stalls = 0;
	if (slot->error.sqlstate == 0)
		return;
	slot->error.sqlstate = 0;
	slot->changed = ingest->changed = true;
}

/*
 * take_messages takes what is here, up to "limit" messages in memory, and
 * returns how many records that added.
 */
static int
take_messages(KafkaIngest *ingest, int limit)
{
	LhKafkaMessage *room = ingest->messages + ingest->message_count;
	int			count;
	int			kept = 0;

	if (limit <= ingest->message_count)
		return 0;
	count = lh_kafka_take(ingest->kafka, room, limit - ingest->message_count);
	if (count > 0)
		ingest->heard = GetCurrentTimestamp();
	for (int i = 0; i < count; i++)
	{
		if (take_event(ingest, &room[i]))
		{
			ingest->message_bytes += room[i].key_length + room[i].value_length;
			if (kept != i)
				room[kept] = room[i];
			kept++;
		}
		else
			lh_kafka_release(&room[i], 1);
	}
	if (ingest->message_count == 0 && kept > 0)
		ingest->first_message = ingest->heard;
	ingest->message_count += kept;
	return kept;
}

/*
 * memory_full tells whether what was collected should be written before more
 * is taken.
 */
static bool
memory_full(const KafkaIngest *ingest)
{
	return ingest->message_count >= Min(CHUNK, lh_batch_rows) ||
		ingest->message_bytes >= Min(CHUNK_BYTES, (int64) lh_batch_bytes * 1024);
}

/*
 * take_event lets one event change its slot; true if it is a record to store.
 */
static bool
take_event(KafkaIngest *ingest, LhKafkaMessage *message)
{
	LhKafkaSlot *slot = &ingest->slots[message->slot];
	LhError		error;

	if (slot->stopped)
		return false;
	switch (message->event)
	{
		case LH_KAFKA_RECORD:
			return take_record(ingest, slot, message);
		case LH_KAFKA_EOF:
			slot->verify = false;
			slot_is_well(ingest, slot);
			slot->end = message->offset;
			if (message->offset > slot->next)
			{
				/* control records and aborted transactions lie between */
				slot->next = message->offset;
				slot->changed = ingest->changed = true;
			}
			return false;
		case LH_KAFKA_RANGE:
			slot->alarms++;
			ingest->reading = false;
			return false;
		case LH_KAFKA_FAILURE:
			lh_kafka_failure(message, &error);
			stop_slot(ingest, slot, error.sqlstate,
					  "partition %d of topic \"%s\" at offset " INT64_FORMAT ": %s",
					  slot->partition, slot->topic, slot->next, error.message);
			return false;
	}
	return false;
}

static bool
take_record(KafkaIngest *ingest, LhKafkaSlot *slot, LhKafkaMessage *message)
{
	if (slot->verify)
	{
		slot->verify = false;
		if (message->offset == slot->last_offset &&
			(message->timestamp != slot->last_timestamp ||
			 lh_kafka_offset_hash(message) != slot->last_hash))
		{
			stop_slot(ingest, slot, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					  "record " INT64_FORMAT " of partition %d of topic \"%s\" is not the one that was loaded: the topic was created again",
					  message->offset, slot->partition, slot->topic);
			return false;
		}
	}
	slot_is_well(ingest, slot);
	/* librdkafka may deliver a record twice */
	if (message->offset < slot->next)
		return false;
	slot->next = message->offset + 1;
	slot->records++;
	return true;
}

/*
 * ready tells whether a batch should be written now.
 */
static bool
ready(KafkaIngest *ingest, TimestampTz now)
{
	if (ingest->trouble.sqlstate != 0 || memory_full(ingest))
		return true;
	if (ingest->message_count == 0)
		return ingest->changed;
	if (ingest->continuous)
		return TimestampDifferenceExceeds(ingest->first_message, now, lh_kafka_linger_ms);
	return caught_up(ingest) || TimestampDifferenceExceeds(ingest->heard, now, PATIENCE_MS);
}

/*
 * caught_up tells whether every partition reached the end that it had when the
 * run began, or is stopped.
 */
static bool
caught_up(const KafkaIngest *ingest)
{
	if (!ingest->reading)
		return false;
	for (int i = 0; i < ingest->count; i++)
	{
		const LhKafkaSlot *slot = &ingest->slots[i];

		if (!slot->stopped && (slot->next < slot->target || slot->verify))
			return false;
	}
	return true;
}

/*
 * check_connection turns silence or a lost connection into ingest->trouble.
 */
static void
check_connection(KafkaIngest *ingest, TimestampTz now)
{
	const LhError *trouble;
	LhError		error;
	long		age;
	bool		silent = !ingest->continuous &&
		TimestampDifferenceExceeds(ingest->heard, now, SILENCE_LIMIT_MS);

	trouble = lh_kafka_trouble(ingest->kafka, &age);
	if (trouble == NULL && !silent)
		return;
	if (trouble != NULL && trouble->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
		ingest->trouble = *trouble;
	else if (silent || age > DOWN_LIMIT_MS)
	{
		/* an answer also ends what librdkafka last complained of */
		if (lh_kafka_partitions(ingest->kafka, ingest->base.source->topics[0], 1500, &error) < 0 &&
			error.sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
			ingest->trouble = error;
		else if (silent)
		{
			/* start afresh, without those for which that did not help */
			for (int i = 0; i < ingest->count; i++)
			{
				if (ingest->slots[i].running)
					count_stall(ingest, &ingest->slots[i]);
			}
			ingest->reading = false;
			ingest->heard = GetCurrentTimestamp();
		}
	}
}

/*
 * ingest_wait waits for something to write; see ingest.h.
 */
static bool
ingest_wait(LhIngest *base, long timeout_ms)
{
	KafkaIngest *ingest = (KafkaIngest *) base;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	bool		bounded = ingest->continuous || timeout_ms > 0;

	for (;;)
	{
		TimestampTz now;
		long		pause = 100;
		int			taken = 0;

		CHECK_FOR_INTERRUPTS();
		/* the positions must be read first, which needs a transaction */
		if (ingest->reload)
			return true;
		now = GetCurrentTimestamp();
		if (!ingest->reading ||
			(ingest->continuous &&
			 TimestampDifferenceExceeds(ingest->looked, now, lh_kafka_refresh_interval)))
			look_at_cluster(ingest);
		if (ingest->trouble.sqlstate == 0 && !memory_full(ingest))
			taken = take_messages(ingest, Min(CHUNK, lh_batch_rows));
		now = GetCurrentTimestamp();
		if (ready(ingest, now))
			return true;
		if (!ingest->reading || taken > 0)
			continue;
		if (!ingest->continuous && caught_up(ingest))
			return ingest->message_count > 0;
		check_connection(ingest, now);
		if (ingest->trouble.sqlstate != 0)
			return true;
		if (bounded && now >= deadline)
			return !ingest->continuous;
		if (ingest->message_count > 0 && ingest->continuous)
			pause = Min(pause, Max(1, lh_kafka_linger_ms -
								   TimestampDifferenceMilliseconds(ingest->first_message, now)));
		if (bounded)
			pause = Min(pause, Max(1, TimestampDifferenceMilliseconds(now, deadline)));
		lh_kafka_wait(ingest->kafka, pause);
	}
}

/*
 * ingest_batch writes what was collected; see ingest.h.
 */
static bool
ingest_batch(LhIngest *base, LhIngestCounts *counts)
{
	KafkaIngest *ingest = (KafkaIngest *) base;
	MemoryContext context;
	MemoryContext oldcontext;

	if (ingest->reload)
	{
		discard_messages(ingest);
		read_slots(ingest);
	}
	if (!ingest->continuous && ingest->message_count == 0 && !ingest->changed &&
		ingest->trouble.sqlstate == 0)
		(void) ingest_wait(base, 0);
	/* what came before the trouble is good */
	if (ingest->trouble.sqlstate != 0 && ingest->message_count == 0)
		raise_trouble(ingest);
	if (ingest->message_count == 0 && !ingest->changed)
		return false;

	LH_FAULT("kafka-poll");
	if (!lh_kafka_offset_lock(ingest->base.source->source_id, ingest->slots, ingest->count))
	{
		/* somebody else moved the positions: what is in memory is not ours */
		ingest->reload = true;
		return true;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse Kafka batch",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	write_batch(ingest, counts);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	return true;
}

/*
 * raise_trouble raises what wait found, once.
 */
static void
raise_trouble(KafkaIngest *ingest)
{
	LhError		error = ingest->trouble;

	ingest->trouble.sqlstate = 0;
	ingest->reading = false;
	if (error.sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
		ereport(ERROR,
				(errcode(error.sqlstate),
				 errmsg("%s", error.message),
				 errhint("Check the option \"bootstrap.servers\" of the server, the network and the brokers.")));
	ereport(ERROR, (errcode(error.sqlstate), errmsg("%s", error.message)));
}

/*
 * write_batch writes messages, load and positions in the caller's transaction.
 */
static void
write_batch(KafkaIngest *ingest, LhIngestCounts *counts)
{
	if (ingest->message_count > 0)
		write_messages(ingest, counts);
	LH_FAULT("kafka-offset-write");
	save_positions(ingest);
}

static Jsonb *
source_options(const LhSource *source)
{
	if (source->options == NULL)
		return NULL;
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));
}

/*
 * write_messages stores what was collected and then what the client has ready,
 * without waiting, up to the bounds of a batch.
 */
static void
write_messages(KafkaIngest *ingest, LhIngestCounts *counts)
{
	const LhSource *source = ingest->base.source;
	LhWriter   *writer = lh_writer_open(source->target, source->source_id, false);
	LhKafkaReader *reader = lh_kafka_reader_open(lh_writer_tupdesc(writer),
												 lh_writer_fillable(writer), source_options(source));
	LhLoad		load = {0};
	LhWriteCounts written;
	int64		records = 0;
	int			chunk = 0;

	for (int i = 0; i < ingest->count; i++)
		ingest->slots[i].chunk = 0;
	lh_writer_set_may_raise(writer, lh_kafka_reader_may_raise(reader));
	load.load_id = lh_load_reserve();
	load.relation = source->target;
	load.kind = LH_LOAD_KAFKA;
	load.source_id = source->source_id;
	load.started = GetCurrentTimestamp();
	lh_writer_begin_load(writer, load.load_id, 0);
	while (ingest->message_count > 0)
	{
		LhRecords	batch;

		CHECK_FOR_INTERRUPTS();
		lh_kafka_reader_records(reader, ingest->messages, ingest->message_count,
								ingest->places, &batch);
		lh_writer_write(writer, &batch);
		remember_last(ingest, ++chunk);
		load.bytes += ingest->message_bytes;
		records += ingest->message_count;
		discard_messages(ingest);
		if (load.bytes < (int64) lh_batch_bytes * 1024 && ingest->reading)
			(void) take_messages(ingest, (int) Min(CHUNK, lh_batch_rows - records));
	}
	written = lh_writer_end_load(writer);
	load.rows = written.rows;
	load.rejected = written.rejected;
	load.offsets = lh_kafka_offset_json(ingest->slots, ingest->count);
	lh_load_record(&load);
	lh_writer_close(writer);
	if (written.rejected > 0)
		lh_kafka_offset_count_rejects(source->source_id, load.load_id, ingest->slots, ingest->count);
	counts->loads++;
	counts->rows += written.rows;
	counts->rejected += written.rejected;
	counts->bytes += load.bytes;
}

/*
 * remember_last keeps what recognises the last record of each partition.
 */
static void
remember_last(KafkaIngest *ingest, int chunk)
{
	for (int i = ingest->message_count - 1; i >= 0; i--)
	{
		const LhKafkaMessage *message = &ingest->messages[i];
		LhKafkaSlot *slot = &ingest->slots[message->slot];

		if (slot->chunk == chunk)
			continue;
		slot->chunk = chunk;
		slot->last_offset = message->offset;
		slot->last_timestamp = message->timestamp;
		slot->last_hash = lh_kafka_offset_hash(message);
	}
}

/*
 * save_positions writes the slots, and warns of those that are stopped now.
 */
static void
save_positions(KafkaIngest *ingest)
{
	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		slot->end = Max(slot->end, Max(slot->next, lh_kafka_known_end(ingest->kafka, slot->topic,
																	 slot->partition)));
		if (slot->changed && slot->error.sqlstate != 0)
			ereport(WARNING,
					(errcode(slot->error.sqlstate),
					 errmsg("source \"%s\" stopped reading one partition", ingest->base.source->name),
					 errdetail("%s.", slot->error.message)));
	}
	lh_kafka_offset_save(ingest->base.source->source_id, ingest->slots, ingest->count);
	ingest->changed = false;
}

static void
ingest_committed(LhIngest *base)
{
	LH_FAULT("kafka-after-commit");
}

/*
 * ingest_aborted forgets everything that a rollback may have made wrong.
 */
static void
ingest_aborted(LhIngest *base)
{
	KafkaIngest *ingest = (KafkaIngest *) base;

	discard_messages(ingest);
	ingest->reload = true;
}

static void
ingest_close(LhIngest *base)
{
	KafkaIngest *ingest = (KafkaIngest *) base;

	discard_messages(ingest);
	lh_kafka_close(ingest->kafka);
}

const LhIngestRoutine lh_kafka_ingest = {
	.open = ingest_open,
	.wait = ingest_wait,
	.batch = ingest_batch,
	.committed = ingest_committed,
	.aborted = ingest_aborted,
	.close = ingest_close
};
