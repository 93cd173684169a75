# Kafka messages whose value is JSON, decoded straight into typed columns: what
# goes where, tombstones, rejects as raw bytes, rescued data, refused options; and
# rejects that come back after a fix, as if they had been read only then.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('kafka_decode');
my $broker = start_broker('typed:2,names:1,rescue:1,same:1,kept:2,fixed:1,live:2');

$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
END

sub produce
{
	broker_command($broker, "produce $_") for @_;
	return;
}

sub create_sql
{
	my ($name, $topic, $options) = @_;
	return "SELECT lakehouse.create_source('$name', server => 'events', target => 'bronze.$name',"
	  . " topics => '{$topic}', options => '$options')";
}

sub make_source
{
	my ($name, $topic, $columns, $options) = @_;
	$node->safe_psql('postgres', "CREATE TABLE bronze.$name ($columns);" . create_sql($name, $topic, $options));
	return;
}

sub run
{
	my ($name) = @_;
	return $node->safe_psql('postgres', "SELECT rows, rejected FROM lakehouse.run_source('$name')");
}

# --------------------------------------------------------------- what goes where
produce(
	'{"topic": "typed", "partition": 0, "key": "u1", "timestamp": 1400000000000, "headers": [{"key": "h", "value": "x"}],'
	  . ' "value": "{\"id\": 7, \"name\": \"\u00e4 \\\\u4e16\", \"at\": \"2014-05-13T16:53:20Z\", \"amount\": 1.50, \"tags\": [\"a\", \"b\"], \"deep\": {\"city\": \"Z\"}, \"none\": 1}"}',
	'{"topic": "typed", "partition": 1, "key": "u2", "timestamp": 1400000000001, "value": "{\"id\": 8, \"name\": null, \"deep\": {}}"}',
	'{"topic": "typed", "partition": 0, "key": "u1", "timestamp": 1400000000002, "value": null}',
	'{"topic": "typed", "partition": 0, "key": null, "timestamp": 1400000000003, "value": {}}');
my $columns = q{id integer DEFAULT -1, name text DEFAULT 'missing', at timestamptz, amount numeric(10,2), tags text[], deep jsonb,}
  . q{ town text, "key" text, "offset" bigint, part smallint GENERATED ALWAYS AS (1) STORED, headers jsonb, p integer, seen timestamptz};
make_source('typed', 'typed', $columns,
	'{"value_format": "json", "paths": {"town": "$.deep.city"}, "columns": {"p": "partition", "seen": "timestamp"}}');
is(run('typed'), '4|0', 'decoded messages are rows, tombstones too');
same_multiset(
	$node,
	'SELECT id, name, at, amount, tags, deep, town, key, "offset", headers, p, seen FROM bronze.typed',
	q{VALUES (7, U&'\00e4 \4e16', timestamptz '2014-05-13 16:53:20+00', 1.50, '{a,b}'::text[], '{"city": "Z"}'::jsonb, 'Z',
		'u1', 0::bigint, '[{"key": "h", "value": "x"}]'::jsonb, 0, timestamptz '2014-05-13 16:53:20+00'),
		(8, NULL, NULL, NULL, NULL, '{}', NULL, 'u2', 0, NULL, 1, '2014-05-13 16:53:20.001+00'),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'u1', 1, NULL, 0, '2014-05-13 16:53:20.002+00'),
		(-1, 'missing', NULL, NULL, NULL, NULL, NULL, NULL, 2, NULL, 0, '2014-05-13 16:53:20.003+00')},
	'fields by name and path, parts of the message, defaults for missing fields, nothing but NULL for a tombstone');

# ------------------------------------------------------------------------ rejects
my @bad = (
	[ '{"id": ', '22P02', '' ],
	[ '', '22P02', '' ],
	[ '[1]', '22P02', '' ],
	[ '{"id": "x"}', '22P02', 'id' ],
	[ '{"id": 99999999999}', '22003', 'id' ],
	[ '{"at": "never"}', '22007', 'at' ],
	[ "{\"name\": \"\xff\"}", '22021', '' ],
	[ '{"name": "\\u0000"}', '22P05', 'name' ],
	[ '{"id": 1} x', '22P02', '' ],
	[ '{"a":' x 3000 . '1' . '}' x 3000, '54001', '' ]);
my $offset = 0;
my @expected;
for my $record (@bad)
{
	my $hex = unpack('H*', $record->[0]);
	produce(qq({"topic": "typed", "partition": 1, "key": "bad", "value_hex": "$hex"}));
	$offset++;
	push @expected, "('typed', 1, ${offset}::bigint, '$hex', '$record->[1]', " . ($record->[2] ? "'$record->[2]'" : 'NULL') . ")";
}
produce('{"topic": "typed", "partition": 1, "key": "good", "value": {"id": 9}}');
is(run('typed'), '1|' . @bad, 'the stream goes on behind messages that cannot be decoded');
same_multiset(
	$node,
	q{SELECT r.topic, r.partition, r."offset", encode(r.raw, 'hex'), r.sqlstate, r.column_name
		FROM lakehouse.reject r JOIN lakehouse.source s USING (source_id) WHERE s.name = 'typed'},
	'VALUES ' . join(', ', @expected),
	'each is kept with its place, its bytes, the reason and the column');
is($node->safe_psql('postgres', q{SELECT string_agg(id::text, ' ') FROM bronze.typed WHERE key IN ('good', 'bad')}),
	'9', 'nothing of them is stored');

# ---------------------------------------------- fields that have names of parts
produce('{"topic": "names", "key": "k", "timestamp": 1400000000000, "value": {"offset": 5, "timestamp": "later", "value": 3, "topic": "inner"}}');
make_source('names', 'names', '"offset" bigint, inner_offset bigint, "timestamp" text, topic text, value jsonb',
	'{"value_format": "json", "paths": {"inner_offset": "$.offset", "timestamp": "$.timestamp"}}');
is(run('names'), '1|0', 'a path goes before the name of a part');
same_multiset(
	$node,
	'SELECT "offset", inner_offset, "timestamp", topic, value FROM bronze.names',
	q{VALUES (0::bigint, 5::bigint, 'later', 'names', '{"offset": 5, "timestamp": "later", "value": 3, "topic": "inner"}'::jsonb)},
	'parts keep their columns, the whole value may be stored beside its fields');

# ------------------------------------------------------------------- rescued data
produce(
	'{"topic": "rescue", "value": {"id": 1, "extra": {"x": [1]}}}',
	'{"topic": "rescue", "value": {"id": "one", "ID": 4, "_offset": true}}',
	'{"topic": "rescue", "value": {"id": 3}}',
	'{"topic": "rescue", "value": null}');
make_source('rescue', 'rescue', 'id integer, _rescued_data jsonb',
	'{"value_format": "json", "schema_evolution_mode": "rescue"}');
is(run('rescue'), '4|0', 'fields without a column reject nothing');
same_multiset(
	$node,
	'SELECT id, _rescued_data FROM bronze.rescue',
	q{VALUES (1, '{"extra": {"x": [1]}, "_reason": {"extra": "unknown_column"}, "_topic": "rescue", "_partition": 0, "_offset": 0}'::jsonb),
		(NULL, '{"id": "one", "ID": 4, "__offset": true, "_reason": {"id": "type_mismatch", "ID": "case_mismatch", "_offset": "unknown_column"},
			"_topic": "rescue", "_partition": 0, "_offset": 1}'),
		(3, NULL), (NULL, NULL)},
	'they are kept with the reason and their place');
is($node->safe_psql('postgres', "SELECT string_agg(format('%s %s %s', column_name, reason, count), ', ' ORDER BY column_name COLLATE \"C\") FROM lakehouse.rescued_status WHERE source = 'rescue'"),
	'ID case_mismatch 1, _offset unknown_column 1, extra unknown_column 1, id type_mismatch 1', 'and counted by field and reason');
is($node->safe_psql('postgres', "SELECT sum(rescued) FROM lakehouse.load_status WHERE source = 'rescue'"), '2', 'as rows of the load');
is($node->safe_psql('postgres', "SELECT promoted, remaining FROM lakehouse.promote_rescued('bronze.rescue', 'flag', 'bool', field => '_offset'); SELECT promoted FROM lakehouse.promote_rescued('bronze.rescue', 'extra', 'jsonb')"),
	"1|0\n1", 'and can be promoted');
same_multiset(
	$node,
	'SELECT id, flag, extra, _rescued_data FROM bronze.rescue',
	q{VALUES (1, NULL::bool, '{"x": [1]}'::jsonb, NULL::jsonb), (NULL, true, NULL, '{"id": "one", "ID": 4, "_reason": {"id": "type_mismatch", "ID": "case_mismatch"},
			"_topic": "rescue", "_partition": 0, "_offset": 1}'),
		(3, NULL, NULL, NULL), (NULL, NULL, NULL, NULL)},
	'but for what is said of their place');

# ---------------------------- the same as storing the value and decoding it later
my @lines = map {
	my $value = $_ % 7 == 0 ? 'null' : sprintf('{"id": %d, "name": "n%d", "amount": %.2f}', $_, rand(1000), rand(1000));
	qq({"topic": "same", "key": "k$_", "value": $value})
} 1 .. 3000;
my $path = PostgreSQL::Test::Utils::tempdir() . '/messages';
open(my $file, '>', $path) or die "$path: $!";
print $file "$_\n" for @lines;
close($file);
broker_command($broker, "file $path");
make_source('same', 'same', 'id integer, name text, amount numeric, "offset" bigint', '{"value_format": "json"}');
make_source('raw', 'same', 'value text, "offset" bigint', '{}');
is(run('same'), '3000|0', 'many messages');
is(run('raw'), '3000|0', 'the same ones, not decoded');
$node->safe_psql('postgres', 'CREATE TYPE bronze.shape AS (id integer, name text, amount numeric)');
same_multiset(
	$node,
	'SELECT id, name, amount, "offset" FROM bronze.same',
	'SELECT (v).id, (v).name, (v).amount, "offset" FROM (SELECT lakehouse.from_json(value, NULL::bronze.shape) v, "offset" FROM bronze.raw OFFSET 0) r',
	'decoding at once gives what from_json gives later');

# ------------------------------------------- replay: what a table could not take
# What comes back is compared with what a second source reads from the same topic
# into a table that was right from the start.
my $every_part = '"key" %s, value %s, topic text, "partition" integer, "offset" bigint, "timestamp" %s, timestamp_type integer, headers %s';
produce(
	'{"topic": "kept", "partition": 0, "key_hex": "ff00fe", "value": "key is no text", "timestamp": 1400000000000,'
	  . ' "headers": [{"key": "h", "value": "1"}, {"key": "h", "value": null}, {"key": "h", "value": ""}, {"key": "h", "value_hex": "ff00"}, {"key": "", "value": "\u00e4\""}]}',
	'{"topic": "kept", "partition": 1, "key": null, "value": null, "timestamp": 1400000000001, "headers": [{"key": "h", "value": "1"}]}',
	'{"topic": "kept", "partition": 0, "key": "", "value": null, "timestamp": 1400000000002}',
	'{"topic": "kept", "partition": 0, "key": "late", "value": "", "timestamp": 9400000000000000}',
	'{"topic": "kept", "partition": 1, "key": "early", "value": "text", "timestamp": -86400000}',
	'{"topic": "kept", "partition": 0, "key": "good", "value": "text", "timestamp": 1400000000003}',
	'{"topic": "kept", "partition": 1, "key": "nul", "value_hex": "610062", "timestamp": 1400000000004}',
	qq({"topic": "kept", "partition": 1, "key": "name", "value": "text", "timestamp": 1400000000005, "headers": [{"key": "\xff", "value": "\xfe"}]}));
make_source('kept', 'kept', sprintf($every_part, 'text', 'text NOT NULL', 'timestamptz', 'jsonb'), '{}');
is(run('kept'), '2|6', 'messages that the table does not take');
my $positions = q{SELECT string_agg(topic || partition || ':' || position, ' ' ORDER BY partition) FROM lakehouse.kafka_status WHERE source = 'kept'};
is($node->safe_psql('postgres', $positions), 'kept0:4 kept1:4', 'are read');
same_multiset(
	$node,
	q{SELECT "partition", "offset", key, raw, headers, timestamp_ms, timestamp_type, sqlstate FROM lakehouse.reject_status WHERE source = 'kept'},
	q{VALUES (0, 0::bigint, '\xff00fe'::bytea, 'key is no text'::bytea,
		U&'[{"key": "h", "value": "1"}, {"key": "h", "value": null}, {"key": "h", "value": ""}, {"key": "h", "value_base64": "/wA="}, {"key": "", "value": "\00e4\\\\""}]'::jsonb,
		1400000000000, 0, '22021'),
	(1, 0, NULL, NULL, '[{"key": "h", "value": "1"}]', 1400000000001, 0, '23502'),
	(0, 1, '', NULL, NULL, 1400000000002, 0, '23502'), (0, 2, 'late', '', NULL, 9400000000000000, 0, '22008'),
	(1, 2, 'nul', '\x610062', NULL, 1400000000004, 0, '22021'),
	(1, 3, 'name', 'text', '[{"key_base64": "/w==", "value_base64": "/g=="}]', 1400000000005, 0, '22021')},
	'a reject holds all of its message, null apart from empty');

sub replay
{
	my ($name) = @_;
	return $node->safe_psql('postgres', "SELECT * FROM lakehouse.replay_rejects('$name')");
}

# who may see and do what
$node->safe_psql('postgres', q{CREATE ROLE watcher IN ROLE pg_monitor; SELECT lakehouse.grant_use('watcher')});
is($node->safe_psql('postgres', q{SET ROLE watcher; SELECT count(*), count(key), count(raw), count(headers), count(message) FROM lakehouse.reject_status WHERE source = 'kept'}),
	'6|0|0|0|0', 'who may watch sees none of the content');
like(($node->psql('postgres', q{\set VERBOSITY verbose
	SET ROLE watcher; SELECT lakehouse.replay_rejects('kept')}))[2], qr/ERROR:  42501: /, 'and cannot replay');

is(replay('kept'), '0|6|0|0', 'without a fix all stay');
is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.reject_status WHERE source = 'kept' AND state = 'open' AND replayed_at IS NOT NULL}),
	'6', 'and tell that they were tried');
$node->safe_psql('postgres', 'ALTER TABLE bronze.kept ALTER value DROP NOT NULL, ALTER "key" TYPE bytea USING convert_to("key", $$UTF8$$)');
is(replay('kept'), '3|3|0|1', 'those that the new table takes are resolved');
is($node->safe_psql('postgres', q{SELECT string_agg(sqlstate || coalesce(' ' || column_name, ''), ', ' ORDER BY timestamp_ms) FROM lakehouse.reject_status WHERE source = 'kept' AND state = 'open'}),
	'22021 value, 22021 headers, 22008 timestamp', 'the others stay, with their reasons');
$node->safe_psql('postgres', 'ALTER TABLE bronze.kept ALTER value TYPE bytea USING convert_to(value, $$UTF8$$), DROP headers,'
	  . ' ALTER "timestamp" TYPE bigint USING extract(epoch FROM "timestamp") * 1000');
is(replay('kept'), '3|0|0|1', 'until the table takes any message');
make_source('oracle', 'kept', sprintf($every_part, 'bytea', 'bytea', 'bigint', 'jsonb') =~ s/, headers jsonb//r, '{}');
is(run('oracle'), '8|0', 'a table that takes every message');
my $all_parts = '"key", value, topic, "partition", "offset", "timestamp", timestamp_type';
same_multiset($node, "SELECT $all_parts FROM bronze.kept", "SELECT $all_parts FROM bronze.oracle", 'holds the same as the one that was mended');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT t._load_id), min(l.rows) FROM bronze.kept t JOIN lakehouse.load_status l USING (load_id)}
	  =~ s/USING \(load_id\)/ON l.load_id = t._load_id AND l.kind = 'kafka' AND l.source = 'kept'/r), '8|3|2', 'each row leads to its load');
is($node->safe_psql('postgres', $positions), 'kept0:4 kept1:4', 'no position has moved');
is($node->safe_psql('postgres', q{SELECT sum(rows), sum(rejected) FROM lakehouse.kafka_status WHERE source = 'kept'}), '8|0', 'the counts have');
is(run('kept'), '0|0', 'nothing is read again');

# what a former version kept, and what was too long to be kept
produce('{"topic": "kept", "partition": 0, "key": "old", "value": "text"}');
broker_command($broker, 'fill kept 1 1 1100000');
$node->safe_psql('postgres', 'ALTER TABLE bronze.kept ADD CONSTRAINT never CHECK (false) NOT VALID');
is(run('kept'), '0|2', 'two more rejects');
$node->safe_psql('postgres', q{ALTER TABLE bronze.kept DROP CONSTRAINT never; UPDATE lakehouse.reject SET timestamp_type = NULL, timestamp_ms = NULL WHERE key = 'old'});
my ($replay_status, $replay_out, $replay_err) = $node->psql('postgres', q{SELECT * FROM lakehouse.replay_rejects('kept')});
is($replay_out, '0|0|2|0', 'of which nothing can be made');
like($replay_err, qr/WARNING:  1 rejects of source "kept" cannot be replayed\nDETAIL:  Only the beginning.*\nHINT:  Read them from the cluster.*\n.*WARNING:  1 rejects.*\nDETAIL:  They were stored by a version of lakehouse that kept the value/,
	'which is said');

# ------------------------------ replay: decoded values, other options, rescued data
produce(map { sprintf('{"topic": "fixed", "key": "k", "timestamp": 1400000000000, "headers": [{"key": "n", "value": "%d"}], "value": "%s"}',
	$_, qq({\\"id\\": \\"x$_\\", \\"deep\\": {\\"n\\": $_}, \\"_offset\\": 1})) } 0 .. 4);
produce('{"topic": "fixed", "value": "no JSON"}', '{"topic": "fixed", "key": "gone", "value": null}');
my $fixed = 'id integer, n integer NOT NULL, headers jsonb, _rescued_data jsonb';
make_source('fixed', 'fixed', $fixed, '{"value_format": "json"}');
is(run('fixed'), '0|7', 'decoded messages that miss their columns');
$node->safe_psql('postgres', q{SELECT lakehouse.alter_source('fixed', options => '{"value_format": "json", "schema_evolution_mode": "rescue", "paths": {"n": "$.deep.n"}}')});
is(replay('fixed'), '5|2|0|1', 'come back by the options of now');
make_source('fixed_oracle', 'fixed', $fixed, '{"value_format": "json", "schema_evolution_mode": "rescue", "paths": {"n": "$.deep.n"}}');
is(run('fixed_oracle'), '5|2', 'a source that had them from the start');
same_multiset($node, 'SELECT id, n, headers, _rescued_data FROM bronze.fixed', 'SELECT id, n, headers, _rescued_data FROM bronze.fixed_oracle',
	'stored the same, rescued data too');
is($node->safe_psql('postgres', q{SELECT string_agg(rescued::text, ' ') FROM lakehouse.load_status WHERE source IN ('fixed', 'fixed_oracle') AND rows > 0}), '5 5', 'and counted it');
my $rescued = 'SELECT column_name, reason, count FROM lakehouse.rescued_status WHERE source = ';
same_multiset($node, "$rescued 'fixed'", "$rescued 'fixed_oracle'", 'field by field');
my $reasons = q{SELECT "offset", sqlstate, replace(message, '_oracle', ''), column_name FROM lakehouse.reject_status WHERE state = 'open' AND source = };
same_multiset($node, "$reasons 'fixed'", "$reasons 'fixed_oracle'", 'what stays has the reasons of now');

# -------------------------------------- replay beside workers that read on meanwhile
$node->safe_psql('postgres', q{CREATE TABLE bronze.live (value text CHECK (value !~ '[05]$'), "partition" integer, "offset" bigint);
	SELECT lakehouse.create_source('live', server => 'events', target => 'bronze.live', topics => '{live}', trigger => 'continuous', options => '{"workers": 2}')});
my $live = q{SELECT (SELECT count(*) FROM bronze.live) + (SELECT count(*) FROM lakehouse.reject_status WHERE source = 'live' AND state = 'open')};
produce(map { my $n = $_; qq({"topic": "live", "partition": @{[$n % 2]}, "value": "m$n"}) } 1 .. 200);
ok(poll_value($node, $live, '200'), 'workers read all messages');
$node->safe_psql('postgres', 'ALTER TABLE bronze.live DROP CONSTRAINT live_value_check');
for my $round (1 .. 5)
{
	produce(map { my $n = 200 + 20 * ($round - 1) + $_; qq({"topic": "live", "partition": @{[$n % 2]}, "value": "m$n"}) } 1 .. 20);
	$node->safe_psql('postgres', q{SELECT lakehouse.replay_rejects('live', max_records => 8)});
}
ok(poll_value($node, 'SELECT count(*) FROM bronze.live', '300'), 'replays and workers store them all');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT value), count(DISTINCT ("partition", "offset")) FROM bronze.live'), '300|300', 'each once');
$node->safe_psql('postgres', q{SELECT lakehouse.drop_source('live')});

# ------------------------------------------------------------------------ refused
sub refused
{
	my ($columns, $options, $sqlstate, $pattern, $name) = @_;
	$node->safe_psql('postgres', "DROP TABLE IF EXISTS bronze.refused; CREATE TABLE bronze.refused ($columns)");
	my ($status, $out, $err) = $node->psql('postgres', create_sql('refused', 'same', $options),
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  $sqlstate: .*$pattern/s, $name);
	return;
}
refused('id integer', '{"value_format": "jason"}', '22023', 'Did you mean "json"', 'a format that there is not');
refused('id integer', '{}', '42703', 'no column for the value', 'no column for the value, and no format');
refused('"key" text', '{"value_format": "json"}', '42703', 'no column for a field', 'no column for a field');
refused('value text', '{"paths": {"value": "$.x"}}', '22023', 'applies to decoded values only', 'paths without a format');
refused('id integer', '{"value_format": "json", "paths": {"nope": "$.x"}}', '42703', 'names column "nope"', 'a path for no column');
refused('id integer', '{"value_format": "json", "paths": {"id": "x"}}', '22023', '', 'a path that is none');
refused('id integer, p integer', '{"value_format": "json", "paths": {"p": "$.x"}, "columns": {"p": "partition"}}',
	'42P10', 'which a source cannot fill', 'a column for both a path and a part');
refused('id integer', '{"value_format": "json", "schema_evolution_mode": "rescue"}', '42703', '_rescued_data', 'no column for rescued data');
refused('id integer', '{"value_format": "json", "schema_evolution_mode": "addNewColumns"}', '0A000', 'rescue', 'columns are not added');
refused('id integer, _rescued_data jsonb', '{"value_format": "json", "schema_evolution_mode": "addNewColumnsWithTypeWidening"}', '0A000', 'rescue', 'nor widened');
refused('id integer', '{"value_format": "json", "header": true}', '22023', '', 'an option of files');
is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.verify() WHERE NOT ok}), '0', 'verify finds nothing');

stop_broker($broker);
done_testing();
