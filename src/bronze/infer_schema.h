/*
 * infer_schema.h
 *	  Columns and their types from what is in the files.
 */
#ifndef LH_INFER_SCHEMA_H
#define LH_INFER_SCHEMA_H

#include "utils/jsonb.h"

/*
 * Creates a table with the columns that the files have, as the current user, and
 * tells with a notice how.  Raises 42P01 if there is nothing to infer from.
 */
extern Oid	lh_schema_create_table(const char *schema, const char *name, Oid server,
								   const char *path, const char *format, Jsonb *options);

#endif							/* LH_INFER_SCHEMA_H */
