-- What sources changed of their targets.

CREATE VIEW lakehouse.schema_event WITH (security_barrier) AS
SELECT e.change_id AS event_id, e.changed, s.name AS source,
       CASE WHEN c.oid IS NULL THEN NULL
            ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END AS target,
       e.change, e.column_name, e.column_type, f.path AS file, e.old_type, e.reason,
       e.pending AND a.attname IS NOT NULL AS pending
  FROM lakehouse.schema_change e
  JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) e.source_id
  LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) e.file_id
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) e.relation
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
   AND a.attname OPERATOR(pg_catalog.=) e.column_name::pg_catalog.name
   AND pg_catalog.format_type(a.atttypid, NULL) OPERATOR(pg_catalog.=) e.old_type
 WHERE lakehouse._may_see(s.owner);
COMMENT ON VIEW lakehouse.schema_event IS 'columns that sources added to their targets, widened, or could not widen (schema_evolution_mode addNewColumns and addNewColumnsWithTypeWidening), of the sources that the current role owns, or of all for members of pg_monitor';
COMMENT ON COLUMN lakehouse.schema_event.event_id IS 'number of the event';
COMMENT ON COLUMN lakehouse.schema_event.changed IS 'when it was done, shortly before the commit';
COMMENT ON COLUMN lakehouse.schema_event.source IS 'name of the source';
COMMENT ON COLUMN lakehouse.schema_event.target IS 'table that was changed; NULL if it was dropped';
COMMENT ON COLUMN lakehouse.schema_event.change IS 'what was done: column added, column widened, or widening pending: values need a wider type, and a person must see to that; until then they are rescued';
COMMENT ON COLUMN lakehouse.schema_event.column_name IS 'the column';
COMMENT ON COLUMN lakehouse.schema_event.column_type IS 'the type it was given then, or would need';
COMMENT ON COLUMN lakehouse.schema_event.file IS 'file in which the field or the value was found first';
COMMENT ON COLUMN lakehouse.schema_event.old_type IS 'the type it had; NULL if it was added';
COMMENT ON COLUMN lakehouse.schema_event.reason IS 'why it was not widened, with a SQLSTATE';
COMMENT ON COLUMN lakehouse.schema_event.pending IS 'whether it still is as it was: ends when somebody changes the type, or lets the source try again with alter_source or resume_source';

CREATE VIEW lakehouse.rescued_status WITH (security_barrier) AS
SELECT r.load_id, l.finished, s.name AS source,
       CASE WHEN c.oid IS NULL THEN NULL
            ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END AS target,
       f.path AS file, r.column_name, r.reason, r.count, l.undone
  FROM lakehouse.rescued r
  JOIN lakehouse.load l ON l.load_id OPERATOR(pg_catalog.=) r.load_id
  LEFT JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) l.source_id
  LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) l.file_id
  LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE lakehouse._may_see(COALESCE(s.owner, l.role));
COMMENT ON VIEW lakehouse.rescued_status IS 'what each load put into the column for rescued data, by field and reason; of the sources that the current role owns and the loads that it made, or of all for members of pg_monitor. Kept as long as lakehouse.load_status';
COMMENT ON COLUMN lakehouse.rescued_status.load_id IS 'the load, as in load_status';
COMMENT ON COLUMN lakehouse.rescued_status.finished IS 'when it was written, shortly before its commit';
COMMENT ON COLUMN lakehouse.rescued_status.source IS 'source that made it; NULL if dropped';
COMMENT ON COLUMN lakehouse.rescued_status.target IS 'table that received the rows; NULL if it was dropped';
COMMENT ON COLUMN lakehouse.rescued_status.file IS 'file that it read; NULL for Kafka';
COMMENT ON COLUMN lakehouse.rescued_status.column_name IS 'name of the field, its first 63 bytes; NULL for all fields together beyond the first 200 of a load';
COMMENT ON COLUMN lakehouse.rescued_status.reason IS 'unknown_column, type_mismatch, duplicate or case_mismatch';
COMMENT ON COLUMN lakehouse.rescued_status.count IS 'values of the field that went into the column for rescued data, when the rows were stored';
COMMENT ON COLUMN lakehouse.rescued_status.undone IS 'when the rows of the load were taken back; NULL otherwise';
