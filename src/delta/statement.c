/*
 * statement.c
 *	  A flow's statement: parsed, analysed, and its streaming inputs found.
 *
 * Invariant: what is refused is refused here, before anything runs; what is
 * accepted can be run on new rows by the technique of its mode.
 *
 * CTEs that read a streaming input are put in place of their references,
 * because each reference is an occurrence of its own; views have been expanded
 * by the server's rewriter.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/partition.h"
#include "executor/executor.h"
#include "storage/lockdefs.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "delta/delta.h"
#include "delta/load.h"

typedef struct CteInliner
{
	const char *name;
	int			levels;			/* from the query that defines the CTE */
	Query	   *query;
} CteInliner;

static Node *parse_one(const char *sql, const char *flow);
static Query *analyze_one(Node *statement, const char *sql, const char *flow);
static List *result_columns(const Query *query, const char *flow, bool *gives_load);
static SelectStmt *wrap_select(Node *select, List *columns, const LhInto *into);
static InsertStmt *wrap_insert(Node *select, List *columns, const LhInto *into);
static void check_query(Query *query, const char *flow);
static bool list_relations(Node *node, List **relations);
static bool inline_ctes(Node *node, LhStatement *statement);
static bool inline_references(Node *node, CteInliner *inliner);
static void check_occurrence(const LhStatement *statement, const LhOccurrence *occurrence);

/*
 * lh_statement_analyze parses, analyses and rewrites the statement as the
 * current user.  A query is wrapped: SELECT its columns (without _load_id, which
 * every row gets anew) FROM (query), or what "into" says.  The locks taken stay
 * until the transaction ends.
 */
LhStatement *
lh_statement_analyze(const char *sql, const char *flow, const LhInto *into)
{
	LhStatement *statement = palloc0(sizeof(LhStatement));
	ErrorContextCallback callback;
	Node	   *raw;

	statement->sql = sql;
	statement->flow = flow;
	lh_execute_push_error_context(&callback, flow, sql);

	raw = parse_one(sql, flow);
	statement->is_select = IsA(raw, SelectStmt);
	if (statement->is_select)
	{
		Query	   *query = analyze_one(copyObject(raw), sql, flow);

		statement->columns = result_columns(query, flow, &statement->gives_load);
		if (into && OidIsValid(into->target))
			raw = (Node *) wrap_insert(raw, statement->columns, into);
		else if (into && into->keep_load && statement->gives_load)
			raw = (Node *) wrap_select(raw, lappend(list_copy(statement->columns),
													LH_LOAD_COLUMN), NULL);
		else
			raw = (Node *) wrap_select(raw, statement->columns, NULL);
	}
	statement->query = analyze_one(raw, sql, flow);
	if (statement->query->resultRelation > 0)
		statement->target = rt_fetch(statement->query->resultRelation,
									 statement->query->rtable)->relid;
	(void) list_relations((Node *) statement->query, &statement->relations);

	error_context_stack = callback.previous;
	return statement;
}

/*
 * parse_one returns the only statement of a text, which must be a query or DML.
 */
static Node *
parse_one(const char *sql, const char *flow)
{
	List	   *list = pg_parse_query(sql);
	Node	   *node;

	if (list_length(list) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("query of flow \"%s\" must be one statement", flow),
				 errdetail("The text holds %d statements.", list_length(list))));
	node = linitial_node(RawStmt, list)->stmt;
	if (!IsA(node, SelectStmt) && !IsA(node, InsertStmt) && !IsA(node, UpdateStmt) &&
		!IsA(node, DeleteStmt) && !IsA(node, MergeStmt))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" must be SELECT, INSERT, UPDATE, DELETE or MERGE", flow)));
	if (IsA(node, SelectStmt) && ((SelectStmt *) node)->intoClause != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" cannot have INTO", flow),
				 errhint("Name the table in the argument target.")));
	return node;
}

static Query *
analyze_one(Node *node, const char *sql, const char *flow)
{
	RawStmt    *raw = makeNode(RawStmt);
	List	   *queries;
	Query	   *query;

	raw->stmt = node;
	raw->stmt_location = 0;
	raw->stmt_len = 0;
	queries = pg_analyze_and_rewrite_fixedparams(raw, sql, NULL, 0, NULL);
	if (list_length(queries) != 1 || linitial_node(Query, queries)->commandType == CMD_UTILITY)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" cannot write a table that has rules", flow)));
	query = linitial_node(Query, queries);
	check_query(query, flow);
	return query;
}

/*
 * check_query refuses what no technique can treat.
 */
static void
check_query(Query *query, const char *flow)
{
	if (query->returningList != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" cannot have RETURNING", flow)));
	if (query->hasModifyingCTE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" cannot change tables in WITH", flow),
				 errhint("Make a flow of its own for each table.")));
	if (query->rowMarks != NIL && query->commandType == CMD_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" cannot lock rows with FOR UPDATE or FOR SHARE", flow)));
	if (lh_compat_has_not_matched_by_source(query))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" cannot have WHEN NOT MATCHED BY SOURCE", flow),
				 errdetail("A run sees new rows only: every other row of the target would count as not matched.")));
}

/*
 * result_columns returns the names of a query's columns without _load_id.  They
 * must be there and differ, because columns are matched by name.
 */
static List *
result_columns(const Query *query, const char *flow, bool *gives_load)
{
	List	   *columns = NIL;
	int			loads = 0;
	ListCell   *cell;

	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		ListCell   *other;

		if (entry->resjunk)
			continue;
		if (strcmp(entry->resname, LH_LOAD_COLUMN) == 0)
		{
			loads++;
			continue;
		}
		if (strcmp(entry->resname, "?column?") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_DEFINITION),
					 errmsg("column %d of the query of flow \"%s\" has no name", entry->resno, flow),
					 errhint("Give it one with AS.")));
		foreach(other, columns)
			if (strcmp(lfirst(other), entry->resname) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("column \"%s\" occurs more than once in the query of flow \"%s\"",
								entry->resname, flow),
						 errhint("Give each column a name of its own with AS.")));
		columns = lappend(columns, pstrdup(entry->resname));
	}
	if (columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_DEFINITION),
				 errmsg("query of flow \"%s\" has no columns", flow)));
	*gives_load = loads == 1;
	return columns;
}

static bool
is_excepted(const char *column, const LhInto *into)
{
	ListCell   *cell;

	if (into != NULL)
		foreach(cell, into->except)
			if (strcmp(lfirst(cell), column) == 0)
				return true;
	return false;
}

/*
 * wrap_select makes SELECT columns [, load] FROM (select) q.
 */
static SelectStmt *
wrap_select(Node *select, List *columns, const LhInto *into)
{
	SelectStmt *wrapper = makeNode(SelectStmt);
	RangeSubselect *from = makeNode(RangeSubselect);
	ListCell   *cell;

	from->subquery = select;
	from->alias = makeAlias("q", NIL);
	wrapper->fromClause = list_make1(from);
	foreach(cell, columns)
	{
		ResTarget  *target = makeNode(ResTarget);
		ColumnRef  *column = makeNode(ColumnRef);

		if (is_excepted(lfirst(cell), into))
			continue;
		column->fields = list_make2(makeString("q"), makeString(lfirst(cell)));
		column->location = -1;
		target->val = (Node *) column;
		target->location = -1;
		wrapper->targetList = lappend(wrapper->targetList, target);
	}
	if (into != NULL)
	{
		ResTarget  *target = makeNode(ResTarget);
		A_Const    *constant = makeNode(A_Const);

		/* as the lexer gives a number that may be too large for an int4 */
		constant->val.fval.type = T_Float;
		constant->val.fval.fval = psprintf(INT64_FORMAT, into->load_id);
		constant->location = -1;
		target->val = (Node *) constant;
		target->location = -1;
		wrapper->targetList = lappend(wrapper->targetList, target);
	}
	return wrapper;
}

/*
 * wrap_insert makes INSERT INTO target (columns, _load_id) SELECT ....
 */
static InsertStmt *
wrap_insert(Node *select, List *columns, const LhInto *into)
{
	InsertStmt *insert = makeNode(InsertStmt);
	List	   *names = NIL;
	ListCell   *cell;

	insert->relation = makeRangeVar(get_namespace_name(get_rel_namespace(into->target)),
									get_rel_name(into->target), -1);
	insert->selectStmt = (Node *) wrap_select(select, columns, into);
	foreach(cell, columns)
		if (!is_excepted(lfirst(cell), into))
			names = lappend(names, lfirst(cell));
	names = lappend(names, LH_LOAD_COLUMN);
	foreach(cell, names)
	{
		ResTarget  *target = makeNode(ResTarget);

		target->name = lfirst(cell);
		target->location = -1;
		insert->cols = lappend(insert->cols, target);
	}
	return insert;
}

/*
 * lh_statement_tupdesc describes the rows of a wrapped query.
 */
TupleDesc
lh_statement_tupdesc(const LhStatement *statement)
{
	Assert(statement->is_select && statement->query->commandType == CMD_SELECT);
	return ExecCleanTypeFromTL(statement->query->targetList);
}

/*
 * list_relations adds the tables that a query reads to *relations.
 */
static bool
list_relations(Node *node, List **relations)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *cell;
		Index		rtindex = 0;

		foreach(cell, query->rtable)
		{
			RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

			rtindex++;
			if (entry->rtekind == RTE_RELATION && rtindex != query->resultRelation &&
				!(query->onConflict && rtindex == query->onConflict->exclRelIndex) &&
				(entry->relkind == RELKIND_RELATION ||
				 entry->relkind == RELKIND_PARTITIONED_TABLE ||
				 entry->relkind == RELKIND_FOREIGN_TABLE ||
				 entry->relkind == RELKIND_MATVIEW))
				*relations = list_append_unique_oid(*relations, entry->relid);
		}
		return query_tree_walker(query, list_relations, relations, 0);
	}
	return expression_tree_walker(node, list_relations, relations);
}

/*
 * lh_statement_stream says which tables are streaming inputs and finds their
 * occurrences.  Raises if one stands where no technique could treat it.
 */
void
lh_statement_stream(LhStatement *statement, List *streaming)
{
	ListCell   *cell;

	statement->streaming = streaming;
	(void) inline_ctes((Node *) statement->query, statement);
	statement->occurrences = lh_statement_occurrences(statement, statement->query);
	foreach(cell, statement->occurrences)
		check_occurrence(statement, lfirst(cell));
}

/*
 * reads_stream tells whether a query reads a streaming input at any depth.
 */
static bool
reads_stream(Query *query, LhStatement *statement)
{
	List	   *relations = NIL;
	ListCell   *cell;

	(void) list_relations((Node *) query, &relations);
	foreach(cell, relations)
		if (list_member_oid(statement->streaming, lfirst_oid(cell)))
			return true;
	return false;
}

/*
 * inline_ctes puts the query of each CTE that reads a streaming input in place
 * of its references.  Inner levels come first, and CTEs in the order in which
 * they may refer to each other, so that each is complete when it is copied.
 */
static bool
inline_ctes(Node *node, LhStatement *statement)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		List	   *kept = NIL;
		ListCell   *cell;

		(void) query_tree_walker(query, inline_ctes, statement, 0);
		foreach(cell, query->cteList)
		{
			CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);
			CteInliner	inliner;

			if (!reads_stream((Query *) cte->ctequery, statement))
			{
				kept = lappend(kept, cte);
				continue;
			}
			if (cte->cterecursive)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("recursive query \"%s\" of flow \"%s\" cannot read a streaming input",
								cte->ctename, statement->flow),
						 errhint("List the table in static.")));
			if (cte->cterefcount > 1 && contain_volatile_functions(cte->ctequery))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("query \"%s\" of flow \"%s\" calls a volatile function and is referred to more than once",
								cte->ctename, statement->flow),
						 errdetail("It reads a streaming input and is therefore run for each reference."),
						 errhint("Call the function outside of WITH, or declare it STABLE or IMMUTABLE if it is.")));
			inliner.name = cte->ctename;
			inliner.levels = -1;
			inliner.query = (Query *) cte->ctequery;
			(void) inline_references((Node *) query, &inliner);
		}
		query->cteList = kept;
		return false;
	}
	return expression_tree_walker(node, inline_ctes, statement);
}

static bool
inline_references(Node *node, CteInliner *inliner)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		bool		stop;

		inliner->levels++;
		/* entries after their contents: not into what has just been put there */
		stop = query_tree_walker((Query *) node, inline_references, inliner,
								 QTW_EXAMINE_RTES_AFTER);
		inliner->levels--;
		return stop;
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *entry = (RangeTblEntry *) node;
		Query	   *copy;

		if (entry->rtekind != RTE_CTE || entry->ctelevelsup != (Index) inliner->levels ||
			strcmp(entry->ctename, inliner->name) != 0)
			return false;
		copy = copyObject(inliner->query);
		if (inliner->levels > 0)
			IncrementVarSublevelsUp((Node *) copy, inliner->levels, 1);
		entry->rtekind = RTE_SUBQUERY;
		entry->subquery = copy;
		entry->security_barrier = false;
		entry->ctename = NULL;
		entry->ctelevelsup = 0;
		entry->self_reference = false;
		entry->coltypes = NIL;
		entry->coltypmods = NIL;
		entry->colcollations = NIL;
		return false;
	}
	return expression_tree_walker(node, inline_references, inliner);
}

/* a reference to a system column of one range-table entry */
typedef struct SystemReference
{
	Index		rtindex;
	Index		levels;
} SystemReference;

static bool
finds_system_reference(Node *node, SystemReference *reference)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == (int) reference->rtindex &&
			((Var *) node)->varlevelsup == reference->levels &&
			((Var *) node)->varattno < 0;
	if (IsA(node, Query))
	{
		bool		found;

		reference->levels++;
		found = query_tree_walker((Query *) node, finds_system_reference, reference, 0);
		reference->levels--;
		return found;
	}
	return expression_tree_walker(node, finds_system_reference, reference);
}

/*
 * check_occurrence raises for what no restricted copy of the table can give.
 */
static void
check_occurrence(const LhStatement *statement, const LhOccurrence *occurrence)
{
	RangeTblEntry *entry = rt_fetch(occurrence->rtindex, occurrence->query->rtable);
	SystemReference reference = {occurrence->rtindex, 0};

	if (entry->tablesample != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("flow \"%s\" cannot read a sample of streaming input \"%s\"",
						statement->flow, get_rel_name(occurrence->relation)),
				 errhint("Remove TABLESAMPLE, or list the table in static.")));
	if (query_tree_walker(occurrence->query, finds_system_reference, &reference, 0))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("flow \"%s\" cannot read system columns of streaming input \"%s\"",
						statement->flow, get_rel_name(occurrence->relation)),
				 errhint("Remove ctid, tableoid and the like from the query, or list the table in static.")));
}

/*
 * covers tells whether each row that a part of a query gives comes from at least
 * one row of a streaming input.
 */
static bool
covers(const LhStatement *statement, Query *query, Node *node)
{
	ListCell   *cell;
	bool		left;
	bool		right;

	if (IsA(node, RangeTblRef))
	{
		Index		rtindex = ((RangeTblRef *) node)->rtindex;
		RangeTblEntry *entry = rt_fetch(rtindex, query->rtable);

		if (entry->rtekind == RTE_SUBQUERY)
			return covers(statement, entry->subquery,
						  entry->subquery->setOperations ? entry->subquery->setOperations :
						  (Node *) entry->subquery->jointree);
		return entry->rtekind == RTE_RELATION && (int) rtindex != query->resultRelation &&
			list_member_oid(statement->streaming, entry->relid);
	}
	if (IsA(node, FromExpr))
	{
		foreach(cell, ((FromExpr *) node)->fromlist)
			if (covers(statement, query, lfirst(cell)))
				return true;
		return false;
	}
	if (IsA(node, SetOperationStmt))
	{
		SetOperationStmt *operation = (SetOperationStmt *) node;

		return covers(statement, query, operation->larg) &&
			covers(statement, query, operation->rarg);
	}
	left = covers(statement, query, castNode(JoinExpr, node)->larg);
	right = covers(statement, query, castNode(JoinExpr, node)->rarg);
	switch (((JoinExpr *) node)->jointype)
	{
		case JOIN_LEFT:
			return left;
		case JOIN_RIGHT:
			return right;
		case JOIN_FULL:
			return left && right;
		default:
			return left || right;
	}
}

/*
 * lh_statement_check_covered raises if static tables alone give result rows:
 * no new load would ever bring them.
 */
void
lh_statement_check_covered(const LhStatement *statement, const char *mode)
{
	Query	   *query = statement->query;

	if (!covers(statement, query, query->setOperations ? query->setOperations :
				(Node *) query->jointree))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("flow \"%s\" of mode %s gives rows that no streaming input has part in",
						statement->flow, mode),
				 errdetail("An arm of UNION ALL, or the preserved side of an outer join, reads static tables only; no new load would bring its rows."),
				 errhint("List a table of that part in streaming, or use mode => 'complete'.")));
}

/*
 * sets_load tells whether a list of assignments gives _load_id something else
 * than its default.
 */
static bool
sets_load(List *targets, AttrNumber column)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->resno != column || entry->resjunk)
			continue;
		return !IsA(entry->expr, FuncExpr) ||
			strcmp(get_func_name(((FuncExpr *) entry->expr)->funcid), "current_load") != 0;
	}
	return false;
}

/*
 * lh_statement_check_load raises if DML sets _load_id: a row under another
 * table's load would be new to nobody.
 */
void
lh_statement_check_load(const LhStatement *statement)
{
	Query	   *query = statement->query;
	AttrNumber	column = get_attnum(statement->target, LH_LOAD_COLUMN);
	bool		found = query->commandType != CMD_MERGE && query->commandType != CMD_DELETE &&
		sets_load(query->targetList, column);
	ListCell   *cell;

	foreach(cell, query->mergeActionList)
		if (sets_load(lfirst_node(MergeAction, cell)->targetList, column))
			found = true;
	if (query->onConflict && sets_load(query->onConflict->onConflictSet, column))
		found = true;
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("statement of flow \"%s\" sets column \"%s\" of table \"%s\"",
						statement->flow, LH_LOAD_COLUMN, get_rel_name(statement->target)),
				 errdetail("The column tells readers of the table which rows are new; each run gives it a number of its own."),
				 errhint("List the other columns instead of using *.")));
}

/*
 * lh_statement_check_direct raises unless new rows alone give the new result.
 *
 * A statement that reads one streaming input once may group its new rows: MERGE
 * needs one row for each row of its target, and its actions say what becomes of
 * rows of earlier loads.
 */
void
lh_statement_check_direct(const LhStatement *statement, const char *mode)
{
	ListCell   *cell;

	foreach(cell, statement->occurrences)
	{
		LhOccurrence *occurrence = lfirst(cell);
		const char *table = get_rel_name(occurrence->relation);
		const char *obstacle = occurrence->direct_obstacle;

		if (obstacle == NULL &&
			(statement->is_select || list_length(statement->occurrences) > 1))
			obstacle = occurrence->grouped;
		if (obstacle != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("flow \"%s\" of mode %s cannot stream from table \"%s\"",
							statement->flow, mode, table),
					 errdetail("The query reads the table %s, where new rows alone do not give the new result.",
							   obstacle),
					 statement->is_select ?
					 errhint("List the table in static, or use mode => 'aggregate' or mode => 'complete'.") :
					 errhint("List the table in static, or write a query and use mode => 'aggregate' or mode => 'complete'.")));
	}
	lh_statement_check_covered(statement, mode);
}
