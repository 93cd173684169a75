/*
 * json_row.h
 *	  JSON values to typed values: objects to rows, arrays to arrays.
 */
#ifndef LH_JSON_ROW_H
#define LH_JSON_ROW_H

#include "access/tupdesc.h"
#include "convert/convert_options.h"
#include "error.h"
#include "json/json_scan.h"
#include "source/field_sink.h"

typedef struct LhJsonRow LhJsonRow;
typedef struct LhJsonValue LhJsonValue;

/*
 * How a document is read.  In permissive mode a field that does not convert
 * becomes NULL; otherwise the first one fails the document.
 */
typedef struct LhJsonReading
{
	LhJsonScan *scan;
	bool		permissive;
	LhError    *error;
	LhFieldSink *sink;			/* told of members of the top level that are no
								 * columns or do not convert, or NULL */
	const char *column;			/* being read; after a failure that of the top
								 * level, and of no meaning if the text is no JSON */
	const char **raising;		/* gets the column of the top level whose value is
								 * read, for errors that are raised; or NULL */
} LhJsonReading;

/*
 * lh_json_row_create makes the mapping from keys to the columns of "tupdesc",
 * which must live as long; "fillable" is NULL for all of them, "options" for the
 * usual notations.  Everything is in "context".
 */
extern LhJsonRow *lh_json_row_create(TupleDesc tupdesc, const bool *fillable,
									 const LhConvertOptions *options, MemoryContext context);
extern bool lh_json_row_may_raise(const LhJsonRow *row);

/*
 * lh_json_row_fill reads the object whose first token was given, and sets the
 * values of the columns that it has keys for.  False: reading->error tells why.
 */
extern bool lh_json_row_fill(LhJsonRow *row, LhJsonReading *reading,
							 Datum *values, bool *nulls);

/* the same for one value of any type, which begins with token "first" */
extern LhJsonValue *lh_json_value_create(Oid type, int32 typmod, const char *column,
										 const LhConvertOptions *options, MemoryContext context);
extern bool lh_json_value_may_raise(const LhJsonValue *target);
extern bool lh_json_value_read(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first,
							   Datum *value, bool *isnull);

#endif							/* LH_JSON_ROW_H */
