/*
 * file_range.h
 *	  Ranges of large files, which workers that share a source load side by side.
 */
#ifndef LH_FILE_RANGE_H
#define LH_FILE_RANGE_H

#include "bronze/file_ingest_internal.h"

/* bytes that the next range of a file is to have; 0 = load its rest as it is */
extern int64 lh_range_size(const FileBatch *batch, const LhLedgerFile *file, int64 size);

/* enters the bytes from the file's position to that of *progress as a range, and
 * moves the position there; in the subtransaction of who holds the entry */
extern void lh_range_enter(const LhSource *source, const LhLedgerFile *file,
						   const LhLedgerProgress *progress);

/* gives the next range that nobody loads, locked, as a file of which the bytes
 * up to "end" wait; false if there is none */
extern bool lh_range_next(FileIngest *ingest, LhLedgerFile *file);

/* the range is loaded: takes it from the list, and the file is loaded if it was
 * the last one; true if so */
extern bool lh_range_done(const FileBatch *batch, const LhLedgerFile *file, const LhWriteCounts *written);

/* forgets the ranges of all versions of a path but one: nothing more of them is
 * to be loaded */
extern void lh_range_forget(int32 source_id, const char *path, int64 keep);

#endif							/* LH_FILE_RANGE_H */
