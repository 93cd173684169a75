/*
 * csv_scan_wide.c
 *	  Finds records and fields in CSV bytes of a dialect with longer marks:
 *	  separators of several bytes, line ends of one's own, blanks around fields,
 *	  quotes that were not escaped.
 *
 * One byte after the other is looked at, which csv_scan.c does not; it finds what
 * that one finds wherever both can read a dialect.
 *
 * Invariant: where a record ends depends on the bytes alone, and not on how many of
 * them are fed at once: where the next bytes could change what the last ones mean,
 * more are asked for.
 */
#include "postgres.h"

#include "source/csv_scan.h"

/* What is at a place. */
typedef enum Mark
{
	MARK_NONE,
	MARK_SEP,
	MARK_LINE,
	MARK_END,					/* nothing: the bytes end, and so does the input */
	MARK_MORE					/* the bytes that follow decide */
} Mark;

/* One record while it is read. */
typedef struct Progress
{
	uint32		inner_lines;	/* line ends inside quotes */
	uint32		first_end;		/* where the first of them begins */
	uint32		first_next;		/* and the line behind it; 0 = none */
	LhCsvFault	fault;
} Progress;

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\v' || c == '\f';
}

/*
 * Compares the bytes at a place with a mark: 1 = it is there, 0 = it is not, -1 =
 * the bytes end within it.
 */
static int
compare(const LhCsvScan *scan, uint32 place, const char *mark, uint32 length)
{
	uint32		left = scan->length - place;

	if (length == 0 || memcmp(scan->data + place, mark, Min(left, length)) != 0)
		return 0;
	return left >= length ? 1 : scan->last ? 0 : -1;
}

/*
 * Looks for a line end; *length is how long it is.
 */
static int
compare_line_end(const LhCsvScan *scan, uint32 place, uint32 *length)
{
	const LhCsvWide *wide = scan->wide;
	char		c = scan->data[place];

	*length = wide->line_sep_length;
	if (wide->line_sep_length > 0)
		return compare(scan, place, wide->line_sep, wide->line_sep_length);
	*length = 1;
	if (c == '\n')
		return 1;
	if (c != '\r')
		return 0;
	if (place + 1 == scan->length)
		return scan->last ? 1 : -1;
	*length += scan->data[place + 1] == '\n';
	return 1;
}

/*
 * Tells what is at a place; of two marks that begin there the longer one counts.
 */
static Mark
mark_at(const LhCsvScan *scan, uint32 place, uint32 *length)
{
	uint32		line_length;
	int			line;
	int			sep;

	if (place == scan->length)
		return scan->last ? MARK_END : MARK_MORE;
	line = compare_line_end(scan, place, &line_length);
	sep = compare(scan, place, scan->wide->sep, scan->wide->sep_length);
	if (line < 0 || sep < 0)
		return MARK_MORE;
	if (line > 0 && (sep == 0 || line_length >= scan->wide->sep_length))
	{
		*length = line_length;
		return MARK_LINE;
	}
	*length = scan->wide->sep_length;
	return sep > 0 ? MARK_SEP : MARK_NONE;
}

/*
 * Passes to the next mark from a place on.
 */
static Mark
find_mark(const LhCsvScan *scan, uint32 *place, uint32 *length)
{
	Mark		mark;

	while ((mark = mark_at(scan, *place, length)) == MARK_NONE)
		(*place)++;
	return mark;
}

/*
 * Passes over blanks that are no separators.
 */
static void
pass_blanks(const LhCsvScan *scan, uint32 *place)
{
	uint32		length;

	while (*place < scan->length && is_blank(scan->data[*place]) &&
		   mark_at(scan, *place, &length) == MARK_NONE)
		(*place)++;
}

/*
 * Passes over empty lines and comments; false if that takes more bytes than there
 * are.
 */
static bool
skip_lines(LhCsvScan *scan)
{
	const LhCsvWide *wide = scan->wide;

	while (scan->position < scan->length)
	{
		uint32		place = scan->position;
		uint32		length = 0;
		bool		comment = scan->comment != 0 && scan->data[place] == scan->comment;
		Mark		mark = MARK_NONE;

		if (comment)
			while ((mark = find_mark(scan, &place, &length)) == MARK_SEP)
				place += length;
		else if (scan->skip_blank)
		{
			if (wide->trim_left)
				pass_blanks(scan, &place);
			mark = mark_at(scan, place, &length);
		}
		if (mark == MARK_MORE)
			return false;
		if (mark != MARK_LINE && mark != MARK_END)
			return true;
		scan->position = place + (mark == MARK_LINE ? length : 0);
		scan->lines++;
	}
	return false;
}

/*
 * Takes a field that is not quoted, from "place" on; "from" is where to look for
 * its end.
 */
static Mark
scan_unquoted(const LhCsvScan *scan, uint32 from, uint32 *place, LhCsvField *field, uint32 *length)
{
	Mark		mark;

	field->start = *place;
	*place = from;
	mark = find_mark(scan, place, length);
	field->length = *place - field->start;
	while (scan->wide->trim_right && (field->length & LH_CSV_LENGTH) > 0 &&
		   is_blank(scan->data[field->start + field->length - 1]))
		field->length--;
	return mark;
}

static void
note_inner_line(uint32 place, uint32 length, Progress *progress)
{
	if (progress->first_next == 0)
	{
		progress->first_end = place;
		progress->first_next = place + length;
	}
	progress->inner_lines++;
}

/*
 * Takes what follows a quote in a quoted field, at "behind", when it is no mark.
 * True if the field goes on as a quoted one.
 */
static bool
scan_unescaped(const LhCsvScan *scan, uint32 behind, uint32 *place, LhCsvField *field,
			   uint32 *length, const Progress *before, Progress *progress, Mark *mark)
{
	uint32		start = *place;

	switch (scan->wide->unescaped)
	{
		case LH_CSV_TO_QUOTE:
			return true;
		case LH_CSV_TO_SEPARATOR:
			if (progress->inner_lines == before->inner_lines)
			{
				*mark = scan_unquoted(scan, behind, place, field, length);
				return false;
			}
			/* an unquoted field ends with its line */
			/* FALLTHROUGH */
		case LH_CSV_FROM_QUOTE:
			*progress = *before;
			*mark = scan_unquoted(scan, start + 1, place, field, length);
			return false;
		default:
			if (progress->fault == LH_CSV_GOOD)
				progress->fault = LH_CSV_AFTER_QUOTE;
			*mark = scan_unquoted(scan, behind, place, field, length);
			return false;
	}
}

/*
 * Takes a field whose opening quote is at "place", which becomes the place of the
 * mark behind it.
 */
static Mark
scan_quoted(const LhCsvScan *scan, uint32 *place, LhCsvField *field, uint32 *length,
			Progress *progress)
{
	Progress	before = *progress;
	uint32		flags = LH_CSV_QUOTED;
	uint32		at = *place + 1;

	while (at < scan->length)
	{
		char		c = scan->data[at];
		uint32		line_length;
		int			line;

		if (c == scan->quote)
		{
			uint32		behind = at + 1;
			Mark		mark;

			if (behind < scan->length && scan->data[behind] == scan->quote)
			{
				flags |= LH_CSV_ESCAPED;
				at += 2;
				continue;
			}
			if (scan->wide->trim_right)
				pass_blanks(scan, &behind);
			mark = mark_at(scan, behind, length);
			if (mark == MARK_NONE)
			{
				if (!scan_unescaped(scan, behind, place, field, length, &before, progress, &mark))
					return mark;
				at++;
				continue;
			}
			field->start = *place + 1;
			field->length = (at - field->start) | flags;
			*place = behind;
			return mark;
		}
		if (scan->escape != 0 && c == scan->escape)
		{
			flags |= LH_CSV_ESCAPED;
			at++;
			if (at < scan->length && (scan->data[at] == scan->quote || scan->data[at] == scan->escape))
				at++;
			continue;
		}
		line = compare_line_end(scan, at, &line_length);
		if (line < 0)
			return MARK_MORE;
		if (line > 0)
			note_inner_line(at, line_length, progress);
		at += line > 0 ? line_length : 1;
	}
	if (!scan->last)
		return MARK_MORE;
	progress->fault = LH_CSV_OPEN_QUOTE;
	field->start = *place;
	field->length = 0;
	*place = scan->length;
	return MARK_END;
}

static bool
is_plain(const LhCsvScan *scan, uint32 from, uint32 to)
{
	for (; from < to; from++)
		if (scan->data[from] == '\0' || ((unsigned char) scan->data[from] & 0x80) != 0)
			return false;
	return true;
}

/*
 * Finishes the record whose last field ends at "place", before a mark.
 */
static LhCsvResult
finish_record(LhCsvScan *scan, LhCsvRecord *record, uint32 place, uint32 behind,
			  const Progress *progress)
{
	record->end = place;
	record->fault = progress->fault;
	scan->position = behind;
	scan->lines += progress->inner_lines + 1;
	scan->used += Min(record->fields, scan->width);
	if (record->fault != LH_CSV_GOOD && progress->first_next != 0)
	{
		/* broken quoting takes no other line away */
		record->end = progress->first_end;
		scan->position = progress->first_next;
		scan->lines -= progress->inner_lines;
	}
	record->plain = is_plain(scan, record->start, record->end);
	return LH_CSV_RECORD;
}

/*
 * lh_csv_next_wide finds the next record and its fields.
 */
LhCsvResult
lh_csv_next_wide(LhCsvScan *scan, LhCsvRecord *record)
{
	Progress	progress = {0};
	LhCsvField	ignored;
	uint32		place;

	if (!skip_lines(scan))
		return scan->last && scan->position == scan->length ? LH_CSV_END : LH_CSV_MORE;
	record->start = place = scan->position;
	record->line = scan->lines;
	record->first_field = scan->used;
	record->fields = 0;
	record->fault = LH_CSV_GOOD;
	for (;;)
	{
		LhCsvField *field = record->fields < scan->width ?
			&scan->fields[scan->used + record->fields] : &ignored;
		uint32		length = 0;
		Mark		mark;

		record->fields++;
		if (scan->wide->trim_left)
			pass_blanks(scan, &place);
		if (scan->quote != 0 && place < scan->length && scan->data[place] == scan->quote)
			mark = scan_quoted(scan, &place, field, &length, &progress);
		else
			mark = scan_unquoted(scan, place, &place, field, &length);
		switch (mark)
		{
			case MARK_MORE:
				return LH_CSV_MORE;
			case MARK_SEP:
				place += length;
				break;
			default:
				return finish_record(scan, record, place, place + (mark == MARK_LINE ? length : 0),
									 &progress);
		}
	}
}

/* ---------------------------------------------------- records too long */

static bool
ends_with(const LhCsvSkip *skip, const char *mark, uint32 length)
{
	return length > 0 && skip->tail_length >= length &&
		memcmp(skip->tail + skip->tail_length - length, mark, length) == 0;
}

/*
 * Remembers one more of the last bytes.
 */
static void
add_to_tail(LhCsvSkip *skip, char c)
{
	if (skip->tail_length == LH_CSV_MAX_MARK)
		memmove(skip->tail, skip->tail + 1, --skip->tail_length);
	skip->tail[skip->tail_length++] = c;
}

/*
 * Takes a byte outside of quotes, which may be the last one of a mark.
 */
static void
skip_outside(LhCsvSkip *skip, const LhCsvScan *dialect, char c, bool line_end)
{
	const LhCsvWide *wide = dialect->wide;
	bool		sep = ends_with(skip, wide->sep, wide->sep_length);
	bool		blank = is_blank(c) && !sep;

	skip->apart = true;
	if (skip->state == SKIP_QUOTE && wide->unescaped == LH_CSV_REJECT &&
		!(blank && wide->trim_right) && !(c == '\r' && wide->line_sep_length == 0))
	{
		uint32		mark = line_end ? Max(wide->line_sep_length, 1) : sep ? wide->sep_length : 0;

		skip->behind++;
		if (mark > 0 ? mark < skip->behind : skip->behind > LH_CSV_MAX_MARK)
			skip->broken = true;
	}
	if (line_end)
		skip->done = true;
	else if (sep)
		skip->state = SKIP_FIELD_START;
	else if (skip->state == SKIP_FIELD_START && c == dialect->quote && dialect->quote != 0)
	{
		skip->state = SKIP_QUOTED;
		skip->behind = 0;
		skip->apart = false;
	}
	else if (skip->state != SKIP_QUOTE && !(skip->state == SKIP_FIELD_START && blank && wide->trim_left))
		skip->state = SKIP_UNQUOTED;
	/* a separator may turn out to be the beginning of a line end */
	if (sep && wide->line_sep_length > wide->sep_length &&
		memcmp(wide->line_sep, wide->sep, wide->sep_length) == 0)
	{
		memcpy(skip->tail, wide->sep, wide->sep_length);
		skip->tail_length = wide->sep_length;
	}
	else if (line_end || sep)
		skip->tail_length = 0;
}

/*
 * lh_csv_skip_wide is lh_csv_skip_feed for a wide dialect.  A mark is known by its
 * last byte, so that nothing need be known of the bytes that follow.
 */
void
lh_csv_skip_wide(LhCsvSkip *skip, const LhCsvScan *dialect, const char *data, uint32 length)
{
	const LhCsvWide *wide = dialect->wide;

	for (uint32 i = 0; i < length && !skip->done; i++)
	{
		char		c = data[i];
		bool		line_end;

		skip->offset++;
		add_to_tail(skip, c);
		line_end = wide->line_sep_length == 0 ? c == '\n' :
			ends_with(skip, wide->line_sep, wide->line_sep_length);
		if (line_end && skip->first_line < 0)
			skip->first_line = skip->offset;
		if (skip->state == SKIP_QUOTED || skip->state == SKIP_ESCAPED)
		{
			bool		escaped = skip->state == SKIP_ESCAPED;

			skip->lines += line_end;
			skip->state = SKIP_QUOTED;
			if (!escaped && c == dialect->quote)
				skip->state = SKIP_QUOTE;
			else if (!escaped && dialect->escape != 0 && c == dialect->escape)
				skip->state = SKIP_ESCAPED;
			/* what stands in quotes is no part of a mark */
			if (skip->state == SKIP_QUOTE || line_end)
				skip->tail_length = 0;
		}
		else if (skip->state == SKIP_QUOTE && !skip->apart && c == dialect->quote)
			skip->state = SKIP_QUOTED;
		else
			skip_outside(skip, dialect, c, line_end);
	}
}
