/*
 * json_path.h
 *	  Values deep within a JSON document to columns of a row.
 */
#ifndef LH_JSON_PATH_H
#define LH_JSON_PATH_H

#include "access/tupdesc.h"
#include "convert/convert_options.h"
#include "error.h"
#include "utils/jsonb.h"

typedef struct LhJsonPaths LhJsonPaths;

/*
 * lh_json_paths_create reads an object whose keys are columns and whose values
 * are paths such as $.a.b[0]; NULL if there is none.  Takes the columns away from
 * "fillable", or only checks if that is NULL.  Raises 22023 for a path, 42703 and
 * 42P10 for a column.  "convert" is NULL for the usual notations.  Everything is in
 * "context".
 */
extern LhJsonPaths *lh_json_paths_create(Jsonb *options, TupleDesc tupdesc, bool *fillable,
										 const LhConvertOptions *convert, MemoryContext context);
extern bool lh_json_paths_may_raise(const LhJsonPaths *paths);

/*
 * lh_json_paths_fill sets the columns whose paths lead somewhere in a document,
 * which must be JSON; the others stay as they are.  False: *error and *column
 * tell why.
 */
extern bool lh_json_paths_fill(LhJsonPaths *paths, const char *text, int length,
							   Datum *values, bool *nulls, LhError *error, const char **column);

#endif							/* LH_JSON_PATH_H */
