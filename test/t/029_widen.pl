# Schema evolution mode addNewColumnsWithTypeWidening: a column gets the wider type
# that a value needs, in the transaction that stores it; what cannot be widened is
# rescued, shown as pending and never stops the source.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('widen');
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', @_) }

sub put
{
	my ($path, $content) = @_;
	open(my $file, '>:raw', "$landing/$path.tmp~") or die "$path: $!";
	print $file $content;
	close($file) or die "$path: $!";
	rename("$landing/$path.tmp~", "$landing/$path") or die "$path: $!";
	return;
}

my $mode = '"schema_evolution_mode": "addNewColumnsWithTypeWidening"';

sub source
{
	my ($name, $path, $options, $rest) = @_;
	$options = defined $options ? ", $options" : '';
	return sql("SELECT lakehouse.create_source('$name', server => 'landing', target => '$name', path => '$path', options => \$o\${$mode$options}\$o\$" . ($rest // '') . ')');
}

sub run_source { return sql("SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('$_[0]')") }

sub types
{
	my ($table) = @_;
	return sql("SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) "
		  . "FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('_load_id', '_rescued_data')");
}

sub events { return sql("SELECT change, column_name, old_type, column_type, pending, left(reason, 5) FROM lakehouse.schema_event WHERE source = '$_[0]' ORDER BY event_id") }

# -------------------------------------------------------------- each step

my $columns = 'id int, i2 smallint, i4 int, i8 bigint, f real, d date, n numeric(4, 1), t text, _rescued_data jsonb';
my @values = (
	[ 1, 1, 1, 1, 1.5, '2024-01-01', 1.5, 'a' ],
	[ 2, 40000, 3000000000, '9223372036854775808', 1e300, '2024-01-02 03:04:05', 12345.6, 'b' ],
	[ 3, -5, 3000000001, '-0.25', -1e-300, '2024-01-03T00:00:00', 1, 'c' ],
	[ 4, 'x', 'NaN', 'Infinity', 'much', '2024-01-04T01:02:03Z', 2, 'd' ],
	[ 5, 4000000000, 12.5, 7, 2, '2024-01-05T00:00:00Z', 3, 'e' ],
	[ 6, 2, 3, 4, 5, '2024-01-06', 6, 'f' ]);
for my $format ('csv', 'json')
{
	my $name = "s$format";
	sql("CREATE TABLE $name ($columns)");
	my @names = qw(id i2 i4 i8 f d n t);
	my $quote = sub { $_[0] =~ /^-?[0-9][0-9.e+-]*$/ && $_[0] !~ /-\d\d-/ ? $_[0] : qq("$_[0]") };
	put("$name.$format", $format eq 'csv' ? join("\n", join(',', @names), map { join(',', @$_) } @values) . "\n" :
		  join('', map { my $row = $_; '{' . join(', ', map { qq("$names[$_]": ) . $quote->($row->[$_]) } 0 .. $#names) . "}\n" } @values));
	source($name, "$name*.$format", $format eq 'csv' ? '"header": true' : undef);
	is(run_source($name), '1|6|0|0', "$format: values that need wider types");
	is(types($name), 'id integer, i2 bigint, i4 numeric, i8 numeric, f double precision, d timestamp without time zone, n numeric(4,1), t text',
		"$format: each column has the type that all of them fit, at once");
	is(events($name), <<'END' =~ s/\n\z//r, "$format: one event for each change");
column widened|i2|smallint|bigint|f|
column widened|i4|integer|numeric|f|
column widened|i8|bigint|numeric|f|
column widened|f|real|double precision|f|
column widened|d|date|timestamp without time zone|f|
END
	is(sql("SELECT id, i2, i4, i8, f, d, n FROM $name ORDER BY id"), <<'END' =~ s/\n\z//r, "$format: every value is there as it was");
1|1|1|1|1.5|2024-01-01 00:00:00|1.5
2|40000|3000000000|9223372036854775808|1e+300|2024-01-02 03:04:05|
3|-5|3000000001|-0.25|-1e-300|2024-01-03 00:00:00|1.0
4||NaN|Infinity||2024-01-04 01:02:03|2.0
5|4000000000|12.5|7|2|2024-01-05 00:00:00|3.0
6|2|3|4|5|2024-01-06 00:00:00|6.0
END
	is(sql("SELECT id, (SELECT string_agg(r.key || ' ' || (_rescued_data->>r.key), ',' ORDER BY r.key) FROM jsonb_each(_rescued_data->'_reason') r) FROM $name WHERE _rescued_data IS NOT NULL ORDER BY id"),
		"2|n 12345.6\n4|f much,i2 x", "$format: what fits no wider type is rescued");
	is(sql("SELECT count(DISTINCT _load_id) FROM $name"), '1', "$format: by one load");
}
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'ledger and rows agree');

# texts that are no reason to widen
sql("CREATE TABLE calm (id int, a int, d date, e date, _rescued_data jsonb)");
put('calm.json', <<'END');
{"id": 1, "a": "NaN", "d": "2024-01-04T01:02:03Z", "e": "2024-01-01T00:00:00.000Z"}
{"id": 2, "a": true, "d": "2024-01-04 01:02:03+02", "e": "2024-01-02 00:00:00"}
{"id": 3, "a": [1], "d": "now and then", "e": "2024-01-03"}
{"id": 4, "a": "infinity", "d": "2024-13-01 01:02:03"}
{"id": 5, "a": "1\u0030000000000", "d": "01:02:03"}
END
source('calm', 'calm*.json');
is(run_source('calm'), '1|5|0|0', 'words for no number, times with a zone, and what is neither');
is(types('calm'), 'id integer, a integer, d date, e date', 'widen nothing');
is(sql('SELECT id, a, d, e, _rescued_data->>\'a\', _rescued_data->>\'d\' FROM calm ORDER BY id'), <<'END' =~ s/\n\z//r, 'are rescued; midnight is a day');
1|||2024-01-01|NaN|2024-01-04T01:02:03Z
2|||2024-01-02|true|2024-01-04 01:02:03+02
3|||2024-01-03|[1]|now and then
4||||infinity|2024-13-01 01:02:03
5||||10000000000|01:02:03
END
sql("CREATE TABLE pattern (id int, d date, _rescued_data jsonb)");
put('pattern.csv', "id,d\n1,31.01.2024\n2,2024-01-31 10:00:00\n");
source('pattern', 'pattern*.csv', '"header": true, "date_format": "dd.MM.yyyy"');
is(run_source('pattern'), '1|2|0|0', 'with a notation of days');
is(sql('SELECT d, _rescued_data->>\'d\' FROM pattern ORDER BY id') . types('pattern'), "2024-01-31|\n|2024-01-31 10:00:00id integer, d date", 'dates stay dates');

# new columns and wider ones at once, in the middle of a file, over parts of it
sql("CREATE TABLE grown (id int, v int, _rescued_data jsonb)");
put('grown.json', join('', map { qq({"id": $_, "v": ) . ($_ == 9000 ? 3000000000 : $_ == 14000 ? 0.5 : $_) . ($_ > 8000 ? qq(, "new": $_) : '') . ($_ == 13000 ? ', "new2": 1' : '') . "}\n" } 1 .. 15000));
source('grown', 'grown*.json');
sql("SET lakehouse.batch_rows = 5000; SELECT lakehouse.run_source('grown')");
is(types('grown'), 'id integer, v numeric, new bigint, new2 bigint', 'columns are added and widened as a large file brings them');
is(sql('SELECT count(*), count(DISTINCT id), sum(v), count(new), sum(new), count(_rescued_data) FROM grown'),
	join('|', 15000, 15000, 15000 * 15001 / 2 - 9000 - 14000 + 3000000000 . '.5', 7000, (8001 + 15000) * 7000 / 2, 0), 'no value is lost, changed or doubled');
cmp_ok(sql("SELECT count(*) FROM lakehouse.load_status WHERE source = 'grown'"), '>', 1, 'in several loads');

# ------------------------------------------------------ what stands in the way

sql(<<'END');
CREATE TABLE way (id int, big int, viewed int, gen int, twice bigint GENERATED ALWAYS AS (gen * 2) STORED,
  indexed int UNIQUE, checked int CHECK (checked < 100), refd int UNIQUE, _rescued_data jsonb);
CREATE VIEW way_view AS SELECT viewed FROM way;
CREATE TABLE child (r int REFERENCES way (refd));
END
put('way1.json', qq({"id": 1, "viewed": 3000000000, "gen": 3000000000, "indexed": 3000000000, "refd": 3000000000, "checked": 0.5}\n{"id": 2, "viewed": 2, "gen": 2}\n));
source('way', 'way*.json');
my ($status, $out, $err) = $node->psql('postgres', "SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('way')");
is($out, '1|2|0|0', 'a view, a generated column: the file is loaded');
like($err, qr/WARNING.*column "viewed" of table "way" is not widened to bigint: .*view.*HINT.*promote_rescued/s, 'with a warning');
is(events('way'), <<'END' =~ s/\n\z//r, 'and what could not be widened is pending, with the reason');
widening pending|viewed|integer|bigint|t|0A000
widening pending|gen|integer|bigint|t|0A000
column widened|indexed|integer|bigint|f|
column widened|checked|integer|numeric|f|
column widened|refd|integer|bigint|f|
END
is(sql("SELECT indexed, checked, refd, viewed, _rescued_data - '_file_path' FROM way WHERE id = 1"),
	'3000000000|0.5|3000000000||{"gen": 3000000000, "_line": 1, "viewed": 3000000000, "_reason": {"gen": "type_mismatch", "viewed": "type_mismatch"}}',
	'indexes, checks and references follow; the other values are rescued');
is(sql("SELECT state, widening_pending FROM lakehouse.source_status WHERE name = 'way'"), 'idle|2', 'the source shows it and is not stopped');
put('way2.json', qq({"id": 3, "viewed": 3000000001}\n));
($status, $out, $err) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('way')");
is("$out$err", '1', 'it is not tried again, and not told again');
is(sql("SELECT count(*) FROM lakehouse.schema_event WHERE source = 'way' AND pending"), '2', 'nor entered again');
sql("DROP VIEW way_view; ALTER TABLE way ALTER viewed TYPE bigint");
is(sql("SELECT widening_pending FROM lakehouse.source_status WHERE name = 'way'"), '1', 'who changes the type by hand ends that');
is(sql("SELECT promoted, remaining FROM lakehouse.promote_rescued('way', 'viewed')"), '2|0', 'and promotes what waited');
put('way3.json', qq({"id": 4, "viewed": 1.5}\n));
is(run_source('way'), '1|1|0|0', 'then the column is widened again');
is(sql('SELECT id, viewed FROM way ORDER BY id'), "1|3000000000\n2|2\n3|3000000001\n4|1.5", 'as values need it');
sql("ALTER TABLE way DROP twice; SELECT lakehouse.resume_source('way')");
put('way4.json', qq({"id": 5, "gen": 3000000005}\n));
is(run_source('way'), '1|1|0|0', 'resume_source lets it be tried again');
is(sql("SELECT gen FROM way WHERE id = 5") . ' ' . sql("SELECT widening_pending FROM lakehouse.source_status WHERE name = 'way'"), '3000000005 0', 'with success when the reason is gone');

# a column that must have a value: what is not widened is a reject, what is widened is none
sql("CREATE TABLE must (id int, v int NOT NULL, ident smallint GENERATED BY DEFAULT AS IDENTITY, _rescued_data jsonb)");
put('must1.csv', join('', "id,v,ident\n", map { "$_," . ($_ == 2500 ? 3000000000 : $_) . ",1\n" } 1 .. 3000));
source('must', 'must*.csv', '"header": true, "max_rejects": 0');
is(run_source('must') . types('must'), '1|3000|0|0id integer, v bigint, ident smallint', 'a column that is NOT NULL is widened before a limit of rejects counts');
sql("SELECT lakehouse.alter_source('must', options => '{$mode, \"header\": true}')");
put('must2.csv', "id,v,ident\n3001,1,0.5\n3002,2,3\n");
is(run_source('must'), '1|1|1|0', 'an identity cannot be numeric, nor NULL');
is(events('must') . sql("SELECT sqlstate FROM lakehouse.reject_status WHERE source = 'must'"), "column widened|v|integer|bigint|f|\nwidening pending|ident|smallint|numeric|t|2202323502", 'so the record is kept as a reject, and the type is pending');

# partition keys; partitions follow otherwise
sql("CREATE TABLE parted (id int, v int, _rescued_data jsonb) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF parted FOR VALUES FROM (0) TO (1000); CREATE TABLE part0 PARTITION OF parted DEFAULT");
put('part.json', qq({"id": 1, "v": 3000000000}\n{"id": 3000000000, "v": 2}\n));
source('parted', 'part*.json');
is(run_source('parted'), '1|2|0|0', 'a partitioned table');
is(types('parted') . '; ' . types('part1'), 'id integer, v bigint; id integer, v bigint', 'is widened with its partitions, but for its key');
is(events('parted'), "widening pending|id|integer|bigint|t|42P16\ncolumn widened|v|integer|bigint|f|", 'which is pending');

# large tables
sql("CREATE TABLE large (id int, v int, w int, _rescued_data jsonb); INSERT INTO large SELECT i, i FROM generate_series(1, 101) i");
put('large1.json', qq({"id": 200, "v": 3000000000}\n));
source('large', 'large*.json');
is(sql("SET lakehouse.widen_max_rows = 100; SELECT files, rows, failed_files FROM lakehouse.run_source('large')"), '1|1|0', 'a table that is too large to be rewritten');
is(events('large'), 'widening pending|v|integer|bigint|t|54000', 'stays as it is');
is(sql("SELECT v, _rescued_data->'v' FROM large WHERE id = 200"), '|3000000000', 'and the value is rescued');
put('large2.json', qq({"id": 201, "w": 3000000000}\n));
is(sql("SET lakehouse.widen_max_rows = 102; SELECT rows FROM lakehouse.run_source('large')"), '1', 'one with as many rows as may be');
is(types('large'), 'id integer, v integer, w bigint', 'is rewritten');
sql("SELECT lakehouse.alter_source('large')");
put('large3.json', qq({"id": 202, "v": 3000000001}\n));
is(sql("SET lakehouse.widen_max_rows = -1; SELECT rows FROM lakehouse.run_source('large')"), '1', 'without a limit, after alter_source');
is(types('large'), 'id integer, v bigint, w bigint', 'too');

# rights, odd names, domains, modes
sql("CREATE ROLE etl; SELECT lakehouse.grant_use('etl'); GRANT USAGE ON FOREIGN SERVER landing TO etl");
my $odd = q{v"; DROP TABLE odd; --};
sql('CREATE DOMAIN small AS int; CREATE TABLE odd (id int, gone int, "v""; DROP TABLE odd; --" int, dom small, arr int[], _rescued_data jsonb); ALTER TABLE odd DROP gone');
put('odd.json', qq({"id": 1, "v\\"; DROP TABLE odd; --": 3000000000, "dom": 3000000000, "arr": [3000000000]}\n));
source('odd', 'odd*.json');
is(run_source('odd'), '1|1|0|0', 'odd names, domains and arrays');
is(types('odd'), "id integer, $odd bigint, dom small, arr integer[]", 'names are names; a domain is left alone');
sql("CREATE TABLE fo (id int, dom int, arr int[], _rescued_data jsonb); GRANT INSERT, SELECT ON fo TO etl");
put('fo.json', qq({"id": 1, "dom": 3000000000}\n));
source('fo', 'fo*.json');
sql("SELECT lakehouse.alter_source('fo', owner => 'etl')");
is(run_source('fo'), '1|1|0|0', 'who does not own the table loads the file');
is(events('fo'), 'widening pending|dom|integer|bigint|t|42501', 'and leaves the type to who does');
($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nCREATE TABLE none (id int); SELECT lakehouse.create_source('none', 'landing', 'none', path => 'fo.json', options => '{$mode}')");
like($err, qr/42703.*_rescued_data.*HINT.*ADD COLUMN/s, 'the mode needs a column for what does not fit');
($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT lakehouse.create_source('none', 'landing', 'fo', path => 'fo.json', options => '{\"schema_evolution_mode\": \"addNewColumnsWithTypewidening\"}')");
like($err, qr/22023.*HINT.*addNewColumnsWithTypeWidening/s, 'its name is checked');
is(sql("SELECT lakehouse.create_source('made', 'landing', 'made', path => 'grown.json', options => '{\"cloudFiles.schemaEvolutionMode\": \"addNewColumnsWithTypeWidening\"}'); SELECT options->>'schema_evolution_mode' FROM lakehouse.source WHERE name = 'made'") =~ s/^\n//r, 'addNewColumnsWithTypeWidening', 'also as Auto Loader spells it');

# a lock
sql("CREATE TABLE held (id int, v int, _rescued_data jsonb)");
put('held1.json', qq({"id": 1, "v": 3000000000}\n));
put('held2.json', qq({"id": 2, "v": 2}\n));
source('held', 'held*.json');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM held');
is(sql("SET lakehouse.schema_lock_timeout = 10; SELECT files, rows, failed_files FROM lakehouse.run_source('held')"), '1|1|1', 'a locked table keeps back the file that needs the type only');
like(sql("SELECT sqlstate || ' ' || error FROM lakehouse.file_status WHERE source = 'held' AND state = 'failed'"), qr/^55P03 could not lock table "held" to widen a column/, 'which says why');
$holder->query_safe('COMMIT');
$holder->quit;
is(run_source('held') . types('held'), '1|1|0|0id integer, v bigint', 'and comes when the table is free');

# ------------------------------------------ a flow, and workers side by side

sql(<<'END');
CREATE TABLE many (id int, a smallint, b int, d date, c0 int, c1 int, c2 int, c3 int, c4 int, c5 int, _rescued_data jsonb);
CREATE TABLE sums (g int PRIMARY KEY, n bigint, a numeric, b numeric);
END
source('many', 'many*.csv', '"header": true, "settle_ms": 0, "workers": 3, "max_files_per_trigger": 4');
sql("SELECT lakehouse.create_flow('sums', target => 'sums', mode => 'aggregate', query => 'SELECT id % 3 AS g, count(*) AS n, sum(a)::numeric AS a, sum(b)::numeric AS b FROM many GROUP BY 1')");
my ($count, %sum) = (0);
for my $file (1 .. 24)
{
	# the files of one batch need another column than those of the next
	my $c = int($file / 4) % 6;
	my $content = "id,a,b,d,c$c\n";
	for my $line (1 .. 1500)
	{
		my $a = $line == 10 ? ($file % 4 == 0 ? 3000000000 : 70000) + $file : $line;
		my $b = $line == 15 ? ($file % 5 == 0 ? "$file.5" : 3000000000 + $file) : $line;
		$count++;
		$sum{a} += $a;
		$sum{b} += $b;
		$content .= join(',', $file * 10000 + $line, $a, $b, $line == 5 ? "2024-01-01 00:00:$file" =~ s/:(\d)$/:0$1/r : '2024-01-01', $line % 500 == 0 ? 3000000000 : 1) . "\n";
	}
	put(sprintf('many%02d.csv', $file), $content);
}
sql("SELECT lakehouse.alter_source('many', trigger => 'continuous')");
ok(poll_value($node, 'SELECT count(*) FROM many', $count, 180), 'three workers load files that all need wider types');
is(types('many'), 'id integer, a bigint, b numeric, d timestamp without time zone, ' . join(', ', map { "c$_ bigint" } 0 .. 5), 'and widen them together');
is(sql('SELECT count(DISTINCT id), sum(a), trim_scale(sum(b)), count(_rescued_data), count(DISTINCT d) FROM many'), join('|', $count, $sum{a}, $sum{b}, 0, 25), 'each value once');
is(sql("SELECT count(*) FROM lakehouse.schema_event WHERE source = 'many' AND change = 'widening pending'"), '0', 'nothing is left pending');
cmp_ok(sql("SELECT count(*) FROM lakehouse.schema_event WHERE source = 'many'"), '<=', 11, 'no change is made twice');
ok(poll_value($node, 'SELECT sum(n) FROM sums', $count, 60), 'a flow follows');
is(sql('SELECT sum(a), trim_scale(sum(b)) FROM sums'), "$sum{a}|$sum{b}", 'with the wider values');
is(sql('SELECT ' . join(' + ', map { "sum(c$_)" } 0 .. 5) . ' FROM many'), 24 * (3 * 3000000000 + 1497), 'of all columns');
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'and all agrees');

# without the mode a day with a time is a day, as the server has it
sql("CREATE TABLE plain (id int, d date)");
put('plain.csv', "id,d\n1,2024-01-02 03:04:05\n");
sql("SELECT lakehouse.create_source('plain', 'landing', 'plain', path => 'plain.csv', options => '{\"header\": true}')");
is(run_source('plain') . sql('SELECT d FROM plain'), '1|1|0|02024-01-02', 'other modes change nothing');

$node->stop;
done_testing();
