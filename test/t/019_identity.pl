# Files that are known by their content (option identity): a copy under another
# name is not loaded, whoever comes first, whatever dies on the way, and whatever
# is decided about one of the copies afterwards.
use strict;
use warnings;

use File::Copy qw(copy);
use File::Path qw(make_path);
use IO::Compress::Gzip ();
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep utime);

my $path = faults_path();
seed();
my $node = lakehouse_node('identity', install_path => $path);
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze');

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub ids { return sql("SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM bronze.$_[0]") }
sub run { sql("SELECT lakehouse.run_source('$_[0]')"); return ids($_[0]) }
sub same { return join(' ', @_) }

# states tells of each file of a source, by its present version
sub states
{
	return sql("SELECT string_agg(regexp_replace(path, '.*/', '') || ' ' || state || coalesce(' of ' || regexp_replace(duplicate_of, '.*/', ''), ''), ', ' ORDER BY path)"
		  . " FROM lakehouse.file_status WHERE source = '$_[0]' AND ended IS NULL");
}

my $clock = 1_600_000_000;

# spew writes a file; each is later than those before
sub spew
{
	my ($file, $text) = @_;
	open(my $out, '>', "$landing/$file") or die "$file: $!";
	print $out $text;
	close($out) or die $!;
	$clock++;
	utime($clock, $clock, "$landing/$file");
	return;
}

sub make_source
{
	my ($name, $options, $trigger) = @_;
	$trigger //= 'available_now';
	make_path("$landing/$name");
	sql("CREATE TABLE bronze.$name (id int);"
		  . "SELECT lakehouse.create_source('$name', 'landing', 'bronze.$name', path => '$name/*', format => 'csv', trigger => '$trigger',"
		  . " options => '{\"identity\": \"content\", \"header\": false$options}')");
	return;
}

# ---- copies: in one run and later, of a file and of a compressed one
make_source('c', '');
spew('c/a', "1\n2\n");
spew('c/b', "1\n2\n");
spew('c/other', "3\n");
is(run('c'), '1 2 3', 'a copy in the same run is not loaded');
is(states('c'), 'a loaded, b duplicate of a, other loaded', 'and the ledger says of what it is one');
is(sql("SELECT ingestion_state, rows FROM lakehouse.cloud_files_state WHERE path = 'c/b'"), 'SKIPPED|0', 'in the words of Auto Loader, too');
spew('c/c', "1\n2\n");
spew('c/d', "1\n2");
is(run('c'), '1 1 2 2 3', 'nor is one that comes later; another byte is another content');
is(states('c'), 'a loaded, b duplicate of a, c duplicate of a, d loaded, other loaded', 'each has its state');
IO::Compress::Gzip::gzip("$landing/c/a", "$landing/c/a.gz", -Time => 0) or die;
copy("$landing/c/a.gz", "$landing/c/b.gz");
run('c');
is(states('c') =~ /(a\.gz.*), b dup/ && $1, 'a.gz loaded', 'a compressed file has the content of its own bytes');
is(states('c') =~ /b\.gz/ ? sql("SELECT duplicate_of FROM lakehouse.file_status WHERE path = 'c/b.gz'") : '', 'c/a.gz', 'and its copy is one');
spew("c/$_", '') for 'e1', 'e2';
my $before = run('c');
is(sql("SELECT count(*) FROM lakehouse.file_status WHERE path LIKE 'c/e_' AND state = 'loaded'"), '2', 'empty files have nothing that could be there twice');
my $looked = sql("SELECT xmin FROM lakehouse.file WHERE path = 'c/b'");
is(run('c'), $before, 'nothing changes by itself');
is(sql("SELECT xmin FROM lakehouse.file WHERE path = 'c/b'"), $looked, 'and nothing is written about a duplicate that stays one');
spew('c/b', "7\n");
is(run('c'), same(split(/ /, $before), 7), 'a duplicate that becomes another file is loaded');

# ---- what people decide about one of the copies
make_source('p', '');
spew("p/$_", "1\n2\n") for 'a', 'b';
is(run('p'), '1 2', 'one of two');
is(sql("SELECT lakehouse.undo_file('p', 'p/b')"), '0', 'to undo a duplicate takes nothing back');
is(run('p'), '1 2', 'and leaves the other');
sql("SELECT lakehouse.reingest_file('p', 'p/b')");
is(run('p'), '1 2', 'to load a duplicate again does not load it twice');
is(states('p'), 'a loaded, b duplicate of a', 'it stays what it is');
is(sql("SELECT lakehouse.undo_file('p', 'p/a')"), '2', 'what was loaded is undone');
spew('p/c', "1\n2\n");
is(run('p'), '', 'what was undone is not loaded from a copy');
is(states('p'), 'a undone, b duplicate of a, c duplicate of a', 'whether it was there before or came later');
sql("SELECT lakehouse.reingest_file('p', 'p/b')");
is(run('p'), '1 2', 'until somebody asks for one');
sql("SELECT lakehouse.reingest_file('p', 'p/b')");
is(run('p'), '1 2', 'which may be loaded again');
sql("SELECT lakehouse.reingest_file('p', 'p/a')");
is(run('p'), '1 2', 'the others may not');
is(states('p'), 'a duplicate of b, b loaded, c duplicate of b', 'they are duplicates of it');
sql("SELECT lakehouse.skip_file('p', 'p/b'), lakehouse.skip_file('p', 'p/c')");
spew('p/d', "1\n2\n");
is(run('p'), '1 2', 'rows that were kept count');
is(states('p'), 'a duplicate of b, b skipped, c skipped, d duplicate of b', 'skipped files stay so');

# ---- a version that takes the place of another
make_source('r', ', "on_change": "replace"');
spew('r/a', "1\n");
spew('r/b', "1\n");
is(run('r'), '1', 'one of two');
spew('r/a', "2\n");
run('r');
is(run('r'), '1 2', 'when the content is replaced, the copy has it again');
is(states('r'), 'a loaded, b loaded', 'and is loaded');
spew('r/a', "1\n");
is(run('r'), '1', 'a new version that is a copy takes back the old one');
is(states('r'), 'a duplicate of b, b loaded', 'and is a duplicate');
make_source('g', ', "on_change": "append_again"');
spew('g/a', "1\n");
run('g');
spew('g/a', "1\n");
is(run('g'), '1', 'a new time is no new content');
is(states('g'), 'a duplicate of a', 'the version before has it');
spew('g/a', "2\n");
is(run('g'), '1 2', 'new content is');

# ---- a load that stands still
make_source('s', '');
spew('s/a', "1\n2\n");
run('s');
sql(q{UPDATE lakehouse.file SET state = 'failed', "position" = 2, retry_at = 'infinity' WHERE path = 's/a'});
spew('s/b', "1\n2\n");
run('s');
is(sql("SELECT state, sqlstate, error LIKE '%content of \"s/a\", of which 2 of 4 bytes%' FROM lakehouse.file_status WHERE path = 's/b'"), 'failed|55000|t',
	'a copy of what is loaded in part says so');
sql("SELECT lakehouse.undo_file('s', 's/a')");
sql("SELECT lakehouse.reingest_file('s', 's/b')");
is(run('s'), '1 2', 'and what the hint says helps');

# ---- the clean-up
make_source('l', ', "clean_source": "delete", "clean_source_retention": "0 seconds"');
spew("l/$_", "1\n") for 'a', 'b';
is(run('l'), '1', 'one of two');
sql("CALL lakehouse.clean_source('l')");
ok(wait_until(sub { !-e "$landing/l/a" }), 'the file that was loaded is deleted');
ok(-e "$landing/l/b", 'its duplicate was not loaded and stays');

# ---- what the options say
my ($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.alter_source('c', options => '{\"identity\": \"content\", \"on_change\": \"tail\"}')");
like($err, qr/"identity" = "content" cannot be used together with "on_change" = "tail"/, 'files that are continued are known by their path');
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.alter_source('c', options => '{\"identity\": \"contents\"}')");
like($err, qr/"contents".*content/s, 'other values are refused');
sql("SELECT lakehouse.alter_source('c', options => '{\"header\": false}')");
spew('c/z', "3\n");
like(run('c'), qr/3 3/, 'by path a copy is another file');
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.alter_source('c', options => '{\"header\": false, \"identity\": \"content\"}')");
like($err, qr/stay known by their path alone/, 'what that means for files of before is said');

# ---- torn at each step, by an error and by a crash
my $round = 0;
for my $fault (map { ("$_:error", "$_:kill") } 'content-claimed', 'content-duplicate', 'before-ledger', 'after-ledger')
{
	my $name = 'f' . ++$round;
	make_source($name, '');
	spew("$name/$_", "1\n2\n") for 'a', 'b';
	spew("$name/c", "3\n");
	($status, $out, $err) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.run_source('$name')");
	isnt($status, 0, "$fault: the run is torn");
	my $torn = ids($name);
	like($torn, qr/^(1 2 3|)$/, "$fault: all or nothing");
	is(run($name), '1 2 3', "$fault: then each is there once");
	is(states($name), 'a loaded, b duplicate of a, c loaded', "$fault: and the ledger says so");
}

# ---- workers that come to copies at the same time, and die
make_source('w', ', "workers": 4, "settle_ms": 0, "max_files_per_trigger": 7', 'continuous');
my ($contents, $copies) = (60, 5);
my @files = map { my $content = $_; map { [ "w/c$_-$content", $content ] } 1 .. $copies } 1 .. $contents;
for my $file (sort { rand() <=> 0.5 } @files)
{
	my ($name, $content) = @$file;
	open(my $new, '>', "$landing.tmp/new") or die $!;
	print $new join("\n", map { $content * 1000 + $_ } 1 .. 50) . "\n";
	close($new);
	rename("$landing.tmp/new", "$landing/$name") or die $!;
	next if rand() > 0.01;
	kill_process($node, worker_pid($node, 'w'));
}
ok(poll_value($node, "SELECT count(*) FILTER (WHERE state = 'loaded'), count(*) FILTER (WHERE state = 'duplicate') FROM lakehouse.file_status WHERE source = 'w'",
		"$contents|" . $contents * ($copies - 1), 120), 'of the copies one is loaded each');
is(sql('SELECT count(*), count(DISTINCT id), sum(id) FROM bronze.w'), sql("SELECT count(*), count(*), sum(c * 1000 + n) FROM generate_series(1, $contents) c, generate_series(1, 50) n"),
	'and each record is there once');
is(sql("SELECT count(*) FROM lakehouse.file f JOIN lakehouse.file o ON o.file_id = f.duplicate_of WHERE f.state = 'duplicate' AND f.path LIKE 'w/%'"
	  . " AND (o.state <> 'loaded' OR regexp_replace(f.path, '.*-', '') <> regexp_replace(o.path, '.*-', ''))"), '0', 'each duplicate names the one that is loaded');

is(sql("SELECT string_agg(format('%s %s', object, detail), E'\\n') FROM lakehouse.verify() WHERE NOT ok AND object NOT LIKE 's%'"), '', 'verify() finds nothing');
$node->stop;
done_testing();
