/*
 * file_discovery.c
 *	  What looking for the files of a source comes to: table lakehouse.discovery.
 *
 * Invariant: nothing depends on it; it is for people.  It is written at the end
 * of a batch, with the source's loads: workers that share a source hold its row
 * no longer than their commit takes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/file_discovery.h"
#include "catalog/catalog_access.h"

static ArrayType *
make_texts(const List *texts)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	ListCell   *cell;

	foreach(cell, texts)
		values[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	return construct_array(values, list_length(texts), TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * make_printable replaces what cannot stand in a text value.
 */
static List *
make_printable(const List *texts)
{
	List	   *result = NIL;
	ListCell   *cell;
	bool		valid;

	foreach(cell, texts)
		result = lappend(result, unconstify(char *, lh_file_printable(lfirst(cell), &valid)));
	return result;
}

/*
 * warn_unreadable says once what directories cannot be read; the caller holds
 * the catalog bracket.
 */
static void
warn_unreadable(int32 source_id, ArrayType *unreadable, MemoryContext context)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID};
	Datum		values[2] = {Int32GetDatum(source_id), PointerGetDatum(unreadable)};
	uint64		count;

	count = lh_catalog_run("SELECT u FROM pg_catalog.unnest($2) u"
						   " WHERE u OPERATOR(pg_catalog.<>) ALL (COALESCE("
						   "   (SELECT d.unreadable FROM lakehouse.discovery d"
						   "     WHERE d.source_id OPERATOR(pg_catalog.=) $1), '{}'::pg_catalog.text[]))",
						   2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("could not read directory \"%s\"", lh_catalog_text(row, 1, context)),
				 errdetail("Files in it are not seen; the others of the source are.")));
}

void
lh_discovery_store(int32 source_id, LhDiscoveryNews *news)
{
	static const Oid types[] = {INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		BOOLOID, INT4OID, TIMESTAMPTZOID, FLOAT8OID, INT8OID, INT8OID, TEXTARRAYOID};
	MemoryContext context = CurrentMemoryContext;
	ArrayType  *unreadable;
	Datum		values[14];
	LhCatalog	catalog;

	if (news->listings == 0 && news->looks == 0)
		return;
	unreadable = make_texts(make_printable(news->counts.unreadable));
	values[0] = Int32GetDatum(source_id);
	values[1] = Int64GetDatum(news->listings);
	values[2] = Int64GetDatum(news->looks);
	values[3] = Int64GetDatum(news->looked_at);
	values[4] = Int64GetDatum(news->found_told);
	values[5] = Int64GetDatum(news->found_listed);
	values[6] = Int64GetDatum(news->found_backfill);
	values[7] = BoolGetDatum(news->watched);
	values[8] = Int32GetDatum(news->directories);
	values[9] = TimestampTzGetDatum(news->listed);
	values[10] = Float8GetDatum((double) news->listing_us / 1000);
	values[11] = Int64GetDatum(news->counts.looked_at);
	values[12] = Int64GetDatum(news->counts.unmarked);
	values[13] = PointerGetDatum(unreadable);
	lh_catalog_begin(&catalog);
	if (news->counts.unreadable != NIL)
		warn_unreadable(source_id, unreadable, context);
	lh_catalog_run("INSERT INTO lakehouse.discovery AS d (source_id) VALUES ($1) ON CONFLICT DO NOTHING",
				   1, types, values, NULL);
	lh_catalog_run("UPDATE lakehouse.discovery SET"
				   "   listings = listings OPERATOR(pg_catalog.+) $2, looks = looks OPERATOR(pg_catalog.+) $3,"
				   "   looked_at = looked_at OPERATOR(pg_catalog.+) $4,"
				   "   found_told = found_told OPERATOR(pg_catalog.+) $5,"
				   "   found_listed = found_listed OPERATOR(pg_catalog.+) $6,"
				   "   found_backfill = found_backfill OPERATOR(pg_catalog.+) $7,"
				   "   watched = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $8 ELSE watched END,"
				   "   directories = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $9 ELSE directories END,"
				   "   listed = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $10 ELSE listed END,"
				   "   listing_ms = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $11 ELSE listing_ms END,"
				   "   listed_files = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $12 ELSE listed_files END,"
				   "   unmarked = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $13 ELSE unmarked END,"
				   "   unreadable = CASE WHEN $2 OPERATOR(pg_catalog.>) 0 THEN $14 ELSE unreadable END"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1",
				   14, types, values, NULL);
	lh_catalog_end(&catalog);
	memset(news, 0, sizeof(*news));
}
