/*
 * explain.c
 *	  lakehouse.explain_flow: how a flow gets from new rows to its target.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "catalog/catalog_access.h"
#include "flow/flow_ddl.h"

PG_FUNCTION_INFO_V1(lakehouse_explain_flow);

static void add_row(ReturnSetInfo *result, const char *item, const char *value);
static const char *technique_reason(const LhFlow *flow);
static char *join_names(List *names);
static void explain_inputs(ReturnSetInfo *result, const LhFlow *flow, const LhStatement *statement);
static char *explain_pending(int32 flow_id, Oid input);

/*
 * lakehouse.explain_flow(name)
 */
Datum
lakehouse_explain_flow(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LhFlow	   *flow = lh_flow_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	LhStatement *statement;
	LhIdentity	saved;

	lh_catalog_check_owner(flow->owner, "flow", flow->name);
	InitMaterializedSRF(fcinfo, 0);
	add_row(result, "mode", flow->mode);
	add_row(result, "technique", lh_flow_technique(flow->mode));
	add_row(result, "why", technique_reason(flow));
	if (lh_flow_is_sink(flow->mode))
		add_row(result, "target", psprintf("topic %s of server %s", flow->topic, flow->server));
	else
		add_row(result, "target", lh_flow_table_name(flow->merge.target));
	if (flow->merge.keys != NIL)
		add_row(result, "keys", join_names(flow->merge.keys));
	if (flow->paused)
		add_row(result, "paused", flow->paused);

	lh_identity_role(&saved, flow->owner, flow->path);
	statement = lh_statement_analyze(flow->query, flow->name, NULL);
	lh_statement_stream(statement, flow->streaming);
	lh_identity_restore(&saved);
	explain_inputs(result, flow, statement);
	return (Datum) 0;
}

static void
add_row(ReturnSetInfo *result, const char *item, const char *value)
{
	Datum		values[2];
	bool		nulls[2] = {0};

	values[0] = CStringGetTextDatum(item);
	values[1] = CStringGetTextDatum(value);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static const char *
technique_reason(const LhFlow *flow)
{
	if (lh_flow_recomputes(flow->mode))
		return "the keys of groups that new, updated and deleted rows touch are found, and just those groups are computed again";
	if (strcmp(flow->mode, "complete") == 0)
		return "the whole query is run, and the differences are written";
	if (strcmp(flow->mode, "sql") == 0)
		return "the statement is run as if its streaming inputs held new rows only";
	return "each result row comes from one row of each streaming input, so new rows alone give the new result";
}

static char *
join_names(List *names)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, names)
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", (char *) lfirst(cell));
	return text.data;
}

static void
explain_inputs(ReturnSetInfo *result, const LhFlow *flow, const LhStatement *statement)
{
	ListCell   *cell;

	foreach(cell, flow->streaming)
	{
		int			occurrences = 0;
		ListCell   *other;

		foreach(other, statement->occurrences)
			if (((LhOccurrence *) lfirst(other))->relation == lfirst_oid(cell))
				occurrences++;
		add_row(result, psprintf("streaming %s", lh_flow_table_name(lfirst_oid(cell))),
				psprintf("read in %d place%s; %s", occurrences, occurrences == 1 ? "" : "s",
						 explain_pending(flow->flow_id, lfirst_oid(cell))));
	}
	foreach(cell, flow->statics)
		add_row(result, psprintf("static %s", lh_flow_table_name(lfirst_oid(cell))),
				"read whole, as it is when the flow runs");
	if (strcmp(lh_flow_technique(flow->mode), "direct") == 0)
		add_row(result, "variants", psprintf("%d", list_length(statement->occurrences)));
}

static char *
explain_pending(int32 flow_id, Oid input)
{
	static const Oid types[] = {INT4OID, OIDOID};
	Datum		values[] = {Int32GetDatum(flow_id), ObjectIdGetDatum(input)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	char	   *text;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.format('%s loads pending, %s rows', pg_catalog.count(*),"
				   " CASE WHEN pg_catalog.bool_or(l.rows IS NULL) THEN 'uncounted'"
				   "      ELSE COALESCE(pg_catalog.sum(l.rows), 0)::pg_catalog.text END)"
				   " FROM lakehouse.pending p LEFT JOIN lakehouse.load l"
				   "   ON l.load_id OPERATOR(pg_catalog.=) p.load_id"
				   " WHERE p.flow_id OPERATOR(pg_catalog.=) $1 AND p.input OPERATOR(pg_catalog.=) $2",
				   2, types, values, NULL);
	text = lh_catalog_text(0, 1, context);
	lh_catalog_end(&catalog);
	return text;
}
