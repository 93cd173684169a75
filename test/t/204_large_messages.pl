# Messages and batches of LAKEHOUSE_LARGE_MB (25; 300 in "make soak"), of a real
# Kafka: within the limits they are stored, above them they are rejects or stop
# their partition; nothing is asked for again and again, and the memory of the
# worker depends on the largest message alone, not on how many there are.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $megabytes = $ENV{LAKEHOUSE_LARGE_MB} // 25;
my $large = $megabytes * 1_000_000;
my $most = 4 * $large;

# what a message may cost: as it came, as a value, as a row, as what is written
# of it, and the answer that holds the next one
my $MEMORY_LIMIT = 6 * $large + 100_000_000;
# the sanitizer keeps memory that was freed
$MEMORY_LIMIT *= 4 if ($ENV{LD_PRELOAD} // '') =~ /asan/;

my $kafka = KafkaCluster->new(
	# each of its threads keeps what the largest request took
	heap => 256 + 8 * $megabytes,
	driver_heap => 400 + 5 * $megabytes,
	config => { map { $_ => $most } 'message.max.bytes', 'replica.fetch.max.bytes', 'socket.request.max.bytes' });
my $node = lakehouse_node('large', conf => "lakehouse.kafka_refresh_interval = 500\nlakehouse.max_record_size = '" . ($megabytes + 1)
	  . "MB'\nshared_buffers = '64MB'\nmax_wal_size = '4GB'\nautovacuum = off\n");
# time for a machine that is busy
my %producer = ('max.request.size' => $most, 'buffer.memory' => $most, 'request.timeout.ms' => 200_000, 'delivery.timeout.ms' => 280_000);
my $big = "receive.message.max.bytes";

$kafka->make_server($node, 'events', $big => $most);
$kafka->make_server($node, 'narrow', $big => 20_000_000);

sub value_of
{
	my ($status, $out) = try_psql($node, $_[0]);
	return $out // '';
}

# produce sends made-up messages of so many bytes to a partition.
sub produce
{
	my ($topic, $partition, @sizes) = @_;
	$kafka->ask(do => 'produce', config => \%producer,
		messages => [ map { { topic => $topic, partition => $partition, key => 'k', size => $_, seed => $_ } } @sizes ]);
	return;
}

# private gives the bytes of a process that it shares with no other.
sub private
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return 0;
	my ($kb) = join('', <$status>) =~ /^RssAnon:\s+(\d+) kB/m;
	return ($kb // 0) * 1024;
}

# reads lets a worker read what is in the topic, looks at its memory meanwhile,
# and compares.
sub reads
{
	my ($name, $topic, %source) = @_;
	$kafka->make_source($node, $topic, trigger => 'continuous', %source);
	my $pid = worker_pid($node, $topic);
	my ($now, $peak) = (0, 0);
	my ($deadline, $looked, $there) = (time() + 300, 0, 0);
	while (!$there && time() < $deadline)
	{
		$now = private($pid);
		$peak = $now if $now > $peak;
		usleep(5_000);
		next if time() == $looked;
		$looked = time();
		$there = $kafka->caught_up($node, $topic, $topic);
	}
	ok($there, "$name: all is read") or diag(value_of("SELECT state, error FROM lakehouse.source_status WHERE name = '$topic'"));
	note(sprintf('%s: %.0f MB at most', $name, $peak / 1e6));
	cmp_ok($peak, '>', 0, "$name: its memory was looked at");
	cmp_ok($peak, '<', $MEMORY_LIMIT, "$name: and is bounded");
	is(value_of("SELECT pid FROM lakehouse.worker_status WHERE object = '$topic'"), $pid, "$name: by one worker");
	value_of("SELECT lakehouse.alter_source('$topic', trigger => 'available_now')");
	return;
}

# --------------------------------------------------------------------- messages
$kafka->create('one', 1);
produce('one', 0, 1, $_, 20) for $large, $large - 1, $large - 2;
reads('messages', 'one');
is(value_of('SELECT count(*) FROM bronze.one'), '9', 'messages: all are stored');
$kafka->check($node, 'one', 'bronze.one', 'one');

# above the limit for records: rejects, with the size
value_of("SET lakehouse.max_record_size = '1MB'; SELECT lakehouse.seek_source('one', '{\"one\": {\"0\": -2}}'); TRUNCATE bronze.one; SELECT lakehouse.run_source('one')");
is(value_of('SELECT count(*) FROM bronze.one'), '6', 'too large: the others are stored');
is(value_of("SELECT string_agg(sqlstate || ' ' || \"offset\" || ' ' || length(raw) || ' ' || substring(message FROM '[0-9]+ bytes'), ', ' ORDER BY \"offset\") FROM lakehouse.reject WHERE topic = 'one'"),
	join(', ', map { '54000 ' . (1 + 3 * $_) . ' 1048576 ' . ($large - $_ + 1) . ' bytes' } 0 .. 2), 'too large: rejects, with the size and the first megabyte');

# ------------------------------------------------------------------------ batches
# as large, of many messages, as it is and compressed to a small part of itself
for my $codec ('none', 'zstd')
{
	my $topic = "batch_$codec";
	$kafka->create($topic, 1);
	$kafka->ask(do => 'fill', topic => $topic, count => $megabytes, size => 1_000_000,
		config => { %producer, 'batch.size' => $most, 'linger.ms' => 60000, 'compression.type' => $codec });
	reads("a batch, $codec", $topic);
	is(value_of("SELECT count(*) FROM bronze.$topic"), $megabytes, "a batch, $codec: all are stored");
	$kafka->check($node, $topic, "bronze.$topic", $topic);
}

# --------------------------------------------------------------- keys and headers
# What a worker holds is bounded, whatever part of the records it is that is large.
for my $part ('key', 'header')
{
	my @large = $part eq 'key' ? (key_size => 100_000) : (key => 'k', headers => [ { key => 'h', value_size => 100_000 } ]);
	$kafka->create($part, 1);
	$kafka->make_source($node, $part, trigger => 'continuous');
	$kafka->produce({ topic => $part, partition => 0, key => 'k', value => 'first' });
	ok($kafka->wait_caught_up($node, $part, [$part]), "large ${part}s: the worker reads");
	my $blocker = $node->background_psql('postgres');
	$blocker->query_safe("BEGIN; LOCK TABLE bronze.$part IN ACCESS EXCLUSIVE MODE");
	$kafka->produce(map { { topic => $part, partition => 0, value => $_, @large } } 1 .. 500) for 1 .. 2;
	ok(poll_value($node, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%source%$part%' AND wait_event_type = 'Lock'", 1, 60), "large ${part}s: the worker waits for its table");
	my ($pid, $peak, $until) = (worker_pid($node, $part), 0, time() + 3);
	while (time() < $until)
	{
		my $now = private($pid);
		$peak = $now if $now > $peak;
		usleep(20_000);
	}
	note(sprintf('%s: %.0f MB at most', $part, $peak / 1e6));
	cmp_ok($peak, '>', 0, "large ${part}s: its memory was looked at");
	cmp_ok($peak, '<', 70_000_000, "large ${part}s: it holds little more than lakehouse.kafka_read_ahead");
	$blocker->query_safe('COMMIT');
	$blocker->quit;
	ok($kafka->wait_caught_up($node, $part, [$part]), "large ${part}s: all is read");
	is(value_of("SELECT count(*) FROM bronze.$part"), '1001', "large ${part}s: all are stored");
	$kafka->check($node, $part, "bronze.$part", $part);
	value_of("SELECT lakehouse.alter_source('$part', trigger => 'available_now')");
}

# -------------------------------------------------------------- more than a value
# a string of JSON may have 256 MB at most
$kafka->create('json', 1);
$kafka->ask(do => 'produce', config => \%producer,
	messages => [ map { { topic => 'json', partition => 0, key => 'k', size => $_, quoted => 1 } } 10, $large, 20 ]);
$kafka->make_source($node, 'json', columns => 'value jsonb, "offset" bigint');
value_of("SELECT lakehouse.run_source('json')");
my $fits = $large < 256 * 1024 * 1024;
is(value_of(q{SELECT string_agg(length(value #>> '{}')::text, ' ' ORDER BY "offset") FROM bronze.json}), $fits ? '8 ' . ($large - 2) . ' 18' : '8 18', 'jsonb: what fits is stored');
is(value_of(q{SELECT count(*) || coalesce(min(sqlstate), '') FROM lakehouse.reject WHERE topic = 'json'}), $fits ? '0' : '154000', 'jsonb: what does not is a reject');

# ------------------------------------------------------- more than the client takes
$kafka->create('stops', 2);
produce('stops', 0, 1, $large, 2);
produce('stops', 1, 1, 2);
$kafka->make_source($node, 'stops', server => 'narrow', trigger => 'continuous');
ok( wait_until(sub { value_of(q{SELECT coalesce(s.error, '') || coalesce(k.error, '') FROM lakehouse.source_status s JOIN lakehouse.kafka_status k ON k.source = s.name WHERE name = 'stops' AND partition = 0}) =~ /receive\.message\.max\.bytes/ }, 120),
	'more than the client takes: the state names the limit')
  or diag(value_of(q{SELECT s.state, s.error, k.partition, k.position, k.error FROM lakehouse.source_status s JOIN lakehouse.kafka_status k ON k.source = s.name WHERE name = 'stops'}));
ok(poll_value($node, q{SELECT string_agg(partition || ':' || position, ' ' ORDER BY partition) FROM lakehouse.kafka_status WHERE source = 'stops'}, '0:1 1:2', 120),
	'nothing is skipped, and the other partition goes on');
# tries come at 0, 1, 3, 7, 15, 31 ... seconds
usleep(5_000_000);
cmp_ok(value_of(q{SELECT coalesce(max(failures), 0) FROM lakehouse.source_state JOIN lakehouse.source USING (source_id) WHERE name = 'stops'}), '<', 8,
	'it is asked for again after pauses that double');
value_of(qq{ALTER SERVER narrow OPTIONS (SET "$big" '$most'); SELECT lakehouse.resume_source('stops')});
ok($kafka->wait_caught_up($node, 'stops', ['stops']), 'with a larger limit it goes on');
$kafka->check($node, 'stops', 'bronze.stops', 'stops');

$node->stop;
$kafka->stop;
done_testing();
