# Attacks on the reading, moving and deleting of files: by roles that want to
# reach what they may not, and by whoever may write into the landing directory.
use strict;
use warnings;

use Cwd qw(realpath);
use File::Path qw(make_path);
use IO::Socket::UNIX;
use LakehouseTest;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

seed();
my $node = lakehouse_node('attacks');
my $base = realpath($node->basedir);
my $data = realpath($node->data_dir);
my $landing = "$base/landing";
make_path("$landing/in", "$base/landing-secret", "$base/secret", "$base/allowed/deep", "$base/done", "$base/space");
$node->append_conf('postgresql.conf', "lakehouse.allowed_directories = '$base/allowed, $landing'\n");
$node->reload;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# as gives the messages of statements that a role runs, shown the rows as well
sub as
{
	my ($role, $statements) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET ROLE $role;\n\\set VERBOSITY verbose\n$statements");
	return $err;
}

sub shown
{
	my ($role, $statements) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET ROLE $role;\n$statements");
	return $out . $err;
}

sub spew
{
	my ($file, $text) = @_;
	open(my $out, '>', "$file.tmp") or die "$file: $!";
	print $out $text;
	close($out) or die "$file: $!";
	rename("$file.tmp", $file) or die "$file: $!";
	return;
}

# the messages without what differs by the question: names and places in the code
sub message
{
	my ($err, @names) = @_;
	$err =~ s/\Q$_\E/NAME/g for @names;
	$err =~ s/^LOCATION:.*\n?//mg;
	$err =~ s/psql:<stdin>:\d+: //g;
	return $err;
}

poll_value($node, 'SHOW lakehouse.allowed_directories', "$base/allowed, $landing") or fail('the setting is there');
spew("$base/secret/secret.csv", "666,topsecret\n");
spew("$base/landing-secret/secret.csv", "667,topsecret\n");
sql(<<"END");
CREATE SCHEMA bronze;
CREATE TABLE bronze.t (id text, word text);
CREATE ROLE evil LOGIN;
CREATE ROLE reader LOGIN;
CREATE ROLE etl LOGIN;
CREATE ROLE watcher LOGIN;
GRANT pg_monitor TO watcher;
SELECT lakehouse.grant_use(r::regrole) FROM unnest('{evil,reader,etl,watcher}'::text[]) r;
GRANT USAGE ON FOREIGN DATA WRAPPER lakehouse_files TO evil, etl;
CREATE SCHEMA evil AUTHORIZATION evil;
CREATE SCHEMA etl AUTHORIZATION etl;
CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$landing');
END

# ---- who may name a directory
sub server { my ($name, $directory) = @_; return "CREATE SERVER $name FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '$directory')" }
like(as('evil', server('s1', "$base/allowed")), qr/ERROR:  42501/, 'without pg_read_server_files nobody names a directory');
is(message(as('evil', server('s1', "$base/secret")), "$base/secret"), message(as('evil', server('s1', "$base/none")), "$base/none"),
	'and learns nothing about it');
sql('GRANT pg_read_server_files TO evil');
is(as('evil', server('good', "$base/allowed/deep")), '', 'with it what a superuser allowed can be named');
my @outside = ("$base/secret", "$base/none", "$base/allowed-not", "$base/allowe", '/', '/etc', '/root', '/nonexistent', '/proc/self', '/dev', $data);
my %said;
$said{ message(as('evil', server('s2', $_)), $_) }++ for @outside;
is(scalar(keys %said), 1, 'for what lies outside there is one message, be it there or not') or diag(join("\n", keys %said));
like((keys %said)[0], qr/ERROR:  42501: permission denied for directory "NAME"/, 'which is that of a missing right');
like(as('evil', server('s3', $_)), qr/ERROR:  HV024/, "\"$_\" is no directory's name")
  for 'relative', '', '~', '~root', 'file:///etc', "$base/allowed/../secret", "$base/allowed/./deep", "$base/allowed/..", '/' . 'x' x 4096, '|id', '`id`';
like(as('evil', server('s4', "$base/allowed/deep") . ";\nALTER SERVER s4 OPTIONS (SET directory '$base/secret')"), qr/ERROR:  42501/, 'nor can a server be altered to it');
symlink("$base/secret", "$base/allowed/pointer") or die $!;
symlink("$base/none", "$base/allowed/dangling") or die $!;
symlink('/root', "$base/allowed/root") or die $!;
sql("CREATE TABLE evil.t (id text, word text); ALTER TABLE evil.t OWNER TO evil");
%said = ();
for my $link (qw(pointer dangling root))
{
	as('evil', server("l_$link", "$base/allowed/$link"));
	as('evil', "SELECT lakehouse.create_source('l_$link', 'l_$link', 'evil.t', path => '*.csv')");
	$said{ message(as('evil', "SELECT * FROM lakehouse.run_source('l_$link')"), $link) }++;
	$said{ message(as('evil', "SELECT * FROM lakehouse.infer_schema('l_$link', '*.csv', 'csv')"), $link) }++;
}
is(scalar(keys %said), 1, 'a link beneath an allowed directory leads nowhere, wherever it points') or diag(join("\n", keys %said));
is(sql('SELECT count(*) FROM evil.t'), '0', 'and nothing was read behind it');
like(as('evil', "SET lakehouse.allowed_directories = '/'"), qr/ERROR:  55P02/, 'the setting is not for sessions');
like(as('evil', "ALTER SYSTEM SET lakehouse.allowed_directories = '/'"), qr/ERROR:  42501/, 'nor for everybody');

# a right that is taken back
spew("$base/allowed/deep/a.csv", "1,a\n");
is(as('evil', "SELECT lakehouse.create_source('good', 'good', 'evil.t', path => '*.csv');\nSELECT lakehouse.run_source('good')"), '', 'what is allowed is read');
spew("$base/allowed/deep/b.csv", "2,b\n");
sql('REVOKE pg_read_server_files FROM evil');
like(as('evil', "SELECT lakehouse.run_source('good')"), qr/ERROR:  42501/, 'not after the privilege was revoked');
sql('GRANT pg_read_server_files TO evil');
sql("ALTER SYSTEM SET lakehouse.allowed_directories = '$landing'");
$node->reload;
poll_value($node, 'SHOW lakehouse.allowed_directories', $landing) or fail('the setting changed');
like(as('evil', "SELECT lakehouse.run_source('good')"), qr/ERROR:  42501/, 'not after the directory was taken from the list');
sql('ALTER SYSTEM RESET lakehouse.allowed_directories');
$node->reload;
poll_value($node, 'SHOW lakehouse.allowed_directories', "$base/allowed, $landing") or fail('the setting is back');
is(as('evil', "SELECT lakehouse.run_source('good')"), '', 'with both again');
is(sql('SELECT count(*) FROM evil.t'), '2', 'each file is read once');

# ---- the cluster's own files
my $run = 0;
sql("CREATE TABLESPACE extra LOCATION '$base/space'; CREATE TABLE bronze.extra (i int) TABLESPACE extra");
for my $directory ($data, "$data/base", "$data/global", "$base/space", "$data/pg_tblspc")
{
	my $name = 'cluster' . ++$run;
	sql(server($name, $directory));
	my (undef, undef, $err) = $node->psql('postgres', "SELECT lakehouse.create_source('cluster', '$name', 'bronze.t', path => '**/*', format => 'text');\nSELECT lakehouse.run_source('cluster')");
	like($err, qr/part of the database cluster/, "the superuser's source does not read $directory");
	$node->psql('postgres', "SELECT lakehouse.drop_source('cluster', true)");
}
(my $inside = $data) =~ s{^\Q$base\E/}{};
sql(server('everything', $base));
sql(server('root', '/'));
sql('CREATE TABLE bronze.line (value text)');
my ($status, $out, $err);
for my $path ("$inside/pg_hba.conf", "$inside/*.conf", '**/PG_VERSION', "$inside/global/*", 'space/**/*')
{
	($status, $out, $err) = $node->psql('postgres', "SELECT lakehouse.create_source('cluster', 'everything', 'bronze.line', path => '$path', format => 'text');\n"
		  . "SELECT * FROM lakehouse.run_source('cluster');\nSELECT lakehouse.drop_source('cluster')");
	is(sql('SELECT count(*) FROM bronze.line'), '0', "nor from above it: $path");
}
for my $path ('proc/self/environ', 'proc/*/environ', 'proc/self/fd/*', 'dev/stdin', 'dev/zero', 'dev/fd/0', substr($data, 1) . '/server.key', substr($data, 1) . '/postgresql.conf')
{
	next if $path eq 'proc/*/environ' && $> == 0;
	($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '60s';\nSELECT lakehouse.create_source('cluster', 'root', 'bronze.line', path => '$path', format => 'text');\n"
		  . "SELECT * FROM lakehouse.run_source('cluster');\nSELECT lakehouse.drop_source('cluster')");
	unlike($err, qr/timeout/, "it does not hang: $path");
	is(sql("SELECT count(*) FROM bronze.line WHERE value ~ 'PGDATA|LAKEHOUSE|PATH='"), '0', "nor are /proc and /dev a way in: $path");
	sql("SELECT lakehouse.drop_source('cluster', true)");
}
sql('TRUNCATE bronze.line; DROP SERVER everything CASCADE; DROP SERVER root CASCADE');

# ---- paths beneath the directory
sql('GRANT USAGE ON FOREIGN SERVER landing TO etl');
sql('CREATE TABLE etl.t (id text, word text); ALTER TABLE etl.t OWNER TO etl');
for my $path ('../secret/*.csv', 'in/../../secret/*.csv', '/etc/passwd', "$base/secret/secret.csv", 'in//x.csv', './x.csv', 'in/./x.csv', 'in/', '..', '.', 'x' x 4096, '../landing-secret/*.csv')
{
	like(as('etl', "SELECT lakehouse.create_source('p', 'landing', 'etl.t', path => '$path', format => 'csv')"), qr/ERROR:  22023: invalid path/,
		'a path that leads out or nowhere: ' . substr($path, 0, 40));
}
for my $path ('~/x.csv', 'file:x.csv', '|id', 'PROGRAM', '$(id).csv', '`id`.csv', '-secret/*.csv', '*/../x')
{
	as('etl', "SELECT lakehouse.create_source('p', 'landing', 'etl.t', path => '$path', format => 'csv');\nSELECT lakehouse.run_source('p');\nSELECT lakehouse.drop_source('p')");
	is(sql('SELECT count(*) FROM etl.t'), '0', "a path that means nothing here: $path");
}
like(as('etl', "SELECT lakehouse.create_source('p', 'landing', 'etl.t', path => '*.csv', options => '{\"program\": \"id\"}')"), qr/ERROR:  22023/, 'there is no option that runs a program');
like(as('etl', "SELECT lakehouse.create_source('p', 'landing', 'etl.t', path => E'in\\x00.csv')"), qr/ERROR:  22021/, 'NUL ends no path');
like(as('etl', "UPDATE lakehouse.source SET path = '../*'"), qr/ERROR:  42501/, 'the catalog is closed: sources');
like(as('etl', "INSERT INTO lakehouse.file_clean (file_id, source_id, mode, due) VALUES (1, 1, 'delete', now())"), qr/ERROR:  42501/, 'the catalog is closed: what is to be deleted');
like(as('etl', 'SELECT * FROM lakehouse.file'), qr/ERROR:  42501/, 'the catalog is closed: files');
# who can write the catalog is a superuser; a path that leads out leads nowhere all the same
sql("SELECT lakehouse.create_source('forged', 'landing', 'bronze.t', path => 'forged/*.csv')");
sql("INSERT INTO lakehouse.file (source_id, path, size, mtime, mtime_ns, state) SELECT source_id, p, 1, 'epoch', 0, 'discovered' FROM lakehouse.source,"
	  . " unnest('{../secret/secret.csv,/etc/passwd,in/../../secret/secret.csv}'::text[]) p WHERE name = 'forged'");
$node->psql('postgres', "SELECT lakehouse.run_source('forged')");
is(sql('SELECT count(*) FROM bronze.t'), '0', 'not even a forged ledger makes a source read outside');
sql("SELECT lakehouse.drop_source('forged')");

# ---- bad rows and errors as a channel
spew("$landing/in/private.csv", "1\nhidden-word,2,3\n");
is(as('etl', "SELECT lakehouse.create_source('mine', 'landing', 'etl.t', path => 'in/*.csv');\nSELECT lakehouse.run_source('mine')"), '', 'a source with bad records');
is(sql("SELECT count(*) > 0 FROM lakehouse.reject_status WHERE source = 'mine'"), 't', 'has rejects');
for my $role (qw(reader evil))
{
	for my $view (qw(source_status file_status cloud_files_state reject_status load_status load_progress))
	{
		is(shown($role, "SELECT * FROM lakehouse.$view v WHERE v::text ~ 'mine|private|hidden-word'"), '', "$role sees nothing of it in $view");
	}
	for my $call ("run_source('mine')", "verify_files('mine')", "undo_file('mine', 'in/private.csv')", "reingest_file('mine', 'in/private.csv')",
		"skip_file('mine', 'x')", "replay_rejects('mine')", "drop_source('mine')", "pause_source('mine')", "alter_source('mine', path => '*')")
	{
		my $err = as($role, "SELECT * FROM lakehouse.$call");
		like($err, qr/ERROR:  42501: must be owner of source "mine"/, "$role cannot call $call");
		unlike($err, qr/private|hidden-word/, 'and is told nothing');
	}
}
is(shown('watcher', "SELECT * FROM lakehouse.reject_status v WHERE v::text ~ ('hidden-word|' || encode('hidden-word', 'hex'))"), '', 'who monitors sees no content of records');

# ---- a hard link to a file that only the server may read: whoever may make one
# may write the directory, and it is loaded by who may read the directory; but it
# is another name of the file only, which cleaning up does not touch
spew("$base/secret/kept.csv", "5,kept\n");
link("$base/secret/kept.csv", "$landing/in/hard.csv") or die $!;
sql(qq(SELECT lakehouse.create_source('hard', 'landing', 'bronze.t', path => 'in/hard.csv', options => '{"clean_source": "delete", "clean_source_retention": "0s"}')));
sql("SELECT lakehouse.drop_source('mine')");
sql("SELECT lakehouse.run_source('hard')");
ok(poll_value($node, "SELECT clean_state FROM lakehouse.file_status WHERE source = 'hard'", 'deleted'), 'a hard link is deleted');
is(slurp_file("$base/secret/kept.csv"), "5,kept\n", 'and not the file that has another name');
sql("SELECT lakehouse.drop_source('hard'); TRUNCATE bronze.t");

# ---- FIFOs, sockets, devices: in the inbox, and in the place of a loaded file
make_path("$landing/odd");
sql(qq(SELECT lakehouse.create_source('odd', 'landing', 'bronze.t', path => 'odd/*.csv', options => '{"clean_source": "delete", "clean_source_retention": "0s"}')));
sql("SELECT lakehouse.pause_source('odd')");
my %odd = (
	fifo => sub { mkfifo($_[0], 0644) or die $! },
	directory => sub { mkdir($_[0]) or die $! },
	link => sub { symlink("$base/secret/secret.csv", $_[0]) or die $! });
sql("SELECT lakehouse.resume_source('odd')");
sql("SELECT lakehouse.alter_source('odd', options => '{\"clean_source\": \"delete\", \"clean_source_retention\": \"1 hour\"}')");
spew("$landing/odd/$_.csv", "7,$_\n") for keys %odd;
is(sql("SELECT files FROM lakehouse.run_source('odd')"), '3', 'files are loaded');
for (keys %odd) { unlink("$landing/odd/$_.csv") or die $!; $odd{$_}->("$landing/odd/$_.csv") }
sql("SELECT lakehouse.alter_source('odd', options => '{\"clean_source\": \"delete\", \"clean_source_retention\": \"0s\"}')");
($status) = $node->psql('postgres', "SET statement_timeout = '60s';\nCALL lakehouse.clean_source('odd')");
is($status, 0, 'what took their place hangs nobody');
ok(poll_value($node, "SELECT string_agg(clean_state, ' ') FROM lakehouse.file_status WHERE source = 'odd'", 'left left left'), 'and is left');
ok(-p "$landing/odd/fifo.csv" && -d "$landing/odd/directory.csv" && -l "$landing/odd/link.csv", 'as it is');
is(slurp_file("$base/secret/secret.csv"), "666,topsecret\n", 'with what it leads to');
sql("SELECT lakehouse.drop_source('odd'); TRUNCATE bronze.t");

# ---- races: names and directories that are flipped while files are loaded and
# cleaned up. Whatever happens, nothing outside is read, removed or moved, and
# nothing that was not loaded is gone.
make_path("$landing/race/sub", "$base/outside");
my @victim = map { sprintf('v%02d.csv', $_) } 1 .. 20;
spew("$base/outside/$_", "outside,$_\n") for @victim;
spew("$base/outside/target.csv", "outside,target\n");
my @before = map { (stat("$base/outside/$_"))[1, 9] } @victim;
sql(qq(SELECT lakehouse.create_source('race', 'landing', 'bronze.t', path => 'race/**/*.csv', trigger => 'continuous', options => '{"settle_ms": 0, "on_change": "append_again", "clean_source": "move", "clean_source_retention": "0s", "clean_source_move_target": "$base/done"}')));
my $parent = $$;
my @flippers;
for my $kind (qw(file directory target))
{
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		srand($$);
		while (getppid() == $parent)
		{
			if ($kind eq 'file')
			{
				# a file with the name and size of one outside, and a link to that
				my $name = $victim[ rand @victim ];
				if (open(my $out, '>', "$landing/race/.new")) { print $out "inside,$name.\n"; close($out); rename("$landing/race/.new", "$landing/race/$name") }
				usleep(rand(3000));
				symlink("$base/outside/$name", "$landing/race/.link") && rename("$landing/race/.link", "$landing/race/$name");
			}
			elsif ($kind eq 'directory')
			{
				# a directory, and a link to the one outside
				my $name = $victim[ rand @victim ];
				if (open(my $out, '>', "$landing/race/sub/$name")) { print $out "inside,$name.\n"; close($out) }
				usleep(rand(3000));
				rename("$landing/race/sub", "$landing/race/.sub");
				symlink("$base/outside", "$landing/race/sub");
				usleep(rand(3000));
				unlink("$landing/race/sub");
				rename("$landing/race/.sub", "$landing/race/sub");
			}
			else
			{
				# the directory that files are moved to
				rename("$base/done/race", "$base/done/.race") && symlink("$base/outside", "$base/done/race");
				usleep(rand(3000));
				unlink("$base/done/race");
				rename("$base/done/.race", "$base/done/race");
			}
			usleep(rand(2000));
		}
		POSIX::_exit(0);
	}
	push @flippers, $pid;
}
ok(poll_value($node, "SELECT count(*) >= 60 FROM lakehouse.file_status WHERE source = 'race' AND clean_state = 'moved'", 't', 180), 'files are moved while names are flipped');
kill('KILL', @flippers);
waitpid($_, 0) for @flippers;
is(sql("SELECT count(*) FROM bronze.t WHERE id <> 'inside'"), '0', 'nothing outside was read');
is_deeply([ map { (stat("$base/outside/$_"))[1, 9] } @victim ], \@before, 'no file outside was touched');
is(join(' ', sort map { s{.*/}{}r } glob("$base/outside/*")), join(' ', sort @victim, 'target.csv'), 'none came or went');
is(join(' ', map { slurp_file($_) } sort glob("$base/outside/v*")), join(' ', map { "outside,$_\n" } @victim), 'all have their content');
unlike(join(' ', map { slurp_file($_) } grep { -f $_ && !-l $_ } glob("$base/done/*/*.csv* $base/done/race/sub/*")), qr/outside/, 'none of them was moved');
sql("SELECT lakehouse.drop_source('race')");

$node->stop;
done_testing();
