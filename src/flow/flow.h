/*
 * flow.h
 *	  Flows: SQL that turns new rows of its inputs into rows of its target.
 */
#ifndef LH_FLOW_H
#define LH_FLOW_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "flow/merge.h"

/* One row of lakehouse.flow. */
typedef struct LhFlow
{
	int32		flow_id;
	char	   *name;
	Oid			owner;
	char	   *mode;
	char	   *query;
	char	   *path;			/* search_path */
	bool		continuous;		/* trigger says so, or it follows its inputs */
	char	   *paused;
	int			max_loads;
	LhMerge		merge;
} LhFlow;

typedef struct LhFlowCounts
{
	int			loads;			/* pending loads consumed */
	LhMergeCounts merge;
	const char *technique;
} LhFlowCounts;

extern LhFlow *lh_flow_find(const char *name);	/* raises 42704 */
extern LhFlow *lh_flow_get(int32 flow_id);

/*
 * lh_flow_run runs one bounded slice of what is pending, in the current
 * transaction, as the flow's owner, under the flow's lock; false when nothing
 * was pending.
 */
extern bool lh_flow_run(const LhFlow *flow, LhFlowCounts *counts);

/* ids of flows, inputs before those who read them; all, or those with pending
 * loads that should run in the background by themselves */
extern List *lh_flow_order(bool only_due);

extern void lh_flow_succeeded(int32 flow_id);
extern void lh_flow_failed(int32 flow_id, int sqlstate, const char *message);

#endif							/* LH_FLOW_H */
