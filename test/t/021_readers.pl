# What the CSV and JSON readers make of good and bad input: rows, rejects with
# their places and bytes, errors of whole files; and random files, cut into
# batches at random, against what was written.
use strict;
use warnings;

use FormatTest;
use JSON::PP;
use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
format_node('readers', conf => "lakehouse.max_record_size = '300kB'\n");

my $three = 'id int, name text, v numeric(6,2)';

# --------------------------------------------------------------- CSV, places
{
	my $content = "\xef\xbb\xbfid,name,v\r\n"
		  . "1,\"a \"\"q\"\" b\",1.505\r\n"
		  . "2,,\r\n"
		  . "3,\"\",x\r\n"
		  . "\r\n"
		  . "4,37.8\"N,2\r\n"
		  . "5,\"two\r\nlines\",3\r\n"
		  . "6,a\r\n"
		  . "7,\"b\"c,1\r\n"
		  . "8,\xff,1\r\n"
		  . "9,\xc3\xa9,1\r\n"
		  . "10,a\0b,1\r\n"
		  . "11,a,b,c\r\n"
		  . "12,\"open,1\r\n"
		  . "13,last,2";
	my ($rows, $rejects, $failure) = ingest($three, 'csv', '{"header": true}', $content);
	is($failure, '', 'CSV: the file is read');
	is($rows, <<'END' =~ s/\n\z//r, 'CSV: rows of a file with every fault');
{"v": 1.51, "id": 1, "name": "a \"q\" b"}
{"v": null, "id": 2, "name": null}
{"v": 2.00, "id": 4, "name": "37.8\"N"}
{"v": 3.00, "id": 5, "name": "two\r\nlines"}
{"v": 1.00, "id": 9, "name": "é"}
{"v": 2.00, "id": 13, "name": "last"}
END
	is_deeply($rejects, [
			[ 4, index($content, '3,"",x'), '22P02', 'v', '3,"",x' ],
			[ 9, index($content, '6,a'), '22P04', '', '6,a' ],
			[ 10, index($content, '7,"b"c,1'), '22P04', '', '7,"b"c,1' ],
			[ 11, index($content, "8,\xff,1"), '22021', '', "8,\xff,1" ],
			[ 13, index($content, "10,a\0b,1"), '22021', '', "10,a\0b,1" ],
			[ 14, index($content, '11,a,b,c'), '22P04', '', '11,a,b,c' ],
			[ 15, index($content, '12,"open,1'), '22P04', '', '12,"open,1' ] ],
		'CSV: rejects with line, byte offset, SQLSTATE, column and bytes')
	  or diag(explain($rejects));
}

# ------------------------------------------------------------- CSV, dialects
for my $case (
	[ 'CR line ends', '{"header": true}', "id,name,v\r1,a,1\r2,\"b\rc\",2\r", "1|a|1.00\n2|b\rc|2.00" ],
	[ 'LF line ends, no last one', '{"header": true}', "id,name,v\n1,a,1\n2,b,2", "1|a|1.00\n2|b|2.00" ],
	[ 'no header: by position', '{}', "1,a,1\n2,b,2\n", "1|a|1.00\n2|b|2.00" ],
	[ 'header in another order and case', '{"header": true}', "V,Name\n1,a\n", '~|a|1.00' ],
	[ 'extra columns ignored', '{"header": true, "ignore_extra_columns": true}', "x,id,y\n9,1,9\n", '1|~|~' ],
	[ 'sep, quote, comment', q({"sep": ";", "quote": "'", "comment": "#"}), "# c;c\n1;'a;''b';1,5\n#\n2;x\"y;2\n", "2|x\"y|2.00" ],
	[ 'delimiter tab, no quote', q({"delimiter": "\t", "quote": ""}), "1\t\"a\"\t2\n", '1|"a"|2.00' ],
	[ 'escape', q({"escape": "\\\\"}), qq(1,"a\\"b\\\\c\\d""e",1\n2,a\\b,2\n), qq(1|a"b\\c\\d"e|1.00\n2|a\\b|2.00) ],
	[ 'null_value', '{"null_value": "NULL"}', "1,,NULL\n2,\"NULL\",3\n", "1||~\n2|NULL|3.00" ],
	[ 'empty_value', '{"empty_value": "(none)"}', "1,\"\",1\n2,,2\n", "1|(none)|1.00\n2|~|2.00" ],
	[ 'skip_rows', '{"skip_rows": 2, "header": true}', "export of \"today\n\nid,name,v\n1,a,1\n", '1|a|1.00' ],
	[ 'encoding', '{"encoding": "latin1"}', "1,\xe9\xa3,1\n", "1|\xc3\xa9\xc2\xa3|1.00" ],
	[ 'empty file', '{"header": true}', '', '' ],
	[ 'header only', '{"header": true}', "id,name,v\n", '' ],
	[ 'blank lines only', '{}', "\n\n\r\n", '' ])
{
	my ($what, $options, $content, $expected) = @$case;
	my (undef, $rejects, $failure) = ingest($three, 'csv', $options, $content);
	my $rows = sql("SELECT concat_ws('|', coalesce(id::text, '~'), coalesce(name, '~'), coalesce(v::text, '~')) FROM s$sources ORDER BY ctid");
	utf8::encode($rows) if utf8::is_utf8($rows);
	is($rows, $expected, "CSV, $what: rows");
	is($failure, '', "CSV, $what: no failure");
}
is(scalar(@{ (ingest('a text', 'csv', '{}', "x\n\ny\n"))[1] }), 0, 'CSV of one column: an empty line is no reject');
is(sql("SELECT count(*) || ' ' || count(a) FROM s$sources"), '3 2', 'but a row with NULL');
is((ingest('a int, b int DEFAULT 7', 'csv', '{"header": true}', "a\n1\n"))[0], '{"a": 1, "b": 7}', 'a column that the header lacks has its default');

# ------------------------------------------------------- errors of the file
for my $case (
	[ "id,nam,v\n1,a,1\n", qr/42703\|.*"nam".*/, 'a name that is no column' ],
	[ "id,id,v\n1,2,1\n", qr/42701\|.*"id".*more than once/, 'a name that comes twice' ],
	[ "id,ID,v\n1,2,1\n", qr/42701\|/, 'and twice but for its case' ],
	[ "id,_load_id\n1,2\n", qr/42P10\|.*"_load_id"/, 'a column that no source may fill' ],
	[ "id,\"na\n", qr/22P04\|/, 'a header that is no record' ],
	[ "id,\xff\n", qr/22021\|/, 'a header in another encoding' ])
{
	my ($content, $expected, $what) = @$case;
	my ($rows, $rejects, $failure) = ingest($three, 'csv', '{"header": true}', $content);
	like($failure, $expected, "CSV header, $what: the file fails");
	is($rows . scalar(@$rejects), '0', "CSV header, $what: nothing was read");
}

# ----------------------------------------------------------------- options
for my $case (
	[ 'csv', '{"heder": true}', qr/22023: unrecognized CSV option "heder".*Did you mean "header"\?/s ],
	[ 'csv', '{"header": "perhaps"}', qr/22023: invalid value for option "header"/ ],
	[ 'csv', '{"sep": "123456789"}', qr/22023: invalid value for option "sep"/ ],
	[ 'csv', '{"sep": ",", "delimiter": ";"}', qr/22023: .*"sep" and "delimiter" mean the same/ ],
	[ 'csv', '{"sep": "\""}', qr/22023: .*must differ/ ],
	[ 'csv', '{"skip_rows": -1}', qr/22023: invalid value for option "skip_rows"/ ],
	[ 'csv', '{"encoding": "utf-9"}', qr/22023: invalid value for option "encoding"/ ],
	[ 'csv', '{"encoding": "sjis", "escape": "\\\\"}', qr/0A000: .*no clear meaning/ ],
	[ 'json', '{"header": true}', qr/22023: unrecognized JSON option "header"/ ])
{
	my ($format, $options, $expected) = @$case;
	like(refusal('a int', $format, $options), $expected, "options $options are refused");
}

# -------------------------------------------------------- records too long
for my $rest (200_000, 2_000_000)
{
	my $long = 'x' x (200_000 + $rest);
	my ($rows, $rejects) = ingest('id int, name text', 'csv', '{}',
		"1,a\n2,$long\n3,b\n4,\"$long\n\"\"\n\"\n5,c\n6,\"$long\n7,d\n");
	is($rows, join("\n", map { "{\"id\": $_->[0], \"name\": \"$_->[1]\"}" } [ 1, 'a' ], [ 3, 'b' ], [ 5, 'c' ], [ 7, 'd' ]),
		"CSV, records of $rest bytes more: the others are rows");
	my $second = 4 + length($long) + 3;
	my $third = $second + 4 + length($long) + 9;
	is_deeply([ map { [ @$_[ 0 .. 2 ], length($_->[4]) ] } @$rejects ], [
			[ 2, 4, '54000', 65536 ],
			[ 4, $second + 4, '54000', 65536 ],
			[ 8, $third + 4, '54000', 65536 ] ],
		'and they are rejects with their first bytes')
	  or diag(explain([ map { [ @$_[ 0 .. 3 ], length($_->[4]) ] } @$rejects ]));

	($rows, $rejects) = ingest('id int, name text', 'json', '{}',
		"{\"id\": 1}\n{\"id\": 2, \"name\": \"$long\"}\n{\"id\": 3}\n{\"id\": 4, \"name\": \"$long");
	is($rows, "{\"id\": 1, \"name\": null}\n{\"id\": 3, \"name\": null}", 'JSON: the same');
	is_deeply([ map { [ @$_[ 0 .. 2 ], length($_->[4]) ] } @$rejects ],
		[ [ 2, 10, '54000', 65536 ], [ 4, length($long) + 42, '54000', 65536 ] ], 'JSON: and their rejects')
	  or diag(explain([ map { [ @$_[ 0 .. 3 ], length($_->[4]) ] } @$rejects ]));
}

# a quote that is never closed takes no other line away, however many follow
{
	my ($rows, $rejects) = ingest('id int, name text', 'csv', '{}', "1,a\n2,\"open\n" . join('', map { "$_,row\n" } 3 .. 100_000));
	is(sql("SELECT count(*) || ' ' || min(id) || ' ' || sum(id) FROM s$sources"), '99999 1 ' . (100_000 * 100_001 / 2 - 2), 'CSV, a quote without end: the other lines are rows');
	is_deeply($rejects, [ [ 2, 4, '22P04', '', '2,"open' ] ], 'and its line is the reject');
}

# exactly at the limit, within the window
sql("ALTER SYSTEM SET lakehouse.max_record_size = '1kB'; SELECT pg_reload_conf()");
for my $length (1024, 1025)
{
	my @lines = ('1,' . 'x' x ($length - 2), '2,"' . 'y' x ($length - 4) . '"', '3,z');
	my ($rows, $rejects) = ingest('id int, name text', 'csv', '{}', join("\r\n", @lines));
	is(sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM s$sources"), $length > 1024 ? '3' : '1 2 3', "CSV, records of $length bytes with a limit of 1024: rows");
	is(join(' ', map { "$_->[0]:$_->[2]:" . length($_->[4]) } @$rejects), $length > 1024 ? "1:54000:$length 2:54000:$length" : '', 'and rejects');
	my $line = '{"id":1,"name":"' . 'x' x ($length - 18) . '"}';
	($rows, $rejects) = ingest('id int, name text', 'json', '{}', "$line\r\n{\"id\":2}\n");
	is(sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM s$sources"), $length > 1024 ? '2' : '1 2', "JSON, a record of $length bytes: rows");
	is(join(' ', map { "$_->[0]:$_->[2]:" . length($_->[4]) } @$rejects), $length > 1024 ? "1:54000:$length" : '', 'and rejects');
}
sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");

# ---------------------------------------------------------------- JSON lines
{
	my ($rows, $rejects) = ingest($three . ', doc jsonb, tags text[]', 'json', '{}',
		    "\xef\xbb\xbf{\"id\":1,\"name\":\"a\",\"v\":1.5}\r\n"
		  . "\n \t\r\n"
		  . "{\"v\":\"2\",\"id\":2,\"name\":{\"x\":[1, 2]},\"doc\":{\"b\":1},\"tags\":[\"q\",null],\"more\":[{}]}\n"
		  . "[1]\n"
		  . "{\"id\":3\n"
		  . "{\"id\":\"x\"}\n"
		  . "{\"id\":4,\"name\":\"\xff\"}\n"
		  . "{\"id\":5} {\"id\":6}\n"
		  . "{\"id\":7,\"name\":\"\\u0000\"}\n"
		  . "null\n"
		  . "{\"id\":8,\"id\":9,\"name\":null}");
	is($rows, <<'END' =~ s/\n\z//r, 'JSON: rows of a file with every fault');
{"v": 1.50, "id": 1, "doc": null, "name": "a", "tags": null}
{"v": 2.00, "id": 2, "doc": {"b": 1}, "name": "{\"x\":[1, 2]}", "tags": ["q", null]}
{"v": null, "id": 9, "doc": null, "name": null, "tags": null}
END
	is_deeply([ map { [ @$_[ 0, 2, 3, 4 ] ] } @$rejects ], [
			[ 5, '22P02', '', '[1]' ],
			[ 6, '22P02', '', '{"id":3' ],
			[ 7, '22P02', 'id', '{"id":"x"}' ],
			[ 8, '22021', '', "{\"id\":4,\"name\":\"\xff\"}" ],
			[ 9, '22P02', '', '{"id":5} {"id":6}' ],
			[ 10, '22P05', 'name', '{"id":7,"name":"\\u0000"}' ],
			[ 11, '22P02', '', 'null' ] ],
		'JSON: rejects with line, SQLSTATE, column and bytes')
	  or diag(explain($rejects));
}

# conversions that raise: an enum, a domain, and the rows around them
sql("CREATE TYPE mood AS ENUM ('calm', 'tired'); CREATE DOMAIN small AS int NOT NULL CHECK (value < 10)");
for my $case ([ 'csv', '{}', "1,calm,5\n2,angry,5\n3,calm,50\n4,calm,\n5,tired,6\n" ],
	[ 'json', '{}', join('', map { "{\"id\":$_->[0],\"m\":\"$_->[1]\",\"s\":$_->[2]}\n" }
			[ 1, 'calm', 5 ], [ 2, 'angry', 5 ], [ 3, 'calm', 50 ], [ 4, 'calm', 'null' ], [ 5, 'tired', 6 ]) ])
{
	my ($rows, $rejects) = ingest('id int, m mood, s small', @$case);
	is($rows, "{\"m\": \"calm\", \"s\": 5, \"id\": 1}\n{\"m\": \"tired\", \"s\": 6, \"id\": 5}", "$case->[0], types that raise: rows");
	is(join(' ', map { "$_->[0]:$_->[2]" } @$rejects), '2:22P02 3:23514 4:23502', "$case->[0], types that raise: rejects");
}

# ------------------------------------------------- random files and batches
sub random_text
{
	my @piece = ('a', 'Zz', ',', ';', '"', '""', "\n", "\r\n", '\\', ' ', "\x{e9}", "\x{1f600}", '#', "'", 'NULL', "\t", '0');
	return join('', map { $piece[ int(rand(@piece)) ] } 1 .. int(rand(8))) if rand() < 0.9;
	return 'long' x int(rand(3000));
}

for my $round (1 .. 3)
{
	my $eol = $round % 2 ? "\n" : "\r\n";
	my (@expected, $csv, $json, @bad);
	$csv = "name,n,note$eol";
	$json = '';
	my ($csv_line, $count) = (2, 4000);
	for my $n (1 .. $count)
	{
		my ($name, $note) = (random_text(), random_text());
		my @written = map { my $text = $_; $text =~ s/"/""/g; /[,"\r\n]|^$/ || rand() < 0.2 ? "\"$text\"" : $_ } $name, $note;
		my $good = rand() > 0.01;
		my $record = "$written[0]," . ($good ? $n : "n$n") . ",$written[1]";
		$csv .= "$record$eol";
		$json .= JSON::PP->new->ascii(rand() < 0.5)->encode($good ? { name => $name, n => $n, note => $note } : { n => "n$n" }) . $eol;
		push @expected, "$n|" . unpack('H*', join("\0", map { my $t = $_; utf8::encode($t); $t } $name, $note)) if $good;
		push @bad, "$csv_line|" . ($n + 0) unless $good;
		$csv_line += 1 + ($record =~ tr/\n//);
	}
	utf8::encode($csv);
	utf8::encode($json);
	chop $csv if rand() < 0.5;
	for my $format (qw(csv json))
	{
		my $rows = 1 + int(rand(2000));
		sql("ALTER SYSTEM SET lakehouse.batch_rows = $rows; SELECT pg_reload_conf()");
		my (undef, $rejects) = ingest('n int, name text, note text', $format, $format eq 'csv' ? '{"header": true}' : '{}', $format eq 'csv' ? $csv : $json);
		my $what = "random $format $round, batches of $rows";
		ok(sql("SELECT n, encode(convert_to(name, 'UTF8') || '\\x00' || convert_to(note, 'UTF8'), 'hex') FROM s$sources ORDER BY n")
			  eq join("\n", @expected), "$what: the rows are what was written");
		is(join(' ', map { $_->[0] } @$rejects), join(' ', map { (split /\|/)[ $format eq 'csv' ? 0 : 1 ] } @bad), "$what: rejects have their lines");
		cmp_ok(sql("SELECT count(*) FROM lakehouse.load WHERE source_id = (SELECT source_id FROM lakehouse.source WHERE name = 's$sources')"),
			'>', 1, "$what: in several loads");
	}
}

$node->stop;
done_testing();
