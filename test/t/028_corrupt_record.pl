# Records that cannot be read, in a target that wants them: rows with their text,
# and the count of rows and rejects stays that of the records.
use strict;
use warnings;

use FormatTest;
use LakehouseTest;
use Test::More;

seed();
format_node('corrupt');

# counts gives rows and rejects of the last source's loads, and its rejects by state
sub counts
{
	my $name = "s$sources";
	return sql("SELECT rows || ' ' || rejected FROM lakehouse.source_status WHERE name = '$name'") . ' '
	  . sql("SELECT coalesce(string_agg(state || ':' || line || ':' || sqlstate || ':' || coalesce(column_name, ''), ' ' ORDER BY line), '-') FROM lakehouse.reject_status WHERE source = '$name'");
}

for my $case (
	[ 'CSV by position', 'a int, b text, _corrupt_record text, c int DEFAULT 7', 'csv', '{}', "1,x,1\nz,y,2\n2,\"q\"r,3\n3\n4,w,5\n",
		qq({"a": 1, "b": "x", "c": 1, "_corrupt_record": null}\n{"a": null, "b": null, "c": null, "_corrupt_record": "z,y,2"}\n{"a": null, "b": null, "c": null, "_corrupt_record": "2,\\"q\\"r,3"}\n{"a": null, "b": null, "c": null, "_corrupt_record": "3"}\n{"a": 4, "b": "w", "c": 5, "_corrupt_record": null}),
		'5 0 stored:2:22P02:a stored:3:22P04: stored:4:22P04:' ],
	[ 'CSV by name, wrong bytes, a column of another name', 'a int, bad text', 'csv', '{"header": true, "column_name_of_corrupt_record": "bad"}', "a\n\xff1\n2\n",
		qq({"a": null, "bad": "\xef\xbf\xbd1"}\n{"a": 2, "bad": null}), '2 0 stored:2:22021:' ],
	[ 'JSON', 'a int, _corrupt_record text', 'json', '{}', qq({"a": 1}\n{"a": "x"}\n{"a"\n[1]\n{"_corrupt_record": "mine"}\n),
		qq({"a": 1, "_corrupt_record": null}\n{"a": null, "_corrupt_record": "{\\"a\\": \\"x\\"}"}\n{"a": null, "_corrupt_record": "{\\"a\\""}\n{"a": null, "_corrupt_record": "[1]"}\n{"a": null, "_corrupt_record": null}),
		'5 0 stored:2:22P02:a stored:3:22P02: stored:4:22P02:' ],
	[ 'text', 'value int, _corrupt_record text', 'text', '{"column": "value"}', "1\nx\n", qq({"value": 1, "_corrupt_record": null}\n{"value": null, "_corrupt_record": "x"}), '2 0 stored:2:22P02:value' ],
	[ 'with rescued data only broken records', 'a int, _corrupt_record text, _rescued_data jsonb', 'csv', '{"header": true}', "a\nx\n1,2\n",
		qq({"a": null, "_rescued_data": {"a": "x", "_line": 2, "_reason": {"a": "type_mismatch"}, "_file_path": "in/f5"}, "_corrupt_record": null}\n{"a": null, "_rescued_data": null, "_corrupt_record": "1,2"}),
		'2 0 stored:3:22P04:' ],
	[ 'mode dropmalformed', 'a int, _corrupt_record text', 'csv', '{"mode": "DROPMALFORMED"}', "1\nx\n", '{"a": 1, "_corrupt_record": null}', '1 1 dropped:2:22P02:a' ],
	[ 'a column that is NOT NULL', 'a int NOT NULL, _corrupt_record text', 'csv', '{}', "1\nx\n", '{"a": 1, "_corrupt_record": null}', '1 1 open:2:22P02:a' ],
	[ 'a constraint', 'a int, _corrupt_record text CHECK (_corrupt_record <> \'x\')', 'csv', '{}', "1\nx\ny\n2\n", qq({"a": 1, "_corrupt_record": null}\n{"a": null, "_corrupt_record": "y"}\n{"a": 2, "_corrupt_record": null}), '3 1 open:2:23514: stored:3:22P02:a' ],
	[ 'a domain', 'a dom, b int, _corrupt_record text', 'csv', '{}', "1,2\n2,x\n", '{"a": 1, "b": 2, "_corrupt_record": null}', '1 1 open:2:22P02:b' ],
	[ 'a column of another type', 'a int, _corrupt_record int', 'csv', '{}', "1,2\nx,2\n", '{"a": 1, "_corrupt_record": 2}', '1 1 open:2:22P02:a' ],
	[ 'no column', 'a int', 'csv', '{"column_name_of_corrupt_record": ""}', "1\nx\n", '{"a": 1}', '1 1 open:2:22P02:a' ],
	[ 'a limit', 'a int, _corrupt_record text', 'csv', '{"max_rejects": 1}', "1\nx\n", qq({"a": 1, "_corrupt_record": null}\n{"a": null, "_corrupt_record": "x"}), '2 0 stored:2:22P02:a' ])
{
	my ($what, $columns, $format, $options, $content, $expected, $counts) = @$case;
	sql("CREATE DOMAIN dom AS int NOT NULL") if $what eq 'a domain';
	my ($rows, undef, $failure) = ingest($columns, $format, $options, $content);
	is($failure . $rows, $expected, "$what: rows");
	is(counts(), $counts, "$what: counts and rejects");
	is(sql("SELECT * FROM lakehouse.replay_rejects('s$sources')") =~ s/\|.*//r, '0', "$what: nothing is stored again");
}

# limits count them; fail-fast knows none
like((ingest('a int, _corrupt_record text', 'csv', '{"max_rejects": 1}', "x\n1\ny\n"))[2], qr/^22P04\|file ".*" has more than 1 bad records; the first, in line 1: /, 'too many of them fail the file');
is(counts(), '0 0 -', 'and nothing of it is stored');
like((ingest('a int, _corrupt_record text', 'csv', '{"max_reject_ratio": 0.4}', "x\n1\n"))[2], qr/^22P04\|file ".*" has 1 bad records of 2, /, 'the ratio counts them once');
like((ingest('a int, _corrupt_record text', 'csv', '{"mode": "failfast"}', "1\nx\n"))[2], qr/^22P02\|/, 'fail-fast fails');
like(refusal('a int', 'csv', '{"column_name_of_corrupt_record": "b"}'), qr/42703: column "b" for records that cannot be read does not exist/, 'a column that is not there is refused');
like(refusal('a int', 'csv', '{"column_name_of_corrupt_record": "a"}'), qr/42804: column "a" cannot hold records that cannot be read/, 'and one of another type');

# beside metadata and folders; taken back with their file
{
	sql("ALTER SYSTEM SET lakehouse.max_record_size = '64kB'; SELECT pg_reload_conf()");
	my @lines = map { rand() < 0.3 ? 'bad ' . $_ : "$_" } 1 .. 3000;
	$lines[1500] = 'x' x 100_000;
	system("mkdir -p '$landing/in/day=2024-01-02'") == 0 or die;
	put('day=2024-01-02/big.csv', join("\n", @lines) . "\n") if system("mkdir -p '$landing.tmp/day=2024-01-02'") == 0;
	my ($rows, $rejects, $failure) = read_file('a int, _corrupt_record text, day date, source_line bigint', 'csv', '{"partition_columns": "day", "metadata": {"source_line": "line"}}', 'day=*/big.csv');
	my $bad = grep { /bad/ } @lines;
	is($failure . sql("SELECT count(a), count(_corrupt_record), count(*), count(*) FILTER (WHERE day = '2024-01-02'), bool_and(a = source_line OR _corrupt_record = 'bad ' || source_line) FROM s$sources"),
		(2999 - $bad) . "|$bad|2999|2999|t", 'each record is a row, with its place');
	is(sql("SELECT rows, rejected FROM lakehouse.source_status WHERE name = 's$sources'"), '2999|1', 'but for the one that is not known as a whole');
	is(sql("SELECT count(*) FILTER (WHERE state = 'stored'), count(*) FILTER (WHERE state = 'open' AND sqlstate = '54000'), count(*) FROM lakehouse.reject_status WHERE source = 's$sources'"), "$bad|1|" . ($bad + 1), 'and each has its reason');
	is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', 'verify() finds nothing');
	is(sql("SELECT lakehouse.undo_file('s$sources', 'in/day=2024-01-02/big.csv')"), '2999', 'the file is taken back');
	is(sql("SELECT count(*) FROM s$sources") . sql("SELECT count(*) FROM lakehouse.reject_status WHERE source = 's$sources'"), '00', 'with rows and reasons');
	sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");
}

# a table that is made for the files has the column if it is named
put('made', "a\n1\n");
sql("SELECT lakehouse.create_source('made', server => 'landing', target => 'public.made', format => 'csv', path => 'in/made', options => '{\"header\": true, \"column_name_of_corrupt_record\": \"bad\"}')");
put('made', "a\n1\n2,3\n");
sql("SELECT lakehouse.run_source('made')");
is(sql("SELECT string_agg(coalesce(a::text, bad), ' ' ORDER BY ctid) FROM made"), '1 2,3', 'a new table has the column');

done_testing();
