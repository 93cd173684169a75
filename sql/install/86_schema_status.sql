-- What sources changed of their targets.

CREATE VIEW lakehouse.schema_event WITH (security_barrier) AS
SELECT e.change_id AS event_id, e.changed, s.name AS source,
       CASE WHEN c.oid IS NULL THEN NULL
            ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END AS target,
       e.change, e.column_name, e.column_type, f.path AS file
  FROM lakehouse.schema_change e
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) e.source_id
  LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) e.file_id
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) e.relation
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE pg_catalog.pg_has_role(s.owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW lakehouse.schema_event IS 'columns that sources added to their targets (schema_evolution_mode addNewColumns), of the sources that the current role owns, or of all for members of pg_monitor';
COMMENT ON COLUMN lakehouse.schema_event.event_id IS 'number of the event';
COMMENT ON COLUMN lakehouse.schema_event.changed IS 'when it was done, shortly before the commit';
COMMENT ON COLUMN lakehouse.schema_event.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.schema_event.target IS 'table that was changed; NULL if it was dropped';
COMMENT ON COLUMN lakehouse.schema_event.change IS 'what was done: column added';
COMMENT ON COLUMN lakehouse.schema_event.column_name IS 'the column';
COMMENT ON COLUMN lakehouse.schema_event.column_type IS 'the type it was given then';
COMMENT ON COLUMN lakehouse.schema_event.file IS 'file in which the field was found first';
