# docs/tutorial.md does what it says: its blocks run in their order, and a
# block of text after SQL is what that SQL prints.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('tutorial');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'lakehouse'
max_worker_processes = 32
lakehouse.launcher_naptime = 200
lakehouse.poll_interval = 100
END
$node->start;

my $landing = $node->basedir . '/landing';
mkdir $landing or die "$landing: $!";
my $page = slurp_file("$FindBin::RealBin/../../docs/tutorial.md");
my $number = 0;
my $printed;

# with UPDATE_TUTORIAL=file the page is written there with the output it has now
my $updated = '';
my $end = 0;
while ($page =~ /^```(sql|sh|text)\n(.*?)^```\n/msg)
{
	my ($kind, $block) = ($1, $2);
	my ($start, $stop) = ($-[0], $+[0]);
	my $text = substr($page, $end, $start - $end);
	my $original = substr($page, $start, $stop - $start);
	$end = $stop;
	$block =~ s{/srv/landing}{$landing}g if $kind ne 'text';
	if ($kind eq 'text')
	{
		is($printed, $block, "block $number prints what the page shows");
		$updated .= $text;
		next;
	}
	$number++;
	if ($kind eq 'sh')
	{
		$printed = undef;
		is(system('bash', '-ec', $block), 0, "block $number (sh) runs");
		$updated .= $text . $original;
		next;
	}
	my ($in, $out, $err) = ($block, '', '');
	my $good = IPC::Run::run(
		[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \$in, '>', \$out, '2>', \$err);
	ok($good, "block $number (sql) runs") or diag($err);
	# functions that return nothing have nothing to show
	$out =~ s/^ +\w+ *\n-+\n *\n\(1 row\)\n\n//mg;
	$out =~ s/\n+\z/\n/;
	$printed = $out;
	$updated .= $text . $original . ($out ne '' ? "```text\n$out```\n" : '');
}
$updated .= substr($page, $end);
if ($ENV{TESTDATADIR})
{
	open(my $file, '>', "$ENV{TESTDATADIR}/tutorial.md") or die $!;
	print $file $updated;
	close($file);
}
is($page, $updated, 'every output is shown in the page');

# the continuous source of section 5 does bring a file to gold by itself
open(my $file, '>', "$landing/tmp/c.csv") or die $!;
print $file "mac_address,gym,login,logout\n00:44,5,1420079600,\n";
close($file);
rename("$landing/tmp/c.csv", "$landing/gym_logins/2015-01-03.csv") or die $!;
ok(poll_value($node, 'SELECT visits FROM gold.gym_day WHERE gym = 5', '2', 30), 'a new file reaches gold by itself');
$node->stop;
done_testing();
