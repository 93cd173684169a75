# Files that cannot be loaded: how often they are tried, and when they stop their
# source; who decided what about a file; what source_status counts; how far a
# running load is, compressed or not; facts about the file in each row, however a
# file is cut and packed.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = lakehouse_node('failures');
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub refused
{
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $status == 0 ? "worked: $out" : $err;
}

# put brings a file; mtime in seconds
sub put
{
	my ($name, $content, $mtime) = @_;
	open(my $file, '>:raw', "$landing.tmp/$name") or die "$name: $!";
	print $file $content;
	close($file) or die "$name: $!";
	utime($mtime, $mtime, "$landing.tmp/$name") if $mtime;
	land($landing, $name);
	return;
}

sub status
{
	my ($source, $path) = @_;
	return sql("SELECT state, attempts, coalesce(retry_at = 'infinity', false), sqlstate FROM lakehouse.file_status "
		  . "WHERE source = '$source' AND path = 'in/$path' AND ended IS NULL");
}

sql(<<'END');
CREATE TABLE t (id int, v text);
SELECT lakehouse.create_source('t', server => 'landing', target => 't', path => 'in/t*.csv',
  options => '{"header": true, "max_attempts": 2}');
END

# ---------------------------------------------------------- max_attempts
put('t1.csv', "id,v\n1,a\n", 1_000_000);
put('t2.csv', "id,nosuch\n2,b\n", 2_000_000);
put('t3.csv', "id,v\n3,c\n", 3_000_000);
is(sql("SELECT files, rows, failed_files FROM lakehouse.run_source('t')"), '2|2|1', 'a file that cannot be loaded leaves the others alone');
is(status('t', 't2.csv'), 'failed|1|f|42703', 'it is to be tried again');
is(sql("SELECT files, failed_files FROM lakehouse.run_source('t')"), '0|1', 'and is');
is(status('t', 't2.csv'), 'failed|2|t|42703', 'until it was tried so often');
is(sql("SELECT files, failed_files FROM lakehouse.run_source('t')"), '0|0', 'then it is left alone by sessions');
sql("SELECT lakehouse.alter_source('t', trigger => 'continuous')");
# its worker may have done so already
like(status('t', 't2.csv'), qr/^failed\|[01]\|f\|42703$/, 'a change of the source lets it be tried again');
ok(poll_value($node, q{SELECT attempts, retry_at = 'infinity' FROM lakehouse.file_status WHERE path = 'in/t2.csv'}, '2|t'),
	'by a worker as often');
put('t4.csv', "id,v\n4,d\n");
ok(poll_value($node, 'SELECT count(*) FROM t WHERE id = 4', '1'), 'which goes on with the others');
is(status('t', 't2.csv'), 'failed|2|t|42703', 'and leaves it alone');
put('t2.csv', "id,v\n2,b\n");
ok(poll_value($node, 'SELECT count(*) FROM t WHERE id = 2', '1'), 'until it is another file');
sql("SELECT lakehouse.alter_source('t', trigger => 'available_now')");
like(refused(q{SELECT lakehouse.alter_source('t', options => '{"max_attempts": 0}')}), qr/22023.*max_attempts.*from 1/s, 'no number of attempts');

for my $case ([ 'max_atempts', 'max_attempts' ], [ 'cleen_source', 'clean_source' ], [ 'headr', 'header' ], [ 'onChange2', 'on_change' ])
{
	like(refused("SELECT lakehouse.alter_source('t', options => '{\"$case->[0]\": 1}')"), qr/22023.*unrecognized CSV option.*Did you mean "$case->[1]"/s,
		"$case->[0]: the option that was meant is named, whoever reads it");
}

# --------------------------------------------------------- on_file_error
sql(<<'END');
CREATE TABLE e (id int, v text);
SELECT lakehouse.create_source('e', server => 'landing', target => 'e', path => 'in/e*.csv',
  options => '{"header": true, "on_file_error": "error"}');
END
put('e1.csv', "id,v\n1,a\n", 1_000_000);
put('e2.csv', "id,nosuch\n2,b\n", 2_000_000);
put('e3.csv', "id,v\n3,c\n", 3_000_000);
like(refused(q{SELECT lakehouse.run_source('e')}), qr/42703: +file "in\/e2\.csv" cannot be loaded: .*"nosuch".*HINT: .*ignore_extra_columns/s,
	'a file that cannot be loaded stops the source, where that is asked for');
is(sql('SELECT count(*) FROM e'), '0', 'a session gets nothing');
sql("SELECT lakehouse.alter_source('e', trigger => 'continuous')");
ok(poll_value($node, q{SELECT state, sqlstate FROM lakehouse.source_status WHERE name = 'e'}, 'failing|42703'), 'a worker fails');
like(sql(q{SELECT reason FROM lakehouse.source_status WHERE name = 'e'}), qr/^file "in\/e2\.csv" cannot be loaded/, 'and says why');
is(sql("SELECT string_agg(id::text, ',') FROM e"), '1', 'what came before the file is loaded, what comes behind it is not');
sql(q{SELECT lakehouse.skip_file('e', 'in/e2.csv'); SELECT lakehouse.resume_source('e')});
ok(poll_value($node, "SELECT string_agg(id::text, ',' ORDER BY id) FROM e", '1,3'), 'it goes on when somebody has decided');
sql("SELECT lakehouse.alter_source('e', trigger => 'available_now')");
like(refused(q{SELECT lakehouse.alter_source('e', options => '{"on_file_error": "eror"}')}), qr/22023.*Did you mean "error"/s, 'another word is refused');

# ------------------------------------------- counts and events of one file
sql(<<'END');
CREATE TABLE c (id int, v text);
SELECT lakehouse.create_source('c', server => 'landing', target => 'c', path => 'in/c*.csv',
  options => '{"header": true, "on_change": "replace"}');
END
put('c1.csv', "id,v\n1,a\nx,b\n2,c\n", 1_000_000);
put('c2.csv', "id,v\n1,a\n");
sql("SELECT lakehouse.run_source('c')");
my $counts = q{SELECT rows, rejected FROM lakehouse.source_status WHERE name = 'c'};
is(sql($counts), '3|1', 'source_status counts rows and rejects');
put('c1.csv', "id,v\n5,a\ny,b\nz,b\n", 2_000_000);
sql("SELECT lakehouse.run_source('c')");
is(sql($counts), '2|2', 'without those of a version that was replaced');
is(sql("SELECT lakehouse.undo_file('c', 'in/c1.csv')"), '1', 'a file is undone');
is(sql($counts), '1|0', 'and counts no more');
sql("SELECT lakehouse.reingest_file('c', 'in/c1.csv'); SELECT lakehouse.run_source('c')");
is(sql($counts), '2|2', 'until it is loaded again');
sql("CREATE ROLE other; SELECT lakehouse.grant_use('other'); SET client_min_messages = error; SELECT lakehouse.skip_file('c', 'in/later.csv')");
is(sql("SELECT path, action, rows, role = current_user::regrole FROM lakehouse.file_event WHERE source = 'c' ORDER BY event_id"),
	"in/c1.csv|undo|1|t\nin/c1.csv|reingest||t\nin/later.csv|skip||t", 'who decided what is kept');
is(sql('SET ROLE other; SELECT count(*) FROM lakehouse.file_event'), '0', 'and shown to those who may see the source');
is(sql(q{SELECT "numFilesOutstanding", "numBytesOutstanding", "numInputRows" FROM lakehouse.stream_progress WHERE name = 'c'}), '0|0|3',
	'stream_progress tells what waits and what the last load read');
is(sql('SET ROLE other; SELECT count(*) FROM lakehouse.stream_progress'), '0', 'to the same roles');

# -------------------------------------------------------------- progress
sql(<<'END');
CREATE TABLE p (id int, v text, file text, name text, size bigint, mtime timestamptz, line bigint, at bigint, loaded timestamptz, source text);
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id = 39000 THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); END IF;
  RETURN NEW;
END $$;
SELECT lakehouse.create_source('p', server => 'landing', target => 'p', path => 'in/p*.csv',
  options => '{"header": true, "metadata": {"file": "file_path", "name": "file_name", "size": "file_size", "mtime": "file_mtime",
               "line": "line", "at": "byte_offset", "loaded": "load_time", "source": "source"}}');
END
my $csv = "id,v\n" . join('', map { sprintf("%d,\"%d\n%s\"\n", $_, $_, join('', map { chr(97 + rand(26)) } 1 .. 20)) } 1 .. 40_000);
my $scratch = PostgreSQL::Test::Utils::tempdir();
open(my $plain, '>:raw', "$scratch/plain") or die $!;
print $plain $csv;
close($plain);
system("gzip -nc '$scratch/plain' >'$scratch/gzip' && zstd -qc '$scratch/plain' >'$scratch/zstd'") == 0 or die;
for my $kind (qw(plain gzip zstd))
{
	put("p_$kind.csv", slurp_file("$scratch/$kind"), 1_700_000_000);
	my $size = -s "$landing/in/p_$kind.csv";
	my $locker = $node->background_psql('postgres');
	$locker->query_safe('SELECT pg_advisory_lock(1)');
	sql('CREATE TRIGGER hold BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION hold()');
	my $pid;
	my $session = LakehouseTest::start_session($node, "SET lakehouse.batch_rows = 30000; SELECT lakehouse.run_source('p')", \$pid);
	poll_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1') or fail("$kind: the load waits");
	is(sql('SELECT count(*) FROM lakehouse.load_progress'), '1', "$kind: a running load is shown");
	is(sql(<<"END"), 't|t|t|t|t|t', "$kind: with bytes of the file, rows, and the time left");
SELECT size = $size, pid = $pid, position BETWEEN size / 2 AND size, rows >= 0,
       bytes_per_second > 0, time_left IS NOT NULL
  FROM lakehouse.load_progress
END
	$locker->query_safe('SELECT pg_advisory_unlock(1)');
	$locker->quit;
	$session->finish;
	sql('DROP TRIGGER hold ON p');
	is(sql('SELECT count(*) FROM lakehouse.load_progress'), '0', "$kind: no longer than it runs");
	my $offset = 5;
	my $expected = join("\n", map { my $line = 2 * $_; my $at = $offset; $offset += length("$_,\"$_\n") + 22; "$_|$line|$at" } 1 .. 40_000);
	ok(sql("SELECT id, line, at FROM p WHERE name = 'p_$kind.csv' ORDER BY id") eq $expected, "$kind: each row has its line and byte");
	is(sql("SELECT DISTINCT file, size, extract(epoch FROM mtime)::bigint, source FROM p WHERE name = 'p_$kind.csv'"),
		"in/p_$kind.csv|$size|1700000000|p", "$kind: and the facts of its file");
	is(sql("SELECT count(DISTINCT loaded) = count(DISTINCT _load_id) AND bool_and(loaded BETWEEN l.started AND l.finished), count(DISTINCT _load_id) > 1 FROM p JOIN lakehouse.load l ON l.load_id = _load_id WHERE name = 'p_$kind.csv'"),
		$kind eq 'plain' ? 't|t' : 't|f', "$kind: and the time of its load");
}
is(sql('SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'verify() finds nothing');
$node->stop;
done_testing();
