-- OUT parameters and no RETURNS TABLE: the result is always exactly one row.
CREATE FUNCTION lakehouse.merge_scd1(
    target regclass, query text, keys text[], sequence_by text[],
    delete_when text DEFAULT NULL, except_columns text[] DEFAULT '{}',
    OUT rows_in bigint, OUT inserted bigint, OUT updated bigint,
    OUT deleted bigint, OUT unchanged bigint, OUT rejected bigint)
RETURNS record AS 'MODULE_PATHNAME', 'lakehouse_merge_scd1'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.merge_scd1(regclass, text, text[], text[], text, text[]) IS
'merges the rows of a SELECT into a table as slowly changing dimension type 1: for each key the change with the greatest sequence stays, whatever the order and the number of calls in which changes arrive. '
'query: the changes, columns matched to the target by name; keys: target columns that identify a row; sequence_by: columns of the query or expressions over them, compared left to right; delete_when: condition over the columns of the query, true deletes the row; except_columns: columns of the query that the target does not get. '
'At equal sequences an upsert beats a delete, then the greater row by value wins. Deleted keys are remembered in a side table in schema lakehouse_data. '
'Runs as the caller and locks out other writers of the target until the end of the transaction; readers go on. The target needs a unique index on the keys; for its owner it is created. '
'Returns rows read, inserted, updated, deleted, unchanged (older, equal, or beaten in the same call) and rejected. '
'Rows whose key or sequence is NULL become rejects when the target is managed by lakehouse (it carries _load_id), and raise 23502 when it is not. '
'Other errors: 22023 arguments, 42703 columns, 42804 types, 42883 types without order, 42501 privileges, 23505 duplicate keys in the target, 0A000 volatile expressions or a partition key outside the keys';
