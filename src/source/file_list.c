/*
 * file_list.c
 *	  The files beneath a directory that a source wants.
 *
 * Invariant: the walk holds the names of directories yet to be read, never
 * those of files, so that a directory of a million files costs no memory.  It
 * never leaves the directory and never follows a symbolic link.
 *
 * A name that does not match is judged by the kind that the directory tells;
 * size and time are asked for one that does.  A link, FIFO, device, socket or
 * directory whose name matches is reported with its problem: somebody expects
 * it to be loaded.  A file without its marker is not there yet.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "fault.h"
#include "source/file_list.h"

/* directories deeper than this are named and not read: a bind mount may form a loop */
#define MAX_DEPTH 64

/* unreadable directories that are named */
#define MAX_UNREADABLE 100

/* A directory that waits to be read. */
typedef struct Waiting
{
	LhFilterState state;
	int			depth;
	bool		flat;			/* without its subdirectories */
	char		path[FLEXIBLE_ARRAY_MEMBER];
} Waiting;

typedef struct Walk
{
	const LhDescriptor *root;
	const LhFileFilter *filter;
	LhFileWatch *watch;			/* or NULL */
	LhListedFunction found;
	void	   *arg;
	LhListCounts *counts;
	List	   *waiting;		/* of Waiting, last first */
	MemoryContext context;		/* of "waiting" and the counts' texts */
	MemoryContext batch;		/* of one directory */
	MemoryContext entry;		/* of one name */
	int64		wanted;			/* names to be counted and not looked at; 0 = look */
} Walk;

/* A directory being looked into. */
typedef struct Place
{
	const Waiting *directory;
	LhDescriptor *descriptor;
	bool		marked;			/* its files may be complete */
	bool		again;			/* all of it will be read */
	bool		cut;			/* it has names that are too long */
	size_t		prefix;			/* length of the directory's part of "path" */
	char		path[PATH_MAX + NAME_MAX + 2];
} Place;

static void begin_walk(Walk *walk);
static void end_walk(Walk *walk);
static void add_waiting(Walk *walk, const char *path, LhFilterState state, int depth, bool flat);
static void read_waiting(Walk *walk);
static void read_directory(Walk *walk, const Waiting *directory);
static bool open_place(Walk *walk, const Waiting *directory, Place *place);
static void judge_name(Walk *walk, Place *place, const char *name, unsigned char type);
static void judge_told(Walk *walk, Place *place, const LhTold *told);

void
lh_file_list(const LhDescriptor *root, const LhFileFilter *filter, LhFileWatch *watch,
			 LhListedFunction found, void *arg, LhListCounts *counts)
{
	Walk		walk = {.root = root, .filter = filter, .watch = watch, .found = found,
	.arg = arg, .counts = counts};

	LH_FAULT("scan");
	begin_walk(&walk);
	if (watch != NULL)
		lh_file_watch_begin(watch);
	add_waiting(&walk, "", lh_file_filter_start(filter), 0, false);
	read_waiting(&walk);
	if (watch != NULL)
		lh_file_watch_end(watch);
	end_walk(&walk);
}

bool
lh_file_list_reaches(const LhDescriptor *root, const LhFileFilter *filter, int64 number)
{
	LhListCounts counts = {0};
	Walk		walk = {.root = root, .filter = filter, .counts = &counts, .wanted = number};

	begin_walk(&walk);
	add_waiting(&walk, "", lh_file_filter_start(filter), 0, false);
	read_waiting(&walk);
	end_walk(&walk);
	return counts.looked_at >= number;
}

void
lh_file_list_told(const LhDescriptor *root, const LhFileFilter *filter, LhFileWatch *watch,
				  LhListedFunction found, void *arg, LhListCounts *counts)
{
	Walk		walk = {.root = root, .filter = filter, .watch = watch, .found = found,
	.arg = arg, .counts = counts};
	Place	   *place = palloc(sizeof(Place));
	int			count;
	LhTold	   *told = lh_file_watch_told(watch, &count);

	LH_FAULT("scan");
	begin_walk(&walk);
	for (int i = 0; i < count;)
	{
		const char *directory = told[i].directory;
		MemoryContext oldcontext = MemoryContextSwitchTo(walk.batch);
		Waiting    *waiting = palloc0(offsetof(Waiting, path) + strlen(directory) + 1);
		bool		open;

		strcpy(waiting->path, directory);
		waiting->state = lh_file_filter_directory(filter, directory, &waiting->depth);
		open = waiting->state != 0 && open_place(&walk, waiting, place);
		MemoryContextSwitchTo(walk.entry);
		for (; i < count && told[i].directory == directory; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (open)
				judge_told(&walk, place, &told[i]);
			MemoryContextReset(walk.entry);
		}
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(walk.batch);
	}
	read_waiting(&walk);
	end_walk(&walk);
	pfree(place);
}

static void
begin_walk(Walk *walk)
{
	walk->context = CurrentMemoryContext;
	walk->batch = AllocSetContextCreate(CurrentMemoryContext, "lakehouse directory",
										ALLOCSET_DEFAULT_SIZES);
	walk->entry = AllocSetContextCreate(CurrentMemoryContext, "lakehouse directory entry",
										ALLOCSET_SMALL_SIZES);
}

static void
end_walk(Walk *walk)
{
	MemoryContextDelete(walk->entry);
	MemoryContextDelete(walk->batch);
}

static void
add_waiting(Walk *walk, const char *path, LhFilterState state, int depth, bool flat)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(walk->context);
	Waiting    *waiting = palloc(offsetof(Waiting, path) + strlen(path) + 1);

	waiting->state = state;
	waiting->depth = depth;
	waiting->flat = flat;
	strcpy(waiting->path, path);
	walk->waiting = lappend(walk->waiting, waiting);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * is_enough tells whether a walk that counts has counted all it wants to.
 */
static inline bool
is_enough(const Walk *walk)
{
	return walk->wanted > 0 && walk->counts->looked_at >= walk->wanted;
}

static void
read_waiting(Walk *walk)
{
	while (walk->waiting != NIL && !is_enough(walk))
	{
		Waiting    *directory = llast(walk->waiting);
		MemoryContext oldcontext = MemoryContextSwitchTo(walk->batch);

		walk->waiting = list_delete_last(walk->waiting);
		read_directory(walk, directory);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(walk->batch);
		pfree(directory);
	}
}

static void
report_problem(Walk *walk, const char *path, int sqlstate, const char *problem)
{
	LhListed	listed = {.path = path, .problem = problem, .sqlstate = sqlstate};

	if (walk->found != NULL)
		walk->found(&listed, walk->arg);
}

/*
 * note_unread keeps why a directory, or something in it, is not read.
 */
static void
note_unread(Walk *walk, const char *path, const char *reason)
{
	MemoryContext oldcontext;

	if (walk->counts->unreadable_count++ >= MAX_UNREADABLE)
		return;
	oldcontext = MemoryContextSwitchTo(walk->context);
	walk->counts->unreadable = lappend(walk->counts->unreadable, psprintf("%s: %s", path, reason));
	MemoryContextSwitchTo(oldcontext);
}

/*
 * report_unreadable notes a directory that cannot be read; the root must be.
 */
static void
report_unreadable(Walk *walk, const char *path, int error)
{
	errno = error;
	if (path[0] == '\0')
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read the server's directory: %m")));
	/* gone meanwhile is no problem */
	if (error == ENOENT || error == ENOTDIR || error == ELOOP)
		return;
	note_unread(walk, path, strerror(error));
}

/*
 * open_place opens a directory to look into it; false if that is not possible.
 */
static bool
open_place(Walk *walk, const Waiting *directory, Place *place)
{
	char		marker[NAME_MAX + 1];
	struct stat status;

	place->directory = directory;
	place->again = place->cut = false;
	place->prefix = strlen(directory->path);
	memcpy(place->path, directory->path, place->prefix);
	if (place->prefix > 0)
		place->path[place->prefix++] = '/';
	place->descriptor = lh_subdirectory_open(walk->root, directory->path[0] ? directory->path : ".");
	if (place->descriptor == NULL)
	{
		report_unreadable(walk, directory->path, errno);
		return false;
	}
	place->marked = lh_file_filter_marking(walk->filter) != LH_MARKED_FOLDER ||
		(lh_file_filter_marker(walk->filter, "", marker) &&
		 fstatat(place->descriptor->fd, marker, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		 S_ISREG(status.st_mode));
	return true;
}

/* closes a directory stream when the walk ends, by an error too */
static void
close_stream(void *arg)
{
	(void) closedir(arg);
}

/*
 * open_stream makes a stream that is closed with the current context; NULL with
 * errno set if that fails.
 */
static DIR *
open_stream(const LhDescriptor *descriptor)
{
	MemoryContextCallback *release = palloc0(sizeof(MemoryContextCallback));
	int			fd = fcntl(descriptor->fd, F_DUPFD_CLOEXEC, 0);
	DIR		   *stream = fd < 0 ? NULL : fdopendir(fd);

	if (stream == NULL)
	{
		if (fd >= 0)
			(void) close(fd);
		return NULL;
	}
	release->func = close_stream;
	release->arg = stream;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, release);
	return stream;
}

/*
 * read_directory reports what matches in one directory and remembers its
 * subdirectories.  Allocates in the current context, which the caller resets.
 */
static void
read_directory(Walk *walk, const Waiting *directory)
{
	Place	   *place = palloc(sizeof(Place));
	MemoryContext oldcontext;
	DIR		   *stream;
	struct dirent *entry;

	if (!open_place(walk, directory, place))
		return;
	/* the watch first: what comes after the reading is then told */
	if (walk->watch != NULL)
		lh_file_watch_add(walk->watch, place->descriptor, directory->path);
	stream = open_stream(place->descriptor);
	if (stream == NULL)
	{
		report_unreadable(walk, directory->path, errno);
		return;
	}
	oldcontext = MemoryContextSwitchTo(walk->entry);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		errno = 0;
		if ((entry = readdir(stream)) == NULL || is_enough(walk))
			break;
		judge_name(walk, place, entry->d_name, entry->d_type);
		MemoryContextReset(walk->entry);
	}
	/* a listing that ends early must not look like a whole one */
	if (entry == NULL && errno != 0)
		report_unreadable(walk, directory->path, errno);
	MemoryContextSwitchTo(oldcontext);
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
 * has_marker tells whether a file that matches is complete, as far as markers
 * say so.  To be asked before size and time are: what comes after the marker is
 * the file as it is to be.
 */
static bool
has_marker(Walk *walk, const Place *place, const char *name)
{
	char		marker[NAME_MAX + 1];
	struct stat status;

	if (lh_file_filter_marking(walk->filter) != LH_MARKED_FILE)
		return place->marked;
	return lh_file_filter_marker(walk->filter, name, marker) &&
		fstatat(place->descriptor->fd, marker, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		S_ISREG(status.st_mode);
}

/*
 * enter_directory remembers a subdirectory in which something could match;
 * false if nothing can.
 */
static bool
enter_directory(Walk *walk, Place *place, const char *name)
{
	const Waiting *directory = place->directory;
	LhFilterState state = lh_file_filter_enter(walk->filter, directory->state, name);

	if (state == 0)
		return false;
	if (directory->flat)
		return true;
	if (directory->depth < MAX_DEPTH)
		add_waiting(walk, place->path, state, directory->depth + 1, false);
	else
		note_unread(walk, place->path, "lies too deep");
	return true;
}

/*
 * complete_path makes place->path that of a name in the directory; false if it
 * is too long for any path, which is noted once for a directory.
 */
static bool
complete_path(Walk *walk, Place *place, const char *name)
{
	size_t		length = strlen(name);

	if (place->prefix + length >= PATH_MAX)
	{
		if (!place->cut)
			note_unread(walk, place->directory->path, strerror(ENAMETOOLONG));
		place->cut = true;
		return false;
	}
	memcpy(place->path + place->prefix, name, length + 1);
	return true;
}

/*
 * look_at asks for size and time of a name; *status is then valid if true is
 * returned.
 */
static bool
look_at(Walk *walk, Place *place, const char *name, struct stat *status)
{
	walk->counts->looked_at++;
	if (fstatat(place->descriptor->fd, name, status, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	if (errno != ENOENT)
		report_problem(walk, place->path, ERRCODE_INSUFFICIENT_PRIVILEGE,
					   psprintf("could not look at file: %s", strerror(errno)));
	return false;
}

static void
report_match(Walk *walk, const Place *place, const struct stat *status)
{
	LhListed	listed = {.path = place->path, .size = status->st_size,
	.mtime_ns = lh_file_mtime_ns(status)};

	if (!S_ISREG(status->st_mode))
		report_problem(walk, place->path, ERRCODE_WRONG_OBJECT_TYPE, describe_kind(status->st_mode));
	else if (lh_file_filter_wants_time(walk->filter, listed.mtime_ns))
		walk->found(&listed, walk->arg);
}

/*
 * judge_name reports one name if it matches, and remembers it if it is a
 * directory in which something could match.  "type" is what the directory says
 * of its kind.
 */
static void
judge_name(Walk *walk, Place *place, const char *name, unsigned char type)
{
	bool		matches;
	bool		marked;
	struct stat status;

	if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
		return;
	if (lh_file_filter_ignores(walk->filter, name) || !complete_path(walk, place, name))
		return;
	if (type == DT_DIR && enter_directory(walk, place, name))
		return;
	matches = lh_file_filter_matches(walk->filter, place->directory->state, name);
	if (!matches && type != DT_UNKNOWN)
		return;
	if (walk->wanted > 0 && type != DT_UNKNOWN)
	{
		walk->counts->looked_at++;
		return;
	}
	marked = !matches || has_marker(walk, place, name);
	if (!marked && type == DT_REG)
	{
		walk->counts->unmarked++;
		return;
	}
	if (!look_at(walk, place, name, &status))
		return;
	if (type == DT_UNKNOWN && S_ISDIR(status.st_mode) && enter_directory(walk, place, name))
		return;
	if (!matches || walk->wanted > 0)
		return;
	if (!marked && S_ISREG(status.st_mode))
		walk->counts->unmarked++;
	else
		report_match(walk, place, &status);
}

/*
 * judge_told does the same for a name of which an event came.
 */
static void
judge_told(Walk *walk, Place *place, const LhTold *told)
{
	char		name[NAME_MAX + 1];
	struct stat status;

	if (lh_file_filter_is_marker(walk->filter, told->name))
	{
		/* of one file, or of any number in this directory */
		if (lh_file_filter_marked(walk->filter, told->name, name))
			judge_name(walk, place, name, DT_UNKNOWN);
		else if (!place->again)
			add_waiting(walk, place->directory->path, place->directory->state,
						place->directory->depth, true);
		place->again = true;
		return;
	}
	/* a file that is being made is told of again when it is closed; a link to one
	 * that was there is not */
	if (told->kind == LH_TOLD_CREATED &&
		(fstatat(place->descriptor->fd, told->name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
		 (S_ISREG(status.st_mode) && status.st_nlink < 2)))
		return;
	judge_name(walk, place, told->name, DT_UNKNOWN);
}
