/*
 * flow_run.c
 *	  One bounded slice of a flow: from pending loads to rows of the target.
 *
 * Invariant: a run takes the flow's lock, then one snapshot.  The slice, and
 * every query on the inputs, are read under that snapshot; rows of the target,
 * the load, the consumed queue rows and the history are written by the same
 * transaction.  Whatever is not visible to the snapshot stays queued.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "delta/delta.h"
#include "delta/load.h"
#include "fault.h"
#include "flow/flow.h"

PG_FUNCTION_INFO_V1(lakehouse_run_flow);

static void run_slice(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts);
static void prune_images(const LhSlice *slice);
static void run_insert(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts);
static void run_dml(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts);
static void run_merge(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts);
static void run_send(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts);
static void run_complete(LhFlow *flow, LhMergeCounts *counts);
static void check_target(const LhFlow *flow);
static void check_inputs(const LhFlow *flow, const LhStatement *statement);
static bool record_load(const LhFlow *flow, const LhMergeCounts *counts, TimestampTz started);
static void record_run(const LhFlow *flow, const LhFlowCounts *counts, bool wrote, TimestampTz started);
static int64 count_pending(int32 flow_id);

/*
 * lh_flow_run runs one slice; see flow.h.
 */
bool
lh_flow_run(const LhFlow *given, LhFlowCounts *counts)
{
	TimestampTz started = GetCurrentTimestamp();
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse flow run",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LhIdentity	saved;
	LhFlow	   *flow;
	LhSlice    *slice;
	bool		complete;

	memset(counts, 0, sizeof(LhFlowCounts));
	lh_catalog_lock(LH_LOCK_FLOW, given->flow_id, true);
	flow = lh_flow_get(given->flow_id);
	if (flow == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("flow \"%s\" does not exist", given->name)));
	check_target(flow);
	counts->technique = lh_flow_technique(flow->mode);
	complete = strcmp(flow->mode, "complete") == 0;

	lh_identity_role(&saved, flow->owner, flow->path);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	/* what is recomputed as a whole has then seen all loads */
	slice = lh_slice_read(flow->flow_id, complete ? INT_MAX : flow->max_loads);
	counts->loads = slice->count;
	if (slice->count > 0)
	{
		bool		wrote;

		LH_FAULT("merge-begin");
		flow->merge.load_id = lh_load_reserve();
		lh_load_set_current(flow->merge.target, flow->merge.load_id);
		run_slice(flow, slice, &counts->merge);
		lh_load_clear_current(flow->merge.target);
		LH_FAULT("merge-before-watermark");
		wrote = record_load(flow, &counts->merge, started);
		lh_slice_consume(flow->flow_id, slice);
		if (lh_flow_recomputes(flow->mode))
			prune_images(slice);
		record_run(flow, counts, wrote, started);
		LH_FAULT("merge-commit");
	}
	PopActiveSnapshot();
	lh_identity_restore(&saved);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return counts->loads > 0;
}

static void
prune_images(const LhSlice *slice)
{
	ListCell   *cell;

	foreach(cell, slice->inputs)
		lh_capture_prune(((LhSliceInput *) lfirst(cell))->relation);
}

static void
run_slice(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts)
{
	if (strcmp(flow->mode, "append") == 0)
		run_insert(flow, slice, counts);
	else if (strcmp(flow->mode, "sql") == 0)
		run_dml(flow, slice, counts);
	else if (strcmp(flow->mode, "complete") == 0)
		run_complete(flow, counts);
	else if (strcmp(flow->mode, "kafka") == 0)
		run_send(flow, slice, counts);
	else if (lh_flow_recomputes(flow->mode))
	{
		LhStatement *statement = lh_statement_analyze(flow->query, flow->name, NULL);

		check_inputs(flow, statement);
		lh_statement_stream(statement, flow->streaming);
		lh_flow_recompute(flow, statement, slice, counts);
	}
	else
		run_merge(flow, slice, counts);
}

/*
 * run_variants runs the statement once for each of its streaming inputs, on what
 * is new of that one.  Rows go to "dest"; *executed counts, if it is not NULL.
 */
static void
run_variants(LhFlow *flow, const LhSlice *slice, LhStatement *statement, DestReceiver *dest,
			 LhExecuted *executed)
{
	ErrorContextCallback callback;

	check_inputs(flow, statement);
	lh_statement_stream(statement, flow->streaming);
	lh_execute_push_error_context(&callback, flow->name, flow->query);
	for (int i = 0; i < list_length(statement->occurrences); i++)
	{
		Query	   *query = lh_rewrite_variant(statement, slice, i);

		if (query != NULL)
			lh_execute_query(query, flow->query, dest, NULL, executed);
	}
	error_context_stack = callback.previous;
}

/*
 * run_insert appends the new rows in the statement that finds them: nothing is
 * kept in between.
 */
static void
run_insert(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts)
{
	LhInto		into = {
		.target = flow->merge.target,
		.load_id = flow->merge.load_id,
		.except = flow->merge.except_columns
	};
	LhStatement *statement = lh_statement_analyze(flow->query, flow->name, &into);
	LhExecuted	executed = {0};

	run_variants(flow, slice, statement, None_Receiver, &executed);
	counts->rows_in = counts->inserted = executed.inserted;
}

static void
run_dml(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts)
{
	LhStatement *statement = lh_statement_analyze(flow->query, flow->name, NULL);
	LhExecuted	executed = {0};

	run_variants(flow, slice, statement, None_Receiver, &executed);
	counts->inserted = executed.inserted;
	counts->updated = executed.updated;
	counts->deleted = executed.deleted;
	counts->rows_in = executed.inserted + executed.updated + executed.deleted;
}

static DestReceiver *
open_store(Tuplestorestate **rows)
{
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);

	*rows = tuplestore_begin_heap(true, false, work_mem);
	SetTuplestoreDestReceiverParams(dest, *rows, CurrentMemoryContext, false, NULL, NULL);
	return dest;
}

/*
 * run_merge gathers the new rows, then merges them by the mode's rule.
 */
static void
run_merge(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts)
{
	LhInto		into = {.keep_load = true};
	LhStatement *statement = lh_statement_analyze(flow->query, flow->name, &into);
	Tuplestorestate *rows;
	DestReceiver *dest = open_store(&rows);

	run_variants(flow, slice, statement, dest, NULL);
	if (tuplestore_tuple_count(rows) > 0)
		lh_merge_apply(&flow->merge, rows, lh_statement_tupdesc(statement), NULL, NULL, counts);
	tuplestore_end(rows);
}

/*
 * run_send gathers the new rows, then puts them into the outbox.
 */
static void
run_send(LhFlow *flow, const LhSlice *slice, LhMergeCounts *counts)
{
	LhStatement *statement = lh_statement_analyze(flow->query, flow->name, NULL);
	Tuplestorestate *rows;
	DestReceiver *dest = open_store(&rows);

	run_variants(flow, slice, statement, dest, NULL);
	if (tuplestore_tuple_count(rows) > 0)
		lh_flow_send(flow, statement, rows, NULL, NULL, counts);
	tuplestore_end(rows);
}

/*
 * run_complete runs the whole query and writes the differences.
 */
static void
run_complete(LhFlow *flow, LhMergeCounts *counts)
{
	LhStatement *statement = lh_statement_analyze(flow->query, flow->name, NULL);
	Tuplestorestate *rows;
	DestReceiver *dest = open_store(&rows);
	TupleDesc	tupdesc = lh_statement_tupdesc(statement);
	ErrorContextCallback callback;

	check_inputs(flow, statement);
	lh_execute_push_error_context(&callback, flow->name, flow->query);
	lh_execute_query(statement->query, flow->query, dest, NULL, NULL);
	error_context_stack = callback.previous;
	lh_merge_apply(&flow->merge, rows, tupdesc, NULL, NULL, counts);
	tuplestore_end(rows);
}

static void
check_target(const LhFlow *flow)
{
	if (get_rel_name(flow->merge.target) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("target table of flow \"%s\" does not exist any more", flow->name),
				 errhint("Run create_flow again with replace => true, or drop the flow.")));
}

/*
 * check_inputs raises when the query reads a table that it did not read when
 * the flow was created: somebody replaced a view beneath it.
 */
static void
check_inputs(const LhFlow *flow, const LhStatement *statement)
{
	ListCell   *cell;

	foreach(cell, statement->relations)
		if (!list_member_oid(flow->streaming, lfirst_oid(cell)) &&
			!list_member_oid(flow->statics, lfirst_oid(cell)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("flow \"%s\" reads table \"%s\", which it did not read when it was created",
							flow->name, get_rel_name(lfirst_oid(cell))),
					 errhint("Run create_flow again with replace => true.")));
}

/*
 * record_load records what the run wrote as a load of the target; false when
 * nothing changed.
 */
static bool
record_load(const LhFlow *flow, const LhMergeCounts *counts, TimestampTz started)
{
	LhLoad		load = {0};

	if (counts->inserted + counts->updated + counts->deleted + counts->rejected == 0)
		return false;
	load.load_id = flow->merge.load_id;
	load.relation = flow->merge.target;
	load.kind = LH_LOAD_FLOW;
	load.flow_id = flow->flow_id;
	load.rows = counts->inserted + counts->updated;
	/* readers have to learn of deleted rows too, and 0 would not be queued */
	if (load.rows == 0 && counts->deleted > 0)
		load.rows = -1;
	load.rejected = counts->rejected;
	load.bytes = -1;
	load.started = started;
	lh_load_record(&load);
	return true;
}

static void
record_run(const LhFlow *flow, const LhFlowCounts *counts, bool wrote, TimestampTz started)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		values[10];
	char		nulls[11] = "          ";
	LhCatalog	catalog;

	values[0] = Int32GetDatum(flow->flow_id);
	values[1] = CStringGetTextDatum(counts->technique);
	values[2] = Int32GetDatum(counts->loads);
	values[3] = Int64GetDatum(counts->merge.rows_in);
	values[4] = Int64GetDatum(counts->merge.inserted);
	values[5] = Int64GetDatum(counts->merge.updated);
	values[6] = Int64GetDatum(counts->merge.deleted);
	values[7] = Int64GetDatum(counts->merge.rejected);
	values[8] = Int64GetDatum(flow->merge.load_id);
	values[9] = TimestampTzGetDatum(started);
	if (!wrote)
		nulls[8] = 'n';
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.flow_run (flow_id, technique, loads, rows_in, inserted,"
				   " updated, deleted, rejected, load_id, started)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
				   10, types, values, nulls);
	lh_catalog_end(&catalog);
}

static int64
count_pending(int32 flow_id)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(flow_id);
	LhCatalog	catalog;
	int64		count;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.count(*) FROM lakehouse.pending"
				   " WHERE flow_id OPERATOR(pg_catalog.=) $1",
				   1, types, &value, NULL);
	count = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	return count;
}

/*
 * lh_flow_drain runs slices until what was pending at the start is consumed,
 * and adds up their counts.  Loads that keep coming do not keep it going.
 */
void
lh_flow_drain(const LhFlow *flow, LhFlowCounts *total)
{
	int64		pending;

	memset(total, 0, sizeof(LhFlowCounts));
	total->technique = lh_flow_technique(flow->mode);
	/* a run that is under way elsewhere consumes what it consumes */
	lh_catalog_lock(LH_LOCK_FLOW, flow->flow_id, true);
	pending = count_pending(flow->flow_id);
	while (total->loads < pending)
	{
		LhFlowCounts counts;

		CHECK_FOR_INTERRUPTS();
		if (!lh_flow_run(flow, &counts))
			break;
		total->loads += counts.loads;
		total->merge.rows_in += counts.merge.rows_in;
		total->merge.inserted += counts.merge.inserted;
		total->merge.updated += counts.merge.updated;
		total->merge.deleted += counts.merge.deleted;
		total->merge.rejected += counts.merge.rejected;
	}
	if (total->loads > 0)
		lh_flow_succeeded(flow->flow_id);
}

/*
 * lakehouse.run_flow(name) runs what is pending for one flow now.
 */
Datum
lakehouse_run_flow(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LhFlow	   *flow = lh_flow_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	LhFlowCounts counts;
	Datum		values[7];
	bool		nulls[7] = {0};

	lh_catalog_check_owner(flow->owner, "flow", flow->name);
	if (flow->paused != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("flow \"%s\" is paused", flow->name),
				 errdetail("Reason: %s.", flow->paused),
				 errhint("Use lakehouse.resume_flow.")));
	lh_flow_drain(flow, &counts);

	InitMaterializedSRF(fcinfo, 0);
	values[0] = Int64GetDatum(counts.loads);
	values[1] = Int64GetDatum(counts.merge.rows_in);
	values[2] = Int64GetDatum(counts.merge.inserted);
	values[3] = Int64GetDatum(counts.merge.updated);
	values[4] = Int64GetDatum(counts.merge.deleted);
	values[5] = Int64GetDatum(counts.merge.rejected);
	values[6] = CStringGetTextDatum(counts.technique);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}
