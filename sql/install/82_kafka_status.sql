-- Where Kafka sources stand. Each role sees the sources whose owner's rights it
-- has; members of pg_monitor see all.

CREATE VIEW lakehouse.kafka_status WITH (security_barrier = true) AS
SELECT s.name AS source,
       s.owner,
       k.topic,
       k."partition",
       CASE WHEN k.sqlstate IS NOT NULL THEN 'stopped'
            WHEN s.paused IS NOT NULL THEN 'paused'
            ELSE 'active' END AS state,
       k.next_offset AS "position",
       k.low_offset,
       k.end_offset,
       GREATEST(k.end_offset OPERATOR(pg_catalog.-) k.next_offset, 0) AS lag,
       CASE WHEN k.last_timestamp OPERATOR(pg_catalog.>=) 0
             AND k.last_timestamp OPERATOR(pg_catalog.<) 253402300800000
            THEN pg_catalog.to_timestamp(k.last_timestamp OPERATOR(pg_catalog./) 1000.0::pg_catalog.float8) END AS last_record,
       k.rows,
       k.rejected,
       k.sqlstate,
       k.error,
       k.updated
  FROM lakehouse.kafka_offset k
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) k.source_id
 WHERE pg_catalog.pg_has_role(s.owner, 'USAGE')
    OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW lakehouse.kafka_status IS 'one row for each partition that a Kafka source reads: where it stands, and why it is stopped';
COMMENT ON COLUMN lakehouse.kafka_status.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.kafka_status.owner IS 'role in whose name the source runs';
COMMENT ON COLUMN lakehouse.kafka_status.topic IS 'name of the topic';
COMMENT ON COLUMN lakehouse.kafka_status."partition" IS 'number of the partition, from 0';
COMMENT ON COLUMN lakehouse.kafka_status.state IS 'stopped (this partition cannot be read, see error), paused (the source is) or active';
COMMENT ON COLUMN lakehouse.kafka_status."position" IS 'next offset to read';
COMMENT ON COLUMN lakehouse.kafka_status.low_offset IS 'oldest offset that the broker had when last asked';
COMMENT ON COLUMN lakehouse.kafka_status.end_offset IS 'end of the partition as of the last batch: the offset that the next record will get';
COMMENT ON COLUMN lakehouse.kafka_status.lag IS 'offsets between position and end as of the last batch; control records and records of aborted transactions count too';
COMMENT ON COLUMN lakehouse.kafka_status.last_record IS 'Kafka timestamp of the last record that was loaded';
COMMENT ON COLUMN lakehouse.kafka_status.rows IS 'records stored from this partition since the source was made';
COMMENT ON COLUMN lakehouse.kafka_status.rejected IS 'records kept as rejects since the source was made';
COMMENT ON COLUMN lakehouse.kafka_status.sqlstate IS 'SQLSTATE of the reason why the partition is stopped';
COMMENT ON COLUMN lakehouse.kafka_status.error IS 'why the partition is stopped; lost offsets are named as the range [first,next)';
COMMENT ON COLUMN lakehouse.kafka_status.updated IS 'when the position was last written';
