/*
 * flow_target.c
 *	  The target of a flow that is being created, and checks around it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "delta/load.h"
#include "flow/flow_ddl.h"

/* one flow as an edge from an input to a target */
typedef struct Edge
{
	Oid			input;
	Oid			target;
	char	   *flow;
} Edge;

static void check_options(const LhFlowDefinition *definition);
static void create_target(LhFlowDefinition *definition, const LhStatement *statement);
static void create_key_index(const LhFlowDefinition *definition, const char *table);
static Edge *read_edges(int32 without, int *count);
static bool is_in_list(const char *name, List *list);

/*
 * lh_flow_table_name returns schema.table, quoted.
 */
char *
lh_flow_table_name(Oid relation)
{
	char	   *name = get_rel_name(relation);

	if (name == NULL)
		return psprintf("%u", relation);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

/*
 * lh_flow_run_ddl runs one utility statement as the current user.
 */
void
lh_flow_run_ddl(const char *sql)
{
	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", sql);
	SPI_finish();
}

static bool
is_in_list(const char *name, List *list)
{
	ListCell   *cell;

	foreach(cell, list)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

/*
 * lh_flow_check_mode fills in the default mode, and raises if mode, statement
 * and options do not fit together.
 */
void
lh_flow_check_mode(LhFlowDefinition *definition, const LhStatement *statement)
{
	LhFlow	   *flow = &definition->flow;

	if (flow->mode == NULL)
		flow->mode = !statement->is_select ? "sql" : flow->server ? "kafka" : "append";
	if (strcmp(flow->mode, "sql") != 0 && !lh_flow_is_sink(flow->mode) &&
		!lh_flow_merge_mode(flow->mode, &flow->merge.mode))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid mode \"%s\"", flow->mode),
				 errhint("Valid modes are append, insert_only, upsert, scd1, aggregate, complete, kafka, upsert_kafka, and sql for INSERT, UPDATE, DELETE and MERGE.")));
	if (statement->is_select && strcmp(flow->mode, "sql") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode sql of flow \"%s\" needs INSERT, UPDATE, DELETE or MERGE, not a query", flow->name)));
	if (!statement->is_select && strcmp(flow->mode, "sql") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode %s of flow \"%s\" needs a query, not INSERT, UPDATE, DELETE or MERGE",
						flow->mode, flow->name),
				 errhint("Leave out the mode: the statement is run as it is, on new rows only.")));
	check_options(definition);
}

static void
refuse_option(const LhFlow *flow, bool given, const char *option, const char *modes)
{
	if (given)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" does not apply to mode %s of flow \"%s\"",
						option, flow->mode, flow->name),
				 errhint("It applies to %s.", modes)));
}

static void
check_options(const LhFlowDefinition *definition)
{
	const LhFlow *flow = &definition->flow;
	bool		is_sql = strcmp(flow->mode, "sql") == 0;
	bool		is_append = strcmp(flow->mode, "append") == 0;
	bool		is_scd1 = strcmp(flow->mode, "scd1") == 0;
	bool		is_upsert = strcmp(flow->mode, "upsert") == 0;
	bool		is_keyed = is_scd1 || is_upsert || strcmp(flow->mode, "insert_only") == 0;

	refuse_option(flow, flow->merge.keys != NIL && (is_sql || is_append), "keys",
				  "insert_only, upsert, scd1, aggregate, complete, kafka and upsert_kafka");
	refuse_option(flow, flow->merge.sequence_by != NIL && !is_scd1, "sequence_by", "scd1");
	refuse_option(flow, flow->merge.delete_when != NULL && !is_scd1, "delete_when", "scd1");
	refuse_option(flow, flow->merge.except_columns != NIL && is_sql, "except_columns",
				  "all modes but sql");
	if (is_keyed && flow->merge.keys == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode %s of flow \"%s\" needs keys", flow->mode, flow->name),
				 errhint("List the columns that tell rows apart, for example keys => '{id}'.")));
	if (is_scd1 && flow->merge.sequence_by == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode scd1 of flow \"%s\" needs sequence_by", flow->name),
				 errhint("List the columns that tell which row of a key is the latest, for example sequence_by => '{updated}'.")));
}

/*
 * lh_flow_find_target looks the target up; it stays invalid if the table is to
 * be created.
 */
void
lh_flow_find_target(LhFlowDefinition *definition, const LhStatement *statement)
{
	LhFlow	   *flow = &definition->flow;
	Oid			named = InvalidOid;

	if (lh_flow_is_sink(flow->mode))
		return;
	if (definition->target_name != NULL)
	{
		List	   *names = lh_compat_qualified_name(definition->target_name);

		named = RangeVarGetRelid(makeRangeVarFromNameList(names), AccessShareLock, true);
	}
	if (statement->is_select)
	{
		if (definition->target_name == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("flow \"%s\" needs a target", flow->name),
					 errhint("Name the table that gets the rows, for example target => 'silver.users'.")));
		flow->merge.target = named;
		return;
	}
	if (definition->target_name != NULL && named != statement->target)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("target of flow \"%s\" is \"%s\", but its statement writes \"%s\"",
						flow->name, definition->target_name, lh_flow_table_name(statement->target)),
				 errhint("Leave out the argument target.")));
	flow->merge.target = statement->target;
}

/*
 * lh_flow_check_stable refuses volatile functions where rows are computed again.
 */
void
lh_flow_check_stable(const LhFlow *flow, const LhStatement *statement)
{
	if (contain_volatile_functions((Node *) statement->query))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("query of flow \"%s\" calls a volatile function", flow->name),
				 errdetail("Mode %s computes rows again, and would change them each time.", flow->mode),
				 errhint("If the function gives the same result for the same data, declare it STABLE or IMMUTABLE.")));
}

/*
 * lh_flow_make_target creates the table if it is missing, and makes it managed.
 */
void
lh_flow_make_target(LhFlowDefinition *definition, const LhStatement *statement)
{
	LhFlow	   *flow = &definition->flow;
	ListCell   *cell;

	foreach(cell, flow->merge.except_columns)
		if (!is_in_list(lfirst(cell), statement->columns))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of except_columns is not in the query of flow \"%s\"",
							(char *) lfirst(cell), flow->name)));
	foreach(cell, flow->merge.keys)
		if (!is_in_list(lfirst(cell), statement->columns))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" is not in the query of flow \"%s\"",
							(char *) lfirst(cell), flow->name)));
	if (lh_flow_is_sink(flow->mode))
		return;
	if (!OidIsValid(flow->merge.target))
		create_target(definition, statement);
	lh_managed_ensure(flow->merge.target, strcmp(flow->mode, "append") != 0);
	if (strcmp(flow->mode, "append") == 0)
	{
		/* analysing the statement that will run finds what does not fit */
		LhInto		into = {.target = flow->merge.target,.except = flow->merge.except_columns};
		LhStatement *insert = lh_statement_analyze(flow->query, flow->name, &into);

		lh_execute_check(insert->query, flow->query);
	}
}

static char *
collation_name(Oid collation)
{
	HeapTuple	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->collnamespace),
									  NameStr(form->collname));
	ReleaseSysCache(tuple);
	return name;
}

/*
 * creation_namespace returns the schema of a table that is to be created.  The
 * path of a flow begins with pg_catalog, where nothing can be created.
 */
static Oid
creation_namespace(const RangeVar *name)
{
	ListCell   *cell;

	if (name->schemaname != NULL)
		return RangeVarGetCreationNamespace(name);
	foreach(cell, fetch_search_path(false))
		if (lfirst_oid(cell) != PG_CATALOG_NAMESPACE && !isAnyTempNamespace(lfirst_oid(cell)))
			return lfirst_oid(cell);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_SCHEMA),
			 errmsg("no schema has been selected to create table \"%s\" in", name->relname),
			 errhint("Write the schema before the table's name.")));
}

static void
create_target(LhFlowDefinition *definition, const LhStatement *statement)
{
	LhFlow	   *flow = &definition->flow;
	RangeVar   *name = makeRangeVarFromNameList(lh_compat_qualified_name(definition->target_name));
	Oid			namespace = creation_namespace(name);
	char	   *table = quote_qualified_identifier(get_namespace_name(namespace), name->relname);
	TupleDesc	tupdesc = lh_statement_tupdesc(statement);
	StringInfoData sql;
	bool		first = true;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", table);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (is_in_list(NameStr(attribute->attname), flow->merge.except_columns))
			continue;
		appendStringInfo(&sql, "%s%s %s", first ? "" : ", ",
						 quote_identifier(NameStr(attribute->attname)),
						 format_type_extended(attribute->atttypid, attribute->atttypmod,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		if (OidIsValid(attribute->attcollation) &&
			attribute->attcollation != get_typcollation(attribute->atttypid))
			appendStringInfo(&sql, " COLLATE %s", collation_name(attribute->attcollation));
		first = false;
	}
	appendStringInfoString(&sql, ")");
	lh_flow_run_ddl(sql.data);
	flow->merge.target = get_relname_relid(name->relname, namespace);
	definition->made_target = true;
	create_key_index(definition, table);
}

/*
 * create_key_index gives a table that was just made what its merge looks rows
 * up by.  Keys that are only a part of the GROUP BY are not unique.
 */
static void
create_key_index(const LhFlowDefinition *definition, const char *table)
{
	const LhFlow *flow = &definition->flow;
	bool		is_aggregate = strcmp(flow->mode, "aggregate") == 0;
	StringInfoData columns;
	ListCell   *cell;

	if (flow->merge.keys == NIL)
		return;
	initStringInfo(&columns);
	foreach(cell, flow->merge.keys)
		appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "",
						 quote_identifier(lfirst(cell)));
	if (!is_aggregate && strcmp(flow->mode, "complete") != 0)
		lh_flow_run_ddl(psprintf("ALTER TABLE %s ADD PRIMARY KEY (%s)", table, columns.data));
	else if (definition->keys_are_groups)
		lh_flow_run_ddl(psprintf("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT", table, columns.data));
	else
		lh_flow_run_ddl(psprintf("CREATE INDEX ON %s (%s)", table, columns.data));
}

/*
 * lh_flow_check_merge raises what can be known of the merge before any row is
 * there, and makes the table of deleted keys that scd1 needs.
 */
void
lh_flow_check_merge(LhFlowDefinition *definition)
{
	LhFlow	   *flow = &definition->flow;
	LhInto		into = {.keep_load = strcmp(lh_flow_technique(flow->mode), "direct") == 0};
	LhStatement *statement;

	if (strcmp(flow->mode, "append") == 0 || strcmp(flow->mode, "sql") == 0 ||
		lh_flow_is_sink(flow->mode))
		return;
	statement = lh_statement_analyze(flow->query, flow->name, &into);
	/* any number but 0 says that the target carries loads */
	flow->merge.load_id = 1;
	lh_merge_check(&flow->merge, lh_statement_tupdesc(statement));
	if (flow->merge.mode == LH_MERGE_SCD1 && !OidIsValid(flow->merge.tombstones))
		flow->merge.tombstones = lh_merge_create_tombstones(&flow->merge, lh_statement_tupdesc(statement),
															flow->flow_id);
}

/*
 * lh_flow_check_cycle raises if the target would feed one of the flow's own
 * streaming inputs, and names the way.
 */
void
lh_flow_check_cycle(const LhFlowDefinition *definition)
{
	const LhFlow *flow = &definition->flow;
	List	   *reached = list_make1_oid(flow->merge.target);
	List	   *ways;
	int			count;
	Edge	   *edges = read_edges(flow->flow_id, &count);

	if (!OidIsValid(flow->merge.target))
		return;
	ways = list_make1(lh_flow_table_name(flow->merge.target));
	for (int next = 0; next < list_length(reached); next++)
	{
		Oid			relation = list_nth_oid(reached, next);

		if (list_member_oid(flow->streaming, relation))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_RECURSION),
					 errmsg("flow \"%s\" would feed itself", flow->name),
					 errdetail("The cycle is: %s -> flow %s -> %s.", (char *) list_nth(ways, next),
							   flow->name, lh_flow_table_name(flow->merge.target)),
					 errhint("List one of the tables in static.")));
		for (int i = 0; i < count; i++)
			if (edges[i].input == relation && !list_member_oid(reached, edges[i].target))
			{
				reached = lappend_oid(reached, edges[i].target);
				ways = lappend(ways, psprintf("%s -> flow %s -> %s", (char *) list_nth(ways, next),
											  edges[i].flow, lh_flow_table_name(edges[i].target)));
			}
	}
}

static Edge *
read_edges(int32 without, int *count)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(without);
	MemoryContext context = CurrentMemoryContext;
	Edge	   *edges;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	*count = (int) lh_catalog_run("SELECT i.input, f.target, f.name FROM lakehouse.flow f"
								  " JOIN lakehouse.flow_input i ON i.flow_id OPERATOR(pg_catalog.=) f.flow_id"
								  " WHERE i.streaming AND f.flow_id OPERATOR(pg_catalog.<>) $1"
								  " ORDER BY f.flow_id, i.input",
								  1, types, &value, NULL);
	edges = MemoryContextAlloc(context, sizeof(Edge) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		edges[i].input = lh_catalog_oid(i, 1);
		edges[i].target = lh_catalog_oid(i, 2);
		edges[i].flow = lh_catalog_text(i, 3, context);
	}
	lh_catalog_end(&catalog);
	return edges;
}
