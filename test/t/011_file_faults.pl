# A run of a file source that is torn at each point where it could be torn, by
# an error and by a crash: afterwards all or nothing of it is there, and the
# next run brings the rest, each record once.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $path = faults_path();
seed();
my $node = lakehouse_node('file_faults', install_path => $path, conf => "lakehouse.batch_bytes = '64kB'\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', <<'END');
CREATE SCHEMA bronze;
CREATE TABLE bronze.record (file text, ordinal integer, value text, CHECK (ordinal > 0));
SELECT lakehouse.create_source('torn', 'landing', 'bronze.record', path => 'in/*.csv', options => '{"header": true}');
END

my %sent;
my ($number, $torn) = (0, 0);
for my $point (qw(scan open fstat read-chunk before-insert after-insert before-ledger after-ledger))
{
	for my $action (qw(error kill))
	{
		for my $pass (1, 2)
		{
			# two files, one of them larger than a part
			for my $records (5, 4000)
			{
				my $name = sprintf('f%03d.csv', ++$number);
				write_csv($landing, $name, $records, \%sent);
				land($landing, $name);
			}
			my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM bronze.record');
			my ($status, $out, $err) = $node->psql('postgres',
				"SET lakehouse.fault = '$point:$action:$pass'; SELECT lakehouse.run_source('torn')");

			# a run that does not come to the point so often is not torn
			next if $status == 0;
			$torn++;
			is($node->safe_psql('postgres', 'SELECT count(*) FROM bronze.record'),
				$before, "$point, $action, pass $pass: nothing is half there");
			$node->safe_psql('postgres', "SELECT lakehouse.run_source('torn')");
		}
	}
}
is($torn, 30, 'all points were reached twice, but the scan once');
$node->safe_psql('postgres', "SELECT lakehouse.run_source('torn')");
check_files($node, 'torn', \%sent);

# the rows of an old version go with the first load of the new one, or stay
$node->safe_psql('postgres', <<'END');
CREATE TABLE bronze.version (file text, ordinal integer, value text, CHECK (ordinal > 0));
SELECT lakehouse.create_source('versions', 'landing', 'bronze.version', path => 'version/*.csv',
  options => '{"header": true, "on_change": "replace"}');
END
mkdir("$landing/version") or die $!;
my %first;
write_csv($landing, 'v.csv', 4000, \%first);
rename("$landing.tmp/v.csv", "$landing/version/v.csv") or die $!;
$node->safe_psql('postgres', "SELECT lakehouse.run_source('versions')");
my $version = 'SELECT count(*), min(value), max(value), (SELECT count(*) FROM lakehouse.reject JOIN lakehouse.source USING (source_id) WHERE name = \'versions\') FROM bronze.version';
for my $fault ("after-insert:error:1", "after-insert:kill:1", map { ("$_:error:1", "$_:kill:1", "$_:error:2", "$_:kill:2") } qw(before-ledger after-ledger))
{
	my %next;
	my $before = $node->safe_psql('postgres', $version);
	write_csv($landing, 'v.csv', 3000 + int(rand(2000)), \%next);
	rename("$landing.tmp/v.csv", "$landing/version/v.csv") or die $!;
	my ($status) = $node->psql('postgres', "SET lakehouse.fault = '$fault'; SELECT lakehouse.run_source('versions')");
	isnt($status, 0, "replace, $fault: the point is reached");
	is($node->safe_psql('postgres', $version), $before, "replace, $fault: the old version is there, whole");
	$node->safe_psql('postgres', "SELECT lakehouse.run_source('versions')");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM bronze.version'), scalar(@{ $next{rows} }), "replace, $fault: then the new one");
	is($node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.reject_status WHERE source = 'versions'"),
		scalar(@{ $next{rejects} // [] }), "replace, $fault: with its rejects alone");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.verify() WHERE NOT ok'), '0', 'replace: verify() finds nothing');
$node->stop;
done_testing();
