/*
 * job.h
 *	  Jobs: a DAG of tasks with parameters, retries, time-outs and a history.
 *
 * A run is recorded in lakehouse.job_run, each attempt of each of its tasks in
 * lakehouse.task_run.  Who executes attempts is not decided here: run_job does
 * it in the caller's session, src/worker in background workers.  Both use the
 * same state machine (job_run.c) and the same way to do a task's work (task.c).
 */
#ifndef LH_JOB_H
#define LH_JOB_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum LhTaskKind
{
	LH_TASK_SOURCE,				/* read everything present of one source */
	LH_TASK_FLOW,				/* consume everything pending of one flow */
	LH_TASK_RUN,				/* all sources, then all flows */
	LH_TASK_SQL					/* statements, may CALL procedures that commit */
} LhTaskKind;

typedef enum LhRunIf
{
	LH_RUN_IF_ALL_SUCCESS,
	LH_RUN_IF_AT_LEAST_ONE_SUCCESS,
	LH_RUN_IF_NONE_FAILED,
	LH_RUN_IF_ALL_DONE,
	LH_RUN_IF_AT_LEAST_ONE_FAILED,
	LH_RUN_IF_ALL_FAILED
} LhRunIf;

/* One task of a definition. */
typedef struct LhTask
{
	char	   *key;
	int		   *depends_on;		/* positions in the task array */
	int			ndepends;
	LhRunIf		run_if;
	LhTaskKind	kind;
	char	   *object;			/* name of the source or flow, or the SQL */
	Jsonb	   *parameters;
	int			max_retries;	/* -1 = for ever */
	int64		retry_interval; /* ms from the start of the failed attempt */
	bool		retry_on_timeout;
	int			timeout;		/* seconds for one attempt, 0 = none */
} LhTask;

/* A definition, parsed and checked. */
typedef struct LhJobDefinition
{
	Jsonb	   *parameters;
	LhTask	   *tasks;
	int			ntasks;
	int		   *order;			/* positions, a task after what it depends on */
	int			max_concurrent_runs;
	bool		queue;			/* runs above that number wait */
} LhJobDefinition;

/* One row of lakehouse.job. */
typedef struct LhJob
{
	int32		job_id;
	char	   *name;
	Oid			owner;
	Jsonb	   *definition;
	char	   *path;			/* search_path of its SQL */
	char	   *schedule;		/* cron expression, or NULL */
	int64		cron_job_id;	/* 0 = none */
	char	   *paused;			/* reason, or NULL */
} LhJob;

typedef enum LhTaskState
{
	LH_TASK_BLOCKED,			/* waits for tasks it depends on */
	LH_TASK_QUEUED,				/* waits for someone to run it */
	LH_TASK_RUNNING,
	LH_TASK_WAITING_FOR_RETRY,	/* waits for not_before */
	/* the following are ends of an attempt */
	LH_TASK_SUCCEEDED,
	LH_TASK_FAILED,
	LH_TASK_TIMED_OUT,
	LH_TASK_CANCELED,
	LH_TASK_CRASHED,			/* started, and no process left to end it */
	LH_TASK_EXCLUDED,			/* run_if not met */
	LH_TASK_UPSTREAM_FAILED
} LhTaskState;

/* The latest attempt of one task in a run. */
typedef struct LhAttempt
{
	int			attempt;		/* from 0; -1 = no row yet */
	LhTaskState state;
	TimestampTz started;		/* 0 = not yet */
	TimestampTz not_before;		/* 0 = at once */
	char	   *error;
} LhAttempt;

/* A run with the definition it was started with. */
typedef struct LhJobRun
{
	int64		run_id;
	int32		job_id;
	char	   *job_name;
	Oid			owner;
	char	   *path;
	char	   *state;			/* of lakehouse.job_run */
	Jsonb	   *parameters;		/* given to run_job */
	LhJobDefinition *definition;
	LhAttempt  *attempts;		/* one for each task of the definition */
} LhJobRun;

/* Why an attempt failed although what it did is to stay. */
typedef struct LhTaskFailure
{
	int			sqlstate;
	char	   *message;		/* NULL = it did not fail */
} LhTaskFailure;

/* job_definition.c */
extern LhJobDefinition *lh_job_definition_parse(const char *job, Jsonb *definition);
extern void lh_job_definition_check(const char *job, const LhJobDefinition *definition);
extern void lh_job_parameters_check(const char *job, const LhJobDefinition *definition,
									Jsonb *parameters);

/* job_ddl.c */
extern LhJob *lh_job_find(const char *name);

/* job_run.c: to be called in a transaction, outside of a catalog bracket */
extern bool lh_job_changed;		/* this transaction queued or ended something */
extern bool lh_job_has_workers; /* set by src/worker when it may start some */
extern LhJobRun *lh_job_run_load(int64 run_id, bool skip_locked);
extern bool lh_job_run_begin(int64 run_id);
extern bool lh_job_run_advance(LhJobRun *run);
extern List *lh_job_run_open(void);
extern bool lh_job_attempt_start(int64 run_id, const char *task_key, int attempt);
extern bool lh_job_attempt_end(int64 run_id, const char *task_key, int attempt,
							   LhTaskState state, Jsonb *result,
							   int sqlstate, const char *error);
extern void lh_job_run_fail(int64 run_id, const char *error);

/* task.c */
extern Jsonb *lh_task_parameters(const LhJobRun *run, const LhTask *task);
extern Jsonb *lh_task_execute(const LhJobRun *run, const LhTask *task, bool nonatomic,
							  LhTaskFailure *failure);
extern void lh_task_timer_start(int seconds);
extern bool lh_task_timer_stop(void);

/* cron.c */
extern int64 lh_cron_schedule(const LhJob *job, const char *schedule);
extern void lh_cron_unschedule(const LhJob *job);

#endif							/* LH_JOB_H */
