/*
 * file_move.c
 *	  Files renamed, copied and removed, by the descriptors of their directories.
 *
 * Invariant: nothing that exists is overwritten, no symbolic link is followed,
 * and no name with a slash is used: what happens, happens in the directories
 * whose descriptors the caller opened and judged.
 */
#include "postgres.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "source/file_move.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

#define COPY_BUFFER (256 * 1024)

int
lh_file_rename(const LhDescriptor *from, const char *name,
			   const LhDescriptor *to, const char *new_name)
{
#ifdef SYS_renameat2
	if (syscall(SYS_renameat2, from->fd, name, to->fd, new_name, RENAME_NOREPLACE) == 0)
		return 0;
	/* a kernel or a file system without it */
	if (errno != ENOSYS && errno != EINVAL)
		return errno;
#endif
	if (linkat(from->fd, name, to->fd, new_name, 0) < 0)
		return errno;
	return unlinkat(from->fd, name, 0) < 0 ? errno : 0;
}

int
lh_file_remove(const LhDescriptor *directory, const char *name)
{
	return unlinkat(directory->fd, name, 0) < 0 ? errno : 0;
}

int
lh_file_is_named(const LhDescriptor *file, const LhDescriptor *directory, const char *name)
{
	struct stat status;

	if (fstatat(directory->fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return errno;
	return status.st_dev == file->status.st_dev && status.st_ino == file->status.st_ino ? 0 : EEXIST;
}

bool
lh_file_exists(const LhDescriptor *directory, const char *name)
{
	struct stat status;

	return fstatat(directory->fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/*
 * copy_bytes copies from the beginning of one file to that of another.
 */
static int
copy_bytes(int from, int to)
{
	char	   *buffer = palloc(COPY_BUFFER);
	off_t		position = 0;
	int			error = 0;

	for (;;)
	{
		ssize_t		count;
		ssize_t		written = 0;

		CHECK_FOR_INTERRUPTS();
		count = pread(from, buffer, COPY_BUFFER, position);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
		{
			error = count < 0 ? errno : 0;
			break;
		}
		while (written < count)
		{
			ssize_t		part = pwrite(to, buffer + written, (size_t) (count - written), position + written);

			if (part < 0 && errno != EINTR)
				error = errno;
			else if (part == 0)
				error = ENOSPC;
			if (error != 0)
				break;
			written += Max(part, 0);
		}
		if (error != 0)
			break;
		position += count;
	}
	pfree(buffer);
	return error;
}

int
lh_file_copy(const LhDescriptor *file, const LhDescriptor *to, const char *name)
{
	const struct timespec times[2] = {file->status.st_atim, file->status.st_mtim};
	int			error;
	int			fd;

	error = lh_file_remove(to, name);
	if (error != 0 && error != ENOENT)
		return error;
	/* closed at the end of the transaction if an interrupt ends it */
	fd = OpenTransientFilePerm(psprintf("/proc/self/fd/%d/%s", to->fd, name),
							   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return errno;
	error = copy_bytes(file->fd, fd);
	if (error == 0 &&
		(fchmod(fd, file->status.st_mode & 0777) < 0 || futimens(fd, times) < 0 || pg_fsync(fd) < 0))
		error = errno;
	if (CloseTransientFile(fd) < 0 && error == 0)
		error = errno;
	if (error != 0)
		(void) lh_file_remove(to, name);
	return error;
}

void
lh_directory_sync(const LhDescriptor *directory, const char *shown)
{
	/* some file systems have nothing to write for a directory, and say so */
	if (pg_fsync(directory->fd) < 0 && errno != EBADF && errno != EINVAL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not make changes of directory \"%s\" durable: %m", shown)));
}

LhDescriptor *
lh_directory_make(const LhDescriptor *root, const char *path, mode_t mode)
{
	char	   *part = pstrdup(path);
	LhDescriptor *parent = NULL;
	LhDescriptor *directory;

	for (char *slash = part;; slash++)
	{
		char	   *name = slash;
		bool		last;

		slash += strcspn(slash, "/");
		last = (*slash == '\0');
		*slash = '\0';
		directory = lh_subdirectory_open(root, part);
		if (directory == NULL && errno == ENOENT)
		{
			const LhDescriptor *above = parent ? parent : root;

			if (mkdirat(above->fd, name, 0700) < 0 && errno != EEXIST)
				return NULL;
			directory = lh_subdirectory_open(root, part);
			if (directory != NULL)
			{
				(void) fchmod(directory->fd, mode & 0777);
				lh_directory_sync(above, part);
			}
		}
		if (directory == NULL || last)
			return directory;
		if (parent != NULL)
			lh_descriptor_close(parent);
		parent = directory;
		*slash = '/';
	}
}
