/*
 * file_change.c
 *	  What a person decides about one file: reingest_file, skip_file, undo_file;
 *	  and verify_files, which tells whether the files are still what was loaded.
 *
 * Invariant: rows of a file that are taken back go in the transaction that
 * marks their loads undone and their entries in the ledger undone or replaced,
 * together with their rejects.  They are deleted as the source's owner, by a
 * plain DELETE: triggers fire, and flows that keep groups see the old rows.
 *
 * Each function holds the source's lock to the end of the transaction, as a
 * batch does.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "bronze/clean.h"
#include "bronze/file_change.h"
#include "bronze/file_content.h"
#include "bronze/file_hash.h"
#include "bronze/file_ingest.h"
#include "bronze/file_range.h"
#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "delta/load.h"
#include "fault.h"
#include "source/file_list.h"

/* entries that verify_files takes from the ledger at once */
#define VERIFY_CHUNK 1000

/* The loads of a path in one table. */
typedef struct TableLoads
{
	Oid			relation;
	ArrayType  *loads;			/* bigint[] */
} TableLoads;

static List *find_loads(int32 source_id, const char *path, int64 keep);
static int64 delete_rows(const TableLoads *table);
static void mark_taken_back(int32 source_id, const char *path, int64 keep);
static LhSource *find_file_source(FunctionCallInfo fcinfo, char **path);
static void add_verdicts(ReturnSetInfo *rsinfo, const LhSource *source);
static void verify_file(ReturnSetInfo *rsinfo, LhDescriptor *root, const char *path,
						int64 position, int64 hash);

PG_FUNCTION_INFO_V1(lakehouse_reingest_file);
PG_FUNCTION_INFO_V1(lakehouse_skip_file);
PG_FUNCTION_INFO_V1(lakehouse_undo_file);
PG_FUNCTION_INFO_V1(lakehouse_verify_files);

int64
lh_file_take_back(int32 source_id, const char *path, int64 keep)
{
	List	   *tables = find_loads(source_id, path, keep);
	int64		deleted = 0;
	ListCell   *cell;

	foreach(cell, tables)
	{
		CHECK_FOR_INTERRUPTS();
		deleted += delete_rows(lfirst(cell));
	}
	LH_FAULT("before-ledger");
	lh_range_forget(source_id, path, keep);
	mark_taken_back(source_id, path, keep);
	if (keep > 0)
		lh_content_release(source_id, path, keep);
	LH_FAULT("after-ledger");
	return deleted;
}

/*
 * find_loads lists TableLoads of what was loaded and not yet taken back.
 */
static List *
find_loads(int32 source_id, const char *path, int64 keep)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8OID};
	Datum		values[3] = {Int32GetDatum(source_id), CStringGetTextDatum(path), Int64GetDatum(keep)};
	MemoryContext context = CurrentMemoryContext;
	List	   *tables = NIL;
	LhCatalog	catalog;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT l.relation, pg_catalog.array_agg(l.load_id)"
						   " FROM lakehouse.file f JOIN lakehouse.load l"
						   "   ON l.file_id OPERATOR(pg_catalog.=) f.file_id"
						   " WHERE f.source_id OPERATOR(pg_catalog.=) $1 AND f.path OPERATOR(pg_catalog.=) $2"
						   "   AND f.file_id OPERATOR(pg_catalog.<>) $3 AND l.undone IS NULL"
						   " GROUP BY l.relation ORDER BY l.relation::pg_catalog.oid",
						   3, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);
		TableLoads *table = palloc(sizeof(TableLoads));
		bool		isnull;

		table->relation = lh_catalog_oid(row, 1);
		table->loads = DatumGetArrayTypePCopy(lh_catalog_value(row, 2, &isnull));
		tables = lappend(tables, table);
		MemoryContextSwitchTo(spi);
	}
	lh_catalog_end(&catalog);
	return tables;
}

/*
 * delete_rows deletes the rows of some loads; a table that was dropped has none.
 */
static int64
delete_rows(const TableLoads *table)
{
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1] = {PointerGetDatum(table->loads)};
	char	   *name = get_rel_name(table->relation);
	int64		deleted;

	if (name == NULL)
		return 0;
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table->relation)), name);
	SPI_connect();
	if (SPI_execute_with_args(psprintf("DELETE FROM %s WHERE " LH_LOAD_COLUMN " OPERATOR(pg_catalog.=) ANY ($1)", name),
							  1, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete rows of table %s", name);
	deleted = (int64) SPI_processed;
	SPI_finish();
	return deleted;
}

/*
 * mark_taken_back deletes the rejects, and enters in the ledger what became of
 * the versions.
 */
static void
mark_taken_back(int32 source_id, const char *path, int64 keep)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8OID};
	Datum		values[3] = {Int32GetDatum(source_id), CStringGetTextDatum(path), Int64GetDatum(keep)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("DELETE FROM lakehouse.reject r"
				   " USING lakehouse.file f, lakehouse.load l"
				   " WHERE f.source_id OPERATOR(pg_catalog.=) $1 AND f.path OPERATOR(pg_catalog.=) $2"
				   "   AND f.file_id OPERATOR(pg_catalog.<>) $3"
				   "   AND l.file_id OPERATOR(pg_catalog.=) f.file_id"
				   "   AND r.source_id OPERATOR(pg_catalog.=) $1 AND r.load_id OPERATOR(pg_catalog.=) l.load_id",
				   3, types, values, NULL);
	lh_catalog_run("UPDATE lakehouse.load l SET undone = pg_catalog.clock_timestamp()"
				   " FROM lakehouse.file f"
				   " WHERE f.source_id OPERATOR(pg_catalog.=) $1 AND f.path OPERATOR(pg_catalog.=) $2"
				   "   AND f.file_id OPERATOR(pg_catalog.<>) $3"
				   "   AND l.file_id OPERATOR(pg_catalog.=) f.file_id AND l.undone IS NULL",
				   3, types, values, NULL);
	lh_catalog_run("UPDATE lakehouse.file SET"
				   "   state = CASE WHEN $3 OPERATOR(pg_catalog.>) 0 THEN 'replaced' ELSE 'undone' END,"
				   "   sqlstate = NULL, retry_at = NULL, error = NULL"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2"
				   "   AND file_id OPERATOR(pg_catalog.<>) $3"
				   "   AND (ended IS NULL OR state OPERATOR(pg_catalog.=) 'superseded')",
				   3, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * find_file_source returns the source of the first two arguments (source, path)
 * if it is one of files and the current user may change it, locked.
 */
static LhSource *
find_file_source(FunctionCallInfo fcinfo, char **path)
{
	LhSource   *source;

	if (PG_ARGISNULL(0) || (path != NULL && PG_ARGISNULL(1)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must be given", PG_ARGISNULL(0) ? "source" : "path")));
	source = lh_source_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	lh_catalog_check_owner(source->owner, "source", source->name);
	if (source->is_kafka)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s\" does not read files", source->name)));
	(void) lh_catalog_lock(LH_LOCK_SOURCE, source->source_id, true);
	if (path != NULL)
		*path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	return source;
}

/*
 * record_action keeps what the current user decided about a file; rows < 0 if
 * none were concerned.
 */
static void
record_action(const LhSource *source, const char *path, const char *action, int64 rows)
{
	static const Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT8OID, OIDOID};
	Datum		values[5] = {Int32GetDatum(source->source_id), CStringGetTextDatum(path),
	CStringGetTextDatum(action), Int64GetDatum(rows), ObjectIdGetDatum(GetUserId())};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.file_action (source_id, path, action, rows, role)"
				   " VALUES ($1, $2, $3, $4, $5)",
				   5, types, values, rows < 0 ? "   n " : NULL);
	lh_catalog_end(&catalog);
}

static void
refuse_unknown(const LhSource *source, const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("source \"%s\" has not seen a file \"%s\"", source->name, path),
			 errhint("Paths stand in lakehouse.file_status as the source sees them, beneath the server's directory.")));
}

/*
 * lakehouse.reingest_file(source, path) makes the file wait as if it were new;
 * with its first load the rows of what was loaded before go.
 */
Datum
lakehouse_reingest_file(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	char	   *path;
	LhSource   *source = find_file_source(fcinfo, &path);
	Datum		values[2] = {Int32GetDatum(source->source_id), CStringGetTextDatum(path)};
	LhCatalog	catalog;
	bool		found;

	lh_clean_check_present(source, path);
	lh_range_forget(source->source_id, path, 0);
	lh_catalog_begin(&catalog);
	found = lh_catalog_run("WITH o AS (UPDATE lakehouse.file SET ended = pg_catalog.clock_timestamp(), retry_at = NULL,"
						   "    state = CASE WHEN state IN ('undone', 'duplicate') THEN state ELSE 'superseded' END,"
						   "    sqlstate = NULL, error = NULL"
						   "  WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2 AND ended IS NULL"
						   "  RETURNING source_id, path, version, size, mtime, mtime_ns)"
						   " INSERT INTO lakehouse.file (source_id, path, version, size, mtime, mtime_ns, by_name, state, replaces)"
						   " SELECT o.source_id, o.path, o.version OPERATOR(pg_catalog.+) 1, o.size, o.mtime, o.mtime_ns,"
						   "   COALESCE((s.options OPERATOR(pg_catalog.->>) 'order_by') OPERATOR(pg_catalog.=) 'name', false),"
						   "   'discovered', true"
						   " FROM o JOIN lakehouse.source s ON s.source_id OPERATOR(pg_catalog.=) o.source_id",
						   2, types, values, NULL) > 0;
	lh_catalog_end(&catalog);
	if (!found)
		refuse_unknown(source, path);
	record_action(source, path, "reingest", -1);
	PG_RETURN_VOID();
}

/*
 * lakehouse.skip_file(source, path) leaves a file alone from now on; what is
 * loaded of it stays.  A file that was not seen yet is skipped when it comes.
 */
Datum
lakehouse_skip_file(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID, TEXTOID, TEXTOID};
	char	   *path;
	LhSource   *source = find_file_source(fcinfo, &path);
	Datum		values[3] = {Int32GetDatum(source->source_id), CStringGetTextDatum(path)};
	LhCatalog	catalog;
	bool		found;

	lh_file_pattern_check(path);
	lh_range_forget(source->source_id, path, 0);
	values[2] = CStringGetTextDatum(psprintf("skipped by role %s", GetUserNameFromId(GetUserId(), false)));
	lh_catalog_begin(&catalog);
	found = lh_catalog_run("UPDATE lakehouse.file SET state = 'skipped', sqlstate = NULL, retry_at = NULL, error = $3,"
						   "   replaces = false"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2 AND ended IS NULL",
						   3, types, values, NULL) > 0;
	if (!found)
		lh_catalog_run("INSERT INTO lakehouse.file (source_id, path, size, mtime, mtime_ns, state, error)"
					   " VALUES ($1, $2, 0, 'epoch', 0, 'skipped', $3)",
					   3, types, values, NULL);
	lh_catalog_end(&catalog);
	record_action(source, path, "skip", -1);
	if (!found)
		ereport(NOTICE,
				(errmsg("source \"%s\" has not seen a file \"%s\" yet", source->name, path),
				 errdetail("It will be skipped when it comes.")));
	PG_RETURN_VOID();
}

/*
 * lakehouse.undo_file(source, path) takes back all that was loaded of a path.
 */
Datum
lakehouse_undo_file(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	char	   *path;
	LhSource   *source = find_file_source(fcinfo, &path);
	Datum		values[2] = {Int32GetDatum(source->source_id), CStringGetTextDatum(path)};
	LhCatalog	catalog;
	LhIdentity	identity;
	bool		found;
	int64		deleted;

	lh_catalog_begin(&catalog);
	found = lh_catalog_run("SELECT 1 FROM lakehouse.file"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2 AND ended IS NULL",
						   2, types, values, NULL) > 0;
	lh_catalog_end(&catalog);
	if (!found)
		refuse_unknown(source, path);
	lh_identity_role(&identity, source->owner, "pg_catalog, pg_temp");
	deleted = lh_file_take_back(source->source_id, path, 0);
	lh_identity_restore(&identity);
	record_action(source, path, "undo", deleted);
	PG_RETURN_INT64(deleted);
}

/*
 * lakehouse.verify_files(source) reads the loaded bytes of each file once more.
 */
Datum
lakehouse_verify_files(PG_FUNCTION_ARGS)
{
	LhSource   *source = find_file_source(fcinfo, NULL);
	LhIdentity	identity;

	InitMaterializedSRF(fcinfo, 0);
	if (!OidIsValid(source->server))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server of source \"%s\" does not exist any more", source->name)));
	lh_identity_role(&identity, source->owner, "pg_catalog, pg_temp");
	add_verdicts((ReturnSetInfo *) fcinfo->resultinfo, source);
	lh_identity_restore(&identity);
	return (Datum) 0;
}

/*
 * add_verdicts goes through the entries of a source in bounded pieces.
 */
static void
add_verdicts(ReturnSetInfo *rsinfo, const LhSource *source)
{
	static const Oid types[] = {INT4OID, INT8OID, INT4OID};
	LhDescriptor *root = lh_file_root_open(source->server);
	MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "lakehouse verify files",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(chunk);
	int64		last = 0;
	uint64		count;

	do
	{
		Datum		values[3] = {Int32GetDatum(source->source_id), Int64GetDatum(last), Int32GetDatum(VERIFY_CHUNK)};
		char	   *paths[VERIFY_CHUNK];
		int64		positions[VERIFY_CHUNK];
		int64		hashes[VERIFY_CHUNK];
		LhCatalog	catalog;

		lh_catalog_begin(&catalog);
		count = lh_catalog_run("SELECT file_id, path, \"position\", hash FROM lakehouse.file"
							   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND file_id OPERATOR(pg_catalog.>) $2"
							   "   AND ended IS NULL AND hash IS NOT NULL"
							   "   AND state OPERATOR(pg_catalog.<>) 'undone'"
							   " ORDER BY file_id LIMIT $3",
							   3, types, values, NULL);
		for (uint64 row = 0; row < count; row++)
		{
			last = lh_catalog_int64(row, 1, 0);
			paths[row] = lh_catalog_text(row, 2, chunk);
			positions[row] = lh_catalog_int64(row, 3, 0);
			hashes[row] = lh_catalog_int64(row, 4, 0);
		}
		lh_catalog_end(&catalog);
		for (uint64 row = 0; row < count; row++)
			verify_file(rsinfo, root, paths[row], positions[row], hashes[row]);
		MemoryContextReset(chunk);
	} while (count == VERIFY_CHUNK);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(chunk);
}

static void
verify_file(ReturnSetInfo *rsinfo, LhDescriptor *root, const char *path,
			int64 position, int64 hash)
{
	LhDescriptor *descriptor = lh_file_open(root, path);
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	const char *detail;

	CHECK_FOR_INTERRUPTS();
	values[1] = BoolGetDatum(false);
	if (descriptor == NULL)
	{
		nulls[1] = true;
		detail = psprintf("could not open the file: %s", strerror(errno));
	}
	else if (descriptor->status.st_size < position)
		detail = psprintf("the file has " INT64_FORMAT " bytes; " INT64_FORMAT " were loaded",
						  (int64) descriptor->status.st_size, position);
	else
	{
		int64		blocks = 0;
		bool		same = lh_file_hash(descriptor->fd, path, 0, position, &blocks) == hash;

		values[1] = BoolGetDatum(same);
		detail = psprintf(same ? "the " INT64_FORMAT " bytes that were loaded are as they were" :
						  "the " INT64_FORMAT " bytes that were loaded are not those of the file now", position);
	}
	values[0] = CStringGetTextDatum(path);
	values[2] = CStringGetTextDatum(detail);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	if (descriptor != NULL)
		lh_descriptor_close(descriptor);
}
