/*
 * clean_journal.c
 *	  What is to become of files after their load: table lakehouse.file_clean.
 *
 * A file enters with the transaction that loads its end: waiting -> acting ->
 * moved, deleted, or left.
 *
 * Invariant: an entry whose file is acted upon is locked, and so is the entry of
 * the file in the ledger.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/clean_internal.h"
#include "bronze/file_ledger.h"
#include "catalog/catalog_access.h"

static void
begin(LhCatalog *catalog)
{
	lh_catalog_begin(catalog);
	lh_catalog_by_index();
}

/*
 * read_files copies the files of the last result into the current context.
 */
static void
read_files(LhCleanBatch *batch, uint64 count, MemoryContext context)
{
	batch->count = (int) count;
	for (uint64 row = 0; row < count; row++)
	{
		LhCleanFile *file = &batch->files[row];

		file->file_id = lh_catalog_int64(row, 1, 0);
		file->path = lh_catalog_text(row, 2, context);
		file->size = lh_catalog_int64(row, 3, 0);
		file->mtime_ns = lh_catalog_int64(row, 4, 0);
		file->hash = lh_catalog_int64(row, 5, 0);
		file->mode = lh_catalog_text(row, 6, context);
		file->acting = lh_catalog_int64(row, 7, 0) != 0;
		file->target = lh_catalog_text(row, 8, context);
		file->attempts = (int32) lh_catalog_int64(row, 9, 0);
		file->objection = lh_catalog_text(row, 10, context);
	}
}

#define FILE_COLUMNS \
	" c.file_id, f.path, f.size, f.mtime_ns, f.hash, c.mode," \
	" (c.state OPERATOR(pg_catalog.=) 'acting')::pg_catalog.int4, c.target, c.attempts," \
	" CASE WHEN f.ended IS NOT NULL OR f.seen_size IS NOT NULL THEN 'the source saw another version of the file'" \
	"      WHEN f.state OPERATOR(pg_catalog.<>) 'loaded' THEN pg_catalog.concat('the file is ', f.state)" \
	" END"

/*
 * lh_clean_read_due reads files that were due before a time, and locks them.
 */
void
lh_clean_read_due(int32 source_id, TimestampTz due_before, LhCleanBatch *batch)
{
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID, INT4OID};
	Datum		values[3] = {Int32GetDatum(source_id), TimestampTzGetDatum(due_before), Int32GetDatum(LH_CLEAN_PASS_FILES)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	begin(&catalog);
	read_files(batch, lh_catalog_run("SELECT" FILE_COLUMNS
									 " FROM lakehouse.file_clean c JOIN lakehouse.file f"
									 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
									 " WHERE c.source_id OPERATOR(pg_catalog.=) $1 AND c.due OPERATOR(pg_catalog.<=) $2"
									 " ORDER BY c.due LIMIT $3 FOR UPDATE OF c, f SKIP LOCKED",
									 3, types, values, NULL), context);
	lh_catalog_end(&catalog);
}

/*
 * lh_clean_read_intended reads files with an intent once more, and locks them.
 */
void
lh_clean_read_intended(ArrayType *ids, LhCleanBatch *batch)
{
	static const Oid types[] = {INT8ARRAYOID};
	Datum		value = PointerGetDatum(ids);
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	begin(&catalog);
	read_files(batch, lh_catalog_run("SELECT" FILE_COLUMNS
									 " FROM lakehouse.file_clean c JOIN lakehouse.file f"
									 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
									 " WHERE c.file_id OPERATOR(pg_catalog.=) ANY ($1)"
									 "   AND c.state OPERATOR(pg_catalog.=) 'acting'"
									 " FOR UPDATE OF c, f SKIP LOCKED",
									 1, types, &value, NULL), context);
	lh_catalog_end(&catalog);
}

/*
 * lh_clean_read_acting reads what of a source was begun and not finished.
 */
void
lh_clean_read_acting(int32 source_id, LhCleanBatch *batch)
{
	static const Oid types[] = {INT4OID, INT4OID};
	Datum		values[2] = {Int32GetDatum(source_id), Int32GetDatum(LH_CLEAN_PASS_FILES)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	read_files(batch, lh_catalog_run("SELECT" FILE_COLUMNS
									 " FROM lakehouse.file_clean c JOIN lakehouse.file f"
									 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
									 " WHERE c.source_id OPERATOR(pg_catalog.=) $1 AND c.due IS NOT NULL"
									 "   AND c.state OPERATOR(pg_catalog.=) 'acting'"
									 " LIMIT $2 FOR UPDATE OF c",
									 2, types, values, NULL), context);
	lh_catalog_end(&catalog);
}

void
lh_clean_write_intent(const LhCleanFile *file)
{
	static const Oid types[] = {INT8OID, TEXTOID};
	Datum		values[2] = {Int64GetDatum(file->file_id), file->target ? CStringGetTextDatum(file->target) : (Datum) 0};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET state = 'acting', target = $2"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 2, types, values, file->target ? "  " : " n");
	lh_catalog_end(&catalog);
}

/*
 * lh_clean_write_end enters that nothing more will happen to a file.
 */
void
lh_clean_write_end(const LhCleanFile *file, const char *state, int sqlstate, const char *reason)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[4] = {Int64GetDatum(file->file_id), CStringGetTextDatum(state),
		reason ? CStringGetTextDatum(unpack_sql_state(sqlstate)) : (Datum) 0,
	reason ? CStringGetTextDatum(reason) : (Datum) 0};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET state = $2, sqlstate = $3, error = $4,"
				   "  target = CASE $2 WHEN 'moved' THEN target END,"
				   "  finished = pg_catalog.clock_timestamp(), due = NULL, attempts = 0"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 4, types, values, reason ? "    " : "  nn");
	lh_catalog_end(&catalog);
}

/*
 * lh_clean_write_put_off enters why a file is not cleaned up yet, and when to try again.
 * If its name at the target is taken, another one is to be chosen.
 */
void
lh_clean_write_put_off(const LhCleanFile *file, int sqlstate, const char *reason)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BOOLOID};
	Datum		values[5] = {Int64GetDatum(file->file_id), CStringGetTextDatum(unpack_sql_state(sqlstate)),
		CStringGetTextDatum(reason),
		TimestampTzGetDatum(GetCurrentTimestamp() + lh_backoff_us(file->attempts + 1)),
	BoolGetDatum(sqlstate == ERRCODE_DUPLICATE_FILE)};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET sqlstate = $2, error = $3, due = $4,"
				   "  attempts = attempts OPERATOR(pg_catalog.+) 1, state = CASE WHEN $5 THEN 'waiting' ELSE state END"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 5, types, values, NULL);
	lh_catalog_end(&catalog);
}

void
lh_clean_enter(int32 source_id, int64 file_id, const LhCleanOptions *options)
{
	static const Oid types[] = {INT4OID, INT8OID, TEXTOID, INTERVALOID};
	Datum		values[4] = {Int32GetDatum(source_id), Int64GetDatum(file_id), (Datum) 0,
	IntervalPGetDatum(options->retention)};
	LhCatalog	catalog;

	if (options->mode == LH_CLEAN_OFF)
		return;
	values[2] = CStringGetTextDatum(lh_clean_mode_name(options->mode));
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.file_clean (file_id, source_id, mode, due)"
				   " VALUES ($2, $1, $3, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $4)"
				   " ON CONFLICT DO NOTHING",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_clean_redefine: what waits follows the new options, but never more harshly
 * than when it was loaded, unless they are to apply to the past.
 */
void
lh_clean_redefine(int32 source_id, Jsonb *options)
{
	static const Oid types[] = {INT4OID, TEXTOID, INTERVALOID, BOOLOID};
	LhCleanOptions clean;
	Datum		values[4];
	LhCatalog	catalog;

	lh_clean_options_parse(options, &clean);
	values[0] = Int32GetDatum(source_id);
	lh_catalog_begin(&catalog);
	if (clean.mode == LH_CLEAN_OFF)
		lh_catalog_run("DELETE FROM lakehouse.file_clean"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'waiting'",
					   1, types, values, NULL);
	else
	{
		values[1] = CStringGetTextDatum(lh_clean_mode_name(clean.mode));
		values[2] = IntervalPGetDatum(clean.retention);
		values[3] = BoolGetDatum(clean.apply_to_past);
		lh_catalog_run("UPDATE lakehouse.file_clean c SET attempts = 0, sqlstate = NULL, error = NULL,"
					   "  mode = CASE WHEN $4 OR $2 OPERATOR(pg_catalog.=) 'move' THEN $2 ELSE c.mode END,"
					   "  due = f.loaded OPERATOR(pg_catalog.+) $3"
					   " FROM lakehouse.file f"
					   " WHERE c.source_id OPERATOR(pg_catalog.=) $1 AND c.state OPERATOR(pg_catalog.=) 'waiting'"
					   "   AND f.file_id OPERATOR(pg_catalog.=) c.file_id",
					   4, types, values, NULL);
		lh_catalog_run("INSERT INTO lakehouse.file_clean (file_id, source_id, mode, due)"
					   " SELECT file_id, source_id, $2, loaded OPERATOR(pg_catalog.+) $3 FROM lakehouse.file"
					   " WHERE $4 AND source_id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'loaded'"
					   "   AND ended IS NULL AND loaded IS NOT NULL"
					   " ON CONFLICT DO NOTHING",
					   4, types, values, NULL);
	}
	lh_catalog_end(&catalog);
}

void
lh_clean_hurry(int32 source_id)
{
	lh_catalog_run_for(source_id,
					   "UPDATE lakehouse.file_clean SET due = pg_catalog.clock_timestamp()"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND due IS NOT NULL"
					   "   AND attempts OPERATOR(pg_catalog.>) 0");
}

List *
lh_clean_due(Oid owner)
{
	static const Oid types[] = {TEXTOID, OIDOID};
	Datum		values[2] = {CStringGetTextDatum(lh_catalog_home()), ObjectIdGetDatum(owner)};
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	LhCatalog	catalog;
	uint64		count;

	begin(&catalog);
	count = lh_catalog_run("SELECT s.source_id, s.owner FROM lakehouse.source s"
						   " LEFT JOIN lakehouse.source_state t ON t.source_id OPERATOR(pg_catalog.=) s.source_id"
						   " WHERE s.kind OPERATOR(pg_catalog.=) 'files' AND s.paused IS NULL"
						   "   AND s.home OPERATOR(pg_catalog.=) $1"
						   "   AND ($2 OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.owner OPERATOR(pg_catalog.=) $2)"
						   "   AND (t.clean_retry_at IS NULL OR t.clean_retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
						   "   AND EXISTS (SELECT FROM lakehouse.file_clean c"
						   "     WHERE c.source_id OPERATOR(pg_catalog.=) s.source_id"
						   "       AND c.due OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
						   " ORDER BY s.source_id",
						   2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		if (OidIsValid(owner))
			result = lappend_int(result, (int) lh_catalog_int64(row, 1, 0));
		else
			result = list_append_unique_oid(result, lh_catalog_oid(row, 2));
		MemoryContextSwitchTo(spi);
	}
	lh_catalog_end(&catalog);
	return result;
}

void
lh_clean_failed(int32 source_id, int sqlstate, const char *message)
{
	static const Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[4] = {Int32GetDatum(source_id), CStringGetTextDatum(unpack_sql_state(sqlstate)),
	CStringGetTextDatum(message), (Datum) 0};
	LhCatalog	catalog;
	int32		failures = 1;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT clean_failures OPERATOR(pg_catalog.+) 1 FROM lakehouse.source_state"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 1, types, values, NULL) > 0)
		failures = (int32) lh_catalog_int64(0, 1, 1);
	values[3] = Int64GetDatum(lh_backoff_us(failures) / 1000);
	lh_catalog_run("INSERT INTO lakehouse.source_state AS s (source_id, clean_failures, clean_sqlstate, clean_error, clean_retry_at)"
				   " SELECT source_id, 1, $2, $3, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
				   "   pg_catalog.make_interval(secs => $4 OPERATOR(pg_catalog./) 1000.0::pg_catalog.float8)"
				   " FROM lakehouse.source WHERE source_id OPERATOR(pg_catalog.=) $1"
				   " ON CONFLICT (source_id) DO UPDATE SET clean_failures = s.clean_failures OPERATOR(pg_catalog.+) 1,"
				   "   clean_sqlstate = excluded.clean_sqlstate, clean_error = excluded.clean_error,"
				   "   clean_retry_at = excluded.clean_retry_at",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

void
lh_clean_succeeded(int32 source_id)
{
	lh_catalog_run_for(source_id,
					   "UPDATE lakehouse.source_state SET clean_failures = 0, clean_sqlstate = NULL, clean_error = NULL,"
					   "   clean_retry_at = NULL"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND clean_failures OPERATOR(pg_catalog.>) 0");
}
