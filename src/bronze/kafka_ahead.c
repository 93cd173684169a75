/*
 * kafka_ahead.c
 *	  How many records are read ahead, so that the memory for them is bounded.
 *
 * librdkafka counts the values that it holds against lakehouse.kafka_read_ahead,
 * but neither keys nor headers.  So their sizes are looked at here, in a sample of
 * the records.
 *
 * Invariant: where keys and headers would make what is held more than twice the
 * bound, the client is replaced by one that holds fewer records, before a batch
 * waits for anything.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "bronze/kafka_internal.h"
#include "guc.h"

/* one record of so many is measured */
#define SAMPLE_EVERY 8

/* sizes that go down count after so many of them */
#define SAMPLE_MOST 64

/* a client that holds so many times fewer records than it could is replaced, too,
 * when that has been so for a while */
#define WIDEN_FACTOR 8
#define WIDEN_AFTER_MS 60000

static int64
header_bytes(const LhKafkaMessage *message)
{
	int			count = lh_kafka_headers(message);
	int64		bytes = 0;

	for (int i = 0; i < count; i++)
	{
		const char *name;
		const char *value;
		Size		length;

		if (lh_kafka_header(message, i, &name, &value, &length))
			bytes += strlen(name) + length;
	}
	return bytes;
}

static int64
size_of(const LhKafkaSizes *sizes)
{
	return sizes->count == 0 ? 0 : (sizes->values + sizes->keys + sizes->headers) / sizes->count;
}

/*
 * note_sizes adds what was seen last to what was seen before, which counts for
 * nothing where records became larger: memory is needed at once.
 */
static void
note_sizes(LhKafkaSizes *sizes, const LhKafkaSizes *last)
{
	if (size_of(last) >= size_of(sizes))
		sizes->count = sizes->values = sizes->keys = sizes->headers = 0;
	else if (sizes->count >= SAMPLE_MOST)
	{
		sizes->count /= 2;
		sizes->values /= 2;
		sizes->keys /= 2;
		sizes->headers /= 2;
	}
	sizes->count += last->count;
	sizes->values += last->values;
	sizes->keys += last->keys;
	sizes->headers += last->headers;
}

/*
 * lh_kafka_measure looks at the sizes of records that were taken, and gives what
 * they hold together, their headers by the mean.
 */
int64
lh_kafka_measure(LhKafkaIngest *ingest, const LhKafkaMessage *messages, int count)
{
	LhKafkaSizes last = {0};
	int64		bytes = 0;

	for (int i = 0; i < count; i++)
	{
		const LhKafkaMessage *message = &messages[i];

		bytes += message->key_length + message->value_length;
		if (i % SAMPLE_EVERY != 0)
			continue;
		last.count++;
		last.values += message->value_length;
		last.keys += message->key_length;
		last.headers += header_bytes(message);
	}
	if (count == 0)
		return 0;
	note_sizes(&ingest->sizes, &last);
	return bytes + last.headers * count / last.count;
}

/*
 * fitting_count returns how many records may be held, as far as their sizes are
 * known, or what the client has if that will do.
 */
static int
fitting_count(const LhKafkaIngest *ingest)
{
	const LhKafkaSizes *sizes = &ingest->sizes;
	int64		bound = (int64) lh_kafka_read_ahead * 1024;
	int			now = lh_kafka_ahead(ingest->kafka);
	int64		mean;
	int64		held;
	int64		fitting;

	if (sizes->count == 0)
		return now;
	mean = Max(1, size_of(sizes));
	/* librdkafka stops by itself where the values reach the bound */
	held = Min(now, bound / Max(1, sizes->values / sizes->count));
	fitting = Max(1, Min(LH_KAFKA_AHEAD, bound / mean));
	if (held * mean > 2 * bound)
		return (int) fitting;
	return now < fitting / WIDEN_FACTOR &&
		TimestampDifferenceExceeds(ingest->ahead_set, GetCurrentTimestamp(), WIDEN_AFTER_MS) ? (int) fitting : now;
}

bool
lh_kafka_ahead_fits(const LhKafkaIngest *ingest)
{
	return fitting_count(ingest) == lh_kafka_ahead(ingest->kafka);
}

/*
 * lh_kafka_ahead_fit replaces the client if that is due and nothing of it is in
 * memory; its partitions are to be started anew.
 */
void
lh_kafka_ahead_fit(LhKafkaIngest *ingest)
{
	int			count = fitting_count(ingest);
	LhKafka    *kafka;

	if (count == lh_kafka_ahead(ingest->kafka) || ingest->message_count > 0)
		return;
	kafka = lh_kafka_with_ahead(ingest->kafka, count, ingest->base.context);
	lh_kafka_close(ingest->kafka);
	ingest->kafka = kafka;
	ingest->ahead_set = GetCurrentTimestamp();
	lh_kafka_guard_messages(ingest);
	for (int i = 0; i < ingest->count; i++)
		ingest->slots[i].running = false;
}
