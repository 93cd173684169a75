/*
 * source_ddl.c
 *	  create_source, alter_source, drop_source, pause_source, resume_source,
 *	  run_source.
 *
 * Invariant: a definition is checked as far as it can be known before it is
 * stored, with the privileges of the role that will own it.  Positions (file
 * ledger, Kafka offsets) belong to the source and outlive every change of its
 * definition but its drop.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "bronze/clean.h"
#include "bronze/file_ingest.h"
#include "bronze/file_ledger.h"
#include "bronze/infer_schema.h"
#include "bronze/ingest.h"
#include "bronze/kafka_decode.h"
#include "catalog/catalog_access.h"
#include "catalog/options.h"
#include "compat.h"
#include "delta/load.h"
#include "source/kafka.h"
#include "source/reader.h"
#include "source/server.h"

static const char *const trigger_names[] = {"available_now", "continuous", NULL};
static const char *const format_names[] = {"binary", "csv", "json", "text", NULL};

/* A definition as given; fields that the caller left out are NULL. */
typedef struct Definition
{
	const char *name;
	Oid			owner;
	const char *server_name;
	Oid			server;
	bool		is_kafka;
	Oid			target;
	const char *format;
	const char *path;
	ArrayType  *topics;
	Jsonb	   *options;
	const char *trigger;
} Definition;

static void check_definition(Definition *definition);
static void check_server(Definition *definition, Oid server);
static Oid	create_target(Definition *definition, RangeVar *name, const char *target);
static void check_files_definition(Definition *definition, TupleDesc tupdesc);
static void check_files(Definition *definition);
static const char *format_of_path(const char *path);
static void check_kafka_definition(Definition *definition, TupleDesc tupdesc);
static int32 store_definition(const Definition *definition, int32 source_id);
static void prepare_kafka(int32 source_id, const char *old_options);
static void prepare_files(int32 source_id, const LhSource *old, Jsonb *options);

PG_FUNCTION_INFO_V1(lakehouse_create_source);
PG_FUNCTION_INFO_V1(lakehouse_alter_source);
PG_FUNCTION_INFO_V1(lakehouse_drop_source);
PG_FUNCTION_INFO_V1(lakehouse_pause_source);
PG_FUNCTION_INFO_V1(lakehouse_resume_source);
PG_FUNCTION_INFO_V1(lakehouse_run_source);

static char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static char *
required_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	char	   *text = text_argument(fcinfo, number);

	if (text == NULL || text[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must be given", name)));
	return text;
}

/*
 * find_source returns the definition of a source that the current user may
 * change or run, or NULL if it does not exist and need not.  Holds the source's
 * lock until the end of the transaction.
 */
static LhSource *
find_source(const char *name, bool missing_ok)
{
	static const Oid types[] = {TEXTOID};
	Datum		value = CStringGetTextDatum(name);
	LhCatalog	catalog;
	LhSource   *source;
	bool		found;

	lh_catalog_begin(&catalog);
	found = lh_catalog_run("SELECT 1 FROM lakehouse.source WHERE name OPERATOR(pg_catalog.=) $1",
						   1, types, &value, NULL) > 0;
	lh_catalog_end(&catalog);
	if (!found && missing_ok)
		return NULL;
	source = lh_source_find(name);
	lh_catalog_check_owner(source->owner, "source", name);
	(void) lh_catalog_lock(LH_LOCK_SOURCE, source->source_id, true);
	return source;
}

/*
 * lakehouse.create_source(name, server, target, format, path, topics, options,
 * trigger, replace)
 */
Datum
lakehouse_create_source(PG_FUNCTION_ARGS)
{
	Definition	definition = {.owner = GetUserId()};
	char	   *target = required_text(fcinfo, 2, "target");
	bool		replace = !PG_ARGISNULL(8) && PG_GETARG_BOOL(8);
	RangeVar   *target_name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(target)));
	LhSource   *old;
	LhIdentity	identity;
	int32		source_id;

	definition.name = required_text(fcinfo, 0, "name");
	definition.server_name = required_text(fcinfo, 1, "server");
	definition.format = text_argument(fcinfo, 3);
	definition.path = text_argument(fcinfo, 4);
	definition.topics = PG_ARGISNULL(5) ? NULL : PG_GETARG_ARRAYTYPE_P(5);
	definition.options = PG_ARGISNULL(6)
		? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")))
		: PG_GETARG_JSONB_P(6);
	definition.trigger = PG_ARGISNULL(7) ? "available_now" : text_argument(fcinfo, 7);

	old = find_source(definition.name, true);
	if (old != NULL && !replace)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" already exists", definition.name),
				 errhint("Use replace => true to change its definition and keep its positions.")));
	if (old != NULL)
		definition.owner = old->owner;
	definition.target = RangeVarGetRelid(target_name, AccessShareLock, true);
	if (!OidIsValid(definition.target))
		definition.target = create_target(&definition, target_name, target);
	lh_identity_role(&identity, definition.owner, "pg_catalog, pg_temp");
	check_definition(&definition);
	if (old != NULL && old->is_kafka != definition.is_kafka)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot replace source \"%s\" by one of another kind", definition.name),
				 errhint("Drop the source first; its positions go with it.")));
	lh_managed_ensure(definition.target, false);
	lh_identity_restore(&identity);
	source_id = store_definition(&definition, old ? old->source_id : 0);
	if (definition.is_kafka)
		prepare_kafka(source_id, old == NULL ? NULL : old->options);
	else
		prepare_files(source_id, old, definition.options);
	PG_RETURN_VOID();
}

/*
 * check_server raises unless there is the server, and the current user may use
 * it.
 */
static void
check_server(Definition *definition, Oid server)
{
	definition->server = server;
	if (!OidIsValid(server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", definition->server_name),
				 errhint("Create it with CREATE SERVER ... FOREIGN DATA WRAPPER lakehouse_files or lakehouse_kafka.")));
	definition->is_kafka = lh_server_is_kafka(server);
	lh_server_check_usage(server);
}

/*
 * create_target makes the table that a source of files is to fill, with the
 * columns that the files have, and returns it.
 */
static Oid
create_target(Definition *definition, RangeVar *name, const char *target)
{
	Oid			server = get_foreign_server_oid(definition->server_name, true);
	char	   *schema;
	LhIdentity	identity;
	Oid			result;

	if (OidIsValid(server) && (lh_server_is_kafka(server) || definition->path == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("target table \"%s\" does not exist", target),
				 errhint("Create the table with the columns to be filled, then the source.")));
	check_server(definition, server);
	check_files(definition);
	schema = get_namespace_name(RangeVarGetCreationNamespace(name));
	lh_identity_role(&identity, definition->owner, "pg_catalog, pg_temp");
	result = lh_schema_create_table(schema, name->relname, definition->server, definition->path,
									definition->format, definition->options);
	lh_identity_restore(&identity);
	return result;
}

/*
 * check_definition raises for what cannot be a source of its owner, and fills
 * what was left out.
 */
static void
check_definition(Definition *definition)
{
	Relation	relation;

	if (strlen(definition->name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name of source is too long"),
				 errdetail("The name has %zu bytes; the limit is %d.", strlen(definition->name), NAMEDATALEN - 1)));
	check_server(definition, get_foreign_server_oid(definition->server_name, true));
	if (strcmp(definition->trigger, trigger_names[0]) != 0 &&
		strcmp(definition->trigger, trigger_names[1]) != 0)
		lh_options_refuse(definition->trigger, trigger_names, "trigger");

	relation = table_open(definition->target, AccessShareLock);
	if (relation->rd_rel->relkind != RELKIND_RELATION &&
		relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(relation)),
				 errdetail("A source writes into a table or a partitioned table.")));
	if (definition->is_kafka)
		check_kafka_definition(definition, RelationGetDescr(relation));
	else
		check_files_definition(definition, RelationGetDescr(relation));
	table_close(relation, NoLock);
}

/*
 * format_of_path guesses the format by the end of the pattern.
 */
static const char *
format_of_path(const char *path)
{
	static const char *const ends[][2] = {
		{".csv", "csv"}, {".json", "json"}, {".jsonl", "json"}, {".ndjson", "json"}
	};
	static const char *const compressed[] = {".gz", ".zst", ".lz4", ".bz2"};
	size_t		path_length = strlen(path);

	for (int i = 0; i < lengthof(compressed); i++)
		if (path_length > strlen(compressed[i]) &&
			strcmp(path + path_length - strlen(compressed[i]), compressed[i]) == 0)
		{
			path_length -= strlen(compressed[i]);
			break;
		}

	for (int i = 0; i < lengthof(ends); i++)
	{
		size_t		length = strlen(ends[i][0]);

		if (path_length >= length && strncmp(path + path_length - length, ends[i][0], length) == 0)
			return ends[i][1];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("format of path \"%s\" is not known", path),
			 errhint("Give the format: \"csv\", \"json\", \"text\" or \"binary\".")));
}

static void
check_files_definition(Definition *definition, TupleDesc tupdesc)
{
	check_files(definition);
	lh_file_source_validate(definition->format, definition->path, definition->options, tupdesc);
	lh_clean_options_check(definition->server, definition->path, definition->options);
}

/*
 * check_files raises for what no source of files can have, whatever its target.
 */
static void
check_files(Definition *definition)
{
	if (definition->topics != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" cannot have topics", definition->name),
				 errdetail("Server \"%s\" is a landing directory.", definition->server_name),
				 errhint("Give a path.")));
	if (definition->path == NULL || definition->path[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" needs a path", definition->name),
				 errhint("A path is a pattern beneath the server's directory, for example \"orders/*.csv\".")));
	lh_file_pattern_check(definition->path);
	if (definition->format == NULL)
		definition->format = format_of_path(definition->path);
	if (lh_reader_find(definition->format) == NULL)
		lh_options_refuse(definition->format, format_names, "format");
	if (definition->options != NULL)
		definition->options = lh_file_options_canonical(definition->options);
	/* raises where the directory may not be used */
	(void) lh_server_directory(definition->server);
}

/*
 * lh_file_source_check raises for what cannot be the server, path and format of
 * a source of files, as the current user; fills the format and returns the
 * server.
 */
Oid
lh_file_source_check(const char *server_name, const char *path, char **format)
{
	Definition	definition = {.name = path, .server_name = server_name, .path = path,
	.format = *format};

	check_server(&definition, get_foreign_server_oid(server_name, true));
	if (definition.is_kafka)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is a Kafka cluster", server_name),
				 errhint("Name a server of foreign-data wrapper lakehouse_files.")));
	check_files(&definition);
	*format = unconstify(char *, definition.format);
	return definition.server;
}

static char **
topic_names(ArrayType *topics)
{
	Datum	   *elements;
	char	  **names;
	int			count;

	if (topics == NULL)
		return NULL;
	deconstruct_array(topics, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	names = palloc0(sizeof(char *) * (count + 1));
	for (int i = 0; i < count; i++)
		names[i] = TextDatumGetCString(elements[i]);
	return names;
}

static void
check_kafka_definition(Definition *definition, TupleDesc tupdesc)
{
	LhFileSchema *schema;
	LhSchemaRegistry *registry;

	if (definition->path != NULL || definition->format != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" cannot have a path or a format", definition->name),
				 errdetail("Server \"%s\" is a Kafka cluster.", definition->server_name),
				 errhint("Give topics, or one of the options \"topic_pattern\" and \"partitions\".")));
	/* an empty list takes the place of topics that were named */
	if (definition->topics != NULL &&
		ArrayGetNItems(ARR_NDIM(definition->topics), ARR_DIMS(definition->topics)) == 0)
		definition->topics = NULL;
	if (definition->topics != NULL && array_contains_nulls(definition->topics))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("topics must not be null")));
	definition->options = lh_kafka_source_validate(topic_names(definition->topics), definition->options,
												   strcmp(definition->trigger, "continuous") == 0);
	registry = lh_kafka_decode_registry(definition->options, definition->server, definition->owner);
	(void) lh_kafka_decode_open(definition->options, registry, tupdesc, NULL, &schema);
}

/*
 * forget_failures lets what failed be tried again at once; the caller holds the
 * catalog bracket.
 */
static void
forget_failures(int32 source_id)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(source_id);

	lh_catalog_run("UPDATE lakehouse.source_state SET failures = 0, sqlstate = NULL, error = NULL, retry_at = NULL,"
				   "   clean_failures = 0, clean_sqlstate = NULL, clean_error = NULL, clean_retry_at = NULL"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL);
	lh_catalog_run("UPDATE lakehouse.file SET retry_at = NULL, attempts = 0"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'failed'",
				   1, types, &value, NULL);
	lh_catalog_run("UPDATE lakehouse.schema_change SET pending = false"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND pending", 1, types, &value, NULL);
}

/*
 * store_definition inserts the source, or updates the one with the given id
 * (0 = none), and returns its id.
 */
static int32
store_definition(const Definition *definition, int32 source_id)
{
	static const Oid types[] = {TEXTOID, OIDOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, TEXTOID,
		TEXTARRAYOID, JSONBOID, TEXTOID, TEXTOID, INT4OID};
	Datum		values[12];
	char		nulls[13] = "            ";
	LhCatalog	catalog;

	values[0] = CStringGetTextDatum(definition->name);
	values[1] = ObjectIdGetDatum(definition->owner);
	values[2] = CStringGetTextDatum(definition->server_name);
	values[3] = CStringGetTextDatum(definition->is_kafka ? "kafka" : "files");
	values[4] = ObjectIdGetDatum(definition->target);
	values[5] = definition->format ? CStringGetTextDatum(definition->format) : (Datum) 0;
	nulls[5] = definition->format ? ' ' : 'n';
	values[6] = definition->path ? CStringGetTextDatum(definition->path) : (Datum) 0;
	nulls[6] = definition->path ? ' ' : 'n';
	values[7] = PointerGetDatum(definition->topics);
	nulls[7] = definition->topics ? ' ' : 'n';
	values[8] = JsonbPGetDatum(definition->options);
	values[9] = CStringGetTextDatum(definition->trigger);
	values[10] = CStringGetTextDatum(lh_catalog_home());
	values[11] = Int32GetDatum(source_id);

	lh_catalog_begin(&catalog);
	if (source_id == 0)
	{
		lh_catalog_run("INSERT INTO lakehouse.source (name, owner, server, kind, target, format, path, topics,"
					   "  options, trigger, home)"
					   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING source_id",
					   11, types, values, nulls);
		source_id = (int32) lh_catalog_int64(0, 1, 0);
	}
	else
	{
		lh_catalog_run("UPDATE lakehouse.source SET name = $1, owner = $2, server = $3, target = $5,"
					   "  format = $6, path = $7, topics = $8, options = $9, trigger = $10"
					   " WHERE source_id OPERATOR(pg_catalog.=) $12 AND kind OPERATOR(pg_catalog.=) $4"
					   "   AND $11 IS NOT NULL",
					   12, types, values, nulls);
		forget_failures(source_id);
	}
	lh_catalog_end(&catalog);
	if (!definition->is_kafka)
		lh_clean_redefine(source_id, definition->options);
	return source_id;
}

/*
 * prepare_kafka resolves where the partitions of a source start.
 */
static void
prepare_kafka(int32 source_id, const char *old_options)
{
	LhSource   *source = lh_source_get(source_id);
	LhIdentity	identity;

	lh_identity_role(&identity, source->owner, "pg_catalog, pg_temp");
	lh_kafka_source_prepare(source, old_options);
	lh_identity_restore(&identity);
}

/*
 * prepare_files does what an option says about the files that are there: of a
 * new source those that are not to be loaded are set aside; of one that was
 * there those that wait change their order.
 */
static void
prepare_files(int32 source_id, const LhSource *old, Jsonb *options)
{
	LhSource   *source = lh_source_get(source_id);
	LhFileOptions before;
	LhFileOptions after;
	LhIdentity	identity;

	lh_identity_role(&identity, source->owner, "pg_catalog, pg_temp");
	lh_file_options_parse(options, source->path, false, &after);
	if (old == NULL && !after.include_existing)
		lh_file_skip_existing(source, options);
	lh_identity_restore(&identity);
	if (old == NULL)
		return;
	lh_file_options_parse(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(old->options))),
						  old->path, false, &before);
	if (before.by_name != after.by_name)
		lh_ledger_set_order(source_id, after.by_name);
	if (after.by_content && !before.by_content)
		ereport(NOTICE,
				(errmsg("files that source \"%s\" has loaded before stay known by their path alone", source->name),
				 errdetail("Option \"identity\" = \"content\" counts for files that are loaded from now on.")));
	if (before.include_existing != after.include_existing)
		ereport(NOTICE,
				(errmsg("option \"include_existing\" counts only when a source is created"),
				 errdetail("What source \"%s\" has loaded or set aside stays as it is.", source->name),
				 errhint("Use lakehouse.reingest_file for files that were set aside and are to be loaded, lakehouse.skip_file for those that are not to be.")));
}

/*
 * set_owner checks that the current user may give the source to the role, and
 * that the role may use it.
 */
static void
set_owner(Definition *definition, const char *role)
{
	Oid			owner = get_role_oid(role, false);
	LhIdentity	identity;
	AclResult	allowed;

	lh_compat_check_can_become(GetUserId(), owner);
	allowed = pg_class_aclcheck(definition->target, owner, ACL_INSERT);
	if (allowed != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot own source \"%s\"", role, definition->name),
				 errdetail("It may not insert into table \"%s\".", get_rel_name(definition->target)),
				 errhint("Grant INSERT on the table to the role.")));
	lh_identity_role(&identity, owner, "pg_catalog, pg_temp");
	lh_server_check_usage(definition->server);
	lh_identity_restore(&identity);
	definition->owner = owner;
}

static ArrayType *
topics_array(char *const *names)
{
	Datum	   *topics;
	int			count = 0;

	while (names[count] != NULL)
		count++;
	topics = palloc(sizeof(Datum) * Max(count, 1));
	for (int i = 0; i < count; i++)
		topics[i] = CStringGetTextDatum(names[i]);
	return construct_array(topics, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * lakehouse.alter_source(name, trigger, options, path, topics, owner, new_name)
 */
Datum
lakehouse_alter_source(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	LhSource   *source = find_source(name, false);
	Definition	definition = {.name = source->name, .owner = source->owner,
		.target = source->target, .format = source->format, .path = source->path,
	.trigger = trigger_names[source->continuous ? 1 : 0]};
	char	   *owner = text_argument(fcinfo, 5);
	LhIdentity	identity;

	if (!OidIsValid(source->server) || get_rel_name(source->target) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot alter source \"%s\"", name),
				 errdetail_internal("%s", lh_source_obstacle(source)),
				 errhint("Define it anew with lakehouse.create_source(..., replace => true).")));
	definition.server_name = GetForeignServer(source->server)->servername;
	definition.server = source->server;
	if (!PG_ARGISNULL(1))
		definition.trigger = text_argument(fcinfo, 1);
	definition.options = PG_ARGISNULL(2)
		? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)))
		: PG_GETARG_JSONB_P(2);
	if (!PG_ARGISNULL(3))
		definition.path = text_argument(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		definition.topics = PG_GETARG_ARRAYTYPE_P(4);
	else if (source->topics != NULL)
		definition.topics = topics_array(source->topics);
	if (!PG_ARGISNULL(6))
	{
		definition.name = required_text(fcinfo, 6, "new_name");
		if (strcmp(definition.name, name) != 0 && find_source(definition.name, true) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("source \"%s\" already exists", definition.name)));
	}
	if (owner != NULL)
		set_owner(&definition, owner);
	lh_identity_role(&identity, definition.owner, "pg_catalog, pg_temp");
	check_definition(&definition);
	lh_identity_restore(&identity);
	(void) store_definition(&definition, source->source_id);
	if (definition.is_kafka && (!PG_ARGISNULL(2) || !PG_ARGISNULL(4)))
		prepare_kafka(source->source_id, source->options);
	if (!definition.is_kafka)
		prepare_files(source->source_id, source, definition.options);
	PG_RETURN_VOID();
}

#define DELETE_FROM(table) \
	"DELETE FROM lakehouse." table " WHERE source_id OPERATOR(pg_catalog.=) $1"

/*
 * lakehouse.drop_source(name, if_exists).  Loads and rejects stay: they tell
 * where the rows of the target came from.
 */
Datum
lakehouse_drop_source(PG_FUNCTION_ARGS)
{
	static const char *const deletes[] = {
		DELETE_FROM("source"),
		DELETE_FROM("source_state"),
		DELETE_FROM("file"),
		DELETE_FROM("file_action"),
		DELETE_FROM("file_range"),
		DELETE_FROM("file_clean"),
		DELETE_FROM("discovery"),
		DELETE_FROM("schema_change"),
		DELETE_FROM("kafka_offset"),
		DELETE_FROM("kafka_share"),
		DELETE_FROM("kafka_loss")
	};
	static const Oid types[] = {INT4OID};
	char	   *name = required_text(fcinfo, 0, "name");
	LhSource   *source = find_source(name, !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	LhCatalog	catalog;
	Datum		value;

	if (source == NULL)
	{
		ereport(NOTICE,
				(errmsg("source \"%s\" does not exist, skipping", name)));
		PG_RETURN_VOID();
	}
	if (!source->is_kafka && OidIsValid(source->server))
		lh_clean_abandon(source);
	value = Int32GetDatum(source->source_id);
	lh_catalog_begin(&catalog);
	for (int i = 0; i < lengthof(deletes); i++)
		lh_catalog_run(deletes[i], 1, types, &value, NULL);
	lh_catalog_end(&catalog);
	PG_RETURN_VOID();
}

/*
 * lakehouse.pause_source(name, reason)
 */
Datum
lakehouse_pause_source(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	LhSource   *source = find_source(required_text(fcinfo, 0, "name"), false);
	char	   *reason = text_argument(fcinfo, 1);
	Datum		values[2];
	LhCatalog	catalog;

	if (reason == NULL || reason[0] == '\0')
		reason = psprintf("paused by role %s", GetUserNameFromId(GetUserId(), false));
	values[0] = Int32GetDatum(source->source_id);
	values[1] = CStringGetTextDatum(reason);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.source SET paused = $2 WHERE source_id OPERATOR(pg_catalog.=) $1",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
	PG_RETURN_VOID();
}

/*
 * lakehouse.resume_source(name) lets the source run again, from now on in this
 * database.
 */
Datum
lakehouse_resume_source(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	LhSource   *source = find_source(required_text(fcinfo, 0, "name"), false);
	Datum		values[2];
	LhCatalog	catalog;

	values[0] = Int32GetDatum(source->source_id);
	values[1] = CStringGetTextDatum(lh_catalog_home());
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.source SET paused = NULL, home = $2"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1", 2, types, values, NULL);
	forget_failures(source->source_id);
	lh_catalog_end(&catalog);
	PG_RETURN_VOID();
}

/*
 * lakehouse.run_source(name) reads all that is there, in the caller's
 * transaction.
 */
Datum
lakehouse_run_source(PG_FUNCTION_ARGS)
{
	LhSource   *source = lh_source_find(required_text(fcinfo, 0, "name"));
	LhIngestCounts counts = {0};
	TupleDesc	tupdesc;
	Datum		values[6];
	bool		nulls[6] = {false};

	lh_catalog_check_owner(source->owner, "source", source->name);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "run_source must return a record");
	lh_ingest_run(source, &counts);
	values[0] = Int64GetDatum(counts.files);
	values[1] = Int64GetDatum(counts.loads);
	values[2] = Int64GetDatum(counts.rows);
	values[3] = Int64GetDatum(counts.rejected);
	values[4] = Int64GetDatum(counts.bytes);
	values[5] = Int64GetDatum(counts.failed_files);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
