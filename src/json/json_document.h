/*
 * json_document.h
 *	  A JSON document that is one record: its members, and values deep within it,
 *	  to columns of a row.
 */
#ifndef LH_JSON_DOCUMENT_H
#define LH_JSON_DOCUMENT_H

#include "access/tupdesc.h"
#include "convert/convert_options.h"
#include "error.h"
#include "source/field_sink.h"
#include "utils/jsonb.h"

typedef struct LhJsonDocument LhJsonDocument;

/* option: the column that takes records as a whole */
#define LH_JSON_VARIANT_OPTION "single_variant_column"

/*
 * lh_json_document_create makes the mapping to the columns of "tupdesc" that are
 * "fillable": by the option "paths", then by name; or to the one column of the
 * option "single_variant_column".  "convert", NULL for the usual notations, must
 * live as long.  Raises as lh_json_paths_create does, and 42804.  Everything is in
 * "context".
 */
extern LhJsonDocument *lh_json_document_create(Jsonb *options, TupleDesc tupdesc,
											   const bool *fillable, const LhConvertOptions *convert,
											   MemoryContext context);

/* raises what that would raise */
extern void lh_json_document_validate(Jsonb *options, TupleDesc tupdesc);
extern bool lh_json_document_may_raise(const LhJsonDocument *document);

/*
 * lh_json_document_fill reads one document in the server's encoding and sets the
 * columns that it has values for; the others stay as they are.  "sink" is told
 * of members that are no columns or do not convert, or is NULL.  False with
 * *error, and *column if it is about one column.
 */
extern bool lh_json_document_fill(LhJsonDocument *document, const char *text, int length,
								  LhFieldSink *sink, Datum *values, bool *nulls,
								  LhError *error, const char **column);

#endif							/* LH_JSON_DOCUMENT_H */
