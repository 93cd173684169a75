-- Jobs: a DAG of tasks with parameters, retries, time-outs and a history.

CREATE FUNCTION lakehouse.create_job(name text, definition jsonb, replace boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_create_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.create_job(text, jsonb, boolean) IS
'creates a job that belongs to the caller; replace => true gives an existing job a new definition and keeps its history and schedule. The definition holds parameters, tasks (task_key, one of source, flow, sql and run, depends_on, run_if, parameters, max_retries, min_retry_interval_millis, retry_on_timeout, timeout_seconds), max_concurrent_runs and queue. Errors: 22023 (definition, with the path of the field), 42710 (exists), 42704 (source or flow missing), 42601 (SQL of a task)';

CREATE FUNCTION lakehouse.alter_job(name text, definition jsonb)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_alter_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.alter_job(text, jsonb) IS
'gives a job a new definition; runs that were started before go on with the old one. Errors as create_job, and 42704 (no such job), 42501 (not the owner)';

CREATE FUNCTION lakehouse.drop_job(name text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_drop_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.drop_job(text) IS
'drops a job with its history and its schedule; error 55006 while a run is queued or running';

CREATE FUNCTION lakehouse.pause_job(name text, reason text DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_pause_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.pause_job(text, text) IS
'keeps further runs of a job from beginning until resume_job; queued runs wait, runs that the schedule asks for are recorded as skipped, runs that have begun go on';

CREATE FUNCTION lakehouse.resume_job(name text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_resume_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.resume_job(text) IS 'ends what pause_job began';

CREATE FUNCTION lakehouse.run_job(name text, parameters jsonb DEFAULT '{}', wait boolean DEFAULT true)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_run_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.run_job(text, jsonb, boolean) IS
'runs a job and returns the number of the run. With wait the tasks run one after another in the caller''s session and transaction, each attempt in a subtransaction; a failed run is a warning and a row of job_run_status, not an error. Without wait the run is queued and background workers begin it after the caller has committed, tasks that do not depend on each other at the same time. Errors: 42704 (no such job), 42501 (not the owner), 22023 (parameter), 55000 (paused; no workers), 55006 (as many runs as max_concurrent_runs permits)';

CREATE FUNCTION lakehouse.enqueue_job(name text, parameters jsonb DEFAULT '{}', cause text DEFAULT 'schedule')
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_enqueue_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.enqueue_job(text, jsonb, text) IS
'queues a run for the background workers and returns its number; what pg_cron calls. A run of the schedule is recorded as skipped, with the reason, while the job is paused or an earlier run of the schedule has not begun. Errors: 42704, 42501, 22023, 55000 (no workers)';

CREATE FUNCTION lakehouse.cancel_job_run(run_id bigint)
RETURNS boolean AS 'MODULE_PATHNAME', 'lakehouse_cancel_job_run'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.cancel_job_run(bigint) IS
'cancels a run that is queued or running; tasks at work are stopped and rolled back. False if the run had ended. Errors: 42704 (no such run), 42501 (not the owner)';

CREATE FUNCTION lakehouse.schedule_job(name text, cron text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_schedule_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.schedule_job(text, text) IS
'lets pg_cron queue a run of the job at the times of a cron expression (minute hour day-of-month month day-of-week, in GMT), in the caller''s name; replaces the schedule that the job had. Errors: 55000 with the way out as a hint if pg_cron cannot be reached from this database';

CREATE FUNCTION lakehouse.unschedule_job(name text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_unschedule_job'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.unschedule_job(text) IS 'removes the schedule of a job; error 55000 if it has none';

CREATE FUNCTION lakehouse.param(name text)
RETURNS text AS 'MODULE_PATHNAME', 'lakehouse_param'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION lakehouse.param(text) IS
'parameter of the task that is running, as text: given to the run, else of the job, else of the task. Errors: 42704 (not declared), 55000 (no task is running in this session)';

CREATE FUNCTION lakehouse.next_cron_time(cron text, after timestamptz DEFAULT pg_catalog.now())
RETURNS timestamptz AS 'MODULE_PATHNAME', 'lakehouse_next_cron_time'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION lakehouse.next_cron_time(text, timestamptz) IS
'first time after the given one at which a cron expression of five fields fires in GMT; null for an expression of another form, for one that never fires, and where pg_cron keeps another time zone';
