/*
 * json_text.c
 *	  What the scanner finds, as text in the server's encoding, as jsonb, and as
 *	  soft errors.
 *
 * Nothing here raises for bad input: sizes that jsonb cannot hold are refused
 * before the server's functions would do it.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "convert/convert_types.h"
#include "json/json_text.h"
#include "mb/pg_wchar.h"

/*
 * Limits that keep a jsonb well below the 256 MB that its format can describe: a
 * number of one digit takes 12 bytes in it.
 */
#define JSONB_MAX_TEXT (64 * 1024 * 1024)
#define JSONB_MAX_NODES (12 * 1024 * 1024)

bool
lh_json_refuse(const LhJsonScan *scan, LhError *error)
{
	switch (scan->fault)
	{
		case LH_JSON_TOO_DEEP:
			return lh_error_set(error, ERRCODE_STATEMENT_TOO_COMPLEX,
								"JSON is nested deeper than %d levels", LH_JSON_MAX_DEPTH);
		default:
			return lh_error_set(error, ERRCODE_INVALID_TEXT_REPRESENTATION,
								"invalid JSON at byte %d: %s",
								(int) (scan->p - scan->start), scan->message);
	}
}

/*
 * Writes a character in the encoding of the database, for lh_json_unescape.
 */
static int
encode_server(uint32 character, char *to)
{
	static Oid	conversion = InvalidOid;
	unsigned char utf8[8];
	unsigned char result[16];
	int			length;

	if (!OidIsValid(conversion))
		conversion = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(conversion))
		return 0;
	unicode_to_utf8(character, utf8);
	length = pg_utf_mblen(utf8);
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8, GetDatabaseEncoding(), utf8, length,
									  result, sizeof(result), true) != length)
		return 0;
	length = strlen((char *) result);
	memcpy(to, result, length);
	return length;
}

bool
lh_json_string(const LhJsonScan *scan, const char **text, int *length, LhError *error)
{
	char	   *buffer;
	LhJsonFaultKind fault;

	*text = scan->text;
	*length = scan->length;
	if (likely(!scan->escaped))
		return true;
	buffer = palloc(scan->length + 8);
	fault = lh_json_unescape(scan->text, scan->length,
							 GetDatabaseEncoding() == PG_UTF8 ? NULL : encode_server,
							 buffer, length);
	*text = buffer;
	switch (fault)
	{
		case LH_JSON_FINE:
			return true;
		case LH_JSON_NUL_ESCAPE:
			lh_error_set(error, ERRCODE_UNTRANSLATABLE_CHARACTER,
						 "\\u0000 cannot be converted to text");
			break;
		case LH_JSON_UNTRANSLATABLE:
			lh_error_set(error, ERRCODE_UNTRANSLATABLE_CHARACTER,
						 "a \\u escape stands for a character that encoding \"%s\" does not have",
						 GetDatabaseEncodingName());
			break;
		default:
			lh_error_set(error, ERRCODE_INVALID_TEXT_REPRESENTATION,
						 "a \\u escape is half of a surrogate pair");
			break;
	}
	pfree(buffer);
	return false;
}

/*
 * Sets *value to the scalar that the token is.
 */
static bool
build_scalar(const LhJsonScan *scan, LhJsonToken token, JsonbValue *value, LhError *error)
{
	static LhConverter numeric = {.typmod = -1};
	Datum		number;
	const char *text;

	switch (token)
	{
		case LH_JSON_NULL:
			value->type = jbvNull;
			return true;
		case LH_JSON_TRUE:
		case LH_JSON_FALSE:
			value->type = jbvBool;
			value->val.boolean = token == LH_JSON_TRUE;
			return true;
		case LH_JSON_NUMBER:
			if (!lh_convert_numeric(&numeric, scan->text, scan->length, &number, error))
				return false;
			value->type = jbvNumeric;
			value->val.numeric = (Numeric) DatumGetPointer(number);
			return true;
		default:
			value->type = jbvString;
			if (!lh_json_string(scan, &text, &value->val.string.len, error))
				return false;
			value->val.string.val = unconstify(char *, text);
			return true;
	}
}

/*
 * Pushes the tokens of an object or array, whose first token was given.
 */
static bool
build_container(LhJsonScan *scan, LhJsonToken token, JsonbParseState **state,
				JsonbValue **result, LhError *error)
{
	int			depth = scan->depth - 1;
	int			nodes = 0;

	for (;; token = lh_json_next(scan))
	{
		JsonbValue	value;

		if (++nodes > JSONB_MAX_NODES)
			return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
								"JSON has too many values for type jsonb");
		switch (token)
		{
			case LH_JSON_FAULT:
			case LH_JSON_END:
				return lh_json_refuse(scan, error);
			case LH_JSON_OBJECT:
				pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
				break;
			case LH_JSON_ARRAY:
				pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
				break;
			case LH_JSON_OBJECT_END:
				*result = pushJsonbValue(state, WJB_END_OBJECT, NULL);
				break;
			case LH_JSON_ARRAY_END:
				*result = pushJsonbValue(state, WJB_END_ARRAY, NULL);
				break;
			case LH_JSON_KEY:
				if (!build_scalar(scan, token, &value, error))
					return false;
				pushJsonbValue(state, WJB_KEY, &value);
				break;
			default:
				if (!build_scalar(scan, token, &value, error))
					return false;

				/* what the state on top is: an array or an object's member */
				pushJsonbValue(state, (*state)->contVal.type == jbvArray ? WJB_ELEM : WJB_VALUE,
							   &value);
				break;
		}
		if (scan->depth == depth)
			return true;
	}
}

bool
lh_json_build(LhJsonScan *scan, LhJsonToken first, Jsonb **result, LhError *error)
{
	JsonbParseState *state = NULL;
	JsonbValue	scalar;
	JsonbValue *value = &scalar;

	if (scan->end - scan->start > JSONB_MAX_TEXT)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"JSON is longer than %d bytes, too much for type jsonb",
							JSONB_MAX_TEXT);
	if (first == LH_JSON_FAULT || first == LH_JSON_END)
		return lh_json_refuse(scan, error);
	if (first == LH_JSON_OBJECT || first == LH_JSON_ARRAY)
	{
		if (!build_container(scan, first, &state, &value, error))
			return false;
	}
	else if (!build_scalar(scan, first, &scalar, error))
		return false;
	*result = JsonbValueToJsonb(value);
	return true;
}
