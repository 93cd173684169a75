/*
 * job_call.c
 *	  run_job, enqueue_job and cancel_job_run.
 *
 * run_job with wait => true does the whole run in the caller's transaction, one
 * task after another, each attempt in a subtransaction: it needs no background
 * worker, and what it did and recorded commits or rolls back with the caller.
 * Without waiting, and from pg_cron, the run is only recorded; workers begin it
 * after the caller has committed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "catalog/catalog_access.h"
#include "catalog/subtransaction.h"
#include "compat.h"
#include "job/job.h"

static int64 enqueue(const LhJob *job, const char *cause, Jsonb *parameters);
static const char *reason_to_skip(const LhJob *job, const LhJobDefinition *definition,
								  const char *cause);
static int64 record_run(const LhJob *job, const char *cause, const char *state,
						Jsonb *parameters, const char *error);
static bool no_place(const LhJob *job, const LhJobDefinition *definition);
static void run_here(int64 run_id);
static void run_attempt(LhJobRun *run, int task);
static LhTaskState try_task(LhJobRun *run, const LhTask *task, Jsonb **result, LhTaskFailure *failure);
static void wait_for_retry(const LhJobRun *run);
static void check_parameters_given(const LhJob *job, Jsonb *parameters);

PG_FUNCTION_INFO_V1(lakehouse_run_job);
PG_FUNCTION_INFO_V1(lakehouse_enqueue_job);
PG_FUNCTION_INFO_V1(lakehouse_cancel_job_run);

static Jsonb *
parameters_arg(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	return PG_GETARG_JSONB_P(arg);
}

static LhJob *
job_arg(FunctionCallInfo fcinfo)
{
	LhJob	   *job;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"name\" must not be null")));
	job = lh_job_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	lh_catalog_check_owner(job->owner, "job", job->name);
	return job;
}

/*
 * lakehouse.run_job(name, parameters, wait) returns the number of the run.
 */
Datum
lakehouse_run_job(PG_FUNCTION_ARGS)
{
	LhJob	   *job = job_arg(fcinfo);
	Jsonb	   *parameters = parameters_arg(fcinfo, 1);
	bool		wait = PG_ARGISNULL(2) || PG_GETARG_BOOL(2);
	int64		run_id;

	check_parameters_given(job, parameters);
	if (job->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" is paused", job->name),
				 errdetail("Reason: %s.", job->paused),
				 errhint("Use lakehouse.resume_job.")));
	if (!wait)
		PG_RETURN_INT64(enqueue(job, "manual", parameters));

	lh_catalog_lock(LH_LOCK_JOB, job->job_id, true);
	if (no_place(job, lh_job_definition_parse(job->name, job->definition)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job \"%s\" is running", job->name),
				 errdetail("It has as many runs as \"max_concurrent_runs\" permits."),
				 errhint("Use wait => false to queue the run.")));
	run_id = record_run(job, "manual", "running", parameters, NULL);
	run_here(run_id);
	PG_RETURN_INT64(run_id);
}

/*
 * lakehouse.enqueue_job(name, parameters, cause) records a run for the workers.
 */
Datum
lakehouse_enqueue_job(PG_FUNCTION_ARGS)
{
	LhJob	   *job = job_arg(fcinfo);
	Jsonb	   *parameters = parameters_arg(fcinfo, 1);
	char	   *cause = PG_ARGISNULL(2) ? "schedule" : text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (strcmp(cause, "schedule") != 0 && strcmp(cause, "manual") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cause of a run cannot be \"%s\"", cause),
				 errhint("Use schedule or manual.")));
	check_parameters_given(job, parameters);
	PG_RETURN_INT64(enqueue(job, cause, parameters));
}

static void
check_parameters_given(const LhJob *job, Jsonb *parameters)
{
	lh_job_parameters_check(job->name,
							lh_job_definition_parse(job->name, job->definition), parameters);
}

/*
 * enqueue records a run as queued, or as skipped with the reason.
 */
static int64
enqueue(const LhJob *job, const char *cause, Jsonb *parameters)
{
	const char *reason;

	if (!lh_job_has_workers)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot queue a run of job \"%s\" because there are no background workers", job->name),
				 errhint("Add lakehouse to shared_preload_libraries and restart the server, or use run_job with wait => true.")));
	/* one at a time, or two could both find the place free */
	lh_catalog_lock(LH_LOCK_JOB, job->job_id, true);
	reason = reason_to_skip(job, lh_job_definition_parse(job->name, job->definition), cause);
	lh_job_changed = true;
	return record_run(job, cause, reason ? "skipped" : "queued", parameters, reason);
}

/*
 * reason_to_skip tells why a run asked for now will never begin, or NULL.  Of
 * the runs that the schedule asks for, one at most waits: a job that takes
 * longer than the time between two of them would else fall behind for ever.
 */
static const char *
reason_to_skip(const LhJob *job, const LhJobDefinition *definition, const char *cause)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(job->job_id);
	LhCatalog	catalog;
	bool		waiting;

	if (job->paused)
		return psprintf("the job is paused: %s", job->paused);
	if (!definition->queue && no_place(job, definition))
		return "as many runs as max_concurrent_runs permits had not ended";
	if (strcmp(cause, "schedule") != 0)
		return NULL;
	lh_catalog_begin(&catalog);
	waiting = lh_catalog_read_latest("SELECT 1 FROM lakehouse.job_run"
									 " WHERE job_id OPERATOR(pg_catalog.=) $1"
									 " AND state OPERATOR(pg_catalog.=) 'queued'"
									 " AND cause OPERATOR(pg_catalog.=) 'schedule'",
									 1, types, &value, NULL) > 0;
	lh_catalog_end(&catalog);
	return waiting ? "an earlier run of the schedule had not begun" : NULL;
}

/*
 * no_place tells whether the job has as many open runs as it may.
 */
static bool
no_place(const LhJob *job, const LhJobDefinition *definition)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(job->job_id);
	LhCatalog	catalog;
	bool		full;

	lh_catalog_begin(&catalog);
	full = lh_catalog_read_latest("SELECT 1 FROM lakehouse.job_run"
								  " WHERE job_id OPERATOR(pg_catalog.=) $1"
								  " AND state OPERATOR(pg_catalog.=) ANY ('{queued,running}')",
								  1, types, &value, NULL) >= (uint64) definition->max_concurrent_runs;
	lh_catalog_end(&catalog);
	return full;
}

static int64
record_run(const LhJob *job, const char *cause, const char *state,
		   Jsonb *parameters, const char *error)
{
	static const Oid types[] = {INT4OID, TEXTOID, OIDOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID, TEXTOID};
	Datum		values[8];
	LhCatalog	catalog;
	int64		run_id;

	values[0] = Int32GetDatum(job->job_id);
	values[1] = CStringGetTextDatum(cause);
	values[2] = ObjectIdGetDatum(GetUserId());
	values[3] = CStringGetTextDatum(state);
	values[4] = JsonbPGetDatum(job->definition);
	values[5] = JsonbPGetDatum(parameters);
	values[6] = error ? CStringGetTextDatum(error) : (Datum) 0;
	values[7] = CStringGetTextDatum(lh_catalog_home());
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.job_run"
				   " (job_id, cause, role, state, definition, parameters, error, home, started, finished)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"
				   " CASE WHEN $4 OPERATOR(pg_catalog.=) 'running' THEN pg_catalog.clock_timestamp() END,"
				   " CASE WHEN $4 OPERATOR(pg_catalog.=) 'skipped' THEN pg_catalog.clock_timestamp() END)"
				   " RETURNING run_id",
				   8, types, values, error ? NULL : "      n ");
	run_id = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	return run_id;
}

/*
 * run_here does a run in the current transaction.  A failed task is a recorded
 * result and a warning, not an error: an error would undo the record.
 */
static void
run_here(int64 run_id)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse job run",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LhJobRun   *run;

	for (;;)
	{
		int			next = -1;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		run = lh_job_run_load(run_id, false);
		if (run == NULL)
			elog(ERROR, "run " INT64_FORMAT " has disappeared", run_id);
		if (lh_job_run_advance(run))
			break;
		for (int i = 0; i < run->definition->ntasks && next < 0; i++)
			if (run->attempts[run->definition->order[i]].state == LH_TASK_QUEUED)
				next = run->definition->order[i];
		if (next >= 0)
			run_attempt(run, next);
		else
			wait_for_retry(run);
	}
	if (strcmp(run->state, "succeeded") != 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("job \"%s\" failed", run->job_name),
				 errhint("See run " INT64_FORMAT " in lakehouse.task_run_status.", run_id)));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
run_attempt(LhJobRun *run, int task)
{
	const LhTask *definition = &run->definition->tasks[task];
	int			attempt = run->attempts[task].attempt;
	Jsonb	   *result = NULL;
	LhTaskFailure failure = {0};
	LhTaskState state;

	if (!lh_job_attempt_start(run->run_id, definition->key, attempt))
		elog(ERROR, "task \"%s\" of run " INT64_FORMAT " cannot be started", definition->key, run->run_id);
	state = try_task(run, definition, &result, &failure);
	lh_job_attempt_end(run->run_id, definition->key, attempt, state, result,
					   failure.sqlstate, failure.message);
	if (failure.message)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("task \"%s\" of job \"%s\" %s: %s", definition->key, run->job_name,
						state == LH_TASK_TIMED_OUT ? "timed out" : "failed", failure.message)));
}

/*
 * try_task does a task's work in a subtransaction and returns how it ended.  An
 * interrupt that is not the task's own time-out goes on to the caller.
 */
static LhTaskState
try_task(LhJobRun *run, const LhTask *task, Jsonb **result, LhTaskFailure *failure)
{
	LhSubtransaction sub;
	volatile LhTaskState state = LH_TASK_SUCCEEDED;

	lh_subtransaction_begin(&sub);
	lh_task_timer_start(task->timeout);
	PG_TRY();
	{
		*result = lh_task_execute(run, task, false, failure);
		if (failure->message)
			state = LH_TASK_FAILED;
		(void) lh_task_timer_stop();
		lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		bool		timed_out = lh_task_timer_stop();
		ErrorData  *error;

		if (geterrcode() == ERRCODE_QUERY_CANCELED && !timed_out)
			PG_RE_THROW();
		error = lh_subtransaction_caught(&sub);
		state = timed_out ? LH_TASK_TIMED_OUT : LH_TASK_FAILED;
		failure->sqlstate = error->sqlerrcode;
		failure->message = timed_out ? psprintf("no end within %d seconds", task->timeout) : error->message;
	}
	PG_END_TRY();
	return state;
}

/*
 * wait_for_retry sleeps until the earliest attempt may begin.
 */
static void
wait_for_retry(const LhJobRun *run)
{
	TimestampTz earliest = DT_NOEND;
	long		delay;

	for (int i = 0; i < run->definition->ntasks; i++)
		if (run->attempts[i].state == LH_TASK_WAITING_FOR_RETRY)
			earliest = Min(earliest, run->attempts[i].not_before);
	if (earliest == DT_NOEND)
		elog(ERROR, "no task of run " INT64_FORMAT " can go on", run->run_id);
	delay = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), earliest);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Max(delay, 1), lh_wait_event("LakehouseJobRetry"));
	ResetLatch(MyLatch);
}

/*
 * lakehouse.cancel_job_run(run_id) ends a run that is queued or running.  What
 * has not begun never will; a task at work is stopped by the scheduler once
 * this transaction has committed.
 */
Datum
lakehouse_cancel_job_run(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT8OID, TEXTOID};
	LhJobRun   *run;
	int64		run_id;
	Datum		values[2];
	LhCatalog	catalog;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"run_id\" must not be null")));
	run_id = PG_GETARG_INT64(0);
	run = lh_job_run_load(run_id, false);
	if (run == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("run " INT64_FORMAT " does not exist", run_id)));
	lh_catalog_check_owner(run->owner, "job", run->job_name);
	if (strcmp(run->state, "queued") != 0 && strcmp(run->state, "running") != 0)
		PG_RETURN_BOOL(false);

	values[0] = Int64GetDatum(run_id);
	values[1] = CStringGetTextDatum(psprintf("canceled by %s", GetUserNameFromId(GetUserId(), false)));
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.job_run SET state = 'canceled', error = $2,"
				   " finished = pg_catalog.clock_timestamp() WHERE run_id OPERATOR(pg_catalog.=) $1",
				   2, types, values, NULL);
	lh_catalog_run("UPDATE lakehouse.task_run SET state = 'canceled', error = $2,"
				   " finished = pg_catalog.clock_timestamp() WHERE run_id OPERATOR(pg_catalog.=) $1"
				   " AND state OPERATOR(pg_catalog.=) ANY ('{blocked,queued,running,waiting_for_retry}')",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
	lh_job_changed = true;
	PG_RETURN_BOOL(true);
}
