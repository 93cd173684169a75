/*
 * flow_sink.c
 *	  Flows whose rows leave as messages to a Kafka topic.
 *
 * Mode kafka sends each new row.  Mode upsert_kafka sends what its query gives
 * now for each key that new loads touch, and a tombstone for a key that it gives
 * no longer: read up to any moment, the last message of each key is what the
 * query gave then.
 *
 * Invariant: messages are put into the outbox in the run's transaction, under the
 * flow's lock.  So runs come one after another, and so do messages of a key.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "flow/flow_ddl.h"
#include "outbox/outbox.h"
#include "source/server.h"

/* messages that are put into the outbox at once, and bytes of them */
#define MAX_MESSAGES 500
#define MAX_BYTES (2 * 1024 * 1024)

/* Columns of rows, to be told as text. */
typedef struct Columns
{
	int			count;
	int		   *numbers;		/* in the rows, from 0 */
	TupleDesc	tupdesc;		/* of just these */
	Oid			output;			/* output function of the first one */
} Columns;

/* Rows on their way into the outbox. */
typedef struct Sink
{
	const LhFlow *flow;
	Oid			server;
	LhOutboxMessage messages[MAX_MESSAGES];
	int			count;
	Size		bytes;
	MemoryContext context;		/* of the messages */
} Sink;

/* A key that was sent, by two hashes of its bytes. */
typedef struct SentKey
{
	uint64		hash[2];
} SentKey;

static Sink *open_sink(const LhFlow *flow);
static void add_message(Sink *sink, bytea *key, bytea *value);
static void flush_sink(Sink *sink);
static void find_columns(Columns *columns, TupleDesc tupdesc, List *names);
static bytea *row_json(const Columns *columns, TupleTableSlot *slot);
static bytea *row_key(const Columns *columns, TupleTableSlot *slot);

bool
lh_flow_is_sink(const char *mode)
{
	return strcmp(mode, "kafka") == 0 || strcmp(mode, "upsert_kafka") == 0;
}

/*
 * lh_flow_check_sink raises unless server and topic fit the mode, and makes the
 * outbox the target of a flow that sends.  Runs as the flow's owner.
 */
void
lh_flow_check_sink(LhFlowDefinition *definition)
{
	LhFlow	   *flow = &definition->flow;
	Oid			server;

	if (!lh_flow_is_sink(flow->mode))
	{
		if (flow->server != NULL || flow->topic != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" does not apply to mode %s of flow \"%s\"",
							flow->server ? "server" : "topic", flow->mode, flow->name),
					 errhint("It applies to kafka and upsert_kafka.")));
		return;
	}
	if (flow->server == NULL || flow->topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode %s of flow \"%s\" needs a server and a topic", flow->mode, flow->name),
				 errhint("For example server => 'events', topic => 'totals'.")));
	if (definition->target_name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"target\" does not apply to mode %s of flow \"%s\"", flow->mode, flow->name),
				 errdetail("Its rows go to a topic.")));
	server = get_foreign_server_oid(flow->server, true);
	if (!OidIsValid(server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", flow->server)));
	lh_server_check_kafka(server);
	lh_outbox_check_topic(flow->topic);
	flow->merge.target = get_relname_relid("outbox", get_namespace_oid("lakehouse", false));
}

static Sink *
open_sink(const LhFlow *flow)
{
	Sink	   *sink = palloc0(sizeof(Sink));

	sink->flow = flow;
	sink->server = get_foreign_server_oid(flow->server, true);
	if (!OidIsValid(sink->server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" of flow \"%s\" does not exist any more", flow->server, flow->name)));
	lh_server_check_kafka(sink->server);
	sink->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse sink", ALLOCSET_DEFAULT_SIZES);
	return sink;
}

/*
 * add_message takes a message whose bytes are in the sink's context.
 */
static void
add_message(Sink *sink, bytea *key, bytea *value)
{
	LhOutboxMessage *message = &sink->messages[sink->count++];

	memset(message, 0, sizeof(LhOutboxMessage));
	message->partition = -1;
	message->key = key;
	message->value = value;
	sink->bytes += (key ? VARSIZE_ANY(key) : 0) + (value ? VARSIZE_ANY(value) : 0);
	if (sink->count == MAX_MESSAGES || sink->bytes >= MAX_BYTES)
		flush_sink(sink);
}

static void
flush_sink(Sink *sink)
{
	MemoryContext old = MemoryContextSwitchTo(sink->context);

	if (sink->count > 0)
		(void) lh_outbox_add(sink->server, sink->flow->owner, sink->flow->topic,
							 sink->messages, sink->count);
	MemoryContextSwitchTo(old);
	MemoryContextReset(sink->context);
	sink->count = 0;
	sink->bytes = 0;
}

static bool
is_listed(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

static int
column_number(TupleDesc tupdesc, const char *name)
{
	for (int i = 0; i < tupdesc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0)
			return i;
	elog(ERROR, "column \"%s\" is not in the query", name);
	return -1;
}

static void
find_columns(Columns *columns, TupleDesc tupdesc, List *names)
{
	ListCell   *cell;
	bool		varlena;

	columns->numbers = palloc(sizeof(int) * (list_length(names) + 1));
	columns->tupdesc = CreateTemplateTupleDesc(list_length(names));
	foreach(cell, names)
	{
		int			number = column_number(tupdesc, lfirst(cell));

		columns->numbers[columns->count++] = number;
		TupleDescCopyEntry(columns->tupdesc, columns->count, tupdesc, number + 1);
	}
	columns->tupdesc = BlessTupleDesc(columns->tupdesc);
	if (columns->count > 0)
		getTypeOutputInfo(TupleDescAttr(columns->tupdesc, 0)->atttypid, &columns->output, &varlena);
}

/*
 * row_json returns the columns as a JSON object, as row_to_json writes it.
 */
static bytea *
row_json(const Columns *columns, TupleTableSlot *slot)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(columns->count, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(columns->count, 1));
	HeapTuple	tuple;
	text	   *json;

	slot_getallattrs(slot);
	for (int i = 0; i < columns->count; i++)
	{
		values[i] = slot->tts_values[columns->numbers[i]];
		nulls[i] = slot->tts_isnull[columns->numbers[i]];
	}
	tuple = heap_form_tuple(columns->tupdesc, values, nulls);
	json = DatumGetTextPP(DirectFunctionCall1(row_to_json, HeapTupleGetDatum(tuple)));
	return lh_outbox_text(VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
}

/*
 * row_key returns the key of a message: the text (bytea: the bytes) of a single
 * column; a JSON object for several columns, or for a single one that is NULL.
 */
static bytea *
row_key(const Columns *columns, TupleTableSlot *slot)
{
	Datum		value;
	bool		isnull;
	char	   *text;

	if (columns->count == 0)
		return NULL;
	value = slot_getattr(slot, columns->numbers[0] + 1, &isnull);
	if (columns->count > 1 || isnull)
		return row_json(columns, slot);
	if (TupleDescAttr(columns->tupdesc, 0)->atttypid == BYTEAOID)
		return DatumGetByteaPCopy(value);
	text = OidOutputFunctionCall(columns->output, value);
	return lh_outbox_text(text, strlen(text));
}

static HTAB *
make_key_set(void)
{
	HASHCTL		control = {
		.keysize = sizeof(SentKey),
		.entrysize = sizeof(SentKey),
		.hcxt = CurrentMemoryContext
	};

	return hash_create("lakehouse sent keys", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
hash_key(const bytea *key, SentKey *result)
{
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(key);
	int			length = VARSIZE_ANY_EXHDR(key);

	result->hash[0] = hash_bytes_extended(bytes, length, 0);
	result->hash[1] = hash_bytes_extended(bytes, length, UINT64CONST(0x9E3779B97F4A7C15));
}

/*
 * send_tombstones sends one for each touched key that no row was sent for.
 */
static int64
send_tombstones(Sink *sink, Tuplestorestate *touched, TupleDesc tupdesc, HTAB *sent)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(tupdesc, &TTSOpsMinimalTuple);
	Columns		keys = {0};
	int64		count = 0;

	find_columns(&keys, tupdesc, sink->flow->merge.keys);
	tuplestore_rescan(touched);
	while (tuplestore_gettupleslot(touched, true, false, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(sink->context);
		bytea	   *key = row_key(&keys, slot);
		SentKey		entry;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(old);
		hash_key(key, &entry);
		if (hash_search(sent, &entry, HASH_FIND, NULL) != NULL)
			continue;
		add_message(sink, key, NULL);
		count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	return count;
}

static List *
value_columns(const LhFlow *flow, const LhStatement *statement)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, statement->columns)
		if (!is_listed(flow->merge.except_columns, lfirst(cell)))
			names = lappend(names, lfirst(cell));
	return names;
}

/*
 * lh_flow_send puts rows into the outbox.  "touched" (mode upsert_kafka) holds
 * the distinct keys that the rows stand for.  Runs as the flow's owner.
 */
void
lh_flow_send(const LhFlow *flow, const LhStatement *statement, Tuplestorestate *rows,
			 Tuplestorestate *touched, TupleDesc touched_desc, LhMergeCounts *counts)
{
	TupleDesc	tupdesc = lh_statement_tupdesc(statement);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(tupdesc, &TTSOpsMinimalTuple);
	HTAB	   *sent = touched ? make_key_set() : NULL;
	Sink	   *sink = open_sink(flow);
	Columns		keys = {0};
	Columns		values = {0};

	find_columns(&keys, tupdesc, flow->merge.keys);
	find_columns(&values, tupdesc, value_columns(flow, statement));
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(sink->context);
		bytea	   *key = row_key(&keys, slot);
		bytea	   *value = row_json(&values, slot);
		SentKey		entry;
		bool		found = false;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(old);
		if (touched != NULL)
		{
			hash_key(key, &entry);
			(void) hash_search(sent, &entry, HASH_ENTER, &found);
		}
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_CARDINALITY_VIOLATION),
					 errmsg("query of flow \"%s\" gives more than one row for a key", flow->name),
					 errdetail("The key is %s.", pnstrdup(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key))),
					 errhint("List in keys all columns that tell its rows apart, or use mode => 'kafka'.")));
		add_message(sink, key, value);
		counts->rows_in++;
		counts->inserted++;
	}
	if (touched != NULL)
		counts->deleted = send_tombstones(sink, touched, touched_desc, sent);
	flush_sink(sink);
	ExecDropSingleTupleTableSlot(slot);
}
