# Files as they come in life: in any order, half written, changed, forbidden,
# replaced by links, too large for one transaction, in a directory that goes
# away. What arrived is compared with what was written.
use strict;
use warnings;

use File::Path qw(make_path);
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(mkfifo);
use Test::More;
use Time::HiRes qw(usleep utime);

seed();
my $node = lakehouse_node('files');
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub spew
{
	my ($path, $text) = @_;
	open(my $file, '>', "$landing/$path") or die "$path: $!";
	print $file $text;
	close($file) or die "$path: $!";
	return;
}

# make_source makes a directory, a table and a source of one name.
sub make_source
{
	my ($name, $columns, %option) = @_;
	make_path("$landing/$name");
	sql("CREATE TABLE bronze.$name ($columns)");
	my $trigger = $option{trigger} // 'available_now';
	my $options = $option{options} // '{"header": true}';
	sql("SELECT lakehouse.create_source('$name', 'landing', 'bronze.$name', path => '$name/*.csv',"
		  . " options => '$options', trigger => '$trigger')");
	return;
}

sub file_state
{
	my ($source, $columns) = @_;
	return sql("SELECT $columns FROM lakehouse.file_status WHERE source = '$source' ORDER BY path");
}

# ---- order: by modification time, then by path
make_source('sorted', 'id int PRIMARY KEY, origin text');
spew('sorted/a.csv', "id,origin\n1,a\n");
spew('sorted/z.csv', "id,origin\n1,z\n2,z\n");
spew('sorted/m.csv', "id,origin\n2,m\n");
utime(2000, 2000, "$landing/sorted/a.csv");
utime(1000, 1000, "$landing/sorted/z.csv", "$landing/sorted/m.csv");
sql("SELECT lakehouse.run_source('sorted')");
is(sql("SELECT string_agg(file, ' ' ORDER BY load_id) FROM lakehouse.load_status WHERE source = 'sorted'"),
	'sorted/m.csv sorted/z.csv sorted/a.csv', 'files are loaded in the order of time, then of path');
is(sql("SELECT string_agg(id || origin, ' ' ORDER BY id) FROM bronze.sorted"), '1z 2m', 'so the first one wins a key');
is(sql("SELECT string_agg(file || ' ' || line, ', ' ORDER BY file) FROM lakehouse.reject_status WHERE source = 'sorted'"),
	'sorted/a.csv 2, sorted/z.csv 3', 'and the others are rejects');

# ---- a FIFO hangs nobody; a cancelled run leaves nothing behind
make_source('big', 'id int, word text');
mkfifo("$landing/big/pipe.csv", 0644) or die $!;
my ($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '10s'; SELECT lakehouse.run_source('big')");
is($status, 0, 'a FIFO is passed over');
is(file_state('big', 'path, state, sqlstate'), 'big/pipe.csv|skipped|42809', 'and shown');
spew('big/n.csv', "id,word\n" . join('', map { "$_,word-$_\n" } 1 .. 400_000));
($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '30ms'; SELECT lakehouse.run_source('big')");
like($err, qr/statement timeout/, 'a run can be cancelled in the middle');
is(sql('SELECT count(*) FROM bronze.big'), '0', 'a cancelled run stores no row');
is(file_state('big', 'state'), 'skipped', 'and enters no file');

# ---- in parts, by a background worker, each part a transaction
$node->append_conf('postgresql.conf', "lakehouse.batch_bytes = '256kB'");
$node->reload;
sql("SELECT lakehouse.alter_source('big', trigger => 'continuous', options => '{\"header\": true, \"settle_ms\": 100}')");
ok(poll_value($node, "SELECT state FROM lakehouse.file_status WHERE path = 'big/n.csv'", 'loaded'), 'a large file is loaded by a worker');
same_multiset($node, 'SELECT id, word FROM bronze.big', q{SELECT i, 'word-' || i FROM generate_series(1, 400000) i}, 'to the last record, each once');
cmp_ok(sql("SELECT count(*) FROM lakehouse.load_status WHERE source = 'big'"), '>', 10, 'in many loads');
cmp_ok(sql('SELECT count(DISTINCT xmin::text) FROM lakehouse.load WHERE rows > 0 AND relation = \'bronze.big\'::regclass'), '>', 10, 'and transactions');
check_loads($node, 'big', 'bronze.big');

# ---- a file that changes while a part of it is loaded: small parts leave time for it
$node->append_conf('postgresql.conf', "lakehouse.batch_bytes = '64kB'");
$node->reload;
make_source('torn', 'id int, word text', trigger => 'continuous', options => '{"header": true, "settle_ms": 100}');
sql("SELECT lakehouse.pause_source('torn')");
spew('torn/n.csv', "id,word\n" . join('', map { "$_,word-$_\n" } 1 .. 1_000_000));
sql("SELECT lakehouse.resume_source('torn')");
ok(poll_value($node, q{SELECT state = 'loading' AND rows > 0 FROM lakehouse.file_status WHERE path = 'torn/n.csv'}, 't'), 'a part is loaded');
sql("SELECT lakehouse.pause_source('torn')");
is(file_state('torn', 'state'), 'loading', 'paused in the middle');
my $loaded = sql('SELECT count(*) FROM bronze.torn');
open(my $append, '>>', "$landing/torn/n.csv") or die $!;
print $append "1000001,late\n";
close($append);
sql("SELECT lakehouse.resume_source('torn')");
ok(poll_value($node, q{SELECT state FROM lakehouse.file_status WHERE path = 'torn/n.csv'}, 'changed'), 'a file that changed meanwhile is shown as changed');
is(sql('SELECT count(*) FROM bronze.torn'), $loaded, 'and nothing more of it is loaded');
is(sql("SELECT rows FROM lakehouse.file_status WHERE path = 'torn/n.csv'"), $loaded, 'its entry says what was');
sql("SELECT lakehouse.drop_source('torn')");

# ---- half written: left alone until it rests
# (a busy machine may keep the writer waiting for longer than the default rest)
make_source('slow', 'id int, word text', trigger => 'continuous', options => '{"header": true, "settle_ms": 4000}');
open(my $slow, '>', "$landing/slow/s.csv") or die $!;
$slow->autoflush(1);
print $slow "id,word\n";
my $early = 0;
for my $id (1 .. 60)
{
	print $slow "$id,word";
	usleep(15_000);
	print $slow "-$id\n";
	usleep(15_000);
	$early += sql('SELECT count(*) FROM bronze.slow') if $id % 10 == 0;
}
close($slow);
is($early, 0, 'a file that is being written is left alone');
ok(poll_value($node, 'SELECT count(*) FROM bronze.slow', '60'), 'and loaded when it rests');
same_multiset($node, 'SELECT id, word FROM bronze.slow', q{SELECT i, 'word-' || i FROM generate_series(1, 60) i}, 'with whole records');
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE source = 'slow'"), '0', 'and no half ones');

# ---- changed after it was loaded
open($slow, '>>', "$landing/slow/s.csv") or die $!;
print $slow "61,late\n";
close($slow);
ok(poll_value($node, "SELECT state FROM lakehouse.file_status WHERE source = 'slow'", 'changed'), 'a file that grows after it was loaded is shown');
spew('slow/t.csv', "id,word\n100,next\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.slow', '61'), 'the others go on');
is(sql('SELECT count(*) FROM bronze.slow WHERE id = 61'), '0', 'nothing of it is loaded again');

# ---- forbidden: tried again with back-off, the others go on
SKIP:
{
	skip 'the superuser of the machine may read everything', 4 if $> == 0;
	spew('slow/u.csv', "id,word\n200,secret\n");
	chmod(0000, "$landing/slow/u.csv");
	utime(1000, 1000, "$landing/slow/u.csv");
	spew('slow/v.csv', "id,word\n201,open\n");
	ok(poll_value($node, 'SELECT count(*) FROM bronze.slow WHERE id = 201', '1'), 'a forbidden file stops no other');
	ok(poll_value($node, "SELECT attempts >= 2 AND retry_at IS NOT NULL FROM lakehouse.file_status WHERE path = 'slow/u.csv'", 't'), 'it is tried again');
	is(sql("SELECT state, sqlstate FROM lakehouse.file_status WHERE path = 'slow/u.csv'"), 'failed|42501', 'and shown with its reason');
	chmod(0644, "$landing/slow/u.csv");
	ok(poll_value($node, 'SELECT count(*) FROM bronze.slow WHERE id = 200', '1'), 'and loaded when it may be read, by itself');
}

# ---- a file that becomes a link and back, again and again
make_source('flip', 'id int, word text', trigger => 'continuous', options => '{"header": true, "settle_ms": 0}');
spew('secret.txt', "id,word\n666,secret\n");
for my $flip (1 .. 1500)
{
	my $name = "$landing/flip/f" . ($flip % 50) . '.csv';
	symlink("$landing/secret.txt", "$landing.tmp/link");
	rename("$landing.tmp/link", $name);
	open(my $file, '>', "$landing.tmp/file") or die $!;
	print $file "id,word\n$flip,good\n";
	close($file);
	rename("$landing.tmp/file", $name);
	usleep(1000) if $flip % 20 == 0;
}
ok(poll_value($node, "SELECT count(*) > 0 AND bool_and(state IN ('loaded', 'changed')) FROM lakehouse.file_status WHERE source = 'flip'", 't'), 'files that were links for a moment are taken up');
is(sql('SELECT count(*) FROM bronze.flip WHERE id = 666'), '0', 'and no link was ever followed');
cmp_ok(sql('SELECT count(*) FROM bronze.flip'), '>=', 50, 'while the files were loaded');
is(sql("SELECT count(*) FROM (SELECT file, count(*) FROM lakehouse.load_status WHERE source = 'flip' AND rows > 0 GROUP BY file HAVING count(*) > 1) x"),
	'0', 'no path twice');

# ---- the directory goes away and comes back
rename($landing, "$landing.away") or die $!;
ok(poll_value($node, "SELECT state, sqlstate FROM lakehouse.source_status WHERE name = 'slow'", 'failing|58P01'), 'a directory that is gone is shown');
rename("$landing.away", $landing) or die $!;
spew('slow/w.csv', "id,word\n300,back\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.slow WHERE id = 300', '1'), 'the source goes on by itself when it is back');
ok(poll_value($node, "SELECT state FROM lakehouse.source_status WHERE name = 'slow'", 'idle'), 'and says so');
is(sql('SELECT count(*) FROM bronze.slow WHERE id <= 60'), '60', 'nothing is loaded twice');
check_loads($node, 'slow', 'bronze.slow');

# ---- a file is noticed when it arrives, not when the next listing is due
make_source('prompt', 'id int', trigger => 'continuous', options => '{"header": true, "settle_ms": 0}');
make_path("$landing/prompt/x");
sql("SELECT lakehouse.alter_source('prompt', path => 'prompt/**/*.csv')");
$node->append_conf('postgresql.conf', "lakehouse.poll_interval = '1h'");
$node->reload;
for my $round (1 .. 5)
{
	spew("secret.txt", "id\n$round\n");
	rename("$landing/secret.txt", "$landing/prompt/x/p$round.csv") or die $!;
	ok(poll_value($node, "SELECT count(*) FROM bronze.prompt WHERE id = $round", '1', 20), "arrival $round is noticed");
}
make_path("$landing/prompt/y");
spew('prompt/y/q.csv', "id\n6\n");
ok(poll_value($node, 'SELECT count(*) FROM bronze.prompt WHERE id = 6', '1', 20), 'in a new directory too');

$node->stop;
done_testing();
