/*
 * json_document.c
 *	  A JSON document that is one record: its members, and values deep within it,
 *	  to columns of a row.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/options.h"
#include "catalog/pg_type.h"
#include "json/json_document.h"
#include "json/json_path.h"
#include "json/json_row.h"
#include "json/json_text.h"

struct LhJsonDocument
{
	LhJsonRow  *row;			/* or NULL: the document is one value, for: */
	LhConverter whole;
	int			attribute;
	LhJsonPaths *paths;			/* or NULL */
};

/*
 * Finds the column for documents as a whole; "fillable" is NULL to check only.
 */
static int
find_whole(const char *name, TupleDesc tupdesc, const bool *fillable)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (attribute->attisdropped || strcmp(NameStr(attribute->attname), name) != 0)
			continue;
		if ((attribute->atttypid != JSONBOID && attribute->atttypid != JSONOID) ||
			attribute->attgenerated != '\0' || (fillable != NULL && !fillable[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("option \"%s\" names column \"%s\", which cannot hold a record",
							LH_JSON_VARIANT_OPTION, name),
					 errdetail("The column must be one of type jsonb or json that a source can fill.")));
		return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("option \"%s\" names column \"%s\", which the target table does not have",
					LH_JSON_VARIANT_OPTION, name)));
}

void
lh_json_document_validate(Jsonb *options, TupleDesc tupdesc)
{
	char	   *name = lh_options_text(options, LH_JSON_VARIANT_OPTION, NULL);
	LhJsonPaths *paths = lh_json_paths_create(options, tupdesc, NULL, NULL, CurrentMemoryContext);

	if (name == NULL)
		return;
	if (paths != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options \"%s\" and \"%s\" exclude each other", LH_JSON_VARIANT_OPTION, "paths")));
	(void) find_whole(name, tupdesc, NULL);
}

LhJsonDocument *
lh_json_document_create(Jsonb *options, TupleDesc tupdesc, const bool *fillable,
						const LhConvertOptions *convert, MemoryContext context)
{
	LhJsonDocument *document = MemoryContextAllocZero(context, sizeof(LhJsonDocument));
	char	   *name = lh_options_text(options, LH_JSON_VARIANT_OPTION, NULL);
	bool	   *left;

	if (name != NULL)
	{
		document->attribute = find_whole(name, tupdesc, fillable);
		lh_converter_init(&document->whole, TupleDescAttr(tupdesc, document->attribute), context);
		return document;
	}
	left = palloc(tupdesc->natts + 1);
	memcpy(left, fillable, tupdesc->natts * sizeof(bool));
	document->paths = lh_json_paths_create(options, tupdesc, left, convert, context);
	document->row = lh_json_row_create(tupdesc, left, convert, context);
	pfree(left);
	return document;
}

bool
lh_json_document_may_raise(const LhJsonDocument *document)
{
	return (document->row != NULL && lh_json_row_may_raise(document->row)) ||
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
	if (document->row == NULL)
	{
		*column = document->whole.column;
		nulls[document->attribute] = false;
		return lh_convert(&document->whole, text, length, &values[document->attribute], error);
	}
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
