/*
 * file_ledger.c
 *	  What is known of each file of a source: table lakehouse.file.
 *
 * States and what follows: discovered (waits) -> loading (a part is loaded) ->
 * loaded; discovered or loading -> failed (cannot be read; tried again) ->
 * loading, loaded; skipped (no regular file, or gone) -> discovered when it
 * becomes one; skipped by a person (no SQLSTATE) and undone stay so until
 * lakehouse.reingest_file; duplicate (another file had the same content) until
 * it is another file.
 *
 * A file that is loading or loaded and is another one now than what was loaded
 * follows the source's option on_change: changed (nothing is loaded from it
 * until a person decides); superseded, and another entry with the next version
 * is discovered; or loading again, to go on behind what is loaded.
 *
 * Invariant: a path has one entry that has not ended; size, mtime_ns and hash
 * of an entry that is loading or loaded are those of the content that was
 * loaded.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/file_ledger.h"
#include "catalog/catalog_access.h"
#include "fault.h"

/* the place of a waiting file, as index file_waiting has it */
#define ORDER_NS "(CASE WHEN by_name THEN 0 ELSE mtime_ns END)"

/* one time for all that a statement enters: none of it is ready before another */
#define NOW "(SELECT pg_catalog.clock_timestamp())"

/* new entries; with ON CONFLICT each costs a look-up and a WAL record more */
#define INSERT_NEW \
	"INSERT INTO lakehouse.file (discovered, source_id, path, size, mtime, mtime_ns, by_name, state, sqlstate, error)" \
	" SELECT " NOW ", $1, s.path, s.size," \
	"  pg_catalog.to_timestamp(s.mtime_ns OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8)," \
	"  s.mtime_ns, $7," \
	"  CASE WHEN s.sqlstate IS NOT NULL OR $8 THEN 'skipped' ELSE 'discovered' END, s.sqlstate," \
	"  COALESCE(s.problem, CASE WHEN $8 THEN 'it was there when the source was created' END)" \
	" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)," \
	"   pg_catalog.unnest($5), pg_catalog.unnest($6)) s(path, size, mtime_ns, sqlstate, problem)"

/* longest wait between two attempts, in seconds */
#define MAX_BACKOFF 600

static Datum make_bigints(const int64 *values, int count);
static Datum make_texts(char *const *values, int count);
static uint64 find_different(const LhLedgerLook *look, const LhListed *listed,
							 char *const *paths, int count);
static int64 enter_new(LhLedgerLook *look, const LhListed *listed, char *const *paths,
					   const int *which, int count);
static int64 refresh(const LhLedgerLook *look, const int64 *ids, const LhListed *listed,
					 const int *which, int count);
static int64 enter_changed(const LhLedgerLook *look, const int64 *ids, const LhListed *listed,
						   const int *which, int count);
static int64 mark_changed(int nargs, const Oid *types, const Datum *values);
static int64 supersede(int nargs, const Oid *types, const Datum *values);
static int64 go_on(int nargs, const Oid *types, const Datum *values);
static void raise_changed(const LhListed *listed, int64 file_id);
static void list_changes(const int64 *ids, const LhListed *listed, const int *which, int count,
						 Datum *values);

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
 * begin opens a bracket in which plans look files up by their index.
 */
static void
begin(LhCatalog *catalog)
{
	lh_catalog_begin(catalog);
	lh_catalog_by_index();
}

/*
 * lh_ledger_enter compares what was listed with the ledger, and changes the
 * entries of new and changed files, each of which is listed once.  For files
 * that are known nothing is written.  With LH_CHANGE_ERROR a changed file raises 55000.
 */
void
lh_ledger_enter(LhLedgerLook *look, const LhListed *listed, int count)
{
	char	  **paths = palloc(sizeof(char *) * count);
	int		   *new = palloc(sizeof(int) * count);
	int		   *fresh = palloc(sizeof(int) * count);
	int64	   *fresh_ids = palloc(sizeof(int64) * count);
	int		   *changed = palloc(sizeof(int) * count);
	int64	   *changed_ids = palloc(sizeof(int64) * count);
	int			new_count = 0;
	int			fresh_count = 0;
	int			changed_count = 0;
	LhCatalog	catalog;
	uint64		different;

	for (int i = 0; i < count; i++)
		paths[i] = unconstify(char *, listed[i].path);
	begin(&catalog);
	different = find_different(look, listed, paths, count);
	for (uint64 row = 0; row < different; row++)
	{
		int			number = (int) lh_catalog_int64(row, 1, 0) - 1;
		int64		file_id = lh_catalog_int64(row, 2, 0);

		if (file_id == 0)
			new[new_count++] = number;
		else if (look->new_only)
			look->others = true;
		else if (lh_catalog_int64(row, 3, 0) == 0)
		{
			fresh_ids[fresh_count] = file_id;
			fresh[fresh_count++] = number;
		}
		else
		{
			changed_ids[changed_count] = file_id;
			changed[changed_count++] = number;
		}
	}
	if (new_count > 0)
		look->changed += enter_new(look, listed, paths, new, new_count);
	if (fresh_count > 0)
		look->changed += refresh(look, fresh_ids, listed, fresh, fresh_count);
	if (changed_count > 0)
		look->changed += enter_changed(look, changed_ids, listed, changed, changed_count);
	lh_catalog_end(&catalog);
}

/*
 * find_different runs the query that gives what is not in the ledger as it is
 * in the listing: number in the listing from 1, the entry or NULL, and whether
 * something of it may be loaded.
 */
static uint64
find_different(const LhLedgerLook *look, const LhListed *listed,
			   char *const *paths, int count)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, BOOLOID, BOOLOID};
	int64	   *sizes = palloc(sizeof(int64) * count);
	int64	   *mtimes = palloc(sizeof(int64) * count);
	Datum		values[6];

	for (int i = 0; i < count; i++)
	{
		/* what is no file keeps its entry whatever its size and time are */
		sizes[i] = listed[i].problem ? -1 : listed[i].size;
		mtimes[i] = listed[i].problem ? -1 : listed[i].mtime_ns;
	}
	values[0] = Int32GetDatum(look->source_id);
	values[1] = make_texts(paths, count);
	values[2] = make_bigints(sizes, count);
	values[3] = make_bigints(mtimes, count);
	/* files set aside under another policy are taken up by these */
	values[4] = BoolGetDatum(look->on_change == LH_CHANGE_APPEND_AGAIN ||
							 look->on_change == LH_CHANGE_REPLACE ||
							 look->on_change == LH_CHANGE_ERROR);
	values[5] = BoolGetDatum(look->on_change == LH_CHANGE_TAIL);
	return lh_catalog_run("SELECT s.number, f.file_id, f.begun::pg_catalog.int4"
						  " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))"
						  "      WITH ORDINALITY s(path, size, mtime_ns, number)"
						  " LEFT JOIN LATERAL (SELECT o.file_id, o.size, o.mtime_ns, o.seen_size, o.seen_mtime_ns, o.state, o.sqlstate,"
						  "     o.\"position\" OPERATOR(pg_catalog.>) 0 OR o.state OPERATOR(pg_catalog.=) ANY ('{loading,loaded,changed}') AS begun"
						  "   FROM lakehouse.file o"
						  "   WHERE o.source_id OPERATOR(pg_catalog.=) $1"
						  "     AND o.path OPERATOR(pg_catalog.=) s.path AND o.ended IS NULL OFFSET 0) f ON true"
						  " WHERE f.file_id IS NULL"
						  "    OR (s.size OPERATOR(pg_catalog.>=) 0 AND CASE"
						  "        WHEN f.state OPERATOR(pg_catalog.=) 'undone' THEN false"
						  "        WHEN f.state OPERATOR(pg_catalog.=) 'skipped' THEN f.sqlstate IS NOT NULL"
						  "        WHEN f.state OPERATOR(pg_catalog.=) 'changed' AND $5 THEN true"
						  "        WHEN $6 AND f.begun THEN coalesce(f.seen_size, f.size) OPERATOR(pg_catalog.<>) s.size"
						  "             OR coalesce(f.seen_mtime_ns, f.mtime_ns) OPERATOR(pg_catalog.<>) s.mtime_ns"
						  "        WHEN f.state OPERATOR(pg_catalog.=) 'changed' THEN false"
						  "        ELSE f.size OPERATOR(pg_catalog.<>) s.size OR f.mtime_ns OPERATOR(pg_catalog.<>) s.mtime_ns END)",
						  6, types, values, NULL);
}

/*
 * enter_new adds entries; the caller holds the catalog bracket.
 */
static int64
enter_new(LhLedgerLook *look, const LhListed *listed, char *const *paths,
		  const int *which, int count)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID, BOOLOID, BOOLOID};
	char	  **new_paths = palloc(sizeof(char *) * count);
	char	  **states = palloc(sizeof(char *) * count);
	char	  **problems = palloc(sizeof(char *) * count);
	int64	   *sizes = palloc(sizeof(int64) * count);
	int64	   *mtimes = palloc(sizeof(int64) * count);
	Datum		values[8];
	int64		entered;

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
	values[0] = Int32GetDatum(look->source_id);
	values[1] = make_texts(new_paths, count);
	values[2] = make_bigints(sizes, count);
	values[3] = make_bigints(mtimes, count);
	values[4] = make_texts(states, count);
	values[5] = make_texts(problems, count);
	values[6] = BoolGetDatum(look->by_name);
	values[7] = BoolGetDatum(look->existing);
	/* nobody else enters files beside one who has the source alone; under an old
	 * snapshot he may not see what others did before */
	if (look->new_only || IsolationUsesXactSnapshot())
		entered = (int64) lh_catalog_run(INSERT_NEW " ON CONFLICT DO NOTHING", 8, types, values, NULL);
	else
		entered = (int64) lh_catalog_run(INSERT_NEW, 8, types, values, NULL);
	look->added += entered;
	return entered;
}

/*
 * refresh updates entries of files of which nothing is loaded: what counts is
 * what is there now.
 */
static int64
refresh(const LhLedgerLook *look, const int64 *ids, const LhListed *listed,
		const int *which, int count)
{
	static const Oid types[] = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, BOOLOID};
	Datum		values[4];

	list_changes(ids, listed, which, count, values);
	values[3] = BoolGetDatum(look->by_name);
	return (int64) lh_catalog_run("UPDATE lakehouse.file f SET state = 'discovered', size = s.size, mtime_ns = s.mtime_ns, by_name = $4,"
								  "  mtime = pg_catalog.to_timestamp(s.mtime_ns OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
								  "  discovered = " NOW ", attempts = 0,"
								  "  sqlstate = NULL, error = NULL, retry_at = NULL"
								  " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
								  "   s(file_id, size, mtime_ns)"
								  " WHERE f.file_id OPERATOR(pg_catalog.=) s.file_id",
								  4, types, values, NULL);
}

/*
 * enter_changed updates entries of files that are not what was loaded.
 */
static int64
enter_changed(const LhLedgerLook *look, const int64 *ids, const LhListed *listed,
			  const int *which, int count)
{
	static const Oid types[] = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, BOOLOID, BOOLOID};
	Datum		values[5];

	list_changes(ids, listed, which, count, values);
	values[3] = BoolGetDatum(look->by_name);
	switch (look->on_change)
	{
		case LH_CHANGE_ERROR:
			raise_changed(&listed[which[0]], ids[0]);
			break;
		case LH_CHANGE_APPEND_AGAIN:
		case LH_CHANGE_REPLACE:
			values[4] = BoolGetDatum(look->on_change == LH_CHANGE_REPLACE);
			return supersede(5, types, values);
		case LH_CHANGE_TAIL:
			return go_on(4, types, values);
		case LH_CHANGE_IGNORE:
			break;
	}
	return mark_changed(3, types, values);
}

/*
 * mark_changed sets files aside.
 */
static int64
mark_changed(int nargs, const Oid *types, const Datum *values)
{
	return (int64) lh_catalog_run("UPDATE lakehouse.file f SET state = 'changed', sqlstate = '55000', retry_at = NULL,"
								  "  error = pg_catalog.format('the file changed after %s bytes of it were loaded: it had %s bytes and has %s bytes now',"
								  "    f.\"position\", f.size, s.size)"
								  " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
								  "   s(file_id, size, mtime_ns)"
								  " WHERE f.file_id OPERATOR(pg_catalog.=) s.file_id",
								  nargs, types, values, NULL);
}

/*
 * supersede ends entries and makes others of the next version, whose first load
 * takes the rows of the earlier ones back if $5.
 */
static int64
supersede(int nargs, const Oid *types, const Datum *values)
{
	return (int64) lh_catalog_run("WITH o AS (UPDATE lakehouse.file f SET ended = pg_catalog.clock_timestamp(), retry_at = NULL,"
								  "    state = CASE WHEN f.state IN ('undone', 'duplicate') THEN f.state ELSE 'superseded' END,"
								  "    sqlstate = NULL, error = NULL"
								  "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
								  "    s(file_id, size, mtime_ns)"
								  "  WHERE f.file_id OPERATOR(pg_catalog.=) s.file_id"
								  "  RETURNING f.source_id, f.file_id, f.path, f.version, s.size, s.mtime_ns),"
								  " d AS (DELETE FROM lakehouse.file_range r USING o"
								  "  WHERE r.source_id OPERATOR(pg_catalog.=) o.source_id AND r.file_id OPERATOR(pg_catalog.=) o.file_id)"
								  " INSERT INTO lakehouse.file (discovered, source_id, path, version, size, mtime, mtime_ns, by_name, state, replaces)"
								  " SELECT " NOW ", source_id, path, version OPERATOR(pg_catalog.+) 1, size,"
								  "  pg_catalog.to_timestamp(mtime_ns OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
								  "  mtime_ns, $4, 'discovered', $5 FROM o",
								  nargs, types, values, NULL);
}

/*
 * go_on lets files that have become longer wait, and sets others aside.  That
 * the old bytes are still the same is looked at before they are loaded.
 */
static int64
go_on(int nargs, const Oid *types, const Datum *values)
{
	return (int64) lh_catalog_run("UPDATE lakehouse.file f SET seen_size = s.size, seen_mtime_ns = s.mtime_ns, by_name = $4,"
								  "  discovered = " NOW ", retry_at = NULL, attempts = 0,"
								  "  state = CASE WHEN s.size OPERATOR(pg_catalog.>=) f.\"position\" THEN 'loading' ELSE 'changed' END,"
								  "  sqlstate = CASE WHEN s.size OPERATOR(pg_catalog.<) f.\"position\" THEN '55000' END,"
								  "  error = CASE WHEN s.size OPERATOR(pg_catalog.<) f.\"position\" THEN"
								  "    pg_catalog.format('the file changed after %s bytes of it were loaded: it had %s bytes and has %s bytes now',"
								  "      f.\"position\", f.size, s.size) END"
								  " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
								  "   s(file_id, size, mtime_ns)"
								  " WHERE f.file_id OPERATOR(pg_catalog.=) s.file_id",
								  nargs, types, values, NULL);
}

/*
 * raise_changed names what was loaded of a file that is another one now.
 */
static void
raise_changed(const LhListed *listed, int64 file_id)
{
	static const Oid types[] = {INT8OID};
	Datum		value = Int64GetDatum(file_id);
	int64		position;
	int64		size;

	lh_catalog_run("SELECT \"position\", size FROM lakehouse.file WHERE file_id OPERATOR(pg_catalog.=) $1",
				   1, types, &value, NULL);
	position = lh_catalog_int64(0, 1, 0);
	size = lh_catalog_int64(0, 2, 0);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("file \"%s\" changed after bytes 0 to " INT64_FORMAT " of it were loaded", listed->path, position),
			 errdetail("It had " INT64_FORMAT " bytes and has " INT64_FORMAT " bytes now.", size, listed->size),
			 errhint("Use lakehouse.reingest_file to load it again in place of its rows, lakehouse.skip_file to leave them as they are, or another value of option \"on_change\".")));
}

/*
 * list_changes makes the arrays of entry, size and time.
 */
static void
list_changes(const int64 *ids, const LhListed *listed, const int *which, int count, Datum *values)
{
	int64	   *sizes = palloc(sizeof(int64) * count);
	int64	   *mtimes = palloc(sizeof(int64) * count);

	for (int i = 0; i < count; i++)
	{
		sizes[i] = listed[which[i]].size;
		mtimes[i] = listed[which[i]].mtime_ns;
	}
	values[0] = make_bigints(ids, count);
	values[1] = make_bigints(sizes, count);
	values[2] = make_bigints(mtimes, count);
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

void
lh_ledger_set_order(int32 source_id, bool by_name)
{
	static const Oid types[] = {INT4OID, BOOLOID};
	Datum		values[2] = {Int32GetDatum(source_id), BoolGetDatum(by_name)};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET by_name = $2"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1"
				   "   AND state IN ('discovered', 'loading', 'failed') AND by_name OPERATOR(pg_catalog.<>) $2",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
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
	values[1] = Int64GetDatum(cursor->started ? cursor->order_ns : PG_INT64_MIN);
	values[2] = CStringGetTextDatum(cursor->started ? cursor->path : "");
	values[3] = TimestampTzGetDatum(settled_before);
	values[4] = BoolGetDatum(honour_retry);

	begin(&catalog);
	found = lh_catalog_run("SELECT file_id, path, coalesce(seen_size, size), coalesce(seen_mtime_ns, mtime_ns),"
						   "   \"position\", line, header, attempts, discovered,"
						   "   " ORDER_NS ", (seen_size IS NOT NULL)::pg_catalog.int4, hash, hash_blocks, replaces::pg_catalog.int4"
						   " FROM lakehouse.file"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1"
						   "   AND state IN ('discovered', 'loading', 'failed')"
						   "   AND (" ORDER_NS ", path) OPERATOR(pg_catalog.>) ($2, $3)"
						   "   AND (discovered OPERATOR(pg_catalog.<=) $4"
						   "        OR (state OPERATOR(pg_catalog.<>) 'discovered' AND seen_size IS NULL))"
						   "   AND (retry_at IS NULL OR CASE WHEN $5 THEN retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
						   "        ELSE retry_at OPERATOR(pg_catalog.<) 'infinity' END)"
						   /* nothing is left of it but ranges, or one of them failed */
						   "   AND NOT (((\"position\" OPERATOR(pg_catalog.>=) size AND seen_size IS NULL) OR state OPERATOR(pg_catalog.=) 'failed')"
						   "            AND EXISTS (SELECT FROM lakehouse.file_range r WHERE r.source_id OPERATOR(pg_catalog.=) $1"
						   "                          AND r.file_id OPERATOR(pg_catalog.=) file.file_id))"
						   " ORDER BY " ORDER_NS ", path LIMIT 1 FOR UPDATE SKIP LOCKED",
						   5, types, values, NULL) > 0;
	if (found)
	{
		bool		isnull;

		memset(file, 0, sizeof(*file));
		file->file_id = lh_catalog_int64(0, 1, 0);
		file->path = lh_catalog_text(0, 2, context);
		file->size = lh_catalog_int64(0, 3, 0);
		file->mtime_ns = lh_catalog_int64(0, 4, 0);
		file->position = file->begun = lh_catalog_int64(0, 5, 0);
		file->line = lh_catalog_int64(0, 6, 0);
		file->header = lh_catalog_text(0, 7, context);
		file->attempts = (int32) lh_catalog_int64(0, 8, 0);
		file->discovered = DatumGetTimestampTz(lh_catalog_value(0, 9, &isnull));
		file->order_ns = lh_catalog_int64(0, 10, 0);
		file->continues = lh_catalog_int64(0, 11, 0) != 0;
		file->hash = lh_catalog_int64(0, 12, 0);
		file->hash_blocks = lh_catalog_int64(0, 13, 0);
		file->replaces = lh_catalog_int64(0, 14, 0) != 0;
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
		INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		values[11];
	char		nulls[12] = "           ";
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
	values[9] = Int64GetDatum(progress->hash);
	values[10] = Int64GetDatum(progress->hash_blocks);
	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file f SET size = $3, mtime_ns = $4,"
				   "  state = CASE WHEN d.last THEN $2 ELSE 'loading' END,"
				   "  hash = $10, hash_blocks = $11, seen_size = NULL, seen_mtime_ns = NULL, replaces = false,"
				   "  mtime = pg_catalog.to_timestamp($4 OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
				   "  \"position\" = $5, line = $6, header = $7,"
				   "  rows = f.rows OPERATOR(pg_catalog.+) $8, rejected = f.rejected OPERATOR(pg_catalog.+) $9,"
				   "  attempts = 0, sqlstate = NULL, error = NULL, retry_at = NULL,"
				   "  loaded = CASE WHEN d.last THEN pg_catalog.clock_timestamp() END"
				   " FROM (SELECT $2 OPERATOR(pg_catalog.=) 'loaded' AND NOT EXISTS ("
				   "         SELECT FROM lakehouse.file_range r WHERE r.file_id OPERATOR(pg_catalog.=) $1) AS last) d"
				   " WHERE f.file_id OPERATOR(pg_catalog.=) $1",
				   11, types, values, nulls);
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
	lh_catalog_run("UPDATE lakehouse.file SET discovered = pg_catalog.clock_timestamp(), attempts = 0,"
				   "  sqlstate = NULL, error = NULL, retry_at = NULL,"
				   "  state = CASE WHEN seen_size IS NULL THEN 'discovered' ELSE state END,"
				   "  size = CASE WHEN seen_size IS NULL THEN $2 ELSE size END,"
				   "  mtime_ns = CASE WHEN seen_size IS NULL THEN $3 ELSE mtime_ns END,"
				   "  mtime = CASE WHEN seen_size IS NULL THEN"
				   "    pg_catalog.to_timestamp($3 OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8) ELSE mtime END,"
				   "  seen_size = CASE WHEN seen_size IS NULL THEN NULL ELSE $2 END,"
				   "  seen_mtime_ns = CASE WHEN seen_size IS NULL THEN NULL ELSE $3 END"
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
 * lh_ledger_failed enters that a file could not be read, and when to try again:
 * after max_attempts (if that is not 0) only when a person says so, or when it
 * is another file.
 */
void
lh_ledger_failed(int64 file_id, int32 attempts, int32 max_attempts, int sqlstate, const char *error)
{
	static const Oid types[] = {INT8OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[5];
	LhCatalog	catalog;

	values[0] = Int64GetDatum(file_id);
	values[1] = Int32GetDatum(attempts);
	values[2] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[3] = CStringGetTextDatum(error);
	values[4] = TimestampTzGetDatum(max_attempts > 0 && attempts >= max_attempts ? DT_NOEND
									: GetCurrentTimestamp() + lh_backoff_us(attempts));
	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET state = 'failed', attempts = $2, sqlstate = $3, error = $4, retry_at = $5"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1",
				   5, types, values, NULL);
	lh_catalog_end(&catalog);
}
