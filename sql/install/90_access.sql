CREATE FUNCTION lakehouse.grant_use(role regrole)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_grant_use'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION lakehouse.grant_use(regrole) IS
'lets a role use the extension: the schema, the status views and the public functions; superuser only (42501). What the role may read and write stays decided by its own privileges on tables and servers. To be repeated after an update of the extension that brings new functions';
