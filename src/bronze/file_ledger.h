/*
 * file_ledger.h
 *	  What is known of each file of a source: table lakehouse.file.
 */
#ifndef LH_FILE_LEDGER_H
#define LH_FILE_LEDGER_H

#include "bronze/file_options.h"
#include "datatype/timestamp.h"
#include "source/file_list.h"

/* A waiting file. */
typedef struct LhLedgerFile
{
	int64		file_id;
	char	   *path;
	int64		size;			/* when it was last looked at */
	int64		mtime_ns;
	int64		order_ns;		/* its place in the order of files: its time, or 0 if
								 * they are taken by name */
	int64		position;		/* where to go on */
	int64		begun;			/* bytes that are loaded or in ranges */
	int64		line;
	char	   *header;
	int32		attempts;
	TimestampTz discovered;		/* when it was first seen in this version */
	bool		continues;		/* all of it is loaded, and it has become longer */
	int64		hash;			/* of the bytes that are begun */
	int64		hash_blocks;	/* as lh_file_hash has it */
	bool		replaces;		/* rows of earlier versions go with its first load */
	bool		in_range;		/* only what is before "end" waits: see file_range.h */
	int64		end;
} LhLedgerFile;

/* What a load changes in the ledger. */
typedef struct LhLedgerProgress
{
	const char *state;			/* loading or loaded */
	int64		size;
	int64		mtime_ns;
	int64		position;
	int64		line;
	const char *header;
	int64		hash;
	int64		hash_blocks;
	int64		rows;			/* added to what is there */
	int64		rejected;
} LhLedgerProgress;

/* How far a run has come through the waiting files. */
typedef struct LhLedgerCursor
{
	bool		started;
	int64		order_ns;
	char	   *path;
} LhLedgerCursor;

/* How what a look found is to be entered, and what came of it. */
typedef struct LhLedgerLook
{
	int32		source_id;
	LhOnChange	on_change;
	bool		by_name;		/* what waits is taken in the order of names */
	bool		existing;		/* new files are not to be loaded */
	bool		new_only;		/* entries that are there stay as they are */

	bool		others;			/* one of those should have changed */
	int64		added;			/* files that were not known */
	int64		changed;		/* entries that were written, those included */
} LhLedgerLook;

extern void lh_ledger_enter(LhLedgerLook *look, const LhListed *listed, int count);

/* brings the files that wait into the other order */
extern void lh_ledger_set_order(int32 source_id, bool by_name);

/*
 * Gives the next waiting file behind the cursor, locked, in the order of
 * (order_ns, path); false if there is none.  Files that were first seen after
 * "settled_before" and, if asked, failed ones whose time has not come wait.
 */
extern bool lh_ledger_next(int32 source_id, const LhLedgerCursor *cursor,
						   TimestampTz settled_before, bool honour_retry, LhLedgerFile *file);

/* when the first file that waits now may be loaded; DT_NOEND = none waits */
extern TimestampTz lh_ledger_next_due(int32 source_id, int64 settle_us);

/* what earlier loads took of a waiting file */
extern void lh_ledger_counts(const LhLedgerFile *file, int64 *rows, int64 *rejected);

extern void lh_ledger_progress(int64 file_id, const LhLedgerProgress *progress);
extern void lh_ledger_seen_again(int64 file_id, int64 size, int64 mtime_ns);
extern void lh_ledger_set_aside(int64 file_id, const char *state, int sqlstate, const char *error);
extern void lh_ledger_failed(int64 file_id, int32 attempts, int32 max_attempts, int sqlstate,
							 const char *error);

/* wait before the next attempt, with jitter: 1 s, 2 s, ... 10 min */
extern int64 lh_backoff_us(int32 failures);

#endif							/* LH_FILE_LEDGER_H */
