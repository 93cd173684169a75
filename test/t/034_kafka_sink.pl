# Flows whose rows leave as messages: a topic of events has every new row once,
# in the order of the runs; a topic of results, read to its end, gives for each
# key what the query gives, whatever was inserted, updated, deleted and truncated.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $node = lakehouse_node('kafka_sink');
my $broker = start_broker('events:3,totals:3,pairs:1,names:1,again:1,other:1,late:2');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(<<"END");
CREATE SERVER cluster FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
CREATE SCHEMA gold;
CREATE TYPE total_key AS (user_id integer, place text);
CREATE TABLE bronze.login (id bigint GENERATED ALWAYS AS IDENTITY, user_id integer, place text, minutes numeric);
SELECT lakehouse.create_flow('total', target => 'gold.total', mode => 'aggregate', streaming => '{bronze.login}',
  query => 'SELECT user_id, place, count(*) AS n, sum(minutes) AS minutes FROM bronze.login GROUP BY user_id, place');
SELECT lakehouse.create_flow('events', mode => 'kafka', server => 'cluster', topic => 'events', keys => '{user_id}',
  except_columns => '{place}', query => 'SELECT id, user_id, place, minutes FROM bronze.login');
SELECT lakehouse.create_flow('totals', mode => 'upsert_kafka', server => 'cluster', topic => 'totals', keys => '{user_id,place}',
  query => 'SELECT * FROM gold.total');
END

sub all_sent
{
	my ($name) = @_;
	return ok(poll_value($node, q{SELECT (SELECT count(*) FROM lakehouse.outbox) || ' ' || (SELECT count(*) FROM lakehouse.pending)}, '0 0'), $name);
}

# reads a topic from where it was left into bronze.m_TOPIC
sub read_topic
{
	my ($topic) = @_;
	sql("CREATE TABLE bronze.m_$topic (key text, value jsonb, \"partition\" integer, \"offset\" bigint);"
		  . "SELECT lakehouse.create_source('m_$topic', server => 'cluster', target => 'bronze.m_$topic', topics => '{$topic}')")
	  if sql("SELECT to_regclass('bronze.m_$topic') IS NULL") eq 't';
	sql("SELECT lakehouse.run_source('m_$topic')");
	return;
}

# the last message of each key of a topic that is no tombstone
sub state_of
{
	my ($topic) = @_;
	return qq{SELECT key, value FROM (SELECT DISTINCT ON ("partition", key) key, value FROM bronze.m_$topic ORDER BY "partition", key, "offset" DESC) s WHERE value IS NOT NULL};
}

my $rounds = 8;
for my $round (1 .. $rounds)
{
	sql(sprintf('INSERT INTO bronze.login (user_id, place, minutes) SELECT nullif((random() * 12)::integer, 0), chr(97 + (random() * 3)::integer), round((random() * 90)::numeric, 2) FROM generate_series(1, %d)',
			1 + rand(60)))
	  for 1 .. 1 + rand(3);
	sql('UPDATE bronze.login SET minutes = minutes + 1, user_id = (user_id + 1) % 13 WHERE random() < 0.1') if rand() < 0.7;
	sql('DELETE FROM bronze.login WHERE user_id = ' . int(rand(13))) if rand() < 0.7;
	sql('TRUNCATE bronze.login') if $round == $rounds - 2;
	sql('SELECT lakehouse.run()');
	# not each time: several runs may wait in the outbox together
	next if $round < $rounds && rand() < 0.4;
	all_sent("round $round: everything is sent");
	read_topic('totals');
	same_multiset(
		$node,
		state_of('totals'),
		q{SELECT row_to_json(ROW(user_id, place)::total_key)::text, to_jsonb(t) - '_load_id' FROM gold.total t},
		"round $round: the topic of results gives the table");
}
cmp_ok(sql('SELECT count(*) FROM bronze.m_totals WHERE value IS NULL'), '>', 0, 'some keys went away with a tombstone');

# every row that was ever inserted is an event, updated ones once more for each update
read_topic('events');
is(sql(q{SELECT count(*) FROM bronze.login l WHERE NOT EXISTS (SELECT FROM bronze.m_events m
	WHERE m.value = to_jsonb(l) - '_load_id' - 'place' AND m.key IS NOT DISTINCT FROM coalesce(l.user_id::text, '{"user_id":null}'))}),
	0, 'every row that is there is an event, with its key, without the column that was excepted');
is(sql(q{SELECT bool_and(value ?& '{id,user_id,minutes}' AND NOT value ? 'place') FROM bronze.m_events}), 't', 'events have the columns of the query');
is(sql(q{SELECT count(*) FROM lakehouse.verify() WHERE NOT ok}), 0, 'verify finds nothing');
is(sql(q{SELECT string_agg(name || ' ' || mode || ' ' || technique || ' ' || server || ' ' || topic || ' ' || target, ', ' ORDER BY name)
	FROM lakehouse.flow_status WHERE server IS NOT NULL}),
	'events kafka direct cluster events lakehouse.outbox, totals upsert_kafka recompute cluster totals lakehouse.outbox', 'flow_status shows where they go');
is(sql(q{SELECT value FROM lakehouse.explain_flow('totals') WHERE item = 'target'}), 'topic totals of server cluster', 'explain_flow too');

# a key that is one column is its text; bytes stay bytes
sql(<<'END');
CREATE TABLE bronze.word (word text, raw bytea, n integer, at timestamptz);
SELECT lakehouse.create_flow('names', mode => 'upsert_kafka', server => 'cluster', topic => 'names', keys => '{raw}', except_columns => '{raw}',
  streaming => '{bronze.word}', query => 'SELECT raw, word, n, at FROM bronze.word');
INSERT INTO bronze.word VALUES (U&'\00e4 "x"', '\x6b31', 1, '2020-02-03 04:05:06+01'), ('b', '\x6b32', 2, NULL);
SELECT lakehouse.run();
DELETE FROM bronze.word WHERE n = 2;
SELECT lakehouse.run();
END
all_sent('names are sent');
read_topic('names');
same_multiset($node, 'SELECT key, value FROM bronze.m_names',
	q{VALUES ('k1', jsonb_build_object('word', U&'\00e4 "x"', 'n', 1, 'at', '2020-02-03T03:05:06+00:00')),
		('k2', '{"word": "b", "n": 2, "at": null}'::jsonb), ('k2', NULL)},
	'keys, values and a tombstone');

# two rows of one key
sql(q{INSERT INTO bronze.word VALUES ('c', '\x6b31', 3, NULL)});
my ($status, $out, $err) = $node->psql('postgres', q{SELECT lakehouse.run_flow('names')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($err, qr/ERROR:  21000: query of flow "names" gives more than one row for a key.*DETAIL:  The key is k1/s, 'two rows of one key are an error that names it');
is(sql('SELECT count(*) FROM lakehouse.outbox'), 0, 'and nothing of that run is sent');
sql(q{DELETE FROM bronze.word WHERE n = 3; SELECT lakehouse.run_flow('names')});

# replaced: another topic gets everything that is there
sql(<<'END');
SELECT lakehouse.create_flow('names', mode => 'upsert_kafka', server => 'cluster', topic => 'other', keys => '{raw}', except_columns => '{raw}',
  query => 'SELECT raw, word, n, at FROM bronze.word', replace => true);
SELECT lakehouse.run();
END
all_sent('the other topic is sent');
read_topic('other');
is(sql(q{SELECT count(*) FILTER (WHERE value IS NOT NULL) FROM bronze.m_other}), 1, 'a new topic of a flow gets what is there');
sql(q{SELECT lakehouse.drop_flow('names')});

# ------------------------------------------------------- in the background
sql(<<'END');
CREATE TABLE bronze.late (user_id integer, amount integer, "offset" bigint, "partition" integer);
SELECT lakehouse.create_source('late', server => 'cluster', target => 'bronze.late', topics => '{late}', trigger => 'continuous',
  options => '{"value_format": "json"}');
SELECT lakehouse.create_flow('late_total', target => 'gold.late_total', mode => 'aggregate',
  query => 'SELECT user_id, count(*) AS n, sum(amount) AS amount FROM bronze.late GROUP BY user_id');
SELECT lakehouse.create_flow('late_out', mode => 'upsert_kafka', server => 'cluster', topic => 'again', keys => '{user_id}',
  query => 'SELECT user_id, n, amount FROM gold.late_total');
END
broker_command($broker, sprintf('produce {"topic": "late", "partition": %d, "value": {"user_id": %d, "amount": %d}}', rand(2), rand(20), rand(100))) for 1 .. 300;
ok(poll_value($node, q{SELECT (SELECT sum(n) FROM gold.late_total) || ' ' || (SELECT count(*) FROM lakehouse.pending) || ' ' || (SELECT count(*) FROM lakehouse.outbox)}, '300 0 0'),
	'messages pass through bronze, gold and the outbox by themselves');
read_topic('again');
same_multiset($node, state_of('again'), q{SELECT user_id::text, jsonb_build_object('user_id', user_id, 'n', n, 'amount', amount) FROM gold.late_total},
	'the topic of results is the gold table');

# ------------------------------------------------------------------- refused
sub refused
{
	my ($arguments, $sqlstate, $pattern, $name) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.create_flow('refused', $arguments)",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  $sqlstate: .*$pattern/s, $name);
	return;
}
my $query = q{query => 'SELECT id, user_id FROM bronze.login'};
refused("$query, mode => 'kafka'", '22023', 'needs a server and a topic', 'no server');
refused("$query, mode => 'kafka', server => 'cluster'", '22023', 'needs a server and a topic', 'no topic');
refused("$query, mode => 'kafka', server => 'cluster', topic => 'a b'", '22023', 'cannot be the name', 'no name of a topic');
refused("$query, mode => 'kafka', server => 'nowhere', topic => 't'", '42704', 'does not exist', 'no such server');
refused("$query, target => 'gold.x', server => 'cluster', topic => 't'", '22023', '"target" does not apply', 'a target');
refused("$query, target => 'gold.x', mode => 'append', topic => 't'", '22023', '"topic" does not apply', 'a topic for another mode');
refused("$query, mode => 'upsert_kafka', server => 'cluster', topic => 't'", '22023', 'no GROUP BY to take its keys from', 'no keys');
refused("$query, mode => 'upsert_kafka', server => 'cluster', topic => 't', keys => '{nope}'", '42703', 'key column "nope"', 'a key that is no column');
refused("$query, mode => 'kafka', server => 'cluster', topic => 't', sequence_by => '{id}'", '22023', 'does not apply', 'a sequence');
refused("query => 'DELETE FROM bronze.login', server => 'cluster', topic => 't'", '22023', 'does not apply to mode sql', 'a statement');
sql('CREATE ROLE poor LOGIN; GRANT ALL ON SCHEMA bronze TO poor; GRANT ALL ON bronze.login TO poor');
sql(q{SELECT lakehouse.grant_use('poor')});
my ($s, $o, $e) = $node->psql('postgres', "SET ROLE poor; SELECT lakehouse.create_flow('refused', $query, mode => 'kafka', server => 'cluster', topic => 't')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($e, qr/ERROR:  42501: permission denied for foreign server cluster/, 'who may not use the server cannot send to it');

$node->stop;
stop_broker($broker);
done_testing();
