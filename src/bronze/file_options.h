/*
 * file_options.h
 *	  Options of a source that concern its files and not their format.
 */
#ifndef LH_FILE_OPTIONS_H
#define LH_FILE_OPTIONS_H

#include "utils/jsonb.h"

/* What to do with a file that is another one than what was loaded. */
typedef enum LhOnChange
{
	LH_CHANGE_IGNORE,			/* show it */
	LH_CHANGE_ERROR,			/* stop the source */
	LH_CHANGE_APPEND_AGAIN,		/* load it as a whole, keep the rows there are */
	LH_CHANGE_REPLACE,			/* load it as a whole, take back the rows there are */
	LH_CHANGE_TAIL				/* load what was added behind, if the rest is as it was */
} LhOnChange;

typedef struct LhFileOptions
{
	int64		settle_us;		/* how long a file must have been unchanged */
	LhOnChange	on_change;
	bool		stop_on_error;	/* a file that cannot be loaded stops the source */
	int32		max_attempts;	/* then it is left alone; 0 = never */
	int			workers;		/* how many read a continuous source */
} LhFileOptions;

/* raises 22023 for a value that cannot be */
extern void lh_file_options_parse(Jsonb *options, bool continuous, LhFileOptions *result);

/* the options without those that are named here */
extern Jsonb *lh_file_reader_options(Jsonb *options);

#endif							/* LH_FILE_OPTIONS_H */
