/*
 * progress.c
 *	  How far the running loads of files are, for other sessions to see.
 *
 * What a transaction has not committed no table can tell, so this lives in
 * shared memory, one entry for each process that loads.  Invariant: an entry is
 * written by its process alone and freed when the load or the process ends,
 * whichever way.  Nothing decides by it.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "bronze/progress.h"

#define COLUMNS 10

typedef struct Entry
{
	pid_t		pid;			/* 0 = free */
	LhProgress	progress;
} Entry;

typedef struct Board
{
	LWLock	   *lock;
	int			count;
	Entry		entries[FLEXIBLE_ARRAY_MEMBER];
} Board;

static Board *board = NULL;

/* this process's entry, or NULL */
static Entry *mine = NULL;
static bool exit_registered = false;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

PG_FUNCTION_INFO_V1(lakehouse_running_loads);

static int
entry_count(void)
{
	return MaxConnections + max_worker_processes;
}

static Size
board_size(void)
{
	return add_size(offsetof(Board, entries), mul_size(sizeof(Entry), entry_count()));
}

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(board_size());
	RequestNamedLWLockTranche("lakehouse progress", 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	board = ShmemInitStruct("lakehouse progress", board_size(), &found);
	if (!found)
	{
		memset(board, 0, board_size());
		board->lock = &GetNamedLWLockTranche("lakehouse progress")->lock;
		board->count = entry_count();
	}
	LWLockRelease(AddinShmemInitLock);
}

void
lh_progress_init(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

static void
end_at_exit(int code, Datum arg)
{
	lh_progress_end();
}

/*
 * lh_progress_begin takes an entry; without a free one the load goes unseen.
 */
void
lh_progress_begin(const LhProgress *progress)
{
	if (board == NULL)
		return;
	if (!exit_registered)
		before_shmem_exit(end_at_exit, (Datum) 0);
	exit_registered = true;
	LWLockAcquire(board->lock, LW_EXCLUSIVE);
	for (int i = 0; i < board->count && mine == NULL; i++)
		if (board->entries[i].pid == 0)
			mine = &board->entries[i];
	if (mine != NULL)
	{
		mine->pid = MyProcPid;
		mine->progress = *progress;
	}
	LWLockRelease(board->lock);
}

void
lh_progress_set(int64 position, int64 rows, int64 rejected)
{
	if (mine == NULL)
		return;
	LWLockAcquire(board->lock, LW_EXCLUSIVE);
	mine->progress.position = position;
	mine->progress.rows = rows;
	mine->progress.rejected = rejected;
	LWLockRelease(board->lock);
}

void
lh_progress_end(void)
{
	if (mine == NULL)
		return;
	LWLockAcquire(board->lock, LW_EXCLUSIVE);
	mine->pid = 0;
	LWLockRelease(board->lock);
	mine = NULL;
}

/*
 * copy_entries returns the running loads of this database.
 */
static Entry *
copy_entries(int *count)
{
	Entry	   *copies;

	*count = 0;
	if (board == NULL)
		return NULL;
	copies = palloc(sizeof(Entry) * board->count);
	LWLockAcquire(board->lock, LW_SHARED);
	for (int i = 0; i < board->count; i++)
		if (board->entries[i].pid != 0 && board->entries[i].progress.database == MyDatabaseId)
			copies[(*count)++] = board->entries[i];
	LWLockRelease(board->lock);
	return copies;
}

/*
 * lakehouse.running_loads() shows them to those who have the rights of the
 * owner of the source, and to members of pg_monitor.
 */
Datum
lakehouse_running_loads(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		monitor = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
	Entry	   *entries;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	entries = copy_entries(&count);
	for (int i = 0; i < count; i++)
	{
		const LhProgress *progress = &entries[i].progress;
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS] = {false};

		if (!monitor && !has_privs_of_role(GetUserId(), progress->owner))
			continue;
		values[0] = Int32GetDatum(entries[i].pid);
		values[1] = Int32GetDatum(progress->source_id);
		values[2] = Int64GetDatum(progress->file_id);
		values[3] = Int64GetDatum(progress->load_id);
		values[4] = Int64GetDatum(progress->size);
		values[5] = Int64GetDatum(progress->first_position);
		values[6] = Int64GetDatum(progress->position);
		values[7] = Int64GetDatum(progress->rows);
		values[8] = Int64GetDatum(progress->rejected);
		values[9] = TimestampTzGetDatum(progress->started);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
