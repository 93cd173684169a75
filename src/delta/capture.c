/*
 * capture.c
 *	  Updates and deletes of tables that flows read.
 *
 * Two kinds of triggers on a managed table:
 *
 * lakehouse_stamp, on every one, gives an updated row the load of the
 * transaction that updates it.  So the new version of the row is new for its
 * readers, as a row that was inserted.
 *
 * lakehouse_old_images_*, where a flow keeps groups up to date, put rows that
 * are updated, deleted or truncated away into a side table, with the load that
 * did it.  Such a flow finds there which groups lost a row.
 *
 * Invariant: whoever sees a load pending sees the old images of that load,
 * because one transaction writes both; images are deleted only when no queue
 * holds their load any more.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "delta/capture.h"
#include "delta/delta.h"
#include "delta/load.h"

#define STAMP_TRIGGER "lakehouse_stamp"
#define UPDATE_TRIGGER "lakehouse_old_images_update"
#define DELETE_TRIGGER "lakehouse_old_images_delete"
#define TRUNCATE_TRIGGER "lakehouse_old_images_truncate"
#define OLD_TABLE "lakehouse_old"

PG_FUNCTION_INFO_V1(lakehouse_stamp);
PG_FUNCTION_INFO_V1(lakehouse_keep_old_images);

/* what lakehouse._stamp() remembers of the table it was called for last */
typedef struct StampCache
{
	Oid			relation;
	Oid			managed;		/* the same, or the partitioned table above */
	AttrNumber	column;
} StampCache;

/* whose updates are not captured, and at which depth of triggers */
static LhCaptureSuspended suspended = {InvalidOid, 0};

static Oid	managed_root(Oid relation);
static char *table_name(Oid relation);
static void run_ddl(const char *sql);
static Oid	create_side_table(Oid relation);
static void create_triggers(Oid relation);
static void create_table_triggers(Oid relation);
static void drop_triggers(Oid relation);
static void copy_old_rows(TriggerData *data, Oid images, int64 load_id);
static char *common_columns(Relation relation, Oid images);
static void add_missing_columns(Relation relation, Oid images);

Oid
lh_relation_owner(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * managed_root returns the table that loads are recorded for.
 */
static Oid
managed_root(Oid relation)
{
	return get_rel_relispartition(relation) ? llast_oid(get_partition_ancestors(relation)) : relation;
}

static char *
table_name(Oid relation)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									  get_rel_name(relation));
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
 * lh_capture_stamp gives a table its stamp trigger.  The current user owns the
 * table.
 */
void
lh_capture_stamp(Oid relation)
{
	if (OidIsValid(get_trigger_oid(relation, STAMP_TRIGGER, true)))
		return;
	run_ddl(psprintf("CREATE TRIGGER " STAMP_TRIGGER " BEFORE UPDATE ON %s"
					 " FOR EACH ROW EXECUTE FUNCTION lakehouse._stamp()", table_name(relation)));
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

LhCaptureSuspended
lh_capture_suspend(Oid relation)
{
	LhCaptureSuspended before = suspended;

	suspended.relation = relation;
	/* triggers of a statement run one deeper than it does */
	suspended.depth = trigger_depth() + 1;
	return before;
}

void
lh_capture_resume(LhCaptureSuspended before)
{
	suspended = before;
}

static bool
is_suspended(Oid managed)
{
	return unlikely(suspended.relation == managed) && trigger_depth() == suspended.depth;
}

/*
 * lakehouse._stamp() sets _load_id of an updated row to the transaction's load,
 * unless the statement set it.
 */
Datum
lakehouse_stamp(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	StampCache *cache = fcinfo->flinfo->fn_extra;
	TupleDesc	tupdesc;
	Datum		before;
	Datum		after;
	bool		isnull;
	int64		load_id;
	int			column;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("lakehouse._stamp() must be called as a trigger before update for each row")));
	if (cache == NULL || cache->relation != RelationGetRelid(data->tg_relation))
	{
		cache = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(StampCache));
		cache->relation = RelationGetRelid(data->tg_relation);
		cache->managed = managed_root(cache->relation);
		cache->column = get_attnum(cache->relation, LH_LOAD_COLUMN);
		fcinfo->flinfo->fn_extra = cache;
	}
	if (cache->column == InvalidAttrNumber || is_suspended(cache->managed))
		return PointerGetDatum(data->tg_newtuple);
	tupdesc = RelationGetDescr(data->tg_relation);
	before = heap_getattr(data->tg_trigtuple, cache->column, tupdesc, &isnull);
	after = heap_getattr(data->tg_newtuple, cache->column, tupdesc, &isnull);
	if (isnull || DatumGetInt64(before) != DatumGetInt64(after))
		return PointerGetDatum(data->tg_newtuple);
	load_id = lh_load_current(cache->managed, NULL);
	if (load_id == DatumGetInt64(after))
		return PointerGetDatum(data->tg_newtuple);
	after = Int64GetDatum(load_id);
	column = cache->column;
	return PointerGetDatum(heap_modify_tuple_by_cols(data->tg_newtuple, tupdesc, 1, &column,
													 &after, &isnull));
}

/*
 * lh_capture_images_of returns the side table of a table's old images, or
 * InvalidOid.
 */
Oid
lh_capture_images_of(Oid relation)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(relation);
	LhCatalog	catalog;
	Oid			images = InvalidOid;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT old_images FROM lakehouse.managed_table"
					   " WHERE relation OPERATOR(pg_catalog.=) $1",
					   1, types, &value, NULL) > 0)
		images = lh_catalog_oid(0, 1);
	lh_catalog_end(&catalog);
	return images;
}

/*
 * lh_capture_old_images makes a managed table keep its old images.  The current
 * user must own the table or have the privilege TRIGGER on it.
 */
void
lh_capture_old_images(Oid relation)
{
	static const Oid types[] = {OIDOID, OIDOID};
	Datum		values[2];
	LhCatalog	catalog;
	LhIdentity	saved;
	Oid			images;

	images = lh_capture_images_of(relation);
	if (OidIsValid(images) && get_rel_relkind(relation) != RELKIND_PARTITIONED_TABLE)
		return;
	if (!lh_compat_table_ownercheck(relation, GetUserId()) &&
		pg_class_aclcheck(relation, GetUserId(), ACL_TRIGGER) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to keep old rows of table \"%s\"", get_rel_name(relation)),
				 errdetail("A flow of mode aggregate needs to know what updated and deleted rows of its inputs looked like."),
				 errhint("Ask the table's owner for GRANT TRIGGER ON %s.", table_name(relation))));
	LockRelationOid(relation, ShareRowExclusiveLock);
	if (!OidIsValid(images))
		images = create_side_table(relation);

	values[0] = ObjectIdGetDatum(relation);
	values[1] = ObjectIdGetDatum(images);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.managed_table SET old_images = $2"
				   " WHERE relation OPERATOR(pg_catalog.=) $1",
				   2, types, values, NULL);
	lh_catalog_end(&catalog);

	lh_identity_role(&saved, lh_relation_owner(relation), "pg_catalog, pg_temp");
	create_triggers(relation);
	lh_identity_restore(&saved);
}

/*
 * create_side_table makes the side table as the owner of our schemas, who alone
 * may create there, and gives it to the table's owner.
 */
static Oid
create_side_table(Oid relation)
{
	Oid			namespace = get_namespace_oid("lakehouse_data", false);
	char	   *name = psprintf("old_%u", relation);
	char	   *side;
	Oid			images;
	LhIdentity	saved;

	if (get_attnum(relation, LH_CHANGED_COLUMN) != InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_COLUMN),
				 errmsg("table \"%s\" has a column \"%s\"", get_rel_name(relation), LH_CHANGED_COLUMN),
				 errhint("Rename the column; the name is used for old rows of the table.")));
	/* a restored database may hold a side table of another table's number */
	for (int i = 1; OidIsValid(get_relname_relid(name, namespace)); i++)
		name = psprintf("old_%u_%d", relation, i);
	side = quote_qualified_identifier("lakehouse_data", name);

	lh_identity_extension(&saved);
	run_ddl(psprintf("CREATE TABLE %s (" LH_CHANGED_COLUMN " pg_catalog.int8 NOT NULL)", side));
	run_ddl(psprintf("CREATE INDEX ON %s (" LH_CHANGED_COLUMN ")", side));
	run_ddl(psprintf("COMMENT ON TABLE %s IS %s", side,
					 quote_literal_cstr(psprintf("rows of %s that were updated or deleted, until all flows have seen it",
												 table_name(relation)))));
	run_ddl(psprintf("ALTER TABLE %s OWNER TO %s", side,
					 quote_identifier(GetUserNameFromId(lh_relation_owner(relation), false))));
	lh_identity_restore(&saved);
	images = get_relname_relid(name, namespace);

	lh_identity_role(&saved, lh_relation_owner(relation), "pg_catalog, pg_temp");
	{
		Relation	rel = table_open(relation, NoLock);

		add_missing_columns(rel, images);
		table_close(rel, NoLock);
	}
	lh_identity_restore(&saved);
	return images;
}

/*
 * create_triggers gives a table its triggers.  A partitioned table's do not fire
 * for statements that name a partition, so each partition has them as well;
 * those that are attached later get them when the next flow is created.
 */
static void
create_triggers(Oid relation)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relation, ShareRowExclusiveLock, NULL))
		if (!OidIsValid(get_trigger_oid(lfirst_oid(cell), DELETE_TRIGGER, true)))
			create_table_triggers(lfirst_oid(cell));
}

static void
create_table_triggers(Oid relation)
{
	char	   *table = table_name(relation);

	run_ddl(psprintf("CREATE TRIGGER " UPDATE_TRIGGER " AFTER UPDATE ON %s"
					 " REFERENCING OLD TABLE AS " OLD_TABLE
					 " FOR EACH STATEMENT EXECUTE FUNCTION lakehouse._keep_old_images()", table));
	run_ddl(psprintf("CREATE TRIGGER " DELETE_TRIGGER " AFTER DELETE ON %s"
					 " REFERENCING OLD TABLE AS " OLD_TABLE
					 " FOR EACH STATEMENT EXECUTE FUNCTION lakehouse._keep_old_images()", table));
	run_ddl(psprintf("CREATE TRIGGER " TRUNCATE_TRIGGER " BEFORE TRUNCATE ON %s"
					 " FOR EACH STATEMENT EXECUTE FUNCTION lakehouse._keep_old_images()", table));
}

/*
 * lakehouse._keep_old_images() copies what a statement removed or replaced.
 */
Datum
lakehouse_keep_old_images(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Oid			images;
	Oid			managed;
	int64		load_id;
	LhIdentity	saved;

	if (!CALLED_AS_TRIGGER(fcinfo) || TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		(data->tg_oldtable == NULL && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("lakehouse._keep_old_images() must be called as a trigger for each statement with the old rows")));
	if (data->tg_oldtable != NULL && tuplestore_tuple_count(data->tg_oldtable) == 0)
		return PointerGetDatum(NULL);
	managed = managed_root(RelationGetRelid(data->tg_relation));
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && is_suspended(managed))
		return PointerGetDatum(NULL);
	images = lh_capture_images_of(managed);
	if (!OidIsValid(images))
		return PointerGetDatum(NULL);

	/* a load even if rows were only deleted: readers have to learn of it */
	load_id = lh_load_current(managed, NULL);
	lh_identity_role(&saved, lh_relation_owner(images), "pg_catalog, pg_temp");
	copy_old_rows(data, images, load_id);
	lh_identity_restore(&saved);
	return PointerGetDatum(NULL);
}

static void
copy_old_rows(TriggerData *data, Oid images, int64 load_id)
{
	char	   *columns;

	add_missing_columns(data->tg_relation, images);
	columns = common_columns(data->tg_relation, images);
	SPI_connect();
	if (data->tg_oldtable != NULL && SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not register the old rows");
	if (SPI_execute(psprintf("INSERT INTO %s (%s" LH_CHANGED_COLUMN ") SELECT %s" INT64_FORMAT " FROM %s",
							 table_name(images), columns, columns, load_id,
							 data->tg_oldtable != NULL ? OLD_TABLE :
							 table_name(RelationGetRelid(data->tg_relation))),
					false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not keep old rows of table %s", RelationGetRelationName(data->tg_relation));
	SPI_finish();
}

/*
 * common_columns lists the table's columns, each followed by a comma.
 */
static char *
common_columns(Relation relation, Oid images)
{
	TupleDesc	tupdesc = RelationGetDescr(relation);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (!attribute->attisdropped &&
			get_attnum(images, NameStr(attribute->attname)) != InvalidAttrNumber)
			appendStringInfo(&list, "%s, ", quote_identifier(NameStr(attribute->attname)));
	}
	return list.data;
}

/*
 * add_missing_columns lets the side table follow the table: columns that were
 * added, and types that were changed.
 */
static void
add_missing_columns(Relation relation, Oid images)
{
	TupleDesc	tupdesc = RelationGetDescr(relation);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		const char *name = quote_identifier(NameStr(attribute->attname));
		AttrNumber	number;
		char	   *type;

		if (attribute->attisdropped)
			continue;
		number = get_attnum(images, NameStr(attribute->attname));
		if (number != InvalidAttrNumber && get_atttype(images, number) == attribute->atttypid)
			continue;
		type = format_type_extended(attribute->atttypid, -1,
									FORMAT_TYPE_FORCE_QUALIFY | FORMAT_TYPE_TYPEMOD_GIVEN);
		if (number == InvalidAttrNumber)
			run_ddl(psprintf("ALTER TABLE %s ADD COLUMN %s %s", table_name(images), name, type));
		else
			run_ddl(psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s USING %s::%s",
							 table_name(images), name, type, name, type));
	}
}

static void
drop_triggers(Oid relation)
{
	static const char *const triggers[] = {UPDATE_TRIGGER, DELETE_TRIGGER, TRUNCATE_TRIGGER};
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relation, ShareRowExclusiveLock, NULL))
		for (int i = 0; i < (int) lengthof(triggers); i++)
			if (OidIsValid(get_trigger_oid(lfirst_oid(cell), triggers[i], true)))
				run_ddl(psprintf("DROP TRIGGER %s ON %s", triggers[i], table_name(lfirst_oid(cell))));
}

/*
 * lh_capture_release ends the keeping of old images when no flow needs them any
 * more, and deletes what flows have seen otherwise.
 */
void
lh_capture_release(Oid relation)
{
	static const Oid types[] = {OIDOID};
	Datum		value = ObjectIdGetDatum(relation);
	Oid			images = lh_capture_images_of(relation);
	LhCatalog	catalog;
	LhIdentity	saved;
	bool		needed;

	if (!OidIsValid(images))
		return;
	lh_catalog_begin(&catalog);
	needed = lh_catalog_run("SELECT FROM lakehouse.flow_input i JOIN lakehouse.flow f"
							" ON f.flow_id OPERATOR(pg_catalog.=) i.flow_id"
							" WHERE i.input OPERATOR(pg_catalog.=) $1 AND i.streaming"
							" AND f.mode OPERATOR(pg_catalog.=) ANY ('{aggregate,upsert_kafka}')",
							1, types, &value, NULL) > 0;
	if (!needed)
		lh_catalog_run("UPDATE lakehouse.managed_table SET old_images = NULL"
					   " WHERE relation OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL);
	lh_catalog_end(&catalog);
	if (needed)
	{
		lh_capture_prune(relation);
		return;
	}
	if (get_rel_name(relation) != NULL)
	{
		lh_identity_role(&saved, lh_relation_owner(relation), "pg_catalog, pg_temp");
		drop_triggers(relation);
		lh_identity_restore(&saved);
	}
	if (get_rel_name(images) != NULL)
	{
		lh_identity_role(&saved, lh_relation_owner(images), "pg_catalog, pg_temp");
		run_ddl(psprintf("DROP TABLE %s", table_name(images)));
		lh_identity_restore(&saved);
	}
}

/*
 * lh_capture_prune deletes old images of loads that no flow waits for any more.
 * The images are listed before the queue is read: what is listed and no longer
 * queued was consumed, and what is written meanwhile is not listed.
 */
void
lh_capture_prune(Oid relation)
{
	static const Oid types[] = {OIDOID, INT8ARRAYOID};
	Oid			images = lh_capture_images_of(relation);
	Oid			array_type = INT8ARRAYOID;
	Datum		values[2];
	LhCatalog	catalog;
	LhIdentity	saved;
	MemoryContext context = CurrentMemoryContext;
	Datum		loads;
	bool		isnull;

	if (!OidIsValid(images) || get_rel_name(images) == NULL)
		return;
	lh_identity_role(&saved, lh_relation_owner(images), "pg_catalog, pg_temp");
	SPI_connect();
	SPI_execute(psprintf("SELECT array_agg(DISTINCT " LH_CHANGED_COLUMN ") FROM %s", table_name(images)),
				true, 0);
	loads = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		loads = SPI_datumTransfer(loads, false, -1);
	SPI_finish();
	if (!isnull)
	{
		values[0] = ObjectIdGetDatum(relation);
		values[1] = loads;
		lh_catalog_begin(&catalog);
		lh_catalog_read_latest("SELECT pg_catalog.array_agg(l) FROM pg_catalog.unnest($2) l"
							   " WHERE NOT EXISTS (SELECT FROM lakehouse.pending p"
							   "  WHERE p.input OPERATOR(pg_catalog.=) $1"
							   "    AND p.load_id OPERATOR(pg_catalog.=) l)",
							   2, types, values, NULL);
		loads = lh_catalog_value(0, 1, &isnull);
		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			loads = PointerGetDatum(DatumGetArrayTypePCopy(loads));
			MemoryContextSwitchTo(old);
		}
		lh_catalog_end(&catalog);
	}
	if (!isnull)
	{
		SPI_connect();
		SPI_execute_with_args(psprintf("DELETE FROM %s WHERE " LH_CHANGED_COLUMN " OPERATOR(pg_catalog.=) ANY ($1)",
									   table_name(images)),
							  1, &array_type, &loads, NULL, false, 0);
		SPI_finish();
	}
	lh_identity_restore(&saved);
}
