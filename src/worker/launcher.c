/*
 * launcher.c
 *	  Finds the databases that have the extension and keeps a scheduler in each.
 *
 * The launcher is the only static worker.  It reads pg_database and connects to
 * no database, so it stands in nobody's way; whether a database has the
 * extension is found out by the scheduler, which leaves at once if it has not.
 * Such a database is looked at again when the extension is created in it and,
 * for the case that we missed that, every few minutes.
 *
 * Nothing runs on a standby: the launcher starts when recovery has ended.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "guc.h"
#include "worker/worker.h"

/* a database without the extension is looked at this often at least */
#define LONGEST_PROBE_MS 300000
/* a scheduler that fails is started again after this long at most */
#define LONGEST_BACKOFF_MS 60000
/* one that lived for this long has not failed */
#define HEALTHY_MS 60000

/* What the launcher remembers of a database. */
typedef struct Database
{
	Oid			oid;
	bool		listed;			/* seen in the current pass */
	TimestampTz started;		/* when its scheduler was asked for */
	TimestampTz next;			/* no scheduler before */
	int			delay_ms;		/* what led to "next" */
} Database;

static List *databases = NIL;

PGDLLEXPORT void lh_launcher_main(Datum main_arg);

static void launch(void);
static void list_databases(void);
static Database *find_database(Oid oid);
static void heed_probe_requests(void);
static void review_slots(void);
static void note_end(const LhSlot *slot);
static void start_schedulers(void);
static long time_to_wait(void);

/*
 * lh_worker_init sets up shared memory and the launcher when the library is
 * preloaded.  Otherwise everything still works in the caller's session.
 */
void
lh_worker_init(void)
{
	BackgroundWorker worker = {0};

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	lh_shmem_init();
	lh_utility_init();

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "lakehouse", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "lh_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "lakehouse launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "lakehouse launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

void
lh_launcher_main(Datum main_arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	lh_launcher_attach();
	context = AllocSetContextCreate(TopMemoryContext, "lakehouse launcher", ALLOCSET_DEFAULT_SIZES);

	/* Never exit with 0: the postmaster would not start us again. */
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		launch();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 time_to_wait(), lh_wait_event("LakehouseLauncher"));
		ResetLatch(MyLatch);
	}
}

/*
 * launch is one pass: see which databases there are, how schedulers ended, and
 * start what is missing.
 */
static void
launch(void)
{
	list_databases();
	heed_probe_requests();
	review_slots();
	start_schedulers();
}

/*
 * list_databases brings the list in line with pg_database.  Templates and
 * databases that refuse connections are no business of ours.
 */
static void
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	ListCell   *cell;

	foreach(cell, databases)
		((Database *) lfirst(cell))->listed = false;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		Database   *database;

		/* a connection limit of -2 marks a database whose DROP was interrupted */
		if (form->datistemplate || !form->datallowconn || form->datconnlimit == -2)
			continue;
		database = find_database(form->oid);
		if (database == NULL)
		{
			old = MemoryContextSwitchTo(TopMemoryContext);
			database = palloc0(sizeof(Database));
			database->oid = form->oid;
			databases = lappend(databases, database);
			MemoryContextSwitchTo(old);
		}
		database->listed = true;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);

	foreach(cell, databases)
		if (!((Database *) lfirst(cell))->listed)
		{
			pfree(lfirst(cell));
			databases = foreach_delete_current(databases, cell);
		}
}

static Database *
find_database(Oid oid)
{
	ListCell   *cell;

	foreach(cell, databases)
		if (((Database *) lfirst(cell))->oid == oid)
			return lfirst(cell);
	return NULL;
}

static void
heed_probe_requests(void)
{
	Oid			oids[64];
	int			count;
	ListCell   *cell;
	bool		all = lh_take_probe_requests(oids, lengthof(oids), &count);

	foreach(cell, databases)
	{
		Database   *database = lfirst(cell);

		for (int i = 0; i < count || all; i++)
			if (all || oids[i] == database->oid)
			{
				database->next = 0;
				database->delay_ms = 0;
				break;
			}
	}
}

/*
 * review_slots notes how schedulers ended, ends workers of databases that are
 * no longer ours to serve, and frees what nobody else will.
 */
static void
review_slots(void)
{
	int			count;
	LhSlot	   *slots = lh_slots_copy(&count);

	for (int i = 0; i < count; i++)
	{
		LhSlot	   *slot = &slots[i];
		bool		served = find_database(slot->config.database) != NULL;

		if (slot->state == LH_SLOT_FREE)
			continue;
		if (slot->config.kind == LH_WORKER_SCHEDULER)
			lh_worker_check_started(slot, i);
		if (slot->state == LH_SLOT_ALIVE && !served)
			lh_slot_request_stop(i, slot->generation, true);
		if (slot->state != LH_SLOT_DONE)
			continue;
		if (slot->config.kind == LH_WORKER_SCHEDULER)
			note_end(slot);
		/* the others are their scheduler's, if there will be one */
		if (slot->config.kind == LH_WORKER_SCHEDULER || !served ||
			TimestampDifferenceExceeds(slot->since, GetCurrentTimestamp(), HEALTHY_MS))
			lh_slot_free(i, slot->generation);
	}
}

/*
 * note_end decides when a database gets its next scheduler.
 */
static void
note_end(const LhSlot *slot)
{
	Database   *database = find_database(slot->config.database);
	TimestampTz now = GetCurrentTimestamp();

	if (database == NULL)
		return;
	if (slot->outcome == LH_OUTCOME_NO_EXTENSION)
		database->delay_ms = Min(Max(database->delay_ms * 2, lh_launcher_naptime), LONGEST_PROBE_MS);
	else if (slot->stop || TimestampDifferenceExceeds(database->started, now, HEALTHY_MS))
		database->delay_ms = 0;
	else
		database->delay_ms = Min(Max(database->delay_ms * 2, 1000), LONGEST_BACKOFF_MS);
	database->next = TimestampTzPlusMilliseconds(now, database->delay_ms);
}

static void
start_schedulers(void)
{
	static bool warned = false;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;
	int			count;
	LhSlot	   *slots = lh_slots_copy(&count);
	bool		full = false;

	foreach(cell, databases)
	{
		Database   *database = lfirst(cell);
		LhWorkerConfig config = {0};
		bool		present = false;

		for (int i = 0; i < count; i++)
			present = present || (slots[i].config.kind == LH_WORKER_SCHEDULER &&
								  slots[i].config.database == database->oid &&
								  slots[i].state != LH_SLOT_FREE &&
								  slots[i].state != LH_SLOT_DONE);
		if (present || database->next > now || lh_database_is_held(database->oid))
			continue;
		config.kind = LH_WORKER_SCHEDULER;
		config.database = database->oid;
		database->started = now;
		if (!lh_worker_start(&config))
		{
			full = true;
			database->next = TimestampTzPlusMilliseconds(now, lh_launcher_naptime);
		}
	}
	if (full && !warned)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("lakehouse waits for a free background worker"),
				 errhint("Increase max_worker_processes.")));
	warned = full;
}

/*
 * time_to_wait returns the milliseconds until something is due.
 */
static long
time_to_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		result = lh_launcher_naptime;
	ListCell   *cell;

	foreach(cell, databases)
	{
		Database   *database = lfirst(cell);

		if (database->next > now)
			result = Min(result, TimestampDifferenceMilliseconds(now, database->next) + 1);
	}
	return Max(result, 10);
}
