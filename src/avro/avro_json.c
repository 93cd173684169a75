/*
 * avro_json.c
 *	  A value in Avro's binary encoding as JSON text.
 *
 * The text is what a reader of JSON takes for the columns that such values
 * belong to: numbers as numbers, decimals with all their digits; times in ISO
 * 8601; bytes as bytea writes them; of a union the value of its branch; NaN and
 * infinities as strings.
 *
 * Invariants: every length, count and index is compared with the bytes that are
 * left before it is used.  Each step either takes bytes of the value or writes
 * bytes of text, which both have limits, so no value takes long or much memory,
 * whatever counts it claims.  Nothing here raises but for interrupts and memory.
 */
#include "postgres.h"

#include <math.h>

#include "avro/avro_json.h"
#include "avro/avro_text.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* levels of records, arrays and maps; readers of JSON take 1000 */
#define MAX_DEPTH 500

/* names of fields that tell where an error is */
#define TRAIL_LENGTH 6

/* A value being read. */
typedef struct Reading
{
	const uint8 *p;				/* next byte */
	const uint8 *end;
	StringInfo	json;
	Size		limit;			/* of json->len */
	int			depth;
	int			sqlstate;		/* of the failure, and what it is */
	const char *message;
	const char *trail[TRAIL_LENGTH];	/* fields that it is in, the inmost first */
	int			trail_count;
} Reading;

static bool write_value(Reading *reading, const LhAvroNode *node);

/* ------------------------------------------------------------- reading */

static bool
fail(Reading *reading, int sqlstate, const char *message)
{
	reading->sqlstate = sqlstate;
	reading->message = message;
	return false;
}

static bool
fail_short(Reading *reading)
{
	return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "the value ends too early");
}

static inline bool
has_bytes(const Reading *reading, uint64 count)
{
	return count <= (uint64) (reading->end - reading->p);
}

/*
 * Reads a number of variable length, the sign in its lowest bit.
 */
static inline bool
read_long(Reading *reading, int64 *result)
{
	uint64		value = 0;

	for (int shift = 0; shift < 70; shift += 7)
	{
		uint8		byte;

		if (reading->p == reading->end)
			return fail_short(reading);
		byte = *reading->p++;
		/* the tenth byte has room for one bit */
		if (shift == 63 && byte > 1)
			break;
		value |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
		{
			*result = (int64) (value >> 1) ^ -(int64) (value & 1);
			return true;
		}
	}
	return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "a number has more than 64 bits");
}

static inline bool
read_int(Reading *reading, int32 *result)
{
	int64		value;

	if (!read_long(reading, &value))
		return false;
	*result = (int32) value;
	return *result == value ||
		fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "an int has more than 32 bits");
}

/*
 * Reads the length of bytes or a string, which are all there.
 */
static inline bool
read_length(Reading *reading, int64 *length)
{
	if (!read_long(reading, length))
		return false;
	if (*length < 0)
		return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "a length is negative");
	return has_bytes(reading, *length) || fail_short(reading);
}

/*
 * Reads numbers that Avro writes with the lowest byte first.
 */
static uint64
read_little(Reading *reading, int bytes)
{
	uint64		value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64) reading->p[i] << (8 * i);
	reading->p += bytes;
	return value;
}

/* ------------------------------------------------------------- writing */

/*
 * Makes room for so many bytes of text.
 */
static inline bool
reserve(Reading *reading, Size bytes)
{
	StringInfo	json = reading->json;

	if (unlikely(bytes > reading->limit - json->len))
		return fail(reading, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
					"the value is longer as text than lakehouse.max_record_size");
	if (unlikely(json->len + bytes >= json->maxlen))
		enlargeStringInfo(json, (int) bytes);
	return true;
}

static inline bool
put(Reading *reading, const char *text, int length)
{
	if (!reserve(reading, length))
		return false;
	memcpy(reading->json->data + reading->json->len, text, length);
	reading->json->len += length;
	return true;
}

static inline bool
put_char(Reading *reading, char c)
{
	return put(reading, &c, 1);
}

static bool
put_quoted(Reading *reading, const char *text, int length)
{
	return put_char(reading, '"') && put(reading, text, length) && put_char(reading, '"');
}

static bool
write_number(Reading *reading, int64 value)
{
	char		text[MAXINT8LEN + 1];

	return put(reading, text, pg_lltoa(value, text));
}

/*
 * Writes what has no JSON number as a string that float columns take.
 */
static bool
write_special(Reading *reading, double value)
{
	const char *text = isnan(value) ? "\"NaN\"" : value < 0 ? "\"-Infinity\"" : "\"Infinity\"";

	return put(reading, text, strlen(text));
}

static bool
write_float(Reading *reading)
{
	char		text[FLOAT_SHORTEST_DECIMAL_LEN];
	uint32		bits;
	float		value;

	if (!has_bytes(reading, sizeof(bits)))
		return fail_short(reading);
	bits = (uint32) read_little(reading, sizeof(bits));
	memcpy(&value, &bits, sizeof(value));
	if (!isfinite(value))
		return write_special(reading, value);
	return put(reading, text, float_to_shortest_decimal_bufn(value, text));
}

static bool
write_double(Reading *reading)
{
	char		text[DOUBLE_SHORTEST_DECIMAL_LEN];
	uint64		bits;
	double		value;

	if (!has_bytes(reading, sizeof(bits)))
		return fail_short(reading);
	bits = read_little(reading, sizeof(bits));
	memcpy(&value, &bits, sizeof(value));
	if (!isfinite(value))
		return write_special(reading, value);
	return put(reading, text, double_to_shortest_decimal_bufn(value, text));
}

static bool
write_boolean(Reading *reading)
{
	if (!has_bytes(reading, 1))
		return fail_short(reading);
	switch (*reading->p++)
	{
		case 0:
			return put(reading, "false", 5);
		case 1:
			return put(reading, "true", 4);
		default:
			return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION,
						"a boolean is neither 0 nor 1");
	}
}

/*
 * Writes bytes as the text that bytea takes; the backslash is doubled for JSON.
 */
static bool
write_bytes(Reading *reading, int64 length)
{
	char	   *to;

	if (!has_bytes(reading, length))
		return fail_short(reading);
	if (!reserve(reading, 2 * (Size) length + 5))
		return false;
	to = reading->json->data + reading->json->len;
	memcpy(to, "\"\\\\x", 4);
	to += 4;
	to += hex_encode((const char *) reading->p, length, to);
	*to++ = '"';
	reading->json->len = to - reading->json->data;
	reading->p += length;
	return true;
}

/*
 * Tells whether bytes are UTF-8, NUL included: a column that cannot hold that
 * says so itself.
 */
static bool
is_utf8(const char *text, int length)
{
	for (;;)
	{
		int			good = pg_encoding_verifymbstr(PG_UTF8, text, length);

		if (good == length)
			return true;
		if (text[good] != '\0')
			return false;
		text += good + 1;
		length -= good + 1;
	}
}

static bool
put_escape(Reading *reading, unsigned char c)
{
	char		text[8];

	if (c == '"' || c == '\\')
	{
		text[0] = '\\';
		text[1] = c;
		return put(reading, text, 2);
	}
	return put(reading, text, snprintf(text, sizeof(text), "\\u%04x", c));
}

static bool
write_string(Reading *reading)
{
	int64		length;
	const char *text;
	const char *end;

	if (!read_length(reading, &length))
		return false;
	text = (const char *) reading->p;
	end = text + length;
	reading->p += length;
	if (!is_utf8(text, (int) length))
		return fail(reading, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "a string is not UTF-8");
	if (!put_char(reading, '"'))
		return false;
	while (text < end)
	{
		const char *plain = text;

		while (text < end && (unsigned char) *text >= ' ' && *text != '"' && *text != '\\')
			text++;
		if (!put(reading, plain, text - plain) ||
			(text < end && !put_escape(reading, (unsigned char) *text++)))
			return false;
	}
	return put_char(reading, '"');
}

/* ------------------------------------------------------- logical types */

static bool
write_decimal(Reading *reading, int64 length, int scale)
{
	char		text[LH_AVRO_DECIMAL_TEXT_SIZE];

	if (!has_bytes(reading, length))
		return fail_short(reading);
	if (length == 0)
		return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "a decimal has no bytes");
	if (length > LH_AVRO_DECIMAL_BYTES_MAX)
		return fail(reading, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a decimal has more than 512 bytes");
	reading->p += length;
	return put(reading, text, lh_avro_decimal_text(reading->p - length, (int) length, scale, text));
}

/*
 * Writes a date or a time.
 */
static bool
write_time(Reading *reading, const LhAvroNode *node)
{
	char		text[LH_AVRO_TEXT_SIZE];
	int64		value;
	int32		small;
	int			length;

	if (node->kind == LH_AVRO_DATE || node->kind == LH_AVRO_TIME_INT)
	{
		if (!read_int(reading, &small))
			return false;
		value = small;
	}
	else if (!read_long(reading, &value))
		return false;
	if (node->kind == LH_AVRO_DATE)
		length = lh_avro_date_text((int32) value, text);
	else if (node->kind == LH_AVRO_TIME_INT || node->kind == LH_AVRO_TIME_LONG)
		length = lh_avro_time_text(value, node->scale, text);
	else
		length = lh_avro_timestamp_text(value, node->scale, node->kind == LH_AVRO_LOCAL_TIMESTAMP, text);
	if (length == 0)
		return fail(reading, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, "a date or time is out of range");
	return put_quoted(reading, text, length);
}

/*
 * Writes a fixed that has a text of its own.
 */
static bool
write_special_fixed(Reading *reading, const LhAvroNode *node)
{
	char		text[LH_AVRO_TEXT_SIZE];
	bool		is_uuid = node->kind == LH_AVRO_UUID;
	int			size = is_uuid ? 16 : 12;

	if (!has_bytes(reading, size))
		return fail_short(reading);
	reading->p += size;
	return put_quoted(reading, text, is_uuid ? lh_avro_uuid_text(reading->p - size, text)
					  : lh_avro_duration_text(reading->p - size, text));
}

/* ------------------------------------------------------- complex types */

static bool
write_enum(Reading *reading, const LhAvroNode *node)
{
	int64		index;

	if (!read_long(reading, &index))
		return false;
	if (index < 0 || index >= node->count)
		return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "an enum has no such symbol");
	return put(reading, node->texts[index].data, node->texts[index].length);
}

static bool
write_union(Reading *reading, const LhAvroNode *node)
{
	int64		index;

	if (!read_long(reading, &index))
		return false;
	if (index < 0 || index >= node->count)
		return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "a union has no such branch");
	return write_value(reading, node->children[index]);
}

/*
 * Reads how many elements come; 0 = there are no more.  What cannot be there is
 * refused at once, unless elements take no bytes.
 */
static bool
read_block(Reading *reading, int least, int64 *count)
{
	int64		size;

	if (!read_long(reading, count))
		return false;
	if (*count < 0)
	{
		/* the bytes of the block follow, for who wants to pass over it */
		if (!read_length(reading, &size))
			return false;
		if (*count == PG_INT64_MIN)
			return fail(reading, ERRCODE_INVALID_BINARY_REPRESENTATION, "a block has too many elements");
		*count = -*count;
	}
	if (least > 0 && *count > (reading->end - reading->p) / least)
		return fail_short(reading);
	return true;
}

/*
 * Writes the elements of an array or a map.
 */
static bool
write_collection(Reading *reading, const LhAvroNode *node)
{
	bool		is_map = node->kind == LH_AVRO_MAP;
	const LhAvroNode *element = node->children[0];
	int64		written = 0;
	int64		count;

	if (!put_char(reading, is_map ? '{' : '['))
		return false;
	for (;;)
	{
		if (!read_block(reading, element->least + is_map, &count))
			return false;
		if (count == 0)
			break;
		for (int64 i = 0; i < count; i++, written++)
		{
			if ((written & 1023) == 1023)
				CHECK_FOR_INTERRUPTS();
			if (written > 0 && !put_char(reading, ','))
				return false;
			if (is_map && !(write_string(reading) && put_char(reading, ':')))
				return false;
			if (!write_value(reading, element))
				return false;
		}
	}
	return put_char(reading, is_map ? '}' : ']');
}

static bool
write_record(Reading *reading, const LhAvroNode *node)
{
	if (!put_char(reading, '{'))
		return false;
	for (int i = 0; i < node->count; i++)
	{
		if (i > 0 && !put_char(reading, ','))
			return false;
		if (!put(reading, node->texts[i].data, node->texts[i].length) ||
			!write_value(reading, node->children[i]))
		{
			if (reading->trail_count < TRAIL_LENGTH)
				reading->trail[reading->trail_count++] = node->names[i];
			return false;
		}
	}
	return put_char(reading, '}');
}

/*
 * Writes what holds other values, as deep as that may be.
 */
static bool
write_nested(Reading *reading, const LhAvroNode *node)
{
	bool		good;

	if (reading->depth == MAX_DEPTH)
		return fail(reading, ERRCODE_STATEMENT_TOO_COMPLEX, "records, arrays and maps are nested too deep");
	reading->depth++;
	good = node->kind == LH_AVRO_RECORD ? write_record(reading, node) : write_collection(reading, node);
	reading->depth--;
	return good;
}

static bool
write_value(Reading *reading, const LhAvroNode *node)
{
	int64		number;
	int32		small;

	switch (node->kind)
	{
		case LH_AVRO_NULL:
			return put(reading, "null", 4);
		case LH_AVRO_BOOLEAN:
			return write_boolean(reading);
		case LH_AVRO_INT:
			return read_int(reading, &small) && write_number(reading, small);
		case LH_AVRO_LONG:
			return read_long(reading, &number) && write_number(reading, number);
		case LH_AVRO_FLOAT:
			return write_float(reading);
		case LH_AVRO_DOUBLE:
			return write_double(reading);
		case LH_AVRO_BYTES:
			return read_length(reading, &number) && write_bytes(reading, number);
		case LH_AVRO_STRING:
			return write_string(reading);
		case LH_AVRO_FIXED:
			return write_bytes(reading, node->size);
		case LH_AVRO_ENUM:
			return write_enum(reading, node);
		case LH_AVRO_UNION:
			return write_union(reading, node);
		case LH_AVRO_ARRAY:
		case LH_AVRO_MAP:
		case LH_AVRO_RECORD:
			return write_nested(reading, node);
		case LH_AVRO_DECIMAL_BYTES:
			return read_length(reading, &number) && write_decimal(reading, number, node->scale);
		case LH_AVRO_DECIMAL_FIXED:
			return write_decimal(reading, node->size, node->scale);
		case LH_AVRO_DATE:
		case LH_AVRO_TIME_INT:
		case LH_AVRO_TIME_LONG:
		case LH_AVRO_TIMESTAMP:
		case LH_AVRO_LOCAL_TIMESTAMP:
			return write_time(reading, node);
		case LH_AVRO_UUID:
		case LH_AVRO_DURATION:
			return write_special_fixed(reading, node);
	}
	return false;
}

/* -------------------------------------------------------------- public */

/*
 * Says where in the value something is wrong, and what.
 */
static bool
refuse_value(const Reading *reading, LhError *error)
{
	char		place[200];
	int			length = 0;

	if (reading->trail_count == 0)
		return lh_error_set(error, reading->sqlstate, "Avro value: %s", reading->message);
	for (int i = reading->trail_count - 1; i >= 0; i--)
	{
		const char *name = reading->trail[i];
		int			bytes = pg_mbcliplen(name, strlen(name), 30);

		length += snprintf(place + length, sizeof(place) - length, "%s%.*s",
						   length > 0 ? "." : "", bytes, name);
	}
	return lh_error_set(error, reading->sqlstate, "Avro value, field \"%s\": %s",
						place, reading->message);
}

bool
lh_avro_json_write(const LhAvroSchema *schema, const char *data, Size length, Size limit,
				   StringInfo json, LhError *error)
{
	Reading		reading = {.p = (const uint8 *) data, .end = (const uint8 *) data + length,
	.json = json, .limit = json->len + limit};

	if (!write_value(&reading, lh_avro_schema_root(schema)))
		return refuse_value(&reading, error);
	if (reading.p != reading.end)
		return lh_error_set(error, ERRCODE_INVALID_BINARY_REPRESENTATION,
							"Avro value: %zu bytes follow it", (Size) (reading.end - reading.p));
	return true;
}
