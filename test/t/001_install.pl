# A server with our preload settings starts, takes the extension and restarts.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lakehouse'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lakehouse');
$node->restart;
is($node->safe_psql('postgres', 'SELECT count(*) FROM lakehouse.source'), '0', 'the catalog survives a restart');
$node->safe_psql('postgres', 'DROP EXTENSION lakehouse');
$node->stop;
done_testing();
