/*
 * send.c
 *	  From the outbox to the cluster.
 *
 * A message is deleted from the outbox in a transaction that begins after the
 * cluster acknowledged it: sent at least once.  Messages are read in the order
 * in which their transactions committed, and sent by one process at a time,
 * which holds the lock of the pair of server and role, with a producer that
 * keeps their order.
 *
 * Invariant: what was not acknowledged is sent again before anything that
 * follows it with the same key, so that for each key the last message in the
 * topic is the last one of the outbox.  Where a message of a key stays behind,
 * later ones of the key stay as well, although they may have arrived.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "fault.h"
#include "outbox/outbox_internal.h"
#include "source/server.h"

/* what is read at once: messages, and bytes of keys and values */
#define READ_MESSAGES 5000
#define READ_BYTES (8 * 1024 * 1024)

/* a lost connection is a failure after this long: brokers restart */
#define DOWN_LIMIT_MS 5000

/* without any acknowledgement for so long, sending is given up for now */
#define SILENCE_LIMIT_MS 7000

/* how long a broker may take to tell about a topic */
#define ANSWER_LIMIT_MS 6000

struct LhSender
{
	const char *server_name;
	Oid			owner;
	MemoryContext context;		/* of the client, reset when it is closed */
	LhKafka    *kafka;			/* or NULL */
	List	   *topics;			/* char *: of which the client knows that they are there */
	MemoryContext batch_context;
	LhOutboxRow *rows;
	int			count;
	LhError		trouble;		/* sqlstate 0 = none */
};

/* set when a server or a user mapping changed: clients are made anew */
static bool servers_changed = false;

static void open_client(LhSender *sender);
static void read_row(LhOutboxRow *row, uint64 number);
static void send_all(LhSender *sender);
static bool send_row(LhSender *sender, int number, int slot);
static bool wait_for_answers(LhSender *sender);
static void send_alone(LhSender *sender);
static bool check_topic(LhSender *sender, LhOutboxRow *row);
static void set_state(LhOutboxRow *row, LhKafkaDelivery state, const LhError *error);
static void keep_order(LhSender *sender);
static void note_connected(const LhSender *sender);
static void settle_topics(LhSender *sender);

static void
on_change(Datum arg, int cache, uint32 hash)
{
	servers_changed = true;
}

LhSender *
lh_sender_open(const char *server, Oid owner)
{
	static bool registered = false;
	LhSender   *sender = palloc0(sizeof(LhSender));

	if (!registered)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_change, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGUSERSERVER, on_change, (Datum) 0);
		registered = true;
	}
	sender->server_name = pstrdup(server);
	sender->owner = owner;
	sender->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse sender", ALLOCSET_SMALL_SIZES);
	sender->batch_context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse messages",
												  ALLOCSET_DEFAULT_SIZES);
	return sender;
}

int32
lh_sender_lock_id(const char *server, Oid owner)
{
	return (int32) hash_combine(hash_bytes((const unsigned char *) server, strlen(server)), owner);
}

void
lh_sender_close(LhSender *sender)
{
	if (sender->kafka != NULL)
		lh_kafka_close(sender->kafka);
	sender->kafka = NULL;
	sender->topics = NIL;
	MemoryContextReset(sender->context);
}

const LhError *
lh_sender_trouble(const LhSender *sender)
{
	return &sender->trouble;
}

/*
 * open_client makes a client with the rights of the owner, who may have lost
 * them since the messages were written.
 */
static void
open_client(LhSender *sender)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "properties", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	Oid			server = get_foreign_server_oid(sender->server_name, true);
	LhIdentity	identity;
	List	   *properties;

	if (!OidIsValid(server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", sender->server_name)));
	old = MemoryContextSwitchTo(scratch);
	servers_changed = false;
	lh_identity_role(&identity, sender->owner, "pg_catalog, pg_temp");
	properties = lh_server_kafka_properties(server, sender->owner);
	lh_identity_restore(&identity);
	sender->kafka = lh_kafka_open_producer(properties, sender->context);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/*
 * lh_sender_read reads what comes next; see the header.
 */
int
lh_sender_read(LhSender *sender)
{
	static const Oid types[] = {TEXTOID, OIDOID, TEXTOID, INT4OID, INT8OID};
	Datum		values[5];
	MemoryContext old;
	LhCatalog	catalog;

	MemoryContextReset(sender->batch_context);
	sender->count = 0;
	sender->trouble.sqlstate = 0;
	if (sender->kafka != NULL && servers_changed)
		lh_sender_close(sender);
	old = MemoryContextSwitchTo(sender->batch_context);
	values[0] = CStringGetTextDatum(sender->server_name);
	values[1] = ObjectIdGetDatum(sender->owner);
	values[2] = CStringGetTextDatum(lh_catalog_home());
	values[3] = Int32GetDatum(READ_MESSAGES);
	values[4] = Int64GetDatum(READ_BYTES);
	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	sender->count = (int)
		lh_catalog_run("SELECT q.message_id, q.batch_id, q.topic, q.\"partition\", q.key, q.key_hash, q.value, q.headers"
					   " FROM (SELECT o.*, pg_catalog.sum(o.size) OVER (ROWS UNBOUNDED PRECEDING) AS total"
					   "  FROM (SELECT b.* FROM lakehouse.outbox_batch b"
					   "         WHERE b.server OPERATOR(pg_catalog.=) $1::pg_catalog.name AND b.owner OPERATOR(pg_catalog.=) $2"
					   "           AND b.home OPERATOR(pg_catalog.=) $3 ORDER BY b.server, b.owner, b.commit_order) b"
					   "  CROSS JOIN LATERAL (SELECT o.*, (COALESCE(pg_catalog.octet_length(o.key), 0)"
					   "           OPERATOR(pg_catalog.+) COALESCE(pg_catalog.octet_length(o.value), 0)) AS size"
					   "          FROM lakehouse.outbox o"
					   "         WHERE o.batch_id OPERATOR(pg_catalog.=) b.batch_id AND " LH_OUTBOX_SENDABLE
					   "         ORDER BY o.batch_id, o.message_id LIMIT $4) o"
					   "  LIMIT $4) q"
					   " WHERE q.total OPERATOR(pg_catalog.-) q.size OPERATOR(pg_catalog.<) $5",
					   5, types, values, NULL);
	MemoryContextSwitchTo(sender->batch_context);
	sender->rows = palloc0(sizeof(LhOutboxRow) * Max(sender->count, 1));
	for (int i = 0; i < sender->count; i++)
		read_row(&sender->rows[i], i);
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(old);
	if (sender->count > 0 && sender->kafka == NULL)
		open_client(sender);
	return sender->count;
}

static const char *
copy_bytes(uint64 number, int column, Size *length)
{
	bool		isnull;
	Datum		value = lh_catalog_value(number, column, &isnull);
	bytea	   *bytes;

	*length = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPCopy(value);
	*length = VARSIZE(bytes) - VARHDRSZ;
	return VARDATA(bytes);
}

/*
 * read_row copies one row of the result into the current context.
 */
static void
read_row(LhOutboxRow *row, uint64 number)
{
	LhKafkaHeader *headers;
	Datum		value;
	bool		isnull;

	row->message_id = lh_catalog_int64(number, 1, 0);
	row->batch_id = lh_catalog_int64(number, 2, 0);
	row->out.topic = lh_catalog_text(number, 3, CurrentMemoryContext);
	row->out.partition = (int32) lh_catalog_int64(number, 4, -1);
	row->out.key = copy_bytes(number, 5, &row->out.key_length);
	row->has_key = row->out.key != NULL;
	row->key_hash = (int32) lh_catalog_int64(number, 6, 0);
	row->out.value = copy_bytes(number, 7, &row->out.value_length);
	value = lh_catalog_value(number, 8, &isnull);
	if (isnull)
		return;
	row->out.header_count = lh_outbox_headers(DatumGetJsonbPCopy(value), &headers);
	row->out.headers = headers;
}

/* ---------------------------------------------------------------- sending */

static void
set_state(LhOutboxRow *row, LhKafkaDelivery state, const LhError *error)
{
	row->state = state;
	if (state == LH_KAFKA_DELIVERED || error == NULL || error->sqlstate == 0)
		return;
	row->error = palloc(sizeof(LhError));
	*row->error = *error;
}

/*
 * lh_sender_deliver sends what was read; see the header.
 */
bool
lh_sender_deliver(LhSender *sender)
{
	MemoryContext old = MemoryContextSwitchTo(sender->batch_context);

	send_all(sender);
	for (int i = 0; i < sender->count; i++)
	{
		LhOutboxRow *row = &sender->rows[i];
		LhError		error = {0};

		if (row->state == LH_KAFKA_UNSENT || row->state == LH_KAFKA_IN_FLIGHT)
			set_state(row, lh_kafka_delivery(sender->kafka, i, &error), &error);
		if (row->state == LH_KAFKA_UNCERTAIN && sender->trouble.sqlstate == 0)
			sender->trouble = error;
	}
	send_alone(sender);
	keep_order(sender);
	MemoryContextSwitchTo(old);
	return sender->trouble.sqlstate == 0;
}

static HTAB *
make_key_set(void)
{
	HASHCTL		control = {
		.keysize = sizeof(int32),
		.entrysize = sizeof(int32),
		.hcxt = CurrentMemoryContext
	};

	return hash_create("lakehouse keys", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * has_mark and mark read and change a set of keys, by their hashes.  A message
 * without a key is in none.
 */
static bool
has_mark(HTAB *set, const LhOutboxRow *row)
{
	return row->has_key && hash_search(set, &row->key_hash, HASH_FIND, NULL) != NULL;
}

static void
mark(HTAB *set, const LhOutboxRow *row)
{
	if (row->has_key)
		(void) hash_search(set, &row->key_hash, HASH_ENTER, NULL);
}

/*
 * send_all gives everything to the client and waits for the answers.
 */
static void
send_all(LhSender *sender)
{
	HTAB	   *stuck = make_key_set();

	lh_kafka_send_begin(sender->kafka, sender->count);
	for (int i = 0; i < sender->count; i++)
	{
		LhOutboxRow *row = &sender->rows[i];

		if (has_mark(stuck, row))
			continue;
		if (!send_row(sender, i, i))
			mark(stuck, row);
		if (sender->trouble.sqlstate != 0)
			return;
	}
	(void) wait_for_answers(sender);
}

/*
 * send_row gives one message to the client, as number "slot" of its batch; false
 * if it is not on its way.
 */
static bool
send_row(LhSender *sender, int number, int slot)
{
	LhOutboxRow *row = &sender->rows[number];
	LhError		error = {0};
	LhKafkaDelivery state;

	CHECK_FOR_INTERRUPTS();
	if (!check_topic(sender, row))
		return false;
	state = lh_kafka_send(sender->kafka, slot, &row->out, &error);
	set_state(row, state, &error);
	if (state == LH_KAFKA_UNCERTAIN)
		sender->trouble = error;
	return state == LH_KAFKA_IN_FLIGHT;
}

/*
 * check_topic asks the cluster for a topic once in the life of a client.  A
 * topic that is not there concerns its own messages only.
 */
static bool
check_topic(LhSender *sender, LhOutboxRow *row)
{
	MemoryContext old;
	ListCell   *cell;
	LhError		error = {0};

	foreach(cell, sender->topics)
		if (strcmp(lfirst(cell), row->out.topic) == 0)
			return true;
	for (LhOutboxRow *other = sender->rows; other < row; other++)
	{
		/* asked before, for this batch */
		if (other->state == LH_KAFKA_TOPIC_REFUSED && strcmp(other->out.topic, row->out.topic) == 0)
		{
			set_state(row, LH_KAFKA_TOPIC_REFUSED, other->error);
			return false;
		}
	}
	if (lh_kafka_partitions(sender->kafka, row->out.topic, ANSWER_LIMIT_MS, &error) < 0)
	{
		if (error.sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION ||
			error.sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
			sender->trouble = error;
		else
			set_state(row, LH_KAFKA_TOPIC_REFUSED, &error);
		return false;
	}
	old = MemoryContextSwitchTo(sender->context);
	sender->topics = lappend(sender->topics, pstrdup(row->out.topic));
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * wait_for_answers waits until the client knows of every message what became of
 * it; false, with the reason in sender->trouble, if that takes too long.
 */
static bool
wait_for_answers(LhSender *sender)
{
	TimestampTz heard = GetCurrentTimestamp();
	int			left = lh_kafka_in_flight(sender->kafka);

	while (lh_kafka_in_flight(sender->kafka) > 0)
	{
		const LhError *trouble;
		long		age;

		lh_kafka_wait(sender->kafka, 100);
		CHECK_FOR_INTERRUPTS();
		if (lh_kafka_in_flight(sender->kafka) < left)
		{
			heard = GetCurrentTimestamp();
			left = lh_kafka_in_flight(sender->kafka);
			continue;
		}
		if (lh_kafka_is_fatal(sender->kafka, &sender->trouble))
			return false;
		trouble = lh_kafka_trouble(sender->kafka, &age);
		if (trouble != NULL &&
			(age > DOWN_LIMIT_MS || trouble->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION))
		{
			sender->trouble = *trouble;
			return false;
		}
		if (TimestampDifferenceExceeds(heard, GetCurrentTimestamp(), SILENCE_LIMIT_MS))
		{
			lh_error_set(&sender->trouble, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
						 "the Kafka cluster acknowledged no message for %d seconds", SILENCE_LIMIT_MS / 1000);
			return false;
		}
	}
	return true;
}

/*
 * send_refused sends one message once more, alone, and waits for the answer.
 */
static void
send_refused(LhSender *sender, int number)
{
	LhOutboxRow *row = &sender->rows[number];
	LhError		error = {0};

	lh_kafka_send_begin(sender->kafka, 1);
	if (send_row(sender, number, 0))
		(void) wait_for_answers(sender);
	if (sender->trouble.sqlstate != 0)
		row->state = LH_KAFKA_UNCERTAIN;
	else
		set_state(row, lh_kafka_delivery(sender->kafka, 0, &error), &error);
	if (row->state == LH_KAFKA_UNCERTAIN && sender->trouble.sqlstate == 0)
		sender->trouble = error;
}

/*
 * send_alone sends again, one by one, what the cluster refused: it refuses whole
 * batches of the client, in which one message may have been too large.  What
 * followed one of these with its key may have arrived with the next batch; it
 * has to arrive behind it, so it counts as not sent.
 */
static void
send_alone(LhSender *sender)
{
	HTAB	   *stuck = make_key_set();
	HTAB	   *moved = make_key_set();

	for (int i = 0; i < sender->count; i++)
	{
		LhOutboxRow *row = &sender->rows[i];

		if (row->state == LH_KAFKA_DELIVERED && has_mark(moved, row))
			row->state = LH_KAFKA_UNSENT;
		if (row->state == LH_KAFKA_TOPIC_REFUSED)
			mark(stuck, row);
		if (row->state != LH_KAFKA_REFUSED)
			continue;
		/* refused is only what was refused alone */
		if (sender->trouble.sqlstate != 0 || has_mark(stuck, row))
			row->state = LH_KAFKA_UNSENT;
		else
			send_refused(sender, i);
		mark(row->state == LH_KAFKA_DELIVERED ? moved : stuck, row);
	}
}

/*
 * keep_order takes what arrived after a message of its key that did not as not
 * sent: it is sent again behind that one.
 */
static void
keep_order(LhSender *sender)
{
	HTAB	   *stuck = make_key_set();

	for (int i = 0; i < sender->count; i++)
	{
		LhOutboxRow *row = &sender->rows[i];

		if (row->state != LH_KAFKA_DELIVERED)
			mark(stuck, row);
		else if (has_mark(stuck, row))
			row->state = LH_KAFKA_UNSENT;
	}
}

/* --------------------------------------------------------------- settling */

/*
 * ids returns two arrays, of batches and messages, of the rows in a state.
 */
static int
ids(const LhSender *sender, LhKafkaDelivery state, Datum *batches, Datum *messages)
{
	Datum	   *batch_ids = palloc(sizeof(Datum) * Max(sender->count, 1));
	Datum	   *message_ids = palloc(sizeof(Datum) * Max(sender->count, 1));
	int			count = 0;

	for (int i = 0; i < sender->count; i++)
	{
		if (sender->rows[i].state != state)
			continue;
		batch_ids[count] = Int64GetDatum(sender->rows[i].batch_id);
		message_ids[count++] = Int64GetDatum(sender->rows[i].message_id);
	}
	*batches = PointerGetDatum(construct_array(batch_ids, count, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
	*messages = PointerGetDatum(construct_array(message_ids, count, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));
	return count;
}

/*
 * delete_sent deletes what the cluster has.
 */
static int64
delete_sent(LhSender *sender)
{
	static const Oid types[] = {INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[2];
	LhCatalog	catalog;
	int			count = ids(sender, LH_KAFKA_DELIVERED, &values[0], &values[1]);

	if (count == 0)
		return 0;
	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	/* kafka_discard takes other messages of these batches, and may not be done */
	lh_catalog_run("SELECT FROM lakehouse.outbox_batch b WHERE b.batch_id OPERATOR(pg_catalog.=) ANY ($1)"
				   " ORDER BY b.batch_id FOR UPDATE", 1, types, values, NULL);
	lh_catalog_run("DELETE FROM lakehouse.outbox o"
				   " USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) d(b, m)"
				   " WHERE o.batch_id OPERATOR(pg_catalog.=) d.b AND o.message_id OPERATOR(pg_catalog.=) d.m",
				   2, types, values, NULL);
	lh_catalog_run("DELETE FROM lakehouse.outbox_batch b"
				   " WHERE b.batch_id OPERATOR(pg_catalog.=) ANY ($1)"
				   "   AND NOT EXISTS (SELECT FROM lakehouse.outbox o WHERE o.batch_id OPERATOR(pg_catalog.=) b.batch_id)",
				   1, types, values, NULL);
	lh_catalog_end(&catalog);
	return count;
}

/*
 * mark_refused keeps why the cluster does not take a message.
 */
static void
mark_refused(const LhOutboxRow *row)
{
	static const Oid types[] = {INT8OID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[4];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(row->batch_id);
	values[1] = Int64GetDatum(row->message_id);
	values[2] = CStringGetTextDatum(unpack_sql_state(row->error->sqlstate));
	values[3] = CStringGetTextDatum(row->error->message);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.outbox SET sqlstate = $3, error = $4, failed = pg_catalog.clock_timestamp()"
				   " WHERE batch_id OPERATOR(pg_catalog.=) $1 AND message_id OPERATOR(pg_catalog.=) $2",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_sender_settle writes what became of the messages; see the header.
 */
void
lh_sender_settle(LhSender *sender, LhOutboxCounts *counts)
{
	MemoryContext old = MemoryContextSwitchTo(sender->batch_context);
	int64		sent;

	LH_FAULT("outbox-sent");
	sent = delete_sent(sender);
	counts->sent += sent;
	counts->waiting = sender->count - sent;
	for (int i = 0; i < sender->count; i++)
	{
		if (sender->rows[i].state != LH_KAFKA_REFUSED)
			continue;
		mark_refused(&sender->rows[i]);
		counts->refused++;
		counts->waiting--;
	}
	settle_topics(sender);
	if (sender->trouble.sqlstate != 0)
		lh_outbox_failed(sender->server_name, sender->owner, NULL,
						 sender->trouble.sqlstate, sender->trouble.message);
	else
		note_connected(sender);
	LH_FAULT("outbox-settled");
	MemoryContextSwitchTo(old);
}

/*
 * note_connected notes that the cluster takes messages, whatever it says of some.
 */
static void
note_connected(const LhSender *sender)
{
	static const Oid types[] = {TEXTOID, OIDOID};
	Datum		values[2];
	LhCatalog	catalog;

	values[0] = CStringGetTextDatum(sender->server_name);
	values[1] = ObjectIdGetDatum(sender->owner);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.outbox_state SET failures = 0, sqlstate = NULL, error = NULL, retry_at = NULL"
				   " WHERE server OPERATOR(pg_catalog.=) $1::pg_catalog.name AND owner OPERATOR(pg_catalog.=) $2"
				   "   AND topic OPERATOR(pg_catalog.=) '' AND failures OPERATOR(pg_catalog.>) 0",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * count_sent notes success of a topic.
 */
static void
count_sent(const LhSender *sender, const char *topic, int64 sent)
{
	static const Oid types[] = {TEXTOID, OIDOID, TEXTOID, INT8OID};
	Datum		values[4];
	LhCatalog	catalog;

	values[0] = CStringGetTextDatum(sender->server_name);
	values[1] = ObjectIdGetDatum(sender->owner);
	values[2] = CStringGetTextDatum(topic);
	values[3] = Int64GetDatum(sent);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.outbox_state AS s (server, owner, topic, sent, last_sent)"
				   " VALUES ($1::pg_catalog.name, $2, $3, $4, pg_catalog.clock_timestamp())"
				   " ON CONFLICT (server, owner, topic) DO UPDATE SET sent = s.sent OPERATOR(pg_catalog.+) excluded.sent,"
				   " last_sent = excluded.last_sent, failures = 0, sqlstate = NULL, error = NULL, retry_at = NULL",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * settle_topics notes for each topic of the batch what was sent, or that it is
 * refused.
 */
static void
settle_topics(LhSender *sender)
{
	for (int i = 0; i < sender->count; i++)
	{
		const LhOutboxRow *row = &sender->rows[i];
		const LhOutboxRow *refused = NULL;
		int64		sent = 0;
		bool		seen = false;

		/* the first row of a topic stands for it */
		for (int j = 0; j < i && !seen; j++)
			seen = strcmp(sender->rows[j].out.topic, row->out.topic) == 0;
		for (int j = i; j < sender->count && !seen; j++)
		{
			const LhOutboxRow *other = &sender->rows[j];

			if (strcmp(other->out.topic, row->out.topic) != 0)
				continue;
			sent += other->state == LH_KAFKA_DELIVERED;
			if (other->state == LH_KAFKA_TOPIC_REFUSED)
				refused = other;
		}
		if (sent > 0)
			count_sent(sender, row->out.topic, sent);
		if (refused != NULL)
			lh_outbox_failed(sender->server_name, sender->owner, row->out.topic,
							 refused->error->sqlstate, refused->error->message);
	}
}
