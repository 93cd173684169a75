# How files are found: which ones a source wants, in what order it takes them,
# when they count as complete; that what the system tells of is looked at and
# nothing else; that nothing is missed when it cannot tell all.
use strict;
use warnings;

use File::Path qw(make_path remove_tree);
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep utime);

seed();
my $node = lakehouse_node('discovery', conf => "lakehouse.poll_interval = '1h'\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# spew writes a file; $time is its modification time, if given
sub spew
{
	my ($path, $text, $time) = @_;
	open(my $file, '>', "$landing/$path") or die "$path: $!";
	print $file $text;
	close($file) or die "$path: $!";
	utime($time, $time, "$landing/$path") if defined $time;
	return;
}

# bring lets a file appear as a whole
sub bring
{
	my ($path, $text) = @_;
	open(my $file, '>', "$landing.tmp/new") or die $!;
	print $file $text;
	close($file) or die $!;
	rename("$landing.tmp/new", "$landing/$path") or die "$path: $!";
	return;
}

sub make_source
{
	my ($name, $options, %option) = @_;
	make_path("$landing/$name");
	sql("CREATE TABLE bronze.$name (id int)");
	$option{path} //= "$name/**/*.csv";
	$option{trigger} //= 'available_now';
	my ($status, $out, $err) = $node->psql('postgres',
		"SELECT lakehouse.create_source('$name', 'landing', 'bronze.$name', path => '$option{path}', format => 'csv',"
		  . " options => '$options', trigger => '$option{trigger}')");
	is($status, 0, "source $name is created $err");
	return;
}

sub ids { return sql("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM bronze.$_[0]") }
sub run { sql("SELECT lakehouse.run_source('$_[0]')"); return ids($_[0]) }
sub seen { return sql("SELECT $_[1] FROM lakehouse.discovery_status WHERE source = '$_[0]'") }
sub alter
{
	my ($name, $options) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.alter_source('$name', options => '$options')");
	is($status, 0, "source $name is altered");
	return $err;
}

# ---- which files: time, name, ignored names
make_source('chosen', '{"modified_after": "2020-01-01T00:00:00Z", "modifiedBefore": "2020-01-03 00:00:00+00"}');
make_path("$landing/chosen/sub", "$landing/chosen/_sub");
spew("chosen/$_->[0].csv", "$_->[1]\n", $_->[2])
  for [ 'at', 1, 1577836800 ], [ 'in', 2, 1577836801 ], [ 'late', 3, 1578009600 ], [ 'sub/in', 4, 1577900000 ], [ '_sub/in', 5, 1577900000 ];
is(run('chosen'), '2 4', 'files between two times are loaded, the limits themselves are not');
is(sql("SELECT count(*) FROM lakehouse.file_status WHERE source = 'chosen'"), '2', 'others are not in the ledger');
sql("ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'");
alter('chosen', '{"cloudFiles.modifiedAfter": "2020-01-01"}');
is(run('chosen'), '2 3 4', 'with another limit others come; it is in UTC in every session');
alter('chosen', '{"ignore": ["sub", "late*"]}');
is(run('chosen'), '1 2 3 4 5', 'a list of one\'s own stands for the usual one');
alter('chosen', '{"fileNamePattern": "x[0-9].csv", "ignore": []}');
spew('chosen/x1.csv', "6\n");
spew('chosen/xx.csv', "7\n");
spew('chosen/.csv', "8\n");
is(run('chosen'), '1 2 3 4 5 6', 'a pattern of names narrows the path');

# ---- files that are there when the source is created
make_path("$landing/fresh/a");
spew("fresh/$_.csv", "1\n") for 'a/old', 'old';
make_source('fresh', '{"include_existing": false}');
is(sql("SELECT string_agg(path || ' ' || state || ' ' || coalesce(sqlstate, '-'), ', ' ORDER BY path) FROM lakehouse.file_status WHERE source = 'fresh'"),
	'fresh/a/old.csv skipped -, fresh/old.csv skipped -', 'files that were there are shown as skipped');
is(sql("SELECT string_agg(DISTINCT ingestion_state, ',') FROM lakehouse.cloud_files_state WHERE flow_name = 'fresh'"), 'SKIPPED', 'in the words of Auto Loader too');
spew('fresh/a/new.csv', "2\n");
spew('fresh/old.csv', "3\n4\n");
is(run('fresh'), '2', 'a new file is loaded, and no other');
sql("SELECT lakehouse.reingest_file('fresh', 'fresh/old.csv')");
is(run('fresh'), '2 3 4', 'until somebody asks for one');
like(alter('fresh', '{"includeExistingFiles": true}'), qr/counts only when a source is created.*lakehouse\.reingest_file/s, 'a later change is answered with what to do');
is(alter('fresh', '{}'), '', 'no change, no notice');
is(run('fresh'), '2 3 4', 'and loads nothing');

# ---- the order
sub order { return sql("SELECT string_agg(regexp_replace(file, '.*/', ''), ' ' ORDER BY load_id) FROM lakehouse.load_status WHERE source = '$_[0]'") }
make_source('named', '{"order_by": "name"}');
spew("named/$_->[0].csv", "1\n", $_->[1]) for [ 'b', 2000 ], [ 'a', 3000 ], [ 'Z', 4000 ], [ 'c', 1000 ];
run('named');
is(order('named'), 'Z.csv a.csv b.csv c.csv', 'by name: by bytes');
make_source('turned', '{"order_by": "name", "max_files_per_trigger": 1}', trigger => 'continuous');
sql("SELECT lakehouse.pause_source('turned')");
sql("SELECT lakehouse.skip_file('turned', 'turned/$_.csv'), lakehouse.reingest_file('turned', 'turned/$_.csv')") for 'a', 'b', 'c';
spew("turned/$_->[0].csv", "1\n", $_->[1]) for [ 'a', 3000 ], [ 'b', 2000 ], [ 'c', 1000 ];
sql("UPDATE lakehouse.file SET mtime_ns = " . (3000 - 1000 * $_) . " WHERE path = 'turned/" . (qw(a b c))[$_] . ".csv'") for 0 .. 2;
alter('turned', '{"max_files_per_trigger": 1, "settle_ms": 0}');
sql("SELECT lakehouse.resume_source('turned')");
ok(poll_value($node, 'SELECT count(*) FROM bronze.turned', '3'), 'all that waited are loaded');
is(order('turned'), 'c.csv b.csv a.csv', 'files that wait change their order with the option');
is(sql("SELECT count(DISTINCT xmin::text) FROM lakehouse.load WHERE relation = 'bronze.turned'::regclass"), '3', 'one file a batch, if so asked');

# ---- markers
make_source('marked', '{"done_marker": "{name}.done"}');
spew('marked/a.csv', "1\n");
spew('marked/b.csv', "2\n");
spew('marked/b.csv.done', '');
is(run('marked'), '2', 'a file waits for its marker');
is(seen('marked', 'unmarked_files'), '1', 'and is counted');
make_path("$landing/marked/a.csv.done");
is(run('marked'), '2', 'a directory is no marker');
rmdir("$landing/marked/a.csv.done");
spew('marked/a.csv.done', '');
is(run('marked'), '1 2', 'and loaded when it comes');
make_source('stem', '{"done_marker": "_done_{stem}"}', path => 'stem/*');
spew('stem/a.b.csv', "1\n");
spew('stem/c.csv', "2\n");
spew('stem/_done_a.b', '');
spew('stem/_done_d', '');
is(run('stem'), '1', 'a marker for the name without extension; markers are no data');
make_source('folder', '{"done_marker": "_SUCCESS"}');
make_path("$landing/folder/x", "$landing/folder/y");
spew("folder/$_.csv", "1\n") for 'x/a', 'x/b', 'y/a', 'top';
spew('folder/x/_SUCCESS', '');
is(run('folder'), '1 1', 'a marker for a folder is for its files alone');

# ---- names that are told of, and no others
make_source('told', '{"settle_ms": 0}', trigger => 'continuous');
my $many = 2000;
make_path("$landing/told/d");
spew("told/d/$_.csv", "$_\n") for 1 .. $many;
ok(poll_value($node, 'SELECT count(*) FROM bronze.told', $many, 120), 'many files are loaded');
ok(poll_value($node, "SELECT watched AND watched_directories = 3 FROM lakehouse.discovery_status WHERE source = 'told'", 't'),
	'all directories are watched');

# quiet: what was told while the first listing went on has been looked at
my $before;
wait_until(sub { my $now = seen('told', 'listings, looks, names_looked_at'); my $same = defined $before && $now eq $before; $before = $now; usleep(300_000); $same }, 60);
my ($listings, $looks, $names) = split /\|/, $before;
bring('told/d/renamed.csv', "-1\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.told WHERE id = -1', '1'), 'a file that is renamed in is loaded');
is(seen('told', 'listings'), $listings, 'without a listing');
cmp_ok(seen('told', 'names_looked_at') - $names, '<=', 3, "of $many known files none is looked at");
open(my $base, '>', "$landing.tmp/base") or die $!;
print $base "-2\n";
close($base);
link("$landing.tmp/base", "$landing/told/d/linked.csv") or die $!;
ok(poll_value($node, 'SELECT count(*) FROM bronze.told WHERE id = -2', '1'), 'so is a link to a file');
make_path("$landing/told/new/er");
spew('told/new/er/n.csv', "-3\n");
make_path("$landing.tmp/tree/a/b");
open(my $leaf, '>', "$landing.tmp/tree/a/b/leaf.csv") or die $!;
print $leaf "-4\n";
close($leaf);
rename("$landing.tmp/tree", "$landing/told/tree") or die $!;
ok(poll_value($node, 'SELECT count(*) FROM bronze.told WHERE id IN (-3, -4)', '2'), 'files in directories that are made or renamed in are found');
rename("$landing/told/tree/a", "$landing/told/moved") or die $!;
bring('told/moved/b/more.csv', "-5\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.told WHERE id = -5', '1'), 'also in a directory that was renamed');
symlink('d/1.csv', "$landing/told/link.csv") or die $!;
spew('told/last.csv', "-6\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.told WHERE id = -6', '1'), 'names beside are told of too');
ok(poll_value($node, "SELECT state, sqlstate FROM lakehouse.file_status WHERE path = 'told/link.csv'", 'skipped|42809'), 'what is no file is shown');
spew('told/d/1.csv', "1\n2\n");
ok(poll_value($node, "SELECT state FROM lakehouse.file_status WHERE path = 'told/d/1.csv'", 'changed'), 'a rewritten file is noticed');
utime(1000, 1000, "$landing/told/d/2.csv");
ok(poll_value($node, "SELECT state FROM lakehouse.file_status WHERE path = 'told/d/2.csv'", 'changed'), 'and one with another time');
is(seen('told', 'listings'), $listings, 'all that without a listing');
cmp_ok(seen('told', 'names_looked_at') - $names, '<', 100, 'and with few looks');
is(seen('told', 'files_found_only_by_backfill'), '0', 'nothing was missed');

# ---- markers that are told of
make_source('signal', '{"done_marker": "{name}.done"}', trigger => 'continuous');
make_source('signals', '{"done_marker": "_SUCCESS"}', trigger => 'continuous');
ok(poll_value($node, "SELECT sum(listings) FROM lakehouse.discovery_status WHERE source LIKE 'signal%' AND watched", '2'), 'two sources listen');
spew('signal/a.csv', "1\n");
spew('signals/a.csv', "1\n");
spew('signals/b.csv', "2\n");
spew('signal/a.csv.done', '');
spew('signals/_SUCCESS', '');
ok(poll_value($node, 'SELECT (SELECT count(*) FROM bronze.signal) + (SELECT count(*) FROM bronze.signals)', '3'), 'a marker brings its files');
is(sql("SELECT sum(listings) FROM lakehouse.discovery_status WHERE source LIKE 'signal%'"), '2', 'without a listing');

# ---- more than the system can tell
my $pid = sql("SELECT pid FROM lakehouse.worker_status WHERE object = 'told' AND kind = 'source'");
my $storm = 6000;
kill('STOP', $pid) or die $!;
for my $round (1 .. 2)
{
	# two names are told of each, three times as many as the system keeps
	for (1 .. $storm)
	{
		open(my $file, '>', "$landing/told/d/s$_.tmp") or die $!;
		print $file (10_000 * $round + $_) . "\n";
		close($file);
		rename("$landing/told/d/s$_.tmp", "$landing/told/d/s$round-$_.csv") or die $!;
	}
}
kill('CONT', $pid);
ok(poll_value($node, 'SELECT count(*), count(DISTINCT id) FROM bronze.told WHERE id > 10000', 2 * $storm . '|' . 2 * $storm, 180), 'a storm of events loses no file');
cmp_ok(seen('told', 'listings'), '>', $listings, 'because everything was listed');

# ---- a crash between the event and the look
$pid = sql("SELECT pid FROM lakehouse.worker_status WHERE object = 'told' AND kind = 'source'");
kill('STOP', $pid) or die $!;
bring('told/d/crash.csv', "-7\n");
kill_process($node, $pid) or die $!;
ok(poll_value($node, 'SELECT count(*) FROM bronze.told WHERE id = -7', '1', 90), 'what a crashed worker was told of is found by the next one');
# one came again under another path
is(sql('SELECT count(*) - count(DISTINCT id) FROM bronze.told WHERE id <> -4'), '0', 'and nothing is loaded twice');

# ---- a change that nobody is told of: written by somebody who does not close
$node->append_conf('postgresql.conf', "lakehouse.poll_interval = '50ms'");
$node->reload;
make_source('silent', '{"settle_ms": 0, "on_change": "tail", "backfill_interval": "1 second"}', trigger => 'continuous');
open(my $silent, '>', "$landing/silent/s.csv") or die $!;
$silent->autoflush(1);
spew('silent/other.csv', "0\n");
print $silent "1\n";
ok(poll_value($node, 'SELECT count(*) FROM bronze.silent', '2'), 'a file that is held open is found by a listing');
print $silent "2\n";
ok(poll_value($node, 'SELECT count(*) FROM bronze.silent', '3'), 'and so is what is added');
close($silent);
alter('silent', '{"settle_ms": 0, "discovery": "listing"}');
bring('silent/b.csv', "9\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.silent WHERE id = 9', '1'), 'listings alone find files');
ok(poll_value($node, "SELECT watched FROM lakehouse.discovery_status WHERE source = 'silent'", 'f'), 'and nothing is watched');
alter('silent', '{"settle_ms": 0, "discovery": "notify"}');
ok(poll_value($node, "SELECT watched FROM lakehouse.discovery_status WHERE source = 'silent'", 't'), 'with notify it is');
bring('silent/c.csv', "10\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.silent WHERE id = 10', '1'), 'and the system tells of files');

# ---- an idle worker lists nothing, however short the interval of listings is
make_source('idle', '{"settle_ms": 0}', trigger => 'continuous');
ok(poll_value($node, "SELECT listings FROM lakehouse.discovery_status WHERE source = 'idle' AND watched", '1'), 'an idle source has listed once');
# forty times the interval of listings
usleep(2_000_000);
is(seen('idle', 'listings, looks'), '1|0', 'and lists nothing more');
rename("$landing/idle", "$landing.tmp/idle") or die $!;
rename($landing, "$landing.away") or die $!;
make_path("$landing/idle");
spew('idle/a.csv', "1\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.idle', '1'), 'another directory under the same name is noticed');
remove_tree($landing);
rename("$landing.away", $landing) or die $!;

# ---- files and directories that come and go while somebody looks
sql("SELECT lakehouse.drop_source(name) FROM lakehouse.source WHERE name NOT IN ('told')");
make_source('fleeting', '{"settle_ms": 0}', trigger => 'continuous');
for my $round (1 .. 300)
{
	my $directory = "$landing/fleeting/d" . $round % 7;
	remove_tree($directory) if $round % 3 == 0;
	make_path($directory);
	bring("fleeting/d" . $round % 7 . "/f$round.csv", "$round\n");
	rename("$directory/f$round.csv", "$directory/g$round.csv") if $round % 2 == 0;
	unlink("$directory/f$round.csv") if $round % 5 == 0;
	usleep(1000) if $round % 10 == 0;
}
bring('fleeting/end.csv', "1000\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.fleeting WHERE id = 1000', '1'), 'a source outlives what comes and goes');
my @left = glob("$landing/fleeting/d*/*.csv");
ok(poll_value($node, "SELECT count(*) FROM lakehouse.file_status WHERE source = 'fleeting' AND state = 'loaded' AND path IN ("
		  . join(',', map { s{^\Q$landing\E/}{}r =~ s/^(.*)$/'$1'/r } @left) . ')', scalar(@left)), 'what is left of ' . @left . ' files is loaded');
is(sql("SELECT string_agg(DISTINCT state || ' ' || coalesce(sqlstate, '-'), ',') FROM lakehouse.file_status WHERE source = 'fleeting' AND state <> 'loaded'") =~ s/^skipped 58P01$//r,
	'', 'what disappeared is shown as that');
is(sql('SELECT count(*) FROM (SELECT id, count(*) FROM bronze.fleeting GROUP BY id HAVING count(*) > 2) x'), '0', 'one load for each path');
is(sql("SELECT failures FROM lakehouse.source_status WHERE name = 'fleeting'"), '0', 'nothing failed');

# ---- a directory that may not be read
SKIP:
{
	skip 'the superuser of the machine may read everything', 5 if $> == 0;
	make_path("$landing/fleeting/closed");
	bring('fleeting/closed/a.csv', "2000\n");
	ok(poll_value($node, 'SELECT count(*) FROM bronze.fleeting WHERE id = 2000', '1'), 'a directory is read');
	sql("SELECT lakehouse.pause_source('fleeting')");
	bring('fleeting/closed/b.csv', "2001\n");
	chmod(0000, "$landing/fleeting/closed") or die $!;
	sql("SELECT lakehouse.resume_source('fleeting')");
	ok(poll_value($node, "SELECT unreadable FROM lakehouse.discovery_status WHERE source = 'fleeting'", '{"fleeting/closed: Permission denied"}'),
		'one that may not be read any more is shown');
	bring('fleeting/beside.csv', "2002\n");
	ok(poll_value($node, 'SELECT count(*) FROM bronze.fleeting WHERE id = 2002', '1'), 'the others go on');
	chmod(0755, "$landing/fleeting/closed") or die $!;
	ok(poll_value($node, 'SELECT count(*) FROM bronze.fleeting WHERE id = 2001', '1'), 'its files come when it may be read, without a listing');
	sql("SELECT lakehouse.pause_source('fleeting'), lakehouse.resume_source('fleeting')");
	ok(poll_value($node, "SELECT unreadable FROM lakehouse.discovery_status WHERE source = 'fleeting'", '{}'), 'and the next listing shows that');
}

is(sql("SELECT string_agg(format('%s %s', object, detail), E'\\n') FROM lakehouse.verify() WHERE NOT ok"), '', 'verify() finds nothing');
$node->stop;
done_testing();
