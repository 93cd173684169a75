/*
 * delta.h
 *	  What is new for a flow, and its query run on just that.
 */
#ifndef LH_DELTA_H
#define LH_DELTA_H

#include "nodes/parsenodes.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

/* How a table is read by a flow. */
typedef struct LhInput
{
	Oid			relation;
	bool		streaming;
	int			occurrences;	/* how often the query names it */
} LhInput;

/* A flow's statement, analysed and rewritten (views and CTEs expanded). */
typedef struct LhStatement LhStatement;

/* The loads that one run consumes, for each streaming input. */
typedef struct LhSlice LhSlice;

extern LhStatement *lh_statement_analyze(const char *sql, List *streaming, const char *noun_and_name);
extern List *lh_statement_inputs(const LhStatement *statement);

#endif							/* LH_DELTA_H */
