# A real Kafka broker that asks who we are: SASL and TLS, and what is said, and
# what is not, when that fails.
use strict;
use warnings;

use IPC::Run;
use KafkaCluster;
use LakehouseTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# the promise is 10 seconds, on a machine that has them to itself

my @secrets = qw(plain-secret-7341 scram-secret-2280 wrong-secret-9913);
my $keys = PostgreSQL::Test::Utils::tempdir();

# ------------------------------------------------------------------------ keys
sub command_ok_quiet
{
	my $out = '';
	IPC::Run::run([@_], '<', \undef, '>&', \$out) or BAIL_OUT("@_: $out");
	return;
}

# make_authority makes the keys of an authority.
sub make_authority
{
	my ($name) = @_;
	command_ok_quiet('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', 2, '-subj', "/CN=$name",
		'-keyout', "$keys/$name.key", '-out', "$keys/$name.crt");
	return;
}

# make_certificate makes keys that an authority signed, for a name.
sub make_certificate
{
	my ($name, $authority, $for) = @_;
	append_to_file("$keys/$name.ext", "subjectAltName = $for\n");
	command_ok_quiet('openssl', 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$name",
		'-keyout', "$keys/$name.key", '-out', "$keys/$name.csr");
	command_ok_quiet('openssl', 'x509', '-req', '-in', "$keys/$name.csr", '-CA', "$keys/$authority.crt",
		'-CAkey', "$keys/$authority.key", '-CAcreateserial', '-days', 2, '-extfile', "$keys/$name.ext", '-out', "$keys/$name.crt");
	append_to_file("$keys/$name.pem", slurp_file("$keys/$name.key") . slurp_file("$keys/$name.crt"));
	return;
}

make_authority($_) for qw(authority stranger);
make_certificate('broker', 'authority', 'IP:127.0.0.1');
make_certificate('elsewhere', 'authority', 'DNS:elsewhere.example');
make_certificate('client', 'authority', 'DNS:etl');
make_certificate('unknown', 'stranger', 'DNS:etl');
my $kafka_home = KafkaCluster::kafka_home();
command_ok_quiet('keytool', '-genkeypair', '-alias', 'old', '-keyalg', 'RSA', '-dname', 'CN=old', '-ext', 'SAN=IP:127.0.0.1',
	'-startdate', '-10d', '-validity', 1, '-storetype', 'PKCS12', '-keystore', "$keys/old.p12", '-storepass', 'changeit');
command_ok_quiet('keytool', '-exportcert', '-rfc', '-alias', 'old', '-keystore', "$keys/old.p12", '-storepass', 'changeit',
	'-file', "$keys/old.crt");

my $sasl = {
	'sasl.enabled.mechanisms' => 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER',
	'plain.sasl.jaas.config' =>
	  qq(org.apache.kafka.common.security.plain.PlainLoginModule required user_etl="$secrets[0]";),
	'scram-sha-256.sasl.jaas.config' => 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
	'scram-sha-512.sasl.jaas.config' => 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
	'oauthbearer.sasl.jaas.config' =>
	  'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";' };
my %tls = ('ssl.keystore.type' => 'PEM', 'ssl.keystore.location' => "$keys/broker.pem");
# of the older release: clients before librdkafka 2.6.1 cannot do SCRAM with Kafka 4
my $kafka = KafkaCluster->new(
	older => 1,
	config => {
		'authorizer.class.name' => 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
		'super.users' => 'User:ANONYMOUS',
		'allow.everyone.if.no.acl.found' => 'true' },
	listen => {
		SASL => [ 'SASL_PLAINTEXT', $sasl ],
		TLS => [ 'SSL', {%tls} ],
		BOTH => [ 'SASL_SSL', { %tls, %$sasl } ],
		MUTUAL => [ 'SSL', { %tls, 'ssl.client.auth' => 'required', 'ssl.truststore.type' => 'PEM',
				'ssl.truststore.location' => "$keys/authority.crt" } ],
		ELSEWHERE => [ 'SSL', { 'ssl.keystore.type' => 'PEM', 'ssl.keystore.location' => "$keys/elsewhere.pem" } ],
		OLD => [ 'SSL', { 'ssl.keystore.type' => 'PKCS12', 'ssl.keystore.location' => "$keys/old.p12", 'ssl.keystore.password' => 'changeit' } ],
	});
$kafka->ask(do => 'user', name => 'etl', password => $secrets[1]);
my $node = lakehouse_node('security', conf => "log_min_messages = debug5\nlakehouse.kafka_refresh_interval = 300\n");

my $messages = 0;
sub produce
{
	$kafka->produce({ topic => 't', partition => 0, value => 'v' . ++$messages });
	return;
}
$kafka->create('t', 1);
produce();

# quietly runs a statement with a secret in it, which the server must not log.
sub quietly
{
	return $node->safe_psql('postgres', "SET log_statement = 'none'; SET log_min_messages = 'panic'; $_[0]");
}

# make_secured makes a server for a listener, with options and secrets.
my $count = 0;
sub make_secured
{
	my ($listener, $options, $secrets) = @_;
	my $name = 's' . ++$count;
	$kafka->make_server($node, $name, 'bootstrap.servers' => $kafka->servers($listener), %$options);
	my $list = join(', ', map { qq("$_" '$secrets->{$_}') } sort keys %$secrets);
	quietly("CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS ($list)") if $list;
	return $name;
}

# works tells that a source reads through a server.
sub works
{
	my ($name, @access) = @_;
	my $server = make_secured(@access);
	$kafka->make_source($node, $server, server => $server, topics => 't');
	is($node->safe_psql('postgres', "SELECT rows FROM lakehouse.run_source('$server')"), $messages, $name);
	$kafka->check($node, $server, "bronze.$server", 't');
	return;
}

# refused tells that a source cannot be made and why, soon.
sub refused
{
	my ($name, $reason, @access) = @_;
	my $server = make_secured(@access);
	$node->safe_psql('postgres', "CREATE TABLE bronze.$server (value text)");
	my $err;
	within(
		$LakehouseTest::TOLD_LIMIT, "$name: an error",
		sub {
			my $began = time();
			(undef, undef, $err) = $node->psql('postgres',
				"\\set VERBOSITY verbose\nSELECT lakehouse.create_source('$server', server => '$server', target => 'bronze.$server', topics => '{t}')");
			return time() - $began;
		});
	like($err, $reason, $name);
	return;
}

my $authority = slurp_file("$keys/authority.crt");
my @plain = ('SASL', { 'security.protocol' => 'sasl_plaintext', 'sasl.mechanism' => 'PLAIN' });
my %etl = ('sasl.username' => 'etl');

works('SASL PLAIN', @plain, { %etl, 'sasl.password' => $secrets[0] });
works("SASL $_", 'SASL', { 'security.protocol' => 'sasl_plaintext', 'sasl.mechanism' => $_ }, { %etl, 'sasl.password' => $secrets[1] })
  for qw(SCRAM-SHA-256 SCRAM-SHA-512);
works('TLS', 'TLS', { 'security.protocol' => 'ssl', 'ssl.ca.pem' => $authority }, {});
works('SASL within TLS', 'BOTH', { 'security.protocol' => 'sasl_ssl', 'sasl.mechanism' => 'SCRAM-SHA-512', 'ssl.ca.pem' => $authority },
	{ %etl, 'sasl.password' => $secrets[1] });
works('TLS with a certificate of ours', 'MUTUAL', { 'security.protocol' => 'ssl', 'ssl.ca.pem' => $authority },
	{ 'ssl.certificate.pem' => slurp_file("$keys/client.crt"), 'ssl.key.pem' => slurp_file("$keys/client.key") });

my $credentials = qr/ERROR:  28000: .*(authentication|credentials|rejected)/i;
refused('PLAIN: wrong password', $credentials, @plain, { %etl, 'sasl.password' => $secrets[2] });
refused('SCRAM: wrong password', $credentials, 'SASL', { 'security.protocol' => 'sasl_plaintext', 'sasl.mechanism' => 'SCRAM-SHA-512' },
	{ %etl, 'sasl.password' => $secrets[2] });
refused('SCRAM: unknown user', $credentials, 'SASL', { 'security.protocol' => 'sasl_plaintext', 'sasl.mechanism' => 'SCRAM-SHA-512' },
	{ 'sasl.username' => 'nobody', 'sasl.password' => $secrets[2] });
refused('TLS: an authority that we do not know', qr/ERROR:  28000: .*certificate/is, 'TLS',
	{ 'security.protocol' => 'ssl', 'ssl.ca.pem' => slurp_file("$keys/stranger.crt") }, {});
refused('TLS: another name', qr/ERROR:  28000: .*certificate/is, 'ELSEWHERE', { 'security.protocol' => 'ssl', 'ssl.ca.pem' => $authority }, {});
refused('TLS: expired', qr/ERROR:  28000: .*certificate/is, 'OLD', { 'security.protocol' => 'ssl', 'ssl.ca.pem' => slurp_file("$keys/old.crt") }, {});
refused('TLS: no certificate of ours', qr/ERROR:  (28000|08001): /, 'MUTUAL', { 'security.protocol' => 'ssl', 'ssl.ca.pem' => $authority }, {});
refused('TLS: a certificate that the broker does not know', qr/ERROR:  (28000|08001): /, 'MUTUAL',
	{ 'security.protocol' => 'ssl', 'ssl.ca.pem' => $authority },
	{ 'ssl.certificate.pem' => slurp_file("$keys/unknown.crt"), 'ssl.key.pem' => slurp_file("$keys/unknown.key") });
refused('plain text to a broker that speaks TLS', qr/ERROR:  08001: /, 'TLS', {}, {});
refused('TLS to a broker that speaks plain text', qr/ERROR:  (28000|08001): /, 'BROKER', { 'security.protocol' => 'ssl', 'ssl.ca.pem' => $authority }, {});

# ---------------------------------------------------------------------- a worker
my $state = q{SELECT coalesce((SELECT st.sqlstate FROM lakehouse.source_state st JOIN lakehouse.source s USING (source_id) WHERE s.name = 's1'), 'well')};
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('s1', trigger => 'continuous')");
produce();
ok(poll_value($node, 'SELECT count(*) FROM bronze.s1', $messages), 'a worker reads with a password');
# brokers keep a connection that they accepted once: the worker must open another one
told_soon($node, 'a password that is wrong now is told in the state of the source', source => 's1', state => '28000',
	begin => sub { quietly("ALTER USER MAPPING FOR CURRENT_USER SERVER s1 OPTIONS (SET \"sasl.password\" '$secrets[2]')") },
	end => sub { quietly("ALTER USER MAPPING FOR CURRENT_USER SERVER s1 OPTIONS (SET \"sasl.password\" '$secrets[0]')") });
produce();
quietly("ALTER USER MAPPING FOR CURRENT_USER SERVER s1 OPTIONS (SET \"sasl.password\" '$secrets[0]')");
ok(poll_value($node, 'SELECT count(*) FROM bronze.s1', $messages, 120), 'the worker goes on when it is right again');
ok(poll_value($node, $state, 'well'), 'and the state says so');
$kafka->check($node, 's1', 'bronze.s1', 't');

# ------------------------------------------------- a group that is not permitted
my $refusal = q{SELECT coalesce(min(publish_error), 'none') FROM lakehouse.kafka_status WHERE source = 'told'};
$kafka->ask(do => 'deny', principal => 'User:etl', group => 'lag-tool');
$kafka->make_source($node, 'told', server => 's1', topics => 't', trigger => 'continuous', options => '{"publish_group": "lag-tool"}');
ok(wait_until(sub { $node->safe_psql('postgres', $refusal) =~ /group authorization failed/i }), 'the cluster does not take positions for the group: kafka_status says why')
  or diag($node->safe_psql('postgres', $refusal));
produce();
ok(poll_value($node, 'SELECT count(*) FROM bronze.told', $messages), 'reading goes on');
is($node->safe_psql('postgres', q{SELECT state || ' ' || coalesce(error, '') FROM lakehouse.source_status WHERE name = 'told'}),
	$node->safe_psql('postgres', q{SELECT state || ' ' || coalesce(error, '') FROM lakehouse.source_status WHERE name = 's1'}), 'and the source is as well as another one');
$kafka->ask(do => 'deny', principal => 'User:etl', group => 'lag-tool', permit => 1);
produce();
ok(poll_value($node, $refusal, 'none'), 'permitted, the group is told and nothing is refused any more');
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('told', trigger => 'available_now')");

# -------------------------------------------------------------- nothing was told
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('s1', trigger => 'available_now')");
$node->stop;
my $log = slurp_file($node->logfile);
my $key = (split(/\n/, slurp_file("$keys/client.key")))[5];
is(scalar(grep { index($log, $_) >= 0 } @secrets, $key), 0, 'no secret is in the log of the server');

$kafka->stop;
done_testing();
