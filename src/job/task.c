/*
 * task.c
 *	  The work of one attempt of a task.
 *
 * Invariant: the work is done in the rights of the job's owner.  In the
 * caller's session that is a switch of identity; a worker has logged in as the
 * owner, which lets procedures commit.
 *
 * "nonatomic" says that the caller is a worker with a transaction of its own,
 * which may be committed on the way: reading a source or running a flow then
 * commits each batch, and a statement may CALL a procedure that commits.  On
 * return a transaction is open that holds the last part of the work.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "catalog/subtransaction.h"
#include "compat.h"
#include "flow/flow.h"
#include "job/job.h"

/* parameters of the task that this session is in, or NULL */
static Jsonb *current_parameters = NULL;

static TimeoutId timer = MAX_TIMEOUTS;
static volatile sig_atomic_t timed_out = false;

/* A task that does many things, of which some may fail. */
typedef struct Parts
{
	bool		nonatomic;
	int			failed;			/* how many */
	int			sqlstate;		/* of the first */
	char	   *message;
} Parts;

static Jsonb *do_work(const LhTask *task, bool nonatomic, LhTaskFailure *failure);
static int64 run_statements(const char *sql, bool nonatomic);
static int64 run_statement(RawStmt *statement, const char *sql);
static void read_source(const LhSource *source, LhIngestCounts *counts, bool nonatomic);
static void run_flow(const LhFlow *flow, LhFlowCounts *counts, bool nonatomic);
static void read_all_sources(LhIngestCounts *counts, Parts *parts);
static void run_all_flows(LhFlowCounts *counts, Parts *parts);
static void try_part(const LhSource *source, const LhFlow *flow,
					 LhIngestCounts *ingested, LhFlowCounts *flowed, Parts *parts);
static Jsonb *ingest_result(const LhIngestCounts *counts);
static Jsonb *flow_result(const LhFlowCounts *counts);

PG_FUNCTION_INFO_V1(lakehouse_param);

/*
 * lh_task_parameters returns the parameters that a task sees: its own, over
 * them those of the job, over them those given to the run.  (A job's parameter
 * beats a task's of the same name, as in the Jobs API.)
 */
Jsonb *
lh_task_parameters(const LhJobRun *run, const LhTask *task)
{
	Datum		merged = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(task->parameters),
											 JsonbPGetDatum(run->definition->parameters));

	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, merged,
											  JsonbPGetDatum(run->parameters)));
}

/*
 * lakehouse.param(name) returns a parameter of the current task as text.
 */
Datum
lakehouse_param(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	JsonbValue *value;

	if (current_parameters == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("parameter \"%s\" can be read by a task only", name),
				 errdetail("No task of a job is running in this session.")));
	value = getKeyJsonValueFromContainer(&current_parameters->root, name, strlen(name), NULL);
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("parameter \"%s\" does not exist", name),
				 errhint("Declare it in \"parameters\" of the task or of the job.")));
	switch (value->type)
	{
		case jbvNull:
			PG_RETURN_NULL();
		case jbvBool:
			PG_RETURN_TEXT_P(cstring_to_text(value->val.boolean ? "true" : "false"));
		case jbvNumeric:
			PG_RETURN_TEXT_P(cstring_to_text(DatumGetCString(DirectFunctionCall1(numeric_out,
																				 NumericGetDatum(value->val.numeric)))));
		default:
			PG_RETURN_TEXT_P(cstring_to_text_with_len(value->val.string.val, value->val.string.len));
	}
}

/*
 * lh_task_execute does the work of one attempt and returns what it did as an
 * object, in the current context.  A task that runs everything goes on when a
 * part of it fails: then *failure is filled, and what the others did stays.
 */
Jsonb *
lh_task_execute(const LhJobRun *run, const LhTask *task, bool nonatomic, LhTaskFailure *failure)
{
	Jsonb	   *volatile outer = current_parameters;
	Jsonb	   *volatile result = NULL;

	PG_TRY();
	{
		LhIdentity	identity;

		current_parameters = lh_task_parameters(run, task);
		if (nonatomic)
		{
			/* statements take their own snapshots: a procedure cannot commit
			 * under one of ours */
			if (task->kind != LH_TASK_SQL)
				PushActiveSnapshot(GetTransactionSnapshot());
			result = do_work(task, true, failure);
			if (task->kind != LH_TASK_SQL)
				PopActiveSnapshot();
		}
		else
		{
			lh_identity_role(&identity, run->owner, run->path);
			result = do_work(task, false, failure);
			lh_identity_restore(&identity);
		}
	}
	PG_FINALLY();
	{
		current_parameters = outer;
	}
	PG_END_TRY();
	return result;
}

static Jsonb *
do_work(const LhTask *task, bool nonatomic, LhTaskFailure *failure)
{
	Parts		parts = {.nonatomic = nonatomic};
	LhIngestCounts ingested = {0};
	LhFlowCounts flowed = {0};

	switch (task->kind)
	{
		case LH_TASK_SOURCE:
			{
				LhSource   *source = lh_source_find(task->object);

				lh_catalog_check_owner(source->owner, "source", source->name);
				read_source(source, &ingested, nonatomic);
				return ingest_result(&ingested);
			}
		case LH_TASK_FLOW:
			{
				LhFlow	   *flow = lh_flow_find(task->object);

				lh_catalog_check_owner(flow->owner, "flow", flow->name);
				run_flow(flow, &flowed, nonatomic);
				return flow_result(&flowed);
			}
		case LH_TASK_RUN:
			read_all_sources(&ingested, &parts);
			run_all_flows(&flowed, &parts);
			failure->sqlstate = parts.sqlstate;
			failure->message = parts.failed > 1 ?
				psprintf("%s (and %d more)", parts.message, parts.failed - 1) : parts.message;
			return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
													  JsonbPGetDatum(ingest_result(&ingested)),
													  JsonbPGetDatum(flow_result(&flowed))));
		case LH_TASK_SQL:
			return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													  CStringGetDatum(psprintf("{\"rows\": " INT64_FORMAT "}",
																			   run_statements(task->object, nonatomic)))));
	}
	return NULL;
}

/* -------------------------------------------------------- sources and flows */

/*
 * end_part makes what was done so far durable where that is allowed.
 */
static void
end_part(bool nonatomic)
{
	MemoryContext context = CurrentMemoryContext;

	if (nonatomic)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(context);
	}
	else
		CommandCounterIncrement();
}

/*
 * read_source reads everything present of a source.
 */
static void
read_source(const LhSource *source, LhIngestCounts *counts, bool nonatomic)
{
	LhIngest   *ingest;
	bool		more;

	if (!nonatomic)
	{
		lh_ingest_run(source, counts);
		return;
	}
	lh_source_check_can_run(source);
	ingest = lh_ingest_open(source, false);
	end_part(true);
	for (more = lh_ingest_wait(ingest, 0); more;)
	{
		CHECK_FOR_INTERRUPTS();
		more = lh_ingest_batch(ingest, counts);
		end_part(true);
		lh_ingest_committed(ingest);
		/* the network is waited for before the next part does anything */
		more = more && lh_ingest_wait(ingest, 0);
	}
	lh_ingest_close(ingest);
	lh_source_succeeded(source->source_id);
}

/*
 * run_flow consumes everything that is pending for a flow.
 */
static void
run_flow(const LhFlow *flow, LhFlowCounts *counts, bool nonatomic)
{
	if (flow->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("flow \"%s\" is paused", flow->name),
				 errdetail("Reason: %s.", flow->paused),
				 errhint("Use lakehouse.resume_flow.")));
	for (bool more = true; more;)
	{
		LhFlowCounts part = {0};

		CHECK_FOR_INTERRUPTS();
		if (nonatomic)
			/* a slice that is not full was the last of what was pending */
			more = lh_flow_run(flow, &part) && part.loads >= flow->max_loads;
		else
		{
			lh_flow_drain(flow, &part);
			more = false;
		}
		counts->loads += part.loads;
		counts->merge.inserted += part.merge.inserted;
		counts->merge.updated += part.merge.updated;
		counts->merge.deleted += part.merge.deleted;
		end_part(nonatomic);
	}
	if (nonatomic)
		lh_flow_succeeded(flow->flow_id);
}

/*
 * read_all_sources reads the sources that the current user has the rights of
 * and that may run here; others are left alone.
 */
static void
read_all_sources(LhIngestCounts *counts, Parts *parts)
{
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	List	   *ids = NIL;
	ListCell   *cell;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT source_id FROM lakehouse.source ORDER BY name", 0, NULL, NULL, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		ids = lappend_int(ids, (int) lh_catalog_int64(row, 1, 0));
		MemoryContextSwitchTo(old);
	}
	lh_catalog_end(&catalog);
	foreach(cell, ids)
	{
		LhSource   *source = lh_source_get(lfirst_int(cell));

		if (has_privs_of_role(GetUserId(), source->owner) && lh_source_obstacle(source) == NULL)
			try_part(source, NULL, counts, NULL, parts);
	}
}

static void
run_all_flows(LhFlowCounts *counts, Parts *parts)
{
	ListCell   *cell;

	foreach(cell, lh_flow_order(false))
	{
		LhFlow	   *flow = lh_flow_get(lfirst_int(cell));

		if (flow != NULL && has_privs_of_role(GetUserId(), flow->owner) && flow->paused == NULL)
			try_part(NULL, flow, NULL, counts, parts);
	}
}

/*
 * try_part reads one source or runs one flow.  If it fails, that is noted, its
 * work is rolled back and the others go on.
 */
static void
try_part(const LhSource *source, const LhFlow *flow,
		 LhIngestCounts *ingested, LhFlowCounts *flowed, Parts *parts)
{
	MemoryContext context = CurrentMemoryContext;
	LhSubtransaction sub = {0};
	ErrorData  *volatile error = NULL;

	if (!parts->nonatomic)
		lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		if (source)
			read_source(source, ingested, parts->nonatomic);
		else
			run_flow(flow, flowed, parts->nonatomic);
		if (!parts->nonatomic)
			lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		/* canceling is no failure of the part: it ends the whole task */
		if (geterrcode() == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		if (parts->nonatomic)
		{
			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			FlushErrorState();
			AbortCurrentTransaction();
			StartTransactionCommand();
			PushActiveSnapshot(GetTransactionSnapshot());
		}
		else
			error = lh_subtransaction_caught(&sub);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error == NULL)
		return;
	if (source)
		lh_source_failed(source->source_id, error->sqlerrcode, error->message);
	else
		lh_flow_failed(flow->flow_id, error->sqlerrcode, error->message);
	end_part(parts->nonatomic);
	if (parts->failed++ == 0)
	{
		parts->sqlstate = error->sqlerrcode;
		parts->message = psprintf("%s \"%s\": %s", source ? "source" : "flow",
								  source ? source->name : flow->name, error->message);
	}
}

static Jsonb *
ingest_result(const LhIngestCounts *counts)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(
		psprintf("{\"loads\": " INT64_FORMAT ", \"files\": " INT64_FORMAT ", \"rows\": " INT64_FORMAT
				 ", \"rejected\": " INT64_FORMAT ", \"failed_files\": " INT64_FORMAT "}",
				 counts->loads, counts->files, counts->rows, counts->rejected, counts->failed_files))));
}

static Jsonb *
flow_result(const LhFlowCounts *counts)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(
		psprintf("{\"consumed\": %d, \"inserted\": " INT64_FORMAT ", \"updated\": " INT64_FORMAT
				 ", \"deleted\": " INT64_FORMAT "}",
				 counts->loads, counts->merge.inserted, counts->merge.updated, counts->merge.deleted))));
}

/* --------------------------------------------------------------------- SQL */

/*
 * run_statements runs the statements of a task and returns how many rows the
 * last one processed.
 */
static int64
run_statements(const char *sql, bool nonatomic)
{
	ListCell   *cell;
	int64		rows = 0;

	if (!nonatomic)
	{
		int			code;

		SPI_connect();
		code = SPI_execute(sql, false, 0);
		if (code < 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("statement cannot be executed by a task: %s", SPI_result_code_string(code))));
		rows = (int64) SPI_processed;
		SPI_finish();
		return rows;
	}
	foreach(cell, raw_parser(sql, RAW_PARSE_DEFAULT))
	{
		rows = run_statement(lfirst_node(RawStmt, cell), sql);
		CommandCounterIncrement();
	}
	return rows;
}

/*
 * run_statement runs one statement as a client's would be: through a portal, so
 * that a procedure it calls may commit.  All that must outlive such a commit is
 * in the current context, which the caller keeps apart from the transaction's.
 */
static int64
run_statement(RawStmt *statement, const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	DestReceiver *receiver = CreateDestReceiver(DestNone);
	QueryCompletion completion;
	List	   *plans;
	Portal		portal;
	bool		snapshot = analyze_requires_snapshot(statement);

	CHECK_FOR_INTERRUPTS();
	if (IsA(statement->stmt, TransactionStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a task cannot contain transaction control statements")));
	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(statement, sql, NULL, 0, NULL),
							sql, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(statement->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	InitializeQueryCompletion(&completion);
	(void) lh_portal_run(portal, receiver, &completion);
	receiver->rDestroy(receiver);
	PortalDrop(portal, false);
	MemoryContextSwitchTo(context);
	return (int64) completion.nprocessed;
}

/* ------------------------------------------------------------------- timer */

static void
at_timeout(void)
{
	timed_out = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/*
 * lh_task_timer_start lets the statement that runs be canceled after so many
 * seconds; 0 = never.  A timer of our own, because statement_timeout may be in
 * use by the session.
 */
void
lh_task_timer_start(int seconds)
{
	timed_out = false;
	if (seconds <= 0)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, at_timeout);
	enable_timeout_after(timer, seconds * 1000);
}

/*
 * lh_task_timer_stop stops the timer and tells whether it had gone off.
 */
bool
lh_task_timer_stop(void)
{
	bool		result;

	if (timer != MAX_TIMEOUTS)
		disable_timeout(timer, false);
	result = timed_out;
	timed_out = false;
	return result;
}
