# Compressed files and the formats beyond plain CSV and JSON lines: what arrives,
# what becomes a reject and where, what fails as a whole; and that memory stays
# flat.
use strict;
use warnings;

use LakehouseTest;
use PostgreSQL::Test::Utils;
use Test::More;

seed();
my $node = lakehouse_node('formats');
my $landing = make_landing($node);
my $sources = 0;

sub sql
{
	return $node->safe_psql('postgres', @_);
}

sub put
{
	my ($name, $content) = @_;
	open(my $file, '>:raw', "$landing.tmp/$name") or die "$name: $!";
	print $file $content;
	close($file) or die "$name: $!";
	land($landing, $name);
	return;
}

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

# read_file makes a source over files that are there, reads them, and gives the
# rows as text, the rejects as [line, byte offset, SQLSTATE, column, bytes], and
# what went wrong with whole files.
sub read_file
{
	my ($columns, $format, $options, $path) = @_;
	my $name = 's' . ++$sources;
	sql("CREATE TABLE $name ($columns)");
	my ($status, $out, $err) = $node->psql('postgres',
		"SELECT lakehouse.create_source('$name', server => 'landing', target => '$name', format => '$format', "
		  . "path => 'in/$path', options => \$o\$$options\$o\$); SELECT lakehouse.run_source('$name')");
	my $rows = sql("SELECT (to_jsonb(t) - '_load_id')::text FROM $name t ORDER BY ctid");
	my @rejects = map { [ split /\|/ ] } split /\n/, sql(<<"END");
SELECT line, byte_offset, sqlstate, coalesce(column_name, ''), encode(raw, 'hex')
  FROM lakehouse.reject WHERE source_id = (SELECT source_id FROM lakehouse.source WHERE name = '$name') ORDER BY byte_offset
END
	$_->[4] = defined $_->[4] ? pack('H*', $_->[4]) : '' for @rejects;
	my $failure = sql("SELECT f.sqlstate, f.error FROM lakehouse.file f JOIN lakehouse.source s USING (source_id) "
		  . "WHERE s.name = '$name' AND f.state = 'failed'");
	return ($rows, \@rejects, $failure . ($status == 0 ? '' : $err));
}

# ingest does so with one new file
sub ingest
{
	my ($columns, $format, $options, $content) = @_;
	my $name = 'f' . ($sources + 1);
	put($name, $content);
	return read_file($columns, $format, $options, $name);
}

# refusal gives the error of a source with these options
sub refusal
{
	my ($columns, $format, $options) = @_;
	my $name = 's' . ++$sources;
	sql("CREATE TABLE $name ($columns)");
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n"
		  . "SELECT lakehouse.create_source('$name', server => 'landing', target => '$name', format => '$format', "
		  . "path => 'in/$name', options => \$o\$$options\$o\$)");
	return $err;
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

# 200 MB through each, and the process grows by no more than a few windows
{
	my $line = 'x' x 1000;
	open(my $plain, '>:raw', "$scratch/large") or die $!;
	print $plain "id,filler\n";
	print $plain "$_,$line" . int(rand(1_000_000)) . "\n" for 1 .. 200_000;
	close($plain) or die $!;
	for my $kind (sort keys %packer)
	{
		my $command = $kind eq 'bzip2' ? "head -c 50000000 '$scratch/large' | bzip2 -1c" : "$packer{$kind} <'$scratch/large'";
		system("$command >'$landing.tmp/large_$kind'") == 0 or die;
		land($landing, "large_$kind");
		my $source = "l_$kind";
		sql("CREATE TABLE $source (id int); SELECT lakehouse.create_source('$source', server => 'landing', target => '$source', format => 'csv', "
			  . "path => 'in/large_$kind', options => '{\"header\": true, \"ignore_extra_columns\": true}')");
		my $out = sql(<<"END");
CREATE TEMP TABLE before AS SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmPeak:\\s*(\\d+)')::int AS kb;
SELECT rows > 40000, failed_files FROM lakehouse.run_source('$source');
SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmPeak:\\s*(\\d+)')::int - kb FROM before;
END
		my ($result, $grown) = split /\n/, $out;
		is($result, 't|0', "$kind: a stream of 200 MB is loaded");
		cmp_ok($grown, '<', 32 * 1024, "$kind: the process grows by less than 32 MB");
		note("$kind: the process grew by $grown kB");
	}
}

done_testing();
