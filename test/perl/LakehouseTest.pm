# LakehouseTest: what the Perl tests share. Clusters with our preload settings,
# seeded random input whose every record can be told apart, and the comparison
# of what arrived with what was sent.
package LakehouseTest;

use strict;
use warnings;

use Exporter 'import';
use File::Path qw(make_path);
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(seed lakehouse_node faults_path kill_server kill_process wait_restarted start_again wait_until try_psql poll_value
  make_landing write_csv land check_files crash_at_random
  start_broker broker_command stop_broker produce_messages check_kafka librdkafka_crashes_on_topic_errors
  same_multiset check_loads worker_pid within told_soon stops_soon);

# the database that the comparisons look at
our $database = 'postgres';

# seed prints and sets the seed of this run; LAKEHOUSE_SEED repeats it.
sub seed
{
	my $seed = $ENV{LAKEHOUSE_SEED};
	$seed = int(rand(2**31)) unless defined $seed && $seed =~ /^\d+$/;
	srand($seed);
	diag("LAKEHOUSE_SEED=$seed");
	return $seed;
}

# faults_path is the installation built with fault points; without one the
# calling file is skipped, which "make test" reports.
sub faults_path
{
	return $ENV{LAKEHOUSE_FAULTS_PATH} if $ENV{LAKEHOUSE_FAULTS_PATH};
	plan(skip_all => 'needs a build with fault points (make test makes one)');
}

# lakehouse_node starts a cluster with the extension in database postgres.
#   install_path  another installation (faults_path)
#   conf          further settings
sub lakehouse_node
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name,
		$option{install_path} ? (install_path => $option{install_path}) : ());
	$node->init;
	$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'lakehouse'
max_worker_processes = 32
restart_after_crash = on
log_min_messages = info
lakehouse.launcher_naptime = 200
lakehouse.poll_interval = 50
END
	$node->append_conf('postgresql.conf', $option{conf}) if $option{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION lakehouse');
	return $node;
}

# Two things that a test of crashes would forget now and then are done for every
# psql of PostgreSQL::Test::Cluster, so also for safe_psql and all that is below:
# - A process that a fault point kills is gone some time before the server has
#   noticed; until then the server still answers. So a statement waits for the
#   restart if the log tells of such a kill, and one that fails waits as well.
# - A psql that cannot connect may end before it was given its statement. That
#   is an answer like any other while a server is being killed, and no reason to
#   die.
{
	no warnings 'redefine';    ## no critic (ProhibitNoWarnings)
	my $psql = \&PostgreSQL::Test::Cluster::psql;
	*PostgreSQL::Test::Cluster::psql = sub {
		my @arguments = @_;
		my $list = wantarray;
		my @answer;
		settle($arguments[0]);
		if (!eval { @answer = $list ? $psql->(@arguments) : scalar($psql->(@arguments)); 1 })
		{
			die $@ unless $@ =~ /Broken pipe/;
			@answer = $list ? (2, '', $@) : (2);
		}
		settle($arguments[0]) if ($answer[0] // 1) != 0;
		return $list ? @answer : $answer[0];
	};
}

# settle waits for the restart that a kill by a fault point makes necessary, if
# there was one since it looked last.
my %settled;    # log file => size up to which it was looked at
our $settling;

sub settle
{
	my ($node) = @_;
	my $log = $node->logfile;
	my $from = $settled{$log} // 0;
	return if $settling || (-s $log // 0) <= $from || !$node->{_pid} || !kill(0, $node->{_pid});
	local $settling = 1;
	my $new = slurp_file($log, $from) =~ s/[^\n]*\z//r;
	$settled{$log} = $from + length($new);
	return unless $new =~ /.* reached: kill\n/s;
	my $end = $+[0];
	# a server that was started since has nothing to notice
	return if substr($new, $end) =~ /database system is ready to accept connections|received \w+ shutdown request/;
	wait_restarted($node, $from + $end);
	return;
}

# kill_process kills a process of the server as a crash would, and waits until
# the server has noticed and has started anew; false if it was gone already.
sub kill_process
{
	my ($node, $pid) = @_;
	my $seen = -s $node->logfile;
	return 0 unless $pid && kill('KILL', $pid);
	wait_restarted($node, $seen);
	return 1;
}

# wait_until calls the function until it gives true; false after the limit.
sub wait_until
{
	my ($check, $limit) = @_;
	my $end = time() + ($limit // 60);
	while (time() < $end)
	{
		return 1 if $check->();
		usleep(20_000);
	}
	return 0;
}

# try_psql is psql for a server that may be down at this moment: status, output
# and errors, whatever breaks on the way.
sub try_psql
{
	my ($node, $query) = @_;
	my @result = eval { $node->psql('postgres', $query) };
	return @result ? @result : (2, '', $@);
}

# poll_value waits until the query gives the value, through restarts of the
# server; the query's last answer is shown if it never does.
sub poll_value
{
	my ($node, $query, $value, $limit) = @_;
	my $last;
	return 1
	  if wait_until(
		sub {
			my ($status, $out, $err) = try_psql($node, $query);
			$last = $status == 0 ? $out : "error: $err";
			return defined $last && $last eq $value;
		},
		$limit);
	diag("still \"$last\" instead of \"$value\": $query");
	return 0;
}

# kill_server kills the postmaster as a power failure would, and waits until
# the system has cleared it away.
sub kill_server
{
	my ($node) = @_;
	my $pid = $node->{_pid};
	$node->kill9;
	wait_until(sub { !kill(0, $pid) }, 30) or BAIL_OUT("process $pid cannot be killed");
	return;
}

# wait_restarted waits until the server has noticed that one of its processes
# was killed and has started all of them anew. $seen is the size of its log
# before the kill: right after it the server still answers, for a moment.
sub wait_restarted
{
	my ($node, $seen) = @_;
	wait_until(sub { slurp_file($node->logfile, $seen) =~ /all server processes terminated; reinitializing/ }, 20);
	wait_until(sub { my ($status) = try_psql($node, 'SELECT 1'); $status == 0 }, 60)
	  or BAIL_OUT('the server does not come back');
	return;
}

# What is promised: trouble with Kafka is told within 10 seconds, and the server's
# processes end within 5.
our $TOLD_LIMIT = 10;
our $STOP_LIMIT = 5;

# within tells that what the function measures, in seconds, is below the limit.
# What else the machine does makes something late, never early: it is measured
# again if it took too long, twice at most.
sub within
{
	my ($limit, $name, $measure) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @took;
	for my $try (1 .. 3)
	{
		push @took, $measure->($try) // 'for ever';
		last if $took[-1] eq 'for ever' || $took[-1] < $limit;
	}
	my $good = $took[-1] ne 'for ever' && $took[-1] < $limit;
	my $seconds = join(', ', map { /\d/ ? sprintf('%.1f', $_) : $_ } @took);
	note("$name: $seconds s");
	return ok($good, "$name, within $limit seconds") || diag("it took $seconds seconds");
}

# told_soon makes trouble and tells that the state of a source (or of the messages
# for a server) has the SQLSTATE soon, by the time that the server entered for it.
# All is well before: who waits after an earlier failure looks at nothing.
#   source or outbox  name of the source, or of the server
#   state             SQLSTATE
#   begin, end        functions that make the trouble, and end it
sub told_soon
{
	my ($node, $name, %arg) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $of = defined $arg{source} ? "lakehouse.source_state JOIN lakehouse.source USING (source_id) WHERE name = '$arg{source}'"
	  : "lakehouse.outbox_state WHERE server = '$arg{outbox}'";
	return within(
		$TOLD_LIMIT, $name,
		sub {
			my ($try) = @_;
			$arg{end}->() if $try > 1;
			if ($node->safe_psql('postgres', "SELECT count(*) FROM $of AND failures > 0") > 0)
			{
				my $now = time();
				my $well = "SELECT count(*) FROM $of AND (failures > 0" . (defined $arg{source} ? " OR last_success IS NULL OR last_success < to_timestamp($now))" : ')');
				$node->safe_psql('postgres', defined $arg{source} ? "SELECT lakehouse.pause_source('$arg{source}'); SELECT lakehouse.resume_source('$arg{source}')"
					: "SELECT lakehouse.kafka_retry('$arg{outbox}')");
				poll_value($node, $well, '0', 120) or return undef;
			}
			my $began = time();
			$arg{begin}->();
			my $took;
			wait_until(
				sub {
					my ($status, $out) = try_psql($node, "SELECT extract(epoch FROM last_failure) - $began FROM $of"
						  . " AND failures > 0 AND sqlstate = '$arg{state}' AND last_failure > to_timestamp($began)");
					$took = $out if $status == 0 && defined $out && $out =~ /\d/;
					return defined $took;
				},
				120);
			return $took;
		});
}

# stops_soon stops the server, tells that all sessions and workers ended soon, and
# starts it again; the function prepares what is to be stopped. The log has the
# times: after all have ended comes the checkpoint, which is not looked at.
sub stops_soon
{
	my ($node, $name, $prepare) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return within(
		$STOP_LIMIT, $name,
		sub {
			$prepare->();
			my $seen = -s $node->logfile;
			$node->stop('fast');
			my ($asked, $ended) = map {
				slurp_file($node->logfile, $seen) =~ /^\S+ (\d+):(\d+):([\d.]+) .*LOG:  $_/m
				  or die "no \"$_\" in the log";
				$1 * 3600 + $2 * 60 + $3
			} 'received fast shutdown request', 'shutting down';
			$node->start;
			return $ended - $asked + ($ended < $asked ? 86400 : 0);
		});
}

# start_again starts a killed server; the old children may need a moment to
# let go of the shared memory.
sub start_again
{
	my ($node) = @_;
	wait_until(
		sub {
			# a failed start takes the id in the dead server's file for its own
			$node->{_pid} = undef;
			return $node->start(fail_ok => 1);
		},
		60) or BAIL_OUT('the server does not start');
	return;
}

# crash_at_random kills at random moments while new input is being read, and
# lets each round finish before the next one begins.
#   node, source  whose source is being read
#   victim        'backend' (a session in run_source), 'worker' (the background
#                 worker of a continuous source) or 'server' (the postmaster)
#   rounds        how many kills
#   feed          function that brings one round's input, or begins to and gives
#                 a function that waits until all of it is there
#   finished      function whose query gives "t" when all input was read
#   after         function that is called after each kill, when all was read
# Prints how many kills came before the last load of their round had committed;
# those are the ones that prove something, so it goes on beyond the rounds until
# they are a third of what was asked for, six times as many rounds at most.
sub crash_at_random
{
	my (%arg) = @_;
	my ($node, $source, $victim) = @arg{qw(node source victim)};
	my ($hits, $longest) = (0, 0.02);
	$node->safe_psql('postgres', "SELECT lakehouse.alter_source('$source', trigger => '"
		  . ($victim eq 'backend' ? 'available_now' : 'continuous') . "')");

	# the first round is left in peace, to know how long one takes
	my $wanted = int($arg{rounds} / 3);
	my $done = 0;
	for my $round (0 .. 6 * $arg{rounds})
	{
		last if $round > $arg{rounds} && $hits >= $wanted;
		$done = $round;
		my $session;
		my $pid = $victim eq 'worker' ? worker_pid($node, $source) : 0;
		my $fed = $arg{feed}->();
		$session = start_session($node, "SELECT lakehouse.run_source('$source')", \$pid)
		  if $victim eq 'backend';
		my $began = time();
		my $killed;
		my $seen = -s $node->logfile;
		my $hit = 0;
		if ($round > 0)
		{
			usleep(int(rand($longest * 1_000_000)));
			if ($victim eq 'server')
			{
				kill_server($node);
			}
			else
			{
				$hit = kill('KILL', $pid) if $pid;
			}
			$killed = time();
		}
		$fed->() if ref $fed;
		if ($session)
		{
			eval { $session->finish };
		}
		start_again($node) if $round > 0 && $victim eq 'server';
		wait_restarted($node, $seen) if $hit;
		$node->safe_psql('postgres', "SELECT lakehouse.run_source('$source')") if $victim eq 'backend';
		if (!poll_value($node, $arg{finished}->(), 't', 60))
		{
			fail("$victim, round $round: the input is read to its end");
			return;
		}
		$arg{after}->() if $arg{after} && $round > 0;
		my $finished = $node->safe_psql('postgres', 'SELECT extract(epoch FROM max(finished)) FROM lakehouse.load');
		if ($round > 0 && $finished > $killed)
		{
			$hits++;
		}
		elsif ($finished - $began > 0.02)
		{
			# too late: now it is known how long an undisturbed round takes
			$longest = $finished - $began;
		}
	}
	note(sprintf('%s: %d of %d kills in the middle, a round takes %.0f ms',
		$victim, $hits, $done, $longest * 1000));
	cmp_ok($hits, '>=', $wanted, "$victim: $wanted kills at least hit work in hand");
	return;
}

# worker_pid waits for a background worker of the source and gives its pid.
sub worker_pid
{
	my ($node, $source) = @_;
	my $pid = '';
	wait_until(
		sub {
			my ($status, $out) = try_psql($node, <<"END");
SELECT pid FROM pg_stat_activity
 WHERE backend_type LIKE 'lakehouse%' AND application_name LIKE '%source%$source%'
 ORDER BY random() LIMIT 1
END
			$pid = $out if $status == 0 && defined $out && $out =~ /^\d+$/;
			return $pid ne '';
		},
		30) or fail("the source \"$source\" has a worker");
	return $pid eq '' ? 0 : $pid;
}

# start_session starts psql with one statement and finds its backend's pid.
sub start_session
{
	my ($node, $statement, $pid) = @_;
	my ($in, $out, $err) = ('', '', '');
	my $session = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \"SELECT pg_backend_pid();\n$statement;\n", '>', \$out, '2>', \$err);
	$session->pump_nb until !$session->pumpable || $out =~ /^\d+\n/;
	($$pid) = $out =~ /^(\d+)/;
	return $session;
}

# make_landing makes a landing directory and its server "landing".
sub make_landing
{
	my ($node) = @_;
	my $landing = $node->basedir . '/landing';
	make_path("$landing/in", "$landing.tmp");
	$node->safe_psql('postgres',
		"CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing')");
	return $landing;
}

# write_csv makes one CSV file of "records" records (file, ordinal, value)
# beside the landing directory. One record in fifty has an ordinal that is no
# number. What was written goes to $sent: {rows} good records, {rejects} bad
# ones with their line.
sub write_csv
{
	my ($landing, $name, $records, $sent) = @_;
	my @value = ('plain', 'with, comma', 'with "quote"', "with\nnewline", '', "\x{e4}\x{4e16}");
	my $line = 2;
	open(my $file, '>:utf8', "$landing.tmp/$name") or die "$landing.tmp/$name: $!";
	print $file "file,ordinal,value\n";
	for my $ordinal (1 .. $records)
	{
		my $value = $value[ int(rand(@value)) ] . int(rand(1_000_000_000));
		my $bad = int(rand(50)) == 0;
		(my $quoted = $value) =~ s/"/""/g;
		my $record = $name . ',' . ($bad ? "x$ordinal" : $ordinal) . ",\"$quoted\"";
		print $file "$record\n";
		if ($bad)
		{
			push @{ $sent->{rejects} }, [ $name, $line, $record ];
		}
		else
		{
			push @{ $sent->{rows} }, [ $name, $ordinal, $value ];
		}
		$line += 1 + ($record =~ tr/\n//);
	}
	close($file) or die "$landing.tmp/$name: $!";
	$sent->{files}{$name} = -s "$landing.tmp/$name";
	return;
}

# land brings the file into the landing directory, complete.
sub land
{
	my ($landing, $name) = @_;
	rename("$landing.tmp/$name", "$landing/in/$name") or die "$name: $!";
	return;
}

# Clients of librdkafka 2.3 to 2.9 can crash when a broker answers for a topic
# with an error and with partitions (its issue 4907), as the mock brokers do.
sub librdkafka_crashes_on_topic_errors
{
	my ($major, $minor) = `pkg-config --modversion rdkafka` =~ /^(\d+)\.(\d+)/ or die 'the version of librdkafka cannot be told';
	return $major == 2 && $minor >= 3 && $minor < 10;
}

# start_broker starts the mock cluster, which ends with this test.
sub start_broker
{
	my ($topics) = @_;
	my $program = $ENV{LAKEHOUSE_MOCK_BROKER} // "$FindBin::RealBin/../kafka/mock_broker";
	my $broker = { in => '', out => '' };
	$broker->{run} = IPC::Run::start([ $program, '--topics', $topics ], '<', \$broker->{in}, '>', \$broker->{out});
	$broker->{run}->pump until $broker->{out} =~ s/^(.*)\n//;
	$broker->{servers} = $1;
	return $broker;
}

# broker_command gives the broker a command, dies unless it answers "ok", and
# gives what follows that.
sub broker_command
{
	my ($broker, $command) = @_;
	broker_send($broker, $command);
	return broker_answer($broker, $command);
}

sub broker_send
{
	my ($broker, $command) = @_;
	$broker->{in} .= "$command\n";
	$broker->{run}->pump_nb;
	return;
}

sub broker_answer
{
	my ($broker, $command) = @_;
	$broker->{run}->pump until $broker->{out} =~ s/^(.*)\n//;
	my $answer = $1;
	die "broker, $command: $answer" unless $answer =~ s/^ok ?//;
	return $answer;
}

sub stop_broker
{
	my ($broker) = @_;
	$broker->{run}->kill_kill;
	return;
}

# produce_messages begins to send "count" messages to random partitions of the
# topic and gives a function that waits for the end of it. One message in a
# hundred holds a byte that no text may hold. $sent gets {rows}:
# partition, offset, key, value; {rejects}: partition, offset, bytes in hex.
sub produce_messages
{
	my ($broker, $topic, $partitions, $count, $sent) = @_;
	my $path = PostgreSQL::Test::Utils::tempdir() . '/messages';
	open(my $file, '>:utf8', $path) or die "$path: $!";
	for (1 .. $count)
	{
		my $partition = int(rand($partitions));
		my $offset = $sent->{next}{$partition}++;
		my $value = "$partition/$offset/" . int(rand(1_000_000_000)) . "\x{e4}";
		if (rand(100) < 1)
		{
			my $hex = unpack('H*', "$partition/$offset/") . 'ff00';
			print $file qq({"topic": "$topic", "partition": $partition, "key": "k$offset", "value_hex": "$hex"}\n);
			push @{ $sent->{rejects} }, [ $partition, $offset, $hex ];
		}
		else
		{
			print $file qq({"topic": "$topic", "partition": $partition, "key": "k$offset", "value": "$value"}\n);
			push @{ $sent->{rows} }, [ $partition, $offset, "k$offset", $value ];
		}
	}
	close($file) or die "$path: $!";
	broker_send($broker, "file $path");
	return sub { broker_answer($broker, "file $path") };
}

# copy_text writes one row of COPY's text format.
sub copy_text
{
	my ($file, @column) = @_;
	s/\\/\\\\/g, s/\n/\\n/g, s/\t/\\t/g for @column;
	print $file join("\t", @column), "\n";
	return;
}

# store_sent puts what was sent into two tables of the schema "sent", for the
# comparison to be made by the server.
sub store_sent
{
	my ($node, $sent, $rows, $rejects) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	open(my $file, '>:utf8', "$dir/rows") or die $!;
	copy_text($file, @$_) for @{ $sent->{rows} };
	close($file);
	open($file, '>:utf8', "$dir/rejects") or die $!;
	copy_text($file, @$_) for @{ $sent->{rejects} // [] };
	close($file);
	$node->safe_psql($database, <<"END");
DROP SCHEMA IF EXISTS sent CASCADE;
CREATE SCHEMA sent;
CREATE TABLE sent.row ($rows);
CREATE TABLE sent.reject ($rejects);
COPY sent.row FROM '$dir/rows' (ENCODING 'UTF8');
COPY sent.reject FROM '$dir/rejects' (ENCODING 'UTF8');
END
	return;
}

# same_multiset tells whether two queries give the same rows equally often.
sub same_multiset
{
	my ($node, $got, $expected, $name) = @_;
	my $difference = $node->safe_psql($database, <<"END");
(SELECT 'unexpected: ' || x::text FROM (($got) EXCEPT ALL ($expected)) x LIMIT 5)
UNION ALL
(SELECT 'missing: ' || x::text FROM (($expected) EXCEPT ALL ($got)) x LIMIT 5)
END
	return is($difference, '', $name);
}

# check_files compares the table bronze.record and the ledger of the source
# with what was sent: contents as multisets, and the ledger's own numbers.
sub check_files
{
	my ($node, $source, $sent) = @_;
	store_sent($node, $sent, 'file text, ordinal integer, value text', 'file text, line bigint, raw text');

	same_multiset($node, 'SELECT file, ordinal, value FROM bronze.record', 'SELECT * FROM sent.row',
		"$source: every good record arrived once, with its value");
	same_multiset(
		$node,
		q{SELECT regexp_replace(f.path, '^.*/', ''), r.line, trim(trailing e'\r\n' from convert_from(r.raw, 'UTF8'))
			FROM lakehouse.reject r JOIN lakehouse.file f USING (file_id)},
		'SELECT * FROM sent.reject',
		"$source: every broken record is kept once, with its line and bytes");
	is($node->safe_psql($database, <<"END"), '', "$source: the ledger's counts are those of the tables");
SELECT f.path, f.state, f.rows, b.rows, f.rejected, r.rows, f.position, f.size
  FROM lakehouse.file f
  LEFT JOIN (SELECT file, count(*) AS rows FROM bronze.record GROUP BY file) b
         ON b.file = regexp_replace(f.path, '^.*/', '')
  LEFT JOIN (SELECT file_id, count(*) AS rows FROM lakehouse.reject GROUP BY file_id) r USING (file_id)
 WHERE f.state <> 'loaded' OR f.rows <> coalesce(b.rows, 0) OR f.rejected <> coalesce(r.rows, 0)
    OR f.position <> f.size
END
	is($node->safe_psql($database, 'SELECT count(*) FROM lakehouse.file'),
		scalar(keys %{ $sent->{files} }), "$source: the ledger has every file");
	check_loads($node, $source, 'bronze.record');
	return;
}

# check_kafka compares bronze.message and the positions of the source with what
# was produced.
sub check_kafka
{
	my ($node, $source, $sent) = @_;
	store_sent(
		$node, $sent,
		'partition integer, "offset" bigint, key text, value text',
		'partition integer, "offset" bigint, hex text');
	same_multiset($node, 'SELECT partition, "offset", key, value FROM bronze.message', 'SELECT * FROM sent.row',
		"$source: every message arrived once, with its key and value");
	same_multiset(
		$node,
		q{SELECT partition, "offset", encode(raw, 'hex') FROM lakehouse.reject},
		'SELECT * FROM sent.reject',
		"$source: every message that is no text is kept once, with its bytes");
	same_multiset(
		$node,
		q{SELECT partition, next_offset, rows, rejected FROM lakehouse.kafka_offset},
		q{SELECT coalesce(m.partition, r.partition), greatest(m.last, r.last) + 1, coalesce(m.rows, 0), coalesce(r.rows, 0)
			FROM (SELECT partition, max("offset") AS last, count(*) AS rows FROM sent.row GROUP BY partition) m
			FULL JOIN (SELECT partition, max("offset") AS last, count(*) AS rows FROM sent.reject GROUP BY partition) r USING (partition)},
		"$source: positions are the last offset + 1, counts are those of the tables");
	check_loads($node, $source, 'bronze.message');
	return;
}

# check_loads compares the recorded loads of a table with its rows.
sub check_loads
{
	my ($node, $source, $table) = @_;
	is($node->safe_psql($database, <<"END"), '', "$source: every row has a load, every load its rows");
SELECT coalesce(l.load_id, b._load_id), l.rows, b.rows
  FROM (SELECT * FROM lakehouse.load WHERE relation = '$table'::regclass) l
  FULL JOIN (SELECT _load_id, count(*) AS rows FROM $table GROUP BY _load_id) b ON b._load_id = l.load_id
 WHERE l.load_id IS NULL OR l.rows <> coalesce(b.rows, 0)
END
	return;
}

1;
