/*
 * clean_options.h
 *	  Options of a source that tell what becomes of files after their load.
 */
#ifndef LH_CLEAN_OPTIONS_H
#define LH_CLEAN_OPTIONS_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef enum LhCleanMode
{
	LH_CLEAN_OFF,
	LH_CLEAN_MOVE,
	LH_CLEAN_DELETE
} LhCleanMode;

typedef struct LhCleanOptions
{
	LhCleanMode mode;
	Interval   *retention;		/* from the end of the load */
	char	   *target;			/* directory for moved files, or NULL */
	bool		apply_to_past;	/* files loaded before count as well */
} LhCleanOptions;

/* as stored in lakehouse.file_clean; NULL for off */
extern const char *lh_clean_mode_name(LhCleanMode mode);

/* raises 22023 for a value that cannot be */
/* ends with NULL */
extern const char *const lh_clean_option_names[];

extern void lh_clean_options_parse(Jsonb *options, LhCleanOptions *result);

/* the options without these, however they are spelt */
extern Jsonb *lh_clean_options_remove(Jsonb *options);

/*
 * Raises for what a source of the current user with this server, path and these
 * options cannot have.
 */
extern void lh_clean_options_check(Oid server, const char *path, Jsonb *options);

/* raises 42501 unless the role may write files of the machine */
extern void lh_clean_check_role(Oid role, const char *source);

#endif							/* LH_CLEAN_OPTIONS_H */
