-- Sources of files: what a user writes, and what he is told.
\getenv builddir PG_ABS_BUILDDIR
\set landing :builddir '/results/source_landing'
\setenv LANDING :landing
\! rm -rf "$LANDING"; mkdir -p "$LANDING/orders" "$LANDING/more/deep/er"
\! printf 'id,name,price\n1,ann,1.50\n2,bob,\n3,"c, d",2\n' > "$LANDING/orders/a.csv"; touch -d '2020-01-01 10:00 UTC' "$LANDING/orders/a.csv"
\! printf 'id,name,price\n4,eve,4\nx,bad,1\n,nobody,1\n5,fin,5,6\n6,gus,6\n' > "$LANDING/orders/b.csv"; touch -d '2020-01-01 11:00 UTC' "$LANDING/orders/b.csv"
\! : > "$LANDING/orders/empty.csv"; printf 'id,name,price\n' > "$LANDING/orders/header.csv"; touch -d '2020-01-01 12:00 UTC' "$LANDING/orders/empty.csv" "$LANDING/orders/header.csv"
\! touch "$LANDING/orders/.hidden.csv" "$LANDING/orders/_SUCCESS.csv" "$LANDING/orders/c.csv.tmp" "$LANDING/orders/c.csv.part"
CREATE SCHEMA src;
CREATE SERVER src_landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory :'landing');
CREATE TABLE src.orders (id bigint NOT NULL, name text, price numeric(10,2), file text, line bigint);

-- what is refused, and how to put it right
SELECT lakehouse.create_source(NULL, 'src_landing', 'src.orders', path => '*.csv');
SELECT lakehouse.create_source('o', NULL, 'src.orders', path => '*.csv');
SELECT lakehouse.create_source('o', 'src_landing', NULL, path => '*.csv');
SELECT lakehouse.create_source('o', 'src_nowhere', 'src.orders', path => '*.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.order', path => '*.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'pg_catalog.pg_class', path => '*.csv');
CREATE VIEW src.v AS SELECT 1 AS id;
SELECT lakehouse.create_source('o', 'src_landing', 'src.v', path => '*.csv');
CREATE UNLOGGED TABLE src.unlogged (id int);
SELECT lakehouse.create_source('o', 'src_landing', 'src.unlogged', path => '*.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '/etc/*.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '../*.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => 'a/./b.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => 'a//b.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => 'a/**b.csv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => 'a/**');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => 'orders/*');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', format => 'cssv');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', trigger => 'continous');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', topics => '{a}');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', options => '{"haeder": true}');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', options => '{"settle_ms": -1}');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', options => '{"metadata": "file_path"}');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', options => '{"metadata": {"file": "file_paht"}}');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', options => '{"metadata": {"fiel": "file_path"}}');
SELECT lakehouse.create_source('o', 'src_landing', 'src.orders', path => '*.csv', options => '{"metadata": {"line": "file_path"}}');
SELECT lakehouse.create_source(repeat('o', 64), 'src_landing', 'src.orders', path => '*.csv');
SELECT lakehouse.run_source('o');
SELECT lakehouse.alter_source('o', trigger => 'continuous');
SELECT lakehouse.drop_source('o');
SELECT lakehouse.drop_source('o', if_exists => true);
SELECT lakehouse.pause_source('o');
SELECT lakehouse.resume_source('o');

-- a source, its first run, and a run with nothing new
SELECT lakehouse.create_source('src_orders', 'src_landing', 'src.orders', path => 'orders/*.csv',
    options => '{"header": true, "metadata": {"file": "file_name", "line": "line"}}');
SELECT lakehouse.create_source('src_orders', 'src_landing', 'src.orders', path => 'orders/*.csv');
SELECT state, waiting_files FROM lakehouse.source_status WHERE name = 'src_orders';
SELECT * FROM lakehouse.run_source('src_orders');
SELECT * FROM lakehouse.run_source('src_orders');
SELECT id, name, price, file, line FROM src.orders ORDER BY id;
SELECT file, line, byte_offset, convert_from(raw, 'UTF8') AS raw, stage, sqlstate, message, column_name
  FROM lakehouse.reject_status WHERE source = 'src_orders' ORDER BY reject_id;
SELECT path, state, size, "position", line, rows, rejected FROM lakehouse.file_status
 WHERE source = 'src_orders' ORDER BY path;
SELECT target, kind, file, first_position, last_position, rows, rejected, bytes
  FROM lakehouse.load_status WHERE source = 'src_orders' ORDER BY load_id;
SELECT name, kind, target, format, path, trigger, state, reason, waiting_files, rows, rejected, failures
  FROM lakehouse.source_status WHERE name = 'src_orders';

-- every row leads to its load
SELECT l.file, count(*) FROM src.orders o JOIN lakehouse.load_status l ON l.load_id = o._load_id
 GROUP BY l.file ORDER BY l.file;

-- a file that changed after it was loaded is shown and not loaded again
\! printf '7,hal,7\n' >> "$LANDING/orders/a.csv"
SELECT * FROM lakehouse.run_source('src_orders');
SELECT path, state, sqlstate, error FROM lakehouse.file_status WHERE state = 'changed' AND source = 'src_orders';
SELECT changed_files FROM lakehouse.source_status WHERE name = 'src_orders';

-- a file with a wrong header is set aside and the others go on
\! printf 'id,name,prize\n8,ida,8\n' > "$LANDING/orders/d.csv"; touch -d '2020-01-02 UTC' "$LANDING/orders/d.csv"
\! printf 'id,name,price\n9,joe,9\n' > "$LANDING/orders/e.csv"; touch -d '2020-01-03 UTC' "$LANDING/orders/e.csv"
SELECT * FROM lakehouse.run_source('src_orders');
SELECT path, state, attempts, sqlstate, error, retry_at IS NOT NULL AS again FROM lakehouse.file_status
 WHERE state = 'failed' AND source = 'src_orders';
-- repaired: by hand there is no waiting
\! printf 'id,name,price\n8,ida,8\n' > "$LANDING/orders/d.csv"
SELECT * FROM lakehouse.run_source('src_orders');
SELECT path, state, attempts, sqlstate, error FROM lakehouse.file_status WHERE path = 'orders/d.csv';

-- pause, resume, rename; positions stay
SELECT lakehouse.pause_source('src_orders', 'supplier sends nonsense');
SELECT state, reason FROM lakehouse.source_status WHERE name = 'src_orders';
SELECT lakehouse.run_source('src_orders');
SELECT lakehouse.resume_source('src_orders');
SELECT lakehouse.alter_source('src_orders', new_name => 'src_orders2', trigger => 'available_now');
SELECT lakehouse.alter_source('src_orders2', trigger => 'sometimes');
SELECT lakehouse.alter_source('src_orders2', path => '../x.csv');
SELECT lakehouse.alter_source('src_orders2', options => '{"header": "perhaps"}');
SELECT lakehouse.alter_source('src_orders2', owner => 'src_nobody');
SELECT * FROM lakehouse.run_source('src_orders2');
-- deployed again: the ledger is kept
SELECT lakehouse.create_source('src_orders2', 'src_landing', 'src.orders', path => 'orders/*.csv',
    options => '{"header": true}', replace => true);
SELECT * FROM lakehouse.run_source('src_orders2');

-- a pattern over directories
\! for d in more more/deep more/deep/er; do printf '{"id": %s}\n' "$(echo $d | wc -c)" > "$LANDING/$d/f.json"; done
\! touch -d '2020-01-01 UTC' "$LANDING"/more/f.json "$LANDING"/more/deep/f.json "$LANDING"/more/deep/er/f.json
CREATE TABLE src.deep (id int);
SELECT lakehouse.create_source('src_deep', 'src_landing', 'src.deep', path => 'more/**/[a-f].json');
SELECT * FROM lakehouse.run_source('src_deep');
SELECT id FROM src.deep ORDER BY id;
CREATE TABLE src.flat (id int);
SELECT lakehouse.create_source('src_flat', 'src_landing', 'src.flat', path => '*/d??p/f.json');
SELECT * FROM lakehouse.run_source('src_flat');
SELECT id FROM src.flat;

-- a large file is loaded in parts, each a load of its own
\! mkdir "$LANDING/big"; (echo id; seq 1 30000) > "$LANDING/big/n.csv"
CREATE TABLE src.big (id int);
SELECT lakehouse.create_source('src_big', 'src_landing', 'src.big', path => 'big/*.csv', options => '{"header": true}');
SET lakehouse.batch_bytes = '64kB';
SELECT files, loads > 1 AS parts, rows, rejected, bytes FROM lakehouse.run_source('src_big');
RESET lakehouse.batch_bytes;
SELECT count(*), count(DISTINCT id), min(id), max(id), sum(id), count(DISTINCT _load_id) > 1 AS parts FROM src.big;
-- the parts join without a gap, and hold the rows that they say
SELECT bool_and(first_position = previous) AS joined, max(last_position) FROM
  (SELECT first_position, last_position, lag(last_position, 1, 0) OVER (ORDER BY load_id) AS previous
     FROM lakehouse.load_status WHERE source = 'src_big') p;
SELECT l.rows = r.rows AS same, count(*) > 1 AS parts FROM lakehouse.load_status l
  JOIN (SELECT _load_id, count(*) AS rows FROM src.big GROUP BY 1) r ON r._load_id = l.load_id GROUP BY 1;

-- all that a table can ask of a row
\! mkdir "$LANDING/rules"; printf 'k,n,ref\na,1,10\nb,2,10\nb,2,10\nz,3,10\na,-4,10\na,5,11\nb,x,10\nb,6,10\na,13,10\n' > "$LANDING/rules/r.csv"
CREATE TABLE src.ref (id int PRIMARY KEY);
INSERT INTO src.ref VALUES (10);
CREATE TABLE src.rules (
    number int GENERATED ALWAYS AS IDENTITY, k text, n int CHECK (n > 0),
    ref int REFERENCES src.ref DEFERRABLE INITIALLY DEFERRED,
    twice int GENERATED ALWAYS AS (n * 2) STORED, made date DEFAULT '2020-02-02', note text,
    UNIQUE (k, n)) PARTITION BY LIST (k);
CREATE TABLE src.rules_a PARTITION OF src.rules FOR VALUES IN ('a');
CREATE TABLE src.rules_b (note text, n int CONSTRAINT rules_n_check CHECK (n > 0), k text, made date, ref int, number int NOT NULL,
    twice int GENERATED ALWAYS AS (n * 2) STORED);
ALTER TABLE src.rules ATTACH PARTITION src.rules_b FOR VALUES IN ('b');
CREATE TABLE src.seen (what text, n int);
CREATE FUNCTION src.before_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n = 13 THEN RAISE EXCEPTION 'thirteen is not wanted'; END IF;
    NEW.note := format('%s by %s', NEW.note, current_user = session_user);
    RETURN NEW;
END $$;
CREATE TRIGGER before_row BEFORE INSERT ON src.rules_a FOR EACH ROW EXECUTE FUNCTION src.before_row();
CREATE FUNCTION src.after_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO src.seen VALUES (TG_TABLE_NAME, NEW.n); RETURN NULL; END $$;
CREATE TRIGGER after_row AFTER INSERT ON src.rules FOR EACH ROW EXECUTE FUNCTION src.after_row();
CREATE FUNCTION src.after_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO src.seen SELECT 'statement', n FROM added; RETURN NULL; END $$;
SELECT lakehouse.create_source('src_rules', 'src_landing', 'src.rules', path => 'rules/*.csv', options => '{"header": true}');
CREATE TRIGGER after_statement AFTER INSERT ON src.rules REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION src.after_statement();
SELECT * FROM lakehouse.run_source('src_rules');
SELECT tableoid::regclass, k, n, ref, twice, made, note FROM src.rules ORDER BY n;
SELECT * FROM src.seen ORDER BY what, n;
SELECT line, stage, sqlstate, regexp_replace(message, 'Failing row contains.*', '') AS message, column_name
  FROM lakehouse.reject_status WHERE source = 'src_rules' ORDER BY line;
-- index entries are there
SET enable_seqscan = off;
SELECT k, n FROM src.rules WHERE k = 'b' AND n = 6;
RESET enable_seqscan;

-- obstacles
CREATE TABLE src.gone (id int);
SELECT lakehouse.create_source('src_gone', 'src_landing', 'src.gone', path => '*.csv');
DROP TABLE src.gone;
SELECT state, reason, target FROM lakehouse.source_status WHERE name = 'src_gone';
SELECT lakehouse.run_source('src_gone');
SELECT lakehouse.alter_source('src_gone', path => 'x.csv');
ALTER TABLE src.deep DROP COLUMN _load_id;
\! printf '{"id": 99}\n' > "$LANDING/more/e.json"
SELECT lakehouse.run_source('src_deep');
ALTER TABLE src.flat SET UNLOGGED;
\! mkdir "$LANDING/other" "$LANDING/other/damp"; printf '{"id": 98}\n' > "$LANDING/other/damp/f.json"
SELECT lakehouse.alter_source('src_flat', path => '*/d??p/?.json');
SELECT lakehouse.run_source('src_flat');
ALTER TABLE src.flat SET LOGGED;
ALTER TABLE src.flat ENABLE ROW LEVEL SECURITY;
ALTER TABLE src.flat FORCE ROW LEVEL SECURITY;
-- a superuser passes by row security
SELECT rows FROM lakehouse.run_source('src_flat');
\! rm -rf "$LANDING"
SELECT lakehouse.drop_source(name) FROM lakehouse.source_status WHERE server = 'src_landing' ORDER BY name;
SELECT count(*) FROM lakehouse.file_status WHERE source LIKE 'src\_%';
SET client_min_messages = warning;
DROP SCHEMA src CASCADE;
DROP SERVER src_landing;
