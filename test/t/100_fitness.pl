# The fitness pipeline (examples/fitness) end to end: the counts it is known
# for, full contents against an independent recomputation (check.sql), the same
# tables however the input is cut and ordered and whether it comes from files
# or from Kafka, and every point that is decided differently from the original.
use strict;
use warnings;

use File::Copy qw(move);
use File::Path qw(make_path);
use FindBin;
use IPC::Run;
use LakehouseTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = $ENV{LAKEHOUSE_SOURCE} // "$FindBin::RealBin/../..";
my $example = "$source/examples/fitness";
my $seed = seed();
my $node = lakehouse_node('fitness', conf => "fsync = off\nmax_wal_size = 2GB\n");
my $base = $node->basedir;
my $generate = "$base/generate";
system($ENV{CC} // 'cc', '-O2', '-o', $generate, glob("$example/generate*.c")) == 0 or BAIL_OUT('the simulator does not compile');

my @tables = qw(silver.date_lookup silver.users silver.gym_logs silver.user_profile silver.workouts
  silver.heart_rate silver.user_bins silver.completed_workouts silver.workout_bpm
  gold.workout_bpm_summary gold.gym_summary);

# ------------------------------------------------------------------- helpers

# generate writes the sources into a new directory and gives its name and what
# was written, as a hash of counts.
sub generate
{
	my ($name, @option) = @_;
	my $directory = "$base/$name";
	make_path($directory);
	my ($out, $err) = ('', '');
	IPC::Run::run([ $generate, @option, $directory ], '>', \$out, '2>', \$err) or die "generate: $err";
	my %count = $err =~ /(\w+)=(\d+)/g;
	return ($directory, \%count);
}

# psql_file runs a script with variables.
sub psql_file
{
	my ($db, $file, %variable) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db),
			(map { ('-v', "$_=$variable{$_}") } sort keys %variable), '-f', $file
		],
		'>', \$out, '2>', \$err) or die "$file: $err";
	return $out;
}

sub deploy
{
	my ($db, $landing, %variable) = @_;
	make_path("$landing/registered_users", "$landing/gym_logins", "$landing/kafka_multiplex");
	$node->safe_psql('postgres', "CREATE DATABASE $db")
	  if $node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$db'") eq '0';
	psql_file($db, "$example/pipeline.sql", landing => $landing, %variable);
	return;
}

# run_all brings everything up to date; one failing source or flow is an error.
sub run_all
{
	my ($db, $settings) = @_;
	my $failed = $node->safe_psql($db, ($settings // '')
		  . "SELECT kind, name, status, error FROM lakehouse.run() WHERE status <> 'succeeded'");
	die "$db: $failed" if $failed ne '';
	return;
}

# check compares every table with its recomputation from bronze.
sub check
{
	my ($db, $name) = @_;
	my $bad = join("\n", grep { !/\|0\|0$/ } split(/\n/, psql_file($db, "$example/check.sql")));
	return is($bad, '', "$name: contents equal an independent recomputation");
}

# snapshot gives a digest of every silver and gold table, without _load_id.
sub snapshot
{
	my ($db) = @_;
	my %digest;
	for my $table (@tables)
	{
		my $columns = $node->safe_psql($db, <<"END");
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
 WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> '_load_id'
END
		$digest{$table} = $node->safe_psql($db, <<"END");
SET timezone = 'UTC';
SELECT count(*) || ' ' || md5(coalesce(string_agg(r::text, e'\\n' ORDER BY r::text COLLATE "C"), '')) FROM (SELECT $columns FROM $table) AS r
END
	}
	return \%digest;
}

sub counts
{
	my ($db, @names) = @_;
	return join(' ', map { $node->safe_psql($db, "SELECT count(*) FROM $_") } @names);
}

sub message_counts
{
	my ($db) = @_;
	return $node->safe_psql($db, <<'END');
SELECT string_agg(topic || ' ' || n, ', ' ORDER BY topic)
  FROM (SELECT topic, count(*) AS n FROM bronze.kafka_multiplex GROUP BY topic) AS t
END
}

# write_lines makes one file in a directory, complete when it appears.
sub write_lines
{
	my ($directory, $name, @lines) = @_;
	open(my $file, '>', "$directory/.$name") or die "$name: $!";
	print $file map { "$_\n" } @lines;
	close($file);
	rename("$directory/.$name", "$directory/$name") or die "$name: $!";
	return;
}

# same_rejects compares what the flows' rejects say of their messages.
sub same_rejects
{
	my ($db, $expected, $name) = @_;
	my $got = <<'END';
SELECT CASE name WHEN 'user_profile' THEN 'user_info' WHEN 'workouts' THEN 'workout' ELSE 'bpm' END, (j->>'partition')::integer, (j->>'offset')::bigint, j->>'value'
  FROM (SELECT f.name, convert_from(r.raw, 'UTF8')::jsonb AS j FROM lakehouse.reject AS r JOIN lakehouse.flow AS f USING (flow_id)) AS r
END
	return is($node->safe_psql($db, "($expected EXCEPT ALL $got) UNION ALL ($got EXCEPT ALL $expected) LIMIT 5"), '', $name);
}

sub drop_database
{
	my ($db) = @_;
	$node->safe_psql('postgres', "DROP DATABASE $db WITH (FORCE)");
	return;
}

# --------------------------------------------------- the known counts, in full

subtest 'one set, then a second one, in full volume' => sub {
	my ($landing, $sent) = generate('entire', '--sets', '1');
	is("$sent->{registered_users} $sent->{gym_logins} $sent->{user_info} $sent->{workout} $sent->{bpm}",
		'5 8 7 16 253801', 'one set is generated as it should be');
	deploy('entire', $landing);
	run_all('entire');
	is(counts('entire', qw(bronze.registered_users silver.users silver.user_profile silver.user_bins)), '5 5 5 5', 'one set: users');
	is(counts('entire', qw(bronze.gym_logins silver.gym_logs)), '8 8', 'one set: visits');
	is(message_counts('entire'), 'bpm 253801, user_info 7, workout 16', 'one set: messages');
	is(counts('entire', qw(silver.workouts silver.heart_rate silver.completed_workouts gold.gym_summary gold.workout_bpm_summary)),
		'16 253801 8 8 8', 'one set: workouts, heart rates, summaries');
	is($node->safe_psql('entire', 'SELECT num_recordings FROM gold.workout_bpm_summary WHERE (user_id, workout_id) = (12474, 1)'),
		'3968', 'one workout of 3,968 seconds has 3,968 recordings');
	is($node->safe_psql('entire', 'SELECT extract(epoch FROM end_time - start_time)::integer FROM silver.completed_workouts WHERE (user_id, workout_id) = (12474, 1)'),
		'3968', 'and lasted that long');
	check('entire', 'one set');

	generate('entire', '--sets', '1', '--first-set', '2');
	run_all('entire');
	is(counts('entire', qw(bronze.registered_users silver.users silver.user_profile silver.user_bins)), '10 10 10 10', 'two sets: users');
	is(counts('entire', qw(bronze.gym_logins silver.gym_logs)), '16 16', 'two sets: visits');
	is(message_counts('entire'), 'bpm 507602, user_info 13, workout 32', 'two sets: messages');
	is(counts('entire', qw(silver.workouts silver.heart_rate silver.completed_workouts gold.gym_summary gold.workout_bpm_summary)),
		'32 507602 16 16 16', 'two sets: workouts, heart rates, summaries');
	check('entire', 'two sets in two runs');

	is($node->safe_psql('entire', <<'END'), 'new 0|update 11', 'the 13th message is an update 11 s after the new of its user');
SELECT string_agg((value::jsonb->>'update_type') || ' ' || seconds, '|' ORDER BY seconds)
  FROM (SELECT value, (value::jsonb->>'timestamp')::float - min((value::jsonb->>'timestamp')::float) OVER () AS seconds
          FROM bronze.kafka_multiplex
         WHERE topic = 'user_info' AND key = (SELECT key FROM bronze.kafka_multiplex WHERE topic = 'user_info' AND "offset" = 12)) AS m
END
	is($node->safe_psql('entire', <<'END'), '3', 'three users train twice on one day, in two gyms');
SELECT count(*) FROM (SELECT FROM gold.gym_summary GROUP BY mac_address, date HAVING count(DISTINCT gym) = 2) AS d
END
	is($node->safe_psql('entire', <<'END'), '0', 'every message lies in the partition of its topic and week');
SELECT count(*) FROM bronze.kafka_multiplex
 WHERE tableoid::regclass::text <> 'bronze.kafka_multiplex_' || topic || '_' || translate(week_part, '-', '_')
END
	is($node->safe_psql('entire', <<'END'), '507602', 'objects and strings both arrive as JSON text');
SELECT count(*) FROM bronze.kafka_multiplex WHERE topic = 'bpm' AND left(value, 14) = '{"device_id": '
END
	is($node->safe_psql('entire', "SELECT count(*) FROM silver.date_lookup WHERE week_part <> bronze.week_part(date)"),
		'0', 'bronze.week_part equals the calendar');

	my $before = snapshot('entire');
	my $loads = counts('entire', 'lakehouse.load');
	deploy('entire', $landing);
	run_all('entire');
	is_deeply(snapshot('entire'), $before, 'pipeline.sql may be run again');
	is(counts('entire', 'lakehouse.load'), $loads, 'and loads nothing twice');
	like(psql_file('entire', "$example/validate.sql"), qr/^(?:bronze.*\|0\n){6}silver\.gym_logs: logout is known\|0$/m, 'the expectations of the original hold');
	drop_database('entire');
};

# ---------------------------------- the same tables from any order and any cut

my @small = ('--seed', $seed, '--bpm', '6000', '--deletes', '0.3');
my ($whole_landing) = generate('whole', @small, '--sets', '2');
deploy('whole', $whole_landing);
run_all('whole');
check('whole', 'reduced volume in one run');
my $whole = snapshot('whole');

subtest 'two sets in two runs' => sub {
	my ($landing) = generate('two', @small, '--sets', '1');
	deploy('two', $landing);
	run_all('two');
	check('two', 'after the first run');
	generate('two', @small, '--sets', '1', '--first-set', '2');
	run_all('two');
	is_deeply(snapshot('two'), $whole, 'the same tables as in one run');
	drop_database('two');
};

subtest 'files in any order, cut into any batches' => sub {
	for my $round (1 .. 2)
	{
		my ($made) = generate("made$round", @small, '--sets', '2', '--lines', 150 + int(rand(900)));
		my $landing = "$base/shuffled$round";
		my @files = shuffle(map { s{^\Q$made\E/}{}r } glob("$made/*/*"));
		# visits and registrations are cut to single rows, too
		for my $csv (grep { /csv$/ } @files)
		{
			my ($header, @rows) = split(/\n/, slurp_file("$made/$csv"));
			my $n = 0;
			write_split("$made/$csv", $header, $_, ++$n) for @rows;
			unlink("$made/$csv");
		}
		@files = shuffle(map { s{^\Q$made\E/}{}r } glob("$made/*/*"));
		deploy("shuffled$round", $landing);
		$node->safe_psql("shuffled$round", "SELECT lakehouse.alter_flow(name, max_loads => 1 + (random() * 4)::integer) FROM lakehouse.flow");
		while (@files)
		{
			for my $file (splice(@files, 0, 1 + int(rand(20))))
			{
				move("$made/$file", "$landing/$file") or die "$file: $!";
			}
			run_all("shuffled$round", 'SET lakehouse.batch_rows = ' . (50 + int(rand(400))) . '; SET lakehouse.batch_files = ' . (1 + int(rand(5))) . ';');
		}
		is_deeply(snapshot("shuffled$round"), $whole, "round $round: the same tables");
		drop_database("shuffled$round");
	}
};

# write_split writes one row of a CSV file as a file of its own.
sub write_split
{
	my ($name, $header, $row, $n) = @_;
	$name =~ s/\.csv$/_$n.csv/;
	open(my $file, '>', $name) or die "$name: $!";
	print $file "$header\n$row\n";
	close($file);
	return;
}

subtest 'Kafka instead of files' => sub {
	my $broker = start_broker('user_info:3,workout:3,bpm:3');
	my ($landing) = generate('kafka', @small, '--sets', '2', '--only', 'csv');
	my ($made) = generate('kafka_made', @small, '--sets', '2', '--partitions', '3', '--only', 'messages', '--lines', '4000');
	deploy('kafka', $landing, bootstrap_servers => $broker->{servers});
	for my $file (sort glob("$made/kafka_multiplex/*.json"))
	{
		broker_command($broker, "file $file");
		run_all('kafka');
	}
	is_deeply(snapshot('kafka'), $whole, 'the same tables as from files');
	check('kafka', 'Kafka');
	my $bronze = 'SELECT key, value, topic, "timestamp", date, week_part FROM bronze.kafka_multiplex';
	is($node->safe_psql('kafka', "SELECT count(*) FROM lakehouse.reject"), '0', 'no rejects');
	is($node->safe_psql('kafka', "SELECT md5(string_agg(r::text, '' ORDER BY r::text COLLATE \"C\")) FROM ($bronze) AS r"),
		$node->safe_psql('whole', "SELECT md5(string_agg(r::text, '' ORDER BY r::text COLLATE \"C\")) FROM ($bronze) AS r"),
		'bronze holds the same messages');
	stop_broker($broker);
	drop_database('kafka');
};

subtest 'late, out of order, twice and broken' => sub {
	my @faults = (@small, '--sets', '2', '--late', '0.3', '--out-of-order', '0.3', '--duplicate', '0.2');
	my ($landing, $sent_messages) = generate('faults', @faults, '--lines', '700', '--broken', '0.05', '--only', 'messages');
	my (undef, $sent_csv) = generate('faults', @faults, '--broken', '0.5', '--only', 'csv');
	my $sent = { map { $_ => $sent_messages->{$_} + $sent_csv->{$_} } keys %$sent_csv };
	# broken lines of the file form, and a file that is no CSV of ours
	write_lines("$landing/kafka_multiplex", 'broken.json', '{"key": "1", "value": "x', 'no JSON', '[1]');
	deploy('faults', $landing);
	run_all('faults');
	is_deeply(snapshot('faults'), $whole, 'the same tables as without faults');
	check('faults', 'faults');
	is($node->safe_psql('faults', <<'END'), join('|', $sent->{broken_registered_users}, $sent->{broken_gym_logins}, 3), 'broken records of files are rejects');
SELECT string_agg((SELECT count(*) FROM lakehouse.reject AS r WHERE r.source_id = s.source_id)::text, '|'
                  ORDER BY array_position('{registered_users,gym_logins,kafka_multiplex}', s.name))
  FROM lakehouse.source AS s
END
	is($node->safe_psql('faults', <<'END'), '0', 'each with its file, line, bytes, SQLSTATE and reason');
SELECT count(*) FROM lakehouse.reject AS r LEFT JOIN lakehouse.file AS f USING (file_id)
 WHERE r.source_id IS NOT NULL AND r.flow_id IS NULL
   AND (f.path IS NULL OR r.line IS NULL OR r.raw IS NULL OR r.sqlstate IS NULL OR r.message = '')
END
	is($node->safe_psql('faults', <<'END'), join('|', $sent->{broken_user_info}, $sent->{broken_workout}, $sent->{broken_bpm}), 'messages that are no event are rejects of their flow');
SELECT string_agg((SELECT count(*) FROM lakehouse.reject AS r WHERE r.flow_id = f.flow_id)::text, '|'
                  ORDER BY array_position('{user_profile,workouts,heart_rate}', f.name))
  FROM lakehouse.flow AS f WHERE f.name IN ('user_profile', 'workouts', 'heart_rate')
END
	same_rejects('faults', <<'END', 'each with its place and its bytes');
SELECT b.topic, b."partition", b."offset", b.value
  FROM bronze.kafka_multiplex AS b
 WHERE b.value NOT LIKE '{%}' OR b.value LIKE '{"firmware"%'
END
	cmp_ok($sent->{broken_bpm}, '>', 100, 'there were broken messages');
	drop_database('faults');
};

# ------------------------------------------------ decided differently, each row

my $landing = "$base/decided";
deploy('decided', $landing);
my $files = 0;

# send_csv and send_messages bring records in one new file each and run.
sub send_csv
{
	my ($folder, @rows) = @_;
	my $header = $folder eq 'gym_logins' ? 'mac_address,gym,login,logout' : 'user_id,device_id,mac_address,registration_timestamp';
	write_lines("$landing/$folder", sprintf('f%04d.csv', ++$files), $header, @rows);
	run_all('decided');
	return;
}

my %offset;

sub send_messages
{
	my ($topic, @values) = @_;
	write_lines("$landing/kafka_multiplex", sprintf('f%04d.json', ++$files), map {
		sprintf('{"key": "k", "value": %s, "topic": "%s", "partition": 0, "offset": %d, "timestamp": 1420070400000}',
			$_, $topic, $offset{$topic}++)
	} @values);
	run_all('decided');
	return;
}

sub user_info
{
	my ($user, $type, $time, $city, %more) = @_;
	my $name = $more{name} // 'A';
	return qq({"user_id": $user, "update_type": "$type", "timestamp": $time, "dob": "01/01/1990", "gender": "F", "first_name": "$name", "address": {"city": "$city"}});
}

sub workout
{
	my ($user, $workout, $action, $time) = @_;
	return qq({"user_id": $user, "workout_id": $workout, "timestamp": $time, "action": "$action", "session_id": 1});
}

sub bpm
{
	my ($device, $time, $rate) = @_;
	return qq({"device_id": $device, "time": $time, "heartrate": $rate});
}

sub answer
{
	return $node->safe_psql('decided', "SET timezone = 'UTC'; " . shift);
}

subtest 'epochs are exact: no 32-bit float' => sub {
	send_messages('user_info', user_info(1, 'new', '1420070400', 'first'));
	send_messages('user_info', user_info(1, 'update', '1420070400.001', 'second'));
	is(answer('SELECT city, updated FROM silver.user_profile WHERE user_id = 1'), 'second|2015-01-01 00:00:00.001+00', 'updates a millisecond apart are two');
	send_csv('registered_users', '1,11,aa,1420070401');
	is(answer('SELECT registration_timestamp FROM silver.users WHERE user_id = 1'), '2015-01-01 00:00:01+00', 'seconds are not rounded to 64');
	send_messages('bpm', bpm(11, 1420070401, 60), bpm(11, 1420070402, 61), bpm(11, 1420070402.5, 62));
	is(answer('SELECT count(DISTINCT time) FROM silver.heart_rate WHERE device_id = 11'), '3', 'seconds and fractions stay distinct');
};

subtest 'ties end in one total order' => sub {
	my @tie = (user_info(2, 'update', 1420070500, 'Austin'), user_info(2, 'update', 1420070500, 'Boston'));
	my @same = map { s/"user_id": 2/"user_id": 3/r } reverse @tie;
	my @apart = map { s/"user_id": 2/"user_id": 4/r } @tie;
	send_messages('user_info', @tie);
	send_messages('user_info', @same);
	send_messages('user_info', $_) for @apart;
	is(answer('SELECT count(*), count(DISTINCT city), min(city) FROM silver.user_profile WHERE user_id IN (2, 3, 4)'), '3|1|Boston', 'one row for each user, the same in any order and cut');
	send_messages('user_info', user_info(5, 'new', 1420070500, 'x'), user_info(5, 'delete', 1420070500, 'x'));
	send_messages('user_info', user_info(6, 'delete', 1420070500, 'x'), user_info(6, 'new', 1420070500, 'x'));
	is(answer('SELECT count(*) FROM silver.user_profile WHERE user_id IN (5, 6)'), '2', 'an upsert beats a delete of the same time');
};

subtest 'NULL is older than anything' => sub {
	answer("INSERT INTO silver.user_profile (user_id, city, updated) VALUES (7, 'unknown', NULL)");
	send_messages('user_info', user_info(7, 'update', 1, 'Denver'));
	is(answer('SELECT city FROM silver.user_profile WHERE user_id = 7'), 'Denver', 'a stored row without a time is replaced');
	send_messages('user_info', user_info(7, 'update', 'null', 'never'));
	is(answer('SELECT city FROM silver.user_profile WHERE user_id = 7'), 'Denver', 'an event without a time replaces nothing');
	is(answer("SELECT count(*) FROM lakehouse.reject JOIN lakehouse.flow USING (flow_id) WHERE name = 'user_profile'"), '1', 'and is a reject');
	send_messages('user_info', user_info(7, 'update', 1, 'Aachen'));
	is(answer('SELECT city FROM silver.user_profile WHERE user_id = 7'), 'Denver', 'equal times end in the total order');
};

subtest 'late events, deletes and their tombstones' => sub {
	send_messages('user_info', user_info(8, 'new', 1420070600, 'new'), user_info(8, 'delete', 1420070700, ''));
	is(answer('SELECT count(*) FROM silver.user_profile WHERE user_id = 8'), '0', 'a delete is honoured');
	send_messages('user_info', user_info(8, 'update', 1420070650, 'late'));
	is(answer('SELECT count(*) FROM silver.user_profile WHERE user_id = 8'), '0', 'a late older event does not bring the user back');
	send_messages('user_info', user_info(8, 'new', 1420070800, 'again'));
	is(answer('SELECT city FROM silver.user_profile WHERE user_id = 8'), 'again', 'a newer one does');
};

subtest 'gym_logins are not de-duplicated; a logout may be filled and grow' => sub {
	send_csv('gym_logins', 'aa,1,1420070400,');
	is(answer("SELECT logout IS NULL FROM silver.gym_logs WHERE mac_address = 'aa'"), 't', 'a visit may begin without logout');
	send_csv('gym_logins', 'aa,1,1420070400,1420071000', 'aa,1,1420070400,1420072000', 'aa,1,1420070400,1420071500');
	is(answer("SELECT logout FROM silver.gym_logs WHERE mac_address = 'aa'"), '2015-01-01 00:26:40+00', 'the latest of several in one file fills it');
	send_csv('gym_logins', 'aa,1,1420070400,1420071999');
	send_csv('gym_logins', 'aa,1,1420070400,');
	is(answer("SELECT logout FROM silver.gym_logs WHERE mac_address = 'aa'"), '2015-01-01 00:26:40+00', 'an earlier one or none changes nothing');
	send_csv('gym_logins', 'aa,1,1420070400,1420074000');
	is(answer("SELECT logout FROM silver.gym_logs WHERE mac_address = 'aa'"), '2015-01-01 01:00:00+00', 'a later one does');
	send_csv('gym_logins', 'ab,1,1420070400,1420070399');
	is(answer("SELECT logout IS NULL FROM silver.gym_logs WHERE mac_address = 'ab'"), 't', 'a logout before its login is none');
};

subtest 'a stop must follow its start, within three hours' => sub {
	send_csv('registered_users', '20,200,ba,1420070400');
	send_messages('workout', workout(20, 1, 'stop', 1420070000), workout(20, 1, 'start', 1420070400));
	is(answer('SELECT count(*) FROM silver.completed_workouts WHERE user_id = 20'), '0', 'an earlier stop does not match');
	send_messages('workout', workout(20, 1, 'stop', 1420070400 + 10800));
	is(answer('SELECT count(*) FROM silver.completed_workouts WHERE user_id = 20'), '0', 'nor does one after three hours');
	send_messages('workout', workout(20, 2, 'stop', 1420170400 + 10799), workout(20, 2, 'start', 1420170400));
	is(answer('SELECT workout_id FROM silver.completed_workouts WHERE user_id = 20'), '2', 'one just before does');
};

subtest 'gold is right after every run, late heart rates included' => sub {
	send_csv('registered_users', '30,300,ca,1420000000');
	send_messages('user_info', user_info(30, 'new', 1420000000, 'Austin'));
	send_messages('workout', workout(30, 1, 'start', 1420070400), workout(30, 1, 'stop', 1420070410));
	send_messages('bpm', map { bpm(300, 1420070400 + $_, 100 + $_) } 1 .. 5);
	my $summary = 'SELECT min_bpm, avg_bpm, max_bpm, num_recordings FROM gold.workout_bpm_summary WHERE user_id = 30';
	is(answer($summary), '101|103.00|105|5', 'the last workout is there without newer data');
	send_messages('bpm', bpm(300, 1420070409, 141), bpm(300, 1420070410, 90), bpm(300, 1420070400, 1), bpm(300, 1420070411, 1), bpm(300, 1420070408, 0));
	is(answer($summary), '90|106.57|141|7', 'late readings count; those outside of the workout and invalid ones do not');
	send_csv('gym_logins', 'ca,3,1420070000,1420070400');
	is(answer("SELECT minutes_in_gym, minutes_exercising FROM gold.gym_summary WHERE mac_address = 'ca'"), '6.67|0.17', 'a start at the logout is in the visit');
	send_csv('gym_logins', 'ca,3,1420070000,1420073000');
	is(answer("SELECT minutes_in_gym, minutes_exercising FROM gold.gym_summary WHERE mac_address = 'ca'"), '50.00|0.17', 'a later logout changes the summary');
	send_messages('user_info', user_info(30, 'update', 1420100000, 'Boston'));
	is(answer('SELECT city FROM gold.workout_bpm_summary WHERE user_id = 30'), 'Boston', 'a changed profile reaches gold');
	send_messages('user_info', user_info(30, 'delete', 1420200000, ''));
	is(answer('SELECT (SELECT count(*) FROM silver.user_bins WHERE user_id = 30), (SELECT count(*) FROM gold.workout_bpm_summary WHERE user_id = 30)'), '0|0', 'a deleted user leaves the bins and the summary');
};

subtest 'a user registered after the workout enriches it' => sub {
	send_messages('user_info', user_info(40, 'new', 1420000000, 'Denver'));
	send_messages('workout', workout(40, 1, 'start', 1420070400), workout(40, 1, 'stop', 1420070403));
	send_messages('bpm', map { bpm(400, 1420070400 + $_, 120) } 1 .. 3);
	send_csv('gym_logins', 'da,4,1420070000,1420071000');
	is(answer("SELECT (SELECT count(*) FROM gold.workout_bpm_summary WHERE user_id = 40), (SELECT count(*) FROM gold.gym_summary WHERE mac_address = 'da')"), '0|0', 'nobody knows the device yet');
	send_csv('registered_users', '40,400,da,1420080000');
	is(answer("SELECT (SELECT num_recordings FROM gold.workout_bpm_summary WHERE user_id = 40), (SELECT count(*) FROM gold.gym_summary WHERE mac_address = 'da')"), '3|1', 'on the run after the registration all is there');
};

subtest 'UTC everywhere' => sub {
	$node->safe_psql('decided', "ALTER DATABASE decided SET timezone = 'America/Los_Angeles'");
	send_csv('registered_users', '50,500,ea,1420000000');
	send_messages('workout', workout(50, 1, 'start', 1420070460), workout(50, 1, 'stop', 1420070520));
	send_csv('gym_logins', 'ea,5,1420070401,1420071000');
	is(answer("SELECT date FROM gold.gym_summary WHERE mac_address = 'ea'"), '2015-01-01', 'a minute past midnight in UTC is the new day');
	is(answer("SELECT DISTINCT date, week_part FROM bronze.kafka_multiplex"), '2015-01-01|2015-1', 'in bronze as well');
	check('decided', 'everything that was decided differently');
	$node->safe_psql('decided', "ALTER DATABASE decided RESET timezone");
};

# -------------------------------------------------------------------- the job

subtest 'the job, deployed twice' => sub {
	psql_file('whole', "$example/job.sql");
	my $definition = $node->safe_psql('whole', 'SELECT name, definition FROM lakehouse.job');
	psql_file('whole', "$example/job.sql");
	is($node->safe_psql('whole', 'SELECT name, definition FROM lakehouse.job'), $definition, 'the same job');
	$node->safe_psql('whole', "SELECT lakehouse.run_job('ingest-process-pipeline')");
	poll_value_in('whole', "SELECT state FROM lakehouse.job_run ORDER BY run_id DESC LIMIT 1", 'succeeded');
	is($node->safe_psql('whole', "SELECT string_agg(task_key || ' ' || state, ', ' ORDER BY task_key) FROM lakehouse.task_run"),
		'ingest-data succeeded, process-data-2014 succeeded, process-data-2015 succeeded', 'all tasks ran');
	is($node->safe_psql('whole', <<'END'), 't', 'both years wait for ingest-data');
SELECT bool_and(p.started >= i.finished) FROM lakehouse.task_run AS p, lakehouse.task_run AS i
 WHERE p.task_key LIKE 'process%' AND i.task_key = 'ingest-data'
END
	is($node->safe_psql('whole', <<'END'), '', 'gold.yearly_summary equals its recomputation');
WITH expected AS (
    SELECT extract(year FROM g.date)::integer AS year, g.gym, count(DISTINCT u.user_id) AS users, count(*) AS workouts,
           sum(g.minutes_in_gym) AS minutes_in_gym, sum(g.minutes_exercising) AS minutes_exercising, max(s.max_bpm) AS max_bpm
      FROM gold.gym_summary AS g JOIN silver.users AS u USING (mac_address)
      LEFT JOIN gold.workout_bpm_summary AS s USING (user_id, workout_id, session_id)
     GROUP BY 1, 2
), got AS (SELECT year, gym, users, workouts, minutes_in_gym, minutes_exercising, max_bpm FROM gold.yearly_summary)
(TABLE expected EXCEPT ALL TABLE got) UNION ALL (TABLE got EXCEPT ALL TABLE expected)
END
};

sub poll_value_in
{
	my ($db, $query, $value) = @_;
	my $last = '';
	wait_until(sub { $last = $node->safe_psql($db, $query); $last eq $value }, 60);
	return is($last, $value, $query);
}

$node->stop;
done_testing();
