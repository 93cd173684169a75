-- Background workers, as shared memory knows them.

CREATE FUNCTION lakehouse.workers(
    OUT database name, OUT kind text, OUT object text, OUT task_key text, OUT run_id bigint,
    OUT pid integer, OUT state text, OUT note text, OUT since timestamptz)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_workers'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION lakehouse.workers() IS
'background workers of all databases: those that log in as a role whose rights the caller has, to members of pg_monitor all; no rows without shared_preload_libraries';

CREATE VIEW lakehouse.worker_status AS
SELECT database, kind, object, task_key, run_id, pid, state, note, since
  FROM lakehouse.workers();
COMMENT ON VIEW lakehouse.worker_status IS 'one row for each background worker; empty when lakehouse is not in shared_preload_libraries';
COMMENT ON COLUMN lakehouse.worker_status.database IS 'database that it works in';
COMMENT ON COLUMN lakehouse.worker_status.kind IS 'scheduler (one for each database), source, flow, outbox (sends messages to Kafka), clean-up or task';
COMMENT ON COLUMN lakehouse.worker_status.object IS 'source: its name; flow: owner of the flows it runs; outbox: server; clean-up: owner of the sources whose files it moves or deletes; task: name of the job';
COMMENT ON COLUMN lakehouse.worker_status.task_key IS 'key of the task';
COMMENT ON COLUMN lakehouse.worker_status.run_id IS 'run that the task belongs to';
COMMENT ON COLUMN lakehouse.worker_status.pid IS 'process, as in pg_stat_activity';
COMMENT ON COLUMN lakehouse.worker_status.state IS 'starting, idle, working or stopping';
COMMENT ON COLUMN lakehouse.worker_status.note IS 'scheduler: what waits for a free worker';
COMMENT ON COLUMN lakehouse.worker_status.since IS 'when that state began';
