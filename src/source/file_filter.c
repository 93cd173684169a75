/*
 * file_filter.c
 *	  Which files beneath a directory are those of a source.
 *
 * A million names are judged for one that is new, so patterns are taken apart
 * once, and a path is not matched as a whole for each name in a directory: what
 * its directories matched is kept as a state.
 *
 * Invariant: a name is judged by its bytes and the pattern alone, never by what
 * lies in the file system; a pattern cannot lead out of the directory.
 */
#include "postgres.h"

#include <fnmatch.h>
#include <limits.h>

#include "nodes/pg_list.h"

#include "source/file_filter.h"

typedef enum GlobKind
{
	GLOB_PATTERN,				/* for fnmatch */
	GLOB_LITERAL,
	GLOB_ANY,
	GLOB_BEGIN,					/* text* */
	GLOB_END,					/* *text */
	GLOB_DEEP					/* **: any number of directories */
} GlobKind;

/* A pattern of one name. */
typedef struct Glob
{
	GlobKind	kind;
	const char *text;
	size_t		length;
} Glob;

struct LhFileFilter
{
	const LhFileSelection *selection;
	int			count;
	Glob		names[LH_FILTER_NAMES];
	Glob		name;			/* of the selection; any if it has none */
	int			ignored;
	Glob	   *ignore;
	LhMarking	marking;
	char	   *marker_begin;	/* around the name of the file */
	char	   *marker_end;
	bool		marker_of_stem; /* the name without its last extension */
};

static List *
split_pattern(const char *pattern)
{
	List	   *names = NIL;

	for (;;)
	{
		const char *slash = strchr(pattern, '/');

		names = lappend(names, slash ? pnstrdup(pattern, slash - pattern) : pstrdup(pattern));
		if (slash == NULL)
			return names;
		pattern = slash + 1;
	}
}

void
lh_file_pattern_check(const char *pattern)
{
	const char *problem = NULL;
	List	   *names = split_pattern(pattern);
	ListCell   *cell;

	if (pattern[0] == '/')
		problem = "The path begins with a slash.";
	else if (strlen(pattern) >= MAXPGPATH)
		problem = "The path is too long.";
	else if (list_length(names) > LH_FILTER_NAMES)
		problem = "The path has more than 64 names.";
	foreach(cell, names)
	{
		const char *name = lfirst(cell);

		if (problem != NULL)
			break;
		if (name[0] == '\0')
			problem = "The path contains an empty name.";
		else if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			problem = "The path contains \".\" or \"..\".";
		else if (strcmp(name, "**") != 0 && strstr(name, "**") != NULL)
			problem = "\"**\" stands for directories and must be a name of its own.";
		else if (strcmp(name, "**") == 0 && cell == list_tail(names))
			problem = "\"**\" stands for directories; the path names no file.";
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid path \"%s\"", pattern),
				 errdetail("%s", problem),
				 errhint("A path is a pattern beneath the server's directory, for example \"orders/*.csv\" or \"**/*.json\".")));
}

static Glob
make_glob(const char *text)
{
	static const char special[] = "*?[";
	Glob		glob = {.kind = GLOB_PATTERN, .text = text, .length = strlen(text)};
	size_t		plain = strcspn(text, special);

	if (plain == glob.length)
		glob.kind = GLOB_LITERAL;
	else if (strcmp(text, "*") == 0)
		glob.kind = GLOB_ANY;
	else if (strcmp(text, "**") == 0)
		glob.kind = GLOB_DEEP;
	else if (text[plain] == '*' && plain + 1 == glob.length)
	{
		glob.kind = GLOB_BEGIN;
		glob.length = plain;
	}
	else if (text[0] == '*' && strcspn(text + 1, special) + 1 == glob.length)
	{
		glob.kind = GLOB_END;
		glob.text++;
		glob.length--;
	}
	return glob;
}

static bool
match_glob(const Glob *glob, const char *name)
{
	size_t		length;

	switch (glob->kind)
	{
		case GLOB_LITERAL:
			return strcmp(glob->text, name) == 0;
		case GLOB_ANY:
			return true;
		case GLOB_BEGIN:
			return strncmp(glob->text, name, glob->length) == 0;
		case GLOB_END:
			length = strlen(name);
			return length >= glob->length &&
				memcmp(glob->text, name + length - glob->length, glob->length) == 0;
		case GLOB_DEEP:
			return false;
		case GLOB_PATTERN:
			break;
	}
	return fnmatch(glob->text, name, FNM_NOESCAPE) == 0;
}

/*
 * make_marker takes the name of a marker apart.
 */
static void
make_marker(LhFileFilter *filter, const char *marker)
{
	static const char *const places[] = {"{name}", "{stem}"};

	filter->marking = LH_MARKED_FOLDER;
	filter->marker_begin = pstrdup(marker);
	filter->marker_end = "";
	for (int i = 0; i < lengthof(places); i++)
	{
		char	   *place = strstr(filter->marker_begin, places[i]);

		if (place == NULL)
			continue;
		*place = '\0';
		filter->marker_end = place + strlen(places[i]);
		filter->marking = LH_MARKED_FILE;
		filter->marker_of_stem = (i == 1);
		return;
	}
}

LhFileFilter *
lh_file_filter_create(const LhFileSelection *selection)
{
	LhFileFilter *filter = palloc0(sizeof(LhFileFilter));
	ListCell   *cell;

	filter->selection = selection;
	foreach(cell, split_pattern(selection->path))
		if (filter->count < LH_FILTER_NAMES)
		filter->names[filter->count++] = make_glob(lfirst(cell));
	filter->name = make_glob(selection->name ? selection->name : "*");
	while (selection->ignore[filter->ignored] != NULL)
		filter->ignored++;
	filter->ignore = palloc(sizeof(Glob) * Max(filter->ignored, 1));
	for (int i = 0; i < filter->ignored; i++)
		filter->ignore[i] = make_glob(selection->ignore[i]);
	if (selection->marker != NULL)
		make_marker(filter, selection->marker);
	return filter;
}

/*
 * A "**" may stand for no directory at all: what follows it may be next, too.
 */
static LhFilterState
skip_deep(const LhFileFilter *filter, LhFilterState state)
{
	for (int i = 0; i < filter->count - 1; i++)
		if ((state & (UINT64CONST(1) << i)) != 0 && filter->names[i].kind == GLOB_DEEP)
			state |= UINT64CONST(1) << (i + 1);
	return state;
}

LhFilterState
lh_file_filter_start(const LhFileFilter *filter)
{
	return skip_deep(filter, 1);
}

LhFilterState
lh_file_filter_enter(const LhFileFilter *filter, LhFilterState state, const char *name)
{
	LhFilterState next = 0;

	/* the last name is that of a file */
	for (int i = 0; i < filter->count - 1; i++)
	{
		if ((state & (UINT64CONST(1) << i)) == 0)
			continue;
		if (filter->names[i].kind == GLOB_DEEP)
			next |= UINT64CONST(1) << i;
		else if (match_glob(&filter->names[i], name))
			next |= UINT64CONST(1) << (i + 1);
	}
	return skip_deep(filter, next);
}

bool
lh_file_filter_ignores(const LhFileFilter *filter, const char *name)
{
	for (int i = 0; i < filter->ignored; i++)
		if (match_glob(&filter->ignore[i], name))
			return true;
	return strncmp(name, LH_HIDDEN_NAME, strlen(LH_HIDDEN_NAME)) == 0;
}

bool
lh_file_filter_matches(const LhFileFilter *filter, LhFilterState state, const char *name)
{
	int			last = filter->count - 1;

	return (state & (UINT64CONST(1) << last)) != 0 &&
		match_glob(&filter->names[last], name) && match_glob(&filter->name, name) &&
		!lh_file_filter_is_marker(filter, name);
}

bool
lh_file_filter_wants_time(const LhFileFilter *filter, int64 mtime_ns)
{
	return mtime_ns > filter->selection->after_ns && mtime_ns < filter->selection->before_ns;
}

LhFilterState
lh_file_filter_directory(const LhFileFilter *filter, const char *path, int *depth)
{
	LhFilterState state = lh_file_filter_start(filter);

	*depth = 0;
	while (*path != '\0' && state != 0)
	{
		size_t		length = strcspn(path, "/");
		char	   *name = pnstrdup(path, length);

		state = lh_file_filter_ignores(filter, name) ? 0 : lh_file_filter_enter(filter, state, name);
		path += length + (path[length] == '/');
		(*depth)++;
	}
	return state;
}

bool
lh_file_filter_wants(const LhFileFilter *filter, const char *path, int64 mtime_ns)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;
	int			depth;
	LhFilterState state = lh_file_filter_directory(filter, pnstrdup(path, slash != NULL ? slash - path : 0),
												   &depth);

	return state != 0 && !lh_file_filter_ignores(filter, name) &&
		lh_file_filter_matches(filter, state, name) && lh_file_filter_wants_time(filter, mtime_ns);
}

LhMarking
lh_file_filter_marking(const LhFileFilter *filter)
{
	return filter->marking;
}

bool
lh_file_filter_is_marker(const LhFileFilter *filter, const char *name)
{
	size_t		begin;
	size_t		end;
	size_t		length;

	if (filter->marking == LH_MARKED_NONE)
		return false;
	if (filter->marking == LH_MARKED_FOLDER)
		return strcmp(name, filter->marker_begin) == 0;
	begin = strlen(filter->marker_begin);
	end = strlen(filter->marker_end);
	length = strlen(name);
	return length > begin + end && memcmp(name, filter->marker_begin, begin) == 0 &&
		memcmp(name + length - end, filter->marker_end, end) == 0;
}

bool
lh_file_filter_marker(const LhFileFilter *filter, const char *name, char *buffer)
{
	const char *dot = filter->marker_of_stem ? strrchr(name, '.') : NULL;
	int			length = (int) (dot != NULL && dot > name ? (size_t) (dot - name) : strlen(name));

	if (filter->marking == LH_MARKED_FOLDER)
		length = 0;
	return snprintf(buffer, NAME_MAX + 1, "%s%.*s%s", filter->marker_begin, length, name,
					filter->marker_end) <= NAME_MAX;
}

bool
lh_file_filter_marked(const LhFileFilter *filter, const char *marker, char *buffer)
{
	size_t		begin = strlen(filter->marker_begin);

	if (filter->marking != LH_MARKED_FILE || filter->marker_of_stem)
		return false;
	strlcpy(buffer, marker + begin,
			Min(NAME_MAX + 1, strlen(marker) - begin - strlen(filter->marker_end) + 1));
	return true;
}
