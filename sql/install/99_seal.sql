-- Everything closed, then the dump marks.

REVOKE ALL ON ALL TABLES IN SCHEMA lakehouse FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA lakehouse FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA lakehouse FROM PUBLIC;

-- The default of _load_id: whoever inserts into a managed table calls it. It
-- checks the caller's right to write that table.
GRANT EXECUTE ON FUNCTION lakehouse.current_load(regclass) TO PUBLIC;
-- A condition on numbers that runs with the rights of a flow's owner.
GRANT EXECUTE ON FUNCTION lakehouse._in_loads(bigint, bigint[], double precision) TO PUBLIC;
-- The condition of the status views, which is called as whoever reads them.
GRANT EXECUTE ON FUNCTION lakehouse._may_see(regrole) TO PUBLIC;
GRANT EXECUTE ON FUNCTION lakehouse._no_worker(integer) TO PUBLIC;
-- Trigger functions: of use only as triggers that owners put on their tables.
GRANT EXECUTE ON FUNCTION lakehouse._stamp() TO PUBLIC;
GRANT EXECUTE ON FUNCTION lakehouse._keep_old_images() TO PUBLIC;
-- Expressions of the UPDATE of promote_rescued, which runs as the table's owner.
GRANT EXECUTE ON FUNCTION lakehouse._rescued_converts(jsonb, bigint, anyelement) TO PUBLIC;
GRANT EXECUTE ON FUNCTION lakehouse._rescued_value(jsonb, bigint, anyelement) TO PUBLIC;
GRANT EXECUTE ON FUNCTION lakehouse._rescued_rest(jsonb) TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('lakehouse.source_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.source', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.source_state', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.file_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.file', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.file_range', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.file_clean', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.discovery', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.schema_change_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.schema_change', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.file_action_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.file_action', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.kafka_offset', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.kafka_share', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.kafka_loss_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.kafka_loss', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.reject_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.reject', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.load_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.load', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.rescued', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.managed_table', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.pending', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.merge_target', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.flow_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.flow', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.flow_input', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.flow_state', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.flow_run_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.flow_run', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.outbox_batch_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.outbox_commit_order_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.outbox_batch', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.outbox_message_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.outbox_state', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.job_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.job', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.job_run_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.job_run', '');
SELECT pg_catalog.pg_extension_config_dump('lakehouse.task_run', '');
