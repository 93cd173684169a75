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
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "delta/delta.h"
#include "fault.h"
#include "flow/merge_internal.h"

static void execute(const char *sql, const char *name, const LhMergeRows *rows,
					DestReceiver *receiver, LhExecuted *executed);
static PlannedStmt *plan_statement(Query *query, const char *sql);
static void set_off(const char *setting);
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

	counts->rows_in = all.count;
	if (all.count > 0)
		lh_merge_write(lh_merge_sql_append(plan, delta), &all, counts);
}

static void
apply_insert_only(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
				  LhMergeCounts *counts)
{
	LhMergeRows *winners = lh_merge_winners(plan, rows, delta, counts);

	if (winners->count > 0)
		lh_merge_write(lh_merge_sql_insert(plan, true), winners, counts);
	tuplestore_end(winners->store);
}

static void
apply_upsert(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta, LhMergeCounts *counts)
{
	LhMergeRows *winners = lh_merge_winners(plan, rows, delta, counts);

	if (winners->count > 0)
		lh_merge_write(lh_merge_sql_upsert(plan), winners, counts);
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

	plan->side = lh_merge_side_name(side);
	if (winners->count == 0)
		return;
	if (plan->side == NULL && (winners->deletes > 0 || !plan->sequence_stored))
		elog(ERROR, "merge by sequence has no table of tombstones");
	if (plan->sequence_stored && read_side && winners->deletes < winners->count)
		lh_merge_write(lh_merge_sql_revive(plan), winners, NULL);
	if (plan->sequence_stored && winners->deletes > 0)
		lh_merge_write(lh_merge_sql_bury(plan), winners, NULL);
	LH_FAULT("merge-before-watermark");
	lh_merge_write(lh_merge_sql_scd1(plan, winners->deletes > 0, read_side), winners, counts);
	if (!plan->sequence_stored)
		lh_merge_write(lh_merge_sql_remember(plan), winners, NULL);
	tuplestore_end(winners->store);
}

/*
 * plan_statement plans a statement.  DML finds the target's rows one by one,
 * through the index on the keys or by their place: the rows come sorted by key,
 * so neighbours share pages, and the cost follows the number of rows and not the
 * size of the target.  Left alone the planner hashes the target from a fifth of
 * its size on, which reads all of it and updates it in random order: measured
 * four times slower.
 */
static PlannedStmt *
plan_statement(Query *query, const char *sql)
{
	static const char *const by_row[] = {"enable_hashjoin", "enable_mergejoin",
	"enable_material", "enable_seqscan"};
	int			nest = NewGUCNestLevel();
	PlannedStmt *plan;

	set_off("jit");
	if (query->commandType != CMD_SELECT)
		for (int i = 0; i < lengthof(by_row); i++)
			set_off(by_row[i]);
	plan = pg_plan_query(query, sql, 0, NULL);
	AtEOXact_GUC(true, nest);
	return plan;
}

static void
set_off(const char *setting)
{
	(void) set_config_option(setting, "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * lh_merge_write runs one DML statement of ours over the rows, which it sees
 * under the name lakehouse_delta, and adds what it did to *counts (or NULL).
 */
void
lh_merge_write(const char *sql, const LhMergeRows *rows, LhMergeCounts *counts)
{
	LhExecuted	executed = {0};

	execute(sql, LH_DELTA_NAME, rows, None_Receiver, &executed);
	if (counts == NULL)
		return;
	counts->inserted += executed.inserted;
	counts->updated += executed.updated;
	counts->deleted += executed.deleted;
}

/*
 * lh_merge_read runs one SELECT of ours, which sees "rows" (or NULL) under the
 * name lakehouse_touched.
 */
void
lh_merge_read(const char *sql, const LhMergeRows *rows, DestReceiver *receiver)
{
	execute(sql, LH_TOUCHED_NAME, rows, receiver, NULL);
}

/*
 * execute runs a statement as the current user, with "rows" visible under "name"
 * as a trigger sees its transition tables.  The count of rows is exact, so the
 * statement is planned well.
 */
static void
execute(const char *sql, const char *name, const LhMergeRows *rows,
		DestReceiver *receiver, LhExecuted *executed)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelationData enr = {0};
	List	   *queries;

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
	/*
	 * Whatever the isolation level, see all that other merges did before we got
	 * the lock on the target: a transaction's older snapshot would miss their
	 * rows and tombstones.
	 */
	PushActiveSnapshot(GetLatestSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)),
												 sql, NULL, 0, environment);
	if (list_length(queries) != 1)
		elog(ERROR, "statement of a merge was rewritten: %s", sql);
	(void) lh_execute_plan(plan_statement(linitial_node(Query, queries), sql), sql,
						   receiver, environment, executed);
	PopActiveSnapshot();
}
