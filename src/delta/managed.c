/*
 * managed.c
 *	  Tables that carry _load_id, and the queue of what is already in them.
 *
 * Invariant: in a managed table no row is without a load.  Rows that were there
 * before the table became managed belong to one load of kind "user", recorded
 * in the transaction that added the column.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "delta/delta.h"
#include "delta/load.h"

static void check_can_manage(Relation relation);
static void add_load_column(Oid relation, const char *table, bool updatable);
static void run_ddl(const char *sql);

/*
 * lh_managed_is tells whether the table carries _load_id for us.
 */
bool
lh_managed_is(Oid relation)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(relation);
	LhCatalog	catalog;
	bool		found;

	lh_catalog_begin(&catalog);
	found = lh_catalog_run("SELECT 1 FROM lakehouse.managed_table"
						   " WHERE relation OPERATOR(pg_catalog.=) $1",
						   1, types, &value, NULL) > 0;
	lh_catalog_end(&catalog);
	return found;
}

/*
 * lh_managed_ensure makes the table carry _load_id.  "updatable" says that its
 * rows are expected to be updated: then the column gets a btree index, because
 * a BRIN index needs rows of one load to lie together.
 *
 * Runs as the current user, who must own the table.  Holds AccessExclusiveLock
 * until the end of the transaction if the column had to be added.
 */
void
lh_managed_ensure(Oid relation_id, bool updatable)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(relation_id);
	Relation	relation;
	LhCatalog	catalog;
	char	   *table;

	if (lh_managed_is(relation_id))
		return;

	relation = table_open(relation_id, AccessExclusiveLock);
	check_can_manage(relation);
	table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
									   RelationGetRelationName(relation));

	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.managed_table (relation) VALUES ($1)",
				   1, types, &value, NULL);
	lh_catalog_end(&catalog);
	/* ALTER TABLE refuses a table that its own session has open */
	table_close(relation, NoLock);
	add_load_column(relation_id, table, updatable);
	lh_capture_stamp(relation_id);
}

static void
check_can_manage(Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	char		kind = relation->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 errdetail("Only a table or a partitioned table can carry loads.")));
	if (relation->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partition", name),
				 errhint("Name the partitioned table.")));
	if (relation->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not permanent", name),
				 errdetail("After a crash an unlogged table is empty, but its loads would count as done."),
				 errhint("Use ALTER TABLE ... SET LOGGED.")));
	if (IsCatalogRelation(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a system table", name)));
	if (!lh_compat_table_ownercheck(RelationGetRelid(relation), GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(kind), name);
}

/*
 * add_load_column adds the column in one pass that rewrites nothing: first with
 * the constant number of the load of the rows that are there, then with the
 * default that later rows get.
 */
static void
add_load_column(Oid relation, const char *table, bool updatable)
{
	AttrNumber	number = get_attnum(relation, LH_LOAD_COLUMN);
	StringInfoData sql;

	if (number != InvalidAttrNumber &&
		get_atttype(relation, number) != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is not of type bigint",
						LH_LOAD_COLUMN, get_rel_name(relation)),
				 errhint("Rename the column; the name is used for the load of each row.")));

	initStringInfo(&sql);
	if (number == InvalidAttrNumber)
	{
		LhLoad		load = {0};

		load.load_id = lh_load_reserve();
		load.relation = relation;
		load.kind = LH_LOAD_USER;
		load.bytes = -1;
		load.started = GetCurrentTimestamp();

		SPI_connect();
		appendStringInfo(&sql, "SELECT 1 FROM %s LIMIT 1", table);
		if (SPI_execute(sql.data, true, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not read table %s", table);
		load.rows = SPI_processed > 0 ? -1 : 0;
		SPI_finish();

		if (load.rows != 0)
			lh_load_record(&load);
		resetStringInfo(&sql);
		appendStringInfo(&sql, "ALTER TABLE %s ADD COLUMN " LH_LOAD_COLUMN
						 " bigint NOT NULL DEFAULT " INT64_FORMAT,
						 table, load.load_id);
		run_ddl(sql.data);
	}
	resetStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s ALTER COLUMN " LH_LOAD_COLUMN
					 " SET DEFAULT lakehouse.current_load(%s::pg_catalog.regclass),"
					 " ALTER COLUMN " LH_LOAD_COLUMN " SET NOT NULL",
					 table, quote_literal_cstr(table));
	run_ddl(sql.data);
	resetStringInfo(&sql);
	appendStringInfo(&sql, "CREATE INDEX ON %s USING %s",
					 table, updatable ? "btree (" LH_LOAD_COLUMN ")" :
					 "brin (" LH_LOAD_COLUMN ") WITH (autosummarize = on)");
	run_ddl(sql.data);
}

static void
run_ddl(const char *sql)
{
	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", sql);
	SPI_finish();
}

/*
 * lh_pending_enqueue_existing queues for a flow all loads that its input has
 * now.  Locks out writers of the input until the end of the transaction, so
 * that a load is either found here or finds the flow.
 */
void
lh_pending_enqueue_existing(int32 flow_id, Oid input)
{
	static const Oid types[] = {INT4OID, OIDOID};
	Datum		values[2];
	LhCatalog	catalog;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot create a flow in a transaction of isolation level REPEATABLE READ or SERIALIZABLE"),
				 errdetail("Loads that committed after the transaction began would be missed."),
				 errhint("Use READ COMMITTED.")));
	LockRelationOid(input, ShareRowExclusiveLock);
	values[0] = Int32GetDatum(flow_id);
	values[1] = ObjectIdGetDatum(input);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.pending (flow_id, input, load_id)"
				   " SELECT $1, relation, load_id FROM lakehouse.load"
				   " WHERE relation OPERATOR(pg_catalog.=) $2"
				   " AND rows IS DISTINCT FROM 0"
				   " ON CONFLICT DO NOTHING",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);
}
