# Several background workers read one source of files: they share the work,
# each record arrives once whatever is killed, and what needs the source alone
# waits for all of them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use Test::More;

seed();

my $node = lakehouse_node('shared', conf => "lakehouse.batch_bytes = '64kB'\nlakehouse.batch_rows = 500\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', <<'END');
CREATE SCHEMA bronze;
CREATE TABLE bronze.record (file text, ordinal integer, value text);
CREATE FUNCTION bronze.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.file LIKE 'slow%' THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); END IF;
  RETURN NEW;
END $$;
SELECT lakehouse.create_source('records', server => 'landing', target => 'bronze.record', trigger => 'continuous',
  format => 'csv', path => 'in/*.csv', options => '{"header": true, "settle_ms": 0, "workers": 3}');
END

my ($status, $out, $err) = $node->psql('postgres',
	q{SELECT lakehouse.alter_source('records', options => '{"header": true, "workers": 0}')});
like($err, qr/"workers"/, 'a source has at least one worker');
ok(poll_value($node, q{SELECT count(*) FROM lakehouse.worker_status WHERE kind = 'source' AND object = 'records'}, '3'),
	'three workers were started');

# ---- while one file cannot be finished, the others are loaded
my %sent;
my $number = 0;
$node->safe_psql('postgres',
	'CREATE TRIGGER hold BEFORE INSERT ON bronze.record FOR EACH ROW EXECUTE FUNCTION bronze.hold()');
my $holder_pid;
my $holder = LakehouseTest::start_session($node, 'SELECT pg_advisory_lock(1), pg_sleep(300)', \$holder_pid);
poll_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted}, '1') or BAIL_OUT('no lock');
write_csv($landing, $_, 20, \%sent), land($landing, $_) for qw(slow1.csv slow2.csv);
ok(poll_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '2'),
	'two workers are in the middle of a file');
for my $name (map { "quick$_.csv" } 1 .. 5)
{
	write_csv($landing, $name, 20, \%sent);
	land($landing, $name);
}
ok(poll_value($node, q{SELECT count(*) FROM lakehouse.file WHERE path LIKE 'in/quick%' AND state = 'loaded'}, '5'),
	'the third one loads what else arrives');

# ---- a pause, and a run by hand, wait for all of them
my $pause_pid;
my $pause = LakehouseTest::start_session($node, q{SELECT lakehouse.pause_source('records', 'test')}, \$pause_pid);
ok(poll_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'ExclusiveLock' AND NOT granted}, '1'),
	'a pause waits for the batches in hand');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($holder_pid)");
$holder->finish;
ok($pause->finish, '... and is granted when they have ended');
is($node->safe_psql('postgres', q{SELECT string_agg(state, ',' ORDER BY path) FROM lakehouse.file WHERE path LIKE 'in/slow%'}),
	'loaded,loaded', '... with what they were loading');
$node->safe_psql('postgres', q{DROP TRIGGER hold ON bronze.record; SELECT lakehouse.resume_source('records')});
check_files($node, 'shared by three workers', \%sent);
ok(poll_value($node, q{SELECT count(*) FROM lakehouse.worker_status WHERE kind = 'source' AND object = 'records'}, '3'),
	'three workers come back after the pause');

# ---- a file that changes after it was loaded is seen, and not loaded twice
open(my $file, '>>', "$landing/in/quick1.csv") or die $!;
print $file "quick1.csv,999,late\n";
close($file);
ok(poll_value($node, q{SELECT state FROM lakehouse.file WHERE path = 'in/quick1.csv'}, 'changed'),
	'the change of a loaded file is seen');
is($node->safe_psql('postgres', q{SELECT count(*) FROM bronze.record WHERE ordinal = 999}), '0', '... and not loaded');
$node->safe_psql('postgres', q{SELECT lakehouse.pause_source('records')});
unlink("$landing/in/quick1.csv") or die $!;
$node->safe_psql('postgres', q{UPDATE lakehouse.file SET state = 'loaded' WHERE path = 'in/quick1.csv';
	SELECT lakehouse.resume_source('records')});

# ---- kill -9 at random moments
my $feed = sub {
	my @name = map { sprintf("f%04d.csv", ++$number) } 1 .. 8;
	write_csv($landing, $_, 3000 + int(rand(4000)), \%sent) for @name;
	land($landing, $_) for @name;
	return;
};
my $finished = sub {
	return "SELECT count(*) = $number AND coalesce(bool_and(state = 'loaded'), false) FROM lakehouse.file WHERE path LIKE 'in/f%'";
};
crash_at_random(node => $node, source => 'records', victim => $_, rounds => 6, feed => $feed, finished => $finished)
  for qw(worker server);
check_files($node, 'after 12 kills', \%sent);
$node->stop;
done_testing();
