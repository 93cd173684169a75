# pg_dump and pg_restore keep everything: definitions, ledger, offsets, what
# flows have yet to consume. The copy comes up with its sources blocked, so that
# two databases never read one folder or topic; resumed, it goes on exactly
# where the original stood.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $partitions = 2;
my $broker = start_broker("numbers:$partitions");
my $node = lakehouse_node('dump');
my $landing = make_landing($node);
my (%files, %messages);
my $number = 0;

sub feed
{
	my $name = sprintf('f%d.csv', ++$number);
	write_csv($landing, $name, 200, \%files);
	land($landing, $name);
	produce_messages($broker, 'numbers', $partitions, 100, \%messages)->();
	return;
}

$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '$broker->{servers}');
CREATE SCHEMA bronze;
CREATE SCHEMA silver;
CREATE TABLE bronze.record (file text, ordinal integer, value text);
CREATE TABLE bronze.message (topic text, partition integer, "offset" bigint, key text, value text);
SELECT lakehouse.create_source('records', server => 'landing', target => 'bronze.record', format => 'csv',
         path => 'in/*.csv', options => '{"header": true, "settle_ms": 0}');
SELECT lakehouse.create_source('numbers', server => 'events', target => 'bronze.message', topics => '{numbers}');
CREATE TABLE silver.latest (bucket integer PRIMARY KEY, file text, ordinal integer, value text);
SELECT lakehouse.create_flow('latest', target => 'silver.latest', mode => 'scd1', keys => '{bucket}',
         sequence_by => '{file,ordinal}', delete_when => 'ordinal % 7 = 0',
         query => 'SELECT ordinal % 10 AS bucket, file, ordinal, value FROM bronze.record');
CREATE TABLE silver.total (partition integer PRIMARY KEY, n bigint, highest bigint);
SELECT lakehouse.create_flow('total', target => 'silver.total', mode => 'aggregate', keys => '{partition}',
         query => 'SELECT partition, count(*) AS n, max("offset") AS highest FROM bronze.message GROUP BY partition');
SELECT lakehouse.create_job('note', definition => '{"tasks": [{"task_key": "look", "sql": "SELECT 1"}]}');
END
feed();
$node->safe_psql('postgres', 'SELECT * FROM lakehouse.run()');
$node->safe_psql('postgres', q{SELECT lakehouse.run_job('note')});

# loaded, but not yet consumed by the flows; and a file that is not loaded
$node->safe_psql('postgres', "SELECT lakehouse.pause_flow('latest'); SELECT lakehouse.pause_flow('total')");
feed();
$node->safe_psql('postgres', "SELECT lakehouse.run_source('records'); SELECT lakehouse.run_source('numbers')");
$node->safe_psql('postgres', "SELECT lakehouse.resume_flow('latest'); SELECT lakehouse.resume_flow('total')");
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.pending'), '>=', 2, 'the flows have work waiting');
feed();

# catalog gives the contents of our tables, names instead of oids
sub catalog
{
	my ($database) = @_;
	my @table = split /\n/, $node->safe_psql($database, <<'END');
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'lakehouse'::regnamespace AND c.relkind = 'r' ORDER BY 1
END
	my $all = '';
	$all .= "$_:\n" . $node->safe_psql($database, "SELECT t::text FROM $_ t ORDER BY t::text COLLATE \"C\"") . "\n" for @table;
	my $sequences = $node->safe_psql($database,
		q{SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'lakehouse' ORDER BY 1});
	return $all . $sequences;
}

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
my $before = catalog('postgres');
for my $case ([ 'copy', 1 ], [ 'parallel', 3 ])
{
	my ($database, $jobs) = @$case;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ 'pg_restore', '-j', $jobs, '--exit-on-error', '-d', $node->connstr($database), $dump ],
		"pg_restore with $jobs jobs");
	is(catalog($database), $before, "$database: definitions, ledger, offsets, queue and sequences are those of the original");

	is($node->safe_psql($database, 'SELECT name, state FROM lakehouse.source_status ORDER BY 1'),
		"numbers|blocked\nrecords|blocked", "$database: the sources are blocked");
	my ($status, $out, $err) = $node->psql($database, "SELECT lakehouse.run_source('records')");
	isnt($status, 0, "$database: a source does not run");
	like($err, qr/copy|restored|resume_source/, "$database: the message says why and what to do");
	is($node->safe_psql($database, 'SELECT count(*) FROM lakehouse.file'), '2', "$database: and it read nothing");
}

# the original is given up, the copy goes on
$node->safe_psql('copy', "SELECT lakehouse.resume_source('records'); SELECT lakehouse.resume_source('numbers')");
$node->safe_psql('copy', 'SELECT * FROM lakehouse.run()');
is($node->safe_psql('copy', 'SELECT count(*) FROM lakehouse.pending'), '0', 'the copy consumed what was waiting');
is($node->safe_psql('copy', 'SELECT * FROM lakehouse.verify() WHERE NOT ok'), '', 'verify() finds nothing in the copy');

$LakehouseTest::database = 'copy';
check_files($node, 'the copy', \%files);
same_multiset(
	$node,
	'SELECT bucket, file, ordinal, value FROM silver.latest',
	q{SELECT * FROM (SELECT DISTINCT ON (ordinal % 10) ordinal % 10, file, ordinal, value FROM bronze.record
					  ORDER BY ordinal % 10, file DESC, ordinal DESC) x WHERE ordinal % 7 <> 0},
	'the copy: an scd1 flow kept the latest of each key, tombstones included');
same_multiset($node, 'SELECT partition, n, highest FROM silver.total',
	'SELECT partition, count(*), max("offset") FROM bronze.message GROUP BY partition', 'the copy: an aggregate is right');
$node->safe_psql('copy', 'DELETE FROM lakehouse.reject WHERE file_id IS NOT NULL');
check_kafka($node, 'the copy', \%messages);
$node->stop;
stop_broker($broker);
done_testing();
