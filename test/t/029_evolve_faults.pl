# New columns that are torn at each point where that could be, by an error and by a
# crash: table, schema_event and ledger tell the same afterwards, and the next run
# adds each column once and loads each record once.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = faults_path();
my $node = lakehouse_node('evolve_faults', install_path => $path);
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# what table, events, loads and files say
my $state = <<'END';
SELECT (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'bronze.wide'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> '_load_id'),
       (SELECT coalesce(string_agg(column_name || ' ' || column_type, ',' ORDER BY column_name), '-') FROM lakehouse.schema_change),
       (SELECT count(*) FROM bronze.wide), (SELECT coalesce(sum(rows), 0) FROM lakehouse.load WHERE relation = 'bronze.wide'::regclass),
       (SELECT count(*) FROM lakehouse.file WHERE state = 'loaded')
END

my $round = 0;
for my $format ('csv', 'json')
{
	for my $fault (map { my $point = $_; map { ("$point:error:$_", "$point:kill:$_") } 1, 2 }
		qw(before-insert after-insert evolve-altered evolve-recorded before-ledger))
	{
		$round++;
		sql(<<"END");
DROP SCHEMA IF EXISTS bronze CASCADE;
SELECT lakehouse.drop_source(name) FROM lakehouse.source;
DELETE FROM lakehouse.schema_change;
CREATE SCHEMA bronze;
CREATE TABLE bronze.wide (id int);
SELECT lakehouse.create_source('r$round', 'landing', 'bronze.wide', format => '$format', path => 'r$round/*',
  options => '{"schema_evolution_mode": "addNewColumns"@{[$format eq 'csv' ? ', "header": true' : '']}}');
END
		mkdir "$landing/r$round" or die $!;
		for my $file (1, 2)
		{
			open(my $out, '>', "$landing/r$round/f$file") or die $!;
			# the second file brings one more
			my $more = $file == 2;
			print $out "id,a,b" . ($more ? ',c' : '') . "\n" if $format eq 'csv';
			for my $i (1 .. 20)
			{
				my $id = $file * 100 + $i;
				print $out $format eq 'csv' ? "$id,$i,x$i" . ($more ? ",$i.5" : '') . "\n" : "{\"id\": $id, \"a\": $i, \"b\": \"x$i\"" . ($more ? ", \"c\": $i.5" : '') . "}\n";
			}
			close($out) or die $!;
		}
		my ($status, $out, $err) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.run_source('r$round')");
		isnt($status, 0, "$format, $fault: the run is torn");
		my ($columns, $events, $rows, $loaded, $files) = split /\|/, sql($state);
		# each batch commits as a whole or not at all
		my %whole = ('id' => '-|0|0|0', 'id,a,b' => 'a bigint,b text|20|20|1', 'id,a,b,c' => 'a bigint,b text,c double precision|40|40|2');
		is("$events|$rows|$loaded|$files", $whole{$columns} // 'no such table', "$format, $fault: table, events, rows and files agree ($columns)");
		sql("SELECT lakehouse.run_source('r$round')");
		is(sql($state), "id,a,b,c|$whole{'id,a,b,c'}", "$format, $fault: then all of it is there, once");
		is(sql("SELECT count(*), sum(id), sum(a), sum(c) FROM bronze.wide WHERE b = 'x' || a"), '40|6420|420|220', "$format, $fault: with its values");
	}
}
# a column that is widened: the type, the event, the rows and the ledger are of one transaction
for my $format ('csv', 'json')
{
	for my $fault (map { ("$_:error:1", "$_:kill:2") } qw(widen-altered widen-recorded))
	{
		$round++;
		sql(<<"END");
DROP TABLE IF EXISTS bronze.wider;
CREATE TABLE bronze.wider (id int, v smallint, d date, _rescued_data jsonb);
SELECT lakehouse.create_source('r$round', 'landing', 'bronze.wider', format => '$format', path => 'r$round/*',
  options => '{"schema_evolution_mode": "addNewColumnsWithTypeWidening"@{[$format eq 'csv' ? ', "header": true' : '']}}');
END
		mkdir "$landing/r$round" or die $!;
		open(my $out, '>', "$landing/r$round/f") or die $!;
		print $out "id,v,d\n" if $format eq 'csv';
		for my $i (1 .. 20)
		{
			my ($v, $d) = ($i == 7 ? 100000 : $i, $i == 9 ? '2024-01-01 00:00:09' : '2024-01-01');
			print $out $format eq 'csv' ? "$i,$v,$d\n" : "{\"id\": $i, \"v\": $v, \"d\": \"$d\"}\n";
		}
		close($out) or die $!;
		my ($status) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.run_source('r$round')");
		isnt($status, 0, "$format, $fault: the run is torn");
		my $state = q{SELECT (SELECT string_agg(format_type(atttypid, NULL), ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'bronze.wider'::regclass AND attname IN ('v', 'd')),
			(SELECT count(*) FROM lakehouse.schema_change WHERE relation = 'bronze.wider'::regclass), (SELECT count(*) FROM bronze.wider),
			(SELECT count(*) FROM lakehouse.load WHERE relation = 'bronze.wider'::regclass)};
		is(sql($state), 'smallint,date|0|0|0', "$format, $fault: nothing is left of it");
		is(sql("SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('r$round')"), '1|20|0|0', "$format, $fault: the next run loads all");
		is(sql($state), 'integer,timestamp without time zone|2|20|1', "$format, $fault: with the wider types, each entered once");
		is(sql(q{SELECT sum(v), count(*) FILTER (WHERE d = '2024-01-01'), max(d), count(_rescued_data) FROM bronze.wider}), '100203|19|2024-01-01 00:00:09|0', "$format, $fault: with its values");
	}
}

# a promotion is torn: column, values and rescued data are as before
sql(q{CREATE TABLE bronze.promoted (id int, _rescued_data jsonb); INSERT INTO bronze.promoted SELECT i, jsonb_build_object('v', i, '_reason', '{"v": "unknown_column"}'::jsonb) FROM generate_series(1, 100) i});
for my $fault (map { ("$_:error", "$_:kill") } qw(promote-added promote-updated))
{
	my $before = sql('SELECT md5(string_agg(p::text, chr(10) ORDER BY id)) FROM bronze.promoted p');
	my ($status) = $node->psql('postgres', "SET lakehouse.fault = '$fault:1'; SELECT lakehouse.promote_rescued('bronze.promoted', 'v', 'int')");
	isnt($status, 0, "$fault: the promotion is torn");
	is(sql('SELECT md5(string_agg(p::text, chr(10) ORDER BY id)) FROM bronze.promoted p'), $before, "$fault: nothing is changed");
	is(sql("SELECT count(*) FROM pg_attribute WHERE attrelid = 'bronze.promoted'::regclass AND attname = 'v'"), '0', "$fault: no column");
}
is(sql("SELECT promoted, remaining FROM lakehouse.promote_rescued('bronze.promoted', 'v', 'int')"), '100|0', 'then it is done');
is(sql('SELECT count(*) FROM bronze.promoted WHERE v = id AND _rescued_data IS NULL'), '100', 'as a whole');
is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', 'verify() finds nothing');
$node->stop;
done_testing();
