/*
 * merge.h
 *	  From a set of new rows to changes of a target table.
 *
 * The rows come as a tuplestore; each merge is one or two SQL statements built
 * by merge_sql.c that read it under the name "lakehouse_delta" (an ephemeral
 * named relation, as a trigger's transition table) and write the target with
 * ordinary DML, so that constraints, triggers, row security and distributed
 * tables behave as they do for the user's own statements.
 *
 * Invariant: inside one call the order of the rows never matters.  The result of
 * scd1 depends on nothing but the set of rows ever merged: not on their division
 * into calls, the order of the calls, or repetition.  insert_only keeps what the
 * first call brought and upsert what the last one brought, so there the order of
 * calls is part of the input.
 */
#ifndef LH_MERGE_H
#define LH_MERGE_H

#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "utils/tuplestore.h"

typedef enum LhMergeMode
{
	LH_MERGE_APPEND,			/* insert all rows */
	LH_MERGE_INSERT_ONLY,		/* by keys; the first call wins, inside one call
								 * the smaller _load_id of the delta, then the
								 * smaller row value, NULL last */
	LH_MERGE_UPSERT,			/* by keys; the later run wins, ties inside one
								 * set by greater row value */
	LH_MERGE_SCD1,				/* by keys; the greatest sequence wins */
	LH_MERGE_REPLACE,			/* by keys of "touched": rows with those keys
								 * become exactly the given rows */
	LH_MERGE_COMPLETE			/* the target becomes exactly the given rows */
} LhMergeMode;

typedef struct LhMerge
{
	LhMergeMode mode;
	Oid			target;
	Oid			tombstones;		/* scd1: side table of deleted keys, or Invalid */
	List	   *keys;			/* of char *: target columns */
	List	   *sequence_by;	/* of char *: columns of the delta */
	char	   *delete_when;	/* SQL over the delta's columns, or NULL */
	List	   *except_columns; /* of char *: delta columns that the target does
								 * not get */
	int64		load_id;		/* _load_id of what is written; 0: target is not managed */
	bool		managed;		/* the target carries _load_id, if load_id is
								 * not known yet (lh_merge_check) */
	int32		flow_id;		/* for rejects (NULL keys, NULL sequences), 0 =
								 * none; without load_id they raise 23502 */
} LhMerge;

typedef struct LhMergeCounts
{
	int64		rows_in;
	int64		inserted;
	int64		updated;
	int64		deleted;
	int64		rejected;
} LhMergeCounts;

/*
 * lh_merge_check raises what can be known before a row is there: keys and
 * sequence columns exist, types fit and compare, the target has (or gets) a
 * unique index on the keys, delete_when parses.  "delta" describes the rows
 * that will come.  Runs as the flow's owner.
 */
extern void lh_merge_check(const LhMerge *merge, TupleDesc delta);

/*
 * scd1: returns the side table of the target's deleted keys, made if there is
 * none yet.  It belongs to the target, not to the flow: all that merge into the
 * target share it, and dropping the target drops it.  Raises 22023 if the target
 * was merged by other keys or another sequence before.  flow_id only names who
 * asks; it does not separate flows.
 */
extern Oid	lh_merge_create_tombstones(const LhMerge *merge, TupleDesc delta, int32 flow_id);

/*
 * lh_merge_apply writes the rows into the target, as the current user, in the
 * current transaction.  "touched" (mode REPLACE only) holds the distinct keys
 * whose rows are to be replaced, columns as in keys.
 */
extern void lh_merge_apply(const LhMerge *merge, Tuplestorestate *rows, TupleDesc delta,
						   Tuplestorestate *touched, TupleDesc touched_desc,
						   LhMergeCounts *counts);

#endif							/* LH_MERGE_H */
