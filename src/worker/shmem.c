/*
 * shmem.c
 *	  What the processes of lakehouse know of each other.
 *
 * A slot stands for one worker from the moment it is asked for until its
 * starter has looked at how it ended.  Invariant: a worker's slot is ALIVE
 * before it does anything and becomes DONE only after the process has left the
 * array of sessions (the exit callback is registered before the one that leaves
 * it).  So "no slot" proves that a worker is gone and that what it committed is
 * visible, and whoever waits for the slots of a database may drop it.
 *
 * A hold keeps workers out of a database while somebody drops, renames or
 * copies it, or drops the extension in it.  It belongs to a transaction and
 * ends with it, whichever way.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "worker/worker.h"

#define MAX_PROBES 64
#define MAX_HOLDS 64

/* how long a hold waits for workers to leave */
#define HOLD_TIMEOUT_MS 10000

/* a worker of a source that works for so long keeps others waiting */
#define BUSY_MS 500

typedef struct Hold
{
	Oid			database;		/* InvalidOid = free */
	pid_t		pid;			/* whose transaction holds it */
} Hold;

typedef struct LhShared
{
	LWLock	   *lock;
	ConditionVariable changed;	/* a slot became DONE */
	Latch	   *launcher;		/* NULL = not there */
	bool		probe_all;		/* probes[] was too short */
	int			nprobes;
	Oid			probes[MAX_PROBES]; /* databases to look at without delay */
	Hold		holds[MAX_HOLDS];
	int			nslots;
	LhSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} LhShared;

static LhShared *shared = NULL;

/* this process's slot, or -1 */
static int	my_slot = -1;

/* whether this transaction holds a database */
static bool holding = false;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void leave_slot(int code, Datum arg);
static int	stop_workers_of(Oid database);

/* two for each process there can be: those that ended wait for their starter */
static int
slot_count(void)
{
	return 2 * max_worker_processes;
}

static Size
shared_size(void)
{
	return offsetof(LhShared, slots) + mul_size(sizeof(LhSlot), slot_count());
}

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("lakehouse", 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("lakehouse", shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &GetNamedLWLockTranche("lakehouse")->lock;
		ConditionVariableInit(&shared->changed);
		shared->nslots = slot_count();
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * lh_shmem_init asks for shared memory; to be called while
 * shared_preload_libraries are loaded.
 */
void
lh_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

bool
lh_shmem_available(void)
{
	return shared != NULL;
}

/* ------------------------------------------------------------------- slots */

/*
 * lh_slot_reserve gives a slot to a worker that is about to be registered; -1
 * if there is none, or the database is held.
 */
int
lh_slot_reserve(const LhWorkerConfig *config, uint32 *generation)
{
	int			result = -1;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_HOLDS; i++)
		if (shared->holds[i].database == config->database)
		{
			LWLockRelease(shared->lock);
			return -1;
		}
	for (int i = 0; i < shared->nslots && result < 0; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state != LH_SLOT_FREE)
			continue;
		*generation = slot->generation + 1;
		memset(slot, 0, sizeof(LhSlot));
		slot->generation = *generation;
		slot->state = LH_SLOT_STARTING;
		slot->config = *config;
		slot->since = GetCurrentTimestamp();
		result = i;
	}
	LWLockRelease(shared->lock);
	return result;
}

/*
 * lh_slot_attach makes the slot this process's; false if it was taken back.  To
 * be called before the process connects to a database.
 */
bool
lh_slot_attach(int index, uint32 generation, LhWorkerConfig *config)
{
	LhSlot	   *slot = &shared->slots[index];
	bool		mine;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	mine = slot->state == LH_SLOT_STARTING && slot->generation == generation;
	if (mine)
	{
		slot->state = LH_SLOT_ALIVE;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->since = GetCurrentTimestamp();
		*config = slot->config;
	}
	LWLockRelease(shared->lock);
	if (mine)
	{
		my_slot = index;
		on_shmem_exit(leave_slot, (Datum) 0);
	}
	return mine;
}

/*
 * leave_slot hands the slot back at exit, and tells who may be waiting.
 */
static void
leave_slot(int code, Datum arg)
{
	LhSlot	   *slot = &shared->slots[my_slot];
	Latch	   *starter = NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot->state = LH_SLOT_DONE;
	slot->pid = 0;
	slot->latch = NULL;
	slot->since = GetCurrentTimestamp();
	if (slot->config.kind == LH_WORKER_SCHEDULER)
		starter = shared->launcher;
	else
		for (int i = 0; i < shared->nslots; i++)
			if (shared->slots[i].state == LH_SLOT_ALIVE &&
				shared->slots[i].config.kind == LH_WORKER_SCHEDULER &&
				shared->slots[i].config.database == slot->config.database)
				starter = shared->slots[i].latch;
	if (starter)
		SetLatch(starter);
	my_slot = -1;
	LWLockRelease(shared->lock);
	ConditionVariableBroadcast(&shared->changed);
}

/*
 * lh_slot_free gives back a slot whose worker has ended or never was.
 */
void
lh_slot_free(int index, uint32 generation)
{
	LhSlot	   *slot = &shared->slots[index];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (slot->generation == generation && slot->state != LH_SLOT_ALIVE)
		slot->state = LH_SLOT_FREE;
	LWLockRelease(shared->lock);
}

/*
 * lh_slot_abandon ends a slot whose process will not come any more.
 */
void
lh_slot_abandon(int index, uint32 generation)
{
	LhSlot	   *slot = &shared->slots[index];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (slot->generation == generation && slot->state == LH_SLOT_STARTING)
		slot->state = LH_SLOT_DONE;
	LWLockRelease(shared->lock);
}

/*
 * lh_slot_request_stop asks a worker to leave at its next boundary or, with
 * "terminate", at once.
 */
void
lh_slot_request_stop(int index, uint32 generation, bool terminate)
{
	LhSlot	   *slot = &shared->slots[index];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (slot->generation == generation)
	{
		slot->stop = true;
		if (slot->state == LH_SLOT_STARTING && terminate)
			slot->state = LH_SLOT_DONE;
		if (slot->state == LH_SLOT_ALIVE)
		{
			if (terminate)
				kill(slot->pid, SIGTERM);
			SetLatch(slot->latch);
		}
	}
	LWLockRelease(shared->lock);
}

bool
lh_slot_stop_requested(void)
{
	return my_slot >= 0 && shared->slots[my_slot].stop;
}

/*
 * lh_slot_set_working says whether this worker is at work or idle.
 */
void
lh_slot_set_working(bool working)
{
	if (my_slot < 0 || shared->slots[my_slot].working == working)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->slots[my_slot].working = working;
	shared->slots[my_slot].since = GetCurrentTimestamp();
	LWLockRelease(shared->lock);
}

void
lh_slot_set_ready(void)
{
	if (my_slot >= 0)
		shared->slots[my_slot].ready = true;
}

void
lh_slot_set_note(const char *note)
{
	if (my_slot < 0 || strcmp(shared->slots[my_slot].note, note) == 0)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	strlcpy(shared->slots[my_slot].note, note, sizeof(shared->slots[my_slot].note));
	LWLockRelease(shared->lock);
}

void
lh_slot_set_outcome(LhOutcome outcome)
{
	if (my_slot >= 0)
		shared->slots[my_slot].outcome = outcome;
}

/*
 * lh_slots_copy returns all slots as they are now, in the current context.
 */
LhSlot *
lh_slots_copy(int *count)
{
	LhSlot	   *copy;

	*count = shared ? shared->nslots : 0;
	copy = palloc(sizeof(LhSlot) * Max(*count, 1));
	if (*count > 0)
	{
		LWLockAcquire(shared->lock, LW_SHARED);
		memcpy(copy, shared->slots, sizeof(LhSlot) * *count);
		LWLockRelease(shared->lock);
	}
	return copy;
}

/* ----------------------------------------------------------------- wake-ups */

void
lh_launcher_attach(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher = MyLatch;
	LWLockRelease(shared->lock);
}

void
lh_wake_launcher(void)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	if (shared->launcher)
		SetLatch(shared->launcher);
	LWLockRelease(shared->lock);
}

/*
 * lh_wake_workers wakes who may have something to do after a commit in the
 * database: the scheduler for jobs; for loads the flow workers, who ask the
 * scheduler for more if need be, or the scheduler if there are none.
 */
void
lh_wake_workers(Oid database, bool jobs_only)
{
	Latch	   *scheduler = NULL;
	bool		found = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->nslots; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state != LH_SLOT_ALIVE || slot->config.database != database)
			continue;
		if (slot->config.kind == LH_WORKER_SCHEDULER)
			scheduler = slot->latch;
		else if (slot->config.kind == LH_WORKER_FLOW && !jobs_only)
		{
			SetLatch(slot->latch);
			found = true;
		}
	}
	if (scheduler && !found)
		SetLatch(scheduler);
	LWLockRelease(shared->lock);
}

/*
 * lh_wake_source wakes the other workers of a source that this process reads.
 */
void
lh_wake_source(Oid database, int64 source_id)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->nslots; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state == LH_SLOT_ALIVE && i != my_slot &&
			slot->config.database == database &&
			slot->config.kind == LH_WORKER_SOURCE && slot->config.object == source_id)
			SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

/*
 * lh_wake_outbox wakes the worker that sends for a pair of server and role, or
 * the scheduler if there is none.
 */
void
lh_wake_outbox(Oid database, int64 object)
{
	Latch	   *latch = NULL;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->nslots; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state != LH_SLOT_ALIVE || slot->config.database != database)
			continue;
		if (slot->config.kind == LH_WORKER_OUTBOX && slot->config.object == object)
		{
			latch = slot->latch;
			break;
		}
		if (slot->config.kind == LH_WORKER_SCHEDULER)
			latch = slot->latch;
	}
	if (latch != NULL)
		SetLatch(latch);
	LWLockRelease(shared->lock);
}

/*
 * lh_source_share tells a worker who reads its source together with it: those
 * that are alive and were started for the same definition.
 */
void
lh_source_share(const LhWorkerConfig *config, LhShare *share)
{
	share->worker = config->worker;
	share->alive = 0;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->nslots; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state != LH_SLOT_ALIVE || slot->config.kind != LH_WORKER_SOURCE ||
			slot->config.database != config->database || slot->config.object != config->object ||
			slot->config.version != config->version || (slot->stop && i != my_slot))
			continue;
		share->alive |= UINT64CONST(1) << slot->config.worker;
		if (i == my_slot)
			share->division = slot->division;
	}
	LWLockRelease(shared->lock);
}

/*
 * lh_source_divided tells the workers of a source that its work was divided
 * anew; to be called after the commit that did so.
 */
void
lh_source_divided(Oid database, int64 source_id)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state != LH_SLOT_ALIVE || slot->config.kind != LH_WORKER_SOURCE ||
			slot->config.database != database || slot->config.object != source_id)
			continue;
		slot->division++;
		SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

/*
 * lh_source_busy tells whether all workers of the source with a smaller number
 * are at work, and have been for some time.
 */
bool
lh_source_busy(const LhWorkerConfig *config)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		busy = true;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->nslots && busy; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->state == LH_SLOT_ALIVE && slot->config.kind == LH_WORKER_SOURCE &&
			slot->config.database == config->database && slot->config.object == config->object &&
			slot->config.worker < config->worker)
			busy = slot->working && TimestampDifferenceExceeds(slot->since, now, BUSY_MS);
	}
	LWLockRelease(shared->lock);
	return busy;
}

/*
 * lh_request_probe lets the launcher look at a database without delay.
 */
void
lh_request_probe(Oid database)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->nprobes < MAX_PROBES)
		shared->probes[shared->nprobes++] = database;
	else
		shared->probe_all = true;
	if (shared->launcher)
		SetLatch(shared->launcher);
	LWLockRelease(shared->lock);
}

/*
 * lh_take_probe_requests moves the requests to "databases"; true if all
 * databases are to be looked at.
 */
bool
lh_take_probe_requests(Oid *databases, int size, int *count)
{
	bool		all;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	*count = Min(size, shared->nprobes);
	memcpy(databases, shared->probes, sizeof(Oid) * *count);
	all = shared->probe_all || shared->nprobes > size;
	shared->nprobes = 0;
	shared->probe_all = false;
	LWLockRelease(shared->lock);
	return all;
}

/* -------------------------------------------------------------------- holds */

/*
 * lh_hold_database stops our workers in a database and keeps new ones out until
 * the end of the transaction.  Waits for them to leave, but not for ever: the
 * statement that wanted the database for itself then says who is in it.
 */
void
lh_hold_database(Oid database)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD_TIMEOUT_MS);
	bool		noted = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_HOLDS && !noted; i++)
		if (!OidIsValid(shared->holds[i].database))
		{
			shared->holds[i].database = database;
			shared->holds[i].pid = MyProcPid;
			noted = true;
		}
	LWLockRelease(shared->lock);
	holding = true;

	ConditionVariablePrepareToSleep(&shared->changed);
	while (stop_workers_of(database) > 0 && GetCurrentTimestamp() < end)
		(void) ConditionVariableTimedSleep(&shared->changed, 100,
										   lh_wait_event("LakehouseHold"));
	ConditionVariableCancelSleep();
}

/*
 * stop_workers_of ends our workers in a database but for this process, and
 * returns how many are still there.
 */
static int
stop_workers_of(Oid database)
{
	int			count = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		LhSlot	   *slot = &shared->slots[i];

		if (slot->config.database != database || i == my_slot)
			continue;
		if (slot->state == LH_SLOT_STARTING)
			slot->state = LH_SLOT_DONE;
		if (slot->state != LH_SLOT_ALIVE)
			continue;
		slot->stop = true;
		kill(slot->pid, SIGTERM);
		count++;
	}
	LWLockRelease(shared->lock);
	return count;
}

bool
lh_database_is_held(Oid database)
{
	bool		held = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_HOLDS; i++)
		held = held || shared->holds[i].database == database;
	LWLockRelease(shared->lock);
	return held;
}

/*
 * lh_release_holds ends the holds of this process at the end of its
 * transaction; the launcher then looks at those databases again.
 */
void
lh_release_holds(void)
{
	Oid			released[MAX_HOLDS];
	int			count = 0;

	if (!holding)
		return;
	holding = false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_HOLDS; i++)
	{
		if (shared->holds[i].pid != MyProcPid || !OidIsValid(shared->holds[i].database))
			continue;
		released[count++] = shared->holds[i].database;
		shared->holds[i].database = InvalidOid;
		shared->holds[i].pid = 0;
	}
	LWLockRelease(shared->lock);
	for (int i = 0; i < count; i++)
		lh_request_probe(released[i]);
}
