-- Rules of flows that regress output does not show: whose rights they run with,
-- who sees what, in which order they run, what a definition may change.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(32);
SET LOCAL client_min_messages = warning;

CREATE ROLE flow_etl;
CREATE ROLE flow_analyst;
CREATE ROLE flow_stranger;
SELECT lakehouse.grant_use('flow_etl');
SELECT lakehouse.grant_use('flow_analyst');
SELECT lakehouse.grant_use('flow_stranger');
CREATE SCHEMA flow_silver AUTHORIZATION flow_etl;
CREATE SCHEMA flow_gold AUTHORIZATION flow_analyst;
GRANT USAGE ON SCHEMA flow_silver TO flow_analyst;

SET LOCAL ROLE flow_etl;
CREATE TABLE flow_silver.sale (id int, region text, amount int, internal text);
CREATE TABLE flow_silver.bare (id int);
INSERT INTO flow_silver.sale VALUES (1, 'north', 10, 'a'), (2, 'south', 20, 'b');
SELECT lives_ok($$ SELECT lakehouse.create_flow('flow_ids', 'SELECT id, region, amount FROM flow_silver.sale', target => 'flow_silver.ids', streaming => '{flow_silver.sale}') $$,
	'a role without other rights makes a flow on its own tables');
SELECT lives_ok($$ SELECT lakehouse.run_flow('flow_ids') $$, 'and runs it');
SELECT results_eq('SELECT id FROM flow_silver.ids ORDER BY id', 'VALUES (1), (2)', 'with all rows');
SELECT is((SELECT owner FROM lakehouse.flow_status WHERE name = 'flow_ids'), 'flow_etl'::regrole, 'it owns the flow');

-- another role: SELECT on the columns, and what it may not do
SET LOCAL ROLE flow_analyst;
SELECT throws_ok($$ SELECT lakehouse.create_flow('flow_spy', 'SELECT id FROM flow_silver.sale', target => 'flow_gold.spy') $$,
	'42501', NULL, 'a flow on a table that its owner may not read is refused when it is created');
SELECT throws_ok($$ SELECT lakehouse.create_flow('flow_bare', 'SELECT id FROM flow_silver.bare', target => 'flow_gold.bare', streaming => '{flow_silver.bare}') $$,
	'42501', NULL, 'a table of another role cannot be made managed');
RESET ROLE;
GRANT SELECT (id, region, amount) ON flow_silver.sale TO flow_analyst;
SET LOCAL ROLE flow_analyst;
SELECT lives_ok($$ SELECT lakehouse.create_flow('flow_copy', 'SELECT id, region FROM flow_silver.sale', target => 'flow_gold.copy') $$,
	'SELECT on the columns that are used is enough, _load_id is not needed');
SELECT throws_ok($$ SELECT lakehouse.create_flow('flow_deep', 'SELECT internal FROM flow_silver.sale', target => 'flow_gold.deep') $$,
	'42501', NULL, 'another column is refused');
SELECT throws_ok($$ SELECT lakehouse.create_flow('flow_regions', 'SELECT region, sum(amount) AS total FROM flow_silver.sale GROUP BY region', target => 'flow_gold.regions', mode => 'aggregate') $$,
	'42501', 'permission denied to keep old rows of table "sale"', 'keeping old rows needs TRIGGER on the table');
SELECT throws_ok($$ SELECT lakehouse.create_flow('flow_write', 'SELECT id FROM flow_silver.sale', target => 'flow_silver.made') $$,
	'42501', NULL, 'a target cannot be made in a schema of another role');
SELECT throws_ok($$ SELECT lakehouse.run_flow('flow_ids') $$, '42501', 'must be owner of flow "flow_ids"', 'run_flow wants the owner');
SELECT throws_ok($$ SELECT lakehouse.drop_flow('flow_ids') $$, '42501', NULL, 'drop_flow wants the owner');
SELECT throws_ok($$ SELECT lakehouse.alter_flow('flow_ids', max_loads => 1) $$, '42501', NULL, 'alter_flow wants the owner');
SELECT throws_ok($$ SELECT lakehouse.pause_flow('flow_ids') $$, '42501', NULL, 'pause_flow wants the owner');
SELECT throws_ok($$ SELECT lakehouse.explain_flow('flow_ids') $$, '42501', NULL, 'explain_flow wants the owner');
SELECT throws_ok($$ SELECT lakehouse.create_flow('flow_ids', 'SELECT 1 AS one', target => 'flow_gold.one', replace => true) $$,
	'42501', NULL, 'replace wants the owner');
SELECT results_eq($$ SELECT name FROM lakehouse.flow_status WHERE name LIKE 'flow\_%' $$, $$ VALUES ('flow_copy'::text) $$, 'a role sees its own flows');
SELECT results_eq($$ SELECT name FROM lakehouse.run() WHERE name LIKE 'flow\_%' $$, $$ VALUES ('flow_copy'::text) $$, 'run() runs its own flows');
RESET ROLE;
GRANT TRIGGER ON flow_silver.sale TO flow_analyst;
SET LOCAL ROLE flow_analyst;
SELECT lives_ok($$ SELECT lakehouse.create_flow('flow_regions', 'SELECT region, sum(amount) AS total FROM flow_silver.sale GROUP BY region', target => 'flow_gold.regions', mode => 'aggregate') $$,
	'with TRIGGER groups can be kept');
RESET ROLE;
SELECT is((SELECT c.relowner::regrole FROM lakehouse.managed_table m JOIN pg_class c ON c.oid = m.old_images WHERE m.relation = 'flow_silver.sale'::regclass),
	'flow_etl'::regrole, 'old rows belong to the owner of the table');
SELECT ok(NOT has_table_privilege('flow_analyst', (SELECT old_images FROM lakehouse.managed_table WHERE relation = 'flow_silver.sale'::regclass), 'SELECT'),
	'whoever reads some columns cannot read the old rows');

-- a writer without any right on lakehouse: its load and the old rows are kept
CREATE ROLE flow_writer;
GRANT USAGE ON SCHEMA flow_silver TO flow_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON flow_silver.sale TO flow_writer;
SET LOCAL ROLE flow_writer;
INSERT INTO flow_silver.sale VALUES (3, 'east', 5, 'c');
UPDATE flow_silver.sale SET region = 'west' WHERE id = 1;
DELETE FROM flow_silver.sale WHERE id = 2;
SET LOCAL ROLE flow_analyst;
SELECT lives_ok($$ SELECT lakehouse.run_flow('flow_regions') $$, 'the flow runs with its owner''s rights');
SELECT results_eq('SELECT region, total FROM flow_gold.regions ORDER BY region', $$ VALUES ('east'::text, 5::bigint), ('west', 10) $$, 'and has followed');

-- row security of an input holds inside a run
RESET ROLE;
CREATE POLICY half ON flow_silver.sale FOR SELECT TO flow_analyst USING (id <= 100 AND region <> 'hidden');
CREATE POLICY full_writer ON flow_silver.sale TO flow_writer USING (true) WITH CHECK (true);
ALTER TABLE flow_silver.sale ENABLE ROW LEVEL SECURITY;
INSERT INTO flow_silver.sale VALUES (50, 'north', 1, 'd'), (101, 'north', 2, 'e'), (51, 'hidden', 3, 'f');
SELECT lives_ok($$ SELECT lakehouse.run() $$, 'a superuser runs everything');
SELECT results_eq('SELECT id FROM flow_gold.copy WHERE id >= 50 ORDER BY id', 'VALUES (50)', 'a policy hides rows from the flow''s owner, whoever runs it');
SELECT results_eq($$ SELECT total FROM flow_gold.regions WHERE region IN ('north', 'hidden') $$, 'VALUES (1::bigint)', 'in groups as well');
SELECT results_eq('SELECT id FROM flow_silver.ids WHERE id >= 50 ORDER BY id', 'VALUES (50), (51), (101)', 'the table''s owner sees all');

-- a stranger sees and does nothing
SET LOCAL ROLE flow_stranger;
SELECT is_empty($$ SELECT name FROM lakehouse.flow_status WHERE name LIKE 'flow\_%' $$, 'a stranger sees no flow');
SELECT is_empty($$ SELECT name FROM lakehouse.flow_run_status WHERE name LIKE 'flow\_%' $$, 'and no run');
SELECT is_empty($$ SELECT name FROM lakehouse.run() WHERE name LIKE 'flow\_%' $$, 'and runs none');
RESET ROLE;

-- order, and what feeds what
SET LOCAL ROLE flow_etl;
SELECT lakehouse.create_flow('flow_last', 'SELECT id FROM flow_silver.ids', target => 'flow_silver.last');
SELECT lakehouse.create_flow('flow_first', 'SELECT id, region, 0 AS amount FROM flow_silver.bare JOIN flow_silver.sale USING (id)', target => 'flow_silver.ids', streaming => '{flow_silver.bare}', static => '{flow_silver.sale}');
INSERT INTO flow_silver.bare VALUES (3);
SELECT results_eq($$ SELECT name FROM lakehouse.run() WHERE name IN ('flow_first', 'flow_last') $$, $$ VALUES ('flow_first'::text), ('flow_last') $$,
	'a flow that was created later runs first if it feeds the other');
SELECT is((SELECT count(*) FROM flow_silver.last WHERE id = 3), 2::bigint, 'and all of it arrives in one run');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
