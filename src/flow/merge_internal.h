/*
 * merge_internal.h
 *	  What the files of the merge share: a merge resolved against its target.
 *
 * A delta row is first turned into a work row: the columns that the target
 * gets, in the target's order and of exactly the target's types (c1, c2, ...),
 * then what decides between rows of one key but is not stored (l1: the delta's
 * _load_id; s1, s2, ...: sequence values; d1: whether the row is a delete).
 * Statements read work rows and therefore need neither casts nor the delta's
 * names.
 */
#ifndef LH_MERGE_INTERNAL_H
#define LH_MERGE_INTERNAL_H

#include "executor/executor.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

#include "flow/merge.h"

/* One column of the work rows. */
typedef struct LhMergeColumn
{
	char	   *label;			/* as the user knows it */
	char	   *name;			/* quoted, in the target; NULL if not stored */
	char	   *work;			/* in the work row: c1, s1, ... */
	AttrNumber	attnum;			/* in the work row */
	AttrNumber	target;			/* in the target, or InvalidAttrNumber */
	Oid			type;
	int32		typmod;
	Oid			collation;		/* as stored */
	bool		key;
	bool		exact;			/* equal values have one representation */
	char	   *eq;				/* "OPERATOR(schema.name)" of the default btree */
	char	   *lt;				/* class, NULL if the type has none */
	char	   *gt;
	Oid			eq_oid;
	Oid			lt_oid;
	Oid			gt_oid;
	const char *collate;		/* clause that makes the order independent of
								 * the database, or "" */
	Oid			order_collation;
	FmgrInfo	compare;		/* three-way comparison, if lt is not NULL */
	FmgrInfo	output;
} LhMergeColumn;

/* A merge, resolved and validated. */
typedef struct LhMergePlan
{
	const LhMerge *merge;
	char	   *target;			/* quoted, with schema */
	bool		partitioned;	/* or with inheritance children */
	bool		write_load;		/* _load_id is written */
	int			ncolumns;		/* stored columns, which come first */
	int			nwork;			/* all columns of the work row */
	LhMergeColumn *columns;		/* nwork of them */
	int			nkeys;
	LhMergeColumn **keys;		/* in the order of merge->keys */
	int			nsequences;
	LhMergeColumn **sequences;
	bool		sequence_stored;	/* all of them are columns of the target */
	LhMergeColumn *load;		/* l1 or NULL */
	LhMergeColumn *deleted;		/* d1 or NULL */
	char	   *side;			/* side table of an scd1 merge, quoted, or NULL */
	List	   *expressions;	/* of Expr *: a delta row to a work row */
	TupleDesc	work;
} LhMergePlan;

/* Rows under a name that statements can read. */
typedef struct LhMergeRows
{
	Tuplestorestate *store;
	TupleDesc	desc;
	int64		count;
	int64		deletes;		/* of them, winners that are deletes */
} LhMergeRows;

/* merge_check.c */
extern LhMergePlan *lh_merge_resolve(const LhMerge *merge, TupleDesc delta);

/* merge_rows.c */
typedef struct LhProjection LhProjection;

extern LhProjection *lh_projection_begin(List *expressions, TupleDesc from, TupleDesc to);
extern TupleTableSlot *lh_projection_next(LhProjection *projection, Tuplestorestate *rows);
extern TupleTableSlot *lh_projection_input(LhProjection *projection);
extern void lh_projection_end(LhProjection *projection);
extern LhMergeRows *lh_merge_winners(LhMergePlan *plan, Tuplestorestate *rows,
									 TupleDesc delta, LhMergeCounts *counts);

/* merge_sql.c: statements as text */
#define LH_DELTA_NAME "lakehouse_delta"
#define LH_TOUCHED_NAME "lakehouse_touched"

extern char *lh_merge_sql_append(const LhMergePlan *plan, TupleDesc delta);
extern char *lh_merge_sql_insert(const LhMergePlan *plan, bool skip_existing);
extern char *lh_merge_sql_upsert(const LhMergePlan *plan);
extern char *lh_merge_sql_delete_row(const LhMergePlan *plan);
extern char *lh_merge_sql_update_row(const LhMergePlan *plan);
extern char *lh_merge_sql_old_rows(const LhMergePlan *plan, bool touched, uint32 null_keys);

/* their pieces */
extern void lh_merge_sql_columns(StringInfo sql, const LhMergePlan *plan, const char *prefix);
extern void lh_merge_sql_assignments(StringInfo sql, const LhMergePlan *plan, bool keys);
extern bool lh_merge_sql_has_assignments(const LhMergePlan *plan);
extern void lh_merge_sql_key_match(StringInfo sql, const LhMergePlan *plan);
extern void lh_merge_sql_differs(StringInfo sql, const LhMergePlan *plan);

/* merge_scd1_sql.c */
extern char *lh_merge_sql_revive(const LhMergePlan *plan);
extern char *lh_merge_sql_bury(const LhMergePlan *plan);
extern char *lh_merge_sql_remember(const LhMergePlan *plan);
extern char *lh_merge_sql_scd1(const LhMergePlan *plan, bool deletes, bool read_side);

/* merge_tombstones.c */
extern char *lh_merge_side_name(Oid side);
extern bool lh_merge_side_empty(Oid side);

/* merge.c */
extern void lh_merge_write(const char *sql, const LhMergeRows *rows, LhMergeCounts *counts);
extern void lh_merge_read(const char *sql, const LhMergeRows *rows, DestReceiver *receiver);

/* merge_diff.c */
extern void lh_merge_diff(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
						  Tuplestorestate *touched, TupleDesc touched_desc,
						  LhMergeCounts *counts);

#endif							/* LH_MERGE_INTERNAL_H */
