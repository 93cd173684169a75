CREATE FUNCTION lakehouse.from_json(document text, record_type anyelement, mode text DEFAULT 'permissive')
RETURNS anyelement AS 'MODULE_PATHNAME', 'lakehouse_from_json'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION lakehouse.from_json(text, anyelement, text) IS
'JSON text as a value of the type of record_type (usually NULL::some_type): the members of an object by name as columns, nested objects and arrays too; unknown members are ignored, missing ones NULL, of duplicates the last counts. mode permissive: text that is not JSON gives NULL, a field that does not convert is NULL (in a parallel query, errors of domains and of types without a conversion of our own are raised instead); mode failfast: such text raises 22P02, 22003, 22007, 22P05 or what the type''s input function raises';
