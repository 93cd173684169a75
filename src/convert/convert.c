/*
 * convert.c
 *	  Chooses the conversion of a column, and the way through the type's own
 *	  input function.
 *
 * Invariant: a converter whose may_raise is false never raises for any data,
 * whatever it holds, except when memory runs out.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/subtransaction.h"
#include "compat.h"
#include "convert/convert_types.h"
#include "mb/pg_wchar.h"
#include "utils/lsyscache.h"

/* bytes of a value that a message shows */
#define EXCERPT_LENGTH 64

/*
 * Returns our own conversion for a type, or NULL if it has none.
 */
static LhConvertFunction
find_conversion(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return lh_convert_bool;
		case INT2OID:
			return lh_convert_int2;
		case INT4OID:
			return lh_convert_int4;
		case INT8OID:
			return lh_convert_int8;
		case FLOAT4OID:
			return lh_convert_float4;
		case FLOAT8OID:
			return lh_convert_float8;
		case NUMERICOID:
			return lh_convert_numeric;
		case TEXTOID:
			return lh_convert_text;
		case VARCHAROID:
			return lh_convert_varchar;
		case BPCHAROID:
			return lh_convert_bpchar;
		case DATEOID:
			return lh_convert_date;
		case TIMESTAMPOID:
			return lh_convert_timestamp;
		case TIMESTAMPTZOID:
			return lh_convert_timestamptz;
		case JSONOID:
			return lh_convert_json;
		case JSONBOID:
			return lh_convert_jsonb;
		case UUIDOID:
			return lh_convert_uuid;
		default:
			return NULL;
	}
}

/*
 * lh_converter_init prepares the conversion to a column.  What it needs for the
 * time of many records is allocated in "context".
 */
void
lh_converter_init(LhConverter *converter, Form_pg_attribute attribute, MemoryContext context)
{
	Oid			input;

	memset(converter, 0, sizeof(LhConverter));
	converter->type = attribute->atttypid;
	converter->typmod = attribute->atttypmod;
	converter->column = MemoryContextStrdup(context, NameStr(attribute->attname));
	converter->is_json = converter->type == JSONOID || converter->type == JSONBOID;
	converter->is_string = converter->type == TEXTOID || converter->type == VARCHAROID ||
		converter->type == BPCHAROID;

	converter->is_domain = get_typtype(converter->type) == TYPTYPE_DOMAIN;

	getTypeInputInfo(converter->type, &input, &converter->typioparam);
	fmgr_info_cxt(input, &converter->input, context);

	converter->convert = find_conversion(converter->type);
	if (converter->convert == NULL)
	{
		converter->convert = lh_convert_input;
		converter->may_raise = true;
	}
}

/*
 * lh_convert_input asks the type's input function.
 */
bool
lh_convert_input(LhConverter *converter, const char *data, int length,
				 Datum *value, LhError *error)
{
	char		buffer[256];
	char	   *text = lh_convert_cstring(data, length, buffer, sizeof(buffer));

#ifdef LH_SOFT_INPUT
	{
		ErrorSaveContext escontext = {T_ErrorSaveContext};

		escontext.details_wanted = true;
		if (!InputFunctionCallSafe(&converter->input, text, converter->typioparam,
								   converter->typmod, (Node *) &escontext, value))
			return lh_error_set(error, escontext.error_data->sqlerrcode, "%s",
								lh_convert_excerpt(escontext.error_data->message,
												   strlen(escontext.error_data->message)));
	}
#else
	*value = InputFunctionCall(&converter->input, text, converter->typioparam,
							   converter->typmod);
#endif
	if (text != buffer)
		pfree(text);
	return true;
}

void
lh_convert_null(LhConverter *converter, Datum *value, bool *isnull)
{
	*value = (Datum) 0;
	*isnull = true;
	if (unlikely(converter->is_domain))
		(void) InputFunctionCall(&converter->input, NULL, converter->typioparam,
								 converter->typmod);
}

bool
lh_convert_is_data_error(int sqlstate)
{
	int			class = ERRCODE_TO_CATEGORY(sqlstate);

	return class == ERRCODE_DATA_EXCEPTION || class == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		class == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		class == MAKE_SQLSTATE('4', '2', '0', '0', '0');
}

bool
lh_convert_guarded(LhConverter *converter, const char *data, int length,
				   Datum *value, LhError *error)
{
	LhSubtransaction sub;
	volatile bool result = false;

	if (likely(!converter->may_raise))
		return lh_convert(converter, data, length, value, error);
	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		result = lh_convert(converter, data, length, value, error);
		lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		ErrorData  *caught = lh_subtransaction_caught(&sub);

		if (!lh_convert_is_data_error(caught->sqlerrcode))
			ReThrowError(caught);
		lh_error_set(error, caught->sqlerrcode, "%s", caught->message);
		FreeErrorData(caught);
		result = false;
	}
	PG_END_TRY();
	return result;
}

bool
lh_convert_refuse(LhError *error, int sqlstate, const char *type, const char *data, int length)
{
	return lh_error_set(error, sqlstate, "invalid input syntax for type %s: \"%s\"",
						type, lh_convert_excerpt(data, length));
}

const char *
lh_convert_excerpt(const char *data, int length)
{
	static char excerpt[EXCERPT_LENGTH + 4];
	int			shown = length;
	int			i;

	if (length > EXCERPT_LENGTH)
		shown = pg_mbcliplen(data, length, EXCERPT_LENGTH);
	for (i = 0; i < shown; i++)
		excerpt[i] = (unsigned char) data[i] < ' ' || data[i] == 0x7f ? ' ' : data[i];
	strcpy(excerpt + shown, shown < length ? "..." : "");
	return excerpt;
}

char *
lh_convert_cstring(const char *data, int length, char *buffer, int size)
{
	char	   *result = length < size ? buffer : palloc(length + 1);

	memcpy(result, data, length);
	result[length] = '\0';
	return result;
}
