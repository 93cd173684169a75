/*
 * merge_check.c
 *	  Resolves a merge against its target and refuses what cannot work.
 *
 * Invariant: what lh_merge_check lets pass can only fail later because of the
 * data (constraints, casts) or because somebody altered the target.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tupdesc.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "delta/delta.h"
#include "delta/load.h"
#include "flow/merge_internal.h"

#define CARRIES_LOAD(merge) ((merge)->load_id != 0 || (merge)->managed)

static void check_target_kind(Relation target);
static void check_names(const LhMerge *merge, Relation target, TupleDesc delta);
static void resolve_columns(LhMergePlan *plan, Relation target, TupleDesc delta);
static void resolve_keys(LhMergePlan *plan, Relation target);
static void resolve_sequences(LhMergePlan *plan, TupleDesc delta);
static void resolve_load_order(LhMergePlan *plan, TupleDesc delta);
static void resolve_delete(LhMergePlan *plan, TupleDesc delta);
static LhMergeColumn *add_column(LhMergePlan *plan, char prefix, int number, Node *expression);
static void describe_type(LhMergeColumn *column);
static char *operator_text(Oid operator);
static Node *delta_variable(TupleDesc delta, AttrNumber number);
static Node *parse_expression(const LhMergePlan *plan, TupleDesc delta, const char *text,
							  const char *what);
static TupleDesc build_work_desc(const LhMergePlan *plan);

/*
 * find_column returns the number of the delta's column of that name.
 */
static AttrNumber
find_column(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return i + 1;
	}
	return InvalidAttrNumber;
}

static bool
contains_name(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

/*
 * lh_merge_resolve finds the target's columns, types and operators for a merge
 * of rows described by "delta".  The result lives in the current context.
 */
LhMergePlan *
lh_merge_resolve(const LhMerge *merge, TupleDesc delta)
{
	LhMergePlan *plan = palloc0(sizeof(LhMergePlan));
	Relation	target = table_open(merge->target, AccessShareLock);

	check_target_kind(target);
	plan->merge = merge;
	plan->target = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(target)),
											  RelationGetRelationName(target));
	plan->partitioned = has_subclass(merge->target);
	plan->write_load = CARRIES_LOAD(merge) &&
		find_column(RelationGetDescr(target), LH_LOAD_COLUMN) != InvalidAttrNumber;

	check_names(merge, target, delta);
	plan->columns = palloc0(sizeof(LhMergeColumn) *
							(delta->natts + list_length(merge->sequence_by) + 2));
	resolve_columns(plan, target, delta);
	resolve_keys(plan, target);
	resolve_load_order(plan, delta);
	resolve_sequences(plan, delta);
	resolve_delete(plan, delta);
	plan->work = build_work_desc(plan);
	table_close(target, NoLock);
	return plan;
}

static void
check_target_kind(Relation target)
{
	char		kind = target->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot merge into \"%s\"", RelationGetRelationName(target)),
				 errdetail("It is not a table or a partitioned table.")));
	if (target->rd_rules != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot merge into table \"%s\"", RelationGetRelationName(target)),
				 errdetail("It has rewrite rules."),
				 errhint("Use a trigger instead of the rule.")));
}

/*
 * check_names compares the names that the merge, the delta and the target use.
 */
static void
check_names(const LhMerge *merge, Relation target, TupleDesc delta)
{
	const char *table = RelationGetRelationName(target);
	StringInfoData missing;
	int			count = 0;

	initStringInfo(&missing);
	for (int i = 0; i < delta->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(delta, i)->attname);

		if (find_column(delta, name) != i + 1)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" appears more than once in the query's result", name),
					 errhint("Give each column its own name with AS.")));
		if (contains_name(merge->except_columns, name) ||
			(CARRIES_LOAD(merge) && strcmp(name, LH_LOAD_COLUMN) == 0) ||
			find_column(RelationGetDescr(target), name) != InvalidAttrNumber)
			continue;
		appendStringInfo(&missing, "%s\"%s\"", count++ > 0 ? ", " : "", name);
	}
	if (count > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg_plural("column %s of the query's result does not exist in table \"%s\"",
							   "columns %s of the query's result do not exist in table \"%s\"",
							   count, missing.data, table),
				 errhint("Add such a column to the table, rename it in the query with AS, or name it in except_columns.")));

	for (int i = 0; i < list_length(merge->except_columns); i++)
	{
		const char *name = list_nth(merge->except_columns, i);

		if (find_column(delta, name) == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" in except_columns is not in the query's result", name)));
		if (contains_name(merge->keys, name))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("key column \"%s\" cannot be in except_columns", name)));
	}
}

/*
 * resolve_columns takes the delta's columns in the order of the target's, so
 * that the order of rows by value does not depend on how a query is written.
 */
static void
resolve_columns(LhMergePlan *plan, Relation target, TupleDesc delta)
{
	const LhMerge *merge = plan->merge;
	TupleDesc	desc = RelationGetDescr(target);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		const char *name = NameStr(attribute->attname);
		AttrNumber	number;
		Node	   *value;
		Node	   *coerced;
		LhMergeColumn *column;

		if (attribute->attisdropped || contains_name(merge->except_columns, name) ||
			(CARRIES_LOAD(merge) && strcmp(name, LH_LOAD_COLUMN) == 0) ||
			(number = find_column(delta, name)) == InvalidAttrNumber)
			continue;
		if (attribute->attgenerated != '\0' ||
			attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("column \"%s\" of table \"%s\" is generated and cannot be written",
							name, RelationGetRelationName(target)),
					 errhint("Leave it out of the query or name it in except_columns.")));

		value = delta_variable(delta, number);
		coerced = coerce_to_target_type(NULL, value, exprType(value),
										attribute->atttypid, attribute->atttypmod,
										COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
		if (coerced == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" is of type %s but the query gives type %s", name,
							format_type_be(attribute->atttypid),
							format_type_be(exprType(value))),
					 errhint("Cast the column in the query.")));

		column = add_column(plan, 'c', ++plan->ncolumns, coerced);
		column->label = pstrdup(name);
		column->name = pstrdup(quote_identifier(name));
		column->target = i + 1;
		column->type = attribute->atttypid;
		column->typmod = attribute->atttypmod;
		column->collation = attribute->attcollation;
		column->key = contains_name(merge->keys, name);
		describe_type(column);
		if (column->key && OidIsValid(column->collation) &&
			!get_collation_isdeterministic(column->collation))
			column->exact = false;
	}
}

/*
 * resolve_keys finds the key columns, in the order in which they were named.
 */
static void
resolve_keys(LhMergePlan *plan, Relation target)
{
	const LhMerge *merge = plan->merge;
	const char *table = RelationGetRelationName(target);
	ListCell   *cell;

	if (merge->keys == NIL && merge->mode != LH_MERGE_APPEND && merge->mode != LH_MERGE_COMPLETE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a merge into table \"%s\" in this mode needs keys", table),
				 errhint("Name the columns that identify a row in \"keys\".")));
	if (list_length(merge->keys) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("cannot use more than %d key columns", INDEX_MAX_KEYS)));

	plan->keys = palloc0(sizeof(LhMergeColumn *) * (list_length(merge->keys) + 1));
	foreach(cell, merge->keys)
	{
		const char *name = lfirst(cell);
		LhMergeColumn *key = NULL;

		for (int i = 0; i < plan->nkeys; i++)
			if (strcmp(plan->keys[i]->label, name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("key column \"%s\" is named twice", name)));
		for (int i = 0; i < plan->ncolumns && key == NULL; i++)
			if (strcmp(plan->columns[i].label, name) == 0)
				key = &plan->columns[i];
		if (key == NULL)
		{
			bool		in_target = find_column(RelationGetDescr(target), name) != InvalidAttrNumber;

			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 in_target ?
					 errmsg("key column \"%s\" is not in the query's result", name) :
					 errmsg("key column \"%s\" does not exist in table \"%s\"", name, table)));
		}
		if (key->lt == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("type %s of key column \"%s\" has no default btree operator class",
							format_type_be(key->type), name),
					 errhint("Use a key of a type that can be compared.")));
		plan->keys[plan->nkeys++] = key;
	}
}

/*
 * resolve_sequences finds what decides between rows of one key: columns of the
 * delta, or expressions over them.
 */
static void
resolve_sequences(LhMergePlan *plan, TupleDesc delta)
{
	const LhMerge *merge = plan->merge;
	ListCell   *cell;

	if (merge->mode != LH_MERGE_SCD1)
		return;
	if (merge->sequence_by == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode scd1 needs sequence_by"),
				 errhint("Name the columns that say which of two changes of one key is the newer one.")));

	plan->sequences = palloc0(sizeof(LhMergeColumn *) * list_length(merge->sequence_by));
	plan->sequence_stored = true;
	foreach(cell, merge->sequence_by)
	{
		const char *text = lfirst(cell);
		AttrNumber	number = find_column(delta, text);
		LhMergeColumn *column = NULL;

		for (int i = 0; i < plan->ncolumns && column == NULL; i++)
			if (strcmp(plan->columns[i].label, text) == 0)
				column = &plan->columns[i];
		if (column == NULL)
		{
			Node	   *value = number != InvalidAttrNumber ?
			delta_variable(delta, number) :
			parse_expression(plan, delta, text, "sequence_by");

			column = add_column(plan, 's', plan->nsequences + 1, value);
			column->label = pstrdup(text);
			plan->sequence_stored = false;
		}
		if (column->lt == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("type %s of sequence \"%s\" has no order",
							format_type_be(column->type), text)));
		plan->sequences[plan->nsequences++] = column;
	}
}

/*
 * resolve_load_order lets insert_only prefer the earlier load when the delta
 * says where its rows come from.
 */
static void
resolve_load_order(LhMergePlan *plan, TupleDesc delta)
{
	AttrNumber	number = find_column(delta, LH_LOAD_COLUMN);

	if (plan->merge->mode != LH_MERGE_INSERT_ONLY || !CARRIES_LOAD(plan->merge) ||
		number == InvalidAttrNumber || TupleDescAttr(delta, number - 1)->atttypid != INT8OID)
		return;
	plan->load = add_column(plan, 'l', 1, delta_variable(delta, number));
	plan->load->label = LH_LOAD_COLUMN;
}

static void
resolve_delete(LhMergePlan *plan, TupleDesc delta)
{
	Node	   *condition;
	BooleanTest *test;

	if (plan->merge->mode != LH_MERGE_SCD1)
		return;
	if (plan->merge->delete_when == NULL)
		condition = makeBoolConst(false, false);
	else
		condition = parse_expression(plan, delta, plan->merge->delete_when, "delete_when");
	if (getBaseType(exprType(condition)) != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("delete_when is of type %s and not boolean",
						format_type_be(exprType(condition)))));

	/* false and NULL are both "not a delete" */
	test = makeNode(BooleanTest);
	test->arg = (Expr *) condition;
	test->booltesttype = IS_TRUE;
	test->location = -1;
	plan->deleted = add_column(plan, 'd', 1, (Node *) test);
	plan->deleted->label = "delete_when";
}

/*
 * add_column appends a column to the work rows.
 */
static LhMergeColumn *
add_column(LhMergePlan *plan, char prefix, int number, Node *expression)
{
	LhMergeColumn *column = &plan->columns[plan->nwork++];

	column->work = psprintf("%c%d", prefix, number);
	column->attnum = plan->nwork;
	column->type = exprType(expression);
	column->typmod = exprTypmod(expression);
	column->collation = exprCollation(expression);
	plan->expressions = lappend(plan->expressions, expression);
	describe_type(column);
	return column;
}

/*
 * describe_type fills in how values of the column compare.
 */
static void
describe_type(LhMergeColumn *column)
{
	Oid			base = getBaseType(column->type);
	TypeCacheEntry *type = lookup_type_cache(base, TYPECACHE_BTREE_OPFAMILY |
											 TYPECACHE_LT_OPR | TYPECACHE_GT_OPR |
											 TYPECACHE_CMP_PROC_FINFO);
	bool		collatable = OidIsValid(get_typcollation(base));
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(base, &output, &varlena);
	fmgr_info(output, &column->output);
	column->order_collation = collatable ? C_COLLATION_OID : InvalidOid;
	column->collate = collatable ? " COLLATE pg_catalog.\"C\"" : "";
	if (OidIsValid(type->lt_opr) && OidIsValid(type->gt_opr) && OidIsValid(type->cmp_proc))
	{
		column->lt_oid = type->lt_opr;
		column->gt_oid = type->gt_opr;
		column->eq_oid = get_opfamily_member(type->btree_opf, type->btree_opintype,
											 type->btree_opintype, BTEqualStrategyNumber);
		column->lt = operator_text(column->lt_oid);
		column->gt = operator_text(column->gt_oid);
		column->eq = operator_text(column->eq_oid);
		fmgr_info_copy(&column->compare, &type->cmp_proc_finfo, CurrentMemoryContext);
	}
	switch (base)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NAMEOID:
		case TEXTOID:
		case VARCHAROID:
		case BYTEAOID:
		case UUIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			column->exact = true;
			break;
		default:
			column->exact = type->typtype == TYPTYPE_ENUM;
	}
}

static char *
operator_text(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *text;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	text = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return text;
}

static Node *
delta_variable(TupleDesc delta, AttrNumber number)
{
	Form_pg_attribute attribute = TupleDescAttr(delta, number - 1);

	return (Node *) makeVar(1, number, attribute->atttypid, attribute->atttypmod,
							attribute->attcollation, 0);
}

/*
 * parse_expression analyses one expression over the delta's columns.  It must
 * give the same value for the same row whenever and wherever it is computed.
 */
static Node *
parse_expression(const LhMergePlan *plan, TupleDesc delta, const char *text, const char *what)
{
	ParseState *pstate = make_parsestate(NULL);
	EphemeralNamedRelationData *enr = palloc0(sizeof(EphemeralNamedRelationData));
	SelectStmt *select;
	Node	   *value;
	ErrorContextCallback callback;

	lh_execute_push_error_context(&callback, NULL, text);
	select = (SelectStmt *) linitial_node(RawStmt, raw_parser(text, RAW_PARSE_PLPGSQL_EXPR))->stmt;

	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		select->fromClause != NIL || select->whereClause != NULL ||
		select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->sortClause != NIL ||
		select->limitCount != NULL || select->limitOffset != NULL ||
		select->lockingClause != NIL || select->distinctClause != NIL ||
		select->op != SETOP_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s is not an expression: %s", what, text)));

	enr->md.name = LH_DELTA_NAME;
	enr->md.tupdesc = delta;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	pstate->p_sourcetext = text;
	pstate->p_queryEnv = create_queryEnv();
	register_ENR(pstate->p_queryEnv, enr);
	addNSItemToQuery(pstate,
					 addRangeTableEntryForENR(pstate, makeRangeVar(NULL, LH_DELTA_NAME, -1), true),
					 false, true, true);
	value = transformExpr(pstate, linitial_node(ResTarget, select->targetList)->val,
						  EXPR_KIND_SELECT_TARGET);
	assign_expr_collations(pstate, value);
	if (pstate->p_hasAggs || pstate->p_hasWindowFuncs || pstate->p_hasSubLinks ||
		pstate->p_hasTargetSRFs || contain_volatile_functions(value))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot contain sub-queries, aggregates, set-returning or volatile functions: %s",
						what, text),
				 errhint("Compute the value as a column of the query and name it in except_columns.")));
	if (exprType(value) == UNKNOWNOID)
		value = coerce_to_target_type(pstate, value, UNKNOWNOID, TEXTOID, -1,
									  COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	free_parsestate(pstate);
	error_context_stack = callback.previous;
	return value;
}

/*
 * build_work_desc describes the work rows.
 */
static TupleDesc
build_work_desc(const LhMergePlan *plan)
{
	TupleDesc	desc = CreateTemplateTupleDesc(plan->nwork);

	for (int i = 0; i < plan->nwork; i++)
	{
		const LhMergeColumn *column = &plan->columns[i];

		TupleDescInitEntry(desc, column->attnum, column->work, column->type, column->typmod, 0);
		TupleDescInitEntryCollation(desc, column->attnum, column->collation);
	}
	return desc;
}
