-- Rescued data into columns.

CREATE FUNCTION lakehouse.promote_rescued(
    target regclass, column_name text, column_type text DEFAULT NULL, field text DEFAULT NULL,
    OUT promoted bigint, OUT remaining bigint, OUT reasons jsonb)
RETURNS record AS 'MODULE_PATHNAME', 'lakehouse_promote_rescued'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.promote_rescued(regclass, text, text, text) IS
'moves the rescued values of one field into a column of the table, by one UPDATE: adds the column if it is not there (column_type says of which type), converts as the ingestion would, with the options of the source that stored the row, and takes what converted out of the column for rescued data, which becomes NULL when nothing else was rescued. field: the name in the files, if it is not column_name. A value stays where it is if it does not convert, if the row has a value in the column already, or if a later value of its record counted (duplicate). Returns how many rows were promoted, how many were left, and why: SQLSTATEs, column_has_value, duplicate or null, each with its count. Rows keep their _load_id: flows do not read them again, a notice names those that read the table. Triggers and constraints of the table act as for any UPDATE; an error of theirs undoes the whole. Owner of the table only. Errors: 22004 and 22023 (arguments), 428C9 (generated column), 42501, 42701 and 42P10 (a column that is not for that), 42703 (no column for rescued data), 42704 (type), 42804 (the column is of another type), 42809 (no table, or a partition), 54011 (too many columns), 55P03 (others keep the table locked)';

CREATE FUNCTION lakehouse._rescued_converts(rescued jsonb, load bigint, value anyelement)
RETURNS boolean AS 'MODULE_PATHNAME', 'lakehouse_rescued_converts'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION lakehouse._rescued_converts(jsonb, bigint, anyelement) IS
'internal: is there a value that the running promote_rescued is to take? Error: 55000 outside of one';

CREATE FUNCTION lakehouse._rescued_value(rescued jsonb, load bigint, value anyelement)
RETURNS anyelement AS 'MODULE_PATHNAME', 'lakehouse_rescued_value'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION lakehouse._rescued_value(jsonb, bigint, anyelement) IS
'internal: that value, of the type of the column. Error: 55000 outside of promote_rescued';

CREATE FUNCTION lakehouse._rescued_rest(rescued jsonb)
RETURNS jsonb AS 'MODULE_PATHNAME', 'lakehouse_rescued_rest'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION lakehouse._rescued_rest(jsonb) IS
'internal: rescued data without that value; NULL when nothing else was rescued. Error: 55000 outside of promote_rescued';
