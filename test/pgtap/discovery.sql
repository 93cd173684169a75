-- Options that say which files a source takes, and when: what is refused.
BEGIN;
SELECT plan(33);
CREATE SCHEMA lh_discovery;
CREATE TABLE lh_discovery.t (id int);
CREATE SERVER lh_discovery FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/tmp');

CREATE FUNCTION pg_temp.try(options jsonb) RETURNS void LANGUAGE sql AS
$$ SELECT lakehouse.create_source('lh_discovery', 'lh_discovery', 'lh_discovery.t', path => 'lh_no_such_directory/*.csv', options => options) $$;

SELECT throws_ok(format('SELECT pg_temp.try(%L)', o), '22023', m, d)
  FROM (VALUES
	('{"modified_after": "yesterday"}', 'invalid value "yesterday" for option "modified_after"', 'a word is no time: it would move'),
	('{"modified_after": "2020-13-01"}', 'invalid value "2020-13-01" for option "modified_after"', 'no month 13'),
	('{"modified_before": "infinity"}', 'invalid value "infinity" for option "modified_before"', 'nor is infinity one'),
	('{"modified_before": 2020}', 'invalid value for option "modified_before"', 'nor a number'),
	('{"modified_before": "294276-01-01"}', 'invalid value "294276-01-01" for option "modified_before"', 'nor what no file can have'),
	('{"modified_after": "2020-01-02", "modified_before": "2020-01-01"}', 'option "modified_after" must be earlier than "modified_before"', 'no time at all between'),
	('{"modified_after": "2020-01-02", "modifiedAfter": "2020-01-01"}', 'options "modifiedAfter" and "modified_after" mean the same', 'two spellings of one option'),
	('{"modifed_after": "2020-01-02"}', 'unrecognized CSV option "modifed_after"', 'a misspelt option'),
	('{"include_existing": "maybe"}', 'invalid value for option "include_existing"', 'a truth value'),
	('{"ignore": "a/b"}', 'invalid value "a/b" for option "ignore"', 'a name has no slash'),
	('{"ignore": ["a", 1]}', 'invalid value for option "ignore"', 'names are texts'),
	('{"ignore": [""]}', 'invalid value for option "ignore"', 'and not empty'),
	('{"ignore": {"a": 1}}', 'invalid value for option "ignore"', 'an object is no list'),
	('{"path_glob_filter": "a/*.csv"}', 'invalid value "a/*.csv" for option "path_glob_filter"', 'the filter is for names'),
	('{"done_marker": ""}', 'invalid value "" for option "done_marker"', 'a marker has a name'),
	('{"done_marker": "../x"}', 'invalid value "../x" for option "done_marker"', 'in the same folder'),
	('{"done_marker": "{name}"}', 'invalid value "{name}" for option "done_marker"', 'the file itself marks nothing'),
	('{"done_marker": "{file}.done"}', 'invalid value "{file}.done" for option "done_marker"', 'a brace that means nothing'),
	('{"done_marker": "{name}{stem}"}', 'invalid value "{name}{stem}" for option "done_marker"', 'two names'),
	('{"order_by": "size"}', 'unrecognized value of option "order_by" "size"', 'an order'),
	('{"discovery": "magic"}', 'unrecognized value of option "discovery" "magic"', 'a way of discovery'),
	('{"backfill_interval": "10"}', 'invalid value for option "backfill_interval"', 'an interval has a unit'),
	('{"backfill_interval": "0 minutes"}', 'invalid value for option "backfill_interval"', 'and is not empty'),
	('{"backfill_interval": "1 fortnight"}', 'invalid value for option "backfill_interval"', 'a unit that is known'),
	('{"max_files_per_trigger": 0}', 'invalid value for option "max_files_per_trigger"', 'a batch has a file'),
	('{"max_bytes_per_trigger": "10x"}', 'invalid value for option "max_bytes_per_trigger"', 'bytes have units'),
	('{"max_bytes_per_trigger": "9999999tb"}', 'invalid value for option "max_bytes_per_trigger"', 'and limits'),
	('{"max_rows_per_batch": -1}', 'invalid value for option "max_rows_per_batch"', 'a batch has a row')
  ) v(o, m, d);
SELECT throws_ok($$ SELECT lakehouse.create_source('lh_discovery', 'lh_discovery', 'lh_discovery.t', path => repeat('a/', 64) || 'b.csv') $$,
	'22023', NULL, 'a path has 64 names at most');

SELECT lives_ok($$ SELECT pg_temp.try('{"cloudFiles.includeExistingFiles": "false", "modifiedAfter": "2020-01-01T10:00:00+02", "maxFilesPerTrigger": "10",
	"maxBytesPerTrigger": "10g", "cloudFiles.backfillInterval": "1 day", "ignore": "*.a, *.b", "doneMarker": "{stem}.ok", "orderBy": "name",
	"pathGlobFilter": "*.csv", "settleMs": 10, "onChange": "tail", "rescuedDataColumn": null}') $$, 'other spellings are known');
SELECT is((SELECT string_agg(k, ' ' ORDER BY k) FROM lakehouse.source, jsonb_object_keys(options) k WHERE name = 'lh_discovery'),
	'backfill_interval done_marker ignore include_existing max_bytes_per_trigger max_files_per_trigger modified_after on_change order_by path_glob_filter rescued_data_column settle_ms',
	'and are kept under ours');
SELECT lives_ok($$ SELECT lakehouse.alter_source('lh_discovery', options => '{"ignore": []}') $$, 'nothing may be ignored');
SELECT throws_ok($$ SELECT lakehouse.alter_source('lh_discovery', options => '{"orderBy": "nmae"}') $$, '22023', NULL, 'alter_source looks as well');
SELECT * FROM finish();
ROLLBACK;
