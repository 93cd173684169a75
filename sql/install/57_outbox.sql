-- Messages to Kafka: written in a transaction, sent after its commit.

CREATE FUNCTION lakehouse.kafka_produce(
    server text, topic text, key text, value text, headers jsonb DEFAULT NULL, partition integer DEFAULT NULL)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_kafka_produce'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.kafka_produce(text, text, text, text, jsonb, integer) IS
'puts a message into the outbox, in the caller''s transaction; after its commit a background worker sends it in the name of the current role, at least once, and messages with the same key in the order in which their transactions committed. Key and value are sent in UTF-8; no key (NULL) is in no order, no value (NULL) is a tombstone. headers: {"name": "value"} or [{"key": "name", "value": "value"}], "value_base64" for bytes. Without a partition the key decides, as it does for Java''s clients. Returns the number of the message. Needs USAGE of the server. Errors: 22004 (no server or topic), 22023 (name of the topic, headers, partition), 25006 (read-only transaction), 42501, 42704 (no such server), 42809 (no Kafka cluster), 54000 (larger than the server''s message.max.bytes)';

CREATE FUNCTION lakehouse.kafka_produce(
    server text, topic text, key bytea, value bytea, headers jsonb DEFAULT NULL, partition integer DEFAULT NULL)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_kafka_produce_bytea'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.kafka_produce(text, text, bytea, bytea, jsonb, integer) IS
'the same for a key and a value that are bytes';

CREATE FUNCTION lakehouse.kafka_produce(
    server text, topic text, key text, value jsonb, headers jsonb DEFAULT NULL, partition integer DEFAULT NULL)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_kafka_produce_jsonb'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.kafka_produce(text, text, text, jsonb, jsonb, integer) IS
'the same for a value that is jsonb, which is sent as its text';

CREATE FUNCTION lakehouse.kafka_send(
    server text, OUT sent bigint, OUT refused bigint, OUT waiting bigint)
RETURNS record AS 'MODULE_PATHNAME', 'lakehouse_kafka_send'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.kafka_send(text) IS
'sends the current role''s committed messages for a server now and waits for the cluster, in the caller''s transaction; for servers without background workers. If that transaction is rolled back they are sent again. Returns messages that the cluster acknowledged, messages that it refused (kafka_outbox), and messages that still wait. Waits while a worker sends. Errors: 08001 (no broker answers), 22004, 28000 (credentials refused), 42501, 42704, 42809';

CREATE FUNCTION lakehouse.kafka_retry(
    server text, topic text DEFAULT NULL, message_ids bigint[] DEFAULT NULL)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_kafka_retry'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.kafka_retry(text, text, bigint[]) IS
'lets messages that the cluster refused (of a topic, or of these numbers, or all) be sent again, in their old place, ends the back-off of the server, and returns how many messages that concerns. Without topic and numbers, messages that a restored or copied database brought along are from now on sent by this one. Concerns messages of roles whose rights the caller has. Error: 22004 (no server)';

CREATE FUNCTION lakehouse.kafka_discard(
    server text, topic text DEFAULT NULL, message_ids bigint[] DEFAULT NULL)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_kafka_discard'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.kafka_discard(text, text, bigint[]) IS
'deletes messages that the cluster refused, of a topic or all, or the messages of these numbers whatever their state (one that is on its way may still arrive), and returns how many. What waited for them is sent. Concerns messages of roles whose rights the caller has. Error: 22004 (no server)';
