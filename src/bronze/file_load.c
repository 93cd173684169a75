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

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/evolve.h"
#include "bronze/file_change.h"
#include "bronze/file_content.h"
#include "bronze/file_hash.h"
#include "bronze/file_ingest_internal.h"
#include "bronze/file_range.h"
#include "bronze/progress.h"
#include "bronze/widen.h"
#include "catalog/subtransaction.h"
#include "delta/load.h"
#include "fault.h"

/* contents that a batch locks at most, beside others: locks are few */
#define MAX_CONTENTS 100

/* a content that is busy is read again after so many times its reading took */
#define BUSY_SHARE 10
#define BUSY_PAUSE_US 100000

static FileOutcome load_part(FileBatch *batch, const LhLedgerFile *file,
						 LhDescriptor *descriptor, ErrorData **error);
static bool add_columns(FileBatch *batch, const LhLedgerFile *file, ErrorData **error);
static FileOutcome read_part(FileBatch *batch, const LhLedgerFile *file,
						 LhDescriptor *descriptor, volatile bool *reading);

/* A part of a file that is being read. */
typedef struct Part
{
	const LhLedgerFile *file;
	LhDescriptor *descriptor;
	LhReaderInput input;
	LhReader   *reader;
	LhFileHash	hash;			/* of what is begun with it, unless it is a range */
	LhLedgerProgress progress;
} Part;

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
	lh_file_schema_pin(batch->schema, source);
	if (!batch->ingest->limit.failfast && batch->ingest->limit.use == LH_REJECT_OPEN)
		lh_file_schema_keep_corrupt(batch->schema);
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
	LhSubtransaction sub;
	volatile bool reading = false;
	volatile FileOutcome outcome = OUTCOME_FAILED;

	if (batch->writer == NULL)
	{
		MemoryContextSwitchTo(batch->context);
		open_writer(batch);
		MemoryContextSwitchTo(context);
	}
	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		outcome = read_part(batch, file, descriptor, &reading);
		lh_progress_end();
		if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_NEW_COLUMNS)
		{
			lh_subtransaction_abort(&sub);
			lh_writer_abort_load(batch->writer);
		}
		else
			lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		lh_progress_end();
		*error = lh_subtransaction_caught(&sub);
		if (!reading || stops_the_source((*error)->sqlerrcode))
			ReThrowError(*error);
		lh_writer_abort_load(batch->writer);
		outcome = OUTCOME_FAILED;
	}
	PG_END_TRY();
	return outcome;
}

/*
 * add_columns gives the target the columns that a part had beyond those it has, and
 * wider types where values need them; false with *error if that is not possible.
 */
static bool
add_columns(FileBatch *batch, const LhLedgerFile *file, ErrorData **error)
{
	LhSubtransaction sub;
	List	   *columns = lh_file_schema_new_columns(batch->schema);
	List	   *widenings = lh_file_schema_widenings(batch->schema);
	volatile bool done = false;

	/* ALTER TABLE refuses a table that its own session has open */
	lh_writer_close(batch->writer);
	batch->writer = NULL;
	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		if (columns != NIL)
			lh_evolve_add_columns(batch->ingest->base.source, file->file_id, columns);
		lh_widen_columns(batch->ingest->base.source, file->file_id, widenings);
		lh_subtransaction_commit(&sub);
		done = true;
	}
	PG_CATCH();
	{
		*error = lh_subtransaction_caught(&sub);
		if (stops_the_source((*error)->sqlerrcode))
			ReThrowError(*error);
	}
	PG_END_TRY();
	return done;
}

/*
 * check_rejects raises if the file has more rejects than it may have; with the
 * wider types that it needs it may have fewer.
 */
static void
check_rejects(const FileBatch *batch, bool at_end)
{
	if (!lh_file_schema_widens(batch->schema))
		lh_reject_limit_check(&batch->ingest->limit, batch->path, batch->writer, &batch->loaded, at_end);
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
		check_rejects(batch, false);
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

	if (lh_file_hash(descriptor->fd, file->path, 0, file->begun, &blocks) != file->hash)
		return psprintf("the file was written anew: its first " INT64_FORMAT " bytes are not those that were loaded",
						file->begun);
	if (!batch->ingest->reader->raw)
		inflate = lh_inflate_open(descriptor->fd, file->path, descriptor->status.st_size,
								  &batch->ingest->inflate);
	if (inflate != NULL)
	{
		lh_inflate_close(inflate);
		return "the file became longer, but it is compressed and cannot be continued";
	}
	if (batch->ingest->reader->raw && descriptor->status.st_size > file->begun)
		return "the file became longer, but it is one record as a whole and cannot be continued";
	if (descriptor->status.st_size > file->begun && file->begun > 0 &&
		pread(descriptor->fd, &last, 1, file->begun - 1) == 1 && last != '\n' && last != '\r')
		return psprintf("the file became longer, but its first " INT64_FORMAT " bytes, which are loaded, did not end with a line",
						file->begun);
	return NULL;
}

static const char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && lh_file_mtime_ns(a) == lh_file_mtime_ns(b);
}

/*
 * open_part opens the reader, perhaps for no more than "bounds" of records;
 * false, with the reason in batch->changed, if the file is not what was begun.
 */
static bool
open_part(FileBatch *batch, const LhLedgerFile *file, LhDescriptor *descriptor, bool bounds, Part *part)
{
	const LhReaderRoutine *routine = batch->ingest->reader;

	memset(part, 0, sizeof(*part));
	part->file = file;
	part->descriptor = descriptor;
	part->input = (LhReaderInput) {.fd = descriptor->fd, .name = file->path,
		.size = descriptor->status.st_size, .position = file->position, .line = file->line,
		.header = file->header, .tupdesc = lh_writer_tupdesc(batch->writer), .bounds = bounds,
	.fillable = batch->fillable, .options = batch->ingest->reader_options};
	part->progress = (LhLedgerProgress) {.size = part->input.size,
		.mtime_ns = lh_file_mtime_ns(&descriptor->status),
	.position = file->position, .line = file->line, .hash_blocks = file->hash_blocks};

	if (file->continues && (batch->changed = changed_prefix(batch, file, descriptor)) != NULL)
		return false;
	if (file->in_range && file->end < part->input.size)
		part->input.end = file->end;
	/* a file that was begun as it is goes on so */
	if (!routine->raw && file->begun == 0)
		part->input.inflate = lh_inflate_open(part->input.fd, file->path, part->input.size,
											  &batch->ingest->inflate);
	lh_file_hash_begin(&part->hash, part->input.fd, file->path, Min(file->position, part->input.size),
					   file->hash_blocks);
	if (!file->in_range && part->input.inflate == NULL)
		part->input.tap = &part->hash.tap;
	part->input.sink = lh_file_schema_begin(batch->schema, file->path);
	part->reader = routine->open(&part->input);
	return true;
}

static void
close_part(FileBatch *batch, Part *part)
{
	batch->ingest->reader->close(part->reader);
	if (part->input.inflate != NULL)
		lh_inflate_close(part->input.inflate);
}

/*
 * is_unchanged closes the reader; false if the file is not the one that was
 * opened any more.  The hash of what was begun goes on to the new position.
 */
static bool
is_unchanged(FileBatch *batch, Part *part, bool hash)
{
	int64		size = part->input.size;
	struct stat after;

	if (hash)
		part->progress.hash = lh_file_hash_end(&part->hash, Min(part->progress.position, size),
											   &part->progress.hash_blocks);
	close_part(batch, part);
	LH_FAULT("fstat");
	return fstat(part->input.fd, &after) == 0 && same_file(&part->descriptor->status, &after);
}

/*
 * enter_range looks for the end of the next range of a large file and enters it,
 * for whoever is free to load.
 */
static FileOutcome
enter_range(FileBatch *batch, Part *part, int64 wanted)
{
	const LhReaderRoutine *routine = batch->ingest->reader;
	LhLedgerProgress *progress = &part->progress;
	int64		records_left = batch->rows_left;
	LhRecords	records;
	bool		at_end;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		at_end = !routine->next(part->reader, &records);
		routine->tell(part->reader, &progress->position, &progress->line);
		if (at_end)
			break;
		records_left -= records.count;
		if (records_left <= 0 || progress->position - part->file->position >= wanted)
			break;
	}
	if (at_end)
		progress->position = part->input.size;
	progress->state = "loading";
	progress->header = copy_text(routine->header(part->reader));
	if (!is_unchanged(batch, part, true))
		return OUTCOME_CHANGED;
	lh_range_enter(batch->ingest->base.source, part->file, progress);

	/* commit it, and wake the others */
	batch->files_left = 0;
	batch->counts->discovered++;
	return OUTCOME_PART;
}

/*
 * check_end raises if a range did not end where it was to: then the records are
 * not those of whom entered it, and the ranges behind may hold some of them, too.
 */
static void
check_end(const Part *part)
{
	if (part->file->in_range && part->progress.position != part->file->end)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("bytes " INT64_FORMAT " to " INT64_FORMAT " of file \"%s\" do not end with a record any more",
						part->file->position, part->file->end, part->file->path),
				 errdetail("The options of the source or the setting \"lakehouse.max_record_size\" are not those with which the file was begun."),
				 errhint("Use lakehouse.reingest_file to load the file again in place of its rows.")));
}

/*
 * enter_load writes what becomes of a part when its rows are stored: its load,
 * and the ledger; true if the file is loaded.
 */
static bool
enter_load(FileBatch *batch, Part *part, LhLoad *load, const LhWriteCounts *written, bool at_end)
{
	const LhLedgerFile *file = part->file;
	LhLedgerProgress *progress = &part->progress;

	progress->state = at_end ? "loaded" : "loading";
	progress->rows = load->rows = written->rows;
	progress->rejected = load->rejected = written->rejected;
	load->rescued = written->rescued;
	load->last_position = progress->position;
	load->bytes = progress->position - file->position;
	lh_load_record(load);
	lh_file_schema_end_load(batch->schema, load->load_id);
	if (file->in_range)
	{
		at_end = lh_range_done(batch, file, written);
		/* until the commit nobody else can end a range of the file */
		batch->files_left = 0;
		batch->counts->discovered++;
	}
	else
		lh_ledger_progress(file->file_id, progress);
	if (at_end)
		lh_clean_enter(batch->ingest->base.source->source_id, file->file_id, &batch->ingest->clean);

	batch->counts->loads++;
	batch->counts->files += at_end;
	batch->counts->rows += written->rows;
	batch->counts->rejected += written->rejected;
	batch->counts->bytes += load->bytes;
	batch->rows_left -= written->rows + written->rejected;
	batch->bytes_left -= load->bytes;
	return at_end;
}

/*
 * load_records stores the records of a part, and enters that.
 */
static FileOutcome
load_records(FileBatch *batch, Part *part, volatile bool *reading)
{
	const LhReaderRoutine *routine = batch->ingest->reader;
	const LhSource *source = batch->ingest->base.source;
	const LhLedgerFile *file = part->file;
	LhFileFacts facts = {.path = file->path, .size = part->input.size,
	.mtime_ns = part->progress.mtime_ns, .source = source->name};
	LhLoad		load = {.load_id = lh_load_reserve(), .relation = source->target, .kind = LH_LOAD_FILE,
		.source_id = source->source_id, .file_id = file->file_id,
	.first_position = file->position, .started = GetCurrentTimestamp()};
	LhWriteCounts written;
	bool		at_end;

	lh_writer_set_may_raise(batch->writer, routine->may_raise(part->reader) ||
							lh_file_schema_rescues(batch->schema));
	lh_file_metadata_begin(batch->metadata, &facts);
	batch->inflate = part->input.inflate;
	show_progress(&load, source, file->in_range ? file->end : part->input.size);
	lh_writer_set_reject_use(batch->writer, batch->ingest->limit.use);
	lh_file_schema_begin_load(batch->schema, batch->writer);
	lh_writer_begin_load(batch->writer, load.load_id, file->file_id);
	batch->path = file->path;
	lh_ledger_counts(file, &batch->loaded.rows, &batch->loaded.rejected);
	/* what replaces rows does it at once */
	at_end = copy_records(batch, part->reader, part->input.size,
						  part->input.inflate != NULL || file->replaces || file->in_range ||
						  lh_reject_limit_is_set(&batch->ingest->limit),
						  &part->progress, reading);
	check_rejects(batch, at_end);
	if (at_end && part->input.end == 0)
		part->progress.position = part->input.size;
	check_end(part);
	if (lh_file_schema_grows(batch->schema))
	{
		routine->close(part->reader);
		return OUTCOME_NEW_COLUMNS;
	}
	*reading = false;
	written = lh_writer_end_load(batch->writer);

	/* a file that may be continued needs it then */
	if (!at_end || batch->ingest->options.on_change == LH_CHANGE_TAIL)
		part->progress.header = copy_text(routine->header(part->reader));
	/* a replay of the rejects must know what their fields are */
	if (written.rejected > 0 && !routine->header_is_state)
		load.header = copy_text(routine->header(part->reader));
	*reading = true;
	if (!is_unchanged(batch, part, !file->in_range))
		return OUTCOME_CHANGED;
	*reading = false;
	return enter_load(batch, part, &load, &written, at_end) ? OUTCOME_DONE : OUTCOME_PART;
}

/*
 * is_new_content tells whether a file of which nothing is loaded has a content
 * that is to be loaded from it; otherwise that is entered.
 */
static bool
is_new_content(FileBatch *batch, const LhLedgerFile *file, const LhDescriptor *descriptor, LhContent *content)
{
	const LhSource *source = batch->ingest->base.source;
	TimestampTz started = GetCurrentTimestamp();
	int64		size = descriptor->status.st_size;
	int64		owner;

	switch (lh_content_judge(source->source_id, source->shared, file, descriptor->fd, size, content, &owner))
	{
		case LH_CONTENT_NEW:
			if (source->shared && ++batch->contents >= MAX_CONTENTS)
				batch->files_left = 0;
			return true;
		case LH_CONTENT_DUPLICATE:
			if (file->replaces)
				(void) lh_file_take_back(source->source_id, file->path, file->file_id);
			lh_content_set_duplicate(file->file_id, owner, size, lh_file_mtime_ns(&descriptor->status));
			return false;
		case LH_CONTENT_BUSY:
			lh_content_wait(file->file_id, Max(BUSY_PAUSE_US, (GetCurrentTimestamp() - started) * BUSY_SHARE));
			return false;
	}
	pg_unreachable();
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
	/* there is nothing of an empty one that could be there twice */
	bool		by_content = batch->ingest->options.by_content && file->begun == 0 && !file->in_range &&
		descriptor->status.st_size > 0;
	LhContent	content;
	int64		wanted = 0;
	Part		part;

	*reading = true;
	if (by_content && !is_new_content(batch, file, descriptor, &content))
		return OUTCOME_ASIDE;
	if (routine->splits != NULL)
		wanted = lh_range_size(batch, file, descriptor->status.st_size);
	if (!open_part(batch, file, descriptor, wanted > 0, &part))
		return OUTCOME_CHANGED;
	/* a header may tell enough for a refusal */
	(void) lh_file_schema_grows(batch->schema);
	if (by_content && !file->replaces)
		lh_content_claim(file, &content);
	if (wanted > 0 && part.input.inflate == NULL && routine->splits(part.reader))
		return enter_range(batch, &part, wanted);
	if (wanted > 0)
	{
		close_part(batch, &part);
		if (!open_part(batch, file, descriptor, false, &part))
			return OUTCOME_CHANGED;
	}
	if (file->replaces)
	{
		(void) lh_file_take_back(batch->ingest->base.source->source_id, file->path, file->file_id);
		if (by_content)
			lh_content_claim(file, &content);
	}
	return load_records(batch, &part, reading);
}
