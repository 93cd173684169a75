-- Rules of bad records: options of a source, and who may replay what.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(24);
SET LOCAL client_min_messages = error;
SET LOCAL statement_timeout = '60s';

CREATE FUNCTION pg_temp.shell(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'cat >/dev/null; ' || command); END $$;
SELECT set_config('test.dir', '/tmp/lakehouse_reject_rules_' || pg_backend_pid(), true) AS dir \gset
SELECT pg_temp.shell(format('mkdir -p %1$s; cd %1$s; printf ''id,name\n1,one\nx,two\n'' >a.csv', :'dir'));

CREATE ROLE lh_reject_etl;
CREATE ROLE lh_reject_other;
CREATE ROLE lh_reject_monitor;
GRANT pg_monitor TO lh_reject_monitor;
SELECT lakehouse.grant_use('lh_reject_etl');
SELECT lakehouse.grant_use('lh_reject_other');
SELECT lakehouse.grant_use('lh_reject_monitor');
CREATE SERVER lh_reject FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory :'dir');
CREATE SERVER lh_reject_kafka FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER lh_reject TO lh_reject_etl;
CREATE SCHEMA lh_reject AUTHORIZATION lh_reject_etl;
SET LOCAL ROLE lh_reject_etl;
CREATE TABLE lh_reject.t (id int, name text);

-- options
CREATE FUNCTION pg_temp.with_options(options jsonb) RETURNS void LANGUAGE sql AS $$
SELECT lakehouse.create_source('lh_reject', 'lh_reject', 'lh_reject.t', path => '*.csv', options => options) $$;
SELECT throws_ok($$ SELECT pg_temp.with_options('{"mode": "strict"}') $$, '22023', NULL, 'the mode exists');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"mode": 1}') $$, '22023', NULL, 'the mode is a text');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"max_rejects": -1}') $$, '22023', NULL, 'a limit is not negative');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"max_rejects": 1.5}') $$, '22023', NULL, 'a limit is a whole number');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"max_reject_ratio": 1.1}') $$, '22023', NULL, 'a ratio is at most 1');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"max_reject_ratio": "nan"}') $$, '22023', NULL, 'a ratio is a number');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"mode": "failfast", "max_rejects": 3}') $$, '22023', NULL, 'failfast and a limit contradict');
SELECT throws_ok($$ SELECT pg_temp.with_options('{"max_reject": 3}') $$, '22023', NULL, 'options are known');
SELECT lives_ok($$ SELECT pg_temp.with_options('{"header": true, "mode": "dropmalformed", "max_rejects": "3", "max_reject_ratio": 0.5}') $$, 'all of them at once');
SELECT is((SELECT rejected FROM lakehouse.run_source('lh_reject')), 1::bigint, 'one record is bad');
SELECT is((SELECT concat_ws(' ', state, raw_cut, replayed_at, replayed_load) FROM lakehouse.reject_status WHERE source = 'lh_reject'),
          'dropped f', 'and dropped');

-- privileges
RESET ROLE;
SET LOCAL ROLE lh_reject_other;
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('lh_reject') $$, '42501', NULL, 'only the owner replays');
SELECT is((SELECT count(*) FROM lakehouse.reject_status WHERE source = 'lh_reject'), 0::bigint, 'or sees them');
RESET ROLE;
SET LOCAL ROLE lh_reject_monitor;
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('lh_reject') $$, '42501', NULL, 'a monitor does not');
RESET ROLE;
SET LOCAL ROLE lh_reject_etl;
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('nothing') $$, '42704', NULL, 'the source exists');
SELECT throws_ok($$ SELECT lakehouse.replay_rejects(NULL) $$, '22023', NULL, 'a source is named');
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('lh_reject', max_records => -1) $$, '22023', NULL, 'a limit is not negative');

-- the header must fit the table when the record is read again
ALTER TABLE lh_reject.t RENAME name TO title;
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('lh_reject', (SELECT array_agg(reject_id) FROM lakehouse.reject_status WHERE source = 'lh_reject')) $$,
                 '42703', NULL, 'a header that does not fit is an error');
ALTER TABLE lh_reject.t RENAME title TO name;
ALTER TABLE lh_reject.t ALTER id TYPE text;
SELECT is((SELECT replayed FROM lakehouse.replay_rejects('lh_reject', (SELECT array_agg(reject_id) FROM lakehouse.reject_status WHERE source = 'lh_reject'))),
          1::bigint, 'the owner replays');
SELECT results_eq($$ SELECT id, name FROM lh_reject.t ORDER BY id $$, $$ VALUES ('1', 'one'), ('x', 'two') $$, 'the row is there');
DROP TABLE lh_reject.t;
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('lh_reject') $$, '55000', NULL, 'not without a target');

-- a Kafka source: a member of pg_monitor sees that there is a message, its owner what it is
RESET ROLE;
CREATE TABLE lh_reject.k (value text);
INSERT INTO lakehouse.source (name, owner, server, kind, target, topics, home)
VALUES ('lh_reject_k', current_user::regrole, 'lh_reject_kafka', 'kafka', 'lh_reject.k', '{a}', 'here');
INSERT INTO lakehouse.reject (source_id, load_id, topic, "partition", "offset", raw, key, headers, timestamp_ms, timestamp_type, stage, sqlstate, message)
SELECT source_id, 0, 'a', 0, 1, 'v', 'k', '[{"key": "n", "value": "1"}]', 0, 0, 'convert', '22P02', 'm' FROM lakehouse.source WHERE name = 'lh_reject_k';
SELECT results_eq($$ SELECT raw, key, headers, message FROM lakehouse.reject_status WHERE source = 'lh_reject_k' $$,
                  $$ VALUES ('v'::bytea, 'k'::bytea, '[{"key": "n", "value": "1"}]'::jsonb, 'm') $$, 'the owner sees a message');
CREATE ROLE lh_reject_watcher IN ROLE pg_monitor;
SELECT lakehouse.grant_use('lh_reject_watcher');
SET ROLE lh_reject_watcher;
SELECT results_eq($$ SELECT raw, key, headers, message, "offset" FROM lakehouse.reject_status WHERE source = 'lh_reject_k' $$,
                  $$ VALUES (NULL::bytea, NULL::bytea, NULL::jsonb, NULL::text, 1::bigint) $$, 'who watches sees its place');
SELECT throws_ok($$ SELECT lakehouse.replay_rejects('lh_reject_k') $$, '42501', NULL, 'and does not replay it');
RESET ROLE;

SELECT pg_temp.shell(format('rm -r %s', current_setting('test.dir')));
SELECT * FROM finish();
ROLLBACK;
