# A short run of the fuzzers of the scanners of CSV, JSON and Avro, with the
# address and undefined-behaviour sanitizers; "make fuzz" runs them longer. What
# is checked of each input stands at the top of test/fuzz/*_fuzz.c.
use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = "$FindBin::RealBin/../..";
my $probe = PostgreSQL::Test::Utils::tempdir() . '/probe';
open(my $file, '>', "$probe.c") or die $!;
print $file "int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n) { return 0; }\n";
close($file);
my $clang = $ENV{CLANG} // 'clang';
if (system("$clang -fsanitize=fuzzer,address,undefined -o $probe $probe.c >$probe.log 2>&1") != 0)
{
	diag('SKIPPED: no clang with libFuzzer; install clang and libclang-rt-dev, or set CLANG');
	plan(skip_all => 'there is no clang with libFuzzer');
}

# the folder beside the project, when the tests run in a copy of it
my ($shared) = grep { -d "$_/corpora" } map { "$tree/$_" } '../shared', '../../shared', '../../../shared';
local $ENV{LAKEHOUSE_SHARED} = $ENV{LAKEHOUSE_SHARED} // $shared // '';
local $ENV{FUZZ_SECONDS} = $ENV{FUZZ_SECONDS} // 20;
my $work = PostgreSQL::Test::Utils::tempdir() . '/fuzz';
my $output = `bash "$tree/test/fuzz/run.sh" "$work" 2>&1`;
my $status = $?;
note($output);
diag($output) if $status != 0;
is($status, 0, 'no input breaks a rule');
like($output, qr/^csv: [1-9]\d{3,} inputs, no finding$/m, 'thousands of CSV files were tried');
like($output, qr/^json: [1-9]\d{3,} inputs, no finding$/m, 'and of JSON texts');
like($output, qr/^split: [1-9]\d{2,} inputs, no finding$/m, 'and of JSON files');
like($output, qr/^avro: [1-9]\d{3,} inputs, no finding$/m, 'and of Avro values');

# a fuzzer that finds nothing must be able to: what each mutant forgets is found
for my $mutant (
	[ 'csv', 'src/source/csv_scan.c', 's/place \+ 1 == scan->length && !scan->last/0/' ],
	[ 'csv', 'src/source/csv_scan_wide.c', 's/scan->last \? 1 : -1/1/' ],
	[ 'json', 'src/json/json_scan.c', q{s/\*digits == '0' && p - digits > 1/0/} ],
	[ 'split', 'src/source/json_split.c', 's/!skip.done && !split->last/0/' ],
	[ 'avro', 'src/avro/avro_json.c', 's/reading\.p != reading\.end/0/' ])
{
	my ($name, $source, $change) = @$mutant;
	my $copy = "$work/mutant-$name";
	system("mkdir -p $copy/test && cp -r '$tree/src' $copy && cp -r '$tree/test/fuzz' $copy/test") == 0 or die 'no copy';
	system('perl', '-pi', '-e', "$change", "$copy/$source") == 0 or die 'no mutant';
	isnt(system("cmp -s '$tree/$source' '$copy/$source'"), 0, "$name: the mutant differs");
	isnt(system("bash '$copy/test/fuzz/run.sh' '$copy/fuzz' $name >'$copy.log' 2>&1"), 0, "$name: a broken scanner is found");
	is(scalar(() = slurp_file("$copy.log") =~ /rule broken/g), 1, "$name: by a rule");
}
done_testing();
