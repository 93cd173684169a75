-- lakehouse.merge_scd1: published vectors, traps of hand-written merges, messages.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lakehouse;
CREATE SCHEMA merge_test;
SET search_path = merge_test;
SET datestyle = 'ISO, MDY';
SET timezone = 'UTC';

-- ------------------------------------------------------------- vector A
CREATE TABLE cdc (id int GENERATED ALWAYS AS IDENTITY, user_id int, name text, city text, op text, seq int);
INSERT INTO cdc (user_id, name, city, op, seq) VALUES
    (124, 'Raul', 'Oaxaca', 'I', 1), (123, 'Isabel', 'Monterrey', 'I', 1),
    (125, 'Mercedes', 'Tijuana', 'I', 2), (126, 'Lily', 'Cancun', 'I', 2),
    (123, NULL, NULL, 'D', 6), (125, 'Mercedes', 'Guadalajara', 'U', 6),
    (125, 'Mercedes', 'Mexicali', 'U', 5), (123, 'Isabel', 'Chihuahua', 'U', 5);

-- the sequence in the target, all in one call
CREATE TABLE users (user_id int PRIMARY KEY, name text, city text, seq int);
SELECT * FROM lakehouse.merge_scd1('users', 'SELECT user_id, name, city, op, seq FROM cdc',
    '{user_id}', '{seq}', $$op = 'D'$$, '{op}');
SELECT * FROM users ORDER BY user_id;
-- and again
SELECT * FROM lakehouse.merge_scd1('users', 'SELECT user_id, name, city, op, seq FROM cdc',
    '{user_id}', '{seq}', $$op = 'D'$$, '{op}');

-- the sequence apart, one change at a time, newest first
CREATE TABLE users_apart (user_id int PRIMARY KEY, name text, city text);
DO $$
DECLARE
    change record;
BEGIN
    FOR change IN SELECT id FROM merge_test.cdc ORDER BY seq DESC, id LOOP
        PERFORM lakehouse.merge_scd1('merge_test.users_apart',
            'SELECT user_id, name, city, op, seq FROM merge_test.cdc WHERE id = ' || change.id,
            '{user_id}', '{seq}', $when$op = 'D'$when$, '{op,seq}');
    END LOOP;
END $$;
SELECT * FROM users_apart ORDER BY user_id;

-- ------------------------------------------------------------- vector B
CREATE TABLE b (k int PRIMARY KEY, v text, seq int);
CREATE FUNCTION change(k int, v text, seq int, op text DEFAULT 'U') RETURNS text LANGUAGE sql AS $$
    SELECT format('in %s, inserted %s, updated %s, deleted %s, unchanged %s, rejected %s',
                  rows_in, inserted, updated, deleted, unchanged, rejected)
      FROM lakehouse.merge_scd1('merge_test.b',
           format('SELECT %s::int AS k, %L AS v, %s::int AS seq, %L AS op', coalesce(k::text, 'NULL'), v, coalesce(seq::text, 'NULL'), op),
           '{k}', '{seq}', $when$op = 'D'$when$, '{op}') $$;
-- 1: exact duplicate and replay
SELECT change(1, 'a', 10), change(1, 'a', 10);
-- 2: 12, then late 10
SELECT change(2, 'twelve', 12), change(2, 'ten', 10);
-- 3: two payloads at one sequence: the greater by value, in either order
SELECT change(3, 'x', 5), change(3, 'y', 5);
SELECT change(4, 'y', 5), change(4, 'x', 5);
-- 5: a sparse update: NULL overwrites
SELECT change(5, 'full', 1), change(5, NULL, 2);
-- 6: delete at 20, late 18
SELECT change(6, 'a', 17), change(6, NULL, 20, 'D'), change(6, 'late', 18);
-- 7: a whole life replayed
SELECT change(7, 'a', 10), change(7, 'b', 20), change(7, 'c', 30), change(7, 'd', 40), change(7, NULL, 50, 'D');
SELECT change(7, 'a', 10), change(7, 'b', 20), change(7, 'c', 30), change(7, 'd', 40), change(7, NULL, 50, 'D');
-- R3: equal sequences: the upsert beats the delete, in either order
SELECT change(8, 'stays', 1), change(8, NULL, 1, 'D');
SELECT change(9, NULL, 1, 'D'), change(9, 'stays', 1);
-- R5, R6: a delete for an unknown key is remembered, a newer change revives it
SELECT change(10, NULL, 5, 'D'), change(10, 'older', 4), change(10, 'newer', 6);
-- a NULL in delete_when is no delete
SELECT change(11, 'kept', 1, NULL);
SELECT * FROM b ORDER BY k;

-- ------------------------------------------------------------- traps
-- the server's own order would let a NULL sequence win; here it stops the call
SELECT change(1, 'null', NULL);
SELECT change(NULL, 'null', 1);
-- in a table with loads such rows become rejects and the good ones go on
CREATE TABLE in_users (user_id int, name text, updated int);
CREATE TABLE managed (user_id int PRIMARY KEY, name text, updated int);
SELECT lakehouse.create_flow('merge_test', target => 'merge_test.managed', mode => 'scd1',
    keys => '{user_id}', sequence_by => '{updated}', streaming => '{merge_test.in_users}',
    query => 'SELECT user_id, name, updated FROM merge_test.in_users');
INSERT INTO in_users VALUES (1, 'good', 1), (NULL, 'no key', 1), (2, 'no sequence', NULL);
SELECT rows_in, inserted, updated, deleted FROM lakehouse.run_flow('merge_test');
SELECT * FROM lakehouse.merge_scd1('managed', 'SELECT 3 AS user_id, ''by hand'' AS name, NULL::int AS updated',
    '{user_id}', '{updated}');
SELECT user_id, name, updated FROM managed ORDER BY 1;
SELECT r.flow_id IS NOT NULL AS of_flow, stage, sqlstate, message, column_name, convert_from(raw, 'UTF8') AS raw
  FROM lakehouse.reject r JOIN lakehouse.load USING (load_id)
 WHERE relation = 'managed'::regclass ORDER BY reject_id;
SELECT lakehouse.drop_flow('merge_test');

-- two new rows of one key: inserted once
TRUNCATE b;
SELECT * FROM lakehouse.merge_scd1('b', $$VALUES (20, 'x', 1), (20, 'y', 1)$$, '{column1}', '{column3}');
SELECT inserted, unchanged FROM lakehouse.merge_scd1('b', $$SELECT * FROM (VALUES (20, 'x', 1), (20, 'y', 1)) n(k, v, seq)$$, '{k}', '{seq}', NULL);
-- a sequence of several columns; a tie of the first is decided by the second
CREATE TABLE pairs (k int PRIMARY KEY, v text, day date, n int);
SELECT inserted, updated, unchanged FROM lakehouse.merge_scd1('pairs',
    $$SELECT * FROM (VALUES (1, 'a', date '2014-01-01', 2), (1, 'b', '2014-01-01', 10), (1, 'z', '2013-12-31', 99)) e(k, v, day, n)$$,
    '{k}', '{day,n}');
SELECT * FROM pairs;
-- numbers that are equal but look different, and types without an order
CREATE TABLE looks (k numeric PRIMARY KEY, j json, seq numeric);
SELECT inserted, updated FROM lakehouse.merge_scd1('looks', $$SELECT 1.0 AS k, '{"a":1}'::json AS j, 1.0 AS seq$$, '{k}', '{seq}');
SELECT inserted, updated FROM lakehouse.merge_scd1('looks', $$SELECT 1.00 AS k, '{"a":1}'::json AS j, 1.00 AS seq$$, '{k}', '{seq}');
SELECT inserted, updated FROM lakehouse.merge_scd1('looks', $$SELECT 1.0 AS k, '{"a":1}'::json AS j, 1.0 AS seq$$, '{k}', '{seq}');
SELECT * FROM looks;
-- casts and lengths as INSERT; defaults of columns that the query does not give
CREATE TABLE typed (k bigint PRIMARY KEY, v varchar(3), seq float4, note text DEFAULT 'new', made timestamptz DEFAULT now());
SELECT inserted FROM lakehouse.merge_scd1('typed', $$SELECT 1::int AS k, 'abc' AS v, 1.5::float8 AS seq$$, '{k}', '{seq}');
UPDATE typed SET note = 'kept';
SELECT updated FROM lakehouse.merge_scd1('typed', $$SELECT 1::int AS k, 'xyz' AS v, 2.5::float8 AS seq$$, '{k}', '{seq}');
SELECT k, v, seq, note, made = now() AS made_now FROM typed;
SELECT lakehouse.merge_scd1('typed', $$SELECT 1::int AS k, 'too long' AS v, 3.5::float8 AS seq$$, '{k}', '{seq}');

-- ------------------------------------------------------------- messages
SELECT lakehouse.merge_scd1(NULL, 'SELECT 1', '{k}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'DELETE FROM b RETURNING *', '{k}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k,k}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{nokey}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT v, seq FROM b', '{k}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT *, 1 AS surplus, 2 AS more FROM b', '{k}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT *, 1 AS k FROM b', '{k}', '{seq}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{seq}', NULL, '{nothing}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{seq}', NULL, '{k}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{nosequence}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{random()}');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{seq}', '(SELECT true)');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{seq}', 'true) FROM b WHERE (true');
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{seq}', 'v');
SELECT lakehouse.merge_scd1('b', 'SELECT k, now() AS v, true AS seq FROM b', '{k}', '{seq}');
\set VERBOSITY terse
SELECT lakehouse.merge_scd1('b', 'SELECT * FROM b', '{k}', '{v}');
\set VERBOSITY default
CREATE TABLE nokey (k json, v text, seq int);
SELECT lakehouse.merge_scd1('nokey', 'SELECT * FROM nokey', '{k}', '{seq}');
CREATE TABLE twice (k int, seq int);
INSERT INTO twice VALUES (1, 1), (1, 2);
SELECT lakehouse.merge_scd1('twice', 'SELECT * FROM twice', '{k}', '{seq}');
CREATE TABLE made (k int PRIMARY KEY, seq int, twice int GENERATED ALWAYS AS (seq * 2) STORED);
SELECT lakehouse.merge_scd1('made', 'SELECT * FROM made', '{k}', '{seq}');
CREATE TABLE parts (k int, day date, seq int) PARTITION BY RANGE (day);
SELECT lakehouse.merge_scd1('parts', 'SELECT * FROM parts', '{k}', '{seq}');
CREATE VIEW seen AS SELECT * FROM b;
SELECT lakehouse.merge_scd1('seen', 'SELECT * FROM b', '{k}', '{seq}');

-- ------------------------------------------- partitions, side table, index
CREATE TABLE parts_2014 PARTITION OF parts FOR VALUES FROM ('2014-01-01') TO ('2015-01-01');
CREATE TABLE parts_2015 PARTITION OF parts FOR VALUES FROM ('2015-01-01') TO ('2016-01-01');
SELECT * FROM lakehouse.merge_scd1('parts', $$SELECT * FROM (VALUES (1, date '2014-02-03', 1), (1, '2015-02-03', 1), (1, '2014-02-03', 2)) e(k, day, seq)$$, '{k,day}', '{seq}');
SELECT tableoid::regclass, * FROM parts ORDER BY 2, 3;
SELECT indexdef FROM pg_indexes WHERE tablename = 'parts' ORDER BY 1;
SELECT relation, keys, sequence_by, live FROM lakehouse.merge_target
 WHERE relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'merge_test'::regnamespace) ORDER BY relation::text;
-- the side table goes with its target
SELECT count(*) AS side_tables FROM pg_tables WHERE schemaname = 'lakehouse_data' AND tablename LIKE 'tombstone%' \gset before_
DROP TABLE users, users_apart;
SELECT :before_side_tables - count(*) AS gone FROM pg_tables WHERE schemaname = 'lakehouse_data' AND tablename LIKE 'tombstone%';

RESET search_path;
DROP SCHEMA merge_test CASCADE;
