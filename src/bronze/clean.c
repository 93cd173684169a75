/*
 * clean.c
 *	  What becomes of files after their load.
 *
 * Two transactions bring a file further (clean_journal.c).  The first writes
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
#include "utils/timestamp.h"

#include "bronze/clean_internal.h"
#include "bronze/file_ingest.h"
#include "catalog/catalog_access.h"
#include "catalog/subtransaction.h"
#include "fault.h"
#include "source/file_root.h"

/* bytes of files that are read in one transaction */
#define PASS_BYTES (INT64CONST(1) << 30)

#define OWNER_PATH "pg_catalog, pg_temp"

static void set_synchronous(void);
static LhSource *open_pass(int32 source_id, LhCleanPass *pass, LhCleanOptions *options);
static void close_pass(LhCleanPass *pass);
static bool plan(LhCleanPass *pass, const LhCleanOptions *options, TimestampTz due_before,
				 ArrayType **intended, LhCleanCounts *counts);
static void act(LhCleanPass *pass, ArrayType *intended, LhCleanCounts *counts);

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
	lh_clean_succeeded(source_id);
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

/*
 * why_not rolls the subtransaction around one file back and returns why; an
 * interrupt is raised again.
 */
static const char *
why_not(const LhSubtransaction *sub, int *sqlstate)
{
	ErrorData  *error = lh_subtransaction_caught(sub);

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
	LhSubtransaction sub;
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
		lh_clean_write_put_off(file, ERRCODE_OBJECT_IN_USE, reason);
		counts->waiting++;
		return false;
	}
	else if (file->objection == NULL)
	{
		lh_subtransaction_begin(&sub);
		PG_TRY();
		{
			reason = prepare(pass, options, file, &final, &sqlstate);
			lh_subtransaction_commit(&sub);
		}
		PG_CATCH();
		{
			reason = why_not(&sub, &sqlstate);
			final = false;
		}
		PG_END_TRY();
	}
	if (reason == NULL)
	{
		lh_clean_write_intent(file);
		return true;
	}
	if (final)
	{
		lh_clean_write_end(file, "left", sqlstate, reason);
		counts->left++;
	}
	else
	{
		lh_clean_write_put_off(file, sqlstate, reason);
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
	LhCleanBatch	   *batch = palloc(sizeof(LhCleanBatch));
	Datum		ids[LH_CLEAN_PASS_FILES];
	int			count = 0;
	int64		bytes = 0;

	lh_clean_read_due(pass->source->source_id, due_before, batch);
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
	LhSubtransaction sub;

	if (file->objection == NULL && (file->objection = lh_clean_unfinished(pass, file)) != NULL)
		unwanted = LH_CLEAN_WAITS;
	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		verdict = lh_clean_act(pass, file, unwanted, reason, sqlstate);
		lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		*reason = why_not(&sub, sqlstate);
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
	LhCleanBatch	   *batch = palloc(sizeof(LhCleanBatch));

	lh_clean_read_intended(intended, batch);
	for (int i = 0; i < batch->count; i++)
	{
		LhCleanFile *file = &batch->files[i];
		const char *reason = NULL;
		int			sqlstate = 0;

		CHECK_FOR_INTERRUPTS();
		switch (act_file(pass, file, &reason, &sqlstate))
		{
			case LH_CLEAN_MOVED:
				lh_clean_write_end(file, "moved", 0, NULL);
				counts->moved++;
				break;
			case LH_CLEAN_DELETED:
				lh_clean_write_end(file, "deleted", 0, NULL);
				counts->deleted++;
				break;
			case LH_CLEAN_LEFT:
				lh_clean_write_end(file, "left", sqlstate, reason);
				counts->left++;
				break;
			case LH_CLEAN_WAITS:
				lh_clean_write_put_off(file, ERRCODE_OBJECT_IN_USE, reason);
				counts->waiting++;
				break;
			case LH_CLEAN_FAILED:
				lh_clean_write_put_off(file, sqlstate, reason);
				counts->failed++;
				break;
		}
	}
}

/* -------------------------------------------------------------- for others */

/*
 * abandon_file gives a file its own name back.
 */
static void
abandon_file(LhCleanPass *pass, LhCleanFile *file)
{
	const char *reason = NULL;
	int			sqlstate = 0;
	LhSubtransaction sub;

	file->objection = "the source is dropped";
	lh_subtransaction_begin(&sub);
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
		lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		reason = why_not(&sub, &sqlstate);
		ereport(WARNING,
				(errcode(sqlstate),
				 errmsg("file \"%s\" may have kept the name that it got to be cleaned up: %s",
						file->path, reason)));
	}
	PG_END_TRY();
	lh_clean_write_end(file, "left", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, file->objection);
}

void
lh_clean_abandon(const LhSource *source)
{
	LhCleanBatch	   *batch = palloc(sizeof(LhCleanBatch));
	LhCleanPass pass = {.source = source, .context = CurrentMemoryContext};

	do
	{
		lh_clean_read_acting(source->source_id, batch);
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
