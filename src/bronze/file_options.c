/*
 * file_options.c
 *	  Options of a source that concern its files and not their format.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/builtins.h"

#include "bronze/clean_options.h"
#include "bronze/file_options.h"
#include "bronze/file_schema.h"
#include "bronze/reject_limit.h"
#include "catalog/options.h"
#include "source/inflate.h"

#define DEFAULT_SETTLE_MS 500

/* most workers that one source may ask for */
#define MAX_SOURCE_WORKERS 64

/* in the order of LhOnChange */
static const char *const change_names[] = {"ignore", "error", "append_again", "replace", "tail", NULL};

/* whether a file that cannot be loaded stops the source */
static const char *const error_names[] = {"continue", "error", NULL};

/*
 * choose reads an option that takes one of some names.
 */
static int
choose(Jsonb *options, const char *name, const char *const *names)
{
	char	   *value = lh_options_text(options, name, names[0]);

	for (int i = 0; names[i] != NULL; i++)
		if (strcmp(names[i], value) == 0)
			return i;
	lh_options_refuse(value, names, psprintf("value of option \"%s\"", name));
}

void
lh_file_options_parse(Jsonb *options, bool continuous, LhFileOptions *result)
{
	memset(result, 0, sizeof(*result));
	result->settle_us = 1000 * lh_options_int(options, "settle_ms",
											  continuous ? DEFAULT_SETTLE_MS : 0, 0, INT_MAX);
	/* the scheduler reads it as well */
	result->workers = (int) lh_options_int(options, "workers", 1, 1, MAX_SOURCE_WORKERS);
	result->on_change = (LhOnChange) choose(options, "on_change", change_names);
	result->stop_on_error = choose(options, "on_file_error", error_names) == 1;
	result->max_attempts = (int32) lh_options_int(options, "max_attempts", 0, 1, INT_MAX);
}

/*
 * lh_file_reader_options leaves what a reader is to know.
 */
Jsonb *
lh_file_reader_options(Jsonb *options)
{
	static const char *const ours[] = {"max_attempts", "metadata", "on_change", "on_file_error", "settle_ms", "workers"};
	Datum		result = JsonbPGetDatum(lh_clean_options_remove(options));

	for (int i = 0; i < lengthof(ours); i++)
		result = DirectFunctionCall2(jsonb_delete, result, CStringGetTextDatum(ours[i]));
	for (int i = 0; lh_inflate_option_names[i] != NULL; i++)
		result = DirectFunctionCall2(jsonb_delete, result, CStringGetTextDatum(lh_inflate_option_names[i]));
	for (int i = 0; lh_reject_limit_option_names[i] != NULL; i++)
		result = DirectFunctionCall2(jsonb_delete, result, CStringGetTextDatum(lh_reject_limit_option_names[i]));
	for (int i = 0; lh_file_schema_options[i] != NULL; i++)
		result = DirectFunctionCall2(jsonb_delete, result, CStringGetTextDatum(lh_file_schema_options[i]));
	return DatumGetJsonbP(result);
}
