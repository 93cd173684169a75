/*
 * merge_scd1_sql.c
 *	  The statements of a merge by sequence, as text.
 *
 * Pure, as merge_sql.c.  t is the target, w a work row and s the side table:
 * the sequence of every key that was deleted and, when the target does not hold
 * the sequence, of every key that is there (live).
 *
 * Invariant: each statement compares (sequence, upsert before delete, row value)
 * in the same total order as merge_rows.c, so it makes no difference whether
 * two changes of a key meet in one call or in two.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "flow/merge_internal.h"

/* how the other side of a comparison names a column */
typedef enum OtherSide
{
	TARGET,						/* t.name */
	SIDE,						/* s.sequence_n, against a work row */
	SIDE_EXCLUDED				/* s.sequence_n, against ON CONFLICT's row */
} OtherSide;

static void append_side_match(StringInfo sql, const LhMergePlan *plan);
static void append_sequence_order(StringInfo sql, const LhMergePlan *plan, OtherSide other);
static void append_row_order(StringInfo sql, const LhMergePlan *plan);
static void append_order(StringInfo sql, const LhMergeColumn *column, const char *a,
						 const char *b, bool text_too);
static void append_side_columns(StringInfo sql, const LhMergePlan *plan);
static void append_side_values(StringInfo sql, const LhMergePlan *plan);
static void append_side_conflict(StringInfo sql, const LhMergePlan *plan);

/*
 * lh_merge_sql_revive forgets the tombstones that an upsert overcomes: those
 * that are not newer than it.
 */
char *
lh_merge_sql_revive(const LhMergePlan *plan)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s s USING " LH_DELTA_NAME " w WHERE NOT w.d1 AND ",
					 plan->side);
	append_side_match(&sql, plan);
	appendStringInfoString(&sql, " AND CASE");
	append_sequence_order(&sql, plan, SIDE);
	appendStringInfoString(&sql, " ELSE true END");
	return sql.data;
}

/*
 * lh_merge_sql_bury keeps a tombstone of each key that the work rows delete,
 * unless the target's row is at least as new.
 */
char *
lh_merge_sql_bury(const LhMergePlan *plan)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s AS s (", plan->side);
	append_side_columns(&sql, plan);
	appendStringInfoString(&sql, ") SELECT ");
	append_side_values(&sql, plan);
	appendStringInfo(&sql, " FROM " LH_DELTA_NAME " w WHERE w.d1"
					 " AND NOT EXISTS (SELECT 1 FROM %s t WHERE ", plan->target);
	lh_merge_sql_key_match(&sql, plan);
	appendStringInfoString(&sql, " AND NOT CASE");
	append_sequence_order(&sql, plan, TARGET);
	appendStringInfoString(&sql, " ELSE false END)");
	append_side_conflict(&sql, plan);
	return sql.data;
}

/*
 * lh_merge_sql_remember keeps the sequence of every key of the work rows; used
 * after the target was merged, when it does not hold the sequence itself.
 */
char *
lh_merge_sql_remember(const LhMergePlan *plan)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s AS s (", plan->side);
	append_side_columns(&sql, plan);
	appendStringInfoString(&sql, ") SELECT ");
	append_side_values(&sql, plan);
	appendStringInfoString(&sql, " FROM " LH_DELTA_NAME " w");
	append_side_conflict(&sql, plan);
	return sql.data;
}

/*
 * append_source writes what is merged: the work rows without those that the
 * side table proves stale.  t0 marks rows that tie with the row that is there.
 */
static void
append_source(StringInfo sql, const LhMergePlan *plan, bool read_side)
{
	if (!read_side)
	{
		appendStringInfoString(sql, LH_DELTA_NAME " w");
		return;
	}
	if (plan->sequence_stored)
	{
		appendStringInfo(sql, "(SELECT w.* FROM " LH_DELTA_NAME " w WHERE w.d1"
						 " OR NOT EXISTS (SELECT 1 FROM %s s WHERE ", plan->side);
		append_side_match(sql, plan);
		appendStringInfoString(sql, ")) w");
		return;
	}
	appendStringInfoString(sql, "(SELECT w.*, s.live AND NOT (CASE");
	append_sequence_order(sql, plan, SIDE);
	appendStringInfo(sql, " ELSE false END) AS t0 FROM " LH_DELTA_NAME " w LEFT JOIN %s s ON ",
					 plan->side);
	append_side_match(sql, plan);
	appendStringInfoString(sql, " WHERE s.live IS NULL OR CASE");
	append_sequence_order(sql, plan, SIDE);
	appendStringInfoString(sql, " ELSE NOT w.d1 END) w");
}

/*
 * lh_merge_sql_scd1 applies the work rows to the target.  read_side tells that
 * the side table may hold something about their keys.
 */
char *
lh_merge_sql_scd1(const LhMergePlan *plan, bool deletes, bool read_side)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "MERGE INTO %s t USING ", plan->target);
	append_source(&sql, plan, read_side);
	appendStringInfoString(&sql, " ON ");
	lh_merge_sql_key_match(&sql, plan);
	if (deletes)
	{
		appendStringInfoString(&sql, " WHEN MATCHED AND w.d1");
		if (plan->sequence_stored)
		{
			appendStringInfoString(&sql, " AND CASE");
			append_sequence_order(&sql, plan, TARGET);
			appendStringInfoString(&sql, " ELSE false END");
		}
		appendStringInfoString(&sql, " THEN DELETE");
	}
	if (lh_merge_sql_has_assignments(plan))
	{
		appendStringInfoString(&sql, " WHEN MATCHED AND NOT w.d1 AND ");
		if (plan->sequence_stored)
		{
			appendStringInfoString(&sql, "CASE");
			append_sequence_order(&sql, plan, TARGET);
			append_row_order(&sql, plan);
			appendStringInfoString(&sql, " ELSE false END");
		}
		else
		{
			appendStringInfoChar(&sql, '(');
			lh_merge_sql_differs(&sql, plan);
			appendStringInfoChar(&sql, ')');
			if (read_side)
			{
				appendStringInfoString(&sql, " AND CASE WHEN w.t0 IS NOT TRUE THEN true");
				append_row_order(&sql, plan);
				appendStringInfoString(&sql, " ELSE false END");
			}
		}
		appendStringInfoString(&sql, " THEN UPDATE SET ");
		lh_merge_sql_assignments(&sql, plan, false);
	}
	appendStringInfoString(&sql, " WHEN NOT MATCHED AND NOT w.d1 THEN INSERT (");
	lh_merge_sql_columns(&sql, plan, NULL);
	appendStringInfoString(&sql, ") VALUES (");
	lh_merge_sql_columns(&sql, plan, "w");
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static void
append_side_match(StringInfo sql, const LhMergePlan *plan)
{
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(sql, "%ss.key_%d %s w.%s", i > 0 ? " AND " : "", i + 1,
						 plan->keys[i]->eq, plan->keys[i]->work);
}

/*
 * append_sequence_order writes WHEN clauses of a CASE: true when the work row is
 * newer than the other side, false when it is older, nothing when they tie.
 */
static void
append_sequence_order(StringInfo sql, const LhMergePlan *plan, OtherSide other)
{
	for (int i = 0; i < plan->nsequences; i++)
	{
		const LhMergeColumn *sequence = plan->sequences[i];
		char	   *a = other == SIDE_EXCLUDED ?
		psprintf("excluded.sequence_%d", i + 1) : psprintf("w.%s", sequence->work);
		char	   *b = other == TARGET ?
		psprintf("t.%s", sequence->name) : psprintf("s.sequence_%d", i + 1);

		append_order(sql, sequence, a, b, false);
	}
}

/*
 * append_row_order does the same for the value of all stored columns.
 */
static void
append_row_order(StringInfo sql, const LhMergePlan *plan)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const LhMergeColumn *column = &plan->columns[i];

		if (!column->key || !column->exact)
			append_order(sql, column, psprintf("w.%s", column->work),
						 psprintf("t.%s", column->name), !column->exact);
	}
}

/*
 * append_order compares one column: NULL is smaller than any value, and with
 * text_too the text form decides between what the type calls equal.
 */
static void
append_order(StringInfo sql, const LhMergeColumn *column, const char *a,
			 const char *b, bool text_too)
{
	if (column->lt != NULL)
		appendStringInfo(sql, " WHEN %s%s %s %s%s OR (%s IS NULL AND %s IS NOT NULL) THEN true"
						 " WHEN %s%s %s %s%s OR (%s IS NULL AND %s IS NOT NULL) THEN false",
						 a, column->collate, column->gt, b, column->collate, b, a,
						 a, column->collate, column->lt, b, column->collate, a, b);
	else
		appendStringInfo(sql, " WHEN %s IS NULL AND %s IS NOT NULL THEN true"
						 " WHEN %s IS NULL AND %s IS NOT NULL THEN false", b, a, a, b);
	if (text_too)
		appendStringInfo(sql, " WHEN pg_catalog.format('%%s', %s) COLLATE pg_catalog.\"C\""
						 " OPERATOR(pg_catalog.>) pg_catalog.format('%%s', %s) THEN true"
						 " WHEN pg_catalog.format('%%s', %s) COLLATE pg_catalog.\"C\""
						 " OPERATOR(pg_catalog.<) pg_catalog.format('%%s', %s) THEN false",
						 a, b, a, b);
}

static void
append_side_columns(StringInfo sql, const LhMergePlan *plan)
{
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(sql, "key_%d, ", i + 1);
	for (int i = 0; i < plan->nsequences; i++)
		appendStringInfo(sql, "sequence_%d, ", i + 1);
	appendStringInfoString(sql, "live");
}

static void
append_side_values(StringInfo sql, const LhMergePlan *plan)
{
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(sql, "w.%s, ", plan->keys[i]->work);
	for (int i = 0; i < plan->nsequences; i++)
		appendStringInfo(sql, "w.%s, ", plan->sequences[i]->work);
	appendStringInfoString(sql, "NOT w.d1");
}

/*
 * append_side_conflict lets the side table keep the greater of what it has and
 * what comes: by sequence, and at equal sequences the upsert.
 */
static void
append_side_conflict(StringInfo sql, const LhMergePlan *plan)
{
	appendStringInfoString(sql, " ON CONFLICT (");
	for (int i = 0; i < plan->nkeys; i++)
		appendStringInfo(sql, "%skey_%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(sql, ") DO UPDATE SET ");
	for (int i = 0; i < plan->nsequences; i++)
		appendStringInfo(sql, "sequence_%d = excluded.sequence_%d, ", i + 1, i + 1);
	appendStringInfoString(sql, "live = excluded.live WHERE CASE");
	append_sequence_order(sql, plan, SIDE_EXCLUDED);
	appendStringInfoString(sql, " ELSE excluded.live AND NOT s.live END");
}
