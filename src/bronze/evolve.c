/*
 * evolve.c
 *	  New columns for the target of a source (wider types: widen.c).
 *
 * Invariant: a column and its row in lakehouse.schema_change are written by one
 * transaction, that of the batch which found the new field.  Whoever waits for
 * the table's lock keeps all later readers waiting: so we wait for a short time
 * only, let the others pass, and try again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "bronze/evolve.h"
#include "bronze/file_schema.h"
#include "catalog/catalog_access.h"
#include "catalog/subtransaction.h"
#include "compat.h"
#include "fault.h"
#include "guc.h"

#define ATTEMPTS 5
#define PAUSE_MS 100

/*
 * try_lock takes the lock in a subtransaction that it outlives; false when the
 * time is over.
 */
static bool
try_lock(Oid relation)
{
	LhSubtransaction sub;
	volatile bool locked = false;

	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		int			nest = NewGUCNestLevel();
		char		timeout[32];

		snprintf(timeout, sizeof(timeout), "%d", lh_schema_lock_timeout);
		(void) set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		LockRelationOid(relation, AccessExclusiveLock);
		AtEOXact_GUC(false, nest);
		lh_subtransaction_commit(&sub);
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData  *error = lh_subtransaction_caught(&sub);

		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	return locked;
}

void
lh_evolve_lock(Oid relation, const char *purpose, const char *consequence)
{
	for (int attempt = 1; !try_lock(relation); attempt++)
	{
		if (attempt == ATTEMPTS)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("could not lock table \"%s\" to %s", get_rel_name(relation), purpose),
					 errdetail("Others used the table during %d attempts of %d ms.", ATTEMPTS, lh_schema_lock_timeout),
					 errhint("%s; set \"lakehouse.schema_lock_timeout\" to wait longer.", consequence)));
		CHECK_FOR_INTERRUPTS();
		pg_usleep(PAUSE_MS * 1000L * attempt);
	}
}

static void
record_change(const LhSource *source, int64 file_id, const LhNewColumn *column)
{
	static const Oid types[] = {INT4OID, OIDOID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[5];
	LhCatalog	catalog;

	values[0] = Int32GetDatum(source->source_id);
	values[1] = ObjectIdGetDatum(source->target);
	values[2] = Int64GetDatum(file_id);
	values[3] = CStringGetTextDatum(column->name);
	values[4] = CStringGetTextDatum(column->type);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.schema_change (source_id, relation, file_id, change, column_name, column_type)"
				   " VALUES ($1, $2, $3, 'column added', $4, $5)", 5, types, values, NULL);
	lh_catalog_end(&catalog);
}

void
lh_evolve_add_columns(const LhSource *source, int64 file_id, const List *columns)
{
	ListCell   *cell;
	char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(source->target)),
												   get_rel_name(source->target));

	/* nobody's table is locked who does not own it */
	if (!lh_compat_table_ownercheck(source->target, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot add columns to table \"%s\"", get_rel_name(source->target)),
				 errdetail("Role \"%s\", which owns source \"%s\", does not own the table.",
						   GetUserNameFromId(GetUserId(), false), source->name),
				 errhint("Add the columns by hand, or let the table's owner own the source.")));
	lh_evolve_lock(source->target, "add columns", "The file is tried again");
	foreach(cell, columns)
	{
		const LhNewColumn *column = lfirst(cell);
		char	   *sql;

		/* another source may have been faster */
		if (get_attnum(source->target, column->name) != InvalidAttrNumber)
			continue;
		sql = psprintf("ALTER TABLE %s ADD COLUMN %s %s", table,
					   quote_identifier(column->name), column->type);
		SPI_connect();
		if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "statement failed: %s", sql);
		SPI_finish();
		LH_FAULT("evolve-altered");
		record_change(source, file_id, column);
		LH_FAULT("evolve-recorded");
	}
}
