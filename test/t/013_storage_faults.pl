# A disk that is full, input that cannot be read or comes in small pieces, and
# what else befalls a file while it is being loaded: cut, removed, renamed,
# workers cancelled and ended, servers restarted. Contents are exact afterwards.
#
# The faults of the disk are made by a preloaded library (test/fault/faulty_io.c)
# that lets the calls of the server fail with the errors of a real one, so that
# the test needs no privilege.
use strict;
use warnings;

use FindBin;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $path = faults_path();
seed();

my $library = PostgreSQL::Test::Utils::tempdir() . '/faulty_io.so';
my $control = PostgreSQL::Test::Utils::tempdir() . '/control';
system('gcc', '-shared', '-fPIC', '-O2', '-o', $library, "$FindBin::RealBin/../fault/faulty_io.c", '-ldl') == 0
  or BAIL_OUT('test/fault/faulty_io.c cannot be compiled');
$ENV{FAULTY_IO} = $control;
$ENV{LD_PRELOAD} = $library;
my $node = lakehouse_node('storage', install_path => $path, conf => <<"END");
lakehouse.batch_bytes = '256kB'
include_if_exists = 'fault.conf'
END
delete $ENV{LD_PRELOAD};
my $landing = make_landing($node);
my $space = $node->basedir . '/space';
mkdir($space) or die $!;
$node->safe_psql('postgres', <<"END");
CREATE SCHEMA bronze;
CREATE TABLESPACE small LOCATION '$space';
CREATE TABLE bronze.record (file text, ordinal integer, value text) TABLESPACE small;
SELECT lakehouse.create_source('records', 'landing', 'bronze.record', path => 'in/*.csv',
  options => '{"header": true, "settle_ms": 0}', trigger => 'continuous');
END

my %sent;
my $number = 0;

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub set_disk
{
	my ($fault) = @_;
	if (!defined $fault)
	{
		unlink($control) or die $!;
		return;
	}
	open(my $file, '>', "$control.new") or die $!;
	print $file "$fault\n";
	close($file);
	rename("$control.new", $control) or die $!;
	return;
}

sub bring
{
	my ($records) = @_;
	my $name = sprintf('f%04d.csv', ++$number);
	write_csv($landing, $name, $records, \%sent);
	land($landing, $name);
	return $name;
}

sub all_loaded
{
	my ($name) = @_;
	ok(poll_value($node, "SELECT count(*) = $number AND bool_and(state = 'loaded') FROM lakehouse.file", 't', 90), $name);
	return;
}

sub set_fault
{
	my ($value) = @_;
	open(my $file, '>', $node->data_dir . '/fault.conf') or die $!;
	print $file "lakehouse.fault = '$value'\n";
	close($file);
	$node->reload;
	poll_value($node, 'SHOW lakehouse.fault', $value) or fail("fault $value is set");
	return;
}

# ---- B1: no space left for the table
bring(2000);
all_loaded('a file is loaded');
my $before = sql('SELECT count(*) FROM bronze.record');
set_disk("write full $space");
bring(20_000);
ok(poll_value($node, "SELECT state, sqlstate FROM lakehouse.source_status WHERE name = 'records'", 'failing|53100'),
	'a full disk is shown as the reason of the source');
is(sql("SELECT count(*) FROM bronze.record b JOIN lakehouse.load l ON l.load_id = b._load_id"),
	sql('SELECT count(*) FROM bronze.record'), 'every row that is there has its load');
is(sql("SELECT count(*) FROM lakehouse.file WHERE state = 'loaded'"), '1', 'the file is not loaded');
like(sql("SELECT error FROM lakehouse.source_status WHERE name = 'records'"), qr/could not extend file/, 'with the message of the server');
ok(poll_value($node, "SELECT failures >= 2 AND retry_at IS NOT NULL FROM lakehouse.source_status WHERE name = 'records'", 't'),
	'it is tried again, after a wait');
set_disk();
all_loaded('and loaded by itself when there is space again');
check_files($node, 'after a full disk', \%sent);

# ---- B4: input that fails, input in small pieces
set_disk("read io $landing/in");
bring(50);
ok(poll_value($node, "SELECT state, sqlstate FROM lakehouse.file ORDER BY file_id DESC LIMIT 1", 'failed|58030'), 'a file that cannot be read has failed with its reason');
set_disk();
all_loaded('and is loaded when it can be read');
set_disk("read short $landing/in");
bring(50);
all_loaded('a short read is no end of a file');
set_disk();
check_files($node, 'after failing and short reads', \%sent);

# ---- A7: workers cancelled and ended at random moments
for my $round (1 .. 10)
{
	my $function = $round % 2 ? 'pg_cancel_backend' : 'pg_terminate_backend';
	bring(3000);
	usleep(int(rand(150_000)));
	sql("SELECT $function(pid) FROM pg_stat_activity WHERE backend_type LIKE 'lakehouse%source%'");
}
all_loaded('all goes on after workers were cancelled and ended');
check_files($node, 'after 10 cancelled and ended workers', \%sent);

# ---- restarts while files are loaded, and commits that are not waited for (A5)
sql('ALTER ROLE ' . sql('SELECT current_user') . ' SET synchronous_commit = off');
for my $mode (qw(fast immediate fast immediate fast immediate))
{
	bring(5000);
	usleep(int(rand(200_000)));
	my $began = time();
	$node->stop($mode);
	cmp_ok(time() - $began, '<', 10, "stop ($mode) is not held up");
	$ENV{LD_PRELOAD} = $library;
	$node->start;
	delete $ENV{LD_PRELOAD};
}
all_loaded('all goes on after restarts');
check_files($node, 'after restarts, synchronous_commit = off', \%sent);

# ---- A12: input that crashes the worker does not restart the server for ever
sql("SELECT lakehouse.pause_source('records')");
set_fault('read-chunk:kill');
bring(10);
sql("SELECT lakehouse.resume_source('records')");
ok(poll_value($node, "SELECT state FROM lakehouse.source_status WHERE name = 'records'", 'paused', 150), 'a source that crashes its worker again and again is paused');
like(sql("SELECT reason FROM lakehouse.source_status WHERE name = 'records'"), qr/crash/, 'with the reason');
set_fault('');
sql("SELECT lakehouse.resume_source('records')");
all_loaded('and goes on when it is resumed');
check_files($node, 'after a loop of crashes', \%sent);

# ---- C4, C5: cut, removed and renamed while they are read
sql("SELECT lakehouse.alter_source('records', trigger => 'available_now')");

# meanwhile runs the source up to a stop in the middle of a file, lets the
# function change the file, and goes on
sub meanwhile
{
	my ($change) = @_;
	my $in = "SET lakehouse.fault = 'read-chunk:stop:1';\nSELECT pg_backend_pid();\nSELECT lakehouse.run_source('records');\n";
	my ($out, $err) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \$in, '>', \$out, '2>', \$err);
	$session->pump until $out =~ /^(\d+)\n/;
	my $pid = $1;
	wait_until(sub { slurp_file("/proc/$pid/stat") =~ /^\d+ \(.*\) T/ }, 60) or fail('the run stops in the middle');
	$change->();
	kill('CONT', $pid);
	$session->finish;
	return;
}

my $rows = sql('SELECT count(*) FROM bronze.record');
my $name = sprintf('f%04d.csv', ++$number);
my %cut;
write_csv($landing, $name, 30_000, \%cut);
land($landing, $name);
meanwhile(sub { truncate("$landing/in/$name", 100) or die $! });
is(sql('SELECT count(*) FROM bronze.record'), $rows, 'nothing of a file that is cut while it is read is there');
isnt(sql('SELECT state FROM lakehouse.file ORDER BY file_id DESC LIMIT 1'), 'loaded', 'and it is not loaded');
unlink("$landing/in/$name");
write_csv($landing, $name, 40, \%sent);
land($landing, $name);
sql("SELECT lakehouse.run_source('records')");
all_loaded('the version that came after it is');

$name = bring(40);
meanwhile(sub { unlink("$landing/in/$name") or die $! });
$name = bring(40);
meanwhile(sub { rename("$landing/in/$name", "$landing/elsewhere") or die $! });
sql("SELECT lakehouse.run_source('records')");
my $gone = sql("SELECT string_agg(state, ' ' ORDER BY file_id) FROM (SELECT * FROM lakehouse.file ORDER BY file_id DESC LIMIT 2) f");
is($gone, 'loaded loaded', 'what was opened is read to its end, though it was removed or renamed');
check_files($node, 'after files were cut, removed and renamed', \%sent);

$node->stop;
done_testing();
