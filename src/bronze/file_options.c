/*
 * file_options.c
 *	  Options of a source that concern its files and not their format.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/clean_options.h"
#include "bronze/file_options.h"
#include "bronze/file_schema.h"
#include "bronze/reject_limit.h"
#include "catalog/catalog_access.h"
#include "catalog/options.h"
#include "convert/convert.h"
#include "source/inflate.h"

#define DEFAULT_SETTLE_MS 500
#define DEFAULT_BACKFILL_US (INT64CONST(10) * SECS_PER_MINUTE * USECS_PER_SEC)

/* most workers that one source may ask for */
#define MAX_SOURCE_WORKERS 64

/* in the order of LhOnChange */
static const char *const change_names[] = {"ignore", "error", "append_again", "replace", "tail", NULL};

/* what a file is known by */
static const char *const identity_names[] = {"path", "content", NULL};

/* whether a file that cannot be loaded stops the source */
static const char *const error_names[] = {"continue", "error", NULL};

/* in the order of LhDiscovery */
static const char *const discovery_names[] = {"auto", "listing", "notify", NULL};

static const char *const order_names[] = {"mtime", "name", NULL};

/* names that are not for us, or not complete yet, unless the source says else */
static char *const default_ignore[] = {"*.tmp", "*.part", "_*", ".*", NULL};

static const char *const option_names[] = {
	"backfill_interval", "discovery", "done_marker", "identity", "ignore", "include_existing",
	"max_attempts", "max_bytes_per_trigger", "max_files_per_trigger", "max_rows_per_batch",
	"metadata", "modified_after", "modified_before", "on_change", "on_file_error", "order_by",
	"path_glob_filter", "settle_ms", "workers", NULL
};

static const LhOptionAlias aliases[] = {
	{"filenamepattern", "path_glob_filter"},
	{"includeexistingfiles", "include_existing"},
	{NULL, NULL}
};

/* what belongs to us, together with what others read of the same options */
static const char *const *const option_groups[] = {
	option_names, lh_inflate_option_names, lh_reject_limit_option_names, lh_file_schema_options
};

static const LhOptionUnit time_units[] = {
	{"millisecond", 1000}, {"ms", 1000},
	{"second", USECS_PER_SEC}, {"sec", USECS_PER_SEC},
	{"minute", SECS_PER_MINUTE * USECS_PER_SEC}, {"min", SECS_PER_MINUTE * USECS_PER_SEC},
	{"hour", USECS_PER_HOUR}, {"day", USECS_PER_DAY}, {"week", 7 * USECS_PER_DAY},
	{NULL, 0}
};

static const LhOptionUnit byte_units[] = {
	{"", 1}, {"b", 1}, {"byte", 1},
	{"k", 1024}, {"kb", 1024},
	{"m", 1024 * 1024}, {"mb", 1024 * 1024},
	{"g", INT64CONST(1024) * 1024 * 1024}, {"gb", INT64CONST(1024) * 1024 * 1024},
	{"t", INT64CONST(1024) * 1024 * 1024 * 1024}, {"tb", INT64CONST(1024) * 1024 * 1024 * 1024},
	{NULL, 0}
};

static void parse_selection(Jsonb *options, const char *path, LhFileSelection *selection);

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
lh_file_options_parse(Jsonb *options, const char *path, bool continuous, LhFileOptions *result)
{
	int			default_settle_ms = DEFAULT_SETTLE_MS;

	memset(result, 0, sizeof(*result));
	parse_selection(options, path, &result->selection);
	/* a marker says that a file is complete */
	if (!continuous || result->selection.marker != NULL)
		default_settle_ms = 0;
	result->settle_us = 1000 * lh_options_int(options, "settle_ms", default_settle_ms, 0, INT_MAX);
	/* the scheduler reads it as well */
	result->workers = (int) lh_options_int(options, "workers", 1, 1, MAX_SOURCE_WORKERS);
	result->on_change = (LhOnChange) choose(options, "on_change", change_names);
	result->by_content = choose(options, "identity", identity_names) == 1;
	if (result->by_content && result->on_change == LH_CHANGE_TAIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"identity\" = \"content\" cannot be used together with \"on_change\" = \"tail\""),
				 errdetail("The content of a file that is continued is never finished.")));
	result->stop_on_error = choose(options, "on_file_error", error_names) == 1;
	result->max_attempts = (int32) lh_options_int(options, "max_attempts", 0, 1, INT_MAX);
	result->discovery = (LhDiscovery) choose(options, "discovery", discovery_names);
	result->backfill_us = lh_options_amount(options, "backfill_interval", DEFAULT_BACKFILL_US, time_units,
											"a number with a unit, for example \"10 minutes\" or \"1 day\"");
	result->include_existing = lh_options_bool(options, "include_existing", true);
	result->by_name = choose(options, "order_by", order_names) == 1;
	result->batch_files = lh_options_int(options, "max_files_per_trigger", 0, 1, PG_INT64_MAX);
	result->batch_bytes = lh_options_amount(options, "max_bytes_per_trigger", 0, byte_units,
											"a number of bytes, or one with a unit, for example \"64MB\"");
	result->batch_rows = lh_options_int(options, "max_rows_per_batch", 0, 1, PG_INT64_MAX);
}

static void
refuse(const char *name, const char *value, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value \"%s\" for option \"%s\"", value, name),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

/*
 * check_name_pattern raises for what is no pattern of one name.
 */
static void
check_name_pattern(const char *option, const char *pattern)
{
	if (strchr(pattern, '/') != NULL || strstr(pattern, "**") != NULL || pattern[0] == '\0' ||
		strlen(pattern) > NAME_MAX)
		refuse(option, pattern, "It is a pattern of a name, without a slash or \"**\".",
			   "Directories belong into the path of the source.");
}

/*
 * get_time reads a time and returns it in nanoseconds since 1970.  Words such as
 * "now" would mean something else at each look.
 */
static int64
get_time(Jsonb *options, const char *name, int64 missing)
{
	FormData_pg_attribute attribute = {.atttypid = TIMESTAMPTZOID, .atttypmod = -1};
	char	   *text = lh_options_text(options, name, NULL);
	LhConverter converter;
	LhIdentity	identity;
	LhError		error;
	Datum		value;
	int64		since_1970;

	if (text == NULL)
		return missing;
	/* the same time in every session */
	lh_identity_role(&identity, GetUserId(), "pg_catalog, pg_temp");
	lh_converter_init(&converter, &attribute, CurrentMemoryContext);
	if (text[0] < '0' || text[0] > '9' ||
		!lh_convert_guarded(&converter, text, (int) strlen(text), &value, &error) ||
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)))
		refuse(name, text, "It is not a time.",
			   "Write it as \"2026-01-31T00:00:00Z\"; without a zone it is in UTC.");
	lh_identity_restore(&identity);
	since_1970 = DatumGetTimestampTz(value) +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	if (since_1970 > PG_INT64_MAX / 1000 || since_1970 < PG_INT64_MIN / 1000)
		refuse(name, text, "It is a time that no file has.",
			   "Write it as \"2026-01-31T00:00:00Z\"; without a zone it is in UTC.");
	return since_1970 * 1000;
}

/*
 * get_marker reads the name of what says that files are complete.
 */
static char *
get_marker(Jsonb *options)
{
	static const char *const hint = "Use \"{name}.done\" for a marker of each file, with \"{stem}\" instead for its name without the extension, or a name such as \"_SUCCESS\" for one of a whole folder.";
	char	   *marker = lh_options_text(options, "done_marker", NULL);
	char	   *place;

	if (marker == NULL)
		return NULL;
	place = strchr(marker, '{');
	if (marker[0] == '\0' || strchr(marker, '/') != NULL || strlen(marker) > NAME_MAX)
		refuse("done_marker", marker, "It is the name of a file in the same folder.", hint);
	if (strcmp(marker, "{name}") == 0 || strcmp(marker, "{stem}") == 0 ||
		strcmp(marker, ".") == 0 || strcmp(marker, "..") == 0)
		refuse("done_marker", marker, "It would be the file itself, or none.", hint);
	if (place != NULL &&
		((strncmp(place, "{name}", 6) != 0 && strncmp(place, "{stem}", 6) != 0) ||
		 strchr(place + 1, '{') != NULL))
		refuse("done_marker", marker, "It may contain \"{name}\" or \"{stem}\" once, and no other brace.", hint);
	return marker;
}

static void
parse_selection(Jsonb *options, const char *path, LhFileSelection *selection)
{
	selection->path = path;
	selection->name = lh_options_text(options, "path_glob_filter", NULL);
	if (selection->name != NULL)
		check_name_pattern("path_glob_filter", selection->name);
	selection->ignore = lh_options_list(options, "ignore", "an array of patterns of names");
	if (selection->ignore == NULL)
		selection->ignore = (char **) default_ignore;
	for (int i = 0; selection->ignore[i] != NULL; i++)
		check_name_pattern("ignore", selection->ignore[i]);
	selection->marker = get_marker(options);
	selection->after_ns = get_time(options, "modified_after", PG_INT64_MIN);
	selection->before_ns = get_time(options, "modified_before", PG_INT64_MAX);
	if (selection->after_ns >= selection->before_ns)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"modified_after\" must be earlier than \"modified_before\""),
				 errdetail("No file is modified after the one and before the other.")));
}

const char *const *
lh_file_option_names(void)
{
	const char **names;
	int			count = 0;

	for (int i = 0; i < lengthof(option_groups); i++)
		for (int j = 0; option_groups[i][j] != NULL; j++)
			count++;
	for (int j = 0; lh_clean_option_names[j] != NULL; j++)
		count++;
	names = palloc(sizeof(char *) * (count + 1));
	count = 0;
	for (int i = 0; i < lengthof(option_groups); i++)
		for (int j = 0; option_groups[i][j] != NULL; j++)
			names[count++] = option_groups[i][j];
	for (int j = 0; lh_clean_option_names[j] != NULL; j++)
		names[count++] = lh_clean_option_names[j];
	names[count] = NULL;
	return names;
}

Jsonb *
lh_file_options_canonical(Jsonb *options)
{
	return lh_options_canonical(options, lh_file_option_names(), aliases);
}

/*
 * lh_file_reader_options leaves what a reader is to know.
 */
Jsonb *
lh_file_reader_options(Jsonb *options)
{
	Datum		result = JsonbPGetDatum(lh_clean_options_remove(options));

	for (int i = 0; i < lengthof(option_groups); i++)
		for (int j = 0; option_groups[i][j] != NULL; j++)
			result = DirectFunctionCall2(jsonb_delete, result,
										 CStringGetTextDatum(option_groups[i][j]));
	return DatumGetJsonbP(result);
}
