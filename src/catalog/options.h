/*
 * options.h
 *	  Checked access to the options that a user gives as one jsonb object.
 */
#ifndef LH_OPTIONS_H
#define LH_OPTIONS_H

#include "utils/jsonb.h"

/* "allowed" ends with NULL; "noun" stands in messages, e.g. "CSV option" */
extern void lh_options_check(Jsonb *options, const char *const *allowed, const char *noun);
extern void lh_options_refuse(const char *name, const char *const *allowed,
							  const char *noun) pg_attribute_noreturn();
/*
 * lh_options_set_others names the options that others read of the same object:
 * a name that is none of those allowed may be meant to be one of these.  Returns
 * what was set before; NULL = none.
 */
extern const char *const *lh_options_set_others(const char *const *names);

extern const char *lh_options_closest(const char *name, const char *const *allowed);

/* another name of an option, in lower case without underscores */
typedef struct LhOptionAlias
{
	const char *alias;
	const char *name;
} LhOptionAlias;

/*
 * lh_options_canonical returns the options under the names in "allowed", however
 * they were spelt: null_value, nullValue, cloudFiles.nullValue, or an alias (the
 * list ends with NULL).  Names that are none of these stay.  Raises 22023 if an
 * option is given under two names.
 */
extern Jsonb *lh_options_canonical(Jsonb *options, const char *const *allowed,
								   const LhOptionAlias *aliases);

/* an absent option, or one that is JSON null, gives "missing" */
extern bool lh_options_bool(Jsonb *options, const char *name, bool missing);
extern int64 lh_options_int(Jsonb *options, const char *name, int64 missing,
							int64 minimum, int64 maximum);
extern double lh_options_real(Jsonb *options, const char *name, double missing,
							 double minimum, double maximum);
extern char *lh_options_text(Jsonb *options, const char *name, const char *missing);

/* an array of texts, or a text with commas between them; NULL if it is absent.
 * "wanted" says so in the message */
extern char **lh_options_list(Jsonb *options, const char *name, const char *wanted);

/* a name behind a number, and what one of it is; the list ends with NULL */
typedef struct LhOptionUnit
{
	const char *name;
	int64		factor;
} LhOptionUnit;

extern int64 lh_options_amount(Jsonb *options, const char *name, int64 missing,
							   const LhOptionUnit *units, const char *wanted);

#endif							/* LH_OPTIONS_H */
