/*
 * guess.c
 *	  Which type all values seen of a field would fit.
 *
 * Invariant: a type is chosen only if every value seen converts to it and comes
 * back as what it was; only the notation of a number or a time may change, never
 * what it says.  So 007 is a text, and so is +49, and a number with more digits
 * than a float holds is numeric.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "convert/guess.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define FLOAT_DIGITS 15			/* that a double always keeps */
#define FLOAT_EXPONENT 290
#define NUMERIC_EXPONENT 1000

static const char *const class_names[] = {"boolean", "bigint", "double precision", "numeric",
"date", "timestamp with time zone", "text", "jsonb"};

const char *
lh_guess_class_name(LhGuessClass class)
{
	return class_names[class];
}

/* -------------------------------------------------------- fields by name */

static const char *const option_names[] = {
	"drop_field_if_all_null", "infer_timestamp", "prefer_date", "prefers_decimal",
	"primitives_as_string", LH_CONVERT_OPTION_NAMES, NULL
};
static const LhOptionAlias no_aliases[] = {{NULL, NULL}};

void
lh_guess_options_parse(Jsonb *json, LhGuessOptions *options)
{
	json = lh_options_canonical(json, option_names, no_aliases);
	lh_convert_options_parse(json, &options->convert);
	options->primitives_as_string = lh_options_bool(json, "primitives_as_string", false);
	options->prefers_decimal = lh_options_bool(json, "prefers_decimal", false);
	options->infer_timestamp = lh_options_bool(json, "infer_timestamp", true);
	options->prefer_date = lh_options_bool(json, "prefer_date", true);
	options->drop_all_null = lh_options_bool(json, "drop_field_if_all_null", false);
}

void
lh_guess_options_check(Jsonb *json)
{
	LhGuessOptions options;

	lh_guess_options_parse(json, &options);
}

static void
init_converter(LhConverter *converter, Oid type, const LhGuessOptions *options)
{
	FormData_pg_attribute attribute;

	memset(&attribute, 0, sizeof(attribute));
	attribute.atttypid = type;
	attribute.atttypmod = -1;
	lh_converter_init(converter, &attribute, CurrentMemoryContext);
	lh_converter_adapt(converter, &options->convert, CurrentMemoryContext);
}

LhGuesses *
lh_guesses_create(const LhGuessOptions *options)
{
	LhGuesses  *guesses = palloc0(sizeof(LhGuesses));

	guesses->context = CurrentMemoryContext;
	guesses->mask = 63;
	guesses->table = palloc0(sizeof(int) * 64);
	guesses->options = options;
	init_converter(&guesses->date, DATEOID, options);
	init_converter(&guesses->timestamptz, TIMESTAMPTZOID, options);
	return guesses;
}

static uint32
hash_name(const char *name, int length)
{
	uint32		hash = 0;

	for (int i = 0; i < length; i++)
		hash = hash * 31 + (uint32) pg_ascii_tolower((unsigned char) name[i]);
	return hash_bytes_uint32(hash);
}

static void
enter(LhGuesses *guesses, int item)
{
	uint32		slot = hash_name(guesses->items[item].name, guesses->items[item].name_length);

	for (slot &= guesses->mask; guesses->table[slot] != 0; slot = (slot + 1) & guesses->mask)
		;
	guesses->table[slot] = item + 1;
}

static LhGuess *
add_item(LhGuesses *guesses, const char *name, int length)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(guesses->context);
	LhGuess    *item;

	if (guesses->count == guesses->allocated)
	{
		guesses->allocated = Max(guesses->allocated * 2, 16);
		guesses->items = guesses->items == NULL ?
			palloc(sizeof(LhGuess) * guesses->allocated) :
			repalloc(guesses->items, sizeof(LhGuess) * guesses->allocated);
	}
	item = &guesses->items[guesses->count++];
	memset(item, 0, sizeof(*item));
	item->name = pnstrdup(name, length);
	item->name_length = length;
	if ((uint32) guesses->count * 2 > guesses->mask)
	{
		guesses->mask = guesses->mask * 2 + 1;
		pfree(guesses->table);
		guesses->table = palloc0(sizeof(int) * (guesses->mask + 1));
		for (int i = 0; i < guesses->count - 1; i++)
			enter(guesses, i);
	}
	enter(guesses, guesses->count - 1);
	MemoryContextSwitchTo(oldcontext);
	return item;
}

LhGuess *
lh_guesses_find(LhGuesses *guesses, const char *name, int length, bool add)
{
	uint32		slot = hash_name(name, length) & guesses->mask;

	for (; guesses->table[slot] != 0; slot = (slot + 1) & guesses->mask)
	{
		LhGuess    *item = &guesses->items[guesses->table[slot] - 1];

		if (item->name_length == length && pg_strncasecmp(item->name, name, length) == 0)
			return item;
	}
	return add ? add_item(guesses, name, length) : NULL;
}

/* ------------------------------------------------------------ one value */

/* Passes over digits; returns how many. */
static int
digits(const char **p, const char *end)
{
	const char *start = *p;

	while (*p < end && **p >= '0' && **p <= '9')
		(*p)++;
	return *p - start;
}

/*
 * Recognizes numbers; *wide tells of an integer that a float does not hold.
 */
static bool
is_number(const char *p, const char *end, LhGuessClass *class, bool *wide)
{
	bool		negative = p < end && *p == '-';
	const char *start = p + negative;
	int			count;
	int			exponent = 0;
	bool		whole = true;

	p = start;
	count = digits(&p, end);
	if (count == 0 || (count > 1 && *start == '0'))
		return false;
	if (p < end && *p == '.')
	{
		int			fraction;

		p++;
		fraction = digits(&p, end);
		if (fraction == 0)
			return false;
		count += fraction;
		whole = false;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		const char *first;

		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		first = p;
		if (digits(&p, end) == 0 || p - first > 4)
			return false;
		while (first < p)
			exponent = exponent * 10 + (*first++ - '0');
		whole = false;
	}
	if (p != end || exponent > NUMERIC_EXPONENT || count > 1000)
		return false;

	*wide = whole && count > FLOAT_DIGITS;
	/* minus zero is no integer */
	if (whole && (count < 19 || (count == 19 && memcmp(start, "9223372036854775807", 19) <= 0)) &&
		!(negative && *start == '0'))
		*class = LH_GUESS_BIGINT;
	else
		*class = count <= FLOAT_DIGITS && exponent <= FLOAT_EXPONENT ?
			LH_GUESS_DOUBLE : LH_GUESS_NUMERIC;
	return true;
}

/*
 * Compares with a pattern in which 0 stands for any digit; returns what follows,
 * or NULL.
 */
static const char *
match(const char *p, const char *end, const char *pattern)
{
	for (; *pattern != '\0'; pattern++, p++)
		if (p >= end || (*pattern == '0' ? *p < '0' || *p > '9' : *p != *pattern))
			return NULL;
	return p;
}

/*
 * Passes over an offset from UTC, if there is one.
 */
static const char *
match_zone(const char *p, const char *end)
{
	const char *next;

	if (p < end && *p == 'Z')
		return p + 1;
	if (p < end && *p == ' ')
		p++;
	if (p == end || (*p != '+' && *p != '-'))
		return p;
	p++;
	if ((next = match(p, end, "00:00")) != NULL || (next = match(p, end, "0000")) != NULL)
		return next;
	next = match(p, end, "00");
	return next != NULL ? next : p;
}

static bool
converts(LhConverter *converter, const char *text, int length)
{
	LhError		error;
	Datum		value;

	return lh_convert(converter, text, length, &value, &error);
}

/*
 * Recognizes times in ISO 8601.
 */
static bool
is_iso_time(LhGuesses *guesses, const char *text, int length, LhGuessClass *class)
{
	const char *end = text + length;
	const char *p = match(text, end, "0000-00-00");
	const char *fraction;

	if (p == NULL)
		return false;
	*class = p == end ? LH_GUESS_DATE : LH_GUESS_TIMESTAMPTZ;
	if (p == end)
		return converts(&guesses->date, text, length);
	if (*p != ' ' && *p != 'T')
		return false;
	p = match(p + 1, end, "00:00");
	if (p == NULL)
		return false;
	if (p < end && *p == ':')
	{
		p = match(p, end, ":00");
		if (p == NULL)
			return false;
		if (p < end && *p == '.')
		{
			fraction = ++p;
			/* finer than a microsecond is more than a timestamp holds */
			if (digits(&p, end) == 0 || p - fraction > 6)
				return false;
		}
	}
	return match_zone(p, end) == end &&
		converts(&guesses->timestamptz, text, length);
}

/*
 * Recognizes times in the notation that the user told, or else in ISO 8601.
 */
static bool
is_time(LhGuesses *guesses, const char *text, int length, LhGuessClass *class)
{
	const LhConvertOptions *convert = &guesses->options->convert;
	bool		iso = is_iso_time(guesses, text, length, class);

	if (convert->date != NULL && converts(&guesses->date, text, length))
	{
		*class = LH_GUESS_DATE;
		iso = true;
	}
	else if (convert->timestamp != NULL && converts(&guesses->timestamptz, text, length))
	{
		*class = LH_GUESS_TIMESTAMPTZ;
		iso = true;
	}
	else if (iso && (*class == LH_GUESS_DATE ? convert->date : convert->timestamp) != NULL)
		return false;
	if (iso && *class == LH_GUESS_DATE && !guesses->options->prefer_date)
	{
		*class = LH_GUESS_TIMESTAMPTZ;
		return converts(&guesses->timestamptz, text, length);
	}
	return iso;
}

/*
 * Is the text one that stands for a number that is none?
 */
static bool
is_special_number(const LhConvertOptions *convert, const char *text, int length)
{
	const char *const texts[] = {convert->nan, convert->positive_inf, convert->negative_inf};

	for (int i = 0; i < lengthof(texts); i++)
		if (texts[i] != NULL && strlen(texts[i]) == length && memcmp(texts[i], text, length) == 0)
			return true;
	return false;
}

static LhGuessClass
class_of_text(LhGuesses *guesses, const char *text, int length, bool *wide)
{
	LhGuessClass class;

	if (is_special_number(&guesses->options->convert, text, length))
		return LH_GUESS_DOUBLE;

	if ((length == 4 && pg_strncasecmp(text, "true", 4) == 0) ||
		(length == 5 && pg_strncasecmp(text, "false", 5) == 0))
		return LH_GUESS_BOOLEAN;
	if (is_number(text, text + length, &class, wide) || is_time(guesses, text, length, &class))
		return class;
	return LH_GUESS_TEXT;
}

static LhGuessClass
class_of_json(LhGuesses *guesses, const char *text, int length, bool *wide)
{
	LhGuessClass class;

	if (guesses->options->primitives_as_string && text[0] != '{' && text[0] != '[')
		return LH_GUESS_TEXT;
	switch (text[0])
	{
		case '{':
		case '[':
			return LH_GUESS_JSONB;
		case 't':
		case 'f':
			return LH_GUESS_BOOLEAN;
		case '"':
			return length >= 2 && guesses->options->infer_timestamp && is_time(guesses, text + 1, length - 2, &class) ? class : LH_GUESS_TEXT;
		default:
			/* what no number type of ours holds stays as it is */
			return is_number(text, text + length, &class, wide) ? class : LH_GUESS_JSONB;
	}
}

/*
 * Is the JSON text an object or array with nothing in it?
 */
static bool
is_empty(const char *text, int length)
{
	if (length < 2 || (text[0] != '{' && text[0] != '['))
		return false;
	for (int i = 1; i < length - 1; i++)
		if (strchr(" \t\r\n", text[i]) == NULL || text[i] == '\0')
			return false;
	return true;
}

bool
lh_guess_has_value(const LhGuess *guess)
{
	return guess->values > guess->empty;
}

void
lh_guess_add(LhGuesses *guesses, LhGuess *guess, LhFieldKind kind,
			 const char *text, int length, int64 weight)
{
	LhGuessClass class;
	bool		wide = false;

	guess->seen += weight;
	if (kind == LH_FIELD_NULL)
		return;
	guess->values += weight;
	class = kind == LH_FIELD_JSON ? class_of_json(guesses, text, length, &wide) :
		class_of_text(guesses, text, length, &wide);
	if (class == LH_GUESS_DOUBLE && guesses->options->prefers_decimal)
		class = LH_GUESS_NUMERIC;
	if (class == LH_GUESS_JSONB && is_empty(text, length))
		guess->empty += weight;
	guess->wide |= wide;
	guess->counts[class] += weight;
	if (guess->examples[class] == NULL)
	{
		int			shown = length <= LH_GUESS_EXAMPLE ? length :
			pg_mbcliplen(text, length, LH_GUESS_EXAMPLE);

		guess->examples[class] = MemoryContextAlloc(guesses->context, shown + 1);
		memcpy(guess->examples[class], text, shown);
		guess->examples[class][shown] = '\0';
		if (guess->example == NULL)
			guess->example = guess->examples[class];
	}
}

/* ------------------------------------------------------------ all values */

LhGuessClass
lh_guess_class(const LhGuess *guess)
{
	uint32		seen = 0;

#define BIT(class) ((uint32) 1 << (class))
#define ONLY(classes) ((seen & ~(uint32) (classes)) == 0)

	for (int class = 0; class < LH_GUESS_CLASSES; class++)
		if (guess->counts[class] > 0)
			seen |= BIT(class);
	if (seen == 0)
		return LH_GUESS_TEXT;
	if (seen & BIT(LH_GUESS_JSONB))
		return LH_GUESS_JSONB;
	if (ONLY(BIT(LH_GUESS_BOOLEAN)))
		return LH_GUESS_BOOLEAN;
	if (ONLY(BIT(LH_GUESS_BIGINT)))
		return LH_GUESS_BIGINT;
	if (ONLY(BIT(LH_GUESS_BIGINT) | BIT(LH_GUESS_DOUBLE)) && !guess->wide)
		return LH_GUESS_DOUBLE;
	if (ONLY(BIT(LH_GUESS_BIGINT) | BIT(LH_GUESS_DOUBLE) | BIT(LH_GUESS_NUMERIC)))
		return LH_GUESS_NUMERIC;
	if (ONLY(BIT(LH_GUESS_DATE)))
		return LH_GUESS_DATE;
	if (ONLY(BIT(LH_GUESS_DATE) | BIT(LH_GUESS_TIMESTAMPTZ)))
		return LH_GUESS_TIMESTAMPTZ;
	return LH_GUESS_TEXT;
}
