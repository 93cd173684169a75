/*
 * worker_source.c
 *	  A worker that reads one continuous source, alone or beside others.
 *
 * No transaction is open while it waits.  Each batch is one transaction; after
 * an error nothing of what was read ahead is used again: the worker records the
 * failure, ends, and the scheduler starts another one when the back-off is
 * over.  It leaves as soon as the source's definition is not the one it was
 * started for.
 *
 * A worker that crashes takes the whole server down for a moment, so a source
 * whose input crashes it must not be tried for ever: before its first batch a
 * worker counts itself in lakehouse.source_state.crashes, and its first end of a
 * batch, good or bad, sets that back.  What is still counted at the next start
 * did crash: first that is a failure with its back-off, then the source is
 * paused.  Where several workers share the source this is the business of the
 * first one; the others are started when it has loaded something or found
 * nothing to load, so that what crashed one of them comes before it alone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "fault.h"
#include "worker/worker.h"

/* how long one wait may last: as long as it takes to notice a request to stop */
#define WAIT_MS 500
/* a source that crashed its worker so many times in a row is paused */
#define MAX_CRASHES 5

/* whether this worker has counted itself */
static bool begun = false;

/* whether this worker has told the source's state that all is well */
static bool succeeded = false;

static bool still_current(const LhWorkerConfig *config);
static bool note_begin(const LhWorkerConfig *config);
static bool heed_crashes(int32 source_id);
static void set_crashes(int32 source_id, bool ended);
static bool backing_off(const LhWorkerConfig *config);
static bool read_batch(const LhWorkerConfig *config, LhIngest *ingest, bool *more);
static void record_failure(const LhWorkerConfig *config, const ErrorData *error);
static LhIngest *open_source(const LhWorkerConfig *config);

/*
 * lh_source_run reads until the source is paused, altered or dropped, or an
 * error ends it.
 */
void
lh_source_run(const LhWorkerConfig *config)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "lakehouse source",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext batch_context = AllocSetContextCreate(context, "lakehouse source batch",
														ALLOCSET_DEFAULT_SIZES);
	LhIngest   *volatile ingest = NULL;

	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		bool		current;
		bool		more = false;

		ingest = open_source(config);
		for (current = ingest != NULL; current && !lh_slot_stop_requested();)
		{
			if (config->workers > 1)
				lh_source_share(config, &ingest->share);
			if (!more)
			{
				lh_slot_set_working(false);
				ingest->stand_in = config->worker > 0 && lh_source_busy(config);
				more = lh_ingest_wait(ingest, WAIT_MS);
			}
			if (more && !begun && !note_begin(config))
				break;
			if (more)
			{
				MemoryContextSwitchTo(batch_context);
				current = read_batch(config, ingest, &more);
				MemoryContextSwitchTo(context);
				MemoryContextReset(batch_context);
			}
			lh_worker_interrupts();
		}
	}
	PG_CATCH();
	{
		ErrorData  *error = lh_worker_caught(context);

		if (ingest)
			lh_ingest_aborted(ingest);
		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			record_failure(config, error);
	}
	PG_END_TRY();
	if (ingest)
		lh_ingest_close(ingest);
}

/*
 * open_source returns NULL if the source may not run any more.
 */
static LhIngest *
open_source(const LhWorkerConfig *config)
{
	LhIngest   *ingest = NULL;

	lh_worker_begin("open");
	if (still_current(config))
	{
		LhSource   *source = lh_source_get((int32) config->object);
		char	   *obstacle = lh_source_obstacle(source);

		source->shared = config->workers > 1;
		source->follower = config->worker > 0;
		if (obstacle == NULL)
			ingest = lh_ingest_open(source, true);
		else
			lh_source_failed(source->source_id, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, obstacle);
	}
	lh_worker_commit();
	return ingest;
}

/*
 * read_batch is one transaction; false if the source is not to be read on.
 * *more tells whether the next batch need not be waited for.
 */
static bool
read_batch(const LhWorkerConfig *config, LhIngest *ingest, bool *more)
{
	LhIngestCounts counts = {0};
	bool		current;
	bool		proven = false;

	lh_worker_begin("batch");
	current = still_current(config);
	if (current)
	{
		*more = lh_ingest_batch(ingest, &counts);
		if (!*more)
			current = lh_ingest_is_current(ingest);
		/* to have shared a listing with others proves nothing */
		proven = current && (counts.loads > 0 ||
							 (!succeeded && (config->workers == 1 || !*more)));
		if (proven && (config->workers == 1 || !backing_off(config)))
			lh_source_succeeded((int32) config->object);
		if (proven && !succeeded && config->worker == 0)
			set_crashes((int32) config->object, true);
		LH_FAULT("before-commit");
	}
	lh_worker_commit();
	LH_FAULT("after-commit");
	if (proven && !succeeded)
	{
		succeeded = true;
		lh_slot_set_ready();
		if (config->workers > 1)
			lh_wake_workers(config->database, true);
	}
	if (current)
		lh_ingest_committed(ingest);
	if (config->workers > 1 && counts.discovered > 0)
		lh_wake_source(config->database, config->object);
	return current;
}

/*
 * backing_off tells whether a worker of the source waits after a failure, which
 * the success of another one must not make it forget.
 */
static bool
backing_off(const LhWorkerConfig *config)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum((int32) config->object);
	LhCatalog	catalog;
	bool		result;

	lh_catalog_begin(&catalog);
	result = lh_catalog_run("SELECT 1 FROM lakehouse.source_state"
							" WHERE source_id OPERATOR(pg_catalog.=) $1"
							" AND retry_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()",
							1, types, &value, NULL) > 0;
	lh_catalog_end(&catalog);
	return result;
}

/*
 * still_current tells whether the source is as it was when this worker was
 * started: its row has not been written since.
 */
static bool
still_current(const LhWorkerConfig *config)
{
	static const Oid types[] = {INT4OID, INT8OID};
	Datum		values[2];
	LhCatalog	catalog;
	bool		current;

	values[0] = Int32GetDatum((int32) config->object);
	values[1] = Int64GetDatum(config->version);
	lh_catalog_begin(&catalog);
	current = lh_catalog_run("SELECT 1 FROM lakehouse.source"
							 " WHERE source_id OPERATOR(pg_catalog.=) $1"
							 " AND xmin::pg_catalog.text::pg_catalog.int8 OPERATOR(pg_catalog.=) $2"
							 " AND paused IS NULL",
							 2, types, values, NULL) > 0;
	lh_catalog_end(&catalog);
	return current;
}

/*
 * note_begin counts this worker before its first batch; false if it must leave
 * because too many before it crashed.
 */
static bool
note_begin(const LhWorkerConfig *config)
{
	bool		go_on;

	begun = true;
	if (config->worker > 0)
		return true;
	lh_worker_begin("begin");
	go_on = heed_crashes((int32) config->object);
	if (go_on)
		set_crashes((int32) config->object, false);
	lh_worker_commit();
	return go_on;
}

/*
 * heed_crashes makes crashes of earlier workers a failure or a pause.
 */
static bool
heed_crashes(int32 source_id)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	LhCatalog	catalog;
	int64		crashes = 0;
	int64		failures = 0;

	values[0] = Int32GetDatum(source_id);
	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT crashes, failures FROM lakehouse.source_state"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1", 1, types, values, NULL) > 0)
	{
		crashes = lh_catalog_int64(0, 1, 0);
		failures = lh_catalog_int64(0, 2, 0);
	}
	if (crashes >= MAX_CRASHES)
	{
		values[1] = CStringGetTextDatum(psprintf("its worker crashed " INT64_FORMAT
												 " times in a row; the server log says how", crashes));
		lh_catalog_run("UPDATE lakehouse.source SET paused = $2 WHERE source_id OPERATOR(pg_catalog.=) $1",
					   2, types, values, NULL);
	}
	lh_catalog_end(&catalog);
	if (crashes >= MAX_CRASHES)
		set_crashes(source_id, true);
	else if (crashes > failures)
		lh_source_failed(source_id, ERRCODE_CRASH_SHUTDOWN,
						 psprintf("the worker of the source crashed; it is paused after %d times in a row", MAX_CRASHES));
	return crashes <= failures && crashes < MAX_CRASHES;
}

/*
 * set_crashes counts one more worker that began, or says that one has ended.
 */
static void
set_crashes(int32 source_id, bool ended)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(source_id);
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	if (ended)
		lh_catalog_run("UPDATE lakehouse.source_state SET crashes = 0"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND crashes OPERATOR(pg_catalog.<>) 0",
					   1, types, &value, NULL);
	else
		lh_catalog_run("INSERT INTO lakehouse.source_state AS s (source_id, crashes) VALUES ($1, 1)"
					   " ON CONFLICT (source_id) DO UPDATE SET crashes = s.crashes OPERATOR(pg_catalog.+) 1",
					   1, types, &value, NULL);
	lh_catalog_end(&catalog);
}

/*
 * record_failure tells the source's state, unless the error came from the
 * source or the extension being dropped.
 */
static void
record_failure(const LhWorkerConfig *config, const ErrorData *error)
{
	lh_worker_begin("failure");
	if (config->worker == 0)
		set_crashes((int32) config->object, true);
	if (still_current(config))
		lh_source_failed((int32) config->object, error->sqlerrcode, error->message);
	lh_worker_commit();
}
