/*
 * kafka_ingest.c
 *	  A Kafka source being read into its bronze table.
 *
 * Looking at the cluster, waiting for records and proving that they are of the
 * topics that were read so far (ingest_wait) happen outside of any transaction
 * where the caller is a worker.  What was found is written by ingest_batch, in the
 * caller's transaction, together with the positions, and with it what is here
 * already and needs no proof; a batch waits for no broker.
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

#include "bronze/kafka_decode.h"
#include "bronze/kafka_internal.h"
#include "bronze/writer.h"
#include "delta/load.h"
#include "fault.h"
#include "guc.h"
#include "source/kafka_reader.h"

/* bytes of messages that are written before more are taken */
#define CHUNK_BYTES (16 * 1024 * 1024)

/* a run writes what it has after this long */
#define PATIENCE_MS 1000

/* a worker's batch takes no more records after this long: those of one partition
 * must not wait until a backlog of another one fills it */
#define BATCH_MS 1000

static Jsonb *source_options(const LhSource *source);
static void read_options(LhKafkaIngest *ingest);
static void read_slots(LhKafkaIngest *ingest);
static bool share_changed(const LhKafkaIngest *ingest);
static void discard_messages(LhKafkaIngest *ingest);
static void release_at_reset(void *arg);
static int	take_messages(LhKafkaIngest *ingest, int limit);
static int	batch_rows(const LhKafkaIngest *ingest);
static int64 batch_bytes(const LhKafkaIngest *ingest);
static int	linger_ms(const LhKafkaIngest *ingest);
static bool memory_full(const LhKafkaIngest *ingest);
static bool take_event(LhKafkaIngest *ingest, LhKafkaMessage *message);
static bool take_record(LhKafkaIngest *ingest, LhKafkaSlot *slot, LhKafkaMessage *message);
static bool is_enough(const LhKafkaIngest *ingest);
static bool collect(LhKafkaIngest *ingest, long timeout_ms);
static bool ready(LhKafkaIngest *ingest, TimestampTz now);
static bool caught_up(const LhKafkaIngest *ingest);
static void raise_trouble(LhKafkaIngest *ingest);
static void write_batch(LhKafkaIngest *ingest, LhIngestCounts *counts);
static void write_messages(LhKafkaIngest *ingest, LhIngestCounts *counts);
static void remember_last(LhKafkaIngest *ingest, int chunk);
static void save_positions(LhKafkaIngest *ingest);

static Jsonb *
source_options(const LhSource *source)
{
	if (source->options == NULL)
		return NULL;
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));
}

/*
 * ingest_open reads the positions and makes a client.  It reaches no broker.
 * The ingest lives in the current context, and the client is closed with it.
 */
static LhIngest *
ingest_open(const LhSource *source, bool continuous)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(context, "properties", ALLOCSET_SMALL_SIZES);
	LhKafkaIngest *ingest = palloc0(sizeof(LhKafkaIngest));

	ingest->base.routine = &lh_kafka_ingest;
	ingest->base.source = source;
	ingest->base.context = context;
	ingest->continuous = continuous;
	ingest->slot_context = AllocSetContextCreate(context, "partitions", ALLOCSET_DEFAULT_SIZES);
	read_options(ingest);

	read_slots(ingest);

	lh_kafka_schemas_open(ingest);
	MemoryContextSwitchTo(scratch);
	ingest->kafka = lh_kafka_open(lh_kafka_client_properties(ingest), context);
	MemoryContextSwitchTo(context);
	MemoryContextDelete(scratch);
	lh_kafka_guard_messages(ingest);
	return &ingest->base;
}

/*
 * read_options reads the source's options, which stay as long as the ingest.
 */
static void
read_options(LhKafkaIngest *ingest)
{
	Jsonb	   *options = source_options(ingest->base.source);

	lh_kafka_options_parse(ingest->base.source->topics, options, &ingest->options);
	lh_kafka_bound_parse(options, true, &ingest->ending);
	if (ingest->continuous)
		ingest->ending.given = false;
}

/*
 * read_slots takes the positions of the catalog as the truth.
 */
static void
read_slots(LhKafkaIngest *ingest)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(ingest->slot_context);
	LhKafkaSlot *slots;
	int			rows;

	MemoryContextReset(ingest->slot_context);
	ingest->share = ingest->base.share;
	ingest->share_count = 0;
	if (lh_kafka_is_shared(ingest))
		ingest->share_count = lh_kafka_share_read(ingest->base.source->source_id, &ingest->shares);
	ingest->losses = NIL;
	rows = lh_kafka_offset_read(ingest->base.source->source_id, &slots);
	ingest->count = 0;
	for (int i = 0; i < rows; i++)
	{
		LhKafkaSlot *slot = &slots[i];

		if (!lh_kafka_reads(&ingest->options.subscription, slot->topic, slot->partition) ||
			!lh_kafka_owns(ingest, slot->topic, slot->partition))
			continue;
		slot->held = slot->stopped =
			slot->error.sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE &&
			ingest->options.on_data_loss == LH_ON_DATA_LOSS_STOP;
		slots[ingest->count++] = *slot;
	}
	ingest->slots = slots;
	ingest->places = palloc(sizeof(LhKafkaPlace) * Max(ingest->count, 1));
	for (int i = 0; i < ingest->count; i++)
	{
		ingest->places[i].topic = slots[i].topic;
		ingest->places[i].partition = slots[i].partition;
	}
	ingest->reload = ingest->reading = ingest->changed = ingest->again = false;
	lh_kafka_apply_strangers(ingest);
	ingest->suspect = ingest->replaced = false;
	MemoryContextSwitchTo(oldcontext);
}

/*
 * share_changed tells whether this worker may have other partitions by now.
 */
static bool
share_changed(const LhKafkaIngest *ingest)
{
	const LhShare *now = &ingest->base.share;

	return ingest->share.alive != now->alive || ingest->share.division != now->division;
}

static void
discard_messages(LhKafkaIngest *ingest)
{
	lh_kafka_release(ingest->messages, Max(ingest->message_count, ingest->held.count));
	ingest->message_count = ingest->held.count = 0;
	ingest->message_bytes = 0;
}

static void
release_at_reset(void *arg)
{
	discard_messages(arg);
}

/*
 * lh_kafka_guard_messages sees to it that messages are released before the client
 * is closed that they are of: the callback that was registered last runs first.
 */
void
lh_kafka_guard_messages(LhKafkaIngest *ingest)
{
	MemoryContextCallback *callback = MemoryContextAlloc(ingest->base.context, sizeof(MemoryContextCallback));

	callback->func = release_at_reset;
	callback->arg = ingest;
	MemoryContextRegisterResetCallback(ingest->base.context, callback);
}

/*
 * take_messages takes what is here, up to "limit" messages in memory, and
 * returns how many records that added.
 */
static int
take_messages(LhKafkaIngest *ingest, int limit)
{
	LhKafkaMessage *room = ingest->messages + ingest->message_count;
	int			count;
	int			kept = 0;

	if (limit <= ingest->message_count || ingest->again)
		return 0;
	count = lh_kafka_take(ingest->kafka, room, limit - ingest->message_count);
	ingest->drained |= count == 0;
	if (lh_kafka_doubtful(ingest->kafka) || lh_kafka_went_back(ingest, room, count))
	{
		/* these may be of another log: begin again at the last record loaded */
		lh_kafka_release(room, count);
		if (ingest->message_count > 0 || ingest->changed)
			ingest->again = true;
		else
			ingest->reading = false;
		return 0;
	}
	if (count > 0)
	{
		ingest->heard = GetCurrentTimestamp();
		ingest->answered = true;
	}
	lh_kafka_note_taken(ingest, count);
	for (int i = 0; i < count; i++)
	{
		if (take_event(ingest, &room[i]))
		{
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
	ingest->message_bytes += lh_kafka_measure(ingest, room, kept);
	/* another client reads what comes next */
	ingest->again |= kept > 0 && !lh_kafka_ahead_fits(ingest);
	return kept;
}

/*
 * memory_full tells whether what was collected should be written before more
 * is taken.
 */
static bool
memory_full(const LhKafkaIngest *ingest)
{
	return ingest->message_count >= Min(CHUNK, batch_rows(ingest)) ||
		ingest->message_bytes >= Min(CHUNK_BYTES, batch_bytes(ingest));
}

/* the bounds of a batch: the source's, else the settings' */
static int
batch_rows(const LhKafkaIngest *ingest)
{
	return ingest->options.batch_rows >= 0 ? ingest->options.batch_rows : lh_batch_rows;
}

static int64
batch_bytes(const LhKafkaIngest *ingest)
{
	return (int64) 1024 * (ingest->options.batch_bytes >= 0 ? ingest->options.batch_bytes : lh_batch_bytes);
}

static int
linger_ms(const LhKafkaIngest *ingest)
{
	return ingest->options.linger_ms >= 0 ? ingest->options.linger_ms : lh_kafka_linger_ms;
}

/*
 * take_event lets one event change its slot; true if it is a record to store.
 */
static bool
take_event(LhKafkaIngest *ingest, LhKafkaMessage *message)
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
			lh_kafka_slot_is_well(ingest, slot);
			/* control records and aborted transactions may lie before it, open
			 * transactions behind */
			if (message->offset > slot->next || message->offset < slot->end)
				slot->changed = ingest->changed = true;
			slot->next = Max(slot->next, message->offset);
			slot->end = message->offset;
			slot->heard = ingest->heard;
			slot->at_end = true;
			return false;
		case LH_KAFKA_RANGE:
			slot->alarms++;
			ingest->reading = false;
			return false;
		case LH_KAFKA_FAILURE:
			lh_kafka_failure(message, &error);
			lh_kafka_slot_stop(ingest, slot, error.sqlstate,
					  "partition %d of topic \"%s\" at offset " INT64_FORMAT ": %s",
					  slot->partition, slot->topic, slot->next, error.message);
			return false;
	}
	return false;
}

static bool
take_record(LhKafkaIngest *ingest, LhKafkaSlot *slot, LhKafkaMessage *message)
{
	if (slot->verify)
	{
		slot->verify = false;
		if (message->offset == slot->last_offset &&
			(message->timestamp != slot->last_timestamp ||
			 (message->epoch >= 0 && slot->last_epoch >= 0 && message->epoch != slot->last_epoch) ||
			 lh_kafka_offset_hash(message) != slot->last_hash))
		{
			/* another record: the next look decides what that means */
			slot->foreign = slot->stopped = true;
			ingest->reading = false;
			return false;
		}
	}
	slot->heard = ingest->heard;
	slot->at_end = false;
	/* librdkafka may deliver a record twice */
	if (message->offset < slot->next)
		return false;
	lh_kafka_slot_is_well(ingest, slot);
	if (slot->limit >= 0 && message->offset >= slot->limit)
	{
		lh_kafka_stop(ingest->kafka, slot->topic, slot->partition);
		slot->running = false;
		slot->next = slot->limit;
		slot->changed = ingest->changed = true;
		return false;
	}
	slot->next = message->offset + 1;
	slot->records++;
	slot->bytes += message->key_length + message->value_length;
	return true;
}

/*
 * is_enough tells whether a source that wants so many records in a batch need not
 * wait for more.  What happened to a partition does not wait for them.
 */
static bool
is_enough(const LhKafkaIngest *ingest)
{
	if (ingest->options.min_batch_rows == 0)
		return false;
	for (int i = 0; i < ingest->count; i++)
	{
		if (ingest->slots[i].news)
			return true;
	}
	return ingest->message_count >= ingest->options.min_batch_rows;
}

/*
 * ready tells whether a batch should be written now.
 */
static bool
ready(LhKafkaIngest *ingest, TimestampTz now)
{
	if (ingest->trouble.sqlstate != 0 || ingest->again || memory_full(ingest))
		return true;
	if (ingest->continuous && ingest->answered && !ingest->proved)
		return ingest->proved = true;
	if (ingest->message_count == 0)
		return ingest->changed;
	if (ingest->continuous)
		return is_enough(ingest) ||
			TimestampDifferenceExceeds(ingest->first_message, now, linger_ms(ingest));
	return caught_up(ingest) || TimestampDifferenceExceeds(ingest->heard, now, PATIENCE_MS);
}

/*
 * caught_up tells whether every partition reached the end that it had when the
 * run began, or is stopped.
 */
static bool
caught_up(const LhKafkaIngest *ingest)
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
 * ingest_wait waits for something to write; see ingest.h.  What cannot be of the
 * topics that were read so far is not to be written.
 */
static bool
ingest_wait(LhIngest *base, long timeout_ms)
{
	LhKafkaIngest *ingest = (LhKafkaIngest *) base;
	bool		found = collect(ingest, timeout_ms) && lh_kafka_schemas_learn(ingest);

	if (found && !ingest->reload && (ingest->message_count > 0 || ingest->changed) &&
		lh_kafka_suspects(ingest) && !lh_kafka_prove(ingest))
		ingest->reload = true;
	/* the batch may have to wait, and this client would fill the memory meanwhile;
	 * without a batch to come nobody would begin again */
	if (ingest->again && !lh_kafka_ahead_fits(ingest))
		lh_kafka_stop_reading(ingest);
	return found;
}

/*
 * collect waits until there is something to write, up to a time.
 */
static bool
collect(LhKafkaIngest *ingest, long timeout_ms)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	bool		bounded = ingest->continuous || timeout_ms > 0;

	for (;;)
	{
		TimestampTz now;
		long		pause = 100;
		int			taken = 0;
		bool		look;

		CHECK_FOR_INTERRUPTS();
		/* the positions must be read first, which needs a transaction */
		ingest->reload |= share_changed(ingest);
		if (ingest->reload)
			return true;
		now = GetCurrentTimestamp();
		look = !ingest->reading ||
			(ingest->continuous &&
			 TimestampDifferenceExceeds(ingest->looked, now, lh_kafka_refresh_interval));
		if (look && ingest->reading && !lh_kafka_prove(ingest))
			return ingest->reload = true;
		if (look)
			lh_kafka_look(ingest);
		if (ingest->trouble.sqlstate == 0 && !memory_full(ingest))
			taken = take_messages(ingest, Min(CHUNK, batch_rows(ingest)));
		now = GetCurrentTimestamp();
		if (ready(ingest, now))
			return true;
		if (!ingest->reading || taken > 0)
			continue;
		if (!ingest->continuous && caught_up(ingest))
			return ingest->message_count > 0;
		lh_kafka_publish_positions(ingest, false);
		lh_kafka_check_connection(ingest, now);
		if (ingest->trouble.sqlstate != 0)
			return true;
		if (bounded && now >= deadline)
			return !ingest->continuous;
		if (ingest->message_count > 0 && ingest->continuous)
			pause = Min(pause, Max(1, linger_ms(ingest) -
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
	LhKafkaIngest *ingest = (LhKafkaIngest *) base;
	MemoryContext context;
	MemoryContext oldcontext;

	if (ingest->reload || share_changed(ingest))
	{
		discard_messages(ingest);
		read_slots(ingest);
	}
	/* what came before the trouble is good */
	if (ingest->trouble.sqlstate != 0 && ingest->message_count == 0)
		raise_trouble(ingest);
	/* a run may have more to wait for, which is not done here, and for what the last
	 * batch held back a schema is to be asked for */
	if ((ingest->message_count == 0 && !ingest->changed) || !lh_kafka_schemas_known(ingest))
		return !ingest->continuous;

	LH_FAULT("kafka-poll");
	if (!lh_kafka_offset_lock(ingest->base.source->source_id, ingest->slots, ingest->count,
							  lh_kafka_is_shared(ingest)))
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
raise_trouble(LhKafkaIngest *ingest)
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
write_batch(LhKafkaIngest *ingest, LhIngestCounts *counts)
{
	if (ingest->message_count > 0)
		write_messages(ingest, counts);
	LH_FAULT("kafka-offset-write");
	save_positions(ingest);
	lh_kafka_schemas_resume(ingest);
}

static bool
long_enough(const LhKafkaIngest *ingest, TimestampTz started)
{
	return ingest->continuous &&
		TimestampDifferenceExceeds(started, GetCurrentTimestamp(), BATCH_MS);
}

/*
 * write_messages stores what was collected and then what the client has ready,
 * without waiting, up to the bounds of a batch.
 */
static void
write_messages(LhKafkaIngest *ingest, LhIngestCounts *counts)
{
	const LhSource *source = ingest->base.source;
	LhWriter   *writer = lh_writer_open(source->target, source->source_id, false);
	LhFileSchema *schema;
	LhKafkaReader *reader = lh_kafka_decode_open(source_options(source), ingest->registry,
												 lh_writer_tupdesc(writer), lh_writer_fillable(writer), &schema);
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
	if (schema != NULL)
		lh_file_schema_begin_load(schema, writer);
	lh_writer_begin_load(writer, load.load_id, 0);
	while (ingest->message_count > 0)
	{
		LhRecords	batch;

		CHECK_FOR_INTERRUPTS();
		lh_kafka_reader_records(reader, ingest->messages, ingest->message_count,
								ingest->places, &batch);
		lh_writer_write(writer, schema ? lh_file_schema_wrap(schema, &batch) : &batch);
		remember_last(ingest, ++chunk);
		load.bytes += ingest->message_bytes;
		records += ingest->message_count;
		discard_messages(ingest);
		if (load.bytes < batch_bytes(ingest) && ingest->reading && !long_enough(ingest, load.started))
		{
			lh_kafka_schemas_mark(ingest);
			(void) take_messages(ingest, Min(lh_kafka_may_take(ingest),
											 (int) Min(CHUNK, batch_rows(ingest) - records)));
			lh_kafka_schemas_hold(ingest);
		}
	}
	written = lh_writer_end_load(writer);
	load.rows = written.rows;
	load.rejected = written.rejected;
	load.rescued = written.rescued;
	load.offsets = lh_kafka_offset_json(ingest->slots, ingest->count);
	lh_load_record(&load);
	if (schema != NULL)
		lh_file_schema_end_load(schema, load.load_id);
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
remember_last(LhKafkaIngest *ingest, int chunk)
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
		slot->last_epoch = message->epoch;
	}
}

/*
 * warn_of tells what befell partitions since the last batch.
 */
static void
warn_of(LhKafkaIngest *ingest)
{
	const char *name = ingest->base.source->name;
	ListCell   *cell;

	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		if (slot->news && slot->error.sqlstate != 0)
			ereport(WARNING,
					(errcode(slot->error.sqlstate),
					 errmsg("source \"%s\" stopped reading one partition", name),
					 errdetail("%s.", slot->error.message)));
		slot->news = false;
	}
	foreach(cell, ingest->losses)
	{
		const LhKafkaLoss *loss = lfirst(cell);

		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("source \"%s\" goes on at offset " INT64_FORMAT " of partition %d of topic \"%s\"",
						name, loss->resumed, loss->partition, loss->topic),
				 errdetail("Offsets [" INT64_FORMAT "," INT64_FORMAT ") were not read (%s).",
						   loss->first, loss->next, loss->reason)));
	}
}

/*
 * save_positions writes the slots and what was lost.  The end of a partition that
 * was read to its end is its position, whatever transactions are still open.
 */
static void
save_positions(LhKafkaIngest *ingest)
{
	int32		source_id = ingest->base.source->source_id;

	for (int i = 0; i < ingest->count; i++)
	{
		LhKafkaSlot *slot = &ingest->slots[i];

		slot->high = Max(slot->next, lh_kafka_known_end(ingest->kafka, slot->topic, slot->partition, NULL));
		slot->end = slot->at_end ? slot->next : Max(slot->end, slot->high);
		slot->high = Max(slot->high, slot->end);
	}
	warn_of(ingest);
	lh_kafka_offset_save(source_id, ingest->slots, ingest->count);
	lh_kafka_offset_save_losses(source_id, ingest->losses);
	list_free(ingest->losses);
	ingest->losses = NIL;
	if (ingest->publish_changed)
		lh_kafka_offset_save_publish_error(source_id, ingest->publish_error);
	ingest->changed = ingest->publish_changed = false;
	if (ingest->again)
		ingest->reading = ingest->again = false;
}

static void
ingest_committed(LhIngest *base)
{
	LH_FAULT("kafka-after-commit");
	lh_kafka_publish_positions((LhKafkaIngest *) base, false);
}

/*
 * ingest_aborted forgets everything that a rollback may have made wrong.
 */
static void
ingest_aborted(LhIngest *base)
{
	LhKafkaIngest *ingest = (LhKafkaIngest *) base;

	discard_messages(ingest);
	ingest->reload = true;
}

static void
ingest_close(LhIngest *base)
{
	LhKafkaIngest *ingest = (LhKafkaIngest *) base;

	discard_messages(ingest);
	lh_kafka_publish_positions(ingest, true);
	lh_kafka_close(ingest->kafka);
	if (ingest->twin != NULL)
		lh_kafka_close(ingest->twin);
}

const LhIngestRoutine lh_kafka_ingest = {
	.open = ingest_open,
	.wait = ingest_wait,
	.batch = ingest_batch,
	.committed = ingest_committed,
	.aborted = ingest_aborted,
	.close = ingest_close
};
