/*
 * merge_tombstones.c
 *	  The side table of a target that is merged by sequence.
 *
 * It holds the sequence of every deleted key, for ever, so that an older change
 * that arrives later never brings the row back; and, when the target does not
 * hold the sequence itself, the sequence of every key that is there (live).
 *
 * Invariant: a target has one side table, whoever merges into it, so several
 * flows and calls see each other's deletes.  lakehouse.merge_target remembers
 * it with the keys and sequence it was made for; a merge by others is refused,
 * because the two could not be compared.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "catalog/catalog_access.h"
#include "flow/merge_internal.h"

static Oid	find_side(const LhMergePlan *plan);
static Oid	create_side(const LhMergePlan *plan);
static char *side_definition(const LhMergePlan *plan, const char *name);
static char *column_type(const LhMergeColumn *column);
static char *choose_name(Oid target);
static Oid	table_owner(Oid table);
static void run_ddl(const char *sql);
static Datum text_array(List *texts);

/*
 * lh_merge_create_tombstones: see merge.h.
 */
Oid
lh_merge_create_tombstones(const LhMerge *merge, TupleDesc delta, int32 flow_id)
{
	LhMergePlan *plan = lh_merge_resolve(merge, delta);
	Oid			side;

	/* so that two first merges do not make two side tables */
	LockRelationOid(merge->target, ShareRowExclusiveLock);
	side = find_side(plan);
	return OidIsValid(side) ? side : create_side(plan);
}

/*
 * lh_merge_side_name returns the quoted name of a side table, NULL for none.
 */
char *
lh_merge_side_name(Oid side)
{
	char	   *name;

	if (!OidIsValid(side))
		return NULL;
	name = get_rel_name(side);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table of tombstones with OID %u does not exist", side),
				 errdetail("Without it an older change could bring a deleted row back."),
				 errhint("Create the flow again; lakehouse.merge_scd1 makes a new table by itself.")));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(side)), name);
}

/*
 * lh_merge_side_empty tells cheaply that a side table never held a row, or was
 * vacuumed since.
 */
bool
lh_merge_side_empty(Oid side)
{
	Relation	relation = table_open(side, AccessShareLock);
	bool		empty = RelationGetNumberOfBlocks(relation) == 0;

	table_close(relation, NoLock);
	return empty;
}

/*
 * find_side returns the target's side table, or InvalidOid.
 */
static Oid
find_side(const LhMergePlan *plan)
{
	static const Oid types[] = {OIDOID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID};
	Datum		values[4];
	LhCatalog	catalog;
	Oid			side = InvalidOid;
	bool		same = true;

	values[0] = ObjectIdGetDatum(plan->merge->target);
	values[1] = text_array(plan->merge->keys);
	values[2] = text_array(plan->merge->sequence_by);
	values[3] = BoolGetDatum(!plan->sequence_stored);
	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT tombstones, keys OPERATOR(pg_catalog.=) $2"
					   " AND sequence_by OPERATOR(pg_catalog.=) $3"
					   " AND live OPERATOR(pg_catalog.=) $4"
					   " FROM lakehouse.merge_target"
					   " WHERE relation OPERATOR(pg_catalog.=) $1",
					   4, types, values, NULL) > 0)
	{
		bool		isnull;

		side = lh_catalog_oid(0, 1);
		same = DatumGetBool(lh_catalog_value(0, 2, &isnull));
	}
	lh_catalog_end(&catalog);

	if (get_rel_name(side) == NULL)
		return InvalidOid;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table \"%s\" was merged before with other keys or another sequence",
						get_rel_name(plan->merge->target)),
				 errdetail("Changes ordered by different sequences cannot be compared."),
				 errhint("Use the same keys, sequence_by and except_columns; or forget what was deleted with DROP TABLE %s.",
						 lh_merge_side_name(side))));
	return side;
}

/*
 * create_side makes the table, in the name of the target's owner.  Columns are
 * named by position, so renaming the target's columns does not matter.
 *
 * No user may create tables in schema lakehouse_data, so we do it and give the
 * table away.  The table is empty, and its types are base types: no code of a
 * user's (a domain's constraint, a comparison) runs meanwhile.
 */
static Oid
create_side(const LhMergePlan *plan)
{
	static const Oid types[] = {OIDOID, OIDOID, TEXTARRAYOID, TEXTARRAYOID, BOOLOID};
	Oid			target = plan->merge->target;
	Oid			user = GetUserId();
	Oid			owner = table_owner(target);
	char	   *name = choose_name(target);
	char	   *sql = side_definition(plan, name);
	Datum		values[5];
	LhCatalog	catalog;
	Oid			side;
	ObjectAddress address;
	ObjectAddress parent;

	values[2] = text_array(plan->merge->keys);
	values[3] = text_array(plan->merge->sequence_by);
	lh_catalog_begin(&catalog);
	run_ddl(sql);
	side = get_relname_relid(name, get_namespace_oid("lakehouse_data", false));
	name = lh_merge_side_name(side);
	run_ddl(psprintf("ALTER TABLE %s OWNER TO %s", name,
					 quote_identifier(GetUserNameFromId(owner, false))));
	if (!has_privs_of_role(user, owner))
		run_ddl(psprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s", name,
						 quote_identifier(GetUserNameFromId(user, false))));
	values[0] = ObjectIdGetDatum(target);
	values[1] = ObjectIdGetDatum(side);
	values[4] = BoolGetDatum(!plan->sequence_stored);
	lh_catalog_run("DELETE FROM lakehouse.merge_target m WHERE NOT EXISTS"
				   " (SELECT 1 FROM pg_catalog.pg_class c"
				   " WHERE c.oid OPERATOR(pg_catalog.=) m.relation)",
				   0, NULL, NULL, NULL);
	lh_catalog_run("INSERT INTO lakehouse.merge_target AS m (relation, tombstones, keys, sequence_by, live)"
				   " VALUES ($1, $2, $3, $4, $5)"
				   " ON CONFLICT (relation) DO UPDATE SET tombstones = excluded.tombstones,"
				   " keys = excluded.keys, sequence_by = excluded.sequence_by, live = excluded.live",
				   5, types, values, NULL);
	lh_catalog_end(&catalog);

	/* dropping the target drops its side table */
	ObjectAddressSet(address, RelationRelationId, side);
	ObjectAddressSet(parent, RelationRelationId, target);
	recordDependencyOn(&address, &parent, DEPENDENCY_AUTO);
	CommandCounterIncrement();
	return side;
}

static char *
side_definition(const LhMergePlan *plan, const char *name)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE lakehouse_data.%s (", quote_identifier(name));
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(&sql, "key_%d %s NOT NULL, ", i + 1, column_type(plan->keys[i]));
	for (int i = 0; i < plan->nsequences; i++)
		appendStringInfo(&sql, "sequence_%d %s NOT NULL, ", i + 1,
						 column_type(plan->sequences[i]));
	appendStringInfoString(&sql, "live pg_catalog.bool NOT NULL, PRIMARY KEY (");
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(&sql, "%skey_%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(&sql, "))");
	return sql.data;
}

/*
 * column_type writes the base type and collation of a column.
 */
static char *
column_type(const LhMergeColumn *column)
{
	int32		typmod = column->typmod;
	Oid			base = getBaseTypeAndTypmod(column->type, &typmod);
	char	   *type = format_type_extended(base, typmod, FORMAT_TYPE_TYPEMOD_GIVEN |
											FORMAT_TYPE_FORCE_QUALIFY);
	HeapTuple	tuple;
	Form_pg_collation collation;

	if (!OidIsValid(column->collation) || column->collation == DEFAULT_COLLATION_OID)
		return type;
	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(column->collation));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", column->collation);
	collation = (Form_pg_collation) GETSTRUCT(tuple);
	type = psprintf("%s COLLATE %s", type,
					quote_qualified_identifier(get_namespace_name(collation->collnamespace),
											   NameStr(collation->collname)));
	ReleaseSysCache(tuple);
	return type;
}

/*
 * choose_name returns a free name in schema lakehouse_data; nobody else creates
 * tables there.
 */
static char *
choose_name(Oid target)
{
	Oid			namespace = get_namespace_oid("lakehouse_data", false);
	char	   *name = psprintf("tombstone_%u", target);

	for (int i = 2; OidIsValid(get_relname_relid(name, namespace)); i++)
		name = psprintf("tombstone_%u_%d", target, i);
	return name;
}

static Oid
table_owner(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
run_ddl(const char *sql)
{
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", sql);
}

static Datum
text_array(List *texts)
{
	Datum	   *values = palloc(sizeof(Datum) * (list_length(texts) + 1));
	ListCell   *cell;
	int			count = 0;

	foreach(cell, texts)
		values[count++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}
