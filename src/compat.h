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

#if PG_VERSION_NUM >= 160000
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "parser/parse_relation.h"
#include "varatt.h"

/* 16 can report a malformed name softly */
#define lh_compat_qualified_name(text) stringToQualifiedNameList(text, NULL)
#else
#define lh_compat_qualified_name(text) stringToQualifiedNameList(text)
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

/* 16 as well */
#if PG_VERSION_NUM < 160000
#define lh_database_ownercheck(database, role) pg_database_ownercheck(database, role)
#define lh_database_aclcheck(database, role, mode) pg_database_aclcheck(database, role, mode)
#else
#define lh_database_ownercheck(database, role) object_ownercheck(DatabaseRelationId, database, role)
#define lh_database_aclcheck(database, role, mode) object_aclcheck(DatabaseRelationId, database, role, mode)
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

/* 16 makes many pages at once for whoever fills a table */
#if PG_VERSION_NUM < 160000
#define LH_MAKE_PAGES
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

/* 16 split membership of a role from the right to become it */
#if PG_VERSION_NUM < 160000
#define lh_compat_check_can_become(member, role) check_is_member_of_role(member, role)
#else
#define lh_compat_check_can_become(member, role) check_can_set_role(member, role)
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

/* 16 moved the permissions of range-table entries into nodes of their own */
#if PG_VERSION_NUM < 160000
#define lh_compat_move_permissions(from, from_entry, to, to_entry) \
	((from_entry)->requiredPerms = 0, \
	 (from_entry)->checkAsUser = InvalidOid, \
	 (from_entry)->selectedCols = NULL)
#define lh_compat_no_permissions(query, entry) ((entry)->requiredPerms = 0)
#else
#define lh_compat_move_permissions(from, from_entry, to, to_entry) \
	((to)->rteperminfos = (from_entry)->perminfoindex == 0 ? NIL : \
	 list_make1(copyObject(list_nth((from)->rteperminfos, (from_entry)->perminfoindex - 1))), \
	 (to_entry)->perminfoindex = (from_entry)->perminfoindex == 0 ? 0 : 1, \
	 (from_entry)->perminfoindex = 0)
#define lh_compat_no_permissions(query, entry) \
	(addRTEPermissionInfo(&(query)->rteperminfos, entry)->requiredPerms = 0)
#endif

/* 17 added WHEN NOT MATCHED BY SOURCE to MERGE */
#if PG_VERSION_NUM < 170000
#define lh_compat_has_not_matched_by_source(query) false
#else
static inline bool
lh_compat_has_not_matched_by_source(const Query *query)
{
	ListCell   *cell;

	foreach(cell, query->mergeActionList)
		if (lfirst_node(MergeAction, cell)->matchKind == MERGE_WHEN_NOT_MATCHED_BY_SOURCE)
			return true;
	return false;
}
#endif

/* 16 passes the planner's state, and marks which joins may null a column */
#if PG_VERSION_NUM < 160000
#define lh_compat_flatten_join_alias_vars(query, node) flatten_join_alias_vars(query, node)
#define lh_compat_remove_nulling(query, rtindex) ((void) 0)
#define lh_compat_jointree_relids(node) get_relids_in_jointree(node, true)
#else
#define lh_compat_flatten_join_alias_vars(query, node) flatten_join_alias_vars(NULL, query, node)
#define lh_compat_remove_nulling(query, rtindex) \
	((query)->targetList = (List *) remove_nulling_relids((Node *) (query)->targetList, \
														  bms_make_singleton(rtindex), NULL), \
	 (query)->jointree = (FromExpr *) remove_nulling_relids((Node *) (query)->jointree, \
															bms_make_singleton(rtindex), NULL))
#define lh_compat_jointree_relids(node) get_relids_in_jointree(node, true, true)
#endif

/* 18 gave the GROUP BY a range-table entry of its own */
#if PG_VERSION_NUM < 180000
#define lh_compat_flatten_groups(query, node) (node)
#define lh_compat_forget_groups(query) ((void) 0)
#else
#define lh_compat_flatten_groups(query, node) \
	((query)->hasGroupRTE ? flatten_group_exprs(NULL, query, node) : (node))
#define lh_compat_forget_groups(query) ((query)->hasGroupRTE = false)
#endif

#endif							/* LH_COMPAT_H */
