# Kills while messages go from the outbox to Apache Kafka on three nodes: the
# sender, the server, brokers that lead partitions. Sessions count keys up, in a
# table and in messages, so the true order is known. In the end a plain consumer
# and we read the same, nothing that was committed is missing, nothing that was
# not is there, and each key counts up. LAKEHOUSE_KILLS says how many (8).
# At first a request that a broker takes up only after its sender is dead.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $kafka = KafkaCluster->new(nodes => 3);
my $seed = seed();
my $node = lakehouse_node('kill_outbox');
my $kills = $ENV{LAKEHOUSE_KILLS} // 8;

$kafka->create('out', 6, config => { 'min.insync.replicas' => 2 });
$node->safe_psql('postgres', <<"SQL");
CREATE SERVER cluster FOREIGN DATA WRAPPER lakehouse_kafka
  OPTIONS ("bootstrap.servers" '@{[$kafka->servers]}', "compression.codec" 'lz4');
CREATE SCHEMA bronze;
CREATE TABLE counter (key text PRIMARY KEY, n integer);
INSERT INTO counter SELECT 'k' || i, 0 FROM generate_series(1, 20) i;
CREATE TABLE bronze.message (topic text, "partition" integer, "offset" bigint, key text, value text);
CREATE FUNCTION bump(name text) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
  value integer;
BEGIN
  UPDATE counter SET n = n + 1 WHERE key = name RETURNING n INTO value;
  PERFORM lakehouse.kafka_produce('cluster', 'out', name, value::text);
END
\$\$;
SELECT lakehouse.create_source('out', server => 'cluster', target => 'bronze.message', topics => '{out}');
SQL
my $script = PostgreSQL::Test::Utils::tempdir() . '/bump.sql';
append_to_file($script, "\\set k random(1, 20)\nSELECT bump('k' || :k);\n");

sub feed
{
	my ($out) = ('');
	return IPC::Run::start(
		[ 'pgbench', '-n', '-c', '4', '-t', '250', '-f', $script, '-d', $node->connstr('postgres') ],
		'<', \undef, '>&', \$out);
}

sub sender
{
	my ($status, $pid) = try_psql($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'lakehouse outbox'});
	return $status == 0 && $pid ? $pid : 0;
}

sub quiet
{
	my ($limit) = @_;
	return poll_value($node, 'SELECT count(*) FROM lakehouse.outbox', 0, $limit // 240);
}

my $first = feed();
eval { $first->finish };
quiet() or BAIL_OUT('nothing is sent without any kill');

# ------------------------------------------------ requests of a dead sender
# A broker answers when all replicas have the messages, and does not look at the
# next request of a connection before that. One replica stands still, the sender
# dies, the next one sends more. What was on its way may not arrive behind that.
my @late = map { "late_$_" } 1 .. 3;
# the one that stands still is not the one that the others need to agree
my $controller = $kafka->ask(do => 'quorum')->{leader};
my ($follower, $leader) = grep { $_ != $controller } 1 .. 3;

# bytes that the leader has of a topic, replicated or not
sub stored
{
	my ($topic) = @_;
	my $size = 0;
	$size += -s $_ for glob("$kafka->{nodes}{$leader}{dir}/data/$topic-0/*.log");
	return $size;
}

sub send_late
{
	my ($value) = @_;
	$node->safe_psql('postgres', "SELECT lakehouse.kafka_produce('cluster', t, 'k', '$value') FROM unnest('{@{[join(',', @late)]}}'::text[]) t");
	return;
}

$kafka->create($_, 1, assign => { 0 => [ $leader, $follower ] }) for @late;
send_late(1);
quiet() or BAIL_OUT('nothing is sent');
my %before = map { $_ => stored($_) } @late;
$kafka->pause_node($follower);
send_late(2);
my @taken;
wait_until(sub { @taken = grep { stored($_) > $before{$_} } @late }, 60) or BAIL_OUT('nothing is on its way');
is(@taken, 1, 'the leader has the first request and looks at no other');
send_late(3);
# what it has got already is not sent again for now
$node->safe_psql('postgres', "INSERT INTO lakehouse.outbox_state (server, owner, topic, retry_at) VALUES ('cluster', 10, '$taken[0]', now() + interval '1 hour')"
	  . " ON CONFLICT (server, owner, topic) DO UPDATE SET retry_at = excluded.retry_at");
my $doomed = 0;
wait_until(sub { $doomed = sender() }, 60) or BAIL_OUT('there is no sender');
kill_process($node, $doomed);
wait_until(sub { grep { $_ ne $taken[0] && stored($_) > $before{$_} } @late }, 120)
  or diag('the next sender sends nothing: ' . $node->safe_psql('postgres', 'SELECT * FROM lakehouse.outbox_state'));
$kafka->continue_node($follower);
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_retry('cluster')});
ok(quiet(), 'the replica is back: everything is sent');
$node->safe_psql('postgres', q{CREATE TABLE bronze.late (topic text, "offset" bigint, value text);
	SELECT lakehouse.create_source('late', server => 'cluster', target => 'bronze.late', topics => '{late_1,late_2,late_3}');
	SELECT lakehouse.run_source('late')});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT regexp_replace(v, '(.)\1+', '\1', 'g'), ' ') FROM (SELECT string_agg(value, '' ORDER BY "offset") AS v FROM bronze.late GROUP BY topic) t}),
	'123', 'what a dead sender had on its way did not arrive behind what the next one sent')
  or diag($node->safe_psql('postgres', 'TABLE bronze.late ORDER BY topic, "offset"'));

# ------------------------------------------------------------------- kills
my %hit;
for my $round (1 .. $kills)
{
	my $victim = (qw(sender server broker sender))[ $round % 4 ];
	my $run = feed();
	wait_until(sub { sender() }, 20) if $victim eq 'sender';
	usleep(int(rand(600_000)));
	if ($victim eq 'sender')
	{
		$hit{sender}++ if kill_process($node, sender());
	}
	elsif ($victim eq 'server')
	{
		kill_server($node);
		$hit{server}++;
	}
	else
	{
		my $id = 1 + int(rand(3));
		$kafka->kill_node($id);
		$hit{broker}++;
		usleep(int(rand(2_000_000)));
		$kafka->start_node($id);
		$kafka->wait_ready;
	}
	eval { $run->finish };
	start_again($node) if $victim eq 'server';
	if (rand() < 0.5 || $round == $kills)
	{
		ok(quiet(), "round $round, $victim: everything is sent in the end")
		  or diag($node->safe_psql('postgres', 'SELECT * FROM lakehouse.kafka_outbox_status'));
	}
}
note(join(', ', map { "$_: $hit{$_}" } sort keys %hit));
cmp_ok($hit{$_} // 0, '>', 0, "$_ was killed") for qw(sender server broker);

$node->safe_psql('postgres', q{SELECT lakehouse.run_source('out')});
$kafka->consume($node, 'out');
same_multiset($node, q{SELECT "partition", "offset", md5(value) FROM bronze.message}, q{SELECT partition, "offset", value_hash FROM plain.record},
	'a plain consumer reads the same');
same_multiset($node, 'SELECT DISTINCT key, value::integer FROM bronze.message', 'SELECT c.key, i FROM counter c, generate_series(1, c.n) i',
	'what was committed arrived, and nothing else');
is($node->safe_psql('postgres', <<'END'), '20|t|t|t', 'each key is in one partition and counts up, by first and by last arrival');
SELECT count(*), bool_and(partitions = 1), bool_and(by_first = by_value), bool_and(by_last = by_value)
  FROM (SELECT key, count(DISTINCT "partition") AS partitions FROM bronze.message GROUP BY key) p
  JOIN (SELECT key, array_agg(value ORDER BY value::integer) AS by_value, array_agg(value ORDER BY first) AS by_first,
               array_agg(value ORDER BY last) AS by_last
          FROM (SELECT key, value, min("offset") AS first, max("offset") AS last FROM bronze.message GROUP BY key, value) v GROUP BY key) o USING (key)
END
note($node->safe_psql('postgres', q{SELECT count(*) || ' messages, ' || count(*) - (SELECT sum(n) FROM counter) || ' of them repeated' FROM bronze.message}));
is($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.outbox_batch'), 0, 'no batch is left behind');

$node->stop;
$kafka->stop;
done_testing();
