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
						   " last_offset, last_timestamp, last_hash, sqlstate, error"
						   " FROM lakehouse.kafka_offset WHERE source_id OPERATOR(pg_catalog.=) $1"
						   " ORDER BY topic COLLATE \"C\", \"partition\"",
						   1, types, values, NULL);
	slots = MemoryContextAllocZero(context, sizeof(LhKafkaSlot) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
	{
		LhKafkaSlot *slot = &slots[row];
		char	   *sqlstate = lh_catalog_text(row, 9, context);
		char	   *error = lh_catalog_text(row, 10, context);

		slot->topic = lh_catalog_text(row, 1, context);
		slot->partition = (int32) lh_catalog_int64(row, 2, 0);
		slot->saved = slot->next = lh_catalog_int64(row, 3, 0);
		slot->target = slot->seen = -1;
		slot->low = lh_catalog_int64(row, 4, -1);
		slot->end = lh_catalog_int64(row, 5, -1);
		slot->last_offset = lh_catalog_int64(row, 6, -1);
		slot->last_timestamp = lh_catalog_int64(row, 7, -1);
		slot->last_hash = lh_catalog_int64(row, 8, 0);
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
 * lh_kafka_offset_lock locks the rows until the end of the transaction and
 * compares them with the slots.  Rows of topics that the source no longer reads
 * count for nothing.
 */
bool
lh_kafka_offset_lock(int32 source_id, const LhKafkaSlot *slots, int count)
{
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};
	LhCatalog	catalog;
	uint64		rows;
	int			expected = 0;
	int			matched = 0;
	bool		good = true;

	for (int i = 0; i < count; i++)
	{
		if (slots[i].saved >= 0)
			expected++;
	}
	lh_catalog_begin(&catalog);
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
	lh_catalog_end(&catalog);
	return good && matched == expected;
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

/* arrays of lh_kafka_offset_save */
#define SAVE_COLUMNS 12

static void
save_slot(const LhKafkaSlot *slot, Datum *columns[], bool *nulls[], int n)
{
	int64		numbers[] = {slot->next, slot->end, slot->low, slot->last_offset,
		slot->last_timestamp, slot->last_hash, slot->records - slot->rejected, slot->rejected};

	for (int c = 0; c < SAVE_COLUMNS; c++)
		nulls[c][n] = false;
	columns[0][n] = CStringGetTextDatum(slot->topic);
	columns[1][n] = Int32GetDatum(slot->partition);
	for (int c = 0; c < 8; c++)
		columns[c + 2][n] = Int64GetDatum(numbers[c]);
	nulls[3][n] = slot->end < 0;
	nulls[4][n] = slot->low < 0;
	nulls[5][n] = nulls[6][n] = nulls[7][n] = slot->last_offset < 0;
	nulls[10][n] = nulls[11][n] = slot->error.sqlstate == 0;
	columns[10][n] = columns[11][n] = (Datum) 0;
	if (slot->error.sqlstate != 0)
	{
		columns[10][n] = CStringGetTextDatum(unpack_sql_state(slot->error.sqlstate));
		columns[11][n] = CStringGetTextDatum(slot->error.message);
	}
}

/*
 * lh_kafka_offset_save writes slots that moved or changed, all in one statement.
 * The caller has locked the rows.
 */
void
lh_kafka_offset_save(int32 source_id, LhKafkaSlot *slots, int count)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
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
		slot->records = slot->rejected = 0;
		slot->changed = false;
	}
	if (n == 0)
		return;
	values[0] = Int32GetDatum(source_id);
	for (int c = 0; c < SAVE_COLUMNS; c++)
		values[c + 1] = make_array(columns[c], nulls[c], n,
								   c == 0 || c >= 10 ? TEXTOID : c == 1 ? INT4OID : INT8OID);
	lh_catalog_begin(&catalog);
	/* search_path is pg_catalog: nobody else's unnest can be meant */
	lh_catalog_run("INSERT INTO lakehouse.kafka_offset AS o (source_id, topic, \"partition\", next_offset,"
				   " end_offset, low_offset, last_offset, last_timestamp, last_hash, rows, rejected,"
				   " sqlstate, error)"
				   " SELECT $1, u.* FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3),"
				   " pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
				   " pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"
				   " pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12),"
				   " pg_catalog.unnest($13)) u"
				   " ON CONFLICT (source_id, topic, \"partition\") DO UPDATE SET"
				   " next_offset = excluded.next_offset, end_offset = excluded.end_offset,"
				   " low_offset = excluded.low_offset, last_offset = excluded.last_offset,"
				   " last_timestamp = excluded.last_timestamp, last_hash = excluded.last_hash,"
				   " rows = o.rows OPERATOR(pg_catalog.+) excluded.rows,"
				   " rejected = o.rejected OPERATOR(pg_catalog.+) excluded.rejected,"
				   " sqlstate = excluded.sqlstate, error = excluded.error,"
				   " updated = pg_catalog.clock_timestamp()",
				   SAVE_COLUMNS + 1, types, values, NULL);
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
