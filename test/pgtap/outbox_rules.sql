-- The outbox: what is refused, whom it serves, who sees what.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(46);

CREATE ROLE outbox_etl LOGIN;
CREATE ROLE outbox_evil LOGIN;
SELECT lakehouse.grant_use('outbox_etl');
SELECT lakehouse.grant_use('outbox_evil');
-- nothing answers there: no worker may send what this test writes
CREATE SERVER outbox_cluster FOREIGN DATA WRAPPER lakehouse_kafka
  OPTIONS ("bootstrap.servers" '127.0.0.1:1', "compression.codec" 'zstd', "linger.ms" '10', "message.max.bytes" '2000');
CREATE USER MAPPING FOR outbox_etl SERVER outbox_cluster OPTIONS ("sasl.username" 'etl', "sasl.password" 'very secret');
CREATE SERVER outbox_files FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/tmp');
GRANT USAGE ON FOREIGN SERVER outbox_cluster, outbox_files TO outbox_etl;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO outbox_etl, outbox_evil;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO outbox_etl, outbox_evil;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO outbox_etl, outbox_evil;

SET ROLE outbox_etl;
SELECT lives_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v') $$, 'text');
SELECT lives_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', NULL) $$, 'a tombstone');
SELECT lives_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', NULL, 'v') $$, 'no key');
SELECT lives_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', '\x00'::bytea, '\xff'::bytea) $$, 'bytes');
SELECT lives_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', '{"a": 1}'::jsonb, '{"h": "x"}', 3) $$, 'jsonb, headers and a partition');
SELECT lives_ok($$ SELECT lakehouse.kafka_produce(server => 'outbox_cluster', topic => 't', key => 'k', value => to_jsonb(1), partition => 0) $$, 'arguments by name');
SELECT ok(lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v') < lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v'), 'numbers go up');

-- arguments
SELECT throws_ok($$ SELECT lakehouse.kafka_produce(NULL, 't', 'k', 'v') $$, '22004', 'argument "server" must not be null', 'no server');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', NULL, 'k', 'v') $$, '22004', 'argument "topic" must not be null', 'no topic');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('nowhere', 't', 'k', 'v') $$, '42704', 'server "nowhere" does not exist', 'a server that is not there');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_files', 't', 'k', 'v') $$, '42809', 'server "outbox_files" is no Kafka cluster', 'a landing directory');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', '', 'k', 'v') $$, '22023', NULL, 'an empty topic');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 'a b', 'k', 'v') $$, '22023', NULL, 'a topic with a space');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', '..', 'k', 'v') $$, '22023', NULL, 'a topic of dots');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', repeat('x', 250), 'k', 'v') $$, '22023', NULL, 'a topic too long');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', E'a\n''; DROP TABLE x; --', 'k', 'v') $$, '22023', NULL, 'a topic that is SQL');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v', partition => -1) $$, '22023', 'partition must not be negative', 'a partition below 0');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v', partition => (-2147483648)::integer) $$, '22023', NULL, 'the smallest partition');
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', repeat('v', 2000)) $$, '54000', 'message is too large for server "outbox_cluster"', 'too large');
SELECT throws_ok(format($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v', %L) $$, h), '22023', 'headers are not valid', 'headers ' || h)
  FROM unnest(ARRAY['1', '"x"', 'null', '["x"]', '[{"value": "x"}]', '[{"key": 1, "value": "x"}]', '[{"key": "k", "value": "x", "more": 1}]',
                    '[{"key": "k", "value_base64": "?"}]', '[{"key": "k", "value": "x", "value_base64": ""}]']) h;

-- who
SELECT throws_ok($$ SELECT * FROM lakehouse.outbox $$, '42501', NULL, 'the outbox itself is closed');
SELECT throws_ok($$ INSERT INTO lakehouse.outbox_batch VALUES (1, 'outbox_cluster', 10, '', 1) $$, '42501', NULL, 'nobody writes messages for others');
RESET ROLE;
SET ROLE outbox_evil;
SELECT throws_ok($$ SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v') $$, '42501', NULL, 'USAGE of the server is needed');
SELECT throws_ok($$ SELECT lakehouse.kafka_send('outbox_cluster') $$, '42501', NULL, 'also to send');
SELECT throws_ok($$ CREATE SERVER mine FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '169.254.169.254:80') $$, '42501', NULL, 'nobody names brokers without being allowed to');
SELECT is(lakehouse.kafka_retry('outbox_cluster'), 0::bigint, 'messages of others are not retried');
SELECT is(lakehouse.kafka_discard('outbox_cluster', message_ids => ARRAY(SELECT generate_series(1, 10000))), 0::bigint, 'nor discarded');
SELECT is_empty('SELECT * FROM lakehouse.kafka_outbox', 'nor seen');
SELECT is_empty('SELECT * FROM lakehouse.kafka_outbox_status', 'nor counted');
RESET ROLE;

-- the properties of a producer that decide about order and loss are ours
SELECT throws_ok(format('ALTER SERVER outbox_cluster OPTIONS (ADD %I %L)', p, 'x'), 'HV00D', NULL, 'property ' || p || ' is refused')
  FROM unnest(ARRAY['acks', 'enable.idempotence', 'transactional.id', 'partitioner', 'retries', 'max.in.flight', 'message.timeout.ms',
                    'delivery.report.only.error']) p;

SELECT throws_ok($$ SET TRANSACTION READ ONLY; SELECT lakehouse.kafka_produce('outbox_cluster', 't', 'k', 'v') $$, '25006', NULL, 'not in a read-only transaction');
SELECT * FROM finish();
ROLLBACK;
