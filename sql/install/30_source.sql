-- Sources: one thing read from a server into one bronze table.

CREATE FUNCTION lakehouse.create_source(
    name text, server text, target text, format text DEFAULT NULL, path text DEFAULT NULL,
    topics text[] DEFAULT NULL, options jsonb DEFAULT '{}', trigger text DEFAULT 'available_now',
    replace boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_create_source'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.create_source(text, text, text, text, text, text[], jsonb, text, boolean) IS
'makes a source: files that match a path beneath a landing directory, or topics of a Kafka cluster, into one bronze table. Options: those of the format (csv, json, text, binary) or of Kafka ("topic_pattern" or "partitions" instead of topics, "columns", where to start and end: "starting_timestamp", "starting_offsets_by_timestamp", "starting_offsets" and the same with "ending", "on_data_loss" = stop, skip or wait, "workers", "linger_ms", "batch_rows", "batch_bytes", "min_batch_rows" with "max_batch_delay", "publish_group", and to decode values into typed columns "value_format" = json or avro with "paths", "rescued_data_column", "schema_evolution_mode" = none or rescue, and "reader_case_sensitive"; "avro_schema" for Avro values that do not name a schema of the servers registry: docs/kafka.md), and for files "metadata" (object: target column -> file_path, file_name, file_size, file_mtime, line, byte_offset, load_time or source) and "settle_ms" (a file must have been unchanged for so long; default 500 when continuous, otherwise 0), "workers" (background workers that read a continuous source together, large files in ranges of which each loads some; 1, the default, to 64), "on_change" (what to do when size or modification time of a loaded file change: ignore, the default: nothing is loaded from it and file_status shows it as changed; error: the source stops and names what was loaded; append_again: the whole file is loaded, rows already loaded stay; replace: the whole file is loaded and the rows and rejects of its earlier versions go in the same transaction; tail: what was added is loaded if a hash of the bytes loaded before is unchanged and they end with a line, otherwise changed), "on_file_error" (continue, the default, or error: a file that cannot be loaded stops the source) and "max_attempts" (failed attempts after which a file is left alone), "compression" (auto or none) and "max_decompressed_size" (bytes that a compressed file may stand for), "mode" (permissive, the default: bad records become open rejects; dropmalformed: they become dropped rejects; failfast: the first one fails its file), "max_rejects" (bad records that a file may have) and "max_reject_ratio" (part of its records, 0 to 1); a file that a limit fails is stored not at all. What becomes of files after their load: "clean_source" (off, the default; move; delete), "clean_source_retention" (not before so long after the load; an interval, 30 days), "clean_source_move_target" (directory, an absolute path; needed to move), "clean_source_apply_to_past" (files loaded before count as well; false); the caller must be a superuser or a member of pg_write_server_files (docs/files.md). For how fields and columns go together: "schema_evolution_mode" (none, rescue, addNewColumns, addNewColumnsWithTypeWidening or failOnNewColumns), "rescued_data_column", "reader_case_sensitive", "schema_hints", "max_columns" and "partition_columns" (docs/schema.md). A target that does not exist is created with the columns that the files have (infer_schema) and belongs to the caller. Trigger: available_now (read by run_source, jobs and lakehouse.run) or continuous (by a background worker). With replace => true an existing source gets the new definition and keeps its ledger and positions. The caller owns the source, must own the target and have USAGE of the server. Errors: 22007 and 22023 (argument or option), 42501 (privilege), 42704 (server), 42710 (exists), 42809 (no table), 42P01 (no target, and no file to make it of)';

CREATE FUNCTION lakehouse.alter_source(
    name text, trigger text DEFAULT NULL, options jsonb DEFAULT NULL, path text DEFAULT NULL,
    topics text[] DEFAULT NULL, owner text DEFAULT NULL, new_name text DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_alter_source'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.alter_source(text, text, jsonb, text, text[], text, text) IS
'changes what is given of a source (options as a whole) and keeps its ledger and positions; waits for a running batch. Owner only; a new owner must be able to insert into the target and use the server, and the caller must be a member of it. Errors: 22023, 42501, 42704 (no such source), 42710 (new name exists), 55000 (server or target gone)';

CREATE FUNCTION lakehouse.drop_source(name text, if_exists boolean DEFAULT false)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_drop_source'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.drop_source(text, boolean) IS
'removes a source with its ledger and positions; the target, its rows, loads and rejects stay. Owner only. Errors: 42501, 42704 (no such source)';

CREATE FUNCTION lakehouse.pause_source(name text, reason text DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_pause_source'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.pause_source(text, text) IS
'keeps a source from running, by anybody, until resume_source; the reason stands in source_status. Owner only. Errors: 42501, 42704';

CREATE FUNCTION lakehouse.resume_source(name text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_resume_source'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.resume_source(text) IS
'lets a paused or failing source run again at once; in a restored or copied database it says that the source runs here from now on. Owner only. Errors: 42501, 42704';

CREATE FUNCTION lakehouse.run_source(
    name text, OUT files bigint, OUT loads bigint, OUT rows bigint, OUT rejected bigint,
    OUT bytes bigint, OUT failed_files bigint)
RETURNS record AS 'MODULE_PATHNAME', 'lakehouse_run_source'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.run_source(text) IS
'reads everything that a source has now, in the caller''s transaction and as the source''s owner. Returns files finished, loads made, rows stored, records rejected (lakehouse.reject_status), bytes read, and files set aside because of an error (lakehouse.file_status). Waits while another run of the source is under way. Owner only. Errors: 42501, 42704, 55000 (paused, other database, server or target gone)';

CREATE FUNCTION lakehouse.replay_rejects(
    source text, reject_ids bigint[] DEFAULT NULL, load_id bigint DEFAULT NULL, max_records bigint DEFAULT 100000,
    OUT replayed bigint, OUT still_rejected bigint, OUT refused bigint, OUT loads bigint)
RETURNS record AS 'MODULE_PATHNAME', 'lakehouse_replay_rejects'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.replay_rejects(text, bigint[], bigint, bigint) IS
'reads the kept bytes of rejects of a source once more, as the source and its target are defined now, in the caller''s transaction and as the source''s owner. Takes the open rejects (lakehouse.reject_status), or those named by number (dropped ones too), or those of one load, at most max_records in the order of loads. What can be stored now becomes rows of a new load of the same file (messages of Kafka: one load for all of them; no broker is asked and no position moves), and its reject is resolved: never replayed again. What is still bad keeps its reject with the new reason. Returns rejects resolved, still bad, and refused with a warning (only the beginning of the record was kept, or, by a former version, a Kafka message without key, headers and timestamp), and loads made. Owner only. Errors: 22023, 40001 (another transaction resolved them), 42501, 42701, 42703, 42804 and 42P10 (the header of the file, or the parts of a message, do not fit the table), 42704 (no such source), 55000 (target gone)';

CREATE FUNCTION lakehouse.reingest_file(source text, path text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_reingest_file'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.reingest_file(text, text) IS
'makes a file that the source has seen wait as a new version, whatever its state; the next run loads it as a whole and takes back, in the same transaction, the rows and rejects of its earlier versions. If it cannot be read, they stay. A file that option clean_source moved or deleted must be put back to its path first (55000). Path as in file_status. Owner of the source only. Errors: 22004 (argument missing), 42501, 42704 (no such source or file), 42809 (a Kafka source)';

CREATE FUNCTION lakehouse.skip_file(source text, path text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_skip_file'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.skip_file(text, text) IS
'leaves a file alone until reingest_file, also if it changes; rows already loaded from it stay. A path that the source has not seen yet is skipped when it comes, with a notice now. Owner of the source only. Errors: 22004 (argument missing), 22023 (no path beneath the directory), 42501, 42704 (no such source), 42809 (a Kafka source)';

CREATE FUNCTION lakehouse.undo_file(source text, path text)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_undo_file'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.undo_file(text, text) IS
'deletes the rows and rejects of all versions of a file and returns the number of rows deleted; the file is not loaded again until reingest_file. The rows are deleted as the source''s owner by a plain DELETE: triggers fire, flows of mode aggregate recompute the groups concerned with their next run, and flows of other modes keep what they made of the rows. Owner of the source only. Errors: 22004 (argument missing), 42501 (also: the owner may not delete from the target), 42704 (no such source or file), 42809 (a Kafka source)';

CREATE PROCEDURE lakehouse.clean_source(source text)
LANGUAGE C AS 'MODULE_PATHNAME', 'lakehouse_clean_source';
COMMENT ON PROCEDURE lakehouse.clean_source(text) IS
'moves or deletes the loaded files of a source whose time has come, as its option "clean_source" says, and tries again what failed; a notice tells how many. Background workers do the same by themselves (docs/files.md). It commits before it touches a file, so it cannot be called within a transaction block or a function. Owner of the source only, who must be a superuser or a member of pg_write_server_files. Errors: 22004 (argument missing), 2D000 (transaction block), 42501, 42704 (no such source), 42809 (a Kafka source), 55000 (paused, other database, server or target gone), 58P01 (directory gone)';

CREATE FUNCTION lakehouse.verify_files(
    source text, OUT path text, OUT ok boolean, OUT detail text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_verify_files'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.verify_files(text) IS
'reads the loaded bytes of each file of a source once more and compares their hash with the one in the ledger: this finds a file that was rewritten with the same size and modification time, which a listing cannot see. ok is NULL for a file that cannot be opened, for example because it was removed. The hash (64 bits) finds accidents, not forgeries. Owner of the source only. Errors: 22004 (argument missing), 42501, 42704 (no such source), 42809 (a Kafka source), 55000 (server gone)';
