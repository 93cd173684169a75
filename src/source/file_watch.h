/*
 * file_watch.h
 *	  Being told what happens in directories.
 */
#ifndef LH_FILE_WATCH_H
#define LH_FILE_WATCH_H

#include "source/file_open.h"

typedef struct LhFileWatch LhFileWatch;

/* What a name is told for. */
typedef enum LhToldKind
{
	LH_TOLD_CREATED,			/* made, perhaps not written yet */
	LH_TOLD_COMPLETE,			/* written and closed, renamed to this name, or of
								 * another time or other rights */
	LH_TOLD_DIRECTORY			/* the same of a directory */
} LhToldKind;

typedef struct LhTold
{
	const char *directory;		/* path beneath the root; equal ones are the same pointer */
	const char *name;
	LhToldKind	kind;
} LhTold;

/* in the current context, closed with it; NULL if the machine cannot watch */
extern LhFileWatch *lh_file_watch_create(void);

/*
 * A listing of everything: directories that are not added between "begin" and
 * "end" are not watched afterwards, and what was told before is forgotten.
 */
extern void lh_file_watch_begin(LhFileWatch *watch);
extern void lh_file_watch_end(LhFileWatch *watch);

/* watches one more directory; no harm if it is watched already */
extern void lh_file_watch_add(LhFileWatch *watch, const LhDescriptor *directory, const char *path);

/* is every directory watched that was added, and will the machine tell all that
 * happens there? */
extern bool lh_file_watch_is_complete(const LhFileWatch *watch);
extern int	lh_file_watch_count(const LhFileWatch *watch);

/* Sleeps until the latch is set, something arrived or the time is over; "watch"
 * may be NULL.  True if something arrived. */
extern bool lh_file_watch_wait(LhFileWatch *watch, long timeout_ms);

/* takes what came up to now; true if there is something told or lost */
extern bool lh_file_watch_drain(LhFileWatch *watch);

/* is there a name that was told? */
extern bool lh_file_watch_has_told(const LhFileWatch *watch);

/* was more told than could be kept? */
extern bool lh_file_watch_has_lost(const LhFileWatch *watch);

/* what was told, each name once, in the order of directory and name: in the
 * current context, texts valid until the watch is used again */
extern LhTold *lh_file_watch_told(LhFileWatch *watch, int *count);
extern void lh_file_watch_forget(LhFileWatch *watch);

#endif							/* LH_FILE_WATCH_H */
