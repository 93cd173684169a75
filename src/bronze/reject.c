/*
 * reject.c
 *	  Records that could not be stored, kept with their place and reason.
 *
 * Invariant: a reject is written by the transaction that stores the good
 * records of the same batch, under the same load.  Rejects are collected in
 * memory first, because a batch that is tried again must not leave those of the
 * failed attempt behind.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "bronze/reject.h"
#include "catalog/catalog_access.h"
#include "source/kafka_headers.h"

/* how many rejects one statement inserts */
#define REJECTS_A_STATEMENT 1000
#define BYTES_A_STATEMENT	(16 * 1024 * 1024)

/* columns that differ between the rejects of one load */
#define REJECT_COLUMNS 16

typedef struct Reject
{
	int64		line;
	int64		byte_offset;
	char	   *topic;
	int32		partition;
	int64		offset;
	bytea	   *raw;
	bytea	   *key;
	char	   *headers;		/* see lh_kafka_headers_keep */
	int64		timestamp;
	int			timestamp_type;
	bool		is_message;		/* the last four are known */
	bool		raw_cut;		/* not all of the record is kept */
	const char *stage;			/* a literal */
	int			sqlstate;
	char	   *message;
	char	   *column;
	bool		stored;			/* the record became a row all the same */
} Reject;

struct LhRejects
{
	MemoryContext context;		/* of the collected rejects */
	int32		source_id;
	int64		load_id;
	int64		file_id;
	LhRejectUse use;
	bool		has_first;
	LhFirstReject first;
	int			count;
	int			stored;			/* of these */
	int			capacity;
	Reject	   *items;
};

static void remember_first(LhRejects *rejects);
static void insert_slice(LhRejects *rejects, int first, int count);

LhRejects *
lh_rejects_create(int32 source_id)
{
	LhRejects  *rejects = palloc0(sizeof(LhRejects));

	rejects->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse rejects",
											 ALLOCSET_DEFAULT_SIZES);
	rejects->source_id = source_id;
	return rejects;
}

/*
 * lh_rejects_begin_load says which load and file (0 = none) the following
 * rejects belong to.  Those of the load before must have been flushed.
 */
void
lh_rejects_begin_load(LhRejects *rejects, int64 load_id, int64 file_id)
{
	Assert(rejects->count == 0);
	rejects->load_id = load_id;
	rejects->file_id = file_id;
	rejects->has_first = false;
}

/*
 * lh_rejects_set_use says what becomes of the rejects that are flushed from now
 * on.
 */
void
lh_rejects_set_use(LhRejects *rejects, LhRejectUse use)
{
	rejects->use = use;
}

const LhFirstReject *
lh_rejects_first(const LhRejects *rejects)
{
	return rejects->has_first ? &rejects->first : NULL;
}

/* NULL stays NULL; what is too long is cut */
static bytea *
copy_bytes(const char *bytes, Size length)
{
	Size		kept = Min(length, LH_REJECT_RAW_LIMIT);
	bytea	   *copy;

	if (bytes == NULL)
		return NULL;
	copy = palloc(VARHDRSZ + kept);
	SET_VARSIZE(copy, VARHDRSZ + kept);
	memcpy(VARDATA(copy), bytes, kept);
	return copy;
}

/*
 * keep_message copies what a message has beside its value: without it no row can
 * be made of the value later.
 */
static void
keep_message(Reject *item, const LhKafkaMessage *message)
{
	item->is_message = message != NULL;
	item->key = NULL;
	item->headers = NULL;
	if (message == NULL)
		return;
	item->key = copy_bytes(message->key, message->key_length);
	item->timestamp = message->timestamp;
	item->timestamp_type = message->timestamp_type;
	if (lh_kafka_headers_size(message) <= LH_REJECT_RAW_LIMIT)
		item->headers = lh_kafka_headers_keep(message);
	else
		item->raw_cut = true;
	item->raw_cut |= message->key_length > LH_REJECT_RAW_LIMIT;
}

/*
 * lh_rejects_add collects one reject; everything is copied.
 */
void
lh_rejects_add(LhRejects *rejects, const LhPlace *place, const LhReason *reason)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(rejects->context);
	Reject	   *item;

	if (rejects->count == rejects->capacity)
	{
		int			capacity = Max(64, rejects->capacity * 2);

		rejects->items = rejects->items
			? repalloc(rejects->items, capacity * sizeof(Reject))
			: palloc(capacity * sizeof(Reject));
		rejects->capacity = capacity;
	}
	item = &rejects->items[rejects->count++];
	item->line = place->line;
	item->byte_offset = place->byte_offset;
	item->topic = place->topic ? pstrdup(place->topic) : NULL;
	item->partition = place->partition;
	item->offset = place->offset;
	item->raw = copy_bytes(place->raw, place->raw_length);
	item->raw_cut = place->cut || place->raw_length > LH_REJECT_RAW_LIMIT;
	keep_message(item, place->message);
	item->stage = reason->stage;
	item->sqlstate = reason->sqlstate;
	item->message = pstrdup(reason->message);
	item->column = reason->column ? pstrdup(reason->column) : NULL;
	item->stored = reason->stored;
	rejects->stored += item->stored;
	MemoryContextSwitchTo(oldcontext);
}

int
lh_rejects_mark(const LhRejects *rejects)
{
	return rejects->count;
}

int
lh_rejects_stored(const LhRejects *rejects)
{
	return rejects->stored;
}

/*
 * lh_rejects_back_to forgets the rejects collected since the mark.
 */
void
lh_rejects_back_to(LhRejects *rejects, int mark)
{
	while (rejects->count > mark)
	{
		Reject	   *item = &rejects->items[--rejects->count];

		rejects->stored -= item->stored;
		if (item->topic)
			pfree(item->topic);
		if (item->raw)
			pfree(item->raw);
		if (item->key)
			pfree(item->key);
		if (item->headers)
			pfree(item->headers);
		if (item->column)
			pfree(item->column);
		pfree(item->message);
	}
}

/*
 * slice_length tells how many of the rejects one statement takes: an array cannot
 * hold more than a gigabyte.
 */
static int
slice_length(const LhRejects *rejects, int first)
{
	int			most = Min(REJECTS_A_STATEMENT, rejects->count - first);
	Size		bytes = 0;
	int			count = 0;

	while (count < most && bytes < BYTES_A_STATEMENT)
	{
		const Reject *item = &rejects->items[first + count++];

		bytes += item->raw ? VARSIZE(item->raw) : 0;
		bytes += item->key ? VARSIZE(item->key) : 0;
		bytes += item->headers ? strlen(item->headers) : 0;
	}
	return count;
}

/*
 * lh_rejects_flush writes what was collected into lakehouse.reject.
 */
void
lh_rejects_flush(LhRejects *rejects)
{
	if (rejects->count == 0)
		return;
	if (!rejects->has_first)
		remember_first(rejects);
	for (int first = 0, count; first < rejects->count && rejects->use != LH_REJECT_FORGET; first += count)
	{
		count = slice_length(rejects, first);
		insert_slice(rejects, first, count);
	}
	rejects->count = 0;
	rejects->stored = 0;
	rejects->capacity = 0;
	rejects->items = NULL;
	MemoryContextReset(rejects->context);
}

/*
 * remember_first copies what a limit may have to say; records are rejected in
 * their order.
 */
static void
remember_first(LhRejects *rejects)
{
	const Reject *item = &rejects->items[0];
	LhFirstReject *first = &rejects->first;
	int			length = pg_mbcliplen(item->message, strlen(item->message),
									  sizeof(first->message) - 1);

	rejects->has_first = true;
	first->line = item->line;
	first->stage = item->stage;
	first->sqlstate = item->sqlstate;
	memcpy(first->message, item->message, length);
	first->message[length] = '\0';
	strlcpy(first->column, item->column ? item->column : "", sizeof(first->column));
}

/*
 * make_column builds the array of one column of a slice of rejects.
 */
static Datum
make_column(Datum *values, bool *nulls, int count, Oid type)
{
	int			dims[1] = {count};
	int			bounds[1] = {1};
	int16		length;
	bool		by_value;
	char		alignment;

	get_typlenbyvalalign(type, &length, &by_value, &alignment);
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, bounds, type,
											  length, by_value, alignment));
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = (text == NULL);
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * set_columns puts one reject into the arrays of insert_slice.
 */
static void
set_columns(const Reject *item, Datum *values[], bool *nulls[], int i)
{
	values[0][i] = Int64GetDatum(item->line);
	nulls[0][i] = (item->line <= 0);
	values[1][i] = Int64GetDatum(item->byte_offset);
	nulls[1][i] = (item->byte_offset < 0);
	values[2][i] = text_or_null(item->topic, &nulls[2][i]);
	values[3][i] = Int32GetDatum(item->partition);
	values[4][i] = Int64GetDatum(item->offset);
	nulls[3][i] = nulls[4][i] = (item->topic == NULL);
	values[5][i] = PointerGetDatum(item->raw);
	nulls[5][i] = (item->raw == NULL);
	values[6][i] = CStringGetTextDatum(item->stage);
	values[7][i] = CStringGetTextDatum(unpack_sql_state(item->sqlstate));
	values[8][i] = CStringGetTextDatum(item->message);
	values[9][i] = text_or_null(item->column, &nulls[9][i]);
	values[10][i] = BoolGetDatum(item->raw_cut);
	values[11][i] = BoolGetDatum(item->stored);
	values[12][i] = PointerGetDatum(item->key);
	nulls[12][i] = (item->key == NULL);
	values[13][i] = text_or_null(item->headers, &nulls[13][i]);
	values[14][i] = Int64GetDatum(item->timestamp);
	values[15][i] = Int32GetDatum(item->timestamp_type);
	nulls[14][i] = nulls[15][i] = !item->is_message;
}

static void
insert_slice(LhRejects *rejects, int first, int count)
{
	static const Oid column_types[REJECT_COLUMNS] = {INT8OID, INT8OID, TEXTOID, INT4OID, INT8OID,
		BYTEAOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BYTEAOID, TEXTOID, INT8OID, INT4OID};
	static const Oid types[] = {INT4OID, INT8OID, INT8OID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID,
		INT4ARRAYOID, INT8ARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	BOOLARRAYOID, BOOLARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTOID};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse reject slice",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	Datum	   *values[REJECT_COLUMNS];
	bool	   *nulls[REJECT_COLUMNS];
	Datum		arguments[4 + REJECT_COLUMNS];
	char		argument_nulls[4 + REJECT_COLUMNS + 1];
	LhCatalog	catalog;

	for (int c = 0; c < REJECT_COLUMNS; c++)
	{
		values[c] = palloc0(sizeof(Datum) * count);
		nulls[c] = palloc0(sizeof(bool) * count);
	}
	for (int i = 0; i < count; i++)
		set_columns(&rejects->items[first + i], values, nulls, i);
	memset(argument_nulls, ' ', sizeof(argument_nulls));
	arguments[0] = Int32GetDatum(rejects->source_id);
	arguments[1] = Int64GetDatum(rejects->load_id);
	arguments[2] = Int64GetDatum(rejects->file_id);
	argument_nulls[2] = rejects->file_id == 0 ? 'n' : ' ';
	argument_nulls[4 + REJECT_COLUMNS] = '\0';
	for (int c = 0; c < REJECT_COLUMNS; c++)
		arguments[3 + c] = make_column(values[c], nulls[c], count, column_types[c]);
	arguments[3 + REJECT_COLUMNS] = CStringGetTextDatum(rejects->use == LH_REJECT_DROPPED ? "dropped" : "open");

	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.reject (source_id, load_id, file_id, line, byte_offset, topic,"
				   " \"partition\", \"offset\", raw, stage, sqlstate, message, column_name,"
				   " raw_cut, key, headers, timestamp_ms, timestamp_type, state)"
				   " SELECT $1, $2, $3, line, byte_offset, topic, part, off, raw, stage, sqlstate, message, column_name,"
				   " raw_cut, key, headers::pg_catalog.jsonb, ms, type, CASE WHEN stored THEN 'stored' ELSE $20 END FROM ROWS FROM (pg_catalog.unnest($4), pg_catalog.unnest($5),"
				   " pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"
				   " pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12), pg_catalog.unnest($13),"
				   " pg_catalog.unnest($14), pg_catalog.unnest($15), pg_catalog.unnest($16), pg_catalog.unnest($17),"
				   " pg_catalog.unnest($18), pg_catalog.unnest($19)) r (line, byte_offset, topic, part, off, raw, stage,"
				   " sqlstate, message, column_name, raw_cut, stored, key, headers, ms, type)",
				   4 + REJECT_COLUMNS, types, arguments, argument_nulls);
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}
