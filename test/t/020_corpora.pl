# Public corpora through the readers: what must be read is there byte for byte,
# what must be refused is a reject with its bytes, and nothing else happens.
# The corpora are not part of the project: LAKEHOUSE_SHARED names the folder
# that holds corpora/ (default: "shared" beside the project).
use strict;
use warnings;

use FindBin;
use JSON::PP;
use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($corpora) = grep { -d $_ }
  map { "$_/corpora" } grep { defined $_ } $ENV{LAKEHOUSE_SHARED},
  map { "$FindBin::RealBin/$_/shared" } '../../..', '../../../../..';

if (!defined $corpora)
{
	diag('SKIPPED: there is no folder "shared/corpora"; set LAKEHOUSE_SHARED');
  SKIP: { skip('corpora are missing (LAKEHOUSE_SHARED)', 1); }
	done_testing();
	exit;
}

my $node = lakehouse_node('corpora');
my $landing = make_landing($node);

sub bytes
{
	my ($path) = @_;
	open(my $file, '<:raw', $path) or die "$path: $!";
	local $/;
	my $content = <$file>;
	return defined $content ? $content : '';
}

# brings a file's bytes into the landing directory
sub put
{
	my ($name, $content) = @_;
	open(my $file, '>:raw', "$landing.tmp/$name") or die "$name: $!";
	print $file $content;
	close($file) or die "$name: $!";
	land($landing, $name);
	return;
}

sub sql
{
	return $node->safe_psql('postgres', @_);
}

# makes the source, reads it, and gives "rows|rejected|failed_files"
sub read_source
{
	my ($source, $target, $format, $path, $options) = @_;
	sql("SELECT lakehouse.create_source('$source', server => 'landing', target => '$target', format => '$format', "
		  . "path => 'in/$path', options => '$options')");
	return sql("SELECT rows, rejected, failed_files FROM lakehouse.run_source('$source')");
}

sub quote_ident
{
	my ($name) = @_;
	$name =~ s/"/""/g;
	return "\"$name\"";
}

# ------------------------------------------------------------ csv-spectrum
my $pairs = 0;
for my $path (sort glob("$corpora/csv-spectrum/csvs/*.csv"))
{
	my ($name) = $path =~ m{([^/]+)\.csv$};
	next if $name eq 'location_coordinates';
	my $text = bytes("$corpora/csv-spectrum/json/$name.json");
	my $expected = decode_json($text);
	my ($header) = bytes($path) =~ /^([^\r\n]*)/;
	my @columns = split /,/, $header;
	sql("CREATE TABLE $name (" . join(', ', map { quote_ident($_) . ' text' } @columns) . ')');
	put("$name.csv", bytes($path));
	is(read_source($name, $name, 'csv', "$name.csv", '{"header": true, "null_value": "<none>"}'),
		scalar(@$expected) . '|0|0', "csv-spectrum $name: every record is a row");
	is(sql("SELECT coalesce(jsonb_agg(to_jsonb(t) - '_load_id' ORDER BY ctid), '[]') = convert_from(decode('"
			  . unpack('H*', $text) . "', 'hex'), 'UTF8')::jsonb FROM $name t"),
		't', "csv-spectrum $name: contents");
	is(sql("SELECT string_agg(column_name, ',' ORDER BY n), bool_and(rows_seen = @{[scalar(@$expected)]}) FROM lakehouse.infer_schema('landing', 'in/$name.csv', options => '{\"header\": true}') WITH ORDINALITY x(column_name, type, nullable, rows_seen, nulls, example, conflicts, n)"),
		"$header|t", "csv-spectrum $name: inferred columns and records");
	$pairs++;
}
is($pairs, 11, 'all pairs of csv-spectrum were read');

# its JSON is another document; the point is the quote within an unquoted field
{
	my $content = bytes("$corpora/csv-spectrum/csvs/location_coordinates.csv");
	my ($header) = $content =~ /^([^\r\n]*)/;
	sql('CREATE TABLE location_coordinates (' . join(', ', map { quote_ident($_) . ' text' } split /,/, $header) . ')');
	put('location_coordinates.csv', $content);
	is(read_source('coordinates', 'location_coordinates', 'csv', 'location_coordinates.csv', '{"header": true}'),
		'1|0|0', 'csv-spectrum location_coordinates: a row');
	my ($written) = $content =~ /,([^,]*"[^,\r\n]*)/;
	like(sql("SELECT (to_jsonb(t) - '_load_id')::text FROM location_coordinates t"),
		qr/\Q@{[ $written =~ s{"}{\\"}gr ]}\E/, 'and the quote in mid-field is kept');
}

# ----------------------------------------------------------- JSONTestSuite
my @documents;
for my $line (split /\n/, bytes("$corpora/JSONTestSuite/expected.tsv"))
{
	my ($file, $class, $verdict, $json, $jsonb, $size, $newline) = split /\t/, $line;
	next if $file eq 'file';
	push @documents, {
		file => $file, class => $class, json => $json, jsonb => $jsonb, newline => $newline,
		content => bytes("$corpora/JSONTestSuite/test_parsing/$file")
	};
}
is(scalar(@documents), 318, 'all documents of JSONTestSuite are there');

# each as a whole document: the verdict of the suite, and for the rest that of
# the server's own type
sql(<<'END');
CREATE TABLE document (file text PRIMARY KEY, content bytea, json text, jsonb text);
CREATE FUNCTION verdict(content bytea, type text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF type = 'json' THEN
		PERFORM lakehouse.from_json(convert_from(content, 'UTF8'), NULL::json, 'failfast');
	ELSE
		PERFORM lakehouse.from_json(convert_from(content, 'UTF8'), NULL::jsonb, 'failfast');
	END IF;
	RETURN 'accept';
EXCEPTION WHEN OTHERS THEN
	RETURN 'reject ' || sqlstate;
END $$;
END
sql("COPY document FROM stdin;\n"
	  . join('', map { "$_->{file}\t\\\\x" . unpack('H*', $_->{content}) . "\t$_->{json}\t$_->{jsonb}\n" } @documents)
	  . "\\.\n");
is(sql("SELECT file, json, verdict(content, 'json') FROM document WHERE json <> verdict(content, 'json') ORDER BY 1"),
	'', 'JSONTestSuite: json accepts and refuses what the server does, with its SQLSTATEs');
is(sql("SELECT file, jsonb, verdict(content, 'jsonb') FROM document WHERE jsonb <> verdict(content, 'jsonb') ORDER BY 1"),
	'', 'JSONTestSuite: and so does jsonb');
is(sql("SELECT file FROM document WHERE file LIKE 'n\\_%' AND verdict(content, 'json') = 'accept'
         UNION ALL SELECT file FROM document WHERE file LIKE 'y\\_%' AND verdict(content, 'json') <> 'accept'"),
	'', 'JSONTestSuite: every y_ is accepted, every n_ refused');

# each as a member of a line of a file; only what has no line feed can be one
my (%line, $lines, %wanted);
my $number = 0;
for my $document (@documents)
{
	(my $content = $document->{content}) =~ s/\n\z//;
	next if $content =~ /\n/;
	$number++;
	my $record = "{\"n\": $number, \"doc\": $content}";
	$line{$number} = $record;
	$lines .= "$record\n";
	$wanted{$number} = $document->{json} eq 'accept' ? 1 : 0;
}
sql('CREATE TABLE suite (n int, doc json)');
put('suite.json', $lines);
my $good = grep { $_ } values %wanted;
is(read_source('suite', 'suite', 'json', 'suite.json', '{}'),
	"$good|" . ($number - $good) . '|0', 'JSONTestSuite as lines: rows and rejects');
is(sql('SELECT string_agg(n::text, \',\' ORDER BY n) FROM suite'),
	join(',', grep { $wanted{$_} } sort { $a <=> $b } keys %wanted), 'the right ones are rows');
is(sql("SELECT line, encode(raw, 'hex') FROM lakehouse.reject r JOIN lakehouse.source s USING (source_id) "
		  . "WHERE s.name = 'suite' ORDER BY line"),
	join("\n", map { "$_|" . unpack('H*', $line{$_}) } grep { !$wanted{$_} } sort { $a <=> $b } keys %wanted),
	'the others are rejects with their lines and bytes');

# --------------------------------------------------------- naughty strings
my $strings = decode_json(bytes("$corpora/naughty-strings/blns.json"));
is(scalar(@$strings), 515, 'all naughty strings are there');
my ($csv, $json) = ("n,value\n", '');
my @hex;
my $coder = JSON::PP->new->utf8->canonical;
my $escaper = JSON::PP->new->ascii->canonical;
for my $n (1 .. @$strings)
{
	my $string = $strings->[ $n - 1 ];
	my $utf8 = $string;
	utf8::encode($utf8);
	push @hex, "$n|" . unpack('H*', $utf8);
	(my $quoted = $utf8) =~ s/"/""/g;
	$csv .= "$n,\"$quoted\"\n";

	# as a value, and as a key that no column has
	my $record = { n => $n, value => $string };
	$record->{$string} = 1 unless $string =~ /^(n|value)$/;
	$json .= ($n % 2 ? $coder : $escaper)->encode($record) . "\n";
}
sql('CREATE TABLE naughty_csv (n int, value text); CREATE TABLE naughty_json (n int, value text)');
put('naughty.csv', $csv);
put('naughty.json', $json);
is(read_source('naughty_csv', 'naughty_csv', 'csv', 'naughty.csv', '{"header": true}'), '515|0|0', 'naughty strings in CSV: rows');
is(read_source('naughty_json', 'naughty_json', 'json', 'naughty.json', '{}'), '515|0|0', 'naughty strings in JSON: rows');
for my $table (qw(naughty_csv naughty_json))
{
	is(sql("SELECT n, encode(convert_to(value, 'UTF8'), 'hex') FROM $table ORDER BY n"), join("\n", @hex), "$table: byte for byte");
}

$node->stop;
done_testing();
