/*
 * progress.h
 *	  How far the running loads of files are, for other sessions to see.
 */
#ifndef LH_PROGRESS_H
#define LH_PROGRESS_H

#include "datatype/timestamp.h"

/* A running load. */
typedef struct LhProgress
{
	Oid			database;
	Oid			owner;			/* of the source */
	int32		source_id;
	int64		file_id;
	int64		load_id;
	int64		size;			/* bytes of the file */
	int64		first_position; /* where the load began */
	int64		position;		/* bytes of the file, compressed or not */
	int64		rows;
	int64		rejected;
	TimestampTz started;
} LhProgress;

/* asks for shared memory; to be called while shared_preload_libraries are
 * loaded.  Without it the others do nothing. */
extern void lh_progress_init(void);

/* a process has one running load at a time; lh_progress_end also after errors */
extern void lh_progress_begin(const LhProgress *progress);
extern void lh_progress_set(int64 position, int64 rows, int64 rejected);
extern void lh_progress_end(void);

#endif							/* LH_PROGRESS_H */
