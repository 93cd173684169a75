/*
 * file_watch.c
 *	  Being told what happens in directories.
 *
 * Invariant: what is told makes a look come earlier and is no fact: each name is
 * looked at again.  Lost events, directories beyond the limit, network file
 * systems and machines without inotify cost latency, never a file: where not
 * everything is told, is_complete or has_lost says so, and everything is to be
 * listed.
 *
 * A directory is known here by the path under which it was last added.  If it
 * was renamed since, its names are looked for where it was and not found; the
 * event of the renaming leads to the new place.
 */
#include "postgres.h"

#include <limits.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#endif

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "source/file_watch.h"

/* directories that one source watches */
#define MAX_WATCHES 4096

/* names that are kept, 3 MB at most; the system keeps about as many */
#define MAX_TOLD 10000

/* A directory that is watched. */
typedef struct Watched
{
	int			number;			/* key: what the system calls it */
	uint32		listing;		/* the last one that added it */
	char	   *path;
} Watched;

typedef struct ToldKey
{
	int			number;
	char		name[NAME_MAX + 1];
} ToldKey;

typedef struct Told
{
	ToldKey		key;
	LhToldKind	kind;
} Told;

struct LhFileWatch
{
	int			fd;
	MemoryContext context;
	HTAB	   *directories;	/* of Watched */
	uint32		listing;
	int			added;			/* directories that it has found to be there */
	bool		incomplete;		/* some directory is not watched, or by others too */
	bool		lost;
	MemoryContext told_context;
	HTAB	   *told;			/* of Told; NULL = nothing */
	MemoryContextCallback release;
};

#ifdef __linux__

/* what may make a name another file, or let it be read */
#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ATTRIB)

static void
close_watch(void *arg)
{
	LhFileWatch *watch = arg;

	(void) close(watch->fd);
	ReleaseExternalFD();
}

LhFileWatch *
lh_file_watch_create(void)
{
	LhFileWatch *watch = palloc0(sizeof(LhFileWatch));
	HASHCTL		control = {.keysize = sizeof(int), .entrysize = sizeof(Watched)};

	if (!AcquireExternalFD())
		return NULL;
	watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch->fd < 0)
	{
		ReleaseExternalFD();
		return NULL;
	}
	watch->release.func = close_watch;
	watch->release.arg = watch;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &watch->release);
	watch->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse watched directories",
										   ALLOCSET_DEFAULT_SIZES);
	watch->told_context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse told names",
												ALLOCSET_DEFAULT_SIZES);
	control.hcxt = watch->context;
	watch->directories = hash_create("lakehouse watched directories", 64, &control,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return watch;
}

/*
 * is_local tells whether only this machine writes into the file system: of what
 * others do there we are not told.
 */
static bool
is_local(const LhDescriptor *directory)
{
	struct statfs status;

	if (fstatfs(directory->fd, &status) < 0)
		return false;
	switch ((uint32) status.f_type)
	{
		case EXT4_SUPER_MAGIC:
		case BTRFS_SUPER_MAGIC:
		case OVERLAYFS_SUPER_MAGIC:
		case TMPFS_MAGIC:
		case XFS_SUPER_MAGIC:
			return true;
		default:
			return false;
	}
}

static void
remove_watched(LhFileWatch *watch, Watched *watched)
{
	if (watched->path != NULL)
		pfree(watched->path);
	if (watched->listing == watch->listing)
		watch->added--;
	(void) hash_search(watch->directories, &watched->number, HASH_REMOVE, NULL);
}

void
lh_file_watch_begin(LhFileWatch *watch)
{
	(void) lh_file_watch_drain(watch);
	lh_file_watch_forget(watch);
	watch->listing++;
	watch->added = 0;
	watch->lost = watch->incomplete = false;
}

void
lh_file_watch_end(LhFileWatch *watch)
{
	HASH_SEQ_STATUS scan;
	Watched    *watched;

	hash_seq_init(&scan, watch->directories);
	while ((watched = hash_seq_search(&scan)) != NULL)
	{
		if (watched->listing == watch->listing)
			continue;
		(void) inotify_rm_watch(watch->fd, watched->number);
		remove_watched(watch, watched);
	}
}

/*
 * lh_file_watch_add names the directory by its descriptor, so that no link can
 * lead the watch elsewhere.
 */
void
lh_file_watch_add(LhFileWatch *watch, const LhDescriptor *directory, const char *path)
{
	char		place[64];
	int			number;
	Watched    *watched;
	bool		found;

	if (watch->added >= MAX_WATCHES)
	{
		watch->incomplete = true;
		return;
	}
	if (!is_local(directory))
		watch->incomplete = true;
	snprintf(place, sizeof(place), "/proc/self/fd/%d", directory->fd);
	number = inotify_add_watch(watch->fd, place, EVENTS | IN_ONLYDIR);
	if (number < 0)
	{
		watch->incomplete = true;
		return;
	}
	watched = hash_search(watch->directories, &number, HASH_ENTER, &found);
	if (!found)
		watched->path = NULL;
	if (!found || watched->listing != watch->listing)
		watch->added++;
	watched->listing = watch->listing;
	if (!found && hash_get_num_entries(watch->directories) > MAX_WATCHES)
	{
		(void) inotify_rm_watch(watch->fd, number);
		remove_watched(watch, watched);
		watch->incomplete = true;
		return;
	}
	if (watched->path != NULL && strcmp(watched->path, path) == 0)
		return;
	if (watched->path != NULL)
		pfree(watched->path);
	watched->path = NULL;
	watched->path = MemoryContextStrdup(watch->context, path);
}

static void
keep_told(LhFileWatch *watch, int number, const char *name, LhToldKind kind)
{
	ToldKey		key;
	Told	   *told;
	bool		found;

	if (watch->told == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(ToldKey), .entrysize = sizeof(Told),
		.hcxt = watch->told_context};

		watch->told = hash_create("lakehouse told names", 256, &control,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (hash_get_num_entries(watch->told) >= MAX_TOLD)
	{
		watch->lost = true;
		return;
	}
	memset(&key, 0, sizeof(key));
	key.number = number;
	strlcpy(key.name, name, sizeof(key.name));
	told = hash_search(watch->told, &key, HASH_ENTER, &found);
	told->kind = found ? Max(told->kind, kind) : kind;
}

static void
take_event(LhFileWatch *watch, const struct inotify_event *event)
{
	Watched    *watched;

	if ((event->mask & (IN_Q_OVERFLOW | IN_UNMOUNT)) != 0)
		watch->lost = true;
	watched = hash_search(watch->directories, &event->wd, HASH_FIND, NULL);
	if (watched == NULL)
		return;
	if ((event->mask & IN_IGNORED) != 0)
		remove_watched(watch, watched);
	else if (event->len == 0)
		return;
	else if ((event->mask & IN_ISDIR) != 0)
		keep_told(watch, event->wd, event->name, LH_TOLD_DIRECTORY);
	else
		keep_told(watch, event->wd, event->name,
				  (event->mask & IN_CREATE) != 0 ? LH_TOLD_CREATED : LH_TOLD_COMPLETE);
}

bool
lh_file_watch_drain(LhFileWatch *watch)
{
	union
	{
		struct inotify_event event;
		char		bytes[65536];
	}			buffer;
	ssize_t		length;

	while ((length = read(watch->fd, &buffer, sizeof(buffer))) > 0)
	{
		for (ssize_t at = 0; at < length;)
		{
			const struct inotify_event *event = (const struct inotify_event *) (buffer.bytes + at);

			take_event(watch, event);
			at += sizeof(struct inotify_event) + event->len;
		}
	}
	return watch->told != NULL || watch->lost;
}

static int
compare_told(const void *a, const void *b)
{
	const LhTold *x = a;
	const LhTold *y = b;
	int			order = strcmp(x->directory, y->directory);

	return order != 0 ? order : strcmp(x->name, y->name);
}

LhTold *
lh_file_watch_told(LhFileWatch *watch, int *count)
{
	LhTold	   *result;
	HASH_SEQ_STATUS scan;
	Told	   *told;

	*count = 0;
	if (watch->told == NULL)
		return NULL;
	result = palloc(sizeof(LhTold) * hash_get_num_entries(watch->told));
	hash_seq_init(&scan, watch->told);
	while ((told = hash_seq_search(&scan)) != NULL)
	{
		Watched    *watched = hash_search(watch->directories, &told->key.number, HASH_FIND, NULL);

		/* a directory that is gone */
		if (watched == NULL || watched->path == NULL)
			continue;
		result[*count].directory = watched->path;
		result[*count].name = told->key.name;
		result[(*count)++].kind = told->kind;
	}
	qsort(result, *count, sizeof(LhTold), compare_told);
	return result;
}

#else							/* ! __linux__ */

LhFileWatch *
lh_file_watch_create(void)
{
	return NULL;
}

void
lh_file_watch_begin(LhFileWatch *watch)
{
}

void
lh_file_watch_end(LhFileWatch *watch)
{
}

void
lh_file_watch_add(LhFileWatch *watch, const LhDescriptor *directory, const char *path)
{
}

bool
lh_file_watch_drain(LhFileWatch *watch)
{
	return false;
}

LhTold *
lh_file_watch_told(LhFileWatch *watch, int *count)
{
	*count = 0;
	return NULL;
}

#endif							/* __linux__ */

bool
lh_file_watch_is_complete(const LhFileWatch *watch)
{
	return !watch->incomplete;
}

int
lh_file_watch_count(const LhFileWatch *watch)
{
	return (int) hash_get_num_entries(watch->directories);
}

bool
lh_file_watch_has_told(const LhFileWatch *watch)
{
	return watch->told != NULL;
}

bool
lh_file_watch_has_lost(const LhFileWatch *watch)
{
	return watch->lost;
}

void
lh_file_watch_forget(LhFileWatch *watch)
{
	watch->told = NULL;
	MemoryContextReset(watch->told_context);
}

bool
lh_file_watch_wait(LhFileWatch *watch, long timeout_ms)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int			result;

	if (watch == NULL)
		result = WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
	else
		result = WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE, watch->fd,
								   timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return (result & WL_SOCKET_READABLE) != 0 && lh_file_watch_drain(watch);
}
