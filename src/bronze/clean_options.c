/*
 * clean_options.c
 *	  Options of a source that tell what becomes of files after their load.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/clean_options.h"
#include "bronze/file_ingest.h"
#include "bronze/file_options.h"
#include "catalog/options.h"
#include "source/file_filter.h"
#include "source/file_root.h"

#define DEFAULT_RETENTION "30 days"

/* in the order of LhCleanMode */
static const char *const mode_names[] = {"off", "move", "delete", NULL};

const char *const lh_clean_option_names[] = {"clean_source", "clean_source_apply_to_past",
"clean_source_move_target", "clean_source_retention", NULL};

/* Auto Loader's names */
static const LhOptionAlias aliases[] = {
	{"cleansource.movedestination", "clean_source_move_target"},
	{"cleansource.retentionduration", "clean_source_retention"},
	{"cleansourcemovedestination", "clean_source_move_target"},
	{"cleansourceretentionduration", "clean_source_retention"},
	{NULL, NULL}
};

static void check_target(Oid server, const LhFileSelection *selection, const char *target);

const char *
lh_clean_mode_name(LhCleanMode mode)
{
	return mode == LH_CLEAN_OFF ? NULL : mode_names[mode];
}

static Jsonb *
canonical(Jsonb *options)
{
	return lh_options_canonical(options, lh_clean_option_names, aliases);
}

/*
 * parse_retention reads an interval; raises 22007 for what is none.
 */
static Interval *
parse_retention(const char *text)
{
	Interval	zero = {0};
	Interval   *result = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
															   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

	if (DatumGetInt32(DirectFunctionCall2(interval_cmp, IntervalPGetDatum(result), IntervalPGetDatum(&zero))) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"clean_source_retention\""),
				 errdetail("\"%s\" is less than zero.", text),
				 errhint("Write it as \"30 days\" or \"12 hours\".")));
	return result;
}

void
lh_clean_options_parse(Jsonb *options, LhCleanOptions *result)
{
	char	   *mode;
	int			i = 0;

	options = canonical(options);
	memset(result, 0, sizeof(*result));
	mode = lh_options_text(options, "clean_source", mode_names[0]);
	while (mode_names[i] != NULL && pg_strcasecmp(mode_names[i], mode) != 0)
		i++;
	if (mode_names[i] == NULL)
		lh_options_refuse(mode, mode_names, "value of option \"clean_source\"");
	result->mode = (LhCleanMode) i;
	result->retention = parse_retention(lh_options_text(options, "clean_source_retention", DEFAULT_RETENTION));
	result->target = lh_options_text(options, "clean_source_move_target", NULL);
	result->apply_to_past = lh_options_bool(options, "clean_source_apply_to_past", false);
	if (result->target == NULL)
		return;
	if (result->target[0] != '/' || strlen(result->target) >= MAXPGPATH || !lh_path_is_plain(result->target))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"clean_source_move_target\""),
				 errdetail("\"%s\" is no absolute path without \".\" and \"..\".", result->target)));
	canonicalize_path(result->target);
}

Jsonb *
lh_clean_options_remove(Jsonb *options)
{
	Datum		result = JsonbPGetDatum(canonical(options));

	for (int i = 0; lh_clean_option_names[i] != NULL; i++)
		result = DirectFunctionCall2(jsonb_delete, result, CStringGetTextDatum(lh_clean_option_names[i]));
	return DatumGetJsonbP(result);
}

void
lh_clean_check_role(Oid role, const char *source)
{
	if (has_privs_of_role(role, ROLE_PG_WRITE_SERVER_FILES))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 source ? errmsg("owner of source \"%s\" may not move or delete files", source) :
			 errmsg("permission denied to move or delete files"),
			 errdetail("Role \"%s\" is neither a superuser nor a member of pg_write_server_files.",
					   GetUserNameFromId(role, false)),
			 errhint("Grant pg_write_server_files to the role, or set option \"clean_source\" to \"off\".")));
}

void
lh_clean_options_check(Oid server, const char *path, Jsonb *options)
{
	LhCleanOptions clean;
	LhFileOptions files;

	lh_clean_options_parse(options, &clean);
	if (clean.mode == LH_CLEAN_OFF)
		return;
	lh_file_options_parse(options, path, false, &files);
	if (files.on_change == LH_CHANGE_TAIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"clean_source\" cannot be used together with \"on_change\" = \"tail\""),
				 errdetail("Files that are continued are never finished.")));
	lh_clean_check_role(GetUserId(), NULL);
	if (clean.target != NULL)
		check_target(server, &files.selection, clean.target);
	else if (clean.mode == LH_CLEAN_MOVE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"clean_source_move_target\" must be given"),
				 errdetail("It names the directory that loaded files are moved to.")));
}

/*
 * check_target raises unless files may be moved to the directory, out of the
 * sight of the source.
 */
static void
check_target(Oid server, const LhFileSelection *selection, const char *target)
{
	LhDescriptor *root;
	LhDescriptor *directory;
	const char *within;
	int			depth;

	directory = lh_root_open_unlinked(target, GetUserId());
	if (directory == NULL || faccessat(directory->fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open directory \"%s\" for moved files: %m", target),
				 errhint("It must exist, be writable by the operating system user of the server, and no symbolic link may lead to it.")));
	root = lh_file_root_open(server);
	within = lh_path_beneath(lh_root_real_path(directory), lh_root_real_path(root));
	if (within != NULL &&
		lh_file_filter_directory(lh_file_filter_create(selection), within, &depth) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("directory \"%s\" cannot take moved files", target),
				 errdetail("The source would read them again: its path \"%s\" reaches into it.", selection->path),
				 errhint("Name a directory outside of the server's directory, or one whose name begins with \".\" or \"_\".")));
	lh_descriptor_close(directory);
	lh_descriptor_close(root);
}
