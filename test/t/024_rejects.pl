# Bad records: what the modes and limits of a source make of them, and how kept
# ones come back after a fix, exactly once. What arrived is compared with what
# was written.
use strict;
use warnings;

use File::Path qw(make_path);
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = lakehouse_node('rejects');
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze');

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub spew
{
	my ($path, $text) = @_;
	open(my $file, '>', "$landing/$path.tmp") or die "$path: $!";
	print $file $text;
	close($file) or die "$path: $!";
	rename("$landing/$path.tmp", "$landing/$path") or die "$path: $!";
	return;
}

# make_source makes a directory, a table and a source of one name.
sub make_source
{
	my ($name, $columns, $options, %option) = @_;
	my $end = $option{end} // 'csv';
	make_path("$landing/$name");
	sql("CREATE TABLE bronze.$name ($columns)");
	sql("SELECT lakehouse.create_source('$name', 'landing', 'bronze.$name', path => '$name/*.$end',"
		  . " options => '$options', trigger => '" . ($option{trigger} // 'available_now') . "')");
	return;
}

sub run { return sql("SELECT files, rows, rejected, failed_files FROM lakehouse.run_source('$_[0]')") }

sub file_state
{
	my ($source, $columns) = @_;
	return sql("SELECT $columns FROM lakehouse.file_status WHERE source = '$source' ORDER BY path");
}

sub rejects
{
	my ($source) = @_;
	return sql("SELECT string_agg(concat_ws(' ', line, state, sqlstate, convert_from(raw, 'UTF8')), ', ' ORDER BY reject_id)"
		  . " FROM lakehouse.reject_status WHERE source = '$source'");
}

sub verified
{
	my ($name) = @_;
	is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', "$name: ledger, loads, rows and rejects agree");
	return;
}

my $three_bad = "id,word\n1,a\nx,b\n3,c\ny,d\n5,e\nz,f\n";

# ---- modes
make_source('permissive', 'id int, word text', '{"header": true, "mode": "PERMISSIVE"}');
spew('permissive/a.csv', $three_bad);
is(run('permissive'), '1|3|3|0', 'permissive: good records are stored');
is(rejects('permissive'), '3 open 22P02 x,b, 5 open 22P02 y,d, 7 open 22P02 z,f', 'bad ones are open rejects');

make_source('dropping', 'id int, word text', '{"header": true, "mode": "dropmalformed"}');
spew('dropping/a.csv', $three_bad);
is(run('dropping'), '1|3|3|0', 'dropmalformed: bad records are counted');
is(rejects('dropping'), '3 dropped 22P02 x,b, 5 dropped 22P02 y,d, 7 dropped 22P02 z,f', 'and kept');

make_source('fast', 'id int, word text', '{"header": true, "mode": "failfast"}');
spew('fast/a.csv', $three_bad);
spew('fast/b.csv', "id,word\n8,good\n");
is(run('fast'), '1|1|0|1', 'failfast: a file with a bad record fails, the other is loaded');
is(sql('SELECT string_agg(id || word, $$ $$) FROM bronze.fast'), '8good', 'nothing of the failed file is stored');
is(rejects('fast'), '', 'nor are its rejects');
is(file_state('fast', "path, state, sqlstate, split_part(error, ' (', 1), rows, rejected"),
	"fast/a.csv|failed|22P02|file \"fast/a.csv\", line 3: invalid input syntax for type integer: \"x\"|0|0\nfast/b.csv|loaded|||1|0",
	'the error names file, line and reason');
sql('ALTER TABLE bronze.fast ALTER id TYPE text');
is(run('fast'), '1|6|0|0', 'after a fix of the table the file is loaded');

# a record that the table refuses, found in a subtransaction
make_source('refusing', 'id int PRIMARY KEY, word text CHECK (word <> $$no$$)', '{"header": true, "mode": "failfast"}');
spew('refusing/a.csv', "id,word\n1,a\n2,no\n3,c\n");
is(run('refusing'), '0|0|0|1', 'failfast holds for what the table refuses');
like(file_state('refusing', 'sqlstate, error'), qr/^23514\|file "refusing\/a\.csv", line 3: new row for relation "refusing" violates check/, 'with line and reason');
is(sql('SELECT count(*) FROM bronze.refusing'), '0', 'and stores nothing');
verified('modes');

# ---- limits
make_source('limited', 'id int, word text', '{"header": true, "max_rejects": 2}');
spew('limited/a.csv', $three_bad);
spew('limited/b.csv', "id,word\n1,a\nx,b\ny,c\n");
is(run('limited'), '1|1|2|1', 'max_rejects: as many are taken, one more fails the file');
is(file_state('limited', 'path, state, sqlstate, rows, rejected'), "limited/a.csv|failed|22P04|0|0\nlimited/b.csv|loaded||1|2", 'the file is set aside');
like(file_state('limited', 'error'), qr/^file "limited\/a\.csv" has more than 2 bad records; the first, in line 3: /, 'with its reason');
is(rejects('limited'), '3 open 22P02 x,b, 4 open 22P02 y,c', 'and leaves no rejects');

make_source('ratio', 'id int, word text', '{"header": true, "max_reject_ratio": 0.5}');
spew('ratio/a.csv', $three_bad);
spew('ratio/b.csv', $three_bad . "w,w\n");
is(run('ratio'), '1|3|3|1', 'max_reject_ratio: half may be bad, more may not');
like(file_state('ratio', 'error'), qr/file "ratio\/b\.csv" has 4 bad records of 7, more than the ratio of 0\.5 allows/, 'the numbers are told');

# a file with a limit is one load, whatever the limits of a batch are
$node->append_conf('postgresql.conf', "lakehouse.batch_bytes = '64kB'\nlakehouse.batch_rows = 1000");
$node->reload;
my $long = "id,word\n" . join('', map { "$_,word-$_\n" } 1 .. 40_000);
make_source('parts', 'id int, word text', '{"header": true, "max_rejects": 0, "settle_ms": 0}', trigger => 'continuous');
spew('parts/bad.csv', $long . "x,y\n");
spew('parts/good.csv', $long);
ok(poll_value($node, "SELECT string_agg(state, ' ' ORDER BY path) FROM lakehouse.file_status WHERE source = 'parts'", 'failed loaded'),
	'a worker sets a large file aside because of its last record');
is(sql('SELECT count(*), sum(id) FROM bronze.parts'), '40000|800020000', 'of which nothing is stored');
is(sql("SELECT count(*) FROM lakehouse.load_status WHERE source = 'parts'"), '1', 'the other is one load');

# a file that was begun without a limit: what is loaded counts
make_source('begun', 'id int, word text', '{"header": true, "settle_ms": 0}');
sql("SELECT lakehouse.pause_source('parts')");
spew('begun/a.csv', "id,word\nx,1\n" . $long =~ s/^id,word\n//r . "y,2\n");
$node->psql('postgres', "SET statement_timeout = '30s'; SET lakehouse.batch_rows = 1000; SELECT lakehouse.run_source('begun')");
is(sql("SELECT count(*) > 1 FROM lakehouse.load_status WHERE source = 'begun'"), 't', 'without a limit a large file is loaded in parts');
is(file_state('begun', 'state, rows, rejected'), 'loaded|40000|2', 'and all of it is');
verified('limits');

# ---- replay: the table was at fault
is(sql("SELECT * FROM lakehouse.replay_rejects('permissive')"), '0|3|0|0', 'without a fix nothing is resolved');
is(rejects('permissive'), '3 open 22P02 x,b, 5 open 22P02 y,d, 7 open 22P02 z,f', 'the rejects stay');
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE source = 'permissive' AND replayed_at IS NOT NULL"), '3', 'and tell that they were tried');
sql('ALTER TABLE bronze.permissive ALTER id TYPE text, ADD CHECK (id <> $$z$$)');
is(sql("SELECT * FROM lakehouse.replay_rejects('permissive')"), '2|1|0|1', 'after it what is good now is resolved');
is(sql('SELECT string_agg(id || word, $$ $$ ORDER BY word) FROM bronze.permissive'), '1a xb 3c yd 5e', 'its rows are stored');
like(rejects('permissive'), qr/^3 resolved 22P02 x,b, 5 resolved 22P02 y,d, 7 open 23514 z,f$/, 'what is still bad has the new reason');
is(sql("SELECT * FROM lakehouse.replay_rejects('permissive')"), '0|1|0|0', 'what is resolved is not tried again');
is(file_state('permissive', 'rows, rejected'), '5|1', 'the ledger counts the same');
is(sql("SELECT l.kind, l.file, l.rows, l.rejected, string_agg(t.word, ' ' ORDER BY word) FROM bronze.permissive t"
	  . " JOIN lakehouse.load_status l ON l.load_id = t._load_id JOIN lakehouse.reject_status r ON r.replayed_load = l.load_id AND r.line = 3"
	  . " GROUP BY 1, 2, 3, 4"),
	'file|permissive/a.csv|2|0|b d', 'a replayed row leads to its file and line');

# by number, dropped ones too; in a rolled back transaction nothing happens
sql('ALTER TABLE bronze.dropping ALTER id TYPE text');
is(sql("SELECT * FROM lakehouse.replay_rejects('dropping')"), '0|0|0|0', 'dropped rejects do not come back by themselves');
my $second = sql("SELECT reject_id FROM lakehouse.reject_status WHERE source = 'dropping' AND line = 5");
sql("BEGIN; SELECT lakehouse.replay_rejects('dropping', ARRAY[$second]); ROLLBACK");
is(sql('SELECT count(*) FROM bronze.dropping'), '3', 'a replay that is rolled back leaves nothing behind');
is(sql("SELECT * FROM lakehouse.replay_rejects('dropping', ARRAY[$second])"), '1|0|0|1', 'by its number one is replayed');
is(sql("SELECT * FROM lakehouse.replay_rejects('dropping', ARRAY[$second])"), '0|0|0|0', 'once');
is(rejects('dropping'), '3 dropped 22P02 x,b, 5 resolved 22P02 y,d, 7 dropped 22P02 z,f', 'the others stay');

# ---- replay: the options were at fault; header in another order, metadata, parts, a quoted line end
make_source('options', 'id int, word text, note text, source_line bigint, source_file text',
	'{"header": true, "metadata": {"source_line": "line", "source_file": "file_path"}}');
spew('options/a.csv', "note,word,id\n\"two\nlines\",a,nil\nn,\"b\"c\"d\",2\nn,e,3\nx,y\n");
is(run('options'), '1|1|3|0', 'records that only other options can read');
sql("SELECT lakehouse.alter_source('options', options => '{\"header\": true, \"null_value\": \"nil\","
	  . " \"metadata\": {\"source_line\": \"line\", \"source_file\": \"file_path\"}}')");
is(sql("SELECT * FROM lakehouse.replay_rejects('options')"), '1|2|0|1', 'another null marker resolves one');
sql("SELECT lakehouse.alter_source('options', options => '{\"header\": true, \"quote\": \"\","
	  . " \"metadata\": {\"source_line\": \"line\", \"source_file\": \"file_path\"}}')");
is(sql("SELECT * FROM lakehouse.replay_rejects('options', load_id => (SELECT min(load_id) FROM lakehouse.load_status WHERE source = 'options'))"),
	'1|1|0|1', 'no quotes another one');
is(sql("SELECT string_agg(concat_ws('/', source_line, coalesce(id::text, '-'), word, note, source_file), ' ' ORDER BY source_line) FROM bronze.options"),
	"2/-/a/two\nlines/options/a.csv 4/2/\"b\"c\"d\"/n/options/a.csv 5/3/e/n/options/a.csv", 'values, lines and file are right');
like(rejects('options'), qr/, 6 open 22P04 x,y$/, 'a short record stays');

# several parts of a file, each with rejects
is(sql("SELECT * FROM lakehouse.replay_rejects('begun')"), '0|2|0|0', 'rejects of parts are tried');
sql('ALTER TABLE bronze.begun ALTER id TYPE text');
is(sql("SELECT * FROM lakehouse.replay_rejects('begun', max_records => 1)"), '1|0|0|1', 'a limit holds');
is(sql("SELECT * FROM lakehouse.replay_rejects('begun')"), '1|0|0|1', 'and the next replay does the rest');
is(sql("SELECT string_agg(id || word, ' ' ORDER BY id) FROM bronze.begun WHERE id !~ '[0-9]'"), 'x1 y2', 'records of the first and of the last part');

# ---- JSON lines, and records that were not kept whole
make_source('lines', 'id int, word text', '{}', end => 'jsonl');
spew('lines/a.jsonl', "{\"id\": 1, \"word\": \"a\"}\n{\"id\": \"x\", \"word\": \"b\"}\n{broken\n"
	  . '{"id": "y", "word": "' . 'w' x (1024 * 1024) . "\"}\n");
is(run('lines'), '1|1|3|0', 'JSON lines with bad ones');
sql('ALTER TABLE bronze.lines ALTER id TYPE text');
my ($status, $out, $err) = $node->psql('postgres', "SELECT * FROM lakehouse.replay_rejects('lines')");
is($out, '1|1|1|1', 'one resolved, one no JSON, one refused');
like($err, qr/WARNING:  1 rejects of source "lines" cannot be replayed/, 'the refused one is told');
is(sql("SELECT string_agg(concat_ws(' ', line, state, raw_cut, length(raw)), ', ' ORDER BY line) FROM lakehouse.reject_status WHERE source = 'lines'"),
	'2 resolved f 24, 3 open f 7, 4 open t 1048576', 'because only its beginning is there');
is(sql("SELECT string_agg(id || word, ' ' ORDER BY id) FROM bronze.lines"), '1a xb', 'rows are right');

# ---- two at a time: the second waits and finds nothing
sql("CREATE TABLE bronze.many (id int, word text)");
make_path("$landing/many");
sql("SELECT lakehouse.create_source('many', 'landing', 'bronze.many', path => 'many/*.csv')");
spew('many/a.csv', join('', map { "x$_,w$_\n" } 1 .. 3000));
my $log = -s $node->logfile;
is(run('many'), '1|0|3000|0', 'a file of nothing but bad records');
my $added = slurp_file($node->logfile, $log);
my $lines = () = $added =~ /\n/g;
cmp_ok($lines, '<', 20, 'writes no line for each of them into the log');
sql('ALTER TABLE bronze.many ALTER id TYPE text, ADD CHECK (id <> $$x7$$)');
my $first = $node->background_psql('postgres');
is($first->query_safe("BEGIN; SELECT * FROM lakehouse.replay_rejects('many')"), '2999|1|0|1', 'all but one are resolved');
my $other = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "SELECT * FROM lakehouse.replay_rejects('many')" ],
	'>', \my $answer);
ok(poll_value($node, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted OR locktype = 'object' AND NOT granted", '1'),
	'another replay waits');
$first->query_safe('COMMIT');
$first->quit;
$other->finish;
is($answer, "0|1|0|0\n", 'and does not store anything twice');
is(sql("SELECT count(*), count(DISTINCT id), sum(substr(id, 2)::int) FROM bronze.many"), '2999|2999|4501493', 'every record once');

# flows read what was replayed
sql("CREATE TABLE bronze.copy (id text, word text)");
sql("SELECT lakehouse.create_flow('copy', target => 'bronze.copy', mode => 'append', query => 'SELECT id, word FROM bronze.many')");
sql("SELECT lakehouse.run()");
sql('ALTER TABLE bronze.many DROP CONSTRAINT many_id_check');
is(sql("SELECT * FROM lakehouse.replay_rejects('many')"), '1|0|0|1', 'the last one');
sql("SELECT lakehouse.run()");
is(sql("SELECT count(*), sum(substr(id, 2)::int) FROM bronze.copy"), '3000|4501500', 'a flow sees the replayed row as new');
verified('replay');

# ---- what there is to see: the ledger in the words of Auto Loader
is(sql("SELECT string_agg(concat_ws(' ', path, ingestion_state, state, rows, rejected, sqlstate), ', ' ORDER BY path) FROM lakehouse.cloud_files_state"
	  . " WHERE flow_name IN ('limited', 'begun')"),
	'begun/a.csv INGESTED loaded 40002 0, limited/a.csv SKIPPED_CORRUPTED failed 0 0 22P04, limited/b.csv INGESTED loaded 1 2', 'states, counts and reasons');
is(sql("SELECT count(*) FROM lakehouse.cloud_files_state c JOIN bronze.limited t ON t._load_id = c.batch_id WHERE c.flow_name = 'limited'"
	  . " AND c.create_time <= c.discovery_time AND c.discovery_time <= c.processed_time AND c.processed_time <= c.commit_time"), '1', 'times and load are right');

# ---- a load is visible from another session while it runs: one that waits for
# a lock in the middle of a file
make_source('slow', 'id int PRIMARY KEY, word text', '{"header": true}');
sql("CREATE TABLE bronze.gate (id int); CREATE FUNCTION bronze.wait() RETURNS trigger LANGUAGE plpgsql AS"
	  . " 'BEGIN IF NEW.id = 5000 THEN PERFORM FROM bronze.gate; END IF; RETURN NEW; END'");
sql("CREATE TRIGGER wait BEFORE INSERT ON bronze.slow FOR EACH ROW EXECUTE FUNCTION bronze.wait()");
spew('slow/a.csv', "id,word\nbad,1\n" . join('', map { "$_,w\n" } 1 .. 8000));
my $size = -s "$landing/slow/a.csv";
my $gate = $node->background_psql('postgres');
$gate->query_safe('BEGIN; LOCK bronze.gate');
my $runner = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "SET lakehouse.batch_rows = 100000; SET lakehouse.batch_bytes = '10MB'; SELECT lakehouse.run_source('slow')" ], '>', \my $ran);
ok(poll_value($node, "SELECT count(*) FROM pg_locks WHERE relation = 'bronze.gate'::regclass AND NOT granted", '1'), 'a load is in the middle of its file');
is(sql("SELECT p.source, p.size, p.position BETWEEN 1 AND p.size - 1, p.bytes = p.position, p.rows BETWEEN 1 AND 4999, p.rejected, p.rows_per_second > 0,"
	  . " p.bytes_per_second > 0, p.time_left > '0', p.pid = a.pid FROM lakehouse.load_progress p, pg_stat_activity a WHERE a.query ~ 'run_source' AND a.pid <> pg_backend_pid()"),
	"slow|$size|t|t|t|1|t|t|t|t", 'its progress is visible');
sql("CREATE ROLE stranger; SELECT lakehouse.grant_use('stranger')");
is(sql("SET ROLE stranger; SELECT count(*) FROM lakehouse.load_progress"), '0', 'not for everybody');
$gate->query_safe('COMMIT');
$gate->quit;
$runner->finish;
is(sql('SELECT count(*) FROM lakehouse.load_progress'), '0', 'until it ends');
is(sql('SELECT count(*) FROM bronze.slow'), '8000', 'with all rows');
make_source('ending', 'id int, word text', '{"header": true, "max_rejects": 0}');
spew('ending/a.csv', "id,word\nx,b\n");
is(sql("SELECT failed_files FROM lakehouse.run_source('ending'); SELECT count(*) FROM lakehouse.load_progress"), "1\n0", 'a load that fails leaves nothing to see');
verified('all');

$node->stop;
done_testing();
