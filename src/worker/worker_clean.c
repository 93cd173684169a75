/*
 * worker_clean.c
 *	  A worker that moves and deletes loaded files of the sources of one owner.
 *
 * It does not depend on anything being loaded: the scheduler starts it when the
 * time of a file has come, and it leaves when nothing more is due.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "bronze/clean.h"
#include "worker/worker.h"

static void clean_source(int32 source_id);

static void
begin(void)
{
	lh_worker_begin("clean-up");
}

static const LhCleanTransaction transaction = {begin, lh_worker_commit};

void
lh_clean_worker_run(const LhWorkerConfig *config)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "lakehouse clean-up worker",
												  ALLOCSET_DEFAULT_SIZES);
	List	   *due;
	ListCell   *cell;

	MemoryContextSwitchTo(context);
	begin();
	due = lh_clean_due((Oid) config->object);
	lh_worker_commit();
	foreach(cell, due)
	{
		if (lh_slot_stop_requested())
			break;
		clean_source(lfirst_int(cell));
		lh_worker_interrupts();
	}
}

/*
 * clean_source cleans up one source; an error stops that source only.
 */
static void
clean_source(int32 source_id)
{
	MemoryContext context = CurrentMemoryContext;
	LhCleanCounts counts = {0};

	PG_TRY();
	{
		lh_clean_run(source_id, &transaction, lh_slot_stop_requested, &counts);
	}
	PG_CATCH();
	{
		ErrorData  *error = lh_worker_caught(context);

		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		{
			begin();
			lh_clean_failed(source_id, error->sqlerrcode,
							error->detail ? psprintf("%s (%s)", error->message, error->detail) : error->message);
			lh_worker_commit();
		}
	}
	PG_END_TRY();
}
