-- What the install script must leave closed: nothing public but the default of
-- _load_id, nothing that runs with its definer's rights, every table dumped.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(11);

-- routines and relations that belong to the extension
CREATE TEMP TABLE members ON COMMIT DROP AS
SELECT d.classid, d.objid
  FROM pg_depend d
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'lakehouse' AND d.deptype = 'e';

SELECT ok((SELECT count(*) FROM members) > 20, 'the extension has members');

SELECT results_eq(
    $$ SELECT p.oid::regprocedure::text
         FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        WHERE has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1 $$,
    $$ VALUES ('lakehouse._in_loads(bigint,bigint[],double precision)'::text),
              ('lakehouse._keep_old_images()'), ('lakehouse._may_see(regrole)'),
              ('lakehouse._no_worker(integer)'),
              ('lakehouse._rescued_converts(jsonb,bigint,anyelement)'), ('lakehouse._rescued_rest(jsonb)'),
              ('lakehouse._rescued_value(jsonb,bigint,anyelement)'), ('lakehouse._stamp()'),
              ('lakehouse.current_load(regclass)') $$,
    'PUBLIC may execute nothing but the default of _load_id, triggers of managed tables, conditions on numbers and roles, what the views ask of workers, and what promote_rescued calls');

SELECT is_empty(
    $$ SELECT c.oid::regclass FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND (has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
               OR has_any_column_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')) $$,
    'PUBLIC has no right on a table or view');

SELECT is_empty(
    $$ SELECT c.oid::regclass FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
        WHERE CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('public', c.oid, 'USAGE, SELECT, UPDATE') END $$,
    'PUBLIC has no right on a sequence');

SELECT is_empty(
    $$ SELECT p.oid::regprocedure FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        WHERE p.prosecdef $$,
    'no function is SECURITY DEFINER');

SELECT is_empty(
    $$ SELECT p.oid::regprocedure FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
         JOIN pg_language l ON l.oid = p.prolang
        WHERE l.lanname NOT IN ('c', 'sql') OR (l.lanname = 'sql' AND p.prosqlbody IS NULL) $$,
    'functions are C, or SQL that is bound when it is created');

SELECT is_empty(
    $$ SELECT c.oid::regclass FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
        WHERE c.relkind IN ('r', 'S')
          AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'lakehouse' AND c.oid = ANY (e.extconfig)) $$,
    'every table and sequence is marked for pg_dump');

SELECT is_empty(
    $$ SELECT c.oid::regclass FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
        WHERE c.relkind = 'r' AND c.relpersistence <> 'p' $$,
    'every table survives a crash');

SELECT is_empty(
    $$ SELECT n.nspname FROM pg_namespace n
        WHERE n.nspname IN ('lakehouse', 'lakehouse_data') AND has_schema_privilege('public', n.oid, 'CREATE') $$,
    'PUBLIC may create nothing in our schemas');

SELECT is_empty(
    $$ SELECT w.fdwname FROM pg_foreign_data_wrapper w JOIN members m
           ON m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = w.oid
        WHERE has_foreign_data_wrapper_privilege('public', w.oid, 'USAGE') $$,
    'PUBLIC may use no wrapper');

SELECT is_empty(
    $$ SELECT p.oid::regprocedure FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        WHERE p.proname NOT LIKE '\_%' AND obj_description(p.oid, 'pg_proc') IS NULL
       UNION ALL
       SELECT NULL FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relkind = 'v' AND c.relname NOT LIKE '\_%'
          AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL) $$,
    'every public function, view and column of a view has a comment');

SELECT * FROM finish();
ROLLBACK;
