# Names as people and attackers choose them, things that are no files, links
# that lead elsewhere, directories that may not be read: each is loaded with its
# content, or shown with its reason, and none disturbs the others. Then a table
# that is altered while files are loaded into it.
use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use IO::Socket::UNIX;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(mkfifo);
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $node = lakehouse_node('names', conf => "lakehouse.batch_bytes = '64kB'\n");
my $landing = make_landing($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub spew
{
	my ($path, $text) = @_;
	open(my $file, '>', "$landing/$path") or die "$path: $!";
	print $file $text;
	close($file) or die "$path: $!";
	return;
}

# ---- names
sql(<<'END');
CREATE SCHEMA bronze;
CREATE TABLE bronze.name (id int, name_hex text);
SELECT lakehouse.create_source('names', 'landing', 'bronze.name', path => 'names/*', format => 'csv');
END
make_path("$landing/names");
my @good = (
	"new\nline.csv", "tab\t.csv", "\r.csv", "\e[31m.csv", '-rf', '--', 'a b  c.csv', ' lead', 'trail ', 'dot.', 'x..y', 'x...',
	'*', '?', '[a-z]', '[', ']', '{a,b}', '~', '~root', '$HOME', '`id`', '$(id)', ';id', '|id', '&', '>x', '<x', '\\', '\\x41',
	'%s%n', "quote'", 'quote"', "'; DROP TABLE bronze.name; --", '$$', 'C:\\x', 'file:', 'CON', 'null', 'NULL',
	"\xe2\x80\xaefdp.csv", "\xef\xbb\xbfbom", "\xc3\xa4", "a\xcc\x88", "\xf0\x9f\x98\x80", "\xe2\x80\xa8", "\x7f", 'a' x 255, "\xc3\xa4" x 127,
	'gz.csv.gz');
my @bad = ("\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "latin\xe4.csv");
my @silent = ('.hidden', '_SUCCESS', 'half.tmp', 'half.part', '..x', '...');

my ($corpora) = grep { -d $_ }
  map { "$_/corpora" } grep { defined $_ } $ENV{LAKEHOUSE_SHARED},
  map { "$FindBin::RealBin/$_/shared" } '../../..', '../../../../..';
if (defined $corpora)
{
	my %known = map { $_ => 1 } @good, @bad, @silent;
	for my $file (glob("$corpora/naughty-strings/*.txt"))
	{
		for my $name (split /\n/, slurp_file($file))
		{
			next if $name =~ m{^[._#]|/|\0|\.(tmp|part)$} || $name eq '' || length($name) > 255 || $known{$name}++;
			my $copy = $name;
			my $text = utf8::decode($copy) && $copy !~ /[\x{d800}-\x{dfff}]|[^\x{0}-\x{10ffff}]/;
			push @{ $text ? \@good : \@bad }, $name;
		}
	}
}
else
{
	diag('corpora are missing (LAKEHOUSE_SHARED): their names are not tried');
}
my $id = 0;
my @expected;
for my $name (@good)
{
	my $hex = unpack('H*', $name);
	spew("names/$name", ++$id . ",$hex\n");
	push @expected, "($id,'$hex')";
}
spew("names/$_", "0,wrong\n") for @bad, @silent;
my ($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.run_source('names')");
is($status, 0, 'a run over ' . @good . " names ends well: $err");
same_multiset($node, 'SELECT id, name_hex FROM bronze.name', 'SELECT * FROM (VALUES ' . join(',', @expected) . ') v', 'every file is loaded, whatever its name');
same_multiset(
	$node,
	q{SELECT path FROM lakehouse.file WHERE state = 'loaded'},
	q{SELECT 'names/' || convert_from(decode(hex, 'hex'), 'UTF8') FROM (VALUES } . join(',', @expected) . ') v(id, hex)',
	'and is in the ledger by its name, byte for byte');
is(sql(q{SELECT string_agg(DISTINCT state || ' ' || sqlstate, ',') || ' ' || count(*) FROM lakehouse.file WHERE state <> 'loaded'}),
	'skipped 22021 ' . @bad, 'names that are no text are shown and passed over');
is(sql("SELECT lakehouse.run_source('names')"), sql("SELECT lakehouse.run_source('names')"), 'a second run finds nothing new');
is(sql('SELECT count(*) FROM bronze.name'), scalar(@good), 'and loads nothing twice');

# ---- what is no file, and what leads elsewhere
sql(<<'END');
CREATE TABLE bronze.thing (id int);
SELECT lakehouse.create_source('things', 'landing', 'bronze.thing', path => 'things/**/*.csv', options => '{"settle_ms": 0}');
END
make_path("$landing/things/dir.csv", "$landing/things/sub", "$landing.outside");
open(my $secret, '>', "$landing.outside/secret.csv") or die $!;
print $secret "666\n";
close($secret);
mkfifo("$landing/things/fifo.csv", 0644) or die $!;
chdir("$landing/things") or die $!;
my $socket = IO::Socket::UNIX->new(Local => 'socket.csv', Listen => 1) or die "socket: $!";
chdir('/') or die $!;
symlink("$landing.outside/secret.csv", "$landing/things/absolute.csv") or die $!;
symlink('../../landing.outside/secret.csv', "$landing/things/relative.csv") or die $!;
symlink('good.csv', "$landing/things/inside.csv") or die $!;
symlink('loop.csv', "$landing/things/loop.csv") or die $!;
symlink('/dev/zero', "$landing/things/zero.csv") or die $!;
symlink('/proc/self/environ', "$landing/things/environ.csv") or die $!;
symlink("$landing.outside", "$landing/things/outside") or die $!;
symlink('..', "$landing/things/sub/up") or die $!;
spew('things/good.csv', "1\n");
spew('things/sub/good.csv', "2\n");
spew('things/dir.csv/inner.csv', "3\n");
($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '20s'; SELECT lakehouse.run_source('things')");
is($status, 0, "a run over things that are no files ends well: $err");
is(sql('SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM bronze.thing'), '1 2 3', 'files are loaded, nothing from elsewhere');
is(sql(q{SELECT string_agg(path || ' ' || sqlstate, ' ' ORDER BY path COLLATE "C") FROM lakehouse.file_status WHERE source = 'things' AND state = 'skipped'}),
	join(' ', map { "things/$_.csv 42809" } qw(absolute environ fifo inside loop relative socket zero)), 'each is shown with its reason');
undef $socket;

# ---- a directory that may not be read
SKIP:
{
	skip 'the superuser of the machine may read everything', 3 if $> == 0;
	make_path("$landing/things/closed");
	spew('things/closed/a.csv', "4\n");
	spew('things/later.csv', "5\n");
	chmod(0000, "$landing/things/closed") or die $!;
	($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.run_source('things')");
	is($status, 0, 'a run with a directory that may not be read ends');
	is(sql('SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM bronze.thing'), '1 2 3 5', 'the others are loaded');
	chmod(0755, "$landing/things/closed") or die $!;
	sql("SELECT lakehouse.run_source('things')");
	is(sql('SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM bronze.thing'), '1 2 3 4 5', 'and its files when it may be read');
}

# ---- a table that is altered while it is loaded
my %sent;
sql(<<'END');
CREATE TABLE bronze.record (file text, ordinal integer, value text);
SELECT lakehouse.create_source('records', 'landing', 'bronze.record', path => 'in/*.csv',
  options => '{"header": true, "settle_ms": 0}', trigger => 'continuous');
END
my @change = (
	'ADD COLUMN note text', 'ADD COLUMN made timestamptz DEFAULT now()', 'DROP COLUMN note', 'ADD COLUMN note integer',
	'ALTER COLUMN ordinal TYPE bigint', "ALTER COLUMN value SET DEFAULT 'none'", 'RENAME COLUMN note TO remark',
	'ADD CHECK (ordinal > 0)', 'ALTER COLUMN ordinal SET NOT NULL', 'ADD COLUMN twice bigint GENERATED ALWAYS AS (ordinal * 2) STORED',
	'ADD UNIQUE (file, ordinal)', 'ALTER COLUMN file TYPE varchar(100)', 'DROP COLUMN remark', 'ALTER COLUMN value SET STORAGE EXTERNAL');
my $file = 0;
for my $change (@change)
{
	my $name = sprintf('f%04d.csv', ++$file);
	write_csv($landing, $name, 3000, \%sent);
	land($landing, $name);
	usleep(int(rand(200_000)));
	($status, $out, $err) = $node->psql('postgres', "SET lock_timeout = '20s'; ALTER TABLE bronze.record $change");
	is($status, 0, "while it is loaded: $change $err");
}
sql(<<'END');
CREATE FUNCTION bronze.mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.value := NEW.value; RETURN NEW; END $$;
CREATE TRIGGER mark BEFORE INSERT ON bronze.record FOR EACH ROW EXECUTE FUNCTION bronze.mark();
END
write_csv($landing, 'last.csv', 2000, \%sent);
land($landing, 'last.csv');
my $files = scalar(keys %{ $sent{files} });
ok(poll_value($node, "SELECT count(*) FROM lakehouse.file_status WHERE source = 'records' AND state = 'loaded'", $files, 90), 'all files are loaded');
is(sql('SELECT count(*) FROM bronze.record WHERE twice <> ordinal * 2 OR (made IS NULL AND twice IS NULL)'), '0', 'generated columns are right');
sql("SELECT lakehouse.drop_source('names'), lakehouse.drop_source('things')");
check_files($node, 'records', \%sent);

$node->stop;
done_testing();
