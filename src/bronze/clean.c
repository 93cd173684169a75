/*
 * clean.c
 *	  What becomes of files after their load: table lakehouse.file_clean.
 *
 * A file enters with the transaction that loads its end: waiting -> acting ->
 * moved, deleted, or left.  Two transactions bring it further.  The first writes
 * the intent, with the name that the file will have, and is waited for until it
 * is durable here and on synchronous standbys; what was committed before it, the
 * load above all, is durable then too.  The second one acts and writes what came
 * of it.  If it does not come to its end, the intent is there, and the next one
 * finds out from the names of the file how far it came (clean_act.c).
 *
 * Invariant: nothing happens to a file in a transaction that loads, or before an
 * intent is durable; and not while its entry in the ledger, or that of another
 * source that reads it, is or may come to be in use: both are locked meanwhile.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bronze/clean_internal.h"
#include "bronze/file_ingest.h"
#include "bronze/file_ledger.h"
#include "catalog/catalog_access.h"
#include "fault.h"
#include "source/file_root.h"

/* files, and bytes of them that are read, in one transaction */
#define PASS_FILES 100
#define PASS_BYTES (INT64CONST(1) << 30)

#define OWNER_PATH "pg_catalog, pg_temp"

/* One transaction's worth of files. */
typedef struct Batch
{
	int			count;
	LhCleanFile files[PASS_FILES];
} Batch;

static void set_synchronous(void);
static LhSource *open_pass(int32 source_id, LhCleanPass *pass, LhCleanOptions *options);
static void close_pass(LhCleanPass *pass);
static bool plan(LhCleanPass *pass, const LhCleanOptions *options, TimestampTz due_before,
				 ArrayType **intended, LhCleanCounts *counts);
static void act(LhCleanPass *pass, ArrayType *intended, LhCleanCounts *counts);

/* ------------------------------------------------------------- the journal */

static void
begin(LhCatalog *catalog)
{
	lh_catalog_begin(catalog);
	lh_catalog_by_index();
}

/*
 * read_files copies the files of the last result into the current context.
 */
static void
read_files(Batch *batch, uint64 count, MemoryContext context)
{
	batch->count = (int) count;
	for (uint64 row = 0; row < count; row++)
	{
		LhCleanFile *file = &batch->files[row];

		file->file_id = lh_catalog_int64(row, 1, 0);
		file->path = lh_catalog_text(row, 2, context);
		file->size = lh_catalog_int64(row, 3, 0);
		file->mtime_ns = lh_catalog_int64(row, 4, 0);
		file->hash = lh_catalog_int64(row, 5, 0);
		file->mode = lh_catalog_text(row, 6, context);
		file->acting = lh_catalog_int64(row, 7, 0) != 0;
		file->target = lh_catalog_text(row, 8, context);
		file->attempts = (int32) lh_catalog_int64(row, 9, 0);
		file->objection = lh_catalog_text(row, 10, context);
	}
}

#define FILE_COLUMNS \
	" c.file_id, f.path, f.size, f.mtime_ns, f.hash, c.mode," \
	" (c.state OPERATOR(pg_catalog.=) 'acting')::pg_catalog.int4, c.target, c.attempts," \
	" CASE WHEN f.ended IS NOT NULL OR f.seen_size IS NOT NULL THEN 'the source saw another version of the file'" \
	"      WHEN f.state OPERATOR(pg_catalog.<>) 'loaded' THEN pg_catalog.concat('the file is ', f.state)" \
	" END"

/*
 * read_due reads files that were due before a time, and locks them.
 */
static void
read_due(int32 source_id, TimestampTz due_before, Batch *batch)
{
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID, INT4OID};
	Datum		values[3] = {Int32GetDatum(source_id), TimestampTzGetDatum(due_before), Int32GetDatum(PASS_FILES)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	begin(&catalog);
	read_files(batch, lh_catalog_run("SELECT" FILE_COLUMNS
									 " FROM lakehouse.file_clean c JOIN lakehouse.file f"
									 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
									 " WHERE c.source_id OPERATOR(pg_catalog.=) $1 AND c.due OPERATOR(pg_catalog.<=) $2"
									 " ORDER BY c.due LIMIT $3 FOR UPDATE OF c, f SKIP LOCKED",
									 3, types, values, NULL), context);
	lh_catalog_end(&catalog);
}

/*
 * read_intended reads files with an intent once more, and locks them.
 */
static void
read_intended(ArrayType *ids, Batch *batch)
{
	static const Oid types[] = {INT8ARRAYOID};
	Datum		value = PointerGetDatum(ids);
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	begin(&catalog);
	read_files(batch, lh_catalog_run("SELECT" FILE_COLUMNS
									 " FROM lakehouse.file_clean c JOIN lakehouse.file f"
									 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
									 " WHERE c.file_id OPERATOR(pg_catalog.=) ANY ($1)"
									 "   AND c.state OPERATOR(pg_catalog.=) 'acting'"
									 " FOR UPDATE OF c, f SKIP LOCKED",
									 1, types, &value, NULL), context);
	lh_catalog_end(&catalog);
}

static void
write_intent(const LhCleanFile *file)
{
	static const Oid types[] = {INT8OID, TEXTOID};
	Datum		values[2] = {Int64GetDatum(file->file_id), file->target ? CStringGetTextDatum(file->target) : (Datum) 0};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET state = 'acting', target = $2"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 2, types, values, file->target ? "  " : " n");
	lh_catalog_end(&catalog);
}

/*
 * write_end enters that nothing more will happen to a file.
 */
static void
write_end(const LhCleanFile *file, const char *state, int sqlstate, const char *reason)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[4] = {Int64GetDatum(file->file_id), CStringGetTextDatum(state),
		reason ? CStringGetTextDatum(unpack_sql_state(sqlstate)) : (Datum) 0,
	reason ? CStringGetTextDatum(reason) : (Datum) 0};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET state = $2, sqlstate = $3, error = $4,"
				   "  target = CASE $2 WHEN 'moved' THEN target END,"
				   "  finished = pg_catalog.clock_timestamp(), due = NULL, attempts = 0"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 4, types, values, reason ? "    " : "  nn");
	lh_catalog_end(&catalog);
}

/*
 * write_put_off enters why a file is not cleaned up yet, and when to try again.
 * If its name at the target is taken, another one is to be chosen.
 */
static void
write_put_off(const LhCleanFile *file, int sqlstate, const char *reason)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BOOLOID};
	Datum		values[5] = {Int64GetDatum(file->file_id), CStringGetTextDatum(unpack_sql_state(sqlstate)),
		CStringGetTextDatum(reason),
		TimestampTzGetDatum(GetCurrentTimestamp() + lh_backoff_us(file->attempts + 1)),
	BoolGetDatum(sqlstate == ERRCODE_DUPLICATE_FILE)};
	LhCatalog	catalog;

	begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET sqlstate = $2, error = $3, due = $4,"
				   "  attempts = attempts OPERATOR(pg_catalog.+) 1, state = CASE WHEN $5 THEN 'waiting' ELSE state END"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 5, types, values, NULL);
	lh_catalog_end(&catalog);
}

void
lh_clean_enter(int32 source_id, int64 file_id, const LhCleanOptions *options)
{
	static const Oid types[] = {INT4OID, INT8OID, TEXTOID, INTERVALOID};
	Datum		values[4] = {Int32GetDatum(source_id), Int64GetDatum(file_id), (Datum) 0,
	IntervalPGetDatum(options->retention)};
	LhCatalog	catalog;

	if (options->mode == LH_CLEAN_OFF)
		return;
	values[2] = CStringGetTextDatum(lh_clean_mode_name(options->mode));
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.file_clean (file_id, source_id, mode, due)"
				   " VALUES ($2, $1, $3, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $4)"
				   " ON CONFLICT DO NOTHING",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_clean_redefine: what waits follows the new options, but never more harshly
 * than when it was loaded, unless they are to apply to the past.
 */
void
lh_clean_redefine(int32 source_id, Jsonb *options)
{
	static const Oid types[] = {INT4OID, TEXTOID, INTERVALOID, BOOLOID};
	LhCleanOptions clean;
	Datum		values[4];
	LhCatalog	catalog;

	lh_clean_options_parse(options, &clean);
	values[0] = Int32GetDatum(source_id);
	lh_catalog_begin(&catalog);
	if (clean.mode == LH_CLEAN_OFF)
		lh_catalog_run("DELETE FROM lakehouse.file_clean"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'waiting'",
					   1, types, values, NULL);
	else
	{
		values[1] = CStringGetTextDatum(lh_clean_mode_name(clean.mode));
		values[2] = IntervalPGetDatum(clean.retention);
		values[3] = BoolGetDatum(clean.apply_to_past);
		lh_catalog_run("UPDATE lakehouse.file_clean c SET attempts = 0, sqlstate = NULL, error = NULL,"
					   "  mode = CASE WHEN $4 OR $2 OPERATOR(pg_catalog.=) 'move' THEN $2 ELSE c.mode END,"
					   "  due = f.loaded OPERATOR(pg_catalog.+) $3"
					   " FROM lakehouse.file f"
					   " WHERE c.source_id OPERATOR(pg_catalog.=) $1 AND c.state OPERATOR(pg_catalog.=) 'waiting'"
					   "   AND f.file_id OPERATOR(pg_catalog.=) c.file_id",
					   4, types, values, NULL);
		lh_catalog_run("INSERT INTO lakehouse.file_clean (file_id, source_id, mode, due)"
					   " SELECT file_id, source_id, $2, loaded OPERATOR(pg_catalog.+) $3 FROM lakehouse.file"
					   " WHERE $4 AND source_id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'loaded'"
					   "   AND ended IS NULL AND loaded IS NOT NULL"
					   " ON CONFLICT DO NOTHING",
					   4, types, values, NULL);
	}
	lh_catalog_end(&catalog);
}

void
lh_clean_hurry(int32 source_id)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(source_id);
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file_clean SET due = pg_catalog.clock_timestamp()"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND due IS NOT NULL"
				   "   AND attempts OPERATOR(pg_catalog.>) 0", 1, types, &value, NULL);
	lh_catalog_end(&catalog);
}

List *
lh_clean_due(Oid owner)
{
	static const Oid types[] = {TEXTOID, OIDOID};
	Datum		values[2] = {CStringGetTextDatum(lh_catalog_home()), ObjectIdGetDatum(owner)};
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	LhCatalog	catalog;
	uint64		count;

	begin(&catalog);
	count = lh_catalog_run("SELECT s.source_id, s.owner FROM lakehouse.source s"
						   " LEFT JOIN lakehouse.source_state t ON t.source_id OPERATOR(pg_catalog.=) s.source_id"
						   " WHERE s.kind OPERATOR(pg_catalog.=) 'files' AND s.paused IS NULL"
						   "   AND s.home OPERATOR(pg_catalog.=) $1"
						   "   AND ($2 OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.owner OPERATOR(pg_catalog.=) $2)"
						   "   AND (t.clean_retry_at IS NULL OR t.clean_retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
						   "   AND EXISTS (SELECT FROM lakehouse.file_clean c"
						   "     WHERE c.source_id OPERATOR(pg_catalog.=) s.source_id"
						   "       AND c.due OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())"
						   " ORDER BY s.source_id",
						   2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		if (OidIsValid(owner))
			result = lappend_int(result, (int) lh_catalog_int64(row, 1, 0));
		else
			result = list_append_unique_oid(result, lh_catalog_oid(row, 2));
		MemoryContextSwitchTo(spi);
	}
	lh_catalog_end(&catalog);
	return result;
}

void
lh_clean_failed(int32 source_id, int sqlstate, const char *message)
{
	static const Oid types[] = {INT4OID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[4] = {Int32GetDatum(source_id), CStringGetTextDatum(unpack_sql_state(sqlstate)),
	CStringGetTextDatum(message), (Datum) 0};
	LhCatalog	catalog;
	int32		failures = 1;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT clean_failures OPERATOR(pg_catalog.+) 1 FROM lakehouse.source_state"
					   " WHERE source_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 1, types, values, NULL) > 0)
		failures = (int32) lh_catalog_int64(0, 1, 1);
	values[3] = Int64GetDatum(lh_backoff_us(failures) / 1000);
	lh_catalog_run("INSERT INTO lakehouse.source_state AS s (source_id, clean_failures, clean_sqlstate, clean_error, clean_retry_at)"
				   " SELECT source_id, 1, $2, $3, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+)"
				   "   pg_catalog.make_interval(secs => $4 OPERATOR(pg_catalog./) 1000.0::pg_catalog.float8)"
				   " FROM lakehouse.source WHERE source_id OPERATOR(pg_catalog.=) $1"
				   " ON CONFLICT (source_id) DO UPDATE SET clean_failures = s.clean_failures OPERATOR(pg_catalog.+) 1,"
				   "   clean_sqlstate = excluded.clean_sqlstate, clean_error = excluded.clean_error,"
				   "   clean_retry_at = excluded.clean_retry_at",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}

static void
note_success(int32 source_id)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(source_id);
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.source_state SET clean_failures = 0, clean_sqlstate = NULL, clean_error = NULL,"
				   "   clean_retry_at = NULL"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND clean_failures OPERATOR(pg_catalog.>) 0",
				   1, types, &value, NULL);
	lh_catalog_end(&catalog);
}

/* --------------------------------------------------------------- the passes */

/*
 * lh_clean_run goes on until nothing is due that was due when it began.
 */
void
lh_clean_run(int32 source_id, const LhCleanTransaction *transaction, bool (*stop) (void),
			 LhCleanCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse clean-up",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	TimestampTz due_before = GetCurrentTimestamp();
	bool		more = true;

	while (more && (stop == NULL || !stop()))
	{
		LhCleanPass pass = {.context = context};
		ArrayType  *intended = NULL;
		LhCleanOptions options;

		transaction->begin();
		set_synchronous();
		more = open_pass(source_id, &pass, &options) != NULL &&
			plan(&pass, &options, due_before, &intended, counts);
		close_pass(&pass);
		LH_FAULT("archive-intent");
		transaction->commit();
		if (intended != NULL)
		{
			/* the intents, and with them the loads, are there whatever happens now */
			XLogFlush(XactLastCommitEnd);
			LH_FAULT("before-archive");
			/* a new server may have other plans with the file */
			if (!PostmasterIsAlive())
				proc_exit(1);
			memset(&pass, 0, sizeof(pass));
			pass.context = context;
			transaction->begin();
			if (open_pass(source_id, &pass, &options) != NULL)
				act(&pass, intended, counts);
			close_pass(&pass);
			LH_FAULT("archive-mark");
			transaction->commit();
		}
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/*
 * set_synchronous makes the commit of this transaction wait until it is durable,
 * on synchronous standbys as well, whatever the role or database has set.
 */
static void
set_synchronous(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * open_pass becomes the owner of the source, checks what it may do, and opens
 * the directory; NULL if the source may not run.
 */
static LhSource *
open_pass(int32 source_id, LhCleanPass *pass, LhCleanOptions *options)
{
	LhSource   *source = lh_source_get_if(source_id);
	char	   *obstacle;

	if (source == NULL || source->paused != NULL)
		return NULL;
	obstacle = lh_source_obstacle(source);
	if (obstacle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot clean up after source \"%s\"", source->name),
				 errdetail_internal("%s", obstacle)));
	lh_clean_options_parse(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options))),
						   options);
	lh_identity_role(&pass->identity, source->owner, OWNER_PATH);
	pass->source = source;
	lh_clean_check_role(source->owner, source->name);
	pass->root = lh_file_root_open(source->server);
	pass->real_root = lh_root_real_path(pass->root);
	pass->others = lh_clean_find_others(source);
	note_success(source_id);
	return source;
}

static void
close_pass(LhCleanPass *pass)
{
	if (pass->source == NULL)
		return;
	lh_clean_sync(pass);
	lh_identity_restore(&pass->identity);
}

/* A subtransaction around what may fail for one file. */
typedef struct Guard
{
	MemoryContext context;
	ResourceOwner owner;
} Guard;

static void
begin_guard(Guard *guard)
{
	guard->context = CurrentMemoryContext;
	guard->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(guard->context);
}

static void
end_guard(const Guard *guard)
{
	ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(guard->context);
	CurrentResourceOwner = guard->owner;
}

/*
 * catch_guard rolls the subtransaction back and returns why; an interrupt is
 * raised again.
 */
static const char *
catch_guard(const Guard *guard, int *sqlstate)
{
	ErrorData  *error;

	MemoryContextSwitchTo(guard->context);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(guard->context);
	CurrentResourceOwner = guard->owner;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	*sqlstate = error->sqlerrcode;
	return error->message;
}

/*
 * prepare looks whether a file is there, and chooses its target.  Gives the
 * reason why nothing is to be done with it; *final if nothing ever will.
 */
static const char *
prepare(LhCleanPass *pass, const LhCleanOptions *options, LhCleanFile *file, bool *final, int *sqlstate)
{
	*final = false;
	*sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	if (file->attempts == 0 && !lh_clean_is_there(pass, file))
	{
		*final = true;
		*sqlstate = ERRCODE_UNDEFINED_FILE;
		return "the file is not there any more";
	}
	if (strcmp(file->mode, "move") != 0)
		return NULL;
	if (options->target == NULL)
		return "the source has no option \"clean_source_move_target\" any more";
	file->target = lh_clean_choose_target(pass, file, options->target);
	return NULL;
}

/*
 * plan_file journals the intent for one file; false if it is not to be acted on
 * now.
 */
static bool
plan_file(LhCleanPass *pass, const LhCleanOptions *options, LhCleanFile *file, LhCleanCounts *counts)
{
	Guard		guard;
	const char *reason = NULL;
	bool		final = false;
	int			sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;

	/* what was begun must be looked at, whatever is against it now */
	if (file->acting)
		return true;
	if (file->objection != NULL && file->attempts == 0)
	{
		final = true;
		reason = file->objection;
	}
	else if (file->objection == NULL && (reason = lh_clean_unfinished(pass, file)) != NULL)
	{
		write_put_off(file, ERRCODE_OBJECT_IN_USE, reason);
		counts->waiting++;
		return false;
	}
	else if (file->objection == NULL)
	{
		begin_guard(&guard);
		PG_TRY();
		{
			reason = prepare(pass, options, file, &final, &sqlstate);
			end_guard(&guard);
		}
		PG_CATCH();
		{
			reason = catch_guard(&guard, &sqlstate);
			final = false;
		}
		PG_END_TRY();
	}
	if (reason == NULL)
	{
		write_intent(file);
		return true;
	}
	if (final)
	{
		write_end(file, "left", sqlstate, reason);
		counts->left++;
	}
	else
	{
		write_put_off(file, sqlstate, reason);
		counts->failed++;
	}
	return false;
}

/*
 * plan journals what is to be done next, and gives the files; false if nothing
 * more is due.
 */
static bool
plan(LhCleanPass *pass, const LhCleanOptions *options, TimestampTz due_before,
	 ArrayType **intended, LhCleanCounts *counts)
{
	Batch	   *batch = palloc(sizeof(Batch));
	Datum		ids[PASS_FILES];
	int			count = 0;
	int64		bytes = 0;

	read_due(pass->source->source_id, due_before, batch);
	for (int i = 0; i < batch->count && bytes < PASS_BYTES; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!plan_file(pass, options, &batch->files[i], counts))
			continue;
		ids[count++] = Int64GetDatum(batch->files[i].file_id);
		bytes += batch->files[i].size;
	}
	if (count > 0)
		*intended = construct_array(ids, count, INT8OID, 8, true, TYPALIGN_DOUBLE);
	return batch->count > 0;
}

/*
 * act_file acts on one file, in a subtransaction that ends well or gives the
 * reason.
 */
static LhCleanVerdict
act_file(LhCleanPass *pass, LhCleanFile *file, const char **reason, int *sqlstate)
{
	volatile LhCleanVerdict unwanted = LH_CLEAN_LEFT;
	volatile LhCleanVerdict verdict = LH_CLEAN_FAILED;
	Guard		guard;

	if (file->objection == NULL && (file->objection = lh_clean_unfinished(pass, file)) != NULL)
		unwanted = LH_CLEAN_WAITS;
	begin_guard(&guard);
	PG_TRY();
	{
		verdict = lh_clean_act(pass, file, unwanted, reason, sqlstate);
		end_guard(&guard);
	}
	PG_CATCH();
	{
		*reason = catch_guard(&guard, sqlstate);
		verdict = LH_CLEAN_FAILED;
	}
	PG_END_TRY();
	return verdict;
}

/*
 * act brings files with an intent to their end, and enters what came of it.
 */
static void
act(LhCleanPass *pass, ArrayType *intended, LhCleanCounts *counts)
{
	Batch	   *batch = palloc(sizeof(Batch));

	read_intended(intended, batch);
	for (int i = 0; i < batch->count; i++)
	{
		LhCleanFile *file = &batch->files[i];
		const char *reason = NULL;
		int			sqlstate = 0;

		CHECK_FOR_INTERRUPTS();
		switch (act_file(pass, file, &reason, &sqlstate))
		{
			case LH_CLEAN_MOVED:
				write_end(file, "moved", 0, NULL);
				counts->moved++;
				break;
			case LH_CLEAN_DELETED:
				write_end(file, "deleted", 0, NULL);
				counts->deleted++;
				break;
			case LH_CLEAN_LEFT:
				write_end(file, "left", sqlstate, reason);
				counts->left++;
				break;
			case LH_CLEAN_WAITS:
				write_put_off(file, ERRCODE_OBJECT_IN_USE, reason);
				counts->waiting++;
				break;
			case LH_CLEAN_FAILED:
				write_put_off(file, sqlstate, reason);
				counts->failed++;
				break;
		}
	}
}

/* -------------------------------------------------------------- for others */

/*
 * read_acting reads what of a source was begun and not finished.
 */
static void
read_acting(int32 source_id, Batch *batch)
{
	static const Oid types[] = {INT4OID, INT4OID};
	Datum		values[2] = {Int32GetDatum(source_id), Int32GetDatum(PASS_FILES)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	read_files(batch, lh_catalog_run("SELECT" FILE_COLUMNS
									 " FROM lakehouse.file_clean c JOIN lakehouse.file f"
									 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
									 " WHERE c.source_id OPERATOR(pg_catalog.=) $1 AND c.due IS NOT NULL"
									 "   AND c.state OPERATOR(pg_catalog.=) 'acting'"
									 " LIMIT $2 FOR UPDATE OF c",
									 2, types, values, NULL), context);
	lh_catalog_end(&catalog);
}

/*
 * abandon_file gives a file its own name back.
 */
static void
abandon_file(LhCleanPass *pass, LhCleanFile *file)
{
	const char *reason = NULL;
	int			sqlstate = 0;
	Guard		guard;

	file->objection = "the source is dropped";
	begin_guard(&guard);
	PG_TRY();
	{
		LhIdentity	identity;

		if (pass->root == NULL)
		{
			lh_identity_role(&identity, pass->source->owner, OWNER_PATH);
			pass->root = lh_file_root_open(pass->source->server);
			lh_identity_restore(&identity);
		}
		(void) lh_clean_act(pass, file, LH_CLEAN_LEFT, &reason, &sqlstate);
		end_guard(&guard);
	}
	PG_CATCH();
	{
		reason = catch_guard(&guard, &sqlstate);
		ereport(WARNING,
				(errcode(sqlstate),
				 errmsg("file \"%s\" may have kept the name that it got to be cleaned up: %s",
						file->path, reason)));
	}
	PG_END_TRY();
	write_end(file, "left", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, file->objection);
}

void
lh_clean_abandon(const LhSource *source)
{
	Batch	   *batch = palloc(sizeof(Batch));
	LhCleanPass pass = {.source = source, .context = CurrentMemoryContext};

	do
	{
		read_acting(source->source_id, batch);
		for (int i = 0; i < batch->count; i++)
			abandon_file(&pass, &batch->files[i]);
		lh_clean_sync(&pass);
	} while (batch->count > 0);
}

void
lh_clean_check_present(const LhSource *source, const char *path)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(source->source_id), CStringGetTextDatum(path)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	LhIdentity	identity;
	LhDescriptor *root;
	LhDescriptor *file;
	char	   *target = NULL;
	bool		cleaned;

	/* waits for whoever acts on it just now */
	lh_catalog_begin(&catalog);
	cleaned = lh_catalog_run("SELECT c.target FROM lakehouse.file_clean c JOIN lakehouse.file f"
							 "   ON f.file_id OPERATOR(pg_catalog.=) c.file_id"
							 " WHERE f.source_id OPERATOR(pg_catalog.=) $1 AND f.path OPERATOR(pg_catalog.=) $2"
							 "   AND f.ended IS NULL AND c.state OPERATOR(pg_catalog.=) ANY ('{acting,moved,deleted}')"
							 " FOR UPDATE OF c", 2, types, values, NULL) > 0;
	if (cleaned)
		target = lh_catalog_text(0, 1, context);
	lh_catalog_end(&catalog);
	if (!cleaned || !OidIsValid(source->server))
		return;
	lh_identity_role(&identity, source->owner, OWNER_PATH);
	root = lh_file_root_open(source->server);
	file = lh_file_open(root, path);
	lh_identity_restore(&identity);
	if (file == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("file \"%s\" of source \"%s\" is not there any more", path, source->name),
				 target ? errdetail("After it was loaded it was moved to \"%s\".", target) :
				 errdetail("After it was loaded it was deleted."),
				 errhint("Option \"clean_source\" of the source says so; put the file back to its path first.")));
	lh_descriptor_close(file);
	lh_descriptor_close(root);
}
