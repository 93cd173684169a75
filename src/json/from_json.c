/*
 * from_json.c
 *	  lakehouse.from_json: JSON text to a typed value, in one pass.
 *
 * The mapping of keys to columns is made once for each place in a query where
 * the function is called, and lives as long as that query's plan.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "json/json_row.h"
#include "json/json_text.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* What one place of call remembers. */
typedef struct FromJson
{
	Oid			type;
	LhJsonValue *value;
} FromJson;

PG_FUNCTION_INFO_V1(lakehouse_from_json);

/*
 * Returns the state of this place of call, made at its first execution.
 */
static FromJson *
find_state(FmgrInfo *function)
{
	FromJson   *state = function->fn_extra;
	Oid			type;

	if (state != NULL)
		return state;
	type = get_fn_expr_argtype(function, 1);
	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of record_type");
	if (get_typtype(type) == TYPTYPE_PSEUDO)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("from_json cannot give type %s", format_type_be(type)),
				 errhint("Pass a NULL of a named type: create one with CREATE TYPE, or use that of a table.")));
	state = MemoryContextAlloc(function->fn_mcxt, sizeof(FromJson));
	state->type = type;
	state->value = lh_json_value_create(type, -1, "value", NULL, function->fn_mcxt);
	function->fn_extra = state;
	return state;
}

/*
 * Is the mode "permissive"?  Raises if it is neither that nor "failfast".
 */
static bool
is_permissive(text *mode)
{
	static const char *const modes[] = {"failfast", "permissive", NULL};
	const char *name = VARDATA_ANY(mode);
	int			length = VARSIZE_ANY_EXHDR(mode);

	if (length == 10 && pg_strncasecmp(name, "permissive", 10) == 0)
		return true;
	if (length != 8 || pg_strncasecmp(name, "failfast", 8) != 0)
		lh_options_refuse(text_to_cstring(mode), modes, "mode");
	return false;
}

/*
 * Names the field in an error that a type's own function raises.
 */
static void
add_context(void *arg)
{
	const LhJsonReading *reading = arg;

	if (reading->column != NULL)
		errcontext("JSON field \"%s\"", reading->column);
}

static void
raise(const LhJsonReading *reading)
{
	if (reading->column != NULL && reading->scan->fault == LH_JSON_FINE)
		ereport(ERROR,
				(errcode(reading->error->sqlstate),
				 errmsg("cannot convert JSON field \"%s\": %s", reading->column,
						reading->error->message)));
	ereport(ERROR,
			(errcode(reading->error->sqlstate), errmsg("%s", reading->error->message)));
}

/*
 * lakehouse.from_json(json text, record_type anyelement, mode text)
 */
Datum
lakehouse_from_json(PG_FUNCTION_ARGS)
{
	FromJson   *state;
	text	   *json;
	LhJsonScan	scan;
	LhError		error;
	LhJsonReading reading = {.scan = &scan, .error = &error};
	ErrorContextCallback callback;
	Datum		value;
	bool		isnull;
	bool		fine;

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("mode must not be NULL"),
				 errhint("Modes are \"permissive\" and \"failfast\".")));
	state = find_state(fcinfo->flinfo);
	reading.permissive = is_permissive(PG_GETARG_TEXT_PP(2));
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();

	json = PG_GETARG_TEXT_PP(0);
	lh_json_begin(&scan, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
	callback.callback = add_context;
	callback.arg = &reading;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	fine = lh_json_value_read(state->value, &reading, lh_json_next(&scan), &value, &isnull);
	error_context_stack = callback.previous;

	if (fine && lh_json_next(&scan) != LH_JSON_END)
		fine = lh_json_refuse(&scan, &error);
	if (fine && isnull)
		PG_RETURN_NULL();
	if (fine)
		PG_RETURN_DATUM(value);
	if (!reading.permissive)
		raise(&reading);
	PG_RETURN_NULL();
}
