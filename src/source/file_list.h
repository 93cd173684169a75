/*
 * file_list.h
 *	  The files beneath a directory that a source wants.
 */
#ifndef LH_FILE_LIST_H
#define LH_FILE_LIST_H

#include "nodes/pg_list.h"

#include "source/file_filter.h"
#include "source/file_open.h"
#include "source/file_watch.h"

/* One thing whose name matches. */
typedef struct LhListed
{
	const char *path;			/* beneath the directory; any bytes but NUL */
	int64		size;
	int64		mtime_ns;
	const char *problem;		/* why it cannot be a source's file, or NULL */
	int			sqlstate;		/* of the problem */
} LhListed;

/* "listed" and what it points to is valid during the call only */
typedef void (*LhListedFunction) (const LhListed *listed, void *arg);

/* What came of a walk. */
typedef struct LhListCounts
{
	int64		looked_at;		/* names whose size and time were asked for */
	int64		unmarked;		/* files that wait for their marker */
	int			unreadable_count;	/* directories that could not be read */
	List	   *unreadable;		/* some of them, as "path: reason" */
} LhListCounts;

/*
 * Calls "found" for each file, in no order, and lets "watch" (may be NULL)
 * watch each directory that was read.  Counts are added to *counts; texts in it
 * are made in the current context.  Raises if the root cannot be read.
 */
extern void lh_file_list(const LhDescriptor *root, const LhFileFilter *filter, LhFileWatch *watch,
						 LhListedFunction found, void *arg, LhListCounts *counts);

/* the same for what the watch was told of and nothing else */
extern void lh_file_list_told(const LhDescriptor *root, const LhFileFilter *filter,
							  LhFileWatch *watch, LhListedFunction found, void *arg,
							  LhListCounts *counts);

/* are there so many names that match?  Asks for no size and no time. */
extern bool lh_file_list_reaches(const LhDescriptor *root, const LhFileFilter *filter,
								 int64 number);

#endif							/* LH_FILE_LIST_H */
