/*
 * json_document.h
 *	  A JSON document that is one record: its members, and values deep within it,
 *	  to columns of a row.
 */
#ifndef LH_JSON_DOCUMENT_H
#define LH_JSON_DOCUMENT_H

#include "access/tupdesc.h"
#include "error.h"
#include "source/field_sink.h"
#include "utils/jsonb.h"

typedef struct LhJsonDocument LhJsonDocument;

/*
 * lh_json_document_create makes the mapping to the columns of "tupdesc" that are
 * "fillable": by the option "paths", then by name.  Raises as
 * lh_json_paths_create does.  Everything is in "context".
 */
extern LhJsonDocument *lh_json_document_create(Jsonb *options, TupleDesc tupdesc,
											   const bool *fillable, MemoryContext context);
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
