/*
 * compat.h
 *	  The only place that tests PG_VERSION_NUM.
 *
 * Code is written for PostgreSQL 15 names where they still exist, and for the
 * newest signature where a function changed; each shim names the version that
 * retires it.
 */
#ifndef LH_COMPAT_H
#define LH_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lakehouse needs PostgreSQL 15 or later"
#endif

/* 16 replaced the check of each kind of object by object_aclcheck */
#if PG_VERSION_NUM < 160000
#define lh_compat_server_aclcheck(server, role, mode) \
	pg_foreign_server_aclcheck(server, role, mode)
#define lh_compat_table_ownercheck(table, role) \
	pg_class_ownercheck(table, role)
#else
#define lh_compat_server_aclcheck(server, role, mode) \
	object_aclcheck(ForeignServerRelationId, server, role, mode)
#define lh_compat_table_ownercheck(table, role) \
	object_ownercheck(RelationRelationId, table, role)
#endif

/* execute_once went with PostgreSQL 18 */
#if PG_VERSION_NUM >= 180000
#define lh_executor_run(desc) ExecutorRun(desc, ForwardScanDirection, 0)
#else
#define lh_executor_run(desc) ExecutorRun(desc, ForwardScanDirection, 0, true)
#endif

/*
 * PostgreSQL 16 has input functions that report bad input softly, and changed
 * the interface of the date and time parser that we call without them.  Retired
 * with support for 15.
 */
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#define LH_SOFT_INPUT
#endif

/* 17 lets extensions name their wait events */
#if PG_VERSION_NUM < 170000
#define lh_wait_event(name) PG_WAIT_EXTENSION
#else
#define lh_wait_event(name) WaitEventExtensionNew(name)
#endif

/* 18 dropped run_once, which is always true here */
#if PG_VERSION_NUM < 180000
#define lh_portal_run(portal, receiver, completion) \
	PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, completion)
#else
#define lh_portal_run(portal, receiver, completion) \
	PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion)
#endif

/* 16 added "onlySummarizing" for HOT updates */
#if PG_VERSION_NUM < 160000
#define lh_compat_insert_index_tuples(relation, slot, estate) \
	ExecInsertIndexTuples(relation, slot, estate, false, false, NULL, NIL)
#else
#define lh_compat_insert_index_tuples(relation, slot, estate) \
	ExecInsertIndexTuples(relation, slot, estate, false, false, NULL, NIL, false)
#endif

/* 16 looks the map of a partition up when it is first needed */
#if PG_VERSION_NUM < 160000
#define lh_compat_root_to_child(relation, estate) ((relation)->ri_RootToPartitionMap)
#else
#define lh_compat_root_to_child(relation, estate) ExecGetRootToChildMap(relation, estate)
#endif

/*
 * Makes a range table of one table that is written: with permission bits in the
 * entry (15), beside it (16), and marked as not pruned (18).  For files that
 * include executor/executor.h and utils/rel.h.
 */
#define lh_compat_init_range_table(estate, relation) \
	lh_compat_init_range_table_impl(estate, RelationGetRelid(relation), (relation)->rd_rel->relkind)
#ifdef EXECUTOR_H
static inline void
lh_compat_init_range_table_impl(EState *estate, Oid relid, char relkind)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	entry->rtekind = RTE_RELATION;
	entry->relid = relid;
	entry->relkind = relkind;
	entry->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM < 160000
	entry->requiredPerms = ACL_INSERT;
	ExecInitRangeTable(estate, list_make1(entry));
#else
	{
		List	   *infos = NIL;

		addRTEPermissionInfo(&infos, entry)->requiredPerms = ACL_INSERT;
#if PG_VERSION_NUM < 180000
		ExecInitRangeTable(estate, list_make1(entry), infos);
#else
		ExecInitRangeTable(estate, list_make1(entry), infos, bms_make_singleton(1));
#endif
	}
#endif
}
#endif							/* EXECUTOR_H */

#endif							/* LH_COMPAT_H */
