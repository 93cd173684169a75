# kill -9 in the middle of reading a Kafka topic: of the session that reads, of
# the background worker, of the postmaster, at random moments. Afterwards every
# message is there once, and the positions are those of the last message + 1.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use Test::More;

seed();

my $partitions = 4;
my $broker = start_broker("numbers:$partitions");
my $node = lakehouse_node('kafka', conf => "lakehouse.batch_rows = 500\n");
$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
CREATE TABLE bronze.message (topic text, partition integer, "offset" bigint, key text, value text);
SELECT lakehouse.create_source('numbers', server => 'events', target => 'bronze.message', topics => '{numbers}');
END

my %sent;
my $feed = sub { produce_messages($broker, 'numbers', $partitions, 3000 + int(rand(3000)), \%sent) };
my $finished = sub {
	my $total = 0;
	$total += $_ for values %{ $sent{next} };
	return "SELECT coalesce(sum(next_offset), 0) = $total FROM lakehouse.kafka_offset";
};

for my $case ([ 'backend', 10 ], [ 'worker', 20 ], [ 'server', 20 ], [ 'worker', 10, 3 ])
{
	my ($victim, $rounds, $workers) = @$case;
	$node->safe_psql('postgres', "SELECT lakehouse.alter_source('numbers', options => '{\"workers\": $workers}')") if $workers;
	crash_at_random(node => $node, source => 'numbers', victim => $victim, rounds => $rounds,
		feed => $feed, finished => $finished);
	check_kafka($node, "after $rounds kills of the $victim" . ($workers ? " of $workers" : ''), \%sent);
}
$node->stop;
stop_broker($broker);
done_testing();
