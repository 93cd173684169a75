# A real Kafka cluster that loses what a source has not read: retention, topics
# deleted and created again; times as start and end; new partitions; open
# transactions in the lag; a group that may not be told positions.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaCluster->new;
my $node = lakehouse_node('broker', conf => "lakehouse.kafka_refresh_interval = 500\n");
my $columns = 'value text, topic text, partition integer, "offset" bigint';

$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '@{[$kafka->servers]}');
CREATE SCHEMA bronze;
END

sub make_source
{
	my ($name, $more) = @_;
	return $node->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS bronze.$name ($columns);"
		  . "SELECT lakehouse.create_source('$name', server => 'events', target => 'bronze.$name', $more)");
}

sub value_of
{
	return $node->safe_psql('postgres', $_[0]);
}

# run gives rows of one run_source, and what it warned of.
sub run
{
	my ($name) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('$name')");
	return wantarray ? ($out, $err) : $status == 0 ? $out : $err;
}

sub state_of
{
	my ($name) = @_;
	return value_of("SELECT string_agg(concat_ws(' ', topic || partition, state, position, sqlstate, error), '; ' ORDER BY topic, partition)"
		  . " FROM lakehouse.kafka_status WHERE source = '$name'");
}

# times long ago, which no retention may take
my $base = 1400000000000;
my @kept = (config => { 'retention.ms' => -1 });
sub records
{
	my ($topic, @numbers) = @_;
	return map { { topic => $topic, partition => 0, key => 'k', value => "$topic $_", timestamp => $base + $_ * 1000 } } @numbers;
}

# ---------------------------------------------------------------------- times
$kafka->create('times', 2, @kept);
$kafka->produce(records('times', 0 .. 9));

sub starts
{
	my ($options, $expected, $what) = @_;
	make_source('starts', "topics => '{times}', options => '$options'");
	run('starts');
	is(value_of('SELECT coalesce(min(value), $$none$$) FROM bronze.starts'), $expected, $what);
	value_of(q{SELECT lakehouse.drop_source('starts'); DROP TABLE bronze.starts});
	return;
}
starts('{"startingTimestamp": ' . ($base + 6000) . ', "startingOffsetsByTimestamp": {"times": {"0": 0}}, "startingOffsets": "latest"}',
	'times 6', 'one time counts before times by partition and offsets');
starts('{"startingOffsetsByTimestamp": {"times": {"0": "2014-05-13 16:53:23.5+00"}}, "startingOffsets": "latest"}',
	'times 4', 'times by partition count before offsets');
starts('{"starting_offsets": "2014-05-13 16:53:25+00"}', 'times 5', 'a time as offset');
starts('{"starting_timestamp": "2100-01-01 00:00:00+00"}', 'none', 'a time behind the last record');

make_source('ends', qq{topics => '{times}', options => '{"ending_timestamp": @{[$base + 4000]}, "endingOffsets": {"times": {"0": 1}}}'});
is(run('ends'), '4', 'a run ends before the first record of that time');
$kafka->produce(records('times', 1, 2));
is(run('ends'), '0', 'whatever comes later');
value_of(qq{SELECT lakehouse.alter_source('ends', options => '{"endingOffsetsByTimestamp": {"times": {"0": @{[$base + 6000]}}}}')});
is(run('ends'), '2', 'times by partition');
value_of(q{SELECT lakehouse.alter_source('ends', options => '{}')});
is(run('ends'), '6', 'without end all is read');

# ------------------------------------------------------------------- retention
$kafka->create('old', 2, @kept);
$kafka->produce(records('old', 0 .. 9));
for my $policy (qw(stop skip wait))
{
	make_source($policy, qq{topics => '{old}', options => '{"on_data_loss": "$policy"}'});
	is(run($policy), '10', "$policy: before records are lost");
}
$kafka->produce(records('old', 10 .. 19), { topic => 'old', partition => 1, value => 'healthy' });
$kafka->ask(do => 'delete_records', topic => 'old', before => { 0 => 15 });
my ($rows, $warning) = run('skip');
is($rows, '6', 'skip: what is left is read');
like($warning, qr/goes on at offset 15 of partition 0 of topic "old"\nDETAIL:  Offsets \[10,15\) were not read \(retention\)/, 'and what is not told');
is(value_of('SELECT source, topic, partition, first_offset, next_offset, resumed_offset, reason FROM lakehouse.kafka_loss_status'),
	'skip|old|0|10|15|15|retention', 'and written down');
for my $policy (qw(stop wait))
{
	($rows, $warning) = run($policy);
	is($rows, '1', "$policy: the healthy partition goes on");
	like($warning, qr/stopped reading one partition\nDETAIL:  offsets \[10,15\) of partition 0 of topic "old" were lost/, 'the other is told');
}
is(state_of('stop'), 'old0 stopped 10 55000 offsets [10,15) of partition 0 of topic "old" were lost: '
	  . 'the broker dropped them before they were read; old1 active 1', 'stop: it is shown');
like(state_of('wait'), qr/^old0 waiting 10 55000/, 'wait: so it is');
value_of(q{SELECT lakehouse.seek_source('stop', '{"old": {"0": -2}}')});
is(run('stop'), '5', 'a person lets it go on');

# ------------------------------------------------- deleted, and created again
# from 2.3 on librdkafka tells the ids of topics, which say it at once
my $told = system('pkg-config', '--atleast-version=2.3.0', 'rdkafka') == 0;
my $other_id = qr/partition 0 of topic "gone" cannot be read on: the topic was created again, its id is \S{22} and was \S{22};/;
$kafka->create('gone', 1, @kept);
$kafka->produce(records('gone', 0 .. 9));
for my $policy (qw(stop skip wait))
{
	make_source("gone_$policy", qq{topics => '{gone,old}', options => '{"on_data_loss": "$policy", "starting_offsets": {"old": {"0": -1, "1": -1}}}'});
	is(run("gone_$policy"), '10', "$policy: before the topic is deleted");
}
$kafka->delete_topic('gone');
$kafka->produce(records('old', 30));
($rows, $warning) = run('gone_stop');
is($rows, '1', 'the other topic goes on');
like($warning, qr/topic "gone": .*[Uu]nknown topic/, 'a deleted topic is told');
like(state_of('gone_stop'), qr/^gone0 stopped 10 42704/, 'and shown');
$kafka->create('gone', 1, @kept);
$kafka->produce(records('gone', 10 .. 12));
run("gone_$_") for qw(stop wait skip);
my $shorter = $told ? $other_id : qr/partition 0 of topic "gone" ends at offset 3, before offset 10/;
like(state_of('gone_stop'), qr/^gone0 stopped 10 55000 $shorter/, 'stop: created again and shorter');
like(state_of('gone_wait'), qr/^gone0 waiting 10 55000/, 'wait: the same');
is(value_of(q{SELECT string_agg(value, ',' ORDER BY value) FROM bronze.gone_skip WHERE value > 'gone 10' AND topic = 'gone'}), 'gone 11,gone 12,gone 2,gone 3,gone 4,gone 5,gone 6,gone 7,gone 8,gone 9',
	'skip: the new topic is read from its beginning');
is(value_of(q{SELECT count(*) FROM bronze.gone_skip WHERE topic = 'gone'}), '13', 'all of it, once');
is(value_of(q{SELECT first_offset, next_offset, resumed_offset, reason FROM lakehouse.kafka_loss_status WHERE source = 'gone_skip'}), $told ? '0|0|0|recreated' : '3|10|0|shortened',
	'and what befell it is written down');
# it grows past the old position: what was stopped stays stopped
$kafka->produce(records('gone', 13 .. 30));
is(run('gone_stop'), '0', 'stop: not even when it has grown past the position');
is(run('gone_wait'), '0', 'wait: nor, for its last record is another one');
my $another = $told ? $other_id : qr/record 9 of partition 0 of topic "gone" is not the one that was loaded/;
like(state_of('gone_wait'), qr/^gone0 waiting 10 55000 $another/, 'which is told');
value_of(q{SELECT lakehouse.alter_source('gone_wait', options => '{"on_data_loss": "skip"}')});
is(run('gone_wait'), '21', 'with skip it is read from its beginning');
is(value_of(q{SELECT first_offset, next_offset, resumed_offset, reason FROM lakehouse.kafka_loss_status WHERE source = 'gone_wait'}), '0|0|0|recreated',
	'and that is written down');

is(value_of(q{SELECT string_agg(object, ', ') FROM lakehouse.verify() WHERE NOT ok}), '', 'verify finds all in order');

# a worker meets it all while it reads
$kafka->create('live', 2, @kept);
$kafka->produce(records('live', 0 .. 4));
make_source('live', q{options => '{"topic_pattern": "^live", "on_data_loss": "skip"}', trigger => 'continuous'});
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '5'), 'a worker reads');
$kafka->ask(do => 'partitions', topic => 'live', count => 3);
$kafka->produce({ topic => 'live', partition => 2, value => 'new' });
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '6'), 'a partition that is added is read from its beginning');
$kafka->delete_topic('live');
ok(poll_value($node, q{SELECT string_agg(DISTINCT sqlstate, ',') FROM lakehouse.kafka_status WHERE source = 'live'}, '42704'), 'a deleted topic is noticed');
$kafka->create('live', 2, @kept);
$kafka->produce(records('live', 20 .. 22));
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '9'), 'created again, it is read from its beginning');
is(value_of(q{SELECT count(*) FROM lakehouse.kafka_status WHERE source = 'live' AND partition = 0 AND sqlstate IS NULL}), '1', 'and is well');

# ------------------------------------------------------------ open transactions
$kafka->create('tx', 1, @kept);
make_source('tx', q{topics => '{tx}', trigger => 'continuous'});
$kafka->produce(records('tx', 0, 1));
ok(poll_value($node, 'SELECT count(*) FROM bronze.tx', '2'), 'before a transaction');
$kafka->begin('one');
$kafka->produce_in('one', map { { topic => 'tx', partition => 0, value => $_ } } 1 .. 3);
$kafka->produce(records('tx', 2));
ok(poll_value($node, q{SELECT position, end_offset, lag FROM lakehouse.kafka_status WHERE source = 'tx'}, '2|2|0'),
	'what an open transaction holds up is no lag');
$kafka->abort('one');
ok(poll_value($node, q{SELECT position, end_offset, open_transactions, lag FROM lakehouse.kafka_status WHERE source = 'tx'}, '7|7|0|0'),
	'its end is no lag either');
is(value_of('SELECT count(*) FROM bronze.tx'), '3', 'aborted records are not there');

$kafka->stop;
$node->stop;
done_testing();
