# Random sources over random files, against a model that knows what was written:
# formats and their dialects, quoted line ends, ragged and broken records, values
# that do not fit, new columns, rescued data, folders, metadata, compression,
# limits, files that change. Each is loaded three times: at once; in pieces by
# sessions that are killed; by one to three workers, beside kills of workers and
# of the server. Each time rows, rejects and the ledger are those of the model,
# so they do not depend on how the input was cut.
#
# LAKEHOUSE_RANDOM_SECONDS (45) says for how long, LAKEHOUSE_KILLS for how many
# kills at least ("make soak", "make kills"); a case that fails is repeated
# alone by LAKEHOUSE_SEED and LAKEHOUSE_CASE.
use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use LakehouseTest;
use PostgreSQL::Test::Utils;
use RandomFiles;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed = seed();
# in a build with fault points sessions die at these as well
my %point;
if ($ENV{LAKEHOUSE_FAULTS_PATH})
{
	for my $source (map { glob("$FindBin::RealBin/../../src/$_/*.c") } qw(bronze delta))
	{
		$point{$_} = 1 for grep { !/^(kafka|merge|replay)/ } slurp_file($source) =~ /LH_FAULT\("([^"]+)"\)/g;
	}
}
my @points = sort keys %point;
my $node = lakehouse_node('random', $ENV{LAKEHOUSE_FAULTS_PATH} ? (install_path => $ENV{LAKEHOUSE_FAULTS_PATH}) : (), conf => <<'END');
log_min_messages = warning
TimeZone = 'UTC'
lakehouse.schema_lock_timeout = 100
END
my $landing = make_landing($node);
my $scratch = PostgreSQL::Test::Utils::tempdir();
my %packer = (gzip => 'gzip -nc', zstd => 'zstd -qc', lz4 => 'lz4 -qc', bzip2 => 'bzip2 -c');
my %did;

# kills counts what was killed
my $killed = 0;

sub kills
{
	$killed++;
	$did{"killed $_[0]"}++;
	return;
}

sub sql { return $node->safe_psql('postgres', $_[0]) }

# put brings the file to its place, packed if it is to be, and gives its size
sub put
{
	my ($file) = @_;
	my ($folder) = $file->{path} =~ m{^(.*)/};
	make_path("$landing/$folder");
	open(my $handle, '>:raw', "$scratch/file") or die $!;
	print $handle $file->{bytes};
	close($handle) or die $!;
	if ($file->{packed})
	{
		system("$packer{$file->{packed}} <'$scratch/file' >'$scratch/packed' && mv '$scratch/packed' '$scratch/file'") == 0 or die;
	}
	utime($file->{mtime}, $file->{mtime}, "$scratch/file") or die $!;
	my $size = -s "$scratch/file";
	rename("$scratch/file", "$landing/$file->{path}") or die $!;
	return $size;
}

# new_files makes the files of a case, and what is expected of each: {docs,
# rejects, state, file}.
sub new_files
{
	my ($source, $case) = @_;
	my %expected;
	my $count = 1 + int(rand(4));
	my $large = rand() < 0.25 ? int(rand($count)) : -1;
	for my $i (0 .. $count - 1)
	{
		my @folders = ('plain', 'a%2Fb', '__HIVE_DEFAULT_PARTITION__');
		my $folder = $source->{partitions} && rand() < 0.8
		  ? 'part=' . $folders[ int(rand(@folders)) ] . '/' . (rand() < 0.5 ? sprintf('day=2024-01-%02d/', 1 + int(rand(28))) : '') : '';
		my $file = make_file($source, "in/c$case/${folder}f$i.x",
			$i == $large ? 4500 + int(rand(4000)) : int(rand(rand() < 0.5 ? 8 : 60)), 1_600_000_000 + int(rand(100_000_000)));
		my $size = put($file);
		$did{'failed files'}++ if $file->{failed};
		$did{'large files'}++ if $i == $large;
		$did{rejects} += @{ $file->{rejects} };
		$did{'rescued rows'} += grep { $_->{_rescued_data} } @{ $file->{rows} };
		$expected{ $file->{path} } = { file => $file, state => $file->{failed} ? 'failed' : 'loaded', size => $size, mtime => $file->{mtime},
			docs => $file->{failed} ? [] : row_documents($source, $file, $size),
			rejects => $file->{failed} ? [] : [ @{ $file->{rejects} } ] };
	}
	return \%expected;
}

sub make_file
{
	my ($source, $path, $records, $mtime) = @_;
	my $file = random_file($source, $path, $records, $mtime);
	$file->{folder}{part} =~ s{%2F}{/} if defined $file->{folder}{part};
	$_->{part} && $_->{part} =~ s{%2F}{/} for @{ $file->{rows} };
	my @kinds = sort keys %packer;
	$file->{packed} = $kinds[ int(rand(@kinds)) ] if rand() < 0.25 && $file->{bytes} ne '';
	$did{"packed $file->{packed}"}++ if $file->{packed};
	return $file;
}

# change_files changes some of the loaded files and what is expected of them.
sub change_files
{
	my ($source, $expected) = @_;
	my $changed = 0;
	for my $path (sort keys %$expected)
	{
		my $it = $expected->{$path};
		my $file = $it->{file};
		next if $it->{state} ne 'loaded' || length($file->{bytes}) < 40 || rand() < 0.5;
		my $mtime = $file->{mtime} + 1000;
		if ($source->{on_change} eq 'tail' && rand() < 0.8)
		{
			next if $file->{packed} || $source->{multi_line} || $file->{bytes} !~ /[\r\n]\z/;
			my $first = @{ $file->{rows} };
			append_records($source, $file, 1 + int(rand(20)));
			$file->{mtime} = $mtime;
			judge_file($source, $file);
			my $size = put($file);
			$it->{state} = 'failed' if $file->{failed};
			@$it{qw(size mtime)} = ($size, $mtime);
			push @{ $it->{docs} }, @{ row_documents($source, $file, $size, $first) } unless $file->{failed};
			$it->{rejects} = [ @{ $file->{rejects} } ] unless $file->{failed};
		}
		else
		{
			my $new = make_file($source, $path, 1 + int(rand(60)), $mtime);
			my $size = put($new);
			@$it{qw(size mtime)} = ($size, $mtime);
			my $docs = $new->{failed} ? [] : row_documents($source, $new, $size);
			if ($source->{on_change} =~ /^(ignore|tail)$/)
			{
				$it->{state} = 'changed';
			}
			elsif ($new->{failed})
			{
				$it->{state} = 'failed';
			}
			elsif ($source->{on_change} eq 'replace')
			{
				@$it{qw(docs rejects)} = ($docs, [ @{ $new->{rejects} } ]);
			}
			else
			{
				push @{ $it->{docs} }, @$docs;
				push @{ $it->{rejects} }, @{ $new->{rejects} };
			}
		}
		$did{"changed, $source->{on_change}"}++;
		$changed = 1;
	}
	return $changed;
}

# store_model puts what is expected where the server can compare with it.
sub store_model
{
	my ($source, $expected) = @_;
	open(my $row, '>:utf8', "$scratch/row") or die $!;
	open(my $reject, '>:utf8', "$scratch/reject") or die $!;
	open(my $file, '>:utf8', "$scratch/files") or die $!;
	for my $path (sort keys %$expected)
	{
		my $it = $expected->{$path};
		LakehouseTest::copy_text($row, $_) for @{ $it->{docs} };
		LakehouseTest::copy_text($reject, $path, @$_[ 0 .. 3 ], unpack('H*', $_->[4]), $source->{reject_state})
		  for @{ $it->{rejects} };
		# a version that was not loaded is known by its state
		LakehouseTest::copy_text($file, $path, $it->{state}, $it->{state} eq 'loaded' ? @$it{qw(size mtime)} : (0, 0));
	}
	close($_) or die $! for $row, $reject, $file;
	chmod(0644, "$scratch/row", "$scratch/reject", "$scratch/files");
	sql(<<"END");
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS model CASCADE;
CREATE SCHEMA model;
CREATE TABLE model.row (doc jsonb);
CREATE TABLE model.reject (path text, line bigint, byte_offset bigint, sqlstate text, column_name text, raw text, state text);
CREATE TABLE model.file (path text, state text, size bigint, mtime bigint);
COPY model.row FROM '$scratch/row';
COPY model.reject FROM '$scratch/reject';
COPY model.file FROM '$scratch/files';
END
	return;
}

# the present versions of a source's files, as in model.file
my $versions = <<'END';
SELECT path, state, CASE WHEN state = 'loaded' THEN size ELSE 0 END,
       CASE WHEN state = 'loaded' THEN extract(epoch FROM mtime)::bigint ELSE 0 END
  FROM lakehouse.file_status WHERE source = 'NAME' AND ended IS NULL
END

# compare tells whether the source has become what the model says.
sub compare
{
	my ($name, $what) = @_;
	my $good = 1;
	$good &= same_multiset($node, "SELECT jsonb_strip_nulls(to_jsonb(t) - '_load_id') FROM $name t",
		'SELECT jsonb_strip_nulls(doc) FROM model.row', "$what: rows");
	$good &= same_multiset($node, <<"END", 'SELECT * FROM model.reject', "$what: rejects");
SELECT file, line, byte_offset, sqlstate, coalesce(column_name, ''), encode(raw, 'hex'), state
  FROM lakehouse.reject_status WHERE source = '$name'
END
	$good &= same_multiset($node, $versions =~ s/NAME/$name/r, 'SELECT * FROM model.file', "$what: states of the files");
	$good &= is(sql(<<"END"), '', "$what: the ledger's counts are those of the tables");
SELECT f.path, f.version, f.state, f.rows, l.rows, f.rejected, r.n
  FROM lakehouse.file f JOIN lakehouse.source s USING (source_id)
 CROSS JOIN LATERAL (SELECT coalesce(sum(n.n), 0) AS rows FROM lakehouse.load l
         CROSS JOIN LATERAL (SELECT count(*) AS n FROM $name t WHERE t._load_id = l.load_id) n WHERE l.file_id = f.file_id) l
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM lakehouse.reject r WHERE r.file_id = f.file_id) r
 WHERE s.name = '$name' AND f.state <> 'replaced' AND (f.rows <> l.rows OR f.rejected <> r.n)
END
	$good &= is(sql(<<"END"), '', "$what: and so are those of rows with rescued data");
SELECT sum(rescued), (SELECT count(*) FROM $name t WHERE to_jsonb(t) -> '_rescued_data' <> 'null')
  FROM lakehouse.load_status WHERE source = '$name' AND undone IS NULL
HAVING sum(rescued) <> (SELECT count(*) FROM $name t WHERE to_jsonb(t) -> '_rescued_data' <> 'null')
END
	return $good;
}

sub create
{
	my ($source, $name, $case, %more) = @_;
	my %option = (%{ $source->{options} }, %more);
	my $options = RandomFiles::json_text(\%option);
	sql(<<"END");
CREATE TABLE $name ($source->{columns});
SELECT lakehouse.create_source('$name', server => 'landing', target => '$name', format => '$source->{format}',
  path => 'in/c$case/**/*.x', options => \$o\$$options\$o\$);
END
	return;
}

# run_in_pieces runs the source with small batches, in sessions of which some are
# killed.
sub run_in_pieces
{
	my ($name) = @_;
	my $set = 'SET lakehouse.batch_rows = ' . (1 + int(rand(rand() < 0.5 ? 30 : 5000))) . '; SET lakehouse.batch_files = '
	  . (1 + int(rand(3))) . "; SET lakehouse.batch_bytes = '64kB'";
	my $kill = rand() < 0.4;
	if ($kill)
	{
		my ($pid, $fault);
		my $seen = -s $node->logfile;
		$fault = $points[ int(rand(@points)) ] if @points && rand() < 0.6;
		my $die = $fault ? "SET lakehouse.fault = '$fault:kill:" . (1 + int(rand(3))) . "'; " : '';
		my $session = LakehouseTest::start_session($node, "$die$set; SELECT lakehouse.run_source('$name')", \$pid);
		usleep(int(rand(60_000)));
		my $hit = !$fault && $pid && kill('KILL', $pid);
		eval { $session->finish };
		$hit ||= slurp_file($node->logfile, $seen) =~ /fault point "[^"]+" reached: kill/;
		# it may have ended just before
		wait_until(sub { slurp_file($node->logfile, $seen) =~ /reinitializing/ }, 2) && wait_restarted($node, $seen) if $hit;
		kills($fault ? "sessions at $fault" : 'sessions') if $hit;
	}
	sql("$set; SELECT lakehouse.run_source('$name')");
	return;
}

# work lets workers read the source until it is as the model says
sub work
{
	my ($name) = @_;
	# so that a large file becomes ranges, which workers load side by side
	sql("ALTER DATABASE postgres SET lakehouse.batch_bytes = '" . (64 + int(rand(200))) . "kB'; ALTER DATABASE postgres SET lakehouse.batch_rows = "
		  . (1 + int(rand(10_000))) . "; SELECT lakehouse.alter_source('$name', trigger => 'continuous')");
	for (1 .. (rand() < 0.5 ? 0 : 1 + int(rand(2))))
	{
		usleep(int(rand(150_000)));
		my $seen = -s $node->logfile;
		if (rand() < 0.3)
		{
			kill_server($node);
			start_again($node);
			kills('servers');
			next;
		}
		my $pid;
		wait_until(
			sub {
				(undef, $pid) = try_psql($node,
					"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'lakehouse%' AND application_name LIKE '%$name%' ORDER BY random() LIMIT 1");
				return $pid;
			},
			5);
		usleep(int(rand(30_000)));
		next unless $pid && kill('KILL', $pid);
		wait_restarted($node, $seen) if wait_until(sub { slurp_file($node->logfile, $seen) =~ /reinitializing/ }, 2);
		kills('workers');
	}
	my $present = $versions =~ s/NAME/$name/r;
	my $done = poll_value($node, <<"END", '0', 60);
SELECT count(*) FROM ((($present) EXCEPT ALL (SELECT * FROM model.file)) UNION ALL ((SELECT * FROM model.file) EXCEPT ALL ($present))) f
END
	diag(sql("SELECT path, state, sqlstate, error FROM lakehouse.file_status WHERE source = '$name'"),
		sql("SELECT * FROM lakehouse.source_status WHERE name = '$name'")) unless $done;
	sql("SELECT lakehouse.alter_source('$name', trigger => 'available_now')");
	return;
}

# random_case does one case; false if something was not as it should be.
sub random_case
{
	my ($case) = @_;
	srand($seed + $case);
	my $source = random_source(rand() < 0.6);
	my $options = RandomFiles::json_text($source->{options});
	my $what = "case $case, $source->{format}";
	my @name = map { "c${case}_$_" } qw(whole pieces workers);
	create($source, $name[0], $case);
	create($source, $name[1], $case);
	create($source, $name[2], $case, settle_ms => \'0', workers => \(1 + int(rand(3)) . ''));
	my $expected = new_files($source, $case);
	my $good = 1;
	$did{$_}++ for "$source->{format}" . ($source->{multi_line} ? ' multi_line' : ''), map { "$_" } grep { $source->{$_} } qw(rescue evolve partitions check);
	for my $phase ('', ', after changes')
	{
		srand($seed + $case + 1_000_000) if $phase;
		last if $phase && !change_files($source, $expected);
		store_model($source, $expected);
		sql("SET lakehouse.batch_bytes = '1GB'; SET lakehouse.batch_rows = 1000000; SELECT lakehouse.run_source('$name[0]')");
		$good &&= compare($name[0], "$what, at once$phase");
		run_in_pieces($name[1]);
		$good &&= compare($name[1], "$what, in pieces$phase");
		work($name[2]);
		$good &&= compare($name[2], "$what, by workers$phase");
		last unless $good;
	}
	diag("LAKEHOUSE_SEED=$seed LAKEHOUSE_CASE=$case: $source->{columns}\n$options") unless $good;
	return $good;
}

my $end = time() + ($ENV{LAKEHOUSE_RANDOM_SECONDS} // 45);
my $kills = $ENV{LAKEHOUSE_KILLS} // 0;
my $cases = 0;
my $failed = 0;
if (defined $ENV{LAKEHOUSE_CASE})
{
	random_case($ENV{LAKEHOUSE_CASE});
}
else
{
	while (($cases < 6 || time() < $end || $killed < $kills) && $failed < 3)
	{
		$failed++ unless random_case($cases++);
	}
}
is(sql('SELECT object, detail FROM lakehouse.verify() WHERE NOT ok'), '', 'verify() finds nothing');
note(join(', ', "$cases cases", map { "$_: $did{$_}" } sort keys %did));
$node->stop;
done_testing();
