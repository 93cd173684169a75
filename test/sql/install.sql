-- The extension installs, leaves nothing behind when dropped, and installs again.
SET client_min_messages = warning;
CREATE DATABASE lakehouse_install;
\c lakehouse_install
CREATE EXTENSION lakehouse;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lakehouse%' ORDER BY 1;
DROP EXTENSION lakehouse;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lakehouse%' ORDER BY 1;
SELECT fdwname FROM pg_foreign_data_wrapper;
CREATE EXTENSION lakehouse;
SELECT extversion FROM pg_extension WHERE extname = 'lakehouse';
\c contrib_regression
DROP DATABASE lakehouse_install WITH (FORCE);
