/*
 * reject_limit.c
 *	  How many bad records a file may have: options mode, max_rejects and
 *	  max_reject_ratio.
 *
 * Invariant: a limit that is crossed raises inside the subtransaction of the
 * file's only load, so that nothing of the file is stored: no row, no reject.
 * Whoever loads files with a limit must load each of them whole.
 */
#include "postgres.h"

#include "bronze/reject_limit.h"
#include "catalog/options.h"

const char *const lh_reject_limit_option_names[] = {"mode", "max_rejects", "max_reject_ratio", NULL};

static const char *const mode_names[] = {"permissive", "dropmalformed", "failfast", NULL};

void
lh_reject_limit_parse(Jsonb *options, LhRejectLimit *limit)
{
	char	   *mode = lh_options_text(options, "mode", mode_names[0]);
	int			number = 0;

	/* names of modes are known in capitals as well */
	while (mode_names[number] != NULL && pg_strcasecmp(mode, mode_names[number]) != 0)
		number++;
	if (mode_names[number] == NULL)
		lh_options_refuse(mode, mode_names, "mode");
	limit->failfast = (number == 2);
	limit->use = number == 1 ? LH_REJECT_DROPPED : LH_REJECT_OPEN;
	limit->max_rejects = lh_options_int(options, "max_rejects", -1, 0, PG_INT64_MAX);
	limit->max_ratio = lh_options_real(options, "max_reject_ratio", 1, 0, 1);
	if (limit->failfast && (limit->max_rejects >= 0 || limit->max_ratio < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode \"failfast\" allows no limit of bad records"),
				 errdetail("With it the first bad record fails a file."),
				 errhint("Leave out \"max_rejects\" and \"max_reject_ratio\", or use another mode.")));
}

bool
lh_reject_limit_is_set(const LhRejectLimit *limit)
{
	return limit->failfast || limit->max_rejects >= 0 || limit->max_ratio < 1;
}

/*
 * describe_first tells of the first bad record, for the end of a message.
 */
static const char *
describe_first(const LhFirstReject *first)
{
	if (first == NULL)
		return "";
	if (first->line <= 0)
		return psprintf("; the first: %s", first->message);
	return psprintf("; the first, in line " INT64_FORMAT ": %s", first->line, first->message);
}

void
lh_reject_limit_check(const LhRejectLimit *limit, const char *path,
					  const LhWriter *writer, const LhWriteCounts *loaded, bool at_end)
{
	LhWriteCounts counts = lh_writer_counts(writer);
	const LhFirstReject *first = lh_writer_first_reject(writer);

	if (limit->failfast && first != NULL)
		ereport(ERROR,
				(errcode(first->sqlstate),
				 errmsg("file \"%s\", line " INT64_FORMAT ": %s", path, first->line, first->message),
				 errhint("With the mode \"permissive\" such records become rejects.")));
	counts.rows += loaded->rows;
	/* bad ones, whether they became rows or not */
	counts.rejected += loaded->rejected + counts.corrupt;
	counts.rows -= counts.corrupt;
	if (limit->max_rejects >= 0 && counts.rejected > limit->max_rejects)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("file \"%s\" has more than " INT64_FORMAT " bad records%s",
						path, limit->max_rejects, describe_first(first)),
				 errhint("Correct the file or the table, or raise the option \"max_rejects\".")));
	if (at_end && limit->max_ratio < 1 &&
		counts.rejected > limit->max_ratio * (counts.rows + counts.rejected))
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("file \"%s\" has " INT64_FORMAT " bad records of " INT64_FORMAT ", more than the ratio of %g allows%s",
						path, counts.rejected, counts.rows + counts.rejected, limit->max_ratio,
						describe_first(first)),
				 errhint("Correct the file or the table, or raise the option \"max_reject_ratio\".")));
}
