# Large files that several workers load together: the rows, lines, bytes and
# rejects are those that one session gets from the same file, wherever its
# quotes and line ends are; whatever is killed, each record arrives once; and
# what concerns the file as a whole (changes, limits, undo) stays right.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $faults = $ENV{LAKEHOUSE_FAULTS_PATH};

my $node = lakehouse_node(
	'split',
	$faults ? (install_path => $faults) : (),
	conf => "lakehouse.batch_bytes = '64kB'\nlakehouse.max_record_size = '512kB'\ninclude_if_exists = 'fault.conf'\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze');

# random_text makes values with everything in them that could move a boundary.
sub random_text
{
	my ($end) = @_;
	my @piece = ('plain', ',', '""', '"', "\n", "\r", "\r\n", "\n\n", "\\", "''", "\x{e4}", ' ');
	return join('', map { $piece[ int(rand($end)) ] } 1 .. int(rand(12)));
}

# write_wild writes one file of about the size; the quoting of one record in
# "broken" is not what it should be.
sub write_wild
{
	my ($name, $size, $broken) = @_;
	my ($bytes, $id) = (0, 0);
	my $eol = ("\n", "\r\n")[ int(rand(2)) ];
	open(my $file, '>:utf8', "$landing.tmp/$name") or die $!;
	print $file "\x{feff}id,value$eol";
	while ($bytes < $size)
	{
		my $value = random_text(12) . 'v' x int(rand(60));
		my $record = ++$id . ',';
		if ($broken && int(rand($broken)) == 0)
		{
			# a quote that nobody closes, or data behind one
			$record .= ('"' . $value, '"closed"' . random_text(12), '"')[ int(rand(3)) ];
		}
		else
		{
			$value =~ s/"/""/g;
			$record .= qq("$value");
		}
		$record = 'x' . $record if int(rand(100)) == 0;
		$record .= $eol;
		$record .= $eol x int(rand(3)) if int(rand(20)) == 0;
		$bytes += length $record;
		print $file $record;
	}
	close($file) or die $!;
	return;
}

sub write_json
{
	my ($name, $size) = @_;
	my ($bytes, $id) = (0, 0);
	open(my $file, '>', "$landing.tmp/$name") or die $!;
	while ($bytes < $size)
	{
		my $line = '{"id": ' . ++$id . ', "value": "' . ('\\n', '\\"', '{', "\\\\")[ int(rand(4)) ] . 'v' x int(rand(90)) . "\"}\n";
		$line = "no json\n" if int(rand(50)) == 0;
		$line .= " \n\r\n" if int(rand(20)) == 0;
		$bytes += length $line;
		print $file $line;
	}
	close($file) or die $!;
	return;
}

# compare loads a file twice, by a session in one piece and by four workers, and
# compares everything that is known of its records.
my $cases = 0;
my $ranges = 0;

sub compare
{
	my ($what, $format, $options) = @_;
	my $case = 'case' . ++$cases;
	my ($name) = glob("$landing.tmp/*");
	$name =~ s{.*/}{};
	my $size = -s "$landing.tmp/$name";
	my $columns = $format eq 'text' ? 'value text' : 'id bigint, value text';
	my $metadata = '"metadata": {"line": "line", "byte_offset": "byte_offset"}, "settle_ms": 0';
	mkdir("$landing/$case") or die $!;
	$node->safe_psql('postgres', <<"END");
CREATE TABLE bronze.${case}_one ($columns, line bigint, byte_offset bigint);
CREATE TABLE bronze.${case}_many ($columns, line bigint, byte_offset bigint);
SELECT lakehouse.create_source('${case}_one', server => 'landing', target => 'bronze.${case}_one', format => '$format',
  path => '$case/*', options => '{$options $metadata}');
SELECT lakehouse.create_source('${case}_many', server => 'landing', target => 'bronze.${case}_many', format => '$format',
  path => '$case/*', options => '{$options $metadata, "workers": 4}', trigger => 'continuous');
END
	poll_value($node, "SELECT count(*) >= 1 FROM lakehouse.worker_status WHERE object = '${case}_many'", 't') or BAIL_OUT('no worker');
	rename("$landing.tmp/$name", "$landing/$case/$name") or die $!;
	$node->safe_psql('postgres', "SET lakehouse.batch_bytes = '1GB'; SELECT lakehouse.run_source('${case}_one')");
	ok(poll_value($node, "SELECT state || ' ' || position FROM lakehouse.file_status WHERE source = '${case}_many'", "loaded $size"),
		"$what: workers load the file to its end");
	same_multiset($node, "SELECT r.*::text FROM (SELECT to_jsonb(x) - '_load_id' FROM bronze.${case}_many x) r(r)",
		"SELECT r.*::text FROM (SELECT to_jsonb(x) - '_load_id' FROM bronze.${case}_one x) r(r)",
		"$what: every row is that of one session, with its line and byte");
	my $rejects = q{SELECT line, byte_offset, raw, sqlstate, message FROM lakehouse.reject r JOIN lakehouse.source s USING (source_id) WHERE name = };
	same_multiset($node, "$rejects '${case}_many'", "$rejects '${case}_one'", "$what: and so is every reject");
	is($node->safe_psql('postgres', <<"END"), 't', "$what: the hash is that of one read");
SELECT count(DISTINCT hash) = 1 AND count(DISTINCT line) = 1 FROM lakehouse.file_status WHERE source LIKE '${case}\\_%'
END
	$ranges += $node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.load_status WHERE source = '${case}_many'");
	is($node->safe_psql('postgres', q{SELECT object, detail FROM lakehouse.verify() WHERE NOT ok}), '', "$what: ledger and rows agree");
	$node->safe_psql('postgres', "SELECT lakehouse.drop_source('${case}_many'); SELECT lakehouse.drop_source('${case}_one')");
	return;
}

for my $round (1 .. 3)
{
	write_wild("wild$round.csv", 900_000, 0);
	compare("csv, round $round", 'csv', '"header": true,');
	write_wild("broken$round.csv", 900_000, 200);
	compare("csv with broken quotes, round $round", 'csv', '"header": true,');
}
write_wild('escape.csv', 600_000, 300);
compare('csv with an escape character', 'csv', '"header": true, "escape": "\\\\",');

# records longer than may be, and one stray quote before a long stretch
{
	open(my $file, '>', "$landing.tmp/long.csv") or die $!;
	for my $id (1 .. 3000)
	{
		print $file "$id," . ($id % 500 ? 'v' x 200 : $id % 1000 ? '"' . "long\n" x 200_000 . '"' : "\"stray\r\n") . "\n";
	}
	close($file);
	compare('csv with records that are too long', 'csv', '"header": false,');
}
write_json('lines.json', 900_000);
compare('json', 'json', '');
write_json('lines.txt', 900_000);
compare('text', 'text', '');
cmp_ok($ranges, '>', 30, 'the files were loaded in many ranges');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.file_range'), '0', 'no range is left');

# ---- what is not to be split is not
my %sent;
for my $case ([ 'a limit of rejects', '"max_rejects": 100000' ], [ 'new columns', '"schema_evolution_mode": "addNewColumns"' ])
{
	my ($what, $option) = @$case;
	write_wild('whole.csv', 500_000, 0);
	land($landing, 'whole.csv');
	$node->safe_psql('postgres', <<"END");
CREATE TABLE bronze.whole (id bigint, value text);
SELECT lakehouse.create_source('whole', server => 'landing', target => 'bronze.whole', format => 'csv', path => 'in/whole.csv',
  options => '{"header": true, "settle_ms": 0, "workers": 3, $option}', trigger => 'continuous');
END
	ok(poll_value($node, q{SELECT state FROM lakehouse.file_status WHERE source = 'whole'}, 'loaded'), "$what: the file is loaded");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.verify() WHERE NOT ok}), '0', "$what: ... and agrees");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.load_status WHERE source = 'whole'}), '1', "$what: in one load")
	  if $option =~ /max/;
	unlink("$landing/in/whole.csv");
	$node->safe_psql('postgres', q{SELECT lakehouse.drop_source('whole'); DROP TABLE bronze.whole});
}

# ---- kill -9 at random moments
$node->safe_psql('postgres', <<'END');
DELETE FROM lakehouse.reject;
CREATE TABLE bronze.record (file text, ordinal integer, value text);
SELECT lakehouse.create_source('records', server => 'landing', target => 'bronze.record', trigger => 'continuous',
  format => 'csv', path => 'in/*.csv', options => '{"header": true, "settle_ms": 0, "workers": 3}');
END
my $number = 0;
my $feed = sub {
	my $name = sprintf('f%04d.csv', ++$number);
	write_csv($landing, $name, 25_000, \%sent);
	land($landing, $name);
	return;
};
my $finished = sub {
	return "SELECT count(*) = $number AND coalesce(bool_and(state = 'loaded'), false) FROM lakehouse.file WHERE path LIKE 'in/f%'";
};
crash_at_random(node => $node, source => 'records', victim => $_, rounds => 5, feed => $feed, finished => $finished)
  for qw(worker server);
check_files($node, 'after 10 kills', \%sent);
cmp_ok($node->safe_psql('postgres', q{SELECT min(n) FROM (SELECT count(*) AS n FROM lakehouse.load WHERE relation = 'bronze.record'::regclass GROUP BY file_id) x}),
	'>', 5, 'each file was loaded in ranges');

# ---- a crash between every two steps of a range
SKIP:
{
	skip 'needs a build with fault points', 1 unless $faults;
	my $set = sub {
		append_to_file($node->data_dir . '/fault.new', "lakehouse.fault = '$_[0]'\n");
		rename($node->data_dir . '/fault.new', $node->data_dir . '/fault.conf') or die $!;
		kill('HUP', $node->{_pid});
	};
	for my $name (qw(range-entered range-loaded range-done before-ledger before-commit after-commit))
	{
		for my $action (qw(kill error))
		{
			my $seen = -s $node->logfile;
			my $pass = 1 + int(rand(3));
			$set->("$name:$action:$pass");
			$feed->();
			ok(wait_until(sub { slurp_file($node->logfile, $seen) =~ /fault point "\Q$name\E" reached: \Q$action\E/ }, 30),
				"$name: reached with $action");
			$set->('');
			wait_restarted($node, $seen) if $action eq 'kill';
			ok(poll_value($node, $finished->(), 't'), "$name: everything goes on after $action");
		}
	}
	check_files($node, 'after all faults of a range', \%sent);
}

# ---- a session finishes what workers have begun
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION bronze.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
END

# leave_in_the_middle makes a file of which one range is not loaded: the worker
# that loads it is ended, and the source paused.
sub leave_in_the_middle
{
	my ($name) = @_;
	$node->safe_psql('postgres',
		q{CREATE TRIGGER hold BEFORE INSERT ON bronze.record FOR EACH ROW WHEN (NEW.ordinal = 11999 OR NEW.ordinal = 12001) EXECUTE FUNCTION bronze.hold()});
	my ($holder_pid, $pause_pid);
	my $holder = LakehouseTest::start_session($node, 'SELECT pg_advisory_lock(1), pg_sleep(300)', \$holder_pid);
	poll_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted}, '1') or BAIL_OUT('no lock');
	write_csv($landing, $name, 20_000, \%sent);
	land($landing, $name);
	poll_value($node, "SELECT count(*) FROM lakehouse.file_range r JOIN lakehouse.file f USING (file_id) WHERE path = 'in/$name' AND f.position = f.size", '1')
	  or BAIL_OUT("$name is not begun");
	my $pause = LakehouseTest::start_session($node, q{SELECT lakehouse.pause_source('records')}, \$pause_pid);
	poll_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'ExclusiveLock' AND NOT granted}, '1')
	  or BAIL_OUT('no pause');
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	$pause->finish;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($holder_pid); DROP TRIGGER hold ON bronze.record");
	eval { $holder->finish };
	return;
}
leave_in_the_middle('begun.csv');
is($node->safe_psql('postgres', q{SELECT state, position < size, (SELECT count(*) > 0 FROM lakehouse.file_range) FROM lakehouse.file_status WHERE path = 'in/begun.csv'}),
	'loading|t|t', 'a file is left in the middle, with ranges to be loaded');
is($node->safe_psql('postgres', q{SELECT object, detail FROM lakehouse.verify() WHERE NOT ok}), '', '... and ledger and rows agree');
$node->safe_psql('postgres', <<'END');
SELECT lakehouse.alter_source('records', trigger => 'available_now');
SELECT lakehouse.resume_source('records');
SELECT lakehouse.run_source('records');
END
check_files($node, 'finished by a session', \%sent);

# ---- a file that changes in the middle is not loaded any further
$node->safe_psql('postgres', q{SELECT lakehouse.alter_source('records', trigger => 'continuous')});
leave_in_the_middle('changes.csv');
append_to_file("$landing/in/changes.csv", "changes.csv,999999,late\n");
my $rows = $node->safe_psql('postgres', q{SELECT count(*) FROM bronze.record});
$node->safe_psql('postgres', q{SELECT lakehouse.resume_source('records')});
ok(poll_value($node, q{SELECT state FROM lakehouse.file_status WHERE path = 'in/changes.csv'}, 'changed'), 'a change is seen');
is($node->safe_psql('postgres', q{SELECT count(*) FROM bronze.record}), $rows, '... and no range is loaded any more');

# ---- and can be taken back or loaded anew, as any other
$node->safe_psql('postgres', q{SELECT lakehouse.undo_file('records', 'in/changes.csv')});
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM bronze.record WHERE file = 'changes.csv') || ' ' || (SELECT count(*) FROM lakehouse.file_range)}),
	'0 0', 'undo_file takes back all ranges, and what waits');
$node->safe_psql('postgres', q{SELECT lakehouse.reingest_file('records', 'in/changes.csv')});
push @{ $sent{rows} }, [ 'changes.csv', 999999, 'late' ];
ok(poll_value($node, q{SELECT state FROM lakehouse.file_status WHERE path = 'in/changes.csv' AND ended IS NULL}, 'loaded'),
	'reingest_file loads it again');
same_multiset($node, q{SELECT file, ordinal, value FROM bronze.record WHERE file <> 'changes.csv'}, 'SELECT * FROM sent.row',
	'... beside what was there');
is($node->safe_psql('postgres', q{SELECT count(*) FROM bronze.record WHERE file = 'changes.csv'}),
	scalar(grep { $_->[0] eq 'changes.csv' } @{ $sent{rows} }), '... with every good record');

# ---- nothing goes on where the records of a range are others than they were
leave_in_the_middle('options.csv');
$node->safe_psql('postgres', <<'END');
SELECT lakehouse.alter_source('records', options => '{"header": true, "settle_ms": 0, "workers": 3, "quote": ""}');
UPDATE lakehouse.file_range SET last_position = last_position - 3;
SELECT lakehouse.resume_source('records');
END
ok(poll_value($node, q{SELECT state || ' ' || sqlstate FROM lakehouse.file_status WHERE path = 'in/options.csv'}, 'failed 55000'),
	'a range that does not end with a record fails its file');
like($node->safe_psql('postgres', q{SELECT error FROM lakehouse.file_status WHERE path = 'in/options.csv'}),
	qr/do not end with a record any more.*reingest_file/, '... with the way out');
$node->stop;
done_testing();
