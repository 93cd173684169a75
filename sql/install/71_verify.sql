CREATE FUNCTION lakehouse.verify(
    OUT object text, OUT "check" text, OUT ok boolean, OUT detail text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_verify'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.verify() IS
'proves on this database that what was loaded is what is there: rows of each managed table against its loads (check "load"), the file ledger against loads and rejects ("file"), Kafka offsets against loads ("offset"), the target of each flow against its query run on everything, the messages of a flow that sends against what its query gives ("flow"), and messages that wait: batches, places and numbers, server and role ("outbox"). What a topic holds is not read. ok is NULL where nothing could be compared; detail says why. Reads whole tables, with the rights of the caller';
