# Many files in many directories, with loops of links and a chain of directories
# without end: a listing names each file once, in little memory, ends at once
# when it is told to, and what follows from it is done in the order that the
# documentation states, a bounded part in each transaction.
#
# "make soak" runs it with a million files in a hundred thousand directories.
use strict;
use warnings;

use File::Path qw(make_path remove_tree);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep utime);

plan skip_all => 'needs /proc' unless -r '/proc/self/smaps';

use constant MB => 1024 * 1024;
my $files = $ENV{LAKEHOUSE_MANY_FILES} // 20_000;
my $folders = $files / 10;
my $batch = 500;

# the directories whose files are loaded, and their pattern
my ($filled, $pattern) = $files > 100_000 ? (10_000, 'f0??') : (1_000, 'f00?');

# what a process may have: fewer files must do with less, or a list of them all
# would not be noticed
my $limit = ($files > 100_000 ? 50 : 10) * MB;

# directories deeper than this beneath that of the server are not read
my $deepest = 64;

seed();
my $node = lakehouse_node('many', conf => <<'END');
lakehouse.launcher_naptime = 100
track_commit_timestamp = on
autovacuum = off
max_wal_size = '8GB'
END
my $landing = $node->basedir . '/landing';
my $memory;

# so many are made where that is quick and no disk is worn
if ($files > 100_000)
{
	$memory = "/dev/shm/lakehouse-many-$$";
	$landing = "$memory/landing";
}
END { remove_tree($memory) if defined $memory }

sub sql { return $node->safe_psql('postgres', $_[0]) }

# private gives the bytes of a process in mappings that are its own.
sub private
{
	my ($pid) = @_;
	my ($own, $kb) = (0, 0);
	open(my $maps, '<', "/proc/$pid/smaps") or return 0;
	while (<$maps>)
	{
		if (/^[0-9a-f]+-[0-9a-f]+ ...(.)/) { $own = $1 eq 'p' }
		elsif ($own && /^Private_(?:Clean|Dirty):\s+(\d+) kB/) { $kb += $1 }
	}
	return $kb * 1024;
}

# cpu gives the seconds that a process has worked.
sub cpu
{
	my ($pid) = @_;
	open(my $stat, '<', "/proc/$pid/stat") or return 0;
	my @field = split / /, <$stat> =~ s/^.*\) //r;
	return ($field[11] + $field[12]) / 100;
}

# watched runs a statement and gives the most memory that its backend had, its
# work and how long it took.
sub watched
{
	my ($statement) = @_;
	my ($pid, $most, $cpu, $began) = (0, 0, 0, time());
	my $session = LakehouseTest::start_session($node, "$statement;\n\\q\n", \$pid);
	while ($session->pumpable)
	{
		$session->pump_nb;
		$most = max($most, private($pid));
		$cpu = max($cpu, cpu($pid));
		usleep(20_000);
	}
	$session->finish;
	return ($most, sprintf('%.1f MB, %.1f s of CPU, %.1f s', $most / MB, $cpu, time() - $began));
}

# ---- the files; %at is where each of those that will be loaded stands in time
my ($made, $loaded) = (0, 0);
my $began = time();
make_path("$landing/many");
for my $folder (0 .. $folders - 1)
{
	my $top = sprintf('many/f%03d', $folder / 100);
	mkdir("$landing/$top") if $folder % 100 == 0;
	my $path = sprintf('%s/g%02d', $top, $folder % 100);
	mkdir("$landing/$path") or die "$path: $!";
	for (my $number = $folder; $number < $files; $number += $folders)
	{
		open(my $file, '>', "$landing/$path/$number.csv") or die "$path: $!";
		if ($folder < $filled)
		{
			print $file "$number\n";
			$loaded++;
		}
		close($file) or die $!;
		my $time = 1_600_000_000 + int(rand(1000));
		utime($time, $time, "$landing/$path/$number.csv");
		$made++;
	}
	# loops: to itself, upwards, and one that looks like a file
	symlink('.', "$landing/$path/self") && symlink('../../..', "$landing/$top/up") && symlink('..', "$landing/$top/loop.csv")
	  if $folder % 100 == 0;
}
my $loops = int(($folders + 99) / 100);
my $loaded_loops = $filled / 100;
my $chain = 'many/f000';
for my $depth (3 .. $deepest + 20)
{
	$chain .= '/d';
	mkdir("$landing/$chain") or die $!;
	next unless $depth == $deepest || $depth == $deepest + 1;
	open(my $file, '>', "$landing/$chain/last.csv") or die $!;
	print $file "$files\n";
	close($file) or die $!;
}
$made++;
$loaded++;
note(sprintf('%d files in %d directories, made in %.1f s', $made, $folders, time() - $began));

sql("CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing')");
sql('CREATE SCHEMA bronze; CREATE TABLE bronze.known (id bigint); CREATE TABLE bronze.loaded (id bigint)');

# ---- a listing that is told to end
# interrupt waits until a statement is under way, ends it, and gives how long
# that takes; NULL if it was not seen
sql(<<'END');
CREATE FUNCTION interrupt(what text, delay float8, terminate bool) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  victim int;
  began timestamptz := clock_timestamp();
BEGIN
  LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT pid INTO victim FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND (state = 'active' AND query ~ what OR backend_type ~ 'lakehouse' AND application_name ~ what);
    EXIT WHEN FOUND;
    IF clock_timestamp() > began + '60 s' THEN RETURN NULL; END IF;
    PERFORM pg_sleep(0.001);
  END LOOP;
  PERFORM pg_sleep(delay);
  began := clock_timestamp();
  IF terminate THEN PERFORM pg_terminate_backend(victim); ELSE PERFORM pg_cancel_backend(victim); END IF;
  LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = victim AND (terminate OR state = 'active' AND query ~ what));
    PERFORM pg_sleep(0.001);
  END LOOP;
  RETURN extract(epoch FROM clock_timestamp() - began);
END $$;
END
my $create = "SELECT lakehouse.create_source('known', 'landing', 'bronze.known', path => 'many/**/*.csv', format => 'csv',"
  . ' options => \'{"include_existing": false, "settle_ms": 0}\')';
for my $terminate ('false', 'true')
{
	my $hits = 0;
	my $longest = 0;
	for my $round (1 .. 20)
	{
		my $pid;
		my $session = LakehouseTest::start_session($node, $create, \$pid);
		my $took = sql("SELECT interrupt('create_source', " . rand(0.1) . ", $terminate)");
		eval { $session->finish };
		if (sql('SELECT count(*) FROM lakehouse.source') eq '0')
		{
			$longest = max($longest, $took);
			last if ++$hits == 3;
		}
		else
		{
			sql("SELECT lakehouse.drop_source('known')");
		}
	}
	my $how = $terminate eq 'true' ? 'terminated' : 'cancelled';
	is($hits, 3, "three listings are $how while they are under way");
	note(sprintf('%s: %.3f s at most', $how, $longest));
	# a busy machine is given more than the second that it takes
	cmp_ok($longest, '<', 5, 'and end soon');
	is(sql('SELECT count(*) FROM lakehouse.file'), '0', 'nothing is left of them');
}

# ---- what is there is entered once, in little memory
my ($most, $said) = watched($create);
note("entering: $said");
cmp_ok($most, '>', 0, 'the memory of a first listing was looked at');
cmp_ok($most, '<', $limit, 'it stays within its limit');
my $ledger = "SELECT count(*), count(DISTINCT path), count(*) FILTER (WHERE sqlstate = '42809') FROM lakehouse.file_status WHERE source = 'known'";
my $whole = join('|', ($made + $loops) x 2, $loops);
is(sql($ledger), $whole, 'each file is entered once, and no link is followed');
for my $round (1 .. 2)
{
	($most, $said) = watched("SELECT lakehouse.run_source('known')");
	note("a listing of $made known files, of a new session: $said");
	cmp_ok($most, '<', $limit, 'so does that of a listing of known files');
}
is(sql($ledger), $whole, 'and changes nothing');
is(sql("SELECT last_listing_files FROM lakehouse.discovery_status WHERE source = 'known'"), $made + $loops, 'though it looked at all');
is(sql("SELECT unreadable FROM lakehouse.discovery_status WHERE source = 'known'"), '{"many/f000' . '/d' x ($deepest - 1) . ': lies too deep"}',
	'what lies too deep is named');

# ---- the same by a worker
sql("SELECT lakehouse.alter_source('known', trigger => 'continuous')");
my $pid = worker_pid($node, 'known');
my $listings = 'SELECT listings > 2 FROM lakehouse.discovery_status WHERE source = \'known\'';
$most = 0;
ok(wait_until(sub { $most = max($most, private($pid)); usleep(20_000); sql($listings) eq 't' }, 120 + $files / 1000), 'a worker lists them, too');
note(sprintf('a worker: %.1f MB, %.1f s of CPU for its start and a listing; the listing %s ms', $most / MB, cpu($pid),
	sql("SELECT round(extract(epoch FROM last_listing_time) * 1000) FROM lakehouse.discovery_status WHERE source = 'known'")));
cmp_ok($most, '>', 0, 'its memory was looked at');
cmp_ok($most, '<', $limit, 'and stays within the limit');
sql("SELECT lakehouse.drop_source('known')");

# ---- what is loaded comes in order, a part in each transaction
sql("SELECT lakehouse.create_source('loaded', 'landing', 'bronze.loaded', path => 'many/$pattern/**/*.csv', format => 'csv', trigger => 'continuous',"
	  . " options => '{\"header\": false, \"settle_ms\": 0, \"max_files_per_trigger\": $batch}')");
$began = time();
my $took = sql("SELECT interrupt('source.*loaded', 0.1, true)");
cmp_ok($took, '<', 5, 'a worker that lists is terminated and ends soon');
$most = $pid = 0;
ok( wait_until(
		sub {
			my $now = $pid ? private($pid) : 0;
			$most = max($most, $now);
			# a worker that has nothing to do may end
			$pid = $now ? $pid : worker_pid($node, 'loaded');
			usleep(100_000);
			sql('SELECT count(*) FROM bronze.loaded') eq $loaded;
		},
		120 + $files / 50),
	'all files are loaded');
note(sprintf('%d files loaded in %.1f s, %.1f MB', $loaded, time() - $began, $most / MB));
cmp_ok($most, '<', $limit, 'within the limit');
is(sql('SELECT count(DISTINCT id), sum(id) FROM bronze.loaded'),
	sql("SELECT count(*), sum(n) FROM generate_series(0, $files) n WHERE n % $folders < $filled OR n = $files"), 'each once');
is(sql(<<'END'), '0', 'in the order of time and path');
SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY l.load_id) AS by_load, row_number() OVER (ORDER BY f.mtime_ns, f.path) AS by_file
  FROM lakehouse.load l JOIN lakehouse.file f USING (file_id)) x WHERE by_load <> by_file
END
cmp_ok(sql('SELECT max(n) FROM (SELECT count(*) AS n FROM lakehouse.load GROUP BY pg_xact_commit_timestamp(xmin)) x'),
	'<=', $batch, "no more than $batch in a transaction");
is(sql("SELECT count(*), count(DISTINCT path) FROM lakehouse.file_status WHERE source = 'loaded'"), join('|', ($loaded + $loaded_loops) x 2), 'the ledger has each once');

is(sql("SELECT string_agg(format('%s %s', object, detail), E'\\n') FROM lakehouse.verify() WHERE NOT ok"), '', 'verify() finds nothing');
$node->stop;
done_testing();
