-- The extension installs, leaves nothing behind when dropped, and installs again.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lakehouse;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lakehouse%' ORDER BY 1;
DROP EXTENSION lakehouse;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lakehouse%' ORDER BY 1;
CREATE EXTENSION lakehouse;
SELECT extversion FROM pg_extension WHERE extname = 'lakehouse';
