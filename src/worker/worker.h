/*
 * worker.h
 *	  Background workers: launcher, one scheduler for each database, workers.
 *
 * Only lh_worker_init is for others; the rest is shared by the files of this
 * folder.
 */
#ifndef LH_WORKER_H
#define LH_WORKER_H

#include "datatype/timestamp.h"
#include "storage/latch.h"

#include "bronze/ingest.h"

typedef enum LhWorkerKind
{
	LH_WORKER_SCHEDULER,		/* of one database, started by the launcher */
	LH_WORKER_SOURCE,			/* reads one continuous source */
	LH_WORKER_FLOW,				/* runs the due flows of one owner */
	LH_WORKER_OUTBOX,			/* sends the messages of one role to one server */
	LH_WORKER_CLEAN,			/* cleans up after the sources of one owner */
	LH_WORKER_TASK				/* executes one attempt of a task */
} LhWorkerKind;

/* What a worker is started for. */
typedef struct LhWorkerConfig
{
	LhWorkerKind kind;
	Oid			database;
	Oid			role;			/* to log in as; InvalidOid = bootstrap superuser */
	int64		object;			/* source_id, owner of flows or files, lh_outbox_object, run_id */
	int64		version;		/* source: xmin of its row; other: 0 */
	int64		connection;		/* source: hash of its server, who may use it and
								 * with which user mapping; other: 0 */
	int			attempt;		/* task only */
	int			worker;			/* source only: number of the worker, from 0 */
	int			workers;		/* source only: how many read it together */
	bool		partitions;		/* source only: they divide it by partitions */
	char		name[128];		/* for people: source, owner, job; outbox: server */
	char		task_key[104];	/* task only */
} LhWorkerConfig;

typedef enum LhSlotState
{
	LH_SLOT_FREE,
	LH_SLOT_STARTING,			/* registered, no process yet */
	LH_SLOT_ALIVE,
	LH_SLOT_DONE				/* process gone; who started it looks at the outcome */
} LhSlotState;

typedef enum LhOutcome
{
	LH_OUTCOME_DIED,			/* until the worker says otherwise */
	LH_OUTCOME_FINISHED,
	LH_OUTCOME_NO_EXTENSION
} LhOutcome;

/* One worker in shared memory; guarded by the lock of LhShared. */
typedef struct LhSlot
{
	LhSlotState state;
	uint32		generation;		/* goes up each time the slot is given away */
	LhWorkerConfig config;
	pid_t		pid;			/* 0 until the process is there */
	Latch	   *latch;			/* of that process, NULL = none */
	bool		stop;			/* asked to leave at the next boundary */
	bool		working;		/* else idle; written by its worker alone */
	bool		ready;			/* source: its first batch went well */
	uint32		division;		/* source: goes up when its work was divided anew */
	LhOutcome	outcome;
	TimestampTz since;			/* of the current state */
	char		note[128];		/* what it waits for; written by its worker alone */
} LhSlot;

/* shmem.c */
extern void lh_shmem_init(void);
extern bool lh_shmem_available(void);
extern int	lh_slot_reserve(const LhWorkerConfig *config, uint32 *generation);
extern bool lh_slot_attach(int index, uint32 generation, LhWorkerConfig *config);
extern void lh_slot_free(int index, uint32 generation);
extern void lh_slot_abandon(int index, uint32 generation);
extern bool lh_slot_stop_requested(void);
extern void lh_slot_request_stop(int index, uint32 generation, bool terminate);
extern void lh_slot_set_working(bool working);
extern void lh_slot_set_ready(void);
extern void lh_slot_set_note(const char *note);
extern void lh_slot_set_outcome(LhOutcome outcome);
extern LhSlot *lh_slots_copy(int *count);
extern void lh_wake_launcher(void);
extern void lh_wake_workers(Oid database, bool jobs_only);
extern void lh_wake_source(Oid database, int64 source_id);
extern void lh_wake_outbox(Oid database, int64 object);
extern bool lh_source_busy(const LhWorkerConfig *config);
extern void lh_source_share(const LhWorkerConfig *config, LhShare *share);
extern void lh_source_divided(Oid database, int64 source_id);
extern void lh_launcher_attach(void);
extern void lh_request_probe(Oid database);
extern bool lh_take_probe_requests(Oid *databases, int size, int *count);
extern void lh_hold_database(Oid database);
extern bool lh_database_is_held(Oid database);
extern void lh_release_holds(void);

/* worker.c */
extern bool lh_worker_start(const LhWorkerConfig *config);
extern void lh_worker_check_started(const LhSlot *slot, int index);
extern bool lh_worker_wait(long timeout_ms, const char *event);
extern void lh_worker_interrupts(void);
extern void lh_worker_exit(LhOutcome outcome) pg_attribute_noreturn();
extern const char *lh_worker_kind_name(LhWorkerKind kind);
extern void lh_worker_begin(const char *activity);
extern void lh_worker_commit(void);
extern ErrorData *lh_worker_caught(MemoryContext context);

/* one main function for each kind; they return when there is nothing to do */
extern void lh_scheduler_run(const LhWorkerConfig *config);
extern void lh_source_run(const LhWorkerConfig *config);
extern void lh_flow_worker_run(const LhWorkerConfig *config);
extern void lh_outbox_worker_run(const LhWorkerConfig *config);
extern void lh_clean_worker_run(const LhWorkerConfig *config);
extern void lh_task_run(const LhWorkerConfig *config);

/* what an outbox worker is told apart by */
#define lh_outbox_object(server, owner) \
	((int64) (((uint64) (server) << 32) | (uint32) (owner)))

/* utility.c */
extern void lh_utility_init(void);

/* launcher.c */
extern void lh_worker_init(void);

#endif							/* LH_WORKER_H */
