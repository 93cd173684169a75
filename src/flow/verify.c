/*
 * verify.c
 *	  lakehouse.verify(): proves on this database what the documentation promises.
 *
 * Each check compares two things that were written by different code: the rows
 * of a table with what its loads say, the ledger with the loads, the offsets
 * with the loads, a flow's target with its query run on everything, the messages
 * of a flow that sends with what its query gives, and the outbox with itself.  All
 * checks of one call see one snapshot only if the transaction's isolation level
 * says so; under READ COMMITTED a load that commits in between can show up as a
 * difference, so each table is read before its loads are.
 *
 * Tables are read with the caller's rights.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "catalog/catalog_access.h"
#include "delta/delta.h"
#include "delta/load.h"
#include "flow/flow.h"
#include "outbox/outbox.h"

/* the result set being made */
typedef struct Report
{
	ReturnSetInfo *rsinfo;
	MemoryContext context;		/* of one check; reset after it */
} Report;

/* a table to check: copied out of the catalog before its rows are read */
typedef struct Table
{
	Oid			relation;
	char	   *name;
} Table;

static void verify_table(Report *report, const Table *table);
static void compare_loads(Report *report, const Table *table, Datum loads, Datum counts);
static void verify_catalog(Report *report, const char *check, const char *sql);
static void verify_flow(Report *report, int32 flow_id);
static void verify_sink(Report *report, const LhFlow *flow);
static int64 count_in_query(const LhFlow *flow);
static bool judges_surplus(const LhFlow *flow);
static bool excepted(const LhFlow *flow, const char *column);
static char *flow_comparison(const LhFlow *flow);
static void add_row(Report *report, const char *object, const char *check,
					int ok, const char *detail);

PG_FUNCTION_INFO_V1(lakehouse_verify);

/* loads of a file against the file's row in the ledger, and its rejects */
static const char file_check[] =
"SELECT pg_catalog.format('%s: %s', s.name, f.path),"
"       f.rows OPERATOR(pg_catalog.=) l.rows AND (f.rejected OPERATOR(pg_catalog.+) r.resolved) OPERATOR(pg_catalog.=) l.rejected"
"         AND l.rejected OPERATOR(pg_catalog.=) r.rejects AND l.next OPERATOR(pg_catalog.=) f.\"position\""
"         AND l.gaps OPERATOR(pg_catalog.=) 0,"
"       pg_catalog.format('ledger %s rows, %s rejects, %s bytes; loads %s rows, %s rejects, %s bytes, %s gaps; %s rejects kept, %s of them resolved',"
"                         f.rows, f.rejected, f.\"position\", l.rows, l.rejected, l.next, l.gaps, r.rejects, r.resolved)"
"  FROM lakehouse.file f"
"  JOIN lakehouse.source s USING (source_id)"
"  CROSS JOIN LATERAL ("
"       SELECT coalesce(pg_catalog.sum(p.rows), 0) AS rows, coalesce(pg_catalog.sum(p.rejected), 0) AS rejected,"
"              coalesce(pg_catalog.max(p.last_position), 0) AS next,"
"              pg_catalog.count(*) FILTER (WHERE p.first_position OPERATOR(pg_catalog.<>) p.before) AS gaps"
"         FROM (SELECT rows, rejected, first_position, last_position,"
"                      pg_catalog.lag(last_position, 1, 0::bigint)"
"                        OVER (ORDER BY first_position, last_position) AS before"
"                 FROM (SELECT rows, rejected, first_position, last_position FROM lakehouse.load"
"                        WHERE file_id OPERATOR(pg_catalog.=) f.file_id"
/* what is still to be loaded leaves no gap either */
"                        UNION ALL SELECT 0, 0, first_position, last_position FROM lakehouse.file_range"
"                        WHERE source_id OPERATOR(pg_catalog.=) f.source_id AND file_id OPERATOR(pg_catalog.=) f.file_id) q) p) l"
"  CROSS JOIN LATERAL ("
"       SELECT pg_catalog.count(*) AS rejects, pg_catalog.count(replayed_load) AS resolved"
"         FROM lakehouse.reject"
"        WHERE file_id OPERATOR(pg_catalog.=) f.file_id AND state OPERATOR(pg_catalog.<>) 'stored') r"
" WHERE pg_catalog.pg_has_role($1, s.owner::pg_catalog.oid, 'USAGE')"
"   AND f.state OPERATOR(pg_catalog.=) ANY (ARRAY['loaded', 'loading', 'changed', 'superseded'])"
" ORDER BY 1";

/* ranges of a partition's loads: adjacent, and ending where the offset stands,
 * unless the topic is known to have begun anew */
static const char offset_check[] =
"SELECT pg_catalog.format('%s: %s/%s', s.name, o.topic, o.\"partition\"),"
"       coalesce((l.overlaps OPERATOR(pg_catalog.=) 0 AND l.next OPERATOR(pg_catalog.<=) o.next_offset"
"                 OR EXISTS (SELECT FROM lakehouse.kafka_loss x WHERE x.source_id OPERATOR(pg_catalog.=) o.source_id"
"                             AND x.topic OPERATOR(pg_catalog.=) o.topic AND x.\"partition\" OPERATOR(pg_catalog.=) o.\"partition\""
"                             AND x.reason OPERATOR(pg_catalog.<>) 'retention'))"
"                AND l.messages OPERATOR(pg_catalog.>=) (o.rows OPERATOR(pg_catalog.+) o.rejected), o.rows OPERATOR(pg_catalog.=) 0),"
"       pg_catalog.format('next offset %s, %s rows, %s rejects; loads end at %s and cover %s offsets, %s overlaps',"
"                         o.next_offset, o.rows, o.rejected, l.next, l.messages, l.overlaps)"
"  FROM lakehouse.kafka_offset o"
"  JOIN lakehouse.source s USING (source_id)"
"  CROSS JOIN LATERAL ("
"       SELECT pg_catalog.max(p.next) AS next,"
"              coalesce(pg_catalog.sum(p.next OPERATOR(pg_catalog.-) p.first), 0) AS messages,"
"              pg_catalog.count(*) FILTER (WHERE p.first OPERATOR(pg_catalog.<) p.before) AS overlaps"
"         FROM (SELECT first, next, pg_catalog.lag(next) OVER (ORDER BY first, next) AS before"
"                 FROM (SELECT (offsets OPERATOR(pg_catalog.->) o.topic OPERATOR(pg_catalog.->) o.\"partition\"::text OPERATOR(pg_catalog.->>) 0)::bigint AS first,"
"                              (offsets OPERATOR(pg_catalog.->) o.topic OPERATOR(pg_catalog.->) o.\"partition\"::text OPERATOR(pg_catalog.->>) 1)::bigint AS next"
"                         FROM lakehouse.load"
"                        WHERE source_id OPERATOR(pg_catalog.=) o.source_id"
"                          AND offsets OPERATOR(pg_catalog.->) o.topic OPERATOR(pg_catalog.?) o.\"partition\"::text) q) p) l"
" WHERE pg_catalog.pg_has_role($1, s.owner::pg_catalog.oid, 'USAGE')"
" ORDER BY 1";

/* messages that wait, by server and role: each belongs to a batch, each batch has
 * messages and a place of its own, and somebody can send them */
static const char outbox_check[] =
"SELECT pg_catalog.concat(q.server, ': ', COALESCE(r.rolname::pg_catalog.text, q.owner::pg_catalog.text)),"
"       f.srvname IS NOT NULL AND r.oid IS NOT NULL AND q.empty OPERATOR(pg_catalog.=) 0 AND q.doubled OPERATOR(pg_catalog.=) 0"
"         AND q.ahead OPERATOR(pg_catalog.=) 0 AND q.broken OPERATOR(pg_catalog.=) 0,"
"       pg_catalog.concat(q.messages, ' messages in ', q.batches, ' batches, ', q.refused, ' refused',"
"         CASE WHEN f.srvname IS NULL THEN '; the server does not exist' END,"
"         CASE WHEN r.oid IS NULL THEN '; the role does not exist' END,"
"         CASE WHEN q.empty OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('; ', q.empty, ' batches without messages') END,"
"         CASE WHEN q.doubled OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('; ', q.doubled, ' places taken twice') END,"
"         CASE WHEN q.ahead OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('; ', q.ahead, ' batches with numbers that were never given') END,"
"         CASE WHEN q.broken OPERATOR(pg_catalog.>) 0 THEN pg_catalog.concat('; ', q.broken, ' messages whose key or state is not whole') END)"
"  FROM (SELECT b.server, b.owner, pg_catalog.count(*) AS batches,"
"               pg_catalog.sum(m.messages) AS messages, pg_catalog.sum(m.refused) AS refused, pg_catalog.sum(m.broken) AS broken,"
"               pg_catalog.count(*) FILTER (WHERE m.messages OPERATOR(pg_catalog.=) 0) AS empty,"
"               pg_catalog.count(*) OPERATOR(pg_catalog.-) pg_catalog.count(DISTINCT b.commit_order) AS doubled,"
"               pg_catalog.count(*) FILTER (WHERE b.commit_order OPERATOR(pg_catalog.>) c.last_value"
"                 OR b.batch_id OPERATOR(pg_catalog.>) i.last_value OR m.last OPERATOR(pg_catalog.>) n.last_value) AS ahead"
"          FROM lakehouse.outbox_batch b"
"         CROSS JOIN LATERAL ("
"               SELECT pg_catalog.count(*) AS messages, pg_catalog.count(sqlstate) AS refused, pg_catalog.max(message_id) AS last,"
"                      pg_catalog.count(*) FILTER (WHERE (key IS NULL) OPERATOR(pg_catalog.<>) (key_hash IS NULL)"
"                        OR (sqlstate IS NULL) OPERATOR(pg_catalog.<>) (failed IS NULL)) AS broken"
"                 FROM lakehouse.outbox o WHERE o.batch_id OPERATOR(pg_catalog.=) b.batch_id) m"
"         CROSS JOIN lakehouse.outbox_commit_order_seq c"
"         CROSS JOIN lakehouse.outbox_batch_id_seq i"
"         CROSS JOIN lakehouse.outbox_message_id_seq n"
"         WHERE pg_catalog.pg_has_role($1, b.owner::pg_catalog.oid, 'USAGE')"
"         GROUP BY b.server, b.owner) q"
"  LEFT JOIN pg_catalog.pg_foreign_server f ON f.srvname OPERATOR(pg_catalog.=) q.server"
"  LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) q.owner::pg_catalog.oid"
" ORDER BY 1";

/* messages of no batch: nobody would ever send them */
static const char stray_check[] =
"SELECT 'messages without a batch', false, pg_catalog.concat(n, ' messages belong to no transaction; the first one has number ', first)"
"  FROM (SELECT pg_catalog.count(*) AS n, pg_catalog.min(message_id) AS first FROM lakehouse.outbox o"
"         WHERE NOT EXISTS (SELECT FROM lakehouse.outbox_batch b WHERE b.batch_id OPERATOR(pg_catalog.=) o.batch_id)) q"
" WHERE n OPERATOR(pg_catalog.>) 0 AND pg_catalog.pg_has_role($1, 'pg_monitor', 'USAGE')";

/*
 * lakehouse.verify() returns one row for each thing that was compared.
 */
Datum
lakehouse_verify(PG_FUNCTION_ARGS)
{
	static const Oid role_type[] = {OIDOID};
	Datum		role = ObjectIdGetDatum(GetUserId());
	MemoryContext caller = CurrentMemoryContext;
	LhCatalog	catalog;
	Report		report;
	Table	   *tables;
	List	   *flows = NIL;
	ListCell   *cell;
	uint64		count;

	InitMaterializedSRF(fcinfo, 0);
	report.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	report.context = AllocSetContextCreate(caller, "lakehouse verify", ALLOCSET_DEFAULT_SIZES);

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT relation, relation::pg_catalog.text FROM lakehouse.managed_table"
						   " WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) relation)"
						   " ORDER BY 2", 0, NULL, NULL, NULL);
	tables = MemoryContextAlloc(caller, sizeof(Table) * (count + 1));
	for (uint64 row = 0; row < count; row++)
	{
		tables[row].relation = lh_catalog_oid(row, 1);
		tables[row].name = lh_catalog_text(row, 2, caller);
	}
	lh_catalog_end(&catalog);

	for (uint64 row = 0; row < count; row++)
		verify_table(&report, &tables[row]);
	verify_catalog(&report, "file", file_check);
	verify_catalog(&report, "offset", offset_check);
	verify_catalog(&report, "outbox", outbox_check);
	/* messages of this transaction have no batch yet */
	if (!lh_outbox_own_messages())
		verify_catalog(&report, "outbox", stray_check);

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT flow_id FROM lakehouse.flow"
						   " WHERE pg_catalog.pg_has_role($1, owner::pg_catalog.oid, 'USAGE') ORDER BY name",
						   1, role_type, &role, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		flows = lappend_int(flows, (int) lh_catalog_int64(row, 1, 0));
		MemoryContextSwitchTo(spi);
	}
	lh_catalog_end(&catalog);
	foreach(cell, flows)
		verify_flow(&report, lfirst_int(cell));

	MemoryContextDelete(report.context);
	return (Datum) 0;
}

/*
 * verify_table counts a table's rows by load and compares with the loads.
 */
static void
verify_table(Report *report, const Table *table)
{
	MemoryContext caller = MemoryContextSwitchTo(report->context);
	char	   *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table->relation)),
												  get_rel_name(table->relation));
	char	   *sql;

	CHECK_FOR_INTERRUPTS();
	if (pg_class_aclcheck(table->relation, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
	{
		add_row(report, table->name, "load", -1, "not checked: no SELECT privilege");
		MemoryContextSwitchTo(caller);
		return;
	}
	sql = psprintf("SELECT pg_catalog.array_agg(l), pg_catalog.array_agg(n)"
				   " FROM (SELECT " LH_LOAD_COLUMN " AS l, pg_catalog.count(*) AS n FROM %s GROUP BY 1) c", name);
	SPI_connect();
	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not count the rows of %s", name);
	{
		bool		isnull;
		Datum		loads = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		Datum		counts;

		if (isnull)
		{
			loads = PointerGetDatum(construct_empty_array(INT8OID));
			counts = loads;
		}
		else
			counts = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
		compare_loads(report, table, loads, counts);
	}
	SPI_finish();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(report->context);
}

/*
 * compare_loads reports rows without a load, loads that hold more rows than
 * they recorded, and loads of a source that hold fewer: a source's rows are
 * never changed by us, a flow's rows move to a later load when they are updated.
 */
static void
compare_loads(Report *report, const Table *table, Datum loads, Datum counts)
{
	static const Oid types[] = {INT8ARRAYOID, INT8ARRAYOID, OIDOID};
	Datum		values[3] = {loads, counts, ObjectIdGetDatum(table->relation)};
	LhCatalog	catalog;
	int64		bad;
	char	   *detail;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.count(*) FILTER (WHERE bad),"
				   " pg_catalog.format('%s rows in %s loads%s', coalesce(pg_catalog.sum(n), 0), pg_catalog.count(n),"
				   "  pg_catalog.string_agg(pg_catalog.format('; load %s: %s rows recorded, %s present', load_id, rows, n), '' ORDER BY load_id)"
				   "   FILTER (WHERE bad AND place OPERATOR(pg_catalog.<=) 5))"
				   " FROM (SELECT c.*, pg_catalog.row_number() OVER (PARTITION BY bad ORDER BY load_id) AS place"
				   "  FROM (SELECT coalesce(u.load_id, l.load_id) AS load_id, l.rows, coalesce(u.n, 0) AS n,"
				   "          l.load_id IS NULL"
				   "          OR coalesce(u.n OPERATOR(pg_catalog.>) l.rows, false)"
				   "          OR (l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['file', 'kafka'])"
				   "              AND coalesce(u.n, 0) OPERATOR(pg_catalog.<>) CASE WHEN l.undone IS NULL THEN l.rows ELSE 0 END) AS bad"
				   "    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) u(load_id, n)"
				   "    FULL JOIN (SELECT * FROM lakehouse.load WHERE relation OPERATOR(pg_catalog.=) $3) l"
				   "      ON l.load_id OPERATOR(pg_catalog.=) u.load_id) c) d",
				   3, types, values, NULL);
	bad = lh_catalog_int64(0, 1, 0);
	detail = lh_catalog_text(0, 2, report->context);
	lh_catalog_end(&catalog);
	add_row(report, table->name, "load", bad == 0, detail);
}

/*
 * verify_catalog runs a check that needs our tables only: (object, ok, detail).
 */
static void
verify_catalog(Report *report, const char *check, const char *sql)
{
	static const Oid types[] = {OIDOID};
	Datum		role = ObjectIdGetDatum(GetUserId());
	LhCatalog	catalog;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run(sql, 1, types, &role, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		bool		ok = DatumGetBool(lh_catalog_value(row, 2, &isnull));

		add_row(report, lh_catalog_text(row, 1, report->context), check,
				isnull ? -1 : ok, lh_catalog_text(row, 3, report->context));
	}
	lh_catalog_end(&catalog);
	MemoryContextReset(report->context);
}

/*
 * verify_flow compares a flow's target with its query, run on everything.
 */
static void
verify_flow(Report *report, int32 flow_id)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(flow_id);
	MemoryContext caller = MemoryContextSwitchTo(report->context);
	LhFlow	   *flow = lh_flow_get(flow_id);
	char	   *comparison;
	LhCatalog	catalog;
	LhIdentity	saved;
	int64		pending;

	CHECK_FOR_INTERRUPTS();
	if (flow == NULL)			/* dropped meanwhile */
	{
		MemoryContextSwitchTo(caller);
		return;
	}
	lh_identity_role(&saved, flow->owner, flow->path);
	comparison = flow_comparison(flow);
	lh_identity_restore(&saved);
	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.count(*) FROM lakehouse.pending"
				   " WHERE flow_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL);
	pending = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);

	if (flow->server != NULL && !OidIsValid(get_foreign_server_oid(flow->server, true)))
		add_row(report, flow->name, "flow", 0,
				psprintf("server \"%s\", which its messages go to, does not exist", flow->server));
	else if (pending > 0)
		add_row(report, flow->name, "flow", -1,
				psprintf("not checked: " INT64_FORMAT " loads are waiting; run the flow first", pending));
	else if (lh_flow_is_sink(flow->mode))
		verify_sink(report, flow);
	else if (comparison == NULL)
		add_row(report, flow->name, "flow", -1,
				psprintf("not checked: a flow of mode %s has no single result to compare with", flow->mode));
	else
	{
		bool		strict = judges_surplus(flow);
		int64		missing;
		int64		surplus;
		bool		isnull;

		lh_identity_role(&saved, flow->owner, flow->path);
		SPI_connect();
		if (SPI_execute(comparison, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not compare flow \"%s\"", flow->name);
		missing = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		surplus = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
		SPI_finish();
		lh_identity_restore(&saved);
		add_row(report, flow->name, "flow", missing == 0 && (surplus == 0 || !strict),
				psprintf("recomputed: " INT64_FORMAT " missing, " INT64_FORMAT " surplus%s", missing, surplus,
						 surplus > 0 && !strict ?
						 " (not an error: another flow writes the target, or rows of an input were changed after they were read)" : ""));
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(report->context);
}

/*
 * verify_sink compares what the query of a flow that sends gives now, rows or
 * keys, with the messages that its runs put into the outbox: more than that is
 * usual, rows were changed or went away since; fewer says that some never got
 * there, unless a table that is read as it stands has grown.
 */
static void
verify_sink(Report *report, const LhFlow *flow)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(flow->flow_id);
	bool		by_key = strcmp(flow->mode, "upsert_kafka") == 0;
	int64		rows = count_in_query(flow);
	int64		written;
	int64		tombstones;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT COALESCE(pg_catalog.sum(inserted), 0)::pg_catalog.int8,"
				   " COALESCE(pg_catalog.sum(deleted), 0)::pg_catalog.int8"
				   " FROM lakehouse.flow_run WHERE flow_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL);
	written = lh_catalog_int64(0, 1, 0);
	tombstones = lh_catalog_int64(0, 2, 0);
	lh_catalog_end(&catalog);
	add_row(report, flow->name, "flow", written >= rows ? 1 : flow->statics != NIL ? -1 : 0,
			psprintf("recomputed: " INT64_FORMAT " %s; its runs wrote " INT64_FORMAT " messages and " INT64_FORMAT " tombstones%s",
					 rows, by_key ? "keys" : "rows", written, tombstones,
					 written >= rows ? "" : flow->statics != NIL ? " (not checked: it reads tables that may have grown since)"
					 : by_key ? "; some keys were never sent" : "; some rows were never sent"));
}

/*
 * count_in_query counts the rows, in mode upsert_kafka the keys, that a flow's
 * query gives now.  As the flow's owner.
 */
static int64
count_in_query(const LhFlow *flow)
{
	StringInfoData keys;
	const char *sql;
	LhIdentity	saved;
	ListCell   *cell;
	bool		isnull;
	int64		rows;

	initStringInfo(&keys);
	foreach(cell, flow->merge.keys)
		appendStringInfo(&keys, "%s%s", keys.len ? ", " : "", quote_identifier(lfirst(cell)));
	if (strcmp(flow->mode, "upsert_kafka") == 0)
		sql = psprintf("SELECT pg_catalog.count(*) FROM (SELECT DISTINCT %s FROM (%s\n) q) k", keys.data, flow->query);
	else
		sql = psprintf("SELECT pg_catalog.count(*) FROM (%s\n) q", flow->query);
	lh_identity_role(&saved, flow->owner, flow->path);
	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not count what flow \"%s\" sends", flow->name);
	rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	lh_identity_restore(&saved);
	return rows;
}

/*
 * judges_surplus tells whether rows of the target that the query does not give
 * are an error: not if another flow feeds the target, nor if a mode that never
 * takes back reads inputs in which rows may have been updated or deleted.
 */
static bool
judges_surplus(const LhFlow *flow)
{
	static const Oid types[] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(flow->flow_id), ObjectIdGetDatum(flow->merge.target)};
	bool		takes_back = strcmp(lh_flow_technique(flow->mode), "direct") != 0;
	LhCatalog	catalog;
	bool		alone;
	bool		changed;

	lh_catalog_begin(&catalog);
	alone = lh_catalog_run("SELECT FROM lakehouse.flow WHERE target OPERATOR(pg_catalog.=) $2"
						   " AND flow_id OPERATOR(pg_catalog.<>) $1",
						   2, types, values, NULL) == 0;
	changed = lh_catalog_run("SELECT FROM lakehouse.flow_input i JOIN lakehouse.load l"
							 " ON l.relation OPERATOR(pg_catalog.=) i.input::pg_catalog.oid"
							 " WHERE i.flow_id OPERATOR(pg_catalog.=) $1 AND i.streaming"
							 " AND l.kind OPERATOR(pg_catalog.=) ANY (ARRAY['flow', 'user']) LIMIT 1",
							 1, types, values, NULL) > 0;
	lh_catalog_end(&catalog);
	return alone && (takes_back || !changed);
}

/*
 * flow_comparison builds the statement that counts what the target lacks and
 * what it has too much: whole rows where the mode promises them, keys where a
 * flow only promises that each key is there.  NULL if nothing is promised that
 * a query could tell (DML; scd1 has deletes that depend on the sequence; what was
 * sent is in a topic: verify_sink).
 */
static char *
flow_comparison(const LhFlow *flow)
{
	StringInfoData columns;
	char	   *target;
	List	   *names = NIL;
	ListCell   *cell;

	if (strcmp(flow->mode, "sql") == 0 || strcmp(flow->mode, "scd1") == 0 ||
		lh_flow_is_sink(flow->mode))
		return NULL;
	target = quote_qualified_identifier(get_namespace_name(get_rel_namespace(flow->merge.target)),
										get_rel_name(flow->merge.target));
	if (strcmp(flow->mode, "insert_only") == 0 || strcmp(flow->mode, "upsert") == 0)
		names = flow->merge.keys;
	else
	{
		LhInto		into = {.keep_load = false};

		foreach(cell, lh_statement_analyze(flow->query, flow->name, &into)->columns)
			if (!excepted(flow, lfirst(cell)))
				names = lappend(names, lfirst(cell));
	}

	initStringInfo(&columns);
	foreach(cell, names)
		appendStringInfo(&columns, "%s%s", columns.len ? ", " : "",
						 quote_identifier(lfirst(cell)));

	/* keyed modes keep one row for a key, and none for a NULL key */
	if (names == flow->merge.keys && names != NIL)
		return psprintf("WITH q AS MATERIALIZED (SELECT DISTINCT %s FROM (%s\n) q WHERE pg_catalog.num_nulls(%s) OPERATOR(pg_catalog.=) 0),"
						" t AS MATERIALIZED (SELECT %s FROM %s)"
						" SELECT (SELECT pg_catalog.count(*) FROM (TABLE q EXCEPT ALL TABLE t) m),"
						" (SELECT pg_catalog.count(*) FROM (TABLE t EXCEPT ALL TABLE q) s)",
						columns.data, flow->query, columns.data, columns.data, target);
	return psprintf("WITH q AS MATERIALIZED (SELECT %s FROM (%s\n) q),"
					" t AS MATERIALIZED (SELECT %s FROM %s)"
					" SELECT (SELECT pg_catalog.count(*) FROM (TABLE q EXCEPT ALL TABLE t) m),"
					" (SELECT pg_catalog.count(*) FROM (TABLE t EXCEPT ALL TABLE q) s)",
					columns.data, flow->query, columns.data, target);
}

static bool
excepted(const LhFlow *flow, const char *column)
{
	ListCell   *cell;

	foreach(cell, flow->merge.except_columns)
		if (strcmp(lfirst(cell), column) == 0)
			return true;
	return false;
}

/*
 * add_row adds one result; ok is 1, 0, or -1 for "not checked" (NULL).
 */
static void
add_row(Report *report, const char *object, const char *check, int ok, const char *detail)
{
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	values[0] = CStringGetTextDatum(object);
	values[1] = CStringGetTextDatum(check);
	values[2] = BoolGetDatum(ok == 1);
	nulls[2] = ok < 0;
	values[3] = CStringGetTextDatum(detail ? detail : "");
	tuplestore_putvalues(report->rsinfo->setResult, report->rsinfo->setDesc, values, nulls);
}
