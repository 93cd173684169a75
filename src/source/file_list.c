/*
 * file_list.c
 *	  The files beneath a directory that match a pattern.
 *
 * Invariant: the walk holds the names of directories yet to be read, never
 * those of files, so that a directory of a million files costs no memory.  It
 * never leaves the directory and never follows a symbolic link.
 *
 * Names that begin with "." or "_" and those that end in ".tmp" or ".part" are
 * no files yet, or not for us, and are passed over in silence.  A link, FIFO,
 * device, socket or directory whose name matches is reported with its problem:
 * somebody expects it to be loaded.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <unistd.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "fault.h"
#include "source/file_list.h"
#include "source/file_watch.h"

/* directories deeper than this are not read: a bind mount may form a loop */
#define MAX_DEPTH 64

typedef struct Walk
{
	const LhDescriptor *root;
	List	   *names;			/* of the pattern, char * */
	int			any_depth;		/* index of the first "**", or the number of names */
	bool		has_any_depth;
	LhFileWatch *watch;			/* or NULL */
	LhListedFunction found;
	void	   *arg;
	List	   *waiting;		/* directories to read, char *, last first */
	MemoryContext context;		/* of "waiting" */
} Walk;

static List *split_pattern(const char *pattern);
static void read_directory(Walk *walk, const char *directory);
static void judge_entry(Walk *walk, LhDescriptor *descriptor, const char *directory, const char *name);
static bool match_path(const List *names, int from, const char *path);

/*
 * lh_file_list walks the directory.  Raises if the root cannot be read; a
 * directory beneath it that cannot be read is reported as a problem.
 */
void
lh_file_list(const LhDescriptor *root, const char *pattern, LhFileWatch *watch,
			 LhListedFunction found, void *arg)
{
	Walk		walk = {.root = root, .watch = watch, .found = found, .arg = arg};
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "lakehouse directory",
												ALLOCSET_DEFAULT_SIZES);
	ListCell   *cell;

	walk.context = CurrentMemoryContext;
	walk.names = split_pattern(pattern);
	walk.any_depth = list_length(walk.names);
	foreach(cell, walk.names)
	{
		if (strcmp(lfirst(cell), "**") != 0)
			continue;
		walk.any_depth = foreach_current_index(cell);
		walk.has_any_depth = true;
		break;
	}
	LH_FAULT("scan");
	walk.waiting = list_make1(pstrdup(""));
	while (walk.waiting != NIL)
	{
		char	   *directory = llast(walk.waiting);
		MemoryContext oldcontext = MemoryContextSwitchTo(batch);

		walk.waiting = list_delete_last(walk.waiting);
		read_directory(&walk, directory);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(batch);
		pfree(directory);
	}
	MemoryContextDelete(batch);
}

/*
 * lh_file_pattern_check raises for a path that cannot be a pattern.
 */
void
lh_file_pattern_check(const char *pattern)
{
	const char *problem = NULL;
	List	   *names;
	ListCell   *cell;

	if (pattern[0] == '/')
		problem = "The path begins with a slash.";
	else if (strlen(pattern) >= MAXPGPATH)
		problem = "The path is too long.";
	names = split_pattern(pattern);
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

static int
depth_of(const char *directory)
{
	int			depth = directory[0] != '\0' ? 1 : 0;

	for (; *directory != '\0'; directory++)
		depth += (*directory == '/');
	return depth;
}

static void
report_problem(Walk *walk, const char *path, int sqlstate, const char *problem)
{
	LhListed	listed = {.path = path, .problem = problem, .sqlstate = sqlstate};

	walk->found(&listed, walk->arg);
}

/* closes a directory stream when the walk ends, by an error too */
static void
close_stream(void *arg)
{
	(void) closedir(arg);
}

/*
 * read_directory reports what matches in one directory and remembers its
 * subdirectories.  Allocates in the current context, which the caller resets.
 */
static void
read_directory(Walk *walk, const char *directory)
{
	LhDescriptor *descriptor = lh_subdirectory_open(walk->root, directory[0] ? directory : ".");
	MemoryContextCallback *release;
	MemoryContext entry_context;
	MemoryContext oldcontext;
	DIR		   *stream = NULL;
	struct dirent *entry;

	/* the watch first: what comes after the reading is then told */
	if (descriptor != NULL && walk->watch != NULL)
		lh_file_watch_add(walk->watch, descriptor);
	if (descriptor != NULL)
		stream = fdopendir(fcntl(descriptor->fd, F_DUPFD_CLOEXEC, 0));
	if (stream == NULL)
	{
		if (directory[0] == '\0')
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read the server's directory: %m")));
		/* gone meanwhile is no problem */
		if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			report_problem(walk, directory,
						   errno == EACCES ? ERRCODE_INSUFFICIENT_PRIVILEGE : ERRCODE_IO_ERROR,
						   psprintf("could not read directory: %s", strerror(errno)));
		return;
	}
	release = palloc0(sizeof(MemoryContextCallback));
	release->func = close_stream;
	release->arg = stream;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, release);

	entry_context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse directory entry",
										  ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(entry_context);
	while ((entry = readdir(stream)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		judge_entry(walk, descriptor, directory, entry->d_name);
		MemoryContextReset(entry_context);
	}
	MemoryContextSwitchTo(oldcontext);
}

static bool
is_ignored(const char *name)
{
	size_t		length = strlen(name);

	return name[0] == '.' || name[0] == '_' ||
		(length > 4 && strcmp(name + length - 4, ".tmp") == 0) ||
		(length > 5 && strcmp(name + length - 5, ".part") == 0);
}

static const char *
describe_kind(mode_t mode)
{
	if (S_ISLNK(mode))
		return "is a symbolic link, not a regular file";
	if (S_ISDIR(mode))
		return "is a directory, not a regular file";
	if (S_ISFIFO(mode))
		return "is a FIFO, not a regular file";
	if (S_ISSOCK(mode))
		return "is a socket, not a regular file";
	return "is a device, not a regular file";
}

/*
 * judge_entry reports one directory entry if it matches, and remembers it if
 * it is a directory in which something could match.
 */
static void
judge_entry(Walk *walk, LhDescriptor *descriptor, const char *directory, const char *name)
{
	char	   *path;
	struct stat status;
	int			depth = depth_of(directory);
	int			last = list_length(walk->names) - 1;

	if (is_ignored(name))
		return;
	path = directory[0] ? psprintf("%s/%s", directory, name) : pstrdup(name);
	if (strlen(path) >= PATH_MAX)
		return;
	if (fstatat(descriptor->fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
	{
		if (errno != ENOENT)
			report_problem(walk, path, ERRCODE_INSUFFICIENT_PRIVILEGE,
						   psprintf("could not look at file: %s", strerror(errno)));
		return;
	}
	if (S_ISDIR(status.st_mode))
	{
		bool		enter = depth >= walk->any_depth ||
		(depth < last && fnmatch(list_nth(walk->names, depth), name, FNM_NOESCAPE) == 0);

		if (enter && depth < MAX_DEPTH)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(walk->context);

			walk->waiting = lappend(walk->waiting, pstrdup(path));
			MemoryContextSwitchTo(oldcontext);
			return;
		}
	}
	if (!match_path(walk->names, 0, path))
		return;
	if (S_ISREG(status.st_mode))
	{
		LhListed	listed = {.path = path, .size = status.st_size,
		.mtime_ns = lh_file_mtime_ns(&status)};

		walk->found(&listed, walk->arg);
	}
	else
		report_problem(walk, path, ERRCODE_WRONG_OBJECT_TYPE, describe_kind(status.st_mode));
}

/*
 * match_path matches a path against the names of the pattern from "from" on.
 */
static bool
match_path(const List *names, int from, const char *path)
{
	const char *name;
	const char *slash = strchr(path, '/');
	char	   *step;

	if (from == list_length(names))
		return false;
	name = list_nth(names, from);
	if (strcmp(name, "**") == 0)
	{
		/* no directory at all, or this one and perhaps more */
		return match_path(names, from + 1, path) ||
			(slash != NULL && match_path(names, from, slash + 1));
	}
	step = slash ? pnstrdup(path, slash - path) : pstrdup(path);
	if (fnmatch(name, step, FNM_NOESCAPE) != 0)
		return false;
	return slash ? match_path(names, from + 1, slash + 1) : from == list_length(names) - 1;
}

bool
lh_file_pattern_matches(const char *pattern, const char *path)
{
	return match_path(split_pattern(pattern), 0, path);
}

/*
 * lh_file_pattern_reaches follows the pattern into the directory, "" being the
 * root.
 */
bool
lh_file_pattern_reaches(const char *pattern, const char *directory)
{
	List	   *names = split_pattern(pattern);
	int			depth = 0;

	while (directory[0] != '\0')
	{
		char	   *step = pnstrdup(directory, strcspn(directory, "/"));
		const char *name = list_nth(names, depth);

		if (is_ignored(step))
			return false;
		if (strcmp(name, "**") == 0)
			return true;
		/* the last name is that of a file */
		if (++depth == list_length(names) || fnmatch(name, step, FNM_NOESCAPE) != 0)
			return false;
		directory += strlen(step);
		directory += strspn(directory, "/");
	}
	return true;
}
