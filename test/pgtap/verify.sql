-- lakehouse.verify() says what is right, and finds what was tampered with.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE SCHEMA v;
SELECT plan(12);

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
