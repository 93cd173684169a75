/*
 * ingest.c
 *	  A source being read, whatever its kind: definition, identity, lock, state.
 *
 * Invariant: one source is ingested by one transaction at a time, as its owner,
 * and only while nothing stands against it: not paused, in the database it was
 * made for, with its server and target in place.  Each batch looks again.
 * Workers that share a source hold its lock together: each of them owns what it
 * has claimed in the ledger, and everybody else still waits for all of them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "bronze/file_ledger.h"
#include "bronze/ingest.h"
#include "catalog/catalog_access.h"

/* code of the owner (triggers, defaults, checks) runs under this path */
#define OWNER_PATH "pg_catalog, pg_temp"

#define SOURCE_QUERY \
	"SELECT source_id, name, owner, server, (kind OPERATOR(pg_catalog.=) 'kafka')::pg_catalog.int4," \
	" target, format, path, topics, options, (trigger OPERATOR(pg_catalog.=) 'continuous')::pg_catalog.int4," \
	" paused, home FROM lakehouse.source"

#define SOURCE_BY_ID SOURCE_QUERY " WHERE source_id OPERATOR(pg_catalog.=) $1"

/* whose batch is under way: the innermost, and those that it is a part of */
static LhIngest *under_way = NULL;

static LhSource *read_source(void);
static char **read_topics(MemoryContext context);
static LhSource *copy_source(const LhSource *source);
static bool same_source(const LhSource *a, const LhSource *b);

/*
 * fetch_source runs a query for one source, and returns its definition in the
 * current context, or NULL.  With "latest" the snapshot of the caller is passed
 * over.
 */
static LhSource *
fetch_source(const char *query, Oid type, Datum value, bool latest)
{
	MemoryContext context = CurrentMemoryContext;
	LhSource   *source = NULL;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	if ((latest ? lh_catalog_read_latest : lh_catalog_run) (query, 1, &type, &value, NULL) > 0)
	{
		MemoryContextSwitchTo(context);
		source = read_source();
	}
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(context);
	return source;
}

/*
 * lh_source_find returns the definition of a source, in the current context.
 */
LhSource *
lh_source_find(const char *name)
{
	LhSource   *source = fetch_source(SOURCE_QUERY " WHERE name OPERATOR(pg_catalog.=) $1",
									  TEXTOID, CStringGetTextDatum(name), false);

	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" does not exist", name)));
	return source;
}

/*
 * lh_source_get returns the definition of a source, in the current context.
 */
LhSource *
lh_source_get(int32 source_id)
{
	LhSource   *source = fetch_source(SOURCE_BY_ID, INT4OID, Int32GetDatum(source_id), false);

	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source %d does not exist", source_id)));
	return source;
}

LhSource *
lh_source_get_if(int32 source_id)
{
	return fetch_source(SOURCE_BY_ID, INT4OID, Int32GetDatum(source_id), false);
}

/*
 * read_source makes a source of the first row of the last result.
 */
static LhSource *
read_source(void)
{
	MemoryContext context = CurrentMemoryContext;
	LhSource   *source = palloc0(sizeof(LhSource));

	source->source_id = (int32) lh_catalog_int64(0, 1, 0);
	source->name = lh_catalog_text(0, 2, context);
	source->owner = lh_catalog_oid(0, 3);
	source->server = get_foreign_server_oid(lh_catalog_text(0, 4, context), true);
	source->is_kafka = lh_catalog_int64(0, 5, 0) != 0;
	source->target = lh_catalog_oid(0, 6);
	source->format = lh_catalog_text(0, 7, context);
	source->path = lh_catalog_text(0, 8, context);
	source->topics = read_topics(context);
	source->options = lh_catalog_text(0, 10, context);
	source->continuous = lh_catalog_int64(0, 11, 0) != 0;
	source->paused = lh_catalog_text(0, 12, context);
	source->home = lh_catalog_text(0, 13, context);
	return source;
}

static char **
read_topics(MemoryContext context)
{
	bool		isnull;
	Datum		value = lh_catalog_value(0, 9, &isnull);
	Datum	   *elements;
	char	  **topics;
	int			count;

	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &count);
	topics = MemoryContextAllocZero(context, sizeof(char *) * (count + 1));
	for (int i = 0; i < count; i++)
		topics[i] = MemoryContextStrdup(context, TextDatumGetCString(elements[i]));
	return topics;
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

static LhSource *
copy_source(const LhSource *source)
{
	LhSource   *copy = palloc(sizeof(LhSource));
	int			count = 0;

	*copy = *source;
	copy->name = pstrdup(source->name);
	copy->format = copy_text(source->format);
	copy->path = copy_text(source->path);
	copy->options = copy_text(source->options);
	copy->paused = copy_text(source->paused);
	copy->home = copy_text(source->home);
	if (source->topics != NULL)
	{
		while (source->topics[count] != NULL)
			count++;
		copy->topics = palloc0(sizeof(char *) * (count + 1));
		for (int i = 0; i < count; i++)
			copy->topics[i] = pstrdup(source->topics[i]);
	}
	return copy;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/*
 * same_source tells whether an ingest opened for one definition may go on under
 * the other.
 */
static bool
same_source(const LhSource *a, const LhSource *b)
{
	int			i = 0;

	if ((a->topics == NULL) != (b->topics == NULL))
		return false;
	for (; a->topics != NULL && (a->topics[i] != NULL || b->topics[i] != NULL); i++)
		if (!same_text(a->topics[i], b->topics[i]))
			return false;
	return strcmp(a->name, b->name) == 0 && a->owner == b->owner && a->server == b->server &&
		a->target == b->target && a->is_kafka == b->is_kafka &&
		same_text(a->format, b->format) && same_text(a->path, b->path) &&
		same_text(a->options, b->options);
}

/*
 * lh_source_obstacle tells, as a sentence, why the source may not run now; NULL
 * if it may.
 */
char *
lh_source_obstacle(const LhSource *source)
{
	if (source->paused != NULL)
		return psprintf("The source is paused: %s.", source->paused);
	if (strcmp(source->home, lh_catalog_home()) != 0)
		return pstrdup("The database is a copy or was restored: the source may still run in another one.");
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(source->owner)))
		return pstrdup("The source's owner does not exist any more.");
	if (!OidIsValid(source->server))
		return pstrdup("The source's server does not exist any more.");
	if (get_rel_name(source->target) == NULL)
		return pstrdup("The source's target table does not exist any more.");
	return NULL;
}

/*
 * check_not_under_way refuses to read a source within a batch of it, which a
 * trigger of its target could ask for: the records of that batch would be read
 * once more, for positions and files are noted at its end.
 */
static void
check_not_under_way(const LhSource *source)
{
	for (const LhIngest *ingest = under_way; ingest != NULL; ingest = ingest->outer)
	{
		if (ingest->source->source_id == source->source_id)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("source \"%s\" is being read by this very transaction", source->name),
					 errdetail("A trigger or function that its rows call must not run it.")));
	}
}

/*
 * lh_ingest_open opens the source as its owner; the result is allocated in a
 * child of the current context.
 */
LhIngest *
lh_ingest_open(const LhSource *source, bool continuous)
{
	const LhIngestRoutine *routine = source->is_kafka ? &lh_kafka_ingest : &lh_file_ingest;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse ingest",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	LhSource   *copy = copy_source(source);
	LhIdentity	identity;
	LhIngest   *ingest;

	check_not_under_way(source);
	lh_identity_role(&identity, source->owner, OWNER_PATH);
	ingest = routine->open(copy, continuous);
	lh_identity_restore(&identity);
	ingest->routine = routine;
	ingest->source = copy;
	ingest->context = context;
	MemoryContextSwitchTo(oldcontext);
	return ingest;
}

bool
lh_ingest_wait(LhIngest *ingest, long timeout_ms)
{
	return ingest->routine->wait(ingest, timeout_ms);
}

/*
 * lh_ingest_batch does one batch in the caller's transaction, under the source's
 * lock; false when nothing was left, or when the source may not run any more as
 * it was opened (lh_ingest_is_current tells).
 */
bool
lh_ingest_batch(LhIngest *ingest, LhIngestCounts *counts)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	MemoryContext context;
	LhIdentity	identity;
	bool		snapshot;
	volatile bool more = false;

	if (ingest->source->shared && !ingest->alone)
		lh_catalog_lock_shared(LH_LOCK_SOURCE, ingest->source->source_id);
	else
		(void) lh_catalog_lock(LH_LOCK_SOURCE, ingest->source->source_id, true);
	snapshot = !ActiveSnapshotSet();
	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	if (!lh_ingest_is_current(ingest))
	{
		if (snapshot)
			PopActiveSnapshot();
		return false;
	}

	context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse ingest batch",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	lh_identity_role(&identity, ingest->source->owner, OWNER_PATH);
	ingest->outer = under_way;
	under_way = ingest;
	PG_TRY();
	{
		more = ingest->routine->batch(ingest, counts);
	}
	PG_FINALLY();
	{
		under_way = ingest->outer;
	}
	PG_END_TRY();
	lh_identity_restore(&identity);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
	if (snapshot)
		PopActiveSnapshot();
	return more;
}

/*
 * lh_ingest_is_current tells whether the source still exists, may run, and is
 * defined as it was when the ingest was opened.  In a transaction.
 */
bool
lh_ingest_is_current(const LhIngest *ingest)
{
	LhSource   *source = fetch_source(SOURCE_BY_ID, INT4OID, Int32GetDatum(ingest->source->source_id), true);

	return source != NULL && same_source(source, ingest->source) &&
		lh_source_obstacle(source) == NULL;
}

void
lh_ingest_committed(LhIngest *ingest)
{
	ingest->routine->committed(ingest);
}

void
lh_ingest_aborted(LhIngest *ingest)
{
	ingest->routine->aborted(ingest);
}

void
lh_ingest_close(LhIngest *ingest)
{
	ingest->routine->close(ingest);
	MemoryContextDelete(ingest->context);
}

/*
 * lh_source_check_can_run raises 55000 if the source may not run.
 */
void
lh_source_check_can_run(const LhSource *source)
{
	char	   *obstacle = lh_source_obstacle(source);

	if (obstacle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot run source \"%s\"", source->name),
				 errdetail_internal("%s", obstacle),
				 errhint("When the cause is gone, run lakehouse.resume_source('%s').", source->name)));
}

/*
 * lh_ingest_run reads everything present in the caller's transaction.  Raises
 * 55000 if the source may not run.
 */
void
lh_ingest_run(const LhSource *source, LhIngestCounts *counts)
{
	LhIngest   *ingest;

	/* the lock first: what another run reads now must not be read again, and a
	 * change of the definition that comes before us counts */
	(void) lh_catalog_lock(LH_LOCK_SOURCE, source->source_id, true);
	source = lh_source_get(source->source_id);
	lh_source_check_can_run(source);
	ingest = lh_ingest_open(source, false);
	while (lh_ingest_wait(ingest, 0) && lh_ingest_batch(ingest, counts))
		CHECK_FOR_INTERRUPTS();
	lh_ingest_close(ingest);
	lh_source_succeeded(source->source_id);
}

/*
 * lh_source_succeeded notes that a source is well; an idle one that was noted a
 * second ago is not written again.
 */
void
lh_source_succeeded(int32 source_id)
{
	lh_catalog_run_for(source_id,
					   "INSERT INTO lakehouse.source_state AS s (source_id, last_success)"
					   " VALUES ($1, pg_catalog.clock_timestamp())"
					   " ON CONFLICT (source_id) DO UPDATE SET last_success = excluded.last_success,"
					   "   failures = 0, sqlstate = NULL, error = NULL, retry_at = NULL"
					   " WHERE s.failures OPERATOR(pg_catalog.>) 0 OR s.last_success IS NULL"
					   "    OR s.last_success OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()"
					   "       OPERATOR(pg_catalog.-) '1 second'::pg_catalog.interval)");
}

/*
 * lh_source_failed notes a failure and when to try again.  In a transaction of
 * its own: the one that failed is rolled back.
 */
void
lh_source_failed(int32 source_id, int sqlstate, const char *message)
{
	static const Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[4];
	LhCatalog	catalog;
	int32		failures = 1;

	values[0] = Int32GetDatum(source_id);
	values[1] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[2] = CStringGetTextDatum(message);
	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT failures OPERATOR(pg_catalog.+) 1 FROM lakehouse.source_state"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 1, types, values, NULL) > 0)
		failures = (int32) lh_catalog_int64(0, 1, 1);
	values[3] = Int64GetDatum(lh_backoff_us(failures) / 1000);
	lh_catalog_run("INSERT INTO lakehouse.source_state AS s (source_id, last_failure, failures, sqlstate, error, retry_at)"
				   " VALUES ($1, pg_catalog.clock_timestamp(), 1, $2, $3, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
				   "   pg_catalog.make_interval(secs => $4 OPERATOR(pg_catalog./) 1000.0::pg_catalog.float8))"
				   " ON CONFLICT (source_id) DO UPDATE SET last_failure = excluded.last_failure,"
				   "   failures = s.failures OPERATOR(pg_catalog.+) 1, sqlstate = excluded.sqlstate,"
				   "   error = excluded.error, retry_at = excluded.retry_at",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}
