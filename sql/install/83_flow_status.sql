-- What flows did and do. Each role sees the flows whose owner's rights it has;
-- members of pg_monitor see all.

CREATE VIEW lakehouse.flow_status WITH (security_barrier = true) AS
SELECT f.name,
       f.owner,
       f.target,
       f.mode,
       f.trigger,
       CASE WHEN f.paused IS NOT NULL THEN 'paused'
            WHEN s.failures OPERATOR(pg_catalog.>) 0 THEN 'failed'
            WHEN p.loads OPERATOR(pg_catalog.>) 0 THEN 'waiting'
            ELSE 'up to date' END AS state,
       f.paused AS reason,
       p.loads AS pending_loads,
       p.rows AS pending_rows,
       r.technique,
       r.loads AS last_loads,
       r.rows_in AS last_rows_in,
       r.inserted AS last_inserted,
       r.updated AS last_updated,
       r.deleted AS last_deleted,
       r.rejected AS last_rejected,
       r.started AS last_started,
       r.finished AS last_finished,
       s.last_success,
       s.last_failure,
       COALESCE(s.failures, 0) AS failures,
       s.sqlstate,
       s.error,
       s.retry_at,
       f.created,
       f.server,
       f.topic
  FROM lakehouse.flow f
  LEFT JOIN lakehouse.flow_state s ON s.flow_id OPERATOR(pg_catalog.=) f.flow_id
  CROSS JOIN LATERAL (
       SELECT pg_catalog.count(*) AS loads,
              CASE WHEN pg_catalog.bool_and(l.rows IS NOT NULL)
                   THEN pg_catalog.sum(l.rows)::pg_catalog.int8
                   WHEN pg_catalog.count(*) OPERATOR(pg_catalog.=) 0 THEN 0::pg_catalog.int8 END AS rows
         FROM lakehouse.pending q
         LEFT JOIN lakehouse.load l ON l.load_id OPERATOR(pg_catalog.=) q.load_id
        WHERE q.flow_id OPERATOR(pg_catalog.=) f.flow_id) p
  LEFT JOIN LATERAL (
       SELECT u.* FROM lakehouse.flow_run u
        WHERE u.flow_id OPERATOR(pg_catalog.=) f.flow_id
        ORDER BY u.run_id DESC LIMIT 1) r ON true
 WHERE lakehouse._may_see(f.owner);
COMMENT ON VIEW lakehouse.flow_status IS 'one row for each flow: what it waits for and how its last run ended';
COMMENT ON COLUMN lakehouse.flow_status.name IS 'name of the flow';
COMMENT ON COLUMN lakehouse.flow_status.owner IS 'role in whose name it runs';
COMMENT ON COLUMN lakehouse.flow_status.target IS 'table that it writes; lakehouse.outbox if its rows leave as messages';
COMMENT ON COLUMN lakehouse.flow_status.mode IS 'append, insert_only, upsert, scd1, aggregate, complete, kafka, upsert_kafka, or sql for a DML statement';
COMMENT ON COLUMN lakehouse.flow_status.trigger IS 'auto (follows its inputs), available_now or continuous';
COMMENT ON COLUMN lakehouse.flow_status.state IS 'paused, failed (is tried again at retry_at), waiting (loads are pending) or up to date';
COMMENT ON COLUMN lakehouse.flow_status.reason IS 'why it is paused';
COMMENT ON COLUMN lakehouse.flow_status.pending_loads IS 'loads of its streaming inputs that it has not consumed';
COMMENT ON COLUMN lakehouse.flow_status.pending_rows IS 'rows in those loads; null if a user''s transaction, which is not counted, is among them';
COMMENT ON COLUMN lakehouse.flow_status.technique IS 'of its last run: direct (new rows only), recompute (touched groups) or complete';
COMMENT ON COLUMN lakehouse.flow_status.last_loads IS 'loads that its last run consumed';
COMMENT ON COLUMN lakehouse.flow_status.last_rows_in IS 'rows that its query gave then';
COMMENT ON COLUMN lakehouse.flow_status.last_inserted IS 'rows inserted into the target then';
COMMENT ON COLUMN lakehouse.flow_status.last_updated IS 'rows updated then';
COMMENT ON COLUMN lakehouse.flow_status.last_deleted IS 'rows deleted then';
COMMENT ON COLUMN lakehouse.flow_status.last_rejected IS 'rows kept as rejects then';
COMMENT ON COLUMN lakehouse.flow_status.last_started IS 'when its last run began';
COMMENT ON COLUMN lakehouse.flow_status.last_finished IS 'when its last run ended';
COMMENT ON COLUMN lakehouse.flow_status.last_success IS 'when it was last brought up to date';
COMMENT ON COLUMN lakehouse.flow_status.last_failure IS 'when a run last failed';
COMMENT ON COLUMN lakehouse.flow_status.failures IS 'failed runs in a row; 0 = the last one succeeded';
COMMENT ON COLUMN lakehouse.flow_status.sqlstate IS 'SQLSTATE of the last failure while failures > 0';
COMMENT ON COLUMN lakehouse.flow_status.error IS 'its message';
COMMENT ON COLUMN lakehouse.flow_status.retry_at IS 'when a background worker tries again';
COMMENT ON COLUMN lakehouse.flow_status.created IS 'when the flow was created';
COMMENT ON COLUMN lakehouse.flow_status.server IS 'modes kafka and upsert_kafka: server that its messages go to';
COMMENT ON COLUMN lakehouse.flow_status.topic IS 'modes kafka and upsert_kafka: their topic';

CREATE VIEW lakehouse.flow_run_status WITH (security_barrier = true) AS
SELECT r.run_id,
       f.name,
       r.technique,
       r.loads,
       r.rows_in,
       r.inserted,
       r.updated,
       r.deleted,
       r.rejected,
       r.load_id,
       r.started,
       r.finished
  FROM lakehouse.flow_run r
  JOIN lakehouse.flow f ON f.flow_id OPERATOR(pg_catalog.=) r.flow_id
 WHERE lakehouse._may_see(f.owner);
COMMENT ON VIEW lakehouse.flow_run_status IS 'history: one row for each slice that a flow consumed';
COMMENT ON COLUMN lakehouse.flow_run_status.run_id IS 'number of the run, ascending in time';
COMMENT ON COLUMN lakehouse.flow_run_status.name IS 'name of the flow';
COMMENT ON COLUMN lakehouse.flow_run_status.technique IS 'direct (new rows only), recompute (touched groups) or complete';
COMMENT ON COLUMN lakehouse.flow_run_status.loads IS 'loads that it consumed';
COMMENT ON COLUMN lakehouse.flow_run_status.rows_in IS 'rows that the query gave';
COMMENT ON COLUMN lakehouse.flow_run_status.inserted IS 'rows inserted into the target';
COMMENT ON COLUMN lakehouse.flow_run_status.updated IS 'rows updated';
COMMENT ON COLUMN lakehouse.flow_run_status.deleted IS 'rows deleted';
COMMENT ON COLUMN lakehouse.flow_run_status.rejected IS 'rows kept as rejects';
COMMENT ON COLUMN lakehouse.flow_run_status.load_id IS 'load of the target that it wrote; null if nothing changed';
COMMENT ON COLUMN lakehouse.flow_run_status.started IS 'when it began';
COMMENT ON COLUMN lakehouse.flow_run_status.finished IS 'when it ended';
