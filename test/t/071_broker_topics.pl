# A real Kafka broker: what happens to topics. Partitions that are added, topics
# that are deleted or made again, records that retention or compaction takes,
# large messages.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaCluster->new;
my $node = lakehouse_node('topics', conf => "lakehouse.kafka_refresh_interval = 300\n");

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

sub continuous { return value_of("SELECT lakehouse.alter_source('$_[0]', trigger => 'continuous')") }
sub by_hand { return value_of("SELECT lakehouse.alter_source('$_[0]', trigger => 'available_now')") }

# state_of gives why a partition is stopped.
sub state_of
{
	my ($source, $partition) = @_;
	return value_of("SELECT sqlstate || ' ' || error FROM lakehouse.kafka_status WHERE source = '$source' AND partition = $partition");
}

sub messages
{
	my ($topic, $partition, @values) = @_;
	return map { { topic => $topic, partition => $partition, key => 'k', value => $_ } } @values;
}

# becomes waits until a partition is stopped for a reason.
sub becomes
{
	my ($source, $partition, $reason, $name) = @_;
	my $state = '';
	ok(wait_until(sub { $state = state_of($source, $partition); return $state =~ $reason }, 60), $name)
	  or diag("it is: $state");
	return;
}

# begin_again empties the table and lets the source read what is there now.
sub begin_again
{
	my ($source, @partitions) = @_;
	my $to = join(', ', map { "\"$_\": -2" } @partitions);
	value_of("TRUNCATE bronze.$source");
	value_of("SELECT lakehouse.seek_source('$source', '{\"$source\": {$to}}')");
	return;
}

# ------------------------------------------------------------ added partitions
$kafka->create('grow', 1);
$kafka->produce(messages('grow', 0, 'before'));
$kafka->make_source($node, 'grow', options => '{"starting_offsets": "latest"}');
continuous('grow');
$kafka->produce(messages('grow', 0, 'first'));
ok(poll_value($node, 'SELECT count(*) FROM bronze.grow', 1), 'a worker reads a topic');
$kafka->ask(do => 'partitions', topic => 'grow', count => 4);
$kafka->produce(map { messages('grow', $_, "a$_", "b$_") } 0 .. 3);
ok($kafka->wait_caught_up($node, 'grow', ['grow']), 'partitions that are added while it runs are found');
is( value_of('SELECT string_agg(convert_from(value, $$UTF8$$), $$ $$ ORDER BY partition, "offset") FROM bronze.grow'),
	'first a0 b0 a1 b1 a2 b2 a3 b3', 'and read from their beginning, even though the start was "latest"');
by_hand('grow');
$kafka->ask(do => 'partitions', topic => 'grow', count => 5);
$kafka->produce(messages('grow', 4, 'c4'));
is(run('grow'), '1|0', 'a run finds added partitions too');
$kafka->consume($node, 'grow');
same_multiset($node, q{SELECT topic, partition, "offset", md5(value) FROM bronze.grow},
	q{SELECT topic, partition, "offset", value_hash FROM plain.record WHERE partition > 0 OR "offset" > 0}, 'grow: all but the record from before is what a plain consumer reads');

# ------------------------------------------------------------- topics made again
for my $how ('run', 'worker')
{
	for my $case ([ 'shorter', 3, qr/^55000 .*(ends at offset 3, before offset 6|created again)/ ], [ 'longer', 20, qr/^55000 .*created again/ ],
		[ 'as_long', 6, qr/^55000 .*created again/ ], [ 'deleted', 0, qr/^(42704|55000) / ])
	{
		my ($what, $count, $reason) = @$case;
		my $topic = "${what}_$how";
		$kafka->create($topic, 2);
		$kafka->produce(map { messages($topic, $_, 1 .. 6) } 0, 1);
		$kafka->make_source($node, $topic);
		is(run($topic), '12|0', "$topic: before");
		continuous($topic) if $how eq 'worker';
		worker_pid($node, $topic) if $how eq 'worker';
		my $began = time();
		$kafka->delete_topic($topic);
		if ($count > 0)
		{
			$kafka->create($topic, 2);
			$kafka->produce(map { messages($topic, $_, map { "new $_" } 1 .. $count) } 0, 1);
		}
		$node->psql('postgres', "SELECT lakehouse.run_source('$topic')") if $how eq 'run';
		becomes($topic, $_, $reason, "$topic: partition $_ stops") for 0, 1;
		cmp_ok(value_of("SELECT extract(epoch FROM max(since)) - $began FROM lakehouse.kafka_status WHERE source = '$topic'"),
			'<', $LakehouseTest::TOLD_LIMIT, "$topic: soon");
		is(value_of("SELECT count(*) FROM bronze.$topic WHERE value LIKE 'new%'"), '0', "$topic: nothing of the new topic is read");
		if ($count == 0)
		{
			$kafka->create($topic, 2);
			$kafka->produce(map { messages($topic, $_, 1 .. 9) } 0, 1);
			$node->psql('postgres', "SELECT lakehouse.run_source('$topic')") if $how eq 'run';
			becomes($topic, 0, qr/created again/, "$topic: made later, it stays stopped");
		}
		begin_again($topic, 0, 1);
		run($topic) if $how eq 'run';
		ok($kafka->wait_caught_up($node, $topic, [$topic]), "$topic: after seek_source the new topic is read");
		$kafka->check($node, $topic, "bronze.$topic", $topic);
		by_hand($topic);
	}
}

# Between two fetches: the worker has read ahead what it may and waits for a lock,
# so that no fetch is refused. What comes next are records of the new topic, at
# offsets that fit.
{
	my $big = 'x' x 100_000;
	$kafka->create('busy', 1);
	$kafka->produce(messages('busy', 0, map { "$_ $big" } 1 .. 5));
	$kafka->make_source($node, 'busy', options => '{"batch_rows": 3}');
	$node->safe_psql('postgres', "ALTER SYSTEM SET lakehouse.kafka_read_ahead = '1MB'; SELECT pg_reload_conf()");
	continuous('busy');
	ok(poll_value($node, 'SELECT count(*) FROM bronze.busy', 5), 'busy: before');
	my $blocker = $node->background_psql('postgres');
	$blocker->query_safe('BEGIN; LOCK TABLE bronze.busy IN ACCESS EXCLUSIVE MODE');
	$kafka->produce(messages('busy', 0, map { "$_ $big" } 6 .. 60));
	ok(poll_value($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%source%' AND wait_event_type = 'Lock'}, 1),
		'busy: the worker waits');
	sleep(1);    # librdkafka reads ahead what it may
	$kafka->delete_topic('busy');
	$kafka->create('busy', 1);
	$kafka->produce(messages('busy', 0, map { "new $_ $big" } 1 .. 90));
	$blocker->query_safe('COMMIT');
	$blocker->quit;
	becomes('busy', 0, qr/^55000 .*created again/, 'busy: the partition stops');
	is(value_of("SELECT count(*) FROM bronze.busy WHERE value LIKE 'new%'"), '0', 'busy: nothing of the new topic is read');
	value_of("SELECT lakehouse.drop_source('busy')");
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET lakehouse.kafka_read_ahead; SELECT pg_reload_conf()');
}

# A topic that equals the old one in its records: only its id tells, which
# librdkafka does not before 2.3.
{
	my $told = system('pkg-config', '--atleast-version=2.3.0', 'rdkafka') == 0;
	my $at = int(time() * 1000);
	my @records = map { { topic => 'equal', partition => 0, key => 'k', value => $_, timestamp => $at } } 1 .. 6;
	$kafka->create('equal', 1);
	$kafka->produce(@records);
	$kafka->make_source($node, 'equal');
	is(run('equal'), '6|0', 'equal: before');
	my $id = value_of(q{SELECT topic_id FROM lakehouse.kafka_offset WHERE topic = 'equal'});
	like($id, $told ? qr/^[-_A-Za-z0-9+\/]{22}$/ : qr/^$/, 'equal: the id of the topic is kept where librdkafka tells it');
	# a position of an older version has none
	value_of(q{UPDATE lakehouse.kafka_offset SET topic_id = NULL, last_epoch = NULL WHERE topic = 'equal'});
	is(run('equal'), '0|0', 'equal: without an id nothing is compared');
	is(value_of(q{SELECT topic_id FROM lakehouse.kafka_offset WHERE topic = 'equal'}), $id, 'equal: it is learned again');
	$kafka->delete_topic('equal');
	$kafka->create('equal', 1);
	$kafka->produce(@records);
	$node->psql('postgres', q{SELECT lakehouse.run_source('equal')});
	like(state_of('equal', 0), $told ? qr/^55000 .*created again, its id is .* and was \Q$id\E/ : qr/^$/, 'equal: another id is another topic');
	begin_again('equal', 0);
	is(run('equal'), '6|0', 'equal: after seek_source it is read');
}

# fewer partitions than before
$kafka->create('narrow', 3);
$kafka->produce(map { messages('narrow', $_, 'x') } 0 .. 2);
$kafka->make_source($node, 'narrow');
is(run('narrow'), '3|0', 'narrow: before');
$kafka->delete_topic('narrow');
$kafka->create('narrow', 1);
$node->psql('postgres', "SELECT lakehouse.run_source('narrow')");
like(state_of('narrow', 2), qr/^42704 partition 2 of topic "narrow" does not exist any more/, 'narrow: a partition that is gone stops');

# ------------------------------------------------------------------- retention
for my $how ('run', 'worker')
{
	my $topic = "retained_$how";
	$kafka->create($topic, 2);
	$kafka->produce(map { messages($topic, $_, 1 .. 5) } 0, 1);
	$kafka->make_source($node, $topic);
	is(run($topic), '10|0', "$topic: before");
	$kafka->produce(map { messages($topic, $_, 6 .. 10) } 0, 1);
	$kafka->ask(do => 'delete_records', topic => $topic, before => { 0 => 8, 1 => 5 });
	if ($how eq 'run')
	{
		$node->psql('postgres', "SELECT lakehouse.run_source('$topic')");
	}
	else
	{
		continuous($topic);
	}
	becomes($topic, 0, qr/^55000 offsets \[5,8\) of partition 0 of topic "$topic" were lost/,
		"$topic: lost records stop the partition, with their range");
	ok(poll_value($node, "SELECT count(*) FROM bronze.$topic WHERE partition = 1", 10), "$topic: the other one loses nothing and goes on");
	is(value_of("SELECT count(*) FROM bronze.$topic WHERE partition = 0"), '5', "$topic: nothing is skipped");
	value_of("SELECT lakehouse.seek_source('$topic', '{\"$topic\": {\"0\": -2}}')");
	run($topic) if $how eq 'run';
	ok(poll_value($node, "SELECT string_agg(\"offset\"::text, ',' ORDER BY \"offset\") FROM bronze.$topic WHERE partition = 0", '0,1,2,3,4,8,9'),
		"$topic: after seek_source what is left is read");
	by_hand($topic);
	# what was read before it was dropped is there, what nobody had read is not
	$kafka->consume($node, $topic);
	same_multiset($node, "SELECT topic, partition, \"offset\", md5(value) FROM bronze.$topic",
		"SELECT topic, partition, \"offset\", value_hash FROM plain.record UNION ALL SELECT '$topic', p, o, md5((o + 1)::text) FROM generate_series(0, 1) p, generate_series(0, 4) o",
		"$topic: bronze is what a plain consumer reads, and what it had read before");
}

# ------------------------------------------------------------------ compaction
$kafka->create('compact', 1, config => {
	'cleanup.policy' => 'compact', 'min.cleanable.dirty.ratio' => '0.001', 'segment.ms' => 200, 'delete.retention.ms' => 0,
	'max.compaction.lag.ms' => 200 });
$kafka->make_source($node, 'compact');
$kafka->produce(map { { topic => 'compact', partition => 0, key => "k" . $_ % 7, value => "v$_" } } 0 .. 99);
$kafka->begin('compactor');
$kafka->produce_in('compactor', { topic => 'compact', partition => 0, key => 'k1', value => 'aborted' });
$kafka->abort('compactor');
$kafka->produce({ topic => 'compact', partition => 0, key => 'k2', value => undef });
ok( wait_until(
		sub {
			# a record makes the broker begin a new segment, the old one can be cleaned then
			$kafka->produce({ topic => 'compact', partition => 0, key => 'roll', value => 'x' });
			$kafka->consume($node, 'compact');
			return value_of('SELECT max("offset") + 1 - count(*) > 80 FROM plain.record') eq 't';
		},
		120), 'the broker compacts');
# nothing more is to be taken while it is compared
$kafka->ask(do => 'config', topic => 'compact', set => { 'cleanup.policy' => 'delete', 'retention.ms' => -1 });
run('compact');
ok($kafka->wait_caught_up($node, 'compact', ['compact']), 'gaps of compaction are no lost records');
is(state_of('compact', 0), '', 'and no error');
is(value_of(q{SELECT error IS NULL AND position > rows + 80 FROM lakehouse.kafka_status WHERE source = 'compact'}), 't',
	'the position is that of the log');
is(value_of('SELECT count(*) FROM bronze.compact WHERE value = $$aborted$$'), '0', 'nothing aborted');
$kafka->check($node, 'compact', 'bronze.compact', 'compact');

$kafka->stop;
$node->stop;
done_testing();
