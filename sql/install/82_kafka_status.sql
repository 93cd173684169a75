-- Where Kafka sources stand, and what they went past. Each role sees the sources
-- whose owner's rights it has; members of pg_monitor see all.

CREATE VIEW lakehouse.kafka_status WITH (security_barrier = true) AS
SELECT s.name AS source,
       s.owner,
       k.topic,
       k."partition",
       CASE WHEN k.sqlstate OPERATOR(pg_catalog.=) '55000'
             AND (s.options OPERATOR(pg_catalog.->>) 'on_data_loss') OPERATOR(pg_catalog.=) 'wait' THEN 'waiting'
            WHEN k.sqlstate IS NOT NULL THEN 'stopped'
            WHEN s.paused IS NOT NULL THEN 'paused'
            WHEN o.obstacle IS NOT NULL THEN 'blocked'
            WHEN t.failures OPERATOR(pg_catalog.>) 0 THEN 'failing'
            ELSE 'active' END AS state,
       k.next_offset AS "position",
       k.low_offset,
       k.end_offset,
       GREATEST(k.high_offset OPERATOR(pg_catalog.-) k.end_offset, 0) AS open_transactions,
       l.lag,
       CASE WHEN l.lag OPERATOR(pg_catalog.=) 0
            THEN CASE WHEN s.trigger OPERATOR(pg_catalog.=) 'continuous' AND s.paused IS NULL AND o.obstacle IS NULL
                       AND o.no_worker IS NULL AND COALESCE(t.failures, 0) OPERATOR(pg_catalog.=) 0 THEN 0::pg_catalog.float8 END
            WHEN COALESCE(k.caught_up, r.last_record) IS NOT NULL
            THEN GREATEST(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()
                   OPERATOR(pg_catalog.-) GREATEST(k.caught_up, r.last_record)), 0) END AS lag_seconds,
       r.last_record,
       k.last_fetch,
       k.rows,
       k.rejected,
       k.bytes,
       pg_catalog.round((k.row_rate OPERATOR(pg_catalog.*) d.decay)::pg_catalog.numeric, 1) AS rows_per_second,
       pg_catalog.round((k.byte_rate OPERATOR(pg_catalog.*) d.decay)::pg_catalog.numeric) AS bytes_per_second,
       k.sqlstate,
       k.error,
       k.since,
       CASE WHEN k.sqlstate IS NULL THEN NULL
            WHEN k.sqlstate OPERATOR(pg_catalog.<>) '55000'
            THEN 'tried again by each run, and by a worker every lakehouse.kafka_refresh_interval'
            WHEN (s.options OPERATOR(pg_catalog.->>) 'on_data_loss') OPERATOR(pg_catalog.=) 'wait'
            THEN 'goes on by itself when its records are there again'
            ELSE pg_catalog.format('SELECT lakehouse.seek_source(%L, %L), with -2 for the oldest record that is left, -1 for the end, or an offset',
                   s.name, pg_catalog.jsonb_build_object(k.topic, pg_catalog.jsonb_build_object(k."partition", -2)))
       END AS hint,
       t.publish_error,
       k.updated,
       CASE WHEN (s.options OPERATOR(pg_catalog.->>) 'workers')::pg_catalog.int4 OPERATOR(pg_catalog.>) h.worker
            THEN h.worker END AS worker
  FROM lakehouse.kafka_offset k
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) k.source_id
  JOIN (SELECT * FROM lakehouse._source_obstacle OFFSET 0) o ON o.source_id OPERATOR(pg_catalog.=) s.source_id
  LEFT JOIN lakehouse.kafka_share h ON h.source_id OPERATOR(pg_catalog.=) k.source_id
        AND h.topic OPERATOR(pg_catalog.=) k.topic AND h."partition" OPERATOR(pg_catalog.=) k."partition"
  LEFT JOIN lakehouse.source_state t ON t.source_id OPERATOR(pg_catalog.=) k.source_id
 CROSS JOIN LATERAL (SELECT GREATEST(k.end_offset OPERATOR(pg_catalog.-) k.next_offset, 0) AS lag) l
 CROSS JOIN LATERAL (SELECT
       CASE WHEN k.last_timestamp OPERATOR(pg_catalog.>=) 0
             AND k.last_timestamp OPERATOR(pg_catalog.<) 253402300800000
            THEN pg_catalog.to_timestamp(k.last_timestamp OPERATOR(pg_catalog./) 1000.0::pg_catalog.float8) END AS last_record) r
 CROSS JOIN LATERAL (SELECT pg_catalog.exp(GREATEST(-700::pg_catalog.float8, LEAST(0::pg_catalog.float8,
       pg_catalog.date_part('epoch', k.updated OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
         OPERATOR(pg_catalog./) 30.0::pg_catalog.float8))) AS decay) d
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.kafka_status IS 'one row for each partition that a Kafka source reads: where it stands, how far behind it is, and why it is stopped';
COMMENT ON COLUMN lakehouse.kafka_status.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.kafka_status.owner IS 'role in whose name the source runs';
COMMENT ON COLUMN lakehouse.kafka_status.topic IS 'name of the topic';
COMMENT ON COLUMN lakehouse.kafka_status."partition" IS 'number of the partition, from 0';
COMMENT ON COLUMN lakehouse.kafka_status.state IS 'stopped (this partition cannot be read, see error and hint), waiting (the same under {"on_data_loss": "wait"}), paused, blocked or failing (the source is: see source_status) or active';
COMMENT ON COLUMN lakehouse.kafka_status."position" IS 'next offset to read';
COMMENT ON COLUMN lakehouse.kafka_status.low_offset IS 'oldest offset that the broker had when last asked';
COMMENT ON COLUMN lakehouse.kafka_status.end_offset IS 'end of the partition when last heard: the offset that the next record will get, or, once everything before it was read, the first offset of a transaction that is not finished';
COMMENT ON COLUMN lakehouse.kafka_status.open_transactions IS 'offsets behind end_offset that belong to transactions not finished when last heard, or follow one; a worker looks every lakehouse.kafka_refresh_interval';
COMMENT ON COLUMN lakehouse.kafka_status.lag IS 'offsets between position and end when last heard; control records and records of aborted transactions count while there are records behind them, not at the end';
COMMENT ON COLUMN lakehouse.kafka_status.lag_seconds IS 'how old the oldest unread record can be at most, in seconds: time since nothing was left to read, or since the Kafka timestamp of the last record that was loaded if that is later; 0 without lag; NULL if neither is known, and without lag also while nobody looks: between runs of a source that is not continuous, or while it is paused, blocked or failing or has no worker';
COMMENT ON COLUMN lakehouse.kafka_status.last_record IS 'Kafka timestamp of the last record that was loaded';
COMMENT ON COLUMN lakehouse.kafka_status.last_fetch IS 'when a record or the end of the partition came last, as of the last batch; of a partition without new records that may be long ago, and source_status tells whether all is well';
COMMENT ON COLUMN lakehouse.kafka_status.rows IS 'records stored from this partition since the source was made';
COMMENT ON COLUMN lakehouse.kafka_status.rejected IS 'records kept as rejects since the source was made, without those that a replay has stored';
COMMENT ON COLUMN lakehouse.kafka_status.bytes IS 'bytes of keys and values of these';
COMMENT ON COLUMN lakehouse.kafka_status.rows_per_second IS 'records a second, averaged over about the last half minute';
COMMENT ON COLUMN lakehouse.kafka_status.bytes_per_second IS 'bytes of keys and values a second, averaged likewise';
COMMENT ON COLUMN lakehouse.kafka_status.sqlstate IS 'SQLSTATE of the reason why the partition is stopped: 55000 if records are lost, 42704 without topic, 42501 if it may not be read';
COMMENT ON COLUMN lakehouse.kafka_status.error IS 'why the partition is stopped; lost offsets are named as the range [first,next)';
COMMENT ON COLUMN lakehouse.kafka_status.since IS 'when it stopped';
COMMENT ON COLUMN lakehouse.kafka_status.hint IS 'the way out for a partition that is stopped';
COMMENT ON COLUMN lakehouse.kafka_status.publish_error IS 'why the consumer group of the option "publish_group" could not be told the positions; NULL if it could, or none is named';
COMMENT ON COLUMN lakehouse.kafka_status.updated IS 'when the position was last written';
COMMENT ON COLUMN lakehouse.kafka_status.worker IS 'with the option "workers": number of the worker, from 0, that the partition was given to when work was last divided; another one reads it while that one is not there; NULL before';

CREATE VIEW lakehouse.kafka_loss_status WITH (security_barrier = true) AS
SELECT s.name AS source, s.owner, l.topic, l."partition", l.first_offset, l.next_offset,
       l.resumed_offset, l.reason, l.found
  FROM lakehouse.kafka_loss l
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) l.source_id
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.kafka_loss_status IS 'ranges of Kafka partitions that a source with {"on_data_loss": "skip"} went past because they were not there any more';
COMMENT ON COLUMN lakehouse.kafka_loss_status.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.kafka_loss_status.owner IS 'role in whose name the source runs';
COMMENT ON COLUMN lakehouse.kafka_loss_status.topic IS 'name of the topic';
COMMENT ON COLUMN lakehouse.kafka_loss_status."partition" IS 'number of the partition, from 0';
COMMENT ON COLUMN lakehouse.kafka_loss_status.first_offset IS 'first offset that was not read: the former position (retention), the new end (shortened) or the oldest record of the new topic (recreated)';
COMMENT ON COLUMN lakehouse.kafka_loss_status.next_offset IS 'offset behind the last one that was not read';
COMMENT ON COLUMN lakehouse.kafka_loss_status.resumed_offset IS 'where reading went on';
COMMENT ON COLUMN lakehouse.kafka_loss_status.reason IS 'retention (the broker dropped records before they were read), shortened (the topic ends before the position) or recreated (its last record is not the one that was loaded)';
COMMENT ON COLUMN lakehouse.kafka_loss_status.found IS 'when that was found; commits with the new position';
