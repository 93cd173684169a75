/*
 * writer.h
 *	  Batches of records into a bronze table.
 */
#ifndef LH_WRITER_H
#define LH_WRITER_H

#include "bronze/reject.h"
#include "bronze/rescue_count.h"
#include "source/record.h"
#include "utils/relcache.h"

typedef struct LhWriter LhWriter;

typedef struct LhWriteCounts
{
	int64		rows;			/* stored */
	int64		rejected;		/* kept as rejects */
	int64		rescued;		/* stored, with something in the column for rescued data */
	int64		corrupt;		/* of the rows: those of records that could not be read */
} LhWriteCounts;

/*
 * lh_writer_open prepares to write into "target" as the current user, whose
 * INSERT privilege it checks; the transaction is the caller's.  "may_raise"
 * says that a record's conversion can raise an error, so that batches need a
 * subtransaction.
 */
extern LhWriter *lh_writer_open(Oid target, int32 source_id, bool may_raise);

/* tuple descriptor of the target, and which columns a source may fill */
extern TupleDesc lh_writer_tupdesc(LhWriter *writer);
extern const bool *lh_writer_fillable(LhWriter *writer);

/* as "may_raise" of lh_writer_open, for a reader that is opened later */
extern void lh_writer_set_may_raise(LhWriter *writer, bool may_raise);

/* the following records belong to this load (and file, 0 = none) */
extern void lh_writer_begin_load(LhWriter *writer, int64 load_id, int64 file_id);

/* stores a batch: rows into the table, bad records into lakehouse.reject */
extern void lh_writer_write(LhWriter *writer, const LhRecords *records);

/* attribute number of the column whose values are counted as rescued, 0 = none;
 * and what learns which of the records became rows, or NULL */
extern void lh_writer_set_rescued_column(LhWriter *writer, int column, LhRescueCounts *counts);

/* what becomes of the rejects of the following batches */
extern void lh_writer_set_reject_use(LhWriter *writer, LhRejectUse use);

/* so far, since lh_writer_begin_load (rows that are still buffered are in); and
 * the first reject of them, or NULL */
extern LhWriteCounts lh_writer_counts(const LhWriter *writer);
extern const LhFirstReject *lh_writer_first_reject(const LhWriter *writer);

/* flushes what is buffered; counts since lh_writer_begin_load */
extern LhWriteCounts lh_writer_end_load(LhWriter *writer);

/* after the rollback of a subtransaction that began inside the transaction of
 * lh_writer_open and held the load: the writer can begin another load */
extern void lh_writer_abort_load(LhWriter *writer);

extern void lh_writer_close(LhWriter *writer);

#endif							/* LH_WRITER_H */
