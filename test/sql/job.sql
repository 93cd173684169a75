-- Jobs: what is refused and how, runs in the caller's session, runs by workers.
\set VERBOSITY default
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
SET datestyle = ISO;
CREATE EXTENSION IF NOT EXISTS lakehouse;
CREATE SCHEMA job_test;
SET search_path = job_test, public;
SET client_min_messages = notice;
CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, entry text);

-- ------------------------------------------------ definitions that are refused
SELECT lakehouse.create_job('', '{"tasks": [{"task_key": "a", "run": true}]}');
SELECT lakehouse.create_job('j', NULL);
SELECT lakehouse.create_job('j', '[]');
SELECT lakehouse.create_job('j', '{}');
SELECT lakehouse.create_job('j', '{"task": []}');
SELECT lakehouse.create_job('j', '{"tasks": {}}');
SELECT lakehouse.create_job('j', '{"tasks": ["a"]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"run": true}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a b", "run": true}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "sql": "SELECT 1"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": false}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true}, {"task_key": "a", "run": true}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "dependson": []}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "depends_on": "b"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "depends_on": [1]}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "depends_on": [{"task": "a"}]}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "ingest", "run": true}, {"task_key": "b", "run": true, "depends_on": ["ingets"]}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true}, {"task_key": "b", "run": true, "depends_on": ["a", {"task_key": "a"}]}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "depends_on": ["a"]}]}');
SELECT lakehouse.create_job('j', '{"tasks": [
    {"task_key": "a", "run": true, "depends_on": ["c"]}, {"task_key": "b", "run": true, "depends_on": ["a"]},
    {"task_key": "c", "run": true, "depends_on": ["b"]}, {"task_key": "d", "run": true, "depends_on": ["c"]}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "run_if": "ALL_DONNE"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "max_retries": 1.5}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "max_retries": "2"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "run": true, "timeout_seconds": -1}]}');
SELECT lakehouse.create_job('j', '{"max_concurrent_runs": 0, "tasks": [{"task_key": "a", "run": true}]}');
SELECT lakehouse.create_job('j', '{"queue": {"enable": true}, "tasks": [{"task_key": "a", "run": true}]}');
SELECT lakehouse.create_job('j', '{"parameters": {"p": [1]}, "tasks": [{"task_key": "a", "run": true}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "source": "no_such"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "flow": "no_such"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": ""}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "SELEC 1"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "BEGIN; SELECT 1; COMMIT"}]}');
SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "COPY log FROM STDIN"}]}');

-- hints may hold numbers of runs from here on
\set VERBOSITY terse
-- ------------------------------------------------------- a run in this session
SELECT lakehouse.create_job('pipeline', '{
    "parameters": {"env": "dev", "size": 3},
    "tasks": [
        {"task_key": "load", "sql": "INSERT INTO log (entry) VALUES (''load '' || lakehouse.param(''env'')); INSERT INTO log (entry) SELECT ''row '' || i FROM generate_series(1, lakehouse.param(''size'')::int) i"},
        {"task_key": "y2014", "depends_on": ["load"], "parameters": {"year": 2014, "env": "never"},
         "sql": "INSERT INTO log (entry) VALUES (lakehouse.param(''year'') || '' '' || lakehouse.param(''env''))"},
        {"task_key": "y2015", "depends_on": [{"task_key": "load"}], "parameters": {"year": 2015},
         "sql": "INSERT INTO log (entry) VALUES (lakehouse.param(''year'') || '' '' || lakehouse.param(''env''))"},
        {"task_key": "settings", "depends_on": ["y2014", "y2015"],
         "sql": "INSERT INTO log (entry) VALUES (current_setting(''TimeZone'') || '' '' || current_setting(''search_path''))"}]}');
SELECT lakehouse.create_job('pipeline', '{"tasks": [{"task_key": "a", "run": true}]}');
SET timezone = 'Asia/Tokyo';
SELECT lakehouse.run_job('pipeline') AS run \gset
RESET timezone;
SELECT entry FROM log ORDER BY n;
SELECT task_key, attempt, state, parameters, result FROM lakehouse.task_run_status WHERE run_id = :run ORDER BY task_key;
SELECT job, cause, state, tasks_succeeded, tasks_failed, tasks_open FROM lakehouse.job_run_status WHERE run_id = :run;

-- parameters of the run beat those of the job, those beat the task's
TRUNCATE log;
SELECT lakehouse.run_job('pipeline', '{"env": "prod", "year": 2020, "size": 0}') > 0 AS done;
SELECT entry FROM log WHERE entry NOT LIKE 'UTC%' ORDER BY n;
SELECT lakehouse.run_job('pipeline', '{"siez": 4}');
SELECT lakehouse.run_job('pipeline', '{"env": {}}');
SELECT lakehouse.run_job('pipeline', '1');
SELECT lakehouse.run_job('no_such');
SELECT lakehouse.param('env');

-- -------------------------------------------------------------- failing tasks
SELECT lakehouse.create_job('failing', '{"tasks": [
    {"task_key": "bad", "sql": "INSERT INTO log (entry) VALUES (''must not stay''); SELECT 1/0", "max_retries": 2},
    {"task_key": "after_bad", "depends_on": ["bad"], "sql": "SELECT 1"},
    {"task_key": "done", "depends_on": ["bad", "good"], "run_if": "ALL_DONE", "sql": "SELECT 1"},
    {"task_key": "one_failed", "depends_on": ["bad", "good"], "run_if": "AT_LEAST_ONE_FAILED", "sql": "SELECT 1"},
    {"task_key": "all_failed", "depends_on": ["bad", "good"], "run_if": "ALL_FAILED", "sql": "SELECT 1"},
    {"task_key": "one_success", "depends_on": ["bad", "good"], "run_if": "AT_LEAST_ONE_SUCCESS", "sql": "SELECT 1"},
    {"task_key": "none_failed", "depends_on": ["bad", "good"], "run_if": "NONE_FAILED", "sql": "SELECT 1"},
    {"task_key": "excluded_counts_as_success", "depends_on": ["all_failed", "good"], "sql": "SELECT 1"},
    {"task_key": "all_excluded", "depends_on": ["all_failed"], "run_if": "ALL_DONE", "sql": "SELECT 1"},
    {"task_key": "good", "sql": "SELECT 1"}]}');
TRUNCATE log;
SELECT lakehouse.run_job('failing') AS run \gset
SELECT task_key, attempt, state, sqlstate, error FROM lakehouse.task_run_status WHERE run_id = :run ORDER BY task_key COLLATE "C", attempt;
SELECT state, error, tasks_succeeded, tasks_failed FROM lakehouse.job_run_status WHERE run_id = :run;
SELECT count(*) AS left_behind FROM log;

-- a failure that a later task takes care of does not fail the run
SELECT lakehouse.alter_job('failing', '{"tasks": [
    {"task_key": "bad", "sql": "SELECT 1/0"},
    {"task_key": "repair", "depends_on": ["bad"], "run_if": "AT_LEAST_ONE_FAILED", "sql": "SELECT 1"}]}');
SELECT lakehouse.run_job('failing') AS run \gset
SELECT state, error FROM lakehouse.job_run_status WHERE run_id = :run;

-- undefined parameter, time-out, and a procedure that commits, which needs a worker
CREATE PROCEDURE commits(k int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..k LOOP
        INSERT INTO log (entry) VALUES ('part ' || i);
        COMMIT;
    END LOOP;
END $$;
SELECT lakehouse.create_job('odd', '{"tasks": [
    {"task_key": "param", "sql": "SELECT lakehouse.param(''missing'')"},
    {"task_key": "slow", "sql": "SELECT pg_sleep(60)", "timeout_seconds": 1, "max_retries": 3},
    {"task_key": "commits", "sql": "CALL commits(2)"}]}');
SELECT lakehouse.run_job('odd') AS run \gset
SELECT task_key, attempt, state, sqlstate, error FROM lakehouse.task_run_status WHERE run_id = :run ORDER BY task_key, attempt;

-- a run in a transaction that rolls back leaves nothing
BEGIN;
SELECT lakehouse.run_job('pipeline') > 0 AS done;
ROLLBACK;
SELECT count(*) FROM lakehouse.job_run_status WHERE job = 'pipeline';

-- ---------------------------------------------------------- pause, queue, drop
SELECT lakehouse.pause_job('pipeline', 'audit');
SELECT job, state, reason, last_state FROM lakehouse.job_status ORDER BY job;
SELECT lakehouse.run_job('pipeline');
SELECT lakehouse.enqueue_job('pipeline') AS run \gset
SELECT state, cause, error FROM lakehouse.job_run_status WHERE run_id = :run;
SELECT lakehouse.enqueue_job('pipeline', cause => 'whim');
SELECT lakehouse.resume_job('pipeline');
SELECT state, reason FROM lakehouse.job_status WHERE job = 'pipeline';
BEGIN;
SELECT lakehouse.enqueue_job('pipeline') AS first \gset
SELECT lakehouse.enqueue_job('pipeline') AS second \gset
SELECT state, cause, error FROM lakehouse.job_run_status WHERE run_id IN (:first, :second) ORDER BY run_id;
SELECT lakehouse.run_job('pipeline');
ROLLBACK;
BEGIN;
SELECT lakehouse.enqueue_job('pipeline') AS run \gset
SELECT lakehouse.cancel_job_run(:run);
SELECT lakehouse.cancel_job_run(:run);
SELECT state, error LIKE 'canceled by %' AS by_whom FROM lakehouse.job_run_status WHERE run_id = :run;
SELECT lakehouse.enqueue_job('pipeline') > 0 AS queued;
SELECT lakehouse.drop_job('pipeline');
ROLLBACK;
SELECT lakehouse.cancel_job_run(0);

-- ------------------------------------------------------------------ by workers
CREATE PROCEDURE wait_for_run(run bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM lakehouse.job_run_status WHERE run_id = run AND finished IS NOT NULL);
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
TRUNCATE log;
SELECT lakehouse.create_job('background', '{"tasks": [
    {"task_key": "commits", "sql": "CALL commits(2); INSERT INTO log (entry) VALUES (''last'')"},
    {"task_key": "half", "depends_on": ["commits"], "sql": "CALL commits(1); SELECT 1/0"},
    {"task_key": "vacuum", "depends_on": ["half"], "run_if": "ALL_DONE", "sql": "VACUUM log"}]}');
SELECT lakehouse.run_job('background', wait => false) AS run \gset
CALL wait_for_run(:run);
SELECT task_key, attempt, state, result, sqlstate, error FROM lakehouse.task_run_status WHERE run_id = :run ORDER BY task_key, attempt;
SELECT entry FROM log ORDER BY n;
SELECT state, error FROM lakehouse.job_run_status WHERE run_id = :run;

-- -------------------------------------------------------------------- pg_cron
\set VERBOSITY default
SELECT lakehouse.unschedule_job('pipeline');
SELECT lakehouse.schedule_job('pipeline', '*/5 * * * *');

\set VERBOSITY terse
SELECT cron, lakehouse.next_cron_time(cron, '2014-12-31 23:58:30+00') AT TIME ZONE 'UTC' AS next_run
  FROM (VALUES ('* * * * *'), ('*/5 * * * *'), ('0 0 * * *'), ('30 6,18 * * 1-5'), ('15 4 * feb sun'), ('0 12 13 * 5'),
               ('0 0 29 2 *'), ('0 0 29 2 mon'), ('10-50/20 23 31 12 *'), ('0 0 31 2 *'), ('0 0 1 * 7'),
               ('60 * * * *'), ('* * * *'), ('* * * * * *'), ('30 seconds'), ('@daily'), ('5-1 * * * *'), ('*/0 * * * *'), ('')) v(cron);
SELECT lakehouse.next_cron_time('*/7 1 * * *', '1969-12-31 23:59:59.5+00') AT TIME ZONE 'UTC' AS before_2000;
-- ------------------------------------------------------------------ other roles
CREATE ROLE lakehouse_job_other;
SELECT lakehouse.grant_use('lakehouse_job_other');
SET ROLE lakehouse_job_other;
SELECT count(*) FROM lakehouse.job_status;
SELECT count(*) FROM lakehouse.job_run_status;
SELECT count(*) FROM lakehouse.task_run_status;
SELECT count(*) FROM lakehouse.worker_status;
SELECT lakehouse.run_job('pipeline');
SELECT lakehouse.alter_job('pipeline', '{"tasks": [{"task_key": "a", "run": true}]}');
SELECT lakehouse.create_job('pipeline', '{"tasks": [{"task_key": "a", "run": true}]}', replace => true);
SELECT lakehouse.drop_job('pipeline');
SELECT lakehouse.pause_job('pipeline');
SELECT lakehouse.cancel_job_run(:run);
-- runs as its owner, whoever asks
SELECT lakehouse.create_job('other', '{"tasks": [{"task_key": "a", "sql": "SELECT * FROM job_test.log"}]}');
RESET ROLE;
SELECT lakehouse.run_job('other') AS run \gset
SELECT state, sqlstate, error FROM lakehouse.task_run_status WHERE run_id = :run;
-- an owner that may not log in is named, not retried in silence
SELECT lakehouse.run_job('other', wait => false) AS run \gset
CALL wait_for_run(:run);
SELECT state, sqlstate, error FROM lakehouse.task_run_status WHERE run_id = :run;

SET client_min_messages = warning;
SELECT lakehouse.drop_job(job) FROM lakehouse.job_status WHERE job IN ('pipeline', 'failing', 'odd', 'background', 'other');
SELECT count(*) FROM lakehouse.job_run_status;
DROP SCHEMA job_test CASCADE;
DROP OWNED BY lakehouse_job_other;
DROP ROLE lakehouse_job_other;
