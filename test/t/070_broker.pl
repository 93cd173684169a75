# A real Kafka broker: transactions, what a message can be, compression, and
# positions behind control records.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaCluster->new;
my $seed = seed();
my $node = lakehouse_node('broker');

$kafka->make_server($node, 'events');

sub value_of
{
	return $node->safe_psql('postgres', $_[0]);
}

# run gives rows and rejected of one run_source.
sub run
{
	my ($name) = @_;
	return value_of("SELECT rows, rejected FROM lakehouse.run_source('$name')");
}

sub status_of
{
	my ($source) = @_;
	return value_of("SELECT string_agg(partition || ':' || position || '/' || end_offset || ' lag ' || lag, ', ' ORDER BY partition)"
		  . " FROM lakehouse.kafka_status WHERE source = '$source'");
}

# ------------------------------------------------------------ what a message is
# the times below are older than what a topic keeps by default
my %keep = (config => { 'retention.ms' => -1 });
$kafka->create('plain', 2, %keep);
$kafka->produce(
	{ topic => 'plain', partition => 0, key => 'k', value => 'v', timestamp => 1400000000123 },
	{ topic => 'plain', partition => 1, key => undef, value => undef },
	{ topic => 'plain', partition => 1, key => '', value => '' },
	{ topic => 'plain', partition => 0, key => 'h', value_hex => '00ff',
		headers => [ { key => 'a', value => '1' }, { key => 'a', value => undef }, { key => 'b', value_hex => 'ff' } ] });
$kafka->make_source($node, 'plain');
is(run('plain'), '4|0', 'messages of a real broker are read');
same_multiset(
	$node,
	'SELECT partition, "offset", key, value, headers FROM bronze.plain',
	q{VALUES (0, 0::bigint, 'k', 'v'::bytea, NULL::jsonb), (1, 0, NULL, NULL, NULL), (1, 1, '', ''::bytea, NULL),
		(0, 1, 'h', '\x00ff'::bytea, '[{"key": "a", "value": "1"}, {"key": "a", "value": null}, {"key": "b", "value_base64": "/w=="}]')},
	'null and empty differ, headers keep order and repetition');
$kafka->check($node, 'plain', 'bronze.plain', 'plain');

# ------------------------------------------------------------------------ times
# where reading starts and ends by time, in each form that the options have
$kafka->create('moments', 2, %keep);
$kafka->produce(map { { topic => 'moments', partition => 0, key => 'k', value => $_, timestamp => 1400000000000 + 1000 * $_ } } 0 .. 9);
value_of('CREATE TABLE bronze.moments (value text, "partition" integer, "offset" bigint)');
for my $case (
	[ '"starting_timestamp": 1400000004000', '4 5 6 7 8 9' ],
	[ '"startingTimestamp": "1400000004000", "startingOffsets": "latest"', '4 5 6 7 8 9' ],
	[ '"starting_timestamp": "2014-05-13 16:53:24.5+00"', '5 6 7 8 9' ],
	[ '"startingOffsetsByTimestamp": "{\\"moments\\": {\\"0\\": 1400000006000}}"', '6 7 8 9' ],
	[ '"starting_offsets_by_timestamp": {"moments": {"0": "2014-05-13 16:53:27+00"}}', '7 8 9' ],
	[ '"starting_offsets": "2014-05-13 16:53:29+00"', '9' ],
	[ '"starting_timestamp": "2100-01-01 00:00:00+00"', '' ],
	[ '"ending_timestamp": 1400000003000', '0 1 2' ],
	[ '"endingOffsetsByTimestamp": {"moments": {"0": "2014-05-13 16:53:22+00"}}, "starting_offsets": {"moments": {"0": 1}}', '1' ])
{
	my ($options, $expected) = @$case;
	value_of("TRUNCATE bronze.moments; SELECT lakehouse.create_source('moments', server => 'events', target => 'bronze.moments', topics => '{moments}', options => '{$options}')");
	run('moments');
	is(value_of(q{SELECT string_agg(value, ' ' ORDER BY "offset") FROM bronze.moments}), $expected, "times: $options");
	value_of(q{SELECT lakehouse.drop_source('moments')});
}

# ----------------------------------------------------------------------- replay
# what a table did not take, as bytes, from a real broker and back
$kafka->create('again', 1, %keep);
$kafka->produce(
	{ topic => 'again', partition => 0, key => 'k', value => 'v', timestamp => 1400000000123 },
	{ topic => 'again', partition => 0, key => undef, value => undef, timestamp => 1400000000124 },
	{ topic => 'again', partition => 0, key => '', value => '', timestamp => 1400000000125 },
	{ topic => 'again', partition => 0, key => 'h', value_hex => '00ff', timestamp => 1400000000126,
		headers => [ { key => 'a', value => '1' }, { key => 'a', value => undef }, { key => 'b', value_hex => 'ff' } ] });
$kafka->make_source($node, 'again');
value_of('ALTER TABLE bronze.again ADD CONSTRAINT never CHECK (false)');
is(run('again'), '0|4', 'a table that takes no message');
value_of('ALTER TABLE bronze.again DROP CONSTRAINT never');
is(value_of(q{SELECT * FROM lakehouse.replay_rejects('again')}), '4|0|0|1', 'takes them later');
same_multiset(
	$node,
	'SELECT "offset", key, value, headers FROM bronze.again',
	q{VALUES (0::bigint, 'k', 'v'::bytea, NULL::jsonb), (1, NULL, NULL, NULL), (2, '', ''::bytea, NULL),
		(3, 'h', '\x00ff'::bytea, '[{"key": "a", "value": "1"}, {"key": "a", "value": null}, {"key": "b", "value_base64": "/w=="}]')},
	'as they were sent');
value_of(q{DELETE FROM lakehouse.reject WHERE topic = 'again'});
$kafka->check($node, 'again', 'bronze.again', 'again');

# ------------------------------------------------------------------ transactions
$kafka->create('tx', 1);
$kafka->make_source($node, 'tx');
sub tx { return map { { topic => 'tx', partition => 0, key => 'k', value => $_ } } @_ }

$kafka->begin($_) for qw(one two);
$kafka->produce_in('one', tx('one 1'));
$kafka->produce_in('two', tx('two 1'));
is(run('tx'), '0|0', 'nothing of an open transaction is read');
like(status_of('tx'), qr/^0:0\//, 'and the position stays before it');
$kafka->produce_in('one', tx('one 2'));
$kafka->commit('one');
is(run('tx'), '1|0', 'a committed transaction is read as far as no open one is before');
$kafka->produce(tx('outside'));
$kafka->abort('two');
is(run('tx'), '2|0', 'the rest when that was aborted');
is(value_of('SELECT string_agg(convert_from(value, $$UTF8$$), $$, $$ ORDER BY "offset") FROM bronze.tx'),
	'one 1, one 2, outside', 'an aborted record never is');
is(status_of('tx'), '0:6/6 lag 0', 'the position is behind the control record at the end');
$kafka->begin('two');
$kafka->produce_in('two', tx('two 2', 'two 3'));
$kafka->abort('two');
is(run('tx'), '0|0', 'only aborted records: nothing');
is(status_of('tx'), '0:9/9 lag 0', 'but the position moves on');
$kafka->check($node, 'tx', 'bronze.tx', 'tx');

# the next retention takes control records only: no loss
$kafka->ask(do => 'delete_records', topic => 'tx', before => { 0 => 9 });
$kafka->produce(tx('after'));
is(run('tx'), '1|0', 'control records that retention took are no lost records');

# random producers, several at once, read while they write
$kafka->create('random', 3);
$kafka->make_source($node, 'random',
	columns => 'topic text, partition integer, "offset" bigint, key text, value text, "timestamp" timestamptz, headers jsonb');
$kafka->ask(do => 'traffic', topic => 'random', partitions => 3, seed => $seed, rounds => 300, job => 'traffic');
value_of("SELECT lakehouse.run_source('random')") for 1 .. 5;
my $sent = $kafka->ask(do => 'wait', job => 'traffic');
note("traffic: $sent->{sent} sent, $sent->{committed} transactions committed, $sent->{aborted} aborted");
value_of("SELECT lakehouse.run_source('random')");
ok($kafka->caught_up($node, 'random', 'random'), 'the positions are the ends of the partitions');
$kafka->check($node, 'random', 'bronze.random', 'random');
cmp_ok(value_of("SELECT count(*) FROM lakehouse.reject WHERE topic = 'random'"), '>', 0, 'some were no text');

# ---------------------------------------------------------------------- codecs
$kafka->create('codec', 1, config => { 'max.message.bytes' => 20_000_000 });
$kafka->make_source($node, 'codec');
for my $codec (qw(none gzip snappy lz4 zstd))
{
	my @messages = map { { topic => 'codec', partition => 0, key => $codec, size => $_, seed => $_ } } 1, 10, 1000, 100_000, 1_500_000;
	$kafka->ask(do => 'produce', messages => \@messages,
		config => { 'compression.type' => $codec, 'linger.ms' => 100, 'batch.size' => 4_000_000 });
}
is(run('codec'), '25|0', 'all codecs');
$kafka->check($node, 'codec', 'bronze.codec', 'codec');

$kafka->stop;
$node->stop;
done_testing();
