/*
 * file_options.h
 *	  Options of a source that concern its files and not their format.
 */
#ifndef LH_FILE_OPTIONS_H
#define LH_FILE_OPTIONS_H

#include "utils/jsonb.h"

#include "source/file_filter.h"

/* What to do with a file that is another one than what was loaded. */
typedef enum LhOnChange
{
	LH_CHANGE_IGNORE,			/* show it */
	LH_CHANGE_ERROR,			/* stop the source */
	LH_CHANGE_APPEND_AGAIN,		/* load it as a whole, keep the rows there are */
	LH_CHANGE_REPLACE,			/* load it as a whole, take back the rows there are */
	LH_CHANGE_TAIL				/* load what was added behind, if the rest is as it was */
} LhOnChange;

/* How a continuous source comes to know of files. */
typedef enum LhDiscovery
{
	LH_DISCOVERY_AUTO,			/* what the system tells, and a listing now and then */
	LH_DISCOVERY_LISTING,		/* listings alone */
	LH_DISCOVERY_NOTIFY			/* what the system tells alone, where it tells all */
} LhDiscovery;

typedef struct LhFileOptions
{
	int64		settle_us;		/* how long a file must have been unchanged */
	LhOnChange	on_change;
	bool		by_content;		/* a file is known by its content, not by its path */
	bool		stop_on_error;	/* a file that cannot be loaded stops the source */
	int32		max_attempts;	/* then it is left alone; 0 = never */
	int			workers;		/* how many read a continuous source */
	LhDiscovery discovery;
	int64		backfill_us;	/* between two listings while the system tells */
	bool		include_existing;
	bool		by_name;		/* waiting files are taken by name, not by time */
	int64		batch_files;	/* limits of a batch; 0 = as the settings say */
	int64		batch_bytes;
	int64		batch_rows;
	LhFileSelection selection;
} LhFileOptions;

/* raises 22023 for a value that cannot be; keeps "path" */
extern void lh_file_options_parse(Jsonb *options, const char *path, bool continuous,
								  LhFileOptions *result);

/* the options under our names, however they were spelt; those of readers stay */
extern Jsonb *lh_file_options_canonical(Jsonb *options);

/* names of all options that are not of a format; ends with NULL */
extern const char *const *lh_file_option_names(void);

/* the options without those that are named here */
extern Jsonb *lh_file_reader_options(Jsonb *options);

#endif							/* LH_FILE_OPTIONS_H */
