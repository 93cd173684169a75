/*
 * flow_ddl.h
 *	  What the files that create a flow share.
 */
#ifndef LH_FLOW_DDL_H
#define LH_FLOW_DDL_H

#include "delta/delta.h"
#include "flow/flow.h"

/* A flow as it is being created. */
typedef struct LhFlowDefinition
{
	LhFlow		flow;
	char	   *target_name;	/* as the user wrote it, or NULL */
	char	   *trigger;
	List	   *static_names;	/* char * */
	List	   *streaming_names;
	bool		replace;
	bool		keys_are_groups;	/* keys are all of the GROUP BY: unique */
	bool		made_target;
} LhFlowDefinition;

/* flow_sink.c */
extern void lh_flow_check_sink(LhFlowDefinition *definition);

/* flow_target.c */
extern void lh_flow_check_mode(LhFlowDefinition *definition, const LhStatement *statement);
extern void lh_flow_find_target(LhFlowDefinition *definition, const LhStatement *statement);
extern void lh_flow_check_cycle(const LhFlowDefinition *definition);
extern void lh_flow_check_stable(const LhFlow *flow, const LhStatement *statement);
extern void lh_flow_make_target(LhFlowDefinition *definition, const LhStatement *statement);
extern void lh_flow_check_merge(LhFlowDefinition *definition);
extern char *lh_flow_table_name(Oid relation);
extern void lh_flow_run_ddl(const char *sql);

#endif							/* LH_FLOW_DDL_H */
