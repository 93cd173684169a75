/*
 * json_lax.c
 *	  Notations beyond JSON that a user may allow.
 *
 * They are written anew as JSON, which the strict scanner then reads: so whatever
 * is stored was JSON, and without these options nothing is slower.
 *
 * Invariant: a text that is JSON stays as it is, byte by byte.
 */
#include "postgres.h"

#include "json/json_lax.h"

/* The text while it is rewritten. */
typedef struct Rewrite
{
	uint32		allowed;
	const char *p;
	const char *end;
	char	   *to;				/* NULL = only measure */
	int			length;			/* written */
} Rewrite;

static void
put(Rewrite *rewrite, const char *bytes, int length)
{
	if (rewrite->to != NULL)
		memcpy(rewrite->to + rewrite->length, bytes, length);
	rewrite->length += length;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' ||
		((unsigned char) c & 0x80) != 0;
}

static bool
is_word(char c)
{
	return is_letter(c) || is_digit(c) || c == '-';
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

int64
lh_json_lax_comment(uint32 allowed, const char *data, uint32 length)
{
	if ((allowed & LH_JSON_COMMENTS) == 0 || length == 0 || data[0] != '/')
		return 0;
	if (length == 1)
		return -1;
	if (data[1] == '/')
	{
		const char *mark = memchr(data, '\n', length);

		/* the line end is no part of it */
		return mark != NULL ? mark - data : -1;
	}
	if (data[1] != '*')
		return 0;
	for (uint32 i = 3; i < length; i++)
		if (data[i] == '/' && data[i - 1] == '*')
			return i + 1;
	return -1;
}

/*
 * Passes over blanks and comments; comments at the end need not be whole.
 */
static const char *
pass_blanks(uint32 allowed, const char *p, const char *end)
{
	while (p < end)
	{
		int64		comment = lh_json_lax_comment(allowed, p, end - p);

		if (comment < 0 && end - p > 1 && p[1] == '/')
			return end;
		if (comment > 0)
			p += comment;
		else if (is_blank(*p))
			p++;
		else
			break;
	}
	return p;
}

/*
 * Rewrites an escape, whose backslash is the next byte.
 */
static void
rewrite_escape(Rewrite *rewrite, char quote)
{
	char		c = rewrite->p + 1 < rewrite->end ? rewrite->p[1] : '\0';

	if (c == '\0' && rewrite->p + 1 == rewrite->end)
	{
		put(rewrite, rewrite->p++, 1);
		return;
	}
	if (c != '\0' && strchr("\"\\/bfnrtu", c) != NULL)
		put(rewrite, rewrite->p, 2);
	else if ((c == '\'' && quote == '\'') ||
			 ((rewrite->allowed & LH_JSON_ANY_ESCAPE) != 0 && (unsigned char) c >= 0x20))
		put(rewrite, rewrite->p + 1, 1);
	else
	{
		/* a control character is looked at by itself */
		put(rewrite, rewrite->p++, 1);
		return;
	}
	rewrite->p += 2;
}

/*
 * Rewrites a string, whose opening quote is the next byte.
 */
static void
rewrite_string(Rewrite *rewrite)
{
	static const char hex[] = "0123456789abcdef";
	char		quote = *rewrite->p++;

	put(rewrite, "\"", 1);
	while (rewrite->p < rewrite->end && *rewrite->p != quote)
	{
		unsigned char c = *rewrite->p;

		if (c == '\\')
		{
			rewrite_escape(rewrite, quote);
			continue;
		}
		if (c == '"')
			put(rewrite, "\\\"", 2);
		else if (c < 0x20 && (rewrite->allowed & LH_JSON_CONTROLS) != 0)
		{
			char		escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

			put(rewrite, escape, 6);
		}
		else
			put(rewrite, rewrite->p, 1);
		rewrite->p++;
	}
	if (rewrite->p < rewrite->end)
	{
		rewrite->p++;
		put(rewrite, "\"", 1);
	}
}

/*
 * Recognizes a number that is none; NULL if it is none of these.
 */
static const char *
non_number(const char *p, int length)
{
	static const char *const names[] = {"NaN", "Infinity", "INF", "+Infinity", "+INF",
	"-Infinity", "-INF"};

	for (int i = 0; i < lengthof(names); i++)
		if (strlen(names[i]) == length && memcmp(p, names[i], length) == 0)
			return i == 0 ? "\"NaN\"" : i < 5 ? "\"Infinity\"" : "\"-Infinity\"";
	return NULL;
}

/*
 * Rewrites a word: a key, a value, or nonsense.
 */
static void
rewrite_word(Rewrite *rewrite)
{
	const char *start = rewrite->p++;
	const char *behind;
	const char *usual;

	while (rewrite->p < rewrite->end && is_word(*rewrite->p))
		rewrite->p++;
	behind = pass_blanks(rewrite->allowed, rewrite->p, rewrite->end);
	if ((rewrite->allowed & LH_JSON_BARE_KEYS) != 0 && is_letter(*start) &&
		behind < rewrite->end && *behind == ':')
	{
		put(rewrite, "\"", 1);
		put(rewrite, start, rewrite->p - start);
		put(rewrite, "\"", 1);
		return;
	}
	usual = (rewrite->allowed & LH_JSON_NON_NUMBERS) != 0 ?
		non_number(start, rewrite->p - start) : NULL;
	if (usual != NULL)
		put(rewrite, usual, strlen(usual));
	else
		put(rewrite, start, rewrite->p - start);
}

/*
 * Rewrites a number without its leading zeros.
 */
static void
rewrite_number(Rewrite *rewrite)
{
	if (*rewrite->p == '-')
		put(rewrite, rewrite->p++, 1);
	while ((rewrite->allowed & LH_JSON_LEADING_ZEROS) != 0 && rewrite->p + 1 < rewrite->end &&
		   *rewrite->p == '0' && is_digit(rewrite->p[1]))
		rewrite->p++;
	while (rewrite->p < rewrite->end &&
		   (is_digit(*rewrite->p) || (*rewrite->p != '\0' && strchr(".eE+-", *rewrite->p) != NULL)))
		put(rewrite, rewrite->p++, 1);
}

int
lh_json_lax_rewrite(uint32 allowed, const char *data, int length, char *to)
{
	Rewrite		rewrite = {.allowed = allowed, .p = data, .end = data + length, .to = to};

	while (rewrite.p < rewrite.end)
	{
		char		c = *rewrite.p;

		if (c == '"' || (c == '\'' && (allowed & LH_JSON_SINGLE_QUOTES) != 0))
			rewrite_string(&rewrite);
		else if (c == '/' && (allowed & LH_JSON_COMMENTS) != 0)
		{
			const char *behind = pass_blanks(allowed, rewrite.p, rewrite.end);

			/* one blank, so that nothing grows together */
			put(&rewrite, behind > rewrite.p ? " " : "/", 1);
			rewrite.p = Max(behind, rewrite.p + 1);
		}
		else if (is_letter(c) ||
				 ((c == '-' || c == '+') && rewrite.p + 1 < rewrite.end && is_letter(rewrite.p[1])))
			rewrite_word(&rewrite);
		else if (is_digit(c) || c == '-')
			rewrite_number(&rewrite);
		else
			put(&rewrite, rewrite.p++, 1);
	}
	return rewrite.length;
}

/*
 * Passes over a string; 0 = it is not closed, -1 = it holds a line end that it must
 * not hold.
 */
static int64
string_length(uint32 allowed, const char *data, uint32 length)
{
	for (uint32 i = 1; i < length; i++)
	{
		if (data[i] == data[0])
			return i + 1;
		if (data[i] == '\n' && (allowed & LH_JSON_CONTROLS) == 0)
			return -1;
		if (data[i] == '\\')
			i++;
	}
	return 0;
}

int64
lh_json_lax_end(uint32 allowed, const char *data, uint32 length)
{
	uint32		depth = 0;
	uint32		i = 0;

	while (i < length)
	{
		char		c = data[i];
		int64		passed = 1;

		if (c == '"' || (c == '\'' && (allowed & LH_JSON_SINGLE_QUOTES) != 0))
			passed = string_length(allowed, data + i, length - i);
		else if (c == '/')
		{
			passed = lh_json_lax_comment(allowed, data + i, length - i);
			if (passed < 0)
				return 0;
			passed = Max(passed, 1);
		}
		else if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && --depth == 0)
			return i + 1;
		if (passed <= 0)
			return passed;
		i += passed;
	}
	return 0;
}
