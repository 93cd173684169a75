-- Servers: what their options may hold, who may make them, and every message.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lakehouse;
RESET client_min_messages;
CREATE SCHEMA server_test;
SET search_path = server_test;

-- tries a statement and tells how it was refused
CREATE FUNCTION refusal(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE EXCEPTION USING errcode = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	IF state = 'ZZ000' THEN
		state := 'taken'; message := ''; detail := ''; hint := '';
	END IF;
END $$;
\pset format unaligned
\pset fieldsep ' | '
\pset tuples_only on

-- landing directories
SELECT o, r.* FROM unnest(ARRAY[
	'directory ''/srv/landing''',
	'directory ''/''',
	'directory ''/srv//landing/''',
	'directory ''/srv/..hidden/a..b/...''',
	'directory ''landing''',
	'directory ''''',
	'directory ''~/landing''',
	'directory ''file:///srv''',
	'directory ''/srv/../etc''',
	'directory ''/srv/..''',
	'directory ''/..''',
	'directory ''/srv/./landing''',
	'directory ''/srv/.''',
	'"Directory" ''/srv''',
	'path ''/srv''',
	'directory ''/srv'', secret ''x''']) WITH ORDINALITY u(o, n),
	LATERAL refusal('CREATE SERVER s FOREIGN DATA WRAPPER lakehouse_files OPTIONS (' || o || ')') r ORDER BY n;
SELECT (refusal('CREATE SERVER s FOREIGN DATA WRAPPER lakehouse_files')).*;
SELECT (refusal(format('CREATE SERVER s FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory %L)', '/' || repeat('x', 2000)))).*;

-- properties of a cluster that are taken
SELECT o, r.* FROM unnest(ARRAY[
	'"broker.address.family" ''v4''', '"client.id" ''x''', '"fetch.wait.max.ms" ''100''',
	'"security.protocol" ''ssl'', "ssl.ca.pem" ''x''',
	'"security.protocol" ''SASL_SSL'', "sasl.mechanism" ''SCRAM-SHA-512''',
	'"security.protocol" ''sasl_plaintext'', "sasl.mechanism" ''PLAIN''']) WITH ORDINALITY u(o, n),
	LATERAL refusal('CREATE SERVER s FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" ''k1:9092,k2'', ' || o || ')') r ORDER BY n;
CREATE SERVER unverified FOREIGN DATA WRAPPER lakehouse_kafka
	OPTIONS ("bootstrap.servers" 'k1:9092', "security.protocol" 'ssl', "enable.ssl.certificate.verification" 'false');

-- those that are refused, with the reason
SELECT p, r.state, r.message, r.detail, r.hint FROM unnest(ARRAY[
	-- run code, read files, reach other hosts
	'plugin.library.paths', 'sasl.kerberos.kinit.cmd', 'sasl.kerberos.keytab', 'sasl.kerberos.principal',
	'sasl.kerberos.service.name', 'sasl.kerberos.min.time.before.relogin',
	'ssl.key.location', 'ssl.certificate.location', 'ssl.ca.location', 'ssl.crl.location',
	'ssl.keystore.location', 'ssl.keystore.password', 'ssl.engine.location', 'ssl.engine.id', 'ssl.providers',
	'ssl_engine_callback_data', 'ssl.ca.certificate.stores',
	'sasl.oauthbearer.config', 'sasl.oauthbearer.method', 'sasl.oauthbearer.client.id', 'sasl.oauthbearer.client.secret',
	'sasl.oauthbearer.token.endpoint.url', 'enable.sasl.oauthbearer.unsecure.jwt',
	'interceptors', 'test.mock.num.brokers',
	-- write into the log
	'debug', 'log_level', 'log.queue', 'log.thread.name', 'log.connection.close', 'statistics.interval.ms',
	-- ours
	'group.id', 'group.instance.id', 'partition.assignment.strategy', 'session.timeout.ms', 'heartbeat.interval.ms',
	'max.poll.interval.ms', 'enable.auto.commit', 'auto.commit.interval.ms', 'auto.commit.enable',
	'enable.auto.offset.store', 'auto.offset.reset', 'offset.store.method', 'offset.store.path',
	'isolation.level', 'enable.partition.eof', 'check.crcs', 'queued.min.messages', 'queued.max.messages.kbytes',
	'allow.auto.create.topics', 'topic.blacklist', 'enabled_events',
	-- other names
	'metadata.broker.list', 'sasl.mechanisms', 'Bootstrap.Servers', 'CLIENT.ID', ' client.id', 'client.id ',
	'PLUGIN.LIBRARY.PATHS', 'Ssl.Ca.Location', 'topic.auto.offset.reset',
	-- callbacks and producers
	'error_cb', 'socket_cb', 'opaque', 'default_topic_conf', 'transactional.id', 'acks', 'partitioner',
	-- in the wrong place
	'sasl.password', 'sasl.username', 'ssl.key.pem', 'ssl.key.password', 'ssl.certificate.pem',
	-- not known at all
	'clent.id', 'fetch.wait.max', 'nonsense']) WITH ORDINALITY u(p, n),
	LATERAL refusal(format('CREATE SERVER s FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" ''k1:9092'', %I ''1'')', p)) r ORDER BY n;

-- values
SELECT o, r.* FROM unnest(ARRAY[
	'"client.id" ''x''',
	'"bootstrap.servers" ''''',
	'"bootstrap.servers" ''file:///etc/passwd''',
	'"bootstrap.servers" ''sasl_ssl://k1:9092''',
	'"bootstrap.servers" ''k1:9092;k2''',
	'"bootstrap.servers" ''k1'', "fetch.wait.max.ms" ''soon''',
	'"bootstrap.servers" ''k1'', "socket.timeout.ms" ''-1''',
	'"bootstrap.servers" ''k1'', "security.protocol" ''tls''',
	'"bootstrap.servers" ''k1'', "security.protocol" ''sasl_ssl''',
	'"bootstrap.servers" ''k1'', "security.protocol" ''Sasl_Plaintext''',
	'"bootstrap.servers" ''k1'', "sasl.mechanism" ''GSSAPI''',
	'"bootstrap.servers" ''k1'', "sasl.mechanism" ''OAUTHBEARER''',
	'"bootstrap.servers" ''k1'', "sasl.mechanism" ''plain''',
	'"bootstrap.servers" ''k1'', "client.id" ''a'', "client.id" ''b''',
	'"bootstrap.servers" ''k1'', "client.id=x" ''a'', "client.id" ''b''']) WITH ORDINALITY u(o, n),
	LATERAL refusal('CREATE SERVER s FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS (' || o || ')') r ORDER BY n;

-- ALTER SERVER checks the same
CREATE SERVER kafka FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" 'k1:9092');
CREATE SERVER landing FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/srv/landing');
SELECT o, r.* FROM unnest(ARRAY[
	'kafka OPTIONS (ADD "plugin.library.paths" ''x'')',
	'kafka OPTIONS (DROP "bootstrap.servers")',
	'kafka OPTIONS (SET "bootstrap.servers" ''k3:9092'', ADD "client.rack" ''r1'')',
	'landing OPTIONS (SET directory ''../x'')',
	'landing OPTIONS (DROP directory)']) WITH ORDINALITY u(o, n),
	LATERAL refusal('ALTER SERVER ' || o) r ORDER BY n;

-- wrappers, foreign tables and user mappings
SELECT (refusal('ALTER FOREIGN DATA WRAPPER lakehouse_files OPTIONS (ADD directory ''/x'')')).*;
SELECT (refusal('ALTER FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS (ADD "bootstrap.servers" ''x'')')).*;
SELECT (refusal('CREATE FOREIGN TABLE f (a integer) SERVER kafka OPTIONS (topic ''t'')')).*;
SELECT (refusal('CREATE FOREIGN TABLE f (a integer) SERVER landing OPTIONS (path ''t'')')).*;
SELECT o, r.* FROM unnest(ARRAY[
	'kafka OPTIONS ("sasl.username" ''u'', "sasl.password" ''p'')',
	'kafka OPTIONS ("ssl.certificate.pem" ''u'', "ssl.key.pem" ''p'', "ssl.key.password" ''x'')',
	'kafka OPTIONS ("bootstrap.servers" ''evil:9092'')',
	'kafka OPTIONS ("sasl.mechanism" ''GSSAPI'')',
	'kafka OPTIONS ("sasl.kerberos.kinit.cmd" ''id'')',
	'kafka OPTIONS ("ssl.key.location" ''/etc/shadow'')',
	'kafka OPTIONS ("sasl.passwort" ''hunter2'')',
	'kafka OPTIONS ("sasl.password" '''')',
	'kafka OPTIONS ("sasl.oauthbearer.token" ''eyJh.bGci-_~+/=='')',
	'kafka OPTIONS ("sasl.oauthbearer.token" ''two words'')',
	'landing OPTIONS (password ''x'')']) WITH ORDINALITY u(o, n),
	LATERAL refusal('CREATE USER MAPPING FOR PUBLIC SERVER ' || o) r ORDER BY n;

-- who may: a directory needs pg_read_server_files, a wrapper USAGE
CREATE ROLE server_maker;
CREATE ROLE server_reader IN ROLE pg_read_server_files;
GRANT USAGE ON FOREIGN DATA WRAPPER lakehouse_files, lakehouse_kafka TO server_maker, server_reader;
SET ROLE server_maker;
CREATE SERVER mine FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/srv');
CREATE SERVER mine FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS ("bootstrap.servers" 'k1');
RESET ROLE;
SET ROLE server_reader;
CREATE SERVER readers FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/srv');
RESET ROLE;
REVOKE pg_read_server_files FROM server_reader;
SET ROLE server_reader;
ALTER SERVER readers OPTIONS (SET directory '/etc');
RESET ROLE;

-- secrets are not in what other roles can see
CREATE USER MAPPING FOR server_maker SERVER kafka OPTIONS ("sasl.username" 'u', "sasl.password" 'hunter2');
GRANT USAGE ON FOREIGN SERVER kafka TO server_reader;
SET ROLE server_reader;
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'kafka';
SELECT option_name, option_value FROM information_schema.user_mapping_options WHERE foreign_server_name = 'kafka';
RESET ROLE;

-- a source of a server of another wrapper
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER other FOREIGN DATA WRAPPER other;
CREATE TABLE target (value text);
CREATE TABLE typed (value text, number numeric, day date, short timestamptz(0),
	twice text GENERATED ALWAYS AS (value || value) STORED);
SELECT (refusal($$SELECT lakehouse.create_source('x', server => 'other', target => 'server_test.target', topics => '{a}')$$)).*;

-- options of a Kafka source, checked before any broker is asked
SELECT o, r.* FROM unnest(ARRAY[
	'{"startingOffset": "latest"}',
	'{"starting_offsets": "lates"}',
	'{"starting_offsets": "yesterday"}',
	'{"starting_offsets": "2014-13-01"}',
	'{"starting_offsets": 5}',
	'{"starting_offsets": [1]}',
	'{"starting_offsets": {"t": 5}}',
	'{"starting_offsets": {"t": {"zero": 5}}}',
	'{"starting_offsets": {"t": {"0": "5"}}}',
	'{"starting_offsets": {"t": {"0": -3}}}',
	'{"starting_offsets": {"t": {"0": 1e30}}}',
	'{"starting_offsets": {"t": {"99999999999": 5}}}',
	'{"starting_offsets": {"t": {"0": {"x": 1}}}}',
	'{"columns": 5}',
	'{"columns": ["value"]}',
	'{"columns": {"value": 5}}',
	'{"columns": {"value": "valu"}}',
	'{"columns": {"missing": "value"}}',
	'{"columns": {"value": "key"}}',
	'{"columns": {"number": "offset"}}',
	'{"columns": {"number": "partition"}}',
	'{"columns": {"number": "timestamp"}}',
	'{"columns": {"number": "headers"}}',
	'{"columns": {"day": "timestamp_type"}}',
	'{"columns": {"short": "timestamp"}}',
	'{"columns": {"twice": "value"}}']) WITH ORDINALITY u(o, n),
	LATERAL refusal(format($$SELECT lakehouse.create_source('x', server => 'kafka', target => 'server_test.typed', topics => '{t}', options => %L)$$, o)) r ORDER BY n;

\pset format aligned
\pset tuples_only off
DROP SERVER unverified, kafka, landing, mine, readers, other CASCADE;
DROP FOREIGN DATA WRAPPER other;
REVOKE USAGE ON FOREIGN DATA WRAPPER lakehouse_files, lakehouse_kafka FROM server_maker, server_reader;
DROP ROLE server_maker, server_reader;
SET client_min_messages = warning;
DROP SCHEMA server_test CASCADE;
