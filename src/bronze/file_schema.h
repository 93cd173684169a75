/*
 * file_schema.h
 *	  How the fields of files and the columns of the target go together: options
 *	  schema_evolution_mode, rescued_data_column, reader_case_sensitive,
 *	  schema_hints, max_columns, partition_columns and
 *	  column_name_of_corrupt_record.
 */
#ifndef LH_FILE_SCHEMA_H
#define LH_FILE_SCHEMA_H

#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "bronze/ingest.h"
#include "bronze/writer.h"
#include "source/field_sink.h"
#include "source/record.h"

#define LH_RESCUED_COLUMN "_rescued_data"

typedef struct LhFileSchema LhFileSchema;

/* A column that the files have and the target has not. */
typedef struct LhNewColumn
{
	char	   *name;
	const char *type;
} LhNewColumn;

/* options that are ours, ended by NULL */
extern const char *const lh_file_schema_options[];

/*
 * Reads the options in the current context; raises 22023, 42703, 42804.  Marks
 * the columns in "fillable" (may be NULL) that are no longer the reader's.
 */
extern LhFileSchema *lh_file_schema_parse(Jsonb *options, TupleDesc tupdesc, bool *fillable);

/* the name of the column for rescued data of a table that is to be made, or NULL */
extern char *lh_file_schema_rescued_column(Jsonb *options);
extern int	lh_file_schema_max_columns(Jsonb *options);

/*
 * The following records come from this file.  Returns the sink for the reader,
 * or NULL if it needs none.  Values are made in the current context, which must
 * outlive the records.  Raises where a folder's name is no value of its column.
 */
extern LhFieldSink *lh_file_schema_begin(LhFileSchema *schema, const char *path);

/* makes records that fill our columns too; valid as long as "inner" */
extern const LhRecords *lh_file_schema_wrap(LhFileSchema *schema, const LhRecords *inner);

/* from now on, records that cannot be read become rows where the target has a column
 * for their text: see corrupt_record.h */
extern void lh_file_schema_keep_corrupt(LhFileSchema *schema);

/* does a value that does not convert go to the column for rescued data? */
extern bool lh_file_schema_rescues(const LhFileSchema *schema);

/*
 * A load of the writer begins: what is rescued is counted from here.  After its
 * end, in its transaction, the counts of its columns are written.
 */
extern void lh_file_schema_begin_load(LhFileSchema *schema, LhWriter *writer);
extern void lh_file_schema_end_load(LhFileSchema *schema, int64 load_id);

/* may columns be added, whose types the records that are read first decide? */
extern bool lh_file_schema_adds(const LhFileSchema *schema);

/* leaves types of columns alone that are known to be no matter of the source */
extern void lh_file_schema_pin(LhFileSchema *schema, const LhSource *source);

/*
 * What is to be done about fields that were met since lh_file_schema_begin and
 * are no columns, or do not fit the one they have: true if columns are to be added
 * or widened; raises where the file cannot be loaded (42703, 42622, 54011).
 */
extern bool lh_file_schema_grows(LhFileSchema *schema);

/* the same for the record filled last, where no columns can be added: false with
 * *error if a field of it would be lost */
extern bool lh_file_schema_check_record(LhFileSchema *schema, LhError *error);

/* those columns, as LhNewColumn in the current context */
extern List *lh_file_schema_new_columns(LhFileSchema *schema);

/* will the records be read again with wider types?  Then rejects of them mean nothing */
extern bool lh_file_schema_widens(const LhFileSchema *schema);

/* columns that are to be widened, as LhWidening in the current context */
extern List *lh_file_schema_widenings(LhFileSchema *schema);

#endif							/* LH_FILE_SCHEMA_H */
