# A crash between every two steps that must not be torn apart. For each fault
# point named anywhere in src/: workers load files and a topic, flows follow, a
# job runs; the point kills its process, then the whole server, then raises an
# error. Each time everything goes on by itself, and in the end contents and
# ledgers are exact. A point that is never reached fails the test, so a new one
# is tested from the day it is written.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = faults_path();
seed();

my %point;
for my $source (glob("$FindBin::RealBin/../../src/*.c"), glob("$FindBin::RealBin/../../src/*/*.c"))
{
	$point{$_} = 1 for slurp_file($source) =~ /LH_FAULT\("([^"]+)"\)/g;
}
cmp_ok(scalar(keys %point), '>=', 15, 'fault points are found in the sources');

# nothing replays rejects by itself, and no file here is large, is known by its
# content, goes after its load or brings new columns: these points have tests of
# their own
my %own = (replay => '025_replay_faults.pl', range => '067_split_file.pl', archive => '016_clean_source.pl', content => '019_identity.pl',
	evolve => '029_evolve_faults.pl', promote => '029_evolve_faults.pl', widen => '029_evolve_faults.pl');
for my $name (sort keys %point)
{
	my ($kind) = grep { $name =~ /^$_-|-$_$/ } sort keys %own;
	next unless defined $kind;
	like(slurp_file("$FindBin::RealBin/$own{$kind}"), qr/\b\Q$name\E\b/, "$name: reached by $own{$kind}");
	delete $point{$name};
}

# nor does anything put messages into the outbox by itself
my $outbox = slurp_file("$FindBin::RealBin/033_outbox_faults.pl");
for my $name (grep { /^outbox-/ } sort keys %point)
{
	like($outbox, qr/\b\Q$name\E\b/, "$name: reached by 033_outbox_faults.pl");
	delete $point{$name};
}

my $partitions = 2;
my $broker = start_broker("numbers:$partitions");
my $node = lakehouse_node('faults', install_path => $path, conf => "include_if_exists = 'fault.conf'\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
CREATE SCHEMA silver;
CREATE TABLE bronze.record (file text, ordinal integer, value text);
CREATE TABLE bronze.message (topic text, partition integer, "offset" bigint, key text, value text);
SELECT lakehouse.create_source('records', server => 'landing', target => 'bronze.record', format => 'csv',
         path => 'in/*.csv', options => '{"header": true, "settle_ms": 0}', trigger => 'continuous');
SELECT lakehouse.create_source('numbers', server => 'events', target => 'bronze.message', topics => '{numbers}',
         trigger => 'continuous');
CREATE TABLE silver.copy (file text, ordinal integer, value text);
SELECT lakehouse.create_flow('copy', target => 'silver.copy', mode => 'append',
         query => 'SELECT file, ordinal, value FROM bronze.record');
CREATE TABLE silver.latest (bucket integer PRIMARY KEY, file text, ordinal integer, value text);
SELECT lakehouse.create_flow('latest', target => 'silver.latest', mode => 'scd1', keys => '{bucket}',
         sequence_by => '{file,ordinal}',
         query => 'SELECT ordinal % 10 AS bucket, file, ordinal, value FROM bronze.record');
CREATE TABLE silver.total (file text PRIMARY KEY, n bigint, total bigint);
SELECT lakehouse.create_flow('total', target => 'silver.total', mode => 'aggregate', keys => '{file}',
         query => 'SELECT file, count(*) AS n, sum(ordinal) AS total FROM silver.copy GROUP BY file');
CREATE TABLE silver.partition (partition integer PRIMARY KEY, n bigint);
SELECT lakehouse.create_flow('partition', target => 'silver.partition', mode => 'complete', keys => '{partition}',
         query => 'SELECT partition, count(*) AS n FROM bronze.message GROUP BY partition');
CREATE TABLE task_log (run bigint PRIMARY KEY);
CREATE SEQUENCE runs;
SELECT lakehouse.create_job('note', definition => '{"tasks": [
         {"task_key": "write", "sql": "INSERT INTO public.task_log SELECT lakehouse.param(''n'')::bigint"}],
         "parameters": {"n": "0"}}');
END

my %files;
my %messages;
my $number = 0;

# quiet tells whether everything that was sent went through all flows
sub quiet
{
	my $total = 0;
	$total += $_ for values %{ $messages{next} };
	return <<"END";
SELECT (SELECT count(*) = $number AND bool_and(state = 'loaded') FROM lakehouse.file)
   AND (SELECT sum(next_offset) = $total FROM lakehouse.kafka_offset)
   AND NOT EXISTS (SELECT FROM lakehouse.pending)
   AND NOT EXISTS (SELECT FROM lakehouse.job_run WHERE state IN ('queued', 'running'))
END
}

sub set_fault
{
	my ($value) = @_;
	open(my $file, '>', $node->data_dir . '/fault.conf') or die $!;
	print $file "lakehouse.fault = '$value'\n";
	close($file);
	# not by SQL: the server may be restarting
	kill('HUP', $node->{_pid}) if $node->{_pid};
	return;
}

sub feed
{
	my $name = sprintf('f%04d.csv', ++$number);
	write_csv($landing, $name, 300, \%files);
	land($landing, $name);
	produce_messages($broker, 'numbers', $partitions, 200, \%messages)->();
	# the server may be going down already
	try_psql($node, "SELECT lakehouse.run_job('note', jsonb_build_object('n', nextval('runs')::text), wait => false)");
	return;
}

feed();
poll_value($node, quiet(), 't', 60) or BAIL_OUT('nothing moves without any fault');

my $round = 0;
for my $name (sort keys %point)
{
	for my $action ('kill', 'killall', 'error')
	{
		# mostly the first pass, sometimes the next, if a process comes by twice
		my $pass = $action eq 'kill' ? 1 : 1 + int(rand(2));
		my $seen = -s $node->logfile;
		my $postmaster = $node->{_pid};
		my $log = '';
		my $reached = 0;
		for my $try (1 .. 3)
		{
			$pass = 1 if $try > 1;
			set_fault("$name:$action:$pass");
			feed();
			$reached = wait_until(sub { slurp_file($node->logfile, $seen) =~ /fault point "\Q$name\E" reached: \Q$action\E/ }, 2 + $try * 2);
			last if $reached;
		}
		ok($reached, "$name: reached with $action at pass $pass");
		set_fault('');
		if ($action eq 'killall' && $reached)
		{
			wait_until(sub { !kill(0, $postmaster) }, 30) or BAIL_OUT('the server survives killall');
			start_again($node);
		}
		if (!poll_value($node, quiet(), 't', 60))
		{
			fail("$name, $action: everything goes on by itself");
			diag($node->safe_psql('postgres', 'SELECT name, state, reason, error FROM lakehouse.source_status'));
			diag($node->safe_psql('postgres', 'SELECT name, state, pending_loads, error FROM lakehouse.flow_status'));
			diag($node->safe_psql('postgres', q{SELECT * FROM lakehouse.job_run WHERE state IN ('queued', 'running')}));
			last;
		}
	}
}

check_files($node, 'after all faults', \%files);
same_multiset($node, 'SELECT file, ordinal, value FROM silver.copy', 'SELECT file, ordinal, value FROM bronze.record',
	'an append flow took every row once');
same_multiset(
	$node,
	'SELECT bucket, file, ordinal, value FROM silver.latest',
	'SELECT DISTINCT ON (ordinal % 10) ordinal % 10, file, ordinal, value FROM bronze.record ORDER BY ordinal % 10, file DESC, ordinal DESC',
	'an scd1 flow kept the latest of each key');
same_multiset($node, 'SELECT file, n, total FROM silver.total',
	'SELECT file, count(*), sum(ordinal) FROM bronze.record GROUP BY file', 'an aggregate flow is right');
same_multiset($node, 'SELECT partition, n FROM silver.partition',
	'SELECT partition, count(*) FROM bronze.message GROUP BY partition', 'a complete flow is right');
is($node->safe_psql('postgres', 'SELECT * FROM lakehouse.verify() WHERE NOT ok'), '', 'verify() finds nothing');

# a task that is said to have succeeded has done its work
is($node->safe_psql('postgres', <<'END'), '', 'what a succeeded run wrote is there');
SELECT r.run_id FROM lakehouse.job_run r
 WHERE r.state = 'succeeded' AND NOT EXISTS (SELECT FROM task_log WHERE run = (r.parameters ->> 'n')::bigint)
END
$node->safe_psql('postgres', 'DELETE FROM lakehouse.reject WHERE file_id IS NOT NULL');
check_kafka($node, 'after all faults', \%messages);
$node->stop;
stop_broker($broker);
done_testing();
