/*
 * file_open.h
 *	  Files and directories beneath a server's directory, by descriptor.
 */
#ifndef LH_FILE_OPEN_H
#define LH_FILE_OPEN_H

#include "postgres.h"

#include <sys/stat.h>

#include "nodes/pg_list.h"

/* A descriptor that is closed with the memory context it was opened in. */
typedef struct LhDescriptor
{
	int			fd;				/* -1 = closed */
	struct stat status;			/* when it was opened */
	List	   *closed;			/* directory: paths beneath it that are not opened */
	MemoryContextCallback release;
} LhDescriptor;

/* raises if the directory cannot be opened (58P01, 42501, ...) */
extern LhDescriptor *lh_directory_open(const char *directory);

/*
 * Open what lies at "path" beneath "root": a regular file, or a directory.
 * NULL with errno set if that is not possible; ELOOP means a symbolic link, and
 * EFTYPE_NOT_REGULAR something else than a regular file.
 */
#define EFTYPE_NOT_REGULAR EMEDIUMTYPE
extern LhDescriptor *lh_file_open(const LhDescriptor *root, const char *path);
extern LhDescriptor *lh_subdirectory_open(const LhDescriptor *root, const char *path);

extern void lh_descriptor_close(LhDescriptor *descriptor);

/* the file's modification time in nanoseconds since 1970 */
static inline int64
lh_file_mtime_ns(const struct stat *status)
{
	return (int64) status->st_mtim.tv_sec * INT64CONST(1000000000) + status->st_mtim.tv_nsec;
}

/* "path" in the server encoding: bytes that are no character become \xHH; sets
 * *valid; the result is "path" itself if it is valid */
extern const char *lh_file_printable(const char *path, bool *valid);

#endif							/* LH_FILE_OPEN_H */
