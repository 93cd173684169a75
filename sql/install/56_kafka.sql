CREATE FUNCTION lakehouse.seek_source(source text, starting_offsets jsonb)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_seek_source'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION lakehouse.seek_source(text, jsonb) IS
'moves where a Kafka source reads next: "earliest", "latest", a timestamp, or {"topic": {"0": 123}} (-2 = earliest, -1 = latest; partitions that are not named stay where they are). The way on for a partition that was stopped because records were lost; what was loaded before stays. Owner only (42501); errors 42704 (no such source, topic or partition), 22023 (offset that the broker does not have), 08001 (no broker answers)';
