/*
 * writer_profile.c
 *	  What a target table asks of the writer: defaults, checks, and whether
 *	  writing a row can raise an error.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "bronze/writer_internal.h"
#include "delta/load.h"

const char	lh_write_unfilled = 0;

static void profile_columns(LhWriter *writer);
static void profile_default(LhWriter *writer, int column);
static void profile_triggers(LhWriter *writer);
static bool indexes_raise(Relation relation);
static bool row_may_be_too_big(TupleDesc tupdesc);

/*
 * has_insert_triggers tells whether any trigger fires for our rows; a managed
 * table always has one for updates.
 */
static bool
has_insert_triggers(const TriggerDesc *triggers)
{
	return triggers != NULL &&
		(triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
		 triggers->trig_insert_instead_row || triggers->trig_insert_before_statement ||
		 triggers->trig_insert_after_statement || triggers->trig_insert_new_table);
}

/*
 * lh_write_form_suits tells whether values of rows for the table need not be
 * copied before they are inserted: it is a heap, and nobody changes a row on its
 * way there.
 */
bool
lh_write_form_suits(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	return relation->rd_rel->relkind == RELKIND_RELATION &&
		relation->rd_tableam == GetHeapamTableAmRoutine() &&
		(triggers == NULL || (!triggers->trig_insert_before_row && !triggers->trig_insert_instead_row));
}

/*
 * lh_write_profile fills the writer's knowledge of its open relation.
 */
void
lh_write_profile(LhWriter *writer)
{
	Relation	relation = writer->relation;
	TupleConstr *constr;

	writer->tupdesc = CreateTupleDescCopyConstr(RelationGetDescr(relation));
	constr = writer->tupdesc->constr;
	if (lh_write_form_suits(relation))
		writer->form = lh_write_form_create(writer->tupdesc);
	writer->relation_raises = relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		relation->rd_rel->relispartition ||
		has_insert_triggers(relation->trigdesc) ||
		indexes_raise(relation) ||
		row_may_be_too_big(writer->tupdesc);
	if (constr != NULL && (constr->num_check > 0 || constr->has_generated_stored))
		writer->relation_raises = true;
	profile_columns(writer);
	profile_triggers(writer);
}

static void
profile_columns(LhWriter *writer)
{
	TupleDesc	tupdesc = writer->tupdesc;

	writer->fillable = palloc0(sizeof(bool) * tupdesc->natts);
	writer->not_null = palloc(sizeof(int) * tupdesc->natts);
	writer->batch_defaults = palloc(sizeof(WriteDefault) * tupdesc->natts);
	writer->row_defaults = palloc(sizeof(WriteDefault) * tupdesc->natts);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (attribute->attisdropped)
			continue;
		if (strcmp(NameStr(attribute->attname), LH_LOAD_COLUMN) == 0)
		{
			writer->load_column = i;
			continue;
		}
		if (attribute->attgenerated)
			continue;
		writer->fillable[i] = attribute->attidentity != ATTRIBUTE_IDENTITY_ALWAYS;
		if (attribute->attnotnull)
			writer->not_null[writer->not_null_count++] = i;
		profile_default(writer, i);
	}
}

/*
 * column_default returns the planned default of a column, or NULL.  A domain
 * that may refuse NULL must be asked even where there is no default.
 */
static Expr *
column_default(LhWriter *writer, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(writer->tupdesc, column);
	Node	   *expression = build_column_default(writer->relation, column + 1);

	if (expression == NULL && DomainHasConstraints(attribute->atttypid))
	{
		int32		typmod = -1;
		Oid			base = getBaseTypeAndTypmod(attribute->atttypid, &typmod);
		int16		length;
		bool		by_value;

		get_typlenbyval(base, &length, &by_value);
		expression = (Node *) makeConst(base, typmod, get_typcollation(base), length,
										(Datum) 0, true, by_value);
		expression = coerce_to_domain(expression, base, typmod, attribute->atttypid,
									  COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1, false);
		/* asked for every row that lacks the column, so that it blames the row */
		writer->relation_raises = true;
		writer->row_defaults[writer->row_default_count].column = column;
		writer->row_defaults[writer->row_default_count++].expression =
			expression_planner((Expr *) expression);
		return NULL;
	}
	return expression ? expression_planner((Expr *) expression) : NULL;
}

static void
profile_default(LhWriter *writer, int column)
{
	Expr	   *expression = column_default(writer, column);
	WriteDefault *place;

	if (expression == NULL)
		return;
	if (!contain_volatile_functions((Node *) expression))
		place = &writer->batch_defaults[writer->batch_default_count++];
	else
	{
		place = &writer->row_defaults[writer->row_default_count++];
		/* it may look at the table, and fail; nextval does neither */
		if (contain_volatile_functions_not_nextval((Node *) expression))
			writer->one_by_one = writer->relation_raises = true;
	}
	place->column = column;
	place->expression = expression;
}

/*
 * profile_triggers notes the deferred constraints of the table: they are made
 * immediate for the rows we write, because a refusal at commit could be blamed
 * on no record.
 */
static void
profile_triggers(LhWriter *writer)
{
	TriggerDesc *triggers = writer->relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		HeapTuple	tuple;
		Form_pg_constraint constraint;

		if (!trigger->tginitdeferred || !OidIsValid(trigger->tgconstraint))
			continue;
		tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(trigger->tgconstraint));
		if (!HeapTupleIsValid(tuple))
			continue;
		constraint = (Form_pg_constraint) GETSTRUCT(tuple);
		writer->deferred = lappend(writer->deferred,
								   makeRangeVar(get_namespace_name(constraint->connamespace),
												pstrdup(NameStr(constraint->conname)), -1));
		ReleaseSysCache(tuple);
	}
}

/*
 * index_is_only_load tells whether an index holds nothing but _load_id: it
 * cannot refuse a row.
 */
static bool
index_is_only_load(Relation index, Relation relation)
{
	return index->rd_index->indnatts == 1 &&
		index->rd_index->indkey.values[0] ==
		get_attnum(RelationGetRelid(relation), LH_LOAD_COLUMN) &&
		RelationGetIndexPredicate(index) == NIL &&
		!index->rd_index->indisunique &&
		!index->rd_index->indisexclusion;
}

/*
 * indexes_raise tells whether an index can refuse a row: because it is unique,
 * evaluates an expression, or finds the value too long.
 */
static bool
indexes_raise(Relation relation)
{
	List	   *indexes = RelationGetIndexList(relation);
	ListCell   *cell;
	bool		raises = false;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (!index_is_only_load(index, relation))
			raises = true;
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return raises;
}

/*
 * row_may_be_too_big tells whether a row can exceed a page even after all that
 * can be moved to the TOAST table was moved there.
 */
static bool
row_may_be_too_big(TupleDesc tupdesc)
{
	Size		size = 0;

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (attribute->attlen > 0)
			size += attribute->attlen + 8;
		else if (attribute->attlen == -1 && attribute->attstorage != TYPSTORAGE_PLAIN)
			size += 24;			/* TOAST pointer, or a value as short */
		else
			return true;
	}
	return size > 8000;
}
