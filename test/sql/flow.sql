-- Flows as a user sees them: modes, and the message of every refusal.
\set VERBOSITY default
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lakehouse;
CREATE SCHEMA flow_test;
SET search_path = flow_test;
SET timezone = 'UTC';

CREATE TABLE visit (id int, gym text, login int, logout int);
CREATE TABLE gym (gym text, city text);
INSERT INTO gym VALUES ('g1', 'Oslo'), ('g2', 'Rome');
INSERT INTO visit VALUES (1, 'g1', 10, NULL), (2, 'g2', 20, 30);

-- append: the target is made from the query's columns, without _load_id
SELECT lakehouse.create_flow('visits', 'SELECT visit.*, city FROM visit JOIN gym USING (gym)',
	target => 'visit_city', streaming => '{visit}', except_columns => '{logout}');
\d visit_city
SELECT loads, rows_in, inserted, technique FROM lakehouse.run_flow('visits');
SELECT loads, rows_in, inserted, technique FROM lakehouse.run_flow('visits');
INSERT INTO visit VALUES (3, 'g1', 40, 50);
-- static inputs are read as they are when the flow runs
INSERT INTO gym VALUES ('g1', 'Bergen');
SELECT loads, rows_in, inserted FROM lakehouse.run_flow('visits');
SELECT id, gym, login, city FROM visit_city ORDER BY 1, 4;

-- by keys
SELECT lakehouse.create_flow('once', 'SELECT id, gym FROM visit', target => 'visit_once',
	mode => 'insert_only', keys => '{id}');
SELECT lakehouse.create_flow('latest', 'SELECT gym, id, login FROM visit', target => 'gym_latest',
	mode => 'scd1', keys => '{gym}', sequence_by => '{login}');
SELECT lakehouse.create_flow('by_city', 'SELECT city, count(*) AS visits, max(login) AS last FROM visit JOIN gym USING (gym) GROUP BY city',
	target => 'city_visits', mode => 'aggregate', streaming => '{gym}');
SELECT lakehouse.create_flow('all', 'SELECT gym, row_number() OVER (ORDER BY id, gym) AS n FROM visit', target => 'numbered',
	mode => 'complete');
SELECT name, status, loads, inserted, updated, deleted FROM lakehouse.run();
SELECT id, gym FROM visit_once ORDER BY id;
SELECT gym, id, login FROM gym_latest ORDER BY gym;
SELECT city, visits, last FROM city_visits ORDER BY city;
-- updates and deletes of an input reach groups
UPDATE gym SET city = 'Bergen' WHERE city = 'Oslo';
DELETE FROM visit WHERE id = 2;
SELECT name, status, loads, inserted, updated, deleted FROM lakehouse.run() WHERE name IN ('by_city', 'all');
SELECT city, visits, last FROM city_visits ORDER BY city;
SELECT gym, n FROM numbered ORDER BY n;
TRUNCATE visit;
SELECT name, loads, deleted FROM lakehouse.run() WHERE name IN ('by_city', 'all');
SELECT count(*) FROM city_visits;

-- statements run as they are, on new rows only
CREATE TABLE log (gym text, n int);
SELECT lakehouse.create_flow('log', 'INSERT INTO log (gym, n) SELECT gym, login FROM visit');
INSERT INTO visit VALUES (4, 'g1', 1, 2), (5, 'g2', 3, 4);
SELECT loads, inserted, updated, deleted FROM lakehouse.run_flow('log');
SELECT lakehouse.create_flow('log_merge', $$MERGE INTO log USING visit v ON log.gym = v.gym
	WHEN MATCHED AND v.logout IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET n = log.n + v.login
	WHEN NOT MATCHED THEN INSERT (gym, n) VALUES (v.gym, v.login)$$);
SELECT lakehouse.create_flow('log_update', 'UPDATE log SET n = n + 100 FROM visit WHERE visit.gym = log.gym');
SELECT lakehouse.create_flow('log_delete', 'DELETE FROM log USING visit WHERE visit.gym = log.gym AND visit.login < 0');
SELECT name, loads, inserted, updated, deleted FROM lakehouse.run() WHERE name LIKE 'log_%';
INSERT INTO visit VALUES (6, 'g1', 1, NULL), (7, 'g3', 7, 7), (8, 'g2', -1, 0);
SELECT name, loads, inserted, updated, deleted FROM lakehouse.run() WHERE name LIKE 'log_%';
SELECT gym, n FROM log ORDER BY 1, 2;
-- a statement that reads one streaming input once may group its new rows
SELECT lakehouse.create_flow('log_grouped', $$MERGE INTO log USING (SELECT gym, max(login) AS login FROM visit GROUP BY gym) v
	ON log.gym = v.gym WHEN MATCHED AND v.login > log.n THEN UPDATE SET n = v.login
	WHEN NOT MATCHED THEN INSERT (gym, n) VALUES (v.gym, v.login)$$);
SELECT loads, inserted, updated FROM lakehouse.run_flow('log_grouped');
SELECT gym, n FROM log ORDER BY 1, 2;
SELECT lakehouse.drop_flow('log_grouped');

-- how
SELECT * FROM lakehouse.explain_flow('by_city');
SELECT name, mode, trigger, state, pending_loads, technique, last_loads, failures FROM lakehouse.flow_status ORDER BY name;

-- one failure stops only itself, and is noted
INSERT INTO visit VALUES (9, 'g1', 0, 0);
CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''boom'' USING ERRCODE = ''22012''; END';
CREATE TRIGGER boom BEFORE INSERT ON visit_once EXECUTE FUNCTION boom();
SELECT name, status, inserted, error FROM lakehouse.run() WHERE name IN ('visits', 'once');
SELECT name, state, pending_loads, failures, sqlstate, error, retry_at > last_failure AS later FROM lakehouse.flow_status WHERE failures > 0;
DROP TRIGGER boom ON visit_once;
SELECT name, status, inserted FROM lakehouse.run() WHERE name IN ('visits', 'once');
SELECT state, failures FROM lakehouse.flow_status WHERE name = 'once';

-- pause, alter, replace
SELECT lakehouse.pause_flow('once', 'being looked at');
SELECT * FROM lakehouse.run_flow('once');
SELECT name, status, error FROM lakehouse.run() WHERE name = 'once';
SELECT lakehouse.resume_flow('once');
SELECT lakehouse.alter_flow('once', trigger => 'continuous', max_loads => 1, new_name => 'first');
SELECT name, trigger FROM lakehouse.flow_status WHERE name IN ('once', 'first');
INSERT INTO visit VALUES (10, 'g9', 0, 0);
-- the same again, as a deployment script does: the queue stays as it is
SELECT lakehouse.create_flow('first', 'SELECT id, upper(gym) AS gym FROM visit', target => 'visit_once',
	mode => 'insert_only', keys => '{id}', replace => true);
SELECT loads, rows_in, inserted FROM lakehouse.run_flow('first');
SELECT id, gym FROM visit_once WHERE id >= 9 ORDER BY id;

-- a table that was static stays so when another flow has made it managed
SELECT lakehouse.create_flow('visits', 'SELECT visit.*, city FROM visit JOIN gym USING (gym)',
	target => 'visit_city', except_columns => '{logout}', replace => true);
SELECT * FROM lakehouse.explain_flow('visits');

-- refusals: arguments
SELECT lakehouse.create_flow('x', 'SELECT 1 AS a', target => 't');
SELECT lakehouse.create_flow('visits', 'SELECT id FROM visit', target => 't');
SELECT lakehouse.create_flow('', 'SELECT id FROM visit', target => 't');
SELECT lakehouse.create_flow('x', NULL, target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', mode => 'insertonly');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', mode => 'sql');
SELECT lakehouse.create_flow('x', 'INSERT INTO log SELECT gym, 1 FROM visit', mode => 'append');
SELECT lakehouse.create_flow('x', 'INSERT INTO log SELECT gym, 1 FROM visit', target => 'visit_once');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', mode => 'upsert');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', mode => 'scd1', keys => '{id}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', keys => '{id}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', mode => 'insert_only', keys => '{idd}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', except_columns => '{idd}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', trigger => 'now');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', max_loads => 0);
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', static => '{gym}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', static => '{nothing}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', static => '{visit}');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't', static => '{visit}', streaming => '{visit}');
SELECT lakehouse.run_flow('nothing');
SELECT lakehouse.alter_flow('first', new_name => 'visits');

-- refusals: the query
SELECT lakehouse.create_flow('x', 'SELECT id FRM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT idd FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit; SELECT 1', target => 't');
SELECT lakehouse.create_flow('x', 'TRUNCATE visit');
SELECT lakehouse.create_flow('x', 'SELECT id INTO y FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id, id FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id + 1 FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit FOR UPDATE', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT ctid::text AS c FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit TABLESAMPLE BERNOULLI (10)', target => 't');
SELECT lakehouse.create_flow('x', 'INSERT INTO log (gym) SELECT gym FROM visit RETURNING gym');
SELECT lakehouse.create_flow('x', 'WITH d AS (DELETE FROM log) SELECT id FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'WITH RECURSIVE r AS (SELECT id FROM visit UNION ALL SELECT id + 1 FROM r WHERE id < 3) SELECT id FROM r', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT id AS nope FROM visit', target => 'visit_once');
SELECT lakehouse.create_flow('x', 'SELECT gym AS id FROM visit', target => 'visit_once');

SELECT lakehouse.create_flow('x', 'INSERT INTO log SELECT gym, login, _load_id FROM visit');
SELECT lakehouse.create_flow('x', 'UPDATE log SET _load_id = visit._load_id FROM visit WHERE log.gym = visit.gym');
SELECT lakehouse.create_flow('x', 'MERGE INTO log USING visit v ON log.gym = v.gym WHEN NOT MATCHED THEN INSERT (gym, _load_id) VALUES (v.gym, v._load_id)');
SELECT lakehouse.create_flow('x', 'WITH c AS (SELECT id, random() AS r FROM visit) SELECT x.id, y.r FROM c x JOIN c y USING (id)', target => 't');

-- refusals: shapes that new rows alone cannot give
SELECT lakehouse.create_flow('x', 'SELECT gym, count(*) AS n FROM visit GROUP BY gym', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT DISTINCT gym FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym FROM visit ORDER BY id LIMIT 1', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym, rank() OVER (ORDER BY id) AS r FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym FROM visit UNION SELECT gym FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym FROM visit EXCEPT ALL SELECT gym FROM visit', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT g.gym FROM gym g LEFT JOIN visit v USING (gym)', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT g.gym FROM gym g WHERE EXISTS (SELECT FROM visit v WHERE v.gym = g.gym)', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym, (SELECT max(id) FROM visit) AS m FROM gym', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym FROM visit UNION ALL SELECT ''fixed''', target => 't');
SELECT lakehouse.create_flow('x', 'SELECT gym, id FROM (SELECT gym, max(id) AS id FROM visit GROUP BY gym) m', target => 't');

SELECT lakehouse.create_flow('x', 'INSERT INTO log (gym, n) SELECT a.gym, count(*) FROM visit a JOIN visit b USING (gym) GROUP BY a.gym');
SELECT lakehouse.create_flow('x', 'INSERT INTO log (gym) SELECT gym FROM visit LIMIT 1');

-- refusals: aggregate and complete
SELECT lakehouse.create_flow('x', 'SELECT count(*) AS n FROM visit', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT id, gym FROM visit', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT gym, count(*) AS n FROM visit GROUP BY gym, login', target => 't', mode => 'aggregate', keys => '{n}');
SELECT lakehouse.create_flow('x', 'SELECT count(*) AS n FROM visit GROUP BY gym', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT gym, count(*) AS n FROM visit GROUP BY ROLLUP (gym)', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT gym, max(n) AS m FROM (SELECT gym, id, count(*) AS n FROM visit GROUP BY gym, id) v GROUP BY gym', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT gym, count(*) AS n FROM visit GROUP BY gym LIMIT 3', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT gym, random() AS r FROM visit GROUP BY gym', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT gym, random() AS r FROM visit', target => 't', mode => 'complete');
SELECT lakehouse.create_flow('x', 'SELECT v.login, count(*) AS n FROM gym g LEFT JOIN visit v USING (gym) GROUP BY v.login', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT g.gym, count(*) AS n FROM gym g FULL JOIN visit v USING (gym) GROUP BY g.gym', target => 't', mode => 'aggregate');
SELECT lakehouse.create_flow('x', 'SELECT g.gym, count(*) AS n FROM gym g LEFT JOIN visit v USING (gym) GROUP BY g.gym', target => 't', mode => 'aggregate', static => '{gym}');

-- refusals: cycles
SELECT lakehouse.create_flow('x', 'SELECT id, gym FROM visit_once', target => 'visit');
SELECT lakehouse.create_flow('x', 'SELECT id, gym FROM visit_once', target => 'visit_once', streaming => '{visit_once}');
-- a static input may be anything
SELECT lakehouse.create_flow('not_yet', 'SELECT v.id, v.gym FROM visit v WHERE NOT EXISTS (SELECT FROM visit_once o WHERE o.id = v.id)',
	target => 'visit_once', mode => 'insert_only', keys => '{id}');

-- a view replaced beneath a flow is noticed
CREATE VIEW v AS SELECT id FROM visit;
SELECT lakehouse.create_flow('through_view', 'SELECT id FROM v', target => 'from_view');
CREATE OR REPLACE VIEW v AS SELECT id FROM visit JOIN log USING (gym);
SELECT * FROM lakehouse.run_flow('through_view');
CREATE OR REPLACE VIEW v AS SELECT id FROM visit WHERE id > 9;
SELECT loads, inserted FROM lakehouse.run_flow('through_view');

-- a target that is gone, and comes back with all that there was
INSERT INTO visit VALUES (11, 'g9', 0, 0);
DROP TABLE from_view;
SELECT * FROM lakehouse.run_flow('through_view');
SELECT lakehouse.create_flow('through_view', 'SELECT id FROM v', target => 'from_view', replace => true);
SELECT inserted FROM lakehouse.run_flow('through_view');

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT lakehouse.create_flow('x', 'SELECT id FROM visit', target => 't');
ROLLBACK;

SELECT lakehouse.drop_flow('nothing');
SELECT lakehouse.drop_flow(name) FROM lakehouse.flow_status ORDER BY name;
SELECT count(*) FROM lakehouse.flow_status;
DROP SCHEMA flow_test CASCADE;
