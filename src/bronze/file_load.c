/*
 * file_load.c
 *	  One file, or a part of it, into the bronze table.
 *
 * Invariant: the rows of a part, its load, its rejects and the file's entry in
 * the ledger are written by one subtransaction of the caller's transaction.  If
 * the file cannot be read to the end of the part, or is not the same file
 * afterwards as before, that subtransaction is rolled back.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "bronze/evolve.h"
#include "bronze/file_change.h"
#include "bronze/file_hash.h"
#include "bronze/file_ingest_internal.h"
#include "bronze/progress.h"
#include "delta/load.h"
#include "fault.h"

static FileOutcome load_part(FileBatch *batch, const LhLedgerFile *file,
						 LhDescriptor *descriptor, ErrorData **error);
static bool add_columns(FileBatch *batch, const LhLedgerFile *file, ErrorData **error);
static FileOutcome read_part(FileBatch *batch, const LhLedgerFile *file,
						 LhDescriptor *descriptor, volatile bool *reading);

/*
 * lh_file_load loads a part; when that shows new columns it begins again with
 * them in the table.
 */
FileOutcome
lh_file_load(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor, ErrorData **error)
{
	FileOutcome		outcome = load_part(batch, file, descriptor, error);

	while (outcome == OUTCOME_NEW_COLUMNS)
		outcome = add_columns(batch, file, error) ?
			load_part(batch, file, descriptor, error) : OUTCOME_FAILED;
	return outcome;
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
static FileOutcome
load_part(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool reading = false;
	volatile FileOutcome outcome = OUTCOME_FAILED;

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
		lh_progress_set(batch->inflate ? lh_inflate_consumed(batch->inflate) : progress->position,
						written.rows, written.rejected);
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

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && lh_file_mtime_ns(a) == lh_file_mtime_ns(b);
}

/*
 * read_part loads one part: rows, load and ledger.  Raises what the reader or
 * the writer raises; *reading tells which of them it was.
 */
static FileOutcome
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
	batch->inflate = input.inflate;
	show_progress(&load, source, input.size);
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
