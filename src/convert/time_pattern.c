/*
 * time_pattern.c
 *	  Dates and times in a notation that the user describes with a pattern.
 *
 * A pattern is a list of steps, each of which takes bytes of the text.  A part in
 * brackets may be missing: where one of its steps fails, all of them are taken
 * back.
 *
 * Invariant: a text is taken only as a whole, and only if it is a time that
 * exists; nothing of what it says is ignored or made up, except that fields
 * which the pattern does not have begin at their lowest value.
 */
#include "postgres.h"

#include <math.h>

#include "convert/convert_types.h"
#include "convert/time_pattern.h"
#include "utils/datetime.h"

#define MAX_STEPS 64
#define MAX_NESTING 4

/* most letters of one kind in a row: digits of a fraction, of a year */
#define MAX_FRACTION 9
#define MAX_YEAR 6

/* what Java takes; the server's own limit is lower */
#define MAX_OFFSET_HOURS 18

typedef enum StepKind
{
	STEP_TEXT,
	STEP_YEAR,
	STEP_YEAR_OF_CENTURY,		/* 2000 to 2099 */
	STEP_MONTH,
	STEP_MONTH_NAME,
	STEP_DAY,
	STEP_DAY_OF_YEAR,
	STEP_WEEKDAY_NAME,
	STEP_HALF_OF_DAY,
	STEP_HOUR,					/* 0 to 23 */
	STEP_HOUR_FROM_1,			/* 1 to 24 */
	STEP_HOUR_OF_HALF,			/* 0 to 11 */
	STEP_HOUR_OF_HALF_FROM_1,	/* 1 to 12 */
	STEP_MINUTE,
	STEP_SECOND,
	STEP_FRACTION,
	STEP_OFFSET,
	STEP_ZONE,
	STEP_OPTION,				/* what follows may be missing, up to: */
	STEP_OPTION_END
} StepKind;

typedef struct Step
{
	StepKind	kind;
	char	   *text;			/* STEP_TEXT */
	int			length;
	int			minimum;		/* digits */
	int			maximum;
	int			reserved;		/* digits that belong to the steps behind this one */
	bool		full;			/* names are written out */
	char		letter;			/* STEP_OFFSET: its form */
	int			count;
	int			end;			/* STEP_OPTION: its end */
	bool		again;			/* another step may have told the same */
} Step;

struct LhTimePattern
{
	char	   *text;			/* as the user wrote it */
	int			count;
	Step		steps[MAX_STEPS];
	bool		has_day_of_year;
	bool		repeats;		/* a field may be told more than once */
};

/* What was read so far. */
typedef struct State
{
	const char *p;
	const char *end;
	int			year;
	int			month;
	int			day;
	int			day_of_year;
	int			weekday;		/* 0 = Sunday, -1 = not told */
	int			half;			/* 0 = AM, 1 = PM */
	int			hour;
	int			minute;
	int			second;
	fsec_t		fsec;
	bool		has_offset;
	int			offset;
	pg_tz	   *zone;
	char		told[16];		/* groups of letters, where one may be told again */
} State;

static const char *const month_names[] = {"January", "February", "March", "April", "May", "June",
	"July", "August", "September", "October", "November", "December", NULL};
static const char *const weekday_names[] = {"Sunday", "Monday", "Tuesday", "Wednesday",
	"Thursday", "Friday", "Saturday", NULL};

/* ---------------------------------------------------------- compilation */

/* One letter of patterns. */
typedef struct Letter
{
	char		letter;
	StepKind	kind;
	int			most;			/* letters in a row */
	int			digits;			/* that one letter alone takes at most; 0 = no number */
	char		group;			/* only one letter of a group may be there */
} Letter;

static const Letter letters[] = {
	{'y', STEP_YEAR, MAX_YEAR, MAX_YEAR, 'y'},
	{'M', STEP_MONTH, 4, 2, 'M'},
	{'L', STEP_MONTH, 4, 2, 'M'},
	{'d', STEP_DAY, 2, 2, 'd'},
	{'D', STEP_DAY_OF_YEAR, 3, 3, 'D'},
	{'E', STEP_WEEKDAY_NAME, 4, 0, 'E'},
	{'a', STEP_HALF_OF_DAY, 1, 0, 'a'},
	{'H', STEP_HOUR, 2, 2, 'H'},
	{'k', STEP_HOUR_FROM_1, 2, 2, 'H'},
	{'K', STEP_HOUR_OF_HALF, 2, 2, 'H'},
	{'h', STEP_HOUR_OF_HALF_FROM_1, 2, 2, 'H'},
	{'m', STEP_MINUTE, 2, 2, 'm'},
	{'s', STEP_SECOND, 2, 2, 's'},
	{'S', STEP_FRACTION, MAX_FRACTION, 0, 'S'},
	{'X', STEP_OFFSET, 5, 0, 'X'},
	{'x', STEP_OFFSET, 5, 0, 'X'},
	{'Z', STEP_OFFSET, 5, 0, 'X'},
	{'V', STEP_ZONE, 2, 0, 'X'}
};

static void
refuse_pattern(const char *option, const char *pattern, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", option),
			 errdetail("Pattern \"%s\": %s.", pattern, detail),
			 errhint("Patterns are like yyyy-MM-dd'T'HH:mm:ss[.SSSSSS][XXX]; letters are y M L d D E a H k K h m s S X x Z VV, quotes hold text, brackets what may be missing.")));
}

static Step *
add_step(LhTimePattern *pattern, StepKind kind, const char *option)
{
	Step	   *step;

	if (pattern->count == MAX_STEPS)
		refuse_pattern(option, pattern->text, "it has too many parts");
	step = &pattern->steps[pattern->count++];
	memset(step, 0, sizeof(Step));
	step->kind = kind;
	return step;
}

/*
 * Adds one byte of text; quotes and runs of it become one step.
 */
static void
add_text(LhTimePattern *pattern, char c, const char *option)
{
	Step	   *step = pattern->count > 0 ? &pattern->steps[pattern->count - 1] : NULL;

	if (step == NULL || step->kind != STEP_TEXT)
	{
		step = add_step(pattern, STEP_TEXT, option);
		step->text = palloc(strlen(pattern->text) + 1);
	}
	step->text[step->length++] = c;
}

/*
 * Passes over quoted text, whose opening quote is at p; returns the place behind it.
 */
static const char *
add_quoted(LhTimePattern *pattern, const char *p, const char *option)
{
	if (p[1] == '\'')
	{
		add_text(pattern, '\'', option);
		return p + 2;
	}
	for (p++; *p != '\0'; p++)
	{
		if (*p == '\'' && p[1] != '\'')
			return p + 1;
		if (*p == '\'')
			p++;
		add_text(pattern, *p, option);
	}
	refuse_pattern(option, pattern->text, "a quote is not closed");
	return p;
}

/*
 * Adds the step that "count" times the letter stand for.
 */
static void
add_letter(LhTimePattern *pattern, char c, int count, const char *option)
{
	const Letter *letter = NULL;
	Step	   *step;

	for (int i = 0; i < lengthof(letters); i++)
		if (letters[i].letter == c)
			letter = &letters[i];
	if (letter == NULL)
		refuse_pattern(option, pattern->text, psprintf("the letter \"%c\" is not known", c));
	if (count > letter->most || (c == 'Z' && count == 4) || (c == 'V' && count != 2))
		refuse_pattern(option, pattern->text,
					   psprintf("the letter \"%c\" cannot be there %d times in a row", c, count));
	step = add_step(pattern, letter->kind, option);
	step->letter = c;
	step->count = count;
	step->full = count == 4;
	step->minimum = count;
	step->maximum = count == 1 ? letter->digits : count;
	if (letter->kind == STEP_YEAR && count == 2)
		step->kind = STEP_YEAR_OF_CENTURY;
	else if (letter->kind == STEP_YEAR && count == 3)
		step->maximum = MAX_YEAR;
	else if (letter->kind == STEP_MONTH && count > 2)
		step->kind = STEP_MONTH_NAME;
	else if (letter->kind == STEP_FRACTION)
	{
		step->minimum = 1;
		step->maximum = count;
	}
	pattern->has_day_of_year |= step->kind == STEP_DAY_OF_YEAR;
}

static bool
is_number(const Step *step)
{
	return step->kind == STEP_YEAR || step->kind == STEP_YEAR_OF_CENTURY ||
		step->kind == STEP_MONTH || step->kind == STEP_DAY || step->kind == STEP_DAY_OF_YEAR ||
		(step->kind >= STEP_HOUR && step->kind <= STEP_SECOND);
}

/*
 * Numbers of a fixed length right behind one without keep their digits.
 */
static void
reserve_digits(LhTimePattern *pattern)
{
	for (int i = 0; i < pattern->count; i++)
	{
		Step	   *step = &pattern->steps[i];

		if (!is_number(step) || step->minimum == step->maximum)
			continue;
		for (int j = i + 1; j < pattern->count && is_number(&pattern->steps[j]) &&
			 pattern->steps[j].minimum == pattern->steps[j].maximum; j++)
			step->reserved += pattern->steps[j].maximum;
	}
}

static char
group_of(char letter)
{
	for (int i = 0; i < lengthof(letters); i++)
		if (letters[i].letter == letter)
			return letters[i].group;
	return '\0';
}

/*
 * A field that is always told twice, or a date without a year, has no one meaning.
 * What may be missing can stand for something else that may be.
 */
static void
check_fields(LhTimePattern *pattern, const char *option)
{
	char		groups[MAX_STEPS + 1];
	int			count = 0;
	int			depth = 0;

	for (int i = 0; i < pattern->count; i++)
	{
		Step	   *step = &pattern->steps[i];
		char		group = group_of(step->letter);

		depth += step->kind == STEP_OPTION;
		depth -= step->kind == STEP_OPTION_END;
		if (group == '\0')
			continue;
		step->again = memchr(groups, group, count) != NULL;
		pattern->repeats |= step->again;
		if (step->again && depth == 0)
			refuse_pattern(option, pattern->text,
						   psprintf("the letter \"%c\" tells something that another one tells too",
									step->letter));
		groups[count++] = group;
	}
	groups[count] = '\0';
	if (strchr(groups, 'y') == NULL)
		refuse_pattern(option, pattern->text, "it has no year");
	if (strchr(groups, 'D') != NULL && strpbrk(groups, "Md") != NULL)
		refuse_pattern(option, pattern->text, "it has a day of the year beside a month or a day");
	for (int i = 0; i < pattern->count; i++)
		if ((pattern->steps[i].kind == STEP_HOUR || pattern->steps[i].kind == STEP_HOUR_FROM_1) &&
			strchr(groups, 'a') != NULL)
			refuse_pattern(option, pattern->text, "it has an hour of the day beside AM or PM");
}

LhTimePattern *
lh_time_pattern_compile(const char *text, const char *option)
{
	LhTimePattern *pattern = palloc0(sizeof(LhTimePattern));
	int			open[MAX_NESTING];
	int			depth = 0;
	const char *p = text;

	pattern->text = pstrdup(text);
	while (*p != '\0')
	{
		if (*p == '\'')
			p = add_quoted(pattern, p, option);
		else if (*p == '[')
		{
			if (depth == MAX_NESTING)
				refuse_pattern(option, text, "brackets are nested too deeply");
			open[depth++] = pattern->count;
			(void) add_step(pattern, STEP_OPTION, option);
			p++;
		}
		else if (*p == ']')
		{
			if (depth == 0)
				refuse_pattern(option, text, "a bracket is closed that was not opened");
			pattern->steps[open[--depth]].end = pattern->count;
			(void) add_step(pattern, STEP_OPTION_END, option);
			p++;
		}
		else if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'))
		{
			int			count = 1;

			while (p[count] == *p)
				count++;
			add_letter(pattern, *p, count, option);
			p += count;
		}
		else if (strchr("#{}", *p) != NULL)
			refuse_pattern(option, text, psprintf("the character \"%c\" must be in quotes", *p));
		else
			add_text(pattern, *p++, option);
	}
	if (depth > 0)
		refuse_pattern(option, text, "a bracket is not closed");
	check_fields(pattern, option);
	reserve_digits(pattern);
	return pattern;
}

/* -------------------------------------------------------------- reading */

static int
count_digits(const State *state, int maximum)
{
	int			count = 0;

	while (count < maximum && state->p + count < state->end &&
		   state->p[count] >= '0' && state->p[count] <= '9')
		count++;
	return count;
}

static int
take_digits(State *state, int count)
{
	int			value = 0;

	while (count-- > 0)
		value = value * 10 + (*state->p++ - '0');
	return value;
}

/*
 * Takes exactly two digits.
 */
static bool
take_two(State *state, int *value)
{
	if (count_digits(state, 2) < 2)
		return false;
	*value = take_digits(state, 2);
	return true;
}

static bool
take_number(const Step *step, State *state, int *value)
{
	int			count = count_digits(state, step->maximum + step->reserved);

	if (step->reserved > 0)
		count = Max(count - step->reserved, Min(count, step->minimum));
	if (count < step->minimum || count > step->maximum)
		return false;
	*value = take_digits(state, count);
	return true;
}

/*
 * Takes a name, or its first three letters; without regard to case.
 */
static bool
take_name(const Step *step, State *state, const char *const *names, int *value)
{
	for (int i = 0; names[i] != NULL; i++)
	{
		int			length = step->full ? (int) strlen(names[i]) : 3;

		if (state->end - state->p >= length && pg_strncasecmp(state->p, names[i], length) == 0)
		{
			state->p += length;
			*value = i;
			return true;
		}
	}
	return false;
}

/*
 * Takes digits behind a point, rounded to microseconds as the server does it.
 */
static bool
take_fraction(const Step *step, State *state)
{
	static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
	int			count = count_digits(state, step->maximum);

	if (count < step->minimum)
		return false;
	state->fsec = (fsec_t) rint(take_digits(state, count) / powers[count] * 1000000);
	return true;
}

/*
 * Takes an offset from Greenwich: sign and hours, then minutes and seconds, which
 * the form may allow, ask for, or separate with colons.
 */
static bool
take_offset(const Step *step, State *state)
{
	bool		colons = step->letter == 'Z' ? step->count == 5 : step->count == 3 || step->count == 5;
	bool		zero = step->letter == 'X' || (step->letter == 'Z' && step->count == 5);
	bool		negative;
	int			hours,
				minutes = 0,
				seconds = 0;

	if (state->p == state->end)
		return false;
	state->has_offset = true;
	state->offset = 0;
	if (zero && (*state->p | 0x20) == 'z')
	{
		state->p++;
		return true;
	}
	if (*state->p != '+' && *state->p != '-')
		return false;
	negative = *state->p++ == '-';
	if (!take_two(state, &hours))
		return false;
	if (step->count == 1 && step->letter != 'Z')
		(void) take_two(state, &minutes);
	else
	{
		if (colons && (state->p == state->end || *state->p++ != ':'))
			return false;
		if (!take_two(state, &minutes))
			return false;
	}
	if (step->count >= 4 && state->p < state->end)
	{
		const char *before = state->p;

		if ((colons && *state->p++ != ':') || !take_two(state, &seconds))
			state->p = before;
	}
	if (minutes > 59 || seconds > 59 || hours * 3600 + minutes * 60 + seconds > MAX_OFFSET_HOURS * 3600)
		return false;
	state->offset = (hours * 3600 + minutes * 60 + seconds) * (negative ? 1 : -1);
	return true;
}

static bool
is_zone_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' || c == '/';
}

/*
 * Takes the name of a zone, such as Europe/Berlin, or Z, UTC or an offset.  Names
 * with digits are left out: the server would take them for rules.
 */
static bool
take_zone(State *state)
{
	static const Step offset = {.kind = STEP_OFFSET, .letter = 'X', .count = 3};
	const char *start = state->p;
	char		name[TZ_STRLEN_MAX + 1];
	int			length = 0;

	if (start < state->end && (*start == '+' || *start == '-'))
		return take_offset(&offset, state);
	while (state->p < state->end && is_zone_letter(*state->p) && length < TZ_STRLEN_MAX)
		name[length++] = *state->p++;
	name[length] = '\0';
	if (length == 0)
		return false;
	if (pg_strcasecmp(name, "Z") == 0 || pg_strcasecmp(name, "UTC") == 0 ||
		pg_strcasecmp(name, "GMT") == 0 || pg_strcasecmp(name, "UT") == 0)
	{
		state->has_offset = true;
		state->offset = 0;
		return true;
	}
	state->zone = strchr(name, '/') != NULL ? pg_tzset(name) : NULL;
	return state->zone != NULL;
}

static bool
take_text(const Step *step, State *state)
{
	if (state->end - state->p < step->length ||
		pg_strncasecmp(state->p, step->text, step->length) != 0)
		return false;
	state->p += step->length;
	return true;
}

/*
 * Takes AM or PM.
 */
static bool
take_half(State *state)
{
	if (state->end - state->p < 2 || (state->p[1] | 0x20) != 'm' ||
		((*state->p | 0x20) != 'a' && (*state->p | 0x20) != 'p'))
		return false;
	state->half = (*state->p | 0x20) == 'p';
	state->p += 2;
	return true;
}

/*
 * Takes an hour; "from" and "to" are its limits.
 */
static bool
take_hour(const Step *step, State *state, int from, int to)
{
	if (!take_number(step, state, &state->hour) || state->hour < from || state->hour > to)
		return false;
	/* 24 is the hour 0, and so is the hour 12 of half a day */
	if (from == 1 && state->hour == to)
		state->hour = 0;
	return true;
}

static bool
take_step(const Step *step, State *state)
{
	switch (step->kind)
	{
		case STEP_TEXT:
			return take_text(step, state);
		case STEP_YEAR:
			return take_number(step, state, &state->year);
		case STEP_YEAR_OF_CENTURY:
			if (!take_number(step, state, &state->year))
				return false;
			state->year += 2000;
			return true;
		case STEP_MONTH:
			return take_number(step, state, &state->month);
		case STEP_MONTH_NAME:
			if (!take_name(step, state, month_names, &state->month))
				return false;
			state->month++;
			return true;
		case STEP_DAY:
			return take_number(step, state, &state->day);
		case STEP_DAY_OF_YEAR:
			return take_number(step, state, &state->day_of_year);
		case STEP_WEEKDAY_NAME:
			return take_name(step, state, weekday_names, &state->weekday);
		case STEP_HALF_OF_DAY:
			return take_half(state);
		case STEP_HOUR:
			return take_hour(step, state, 0, 23);
		case STEP_HOUR_FROM_1:
			return take_hour(step, state, 1, 24);
		case STEP_HOUR_OF_HALF:
			return take_hour(step, state, 0, 11);
		case STEP_HOUR_OF_HALF_FROM_1:
			return take_hour(step, state, 1, 12);
		case STEP_MINUTE:
			return take_number(step, state, &state->minute) && state->minute < 60;
		case STEP_SECOND:
			return take_number(step, state, &state->second) && state->second < 60;
		case STEP_FRACTION:
			return take_fraction(step, state);
		case STEP_OFFSET:
			return take_offset(step, state);
		case STEP_ZONE:
			return take_zone(state);
		default:
			return true;
	}
}

/*
 * Takes a step for a field that may have been told before: then it must tell the
 * same.
 */
static bool
take_again(const Step *step, State *state)
{
	char		group = group_of(step->letter);
	State		before = *state;

	if (!take_step(step, state))
		return false;
	if (strchr(state->told, group) == NULL)
		return true;
	return state->year == before.year && state->month == before.month &&
		state->day == before.day && state->day_of_year == before.day_of_year &&
		state->weekday == before.weekday && state->half == before.half &&
		state->hour == before.hour && state->minute == before.minute &&
		state->second == before.second && state->fsec == before.fsec &&
		state->offset == before.offset && state->zone == before.zone;
}

/*
 * Goes through the steps; false if the text does not have the form.
 */
static bool
take_steps(const LhTimePattern *pattern, State *state)
{
	State		saved[MAX_NESTING];
	int			ends[MAX_NESTING];
	int			depth = 0;

	for (int i = 0; i < pattern->count; i++)
	{
		const Step *step = &pattern->steps[i];

		if (step->kind == STEP_OPTION)
		{
			saved[depth] = *state;
			ends[depth++] = step->end;
		}
		else if (step->kind == STEP_OPTION_END)
			depth--;
		else if (!(step->again ? take_again(step, state) : take_step(step, state)))
		{
			if (depth == 0)
				return false;
			*state = saved[--depth];
			i = ends[depth];
		}
		else if (pattern->repeats && step->letter != '\0' &&
				 strchr(state->told, group_of(step->letter)) == NULL)
			state->told[strlen(state->told)] = group_of(step->letter);
	}
	return state->p == state->end;
}

/*
 * Makes a date of what was read; false if there is none.
 */
static bool
find_date(const LhTimePattern *pattern, const State *state, struct pg_tm *tm)
{
	int			days;

	if (state->year < 1)
		return false;
	if (pattern->has_day_of_year)
	{
		if (state->day_of_year < 1 || state->day_of_year > 365 + isleap(state->year))
			return false;
		days = date2j(state->year, 1, 1) + state->day_of_year - 1;
		j2date(days, &tm->tm_year, &tm->tm_mon, &tm->tm_mday);
	}
	else
	{
		if (state->month < 1 || state->month > 12 || state->day < 1 ||
			state->day > day_tab[isleap(state->year)][state->month - 1])
			return false;
		days = date2j(state->year, state->month, state->day);
		tm->tm_year = state->year;
		tm->tm_mon = state->month;
		tm->tm_mday = state->day;
	}
	return state->weekday < 0 || j2day(days) == state->weekday;
}

bool
lh_time_pattern_read(const LhTimePattern *pattern, const char *data, int length,
					 LhTimeText *result, LhError *error)
{
	State		state = {.p = data, .end = data + length, .month = 1, .day = 1, .day_of_year = 1,
	.weekday = -1};

	if (!take_steps(pattern, &state))
		return lh_error_set(error, ERRCODE_INVALID_DATETIME_FORMAT,
							"\"%s\" is not of the form \"%s\"",
							lh_convert_excerpt(data, length), pattern->text);
	memset(result, 0, sizeof(*result));
	if (!find_date(pattern, &state, &result->tm))
		return lh_error_set(error, ERRCODE_DATETIME_FIELD_OVERFLOW,
							"date/time field value out of range: \"%s\"",
							lh_convert_excerpt(data, length));
	result->tm.tm_hour = state.hour + 12 * state.half;
	result->tm.tm_min = state.minute;
	result->tm.tm_sec = state.second;
	result->tm.tm_isdst = -1;
	result->fsec = state.fsec;
	result->has_offset = state.has_offset;
	result->offset = state.offset;
	result->zone = state.zone;
	return true;
}
