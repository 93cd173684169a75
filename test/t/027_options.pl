# Options of formats beyond the usual dialects: longer marks, blanks, quotes that
# were not escaped, notations of times and numbers, wrong bytes, JSON that is none.
# Where PostgreSQL can write a notation itself, what it wrote must come back.
use strict;
use warnings;

use Encode qw(encode);
use FormatTest;
use LakehouseTest;
use Test::More;

seed();
format_node('options');

# places gives rejects as "line:byte offset:SQLSTATE[:column]"
sub places
{
	return join(' ', map { join(':', @{$_}[ 0 .. 2 ], $_->[3] ne '' ? $_->[3] : ()) } @{ $_[0] });
}

# check reads a file and compares rows and rejects
sub check
{
	my ($what, $columns, $format, $options, $content, $expected, $bad) = @_;
	my ($rows, $rejects, $failure) = ingest($columns, $format, $options, $content);
	is($failure . $rows, $expected, "$what: rows");
	is(places($rejects), $bad // '', "$what: rejects");
	return;
}

# ----------------------------------------------------------- marks of CSV
for my $case (
	[ 'a separator of two characters', 'a int, b text', '{"sep": "||"}', qq(1||x|y\n2||"q||""r"""\n3||\n4|5\n), qq({"a": 1, "b": "x|y"}\n{"a": 2, "b": "q||\\"r\\""}\n{"a": 3, "b": null}), '4:25:22P04' ],
	[ 'a separator that is no ASCII', 'a int, b text', '{"delimiter": "\u00a6"}', qq(1\xc2\xa6x\xc2\xa7\n2\xc2\xa6"\xc2\xa6"\n), qq({"a": 1, "b": "x\xc2\xa7"}\n{"a": 2, "b": "\xc2\xa6"}) ],
	[ 'a line end of one character', 'a int, b text', '{"lineSep": ";"}', qq(1,x\ny;2,"a;b"\n;\n3,;4,z), qq({"a": 1, "b": "x\\ny"}\n{"a": 3, "b": null}\n{"a": 4, "b": "z"}), '2:6:22P04 3:11:22P04' ],
	[ 'a line end of three', 'a text, b text', '{"line_sep": "|\r\n", "sep": "|", "header": true, "skip_rows": 1}', "note|x|\r\nb|a|\r\n1|x\n|\r\n2|y|\r\n", qq({"a": "x\\n", "b": "1"}\n{"a": "y", "b": "2"}) ],
	[ 'comments and a long separator', 'a int, b int', '{"sep": "<>", "comment": "#"}', "#1<>2\n3<>4\n#x", '{"a": 3, "b": 4}' ],
	[ 'blanks in front', 'a int, b text', '{"ignoreLeadingWhiteSpace": true}', qq(1,  x \n2,\t" y"\n \t \n3,  \n4, "z" \n), qq({"a": 1, "b": "x "}\n{"a": 2, "b": " y"}\n{"a": 3, "b": null}), '5:24:22P04' ],
	[ 'blanks behind', 'a int, b text', '{"ignore_trailing_white_space": true}', qq(1, x \t\n2,"y " \n3,"z" w\n), qq({"a": 1, "b": " x"}\n{"a": 2, "b": "y "}), '3:15:22P04' ],
	[ 'blanks around a tab', 'a text, b text', '{"sep": "\t", "ignore_leading_white_space": true, "ignore_trailing_white_space": true}', qq( a \t\t\n \t b\n), '{"a": null, "b": "b"}', '1:0:22P04' ],
	[ 'an unescaped quote: reject', 'a text, b text', '{"unescapedQuoteHandling": "RAISE_ERROR"}', qq("x"y,1\n"z",2\n), '{"a": "z", "b": "2"}', '1:0:22P04' ],
	[ 'an unescaped quote: to the separator', 'a text, b text', '{"unescaped_quote_handling": "stop_at_delimiter"}', qq("x,"y,1\n"z""",2\n"a\nb"c,3\n), qq({"a": "\\"x,\\"y", "b": "1"}\n{"a": "z\\"", "b": "2"}\n{"a": "b\\"c", "b": "3"}), '3:16:22P04' ],
	[ 'an unescaped quote: back to the separator', 'a text, b text, c text', '{"unescaped_quote_handling": "BACK_TO_DELIMITER"}', qq("x,z"y,1\n), qq({"a": "\\"x", "b": "z\\"y", "c": "1"}) ],
	[ 'an unescaped quote: to the closing quote', 'a text, b text', '{"unescaped_quote_handling": "STOP_AT_CLOSING_QUOTE"}', qq("x"y"",z",1\n), qq({"a": "x\\"y\\",z", "b": "1"}) ],
	[ 'several null markers', 'a text, b int', '{"nullValue": ["NA", "", "-"]}', qq(NA,1\n"NA",NA\n-,\nNAN,-\n), qq({"a": null, "b": 1}\n{"a": "NA", "b": null}\n{"a": null, "b": null}\n{"a": "NAN", "b": null}) ],
	[ 'long fields', 'a text, b text', '{"max_chars_per_column": 3}', encode('UTF-8', "\x{e4}\x{f6}\x{fc},abc\nabcd,x\ny,abcd\n"), encode('UTF-8', qq({"a": "\x{e4}\x{f6}\x{fc}", "b": "abc"})), '2:11:54000:a 3:18:54000:b' ],
	[ 'options without effect', 'a text', '{"multiLine": false, "enforceSchema": true, "mergeSchema": "false", "locale": "en-US"}', qq("x\ny"\n), '{"a": "x\ny"}' =~ s/\n/\\n/r ])
{
	my ($what, $columns, $options, $content, $rows, $rejects) = @$case;
	check($what, $columns, 'csv', $options, $content, $rows, $rejects);
}

# what cannot be meant is refused
for my $case (
	[ 'csv', '{"sep": "||", "quote": "|"}', qr/22023: options "sep" and "line_sep" must not hold the character "\|"/ ],
	[ 'csv', '{"sep": "|x", "line_sep": "|"}', qr/22023: option "sep" must not begin with/ ],
	[ 'csv', '{"sep": "a\nb"}', qr/22023: invalid value for option "sep".*line_sep/s ],
	[ 'csv', '{"sep": ""}', qr/22023: invalid value for option "sep"/ ],
	[ 'csv', '{"sep": "||", "encoding": "sjis"}', qr/0A000: separators of several bytes/ ],
	[ 'csv', '{"sep": "\u00a6", "encoding": "latin1"}', qr/0A000: option "sep" must be ASCII for files in encoding "LATIN1"/ ],
	[ 'csv', '{"unescaped_quote_handling": "SKIP_VALUE"}', qr/22023: unrecognized value of option "unescaped_quote_handling" "SKIP_VALUE".*RAISE_ERROR/s ],
	[ 'csv', '{"null_value": ["a", 1]}', qr/22023: invalid value for option "null_value"/ ],
	[ 'csv', '{"locale": "de"}', qr/0A000: locale "de" is not known/ ],
	[ 'csv', '{"encoding_errors": "ignore"}', qr/22023: invalid value for option "encoding_errors".*"replace"/s ],
	[ 'csv', '{"time_zone": "Mars/Olympus"}', qr/22023: invalid value for option "time_zone"/ ],
	[ 'csv', '{"date_format": "yyyy-MM-dd", "dateFormat": "y"}', qr/22023: options "\w+" and "\w+" mean the same/ ],
	(map { [ 'json', "{\"timestamp_format\": \"$_->[0]\"}", qr/22023: invalid value for option "timestamp_format".*$_->[1]/s ] }
		[ 'HH:mm', 'it has no year' ], [ 'yyyy-MM-dd G', 'the letter "G" is not known' ], [ 'yyyy-MM-dd hh HH', 'tells something' ],
		[ "yyyy 'T", 'a quote is not closed' ], [ 'yyyy[-MM', 'a bracket is not closed' ], [ 'yyyy]', 'closed that was not opened' ],
		[ 'yyyy DDD MM', 'a day of the year beside' ], [ 'yyyy-MM-ddd', '3 times in a row' ], [ 'yyyy HH a', 'beside AM or PM' ],
		[ 'yyyy V', 'cannot be there 1 times' ], [ 'yyyy#', 'must be in quotes' ]),
	[ 'json', '{"allow_comments": "perhaps"}', qr/22023: invalid value for option "allow_comments"/ ],
	[ 'json', '{"single_variant_column": "b"}', qr/42703: option "single_variant_column" names column "b"/ ],
	[ 'json', '{"single_variant_column": "a"}', qr/42804: .*cannot hold a record/ ],
	[ 'json', '{"single_variant_column": "a", "paths": {}}', qr/22023: .*exclude each other/ ])
{
	my ($format, $options, $expected) = @$case;
	like(refusal('a text', $format, $options), $expected, "$format options $options are refused");
}

# a record that is too long, in parts, with marks that lie across the windows
sql("ALTER SYSTEM SET lakehouse.max_record_size = '100kB'; SELECT pg_reload_conf()");
for my $extra (0 .. 3)
{
	my $long = 'x' x (65_530 + $extra);
	my $content = "1||a|;\n2||\"$long$long|;\n\"|;\n3||b|;\n4||\"$long|;\n$long||c|;\n5||d|;\n";
	check("records that are too long ($extra)", 'id int, name text', 'csv', '{"sep": "||", "line_sep": "|;\n"}', $content,
		join("\n", map { "{\"id\": $_->[0], \"name\": \"$_->[1]\"}" } [ 1, 'a' ], [ 3, 'b' ], [ 5, 'd' ]),
		'2:7:54000 5:' . index($content, '4||') . ':22P04 6:' . (index($content, '4||') + 7 + length($long)) . ':22P02:id');
}
sql("ALTER SYSTEM RESET lakehouse.max_record_size; SELECT pg_reload_conf()");

# the slow scanner finds what the fast one finds, in whatever parts
for my $round (1 .. 3)
{
	my @alphabet = ('a', '1', ' ', ',', ',', "\n", '"', '""', '"b"', "\xc3\xa4", ',"', '",', "\"\n");
	my $content = join('', map { $alphabet[ int(rand(@alphabet)) ] } 1 .. 3_000) . "\n";
	sql('ALTER SYSTEM SET lakehouse.batch_rows = ' . (50 + int(rand(400))) . '; SELECT pg_reload_conf()');
	my ($rows, $rejects) = ingest('a text, b text', 'csv', '{"ragged": "permissive"}', $content);
	my ($slow_rows, $slow_rejects) = ingest('a text, b text', 'csv', '{"ragged": "permissive", "line_sep": "\n"}', $content);
	cmp_ok(length($rows), '>', 1000, "random CSV $round: many rows");
	ok($rows eq $slow_rows, "random CSV $round: the same rows with a line end that is told");
	is_deeply($slow_rejects, $rejects, "random CSV $round: and rejects");
}
sql('ALTER SYSTEM RESET lakehouse.batch_rows; SELECT pg_reload_conf()');

# a replay reads with the same marks
{
	ingest('a int, b text', 'csv', '{"sep": "||", "line_sep": ";", "null_value": ["NA", ""]}', "1||x;y||z\n;NA||w;");
	sql("ALTER TABLE s$sources ALTER a TYPE text");
	is(sql("SELECT * FROM lakehouse.replay_rejects('s$sources')"), '1|0|0|1', 'long marks: a reject is replayed');
	is(sql("SELECT string_agg(coalesce(a, '-') || b, '|' ORDER BY ctid) FROM s$sources"), "1x|-w|yz\n", 'and is what it was');
}

# --------------------------------------------------------------- times
# the pattern, what PostgreSQL's to_char calls it, and what of a time it keeps
my @patterns = (
	[ 'yyyy-MM-dd HH:mm:ss.SSSSSS', 'YYYY-MM-DD HH24:MI:SS.US', 'microseconds' ],
	[ 'yyyy-MM-dd\'T\'HH:mm:ss[.SSS]', 'YYYY-MM-DD"T"HH24:MI:SS.MS', 'milliseconds' ],
	[ 'dd.MM.yyyy H:mm', 'DD.MM.YYYY FMHH24:FMMI', undef ],
	[ 'd/M/yyyy h:mm:ss a', 'FMDD/FMMM/YYYY FMHH12:MI:SS AM', 'second' ],
	[ 'EEEE, d MMMM yyyy HH:mm:ss', 'FMDay, FMDD FMMonth YYYY HH24:MI:SS', 'second' ],
	[ 'EEE MMM dd HH:mm:ss yyyy', 'Dy Mon DD HH24:MI:SS YYYY', 'second' ],
	[ 'yyyyMMddHHmmssSSS', 'YYYYMMDDHH24MISSMS', 'milliseconds' ],
	[ 'yyyyDDD kk:mm', undef, undef ],
	[ 'yy-MM-dd HH', 'YY-MM-DD HH24', 'hour' ],
	[ '[yyyy-MM-dd][dd.MM.yyyy] [HH:mm:ss]', 'DD.MM.YYYY HH24:MI:SS', 'second' ],
	[ '[dd.MM.yyyy][yyyy-MM-dd] [HH:mm:ss]', 'YYYY-MM-DD HH24:MI:SS', 'second' ],
	[ 'yyyy/MM/dd HH:mm:ss.SSSSSS XXX', 'YYYY/MM/DD HH24:MI:SS.US TZH:TZM', 'microseconds' ],
	[ 'yyyy/MM/dd HH:mm:ss xx', 'YYYY/MM/DD HH24:MI:SS TZHTZM', 'second' ],
	[ 'yyyy/MM/dd HH:mm:ssX', 'YYYY/MM/DD HH24:MI:SSTZH', 'second' ]);

# files that PostgreSQL wrote come back as what they were
my $pid = 0;
for my $pattern (@patterns)
{
	my ($spark, $format, $unit) = @$pattern;
	next unless defined $format;
	$unit //= 'minute' if $spark eq 'dd.MM.yyyy H:mm';
	$format =~ s/FMMI/MI/;
	my $zone = $spark =~ /X|x/ ? 'Asia/Kolkata' : 'Europe/Berlin';
	$zone = 'Etc/GMT-3' if $spark =~ /ssX/;
	my $name = 't' . ++$pid;
	sql("SET timezone = '$zone'; CREATE TABLE $name AS SELECT i AS id, date_trunc('$unit', timestamptz '2000-01-01 00:00:00Z' + random() * interval '90 years') AS at FROM generate_series(1, 500) i;"
		  . " COPY (SELECT id, to_char(at, '$format') FROM $name) TO '$landing.tmp/$name.csv' (FORMAT csv, DELIMITER '|')");
	land($landing, "$name.csv");
	my ($rows, $rejects, $failure) = read_file('id int, at timestamptz, local timestamp, day date, word text', 'csv',
		qq({"sep": "|", "timestampFormat": "$spark", "timeZone": "$zone", "ragged": "permissive"}), "$name.csv");
	is($failure . scalar(@$rejects), '0', "pattern $spark: nothing is refused");
	# an hour that is there twice when clocks go back is taken as PostgreSQL takes it
	is(sql("SET timezone = '$zone'; SELECT count(*), count(*) FILTER (WHERE s.at IS DISTINCT FROM t.at"
			  . ($spark =~ /[Xx]/ ? '' : " AND s.at IS DISTINCT FROM (t.at::timestamp)::timestamptz") . ") FROM s$sources s JOIN $name t USING (id)"),
		'500|0', "pattern $spark: the times are those that were written");
	read_file('id int, at timestamp', 'csv', qq({"sep": "|", "timestamp_format": "$spark"}), "$name.csv");
	is(sql("SET timezone = '$zone'; SELECT count(*) FILTER (WHERE s.at = t.at::timestamp) FROM s$sources s JOIN $name t USING (id)"), '500', "pattern $spark: and without a zone");
	read_file('id int, at date', 'csv', qq({"sep": "|", "date_format": "$spark"}), "$name.csv");
	is(sql("SET timezone = '$zone'; SELECT count(*) FILTER (WHERE s.at = t.at::date) FROM s$sources s JOIN $name t USING (id)"), '500', "pattern $spark: and days");
}

# single texts: the pattern, the text, what it means at UTC or which error it is
for my $case (
	[ 'yyyy-MM-dd', '2024-02-29', '2024-02-29 00:00:00' ],
	[ 'yyyy-MM-dd', '2023-02-29', '22008' ],
	[ 'yyyy-MM-dd', '2024-13-01', '22008' ],
	[ 'yyyy-MM-dd', '24-01-01', '22007' ],
	[ 'yyyy-MM-dd', '2024-1-01', '22007' ],
	[ 'yyyy-MM-dd', '2024-01-01 ', '22007' ],
	[ 'yyyy-MM-dd', 'infinity', '22007' ],
	[ 'yyyy-MM-dd', '0000-01-01', '22008' ],
	[ 'y-M-d', '7-1-2', '0007-01-02 00:00:00' ],
	[ 'yMMdd', '20240102', '2024-01-02 00:00:00' ],
	[ 'yyyy', '2024', '2024-01-01 00:00:00' ],
	[ 'yyyy-DDD', '2024-366', '2024-12-31 00:00:00' ],
	[ 'yyyy-DDD', '2023-366', '22008' ],
	[ 'yy.M.d', '69.1.1', '2069-01-01 00:00:00' ],
	[ 'EEE yyyy-MM-dd', 'Mon 2024-01-01', '2024-01-01 00:00:00' ],
	[ 'EEE yyyy-MM-dd', 'Tue 2024-01-01', '22008' ],
	[ 'dd-MMM-yyyy', '01-JAN-2024', '2024-01-01 00:00:00' ],
	[ 'dd-MMM-yyyy', '01-Foo-2024', '22007' ],
	[ 'yyyy-MM-dd hh a', '2024-01-01 12 am', '2024-01-01 00:00:00' ],
	[ 'yyyy-MM-dd hh a', '2024-01-01 12 PM', '2024-01-01 12:00:00' ],
	[ 'yyyy-MM-dd hh a', '2024-01-01 13 PM', '22007' ],
	[ 'yyyy-MM-dd KK a', '2024-01-01 00 PM', '2024-01-01 12:00:00' ],
	[ 'yyyy-MM-dd kk:mm', '2024-01-01 24:30', '2024-01-01 00:30:00' ],
	[ 'yyyy-MM-dd HH:mm', '2024-01-01 24:00', '22007' ],
	[ 'yyyy-MM-dd HH:mm:ss', '2024-01-01 00:00:60', '22007' ],
	[ "yyyy-MM-dd 'o''clock' HH", "2024-01-01 o'clock 07", '2024-01-01 07:00:00' ],
	[ "yyyy''MM", "2024'05", '2024-05-01 00:00:00' ],
	[ 'yyyy-MM-dd HH:mm:ss.SSSSSSSSS', '2024-01-01 00:00:00.123456789', '2024-01-01 00:00:00.123457' ],
	[ 'yyyy-MM-dd HH:mm:ss.SSS', '2024-01-01 00:00:00.1', '2024-01-01 00:00:00.1' ],
	[ 'yyyy-MM-dd HH:mm:ss.SSS', '2024-01-01 00:00:00.1234', '22007' ],
	[ 'yyyy-MM-dd HH:mm:ss.SSSSSSSSS', '2024-12-31 23:59:59.9999999', '2025-01-01 00:00:00' ],
	[ "yyyy-MM-dd'T'HH:mm:ssXXX", '2024-01-01T00:00:00Z', '2024-01-01 00:00:00' ],
	[ "yyyy-MM-dd'T'HH:mm:ssXXX", '2024-01-01T00:00:00+05:30', '2023-12-31 18:30:00' ],
	[ "yyyy-MM-dd'T'HH:mm:ssXXX", '2024-01-01T00:00:00+0530', '22007' ],
	[ "yyyy-MM-dd'T'HH:mm:ssXX", '2024-01-01T00:00:00-0130', '2024-01-01 01:30:00' ],
	[ "yyyy-MM-dd'T'HH:mm:ssX", '2024-01-01T00:00:00-01', '2024-01-01 01:00:00' ],
	[ "yyyy-MM-dd'T'HH:mm:ssX", '2024-01-01T00:00:00-0130', '2024-01-01 01:30:00' ],
	[ "yyyy-MM-dd'T'HH:mm:ssxxx", '2024-01-01T00:00:00Z', '22007' ],
	[ "yyyy-MM-dd'T'HH:mm:ssXXXXX", '2024-01-01T00:00:00+01:00:30', '2023-12-31 22:59:30' ],
	[ 'yyyy-MM-dd HH:mm Z', '2024-01-01 00:00 +0100', '2023-12-31 23:00:00' ],
	[ 'yyyy-MM-dd HH:mm VV', '2024-07-01 00:00 America/New_York', '2024-07-01 04:00:00' ],
	[ 'yyyy-MM-dd HH:mm VV', '2024-07-01 00:00 UTC', '2024-07-01 00:00:00' ],
	[ 'yyyy-MM-dd HH:mm VV', '2024-07-01 00:00 +02:00', '2024-06-30 22:00:00' ],
	[ 'yyyy-MM-dd HH:mm VV', '2024-07-01 00:00 Europe/Atlantis', '22007' ],
	[ 'yyyy-MM-dd HH:mm VV', '2024-07-01 00:00 Europe/Atlantis5', '22007' ],
	[ 'yyyy-MM-dd[ HH:mm[:ss]]', '2024-07-01 10:11', '2024-07-01 10:11:00' ],
	[ 'yyyy-MM-dd[ HH:mm[:ss]]', '2024-07-01 10:11:', '22007' ],
	[ '[yyyy-MM-dd][ dd.MM.yyyy]', '2024-01-02 02.01.2024', '2024-01-02 00:00:00' ],
	[ '[yyyy-MM-dd][ dd.MM.yyyy]', '2024-01-02 03.01.2024', '22007' ],
	[ '[yyyy-MM-dd][dd.MM.yyyy]', '', '22008' ],
	[ 'yyyyyy-MM-dd', '294276-12-31', '294276-12-31 00:00:00' ],
	[ 'yyyyyy-MM-dd', '294277-01-01', '22008' ])
{
	my ($pattern, $text, $expected) = @$case;
	my $options = qq({"timestamp_format": "$pattern"});
	my ($rows, $rejects, $failure) = ingest('a timestamptz', 'json', $options, "{\"a\": \"$text\"}\n");
	my $got = @$rejects ? $rejects->[0][2] : sql("SET timezone = 'UTC'; SELECT a::timestamp FROM s$sources");
	is($failure . $got, $expected, "pattern $pattern, text $text");
}

# columns that are not plain ones
check('domains, precision, arrays and rows', 'a dd, b timestamp(0), c date[], d pair', 'json', '{"date_format": "dd.MM.yyyy", "timestamp_format": "yyyy-MM-dd HH:mm:ss.SSS"}',
	qq({"a": "02.01.2024", "b": "2024-01-01 00:00:00.600", "c": ["01.01.2024", null], "d": {"x": "31.12.2023"}}\n{"a": "02.01.1999"}\n{"c": ["2024-01-01"]}\n),
	'{"a": "2024-01-02", "b": "2024-01-01T00:00:01", "c": ["2024-01-01", null], "d": {"x": "2023-12-31", "y": null}}', '2:105:23514:a 3:125:22007:c')
  if sql("CREATE DOMAIN dd AS date CHECK (VALUE > '2000-01-01'); CREATE TYPE pair AS (x date, y int)") eq '';
check('a zone for times without one', 'a timestamptz, b timestamp', 'csv', '{"time_zone": "Asia/Kolkata"}', "2024-01-01 05:30:00,2024-01-01 05:30:00\n2024-01-01 05:30:00Z,\n",
	qq({"a": "2024-01-01T00:00:00+00:00", "b": "2024-01-01T05:30:00"}\n{"a": "2024-01-01T05:30:00+00:00", "b": null}))
  if sql("ALTER DATABASE postgres SET timezone = 'UTC'") eq '';
check('numbers that are none', 'a float8, b real, c numeric', 'csv', '{"nanValue": "n/a", "positiveInf": "+oo", "negativeInf": "-oo"}', "n/a,+oo,-oo\n-oo,n/a,1\nNaN,Infinity,x\n",
	qq({"a": "NaN", "b": "Infinity", "c": "-Infinity"}\n{"a": "-Infinity", "b": "NaN", "c": 1}), '3:22:22P02:c');

# ---------------------------------------------------------- wrong bytes
{
	my $wrong = join('', map { my $i = $_; map { "$i,<" . pack('H*', $_) . ">\n" } qw(ff c328 e28228 f09f9828 eda080 c3 f8888080 00 e4bd) } 1 .. 2);
	my (undef, $rejects) = ingest('a int, b text', 'csv', '{}', $wrong);
	is(scalar(@$rejects), 18, 'wrong bytes are rejects');
	my ($rows, $none) = ingest('a int, b text', 'csv', '{"encoding_errors": "replace"}', $wrong);
	# one for each longest beginning of a character
	my @replaced = ('#', '#(', '#(', '#(', '###', '#', '####', '#', '#');
	my $expected = join("\n", map { my $i = $_; map { "{\"a\": $i, \"b\": \"<$_>\"}" =~ s/#/\xef\xbf\xbd/gr } @replaced } 1 .. 2);
	is($rows, $expected, 'or replaced, as others do it');
	is(scalar(@$none), 0, 'and then none is a reject');
	check('wrong bytes in JSON', 'a text', 'json', '{"encodingErrors": "replace"}', "{\"a\": \"x\xff\"}\n", qq({"a": "x\xef\xbf\xbd"}));
	check('wrong bytes in text', 'value text', 'text', '{"encoding_errors": "replace"}', "\xfex\n", qq({"value": "\xef\xbf\xbdx"}));
	check('wrong bytes of another encoding', 'a text', 'csv', '{"encoding": "EUC_JP", "encoding_errors": "replace"}', "\xa4\xa2\xa4\n", qq({"a": "\xe3\x81\x82\xef\xbf\xbd"}));
}

# --------------------------------------------------------- JSON and more
for my $case (
	[ 'comments', '{"allowComments": true}', "// one\n{\"a\": /* two */ 1} // three\n  /* four */\n{\"b\": \"// no /* comment\"}\n{\"a\": 2 / 3}\n", qq({"a": 1, "b": null}\n{"a": null, "b": "// no /* comment"}), '5:74:22P02' ],
	[ 'single quotes', '{"allow_single_quotes": true}', qq({'a': 1, 'b': 'it''s'}\n{'b': 'it\\'s "so"', "a": 2}\n), qq({"a": 2, "b": "it's \\"so\\""}), '1:0:22P02' ],
	[ 'bare keys', '{"allow_unquoted_field_names": true}', qq({a: 1, b: "x"}\n{b : true, \$c-d: null}\n{a: b}\n), qq({"a": 1, "b": "x"}\n{"a": null, "b": "true"}), '3:38:22P02' ],
	[ 'leading zeros', '{"allow_numeric_leading_zeros": true}', qq({"a": 007, "b": -00.50}\n{"a": 0, "b": 0e1}\n), qq({"a": 7, "b": "-0.50"}\n{"a": 0, "b": "0e1"}) ],
	[ 'any escape', '{"allow_backslash_escaping_any_character": true}', qq({"b": "\\q\\u00e4\\n\\'"}\n), qq({"a": null, "b": "q\xc3\xa4\\n'"}) ],
	[ 'control characters', '{"allow_unquoted_control_chars": true}', qq({"b": "x\ty\x01"}\n), qq({"a": null, "b": "x\\ty\\u0001"}) ],
	[ 'numbers that are none', '{"allow_non_numeric_numbers": true}', qq({"b": [NaN, -INF, +Infinity, "NaN"]}\n{"b": Nan}\n), qq({"a": null, "b": "[\\"NaN\\", \\"-Infinity\\", \\"Infinity\\", \\"NaN\\"]"}), '2:37:22P02' ],
	[ 'all of it over several lines', '{"multi_line": true, "allow_comments": true, "allow_single_quotes": true, "allow_unquoted_field_names": true}',
		"/* { */ [\n{a: 1, // }\n 'b': '}'},\n// x\n{a: 2,\n b: '\"'}]\n// end", qq({"a": 1, "b": "}"}\n{"a": 2, "b": "\\""}) ],
	[ 'a broken one among others', '{"multi_line": true, "allow_single_quotes": true}', "{'a': 1}\n{'b': 'x}\n{'a': 2}\n{\"a\": \n{'a': 3}\n", qq({"a": 1, "b": null}\n{"a": 2, "b": null}\n{"a": 3, "b": null}), '2:9:22P02 4:28:22P02' ])
{
	my ($what, $options, $content, $rows, $rejects) = @$case;
	check("JSON with $what", 'a int, b text', 'json', $options, $content, $rows, $rejects);
}
check('JSON floats that are none', 'a float8', 'json', '{"allow_non_numeric_numbers": true}', "{\"a\": NaN}\n{\"a\": -INF}\n", qq({"a": "NaN"}\n{"a": "-Infinity"}));

# a document that is written in all these ways is the one that was written in JSON
{
	my $all = '"allow_comments": true, "allow_single_quotes": true, "allow_unquoted_field_names": true, "allow_numeric_leading_zeros": true, "allow_backslash_escaping_any_character": true';
	my (@strict, @lax);
	my @strings = ('', 'x', "it's", '"', '\\', '// no', '/* no */', '{', ']', "\x{e4}", 'null', "a\nb");
	my $string = sub {
		my ($text) = @_;
		my $plain = join('', map { /["\\]/ ? "\\$_" : $_ eq "\n" ? '\\n' : $_ } split //, $text);
		my $odd = rand() < 0.5 ? "\"$plain\"" : "'" . ($plain =~ s/\\"/"/gr =~ s/'/\\'/gr) . "'";
		$odd =~ s/x/\\x/ if rand() < 0.3;
		return ("\"$plain\"", $odd);
	};
	my $gap = sub { return (' ', '', ' /* { " */ ', "\t")[ int(rand(4)) ] };
	my $value;
	$value = sub {
		my ($depth) = @_;
		my $kind = int(rand($depth > 3 ? 3 : 5));
		return $string->($strings[ int(rand(@strings)) ]) if $kind == 0;
		if ($kind == 1)
		{
			my $number = (int(rand(2000)) - 1000) . (rand() < 0.3 ? '.5' : '');
			return ($number, $number =~ s/^(-?)/$1 . '0' x int(rand(3))/er);
		}
		return (map { ($_, $_) } (qw(true false null))[ int(rand(3)) ]) if $kind == 2;
		my (@plain, @odd);
		for my $i (1 .. int(rand(4)))
		{
			my ($p, $o) = $value->($depth + 1);
			my ($key_plain, $key_odd) = $kind == 3 ? $string->("k$i") : ('', '');
			$key_odd = "k$i" if $kind == 3 && rand() < 0.5;
			push @plain, $kind == 3 ? "$key_plain: $p" : $p;
			push @odd, $gap->() . ($kind == 3 ? $key_odd . $gap->() . ':' . $gap->() . $o : $o) . $gap->();
		}
		return $kind == 3 ? ('{' . join(',', @plain) . '}', '{' . join(',', @odd) . '}') : ('[' . join(',', @plain) . ']', '[' . join(',', @odd) . ']');
	};
	for my $i (1 .. 300)
	{
		my ($p, $o) = $value->(0);
		push @strict, "{\"n\": $i, \"v\": $p}";
		push @lax, $gap->() . "{n: $i," . $gap->() . "'v': $o}" . $gap->();
	}
	my ($rows) = ingest('j jsonb', 'json', '{"single_variant_column": "j"}', encode('UTF-8', join("\n", @strict)));
	is(scalar(split(/\n/, $rows)), 300, 'random documents: JSON');
	for my $multi ('false', 'true')
	{
		my ($odd, $rejects) = ingest('j jsonb', 'json', "{\"single_variant_column\": \"j\", \"multi_line\": $multi, $all}", encode('UTF-8', join("\n", @lax)));
		is(places($rejects), '', "random documents, multi_line $multi: none is refused");
		ok($odd eq $rows, "random documents, multi_line $multi: the same, however they are written");
	}
}

# whole records in one column
check('a column for whole records', 'v jsonb, a int', 'json', '{"singleVariantColumn": "v"}', qq({"a": 1, "b": [1e2]}\n[1]\n"x"\n{"a": "\\u0000"}\n{"a"\n),
	qq({"a": null, "v": {"a": 1, "b": [100]}}\n{"a": null, "v": [1]}\n{"a": null, "v": "x"}), '4:29:22P05:v 5:45:22P02:v');

# ----------------------------------------------------------- inference
sub inferred
{
	my ($format, $options, $content) = @_;
	my $name = 'i' . ++$pid;
	put($name, $content);
	return sql("SELECT string_agg(column_name || ' ' || type, ', ') FROM lakehouse.infer_schema('landing', 'in/$name', '$format', \$o\$$options\$o\$)");
}
my $json = qq({"a": 1, "b": 1.5, "c": "2024-01-01", "d": null, "e": [], "f": {"x": 1}, "g": "2024-01-01T00:00:00Z"}\n{"a": 2, "b": 2, "c": "2024-01-02"}\n);
is(inferred('json', '{}', $json), 'a bigint, b double precision, c date, d text, e jsonb, f jsonb, g timestamp with time zone', 'JSON as it is');
is(inferred('json', '{"primitivesAsString": true}', $json), 'a text, b text, c text, d text, e jsonb, f jsonb, g text', 'primitives as strings');
is(inferred('json', '{"prefers_decimal": true, "infer_timestamp": false}', $json), 'a bigint, b numeric, c text, d text, e jsonb, f jsonb, g text', 'decimals, and no times');
is(inferred('json', '{"drop_field_if_all_null": true}', $json), 'a bigint, b double precision, c date, f jsonb, g timestamp with time zone', 'without fields that are empty');
is(inferred('json', '{"single_variant_column": "v"}', $json), 'v jsonb', 'one column');
is(inferred('csv', '{"header": true, "date_format": "dd.MM.yyyy", "timestamp_format": "dd.MM.yyyy HH:mm", "nan_value": "-"}', "a,b,c,d\n01.02.2024,01.02.2024 10:00,1,2024-01-01\n02.02.2024,02.02.2024 10:00,-,2024-01-01\n"),
	'a date, b timestamp with time zone, c double precision, d text', 'CSV with notations of its own');
is(inferred('csv', '{"header": true, "prefer_date": false, "sep": "::"}', "a::b\n2024-01-01::2\n"), 'a timestamp with time zone, b bigint', 'days as times; a long separator');
# compressed files tell the same, with the same evidence
for my $command ('gzip -nc', 'zstd -qc', 'lz4 -qc', 'bzip2 -c')
{
	my $plain = "a,b\n" . join('', map { "$_,2024-01-0" . (1 + $_ % 9) . "\n" } 1 .. 500) . "x,\n";
	put('packed', $plain);
	system("$command <'$landing/in/packed' >'$landing.tmp/packed.z'") == 0 or die;
	land($landing, 'packed.z');
	my $evidence = q{SELECT jsonb_agg(to_jsonb(x)) FROM lakehouse.infer_schema('landing', 'in/%s', 'csv', '{"header": true}') x};
	is(sql(sprintf($evidence, 'packed.z')), sql(sprintf($evidence, 'packed')), "$command: what is inferred");
	like(sql(sprintf($evidence, 'packed.z')), qr/"rows_seen": 501/, "$command: from all records");
}
is(inferred('text', '{}', "x\n"), 'value text', 'text has one column');
is(inferred('text', '{"column": "line"}', "x\n"), 'line text', 'of a name that is told');
is(inferred('binary', '{}', "x\n"), 'path text, modification_time timestamp with time zone, length bigint, content bytea', 'binary has these');
like(refusal('a text', 'text', '{"column": "b"}'), qr/42703/, 'a column that is not there is an error as before');
for my $format (qw(text binary))
{
	put("made_$format", "x\ny\n");
	sql("SELECT lakehouse.create_source('made_$format', server => 'landing', target => 'public.made_$format', format => '$format', path => 'in/made_$format'); SELECT lakehouse.run_source('made_$format')");
}
is(sql("SELECT string_agg(value, ' ' ORDER BY value) FROM made_text") . sql("SELECT path, length, convert_from(content, 'UTF8') FROM made_binary"), "x yin/made_binary|4|x\ny\n", 'tables are made for both');
is(sql("SELECT count(*) FILTER (WHERE ok IS FALSE) FROM lakehouse.verify()"), '0', 'verify() finds nothing');

done_testing();
