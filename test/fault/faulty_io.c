/*
 * faulty_io.c
 *	  A library for LD_PRELOAD that lets reads and writes of a server fail.
 *
 * While the file that FAULTY_IO names exists, its one line "call fault prefix"
 * decides: call is read, write or rename, fault is full (no space left), io
 * (input or output error), none (read-only file system) or short (a few bytes
 * only), and it befalls files, of a renaming the directory, whose path begins
 * with prefix.  So a full disk needs no mount and no privilege, and can be
 * emptied again at will.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Gives the fault that befalls a call on this descriptor; '\0' if none does.
 */
static char
find_fault(int fd, const char *call)
{
	const char *control = getenv("FAULTY_IO");
	char		line[4200],
				link[64],
				path[4096];
	char		wanted[16],
				fault[16],
				prefix[4096];
	ssize_t		length;
	int			saved = errno;
	FILE	   *file;
	char		result = '\0';

	if (control == NULL || (file = fopen(control, "r")) == NULL)
	{
		errno = saved;
		return '\0';
	}
	if (fgets(line, sizeof(line), file) != NULL &&
		sscanf(line, "%15s %15s %4095s", wanted, fault, prefix) == 3 && strcmp(wanted, call) == 0)
	{
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, path, sizeof(path) - 1);
		path[length > 0 ? length : 0] = '\0';
		if (strncmp(path, prefix, strlen(prefix)) == 0)
			result = fault[0];
	}
	fclose(file);
	errno = saved;
	return result;
}

/*
 * Shortens or refuses a call; true if it was refused, with errno set.
 */
static int
befall(int fd, const char *call, size_t *count)
{
	switch (find_fault(fd, call))
	{
		case 'f':
			errno = ENOSPC;
			return 1;
		case 'i':
			errno = EIO;
			return 1;
		case 'n':
			errno = EROFS;
			return 1;
		case 's':
			if (*count > 7)
				*count = 7;
			return 0;
		default:
			return 0;
	}
}

ssize_t
pread64(int fd, void *buffer, size_t count, off64_t offset)
{
	static ssize_t (*real) (int, void *, size_t, off64_t);

	if (real == NULL)
		real = (ssize_t (*) (int, void *, size_t, off64_t)) dlsym(RTLD_NEXT, "pread64");
	return befall(fd, "read", &count) ? -1 : real(fd, buffer, count, offset);
}

ssize_t
pread(int fd, void *buffer, size_t count, off_t offset)
{
	return pread64(fd, buffer, count, offset);
}

ssize_t
pwrite64(int fd, const void *buffer, size_t count, off64_t offset)
{
	static ssize_t (*real) (int, const void *, size_t, off64_t);

	if (real == NULL)
		real = (ssize_t (*) (int, const void *, size_t, off64_t)) dlsym(RTLD_NEXT, "pwrite64");
	return befall(fd, "write", &count) ? -1 : real(fd, buffer, count, offset);
}

ssize_t
pwrite(int fd, const void *buffer, size_t count, off_t offset)
{
	return pwrite64(fd, buffer, count, offset);
}

/* PostgreSQL 16 and later extend files with these two */
ssize_t
pwritev64(int fd, const struct iovec *vector, int count, off64_t offset)
{
	static ssize_t (*real) (int, const struct iovec *, int, off64_t);
	size_t		bytes = 0;

	if (real == NULL)
		real = (ssize_t (*) (int, const struct iovec *, int, off64_t)) dlsym(RTLD_NEXT, "pwritev64");
	return befall(fd, "write", &bytes) ? -1 : real(fd, vector, count, offset);
}

ssize_t
pwritev(int fd, const struct iovec *vector, int count, off_t offset)
{
	return pwritev64(fd, vector, count, offset);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	static int	(*real) (int, off64_t, off64_t);
	size_t		bytes = 0;

	if (real == NULL)
		real = (int (*) (int, off64_t, off64_t)) dlsym(RTLD_NEXT, "posix_fallocate64");
	return befall(fd, "write", &bytes) ? errno : real(fd, offset, length);
}

int
posix_fallocate(int fd, off_t offset, off_t length)
{
	return posix_fallocate64(fd, offset, length);
}

/* renameat2 is called by its number */
long
syscall(long number,...)
{
	static long (*real) (long,...);
	size_t		bytes = 0;
	long		given[6];
	va_list		arguments;

	if (real == NULL)
		real = (long (*) (long,...)) dlsym(RTLD_NEXT, "syscall");
	va_start(arguments, number);
	for (int i = 0; i < 6; i++)
		given[i] = va_arg(arguments, long);
	va_end(arguments);
#ifdef SYS_renameat2
	if (number == SYS_renameat2 && befall((int) given[0], "rename", &bytes))
		return -1;
#endif
	return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
