# A replay of rejects that is torn at each point where it could be torn, by an
# error and by a crash: afterwards nothing of it is there, and the next one
# stores each record once. Rejects of files, and of Kafka messages.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = faults_path();
my $node = lakehouse_node('replay_faults', install_path => $path);
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(<<'END');
CREATE SCHEMA bronze;
CREATE TABLE bronze.record (id text CHECK (id ~ '^[0-9]+$'), word text);
SELECT lakehouse.create_source('torn', 'landing', 'bronze.record', path => '*.csv', options => '{"header": true}');
END
for my $file (1, 2)
{
	open(my $out, '>', "$landing/f$file.csv") or die $!;
	print $out "id,word\n", map { "x$file$_,w\n" } 1 .. 50;
	close($out) or die $!;
}
sql("SELECT lakehouse.run_source('torn')");
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE state = 'open'"), '100', 'all records are rejects');
sql('ALTER TABLE bronze.record DROP CONSTRAINT record_id_check');

my @points = qw(before-insert after-insert replay-stored replay-marked replay-recorded);
my $torn = 0;
for my $fault (map { ("$_:error:1", "$_:kill:1", "$_:error:2", "$_:kill:2") } @points)
{
	my ($status, $out, $err) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.replay_rejects('torn')");
	$torn++ if $status != 0;
	ok(poll_value($node,
			"SELECT (SELECT count(*) FROM bronze.record), count(*) FILTER (WHERE state = 'open'), count(replayed_at),"
			  . " (SELECT sum(rows) || '|' || sum(rejected) FROM lakehouse.file_status) FROM lakehouse.reject_status",
			'0|100|0|0|100'), "$fault: nothing is half there");
}
is($torn, 4 * @points, 'every point was reached twice');
is(sql("SELECT * FROM lakehouse.replay_rejects('torn')"), '100|0|0|2', 'then all are resolved');
is(sql("SELECT string_agg(id, ' ' ORDER BY id) = (SELECT string_agg('x' || f || i, ' ' ORDER BY 'x' || f || i) FROM generate_series(1, 2) f, generate_series(1, 50) i)"
	  . " FROM bronze.record"), 't', 'each record once');
is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', 'ledger, loads, rows and rejects agree');

# ------------------------------------------------------------------------ Kafka
# three batches of one partition each, so that the messages of a replay come from
# several loads; what they became is compared with what was sent
my $broker = start_broker('torn:3');
sql("CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS (\"bootstrap.servers\" '$broker->{servers}')");
sql(<<'END');
CREATE TABLE bronze.message (key bytea, value text CHECK (value IS NOT NULL AND value !~ 'bad'), "partition" integer, "offset" bigint,
	"timestamp" timestamptz, headers jsonb);
SELECT lakehouse.create_source('message', server => 'events', target => 'bronze.message', topics => '{torn}');
END
my @sent;
for my $partition (0 .. 2)
{
	for my $offset (0 .. 19)
	{
		my $key = (undef, '', 'k')[$offset % 3];
		my $value = $offset % 4 == 0 ? undef : ($offset % 4 == 1 ? 'good' : 'bad') . " $partition $offset";
		my $time = 1400000000000 + $offset;
		my $headers = $offset % 2 ? '[{"key": "n", "value": "1"}, {"key": "n", "value": null}, {"key": "n", "value": ""}]' : '';
		broker_command($broker, sprintf('produce {"topic": "torn", "partition": %d, "timestamp": %d, "key": %s, "value": %s%s}',
				$partition, $time, (map { defined $_ ? "\"$_\"" : 'null' } $key, $value), $headers ? ", \"headers\": $headers" : ''));
		push @sent, sprintf("(%s::bytea, %s, %d, %d::bigint, timestamptz 'epoch' + interval '1 ms' * %d, %s::jsonb)",
			(map { defined $_ ? "'$_'" : 'NULL' } $key, $value), $partition, $offset, $time, $headers ? "'$headers'" : 'NULL');
	}
	sql("SELECT lakehouse.run_source('message')");
}
my $ledger = q{(SELECT string_agg(position || '/' || rows || '/' || rejected, ' ' ORDER BY partition) FROM lakehouse.kafka_status)};
my $state = "SELECT (SELECT count(*) FROM bronze.message), (SELECT count(*) FROM lakehouse.load_status WHERE source = 'message'), $ledger,"
  . " count(*) FILTER (WHERE state = 'open'), count(replayed_at), count(replayed_load) FROM lakehouse.reject_status WHERE source = 'message'";
is(sql($state), '15|3|20/5/15 20/5/15 20/5/15|45|0|0', 'messages are rejects of three loads');
sql('ALTER TABLE bronze.message DROP CONSTRAINT message_value_check');
$torn = 0;
for my $fault (map { ("$_:error:1", "$_:kill:1") } @points)
{
	my ($status, $out, $err) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.replay_rejects('message')");
	$torn++ if $status != 0;
	ok(poll_value($node, $state, '15|3|20/5/15 20/5/15 20/5/15|45|0|0'), "Kafka, $fault: nothing is half there");
}
is($torn, 2 * @points, 'every point was reached');
is(sql("SELECT * FROM lakehouse.replay_rejects('message')"), '45|0|0|1', 'then all are resolved, in one load');
is(sql($state), '60|4|20/20/0 20/20/0 20/20/0|0|45|45', 'counted as rows of their partitions, whose positions stay');
same_multiset($node, 'SELECT key, value, "partition", "offset", "timestamp", headers FROM bronze.message', 'VALUES ' . join(', ', @sent),
	'each message once, as it was sent');
is(sql("SELECT * FROM lakehouse.replay_rejects('message')"), '0|0|0|0', 'and never again');
is(sql("SELECT rows, rejected FROM lakehouse.run_source('message')"), '0|0', 'a run reads none of them again');
is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', 'offsets, loads and rows agree');

stop_broker($broker);
$node->stop;
done_testing();
