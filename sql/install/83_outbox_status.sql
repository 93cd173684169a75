-- The outbox. Each role sees what is sent in the name of roles whose rights it
-- has; members of pg_monitor see the counts of all, but no messages.

CREATE VIEW lakehouse.kafka_outbox WITH (security_barrier = true) AS
SELECT o.message_id,
       b.server,
       b.owner,
       o.topic,
       o."partition",
       o.key,
       o.value,
       o.headers,
       CASE WHEN o.sqlstate IS NOT NULL THEN 'refused'
            WHEN EXISTS (SELECT FROM lakehouse.outbox f JOIN lakehouse.outbox_batch g
                            ON g.batch_id OPERATOR(pg_catalog.=) f.batch_id
                          WHERE f.sqlstate IS NOT NULL AND f.key_hash OPERATOR(pg_catalog.=) o.key_hash
                            AND f.key OPERATOR(pg_catalog.=) o.key AND f.topic OPERATOR(pg_catalog.=) o.topic
                            AND g.server OPERATOR(pg_catalog.=) b.server AND g.owner OPERATOR(pg_catalog.=) b.owner)
            THEN 'held'
            ELSE 'waiting' END AS state,
       o.sqlstate,
       o.error,
       o.failed,
       b.committed,
       b.commit_order
  FROM lakehouse.outbox o
  JOIN lakehouse.outbox_batch b ON b.batch_id OPERATOR(pg_catalog.=) o.batch_id
 WHERE pg_catalog.pg_has_role(b.owner, 'USAGE');
COMMENT ON VIEW lakehouse.kafka_outbox IS 'one row for each committed message that the cluster has not acknowledged';
COMMENT ON COLUMN lakehouse.kafka_outbox.message_id IS 'number of the message, as kafka_produce returned it';
COMMENT ON COLUMN lakehouse.kafka_outbox.server IS 'server that it goes to';
COMMENT ON COLUMN lakehouse.kafka_outbox.owner IS 'role in whose name it is sent';
COMMENT ON COLUMN lakehouse.kafka_outbox.topic IS 'topic';
COMMENT ON COLUMN lakehouse.kafka_outbox."partition" IS 'partition; NULL = the key decides';
COMMENT ON COLUMN lakehouse.kafka_outbox.key IS 'key; NULL = none';
COMMENT ON COLUMN lakehouse.kafka_outbox.value IS 'value; NULL = a tombstone';
COMMENT ON COLUMN lakehouse.kafka_outbox.headers IS 'headers';
COMMENT ON COLUMN lakehouse.kafka_outbox.state IS 'waiting, refused (by the cluster, for good: kafka_retry or kafka_discard) or held (an earlier message of its key is refused)';
COMMENT ON COLUMN lakehouse.kafka_outbox.sqlstate IS 'SQLSTATE of why it was refused';
COMMENT ON COLUMN lakehouse.kafka_outbox.error IS 'why it was refused';
COMMENT ON COLUMN lakehouse.kafka_outbox.failed IS 'when it was refused';
COMMENT ON COLUMN lakehouse.kafka_outbox.committed IS 'when its transaction ended';
COMMENT ON COLUMN lakehouse.kafka_outbox.commit_order IS 'place of its transaction; messages of one key are sent in this order, then by number';

CREATE VIEW lakehouse.kafka_outbox_status WITH (security_barrier = true) AS
SELECT p.server,
       p.owner,
       p.topic,
       CASE WHEN COALESCE(s.failures, 0) OPERATOR(pg_catalog.>) 0 OR COALESCE(w.failures, 0) OPERATOR(pg_catalog.>) 0 THEN 'failing'
            WHEN COALESCE(m.foreign_messages, 0) OPERATOR(pg_catalog.>) 0 THEN 'blocked'
            WHEN COALESCE(m.waiting, 0) OPERATOR(pg_catalog.>) 0 THEN 'waiting'
            ELSE 'idle' END AS state,
       COALESCE(m.waiting, 0) AS waiting,
       COALESCE(m.refused, 0) AS refused,
       m.oldest,
       COALESCE(s.sent, 0) AS sent,
       s.last_sent,
       GREATEST(s.last_failure, w.last_failure) AS last_failure,
       GREATEST(COALESCE(s.failures, 0), COALESCE(w.failures, 0)) AS failures,
       COALESCE(w.sqlstate, s.sqlstate) AS sqlstate,
       COALESCE(w.error, s.error,
                CASE WHEN m.foreign_messages OPERATOR(pg_catalog.>) 0
                     THEN 'the database is a copy or was restored: run lakehouse.kafka_retry if its messages are to be sent from here' END) AS error,
       GREATEST(s.retry_at, w.retry_at) AS retry_at
  FROM (SELECT server, owner, topic FROM lakehouse.outbox_state WHERE topic OPERATOR(pg_catalog.<>) ''
        UNION
        SELECT b.server, b.owner, o.topic FROM lakehouse.outbox o
          JOIN lakehouse.outbox_batch b ON b.batch_id OPERATOR(pg_catalog.=) o.batch_id) p
  LEFT JOIN lakehouse.outbox_state s ON s.server OPERATOR(pg_catalog.=) p.server
        AND s.owner OPERATOR(pg_catalog.=) p.owner AND s.topic OPERATOR(pg_catalog.=) p.topic
  LEFT JOIN lakehouse.outbox_state w ON w.server OPERATOR(pg_catalog.=) p.server
        AND w.owner OPERATOR(pg_catalog.=) p.owner AND w.topic OPERATOR(pg_catalog.=) ''
        AND w.failures OPERATOR(pg_catalog.>) 0
  LEFT JOIN (SELECT b.server, b.owner, o.topic,
                    pg_catalog.count(*) FILTER (WHERE o.sqlstate IS NULL) AS waiting,
                    pg_catalog.count(o.sqlstate) AS refused,
                    pg_catalog.min(b.committed) FILTER (WHERE o.sqlstate IS NULL) AS oldest,
                    pg_catalog.count(*) FILTER (WHERE b.home OPERATOR(pg_catalog.<>) h.home) AS foreign_messages
               FROM lakehouse.outbox o
               JOIN lakehouse.outbox_batch b ON b.batch_id OPERATOR(pg_catalog.=) o.batch_id
              CROSS JOIN (SELECT pg_catalog.concat(i.system_identifier, '/', d.oid) AS home
                            FROM pg_catalog.pg_control_system() i, pg_catalog.pg_database d
                           WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) h
              GROUP BY b.server, b.owner, o.topic) m
         ON m.server OPERATOR(pg_catalog.=) p.server AND m.owner OPERATOR(pg_catalog.=) p.owner
        AND m.topic OPERATOR(pg_catalog.=) p.topic
 WHERE lakehouse._may_see(p.owner);
COMMENT ON VIEW lakehouse.kafka_outbox_status IS 'one row for each server, role and topic that messages were put into the outbox for: what waits and how sending fares';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.server IS 'server that messages go to';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.owner IS 'role in whose name they are sent';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.topic IS 'topic';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.state IS 'failing (is tried again at retry_at), blocked (see error), waiting or idle';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.waiting IS 'committed messages that the cluster has not acknowledged, held ones included';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.refused IS 'messages that the cluster refused for good: see kafka_outbox';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.oldest IS 'when the transaction of the oldest waiting message ended';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.sent IS 'messages that the cluster acknowledged';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.last_sent IS 'when it last acknowledged some';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.last_failure IS 'when sending to the topic or the server last failed';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.failures IS 'failures in a row; 0 = the last attempt succeeded';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.sqlstate IS 'SQLSTATE of the last failure while failures > 0: 08001 no broker, 28000 credentials or login, 42501 no privilege, 42704 no such topic or server';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.error IS 'its message, or why nothing is sent';
COMMENT ON COLUMN lakehouse.kafka_outbox_status.retry_at IS 'when a background worker tries again';
