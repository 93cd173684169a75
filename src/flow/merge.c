/*
 * merge.c
 *	  From a set of new rows to changes of a target table.
 *
 * Two merges into one target never run at the same time: a merge by keys holds
 * a ShareRowExclusiveLock on the target until the end of the transaction, taken
 * before the first snapshot that reads it.  Readers are not blocked; writers
 * wait.  Appending takes no more than INSERT does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "delta/load.h"
#include "fault.h"
#include "flow/merge_internal.h"

static void apply_append(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
						 LhMergeCounts *counts);
static void apply_insert_only(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
							  LhMergeCounts *counts);
static void apply_upsert(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
						 LhMergeCounts *counts);

static void apply_scd1(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
					   LhMergeCounts *counts);

/*
 * lh_merge_apply: see merge.h.
 */
void
lh_merge_apply(const LhMerge *merge, Tuplestorestate *rows, TupleDesc delta,
			   Tuplestorestate *touched, TupleDesc touched_desc, LhMergeCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse merge",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	LhMergePlan *plan;

	memset(counts, 0, sizeof(LhMergeCounts));
	LH_FAULT("merge-begin");
	LockRelationOid(merge->target, merge->mode == LH_MERGE_APPEND ? RowExclusiveLock :
					ShareRowExclusiveLock);
	plan = lh_merge_resolve(merge, delta);
	switch (merge->mode)
	{
		case LH_MERGE_APPEND:
			apply_append(plan, rows, delta, counts);
			break;
		case LH_MERGE_INSERT_ONLY:
			apply_insert_only(plan, rows, delta, counts);
			break;
		case LH_MERGE_UPSERT:
			apply_upsert(plan, rows, delta, counts);
			break;
		case LH_MERGE_SCD1:
			apply_scd1(plan, rows, delta, counts);
			break;
		case LH_MERGE_REPLACE:
		case LH_MERGE_COMPLETE:
			lh_merge_diff(plan, rows, delta, touched, touched_desc, counts);
			break;
	}
	LH_FAULT("merge-commit");
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
apply_append(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta, LhMergeCounts *counts)
{
	LhMergeRows all = {rows, delta, tuplestore_tuple_count(rows)};
	LhMergeDone done;

	counts->rows_in = all.count;
	if (all.count == 0)
		return;
	lh_merge_execute(lh_merge_sql_append(plan, delta), LH_DELTA_NAME, &all, NULL, &done);
	counts->inserted = done.processed;
}

static void
apply_insert_only(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
				  LhMergeCounts *counts)
{
	LhMergeRows *winners = lh_merge_winners(plan, rows, delta, counts);
	LhMergeDone done;

	if (winners->count > 0)
	{
		lh_merge_execute(lh_merge_sql_insert(plan, true), LH_DELTA_NAME, winners, NULL, &done);
		counts->inserted = done.processed;
	}
	tuplestore_end(winners->store);
}

static void
apply_upsert(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta, LhMergeCounts *counts)
{
	LhMergeRows *winners = lh_merge_winners(plan, rows, delta, counts);
	LhMergeDone done;

	if (winners->count > 0)
	{
		lh_merge_execute(lh_merge_sql_upsert(plan), LH_DELTA_NAME, winners, NULL, &done);
		counts->inserted = done.inserted;
		counts->updated = done.updated;
	}
	tuplestore_end(winners->store);
}

/*
 * apply_scd1 merges by sequence.  The side table changes in the same transaction
 * as the target: before it where the target holds the sequence (deletes are
 * judged by the rows that are still there), after it where the side table does.
 */
static void
apply_scd1(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta, LhMergeCounts *counts)
{
	LhMergeRows *winners = lh_merge_winners(plan, rows, delta, counts);
	Oid			side = plan->merge->tombstones;
	bool		read_side = OidIsValid(side) && !lh_merge_side_empty(side);
	LhMergeDone done;

	plan->side = lh_merge_side_name(side);
	if (winners->count == 0)
		return;
	if (plan->side == NULL && (winners->deletes > 0 || !plan->sequence_stored))
		elog(ERROR, "merge by sequence has no table of tombstones");
	if (plan->sequence_stored && read_side && winners->deletes < winners->count)
		lh_merge_execute(lh_merge_sql_revive(plan), LH_DELTA_NAME, winners, NULL, &done);
	if (plan->sequence_stored && winners->deletes > 0)
		lh_merge_execute(lh_merge_sql_bury(plan), LH_DELTA_NAME, winners, NULL, &done);
	LH_FAULT("merge-before-watermark");
	lh_merge_execute(lh_merge_sql_scd1(plan, winners->deletes > 0, read_side),
					 LH_DELTA_NAME, winners, NULL, &done);
	counts->inserted = done.inserted;
	counts->updated = done.updated;
	counts->deleted = done.deleted;
	if (!plan->sequence_stored)
		lh_merge_execute(lh_merge_sql_remember(plan), LH_DELTA_NAME, winners, NULL, &done);
	tuplestore_end(winners->store);
}

/*
 * plan_by_index plans a statement that finds the target's rows through the index
 * on the keys, one by one.  The rows come sorted by key, so neighbours share
 * pages, and the cost follows the number of rows and not the size of the target.
 * Left alone the planner hashes the target from a fifth of its size on, which
 * reads all of it and updates it in random order: measured four times slower.
 */
static PlannedStmt *
plan_by_index(Query *query, const char *sql)
{
	int			nest = NewGUCNestLevel();
	PlannedStmt *planned;

	(void) set_config_option("enable_hashjoin", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_mergejoin", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_material", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	planned = pg_plan_query(query, sql, 0, NULL);
	AtEOXact_GUC(true, nest);
	return planned;
}

/*
 * lh_merge_execute runs one statement of ours as the current user, with "rows"
 * visible under "name" (as a trigger sees its transition tables).  It does not
 * go through SPI because only the plan's own state tells how many rows a MERGE
 * inserted and updated.  The count of rows is exact, so joins are planned well.
 */
void
lh_merge_execute(const char *sql, const char *name, const LhMergeRows *rows,
				 DestReceiver *receiver, LhMergeDone *done)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelationData enr = {0};
	List	   *queries;
	PlannedStmt *planned;
	QueryDesc  *desc;

	if (rows != NULL)
	{
		enr.md.name = unconstify(char *, name);
		enr.md.tupdesc = rows->desc;
		enr.md.enrtype = ENR_NAMED_TUPLESTORE;
		enr.md.enrtuples = rows->count;
		enr.reldata = rows->store;
		register_ENR(environment, &enr);
	}
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)),
												 sql, NULL, 0, environment);
	if (list_length(queries) != 1)
		elog(ERROR, "statement of a merge was rewritten: %s", sql);
	planned = plan_by_index(linitial_node(Query, queries), sql);
	desc = CreateQueryDesc(planned, sql, GetActiveSnapshot(), InvalidSnapshot,
						   receiver ? receiver : None_Receiver, NULL, environment, 0);
	ExecutorStart(desc, 0);
	lh_executor_run(desc);

	done->processed = desc->estate->es_processed;
	done->inserted = done->updated = done->deleted = 0;
	if (IsA(desc->planstate, ModifyTableState))
	{
		ModifyTableState *state = (ModifyTableState *) desc->planstate;

		done->inserted = (int64) state->mt_merge_inserted;
		done->updated = (int64) state->mt_merge_updated;
		done->deleted = (int64) state->mt_merge_deleted;
	}
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
	CommandCounterIncrement();
}
