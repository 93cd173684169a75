-- Flows: definition.

CREATE FUNCTION lakehouse._in_loads_support(internal)
RETURNS internal AS 'MODULE_PATHNAME', 'lakehouse_in_loads_support'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION lakehouse._in_loads_support(internal) IS
'tells the planner about lakehouse._in_loads';

CREATE FUNCTION lakehouse._in_loads(load bigint, loads bigint[], rows double precision)
RETURNS boolean AS 'MODULE_PATHNAME', 'lakehouse_in_loads'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF COST 1
SUPPORT lakehouse._in_loads_support;
COMMENT ON FUNCTION lakehouse._in_loads(bigint, bigint[], double precision) IS
'condition that flow runs put on _load_id: is the load among the loads (ascending)? rows = how many rows that gives, -1 if not known';

CREATE FUNCTION lakehouse._stamp()
RETURNS trigger AS 'MODULE_PATHNAME', 'lakehouse_stamp' LANGUAGE C;
COMMENT ON FUNCTION lakehouse._stamp() IS
'trigger of managed tables: an updated row belongs to the load of the transaction that updates it';

CREATE FUNCTION lakehouse._keep_old_images()
RETURNS trigger AS 'MODULE_PATHNAME', 'lakehouse_keep_old_images' LANGUAGE C;
COMMENT ON FUNCTION lakehouse._keep_old_images() IS
'trigger of inputs of aggregate flows: keeps rows that are updated, deleted or truncated away until all flows have seen that';

CREATE FUNCTION lakehouse.create_flow(
    name           text,
    query          text,
    target         text    DEFAULT NULL,
    mode           text    DEFAULT NULL,
    keys           text[]  DEFAULT '{}',
    sequence_by    text[]  DEFAULT '{}',
    delete_when    text    DEFAULT NULL,
    except_columns text[]  DEFAULT '{}',
    static         text[]  DEFAULT '{}',
    streaming      text[]  DEFAULT '{}',
    trigger        text    DEFAULT 'auto',
    max_loads      integer DEFAULT 1000,
    replace        boolean DEFAULT false,
    server         text    DEFAULT NULL,
    topic          text    DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_create_flow'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.create_flow(text, text, text, text, text[], text[], text, text[], text[], text[], text, integer, boolean, text, text) IS
'creates a flow: a query or DML statement that is run on the new rows of its streaming inputs. mode: append (default), insert_only, upsert, scd1, aggregate, complete; a statement runs as it is. With a Kafka server and a topic the rows leave as messages whose value is the row as JSON and whose key is made of keys: mode kafka (each new row is a message) or upsert_kafka (for each key that new loads touch what the query gives now, or a tombstone). The target is created from the query''s columns if it is missing. Tables with loads stream and others are static, unless listed. replace changes a flow of that name and keeps its queue. Errors: 42710 exists, 0A000 a shape that new rows alone cannot give, 42P19 a cycle, 22023 arguments that do not fit';

CREATE FUNCTION lakehouse.alter_flow(
    name      text,
    trigger   text    DEFAULT NULL,
    max_loads integer DEFAULT NULL,
    new_name  text    DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_alter_flow'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.alter_flow(text, text, integer, text) IS
'changes what is given of a flow; its query is changed by create_flow with replace. Errors: 42704 no such flow, 42501 not its owner';

CREATE FUNCTION lakehouse.drop_flow(name text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_drop_flow'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.drop_flow(text) IS
'forgets a flow, its queue and its history; its target and the rows in it stay. Errors: 42704 no such flow, 42501 not its owner';

CREATE FUNCTION lakehouse.pause_flow(name text, reason text DEFAULT NULL)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_pause_flow'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.pause_flow(text, text) IS
'stops a flow from running until lakehouse.resume_flow; new loads go on waiting in its queue';

CREATE FUNCTION lakehouse.resume_flow(name text)
RETURNS void AS 'MODULE_PATHNAME', 'lakehouse_resume_flow'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION lakehouse.resume_flow(text) IS
'lets a paused flow run again, without waiting for its back-off';

CREATE FUNCTION lakehouse.run_flow(
    name          text,
    OUT loads     bigint,
    OUT rows_in   bigint,
    OUT inserted  bigint,
    OUT updated   bigint,
    OUT deleted   bigint,
    OUT rejected  bigint,
    OUT technique text)
RETURNS SETOF record AS 'MODULE_PATHNAME', 'lakehouse_run_flow'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION lakehouse.run_flow(text) IS
'runs a flow on all loads that are pending, in this transaction, as its owner; gives how many loads it consumed and how many rows they gave and changed. technique: direct (new rows only), recompute (touched groups) or complete. Errors: 42704 no such flow, 42501 not its owner, 55000 paused, or what the query raises';
