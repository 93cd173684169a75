# OAUTHBEARER with a token from the user mapping, against a real broker: taken,
# refused when it is over or missing, never in a log or message.
use strict;
use warnings;

use KafkaCluster;
use LakehouseTest;
use MIME::Base64 qw(encode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $kafka = KafkaCluster->new(
	listen => {
		TOKEN => [ 'SASL_PLAINTEXT', {
				'sasl.enabled.mechanisms' => 'OAUTHBEARER',
				'oauthbearer.sasl.jaas.config' =>
				  'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";' } ] });
my $node = lakehouse_node('token', conf => "log_min_messages = debug5\n");

# token gives a token that nobody signed, which Kafka takes where nothing else
# is configured.
my @tokens;
sub token
{
	my ($valid) = @_;
	my $now = time();
	push @tokens, encode_base64url('{"alg":"none"}') . '.'
	  . encode_base64url(sprintf('{"sub":"etl","iat":%.0f,"exp":%.0f,"nonce":"%d"}', $now - 1000, $now + $valid, rand(1e9))) . '.';
	return $tokens[-1];
}

# quietly runs a statement with a secret in it, which the server must not log.
sub quietly
{
	return $node->safe_psql('postgres', "SET log_statement = 'none'; SET log_min_messages = 'panic'; $_[0]");
}

$kafka->create('t');
$kafka->produce({ topic => 't', partition => 0, value => 'one' });
$node->safe_psql('postgres', <<"END");
CREATE SERVER events FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" '@{[$kafka->servers('TOKEN')]}',
	"security.protocol" 'sasl_plaintext', "sasl.mechanism" 'OAUTHBEARER');
CREATE TABLE t (value text);
END
my $create = "SELECT lakehouse.create_source('t', server => 'events', target => 't', topics => '{t}')";

sub refused
{
	my ($what) = @_;
	my $err;
	within(
		$LakehouseTest::TOLD_LIMIT, "$what: an error",
		sub {
			my $began = time();
			(undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$create");
			return time() - $began;
		});
	like($err, qr/ERROR:  28000: Kafka cluster refuses the connection: .*\nHINT:  Check the user mapping/, $what);
	return $err;
}
my $messages = refused('no token');
like($messages, qr/sasl\.oauthbearer\.token/, 'the message names what is missing');
quietly("CREATE USER MAPPING FOR PUBLIC SERVER events OPTIONS (\"sasl.oauthbearer.token\" '@{[token(-500)]}')");
$messages .= refused('a token that is over');
quietly("ALTER USER MAPPING FOR PUBLIC SERVER events OPTIONS (SET \"sasl.oauthbearer.token\" 'nonsense')");
$messages .= refused('no token of that kind');
quietly("ALTER USER MAPPING FOR PUBLIC SERVER events OPTIONS (SET \"sasl.oauthbearer.token\" '@{[token(3600)]}')");
$node->safe_psql('postgres', $create);
is($node->safe_psql('postgres', "SELECT rows FROM lakehouse.run_source('t')"), '1', 'a token that is good');
$node->safe_psql('postgres', "SELECT lakehouse.alter_source('t', trigger => 'continuous')");
$kafka->produce({ topic => 't', partition => 0, value => 'two' });
ok(poll_value($node, 'SELECT count(*) FROM t', '2'), 'for a worker, too');

my $log = slurp_file($node->logfile) . $messages;
is(scalar(grep { index($log, $_) >= 0 } @tokens), 0, 'no token is in a message or in the log of the server');

$kafka->stop;
$node->stop;
done_testing();
