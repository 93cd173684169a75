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
	List	   *streaming;		/* Oid of inputs of which new loads are read */
	List	   *statics;		/* Oid of inputs that are read whole */
	char	   *server;			/* kafka, upsert_kafka: where its messages go */
	char	   *topic;
	LhMerge		merge;			/* load_id is set by each run */
} LhFlow;

typedef struct LhFlowCounts
{
	int			loads;			/* pending loads consumed */
	LhMergeCounts merge;
	const char *technique;		/* see lh_flow_technique */
} LhFlowCounts;

extern LhFlow *lh_flow_find(const char *name);	/* raises 42704 */
extern LhFlow *lh_flow_get(int32 flow_id);	/* NULL if there is none */

/* the mode's way to the result: "direct", "recompute" or "complete" */
extern const char *lh_flow_technique(const char *mode);
extern bool lh_flow_recomputes(const char *mode);
extern bool lh_flow_merge_mode(const char *mode, LhMergeMode *merge);

/*
 * lh_flow_run runs one bounded slice of what is pending, in the current
 * transaction, as the flow's owner, under the flow's lock; false when nothing
 * was pending.
 */
extern bool lh_flow_run(const LhFlow *flow, LhFlowCounts *counts);

/* runs slices until what was pending at the start is consumed */
extern void lh_flow_drain(const LhFlow *flow, LhFlowCounts *total);

/* ids of flows, inputs before those who read them; all, or those with pending
 * loads that should run in the background by themselves */
extern List *lh_flow_order(bool only_due);

/* remembers success or failure in lakehouse.flow_state (with back-off) */
extern void lh_flow_succeeded(int32 flow_id);
extern void lh_flow_failed(int32 flow_id, int sqlstate, const char *message);

/* flow_aggregate.c */
struct LhStatement;
struct LhSlice;
extern void lh_flow_check_recompute(const LhFlow *flow, const struct LhStatement *statement);
extern List *lh_flow_default_keys(const LhFlow *flow, const struct LhStatement *statement);
extern void lh_flow_recompute(const LhFlow *flow, const struct LhStatement *statement,
							  const struct LhSlice *slice, LhMergeCounts *counts);

/* flow_sink.c: does the mode send its rows to a topic? */
extern bool lh_flow_is_sink(const char *mode);
extern void lh_flow_send(const LhFlow *flow, const struct LhStatement *statement,
						 Tuplestorestate *rows, Tuplestorestate *touched,
						 TupleDesc touched_desc, LhMergeCounts *counts);

#endif							/* LH_FLOW_H */
