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

-- Kafka
CREATE SERVER rej_kafka FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
INSERT INTO lakehouse.source (name, owner, server, kind, target, topics, home)
VALUES ('rej_kafka', current_user::regrole, 'rej_kafka', 'kafka', 'rej.prices', '{a}', 'here');
SELECT * FROM lakehouse.replay_rejects('rej_kafka');
DELETE FROM lakehouse.source WHERE name = 'rej_kafka';

SELECT lakehouse.drop_source('rej');
DROP SERVER rej_landing;
DROP SERVER rej_kafka;
SET client_min_messages = warning;
DROP SCHEMA rej CASCADE;
\! rm -rf "$LANDING"
