# Background workers: what a person sees when nobody calls anything. New files
# reach gold by themselves; databases, the extension and roles may be changed,
# and processes may die, without a worker being in the way or staying away.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Path qw(make_path);
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = lakehouse_node('workers', conf => "lakehouse.launcher_naptime = 300\n");
my $landing = make_landing($node);
my $file = 0;

# poll waits until the query gives the value in the database
sub poll
{
	my ($db, $query, $value, $name, $limit) = @_;
	my $last = '';
	my $ok = wait_until(
		sub {
			my ($status, $out, $err) = $node->psql($db, $query);
			$last = $status == 0 ? $out : "error: $err";
			return $last eq $value;
		},
		$limit // 30);
	diag("$name: still \"$last\" instead of \"$value\"") unless $ok;
	ok($ok, $name);
	return $ok;
}

# put brings a file with the given ids to a folder of the landing directory
sub put
{
	my ($folder, @ids) = @_;
	my $name = 'f' . ++$file . '.csv';
	make_path("$landing/$folder");
	open(my $out, '>', "$landing.tmp/$name") or die $!;
	print $out "id,grp,val\n", map { "$_,g" . ($_ % 2) . "," . ($_ * 10) . "\n" } @ids;
	close($out);
	rename("$landing.tmp/$name", "$landing/$folder/$name") or die $!;
	return;
}

sub pid_of
{
	my ($db, $kind) = @_;
	my $pid = '';
	wait_until(
		sub {
			my ($status, $out) = $node->psql($db,
				"SELECT pid FROM lakehouse.worker_status WHERE database = current_database() AND kind = '$kind' AND pid > 0");
			$pid = $status == 0 ? $out : '';
			return $pid =~ /^\d+$/;
		}, 30);
	return $pid;
}

my $bronze = "SELECT string_agg(id::text, ',' ORDER BY id) FROM bronze.ev";
my $gold = "SELECT string_agg(format('%s:%s:%s', grp, total, n), ' ' ORDER BY grp) FROM gold.ev";
my $create = <<'END';
CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA gold;
CREATE TABLE bronze.ev (id int, grp text, val int);
CREATE TABLE silver.ev (id int PRIMARY KEY, grp text, val int);
CREATE TABLE gold.ev (grp text PRIMARY KEY, total bigint, n bigint);
SELECT lakehouse.create_source('ev', server => 'landing', target => 'bronze.ev', format => 'csv',
    path => 'FOLDER/*.csv', options => '{"header": true}', trigger => 'continuous');
SELECT lakehouse.create_flow('silver_ev', target => 'silver.ev', mode => 'insert_only', keys => '{id}',
    query => 'SELECT id, grp, val FROM bronze.ev');
SELECT lakehouse.create_flow('gold_ev', target => 'gold.ev', mode => 'aggregate',
    query => 'SELECT grp, sum(val) AS total, count(*) AS n FROM silver.ev GROUP BY grp');
END

sub create_pipeline
{
	my ($db, $folder) = @_;
	make_path("$landing/$folder");
	(my $sql = $create) =~ s/FOLDER/$folder/;
	$node->safe_psql($db, $sql);
	return;
}

# -------------------------------------------------------------- by themselves
create_pipeline('postgres', 'in');
put('in', 1, 2, 3);
poll('postgres', $gold, 'g0:20:1 g1:40:2', 'a new file reaches gold without a call');
put('in', 3, 4);
poll('postgres', $gold, 'g0:60:2 g1:40:2', 'and so does the next');
is($node->safe_psql('postgres', $bronze), '1,2,3,3,4', 'bronze holds both files');
is($node->safe_psql('postgres',
		"SELECT string_agg(DISTINCT backend_type || '/' || application_name, ' ' ORDER BY backend_type || '/' || application_name)"
	  . " FROM pg_stat_activity WHERE backend_type IN ('lakehouse source', 'lakehouse scheduler')"),
	'lakehouse scheduler/lakehouse scheduler lakehouse source/lakehouse source ev',
	'workers are told apart in pg_stat_activity');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lakehouse source' AND xact_start IS NOT NULL AND state = 'idle'"),
	'0', 'an idle worker has no transaction open');

# ------------------------------------------------------- pause, alter, resume
my $sources = "SELECT count(*) FROM lakehouse.worker_status WHERE database = current_database() AND kind = 'source'";
$node->safe_psql('postgres', "SELECT lakehouse.pause_source('ev')");
poll('postgres', $sources, '0', 'pause_source ends the worker');
put('in', 5);
$node->safe_psql('postgres', <<'END');
CREATE TABLE bronze.sentinel (id int, grp text, val int);
SELECT lakehouse.create_source('sentinel', server => 'landing', target => 'bronze.sentinel', format => 'csv',
    path => 'sentinel/*.csv', options => '{"header": true}', trigger => 'continuous');
END
put('sentinel', 1);
poll('postgres', 'SELECT count(*) FROM bronze.sentinel', '1', 'another source goes on');
is($node->safe_psql('postgres', $bronze), '1,2,3,3,4', 'the paused one read nothing');
$node->safe_psql('postgres', "SELECT lakehouse.resume_source('ev')");
poll('postgres', $bronze, '1,2,3,3,4,5', 'resume_source brings it back');
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('ev', path => 'moved/*.csv')");
put('moved', 6);
poll('postgres', $bronze, '1,2,3,3,4,5,6', 'alter_source is heeded by the running worker');
$node->safe_psql('postgres', "SELECT lakehouse.drop_source('sentinel')");
poll('postgres', $sources, '1', 'drop_source ends its worker');
poll('postgres', $gold, 'g0:120:3 g1:90:3', 'gold has followed');

# --------------------------------------------------- processes come back alone
for my $kind ('scheduler', 'source')
{
	my $pid = pid_of('postgres', $kind);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	poll('postgres',
		"SELECT count(*) FROM lakehouse.worker_status WHERE database = current_database() AND kind = '$kind' AND pid <> $pid",
		'1', "the $kind comes back after pg_terminate_backend");
}
put('moved', 7);
poll('postgres', $bronze, '1,2,3,3,4,5,6,7', 'and reads on');
$node->safe_psql('postgres',
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'lakehouse launcher'");
poll('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lakehouse launcher'",
	'1', 'so does the launcher');
for my $kind ('source', 'scheduler')
{
	ok(kill_process($node, pid_of('postgres', $kind)), "the server is back after kill -9 of the $kind");
	put('moved', $kind eq 'source' ? 8 : 9);
	poll('postgres', $bronze, '1,2,3,3,4,5,6,7,8' . ($kind eq 'source' ? '' : ',9'),
		'everything goes on by itself');
}
poll('postgres', $gold, 'g0:200:4 g1:250:5', 'up to gold');
poll('postgres', 'SELECT count(*) FROM lakehouse.pending', '0', 'nothing is left waiting');

# ------------------------------------------------------------------- databases
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql('two', 'CREATE EXTENSION lakehouse');
$node->safe_psql('two',
	"CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing')");
create_pipeline('two', 'two');
put('two', 1, 2);
poll('two', $gold, 'g0:20:1 g1:10:1', 'a second database has its own scheduler');
is($node->safe_psql('postgres',
		"SELECT string_agg(database, ',' ORDER BY database) FROM lakehouse.worker_status WHERE kind = 'scheduler'"),
	'postgres,two', 'a database without the extension has none');

my $began = time();
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE two');
cmp_ok(time() - $began, '<', 5, 'CREATE DATABASE ... TEMPLATE is not kept waiting by workers');
put('two', 3);
poll('two', $bronze, '1,2,3', 'the copied database reads on');
poll('postgres', "SELECT count(*) FROM lakehouse.worker_status WHERE database = 'copy' AND kind = 'scheduler'",
	'1', 'the copy has a scheduler');
is($node->safe_psql('copy', $bronze), '1,2', 'but its source does not run');
is($node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.worker_status WHERE database = 'copy' AND kind = 'source'"),
	'0', 'because it belongs to the original');

$began = time();
$node->safe_psql('postgres', 'ALTER DATABASE two RENAME TO three');
cmp_ok(time() - $began, '<', 5, 'ALTER DATABASE ... RENAME is not kept waiting');
put('two', 4);
poll('three', $bronze, '1,2,3,4', 'the renamed database reads on');

my ($status, $out, $err) = $node->psql('three', 'DROP DATABASE three');
isnt($status, 0, 'a DROP DATABASE that fails');
put('two', 5);
poll('three', $bronze, '1,2,3,4,5', 'brings the workers back');

$began = time();
my $log = -s $node->logfile;
$node->safe_psql('postgres', 'DROP DATABASE three');
$node->safe_psql('postgres', 'DROP DATABASE copy WITH (FORCE)');
cmp_ok(time() - $began, '<', 5, 'DROP DATABASE is not kept waiting');
is($node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.worker_status WHERE database IS DISTINCT FROM 'postgres'"),
	'0', 'no worker of a dropped database is left');

# ------------------------------------------------------------------- extension
$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION lakehouse CASCADE; ROLLBACK');
put('moved', 10);
poll('postgres', $bronze, '1,2,3,3,4,5,6,7,8,9,10', 'after a DROP EXTENSION that rolled back the source reads on');
$began = time();
$node->safe_psql('postgres', 'DROP EXTENSION lakehouse CASCADE');
cmp_ok(time() - $began, '<', 5, 'DROP EXTENSION is not kept waiting');
poll('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lakehouse %' AND backend_type <> 'lakehouse launcher'",
	'0', 'and no worker is left');
unlike(slurp_file($node->logfile, $log), qr/FATAL:.*does not exist|PANIC|TRAP|ERROR: .*"lakehouse\.|relation "lakehouse/,
	'no worker complained about what was dropped');
$node->safe_psql('postgres', "DROP SCHEMA bronze, silver, gold CASCADE; DROP SCHEMA IF EXISTS lakehouse_data CASCADE");
$node->safe_psql('postgres', 'CREATE EXTENSION lakehouse');
$node->safe_psql('postgres',
	"CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing')");
create_pipeline('postgres', 'again');
put('again', 1);
poll('postgres', $gold, 'g1:10:1', 'created again, everything works at once');

# ----------------------------------------------------------------------- owners
$node->safe_psql('postgres', <<'END');
CREATE ROLE owner LOGIN;
SELECT lakehouse.grant_use('owner');
GRANT USAGE ON FOREIGN SERVER landing TO owner;
GRANT ALL ON SCHEMA bronze TO owner;
SET ROLE owner;
CREATE TABLE bronze.own (id int, grp text, val int, who text DEFAULT session_user || '/' || current_user);
SELECT lakehouse.create_source('own', server => 'landing', target => 'bronze.own', format => 'csv',
    path => 'own/*.csv', options => '{"header": true}', trigger => 'continuous');
END
put('own', 1);
poll('postgres', 'SELECT who FROM bronze.own', 'owner/owner', 'a worker logs in as the owner of its source');
$node->safe_psql('postgres', "ALTER ROLE owner NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'");
poll('postgres', "SELECT error FROM lakehouse.source_state JOIN lakehouse.source USING (source_id) WHERE name = 'own'",
	'role "owner" is not permitted to log in', 'an owner that may not log in is named');
$node->safe_psql('postgres', "ALTER ROLE owner LOGIN; SELECT lakehouse.resume_source('own')");
put('own', 2);
poll('postgres', 'SELECT count(*) FROM bronze.own', '2', 'with LOGIN it goes on');
$node->safe_psql('postgres', "DROP TABLE bronze.own");
put('own', 3);
poll('postgres', "SELECT error FROM lakehouse.source_state JOIN lakehouse.source USING (source_id) WHERE name = 'own'",
	"The source's target table does not exist any more.", 'a dropped target stops its source with the reason');
put('again', 2);
poll('postgres', $gold, 'g0:20:1 g1:10:1', 'and no other');
$node->safe_psql('postgres', "SELECT lakehouse.drop_source('own')");

# ------------------------------------------------------------------------ limits
$node->safe_psql('postgres', "ALTER SYSTEM SET lakehouse.max_workers = 3");
$node->reload;
$node->safe_psql('postgres', "CREATE TABLE bronze.n$_ (id int, grp text, val int);"
	  . " SELECT lakehouse.create_source('n$_', server => 'landing', target => 'bronze.n$_', format => 'csv',"
	  . " path => 'n$_/*.csv', options => '{\"header\": true}', trigger => 'continuous')") for 1 .. 3;
poll('postgres', "SELECT note FROM lakehouse.worker_status WHERE kind = 'scheduler'",
	'no worker free for 3 workers of sources, 0 owners of flows, 0 owners of files, 0 senders, 0 tasks', 'sources that wait for a worker are shown');
is( $node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.source_status WHERE state = 'waiting' AND reason LIKE 'no background worker is free: increase lakehouse.max\\_workers (now 3)%'"),
	'3', 'each of them says so');
put('again', 3);
poll('postgres', $gold, 'g0:20:1 g1:40:2', 'flows are not kept out by waiting sources');
$node->safe_psql('postgres', "ALTER SYSTEM RESET lakehouse.max_workers");
$node->reload;
put("n$_", $_) for 1 .. 3;
poll('postgres', 'SELECT (SELECT count(*) FROM bronze.n1) + (SELECT count(*) FROM bronze.n2) + (SELECT count(*) FROM bronze.n3)',
	'3', 'after a reload with more workers they run');
poll('postgres', "SELECT count(note) FROM lakehouse.worker_status WHERE kind = 'scheduler'", '0', 'and nothing waits');
is($node->safe_psql('postgres', 'SELECT count(reason) FROM lakehouse.source_status'), '0', 'nor says so');

# ------------------------------------------------------- standby and promotion
$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 4\nhot_standby = on\n");
$began = time();
$node->stop('fast');
cmp_ok(time() - $began, '<', 5, 'the server stops quickly');
$node->start;
put('again', 4);
poll('postgres', $gold, 'g0:60:2 g1:40:2', 'after a restart everything goes on');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('workers_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lakehouse%'"),
	'0', 'nothing runs on a standby');
$node->stop('fast');
$standby->promote;
put('again', 5);
$node = $standby;
poll('postgres', $gold, 'g0:60:2 g1:90:3', 'a promoted standby takes over');
$standby->stop('fast');

done_testing();
