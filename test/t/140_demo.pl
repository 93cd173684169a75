# make demo KEEP=1 and make demo-stop, with less data: the whole chain from an
# empty folder to gold tables, by background workers and pg_cron.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = $ENV{LAKEHOUSE_SOURCE} // "$FindBin::RealBin/../..";
my $directory = PostgreSQL::Test::Utils::tempdir_short() . '/demo';
system("mkdir $directory && tar -C '$source' --exclude=./.git --exclude=./.demo --exclude='*.o' --exclude='*.so' -cf - . | tar -C $directory -xf -") == 0
  or BAIL_OUT('could not copy the sources');
delete @ENV{qw(KEEP SETS BPM LIMIT MAKEFLAGS MAKELEVEL)};

# run_make gives status and output; what stays running must not hold the output
sub run_make
{
	my ($limit, @argument) = @_;
	my $out = '';
	my $good = IPC::Run::run([ 'make', '-s', '-C', $directory, @argument ],
		'<', \undef, '>', \$out, '2>&1', IPC::Run::timeout($limit));
	return ($good, $out);
}

# below gives the processes whose program lies in the demo's folder
sub below
{
	my $real = readlink("$directory/.demo") // "$directory/.demo";
	return grep { (readlink("$_/exe") // '') =~ m{^\Q$real\E/} } glob('/proc/[0-9]*');
}

$ENV{BPM} = 2000;
my ($good, $out) = run_make(300, 'demo', 'KEEP=1');
ok($good, 'make demo KEEP=1 succeeds') or diag($out);
is(scalar(() = $out =~ /^ (?:silver|gold)\.\w+ +\| +\d+ \| +0 \| +0$/mg), 11, 'every silver and gold table equals its recomputation')
  or diag($out);
like($out, qr/ \| succeeded +\| process-data-2014 +\| succeeded/, 'pg_cron had the job run');
like($out, qr/4045 messages and 4 files were in gold [0-9.]+ s after/, 'all messages arrived');
my ($psql) = $out =~ /Look around: +(.*)$/m;
ok($psql, 'it says how to look around');
is(`$psql -XAt -c 'SELECT count(*) FROM gold.gym_summary'`, "16\n", 'and the server is there');
cmp_ok(scalar(below()), '>', 1, 'server and broker run');

($good, $out) = run_make(60, 'demo-stop');
ok($good && $out =~ /stopped/, 'make demo-stop');
is(scalar(below()), 0, 'nothing is left running');
ok(!-e "$directory/.demo", 'nor lying around');
done_testing();
