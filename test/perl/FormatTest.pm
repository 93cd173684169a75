# FormatTest: what the tests of file formats share. One cluster with a landing
# directory; files put there, read into new tables, and what came of them.
package FormatTest;

use strict;
use warnings;

use Exporter 'import';
use LakehouseTest;
use PostgreSQL::Test::Utils;

our @EXPORT = qw($node $landing $sources format_node sql put read_file ingest refusal);

our ($node, $landing);
our $sources = 0;    # tables and sources made so far: s1, s2, ...

# format_node starts the cluster
sub format_node
{
	my ($name, %option) = @_;
	$node = lakehouse_node($name, %option);
	$landing = make_landing($node);
	return;
}

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
	my $rows = sql("SELECT (to_jsonb(this_row) - '_load_id')::text FROM $name AS this_row ORDER BY ctid");
	my @rejects = map { [ split /\|/, $_, -1 ] } split /\n/, sql(<<"END");
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

1;
