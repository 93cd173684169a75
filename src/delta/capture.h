/*
 * capture.h
 *	  The names of what capture.c puts beside a table.
 */
#ifndef LH_CAPTURE_H
#define LH_CAPTURE_H

/* column of a table of old images: the load that replaced the row */
#define LH_CHANGED_COLUMN "_changed_load"

/* raises 42P01 */
extern Oid	lh_relation_owner(Oid relation);

/*
 * Between these two, UPDATE statements of the caller's own trigger depth on a
 * table (for a partitioned one: on all of it) leave _load_id as it is and keep no
 * old images.  What a user's trigger does meanwhile is captured as ever.  The
 * caller calls lh_capture_resume with what the first returned, after an error too.
 */
typedef struct LhCaptureSuspended
{
	Oid			relation;
	int			depth;
} LhCaptureSuspended;

extern LhCaptureSuspended lh_capture_suspend(Oid relation);
extern void lh_capture_resume(LhCaptureSuspended before);

#endif							/* LH_CAPTURE_H */
