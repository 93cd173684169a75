/*
 * reject.h
 *	  Records that could not be stored, kept with their place and reason.
 */
#ifndef LH_REJECT_H
#define LH_REJECT_H

#include "source/record.h"

/* bytes of a rejected record that are kept; the place tells where the rest is */
#define LH_REJECT_RAW_LIMIT (1024 * 1024)

typedef struct LhRejects LhRejects;

/* One reason; strings are copied by lh_rejects_add. */
typedef struct LhReason
{
	const char *stage;			/* parse, convert or store */
	int			sqlstate;
	const char *message;
	const char *column;			/* NULL = concerns no single column */
} LhReason;

/* allocated in the current context; released with it */
extern LhRejects *lh_rejects_create(int32 source_id);
extern void lh_rejects_begin_load(LhRejects *rejects, int64 load_id, int64 file_id);
extern void lh_rejects_add(LhRejects *rejects, const LhPlace *place, const LhReason *reason);

/* how many wait to be written; a failed attempt goes back to where it began */
extern int	lh_rejects_mark(const LhRejects *rejects);
extern void lh_rejects_back_to(LhRejects *rejects, int mark);
extern void lh_rejects_flush(LhRejects *rejects);

#endif							/* LH_REJECT_H */
