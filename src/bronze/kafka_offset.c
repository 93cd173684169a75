/*
 * kafka_offset.c
 *	  Positions of a Kafka source: rows of lakehouse.kafka_offset.
 *
 * Invariant: a position is written only by the transaction that writes the
 * records before it, after it locked the row and found the position that its
 * reader began at.  A reader that was left behind (by a failover, a second
 * worker, a seek) therefore cannot write.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "bronze/kafka_offset.h"
#include "catalog/catalog_access.h"

static int	find_slot(const LhKafkaSlot *slots, int count, int hint,
					  const char *topic, int32 partition);
static Datum make_array(const Datum *values, const bool *nulls, int count, Oid type);

/*
 * lh_kafka_offset_read reads the rows of a source.
 */
int
lh_kafka_offset_read(int32 source_id, LhKafkaSlot **result)
{
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	LhKafkaSlot *slots;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT topic, \"partition\", next_offset, low_offset, end_offset,"
						   " last_offset, last_timestamp, last_hash, sqlstate, error, last_epoch, topic_id"
						   " FROM lakehouse.kafka_offset WHERE source_id OPERATOR(pg_catalog.=) $1"
						   " ORDER BY topic COLLATE \"C\", \"partition\"",
						   1, types, values, NULL);
	slots = MemoryContextAllocZero(context, sizeof(LhKafkaSlot) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
	{
		LhKafkaSlot *slot = &slots[row];
		char	   *sqlstate = lh_catalog_text(row, 9, context);
		char	   *error = lh_catalog_text(row, 10, context);
		char	   *id = lh_catalog_text(row, 12, context);

		slot->topic = lh_catalog_text(row, 1, context);
		slot->partition = (int32) lh_catalog_int64(row, 2, 0);
		slot->saved = slot->next = lh_catalog_int64(row, 3, 0);
		slot->top = slot->bottom = -1;
		slot->proved = slot->next;
		slot->target = slot->limit = slot->seen = slot->high = slot->published = -1;
		slot->low = lh_catalog_int64(row, 4, -1);
		slot->end = lh_catalog_int64(row, 5, -1);
		slot->last_offset = lh_catalog_int64(row, 6, -1);
		slot->last_timestamp = lh_catalog_int64(row, 7, -1);
		slot->last_hash = lh_catalog_int64(row, 8, 0);
		slot->last_epoch = slot->epoch = lh_catalog_int64(row, 11, -1);
		strlcpy(slot->topic_id, id ? id : "", LH_KAFKA_ID_SIZE);
		slot->anchor_offset = slot->last_offset;
		slot->anchor_timestamp = slot->last_timestamp;
		slot->anchor_hash = slot->last_hash;
		if (sqlstate != NULL && strlen(sqlstate) == 5)
			lh_error_set(&slot->error, MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2],
													 sqlstate[3], sqlstate[4]),
						 "%s", error ? error : "");
	}
	lh_catalog_end(&catalog);
	*result = slots;
	return (int) count;
}

/*
 * find_slot finds a partition, which is mostly where the hint says.
 */
static int
find_slot(const LhKafkaSlot *slots, int count, int hint, const char *topic, int32 partition)
{
	if (hint < count && slots[hint].partition == partition && strcmp(slots[hint].topic, topic) == 0)
		return hint;
	for (int i = 0; i < count; i++)
	{
		if (slots[i].partition == partition && strcmp(slots[i].topic, topic) == 0)
			return i;
	}
	return -1;
}

/*
 * make_rows makes rows for partitions that are new, at the place where reading
 * them begins; false if somebody else has made one.
 */
static bool
make_rows(int32 source_id, LhKafkaSlot *slots, int count)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID, INT8OID};
	Datum		values[4] = {Int32GetDatum(source_id)};

	for (int i = 0; i < count; i++)
	{
		LhKafkaSlot *slot = &slots[i];

		if (slot->saved >= 0 || slot->next < 0)
			continue;
		values[1] = CStringGetTextDatum(slot->topic);
		values[2] = Int32GetDatum(slot->partition);
		values[3] = Int64GetDatum(Max(slot->low, 0));
		if (lh_catalog_run("INSERT INTO lakehouse.kafka_offset (source_id, topic, \"partition\", next_offset)"
						   " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING next_offset",
						   4, types, values, NULL) == 0)
			return false;
		slot->saved = Max(slot->low, 0);
		slot->changed = true;
	}
	return true;
}

/*
 * names_of makes the arrays of topics and partitions of those slots that have a
 * row.
 */
static int
names_of(const LhKafkaSlot *slots, int count, Datum *topics, Datum *partitions)
{
	Datum	   *columns[2] = {palloc(sizeof(Datum) * Max(count, 1)), palloc(sizeof(Datum) * Max(count, 1))};
	bool	   *nulls = palloc0(sizeof(bool) * Max(count, 1));
	int			n = 0;

	for (int i = 0; i < count; i++)
	{
		if (slots[i].saved < 0)
			continue;
		columns[0][n] = CStringGetTextDatum(slots[i].topic);
		columns[1][n++] = Int32GetDatum(slots[i].partition);
	}
	*topics = make_array(columns[0], nulls, n, TEXTOID);
	*partitions = make_array(columns[1], nulls, n, INT4OID);
	return n;
}

/*
 * lh_kafka_offset_lock locks the rows until the end of the transaction and
 * compares them with the slots.  Where the source is read alone, all its rows
 * are locked; those of topics that it no longer reads count for nothing.
 */
bool
lh_kafka_offset_lock(int32 source_id, LhKafkaSlot *slots, int count, bool shared)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID, INT4ARRAYOID};
	Datum		values[3] = {Int32GetDatum(source_id)};
	LhCatalog	catalog;
	uint64		rows;
	int			expected = names_of(slots, count, &values[1], &values[2]);
	int			matched = 0;
	bool		good = true;

	lh_catalog_begin(&catalog);
	if (shared)
		rows = lh_catalog_run("SELECT o.topic, o.\"partition\", o.next_offset FROM lakehouse.kafka_offset o,"
							  " ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u(t, p)"
							  " WHERE o.source_id OPERATOR(pg_catalog.=) $1 AND o.topic OPERATOR(pg_catalog.=) u.t"
							  " AND o.\"partition\" OPERATOR(pg_catalog.=) u.p"
							  " ORDER BY o.topic COLLATE \"C\", o.\"partition\" FOR UPDATE OF o",
							  3, types, values, NULL);
	else
		rows = lh_catalog_run("SELECT topic, \"partition\", next_offset FROM lakehouse.kafka_offset"
							  " WHERE source_id OPERATOR(pg_catalog.=) $1"
							  " ORDER BY topic COLLATE \"C\", \"partition\" FOR UPDATE",
							  1, types, values, NULL);
	for (uint64 row = 0; row < rows && good; row++)
	{
		char	   *topic = lh_catalog_text(row, 1, CurrentMemoryContext);
		int			i = find_slot(slots, count, (int) row, topic,
								  (int32) lh_catalog_int64(row, 2, 0));

		if (i < 0)
			continue;
		matched++;
		good = slots[i].saved == lh_catalog_int64(row, 3, 0);
	}
	good = good && matched == expected && make_rows(source_id, slots, count);
	lh_catalog_end(&catalog);
	return good;
}

/*
 * lh_kafka_offset_count_rejects attributes the rejects of a load to partitions.
 */
void
lh_kafka_offset_count_rejects(int32 source_id, int64 load_id, LhKafkaSlot *slots, int count)
{
	static const Oid types[] = {INT4OID, INT8OID};
	Datum		values[] = {Int32GetDatum(source_id), Int64GetDatum(load_id)};
	LhCatalog	catalog;
	uint64		rows;

	lh_catalog_begin(&catalog);
	rows = lh_catalog_run("SELECT topic, \"partition\", pg_catalog.count(*) FROM lakehouse.reject"
						  " WHERE source_id OPERATOR(pg_catalog.=) $1"
						  " AND load_id OPERATOR(pg_catalog.=) $2 AND topic IS NOT NULL"
						  " GROUP BY topic, \"partition\"",
						  2, types, values, NULL);
	for (uint64 row = 0; row < rows; row++)
	{
		char	   *topic = lh_catalog_text(row, 1, CurrentMemoryContext);
		int			i = find_slot(slots, count, (int) row, topic,
								  (int32) lh_catalog_int64(row, 2, 0));

		if (i >= 0)
			slots[i].rejected += lh_catalog_int64(row, 3, 0);
	}
	lh_catalog_end(&catalog);
}

static Datum
make_array(const Datum *values, const bool *nulls, int count, Oid type)
{
	int			lower = 1;
	ArrayType  *array;

	if (type == TEXTOID)
		array = construct_md_array((Datum *) values, (bool *) nulls, 1, &count, &lower,
								   TEXTOID, -1, false, TYPALIGN_INT);
	else if (type == INT4OID)
		array = construct_md_array((Datum *) values, (bool *) nulls, 1, &count, &lower,
								   INT4OID, sizeof(int32), true, TYPALIGN_INT);
	else
		array = construct_md_array((Datum *) values, (bool *) nulls, 1, &count, &lower,
								   INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	return PointerGetDatum(array);
}

/* arrays of lh_kafka_offset_save: topic, numbers, flag, epoch, texts */
#define SAVE_NUMBERS 12
#define SAVE_COLUMNS (SAVE_NUMBERS + 6)

static void
save_slot(const LhKafkaSlot *slot, Datum *columns[], bool *nulls[], int n)
{
	int64		numbers[SAVE_NUMBERS] = {slot->partition, slot->next, slot->end, slot->low, slot->high,
		slot->last_offset, slot->last_timestamp, slot->last_hash, slot->records - slot->rejected,
	slot->rejected, slot->bytes, slot->heard};

	for (int c = 0; c < SAVE_COLUMNS; c++)
		nulls[c][n] = false;
	columns[0][n] = CStringGetTextDatum(slot->topic);
	for (int c = 0; c < SAVE_NUMBERS; c++)
		columns[c + 1][n] = Int64GetDatum(numbers[c]);
	nulls[3][n] = slot->end < 0;
	nulls[4][n] = slot->low < 0;
	nulls[5][n] = slot->high < 0;
	nulls[6][n] = nulls[7][n] = nulls[8][n] = slot->last_offset < 0;
	columns[13][n] = Int64GetDatum(slot->at_end ? 1 : 0);
	columns[14][n] = Int64GetDatum(slot->last_epoch);
	nulls[14][n] = slot->last_offset < 0 || slot->last_epoch < 0;
	nulls[15][n] = nulls[16][n] = slot->error.sqlstate == 0;
	columns[15][n] = columns[16][n] = (Datum) 0;
	if (slot->error.sqlstate != 0)
	{
		columns[15][n] = CStringGetTextDatum(unpack_sql_state(slot->error.sqlstate));
		columns[16][n] = CStringGetTextDatum(slot->error.message);
	}
	columns[17][n] = CStringGetTextDatum(slot->topic_id);
	nulls[17][n] = slot->topic_id[0] == '\0';
}

/*
 * Rates are those of the last half minute, older records counting less and less:
 * what was there decays with time, what came adds its share.
 */
#define DECAY \
	"pg_catalog.exp(GREATEST(-700::pg_catalog.float8, LEAST(0::pg_catalog.float8," \
	" pg_catalog.date_part('epoch', o.updated OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())" \
	" OPERATOR(pg_catalog./) 30.0::pg_catalog.float8)))"

static const char save_statement[] =
"UPDATE lakehouse.kafka_offset AS o SET"
" next_offset = u.next, end_offset = u.e, low_offset = u.low, high_offset = u.high,"
" last_offset = u.lo, last_timestamp = u.lt, last_hash = u.lh,"
" rows = o.rows OPERATOR(pg_catalog.+) u.n, rejected = o.rejected OPERATOR(pg_catalog.+) u.r,"
" bytes = o.bytes OPERATOR(pg_catalog.+) u.b,"
" row_rate = o.row_rate OPERATOR(pg_catalog.*) " DECAY " OPERATOR(pg_catalog.+) ((u.n OPERATOR(pg_catalog.+) u.r) OPERATOR(pg_catalog./) 30.0::pg_catalog.float8),"
" byte_rate = o.byte_rate OPERATOR(pg_catalog.*) " DECAY " OPERATOR(pg_catalog.+) (u.b OPERATOR(pg_catalog./) 30.0::pg_catalog.float8),"
" last_fetch = CASE WHEN u.heard OPERATOR(pg_catalog.<>) 0 THEN '2000-01-01 00:00:00+00'::pg_catalog.timestamptz"
"   OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => u.heard OPERATOR(pg_catalog./) 1000000.0::pg_catalog.float8) ELSE o.last_fetch END,"
" caught_up = CASE WHEN u.at_end OPERATOR(pg_catalog.=) 1 OR u.e OPERATOR(pg_catalog.<=) u.next THEN pg_catalog.clock_timestamp() ELSE o.caught_up END,"
" since = CASE WHEN u.state IS NULL THEN NULL ELSE COALESCE(o.since, pg_catalog.clock_timestamp()) END,"
" last_epoch = u.epoch::pg_catalog.int4, topic_id = u.id, sqlstate = u.state, error = u.error, updated = pg_catalog.clock_timestamp()"
" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
" pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"
" pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12), pg_catalog.unnest($13),"
" pg_catalog.unnest($14), pg_catalog.unnest($15), pg_catalog.unnest($16), pg_catalog.unnest($17),"
" pg_catalog.unnest($18), pg_catalog.unnest($19))"
" u(topic, p, next, e, low, high, lo, lt, lh, n, r, b, heard, at_end, epoch, state, error, id)"
" WHERE o.source_id OPERATOR(pg_catalog.=) $1 AND o.topic OPERATOR(pg_catalog.=) u.topic"
" AND o.\"partition\" OPERATOR(pg_catalog.=) u.p::pg_catalog.int4";

/*
 * lh_kafka_offset_save writes slots that moved or changed, all in one statement.
 * The caller has locked the rows.
 */
void
lh_kafka_offset_save(int32 source_id, LhKafkaSlot *slots, int count)
{
	Oid			types[SAVE_COLUMNS + 1];
	Datum	   *columns[SAVE_COLUMNS];
	bool	   *nulls[SAVE_COLUMNS];
	Datum		values[SAVE_COLUMNS + 1];
	LhCatalog	catalog;
	int			n = 0;

	for (int c = 0; c < SAVE_COLUMNS; c++)
	{
		columns[c] = palloc(sizeof(Datum) * Max(count, 1));
		nulls[c] = palloc(sizeof(bool) * Max(count, 1));
	}
	for (int i = 0; i < count; i++)
	{
		LhKafkaSlot *slot = &slots[i];

		if (slot->next < 0 || (slot->next == slot->saved && !slot->changed))
			continue;
		save_slot(slot, columns, nulls, n++);
		slot->saved = slot->next;
		slot->records = slot->rejected = slot->bytes = 0;
		slot->changed = false;
	}
	if (n == 0)
		return;
	types[0] = INT4OID;
	values[0] = Int32GetDatum(source_id);
	for (int c = 0; c < SAVE_COLUMNS; c++)
	{
		bool		is_text = c == 0 || c >= SAVE_NUMBERS + 3;

		types[c + 1] = is_text ? TEXTARRAYOID : INT8ARRAYOID;
		values[c + 1] = make_array(columns[c], nulls[c], n, is_text ? TEXTOID : INT8OID);
	}
	lh_catalog_begin(&catalog);
	if (lh_catalog_run(save_statement, SAVE_COLUMNS + 1, types, values, NULL) != n)
		elog(ERROR, "positions of source %d are not all there", source_id);
	lh_catalog_end(&catalog);
}

/*
 * lh_kafka_offset_save_losses writes down what was not read.
 */
void
lh_kafka_offset_save_losses(int32 source_id, List *losses)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, TEXTOID};
	LhCatalog	catalog;
	ListCell   *cell;

	lh_catalog_begin(&catalog);
	foreach(cell, losses)
	{
		const LhKafkaLoss *loss = lfirst(cell);
		Datum		values[7];

		values[0] = Int32GetDatum(source_id);
		values[1] = CStringGetTextDatum(loss->topic);
		values[2] = Int32GetDatum(loss->partition);
		values[3] = Int64GetDatum(loss->first);
		values[4] = Int64GetDatum(loss->next);
		values[5] = Int64GetDatum(loss->resumed);
		values[6] = CStringGetTextDatum(loss->reason);
		lh_catalog_run("INSERT INTO lakehouse.kafka_loss (source_id, topic, \"partition\", first_offset,"
					   " next_offset, resumed_offset, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)",
					   7, types, values, NULL);
	}
	lh_catalog_end(&catalog);
}

void
lh_kafka_offset_save_publish_error(int32 source_id, const char *error)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(source_id)};
	LhCatalog	catalog;

	if (error != NULL)
		values[1] = CStringGetTextDatum(error);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.source_state AS s (source_id, publish_error) VALUES ($1, $2)"
				   " ON CONFLICT (source_id) DO UPDATE SET publish_error = excluded.publish_error",
				   2, types, values, error == NULL ? " n" : NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_kafka_offset_json tells which offsets a load holds.
 */
char *
lh_kafka_offset_json(const LhKafkaSlot *slots, int count)
{
	StringInfoData text;
	const char *topic = NULL;

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	for (int first = 0; first < count; first++)
	{
		bool		seen = first > 0 && strcmp(slots[first - 1].topic, slots[first].topic) == 0;

		/* partitions found later do not stand beside those of their topic */
		for (int i = 0; i < first && !seen; i++)
			seen = strcmp(slots[i].topic, slots[first].topic) == 0;
		topic = NULL;
		for (int i = first; i < count && !seen; i++)
		{
			const LhKafkaSlot *slot = &slots[i];

			if (slot->records == 0 || strcmp(slot->topic, slots[first].topic) != 0)
				continue;
			if (topic == NULL)
			{
				topic = slot->topic;
				appendStringInfoString(&text, text.len > 1 ? ", " : "");
				escape_json(&text, topic);
				appendStringInfoString(&text, ": {");
			}
			else
				appendStringInfoString(&text, ", ");
			appendStringInfo(&text, "\"%d\": [" INT64_FORMAT ", " INT64_FORMAT "]",
							 slot->partition, slot->saved >= 0 ? slot->saved : slot->low, slot->next);
		}
		if (topic != NULL)
			appendStringInfoChar(&text, '}');
	}
	appendStringInfoChar(&text, '}');
	return text.data;
}

/*
 * lh_kafka_offset_hash summarises key and value, so that a record can be
 * recognised.
 */
int64
lh_kafka_offset_hash(const LhKafkaMessage *message)
{
	uint64		key = message->key == NULL ? 1
		: hash_bytes_extended((const unsigned char *) message->key, (int) message->key_length, 0);
	uint64		value = message->value == NULL ? 2
		: hash_bytes_extended((const unsigned char *) message->value, (int) message->value_length, 0);

	return (int64) hash_combine64(key, value);
}
