# Messages to Kafka through the outbox: what arrives is what was committed, in
# its order; what cannot be sent is shown and keeps only its own key waiting.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = seed();
my $node = lakehouse_node('kafka_produce', conf => "max_prepared_transactions = 2\n");
my $broker = start_broker('out:4,big:1,keys:4,down:2,denied:1,tomb:1,gold:2,events:1,bulk:3,nowhere:1,closed:1,again:1');

$node->safe_psql('postgres', <<"END");
CREATE SERVER cluster FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
CREATE SCHEMA gold;
END

sub value_of { return $node->safe_psql('postgres', $_[0]) }

# waits until nothing of the topics waits
sub all_sent
{
	my ($name, @topic) = @_;
	my $list = join(',', map { "'$_'" } @topic);
	return ok(poll_value($node, "SELECT coalesce(sum(waiting), 0) FROM lakehouse.kafka_outbox_status WHERE topic IN ($list)", 0), $name);
}

# reads a topic from its beginning into bronze.NAME
sub read_topic
{
	my ($name, $topic) = @_;
	$node->safe_psql('postgres', <<"END");
DROP TABLE IF EXISTS bronze.$name;
SELECT lakehouse.drop_source('$name', if_exists => true);
CREATE TABLE bronze.$name (key bytea, value bytea, topic text, "partition" integer, "offset" bigint, headers jsonb);
SELECT lakehouse.create_source('$name', server => 'cluster', target => 'bronze.$name', topics => '{$topic}');
SELECT lakehouse.run_source('$name');
END
	return;
}

# -------------------------------------------------------------- what arrives
$node->safe_psql('postgres', <<'END');
SELECT lakehouse.kafka_produce('cluster', 'out', 'k1', 'first');
SELECT lakehouse.kafka_produce('cluster', 'out', 'k1', NULL);
SELECT lakehouse.kafka_produce('cluster', 'out', NULL, 'no key', partition => 2);
SELECT lakehouse.kafka_produce('cluster', 'out', '', '');
SELECT lakehouse.kafka_produce('cluster', 'out', U&'\00e4\4e16', '{"b": [1, "\u00e4"]}'::jsonb, '{"n": 1, "t": "x", "none": null}');
SELECT lakehouse.kafka_produce('cluster', 'out', '\x00ff'::bytea, '\xfe00'::bytea,
  '[{"key": "n", "value": "1"}, {"key": "n", "value": "2"}, {"key": "b", "value_base64": "/wA="}, {"key": "e", "value": ""}]', 3);
BEGIN;
SELECT lakehouse.kafka_produce('cluster', 'out', 'k2', 'rolled back');
ROLLBACK;
BEGIN;
SELECT lakehouse.kafka_produce('cluster', 'out', 'k2', 'kept');
SAVEPOINT s;
SELECT lakehouse.kafka_produce('cluster', 'out', 'k2', 'rolled back');
ROLLBACK TO s;
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT lakehouse.kafka_produce('cluster', 'out', 'k2', 'rolled back');
ROLLBACK TO s;
COMMIT;
END
all_sent('a worker sends what was committed', 'out');
read_topic('out', 'out');
same_multiset(
	$node,
	q{SELECT key, value, headers FROM bronze.out},
	q{VALUES (convert_to('k1', 'UTF8'), convert_to('first', 'UTF8'), NULL::jsonb), ('k1', NULL, NULL), (NULL, 'no key', NULL),
		(''::bytea, ''::bytea, NULL), (convert_to(U&'\00e4\4e16', 'UTF8'), convert_to('{"b": [1, "' || U&'\00e4' || '"]}', 'UTF8'),
		 '[{"key": "n", "value": "1"}, {"key": "t", "value": "x"}, {"key": "none", "value": null}]'),
		('\x00ff', '\xfe00', '[{"key": "n", "value": "1"}, {"key": "n", "value": "2"}, {"key": "b", "value_base64": "/wA="}, {"key": "e", "value": ""}]'),
		('k2', 'kept', NULL)},
	'keys, values and headers arrive as they are, NULL differs from empty, what was rolled back never arrives');
is(value_of(q{SELECT string_agg("partition"::text, ' ' ORDER BY "partition") FROM bronze.out WHERE value = 'no key' OR key = '\x00ff'}),
	'2 3', 'a partition that was named is the one');
is(value_of(q{SELECT string_agg(coalesce(convert_from(value, 'UTF8'), 'NULL'), ' ' ORDER BY "offset") FROM bronze.out WHERE key = 'k1'}),
	'first NULL', 'a key keeps its order');
is(value_of(q{SELECT count(*) FROM lakehouse.outbox_batch}), 0, 'nothing is left behind, no empty batch either');
is(value_of(q{SELECT state, waiting, refused, sent, failures FROM lakehouse.kafka_outbox_status WHERE topic = 'out'}),
	'idle|0|0|7|0', 'the status counts what was sent');

# --------------------------------------------- order of concurrent transactions
# A transaction that commits later comes later, whichever called kafka_produce
# first; both are there before anybody sends.
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'keys', 'warm', 'up')});
all_sent('the worker is there', 'keys');
my $first = $node->background_psql('postgres');
my $second = $node->background_psql('postgres');
$first->query_safe('BEGIN');
$second->query_safe('BEGIN');
$first->query_safe(q{SELECT lakehouse.kafka_produce('cluster', 'keys', 'k' || i, 'late') FROM generate_series(1, 300) i});
$second->query_safe(q{SELECT lakehouse.kafka_produce('cluster', 'keys', 'k' || i, 'early') FROM generate_series(300, 1, -1) i});
$second->query_safe('COMMIT');
$first->query_safe('COMMIT');
$_->quit for $first, $second;
all_sent('both are sent', 'keys');
read_topic('keys', 'keys');
is( value_of(q{SELECT count(*), bool_and(v = 'early late') FROM (SELECT key, string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") v
	FROM bronze.keys WHERE key <> 'warm' GROUP BY key) k}),
	'300|t', 'messages of a key are in the order of the commits');

# A prepared transaction takes its place when it is prepared, and keeps others
# of its keys waiting until it ends.
$node->safe_psql('postgres', q{BEGIN; SELECT lakehouse.kafka_produce('cluster', 'keys', 'prepared', 'first'); PREPARE TRANSACTION 'p'});
is(value_of(q{SELECT count(*) FROM lakehouse.outbox}), 0, 'a prepared transaction has sent nothing');
my $behind = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', q{SELECT lakehouse.kafka_produce('cluster', 'keys', 'prepared', 'second')} ],
	'>', \my $ignored);
ok(poll_value($node, q{SELECT count(*) FROM pg_locks WHERE NOT granted}, 1), 'a later one of its key waits for its end');
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'keys', 'other', 'v'); COMMIT PREPARED 'p'});
$behind->finish;
all_sent('all are sent', 'keys');
read_topic('keys', 'keys');
is(value_of(q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") FROM bronze.keys WHERE key = 'prepared'}), 'first second', 'in the order of their ends');

# Many sessions, few keys: a counter in a table tells the true order.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE counter (key text PRIMARY KEY, n integer);
INSERT INTO counter SELECT 'c' || i, 0 FROM generate_series(1, 5) i;
CREATE FUNCTION bump(name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  value integer;
BEGIN
  UPDATE counter SET n = n + 1 WHERE key = name RETURNING n INTO value;
  PERFORM lakehouse.kafka_produce('cluster', 'bulk', name, value::text);
END
$$;
SQL
my $script = PostgreSQL::Test::Utils::tempdir() . '/bump.sql';
append_to_file($script, "\\set k random(1, 5)\nSELECT bump('c' || :k);\n");
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '100', '-f', $script, $node->connstr('postgres') ], 'eight sessions produce');
all_sent('all of it is sent', 'bulk');
read_topic('bulk', 'bulk');
is( value_of(q{SELECT sum(c.n), bool_and(k.v = ARRAY(SELECT i FROM generate_series(1, c.n) i)) FROM counter c
	JOIN (SELECT convert_from(key, 'UTF8') AS key, array_agg(convert_from(value, 'UTF8')::integer ORDER BY "offset") v
	  FROM bronze.bulk GROUP BY 1) k USING (key)}),
	'800|t', 'each key counts up without a gap, a repetition or a step back');

# ----------------------------------------------------------- what cannot be sent
$node->safe_psql('postgres', q{ALTER SERVER cluster OPTIONS (ADD "message.max.bytes" '50000')});
my ($status, $out, $err) = $node->psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'big', 'k', repeat('x', 60000))},
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($err, qr/ERROR:  54000: message is too large/, 'what the server does not take is an error at once');
$node->safe_psql('postgres', <<'END');
BEGIN;
SELECT lakehouse.kafka_produce('cluster', 'big', 'a', 'a1');
SELECT lakehouse.kafka_produce('cluster', 'big', 'b', repeat('x', 40000));
SELECT lakehouse.kafka_produce('cluster', 'big', 'b', 'b2');
SELECT lakehouse.kafka_produce('cluster', 'big', 'c', 'c1');
ALTER SERVER cluster OPTIONS (SET "message.max.bytes" '20000');
COMMIT;
END
ok(poll_value($node, q{SELECT string_agg(state || ':' || convert_from(key, 'UTF8'), ' ' ORDER BY message_id) FROM lakehouse.kafka_outbox},
		'refused:b held:b'), 'a message that is refused holds those of its key, and no others');
is(value_of(q{SELECT sqlstate, error FROM lakehouse.kafka_outbox WHERE state = 'refused'}),
	'54000|Broker: Message size too large', 'and says why');
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'big', 'b', 'b3'); SELECT lakehouse.kafka_produce('cluster', 'big', 'a', 'a2')});
ok(poll_value($node, q{SELECT waiting, refused FROM lakehouse.kafka_outbox_status WHERE topic = 'big'}, '2|1'), 'others of the key wait as well');
$node->safe_psql('postgres', q{ALTER SERVER cluster OPTIONS (DROP "message.max.bytes")});
is(value_of(q{SELECT lakehouse.kafka_retry('cluster')}), 1, 'one message is to be tried again');
ok(poll_value($node, q{SELECT waiting, refused, state FROM lakehouse.kafka_outbox_status WHERE topic = 'big'}, '0|0|idle'), 'then all are sent');
read_topic('big', 'big');
is(value_of(q{SELECT string_agg(left(convert_from(value, 'UTF8'), 2), ' ' ORDER BY "offset") FROM bronze.big WHERE key = 'b'}),
	'xx b2 b3', 'in their order');
is(value_of(q{SELECT count(*) FROM bronze.big}), 6, 'each once');

# a partition that is not there
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'big', 'p', 'v', partition => 7); SELECT lakehouse.kafka_produce('cluster', 'big', 'q', 'v')});
ok(poll_value($node, q{SELECT string_agg(state || ' ' || sqlstate || ' ' || convert_from(key, 'UTF8'), ',') FROM lakehouse.kafka_outbox}, 'refused 42704 p'),
	'a partition that is not there concerns its message only');
is(value_of(q{SELECT lakehouse.kafka_discard('cluster', 'big')}), 1, 'it is discarded');
is(value_of(q{SELECT (SELECT count(*) FROM lakehouse.kafka_outbox) || ' ' || (SELECT count(*) FROM lakehouse.outbox_batch)}), '0 0', 'and gone');

# a batch is refused, and sending breaks before each of its messages was tried alone
my $broken = q{SELECT max(last_failure) FROM lakehouse.outbox_state WHERE topic = ''};
my $was_broken = value_of($broken);
broker_command($broker, 'refuse 10 44');
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'again', 'k' || i % 2, i::text) FROM generate_series(1, 6) i});
ok(poll_value($node, 'SELECT count(*) FROM lakehouse.outbox', '0'), 'none of them counts as refused');
cmp_ok(value_of($broken), 'ne', $was_broken, 'it did break');
read_topic('again', 'again');
is(value_of(q{SELECT string_agg(v, ' ' ORDER BY key) FROM (SELECT key, string_agg(convert_from(value, 'UTF8'), '' ORDER BY "offset") AS v FROM bronze.again GROUP BY key) k}),
	'246 135', 'in their order');

# a topic that is not there, one that is not permitted
my $denied = !librdkafka_crashes_on_topic_errors();
broker_command($broker, 'fail denied 29') if $denied;
broker_command($broker, 'fail nowhere 3');
$node->safe_psql('postgres', <<'END');
SELECT lakehouse.kafka_produce('cluster', 'nowhere', 'k', 'v');
SELECT lakehouse.kafka_produce('cluster', 'denied', 'k', 'v');
SELECT lakehouse.kafka_produce('cluster', 'out', 'k', 'v');
END
ok(poll_value($node, q{SELECT string_agg(topic || ' ' || state || ' ' || sqlstate || ' ' || waiting, ', ' ORDER BY topic)
	FROM lakehouse.kafka_outbox_status WHERE topic IN ('nowhere', 'denied') AND failures > 0}, ($denied ? 'denied failing 42501 1, ' : '') . 'nowhere failing 42704 1'),
	'topics that cannot be written are shown with the reason');
all_sent('other topics go on', 'out');
broker_command($broker, 'fail denied 0') if $denied;
broker_command($broker, 'fail nowhere 0');
all_sent('they follow by themselves when it is over', 'denied', 'nowhere');

# one of a batch is discarded while the other one is sent
broker_command($broker, 'fail closed 3');
$node->safe_psql('postgres', q{BEGIN; SELECT lakehouse.kafka_produce('cluster', 'big', 'p', 'v', partition => 7); SELECT lakehouse.kafka_produce('cluster', 'closed', 'k', 'v'); COMMIT});
ok(poll_value($node, q{SELECT string_agg(topic || ' ' || (failures > 0) || ' ' || refused, ', ' ORDER BY topic) FROM lakehouse.kafka_outbox_status WHERE waiting + refused > 0}, 'big false 1, closed true 0'),
	'one message is refused, the topic of the other one is');
my $discarding = $node->background_psql('postgres');
$discarding->query_safe(q{BEGIN});
$discarding->query_safe(q{SELECT lakehouse.kafka_discard('cluster', 'big')});
broker_command($broker, 'fail closed 0');
$node->safe_psql('postgres', q{SELECT lakehouse.kafka_retry('cluster', 'closed')});
ok(poll_value($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lakehouse outbox' AND wait_event_type = 'Lock'}, '1'), 'its sender waits for the discard');
$discarding->query_safe(q{COMMIT});
$discarding->quit;
ok(poll_value($node, q{SELECT (SELECT count(*) FROM lakehouse.outbox) || ' ' || (SELECT count(*) FROM lakehouse.outbox_batch)}, '0 0'), 'no batch without messages stays');

# servers and roles that are gone
$node->safe_psql('postgres', <<"END");
CREATE ROLE leaves LOGIN SUPERUSER;
CREATE SERVER leaves FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SERVER nobody FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
SELECT lakehouse.kafka_produce('leaves', 'out', 'k', 'v'), lakehouse.kafka_produce('nobody', 'out', 'k', 'v');
SET ROLE leaves;
SELECT lakehouse.kafka_produce('cluster', 'out', 'k', 'v');
END
ok(poll_value($node, q{SELECT count(*) FROM lakehouse.kafka_outbox_status WHERE (server = 'leaves' OR owner = 'leaves'::regrole) AND sent = 1 OR server = 'nobody' AND failures > 0}, '3'),
	'three more senders');
$node->safe_psql('postgres', 'DROP SERVER leaves; DROP SERVER nobody; DROP ROLE leaves');
ok(poll_value($node, q{SELECT count(*) FROM lakehouse.outbox_state WHERE server = 'leaves' OR owner <> 10}, '0'), 'nothing is kept of a server and of a role that are gone');
is(value_of(q{SELECT count(*) FROM lakehouse.outbox_state WHERE server = 'nobody' AND failures > 0}), '1', 'but why messages wait is');
is(value_of(q{SELECT regexp_replace(object, ': .*', '') || ' ' || detail FROM lakehouse.verify() WHERE "check" = 'outbox' AND NOT ok}),
	'nobody 1 messages in 1 batches, 0 refused; the server does not exist', 'verify names them');
is(value_of(q{SELECT lakehouse.kafka_discard('nobody', message_ids => ARRAY(SELECT message_id FROM lakehouse.kafka_outbox))}), '1', 'they are discarded');
is(value_of(q{SELECT count(*) FROM lakehouse.outbox_state WHERE server = 'nobody'}), '0', 'and nothing is kept');

# the cluster is gone
my $produced = 0;
told_soon($node, 'a cluster that is down is told', outbox => 'cluster', state => '08001',
	begin => sub {
		broker_command($broker, 'down');
		my $first = $produced + 1;
		$produced += 500;
		$node->safe_psql('postgres', qq{SELECT lakehouse.kafka_produce('cluster', 'down', 'k' || i % 7, i::text) FROM generate_series($first, $produced) i});
	},
	end => sub { broker_command($broker, 'up') });
is(value_of(q{SELECT state, sqlstate, waiting FROM lakehouse.kafka_outbox_status WHERE topic = 'down' AND failures > 0}), "failing|08001|500",
	'it is a visible state');
broker_command($broker, 'up');
all_sent('everything follows when it is back', 'down');
read_topic('down', 'down');
is(value_of(q{SELECT count(DISTINCT value) FROM bronze.down}), $produced, 'nothing is lost');
is( value_of(q{SELECT bool_and(last = greatest) FROM (SELECT (array_agg(convert_from(value, 'UTF8')::integer ORDER BY "offset" DESC))[1] AS last,
	max(convert_from(value, 'UTF8')::integer) AS greatest FROM bronze.down GROUP BY key) k}), 't', 'the last one of each key is the last one');

# a stop while the cluster does not answer
stops_soon($node, 'the server stops although the cluster does not answer', sub {
	broker_command($broker, 'down');
	$node->safe_psql('postgres', q{SELECT lakehouse.kafka_produce('cluster', 'down', 'k', 'v')});
	usleep(700_000);
});
broker_command($broker, 'up');
all_sent('what waited is sent after the start', 'down');

# ------------------------------------------------------------------ in a session
my $alone = PostgreSQL::Test::Cluster->new('no_workers');
$alone->init;
$alone->start;
$alone->safe_psql('postgres', <<"END");
CREATE EXTENSION lakehouse;
CREATE SERVER cluster FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
SELECT lakehouse.kafka_produce('cluster', 'tomb', 'k', i::text) FROM generate_series(1, 3) i;
END
is($alone->safe_psql('postgres', q{SELECT waiting FROM lakehouse.kafka_outbox_status}), 3, 'without workers messages wait');
is($alone->safe_psql('postgres', q{BEGIN; DO $$ BEGIN PERFORM lakehouse.kafka_produce('cluster', 'tomb', 'k', 'mine'); END $$;
	SELECT * FROM lakehouse.kafka_send('cluster'); ROLLBACK}), '3|0|0', 'kafka_send sends what is committed, not what is its own');
is($alone->safe_psql('postgres', q{SELECT * FROM lakehouse.kafka_send('cluster')}), '3|0|0', 'rolled back, it sends again');
is($alone->safe_psql('postgres', q{SELECT * FROM lakehouse.kafka_send('cluster')}), '0|0|0', 'then nothing is left');
$alone->stop;
read_topic('tomb', 'tomb');
is(value_of(q{SELECT string_agg(convert_from(value, 'UTF8'), '' ORDER BY "offset") FROM bronze.tomb}), '123123', 'and nothing of what was not committed arrived');

stop_broker($broker);
done_testing();
