# Files that change after they were loaded, under each value of on_change; and
# what a person decides about one file: reingest, skip, undo. Contents are
# compared, and those of a flow that reads the table.
use strict;
use warnings;

use File::Path qw(make_path);
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep utime);

seed();
my $node = lakehouse_node('file_change', conf => "lakehouse.batch_bytes = '64kB'\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze; CREATE SCHEMA gold');

sub sql { return $node->safe_psql('postgres', $_[0]) }

my $tick = 1_000_000_000;

# spew writes a file with a time of its own
sub spew
{
	my ($path, $text, $mode) = @_;
	open(my $file, $mode // '>', "$landing/$path") or die "$path: $!";
	print $file $text;
	close($file) or die "$path: $!";
	$tick += 10;
	utime($tick, $tick, "$landing/$path");
	return;
}

sub make_source
{
	my ($name, $on_change, %option) = @_;
	my $trigger = $option{trigger} // 'available_now';
	make_path("$landing/$name");
	sql("CREATE TABLE bronze.$name (id int, word text);"
		  . "SELECT lakehouse.create_source('$name', 'landing', 'bronze.$name', path => '$name/*.csv',"
		  . " options => '{\"header\": true, \"settle_ms\": " . ($option{settle} // 0) . ", \"on_change\": \"$on_change\"}', trigger => '$trigger')");
	return;
}

sub run { return sql("SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('$_[0]')") }
sub words { return sql("SELECT string_agg(id || word, ' ' ORDER BY id, word) FROM bronze.$_[0]") }
sub states
{
	return sql("SELECT string_agg(format('%s %s %s', version, state, rows), ', ' ORDER BY path, version)"
		  . " FROM lakehouse.file_status WHERE source = '$_[0]'");
}
sub sound
{
	my ($name) = @_;
	is(sql("SELECT string_agg(format('%s %s', object, detail), E'\\n') FROM lakehouse.verify() WHERE NOT ok"), '', "$name: verify() finds nothing");
	return;
}

# ---- options
my ($status, $out, $err) = $node->psql('postgres', "CREATE TABLE bronze.x (id int); SELECT lakehouse.create_source('x', 'landing', 'bronze.x', path => '*.csv', options => '{\"on_change\": \"repalce\"}')");
like($err, qr/unrecognized value of option "on_change" "repalce".*Did you mean "replace"\?/s, 'a misspelt policy is refused with a guess');

# ---- ignore: seen, nothing more
make_source('ignored', 'ignore');
spew('ignored/a.csv', "id,word\n1,a\n2,b\n");
is(run('ignored'), '1|2|0|0', 'ignore: loaded');
spew('ignored/a.csv', "id,word\n1,x\n");
is(run('ignored'), '0|0|0|0', 'ignore: not loaded again');
is(states('ignored'), '1 changed 2', 'ignore: shown as changed');

# ---- error: the source stops and names the range
make_source('strict', 'error');
spew('strict/a.csv', "id,word\n1,a\n");
run('strict');
spew('strict/a.csv', "id,word\n1,aa\n");
spew('strict/b.csv', "id,word\n2,b\n");
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.run_source('strict')");
like($err, qr{file "strict/a.csv" changed after bytes 0 to 12 of it were loaded.*has 13 bytes now.*HINT}s, 'error: the source stops and names what was loaded');
sql("SELECT lakehouse.skip_file('strict', 'strict/a.csv')");
run('strict');
is(words('strict'), '1a 2b', 'error: it goes on when a person has decided to leave the file');
sql("SELECT lakehouse.reingest_file('strict', 'strict/a.csv')");
run('strict');
is(words('strict'), '1aa 2b', 'error: or to load it again');
sound('strict');

# ---- append_again: the whole file again, duplicates and all
make_source('again', 'append_again');
spew('again/a.csv', "id,word\n1,a\nx,bad\n");
run('again');
spew('again/a.csv', "id,word\n1,a\n2,b\n");
is(run('again'), '1|2|0|0', 'append_again: loaded as a whole');
is(words('again'), '1a 1a 2b', 'append_again: rows of both versions are there');
is(states('again'), '1 superseded 1, 2 loaded 2', 'append_again: the ledger has both versions');
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE source = 'again'"), '1', 'append_again: rejects of the first stay');
sound('again');
is(sql("SELECT lakehouse.undo_file('again', 'again/a.csv')"), '3', 'undo takes back all versions');
is(sql('SELECT count(*) FROM bronze.again'), '0', 'undo: no row is left');
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE source = 'again'"), '0', 'undo: nor a reject');
is(states('again'), '1 undone 1, 2 undone 2', 'undo: the ledger says so');
run('again');
spew('again/a.csv', "id,word\n7,g\n");
run('again');
is(sql('SELECT count(*) FROM bronze.again'), '0', 'undo: the file is not loaded again by itself, not even changed');
sql("SELECT lakehouse.reingest_file('again', 'again/a.csv')");
run('again');
is(words('again'), '7g', 'reingest_file brings it back as it is now');
sound('undone');

# ---- replace: in one transaction, with a flow of mode aggregate behind it
make_source('changing', 'replace');
sql("SELECT lakehouse.create_flow('counted', target => 'gold.counted', mode => 'aggregate',"
	  . " query => 'SELECT word, count(*) AS n, min(id) AS first FROM bronze.changing GROUP BY word')");
my $recomputed = 'SELECT word, count(*) AS n, min(id) AS first FROM bronze.changing GROUP BY word';
spew('changing/a.csv', "id,word\n" . join('', map { "$_,w" . ($_ % 7) . "\n" } 1 .. 20_000) . "x,bad\n");
spew('changing/b.csv', "id,word\n50000,w0\n");
run('changing');
sql("SELECT lakehouse.run_flow('counted')");
spew('changing/a.csv', "id,word\n" . join('', map { "$_,v" . ($_ % 5) . "\n" } 1 .. 20_000));
is(run('changing'), '1|20000|0|0', 'replace: the new version is loaded');
same_multiset($node, 'SELECT id, word FROM bronze.changing',
	q{SELECT i, 'v' || i % 5 FROM generate_series(1, 20000) i UNION ALL SELECT 50000, 'w0'}, 'replace: its rows are there, those of the old one are not');
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE source = 'changing'"), '0', 'replace: rejects of the old version are gone');
is(states('changing'), '1 replaced 20000, 2 loaded 20000, 1 loaded 1', 'replace: the ledger has both versions');
is(sql("SELECT count(*) FROM lakehouse.load_status WHERE source = 'changing' AND file = 'changing/a.csv' AND undone IS NULL AND rows > 0"), '1',
	'replace: in one load, though larger than a batch');
sql("SELECT lakehouse.run_flow('counted')");
same_multiset($node, 'SELECT word, n, first FROM gold.counted', $recomputed, 'replace: the groups of a flow follow');
is(sql("SELECT lakehouse.undo_file('changing', 'changing/b.csv')"), '1', 'undo: one row');
sql("SELECT lakehouse.run_flow('counted')");
same_multiset($node, 'SELECT word, n, first FROM gold.counted', $recomputed, 'undo: the groups of a flow follow');
is(sql("SELECT count(*) FROM gold.counted WHERE word = 'w0'"), '0', 'undo: the group is gone');
sound('replaced');

# a version that cannot be read leaves the old one in place
spew('changing/a.csv', "id,nothing\n1,a\n");
is(run('changing'), '0|0|0|1', 'replace: a version with another header fails');
is(sql('SELECT count(*) FROM bronze.changing'), '20000', 'replace: the rows of the old version stay');
spew('changing/a.csv', '');
run('changing');
is(sql('SELECT count(*) FROM bronze.changing'), '0', 'replace: an empty version takes all rows');
sql("SELECT lakehouse.run_flow('counted')");
is(sql('SELECT count(*) FROM gold.counted'), '0', 'replace: and the groups');
sound('emptied');

# ---- tail: what was added
make_source('tail', 'tail');
spew('tail/a.csv', "word,id\na,1\nb,2\n");
run('tail');
spew('tail/a.csv', "c,3\nd,4\n", '>>');
is(run('tail'), '1|2|0|0', 'tail: what was added is loaded');
is(words('tail'), '1a 2b 3c 4d', 'tail: under the header of the file');
is(states('tail'), '1 loaded 4', 'tail: as the same version');
utime(5, 5, "$landing/tail/a.csv");
is(run('tail'), '1|0|0|0', 'tail: a file that was only touched');
is(states('tail'), '1 loaded 4', 'tail: is what it was');
spew('tail/a.csv', join('', map { "w,$_\n" } 5 .. 30_000), '>>');
run('tail');
same_multiset($node, "SELECT id FROM bronze.tail", 'SELECT generate_series(1, 30000)', 'tail: a large addition, in parts');
spew("tail/a.csv", "e,9999999", ">>");
run('tail');
is(sql('SELECT count(*) FROM bronze.tail WHERE id = 9999999'), '1', 'tail: a last line without an end');
spew('tail/a.csv', "9\n", '>>');
run('tail');
is(sql("SELECT state, error FROM lakehouse.file_status WHERE source = 'tail'"),
	'changed|the file became longer, but its first ' . sql("SELECT position FROM lakehouse.file_status WHERE source = 'tail'") . ' bytes, which are loaded, did not end with a line',
	'tail: is not continued in the middle of a record');
spew('tail/b.csv', "word,id\na,1\n");
run('tail');
spew('tail/b.csv', "word,id\nb,1\nc,2\n");
run('tail');
is(sql("SELECT state FROM lakehouse.file_status WHERE path = 'tail/b.csv'"), 'changed', 'tail: a file that was written anew is changed');
spew('tail/c.csv', "word,id\na,1\n");
run('tail');
spew('tail/c.csv', "word,id\n");
run('tail');
is(sql("SELECT state FROM lakehouse.file_status WHERE path = 'tail/c.csv'"), 'changed', 'tail: so is one that became shorter');
system('sh', '-c', "printf 'word,id\\na,1\\n' | gzip >$landing/tail/d.csv");
run('tail');
system('sh', '-c', "printf 'b,2\\n' | gzip >>$landing/tail/d.csv");
run('tail');
is(sql("SELECT state, error FROM lakehouse.file_status WHERE path = 'tail/d.csv'"),
	'changed|the file became longer, but it is compressed and cannot be continued', 'tail: nor is a compressed file continued');
is(sql('SELECT count(*) FROM bronze.tail'), '30004', 'tail: nothing of those is loaded');
sound('tail');

# ---- tail by a worker: a log that grows
make_source('growing', 'tail', trigger => 'continuous', settle => 50);
open(my $log, '>', "$landing/growing/log.csv") or die $!;
$log->autoflush(1);
print $log "id,word\n";
for my $id (1 .. 300)
{
	print $log "$id,";
	usleep(3_000);
	print $log "w$id\n";
	usleep(150_000) if $id % 60 == 0;
}
close($log);
ok(poll_value($node, 'SELECT count(*) FROM bronze.growing', '300'), 'tail: a growing file is followed');
same_multiset($node, 'SELECT id, word FROM bronze.growing', q{SELECT i, 'w' || i FROM generate_series(1, 300) i}, 'tail: each record once and whole');
sql("SELECT lakehouse.drop_source('growing')");

# ---- the same size and time: a listing cannot see it, the hash can
make_source('sly', 'replace');
spew('sly/a.csv', "id,word\n1,a\n");
spew('sly/b.csv', "id,word\n2,b\n");
run('sly');
open(my $file, '+<', "$landing/sly/a.csv") or die $!;
seek($file, 10, 0);
print $file 'z';
close($file);
utime($tick - 10, $tick - 10, "$landing/sly/a.csv");
is(run('sly'), '0|0|0|0', 'a rewrite of the same size and time is not seen by a listing');
is(sql("SELECT string_agg(path || ' ' || ok, ', ' ORDER BY path) FROM lakehouse.verify_files('sly')"), 'sly/a.csv false, sly/b.csv true', 'but by verify_files');
unlink("$landing/sly/b.csv");
is(sql("SELECT ok IS NULL FROM lakehouse.verify_files('sly') WHERE path = 'sly/b.csv'"), 't', 'a file that is gone is no difference');
sql("SELECT lakehouse.reingest_file('sly', 'sly/a.csv')");
run('sly');
is(words('sly'), '1z 2b', 'reingest_file loads it');
is(sql("SELECT bool_and(ok) FROM lakehouse.verify_files('sly')"), 't', 'and all is well');

# ---- skip: before and after the file was seen
make_source('picky', 'ignore');
spew('picky/a.csv', "id,word\n1,a\n");
($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.skip_file('picky', 'picky/a.csv')");
like($err, qr/has not seen a file "picky\/a.csv" yet/, 'skip: a path that was not seen is told');
is(run('picky'), '0|0|0|0', 'skip: and skipped when it is there');
sql("SELECT lakehouse.reingest_file('picky', 'picky/a.csv')");
is(run('picky'), '1|1|0|0', 'reingest: until a person says otherwise');

# ---- many known files: those that changed, came, or came back are still seen
make_source('many', 'replace');
spew("many/f$_.csv", "id,word\n$_,a\n") for 1 .. 3000;
is(run('many'), '3000|3000|0|0', 'many: loaded');
sql('ANALYZE lakehouse.file');
is(run('many'), '0|0|0|0', 'many: nothing is new');
spew("many/f$_.csv", "id,word\n$_,bb\n") for 7, 1500, 2999;
spew('many/g.csv', "id,word\n3001,a\n");
is(run('many'), '4|4|0|0', 'many: what changed and what is new is loaded');
is(sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM bronze.many WHERE word = 'bb'"), '7 1500 2999', 'many: and nothing else');
sql("SELECT lakehouse.alter_source('many', trigger => 'continuous')");
$node->append_conf('postgresql.conf', "lakehouse.poll_interval = '20ms'");
$node->reload;
spew('many/h.csv', "id,word\n3002,a\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.many WHERE id = 3002', '1'), 'many: by a worker too');
usleep(300_000);
spew('many/f9.csv', "id,word\n9,bb\n");
ok(poll_value($node, "SELECT word FROM bronze.many WHERE id = 9", 'bb'), 'many: which sees what changes');
is(sql('SELECT count(*), count(DISTINCT id) FROM bronze.many'), '3002|3002', 'many: each once');
sql("SELECT lakehouse.drop_source('many')");

# ---- messages and rights
for my $case (
	[ "reingest_file('picky', 'nothing.csv')", '42704' ], [ "undo_file('picky', 'nothing.csv')", '42704' ],
	[ "undo_file('nothing', 'a')", '42704' ], [ "skip_file('picky', '../a')", '22023' ],
	[ "undo_file('picky', NULL)", '22004' ], [ "verify_files('nothing')", '42704' ])
{
	my ($call, $sqlstate) = @$case;
	(undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT * FROM lakehouse.$call");
	like($err, qr/ERROR:  $sqlstate:/, "$call raises $sqlstate");
}
sql("CREATE ROLE evil; SELECT lakehouse.grant_use('evil')");
for my $call ("reingest_file('picky', 'picky/a.csv')", "skip_file('picky', 'picky/a.csv')", "undo_file('picky', 'picky/a.csv')", "verify_files('picky')")
{
	(undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET ROLE evil; SELECT * FROM lakehouse.$call");
	like($err, qr/ERROR:  42501: must be owner of source "picky"/, "$call is the owner's");
}
is(words('picky'), '1a', 'and changed nothing');

$node->stop;
done_testing();
