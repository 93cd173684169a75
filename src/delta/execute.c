/*
 * execute.c
 *	  Plans and runs one analysed query under the active snapshot.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "storage/lockdefs.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "delta/delta.h"

/* what an error context of ours points at */
typedef struct ErrorPlace
{
	const char *flow;			/* or NULL */
	const char *sql;
} ErrorPlace;

static void query_error(void *argument);
static void count_changes(QueryDesc *desc, LhExecuted *executed);

/*
 * lh_execute_push_error_context makes errors say which flow's query they came
 * from (unless flow is NULL) and show their place in its text.  Pop it with
 * error_context_stack = callback->previous.
 */
void
lh_execute_push_error_context(ErrorContextCallback *callback, const char *flow, const char *sql)
{
	ErrorPlace *place = palloc(sizeof(ErrorPlace));

	place->flow = flow;
	place->sql = sql;
	callback->callback = query_error;
	callback->arg = place;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static void
query_error(void *argument)
{
	ErrorPlace *place = argument;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(place->sql);
	}
	if (place->flow != NULL)
		errcontext("query of flow \"%s\"", place->flow);
}

/*
 * lh_execute_query plans and runs a query, which it may scribble on, as the
 * current user under the active snapshot; its rows go to "dest".  Returns how
 * many rows it gave or changed; DML counts into *executed too, and its effects
 * are visible to what runs next under the same snapshot.
 */
uint64
lh_execute_query(Query *query, const char *sql, DestReceiver *dest,
				 QueryEnvironment *environment, LhExecuted *executed)
{
	int			options = query->commandType == CMD_SELECT ? CURSOR_OPT_PARALLEL_OK : 0;

	return lh_execute_plan(pg_plan_query(query, sql, options, NULL), sql, dest,
						   environment, executed);
}

/*
 * lh_execute_plan is the second half of lh_execute_query.
 */
uint64
lh_execute_plan(PlannedStmt *plan, const char *sql, DestReceiver *dest,
				QueryEnvironment *environment, LhExecuted *executed)
{
	QueryDesc  *desc = CreateQueryDesc(plan, sql, GetActiveSnapshot(), InvalidSnapshot, dest,
									   NULL, environment, 0);
	uint64		count;

	ExecutorStart(desc, 0);
	lh_executor_run(desc);
	ExecutorFinish(desc);
	count = desc->estate->es_processed;
	if (executed != NULL)
		count_changes(desc, executed);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	if (plan->commandType != CMD_SELECT)
	{
		CommandCounterIncrement();
		UpdateActiveSnapshotCommandId();
	}
	return count;
}

/*
 * lh_execute_check raises what starting the query would raise: a plan that
 * cannot be made, a missing privilege.
 */
void
lh_execute_check(Query *query, const char *sql)
{
	PlannedStmt *plan = pg_plan_query(copyObject(query), sql, 0, NULL);
	QueryDesc  *desc;

	PushActiveSnapshot(GetTransactionSnapshot());
	desc = CreateQueryDesc(plan, sql, GetActiveSnapshot(), InvalidSnapshot, None_Receiver,
						   NULL, NULL, 0);
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
}

static void
count_changes(QueryDesc *desc, LhExecuted *executed)
{
	int64		processed = (int64) desc->estate->es_processed;

	switch (desc->operation)
	{
		case CMD_INSERT:
			executed->inserted += processed;
			break;
		case CMD_UPDATE:
			executed->updated += processed;
			break;
		case CMD_DELETE:
			executed->deleted += processed;
			break;
		case CMD_MERGE:
			{
				ModifyTableState *state = castNode(ModifyTableState, desc->planstate);

				executed->inserted += (int64) state->mt_merge_inserted;
				executed->updated += (int64) state->mt_merge_updated;
				executed->deleted += (int64) state->mt_merge_deleted;
				break;
			}
		default:
			break;
	}
}
