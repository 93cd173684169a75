/*
 * file_filter.h
 *	  Which files beneath a directory are those of a source.
 */
#ifndef LH_FILE_FILTER_H
#define LH_FILE_FILTER_H

/* What a source wants of a directory. */
typedef struct LhFileSelection
{
	const char *path;			/* pattern of the path beneath the directory */
	const char *name;			/* pattern of the name besides, or NULL */
	char	  **ignore;			/* patterns of names to pass over; ended by NULL */
	const char *marker;			/* name of what says that a file is complete, or NULL */
	int64		after_ns;		/* only what was modified later */
	int64		before_ns;		/* and earlier */
} LhFileSelection;

typedef struct LhFileFilter LhFileFilter;

/* how names begin that a file has while it is moved or deleted after its load:
 * no source takes them, whatever it is told to ignore */
#define LH_HIDDEN_NAME ".lakehouse-"

/*
 * How much of the pattern the names of a directory's path have matched: bit i
 * says that its next name may be the pattern's name i.  0 = nothing beneath
 * this directory can match.
 */
typedef uint64 LhFilterState;

/* names that a pattern may have at most: one for each bit */
#define LH_FILTER_NAMES 64

/* raises 22023 for a pattern that leaves the directory or names nothing */
extern void lh_file_pattern_check(const char *pattern);

/* in the current context; keeps what "selection" points to */
extern LhFileFilter *lh_file_filter_create(const LhFileSelection *selection);

/* of the server's directory itself, and of a directory in one with "state" */
extern LhFilterState lh_file_filter_start(const LhFileFilter *filter);
extern LhFilterState lh_file_filter_enter(const LhFileFilter *filter, LhFilterState state,
										  const char *name);

/* is the name to be passed over, as a file and as a directory? */
extern bool lh_file_filter_ignores(const LhFileFilter *filter, const char *name);

/* can a file of this name in a directory with "state" be the source's? */
extern bool lh_file_filter_matches(const LhFileFilter *filter, LhFilterState state,
								   const char *name);
extern bool lh_file_filter_wants_time(const LhFileFilter *filter, int64 mtime_ns);

/* the state and depth of the directory at a path; 0 = nothing in it, nor beneath
 * it, can be the source's */
extern LhFilterState lh_file_filter_directory(const LhFileFilter *filter, const char *path,
											  int *depth);

/* can the file at a path be the source's? */
extern bool lh_file_filter_wants(const LhFileFilter *filter, const char *path, int64 mtime_ns);

/* What says that files are complete. */
typedef enum LhMarking
{
	LH_MARKED_NONE,				/* nothing: they are when they rest */
	LH_MARKED_FOLDER,			/* a file in the same directory, for all in it */
	LH_MARKED_FILE				/* a file beside each */
} LhMarking;

extern LhMarking lh_file_filter_marking(const LhFileFilter *filter);

/* is the name one of a marker? */
extern bool lh_file_filter_is_marker(const LhFileFilter *filter, const char *name);

/* the name of the marker of a file (of its directory, with LH_MARKED_FOLDER);
 * false if there can be no such name.  "buffer" has NAME_MAX + 1 bytes. */
extern bool lh_file_filter_marker(const LhFileFilter *filter, const char *name, char *buffer);

/* the name of the one file that a marker stands for; false if it may be several */
extern bool lh_file_filter_marked(const LhFileFilter *filter, const char *marker, char *buffer);

#endif							/* LH_FILE_FILTER_H */
