# Kafka messages whose value is JSON, decoded straight into typed columns: what
# goes where, tombstones, rejects as raw bytes, rescued data, refused options.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('kafka_decode');
my $broker = start_broker('typed:2,names:1,rescue:1,same:1');

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
refused('id integer', '{"value_format": "json", "header": true}', '22023', '', 'an option of files');
is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.verify() WHERE NOT ok}), '0', 'verify finds nothing');

stop_broker($broker);
done_testing();
