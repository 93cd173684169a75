/*
 * windows.h
 *	  What the harnesses share that find records in a file cut into windows.
 *
 * Whoever includes it defines before: Found, what is found of one record, with
 * at least start, end, next (where the search goes on), line and lines (line ends
 * passed up to "next"); and behind it print_found.
 */
#ifndef WINDOWS_H
#define WINDOWS_H

/* those of the C library: nothing of PostgreSQL is linked */
#undef fprintf

typedef struct FoundList
{
	Found	   *found;
	uint32		count;
	uint32		allocated;
} FoundList;

static void print_found(const Found *found);

static void
violate(const char *rule, const Found *a, const Found *b)
{
	fprintf(stderr, "rule broken: %s\n", rule);
	if (a != NULL)
		print_found(a);
	if (b != NULL)
		print_found(b);
	abort();
}

static Found *
add_found(FoundList *list)
{
	if (list->count == list->allocated)
	{
		list->allocated = list->allocated * 2 + 16;
		list->found = realloc(list->found, list->allocated * sizeof(Found));
	}
	memset(&list->found[list->count], 0, sizeof(Found));
	return &list->found[list->count++];
}

static bool
same_place(const Found *a, const Found *b)
{
	return a->start == b->start && a->end == b->end && a->next == b->next &&
		a->line == b->line && a->lines == b->lines;
}

/*
 * A file as a reader sees it: windows that begin with a record, grown as long as
 * the record does not end in them.
 */
typedef struct Windows
{
	const char *data;
	uint32		length;
	uint32		padding;		/* blanks behind each window */
	uint32		random;			/* gives their sizes; 0 = the file is one window */
	char	   *window;			/* a copy with not a byte more, so that a read beyond it is seen */
	uint32		offset;			/* of the window in the file */
	uint32		line;			/* line ends before it */
	uint32		size;
} Windows;

static void
copy_window(Windows *windows)
{
	free(windows->window);
	windows->window = malloc(windows->size + windows->padding);
	memcpy(windows->window, windows->data + windows->offset, windows->size);
	memset(windows->window + windows->size, ' ', windows->padding);
}

static bool
is_last_window(const Windows *windows)
{
	return windows->offset + windows->size == windows->length;
}

static void
begin_windows(Windows *windows, const char *data, uint32 length, uint32 random, uint32 padding)
{
	memset(windows, 0, sizeof(Windows));
	windows->data = data;
	windows->length = length;
	windows->padding = padding;
	windows->random = random;
	windows->size = random == 0 ? length : Min(random % 97, length);
	copy_window(windows);
}

/*
 * The next window begins where the search goes on, "lines" line ends further.
 */
static void
next_window(Windows *windows, uint32 position, uint32 lines)
{
	if (is_last_window(windows))
		violate("nothing more is asked for behind the last byte", NULL, NULL);
	windows->offset += position;
	windows->line += lines;
	windows->random = windows->random * 1103515245 + 12345;
	windows->size = (position == 0 ? windows->size : 0) + 1 + (windows->random >> 16) % 97;
	windows->size = Min(windows->size, windows->length - windows->offset);
	copy_window(windows);
}

static void
end_windows(Windows *windows, uint32 position)
{
	if (windows->offset + position != windows->length)
		violate("the end of the search is the end of the file", NULL, NULL);
	free(windows->window);
}

#endif							/* WINDOWS_H */
