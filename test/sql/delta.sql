-- New rows only, in every place of a query: after each run the target holds
-- what the whole query gives.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lakehouse;
CREATE SCHEMA delta_test;
SET search_path = delta_test;

CREATE TABLE a (gone int, id int, k int, v text);
ALTER TABLE a DROP COLUMN gone;
CREATE TABLE b (id int, k int, w int) PARTITION BY LIST (k);
CREATE TABLE b1 PARTITION OF b FOR VALUES IN (1, 2);
CREATE TABLE b2 (w int, k int, id int);
ALTER TABLE b ATTACH PARTITION b2 DEFAULT;
CREATE TABLE fixed (k int, name text);
INSERT INTO fixed VALUES (1, 'one'), (2, 'two'), (3, 'three');
INSERT INTO a (id, k, v) VALUES (1, 1, 'x'), (2, 2, 'y');
INSERT INTO b (id, k, w) VALUES (1, 1, 10);
CREATE VIEW joined AS SELECT a.id AS a_id, b.id AS b_id, a.k FROM a JOIN b ON a.k = b.k;
CREATE VIEW barrier WITH (security_barrier = true) AS SELECT id, k FROM a WHERE v <> 'secret';

CREATE TABLE shape (name text, query text);
INSERT INTO shape VALUES
 ('join', 'SELECT a.id, b.w FROM a JOIN b USING (k)'),
 ('cross', 'SELECT a.id, b.w FROM a, b WHERE a.id < b.w'),
 ('self_join', 'SELECT x.id AS i, y.id AS j FROM a x JOIN a y ON x.k = y.k'),
 ('three', 'SELECT x.id AS i, y.id AS j, b.w FROM a x JOIN a y USING (k) JOIN b USING (k)'),
 ('left_static', 'SELECT a.id, f.name FROM a LEFT JOIN fixed f ON f.k = a.k + 1'),
 ('right_static', 'SELECT a.id, f.name FROM fixed f RIGHT JOIN a ON f.k = a.k + 1'),
 ('left_group_static', 'SELECT a.id, f.n FROM a LEFT JOIN (SELECT k, count(*) AS n FROM fixed GROUP BY k) f USING (k)'),
 ('lateral', 'SELECT a.id, l.w FROM a, LATERAL (SELECT w + a.id AS w FROM b WHERE b.k = a.k) l'),
 ('function', 'SELECT a.id, g FROM a, generate_series(1, a.k) g'),
 ('srf', 'SELECT a.id, unnest(ARRAY[a.k, a.id]) AS u FROM a'),
 ('union_all', 'SELECT id, k FROM a UNION ALL SELECT id, k FROM b UNION ALL (SELECT id, 0 FROM a UNION ALL SELECT w, 1 FROM b)'),
 ('union_all_join', 'SELECT u.id, f.name FROM (SELECT id, k FROM a UNION ALL SELECT id, k FROM b) u JOIN fixed f USING (k)'),
 ('cte', 'WITH c AS (SELECT id, k FROM a), d AS (SELECT c.id, b.w, c.k FROM c JOIN b USING (k)) SELECT d.id AS i, c.id AS j, d.w FROM d JOIN c USING (k)'),
 ('cte_nested', 'WITH c AS (WITH e AS (SELECT id, k FROM a) SELECT x.id AS i, y.id AS j, x.k FROM e x JOIN e y USING (k)) SELECT c.i, c.j, s.n FROM c, LATERAL (SELECT c.i * c.j AS n) s'),
 ('cte_static', 'WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT a.id, r.n FROM a JOIN r ON r.n <= a.k'),
 ('cte_materialized', 'WITH c AS MATERIALIZED (SELECT id, k FROM a WHERE k > 0) SELECT c.id, d.id AS other FROM c, c d WHERE c.id >= d.id'),
 ('view', 'SELECT * FROM joined'),
 ('view_twice', 'SELECT x.a_id, y.b_id FROM joined x JOIN joined y ON x.k = y.k'),
 ('view_barrier', 'SELECT id, name FROM barrier JOIN fixed USING (k)'),
 ('nested', 'SELECT s.id, s.d FROM (SELECT t.id, t.k * 2 AS d FROM (SELECT id, k FROM a WHERE k > 0) t) s'),
 ('whole_row', 'SELECT a.id, (a).v || ''!'' AS v, row_to_json(b)->>''w'' AS w FROM a JOIN b ON a.k = b.k WHERE b IS NOT NULL'),
 ('static_sublinks', 'SELECT id, (SELECT max(name) FROM fixed WHERE fixed.k >= a.k) AS m FROM a WHERE k IN (SELECT k FROM fixed) AND NOT EXISTS (SELECT FROM fixed WHERE name = a.v)'),
 ('cast', 'SELECT id::text AS id, v::char(3) AS v, now() IS NULL AS never FROM a');

CREATE TABLE grouped (name text, query text, keys text[] DEFAULT '{}');
INSERT INTO grouped VALUES
 ('g_join', 'SELECT a.k, count(*) AS n, sum(w) AS s FROM a JOIN b USING (k) GROUP BY a.k'),
 ('g_left', 'SELECT a.v, count(b.w) AS n FROM a LEFT JOIN b ON b.k = a.k GROUP BY a.v'),
 ('g_right', 'SELECT a.v, count(b.w) AS n FROM b RIGHT JOIN a ON b.k = a.k AND b.w > 10 GROUP BY a.v'),
 ('g_anti', 'SELECT a.v, count(*) AS n FROM a LEFT JOIN b ON b.k = a.k WHERE b.w IS NULL GROUP BY a.v'),
 ('g_view', 'SELECT k, count(*) AS n, array_agg(a_id ORDER BY a_id, b_id) AS ids FROM joined GROUP BY k'),
 ('g_union', 'SELECT k, max(id) AS m FROM (SELECT k, id FROM a UNION ALL SELECT k, id FROM b) u GROUP BY k'),
 ('g_expression', 'SELECT k % 2 AS parity, lower(v) AS v, count(*) AS n FROM a GROUP BY k % 2, lower(v) HAVING count(*) < 3'),
 ('g_cte', 'WITH c AS (SELECT k, id FROM a) SELECT x.k, count(*) AS n FROM c x JOIN c y ON x.k = y.k GROUP BY x.k'),
 ('g_distinct', 'SELECT DISTINCT k, v FROM a');
INSERT INTO grouped VALUES
 ('g_rows', 'SELECT a.k, a.id, b.w FROM a JOIN b USING (k)', '{k}'),
 ('g_subset', 'SELECT a.k, a.v, count(*) AS n FROM a JOIN b USING (k) GROUP BY a.k, a.v', '{k}'),
 ('g_distinct_on', 'SELECT DISTINCT ON (k) k, id, v FROM a ORDER BY k, id DESC, v', '{k}');

SELECT count(lakehouse.create_flow('d_' || name, query, target => 'delta_test.t_' || name,
	streaming => CASE WHEN query ~ '\ma\M|joined|barrier' AND query ~ '\mb\M|joined' THEN '{a,b}'
		WHEN query ~ '\mb\M' THEN '{b}' ELSE '{a}' END::text[])) AS append
  FROM shape;
SELECT count(lakehouse.create_flow('d_' || name, query, target => 'delta_test.t_' || name, mode => 'aggregate', keys => keys)) AS aggregate
  FROM grouped;

CREATE FUNCTION wrong() RETURNS TABLE (flow text, lacks bigint, extra bigint) LANGUAGE plpgsql AS $$
DECLARE s record; c text;
BEGIN
	FOR s IN SELECT name, query FROM shape UNION ALL SELECT name, query FROM grouped LOOP
		SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO c FROM pg_attribute
		 WHERE attrelid = ('t_' || s.name)::regclass AND attnum > 0 AND attname <> '_load_id';
		flow := s.name;
		EXECUTE format('SELECT count(*) FROM (SELECT %1$s FROM (%2$s) q EXCEPT ALL SELECT %1$s FROM %3$I) x', c, s.query, 't_' || s.name) INTO lacks;
		EXECUTE format('SELECT count(*) FROM (SELECT %1$s FROM %3$I EXCEPT ALL SELECT %1$s FROM (%2$s) q) x', c, s.query, 't_' || s.name) INTO extra;
		IF lacks + extra > 0 THEN RETURN NEXT; END IF;
	END LOOP;
END $$;

SELECT name, status, error FROM lakehouse.run() WHERE status <> 'succeeded';
SELECT * FROM wrong();
INSERT INTO a (id, k, v) VALUES (3, 1, 'x'), (4, 3, 'z'), (5, NULL, NULL), (6, 2, 'secret');
INSERT INTO b (id, k, w) VALUES (2, 2, 20), (3, 9, 90), (4, NULL, 1);
SELECT name, status, error FROM lakehouse.run() WHERE status <> 'succeeded';
SELECT * FROM wrong();
-- one load at a time: new rows meet rows that still wait
SELECT count(lakehouse.alter_flow(name, max_loads => 1)) AS altered FROM lakehouse.flow_status WHERE name LIKE 'd\_%';
INSERT INTO a (id, k, v) VALUES (7, 1, 'p');
INSERT INTO b (id, k, w) VALUES (5, 1, 50);
INSERT INTO a (id, k, v) VALUES (8, 9, 'q');
INSERT INTO b (id, k, w) VALUES (6, 2, 60), (7, 3, 70);
SELECT name, status, error FROM lakehouse.run() WHERE status <> 'succeeded';
SELECT * FROM wrong();
SELECT min(runs), max(runs) FROM (SELECT count(*) AS runs FROM lakehouse.flow_run_status WHERE name IN ('d_join', 'd_three', 'd_g_join') GROUP BY name) r;
-- updates and deletes, also from partition to partition: groups follow, and
-- nothing is kept once all flows have seen it
DELETE FROM shape;
SELECT count(lakehouse.drop_flow(name)) AS dropped FROM lakehouse.flow_status WHERE name LIKE 'd\_%' AND mode = 'append';
UPDATE a SET k = 2, v = upper(v) WHERE id IN (1, 5);
DELETE FROM b WHERE id = 1;
UPDATE b SET k = 9 WHERE id = 2;
UPDATE b1 SET k = 1 WHERE k = 2;
DELETE FROM b2 WHERE id = 3;
SELECT count(*) > 0 AS kept FROM pg_class WHERE relnamespace = 'lakehouse_data'::regnamespace AND relkind = 'r';
SELECT name, status, error FROM lakehouse.run() WHERE status <> 'succeeded';
SELECT * FROM wrong();
ALTER TABLE a ADD COLUMN later int DEFAULT 7;
UPDATE a SET later = 8 WHERE k = 2;
ALTER TABLE a ALTER COLUMN later TYPE bigint;
DELETE FROM a WHERE id = 3;
UPDATE a SET id = id + 100, k = 1 WHERE id > 6;
TRUNCATE b1;
SELECT name, status, error FROM lakehouse.run() WHERE status <> 'succeeded';
SELECT * FROM wrong();
TRUNCATE b;
SELECT name, status, error FROM lakehouse.run() WHERE status <> 'succeeded';
SELECT * FROM wrong();
DO $$
DECLARE r record; n bigint;
BEGIN
	FOR r IN SELECT oid::regclass AS side FROM pg_class WHERE relnamespace = 'lakehouse_data'::regnamespace AND relname LIKE 'old\_%' AND relkind = 'r' LOOP
		EXECUTE format('SELECT count(*) FROM %s', r.side) INTO n;
		IF n > 0 THEN RAISE EXCEPTION '% rows are still kept', n; END IF;
	END LOOP;
END $$;
SELECT count(lakehouse.drop_flow(name)) AS dropped FROM lakehouse.flow_status WHERE name LIKE 'd\_%';
SELECT count(*) AS side_tables FROM pg_class WHERE relnamespace = 'lakehouse_data'::regnamespace AND relname LIKE 'old\_%' AND relkind = 'r';
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('a'::regclass, 'b'::regclass, 'b1'::regclass) AND NOT tgisinternal ORDER BY 1;

-- a run by hand in the transaction that wrote, rolled back in part
SELECT lakehouse.create_flow('d_tx', 'SELECT id FROM a WHERE id > 1000', target => 't_tx');
BEGIN;
INSERT INTO a (id) VALUES (1001);
SELECT inserted FROM lakehouse.run_flow('d_tx');
SAVEPOINT s;
INSERT INTO a (id) VALUES (1002);
SELECT inserted FROM lakehouse.run_flow('d_tx');
ROLLBACK TO s;
INSERT INTO a (id) VALUES (1003);
COMMIT;
SELECT inserted FROM lakehouse.run_flow('d_tx');
SELECT id FROM t_tx ORDER BY id;
SELECT lakehouse.drop_flow('d_tx');

-- a partition of a managed table cannot stream
SELECT lakehouse.create_flow('d_part', 'SELECT id FROM b1', target => 't_part');
DROP SCHEMA delta_test CASCADE;
