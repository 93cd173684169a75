-- Servers: where data comes from. Validators only: nothing can be queried
-- through these wrappers, sources read from the servers.

CREATE FUNCTION lakehouse._files_validator(options text[], catalog oid)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_files_validator'
LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse._files_validator(text[], oid) IS
'checks the options of a lakehouse_files server: directory (absolute path); errors HV00D (option), HV024 (value), 42501 (neither superuser nor pg_read_server_files, or a directory that is not beneath lakehouse.allowed_directories)';

CREATE FUNCTION lakehouse._kafka_validator(options text[], catalog oid)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_kafka_validator'
LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse._kafka_validator(text[], oid) IS
'checks the options of a lakehouse_kafka server or user mapping against the list of permitted librdkafka properties and against librdkafka, and those of a schema registry; errors HV00D (property), HV024 (value)';

CREATE FOREIGN DATA WRAPPER lakehouse_files NO HANDLER VALIDATOR lakehouse._files_validator;
COMMENT ON FOREIGN DATA WRAPPER lakehouse_files IS 'landing directory of CSV and JSON files; server option: directory';

CREATE FOREIGN DATA WRAPPER lakehouse_kafka NO HANDLER VALIDATOR lakehouse._kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER lakehouse_kafka IS 'Kafka cluster; server options: librdkafka properties and where its schema registry is, secrets in the user mapping';
