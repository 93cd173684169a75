# RandomFiles: random sources, files for them, and what must become of each
# record. Rows and rejects are known to whoever writes a file, so nothing here
# reads CSV or JSON: the model shares no code and no idea with the readers.
package RandomFiles;

use strict;
use warnings;

use Encode ();
use Exporter 'import';

our @EXPORT = qw(random_source random_file append_records judge_file row_documents);

# chance tells true so often of 1
sub chance { return rand() < $_[0] }

sub one_of { return $_[ int(rand(@_)) ] }

# json_text writes a Perl value as JSON: undef, numbers as \"12", strings, arrays
# and objects
sub json_text
{
	my ($value) = @_;
	return 'null' unless defined $value;
	return $$value if ref $value eq 'SCALAR';
	return '[' . join(', ', map { json_text($_) } @$value) . ']' if ref $value eq 'ARRAY';
	return '{' . join(', ', map { json_string($_) . ': ' . json_text($value->{$_}) } sort keys %$value) . '}'
	  if ref $value eq 'HASH';
	return json_string($value);
}

sub json_string
{
	my ($text, $lavish) = @_;
	my %short = ("\n" => '\n', "\r" => '\r', "\t" => '\t', '"' => '\"', '\\' => '\\\\', "\f" => '\f', "\b" => '\b');
	$short{'/'} = '\/' if $lavish;
	my $class = $lavish ? qr{[\x00-\x1f"\\/]} : qr{[\x00-\x1f"\\]};
	$text =~ s/($class)/$short{$1} \/\/ sprintf('\\u%04x', ord($1))/ge;
	$text =~ s/([^\x00-\x7f])/escaped($1)/ge if $lavish;
	return "\"$text\"";
}

# escaped writes a character as one or two UTF-16 units
sub escaped
{
	my $code = ord($_[0]);
	return sprintf(one_of('\u%04x', '\u%04X'), $code) if $code < 0x10000;
	$code -= 0x10000;
	return sprintf('\u%04x\u%04X', 0xd800 + ($code >> 10), 0xdc00 + ($code & 0x3ff));
}

# ---------------------------------------------------------------- values
# Each type gives [text, what to_jsonb makes of it, may stand bare in JSON], and
# of what it refuses [text, SQLSTATE].

sub random_word
{
	my ($source) = @_;
	my @piece = ('a', 'Zz', ' ', '  ', '0', 'NULL', '\\', "'", '"', '""', ',', ';', '|', "\t", '#', "\x{e9}", "\x{fc}x");
	push @piece, "\n", "\r\n", "x\ny" unless $source->{no_line_ends};
	push @piece, "\x{1f600}", "\x{4e16}", "\x{202e}" unless $source->{encoding} eq 'LATIN1';
	return 'long ' x int(rand(300)) if chance(0.01);
	return join('', map { one_of(@piece) } 1 .. int(rand(6)));
}

my %type = (
	'integer' => {
		good => sub { my $n = int(rand(2_000_001)) - 1_000_000; [ one_of($n, $n >= 0 ? "+$n" : $n, " $n "), \"$n", $n ] },
		bad => sub { one_of([ 'x1', '22P02' ], [ '99999999999', '22003' ], [ '1.5', '22P02' ], [ '1 2', '22P02' ]) } },
	'text' => { good => sub { my $text = random_word($_[0]); [ $text, $text ] } },
	'numeric(10,2)' => {
		good => sub {
			my $cents = int(rand(2_000_000)) - 1_000_000;
			my $text = sprintf('%s%d.%02d', $cents < 0 ? '-' : '', abs($cents) / 100, abs($cents) % 100);
			[ one_of($text, "${text}0", "${text}2"), \$text, $text ];
		},
		bad => sub { one_of([ 'one', '22P02' ], [ '123456789', '22003' ], [ '1e12', '22003' ]) } },
	'double precision' => {
		good => sub { my $n = int(rand(20_000)) - 10_000; my $text = $n / 8; [ one_of($text, sprintf('%.4f', $text)), \"$text", $text ] },
		bad => sub { one_of([ 'one', '22P02' ], [ '1e999', '22003' ]) } },
	'boolean' => {
		good => sub { my $yes = chance(0.5); my $text = $yes ? 'true' : 'false'; [ $yes ? one_of('t', 'true', 'yes', 'on', '1') : one_of('f', 'false', 'no', 'off', '0'), \$text, $text ] },
		bad => sub { [ 'maybe', '22P02' ] } },
	'date' => {
		good => sub { my $text = sprintf('%04d-%02d-%02d', 1600 + int(rand(800)), 1 + int(rand(12)), 1 + int(rand(28))); [ $text, $text ] },
		bad => sub { one_of([ '2023-02-30', '22008' ], [ 'someday', '22007' ]) } },
	'timestamp with time zone' => {
		good => sub {
			my $day = sprintf('%04d-%02d-%02d', 1900 + int(rand(200)), 1 + int(rand(12)), 1 + int(rand(28)));
			my $time = sprintf('%02d:%02d:%02d', int(rand(24)), int(rand(60)), int(rand(60)));
			my ($text, $part) = (one_of("$day $time", "${day}T$time"), one_of('', '.5', '.123456'));
			[ $text . $part . one_of('Z', '+00', '+00:00'), "${day}T$time$part+00:00" ];
		},
		bad => sub { one_of([ 'soon', '22007' ], [ '2023-02-30 01:00:00Z', '22008' ]) } },
	'uuid' => {
		good => sub { my $text = join('-', map { join('', map { sprintf('%x', int(rand(16))) } 1 .. $_) } 8, 4, 4, 4, 12); [ one_of($text, uc($text)), $text ] },
		bad => sub { [ 'not-a-uuid', '22P02' ] } },
	'jsonb' => {
		good => sub { my $value = one_of({ a => [ \'1', 'x"y' ] }, [], [ \'true', { b => \'2.50' } ], { "\x{e9}" => '' }); my $text = json_text($value); [ $text, \$text, $text ] } },
	# through the type's own input function
	'inet' => {
		good => sub { my $text = join('.', map { int(rand(256)) } 1 .. 4); [ $text, $text ] },
		bad => sub { [ 'nowhere', '22P02' ] } });

# ---------------------------------------------------------------- sources

# random_source gives {format, options, columns (DDL), ...}: one source's
# definition without its name, server and path.
sub random_source
{
	my ($csv) = @_;
	my %source = (format => $csv ? 'csv' : 'json', encoding => 'UTF8');
	my %option;
	my @types = sort keys %type;

	$source{column} = [ [ 'id', 'bigint' ], map { [ "c$_", one_of(@types) ] } 1 .. 2 + int(rand(5)) ];
	if (chance(0.25))
	{
		$source{encoding} = 'LATIN1';
		$option{encoding} = one_of('LATIN1', 'latin1');
	}
	$source{multi_line} = $option{multi_line} = \'true' if !$csv && chance(0.4);
	random_dialect(\%source, \%option) if $csv;
	random_schema(\%source, \%option);
	random_limits(\%source, \%option);

	my %fact = (file_path => 'text', file_name => 'text', file_size => 'bigint', file_mtime => 'timestamptz',
		line => 'bigint', byte_offset => 'bigint');
	for my $fact (sort keys %fact)
	{
		next unless chance(0.3);
		$source{fact}{$fact} = 1;
		$option{metadata}{"m_$fact"} = $fact;
	}
	$option{partition_columns} = 'part,day' if $source{partitions} = chance(0.3);
	$option{on_change} = $source{on_change} = one_of('ignore', 'append_again', 'replace', 'tail');
	$source{options} = \%option;
	$source{check} = chance(0.4);
	$source{columns} = join(', ',
		(map { "$_->[0] $_->[1]" } @{ $source{column} }),
		"dflt text DEFAULT 'dflt'",
		($source{partitions} ? ('part text', 'day date') : ()),
		($source{rescue} ? '_rescued_data jsonb' : ()),
		(map { "m_$_ $fact{$_}" } sort keys %{ $source{fact} }),
		($source{check} ? "CHECK (id % 23 <> 7)" : ()));
	return \%source;
}

sub random_dialect
{
	my ($source, $option) = @_;
	$source->{header} = chance(0.75);
	$option->{header} = \'true' if $source->{header};
	$source->{sep} = one_of(',', ',', ';', '|', "\t");
	$option->{ one_of('sep', 'delimiter') } = $source->{sep} if $source->{sep} ne ',' || chance(0.2);
	$source->{quote} = one_of('"', '"', '"', "'", '');
	$option->{quote} = $source->{quote} if $source->{quote} ne '"';
	$source->{no_line_ends} = 1 if $source->{quote} eq '';
	$option->{escape} = $source->{escape} = '\\' if $source->{quote} ne '' && chance(0.3);
	$option->{comment} = $source->{comment} = '#' if chance(0.3);
	$source->{null} = one_of('', '', 'NULL', '\\N');
	$option->{null_value} = $source->{null} if $source->{null} ne '';
	$option->{skip_rows} = \"$source->{skip_rows}" if $source->{skip_rows} = chance(0.2) ? 1 + int(rand(3)) : 0;
	$option->{ragged} = 'permissive' if $source->{ragged} = chance(0.3);
	return;
}

sub random_schema
{
	my ($source, $option) = @_;
	$source->{rescue} = chance(0.4);
	$source->{evolve} = chance(0.3) && ($source->{header} || $source->{format} eq 'json');
	if ($source->{evolve})
	{
		$option->{schema_evolution_mode} = 'addNewColumns';
		$option->{schema_hints} = 'x2 string' if chance(0.3);
	}
	elsif ($source->{rescue})
	{
		$option->{schema_evolution_mode} = 'rescue' if chance(0.5);
	}
	elsif ($source->{header} && chance(0.6))
	{
		$option->{ignore_extra_columns} = \'true';
	}
	# unknown fields: rescued, dropped, or a column; or they fail a CSV file
	$source->{unknown} =
	    $source->{evolve} ? 'column'
	  : $source->{rescue} ? 'rescue'
	  : $source->{format} eq 'json' || $option->{ignore_extra_columns} ? 'drop'
	  : 'fail';
	return;
}

sub random_limits
{
	my ($source, $option) = @_;
	my $mode = one_of('', '', 'permissive', 'dropmalformed', 'failfast');
	$option->{mode} = $mode if $mode;
	$source->{reject_state} = $mode eq 'dropmalformed' ? 'dropped' : 'open';
	$source->{max_rejects} = 0 if $mode eq 'failfast';
	if ($mode ne 'failfast' && chance(0.2))
	{
		$source->{max_rejects} = int(rand(8));
		$option->{max_rejects} = \"$source->{max_rejects}";
	}
	if ($mode ne 'failfast' && chance(0.1))
	{
		$source->{max_ratio} = one_of(0.1, 0.25);
		$option->{max_reject_ratio} = \"$source->{max_ratio}";
	}
	return;
}

# ---------------------------------------------------------------- files

# random_file gives {bytes, rows, rejects, failed}: the content of a file of
# about "records" records at "path", each row as a document (to_jsonb without
# nulls), each reject as [line, byte offset, SQLSTATE, column, bytes], and
# whether the file fails as a whole. mtime is in seconds.
sub random_file
{
	my ($source, $path, $records, $mtime) = @_;
	my $file = { path => $path, mtime => $mtime, bytes => '', line => 1, rows => [], rejects => [], next_id => 1,
		eol => one_of("\n", "\n", "\r\n", $source->{format} eq 'csv' ? "\r" : "\n"), folder => {} };
	my ($part) = $path =~ m{part=([^/]*)/};
	my ($day) = $path =~ m{day=([^/]*)/};
	$file->{folder}{part} = $part if defined $part && $part ne '__HIVE_DEFAULT_PARTITION__';
	$file->{folder}{day} = $day if defined $day;
	# so few bad records that limits are sometimes kept
	$file->{trouble} = one_of(0, 0.01, 0.1) * ($records > 1000 ? 0.1 : 1);
	$file->{bytes} = "\xef\xbb\xbf" if $source->{encoding} eq 'UTF8' && chance(0.15);
	begin_csv($source, $file) if $source->{format} eq 'csv';
	$file->{array} = $source->{multi_line} && chance(0.5);
	put($source, $file, '[') if $file->{array};
	append_records($source, $file, $records);
	if ($file->{array})
	{
		put($source, $file, one_of(']', "\n]\n"));
	}
	elsif ($file->{bytes} =~ /\Q$file->{eol}\E\z/ && chance(0.2))
	{
		substr($file->{bytes}, -length($file->{eol})) = '';
		$file->{unfinished} = 1;
	}
	judge_file($source, $file);
	return $file;
}

# append_records adds records to a file, which begin where its bytes end.
sub append_records
{
	my ($source, $file, $records) = @_;
	for (1 .. $records)
	{
		$source->{format} eq 'csv' ? add_csv($source, $file) : add_json($source, $file);
	}
	return;
}

# judge_file tells whether the file as a whole is too bad to be loaded.
sub judge_file
{
	my ($source, $file) = @_;
	my $bad = @{ $file->{rejects} };
	my $all = $bad + @{ $file->{rows} };
	$file->{failed} ||= defined $source->{max_rejects} && $bad > $source->{max_rejects};
	$file->{failed} ||= defined $source->{max_ratio} && $bad > $source->{max_ratio} * $all;
	return;
}

# row_documents gives the rows of the file from number "first" on as JSON, what
# to_jsonb makes of them without nulls. "size" is that of the file as it lies
# there.
sub row_documents
{
	my ($source, $file, $size, $first) = @_;
	my ($name) = $file->{path} =~ m{([^/]*)\z};
	my ($second, $minute, $hour, $mday, $month, $year) = gmtime($file->{mtime});
	my %fact = (file_path => $file->{path}, file_name => $name, file_size => \"$size",
		file_mtime => sprintf('%04d-%02d-%02dT%02d:%02d:%02d+00:00', $year + 1900, $month + 1, $mday, $hour, $minute, $second));
	my @facts = sort keys %{ $source->{fact} };
	my @documents;
	for my $row (@{ $file->{rows} }[ ($first // 0) .. $#{ $file->{rows} } ])
	{
		my %document = %$row;
		my ($line, $offset) = @{ delete $document{_place} };
		@fact{qw(line byte_offset)} = (\"$line", \"$offset");
		$document{"m_$_"} = $fact{$_} for @facts;
		delete @document{ grep { !defined $document{$_} } keys %document };
		push @documents, json_text(\%document);
	}
	return \@documents;
}

# put adds text to the file, in its encoding, and counts the lines.
sub put
{
	my ($source, $file, $text) = @_;
	$file->{bytes} .= ref $text ? $$text : Encode::encode($source->{encoding} eq 'UTF8' ? 'UTF-8' : 'iso-8859-1', $text);
	my $lines = ref $text ? $$text : $text;
	# outside CSV a lone CR ends no line
	my @ends = $source->{format} eq 'csv' ? $lines =~ /\r\n|\n|\r/g : $lines =~ /\n/g;
	$file->{line} += @ends;
	return;
}

# choose_fields gives the fields of one record in the order of the table, as
# [column, text or undef, value for the row, bare JSON, SQLSTATE if bad], and
# notes the unknown ones.
sub choose_fields
{
	my ($source, $file) = @_;
	my $id = $file->{next_id}++;
	my $spoil = chance($file->{trouble});
	my @bad = grep { $type{ $source->{column}[$_][1] }{bad} } 1 .. $#{ $source->{column} };
	$spoil = $spoil && @bad ? one_of(@bad) : -1;
	my @fields = ([ 'id', $id, \"$id", $id ]);
	for my $i (1 .. $#{ $source->{column} })
	{
		my ($name, $type) = @{ $source->{column}[$i] };
		if ($i == $spoil)
		{
			my ($text, $sqlstate) = @{ $type{$type}{bad}->() };
			push @fields, [ $name, $text, undef, undef, $sqlstate ];
		}
		elsif (chance(0.1))
		{
			push @fields, [ $name, undef ];
		}
		else
		{
			my ($text, $value, $bare) = @{ $type{$type}{good}->($source) };
			push @fields, [ $name, $text, $value, $bare ];
		}
	}
	return \@fields;
}

sub choose_unknown
{
	my $n = int(rand(1000));
	return [ 'x1', "$n", \"$n", $n ] if $_[0] eq 'x1';
	return [ 'x2', "word $n", "word $n", undef ];
}

# settle decides what the record becomes: "fields" and "unknown" as they were
# written, "place" is [line, byte offset, bytes].
sub settle
{
	my ($source, $file, $fields, $unknown, $place) = @_;
	my ($line, $offset, $bytes) = @$place;
	my (%row, %rescued, %reason);
	my $csv = $source->{format} eq 'csv';
	for my $field (@$fields, @$unknown)
	{
		my ($name, $text, $value, $bare, $sqlstate, $why) = @$field;
		next unless defined $text;
		$why ||= 'type_mismatch' if $sqlstate;
		if ($source->{rescue} && $why && $why ne 'column')
		{
			$reason{$name} = $why;
			$rescued{$name} = $csv || !defined $bare ? $text : \$bare;
		}
		elsif ($sqlstate)
		{
			push @{ $file->{rejects} }, [ $line, $offset, $sqlstate, $name, $bytes ];
			return;
		}
		elsif (!$why || $why eq 'column')
		{
			$row{$name} = $value;
		}
	}
	if ($source->{check} && defined $row{id} && ${ $row{id} } % 23 == 7)
	{
		push @{ $file->{rejects} }, [ $line, $offset, '23514', '', $bytes ];
		return;
	}
	$row{_rescued_data} = { %rescued, _reason => \%reason, _file_path => $file->{path}, _line => \"$line" } if %rescued;
	$row{dflt} = 'dflt' unless $file->{positional};
	push @{ $file->{rows} }, { %row, %{ $file->{folder} }, _place => [ $line, $offset ] };
	return;
}

# ---------------------------------------------------------------- CSV

# begin_csv writes what stands before the records, and chooses the header.
sub begin_csv
{
	my ($source, $file) = @_;
	my @names = map { $_->[0] } @{ $source->{column} };
	for (1 .. $source->{skip_rows})
	{
		put($source, $file, one_of('', 'made by "export', 'a,b') . $file->{eol});
	}
	fill_gap($source, $file);
	if (!$source->{header})
	{
		# by position: all columns that are filled from fields
		$file->{positional} = 1;
		$file->{fields} = [ @names, 'dflt' ];
		return;
	}
	# some columns are not there, some are nobody's
	@names = grep { $_ eq 'id' || chance(0.85) } @names;
	push @names, grep { chance(0.25) } 'x1', 'x2' if $source->{unknown} ne 'fail' || chance(0.1);
	$file->{failed} = 1 if $source->{unknown} eq 'fail' && grep { /^x/ } @names;
	@names = sort { rand() <=> 0.5 } @names if chance(0.5);
	if (chance(0.03))
	{
		push @names, $names[0];
		$file->{failed} = 1;
	}
	$file->{fields} = \@names;
	my @written = @names;
	if (!$source->{evolve} && chance(0.15))
	{
		@written = map { uc } @written;
		$file->{other_case} = 1;
	}
	put($source, $file, join($source->{sep}, map { $source->{quote} ne '' && chance(0.2) ? "$source->{quote}$_$source->{quote}" : $_ } @written) . $file->{eol});
	return;
}

# fill_gap sometimes puts between two records what is none.
sub fill_gap
{
	my ($source, $file) = @_;
	put($source, $file, $file->{eol}) if chance(0.02);
	put($source, $file, "$source->{comment} id,1,\"$file->{eol}") if defined $source->{comment} && chance(0.02);
	return;
}

# csv_field writes one field of a record
sub csv_field
{
	my ($source, $text, $first) = @_;
	my ($sep, $quote, $null) = @$source{qw(sep quote null)};
	return $null unless defined $text;
	return $text if $quote eq '';
	my $must = $text =~ /[\r\n]|\Q$sep\E/ || $text =~ /^\Q$quote\E/ || $text eq $null
	  || ($first && defined $source->{comment} && $text =~ /^\Q$source->{comment}\E/);
	return $text unless $must || chance(0.2);
	if (defined $source->{escape})
	{
		$text =~ s/\Q$source->{escape}\E/$source->{escape}$source->{escape}/g;
		$text =~ s/\Q$quote\E/one_of($quote, $source->{escape}) . $quote/ge;
	}
	else
	{
		$text =~ s/\Q$quote\E/$quote$quote/g;
	}
	return "$quote$text$quote";
}

# plain_text makes a text that can stand without quotes
sub plain_text
{
	my ($source, $field) = @_;
	my $text = $field->[1];
	$text =~ s/[\r\n]|\Q$source->{sep}\E//g;
	$text = "a$text" if $text eq $source->{null} || $text =~ /^#/;
	# what is refused, or is no text, has nothing of the kind
	$field->[2] = $text if defined $field->[2] && !ref $field->[2] && $field->[2] eq $field->[1];
	$field->[1] = $text;
	return;
}

sub add_csv
{
	my ($source, $file) = @_;
	fill_gap($source, $file);
	my $line = $file->{line};
	my $offset = length($file->{bytes});
	my %chosen = map { $_->[0] => $_ } @{ choose_fields($source, $file) };
	my (@fields, @unknown, @written);

	if ($source->{quote} eq '')
	{
		plain_text($source, $_) for grep { defined $_->[1] } values %chosen;
		# text types only lose what they may lose
		@$_[ 1 .. 4 ] = (undef) x 4
		  for grep { defined $_->[1] && ref $_->[2] && $source->{column} && is_json($source, $_->[0]) } values %chosen;
	}
	$chosen{dflt} = [ 'dflt', 'given', 'given' ];
	for my $name (@{ $file->{fields} })
	{
		my $field = $chosen{$name} // choose_unknown($name);
		$field = [ $name, undef ] if $name =~ /^x/ && chance(0.3);
		push @written, $field->[1];
		if ($name =~ /^x/)
		{
			push @unknown, [ @$field[ 0 .. 3 ], undef, { column => 'column', rescue => 'unknown_column', drop => 'drop', fail => 'drop' }->{ $source->{unknown} } ];
			$unknown[-1][0] = uc($name) if $file->{other_case};
		}
		elsif ($file->{other_case} && $source->{rescue})
		{
			push @unknown, [ uc($name), @$field[ 1 .. 3 ], undef, 'case_mismatch' ];
		}
		else
		{
			push @fields, $field;
		}
	}
	write_csv_record($source, $file, \@written, \@fields, \@unknown, [ $line, $offset ]);
	return;
}

sub is_json
{
	my ($source, $name) = @_;
	return grep { $_->[0] eq $name && $_->[1] eq 'jsonb' } @{ $source->{column} };
}

# write_csv_record writes the fields, or breaks the record.
sub write_csv_record
{
	my ($source, $file, $written, $fields, $unknown, $place) = @_;
	my @text = map { csv_field($source, $written->[$_], $_ == 0) } 0 .. $#$written;
	my $fault = chance($file->{trouble}) ? one_of(qw(short long bytes nul quote)) : '';
	my ($sqlstate, $raw) = ('');

	if ($fault eq 'short' && @text > 2)
	{
		my $cut = 1 + int(rand(@text - 2));
		splice(@text, -$cut);
		# a field that is missing is NULL
		my %gone = map { $_ => 1, uc($_) => 1 } @{ $file->{fields} }[ -$cut .. -1 ];
		@$_ = grep { !$gone{ $_->[0] } } @$_ for $fields, $unknown;
		$sqlstate = '22P04' unless $source->{ragged};
	}
	elsif ($fault eq 'long')
	{
		push @text, 'more';
		$sqlstate = '22P04' if !$source->{ragged} || $source->{rescue};
	}
	elsif ($fault eq 'bytes' && $source->{encoding} eq 'UTF8')
	{
		$text[-1] = "a\x{1}BAD\x{1}b";
		$sqlstate = '22021';
	}
	elsif ($fault eq 'nul')
	{
		$text[-1] = "a\0b";
		$sqlstate = '22021';
	}
	# such a record ends with its first line
	elsif ($fault eq 'quote' && $source->{quote} ne '' && !grep { /[\r\n]/ } @text)
	{
		$text[-1] = "$source->{quote}a$source->{quote}b";
		$sqlstate = '22P04';
	}
	my $record = join($source->{sep}, @text);
	if ($sqlstate eq '22021' && $fault eq 'bytes')
	{
		$record = Encode::encode('UTF-8', $record);
		$record =~ s/\x{1}BAD\x{1}/\xff/;
		put($source, $file, \$record);
	}
	else
	{
		put($source, $file, $record);
	}
	$raw = substr($file->{bytes}, $place->[1]);
	put($source, $file, $file->{eol});
	if ($sqlstate)
	{
		push @{ $file->{rejects} }, [ @$place, $sqlstate, '', $raw ];
		return;
	}
	settle($source, $file, $fields, $unknown, [ @$place, $raw ]);
	return;
}

# ---------------------------------------------------------------- JSON

sub add_json
{
	my ($source, $file) = @_;
	my (@fields, @unknown, @member);

	put($source, $file, one_of("\n", "  \n")) if chance(0.02);
	for my $field (@{ choose_fields($source, $file) })
	{
		# a member that is missing is NULL here: no column in question has a default
		next if !defined $field->[1] && chance(0.5);
		push @fields, $field;
		push @member, [ $field->[0], json_member($source, $field) ];
	}
	for my $name (grep { chance($source->{unknown} eq 'column' ? 0.01 : 0.1) } 'x1', 'x2')
	{
		my $field = choose_unknown($name);
		push @unknown, [ @$field, undef, { column => 'column', rescue => 'unknown_column', drop => 'drop' }->{ $source->{unknown} } ];
		push @member, [ $name, json_member($source, $field) ];
		$unknown[-1][3] = undef if $member[-1][1] =~ /^"/;
	}
	@member = sort { rand() <=> 0.5 } @member if chance(0.5);
	# of two members with one name the last counts, the other is rescued
	if (chance(0.05) && grep { $_->[0] eq 'c1' } @member)
	{
		my $text = $source->{column}[1][1] eq 'text';
		unshift @member, [ 'c1', $text ? '"earlier"' : 'null' ];
		push @unknown, [ 'c1', 'earlier', 'earlier', undef, undef, $source->{rescue} ? 'duplicate' : 'drop' ] if $text;
	}
	write_json_record($source, $file, \@member, \@fields, \@unknown);
	return;
}

# json_member writes a value: as it is, or as a string with the same content
sub json_member
{
	my ($source, $field) = @_;
	my ($name, $text, $value, $bare) = @$field;
	return 'null' unless defined $text;
	return $bare if defined $bare && (is_json($source, $name) || $source->{unknown} eq 'column' || chance(0.6));
	return json_string($text, chance(0.3));
}

sub write_json_record
{
	my ($source, $file, $member, $fields, $unknown) = @_;
	my $blank = chance(0.2) ? ' ' : '';
	my $break = $source->{multi_line} && chance(0.3) ? one_of("\n", "\r\n  ", "\n\n") : $blank;
	my $record = '{' . join(",$break", map { json_string($_->[0]) . "$blank:$blank$_->[1]" } @$member) . "$break}";
	my $fault = chance($file->{trouble}) ? one_of(qw(torn other bytes)) : '';
	my $sqlstate = '';

	if ($file->{array} && $file->{next_id} > 2)
	{
		put($source, $file, one_of(',', ", ", ",\n", "\n,\r\n"));
	}
	if ($fault eq 'torn')
	{
		$record = $file->{array} || $source->{multi_line} ? '{"id" 5}' : '{"id": 5';
		$sqlstate = '22P02';
	}
	elsif ($fault eq 'other')
	{
		$record = one_of('[1]', '17', '"text"', 'null');
		# an array at the top is its elements
		$record = '17' if $source->{multi_line} && !$file->{array};
		$sqlstate = '22P02';
	}
	elsif ($fault eq 'bytes' && $source->{encoding} eq 'UTF8')
	{
		my $bytes = Encode::encode('UTF-8', $record);
		$bytes =~ s/^\{/{"id": "\xff", /;
		$record = \$bytes;
		$sqlstate = '22021';
	}
	my @place = ($file->{line}, length($file->{bytes}));
	put($source, $file, ref $record ? \"$$record" : $record);
	my $raw = substr($file->{bytes}, $place[1]);
	put($source, $file, !$source->{multi_line} ? $file->{eol} : $file->{array} ? '' : one_of("\n", "\r\n", ' ', "\n\n"));
	if ($sqlstate)
	{
		push @{ $file->{rejects} }, [ @place, $sqlstate, '', $raw ];
		return;
	}
	settle($source, $file, $fields, $unknown, [ @place, $raw ]);
	return;
}

1;
