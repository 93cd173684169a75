/*
 * json_document.c
 *	  A JSON document that is one record: its members, and values deep within it,
 *	  to columns of a row.
 */
#include "postgres.h"

#include "json/json_document.h"
#include "json/json_path.h"
#include "json/json_row.h"
#include "json/json_text.h"

struct LhJsonDocument
{
	LhJsonRow  *row;
	LhJsonPaths *paths;			/* or NULL */
};

LhJsonDocument *
lh_json_document_create(Jsonb *options, TupleDesc tupdesc, const bool *fillable,
						MemoryContext context)
{
	LhJsonDocument *document = MemoryContextAllocZero(context, sizeof(LhJsonDocument));
	bool	   *left = palloc(tupdesc->natts + 1);

	memcpy(left, fillable, tupdesc->natts * sizeof(bool));
	document->paths = lh_json_paths_create(options, tupdesc, left, context);
	document->row = lh_json_row_create(tupdesc, left, context);
	pfree(left);
	return document;
}

bool
lh_json_document_may_raise(const LhJsonDocument *document)
{
	return lh_json_row_may_raise(document->row) ||
		(document->paths != NULL && lh_json_paths_may_raise(document->paths));
}

bool
lh_json_document_fill(LhJsonDocument *document, const char *text, int length, LhFieldSink *sink,
					  Datum *values, bool *nulls, LhError *error, const char **column)
{
	LhJsonScan	scan;
	LhJsonReading reading = {.scan = &scan, .error = error, .sink = sink, .raising = column};
	LhJsonToken token;

	*column = NULL;
	lh_json_begin(&scan, text, length);
	token = lh_json_next(&scan);
	if (token == LH_JSON_FAULT)
		return lh_json_refuse(&scan, error);
	if (token != LH_JSON_OBJECT)
	{
		if (!lh_json_pass(&scan, token) || lh_json_next(&scan) != LH_JSON_END)
			return lh_json_refuse(&scan, error);
		return lh_error_set(error, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"record is no JSON object");
	}
	if (!lh_json_row_fill(document->row, &reading, values, nulls))
	{
		/* a text that is no JSON is so before any of its fields is wrong */
		*column = scan.fault != LH_JSON_FINE ? NULL : reading.column;
		return false;
	}
	*column = NULL;
	if (lh_json_next(&scan) != LH_JSON_END)
		return lh_json_refuse(&scan, error);
	return document->paths == NULL ||
		lh_json_paths_fill(document->paths, text, length, values, nulls, error, column);
}
