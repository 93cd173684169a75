/*
 * outbox_state.c
 *	  How sending fares: who has something to send now, failures and back-off, and
 *	  the end of what is kept of servers and roles that are gone.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "outbox/outbox_internal.h"

/* longest time between two attempts */
#define MAX_BACKOFF_MS (60 * 1000)

/* without any sign that something is gone it is looked for so often */
#define TIDY_INTERVAL_MS (60 * 1000)

/* set when a server or a role changed, or is gone */
static bool changed = true;

/*
 * lh_outbox_due returns who has messages that could be sent now.  The pairs are
 * found by jumping from one to the next in the index.
 */
List *
lh_outbox_due(void)
{
	static const Oid types[] = {TEXTOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		value = CStringGetTextDatum(lh_catalog_home());
	List	   *pairs = NIL;
	LhCatalog	catalog;
	uint64		count;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	count = lh_catalog_run("WITH RECURSIVE pair AS ("
						   " (SELECT server, owner FROM lakehouse.outbox_batch ORDER BY server, owner LIMIT 1)"
						   " UNION ALL"
						   " SELECT n.server, n.owner FROM pair q CROSS JOIN LATERAL"
						   "  (SELECT b.server, b.owner FROM lakehouse.outbox_batch b"
						   "    WHERE ROW(b.server, b.owner::pg_catalog.oid) OPERATOR(pg_catalog.>) ROW(q.server, q.owner::pg_catalog.oid)"
						   "    ORDER BY b.server, b.owner LIMIT 1) n)"
						   "SELECT q.server::pg_catalog.text, q.owner FROM pair q"
						   " WHERE NOT EXISTS (SELECT FROM lakehouse.outbox_state t"
						   "   WHERE t.server OPERATOR(pg_catalog.=) q.server AND t.owner OPERATOR(pg_catalog.=) q.owner"
						   "     AND t.topic OPERATOR(pg_catalog.=) '' AND t.retry_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp())"
						   "   AND EXISTS (SELECT FROM lakehouse.outbox_batch b JOIN lakehouse.outbox o"
						   "        ON o.batch_id OPERATOR(pg_catalog.=) b.batch_id"
						   "     WHERE b.server OPERATOR(pg_catalog.=) q.server AND b.owner OPERATOR(pg_catalog.=) q.owner"
						   "       AND b.home OPERATOR(pg_catalog.=) $1 AND " LH_OUTBOX_SENDABLE ")",
						   1, types, &value, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		LhOutboxPair *pair = palloc(sizeof(LhOutboxPair));

		pair->server_name = lh_catalog_text(row, 1, context);
		pair->server = get_foreign_server_oid(pair->server_name, true);
		pair->owner = lh_catalog_oid(row, 2);
		pairs = lappend(pairs, pair);
		MemoryContextSwitchTo(old);
	}
	lh_catalog_end(&catalog);
	return pairs;
}

/*
 * lh_outbox_failed notes a failure, and when to try again: after one second,
 * then twice as long each time.
 */
void
lh_outbox_failed(const char *server, Oid owner, const char *topic, int sqlstate, const char *message)
{
	static const Oid types[] = {TEXTOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
	Datum		values[6];
	LhCatalog	catalog;

	values[0] = CStringGetTextDatum(server);
	values[1] = ObjectIdGetDatum(owner);
	values[2] = CStringGetTextDatum(topic ? topic : "");
	values[3] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[4] = CStringGetTextDatum(message);
	values[5] = Int32GetDatum(MAX_BACKOFF_MS);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.outbox_state AS s (server, owner, topic, last_failure, failures, sqlstate, error, retry_at)"
				   " VALUES ($1::pg_catalog.name, $2, $3, pg_catalog.clock_timestamp(), 1, $4, $5,"
				   "  pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) '1 second'::pg_catalog.interval)"
				   " ON CONFLICT (server, owner, topic) DO UPDATE SET last_failure = excluded.last_failure,"
				   " failures = s.failures OPERATOR(pg_catalog.+) 1,"
				   " sqlstate = excluded.sqlstate, error = excluded.error,"
				   " retry_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
				   "  (LEAST($6::pg_catalog.float8, 1000.0::pg_catalog.float8 OPERATOR(pg_catalog.*)"
				   "    pg_catalog.power(2::pg_catalog.float8, LEAST(s.failures, 20)::pg_catalog.float8))"
				   "   OPERATOR(pg_catalog.*) '1 millisecond'::pg_catalog.interval)",
				   6, types, values, NULL);
	lh_catalog_end(&catalog);
}

static void
on_change(Datum arg, int cache, uint32 hash)
{
	changed = true;
}

/*
 * lh_outbox_forget deletes what is kept of servers and roles that are gone,
 * unless messages of theirs wait: those show why until they are discarded.
 */
void
lh_outbox_forget(void)
{
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("DELETE FROM lakehouse.outbox_state s"
				   " WHERE NOT (EXISTS (SELECT FROM pg_catalog.pg_foreign_server f"
				   "                     WHERE f.srvname OPERATOR(pg_catalog.=) s.server)"
				   "            AND EXISTS (SELECT FROM pg_catalog.pg_roles r"
				   "                     WHERE r.oid OPERATOR(pg_catalog.=) s.owner::pg_catalog.oid))"
				   "   AND NOT EXISTS (SELECT FROM lakehouse.outbox_batch b"
				   "     WHERE b.server OPERATOR(pg_catalog.=) s.server AND b.owner OPERATOR(pg_catalog.=) s.owner)",
				   0, NULL, NULL, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_outbox_tidy does that if something may be gone; cheap otherwise, to be
 * called often.
 */
void
lh_outbox_tidy(void)
{
	static bool registered = false;
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (!registered)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_change, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, on_change, (Datum) 0);
		registered = true;
	}
	if (!changed && !TimestampDifferenceExceeds(last, now, TIDY_INTERVAL_MS))
		return;
	changed = false;
	last = now;
	lh_outbox_forget();
}
