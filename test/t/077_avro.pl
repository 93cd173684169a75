# Kafka messages whose value is Avro, written by another implementation: every
# type into typed columns, schemas from the source's option and from a registry,
# a registry that fails in every way, and values and schemas that mean harm.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP ();
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# nothing is asked through a proxy that somebody has set for other programs
$ENV{http_proxy} = $ENV{all_proxy} = 'http://127.0.0.1:1';
my $seed = seed();
my $json = JSON::PP->new->canonical;
my $kafka = "$FindBin::RealBin/../kafka";
plan(skip_all => 'needs Apache Avro for Python (Debian: python3-avro)')
  if system('/usr/bin/python3 -c "import avro.io" 2>/dev/null') != 0;
my $node = lakehouse_node('avro');
my $broker = start_broker('typed:1,text:1,random:2,edge:1,harm:1,flip:2,trouble:1,late:1,refer:1,again:2,other:1,many:1');
my $registry = start_registry();

$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SERVER registered FOREIGN DATA WRAPPER lakehouse_kafka
	OPTIONS ("bootstrap.servers" '$broker->{servers}', "schema.registry.url" 'http://127.0.0.1:$registry->{port}/');
CREATE SCHEMA bronze;
END

# ----------------------------------------------------------------------- helpers
sub start_registry
{
	my $double = { in => '', out => '' };
	$double->{run} = IPC::Run::start([ $^X, "$kafka/registry.pl" ], '<', \$double->{in}, '>', \$double->{out});
	$double->{run}->pump until $double->{out} =~ s/^(.*)\n//;
	$double->{port} = $1;
	return $double;
}

sub registry
{
	return broker_command($registry, $_[0]);
}

sub avro_values
{
	my $out = '';
	IPC::Run::run([ '/usr/bin/python3', "$kafka/avro_values.py", @_ ], '>', \$out) or die 'avro_values.py failed';
	return JSON::PP::decode_json($out);
}

# text makes a JSON string of what holds no control characters
sub text { return '"' . ($_[0] =~ s/(["\\])/\\$1/gr) . '"' }
sub literal { return "'" . ($_[0] =~ s/'/''/gr) . "'" }
sub framed { return sprintf('00%08x%s', @_) }

# put gives the registry a schema under a number.
sub put
{
	my ($id, $schema, $more) = @_;
	registry("put /schemas/ids/$id {\"schema\": " . text($schema) . ($more // '') . '}');
	return;
}

sub produce
{
	my ($topic, @hex) = @_;
	my $path = PostgreSQL::Test::Utils::tempdir() . '/messages';
	open(my $file, '>', $path) or die "$path: $!";
	for my $i (0 .. $#hex)
	{
		print $file qq({"topic": "$topic", "partition": ), ref $hex[$i] ? $hex[$i][0] : 0, ', "key": null, ',
		  defined $hex[$i] ? '"value_hex": "' . (ref $hex[$i] ? $hex[$i][1] : $hex[$i]) . '"' : '"value": null', "}\n";
	}
	close($file);
	broker_command($broker, "file $path");
	return;
}

sub create_sql
{
	my ($name, $topic, $options, %more) = @_;
	return "SELECT lakehouse.create_source('$name', server => '" . ($more{server} // 'registered') . "', target => 'bronze.$name',"
	  . " topics => '{$topic}', trigger => '" . ($more{trigger} // 'available_now') . "', options => " . literal($options) . ')';
}

sub make_source
{
	my ($name, $topic, $columns, $options, %more) = @_;
	$node->safe_psql('postgres', "CREATE TABLE bronze.$name ($columns);" . create_sql($name, $topic, $options, %more));
	return;
}

sub run
{
	my ($name) = @_;
	return $node->safe_psql('postgres', "SELECT rows, rejected FROM lakehouse.run_source('$name')");
}

sub rejects
{
	my ($name) = @_;
	return $node->safe_psql('postgres', qq(SELECT "offset", sqlstate, message FROM lakehouse.reject_status
		WHERE source = '$name' AND state = 'open' ORDER BY "partition", "offset"));
}

# number writes an integer as Avro does.
sub number
{
	my ($n) = @_;
	my $z = $n >= 0 ? $n * 2 : -$n * 2 - 1;
	my $hex = '';
	for (; $z > 127; $z >>= 7)
	{
		$hex .= sprintf('%02x', ($z & 127) | 128);
	}
	return $hex . sprintf('%02x', $z);
}

# ------------------------------------- every type, with the schema of the option
my $typed = avro_values('typed');
my @typed = map { $_->{hex} } @{ $typed->{values} };
my $columns = q{id bigint, name text DEFAULT 'missing', amount numeric(20,2), at timestamptz, day date, clock time, ref uuid,}
  . q{ hash bytea, state text, tags text[], ratio float8, good boolean, city text, address jsonb, other_hash bytea, attributes jsonb,}
  . q{ local timestamp, nanos timestamptz, span interval, extra integer DEFAULT 5, "offset" bigint};
produce('typed', @typed, undef, '', $typed[0] . '00', substr($typed[0], 0, 20));
(my $plain = $typed->{schemas}[0]) =~ s/\\u0000//g;
make_source('typed', 'typed', $columns, qq({"value_format": "avro", "avro_schema": $plain, "paths": {"city": "\$.address.city"}}), server => 'events');
is(run('typed'), '3|3', 'bare values and a tombstone are rows');
my $rows = q{VALUES
	(7::bigint, U&'\00e4 \4e16', -123456789012345678.91, timestamptz '2014-05-13 16:53:20.123456+00', date '1969-12-31', time '23:59:59.999999',
		uuid '01234567-89ab-cdef-0123-456789abcdef', '\x00ff225c'::bytea, 'PAID', ARRAY['a', E'b"\n'], 0.1::float8, true, U&'Z\00fcrich',
		U&'{"zip": 8000, "city": "Z\00fcrich"}'::jsonb, 'abcd'::bytea, '{"x": 1}'::jsonb, timestamp '2014-05-13 16:53:20.123',
		timestamptz '2014-05-13 16:53:20.123457+00', interval '14 months 3 days 1:02:03.004', 5),
	(-9223372036854775808, NULL, 0.05, '2014-05-13 16:53:20.123456+00', '1969-12-31', '23:59:59.999999',
		'01234567-89ab-cdef-0123-456789abcdef', '\x00ff225c', 'PAID', '{}', 'NaN', false, U&'Z\00fcrich',
		U&'{"zip": 8000, "city": "Z\00fcrich"}', NULL, '{}', '1969-12-31 23:59:59.999', '1970-01-01 00:00:00+00', '14 months 3 days 1:02:03.004', 5)};
my $all = 'id, name, amount, at, day, clock, ref, hash, state, tags, ratio, good, city, address, other_hash, attributes, local, nanos, span, extra';
same_multiset($node, "SELECT $all FROM bronze.typed WHERE \"offset\" < 2", $rows, 'every type arrives as what it is');
is($node->safe_psql('postgres', "SELECT num_nulls($all) FROM bronze.typed WHERE \"offset\" = 2"), '20', 'a tombstone is NULL in all of them');
is(rejects('typed'), "3|22P03|Avro value, field \"id\": the value ends too early\n4|22P03|Avro value: 1 bytes follow it\n"
	  . '5|22P03|Avro value, field "amount": the value ends too early', 'what is no value is a reject with the place');
is($node->safe_psql('postgres', "SELECT encode(raw, 'hex') FROM lakehouse.reject_status WHERE source = 'typed' AND \"offset\" = 4"),
	"$typed[0]00", 'and its bytes');
make_source('text', 'typed', 'id bigint, _rescued_data jsonb',
	$json->encode({ value_format => 'avro', avroSchema => $plain, schema_evolution_mode => 'rescue', ending_offsets => { typed => { 0 => 1 } } }), server => 'events');
is(run('text'), '1|0', 'the schema may be text, and the option spelt as elsewhere');
is($node->safe_psql('postgres', q{SELECT id, _rescued_data->>'state', _rescued_data->'_reason'->>'hash', _rescued_data->>'_offset' FROM bronze.text}),
	'7|PAID|unknown_column|0', 'fields without a column are rescued');

# ----------------------------------- any schema, any value, through the registry
my $random = avro_values('random', $seed, 40);
put(100 + $_, $random->{schemas}[$_]) for 0 .. $#{ $random->{schemas} };
my @values = @{ $random->{values} };
produce('random', map { [ $_ % 2, framed(100 + $values[$_]{schema}, $values[$_]{hex}) ] } 0 .. $#values);
my @fields = map { "c$_" } 0 .. 7;
make_source('random', 'random', join(', ', map { "$_ jsonb" } @fields) . ', "partition" integer, "offset" bigint', '{"value_format": "avro"}');
is(run('random'), @values . '|0', 'values of random schemas');
$node->safe_psql('postgres', 'CREATE TABLE expected (' . join(', ', map { "$_ jsonb" } @fields) . ', "partition" integer, "offset" bigint);'
	  . 'INSERT INTO expected VALUES ' . join(', ', map {
		my $text = literal($values[$_]{expect});
		'(' . join(', ', map { "($text\::jsonb)->'$_'" } @fields) . ', ' . ($_ % 2) . ', ' . int($_ / 2) . ')' } 0 .. $#values));
# a member that is null is NULL in its column
$node->safe_psql('postgres', "UPDATE expected SET $_ = NULL WHERE $_ = 'null'") for @fields;
my $fields = join(', ', @fields) . ', "partition", "offset"';
same_multiset($node, "SELECT $fields FROM bronze.random", "SELECT $fields FROM expected", 'arrive as Apache Avro reads them');
my @asked = split / /, registry('asked');
is(scalar(@asked), scalar(@{ $random->{schemas} }), 'each schema was asked for once');

# -------------------------------------------------------------- values at the edge
my $edge = '{"type": "record", "name": "edge", "fields": [%s]}';
put(200, sprintf($edge, '{"name": "d", "type": {"type": "int", "logicalType": "date"}}, {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "s", "type": "string"}'));
produce('edge', map { framed(200, $_) }
	number(-719163) . number(-62135596800000001) . number(0),        # 31 December of the year 1 BC
	number(2932897) . number(253402300800000000) . number(0),         # 1 January 10000
	number(2145042905) . number(0) . number(0),                       # the last and the first days that there are
	number(2145042906) . number(0) . number(0),
	number(-2440588) . number(0) . number(0),
	number(-2440589) . number(0) . number(0),
	number(0) . 'ff' x 9 . '01' . number(0),                          # the first microsecond of 64 bits
	number(0) . number(0) . number(1) . 'ff',                         # no UTF-8
	number(0) . number(0) . number(3) . '610062');                    # a character that no text holds
make_source('edge', 'edge', 'd date, t timestamptz, s text', '{"value_format": "avro"}');
is(run('edge'), '4|5', 'dates and times at the edge');
same_multiset($node, 'SELECT d, t, s FROM bronze.edge', q{VALUES (date '0001-12-31 BC', timestamptz '0001-12-31 23:59:59.999999+00 BC', ''),
	('10000-01-01', '10000-01-01 00:00:00+00', ''), ('5874897-12-31', '1970-01-01 00:00:00+00', ''), ('4714-11-24 BC', '1970-01-01 00:00:00+00', '')},
	'arrive where PostgreSQL has them');
is(rejects('edge'), <<'END' =~ s/\n\z//r, 'and are rejects where it has not');
3|22008|Avro value, field "d": a date or time is out of range
5|22008|Avro value, field "d": a date or time is out of range
6|22008|Avro value, field "t": a date or time is out of range
7|22021|Avro value, field "s": a string is not UTF-8
8|22P05|\u0000 cannot be converted to text
END

# --------------------------------------------------------------- values that harm
my $list = '{"type": "record", "name": "list", "fields": [{"name": "next", "type": ["null", "list"]}]}';
put(300, $list);
put(301, sprintf($edge, '{"name": "a", "type": {"type": "array", "items": "null"}}'));
put(302, sprintf($edge, '{"name": "a", "type": {"type": "array", "items": "long"}}'));
put(303, sprintf($edge, '{"name": "m", "type": {"type": "map", "values": "bytes"}}'));
put(304, sprintf($edge, '{"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A"]}}, {"name": "u", "type": ["null", "boolean"]}'));
put(305, '{"type": "record", "name": "endless", "fields": [{"name": "a", "type": "endless"}, {"name": "b", "type": "endless"}]}');
put(306, sprintf($edge, '{"name": "x", "type": {"type": "fixed", "name": "x", "size": 2000000000}}'));
put(307, sprintf($edge, '{"name": "x", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}}'));
my $doubled = '"null"';
for my $level (1 .. 60)
{
	my $inner = $level == 1 ? $doubled : qq({"type": "record", "name": "d@{[$level - 1]}", "fields": $doubled});
	$doubled = qq([{"name": "a", "type": $inner}, {"name": "b", "type": ) . ($level == 1 ? '"null"' : '"d' . ($level - 1) . '"') . '}]';
}
put(308, qq({"type": "record", "name": "d60", "fields": $doubled}));
my @harm = (
	[ 300, '02' x 100000, 'Avro value, field "next.next.next.next.next.next": records, arrays and maps are nested too deep' ],
	[ 301, number(2**62) . '00', 'Avro value, field "a": the value is longer as text than lakehouse.max_record_size' ],
	[ 301, 'ff' x 9 . '01' . '00' . '00', 'Avro value, field "a": a block has too many elements' ],
	[ 302, number(2**62) . '0000', 'Avro value, field "a": the value ends too early' ],
	[ 302, number(-3) . number(2**62) . '00', 'Avro value, field "a": the value ends too early' ],
	[ 302, number(-1) . number(-5) . '00', 'Avro value, field "a": a length is negative' ],
	[ 302, 'ff' x 12, 'Avro value, field "a": a number has more than 64 bits' ],
	[ 303, number(1) . number(2**40), 'Avro value, field "m": the value ends too early' ],
	[ 303, number(1) . number(1) . '61' . number(-1), 'Avro value, field "m": a length is negative' ],
	[ 304, number(1) . '00', 'Avro value, field "e": an enum has no such symbol' ],
	[ 304, number(-1) . '00', 'Avro value, field "e": an enum has no such symbol' ],
	[ 304, '0004', 'Avro value, field "u": a union has no such branch' ],
	[ 304, '000202', 'Avro value, field "u": a boolean is neither 0 nor 1' ],
	[ 305, '', 'Avro value, field "a.a.a.a.a.a": records, arrays and maps are nested too deep' ],
	[ 306, '00', 'Avro value, field "x": the value ends too early' ],
	[ 307, '00', 'Avro value, field "x": a decimal has no bytes' ],
	[ 307, number(600) . '01' x 600, 'Avro value, field "x": a decimal has more than 512 bytes' ],
	[ 308, '', 'longer as text than lakehouse.max_record_size' ]);
produce('harm', (map { framed($_->[0], $_->[1]) } @harm),
	'01000000c8', '0000', '0080000001', framed(304, '000201'), framed(302, number(-2) . number(2) . '0204' . number(1) . '0600'));
make_source('harm', 'harm', 'u boolean, a jsonb, "offset" bigint', '{"value_format": "avro"}');
is($node->safe_psql('postgres', "SET lakehouse.max_record_size = '1MB'; SELECT rows, rejected FROM lakehouse.run_source('harm')"),
	'2|' . (@harm + 3), 'values that mean harm are rejects, the others rows');
my @messages = map { (split /\|/, $_, 3)[2] } split /\n/, rejects('harm');
for my $i (0 .. $#harm)
{
	like($messages[$i], qr/\Q$harm[$i][2]\E$/, "$harm[$i][0]: $harm[$i][2]");
}
is($messages[$_], 'value does not begin with a byte 0 and the number of a schema', 'a value without a schema') for @harm .. @harm + 2;
is($node->safe_psql('postgres', q{SELECT string_agg(concat(u, a), ' ' ORDER BY "offset") FROM bronze.harm}), 't [1, 2, 3]', 'blocks may tell their size');

# damaged values: each is a row or a reject, and nothing breaks
my @flipped;
for my $i (0 .. 599)
{
	my $value = $values[rand @values];
	my $bytes = pack('H*', $value->{hex});
	for (0 .. int(rand(3)))
	{
		my $kind = rand;
		my $at = int(rand(length($bytes) || 1));
		if ($kind < 0.5 && length $bytes) { substr($bytes, $at, 1) = chr(int(rand(256))) }
		elsif ($kind < 0.7) { $bytes = substr($bytes, 0, $at) }
		else { $bytes = substr($bytes, 0, $at) . join('', map { chr(int(rand(256))) } 0 .. rand(9)) . substr($bytes, $at) }
	}
	push @flipped, [ $i % 2, framed(100 + $value->{schema}, unpack('H*', $bytes)) ];
}
produce('flip', @flipped);
make_source('flip', 'flip', join(', ', map { "$_ jsonb" } @fields) . ', "partition" integer, "offset" bigint', '{"value_format": "avro"}');
my ($good, $bad) = split /\|/, run('flip');
is($good + $bad, 600, "damaged values: $good rows, $bad rejects");
is($node->safe_psql('postgres', q{SELECT count(DISTINCT ("partition", "offset")), string_agg(DISTINCT state, ' ') FROM (SELECT "partition", "offset", 'row' state FROM bronze.flip
	UNION ALL SELECT "partition", "offset", 'row' FROM lakehouse.reject_status WHERE source = 'flip') x}), '600|row', 'each is one of them');

# ----------------------------------------------------- schemas that are no schemas
sub nested
{
	my ($levels) = @_;
	return '{"type": "array", "items": ' x $levels . '"null"' . '}' x $levels;
}
my @bad_schemas = (
	[ '{"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "array"}}]}', 'field "a": type "array" has no "items"' ],
	[ '{"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}, {"name": "a", "type": "int"}]}', 'field "a" is defined twice' ],
	[ '{"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "record", "name": "s", "fields": [{"name": "b", "type": "strng"}]}}]}',
		'field "a.b": type "strng" is not defined' ],
	[ '{"type": "record", "name": "r", "fields": [{"name": "a", "type": [["null"]]}]}', 'field "a": a union stands directly in a union' ],
	[ '{"type": "record", "name": "r", "fields": 1}', 'a record has no array of fields' ],
	[ '{"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "fixed", "name": "r", "size": 1}}]}', 'field "a": type "r" is defined twice' ],
	[ '{"type": "record", "name": "r", "fields": [{"name": "a", "type": ' . nested(99) . '}]}', 'field "a": types are nested deeper than 100 levels' ],
	[ nested(5000), 'JSON is nested deeper than 1000 levels' ],
	[ '{"type": "record", "name": "r", "fields": [' . join(',', map { qq({"name": "f$_", "type": "int"}) } 1 .. 60000) . ']}', 'the schema has more than 50000 types' ],
	[ '{"type": "record", "name": "r", "fields": [' . join(',', map { qq({"name": "f$_", "type": {"type": "fixed", "name": "x$_", "size": 0}}) } 1 .. 1001) . ']}',
		'field "f1000": the schema defines more than 1000 names' ],
	[ '{"type": "record", ', 'invalid JSON at byte 19' ]);
put(500 + $_, $bad_schemas[$_][0]) for 0 .. $#bad_schemas;
put(530, '"long"');
put(531, 'syntax = "proto3";', ', "schemaType": "PROTOBUF"');
produce('other', map { framed($_, '00') } 500 .. 500 + $#bad_schemas, 530, 531, 532);
make_source('other', 'other', 'a text, "offset" bigint', '{"value_format": "avro"}');
is(run('other'), '0|' . (@bad_schemas + 3), 'values whose schema is of no use are rejects');
@messages = map { (split /\|/, $_, 2)[1] } split /\n/, rejects('other');
for my $i (0 .. $#bad_schemas)
{
	like($messages[$i], qr/\|schema 5\d\d of the registry is no Avro schema: \Q$bad_schemas[$i][1]\E/, $bad_schemas[$i][1]);
}
is($messages[@bad_schemas], '22023|schema 530 of the registry is not that of a record', 'a schema of no record');
is($messages[ @bad_schemas + 1 ], '42804|schema 531 of the registry is of another type than AVRO', 'a schema of Protobuf');
is($messages[ @bad_schemas + 2 ], '42704|schema 532 is not in the registry', 'a schema that is not there');
put(532, sprintf($edge, '{"name": "a", "type": "string"}'));
is($node->safe_psql('postgres', q{SELECT replayed FROM lakehouse.replay_rejects('other')}), '1', 'comes back when it is registered');
is($node->safe_psql('postgres', 'SELECT a, "offset" FROM bronze.other'), '|' . (@bad_schemas + 2), 'as its row');

# references
my %part = (inner => '{"type": "record", "name": "inner", "namespace": "p", "fields": [{"name": "x", "type": "int"}]}',
	'mid/dle' => '{"type": "record", "name": "middle", "namespace": "p", "fields": [{"name": "i", "type": "inner"}]}');
registry('put /subjects/inner/versions/3 {"schema": ' . text($part{inner}) . '}');
registry('put /subjects/mid%2Fdle/versions/1 {"schema": ' . text($part{'mid/dle'}) . ', "references": [{"name": "p.inner", "subject": "inner", "version": 3}]}');
put(600, '{"type": "record", "name": "outer", "namespace": "q", "fields": [{"name": "m", "type": "p.middle"}, {"name": "i", "type": "p.inner"}]}',
	', "references": [{"name": "p.middle", "subject": "mid/dle", "version": 1}, {"name": "p.inner", "subject": "inner", "version": 3}]');
for my $i (1 .. 12)
{
	registry(qq(put /subjects/loop$i/versions/1 {"schema": "\\"int\\"", "references": [{"subject": "loop@{[$i + 1]}", "version": 1}]}));
}
put(601, $part{inner}, ', "references": [{"subject": "loop1", "version": 1}]');
put(602, $part{inner}, ', "references": [{"subject": "gone", "version": 1}]');
put(603, $part{inner}, ', "references": [' . join(',', map { qq({"subject": "inner", "version": $_}) } 1 .. 60) . ']');
produce('refer', framed(600, number(7) . number(8)), framed(601, '00'), framed(602, '00'), framed(603, '00'));
make_source('refer', 'refer', 'm jsonb, i jsonb', '{"value_format": "avro"}');
is(run('refer'), '1|3', 'schemas that refer to others');
is($node->safe_psql('postgres', 'SELECT m, i FROM bronze.refer'), '{"i": {"x": 7}}|{"x": 8}', 'are read with them');
is(rejects('refer'), "1|54001|schema 601 of the registry refers to too many others\n2|42704|schema 602 of the registry refers to one that is not there\n"
	  . '3|54001|schema 603 of the registry refers to too many others', 'or not at all');

# ---------------------------------------------------- new schemas within the stream
put(700 + $_, sprintf($edge, qq({"name": "n", "type": "int"}, {"name": "s$_", "type": "string", "default": ""}))) for 0 .. 3;
registry('asked');
produce('again', map { [ $_ % 2, framed(700 + int($_ / 1500), number($_) . number(1) . '78') ] } 0 .. 5999);
make_source('again', 'again', 'n integer, s0 text, s2 text, "partition" integer, "offset" bigint', '{"value_format": "avro"}', trigger => 'continuous');
ok(poll_value($node, 'SELECT count(*) FROM bronze.again', '6000'), 'a worker reads values whose schemas change');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT n), sum(n), count(s0), count(s2), count(DISTINCT ("partition", "offset")) FROM bronze.again}),
	'6000|17997000|1500|1500|6000', 'each once, by its own schema');
is(join(' ', sort(split / /, registry('asked'))), join(' ', map { "/schemas/ids/70$_" } 0 .. 3), 'each schema was asked for once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.reject_status WHERE source = 'again'}), '0', 'and nothing is a reject');

# --------------------------------------------------- a registry that does not answer
registry('mode silent');
put(710, sprintf($edge, '{"name": "n", "type": "int"}'));
produce('again', framed(700, number(6000) . '00'), framed(710, number(6001)), framed(700, number(6002) . '00'));
my $pid = worker_pid($node, 'again');
wait_until(sub { registry('asked') =~ /710/ }, 60) or fail('the worker has asked');
is($node->safe_psql('postgres', "SELECT coalesce(xact_start::text, 'none') FROM pg_stat_activity WHERE pid = $pid"), 'none',
	'no transaction is open while a worker waits for the registry');
# meanwhile: what is refused
sub refused
{
	my ($sql, $sqlstate, $pattern, $name) = @_;
	my ($psql_status, $psql_out, $psql_err) = $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($psql_err, qr/ERROR:  $sqlstate: .*$pattern/s, $name);
	return;
}
$node->safe_psql('postgres', 'CREATE TABLE bronze.refused (id bigint)');
my $record = '{"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}]}';
refused(create_sql('refused', 'typed', '{"value_format": "avro"}', server => 'events'), '22023', 'need a schema.*HINT:  Use ALTER SERVER', 'no schema');
refused(create_sql('refused', 'typed', qq({"value_format": "json", "avro_schema": $record})), '22023', 'does not apply to values in format "json"', 'a schema for JSON');
refused(create_sql('refused', 'typed', qq({"avro_schema": $record})), '22023', 'applies to decoded values only', 'a schema without a format');
refused(create_sql('refused', 'typed', '{"value_format": "avro", "avro_schema": "long"}'), '22023', 'is no Avro schema.*DETAIL:  invalid JSON at byte', 'text that is no JSON');
refused(create_sql('refused', 'typed', '{"value_format": "avro", "avro_schema": {"type": "long"}}'), '22023', 'is not the schema of a record', 'no record');
refused(create_sql('refused', 'typed', '{"value_format": "avro", "avro_schema": {"type": "record", "name": "r", "fields": [{"name": "a", "type": "lnog"}]}}'),
	'22023', 'is no Avro schema.*DETAIL:  field "a": type "lnog" is not defined', 'an unknown type');
refused(create_sql('refused', 'typed', '{"value_format": "avor"}'), '22023', 'Did you mean "avro"', 'a wrong format');
refused(qq(ALTER SERVER events OPTIONS (ADD "schema.registry.url" '$_')), 'HV024', 'HINT:  W', "URL $_")
  for 'ftp://h/', 'file:///etc/passwd', 'http://', 'http:///x', 'http://u:p@h/', 'http://h/ x', 'http://h/?a=b', 'h:8081';
refused(q{ALTER SERVER events OPTIONS (ADD "schema.registry.password" 'x')}, 'HV00D', 'CREATE USER MAPPING', 'a password in the server');
refused(q{ALTER SERVER events OPTIONS (ADD "schema.registry.ssl.ca.pem" 'x')}, 'HV024', 'PEM', 'certificates that are none');
refused(q{ALTER SERVER events OPTIONS (ADD "schema.registry.uri" 'x')}, 'HV00D', 'Did you mean "schema.registry.url"', 'a wrong name');
ok(poll_value($node, q{SELECT state || ' ' || sqlstate FROM lakehouse.source_status WHERE name = 'again'}, 'failing 08006'), 'what is wrong is shown');
like($node->safe_psql('postgres', q{SELECT error FROM lakehouse.source_status WHERE name = 'again'}),
	qr/^the schema registry of server "registered" gives no answer: /, 'by name');
registry('mode good');
ok(poll_value($node, 'SELECT count(*) FROM bronze.again', '6003'), 'and it goes on by itself');
is($node->safe_psql('postgres', q{SELECT sum(n), count(DISTINCT ("partition", "offset")) FROM bronze.again}), '18015003|6003', 'with every message, once');
$node->safe_psql('postgres', q{SELECT lakehouse.drop_source('again')});
make_source('bounded', 'again', 'n integer, "partition" integer, "offset" bigint', '{"value_format": "avro"}');
is(run('bounded'), '6003|0', 'a run reads them, too');
same_multiset($node, 'SELECT n, "partition", "offset" FROM bronze.bounded', 'SELECT n, "partition", "offset" FROM bronze.again', 'and stores the same');

put(720, sprintf($edge, '{"name": "n", "type": "int"}'));
produce('trouble', framed(720, number(1)), framed(720, number(2)));
make_source('trouble', 'trouble', 'n integer', '{"value_format": "avro"}');
my $stranger = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "listen: $!";
my $elsewhere = 'http://127.0.0.1:' . $stranger->sockport . '/schemas/ids/720';
for my $trouble (
	[ 'mode status 500', '08P01', 'answers with HTTP status 500' ],
	[ 'mode status 404', '08P01', 'answers with HTTP status 404' ],
	[ 'mode status 401', '28000', 'refuses the credentials' ],
	[ 'mode page', '08P01', 'what answers at the URL' ],
	[ 'mode page404', '08P01', 'answers with HTTP status 404' ],
	[ "mode redirect $elsewhere", '08P01', 'redirects are not followed' ],
	[ 'mode redirect file:///etc/passwd', '08P01', 'redirects are not followed' ],
	[ 'mode endless', '08006', 'its answer is too long' ],
	[ 'mode long 5000000', '08006', 'its answer is too long' ],
	[ 'mode cut', '08006', 'gives no answer' ],
	[ 'down', '08006', 'gives no answer' ])
{
	registry($trouble->[0]);
	my ($status, $out, $err) = $node->psql('postgres', q{SELECT * FROM lakehouse.run_source('trouble')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  $trouble->[1]: the schema registry of server "registered" is? ?.*$trouble->[2]|ERROR:  $trouble->[1]: .*$trouble->[2]/, $trouble->[0]);
}
ok(!IO::Select->new($stranger)->can_read(0), 'nobody else was asked');
is($node->safe_psql('postgres', q{SELECT sum(position), (SELECT count(*) FROM lakehouse.reject_status WHERE source = 'trouble') FROM lakehouse.kafka_status WHERE source = 'trouble'}),
	'0|0', 'nothing was read and nothing rejected');
registry('up');
registry('mode auth me:secret"word');
$node->safe_psql('postgres', q{CREATE USER MAPPING FOR CURRENT_USER SERVER registered OPTIONS ("schema.registry.username" 'me', "schema.registry.password" 'secretwor')});
my ($status, $out, $err) = $node->psql('postgres', q{SELECT * FROM lakehouse.run_source('trouble')});
like($err, qr/refuses the credentials \(HTTP status 401\)/, 'a wrong password');
unlike($err . slurp_file($node->logfile), qr/secretwor(?!')/, 'which stands nowhere');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR CURRENT_USER SERVER registered OPTIONS (SET "schema.registry.password" 'secret"word')});
is(run('trouble'), '2|0', 'and with the right one every message arrives');
registry('mode good');

# ----------------------------------------------------------------- an encrypted one
my $keys = PostgreSQL::Test::Utils::tempdir();
IPC::Run::run([ 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', 2, '-subj', '/CN=registry', '-addext', 'subjectAltName=IP:127.0.0.1',
		'-keyout', "$keys/key", '-out', "$keys/certificate" ], '>', '/dev/null', '2>', '/dev/null') or die 'openssl req';
mkdir "$keys/$_" or die "$keys/$_: $!" for 'schemas', 'schemas/ids';
append_to_file("$keys/schemas/ids/720", "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"schema\": "
	  . text(sprintf($edge, '{"name": "n", "type": "int"}')) . '}');
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $secure = IPC::Run::start([ 'openssl', 's_server', '-quiet', '-HTTP', '-accept', "127.0.0.1:$port", '-key', "$keys/key", '-cert', "$keys/certificate" ],
	'<', \my $nothing, '>', \my $said, '2>', \my $complained, init => sub { chdir $keys });
wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }, 30) or die 'openssl s_server';
$node->safe_psql('postgres', qq(CREATE SERVER encrypted FOREIGN DATA WRAPPER lakehouse_kafka
	OPTIONS ("bootstrap.servers" '$broker->{servers}', "schema.registry.url" 'https://127.0.0.1:$port')));
make_source('encrypted', 'trouble', 'n integer', '{"value_format": "avro"}', server => 'encrypted');
($status, $out, $err) = $node->psql('postgres', q{SELECT * FROM lakehouse.run_source('encrypted')});
like($err, qr/schema registry of server "encrypted" gives no answer: SSL/, 'a certificate that nobody trusts');
$node->safe_psql('postgres', q{ALTER SERVER encrypted OPTIONS (ADD "schema.registry.ssl.ca.pem" } . literal(slurp_file("$keys/certificate")) . ')');
is(run('encrypted'), '2|0', 'one that the server names');
$secure->kill_kill;

is($node->safe_psql('postgres', q{SELECT count(*) FROM lakehouse.verify() WHERE NOT ok}), '0', 'verify finds nothing');

stop_broker($registry);
stop_broker($broker);
done_testing();
