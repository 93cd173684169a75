/*
 * utility.c
 *	  Statements that need a database without our workers, or bring new ones.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE and CREATE
 * DATABASE ... TEMPLATE demand that nobody is connected; DROP and ALTER
 * EXTENSION want locks that a worker may hold.  They stop our workers first, if
 * the user has the right to do what the statement does.  Whether it then
 * succeeds or fails, the launcher looks again when the transaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "compat.h"
#include "delta/load.h"
#include "job/job.h"
#include "outbox/outbox.h"
#include "worker/worker.h"

static ProcessUtility_hook_type previous_utility = NULL;

/* at the commit of this transaction the launcher is to look at ... */
static bool probe_this = false; /* this database */
static bool probe_list = false; /* the list of databases */

static void
hold_if_owner(const char *name)
{
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && lh_database_ownercheck(database, GetUserId()))
		lh_hold_database(database);
}

static const char *
option_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

static bool
names_extension(List *objects)
{
	ListCell   *cell;

	foreach(cell, objects)
		if (IsA(lfirst(cell), String) && strcmp(strVal(lfirst(cell)), "lakehouse") == 0)
			return true;
	return false;
}

/*
 * prepare does what has to be done before the statement.
 */
static void
prepare(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			hold_if_owner(castNode(DropdbStmt, statement)->dbname);
			break;
		case T_CreatedbStmt:
			hold_if_owner(option_value(castNode(CreatedbStmt, statement)->options, "template"));
			probe_list = true;
			break;
		case T_AlterDatabaseStmt:
			if (option_value(castNode(AlterDatabaseStmt, statement)->options, "tablespace"))
				hold_if_owner(castNode(AlterDatabaseStmt, statement)->dbname);
			probe_list = true;
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
				hold_if_owner(castNode(RenameStmt, statement)->subname);
			break;
		case T_DropStmt:
			if (castNode(DropStmt, statement)->removeType == OBJECT_EXTENSION &&
				names_extension(castNode(DropStmt, statement)->objects))
				hold_if_owner(get_database_name(MyDatabaseId));
			break;
		case T_AlterExtensionStmt:
			if (strcmp(castNode(AlterExtensionStmt, statement)->extname, "lakehouse") == 0)
				hold_if_owner(get_database_name(MyDatabaseId));
			break;
		case T_CreateExtensionStmt:
			if (strcmp(castNode(CreateExtensionStmt, statement)->extname, "lakehouse") == 0)
				probe_this = true;
			break;
		default:
			break;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	if (lh_shmem_available() && IsTransactionState())
		prepare(pstmt->utilityStmt);
	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment, receiver, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment, receiver, completion);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (!lh_shmem_available())
		return;
	lh_release_holds();
	if (event == XACT_EVENT_COMMIT)
	{
		if (probe_this)
			lh_request_probe(MyDatabaseId);
		else if (probe_list)
			lh_wake_launcher();
		if (lh_job_changed)
			lh_wake_workers(MyDatabaseId, true);
	}
	probe_this = probe_list = false;
	lh_job_changed = false;
}

static void
load_committed(void)
{
	if (lh_shmem_available())
		lh_wake_workers(MyDatabaseId, false);
}

static void
outbox_committed(Oid server, Oid owner)
{
	if (lh_shmem_available())
		lh_wake_outbox(MyDatabaseId, lh_outbox_object(server, owner));
}

/*
 * lh_utility_init installs the hooks of a server that has workers.
 */
void
lh_utility_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(at_transaction_end, NULL);
	lh_load_committed_hook = load_committed;
	lh_outbox_committed_hook = outbox_committed;
	lh_job_has_workers = true;
}
