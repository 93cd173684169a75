/*
 * worker.c
 *	  How every background worker of lakehouse starts, waits and leaves.
 *
 * A worker logs in as the role that owns what it runs, with settings that do
 * not depend on that role's or the database's.  It leaves quietly when it is
 * idle and told to end; in the middle of work SIGTERM rolls back.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "guc.h"
#include "worker/worker.h"

/* who this process registered: slot, generation and the postmaster's handle */
typedef struct Registered
{
	int			index;
	uint32		generation;
	BackgroundWorkerHandle *handle;
	struct Registered *next;
} Registered;

static Registered *registered = NULL;

static void use_own_settings(const LhWorkerConfig *config);
static char *worker_title(const LhWorkerConfig *config);

PGDLLEXPORT void lh_worker_main(Datum main_arg);

PG_FUNCTION_INFO_V1(lakehouse_workers);
PG_FUNCTION_INFO_V1(lakehouse_no_worker);

const char *
lh_worker_kind_name(LhWorkerKind kind)
{
	static const char *const names[] = {"scheduler", "source", "flow", "outbox", "clean-up", "task"};

	return names[kind];
}

static char *
worker_title(const LhWorkerConfig *config)
{
	if (config->kind == LH_WORKER_SCHEDULER)
		return pstrdup("lakehouse scheduler");
	if (config->kind == LH_WORKER_TASK)
		return psprintf("lakehouse task %s of %s", config->task_key, config->name);
	return psprintf("lakehouse %s %s", lh_worker_kind_name(config->kind), config->name);
}

/*
 * lh_worker_start asks the postmaster for a worker; false if there is no free
 * place for one.
 */
bool
lh_worker_start(const LhWorkerConfig *config)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	MemoryContext old;
	Registered *entry;
	uint32		generation;
	int			index = lh_slot_reserve(config, &generation);

	if (index < 0)
		return false;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(index);
	memcpy(worker.bgw_extra, &generation, sizeof(generation));
	strlcpy(worker.bgw_library_name, "lakehouse", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "lh_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_type, BGW_MAXLEN, "lakehouse %s", lh_worker_kind_name(config->kind));
	strlcpy(worker.bgw_name, worker_title(config), BGW_MAXLEN);

	old = MemoryContextSwitchTo(TopMemoryContext);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		MemoryContextSwitchTo(old);
		lh_slot_free(index, generation);
		return false;
	}
	entry = palloc(sizeof(Registered));
	entry->index = index;
	entry->generation = generation;
	entry->handle = handle;
	entry->next = registered;
	registered = entry;
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * lh_worker_check_started closes a slot whose process never came although this
 * process asked for it, and forgets the handles of those that did.
 */
void
lh_worker_check_started(const LhSlot *slot, int index)
{
	Registered **link = &registered;

	while (*link)
	{
		Registered *entry = *link;
		pid_t		pid;

		if (entry->index == index &&
			(entry->generation != slot->generation || slot->state != LH_SLOT_STARTING ||
			 GetBackgroundWorkerPid(entry->handle, &pid) == BGWH_STOPPED))
		{
			if (entry->generation == slot->generation && slot->state == LH_SLOT_STARTING)
				lh_slot_abandon(index, entry->generation);
			*link = entry->next;
			pfree(entry->handle);
			pfree(entry);
		}
		else
			link = &entry->next;
	}
}

/*
 * lh_worker_main is where every worker but the launcher begins.
 */
void
lh_worker_main(Datum main_arg)
{
	LhWorkerConfig config;
	uint32		generation;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
	if (!lh_slot_attach(DatumGetInt32(main_arg), generation, &config))
		proc_exit(0);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/* whoever took the hold after we attached has sent us SIGTERM */
	if (lh_database_is_held(config.database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(config.database, config.role, 0);
	use_own_settings(&config);

	switch (config.kind)
	{
		case LH_WORKER_SCHEDULER:
			lh_scheduler_run(&config);
			break;
		case LH_WORKER_SOURCE:
			lh_source_run(&config);
			break;
		case LH_WORKER_FLOW:
			lh_flow_worker_run(&config);
			break;
		case LH_WORKER_OUTBOX:
			lh_outbox_worker_run(&config);
			break;
		case LH_WORKER_CLEAN:
			lh_clean_worker_run(&config);
			break;
		case LH_WORKER_TASK:
			lh_task_run(&config);
			break;
	}
	lh_worker_exit(LH_OUTCOME_FINISHED);
}

static void
set_own(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_USERSET, PGC_S_SESSION);
}

/*
 * use_own_settings pins what ALTER ROLE and ALTER DATABASE may have changed and
 * the work depends on.
 */
static void
use_own_settings(const LhWorkerConfig *config)
{
	set_own("application_name", worker_title(config));
	set_own("search_path", "pg_catalog, pg_temp");
	set_own("timezone", "UTC");
	set_own("datestyle", "ISO, MDY");
	set_own("intervalstyle", "postgres");
	set_own("client_min_messages", "warning");
	set_own("default_transaction_isolation", "read committed");
	set_own("default_transaction_read_only", "off");
	set_own("default_transaction_deferrable", "off");
	set_own("statement_timeout", "0");
	set_own("lock_timeout", config->kind == LH_WORKER_SCHEDULER ? "5s" :
			config->kind == LH_WORKER_TASK ? "0" : "30s");
	set_own("idle_in_transaction_session_timeout", "0");
	set_own("idle_session_timeout", "0");
	/* A committed load must be durable before anything outside relies on it. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		set_own("synchronous_commit", "on");
}

/*
 * lh_worker_exit ends this worker in good order.
 */
void
lh_worker_exit(LhOutcome outcome)
{
	lh_slot_set_outcome(outcome);
	proc_exit(0);
}

/*
 * lh_worker_interrupts is called outside of a transaction: leaves if told to
 * end, answers other interrupts, and reads the configuration again if asked to.
 */
void
lh_worker_interrupts(void)
{
	if (ProcDiePending)
		lh_worker_exit(LH_OUTCOME_FINISHED);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/*
 * leave_dead_server ends a worker whose server has died: a latch that is set again
 * and again hides that in a wait.
 */
static void
leave_dead_server(void)
{
	if (!PostmasterIsAlive())
		proc_exit(1);
}

/*
 * lh_worker_wait sleeps until woken or until the time is over; true if this
 * worker was asked to leave.
 */
bool
lh_worker_wait(long timeout_ms, const char *event)
{
	lh_slot_set_working(false);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, lh_wait_event(event));
	ResetLatch(MyLatch);
	leave_dead_server();
	lh_worker_interrupts();
	return lh_slot_stop_requested();
}

/*
 * lh_worker_begin starts a transaction that shows up as "activity"; the current
 * memory context stays.  Nothing is begun on behalf of a server that has died.
 */
void
lh_worker_begin(const char *activity)
{
	MemoryContext context = CurrentMemoryContext;

	leave_dead_server();
	lh_slot_set_working(true);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
	MemoryContextSwitchTo(context);
}

/*
 * lh_worker_caught, in a PG_CATCH block: reports the error, rolls the transaction
 * back and gives the error, which lies in "context".
 */
ErrorData *
lh_worker_caught(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	EmitErrorReport();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	return error;
}

void
lh_worker_commit(void)
{
	MemoryContext context = CurrentMemoryContext;

	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(context);
}

/*
 * lakehouse.workers() lists the workers; each role sees those that log in as a
 * role whose rights it has, members of pg_monitor all.
 */
Datum
lakehouse_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
	LhSlot	   *slots;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	slots = lh_slots_copy(&count);
	for (int i = 0; i < count; i++)
	{
		LhSlot	   *slot = &slots[i];
		char	   *database;
		Datum		values[9];
		bool		nulls[9] = {false};

		if ((slot->state != LH_SLOT_STARTING && slot->state != LH_SLOT_ALIVE) ||
			(!all && !(OidIsValid(slot->config.role) &&
					   has_privs_of_role(GetUserId(), slot->config.role))))
			continue;
		database = get_database_name(slot->config.database);
		values[0] = database ? CStringGetDatum(database) : (Datum) 0;
		nulls[0] = database == NULL;
		if (database)
			values[0] = DirectFunctionCall1(namein, CStringGetDatum(database));
		values[1] = CStringGetTextDatum(lh_worker_kind_name(slot->config.kind));
		values[2] = CStringGetTextDatum(slot->config.name);
		values[3] = CStringGetTextDatum(slot->config.task_key);
		nulls[2] = slot->config.kind == LH_WORKER_SCHEDULER;
		nulls[3] = slot->config.kind != LH_WORKER_TASK;
		values[4] = Int64GetDatum(slot->config.object);
		nulls[4] = slot->config.kind != LH_WORKER_TASK;
		values[5] = Int32GetDatum((int32) slot->pid);
		nulls[5] = slot->pid == 0;
		values[6] = CStringGetTextDatum(slot->state == LH_SLOT_STARTING ? "starting" :
										slot->stop ? "stopping" :
										slot->working ? "working" : "idle");
		values[7] = CStringGetTextDatum(slot->note);
		nulls[7] = slot->note[0] == '\0';
		values[8] = TimestampTzGetDatum(slot->since);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * lakehouse._no_worker(source_id) tells why a continuous source of this database
 * has no worker and gets none by itself, or NULL.
 */
Datum
lakehouse_no_worker(PG_FUNCTION_ARGS)
{
	int32		source_id = PG_GETARG_INT32(0);
	bool		full = false;
	LhSlot	   *slots;
	int			count;

	if (!lh_shmem_available())
		PG_RETURN_TEXT_P(cstring_to_text("nothing runs in the background: lakehouse is not in shared_preload_libraries"));
	slots = lh_slots_copy(&count);
	for (int i = 0; i < count; i++)
	{
		const LhSlot *slot = &slots[i];

		if ((slot->state != LH_SLOT_STARTING && slot->state != LH_SLOT_ALIVE) ||
			slot->config.database != MyDatabaseId)
			continue;
		if (slot->config.kind == LH_WORKER_SOURCE && slot->config.object == source_id)
			PG_RETURN_NULL();
		/* it takes a note of what waits for a place */
		full |= slot->config.kind == LH_WORKER_SCHEDULER && slot->note[0] != '\0';
	}
	if (!full)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("no background worker is free: increase lakehouse.max_workers (now %d) or max_worker_processes (now %d)",
											  lh_max_workers, max_worker_processes)));
}
