-- What columns files have.

CREATE FUNCTION lakehouse.infer_schema(
    server text, path text, format text DEFAULT NULL, options jsonb DEFAULT '{}', hints text DEFAULT NULL,
    sample_rows bigint DEFAULT 100000, sample_files bigint DEFAULT 1000)
RETURNS TABLE (column_name text, type text, nullable boolean, rows_seen bigint, nulls bigint,
    example text, conflicts jsonb)
AS 'MODULE_PATHNAME', 'lakehouse_infer_schema'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.infer_schema(text, text, text, jsonb, text, bigint, bigint) IS
'reads a sample of the files that match a path beneath a landing directory and tells which columns and types they have, with the evidence: records read, how many of them had no value, the first value (100 bytes), and, where not all values look the same, how many look like which type. Options are those of create_source. Hints: "name type, name type", as PostgreSQL or Auto Loader name types; they override what was found and may add columns. The sample: the first files by path, each with an equal share of the rows. The formats text and binary have the same columns always; no file is read for them. Changes nothing. Needs USAGE of the server, whose owner must be able to read files. Errors: 22023 (argument or option), 42501 (privilege), 42704 (server or type), 54011 (more than max_columns fields)';
