# Whatever a target has (constraints, defaults, generated columns, indexes,
# partitions, triggers, foreign keys, domains), a load stores the rows that
# single INSERTs store, in the same form, and refuses those that they refuse,
# with the same SQLSTATE. And the tuples of a plain table are, byte for byte,
# those that COPY writes.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use Test::More;

seed();
my $node = lakehouse_node('targets');
my $landing = make_landing($node);

my @column = qw(id k n t d u b at);
my $columns = 'id integer, k integer, n integer, t text, d numeric(7,2), u uuid, b boolean, at timestamptz';

sub random_uuid { return join('-', map { join('', map { sprintf('%x', rand(16)) } 1 .. $_) } 8, 4, 4, 4, 12) }

# random_record gives the fields of one record; a part "wrong" of the records
# cannot be stored in some of the targets.
sub random_record
{
	my ($id, $wrong) = @_;
	my @field = (
		$id, int(rand(4)), int(rand(1000)) + 1,
		'x' x ((0, 1, 5, 126, 127, 300, 3000, 9000)[ int(rand(8)) ]) . int(rand(100)),
		(int(rand(100_000)), sprintf('%.2f', rand(90_000)), sprintf('%.4f', rand(9)), '-0.5000')[ int(rand(4)) ],
		random_uuid(), ('t', 'f')[ int(rand(2)) ], sprintf('2015-%02d-%02d %02d:00:00Z', 1 + rand(12), 1 + rand(28), rand(24)));
	if (rand() >= $wrong)
	{
		$field[ int(rand(7)) + 1 ] = '' for 1 .. int(rand(3));
	}
	else
	{
		# one fault only: which of two is judged first is nobody's promise
		my $what = int(rand(6));
		$field[0] = int(rand($id)) + 1 if $what == 0;
		$field[1] = 9 if $what == 1;
		$field[2] = -1 if $what == 2;
		$field[3] = 'refused' if $what == 3;
		$field[4] = '123456.789' if $what == 4;
		$field[7] = 'no time' if $what == 5;
	}
	return @field;
}

sub write_file
{
	my ($name, $records, $wrong) = @_;
	open(my $file, '>', "$landing.tmp/$name") or die $!;
	print $file join(',', @column), "\n";
	print $file join(',', random_record($_, $wrong)), "\n" for 1 .. $records;
	close($file) or die $!;
	return;
}

# ---- the same rows and refusals
write_file('mixed.csv', 1500, 0.06);
rename("$landing.tmp/mixed.csv", "$landing/in/mixed.csv") or die $!;
$node->safe_psql('postgres', <<"END");
CREATE SCHEMA bronze;
CREATE SCHEMA ref;
CREATE EXTENSION btree_gist;
CREATE TABLE staged (line integer GENERATED ALWAYS AS IDENTITY, @{[ join(', ', map { "$_ text" } @column) ]});
COPY staged (@{[ join(', ', @column) ]}) FROM '$landing/in/mixed.csv' (FORMAT csv, HEADER);
CREATE TABLE refused (target text, line integer, sqlstate text);
CREATE TABLE log (target text, what text, r jsonb);
CREATE TABLE parent (k integer PRIMARY KEY);
INSERT INTO parent SELECT generate_series(0, 3);
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE DOMAIN present AS text NOT NULL CHECK (value <> 'refused');

-- what PostgreSQL makes of the records one by one
CREATE FUNCTION insert_staged(target text) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE r staged;
BEGIN
  SET CONSTRAINTS ALL IMMEDIATE;
  FOR r IN SELECT * FROM staged ORDER BY line LOOP
    BEGIN
      EXECUTE format('INSERT INTO ref.%I (@{[ join(', ', @column) ]}) SELECT \$1::integer, \$2::integer, \$3::integer, \$4,'
        ' \$5::numeric(7,2), \$6::uuid, \$7::boolean, \$8::timestamptz', target)
        USING r.id, r.k, r.n, r.t, r.d, r.u, r.b, r.at;
    EXCEPTION WHEN OTHERS THEN
      INSERT INTO refused VALUES (target, r.line + 1, SQLSTATE);
    END;
  END LOOP;
END \$\$;

CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
  IF NEW.n % 10 = 0 THEN RETURN NULL; END IF;
  IF NEW.t = 'refused' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'P0123'; END IF;
  NEW.t := 'changed ' || NEW.t;
  RETURN NEW;
END \$\$;
CREATE FUNCTION keep_row() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN INSERT INTO public.log VALUES (TG_TABLE_SCHEMA || TG_ARGV[0], 'row', to_jsonb(NEW) - '_load_id'); RETURN NULL; END \$\$;
CREATE FUNCTION keep_all() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN INSERT INTO public.log SELECT TG_TABLE_SCHEMA || TG_ARGV[0], 'statement', to_jsonb(a) - '_load_id' FROM added a; RETURN NULL; END \$\$;
END

my $parts = join('', map { "CREATE TABLE %s_$_ PARTITION OF %s FOR VALUES IN (" . ($_ ? $_ : 'NULL, 0') . '); ' } 0 .. 3);
my %target = (
	plain => "CREATE TABLE %s ($columns)",
	checks => "CREATE TABLE %s ($columns, more integer DEFAULT 7 NOT NULL, s serial, CHECK (n > 0 OR n IS NULL), CHECK (t <> 'refused'))",
	nulls => "CREATE TABLE %s ($columns); ALTER TABLE %s ALTER n SET NOT NULL, ALTER b SET NOT NULL",
	generated => "CREATE TABLE %s ($columns, twice integer GENERATED ALWAYS AS (n * 2) STORED, CHECK (twice > 0), i bigint GENERATED ALWAYS AS IDENTITY)",
	indexes => "CREATE TABLE %s ($columns, PRIMARY KEY (id)); CREATE INDEX ON %s (lower(left(t, 100))); CREATE INDEX ON %s (n) WHERE b; CREATE INDEX ON %s (at, k)",
	late_key => "CREATE TABLE %s ($columns, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)",
	exclusion => "CREATE TABLE %s ($columns, EXCLUDE USING gist (id WITH =))",
	foreign_key => "CREATE TABLE %s ($columns, FOREIGN KEY (k) REFERENCES parent)",
	late_foreign_key => "CREATE TABLE %s ($columns, FOREIGN KEY (k) REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
	domains => "CREATE TABLE %s ($columns); ALTER TABLE %s ALTER n TYPE positive, ALTER t TYPE present",
	before_row => "CREATE TABLE %s ($columns); CREATE TRIGGER change BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION change()",
	after_row => "CREATE TABLE %s ($columns, CHECK (n > 0)); CREATE TRIGGER keep AFTER INSERT ON %s FOR EACH ROW WHEN (NEW.n > 500) EXECUTE FUNCTION keep_row('after_row')",
	statement => "CREATE TABLE %s ($columns, PRIMARY KEY (id)); CREATE TRIGGER keep AFTER INSERT ON %s REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION keep_all('statement')",
	partitions => "CREATE TABLE %s ($columns) PARTITION BY LIST (k); $parts",
	nested => "CREATE TABLE %s ($columns, CHECK (n > 0)) PARTITION BY LIST (k); $parts CREATE UNIQUE INDEX ON %s (k, id);"
	  . ' ALTER TABLE %s ADD FOREIGN KEY (k) REFERENCES parent; CREATE TRIGGER change BEFORE INSERT ON %s_2 FOR EACH ROW EXECUTE FUNCTION change();'
	  . q{ CREATE TRIGGER keep AFTER INSERT ON %s REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION keep_all('nested')});

my $list = join(', ', @column);
for my $name (sort keys %target)
{
	for my $schema (qw(bronze ref))
	{
		(my $ddl = $target{$name}) =~ s/%s/$schema.$name/g;
		$node->safe_psql('postgres', "SET client_min_messages = warning; $ddl");
	}
	$node->safe_psql('postgres', <<"END");
SELECT lakehouse.create_source('$name', server => 'landing', target => 'bronze.$name', format => 'csv', path => 'in/mixed.csv',
  options => '{"header": true}');
SELECT lakehouse.run_source('$name');
SELECT insert_staged('$name');
END
	my $kept = $name eq 'checks' ? "$list, more" : $name eq 'generated' ? "$list, twice" : $list;
	same_multiset($node, "SELECT $kept FROM bronze.$name", "SELECT $kept FROM ref.$name", "$name: the rows that INSERT stores");
	same_multiset($node,
		"SELECT line, sqlstate FROM lakehouse.reject JOIN lakehouse.source USING (source_id) WHERE name = '$name'",
		"SELECT line, sqlstate FROM refused WHERE target = '$name'", "$name: and the refusals of INSERT");
	same_multiset($node, "SELECT what, r FROM log WHERE target = 'bronze$name'", "SELECT what, r FROM log WHERE target = 'ref$name'",
		"$name: its triggers saw the same rows") if $target{$name} =~ /keep/;
	is($node->safe_psql('postgres', "SELECT count(DISTINCT _load_id) FROM bronze.$name"), '1', "$name: all rows are of one load");
	check_loads($node, $name, "bronze.$name");
}
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT sqlstate) FROM refused'), '>=', 7, 'many kinds of refusals were compared');
is($node->safe_psql('postgres', 'SELECT bool_and(s IS NOT NULL) AND count(DISTINCT s) = count(*) FROM bronze.checks'), 't', 'a serial column has a value of its own in each row');
is($node->safe_psql('postgres', 'SELECT bool_and(i IS NOT NULL) AND count(DISTINCT i) = count(*) FROM bronze.generated'), 't', 'and so has an identity column');

# an index finds every row, those in partitions too
for my $name (qw(indexes nested))
{
	$node->safe_psql('postgres', "CREATE EXTENSION IF NOT EXISTS amcheck;
		SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid
		 JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i' AND t.relname LIKE '$name%' AND t.relnamespace = 'bronze'::regnamespace");
	pass("$name: indexes and rows agree");
}

# ---- the same bytes
write_file('good.csv', 4000, 0);
rename("$landing.tmp/good.csv", "$landing/in/good.csv") or die $!;
$node->safe_psql('postgres', <<"END");
CREATE EXTENSION pageinspect;
CREATE FUNCTION make_bytes(schema text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
  EXECUTE format('CREATE TABLE %I.bytes (b2 boolean, id integer, c "char", k integer, n smallint, t text, d numeric(7,2), u uuid, b boolean,'
    ' at timestamptz, j jsonb, v varchar(20) DEFAULT ''plain'', o oid, p name DEFAULT ''a name'', l text DEFAULT repeat(''long'', 50))', schema);
  EXECUTE format('ALTER TABLE %I.bytes ALTER v SET STORAGE PLAIN, DROP COLUMN o', schema);
END \$\$;
SELECT make_bytes('bronze'), make_bytes('ref');
SELECT lakehouse.create_source('bytes', server => 'landing', target => 'bronze.bytes', format => 'csv', path => 'in/good.csv', options => '{"header": true}');
SELECT lakehouse.run_source('bytes');
DO \$\$ BEGIN
  EXECUTE format('ALTER TABLE ref.bytes ADD _load_id bigint DEFAULT %s', (SELECT max(_load_id) FROM bronze.bytes));
END \$\$;
COPY ref.bytes ($list) FROM '$landing/in/good.csv' (FORMAT csv, HEADER);
CREATE FUNCTION tuples(t text) RETURNS TABLE (hoff smallint, infomask integer, natts integer, bits text, data bytea) LANGUAGE sql AS \$\$
  SELECT t_hoff, t_infomask & 7, t_infomask2 & 2047, t_bits, t_data
    FROM generate_series(0, pg_relation_size(t::regclass) / 8192 - 1) b, heap_page_items(get_raw_page(t, b::integer)) \$\$;
END
is($node->safe_psql('postgres', q{SELECT count(*) FROM tuples('bronze.bytes')}), '4000', 'tuples are looked at');
# pointers to another table differ: those rows are compared by their values
same_multiset($node,
	q{SELECT * FROM tuples('bronze.bytes') WHERE infomask & 4 = 0},
	q{SELECT * FROM tuples('ref.bytes') WHERE infomask & 4 = 0}, 'tuples have the bytes that COPY gives them');
same_multiset($node, "SELECT length(l), $list FROM bronze.bytes", "SELECT length(l), $list FROM ref.bytes", 'and all rows are equal');

# ---- a load that makes many pages at once, while others write the table too
open(my $file, '>', "$landing.tmp/pages.csv") or die $!;
printf $file "%d,%d,%s,%s,2015-01-%02d %02d:00:00.%d+02,%s\n", $_, $_ % 30000, ('t', 'f')[ $_ % 2 ], ($_ % 26) / 4, 1 + $_ % 28, $_ % 24, $_ % 7,
	'x' x ($_ % 500 == 0 ? 9000 : $_ % 90) for 1 .. 60000;
close($file) or die $!;
rename("$landing.tmp/pages.csv", "$landing/in/pages.csv") or die $!;
$node->safe_psql('postgres', <<"END");
CREATE TABLE bronze.pages (id integer, s smallint, b boolean, c real, at timestamptz, t text);
CREATE TABLE ref.pages (LIKE bronze.pages);
COPY ref.pages FROM '$landing/in/pages.csv' (FORMAT csv);
SELECT lakehouse.create_source('pages', server => 'landing', target => 'bronze.pages', format => 'csv', path => 'in/pages.csv', options => '{}');
END
my ($out, $err) = ('', '');
my $loading = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', 'SET lakehouse.batch_rows = 20000', '-c', q{SELECT lakehouse.run_source('pages')} ], '>', \$out, '2>', \$err);
my $added = 0;
do
{
	$node->safe_psql('postgres', 'VACUUM bronze.pages');
	$node->safe_psql('postgres', 'INSERT INTO bronze.pages (id) VALUES (-1)') for 1 .. 5;
	$added += 5;
	$loading->pump_nb;
} while $loading->pumpable;
$loading->finish;
is($err, '', 'a load while others write the table');
is($node->safe_psql('postgres', 'SELECT count(*) FROM bronze.pages WHERE id = -1'), $added, 'their rows are there');
same_multiset($node, 'SELECT id, s, b, c, at, t FROM bronze.pages WHERE id > 0', 'SELECT * FROM ref.pages', 'and all of the file');
is($node->safe_psql('postgres', "SELECT count(*) FROM verify_heapam('bronze.pages')"), '0', 'no page is damaged');
$node->safe_psql('postgres', 'ALTER TABLE ref.pages ADD _load_id bigint; TRUNCATE ref.pages; DELETE FROM bronze.pages WHERE id = -1; INSERT INTO ref.pages SELECT * FROM bronze.pages; VACUUM bronze.pages');
same_multiset($node,
	q{SELECT hoff, infomask, natts, data FROM tuples('bronze.pages') WHERE infomask & 4 = 0 AND data IS NOT NULL},
	q{SELECT hoff, infomask, natts, data FROM tuples('ref.pages') WHERE infomask & 4 = 0}, 'tuples have the bytes that INSERT gives them');
$node->stop;
done_testing();
