-- What keeps a source from being read by whoever may, whatever its last attempt
-- came to.

CREATE FUNCTION lakehouse._no_worker(source_id integer)
RETURNS text AS 'MODULE_PATHNAME', 'lakehouse_no_worker'
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION lakehouse._no_worker(integer) IS
'why a continuous source of this database has no background worker and gets none by itself, or NULL';

CREATE VIEW lakehouse._source_obstacle WITH (security_barrier) AS
SELECT s.source_id, o.obstacle,
       CASE WHEN s.trigger OPERATOR(pg_catalog.=) 'continuous' AND s.paused IS NULL AND o.obstacle IS NULL
            THEN lakehouse._no_worker(s.source_id) END AS no_worker
  FROM lakehouse.source s
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.target
 CROSS JOIN (SELECT pg_catalog.concat(i.system_identifier, '/', d.oid) AS home
               FROM pg_catalog.pg_control_system() i, pg_catalog.pg_database d
              WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) h
 CROSS JOIN LATERAL (SELECT CASE
         WHEN s.home OPERATOR(pg_catalog.<>) h.home
         THEN 'the database is a copy or was restored: run lakehouse.resume_source if the source is to run here'
         WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) s.owner)
         THEN 'the owner does not exist any more'
         WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_server v WHERE v.srvname OPERATOR(pg_catalog.=) s.server)
         THEN 'the server does not exist any more'
         WHEN c.oid IS NULL THEN 'the target table does not exist any more'
       END AS obstacle) o
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse._source_obstacle IS 'what keeps each source that the current role may see from being read';
COMMENT ON COLUMN lakehouse._source_obstacle.source_id IS 'number of the source';
COMMENT ON COLUMN lakehouse._source_obstacle.obstacle IS 'what is gone that it needs, or NULL';
COMMENT ON COLUMN lakehouse._source_obstacle.no_worker IS 'why nothing reads it in the background although it is continuous, or NULL';

-- What sources do and did. A role sees what it owns; members of pg_monitor see
-- all, but no content of records.

CREATE VIEW lakehouse.source_status WITH (security_barrier) AS
SELECT s.source_id, s.name, s.owner, s.server, s.kind,
       CASE WHEN c.oid IS NULL THEN NULL
            ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END AS target,
       s.format, s.path, s.topics, s.trigger,
       CASE WHEN s.paused IS NOT NULL THEN 'paused'
            WHEN o.obstacle IS NOT NULL THEN 'blocked'
            WHEN t.failures OPERATOR(pg_catalog.>) 0 THEN 'failing'
            WHEN k.stopped_partitions OPERATOR(pg_catalog.>) 0 THEN 'stopped'
            WHEN o.no_worker IS NOT NULL OR f.waiting_files OPERATOR(pg_catalog.>) 0
              OR k.waiting_messages OPERATOR(pg_catalog.>) 0 THEN 'waiting'
            ELSE 'idle' END AS state,
       COALESCE(s.paused, o.obstacle, t.error, k.stopped, o.no_worker) AS reason,
       f.waiting_files, f.waiting_bytes, f.failed_files, f.changed_files, f.skipped_files,
       k.waiting_messages, k.stopped_partitions,
       COALESCE(f.rows, k.rows, 0::pg_catalog.numeric) AS rows,
       COALESCE(f.rejected, k.rejected, 0::pg_catalog.numeric) AS rejected,
       l.last_load, t.last_success, t.last_failure,
       COALESCE(t.failures, 0) AS failures, t.sqlstate, t.error, t.retry_at,
       e.clean_waiting_files, e.clean_failed_files, t.clean_error, p.widening_pending
  FROM lakehouse.source s
  LEFT JOIN lakehouse.source_state t ON t.source_id OPERATOR(pg_catalog.=) s.source_id
  JOIN lakehouse._source_obstacle o ON o.source_id OPERATOR(pg_catalog.=) s.source_id
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.target
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN LATERAL (SELECT
         pg_catalog.count(*) FILTER (WHERE state OPERATOR(pg_catalog.=) ANY ('{discovered,loading}')) AS waiting_files,
         COALESCE(pg_catalog.sum(size OPERATOR(pg_catalog.-) "position")
           FILTER (WHERE state OPERATOR(pg_catalog.=) ANY ('{discovered,loading}')), 0)
           OPERATOR(pg_catalog.+) (SELECT COALESCE(pg_catalog.sum(g.last_position OPERATOR(pg_catalog.-) g.first_position), 0)
                                     FROM lakehouse.file_range g JOIN lakehouse.file w USING (file_id)
                                    WHERE g.source_id OPERATOR(pg_catalog.=) s.source_id
                                      AND w.state OPERATOR(pg_catalog.=) 'loading') AS waiting_bytes,
         pg_catalog.count(*) FILTER (WHERE state OPERATOR(pg_catalog.=) 'failed') AS failed_files,
         pg_catalog.count(*) FILTER (WHERE state OPERATOR(pg_catalog.=) 'changed') AS changed_files,
         pg_catalog.count(*) FILTER (WHERE state OPERATOR(pg_catalog.=) 'skipped') AS skipped_files,
         COALESCE(pg_catalog.sum(rows) FILTER (WHERE state OPERATOR(pg_catalog.<>) ALL ('{replaced,undone}')), 0) AS rows,
         COALESCE(pg_catalog.sum(rejected) FILTER (WHERE state OPERATOR(pg_catalog.<>) ALL ('{replaced,undone}')), 0) AS rejected
         FROM lakehouse.file WHERE source_id OPERATOR(pg_catalog.=) s.source_id) f
    ON s.kind OPERATOR(pg_catalog.=) 'files'
  LEFT JOIN LATERAL (SELECT
         COALESCE(pg_catalog.sum(GREATEST(end_offset OPERATOR(pg_catalog.-) next_offset, 0)), 0) AS waiting_messages,
         pg_catalog.count(sqlstate) AS stopped_partitions, pg_catalog.min(error) AS stopped,
         COALESCE(pg_catalog.sum(rows), 0) AS rows, COALESCE(pg_catalog.sum(rejected), 0) AS rejected
         FROM lakehouse.kafka_offset WHERE source_id OPERATOR(pg_catalog.=) s.source_id) k
    ON s.kind OPERATOR(pg_catalog.=) 'kafka'
  LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS clean_waiting_files,
         pg_catalog.count(sqlstate) AS clean_failed_files
         FROM lakehouse.file_clean WHERE source_id OPERATOR(pg_catalog.=) s.source_id AND due IS NOT NULL) e
    ON s.kind OPERATOR(pg_catalog.=) 'files'
  LEFT JOIN LATERAL (SELECT pg_catalog.count(DISTINCT x.column_name) AS widening_pending
         FROM lakehouse.schema_change x
         JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) x.relation
          AND a.attname OPERATOR(pg_catalog.=) x.column_name::pg_catalog.name
          AND pg_catalog.format_type(a.atttypid, NULL) OPERATOR(pg_catalog.=) x.old_type
        WHERE x.source_id OPERATOR(pg_catalog.=) s.source_id AND x.pending) p
    ON s.kind OPERATOR(pg_catalog.=) 'files'
  LEFT JOIN LATERAL (SELECT finished AS last_load FROM lakehouse.load
         WHERE source_id OPERATOR(pg_catalog.=) s.source_id ORDER BY load_id DESC LIMIT 1) l ON true
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.source_status IS 'sources that the current role owns, or all for members of pg_monitor: what they wait for and how they fare';
COMMENT ON COLUMN lakehouse.source_status.source_id IS 'number of the source';
COMMENT ON COLUMN lakehouse.source_status.name IS 'name of the source';
COMMENT ON COLUMN lakehouse.source_status.owner IS 'role that owns it and that it runs as';
COMMENT ON COLUMN lakehouse.source_status.server IS 'foreign server that it reads from';
COMMENT ON COLUMN lakehouse.source_status.kind IS 'files or kafka';
COMMENT ON COLUMN lakehouse.source_status.target IS 'bronze table; NULL if it was dropped';
COMMENT ON COLUMN lakehouse.source_status.format IS 'csv or json; NULL for Kafka';
COMMENT ON COLUMN lakehouse.source_status.path IS 'pattern beneath the directory of the server; NULL for Kafka';
COMMENT ON COLUMN lakehouse.source_status.topics IS 'topics; NULL for files';
COMMENT ON COLUMN lakehouse.source_status.trigger IS 'available_now or continuous';
COMMENT ON COLUMN lakehouse.source_status.state IS 'paused (by pause_source), blocked (something it needs is gone, or another database), failing (the last attempt failed), stopped (partitions of a Kafka source cannot be read, the others go on: see kafka_status), waiting (there is something to load, or no background worker is there for a continuous source, see reason) or idle';
COMMENT ON COLUMN lakehouse.source_status.reason IS 'why it is paused, blocked, failing or stopped; otherwise NULL';
COMMENT ON COLUMN lakehouse.source_status.waiting_files IS 'files seen and not yet loaded to the end; NULL for Kafka';
COMMENT ON COLUMN lakehouse.source_status.waiting_bytes IS 'bytes of those still to be read; NULL for Kafka';
COMMENT ON COLUMN lakehouse.source_status.failed_files IS 'files that could not be read and will be tried again';
COMMENT ON COLUMN lakehouse.source_status.changed_files IS 'files that changed after they were loaded; a person must decide';
COMMENT ON COLUMN lakehouse.source_status.skipped_files IS 'entries that are no regular file, have an unusable name or disappeared';
COMMENT ON COLUMN lakehouse.source_status.waiting_messages IS 'messages between the next offset and the end of the partitions when last looked; NULL for files';
COMMENT ON COLUMN lakehouse.source_status.stopped_partitions IS 'partitions stopped by an error; NULL for files';
COMMENT ON COLUMN lakehouse.source_status.rows IS 'rows stored since the source was made, without those that were taken back (undo_file, or a file that was replaced)';
COMMENT ON COLUMN lakehouse.source_status.rejected IS 'records rejected since the source was made, without those that were taken back';
COMMENT ON COLUMN lakehouse.source_status.last_load IS 'when its last load was finished';
COMMENT ON COLUMN lakehouse.source_status.last_success IS 'when it last ran without failing (to the second)';
COMMENT ON COLUMN lakehouse.source_status.last_failure IS 'when it last failed';
COMMENT ON COLUMN lakehouse.source_status.failures IS 'failures in a row';
COMMENT ON COLUMN lakehouse.source_status.sqlstate IS 'SQLSTATE of the last failure while failing';
COMMENT ON COLUMN lakehouse.source_status.error IS 'message of the last failure while failing';
COMMENT ON COLUMN lakehouse.source_status.retry_at IS 'not tried again by a worker before this time';
COMMENT ON COLUMN lakehouse.source_status.clean_waiting_files IS 'loaded files that will be moved or deleted (option clean_source); NULL for Kafka';
COMMENT ON COLUMN lakehouse.source_status.clean_failed_files IS 'those of them that could not be moved or deleted when their time had come; file_status says why';
COMMENT ON COLUMN lakehouse.source_status.clean_error IS 'why no file of the source can be moved or deleted at present: a privilege, a directory';
COMMENT ON COLUMN lakehouse.source_status.widening_pending IS 'columns whose values need a wider type that the source could not give them (schema_evolution_mode addNewColumnsWithTypeWidening); schema_event says why. Until then such values are rescued; NULL for Kafka';

CREATE VIEW lakehouse.file_status WITH (security_barrier) AS
SELECT s.name AS source, f.file_id, f.path, f.state, f.size, f.mtime,
       (f."position" OPERATOR(pg_catalog.-) g.bytes)::bigint AS "position", f.line,
       f.rows, f.rejected, f.attempts, f.sqlstate, f.error, f.retry_at, f.discovered, f.loaded,
       f.version, f.hash, f.ended,
       c.state AS clean_state, c.mode AS clean_mode, COALESCE(c.due, c.finished) AS clean_time,
       c.target AS clean_target, c.attempts AS clean_attempts, c.sqlstate AS clean_sqlstate, c.error AS clean_error,
       d.path AS duplicate_of
  FROM lakehouse.file f
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) f.source_id
 CROSS JOIN LATERAL (SELECT COALESCE(pg_catalog.sum(last_position OPERATOR(pg_catalog.-) first_position), 0) AS bytes
                       FROM lakehouse.file_range
                      WHERE source_id OPERATOR(pg_catalog.=) f.source_id AND file_id OPERATOR(pg_catalog.=) f.file_id) g
  LEFT JOIN lakehouse.file_clean c ON c.file_id OPERATOR(pg_catalog.=) f.file_id
  LEFT JOIN lakehouse.file d ON d.file_id OPERATOR(pg_catalog.=) f.duplicate_of
                            AND f.state OPERATOR(pg_catalog.=) 'duplicate'
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.file_status IS 'files of the sources that the current role owns, or of all for members of pg_monitor';
COMMENT ON COLUMN lakehouse.file_status.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.file_status.file_id IS 'number of the file';
COMMENT ON COLUMN lakehouse.file_status.path IS 'path beneath the directory of the server; bytes that are no character are written \xHH';
COMMENT ON COLUMN lakehouse.file_status.state IS 'discovered (waits), loading (a part is loaded), loaded, failed (tried again at retry_at), skipped (no regular file, unusable name, or gone; or by skip_file, without a SQLSTATE), changed (another file now than what was loaded), undone (by undo_file), duplicate (option identity: another file had the same content), or, of an earlier version, superseded (its rows are there) or replaced (its rows were taken back)';
COMMENT ON COLUMN lakehouse.file_status.size IS 'bytes, of the version that was or will be loaded';
COMMENT ON COLUMN lakehouse.file_status.mtime IS 'modification time of that version (microseconds)';
COMMENT ON COLUMN lakehouse.file_status."position" IS 'bytes loaded so far';
COMMENT ON COLUMN lakehouse.file_status.line IS 'lines loaded so far; while several workers load a large file, those loaded or begun';
COMMENT ON COLUMN lakehouse.file_status.rows IS 'rows stored from it';
COMMENT ON COLUMN lakehouse.file_status.rejected IS 'records rejected from it';
COMMENT ON COLUMN lakehouse.file_status.attempts IS 'failed attempts in a row';
COMMENT ON COLUMN lakehouse.file_status.sqlstate IS 'SQLSTATE of why it is failed, skipped or changed';
COMMENT ON COLUMN lakehouse.file_status.error IS 'why it is failed, skipped or changed';
COMMENT ON COLUMN lakehouse.file_status.retry_at IS 'when a continuous source tries it again; infinity after max_attempts, until the file changes, or alter_source, resume_source or reingest_file is called';
COMMENT ON COLUMN lakehouse.file_status.discovered IS 'when this version was first seen';
COMMENT ON COLUMN lakehouse.file_status.loaded IS 'when it was loaded to the end';
COMMENT ON COLUMN lakehouse.file_status.version IS 'version of the path: each that is loaded as a whole is a row of its own';
COMMENT ON COLUMN lakehouse.file_status.hash IS 'hash of the bytes loaded so far; while several workers load a large file, of those loaded or begun; NULL if nothing was loaded';
COMMENT ON COLUMN lakehouse.file_status.ended IS 'when a later version took its place; NULL for the present one';
COMMENT ON COLUMN lakehouse.file_status.clean_state IS 'what becomes of the file after its load: waiting, acting (under way), moved, deleted, left (it was not the file that was loaded any more); NULL without option clean_source';
COMMENT ON COLUMN lakehouse.file_status.clean_mode IS 'move or delete';
COMMENT ON COLUMN lakehouse.file_status.clean_time IS 'when that happened, or not before when it will';
COMMENT ON COLUMN lakehouse.file_status.clean_target IS 'path that it was, or is being, moved to';
COMMENT ON COLUMN lakehouse.file_status.clean_attempts IS 'attempts in a row that did not come to an end';
COMMENT ON COLUMN lakehouse.file_status.clean_sqlstate IS 'SQLSTATE of why it is not yet, or was not, moved or deleted';
COMMENT ON COLUMN lakehouse.file_status.clean_error IS 'that reason';
COMMENT ON COLUMN lakehouse.file_status.duplicate_of IS 'path of the file with the same content, while the state is duplicate; otherwise NULL';

CREATE VIEW lakehouse.load_status WITH (security_barrier) AS
SELECT l.load_id,
       CASE WHEN c.oid IS NULL THEN NULL
            ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END AS target,
       l.kind, s.name AS source, w.name AS flow, f.path AS file, l.first_position, l.last_position,
       l.offsets, l.rows, l.rejected, l.bytes, l.role, l.started, l.finished, l.undone, l.rescued
  FROM lakehouse.load l
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) l.source_id
  LEFT JOIN lakehouse.flow w ON w.flow_id OPERATOR(pg_catalog.=) l.flow_id
  LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) l.file_id
 WHERE lakehouse._may_see(COALESCE(s.owner, w.owner, l.role));
COMMENT ON VIEW lakehouse.load_status IS 'loads that the current role made, or whose source or flow it owns; all for members of pg_monitor. Join _load_id of a row to load_id';
COMMENT ON COLUMN lakehouse.load_status.load_id IS 'number of the load, as in column _load_id of its rows; does not tell the order of commits';
COMMENT ON COLUMN lakehouse.load_status.target IS 'table that received the rows; NULL if it was dropped';
COMMENT ON COLUMN lakehouse.load_status.kind IS 'file, kafka, flow or user (an INSERT or COPY by hand)';
COMMENT ON COLUMN lakehouse.load_status.source IS 'source that made it; NULL if none or dropped';
COMMENT ON COLUMN lakehouse.load_status.flow IS 'flow that made it; NULL if none or dropped';
COMMENT ON COLUMN lakehouse.load_status.file IS 'file that it read; NULL for other kinds';
COMMENT ON COLUMN lakehouse.load_status.first_position IS 'file: first byte';
COMMENT ON COLUMN lakehouse.load_status.last_position IS 'file: byte behind the last';
COMMENT ON COLUMN lakehouse.load_status.offsets IS 'kafka: {"topic": {"partition": [first, next]}}; NULL for messages that lakehouse.replay_rejects stored';
COMMENT ON COLUMN lakehouse.load_status.rows IS 'rows stored; NULL if not counted (user)';
COMMENT ON COLUMN lakehouse.load_status.rejected IS 'records rejected';
COMMENT ON COLUMN lakehouse.load_status.bytes IS 'input bytes; NULL if not known';
COMMENT ON COLUMN lakehouse.load_status.role IS 'role that wrote it';
COMMENT ON COLUMN lakehouse.load_status.started IS 'when it began';
COMMENT ON COLUMN lakehouse.load_status.finished IS 'when it was written, shortly before its commit';
COMMENT ON COLUMN lakehouse.load_status.undone IS 'when its rows and rejects were taken back, by undo_file or by a later version of the file; NULL otherwise';

COMMENT ON COLUMN lakehouse.load_status.rescued IS 'rows of it that had fields for the column of rescued data, when they were stored';

CREATE VIEW lakehouse.reject_status WITH (security_barrier) AS
SELECT r.reject_id, s.name AS source, w.name AS flow, r.load_id, f.path AS file, r.line, r.byte_offset,
       r.topic, r."partition", r."offset",
       CASE WHEN pg_catalog.pg_has_role(COALESCE(s.owner, w.owner, l.role), 'USAGE') THEN r.raw END AS raw,
       r.stage, r.sqlstate,
       CASE WHEN pg_catalog.pg_has_role(COALESCE(s.owner, w.owner, l.role), 'USAGE') THEN r.message END AS message,
       r.column_name, r.rejected_at, r.state, r.raw_cut, r.replayed_at, r.replayed_load,
       CASE WHEN pg_catalog.pg_has_role(COALESCE(s.owner, w.owner, l.role), 'USAGE') THEN r.key END AS key,
       CASE WHEN pg_catalog.pg_has_role(COALESCE(s.owner, w.owner, l.role), 'USAGE') THEN r.headers END AS headers,
       r.timestamp_ms, r.timestamp_type
  FROM lakehouse.reject r
  LEFT JOIN lakehouse.load l ON l.load_id OPERATOR(pg_catalog.=) r.load_id
  LEFT JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) r.source_id
  LEFT JOIN lakehouse.flow w ON w.flow_id OPERATOR(pg_catalog.=) r.flow_id
  LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) r.file_id
 WHERE lakehouse._may_see(COALESCE(s.owner, w.owner, l.role));
COMMENT ON VIEW lakehouse.reject_status IS 'records that could not be stored, of sources and flows that the current role owns; for members of pg_monitor all, but without their content';
COMMENT ON COLUMN lakehouse.reject_status.reject_id IS 'number of the reject';
COMMENT ON COLUMN lakehouse.reject_status.source IS 'source; NULL if of a flow, or dropped';
COMMENT ON COLUMN lakehouse.reject_status.flow IS 'flow; NULL if of a source, or dropped';
COMMENT ON COLUMN lakehouse.reject_status.load_id IS 'load during which it was rejected';
COMMENT ON COLUMN lakehouse.reject_status.file IS 'file that it came from';
COMMENT ON COLUMN lakehouse.reject_status.line IS 'first line of the record, from 1';
COMMENT ON COLUMN lakehouse.reject_status.byte_offset IS 'first byte of the record, from 0';
COMMENT ON COLUMN lakehouse.reject_status.topic IS 'Kafka topic';
COMMENT ON COLUMN lakehouse.reject_status."partition" IS 'Kafka partition';
COMMENT ON COLUMN lakehouse.reject_status."offset" IS 'Kafka offset';
COMMENT ON COLUMN lakehouse.reject_status.raw IS 'the record as it stood (Kafka: the value of the message, NULL for a tombstone), at most its first 1,048,576 bytes; NULL for roles that do not have the rights of the owner';
COMMENT ON COLUMN lakehouse.reject_status.stage IS 'parse (no fields could be found), convert (a field is no value of its column), store (the table refused it) or merge (the target of a flow refused it)';
COMMENT ON COLUMN lakehouse.reject_status.sqlstate IS 'SQLSTATE of the reason';
COMMENT ON COLUMN lakehouse.reject_status.message IS 'the reason; NULL for roles that do not have the rights of the owner';
COMMENT ON COLUMN lakehouse.reject_status.column_name IS 'column that it concerns, if any';
COMMENT ON COLUMN lakehouse.reject_status.rejected_at IS 'when';
COMMENT ON COLUMN lakehouse.reject_status.state IS 'open (waits for replay_rejects), dropped (by the mode dropmalformed of the source; replayed only by number), stored (the record is a row with its text in the column for corrupt records, counted as a row and not as a reject; never replayed) or resolved (replayed; stored by load replayed_load)';
COMMENT ON COLUMN lakehouse.reject_status.raw_cut IS 'whether raw is only the beginning of the record, or key or headers of a message were longer than 1,048,576 bytes; it cannot be replayed then';
COMMENT ON COLUMN lakehouse.reject_status.replayed_at IS 'when it was last replayed';
COMMENT ON COLUMN lakehouse.reject_status.replayed_load IS 'load that stored the record in the end';
COMMENT ON COLUMN lakehouse.reject_status.key IS 'key of the Kafka message, at most its first 1,048,576 bytes; NULL if it has none, and for roles that do not have the rights of the owner';
COMMENT ON COLUMN lakehouse.reject_status.headers IS 'headers of the Kafka message in their order, [{"key": ..., "value": ...}, ...], with "key_base64" and "value_base64" for what is no text; NULL if it has none, if they were longer than 1,048,576 bytes (raw_cut), and for roles that do not have the rights of the owner';
COMMENT ON COLUMN lakehouse.reject_status.timestamp_ms IS 'timestamp of the Kafka message in milliseconds since 1970; -1 if it has none';
COMMENT ON COLUMN lakehouse.reject_status.timestamp_type IS 'who set it: 0 the producer, 1 the broker, -1 nobody; NULL for a record that is no message of Kafka, or of which a former version kept the value only: that cannot be replayed';
