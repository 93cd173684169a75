-- reference.sql: writes docs/reference.md from the comments in the catalog, so
-- that the page cannot say anything else than the database does. Run with
-- psql -X -q -A -t in a database with the extension; "make reference" does it.
SET search_path = pg_catalog;

\echo '# Reference'
\echo
\echo 'Every public function and view of the schema `lakehouse`, written by `make reference` from'
\echo 'the comments in the database. Names that begin with an underscore and the tables of the'
\echo 'schema are internal. Arguments with a default can be left out and are best given by name.'
\echo

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'lakehouse' AND d.deptype = 'e';

CREATE TEMP VIEW routine AS
SELECT p.oid, p.proname, CASE
         WHEN p.proname ~ '(source|file|offset|reject|server|record|schema)' THEN 1
         WHEN p.proname ~ '(flow|merge|from_json|load|delta)' THEN 2
         WHEN p.proname ~ '(job|task|param)' THEN 3
         ELSE 4 END AS topic
  FROM pg_proc p
  JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
  JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'lakehouse'
 WHERE p.proname NOT LIKE '\_%';

SELECT text FROM (
    SELECT DISTINCT topic, '' AS proname, 0::oid AS oid,
           E'## ' || (ARRAY['Sources', 'Flows and loads', 'Jobs', 'Running, looking and everything else'])[topic] || E'\n' AS text
      FROM routine
    UNION ALL
    SELECT r.topic, r.proname, r.oid,
           format(E'### lakehouse.%s\n\n```\n%s(%s)%s\n```\n\n%s\n',
                  r.proname, r.proname,
                  CASE WHEN p.pronargs > 2 AND pg_get_function_arguments(p.oid) LIKE '%, %'
                       THEN E'\n    ' || regexp_replace(pg_get_function_arguments(p.oid),
                                                        ', (?=("[^"]+"|[a-z_]+) [a-z"])', E',\n    ', 'g')
                       ELSE pg_get_function_arguments(p.oid) END,
                  coalesce(' returns ' || pg_get_function_result(p.oid), ''),
                  obj_description(p.oid, 'pg_proc'))
      FROM routine r JOIN pg_proc p ON p.oid = r.oid
) section
ORDER BY topic, proname COLLATE "C", (oid <> 0), text COLLATE "C";

\echo '## Views'
\echo

SELECT format(E'### lakehouse.%s\n\n%s\n\n| column | type | meaning |\n|---|---|---|\n%s\n',
              c.relname, obj_description(c.oid, 'pg_class'),
              string_agg(format('| %s | %s | %s |', a.attname, format_type(a.atttypid, a.atttypmod),
                                replace(col_description(c.oid, a.attnum), '|', '\|')), E'\n' ORDER BY a.attnum))
  FROM pg_class c
  JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'lakehouse'
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relkind = 'v' AND c.relname NOT LIKE '\_%'
 GROUP BY c.oid, c.relname
 ORDER BY c.relname COLLATE "C";

\echo '## Foreign-data wrappers'
\echo

SELECT format(E'### %s\n\n%s\n', w.fdwname, obj_description(w.oid, 'pg_foreign_data_wrapper'))
  FROM pg_foreign_data_wrapper w
  JOIN member m ON m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = w.oid
 ORDER BY w.fdwname COLLATE "C";
