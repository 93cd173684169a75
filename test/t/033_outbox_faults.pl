# The outbox torn at each point where it could be torn, in the session that
# writes a message and in the worker that sends it, by an error, by a kill of the
# process and of the whole server. Afterwards every message that was committed
# is in the topic and no other one is; each key is in its order.
use strict;
use warnings;

use FindBin;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = faults_path();
seed();
my @points = qw(outbox-written outbox-locked outbox-ordered outbox-read outbox-sent outbox-settled outbox-committed);

# one that is added has to be listed here
my %found;
for my $source (glob("$FindBin::RealBin/../../src/*/*.c"))
{
	$found{$_} = 1 for slurp_file($source) =~ /LH_FAULT\("(outbox-[^"]+)"\)/g;
}
is("@{[sort keys %found]}", "@{[sort @points]}", 'all points of the outbox are known here');

my $broker = start_broker('out:3');
my $node = lakehouse_node('outbox_faults', install_path => $path, conf => "include_if_exists = 'fault.conf'\n");
$node->safe_psql('postgres', <<"END");
CREATE SERVER cluster FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE TABLE made (key text, n bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE message (key text, value text, "partition" integer, "offset" bigint);
-- locks of nobody, as soon as no worker sends any more
CREATE FUNCTION abandoned_locks() RETURNS bigint LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1..3000 LOOP
		PERFORM pg_stat_clear_snapshot();
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'lakehouse outbox');
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN (SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND granted AND pid IS NULL);
END \$\$;
END

sub set_fault
{
	my ($fault) = @_;
	my $file = $node->data_dir . '/fault.conf';
	unlink $file;
	append_to_file($file, "lakehouse.fault = '$fault'\n");
	# the server may be gone
	eval { $node->reload };
	return;
}

# writes messages and what they were in one transaction
sub feed
{
	try_psql($node, <<'END');
WITH m AS (INSERT INTO made (key) SELECT 'k' || i % 5 FROM generate_series(1, 20) i RETURNING key, n)
SELECT lakehouse.kafka_produce('cluster', 'out', key, n::text) FROM m ORDER BY n
END
	return;
}

sub quiet
{
	return poll_value($node, 'SELECT count(*) FROM lakehouse.outbox', 0, 90);
}

feed();
quiet() or BAIL_OUT('nothing is sent without any fault');
for my $point (@points)
{
	for my $action (qw(kill killall error))
	{
		my $seen = -s $node->logfile;
		my $postmaster = $node->{_pid};
		my $reached = 0;
		for (1 .. 3)
		{
			set_fault("$point:$action");
			feed();
			$reached = wait_until(sub { slurp_file($node->logfile, $seen) =~ /fault point "\Q$point\E" reached: \Q$action\E/ }, 6);
			last if $reached;
		}
		ok($reached, "$point: reached with $action");
		set_fault('');
		is($node->safe_psql('postgres', 'SELECT abandoned_locks()'), 0, "$point: a worker that ended with an error left no lock behind") if $action eq 'error';
		if ($action eq 'killall' && $reached)
		{
			wait_until(sub { !kill(0, $postmaster) }, 30) or BAIL_OUT('the server survives killall');
			start_again($node);
		}
		feed();
		if (!quiet())
		{
			fail("$point, $action: everything goes on by itself");
			diag($node->safe_psql('postgres', 'SELECT * FROM lakehouse.kafka_outbox_status'));
			last;
		}
	}
}

$node->safe_psql('postgres', <<'END');
SELECT lakehouse.create_source('out', server => 'cluster', target => 'message', topics => '{out}');
SELECT lakehouse.run_source('out');
END
same_multiset($node, 'SELECT DISTINCT key, value FROM message', 'SELECT key, n::text FROM made',
	'every committed message is in the topic, and nothing else');
is( $node->safe_psql('postgres', <<'END'), 't|t|t', 'each key is in one partition and in its order, by first and by last arrival');
SELECT bool_and(partitions = 1), bool_and(by_first = by_value), bool_and(by_last = by_value)
  FROM (SELECT key, count(DISTINCT "partition") AS partitions FROM message GROUP BY key) p
  JOIN (SELECT key, array_agg(value ORDER BY value::bigint) AS by_value, array_agg(value ORDER BY first) AS by_first,
               array_agg(value ORDER BY last) AS by_last
          FROM (SELECT key, value, min("offset") AS first, max("offset") AS last FROM message GROUP BY key, value) v GROUP BY key) o USING (key)
END
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM message'), '>', $node->safe_psql('postgres', 'SELECT count(*) FROM made'),
	'some of the faults came between sending and noting it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.outbox_batch'), 0, 'no batch is left behind');

$node->stop;
stop_broker($broker);
done_testing();
