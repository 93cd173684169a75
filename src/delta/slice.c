/*
 * slice.c
 *	  The loads that one run of a flow consumes.
 *
 * Invariant: a slice is read under the snapshot that the run's queries use, and
 * under the flow's lock.  Each of its loads is therefore visible as a whole, and
 * exactly the queue rows that were read are deleted: a load that commits
 * meanwhile, whatever its number, stays queued.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog/catalog_access.h"
#include "delta/delta.h"
#include "delta/load.h"

PG_FUNCTION_INFO_V1(lakehouse_in_loads);
PG_FUNCTION_INFO_V1(lakehouse_in_loads_support);

/* share of a table that loads of unknown size are taken to be */
#define UNKNOWN_SHARE 0.1

static void read_loads(int32 flow_id, int max_loads, LhSlice *slice, MemoryContext context);
static void read_waiting(int32 flow_id, int max_loads, LhSlice *slice, MemoryContext context);
static Node *support_selectivity(SupportRequestSelectivity *request);
static Node *support_index(SupportRequestIndexCondition *request);

/*
 * lh_slice_read reads, under the active snapshot, up to max_loads of what is
 * pending for the flow, and what it leaves.  The result lives in the current
 * context.
 */
LhSlice *
lh_slice_read(int32 flow_id, int max_loads)
{
	LhSlice    *slice = palloc0(sizeof(LhSlice));
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	read_loads(flow_id, max_loads, slice, context);
	if (slice->count >= max_loads)
		read_waiting(flow_id, max_loads, slice, context);
	lh_catalog_end(&catalog);
	return slice;
}

static ArrayType *
copy_array(uint64 row, int column, MemoryContext context)
{
	bool		isnull;
	Datum		value = lh_catalog_value(row, column, &isnull);
	MemoryContext old = MemoryContextSwitchTo(context);
	ArrayType  *array = DatumGetArrayTypePCopy(value);

	MemoryContextSwitchTo(old);
	return array;
}

static LhSliceInput *
add_input(LhSlice *slice, Oid relation, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	LhSliceInput *input = palloc0(sizeof(LhSliceInput));

	input->relation = relation;
	input->rows = -1;
	slice->inputs = lappend(slice->inputs, input);
	MemoryContextSwitchTo(old);
	return input;
}

static void
read_loads(int32 flow_id, int max_loads, LhSlice *slice, MemoryContext context)
{
	static const Oid types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(flow_id), Int32GetDatum(max_loads)};
	uint64		count;

	count = lh_catalog_read("SELECT p.input, pg_catalog.array_agg(p.load_id ORDER BY p.load_id),"
							" CASE WHEN pg_catalog.bool_and(l.rows IS NOT NULL)"
							" THEN pg_catalog.sum(l.rows)::pg_catalog.float8 END"
							" FROM (SELECT input, load_id FROM lakehouse.pending"
							"        WHERE flow_id OPERATOR(pg_catalog.=) $1"
							"        ORDER BY load_id, input LIMIT $2) p"
							" LEFT JOIN lakehouse.load l ON l.load_id OPERATOR(pg_catalog.=) p.load_id"
							" GROUP BY p.input ORDER BY p.input",
							2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		LhSliceInput *input = add_input(slice, lh_catalog_oid(row, 1), context);
		bool		isnull;
		Datum		rows = lh_catalog_value(row, 3, &isnull);

		input->loads = copy_array(row, 2, context);
		if (!isnull)
			input->rows = DatumGetFloat8(rows);
		slice->count += ArrayGetNItems(ARR_NDIM(input->loads), ARR_DIMS(input->loads));
	}
}

static void
read_waiting(int32 flow_id, int max_loads, LhSlice *slice, MemoryContext context)
{
	static const Oid types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(flow_id), Int32GetDatum(max_loads)};
	uint64		count;

	count = lh_catalog_read("SELECT p.input, pg_catalog.array_agg(p.load_id ORDER BY p.load_id)"
							" FROM (SELECT input, load_id FROM lakehouse.pending"
							"        WHERE flow_id OPERATOR(pg_catalog.=) $1"
							"        ORDER BY load_id, input OFFSET $2) p"
							" GROUP BY p.input ORDER BY p.input",
							2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		Oid			relation = lh_catalog_oid(row, 1);
		LhSliceInput *input = NULL;
		ListCell   *cell;

		foreach(cell, slice->inputs)
			if (((LhSliceInput *) lfirst(cell))->relation == relation)
				input = lfirst(cell);
		if (input == NULL)
			input = add_input(slice, relation, context);
		input->waiting = copy_array(row, 2, context);
	}
}

/*
 * lh_slice_input returns what the slice holds of one input, NULL if nothing of
 * that input is pending at all.
 */
LhSliceInput *
lh_slice_input(const LhSlice *slice, Oid relation)
{
	ListCell   *cell;

	foreach(cell, slice->inputs)
		if (((LhSliceInput *) lfirst(cell))->relation == relation)
			return lfirst(cell);
	return NULL;
}

/*
 * lh_slice_consume deletes the slice's loads from the flow's queue.  What this
 * transaction writes into an input from now on is a load of its own: added to a
 * load that is consumed, it would never be seen.
 */
void
lh_slice_consume(int32 flow_id, const LhSlice *slice)
{
	static const Oid types[] = {INT4OID, OIDOID, INT8ARRAYOID};
	uint64		deleted = 0;
	LhCatalog	catalog;
	ListCell   *cell;

	lh_catalog_begin(&catalog);
	foreach(cell, slice->inputs)
	{
		LhSliceInput *input = lfirst(cell);
		Datum		values[3];

		if (input->loads == NULL)
			continue;
		lh_load_clear_current(input->relation);
		values[0] = Int32GetDatum(flow_id);
		values[1] = ObjectIdGetDatum(input->relation);
		values[2] = PointerGetDatum(input->loads);
		deleted += lh_catalog_run("DELETE FROM lakehouse.pending"
								  " WHERE flow_id OPERATOR(pg_catalog.=) $1"
								  " AND input OPERATOR(pg_catalog.=) $2"
								  " AND load_id OPERATOR(pg_catalog.=) ANY ($3)",
								  3, types, values, NULL);
	}
	lh_catalog_end(&catalog);
	if (deleted != (uint64) slice->count)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("queue of flow changed while it was being run")));
}

/*
 * lakehouse._in_loads(load, loads, rows): is the load among the loads?  A binary
 * search.  "rows" is for the planner: the number of rows that qualify.
 */
Datum
lakehouse_in_loads(PG_FUNCTION_ARGS)
{
	int64		load = PG_GETARG_INT64(0);
	ArrayType  *loads = PG_GETARG_ARRAYTYPE_P(1);
	int64	   *values = (int64 *) ARR_DATA_PTR(loads);
	int			low = 0;
	int			high = ArrayGetNItems(ARR_NDIM(loads), ARR_DIMS(loads));

	if (ARR_HASNULL(loads))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array of loads must not contain nulls")));
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (values[middle] < load)
			low = middle + 1;
		else
			high = middle;
	}
	PG_RETURN_BOOL(low < ArrayGetNItems(ARR_NDIM(loads), ARR_DIMS(loads)) && values[low] == load);
}

/*
 * lakehouse._in_loads_support tells the planner how many rows qualify, which no
 * statistics could know of loads that have just come, and how to find them with
 * an index on _load_id.
 */
Datum
lakehouse_in_loads_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	Node	   *result = NULL;

	if (IsA(request, SupportRequestSelectivity))
		result = support_selectivity((SupportRequestSelectivity *) request);
	else if (IsA(request, SupportRequestIndexCondition))
		result = support_index((SupportRequestIndexCondition *) request);
	PG_RETURN_POINTER(result);
}

static Node *
support_selectivity(SupportRequestSelectivity *request)
{
	Node	   *column = linitial(request->args);
	Node	   *rows = lthird(request->args);
	double		share = UNKNOWN_SHARE;

	if (request->is_join || !IsA(column, Var) || !IsA(rows, Const) ||
		((Var *) column)->varlevelsup != 0)
		return NULL;
	if (DatumGetFloat8(((Const *) rows)->constvalue) >= 0)
	{
		RelOptInfo *rel = find_base_rel(request->root, ((Var *) column)->varno);

		if (rel->tuples > 0)
			share = DatumGetFloat8(((Const *) rows)->constvalue) / rel->tuples;
	}
	request->selectivity = Min(Max(share, 0.0), 1.0);
	return (Node *) request;
}

static Expr *
load_comparison(SupportRequestIndexCondition *request, Node *column, int64 load, int strategy)
{
	Oid			operator = get_opfamily_member(request->opfamily, INT8OID, INT8OID, strategy);

	if (!OidIsValid(operator))
		return NULL;
	return make_opclause(operator, BOOLOID, false, (Expr *) copyObject(column),
						 (Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
											Int64GetDatum(load), false, FLOAT8PASSBYVAL),
						 InvalidOid, InvalidOid);
}

/*
 * support_index gives first <= column <= last; btree and BRIN (minmax) number
 * these strategies alike.
 */
static Node *
support_index(SupportRequestIndexCondition *request)
{
	List	   *arguments;
	Const	   *loads;
	ArrayType  *array;
	int			count;
	Expr	   *low;
	Expr	   *high;

	if (!IsA(request->node, FuncExpr) || request->indexarg != 0)
		return NULL;
	arguments = ((FuncExpr *) request->node)->args;
	loads = lsecond(arguments);
	if (!IsA(loads, Const) || loads->constisnull)
		return NULL;
	array = DatumGetArrayTypeP(loads->constvalue);
	count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (count == 0)
		return NULL;
	low = load_comparison(request, linitial(arguments),
						  ((int64 *) ARR_DATA_PTR(array))[0], BTGreaterEqualStrategyNumber);
	high = load_comparison(request, linitial(arguments),
						   ((int64 *) ARR_DATA_PTR(array))[count - 1], BTLessEqualStrategyNumber);
	if (low == NULL || high == NULL)
		return NULL;
	request->lossy = true;
	return (Node *) list_make2(low, high);
}
