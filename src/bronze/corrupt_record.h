/*
 * corrupt_record.h
 *	  The column that takes the text of records which could not be read: option
 *	  column_name_of_corrupt_record.
 */
#ifndef LH_CORRUPT_RECORD_H
#define LH_CORRUPT_RECORD_H

#include "access/tupdesc.h"
#include "utils/jsonb.h"

#include "source/record.h"

#define LH_CORRUPT_COLUMN "_corrupt_record"
#define LH_CORRUPT_OPTION "column_name_of_corrupt_record"

typedef struct LhCorruptRecord LhCorruptRecord;

/*
 * lh_corrupt_parse finds the column, and takes it away from the reader; NULL if the
 * target has none, or could not take a row of NULLs.  "fillable" is NULL to check
 * only.  In the current context.  Raises 42703 and 42804.
 */
extern LhCorruptRecord *lh_corrupt_parse(Jsonb *options, TupleDesc tupdesc, bool *fillable);

/*
 * lh_corrupt_store makes a row of a record that could not be read: NULL in all
 * columns that the reader fills, and its text.  False if the text is not known as a
 * whole.  Marks the error as one of a record that is stored.
 */
extern bool lh_corrupt_store(const LhCorruptRecord *corrupt, const LhRecords *records, int record,
							 Datum *values, bool *nulls, LhError *error);

#endif							/* LH_CORRUPT_RECORD_H */
