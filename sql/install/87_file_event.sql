-- What people did with single files, and sources in the words of Auto Loader.

CREATE VIEW lakehouse.file_event WITH (security_barrier) AS
SELECT a.action_id AS event_id, a.done, s.name AS source, a.path, a.action, a.rows, a.role
  FROM lakehouse.file_action a
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) a.source_id
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.file_event IS 'who called reingest_file, skip_file and undo_file, and when, of the sources that the current role owns, or of all for members of pg_monitor; lakehouse.load_status is the history of loads';
COMMENT ON COLUMN lakehouse.file_event.event_id IS 'number of the event';
COMMENT ON COLUMN lakehouse.file_event.done IS 'when';
COMMENT ON COLUMN lakehouse.file_event.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.file_event.path IS 'file, beneath the directory of the server';
COMMENT ON COLUMN lakehouse.file_event.action IS 'reingest, skip or undo';
COMMENT ON COLUMN lakehouse.file_event.rows IS 'undo: rows that were deleted; otherwise NULL';
COMMENT ON COLUMN lakehouse.file_event.role IS 'role that called the function';

-- The names are those of a query's progress in Auto Loader.
CREATE VIEW lakehouse.stream_progress WITH (security_barrier) AS
SELECT s.source_id AS id, s.name, l.load_id AS "batchId", l.finished AS "timestamp",
       l.rows OPERATOR(pg_catalog.+) l.rejected AS "numInputRows",
       ((l.rows OPERATOR(pg_catalog.+) l.rejected)::pg_catalog.float8 OPERATOR(pg_catalog./)
         GREATEST(pg_catalog.date_part('epoch', l.finished OPERATOR(pg_catalog.-) l.started), 0.001::pg_catalog.float8)) AS "processedRowsPerSecond",
       (pg_catalog.date_part('epoch', l.finished OPERATOR(pg_catalog.-) l.started) OPERATOR(pg_catalog.*) 1000::pg_catalog.float8)::bigint AS "durationMs",
       s.waiting_files AS "numFilesOutstanding", s.waiting_bytes::bigint AS "numBytesOutstanding"
  FROM lakehouse.source_status s
  LEFT JOIN LATERAL (SELECT load_id, rows, rejected, started, finished FROM lakehouse.load
         WHERE source_id OPERATOR(pg_catalog.=) s.source_id ORDER BY load_id DESC LIMIT 1) l ON true;
COMMENT ON VIEW lakehouse.stream_progress IS 'lakehouse.source_status in the names of Auto Loader''s metrics: what waits, and the last load of each source; lakehouse.load_status keeps all loads';
COMMENT ON COLUMN lakehouse.stream_progress.id IS 'number of the source';
COMMENT ON COLUMN lakehouse.stream_progress.name IS 'name of the source';
COMMENT ON COLUMN lakehouse.stream_progress."batchId" IS 'number of the last load; NULL before the first one';
COMMENT ON COLUMN lakehouse.stream_progress."timestamp" IS 'when that load was written, shortly before its commit';
COMMENT ON COLUMN lakehouse.stream_progress."numInputRows" IS 'records that it read: rows stored and records rejected';
COMMENT ON COLUMN lakehouse.stream_progress."processedRowsPerSecond" IS 'records for each second of it';
COMMENT ON COLUMN lakehouse.stream_progress."durationMs" IS 'milliseconds that it took';
COMMENT ON COLUMN lakehouse.stream_progress."numFilesOutstanding" IS 'files seen and not yet loaded to the end; NULL for Kafka';
COMMENT ON COLUMN lakehouse.stream_progress."numBytesOutstanding" IS 'bytes of those still to be read; NULL for Kafka';
