/*
 * csv_options.h
 *	  The options of the format "csv"; private to the CSV reader.
 */
#ifndef LH_CSV_OPTIONS_H
#define LH_CSV_OPTIONS_H

#include "utils/jsonb.h"

#include "convert/convert_options.h"
#include "source/csv_scan.h"

typedef struct LhCsvOptions
{
	bool		header;			/* first line names the columns */
	bool		ignore_extra_columns;	/* header may name columns we do not have */
	bool		ragged;			/* missing fields are NULL, additional ones dropped */
	char		sep;
	char		quote;			/* 0 = none */
	char		escape;			/* 0 = only a doubled quote */
	char		comment;		/* 0 = none */
	LhCsvWide  *wide;			/* longer marks than those, or NULL */
	char	   *null_value;		/* unquoted text that is NULL */
	char	  **more_nulls;		/* more such texts, ended by NULL; or NULL */
	char	   *empty_value;	/* what a quoted empty field stands for */
	int64		skip_rows;		/* lines to skip at the start of a file */
	int			encoding;		/* of the files */
	bool		replace;		/* wrong bytes of it are replaced */
	int64		max_chars;		/* of a field; -1 = any number */
	LhConvertOptions convert;
} LhCsvOptions;

/* raises 22023 for anything wrong; texts are in the current context */
extern void lh_csv_options_parse(Jsonb *json, LhCsvOptions *options);

#endif							/* LH_CSV_OPTIONS_H */
