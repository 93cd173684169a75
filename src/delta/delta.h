/*
 * delta.h
 *	  What is new for a flow, and its query run on just that.
 *
 * statement.c analyses a flow's statement and finds the occurrences of its
 * streaming inputs; slice.c reads which loads are to be consumed; rewrite.c
 * makes the variants of the statement that see just those; capture.c keeps what
 * changed rows looked like before.
 */
#ifndef LH_DELTA_H
#define LH_DELTA_H

#include "access/tupdesc.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/queryenvironment.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

/* One arm of a UNION ALL. */
typedef struct LhArm
{
	Query	   *query;			/* the query with the set operations */
	Index		rtindex;		/* the arm's range-table entry there */
} LhArm;

/* One place in a statement that reads a streaming input. */
typedef struct LhOccurrence
{
	Query	   *query;			/* the level it stands on */
	Index		rtindex;		/* its range-table entry there */
	Oid			relation;
	const char *direct_obstacle;	/* why a variant on new rows alone would be
									 * wrong, or NULL */
	const char *grouped;		/* what groups its rows with each other, or NULL */
	const char *recompute_obstacle; /* why touched groups could not be found, or NULL */
	List	   *outer_joins;	/* JoinExpr nodes whose nullable side it is on */
	List	   *arms;			/* LhArm *, each UNION ALL that it stands in */
} LhOccurrence;

/* How an occurrence is to be read. */
typedef enum LhRead
{
	LH_READ_ALL,
	LH_READ_NEW,				/* rows of the slice's loads */
	LH_READ_OLD,				/* rows of loads consumed before */
	LH_READ_SEEN,				/* both: all but rows of loads still waiting */
	LH_READ_CHANGED,			/* rows of the slice's loads, and what those
								 * loads replaced */
	LH_READ_EVER				/* all rows, and what waiting loads replaced */
} LhRead;

/* A flow's statement, analysed and rewritten (views and CTEs expanded). */
typedef struct LhStatement
{
	const char *sql;
	const char *flow;			/* name, for messages */
	Query	   *query;
	bool		is_select;		/* the text is a query: "query" selects its
								 * columns from it, or inserts them */
	List	   *columns;		/* is_select: char *, without _load_id */
	bool		gives_load;		/* is_select: the query has one column _load_id */
	Oid			target;			/* table that the statement writes, or Invalid */
	List	   *relations;		/* Oid, each table that is read, once */
	List	   *streaming;		/* Oid */
	List	   *occurrences;	/* LhOccurrence *, in the order of "query" */
} LhStatement;

/* The loads of one input that a run consumes, and those it leaves waiting. */
typedef struct LhSliceInput
{
	Oid			relation;
	ArrayType  *loads;			/* bigint[], ascending */
	ArrayType  *waiting;		/* bigint[], ascending */
	double		rows;			/* in the slice's loads; -1 = not known */
} LhSliceInput;

/* The loads that one run consumes, for each streaming input. */
typedef struct LhSlice
{
	int			count;			/* loads in all */
	List	   *inputs;			/* LhSliceInput * */
} LhSlice;

/* What is made of a query that is analysed; columns go by name. */
typedef struct LhInto
{
	Oid			target;			/* INSERT into this table, or Invalid: SELECT */
	int64		load_id;		/* INSERT: the load of the rows */
	List	   *except;			/* INSERT: char *, columns that are not stored */
	bool		keep_load;		/* SELECT: give _load_id if the query has it */
} LhInto;

/* statement.c */
extern LhStatement *lh_statement_analyze(const char *sql, const char *flow, const LhInto *into);
extern void lh_statement_stream(LhStatement *statement, List *streaming);
extern List *lh_statement_occurrences(const LhStatement *statement, Query *query);
extern TupleDesc lh_statement_tupdesc(const LhStatement *statement);
extern void lh_statement_check_load(const LhStatement *statement);
extern void lh_statement_check_covered(const LhStatement *statement, const char *mode);
extern void lh_statement_check_direct(const LhStatement *statement, const char *mode);

/* slice.c */
extern LhSlice *lh_slice_read(int32 flow_id, int max_loads);
extern void lh_slice_consume(int32 flow_id, const LhSlice *slice);
extern LhSliceInput *lh_slice_input(const LhSlice *slice, Oid relation);

/* rewrite.c */
extern Query *lh_rewrite_variant(const LhStatement *statement, const LhSlice *slice, int number);
extern void lh_rewrite_other_arms(const LhOccurrence *occurrence);
extern void lh_rewrite_occurrence(const LhOccurrence *occurrence, const LhSlice *slice, LhRead how);

/* execute.c */
typedef struct LhExecuted
{
	int64		inserted;
	int64		updated;
	int64		deleted;
} LhExecuted;

extern uint64 lh_execute_query(Query *query, const char *sql, DestReceiver *dest,
							   QueryEnvironment *environment, LhExecuted *executed);
extern uint64 lh_execute_plan(PlannedStmt *plan, const char *sql, DestReceiver *dest,
							  QueryEnvironment *environment, LhExecuted *executed);
extern void lh_execute_push_error_context(ErrorContextCallback *callback, const char *flow,
										  const char *sql);

extern void lh_execute_check(Query *query, const char *sql);

/* capture.c */
extern void lh_capture_stamp(Oid relation);
extern void lh_capture_old_images(Oid relation);
extern Oid	lh_capture_images_of(Oid relation);
extern void lh_capture_prune(Oid relation);
extern void lh_capture_release(Oid relation);

#endif							/* LH_DELTA_H */
