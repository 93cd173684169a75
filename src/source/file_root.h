/*
 * file_root.h
 *	  Directories that a role may name, and what of them is never opened.
 */
#ifndef LH_FILE_ROOT_H
#define LH_FILE_ROOT_H

#include "source/file_open.h"

/*
 * Raises 42501 unless the role may name the directory: a superuser any, others
 * what lies beneath lakehouse.allowed_directories.  Looks at nothing in the file
 * system, so the answer tells nothing about it.
 */
extern void lh_root_check(const char *directory, Oid role);

/*
 * Opens a directory that the role may name.  For a superuser links on the way
 * are followed; for others none beneath the allowed directory.  Raises if the
 * directory is a part of the database cluster; where the cluster lies beneath
 * it, that is closed to whatever is opened beneath the result.
 */
extern LhDescriptor *lh_root_open(const char *directory, Oid role);

/*
 * The same, but for a directory that no link may lead to; NULL with errno set if
 * it cannot be opened.
 */
extern LhDescriptor *lh_root_open_unlinked(const char *directory, Oid role);

/* the path of an open directory without links, or NULL */
extern char *lh_root_real_path(const LhDescriptor *root);

/* is "path" the directory itself or beneath it?  Returns what follows, "" for
 * itself, or NULL */
extern const char *lh_path_beneath(const char *path, const char *directory);

/* is a path without steps "." and ".."? */
extern bool lh_path_is_plain(const char *path);

#endif							/* LH_FILE_ROOT_H */
