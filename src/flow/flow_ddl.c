/*
 * flow_ddl.c
 *	  create_flow, alter_flow, drop_flow, pause_flow, resume_flow.
 *
 * Invariant: a flow that is in the catalog could run when it was created: its
 * query was planned and its privileges were checked as its owner, its inputs
 * and target carry loads, its technique can treat the query.  What its inputs
 * held at that moment is in its queue, and every load since then as well.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "delta/delta.h"
#include "delta/load.h"
#include "flow/flow.h"
#include "flow/flow_ddl.h"

PG_FUNCTION_INFO_V1(lakehouse_create_flow);
PG_FUNCTION_INFO_V1(lakehouse_alter_flow);
PG_FUNCTION_INFO_V1(lakehouse_drop_flow);
PG_FUNCTION_INFO_V1(lakehouse_pause_flow);
PG_FUNCTION_INFO_V1(lakehouse_resume_flow);

static void read_arguments(FunctionCallInfo fcinfo, LhFlowDefinition *definition);
static LhFlow *find_replaced(const LhFlowDefinition *definition);
static void define_flow(LhFlowDefinition *definition, const LhFlow *replaced);
static void choose_inputs(LhFlowDefinition *definition, const LhStatement *statement,
						  const LhFlow *replaced);
static void store_flow(LhFlowDefinition *definition, const LhFlow *replaced);
static void store_inputs(const LhFlowDefinition *definition, const LhFlow *replaced);
static void release_inputs(const LhFlow *replaced);
static LhFlow *lock_flow(text *name);

/*
 * lakehouse.create_flow(...)
 */
Datum
lakehouse_create_flow(PG_FUNCTION_ARGS)
{
	LhFlowDefinition definition = {0};
	LhFlow	   *replaced;
	LhIdentity	saved;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot create a flow in a transaction of isolation level REPEATABLE READ or SERIALIZABLE"),
				 errdetail("Loads that committed after the transaction began would be missed."),
				 errhint("Use READ COMMITTED.")));
	read_arguments(fcinfo, &definition);

	/* one at a time, so that two new flows cannot close a cycle together */
	LockRelationOid(get_relname_relid("flow", get_namespace_oid("lakehouse", false)),
					ShareRowExclusiveLock);
	replaced = find_replaced(&definition);
	definition.flow.owner = replaced ? replaced->owner : GetUserId();
	definition.flow.flow_id = replaced ? replaced->flow_id : 0;

	lh_identity_role(&saved, definition.flow.owner, definition.flow.path);
	define_flow(&definition, replaced);
	store_flow(&definition, replaced);
	store_inputs(&definition, replaced);
	if (replaced != NULL)
		release_inputs(replaced);
	lh_identity_restore(&saved);
	PG_RETURN_VOID();
}

static List *
text_array(FunctionCallInfo fcinfo, int number, const char *argument)
{
	List	   *list = NIL;
	Datum	   *items;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(number))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT,
					  &items, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not contain nulls", argument)));
		list = lappend(list, TextDatumGetCString(items[i]));
	}
	return list;
}

static char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static void
require_argument(const void *value, const char *argument)
{
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", argument)));
}

static void
check_trigger(const char *trigger)
{
	if (strcmp(trigger, "auto") != 0 && strcmp(trigger, "available_now") != 0 &&
		strcmp(trigger, "continuous") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid trigger \"%s\"", trigger),
				 errhint("Valid triggers are auto (follows its inputs), available_now and continuous.")));
}

static void
check_max_loads(int max_loads)
{
	if (max_loads < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_loads must be at least 1")));
}

static void
read_arguments(FunctionCallInfo fcinfo, LhFlowDefinition *definition)
{
	LhFlow	   *flow = &definition->flow;

	flow->name = text_argument(fcinfo, 0);
	require_argument(flow->name, "name");
	if (flow->name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a flow must not be empty")));
	flow->query = text_argument(fcinfo, 1);
	require_argument(flow->query, "query");
	definition->target_name = text_argument(fcinfo, 2);
	flow->mode = text_argument(fcinfo, 3);
	flow->merge.keys = text_array(fcinfo, 4, "keys");
	flow->merge.sequence_by = text_array(fcinfo, 5, "sequence_by");
	flow->merge.delete_when = text_argument(fcinfo, 6);
	flow->merge.except_columns = text_array(fcinfo, 7, "except_columns");
	definition->static_names = text_array(fcinfo, 8, "static");
	definition->streaming_names = text_array(fcinfo, 9, "streaming");
	definition->trigger = text_argument(fcinfo, 10);
	require_argument(definition->trigger, "trigger");
	check_trigger(definition->trigger);
	if (PG_ARGISNULL(11))
		require_argument(NULL, "max_loads");
	flow->max_loads = PG_GETARG_INT32(11);
	check_max_loads(flow->max_loads);
	definition->replace = !PG_ARGISNULL(12) && PG_GETARG_BOOL(12);
	flow->server = text_argument(fcinfo, 13);
	flow->topic = text_argument(fcinfo, 14);
	flow->path = lh_catalog_current_path();
}

/*
 * find_replaced returns the flow of that name, locked, if it is to be replaced.
 */
static LhFlow *
find_replaced(const LhFlowDefinition *definition)
{
	static const Oid types[] = {TEXTOID};
	Datum		value = CStringGetTextDatum(definition->flow.name);
	LhCatalog	catalog;
	LhFlow	   *replaced;
	int32		flow_id = 0;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT flow_id FROM lakehouse.flow WHERE name OPERATOR(pg_catalog.=) $1",
					   1, types, &value, NULL) > 0)
		flow_id = (int32) lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	if (flow_id == 0)
		return NULL;
	if (!definition->replace)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("flow \"%s\" already exists", definition->flow.name),
				 errhint("Use replace => true to change it.")));
	lh_catalog_lock(LH_LOCK_FLOW, flow_id, true);
	replaced = lh_flow_get(flow_id);
	if (replaced != NULL)
		lh_catalog_check_owner(replaced->owner, "flow", replaced->name);
	return replaced;
}

/*
 * define_flow finds out everything about the flow, as its owner: mode, inputs,
 * target; makes inputs and target carry loads; checks the whole.
 */
static void
define_flow(LhFlowDefinition *definition, const LhFlow *replaced)
{
	LhFlow	   *flow = &definition->flow;
	LhStatement *statement;
	ListCell   *cell;

	statement = lh_statement_analyze(flow->query, flow->name, NULL);
	lh_flow_check_mode(definition, statement);
	lh_flow_check_sink(definition);
	lh_flow_find_target(definition, statement);
	choose_inputs(definition, statement, replaced);
	lh_flow_check_cycle(definition);

	foreach(cell, flow->streaming)
		lh_managed_ensure(lfirst_oid(cell), false);
	if (!statement->is_select)
		lh_managed_ensure(flow->merge.target, true);
	/* a table may have got its column _load_id just now */
	statement = lh_statement_analyze(flow->query, flow->name, NULL);
	if (!statement->is_select)
		lh_statement_check_load(statement);
	lh_statement_stream(statement, flow->streaming);
	if (strcmp(lh_flow_technique(flow->mode), "direct") == 0)
		lh_statement_check_direct(statement, flow->mode);
	else if (lh_flow_recomputes(flow->mode))
	{
		if (flow->merge.keys == NIL)
		{
			flow->merge.keys = lh_flow_default_keys(flow, statement);
			definition->keys_are_groups = true;
		}
		lh_flow_check_recompute(flow, statement);
	}
	else
		lh_flow_check_stable(flow, statement);

	lh_flow_make_target(definition, statement);
	lh_execute_check(statement->query, flow->query);
	if (lh_flow_recomputes(flow->mode))
		foreach(cell, flow->streaming)
			lh_capture_old_images(lfirst_oid(cell));
	flow->merge.tombstones = replaced ? replaced->merge.tombstones : InvalidOid;
}

static Oid
resolve_name(const char *name, const char *argument)
{
	List	   *names = lh_compat_qualified_name(name);
	Oid			relation = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" does not exist", name),
				 errdetail("It is listed in argument \"%s\".", argument)));
	return relation;
}

static List *
resolve_names(List *names, const char *argument, const LhStatement *statement)
{
	List	   *relations = NIL;
	ListCell   *cell;

	foreach(cell, names)
	{
		Oid			relation = resolve_name(lfirst(cell), argument);

		if (!list_member_oid(statement->relations, relation))
		{
			StringInfoData read;
			ListCell   *other;

			initStringInfo(&read);
			foreach(other, statement->relations)
				appendStringInfo(&read, "%s%s", read.len > 0 ? ", " : "",
								 lh_flow_table_name(lfirst_oid(other)));
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("table \"%s\" listed in argument \"%s\" is not read by the query",
							(char *) lfirst(cell), argument),
					 errdetail("The query reads: %s.", read.len > 0 ? read.data : "no table"),
					 errhint("For a view, list the tables that it reads.")));
		}
		relations = list_append_unique_oid(relations, relation);
	}
	return relations;
}

/*
 * check_partition refuses to read a partition of a managed table: its loads
 * belong to the whole table, and read as static it would be missed in silence.
 */
static void
check_partition(const LhFlowDefinition *definition, Oid relation)
{
	ListCell   *cell;

	if (!get_rel_relispartition(relation))
		return;
	foreach(cell, get_partition_ancestors(relation))
		if (lh_managed_is(lfirst_oid(cell)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("flow \"%s\" cannot stream from partition \"%s\"",
							definition->flow.name, get_rel_name(relation)),
					 errdetail("Loads belong to the partitioned table %s.", lh_flow_table_name(lfirst_oid(cell))),
					 errhint("Read the partitioned table with a condition, or list the partition in static.")));
}

/*
 * choose_inputs splits the tables that the query reads: managed tables stream
 * and others are static, unless listed otherwise.  A replaced flow goes on
 * reading a table as it did, even if that has become managed since: a script
 * that is run again gives the same flows.
 */
static void
choose_inputs(LhFlowDefinition *definition, const LhStatement *statement, const LhFlow *replaced)
{
	LhFlow	   *flow = &definition->flow;
	List	   *statics = resolve_names(definition->static_names, "static", statement);
	List	   *streaming = resolve_names(definition->streaming_names, "streaming", statement);
	ListCell   *cell;

	foreach(cell, statement->relations)
	{
		Oid			relation = lfirst_oid(cell);
		bool		is_static = list_member_oid(statics, relation);
		bool		is_streaming = list_member_oid(streaming, relation);

		if (is_static && is_streaming)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("table \"%s\" is listed in both \"static\" and \"streaming\"",
							get_rel_name(relation))));
		if (!is_static && !is_streaming && replaced && list_member_oid(replaced->streaming, relation))
			is_streaming = true;
		else if (!is_static && !is_streaming &&
				 !(replaced && list_member_oid(replaced->statics, relation)))
		{
			check_partition(definition, relation);
			/* reads of the target see what is there: it is never its own input */
			is_streaming = relation != flow->merge.target && lh_managed_is(relation);
		}
		if (is_streaming)
			flow->streaming = lappend_oid(flow->streaming, relation);
		else
			flow->statics = lappend_oid(flow->statics, relation);
	}
	if (flow->streaming == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("flow \"%s\" has no streaming input", flow->name),
				 errdetail("New loads of a streaming input make a flow run; a table becomes one when a source or a flow writes it."),
				 errhint("List tables of the query whose new rows are to be read in streaming.")));
}

static Datum
text_array_datum(List *list)
{
	Datum	   *items = palloc(sizeof(Datum) * (list_length(list) + 1));
	int			count = 0;
	ListCell   *cell;

	foreach(cell, list)
		items[count++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(items, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * store_flow writes the flow's row and fills flow_id.
 */
static void
store_flow(LhFlowDefinition *definition, const LhFlow *replaced)
{
	static const Oid types[] = {INT4OID, TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTOID, TEXTARRAYOID,
		TEXTARRAYOID, TEXTOID, TEXTARRAYOID, TEXTOID, INT4OID, TEXTOID, OIDOID, TEXTOID, TEXTOID};
	LhFlow	   *flow = &definition->flow;
	Datum		values[16];
	char		nulls[17] = "                ";
	LhCatalog	catalog;

	if (replaced == NULL)
	{
		lh_catalog_begin(&catalog);
		lh_catalog_run("SELECT pg_catalog.nextval('lakehouse.flow_id_seq')::pg_catalog.int4",
					   0, NULL, NULL, NULL);
		flow->flow_id = (int32) lh_catalog_int64(0, 1, 0);
		lh_catalog_end(&catalog);
	}
	flow->merge.flow_id = flow->flow_id;
	lh_flow_check_merge(definition);

	values[0] = Int32GetDatum(flow->flow_id);
	values[1] = CStringGetTextDatum(flow->name);
	values[2] = ObjectIdGetDatum(flow->owner);
	values[3] = ObjectIdGetDatum(flow->merge.target);
	values[4] = CStringGetTextDatum(flow->mode);
	values[5] = CStringGetTextDatum(flow->query);
	values[6] = text_array_datum(flow->merge.keys);
	values[7] = text_array_datum(flow->merge.sequence_by);
	values[8] = flow->merge.delete_when ? CStringGetTextDatum(flow->merge.delete_when) : (Datum) 0;
	values[9] = text_array_datum(flow->merge.except_columns);
	values[10] = CStringGetTextDatum(definition->trigger);
	values[11] = Int32GetDatum(flow->max_loads);
	values[12] = CStringGetTextDatum(flow->path);
	values[13] = ObjectIdGetDatum(flow->merge.tombstones);
	if (flow->merge.delete_when == NULL)
		nulls[8] = 'n';
	if (!OidIsValid(flow->merge.tombstones))
		nulls[13] = 'n';
	values[14] = flow->server ? CStringGetTextDatum(flow->server) : (Datum) 0;
	nulls[14] = flow->server ? ' ' : 'n';
	values[15] = flow->topic ? CStringGetTextDatum(flow->topic) : (Datum) 0;
	nulls[15] = flow->topic ? ' ' : 'n';
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.flow (flow_id, name, owner, target, mode, query, keys,"
				   " sequence_by, delete_when, except_columns, trigger, max_loads, path, tombstones,"
				   " server, topic)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::pg_catalog.name, $16)"
				   " ON CONFLICT (flow_id) DO UPDATE SET target = excluded.target, mode = excluded.mode,"
				   " query = excluded.query, keys = excluded.keys, sequence_by = excluded.sequence_by,"
				   " delete_when = excluded.delete_when,"
				   " except_columns = excluded.except_columns, trigger = excluded.trigger,"
				   " max_loads = excluded.max_loads, path = excluded.path, tombstones = excluded.tombstones,"
				   " server = excluded.server, topic = excluded.topic",
				   16, types, values, nulls);
	lh_catalog_end(&catalog);
}

static void
store_input(int32 flow_id, Oid relation, bool streaming)
{
	static const Oid types[] = {INT4OID, OIDOID, BOOLOID};
	Datum		values[] = {Int32GetDatum(flow_id), ObjectIdGetDatum(relation), BoolGetDatum(streaming)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.flow_input (flow_id, input, streaming) VALUES ($1, $2, $3)",
				   3, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * store_inputs writes the flow's inputs and fills its queue: with all loads of
 * an input that is new to it.  A replaced flow keeps the rest of its queue,
 * unless its result has to be built anew.
 */
static void
store_inputs(const LhFlowDefinition *definition, const LhFlow *replaced)
{
	const LhFlow *flow = &definition->flow;
	bool		rebuild;
	ListCell   *cell;

	rebuild = replaced == NULL || replaced->merge.target != flow->merge.target ||
		(lh_flow_is_sink(flow->mode) &&
		 (strcmp(replaced->server, flow->server) != 0 || strcmp(replaced->topic, flow->topic) != 0)) ||
		(strcmp(lh_flow_technique(flow->mode), "direct") != 0 &&
		 (strcmp(replaced->query, flow->query) != 0 || strcmp(replaced->mode, flow->mode) != 0));
	lh_catalog_run_for(flow->flow_id, "DELETE FROM lakehouse.flow_input WHERE flow_id OPERATOR(pg_catalog.=) $1");
	foreach(cell, flow->streaming)
		store_input(flow->flow_id, lfirst_oid(cell), true);
	foreach(cell, flow->statics)
		store_input(flow->flow_id, lfirst_oid(cell), false);
	lh_catalog_run_for(flow->flow_id,
					   "DELETE FROM lakehouse.pending p WHERE p.flow_id OPERATOR(pg_catalog.=) $1"
					   " AND NOT EXISTS (SELECT FROM lakehouse.flow_input i"
					   "  WHERE i.flow_id OPERATOR(pg_catalog.=) p.flow_id"
					   "    AND i.input OPERATOR(pg_catalog.=) p.input AND i.streaming)");
	foreach(cell, flow->streaming)
		if (rebuild || !list_member_oid(replaced->streaming, lfirst_oid(cell)))
			lh_pending_enqueue_existing(flow->flow_id, lfirst_oid(cell));
}

/*
 * release_inputs ends the keeping of old rows that only the former definition
 * of a flow needed.
 */
static void
release_inputs(const LhFlow *replaced)
{
	ListCell   *cell;

	foreach(cell, replaced->streaming)
		lh_capture_release(lfirst_oid(cell));
}

/*
 * lock_flow finds a flow that the caller may change, and locks it.
 */
static LhFlow *
lock_flow(text *name)
{
	LhFlow	   *flow = lh_flow_find(text_to_cstring(name));

	lh_catalog_check_owner(flow->owner, "flow", flow->name);
	lh_catalog_lock(LH_LOCK_FLOW, flow->flow_id, true);
	/* somebody may have dropped it while we waited */
	return lh_flow_find(flow->name);
}

/*
 * lakehouse.alter_flow(name, trigger, max_loads, new_name): NULL leaves as is.
 */
Datum
lakehouse_alter_flow(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID, TEXTOID};
	char	   *trigger = text_argument(fcinfo, 1);
	Datum		values[4] = {0};
	char		nulls[5] = " nnn";
	LhCatalog	catalog;
	LhFlow	   *flow;

	if (PG_ARGISNULL(0))
		require_argument(NULL, "name");
	flow = lock_flow(PG_GETARG_TEXT_PP(0));
	values[0] = Int32GetDatum(flow->flow_id);
	if (trigger != NULL)
	{
		check_trigger(trigger);
		values[1] = CStringGetTextDatum(trigger);
		nulls[1] = ' ';
	}
	if (!PG_ARGISNULL(2))
	{
		check_max_loads(PG_GETARG_INT32(2));
		values[2] = PG_GETARG_DATUM(2);
		nulls[2] = ' ';
	}
	if (!PG_ARGISNULL(3))
	{
		values[3] = PG_GETARG_DATUM(3);
		nulls[3] = ' ';
	}
	lh_catalog_begin(&catalog);
	if (!PG_ARGISNULL(3) &&
		lh_catalog_run("SELECT FROM lakehouse.flow WHERE name OPERATOR(pg_catalog.=) $4"
					   " AND flow_id OPERATOR(pg_catalog.<>) $1 AND $2 IS NOT DISTINCT FROM $2"
					   " AND $3 IS NOT DISTINCT FROM $3",
					   4, types, values, nulls) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("flow \"%s\" already exists", text_to_cstring(PG_GETARG_TEXT_PP(3)))));
	lh_catalog_run("UPDATE lakehouse.flow SET trigger = COALESCE($2, trigger),"
				   " max_loads = COALESCE($3, max_loads), name = COALESCE($4, name)"
				   " WHERE flow_id OPERATOR(pg_catalog.=) $1",
				   4, types, values, nulls);
	lh_catalog_end(&catalog);
	PG_RETURN_VOID();
}

/*
 * lakehouse.drop_flow(name) forgets a flow, its queue and its history; the
 * target stays as it is.
 */
Datum
lakehouse_drop_flow(PG_FUNCTION_ARGS)
{
	LhFlow	   *flow = lock_flow(PG_GETARG_TEXT_PP(0));
	ListCell   *cell;

	lh_catalog_run_for(flow->flow_id, "DELETE FROM lakehouse.pending WHERE flow_id OPERATOR(pg_catalog.=) $1");
	lh_catalog_run_for(flow->flow_id, "DELETE FROM lakehouse.flow_input WHERE flow_id OPERATOR(pg_catalog.=) $1");
	lh_catalog_run_for(flow->flow_id, "DELETE FROM lakehouse.flow_state WHERE flow_id OPERATOR(pg_catalog.=) $1");
	lh_catalog_run_for(flow->flow_id, "DELETE FROM lakehouse.flow_run WHERE flow_id OPERATOR(pg_catalog.=) $1");
	lh_catalog_run_for(flow->flow_id, "DELETE FROM lakehouse.flow WHERE flow_id OPERATOR(pg_catalog.=) $1");
	if (OidIsValid(flow->merge.tombstones) && get_rel_name(flow->merge.tombstones) != NULL)
	{
		LhIdentity	saved;

		lh_identity_role(&saved, flow->owner, flow->path);
		lh_flow_run_ddl(psprintf("DROP TABLE %s", lh_flow_table_name(flow->merge.tombstones)));
		lh_identity_restore(&saved);
	}
	foreach(cell, flow->streaming)
		lh_capture_release(lfirst_oid(cell));
	PG_RETURN_VOID();
}

static void
set_paused(LhFlow *flow, const char *reason)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(flow->flow_id), (Datum) 0};
	char		nulls[3] = " n";
	LhCatalog	catalog;

	if (reason != NULL)
	{
		values[1] = CStringGetTextDatum(reason);
		nulls[1] = ' ';
	}
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.flow SET paused = $2 WHERE flow_id OPERATOR(pg_catalog.=) $1",
				   2, types, values, nulls);
	/* a person who resumes has looked: no waiting for the back-off */
	if (reason == NULL)
		lh_catalog_run("UPDATE lakehouse.flow_state SET retry_at = NULL"
					   " WHERE flow_id OPERATOR(pg_catalog.=) $1 AND $2 IS NOT DISTINCT FROM $2",
					   2, types, values, nulls);
	lh_catalog_end(&catalog);
}

/*
 * lakehouse.pause_flow(name, reason): its queue goes on filling.
 */
Datum
lakehouse_pause_flow(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		require_argument(NULL, "name");
	set_paused(lock_flow(PG_GETARG_TEXT_PP(0)),
			   PG_ARGISNULL(1) ? "paused by hand" : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/*
 * lakehouse.resume_flow(name)
 */
Datum
lakehouse_resume_flow(PG_FUNCTION_ARGS)
{
	set_paused(lock_flow(PG_GETARG_TEXT_PP(0)), NULL);
	PG_RETURN_VOID();
}
