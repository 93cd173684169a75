/*
 * file_list.h
 *	  The files beneath a directory that match a pattern.
 */
#ifndef LH_FILE_LIST_H
#define LH_FILE_LIST_H

#include "source/file_open.h"

/* One thing whose name matches. */
typedef struct LhListed
{
	const char *path;			/* beneath the directory; any bytes but NUL */
	int64		size;
	int64		mtime_ns;
	const char *problem;		/* why it cannot be a source's file, or NULL */
	int			sqlstate;		/* of the problem */
} LhListed;

typedef void (*LhListedFunction) (const LhListed *listed, void *arg);

struct LhFileWatch;

/*
 * Calls "found" for each match, in no order, and lets "watch" (may be NULL)
 * watch each directory that was read.  Pattern: names separated by "/",
 * with * ? [] inside a name, and ** for any number of directories.
 */
extern void lh_file_list(const LhDescriptor *root, const char *pattern,
						 struct LhFileWatch *watch, LhListedFunction found, void *arg);

/* raises 22023 for a pattern that leaves the directory or names nothing */
extern void lh_file_pattern_check(const char *pattern);

/* does a path beneath the directory match, whatever its names begin with? */
extern bool lh_file_pattern_matches(const char *pattern, const char *path);

/* could the pattern list something in the directory, or beneath it? */
extern bool lh_file_pattern_reaches(const char *pattern, const char *directory);

#endif							/* LH_FILE_LIST_H */
