-- What jobs did and do. Each role sees the jobs whose owner's rights it has;
-- members of pg_monitor see all.

CREATE VIEW lakehouse.job_status WITH (security_barrier = true) AS
SELECT j.name AS job,
       j.owner,
       CASE WHEN j.paused IS NOT NULL THEN 'paused'
            WHEN o.running OPERATOR(pg_catalog.>) 0 THEN 'running'
            WHEN o.queued OPERATOR(pg_catalog.>) 0 THEN 'queued'
            ELSE 'idle' END AS state,
       j.paused AS reason,
       j.schedule,
       CASE WHEN j.paused IS NULL THEN lakehouse.next_cron_time(j.schedule) END AS next_run,
       pg_catalog.jsonb_array_length(j.definition OPERATOR(pg_catalog.->) 'tasks') AS tasks,
       o.running AS runs_running,
       o.queued AS runs_queued,
       l.run_id AS last_run,
       l.state AS last_state,
       l.started AS last_started,
       l.finished AS last_finished,
       l.error AS last_error,
       j.created
  FROM lakehouse.job j
  CROSS JOIN LATERAL (
       SELECT pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'running') AS running,
              pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'queued') AS queued
         FROM lakehouse.job_run r
        WHERE r.job_id OPERATOR(pg_catalog.=) j.job_id
          AND r.state OPERATOR(pg_catalog.=) ANY ('{queued,running}')) o
  LEFT JOIN LATERAL (
       SELECT r.run_id, r.state, r.started, r.finished, r.error
         FROM lakehouse.job_run r
        WHERE r.job_id OPERATOR(pg_catalog.=) j.job_id
          AND r.state OPERATOR(pg_catalog.<>) ALL ('{queued,running}')
        ORDER BY r.run_id DESC LIMIT 1) l ON true
 WHERE lakehouse._may_see(j.owner);
COMMENT ON VIEW lakehouse.job_status IS 'one row for each job: what it is doing and how its last run ended';
COMMENT ON COLUMN lakehouse.job_status.job IS 'name of the job';
COMMENT ON COLUMN lakehouse.job_status.owner IS 'role in whose name its tasks run';
COMMENT ON COLUMN lakehouse.job_status.state IS 'paused, running, queued (a run waits to begin) or idle';
COMMENT ON COLUMN lakehouse.job_status.reason IS 'why it is paused';
COMMENT ON COLUMN lakehouse.job_status.schedule IS 'cron expression (GMT) at which pg_cron queues a run; null without a schedule';
COMMENT ON COLUMN lakehouse.job_status.next_run IS 'when the schedule asks for the next run; null while the job is paused';
COMMENT ON COLUMN lakehouse.job_status.tasks IS 'number of tasks of the current definition';
COMMENT ON COLUMN lakehouse.job_status.runs_running IS 'runs that have begun and not ended';
COMMENT ON COLUMN lakehouse.job_status.runs_queued IS 'runs that wait to begin';
COMMENT ON COLUMN lakehouse.job_status.last_run IS 'number of the newest run that has ended';
COMMENT ON COLUMN lakehouse.job_status.last_state IS 'how it ended: succeeded, failed, canceled or skipped';
COMMENT ON COLUMN lakehouse.job_status.last_started IS 'when it began';
COMMENT ON COLUMN lakehouse.job_status.last_finished IS 'when it ended';
COMMENT ON COLUMN lakehouse.job_status.last_error IS 'first task that did not succeed, with its message, or why the run was skipped or canceled';
COMMENT ON COLUMN lakehouse.job_status.created IS 'when the job was created';

CREATE VIEW lakehouse.job_run_status WITH (security_barrier = true) AS
SELECT r.run_id,
       j.name AS job,
       r.cause,
       r.role,
       r.state,
       r.parameters,
       r.error,
       r.queued,
       r.started,
       r.finished,
       COALESCE(r.finished, pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) r.started AS duration,
       t.tasks_succeeded,
       t.tasks_failed,
       t.tasks_open
  FROM lakehouse.job_run r
  JOIN lakehouse.job j ON j.job_id OPERATOR(pg_catalog.=) r.job_id
  CROSS JOIN LATERAL (
       SELECT pg_catalog.count(*) FILTER (WHERE a.state OPERATOR(pg_catalog.=) 'succeeded') AS tasks_succeeded,
              pg_catalog.count(*) FILTER (WHERE a.state OPERATOR(pg_catalog.=) ANY ('{failed,timed_out,crashed,upstream_failed}')) AS tasks_failed,
              pg_catalog.count(*) FILTER (WHERE a.state OPERATOR(pg_catalog.=) ANY ('{blocked,queued,running,waiting_for_retry}')) AS tasks_open
         FROM (SELECT DISTINCT ON (task_key) task_key, state
                 FROM lakehouse.task_run
                WHERE run_id OPERATOR(pg_catalog.=) r.run_id
                ORDER BY task_key, attempt DESC) a) t
 WHERE lakehouse._may_see(j.owner);
COMMENT ON VIEW lakehouse.job_run_status IS 'one row for each run of a job';
COMMENT ON COLUMN lakehouse.job_run_status.run_id IS 'number of the run, as run_job returned it';
COMMENT ON COLUMN lakehouse.job_run_status.job IS 'name of the job';
COMMENT ON COLUMN lakehouse.job_run_status.cause IS 'manual or schedule';
COMMENT ON COLUMN lakehouse.job_run_status.role IS 'role that asked for the run';
COMMENT ON COLUMN lakehouse.job_run_status.state IS 'queued, running, succeeded, failed, canceled or skipped';
COMMENT ON COLUMN lakehouse.job_run_status.parameters IS 'parameters given to the run';
COMMENT ON COLUMN lakehouse.job_run_status.error IS 'first task that did not succeed, with its message, or why the run was skipped or canceled';
COMMENT ON COLUMN lakehouse.job_run_status.queued IS 'when it was asked for';
COMMENT ON COLUMN lakehouse.job_run_status.started IS 'when it began';
COMMENT ON COLUMN lakehouse.job_run_status.finished IS 'when it ended';
COMMENT ON COLUMN lakehouse.job_run_status.duration IS 'from its beginning to its end, or until now';
COMMENT ON COLUMN lakehouse.job_run_status.tasks_succeeded IS 'tasks that have succeeded';
COMMENT ON COLUMN lakehouse.job_run_status.tasks_failed IS 'tasks whose latest attempt failed, timed out or crashed, or that could not run because of such a one';
COMMENT ON COLUMN lakehouse.job_run_status.tasks_open IS 'tasks that have not ended';

CREATE VIEW lakehouse.task_run_status WITH (security_barrier = true) AS
SELECT t.run_id,
       j.name AS job,
       t.task_key,
       t.attempt,
       t.state,
       t.parameters,
       t.result,
       t.sqlstate,
       t.error,
       t.pid,
       t.not_before,
       t.started,
       t.finished,
       COALESCE(t.finished, pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) t.started AS duration
  FROM lakehouse.task_run t
  JOIN lakehouse.job_run r ON r.run_id OPERATOR(pg_catalog.=) t.run_id
  JOIN lakehouse.job j ON j.job_id OPERATOR(pg_catalog.=) r.job_id
 WHERE lakehouse._may_see(j.owner);
COMMENT ON VIEW lakehouse.task_run_status IS 'one row for each attempt of each task of each run';
COMMENT ON COLUMN lakehouse.task_run_status.run_id IS 'number of the run';
COMMENT ON COLUMN lakehouse.task_run_status.job IS 'name of the job';
COMMENT ON COLUMN lakehouse.task_run_status.task_key IS 'key of the task in the definition';
COMMENT ON COLUMN lakehouse.task_run_status.attempt IS 'number of the attempt, from 0';
COMMENT ON COLUMN lakehouse.task_run_status.state IS 'blocked (waits for tasks it depends on), queued, running, waiting_for_retry, succeeded, failed, timed_out, canceled, crashed (its process or server ended first), excluded (run_if not met) or upstream_failed';
COMMENT ON COLUMN lakehouse.task_run_status.parameters IS 'parameters that lakehouse.param gives to the task';
COMMENT ON COLUMN lakehouse.task_run_status.result IS 'what a successful attempt did: rows of the last SQL statement, or counts of sources and flows';
COMMENT ON COLUMN lakehouse.task_run_status.sqlstate IS 'SQLSTATE of the error';
COMMENT ON COLUMN lakehouse.task_run_status.error IS 'message of the error';
COMMENT ON COLUMN lakehouse.task_run_status.pid IS 'process that executed it';
COMMENT ON COLUMN lakehouse.task_run_status.not_before IS 'a retry does not begin before';
COMMENT ON COLUMN lakehouse.task_run_status.started IS 'when it began';
COMMENT ON COLUMN lakehouse.task_run_status.finished IS 'when it ended';
COMMENT ON COLUMN lakehouse.task_run_status.duration IS 'from its beginning to its end, or until now';
