/*
 * flow_catalog.c
 *	  Flows as the catalog has them: definitions, state, order.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "flow/flow.h"

/* longest time between two attempts of a flow that fails */
#define MAX_BACKOFF_MS (5 * 60 * 1000)

#define FLOW_COLUMNS \
	"SELECT f.flow_id, f.name, f.owner, f.target, f.mode, f.query, f.keys, f.sequence_by," \
	" f.delete_when, f.except_columns, f.trigger, f.max_loads, f.path," \
	" f.tombstones, f.paused, f.server::pg_catalog.text, f.topic," \
	" (SELECT pg_catalog.array_agg(i.input::pg_catalog.oid ORDER BY i.input)" \
	"    FROM lakehouse.flow_input i" \
	"   WHERE i.flow_id OPERATOR(pg_catalog.=) f.flow_id AND i.streaming)," \
	" (SELECT pg_catalog.array_agg(i.input::pg_catalog.oid ORDER BY i.input)" \
	"    FROM lakehouse.flow_input i" \
	"   WHERE i.flow_id OPERATOR(pg_catalog.=) f.flow_id AND NOT i.streaming)" \
	" FROM lakehouse.flow f WHERE "

/* a flow while flows are put in order */
typedef struct OrderEntry
{
	int32		flow_id;
	Oid			target;
	bool		continuous;		/* by its own trigger */
	bool		automatic;		/* trigger auto: follows its inputs */
	bool		due;			/* not paused, something pending, no back-off */
	int			visited;		/* 0 no, 1 on the path, 2 done */
	List	   *streaming;		/* Oid */
	List	   *statics;
} OrderEntry;

static LhFlow *read_flow(MemoryContext context);
static List *text_list(uint64 row, int column, MemoryContext context);
static List *oid_list(uint64 row, int column, MemoryContext context);
static OrderEntry *read_order_entries(int *count);
static void visit_flow(OrderEntry *entries, int count, OrderEntry *entry, List **order);
static bool follow_triggers(OrderEntry *entries, int count);

/*
 * lh_flow_technique names the way from new rows to the target.
 */
const char *
lh_flow_technique(const char *mode)
{
	if (lh_flow_recomputes(mode))
		return "recompute";
	if (strcmp(mode, "complete") == 0)
		return "complete";
	return "direct";
}

/*
 * lh_flow_recomputes tells whether touched groups are computed again.
 */
bool
lh_flow_recomputes(const char *mode)
{
	return strcmp(mode, "aggregate") == 0 || strcmp(mode, "upsert_kafka") == 0;
}

/*
 * lh_flow_merge_mode translates a mode; false for sql, which merges by itself,
 * and for modes that send.
 */
bool
lh_flow_merge_mode(const char *mode, LhMergeMode *merge)
{
	static const struct
	{
		const char *name;
		LhMergeMode mode;
	}			modes[] = {
		{"append", LH_MERGE_APPEND},
		{"insert_only", LH_MERGE_INSERT_ONLY},
		{"upsert", LH_MERGE_UPSERT},
		{"scd1", LH_MERGE_SCD1},
		{"aggregate", LH_MERGE_REPLACE},
		{"complete", LH_MERGE_COMPLETE},
	};

	for (int i = 0; i < (int) lengthof(modes); i++)
		if (strcmp(mode, modes[i].name) == 0)
		{
			*merge = modes[i].mode;
			return true;
		}
	return false;
}

/*
 * lh_flow_find reads a flow's definition by name into the current context.
 */
LhFlow *
lh_flow_find(const char *name)
{
	static const Oid types[] = {TEXTOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		value = CStringGetTextDatum(name);
	LhFlow	   *flow = NULL;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run(FLOW_COLUMNS "f.name OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL) > 0)
		flow = read_flow(context);
	lh_catalog_end(&catalog);
	if (flow == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("flow \"%s\" does not exist", name)));
	return flow;
}

/*
 * lh_flow_get reads a flow's definition by number, NULL if it is gone.
 */
LhFlow *
lh_flow_get(int32 flow_id)
{
	static const Oid types[] = {INT4OID};
	MemoryContext context = CurrentMemoryContext;
	Datum		value = Int32GetDatum(flow_id);
	LhFlow	   *flow = NULL;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run(FLOW_COLUMNS "f.flow_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL) > 0)
		flow = read_flow(context);
	lh_catalog_end(&catalog);
	return flow;
}

static LhFlow *
read_flow(MemoryContext context)
{
	LhFlow	   *flow = MemoryContextAllocZero(context, sizeof(LhFlow));
	char	   *trigger = lh_catalog_text(0, 11, context);

	flow->flow_id = (int32) lh_catalog_int64(0, 1, 0);
	flow->name = lh_catalog_text(0, 2, context);
	flow->owner = lh_catalog_oid(0, 3);
	flow->mode = lh_catalog_text(0, 5, context);
	flow->query = lh_catalog_text(0, 6, context);
	flow->continuous = strcmp(trigger, "continuous") == 0;
	flow->max_loads = (int) lh_catalog_int64(0, 12, 1);
	flow->path = lh_catalog_text(0, 13, context);
	flow->paused = lh_catalog_text(0, 15, context);
	flow->server = lh_catalog_text(0, 16, context);
	flow->topic = lh_catalog_text(0, 17, context);
	flow->streaming = oid_list(0, 18, context);
	flow->statics = oid_list(0, 19, context);

	(void) lh_flow_merge_mode(flow->mode, &flow->merge.mode);
	flow->merge.target = lh_catalog_oid(0, 4);
	flow->merge.tombstones = lh_catalog_oid(0, 14);
	flow->merge.keys = text_list(0, 7, context);
	flow->merge.sequence_by = text_list(0, 8, context);
	flow->merge.delete_when = lh_catalog_text(0, 9, context);
	flow->merge.except_columns = text_list(0, 10, context);
	flow->merge.flow_id = flow->flow_id;
	return flow;
}

/*
 * array_list gives the items of an array of texts or oids as a list in "context".
 */
static List *
array_list(uint64 row, int column, Oid type, MemoryContext context)
{
	bool		isnull;
	Datum		value = lh_catalog_value(row, column, &isnull);
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		oids = type == OIDOID;
	List	   *list = NIL;
	Datum	   *items;
	int			count = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(value), type, oids ? sizeof(Oid) : -1, oids, TYPALIGN_INT,
						  &items, NULL, &count);
	for (int i = 0; i < count; i++)
		list = oids ? lappend_oid(list, DatumGetObjectId(items[i])) :
			lappend(list, TextDatumGetCString(items[i]));
	MemoryContextSwitchTo(old);
	return list;
}

static List *
text_list(uint64 row, int column, MemoryContext context)
{
	return array_list(row, column, TEXTOID, context);
}

static List *
oid_list(uint64 row, int column, MemoryContext context)
{
	return array_list(row, column, OIDOID, context);
}

/*
 * lh_flow_order returns the ids of flows, each after those whose targets it
 * reads.  With only_due, just those that a background worker should run now.
 */
List *
lh_flow_order(bool only_due)
{
	int			count;
	OrderEntry *entries = read_order_entries(&count);
	List	   *order = NIL;
	List	   *due = NIL;
	ListCell   *cell;

	for (int i = 0; i < count; i++)
		visit_flow(entries, count, &entries[i], &order);
	if (!only_due)
		return order;

	while (follow_triggers(entries, count))
		;
	foreach(cell, order)
		for (int i = 0; i < count; i++)
			if (entries[i].flow_id == lfirst_int(cell) && entries[i].continuous && entries[i].due)
				due = lappend_int(due, entries[i].flow_id);
	return due;
}

static OrderEntry *
read_order_entries(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	OrderEntry *entries;
	LhCatalog	catalog;
	bool		isnull;

	lh_catalog_begin(&catalog);
	*count = (int) lh_catalog_run("SELECT f.flow_id, f.target,"
								  " f.trigger OPERATOR(pg_catalog.=) 'continuous'"
								  "  OR f.trigger OPERATOR(pg_catalog.=) 'auto' AND EXISTS"
								  "   (SELECT FROM lakehouse.flow_input i JOIN lakehouse.source s"
								  "      ON s.target OPERATOR(pg_catalog.=) i.input"
								  "    WHERE i.flow_id OPERATOR(pg_catalog.=) f.flow_id AND i.streaming"
								  "      AND s.trigger OPERATOR(pg_catalog.=) 'continuous'),"
								  " f.trigger OPERATOR(pg_catalog.=) 'auto',"
								  " f.paused IS NULL"
								  "  AND (t.retry_at IS NULL OR t.retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
								  "  AND EXISTS (SELECT FROM lakehouse.pending p"
								  "               WHERE p.flow_id OPERATOR(pg_catalog.=) f.flow_id),"
								  " (SELECT pg_catalog.array_agg(i.input::pg_catalog.oid) FROM lakehouse.flow_input i"
								  "   WHERE i.flow_id OPERATOR(pg_catalog.=) f.flow_id AND i.streaming),"
								  " (SELECT pg_catalog.array_agg(i.input::pg_catalog.oid) FROM lakehouse.flow_input i"
								  "   WHERE i.flow_id OPERATOR(pg_catalog.=) f.flow_id AND NOT i.streaming)"
								  " FROM lakehouse.flow f LEFT JOIN lakehouse.flow_state t"
								  "   ON t.flow_id OPERATOR(pg_catalog.=) f.flow_id"
								  " ORDER BY f.flow_id",
								  0, NULL, NULL, NULL);
	entries = MemoryContextAllocZero(context, sizeof(OrderEntry) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		entries[i].flow_id = (int32) lh_catalog_int64(i, 1, 0);
		entries[i].target = lh_catalog_oid(i, 2);
		entries[i].continuous = DatumGetBool(lh_catalog_value(i, 3, &isnull));
		entries[i].automatic = DatumGetBool(lh_catalog_value(i, 4, &isnull));
		entries[i].due = DatumGetBool(lh_catalog_value(i, 5, &isnull));
		entries[i].streaming = oid_list(i, 6, context);
		entries[i].statics = oid_list(i, 7, context);
	}
	lh_catalog_end(&catalog);
	return entries;
}

/*
 * visit_flow appends a flow after the flows that write its inputs.  Streaming
 * inputs form no cycle; one through a static input is cut where it is met.
 */
static void
visit_flow(OrderEntry *entries, int count, OrderEntry *entry, List **order)
{
	if (entry->visited != 0)
		return;
	check_stack_depth();
	entry->visited = 1;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < count; i++)
			if (list_member_oid(pass == 0 ? entry->streaming : entry->statics, entries[i].target))
				visit_flow(entries, count, &entries[i], order);
	entry->visited = 2;
	*order = lappend_int(*order, entry->flow_id);
}

/*
 * follow_triggers makes automatic flows that read from continuous ones
 * continuous; false when nothing changed.
 */
static bool
follow_triggers(OrderEntry *entries, int count)
{
	bool		changed = false;

	for (int i = 0; i < count; i++)
		for (int j = 0; j < count && entries[i].automatic && !entries[i].continuous; j++)
			if (entries[j].continuous && list_member_oid(entries[i].streaming, entries[j].target))
				entries[i].continuous = changed = true;
	return changed;
}

/*
 * lh_flow_succeeded notes that a run of the flow ended well.
 */
void
lh_flow_succeeded(int32 flow_id)
{
	lh_catalog_run_for(flow_id,
					   "INSERT INTO lakehouse.flow_state AS s (flow_id, last_success)"
					   " VALUES ($1, pg_catalog.clock_timestamp())"
					   " ON CONFLICT (flow_id) DO UPDATE SET last_success = excluded.last_success,"
					   " failures = 0, sqlstate = NULL, error = NULL, retry_at = NULL");
}

/*
 * lh_flow_failed notes an error of a run that was rolled back, and when to try
 * again: after one second, then twice as long each time.
 */
void
lh_flow_failed(int32 flow_id, int sqlstate, const char *message)
{
	static const Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT4OID};
	Datum		values[4];
	LhCatalog	catalog;

	values[0] = Int32GetDatum(flow_id);
	values[1] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[2] = CStringGetTextDatum(message);
	values[3] = Int32GetDatum(MAX_BACKOFF_MS);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.flow_state AS s (flow_id, last_failure, failures, sqlstate, error, retry_at)"
				   " SELECT $1, pg_catalog.clock_timestamp(), 1, $2, $3,"
				   "  pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) '1 second'::pg_catalog.interval"
				   "   FROM lakehouse.flow f WHERE f.flow_id OPERATOR(pg_catalog.=) $1"
				   " ON CONFLICT (flow_id) DO UPDATE SET last_failure = excluded.last_failure,"
				   " failures = s.failures OPERATOR(pg_catalog.+) 1,"
				   " sqlstate = excluded.sqlstate, error = excluded.error,"
				   " retry_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
				   "  (LEAST($4::pg_catalog.float8, 1000.0::pg_catalog.float8 OPERATOR(pg_catalog.*)"
				   "    pg_catalog.power(2::pg_catalog.float8, LEAST(s.failures, 20)::pg_catalog.float8))"
				   "   OPERATOR(pg_catalog.*) '1 millisecond'::pg_catalog.interval)",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}
