/*
 * json_scan.c
 *	  A strict RFC 8259 pull tokenizer.
 *
 * Invariant: whatever is passed over was checked, also when the caller only
 * skips it: a text of which all tokens were taken is JSON.
 *
 * The bytes are to be valid in their encoding; any that contains ASCII as such
 * will do.  Escapes are checked for their form here, and for their meaning
 * (surrogates, NUL) only by lh_json_unescape, as the type json does.
 */
#include "postgres.h"

#include "convert/digits.h"
#include "json/json_scan.h"

#ifdef __SSE2__
#include <emmintrin.h>
#include "port/pg_bitutils.h"
#endif

/* What may come next. */
enum
{
	EXPECT_VALUE,
	EXPECT_FIRST_ELEMENT,		/* a value or ] */
	EXPECT_FIRST_KEY,			/* a key or } */
	EXPECT_KEY,
	EXPECT_SEPARATOR,			/* comma, or end of the object or array */
	EXPECT_END
};

void
lh_json_begin(LhJsonScan *scan, const char *data, int length)
{
	scan->start = scan->p = scan->token = scan->text = data;
	scan->end = data + length;
	scan->length = 0;
	scan->escaped = false;
	scan->depth = 0;
	scan->state = EXPECT_VALUE;
	scan->fault = LH_JSON_FINE;
	scan->message = NULL;
}

static pg_noinline LhJsonToken
fail(LhJsonScan *scan, const char *at, const char *message)
{
	scan->p = at;
	scan->fault = LH_JSON_BAD_SYNTAX;
	scan->message = message;
	return LH_JSON_FAULT;
}

static inline void
skip_blanks(LhJsonScan *scan)
{
	while (scan->p < scan->end &&
		   (*scan->p == ' ' || *scan->p == '\n' || *scan->p == '\r' || *scan->p == '\t'))
		scan->p++;
}

static inline bool
in_object(const LhJsonScan *scan)
{
	int			level = scan->depth - 1;

	return (scan->in_object[level >> 3] >> (level & 7)) & 1;
}

/*
 * Opens an object or array.
 */
static inline LhJsonToken
open_level(LhJsonScan *scan, bool object)
{
	int			level = scan->depth;

	if (level >= LH_JSON_MAX_DEPTH)
	{
		fail(scan, scan->p, "it is nested too deeply");
		scan->fault = LH_JSON_TOO_DEEP;
		return LH_JSON_FAULT;
	}
	scan->p++;
	scan->depth++;
	if (object)
		scan->in_object[level >> 3] |= 1 << (level & 7);
	else
		scan->in_object[level >> 3] &= ~(1 << (level & 7));
	scan->state = object ? EXPECT_FIRST_KEY : EXPECT_FIRST_ELEMENT;
	return object ? LH_JSON_OBJECT : LH_JSON_ARRAY;
}

static inline LhJsonToken
close_level(LhJsonScan *scan, bool object)
{
	scan->p++;
	scan->depth--;
	scan->state = scan->depth > 0 ? EXPECT_SEPARATOR : EXPECT_END;
	return object ? LH_JSON_OBJECT_END : LH_JSON_ARRAY_END;
}

static inline int
hex_value(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Returns the first byte from p on that ends a run of plain characters: a quote,
 * a backslash or a control character; or the end.
 */
static inline const char *
find_string_mark(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i backslash = _mm_set1_epi8('\\');
	const __m128i control = _mm_set1_epi8(0x1f);

	for (; end - p >= 16; p += 16)
	{
		__m128i		bytes = _mm_loadu_si128((const __m128i *) p);
		__m128i		hit = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote),
									   _mm_cmpeq_epi8(bytes, backslash));
		int			mask;

		/* unsigned bytes <= 0x1f */
		hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
		mask = _mm_movemask_epi8(hit);
		if (mask != 0)
			return p + pg_rightmost_one_pos32(mask);
	}
#endif
	while (p < end && *p != '"' && *p != '\\' && (unsigned char) *p > 0x1f)
		p++;
	return p;
}

/*
 * Passes over the string whose opening quote is the next byte; sets text.
 */
static inline bool
scan_string(LhJsonScan *scan)
{
	const char *p = scan->p + 1;

	scan->token = scan->p;
	scan->text = p;
	scan->escaped = false;
	for (;;)
	{
		p = find_string_mark(p, scan->end);
		if (p == scan->end)
		{
			fail(scan, p, "a string is not closed");
			return false;
		}
		if (*p == '"')
			break;
		if (*p != '\\')
		{
			fail(scan, p, "a control character in a string must be escaped");
			return false;
		}
		scan->escaped = true;
		p++;
		if (p < scan->end && *p == 'u')
		{
			int			i;

			for (i = 1; i <= 4; i++)
				if (p + i >= scan->end || hex_value(p[i]) < 0)
				{
					fail(scan, p, "\"\\u\" must be followed by four hexadecimal digits");
					return false;
				}
			p += 5;
		}
		else if (p < scan->end && *p != '\0' && strchr("\"\\/bfnrt", *p) != NULL)
			p++;
		else
		{
			fail(scan, p, "a string holds an escape that does not exist");
			return false;
		}
	}
	scan->length = p - scan->text;
	scan->p = p + 1;
	return true;
}

/*
 * Ends a value that is no object or array; [token, p) is its text.
 */
static inline LhJsonToken
finish_scalar(LhJsonScan *scan, LhJsonToken token)
{
	scan->state = scan->depth > 0 ? EXPECT_SEPARATOR : EXPECT_END;
	return token;
}

static inline const char *
pass_digits(const char *p, const char *end)
{
#ifdef LH_DIGITS_EIGHT
	while (end - p >= 8 && lh_digits_are(lh_digits_load(p)))
		p += 8;
#endif
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/*
 * Passes over a number: -digits.digitsE+digits without leading zeros.
 */
static LhJsonToken
scan_number(LhJsonScan *scan)
{
	const char *p = scan->p;
	const char *digits;

	scan->token = scan->text = p;
	scan->escaped = false;
	if (*p == '-')
		p++;
	digits = p;
	p = pass_digits(p, scan->end);
	if (p == digits)
		return fail(scan, p, "a digit is missing");
	if (*digits == '0' && p - digits > 1)
		return fail(scan, digits, "a number begins with 0");
	if (p < scan->end && *p == '.')
	{
		digits = ++p;
		p = pass_digits(p, scan->end);
		if (p == digits)
			return fail(scan, p, "a digit is missing");
	}
	if (p < scan->end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < scan->end && (*p == '+' || *p == '-'))
			p++;
		digits = p;
		p = pass_digits(p, scan->end);
		if (p == digits)
			return fail(scan, p, "a digit is missing");
	}
	scan->length = p - scan->text;
	scan->p = p;
	return finish_scalar(scan, LH_JSON_NUMBER);
}

static LhJsonToken
scan_word(LhJsonScan *scan, const char *word, int length, LhJsonToken token)
{
	if (scan->end - scan->p < length || memcmp(scan->p, word, length) != 0)
		return fail(scan, scan->p, "a value was expected");
	scan->token = scan->text = scan->p;
	scan->length = length;
	scan->escaped = false;
	scan->p += length;
	return finish_scalar(scan, token);
}

static LhJsonToken
scan_value(LhJsonScan *scan)
{
	if (scan->p == scan->end)
		return fail(scan, scan->p, "a value was expected");
	scan->token = scan->p;
	switch (*scan->p)
	{
		case '"':
			return scan_string(scan) ? finish_scalar(scan, LH_JSON_STRING) : LH_JSON_FAULT;
		case '{':
			return open_level(scan, true);
		case '[':
			return open_level(scan, false);
		case 't':
			return scan_word(scan, "true", 4, LH_JSON_TRUE);
		case 'f':
			return scan_word(scan, "false", 5, LH_JSON_FALSE);
		case 'n':
			return scan_word(scan, "null", 4, LH_JSON_NULL);
		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			return scan_number(scan);
		default:
			return fail(scan, scan->p, "a value was expected");
	}
}

static LhJsonToken
scan_key(LhJsonScan *scan)
{
	if (scan->p == scan->end || *scan->p != '"')
		return fail(scan, scan->p, "a key in quotes was expected");
	if (!scan_string(scan))
		return LH_JSON_FAULT;
	skip_blanks(scan);
	if (scan->p == scan->end || *scan->p != ':')
		return fail(scan, scan->p, "\":\" was expected");
	scan->p++;
	scan->state = EXPECT_VALUE;
	return LH_JSON_KEY;
}

/*
 * lh_json_next gives the next token; after LH_JSON_FAULT and LH_JSON_END there
 * is none.
 */
LhJsonToken
lh_json_next(LhJsonScan *scan)
{
	skip_blanks(scan);
	switch (scan->state)
	{
		case EXPECT_VALUE:
			return scan_value(scan);
		case EXPECT_FIRST_ELEMENT:
			if (scan->p < scan->end && *scan->p == ']')
				return close_level(scan, false);
			return scan_value(scan);
		case EXPECT_FIRST_KEY:
			if (scan->p < scan->end && *scan->p == '}')
				return close_level(scan, true);
			return scan_key(scan);
		case EXPECT_KEY:
			return scan_key(scan);
		case EXPECT_END:
			if (scan->p == scan->end)
				return LH_JSON_END;
			return fail(scan, scan->p, "something follows the value");
		default:
			break;
	}

	/* a separator */
	if (scan->p < scan->end)
	{
		bool		object = in_object(scan);

		if (*scan->p == ',')
		{
			scan->p++;
			skip_blanks(scan);
			return object ? scan_key(scan) : scan_value(scan);
		}
		if (*scan->p == (object ? '}' : ']'))
			return close_level(scan, object);
	}
	return fail(scan, scan->p, in_object(scan) ? "\",\" or \"}\" was expected" :
				"\",\" or \"]\" was expected");
}

/*
 * Compares a few bytes, of which both sides have "length".
 */
static inline bool
same_bytes(const char *a, const char *b, int length)
{
	uint64		x,
				y;

	if (length < 8)
		return memcmp(a, b, length) == 0;
	for (int i = 0; i <= length - 8; i += 8)
	{
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x != y)
			return false;
	}
	/* the last ones, some of them once more */
	memcpy(&x, a + length - 8, 8);
	memcpy(&y, b + length - 8, 8);
	return x == y;
}

LhJsonFollowed
lh_json_follow(LhJsonScan *scan, const char *lead, int length)
{
	const char *p = scan->p;

	if (scan->end - p <= length || !same_bytes(p, lead, length))
		return LH_JSON_ELSEWHERE;
	scan->p = p += length;
	if (*p == '"' ? scan_string(scan) && !scan->escaped :
		((*p >= '0' && *p <= '9') || *p == '-') && scan_number(scan) == LH_JSON_NUMBER)
	{
		scan->state = EXPECT_SEPARATOR;
		return LH_JSON_PLAIN;
	}
	/* what is wrong with it is found again */
	scan->p = p;
	scan->fault = LH_JSON_FINE;
	scan->state = EXPECT_VALUE;
	return LH_JSON_AT_VALUE;
}

bool
lh_json_leave(LhJsonScan *scan, int depth)
{
	while (scan->depth > depth)
		if (lh_json_next(scan) == LH_JSON_FAULT)
			return false;
	return true;
}

bool
lh_json_pass(LhJsonScan *scan, LhJsonToken first)
{
	const char *token = scan->token;

	if (first == LH_JSON_FAULT)
		return false;
	if ((first == LH_JSON_OBJECT || first == LH_JSON_ARRAY) &&
		!lh_json_leave(scan, scan->depth - 1))
		return false;
	scan->token = token;
	return true;
}

/* ------------------------------------------------------------- escapes */

static uint32
hex4(const char *p)
{
	return hex_value(p[0]) << 12 | hex_value(p[1]) << 8 | hex_value(p[2]) << 4 | hex_value(p[3]);
}

static int
encode_utf8(uint32 c, char *to)
{
	if (c < 0x80)
	{
		to[0] = c;
		return 1;
	}
	if (c < 0x800)
	{
		to[0] = 0xC0 | (c >> 6);
		to[1] = 0x80 | (c & 0x3F);
		return 2;
	}
	if (c < 0x10000)
	{
		to[0] = 0xE0 | (c >> 12);
		to[1] = 0x80 | ((c >> 6) & 0x3F);
		to[2] = 0x80 | (c & 0x3F);
		return 3;
	}
	to[0] = 0xF0 | (c >> 18);
	to[1] = 0x80 | ((c >> 12) & 0x3F);
	to[2] = 0x80 | ((c >> 6) & 0x3F);
	to[3] = 0x80 | (c & 0x3F);
	return 4;
}

/*
 * Reads the character of \uXXXX at *p (behind the u), and of the second half of
 * a surrogate pair behind it.  Moves *p behind what was read.
 */
static LhJsonFaultKind
read_unicode(const char **p, const char *end, uint32 *character)
{
	uint32		c = hex4(*p);

	*p += 4;
	if (c == 0)
		return LH_JSON_NUL_ESCAPE;
	if (c >= 0xDC00 && c <= 0xDFFF)
		return LH_JSON_LONE_SURROGATE;
	if (c >= 0xD800 && c <= 0xDBFF)
	{
		uint32		low;

		if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
			return LH_JSON_LONE_SURROGATE;
		low = hex4(*p + 2);
		if (low < 0xDC00 || low > 0xDFFF)
			return LH_JSON_LONE_SURROGATE;
		*p += 6;
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	}
	*character = c;
	return LH_JSON_FINE;
}

LhJsonFaultKind
lh_json_unescape(const char *text, int length, LhJsonEncode encode, char *to, int *written)
{
	const char *p = text;
	const char *end = text + length;
	char	   *start = to;

	while (p < end)
	{
		const char *mark = memchr(p, '\\', end - p);
		int			plain = (mark != NULL ? mark : end) - p;
		uint32		c;
		LhJsonFaultKind fault;
		int			bytes;

		memcpy(to, p, plain);
		to += plain;
		if (mark == NULL)
			break;
		p = mark + 2;
		switch (mark[1])
		{
			case 'b':
				*to++ = '\b';
				continue;
			case 'f':
				*to++ = '\f';
				continue;
			case 'n':
				*to++ = '\n';
				continue;
			case 'r':
				*to++ = '\r';
				continue;
			case 't':
				*to++ = '\t';
				continue;
			case 'u':
				break;
			default:
				*to++ = mark[1];
				continue;
		}
		if ((fault = read_unicode(&p, end, &c)) != LH_JSON_FINE)
			return fault;
		bytes = encode != NULL && c > 0x7F ? encode(c, to) : encode_utf8(c, to);
		if (bytes == 0)
			return LH_JSON_UNTRANSLATABLE;
		to += bytes;
	}
	*written = to - start;
	return LH_JSON_FINE;
}
