/*
 * clean.h
 *	  What becomes of files after their load: moved, deleted, or left.
 */
#ifndef LH_CLEAN_H
#define LH_CLEAN_H

#include "bronze/clean_options.h"
#include "bronze/ingest.h"
#include "nodes/pg_list.h"

/* What one call of lh_clean_run did. */
typedef struct LhCleanCounts
{
	int64		moved;
	int64		deleted;
	int64		left;			/* not the file that was loaded, or not there */
	int64		waiting;		/* not yet finished by every source */
	int64		failed;
} LhCleanCounts;

/* Transactions of whoever runs it. */
typedef struct LhCleanTransaction
{
	void		(*begin) (void);
	void		(*commit) (void);
} LhCleanTransaction;

/*
 * Cleans up what is due of a source, as its owner, in transactions of its own;
 * called outside of one.  Raises what concerns the source as a whole; "stop"
 * (may be NULL) tells whether to end early.
 */
extern void lh_clean_run(int32 source_id, const LhCleanTransaction *transaction,
						 bool (*stop) (void), LhCleanCounts *counts);

/* in a transaction: files that failed or waited are due again now */
extern void lh_clean_hurry(int32 source_id);

/* enters a file that is loaded to its end, in the transaction of the load */
extern void lh_clean_enter(int32 source_id, int64 file_id, const LhCleanOptions *options);

/* the definition has changed: applies its options to what waits */
extern void lh_clean_redefine(int32 source_id, Jsonb *options);

/* puts back what was begun and not finished, before the source is dropped */
extern void lh_clean_abandon(const LhSource *source);

/* raises 55000 if a file is not at its path any more because it was cleaned up */
extern void lh_clean_check_present(const LhSource *source, const char *path);

/* after the rollback, in a transaction: what concerned the source as a whole */
extern void lh_clean_failed(int32 source_id, int sqlstate, const char *message);

/* sources of an owner of which something is due (int), or InvalidOid: owners of
 * such sources that may run (oid) */
extern List *lh_clean_due(Oid owner);

#endif							/* LH_CLEAN_H */
