/*
 * split_fuzz.c
 *	  Fuzzes the finding of JSON records that are not one on a line, with
 *	  libFuzzer.
 *
 * The first two bytes of an input choose how the file is cut into windows, the
 * rest is the file.  Beyond what the sanitizers see:
 *
 * - every byte of the file belongs to one record, or is a blank, comma or bracket
 *   between two;
 * - records and their lines are the same however the windows cut the file, also
 *   where notations beyond JSON are allowed;
 * - a record that is JSON is taken whole, and all records of a file that is JSON
 *   are JSON.
 */
#include "postgres.h"

#include "json/json_scan.h"
#include "source/json_split.h"

/* What must not depend on windows. */
typedef struct Found
{
	uint32		start;
	uint32		end;
	uint32		next;			/* where the search goes on */
	uint32		line;
	uint32		lines;			/* line ends passed up to "next" */
	bool		unclosed;
} Found;

#include "windows.h"

static void
print_found(const Found *f)
{
	fprintf(stderr, "  [%u, %u) next %u line %u lines %u unclosed %d\n", f->start,
			f->end, f->next, f->line, f->lines, f->unclosed);
}

/*
 * Finds the records as a reader does.
 */
static void
split_file(const char *data, uint32 length, uint32 random, uint32 lax, FoundList *list)
{
	LhJsonSplit split;
	LhJsonSplitResult result;
	Windows		windows;

	begin_windows(&windows, data, length, random, 0);
	lh_json_split_begin(&split);
	split.lax = lax;
	lh_json_split_feed(&split, windows.window, windows.size, is_last_window(&windows));
	while ((result = lh_json_split_next(&split)) != LH_JSON_SPLIT_END)
	{
		if (result == LH_JSON_SPLIT_RECORD || result == LH_JSON_SPLIT_UNCLOSED)
		{
			Found	   *f = add_found(list);

			f->start = windows.offset + split.start;
			f->end = windows.offset + split.end;
			f->next = windows.offset + split.position;
			f->line = windows.line + split.line;
			f->lines = windows.line + split.lines;
			f->unclosed = result == LH_JSON_SPLIT_UNCLOSED;
			continue;
		}
		next_window(&windows, split.position, split.lines);
		lh_json_split_feed(&split, windows.window, windows.size, is_last_window(&windows));
	}
	end_windows(&windows, split.position);
}

static bool
is_json(const char *data, uint32 length)
{
	LhJsonScan	scan;

	lh_json_begin(&scan, data, length);
	return lh_json_pass(&scan, lh_json_next(&scan)) && lh_json_next(&scan) == LH_JSON_END;
}

static void
check_between(const char *data, uint32 from, uint32 to)
{
	for (; from < to; from++)
		if (data[from] == '\0' || strchr(" \t\r\n,[]", data[from]) == NULL)
			violate("each byte belongs to one record", NULL, NULL);
}

static void
check_bytes(const char *data, uint32 length, const FoundList *list)
{
	bool		json = is_json(data, length);
	uint32		at = 0;

	for (uint32 i = 0; i < list->count; i++)
	{
		const Found *f = &list->found[i];
		LhJsonScan	scan;
		uint32		lines = 0;

		for (uint32 b = 0; b < f->start; b++)
			lines += data[b] == '\n';
		if (f->line != lines)
			violate("a record has its line", f, NULL);
		if (f->unclosed)
			continue;
		if (f->start < at || f->end <= f->start || f->next < f->end || f->next > length)
			violate("records follow each other", f, NULL);
		check_between(data, at, f->start);
		check_between(data, f->end, f->next);
		if (json && !is_json(data + f->start, f->end - f->start))
			violate("a file that is JSON has records that are", f, NULL);
		lh_json_begin(&scan, data + f->start, length - f->start);
		if ((data[f->start] == '{' || data[f->start] == '[') &&
			lh_json_pass(&scan, lh_json_next(&scan)) && scan.p != data + f->end)
			violate("a record that is JSON is taken whole", f, NULL);
		at = f->next;
	}
	check_between(data, at, length);
}

static void
check_same(const FoundList *a, const FoundList *b)
{
	for (uint32 i = 0; i < Min(a->count, b->count); i++)
	{
		const Found *f = &a->found[i];
		const Found *g = &b->found[i];

		if (!same_place(f, g) || f->unclosed != g->unclosed)
			violate("windows do not matter", f, g);
	}
	if (a->count != b->count)
		violate("windows do not matter", NULL, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	FoundList	whole = {0},
				cut = {0};
	const char *data = (const char *) input + 2;

	if (size < 2)
		return 0;
	split_file(data, size - 2, 0, 0, &whole);
	check_bytes(data, size - 2, &whole);
	split_file(data, size - 2, (uint32) input[0] << 8 | input[1] | 1, 0, &cut);
	check_same(&whole, &cut);
	whole.count = cut.count = 0;
	split_file(data, size - 2, 0, input[0] & 0x7f, &whole);
	split_file(data, size - 2, (uint32) input[0] << 8 | input[1] | 1, input[0] & 0x7f, &cut);
	check_same(&whole, &cut);
	free(whole.found);
	free(cut.found);
	return 0;
}
