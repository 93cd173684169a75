#!/usr/bin/perl
# serve.pl: a real Kafka for the benchmark, as KafkaCluster starts it.
#
# Prints "kafka SERVERS", then reads commands for the driver, one JSON object a
# line, and answers each with "ok" and the answer, or with "error". Ends with
# its standard input, and Kafka with it.
use strict;
use warnings;

# before PostgreSQL's test modules send it to a log
my $out;
BEGIN { open($out, '>&', \*STDOUT) or die $! }

use IO::Handle;
use JSON::PP ();
use KafkaCluster;

$out->autoflush(1);
my $kafka = KafkaCluster->new(heap => $ENV{LAKEHOUSE_KAFKA_HEAP} // 1024);
print $out 'kafka ' . $kafka->servers . "\n";
while (my $line = <STDIN>)
{
	my $answer = eval { $kafka->ask(%{ JSON::PP::decode_json($line) }) };
	print $out $answer ? 'ok ' . JSON::PP->new->canonical->encode($answer) : "error $@", "\n";
}
$kafka->stop;
