# A replay of rejects that is torn at each point where it could be torn, by an
# error and by a crash: afterwards nothing of it is there, and the next one
# stores each record once.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = faults_path();
my $node = lakehouse_node('replay_faults', install_path => $path);
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(<<'END');
CREATE SCHEMA bronze;
CREATE TABLE bronze.record (id text CHECK (id ~ '^[0-9]+$'), word text);
SELECT lakehouse.create_source('torn', 'landing', 'bronze.record', path => '*.csv', options => '{"header": true}');
END
for my $file (1, 2)
{
	open(my $out, '>', "$landing/f$file.csv") or die $!;
	print $out "id,word\n", map { "x$file$_,w\n" } 1 .. 50;
	close($out) or die $!;
}
sql("SELECT lakehouse.run_source('torn')");
is(sql("SELECT count(*) FROM lakehouse.reject_status WHERE state = 'open'"), '100', 'all records are rejects');
sql('ALTER TABLE bronze.record DROP CONSTRAINT record_id_check');

my $torn = 0;
for my $fault (map { ("$_:error:1", "$_:kill:1", "$_:error:2", "$_:kill:2") } qw(before-insert after-insert replay-stored replay-recorded))
{
	my ($status, $out, $err) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.replay_rejects('torn')");
	$torn++ if $status != 0;
	ok(poll_value($node,
			"SELECT (SELECT count(*) FROM bronze.record), count(*) FILTER (WHERE state = 'open'), count(replayed_at),"
			  . " (SELECT sum(rows) || '|' || sum(rejected) FROM lakehouse.file_status) FROM lakehouse.reject_status",
			'0|100|0|0|100'), "$fault: nothing is half there");
}
is($torn, 16, 'every point was reached twice');
is(sql("SELECT * FROM lakehouse.replay_rejects('torn')"), '100|0|0|2', 'then all are resolved');
is(sql("SELECT string_agg(id, ' ' ORDER BY id) = (SELECT string_agg('x' || f || i, ' ' ORDER BY 'x' || f || i) FROM generate_series(1, 2) f, generate_series(1, 50) i)"
	  . " FROM bronze.record"), 't', 'each record once');
is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', 'ledger, loads, rows and rejects agree');

$node->stop;
done_testing();
