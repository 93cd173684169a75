# Kafka topics into bronze: contents, rejects, positions that commit with the
# rows, and what happens when records or brokers are gone.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = seed();
my $node = lakehouse_node('kafka');
my $broker = start_broker('a:2,b:3,js:1,two:2,random:4,retention:2,range:2,again:1,start:1,down:1,big:1,times:1,odd:1,live:2,huge:2,dom:1');

$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
END

my $full_columns = 'key text, value text, topic text, partition integer, "offset" bigint,'
  . ' "timestamp" timestamptz, timestamp_type integer, headers jsonb';

# make_source makes table bronze.NAME and a source of that name.
sub make_source
{
	my ($name, $topics, $columns, $options) = @_;
	$options //= '{}';
	$node->safe_psql('postgres', "CREATE TABLE bronze.$name ($columns);"
		  . "SELECT lakehouse.create_source('$name', server => 'events', target => 'bronze.$name',"
		  . " topics => '{$topics}', options => '$options')");
	return;
}

sub produce
{
	broker_command($broker, "produce $_") for @_;
	return;
}

# run gives rows and rejected of one run_source.
sub run
{
	my ($name) = @_;
	return $node->safe_psql('postgres', "SELECT rows, rejected FROM lakehouse.run_source('$name')");
}

sub value_of
{
	return $node->safe_psql('postgres', $_[0]);
}

# ------------------------------------------------------------------- contents
produce(
	'{"topic": "a", "partition": 0, "key": "k1", "value": "v1", "timestamp": 1400000000123}',
	'{"topic": "a", "partition": 1, "key": null, "value": "no key", "timestamp": 1400000000124}',
	'{"topic": "a", "partition": 0, "key": "k1", "value": null, "timestamp": 1400000000125}',
	'{"topic": "b", "partition": 2, "key": "", "value": "", "timestamp": 1400000000126}',
	'{"topic": "b", "partition": 1, "key": "h", "value": "{\"x\": \"\u00e4\u4e16\ud83d\ude00\"}", "timestamp": 1400000000127,'
	  . ' "headers": [{"key": "n", "value": "1"}, {"key": "n", "value": "2"}, {"key": "none", "value": null},'
	  . ' {"key": "empty", "value": ""}, {"key": "bytes", "value_hex": "ff00"}]}');
make_source('multi', 'a,b', $full_columns);
is(run('multi'), '5|0', 'two topics are read into one table');
same_multiset(
	$node,
	'SELECT key, value, topic, partition, "offset", "timestamp", timestamp_type, headers FROM bronze.multi',
	q{VALUES ('k1', 'v1', 'a', 0, 0::bigint, timestamptz '2014-05-13 16:53:20.123+00', 0, NULL::jsonb),
		(NULL, 'no key', 'a', 1, 0, '2014-05-13 16:53:20.124+00', 0, NULL),
		('k1', NULL, 'a', 0, 1, '2014-05-13 16:53:20.125+00', 0, NULL),
		('', '', 'b', 2, 0, '2014-05-13 16:53:20.126+00', 0, NULL),
		('h', U&'{"x": "\00e4\4e16\+01f600"}', 'b', 1, 0, '2014-05-13 16:53:20.127+00', 0,
		 '[{"key": "n", "value": "1"}, {"key": "n", "value": "2"}, {"key": "none", "value": null},
		   {"key": "empty", "value": ""}, {"key": "bytes", "value_base64": "/wA="}]')},
	'null and empty differ, tombstones are rows, headers keep order and repetition');
is(run('multi'), '0|0', 'nothing is read twice');
is(value_of("SELECT offsets FROM lakehouse.load WHERE relation = 'bronze.multi'::regclass"),
	'{"a": {"0": [0, 2], "1": [0, 1]}, "b": {"1": [0, 1], "2": [0, 1]}}', 'the load names its offsets');
is( value_of(q{SELECT string_agg(topic || partition || ':' || position || '/' || end_offset || '/' || lag || '/' || rows, ' ' ORDER BY topic, partition)
	FROM lakehouse.kafka_status WHERE source = 'multi'}),
	'a0:2/2/0/2 a1:1/1/0/1 b0:0/0/0/0 b1:1/1/0/1 b2:1/1/0/1',
	'kafka_status shows each partition');

# other types and names
produce(
	'{"topic": "js", "key": "1", "value": {"good": true}, "timestamp": 1400000000000}',
	'{"topic": "js", "key": "2", "value": "{\"cut\": ", "timestamp": 1400000000001}',
	'{"topic": "js", "key": "3", "value_hex": "22ff22", "timestamp": 1400000000002}',
	'{"topic": "js", "key": "4", "value_hex": "220022", "timestamp": 1400000000003}',
	'{"topic": "js", "key": "five", "value": "[]", "timestamp": 1400000000004}',
	'{"topic": "js", "key": "6", "value": null, "timestamp": 1400000000005}',
	'{"topic": "js", "key": "7", "value": "[7]", "timestamp": 1400000000006}');
make_source('js', 'js', 'id integer, value jsonb, at bigint',
	'{"columns": {"id": "key", "at": "timestamp"}}');
is(run('js'), '3|4', 'bad records are rejected, the good ones stored');
same_multiset(
	$node,
	'SELECT id, value, at FROM bronze.js',
	q{VALUES (1, '{"good": true}'::jsonb, 1400000000000), (6, NULL, 1400000000005), (7, '[7]', 1400000000006)},
	'parts of a message go to the columns that the option names');
same_multiset(
	$node,
	q{SELECT topic, partition, "offset", encode(raw, 'hex'), sqlstate, column_name FROM lakehouse.reject r
		JOIN lakehouse.source USING (source_id) WHERE name = 'js'},
	q{VALUES ('js', 0, 1::bigint, '7b22637574223a20', '22P02', 'value'), ('js', 0, 2, '22ff22', '22021', 'value'),
		('js', 0, 3, '220022', '22021', 'value'), ('js', 0, 4, '5b5d', '22P02', 'id')},
	'a reject has its place, its bytes and the reason');
make_source('bytes', 'js', 'key bytea, value bytea');
is(run('bytes'), '7|0', 'bytea takes every message');
is(value_of(q{SELECT string_agg(encode(value, 'hex'), ' ' ORDER BY key) FROM bronze.bytes WHERE key IN ('3', '4')}),
	'22ff22 220022', 'bytea keeps every byte');

# domains: bytes stay bytes, and what a domain forbids is a reject
$node->safe_psql('postgres', 'CREATE DOMAIN payload AS bytea CHECK (length(value) < 8); CREATE DOMAIN given AS text NOT NULL;'
	  . ' CREATE DOMAIN counted AS integer CHECK (value IS NOT NULL)');
produce(
	q({"topic": "dom", "key": "1", "value": "\\\\x4142", "headers": [{"key": "h", "value": "1"}]}),
	q({"topic": "dom", "key": "2", "value": "a\\\\", "headers": [{"key": "h", "value": "2"}]}),
	q({"topic": "dom", "key": "3", "value": "{\\"n\\": 3}"}),
	q({"topic": "dom", "key": null, "value": null}));
make_source('payload', 'dom', 'value payload');
is(run('payload'), '3|1', 'a domain of bytes');
same_multiset($node, 'SELECT convert_from(value, $$UTF8$$) FROM bronze.payload', q{VALUES ('\x4142'), ('a\'), (NULL)}, 'takes the bytes as they are');
make_source('given', 'dom', 'key given, headers given, value text');
is(run('given'), '2|2', 'a domain that is not null refuses messages without a key or headers');
make_source('counted', 'dom', 'key text, n counted', '{"value_format": "json"}');
is(run('counted'), '1|3', 'and a member of a tombstone');
is(value_of(q{SELECT string_agg("offset" || ' ' || sqlstate, ', ' ORDER BY source, "offset") FROM lakehouse.reject_status WHERE topic = 'dom'}),
	'0 22P02, 1 22P02, 3 23514, 2 23502, 3 23502, 2 23514', 'with the reason');

# timestamps
produce(
	'{"topic": "times", "value": "early", "timestamp": -86400000}',
	'{"topic": "times", "value": "late", "timestamp": 9400000000000000}',
	'{"topic": "times", "value": "last", "timestamp": 9223372036854775807}',
	'{"topic": "times", "value": "same", "timestamp": 253402300799999}',
	'{"topic": "times", "value": "fine", "timestamp": 253402300799999}');
make_source('times', 'times', 'value text, "timestamp" timestamptz');
is(run('times'), '3|2', 'a timestamp that the type cannot hold is a reject');
is(value_of(q{SELECT string_agg(value || ' ' || ("timestamp" AT TIME ZONE 'UTC'), ', ' ORDER BY value) FROM bronze.times}),
	'early 1969-12-31 00:00:00, fine 9999-12-31 23:59:59.999, same 9999-12-31 23:59:59.999', 'timestamps keep their milliseconds, the same one twice, too');
is(value_of(q{SELECT string_agg(sqlstate, ' ') FROM lakehouse.reject WHERE topic = 'times'}), '22008 22008', 'the reject says why');
make_source('millis', 'times', 'value text, "timestamp" bigint');
is(run('millis'), '5|0', 'bigint holds every timestamp');
is(value_of(q{SELECT max("timestamp") FROM bronze.millis}), '9223372036854775807', 'the last one of all, too');

# a record above the limit
$node->append_conf('postgresql.conf', "lakehouse.max_record_size = '1kB'");
$node->reload;
broker_command($broker, 'fill big 1 1 2000');
broker_command($broker, 'fill big 1 1 500');
make_source('big', 'big', 'value text');
is(run('big'), '1|1', 'a message above lakehouse.max_record_size is a reject');
is(value_of(q{SELECT length(raw) || ' ' || sqlstate FROM lakehouse.reject WHERE topic = 'big'}), '2000 54000',
	'with its bytes');
$node->append_conf('postgresql.conf', 'lakehouse.max_record_size = 64MB');
$node->reload;

# --------------------------------------------------------------- exactly once
my $sent = {};
make_source('message', 'random', 'partition integer, "offset" bigint, key text, value text');
$node->safe_psql('postgres', "DELETE FROM lakehouse.reject");
produce_messages($broker, 'random', 4, 3000, $sent)->();
my $rolled_back = value_of(<<'END');
BEGIN;
SELECT rows > 0 FROM lakehouse.run_source('message');
ROLLBACK;
SELECT count(*) FROM bronze.message;
END
is($rolled_back, "t\n0", 'a rolled back run leaves nothing');
value_of(<<'END');
BEGIN;
SAVEPOINT s;
SELECT lakehouse.run_source('message');
ROLLBACK TO s;
SET LOCAL lakehouse.batch_rows = 70;
SET LOCAL lakehouse.kafka_linger_ms = 0;
SELECT lakehouse.run_source('message');
COMMIT;
END
produce_messages($broker, 'random', 4, 500, $sent)->();
run('message');
delete $sent->{next};
value_of(q{DELETE FROM lakehouse.kafka_offset WHERE source_id <> (SELECT source_id FROM lakehouse.source WHERE name = 'message')});
check_kafka($node, 'message', $sent);
cmp_ok(value_of(q{SELECT count(*) FROM lakehouse.load WHERE relation = 'bronze.message'::regclass}), '>=', 3000 / 70,
	'small batches make many loads');
value_of("SELECT lakehouse.drop_source(name) FROM lakehouse.source WHERE name <> 'message'");

# two sources on one topic
produce(map { qq({"topic": "two", "partition": @{[$_ % 2]}, "value": "$_"}) } 1 .. 10);
make_source('one_of_two', 'two', 'value text, partition integer, "offset" bigint');
make_source('other_of_two', 'two', 'value text, partition integer, "offset" bigint');
is(run('one_of_two'), '10|0', 'one source of a topic');
produce('{"topic": "two", "partition": 0, "value": "11"}');
is(run('other_of_two'), '11|0', 'another source of the same topic has its own positions');
is(run('one_of_two'), '1|0', 'and so has the first');
value_of(q{SELECT lakehouse.alter_source('one_of_two', new_name => 'renamed')});
is(run('renamed'), '0|0', 'a source that is renamed keeps its positions');
value_of(q{SELECT lakehouse.alter_source('renamed', new_name => 'one_of_two')});

# a source that is run by a trigger of its own target
make_source('recursive', 'two', 'value text');
value_of(<<'END');
CREATE FUNCTION bronze.once_more() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM lakehouse.run_source('recursive'); RETURN new; EXCEPTION WHEN object_in_use THEN RETURN new; END $$;
CREATE TRIGGER once_more BEFORE INSERT ON bronze.recursive FOR EACH ROW EXECUTE FUNCTION bronze.once_more();
END
is(run('recursive'), '11|0', 'a run within a batch of its own is refused');
is(value_of('SELECT count(*) FROM bronze.recursive'), '11', 'and reads nothing twice');
value_of(q{SELECT lakehouse.drop_source('recursive')});

# a partition that has no position is a new one; a topic can be added
value_of(q{DELETE FROM lakehouse.kafka_offset WHERE topic = 'two' AND partition = 1
	AND source_id = (SELECT source_id FROM lakehouse.source WHERE name = 'one_of_two')});
value_of('TRUNCATE bronze.one_of_two');
is(run('one_of_two'), '5|0', 'a new partition is read from its beginning');
is(value_of('SELECT DISTINCT partition FROM bronze.one_of_two'), '1', 'and only that');
produce('{"topic": "range", "partition": 1, "value": "before"}');
value_of(q{SELECT lakehouse.alter_source('one_of_two', topics => '{two,range}')});
is(run('one_of_two'), '1|0', 'a topic that was added is read');
like(($node->psql('postgres', q{SELECT lakehouse.alter_source('one_of_two', topics => '{two}')}))[2],
	qr/NOTICE:  source "one_of_two" forgets its positions in 2 partitions that it does not read any more/, 'that a position is given up is said');
is(value_of(q{SELECT count(*) FROM lakehouse.kafka_status WHERE source = 'one_of_two' AND topic = 'range'}), '0',
	'a topic that was taken away has no position');

# a server encoding that lacks a character
$node->safe_psql('postgres', q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
produce(q({"topic": "odd", "value": "\u00e4"}), q({"topic": "odd", "value": "\u4e16"}));
is($node->safe_psql('latin', <<"END"), "1|1\n\\xe4\n22P05 e4b896", 'text is converted, what cannot be is a reject');
CREATE EXTENSION lakehouse;
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE TABLE public.odd (value text);
DO \$\$ BEGIN PERFORM lakehouse.create_source('odd', server => 'events', target => 'public.odd', topics => '{odd}'); END \$\$;
SELECT rows, rejected FROM lakehouse.run_source('odd');
SELECT value::bytea FROM public.odd;
SELECT sqlstate || ' ' || encode(raw, 'hex') FROM lakehouse.reject;
END

# ------------------------------------------------------------- starting point
produce(map { qq({"topic": "start", "value": "$_", "timestamp": @{[1400000000000 + $_ * 1000]}}) } 0 .. 9);
make_source('latest', 'start', 'value integer', '{"starting_offsets": "latest"}');
make_source('explicit', 'start', 'value integer', '{"starting_offsets": {"start": {"0": 7}}}');
make_source('by_late_time', 'start', 'value integer', '{"starting_offsets": "2100-01-01 00:00:00+00"}');
produce('{"topic": "start", "value": "10"}');
run($_) for qw(latest explicit by_late_time);
is(value_of("SELECT array_agg(value ORDER BY value) FROM bronze.latest"), '{10}', 'latest is the end when the source was made');
is(value_of("SELECT array_agg(value ORDER BY value) FROM bronze.explicit"), '{7,8,9,10}', 'explicit offsets');
is(value_of("SELECT array_agg(value ORDER BY value) FROM bronze.by_late_time"), '{10}', 'a time behind the last record');
my ($status, $out, $err) = $node->psql('postgres', <<'END');
SELECT lakehouse.create_source('x', server => 'events', target => 'bronze.latest', topics => '{start}',
	options => '{"starting_offsets": {"start": {"0": 70}}}')
END
like($err, qr/partition 0 of topic "start" cannot be read from offset 70\nDETAIL:  The broker has the offsets from 0 to 11\./,
	'an offset that is not there is an error when the source is made');

# ---------------------------------------------------------------- lost records
make_source('retention', 'retention', 'value text, partition integer, "offset" bigint');
produce('{"topic": "retention", "partition": 0, "value": "first"}', '{"topic": "retention", "partition": 1, "value": "other"}');
is(run('retention'), '2|0', 'before anything is lost');
broker_command($broker, 'fill retention 1 20000 500');
produce('{"topic": "retention", "partition": 1, "value": "goes on"}');
($status, $out, $err) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('retention')");
is($out, '1', 'the other partition goes on');
like($err, qr/WARNING:  source "retention" stopped reading one partition\nDETAIL:  offsets \[1,\d+\) of partition 0 of topic "retention" were lost/,
	'lost records are told');
like(value_of(q{SELECT state || ' ' || sqlstate || ' ' || position || ' ' || error FROM lakehouse.kafka_status
	WHERE source = 'retention' AND partition = 0}),
	qr/^stopped 55000 1 offsets \[1,\d+\) of partition 0 of topic "retention" were lost/,
	'and shown in kafka_status, the position unchanged');
($status, $out, $err) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('retention')");
is("$out $err", '0 ', 'a further run says it in kafka_status only');
value_of(q{SELECT lakehouse.seek_source('retention', '{"retention": {"0": -2}}')});
like(run('retention'), qr/^\d{4,}\|0$/, 'after seek_source the partition is read from what is left');
is(value_of(q{SELECT string_agg(state || lag, ' ' ORDER BY partition) FROM lakehouse.kafka_status WHERE source = 'retention'}),
	'active0 active0', 'and is well again');
is(value_of(q{SELECT count(*) - count(DISTINCT (partition, "offset")) FROM bronze.retention}), '0', 'nothing was read twice');

# positions behind the end, and a record that is not the one that was loaded
produce('{"topic": "range", "partition": 0, "value": "x"}');
make_source('range', 'range', 'value text, partition integer, "offset" bigint');
is(run('range'), '2|0', 'before the topic is shortened');
value_of(q{UPDATE lakehouse.kafka_offset SET next_offset = 5, last_offset = 4 WHERE topic = 'range' AND partition = 0});
produce(map { qq({"topic": "range", "partition": $_, "value": "y"}) } 0, 1);
is(run('range'), '1|0', 'the other partition goes on');
is( value_of(q{SELECT sqlstate || ' ' || error FROM lakehouse.kafka_status WHERE topic = 'range' AND partition = 0}),
	'55000 partition 0 of topic "range" ends at offset 2, before offset 5 that is next: the topic was shortened or created again',
	'an end before the position stops the partition');

produce('{"topic": "again", "key": "k", "value": "1"}', '{"topic": "again", "key": "k", "value": "2"}');
make_source('again', 'again', 'value text');
is(run('again'), '2|0', 'before the topic is created again');
is(value_of(q{SELECT last_offset FROM lakehouse.kafka_offset WHERE topic = 'again'}), '1', 'the last record is remembered');
value_of(q{UPDATE lakehouse.kafka_offset SET last_hash = last_hash + 1 WHERE topic = 'again'});
produce('{"topic": "again", "key": "k", "value": "3"}');
is(run('again'), '0|0', 'nothing is read from a topic that is another');
is( value_of(q{SELECT error FROM lakehouse.kafka_status WHERE topic = 'again'}),
	'record 1 of partition 0 of topic "again" is not the one that was loaded: the topic was created again',
	'a last record that differs stops the partition');
value_of(q{UPDATE lakehouse.kafka_offset SET last_hash = last_hash - 1 WHERE topic = 'again'});
is(run('again'), '0|0', 'nor when the record is the one that was loaded: a person decides');
like(value_of(q{SELECT hint FROM lakehouse.kafka_status WHERE topic = 'again'}),
	qr/^SELECT lakehouse.seek_source\('again', '\{"again": \{"0": -2\}\}'\)/, 'kafka_status tells how');
value_of(q{SELECT lakehouse.seek_source('again', '{"again": {"0": 2}}')});
is(run('again'), '1|0', 'it goes on where that person says');
is(value_of(q{SELECT coalesce(error, 'none') FROM lakehouse.kafka_status WHERE topic = 'again'}), 'none', 'and forgets the error');

# an answer that the client does not take
$node->safe_psql('postgres', <<"END");
CREATE SERVER small FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}',
	"fetch.max.bytes" '1000000', "receive.message.max.bytes" '1000512');
CREATE TABLE bronze.huge (value text, partition integer);
SELECT lakehouse.create_source('huge', server => 'small', target => 'bronze.huge', topics => '{huge}');
END
broker_command($broker, 'fill huge 1 1 3000000');
produce('{"topic": "huge", "partition": 1, "value": "small"}');
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.run_source('huge')");
like($err, qr/ERROR:  could not reach the Kafka cluster: .*receive\.message\.max\.bytes/,
	'a message larger than the client takes is told, with the property to raise');
value_of(q{ALTER SERVER small OPTIONS (DROP "fetch.max.bytes", DROP "receive.message.max.bytes")});
is(run('huge'), '2|0', 'with larger limits it is read');
is(value_of('SELECT max(length(value)) FROM bronze.huge'), '3000000', 'whole');

# -------------------------------------------------------- trouble with brokers
broker_command($broker, 'fail odd 3');
($status, $out, $err) = $node->psql('postgres', <<'END');
\set VERBOSITY verbose
SELECT lakehouse.create_source('odd', server => 'events', target => 'bronze.again', topics => '{odd}')
END
like($err, qr/ERROR:  42704: topic "odd" does not exist\nHINT:  Create the topic first/, 'a topic that is not there');
SKIP: {
	skip 'librdkafka crashes over topics with an error and partitions', 1 if librdkafka_crashes_on_topic_errors();
	broker_command($broker, 'fail odd 29');
	($status, $out, $err) = $node->psql('postgres', <<'END');
\set VERBOSITY verbose
SELECT lakehouse.create_source('odd', server => 'events', target => 'bronze.again', topics => '{odd}')
END
	like($err, qr/ERROR:  42501: could not read topic "odd": Broker: Topic authorization failed/, 'a topic that is not permitted');
}

produce('{"topic": "down", "value": "1"}');
make_source('down', 'down', 'value text');
broker_command($broker, 'down');
my $began = time();
($status, $out, $err) = $node->psql('postgres', <<'END');
\set VERBOSITY verbose
SELECT lakehouse.run_source('down')
END
like($err, qr/ERROR:  08001: could not reach the Kafka cluster: .*\nHINT:  Check the option "bootstrap.servers"/, 'no broker');
cmp_ok(time() - $began, '<', 10, 'is an error within 10 seconds');
$began = time();
($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '1s'; SELECT lakehouse.run_source('down')");
like($err, qr/canceling statement due to statement timeout/, 'a wait for brokers can be canceled');
cmp_ok(time() - $began, '<', 4, 'soon');

# credentials stay out of messages
$node->safe_psql('postgres', <<"END");
CREATE SERVER secret FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:9', "security.protocol" 'sasl_plaintext', "sasl.mechanism" 'PLAIN');
CREATE USER MAPPING FOR PUBLIC SERVER secret OPTIONS ("sasl.username" 'etl', "sasl.password" 'hunter2');
END
($status, $out, $err) = $node->psql('postgres',
	"SET client_min_messages = debug5; SELECT lakehouse.create_source('s', server => 'secret', target => 'bronze.again', topics => '{a}')");
like($err, qr/could not reach the Kafka cluster/, 'a cluster that cannot be reached');
unlike($err, qr/hunter2/, 'the password is in no message');
broker_command($broker, 'up');
ok(wait_until(sub { my ($s, $o) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('down')"); return $s == 0 && $o eq '1' }, 30),
	'the source reads again when the broker is back');

# --------------------------------------------------------- background worker
my $state = q{SELECT coalesce((SELECT st.sqlstate FROM lakehouse.source_state st JOIN lakehouse.source s USING (source_id)
	WHERE s.name = 'live'), 'well')};
make_source('live', 'live', 'value text, partition integer, "offset" bigint');
produce('{"topic": "live", "partition": 0, "value": "1"}');
value_of(q{SELECT lakehouse.alter_source('live', trigger => 'continuous')});
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '1'), 'a worker reads what was there');
produce('{"topic": "live", "partition": 1, "value": "2"}');
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '2'), 'and what comes');
is(value_of(q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%live%' AND xact_start IS NOT NULL}), '0',
	'no transaction is open while it waits');

# A signal that comes to a thread of librdkafka would run PostgreSQL's handler
# there, so they have all blocked that can be: all but KILL, STOP and two of the C
# library's own.
sub threads_of
{
	my ($pid) = @_;
	my ($others, $open) = (0, 0);
	for my $file (glob("/proc/$pid/task/*/status"))
	{
		next if $file =~ m{/task/$pid/};
		open(my $status, '<', $file) or next;
		my ($blocked) = map { /^SigBlk:\s+([0-9a-f]{16})/ ? hex $1 : () } <$status>;
		next if !defined $blocked;
		$others++;
		$open++ if ($blocked | 1 << 8 | 1 << 18 | 1 << 31 | 1 << 32) != ~0;
	}
	return ($others, $open);
}
my ($others, $open) = threads_of(worker_pid($node, 'live'));
cmp_ok($others, '>=', 2, 'a worker that reads Kafka has threads of librdkafka');
is($open, 0, 'they have all signals blocked');

# somebody else moves the position: what the worker holds is not written
value_of(q{UPDATE lakehouse.kafka_offset SET next_offset = 0, last_offset = NULL WHERE topic = 'live' AND partition = 1});
produce('{"topic": "live", "partition": 1, "value": "3"}');
ok(poll_value($node, q{SELECT string_agg(value, ',' ORDER BY value) FROM bronze.live}, '1,2,2,3'),
	'the worker reads from a position that somebody else wrote');
value_of(q{SELECT lakehouse.seek_source('live', '{"live": {"0": 0}}')});
ok(poll_value($node, q{SELECT string_agg(value, ',' ORDER BY value) FROM bronze.live}, '1,1,2,2,3'),
	'and at once from one that seek_source gave');

broker_command($broker, 'down');
$began = time();
ok(poll_value($node, $state, '08001', 15), 'a lost broker is told in the state of the source');
cmp_ok(time() - $began, '<', 10, 'within 10 seconds');
broker_command($broker, 'up');
produce('{"topic": "live", "partition": 0, "value": "4"}');
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '6', 60), 'the worker goes on when the broker is back');
ok(poll_value($node, $state, 'well'), 'and the state says so');

# a right that is taken back ends what a worker began with it
value_of(<<'END');
CREATE ROLE reader LOGIN;
GRANT USAGE ON FOREIGN SERVER events TO reader;
GRANT USAGE ON SCHEMA bronze TO reader;
ALTER TABLE bronze.live OWNER TO reader;
SELECT lakehouse.alter_source('live', owner => 'reader');
END
produce('{"topic": "live", "partition": 0, "value": "5"}');
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '7'), 'a worker reads in the name of another owner');
value_of('REVOKE USAGE ON FOREIGN SERVER events FROM reader');
ok(poll_value($node, $state, '42501'), 'and ends when that one may not use the server any more');
produce('{"topic": "live", "partition": 0, "value": "6"}');
value_of('GRANT USAGE ON FOREIGN SERVER events TO reader');
ok(poll_value($node, q{SELECT string_agg(value, ',' ORDER BY value) FROM bronze.live}, '1,1,2,2,3,4,5,6', 60), 'until that is permitted again');
value_of(q{SELECT lakehouse.alter_source('live', trigger => 'available_now')});

# a session: its threads while it waits for a broker, and none afterwards
broker_command($broker, 'down');
my $backend = 0;
my $session = LakehouseTest::start_session($node, "SELECT lakehouse.run_source('down')", \$backend);
wait_until(sub { ($others, $open) = threads_of($backend); return $others >= 2 });
cmp_ok($others, '>=', 2, 'so has a session in run_source');
is($open, 0, 'with all signals blocked, too');
eval { $session->finish };
broker_command($broker, 'up');
ok(wait_until(sub { my ($s, $o) = $node->psql('postgres', "SELECT rows FROM lakehouse.run_source('down')"); return $s == 0 }, 30),
	'the brokers are back');
is($node->safe_psql('postgres', <<'END'), "t\n1", 'a session has one thread again after a run');
SELECT lakehouse.run_source('down') IS NOT NULL;
SELECT count(*) FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/task');
END

# a cancelled or failed run leaves no thread and no descriptor behind
my $left = value_of(<<'END');
CREATE FUNCTION threads() RETURNS bigint LANGUAGE sql AS
  $$ SELECT count(*) FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/task') $$;
CREATE FUNCTION descriptors() RETURNS bigint LANGUAGE sql AS
  $$ SELECT count(*) FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/fd') $$;
SELECT lakehouse.run_source('down') IS NULL;
CREATE FUNCTION use_clients() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 5 LOOP
		PERFORM lakehouse.run_source('down');
		BEGIN
			PERFORM lakehouse.create_source('y', server => 'events', target => 'bronze.down', topics => '{odd}');
		EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT use_clients();
CREATE TEMP TABLE before AS SELECT threads(), descriptors();
SELECT use_clients();
SELECT threads() - b.threads, descriptors() - b.descriptors <= 1 FROM before b;  -- one is the table's
END
is($left, "f\n\n\n0|t", 'clients end with their run');

stop_broker($broker);
$node->stop;
done_testing();
