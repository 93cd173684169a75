# lakehouse.promote_rescued: values that were rescued become values of a column,
# of all rows by one statement. Rows keep their loads: the ledger, undo_file,
# reingest_file, replay and flows go on as if nothing had come.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('promote');
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', @_) }

# answer gives what a statement says to a user: result, notices, errors
sub answer
{
	my ($statement) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	return $out . ($out ne '' && $err ne '' ? "\n" : '') . $err;
}

sub put
{
	my ($path, $content) = @_;
	open(my $file, '>:raw', "$landing/$path.tmp~") or die "$path: $!";
	print $file $content;
	close($file) or die "$path: $!";
	rename("$landing/$path.tmp~", "$landing/$path") or die "$path: $!";
	return;
}

sub source
{
	my ($name, $target, $path, $options) = @_;
	return sql("SELECT lakehouse.create_source('$name', server => 'landing', target => '$target', "
		  . "path => '$path', options => \$o\$" . ($options // '{}') . "\$o\$); SELECT files, rows, rejected FROM lakehouse.run_source('$name')") =~ s/^\n//r;
}

sub rows
{
	my ($table, $order) = @_;
	return sql("SELECT (to_jsonb(t) - '_load_id')::text FROM $table t ORDER BY " . ($order // 'id'));
}

sub promote { return sql('SELECT promoted, remaining, reasons FROM lakehouse.promote_rescued(' . $_[0] . ')') }

# ------------------------------------------------------------ what moves

sql('CREATE TABLE j (id bigint, day date, _rescued_data jsonb)');
put('j1.json', <<'END');
{"id": 1, "a": 5, "b": "x", "c": [1, 2]}
{"id": 2, "a": "6", "b": {"q": [1]}, "c": 7}
{"id": 3, "a": "no", "day": "soon"}
{"id": 4, "_line": "2024-01-01", "_reason": "why"}
{"id": 5, "a": null}
{"id": 6, "a": 1, "a": 2}
{"id": 7, "a": 99999999999}
{"id": 8, "ID": 9}
{"id": 10, "day": "2024-02-02", "day": null}
END
is(source('j', 'j', 'j*.json'), '1|9|0', 'a file with fields that are no columns');
my $loads = sql('SELECT id, _load_id FROM j ORDER BY id');
is(promote(q{'j', 'a', 'int'}), '2|3|{"22003": 1, "22P02": 2}', 'what converts is promoted, what does not is counted by its reason');
is(promote(q{'j', 'line', 'date', field => '_line'}), '1|0|{}', 'a field with the name of a member of ours');
is(promote(q{'j', 'why', 'text', field => '_reason'}), '1|0|{}', 'or with that of the reasons');
is(promote(q{'j', 'c', 'int[]'}), '1|1|{"22P02": 1}', 'arrays');
is(promote(q{'j', 'b', 'jsonb'}), '2|0|{}', 'JSON as it is');
is(promote(q{'j', 'id'}), '0|0|{}', 'nothing to promote');
is(promote(q{'j', 'id', field => 'ID'}), '0|1|{"column_has_value": 1}', 'a value never replaces another');
is(promote(q{'j', 'day'}), '0|2|{"22007": 1, "duplicate": 1}', 'nor does one that a later null stands for');
is(rows('j'), <<'END' =~ s/\n\z//r, 'each value is in one place');
{"a": 5, "b": "x", "c": [1, 2], "id": 1, "day": null, "why": null, "line": null, "_rescued_data": null}
{"a": 6, "b": {"q": [1]}, "c": null, "id": 2, "day": null, "why": null, "line": null, "_rescued_data": {"c": 7, "_line": 2, "_reason": {"c": "unknown_column"}, "_file_path": "j1.json"}}
{"a": null, "b": null, "c": null, "id": 3, "day": null, "why": null, "line": null, "_rescued_data": {"a": "no", "day": "soon", "_line": 3, "_reason": {"a": "unknown_column", "day": "type_mismatch"}, "_file_path": "j1.json"}}
{"a": null, "b": null, "c": null, "id": 4, "day": null, "why": "why", "line": "2024-01-01", "_rescued_data": null}
{"a": null, "b": null, "c": null, "id": 5, "day": null, "why": null, "line": null, "_rescued_data": null}
{"a": null, "b": null, "c": null, "id": 6, "day": null, "why": null, "line": null, "_rescued_data": {"a": [1, 2], "_line": 6, "_reason": {"a": "unknown_column"}, "_file_path": "j1.json"}}
{"a": null, "b": null, "c": null, "id": 7, "day": null, "why": null, "line": null, "_rescued_data": {"a": 99999999999, "_line": 7, "_reason": {"a": "unknown_column"}, "_file_path": "j1.json"}}
{"a": null, "b": null, "c": null, "id": 8, "day": null, "why": null, "line": null, "_rescued_data": {"ID": 9, "_line": 8, "_reason": {"ID": "case_mismatch"}, "_file_path": "j1.json"}}
{"a": null, "b": null, "c": null, "id": 10, "day": null, "why": null, "line": null, "_rescued_data": {"day": "2024-02-02", "_line": 9, "_reason": {"day": "duplicate"}, "_file_path": "j1.json"}}
END
is(sql('SELECT id, _load_id FROM j ORDER BY id'), $loads, 'and rows keep their loads');
sql('ALTER TABLE j ALTER a TYPE bigint, ALTER day TYPE text');
is(promote(q{'j', 'a', 'bigint'}), '1|2|{"22P02": 2}', 'after the type was changed more converts');
is(promote(q{'j', 'day', 'text'}), '1|1|{"duplicate": 1}', 'also of a column that was there');
is(sql('SELECT a, day FROM j WHERE id IN (3, 7) ORDER BY id'), "|soon\n99999999999|", 'with its value');

# CSV: texts, read as the source reads them
sql('CREATE DOMAIN odd AS int CHECK (VALUE % 2 = 1) NOT NULL; CREATE DOMAIN small AS int CHECK (VALUE < 100)');
sql('CREATE TABLE c (id bigint, rest jsonb)');
put('c1.csv', qq(id,day,doc,n,price,list\n1,31.12.2024,"{""a"": 1}",7,"1,5","{1,2}"\n2,30.02.2024,{,700,2.5,"{3}"\n3,01.01.2025,3,8,,x\n));
is(source('c', 'c', 'c*.csv', '{"header": true, "rescued_data_column": "rest", "date_format": "dd.MM.yyyy"}'), '1|3|0', 'a CSV file');
is(promote(q{'c', 'day', 'date'}), '2|1|{"22008": 1}', 'dates in the notation of the source');
is(promote(q{'c', 'doc', 'jsonb'}), '2|1|{"22P02": 1}', 'JSON in a field');
is(promote(q{'c', 'n', 'small'}), '2|1|{"23514": 1}', 'domains judge');
is(promote(q{'c', 'price', 'numeric(6,2)'}), '1|1|{"22P02": 1}', 'types with modifiers');
is(promote(q{'c', 'list', 'int[]'}), '2|1|{"22P02": 1}', 'texts of arrays');
is(rows('c'), <<'END' =~ s/\n\z//r, 'and the rest stays');
{"n": 7, "id": 1, "day": "2024-12-31", "doc": {"a": 1}, "list": [1, 2], "rest": {"_line": 2, "price": "1,5", "_reason": {"price": "unknown_column"}, "_file_path": "c1.csv"}, "price": null}
{"n": null, "id": 2, "day": null, "doc": null, "list": [3], "rest": {"n": "700", "day": "30.02.2024", "doc": "{", "_line": 3, "_reason": {"n": "unknown_column", "day": "unknown_column", "doc": "unknown_column"}, "_file_path": "c1.csv"}, "price": 2.50}
{"n": 8, "id": 3, "day": "2025-01-01", "doc": 3, "list": null, "rest": {"list": "x", "_line": 4, "_reason": {"list": "unknown_column"}, "_file_path": "c1.csv"}, "price": null}
END
like(answer(q{SELECT * FROM lakehouse.promote_rescued('c', 'o', 'odd')}), qr/23502|23514/, 'a domain that no row can have as NULL adds no column');

# two sources of one table, each read by its own rules; and one by hand
sql('CREATE TABLE two (id bigint, _rescued_data jsonb)');
put('w1.csv', "id,v,d\n1,\"{}\",01/02/2024\n");
put('w2.json', qq({"id": 2, "v": "{}", "d": "2024-02-01"}\n));
source('w1', 'two', 'w*.csv', '{"header": true, "date_format": "dd/MM/yyyy"}');
source('w2', 'two', 'w*.json');
sql(q{INSERT INTO two VALUES (3, '{"v": 1, "d": null}'), (4, '7'), (5, '{}')});
is(promote(q{'two', 'v', 'jsonb'}), '3|0|{}', 'rows of two sources and of none');
is(promote(q{'two', 'd', 'date'}), '2|1|{"null": 1}', 'by the options of each');
is(rows('two'), <<'END' =~ s/\n\z//r, 'with the values that the ingestion had made');
{"d": "2024-02-01", "v": {}, "id": 1, "_rescued_data": null}
{"d": "2024-02-01", "v": "{}", "id": 2, "_rescued_data": null}
{"d": null, "v": 1, "id": 3, "_rescued_data": {"d": null}}
{"d": null, "v": null, "id": 4, "_rescued_data": 7}
{"d": null, "v": null, "id": 5, "_rescued_data": {}}
END

# ------------------------------------- a partitioned table, its flows and files

sql(<<'END');
CREATE TABLE p (id bigint, g text, _rescued_data jsonb) PARTITION BY RANGE (id);
CREATE TABLE p1 (_rescued_data jsonb, g text, id bigint);
ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (1000);
CREATE TABLE agg (g text PRIMARY KEY, n bigint, s numeric);
CREATE TABLE app (id bigint, v int);
CREATE TABLE one (id bigint PRIMARY KEY, g text, v text);
END
put('p1.json', join('', map { qq({"id": $_, "g": "g@{[$_ % 3]}", "v": $_}\n) } 1 .. 150));
put('p2.json', qq({"id": "bad", "v": 1}\n{"id": 200, "g": "g0", "v": "x"}\n));
source('p', 'p', 'p*.json', '{"on_change": "replace"}');
sql(<<'END');
SELECT lakehouse.create_flow('agg', target => 'agg', mode => 'aggregate', query => $q$SELECT g, count(*) AS n, sum((_rescued_data->>'v')::int) FILTER (WHERE jsonb_typeof(_rescued_data->'v') = 'number') AS s FROM p GROUP BY g$q$);
SELECT lakehouse.create_flow('app', target => 'app', query => 'SELECT id, 1 AS v FROM p');
SELECT lakehouse.create_flow('one', target => 'one', mode => 'scd1', keys => '{id}', sequence_by => '{id}', query => 'SELECT id, g, NULL::text AS v FROM p WHERE id IS NOT NULL');
SELECT * FROM lakehouse.run();
END
my $before = sql('SELECT id, _load_id FROM p ORDER BY id');
my $loads_before = sql('SELECT count(*) FROM lakehouse.load');
my $said = answer(q{SELECT promoted, remaining, reasons FROM lakehouse.promote_rescued('p', 'v', 'int')});
like($said, qr/^150\|1\|\{"22P02": 1\}\n/, 'a partitioned table');
like($said, qr/NOTICE.*flows that read table "p" keep what they made of the promoted rows: "agg", "app", "one".*HINT.*drop_flow\('agg'\)/s, 'says which flows keep what they made');
is(sql('SELECT count(v), sum(v), count(*) FILTER (WHERE v <> id), count(_rescued_data) FROM p'), '150|11325|0|1', 'all partitions');
is(sql('SELECT id, _load_id FROM p ORDER BY id'), $before, 'loads stay');
is(sql('SELECT count(*) FROM lakehouse.load'), $loads_before, 'no load is made');
is(sql('SELECT count(*) FROM lakehouse.pending'), '0', 'nothing is queued');
is(sql(q{SELECT count(*) FROM ONLY lakehouse_data.old_} . sql(q{SELECT 'p'::regclass::oid})), '0', 'no old images are kept');
is(sql("SELECT loads, rows_in FROM lakehouse.run_flow('app')"), '0|0', 'a flow of mode append has nothing to read');
is(sql('SELECT count(*) FROM app'), '151', 'and does not double rows');
is(sql("SELECT object, \"check\" FROM lakehouse.verify() WHERE NOT ok"), 'agg|flow', 'verify: ledger, rows and loads agree; only the flow that reads rescued data differs');
is(sql("SELECT count(*) FROM lakehouse.verify_files('p') WHERE NOT ok"), '0', 'verify_files agrees');

# the way out that the notice names
sql(q{SELECT lakehouse.drop_flow('agg'); TRUNCATE agg;
	SELECT lakehouse.create_flow('agg', target => 'agg', mode => 'aggregate', query => 'SELECT g, count(*) AS n, sum(v) AS s FROM p GROUP BY g'); SELECT * FROM lakehouse.run()});
is(sql('SELECT g, n, s FROM agg ORDER BY g'), "g0|51|3825\ng1|50|3725\ng2|50|3775", 'makes the target anew');
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'and all agrees');
sql("UPDATE p SET v = 1000 WHERE id = 1; SELECT * FROM lakehouse.run()");
is(sql("SELECT s FROM agg WHERE g = 'g1'"), '4724', 'an update afterwards is captured as ever');

# files can be taken back, loaded again, replayed, replaced
is(sql("SELECT lakehouse.undo_file('p', 'p2.json')"), '1', 'undo_file finds the rows of a file');
sql("SELECT lakehouse.reingest_file('p', 'p1.json')");
is(sql("SELECT files, rows FROM lakehouse.run_source('p')"), '1|150', 'reingest_file loads a file anew');
is(sql('SELECT count(*), count(v), sum(v), count(_rescued_data) FROM p WHERE id > 1'), '149|149|11324|0', 'into the column that there is now');
sql("SELECT * FROM lakehouse.run()");
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'and flows follow');
sql('CREATE TABLE rp (id int, _rescued_data jsonb, CHECK (id < 10))');
put('rp.json', qq({"id": 1, "v": 1}\n{"id": 20, "v": 2}\n));
is(source('rp', 'rp', 'rp.json'), '1|1|1', 'a file with a reject');
is(promote(q{'rp', 'v', 'int'}), '1|0|{}', 'whose row is promoted');
sql("ALTER TABLE rp DROP CONSTRAINT rp_id_check; SELECT * FROM lakehouse.replay_rejects('rp')");
is(rows('rp'), qq({"v": 1, "id": 1, "_rescued_data": null}\n{"v": 2, "id": 20, "_rescued_data": null}), 'replay knows the column');
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'and the ledger agrees');

# ------------------------------------------------- triggers and constraints

sql(<<'END');
CREATE TABLE tr (id bigint, twice int GENERATED ALWAYS AS (id * 2) STORED, v int UNIQUE CHECK (v <> 13), _rescued_data jsonb);
CREATE TABLE log (what text);
CREATE TABLE follow (id bigint PRIMARY KEY, n bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
	INSERT INTO public.log VALUES (NEW.id || ' ' || current_user || ' ' || coalesce(NEW.v, -1));
	IF NEW.id = 5 THEN RETURN NULL; END IF;
	RETURN NEW;
END $f$;
CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN UPDATE public.tr SET v = 300 WHERE id = 4; RETURN NULL; END $f$;
CREATE TRIGGER note BEFORE UPDATE ON tr FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER after AFTER UPDATE ON tr FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION after();
END
put('tr.json', join('', map { qq({"id": $_, "V": $_}\n) } 1, 3, 4, 5));
source('tr', 'tr', 'tr*.json');
sql(q{SELECT lakehouse.create_flow('follow', target => 'follow', mode => 'aggregate', query => 'SELECT id, sum(v) AS n FROM tr GROUP BY id'); SELECT * FROM lakehouse.run()});
is(promote(q{'tr', 'v', field => 'V'}), '3|0|{}', 'triggers of the user fire and may prevent a row');
my $owner = sql('SELECT current_user');
is(sql('SELECT * FROM log ORDER BY 1'), "1 $owner 1\n3 $owner 3\n4 $owner 300\n4 $owner 4\n5 $owner 5", 'for each row, as the owner');
is(sql('SELECT id, v, twice, _rescued_data IS NULL FROM tr ORDER BY id'), "1|1|2|t\n3|3|6|t\n4|300|8|t\n5||10|f", 'what they do stays');
sql('SELECT * FROM lakehouse.run()');
is(sql('SELECT * FROM follow ORDER BY id') =~ s/\|\d+$//mgr, "1|\n3|\n4|300\n5|", 'what a trigger changes is new to flows, the promotion itself is not');
sql('DROP TRIGGER note ON tr; DROP TRIGGER after ON tr; DELETE FROM tr');
put('tr2.json', qq({"id": 1, "V": 1}\n{"id": 2, "V": 13}\n));
sql("SELECT lakehouse.run_source('tr')");
like(answer(q{SELECT * FROM lakehouse.promote_rescued('tr', 'v', field => 'V')}), qr/23514/, 'a constraint that a value breaks');
is(sql('SELECT count(v), count(_rescued_data) FROM tr'), '0|2', 'undoes the whole');

# ---------------------------------------------------------------- attacks

sql('CREATE TABLE x (id bigint, gone int, gen int GENERATED ALWAYS AS (1) STORED, ident int GENERATED ALWAYS AS IDENTITY, _rescued_data jsonb); ALTER TABLE x DROP gone; CREATE VIEW vx AS SELECT 1 AS a');
my $name = q{"; DROP TABLE x; --'$$ é};
put('x.json', qq~{"id": 1, "\\"; DROP TABLE x; --'\$\$ \\u00e9": 1, "gone": 2, "gen": 3, "ident": 4, "ctid": 5, "_load_id": 6, "": 7, ") = 1": 8, "@{[ 'l' x 70 ]}": 9}\n~);
source('x', 'x', 'x.json');
is(promote("'x', \$n\$$name\$n\$, 'int'"), '1|0|{}', 'an odd name is a name');
is(sql("SELECT \"" . ($name =~ s/"/""/gr) . '" FROM x'), '1', 'with its value');
is(promote(q{'x', 'gone', 'int'}), '1|0|{}', 'the name of a column that was dropped');
is(promote(q{'x', 'empty', 'int', field => ''}), '1|0|{}', 'an empty name');
is(promote("'x', 'long', 'int', field => '" . 'l' x 70 . "'"), '1|0|{}', 'a name too long for a column');
like(answer("SELECT lakehouse.promote_rescued('x', '" . 'l' x 70 . "', 'int')"), qr/42622.*HINT.*argument field/s, 'unless another column is named');
like(answer("SELECT lakehouse.promote_rescued('x', '', 'int')"), qr/42622/, 'or for none');
for my $type ('int; DROP TABLE x', 'int) ; DROP TABLE x --', 'int DEFAULT 1', 'int NOT NULL', 'setof int', 'nosuchtype', 'record', 'serial', '')
{
	like(answer("SELECT lakehouse.promote_rescued('x', 'y', '$type')"), qr/ERROR:  (42601|42704|42P16|42601)/, "\"$type\" is no type for a column");
}
for (['gen', '428C9'], ['ident', '428C9'], ['ctid', '42P10'], ['_load_id', '42P10'], ['_rescued_data', '42P10'])
{
	like(answer("SELECT lakehouse.promote_rescued('x', '$_->[0]', 'int')"), qr/$_->[1].*HINT.*field =>/s, "$_->[0] takes no values");
}
like(answer(q{SELECT lakehouse.promote_rescued('x', 'id', 'int')}), qr/42804.*is of type bigint.*HINT/s, 'a column of another type');
like(answer(q{SELECT lakehouse.promote_rescued('x', 'new')}), qr/22023.*HINT.*column_type/s, 'a new column needs a type');
like(answer(q{SELECT lakehouse.promote_rescued(NULL, 'new', 'int')}), qr/22004/, 'a table is needed');
like(answer(q{SELECT lakehouse.promote_rescued('x', NULL, 'int')}), qr/22004/, 'and a column');
like(answer(q{SELECT lakehouse.promote_rescued('vx', 'a', 'int')}), qr/42809/, 'no view');
like(answer(q{SELECT lakehouse.promote_rescued('p1', 'q', 'int')}), qr/42809.*HINT.*partitioned table/s, 'no partition');
like(answer(q{SELECT lakehouse.promote_rescued('log', 'q', 'int')}), qr/42703.*no column for rescued data.*HINT/s, 'a table without the column');
like(answer(q{SELECT lakehouse._rescued_rest('{}')}), qr/55000/, 'the inner functions are of no use alone');
is(sql('SELECT count(*) FROM x'), '1', 'the table is there');
sql("CREATE ROLE own; CREATE ROLE other; SELECT lakehouse.grant_use('own'); SELECT lakehouse.grant_use('other'); GRANT ALL ON x TO other; ALTER TABLE x OWNER TO own; GRANT CREATE ON SCHEMA public TO own");
like(answer(q{SET ROLE other; SELECT lakehouse.promote_rescued('x', 'q', 'int')}), qr/42501.*must be owner/s, 'who does not own the table cannot');
sql(<<'END');
CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
	INSERT INTO public.log VALUES (current_user || ' ' || coalesce(lakehouse._rescued_value(NEW._rescued_data, 0, 1::bigint)::text, '-'));
	RETURN NEW;
END $f$;
GRANT INSERT ON log TO own; TRUNCATE log; CREATE TRIGGER steal BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION steal();
END
like(answer(q{SELECT lakehouse.promote_rescued('x', 'eight', 'int', field => ') = 1')}), qr/55000/, 'a trigger cannot read values as another type');
sql('DROP TRIGGER steal ON x; CREATE OR REPLACE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO public.log VALUES (current_user); RETURN NEW; END $f$; CREATE TRIGGER steal BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION steal()');
is(promote(q{'x', 'eight', 'int', field => ') = 1'}), '1|0|{}', 'a superuser promotes in the table of another');
is(sql('SELECT * FROM log'), 'own', 'whose triggers act as that one');
sql('CREATE TABLE wide (id bigint, _rescued_data jsonb); DO $$BEGIN EXECUTE (SELECT \'ALTER TABLE wide \' || string_agg(\'ADD c\' || i || \' bool\', \', \') FROM generate_series(1, 1597) i); END$$');
put('wide.json', qq({"id": 1, "n": 1, "m": 2}\n));
source('wide', 'wide', 'wide.json');
like(answer(q{SELECT lakehouse.promote_rescued('wide', 'n', 'int')}), qr/54011/, 'a table has 1600 columns at most');
is(sql('SELECT count(_rescued_data) FROM wide'), '1', 'and keeps the value');

# locks
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM two');
like(answer(q{SET lakehouse.schema_lock_timeout = 10; SELECT lakehouse.promote_rescued('two', 'new', 'int')}), qr/55P03.*could not lock table "two" to add a column.*HINT.*schema_lock_timeout/s, 'who uses the table is not kept waiting');
is(promote(q{'two', 'd'}), '0|1|{"null": 1}', 'a column that is there waits for nobody who reads');
$holder->query_safe('COMMIT; BEGIN; LOCK TABLE two');
like(answer(q{SET lock_timeout = 10; SELECT lakehouse.promote_rescued('two', 'd')}), qr/55P03/, 'else lock_timeout counts');
$holder->query_safe('COMMIT');
$holder->quit;

$node->stop;
done_testing();
