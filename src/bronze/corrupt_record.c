/*
 * corrupt_record.c
 *	  The column that takes the text of records which could not be read.
 *
 * Invariant: such a record is a row of the target, and counts as one; beside it a
 * reject of state "stored" keeps reason, place and bytes.  So the rows and the
 * rejects that are counted are together the records that were read, and a replay,
 * which would store the record once more, leaves those rejects alone.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "bronze/corrupt_record.h"
#include "catalog/options.h"
#include "source/encoding.h"

struct LhCorruptRecord
{
	int			column;			/* from 0 */
	int			natts;
	bool	   *filled;			/* columns that the reader fills */
	LhEncoding	encoding;		/* of the file */
};

static int
file_encoding(Jsonb *options)
{
	static const char *const names[] = {"encoding", NULL};
	static const LhOptionAlias aliases[] = {{"charset", "encoding"}, {NULL, NULL}};

	return lh_encoding_option(lh_options_canonical(options, names, aliases));
}

LhCorruptRecord *
lh_corrupt_parse(Jsonb *options, TupleDesc tupdesc, bool *fillable)
{
	char	   *given = lh_options_text(options, LH_CORRUPT_OPTION, NULL);
	const char *name = given != NULL ? given : LH_CORRUPT_COLUMN;
	LhCorruptRecord *corrupt;
	int			column = -1;

	if (name[0] == '\0')
		return NULL;
	for (int i = 0; i < tupdesc->natts; i++)
		if (!TupleDescAttr(tupdesc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0)
			column = i;
	if (column < 0 && given != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" for records that cannot be read does not exist in the target", name),
				 errhint("Add it with ALTER TABLE ... ADD COLUMN %s text.", quote_identifier(name))));
	if (column < 0)
		return NULL;
	if (TupleDescAttr(tupdesc, column)->atttypid != TEXTOID ||
		TupleDescAttr(tupdesc, column)->attgenerated != '\0')
	{
		if (given != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" cannot hold records that cannot be read", name),
					 errdetail("The column must be an ordinary one of type text.")));
		return NULL;
	}
	if (fillable == NULL)
		return NULL;
	fillable[column] = false;
	/* NULL is not stored where a domain has something against it */
	for (int i = 0; i < tupdesc->natts; i++)
		if (fillable[i] && get_typtype(TupleDescAttr(tupdesc, i)->atttypid) == TYPTYPE_DOMAIN &&
			DomainHasConstraints(TupleDescAttr(tupdesc, i)->atttypid))
			return NULL;
	corrupt = palloc0(sizeof(LhCorruptRecord));
	corrupt->column = column;
	corrupt->natts = tupdesc->natts;
	corrupt->filled = palloc(sizeof(bool) * tupdesc->natts);
	memcpy(corrupt->filled, fillable, sizeof(bool) * tupdesc->natts);
	lh_encoding_init(&corrupt->encoding, file_encoding(options));
	/* what is no text is in the reject as it was */
	corrupt->encoding.replace = true;
	return corrupt;
}

bool
lh_corrupt_store(const LhCorruptRecord *corrupt, const LhRecords *records, int record,
				 Datum *values, bool *nulls, LhError *error)
{
	LhPlace		place = {.byte_offset = -1};
	LhError		ignored;
	const char *text;
	int			length;

	records->place(records->reader, record, &place);
	if (place.cut || place.raw == NULL || place.raw_length > MaxAllocSize / 16 ||
		!lh_encoding_convert(&corrupt->encoding, place.raw, (int) place.raw_length, &text, &length, &ignored))
		return false;
	for (int i = 0; i < corrupt->natts; i++)
		if (corrupt->filled[i])
		{
			values[i] = (Datum) 0;
			nulls[i] = true;
		}
	values[corrupt->column] = PointerGetDatum(cstring_to_text_with_len(text, length));
	nulls[corrupt->column] = false;
	error->stored = true;
	return true;
}
