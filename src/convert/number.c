/*
 * number.c
 *	  Conversion to the integer types, the floating-point types and numeric.
 *
 * Each has a short way for the usual form of a number and a long way that
 * accepts what the server's input function accepts and gives the same bits.
 * Where the server's grammar is wider than that of version 15 (hexadecimal,
 * underscores), the long way is the server's own soft input.
 */
#include "postgres.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>

#include "compat.h"
#include "convert/convert_types.h"
#include "convert/digits.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/numeric.h"

/* numeric: digits before the point and scale that its format can hold */
#define NUMERIC_LEAD_LIMIT ((0x7FFF + 1) * 4)
#define NUMERIC_DSCALE_LIMIT 0x3FFF

typedef enum ParseResult
{
	PARSE_OK,
	PARSE_SYNTAX,
	PARSE_RANGE
} ParseResult;

/* ------------------------------------------------------------- integers */

/*
 * The short way: up to 18 digits with an optional minus sign and nothing else.
 */
static inline bool
parse_digits(const char *p, int length, int64 *result)
{
	const char *end = p + length;
	int64		value = 0;
	bool		negative = length > 0 && *p == '-';

	p += negative;
	if (p == end || end - p > 18)
		return false;
	do
	{
		unsigned int digit = (unsigned char) *p - '0';

		if (digit > 9)
			return false;
		value = value * 10 + digit;
	} while (++p < end);
	*result = negative ? -value : value;
	return true;
}

#ifndef LH_SOFT_INPUT

/*
 * Reads an integer with sign and surrounding space, in the order of checks of
 * the server, so that "99999999999x" is out of range and not bad syntax.
 */
static ParseResult
parse_integer(const char *p, const char *end, int64 minimum, int64 maximum, int64 *result)
{
	uint64		limit;
	uint64		value = 0;
	bool		negative = false;

	while (p < end && isspace((unsigned char) *p))
		p++;
	if (p < end && (*p == '-' || *p == '+'))
		negative = *p++ == '-';
	if (p == end || !isdigit((unsigned char) *p))
		return PARSE_SYNTAX;
	limit = negative ? -(uint64) minimum : (uint64) maximum;
	for (; p < end && isdigit((unsigned char) *p); p++)
	{
		uint64		digit = *p - '0';

		if (value > (limit - digit) / 10)
			return PARSE_RANGE;
		value = value * 10 + digit;
	}
	while (p < end && isspace((unsigned char) *p))
		p++;
	if (p != end)
		return PARSE_SYNTAX;
	*result = negative ? (int64) -value : (int64) value;
	return PARSE_OK;
}

static pg_noinline bool
convert_odd_integer(LhConverter *converter, const char *data, int length, Datum *value,
					LhError *error, int64 minimum, int64 maximum, const char *type,
					int64 *result)
{
	switch (parse_integer(data, data + length, minimum, maximum, result))
	{
		case PARSE_OK:
			return true;
		case PARSE_RANGE:
			return lh_error_set(error, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
								"value \"%s\" is out of range for type %s",
								lh_convert_excerpt(data, length), type);
		default:
			return lh_convert_refuse(error, ERRCODE_INVALID_TEXT_REPRESENTATION, type,
									 data, length);
	}
}

#define CONVERT_ODD_INTEGER(minimum, maximum, type) \
	do { \
		if (!convert_odd_integer(converter, data, length, value, error, \
								 minimum, maximum, type, &result)) \
			return false; \
	} while (0)

#else

/* the server's grammar is wider than the above: it judges what we refuse */
#define CONVERT_ODD_INTEGER(minimum, maximum, type) \
	return lh_convert_input(converter, data, length, value, error)

#endif

/*
 * Defines the conversion to one of the integer types.
 */
#define INTEGER_CONVERSION(name, minimum, maximum, type, make_datum) \
bool \
name(LhConverter *converter, const char *data, int length, Datum *value, LhError *error) \
{ \
	int64		result; \
 \
	if (!parse_digits(data, length, &result) || result < (minimum) || result > (maximum)) \
		CONVERT_ODD_INTEGER(minimum, maximum, type); \
	*value = make_datum(result); \
	return true; \
}

INTEGER_CONVERSION(lh_convert_int2, PG_INT16_MIN, PG_INT16_MAX, "smallint", Int16GetDatum)
INTEGER_CONVERSION(lh_convert_int4, PG_INT32_MIN, PG_INT32_MAX, "integer", Int32GetDatum)
INTEGER_CONVERSION(lh_convert_int8, PG_INT64_MIN, PG_INT64_MAX, "bigint", Int64GetDatum)

/* --------------------------------------------------------------- floats */

/* A decimal number as mantissa times a power of ten. */
typedef struct Decimal
{
	uint64		mantissa;		/* all digits, at most 19 */
	int			exponent;
	bool		negative;
} Decimal;

/*
 * Digits that are read one after the other.  Eight zeros, which the end of
 * numeric's output is full of, count only when another digit follows.
 */
typedef struct Digits
{
	uint64		value;
	int			count;			/* of digits in it */
	int			zeros;			/* behind them, not in it */
} Digits;

#define MOST_DIGITS 19			/* that value holds */

static inline bool
add_digits(Digits *digits, uint64 value, int count)
{
	static const uint64 powers[] = {
		UINT64CONST(1), UINT64CONST(10), UINT64CONST(100), UINT64CONST(1000), UINT64CONST(10000),
		UINT64CONST(100000), UINT64CONST(1000000), UINT64CONST(10000000), UINT64CONST(100000000),
		UINT64CONST(1000000000), UINT64CONST(10000000000), UINT64CONST(100000000000),
		UINT64CONST(1000000000000), UINT64CONST(10000000000000), UINT64CONST(100000000000000),
		UINT64CONST(1000000000000000), UINT64CONST(10000000000000000),
		UINT64CONST(100000000000000000), UINT64CONST(1000000000000000000),
		UINT64CONST(10000000000000000000)
	};

	count += digits->zeros;
	if (digits->count + count > MOST_DIGITS)
		return false;
	digits->value = digits->value * powers[count] + value;
	digits->count += count;
	digits->zeros = 0;
	return true;
}

/*
 * Reads the digits at p and returns the place behind them; NULL if they are too
 * many.
 */
static inline const char *
read_digits(const char *p, const char *end, Digits *digits)
{
	uint64		value = 0;
	const char *start;

#ifdef LH_DIGITS_EIGHT
	while (end - p >= 8)
	{
		uint64		eight = lh_digits_load(p);

		if (eight == UINT64CONST(0x3030303030303030))
			digits->zeros += 8;
		else if (!lh_digits_are(eight))
			break;
		else if (!add_digits(digits, lh_digits_value(eight), 8))
			return NULL;
		p += 8;
	}
#endif
	for (start = p; p < end && (unsigned char) (*p - '0') <= 9; p++)
		value = value * 10 + (*p - '0');
	/* zeros at the end of a fraction need not be there */
	if (p > start && !(value == 0 && digits->zeros > 0) && !add_digits(digits, value, p - start))
		return NULL;
	if (value == 0 && digits->zeros > 0)
		digits->zeros += p - start;
	return p;
}

/*
 * Reads [-]digits[.digits][e[sign]digits] with at most 19 digits that matter;
 * false for anything else, which is then judged the long way.
 */
static inline bool
parse_decimal(const char *p, int length, Decimal *decimal)
{
	const char *end = p + length;
	const char *start;
	Digits		digits = {0};
	int			before = 0;
	int64		written = 0;

	decimal->negative = length > 0 && *p == '-';
	p += decimal->negative;
	start = p;
	if ((p = read_digits(p, end, &digits)) == NULL)
		return false;
	/* those before the point all count */
	if (digits.zeros > 0 && !add_digits(&digits, 0, 0))
		return false;
	before = digits.count;
	if (p < end && *p == '.')
	{
		start++;
		if ((p = read_digits(p + 1, end, &digits)) == NULL)
			return false;
	}
	if (p == start)
		return false;
	if (p < end)
	{
		if ((*p | 0x20) != 'e')
			return false;
		p++;
		if (p < end && *p == '+')
			p++;
		if (end - p > 6 || !parse_digits(p, end - p, &written) || (p[-1] == '+' && *p == '-'))
			return false;
	}
	decimal->mantissa = digits.value;
	decimal->exponent = before - digits.count + (int) written;
	return true;
}

/*
 * May the number be computed from its digits: is the mantissa within the limit,
 * without zeros at the end of a fraction if need be, and the exponent, too?
 */
static inline bool
is_exact(Decimal *decimal, uint64 limit, int exponent)
{
	while (unlikely(decimal->mantissa > limit) && decimal->exponent < 0 && decimal->mantissa % 10 == 0)
	{
		decimal->mantissa /= 10;
		decimal->exponent++;
	}
	return decimal->mantissa <= limit && decimal->exponent >= -exponent && decimal->exponent <= exponent;
}

/* how the server calls strtod and strtof */
static ParseResult
parse_float(const char *text, bool single, double *result)
{
	static const struct
	{
		const char *name;
		double		value;
	}			specials[] = {
		{"NaN", NAN}, {"Infinity", INFINITY}, {"+Infinity", INFINITY}, {"-Infinity", -INFINITY},
		{"inf", INFINITY}, {"+inf", INFINITY}, {"-inf", -INFINITY}
	};
	char	   *end;
	int			code;

	while (isspace((unsigned char) *text))
		text++;
	if (*text == '\0')
		return PARSE_SYNTAX;
	errno = 0;
	*result = single ? (double) strtof(text, &end) : strtod(text, &end);
	code = errno;
	if (end == text || code != 0)
	{
		int			i;

		for (i = 0; i < lengthof(specials); i++)
			if (pg_strncasecmp(text, specials[i].name, strlen(specials[i].name)) == 0)
				break;
		if (i < lengthof(specials))
		{
			*result = specials[i].value;
			end = unconstify(char *, text) + strlen(specials[i].name);
		}
		else if (code != ERANGE)
			return PARSE_SYNTAX;
		else if (*result == 0.0 || isinf(*result))
			return PARSE_RANGE;
	}
	while (isspace((unsigned char) *end))
		end++;
	return *end == '\0' ? PARSE_OK : PARSE_SYNTAX;
}

static pg_noinline bool
convert_odd_float(const char *data, int length, bool single, double *result, LhError *error)
{
	const char *type = single ? "real" : "double precision";
	char		buffer[128];
	char	   *text = lh_convert_cstring(data, length, buffer, sizeof(buffer));
	ParseResult parsed = parse_float(text, single, result);

	if (text != buffer)
		pfree(text);
	switch (parsed)
	{
		case PARSE_OK:
			return true;
		case PARSE_RANGE:
			return lh_error_set(error, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
								"\"%s\" is out of range for type %s",
								lh_convert_excerpt(data, length), type);
		default:
			return lh_convert_refuse(error, ERRCODE_INVALID_TEXT_REPRESENTATION, type,
									 data, length);
	}
}

/*
 * Mantissas below 2^53 and powers of ten up to 10^22 are exact doubles, so one
 * multiplication or division rounds once, and correctly: the result has the
 * bits that strtod gives.  Likewise for float with 2^24 and 10^10.
 */
bool
lh_convert_float8(LhConverter *converter, const char *data, int length,
				  Datum *value, LhError *error)
{
	static const double powers[] = {
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
	};
	Decimal		decimal;
	double		result;

	if (parse_decimal(data, length, &decimal) && is_exact(&decimal, UINT64CONST(1) << 53, 22))
	{
		result = (double) decimal.mantissa;
		if (decimal.exponent < 0)
			result /= powers[-decimal.exponent];
		else
			result *= powers[decimal.exponent];
		if (decimal.negative)
			result = -result;
	}
	else if (!convert_odd_float(data, length, false, &result, error))
		return false;
	*value = Float8GetDatum(result);
	return true;
}

bool
lh_convert_float4(LhConverter *converter, const char *data, int length,
				  Datum *value, LhError *error)
{
	static const float powers[] = {
		1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f, 1e6f, 1e7f, 1e8f, 1e9f, 1e10f
	};
	Decimal		decimal;
	float		result;

	if (parse_decimal(data, length, &decimal) && is_exact(&decimal, 1 << 24, 10))
	{
		result = (float) decimal.mantissa;
		if (decimal.exponent < 0)
			result /= powers[-decimal.exponent];
		else
			result *= powers[decimal.exponent];
		if (decimal.negative)
			result = -result;
	}
	else
	{
		double		odd;

		if (!convert_odd_float(data, length, true, &odd, error))
			return false;
		result = (float) odd;
	}
	*value = Float4GetDatum(result);
	return true;
}

/* -------------------------------------------------------------- numeric */

/* What decides whether numeric can hold a number. */
typedef struct NumericShape
{
	int			lead;			/* the value is 0.d1d2... * 10^lead, d1 > 0 */
	int64		scale;			/* digits after the point, exponent applied */
	const char *first;			/* first digit that is not 0, or NULL */
	const char *end;			/* behind the last digit */
	bool		special;		/* NaN or infinity */
	bool		infinite;
} NumericShape;

static bool
is_word(const char *p, const char *end, const char *word)
{
	size_t		length = strlen(word);

	return end - p == (ptrdiff_t) length && pg_strncasecmp(p, word, length) == 0;
}

/*
 * Follows numeric_in: surrounding space, a sign, NaN or an infinity, or digits
 * with one point and an exponent.  Before 16 strtol read that, which passes over
 * space.
 */
static ParseResult
parse_numeric(const char *p, const char *end, NumericShape *shape)
{
	int64		before = 0,		/* digits before the point, from the first that
								 * is not 0; negative: zeros after the point */
				after = 0,
				exponent = 0;
	bool		point = false,
				sign;

	memset(shape, 0, sizeof(*shape));
	while (p < end && isspace((unsigned char) *p))
		p++;
	while (p < end && isspace((unsigned char) end[-1]))
		end--;
	if (p < end && (*p | 0x20) == 'n' && is_word(p, end, "NaN"))
	{
		shape->special = true;
		return PARSE_OK;
	}
	sign = p < end && (*p == '+' || *p == '-');
	p += sign;
	if (p < end && (*p | 0x20) == 'i' &&
		(is_word(p, end, "Infinity") || is_word(p, end, "inf")))
	{
		shape->special = shape->infinite = true;
		return PARSE_OK;
	}
	if (p < end && *p == '.')
	{
		point = true;
		p++;
	}
	if (p == end || !isdigit((unsigned char) *p))
		return PARSE_SYNTAX;
	for (; p < end; p++)
	{
		if (*p == '.' && !point)
		{
			point = true;
			continue;
		}
		if (!isdigit((unsigned char) *p))
			break;
		if (*p != '0' && shape->first == NULL)
			shape->first = p;
		after += point;
		if (shape->first != NULL)
			before += !point;
		else
			before -= point;
	}
	shape->end = p;
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		bool		negative = false;

		p++;
#ifndef LH_SOFT_INPUT
		while (p < end && isspace((unsigned char) *p))
			p++;
#endif
		if (p < end && (*p == '+' || *p == '-'))
			negative = *p++ == '-';
		if (p == end)
			return PARSE_SYNTAX;
		for (; p < end && isdigit((unsigned char) *p); p++)
			if (exponent < INT_MAX / 2)
				exponent = exponent * 10 + (*p - '0');
		if (exponent >= INT_MAX / 2)
			return PARSE_RANGE;
		if (negative)
			exponent = -exponent;
	}
	if (p != end)
		return PARSE_SYNTAX;
	shape->scale = Max(0, after - exponent);
	shape->lead = (int) (before + exponent);
	return PARSE_OK;
}

/*
 * Would rounding to "kept" digits carry into a new leading digit?
 */
static bool
carries(const NumericShape *shape, int kept)
{
	const char *p;

	for (p = shape->first; p < shape->end; p++)
	{
		if (*p == '.')
			continue;
		if (kept-- == 0)
			return *p >= '5';
		if (*p != '9')
			return false;
	}
	return false;
}

/*
 * Does the number fit the format of numeric, and the column's precision and
 * scale?  Afterwards numeric_in cannot raise.
 */
static bool
numeric_fits(const NumericShape *shape, int32 typmod)
{
	int			precision,
				scale;

	if (typmod < (int32) VARHDRSZ)
		return shape->special ||
			(shape->scale <= NUMERIC_DSCALE_LIMIT &&
			 (shape->first == NULL || shape->lead <= NUMERIC_LEAD_LIMIT));
	if (shape->special)
		return !shape->infinite;
	if (shape->first == NULL)
		return true;
	precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
	scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
	if (shape->lead != precision - scale)
		return shape->lead < precision - scale;
	return !carries(shape, precision);
}

/*
 * The short way: [-]digits[.digits] with at most 18 digits, no more of them
 * behind the point than the column keeps.  The server divides such an integer
 * by a power of ten without dividing.
 */
static inline bool
convert_short_numeric(const char *p, int length, int32 typmod, Datum *value)
{
	const char *end = p + length;
	bool		negative = length > 0 && *p == '-';
	int64		number = 0;
	int			digits = 0;
	int			scale = 0;
	bool		point = false;

	if (length > 20)
		return false;
	for (p += negative; p < end; p++)
	{
		unsigned int digit = (unsigned char) *p - '0';

		if (digit <= 9)
		{
			number = number * 10 + digit;
			digits++;
			scale += point;
		}
		else if (*p == '.' && !point && digits > 0)
			point = true;
		else
			return false;
	}
	if (digits == 0 || digits > 18)
		return false;
	if (typmod >= (int32) VARHDRSZ)
	{
		int			precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
		int			kept = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;

		if (scale > kept || digits - scale > precision - kept)
			return false;
		for (; scale < kept && digits < 18; scale++, digits++)
			number *= 10;
		if (scale < kept)
			return false;
	}
	*value = NumericGetDatum(int64_div_fast_to_numeric(negative ? -number : number, scale));
	return true;
}

bool
lh_convert_numeric(LhConverter *converter, const char *data, int length,
				   Datum *value, LhError *error)
{
	NumericShape shape;
	ParseResult parsed;
	char		buffer[128];
	char	   *text;

	if (convert_short_numeric(data, length, converter->typmod, value))
		return true;
	parsed = parse_numeric(data, data + length, &shape);
	if (parsed == PARSE_SYNTAX)
	{
#ifdef LH_SOFT_INPUT
		return lh_convert_input(converter, data, length, value, error);
#else
		return lh_convert_refuse(error, ERRCODE_INVALID_TEXT_REPRESENTATION, "numeric",
								 data, length);
#endif
	}
	if (parsed == PARSE_RANGE || !numeric_fits(&shape, converter->typmod))
		return lh_error_set(error, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
							"\"%s\" is out of range for type numeric",
							lh_convert_excerpt(data, length));
	text = lh_convert_cstring(data, length, buffer, sizeof(buffer));
	*value = DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
								 Int32GetDatum(converter->typmod));
	if (text != buffer)
		pfree(text);
	return true;
}
