/*
 * file_known.h
 *	  The files of a source that a listing may pass over, in little memory.
 */
#ifndef LH_FILE_KNOWN_H
#define LH_FILE_KNOWN_H

#include "bronze/file_options.h"
#include "source/file_list.h"

typedef struct LhKnownFiles LhKnownFiles;

/* reads the ledger, in a child of the current context; NULL if it has more
 * files than are kept in memory */
extern LhKnownFiles *lh_known_read(int32 source_id, LhOnChange on_change);

/* is the file in the ledger as it was listed, so that nothing follows? */
extern bool lh_known_has(const LhKnownFiles *known, const LhListed *listed);

extern void lh_known_free(LhKnownFiles *known);

/* is it worth to read the ledger for a listing of so many files? */
extern bool lh_known_pays(int64 listed);

#endif							/* LH_FILE_KNOWN_H */
