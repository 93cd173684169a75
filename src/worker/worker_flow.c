/*
 * worker_flow.c
 *	  A worker that runs the due flows of one owner.
 *
 * Flows run one after another, inputs before those who read them, one
 * transaction for each slice.  The worker stays for some seconds after the last
 * one: commits of loads set its latch, so that gold follows bronze without a
 * process being started in between.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fault.h"
#include "flow/flow.h"
#include "worker/worker.h"

/* how long it stays without work */
#define LINGER_MS 10000
/* slices of one flow before the others get their turn */
#define SLICES_IN_A_ROW 20

static bool run_due_flows(const LhWorkerConfig *config, MemoryContext context);
static void run_one_flow(int32 flow_id, Oid owner, bool *did, bool *foreign);
static void run_slices(const LhFlow *flow, bool *did);
static void record_failure(int32 flow_id, const ErrorData *error);

void
lh_flow_worker_run(const LhWorkerConfig *config)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "lakehouse flows",
												  ALLOCSET_DEFAULT_SIZES);
	TimestampTz last = GetCurrentTimestamp();

	for (;;)
	{
		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		if (run_due_flows(config, context))
			last = GetCurrentTimestamp();
		else if (TimestampDifferenceExceeds(last, GetCurrentTimestamp(), LINGER_MS))
			break;
		else if (lh_worker_wait(1000, "LakehouseFlow"))
			break;
		if (lh_slot_stop_requested())
			break;
		lh_worker_interrupts();
	}
}

/*
 * run_due_flows gives each due flow of the owner its turn; true if one of them
 * did something.  If others have due flows, the scheduler is told.
 */
static bool
run_due_flows(const LhWorkerConfig *config, MemoryContext context)
{
	bool		did = false;
	bool		foreign = false;
	List	   *due;
	ListCell   *cell;

	lh_worker_begin("flows");
	due = lh_flow_order(true);
	lh_worker_commit();
	foreach(cell, due)
	{
		run_one_flow(lfirst_int(cell), (Oid) config->object, &did, &foreign);
		if (lh_slot_stop_requested())
			break;
		lh_worker_interrupts();
	}
	if (foreign)
		lh_wake_workers(config->database, true);
	return did;
}

/*
 * run_one_flow runs a flow of this owner; an error stops that flow only.
 */
static void
run_one_flow(int32 flow_id, Oid owner, bool *did, bool *foreign)
{
	MemoryContext context = CurrentMemoryContext;
	LhFlow	   *volatile flow = NULL;

	PG_TRY();
	{
		lh_worker_begin("flow");
		flow = lh_flow_get(flow_id);
		if (flow == NULL || flow->owner != owner)
		{
			*foreign = *foreign || flow != NULL;
			lh_worker_commit();
		}
		else
			run_slices(flow, did);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		if (flow)
			errcontext("flow \"%s\"", flow->name);
		error = lh_worker_caught(context);
		if (flow && error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			record_failure(flow_id, error);
	}
	PG_END_TRY();
}

/*
 * run_slices is called with an open transaction and leaves none.
 */
static void
run_slices(const LhFlow *flow, bool *did)
{
	for (int i = 0; i < SLICES_IN_A_ROW; i++)
	{
		LhFlowCounts counts = {0};
		bool		more;

		pgstat_report_activity(STATE_RUNNING, flow->name);
		more = lh_flow_run(flow, &counts);
		if (more)
		{
			*did = true;
			lh_flow_succeeded(flow->flow_id);
		}
		LH_FAULT("flow-before-commit");
		lh_worker_commit();
		if (!more || lh_slot_stop_requested())
			return;
		lh_worker_interrupts();
		lh_worker_begin(flow->name);
	}
	lh_worker_commit();
}

static void
record_failure(int32 flow_id, const ErrorData *error)
{
	lh_worker_begin("failure");
	lh_flow_failed(flow_id, error->sqlerrcode, error->message);
	lh_worker_commit();
}
