/*
 * merge_rows.c
 *	  From delta rows to the one row of each key that wins.
 *
 * Invariant: which row wins is decided by the rows alone.  The order is total:
 * rows that tie in it are alike in every column that is stored.
 *
 * A row without a key or a sequence value can never be compared; it becomes a
 * reject, or an error where nobody could find the reject.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"
#include "utils/tuplesort.h"

#include "catalog/catalog_access.h"
#include "flow/merge_internal.h"

/* Computes expressions over the rows of a tuplestore. */
struct LhProjection
{
	EState	   *estate;
	ExprContext *econtext;
	ProjectionInfo *info;
	TupleTableSlot *input;
	TupleTableSlot *output;
};

/* The sort that brings the rows of a key together, winners first. */
typedef struct WinnerSort
{
	LhMergePlan *plan;
	Tuplesortstate *state;
	int			ncolumns;
	AttrNumber *attnums;
	SortSupport support;		/* one for each sort column */
} WinnerSort;

static WinnerSort *sort_begin(LhMergePlan *plan);
static void sort_add_column(WinnerSort *sort, const LhMergeColumn *column,
							bool descending, Oid collation, Oid *operators,
							Oid *collations);
static bool same_in_sort(WinnerSort *sort, int ncolumns, TupleTableSlot *a, TupleTableSlot *b);
static int	compare_rows(const LhMergePlan *plan, TupleTableSlot *a, TupleTableSlot *b);
static int	compare_values(LhMergeColumn *column, Datum a, Datum b);
static LhMergeRows *collect_winners(WinnerSort *sort);
static void put_winner(const LhMergePlan *plan, LhMergeRows *winners, TupleTableSlot *slot);
static bool check_complete(const LhMergePlan *plan, TupleTableSlot *work,
						   TupleTableSlot *delta, LhMergeCounts *counts);
static void reject_row(const LhMergePlan *plan, const char *column, const char *message,
					   TupleTableSlot *delta);

/*
 * lh_projection_begin prepares to compute "expressions" over rows of "from".
 */
LhProjection *
lh_projection_begin(List *expressions, TupleDesc from, TupleDesc to)
{
	LhProjection *projection = palloc0(sizeof(LhProjection));
	List	   *targets = NIL;
	ListCell   *cell;
	MemoryContext old;

	projection->estate = CreateExecutorState();
	projection->econtext = CreateExprContext(projection->estate);
	projection->input = MakeSingleTupleTableSlot(from, &TTSOpsMinimalTuple);
	projection->output = MakeSingleTupleTableSlot(to, &TTSOpsVirtual);

	old = MemoryContextSwitchTo(projection->estate->es_query_cxt);
	foreach(cell, expressions)
		targets = lappend(targets,
						  makeTargetEntry(expression_planner(copyObject(lfirst(cell))),
										  list_length(targets) + 1, NULL, false));
	projection->info = ExecBuildProjectionInfo(targets, projection->econtext,
											   projection->output, NULL, from);
	MemoryContextSwitchTo(old);
	return projection;
}

/*
 * lh_projection_next returns the next row, computed; NULL at the end.  It is
 * valid until the next call.
 */
TupleTableSlot *
lh_projection_next(LhProjection *projection, Tuplestorestate *rows)
{
	CHECK_FOR_INTERRUPTS();
	if (!tuplestore_gettupleslot(rows, true, false, projection->input))
		return NULL;
	ResetExprContext(projection->econtext);
	projection->econtext->ecxt_scantuple = projection->input;
	return ExecProject(projection->info);
}

/*
 * lh_projection_input returns the row that the last result was computed from.
 */
TupleTableSlot *
lh_projection_input(LhProjection *projection)
{
	return projection->input;
}

void
lh_projection_end(LhProjection *projection)
{
	ExecDropSingleTupleTableSlot(projection->input);
	ExecDropSingleTupleTableSlot(projection->output);
	FreeExecutorState(projection->estate);
	pfree(projection);
}

/*
 * lh_merge_winners returns one work row for each key of the delta, in the order
 * of the keys, in the current memory context.  Counts rows read and rejected.
 */
LhMergeRows *
lh_merge_winners(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
				 LhMergeCounts *counts)
{
	LhProjection *projection = lh_projection_begin(plan->expressions, delta, plan->work);
	WinnerSort *sort = sort_begin(plan);
	TupleTableSlot *slot;
	LhMergeRows *winners;

	tuplestore_rescan(rows);
	while ((slot = lh_projection_next(projection, rows)) != NULL)
	{
		counts->rows_in++;
		if (check_complete(plan, slot, lh_projection_input(projection), counts))
			tuplesort_puttupleslot(sort->state, slot);
	}
	lh_projection_end(projection);
	tuplesort_performsort(sort->state);
	winners = collect_winners(sort);
	tuplesort_end(sort->state);
	return winners;
}

/*
 * sort_begin orders work rows by key, then, as far as single columns decide it,
 * the winner first.
 */
static WinnerSort *
sort_begin(LhMergePlan *plan)
{
	int			most = plan->nkeys + plan->nsequences + 2;
	WinnerSort *sort = palloc0(sizeof(WinnerSort));
	Oid		   *operators = palloc(sizeof(Oid) * most);
	Oid		   *collations = palloc(sizeof(Oid) * most);
	bool	   *nulls_first = palloc0(sizeof(bool) * most);

	sort->plan = plan;
	sort->attnums = palloc(sizeof(AttrNumber) * most);
	sort->support = palloc0(sizeof(SortSupportData) * most);
	for (int i = 0; i < plan->nkeys; i++)
		sort_add_column(sort, plan->keys[i], false, plan->keys[i]->collation,
						operators, collations);
	for (int i = 0; i < plan->nsequences; i++)
		sort_add_column(sort, plan->sequences[i], true, plan->sequences[i]->order_collation,
						operators, collations);
	if (plan->load)
		sort_add_column(sort, plan->load, false, InvalidOid, operators, collations);
	/* false sorts first: an upsert beats a delete */
	if (plan->deleted)
		sort_add_column(sort, plan->deleted, false, InvalidOid, operators, collations);

	sort->state = tuplesort_begin_heap(plan->work, sort->ncolumns, sort->attnums, operators,
									   collations, nulls_first, maintenance_work_mem,
									   NULL, TUPLESORT_NONE);
	return sort;
}

static void
sort_add_column(WinnerSort *sort, const LhMergeColumn *column, bool descending,
				Oid collation, Oid *operators, Oid *collations)
{
	int			i = sort->ncolumns++;
	SortSupport support = &sort->support[i];

	sort->attnums[i] = column->attnum;
	operators[i] = descending ? column->gt_oid : column->lt_oid;
	collations[i] = collation;
	support->ssup_cxt = CurrentMemoryContext;
	support->ssup_collation = collation;
	support->ssup_attno = column->attnum;
	PrepareSortSupportFromOrderingOp(operators[i], support);
}

/*
 * same_in_sort compares the first columns of the sort.
 */
static bool
same_in_sort(WinnerSort *sort, int ncolumns, TupleTableSlot *a, TupleTableSlot *b)
{
	for (int i = 0; i < ncolumns; i++)
	{
		bool		a_null;
		bool		b_null;
		Datum		a_value = slot_getattr(a, sort->attnums[i], &a_null);
		Datum		b_value = slot_getattr(b, sort->attnums[i], &b_null);

		if (ApplySortComparator(a_value, a_null, b_value, b_null, &sort->support[i]) != 0)
			return false;
	}
	return true;
}

/*
 * collect_winners walks through the sorted rows.  Among rows that the sort
 * could not tell apart the value of the whole row decides.
 */
static LhMergeRows *
collect_winners(WinnerSort *sort)
{
	LhMergePlan *plan = sort->plan;
	LhMergeRows *winners = palloc0(sizeof(LhMergeRows));
	TupleTableSlot *best = MakeSingleTupleTableSlot(plan->work, &TTSOpsMinimalTuple);
	TupleTableSlot *next = MakeSingleTupleTableSlot(plan->work, &TTSOpsMinimalTuple);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lakehouse merge ties",
												  ALLOCSET_DEFAULT_SIZES);
	bool		undecided = true;	/* "best" ties with all seen of its key */

	winners->desc = plan->work;
	winners->store = tuplestore_begin_heap(false, false, maintenance_work_mem);
	while (tuplesort_gettupleslot(sort->state, true, true, next, NULL))
	{
		bool		better = false;

		CHECK_FOR_INTERRUPTS();
		if (TTS_EMPTY(best))
			better = true;
		else if (!same_in_sort(sort, plan->nkeys, best, next))
		{
			put_winner(plan, winners, best);
			better = true;
			undecided = true;
		}
		else if (undecided && same_in_sort(sort, sort->ncolumns, best, next))
		{
			MemoryContext old = MemoryContextSwitchTo(scratch);

			better = compare_rows(plan, next, best) > 0;
			MemoryContextSwitchTo(old);
			MemoryContextReset(scratch);
		}
		else
			undecided = false;

		if (better)
		{
			TupleTableSlot *swap = best;

			best = next;
			next = swap;
		}
	}
	if (!TTS_EMPTY(best))
		put_winner(plan, winners, best);
	ExecDropSingleTupleTableSlot(best);
	ExecDropSingleTupleTableSlot(next);
	MemoryContextDelete(scratch);
	return winners;
}

static void
put_winner(const LhMergePlan *plan, LhMergeRows *winners, TupleTableSlot *slot)
{
	bool		isnull;

	tuplestore_puttupleslot(winners->store, slot);
	winners->count++;
	if (plan->deleted && DatumGetBool(slot_getattr(slot, plan->deleted->attnum, &isnull)))
		winners->deletes++;
}

/*
 * compare_rows compares the stored columns from left to right, in the target's
 * order: positive if "a" wins.  The greater value wins, in mode insert_only the
 * smaller one; NULL loses against any value.
 */
static int
compare_rows(const LhMergePlan *plan, TupleTableSlot *a, TupleTableSlot *b)
{
	int			sign = plan->merge->mode == LH_MERGE_INSERT_ONLY ? -1 : 1;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		LhMergeColumn *column = &plan->columns[i];
		bool		a_null;
		bool		b_null;
		Datum		a_value = slot_getattr(a, column->attnum, &a_null);
		Datum		b_value = slot_getattr(b, column->attnum, &b_null);
		int			result;

		if (a_null || b_null)
			result = (a_null ? 0 : 1) - (b_null ? 0 : 1);
		else
			result = compare_values(column, a_value, b_value) * sign;
		if (result != 0)
			return result;
	}
	return 0;
}

/*
 * compare_values compares by the type's own order; where that calls different
 * representations equal, or where there is none, the text form decides.
 */
static int
compare_values(LhMergeColumn *column, Datum a, Datum b)
{
	int			result = 0;

	if (column->lt != NULL)
		result = DatumGetInt32(FunctionCall2Coll(&column->compare, column->order_collation, a, b));
	if (result == 0 && !column->exact)
		result = strcmp(OutputFunctionCall(&column->output, a),
						OutputFunctionCall(&column->output, b));
	return result;
}

/*
 * check_complete tells whether the row has a key and a sequence value; one that
 * has not is put aside.
 */
static bool
check_complete(const LhMergePlan *plan, TupleTableSlot *work, TupleTableSlot *delta,
			   LhMergeCounts *counts)
{
	const LhMergeColumn *missing = NULL;

	for (int i = 0; i < plan->nkeys && missing == NULL; i++)
		if (slot_attisnull(work, plan->keys[i]->attnum))
			missing = plan->keys[i];
	for (int i = 0; i < plan->nsequences && missing == NULL; i++)
		if (slot_attisnull(work, plan->sequences[i]->attnum))
			missing = plan->sequences[i];
	if (missing == NULL)
		return true;

	counts->rejected++;
	reject_row(plan, missing->label,
			   psprintf("null value in %s column \"%s\" of table \"%s\"",
						missing->key ? "key" : "sequence", missing->label,
						get_rel_name(plan->merge->target)),
			   delta);
	return false;
}

/*
 * reject_row keeps the delta row as JSON in lakehouse.reject, or raises when
 * the merge belongs to no load by which the reject could be found.
 */
static void
reject_row(const LhMergePlan *plan, const char *column, const char *message,
		   TupleTableSlot *delta)
{
	static const Oid types[] = {INT4OID, INT8OID, BYTEAOID, TEXTOID, TEXTOID};
	Datum		values[5];
	char		nulls[6] = "     ";
	LhCatalog	catalog;

	if (plan->merge->load_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("%s", message),
				 errhint("Leave such rows out of the query, or merge into a table that lakehouse manages: there they become rejects.")));

	(void) BlessTupleDesc(delta->tts_tupleDescriptor);
	/* the types' output functions run as the current user, not as ours */
	values[0] = Int32GetDatum(plan->merge->flow_id);
	values[1] = Int64GetDatum(plan->merge->load_id);
	values[2] = OidFunctionCall1(F_ROW_TO_JSON_RECORD, ExecFetchSlotHeapTupleDatum(delta));
	values[3] = CStringGetTextDatum(message);
	values[4] = CStringGetTextDatum(column);
	if (plan->merge->flow_id == 0)
		nulls[0] = 'n';
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.reject (flow_id, load_id, raw, stage, sqlstate, message, column_name)"
				   " VALUES ($1, $2, $3, 'merge', '23502', $4, $5)",
				   5, types, values, nulls);
	lh_catalog_end(&catalog);
}
