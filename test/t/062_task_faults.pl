# A crash between any two steps of a task: its work is done once, and its
# attempts tell what happened. A source that crashes its worker each time is
# paused before it takes the server down for ever.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('task_faults', install_path => faults_path(), conf => "lakehouse.launcher_naptime = 200\n");
$node->safe_psql('postgres', <<'END');
CREATE TABLE log (entry text);
SELECT lakehouse.create_job('job', '{"tasks": [
    {"task_key": "work", "sql": "INSERT INTO log VALUES (''done'')", "max_retries": 1, "min_retry_interval_millis": 2500},
    {"task_key": "after", "depends_on": ["work"], "sql": "INSERT INTO log VALUES (''after'')"}]}');
END

# where the worker is killed, and what its attempts say in the end
for my $case (
	[ 'task-after-start', 'after/0:succeeded work/0:crashed work/1:succeeded' ],
	[ 'task-before-end', 'after/0:succeeded work/0:crashed work/1:succeeded' ],
	[ 'task-after-end', 'after/0:succeeded work/0:succeeded' ])
{
	my ($point, $attempts) = @$case;
	$node->safe_psql('postgres', 'TRUNCATE log');
	$node->safe_psql('postgres', "ALTER SYSTEM SET lakehouse.fault = '$point:kill'");
	$node->reload;
	my $log = -s $node->logfile;
	my $run = $node->safe_psql('postgres', "SELECT lakehouse.run_job('job', wait => false)");
	ok(wait_until(sub { slurp_file($node->logfile, $log) =~ /was terminated by signal 9/ }, 20), "$point: the worker is killed");
	# the retry waits long enough for this
	ok(wait_until(sub { my ($status) = $node->psql('postgres', 'ALTER SYSTEM RESET lakehouse.fault'); $status == 0 }, 20),
		"$point: the server comes back");
	$node->reload;
	ok(poll_value($node, "SELECT state FROM lakehouse.job_run_status WHERE run_id = $run AND finished IS NOT NULL", 'succeeded', 30),
		"$point: the run ends well");
	is($node->safe_psql('postgres',
			"SELECT string_agg(format('%s/%s:%s', task_key, attempt, state), ' ' ORDER BY task_key, attempt) FROM lakehouse.task_run_status WHERE run_id = $run"),
		$attempts, "$point: its attempts");
	is($node->safe_psql('postgres', "SELECT string_agg(entry, ' ' ORDER BY entry) FROM log"), 'after done', "$point: the work is done once");
}

my $landing = make_landing($node);
my $sent = {};
seed();
write_csv($landing, 'a.csv', 100, $sent);
land($landing, 'a.csv');
$node->safe_psql('postgres', <<'END');
CREATE TABLE bronze (file text, ordinal int, value text);
CREATE TABLE other (file text, ordinal int, value text);
SELECT lakehouse.create_source('good', server => 'landing', target => 'other', format => 'csv',
    path => 'in/*.csv', options => '{"header": true}', trigger => 'continuous');
END
my $rows = scalar @{ $sent->{rows} };
ok(poll_value($node, 'SELECT count(*) FROM other', $rows), 'a source that does no harm');
$node->safe_psql('postgres', "ALTER SYSTEM SET lakehouse.fault = 'after-ledger:kill'");
$node->reload;
$node->safe_psql('postgres', <<'END');
SELECT lakehouse.create_source('poison', server => 'landing', target => 'bronze', format => 'csv',
    path => 'in/*.csv', options => '{"header": true}', trigger => 'continuous');
END
ok(poll_value($node, "SELECT paused FROM lakehouse.source WHERE name = 'poison'",
		'its worker crashed 5 times in a row; the server log says how', 90), 'a source that crashes its worker is paused');
is($node->safe_psql('postgres', "SELECT coalesce(paused, '') || crashes FROM lakehouse.source LEFT JOIN lakehouse.source_state USING (source_id) WHERE name = 'good'"),
	'0', 'the other is not');
is($node->safe_psql('postgres', 'SELECT count(*) FROM bronze'), '0', 'nothing of it was loaded');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET lakehouse.fault');
$node->reload;
$node->safe_psql('postgres', "SELECT lakehouse.resume_source('poison')");
ok(poll_value($node, 'SELECT count(*) FROM bronze', $rows), 'resumed, it is loaded once');

# the same for a topic
my $broker = start_broker('t:1');
broker_command($broker, 'produce {"topic": "t", "value": "1"}');
$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE TABLE topic (value text);
SELECT lakehouse.create_source('topic', server => 'events', target => 'topic', topics => '{t}');
ALTER SYSTEM SET lakehouse.fault = 'kafka-offset-write:kill';
END
$node->reload;
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('topic', trigger => 'continuous')");
ok(poll_value($node, "SELECT paused FROM lakehouse.source WHERE name = 'topic'",
		'its worker crashed 5 times in a row; the server log says how', 90), 'a topic that crashes its worker: the source is paused');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET lakehouse.fault');
$node->reload;
$node->safe_psql('postgres', "SELECT lakehouse.resume_source('topic')");
ok(poll_value($node, 'SELECT count(*) FROM topic', '1'), 'resumed, it is read once');
stop_broker($broker);
$node->stop;

done_testing();
