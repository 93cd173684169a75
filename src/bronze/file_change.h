/*
 * file_change.h
 *	  Taking back what was loaded of a file.
 */
#ifndef LH_FILE_CHANGE_H
#define LH_FILE_CHANGE_H

/*
 * Deletes the rows and rejects of all versions of a path but the entry "keep"
 * (0 = none), as the current user, and marks those entries and their loads;
 * returns how many rows it deleted.  The source's lock is held.
 */
extern int64 lh_file_take_back(int32 source_id, const char *path, int64 keep);

#endif							/* LH_FILE_CHANGE_H */
