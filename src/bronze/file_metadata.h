/*
 * file_metadata.h
 *	  Columns of the target that tell where a row came from: option "metadata".
 */
#ifndef LH_FILE_METADATA_H
#define LH_FILE_METADATA_H

#include "access/tupdesc.h"
#include "utils/jsonb.h"

#include "source/file_open.h"
#include "source/record.h"

typedef struct LhFileMetadata LhFileMetadata;

/* the file that the following records come from */
typedef struct LhFileFacts
{
	const char *path;
	int64		size;
	int64		mtime_ns;
	const char *source;
} LhFileFacts;

/* Reads the option; raises 22023, 42703, 42804.  Marks the columns in
 * "fillable" (may be NULL) as no longer the reader's. */
extern LhFileMetadata *lh_file_metadata_parse(Jsonb *options, TupleDesc tupdesc,
											  bool *fillable);
/* tells the columns of the option and the types that they must have */
extern void lh_file_metadata_list(Jsonb *options,
								  void (*found) (const char *column, Oid type, void *arg), void *arg);
extern void lh_file_metadata_begin(LhFileMetadata *metadata, const LhFileFacts *facts);

/* makes records that fill the columns of "inner" and those of the metadata;
 * the result is valid as long as "inner" */
extern const LhRecords *lh_file_metadata_wrap(LhFileMetadata *metadata, const LhRecords *inner);

/* nanoseconds since 1970 as a timestamp */
extern TimestampTz lh_file_timestamp(int64 mtime_ns);

#endif							/* LH_FILE_METADATA_H */
