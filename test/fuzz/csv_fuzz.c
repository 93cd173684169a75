/*
 * csv_fuzz.c
 *	  Fuzzes the CSV scanner, with libFuzzer.
 *
 * The first four bytes of an input choose the dialect and how the file is cut
 * into windows, the rest is the file.  Beyond what the sanitizers see:
 *
 * - every byte of the file belongs to one record, or to one line end, empty line
 *   or comment between two records;
 * - records and fields are those that a scanner finds which looks at one byte
 *   after the other (the functions with "plain" in their names, which share no
 *   code with the real one);
 * - they are the same however the windows cut the file, and so are their lines;
 * - where only the bounds of records are asked, they are the same;
 * - a record that is too long for its window ends where it would in a window
 *   with room for it;
 * - the scanner of wide dialects finds the same wherever both can read a dialect;
 *   with other marks, blanks and stray quotes it finds records and fields in their
 *   order, and windows do not matter to it either.
 */
#include "postgres.h"

#include "source/csv_scan.h"

#define MAX_WIDTH 8

/* What must not depend on windows: a record's place in the file. */
typedef struct Found
{
	uint32		start;
	uint32		end;
	uint32		next;			/* where the scan goes on */
	uint32		line;
	uint32		lines;			/* line ends passed up to "next" */
	uint32		fields;
	LhCsvFault	fault;
	bool		plain;
	LhCsvField	field[MAX_WIDTH];	/* starts are places in the file */
} Found;

#include "windows.h"

static void
print_found(const Found *f)
{
	fprintf(stderr, "  [%u, %u) next %u line %u lines %u fields %u fault %d\n", f->start,
			f->end, f->next, f->line, f->lines, f->fields, (int) f->fault);
}

/* ------------------------------------------------- the scanner under test */

/*
 * Scans the file as a reader does.
 */
static void
scan_file(const LhCsvScan *dialect, const char *data, uint32 length, uint32 random,
		  FoundList *list)
{
	LhCsvScan	scan = *dialect;
	LhCsvField	fields[MAX_WIDTH];
	LhCsvRecord record;
	Windows		windows;

	scan.fields = fields;
	begin_windows(&windows, data, length, random, LH_CSV_PADDING);
	lh_csv_feed(&scan, windows.window, windows.size, is_last_window(&windows));
	for (;;)
	{
		LhCsvResult result;
		Found	   *found;

		scan.used = 0;
		result = scan.wide != NULL ? lh_csv_next_wide(&scan, &record) : lh_csv_next(&scan, &record);
		if (result == LH_CSV_END)
			break;
		if (result != LH_CSV_RECORD)
		{
			next_window(&windows, scan.position, scan.lines);
			lh_csv_feed(&scan, windows.window, windows.size, is_last_window(&windows));
			continue;
		}
		found = add_found(list);
		found->start = windows.offset + record.start;
		found->end = windows.offset + record.end;
		found->next = windows.offset + scan.position;
		found->line = windows.line + record.line;
		found->lines = windows.line + scan.lines;
		found->fields = record.fields;
		found->fault = record.fault;
		found->plain = record.plain;
		for (uint32 i = 0; i < Min(record.fields, scan.width); i++)
		{
			found->field[i] = fields[i];
			found->field[i].start += windows.offset;
		}
	}
	end_windows(&windows, scan.position);
}

/* --------------------------------------------------------- the plain one */

/* passes over one line end, if there is one at "at" */
static uint32
plain_line_end(const char *data, uint32 length, uint32 at)
{
	if (at < length && data[at] == '\r')
		return at + 1 < length && data[at + 1] == '\n' ? at + 2 : at + 1;
	return at < length && data[at] == '\n' ? at + 1 : at;
}

static bool
plain_ends_line(const char *data, uint32 length, uint32 at)
{
	return at == length || data[at] == '\n' || data[at] == '\r';
}

/*
 * Passes through a quoted field, from behind its opening quote to behind its
 * closing one; 0 if there is none.  Notes the first line end in it and counts
 * them all.
 */
static uint32
plain_quoted(const LhCsvScan *dialect, const char *data, uint32 length, uint32 at,
			 bool *escaped, uint32 *first_end, uint32 *inner)
{
	while (at < length)
	{
		char		c = data[at];

		if (c == dialect->quote)
		{
			if (at + 1 == length || data[at + 1] != dialect->quote)
				return at + 1;
			*escaped = true;
			at += 2;
		}
		else if (dialect->escape != 0 && c == dialect->escape && at + 1 < length)
		{
			*escaped = true;
			at++;
			if (data[at] == dialect->quote || data[at] == dialect->escape)
				at++;
		}
		else if (c == '\n' || c == '\r')
		{
			if ((*inner)++ == 0)
				*first_end = at;
			at = plain_line_end(data, length, at);
		}
		else
			at++;
	}
	return 0;
}

/*
 * Finds one record that begins at "at".
 */
static void
plain_record(const LhCsvScan *dialect, const char *data, uint32 length, uint32 at,
			 Found *found)
{
	uint32		first_end = 0;
	uint32		inner = 0;

	found->start = at;
	for (;;)
	{
		LhCsvField	field = {at, 0};
		bool		escaped = false;

		if (dialect->quote != 0 && at < length && data[at] == dialect->quote)
		{
			uint32		behind = plain_quoted(dialect, data, length, at + 1, &escaped,
											  &first_end, &inner);

			field.start++;
			if (behind == 0)
			{
				found->fields++;
				found->fault = LH_CSV_OPEN_QUOTE;
				at = length;
				break;
			}
			field.length = (behind - 1 - field.start) | LH_CSV_QUOTED | (escaped ? LH_CSV_ESCAPED : 0);
			at = behind;
			if (at < length && data[at] != dialect->sep && !plain_ends_line(data, length, at) &&
				found->fault == LH_CSV_GOOD)
				found->fault = LH_CSV_AFTER_QUOTE;
		}
		while (!plain_ends_line(data, length, at) && data[at] != dialect->sep)
			at++;
		if ((field.length & LH_CSV_QUOTED) == 0)
			field.length = at - field.start;
		if (found->fields < dialect->width)
			found->field[found->fields] = field;
		found->fields++;
		if (plain_ends_line(data, length, at))
			break;
		at++;
	}
	if (found->fault != LH_CSV_GOOD && inner > 0)
	{
		at = first_end;
		inner = 0;
	}
	found->end = at;
	found->next = plain_line_end(data, length, at);
	found->lines = found->line + inner + 1;
}

/*
 * Passes over empty lines and comments; counts them.
 */
static uint32
plain_between(const LhCsvScan *dialect, const char *data, uint32 length, uint32 at, uint32 *lines)
{
	for (;;)
	{
		bool		comment;

		if (at == length)
			return at;
		comment = dialect->comment != 0 && data[at] == dialect->comment;
		if (!comment && !(dialect->skip_blank && (data[at] == '\n' || data[at] == '\r')))
			return at;
		while (!plain_ends_line(data, length, at))
			at++;
		if (at < length)
			(*lines)++;
		at = plain_line_end(data, length, at);
	}
}

static void
plain_file(const LhCsvScan *dialect, const char *data, uint32 length, FoundList *list)
{
	uint32		at = 0;
	uint32		lines = 0;

	while ((at = plain_between(dialect, data, length, at, &lines)) < length)
	{
		Found	   *found = add_found(list);

		found->line = lines;
		plain_record(dialect, data, length, at, found);
		at = found->next;
		lines = found->lines;
	}
}

/* -------------------------------------------------------------- the rules */

/*
 * Between two records there is nothing but a line end and passed lines.
 */
static void
check_bytes(const LhCsvScan *dialect, const char *data, uint32 length, const FoundList *list)
{
	uint32		at = 0;
	uint32		lines = 0;

	for (uint32 i = 0; i < list->count; i++)
	{
		const Found *f = &list->found[i];

		if (plain_between(dialect, data, length, at, &lines) != f->start)
			violate("each byte belongs to one record", f, NULL);
		if (f->end < f->start || f->next < f->end || f->next == f->start || f->next > length)
			violate("a record ends behind its start, and the scan goes on", f, NULL);
		if (plain_line_end(data, length, f->end) != f->next)
			violate("one line end follows a record", f, NULL);
		for (uint32 b = f->start; f->plain && b < f->end; b++)
			if (data[b] == '\0' || (data[b] & 0x80) != 0)
				violate("a plain record holds nothing but ASCII", f, NULL);
		at = f->next;
	}
	if (plain_between(dialect, data, length, at, &lines) != length)
		violate("no byte is left over", NULL, NULL);
}

static void
check_same(const LhCsvScan *dialect, const FoundList *a, const FoundList *b, const char *rule)
{
	for (uint32 i = 0; i < Min(a->count, b->count); i++)
	{
		const Found *f = &a->found[i];
		const Found *g = &b->found[i];

		if (!same_place(f, g) || f->fields != g->fields || f->fault != g->fault)
			violate(rule, f, g);
		if (f->fault == LH_CSV_GOOD &&
			memcmp(f->field, g->field, sizeof(LhCsvField) * Min(f->fields, dialect->width)) != 0)
			violate(rule, f, g);
	}
	if (a->count != b->count)
		violate(rule, NULL, NULL);
}

/*
 * The scan of records that are too long agrees with the other, as far as it
 * promises to: it knows the line feed only.
 */
static void
check_skip(const LhCsvScan *dialect, const char *data, uint32 length, const FoundList *list,
		   uint32 random)
{
	if (memchr(data, '\r', length) != NULL)
		return;
	for (uint32 i = 0; i < list->count; i++)
	{
		const Found *f = &list->found[i];
		LhCsvSkip	skip;
		uint32		at = f->start;

		lh_csv_skip_begin(&skip);
		while (at < length && !skip.done)
		{
			uint32		size = 1 + (random >> 16) % 61;
			char	   *chunk;

			random = random * 1103515245 + 12345;
			size = Min(size, length - at);
			chunk = malloc(size);

			memcpy(chunk, data + at, size);
			lh_csv_skip_feed(&skip, dialect, chunk, size);
			free(chunk);
			at += size;
		}
		lh_csv_skip_end(&skip);
		if (f->start + skip.offset != f->next || skip.lines != f->lines - f->line ||
			skip.broken != (f->fault != LH_CSV_GOOD))
		{
			fprintf(stderr, "skipped %lld bytes, %lld lines, broken %d\n",
					(long long) skip.offset, (long long) skip.lines, skip.broken);
			violate("a record that is too long ends at the same place", f, NULL);
		}
	}
}

/*
 * A scan for nothing but the bounds of records finds those of the other.
 */
static void
check_bounds(const LhCsvScan *dialect, const char *data, uint32 length, const FoundList *list,
			 uint32 random)
{
	LhCsvScan	bounds = *dialect;
	FoundList	found = {0};

	bounds.bounds = true;
	scan_file(&bounds, data, length, random, &found);
	for (uint32 i = 0; i < Min(list->count, found.count); i++)
	{
		const Found *f = &list->found[i];
		const Found *g = &found.found[i];

		if (!same_place(f, g) || f->fault != g->fault)
			violate("bounds are those of records", f, g);
	}
	if (list->count != found.count)
		violate("there are as many bounds as records", NULL, NULL);
	free(found.found);
}

/*
 * Records follow each other, and fields lie in them.
 */
static void
check_order(const LhCsvScan *dialect, uint32 length, const FoundList *list)
{
	uint32		at = 0;

	for (uint32 i = 0; i < list->count; i++)
	{
		const Found *f = &list->found[i];
		uint32		field = f->start;

		if (f->start < at || f->end < f->start || f->next < f->end || f->next == f->start ||
			f->next > length)
			violate("a record ends behind its start, and the scan goes on", f, NULL);
		for (uint32 j = 0; f->fault == LH_CSV_GOOD && j < Min(f->fields, dialect->width); j++)
		{
			if (f->field[j].start < field)
				violate("fields follow each other", f, NULL);
			field = f->field[j].start + (f->field[j].length & LH_CSV_LENGTH);
		}
		if (field > f->end && f->fault == LH_CSV_GOOD)
			violate("fields lie in their record", f, NULL);
		at = f->next;
	}
}

/*
 * The scanner of wide dialects, with the marks of "dialect" and with others.
 */
static void
check_wide(const LhCsvScan *dialect, int choice, const char *data, uint32 length,
		   const FoundList *whole, uint32 random)
{
	static const char *const seps[] = {"::", "|", ",,,", "\xc2\xa6", "ab"};
	static const char *const line_seps[] = {"", "|\n", ";", "::\n", "\r\n"};
	LhCsvWide	wide = {.sep = {dialect->sep}, .sep_length = 1};
	LhCsvScan	other = *dialect;
	FoundList	found = {0},
				cut = {0};

	other.wide = &wide;
	scan_file(&other, data, length, 0, &found);
	check_same(dialect, whole, &found, "both scanners find the same");
	check_skip(&other, data, length, &found, random);
	found.count = 0;

	wide.sep_length = strlen(seps[choice % 5]);
	memcpy(wide.sep, seps[choice % 5], wide.sep_length);
	wide.line_sep_length = strlen(line_seps[choice / 5 % 5]);
	memcpy(wide.line_sep, line_seps[choice / 5 % 5], wide.line_sep_length);
	wide.trim_left = (choice & 1) != 0;
	wide.trim_right = (choice & 2) != 0;
	wide.unescaped = (LhCsvUnescaped) (random >> 8 & 3);
	scan_file(&other, data, length, 0, &found);
	check_order(&other, length, &found);
	scan_file(&other, data, length, random, &cut);
	check_same(&other, &found, &cut, "windows do not matter to wide dialects");
	/* which of two marks stands there, where one begins with the other, it does
	 * not promise */
	if (wide.unescaped == LH_CSV_REJECT &&
		(wide.line_sep_length == 0 || memcmp(wide.line_sep, wide.sep, wide.sep_length) != 0))
		check_skip(&other, data, length, &found, random);
	free(found.found);
	free(cut.found);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static const char seps[] = {',', ';', '\t', '|'};
	static const char quotes[] = {'"', '\'', '"', '\0'};
	static const char escapes[] = {'\0', '\\', '\0', '\\'};
	static const char comments[] = {'\0', '#', '\0', '\0'};
	LhCsvScan	dialect = {0};
	FoundList	whole = {0},
				cut = {0},
				plain = {0};
	uint32		random;
	const char *data;
	uint32		length;

	if (size < 4)
		return 0;
	dialect.sep = seps[input[0] & 3];
	dialect.quote = quotes[(input[0] >> 2) & 3];
	dialect.escape = dialect.quote != 0 ? escapes[(input[0] >> 4) & 3] : '\0';
	dialect.comment = comments[input[0] >> 6];
	dialect.width = input[1] % (MAX_WIDTH + 1);
	dialect.skip_blank = dialect.width != 1;
	random = (uint32) input[2] << 8 | input[3] | 1;
	data = (const char *) input + 4;
	length = size - 4;

	scan_file(&dialect, data, length, 0, &whole);
	check_bytes(&dialect, data, length, &whole);
	plain_file(&dialect, data, length, &plain);
	check_same(&dialect, &whole, &plain, "records are those of the plain scanner");
	scan_file(&dialect, data, length, random, &cut);
	check_bytes(&dialect, data, length, &cut);
	check_same(&dialect, &whole, &cut, "windows do not matter");
	check_skip(&dialect, data, length, &whole, random);
	check_bounds(&dialect, data, length, &whole, 0);
	check_bounds(&dialect, data, length, &whole, random);
	check_wide(&dialect, input[1], data, length, &whole, random);

	free(whole.found);
	free(cut.found);
	free(plain.found);
	return 0;
}
