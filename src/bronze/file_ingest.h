/*
 * file_ingest.h
 *	  What the definition of a file source needs of file_ingest.c.
 */
#ifndef LH_FILE_INGEST_H
#define LH_FILE_INGEST_H

#include "access/tupdesc.h"
#include "bronze/file_options.h"
#include "source/file_open.h"
#include "utils/jsonb.h"

/* raises for options that a file source of this format cannot have */
extern void lh_file_source_validate(const char *format, const char *path, Jsonb *options,
									TupleDesc tupdesc);

/* enters the files that are there now as ones not to be loaded; as the owner of
 * the source (file_listing.c) */
struct LhSource;
extern void lh_file_skip_existing(const struct LhSource *source, Jsonb *options);

/* the directory of a server, if its owner may read files; raises otherwise */
extern LhDescriptor *lh_file_root_open(Oid server);

/* raises for what a source of files cannot have, as the current user; fills the
 * format and returns the server (source_ddl.c) */
extern Oid	lh_file_source_check(const char *server_name, const char *path, char **format);

#endif							/* LH_FILE_INGEST_H */
