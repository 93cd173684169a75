-- The job of the fitness pipeline, deployed to the current database:
--
--   psql -d dev  -f job.sql
--   psql -d prod -v schedule='*/5 * * * *' -f job.sql
--
-- It may be run again at any time, with the same result. Without a schedule
-- the job runs by hand: SELECT lakehouse.run_job('ingest-process-pipeline').

\set ON_ERROR_STOP on
BEGIN;

SELECT lakehouse.create_job('ingest-process-pipeline', replace => true, definition => '{
  "tasks": [
    {"task_key": "ingest-data", "run": true},
    {"task_key": "process-data-2014", "depends_on": ["ingest-data"],
     "sql": "CALL gold.refresh_yearly_summary(lakehouse.param(''year'')::integer)",
     "parameters": {"year": 2014}},
    {"task_key": "process-data-2015", "depends_on": ["ingest-data"],
     "sql": "CALL gold.refresh_yearly_summary(lakehouse.param(''year'')::integer)",
     "parameters": {"year": 2015}}
  ]}');

\if :{?schedule}
SELECT lakehouse.schedule_job('ingest-process-pipeline', :'schedule');
\endif

COMMIT;
