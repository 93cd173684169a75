/*
 * merge_sql.c
 *	  The statements of a merge, as text.
 *
 * Pure: a resolved merge goes in, text comes out, no catalog is read.  Every
 * identifier is quoted and every operator and function is written with its
 * schema, so that the meaning does not depend on search_path.
 *
 * In the statements t is the target and w is a work row (merge_internal.h).
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "delta/load.h"
#include "flow/merge_internal.h"

static void append_load(StringInfo sql, const LhMergePlan *plan);

/*
 * lh_merge_sql_append inserts all delta rows; the server casts as INSERT does.
 */
char *
lh_merge_sql_append(const LhMergePlan *plan, TupleDesc delta)
{
	StringInfoData sql;
	StringInfoData values;

	initStringInfo(&sql);
	initStringInfo(&values);
	appendStringInfo(&sql, "INSERT INTO %s (", plan->target);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", plan->columns[i].name);
		appendStringInfo(&values, "%sw.%s", i > 0 ? ", " : "",
						 quote_identifier(plan->columns[i].label));
	}
	if (plan->write_load)
	{
		appendStringInfoString(&sql, ", " LH_LOAD_COLUMN);
		append_load(&values, plan);
	}
	appendStringInfo(&sql, ") SELECT %s FROM " LH_DELTA_NAME " w", values.data);
	return sql.data;
}

/*
 * lh_merge_sql_insert inserts work rows; with skip_existing those whose key the
 * target has already are left out.
 */
char *
lh_merge_sql_insert(const LhMergePlan *plan, bool skip_existing)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", plan->target);
	lh_merge_sql_columns(&sql, plan, NULL);
	appendStringInfoString(&sql, ") SELECT ");
	lh_merge_sql_columns(&sql, plan, "w");
	appendStringInfoString(&sql, " FROM " LH_DELTA_NAME " w");
	if (skip_existing)
	{
		appendStringInfoString(&sql, " ON CONFLICT (");
		for (int i = 0; i < plan->nkeys; i++)
			appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", plan->keys[i]->name);
		appendStringInfoString(&sql, ") DO NOTHING");
	}
	return sql.data;
}

/*
 * lh_merge_sql_upsert makes the target's row of each key the work row.
 */
char *
lh_merge_sql_upsert(const LhMergePlan *plan)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "MERGE INTO %s t USING " LH_DELTA_NAME " w ON ", plan->target);
	lh_merge_sql_key_match(&sql, plan);
	if (lh_merge_sql_has_assignments(plan))
	{
		appendStringInfoString(&sql, " WHEN MATCHED AND (");
		lh_merge_sql_differs(&sql, plan);
		appendStringInfoString(&sql, ") THEN UPDATE SET ");
		lh_merge_sql_assignments(&sql, plan, false);
	}
	appendStringInfoString(&sql, " WHEN NOT MATCHED THEN INSERT (");
	lh_merge_sql_columns(&sql, plan, NULL);
	appendStringInfoString(&sql, ") VALUES (");
	lh_merge_sql_columns(&sql, plan, "w");
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/*
 * lh_merge_sql_delete_row deletes rows by their place; w holds the places.
 */
char *
lh_merge_sql_delete_row(const LhMergePlan *plan)
{
	return psprintf("DELETE FROM %s t USING " LH_DELTA_NAME " w"
					" WHERE t.ctid OPERATOR(pg_catalog.=) w.place%s",
					plan->target,
					plan->partitioned ? " AND t.tableoid OPERATOR(pg_catalog.=) w.part" : "");
}

/*
 * lh_merge_sql_update_row gives rows, found by their place, new contents.
 */
char *
lh_merge_sql_update_row(const LhMergePlan *plan)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s t SET ", plan->target);
	lh_merge_sql_assignments(&sql, plan, true);
	appendStringInfo(&sql, " FROM " LH_DELTA_NAME " w"
					 " WHERE t.ctid OPERATOR(pg_catalog.=) w.place%s",
					 plan->partitioned ? " AND t.tableoid OPERATOR(pg_catalog.=) w.part" : "");
	return sql.data;
}

/*
 * lh_merge_sql_old_rows reads place, part and columns of the target's rows: all
 * of them, or those of the touched keys in which exactly the keys of the bit
 * mask null_keys are NULL.  One statement for each such mask keeps the others
 * joins by plain equality, which indexes and hashes serve.
 */
char *
lh_merge_sql_old_rows(const LhMergePlan *plan, bool touched, uint32 null_keys)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT t.ctid, t.tableoid");
	for (int i = 0; i < plan->ncolumns; i++)
		appendStringInfo(&sql, ", t.%s", plan->columns[i].name);
	appendStringInfo(&sql, " FROM %s t", plan->target);
	if (!touched)
		return sql.data;

	appendStringInfoString(&sql, " JOIN " LH_TOUCHED_NAME " x ON ");
	for (int i = 0; i < plan->nkeys; i++)
	{
		const LhMergeColumn *key = plan->keys[i];

		if (i > 0)
			appendStringInfoString(&sql, " AND ");
		if (null_keys & ((uint32) 1 << i))
			appendStringInfo(&sql, "t.%s IS NULL AND x.k%d IS NULL", key->name, i + 1);
		else
			appendStringInfo(&sql, "t.%s %s x.k%d", key->name, key->eq, i + 1);
	}
	return sql.data;
}

/*
 * lh_merge_sql_columns writes the stored columns and _load_id: names of the target,
 * or, with a prefix, the values of a work row.
 */
void
lh_merge_sql_columns(StringInfo sql, const LhMergePlan *plan, const char *prefix)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (i > 0)
			appendStringInfoString(sql, ", ");
		if (prefix)
			appendStringInfo(sql, "%s.%s", prefix, plan->columns[i].work);
		else
			appendStringInfoString(sql, plan->columns[i].name);
	}
	if (!plan->write_load)
		return;
	if (prefix)
		append_load(sql, plan);
	else
		appendStringInfoString(sql, ", " LH_LOAD_COLUMN);
}

static void
append_load(StringInfo sql, const LhMergePlan *plan)
{
	appendStringInfo(sql, ", " INT64_FORMAT "::pg_catalog.int8", plan->merge->load_id);
}

/*
 * assigned tells whether an update writes the column: keys are equal already,
 * but where equal values may look different the new look is taken.
 */
static bool
assigned(const LhMergeColumn *column)
{
	return !column->key || !column->exact;
}

/*
 * lh_merge_sql_has_assignments tells whether a row with the same key can differ.
 */
bool
lh_merge_sql_has_assignments(const LhMergePlan *plan)
{
	for (int i = 0; i < plan->ncolumns; i++)
		if (assigned(&plan->columns[i]))
			return true;
	return false;
}

/*
 * lh_merge_sql_assignments writes what UPDATE sets: all columns, or all but the
 * keys.
 */
void
lh_merge_sql_assignments(StringInfo sql, const LhMergePlan *plan, bool keys)
{
	const char *separator = "";

	for (int i = 0; i < plan->ncolumns; i++)
	{
		const LhMergeColumn *column = &plan->columns[i];

		if (!keys && !assigned(column))
			continue;
		appendStringInfo(sql, "%s%s = w.%s", separator, column->name, column->work);
		separator = ", ";
	}
	if (plan->write_load)
		appendStringInfo(sql, "%s" LH_LOAD_COLUMN " = " INT64_FORMAT "::pg_catalog.int8",
						 separator, plan->merge->load_id);
}

/*
 * lh_merge_sql_key_match joins t and w by key.
 */
void
lh_merge_sql_key_match(StringInfo sql, const LhMergePlan *plan)
{
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(sql, "%st.%s %s w.%s", i > 0 ? " AND " : "",
						 plan->keys[i]->name, plan->keys[i]->eq, plan->keys[i]->work);
}

/*
 * lh_merge_sql_differs is true when t and w would not look the same.  Where equal
 * values may have several representations, and for types without equality, the
 * representations are compared.
 */
void
lh_merge_sql_differs(StringInfo sql, const LhMergePlan *plan)
{
	StringInfoData old;
	StringInfoData new;
	const char *separator = "";

	initStringInfo(&old);
	initStringInfo(&new);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const LhMergeColumn *c = &plan->columns[i];

		if (!assigned(c))
			continue;
		if (!c->exact)
		{
			appendStringInfo(&old, "%st.%s", old.len > 0 ? ", " : "", c->name);
			appendStringInfo(&new, "%sw.%s", new.len > 0 ? ", " : "", c->work);
			continue;
		}
		appendStringInfo(sql, "%s((t.%s%s %s w.%s%s) IS NOT TRUE"
						 " AND NOT (t.%s IS NULL AND w.%s IS NULL))", separator,
						 c->name, c->collate, c->eq, c->work, c->collate,
						 c->name, c->work);
		separator = " OR ";
	}
	/* the cast keeps the comparison of records from becoming one of columns */
	if (old.len > 0)
		appendStringInfo(sql, "%sROW(%s)::pg_catalog.record OPERATOR(pg_catalog.*<>)"
						 " ROW(%s)::pg_catalog.record", separator, old.data, new.data);
}
