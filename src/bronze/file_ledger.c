/*
 * file_ledger.c
 *	  What is known of each file of a source: table lakehouse.file.
 *
 * States and what follows: discovered (waits) -> loading (a part is loaded) ->
 * loaded; discovered or loading -> failed (cannot be read; tried again) ->
 * loading, loaded; skipped (no regular file, or gone) -> discovered when it
 * becomes one; loading or loaded -> changed (the file is another one now than
 * what was loaded: nothing is loaded from it until a person decides).
 *
 * Invariant: a path has one entry; size and mtime_ns of an entry that is
 * loading or loaded are those of the content that was loaded.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "bronze/file_ledger.h"
#include "catalog/catalog_access.h"
#include "fault.h"

/* longest wait between two attempts, in seconds */
#define MAX_BACKOFF 600

static Datum make_bigints(const int64 *values, int count);
static Datum make_texts(char *const *values, int count);
static uint64 find_different(int32 source_id, const LhListed *listed, char *const *paths, int count);
static int64 enter_new(int32 source_id, const LhListed *listed, char *const *paths,
					   const int *which, int count);
static int64 enter_changed(const int64 *ids, const LhListed *listed, const int *which, int count);

/*
 * lh_backoff_us doubles with each failure in a row.
 */
int64
lh_backoff_us(int32 failures)
{
	double		seconds = failures > 10 ? MAX_BACKOFF : Min(MAX_BACKOFF, (double) (1 << Max(0, failures - 1)));

	return (int64) (seconds * 1000000 * (0.9 + 0.2 * pg_prng_double(&pg_global_prng_state)));
}

/*
 * begin opens a bracket in which plans look files up by their index, however
 * small the table was when the plan was made.
 */
static void
begin(LhCatalog *catalog)
{
	lh_catalog_begin(catalog);
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * lh_ledger_enter compares a part of a listing with the ledger, and changes the
 * entries of new and changed files.  For files that are known nothing is
 * written.
 */
int64
lh_ledger_enter(int32 source_id, const LhListed *listed, int count)
{
	char	  **paths = palloc(sizeof(char *) * count);
	int		   *new = palloc(sizeof(int) * count);
	int		   *changed = palloc(sizeof(int) * count);
	int64	   *changed_ids = palloc(sizeof(int64) * count);
	int			new_count = 0;
	int			changed_count = 0;
	LhCatalog	catalog;
	uint64		different;
	int64		written = 0;

	for (int i = 0; i < count; i++)
		paths[i] = unconstify(char *, listed[i].path);
	begin(&catalog);
	different = find_different(source_id, listed, paths, count);
	for (uint64 row = 0; row < different; row++)
	{
		int			number = (int) lh_catalog_int64(row, 1, 0) - 1;
		int64		file_id = lh_catalog_int64(row, 2, 0);

		if (file_id == 0)
			new[new_count++] = number;
		else
		{
			changed_ids[changed_count] = file_id;
			changed[changed_count++] = number;
		}
	}
	if (new_count > 0)
		written += enter_new(source_id, listed, paths, new, new_count);
	if (changed_count > 0)
		written += enter_changed(changed_ids, listed, changed, changed_count);
	lh_catalog_end(&catalog);
	return written;
}

/*
 * find_different runs the query that gives what is not in the ledger as it is
 * in the listing: number in the listing from 1, and the entry or NULL.
 */
static uint64
find_different(int32 source_id, const LhListed *listed, char *const *paths, int count)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	int64	   *sizes = palloc(sizeof(int64) * count);
	int64	   *mtimes = palloc(sizeof(int64) * count);
	Datum		values[4];

	for (int i = 0; i < count; i++)
	{
		/* what is no file keeps its entry whatever its size and time are */
		sizes[i] = listed[i].problem ? -1 : listed[i].size;
		mtimes[i] = listed[i].problem ? -1 : listed[i].mtime_ns;
	}
	values[0] = Int32GetDatum(source_id);
	values[1] = make_texts(paths, count);
	values[2] = make_bigints(sizes, count);
	values[3] = make_bigints(mtimes, count);
	return lh_catalog_run("SELECT s.number, f.file_id"
						  " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))"
						  "      WITH ORDINALITY s(path, size, mtime_ns, number)"
						  " LEFT JOIN LATERAL (SELECT o.file_id, o.size, o.mtime_ns, o.state FROM lakehouse.file o"
						  "   WHERE o.source_id OPERATOR(pg_catalog.=) $1"
						  "     AND o.path OPERATOR(pg_catalog.=) s.path OFFSET 0) f ON true"
						  " WHERE f.file_id IS NULL"
						  "    OR (f.state OPERATOR(pg_catalog.<>) 'changed' AND s.size OPERATOR(pg_catalog.>=) 0"
						  "        AND (f.size OPERATOR(pg_catalog.<>) s.size"
						  "             OR f.mtime_ns OPERATOR(pg_catalog.<>) s.mtime_ns"
						  "             OR f.state OPERATOR(pg_catalog.=) 'skipped'))",
						  4, types, values, NULL);
}

/*
 * enter_new adds entries; the caller holds the catalog bracket.
 */
static int64
enter_new(int32 source_id, const LhListed *listed, char *const *paths,
		  const int *which, int count)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID};
	char	  **new_paths = palloc(sizeof(char *) * count);
	char	  **states = palloc(sizeof(char *) * count);
	char	  **problems = palloc(sizeof(char *) * count);
	int64	   *sizes = palloc(sizeof(int64) * count);
	int64	   *mtimes = palloc(sizeof(int64) * count);
	Datum		values[6];

	for (int i = 0; i < count; i++)
	{
		const LhListed *item = &listed[which[i]];

		new_paths[i] = paths[which[i]];
		sizes[i] = item->size;
		mtimes[i] = item->mtime_ns;
		states[i] = item->problem ? pstrdup(unpack_sql_state(item->sqlstate)) : NULL;
		problems[i] = unconstify(char *, item->problem);
		if (item->problem)
			ereport(WARNING,
					(errcode(item->sqlstate),
					 errmsg("skipped \"%s\": %s", item->path, item->problem)));
	}
	values[0] = Int32GetDatum(source_id);
	values[1] = make_texts(new_paths, count);
	values[2] = make_bigints(sizes, count);
	values[3] = make_bigints(mtimes, count);
	values[4] = make_texts(states, count);
	values[5] = make_texts(problems, count);
	return (int64) lh_catalog_run("INSERT INTO lakehouse.file (source_id, path, size, mtime, mtime_ns, state, sqlstate, error)"
								  " SELECT $1, s.path, s.size,"
								  "  pg_catalog.to_timestamp(s.mtime_ns OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
								  "  s.mtime_ns,"
								  "  CASE WHEN s.sqlstate IS NULL THEN 'discovered' ELSE 'skipped' END, s.sqlstate, s.problem"
								  " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
								  "   pg_catalog.unnest($5), pg_catalog.unnest($6)) s(path, size, mtime_ns, sqlstate, problem)"
								  " ON CONFLICT DO NOTHING",
								  6, types, values, NULL);
}

/*
 * enter_changed updates entries of files that are not as they were.
 */
static int64
enter_changed(const int64 *ids, const LhListed *listed, const int *which, int count)
{
	static const Oid types[] = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	int64	   *sizes = palloc(sizeof(int64) * count);
	int64	   *mtimes = palloc(sizeof(int64) * count);
	Datum		values[3];
	int64		changed;

	for (int i = 0; i < count; i++)
	{
		sizes[i] = listed[which[i]].size;
		mtimes[i] = listed[which[i]].mtime_ns;
	}
	values[0] = make_bigints(ids, count);
	values[1] = make_bigints(sizes, count);
	values[2] = make_bigints(mtimes, count);

	/* nothing of them is loaded yet: what counts is what is there now */
	changed = (int64) lh_catalog_run("UPDATE lakehouse.file f SET state = 'discovered', size = s.size, mtime_ns = s.mtime_ns,"
									 "  mtime = pg_catalog.to_timestamp(s.mtime_ns OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
									 "  discovered = pg_catalog.clock_timestamp(), attempts = 0,"
									 "  sqlstate = NULL, error = NULL, retry_at = NULL"
									 " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
									 "   s(file_id, size, mtime_ns)"
									 " WHERE f.file_id OPERATOR(pg_catalog.=) s.file_id"
									 "   AND f.state OPERATOR(pg_catalog.=) ANY ('{discovered,failed,skipped}')"
									 "   AND f.\"position\" OPERATOR(pg_catalog.=) 0",
									 3, types, values, NULL);
	changed += (int64) lh_catalog_run("UPDATE lakehouse.file f SET state = 'changed', sqlstate = '55000', retry_at = NULL,"
									  "  error = pg_catalog.format('the file changed after %s bytes of it were loaded: it had %s bytes and has %s bytes now',"
									  "    f.\"position\", f.size, s.size)"
									  " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
									  "   s(file_id, size, mtime_ns)"
									  " WHERE f.file_id OPERATOR(pg_catalog.=) s.file_id"
									  "   AND (f.state OPERATOR(pg_catalog.=) ANY ('{loading,loaded}')"
									  "        OR f.\"position\" OPERATOR(pg_catalog.>) 0)",
									  3, types, values, NULL);
	return changed;
}

static Datum
make_bigints(const int64 *values, int count)
{
	Datum	   *datums = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		datums[i] = Int64GetDatum(values[i]);
	return PointerGetDatum(construct_array(datums, count, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

static Datum
make_texts(char *const *values, int count)
{
	Datum	   *datums = palloc0(sizeof(Datum) * count);
	bool	   *nulls = palloc0(sizeof(bool) * count);
	int			dims[1] = {count};
	int			bounds[1] = {1};

	for (int i = 0; i < count; i++)
	{
		nulls[i] = (values[i] == NULL);
		if (!nulls[i])
			datums[i] = CStringGetTextDatum(values[i]);
	}
	return PointerGetDatum(construct_md_array(datums, nulls, 1, dims, bounds,
											  TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * lh_ledger_next fills *file in the current context.
 */
bool
lh_ledger_next(int32 source_id, const LhLedgerCursor *cursor,
			   TimestampTz settled_before, bool honour_retry, LhLedgerFile *file)
{
	static const Oid types[] = {INT4OID, INT8OID, TEXTOID, TIMESTAMPTZOID, BOOLOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[5];
	LhCatalog	catalog;
	bool		found;

	values[0] = Int32GetDatum(source_id);
	values[1] = Int64GetDatum(cursor->started ? cursor->mtime_ns : PG_INT64_MIN);
	values[2] = CStringGetTextDatum(cursor->started ? cursor->path : "");
	values[3] = TimestampTzGetDatum(settled_before);
	values[4] = BoolGetDatum(honour_retry);

	begin(&catalog);
	found = lh_catalog_run("SELECT file_id, path, size, mtime_ns,"
						   "   (\"position\" OPERATOR(pg_catalog.>) 0)::pg_catalog.int4,"
						   "   \"position\", line, header, attempts, discovered"
						   " FROM lakehouse.file"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1"
						   "   AND state IN ('discovered', 'loading', 'failed')"
						   "   AND (mtime_ns, path) OPERATOR(pg_catalog.>) ($2, $3)"
						   "   AND (discovered OPERATOR(pg_catalog.<=) $4 OR state OPERATOR(pg_catalog.<>) 'discovered')"
						   "   AND (NOT $5 OR retry_at IS NULL OR retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
						   " ORDER BY mtime_ns, path LIMIT 1 FOR UPDATE SKIP LOCKED",
						   5, types, values, NULL) > 0;
	if (found)
	{
		bool		isnull;

		file->file_id = lh_catalog_int64(0, 1, 0);
		file->path = lh_catalog_text(0, 2, context);
		file->size = lh_catalog_int64(0, 3, 0);
		file->mtime_ns = lh_catalog_int64(0, 4, 0);
		file->loading = lh_catalog_int64(0, 5, 0) != 0;
		file->position = lh_catalog_int64(0, 6, 0);
		file->line = lh_catalog_int64(0, 7, 0);
		file->header = lh_catalog_text(0, 8, context);
		file->attempts = (int32) lh_catalog_int64(0, 9, 0);
		file->discovered = DatumGetTimestampTz(lh_catalog_value(0, 10, &isnull));
	}
	lh_catalog_end(&catalog);
	return found;
}

TimestampTz
lh_ledger_next_due(int32 source_id, int64 settle_us)
{
	static const Oid types[] = {INT4OID, FLOAT8OID};
	Datum		values[2];
	LhCatalog	catalog;
	TimestampTz due = DT_NOEND;
	bool		isnull = true;

	values[0] = Int32GetDatum(source_id);
	values[1] = Float8GetDatum((double) settle_us / 1000000);
	begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.min(CASE state WHEN 'failed' THEN retry_at ELSE discovered"
				   "   OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $2) END)"
				   " FROM lakehouse.file WHERE source_id OPERATOR(pg_catalog.=) $1"
				   "   AND state IN ('discovered', 'loading', 'failed')",
				   2, types, values, NULL);
	{
		Datum		value = lh_catalog_value(0, 1, &isnull);

		if (!isnull)
			due = DatumGetTimestampTz(value);
	}
	lh_catalog_end(&catalog);
	return due;
}

void
lh_ledger_counts(const LhLedgerFile *file, int64 *rows, int64 *rejected)
{
	static const Oid types[] = {INT8OID};
	Datum		value = Int64GetDatum(file->file_id);
	LhCatalog	catalog;

	*rows = *rejected = 0;
	if (file->position == 0)
		return;
	begin(&catalog);
	if (lh_catalog_run("SELECT rows, rejected FROM lakehouse.file"
					   " WHERE file_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL) > 0)
	{
		*rows = lh_catalog_int64(0, 1, 0);
		*rejected = lh_catalog_int64(0, 2, 0);
	}
	lh_catalog_end(&catalog);
}

/*
 * lh_ledger_progress enters what a load read of a file.
 */
void
lh_ledger_progress(int64 file_id, const LhLedgerProgress *progress)
{
	static const Oid types[] = {INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID,
		INT8OID, INT8OID};
	Datum		values[9];
	char		nulls[10] = "         ";
	LhCatalog	catalog;

	LH_FAULT("before-ledger");
	values[0] = Int64GetDatum(file_id);
	values[1] = CStringGetTextDatum(progress->state);
	values[2] = Int64GetDatum(progress->size);
	values[3] = Int64GetDatum(progress->mtime_ns);
	values[4] = Int64GetDatum(progress->position);
	values[5] = Int64GetDatum(progress->line);
	values[6] = progress->header ? CStringGetTextDatum(progress->header) : (Datum) 0;
	nulls[6] = progress->header ? ' ' : 'n';
	values[7] = Int64GetDatum(progress->rows);
	values[8] = Int64GetDatum(progress->rejected);
	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET state = $2, size = $3, mtime_ns = $4,"
				   "  mtime = pg_catalog.to_timestamp($4 OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
				   "  \"position\" = $5, line = $6, header = $7,"
				   "  rows = rows OPERATOR(pg_catalog.+) $8, rejected = rejected OPERATOR(pg_catalog.+) $9,"
				   "  attempts = 0, sqlstate = NULL, error = NULL, retry_at = NULL,"
				   "  loaded = CASE $2 WHEN 'loaded' THEN pg_catalog.clock_timestamp() END"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1",
				   9, types, values, nulls);
	lh_catalog_end(&catalog);
	LH_FAULT("after-ledger");
}

/*
 * lh_ledger_seen_again makes a file that is still being written wait again.
 */
void
lh_ledger_seen_again(int64 file_id, int64 size, int64 mtime_ns)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID};
	Datum		values[3] = {Int64GetDatum(file_id), Int64GetDatum(size), Int64GetDatum(mtime_ns)};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET state = 'discovered', size = $2, mtime_ns = $3,"
				   "  mtime = pg_catalog.to_timestamp($3 OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
				   "  discovered = pg_catalog.clock_timestamp(), attempts = 0,"
				   "  sqlstate = NULL, error = NULL, retry_at = NULL"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1",
				   3, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_ledger_set_aside gives a file a state in which it does not wait: changed
 * or skipped.
 */
void
lh_ledger_set_aside(int64 file_id, const char *state, int sqlstate, const char *error)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[4];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(file_id);
	values[1] = CStringGetTextDatum(state);
	values[2] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[3] = CStringGetTextDatum(error);
	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET state = $2, sqlstate = $3, error = $4, retry_at = NULL"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_ledger_failed enters that a file could not be read, and when to try again.
 */
void
lh_ledger_failed(int64 file_id, int32 attempts, int sqlstate, const char *error)
{
	static const Oid types[] = {INT8OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[5];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(file_id);
	values[1] = Int32GetDatum(attempts);
	values[2] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[3] = CStringGetTextDatum(error);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp() + lh_backoff_us(attempts));
	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET state = 'failed', attempts = $2, sqlstate = $3, error = $4, retry_at = $5"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1",
				   5, types, values, NULL);
	lh_catalog_end(&catalog);
}
