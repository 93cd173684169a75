-- Rules of file sources: who may do what, SQLSTATEs, and names and links that
-- try to lead out of the server's directory.
BEGIN;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(64);
SET LOCAL client_min_messages = error;
SET LOCAL statement_timeout = '60s';

CREATE FUNCTION pg_temp.shell(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'cat >/dev/null; ' || command); END $$;
SELECT set_config('test.dir', '/tmp/lakehouse_rules_' || pg_backend_pid(), true) AS dir \gset
SELECT pg_temp.shell(format('mkdir -p %1$s/in/sub %1$s/out; cd %1$s/in;'
    ' printf ''1,one\n2,two\n'' >a.csv; printf ''7,secret\n'' >../out/secret.csv', :'dir'));

\set inbox :dir '/in'
CREATE ROLE lh_rules_etl;
CREATE ROLE lh_rules_evil;
CREATE ROLE lh_rules_none;
CREATE ROLE lh_rules_monitor;
CREATE ROLE lh_rules_keeper;
GRANT pg_monitor TO lh_rules_monitor;
GRANT pg_read_server_files TO lh_rules_keeper;
SELECT lakehouse.grant_use('lh_rules_etl');
SELECT lakehouse.grant_use('lh_rules_evil');
SELECT lakehouse.grant_use('lh_rules_monitor');
SELECT lakehouse.grant_use('lh_rules_keeper');
CREATE SERVER lh_rules FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory :'inbox');
ALTER SERVER lh_rules OWNER TO lh_rules_keeper;
GRANT USAGE ON FOREIGN SERVER lh_rules TO lh_rules_etl;
CREATE SCHEMA lh_rules AUTHORIZATION lh_rules_etl;
GRANT USAGE, CREATE ON SCHEMA lh_rules TO lh_rules_evil;
CREATE FOREIGN DATA WRAPPER lh_rules_other;
CREATE SERVER lh_rules_other FOREIGN DATA WRAPPER lh_rules_other;

SET LOCAL ROLE lh_rules_etl;
CREATE TABLE lh_rules.t (id int NOT NULL, name text);
CREATE TABLE lh_rules.u (id int, name text);
RESET ROLE;

-- definitions: SQLSTATEs
SELECT throws_ok($$ SELECT lakehouse.create_source(NULL, 'lh_rules', 'lh_rules.t', path => '*.csv') $$, '22004', NULL, 'a source has a name');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'nowhere', 'lh_rules.t', path => '*.csv') $$, '42704', NULL, 'the server exists');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules_other', 'lh_rules.t', path => '*.csv') $$, '42809', NULL, 'the server is one of ours');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.nothing', path => 'nothing*.csv') $$, '42P01', NULL, 'the target exists, or there are files to make it of');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'pg_catalog.pg_tables', path => '*.csv') $$, '42809', NULL, 'a view is no target');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'pg_catalog.pg_class', path => '*.csv') $$, '42809', NULL, 'a system table is no target');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t') $$, '22023', NULL, 'a path is needed');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.txt') $$, '22023', NULL, 'a format is needed');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv', format => 'xml') $$, '22023', NULL, 'the format exists');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv', trigger => 'now') $$, '22023', NULL, 'the trigger exists');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv', options => '{"x": 1}') $$, '22023', NULL, 'options are known');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv', options => '[1]') $$, '22023', NULL, 'options are an object');
SELECT throws_ok(format($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => %L, format => 'csv') $$, path),
                 '22023', NULL, format('path %L is refused', left(path, 30)))
  FROM unnest(ARRAY['../out/*.csv', '/etc/passwd', '//etc/passwd', 'sub/../../out/*.csv', './a.csv', 'sub//a.csv', 'sub/', '..', '.',
                    'x**.csv', 'sub/**', repeat('d/', 600) || 'a.csv']) AS path;

-- privileges
SET LOCAL ROLE lh_rules_none;
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv') $$, '42501', NULL, 'nothing without grant_use');
SELECT throws_ok($$ SELECT * FROM lakehouse.source_status $$, '42501', NULL, 'no view without grant_use');
SET LOCAL ROLE lh_rules_evil;
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv') $$, '42501', NULL, 'USAGE of the server is needed');
SELECT throws_ok($$ INSERT INTO lakehouse.source (name, owner, server, kind, target, home) VALUES ('x', 10, 'lh_rules', 'files', 'lh_rules.t', '') $$, '42501', NULL, 'the catalog is closed');
SELECT throws_ok($$ UPDATE lakehouse.file SET state = 'discovered' $$, '42501', NULL, 'the ledger is closed');
SELECT throws_ok($$ CREATE SERVER x FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/etc') $$, '42501', NULL, 'a server needs USAGE of the wrapper');
SET LOCAL ROLE lh_rules_keeper;
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv') $$, '42501', NULL, 'the target must be one''s own');
SET LOCAL ROLE lh_rules_etl;
SELECT lives_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv') $$, 'USAGE and ownership are enough');
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_rules_s', 'lh_rules', 'lh_rules.t', path => '*.csv') $$, '42710', NULL, 'a name is used once');
SELECT throws_ok($$ SELECT lakehouse.alter_source('lh_rules_s', owner => 'lh_rules_evil') $$, '42501', NULL, 'a source is not given to a stranger');
SET LOCAL ROLE lh_rules_evil;
SELECT throws_ok(format('SELECT lakehouse.%s', call), '42501', 'must be owner of source "lh_rules_s"', call || ' is the owner''s')
  FROM unnest(ARRAY['run_source(''lh_rules_s'')', 'alter_source(''lh_rules_s'', trigger => ''continuous'')', 'drop_source(''lh_rules_s'')',
                    'pause_source(''lh_rules_s'')', 'resume_source(''lh_rules_s'')',
                    'create_source(''lh_rules_s'', ''lh_rules'', ''lh_rules.t'', path => ''*.csv'', replace => true)']) AS call;
SELECT throws_ok($$ SELECT lakehouse.run_source('lh_rules_no') $$, '42704', NULL, 'a source that is not there');
SELECT is_empty($$ SELECT * FROM lakehouse.source_status WHERE name = 'lh_rules_s' $$, 'a stranger does not see the source');
SELECT is_empty('SELECT * FROM lakehouse._source_obstacle', 'nor whether something keeps it from being read');

-- the record of what happened is the owner's
RESET ROLE;
SELECT pg_temp.shell(format('printf ''x,bad\n'' >%s/b.csv', :'inbox'));
SET LOCAL ROLE lh_rules_etl;
SELECT results_eq($$ SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('lh_rules_s') $$, $$ VALUES (2::bigint, 2::bigint, 1::bigint, 0::bigint) $$, 'the source runs as its owner');
SELECT is((SELECT string_agg(convert_from(raw, 'UTF8') || ' ' || sqlstate, ';') FROM lakehouse.reject_status WHERE source = 'lh_rules_s'), 'x,bad 22P02', 'the owner sees the record');
SET LOCAL ROLE lh_rules_evil;
SELECT is_empty($$ SELECT * FROM lakehouse.reject_status WHERE source = 'lh_rules_s' $$, 'a stranger sees no reject');
SELECT is_empty($$ SELECT * FROM lakehouse.file_status WHERE source = 'lh_rules_s' $$, 'a stranger sees no file');
SELECT is_empty($$ SELECT * FROM lakehouse.load_status WHERE source = 'lh_rules_s' $$, 'a stranger sees no load');
SET LOCAL ROLE lh_rules_monitor;
SELECT is((SELECT string_agg(format('%s|%s|%s', raw, message, sqlstate), ';') FROM lakehouse.reject_status WHERE source = 'lh_rules_s'), '||22P02', 'a monitor sees that, not what');
SELECT isnt_empty($$ SELECT * FROM lakehouse.source_status WHERE name = 'lh_rules_s' $$, 'a monitor sees the source');
RESET ROLE;

-- rights that are lost stop the source; what is in the way is named
REVOKE USAGE ON FOREIGN SERVER lh_rules FROM lh_rules_etl;
SELECT throws_ok($$ SELECT lakehouse.run_source('lh_rules_s') $$, '42501', NULL, 'USAGE is asked for at each run, though a superuser runs it');
GRANT USAGE ON FOREIGN SERVER lh_rules TO lh_rules_etl;
REVOKE pg_read_server_files FROM lh_rules_keeper;
SELECT throws_ok($$ SELECT lakehouse.run_source('lh_rules_s') $$, '42501', NULL, 'the server''s owner must be able to read files');
GRANT pg_read_server_files TO lh_rules_keeper;
SELECT pg_temp.shell(format('printf ''3,three\n'' >%s/c.csv', :'inbox'));
REVOKE INSERT ON lh_rules.t FROM lh_rules_etl;
SELECT throws_ok($$ SELECT lakehouse.run_source('lh_rules_s') $$, '42501', NULL, 'INSERT is asked for at each run');
GRANT INSERT ON lh_rules.t TO lh_rules_etl;
ALTER TABLE lh_rules.t ENABLE ROW LEVEL SECURITY;
ALTER TABLE lh_rules.t FORCE ROW LEVEL SECURITY;
SELECT throws_ok($$ SELECT lakehouse.run_source('lh_rules_s') $$, '0A000', NULL, 'row security that applies to the owner is not passed by');
ALTER TABLE lh_rules.t NO FORCE ROW LEVEL SECURITY;
UPDATE lakehouse.source SET home = 'another' WHERE name = 'lh_rules_s';
SELECT throws_ok($$ SELECT lakehouse.run_source('lh_rules_s') $$, '55000', NULL, 'a copied database does not ingest');
SELECT is((SELECT state FROM lakehouse.source_status WHERE name = 'lh_rules_s'), 'blocked', 'and says so');
SELECT lakehouse.resume_source('lh_rules_s');
SELECT results_eq($$ SELECT rows FROM lakehouse.run_source('lh_rules_s') $$, $$ VALUES (1::bigint) $$, 'until a person says that it should');

-- code of the table runs as the source's owner, and no higher
SET LOCAL ROLE lh_rules_etl;
CREATE TABLE lh_rules.who (who name, escaped text);
CREATE FUNCTION lh_rules.spy() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE escape text := 'no';
BEGIN
    BEGIN
        RESET ROLE;
        escape := 'reset';
    EXCEPTION WHEN OTHERS THEN escape := SQLSTATE;
    END;
    INSERT INTO lh_rules.who VALUES (current_user, escape);
    RETURN NEW;
END $$;
CREATE TRIGGER spy BEFORE INSERT ON lh_rules.t FOR EACH ROW EXECUTE FUNCTION lh_rules.spy();
RESET ROLE;
SELECT pg_temp.shell(format('printf ''4,four\n'' >%s/d.csv', :'inbox'));
SELECT results_eq($$ SELECT rows FROM lakehouse.run_source('lh_rules_s') $$, $$ VALUES (1::bigint) $$, 'a superuser runs the source of another role');
SELECT is((SELECT string_agg(who || ' ' || escaped, ';') FROM lh_rules.who), 'lh_rules_etl 42501', 'its trigger runs as that role and cannot leave it');

-- names and links
SELECT pg_temp.shell(format('cd %s; ln -s ../out/secret.csv link.csv; ln -s ../out linked; ln -s /etc/passwd passwd.csv; mkfifo fifo.csv;'
    ' mkdir dir.csv; printf ''5,five\n'' >"$(printf ''bad\377name.csv'')"; printf ''6,six\n'' >"sp ace'';x.csv"', :'inbox'));
SELECT results_eq($$ SELECT files, rows, failed_files FROM lakehouse.run_source('lh_rules_s') $$, $$ VALUES (1::bigint, 1::bigint, 0::bigint) $$, 'links, a FIFO, a directory and a bad name stop nothing');
SELECT is((SELECT string_agg(path || ' ' || sqlstate || ' ' || error, E'\n' ORDER BY path COLLATE "C") FROM lakehouse.file_status
            WHERE source = 'lh_rules_s' AND state = 'skipped'),
    $$bad\xffname.csv 22021 its name is not valid in the encoding of the database
dir.csv 42809 is a directory, not a regular file
fifo.csv 42809 is a FIFO, not a regular file
link.csv 42809 is a symbolic link, not a regular file
passwd.csv 42809 is a symbolic link, not a regular file$$, 'each of them is shown with its reason');
SELECT lakehouse.create_source('lh_rules_deep', 'lh_rules', 'lh_rules.u', path => '**/*.csv');
SELECT lakehouse.run_source('lh_rules_deep');
SELECT is_empty($$ SELECT * FROM lh_rules.u WHERE id = 7 $$, 'a linked directory is not entered');
SELECT lakehouse.create_source('lh_rules_linked', 'lh_rules', 'lh_rules.u', path => 'linked/*.csv');
SELECT results_eq($$ SELECT files FROM lakehouse.run_source('lh_rules_linked') $$, $$ VALUES (0::bigint) $$, 'not even by its name');
SELECT lakehouse.drop_source('lh_rules_s');
SELECT is_empty($$ SELECT * FROM lakehouse.file WHERE source_id NOT IN (SELECT source_id FROM lakehouse.source) $$, 'a dropped source leaves no ledger');

SELECT pg_temp.shell(format('rm -rf %s', :'dir'));
SELECT * FROM finish();
ROLLBACK;
