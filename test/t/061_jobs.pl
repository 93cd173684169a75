# Jobs run by background workers: tasks at the same time, retries, time-outs,
# crashes, cancel, concurrent runs, and the clock of pg_cron.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = lakehouse_node('jobs', conf => <<'END');
shared_preload_libraries = 'lakehouse,pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
lakehouse.launcher_naptime = 300
END
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
$node->safe_psql('postgres', 'CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, entry text, at timestamptz DEFAULT clock_timestamp())');

# create_job makes or replaces a job of the given tasks
sub create_job
{
	my ($name, $tasks, $rest) = @_;
	my $definition = '{"tasks": [' . $tasks . ']' . ($rest // '') . '}';
	$node->safe_psql('postgres', "SELECT lakehouse.create_job('$name', \$job\$$definition\$job\$, replace => true)");
	return;
}

sub enqueue
{
	my ($name, $parameters) = @_;
	$parameters //= '{}';
	return $node->safe_psql('postgres', "SELECT lakehouse.run_job('$name', '$parameters', wait => false)");
}

sub finish
{
	my ($run, $state, $name) = @_;
	ok(poll_value($node, "SELECT state FROM lakehouse.job_run_status WHERE run_id = $run AND finished IS NOT NULL", $state, 30), $name);
	return;
}

sub attempts
{
	my ($run) = @_;
	return $node->safe_psql('postgres',
		"SELECT string_agg(format('%s/%s:%s', task_key, attempt, state), ' ' ORDER BY task_key, attempt) FROM lakehouse.task_run_status WHERE run_id = $run");
}

# ----------------------------------------------------------- at the same time
# each of the two waits for the other: one after the other would never end
create_job('parallel', <<'END');
{"task_key": "first", "sql": "INSERT INTO log (entry) VALUES ('first')"},
{"task_key": "left", "depends_on": ["first"], "timeout_seconds": 20, "sql": "CALL meet('left', 'right')"},
{"task_key": "right", "depends_on": ["first"], "timeout_seconds": 20, "sql": "CALL meet('right', 'left')"},
{"task_key": "last", "depends_on": ["left", "right"], "sql": "INSERT INTO log (entry) VALUES ('last')"}
END
$node->safe_psql('postgres', <<'END');
CREATE PROCEDURE meet(me text, other text) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log (entry) VALUES (me);
    COMMIT;
    WHILE NOT EXISTS (SELECT FROM log WHERE entry = other) LOOP
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
END
my $run = enqueue('parallel');
finish($run, 'succeeded', 'two tasks run at the same time');
is(attempts($run), 'first/0:succeeded last/0:succeeded left/0:succeeded right/0:succeeded', 'each in one attempt');
is($node->safe_psql('postgres', "SELECT string_agg(entry, ' ' ORDER BY n) FROM log WHERE entry IN ('first', 'last')"),
	'first last', 'what depends on them comes after');

# -------------------------------------------------------------------- retries
$node->safe_psql('postgres', 'CREATE SEQUENCE tries; TRUNCATE log');
create_job('retries', <<'END');
{"task_key": "flaky", "max_retries": 3, "min_retry_interval_millis": 200,
 "sql": "INSERT INTO log (entry) VALUES ('try'); SELECT 1 / (nextval('tries') / 3)"}
END
$run = enqueue('retries');
finish($run, 'succeeded', 'a task that fails twice succeeds at the third attempt');
is(attempts($run), 'flaky/0:failed flaky/1:failed flaky/2:succeeded', 'each attempt is recorded');
is($node->safe_psql('postgres', 'SELECT count(*) FROM log'), '1', 'failed attempts left nothing');
is($node->safe_psql('postgres',
		"SELECT bool_and(gap >= '0.2 s') FROM (SELECT started - lag(started) OVER (ORDER BY attempt) AS gap"
	  . " FROM lakehouse.task_run_status WHERE run_id = $run) g"),
	't', 'the delay is kept');

# ------------------------------------------------------------------- time-outs
create_job('slow', <<'END');
{"task_key": "slow", "timeout_seconds": 1, "max_retries": 1, "retry_on_timeout": true, "sql": "SELECT pg_sleep(60)"},
{"task_key": "after", "depends_on": ["slow"], "sql": "SELECT 1"}
END
my $began = time();
$run = enqueue('slow');
finish($run, 'failed', 'a task that takes too long');
is(attempts($run), 'after/0:upstream_failed slow/0:timed_out slow/1:timed_out', 'times out');
cmp_ok(time() - $began, '<', 10, 'in time');

# ---------------------------------------------------------------------- crashes
my $worker = "SELECT pid FROM lakehouse.worker_status WHERE kind = 'task' AND state = 'working'"
  . " AND pid IN (SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
for my $signal ('TERM', 'KILL')
{
	$node->safe_psql('postgres', 'TRUNCATE log');
	create_job('crash', <<'END');
{"task_key": "crash", "max_retries": 1,
 "sql": "INSERT INTO log (entry) VALUES ('done'); SELECT pg_sleep(60) FROM lakehouse.job_run_status r WHERE state = 'running' AND NOT EXISTS (SELECT FROM lakehouse.task_run_status t WHERE t.run_id = r.run_id AND t.attempt = 1)"},
{"task_key": "after", "depends_on": ["crash"], "sql": "INSERT INTO log (entry) VALUES ('after')"}
END
	$run = enqueue('crash');
	my $pid = '';
	wait_until(sub { $pid = $node->safe_psql('postgres', $worker); $pid ne '' }, 20);
	$signal eq 'KILL' ? kill_process($node, $pid) : kill($signal, $pid);
	finish($run, 'succeeded', "a task whose worker gets SIG$signal is tried again");
	is(attempts($run), 'after/0:succeeded crash/0:crashed crash/1:succeeded', 'its first attempt crashed');
	is($node->safe_psql('postgres', "SELECT string_agg(entry, ' ' ORDER BY n) FROM log"), 'done after', 'and was done once');
}

# ---------------------------------------------------------------------- cancel
create_job('long', <<'END');
{"task_key": "long", "sql": "INSERT INTO log (entry) VALUES ('never'); SELECT pg_sleep(60)"},
{"task_key": "after", "depends_on": ["long"], "run_if": "ALL_DONE", "sql": "SELECT 1"}
END
$run = enqueue('long');
wait_until(sub { $node->safe_psql('postgres', $worker) ne '' }, 20);
is($node->safe_psql('postgres', "SELECT lakehouse.cancel_job_run($run)"), 't', 'a run is canceled');
ok(poll_value($node, "SELECT count(*) FROM lakehouse.worker_status WHERE kind = 'task'", '0', 10), 'its worker is stopped');
is(attempts($run), 'after/0:canceled long/0:canceled', 'its tasks are canceled');
is($node->safe_psql('postgres', "SELECT count(*) FROM log WHERE entry = 'never'"), '0', 'and rolled back');

# -------------------------------------------------------------- concurrent runs
my $first = enqueue('long');
wait_until(sub { $node->safe_psql('postgres', $worker) ne '' }, 20);
my $second = enqueue('long');
my $third = $node->safe_psql('postgres', "SELECT lakehouse.enqueue_job('long')");
my $fourth = $node->safe_psql('postgres', "SELECT lakehouse.enqueue_job('long')");
is($node->safe_psql('postgres', "SELECT string_agg(state, ' ' ORDER BY run_id) FROM lakehouse.job_run_status WHERE run_id IN ($first, $second, $third, $fourth)"),
	'running queued queued skipped', 'one runs, others wait, the schedule has one waiting at most');
$node->safe_psql('postgres', "SELECT lakehouse.cancel_job_run($first)");
ok(poll_value($node, "SELECT state FROM lakehouse.job_run_status WHERE run_id = $second", 'running', 20), 'the next begins when the first has ended');
is($node->safe_psql('postgres', "SELECT state FROM lakehouse.job_run_status WHERE run_id = $third"), 'queued', 'and no more than one');
$node->safe_psql('postgres', "SELECT lakehouse.cancel_job_run(r) FROM unnest(ARRAY[$second, $third]) r");

# ------------------------------------------------------------ a server that stops
$run = enqueue('long');
wait_until(sub { $node->safe_psql('postgres', $worker) ne '' }, 20);
$began = time();
$node->stop('fast');
cmp_ok(time() - $began, '<', 5, 'a task at work does not delay the end of the server');
$node->start;
finish($run, 'succeeded', 'its run goes on after the start');
is(attempts($run), 'after/0:succeeded long/0:crashed', 'with the task that wants to run in any case');

# ------------------------------------------------------- what cannot be started
$node->safe_psql('postgres', <<'END');
CREATE ROLE outsider LOGIN;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
SELECT lakehouse.grant_use('outsider');
SET ROLE outsider;
SELECT lakehouse.create_job('outsider', '{"tasks": [{"task_key": "t", "sql": "SELECT 1", "max_retries": 1}]}');
END
$run = enqueue('outsider');
finish($run, 'failed', 'a job whose owner may not connect fails');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT error, ' ') FROM lakehouse.task_run_status WHERE run_id = $run"),
	'role "outsider" has no right to connect to database "postgres"', 'and says so');
is(attempts($run), 't/0:failed t/1:failed', 'after its retries');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');
finish(enqueue('outsider'), 'succeeded', 'it runs when the owner may');
$run = $node->safe_psql('postgres', <<'END');
BEGIN;
SELECT lakehouse.run_job('outsider', wait => false);
UPDATE lakehouse.job_run SET home = 'elsewhere' WHERE state = 'queued';
COMMIT;
END
finish($run, 'canceled', 'a run that came with a copied database is not gone on with');

# ----------------------------------------------------------- sources and flows
my $landing = make_landing($node);
my $sent = {};
seed();
write_csv($landing, 'a.csv', 100, $sent);
land($landing, 'a.csv');
$node->safe_psql('postgres', <<'END');
CREATE SCHEMA bronze; CREATE SCHEMA silver;
CREATE TABLE bronze.t (file text, ordinal int, value text);
CREATE TABLE silver.t (file text, ordinal int, value text, PRIMARY KEY (file, ordinal));
SELECT lakehouse.create_source('t', server => 'landing', target => 'bronze.t', format => 'csv',
    path => 'in/*.csv', options => '{"header": true}');
SELECT lakehouse.create_flow('t', target => 'silver.t', mode => 'insert_only', keys => '{file,ordinal}',
    query => 'SELECT file, ordinal, value FROM bronze.t');
END
create_job('pipeline', '{"task_key": "s", "source": "t"}, {"task_key": "f", "flow": "t", "depends_on": ["s"]}');
finish(enqueue('pipeline'), 'succeeded', 'a job of a source and a flow');
my $rows = scalar @{ $sent->{rows} };
is($node->safe_psql('postgres', "SELECT count(*) FROM silver.t"), $rows, 'fills silver');
write_csv($landing, 'b.csv', 100, $sent);
land($landing, 'b.csv');
create_job('everything', '{"task_key": "all", "run": true}');
finish(enqueue('everything'), 'succeeded', 'a task that runs everything');
$rows = scalar @{ $sent->{rows} };
is($node->safe_psql('postgres', "SELECT count(*) FROM silver.t"), $rows, 'does so');
is($node->safe_psql('postgres', "SELECT result->>'files' FROM lakehouse.task_run_status WHERE job = 'everything'"), '1', 'and tells what');

write_csv($landing, 'c.csv', 100, $sent);
land($landing, 'c.csv');
$node->safe_psql('postgres', <<'END');
CREATE TABLE silver.bad (x int);
SELECT lakehouse.create_flow('bad', target => 'silver.bad', mode => 'append',
    query => 'SELECT 1 / (ordinal - ordinal) AS x FROM bronze.t');
END
$run = enqueue('everything');
finish($run, 'failed', 'one part of it that fails fails the task');
is($node->safe_psql('postgres', "SELECT sqlstate || ' ' || error FROM lakehouse.task_run_status WHERE run_id = $run"),
	'22012 flow "bad": division by zero', 'is named');
$rows = scalar @{ $sent->{rows} };
is($node->safe_psql('postgres', "SELECT count(*) FROM silver.t"), $rows, 'and does not stop the others');

# ------------------------------------------------------------------- the clock
$node->safe_psql('postgres', 'TRUNCATE log');
create_job('scheduled', q({"task_key": "t", "sql": "INSERT INTO log (entry) VALUES (lakehouse.param('who'))", "parameters": {"who": "cron"}}));
$node->safe_psql('postgres', "SELECT lakehouse.schedule_job('scheduled', '* * * * *')");
is($node->safe_psql('postgres', "SELECT schedule FROM lakehouse.job_status WHERE job = 'scheduled'"), '* * * * *', 'the schedule is shown');
ok(poll_value($node, "SELECT DISTINCT entry FROM log", 'cron', 75), 'pg_cron starts the job');
is($node->safe_psql('postgres', "SELECT DISTINCT cause FROM lakehouse.job_run_status WHERE job = 'scheduled'"), 'schedule', 'the run says why');
$node->safe_psql('postgres', "SELECT lakehouse.schedule_job('scheduled', '0 0 1 1 *')");
is($node->safe_psql('postgres', "SELECT string_agg(schedule, ' ') FROM cron.job"), '0 0 1 1 *', 'a new schedule replaces the old one');
$node->safe_psql('postgres', "SELECT lakehouse.unschedule_job('scheduled')");
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job"), '0', 'unschedule_job removes it');
$node->safe_psql('postgres', "SELECT lakehouse.schedule_job('scheduled', '0 0 1 1 *'); SELECT lakehouse.drop_job('scheduled')");
is($node->safe_psql('postgres', "SELECT count(*) FROM cron.job"), '0', 'so does drop_job');
my ($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.schedule_job('everything', 'every day')");
like($err, qr/invalid schedule/, 'a schedule that pg_cron refuses is refused');
is($node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.job_status WHERE schedule IS NOT NULL"), '0', 'and not kept');

# ------------------------------------------------- without shared_preload_libraries
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.run_job('pipeline', wait => false)");
like($err, qr/no background workers.*shared_preload_libraries/s, 'without workers a run cannot be queued, and the hint says why');
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.schedule_job('pipeline', '* * * * *')");
like($err, qr/pg_cron is not loaded|pg_cron can only be loaded via shared_preload_libraries/, 'nor scheduled');
is($node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.worker_status"), '0', 'the status of workers is empty');
$run = $node->safe_psql('postgres', "SELECT lakehouse.run_job('pipeline')");
is(attempts($run), 'f/0:succeeded s/0:succeeded', 'run_job works all the same');
$node->stop;

done_testing();
