# Three nodes of a real Kafka: partitions that change their leader, nodes that
# die, and a leader that never had the records that we loaded.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $kafka = KafkaCluster->new(nodes => 3, config => { 'unclean.leader.election.enable' => 'false' });
my $seed = seed();
my $node = lakehouse_node('leaders', conf => "lakehouse.kafka_refresh_interval = 500\nlakehouse.batch_rows = 300\n");

$kafka->make_server($node, 'events');
$kafka->create('moves', 3, replicas => 3, config => { 'min.insync.replicas' => 2 });
$kafka->make_source($node, 'moves', trigger => 'continuous');

sub value_of
{
	return $node->safe_psql('postgres', $_[0]);
}

sub leader_of
{
	my ($topic, $partition) = @_;
	return $kafka->ask(do => 'describe', topic => $topic)->{partitions}[$partition]{leader};
}

# --------------------------------------------------------------- leaders change
$kafka->ask(do => 'traffic', topic => 'moves', partitions => 3, seed => $seed, pause => 20, job => 'traffic');
my $changes = 0;
my $each = $ENV{LAKEHOUSE_KILLS} ? 1 : 10;    # how often what was read is compared
for my $round (1 .. 10)
{
	my $partition = int(rand(3));
	my $old = leader_of('moves', $partition);
	my @order = sort { ($a == $old) <=> ($b == $old) || rand() <=> 0.5 } 1 .. 3;
	$kafka->ask(do => 'move', topic => 'moves', partition => $partition, replicas => \@order);
	$changes++ if wait_until(sub { leader_of('moves', $partition) != $old }, 60);
	usleep(int(rand(200_000)));
	$kafka->check_so_far($node, 'moves', 'bronze.moves', 'moves') if $round % $each == 0;
}
is($changes, 10, 'leaders changed');

# nodes die one after the other
for my $id (1 .. 3)
{
	$kafka->kill_node($id);
	ok(wait_until(sub { my $d = eval { $kafka->ask(do => 'describe', topic => 'moves') }; return $d && !grep { $_->{leader} == $id || $_->{leader} < 0 } @{ $d->{partitions} } }, 180),
		"without node $id others lead");
	my $before = value_of('SELECT coalesce(max(load_id), 0) FROM lakehouse.load');
	ok(wait_until(sub { value_of('SELECT max(load_id) FROM lakehouse.load') > $before }, 180), 'and are read');
	$kafka->start_node($id);
	$kafka->wait_ready;
	ok(wait_until(sub { my $d = eval { $kafka->ask(do => 'describe', topic => 'moves') }; return $d && !grep { @{ $_->{isr} } < 3 } @{ $d->{partitions} } }, 180),
		"node $id is back");
	$kafka->check_so_far($node, 'moves', 'bronze.moves', 'moves');
}
# one stands still: its partitions get other leaders
my $led = leader_of('moves', 0);
$kafka->pause_node($led);
ok(wait_until(sub { my $l = eval { leader_of('moves', 0) }; return defined $l && $l != $led && $l > 0 }, 240), 'a node that stands still loses its lead');
my $before = value_of('SELECT max(load_id) FROM lakehouse.load');
ok(wait_until(sub { value_of('SELECT max(load_id) FROM lakehouse.load') > $before }, 180), 'and the source goes on');
$kafka->continue_node($led);

my $sent = $kafka->ask(do => 'stop', job => 'traffic');
note("traffic: $sent->{sent} sent, $sent->{committed} transactions committed, $sent->{aborted} aborted, $sent->{failed} given up");
ok($kafka->wait_caught_up($node, 'moves', ['moves']), 'the source comes to the end');
$kafka->check($node, 'moves', 'bronze.moves', 'moves');

# ---------------------------------------------------- a leader that lacks records
# Two replicas; one misses what the other acknowledges alone and is elected all
# the same when that one dies. "worker" while it is being read, "run" afterwards.
for my $case ([ 'run', 'short', 1 ], [ 'run', 'long', 9 ], [ 'worker', 'short', 1 ], [ 'worker', 'long', 9 ])
{
	my ($how, $what, $after) = @$case;
	my $topic = "${what}_$how";
	$kafka->create($topic, 1, assign => { 0 => [ 2, 3 ] }, config => { 'min.insync.replicas' => 1 });
	my @common = map { { topic => $topic, partition => 0, key => 'k', value => "both $_" } } 1 .. 3;
	$kafka->produce(@common);
	$kafka->make_source($node, $topic, $how eq 'worker' ? (trigger => 'continuous') : ());
	is(leader_of($topic, 0), 2, "$topic: node 2 leads");
	$kafka->kill_node(3);
	ok(wait_until(sub { my $d = eval { $kafka->ask(do => 'describe', topic => $topic) }; return $d && @{ $d->{partitions}[0]{isr} } == 1 }, 180), "$topic: alone");
	$kafka->produce(map { { topic => $topic, partition => 0, key => 'k', value => "alone $_" } } 1 .. 4);
	value_of("SELECT lakehouse.run_source('$topic')") if $how eq 'run';
	ok(poll_value($node, "SELECT count(*) FROM bronze.$topic", 7), "$topic: all is loaded");
	$kafka->kill_node(2);
	$kafka->start_node(3);
	$kafka->wait_ready;
	ok(wait_until(sub { eval { $kafka->ask(do => 'elect', topic => $topic, partition => 0, type => 'UNCLEAN') }; return (eval { leader_of($topic, 0) } // 0) == 3 }, 180), "$topic: node 3 leads without them");
	$kafka->produce(map { { topic => $topic, partition => 0, key => 'k', value => "other $_" } } 1 .. $after);
	$node->psql('postgres', "SELECT lakehouse.run_source('$topic')") if $how eq 'run';
	my $error = '';
	ok(wait_until(sub { $error = value_of("SELECT sqlstate || ' ' || error FROM lakehouse.kafka_status WHERE source = '$topic'"); return $error =~ /^55000 / }, 180),
		"$topic: the partition stops: the log went back")
	  or diag($error);
	is(value_of("SELECT count(*) FROM bronze.$topic WHERE value LIKE 'other%'"), '0', "$topic: nothing is read as if nothing had been");
	$kafka->start_node(2);
	$kafka->wait_ready;
	value_of("SELECT lakehouse.alter_source('$topic', trigger => 'available_now')");
	value_of("TRUNCATE bronze.$topic; SELECT lakehouse.seek_source('$topic', '{\"$topic\": {\"0\": -2}}')");
	value_of("SELECT lakehouse.run_source('$topic')");
	$kafka->check($node, $topic, "bronze.$topic", $topic);
}

$kafka->stop;
$node->stop;
done_testing();
