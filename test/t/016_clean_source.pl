# What becomes of files after their load: moved or deleted, only after the commit
# is durable, never another file than the one that was loaded, and the same end
# after a crash between any two steps.
use strict;
use warnings;

use Cwd qw(realpath);
use File::Path qw(make_path remove_tree);
use FindBin;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $path = faults_path();
seed();

my $library = PostgreSQL::Test::Utils::tempdir() . '/faulty_io.so';
my $control = PostgreSQL::Test::Utils::tempdir() . '/control';
system('gcc', '-shared', '-fPIC', '-O2', '-o', $library, "$FindBin::RealBin/../fault/faulty_io.c", '-ldl') == 0
  or BAIL_OUT('test/fault/faulty_io.c cannot be compiled');

# without background workers nothing happens but what the test calls for
my $node = lakehouse_node('clean', install_path => $path, conf => "shared_preload_libraries = ''\n");
my $base = realpath($node->basedir);
my $landing = "$base/landing";
my $done = "$base/done";
make_path("$landing/in", $done);

# another file system, if the machine has one that everybody may write
my $far = "/dev/shm/lakehouse_clean_$$";
my $has_far = mkdir($far) && (stat($far))[0] != (stat($done))[0];
END { remove_tree($far) if defined $far && -d $far }

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub spew
{
	my ($file, $text) = @_;
	open(my $out, '>', "$file.tmp") or die "$file: $!";
	print $out $text;
	close($out) or die "$file: $!";
	rename("$file.tmp", $file) or die "$file: $!";
	return;
}

# call gives status and messages; each call is a statement of its own, as the
# procedure needs it
sub call
{
	my ($source, $before) = @_;
	my ($status, $out, $err) = $node->psql('postgres', ($before // '') . "\nCALL lakehouse.clean_source('$source');");
	return ($status, $err);
}

sub cleaned
{
	my ($source, $expected, $name) = @_;
	my ($status, $err) = call($source);
	like($err, qr/: $expected\b/, $name);
	return;
}

sub clean_state
{
	my ($file) = @_;
	return sql("SELECT string_agg(concat_ws(' ', clean_state, clean_sqlstate), ',' ORDER BY version) FROM lakehouse.file_status WHERE path = '$file'");
}

sub hidden { return join(' ', glob("$landing/in/.lakehouse* $done/.lakehouse* $done/in/.lakehouse*" . ($has_far ? " $far/in/.lakehouse*" : ''))) }

sub refused
{
	my ($options, $sqlstate, $pattern, $name, $path) = @_;
	my ($status, $out, $err) = $node->psql('postgres',
		'\set VERBOSITY verbose' . "\nSELECT lakehouse.create_source('refused', 'landing', 'bronze.t', path => '"
		  . ($path // 'in/*.csv') . "', options => '$options')");
	like($err, qr/ERROR:  $sqlstate: .*$pattern/s, $name);
	return;
}

my %option = (
	move => qq({"clean_source": "move", "clean_source_retention": "0s", "clean_source_move_target": "$done"}),
	delete => '{"clean_source": "delete", "clean_source_retention": "0s"}',
	far => qq({"cloudFiles.cleanSource": "MOVE", "cloudFiles.cleanSource.retentionDuration": "0 seconds", "cloudFiles.cleanSource.moveDestination": "$far"}));

sql(<<"END");
CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing');
CREATE SCHEMA bronze;
CREATE TABLE bronze.t (id int, word text);
END

# ---- definitions
refused('{"clean_source": "mov"}', '22023', 'Did you mean "move"', 'an unknown mode is refused');
refused('{"clean_sorce": "move"}', '22023', 'clean_sorce', 'so is a name that is none');
refused('{"clean_source": "move"}', '22023', 'clean_source_move_target', 'move needs a target');
refused('{"clean_source": "delete", "clean_source_retention": "soon"}', '22007', 'interval', 'retention is an interval');
refused('{"clean_source": "delete", "clean_source_retention": "-1 day"}', '22023', 'less than zero', 'of zero or more');
refused('{"clean_source": "delete", "cleanSource": "off"}', '22023', 'mean the same', 'two spellings of one option');
refused('{"clean_source": "delete", "on_change": "tail"}', '22023', 'tail', 'files that grow are never finished');
sub refused_target { my ($target, @rest) = @_; refused(qq({"clean_source": "move", "clean_source_move_target": "$target"}), @rest); return }
refused_target('done', '22023', 'absolute path', 'a relative target');
refused_target("$landing/in/../../done", '22023', 'absolute path', 'a target with ".."');
refused_target("$base/nowhere", '58P01', 'could not open directory', 'a target that does not exist');
symlink($done, "$base/link") or die $!;
refused_target("$base/link", '\w{5}', 'could not open directory', 'a target that is a symbolic link');
make_path("$base/real/deep");
symlink("$base/real", "$base/way") or die $!;
refused_target("$base/way/deep", '\w{5}', 'could not open directory', 'a target behind a symbolic link');
refused_target($landing, '22023', 'read them again', 'the directory of the source');
refused_target("$landing/in", '22023', 'read them again', 'a directory that is listed', 'in/*/*.csv');
make_path("$landing/past", "$landing/_past");
refused_target("$landing/past", '22023', 'read them again', 'a directory that "**" reaches', '**/*.csv');
refused_target($node->data_dir, '42501', 'part of the database cluster', 'the data directory');
refused_target($node->data_dir . '/base', '42501', 'part of the database cluster', 'a directory in it');
my ($ok) = $node->psql('postgres', qq(SELECT lakehouse.create_source('kept', 'landing', 'bronze.t', path => '**/*.xyz', format => 'csv', options => '{"clean_source": "move", "clean_source_move_target": "$landing/_past"}')));
is($ok, 0, 'a directory that listings pass over may lie among the files');

# ---- off, and before its time
my $number = 0;
sub bring { my $name = sprintf('f%04d.csv', ++$number); spew("$landing/in/$name", "$number,w$number\n"); return $name }

sql("SELECT lakehouse.create_source('s', 'landing', 'bronze.t', path => 'in/*.csv')");
my $old = bring();
sql("SELECT lakehouse.run_source('s')");
cleaned('s', '0 files moved, 0 deleted, 0 left, 0 waiting for other sources, 0 failed', 'nothing happens by default');
ok(-e "$landing/in/$old", 'and the file is there');
sql(qq(SELECT lakehouse.alter_source('s', options => '{"clean_source": "DELETE"}')));
my $fresh = bring();
sql("SELECT lakehouse.run_source('s')");
cleaned('s', '0 files moved, 0 deleted', 'nor before its time');
is(sql("SELECT clean_time - loaded > '29 days 23 hours' AND clean_time - loaded < '30 days 1 hour' FROM lakehouse.file_status WHERE path = 'in/$fresh'"),
	't', 'which is 30 days');
is(clean_state("in/$old"), '', 'a file that was loaded under "off" does not wait for it');
my ($in_block, undef, $block_error) = $node->psql('postgres', "BEGIN; CALL lakehouse.clean_source('s'); COMMIT;");
like($block_error, qr/cannot run inside a transaction block/, 'within a transaction block nothing can be cleaned up');

# ---- modes: never more harshly than when it was loaded, unless asked for
sql("SELECT lakehouse.alter_source('s', options => '$option{move}')");
is(sql("SELECT clean_mode FROM lakehouse.file_status WHERE path = 'in/$fresh'"), 'move', 'delete becomes move');
sql("SELECT lakehouse.alter_source('s', options => '" . $option{delete} . "')");
is(sql("SELECT clean_mode FROM lakehouse.file_status WHERE path = 'in/$fresh'"), 'move', 'move does not become delete');
cleaned('s', '0 files moved, 0 deleted, 0 left, 0 waiting for other sources, 1 failed', 'without a target it is left');
ok(-e "$landing/in/$fresh", 'where it is');
sql("SELECT lakehouse.alter_source('s', options => '$option{move}')");
cleaned('s', '1 files moved, 0 deleted', 'and moved with one');
ok(!-e "$landing/in/$fresh" && slurp_file("$done/in/$fresh") eq "$number,w$number\n", 'with its directories and its content');
is(sql("SELECT archive_mode, move_location, archive_time IS NOT NULL FROM lakehouse.cloud_files_state WHERE path = 'in/$fresh'"),
	"MOVE|$done/in/$fresh|t", 'cloud_files_state tells where');
sql(qq(SELECT lakehouse.alter_source('s', options => '{"clean_source": "delete", "clean_source_retention": "0s", "clean_source_apply_to_past": true}')));
cleaned('s', '0 files moved, 1 deleted', 'what was loaded before is cleaned up if that is asked for');
ok(!-e "$landing/in/$old", 'the old file is gone');

# ---- which files
sql(qq(SELECT lakehouse.alter_source('s', options => '$option{delete}')));
spew("$landing/in/partly.csv", "1000,a\nx,b\n");
spew("$landing/in/failed.csv", "1001,a\n");
chmod(0000, "$landing/in/failed.csv") or die $!;
spew("$landing/in/grows.csv", "1002,a\n");
spew("$landing/in/forged.csv", "1003,a\n");
spew("$landing/in/undone.csv", "1004,a\n");
spew("$landing/in/gone.csv", "1005,a\n");
sql("SELECT lakehouse.run_source('s')");
open(my $more, '>>', "$landing/in/grows.csv") or die $!;
print $more "1006,b\n";
close($more);
system('touch', '-r', "$landing/in/forged.csv", "$base/stamp");
spew("$landing/in/forged.csv", "1003,b\n");
system('touch', '-r', "$base/stamp", "$landing/in/forged.csv");
sql("SELECT lakehouse.undo_file('s', 'in/undone.csv')");
unlink("$landing/in/gone.csv") or die $!;
cleaned('s', '0 files moved, 1 deleted, 4 left', 'only what is still what was loaded goes');
is(clean_state('in/partly.csv'), 'deleted', 'a file with rejects goes: they are kept');
is(sql("SELECT encode(raw, 'escape') FROM lakehouse.reject_status WHERE file = 'in/partly.csv'"), 'x,b', 'with their bytes');
is(clean_state("in/$_->[0]"), $_->[1], "$_->[0] is left: $_->[1]")
  for [ 'grows.csv', 'left 55000' ], [ 'forged.csv', 'left 55000' ], [ 'undone.csv', 'left 55000' ], [ 'gone.csv', 'left 58P01' ], [ 'failed.csv', $> == 0 ? 'deleted' : '' ];
ok(-e "$landing/in/$_.csv", "$_.csv is there") for qw(grows forged undone);
is(slurp_file("$landing/in/forged.csv"), "1003,b\n", 'another content with the same size and time is not touched');
chmod(0644, "$landing/in/failed.csv");
unlink(glob("$landing/in/*")) or die $!;

# ---- names that are taken
sql("SELECT lakehouse.alter_source('s', options => '$option{move}')");
my $taken = bring();
spew("$done/in/$taken", 'precious');
symlink('/nowhere', "$done/in/$taken.1") or die $!;
mkdir("$done/in/$taken.2") or die $!;
sql("SELECT lakehouse.run_source('s')");
cleaned('s', '1 files moved', 'a file whose name is taken');
is(slurp_file("$done/in/$taken"), 'precious', 'overwrites nothing');
is(slurp_file("$done/in/$taken.3"), "$number,w$number\n", 'and gets a number');
is(sql("SELECT clean_target FROM lakehouse.file_status WHERE path = 'in/$taken'"), "$done/in/$taken.3", 'which is shown');

# ---- other sources that read the same file
sql(<<"END");
CREATE SERVER over FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$base');
CREATE TABLE bronze.other (id int, word text);
CREATE ROLE stranger;
GRANT USAGE, CREATE ON SCHEMA bronze TO stranger;
GRANT INSERT ON bronze.other TO stranger;
GRANT USAGE ON FOREIGN SERVER over TO stranger;
SELECT lakehouse.create_source('other', 'over', 'bronze.other', path => 'landing/*/f*.csv');
SELECT lakehouse.create_source('elsewhere', 'over', 'bronze.other', path => 'landing/*/g*.csv');
END
my $shared = bring();
sql("SELECT lakehouse.run_source('s')");
cleaned('s', '0 files moved, 0 deleted, 0 left, 1 waiting', 'a file that another source has not seen waits');
like(sql("SELECT clean_error FROM lakehouse.file_status WHERE source = 's' AND path = 'in/$shared'"), qr/source "other" reads the file/, 'and says for whom');
sql("SELECT lakehouse.pause_source('other')");
cleaned('s', '0 files moved, 0 deleted, 0 left, 1 waiting', 'also while that one is paused');
sql("SELECT lakehouse.resume_source('other')");
sql("SELECT lakehouse.run_source('other')");
cleaned('s', '1 files moved', 'until it has loaded it');
$shared = bring();
sql("SELECT lakehouse.run_source('s'), lakehouse.run_source('other'), lakehouse.reingest_file('other', 'landing/in/$shared')");
cleaned('s', '0 files moved, 0 deleted, 0 left, 1 waiting', 'or is to load it again');
sql("SELECT lakehouse.skip_file('other', 'landing/in/$shared')");
cleaned('s', '1 files moved', 'or shall not');
sql("SELECT lakehouse.drop_source('other'), lakehouse.drop_source('elsewhere')");

# ---- a file that is gone, and back
my ($gone, undef, $gone_error) = $node->psql('postgres', "SELECT lakehouse.reingest_file('s', 'in/$shared')");
like($gone_error, qr/is not there any more.*\Q$done\E/s, 'a file that was moved cannot be loaded again, and it is said where it is');
rename("$done/in/$shared", "$landing/in/$shared") or die $!;
sql("SELECT lakehouse.run_source('s')");
is(sql("SELECT count(*) FROM bronze.t WHERE id = $number"), '1', 'put back, it is not loaded twice');
sql("SELECT lakehouse.reingest_file('s', 'in/$shared'); ");
sql("SELECT lakehouse.run_source('s')");
is(sql("SELECT count(*) FROM bronze.t WHERE id = $number"), '1', 'it is loaded again when that is asked for');
cleaned('s', '1 files moved', 'and moved again');
is(sql("SELECT lakehouse.undo_file('s', 'in/$shared')"), '1', 'its rows can be taken back without it');

# ---- torn between any two steps
my %loaded;
sub torn
{
	my ($mode, $point, $action) = @_;
	sql("SELECT lakehouse.alter_source('s', options => '$option{$mode}')");
	my $name = bring();
	my $content = "$number,w$number\n";
	sql("SELECT lakehouse.run_source('s')");
	my $seen = -s $node->logfile;
	my ($status, $err) = call('s', "LOAD 'lakehouse'; SET lakehouse.fault = '$point:$action:1';");
	my $what = "$mode, $point, $action";
	like(slurp_file($node->logfile, $seen), qr/fault point "$point" reached: $action/, "$what: the point is reached") or diag($err);
	if ($action eq 'killall')
	{
		my $postmaster = $node->{_pid};
		wait_until(sub { !kill(0, $postmaster) }, 30) or BAIL_OUT('the server survives killall');
		start_again($node);
	}
	my $target = $mode eq 'far' ? $far : $done;
	my @copies = grep { slurp_file($_) eq $content } grep { -f $_ } "$landing/in/$name", glob("$landing/in/.lakehouse*"), "$target/in/$name";
	ok(@copies >= 1 || $mode eq 'delete', "$what: the file is somewhere, whole");
	is(sql("SELECT count(*) FROM bronze.t WHERE id = $number"), '1', "$what: its row is there");
	call('s');
	is(clean_state("in/$name"), $mode eq 'delete' ? 'deleted' : 'moved', "$what: the next one brings it to its end");
	ok(!-e "$landing/in/$name", "$what: it is not at its path");
	is(slurp_file("$target/in/$name"), $content, "$what: but at its target") if $mode ne 'delete';
	is(hidden(), '', "$what: nothing half done is left");
	sql("SELECT lakehouse.run_source('s')");
	is(sql("SELECT count(*) FROM bronze.t WHERE id = $number"), '1', "$what: its row is there once");
	return;
}
my @points = qw(archive-intent before-archive archive-taken after-archive archive-mark);
for my $mode (qw(move delete), $has_far ? 'far' : ())
{
	for my $point (@points, $mode eq 'far' ? qw(archive-copied archive-placed) : ())
	{
		torn($mode, $point, $_) for $mode eq 'delete' ? qw(error kill killall) : qw(error kill);
	}
}
diag('there is no second file system: copies are not tried') unless $has_far;

# ---- another version comes in between
for my $mode (qw(move delete))
{
	sql("SELECT lakehouse.alter_source('s', options => '$option{$mode}')");
	my $name = bring();
	sql("SELECT lakehouse.run_source('s')");
	call('s', "LOAD 'lakehouse'; SET lakehouse.fault = 'archive-taken:kill:1';");
	is(scalar(split(/ /, hidden())), 1, "$mode: a crash leaves a hidden name");
	spew("$landing/in/$name", "900$number,new\n");
	call('s');
	is(clean_state("in/$name"), $mode eq 'move' ? 'moved' : 'deleted', "$mode: the loaded version goes");
	is(slurp_file("$landing/in/$name"), "900$number,new\n", "$mode: the one that came is there");
	is(hidden(), '', "$mode: nothing hidden is left");
	unlink("$landing/in/$name");
}
# a source that ignores no names takes none that a file has only for a moment
{
	make_path("$landing/all");
	sql("SELECT lakehouse.create_source('all', 'landing', 'bronze.t', path => 'all/*', format => 'csv',"
		  . " options => '{\"clean_source\": \"delete\", \"clean_source_retention\": \"0s\", \"ignore\": []}')");
	spew("$landing/all/.dot", "7001,h\n");
	sql("SELECT lakehouse.run_source('all')");
	call('all', "LOAD 'lakehouse'; SET lakehouse.fault = 'archive-taken:kill:1';");
	is(scalar(my @names = glob("$landing/all/.lakehouse*")), 1, 'a file has its hidden name');
	sql("SELECT lakehouse.run_source('all')");
	is(sql('SELECT count(*) FROM bronze.t WHERE id = 7001'), '1', 'under which it is not loaded again');
	call('all');
	is(join(' ', glob("$landing/all/.[a-z]*")), '', 'and it goes');
	sql("SELECT lakehouse.drop_source('all')");
}
# file systems that cannot rename without replacing: a link, then a removal
{
	my $name = bring();
	sql("SELECT lakehouse.run_source('s')");
	call('s', "LOAD 'lakehouse'; SET lakehouse.fault = 'archive-taken:kill:1';");
	link(hidden(), "$landing/in/$name") or die $!;
	call('s');
	ok(!-e "$landing/in/$name" && hidden() eq '', 'a file that had both names for a moment loses both');
	is(clean_state("in/$name"), 'deleted', 'as it should');
}
# dropped in the middle
{
	make_path("$landing/short", "$base/brief");
	sql(qq(SELECT lakehouse.create_source('short', 'landing', 'bronze.t', path => 'short/h*.csv', options => '{"clean_source": "move", "clean_source_retention": "0s", "clean_source_move_target": "$base/brief"}')));
	spew("$landing/short/h.csv", "7000,h\n");
	sql("SELECT lakehouse.run_source('short')");
	call('short', "LOAD 'lakehouse'; SET lakehouse.fault = 'archive-taken:kill:1';");
	ok(!-e "$landing/short/h.csv", 'a file has its hidden name');
	remove_tree("$base/brief");
	sql("SELECT lakehouse.drop_source('short')");
	is(slurp_file("$landing/short/h.csv"), "7000,h\n", 'and its own again when the source is dropped, though the target is gone');
	unlink("$landing/short/h.csv");
}

# ---- A2: a server that is dead touches nothing
{
	sql("SELECT lakehouse.alter_source('s', options => '$option{delete}')");
	my $name = bring();
	sql("SELECT lakehouse.run_source('s')");
	my $in = "LOAD 'lakehouse';\nSET lakehouse.fault = 'before-archive:stop:1';\nSELECT pg_backend_pid();\nCALL lakehouse.clean_source('s');\n";
	my ($out, $err) = ('', '');
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', '-' ], '<', \$in, '>', \$out, '2>', \$err);
	$session->pump until $out =~ /^(\d+)\n/;
	my $pid = $1;
	wait_until(sub { slurp_file("/proc/$pid/stat") =~ /^\d+ \(.*\) T/ }, 60) or fail('the session stops before it acts');
	kill_server($node);
	kill('CONT', $pid);
	$session->finish;
	wait_until(sub { !kill(0, $pid) }, 60) or fail('the session ends');
	ok(-e "$landing/in/$name", 'A2: without a postmaster the file stays');
	start_again($node);
	cleaned('s', '0 files moved, 1 deleted', 'A2: it goes when the server is there again');
}

# ---- A5: commits that were not waited for are durable before the file goes
{
	my $role = sql('SELECT current_user');
	sql("ALTER ROLE $role SET synchronous_commit = off");
	for my $round (1 .. 3)
	{
		my $name = bring();
		sql("SELECT lakehouse.run_source('s')");
		call('s');
		ok(!-e "$landing/in/$name", 'A5: the file is gone');
		$node->stop('immediate');
		$node->start;
		is(sql("SELECT count(*) FROM bronze.t WHERE id = $number"), '1', 'A5: and its row survives a crash');
		call('s');
		is(clean_state("in/$name"), 'deleted', 'A5: what was done is found out');
	}
	sql("ALTER ROLE $role RESET synchronous_commit");
}

# ---- B3: what cannot be done disturbs nothing and is tried again
sub fails_then_goes
{
	my ($mode, $sqlstate, $name, $break, $mend) = @_;
	sql("SELECT lakehouse.alter_source('s', options => '$option{$mode}')");
	my $file = bring();
	sql("SELECT lakehouse.run_source('s')");
	$break->();
	cleaned('s', '0 files moved, 0 deleted, 0 left, 0 waiting for other sources, 1 failed', "$name: it fails");
	like(sql("SELECT clean_sqlstate, clean_attempts, clean_time > now() - interval '1 minute' FROM lakehouse.file_status WHERE path = 'in/$file'"),
		qr/^$sqlstate\|1\|t$/, "$name: with its reason, to be tried again");
	is(slurp_file("$landing/in/$file"), "$number,w$number\n", "$name: the file stays where it is");
	is(sql("SELECT clean_failed_files FROM lakehouse.source_status WHERE name = 's'"), '1', "$name: the source counts it");
	my $more = -w "$landing/in";
	bring() if $more;
	is(sql("SELECT files FROM lakehouse.run_source('s')"), $more ? '1' : '0', "$name: files are loaded as ever");
	$mend->();
	cleaned('s', $mode ne 'delete' ? '2 files moved' : '0 files moved, ' . ($more ? 2 : 1) . ' deleted', "$name: then it goes");
	is(hidden(), '', "$name: nothing half done is left");
	return;
}
sub fault { my ($line) = @_; open(my $file, '>', "$control.new") or die $!; print $file "$line\n"; close($file); rename("$control.new", $control) or die $!; return }
SKIP:
{
	skip 'the superuser of the machine may write everywhere', 1 if $> == 0;
	fails_then_goes('delete', '42501', 'a directory that may not be written', sub { chmod(0555, "$landing/in") or die $! }, sub { chmod(0755, "$landing/in") or die $! });
	fails_then_goes('move', '42501', 'a target that may not be written', sub { chmod(0555, "$done/in") or die $! }, sub { chmod(0755, "$done/in") or die $! });
}
fails_then_goes('move', '\w{5}', 'a target that became a link',
	sub { rename("$done/in", "$base/in") or die $!; symlink("$base/in", "$done/in") or die $! },
	sub { unlink("$done/in") or die $!; rename("$base/in", "$done/in") or die $! });
# from now on the server's disk can be made to fail
$node->stop;
$ENV{FAULTY_IO} = $control;
$ENV{LD_PRELOAD} = $library;
$node->start;
delete $ENV{LD_PRELOAD};
fails_then_goes('move', '42501', 'a read-only file system', sub { fault("rename none $landing") }, sub { unlink($control) or die $! });
fails_then_goes('delete', '42501', 'the same, to delete from', sub { fault("rename none $landing") }, sub { unlink($control) or die $! });
if ($has_far)
{
	fails_then_goes('far', '53100', 'no space for a copy', sub { fault("write full $far") }, sub { unlink($control) or die $! });
	fails_then_goes('far', '58030', 'an error while a copy is written', sub { fault("write io $far") }, sub { unlink($control) or die $! });
	fails_then_goes('far', '58030', 'an error while the file is read', sub { fault("read io $far") }, sub { unlink($control) or die $! });
}

# ---- the right to do so, looked at each time
sql(<<"END");
CREATE ROLE keeper LOGIN;
SELECT lakehouse.grant_use('keeper');
GRANT USAGE ON FOREIGN SERVER landing TO keeper;
GRANT USAGE, CREATE ON SCHEMA bronze TO keeper;
CREATE TABLE bronze.kept (id int, word text);
ALTER TABLE bronze.kept OWNER TO keeper;
END
sub as_keeper { return $node->psql('postgres', "SET ROLE keeper;\n$_[0]") }
my (undef, undef, $err) = as_keeper("SELECT lakehouse.create_source('k', 'landing', 'bronze.kept', path => 'keep/*.csv', options => '$option{delete}')");
like($err, qr/permission denied to move or delete files/, 'who may not write files of the machine may not have them deleted');
sql('GRANT pg_write_server_files TO keeper');
make_path("$landing/keep");
(undef, undef, $err) = as_keeper("SELECT lakehouse.create_source('k', 'landing', 'bronze.kept', path => 'keep/*.csv', options => '$option{move}')");
like($err, qr/permission denied for directory "\Q$done\E"/, 'nor name a directory that no superuser allowed');
(undef, undef, $err) = as_keeper("SELECT lakehouse.create_source('k', 'landing', 'bronze.kept', path => 'keep/*.csv', options => '$option{delete}')");
is($err, '', 'who may, may');
spew("$landing/keep/a.csv", "1,a\n");
as_keeper("SELECT lakehouse.run_source('k')");
sql('REVOKE pg_write_server_files FROM keeper');
(undef, undef, $err) = as_keeper("CALL lakehouse.clean_source('k')");
like($err, qr/owner of source "k" may not move or delete files/, 'a right that is gone is missed at the next pass');
ok(-e "$landing/keep/a.csv", 'and the file stays');
spew("$landing/keep/b.csv", "2,a\n");
as_keeper("SELECT lakehouse.run_source('k')");
is(sql('SELECT count(*) FROM bronze.kept'), '2', 'files are loaded as ever');
(undef, undef, $err) = $node->psql('postgres', "SET ROLE stranger;\nCALL lakehouse.clean_source('k')");
like($err, qr/permission denied/, 'another role may not clean up');
sql("SELECT lakehouse.grant_use('stranger')");
(undef, undef, $err) = $node->psql('postgres', "SET ROLE stranger;\nCALL lakehouse.clean_source('k')");
like($err, qr/must be owner of source "k"/, 'not even one who may use the extension');
sql('GRANT pg_write_server_files TO keeper');
as_keeper("CALL lakehouse.clean_source('k')");
is(join(' ', glob("$landing/keep/*")), '', 'with the right again they go');
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'verify() finds nothing');
$node->stop;

# ---- by itself: a worker does it, also when nothing comes
$node = lakehouse_node('clean_worker', install_path => $path,
	conf => "lakehouse.batch_bytes = '64kB'\nlakehouse.max_record_size = '64kB'\n");
$base = realpath($node->basedir);
($landing, $done) = ("$base/landing", "$base/done");
make_path("$landing/in", $done);
sql(<<"END");
CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing');
CREATE SCHEMA bronze;
CREATE TABLE bronze.t (id int, word text);
SELECT lakehouse.create_source('s', 'landing', 'bronze.t', path => 'in/*.csv', trigger => 'continuous',
  options => '{"settle_ms": 0, "clean_source": "move", "clean_source_retention": "1 second", "clean_source_move_target": "$done"}');
END
bring() for 1 .. 250;
ok(poll_value($node, "SELECT count(*) FROM lakehouse.file_status WHERE clean_state = 'moved'", '250', 120), 'a worker moves files without being asked');
is(scalar(my @moved = glob("$done/in/*.csv")), 250, 'all of them');
is(sql('SELECT count(*), count(DISTINCT id) FROM bronze.t'), '250|250', 'and each was loaded once');

# a file that several workers load together goes when the last of them is done
sql(<<"END");
CREATE TABLE bronze.large (id int, word text);
SELECT lakehouse.create_source('large', 'landing', 'bronze.large', path => 'large/*.csv', trigger => 'continuous',
  options => '{"settle_ms": 0, "workers": 3, "clean_source": "delete", "clean_source_retention": "0s"}');
END
make_path("$landing/large");
spew("$landing/large/a.csv", join('', map { "$_,word $_\n" } 1 .. 60_000));
ok(poll_value($node, "SELECT clean_state FROM lakehouse.file_status WHERE source = 'large'", 'deleted', 120), 'a file that is loaded in parts is deleted');
is(sql('SELECT count(*), count(DISTINCT id), sum(id) FROM bronze.large'), '60000|60000|1800030000', 'with all its records loaded');
sql("SELECT lakehouse.drop_source('large')");

# an owner who cannot log in is told
sql("SELECT lakehouse.alter_source('s', trigger => 'available_now')");
sql("CREATE ROLE mute SUPERUSER NOLOGIN; ALTER TABLE bronze.t OWNER TO mute; SELECT lakehouse.alter_source('s', owner => 'mute')");
bring();
sql("SELECT lakehouse.run_source('s')");
ok(poll_value($node, "SELECT clean_error FROM lakehouse.source_status WHERE name = 's'", 'role "mute" is not permitted to log in'), 'why no worker comes is shown');
sql("ALTER ROLE mute LOGIN; SELECT lakehouse.resume_source('s')");
ok(poll_value($node, "SELECT count(*) FROM lakehouse.file_status WHERE clean_state = 'moved'", '251'), 'and one comes when it may, without a continuous source');

# what it needs is gone
sql("CREATE TABLE bronze.brief (id int, word text)");
make_path("$landing/brief");
sql(qq(SELECT lakehouse.create_source('brief', 'landing', 'bronze.brief', path => 'brief/*.csv', options => '{"clean_source": "delete", "clean_source_retention": "1 second"}')));
spew("$landing/brief/a.csv", "1,a\n");
sql("SELECT lakehouse.run_source('brief'); DROP TABLE bronze.brief");
ok(poll_value($node, "SELECT clean_error ~ 'target table does not exist' FROM lakehouse.source_status WHERE name = 'brief'", 't'), 'without its table a source cleans up nothing, and says so');
ok(-e "$landing/brief/a.csv", 'the file stays');
sql("SELECT lakehouse.drop_source('brief')");

# one path, delivered again and again while its versions are deleted
sql(<<"END");
SELECT lakehouse.alter_source('s', trigger => 'continuous',
  options => '{"settle_ms": 0, "on_change": "append_again", "clean_source": "delete", "clean_source_retention": "0s"}');
END
my $versions = 40;
for my $version (map { 100_000 + $_ } 1 .. $versions)
{
	spew("$landing/in/again.csv", "$version," . 'x' x int(rand(200)) . "\n");
	poll_value($node, "SELECT count(*) FROM bronze.t WHERE id = $version", '1') or last;
	usleep(int(rand(50_000)));
}
is(sql('SELECT count(*), count(DISTINCT id), max(id) FROM bronze.t WHERE id > 100000'), "$versions|$versions|" . (100_000 + $versions), 'no version is deleted that was not loaded');
ok(poll_value($node, "SELECT count(*) FROM lakehouse.file_clean WHERE due IS NOT NULL", '0'), 'all come to an end');
ok(!-e "$landing/in/again.csv", 'the last one is deleted');

# workers and servers killed at random moments: each file is at one place, whole,
# and each of its records is there once
sql(<<"END");
CREATE TABLE bronze.killed (id int, word text);
SELECT lakehouse.create_source('killed', 'landing', 'bronze.killed', path => 'killed/*.csv', trigger => 'continuous',
  options => '{"settle_ms": 0, "clean_source": "move", "clean_source_retention": "0s", "clean_source_move_target": "$done"}');
SELECT lakehouse.create_source('again', 'landing', 'bronze.killed', path => 'again/*.csv', trigger => 'continuous',
  options => '{"settle_ms": 0, "clean_source": "delete", "clean_source_retention": "0s"}');
END
make_path("$landing/killed", "$landing/again");
my ($files, $kills) = (0, 0);

sub first_line { my ($file) = @_; open(my $in, '<', $file) or return ''; return <$in> // '' }

# cleaner gives the process that cleans up, if there is one just now; a query
# would take longer than it lives
sub cleaner
{
	for my $process (glob('/proc/[0-9]*'))
	{
		my ($stat, $line) = map { first_line("$process/$_") } qw(stat cmdline);
		return $process =~ s{.*/}{}r if $line =~ /lakehouse clean-up/ && $stat =~ /^\d+ \(.*\) \w $node->{_pid} /;
	}
	return;
}
# on a busy machine many clean-ups are over before the kill
for my $round (1 .. 100)
{
	last if $kills == 8;
	for (1 .. 40)
	{
		$files++;
		spew("$landing/killed/k$files.csv", "$files,moved\n");
		spew("$landing/again/a$files.csv", "$files,deleted\n");
	}
	my $victim;
	wait_until(sub { $victim = cleaner() }, 20) or next;
	usleep(int(rand(30_000)));
	if ($round % 3 == 0)
	{
		kill_server($node);
		start_again($node);
		$kills++;
	}
	else
	{
		$kills++ if kill_process($node, $victim);
	}
}
cmp_ok($kills, '>=', 5, 'kills hit clean-ups');
ok(poll_value($node, "SELECT count(*) FILTER (WHERE clean_state = 'moved'), count(*) FILTER (WHERE clean_state = 'deleted') FROM lakehouse.file_status WHERE source IN ('killed', 'again')",
		"$files|$files", 180), "after $kills kills all come to an end");
is(join(' ', sort glob("$landing/killed/* $landing/killed/.lake* $landing/again/* $landing/again/.lake*")), '', 'no file is where it was');
is(join('', sort map { slurp_file($_) } glob("$done/killed/* $done/killed/.lake*")), join('', sort map { "$_,moved\n" } 1 .. $files), 'each is at its target once, whole');
is(sql("SELECT count(*) FROM bronze.killed b FULL JOIN (SELECT i, w FROM generate_series(1, $files) i, unnest('{moved,deleted}'::text[]) w) x ON b.id = x.i AND b.word = x.w WHERE b.id IS NULL OR x.i IS NULL")
	  . ' ' . sql('SELECT count(*) FROM bronze.killed'), '0 ' . 2 * $files, 'each record is there once');
is(join(' ', glob("$landing/in/.lakehouse*")), '', 'nothing hidden is left');
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'verify() finds nothing');
$node->stop;
done_testing();
