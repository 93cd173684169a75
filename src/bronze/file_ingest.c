/*
 * file_ingest.c
 *	  Files of a directory into a bronze table.
 *
 * One batch: look at the directory, enter new and changed files into the
 * ledger, take waiting files in the order of (mtime, path), read and write them
 * until the limits of a batch are reached.  A large file is loaded in parts;
 * each part is a load.
 *
 * Several workers may share a source.  Each claims a file by the lock of its
 * entry, for the part that it loads; one of them, which the others follow,
 * lists the directory, unless it is busy.  What it lists is some moments old
 * when it comes to the ledger, so beside the others it enters files that are
 * new, and to change an entry that is there it asks for the source alone and
 * looks again.
 *
 * Invariant: the rows of a part, its load, its rejects and the file's entry in
 * the ledger are written by one subtransaction of the caller's transaction.  If
 * the file cannot be read to the end of the part, or is not the same file
 * afterwards as before, that subtransaction is rolled back: the ledger then
 * says why, and the other files go on.
 */
#include "postgres.h"

#include <limits.h>
#include <sys/stat.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"
#include "utils/timestamp.h"

#include "bronze/evolve.h"
#include "bronze/file_change.h"
#include "bronze/file_hash.h"
#include "bronze/file_ingest.h"
#include "bronze/file_known.h"
#include "bronze/file_ledger.h"
#include "bronze/file_metadata.h"
#include "bronze/file_options.h"
#include "bronze/file_schema.h"
#include "bronze/ingest.h"
#include "bronze/progress.h"
#include "bronze/reject_limit.h"
#include "bronze/writer.h"
#include "catalog/options.h"
#include "delta/load.h"
#include "fault.h"
#include "guc.h"
#include "source/file_list.h"
#include "source/file_watch.h"
#include "source/inflate.h"
#include "source/reader.h"
#include "source/server.h"

/* entries of a listing that are compared with the ledger at once */
#define LISTING_CHUNK 1000

/* a continuous source spends at most one part in this many on listing */
#define LISTING_SHARE 10

/* or in this many, while all its directories are watched */
#define WATCHED_SHARE 100

/* how long a continuous source trusts what it read of the ledger */
#define KNOWN_US (INT64CONST(300) * 1000000)

/* time between two looks when something should wait and does not */
#define MIN_PAUSE_US 10000

/* the same where another worker may hold what waits */
#define SHARED_PAUSE_US 100000

typedef struct FileIngest
{
	LhIngest	base;
	bool		continuous;
	LhFileOptions options;
	bool		follower;		/* another worker lists */
	const LhReaderRoutine *reader;
	Jsonb	   *reader_options; /* without those that are ours */
	LhInflateOptions inflate;
	LhRejectLimit limit;
	LhFileWatch *watch;			/* or NULL */
	bool		listed;			/* the directory was read in this run */
	TimestampTz listed_at;
	TimestampTz next_listing;
	TimestampTz earliest_listing;	/* though something arrived */
	TimestampTz next_look;		/* when something may wait */
	LhKnownFiles *known;		/* of a listing before this one, or NULL */
	TimestampTz known_since;
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
	LhWriteCounts loaded;		/* of the file at hand, by earlier loads */
	LhFileSchema *schema;
	LhIngestCounts *counts;
	int64		files_left;
	int64		rows_left;
	int64		bytes_left;
	int64		touched;		/* ledger entries that changed */
	const char *changed;		/* why the file in hand cannot be continued */
} FileBatch;

/* How the read of a part ended. */
typedef enum Outcome
{
	OUTCOME_DONE,				/* to the end of the file */
	OUTCOME_PART,
	OUTCOME_NEW_COLUMNS,		/* rolled back: to be read again with them */
	OUTCOME_CHANGED,			/* rolled back: not the same file any more */
	OUTCOME_FAILED				/* rolled back: cannot be read */
} Outcome;

static void check_server_owner(Oid server);
static const char *changed_prefix(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor);
static void put_off(LhLedgerFile *file, LhDescriptor *descriptor);
static bool wait_for_files(FileIngest *ingest, long timeout_ms);
static bool look_at_directory(FileBatch *batch);
static bool read_listing(FileBatch *batch);
static void read_known(FileIngest *ingest);
static void forget_known(FileIngest *ingest);
static void take_file(FileBatch *batch, LhLedgerFile *file);
static void set_aside_unopened(const LhLedgerFile *file, int error);
static Outcome load_part(FileBatch *batch, const LhLedgerFile *file,
						 LhDescriptor *descriptor, ErrorData **error);
static bool add_columns(FileBatch *batch, const LhLedgerFile *file, ErrorData **error);
static Outcome read_part(FileBatch *batch, const LhLedgerFile *file,
						 LhDescriptor *descriptor, volatile bool *reading);

/*
 * lh_file_source_validate checks the options without any file.
 */
void
lh_file_source_validate(const char *format, Jsonb *options, TupleDesc tupdesc)
{
	LhFileOptions parsed;
	LhInflateOptions inflate;
	LhRejectLimit limit;

	lh_file_options_parse(options, false, &parsed);
	lh_inflate_options_parse(options, &inflate);
	lh_reject_limit_parse(options, &limit);
	(void) lh_file_metadata_parse(options, tupdesc, NULL);
	(void) lh_file_schema_parse(options, tupdesc, NULL);
	lh_reader_find(format)->validate(lh_file_reader_options(options), tupdesc);
}

static LhIngest *
file_open(const LhSource *source, bool continuous)
{
	FileIngest *ingest = palloc0(sizeof(FileIngest));
	Jsonb	   *options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));

	ingest->continuous = continuous;
	lh_file_options_parse(options, continuous, &ingest->options);
	ingest->reader = lh_reader_find(source->format);
	if (ingest->reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("format \"%s\" of source \"%s\" does not exist", source->format, source->name)));
	ingest->reader_options = lh_file_reader_options(options);
	lh_inflate_options_parse(options, &ingest->inflate);
	lh_reject_limit_parse(options, &ingest->limit);
	ingest->follower = source->follower;
	if (continuous && !ingest->follower)
		ingest->watch = lh_file_watch_create();
	return &ingest->base;
}

/*
 * file_wait sleeps until the next look at the directory is due, or something
 * arrives there.
 */
static bool
file_wait(LhIngest *base, long timeout_ms)
{
	FileIngest *ingest = (FileIngest *) base;
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms;

	if (!ingest->continuous || now >= ingest->next_look)
		return true;
	wait_ms = Min(timeout_ms, (long) ((ingest->next_look - now + 999) / 1000));
	if (wait_ms > 0 && wait_for_files(ingest, wait_ms))
	{
		ingest->next_listing = Min(ingest->next_listing, ingest->earliest_listing);
		ingest->next_look = Min(ingest->next_look, ingest->next_listing);
	}
	return GetCurrentTimestamp() >= ingest->next_look;
}

/*
 * wait_for_files tells whether something arrived; a follower is told so by the
 * one who lists, and looks at the ledger.
 */
static bool
wait_for_files(FileIngest *ingest, long timeout_ms)
{
	int			result;

	if (!ingest->follower)
		return lh_file_watch_wait(ingest->watch, timeout_ms);
	result = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if ((result & WL_LATCH_SET) != 0)
		ingest->next_look = 0;
	return false;
}

/*
 * file_batch does one bounded batch; false when nothing was left to do.
 */
static bool
file_batch(LhIngest *base, LhIngestCounts *counts)
{
	FileIngest *ingest = (FileIngest *) base;
	const LhSource *source = base->source;
	FileBatch	batch = {.ingest = ingest, .counts = counts, .seen_before = GetCurrentTimestamp()};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse file batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext file_context = AllocSetContextCreate(context, "lakehouse file",
													   ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	bool		found = true;

	batch.context = context;
	batch.files_left = lh_batch_files;
	batch.rows_left = lh_batch_rows;
	batch.bytes_left = (int64) lh_batch_bytes * 1024;
	batch.root = lh_file_root_open(source->server);
	if (!look_at_directory(&batch))
		batch.files_left = 0;	/* what was found is for all: commit it first */
	if (ingest->continuous)
		ingest->cursor.started = false;
	else
		batch.seen_before = ingest->listed_at;

	while (batch.files_left > 0 && batch.rows_left > 0 && batch.bytes_left > 0)
	{
		LhLedgerFile file;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(file_context);
		MemoryContextSwitchTo(file_context);
		found = lh_ledger_next(source->source_id, &ingest->cursor,
							   Min(batch.seen_before, GetCurrentTimestamp() - ingest->options.settle_us),
							   ingest->continuous, &file);
		if (!found)
			break;
		take_file(&batch, &file);
	}
	MemoryContextSwitchTo(context);
	if (batch.writer != NULL)
		lh_writer_close(batch.writer);
	if (ingest->continuous && !found)
	{
		TimestampTz due = lh_ledger_next_due(source->source_id, ingest->options.settle_us);

		/* a follower may miss a call to look */
		ingest->next_look = Min(ingest->follower ? GetCurrentTimestamp() + (int64) lh_poll_interval * 1000
								: ingest->next_listing,
								Max(due, GetCurrentTimestamp() + (source->shared ? SHARED_PAUSE_US : MIN_PAUSE_US)));
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	return found || batch.touched > 0;
}

/*
 * lh_file_root_open opens the directory of a server for the current user.
 */
LhDescriptor *
lh_file_root_open(Oid server)
{
	check_server_owner(server);
	return lh_directory_open(lh_server_directory(server));
}

/*
 * check_server_owner raises unless the role that vouches for the directory may
 * still read files of the machine.
 */
static void
check_server_owner(Oid server)
{
	ForeignServer *definition = GetForeignServer(server);

	if (!has_privs_of_role(definition->owner, ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of server \"%s\" may not read files", definition->servername),
				 errdetail("Role \"%s\" is neither a superuser nor a member of pg_read_server_files.",
						   GetUserNameFromId(definition->owner, false)),
				 errhint("Grant pg_read_server_files to the role, or give the server to another one.")));
}

/*
 * look_at_directory lists the directory if that is due; false if the batch is
 * to end with it.
 */
static bool
look_at_directory(FileBatch *batch)
{
	FileIngest *ingest = batch->ingest;
	bool		others;

	if (ingest->continuous ? batch->seen_before < ingest->next_listing : ingest->listed)
		return true;
	if (ingest->follower && !ingest->base.stand_in)
		return true;
	others = read_listing(batch) && !ingest->follower;
	ingest->base.alone = others;
	if (others)
		ingest->next_listing = ingest->next_look = 0;
	batch->counts->discovered += batch->touched;
	return !ingest->base.source->shared || (batch->touched == 0 && !others);
}

/* A chunk of a listing on its way to the ledger. */
typedef struct ListingChunk
{
	FileBatch  *batch;
	MemoryContext context;
	bool		new_only;
	bool		others;			/* an entry was left that should have changed */
	int64		looked_up;		/* entries so far that were not known */
	int			count;
	LhListed	listed[LISTING_CHUNK];
} ListingChunk;

static void
enter_chunk(ListingChunk *chunk)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(chunk->context);

	chunk->looked_up += chunk->count;
	if (chunk->count > 0)
		chunk->batch->touched += lh_ledger_enter(chunk->batch->ingest->base.source->source_id,
												 chunk->batch->ingest->options.on_change,
												 chunk->listed, chunk->count,
												 chunk->new_only, &chunk->others);
	chunk->count = 0;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(chunk->context);
}

static void
add_listed(const LhListed *listed, void *arg)
{
	ListingChunk *chunk = arg;
	FileIngest *ingest = chunk->batch->ingest;
	MemoryContext oldcontext;
	LhListed   *item;
	bool		valid;
	const char *printable;

	if (ingest->known != NULL && lh_known_has(ingest->known, listed))
		return;
	oldcontext = MemoryContextSwitchTo(chunk->context);
	item = &chunk->listed[chunk->count++];
	printable = lh_file_printable(listed->path, &valid);

	*item = *listed;
	item->path = pstrdup(printable);
	if (!valid)
	{
		item->sqlstate = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		item->problem = "its name is not valid in the encoding of the database";
		item->size = item->mtime_ns = 0;
	}
	else if (listed->problem != NULL)
		item->problem = pstrdup(listed->problem);
	MemoryContextSwitchTo(oldcontext);
	if (chunk->count < LISTING_CHUNK)
		return;
	enter_chunk(chunk);
	if (ingest->known == NULL && ingest->known_since == 0 && lh_known_pays(chunk->looked_up))
		read_known(ingest);
}

/*
 * read_known reads what of the ledger need not be looked up.
 */
static void
read_known(FileIngest *ingest)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(ingest->base.context);

	ingest->known_since = GetCurrentTimestamp();
	ingest->known = lh_known_read(ingest->base.source->source_id, ingest->options.on_change);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * forget_known: the ledger is not what was read of it any more.
 */
static void
forget_known(FileIngest *ingest)
{
	if (ingest->known != NULL)
		lh_known_free(ingest->known);
	ingest->known = NULL;
	ingest->known_since = 0;
}

/*
 * read_listing compares the directory with the ledger; true if entries were
 * left as they are that have to be changed with nobody beside.
 */
static bool
read_listing(FileBatch *batch)
{
	FileIngest *ingest = batch->ingest;
	ListingChunk *chunk = palloc(sizeof(ListingChunk));
	TimestampTz started = GetCurrentTimestamp();
	TimestampTz now;
	bool		others;

	/* what the others set aside is not known here */
	if (ingest->base.source->shared || started - ingest->known_since > KNOWN_US)
		forget_known(ingest);
	chunk->batch = batch;
	chunk->looked_up = 0;
	chunk->count = 0;
	chunk->new_only = ingest->base.source->shared && !ingest->base.alone;
	chunk->others = false;
	chunk->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse listing",
										   ALLOCSET_DEFAULT_SIZES);
	lh_file_list(batch->root, ingest->base.source->path, ingest->watch, add_listed, chunk);
	enter_chunk(chunk);
	others = chunk->others;
	MemoryContextDelete(chunk->context);
	pfree(chunk);

	/* what is new now will be known when it is listed again */
	if (batch->touched > LISTING_CHUNK)
		forget_known(ingest);
	now = GetCurrentTimestamp();
	ingest->earliest_listing = now + Max(MIN_PAUSE_US, (now - started) * LISTING_SHARE);
	ingest->next_listing = Max(now + (int64) lh_poll_interval * 1000, ingest->earliest_listing);
	if (ingest->watch != NULL && lh_file_watch_is_complete(ingest->watch))
		ingest->next_listing = Max(ingest->next_listing, now + (now - started) * WATCHED_SHARE);
	ingest->listed = true;
	ingest->listed_at = now;
	ingest->cursor.started = false;
	return others;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && lh_file_mtime_ns(a) == lh_file_mtime_ns(b);
}

/*
 * take_file brings one waiting file forward, or enters why that is not
 * possible.
 */
static void
take_file(FileBatch *batch, LhLedgerFile *file)
{
	FileIngest *ingest = batch->ingest;
	LhDescriptor *descriptor = lh_file_open(batch->root, file->path);
	ErrorData  *error = NULL;
	Outcome		outcome = OUTCOME_CHANGED;
	bool		same;

	batch->touched++;
	if (descriptor == NULL)
	{
		set_aside_unopened(file, errno);
		batch->counts->failed_files++;
		outcome = OUTCOME_FAILED;
	}
	else
	{
		same = file->size == descriptor->status.st_size &&
			file->mtime_ns == lh_file_mtime_ns(&descriptor->status);
		batch->changed = NULL;
		/* a look at hand is as good as one that was listed, unless it must settle */
		if (same || (file->position == 0 && ingest->options.settle_us == 0))
			outcome = load_part(batch, file, descriptor, &error);
		while (outcome == OUTCOME_NEW_COLUMNS)
			outcome = add_columns(batch, file, &error) ?
				load_part(batch, file, descriptor, &error) : OUTCOME_FAILED;
		if (outcome == OUTCOME_FAILED)
		{
			lh_ledger_failed(file->file_id, file->attempts + 1, error->sqlerrcode,
							 error->hint ? psprintf("%s (%s)", error->message, error->hint) : error->message);
			batch->counts->failed_files++;
		}
		else if (batch->changed != NULL || (outcome == OUTCOME_CHANGED && file->position > 0 && !file->continues))
			lh_ledger_set_aside(file->file_id, "changed", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
								batch->changed ? batch->changed :
								psprintf("the file changed after " INT64_FORMAT " bytes of it were loaded", file->position));
		else if (outcome == OUTCOME_CHANGED)
			put_off(file, descriptor);
		lh_descriptor_close(descriptor);
	}
	if (outcome == OUTCOME_PART)
		return;
	/* what was set aside is to be looked up, should it come again */
	if (outcome != OUTCOME_DONE)
		forget_known(ingest);
	batch->files_left--;
	ingest->cursor.started = true;
	ingest->cursor.mtime_ns = file->order_ns;
	strlcpy(ingest->cursor_path, file->path, sizeof(ingest->cursor_path));
	ingest->cursor.path = ingest->cursor_path;
}

/*
 * put_off makes a file wait that is being written.
 */
static void
put_off(LhLedgerFile *file, LhDescriptor *descriptor)
{
	struct stat status;

	if (fstat(descriptor->fd, &status) == 0)
		lh_ledger_seen_again(file->file_id, status.st_size, lh_file_mtime_ns(&status));
}

/*
 * changed_prefix tells why a file cannot be continued behind what is loaded;
 * NULL if it can.
 */
static const char *
changed_prefix(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor)
{
	LhInflate  *inflate = NULL;
	int64		blocks = 0;
	char		last = '\n';

	if (lh_file_hash(descriptor->fd, file->path, 0, file->position, &blocks) != file->hash)
		return psprintf("the file was written anew: its first " INT64_FORMAT " bytes are not those that were loaded",
						file->position);
	if (!batch->ingest->reader->raw)
		inflate = lh_inflate_open(descriptor->fd, file->path, descriptor->status.st_size,
								  &batch->ingest->inflate);
	if (inflate != NULL)
	{
		lh_inflate_close(inflate);
		return "the file became longer, but it is compressed and cannot be continued";
	}
	if (batch->ingest->reader->raw && descriptor->status.st_size > file->position)
		return "the file became longer, but it is one record as a whole and cannot be continued";
	if (descriptor->status.st_size > file->position && file->position > 0 &&
		pread(descriptor->fd, &last, 1, file->position - 1) == 1 && last != '\n' && last != '\r')
		return psprintf("the file became longer, but its first " INT64_FORMAT " bytes, which are loaded, did not end with a line",
						file->position);
	return NULL;
}

/*
 * set_aside_unopened enters why a file could not be opened.  What cannot become
 * better by waiting is skipped until it is another thing.
 */
static void
set_aside_unopened(const LhLedgerFile *file, int error)
{
	const char *reason = NULL;
	int			sqlstate = ERRCODE_WRONG_OBJECT_TYPE;

	switch (error)
	{
		case ENOENT:
		case ENOTDIR:
			reason = "the file disappeared before it was loaded";
			sqlstate = ERRCODE_UNDEFINED_FILE;
			break;
		case ELOOP:
		case EXDEV:
			reason = "is or lies behind a symbolic link";
			break;
		case EFTYPE_NOT_REGULAR:
		case ENXIO:
			reason = "is not a regular file";
			break;
		case EMFILE:
		case ENFILE:
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not open file \"%s\": %s", file->path, strerror(error))));
			break;
		default:
			break;
	}
	if (reason != NULL && file->position == 0)
		lh_ledger_set_aside(file->file_id, "skipped", sqlstate, reason);
	else
		lh_ledger_failed(file->file_id, file->attempts + 1,
						 error == EACCES || error == EPERM ? ERRCODE_INSUFFICIENT_PRIVILEGE :
						 error == ENOENT ? ERRCODE_UNDEFINED_FILE : ERRCODE_IO_ERROR,
						 psprintf("could not open file: %s", strerror(error)));
}

static void
open_writer(FileBatch *batch)
{
	const LhSource *source = batch->ingest->base.source;
	Jsonb	   *options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));
	TupleDesc	tupdesc;

	batch->writer = lh_writer_open(source->target, source->source_id, false);
	tupdesc = lh_writer_tupdesc(batch->writer);
	batch->fillable = palloc(sizeof(bool) * tupdesc->natts);
	memcpy(batch->fillable, lh_writer_fillable(batch->writer), sizeof(bool) * tupdesc->natts);
	batch->metadata = lh_file_metadata_parse(options, tupdesc, batch->fillable);
	batch->schema = lh_file_schema_parse(options, tupdesc, batch->fillable);
}

/*
 * stops_the_source tells whether an error that a read raised is no fault of the
 * file.
 */
static bool
stops_the_source(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INTERNAL_ERROR:
			return true;
		default:
			return false;
	}
}

/*
 * load_part loads the rest of a file, or as much as the batch may still take,
 * in a subtransaction.  With OUTCOME_FAILED *error tells why.
 */
static Outcome
load_part(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool reading = false;
	volatile Outcome outcome = OUTCOME_FAILED;

	if (batch->writer == NULL)
	{
		MemoryContextSwitchTo(batch->context);
		open_writer(batch);
		MemoryContextSwitchTo(context);
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		outcome = read_part(batch, file, descriptor, &reading);
		lh_progress_end();
		if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_NEW_COLUMNS)
		{
			RollbackAndReleaseCurrentSubTransaction();
			lh_writer_abort_load(batch->writer);
		}
		else
			ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		lh_progress_end();
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (!reading || stops_the_source((*error)->sqlerrcode))
			ReThrowError(*error);
		lh_writer_abort_load(batch->writer);
		outcome = OUTCOME_FAILED;
	}
	PG_END_TRY();
	return outcome;
}

/*
 * add_columns gives the target the columns that a part had beyond those it has;
 * false with *error if that is not possible.
 */
static bool
add_columns(FileBatch *batch, const LhLedgerFile *file, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	List	   *columns = lh_file_schema_new_columns(batch->schema);
	volatile bool done = false;

	/* ALTER TABLE refuses a table that its own session has open */
	lh_writer_close(batch->writer);
	batch->writer = NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		lh_evolve_add_columns(batch->ingest->base.source, file->file_id, columns);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (stops_the_source((*error)->sqlerrcode))
			ReThrowError(*error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/*
 * copy_records reads and writes until the end of the file or a limit of the
 * batch; true at the end.  A "whole" file knows no limits: it is one load.
 */
static bool
copy_records(FileBatch *batch, LhReader *reader, int64 size, bool whole,
			 LhLedgerProgress *progress, volatile bool *reading)
{
	const LhReaderRoutine *routine = batch->ingest->reader;
	int64		begin = progress->position;
	int64		records_left = batch->rows_left;
	LhRecords	records;
	LhWriteCounts written;

	while (routine->next(reader, &records))
	{
		LH_FAULT("read-chunk");
		*reading = false;
		lh_writer_write(batch->writer,
						lh_file_metadata_wrap(batch->metadata,
											  lh_file_schema_wrap(batch->schema, &records)));
		*reading = true;
		lh_reject_limit_check(&batch->ingest->limit, batch->path, batch->writer, &batch->loaded, false);
		routine->tell(reader, &progress->position, &progress->line);
		written = lh_writer_counts(batch->writer);
		lh_progress_set(progress->position, written.rows, written.rejected);
		records_left -= records.count;
		if (whole)
			continue;
		if (progress->position >= size)
			return true;
		if (records_left <= 0 || progress->position - begin >= batch->bytes_left)
			return false;
	}
	routine->tell(reader, &progress->position, &progress->line);
	return true;
}

static void
show_progress(const LhLoad *load, const LhSource *source, int64 size)
{
	LhProgress	progress = {.database = MyDatabaseId, .owner = source->owner,
		.source_id = source->source_id, .file_id = load->file_id, .load_id = load->load_id,
		.size = size, .first_position = load->first_position, .position = load->first_position,
	.started = load->started};

	lh_progress_begin(&progress);
}

/*
 * read_part loads one part: rows, load and ledger.  Raises what the reader or
 * the writer raises; *reading tells which of them it was.
 */
static Outcome
read_part(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor,
		  volatile bool *reading)
{
	const LhReaderRoutine *routine = batch->ingest->reader;
	const LhSource *source = batch->ingest->base.source;
	LhReaderInput input = {.fd = descriptor->fd, .name = file->path,
		.size = descriptor->status.st_size, .position = file->position, .line = file->line,
		.header = file->header, .tupdesc = lh_writer_tupdesc(batch->writer),
	.fillable = batch->fillable, .options = batch->ingest->reader_options};
	LhFileFacts facts = {.path = file->path, .size = input.size,
	.mtime_ns = lh_file_mtime_ns(&descriptor->status), .source = source->name};
	LhLedgerProgress progress = {.size = input.size, .mtime_ns = facts.mtime_ns,
	.position = file->position, .line = file->line};
	LhLoad		load = {.load_id = lh_load_reserve(), .relation = source->target, .kind = LH_LOAD_FILE,
		.source_id = source->source_id, .file_id = file->file_id,
	.first_position = file->position, .started = GetCurrentTimestamp()};
	LhReader   *reader;
	LhWriteCounts written;
	struct stat after;
	bool		at_end;

	*reading = true;
	if (file->continues && (batch->changed = changed_prefix(batch, file, descriptor)) != NULL)
		return OUTCOME_CHANGED;
	if (file->replaces)
		(void) lh_file_take_back(source->source_id, file->path, file->file_id);
	/* a file that was begun as it is goes on so */
	if (!routine->raw && file->position == 0)
		input.inflate = lh_inflate_open(input.fd, input.name, input.size, &batch->ingest->inflate);
	input.sink = lh_file_schema_begin(batch->schema, file->path);
	reader = routine->open(&input);
	/* a header may tell enough for a refusal */
	(void) lh_file_schema_grows(batch->schema);
	lh_writer_set_may_raise(batch->writer, routine->may_raise(reader) ||
							lh_file_schema_rescues(batch->schema));
	lh_file_metadata_begin(batch->metadata, &facts);
	show_progress(&load, source, input.inflate == NULL ? input.size : -1);
	lh_writer_set_reject_use(batch->writer, batch->ingest->limit.use);
	lh_writer_begin_load(batch->writer, load.load_id, file->file_id);
	batch->path = file->path;
	lh_ledger_counts(file, &batch->loaded.rows, &batch->loaded.rejected);
	/* what replaces rows does it at once */
	at_end = copy_records(batch, reader, input.size,
						  input.inflate != NULL || file->replaces ||
						  lh_reject_limit_is_set(&batch->ingest->limit),
						  &progress, reading);
	lh_reject_limit_check(&batch->ingest->limit, file->path, batch->writer, &batch->loaded, at_end);
	/* a file that may be continued needs it then */
	progress.header = at_end && batch->ingest->options.on_change != LH_CHANGE_TAIL
		? NULL : routine->header(reader);
	if (lh_file_schema_grows(batch->schema))
	{
		routine->close(reader);
		return OUTCOME_NEW_COLUMNS;
	}
	*reading = false;
	written = lh_writer_end_load(batch->writer);

	if (at_end)
		progress.position = input.size;
	*reading = true;
	progress.hash_blocks = file->hash_blocks;
	progress.hash = lh_file_hash(descriptor->fd, file->path, Min(file->position, input.size),
								 Min(progress.position, input.size), &progress.hash_blocks);
	*reading = false;

	LH_FAULT("fstat");
	if (fstat(descriptor->fd, &after) < 0 || !same_file(&descriptor->status, &after))
		return OUTCOME_CHANGED;

	progress.state = at_end ? "loaded" : "loading";
	progress.rows = load.rows = written.rows;
	progress.rejected = load.rejected = written.rejected;
	load.last_position = progress.position;
	load.bytes = progress.position - file->position;
	/* a replay of the rejects must know what their fields are */
	load.header = written.rejected > 0 && !routine->header_is_state ? routine->header(reader) : NULL;
	lh_load_record(&load);
	lh_ledger_progress(file->file_id, &progress);
	routine->close(reader);
	if (input.inflate != NULL)
		lh_inflate_close(input.inflate);

	batch->counts->loads++;
	batch->counts->files += at_end;
	batch->counts->rows += written.rows;
	batch->counts->rejected += written.rejected;
	batch->counts->bytes += load.bytes;
	batch->rows_left -= written.rows + written.rejected;
	batch->bytes_left -= load.bytes;
	return at_end ? OUTCOME_DONE : OUTCOME_PART;
}

static void
file_committed(LhIngest *base)
{
}

/*
 * file_aborted forgets what was seen: the ledger does not hold it.
 */
static void
file_aborted(LhIngest *base)
{
	FileIngest *ingest = (FileIngest *) base;

	forget_known(ingest);
	ingest->listed = false;
	ingest->next_listing = 0;
	ingest->next_look = 0;
	ingest->cursor.started = false;
}

static void
file_close(LhIngest *base)
{
}

const LhIngestRoutine lh_file_ingest = {
	.open = file_open,
	.wait = file_wait,
	.batch = file_batch,
	.committed = file_committed,
	.aborted = file_aborted,
	.close = file_close
};
