/* lakehouse: install script, joined from sql/install/ in name order */
\echo Use "CREATE EXTENSION lakehouse" to load this file. \quit

-- Plain CREATE, never OR REPLACE and never IF NOT EXISTS: an object that
-- somebody planted before us must stop the installation.
CREATE SCHEMA lakehouse;
COMMENT ON SCHEMA lakehouse IS 'sources, flows and jobs of the medallion pipeline';

-- Side tables of user tables (old images of changed rows, tombstones). They
-- hold user data, are made at run time and are no members of the extension, so
-- that pg_dump keeps them.
CREATE SCHEMA lakehouse_data;
COMMENT ON SCHEMA lakehouse_data IS 'side tables that lakehouse keeps beside the tables it maintains; not for direct use';
GRANT USAGE ON SCHEMA lakehouse_data TO PUBLIC;
