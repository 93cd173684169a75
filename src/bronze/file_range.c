/*
 * file_range.c
 *	  Ranges of large files, which workers that share a source load side by side.
 *
 * Whoever claims a large file does not load its next part but looks for the end
 * of it, with the reader that would load it, enters that range in
 * lakehouse.file_range and moves the position of the file behind it.  That takes
 * a small part of the time of a load.  When it is committed, the range is loaded
 * by whoever claims it by the lock of its row, while others look for the end of
 * the next one.  The boundaries are those that one worker alone would come to,
 * whatever quotes and line ends the file has, because the same code walks over
 * every byte from the file's first one.
 *
 * Invariant: the bytes before the position of a file are each covered by one
 * load or by one range.  A load of a range takes the range away in the same
 * transaction.  The last one finds no other range under the lock of the file's
 * entry, which all of them take at their end, and makes the file loaded.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "bronze/file_range.h"
#include "catalog/catalog_access.h"
#include "fault.h"
#include "guc.h"

/* a range is not made smaller than this to give every worker something to do */
#define MIN_RANGE (INT64CONST(4) * 1024 * 1024)

/*
 * lh_range_size makes ranges smaller towards the end of a file, so that all
 * workers come to it at about the same time.  What may fail as a whole, or takes
 * other rows back, is one load; and what decides by its first records of which
 * types new columns are is loaded from the first on.
 */
int64
lh_range_size(const FileBatch *batch, const LhLedgerFile *file, int64 size)
{
	const FileIngest *ingest = batch->ingest;
	int64		most = (int64) lh_batch_bytes * 1024;
	int64		least = Min(MIN_RANGE, most);
	int64		left = size - file->position;
	int64		wanted;

	if (!ingest->base.source->shared || file->in_range || file->continues || file->replaces ||
		lh_reject_limit_is_set(&ingest->limit) || lh_file_schema_adds(batch->schema) || left <= 0)
		return 0;
	/* what was begun in ranges goes on so: nobody is to hold its entry for long */
	if (left <= 2 * least && file->position == 0)
		return 0;
	wanted = Max(least, Min(most, left / (2 * ingest->options.workers)));
	return left - wanted < least ? left : wanted;
}

void
lh_range_enter(const LhSource *source, const LhLedgerFile *file, const LhLedgerProgress *progress)
{
	static const Oid types[] = {INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID};
	Datum		values[6];
	char		nulls[7] = "      ";
	LhCatalog	catalog;

	values[0] = Int32GetDatum(source->source_id);
	values[1] = Int64GetDatum(file->file_id);
	values[2] = Int64GetDatum(file->position);
	values[3] = Int64GetDatum(progress->position);
	values[4] = Int64GetDatum(file->line);
	values[5] = progress->header ? CStringGetTextDatum(progress->header) : (Datum) 0;
	nulls[5] = progress->header ? ' ' : 'n';
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.file_range (source_id, file_id, first_position, last_position, line, header)"
				   " VALUES ($1, $2, $3, $4, $5, $6)", 6, types, values, nulls);
	lh_catalog_end(&catalog);
	LH_FAULT("range-entered");
	lh_ledger_progress(file->file_id, progress);
}

bool
lh_range_next(FileIngest *ingest, LhLedgerFile *file)
{
	static const Oid types[] = {INT4OID, BOOLOID, INT8OID, INT8OID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[4];
	LhCatalog	catalog;
	bool		found;

	values[0] = Int32GetDatum(ingest->base.source->source_id);
	values[1] = BoolGetDatum(ingest->continuous);
	values[2] = Int64GetDatum(ingest->range_file);
	values[3] = Int64GetDatum(ingest->range_position);
	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	found = lh_catalog_run("SELECT r.file_id, r.first_position, r.last_position, r.line, r.header,"
						   "   f.path, coalesce(f.seen_size, f.size), coalesce(f.seen_mtime_ns, f.mtime_ns), f.attempts,"
						   "   (f.seen_size IS NOT NULL)::pg_catalog.int4, f.hash, f.\"position\""
						   " FROM lakehouse.file_range r"
						   " JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) r.file_id"
						   " WHERE r.source_id OPERATOR(pg_catalog.=) $1"
						   "   AND (r.file_id, r.first_position) OPERATOR(pg_catalog.>) ($3, $4)"
						   "   AND f.state IN ('loading', 'failed') AND f.ended IS NULL"
						   "   AND (f.retry_at IS NULL OR CASE WHEN $2 THEN f.retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
						   "        ELSE f.retry_at OPERATOR(pg_catalog.<) 'infinity' END)"
						   " ORDER BY r.file_id, r.first_position LIMIT 1 FOR UPDATE OF r SKIP LOCKED",
						   4, types, values, NULL) > 0;
	if (found)
	{
		memset(file, 0, sizeof(*file));
		file->in_range = true;
		file->file_id = ingest->range_file = lh_catalog_int64(0, 1, 0);
		file->position = ingest->range_position = lh_catalog_int64(0, 2, 0);
		file->end = lh_catalog_int64(0, 3, 0);
		file->line = lh_catalog_int64(0, 4, 0);
		file->header = lh_catalog_text(0, 5, context);
		file->path = lh_catalog_text(0, 6, context);
		file->size = lh_catalog_int64(0, 7, 0);
		file->mtime_ns = lh_catalog_int64(0, 8, 0);
		file->attempts = (int32) lh_catalog_int64(0, 9, 0);
		file->continues = lh_catalog_int64(0, 10, 0) != 0;
		file->hash = lh_catalog_int64(0, 11, 0);
		file->begun = lh_catalog_int64(0, 12, 0);
	}
	lh_catalog_end(&catalog);
	return found;
}

/*
 * lh_range_done waits for those who look for the end of a range of the file, or
 * end one themselves.  An entry that was set aside meanwhile stays so.
 */
bool
lh_range_done(const FileBatch *batch, const LhLedgerFile *file, const LhWriteCounts *written)
{
	static const Oid types[] = {INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID};
	Datum		values[6];
	LhCatalog	catalog;
	bool		loaded;

	values[0] = Int32GetDatum(batch->ingest->base.source->source_id);
	values[1] = Int64GetDatum(file->file_id);
	values[2] = Int64GetDatum(file->position);
	values[3] = Int64GetDatum(written->rows);
	values[4] = Int64GetDatum(written->rejected);
	values[5] = BoolGetDatum(batch->ingest->options.on_change == LH_CHANGE_TAIL);
	LH_FAULT("range-loaded");
	lh_catalog_begin(&catalog);
	lh_catalog_run("DELETE FROM lakehouse.file_range WHERE source_id OPERATOR(pg_catalog.=) $1"
				   " AND file_id OPERATOR(pg_catalog.=) $2 AND first_position OPERATOR(pg_catalog.=) $3",
				   3, types, values, NULL);
	lh_catalog_run("SELECT 1 FROM lakehouse.file WHERE file_id OPERATOR(pg_catalog.=) $2"
				   " AND source_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 2, types, values, NULL);
	/* a statement of its own: it sees what those have committed for whom the last
	 * one waited */
	lh_catalog_run("UPDATE lakehouse.file f SET rows = f.rows OPERATOR(pg_catalog.+) $4,"
				   "  rejected = f.rejected OPERATOR(pg_catalog.+) $5, attempts = 0, retry_at = NULL,"
				   "  sqlstate = CASE WHEN d.open THEN NULL ELSE f.sqlstate END,"
				   "  error = CASE WHEN d.open THEN NULL ELSE f.error END,"
				   "  state = CASE WHEN d.last THEN 'loaded' WHEN d.open THEN 'loading' ELSE f.state END,"
				   "  loaded = CASE WHEN d.last THEN pg_catalog.clock_timestamp() END,"
				   "  header = CASE WHEN d.last AND NOT $6 THEN NULL ELSE f.header END"
				   " FROM (SELECT w.file_id, w.state IN ('loading', 'failed') AS open,"
				   "         w.state IN ('loading', 'failed') AND w.seen_size IS NULL"
				   "         AND w.\"position\" OPERATOR(pg_catalog.>=) w.size AND NOT EXISTS (SELECT FROM lakehouse.file_range r"
				   "           WHERE r.source_id OPERATOR(pg_catalog.=) $1 AND r.file_id OPERATOR(pg_catalog.=) w.file_id) AS last"
				   "       FROM lakehouse.file w WHERE w.file_id OPERATOR(pg_catalog.=) $2) d"
				   " WHERE f.file_id OPERATOR(pg_catalog.=) d.file_id RETURNING d.last::pg_catalog.int4",
				   6, types, values, NULL);
	loaded = lh_catalog_int64(0, 1, 0) != 0;
	lh_catalog_end(&catalog);
	LH_FAULT("range-done");
	return loaded;
}

void
lh_range_forget(int32 source_id, const char *path, int64 keep)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8OID};
	Datum		values[3] = {Int32GetDatum(source_id), CStringGetTextDatum(path), Int64GetDatum(keep)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("DELETE FROM lakehouse.file_range r USING lakehouse.file f"
				   " WHERE f.source_id OPERATOR(pg_catalog.=) $1 AND f.path OPERATOR(pg_catalog.=) $2"
				   "   AND f.file_id OPERATOR(pg_catalog.<>) $3"
				   "   AND r.source_id OPERATOR(pg_catalog.=) $1 AND r.file_id OPERATOR(pg_catalog.=) f.file_id",
				   3, types, values, NULL);
	lh_catalog_end(&catalog);
}
