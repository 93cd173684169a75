/*
 * occurrence.c
 *	  The places in a statement that read its streaming inputs.
 *
 * Invariant: lh_statement_occurrences visits a query and a copy of it in the
 * same order, so occurrence i of the one is occurrence i of the other.  The
 * rewriter works on copies only.
 *
 * Each occurrence is told why it could not be read by new rows alone, if so:
 * only where a result row comes from one row of each occurrence (select, project,
 * inner join, preserved side of an outer join), or from an arm of UNION ALL, do
 * the new rows of the inputs give just the new result rows.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"

#include "delta/delta.h"

/* depth of the user's own query beneath the wrapper of lh_statement_analyze */
#define USER_QUERY_DEPTH 1

/* what is known of a place while walking down to it */
typedef struct Position
{
	int			depth;			/* query levels above */
	const char *direct;			/* obstacles met on the way, or NULL */
	const char *grouped;
	const char *recompute;
	List	   *outer_joins;	/* JoinExpr nodes whose nullable side this is */
	List	   *arms;			/* LhArm *, arms of UNION ALL that this is in */
} Position;

typedef struct Collector
{
	const LhStatement *statement;
	List	   *occurrences;
	Position	position;		/* for collect_expression */
} Collector;

static void collect_query(Collector *collector, Query *query, Position position);
static void collect_from(Collector *collector, Query *query, Node *node, Position position);
static void collect_set_operation(Collector *collector, Query *query, Node *node, Position position);
static void collect_entry(Collector *collector, Query *query, Index rtindex, Position position);
static bool collect_expression(Node *node, Collector *collector);

/*
 * lh_statement_occurrences lists the occurrences of the statement's streaming
 * inputs in "query", which is the statement's query or a copy of it.
 */
List *
lh_statement_occurrences(const LhStatement *statement, Query *query)
{
	Collector	collector = {0};
	Position	top = {0};

	collector.statement = statement;
	collect_query(&collector, query, top);
	return collector.occurrences;
}

/*
 * is_union_all tells whether a tree of set operations is UNION ALL throughout.
 */
static bool
is_union_all(Node *node)
{
	SetOperationStmt *operation;

	if (!IsA(node, SetOperationStmt))
		return true;
	operation = (SetOperationStmt *) node;
	return operation->op == SETOP_UNION && operation->all &&
		is_union_all(operation->larg) && is_union_all(operation->rarg);
}

/*
 * combines_with_target tells whether the user's own statement decides how its
 * rows go together with what the target has: MERGE, UPDATE, DELETE and INSERT
 * with ON CONFLICT.  Then it may group, rank or de-duplicate the new rows first.
 */
static bool
combines_with_target(const Query *query)
{
	return query->commandType == CMD_MERGE || query->commandType == CMD_UPDATE ||
		query->commandType == CMD_DELETE ||
		(query->commandType == CMD_INSERT && query->onConflict != NULL);
}

/*
 * find_obstacles notes in *position what this level does with its rows that
 * makes a result row depend on more than one row of an input.
 */
static void
find_obstacles(const LhStatement *statement, const Query *query, Position *position)
{
	const char *grouping = NULL;
	const char *other = NULL;
	bool		combines = combines_with_target(statement->query);

	if (query->commandType != CMD_SELECT)
		return;
	if (query->hasAggs || query->groupClause || query->groupingSets || query->havingQual)
		grouping = "beneath an aggregate or GROUP BY";
	else if (query->distinctClause)
		grouping = "beneath DISTINCT";
	if (query->limitCount || query->limitOffset)
		other = "beneath LIMIT or OFFSET";
	else if (query->hasWindowFuncs && !combines)
		other = "beneath a window function";
	else if (query->groupingSets)
		other = "beneath GROUPING SETS, ROLLUP or CUBE";
	else if (query->setOperations && !is_union_all(query->setOperations))
		other = "beneath UNION, INTERSECT or EXCEPT";

	if (position->direct == NULL)
		position->direct = other ? other : combines ? NULL : grouping;
	/* the groups of the user's own query are what is recomputed */
	if (grouping != NULL && position->depth > USER_QUERY_DEPTH && other == NULL)
		other = grouping;
	if (query->setOperations && position->depth <= USER_QUERY_DEPTH && other == NULL)
		other = "beneath UNION ALL at the top of the query";
	if (position->recompute == NULL)
		position->recompute = other;
}

static void
collect_query(Collector *collector, Query *query, Position position)
{
	Position	saved = collector->position;

	find_obstacles(collector->statement, query, &position);
	collect_from(collector, query, (Node *) query->jointree, position);
	if (query->setOperations)
		collect_set_operation(collector, query, query->setOperations, position);

	/* what remains are expressions; a query in them is a sub-link */
	collector->position = position;
	collector->position.direct = collector->position.recompute =
		"in a sub-query expression (EXISTS, IN, ANY or a scalar sub-query)";
	(void) query_tree_walker(query, collect_expression, collector,
							 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
	collector->position = saved;
}

static void
collect_from(Collector *collector, Query *query, Node *node, Position position)
{
	if (node == NULL)
		return;
	if (IsA(node, RangeTblRef))
		collect_entry(collector, query, ((RangeTblRef *) node)->rtindex, position);
	else if (IsA(node, FromExpr))
	{
		ListCell   *cell;

		foreach(cell, ((FromExpr *) node)->fromlist)
			collect_from(collector, query, lfirst(cell), position);
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		Position	nullable = position;

		nullable.outer_joins = lappend(list_copy(position.outer_joins), join);
		if (nullable.direct == NULL)
			nullable.direct = "on the nullable side of an outer join";
		if (nullable.recompute == NULL && join->jointype == JOIN_FULL)
			nullable.recompute = "in a full join";
		if (nullable.recompute == NULL && position.depth != USER_QUERY_DEPTH)
			nullable.recompute = "on the nullable side of an outer join in a sub-query or view";
		collect_from(collector, query, join->larg,
					 join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL ? nullable : position);
		collect_from(collector, query, join->rarg,
					 join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL ? nullable : position);
	}
}

static void
collect_set_operation(Collector *collector, Query *query, Node *node, Position position)
{
	if (IsA(node, RangeTblRef))
	{
		LhArm	   *arm = palloc(sizeof(LhArm));

		arm->query = query;
		arm->rtindex = ((RangeTblRef *) node)->rtindex;
		position.arms = lappend(list_copy(position.arms), arm);
		collect_entry(collector, query, arm->rtindex, position);
	}
	else
	{
		SetOperationStmt *operation = castNode(SetOperationStmt, node);

		collect_set_operation(collector, query, operation->larg, position);
		collect_set_operation(collector, query, operation->rarg, position);
	}
}

static void
collect_entry(Collector *collector, Query *query, Index rtindex, Position position)
{
	RangeTblEntry *entry = rt_fetch(rtindex, query->rtable);

	if (rtindex == query->resultRelation)
		return;
	if (entry->rtekind == RTE_SUBQUERY)
	{
		position.depth++;
		collect_query(collector, entry->subquery, position);
	}
	else if (entry->rtekind == RTE_RELATION &&
			 list_member_oid(collector->statement->streaming, entry->relid))
	{
		LhOccurrence *occurrence = palloc0(sizeof(LhOccurrence));

		occurrence->query = query;
		occurrence->rtindex = rtindex;
		occurrence->relation = entry->relid;
		occurrence->direct_obstacle = position.direct;
		occurrence->grouped = position.grouped;
		occurrence->recompute_obstacle = position.recompute;
		occurrence->outer_joins = position.outer_joins;
		occurrence->arms = position.arms;
		collector->occurrences = lappend(collector->occurrences, occurrence);
	}
}

static bool
collect_expression(Node *node, Collector *collector)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Position	position = collector->position;

		position.depth++;
		collect_query(collector, (Query *) node, position);
		return false;
	}
	return expression_tree_walker(node, collect_expression, collector);
}
