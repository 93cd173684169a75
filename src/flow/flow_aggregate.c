/*
 * flow_aggregate.c
 *	  Groups kept up to date by computing anew just those that new loads touch.
 *
 * Invariant: a group whose stored row differs from what its query gives now has
 * a pending load that touches it.  A row that joined a group consists of rows
 * of which at least one is in a pending load; a row that left it consisted of
 * rows of which at least one is kept as an old image of a pending load, and the
 * others are still there or kept likewise.  So the touched keys are looked for
 * with one occurrence reading the slice's rows and old images, and the others
 * all rows and the old images of everything pending; a key too many does no
 * harm.  With a streaming input on the nullable side of an outer join, a row may
 * also consist of the absence of rows there; conditions on that side are left
 * out of the search.
 */
#include "postgres.h"

#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/lockdefs.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "delta/delta.h"
#include "flow/flow.h"
#include "flow/flow_ddl.h"

#define TOUCHED_NAME "lakehouse_touched"

/* the keys of groups that a slice touches */
typedef struct Touched
{
	Tuplestorestate *keys;		/* distinct */
	TupleDesc	desc;
	Tuplestorestate *null_keys; /* those of them that hold a NULL, or NULL */
	bool	   *has_null;		/* for each key column */
} Touched;

static Query *user_query(const Query *wrapper);
static TargetEntry *find_column(const Query *query, const char *name);
static void check_groups(const LhFlow *flow, const Query *query);
static void check_nullable(const LhFlow *flow, Query *query, const LhOccurrence *occurrence);
static Relids nullable_relids(const JoinExpr *join);
static bool check_upper_joins(Query *query, Node *node, const JoinExpr *join, Relids nullable);
static Query *touched_query(const LhFlow *flow, const LhStatement *statement,
							const LhSlice *slice, int number);
static void drop_nullable_conditions(Query *query, const LhOccurrence *occurrence);
static void make_inner(Query *query, const LhOccurrence *occurrence);
static void strip_to_keys(Query *query, List *keys);
static void find_touched(const LhFlow *flow, const LhStatement *statement,
						 const LhSlice *slice, Touched *touched);
static void find_nulls(Touched *touched);
static Query *restricted_query(const LhFlow *flow, const LhStatement *statement,
							   const Touched *touched, bool nulls);
static Node *equality(Node *left, Node *right, bool nulls_equal);
static Tuplestorestate *open_store(DestReceiver **dest);
static QueryEnvironment *key_environment(Tuplestorestate *keys, TupleDesc desc);

static Query *
user_query(const Query *wrapper)
{
	return rt_fetch(1, wrapper->rtable)->subquery;
}

static TargetEntry *
find_column(const Query *query, const char *name)
{
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!entry->resjunk && strcmp(entry->resname, name) == 0)
			return entry;
	}
	elog(ERROR, "column \"%s\" is not in the query", name);
	return NULL;
}

static bool
is_grouped_by(const TargetEntry *entry, List *clauses)
{
	ListCell   *cell;

	foreach(cell, clauses)
		if (entry->ressortgroupref != 0 &&
			lfirst_node(SortGroupClause, cell)->tleSortGroupRef == entry->ressortgroupref)
			return true;
	return false;
}

/*
 * lh_flow_default_keys returns the columns that tell the query's groups apart.
 */
List *
lh_flow_default_keys(const LhFlow *flow, const LhStatement *statement)
{
	Query	   *query = user_query(statement->query);
	List	   *clauses = query->groupClause ? query->groupClause : query->distinctClause;
	List	   *keys = NIL;
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!is_grouped_by(entry, clauses))
			continue;
		if (entry->resjunk)
			ereport(ERROR,
					(errcode(ERRCODE_GROUPING_ERROR),
					 errmsg("flow \"%s\" groups by an expression that is not a column of its result", flow->name),
					 errhint("Add the expression to the SELECT list, or list the columns by which groups are to be looked up in keys.")));
		keys = lappend(keys, pstrdup(entry->resname));
	}
	if (keys == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("flow \"%s\" of mode %s has no GROUP BY to take its keys from", flow->name, flow->mode),
				 errhint("List in keys the columns by which rows are to be computed anew, or use mode => 'complete'.")));
	return keys;
}

/*
 * lh_flow_check_recompute raises unless touched groups can be found and computed.
 */
void
lh_flow_check_recompute(const LhFlow *flow, const LhStatement *statement)
{
	Query	   *query = user_query(statement->query);
	ListCell   *cell;

	lh_flow_check_stable(flow, statement);
	foreach(cell, statement->occurrences)
	{
		LhOccurrence *occurrence = lfirst(cell);

		if (occurrence->recompute_obstacle != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("flow \"%s\" of mode %s cannot stream from table \"%s\"",
							flow->name, flow->mode, get_rel_name(occurrence->relation)),
					 errdetail("The query reads the table %s, where the groups that new rows touch cannot be found.",
							   occurrence->recompute_obstacle),
					 errhint("List the table in static, or use mode => 'complete'.")));
	}
	lh_statement_check_covered(statement, flow->mode);
	check_groups(flow, query);
	foreach(cell, statement->occurrences)
		check_nullable(flow, query, lfirst(cell));
}

static void
check_groups(const LhFlow *flow, const Query *query)
{
	ListCell   *cell;

	if (query->hasTargetSRFs)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("flow \"%s\" of mode %s cannot have a set-returning function in its SELECT list",
						flow->name, flow->mode),
				 errhint("Move the function to the FROM clause.")));
	if (query->hasAggs && query->groupClause == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("flow \"%s\" of mode %s needs GROUP BY", flow->name, flow->mode),
				 errdetail("Without it every new row touches the only group."),
				 errhint("Use mode => 'complete'.")));
	foreach(cell, flow->merge.keys)
	{
		char	   *key = lfirst(cell);
		TargetEntry *entry = NULL;
		ListCell   *other;

		foreach(other, query->targetList)
			if (!lfirst_node(TargetEntry, other)->resjunk &&
				strcmp(lfirst_node(TargetEntry, other)->resname, key) == 0)
				entry = lfirst(other);
		if (entry == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" is not in the query of flow \"%s\"", key, flow->name)));
		if ((query->groupClause && !is_grouped_by(entry, query->groupClause)) ||
			(query->distinctClause && !is_grouped_by(entry, query->distinctClause)))
			ereport(ERROR,
					(errcode(ERRCODE_GROUPING_ERROR),
					 errmsg("key column \"%s\" of flow \"%s\" is not grouped by", key, flow->name),
					 errhint("Keys must be columns of GROUP BY or DISTINCT.")));
	}
}

/*
 * check_nullable raises where a new row on the nullable side of an outer join
 * could move a result row out of a group that an inner join does not find: one
 * that is told by columns of the nullable side itself.
 */
static void
check_nullable(const LhFlow *flow, Query *query, const LhOccurrence *occurrence)
{
	const char *reason = NULL;
	ListCell   *cell;

	foreach(cell, occurrence->outer_joins)
	{
		JoinExpr   *join = lfirst(cell);
		Relids		nullable = nullable_relids(join);
		Relids		joined = lh_compat_jointree_relids((Node *) join);
		ListCell   *other;

		foreach(other, flow->merge.keys)
		{
			Node	   *key = lh_compat_flatten_groups(query, (Node *) find_column(query, lfirst(other))->expr);

			if (bms_overlap(pull_varnos(NULL, lh_compat_flatten_join_alias_vars(query, key)), nullable))
				reason = "a key column comes from the nullable side of an outer join";
		}
		foreach(other, make_ands_implicit((Expr *) query->jointree->quals))
		{
			Relids		used = pull_varnos(NULL, lh_compat_flatten_join_alias_vars(query, lfirst(other)));

			if (bms_overlap(used, nullable) && !bms_is_subset(used, joined))
				reason = "a condition compares the nullable side of an outer join with another table";
		}
		foreach(other, query->rtable)
			if (lfirst_node(RangeTblEntry, other)->lateral)
				reason = "the query has both an outer join and LATERAL";
		if (check_upper_joins(query, (Node *) query->jointree, join, nullable))
			reason = "a further join uses columns of the nullable side of an outer join";
	}
	if (reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("flow \"%s\" of mode %s cannot stream from table \"%s\"",
						flow->name, flow->mode, get_rel_name(occurrence->relation)),
				 errdetail("The table is on the nullable side of an outer join, and %s.", reason),
				 errhint("List the table in static, or use mode => 'complete'.")));
}

static Relids
nullable_relids(const JoinExpr *join)
{
	return lh_compat_jointree_relids(join->jointype == JOIN_RIGHT ? join->larg : join->rarg);
}

/*
 * check_upper_joins tells whether a join above "join" refers to its nullable
 * side.
 */
static bool
check_upper_joins(Query *query, Node *node, const JoinExpr *join, Relids nullable)
{
	ListCell   *cell;

	if (IsA(node, FromExpr))
	{
		foreach(cell, ((FromExpr *) node)->fromlist)
			if (check_upper_joins(query, lfirst(cell), join, nullable))
				return true;
	}
	else if (IsA(node, JoinExpr) && node != (Node *) join)
	{
		JoinExpr   *upper = (JoinExpr *) node;

		if (bms_is_subset(nullable, lh_compat_jointree_relids(node)) &&
			bms_overlap(pull_varnos(NULL, lh_compat_flatten_join_alias_vars(query, upper->quals)), nullable))
			return bms_is_member(join->rtindex, lh_compat_jointree_relids(node));
		return check_upper_joins(query, upper->larg, join, nullable) ||
			check_upper_joins(query, upper->rarg, join, nullable);
	}
	return false;
}

/*
 * lh_flow_recompute computes the groups that the slice touches and replaces
 * their rows.  Runs as the owner under the run's snapshot.
 */
void
lh_flow_recompute(const LhFlow *flow, const LhStatement *statement,
				  const LhSlice *slice, LhMergeCounts *counts)
{
	Touched		touched = {0};
	Tuplestorestate *rows;
	DestReceiver *dest;
	ErrorContextCallback callback;

	lh_execute_push_error_context(&callback, flow->name, flow->query);
	find_touched(flow, statement, slice, &touched);
	rows = open_store(&dest);
	if (tuplestore_tuple_count(touched.keys) > 0)
	{
		find_nulls(&touched);
		lh_execute_query(restricted_query(flow, statement, &touched, false), flow->query, dest,
						 key_environment(touched.keys, touched.desc), NULL);
		if (touched.null_keys != NULL)
			lh_execute_query(restricted_query(flow, statement, &touched, true), flow->query, dest,
							 key_environment(touched.null_keys, touched.desc), NULL);
	}
	error_context_stack = callback.previous;
	if (tuplestore_tuple_count(touched.keys) > 0 && lh_flow_is_sink(flow->mode))
		lh_flow_send(flow, statement, rows, touched.keys, touched.desc, counts);
	else if (tuplestore_tuple_count(touched.keys) > 0)
		lh_merge_apply(&flow->merge, rows, lh_statement_tupdesc(statement),
					   touched.keys, touched.desc, counts);
	tuplestore_end(rows);
	tuplestore_end(touched.keys);
	if (touched.null_keys != NULL)
		tuplestore_end(touched.null_keys);
}

static Tuplestorestate *
open_store(DestReceiver **dest)
{
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);

	if (dest != NULL)
	{
		*dest = CreateDestReceiver(DestTuplestore);
		SetTuplestoreDestReceiverParams(*dest, store, CurrentMemoryContext, false, NULL, NULL);
	}
	return store;
}

static QueryEnvironment *
key_environment(Tuplestorestate *keys, TupleDesc desc)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = TOUCHED_NAME;
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = (double) tuplestore_tuple_count(keys);
	relation->reldata = keys;
	register_ENR(environment, relation);
	return environment;
}

/*
 * find_touched gathers the distinct keys of all groups that the slice touches.
 */
static void
find_touched(const LhFlow *flow, const LhStatement *statement,
			 const LhSlice *slice, Touched *touched)
{
	DestReceiver *dest;
	int			filled = 0;

	touched->keys = open_store(&dest);
	for (int i = 0; i < list_length(statement->occurrences); i++)
	{
		Query	   *query = touched_query(flow, statement, slice, i);

		if (query == NULL)
			continue;
		if (touched->desc == NULL)
			touched->desc = ExecCleanTypeFromTL(query->targetList);
		if (lh_execute_query(query, flow->query, dest, NULL, NULL) > 0)
			filled++;
	}
	if (filled > 1)
	{
		/* each variant gave distinct keys, but two may have given the same */
		Tuplestorestate *all = touched->keys;
		QueryEnvironment *environment = key_environment(all, touched->desc);
		const char *sql = "SELECT DISTINCT * FROM " TOUCHED_NAME;
		List	   *queries;

		queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)),
													 sql, NULL, 0, environment);
		touched->keys = open_store(&dest);
		lh_execute_query(linitial_node(Query, queries), sql, dest, environment, NULL);
		tuplestore_end(all);
	}
}

/*
 * touched_query returns the query of the keys that changes of occurrence
 * "number" touch, NULL if the slice holds none.
 */
static Query *
touched_query(const LhFlow *flow, const LhStatement *statement, const LhSlice *slice, int number)
{
	Query	   *wrapper = copyObject(statement->query);
	Query	   *query = user_query(wrapper);
	List	   *occurrences = lh_statement_occurrences(statement, wrapper);
	LhOccurrence *chosen = list_nth(occurrences, number);
	LhSliceInput *input = lh_slice_input(slice, chosen->relation);
	ListCell   *cell;
	int			i = 0;

	if (input == NULL || input->loads == NULL)
		return NULL;
	foreach(cell, occurrences)
		drop_nullable_conditions(query, lfirst(cell));
	make_inner(query, chosen);
	lh_rewrite_other_arms(chosen);
	foreach(cell, occurrences)
	{
		lh_rewrite_occurrence(lfirst(cell), slice, i == number ? LH_READ_CHANGED : LH_READ_EVER);
		i++;
	}
	strip_to_keys(query, flow->merge.keys);
	return query;
}

/*
 * drop_nullable_conditions drops conditions on the nullable side that an
 * occurrence is on: whether its rows are there decides about rows of the other
 * side, so each of those may have been in a group, or have left it.
 */
static void
drop_nullable_conditions(Query *query, const LhOccurrence *occurrence)
{
	ListCell   *cell;

	foreach(cell, occurrence->outer_joins)
	{
		Relids		nullable = nullable_relids(lfirst(cell));
		List	   *kept = NIL;
		ListCell   *other;

		foreach(other, make_ands_implicit((Expr *) query->jointree->quals))
			if (!bms_overlap(pull_varnos(NULL, lh_compat_flatten_join_alias_vars(query, lfirst(other))), nullable))
				kept = lappend(kept, lfirst(other));
		query->jointree->quals = kept == NIL ? NULL : (Node *) make_ands_explicit(kept);
	}
}

/*
 * make_inner turns the outer joins whose nullable side holds the occurrence into
 * inner joins: what its changed rows do not join they do not touch.
 */
static void
make_inner(Query *query, const LhOccurrence *occurrence)
{
	ListCell   *cell;

	foreach(cell, occurrence->outer_joins)
	{
		JoinExpr   *join = lfirst(cell);

		join->jointype = JOIN_INNER;
		rt_fetch(join->rtindex, query->rtable)->jointype = JOIN_INNER;
		lh_compat_remove_nulling(query, join->rtindex);
	}
}

/*
 * strip_to_keys makes the query give its distinct keys, ungrouped.
 */
static void
strip_to_keys(Query *query, List *keys)
{
	List	   *targets = NIL;
	List	   *distinct = NIL;
	ListCell   *cell;

	foreach(cell, keys)
	{
		TargetEntry *entry = find_column(query, lfirst(cell));
		TargetEntry *target;
		SortGroupClause *clause = makeNode(SortGroupClause);
		int			number = list_length(targets) + 1;

		target = makeTargetEntry((Expr *) lh_compat_flatten_groups(query, copyObject(entry->expr)),
								 number, entry->resname, false);
		target->ressortgroupref = clause->tleSortGroupRef = number;
		get_sort_group_operators(exprType((Node *) target->expr), false, true, false,
								 &clause->sortop, &clause->eqop, NULL, &clause->hashable);
		targets = lappend(targets, target);
		distinct = lappend(distinct, clause);
	}
	query->targetList = targets;
	query->distinctClause = distinct;
	query->hasDistinctOn = false;
	query->groupClause = NIL;
	query->groupDistinct = false;
	query->havingQual = NULL;
	query->hasAggs = false;
	query->sortClause = NIL;
	lh_compat_forget_groups(query);
}

/*
 * find_nulls sorts out the keys that hold a NULL, which no equality finds.
 */
static void
find_nulls(Touched *touched)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(touched->desc, &TTSOpsMinimalTuple);

	touched->has_null = palloc0(sizeof(bool) * touched->desc->natts);
	tuplestore_rescan(touched->keys);
	while (tuplestore_gettupleslot(touched->keys, true, false, slot))
	{
		bool		found = false;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		for (int i = 0; i < touched->desc->natts; i++)
			if (slot->tts_isnull[i])
				found = touched->has_null[i] = true;
		if (!found)
			continue;
		if (touched->null_keys == NULL)
			touched->null_keys = open_store(NULL);
		tuplestore_puttupleslot(touched->null_keys, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_rescan(touched->keys);
}

/*
 * restricted_query joins the user's query with the touched keys, beneath its
 * GROUP BY, so that indexes of the inputs are of use.
 */
static Query *
restricted_query(const LhFlow *flow, const LhStatement *statement, const Touched *touched, bool nulls)
{
	Query	   *wrapper = copyObject(statement->query);
	Query	   *query = user_query(wrapper);
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	RangeTblRef *reference = makeNode(RangeTblRef);
	List	   *quals = NIL;
	ListCell   *cell;
	int			i = 0;

	entry->rtekind = RTE_NAMEDTUPLESTORE;
	entry->enrname = TOUCHED_NAME;
	entry->enrtuples = (double) tuplestore_tuple_count(nulls ? touched->null_keys : touched->keys);
	entry->eref = makeAlias(TOUCHED_NAME, NIL);
	entry->inFromCl = true;
	for (i = 0; i < touched->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(touched->desc, i);

		entry->eref->colnames = lappend(entry->eref->colnames,
										makeString(pstrdup(NameStr(attribute->attname))));
		entry->coltypes = lappend_oid(entry->coltypes, attribute->atttypid);
		entry->coltypmods = lappend_int(entry->coltypmods, attribute->atttypmod);
		entry->colcollations = lappend_oid(entry->colcollations, attribute->attcollation);
	}
	query->rtable = lappend(query->rtable, entry);
	reference->rtindex = list_length(query->rtable);
	query->jointree->fromlist = lappend(query->jointree->fromlist, reference);

	i = 0;
	if (query->jointree->quals != NULL)
		quals = list_make1(query->jointree->quals);
	foreach(cell, flow->merge.keys)
	{
		Form_pg_attribute attribute = TupleDescAttr(touched->desc, i);
		Node	   *key = copyObject((Node *) find_column(query, lfirst(cell))->expr);
		Node	   *value = (Node *) makeVar(reference->rtindex, i + 1, attribute->atttypid,
											 attribute->atttypmod, attribute->attcollation, 0);

		quals = lappend(quals, equality(lh_compat_flatten_groups(query, key), value,
										nulls && touched->has_null[i]));
		i++;
	}
	query->jointree->quals = (Node *) make_ands_explicit(quals);
	return wrapper;
}

static Node *
relabel(Node *value, Oid type)
{
	if (IsPolymorphicType(type) || exprType(value) == type)
		return value;
	return (Node *) makeRelabelType((Expr *) value, type, -1, exprCollation(value),
									COERCE_IMPLICIT_CAST);
}

/*
 * equality makes left = right by the type's own operator, or with nulls_equal
 * left IS NOT DISTINCT FROM right.
 */
static Node *
equality(Node *left, Node *right, bool nulls_equal)
{
	TypeCacheEntry *type = lookup_type_cache(exprType(left), TYPECACHE_EQ_OPR);
	Oid			collation = exprCollation(left);
	Oid			left_type;
	Oid			right_type;
	OpExpr	   *comparison;

	if (!OidIsValid(type->eq_opr))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an equality operator for type %s",
						format_type_be(exprType(left)))));
	op_input_types(type->eq_opr, &left_type, &right_type);
	comparison = (OpExpr *) make_opclause(type->eq_opr, BOOLOID, false,
										  (Expr *) relabel(left, left_type),
										  (Expr *) relabel(right, right_type),
										  InvalidOid, collation);
	if (!nulls_equal)
		return (Node *) comparison;
	/* same struct, other tag */
	NodeSetTag(comparison, T_DistinctExpr);
	return (Node *) make_notclause((Expr *) comparison);
}
