-- Rules of a merge: SQLSTATEs, rights, what it creates, what it leaves alone.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(36);

CREATE SCHEMA merge_rules;
SET search_path = public, merge_rules;
CREATE TABLE merge_rules.t (k int PRIMARY KEY, v text, seq int);
CREATE TABLE merge_rules.bare (k int, v text, seq int);

-- arguments
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', NULL, '{k}', '{seq}') $$, '22004', NULL, 'a query is needed');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', ARRAY['k', NULL], '{seq}') $$, '22004', NULL, 'no NULL among the keys');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', NULL, '{seq}') $$, '22023', NULL, 'keys are needed');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', '{k}', NULL) $$, '22023', NULL, 'a sequence is needed');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELECT 1; SELECT 2', '{k}', '{seq}') $$, '22023', NULL, 'one statement');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'WITH d AS (DELETE FROM t RETURNING *) TABLE d', '{k}', '{seq}') $$, '22023', NULL, 'that does not write');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELEC', '{k}', '{seq}') $$, '42601', NULL, 'a syntax error in the query');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', '{nokey}', '{seq}') $$, '42703', NULL, 'a key that is no column');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELECT *, 1 AS more FROM t', '{k}', '{seq}') $$, '42703', NULL, 'a column that the target has not');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', '{k}', '{noseq}') $$, '42703', NULL, 'a sequence that is no column');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELECT k, v, point(1, 2) AS seq FROM t', '{k}', '{seq}', NULL, '{seq}') $$, '42883', NULL, 'a sequence without order');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', '{k}', '{seq}', 'random() < 2') $$, '0A000', NULL, 'a volatile condition');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', '{k}', '{seq}', 'max(v) = v') $$, '0A000', NULL, 'an aggregate as condition');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'TABLE t', '{k}', '{seq}', 'seq') $$, '42804', NULL, 'a condition that is not boolean');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('pg_class', 'SELECT 1 AS oid', '{oid}', '{oid}') $$, NULL, NULL, 'no system table');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELECT NULL::int AS k, 1 AS seq', '{k}', '{seq}') $$, '23502', NULL, 'a NULL key where nobody would find the reject');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELECT 1 AS k, NULL::int AS seq', '{k}', '{seq}') $$, '23502', NULL, 'a NULL sequence likewise');
SELECT throws_ok($$ SELECT lakehouse.create_flow('merge_rules', mode => 'scd1', target => 'merge_rules.t', keys => '{k}', sequence_by => '{seq}',
    delete_when => 'seq', streaming => '{merge_rules.bare}', query => 'SELECT k, v, seq FROM merge_rules.bare') $$,
    '42804', NULL, 'a condition of a flow that is not boolean');
SELECT throws_ok($$ SELECT lakehouse.create_flow('merge_rules', mode => 'upsert', target => 'merge_rules.t', keys => '{k}',
    delete_when => 'seq = 0', streaming => '{merge_rules.bare}', query => 'SELECT k, v, seq FROM merge_rules.bare') $$,
    '22023', NULL, 'an upsert has no sequence that could tell a late delete');

-- the index
SELECT lives_ok($$ SELECT lakehouse.merge_scd1('bare', 'SELECT 1 AS k, ''a'' AS v, 1 AS seq', '{k}', '{seq}') $$, 'a table without an index');
SELECT index_is_unique('merge_rules'::name, 'bare'::name, 'bare_k_idx'::name, 'gets a unique one');
SELECT lives_ok($$ SELECT lakehouse.merge_scd1('bare', 'SELECT 1 AS k, ''b'' AS v, 2 AS seq', '{k}', '{seq}') $$, 'merged again');
SELECT is((SELECT count(*) FROM pg_indexes WHERE tablename = 'bare' AND schemaname = 'merge_rules'), 1::bigint, 'it gets one only');
CREATE TABLE merge_rules.halves (k int, v text, seq int);
CREATE UNIQUE INDEX halves_partial ON halves (k) WHERE seq > 0;
CREATE UNIQUE INDEX halves_expression ON halves ((k + 0));
SELECT lives_ok($$ SELECT lakehouse.merge_scd1('halves', 'SELECT 1 AS k, ''a'' AS v, 1 AS seq', '{k}', '{seq}') $$, 'partial and expression indexes do not count');
SELECT has_index('merge_rules', 'halves', 'halves_k_idx', ARRAY['k'], 'a plain one is made beside them');

-- rights
CREATE ROLE merge_rules_role;
GRANT USAGE ON SCHEMA lakehouse, merge_rules TO merge_rules_role;
GRANT EXECUTE ON FUNCTION lakehouse.merge_scd1(regclass, text, text[], text[], text, text[]) TO merge_rules_role;
CREATE TABLE merge_rules.foreign_bare (k int, v text, seq int);
GRANT SELECT, INSERT, UPDATE ON foreign_bare TO merge_rules_role;
SET LOCAL ROLE merge_rules_role;
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('t', 'SELECT 1 AS k, 1 AS seq', '{k}', '{seq}') $$, '42501', NULL, 'the target''s rights are the caller''s');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('foreign_bare', 'TABLE t', '{k}', '{seq}') $$, '42501', NULL, 'and so are those of the query');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('foreign_bare', 'SELECT 1 AS k, 1 AS seq', '{k}', '{seq}') $$, '42501', NULL, 'only the owner gets an index made');
RESET ROLE;
CREATE UNIQUE INDEX ON foreign_bare (k);
SET LOCAL ROLE merge_rules_role;
SELECT lives_ok($$ SELECT lakehouse.merge_scd1('foreign_bare', 'SELECT 1 AS k, ''a'' AS v, 1 AS seq', '{k}', '{seq}') $$, 'with INSERT and UPDATE a role may merge');
SELECT throws_ok($$ SELECT lakehouse.merge_scd1('foreign_bare', 'SELECT 1 AS k, ''a'' AS v, 1 AS seq', '{k}', '{seq}', 'v = ''d''') $$, '42501', NULL, 'to delete it needs DELETE');
RESET ROLE;
GRANT DELETE ON foreign_bare TO merge_rules_role;
SET LOCAL ROLE merge_rules_role;
SELECT lives_ok($$ SELECT lakehouse.merge_scd1('foreign_bare', 'SELECT 1 AS k, ''d'' AS v, 2 AS seq', '{k}', '{seq}', 'v = ''d''') $$, 'and with it the role deletes');
RESET ROLE;
SELECT is((SELECT count(*) FROM foreign_bare), 0::bigint, 'the row is gone');
SELECT is((SELECT pg_get_userbyid(relowner) FROM pg_class c JOIN lakehouse.merge_target m ON m.tombstones = c.oid WHERE m.relation = 'foreign_bare'::regclass),
          (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'foreign_bare'::regclass), 'the table of tombstones belongs to the target''s owner');

-- a planted operator or function does not get into the statements
CREATE FUNCTION merge_rules.never(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted operator called'; END $$;
CREATE OPERATOR merge_rules.= (LEFTARG = int, RIGHTARG = int, FUNCTION = merge_rules.never);
CREATE OPERATOR merge_rules.> (LEFTARG = int, RIGHTARG = int, FUNCTION = merge_rules.never);
CREATE OPERATOR merge_rules.< (LEFTARG = int, RIGHTARG = int, FUNCTION = merge_rules.never);
CREATE FUNCTION merge_rules.format(text, VARIADIC "any") RETURNS text LANGUAGE internal STABLE AS 'text_format';
CREATE FUNCTION merge_rules.planted(value text) RETURNS text LANGUAGE sql SET search_path = merge_rules, pg_catalog AS $f$
    SELECT lakehouse.merge_scd1('t', 'SELECT 1 AS k, ' || pg_catalog.quote_literal(value) || ' AS v, 1 AS seq', '{k}', '{seq}', $w$v OPERATOR(pg_catalog.=) 'd'$w$)::text $f$;
SELECT is(planted('a'), '(1,1,0,0,0,0)', 'operators are the type''s own');
SELECT is(planted('b'), '(1,0,1,0,0,0)', 'also to decide a tie');
SELECT is(planted('d'), '(1,0,0,0,1,0)', 'and for deletes');

SELECT * FROM finish();
ROLLBACK;
