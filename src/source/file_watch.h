/*
 * file_watch.h
 *	  Being told that something arrived in a directory.
 */
#ifndef LH_FILE_WATCH_H
#define LH_FILE_WATCH_H

#include "source/file_open.h"

typedef struct LhFileWatch LhFileWatch;

/* in the current context, closed with it; NULL if the machine cannot watch */
extern LhFileWatch *lh_file_watch_create(void);

/* watches one more directory; no harm if it is watched already */
extern void lh_file_watch_add(LhFileWatch *watch, const LhDescriptor *directory);

/* is every directory watched that was given, and will the machine tell all that
 * happens there? */
extern bool lh_file_watch_is_complete(const LhFileWatch *watch);

/* Sleeps until the latch is set, something arrived or the time is over; "watch"
 * may be NULL.  True if something arrived. */
extern bool lh_file_watch_wait(LhFileWatch *watch, long timeout_ms);

#endif							/* LH_FILE_WATCH_H */
