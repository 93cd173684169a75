-- Who sees what in the status views. A condition of one expression, so that the
-- planner puts it where it is called.

CREATE FUNCTION lakehouse._may_see(owner regrole)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.pg_has_role(owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON FUNCTION lakehouse._may_see(regrole) IS
'does the current role see what this role owns in the status views: it has the rights of that role, or is a member of pg_monitor';
