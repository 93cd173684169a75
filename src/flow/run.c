/*
 * run.c
 *	  lakehouse.run(): everything present is brought all the way.
 *
 * Invariant: each source and each flow runs in a subtransaction of its own.
 * What fails is rolled back, noted with its reason, and stops nothing else.
 * Cancelling is no failure: it ends the whole call.
 */
#include "postgres.h"

#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "catalog/subtransaction.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "flow/flow.h"

PG_FUNCTION_INFO_V1(lakehouse_run);

/* One source or flow of a run. */
typedef struct RunStep
{
	const LhSource *source;		/* or */
	const LhFlow *flow;
	const char *status;			/* succeeded, failed or paused */
	char	   *error;
	int64		loads;
	int64		rows_in;
	LhMergeCounts merge;
} RunStep;

static List *list_sources(void);
static void run_sources(List **steps);
static void run_flows(List **steps);
static bool run_step(RunStep *step);
static void do_step(RunStep *step);
static void note_failure(RunStep *step, ErrorData *error);
static void emit_steps(ReturnSetInfo *result, List *steps);

/*
 * lakehouse.run() reads all sources, then runs all flows, of which the caller
 * has the owner's rights.
 */
Datum
lakehouse_run(PG_FUNCTION_ARGS)
{
	List	   *steps = NIL;

	run_sources(&steps);
	run_flows(&steps);
	InitMaterializedSRF(fcinfo, 0);
	emit_steps((ReturnSetInfo *) fcinfo->resultinfo, steps);
	return (Datum) 0;
}

static List *
list_sources(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *ids = NIL;
	LhCatalog	catalog;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT source_id FROM lakehouse.source ORDER BY name", 0, NULL, NULL, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		int			id = (int) lh_catalog_int64(row, 1, 0);
		MemoryContext old = MemoryContextSwitchTo(context);

		ids = lappend_int(ids, id);
		MemoryContextSwitchTo(old);
	}
	lh_catalog_end(&catalog);
	return ids;
}

static void
run_sources(List **steps)
{
	ListCell   *cell;

	foreach(cell, list_sources())
	{
		RunStep    *step = palloc0(sizeof(RunStep));

		CHECK_FOR_INTERRUPTS();
		step->source = lh_source_get(lfirst_int(cell));
		if (!has_privs_of_role(GetUserId(), step->source->owner))
			continue;
		*steps = lappend(*steps, step);
		step->error = lh_source_obstacle(step->source);
		if (step->error != NULL)
			step->status = "paused";
		else
			(void) run_step(step);
	}
}

/*
 * run_flows runs flows in dependency order until a pass finds nothing to do.
 * Flows form no cycle, so the number of passes is bounded.
 */
static void
run_flows(List **steps)
{
	List	   *flows = NIL;
	ListCell   *cell;
	bool		again = true;

	foreach(cell, lh_flow_order(false))
	{
		LhFlow	   *flow = lh_flow_get(lfirst_int(cell));
		RunStep    *step;

		if (flow == NULL || !has_privs_of_role(GetUserId(), flow->owner))
			continue;
		step = palloc0(sizeof(RunStep));
		step->flow = flow;
		step->error = flow->paused;
		step->status = flow->paused ? "paused" : "succeeded";
		flows = lappend(flows, step);
	}
	for (int pass = 0; again && pass <= list_length(flows); pass++)
	{
		again = false;
		foreach(cell, flows)
		{
			RunStep    *step = lfirst(cell);

			CHECK_FOR_INTERRUPTS();
			if (strcmp(step->status, "succeeded") == 0 && run_step(step))
				again = true;
		}
	}
	*steps = list_concat(*steps, flows);
}

/*
 * run_step runs one step in a subtransaction; true if there was anything to do.
 */
static bool
run_step(RunStep *step)
{
	LhSubtransaction sub;
	int64		loads = step->loads;
	ErrorData  *volatile error = NULL;

	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		do_step(step);
		lh_subtransaction_commit(&sub);
		step->status = "succeeded";
	}
	PG_CATCH();
	{
		error = lh_subtransaction_caught(&sub);
	}
	PG_END_TRY();
	if (error == NULL)
		return step->loads > loads;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	note_failure(step, error);
	return false;
}

static void
do_step(RunStep *step)
{
	if (step->source)
	{
		LhIngestCounts counts = {0};

		lh_ingest_run(step->source, &counts);
		step->loads = counts.loads;
		step->rows_in = counts.rows + counts.rejected;
		step->merge.inserted = counts.rows;
		step->merge.rejected = counts.rejected;
		if (counts.failed_files > 0)
			step->error = psprintf(INT64_FORMAT " files were set aside because of an error",
								   counts.failed_files);
	}
	else
	{
		LhFlowCounts counts;

		lh_flow_drain(step->flow, &counts);
		step->loads += counts.loads;
		step->rows_in += counts.merge.rows_in;
		step->merge.inserted += counts.merge.inserted;
		step->merge.updated += counts.merge.updated;
		step->merge.deleted += counts.merge.deleted;
		step->merge.rejected += counts.merge.rejected;
	}
}

static void
note_failure(RunStep *step, ErrorData *error)
{
	step->status = "failed";
	step->error = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
	if (step->source)
		lh_source_failed(step->source->source_id, error->sqlerrcode, error->message);
	else
		lh_flow_failed(step->flow->flow_id, error->sqlerrcode, error->message);
}

static void
emit_steps(ReturnSetInfo *result, List *steps)
{
	ListCell   *cell;

	foreach(cell, steps)
	{
		RunStep    *step = lfirst(cell);
		Datum		values[10];
		bool		nulls[10] = {0};

		values[0] = CStringGetTextDatum(step->source ? "source" : "flow");
		values[1] = CStringGetTextDatum(step->source ? step->source->name : step->flow->name);
		values[2] = CStringGetTextDatum(step->status);
		values[3] = Int64GetDatum(step->loads);
		values[4] = Int64GetDatum(step->rows_in);
		values[5] = Int64GetDatum(step->merge.inserted);
		values[6] = Int64GetDatum(step->merge.updated);
		values[7] = Int64GetDatum(step->merge.deleted);
		values[8] = Int64GetDatum(step->merge.rejected);
		if (step->error)
			values[9] = CStringGetTextDatum(step->error);
		else
			nulls[9] = true;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}
