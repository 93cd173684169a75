/*
 * outbox.c
 *	  Messages that transactions want to be in Kafka: how they are kept, and in
 *	  which order.
 *
 * Invariant: of two messages with one key, that of the transaction which
 * committed first has the smaller commit_order.  At its end, a transaction
 * locks the hashes of its keys in ascending order, so that no deadlock can
 * come of it, takes the next number under those locks, and keeps them until it
 * is visible to others.  So the one that gets a lock later has a greater number,
 * and whoever sees its messages sees those with smaller numbers as well.  The
 * locks are held for no longer than the commit.
 *
 * A batch is written at the end of its transaction.  Messages without one are
 * visible to their own transaction only: nothing is ever sent before its commit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "fault.h"
#include "outbox/outbox.h"

/* locks for keys; one transaction can hold them all */
#define KEY_LOCKS 256

#define MAX_TOPIC_LENGTH 249

/* What this transaction has for one server in the name of one role. */
typedef struct Batch
{
	Oid			server;
	char	   *server_name;
	Oid			owner;
	int64		batch_id;
} Batch;

/* of this transaction, in its context */
static List *batches = NIL;
static uint8 touched[KEY_LOCKS / 8];

lh_outbox_committed_hook_type lh_outbox_committed_hook = NULL;

static void at_transaction_end(XactEvent event, void *arg);
static void order_batches(void);

void
lh_outbox_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

/*
 * find_batch returns this transaction's batch for the pair.
 */
static Batch *
find_batch(Oid server, Oid owner)
{
	MemoryContext old;
	Batch	   *batch;
	LhCatalog	catalog;
	ListCell   *cell;

	foreach(cell, batches)
	{
		batch = lfirst(cell);
		if (batch->server == server && batch->owner == owner)
			return batch;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	batch = palloc0(sizeof(Batch));
	batch->server = server;
	batch->server_name = pstrdup(GetForeignServer(server)->servername);
	batch->owner = owner;
	MemoryContextSwitchTo(old);
	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.nextval('lakehouse.outbox_batch_id_seq')", 0, NULL, NULL, NULL);
	batch->batch_id = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	if (batches == NIL)
		memset(touched, 0, sizeof(touched));
	old = MemoryContextSwitchTo(TopTransactionContext);
	batches = lappend(batches, batch);
	MemoryContextSwitchTo(old);
	return batch;
}

static int32
hash_key(const char *topic, const bytea *key)
{
	uint32		hash = hash_bytes((const unsigned char *) topic, strlen(topic));

	return (int32) hash_combine(hash, hash_bytes((const unsigned char *) VARDATA_ANY(key),
												 VARSIZE_ANY_EXHDR(key)));
}

static Datum
make_array(Datum *values, bool *nulls, int count, Oid type, int16 length, bool by_value)
{
	int			dimensions[1] = {count};
	int			bounds[1] = {1};

	return PointerGetDatum(construct_md_array(values, nulls, 1, dimensions, bounds,
											  type, length, by_value, TYPALIGN_INT));
}

/*
 * touch_key remembers that the message must be in order with others of its key,
 * or without one of its partition; returns the hash of the key.
 */
static int32
touch_key(const char *topic, const LhOutboxMessage *message)
{
	int32		hash = message->key ? hash_key(topic, message->key) : message->partition;

	if (message->key != NULL || message->partition >= 0)
		touched[(hash & (KEY_LOCKS - 1)) / 8] |= 1 << (hash & 7);
	return hash;
}

/*
 * insert_one writes a single message, for which arrays would cost more than it.
 */
static void
insert_one(int64 batch_id, const char *topic, const LhOutboxMessage *message)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4OID, BYTEAOID, INT4OID, BYTEAOID, JSONBOID};
	Datum		values[7];
	char		nulls[8] = "       ";

	values[0] = Int64GetDatum(batch_id);
	values[1] = CStringGetTextDatum(topic);
	values[2] = Int32GetDatum(message->partition);
	values[3] = PointerGetDatum(message->key);
	values[4] = Int32GetDatum(touch_key(topic, message));
	values[5] = PointerGetDatum(message->value);
	values[6] = PointerGetDatum(message->headers);
	nulls[2] = message->partition < 0 ? 'n' : ' ';
	nulls[3] = nulls[4] = message->key == NULL ? 'n' : ' ';
	nulls[5] = message->value == NULL ? 'n' : ' ';
	nulls[6] = message->headers == NULL ? 'n' : ' ';
	lh_catalog_run("INSERT INTO lakehouse.outbox (batch_id, topic, \"partition\", key, key_hash, value, headers)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING message_id",
				   7, types, values, nulls);
}

static void
insert_many(int64 batch_id, const char *topic, const LhOutboxMessage *messages, int count)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4ARRAYOID, BYTEAARRAYOID, INT4ARRAYOID,
		BYTEAARRAYOID, JSONBARRAYOID};
	Datum	   *columns[5];
	bool	   *missing[5];
	Datum		values[7];

	for (int c = 0; c < 5; c++)
	{
		columns[c] = palloc0(sizeof(Datum) * count);
		missing[c] = palloc0(sizeof(bool) * count);
	}
	for (int i = 0; i < count; i++)
	{
		const LhOutboxMessage *message = &messages[i];

		columns[0][i] = Int32GetDatum(message->partition);
		missing[0][i] = message->partition < 0;
		columns[1][i] = PointerGetDatum(message->key);
		columns[2][i] = Int32GetDatum(touch_key(topic, message));
		missing[1][i] = missing[2][i] = message->key == NULL;
		columns[3][i] = PointerGetDatum(message->value);
		missing[3][i] = message->value == NULL;
		columns[4][i] = PointerGetDatum(message->headers);
		missing[4][i] = message->headers == NULL;
	}
	values[0] = Int64GetDatum(batch_id);
	values[1] = CStringGetTextDatum(topic);
	values[2] = make_array(columns[0], missing[0], count, INT4OID, sizeof(int32), true);
	values[3] = make_array(columns[1], missing[1], count, BYTEAOID, -1, false);
	values[4] = make_array(columns[2], missing[2], count, INT4OID, sizeof(int32), true);
	values[5] = make_array(columns[3], missing[3], count, BYTEAOID, -1, false);
	values[6] = make_array(columns[4], missing[4], count, JSONBOID, -1, false);
	lh_catalog_run("INSERT INTO lakehouse.outbox (batch_id, topic, \"partition\", key, key_hash, value, headers)"
				   " SELECT $1, $2, m.p, m.k, m.h, m.v, m.e"
				   "   FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
				   "                   pg_catalog.unnest($6), pg_catalog.unnest($7)) m(p, k, h, v, e)"
				   " RETURNING message_id",
				   7, types, values, NULL);
}

/*
 * lh_outbox_add writes messages; see the header.
 */
int64
lh_outbox_add(Oid server, Oid owner, const char *topic, const LhOutboxMessage *messages, int count)
{
	Batch	   *batch = find_batch(server, owner);
	LhCatalog	catalog;
	int64		last;

	lh_catalog_begin(&catalog);
	if (count == 1)
		insert_one(batch->batch_id, topic, messages);
	else
		insert_many(batch->batch_id, topic, messages, count);
	last = lh_catalog_int64(count - 1, 1, 0);
	lh_catalog_end(&catalog);
	LH_FAULT("outbox-written");
	return last;
}

bool
lh_outbox_own_messages(void)
{
	return batches != NIL;
}

/*
 * order_batches gives the batches of this transaction their place among those
 * of others.  A batch whose messages were all rolled back is left out.
 */
static void
order_batches(void)
{
	static const Oid types[] = {INT8OID, NAMEOID, OIDOID, TEXTOID, INT8OID};
	NameData	server;
	Datum		values[5];
	LhCatalog	catalog;
	ListCell   *cell;

	/* dropped in this very transaction: nobody will send anything */
	if (!OidIsValid(get_namespace_oid("lakehouse", true)))
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	for (int lock = 0; lock < KEY_LOCKS; lock++)
	{
		if (touched[lock / 8] & (1 << (lock & 7)))
			(void) lh_catalog_lock(LH_LOCK_OUTBOX_KEY, lock + 1, true);
	}
	LH_FAULT("outbox-locked");
	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.nextval('lakehouse.outbox_commit_order_seq')", 0, NULL, NULL, NULL);
	values[4] = Int64GetDatum(lh_catalog_int64(0, 1, 0));
	values[3] = CStringGetTextDatum(lh_catalog_home());
	foreach(cell, batches)
	{
		Batch	   *batch = lfirst(cell);

		namestrcpy(&server, batch->server_name);
		values[0] = Int64GetDatum(batch->batch_id);
		values[1] = NameGetDatum(&server);
		values[2] = ObjectIdGetDatum(batch->owner);
		lh_catalog_run("INSERT INTO lakehouse.outbox_batch (batch_id, server, owner, home, commit_order)"
					   " SELECT $1, $2, $3, $4, $5"
					   " WHERE EXISTS (SELECT FROM lakehouse.outbox WHERE batch_id OPERATOR(pg_catalog.=) $1)",
					   5, types, values, NULL);
	}
	lh_catalog_end(&catalog);
	PopActiveSnapshot();
	LH_FAULT("outbox-ordered");
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	ListCell   *cell;

	if (batches == NIL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			order_batches();
			break;
		case XACT_EVENT_COMMIT:
			if (lh_outbox_committed_hook != NULL)
				foreach(cell, batches)
					lh_outbox_committed_hook(((Batch *) lfirst(cell))->server,
											 ((Batch *) lfirst(cell))->owner);
			batches = NIL;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			batches = NIL;		/* its memory goes with the transaction */
			break;
		default:
			break;
	}
}

void
lh_outbox_check_topic(const char *topic)
{
	static const char allowed[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t		length = strlen(topic);

	if (length == 0 || length > MAX_TOPIC_LENGTH || strspn(topic, allowed) < length ||
		strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be the name of a Kafka topic", topic),
				 errdetail("A name has 1 to %d letters, digits, dots, underscores and hyphens.",
						   MAX_TOPIC_LENGTH)));
}

bytea *
lh_outbox_text(const char *text, int length)
{
	char	   *converted = pg_server_to_any(text, length, PG_UTF8);
	bytea	   *result;

	/* the same pointer comes back when there was nothing to do */
	if (converted != text)
		length = strlen(converted);
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), converted, length);
	return result;
}
