/*
 * file_move.h
 *	  Files renamed, copied and removed, by the descriptors of their directories.
 */
#ifndef LH_FILE_MOVE_H
#define LH_FILE_MOVE_H

#include "source/file_open.h"

/*
 * Each returns 0, or the errno of what went wrong.  Names are single names
 * within their directories.
 */

/* never replaces what is there: EEXIST; EXDEV for another file system */
extern int	lh_file_rename(const LhDescriptor *from, const char *name,
						   const LhDescriptor *to, const char *new_name);

extern int	lh_file_remove(const LhDescriptor *directory, const char *name);

/* 0 only if the name is that of the open file, and not of a link to it */
extern int	lh_file_is_named(const LhDescriptor *file, const LhDescriptor *directory, const char *name);

extern bool lh_file_exists(const LhDescriptor *directory, const char *name);

/*
 * Copies an open file with its permissions and times to a new name, durably.
 * An older unfinished copy under that name goes.  Answers interrupts, by which
 * an unfinished copy may stay.
 */
extern int	lh_file_copy(const LhDescriptor *file, const LhDescriptor *to, const char *name);

/* makes names of the directory durable; raises if that is not possible */
extern void lh_directory_sync(const LhDescriptor *directory, const char *shown);

/*
 * Opens a directory beneath "root" and makes what is missing on the way, with
 * the permissions "mode"; NULL with errno set.
 */
extern LhDescriptor *lh_directory_make(const LhDescriptor *root, const char *path, mode_t mode);

#endif							/* LH_FILE_MOVE_H */
