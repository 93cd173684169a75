# The memory of a session that loads a file depends on its longest record and
# on nothing else: not on the size of the file, the width of its rows, the
# format, the rejects or whether the target can refuse a row.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use POSIX ();
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'needs /proc' unless -r '/proc/self/status';

use constant MB => 1024 * 1024;
my $megabytes = $ENV{LAKEHOUSE_MEMORY_MB} // 80;
my $longest = 4 * MB;

my $node = lakehouse_node('memory', conf => "shared_buffers = '64MB'\nmax_wal_size = '4GB'\nautovacuum = off\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', 'CREATE SCHEMA bronze');

# private gives the bytes of a process that it shares with no other.
sub private
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return 0;
	my ($kb) = join('', <$status>) =~ /^RssAnon:\s+(\d+) kB/m;
	return ($kb // 0) * 1024;
}

# write_large makes a file of the wanted size with one long record in the
# middle and one record in a thousand that does not convert; gives how many
# records are good and bad.
sub write_large
{
	my ($name, $json) = @_;
	my ($good, $bad, $bytes, $long) = (0, 0, 0, 0);
	open(my $file, '>', "$landing/in/$name") or die $!;
	for (my $id = 1; $bytes < $megabytes * MB; $id++)
	{
		my $text = 'v' x (20 + $id % 200);
		if (!$long && $bytes > $megabytes * MB / 2)
		{
			$text = 'x' x ($longest - 100);
			$long = 1;
		}
		my $number = $id % 1000 ? $id : 'no number';
		$id % 1000 ? $good++ : $bad++;
		my $line = $json
		  ? qq({"id": $id, "number": "$number", "at": "2015-01-01T00:00:00Z", "text": "$text"}\n)
		  : qq($id,"$number",2015-01-01 00:00:00Z,$text\n);
		$bytes += length $line;
		print $file $line;
	}
	close($file) or die $!;
	return ($good, $bad);
}

for my $case ([ 'csv', '' ], [ 'csv', 'PRIMARY KEY' ], [ 'json', '' ])
{
	my ($format, $key) = @$case;
	my $name = $format . ($key ? '_key' : '');
	my ($good, $bad) = write_large("$name.$format", $format eq 'json');
	$node->safe_psql('postgres', <<"END");
CREATE TABLE bronze.$name (id bigint $key, number integer, at timestamptz, text text);
SELECT lakehouse.create_source('$name', server => 'landing', target => 'bronze.$name', format => '$format',
  path => 'in/$name.$format', options => '@{[ $format eq 'csv' ? '{"header": false}' : '{}' ]}');
END
	# a child loads; this process looks at the memory of its backend
	my ($pid, $most, $start) = (0, 0, 0);
	my $child = fork() // die $!;
	if ($child == 0)
	{
		exec('psql', '-Xqd', $node->connstr('postgres'), '-o', '/dev/null',
			'-c', "SELECT 1 FROM lakehouse.run_source('$name')") or die $!;
	}
	while (waitpid($child, POSIX::WNOHANG()) == 0)
	{
		$pid = $node->safe_psql('postgres',
			"SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ 'run_source'")
		  if !$pid;
		my $now = $pid ? private($pid) : 0;
		$start ||= $now;
		$most = $now if $now > $most;
		usleep(10_000);
	}
	is($?, 0, "$name: the load ends well");
	is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE id % 1000 = 0) FROM bronze.$name"),
		"$good|0", "$name: every good record of $megabytes MB is there");
	is($node->safe_psql('postgres', "SELECT count(*) FROM lakehouse.reject r JOIN lakehouse.file f USING (file_id) WHERE f.path LIKE 'in/$name.%'"),
		$bad, "$name: every bad one is kept");
	note(sprintf('%s: %.1f MB at the start, %.1f MB at most', $name, $start / MB, $most / MB));
	cmp_ok($most, '>', 0, "$name: its memory was looked at");
	cmp_ok($most, '<', 64 * MB + 2 * $longest, "$name: less than 64 MB and twice the longest record");
	unlink("$landing/in/$name.$format");
	$node->safe_psql('postgres', "DROP TABLE bronze.$name");
}
$node->stop;
done_testing();
