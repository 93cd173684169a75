# Compressed files and the formats beyond plain CSV and JSON lines: what arrives,
# what becomes a reject and where, what fails as a whole; and that memory stays
# flat.
use strict;
use warnings;

use FormatTest;
use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
format_node('formats');

# compress gives bytes through a command
my $scratch = PostgreSQL::Test::Utils::tempdir();

sub compress
{
	my ($command, $content) = @_;
	open(my $file, '>:raw', "$scratch/plain") or die $!;
	print $file $content;
	close($file) or die $!;
	system("$command <'$scratch/plain' >'$scratch/packed'") == 0 or die "$command: $?";
	return slurp_file("$scratch/packed");
}

# -------------------------------------------------------------- compression
my %packer = (gzip => 'gzip -nc', zstd => 'zstd -qc', lz4 => 'lz4 -qc', bzip2 => 'bzip2 -c');
my $csv = "id,name\n" . join('', map { "$_,\"name of\n$_\"\n" } 1 .. 20_000) . "x,bad\n20001,last\n";
my $bad_offset = index($csv, 'x,bad');
my $json = join('', map { "{\"id\": $_, \"name\": \"n$_\"}\n" } 1 .. 5_000) . "{\"id\": \n";
my @noise = map { int(rand(2**32)) } 1 .. 20_000;
my $noise = join('', map { "$_,$noise[$_ - 1]\n" } 1 .. @noise);

for my $kind (sort keys %packer)
{
	my $packed = compress($packer{$kind}, $csv);
	cmp_ok(length($packed), '<', length($csv) / 2, "$kind: the file is compressed");
	my ($rows, $rejects, $failure) = ingest('id int, name text', 'csv', '{"header": true}', $packed);
	is($failure, '', "$kind: the file is read");
	is(sql("SELECT count(*), sum(id), bool_and(name = 'name of' || E'\\n' || id OR id = 20001) FROM s$sources"),
		'20001|' . (20_001 * 20_002 / 2) . '|t', "$kind: CSV rows");
	is_deeply($rejects, [ [ 40_002, $bad_offset, '22P02', 'id', 'x,bad' ] ], "$kind: a reject has its place in what was compressed");
	is(sql("SELECT f.state, f.position = f.size, f.size, count(l.load_id), sum(l.bytes) FROM lakehouse.file f JOIN lakehouse.load l USING (file_id) "
			  . "WHERE f.path = 'in/f$sources' GROUP BY f.file_id"),
		'loaded|t|' . length($packed) . '|1|' . length($packed), "$kind: the ledger has the file's size, one load");

	(undef, $rejects, $failure) = ingest('id int, name text', 'json', '{}', compress($packer{$kind}, $json));
	is($failure . sql("SELECT count(*), sum(id) FROM s$sources"), '5000|' . (5_000 * 5_001 / 2), "$kind: JSON rows");
	is("@{ $rejects->[0] }[0, 1, 2]", '5001 ' . (length($json) - 8) . ' 22P02', "$kind: and a reject");

	# incompressible, several members, nothing at all
	ingest('id int, n bigint', 'csv', '{}', compress($packer{$kind}, $noise));
	is(sql("SELECT md5(string_agg(id || ',' || n, ';' ORDER BY id)) FROM s$sources"),
		sql("SELECT md5('" . ($noise =~ s/\n\z//r =~ s/\n/;/gr) . "')"), "$kind: random numbers");
	($rows, undef, $failure) = ingest('a int', 'csv', '{}', compress($packer{$kind}, "1\n2") . compress($packer{$kind}, "") . compress($packer{$kind}, "3\n4\n"));
	is($failure . $rows, qq({"a": 1}\n{"a": 23}\n{"a": 4}), "$kind: members one behind the other are one stream");
	($rows, undef, $failure) = ingest('a int', 'csv', '{}', compress($packer{$kind}, ''));
	is($failure . $rows, '', "$kind: an empty stream");

	# cut off, followed by something, damaged: nothing of it is loaded
	for my $case (
		[ 'cut off at the end', substr($packed, 0, length($packed) - 1) ],
		[ 'cut in half', substr($packed, 0, length($packed) / 2) ],
		[ 'with garbage behind it', $packed . 'garbage' ],
		[ 'with zeros behind it', $packed . "\0" x 20 ],
		[ 'damaged', substr($packed, 0, length($packed) / 2) . chr(ord(substr($packed, length($packed) / 2, 1)) ^ 0xff) . substr($packed, length($packed) / 2 + 1) ])
	{
		my ($what, $content) = @$case;
		my ($rows, $rejects, $failure) = ingest('id int, name text', 'csv', '{}', $content);
		like($failure, qr/^22P04\|$kind data of file "in\/f$sources" cannot be decompressed: .*\(Nothing of the file is loaded/, "$kind, $what: the file fails");
		is($rows . scalar(@$rejects) . sql("SELECT count(*) FROM lakehouse.load WHERE relation = 's$sources'::regclass"), '00', "$kind, $what: nothing is loaded");
	}
}

# one load, whatever the limits of a batch are; the others are not held up by it
sql("ALTER SYSTEM SET lakehouse.batch_rows = 100; ALTER SYSTEM SET lakehouse.batch_bytes = '64kB'; SELECT pg_reload_conf()");
ingest('id int, name text', 'csv', '{"header": true}', compress($packer{gzip}, $csv));
is(sql("SELECT count(*) FROM lakehouse.load WHERE relation = 's$sources'::regclass") . ' ' . sql("SELECT count(*) FROM s$sources"), '1 20001', 'small batches: a compressed file is one load');
sql('ALTER SYSTEM RESET lakehouse.batch_rows; ALTER SYSTEM RESET lakehouse.batch_bytes; SELECT pg_reload_conf()');
put('mixed1', "1\n2\n");
put('mixed2', substr(compress($packer{gzip}, "3\n" x 1000), 0, 30));
put('mixed3', compress($packer{lz4}, "5\n"));
is((read_file('a int', 'csv', '{}', 'mixed?'))[0], qq({"a": 1}\n{"a": 2}\n{"a": 5}), 'a file that is cut off stops only itself');

# a record longer than it may be, within a stream and beyond the look-back
sql("ALTER SYSTEM SET lakehouse.max_record_size = '100kB'; SELECT pg_reload_conf()");
for my $kind (qw(gzip zstd))
{
	my ($rows, $rejects) = ingest('id int, name text', 'csv', '{}', compress($packer{$kind}, "1,a\n2,\"" . 'x' x 900_000 . "\"\n3,\"open\n" . join('', map { "$_,b\n" } 4 .. 200_000)));
	is(sql("SELECT count(*), sum(id) FROM s$sources"), '199998|' . (200_000 * 200_001 / 2 - 5), "$kind: rows around records that are too long or never end");
	is(join(' ', map { "$_->[0]:$_->[1]:$_->[2]:" . length($_->[4]) } @$rejects), '2:4:54000:65536 3:900009:22P04:7', "$kind: their rejects");
}
sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");

# bombs, limits, and what cannot be read
{
	my $bomb = "$scratch/bomb";
	system("head -c 200000000 /dev/zero | gzip -nc >'$bomb.gz'; head -c 3000000000 /dev/zero | zstd -qc >'$bomb.zst'") == 0 or die;
	for my $kind (qw(gz zst))
	{
		my ($rows, $rejects, $failure) = ingest('a text', 'csv', '{}', slurp_file("$bomb.$kind"));
		like($failure, qr/^54000\|file "in\/f$sources" decompresses to more than 1000 times its size \(.*lakehouse\.max_decompression_ratio/, "a bomb ($kind) fails");
		is($rows . scalar(@$rejects), '0', 'and nothing of it is loaded');
	}
	sql('ALTER SYSTEM SET lakehouse.max_decompression_ratio = 0; SELECT pg_reload_conf()');
	my (undef, $rejects, $failure) = ingest('a text', 'csv', '{"max_decompressed_size": 10000000}', slurp_file("$bomb.gz"));
	like($failure, qr/^54000\|file ".*" decompresses to more than 10000000 bytes \(.*"max_decompressed_size"/, 'a file larger than its source allows fails');
	(undef, $rejects, $failure) = ingest('a text', 'csv', '{}', slurp_file("$bomb.gz"));
	is($failure . "@{ $rejects->[0] }[0, 1, 2]", '1 0 54000', 'without limits it is read: one record, too long');
	sql('ALTER SYSTEM RESET lakehouse.max_decompression_ratio; SELECT pg_reload_conf()');
}
for my $case ([ xz => "\xfd7zXZ\0\0\4" ], [ zip => "PK\3\4rest" ], [ compress => "\x1f\x9d\x90" ])
{
	my ($rows, undef, $failure) = ingest('a text', 'csv', '{}', $case->[1] . 'data');
	like($failure, qr/^0A000\|.*compressed with $case->[0], which cannot be read \(Compress it with gzip/, "$case->[0] is named and refused");
}
is((ingest('a text', 'csv', '{"compression": "none", "encoding": "latin1"}', "PK\3\4x\n"))[0], '{"a": "PK\u0003\u0004x"}', 'compression none: the file as it is');
is((ingest('a text', 'csv', '{}', "BZh9,\n"))[1][0][2], '22P04', 'a text that begins like bzip2 is a text');
like(refusal('a text', 'csv', '{"compression": "gzip"}'), qr/22023: invalid value for option "compression".*"auto" and "none"/s, 'a compression cannot be told');
like(refusal('a text', 'csv', '{"max_decompressed_size": 0}'), qr/22023: invalid value for option "max_decompressed_size"/, 'nor a size of nothing');

# 200 MB (50 MB where that takes long), and the process grows by no more than a few windows
{
	my $line = 'x' x 1000;
	open(my $plain, '>:raw', "$scratch/large") or die $!;
	print $plain "id,filler\n";
	print $plain "$_,$line" . int(rand(1_000_000)) . "\n" for 1 .. 200_000;
	close($plain) or die $!;
	for my $kind (sort keys %packer)
	{
		my $command = ($kind eq 'gzip' || $kind eq 'zstd' ? "cat '$scratch/large'" : "head -c 50000000 '$scratch/large'") . " | $packer{$kind} -1";
		system("$command >'$landing.tmp/large_$kind'") == 0 or die;
		land($landing, "large_$kind");
		my $source = "l_$kind";
		sql("CREATE TABLE $source (id int); SELECT lakehouse.create_source('$source', server => 'landing', target => '$source', format => 'csv', "
			  . "path => 'in/large_$kind', options => '{\"header\": true, \"ignore_extra_columns\": true}')");
		my $out = sql(<<"END");
CREATE TEMP TABLE before AS SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmPeak:\\s*(\\d+)')::bigint AS kb;
SELECT rows > 40000, failed_files FROM lakehouse.run_source('$source');
SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmPeak:\\s*(\\d+)')::bigint - kb FROM before;
END
		my ($result, $grown) = split /\n/, $out;
		is($result, 't|0', "$kind: a large stream is loaded");
		SKIP: {
			skip 'the sanitizer keeps memory that was freed', 1 if ($ENV{LD_PRELOAD} // '') =~ /asan/;
			cmp_ok($grown, '<', 32 * 1024, "$kind: the process grows by less than 32 MB");
		}
		note("$kind: the process grew by $grown kB");
	}
}

# -------------------------------------------------------------------- CSV
{
	my ($rows, $rejects, $failure) = ingest('a int, b int, c text', 'csv', '{"cloudFiles.nullValue": "-", "DELIMITER": ";", "ragged": "permissive", "charset": "latin1", "skipRows": 1}',
		"x\n1;2;3;4\n5\n-;6;\xe9\n7;8;\"x\"y\n;9;\n");
	is($failure . $rows, qq({"a": 1, "b": 2, "c": "3"}\n{"a": 5, "b": null, "c": null}\n{"a": null, "b": 6, "c": "\xc3\xa9"}), 'CSV: other names of options, ragged records');
	is(join(' ', map { "$_->[0]:$_->[2]" } @$rejects), '5:22P04 6:22P02', 'CSV: what is broken stays a reject');
	is(@{ (ingest('a int, b int', 'csv', '{"ragged": "reject"}', "1\n2,3\n4,5,6\n"))[1] }, 2, 'CSV: ragged records are rejects otherwise');
	like(refusal('a int', 'csv', '{"ragged": "drop"}'), qr/22023: invalid value for option "ragged".*"reject" and "permissive"/s, 'CSV: ragged takes two values');
	like(refusal('a int', 'csv', '{"nulValue": ""}'), qr/22023: unrecognized CSV option "nulValue".*Did you mean "null_value"\?/s, 'CSV: a misspelt name of Spark');
	like(refusal('a int', 'csv', '{"nullValue": "", "null_value": "x"}'), qr/22023: options "nullValue" and "null_value" mean the same/, 'CSV: one option under two names');
}

# ------------------------------------------------------------------- text
{
	my $content = "\xef\xbb\xbffirst\r\n\n  \"x\",\\ y\rz \nb\xff\n\xe4\xb8\x96\0\nlast";
	my ($rows, $rejects, $failure) = ingest('value text', 'text', '{}', $content);
	is($rows, qq({"value": "first"}\n{"value": ""}\n{"value": "  \\"x\\",\\\\ y\\rz "}\n{"value": "last"}), 'text: a row for each line, as it stands');
	is_deeply($rejects, [ [ 4, index($content, "b\xff"), '22021', '', "b\xff" ], [ 5, index($content, "\xe4\xb8\x96"), '22021', '', "\xe4\xb8\x96\0" ] ], 'text: bytes that are no text are rejects');
	is((ingest('a int, b text', 'text', '{"column": "b", "encoding": "latin1"}', "\xe9\n"))[0], "{\"a\": null, \"b\": \"\xc3\xa9\"}", 'text: a named column, an encoding');
	is((ingest('d jsonb', 'text', '{}', "{\"a\": [1]}\nnull\n"))[0], qq({"d": {"a": [1]}}\n{"d": null}), 'text: the only column, of any type');
	is((ingest('value text', 'text', '{"lineSep": "||"}', "a\n|b|||c||"))[0], qq({"value": "a\\n|b"}\n{"value": "|c"}), 'text: another end of lines');
	($rows, undef, $failure) = ingest('value text', 'text', '{"wholetext": true}', "\xef\xbb\xbfa\r\nb\n");
	is($failure . $rows, qq({"value": "a\\r\\nb\\n"}), 'text: a row for a whole file');
	is((ingest('value text', 'text', '{"whole_text": true}', ''))[0], '{"value": ""}', 'text: also of an empty one');
	is((ingest('value text', 'text', '{}', ''))[0], '', 'text: which has no lines');
	is((ingest('value text', 'text', '{"whole_text": true}', compress($packer{zstd}, "a\nb")))[0], '{"value": "a\nb"}', 'text: compressed');
	like((ingest('a text, b text', 'text', '{}', "x\n"))[2], qr/^42702\|.*\(Name the column with the option "column"/, 'text: a table with two columns');
	like(refusal('a text', 'text', '{"colum": "a"}'), qr/22023: unrecognized text option "colum".*Did you mean "column"\?/s, 'text: a misspelt option');
	like(refusal('a text', 'text', '{"column": "b"}'), qr/42703: .*names column "b"/, 'text: a column that is not there');
	like(refusal('a text', 'text', '{"line_sep": "123456789"}'), qr/22023: invalid value for option "line_sep"/, 'text: a long separator');
	like(refusal('a text', 'text', '{"whole_text": true, "wholeText": true}'), qr/22023: options "whole(_t|T)ext" and "whole(_t|T)ext" mean the same/, 'text: an option given twice');

	sql("ALTER SYSTEM SET lakehouse.max_record_size = '300kB'; SELECT pg_reload_conf()");
	for my $separator ("\n", '<>', '-+-+')
	{
		my $long = 'x' x (310_000 + int(rand(300_000))) . substr($separator, 0, length($separator) - 1);
		my @lines = ('a', $long, 'b', $long . 'y', 'c');
		($rows, $rejects) = ingest('value text', 'text', $separator eq "\n" ? '{}' : "{\"line_sep\": \"$separator\"}", join($separator, @lines));
		is(join(' ', map { "$_->[0]:$_->[1]:$_->[2]:" . length($_->[4]) } @$rejects),
			'2:' . (1 + length($separator)) . ':54000:65536 4:' . (2 + length($long) + 3 * length($separator)) . ':54000:65536', "text: lines that are too long, separator $separator");
		is(sql("SELECT string_agg(right(value, 1), '' ORDER BY ctid) FROM s$sources WHERE length(value) < 100"), 'abc', "text: and the others, separator $separator");
	}
	is((ingest('value text', 'text', '{"whole_text": true}', compress($packer{gzip}, 'x' x 400_000)))[1][0][2], '54000', 'text: a whole file that is too long');
	is((ingest('value text', 'text', '{"whole_text": true}', substr(compress($packer{gzip}, 'x' x 4_000_000), 0, -4)))[2] =~ /^(\w+)/ ? $1 : '', '22P04', 'text: and cut off as well');
	sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");
}

# what was refused by the table comes back as it was
{
	my $content = "ok||line\none||\"two\"||";
	ingest("value text CHECK (value = 'ok')", 'text', '{"line_sep": "||"}', $content);
	sql("ALTER TABLE s$sources DROP CONSTRAINT s${sources}_value_check");
	is(sql("SELECT replayed FROM lakehouse.replay_rejects('s$sources')"), '2', 'text: rejects are replayed');
	is(sql("SELECT string_agg(value, '||' ORDER BY ctid) || '||' FROM s$sources"), $content, 'text: and are what they were');
	ingest("a int CHECK (a < 2), t text", 'json', '{"multi_line": true}', "[{\"a\": 1},\n{\"a\":\n 2, \"t\": \"x\\ny\"}, {\"a\": 3");
	sql("ALTER TABLE s$sources DROP CONSTRAINT s${sources}_a_check");
	is(sql("SELECT replayed FROM lakehouse.replay_rejects('s$sources')"), '1', 'JSON anywhere: a reject is replayed');
	is(sql("SELECT string_agg(a || coalesce(t, '-'), ' ' ORDER BY a) FROM s$sources"), "1- 2x\ny", 'and the record is whole');
	ingest("content bytea CHECK (length(content) > 3)", 'binary', '{}', 'abc');
	sql("ALTER TABLE s$sources DROP CONSTRAINT s${sources}_content_check");
	is(sql("SELECT replayed FROM lakehouse.replay_rejects('s$sources')") . sql("SELECT count(*) FROM s$sources"), '00', 'binary: a file is not made of its bytes alone');
}

# ----------------------------------------------------------------- binary
{
	my $bytes = join('', map { chr(int(rand(256))) } 1 .. 100_000);
	put('f' . ($sources + 1), $bytes);
	utime(1_700_000_000, 1_700_000_000, "$landing/in/f" . ($sources + 1));
	my ($rows, $rejects, $failure) = read_file('path text, modificationtime timestamptz, length bigint, content bytea, note int DEFAULT 7', 'binary', '{}', 'f' . ($sources + 1));
	is($failure . sql("SELECT path, extract(epoch FROM modificationtime)::bigint, length, length(content), md5(content), note FROM s$sources"),
		"in/f$sources|1700000000|100000|100000|" . sql("SELECT md5(decode('" . unpack('H*', $bytes) . "', 'hex'))") . '|7', 'binary: path, time, length, content');
	my $packed = compress($packer{gzip}, 'x');
	ingest('content bytea', 'binary', '{}', $packed);
	is(sql("SELECT encode(content, 'hex') FROM s$sources"), unpack('H*', $packed), 'binary: compressed files are left as they are');
	is((ingest('path text, length bigint, content bytea', 'binary', '{}', ''))[0], "{\"path\": \"in/f$sources\", \"length\": 0, \"content\": \"\\\\x\"}", 'binary: an empty file');
	sql("ALTER SYSTEM SET lakehouse.max_record_size = '90kB'; SELECT pg_reload_conf()");
	(undef, $rejects) = ingest('content bytea', 'binary', '{}', $bytes);
	is("$rejects->[0][2] $rejects->[0][3] " . length($rejects->[0][4]), '54000 content 65536', 'binary: a file that is too long is a reject');
	is((ingest('length bigint', 'binary', '{}', $bytes))[0], '{"length": 100000}', 'binary: but its length is not');
	sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");
	like(refusal('a int', 'binary', '{}'), qr/42703: .*no column for format "binary".*path text/s, 'binary: a table without any of the columns');
	like(refusal('content text', 'binary', '{}'), qr/42804: column "content" is of type text, but format "binary" fills it with bytea/, 'binary: another type');
	like(refusal('content bytea', 'binary', '{"header": true}'), qr/22023: unrecognized binary option "header"/, 'binary: no options');
}

# ------------------------------------------------- JSON that is not in lines
{
	my $content = "\xef\xbb\xbf[\n  {\"id\": 1,\n   \"name\": \"a\"},\n  {\"id\": 2}, {\"id\":3}\n  ,{\"id\": x},\n"
	  . "  {\"id\": 4, \"name\": {\"a\": [1,\n  2]}},\n  {\"id\": 5,\n   \"name\": \"open},\n  {\"id\": 6},\n"
	  . "  {\"id\": 7, \"name\": [\n    {\"deep\": 1}\n  ,\n  {\"id\": 8}\n  , 9, \"ten\", [11, {\"a\": 1}], null\n]\n"
	  . "{\"id\": 12}{\"id\": 13} junk {\"id\": \"14\"}\n}\n[]\n[{\"id\": 15}";
	my ($rows, $rejects, $failure) = ingest('id int, name text', 'json', '{"multi_line": true}', $content);
	is($failure, '', 'JSON anywhere: the file is read');
	is($rows, <<'END' =~ s/\n\z//r, 'JSON anywhere: rows');
{"id": 1, "name": "a"}
{"id": 2, "name": null}
{"id": 3, "name": null}
{"id": 4, "name": "{\"a\": [1,\n  2]}"}
{"id": 6, "name": null}
{"id": 8, "name": null}
{"id": 12, "name": null}
{"id": 13, "name": null}
{"id": 14, "name": null}
{"id": 15, "name": null}
END
	my $place = sub { my ($raw) = @_; my $at = index($content, $raw); return [ 1 + (substr($content, 0, $at) =~ tr/\n//), $at, '22P02', '', $raw ]; };
	is_deeply($rejects, [
			$place->('{"id": x}'),
			$place->("{\"id\": 5,\n   \"name\": \"open},"),
			$place->("{\"id\": 7, \"name\": [\n    {\"deep\": 1}\n  ,"),
			[ @{ $place->('9, "ten"') }[ 0 .. 3 ], '9' ],
			$place->('"ten"'),
			$place->('[11, {"a": 1}]'),
			[ @{ $place->("null\n]") }[ 0 .. 3 ], 'null' ],
			[ @{ $place->('junk {') }[ 0 .. 3 ], 'junk' ],
			[ @{ $place->("}\n[]") }[ 0 .. 3 ], '}' ],
			[ 1 + ($content =~ tr/\n//), length($content), '22P02', '', '' ] ],
		'JSON anywhere: rejects with line, byte offset and bytes; the end of the array is missing')
	  or diag(explain($rejects));
}
for my $case (
	[ 'objects without anything between', '{"a":1}{"a":2}', "1 2", 0 ],
	[ 'an array on one line', '[{"a":1},{"a":2}]', '1 2', 0 ],
	[ 'an empty array', " [ ]\n", '', 0 ],
	[ 'nothing', "\n \n", '', 0 ],
	[ 'brackets in strings', qq({"a":1,"t":"}]{\\\\"}\n[{"a":2,"t":"\\"{"}]), '1 2', 0 ],
	[ 'a broken record at the end', qq([{"a":1},\n{"a":2,\n]\n), '1', 1 ],
	[ 'a string without end', qq({"a":1,"t":"x}\n{"a":2}\n), '2', 1 ],
	[ 'too deep', '{"a":1,"t":' . '[' x 1200 . ']' x 1200 . '}{"a":2}', '2', 1 ])
{
	my ($what, $content, $expected, $bad) = @$case;
	my ($rows, $rejects, $failure) = ingest('a int', 'json', '{"multiLine": true}', $content);
	is($failure . sql("SELECT string_agg(a::text, ' ' ORDER BY ctid) FROM s$sources") . ' ' . @$rejects, "$expected $bad", "JSON, $what");
}

# random documents: however they are cut into batches, the same comes out
for my $round (1 .. 3)
{
	my ($text, $n, @good, @bad) = ('', 0);
	while (length($text) < 700_000)
	{
		my $array = rand() < 0.5;
		$text .= '[' . ("\n") x int(rand(2)) if $array;
		for (1 .. int(rand($array ? 300 : 30)))
		{
			$n++;
			my $filler = '{\\"x' x int(rand(2)) . 'y' x int(rand(3) ** 6);
			my $record = rand() < 0.5 ? "{\"n\": $n, \"t\": \"$filler\"}" : "{\n    \"n\": $n,\n    \"t\": {\n      \"u\": [\n        {\n          \"v\": \"$filler\"\n        }\n      ]\n    }\n  }";
			my $kind = rand() < 0.97 ? 'good' : (qw(number brace quote))[ rand($record =~ /\n/ ? 2 : 3) ];
			$record =~ s/: $n,/: ${n}x,/ if $kind eq 'number';
			$record =~ s/\}$// if $kind eq 'brace';
			$record =~ s/"t": /"t: / if $kind eq 'quote';
			$text .= "\n" if $text !~ /\n$/ && rand() < 0.5;
			push @bad, [ 1 + ($text =~ tr/\n//), length($text) ] if $kind ne 'good';
			push @good, $n if $kind eq 'good';
			$text .= $record . ($array ? ',' : '') . (rand() < 0.3 ? "\n" : '');
			next if $kind eq 'good';
			# what is not closed ends before the next line that begins a record
			$n++;
			push @good, $n;
			$text .= "\n{\"n\": $n}" . ($array ? ',' : '');
		}
		$text =~ s/,(\n?)$/$1/;
		$text .= "\n]" if $array;
		$text .= "\n";
	}
	my $results = '';
	for my $batch (1_000_000, 1 + int(rand(200)), 1 + int(rand(5000)))
	{
		sql("ALTER SYSTEM SET lakehouse.batch_rows = $batch; SELECT pg_reload_conf()");
		my (undef, $rejects, $failure) = ingest('n int, t text', 'json', '{"multi_line": true}', $text);
		ok($failure . sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM s$sources") eq join(' ', @good), "random JSON $round, batches of $batch: the rows are what was written");
		ok(join(' ', map { "$_->[0]:$_->[1]" } @$rejects) eq join(' ', map { "$_->[0]:$_->[1]" } @bad), "random JSON $round, batches of $batch: the rejects have their places")
		  or diag(join(' ', map { "$_->[0]:$_->[1]" } @$rejects[ 0 .. 9 ]) . "\n" . join(' ', map { "$_->[0]:$_->[1]" } @bad[ 0 .. 9 ]));
	}
}
sql("ALTER SYSTEM RESET lakehouse.batch_rows; ALTER SYSTEM SET lakehouse.max_record_size = '300kB'; SELECT pg_reload_conf()");
{
	my $long = 'x' x 600_000;
	my ($rows, $rejects) = ingest('a int', 'json', '{"multi_line": true}', "[{\"a\":1},\n {\"a\":2,\n\"t\":\"$long}\"}, {\"a\":3},\n{\"a\":4,\"t\":\"$long\n{\"a\":5}]");
	is($rows, qq({"a": 1}\n{"a": 3}\n{"a": 5}), 'JSON anywhere: rows around records that are too long');
	is(join(' ', map { "$_->[0]:$_->[1]:$_->[2]:" . length($_->[4]) } @$rejects), '2:11:54000:65536 4:' . (11 + 600_000 + 27) . ':54000:65536', 'and their rejects');
}
sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");
like(refusal('a int', 'json', '{"multi_line": true, "encoding": "sjis"}'), qr/0A000: option "multi_line" cannot be used with encoding "SJIS"/, 'JSON anywhere: not in an encoding where brackets are parts of characters');

# ------------------------------------------------------------------ paths
{
	my $options = '{"paths": {"city": "$.address.city", "zip": "$[\'address\'][\"zip code\"]", "first": "$.tags[0].name", "third": "$.tags[2]", "whole": "$", "tags": "$.tags", "again": "$.tags"}}' =~ s/\\"/\\\\"/gr =~ s/\\\\"/\\"/gr;
	my ($rows, $rejects, $failure) = ingest('id int, city text, zip int, first text DEFAULT \'none\', third jsonb, whole jsonb, tags text, again jsonb', 'json', $options, <<'END');
{"id": 1, "city": "not this", "address": {"city": "Bonn", "zip code": "53111"}, "tags": [{"name": "a"}, 2, [3]]}
{"id": 2, "address": null, "tags": {"0": 1}}
{"id": 3, "address": {"city": "x"}, "address": {"zip code": null}}
{"id": 4, "addr\u0065ss": {"city": {"a": 1}}}
{"id": 5, "address": {"zip code": "y"}}
{"id": 6, "address": {"city": "z"}} more
END
	is($failure . $rows, <<'END' =~ s/\n\z//r, 'paths: values deep within records');
{"id": 1, "zip": 53111, "city": "Bonn", "tags": "[{\"name\": \"a\"}, 2, [3]]", "again": [{"name": "a"}, 2, [3]], "first": "a", "third": [3], "whole": {"id": 1, "city": "not this", "tags": [{"name": "a"}, 2, [3]], "address": {"city": "Bonn", "zip code": "53111"}}}
{"id": 2, "zip": null, "city": null, "tags": "{\"0\": 1}", "again": {"0": 1}, "first": "none", "third": null, "whole": {"id": 2, "tags": {"0": 1}, "address": null}}
{"id": 3, "zip": null, "city": null, "tags": null, "again": null, "first": "none", "third": null, "whole": {"id": 3, "address": {"zip code": null}}}
{"id": 4, "zip": null, "city": "{\"a\": 1}", "tags": null, "again": null, "first": "none", "third": null, "whole": {"id": 4, "address": {"city": {"a": 1}}}}
END
	is(join(' ', map { "@$_[0, 2, 3]" } @$rejects), '5 22P02 zip 6 22P02 ', 'paths: rejects');
	for my $path ('', 'a', '$.', '$a', '$.a[', '$.a[x]', '$.a[0', '$..a', '$[-1]', '$.a]', '$["a]')
	{
		like(refusal('a int', 'json', '{"paths": {"a": "' . $path =~ s/"/\\"/gr . '"}}'), qr/22023: invalid path "\Q$path\E" for column "a".*Write it as \$\.name/s, "path '$path' is refused");
	}
	like(refusal('a int', 'json', '{"paths": {"b": "$.b"}}'), qr/42703: option "paths" names column "b"/, 'paths: a column that is not there');
	like(refusal('a int, b int GENERATED ALWAYS AS (a) STORED', 'json', '{"paths": {"b": "$.b"}}'), qr/42P10: .*cannot fill/, 'paths: a generated column');
	like(refusal('a int', 'json', '{"paths": ["a"]}'), qr/22023: option "paths" must be an object/, 'paths: no object');
	like(refusal('a int', 'json', '{"path": {}}'), qr/22023: unrecognized JSON option "path".*Did you mean "paths"\?/s, 'paths: misspelt');
}

done_testing();
