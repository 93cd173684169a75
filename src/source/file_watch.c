/*
 * file_watch.c
 *	  Being told that something arrived in a directory.
 *
 * Invariant: a watch only makes the next listing come earlier.  Lost events,
 * directories beyond the limit, network file systems and machines without
 * inotify cost latency, never a file.
 */
#include "postgres.h"

#include <unistd.h>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#endif

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "source/file_watch.h"

/* directories that one source watches */
#define MAX_WATCHES 1024

struct LhFileWatch
{
	int			fd;
	int			count;			/* watches added; a repeated one counts again */
	bool		incomplete;		/* some directory is not watched, or by others too */
	MemoryContextCallback release;
};

#ifdef __linux__

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

/*
 * lh_file_watch_add names the directory by its descriptor, so that no link can
 * lead the watch elsewhere.
 */
void
lh_file_watch_add(LhFileWatch *watch, const LhDescriptor *directory)
{
	char		path[64];
	int			number;

	if (watch->count >= MAX_WATCHES || !is_local(directory))
		watch->incomplete = true;
	if (watch->count >= MAX_WATCHES)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", directory->fd);
	number = inotify_add_watch(watch->fd, path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR);
	/* numbers grow by one for each directory that was not watched before */
	watch->count = Max(watch->count, number);
	if (number < 0)
		watch->incomplete = true;
}

/*
 * drain reads all events; true if one of them says that a file is complete or
 * that a directory appeared.
 */
static bool
drain(LhFileWatch *watch)
{
	union
	{
		struct inotify_event event;
		char		bytes[16384];
	}			buffer;
	bool		arrived = false;
	ssize_t		length;

	while ((length = read(watch->fd, &buffer, sizeof(buffer))) > 0)
	{
		for (ssize_t at = 0; at < length;)
		{
			const struct inotify_event *event = (const struct inotify_event *) (buffer.bytes + at);

			if ((event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_Q_OVERFLOW)) != 0 ||
				(event->mask & (IN_CREATE | IN_ISDIR)) == (IN_CREATE | IN_ISDIR))
				arrived = true;
			at += sizeof(struct inotify_event) + event->len;
		}
	}
	return arrived;
}

#else							/* ! __linux__ */

LhFileWatch *
lh_file_watch_create(void)
{
	return NULL;
}

void
lh_file_watch_add(LhFileWatch *watch, const LhDescriptor *directory)
{
}

static bool
drain(LhFileWatch *watch)
{
	return false;
}

#endif							/* __linux__ */

bool
lh_file_watch_is_complete(const LhFileWatch *watch)
{
	return !watch->incomplete;
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
	return (result & WL_SOCKET_READABLE) != 0 && drain(watch);
}
