/*
 * file_content.c
 *	  Files that are known by their content: option identity = "content".
 *
 * The content of a file is the SHA-256 of its bytes as they lie there.  It is
 * taken before the first load, and column "content" of the entry claims it in
 * the transaction of that load: whoever comes with the same bytes is a duplicate
 * and is not loaded.  An undone file keeps its claim, as it is not loaded again
 * either.  Versions whose rows were taken back for another one give it up.
 *
 * Invariant: of the entries of a source one at most claims a content.  A unique
 * index says so; workers that share a source do not run into it, because who
 * reads a content holds its lock to the end of the transaction, and who does not
 * get the lock leaves the file for later instead of waiting.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/file_content.h"
#include "bronze/file_hash.h"
#include "catalog/catalog_access.h"
#include "fault.h"

/* bytes that are read at once */
#define READ_SIZE 65536

static void digest_file(int fd, const char *name, int64 size, LhContent *content);
static LhContentVerdict judge_owner(int32 source_id, const LhLedgerFile *file, int64 *owner);
static void take_over(int32 source_id, int64 owner, int64 file_id);

static Datum
make_content(const LhContent *content)
{
	bytea	   *value = palloc(VARHDRSZ + sizeof(content->digest));

	SET_VARSIZE(value, VARHDRSZ + sizeof(content->digest));
	memcpy(VARDATA(value), content->digest, sizeof(content->digest));
	return PointerGetDatum(value);
}

LhContentVerdict
lh_content_judge(int32 source_id, bool shared, const LhLedgerFile *file,
				 int fd, int64 size, LhContent *content, int64 *owner)
{
	static const Oid types[] = {INT4OID, BYTEAOID, INT8OID};
	Datum		values[3];
	int32		lock;
	LhContentVerdict verdict = LH_CONTENT_NEW;
	LhCatalog	catalog;

	digest_file(fd, file->path, size, content);
	memcpy(&lock, content->digest, sizeof(lock));
	if (shared && !lh_catalog_lock(LH_LOCK_CONTENT, lock, false))
		return LH_CONTENT_BUSY;
	values[0] = Int32GetDatum(source_id);
	values[1] = make_content(content);
	values[2] = Int64GetDatum(file->file_id);
	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	if (lh_catalog_read_latest("SELECT f.file_id, f.path, f.state, f.\"position\", f.size,"
							   "   (f.\"position\" OPERATOR(pg_catalog.>=) f.size AND NOT EXISTS (SELECT FROM lakehouse.file_range r"
							   "     WHERE r.source_id OPERATOR(pg_catalog.=) $1 AND r.file_id OPERATOR(pg_catalog.=) f.file_id))::pg_catalog.int4"
							   " FROM lakehouse.file f WHERE f.source_id OPERATOR(pg_catalog.=) $1"
							   "   AND f.content OPERATOR(pg_catalog.=) $2 AND f.file_id OPERATOR(pg_catalog.<>) $3",
							   3, types, values, NULL) > 0)
		verdict = judge_owner(source_id, file, owner);
	lh_catalog_end(&catalog);
	return verdict;
}

/*
 * judge_owner judges by the entry that claims the content, which was read.  What
 * a person wants loaded in place of its rows is no duplicate of itself, nor of
 * what was undone.
 */
static LhContentVerdict
judge_owner(int32 source_id, const LhLedgerFile *file, int64 *owner)
{
	char	   *path = lh_catalog_text(0, 2, CurrentMemoryContext);
	char	   *state = lh_catalog_text(0, 3, CurrentMemoryContext);

	*owner = lh_catalog_int64(0, 1, 0);
	if (file->replaces && strcmp(path, file->path) == 0)
		return LH_CONTENT_NEW;
	if (strcmp(state, "undone") == 0)
	{
		if (!file->replaces)
			return LH_CONTENT_DUPLICATE;
		take_over(source_id, *owner, file->file_id);
		return LH_CONTENT_NEW;
	}
	if (lh_catalog_int64(0, 6, 0) != 0)
		return LH_CONTENT_DUPLICATE;
	if (strcmp(state, "loading") == 0)
		return LH_CONTENT_BUSY;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the file has the content of \"%s\", of which " INT64_FORMAT " of " INT64_FORMAT " bytes are loaded and which is %s",
					path, lh_catalog_int64(0, 4, 0), lh_catalog_int64(0, 5, 0), state),
			 errhint("Let that file be loaded to its end, or use lakehouse.undo_file for it and lakehouse.reingest_file for this one.")));
}

/*
 * take_over takes the content and the duplicates from an entry without rows; the
 * caller holds the catalog bracket.
 */
static void
take_over(int32 source_id, int64 owner, int64 file_id)
{
	static const Oid types[] = {INT4OID, INT8OID, INT8OID};
	Datum		values[3] = {Int32GetDatum(source_id), Int64GetDatum(owner), Int64GetDatum(file_id)};

	lh_catalog_run("UPDATE lakehouse.file SET content = NULL WHERE file_id OPERATOR(pg_catalog.=) $1",
				   1, types + 1, values + 1, NULL);
	lh_catalog_run("UPDATE lakehouse.file SET duplicate_of = $3"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND duplicate_of OPERATOR(pg_catalog.=) $2"
				   "   AND state OPERATOR(pg_catalog.=) 'duplicate' AND ended IS NULL",
				   3, types, values, NULL);
}

/*
 * digest_file reads all that the file has now; what it has when it is read again
 * is compared with size and time, as for every file.
 */
static void
digest_file(int fd, const char *name, int64 size, LhContent *content)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	uint8	   *buffer = palloc(READ_SIZE);
	bool		fine = hash != NULL && pg_cryptohash_init(hash) >= 0;

	PG_TRY();
	{
		for (int64 position = 0; fine && position < size; position += READ_SIZE)
		{
			size_t		length = Min(READ_SIZE, size - position);

			lh_file_read_exactly(fd, name, (char *) buffer, length, position);
			fine = pg_cryptohash_update(hash, buffer, length) >= 0;
		}
		fine = fine && pg_cryptohash_final(hash, content->digest, sizeof(content->digest)) >= 0;
		if (!fine)
			elog(ERROR, "could not compute SHA-256 of file \"%s\"", name);
	}
	PG_FINALLY();
	{
		pg_cryptohash_free(hash);
	}
	PG_END_TRY();
	pfree(buffer);
}

void
lh_content_claim(const LhLedgerFile *file, const LhContent *content)
{
	static const Oid types[] = {INT8OID, BYTEAOID};
	Datum		values[2] = {Int64GetDatum(file->file_id), make_content(content)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	lh_catalog_run("UPDATE lakehouse.file SET content = $2 WHERE file_id OPERATOR(pg_catalog.=) $1",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
	LH_FAULT("content-claimed");
}

void
lh_content_set_duplicate(int64 file_id, int64 owner, int64 size, int64 mtime_ns)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		values[4] = {Int64GetDatum(file_id), Int64GetDatum(owner), Int64GetDatum(size),
	Int64GetDatum(mtime_ns)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	lh_catalog_run("UPDATE lakehouse.file SET state = 'duplicate', duplicate_of = $2, size = $3, mtime_ns = $4,"
				   "  mtime = pg_catalog.to_timestamp($4 OPERATOR(pg_catalog./) 1000000000.0::pg_catalog.float8),"
				   "  replaces = false, attempts = 0, sqlstate = NULL, error = NULL, retry_at = NULL"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
	LH_FAULT("content-duplicate");
}

void
lh_content_wait(int64 file_id, int64 wait_us)
{
	static const Oid types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int64GetDatum(file_id), TimestampTzGetDatum(GetCurrentTimestamp() + wait_us)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	lh_catalog_run("UPDATE lakehouse.file SET retry_at = $2 WHERE file_id OPERATOR(pg_catalog.=) $1",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
}

void
lh_content_release(int32 source_id, const char *path, int64 keep)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8OID};
	Datum		values[3] = {Int32GetDatum(source_id), CStringGetTextDatum(path), Int64GetDatum(keep)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	lh_catalog_run("WITH o AS (UPDATE lakehouse.file SET content = NULL"
				   "  WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2"
				   "    AND file_id OPERATOR(pg_catalog.<>) $3 AND content IS NOT NULL RETURNING file_id)"
				   " UPDATE lakehouse.file f SET state = 'discovered', discovered = pg_catalog.clock_timestamp(), retry_at = NULL"
				   "  FROM o WHERE f.source_id OPERATOR(pg_catalog.=) $1 AND f.duplicate_of OPERATOR(pg_catalog.=) o.file_id"
				   "   AND f.state OPERATOR(pg_catalog.=) 'duplicate' AND f.ended IS NULL AND f.file_id OPERATOR(pg_catalog.<>) $3",
				   3, types, values, NULL);
	lh_catalog_end(&catalog);
}
