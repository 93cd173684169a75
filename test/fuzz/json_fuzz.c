/*
 * json_fuzz.c
 *	  Fuzzes the JSON tokenizer and the reading of escapes, with libFuzzer.
 *
 * Beyond what the sanitizers see:
 *
 * - a text is taken exactly if a recogniser takes it that is written from the
 *   grammar of RFC 8259 (the functions with "plain" in their names, which share
 *   no code with the real one), whether its tokens are taken one by one or
 *   values are passed over;
 * - each byte belongs to one token, or is blank, comma or colon between two;
 * - blanks around a text change nothing, and no text that an object or array
 *   lacks its end of is taken;
 * - what a string stands for is never longer than it was written, is UTF-8 if
 *   that was, and survives being written with escapes again;
 * - a text that is JSON stays as it is when it is rewritten as JSON, whatever is
 *   allowed, and is as long as its brackets say; any text is, when it was
 *   rewritten, as long as was measured, and stays JSON if it is that now.
 */
#include "postgres.h"

#include "json/json_lax.h"
#include "json/json_scan.h"

/* those of the C library: nothing of PostgreSQL is linked */
#undef fprintf
#undef sprintf

static void
violate(const char *rule, long a, long b)
{
	fprintf(stderr, "rule broken: %s (%ld, %ld)\n", rule, a, b);
	abort();
}

/* --------------------------------------------------------- the plain one */

/* A place in the text; NULL once it was found not to be JSON. */
typedef struct Plain
{
	const char *p;
	const char *end;
	int			depth;
} Plain;

static bool
plain_at(const Plain *in, const char *set)
{
	return in->p != NULL && in->p < in->end && *in->p != '\0' && strchr(set, *in->p) != NULL;
}

static bool
plain_take(Plain *in, const char *set)
{
	if (plain_at(in, set))
	{
		in->p++;
		return true;
	}
	return false;
}

static void
plain_need(Plain *in, const char *set)
{
	if (in->p != NULL && !plain_take(in, set))
		in->p = NULL;
}

static void
plain_blanks(Plain *in)
{
	while (plain_take(in, " \t\r\n"))
		;
}

static void
plain_string(Plain *in)
{
	plain_need(in, "\"");
	while (in->p != NULL && !plain_take(in, "\""))
	{
		if (in->p == in->end || (unsigned char) *in->p < 0x20)
			in->p = NULL;
		else if (!plain_take(in, "\\"))
			in->p++;
		else if (plain_take(in, "u"))
			for (int i = 0; i < 4; i++)
				plain_need(in, "0123456789abcdefABCDEF");
		else
			plain_need(in, "\"\\/bfnrt");
	}
}

static void
plain_digits(Plain *in)
{
	plain_need(in, "0123456789");
	while (plain_take(in, "0123456789"))
		;
}

static void
plain_number(Plain *in)
{
	plain_take(in, "-");
	if (!plain_take(in, "0"))
		plain_digits(in);
	if (plain_take(in, "."))
		plain_digits(in);
	if (plain_take(in, "eE"))
	{
		plain_take(in, "+-");
		plain_digits(in);
	}
}

static void
plain_word(Plain *in, const char *word)
{
	for (; *word != '\0'; word++)
	{
		char		set[2] = {*word, '\0'};

		plain_need(in, set);
	}
}

static void plain_value(Plain *in);

static void
plain_list(Plain *in, bool object)
{
	const char *close = object ? "}" : "]";

	in->p++;
	if (++in->depth > LH_JSON_MAX_DEPTH)
		in->p = NULL;
	plain_blanks(in);
	if (plain_take(in, close))
	{
		in->depth--;
		return;
	}
	while (in->p != NULL)
	{
		plain_blanks(in);
		if (object)
		{
			plain_string(in);
			plain_blanks(in);
			plain_need(in, ":");
			plain_blanks(in);
		}
		plain_value(in);
		plain_blanks(in);
		if (plain_take(in, close))
			break;
		plain_need(in, ",");
	}
	in->depth--;
}

static void
plain_value(Plain *in)
{
	if (plain_at(in, "{"))
		plain_list(in, true);
	else if (plain_at(in, "["))
		plain_list(in, false);
	else if (plain_at(in, "\""))
		plain_string(in);
	else if (plain_at(in, "t"))
		plain_word(in, "true");
	else if (plain_at(in, "f"))
		plain_word(in, "false");
	else if (plain_at(in, "n"))
		plain_word(in, "null");
	else
		plain_number(in);
}

static bool
plain_is_json(const char *data, int length)
{
	Plain		in = {data, data + length, 0};

	plain_blanks(&in);
	plain_value(&in);
	plain_blanks(&in);
	return in.p == in.end;
}

/* --------------------------------------------------------------- escapes */

static bool
is_utf8(const char *text, int length)
{
	const unsigned char *p = (const unsigned char *) text;
	const unsigned char *end = p + length;

	while (p < end)
	{
		int			more = *p < 0x80 ? 0 : *p >= 0xC2 && *p <= 0xDF ? 1 :
			(*p & 0xF0) == 0xE0 ? 2 : *p >= 0xF0 && *p <= 0xF4 ? 3 : -1;

		if (more < 0 || end - p <= more)
			return false;
		if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) ||
			(*p == 0xF0 && p[1] < 0x90) || (*p == 0xF4 && p[1] > 0x8F))
			return false;
		for (p++; more > 0; more--, p++)
			if ((*p & 0xC0) != 0x80)
				return false;
	}
	return true;
}

/*
 * Writes UTF-8 with nothing but escapes.
 */
static int
escape_all(const char *text, int length, char *to)
{
	const unsigned char *p = (const unsigned char *) text;
	const unsigned char *end = p + length;
	char	   *start = to;

	while (p < end)
	{
		int			more = *p < 0x80 ? 0 : *p < 0xE0 ? 1 : *p < 0xF0 ? 2 : 3;
		uint32		c = more == 0 ? *p : *p & (0x3F >> more);

		for (p++; more > 0; more--, p++)
			c = c << 6 | (*p & 0x3F);
		if (c >= 0x10000)
		{
			to += sprintf(to, "\\u%04x", 0xD800 + ((c - 0x10000) >> 10));
			c = 0xDC00 + ((c - 0x10000) & 0x3FF);
		}
		to += sprintf(to, "\\u%04X", c);
	}
	return to - start;
}

static void
check_string(const LhJsonScan *scan)
{
	int			length = scan->length;
	char	   *to = malloc(length);
	int			written = -1;
	LhJsonFaultKind fault = lh_json_unescape(scan->text, length, NULL, to, &written);

	if (!scan->escaped && memchr(scan->text, '\\', length) != NULL)
		violate("a string that holds escapes says so", length, 0);
	if (fault == LH_JSON_FINE)
	{
		if (written > length || (!scan->escaped && written != length))
			violate("a string is not longer than it was written", written, length);
		if (!scan->escaped && memcmp(to, scan->text, length) != 0)
			violate("a string without escapes is what was written", written, length);
		if (is_utf8(scan->text, length))
		{
			char	   *again = malloc(length * 12 + 1);
			char	   *back;
			int			size;
			int			read = -1;

			if (!is_utf8(to, written))
				violate("a string stays UTF-8", written, length);
			size = escape_all(to, written, again);
			back = malloc(size);
			if (lh_json_unescape(again, size, NULL, back, &read) != LH_JSON_FINE ||
				read != written || memcmp(back, to, written) != 0)
				violate("a string survives being escaped", read, written);
			free(back);
			free(again);
		}
	}
	else if (fault != LH_JSON_NUL_ESCAPE && fault != LH_JSON_LONE_SURROGATE)
		violate("an escape has no other fault", fault, 0);
	free(to);
}

/* ---------------------------------------------------------------- tokens */

static void
check_between(const char *from, const char *to)
{
	for (; from < to; from++)
		if (*from == '\0' || strchr(" \t\r\n,:", *from) == NULL)
			violate("each byte belongs to one token", *from, 0);
}

/*
 * Takes the text token by token; true if it is JSON.
 */
static bool
take_tokens(const char *data, int length)
{
	LhJsonScan	scan;
	const char *behind = data;	/* the last token */
	LhJsonToken token;
	int			depth = 0;

	lh_json_begin(&scan, data, length);
	while ((token = lh_json_next(&scan)) != LH_JSON_FAULT && token != LH_JSON_END)
	{
		bool		opens = token == LH_JSON_OBJECT || token == LH_JSON_ARRAY;
		bool		closes = token == LH_JSON_OBJECT_END || token == LH_JSON_ARRAY_END;
		const char *first = closes ? scan.p - 1 : scan.token;

		if (first < behind || scan.p > scan.end || scan.p <= first)
			violate("tokens follow each other", first - data, scan.p - data);
		check_between(behind, first);
		depth += opens - closes;
		if (depth < 0 || depth != scan.depth)
			violate("what was opened is closed", depth, scan.depth);
		if (!opens && !closes)
		{
			if (scan.text < scan.start || scan.text + scan.length > scan.end)
				violate("a token's text lies in the text", scan.length, 0);
			if (token == LH_JSON_STRING || token == LH_JSON_KEY)
				check_string(&scan);
		}
		behind = token == LH_JSON_KEY ? scan.text + scan.length + 1 : scan.p;
	}
	if (scan.p < scan.start || scan.p > scan.end)
		violate("the scan stays in the text", scan.p - data, length);
	if (token == LH_JSON_FAULT)
	{
		if (scan.fault == LH_JSON_FINE || scan.message == NULL)
			violate("a fault has its reason", scan.fault, 0);
		return false;
	}
	check_between(behind, data + length);
	if (depth != 0)
		violate("what was opened is closed", depth, 0);
	return true;
}

/*
 * Passes over the values of the outermost object or array, as a reader does
 * with fields that nobody wants; true if the text is JSON.
 */
static bool
pass_values(const char *data, int length)
{
	LhJsonScan	scan;
	LhJsonToken token;

	lh_json_begin(&scan, data, length);
	token = lh_json_next(&scan);
	if (token == LH_JSON_OBJECT || token == LH_JSON_ARRAY)
	{
		LhJsonToken end = token == LH_JSON_OBJECT ? LH_JSON_OBJECT_END : LH_JSON_ARRAY_END;

		while ((token = lh_json_next(&scan)) != end)
		{
			const char *first = scan.token;

			if (token == LH_JSON_FAULT || (token != LH_JSON_KEY && !lh_json_pass(&scan, token)))
				return false;
			if (scan.depth != 1 || scan.token != first)
				violate("passing a value ends behind it", scan.depth, scan.token - first);
			if (token != LH_JSON_KEY && !plain_is_json(scan.token, scan.p - scan.token))
				violate("a passed value is JSON", scan.token - data, scan.p - data);
		}
	}
	else if (token == LH_JSON_FAULT)
		return false;
	return lh_json_next(&scan) == LH_JSON_END;
}

/* -------------------------------------------------------- lax notations */

static char *
rewrite(uint32 allowed, const char *data, int length, int *written)
{
	int			measured = lh_json_lax_rewrite(allowed, data, length, NULL);
	char	   *to = malloc(measured);

	*written = lh_json_lax_rewrite(allowed, data, length, to);
	if (*written != measured)
		violate("a text is as long as was measured", measured, *written);
	return to;
}

static void
check_lax(uint32 allowed, const char *data, int length, bool json)
{
	int			written;
	char	   *once = rewrite(allowed, data, length, &written);

	if (json && (written != length || memcmp(once, data, length) != 0))
		violate("a text that is JSON stays as it is", length, written);
	if (!json && plain_is_json(once, written))
	{
		int			again;
		char	   *twice = rewrite(allowed, once, written, &again);

		if (again != written || memcmp(twice, once, again) != 0)
			violate("a text that became JSON stays as it is", written, again);
		free(twice);
	}
	if (json && (data[0] == '{' || data[0] == '['))
	{
		int64		end = lh_json_lax_end(allowed, data, length);

		if (end <= 0 || end > length || !plain_is_json(data, end))
			violate("brackets tell where a value ends", end, length);
	}
	free(once);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	/* a copy without a byte to spare, so that a read beyond it is seen */
	char	   *data = malloc(size);
	bool		json;
	char	   *wide;

	memcpy(data, input, size);
	json = plain_is_json(data, size);
	if (take_tokens(data, size) != json)
		violate("a text is taken exactly if it is JSON", !json, json);
	if (pass_values(data, size) != json)
		violate("passing over values gives the same verdict", !json, json);

	check_lax(0x7f, data, size, json);
	check_lax(size & 0x7f, data, size, json);

	wide = malloc(size + 4);
	memcpy(wide, " \t", 2);
	memcpy(wide + 2, data, size);
	memcpy(wide + 2 + size, "\r\n", 2);
	if (take_tokens(wide, size + 4) != json)
		violate("blanks around a text change nothing", !json, json);
	free(wide);

	if (json && size > 0 && (data[size - 1] == '}' || data[size - 1] == ']'))
	{
		size_t		half = size / 2;
		char	   *part = malloc(size - 1);

		memcpy(part, data, size - 1);
		if (take_tokens(part, size - 1))
			violate("a text without its end is not taken", size - 1, 0);
		if (take_tokens(part, half) && plain_is_json(part, half) == false)
			violate("a part is taken exactly if it is JSON", half, 0);
		free(part);
	}
	free(data);
	return 0;
}
