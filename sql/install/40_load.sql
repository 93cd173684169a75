CREATE FUNCTION lakehouse.current_load("table" regclass)
RETURNS bigint AS 'MODULE_PATHNAME', 'lakehouse_current_load'
LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.current_load(regclass) IS
'number of the load that this transaction writes into a managed table; the default of its column _load_id';
