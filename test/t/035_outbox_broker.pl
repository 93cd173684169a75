# Sending to Apache Kafka itself: from Kafka through bronze and gold to Kafka,
# compression, what the broker refuses, credentials, privileges that are lost,
# a copied database.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $login = 'org.apache.kafka.common.security.plain.PlainLoginModule required'
  . ' username="broker" password="inner" user_broker="inner" user_etl="right-secret";';
my $kafka = KafkaCluster->new(
	listen => { SECURE => [ 'SASL_PLAINTEXT', { 'sasl.enabled.mechanisms' => 'PLAIN', 'plain.sasl.jaas.config' => $login } ] });
my $seed = seed();
my $node = lakehouse_node('outbox_broker', conf => "log_min_messages = debug1\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

my @codecs = qw(none gzip snappy lz4 zstd);
$kafka->create('in', 2);
$kafka->create($_, 2) for 'summary', 'secure', map { "codec_$_" } @codecs;
$kafka->create($_, 1, config => { 'max.message.bytes' => 20000 }) for 'small', 'narrow';
sql(<<"END");
CREATE SERVER cluster FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '@{[$kafka->servers]}');
CREATE SCHEMA bronze;
CREATE SCHEMA gold;
END

sub all_sent
{
	my ($name) = @_;
	return ok(poll_value($node, 'SELECT count(*) FROM lakehouse.outbox', 0), $name)
	  || diag(sql('SELECT * FROM lakehouse.kafka_outbox_status'));
}

sub read_topic
{
	my ($topic) = @_;
	sql("CREATE TABLE bronze.m_$topic (topic text, \"partition\" integer, \"offset\" bigint, key text, value text, headers jsonb);"
		  . "SELECT lakehouse.create_source('m_$topic', server => 'cluster', target => 'bronze.m_$topic', topics => '{$topic}');"
		  . "SELECT lakehouse.run_source('m_$topic')");
	return;
}

# --------------------------------------------------- from Kafka to Kafka
sql(<<'END');
CREATE TABLE bronze.bpm (user_id integer, bpm integer, topic text, "partition" integer, "offset" bigint);
SELECT lakehouse.create_source('bpm', server => 'cluster', target => 'bronze.bpm', topics => '{in}', trigger => 'continuous',
  options => '{"value_format": "json"}');
SELECT lakehouse.create_flow('summary', target => 'gold.summary', mode => 'aggregate',
  query => 'SELECT user_id, count(*) AS n, min(bpm) AS low, max(bpm) AS high FROM bronze.bpm GROUP BY user_id');
SELECT lakehouse.create_flow('summary_out', mode => 'upsert_kafka', server => 'cluster', topic => 'summary', keys => '{user_id}',
  query => 'SELECT user_id, n, low, high FROM gold.summary');
END
my $count = 0;
for my $part (1 .. 5)
{
	my @messages = map { { topic => 'in', partition => int(rand(2)), key => 'x',
			value => sprintf('{"user_id": %d, "bpm": %d}', rand(30), 40 + rand(150)) } } 1 .. 100;
	$kafka->produce(@messages);
	$count += @messages;
}
ok(poll_value($node, q{SELECT (SELECT sum(n) FROM gold.summary) || ' ' || (SELECT count(*) FROM lakehouse.pending) || ' ' || (SELECT count(*) FROM lakehouse.outbox)}, "$count 0 0"),
	'messages of one topic become results in another');
read_topic('summary');
same_multiset(
	$node,
	q{SELECT DISTINCT ON (key) key, value::jsonb FROM bronze.m_summary ORDER BY key, "offset" DESC},
	q{SELECT user_id::text, jsonb_build_object('user_id', user_id, 'n', n, 'low', low, 'high', high) FROM gold.summary},
	'the last message of each key is its row');
sql(q{DELETE FROM bronze.bpm WHERE user_id < 10; SELECT lakehouse.run()});
all_sent('tombstones are sent');
sql(q{SELECT lakehouse.run_source('m_summary')});
is(sql(q{SELECT count(*) FROM (SELECT DISTINCT ON (key) key, value FROM bronze.m_summary ORDER BY key, "offset" DESC) s WHERE value IS NULL AND key::integer < 10}),
	sql(q{SELECT count(DISTINCT key) FROM bronze.m_summary WHERE key::integer < 10}), 'rows that went away are tombstones');

# ------------------------------------------------------------------ compression
for my $codec (@codecs)
{
	sql(qq{ALTER SERVER cluster OPTIONS (@{[$codec eq $codecs[0] ? 'ADD' : 'SET']} "compression.codec" '$codec');
		SELECT lakehouse.kafka_produce('cluster', 'codec_$codec', 'k' || i % 7, repeat(i::text, 50), jsonb_build_object('n', i)) FROM generate_series(1, 500) i});
	all_sent("$codec: all is sent");
	read_topic("codec_$codec");
	is(sql(qq{SELECT count(*) || ' ' || count(DISTINCT value) || ' ' || bool_and(headers -> 0 ->> 'value' = left(value, length(value) / 50)) FROM bronze.m_codec_$codec}),
		'500 500 true', "$codec: all of it arrived");
}

# ------------------------------------------------------- what the broker refuses
# its limit for the topic is smaller than ours: it refuses whole batches
sql(<<'END');
ALTER SERVER cluster OPTIONS (SET "compression.codec" 'none');
SELECT lakehouse.kafka_produce('cluster', 'small', 'k' || i, repeat(md5(random()::text), CASE i WHEN 25 THEN 900 ELSE 20 END))
  FROM generate_series(1, 50) i;
SELECT lakehouse.kafka_produce('cluster', 'small', 'k25', 'later');
END
ok(poll_value($node, q{SELECT string_agg(state || ' ' || convert_from(key, 'UTF8') || ' ' || coalesce(sqlstate, ''), ', ' ORDER BY message_id) FROM lakehouse.kafka_outbox},
		'refused k25 54000, held k25 '), 'of a batch that the broker refuses just the message that is too large is');
is(sql(q{SELECT sent, refused, waiting FROM lakehouse.kafka_outbox_status WHERE topic = 'small'}), '49|1|1', 'the others arrived');
$kafka->ask(do => 'config', topic => 'small', set => { 'max.message.bytes' => 100000 });
is(sql(q{SELECT lakehouse.kafka_retry('cluster', 'small')}), 1, 'tried again');
all_sent('when the topic takes it');
read_topic('small');
is(sql(q{SELECT string_agg(length(value)::text, ' ' ORDER BY "offset") FROM bronze.m_small WHERE key = 'k25'}), '28800 5', 'in its order');
is(sql(q{SELECT count(*) FROM bronze.m_small}), 51, 'each once');

# the first batch is refused, the second one arrives before what was in the first
sql(q{SELECT lakehouse.kafka_produce('cluster', 'narrow', 'k', lpad(i::text, 9000)) FROM generate_series(1, 111) i});
all_sent('of several batches one is refused: in the end all are sent');
read_topic('narrow');
is(sql(q{SELECT array_agg(n ORDER BY last) = array_agg(n ORDER BY n) FROM (SELECT trim(value)::integer AS n, max("offset") AS last FROM bronze.m_narrow GROUP BY 1) m}),
	't', 'what followed it is sent again, behind it') or diag(sql(q{SELECT string_agg(trim(value), ' ' ORDER BY "offset") FROM bronze.m_narrow}));

# -------------------------------------------------------------------- credentials
sql(<<"END");
CREATE ROLE etl LOGIN;
SELECT lakehouse.grant_use('etl');
CREATE SERVER secure FOREIGN DATA WRAPPER lakehouse_kafka
  OPTIONS ("bootstrap.servers" '@{[$kafka->servers('SECURE')]}', "security.protocol" 'sasl_plaintext', "sasl.mechanism" 'PLAIN');
GRANT USAGE ON FOREIGN SERVER secure TO etl;
CREATE USER MAPPING FOR etl SERVER secure OPTIONS ("sasl.username" 'etl', "sasl.password" 'wrong-secret');
END
my $produce = sub { sql(q{SET ROLE etl; SELECT lakehouse.kafka_produce('secure', 'secure', 'k', 'v')}) };
told_soon($node, 'a wrong password is told', outbox => 'secure', state => '28000', begin => $produce, end => sub { sql(q{SELECT lakehouse.kafka_discard('secure')}) });
is(sql(q{SELECT owner, state, sqlstate FROM lakehouse.kafka_outbox_status WHERE server = 'secure' AND failures > 0}), 'etl|failing|28000',
	'it is a visible state');
sql(q{ALTER USER MAPPING FOR etl SERVER secure OPTIONS (SET "sasl.password" 'right-secret')});
all_sent('with the right one the message is sent');
is(sql(q{SELECT state, sent, failures FROM lakehouse.kafka_outbox_status WHERE server = 'secure'}), 'idle|1|0', 'and all is well');

# privileges that are lost in between
sql(q{BEGIN; SET LOCAL ROLE etl; SELECT lakehouse.kafka_produce('secure', 'nowhere', 'k', 'v'); RESET ROLE;
	REVOKE USAGE ON FOREIGN SERVER secure FROM etl; COMMIT});
ok(poll_value($node, q{SELECT state, sqlstate FROM lakehouse.kafka_outbox_status WHERE server = 'secure' AND topic = 'nowhere' AND sqlstate = '42501'}, 'failing|42501', 90),
	'without USAGE nothing is sent any more');
sql('GRANT USAGE ON FOREIGN SERVER secure TO etl; ALTER ROLE etl NOLOGIN');
ok(poll_value($node, q{SELECT state, sqlstate FROM lakehouse.kafka_outbox_status WHERE server = 'secure' AND topic = 'nowhere' AND sqlstate = '28000'}, 'failing|28000', 90),
	'nor for a role that may not log in');
sql('ALTER ROLE etl LOGIN');
ok(poll_value($node, q{SELECT state, sqlstate FROM lakehouse.kafka_outbox_status WHERE server = 'secure' AND topic = 'nowhere' AND sqlstate = '42704'}, 'failing|42704', 90),
	'nor to a topic that the cluster does not have');
is(sql(q{SELECT lakehouse.kafka_discard('secure', message_ids => ARRAY(SELECT message_id FROM lakehouse.kafka_outbox))}), 1, 'it is given up');
unlike(slurp_file($node->logfile), qr/(wrong|right)-secret(?!'\))/, 'no password in the log but in the statements that set it');

# ---------------------------------------------------------------- a copied database
$node->safe_psql('postgres', q{ALTER SERVER cluster OPTIONS (SET "bootstrap.servers" '127.0.0.1:1')});
sql(q{SELECT lakehouse.kafka_produce('cluster', 'secure', 'copy', 'late')});
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE postgres');
$node->safe_psql('copy', qq{ALTER SERVER cluster OPTIONS (SET "bootstrap.servers" '@{[$kafka->servers]}')});
is($node->safe_psql('copy', q{SELECT lakehouse.kafka_send('cluster')}), '(0,0,1)', 'a copied database does not send what the original has to send');
is($node->safe_psql('copy', q{SELECT state FROM lakehouse.kafka_outbox_status WHERE waiting > 0}), 'blocked', 'and says so');
is($node->safe_psql('copy', q{SELECT lakehouse.kafka_retry('cluster')}), 1, 'until it is told to');
local $LakehouseTest::database = 'copy';
ok(wait_until(sub { $node->safe_psql('copy', 'SELECT count(*) FROM lakehouse.outbox') eq '0' }, 60), 'then it sends');

$node->stop;
$kafka->stop;
done_testing();
