-- Running everything, and why a flow runs as it does.

CREATE FUNCTION lakehouse.run(
    OUT kind     text,
    OUT name     text,
    OUT status   text,
    OUT loads    bigint,
    OUT rows_in  bigint,
    OUT inserted bigint,
    OUT updated  bigint,
    OUT deleted  bigint,
    OUT rejected bigint,
    OUT error    text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_run'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 20;
COMMENT ON FUNCTION lakehouse.run() IS
'reads all that is present of every source, then runs every flow, inputs before those who read them, until nothing is pending; in this transaction, each as its owner, of what the caller has the owner''s rights of. One row for each source and flow: status is succeeded, failed (rolled back alone; error says why) or paused';

CREATE FUNCTION lakehouse.explain_flow(name text, OUT item text, OUT value text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_explain_flow'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION lakehouse.explain_flow(text) IS
'tells which technique a flow uses and why, what it reads as a stream and what whole, and what is pending. Errors: 42704 no such flow, 42501 not its owner';
