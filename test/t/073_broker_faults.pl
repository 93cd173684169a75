# A real Kafka broker that goes and comes: restarts while records are written
# and read, a broker that holds its connections and says nothing, a network that
# cuts, swallows and delays, and how soon the server stops meanwhile.
use strict;
use warnings;

use FindBin;
use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $RESTARTS = $ENV{LAKEHOUSE_RESTARTS} // 20;
my $EACH = $ENV{LAKEHOUSE_KILLS} ? 1 : 10;    # how often what was read is compared

# one listener is reached through a bad network only (test/kafka/proxy.pl)
my $proxy_port = PostgreSQL::Test::Cluster::get_free_port();
my $kafka = KafkaCluster->new(listen => { NETWORK => ['PLAINTEXT'] }, advertise => { NETWORK => $proxy_port });
my $proxy = { in => '', out => '' };
$proxy->{run} = IPC::Run::start([ $^X, ($ENV{LAKEHOUSE_SOURCE} // "$FindBin::RealBin/../..") . '/test/kafka/proxy.pl', $proxy_port ],
	'<', \$proxy->{in}, '>', \$proxy->{out});
$proxy->{run}->pump until $proxy->{out} =~ s/^ready\n//;
broker_command($proxy, 'to ' . $kafka->port_of(1, 'NETWORK'));
my $seed = seed();
my $node = lakehouse_node('faults', conf => "lakehouse.kafka_refresh_interval = 500\nlakehouse.batch_rows = 300\n");

$kafka->make_server($node, 'events');
$kafka->create($_, 3) for qw(flow idle);
$kafka->make_source($node, $_, trigger => 'continuous') for qw(flow idle);

sub state_of
{
	my ($source) = @_;
	return $node->safe_psql('postgres',
		"SELECT coalesce((SELECT st.sqlstate FROM lakehouse.source_state st JOIN lakehouse.source s USING (source_id) WHERE s.name = '$source'), 'well')");
}

sub becomes
{
	my ($source, $state, $name) = @_;
	my $now;
	return ok(wait_until(sub { $now = state_of($source); return $now eq $state }, 120), $name) || diag("it is $now");
}

# -------------------------------------------------------------------- restarts
# killed and stopped in turn, at random moments
$kafka->ask(do => 'traffic', topic => 'flow', partitions => 3, seed => $seed, pause => 20, job => 'traffic');
my $loads = 0;
for my $round (1 .. $RESTARTS)
{
	my $before = $node->safe_psql('postgres', 'SELECT coalesce(max(load_id), 0) FROM lakehouse.load');
	usleep(int(rand(400_000)));
	$kafka->stop_node(1, rand() < 0.5 ? 'KILL' : 'TERM');
	$kafka->start_node(1);
	$kafka->wait_ready;
	# a round in which nothing was read would prove little
	$loads++ if wait_until(sub { $node->safe_psql('postgres', 'SELECT coalesce(max(load_id), 0) FROM lakehouse.load') > $before }, 60);
	$kafka->check_so_far($node, 'flow', 'bronze.flow', 'flow') if $round % $EACH == 0;
}
is($loads, $RESTARTS, "the source goes on by itself after each of $RESTARTS restarts of the broker");
my $sent = $kafka->ask(do => 'stop', job => 'traffic');
note("traffic: $sent->{sent} sent, $sent->{committed} transactions committed, $sent->{aborted} aborted, $sent->{failed} given up");
ok($kafka->wait_caught_up($node, 'flow', ['flow']), 'and comes to the end');
becomes('flow', 'well', 'it is well again');
$kafka->check($node, 'flow', 'bronze.flow', 'flow');

# ------------------------------------------------------------------- half open
# looks for partitions, which may fall between, do not put it off
$node->safe_psql('postgres', q{ALTER SYSTEM SET lakehouse.kafka_refresh_interval = '3s'; SELECT pg_reload_conf()});
told_soon($node, 'a broker that holds its connections and says nothing is told, of a source that was idle', source => 'idle', state => '08001',
	begin => sub { $kafka->pause_node(1) }, end => sub { $kafka->continue_node(1) });
$node->safe_psql('postgres', 'ALTER SYSTEM RESET lakehouse.kafka_refresh_interval; SELECT pg_reload_conf()');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lakehouse%' AND xact_start < now() - interval '15 s'}),
	'0', 'no transaction stays open meanwhile');
my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT lakehouse.alter_source('idle', trigger => 'available_now'); SELECT lakehouse.run_source('idle')");
like($err, qr/ERROR:  08001: /, 'so does a run');
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('idle', trigger => 'continuous')");
becomes('flow', '08001', 'of the source that was busy, too');

# the server stops all the same
stops_soon($node, 'the server stops although the broker is silent', sub { worker_pid($node, $_) for qw(flow idle) });
$kafka->continue_node(1);
$kafka->produce(map { { topic => 'idle', partition => $_, key => 'k', value => 'after' } } 0 .. 2);
ok($kafka->wait_caught_up($node, $_, [$_]), "$_ goes on when the broker does") for qw(flow idle);
becomes($_, 'well', "$_ is well again") for qw(flow idle);

# --------------------------------------------------------------- a bad network
broker_command($proxy, "seed $seed");
$kafka->make_server($node, 'far', 'bootstrap.servers' => $kafka->servers('NETWORK'));
$kafka->create('net', 3);
$kafka->make_source($node, 'net', server => 'far', trigger => 'continuous');
my $number = 0;

# send_some brings a few records, and waits until they are read if asked to.
sub send_some
{
	my ($name) = @_;
	$kafka->produce(map { { topic => 'net', partition => $_ % 3, key => 'k', value => 'n' . $number++ } } 1 .. 30);
	return !$name || ok($kafka->wait_caught_up($node, 'net', ['net']), $name);
}

# waits_well tells that the worker waits for the network with nothing open: no
# transaction, and so no statement, no snapshot and no lock. It begins one now and
# then, to say how it is; none of them lasts.
sub waits_well
{
	my ($name) = @_;
	my $idle = q{SELECT count(*) FILTER (WHERE a.xact_start IS NULL AND a.backend_xmin IS NULL AND a.state <> 'active' AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid)),
		count(*) FILTER (WHERE a.xact_start < now() - interval '15 s') FROM pg_stat_activity a WHERE a.application_name LIKE '%source%net%'};
	my $now = '';
	ok(wait_until(sub { $now = (try_psql($node, $idle))[1] // ''; return $now eq '1|0' }, 60), "$name: nothing is open while the worker waits")
	  or diag("idle and too long: $now");
	return;
}

send_some('a source is read over a network');
# connections that end anywhere in an answer, also in its first bytes
$kafka->ask(do => 'fill', topic => 'net', partitions => 3, count => 20_000, size => 300);
broker_command($proxy, 'cut 400000');
my $cuts = time() + 3;
while (time() < $cuts) { send_some(); usleep(200_000) }
broker_command($proxy, 'cut 3000');
waits_well('cut');
broker_command($proxy, 'good');
send_some('cut: all is read when it is over');

# two seconds there and back: slow, and no failure
broker_command($proxy, 'delay 1000');
send_some('a round trip of two seconds: all is read');
waits_well('delay');
broker_command($proxy, 'delay 500');
is($node->safe_psql('postgres', q{SELECT lakehouse.alter_source('net', trigger => 'available_now'); SELECT rows FROM lakehouse.run_source('net')}), "\n0",
	'a round trip of a second: a run begins and ends well');
$node->safe_psql('postgres', q{SELECT lakehouse.alter_source('net', trigger => 'continuous')});

# Records that lie while a worker waits for its table make it ask whether their
# topic is still the same: not in the transaction either.
broker_command($proxy, 'good');
$kafka->create('slow', 1);
$kafka->make_source($node, 'slow', server => 'far', trigger => 'continuous', options => '{"batch_rows": 1000000}');
$kafka->produce({ topic => 'slow', partition => 0, key => 'k', value => 'first' });
ok($kafka->wait_caught_up($node, 'slow', ['slow']), 'slow: a first record is there');
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE bronze.slow IN ACCESS EXCLUSIVE MODE');
$kafka->ask(do => 'fill', topic => 'slow', partitions => 1, count => 40_000, size => 20);
ok(poll_value($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%source%slow%' AND wait_event_type = 'Lock'}, 1, 60), 'slow: the worker waits for its table');
usleep(500_000);
broker_command($proxy, 'swallow');
$blocker->query_safe('COMMIT');
$blocker->quit;
my %waits = (inside => 0, outside => 0);
my $until = time() + 4;
while (time() < $until)
{
	my $wait = (try_psql($node, q{SELECT CASE WHEN xact_start IS NULL THEN 'outside' ELSE 'inside' END
 FROM pg_stat_activity WHERE application_name LIKE '%source%slow%' AND wait_event = 'Extension'}))[1];
	$waits{$wait}++ if $wait;
	usleep(20_000);
}
broker_command($proxy, 'good');
is($waits{inside}, 0, 'slow: no transaction waits for the broker');
cmp_ok($waits{outside}, '>', 0, 'slow: but the worker does');
ok($kafka->wait_caught_up($node, 'slow', ['slow']), 'slow: all is read when the network is good');
$kafka->check($node, 'slow', 'bronze.slow', 'slow');
$node->safe_psql('postgres', q{SELECT lakehouse.alter_source('slow', trigger => 'available_now')});

for my $mode ('swallow', 'trickle')
{
	becomes('net', 'well', "$mode: well before");
	told_soon($node, "$mode: a network that brings nothing is told", source => 'net', state => '08001',
		begin => sub { broker_command($proxy, $mode); send_some() }, end => sub { broker_command($proxy, 'good') });
	waits_well($mode);
	stops_soon($node, "$mode: the server stops", sub { worker_pid($node, 'net') });
	broker_command($proxy, 'good');
	send_some("$mode: all is read when it is over");
}
$kafka->check($node, 'net', 'bronze.net', 'net');
$node->safe_psql('postgres', q{SELECT lakehouse.alter_source('net', trigger => 'available_now')});
stop_broker($proxy);

# stops with much read ahead, with nothing to do, and with a broker that is dead
stops_soon($node, 'the server stops with records read ahead',
	sub { $kafka->ask(do => 'fill', topic => 'flow', partitions => 3, count => 200_000, size => 200); usleep(200_000) });
ok($kafka->wait_caught_up($node, 'flow', ['flow']), 'and reads the rest after its start');
$kafka->check($node, $_, "bronze.$_", $_) for qw(flow idle);
told_soon($node, 'a dead broker is told', source => 'idle', state => '08001',
	begin => sub { $kafka->kill_node(1) }, end => sub { $kafka->start_node(1); $kafka->wait_ready });
is($node->safe_psql('postgres', q{SELECT DISTINCT state || ' ' || coalesce(lag_seconds::text, 'unknown') FROM lakehouse.kafka_status WHERE source = 'idle'}),
	'failing unknown', 'of each partition, too');
stops_soon($node, 'the server stops without a broker', sub { worker_pid($node, $_) for qw(flow idle) });

$node->stop;
$kafka->stop;
done_testing();
