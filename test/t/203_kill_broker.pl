# kill -9 of the background worker and of the postmaster at random moments, 50
# times by default, while transactional producers write to a real Kafka and some
# of them abort. After every tenth kill bronze and rejects hold what a plain
# consumer reads.
#   LAKEHOUSE_KILLS=n   how many instead, and look after each of them
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $kafka = KafkaCluster->new;
my $seed = seed();
my $kills = $ENV{LAKEHOUSE_KILLS} // 50;
my $each = $ENV{LAKEHOUSE_KILLS} ? 1 : 10;
my $partitions = 4;
my $node = lakehouse_node('killed', conf => "lakehouse.batch_rows = 100\nlakehouse.kafka_refresh_interval = 500\n");

$kafka->make_server($node, 'events');
$kafka->create('numbers', $partitions);
$kafka->make_source($node, 'numbers', columns =>
	  'topic text, partition integer, "offset" bigint, key text, value text, "timestamp" timestamptz, headers jsonb');

my $rounds = 0;
my $feed = sub {
	$kafka->ask(do => 'traffic', topic => 'numbers', partitions => $partitions, seed => $seed + ++$rounds, rounds => 80, job => 'traffic');
	return sub { $kafka->ask(do => 'wait', job => 'traffic') };
};
my $finished = sub {
	my $total = 0;
	$total += $_ for values %{ $kafka->ends('numbers')->{committed} };
	return "SELECT coalesce(sum(next_offset), 0) = $total FROM lakehouse.kafka_offset";
};

my $done = 0;
for my $victim ('worker', 'server')
{
	crash_at_random(node => $node, source => 'numbers', victim => $victim, rounds => int($kills / 2),
		feed => $feed, finished => $finished,
		after => sub { $kafka->check($node, 'numbers', 'bronze.numbers', 'numbers') if ++$done % $each == 0 });
	$kafka->check($node, 'numbers', 'bronze.numbers', 'numbers');
	check_loads($node, "after the kills of the $victim", 'bronze.numbers');
}

note("$done kills");
$kafka->stop;
$node->stop;
done_testing();
