/*
 * file_open.c
 *	  Files and directories beneath a server's directory, by descriptor.
 *
 * Invariant: nothing outside the server's directory is opened, whatever names
 * and links lie in it and however they change meanwhile.  The kernel resolves
 * the path beneath the directory's descriptor without following a symbolic link
 * (openat2), or we do so one name at a time.  What was opened is judged by its
 * descriptor.  Opening never blocks: a FIFO without a writer is no reason to
 * wait.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>
#include <sys/syscall.h>
#ifdef SYS_openat2
#include <linux/openat2.h>
#endif

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"

#include "fault.h"
#include "source/file_open.h"

/* tries when somebody renames directories while the kernel walks them */
#define RACE_RETRIES 16

static int	open_beneath(int root, const char *path, int flags);
static int	open_by_steps(int root, const char *path, int flags);

static void
release_descriptor(void *arg)
{
	lh_descriptor_close(arg);
}

void
lh_descriptor_close(LhDescriptor *descriptor)
{
	if (descriptor->fd < 0)
		return;
	(void) close(descriptor->fd);
	descriptor->fd = -1;
	ReleaseExternalFD();
}

/*
 * wrap_descriptor hands a descriptor to the current memory context; closes it
 * and returns NULL if its status cannot be read.
 */
static LhDescriptor *
wrap_descriptor(int fd)
{
	LhDescriptor *descriptor;

	if (fd < 0)
	{
		int			error = errno;

		ReleaseExternalFD();
		errno = error;
		return NULL;
	}
	/* an allocation failure leaks one descriptor of a process in distress */
	descriptor = palloc0(sizeof(LhDescriptor));
	descriptor->fd = fd;
	descriptor->release.func = release_descriptor;
	descriptor->release.arg = descriptor;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &descriptor->release);
	LH_FAULT("fstat");
	if (fstat(fd, &descriptor->status) < 0)
	{
		int			error = errno;

		lh_descriptor_close(descriptor);
		errno = error;
		return NULL;
	}
	return descriptor;
}

/*
 * lh_directory_open opens a server's directory.  Whoever made the server chose
 * the path, so links in it are followed.
 */
LhDescriptor *
lh_directory_open(const char *directory)
{
	LhDescriptor *descriptor = NULL;

	if (AcquireExternalFD())
		descriptor = wrap_descriptor(open(directory, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
	if (descriptor == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open directory \"%s\": %m", directory),
				 errhint("The directory must exist and be readable by the operating system user of the server.")));
	return descriptor;
}

/*
 * is_closed tells, with errno, whether a path beneath a directory is none of
 * ours.
 */
static bool
is_closed(const LhDescriptor *root, const char *path)
{
	ListCell   *cell;

	foreach(cell, root->closed)
	{
		size_t		length = strlen(lfirst(cell));

		if (strncmp(path, lfirst(cell), length) != 0 || (path[length] != '\0' && path[length] != '/'))
			continue;
		errno = EACCES;
		return true;
	}
	return false;
}

/*
 * lh_file_open opens a regular file for reading.
 */
LhDescriptor *
lh_file_open(const LhDescriptor *root, const char *path)
{
	LhDescriptor *descriptor;

	LH_FAULT("open");
	if (is_closed(root, path) || !AcquireExternalFD())
		return NULL;
	descriptor = wrap_descriptor(open_beneath(root->fd, path,
											  O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
	if (descriptor != NULL && !S_ISREG(descriptor->status.st_mode))
	{
		lh_descriptor_close(descriptor);
		errno = EFTYPE_NOT_REGULAR;
		return NULL;
	}
	return descriptor;
}

/*
 * lh_subdirectory_open opens a directory for listing; "." is the root itself.
 */
LhDescriptor *
lh_subdirectory_open(const LhDescriptor *root, const char *path)
{
	if (is_closed(root, path) || !AcquireExternalFD())
		return NULL;
	return wrap_descriptor(open_beneath(root->fd, path,
										O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
}

static int
open_beneath(int root, const char *path, int flags)
{
#ifdef SYS_openat2
	struct open_how how = {
		.flags = flags,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
	};

	for (int i = 0; i < RACE_RETRIES; i++)
	{
		int			fd = (int) syscall(SYS_openat2, root, path, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		/* a kernel or a container without openat2 */
		if (errno == ENOSYS || errno == EPERM)
			break;
		if (errno != EAGAIN && errno != EINTR)
			return -1;
	}
#endif
	return open_by_steps(root, path, flags);
}

/*
 * open_by_steps opens one name after the other, none of which may be a link or
 * lead upwards.
 */
static int
open_by_steps(int root, const char *path, int flags)
{
	int			directory = root;

	if (path[0] == '/')
	{
		errno = EXDEV;
		return -1;
	}
	for (;;)
	{
		const char *slash = strchr(path, '/');
		size_t		length = slash ? (size_t) (slash - path) : strlen(path);
		char		name[NAME_MAX + 1];
		int			fd;
		int			error;

		if (length == 0 || length > NAME_MAX || (length == 2 && memcmp(path, "..", 2) == 0))
		{
			fd = -1;
			errno = length > NAME_MAX ? ENAMETOOLONG : EXDEV;
		}
		else
		{
			memcpy(name, path, length);
			name[length] = '\0';
			fd = openat(directory, name,
						slash ? O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC : flags);
		}
		error = errno;
		if (directory != root)
			(void) close(directory);
		errno = error;
		if (fd < 0 || slash == NULL)
			return fd;
		directory = fd;
		path = slash + 1;
	}
}

/*
 * lh_file_printable makes a name of the file system fit for a text value.
 */
const char *
lh_file_printable(const char *path, bool *valid)
{
	StringInfoData text;
	int			encoding = GetDatabaseEncoding();

	*valid = pg_verify_mbstr(encoding, path, strlen(path), true);
	if (*valid)
		return path;
	initStringInfo(&text);
	while (*path != '\0')
	{
		int			length = Min(pg_encoding_mblen(encoding, path), (int) strlen(path));

		if (pg_verify_mbstr(encoding, path, length, true))
			appendBinaryStringInfo(&text, path, length);
		else
		{
			appendStringInfo(&text, "\\x%02x", (unsigned char) *path);
			length = 1;
		}
		path += length;
	}
	return text.data;
}
