/*
 * clean_internal.h
 *	  Shared by the files that clean up after the load.
 */
#ifndef LH_CLEAN_INTERNAL_H
#define LH_CLEAN_INTERNAL_H

#include "utils/array.h"

#include "bronze/clean.h"
#include "catalog/catalog_access.h"
#include "source/file_open.h"

/* One file that is due. */
typedef struct LhCleanFile
{
	int64		file_id;
	char	   *path;
	int64		size;			/* of what was loaded */
	int64		mtime_ns;
	int64		hash;
	char	   *mode;			/* move or delete */
	bool		acting;			/* an intent is journaled */
	char	   *target;			/* path it is moved to, or NULL */
	int32		attempts;
	const char *objection;		/* what happened to the entry in the ledger since
								 * it was loaded, or NULL */
} LhCleanFile;

/* What became of it. */
typedef enum LhCleanVerdict
{
	LH_CLEAN_MOVED,
	LH_CLEAN_DELETED,
	LH_CLEAN_LEFT,				/* for good */
	LH_CLEAN_WAITS,				/* for other sources */
	LH_CLEAN_FAILED				/* to be tried again */
} LhCleanVerdict;

/* A directory that is kept open from file to file. */
typedef struct LhCleanDirectory
{
	char	   *path;			/* NULL = none */
	LhDescriptor *descriptor;	/* NULL = gone */
	bool		changed;
} LhCleanDirectory;

/* One transaction of a pass. */
typedef struct LhCleanPass
{
	const LhSource *source;
	LhIdentity	identity;		/* of the caller */
	MemoryContext context;
	LhDescriptor *root;			/* of the server */
	char	   *real_root;		/* its path without links */
	List	   *others;			/* sources that may read the same files */
	LhCleanDirectory from;
	LhCleanDirectory to;
} LhCleanPass;

/* One transaction's worth of files. */
#define LH_CLEAN_PASS_FILES 100

typedef struct LhCleanBatch
{
	int			count;
	LhCleanFile files[LH_CLEAN_PASS_FILES];
} LhCleanBatch;

/* clean_journal.c: read files, into the current context, and lock them */
extern void lh_clean_read_due(int32 source_id, TimestampTz due_before, LhCleanBatch *batch);
extern void lh_clean_read_intended(ArrayType *ids, LhCleanBatch *batch);
extern void lh_clean_read_acting(int32 source_id, LhCleanBatch *batch);

/* enter what is to be done, what came of it, or why not yet */
extern void lh_clean_write_intent(const LhCleanFile *file);
extern void lh_clean_write_end(const LhCleanFile *file, const char *state, int sqlstate,
							   const char *reason);
extern void lh_clean_write_put_off(const LhCleanFile *file, int sqlstate, const char *reason);
extern void lh_clean_succeeded(int32 source_id);

/* clean_others.c: NULL if every other source has finished the file as it was
 * loaded, otherwise a sentence */
extern List *lh_clean_find_others(const LhSource *source);
extern const char *lh_clean_unfinished(const LhCleanPass *pass, const LhCleanFile *file);

/* clean_act.c */
extern bool lh_clean_is_there(LhCleanPass *pass, const LhCleanFile *file);
extern char *lh_clean_choose_target(LhCleanPass *pass, const LhCleanFile *file, const char *target);
extern LhCleanVerdict lh_clean_act(LhCleanPass *pass, const LhCleanFile *file,
								   LhCleanVerdict unwanted, const char **reason, int *sqlstate);
extern void lh_clean_sync(LhCleanPass *pass);

#endif							/* LH_CLEAN_INTERNAL_H */
