/*
 * reject_limit.h
 *	  How many bad records a file may have: options mode, max_rejects and
 *	  max_reject_ratio.
 */
#ifndef LH_REJECT_LIMIT_H
#define LH_REJECT_LIMIT_H

#include "utils/jsonb.h"

#include "bronze/reject.h"
#include "bronze/writer.h"

typedef struct LhRejectLimit
{
	LhRejectUse use;			/* of what is rejected */
	bool		failfast;
	int64		max_rejects;	/* -1 = any number */
	double		max_ratio;		/* of all records of the file; 1 = any */
} LhRejectLimit;

/* names of the options, ending with NULL */
extern const char *const lh_reject_limit_option_names[];

/* raises 22023 */
extern void lh_reject_limit_parse(Jsonb *options, LhRejectLimit *limit);

/* can the limit be crossed at all?  Then a file is one load: either all of it
 * is stored or nothing. */
extern bool lh_reject_limit_is_set(const LhRejectLimit *limit);

/* raises when the file has more bad records than allowed; "loaded" counts what
 * earlier loads took of the file, and the ratio is judged at its end */
extern void lh_reject_limit_check(const LhRejectLimit *limit, const char *path,
								  const LhWriter *writer, const LhWriteCounts *loaded, bool at_end);

#endif							/* LH_REJECT_LIMIT_H */
