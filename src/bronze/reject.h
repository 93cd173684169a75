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
	bool		stored;			/* the record became a row all the same */
} LhReason;

/* What becomes of the rejects of a load. */
typedef enum LhRejectUse
{
	LH_REJECT_OPEN,				/* kept, waits for replay_rejects */
	LH_REJECT_DROPPED,			/* kept, not expected back */
	LH_REJECT_FORGET			/* the caller keeps them itself */
} LhRejectUse;

/* The first reject of a load. */
typedef struct LhFirstReject
{
	int64		line;			/* 0 = has none */
	const char *stage;
	int			sqlstate;
	char		message[512];
	char		column[NAMEDATALEN];	/* empty = concerns no single column */
} LhFirstReject;

/* allocated in the current context; released with it */
extern LhRejects *lh_rejects_create(int32 source_id);
extern void lh_rejects_set_use(LhRejects *rejects, LhRejectUse use);
extern void lh_rejects_begin_load(LhRejects *rejects, int64 load_id, int64 file_id);
extern void lh_rejects_add(LhRejects *rejects, const LhPlace *place, const LhReason *reason);

/* how many wait to be written; a failed attempt goes back to where it began */
extern int	lh_rejects_mark(const LhRejects *rejects);
extern void lh_rejects_back_to(LhRejects *rejects, int mark);

/* how many of those waiting are of records that became rows all the same */
extern int	lh_rejects_stored(const LhRejects *rejects);
extern void lh_rejects_flush(LhRejects *rejects);

/* the first one flushed since lh_rejects_begin_load, or NULL */
extern const LhFirstReject *lh_rejects_first(const LhRejects *rejects);

#endif							/* LH_REJECT_H */
