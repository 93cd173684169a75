/*
 * merge_scd1.c
 *	  lakehouse.merge_scd1: the merge by sequence as a plain SQL function.
 *
 * Everything runs as the caller, in the caller's transaction.  The query is
 * executed once; its rows are kept in a tuplestore until they are merged.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "delta/delta.h"
#include "delta/load.h"
#include "flow/merge.h"

static Tuplestorestate *read_query(const char *sql, TupleDesc *desc);
static List *names_argument(FunctionCallInfo fcinfo, int number, const char *name);
static Datum counts_record(FunctionCallInfo fcinfo, const LhMergeCounts *counts);

PG_FUNCTION_INFO_V1(lakehouse_merge_scd1);

Datum
lakehouse_merge_scd1(PG_FUNCTION_ARGS)
{
	LhMerge		merge = {0};
	LhMergeCounts counts;
	Tuplestorestate *rows;
	TupleDesc	desc;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target and query cannot be null")));
	merge.mode = LH_MERGE_SCD1;
	merge.target = PG_GETARG_OID(0);
	merge.keys = names_argument(fcinfo, 2, "keys");
	merge.sequence_by = names_argument(fcinfo, 3, "sequence_by");
	if (!PG_ARGISNULL(4))
		merge.delete_when = text_to_cstring(PG_GETARG_TEXT_PP(4));
	merge.except_columns = names_argument(fcinfo, 5, "except_columns");

	rows = read_query(text_to_cstring(PG_GETARG_TEXT_PP(1)), &desc);
	if (lh_managed_is(merge.target))
		merge.managed = true;
	lh_merge_check(&merge, desc);
	merge.tombstones = lh_merge_create_tombstones(&merge, desc, 0);
	if (merge.managed)
		merge.load_id = lh_load_current(merge.target, NULL);
	lh_merge_apply(&merge, rows, desc, NULL, NULL, &counts);
	tuplestore_end(rows);
	PG_RETURN_DATUM(counts_record(fcinfo, &counts));
}

/*
 * read_query executes a SELECT of the caller's and keeps its rows.
 */
static Tuplestorestate *
read_query(const char *sql, TupleDesc *desc)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, maintenance_work_mem);
	DestReceiver *receiver = CreateDestReceiver(DestTuplestore);
	List	   *raw;
	List	   *queries = NIL;
	Query	   *query;
	ErrorContextCallback callback;

	PushActiveSnapshot(GetTransactionSnapshot());
	lh_execute_push_error_context(&callback, NULL, sql);
	raw = pg_parse_query(sql);
	if (list_length(raw) == 1)
		queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, raw), sql,
													 NULL, 0, NULL);
	query = list_length(queries) == 1 ? linitial_node(Query, queries) : NULL;
	if (query == NULL || query->commandType != CMD_SELECT || query->hasModifyingCTE ||
		query->utilityStmt != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query of a merge must be one SELECT"),
				 errhint("Write data-modifying statements before or after the call.")));

	*desc = ExecCleanTypeFromTL(query->targetList);
	SetTuplestoreDestReceiverParams(receiver, rows, CurrentMemoryContext, false, NULL, NULL);
	(void) lh_execute_query(query, sql, receiver, NULL, NULL);
	receiver->rDestroy(receiver);
	error_context_stack = callback.previous;
	PopActiveSnapshot();
	return rows;
}

/*
 * names_argument turns a text[] argument into a list; NULL is an empty list.
 */
static List *
names_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	List	   *names = NIL;

	if (PG_ARGISNULL(number))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT,
					  &values, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s cannot contain null", name)));
		names = lappend(names, TextDatumGetCString(values[i]));
	}
	return names;
}

static Datum
counts_record(FunctionCallInfo fcinfo, const LhMergeCounts *counts)
{
	Datum		values[6];
	bool		nulls[6] = {0};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(counts->rows_in);
	values[1] = Int64GetDatum(counts->inserted);
	values[2] = Int64GetDatum(counts->updated);
	values[3] = Int64GetDatum(counts->deleted);
	values[4] = Int64GetDatum(counts->rows_in - counts->inserted - counts->updated -
							  counts->deleted - counts->rejected);
	values[5] = Int64GetDatum(counts->rejected);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
