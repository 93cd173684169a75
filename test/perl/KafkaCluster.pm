# KafkaCluster: Apache Kafka itself for the tests, one node or three, on
# loopback and free ports, with the driver (test/kafka/KafkaDriver.java) that
# administers it, produces and consumes.
#
#   my $kafka = KafkaCluster->new;                     # skips the test without Kafka
#   $kafka->create('t', 3, config => { ... });
#   $kafka->produce({ topic => 't', partition => 0, key => 'k', value => 'v' });
#   ... bootstrap.servers: $kafka->servers
#   $kafka->check($node, 'source', 'bronze.t', 't');   # bronze + rejects = what a consumer reads
#
# Invariants: no process outlives the test, however that ends; whatever is
# waited for is waited for a limited time.
package KafkaCluster;

use strict;
use warnings;

use Carp qw(croak);
use FindBin;
use IPC::Run;
use JSON::PP ();
use LakehouseTest;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# seconds; other work may use the machine
my $START_LIMIT = 120;
my $ANSWER_LIMIT = 300;

my $json = JSON::PP->new->utf8->canonical;
my %running;    # pid => cluster's directory

# kafka_home is the directory of test/kafka/install.sh; without one the calling
# file is skipped, which "make test" reports.
sub kafka_home
{
	return $ENV{LAKEHOUSE_KAFKA} if $ENV{LAKEHOUSE_KAFKA};
	plan(skip_all => "Apache Kafka: $ENV{LAKEHOUSE_KAFKA_MISSING}") if $ENV{LAKEHOUSE_KAFKA_MISSING};
	my ($out, $err) = ('', '');
	IPC::Run::run([ $ENV{LAKEHOUSE_SOURCE} ? "$ENV{LAKEHOUSE_SOURCE}/test/kafka/install.sh" : "$FindBin::RealBin/../kafka/install.sh" ],
		'>', \$out, '2>', \$err)
	  or plan(skip_all => "Apache Kafka: $err");
	chomp $out;
	return $out;
}

# new starts a cluster.
#   nodes   1 (default) or 3
#   config  {name => value}: further settings of the brokers
#   listen  {NAME => [protocol, {setting => value}]}: further listeners, whose
#           addresses servers('NAME') gives; settings get the listener's prefix
#   advertise  {NAME => port}: what node 1 tells its clients instead of its own port
#   heap    megabytes of each node (256)
#   driver_heap  megabytes of the driver (400)
#   older   1: the older release of Kafka (see test/kafka/pom.xml)
#   format  [further words of the storage tool]
sub new
{
	my ($class, %arg) = @_;
	my $self = bless {
		home => kafka_home(),
		dir => PostgreSQL::Test::Utils::tempdir(),
		count => $arg{nodes} // 1,
		heap => $arg{heap} // 256,
		driver_heap => $arg{driver_heap} // 400,
		release => $arg{older} ? 'older' : 'lib',
		listen => $arg{listen} // {},
		advertise => $arg{advertise} // {},
		config => $arg{config} // {},
		nodes => {}, out => '', in => '' }, $class;

	my @all = 1 .. $self->{count};
	for my $id (@all)
	{
		my $node = $self->{nodes}{$id} = { dir => "$self->{dir}/node$id" };
		mkdir $node->{dir} or die "$node->{dir}: $!";
		$node->{port}{$_} = PostgreSQL::Test::Cluster::get_free_port()
		  for 'BROKER', 'CONTROLLER', sort keys %{ $self->{listen} };
	}
	$self->_write_config($_) for @all;
	$self->_format($_, @{ $arg{format} // [] }) for @all;
	$self->start_node($_) for @all;
	$self->_start_driver;
	$self->wait_ready;
	return $self;
}

# servers gives the addresses of a listener.
sub servers
{
	my ($self, $listener) = @_;
	$listener //= 'BROKER';
	return join(',', map { '127.0.0.1:' . $self->_advertised($_, $listener) } sort keys %{ $self->{nodes} });
}

# port_of gives the port at which a node listens.
sub port_of { return $_[0]->{nodes}{ $_[1] }{port}{ $_[2] } }

sub _advertised { return ($_[1] == 1 && $_[0]->{advertise}{ $_[2] }) || $_[0]->port_of($_[1], $_[2]) }

sub _write_config
{
	my ($self, $id) = @_;
	my $node = $self->{nodes}{$id};
	my %port = %{ $node->{port} };
	my %protocol = (BROKER => 'PLAINTEXT', CONTROLLER => 'PLAINTEXT', map { $_ => $self->{listen}{$_}[0] } keys %{ $self->{listen} });
	my @listeners = map { "$_://127.0.0.1:$port{$_}" } sort keys %port;
	my $replicas = $self->{count};
	my %config = (
		'process.roles' => 'broker,controller',
		'node.id' => $id,
		'controller.quorum.voters' =>
		  join(',', map { "$_\@127.0.0.1:$self->{nodes}{$_}{port}{CONTROLLER}" } sort keys %{ $self->{nodes} }),
		'listeners' => join(',', @listeners),
		'advertised.listeners' =>
		  join(',', map { "$_://127.0.0.1:" . $self->_advertised($id, $_) } grep { $_ ne 'CONTROLLER' } sort keys %port),
		'listener.security.protocol.map' => join(',', map { "$_:$protocol{$_}" } sort keys %protocol),
		'controller.listener.names' => 'CONTROLLER',
		'inter.broker.listener.name' => 'BROKER',
		'log.dirs' => "$node->{dir}/data",
		'offsets.topic.replication.factor' => $replicas,
		'transaction.state.log.replication.factor' => $replicas,
		'transaction.state.log.min.isr' => 1,
		'offsets.topic.num.partitions' => 1,
		'transaction.state.log.num.partitions' => 2,
		'group.initial.rebalance.delay.ms' => 0,
		'auto.create.topics.enable' => 'false',
		'auto.leader.rebalance.enable' => 'false',
		# short, so that a node that is gone is missed soon, but the machine may be busy
		'broker.session.timeout.ms' => 6000,
		'broker.heartbeat.interval.ms' => 500,
		'controller.quorum.election.timeout.ms' => 3000,
		'controller.quorum.fetch.timeout.ms' => 6000,
		'controller.quorum.request.timeout.ms' => 6000,
		'message.max.bytes' => 90_000_000,
		'replica.fetch.max.bytes' => 90_000_000,
		# small and quick instead of large and lazy
		'num.network.threads' => 2,
		'num.io.threads' => 4,
		'background.threads' => 2,
		'log.cleaner.dedupe.buffer.size' => 4_000_000,
		'log.cleaner.backoff.ms' => 200,
		'log.retention.check.interval.ms' => 500,
		'log.initial.task.delay.ms' => 500,
		'log.segment.delete.delay.ms' => 500,
		%{ $self->{config} });
	for my $listener (keys %{ $self->{listen} })
	{
		my $settings = $self->{listen}{$listener}[1] // {};
		$config{ 'listener.name.' . lc($listener) . ".$_" } = $settings->{$_} for keys %$settings;
	}
	PostgreSQL::Test::Utils::append_to_file("$node->{dir}/server.properties",
		join('', map { "$_=$config{$_}\n" } sort keys %config));
	return;
}

sub _java
{
	my ($self, $heap, $release) = @_;
	return ('java', "-Xmx${heap}m", '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData',
		'-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-cp', "$self->{home}/classes:$self->{home}/$release/*");
}

sub _format
{
	my ($self, $id, @words) = @_;
	my $node = $self->{nodes}{$id};
	my $out = '';
	IPC::Run::run([ $self->_java(128, $self->{release}), 'kafka.tools.StorageTool', 'format', '-t', 'bGFrZWhvdXNlLXRlc3RzMQ',
			'-c', "$node->{dir}/server.properties", @words ], '<', \undef, '>&', \$out)
	  or die "the storage of node $id cannot be formatted: $out";
	return;
}

# spawn starts a program that dies with us.
sub _spawn
{
	my ($dir, $log, @command) = @_;
	my $pid = fork() // die "fork: $!";
	return $pid if $pid;
	chdir $dir;
	open(STDIN, '<', '/dev/null');
	open(STDOUT, '>>', $log);
	open(STDERR, '>&', \*STDOUT);
	exec('setpriv', '--pdeathsig', 'KILL', '--', @command) or POSIX::_exit(127);
}

# start_node starts a node that does not run; wait_ready waits for it.
sub start_node
{
	my ($self, $id) = @_;
	my $node = $self->{nodes}{$id};
	croak "node $id runs" if $node->{pid};
	$node->{pid} = _spawn($node->{dir}, "$node->{dir}/log", $self->_java($self->{heap}, $self->{release}), 'kafka.Kafka', "$node->{dir}/server.properties");
	$running{ $node->{pid} } = $node->{dir};
	return;
}

# stop_node ends a node: in good order, or with 'KILL' at once.
sub stop_node
{
	my ($self, $id, $signal) = @_;
	my $node = $self->{nodes}{$id};
	my $pid = delete $node->{pid} or return;
	my $deadline = time() + 30;
	kill('CONT', $pid);
	kill($signal // 'TERM', $pid);
	while (waitpid($pid, POSIX::WNOHANG()) == 0)
	{
		kill('KILL', $pid) if time() > $deadline;
		usleep(10_000);
	}
	delete $running{$pid};
	return;
}

sub kill_node { return $_[0]->stop_node($_[1], 'KILL') }

# pause_node stops a node's processing: its connections stay, nobody answers.
sub pause_node { return kill('STOP', $_[0]->{nodes}{ $_[1] }{pid}) }
sub continue_node { return kill('CONT', $_[0]->{nodes}{ $_[1] }{pid}) }

sub node_log { return PostgreSQL::Test::Utils::slurp_file("$_[0]->{nodes}{$_[1]}{dir}/log") }

# wait_ready waits until all nodes that were started answer.
sub wait_ready
{
	my ($self) = @_;
	my @up = grep { $_->{pid} } values %{ $self->{nodes} };
	my $answer = eval { $self->ask(do => 'ready', nodes => scalar(@up)) };
	return if $answer;
	my $error = $@;
	for my $id (sort keys %{ $self->{nodes} })
	{
		diag("node $id: " . substr($self->node_log($id), -3000));
	}
	die "Kafka is not ready: $error";
}

sub _start_driver
{
	my ($self) = @_;
	$self->{driver} = IPC::Run::start([ 'setpriv', '--pdeathsig', 'KILL', '--', $self->_java($self->{driver_heap}, 'lib'), 'KafkaDriver', $self->servers ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', "$self->{dir}/driver.log", IPC::Run::timer($START_LIMIT, name => 'driver'));
	$self->_answer('start', $START_LIMIT);
	return;
}

sub _answer
{
	my ($self, $what, $limit) = @_;
	my $deadline = time() + $limit;
	while ($self->{out} !~ /\n/)
	{
		die "Kafka driver, $what: no answer\n" if time() > $deadline;
		die "Kafka driver, $what: it ended\n" unless $self->{driver}->pumpable;
		$self->{driver}->pump_nb;
		usleep(2_000);
	}
	$self->{out} =~ s/^(.*)\n//;
	my $answer = $json->decode($1);
	die "Kafka driver, $what: $answer->{error}\n" if defined $answer->{error};
	return $answer;
}

# ask gives the driver a command (see KafkaDriver.java and KafkaRecords.java)
# and gives its answer; dies of an error.
sub ask
{
	my ($self, %command) = @_;
	my $line = $json->encode(\%command);
	$self->{in} .= "$line\n";
	return $self->_answer(substr($line, 0, 200), $ANSWER_LIMIT);
}

# create makes a topic; further words as for the driver.
sub create
{
	my ($self, $topic, $partitions, %arg) = @_;
	return $self->ask(do => 'create', topic => $topic, partitions => $partitions // 1, replicas => $self->{count}, %arg);
}

sub delete_topic { return $_[0]->ask(do => 'delete', topic => $_[1]) }

# produce sends messages and gives their offsets; produce_in within a
# transaction that is made if need be, which commit or abort ends.
sub produce
{
	my ($self, @messages) = @_;
	return @{ $self->ask(do => 'produce', messages => \@messages)->{offsets} };
}

sub begin { return $_[0]->ask(do => 'begin', transaction => $_[1]) }
sub commit { return $_[0]->ask(do => 'commit', transaction => $_[1]) }
sub abort { return $_[0]->ask(do => 'abort', transaction => $_[1]) }

sub produce_in
{
	my ($self, $transaction, @messages) = @_;
	return @{ $self->ask(do => 'produce', transaction => $transaction, messages => \@messages)->{offsets} };
}

# ends gives {low}, {committed} and {end}: {partition => offset}.
sub ends { return $_[0]->ask(do => 'ends', topic => $_[1]) }

# make_server makes the schema bronze and a server of PostgreSQL for the cluster,
# with further options.
sub make_server
{
	my ($self, $pg, $name, %option) = @_;
	%option = ('bootstrap.servers' => $self->servers, %option);
	my $list = join(', ', map { qq("$_" '$option{$_}') } sort keys %option);
	$pg->safe_psql('postgres', "SET client_min_messages = error; CREATE SCHEMA IF NOT EXISTS bronze;"
		  . " CREATE SERVER $name FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ($list)");
	return;
}

# make_source makes the table bronze.NAME and a source of that name.
#   server ('events'), topics (the name), columns, options (JSON), trigger
sub make_source
{
	my ($self, $pg, $name, %arg) = @_;
	my $server = $arg{server} // 'events';
	my $topics = $arg{topics} // $name;
	my $columns = $arg{columns} // 'topic text, partition integer, "offset" bigint, key text, value bytea, "timestamp" timestamptz, headers jsonb';
	my $options = $arg{options} // '{}';
	my $trigger = $arg{trigger} // 'available_now';
	$pg->safe_psql('postgres', "CREATE TABLE bronze.$name ($columns);"
		  . "SELECT lakehouse.create_source('$name', server => '$server', target => 'bronze.$name',"
		  . " topics => '{$topics}', options => '$options', trigger => '$trigger')");
	return;
}

# consume makes the table "plain.record" of what a plain consumer reads.
sub consume
{
	my ($self, $pg, @topics) = @_;
	my $file = "$self->{dir}/consumed";
	$self->ask(do => 'consume', topics => \@topics, file => $file);
	$pg->safe_psql('postgres', <<"END");
DROP SCHEMA IF EXISTS plain CASCADE;
CREATE SCHEMA plain;
CREATE TABLE plain.record (topic text, partition integer, "offset" bigint, key_hash text, value_hash text, "timestamp" bigint, headers integer);
COPY plain.record FROM '$file';
END
	return;
}

# caught_up tells whether the positions of a source are the ends of all
# partitions of the topics, as far as all is committed.
sub caught_up
{
	my ($self, $pg, $source, @topics) = @_;
	for my $topic (@topics)
	{
		my $end = $self->ends($topic)->{committed};
		my ($status, $out) = try_psql($pg, <<"END");
SELECT string_agg(partition || ':' || next_offset, ' ' ORDER BY partition) FROM lakehouse.kafka_offset
 WHERE source_id = (SELECT source_id FROM lakehouse.source WHERE name = '$source') AND topic = '$topic'
END
		return 0 if $status != 0 || ($out // '') ne join(' ', map { "$_:$end->{$_}" } sort { $a <=> $b } keys %$end);
	}
	return 1;
}

# wait_caught_up waits for that and shows the state of the source if it fails.
sub wait_caught_up
{
	my ($self, $pg, $source, $topics, $limit) = @_;
	return 1 if wait_until(sub { $self->caught_up($pg, $source, @$topics) }, $limit // 120);
	diag("$source: " . ((try_psql($pg, "SELECT s.error, k.* FROM lakehouse.kafka_status k JOIN lakehouse.source_status s ON s.name = k.source WHERE source = '$source'"))[1] // ''));
	diag($json->encode($self->ends($_))) for @$topics;
	return 0;
}

# check compares a table with columns topic, partition, offset and value, with
# the rejects of its source, with what a plain consumer reads: the multisets of
# (topic, partition, offset, hash of the value) must be the same, so no pair is
# there twice; keys, times and headers of rows too, if the table has them.
sub check
{
	my ($self, $pg, $source, $table, @topics) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $of_source = "source_id = (SELECT source_id FROM lakehouse.source WHERE name = '$source')";
	my $good = 1;

	$self->consume($pg, @topics);
	$good &= same_multiset(
		$pg,
		qq{SELECT topic, partition, "offset", md5(value) FROM $table
			UNION ALL SELECT topic, partition, "offset", md5(raw) FROM lakehouse.reject WHERE $of_source},
		'SELECT topic, partition, "offset", value_hash FROM plain.record',
		"$source: bronze and rejects are what a plain consumer reads");
	my $columns = $pg->safe_psql('postgres', "SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0");
	my @different;
	push @different, 'md5(b.key) IS DISTINCT FROM p.key_hash' if $columns =~ /\bkey\b/;
	push @different, 'floor(extract(epoch FROM b."timestamp") * 1000) IS DISTINCT FROM p."timestamp"' if $columns =~ /\btimestamp\b/;
	push @different, 'coalesce(jsonb_array_length(b.headers), 0) IS DISTINCT FROM p.headers' if $columns =~ /\bheaders\b/;
	$good &= is(
		$pg->safe_psql('postgres', qq{SELECT p.*, b FROM $table b JOIN plain.record p USING (topic, partition, "offset") WHERE }
			  . join(' OR ', @different) . ' LIMIT 5'),
		'', "$source: with their keys, times and headers")
	  if @different;
	return $good;
}

# check_so_far is check while others write and the source reads on: it compares
# what was read when it began.
sub check_so_far
{
	my ($self, $pg, $source, $table, @topics) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $of_source = "source_id = (SELECT source_id FROM lakehouse.source WHERE name = '$source')";

	$pg->safe_psql('postgres', "DROP SCHEMA IF EXISTS so_far CASCADE; CREATE SCHEMA so_far;"
		  . " CREATE TABLE so_far.position AS SELECT topic, partition, next_offset FROM lakehouse.kafka_offset WHERE $of_source");
	$self->consume($pg, @topics);
	return same_multiset(
		$pg,
		qq{SELECT r.* FROM (SELECT topic, partition, "offset", md5(value) FROM $table
			UNION ALL SELECT topic, partition, "offset", md5(raw) FROM lakehouse.reject WHERE $of_source) r
			JOIN so_far.position USING (topic, partition) WHERE "offset" < next_offset},
		'SELECT topic, partition, "offset", value_hash FROM plain.record JOIN so_far.position USING (topic, partition) WHERE "offset" < next_offset',
		"$source: so far, bronze and rejects are what a plain consumer reads");
}

# stop ends everything.
sub stop
{
	my ($self) = @_;
	if (my $driver = delete $self->{driver})
	{
		$driver->kill_kill(grace => 0);
	}
	$self->kill_node($_) for keys %{ $self->{nodes} };
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@, $!);
	$self->stop;
	return;
}

END
{
	local $?;
	kill('KILL', keys %running) if %running;
}

1;
