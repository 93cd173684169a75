# Files at the edges: written while they are looked at, cut to nothing after they
# were loaded, moved in and out, copied under another name, written anew under
# the same one; empty ones, those of one line or of thousands of columns, every
# line end; headers that are another from file to file.
use strict;
use warnings;

use Encode qw(encode);
use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $node = lakehouse_node('edges');
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub put
{
	my ($name, $content, $mtime) = @_;
	open(my $file, '>:raw', "$landing.tmp/$name") or die "$name: $!";
	print $file $content;
	close($file) or die "$name: $!";
	utime($mtime, $mtime, "$landing.tmp/$name") if $mtime;
	land($landing, $name);
	return;
}

sub source
{
	my ($name, $columns, $path, $options, $rest) = @_;
	sql("CREATE TABLE $name ($columns)");
	sql("SELECT lakehouse.create_source('$name', server => 'landing', target => '$name', path => '$path', options => \$o\$$options\$o\$"
		  . ($rest // '') . ')');
	return;
}

sub rows { return sql("SELECT (to_jsonb(t) - '_load_id')::text FROM $_[0] t ORDER BY 1") }

sub state
{
	return sql("SELECT state, rows, rejected, coalesce(sqlstate, '') FROM lakehouse.file_status WHERE path = 'in/$_[0]' AND ended IS NULL");
}

# ---- C1: a row every 20 ms, in place; the time that it rests is longer than that
source('slow', 'n int, v text', 'in/slow*.csv', '{"header": true, "settle_ms": 700}', ", trigger => 'continuous'");
{
	open(my $file, '>:raw', "$landing/in/slow.csv") or die $!;
	$file->autoflush(1);
	print $file "n,v\n";
	my $early = 0;
	for my $n (1 .. 60)
	{
		# torn between two writes, as a buffer of a writer is
		print $file "$n,\"row";
		usleep(10_000);
		print $file " $n\"\n";
		usleep(10_000);
		$early += sql('SELECT count(*) FROM slow') if $n % 20 == 0;
	}
	close($file);
	is($early, '0', 'nothing of a file that is being written is loaded');
	ok(poll_value($node, 'SELECT count(*) FROM slow', '60'), 'all of it is when it rests');
	is(sql("SELECT count(*) FILTER (WHERE v = 'row ' || n), (SELECT count(*) FROM lakehouse.load_status WHERE source = 'slow') FROM slow"),
		'60|1', 'whole, in one load');
	is(state('slow.csv'), 'loaded|60|0|', 'and no record of it was broken');
}
sql("SELECT lakehouse.alter_source('slow', trigger => 'available_now')");

# ---- C4: cut to nothing after it was loaded
for my $policy (qw(ignore tail append_again))
{
	source("cut_$policy", 'n int', "in/cut_$policy.csv", "{\"on_change\": \"$policy\"}");
	put("cut_$policy.csv", "1\n2\n", 1_000_000);
	sql("SELECT lakehouse.run_source('cut_$policy')");
	put("cut_$policy.csv", '', 2_000_000);
	sql("SELECT lakehouse.run_source('cut_$policy')");
	is(sql("SELECT count(*) FROM cut_$policy"), '2', "$policy: a file that is cut to nothing takes no rows with it");
	is(state("cut_$policy.csv"), $policy eq 'append_again' ? 'loaded|0|0|' : 'changed|2|0|55000', "$policy: its state tells");
}

# ---- C6: the path is the identity
source('same', 'n int', 'in/same*.csv', '{}');
put('same1.csv', "1\n2\n");
put('same2.csv', "1\n2\n");
sql("SELECT lakehouse.run_source('same')");
is(sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM same"), '1,1,2,2', 'the same content under another name is another file');
is(sql("SELECT count(DISTINCT hash) FROM lakehouse.file_status WHERE source = 'same'"), '1', 'whose hash shows it');
rename("$landing/in/same2.csv", "$landing/in/same3.csv") or die $!;
sql("SELECT lakehouse.run_source('same')");
is(sql('SELECT count(*) FROM same'), '6', 'and so is a file that gets another name');
unlink("$landing/in/same1.csv") or die $!;
sql("SELECT lakehouse.run_source('same')");
put('same1.csv', "9\n", 1_000_000);
sql("SELECT lakehouse.run_source('same')");
is(sql('SELECT count(*) FROM same WHERE n = 9'), '0', 'a name that comes again with other content was loaded before');
is(state('same1.csv'), 'changed|2|0|55000', 'and shows that it changed');

# ---- C5: files that are moved in and out all the time
source('moved', 'file text, n int', 'in/moved*.csv', '{"settle_ms": 0, "workers": 2}', ", trigger => 'continuous'");
{
	my %state;
	for my $round (1 .. 150)
	{
		my $i = int(rand(20));
		my ($here, $there) = ("$landing/in/moved$i.csv", "$landing.tmp/moved$i.csv");
		if (!$state{$i})
		{
			put("moved$i.csv", join('', map { "moved$i,$_\n" } 1 .. 30), 1_000_000 + $i);
			$state{$i} = 'here';
		}
		elsif ($state{$i} eq 'here')
		{
			rename($here, $there) or die $!;
			$state{$i} = 'away';
		}
		else
		{
			rename($there, $here) or die $!;
			$state{$i} = 'here';
		}
		usleep(int(rand(8_000)));
	}
	for my $i (keys %state)
	{
		rename("$landing.tmp/moved$i.csv", "$landing/in/moved$i.csv") or die $! if $state{$i} eq 'away';
	}
	my $count = keys %state;
	ok(poll_value($node, "SELECT count(*) FROM lakehouse.file_status WHERE source = 'moved' AND state = 'loaded'", $count),
		'files that come and go are loaded');
	is(sql('SELECT count(*) = ' . 30 * $count . ', count(DISTINCT (file, n)) = ' . 30 * $count . ' FROM moved'), 't|t', 'each once');
}
sql("SELECT lakehouse.alter_source('moved', trigger => 'available_now')");

# ---- C12: sizes, widths, line ends
source('edge', 'a int, b text', 'in/edge*.csv', '{"header": true, "ignore_extra_columns": true}');
my %edge = (
	'nothing' => [ '', 0 ],
	'line_ends' => [ "\n\r\n\n", 0 ],
	'header' => [ 'a,b', 0 ],
	'header_line' => [ "a,b\r\n", 0 ],
	'mark' => [ "\xef\xbb\xbf", 0 ],
	'mark_header' => [ "\xef\xbb\xbfa,b\n1,x\n", 1 ],
	'no_end' => [ "a,b\n1,x\n2,y", 2 ],
	'cr' => [ "a,b\r1,x\r2,y\r", 2 ],
	'crlf' => [ "a,b\r\n1,x\r\n2,y\r\n", 2 ],
	'crcrlf' => [ "a,b\r\r\n1,x\r\r\n2,y\r\r\n", 2 ],
	'mixed' => [ "a,b\n1,x\r2,y\r\n3,z\n", 3 ],
	'wide' => [ join(',', 'a', map { "x$_" } 1 .. 4094) . ",b\n" . join(',', 1, map { '' } 1 .. 4094) . ",w\n", 1 ],
	'long' => [ "a,b\n1," . ('long ' x 2_000_000) . "\n2,y\n", 2 ]);
put("edge_$_.csv", $edge{$_}[0]) for keys %edge;
sql("SELECT lakehouse.run_source('edge')");
is(state("edge_$_.csv"), "loaded|$edge{$_}[1]|0|", "$_: loaded with its rows") for sort keys %edge;
is(sql('SELECT max(length(b)) FROM edge'), '10000000', 'a field of ten megabytes is whole');
is(sql("SELECT string_agg(b, '' ORDER BY a) FROM edge e JOIN lakehouse.load_status l ON l.load_id = e._load_id WHERE l.file = 'in/edge_mixed.csv'"), 'xyz',
	'and each line end ends a record');

# ---- C15: headers from file to file
source('head', "a int, b text, c text DEFAULT 'c'", 'in/head*.csv', '{"header": true}');
source('rest', 'a int, b text, _rescued_data jsonb', 'in/head*.csv', '{"header": true}');
put("head$_->[0].csv", $_->[1], 1_000_000 + $_->[0]) for (
	[ 1, "a,b\n1,one\n" ], [ 2, "b,a\ntwo,2\n" ], [ 3, "a\n3\n" ], [ 4, "c,b,a\nfour,4,4\n" ],
	[ 5, "a,b,more\n5,five,m\n" ], [ 6, "a,b,a\n6,six,7\n" ], [ 7, "A,B\n7,seven\n" ]);
sql("SELECT lakehouse.run_source('head'); SELECT lakehouse.run_source('rest')");
is(rows('head'), <<'END' =~ s/\n\z//r, 'names decide which field goes where, whatever the file before had');
{"a": 1, "b": "one", "c": "c"}
{"a": 2, "b": "two", "c": "c"}
{"a": 3, "b": null, "c": "c"}
{"a": 4, "b": "4", "c": "four"}
{"a": 7, "b": "seven", "c": "c"}
END
is(sql("SELECT path, sqlstate FROM lakehouse.file_status WHERE source = 'head' AND state = 'failed' ORDER BY path"),
	"in/head5.csv|42703\nin/head6.csv|42701", 'a name too many, or one twice, is refused');
is(sql("SELECT a, b, _rescued_data - '_file_path' - '_line' FROM rest ORDER BY a, _rescued_data::text"), <<'END' =~ s/\n\z//r, 'with rescued data nothing of them is lost');
1|one|
2|two|
3||
4|4|{"c": "four", "_reason": {"c": "unknown_column"}}
5|five|{"more": "m", "_reason": {"more": "unknown_column"}}
||{"A": "7", "B": "seven", "_reason": {"A": "case_mismatch", "B": "case_mismatch"}}
END
is(sql("SELECT path, sqlstate FROM lakehouse.file_status WHERE source = 'rest' AND state = 'failed'"), 'in/head6.csv|42701', 'but the same name twice has no one meaning');

# ---- C12: UTF-16 and UTF-32 are named, with and without a byte order mark
for my $format ([ 'csv', 'csv', '{"header": true}', "n,v\n" ], [ 'plain', 'csv', '{"header": false}', '' ], [ 'json', 'json', '{}', undef ], [ 'text', 'text', '{"column": "v"}', '' ])
{
	my ($name, $reader, $options, $header) = @$format;
	my $text = defined $header ? $header . join('', map { "$_,gr\x{fc}n \x{4e16}\n" } 1 .. 20) : join('', map { qq({"n": $_, "v": "gr\x{fc}n \x{4e16}"}\n) } 1 .. 20);
	source("wide_$name", 'n int, v text', "in/wide_$name*", $options, ", format => '$reader'");
	for my $encoding (qw(UTF-16LE UTF-16BE UTF-32LE UTF-32BE))
	{
		# without a mark a text of other characters than ASCII tells of UTF-16 alone
		put("wide_${name}_$encoding-mark", encode($encoding, "\x{feff}$text"));
		put("wide_${name}_$encoding-none", encode($encoding, $encoding =~ /16/ ? $text : $text =~ s/[^\x00-\x7f]/?/gr));
		put("wide_${name}_$encoding-short", encode($encoding, "\x{feff}1"));
	}
	put("wide_${name}_good", encode('UTF-8', "\x{feff}$text"));
	sql("SELECT lakehouse.run_source('wide_$name')");
	is(sql("SELECT count(*), count(DISTINCT v) > 0 FROM wide_$name"), '20|t', "$name: a file in UTF-8 is loaded") if $reader ne 'text';
	is(sql("SELECT path, state, sqlstate, rows, error FROM lakehouse.file_status WHERE source = 'wide_$name' AND path NOT LIKE '%good'"
			  . " AND (state <> 'failed' OR sqlstate <> '22021' OR error NOT LIKE '%looks like ' || substring(path FROM 'UTF-....') || ' by %iconv -f ' || substring(path FROM 'UTF-....') || '%')"),
		'', "$name: the others are refused by their names");
	is(sql("SELECT count(*), count(*) FILTER (WHERE error LIKE '%byte order mark%') > 3 FROM lakehouse.file_status WHERE source = 'wide_$name' AND state = 'failed'"), '12|t', "$name: all of them, with what tells");
	is(sql("SELECT count(*) FROM lakehouse.reject r JOIN lakehouse.file f USING (file_id) WHERE f.path LIKE 'in/wide_$name%'"), '0', "$name: and no record of them is a reject");
}
source('nul', 'n int, v text', 'in/nul*.csv', '{"header": false}');
put('nul.csv', "1,a\n2,b\0c\n3,\0\n4,d\n");
put('nul2.csv', "\0\n5,e\n");
put('nul3.csv', "6,\xff\xfe\n7,f\n");
sql("SELECT lakehouse.run_source('nul')");
is(join(',', rows('nul')), '{"n": 1, "v": "a"},{"n": 4, "v": "d"},{"n": 5, "v": "e"},{"n": 7, "v": "f"}' =~ s/,\{/\n{/gr, 'a NUL here and there is a matter of its record');
source('latin', 'v text', 'in/latin*.csv', '{"header": false, "encoding": "LATIN1"}');
put('latin.csv', "\xff\xfe is text\n");
sql("SELECT lakehouse.run_source('latin')");
is(sql('SELECT v FROM latin'), "\xc3\xbf\xc3\xbe is text", 'where the mark is text it is none');

is(sql('SELECT object, detail FROM lakehouse.verify() WHERE NOT ok'), '', 'verify() finds nothing');
$node->stop;
done_testing();
