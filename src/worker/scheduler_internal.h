/*
 * scheduler_internal.h
 *	  One pass of the scheduler of a database, shared by its parts.
 */
#ifndef LH_SCHEDULER_INTERNAL_H
#define LH_SCHEDULER_INTERNAL_H

#include "utils/timestamp.h"

#include "worker/worker.h"

/* One pass. */
typedef struct LhSchedulerPass
{
	LhSlot	   *slots;			/* as they were when the pass began */
	int			nslots;
	int			workers;		/* of this database, those started now included */
	int			waiting[LH_WORKER_TASK + 1];	/* by kind: not started for lack of a place */
} LhSchedulerPass;

/*
 * lh_scheduler_start starts a worker if fewer than "places" are there and its
 * object is not in back-off; false if it has to wait.
 */
extern bool lh_scheduler_start(LhSchedulerPass *pass, const LhWorkerConfig *config, int places);

/* lh_scheduler_login_obstacle tells why a worker cannot log in as the role, or NULL. */
extern char *lh_scheduler_login_obstacle(Oid role);

/* lh_scheduler_come_by makes the next pass come no later than a time. */
extern void lh_scheduler_come_by(TimestampTz when);

/* lh_scheduler_divide divides sources among their workers, in transactions of its own. */
extern void lh_scheduler_divide(const LhSchedulerPass *pass, const LhWorkerConfig *sources, int count);

/* lh_scheduler_serve_jobs brings runs of jobs forward, in transactions of its own. */
extern void lh_scheduler_serve_jobs(LhSchedulerPass *pass);

/*
 * lh_scheduler_attempt_crashed enters that a task's process ended before it did;
 * false if the task had ended already.
 */
extern bool lh_scheduler_attempt_crashed(int64 run_id, const char *task_key, int32 attempt);

#endif							/* LH_SCHEDULER_INTERNAL_H */
