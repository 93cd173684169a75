/*
 * job_run.c
 *	  Runs of jobs: how a run and its attempts move from state to state.
 *
 * Run:      queued -> running -> succeeded | failed | canceled
 *           skipped (recorded at once, never begins)
 * Attempt:  blocked -> queued -> running -> succeeded | failed | timed_out |
 *                                           canceled | crashed
 *           blocked -> excluded | upstream_failed
 *           waiting_for_retry -> queued
 *
 * Invariant: an attempt leaves "queued" and "running" by an UPDATE that names
 * the state it expects, and the row lock of job_run is held while attempts are
 * added.  So one attempt is executed by one process, its end is written once,
 * and whoever comes second finds zero rows and stops.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "job/job.h"

bool		lh_job_changed = false;
bool		lh_job_has_workers = false;

static const char *const state_names[] = {
	"blocked", "queued", "running", "waiting_for_retry", "succeeded", "failed",
	"timed_out", "canceled", "crashed", "excluded", "upstream_failed"
};

/* how the tasks that a task depends on ended */
typedef struct Upstream
{
	int			succeeded;
	int			failed;
	int			excluded;
} Upstream;

static LhTaskState state_of_name(const char *name);
static void load_attempts(LhJobRun *run, MemoryContext context);
static bool is_terminal(const LhJobRun *run, int task);
static void advance_task(LhJobRun *run, int task);
static LhTaskState decide(LhRunIf run_if, const Upstream *upstream);
static void insert_attempt(LhJobRun *run, int task, int attempt, LhTaskState state,
						   TimestampTz not_before);
static void set_attempt_state(LhJobRun *run, int task, LhTaskState state);
static void finish_run(LhJobRun *run);

static LhTaskState
state_of_name(const char *name)
{
	for (int i = 0; i < lengthof(state_names); i++)
		if (strcmp(state_names[i], name) == 0)
			return (LhTaskState) i;
	elog(ERROR, "state \"%s\" of a task is not known", name);
}

/*
 * cancel_foreign_runs ends open runs that came with a copied or restored
 * database: it must not do what was asked of the original.
 */
static void
cancel_foreign_runs(void)
{
	static const Oid types[] = {TEXTOID};
	Datum		value = CStringGetTextDatum(lh_catalog_home());

	if (lh_catalog_run("UPDATE lakehouse.job_run SET state = 'canceled', finished = pg_catalog.clock_timestamp(),"
					   " error = 'the run began in another database, of which this one is a copy'"
					   " WHERE state OPERATOR(pg_catalog.=) ANY ('{queued,running}')"
					   " AND home OPERATOR(pg_catalog.<>) $1",
					   1, types, &value, NULL) > 0)
		lh_catalog_run("UPDATE lakehouse.task_run t SET state = 'canceled', finished = pg_catalog.clock_timestamp()"
					   " FROM lakehouse.job_run r WHERE r.run_id OPERATOR(pg_catalog.=) t.run_id"
					   " AND r.state OPERATOR(pg_catalog.=) 'canceled'"
					   " AND r.home OPERATOR(pg_catalog.<>) $1"
					   " AND t.state OPERATOR(pg_catalog.=) ANY ('{blocked,queued,running,waiting_for_retry}')",
					   1, types, &value, NULL);
}

/*
 * lh_job_run_open returns the numbers (int64 pointers) of the runs that are
 * queued or running, oldest first, in the current context.
 */
List *
lh_job_run_open(void)
{
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	List	   *runs = NIL;
	MemoryContext old;
	uint64		count;

	lh_catalog_begin(&catalog);
	cancel_foreign_runs();
	count = lh_catalog_run("SELECT run_id FROM lakehouse.job_run"
						   " WHERE state OPERATOR(pg_catalog.=) ANY ('{queued,running}')"
						   " ORDER BY run_id", 0, NULL, NULL, NULL);
	old = MemoryContextSwitchTo(context);
	for (uint64 row = 0; row < count; row++)
	{
		int64	   *run_id = palloc(sizeof(int64));

		*run_id = lh_catalog_int64(row, 1, 0);
		runs = lappend(runs, run_id);
	}
	MemoryContextSwitchTo(old);
	lh_catalog_end(&catalog);
	return runs;
}

/*
 * lh_job_run_load reads a run with its definition and latest attempts into the
 * current context and keeps its row locked until the end of the transaction.
 * Returns NULL if the run is gone or, with skip_locked, locked by another
 * transaction.
 */
LhJobRun *
lh_job_run_load(int64 run_id, bool skip_locked)
{
	static const Oid types[] = {INT8OID};
	MemoryContext context = CurrentMemoryContext;
	Datum		value = Int64GetDatum(run_id);
	LhJobRun   *run = palloc0(sizeof(LhJobRun));
	Jsonb	   *definition = NULL;
	LhCatalog	catalog;
	bool		found;

	lh_catalog_begin(&catalog);
	if (skip_locked)
		found = lh_catalog_run("SELECT r.job_id, j.name, j.owner, j.path, r.state, r.parameters, r.definition"
							   " FROM lakehouse.job_run r JOIN lakehouse.job j"
							   " ON j.job_id OPERATOR(pg_catalog.=) r.job_id"
							   " WHERE r.run_id OPERATOR(pg_catalog.=) $1 FOR UPDATE OF r SKIP LOCKED",
							   1, types, &value, NULL) > 0;
	else
		found = lh_catalog_run("SELECT r.job_id, j.name, j.owner, j.path, r.state, r.parameters, r.definition"
							   " FROM lakehouse.job_run r JOIN lakehouse.job j"
							   " ON j.job_id OPERATOR(pg_catalog.=) r.job_id"
							   " WHERE r.run_id OPERATOR(pg_catalog.=) $1 FOR UPDATE OF r",
							   1, types, &value, NULL) > 0;
	if (found)
	{
		bool		isnull;
		Datum		parameters = lh_catalog_value(0, 6, &isnull);
		Datum		text = lh_catalog_value(0, 7, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		run->run_id = run_id;
		run->job_id = (int32) lh_catalog_int64(0, 1, 0);
		run->job_name = lh_catalog_text(0, 2, context);
		run->owner = lh_catalog_oid(0, 3);
		run->path = lh_catalog_text(0, 4, context);
		run->state = lh_catalog_text(0, 5, context);
		run->parameters = DatumGetJsonbPCopy(parameters);
		definition = DatumGetJsonbPCopy(text);
		MemoryContextSwitchTo(old);
	}
	lh_catalog_end(&catalog);
	if (!found)
		return NULL;
	run->definition = lh_job_definition_parse(run->job_name, definition);
	load_attempts(run, context);
	return run;
}

static void
load_attempts(LhJobRun *run, MemoryContext context)
{
	static const Oid types[] = {INT8OID};
	Datum		value = Int64GetDatum(run->run_id);
	LhJobDefinition *definition = run->definition;
	LhCatalog	catalog;
	uint64		count;

	run->attempts = palloc0(sizeof(LhAttempt) * definition->ntasks);
	for (int i = 0; i < definition->ntasks; i++)
		run->attempts[i].attempt = -1;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT DISTINCT ON (task_key) task_key, attempt, state, started, not_before, error"
						   " FROM lakehouse.task_run WHERE run_id OPERATOR(pg_catalog.=) $1"
						   " ORDER BY task_key, attempt DESC", 1, types, &value, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		char	   *key = lh_catalog_text(row, 1, context);

		for (int i = 0; i < definition->ntasks; i++)
		{
			LhAttempt  *attempt = &run->attempts[i];

			if (strcmp(definition->tasks[i].key, key) != 0)
				continue;
			attempt->attempt = (int) lh_catalog_int64(row, 2, 0);
			attempt->state = state_of_name(lh_catalog_text(row, 3, context));
			/* timestamps are int64; NULL becomes 0 */
			attempt->started = lh_catalog_int64(row, 4, 0);
			attempt->not_before = lh_catalog_int64(row, 5, 0);
			attempt->error = lh_catalog_text(row, 6, context);
		}
	}
	lh_catalog_end(&catalog);
}

/*
 * lh_job_run_begin moves a run from queued to running if the job may have one
 * more run now.  Holds the job's lock, so that two runs do not both take the
 * last place; false, and nothing is changed, if it must wait.
 */
bool
lh_job_run_begin(int64 run_id)
{
	static const Oid types[] = {INT8OID};
	LhJobRun   *run = lh_job_run_load(run_id, true);
	Datum		value = Int64GetDatum(run_id);
	LhCatalog	catalog;
	bool		begun = false;

	if (run == NULL || strcmp(run->state, "queued") != 0 ||
		!lh_catalog_lock(LH_LOCK_JOB, run->job_id, false))
		return false;
	lh_catalog_begin(&catalog);
	if (lh_catalog_read_latest("SELECT 1 FROM lakehouse.job_run r JOIN lakehouse.job j"
							   " ON j.job_id OPERATOR(pg_catalog.=) r.job_id"
							   " WHERE r.run_id OPERATOR(pg_catalog.=) $1 AND j.paused IS NULL"
							   " AND (SELECT pg_catalog.count(*) FROM lakehouse.job_run o"
							   "       WHERE o.job_id OPERATOR(pg_catalog.=) r.job_id"
							   "         AND o.state OPERATOR(pg_catalog.=) 'running')"
							   " OPERATOR(pg_catalog.<) COALESCE((r.definition OPERATOR(pg_catalog.->>) 'max_concurrent_runs')::pg_catalog.int8, 1)",
							   1, types, &value, NULL) > 0)
		begun = lh_catalog_run("UPDATE lakehouse.job_run SET state = 'running', started = pg_catalog.clock_timestamp()"
							   " WHERE run_id OPERATOR(pg_catalog.=) $1",
							   1, types, &value, NULL) > 0;
	lh_catalog_end(&catalog);
	return begun;
}

/*
 * lh_job_run_advance brings every task of a run as far as it can go without
 * doing work: blocked tasks are queued or closed, attempts that failed are
 * followed by the next one, delays that are over end.  If all tasks have ended,
 * ends the run and returns true.  "run" is kept up to date.
 */
bool
lh_job_run_advance(LhJobRun *run)
{
	bool		done = true;

	for (int i = 0; i < run->definition->ntasks; i++)
	{
		int			task = run->definition->order[i];

		advance_task(run, task);
		done = done && is_terminal(run, task);
	}
	if (done)
		finish_run(run);
	return done;
}

/*
 * is_terminal tells whether a task has ended for good; an attempt that failed
 * and will be followed by another was replaced by advance_task before.
 */
static bool
is_terminal(const LhJobRun *run, int task)
{
	return run->attempts[task].attempt >= 0 &&
		run->attempts[task].state >= LH_TASK_SUCCEEDED;
}

static void
advance_task(LhJobRun *run, int task)
{
	const LhTask *definition = &run->definition->tasks[task];
	LhAttempt  *attempt = &run->attempts[task];
	Upstream	upstream = {0};

	if (attempt->attempt < 0)
		insert_attempt(run, task, 0, LH_TASK_BLOCKED, 0);

	if ((attempt->state == LH_TASK_FAILED || attempt->state == LH_TASK_CRASHED ||
		 (attempt->state == LH_TASK_TIMED_OUT && definition->retry_on_timeout)) &&
		(definition->max_retries < 0 || attempt->attempt < definition->max_retries))
		insert_attempt(run, task, attempt->attempt + 1, LH_TASK_WAITING_FOR_RETRY,
					   TimestampTzPlusMilliseconds(attempt->started, definition->retry_interval));

	if (attempt->state == LH_TASK_WAITING_FOR_RETRY &&
		attempt->not_before <= GetCurrentTimestamp())
		set_attempt_state(run, task, LH_TASK_QUEUED);

	if (attempt->state != LH_TASK_BLOCKED)
		return;
	for (int i = 0; i < definition->ndepends; i++)
	{
		int			other = definition->depends_on[i];

		if (!is_terminal(run, other))
			return;
		if (run->attempts[other].state == LH_TASK_SUCCEEDED)
			upstream.succeeded++;
		else if (run->attempts[other].state == LH_TASK_EXCLUDED)
			upstream.excluded++;
		else
			upstream.failed++;
	}
	set_attempt_state(run, task, decide(definition->run_if, &upstream));
}

/*
 * decide applies run_if once all tasks that a task depends on have ended.  An
 * excluded task counts as a success, but a task all of whose predecessors are
 * excluded is excluded as well.
 */
static LhTaskState
decide(LhRunIf run_if, const Upstream *upstream)
{
	int			count = upstream->succeeded + upstream->failed + upstream->excluded;

	if (count == 0)
		return LH_TASK_QUEUED;
	if (upstream->excluded == count)
		return LH_TASK_EXCLUDED;
	switch (run_if)
	{
		case LH_RUN_IF_ALL_SUCCESS:
		case LH_RUN_IF_NONE_FAILED:
			return upstream->failed == 0 ? LH_TASK_QUEUED : LH_TASK_UPSTREAM_FAILED;
		case LH_RUN_IF_AT_LEAST_ONE_SUCCESS:
			return upstream->succeeded > 0 ? LH_TASK_QUEUED : LH_TASK_UPSTREAM_FAILED;
		case LH_RUN_IF_ALL_DONE:
			return LH_TASK_QUEUED;
		case LH_RUN_IF_AT_LEAST_ONE_FAILED:
			return upstream->failed > 0 ? LH_TASK_QUEUED : LH_TASK_EXCLUDED;
		case LH_RUN_IF_ALL_FAILED:
			return upstream->failed == count ? LH_TASK_QUEUED : LH_TASK_EXCLUDED;
	}
	return LH_TASK_EXCLUDED;
}

static void
insert_attempt(LhJobRun *run, int task, int attempt, LhTaskState state, TimestampTz not_before)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, JSONBOID, TIMESTAMPTZOID};
	const LhTask *definition = &run->definition->tasks[task];
	Datum		values[6];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(run->run_id);
	values[1] = CStringGetTextDatum(definition->key);
	values[2] = Int32GetDatum(attempt);
	values[3] = CStringGetTextDatum(state_names[state]);
	values[4] = JsonbPGetDatum(lh_task_parameters(run, definition));
	values[5] = TimestampTzGetDatum(not_before);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.task_run (run_id, task_key, attempt, state, parameters, not_before)"
				   " VALUES ($1, $2, $3, $4, $5, $6)",
				   6, types, values, not_before == 0 ? "     n" : NULL);
	lh_catalog_end(&catalog);
	run->attempts[task].attempt = attempt;
	run->attempts[task].state = state;
	run->attempts[task].not_before = not_before;
	run->attempts[task].started = 0;
	run->attempts[task].error = NULL;
}

/*
 * set_attempt_state moves an attempt that nobody works on.
 */
static void
set_attempt_state(LhJobRun *run, int task, LhTaskState state)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, BOOLOID};
	Datum		values[5];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(run->run_id);
	values[1] = CStringGetTextDatum(run->definition->tasks[task].key);
	values[2] = Int32GetDatum(run->attempts[task].attempt);
	values[3] = CStringGetTextDatum(state_names[state]);
	values[4] = BoolGetDatum(state >= LH_TASK_SUCCEEDED);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.task_run SET state = $4,"
				   " finished = CASE WHEN $5 THEN pg_catalog.clock_timestamp() END"
				   " WHERE run_id OPERATOR(pg_catalog.=) $1"
				   " AND task_key OPERATOR(pg_catalog.=) $2 AND attempt OPERATOR(pg_catalog.=) $3",
				   5, types, values, NULL);
	lh_catalog_end(&catalog);
	run->attempts[task].state = state;
}

/*
 * finish_run ends a run.  It succeeded if every task that nothing depends on
 * succeeded or was excluded; so a failure that a later task took care of does
 * not fail the run.
 */
static void
finish_run(LhJobRun *run)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID};
	LhJobDefinition *definition = run->definition;
	bool	   *inner = palloc0(sizeof(bool) * definition->ntasks);
	const char *error = NULL;
	bool		failed = false;
	Datum		values[3];
	LhCatalog	catalog;

	for (int i = 0; i < definition->ntasks; i++)
		for (int j = 0; j < definition->tasks[i].ndepends; j++)
			inner[definition->tasks[i].depends_on[j]] = true;
	for (int i = 0; i < definition->ntasks; i++)
	{
		int			task = definition->order[i];
		LhAttempt  *attempt = &run->attempts[task];

		if (attempt->state == LH_TASK_SUCCEEDED || attempt->state == LH_TASK_EXCLUDED)
			continue;
		if (!inner[task])
			failed = true;
		if (error == NULL && attempt->state != LH_TASK_UPSTREAM_FAILED)
			error = psprintf("task \"%s\" %s: %s", definition->tasks[task].key,
							 attempt->state == LH_TASK_TIMED_OUT ? "timed out" :
							 attempt->state == LH_TASK_CANCELED ? "was canceled" :
							 state_names[attempt->state],
							 attempt->error ? attempt->error : "no message");
	}
	values[0] = Int64GetDatum(run->run_id);
	values[1] = CStringGetTextDatum(failed ? "failed" : "succeeded");
	values[2] = error ? CStringGetTextDatum(error) : (Datum) 0;
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.job_run SET state = $2, error = $3, finished = pg_catalog.clock_timestamp()"
				   " WHERE run_id OPERATOR(pg_catalog.=) $1"
				   " AND state OPERATOR(pg_catalog.=) 'running'",
				   3, types, values, error ? "   " : "  n");
	lh_catalog_end(&catalog);
	run->state = failed ? "failed" : "succeeded";
	lh_job_changed = true;
}

/*
 * lh_job_run_fail ends a run that cannot go on at all.
 */
void
lh_job_run_fail(int64 run_id, const char *error)
{
	static const Oid types[] = {INT8OID, TEXTOID};
	Datum		values[2];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(run_id);
	values[1] = CStringGetTextDatum(error);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.job_run SET state = 'failed', error = $2, finished = pg_catalog.clock_timestamp()"
				   " WHERE run_id OPERATOR(pg_catalog.=) $1"
				   " AND state OPERATOR(pg_catalog.=) ANY ('{queued,running}')",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
	lh_job_changed = true;
}

/*
 * lh_job_attempt_start takes a queued attempt for this process; false if it is
 * no longer to be had.
 */
bool
lh_job_attempt_start(int64 run_id, const char *task_key, int attempt)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4OID, INT4OID};
	Datum		values[4];
	LhCatalog	catalog;
	bool		taken;

	values[0] = Int64GetDatum(run_id);
	values[1] = CStringGetTextDatum(task_key);
	values[2] = Int32GetDatum(attempt);
	values[3] = Int32GetDatum(MyProcPid);
	lh_catalog_begin(&catalog);
	taken = lh_catalog_run("UPDATE lakehouse.task_run t SET state = 'running', pid = $4,"
						   " started = pg_catalog.clock_timestamp()"
						   " FROM lakehouse.job_run r"
						   " WHERE t.run_id OPERATOR(pg_catalog.=) $1"
						   " AND t.task_key OPERATOR(pg_catalog.=) $2 AND t.attempt OPERATOR(pg_catalog.=) $3"
						   " AND t.state OPERATOR(pg_catalog.=) 'queued'"
						   " AND r.run_id OPERATOR(pg_catalog.=) t.run_id"
						   " AND r.state OPERATOR(pg_catalog.=) 'running'",
						   4, types, values, NULL) > 0;
	lh_catalog_end(&catalog);
	return taken;
}

/*
 * lh_job_attempt_end writes how a queued or running attempt ended; false if
 * somebody else has ended it, and then the caller must roll back its work.
 */
bool
lh_job_attempt_end(int64 run_id, const char *task_key, int attempt, LhTaskState state,
				   Jsonb *result, int sqlstate, const char *error)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, JSONBOID, TEXTOID, TEXTOID};
	Datum		values[7];
	char		nulls[8] = "       ";
	LhCatalog	catalog;
	bool		written;

	values[0] = Int64GetDatum(run_id);
	values[1] = CStringGetTextDatum(task_key);
	values[2] = Int32GetDatum(attempt);
	values[3] = CStringGetTextDatum(state_names[state]);
	values[4] = result ? JsonbPGetDatum(result) : (Datum) 0;
	values[5] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[6] = error ? CStringGetTextDatum(error) : (Datum) 0;
	if (result == NULL)
		nulls[4] = 'n';
	if (sqlstate == 0)
		nulls[5] = 'n';
	if (error == NULL)
		nulls[6] = 'n';
	lh_catalog_begin(&catalog);
	written = lh_catalog_run("UPDATE lakehouse.task_run SET state = $4, result = $5, sqlstate = $6, error = $7,"
							 " started = COALESCE(started, pg_catalog.clock_timestamp()),"
							 " finished = pg_catalog.clock_timestamp()"
							 " WHERE run_id OPERATOR(pg_catalog.=) $1"
							 " AND task_key OPERATOR(pg_catalog.=) $2 AND attempt OPERATOR(pg_catalog.=) $3"
							 " AND state OPERATOR(pg_catalog.=) ANY ('{queued,running}')",
							 7, types, values, nulls) > 0;
	lh_catalog_end(&catalog);
	lh_job_changed = true;
	return written;
}
