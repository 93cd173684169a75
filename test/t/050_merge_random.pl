# Merges against an independent model: random changes of random keys, in random
# order, cut into random batches, some of them repeated, with ties, deletes and
# NULLs.  The final table must be what the model says about the set of changes.
#
# Each case exists in several variants (another order, other batches).  All
# cases and variants of one configuration share a table, told apart by two more
# key columns, so one call merges a batch of each of them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use LakehouseTest;
use Test::More;

my $cases = $ENV{LAKEHOUSE_MERGE_CASES} // 300;
my $variants = 4;
my $batches = 5;

seed();
my $node = lakehouse_node('merge');

# Values are Perl strings as the server prints them; undef is NULL.  A type has
# its pool of values, an order by value, and, where several representations are
# equal, the text decides (as documented).
sub by_number { return $_[0] <=> $_[1] }
sub by_text { return $_[0] cmp $_[1] }
my %types = (
	int => { pool => [ -2, -1, 0, 1, 2, 3, 10 ], compare => \&by_number },
	text => { pool => [ '', 'A', 'B', 'a', 'b', 'Zebra', 'ä', "x'\"\\y", '10', '9' ], compare => \&by_text, latin => 1 },
	numeric => { pool => [ '-1', '0', '0.0', '1', '1.0', '1.00', '9', '10' ],
		compare => sub { by_number(@_) || by_text(@_) }, equal => \&by_number },
	float8 => { pool => [ '-1.5', '0', '1e-05', '2', '1e+20' ], compare => sub { by_number(@_) || by_text(@_) } },
	json => { pool => [ '{"a":1}', '{"a": 1}', '[]', 'null', '"z"' ], compare => \&by_text },
	'int[]' => { pool => [ '{}', '{1}', '{1,2}', '{2}' ],
		compare => sub { (join ',', map { sprintf '%03d', $_ } $_[0] =~ /(\d+)/g) cmp
			(join ',', map { sprintf '%03d', $_ } $_[1] =~ /(\d+)/g) } },
	date => { pool => [ '2014-01-01', '2014-01-02', '2015-06-30' ], compare => \&by_text },
	'timestamptz' => { pool => [ '2014-01-01 00:00:00+00', '2014-01-01 00:00:00.5+00', '2014-06-01 12:00:00+00' ],
		compare => \&by_text });

# stored: sequence columns are columns of the target; expression replaces the
# sequence by an expression over the same column.
my @configurations = (
	{ name => 'stored', keys => ['int'], sequence => ['int'], values => [ 'text', 'int' ], stored => 1, delete => 1 },
	{ name => 'apart', keys => ['int'], sequence => ['int'], values => [ 'text', 'int' ], delete => 1 },
	{ name => 'pair', keys => [ 'text', 'date' ], sequence => [ 'timestamptz', 'int' ], values => ['float8'], stored => 1, delete => 1 },
	{ name => 'looks', keys => ['numeric'], sequence => ['numeric'], values => [ 'json', 'numeric', 'int[]' ], stored => 1, delete => 1 },
	{ name => 'looks_apart', keys => ['numeric'], sequence => ['numeric'], values => [ 'json', 'numeric' ], delete => 1 },
	{ name => 'upserts', keys => ['int'], sequence => ['text'], values => ['json'], stored => 1 },
	{ name => 'expression', keys => ['int'], sequence => ['int'], values => ['int'], expression => 1, delete => 1 },
	{ name => 'managed', keys => ['int'], sequence => [ 'int', 'int' ], values => ['text'], stored => 1, delete => 1, nulls => 1, managed => 1 },
	{ name => 'managed_apart', keys => ['int'], sequence => ['int'], values => ['text'], delete => 1, nulls => 1, managed => 1 });

sub pick { my $pool = shift; return $pool->[ int(rand(@$pool)) ] }

# compare_null orders NULL before any value
sub compare_null
{
	my ($compare, $a, $b) = @_;
	return (defined $a ? 1 : 0) <=> (defined $b ? 1 : 0) unless defined $a && defined $b;
	return $compare->($a, $b);
}

# random_changes returns the changes of one case
sub random_changes
{
	my ($configuration) = @_;
	my @changes;
	for (1 .. 1 + int(rand(12)))
	{
		my $change = {
			key => [ map { pick([ @{ $types{$_}{pool} }[ 0 .. 2 ] ]) } @{ $configuration->{keys} } ],
			sequence => [ map { pick([ @{ $types{$_}{pool} }[ 0 .. 2 ] ]) } @{ $configuration->{sequence} } ],
			values => [ map { rand() < 0.2 ? undef : pick($types{$_}{pool}) } @{ $configuration->{values} } ],
			op => $configuration->{delete} ? pick([ 'D', 'U', 'U', undef ]) : 'U' };
		if ($configuration->{nulls} && rand() < 0.1)
		{
			my $list = $change->{ pick([ 'key', 'sequence' ]) };
			$list->[ int(rand(@$list)) ] = undef;
		}
		push @changes, $change;
	}
	return @changes;
}

# stored_row is what the table holds of a change
sub stored_row
{
	my ($configuration, $change) = @_;
	return (@{ $change->{key} }, $configuration->{stored} ? @{ $change->{sequence} } : (), @{ $change->{values} });
}

sub row_types
{
	my ($configuration) = @_;
	return (@{ $configuration->{keys} }, $configuration->{stored} ? @{ $configuration->{sequence} } : (), @{ $configuration->{values} });
}

# compare_rows orders whole rows, column by column
sub compare_rows
{
	my ($row_types, $a, $b) = @_;
	for my $i (0 .. $#$row_types)
	{
		my $result = compare_null($types{ $row_types->[$i] }{compare}, $a->[$i], $b->[$i]);
		return $result if $result;
	}
	return 0;
}

# equal_by tells equality by value: 1.0 is 1.00
sub equal_by
{
	my ($type) = @_;
	return $types{$type}{equal} // $types{$type}{compare};
}

# canonical gives equal keys one name
sub canonical
{
	my ($configuration, $key) = @_;
	my @names;
	for my $i (0 .. $#$key)
	{
		my $type = $configuration->{keys}[$i];
		push @names, (grep { equal_by($type)->($_, $key->[$i]) == 0 } @{ $types{$type}{pool} })[0];
	}
	return join "\0", @names;
}

# newer compares two changes of a key: sequence, upsert before delete, row value
sub newer
{
	my ($configuration, $a, $b) = @_;
	for my $i (0 .. $#{ $a->{sequence} })
	{
		my $result = equal_by($configuration->{sequence}[$i])->($a->{sequence}[$i], $b->{sequence}[$i]);
		return $result if $result;
	}
	my $a_deletes = ($a->{op} // '') eq 'D' ? 1 : 0;
	my $b_deletes = ($b->{op} // '') eq 'D' ? 1 : 0;
	return $b_deletes - $a_deletes if $a_deletes != $b_deletes;
	return compare_rows([ row_types($configuration) ], [ stored_row($configuration, $a) ], [ stored_row($configuration, $b) ]);
}

# model_scd1 returns the rows that a set of changes leaves
sub model_scd1
{
	my ($configuration, @changes) = @_;
	my %winner;
	for my $change (@changes)
	{
		next if grep { !defined } @{ $change->{key} }, @{ $change->{sequence} };
		my $name = canonical($configuration, $change->{key});
		$winner{$name} = $change
		  if !$winner{$name} || newer($configuration, $change, $winner{$name}) > 0;
	}
	return map { [ stored_row($configuration, $_) ] }
	  grep { ($_->{op} // '') ne 'D' } values %winner;
}

sub field { my $value = shift; return '\\N' unless defined $value; $value =~ s/\\/\\\\/g; $value =~ s/\t/\\t/g; return $value }

# as_text writes a row as the query below prints it
sub as_text { return join '|', map { defined $_ ? "<$_>" : 'NULL' } @_ }

sub shuffle
{
	my @list = @_;
	for (my $i = @list - 1; $i > 0; $i--)
	{
		my $j = int(rand($i + 1));
		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

sub psql_load
{
	my ($table, $columns, $lines) = @_;
	my ($out, $err) = ('', '');
	my $status = $node->psql('postgres',
		"COPY $table ($columns) FROM STDIN;\n" . join('', map { "$_\n" } @$lines) . "\\.\n",
		stdout => \$out, stderr => \$err);
	die "COPY failed: $err" if $status != 0 || $err =~ /ERROR/;
	return;
}

# compare_table compares the table with the expected rows of each case and
# variant; the first case that differs is shown with its changes
sub compare_table
{
	my ($name, $table, $columns, $expected, $changes) = @_;
	my $list = join " || '|' || ", map { "coalesce('<' || $_\::text || '>', 'NULL')" } @$columns;
	my %found;
	for my $line (split /\n/, $node->safe_psql('postgres', "SET timezone = 'UTC'; SELECT c || ' ' || v || ' ' || $list FROM $table"))
	{
		my ($case, $variant, $row) = split / /, $line, 3;
		push @{ $found{$case}{$variant} }, $row;
	}
	my $different = 0;
	for my $case (sort { $a <=> $b } keys %$expected)
	{
		for my $variant (0 .. $variants - 1)
		{
			my $want = join "\n", sort @{ ref $expected->{$case} eq 'HASH' ? $expected->{$case}{$variant} // [] : $expected->{$case} };
			my $have = join "\n", sort @{ $found{$case}{$variant} // [] };
			delete $found{$case}{$variant};
			next if $want eq $have;
			diag("case $case variant $variant:\nexpected\n$want\nfound\n$have\nfrom\n"
				  . join("\n", map { as_text(@{ $_->{key} }, @{ $_->{sequence} // [] }, @{ $_->{values} }, $_->{op}) } @{ $changes->{$case} // [] }))
			  if $different++ == 0;
		}
	}
	my $surplus = grep { %{ $found{$_} } } keys %found;
	is("$different different, $surplus unexpected", '0 different, 0 unexpected',
		"$name: " . (scalar keys %$expected) . " cases x $variants variants as the model says");
	return;
}

# --------------------------------------------------------------- scd1
for my $configuration (@configurations)
{
	my $name = $configuration->{name};
	my @keys = map { "k$_" } 1 .. @{ $configuration->{keys} };
	my @sequence = map { "s$_" } 1 .. @{ $configuration->{sequence} };
	my @values = map { "x$_" } 1 .. @{ $configuration->{values} };
	my (%changes, %expected, @lines);
	my $rejects = 0;

	my $definition = join ', ', (map { "k$_ " . $configuration->{keys}[ $_ - 1 ] } 1 .. @keys),
	  (map { "s$_ " . $configuration->{sequence}[ $_ - 1 ] } 1 .. @sequence),
	  (map { "x$_ " . $configuration->{values}[ $_ - 1 ] } 1 .. @values);
	$node->safe_psql('postgres', "CREATE TABLE ev_$name (batch int, c int, v int, op text, $definition);");
	my $stored = join ', ', grep { $configuration->{stored} || $_ !~ /^s/ } split /, (?![^()]*\))/, $definition;
	$node->safe_psql('postgres', "CREATE TABLE t_$name (c int, v int, $stored);");
	$node->safe_psql('postgres', <<"END") if $configuration->{managed};
INSERT INTO lakehouse.managed_table (relation) VALUES ('t_$name');
ALTER TABLE t_$name ADD _load_id bigint NOT NULL DEFAULT lakehouse.current_load('t_$name');
END

	for my $case (1 .. $cases)
	{
		my @events = random_changes($configuration);
		$changes{$case} = \@events;
		$expected{$case} = [ map { as_text(@$_) } model_scd1($configuration, @events) ];
		for my $variant (0 .. $variants - 1)
		{
			# variant 0 comes in one batch, the others in several
			for my $event (shuffle(@events))
			{
				my $batch = $variant == 0 ? 0 : int(rand($batches));
				my $copies = rand() < 0.1 ? 2 : 1;
				for (1 .. $copies)
				{
					push @lines, join "\t", map { field($_) } $batch, $case, $variant, $event->{op},
					  @{ $event->{key} }, @{ $event->{sequence} }, @{ $event->{values} };
					$rejects++ if grep { !defined } @{ $event->{key} }, @{ $event->{sequence} };
				}
			}
		}
	}
	psql_load("ev_$name", join(', ', 'batch', 'c', 'v', 'op', @keys, @sequence, @values), \@lines);

	my $by = $configuration->{expression} ? "'coalesce(s1, 0) + 1'" : join ', ', map { "'$_'" } @sequence;
	my $when = $configuration->{delete} ? q{'op = ''D'''} : 'NULL';
	my $except = join ', ', map { "'$_'" } 'op', $configuration->{stored} ? () : @sequence;
	my $merge = sub {
		my ($condition) = @_;
		return $node->safe_psql('postgres',
			"SELECT * FROM lakehouse.merge_scd1('t_$name', 'SELECT c, v, op, "
			  . join(', ', @keys, @sequence, @values)
			  . " FROM ev_$name WHERE $condition ORDER BY random()', '{c,v," . join(',', @keys)
			  . "}', ARRAY[$by], $when, ARRAY[$except])");
	};
	my $rejected = 0;
	for my $batch (shuffle(0 .. $batches - 1))
	{
		my $result = $merge->("batch = $batch");
		$rejected += (split /\|/, $result)[5];
	}
	compare_table("$name", "t_$name", [ @keys, ($configuration->{stored} ? @sequence : ()), @values ], \%expected, \%changes);
	if ($configuration->{nulls})
	{
		is($rejected, $rejects, "$name: changes without key or sequence are rejects");
		is($node->safe_psql('postgres', "SELECT count(*), count(raw), min(sqlstate), min(stage) FROM lakehouse.reject r JOIN lakehouse.load l USING (load_id) WHERE l.relation = 't_$name'::regclass"),
			"$rejects|$rejects|23502|merge", "$name: and are kept");
	}

	my $replay = $merge->('batch IN (' . join(',', map { int(rand($batches)) } 1 .. 2) . ')');
	like($replay, qr/^\d+\|0\|0\|0\|\d+\|\d+$/, "$name: a replay changes nothing");
	$merge->('true');
	compare_table("$name, all of it again", "t_$name", [ @keys, ($configuration->{stored} ? @sequence : ()), @values ], \%expected, \%changes);
	$node->safe_psql('postgres', "DROP TABLE ev_$name");
}

# ------------------------------------ insert_only, upsert, complete, aggregate
# The rows arrive as loads of an input table; after each load the flow runs.
# model_<mode> folds one load into the rows of a case and variant.
sub model_first
{
	my ($state, $row_types, @rows) = @_;
	my %first;
	for my $row (@rows)
	{
		my $key = $row->[0];
		$first{$key} = $row if !$first{$key} || before($row_types, $row, $first{$key});
	}
	$state->{$_} //= $first{$_} for keys %first;
	return;
}

# before tells that a row is preferred as the first: smaller by value, NULL last
sub before
{
	my ($row_types, $a, $b) = @_;
	for my $i (0 .. $#$row_types)
	{
		return defined $a->[$i] if defined $a->[$i] != defined $b->[$i];
		next unless defined $a->[$i];
		my $result = $types{ $row_types->[$i] }{compare}->($a->[$i], $b->[$i]);
		return $result < 0 if $result;
	}
	return 0;
}

sub model_last
{
	my ($state, $row_types, @rows) = @_;
	my %last;
	for my $row (@rows)
	{
		my $key = $row->[0];
		$last{$key} = $row if !$last{$key} || compare_rows($row_types, $row, $last{$key}) > 0;
	}
	$state->{$_} = $last{$_} for keys %last;
	return;
}

for my $mode ('insert_only', 'upsert', 'complete', 'aggregate')
{
	my @row_types = ('int', 'text', 'numeric', 'json');
	my %modes = (
		insert_only => [ 'k, a, n, j', 'k int NOT NULL, a text, n numeric, j json', 'SELECT c, v, k, a, n, j FROM in_insert_only' ],
		upsert => [ 'k, a, n, j', 'k int NOT NULL, a text, n numeric, j json', 'SELECT c, v, k, a, n, j FROM in_upsert' ],
		complete => [ 'k, a, n, j', 'k int, a text, n numeric, j json', 'SELECT c, v, k, a, n, j FROM in_complete' ],
		aggregate => [ 'k, n, j', 'k int, n bigint, j text', 'SELECT c, v, k, count(*) AS n, max(a) AS j FROM in_aggregate GROUP BY c, v, k' ]);
	my ($columns, $definition, $query) = @{ $modes{$mode} };
	my $keys = $mode eq 'complete' ? '{}' : '{c,v,k}';
	my %expected;

	$node->safe_psql('postgres', <<"END");
CREATE TABLE in_$mode (c int, v int, k int, a text COLLATE "C", n numeric, j json);
CREATE TABLE out_$mode (c int, v int, $definition);
SELECT lakehouse.create_flow('$mode', target => 'out_$mode', mode => '$mode', keys => '$keys', streaming => '{in_$mode}', query => '$query');
END
	my @loads = map { [] } 1 .. $batches;
	my %rows;
	for my $case (1 .. $cases)
	{
		my @events = map {
			[ $mode eq 'aggregate' || $mode eq 'complete' ? pick([ 1, 2, undef ]) : pick([ 1, 2, 3 ]),
				map { rand() < 0.2 ? undef : pick($types{$_}{pool}) } @row_types[ 1 .. 3 ] ] } 1 .. 1 + int(rand(8));
		for my $variant (0 .. $variants - 1)
		{
			for my $event (shuffle(@events))
			{
				my $batch = int(rand($batches));
				push @{ $rows{$case}{$variant}[$batch] }, $event;
				push @{ $loads[$batch] }, join "\t", map { field($_) } $case, $variant, @$event;
			}
		}
	}
	for my $batch (0 .. $batches - 1)
	{
		psql_load("in_$mode", 'c, v, k, a, n, j', $loads[$batch]);
		$node->safe_psql('postgres', "SELECT lakehouse.run_flow('$mode')");
	}
	for my $case (keys %rows)
	{
		for my $variant (keys %{ $rows{$case} })
		{
			my %state;
			my @all = map { @{ $_ // [] } } @{ $rows{$case}{$variant} };
			if ($mode eq 'complete')
			{
				$expected{$case}{$variant} = [ map { as_text(@$_) } @all ];
				next;
			}
			if ($mode eq 'aggregate')
			{
				my (%count, %max);
				for my $row (@all)
				{
					my $key = $row->[0] // 'NULL';
					$count{$key}++;
					$max{$key} = $row->[1] if defined $row->[1] && (!defined $max{$key} || $row->[1] gt $max{$key});
				}
				$expected{$case}{$variant} = [ map { as_text($_ eq 'NULL' ? undef : $_, $count{$_}, $max{$_}) } keys %count ];
				next;
			}
			for my $batch (0 .. $batches - 1)
			{
				my @load = @{ $rows{$case}{$variant}[$batch] // [] };
				$mode eq 'upsert' ? model_last(\%state, \@row_types, @load) : model_first(\%state, \@row_types, @load);
			}
			$expected{$case}{$variant} = [ map { as_text(@$_) } values %state ];
		}
	}
	compare_table($mode, "out_$mode", [ split /, /, $columns ], \%expected, {});
	is($node->safe_psql('postgres', "SELECT lakehouse.run_flow('$mode')") =~ /error/i ? 1 : 0, 0, "$mode: nothing more to do");
	compare_table("$mode, run again", "out_$mode", [ split /, /, $columns ], \%expected, {});
}

$node->stop;
done_testing();
