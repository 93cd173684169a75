/*
 * file_ingest.h
 *	  What the definition of a file source needs of file_ingest.c.
 */
#ifndef LH_FILE_INGEST_H
#define LH_FILE_INGEST_H

#include "access/tupdesc.h"
#include "utils/jsonb.h"

/* raises for options that a file source of this format cannot have */
extern void lh_file_source_validate(const char *format, Jsonb *options, TupleDesc tupdesc);

/* the options without those that concern the file and not its format */
extern Jsonb *lh_file_reader_options(Jsonb *options);

#endif							/* LH_FILE_INGEST_H */
