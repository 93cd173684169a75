/*
 * file_ingest_internal.h
 *	  What file_ingest.c, file_listing.c and file_load.c share: a source of files
 *	  that is being read, and one batch of it.
 */
#ifndef LH_FILE_INGEST_INTERNAL_H
#define LH_FILE_INGEST_INTERNAL_H

#include <limits.h>

#include "bronze/clean.h"
#include "bronze/file_discovery.h"
#include "bronze/file_ingest.h"
#include "bronze/file_known.h"
#include "bronze/file_ledger.h"
#include "bronze/file_metadata.h"
#include "bronze/file_schema.h"
#include "bronze/ingest.h"
#include "bronze/reject_limit.h"
#include "bronze/writer.h"
#include "source/file_watch.h"
#include "source/inflate.h"
#include "source/reader.h"

/* time between two looks when something should wait and does not */
#define LH_MIN_PAUSE_US 10000

typedef struct FileIngest
{
	LhIngest	base;
	bool		continuous;
	LhFileOptions options;
	LhCleanOptions clean;
	bool		follower;		/* another worker lists */
	const LhReaderRoutine *reader;
	Jsonb	   *reader_options; /* without those that are ours */
	LhInflateOptions inflate;
	LhRejectLimit limit;
	LhFileFilter *filter;
	LhFileWatch *watch;			/* or NULL */
	bool		told_all;		/* by the last listing all directories are watched */
	bool		listed;			/* the directory was read in this run */
	dev_t		root_device;	/* which one it was */
	ino_t		root_inode;
	TimestampTz listed_from;	/* when that began and ended */
	TimestampTz listed_at;
	TimestampTz next_listing;
	TimestampTz earliest_listing;	/* though something was lost */
	TimestampTz earliest_look;	/* at what is told */
	LhDiscoveryNews news;
	TimestampTz next_look;		/* when something may wait */
	LhKnownFiles *known;		/* of a listing before this one, or NULL */
	TimestampTz known_since;
	int64		range_file;		/* the last range that was claimed */
	int64		range_position;
	LhLedgerCursor cursor;
	char		cursor_path[PATH_MAX * 4 + 1];
} FileIngest;

/* One call of file_batch. */
typedef struct FileBatch
{
	FileIngest *ingest;
	MemoryContext context;
	TimestampTz seen_before;	/* files seen later belong to the next batch */
	LhDescriptor *root;
	LhWriter   *writer;			/* opened with the first file */
	bool	   *fillable;
	LhFileMetadata *metadata;
	const char *path;			/* of the file at hand */
	LhInflate  *inflate;		/* the same, if it is compressed */
	LhWriteCounts loaded;		/* of the file at hand, by earlier loads */
	LhFileSchema *schema;
	LhIngestCounts *counts;
	int			contents;		/* that are locked */
	int64		files_left;
	int64		rows_left;
	int64		bytes_left;
	int64		touched;		/* ledger entries that changed */
	int64		loads_before;	/* loads of the run before this batch */
	const char *changed;		/* why the file in hand cannot be continued */
} FileBatch;

/* How the read of a part ended. */
typedef enum FileOutcome
{
	OUTCOME_DONE,				/* to the end of the file */
	OUTCOME_PART,
	OUTCOME_NEW_COLUMNS,		/* rolled back: to be read again with them */
	OUTCOME_ASIDE,				/* not to be loaded, or not now: that is entered */
	OUTCOME_CHANGED,			/* rolled back: not the same file any more */
	OUTCOME_FAILED				/* rolled back: cannot be read */
} FileOutcome;

/* file_listing.c: looks at the directory if that is due; false if the batch is to
 * end with it */
extern bool lh_file_look(FileBatch *batch);

/* the ledger is not what was read of it any more */
extern void lh_file_forget_known(FileIngest *ingest);

/* file_load.c: loads the rest of a file, or as much as the batch may still take;
 * with OUTCOME_FAILED *error tells why */
extern FileOutcome lh_file_load(FileBatch *batch, const LhLedgerFile *file,
							LhDescriptor *descriptor, ErrorData **error);

#endif							/* LH_FILE_INGEST_INTERNAL_H */
