/*
 * text.c
 *	  Conversion to text, varchar, char, boolean and uuid.
 */
#include "postgres.h"

#include <ctype.h>

#include "compat.h"
#include "convert/convert_types.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

bool
lh_convert_text(LhConverter *converter, const char *data, int length,
				Datum *value, LhError *error)
{
	text	   *result = palloc(length + VARHDRSZ);

	SET_VARSIZE(result, length + VARHDRSZ);
	memcpy(VARDATA(result), data, length);
	*value = PointerGetDatum(result);
	return true;
}

/*
 * Cuts the text to "limit" characters, as the server does: only spaces may be
 * cut off.  Returns the length in bytes, or -1 if it is too long.
 */
static int
clip_text(const char *data, int length, int limit)
{
	int			clipped = pg_mbcharcliplen(data, length, limit);
	int			i;

	for (i = clipped; i < length; i++)
		if (data[i] != ' ')
			return -1;
	return clipped;
}

bool
lh_convert_varchar(LhConverter *converter, const char *data, int length,
				   Datum *value, LhError *error)
{
	int			limit = converter->typmod - VARHDRSZ;

	if (converter->typmod >= (int32) VARHDRSZ && length > limit)
	{
		length = clip_text(data, length, limit);
		if (length < 0)
			return lh_error_set(error, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
								"value too long for type character varying(%d)", limit);
	}
	return lh_convert_text(converter, data, length, value, error);
}

bool
lh_convert_bpchar(LhConverter *converter, const char *data, int length,
				  Datum *value, LhError *error)
{
	int			limit = converter->typmod - VARHDRSZ;
	int			padding = 0;
	text	   *result;

	if (converter->typmod >= (int32) VARHDRSZ)
	{
		int			characters = pg_mbstrlen_with_len(data, length);

		if (characters <= limit)
			padding = limit - characters;
		else if ((length = clip_text(data, length, limit)) < 0)
			return lh_error_set(error, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
								"value too long for type character(%d)", limit);
	}
	result = palloc(length + padding + VARHDRSZ);
	SET_VARSIZE(result, length + padding + VARHDRSZ);
	memcpy(VARDATA(result), data, length);
	memset(VARDATA(result) + length, ' ', padding);
	*value = PointerGetDatum(result);
	return true;
}

bool
lh_convert_bool(LhConverter *converter, const char *data, int length,
				Datum *value, LhError *error)
{
	const char *start = data;
	const char *end = data + length;
	bool		result;

	/* as the server writes it */
	if (length == 1 && (*data == 't' || *data == 'f'))
	{
		*value = BoolGetDatum(*data == 't');
		return true;
	}
	while (start < end && isspace((unsigned char) *start))
		start++;
	while (start < end && isspace((unsigned char) end[-1]))
		end--;
	/* of a single "o" the server looks at the byte behind it as well, which is
	 * not a part of the field here: "on" and "off" are the least it takes */
	if (start == end || (end - start == 1 && (*start | 0x20) == 'o') ||
		!parse_bool_with_len(start, end - start, &result))
		return lh_convert_refuse(error, ERRCODE_INVALID_TEXT_REPRESENTATION, "boolean",
								 data, length);
	*value = BoolGetDatum(result);
	return true;
}

static inline int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Accepts what the server does: 32 hexadecimal digits, a hyphen allowed after
 * every fourth, braces around all of it.
 */
static bool
parse_uuid(const char *data, const char *end, pg_uuid_t *uuid)
{
	bool		braces = data < end && *data == '{';
	int			i;

	if (braces)
		data++;
	for (i = 0; i < UUID_LEN; i++)
	{
		int			high,
					low;

		if (end - data < 2 || (high = hex_digit(data[0])) < 0 || (low = hex_digit(data[1])) < 0)
			return false;
		uuid->data[i] = high << 4 | low;
		data += 2;
		if (data < end && *data == '-' && i % 2 == 1 && i < UUID_LEN - 1)
			data++;
	}
	if (braces)
	{
		if (data == end || *data != '}')
			return false;
		data++;
	}
	return data == end;
}

bool
lh_convert_uuid(LhConverter *converter, const char *data, int length,
				Datum *value, LhError *error)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (!parse_uuid(data, data + length, uuid))
	{
		pfree(uuid);
		return lh_convert_refuse(error, ERRCODE_INVALID_TEXT_REPRESENTATION, "uuid",
								 data, length);
	}
	*value = UUIDPGetDatum(uuid);
	return true;
}
