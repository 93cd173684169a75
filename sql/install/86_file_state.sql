-- Files in the words of Auto Loader, and how far the running loads are.

CREATE FUNCTION lakehouse.running_loads(
    OUT pid integer, OUT source_id integer, OUT file_id bigint, OUT load_id bigint, OUT size bigint,
    OUT first_position bigint, OUT "position" bigint, OUT rows bigint, OUT rejected bigint,
    OUT started timestamptz)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_running_loads'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION lakehouse.running_loads() IS
'loads of files that are under way in this database, from shared memory: of sources whose owner''s rights the caller has, to members of pg_monitor all; no rows without shared_preload_libraries. lakehouse.load_progress shows them by name';

-- A load that is under way has no row in lakehouse.load that others can see, and
-- its file perhaps none in the ledger.
CREATE VIEW lakehouse.load_progress AS
SELECT r.pid, s.name AS source, f.path, r.load_id, r.started,
       r.size, r."position",
       r."position" OPERATOR(pg_catalog.-) r.first_position AS bytes, r.rows, r.rejected,
       ((r."position" OPERATOR(pg_catalog.-) r.first_position) OPERATOR(pg_catalog./) e.seconds)::pg_catalog.float8 AS bytes_per_second,
       (r.rows OPERATOR(pg_catalog./) e.seconds)::pg_catalog.float8 AS rows_per_second,
       CASE WHEN r."position" OPERATOR(pg_catalog.>) r.first_position
            THEN pg_catalog.make_interval(secs => e.seconds
                   OPERATOR(pg_catalog.*) (r.size OPERATOR(pg_catalog.-) r."position")::pg_catalog.float8
                   OPERATOR(pg_catalog./) (r."position" OPERATOR(pg_catalog.-) r.first_position)::pg_catalog.float8)
       END AS time_left
  FROM lakehouse.running_loads() r
 CROSS JOIN LATERAL (SELECT GREATEST(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.started),
                                     0.001::pg_catalog.float8) AS seconds) e
  LEFT JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) r.source_id
  LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) r.file_id;
COMMENT ON VIEW lakehouse.load_progress IS 'one row for each file that is being loaded now, by a worker or by run_source in a session, of sources that the current role owns, or of all for members of pg_monitor; empty when lakehouse is not in shared_preload_libraries';
COMMENT ON COLUMN lakehouse.load_progress.pid IS 'process that loads, as in pg_stat_activity';
COMMENT ON COLUMN lakehouse.load_progress.source IS 'source';
COMMENT ON COLUMN lakehouse.load_progress.path IS 'file; NULL while the transaction that found it is the one that loads it';
COMMENT ON COLUMN lakehouse.load_progress.load_id IS 'number that the load will have';
COMMENT ON COLUMN lakehouse.load_progress.started IS 'when the load began';
COMMENT ON COLUMN lakehouse.load_progress.size IS 'bytes of the file; of a range of a large file that several workers load, the byte where it ends';
COMMENT ON COLUMN lakehouse.load_progress."position" IS 'byte of the file that is reached, compressed or not';
COMMENT ON COLUMN lakehouse.load_progress.bytes IS 'bytes that this load has read';
COMMENT ON COLUMN lakehouse.load_progress.rows IS 'rows that this load has written';
COMMENT ON COLUMN lakehouse.load_progress.rejected IS 'records that this load has rejected';
COMMENT ON COLUMN lakehouse.load_progress.bytes_per_second IS 'bytes read each second since it began';
COMMENT ON COLUMN lakehouse.load_progress.rows_per_second IS 'rows written each second since it began';
COMMENT ON COLUMN lakehouse.load_progress.time_left IS 'estimate until "size" is reached, at that speed; NULL if nothing was read yet';

CREATE VIEW lakehouse.cloud_files_state WITH (security_barrier) AS
SELECT f.path, f.size, f.mtime AS create_time, f.discovered AS discovery_time,
       l.started AS processed_time, f.loaded AS commit_time,
       s.source_id, s.name AS flow_name,
       CASE WHEN f.state OPERATOR(pg_catalog.=) 'discovered' AND f."position" OPERATOR(pg_catalog.=) 0 THEN NULL
            WHEN f.state OPERATOR(pg_catalog.=) 'loading' THEN 'PROCESSING'
            WHEN f.state OPERATOR(pg_catalog.=) ANY ('{replaced,undone,duplicate}')
              OR (f.state OPERATOR(pg_catalog.=) 'skipped' AND f.sqlstate IS NULL) THEN 'SKIPPED'
            WHEN f.state OPERATOR(pg_catalog.=) ANY ('{failed,skipped}')
                 THEN CASE WHEN f.sqlstate OPERATOR(pg_catalog.=) '58P01' THEN 'SKIPPED_MISSING' ELSE 'SKIPPED_CORRUPTED' END
            ELSE 'INGESTED' END AS ingestion_state,
       f.state, f.rows, f.rejected, (f."position" OPERATOR(pg_catalog.-) g.bytes)::bigint AS bytes, f.attempts,
       f.sqlstate, f.error AS last_error, f.retry_at, l.load_id AS batch_id, f.version, f.hash, w.pid AS worker_pid,
       CASE WHEN c.state OPERATOR(pg_catalog.=) ANY ('{moved,deleted}') THEN c.finished END AS archive_time,
       CASE c.state WHEN 'moved' THEN 'MOVE' WHEN 'deleted' THEN 'DELETE' END AS archive_mode,
       CASE c.state WHEN 'moved' THEN c.target END AS move_location, COALESCE(l.rescued, 0)::bigint AS rescued
  FROM lakehouse.file f
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) f.source_id
  LEFT JOIN lakehouse.file_clean c ON c.file_id OPERATOR(pg_catalog.=) f.file_id
  LEFT JOIN LATERAL (SELECT load_id, started, pg_catalog.sum(rescued) OVER () AS rescued FROM lakehouse.load
                      WHERE file_id OPERATOR(pg_catalog.=) f.file_id AND first_position IS NOT NULL
                      ORDER BY load_id DESC LIMIT 1) l ON true
  LEFT JOIN (SELECT file_id, pg_catalog.min(pid) AS pid FROM lakehouse.running_loads() GROUP BY file_id) w
    ON w.file_id OPERATOR(pg_catalog.=) f.file_id
 CROSS JOIN LATERAL (SELECT COALESCE(pg_catalog.sum(last_position OPERATOR(pg_catalog.-) first_position), 0) AS bytes
                       FROM lakehouse.file_range
                      WHERE source_id OPERATOR(pg_catalog.=) f.source_id AND file_id OPERATOR(pg_catalog.=) f.file_id) g
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.cloud_files_state IS 'the ledger of files in the columns of Auto Loader''s cloud_files_state, and more, for the sources that the current role owns, or all for members of pg_monitor. lakehouse.file_status is the same in our words';
COMMENT ON COLUMN lakehouse.cloud_files_state.path IS 'path beneath the directory of the server';
COMMENT ON COLUMN lakehouse.cloud_files_state.size IS 'bytes, of the version that was or will be loaded';
COMMENT ON COLUMN lakehouse.cloud_files_state.create_time IS 'modification time of that version: a file system keeps no other that could be relied on';
COMMENT ON COLUMN lakehouse.cloud_files_state.discovery_time IS 'when this version was first seen';
COMMENT ON COLUMN lakehouse.cloud_files_state.processed_time IS 'when its last committed load began; NULL if there is none';
COMMENT ON COLUMN lakehouse.cloud_files_state.commit_time IS 'when it was loaded to the end, shortly before the commit; NULL until then';
COMMENT ON COLUMN lakehouse.cloud_files_state.source_id IS 'number of the source';
COMMENT ON COLUMN lakehouse.cloud_files_state.flow_name IS 'name of the source';
COMMENT ON COLUMN lakehouse.cloud_files_state.ingestion_state IS 'NULL (waits), PROCESSING (a part is loaded), INGESTED (loaded, also if the file changed later), SKIPPED_MISSING (gone before it was loaded), SKIPPED_CORRUPTED (cannot be loaded; one whose state is failed is tried again) or, which Auto Loader does not have, SKIPPED (by skip_file or undo_file, its rows were replaced by those of another version, or another file had the same content)';
COMMENT ON COLUMN lakehouse.cloud_files_state.state IS 'state as in lakehouse.file_status';
COMMENT ON COLUMN lakehouse.cloud_files_state.rows IS 'rows stored from it';
COMMENT ON COLUMN lakehouse.cloud_files_state.rejected IS 'records rejected from it and not resolved by a replay';
COMMENT ON COLUMN lakehouse.cloud_files_state.bytes IS 'bytes loaded so far';
COMMENT ON COLUMN lakehouse.cloud_files_state.attempts IS 'failed attempts in a row';
COMMENT ON COLUMN lakehouse.cloud_files_state.sqlstate IS 'SQLSTATE of why it is not loaded, or is not the file that was loaded';
COMMENT ON COLUMN lakehouse.cloud_files_state.last_error IS 'that reason';
COMMENT ON COLUMN lakehouse.cloud_files_state.retry_at IS 'when a continuous source tries it again';
COMMENT ON COLUMN lakehouse.cloud_files_state.batch_id IS 'number of its last load, in column _load_id of its rows';
COMMENT ON COLUMN lakehouse.cloud_files_state.version IS 'version of the path: each that is loaded as a whole is a row of its own';
COMMENT ON COLUMN lakehouse.cloud_files_state.hash IS 'hash of the bytes loaded so far; NULL if nothing was loaded';
COMMENT ON COLUMN lakehouse.cloud_files_state.rescued IS 'rows stored from it that had fields for the column of rescued data';
COMMENT ON COLUMN lakehouse.cloud_files_state.worker_pid IS 'process that is loading it now (one of them, if there are several), as in pg_stat_activity; otherwise NULL';
COMMENT ON COLUMN lakehouse.cloud_files_state.archive_time IS 'when it was moved or deleted after its load (option clean_source); NULL if it was not';
COMMENT ON COLUMN lakehouse.cloud_files_state.archive_mode IS 'MOVE or DELETE, once that is done';
COMMENT ON COLUMN lakehouse.cloud_files_state.move_location IS 'path that it was moved to';
