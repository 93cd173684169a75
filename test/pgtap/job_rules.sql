-- Jobs: SQLSTATEs, and the truth table of run_if.
BEGIN;
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(24);
CREATE SCHEMA job_rules;
SET search_path = job_rules, public;

SELECT throws_ok($$ SELECT lakehouse.create_job('j', '{"tasks": []}') $$, '22023', NULL, 'no tasks');
SELECT throws_ok($$ SELECT lakehouse.create_job('j', NULL) $$, '22004', NULL, 'no definition');
SELECT throws_ok($$ SELECT lakehouse.create_job('', '{"tasks": [{"task_key": "a", "run": true}]}') $$, '42602', NULL, 'no name');
SELECT throws_ok($$ SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "source": "none"}]}') $$, '42704', NULL, 'no such source');
SELECT throws_ok($$ SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "flow": "none"}]}') $$, '42704', NULL, 'no such flow');
SELECT throws_ok($$ SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "SELEC"}]}') $$, '42601', NULL, 'a syntax error');
SELECT throws_ok($$ SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "COMMIT"}]}') $$, '0A000', NULL, 'transaction control');
SELECT throws_ok($$ SELECT lakehouse.run_job('none') $$, '42704', NULL, 'run_job: no such job');
SELECT throws_ok($$ SELECT lakehouse.drop_job('none') $$, '42704', NULL, 'drop_job: no such job');
SELECT throws_ok($$ SELECT lakehouse.param('p') $$, '55000', NULL, 'param outside of a task');
SELECT is(lakehouse.param(NULL), NULL, 'param of NULL is NULL');
SELECT throws_ok($$ SELECT lakehouse.cancel_job_run(NULL) $$, '22004', NULL, 'cancel_job_run: no number');
SELECT throws_ok($$ SELECT lakehouse.cancel_job_run(-1) $$, '42704', NULL, 'cancel_job_run: no such run');

SELECT lives_ok($$ SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "SELECT 1"}]}') $$, 'a job');
SELECT throws_ok($$ SELECT lakehouse.create_job('j', '{"tasks": [{"task_key": "a", "sql": "SELECT 1"}]}') $$, '42710', NULL, 'the same name again');
SELECT throws_ok($$ SELECT lakehouse.unschedule_job('j') $$, '55000', NULL, 'no schedule');
SELECT throws_ok($$ SELECT lakehouse.run_job('j', '{"p": 1}') $$, '22023', NULL, 'a parameter that is not declared');
SELECT lakehouse.pause_job('j');
SELECT throws_ok($$ SELECT lakehouse.run_job('j') $$, '55000', NULL, 'paused');
SELECT lakehouse.resume_job('j');
SELECT lives_ok($$ SELECT lakehouse.enqueue_job('j') $$, 'a run is queued');
SELECT throws_ok($$ SELECT lakehouse.run_job('j') $$, '55006', NULL, 'no more runs than max_concurrent_runs');
SELECT throws_ok($$ SELECT lakehouse.drop_job('j') $$, '55006', NULL, 'drop while a run is open');
CREATE ROLE job_rules_other;
GRANT USAGE ON SCHEMA job_rules TO job_rules_other;
GRANT CREATE ON SCHEMA job_rules TO job_rules_other;
SELECT lakehouse.grant_use('job_rules_other');
CREATE TABLE caught (sqlstate text);
GRANT INSERT ON caught TO job_rules_other;
SET ROLE job_rules_other;
DO $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        $q$SELECT lakehouse.run_job('j')$q$, $q$SELECT lakehouse.enqueue_job('j')$q$, $q$SELECT lakehouse.pause_job('j')$q$,
        $q$SELECT lakehouse.resume_job('j')$q$, $q$SELECT lakehouse.drop_job('j')$q$, $q$SELECT lakehouse.schedule_job('j', '* * * * *')$q$,
        $q$SELECT lakehouse.unschedule_job('j')$q$, $q$SELECT lakehouse.alter_job('j', '{}')$q$,
        $q$SELECT lakehouse.create_job('j', '{}', true)$q$] LOOP
        BEGIN
            EXECUTE statement;
            INSERT INTO caught VALUES (statement);
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO caught VALUES (SQLSTATE);
        END;
    END LOOP;
END $$;
RESET ROLE;
SELECT results_eq('SELECT sqlstate, count(*) FROM caught GROUP BY 1', $$ VALUES ('42501', 9::bigint) $$,
    'nobody but the owner may use a job');

-- Two predecessors of every kind of end, all six conditions. s: succeeded, f:
-- failed, x: excluded.
CREATE TABLE expected (run_if text, upstream text, state text);
INSERT INTO expected
SELECT run_if, (ARRAY['ss', 'sf', 'sx', 'ff', 'fx', 'xx'])[i],
       CASE states[i] WHEN 'r' THEN 'succeeded' WHEN 'u' THEN 'upstream_failed' ELSE 'excluded' END
  FROM (VALUES ('ALL_SUCCESS',          '{r,u,r,u,u,e}'::text[]),
               ('AT_LEAST_ONE_SUCCESS', '{r,r,r,u,u,e}'),
               ('NONE_FAILED',          '{r,u,r,u,u,e}'),
               ('ALL_DONE',             '{r,r,r,r,r,e}'),
               ('AT_LEAST_ONE_FAILED',  '{e,r,e,r,r,e}'),
               ('ALL_FAILED',           '{e,e,e,r,e,e}')) t(run_if, states), generate_series(1, 6) i;
SELECT lakehouse.create_job('truth', jsonb_build_object('tasks',
    '[{"task_key": "s1", "sql": "SELECT 1"}, {"task_key": "s2", "sql": "SELECT 1"},
      {"task_key": "f1", "sql": "SELECT 1/0"}, {"task_key": "f2", "sql": "SELECT 1/0"},
      {"task_key": "x1", "sql": "SELECT 1", "depends_on": ["s1"], "run_if": "ALL_FAILED"},
      {"task_key": "x2", "sql": "SELECT 1", "depends_on": ["s1"], "run_if": "ALL_FAILED"}]'::jsonb
    || (SELECT jsonb_agg(jsonb_build_object('task_key', run_if || '-' || upstream, 'run_if', run_if, 'sql', 'SELECT 1',
                                            'depends_on', jsonb_build_array(left(upstream, 1) || 1, right(upstream, 1) || 2)))
          FROM expected)));
CREATE TABLE run AS SELECT lakehouse.run_job('truth') AS run_id;
SELECT is((SELECT count(*) FROM expected), 36::bigint, '36 cases');
SELECT results_eq(
    $$ SELECT task_key, state FROM lakehouse.task_run_status JOIN run USING (run_id) WHERE task_key LIKE '%-%' ORDER BY task_key COLLATE "C" $$,
    $$ SELECT run_if || '-' || upstream AS task_key, state FROM expected ORDER BY (run_if || '-' || upstream) COLLATE "C" $$,
    'run_if decides as the table says');
SELECT * FROM finish();
ROLLBACK;
