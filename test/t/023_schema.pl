# Which columns files have, and what becomes of fields that are no columns of the
# target or do not fit: inference with its evidence, tables that are made of it,
# rescued data, new columns in the middle of a file, folders that hold values.
use strict;
use warnings;

use File::Path qw(make_path);
use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('schema');
my $landing = make_landing($node);

sub sql
{
	return $node->safe_psql('postgres', @_);
}

# refused gives the SQLSTATE, message and hint of a statement that fails
sub refused
{
	my ($statement) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	return $status == 0 ? "worked: $out" : $err;
}

# put brings a file; its folders are made
sub put
{
	my ($path, $content) = @_;
	my ($folder) = $path =~ m{^(.*)/};
	make_path("$landing/$folder") if defined $folder;
	open(my $file, '>:raw', "$landing/$path.tmp~") or die "$path: $!";
	print $file $content;
	close($file) or die "$path: $!";
	rename("$landing/$path.tmp~", "$landing/$path") or die "$path: $!";
	return;
}

# infer gives name, type, nullable, rows, nulls, example, conflicts, one column on
# a line
sub infer
{
	my ($path, $rest) = @_;
	return sql("SELECT * FROM lakehouse.infer_schema('landing', '$path'" . ($rest // '') . ')');
}

sub source
{
	my ($name, $target, $path, $options) = @_;
	return sql("SELECT lakehouse.create_source('$name', server => 'landing', target => '$target', "
		  . "path => '$path', options => \$o\$$options\$o\$)");
}

sub run_source
{
	my ($name) = @_;
	return sql("SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('$name')");
}

# columns gives the names and types of a table without _load_id
sub columns
{
	my ($table) = @_;
	return sql("SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) "
		  . "FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> '_load_id'");
}

sub rows
{
	my ($table) = @_;
	return sql("SELECT (to_jsonb(t) - '_load_id')::text FROM $table t ORDER BY ctid");
}

# failure gives SQLSTATE and message of a source's failed file
sub failure
{
	my ($name) = @_;
	return sql("SELECT sqlstate || ' ' || error FROM lakehouse.file_status WHERE source = '$name' AND state = 'failed'");
}

# ------------------------------------------------------------- inference

put('in/types/a.csv', <<'END');
i,code,f,d,ts,b,big,mix,plus,e,neg0,bad
1,007,1.5,2024-02-29,2024-01-02 03:04:05.123456+02,true,9223372036854775808,1,+49,1e5,-0,2024-02-30
-2,12,2,2023-01-01,2024-01-02T03:04Z,FALSE,1,x,+1,2.5E-3,3,2024-01-01
3,1,,,2024-01-02,true,,,,,,
END
is(infer('in/types/a.csv', q{, options => '{"header": true}'}), <<'END' =~ s/\n\z//r, 'types of CSV fields, with evidence');
i|bigint|f|3|0|1|
code|text|f|3|0|007|{"text": {"values": 1, "example": "007"}, "bigint": {"values": 2, "example": "12"}}
f|double precision|t|3|1|1.5|{"bigint": {"values": 1, "example": "2"}, "double precision": {"values": 1, "example": "1.5"}}
d|date|t|3|1|2024-02-29|
ts|timestamp with time zone|f|3|0|2024-01-02 03:04:05.123456+02|{"date": {"values": 1, "example": "2024-01-02"}, "timestamp with time zone": {"values": 2, "example": "2024-01-02 03:04:05.123456+02"}}
b|boolean|f|3|0|true|
big|numeric|t|3|1|9223372036854775808|{"bigint": {"values": 1, "example": "1"}, "numeric": {"values": 1, "example": "9223372036854775808"}}
mix|text|t|3|1|1|{"text": {"values": 1, "example": "x"}, "bigint": {"values": 1, "example": "1"}}
plus|text|t|3|1|+49|
e|double precision|t|3|1|1e5|
neg0|double precision|t|3|1|-0|{"bigint": {"values": 1, "example": "3"}, "double precision": {"values": 1, "example": "-0"}}
bad|text|t|3|1|2024-02-30|{"date": {"values": 1, "example": "2024-01-01"}, "text": {"values": 1, "example": "2024-02-30"}}
END
put('in/plain.csv', "x,1,0.1234567890123456\n\n\"y\",2,\n");
is(infer('in/plain.csv'), "c1|text|f|2|0|x|\nc2|bigint|f|2|0|1|\nc3|numeric|t|2|1|0.1234567890123456|",
	'without a header fields have numbers, and no digit is lost');
put('in/j.json', <<'END');
{"id": 1, "o": {"a": [1]}, "s": "12", "t": "2024-01-02T03:04:05Z", "n": null, "huge": 1e400}
not json {"id": "text"
{"id": 12345678901234567, "o": 7, "ID": 2.5, "late": false, "huge": 1}
END
is(infer('in/j.json'), <<'END' =~ s/\n\z//r, 'types of JSON members; records that are no JSON do not count');
id|numeric|f|2|0|1|{"bigint": {"values": 2, "example": "1"}, "double precision": {"values": 1, "example": "2.5"}}
o|jsonb|f|2|0|{"a": [1]}|{"jsonb": {"values": 1, "example": "{\"a\": [1]}"}, "bigint": {"values": 1, "example": "7"}}
s|text|t|2|1|"12"|
t|timestamp with time zone|t|2|1|"2024-01-02T03:04:05Z"|
n|text|t|2|2||
huge|numeric|f|2|0|1e400|{"bigint": {"values": 1, "example": "1"}, "numeric": {"values": 1, "example": "1e400"}}
late|boolean|t|2|1|false|
END
is(infer('in/j.json', q{, hints => 'o string, id decimal(20, 1), "a b" long, x timestamp, y int[], z array<int>', sample_rows => 1}),
	<<'END' =~ s/\n\z//r, 'hints override, add columns, and take the names of the field');
id|numeric(20,1)|f|1|0|1|
o|text|f|1|0|{"a": [1]}|
s|text|f|1|0|"12"|
t|timestamp with time zone|f|1|0|"2024-01-02T03:04:05Z"|
n|text|t|1|1||
huge|numeric|f|1|0|1e400|
a b|bigint|t|1|1||
x|timestamp with time zone|t|1|1||
y|integer[]|t|1|1||
z|jsonb|t|1|1||
END
put('in/order/b.csv', "b,a\n1,2\n");
put('in/order/a.csv', "a,z\n1,2\n");
put('in/order/c.csv', "\"broken\n");
is(sql("SELECT string_agg(column_name, ',') FROM lakehouse.infer_schema('landing', 'in/order/*.csv', options => '{\"header\": true}')"),
	'a,z,b', 'columns come in the order of paths, then of fields');
like(refused(q{SELECT * FROM lakehouse.infer_schema('landing', 'in/j.json', options => '{"max_columns": 3}')}),
	qr/54011.*more than 3 fields.*HINT.*_rescued_data/s, 'too many fields are refused');
like(refused(q{SELECT * FROM lakehouse.infer_schema('landing', 'in/j.json', hints => 'a.b int')}),
	qr/0A000.*parts of a column/s, 'hints for parts of columns are refused');
like(refused(q{SELECT * FROM lakehouse.infer_schema('landing', 'in/j.json', hints => 'a nosuchtype')}),
	qr/42704.*nosuchtype/s, 'a hint with a type that is none');
like(refused(q{SELECT * FROM lakehouse.infer_schema('landing', 'in/j.json', hints => 'a int, a text')}),
	qr/22023.*named twice/s, 'a hint that comes twice');
like(refused(q{SELECT * FROM lakehouse.infer_schema('nowhere', 'in/j.json')}), qr/42704/, 'no such server');
like(refused(q{SELECT * FROM lakehouse.infer_schema('landing', '../j.json')}), qr/22023/, 'a path that leads out');
like(($node->psql('postgres', q{SELECT * FROM lakehouse.infer_schema('landing', 'in/nosuch*.csv')}))[2], qr/NOTICE.*no file matches path "in\/nosuch\*\.csv"/, 'a path without files');
sql("CREATE ROLE evil; CREATE ROLE etl; SELECT lakehouse.grant_use('evil'); SELECT lakehouse.grant_use('etl'); GRANT USAGE ON FOREIGN SERVER landing TO etl");
like(refused(q{SET ROLE evil; SELECT * FROM lakehouse.infer_schema('landing', 'in/j.json')}), qr/42501/,
	'without USAGE of the server nothing is read');
is(sql("SET ROLE etl; SELECT count(*) FROM lakehouse.infer_schema('landing', 'in/j.json')"), '7', 'with it, it is');

# ------------------------------------------------------------- the table

sql('CREATE SCHEMA bronze; GRANT CREATE, USAGE ON SCHEMA bronze TO etl');
put('in/year=2024/kind=a%2Fb/p.csv', "v,year\n1,x\n");
put('in/year=__HIVE_DEFAULT_PARTITION__/kind=01/p.csv', "v,new\n2,3\n");
put('in/year=2025/p.csv', "v\n4\n");
my ($status, $out, $err) = $node->psql('postgres', "SET ROLE etl; SELECT lakehouse.create_source('parts', server => 'landing', "
	  . "target => 'bronze.parts', path => 'in/year=*/**/*.csv', options => '{\"header\": true, \"partition_columns\": \"year, kind\", \"metadata\": {\"file\": \"file_name\"}}')");
is($status, 0, 'a source makes its table');
like($err, qr/NOTICE.*bronze\.parts.*CREATE TABLE bronze\.parts \(\n    v bigint,\n    new bigint,\n    year bigint,\n    kind text,\n    file text,\n    _rescued_data jsonb\n\)/s,
	'and shows how');
is(sql("SELECT relowner::regrole FROM pg_class WHERE oid = 'bronze.parts'::regclass"), 'etl', 'which belongs to the caller');
is(run_source('parts'), '3|3|0|0', 'and is filled');
is(sql("SELECT v, new, year, kind, file, _rescued_data - '_file_path' FROM bronze.parts ORDER BY v"), <<'END' =~ s/\n\z//r, 'folders give values, a field of the same name is rescued');
1||2024|a/b|p.csv|{"year": "x", "_line": 2, "_reason": {"year": "unknown_column"}}
2|3||01|p.csv|
4||2025||p.csv|
END
put('in/year=soon/p.csv', "v\n5\n");
is(run_source('parts'), '0|0|0|1', 'a folder whose value does not fit');
like(failure('parts'), qr/^22P02 folder "year=soon" has no value for column "year"/, 'makes its file fail');
like(refused(q{SELECT lakehouse.create_source('x', server => 'landing', target => 'nosuch.x', path => 'in/plain.csv')}),
	qr/3F000.*schema "nosuch" does not exist/s, 'the schema must exist');
like(refused(q{SELECT lakehouse.create_source('x', server => 'landing', target => 'x', path => 'in/none.csv')}),
	qr/42P01.*no file of path/s, 'there must be a file');
like(refused(q{SET ROLE etl; SELECT lakehouse.create_source('x', server => 'landing', target => 'public.x', path => 'in/plain.csv')}),
	qr/42501.*schema public/s, 'and the right to create');
like(refused(q{SET ROLE evil; SELECT lakehouse.create_source('x', server => 'landing', target => 'x', path => 'in/plain.csv')}),
	qr/42501.*server/s, 'and to use the server');
sql('CREATE TABLE nopart (v int)');
like(refused(q{SELECT lakehouse.create_source('x', server => 'landing', target => 'nopart', path => 'in/plain.csv', options => '{"partition_columns": ["year"]}')}),
	qr/42703.*"year".*partition_columns/s, 'partition columns must be columns');

# -------------------------------------------------------------- rescue

sql('CREATE TABLE r (id bigint, name text, at timestamptz, addr inet, o jsonb, _rescued_data jsonb)');
put('in/r.json', <<'END');
{"id": 1, "name": "a", "at": "2024-01-01T00:00:00Z", "addr": "10.0.0.1", "o": {}}
{"id": "x", "name": "b", "at": "soon", "addr": "nowhere", "o": [1]}
{"ID": 3, "name": {"a": 1}, "extra": {"deep": [true, null]}, "_line": "theirs", "nothing": null}
{"id": 4, "name": "torn
{"id": 5.5, "e\u0078tra": "esc", "bad": "\u0000"}
END
source('r', 'r', 'in/r.json', '{"schema_evolution_mode": "rescue"}');
is(run_source('r'), '1|4|1|0', 'what does not fit is no reject; what is no JSON is');
is(rows('r'), <<'END' =~ s/\n\z//r, 'rescued: other types, other case, no column; with reason and place');
{"o": {}, "at": "2024-01-01T00:00:00+00:00", "id": 1, "addr": "10.0.0.1", "name": "a", "_rescued_data": null}
{"o": [1], "at": null, "id": null, "addr": null, "name": "b", "_rescued_data": {"at": "soon", "id": "x", "addr": "nowhere", "_line": 2, "_reason": {"at": "type_mismatch", "id": "type_mismatch", "addr": "type_mismatch"}, "_file_path": "in/r.json"}}
{"o": null, "at": null, "id": null, "addr": null, "name": "{\"a\": 1}", "_rescued_data": {"ID": 3, "_line": 3, "extra": {"deep": [true, null]}, "__line": "theirs", "_reason": {"ID": "case_mismatch", "_line": "unknown_column", "extra": "unknown_column"}, "_file_path": "in/r.json"}}
{"o": null, "at": null, "id": null, "addr": null, "name": null, "_rescued_data": {"id": 5.5, "bad": "\"\\u0000\"", "_line": 5, "extra": "esc", "_reason": {"id": "type_mismatch", "bad": "unknown_column", "extra": "unknown_column"}, "_file_path": "in/r.json"}}
END
sql('CREATE TABLE rd (id bigint, v text, _rescued_data jsonb)');
put('in/rd.json', <<'END');
{"id": 1, "id": 2, "v": "a"}
{"id": 3, "ID": 4}
{"id": 5, "id": 6, "id": 7}
{"id": 8, "id": "x"}
{"id": "x", "id": 9}
{"id": 10, "id": null}
{"id": null, "id": 11}
{"y": 1, "y": {"a": 2}, "_line": 1, "_line": 2, "id": 12}
{"id": 13, "v": "a", "v": "a"}
{"id": 14}
{"id": 15, "__line": "b", "_line": "a", "_offset": 3, "___line": "c"}
END
source('rd', 'rd', 'in/rd.json', '{"reader_case_sensitive": false}');
is(run_source('rd'), '1|11|0|0', 'members that come more than once');
is(sql("SELECT id, v, _rescued_data - '_file_path' FROM rd ORDER BY ctid"), <<'END' =~ s/\n\z//r, 'the last one counts, and none of them is lost');
2|a|{"id": 1, "_line": 1, "_reason": {"id": "duplicate"}}
4||{"id": 3, "_line": 2, "_reason": {"id": "duplicate"}}
7||{"id": [5, 6], "_line": 3, "_reason": {"id": "duplicate"}}
||{"id": ["x", 8], "_line": 4, "_reason": {"id": "duplicate"}}
9||{"id": "x", "_line": 5, "_reason": {"id": "type_mismatch"}}
||{"id": 10, "_line": 6, "_reason": {"id": "duplicate"}}
11||
12||{"y": [1, {"a": 2}], "_line": 8, "__line": [1, 2], "_reason": {"y": "unknown_column", "_line": "unknown_column"}}
13|a|{"v": "a", "_line": 9, "_reason": {"v": "duplicate"}}
14||
15||{"_line": 11, "__line": "a", "___line": "b", "_reason": {"_line": "unknown_column", "__line": "unknown_column", "___line": "unknown_column", "_offset": "unknown_column"}, "____line": "c", "__offset": 3}
END
sql('CREATE TABLE rc (id bigint, name inet, day date, rest jsonb)');
put('in/rc.csv', "ID,name,day,more\n1,10.0.0.1,2024-01-01,\n2,\"no \"\"where\"\"\",x,\"m,1\"\n3,10.0.0.2\n");
source('rc', 'rc', 'in/rc.csv', '{"header": true, "rescued_data_column": "rest", "reader_case_sensitive": false}');
is(run_source('rc'), '1|2|1|0', 'CSV with an own column for rescued data');
is(rows('rc'), <<'END' =~ s/\n\z//r, 'names may differ in case where that is allowed');
{"id": 1, "day": "2024-01-01", "name": "10.0.0.1", "rest": null}
{"id": 2, "day": null, "name": null, "rest": {"day": "x", "more": "m,1", "name": "no \"where\"", "_line": 3, "_reason": {"day": "type_mismatch", "more": "unknown_column", "name": "type_mismatch"}, "_file_path": "in/rc.csv"}}
END
sql('CREATE TABLE rs (LIKE rc); ALTER TABLE rs RENAME rest TO _rescued_data; ALTER TABLE rs ALTER id SET NOT NULL');
source('rs', 'rs', 'in/rc.csv', '{"header": true}');
is(run_source('rs'), '1|0|3|0', 'with a column for rescued data a header in another case is rescued, and NOT NULL still holds');
is(sql("SELECT DISTINCT sqlstate FROM lakehouse.reject_status WHERE source = 'rs' ORDER BY 1"), "22P04\n23502", 'as rejects');
# what was rescued is counted by field and reason, for each load
sub counts { return sql("SELECT target, file, column_name, reason, count FROM lakehouse.rescued_status WHERE source = '$_[0]' ORDER BY load_id, column_name COLLATE \"C\", reason") }
is(counts('r'), <<'END' =~ s/\n\z//r, 'rescued values are counted by field and reason');
public.r|in/r.json|ID|case_mismatch|1
public.r|in/r.json|_line|unknown_column|1
public.r|in/r.json|addr|type_mismatch|1
public.r|in/r.json|at|type_mismatch|1
public.r|in/r.json|bad|unknown_column|1
public.r|in/r.json|extra|unknown_column|2
public.r|in/r.json|id|type_mismatch|2
END
is(counts('rd'), <<'END' =~ s/\n\z//r, 'each value of a name that comes twice');
public.rd|in/rd.json|___line|unknown_column|1
public.rd|in/rd.json|__line|unknown_column|1
public.rd|in/rd.json|_line|unknown_column|3
public.rd|in/rd.json|_offset|unknown_column|1
public.rd|in/rd.json|id|duplicate|6
public.rd|in/rd.json|id|type_mismatch|2
public.rd|in/rd.json|v|duplicate|1
public.rd|in/rd.json|y|unknown_column|2
END
is(counts('rs'), '', 'what was rejected is not counted');
# a constraint that fails some records: batches are cut in pieces and repeated
sql("CREATE TABLE rk (id int CHECK (id % 100 <> 7), _rescued_data jsonb)");
put('in/rk.json', join('', map { qq({"id": $_, "n": 1, "o$_": 1}\n) } 1 .. 2500));
source('rk', 'rk', 'in/rk*.json', '{}');
sql("SET lakehouse.batch_rows = 1000; SELECT lakehouse.run_source('rk')");
is(sql("SELECT count(*) FROM rk"), '2475', 'a load of which some rows are refused');
is(sql("SELECT sum(count) FILTER (WHERE column_name = 'n'), sum(count) FILTER (WHERE column_name IS NULL OR column_name ~ '^o'), count(*) FILTER (WHERE column_name IS NULL) > 0, max(n) FROM (SELECT *, count(column_name) OVER (PARTITION BY load_id) AS n FROM lakehouse.rescued_status WHERE source = 'rk') q"),
	'2475|2475|t|198', 'counts are exact, and names beyond the first 200 of a load are one');
is(sql("SELECT count(*) FROM lakehouse.rescued_status r JOIN lakehouse.load_status l USING (load_id) WHERE r.source = 'rk' AND r.column_name = 'n' AND r.count = l.rescued AND l.rescued = l.rows"),
	sql("SELECT count(*) FROM lakehouse.load_status WHERE source = 'rk'"), 'for each load');
sql("SELECT lakehouse.undo_file('rk', 'in/rk.json')");
is(sql("SELECT count(*) FROM lakehouse.rescued_status WHERE source = 'rk' AND undone IS NULL"), '0', 'loads that were taken back are marked');
is(sql("SET ROLE evil; SELECT count(*) FROM lakehouse.rescued_status"), '0', 'counts are shown to owners only');
sql('CREATE TABLE plain (id int)');
like(refused(q{SELECT lakehouse.create_source('x', server => 'landing', target => 'plain', path => 'in/r.json', options => '{"schema_evolution_mode": "rescue"}')}),
	qr/42703.*_rescued_data.*HINT.*ADD COLUMN _rescued_data jsonb/s, 'mode rescue needs the column');
like(refused(q{SELECT lakehouse.create_source('x', server => 'landing', target => 'rc', path => 'in/r.json', options => '{"rescued_data_column": "day"}')}),
	qr/42804.*"day" cannot hold rescued data/s, 'of type jsonb');
like(refused(q{SELECT lakehouse.create_source('x', server => 'landing', target => 'plain', path => 'in/r.json', options => '{"schema_evolution_mode": "addNewColumn"}')}),
	qr/22023.*HINT.*addNewColumns/s, 'modes are checked');

# ------------------------------------------------------------ evolution

sql('CREATE TABLE e (id bigint)');
put('in/e1.json', join('', map { "{\"id\": $_" . ($_ >= 7500 ? ", \"new\": $_" : '') . ($_ == 9999 ? ', "tail": "2024-01-01", "null": null' : '') . "}\n" } 1 .. 10000));
put('in/e2.json', qq({"id": 1, "new": 2, "other": [1]}\n));
source('e', 'e', 'in/e*.json', '{"schema_evolution_mode": "addNewColumns", "schema_hints": "tail text"}');
sql("SET lakehouse.batch_rows = 5000; SELECT lakehouse.run_source('e')");
is(columns('e'), 'id bigint, new bigint, tail text, other jsonb', 'columns found in the middle of a file are added, by type and hint');
is(sql("SELECT count(*), sum(id), count(new), sum(new), count(tail), count(other) FROM e"),
	join('|', 10001, 10000 * 10001 / 2 + 1, 2502, (7500 + 10000) * 2501 / 2 + 2, 1, 1), 'and no value is lost or doubled');
is(sql("SELECT change, target, column_name, column_type, file FROM lakehouse.schema_event WHERE source = 'e' ORDER BY event_id"),
	"column added|public.e|new|bigint|in/e1.json\ncolumn added|public.e|tail|text|in/e1.json\ncolumn added|public.e|other|jsonb|in/e2.json",
	'each column is an event');
is(sql("SELECT count(*) FROM lakehouse.verify() WHERE NOT ok"), '0', 'loads and rows agree');

# a worker goes on without a restart, and a flow with it
sql('CREATE TABLE w (id bigint, v bigint); CREATE TABLE g (id bigint PRIMARY KEY, n bigint, s numeric)');
source('w', 'w', 'in/w*.csv', '{"header": true, "schema_evolution_mode": "addNewColumns", "settle_ms": 0}');
sql("SELECT lakehouse.create_flow('g', target => 'g', mode => 'aggregate', query => 'SELECT id, count(*) AS n, sum(v) AS s FROM w GROUP BY id')");
sql("SELECT lakehouse.alter_source('w', trigger => 'continuous')");
put('in/w1.csv', "id,v\n1,1\n");
ok(poll_value($node, 'SELECT count(*) FROM w', '1'), 'a worker loads a file');
put('in/w2.csv', "id,v,why,empty\n1,2,because,\n");
ok(poll_value($node, 'SELECT count(*) FROM w', '2'), 'and one with more columns');
is(columns('w'), 'id bigint, v bigint, why text', 'whose column with values it adds');
sql("SELECT * FROM lakehouse.run(); UPDATE w SET v = 5 WHERE v = 2; SELECT * FROM lakehouse.run()");
is(sql('SELECT id, n, s FROM g'), '1|2|6', 'flows over the table go on');

# while others use the table
sql("SELECT lakehouse.pause_source('w')");
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM w');
put('in/w3.csv', "id,v,locked\n3,3,l\n");
put('in/w4.csv', "id,v\n4,4\n");
sql("SELECT lakehouse.resume_source('w'); SELECT lakehouse.alter_source('w', trigger => 'available_now')");
is(sql("SET lakehouse.schema_lock_timeout = 10; SELECT files, rows, failed_files FROM lakehouse.run_source('w')"),
	'1|1|1', 'a locked table keeps back the file with the new column only');
like(failure('w'), qr/^55P03 could not lock table "w" to add columns/, 'which says why');
$holder->query_safe('COMMIT');
$holder->quit;
is(run_source('w'), '1|1|0|0', 'and comes when the table is free');
is(sql('SELECT id, locked FROM w WHERE id > 2 ORDER BY 1'), "3|l\n4|", 'with its column');

# what cannot become a column
sql('CREATE TABLE m (id bigint)');
put('in/m.json', qq({"id": 1, "a": 1, "b": 2}\n));
source('m', 'm', 'in/m.json', '{"schema_evolution_mode": "addNewColumns", "max_columns": 3}');
is(run_source('m'), '0|0|0|1', 'a table does not grow beyond its limit');
like(failure('m'), qr/^54011 .*"b".*more than 3 columns/, 'the file says so');
is(columns('m'), 'id bigint', 'and leaves the table alone');
sql('ALTER TABLE m ADD COLUMN _rescued_data jsonb');
sql(q{SELECT lakehouse.alter_source('m', options => '{"schema_evolution_mode": "addNewColumns", "max_columns": 4}')});
is(run_source('m'), '1|1|0|0', 'unless the rest can be rescued');
is(rows('m'), '{"a": 1, "id": 1, "_rescued_data": {"b": 2, "_line": 1, "_reason": {"b": "unknown_column"}, "_file_path": "in/m.json"}}', 'as it then is');
sql('CREATE TABLE l (id bigint)');
my $long = 'x' x 64;
put('in/l.csv', "id,$long\n1,2\n");
source('l', 'l', 'in/l.csv', '{"header": true, "schema_evolution_mode": "addNewColumns"}');
is(run_source('l'), '0|0|0|1', 'a name too long for a column');
like(failure('l'), qr/^42622 /, 'is refused');

# rights
sql("CREATE TABLE o (id bigint); SELECT lakehouse.create_source('o', server => 'landing', target => 'o', path => 'in/m.json', options => '{\"schema_evolution_mode\": \"addNewColumns\"}')");
sql("GRANT INSERT ON o TO etl; SELECT lakehouse.alter_source('o', owner => 'etl')");
is(run_source('o'), '0|0|0|1', 'who does not own the table cannot change it');
like(failure('o'), qr/^42501 cannot add columns to table "o"/, 'and is told so');
is(sql("SET ROLE evil; SELECT count(*) FROM lakehouse.schema_event"), '0', 'events are shown to owners only');

# failOnNewColumns
sql('CREATE TABLE f (id bigint)');
put('in/f.json', qq({"id": 1}\n{"id": 2, "n": 1, "o": 2}\n));
source('f', 'f', 'in/f.json', '{"schema_evolution_mode": "failOnNewColumns"}');
is(run_source('f'), '0|0|0|1', 'new fields fail the file where that is asked for');
like(failure('f'), qr/^42703 .*does not have: "n", "o" .*addNewColumns/, 'which names them');
is(rows('f'), '', 'and loads nothing of it');
sql('ALTER TABLE f ADD COLUMN n int, ADD COLUMN o int');
is(run_source('f'), '1|2|0|0', 'until the table has the columns');

# replay follows the same rules
sql('CREATE TABLE p (id int)');
put('in/p.json', qq({"id": "x", "late": 1}\n{"id": 2}\n));
source('p', 'p', 'in/p.json', '{"schema_evolution_mode": "addNewColumns"}');
is(run_source('p'), '1|1|1|0', 'a reject with a field that is no column');
sql('ALTER TABLE p ALTER id TYPE text');
sql("SELECT * FROM lakehouse.replay_rejects('p')");
is(sql("SELECT sqlstate, message FROM lakehouse.reject_status WHERE source = 'p'"), '42703|field "late" is no column of the target',
	'does not lose it when it is replayed');
sql('ALTER TABLE p ADD late int');
sql("SELECT * FROM lakehouse.replay_rejects('p')");
is(sql('SELECT id, late FROM p ORDER BY id'), "2|\nx|1", 'and is stored when there is a column');
sql("ALTER TABLE rs ALTER id DROP NOT NULL; SELECT * FROM lakehouse.replay_rejects('rs')");
is(sql('SELECT _rescued_data FROM rs ORDER BY _rescued_data'), <<'END' =~ s/\n\z//r, 'replay rescues as a load does');
{"ID": "1", "_line": 2, "_reason": {"ID": "case_mismatch"}, "_file_path": "in/rc.csv"}
{"ID": "2", "day": "x", "more": "m,1", "name": "no \"where\"", "_line": 3, "_reason": {"ID": "case_mismatch", "day": "type_mismatch", "more": "unknown_column", "name": "type_mismatch"}, "_file_path": "in/rc.csv"}
END

is(counts('rs'), <<'END' =~ s/\n\z//r, 'and counts it');
public.rs|in/rc.csv|ID|case_mismatch|2
public.rs|in/rc.csv|day|type_mismatch|1
public.rs|in/rc.csv|more|unknown_column|1
public.rs|in/rc.csv|name|type_mismatch|1
END

# the default changes nothing
sql('CREATE TABLE d (id bigint)');
put('in/d.csv', "id,extra\n1,2\n");
source('d', 'd', 'in/d.csv', '{"header": true}');
is(run_source('d'), '0|0|0|1', 'without a mode a name that is no column fails the file');
like(failure('d'), qr/^42703 .*"extra".*ignore_extra_columns/, 'as it did');

# a dump brings the events back
$node->command_ok([ 'pg_dump', '-f', "$ENV{TESTDATADIR}/schema.sql", 'postgres' ], 'a dump');
like(slurp_file("$ENV{TESTDATADIR}/schema.sql"), qr/COPY lakehouse\.schema_change /, 'holds the events');

$node->stop;
done_testing();
