/*
 * promote.c
 *	  lakehouse.promote_rescued: values of the column for rescued data become those
 *	  of a column.
 *
 * Invariant: one UPDATE moves them, so a value is in one of the two columns, never
 * in both and never in none.  Rows keep their _load_id: nothing arrives, so the
 * ledger, verify() and undo_file hold as before, and flows do not read the rows
 * again.
 *
 * The expressions of the UPDATE are functions of ours that find what they need in
 * "active".  Whoever else calls them gets an error.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "bronze/evolve.h"
#include "bronze/file_schema.h"
#include "bronze/ingest.h"
#include "bronze/rescued_key.h"
#include "catalog/catalog_access.h"
#include "compat.h"
#include "convert/convert.h"
#include "convert/guess.h"
#include "delta/capture.h"
#include "delta/load.h"
#include "fault.h"
#include "json/json_row.h"

/* code of the owner (triggers, defaults, checks) runs under this path */
#define OWNER_PATH "pg_catalog, pg_temp"

#define MAX_REASONS 32
#define FLOWS_SHOWN 10

/* How values are read that one source stored. */
typedef struct Rule
{
	int32		source_id;		/* 0 = none, or one that is gone */
	bool		text;			/* a string is a text of a file, and no JSON */
	LhConvertOptions options;
	LhConverter converter;
	LhJsonValue *json;
} Rule;

typedef struct Reason
{
	char		name[20];
	int64		count;
} Reason;

typedef struct Promotion
{
	MemoryContext context;		/* of what outlives a row */
	Oid			relation;
	const char *table;			/* quoted */
	const char *rescued;		/* name of the column for rescued data */
	const char *field;			/* name in the files */
	const char *key;			/* under which it is kept */
	FormData_pg_attribute column;
	List	   *rules;
	Rule	   *only;			/* that of all rows, or NULL */
	int64		load;			/* of the last row, with its rule */
	Rule	   *load_rule;
	LhFieldSink guard;			/* makes errors of JSON values soft */
	Reason		reasons[MAX_REASONS];
	int			reason_count;
	int64		promoted;
	int64		remaining;
} Promotion;

static Promotion *active = NULL;

PG_FUNCTION_INFO_V1(lakehouse_promote_rescued);
PG_FUNCTION_INFO_V1(lakehouse_rescued_converts);
PG_FUNCTION_INFO_V1(lakehouse_rescued_value);
PG_FUNCTION_INFO_V1(lakehouse_rescued_rest);

/* ------------------------------------------------------------- the table */

static char *
required_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/*
 * check_table raises unless values of the table's rows can be promoted by the
 * current user.
 */
static void
check_table(Oid relation)
{
	char	   *name = get_rel_name(relation);
	char		kind = get_rel_relkind(relation);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) || get_rel_relispartition(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot promote rescued data of \"%s\"", name),
				 get_rel_relispartition(relation) ?
				 errhint("It is a partition: name the partitioned table.") :
				 errhint("Name the table that the rows are stored in.")));
	if (!lh_compat_table_ownercheck(relation, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", name),
				 errhint("Ask role \"%s\", which owns it.",
						 GetUserNameFromId(lh_relation_owner(relation), false))));
}

/*
 * is_rescued_column tells whether a column can hold rescued data.
 */
static bool
is_rescued_column(Oid relation, const char *name)
{
	AttrNumber	number = get_attnum(relation, name);

	return number > 0 && get_atttype(relation, number) == JSONBOID &&
		get_attgenerated(relation, number) == '\0';
}

/*
 * find_rescued gives the name of the column for rescued data: the usual one, or
 * that of a source.
 */
static const char *
find_rescued(Oid relation)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(relation);
	MemoryContext context = CurrentMemoryContext;
	const char *found = is_rescued_column(relation, LH_RESCUED_COLUMN) ? LH_RESCUED_COLUMN : NULL;
	LhCatalog	catalog;
	uint64		count;

	if (found != NULL)
		return found;
	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT DISTINCT options OPERATOR(pg_catalog.->>) 'rescued_data_column'"
						   " FROM lakehouse.source WHERE target OPERATOR(pg_catalog.=) $1"
						   "   AND options OPERATOR(pg_catalog.?) 'rescued_data_column' ORDER BY 1",
						   1, types, &value, NULL);
	for (uint64 row = 0; row < count && found == NULL; row++)
	{
		char	   *name = lh_catalog_text(row, 1, context);

		if (name != NULL && is_rescued_column(relation, name))
			found = name;
	}
	lh_catalog_end(&catalog);
	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column for rescued data", get_rel_name(relation)),
				 errdetail("It is named \"%s\", or as option \"rescued_data_column\" of a source says, and of type jsonb.",
						   LH_RESCUED_COLUMN),
				 errhint("Add it with ALTER TABLE ... ADD COLUMN %s jsonb, before files are loaded.", LH_RESCUED_COLUMN)));
	return found;
}

/*
 * check_column raises unless the column can take values of the type.
 */
static void
check_column(const Promotion *promotion, const char *name, Oid type, int32 typmod)
{
	const FormData_pg_attribute *column = &promotion->column;

	if (column->attnum <= 0 || strcmp(name, LH_LOAD_COLUMN) == 0 ||
		strcmp(name, promotion->rescued) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("column \"%s\" cannot take rescued values", name),
				 errhint("Name another column, and the field with field => '%s'.", promotion->field)));
	if (column->attgenerated != '\0' || column->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("column \"%s\" cannot take rescued values", name),
				 errdetail("The column is generated always."),
				 errhint("Name another column, and the field with field => '%s'.", promotion->field)));
	if (OidIsValid(type) && (column->atttypid != type || (typmod >= 0 && column->atttypmod != typmod)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is of type %s", name,
						get_rel_name(promotion->relation),
						format_type_with_typemod(column->atttypid, column->atttypmod)),
				 errhint("Change it with ALTER TABLE ... ALTER COLUMN ... TYPE first, or leave out the type.")));
}

static void
add_column(const Promotion *promotion, const char *name, Oid type, int32 typmod)
{
	char	   *sql;

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" of table \"%s\" does not exist", name, get_rel_name(promotion->relation)),
				 errhint("Give column_type, so that it can be added.")));
	sql = psprintf("ALTER TABLE %s ADD COLUMN %s %s", promotion->table, quote_identifier(name),
				   format_type_extended(type, typmod, FORMAT_TYPE_FORCE_QUALIFY | FORMAT_TYPE_TYPEMOD_GIVEN));
	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", sql);
	SPI_finish();
	LH_FAULT("promote-added");
}

/*
 * find_column finds or adds the column.
 */
static void
find_column(Promotion *promotion, const char *name, Oid type, int32 typmod)
{
	AttrNumber	number = get_attnum(promotion->relation, name);
	Relation	relation;

	if (number == InvalidAttrNumber)
	{
		add_column(promotion, name, type, typmod);
		number = get_attnum(promotion->relation, name);
	}
	memset(&promotion->column, 0, sizeof(promotion->column));
	promotion->column.attnum = number;
	if (number > 0)
	{
		relation = table_open(promotion->relation, NoLock);
		promotion->column = *TupleDescAttr(RelationGetDescr(relation), number - 1);
		table_close(relation, NoLock);
	}
	check_column(promotion, name, type, typmod);
}

/* ------------------------------------------------------ how values are read */

/*
 * find_rule returns the rule for rows of a source.
 */
static Rule *
find_rule(Promotion *promotion, int32 source_id)
{
	MemoryContext old = MemoryContextSwitchTo(promotion->context);
	LhGuessOptions guess = {0};
	LhSource   *source;
	Rule	   *rule;
	ListCell   *cell;

	foreach(cell, promotion->rules)
	{
		rule = lfirst(cell);
		if (rule->source_id == source_id)
		{
			MemoryContextSwitchTo(old);
			return rule;
		}
	}
	rule = palloc0(sizeof(Rule));
	rule->source_id = source_id;
	source = source_id != 0 ? lh_source_get_if(source_id) : NULL;
	if (source != NULL)
	{
		rule->text = !source->is_kafka && strcmp(source->format, "json") != 0;
		lh_guess_options_parse(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options))),
							   &guess);
		rule->options = guess.convert;
	}
	lh_converter_init(&rule->converter, &promotion->column, promotion->context);
	lh_converter_adapt(&rule->converter, &rule->options, promotion->context);
	rule->json = lh_json_value_create(promotion->column.atttypid, promotion->column.atttypmod,
									  pstrdup(NameStr(promotion->column.attname)), &rule->options,
									  promotion->context);
	promotion->rules = lappend(promotion->rules, rule);
	MemoryContextSwitchTo(old);
	return rule;
}

/*
 * choose_rules learns whether one rule is that of all rows.
 */
static void
choose_rules(Promotion *promotion)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(promotion->relation);
	LhCatalog	catalog;
	uint64		count;
	int32		source_id = 0;

	/* rows that somebody updated have loads of no source */
	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT DISTINCT source_id FROM lakehouse.load"
						   " WHERE relation OPERATOR(pg_catalog.=) $1 AND source_id IS NOT NULL",
						   1, types, &value, NULL);
	if (count > 0)
		source_id = (int32) lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	if (count <= 1)
		promotion->only = find_rule(promotion, source_id);
}

static Rule *
rule_of_load(Promotion *promotion, int64 load)
{
	static const Oid types[] = {INT8OID};
	Datum		value = Int64GetDatum(load);
	LhCatalog	catalog;
	int32		source_id = 0;

	if (promotion->only != NULL)
		return promotion->only;
	if (promotion->load_rule != NULL && promotion->load == load)
		return promotion->load_rule;
	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT COALESCE(source_id, 0) FROM lakehouse.load WHERE load_id OPERATOR(pg_catalog.=) $1",
					   1, types, &value, NULL) > 0)
		source_id = (int32) lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	promotion->load_rule = find_rule(promotion, source_id);
	promotion->load = load;
	return promotion->load_rule;
}

/* ---------------------------------------------------------------- a row */

static bool
get_member(JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), value) != NULL;
}

/*
 * get_reasons finds the object that tells why each field was rescued.
 */
static bool
get_reasons(Jsonb *rescued, JsonbValue *reasons)
{
	return get_member(&rescued->root, "_reason", reasons) && reasons->type == jbvBinary &&
		JsonContainerIsObject(reasons->val.binary.data);
}

/*
 * convert_value reads a rescued value as the ingestion would; false with *error,
 * which has no SQLSTATE for a null.
 */
static bool
convert_value(Promotion *promotion, Rule *rule, JsonbValue *found, Datum *value, LhError *error)
{
	LhJsonReading reading = {.error = error, .sink = &promotion->guard};
	LhJsonScan	scan;
	StringInfoData text;
	Jsonb	   *json;
	bool		isnull;

	memset(error, 0, offsetof(LhError, message));
	if (found->type == jbvString && rule->text)
		return lh_convert_guarded(&rule->converter, found->val.string.val, found->val.string.len,
								  value, error);
	json = JsonbValueToJsonb(found);
	initStringInfo(&text);
	(void) JsonbToCString(&text, &json->root, VARSIZE(json));
	lh_json_begin(&scan, text.data, text.len);
	reading.scan = &scan;
	return lh_json_value_read(rule->json, &reading, lh_json_next(&scan), value, &isnull) && !isnull;
}

static void
count_reason(Promotion *promotion, const char *name)
{
	int			i;

	promotion->remaining++;
	for (i = 0; i < promotion->reason_count; i++)
		if (strcmp(promotion->reasons[i].name, name) == 0)
			break;
	if (i == promotion->reason_count)
	{
		if (i == MAX_REASONS)
			i--;
		else
			promotion->reason_count++;
		strlcpy(promotion->reasons[i].name, i == MAX_REASONS - 1 ? "other" : name,
				sizeof(promotion->reasons[i].name));
	}
	promotion->reasons[i].count++;
}

/*
 * running_promotion returns what the expressions of the UPDATE belong to.
 */
static Promotion *
running_promotion(FunctionCallInfo fcinfo, int typed)
{
	if (active == NULL ||
		(typed >= 0 && get_fn_expr_argtype(fcinfo->flinfo, typed) != active->column.atttypid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function is for lakehouse.promote_rescued only")));
	return active;
}

Datum
lakehouse_rescued_converts(PG_FUNCTION_ARGS)
{
	Promotion  *promotion = running_promotion(fcinfo, 2);
	Jsonb	   *rescued = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	JsonbValue	found;
	JsonbValue	reasons;
	JsonbValue	reason;
	LhError		error;
	Datum		value;

	if (rescued == NULL || !JB_ROOT_IS_OBJECT(rescued) ||
		!get_member(&rescued->root, promotion->key, &found))
		PG_RETURN_BOOL(false);
	if (get_reasons(rescued, &reasons) &&
		get_member(reasons.val.binary.data, promotion->field, &reason) &&
		reason.type == jbvString && reason.val.string.len == strlen("duplicate") &&
		memcmp(reason.val.string.val, "duplicate", reason.val.string.len) == 0)
		count_reason(promotion, "duplicate");
	else if (!PG_ARGISNULL(2))
		count_reason(promotion, "column_has_value");
	else if (convert_value(promotion, rule_of_load(promotion, PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1)),
						   &found, &value, &error))
		PG_RETURN_BOOL(true);
	else
		count_reason(promotion, error.sqlstate == 0 ? "null" : unpack_sql_state(error.sqlstate));
	PG_RETURN_BOOL(false);
}

Datum
lakehouse_rescued_value(PG_FUNCTION_ARGS)
{
	Promotion  *promotion = running_promotion(fcinfo, 2);
	Jsonb	   *rescued = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	JsonbValue	found;
	LhError		error;
	Datum		value;

	if (rescued == NULL || !JB_ROOT_IS_OBJECT(rescued) ||
		!get_member(&rescued->root, promotion->key, &found) ||
		!convert_value(promotion, rule_of_load(promotion, PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1)),
					   &found, &value, &error))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}

/*
 * has_fields tells whether there is anything but what is said of the row.
 */
static bool
has_fields(Jsonb *rescued)
{
	int			ours = 0;
	JsonbValue	value;

	for (const char *const *member = lh_rescued_members; *member != NULL; member++)
		ours += get_member(&rescued->root, *member, &value);
	return JB_ROOT_COUNT(rescued) > ours;
}

Datum
lakehouse_rescued_rest(PG_FUNCTION_ARGS)
{
	Promotion  *promotion = running_promotion(fcinfo, -1);
	Jsonb	   *rescued = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	JsonbValue	reasons;
	Datum		rest;

	if (rescued == NULL || !JB_ROOT_IS_OBJECT(rescued))
		PG_RETURN_NULL();
	rest = DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(rescued),
							   CStringGetTextDatum(promotion->key));
	if (!has_fields(DatumGetJsonbP(rest)))
		PG_RETURN_NULL();
	if (get_reasons(rescued, &reasons))
	{
		Datum		key = CStringGetTextDatum("_reason");
		Datum		others = DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(JsonbValueToJsonb(&reasons)),
												 CStringGetTextDatum(promotion->field));

		rest = DirectFunctionCall4(jsonb_set, rest,
								   PointerGetDatum(construct_array(&key, 1, TEXTOID, -1, false, TYPALIGN_INT)),
								   others, BoolGetDatum(false));
	}
	PG_RETURN_DATUM(rest);
}

/* ------------------------------------------------------------- the whole */

/*
 * update_rows runs the UPDATE, without a load and without old images.
 */
static void
update_rows(Promotion *promotion, bool managed)
{
	const char *column = quote_identifier(NameStr(promotion->column.attname));
	const char *rescued = quote_identifier(promotion->rescued);
	const char *load = managed ? "t." LH_LOAD_COLUMN : "NULL::pg_catalog.int8";
	char	   *sql = psprintf("UPDATE %s AS t SET %s = lakehouse._rescued_value(t.%s, %s, t.%s),"
							   " %s = lakehouse._rescued_rest(t.%s)"
							   " WHERE t.%s IS NOT NULL AND lakehouse._rescued_converts(t.%s, %s, t.%s)",
							   promotion->table, column, rescued, load, column, rescued, rescued,
							   rescued, rescued, load, column);
	Promotion  *outer = active;
	LhCaptureSuspended captured = lh_capture_suspend(promotion->relation);

	active = promotion;
	PG_TRY();
	{
		SPI_connect();
		if (SPI_execute(sql, false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "statement failed: %s", sql);
		promotion->promoted = (int64) SPI_processed;
		SPI_finish();
	}
	PG_FINALLY();
	{
		active = outer;
		lh_capture_resume(captured);
	}
	PG_END_TRY();
	LH_FAULT("promote-updated");
}

/*
 * tell_flows names the flows that keep what they made of the rows.
 */
static void
tell_flows(const Promotion *promotion)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(promotion->relation);
	MemoryContext context = CurrentMemoryContext;
	StringInfoData names;
	char	   *first = NULL;
	LhCatalog	catalog;
	uint64		count;

	initStringInfo(&names);
	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT DISTINCT f.name FROM lakehouse.flow f JOIN lakehouse.flow_input i"
						   "   ON i.flow_id OPERATOR(pg_catalog.=) f.flow_id"
						   " WHERE i.input OPERATOR(pg_catalog.=) $1 ORDER BY 1", 1, types, &value, NULL);
	for (uint64 row = 0; row < Min(count, FLOWS_SHOWN); row++)
	{
		char	   *name = lh_catalog_text(row, 1, context);

		appendStringInfo(&names, "%s\"%s\"", row > 0 ? ", " : "", name);
		first = row == 0 ? name : first;
	}
	lh_catalog_end(&catalog);
	if (count == 0)
		return;
	if (count > FLOWS_SHOWN)
		appendStringInfo(&names, " and %d more", (int) count - FLOWS_SHOWN);
	ereport(NOTICE,
			(errmsg("flows that read table \"%s\" keep what they made of the promoted rows: %s",
					get_rel_name(promotion->relation), names.data),
			 errdetail("The rows keep their loads and are not read again."),
			 errhint("Where the column matters to a flow, make its target anew: SELECT lakehouse.drop_flow(%s), "
					 "TRUNCATE the target, and lakehouse.create_flow as before.",
					 quote_literal_cstr(first))));
}

static Datum
result_of(FunctionCallInfo fcinfo, const Promotion *promotion)
{
	TupleDesc	tupdesc;
	StringInfoData reasons;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "promote_rescued must return a record");
	initStringInfo(&reasons);
	appendStringInfoChar(&reasons, '{');
	for (int i = 0; i < promotion->reason_count; i++)
		appendStringInfo(&reasons, "%s\"%s\": " INT64_FORMAT, i > 0 ? ", " : "",
						 promotion->reasons[i].name, promotion->reasons[i].count);
	appendStringInfoChar(&reasons, '}');
	values[0] = Int64GetDatum(promotion->promoted);
	values[1] = Int64GetDatum(promotion->remaining);
	values[2] = DirectFunctionCall1(jsonb_in, CStringGetDatum(reasons.data));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/*
 * lock_table locks the table for what is to be done: against everybody if a column
 * is added, as any UPDATE does otherwise.
 */
static void
lock_table(Oid relation, const char *column)
{
	if (get_attnum(relation, column) == InvalidAttrNumber)
		lh_evolve_lock(relation, "add a column", "Nothing was changed");
	else
		LockRelationOid(relation, RowExclusiveLock);
	/* it may have changed meanwhile */
	check_table(relation);
}

/*
 * lakehouse.promote_rescued(target, column_name, column_type, field)
 */
Datum
lakehouse_promote_rescued(PG_FUNCTION_ARGS)
{
	Promotion	promotion = {.context = CurrentMemoryContext, .guard = {.rescue = true}};
	char	   *name = required_text(fcinfo, 1, "column_name");
	Oid			type = InvalidOid;
	int32		typmod = -1;
	LhIdentity	identity;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "target")));
	promotion.relation = PG_GETARG_OID(0);
	promotion.field = PG_ARGISNULL(3) ? name : text_to_cstring(PG_GETARG_TEXT_PP(3));
	promotion.key = lh_rescued_key_is_longer(promotion.field, strlen(promotion.field)) ?
		psprintf("_%s", promotion.field) : promotion.field;
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("\"%s\" cannot be the name of a column", name),
				 errdetail("The name of a column has from 1 to %d bytes.", NAMEDATALEN - 1),
				 errhint("Choose another name, and name the field of the files with the argument field.")));
	if (!PG_ARGISNULL(2))
		parseTypeString(text_to_cstring(PG_GETARG_TEXT_PP(2)), &type, &typmod, false);
	check_table(promotion.relation);
	lock_table(promotion.relation, name);
	promotion.rescued = find_rescued(promotion.relation);
	promotion.table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(promotion.relation)),
												 get_rel_name(promotion.relation));
	lh_identity_role(&identity, lh_relation_owner(promotion.relation), OWNER_PATH);
	find_column(&promotion, name, type, typmod);
	choose_rules(&promotion);
	update_rows(&promotion, get_attnum(promotion.relation, LH_LOAD_COLUMN) > 0);
	lh_identity_restore(&identity);
	if (promotion.promoted > 0)
		tell_flows(&promotion);
	PG_RETURN_DATUM(result_of(fcinfo, &promotion));
}
