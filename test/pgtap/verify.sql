-- lakehouse.verify() says what is right, and finds what was tampered with.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE SCHEMA v;
SELECT plan(24);

CREATE TABLE v.event (id int, grp text, amount numeric);
SELECT lakehouse.create_flow('v_copy', target => 'v.copy', mode => 'append',
    streaming => '{v.event}', query => 'SELECT id, amount FROM v.event WHERE amount > 0');
SELECT lakehouse.create_flow('v_first', target => 'v.first', mode => 'insert_only', keys => '{id}',
    query => 'SELECT id, grp FROM v.event');
SELECT lakehouse.create_flow('v_total', target => 'v.total', mode => 'aggregate',
    query => 'SELECT grp, sum(amount) AS amount, count(*) AS n FROM v.event GROUP BY grp');
INSERT INTO v.event SELECT i, 'g' || i % 3, i FROM generate_series(1, 30) i;

SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v_total'), NULL,
          'a flow with waiting loads is not judged');
SELECT lakehouse.run_flow(f) FROM unnest(ARRAY['v_copy', 'v_first', 'v_total']) f;

SELECT results_eq(
    $$ SELECT object, "check", ok FROM lakehouse.verify() WHERE object LIKE 'v%' ORDER BY object $$,
    $$ VALUES ('v_copy', 'flow', true), ('v_first', 'flow', true), ('v_total', 'flow', true),
              ('v.copy', 'load', true), ('v.event', 'load', true), ('v.first', 'load', true), ('v.total', 'load', true)
       ORDER BY 1 $$,
    'all is well after the run');

SAVEPOINT a;
UPDATE v.total SET amount = amount + 1 WHERE grp = 'g0';
SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v_total'), false, 'a changed total is found');
SELECT alike((SELECT detail FROM lakehouse.verify() WHERE object = 'v_total'), '%1 missing, 1 surplus%',
          'and counted');
ROLLBACK TO a;

DELETE FROM v.copy WHERE id = 7;
SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v_copy'), false, 'a lost row is found');
ROLLBACK TO a;

INSERT INTO v.copy SELECT * FROM v.copy WHERE id = 7;
SELECT alike((SELECT detail FROM lakehouse.verify() WHERE object = 'v_copy'), '%0 missing, 1 surplus%',
          'a doubled row is shown');
SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v.copy'), false,
          'a load that holds more rows than it recorded is an error');
ROLLBACK TO a;

DELETE FROM v.first WHERE id = 3;
SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v_first'), false, 'a lost key is found');
ROLLBACK TO a;

DELETE FROM lakehouse.load WHERE relation = 'v.event'::regclass;
SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v.event'), false, 'rows without a load are found');
ROLLBACK TO a;

-- messages that wait
CREATE SERVER v_cluster FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
INSERT INTO lakehouse.outbox_batch (batch_id, server, owner, home, commit_order)
  SELECT nextval('lakehouse.outbox_batch_id_seq'), 'v_cluster', 10, 'elsewhere', nextval('lakehouse.outbox_commit_order_seq')
    FROM generate_series(1, 2);
INSERT INTO lakehouse.outbox (batch_id, topic, key, key_hash, value)
  SELECT batch_id, 't', 'k', 1, 'v' FROM lakehouse.outbox_batch WHERE server = 'v_cluster';
CREATE FUNCTION pg_temp.outbox() RETURNS text LANGUAGE sql AS
  $$ SELECT string_agg(concat_ws(' ', regexp_replace(object, ': .*', ''), ok, detail), ', ') FROM lakehouse.verify() WHERE "check" = 'outbox' $$;
SELECT is(pg_temp.outbox(), 'v_cluster t 2 messages in 2 batches, 0 refused', 'messages that wait are whole');
SAVEPOINT b;
DELETE FROM lakehouse.outbox WHERE batch_id = (SELECT max(batch_id) FROM lakehouse.outbox_batch);
SELECT is(pg_temp.outbox(), 'v_cluster f 1 messages in 2 batches, 0 refused; 1 batches without messages', 'a batch that is stranded is found');
ROLLBACK TO b;
DELETE FROM lakehouse.outbox_batch WHERE batch_id = (SELECT max(batch_id) FROM lakehouse.outbox_batch);
SELECT alike(pg_temp.outbox(), '%, messages without a batch f 1 messages belong to no transaction; the first one has number %', 'a message that nobody would send is found');
ROLLBACK TO b;
UPDATE lakehouse.outbox_batch SET commit_order = (SELECT max(commit_order) FROM lakehouse.outbox_batch) WHERE server = 'v_cluster';
SELECT alike(pg_temp.outbox(), 'v_cluster f %; 1 places taken twice', 'two transactions in one place are found');
ROLLBACK TO b;
UPDATE lakehouse.outbox_batch SET commit_order = commit_order + 1000 WHERE server = 'v_cluster';
SELECT alike(pg_temp.outbox(), 'v_cluster f %; 2 batches with numbers that were never given', 'places that others will take are found');
ROLLBACK TO b;
UPDATE lakehouse.outbox SET key_hash = NULL WHERE topic = 't';
SELECT alike(pg_temp.outbox(), 'v_cluster f %; 2 messages whose key or state is not whole', 'a message that would lose its place is found');
ROLLBACK TO b;
UPDATE lakehouse.outbox_batch SET owner = 999999;
SELECT alike(pg_temp.outbox(), 'v_cluster f %; the role does not exist', 'messages of a role that is gone are found');
ROLLBACK TO b;
DROP SERVER v_cluster;
SELECT alike(pg_temp.outbox(), 'v_cluster f %; the server does not exist', 'messages for a server that is gone are found');
ROLLBACK TO b;

-- flows that send
SELECT lakehouse.create_flow('v_out', mode => 'kafka', server => 'v_cluster', topic => 'o', query => 'SELECT id FROM v.event');
SELECT lakehouse.create_flow('v_upsert', mode => 'upsert_kafka', server => 'v_cluster', topic => 'u', keys => '{grp}',
    query => 'SELECT grp, count(*) AS n FROM v.event GROUP BY grp');
SELECT lakehouse.run_flow(f) FROM unnest(ARRAY['v_out', 'v_upsert']) f;
SELECT results_eq($$ SELECT ok, detail FROM lakehouse.verify() WHERE object IN ('v_out', 'v_upsert') ORDER BY object $$,
    $$ VALUES (true, 'recomputed: 30 rows; its runs wrote 30 messages and 0 tombstones'), (true, 'recomputed: 3 keys; its runs wrote 3 messages and 0 tombstones') $$,
    'flows that send have sent everything');
SELECT is((SELECT count(*) FROM lakehouse.verify() WHERE "check" = 'outbox' AND NOT ok), 0::bigint, 'messages of this transaction are no strays');
UPDATE lakehouse.flow_run SET inserted = inserted - 1 WHERE flow_id IN (SELECT flow_id FROM lakehouse.flow WHERE name IN ('v_out', 'v_upsert'));
SELECT results_eq($$ SELECT ok, detail FROM lakehouse.verify() WHERE object IN ('v_out', 'v_upsert') ORDER BY object $$,
    $$ VALUES (false, 'recomputed: 30 rows; its runs wrote 29 messages and 0 tombstones; some rows were never sent'),
              (false, 'recomputed: 3 keys; its runs wrote 2 messages and 0 tombstones; some keys were never sent') $$,
    'rows that were never sent are found');
DROP SERVER v_cluster;
SELECT is((SELECT detail FROM lakehouse.verify() WHERE object = 'v_out'), 'server "v_cluster", which its messages go to, does not exist',
    'a flow whose server is gone is found');
ROLLBACK TO b;

CREATE ROLE v_reader;
SELECT lakehouse.grant_use('v_reader');
SET LOCAL ROLE v_reader;
SELECT is((SELECT ok FROM lakehouse.verify() WHERE object = 'v.event'), NULL,
          'a table that the caller may not read is not judged');
SELECT is((SELECT count(*) FROM lakehouse.verify() WHERE "check" = 'flow'), 0::bigint,
          'flows of others are not shown');
SELECT throws_ok('SELECT * FROM lakehouse.load', '42501', NULL, 'the catalog itself is closed');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
