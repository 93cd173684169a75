-- Bad records: options, limits and the replay, as a user meets them.
\getenv builddir PG_ABS_BUILDDIR
\set landing :builddir '/results/rejects_landing'
\setenv LANDING :landing
\! rm -rf "$LANDING"; mkdir -p "$LANDING"; chmod 755 "$LANDING"
\! printf 'id,price\n1,1.5\n2,two\n3,3.5\nx,4.5\n' >"$LANDING/a.csv"
CREATE SCHEMA rej;
CREATE SERVER rej_landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory :'landing');
CREATE TABLE rej.prices (id int, price numeric);

-- what is refused
SELECT lakehouse.create_source('rej', 'rej_landing', 'rej.prices', path => '*.csv', options => '{"mode": "fail_fast"}');
SELECT lakehouse.create_source('rej', 'rej_landing', 'rej.prices', path => '*.csv', options => '{"mode": "failfast", "max_rejects": 1}');
SELECT lakehouse.create_source('rej', 'rej_landing', 'rej.prices', path => '*.csv', options => '{"max_reject_ratio": 2}');
SELECT lakehouse.create_source('rej', 'rej_landing', 'rej.prices', path => '*.csv', options => '{"max_rejects": "many"}');

-- a file that is not good enough is stored not at all
SELECT lakehouse.create_source('rej', 'rej_landing', 'rej.prices', path => '*.csv', options => '{"header": true, "mode": "failfast"}');
SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('rej');
SELECT path, state, rows, rejected, sqlstate, error FROM lakehouse.file_status WHERE source = 'rej';
SELECT lakehouse.alter_source('rej', options => '{"header": true, "max_rejects": 1}');
SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('rej');
SELECT state, sqlstate, error FROM lakehouse.file_status WHERE source = 'rej';
SELECT lakehouse.alter_source('rej', options => '{"header": true, "max_reject_ratio": 0.25}');
SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('rej');
SELECT ingestion_state, rows, sqlstate, last_error FROM lakehouse.cloud_files_state WHERE flow_name = 'rej';
SELECT lakehouse.alter_source('rej', options => '{"header": true}');
SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('rej');
SELECT line, convert_from(raw, 'UTF8') AS raw, state, message FROM lakehouse.reject_status WHERE source = 'rej' ORDER BY reject_id;

-- a fix of the table, and the kept records once more
SELECT * FROM lakehouse.replay_rejects('no_such');
ALTER TABLE rej.prices ALTER price TYPE text;
SELECT * FROM lakehouse.replay_rejects('rej');
SELECT * FROM lakehouse.replay_rejects('rej');
SELECT id, price FROM rej.prices ORDER BY id;
SELECT line, state, message, replayed_at IS NOT NULL AS tried, replayed_load IS NOT NULL AS stored
  FROM lakehouse.reject_status WHERE source = 'rej' ORDER BY reject_id;
SELECT ingestion_state, rows, rejected FROM lakehouse.cloud_files_state WHERE flow_name = 'rej';
ALTER TABLE rej.prices DROP COLUMN price;
SELECT * FROM lakehouse.replay_rejects('rej');
SELECT count(*) FROM lakehouse.load_progress;

-- Kafka: messages as a load keeps them, and one as a former version did
CREATE SERVER rej_kafka FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
CREATE TABLE rej.message (key bytea, value jsonb, "offset" bigint, headers jsonb, _load_id bigint NOT NULL DEFAULT lakehouse.current_load('rej.message'));
INSERT INTO lakehouse.source (name, owner, server, kind, target, topics, home)
VALUES ('rej_kafka', current_user::regrole, 'rej_kafka', 'kafka', 'rej.message', '{a}', 'here');
INSERT INTO lakehouse.reject (source_id, load_id, topic, "partition", "offset", raw, raw_cut, key, headers, timestamp_ms, timestamp_type, stage, sqlstate, message)
SELECT source_id, 0, 'a', 0, m.* FROM lakehouse.source, (VALUES
	(1, '{"x": 1}'::bytea, false, '\xff'::bytea, '[{"key": "n", "value": "1"}, {"key": "n", "value": null}, {"key": "m", "value_base64": "/w=="}]'::jsonb, 0, 0, 'convert', '22021', 'a key'),
	(2, NULL, false, '', NULL, 0, 0, 'store', '23502', 'a tombstone'),
	(3, '{"x": ', false, NULL, NULL, 0, 0, 'convert', '22P02', 'a value'),
	(4, '{"x": ', true, NULL, NULL, 0, 0, 'convert', '54000', 'too long'),
	(5, '{"x": 5}', false, NULL, NULL, NULL, NULL, 'convert', '22021', 'of a former version')) m WHERE name = 'rej_kafka';
SELECT "offset", raw, key, headers, timestamp_ms, timestamp_type, raw_cut, message FROM lakehouse.reject_status WHERE source = 'rej_kafka' ORDER BY "offset";
SELECT * FROM lakehouse.replay_rejects('rej_kafka');
SELECT key, value, "offset", headers, _load_id IS NOT NULL AS loaded FROM rej.message ORDER BY "offset";
SELECT "offset", state, sqlstate, message, replayed_load IS NOT NULL AS stored FROM lakehouse.reject_status WHERE source = 'rej_kafka' ORDER BY "offset";
SELECT l.kind, l.offsets, l.rows, l.rejected, l.bytes FROM lakehouse.load_status l WHERE source = 'rej_kafka';
SELECT * FROM lakehouse.replay_rejects('rej_kafka', max_records => 1);
-- the table has no place for the value any more
ALTER TABLE rej.message DROP value;
SELECT * FROM lakehouse.replay_rejects('rej_kafka');
DELETE FROM lakehouse.reject WHERE topic = 'a';
DELETE FROM lakehouse.source WHERE name = 'rej_kafka';

SELECT lakehouse.drop_source('rej');
DROP SERVER rej_landing;
DROP SERVER rej_kafka;
SET client_min_messages = warning;
DROP SCHEMA rej CASCADE;
\! rm -rf "$LANDING"
