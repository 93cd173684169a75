/*
 * file_ingest.c
 *	  Files of a directory into a bronze table.
 *
 * One batch: look at the directory, enter new and changed files into the
 * ledger, take waiting files in the order of (mtime, path) or of path, read and write them
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
 * Invariant: one thing wrong with a file stops that file only.  What could be
 * loaded of it is (file_load.c); otherwise the ledger says why, and the others
 * go on.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/pg_authid.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "bronze/file_ingest_internal.h"
#include "bronze/file_range.h"
#include "catalog/options.h"
#include "guc.h"
#include "source/file_root.h"
#include "source/server.h"

/* time between two looks where another worker may hold what waits */
#define SHARED_PAUSE_US 100000

/* time between two looks whether the directory is still there */
#define IDLE_LOOK_US 5000000

static TimestampTz find_settled(const FileIngest *ingest);
static void plan_look(FileIngest *ingest);
static void check_server_owner(Oid server);
static bool wait_for_files(FileIngest *ingest, long timeout_ms);
static void take_file(FileBatch *batch, LhLedgerFile *file);
static void put_off(LhLedgerFile *file, LhDescriptor *descriptor);
static ErrorData *set_aside_unopened(const LhLedgerFile *file, int error);
static bool enter_failure(FileBatch *batch, const LhLedgerFile *file, const ErrorData *error);

/*
 * lh_file_source_validate checks the options without any file.
 */
void
lh_file_source_validate(const char *format, const char *path, Jsonb *options, TupleDesc tupdesc)
{
	LhFileOptions parsed;
	LhInflateOptions inflate;
	LhRejectLimit limit;
	const char *const *others;

	lh_file_options_parse(options, path, false, &parsed);
	lh_inflate_options_parse(options, &inflate);
	lh_reject_limit_parse(options, &limit);
	(void) lh_file_metadata_parse(options, tupdesc, NULL);
	(void) lh_file_schema_parse(options, tupdesc, NULL);
	others = lh_options_set_others(lh_file_option_names());
	PG_TRY();
	{
		lh_reader_find(format)->validate(lh_file_reader_options(options), tupdesc);
	}
	PG_FINALLY();
	{
		(void) lh_options_set_others(others);
	}
	PG_END_TRY();
}

static LhIngest *
file_open(const LhSource *source, bool continuous)
{
	FileIngest *ingest = palloc0(sizeof(FileIngest));
	Jsonb	   *options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));

	ingest->continuous = continuous;
	lh_file_options_parse(options, source->path, continuous, &ingest->options);
	ingest->filter = lh_file_filter_create(&ingest->options.selection);
	lh_clean_options_parse(options, &ingest->clean);
	ingest->reader = lh_reader_find(source->format);
	if (ingest->reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("format \"%s\" of source \"%s\" does not exist", source->format, source->name)));
	ingest->reader_options = lh_file_reader_options(options);
	lh_inflate_options_parse(options, &ingest->inflate);
	lh_reject_limit_parse(options, &ingest->limit);
	ingest->follower = source->follower;
	if (continuous && !ingest->follower && ingest->options.discovery != LH_DISCOVERY_LISTING)
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
		if (lh_file_watch_has_lost(ingest->watch))
			ingest->next_listing = Min(ingest->next_listing, ingest->earliest_listing);
		if (lh_file_watch_has_told(ingest->watch))
			ingest->next_look = Min(ingest->next_look, ingest->earliest_look);
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
	bool		ranges = true;	/* there may be some */

	batch.context = context;
	batch.files_left = ingest->options.batch_files > 0 ? ingest->options.batch_files : lh_batch_files;
	batch.rows_left = ingest->options.batch_rows > 0 ? ingest->options.batch_rows : lh_batch_rows;
	batch.bytes_left = ingest->options.batch_bytes > 0 ? ingest->options.batch_bytes : (int64) lh_batch_bytes * 1024;
	batch.loads_before = counts->loads;
	batch.root = lh_file_root_open(source->server);
	if (!lh_file_look(&batch))
		batch.files_left = 0;	/* what was found is for all: commit it first */
	if (ingest->continuous)
	{
		ingest->cursor.started = false;
		ingest->range_file = 0;
	}
	else
		batch.seen_before = ingest->listed_at;

	while (batch.files_left > 0 && batch.rows_left > 0 && batch.bytes_left > 0)
	{
		LhLedgerFile file;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(file_context);
		MemoryContextSwitchTo(file_context);
		ranges = ranges && lh_range_next(ingest, &file);
		found = ranges ||
			lh_ledger_next(source->source_id, &ingest->cursor,
						   Min(batch.seen_before, find_settled(ingest)),
						   ingest->continuous, &file);
		if (!found)
			break;
		take_file(&batch, &file);
	}
	MemoryContextSwitchTo(context);
	if (batch.writer != NULL)
		lh_writer_close(batch.writer);
	if (ingest->continuous && !found)
		plan_look(ingest);
	lh_discovery_store(source->source_id, &ingest->news);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	return found || batch.touched > 0;
}

/*
 * find_settled tells since when a file must have been seen to be loaded now.
 * What one listing found becomes ready at once, so that it is loaded in order.
 */
static TimestampTz
find_settled(const FileIngest *ingest)
{
	TimestampTz settled = GetCurrentTimestamp() - ingest->options.settle_us;

	if (settled >= ingest->listed_from && settled < ingest->listed_at)
		settled = ingest->listed_from - 1;
	return settled;
}

/*
 * plan_look says when a batch may find something, if nothing is told before.
 */
static void
plan_look(FileIngest *ingest)
{
	const LhSource *source = ingest->base.source;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = lh_ledger_next_due(source->source_id, ingest->options.settle_us);
	int64		poll_us = (int64) lh_poll_interval * 1000;

	/* as find_settled has it */
	if (due > ingest->listed_from + ingest->options.settle_us)
		due = Max(due, ingest->listed_at + ingest->options.settle_us);
	due = Max(due, now + (source->shared ? SHARED_PAUSE_US : LH_MIN_PAUSE_US));
	/* a follower may miss a call to look; and the directory may have gone */
	ingest->next_look = Min(due, now + (ingest->follower ? poll_us : Max(poll_us, IDLE_LOOK_US)));
	if (!ingest->follower)
		ingest->next_look = Min(ingest->next_look, ingest->next_listing);
}

/*
 * lh_file_root_open opens the directory of a server for the current user.
 */
LhDescriptor *
lh_file_root_open(Oid server)
{
	check_server_owner(server);
	return lh_root_open(lh_server_directory(server), GetForeignServer(server)->owner);
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
 * take_file brings one waiting file forward, or enters why that is not
 * possible.
 */
static void
take_file(FileBatch *batch, LhLedgerFile *file)
{
	FileIngest *ingest = batch->ingest;
	LhDescriptor *descriptor = lh_file_open(batch->root, file->path);
	ErrorData  *error = NULL;
	FileOutcome outcome = OUTCOME_CHANGED;
	bool		same;

	batch->touched++;
	if (descriptor == NULL)
	{
		outcome = OUTCOME_FAILED;
		error = set_aside_unopened(file, errno);
	}
	else
	{
		same = file->size == descriptor->status.st_size &&
			file->mtime_ns == lh_file_mtime_ns(&descriptor->status);
		batch->changed = NULL;
		/* a look at hand is as good as one that was listed, unless it must settle */
		if (same || (file->begun == 0 && ingest->options.settle_us == 0))
			outcome = lh_file_load(batch, file, descriptor, &error);
		if (outcome != OUTCOME_FAILED &&
			(batch->changed != NULL || (outcome == OUTCOME_CHANGED && file->begun > 0 && !file->continues)))
			lh_ledger_set_aside(file->file_id, "changed", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
								batch->changed ? batch->changed :
								psprintf("the file changed after " INT64_FORMAT " bytes of it were loaded", file->begun));
		else if (outcome == OUTCOME_CHANGED)
			put_off(file, descriptor);
		lh_descriptor_close(descriptor);
	}
	if (error != NULL && !enter_failure(batch, file, error))
	{
		ingest->range_file = 0;
		return;
	}
	if (outcome == OUTCOME_FAILED)
		batch->counts->failed_files++;
	/* what was set aside is to be looked up, should it come again */
	if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_FAILED)
		lh_file_forget_known(ingest);
	if (outcome == OUTCOME_PART || file->in_range)
		return;
	batch->files_left--;
	ingest->cursor.started = true;
	ingest->cursor.order_ns = file->order_ns;
	strlcpy(ingest->cursor_path, file->path, sizeof(ingest->cursor_path));
	ingest->cursor.path = ingest->cursor_path;
}

/*
 * enter_failure keeps why a file cannot be loaded, or stops the source if it is
 * to.  False if the batch ends before the file: what it loaded so far commits,
 * and the next one stops.
 */
static bool
enter_failure(FileBatch *batch, const LhLedgerFile *file, const ErrorData *error)
{
	const LhFileOptions *options = &batch->ingest->options;

	if (!options->stop_on_error)
	{
		lh_ledger_failed(file->file_id, file->attempts + 1, options->max_attempts, error->sqlerrcode,
						 error->hint ? psprintf("%s (%s)", error->message, error->hint) : error->message);
		return true;
	}
	if (batch->counts->loads > batch->loads_before)
	{
		batch->files_left = 0;
		return false;
	}
	ereport(ERROR,
			(errcode(error->sqlerrcode),
			 errmsg("file \"%s\" cannot be loaded: %s", file->path, error->message),
			 error->hint ? errhint("%s", error->hint)
			 : errhint("Mend the file, leave it out with lakehouse.skip_file, or set the option \"on_file_error\" to \"continue\".")));
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
 * set_aside_unopened tells why a file could not be opened.  What cannot become
 * better by waiting is skipped until it is another thing; then NULL is returned.
 */
static ErrorData *
set_aside_unopened(const LhLedgerFile *file, int error)
{
	ErrorData  *failure;
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
	if (reason != NULL && file->begun == 0)
	{
		lh_ledger_set_aside(file->file_id, "skipped", sqlstate, reason);
		return NULL;
	}
	failure = palloc0(sizeof(ErrorData));
	failure->sqlerrcode = error == EACCES || error == EPERM ? ERRCODE_INSUFFICIENT_PRIVILEGE :
		error == ENOENT ? ERRCODE_UNDEFINED_FILE : ERRCODE_IO_ERROR;
	failure->message = psprintf("could not open file: %s", strerror(error));
	return failure;
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

	lh_file_forget_known(ingest);
	memset(&ingest->news, 0, sizeof(ingest->news));
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
