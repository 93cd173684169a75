/*
 * file_known.h
 *	  The files of a source that a listing may pass over, in little memory.
 */
#ifndef LH_FILE_KNOWN_H
#define LH_FILE_KNOWN_H

#include "bronze/file_options.h"
#include "source/file_list.h"

typedef struct LhKnownFiles LhKnownFiles;

/* reads the ledger, in a child of the current context; of more than 1.5 million
 * files it keeps some */
extern LhKnownFiles *lh_known_read(int32 source_id, LhOnChange on_change);

/* 128 bits of path, size and modification time */
typedef struct LhFingerprint
{
	uint64		words[2];
} LhFingerprint;

/* makes the fingerprint of a file without a problem, and has the memory fetched
 * that lh_known_has will look at: ask some files later */
extern LhFingerprint lh_known_expect(const LhKnownFiles *known, const LhListed *listed);

/* is the file in the ledger as it was listed, so that nothing follows? */
extern bool lh_known_has(const LhKnownFiles *known, LhFingerprint print);

extern void lh_known_free(LhKnownFiles *known);

/* how many files a listing must have at least for this to pay */
extern int64 lh_known_least(void);

#endif							/* LH_FILE_KNOWN_H */
