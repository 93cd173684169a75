/*
 * rewrite.c
 *	  Variants of a statement that read parts of its streaming inputs.
 *
 * Invariant: a restricted occurrence is a sub-query over the same range-table
 * entry (its row security, its permissions and the role that they are checked
 * for go along), giving the same columns at the same positions.  So everything
 * that referred to the table refers to the part of it, in any position; the
 * planner pulls the sub-query up and sees an ordinary condition on _load_id.
 *
 * Why k variants are exact for k occurrences: a new result row is built from at
 * least one new row; the variant of its first new occurrence, and no other, finds
 * it, because in variant i the occurrences before i are read by old rows only.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "delta/capture.h"
#include "delta/delta.h"
#include "delta/load.h"

static Query *scan_query(Query *outer, RangeTblEntry *entry, Index rtindex);
static Query *image_query(Oid relation, Oid images, ArrayType *loads);
static Query *union_query(Query *left, Query *right);
static Node *in_loads(Index varno, AttrNumber column, ArrayType *loads, double rows);
static ArrayType *merge_arrays(ArrayType *a, ArrayType *b);

/*
 * lh_rewrite_variant returns a copy of the statement's query in which occurrence
 * "number" reads the slice, those before it the rows consumed earlier, and those
 * after it both; NULL if the slice holds no load of that input.
 */
Query *
lh_rewrite_variant(const LhStatement *statement, const LhSlice *slice, int number)
{
	LhOccurrence *chosen = list_nth(statement->occurrences, number);
	LhSliceInput *input = lh_slice_input(slice, chosen->relation);
	Query	   *query;
	List	   *occurrences;
	ListCell   *cell;
	int			i = 0;

	if (input == NULL || input->loads == NULL)
		return NULL;
	query = copyObject(statement->query);
	occurrences = lh_statement_occurrences(statement, query);
	lh_rewrite_other_arms(list_nth(occurrences, number));
	foreach(cell, occurrences)
	{
		lh_rewrite_occurrence(lfirst(cell), slice,
							  i == number ? LH_READ_NEW : i < number ? LH_READ_OLD : LH_READ_SEEN);
		i++;
	}
	return query;
}

/*
 * empty_arms makes all arms of a set operation but one give nothing.
 */
static void
empty_arms(Query *query, Node *node, Index but)
{
	if (IsA(node, SetOperationStmt))
	{
		empty_arms(query, ((SetOperationStmt *) node)->larg, but);
		empty_arms(query, ((SetOperationStmt *) node)->rarg, but);
	}
	else if (castNode(RangeTblRef, node)->rtindex != (int) but)
	{
		Query	   *arm = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable)->subquery;

		if (arm->setOperations)
			empty_arms(arm, arm->setOperations, 0);
		else
			arm->jointree->quals = makeBoolConst(false, false);
	}
}

/*
 * lh_rewrite_other_arms empties, in place, the arms of UNION ALL beside those
 * that the occurrence stands in: their rows owe nothing to its new rows.
 */
void
lh_rewrite_other_arms(const LhOccurrence *occurrence)
{
	ListCell   *cell;

	foreach(cell, occurrence->arms)
	{
		LhArm	   *arm = lfirst(cell);

		empty_arms(arm->query, arm->query->setOperations, arm->rtindex);
	}
}

/*
 * lh_rewrite_occurrence makes one occurrence, in place, read a part of its table.
 */
void
lh_rewrite_occurrence(const LhOccurrence *occurrence, const LhSlice *slice, LhRead how)
{
	RangeTblEntry *entry = rt_fetch(occurrence->rtindex, occurrence->query->rtable);
	LhSliceInput *input = lh_slice_input(slice, occurrence->relation);
	AttrNumber	column = get_attnum(occurrence->relation, LH_LOAD_COLUMN);
	Oid			images = InvalidOid;
	ArrayType  *excluded = NULL;
	Node	   *condition = NULL;
	Query	   *query;

	if (how == LH_READ_ALL || input == NULL)
	{
		/* nothing of this input is waiting, hence all of it is old */
		Assert(how != LH_READ_NEW && how != LH_READ_CHANGED);
		return;
	}
	if (how == LH_READ_CHANGED || how == LH_READ_EVER)
		images = lh_capture_images_of(occurrence->relation);
	if (how == LH_READ_EVER && !OidIsValid(images))
		return;

	if (how == LH_READ_NEW || how == LH_READ_CHANGED)
		condition = in_loads(1, column, input->loads, input->rows);
	else if (how == LH_READ_OLD)
		excluded = merge_arrays(input->loads, input->waiting);
	else if (how == LH_READ_SEEN)
		excluded = input->waiting;
	if (excluded != NULL)
		condition = (Node *) make_notclause((Expr *) in_loads(1, column, excluded, -1));
	if (condition == NULL && !OidIsValid(images))
		return;

	query = scan_query(occurrence->query, entry, occurrence->rtindex);
	query->jointree->quals = condition;
	if (OidIsValid(images))
		query = union_query(query,
							image_query(occurrence->relation, images,
										how == LH_READ_EVER ?
										merge_arrays(input->loads, input->waiting) : input->loads));
	entry->rtekind = RTE_SUBQUERY;
	entry->subquery = query;
	entry->security_barrier = false;
	entry->relid = InvalidOid;
	entry->relkind = 0;
	entry->rellockmode = 0;
	entry->inh = false;
	entry->securityQuals = NIL;
}

/*
 * scan_query selects every column of a table, a dropped one as NULL, through a
 * copy of the entry that read it; the entry's permissions move into the copy.
 */
static Query *
scan_query(Query *outer, RangeTblEntry *entry, Index rtindex)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *inner = copyObject(entry);
	RangeTblRef *reference = makeNode(RangeTblRef);
	Relation	relation = table_open(entry->relid, NoLock);
	TupleDesc	tupdesc = RelationGetDescr(relation);

	inner->lateral = false;
	inner->inFromCl = true;
	if (rtindex != 1)
		ChangeVarNodes((Node *) inner->securityQuals, rtindex, 1, 0);
	lh_compat_move_permissions(outer, entry, query, inner);

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->hasRowSecurity = outer->hasRowSecurity;
	query->hasSubLinks = checkExprHasSubLink((Node *) inner->securityQuals);
	query->rtable = list_make1(inner);
	reference->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(reference), NULL);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		Expr	   *value;

		if (attribute->attisdropped)
			value = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		else
			value = (Expr *) makeVar(1, attribute->attnum, attribute->atttypid,
									 attribute->atttypmod, attribute->attcollation, 0);
		query->targetList = lappend(query->targetList,
									makeTargetEntry(value, attribute->attnum,
													pstrdup(NameStr(attribute->attname)), false));
	}
	table_close(relation, NoLock);
	return query;
}

/*
 * image_query selects, in the shape of scan_query, the rows that some loads
 * replaced.  No permissions are checked: who may read the table may read what
 * it held, and only keys of groups are taken from here.
 */
static Query *
image_query(Oid relation_id, Oid images, ArrayType *loads)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	RangeTblRef *reference = makeNode(RangeTblRef);
	Relation	relation = table_open(relation_id, NoLock);
	Relation	side = table_open(images, AccessShareLock);
	TupleDesc	tupdesc = RelationGetDescr(relation);

	entry->rtekind = RTE_RELATION;
	entry->relid = images;
	entry->relkind = RELKIND_RELATION;
	entry->rellockmode = AccessShareLock;
	entry->inFromCl = true;
	entry->eref = makeAlias(RelationGetRelationName(side), NIL);
	for (int i = 0; i < RelationGetNumberOfAttributes(side); i++)
		entry->eref->colnames = lappend(entry->eref->colnames,
										makeString(pstrdup(NameStr(TupleDescAttr(RelationGetDescr(side), i)->attname))));
	lh_compat_no_permissions(query, entry);

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(entry);
	reference->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(reference),
								   in_loads(1, get_attnum(images, LH_CHANGED_COLUMN), loads, -1));
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		AttrNumber	number = InvalidAttrNumber;
		Expr	   *value = NULL;

		if (!attribute->attisdropped)
			number = get_attnum(images, NameStr(attribute->attname));
		if (number != InvalidAttrNumber)
		{
			Form_pg_attribute kept = TupleDescAttr(RelationGetDescr(side), number - 1);

			value = (Expr *) makeVar(1, number, kept->atttypid, kept->atttypmod,
									 kept->attcollation, 0);
			if (kept->atttypid != attribute->atttypid || kept->atttypmod != attribute->atttypmod)
				value = (Expr *) coerce_to_target_type(NULL, (Node *) value, kept->atttypid,
													   attribute->atttypid, attribute->atttypmod,
													   COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
		}
		if (value == NULL)
			value = (Expr *) (attribute->attisdropped ?
							  makeNullConst(INT4OID, -1, InvalidOid) :
							  makeNullConst(attribute->atttypid, attribute->atttypmod,
											attribute->attcollation));
		query->targetList = lappend(query->targetList,
									makeTargetEntry(value, attribute->attnum,
													pstrdup(NameStr(attribute->attname)), false));
	}
	table_close(side, NoLock);
	table_close(relation, NoLock);
	return query;
}

static RangeTblEntry *
subquery_entry(Query *query, const char *name)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	ListCell   *cell;

	entry->rtekind = RTE_SUBQUERY;
	entry->subquery = query;
	entry->inFromCl = true;
	entry->eref = makeAlias(name, NIL);
	foreach(cell, query->targetList)
		entry->eref->colnames = lappend(entry->eref->colnames,
										makeString(lfirst_node(TargetEntry, cell)->resname));
	return entry;
}

/*
 * union_query makes left UNION ALL right of two queries of the same columns.
 */
static Query *
union_query(Query *left, Query *right)
{
	Query	   *query = makeNode(Query);
	SetOperationStmt *operation = makeNode(SetOperationStmt);
	RangeTblRef *left_reference = makeNode(RangeTblRef);
	RangeTblRef *right_reference = makeNode(RangeTblRef);
	ListCell   *cell;

	left_reference->rtindex = 1;
	right_reference->rtindex = 2;
	operation->op = SETOP_UNION;
	operation->all = true;
	operation->larg = (Node *) left_reference;
	operation->rarg = (Node *) right_reference;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make2(subquery_entry(left, "now"), subquery_entry(right, "before"));
	query->jointree = makeFromExpr(NIL, NULL);
	query->setOperations = (Node *) operation;
	foreach(cell, left->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Oid			type = exprType((Node *) entry->expr);
		int32		typmod = exprTypmod((Node *) entry->expr);
		Oid			collation = exprCollation((Node *) entry->expr);

		operation->colTypes = lappend_oid(operation->colTypes, type);
		operation->colTypmods = lappend_int(operation->colTypmods, typmod);
		operation->colCollations = lappend_oid(operation->colCollations, collation);
		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) makeVar(1, entry->resno, type, typmod, collation, 0),
													entry->resno, entry->resname, false));
	}
	return query;
}

/*
 * in_loads makes lakehouse._in_loads(column, loads, rows).
 */
static Node *
in_loads(Index varno, AttrNumber column, ArrayType *loads, double rows)
{
	static const Oid types[] = {INT8OID, INT8ARRAYOID, FLOAT8OID};
	Oid			function;
	List	   *arguments;

	/* not by name through the parser: the owner may lack USAGE of our schema */
	function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("_in_loads"),
							   PointerGetDatum(buildoidvector(types, lengthof(types))),
							   ObjectIdGetDatum(get_namespace_oid("lakehouse", false)));
	if (!OidIsValid(function))
		elog(ERROR, "function lakehouse._in_loads does not exist");

	arguments = list_make3(makeVar(varno, column, INT8OID, -1, InvalidOid, 0),
						   makeConst(INT8ARRAYOID, -1, InvalidOid, -1, PointerGetDatum(loads), false, false),
						   makeConst(FLOAT8OID, -1, InvalidOid, sizeof(float8),
									 Float8GetDatum(rows), false, FLOAT8PASSBYVAL));
	return (Node *) makeFuncExpr(function, BOOLOID, arguments, InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

static int
compare_loads(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * merge_arrays returns the loads of both arrays, ascending; either may be NULL.
 */
static ArrayType *
merge_arrays(ArrayType *a, ArrayType *b)
{
	int			a_count = a ? ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a)) : 0;
	int			b_count = b ? ArrayGetNItems(ARR_NDIM(b), ARR_DIMS(b)) : 0;
	Datum	   *values = palloc(sizeof(Datum) * (a_count + b_count + 1));
	ArrayType  *result;

	if (b_count == 0)
		return a;
	if (a_count == 0)
		return b;
	for (int i = 0; i < a_count; i++)
		values[i] = Int64GetDatum(((int64 *) ARR_DATA_PTR(a))[i]);
	for (int i = 0; i < b_count; i++)
		values[a_count + i] = Int64GetDatum(((int64 *) ARR_DATA_PTR(b))[i]);
	result = construct_array(values, a_count + b_count, INT8OID, sizeof(int64),
							 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	qsort(ARR_DATA_PTR(result), a_count + b_count, sizeof(int64), compare_loads);
	return result;
}
