# What a Kafka source reads, from where to where, what it does when records are
# lost, and how several workers share it.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $node = lakehouse_node('kafka');
my $broker = start_broker('shop.a:2,shop.b:1,other:1,parts:4,times:2,end:2,skip:2,wait:1,group:2,many:12,few:2');
my $columns = 'value text, topic text, partition integer, "offset" bigint';

$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka
	OPTIONS ("bootstrap.servers" '$broker->{servers}', "fetch.wait.max.ms" '20');
CREATE SCHEMA bronze;
END

# make_source makes table bronze.NAME and a source of that name; $more are
# further arguments of create_source.
sub make_source
{
	my ($name, $more) = @_;
	return $node->psql('postgres', "CREATE TABLE IF NOT EXISTS bronze.$name ($columns);"
		  . "SELECT lakehouse.create_source('$name', server => 'events', target => 'bronze.$name', $more)");
}

sub produce
{
	broker_command($broker, "produce $_") for @_;
	return;
}

sub value_of
{
	return $node->safe_psql('postgres', $_[0]);
}

sub run
{
	my ($name) = @_;
	return value_of("SELECT rows FROM lakehouse.run_source('$name')");
}

# refused checks the error that a statement raises.
sub refused
{
	my ($statement, $pattern, $what) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
	like($err, $pattern, $what);
	return;
}

sub refused_source
{
	my ($more, $pattern, $what) = @_;
	refused("SELECT lakehouse.create_source('x', server => 'events', target => 'bronze.pattern', $more)", $pattern, $what);
	return;
}

# -------------------------------------------------------------------- pattern
produce('{"topic": "shop.a", "partition": 1, "value": "a1"}', '{"topic": "shop.b", "value": "b1"}',
	'{"topic": "other", "value": "o1"}');
my ($status, $out, $err) = make_source('pattern', q{options => '{"subscribePattern": "^shop\\\\."}'});
is($status, 0, 'a pattern instead of topics') or diag($err);
is(value_of(q{SELECT options ->> 'topic_pattern' FROM lakehouse.source WHERE name = 'pattern'}), '^shop\.',
	'is stored under its own name');
is(run('pattern'), '2', 'reads the topics that match');
broker_command($broker, 'topic shop.late:2');
broker_command($broker, 'topic another:1');
produce('{"topic": "shop.late", "partition": 0, "value": "l1"}', '{"topic": "shop.late", "partition": 1, "value": "l2"}',
	'{"topic": "another", "value": "n"}');
is(run('pattern'), '2', 'a topic that comes later is read from its beginning');
is(value_of('SELECT string_agg(value, $$,$$ ORDER BY value) FROM bronze.pattern'), 'a1,b1,l1,l2', 'no other is read');
produce('{"topic": "shop.late", "partition": 1, "value": "l3"}', '{"topic": "other", "value": "o2"}');
value_of(q{SELECT lakehouse.alter_source('pattern', options => '{"topic_pattern": "^other$"}')});
is(run('pattern'), '2', 'another pattern: its topics from their beginning');
is(value_of(q{SELECT string_agg(DISTINCT topic, ',') FROM lakehouse.kafka_status WHERE source = 'pattern'}), 'other',
	'the others have no position any more');
value_of(q{SELECT lakehouse.alter_source('pattern', topics => '{other}', options => '{}')});
is(run('pattern'), '0', 'a topic by name keeps the position that it had');
value_of(q{SELECT lakehouse.alter_source('pattern', topics => '{}', options => '{"topic_pattern": "^nothing"}')});
is(run('pattern'), '0', 'a pattern that nothing matches is no error');

# a continuous source finds a new topic by itself
$node->safe_psql('postgres', 'ALTER SYSTEM SET lakehouse.kafka_refresh_interval = 300; SELECT pg_reload_conf()');
make_source('finds', q{options => '{"topic_pattern": "^found"}', trigger => 'continuous'});
broker_command($broker, 'topic found.1:1');
produce('{"topic": "found.1", "value": "f1"}');
ok(poll_value($node, 'SELECT string_agg(value, $$,$$) FROM bronze.finds', 'f1'), 'a worker finds a new topic');
value_of(q{SELECT lakehouse.drop_source('finds')});

# ----------------------------------------------------------------- partitions
produce(map { qq({"topic": "parts", "partition": $_, "value": "p$_"}) } 0 .. 3);
($status, $out, $err) = make_source('parts', q{options => '{"assign": {"parts": [2, 0]}}'});
is($status, 0, 'explicit partitions') or diag($err);
is(run('parts'), '2', 'only these are read');
is(value_of('SELECT string_agg(value, $$,$$ ORDER BY value) FROM bronze.parts'), 'p0,p2', 'namely');
value_of(q{SELECT lakehouse.alter_source('parts', options => '{"partitions": {"parts": [0, 3]}}')});
is(run('parts'), '1', 'another assignment reads what is new in it');

refused_source(q{options => '{"partitions": {"parts": [4]}}'}, qr/ERROR:  42704: topic "parts" has no partition 4\n.*from 0 on/,
	'a partition that is not there');
refused_source(q{options => '{"partitions": {"parts": [1, 1]}}'}, qr/22023: .*names partition 1 of topic "parts" twice/, 'a partition twice');
refused_source(qq{options => '{"partitions": $_}'}, qr/22023: option "partitions" must give numbers .*\nHINT:  For example/, "partitions $_")
  for '{}', '[]', '{"parts": []}', '{"parts": 1}', '{"parts": ["0"]}', '{"parts": [-1]}', '{"parts": [0.5]}', '{"parts": [3000000000]}';
refused_source(q{topics => '{other}', options => '{"topic_pattern": "x"}'}, qr/22023: a Kafka source has only one of topics/, 'two ways at once');
refused_source(q{options => '{"topic_pattern": "x", "partitions": {"parts": [0]}}'}, qr/22023: .*only one of/, 'two other ways at once');
refused_source(q{options => '{}'}, qr/22023: a Kafka source needs topics\n.*HINT:  Give topics/, 'none of them');
refused_source(q{options => '{"topic_pattern": "("}'}, qr/2201B: /, 'no regular expression');
refused_source(q{topics => '{other,other}'}, qr/22023: topic "other" is named twice/, 'a topic twice');
refused_source(q{topics => '{other}', options => '{"onDataLoss": "skp"}'}, qr/22023: .*"skp".*\n.*Did you mean "skip"/, 'a policy that is none');
refused_source(q{topics => '{other}', options => '{"failOnDataLoss": false}'}, qr/22023: .*\n.*HINT:  Use \{"on_data_loss"/, 'the name that others use');
refused_source(q{topics => '{other}', options => '{"on_dataloss": "stop", "onDataLoss": "stop"}'}, qr/22023: options .* mean the same/, 'an option twice');
refused_source(q{topics => '{other}', options => '{"workers": 65}'}, qr/22023: .*"workers"/, 'too many workers');
refused_source(q{topics => '{other}', options => '{"publish_group": "a\nb"}'}, qr/22023: .*"publish_group"/, 'a group with a control character');

# ------------------------------------------------------------- start and end
my $base = 1400000000000;
produce(map { qq({"topic": "times", "partition": 0, "value": "$_", "timestamp": @{[$base + $_ * 1000]}}) } 0 .. 9);

sub starts
{
	my ($options, $expected, $what) = @_;
	make_source('starts', "topics => '{times}', options => '$options'");
	run('starts');
	is(value_of('SELECT coalesce(min(value), $$none$$) FROM bronze.starts'), $expected, $what);
	value_of(q{SELECT lakehouse.drop_source('starts'); DROP TABLE bronze.starts});
	return;
}
starts('{"starting_offsets": {"times": {"0": 7, "1": -1}}}', '7', 'offsets');
starts('{"starting_timestamp": "2100-01-01 00:00:00+00"}', 'none', 'a time behind the last record is the end');
my $strict = '"startingOffsetsByTimestampStrategy": "error"';
refused_source(qq{topics => '{times}', options => '{"starting_timestamp": "2100-01-01 00:00:00+00", $strict}'},
	qr/22023: partition 0 of topic "times" has no record at or after the starting time\n.*HINT/, 'or an error, if asked for');
refused_source(q{topics => '{times}', options => '{"starting_timestamp": "soon"}'}, qr/22007: /, 'no time');
refused_source(q{topics => '{times}', options => '{"starting_timestamp": "infinity"}'}, qr/22023: .*needs a finite time/, 'no finite time');
refused_source(q{topics => '{times}', options => '{"starting_offsets": {"other": {"0": 1}}}'}, qr/22023: .*names topic "other", which the source does not read/,
	'a start for a topic that is not read');
refused_source(q{options => '{"partitions": {"times": [0]}, "starting_offsets": {"times": {"1": 1}}}'},
	qr/22023: .*names partition 1 of topic "times", which the source does not read/, 'a start for a partition that is not read');

make_source('notice', q{topics => '{times}', options => '{"starting_offsets": "latest"}'});
($status, $out, $err) = $node->psql('postgres', q{SELECT lakehouse.alter_source('notice', options => '{"starting_offsets": "earliest"}')});
like($err, qr/NOTICE:  option "starting_offsets" of source "notice" moves no partition that has a position\nHINT:  .*seek_source/,
	'a later change of the start moves nothing, and says so');
is(run('notice'), '0', 'indeed');
($status, $out, $err) = $node->psql('postgres', q{SELECT lakehouse.alter_source('notice', options => '{"starting_offsets": "earliest", "linger_ms": 5}')});
is($err, '', 'no notice where the start stays');

produce(map { qq({"topic": "end", "partition": @{[$_ % 2]}, "value": "$_", "timestamp": @{[$base + $_ * 1000]}}) } 0 .. 19);
make_source('end_at', q{topics => '{end}', options => '{"endingOffsets": {"end": {"0": 4}}}'});
is(run('end_at'), '14', 'a run ends at the offset that is given; other partitions at their end');
is(value_of('SELECT max("offset") FROM bronze.end_at WHERE partition = 0'), '3', 'which is not read any more');
produce('{"topic": "end", "partition": 0, "value": "20"}', '{"topic": "end", "partition": 1, "value": "21"}');
is(run('end_at'), '1', 'nor by a later run');
value_of(q{SELECT lakehouse.alter_source('end_at', options => '{}')});
is(run('end_at'), '7', 'without an end all is read');
is(value_of('SELECT count(*) || $$ $$ || count(DISTINCT value) FROM bronze.end_at'), '22 22', 'each record once');
refused(q{SELECT lakehouse.alter_source('end_at', options => '{"ending_offsets": "latest"}', trigger => 'continuous')},
	qr/22023: a continuous source has no end\n/, 'a continuous source has no end');
refused_source(q{topics => '{end}', options => '{"ending_offsets": "earliest"}'}, qr/22023: .*"earliest".*\n/, 'earliest is no end');
refused_source(q{topics => '{end}', options => '{"ending_offsets": {"end": {"0": -2}}}'}, qr/22023: .*has no offset for partition 0/, 'nor is -2');

# ------------------------------------------------- options as others write them
starts('{"startingOffsets": "{\\"times\\": {\\"0\\": 7, \\"1\\": -1}}"}', '7', 'offsets as text');
# which record is the first of a time only a real broker tells
make_source('starts', q{topics => '{times}', options => '{"startingTimestamp": "1400000005000", "startingOffsetsByTimestamp": " {\"times\": {\"0\": 1400000006000}}"}'});
is(value_of(q{SELECT options FROM lakehouse.source WHERE name = 'starts'}),
	'{"starting_timestamp": "1400000005000", "starting_offsets_by_timestamp": {"times": {"0": 1400000006000}}}', 'times of partitions, and milliseconds, as text');
value_of(q{SELECT lakehouse.drop_source('starts')});
make_source('starts', q{options => '{"assign": "{\"times\": [0]}", "maxOffsetsPerTrigger": "100"}'});
is(value_of(q{SELECT options FROM lakehouse.source WHERE name = 'starts'}), '{"batch_rows": "100", "partitions": {"times": [0]}}', 'partitions as text');
refused_source(q{options => '{"assign": "{times: [0]}"}'}, qr/22P02: .*CONTEXT:.*option "partitions" of a Kafka source/s, 'text that is no JSON');
for my $case (
	[ 'failOnDataLoss', 'false', 'on_data_loss' ], [ 'subscribe', '"times"', 'topics =>' ], [ 'includeHeaders', 'true', 'column "headers"' ],
	[ 'minPartitions', '4', '"workers"' ], [ 'maxRecordsPerPartition', '4', '"workers"' ], [ 'groupIdPrefix', '"x"', '"publish_group"' ],
	[ 'kafka.security.protocol', '"SSL"', 'ALTER SERVER' ], [ 'kafka.auto.offset.reset', '"latest"', 'ALTER SERVER' ],
	[ 'kafkaConsumer.pollTimeoutMs', '5', 'properties of the server' ], [ 'fetchOffset.numRetries', '5', 'properties of the server' ])
{
	my ($option, $value, $hint) = @$case;
	refused_source(qq{topics => '{times}', options => '{"$option": $value}'}, qr/22023: unrecognized option of a Kafka source "\Q$option\E"\n.*HINT:  .*\Q$hint\E/,
		"$option is refused with the way that there is");
}
for my $case ([ 'sasl.jaas.config', 'user mapping' ], [ 'ssl.truststore.location', '"\.pem"' ], [ 'value.deserializer', 'columns of the target' ],
	[ 'interceptor.classes', 'load code' ])
{
	refused(qq{CREATE SERVER x FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" 'a:1', "$case->[0]" 'x')},
		qr/property "\Q$case->[0]\E" is not permitted\nDETAIL:  .*$case->[1]/, "a server: $case->[0]");
}

# --------------------------------------------------- batches of a least size
refused_source(q{topics => '{few}', options => '{"max_batch_delay": 5}'}, qr/22023: .*needs option "min_batch_rows"/, 'a delay without a minimum');
refused_source(q{topics => '{few}', options => '{"min_batch_rows": 5, "max_batch_delay": "2 days"}'}, qr/22023: .*out of range\n/, 'a delay that is too long');
refused_source(q{topics => '{few}', options => '{"min_batch_rows": 0}'}, qr/22023: .*min_batch_rows/, 'no minimum');
produce('{"topic": "few", "value": "1"}');
make_source('few', q{topics => '{few}', trigger => 'continuous', options => '{"minOffsetsPerTrigger": 10, "maxTriggerDelay": "15m"}'});
ok(poll_value($node, 'SELECT count(*) FROM bronze.few', '1'), 'the first batch of a worker does not wait');
produce(map { qq({"topic": "few", "partition": @{[$_ % 2]}, "value": "$_"}) } 2 .. 10);
is(value_of(q{SELECT pg_sleep(1); SELECT count(*) FROM bronze.few}) =~ s/\n//r, '1', 'a few records wait');
produce('{"topic": "few", "value": "11"}');
ok(poll_value($node, 'SELECT count(*) FROM bronze.few', '11'), 'until there are enough');
is(value_of(q{SELECT string_agg(rows::text, ' ' ORDER BY load_id) FROM lakehouse.load_status WHERE source = 'few' AND rows > 0}), '1 10', 'all in one load');
value_of(q{SELECT lakehouse.alter_source('few', options => '{"min_batch_rows": 10, "max_batch_delay": "300ms"}')});
for my $n (12 .. 14)
{
	produce(qq({"topic": "few", "value": "$n"}));
	ok(poll_value($node, 'SELECT count(*) FROM bronze.few', $n), 'or have waited long enough');
}
value_of(q{SELECT lakehouse.alter_source('few', trigger => 'available_now', options => '{"min_batch_rows": 10}')});
produce('{"topic": "few", "value": "15"}');
is(run('few'), '1', 'a run takes what is there');

# ------------------------------------------------------------------ data loss
make_source('skip', q{topics => '{skip}', options => '{"on_data_loss": "skip"}'});
make_source('stop', q{topics => '{skip}', options => '{"on_data_loss": "stop"}'});
make_source('waits', q{topics => '{skip}', options => '{"on_data_loss": "wait"}'});
produce('{"topic": "skip", "partition": 0, "value": "first"}', '{"topic": "skip", "partition": 1, "value": "other"}');
run($_) for qw(skip stop waits);
broker_command($broker, 'fill skip 1 20000 500');
($status, $out, $err) = $node->psql('postgres', "SELECT rows > 1000 FROM lakehouse.run_source('skip')");
is($out, 't', 'skip: reading goes on at the oldest record that is left');
like($err, qr/WARNING:  source "skip" goes on at offset \d+ of partition 0 of topic "skip"\nDETAIL:  Offsets \[1,\d+\) were not read \(retention\)/,
	'the lost range is told');
is( value_of(q{SELECT l.topic || l.partition || ' ' || l.first_offset || ' ' || l.reason || ' ' || (l.next_offset = l.resumed_offset)
	|| ' ' || (l.next_offset = (SELECT min("offset") FROM bronze.skip WHERE "offset" > 0 AND partition = 0))
	FROM lakehouse.kafka_loss_status l WHERE source = 'skip'}),
	'skip0 1 retention true true', 'and kept as a row that fits what was read');
is(value_of(q{SELECT string_agg(state || lag, ' ' ORDER BY partition) FROM lakehouse.kafka_status WHERE source = 'skip'}),
	'active0 active0', 'nothing is stopped');
my $rolled_back = value_of(q{SELECT lakehouse.seek_source('skip', '{"skip": {"0": -2}}');
	UPDATE lakehouse.kafka_offset SET next_offset = 2 WHERE topic = 'skip' AND partition = 0
	 AND source_id = (SELECT source_id FROM lakehouse.source WHERE name = 'skip');
	BEGIN; SELECT rows > 0 FROM lakehouse.run_source('skip'); ROLLBACK;
	SELECT count(*) FROM lakehouse.kafka_loss});
is($rolled_back, "\nt\n1", 'the row commits and rolls back with the rows');
refused(q{SELECT lakehouse.seek_source('skip', '{"skip": {"0": -2, "9": 1}}')},
	qr/42704: topic "skip" has no partition 9\n.*reads 2 partitions/s, 'a position for a partition that is not there is refused');

for my $policy (qw(stop waits))
{
	($status, $out, $err) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('$policy')");
	is($out, '0', "$policy: nothing is read past the loss");
	like($err, qr/WARNING:  source "$policy" stopped reading one partition/, 'that is told');
}
is(value_of(q{SELECT string_agg(source || ' ' || state || ' ' || sqlstate || ' ' || (since IS NOT NULL) || ' ' || position, ', ' ORDER BY source)
	FROM lakehouse.kafka_status WHERE sqlstate IS NOT NULL}),
	'stop stopped 55000 true 1, waits waiting 55000 true 1', 'and shown');
like(value_of(q{SELECT state || ' ' || stopped_partitions || ' ' || reason FROM lakehouse.source_status WHERE name = 'stop'}),
	qr/^stopped 1 offsets \[1,/, 'source_status has the reason');
my $low = value_of(q{SELECT low_offset FROM lakehouse.kafka_status WHERE source = 'stop' AND partition = 0});
value_of(qq{UPDATE lakehouse.kafka_offset SET next_offset = $low WHERE topic = 'skip' AND partition = 0
	AND source_id IN (SELECT source_id FROM lakehouse.source WHERE name IN ('stop', 'waits'))});
is(run('stop'), '0', 'stop: not even when the records are there again');
cmp_ok(run('waits'), '>', 1000, 'wait: it goes on by itself');
is(value_of(q{SELECT coalesce(error, 'none') FROM lakehouse.kafka_status WHERE source = 'waits' AND partition = 0}), 'none', 'and is well');
value_of(q{SELECT lakehouse.alter_source('stop', options => '{"on_data_loss": "skip"}')});
cmp_ok(run('stop'), '>', 1000, 'another policy is heeded at once');

# -------------------------------------------------------------------- workers
sub worker_count
{
	my ($name) = @_;
	return "SELECT count(*) FROM lakehouse.worker_status WHERE object = '$name' AND state <> 'starting'";
}
my $sent = {};
value_of('CREATE TABLE bronze.message (partition integer, "offset" bigint, key text, value text)');
make_source('message', q{topics => '{many}', options => '{"workers": 3, "linger_ms": 1, "batch_rows": 200}'});
produce_messages($broker, 'many', 12, 3000, $sent)->();
value_of(q{SELECT lakehouse.alter_source('message', trigger => 'continuous')});
ok(poll_value($node, worker_count('message'), '3'), 'three workers read one source');
my $all = 'SELECT count(*) + (SELECT count(*) FROM lakehouse.reject WHERE topic = $$many$$) FROM bronze.message';
ok(poll_value($node, $all, '3000'), 'what was there');
for my $round (1 .. 4)
{
	my $done = produce_messages($broker, 'many', 12, 1000, $sent);
	# ends in good order: only its share has to move
	value_of(q{SELECT pg_terminate_backend(pid) FROM lakehouse.worker_status
		WHERE object = 'message' AND pid IS NOT NULL ORDER BY random() LIMIT 1});
	$done->();
	ok(poll_value($node, $all, 3000 + 1000 * $round), "round $round: all is read although a worker was ended");
}
cmp_ok(value_of(q{SELECT sum(rows_per_second) FROM lakehouse.kafka_status WHERE source = 'message'}), '>', 1, 'kafka_status has rates');
value_of(q{SELECT lakehouse.alter_source('message', trigger => 'available_now')});
ok(poll_value($node, worker_count('message'), '0'), 'the workers leave');
delete $sent->{next};
value_of(q{SELECT lakehouse.drop_source(name) FROM lakehouse.source WHERE name <> 'message';
	DELETE FROM lakehouse.reject WHERE source_id <> (SELECT source_id FROM lakehouse.source WHERE name = 'message')});
check_kafka($node, 'message', $sent);

# ---------------------------------------------------------------------- group
produce(map { qq({"topic": "group", "partition": @{[$_ % 2]}, "value": "$_"}) } 1 .. 7);
make_source('told', q{topics => '{group}', options => '{"publish_group": "lag-tool"}', trigger => 'continuous'});
ok(poll_value($node, 'SELECT count(*) FROM bronze.told', '7'), 'a source that tells a group its positions');
ok(wait_until(sub { broker_command($broker, 'committed lag-tool group 1') eq '4' && broker_command($broker, 'committed lag-tool group 0') eq '3' }),
	'the group has them');
is(value_of(q{SELECT count(publish_error) FROM lakehouse.kafka_status WHERE source = 'told'}), '0', 'no error');
produce('{"topic": "group", "partition": 0, "value": "8"}');
ok(poll_value($node, 'SELECT count(*) FROM bronze.told', '8'), 'one more');
value_of(q{SELECT lakehouse.alter_source('told', trigger => 'available_now')});
ok(wait_until(sub { broker_command($broker, 'committed lag-tool group 0') eq '4' }), 'the last positions are told at the end');

# --------------------------------------------------------------------- status
is(value_of(q{SELECT bool_and(lag = 0 AND lag_seconds IS NULL AND open_transactions = 0 AND bytes > 0 AND last_fetch > now() - interval '10 min') FROM lakehouse.kafka_status WHERE source = 'told'}), 't',
	'kafka_status has lag and what was read; between runs nobody knows what came');
value_of(q{UPDATE lakehouse.kafka_offset SET end_offset = next_offset + 5, high_offset = next_offset + 5,
	caught_up = clock_timestamp() - interval '90 s', last_timestamp = 1400000000000 WHERE topic = 'group' AND partition = 0});
is(value_of(q{SELECT lag || ' ' || (lag_seconds BETWEEN 90 AND 900) FROM lakehouse.kafka_status WHERE source = 'told' AND partition = 0}), '5 true',
	'lag in seconds is not more than the time since nothing was left');
make_source('unread', q{topics => '{group}'});
my $unread = q{SELECT DISTINCT state || ' ' || (lag > 0) || ' ' || coalesce(lag_seconds::text, 'unknown') FROM lakehouse.kafka_status WHERE source = 'unread'};
is(value_of($unread), 'active true unknown', 'and is not known of a partition that was never read');
value_of('DROP TABLE bronze.unread');
is(value_of($unread), 'blocked true unknown', 'a source without its table is blocked in kafka_status, too');

stop_broker($broker);
$node->stop;
done_testing();
