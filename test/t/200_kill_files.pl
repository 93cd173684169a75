# kill -9 in the middle of loading files: of the session that loads, of the
# background worker, of the postmaster, at random moments. Afterwards every
# record is there once, in the table or among the rejects, and the ledger's
# numbers are those of the tables.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Cluster;
use Test::More;

seed();

# many small transactions, so that a kill mostly hits between two of them
my $node = lakehouse_node('files', conf => "lakehouse.batch_bytes = '64kB'\nlakehouse.batch_rows = 500\n");
my $landing = make_landing($node);
$node->safe_psql('postgres', <<'END');
CREATE SCHEMA bronze;
CREATE TABLE bronze.record (file text, ordinal integer, value text);
SELECT lakehouse.create_source('records', server => 'landing', target => 'bronze.record',
                               format => 'csv', path => 'in/*.csv', options => '{"header": true}');
END

my %sent;
my $number = 0;
my $feed = sub {
	my @name = map { sprintf('f%04d.csv', ++$number) } 1 .. 3;
	write_csv($landing, $_, 3000 + int(rand(6000)), \%sent) for @name;
	land($landing, $_) for @name;
	return;
};
# the ledger must know every file that landed, and have read each to its end
my $finished = sub {
	return "SELECT count(*) = $number AND coalesce(bool_and(state = 'loaded'), false) FROM lakehouse.file";
};

# LAKEHOUSE_KILLS says how many altogether: a fifth of them sessions, the rest
# workers and servers in equal parts ("make kills")
my $kills = $ENV{LAKEHOUSE_KILLS} // 40;
for my $case ([ 'backend', int($kills / 5) ], [ 'worker', int($kills * 2 / 5) ],
	[ 'server', $kills - int($kills / 5) - int($kills * 2 / 5) ])
{
	my ($victim, $rounds) = @$case;
	crash_at_random(node => $node, source => 'records', victim => $victim, rounds => $rounds,
		feed => $feed, finished => $finished);
	check_files($node, "after $rounds kills of the $victim", \%sent);
}
$node->stop;
done_testing();
