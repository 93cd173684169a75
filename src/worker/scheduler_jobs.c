/*
 * scheduler_jobs.c
 *	  Brings runs of jobs forward: begins them, starts workers for their tasks,
 *	  ends what crashed.
 *
 * Invariant: an attempt is called crashed only if it is recorded as running and
 * no worker has, or will have, a slot for it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "guc.h"
#include "job/job.h"
#include "worker/scheduler_internal.h"

static const char *const crash_message = "the process ended before the task did";

static void try_serve_run(LhSchedulerPass *pass, int64 run_id, bool *known);
static void serve_run(LhSchedulerPass *pass, int64 run_id, bool *known);
static void serve_attempt(LhSchedulerPass *pass, const LhJobRun *run, int task);
static bool has_task_worker(const LhSlot *slots, int count, const LhWorkerConfig *config);
static void close_crashed_attempts(LhJobRun *run);
static void stop_tasks_of_closed_runs(const LhSchedulerPass *pass, List *runs);

bool
lh_scheduler_attempt_crashed(int64 run_id, const char *task_key, int32 attempt)
{
	return lh_job_attempt_end(run_id, task_key, attempt, LH_TASK_CRASHED, NULL,
							  ERRCODE_ADMIN_SHUTDOWN, crash_message);
}

void
lh_scheduler_serve_jobs(LhSchedulerPass *pass)
{
	List	   *runs;
	List	   *running = NIL;
	ListCell   *cell;

	lh_worker_begin("jobs");
	runs = lh_job_run_open();
	lh_worker_commit();
	foreach(cell, runs)
	{
		int64	   *run_id = lfirst(cell);
		bool		known = false;

		try_serve_run(pass, *run_id, &known);
		if (known)
			running = lappend(running, run_id);
	}
	stop_tasks_of_closed_runs(pass, running);
}

/*
 * try_serve_run ends a run that cannot go on, so that it does not stop others.
 */
static void
try_serve_run(LhSchedulerPass *pass, int64 run_id, bool *known)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		serve_run(pass, run_id, known);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		/* whoever holds a lock on it will be done in time for the next pass */
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		{
			lh_worker_begin("failure");
			lh_job_run_fail(run_id, error->message);
			lh_worker_commit();
		}
		*known = true;
	}
	PG_END_TRY();
}

/*
 * serve_run brings one run forward and starts workers for what is ready.
 * *known is set if the run is (or may be) still open.
 */
static void
serve_run(LhSchedulerPass *pass, int64 run_id, bool *known)
{
	LhJobRun   *run;
	bool		done = false;

	*known = true;
	lh_worker_begin("run");
	run = lh_job_run_load(run_id, true);
	if (run && strcmp(run->state, "queued") == 0 && lh_job_run_begin(run_id))
		run = lh_job_run_load(run_id, true);
	if (run && strcmp(run->state, "running") == 0)
	{
		close_crashed_attempts(run);
		done = lh_job_run_advance(run);
	}
	lh_worker_commit();
	if (run && strcmp(run->state, "queued") != 0 && strcmp(run->state, "running") != 0)
		*known = false;
	if (run == NULL || done || strcmp(run->state, "running") != 0)
		return;

	for (int i = 0; i < run->definition->ntasks; i++)
	{
		if (run->attempts[i].state == LH_TASK_QUEUED)
			serve_attempt(pass, run, i);
		else if (run->attempts[i].state == LH_TASK_WAITING_FOR_RETRY)
			lh_scheduler_come_by(run->attempts[i].not_before);
	}
}

/*
 * serve_attempt starts the worker of a queued attempt that has none.
 */
static void
serve_attempt(LhSchedulerPass *pass, const LhJobRun *run, int task)
{
	LhWorkerConfig config = {0};
	char	   *obstacle;

	config.kind = LH_WORKER_TASK;
	config.database = MyDatabaseId;
	config.role = run->owner;
	config.object = run->run_id;
	config.attempt = run->attempts[task].attempt;
	strlcpy(config.name, run->job_name, sizeof(config.name));
	strlcpy(config.task_key, run->definition->tasks[task].key, sizeof(config.task_key));
	if (has_task_worker(pass->slots, pass->nslots, &config))
		return;
	lh_worker_begin("run");
	obstacle = lh_scheduler_login_obstacle(run->owner);
	if (obstacle)
		lh_job_attempt_end(run->run_id, config.task_key, config.attempt, LH_TASK_FAILED, NULL,
						   ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, obstacle);
	lh_worker_commit();
	if (obstacle == NULL)
		lh_scheduler_start(pass, &config, lh_max_workers);
}

/*
 * has_task_worker tells whether a worker for the attempt is there or coming.
 */
static bool
has_task_worker(const LhSlot *slots, int count, const LhWorkerConfig *config)
{
	for (int i = 0; i < count; i++)
		if ((slots[i].state == LH_SLOT_STARTING || slots[i].state == LH_SLOT_ALIVE) &&
			slots[i].config.database == config->database &&
			slots[i].config.kind == LH_WORKER_TASK &&
			slots[i].config.object == config->object &&
			slots[i].config.attempt == config->attempt &&
			strcmp(slots[i].config.task_key, config->task_key) == 0)
			return true;
	return false;
}

/*
 * close_crashed_attempts ends attempts that are recorded as running but have no
 * worker.  A worker has its slot before it says "running", so slots are looked
 * at after the attempts were read.  One that has ended since wrote its end
 * before it left its slot: the UPDATE then finds no running attempt.
 */
static void
close_crashed_attempts(LhJobRun *run)
{
	int			count;
	LhSlot	   *slots = lh_slots_copy(&count);

	for (int i = 0; i < run->definition->ntasks; i++)
	{
		LhAttempt  *attempt = &run->attempts[i];
		LhWorkerConfig config = {0};

		if (attempt->state != LH_TASK_RUNNING)
			continue;
		config.database = MyDatabaseId;
		config.object = run->run_id;
		config.attempt = attempt->attempt;
		strlcpy(config.task_key, run->definition->tasks[i].key, sizeof(config.task_key));
		if (has_task_worker(slots, count, &config))
			continue;
		if (lh_scheduler_attempt_crashed(run->run_id, config.task_key, attempt->attempt))
		{
			attempt->state = LH_TASK_CRASHED;
			attempt->error = pstrdup(crash_message);
		}
	}
}

/*
 * stop_tasks_of_closed_runs ends workers whose run was canceled.
 */
static void
stop_tasks_of_closed_runs(const LhSchedulerPass *pass, List *runs)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		const LhSlot *slot = &pass->slots[i];
		bool		open = false;
		ListCell   *cell;

		if (slot->state != LH_SLOT_ALIVE || slot->config.database != MyDatabaseId ||
			slot->config.kind != LH_WORKER_TASK)
			continue;
		foreach(cell, runs)
			open = open || *(int64 *) lfirst(cell) == slot->config.object;
		if (!open)
			lh_slot_request_stop(i, slot->generation, true);
	}
}
