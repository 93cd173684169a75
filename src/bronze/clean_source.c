/*
 * clean_source.c
 *	  CALL lakehouse.clean_source: cleaning up by hand.
 *
 * A procedure and not a function, because it has to commit before it acts.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"

#include "bronze/clean.h"
#include "catalog/catalog_access.h"

PG_FUNCTION_INFO_V1(lakehouse_clean_source);

static void
begin(void)
{
	EnsurePortalSnapshotExists();
}

static void
commit(void)
{
	SPI_commit();
}

static const LhCleanTransaction transaction = {begin, commit};

/*
 * find_source returns the number of a source that the caller may run.
 */
static int32
find_source(const char *name)
{
	LhSource   *source = lh_source_find(name);

	lh_catalog_check_owner(source->owner, "source", source->name);
	if (source->is_kafka)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s\" does not read files", source->name)));
	lh_source_check_can_run(source);
	lh_clean_hurry(source->source_id);
	return source->source_id;
}

/*
 * lakehouse.clean_source(source)
 */
Datum
lakehouse_clean_source(PG_FUNCTION_ARGS)
{
	LhCleanCounts counts = {0};
	char	   *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must be given", "source")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("lakehouse.clean_source cannot run inside a transaction block or a function"),
				 errdetail("It touches a file only after a commit.")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	{
		int32		source_id = find_source(name);

		SPI_commit();
		lh_clean_run(source_id, &transaction, NULL, &counts);
	}
	SPI_finish();
	ereport(NOTICE,
			(errmsg("source \"%s\": " INT64_FORMAT " files moved, " INT64_FORMAT " deleted, "
					INT64_FORMAT " left, " INT64_FORMAT " waiting for other sources, " INT64_FORMAT " failed",
					name, counts.moved, counts.deleted, counts.left, counts.waiting, counts.failed)));
	PG_RETURN_VOID();
}
