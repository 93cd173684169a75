/*
 * clean_others.c
 *	  Whether every source that reads a file has finished it.
 *
 * Invariant: a file is out of use only if each source of the database, whoever
 * owns it and whether or not it runs, that takes the file by its path and options
 * has loaded it as it is, or was told by a person not to.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "bronze/clean_internal.h"
#include "bronze/file_options.h"
#include "catalog/catalog_access.h"
#include "source/file_filter.h"
#include "source/file_root.h"
#include "source/server.h"

/* Another source of files. */
typedef struct OtherSource
{
	int32		source_id;
	char	   *name;			/* NULL: not for the owner's eyes */
	char	   *root;			/* without links */
	LhFileFilter *filter;
} OtherSource;

/*
 * read_filter tells which files another source takes.
 */
static LhFileFilter *
read_filter(const char *path, const char *options)
{
	LhFileOptions *files = palloc(sizeof(LhFileOptions));

	lh_file_options_parse(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(options))),
						  path, false, files);
	return lh_file_filter_create(&files->selection);
}

/*
 * lh_clean_find_others lists the other sources whose directories exist, in the
 * current context.
 */
List *
lh_clean_find_others(const LhSource *source)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(source->source_id);
	MemoryContext context = CurrentMemoryContext;
	List	   *others = NIL;
	LhCatalog	catalog;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_read_latest("SELECT source_id, name, owner, server, path, options FROM lakehouse.source"
								   " WHERE kind OPERATOR(pg_catalog.=) 'files' AND source_id OPERATOR(pg_catalog.<>) $1",
								   1, types, &value, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);
		OtherSource *other = palloc(sizeof(OtherSource));
		char	   *server = lh_catalog_text(row, 4, context);
		const char *directory = lh_server_directory_of(get_foreign_server_oid(server, true));
		char		real[PATH_MAX + 1];

		if (directory != NULL && realpath(directory, real) != NULL)
		{
			other->source_id = (int32) lh_catalog_int64(row, 1, 0);
			other->name = has_privs_of_role(source->owner, lh_catalog_oid(row, 3)) ?
				lh_catalog_text(row, 2, context) : NULL;
			other->filter = read_filter(lh_catalog_text(row, 5, context), lh_catalog_text(row, 6, context));
			other->root = pstrdup(real);
			others = lappend(others, other);
		}
		MemoryContextSwitchTo(spi);
	}
	lh_catalog_end(&catalog);
	return others;
}

/*
 * has_finished locks the entry of the other source, so that it stays finished
 * until the end of the transaction.
 */
static bool
has_finished(const OtherSource *other, const char *path, const LhCleanFile *file)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8OID, INT8OID};
	Datum		values[4] = {Int32GetDatum(other->source_id), CStringGetTextDatum(path),
	Int64GetDatum(file->size), Int64GetDatum(file->mtime_ns)};
	LhCatalog	catalog;
	bool		finished;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	finished = lh_catalog_run("SELECT 1 FROM lakehouse.file"
							  " WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2 AND ended IS NULL"
							  "   AND ((state OPERATOR(pg_catalog.=) 'loaded' AND seen_size IS NULL"
							  "         AND size OPERATOR(pg_catalog.=) $3 AND mtime_ns OPERATOR(pg_catalog.=) $4)"
							  "        OR (state OPERATOR(pg_catalog.=) 'skipped' AND sqlstate IS NULL)"
							  "        OR (state OPERATOR(pg_catalog.=) 'duplicate' AND size OPERATOR(pg_catalog.=) $3 AND mtime_ns OPERATOR(pg_catalog.=) $4)"
							  "        OR state OPERATOR(pg_catalog.=) 'undone')"
							  " FOR SHARE SKIP LOCKED", 4, types, values, NULL) > 0;
	lh_catalog_end(&catalog);
	return finished;
}

const char *
lh_clean_unfinished(const LhCleanPass *pass, const LhCleanFile *file)
{
	ListCell   *cell;

	foreach(cell, pass->others)
	{
		const OtherSource *other = lfirst(cell);
		const char *path = lh_path_beneath(psprintf("%s/%s", pass->real_root[1] ? pass->real_root : "", file->path),
										   other->root);

		if (path == NULL || !lh_file_filter_wants(other->filter, path, file->mtime_ns) || has_finished(other, path, file))
			continue;
		return other->name == NULL ? "another source reads the file and has not finished it" :
			psprintf("source \"%s\" reads the file and has not finished it", other->name);
	}
	return NULL;
}
