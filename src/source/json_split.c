/*
 * json_split.c
 *	  Finds records in JSON bytes that are not one on a line.
 *
 * Records are the values at the top, and the elements of arrays there; between
 * them may be blanks and commas.  A record that is JSON ends where its value
 * does.
 *
 * One that is not ends with the brace that closes it, or before the next line
 * that looks like the beginning of a record: a brace that is indented no further
 * than the line where this record began.  A string that is not closed ends with its line.  So the
 * fault of one record takes others away only if they stand on its last line.
 *
 * Invariant: where a record ends depends on the bytes alone, and not on how many
 * of them are fed at once.
 */
#include "postgres.h"

#include "json/json_lax.h"
#include "json/json_scan.h"
#include "source/json_split.h"

/* a token that is cut off looks like a fault at most so far from the end */
#define LONGEST_TOKEN 16

void
lh_json_split_begin(LhJsonSplit *split)
{
	memset(split, 0, sizeof(*split));
	split->indenting = true;
}

void
lh_json_split_feed(LhJsonSplit *split, const char *data, uint32 length, bool last)
{
	split->data = data;
	split->length = length;
	split->last = last;
	split->position = 0;
	split->lines = 0;
}

/*
 * Passes to a place further on.
 */
static void
pass(LhJsonSplit *split, uint32 to)
{
	const char *p = split->data + split->position;
	const char *end = split->data + to;
	const char *mark;

	while ((mark = memchr(p, '\n', end - p)) != NULL)
	{
		split->lines++;
		split->indent = 0;
		split->indenting = true;
		p = mark + 1;
	}
	for (; p < end && split->indenting; p++)
		if (*p == ' ' || *p == '\t' || *p == ',' || *p == '[')
			split->indent++;
		else
			split->indenting = false;
	split->position = to;
}

/*
 * Passes over what may stand between records; false if a comment there is not whole.
 */
static bool
pass_between(LhJsonSplit *split)
{
	uint32		place = split->position;
	int64		comment = 0;

	for (; place < split->length; place++)
	{
		char		c = split->data[place];

		if (unlikely(split->lax != 0) && c == '/')
		{
			comment = lh_json_lax_comment(split->lax, split->data + place, split->length - place);
			/* the input's end is the end of a line */
			if (comment < 0 && split->last && place + 1 < split->length && split->data[place + 1] == '/')
				comment = split->length - place;
			if (comment <= 0)
				break;
			place += comment - 1;
			continue;
		}

		if (c == '[' && !split->in_array)
			split->in_array = true;
		else if (c == ']' && split->in_array)
			split->in_array = false;
		else if (c != ' ' && c != '\n' && c != '\r' && c != '\t' && c != ',')
			break;
	}
	pass(split, place);
	return comment >= 0 || split->last;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/*
 * Finds the end of an object or array that begins at the position; 0 if it is not
 * there.
 */
static uint32
find_value_end(LhJsonSplit *split)
{
	const char *start = split->data + split->position;
	uint32		left = split->length - split->position;
	LhJsonScan	scan;
	LhJsonSkip	skip;

	if (split->lax != 0)
	{
		int64		length = lh_json_lax_end(split->lax, start, left);

		if (length > 0)
			return split->position + length;
		if (length == 0 && !split->last)
			return 0;
	}
	else
	{
		lh_json_begin(&scan, start, left);
		if (lh_json_pass(&scan, lh_json_next(&scan)))
			return scan.p - split->data;
		if (!split->last && scan.end - scan.p < LONGEST_TOKEN)
			return 0;
	}
	lh_json_skip_begin(&skip, *start, split->indent);
	lh_json_skip_feed(&skip, start, left);
	if (!skip.done && !split->last)
		return 0;
	return split->position + skip.offset;
}

/*
 * Finds the end of what is neither object nor array: it goes to the end of the
 * line, or of a string, or to where another record may begin.
 */
static uint32
find_other_end(LhJsonSplit *split)
{
	const char *data = split->data;
	uint32		place = split->position;
	bool		string = data[place] == '"';

	for (place++; place < split->length; place++)
	{
		char		c = data[place];

		if (c == '\n')
			return place;
		if (string && c == '\\' && place + 1 < split->length && data[place + 1] != '\n')
			place++;
		else if (string && c == '"')
			return place + 1;
		else if (!string && (c == '{' || (split->in_array && (c == ',' || c == ']'))))
			return place;
	}
	return split->last ? split->length : 0;
}

LhJsonSplitResult
lh_json_split_next(LhJsonSplit *split)
{
	uint32		end;
	char		c;

	if (!pass_between(split))
		return LH_JSON_SPLIT_MORE;
	split->start = split->end = split->position;
	split->line = split->lines;
	if (split->position == split->length)
	{
		if (!split->last)
			return LH_JSON_SPLIT_MORE;
		if (!split->in_array)
			return LH_JSON_SPLIT_END;
		split->in_array = false;
		return LH_JSON_SPLIT_UNCLOSED;
	}
	c = split->data[split->position];
	end = c == '{' || c == '[' ? find_value_end(split) : find_other_end(split);
	if (end == 0)
		return LH_JSON_SPLIT_MORE;
	pass(split, end);
	while (end > split->start + 1 && is_blank(split->data[end - 1]))
		end--;
	split->end = end;
	return LH_JSON_SPLIT_RECORD;
}

/* ------------------------------------------------- records without end */

/*
 * lh_json_skip_begin prepares for a record that begins with "first" on a
 * line of some indent.
 */
void
lh_json_skip_begin(LhJsonSkip *skip, char first, int64 indent)
{
	memset(skip, 0, sizeof(*skip));
	skip->limit = indent;
	if (first == '{')
	{
		skip->open = '{';
		skip->close = '}';
	}
	else if (first == '[')
	{
		skip->open = '[';
		skip->close = ']';
	}
}

static void
begin_line(LhJsonSkip *skip)
{
	skip->in_string = skip->escaped = false;
	skip->line_start = true;
	skip->indent = 0;
	skip->lines++;
	skip->done = skip->open == '\0';
}

/*
 * Takes a byte outside of strings that is no line end.
 */
static void
skip_plain(LhJsonSkip *skip, char c)
{
	if (skip->line_start && skip->indent <= skip->limit &&
		(c == '{' || (c == ']' && skip->open == '{')))
	{
		/* belongs to what follows */
		skip->offset--;
		skip->done = true;
		return;
	}
	if (skip->line_start && (c == ' ' || c == '\t' || c == ','))
		skip->indent++;
	else
		skip->line_start = false;
	if (skip->open == '\0')
		return;
	if (c == '"')
		skip->in_string = true;
	else if (c == skip->open)
		skip->depth++;
	else if (c == skip->close)
		skip->done = --skip->depth <= 0;
}

/*
 * lh_json_skip_feed looks at the next bytes of the record.
 */
void
lh_json_skip_feed(LhJsonSkip *skip, const char *data, uint32 length)
{
	uint32		i;

	for (i = 0; i < length && !skip->done; i++)
	{
		char		c = data[i];

		skip->offset++;
		if (c == '\n')
			begin_line(skip);
		else if (!skip->in_string)
			skip_plain(skip, c);
		else if (skip->escaped)
			skip->escaped = false;
		else if (c == '\\')
			skip->escaped = true;
		else if (c == '"')
			skip->in_string = false;
	}
}
