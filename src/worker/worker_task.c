/*
 * worker_task.c
 *	  A worker that executes one attempt of a task of a job.
 *
 * Invariant: that the attempt has begun is committed before its work, and its
 * end is written by the transaction that holds the last part of the work.  So an
 * attempt found "running" without a worker has crashed, and its last part left
 * nothing behind.  If somebody has ended the attempt meanwhile (canceled it, or
 * taken us for dead), the last part rolls back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "fault.h"
#include "job/job.h"
#include "worker/worker.h"

static void describe(void *arg);
static LhJobRun *take_attempt(const LhWorkerConfig *config, const LhTask **task);
static void do_attempt(const LhWorkerConfig *config, const LhJobRun *run, const LhTask *task);

void
lh_task_run(const LhWorkerConfig *config)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "lakehouse task",
												  ALLOCSET_DEFAULT_SIZES);
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = describe,
		.arg = (void *) config
	};
	const LhTask *task = NULL;
	LhJobRun   *run;

	error_context_stack = &callback;
	MemoryContextSwitchTo(context);
	run = take_attempt(config, &task);
	if (run == NULL)
		return;
	SetConfigOption("search_path", run->path, PGC_USERSET, PGC_S_SESSION);

	PG_TRY();
	{
		do_attempt(config, run, task);
	}
	PG_CATCH();
	{
		bool		timed_out = lh_task_timer_stop();
		ErrorData  *error = lh_worker_caught(context);
		LhTaskState state = LH_TASK_FAILED;

		/* what the task set must not get in the way of its own record */
		SetConfigOption("statement_timeout", "0", PGC_USERSET, PGC_S_SESSION);
		SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
		if (timed_out)
		{
			state = LH_TASK_TIMED_OUT;
			error->message = psprintf("no end within %d seconds", task->timeout);
		}
		lh_worker_begin("end of task");
		(void) lh_job_attempt_end(config->object, task->key, config->attempt, state, NULL,
								  error->sqlerrcode, error->message);
		lh_worker_commit();
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
}

static void
describe(void *arg)
{
	const LhWorkerConfig *config = arg;

	errcontext("task \"%s\" of job \"%s\", run " INT64_FORMAT ", attempt %d",
			   config->task_key, config->name, config->object, config->attempt);
}

/*
 * take_attempt marks the attempt as running and returns its run, or NULL if it
 * is no longer to be done.
 */
static LhJobRun *
take_attempt(const LhWorkerConfig *config, const LhTask **task)
{
	LhJobRun   *run;
	bool		taken = false;

	lh_worker_begin("begin of task");
	run = lh_job_run_load(config->object, false);
	if (run)
	{
		for (int i = 0; i < run->definition->ntasks; i++)
			if (strcmp(run->definition->tasks[i].key, config->task_key) == 0)
				*task = &run->definition->tasks[i];
		taken = *task != NULL &&
			lh_job_attempt_start(config->object, config->task_key, config->attempt);
	}
	lh_worker_commit();
	LH_FAULT("task-after-start");
	return taken ? run : NULL;
}

static void
do_attempt(const LhWorkerConfig *config, const LhJobRun *run, const LhTask *task)
{
	MemoryContext context = CurrentMemoryContext;
	LhTaskFailure failure = {0};
	Jsonb	   *result;

	lh_slot_set_working(true);
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, task->kind == LH_TASK_SQL ? task->object : task->key);
	/* no snapshot here: a procedure that commits cannot do so under one */
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	lh_task_timer_start(task->timeout);
	result = lh_task_execute(run, task, true, &failure);
	(void) lh_task_timer_stop();
	LH_FAULT("task-before-end");
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!lh_job_attempt_end(config->object, task->key, config->attempt,
							failure.message ? LH_TASK_FAILED : LH_TASK_SUCCEEDED,
							result, failure.sqlstate, failure.message))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("attempt %d of task \"%s\" was ended by somebody else", config->attempt, task->key)));
	PopActiveSnapshot();
	CommitTransactionCommand();
	LH_FAULT("task-after-end");
	pgstat_report_stat(true);
	MemoryContextSwitchTo(context);
}
