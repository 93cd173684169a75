# The documents say what the code does: the reference is what the catalog's
# comments give, the page of settings has every setting with its default, links
# lead somewhere, versions agree.
use strict;
use warnings;

use FindBin;
use JSON::PP;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

sub content
{
	my ($path) = @_;
	return slurp_file("$top/$path");
}

my $node = lakehouse_node('docs');

# the reference; "make reference" takes what this writes
my $made = "$ENV{TESTDATADIR}/reference.md";
command_ok(
	[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
		'-o', '/dev/null', '-f', "$top/test/docs/reference.sql" ],
	'the reference can be written');
my ($out, $err) = run_command(
	[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$top/test/docs/reference.sql" ]);
open(my $file, '>', $made) or die "$made: $!";
print $file "$out\n";
close($file) or die "$made: $!";
is(-e "$top/docs/reference.md" ? content('docs/reference.md') : '', "$out\n",
	'docs/reference.md is current (make reference writes it)');

# settings
my $settings = content('docs/settings.md');
my $listed = $node->safe_psql('postgres', <<'END');
SELECT name, coalesce(boot_val, '') || coalesce(unit, ''), context FROM pg_settings WHERE name LIKE 'lakehouse.%' ORDER BY 1
END
my %known;
for my $line (split /\n/, $listed)
{
	my ($name, $default, $context) = split /\|/, $line;
	$known{$name} = 1;
	my $shown = $node->safe_psql('postgres', "SELECT current_setting('$name')");
	like($settings, qr/^\| `\Q$name\E` \| \Q$shown\E \|/m, "docs/settings.md has $name with its default $shown")
	  if $name !~ /^lakehouse\.(launcher_naptime|poll_interval)$/;
	like($settings, qr/^\| `\Q$name\E` \|/m, "docs/settings.md has $name");
}
my @unknown = grep { !$known{$_} } $settings =~ /^\| `(lakehouse\.\w+)` \|/mg;
is("@unknown", '', 'docs/settings.md has no setting that does not exist');

# versions
my ($version) = content('lakehouse.control') =~ /default_version = '([^']+)'/;
my $meta = decode_json(content('META.json'));
is($meta->{version}, $version, 'META.json has the version of the control file');
is($meta->{provides}{lakehouse}{version}, $version, 'and provides it');
is_deeply([ sort grep { !defined $meta->{$_} } qw(abstract license maintainer meta-spec name provides version) ],
	[], 'META.json has every field that PGXN requires');
like(content('CHANGELOG.md'), qr/^## \Q$version\E\b/m, 'CHANGELOG.md has an entry for it');

# links between the documents
for my $page (map { s{^\Q$top\E/}{}r } "$top/README.md", glob("$top/docs/*.md"), glob("$top/examples/*/*.md"))
{
	(my $folder = $page) =~ s{[^/]*$}{};
	my @broken = grep { !-e "$top/$folder$_" }
	  map { s/#.*//r } grep { !/^(https?:|mailto:|#)/ } content($page) =~ /\]\(([^)\s]+)\)/g;
	is("@broken", '', "$page: links lead to files");
}
$node->stop;
done_testing();
