# A real Kafka broker and what partitions have of each other: one with a backlog
# does not keep the others waiting, several workers divide them by what they
# have to do, and nothing is lost or doubled while workers die and partitions
# come.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $kafka = KafkaCluster->new;
my $seed = seed();
my $node = lakehouse_node('share', conf => "track_commit_timestamp = on\nlakehouse.kafka_refresh_interval = 500\n"
	  . "lakehouse.kafka_read_ahead = '1MB'\n");

$kafka->make_server($node, 'events');

sub value_of
{
	my ($status, $out) = try_psql($node, $_[0]);
	return $out // '';
}

sub continuous { return $node->safe_psql('postgres', "SELECT lakehouse.alter_source('$_[0]', trigger => 'continuous')") }
sub by_hand { return $node->safe_psql('postgres', "SELECT lakehouse.alter_source('$_[0]', trigger => 'available_now')") }

# ------------------------------------------------------------- hot and cold
# The target takes its time for each row of the backlog, so that this lasts as
# long whatever the machine is; five other partitions get a record now and then.
my $backlog = 1000;
$kafka->create('hot', 6);
$kafka->ask(do => 'fill', topic => 'hot', partitions => 1, count => $backlog, size => 20_000);
$kafka->make_source($node, 'hot');
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION bronze.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.008); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON bronze.hot FOR EACH ROW WHEN (NEW.partition = 0) EXECUTE FUNCTION bronze.slow();
END
continuous('hot');
my $sent = 0;
ok( wait_until(
		sub {
			$kafka->produce(map { { topic => 'hot', partition => $_, key => 'cold', value => "$sent" } } 1 .. 5);
			$sent += 5;
			usleep(50_000);
			return value_of('SELECT count(*) FROM bronze.hot WHERE partition = 0') eq $backlog;
		},
		120), 'a backlog of one partition is read');
ok($kafka->wait_caught_up($node, 'hot', ['hot']), 'and the others');
# how long the backlog took, and the longest that a record of another one waited
my ($drain, $delay, $during) = split(/\|/, value_of(<<'END'));
WITH seen AS (SELECT partition, "timestamp" AS sent, pg_xact_commit_timestamp(xmin) AS visible FROM bronze.hot),
     began AS (SELECT min(sent) AS at FROM seen WHERE partition > 0),
     ended AS (SELECT max(visible) AS at FROM seen WHERE partition = 0)
SELECT extract(epoch FROM ended.at - began.at), extract(epoch FROM max(visible - sent)), count(*)
  FROM seen, began, ended WHERE partition > 0 AND sent < ended.at GROUP BY ended.at, began.at
END
note(sprintf('backlog %.1f s, others %.2f s at most, %d of %d records of others meanwhile', $drain, $delay, $during, $sent));
cmp_ok($during, '>=', 25, 'records of other partitions come meanwhile');
cmp_ok($delay, '<', $drain / 2, 'none of them waits until the backlog is read');
cmp_ok(value_of(q{SELECT count(*) FROM lakehouse.load WHERE relation = 'bronze.hot'::regclass AND offsets::jsonb -> 'hot' ?& '{0,1,2,3,4,5}'}),
	'>=', 3, 'a batch takes from all partitions');

# a transaction that is not finished is no lag, but it is shown, even though no
# event tells of it
sub open_of { return q{SELECT open_transactions || ' ' || lag || ' ' || lag_seconds || ' ' || state FROM lakehouse.kafka_status WHERE source = 'hot' AND partition = 1} }
ok(poll_value($node, open_of(), '0 0 0 active'), 'no transaction is open');
$kafka->begin('open');
$kafka->produce_in('open', map { { topic => 'hot', partition => 1, key => 'open', value => $_ } } 1, 2);
$kafka->produce({ topic => 'hot', partition => 1, key => 'behind', value => 'it' });
ok(poll_value($node, open_of(), '3 0 0 active'), 'one that is, and what follows it, is shown');
$kafka->commit('open');
ok(poll_value($node, open_of(), '0 0 0 active'), 'until it is committed');
$node->safe_psql('postgres', q{SELECT lakehouse.pause_source('hot')});
is(value_of(q{SELECT DISTINCT state || ' ' || lag || ' ' || coalesce(lag_seconds::text, 'unknown') FROM lakehouse.kafka_status WHERE source = 'hot'}), 'paused 0 unknown',
	'of a source that is paused nobody knows the lag in seconds');
$node->safe_psql('postgres', q{SELECT lakehouse.resume_source('hot')});
by_hand('hot');

# -------------------------------------------------------------------- workers
sub workers_are
{
	my ($name, $count) = @_;
	return poll_value($node, "SELECT count(*) FROM lakehouse.worker_status WHERE object = '$name' AND state IN ('idle', 'working')", $count);
}

# division gives the workers of the partitions, in their order.
sub division { return value_of(q{SELECT string_agg(coalesce(worker::text, '-'), '' ORDER BY partition) FROM lakehouse.kafka_status WHERE source = 'work'}) }

$kafka->create('work', 6);
$kafka->make_source($node, 'work', options => '{"workers": 3, "linger_ms": 1, "batch_rows": 200}',
	columns => 'topic text, partition integer, "offset" bigint, key text, value text, "timestamp" timestamptz, headers jsonb');
$kafka->ask(do => 'traffic', topic => 'work', partitions => 6, seed => $seed, pause => 3, job => 'traffic');
continuous('work');
ok(workers_are('work', 3), 'three workers read one topic');
ok(wait_until(sub { division() =~ /^[012]{6}$/ }), 'its partitions are given to them');
is(value_of(q{SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n FROM lakehouse.kafka_status WHERE source = 'work' GROUP BY worker) x}),
	'2 2 2', 'two for each');
for my $round (1 .. 2)
{
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM lakehouse.worker_status
		WHERE object = 'work' AND pid IS NOT NULL ORDER BY random() LIMIT 1});
	ok(workers_are('work', 3), "a worker that ends is replaced, round $round");
}
$kafka->ask(do => 'partitions', topic => 'work', count => 9);
$kafka->ask(do => 'traffic', topic => 'work', partitions => 9, seed => $seed + 1, pause => 3, job => 'wider');
kill_process($node, worker_pid($node, 'work'));
ok(workers_are('work', 3), 'three again after one was killed');
ok(wait_until(sub { division() =~ /^[012]{9}$/ }), 'partitions that were added are given to them, too');
$kafka->ask(do => 'stop', job => $_) for qw(traffic wider);
ok($kafka->wait_caught_up($node, 'work', ['work']), 'all is read');

# one partition with a hundred times the records of the others
my $before = division();
$kafka->ask(do => 'fill', topic => 'work', partitions => 1, count => 100_000, size => 100);
my $lonely = q{SELECT count(*) <= 2 FROM lakehouse.kafka_status WHERE source = 'work'
	AND worker = (SELECT worker FROM lakehouse.kafka_status WHERE source = 'work' AND partition = 0)};
ok(poll_value($node, $lonely, 't'), 'others are taken from the worker of a hot one');
my $after = division();
usleep(2_500_000);
is(division(), $after, 'and then partitions stay where they are');
note("$before, with a hot one $after");
ok($kafka->wait_caught_up($node, 'work', ['work']), 'all is read again');
by_hand('work');
ok(workers_are('work', 0), 'the workers leave');
$kafka->check($node, 'work', 'bronze.work', 'work');
check_loads($node, 'work', 'bronze.work');

$kafka->stop;
$node->stop;
done_testing();
