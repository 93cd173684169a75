/*
 * merge_target.c
 *	  What a merge needs of its target: rights, a unique index on the keys, and
 *	  for scd1 the side table of tombstones.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "compat.h"
#include "catalog/catalog_access.h"
#include "delta/load.h"
#include "flow/merge_internal.h"

static void check_rights(const LhMergePlan *plan);
static void check_right(Oid target, AclMode mode, const char *name);
static void check_partition_key(const LhMergePlan *plan, Relation target);
static bool has_key_index(const LhMergePlan *plan, Relation target, bool unique);
static bool index_serves(const LhMergePlan *plan, Relation index, bool unique);
static void create_key_index(const LhMergePlan *plan, bool unique);
static void explain_duplicates(void *arg);

/*
 * lh_merge_check: see merge.h.  Locks out writers of the target until the end
 * of the transaction if it had to create the index.
 */
void
lh_merge_check(const LhMerge *merge, TupleDesc delta)
{
	LhMergePlan *plan = lh_merge_resolve(merge, delta);
	Relation	target = table_open(merge->target, AccessShareLock);
	bool		unique = merge->mode != LH_MERGE_REPLACE;
	bool		missing;

	check_rights(plan);
	if (merge->mode == LH_MERGE_APPEND || merge->mode == LH_MERGE_COMPLETE)
	{
		table_close(target, NoLock);
		return;
	}
	if (unique)
		check_partition_key(plan, target);
	missing = !has_key_index(plan, target, unique);
	table_close(target, NoLock);
	if (missing)
		create_key_index(plan, unique);
}

static void
check_rights(const LhMergePlan *plan)
{
	LhMergeMode mode = plan->merge->mode;
	Oid			target = plan->merge->target;

	check_right(target, ACL_INSERT, "INSERT");
	if (mode == LH_MERGE_APPEND)
		return;
	check_right(target, ACL_SELECT, "SELECT");
	if (mode == LH_MERGE_INSERT_ONLY)
		return;
	check_right(target, ACL_UPDATE, "UPDATE");
	if (mode == LH_MERGE_REPLACE || mode == LH_MERGE_COMPLETE ||
		(mode == LH_MERGE_SCD1 && plan->merge->delete_when != NULL))
		check_right(target, ACL_DELETE, "DELETE");
}

static void
check_right(Oid target, AclMode mode, const char *name)
{
	if (pg_class_aclcheck(target, GetUserId(), mode) == ACLCHECK_OK ||
		(mode != ACL_DELETE &&
		 pg_attribute_aclcheck_all(target, GetUserId(), mode, ACLMASK_ANY) == ACLCHECK_OK))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for table \"%s\"", get_rel_name(target)),
			 errdetail("Role \"%s\" lacks %s on it.", GetUserNameFromId(GetUserId(), false), name),
			 errhint("GRANT the right to the role that merges.")));
}

/*
 * check_partition_key refuses keys that no unique index of a partitioned table
 * can enforce: a key could then live in two partitions.
 */
static void
check_partition_key(const LhMergePlan *plan, Relation target)
{
	PartitionKey partition;

	if (target->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return;
	partition = RelationGetPartitionKey(target);
	for (int i = 0; i < partition->partnatts; i++)
	{
		bool		found = false;

		for (int k = 0; k < plan->nkeys; k++)
			found = found || plan->keys[k]->target == partition->partattrs[i];
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("keys of a merge into partitioned table \"%s\" must contain its partition key",
							RelationGetRelationName(target)),
					 partition->partattrs[i] == 0 ?
					 errdetail("The partition key is an expression.") :
					 errdetail("Column \"%s\" is in the partition key but not in the keys.",
							   get_attname(RelationGetRelid(target), partition->partattrs[i], false)),
					 errhint("Add the column to the keys, or partition by key columns.")));
	}
}

/*
 * has_key_index looks for an index by which a key is found: unique on exactly
 * the keys, or, not unique, beginning with them.
 */
static bool
has_key_index(const LhMergePlan *plan, Relation target, bool unique)
{
	List	   *indexes = RelationGetIndexList(target);
	ListCell   *cell;
	bool		found = false;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found = index_serves(plan, index, unique);
		index_close(index, NoLock);
		if (found)
			break;
	}
	return found;
}

static bool
index_serves(const LhMergePlan *plan, Relation index, bool unique)
{
	Form_pg_index form = index->rd_index;
	int			matched = 0;

	if (!form->indisvalid || RelationGetIndexPredicate(index) != NIL ||
		RelationGetIndexExpressions(index) != NIL || form->indnkeyatts < plan->nkeys)
		return false;
	if (unique && (!form->indisunique || !form->indimmediate || form->indnkeyatts != plan->nkeys))
		return false;
	for (int i = 0; i < plan->nkeys; i++)
		for (int k = 0; k < plan->nkeys; k++)
			if (form->indkey.values[i] == plan->keys[k]->target)
				matched++;
	return matched == plan->nkeys;
}

/*
 * create_key_index makes the index as the current user.  Who does not own the
 * table cannot; where the index is not needed to be right, that is no error.
 */
static void
create_key_index(const LhMergePlan *plan, bool unique)
{
	ErrorContextCallback callback;
	StringInfoData columns;
	char	   *sql;

	initStringInfo(&columns);
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(&columns, "%s%s", i > 0 ? ", " : "", plan->keys[i]->name);
	if (!lh_compat_table_ownercheck(plan->merge->target, GetUserId()))
	{
		if (!unique)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" has no unique index on the keys (%s)",
						get_rel_name(plan->merge->target), columns.data),
				 errdetail("Only the owner of the table can create it."),
				 errhint("Ask the owner to run CREATE UNIQUE INDEX ON %s (%s).",
						 plan->target, columns.data)));
	}

	callback.callback = explain_duplicates;
	callback.arg = unconstify(LhMergePlan *, plan);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	sql = psprintf("CREATE %sINDEX ON %s (%s)", unique ? "UNIQUE " : "",
				   plan->target, columns.data);
	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", sql);
	SPI_finish();
	error_context_stack = callback.previous;
}

/*
 * explain_duplicates gives the server's error about duplicate keys its meaning
 * here; the server's detail names the first such key.
 */
static void
explain_duplicates(void *arg)
{
	LhMergePlan *plan = arg;

	if (geterrcode() != ERRCODE_UNIQUE_VIOLATION)
		return;
	errmsg("table \"%s\" holds several rows for one key", get_rel_name(plan->merge->target));
	errhint("A merge needs at most one row for each key: remove the duplicates or choose other keys.");
}

