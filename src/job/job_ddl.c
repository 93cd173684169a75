/*
 * job_ddl.c
 *	  create, alter, drop, pause, resume and schedule a job.
 *
 * A run works on a copy of the definition, so a job may be altered at any time;
 * it is dropped only while no run is open.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "catalog/catalog_access.h"
#include "job/job.h"

static char *job_name_arg(FunctionCallInfo fcinfo, int arg);
static void require_arg(FunctionCallInfo fcinfo, int arg, const char *name);
static LhJob *find_job(const char *name, bool missing_ok);
static LhJob *find_own_job(const char *name);
static void store_definition(const char *name, int32 job_id, Jsonb *definition);
static void set_schedule(int32 job_id, const char *schedule, int64 cron_job_id);

PG_FUNCTION_INFO_V1(lakehouse_create_job);
PG_FUNCTION_INFO_V1(lakehouse_alter_job);
PG_FUNCTION_INFO_V1(lakehouse_drop_job);
PG_FUNCTION_INFO_V1(lakehouse_pause_job);
PG_FUNCTION_INFO_V1(lakehouse_resume_job);
PG_FUNCTION_INFO_V1(lakehouse_schedule_job);
PG_FUNCTION_INFO_V1(lakehouse_unschedule_job);

static void
require_arg(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

static char *
job_name_arg(FunctionCallInfo fcinfo, int arg)
{
	require_arg(fcinfo, arg, "name");
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * find_job reads a job's row into the current context.
 */
static LhJob *
find_job(const char *name, bool missing_ok)
{
	static const Oid types[] = {TEXTOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		value = CStringGetTextDatum(name);
	LhJob	   *job = palloc0(sizeof(LhJob));
	LhCatalog	catalog;
	bool		found;

	lh_catalog_begin(&catalog);
	found = lh_catalog_run("SELECT job_id, owner, definition, path, schedule, cron_job_id, paused"
						   " FROM lakehouse.job WHERE name OPERATOR(pg_catalog.=) $1",
						   1, types, &value, NULL) > 0;
	if (found)
	{
		bool		isnull;
		Datum		definition = lh_catalog_value(0, 3, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		job->job_id = (int32) lh_catalog_int64(0, 1, 0);
		job->name = pstrdup(name);
		job->owner = lh_catalog_oid(0, 2);
		job->definition = DatumGetJsonbPCopy(definition);
		job->path = lh_catalog_text(0, 4, context);
		job->schedule = lh_catalog_text(0, 5, context);
		job->cron_job_id = lh_catalog_int64(0, 6, 0);
		job->paused = lh_catalog_text(0, 7, context);
		MemoryContextSwitchTo(old);
	}
	lh_catalog_end(&catalog);
	if (found)
		return job;
	if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job \"%s\" does not exist", name)));
	return NULL;
}

/*
 * lh_job_find returns a job in the current context; raises 42704.
 */
LhJob *
lh_job_find(const char *name)
{
	return find_job(name, false);
}

static LhJob *
find_own_job(const char *name)
{
	LhJob	   *job = find_job(name, false);

	lh_catalog_check_owner(job->owner, "job", name);
	return job;
}

/*
 * lakehouse.create_job(name, definition, replace)
 */
Datum
lakehouse_create_job(PG_FUNCTION_ARGS)
{
	char	   *name = job_name_arg(fcinfo, 0);
	Jsonb	   *definition;
	bool		replace = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	LhJob	   *job = find_job(name, true);

	require_arg(fcinfo, 1, "definition");
	definition = PG_GETARG_JSONB_P(1);
	if (name[0] == '\0' || strlen(name) > 200)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a job must be from 1 to 200 bytes long")));
	if (job && !replace)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("job \"%s\" already exists", name),
				 errhint("Use alter_job, or create_job with replace => true.")));
	if (job)
		lh_catalog_check_owner(job->owner, "job", name);
	store_definition(name, job ? job->job_id : 0, definition);
	PG_RETURN_VOID();
}

/*
 * lakehouse.alter_job(name, definition)
 */
Datum
lakehouse_alter_job(PG_FUNCTION_ARGS)
{
	LhJob	   *job = find_own_job(job_name_arg(fcinfo, 0));

	require_arg(fcinfo, 1, "definition");
	store_definition(job->name, job->job_id, PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

/*
 * store_definition checks a definition and writes it; job_id 0 makes a new job
 * that belongs to the current user.
 */
static void
store_definition(const char *name, int32 job_id, Jsonb *definition)
{
	static const Oid types[] = {INT4OID, TEXTOID, OIDOID, JSONBOID, TEXTOID};
	Datum		values[5];
	LhCatalog	catalog;

	lh_job_definition_check(name, lh_job_definition_parse(name, definition));
	values[0] = Int32GetDatum(job_id);
	values[1] = CStringGetTextDatum(name);
	values[2] = ObjectIdGetDatum(GetUserId());
	values[3] = JsonbPGetDatum(definition);
	values[4] = CStringGetTextDatum(lh_catalog_current_path());
	lh_catalog_begin(&catalog);
	if (job_id == 0)
		lh_catalog_run("INSERT INTO lakehouse.job (name, owner, definition, path)"
					   " SELECT $2, $3, $4, $5 WHERE $1 OPERATOR(pg_catalog.=) 0",
					   5, types, values, NULL);
	else
		lh_catalog_run("UPDATE lakehouse.job SET definition = $4, path = $5"
					   " WHERE job_id OPERATOR(pg_catalog.=) $1"
					   " AND name OPERATOR(pg_catalog.=) $2 AND $3 IS NOT NULL",
					   5, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lakehouse.drop_job(name) forgets the job, its history and its schedule.
 */
Datum
lakehouse_drop_job(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4OID};
	LhJob	   *job = find_own_job(job_name_arg(fcinfo, 0));
	Datum		value = Int32GetDatum(job->job_id);
	LhCatalog	catalog;

	/* a run that is being taken up holds this lock */
	lh_catalog_lock(LH_LOCK_JOB, job->job_id, true);
	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT run_id FROM lakehouse.job_run"
					   " WHERE job_id OPERATOR(pg_catalog.=) $1"
					   " AND state OPERATOR(pg_catalog.=) ANY ('{queued,running}') ORDER BY run_id",
					   1, types, &value, NULL) > 0)
	{
		int64		run_id = lh_catalog_int64(0, 1, 0);

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job \"%s\" is running", job->name),
				 errhint("Wait for run " INT64_FORMAT " or cancel it with cancel_job_run.", run_id)));
	}
	lh_catalog_run("DELETE FROM lakehouse.task_run WHERE run_id OPERATOR(pg_catalog.=) ANY"
				   " (ARRAY(SELECT run_id FROM lakehouse.job_run WHERE job_id OPERATOR(pg_catalog.=) $1))",
				   1, types, &value, NULL);
	lh_catalog_run("DELETE FROM lakehouse.job_run WHERE job_id OPERATOR(pg_catalog.=) $1",
				   1, types, &value, NULL);
	lh_catalog_run("DELETE FROM lakehouse.job WHERE job_id OPERATOR(pg_catalog.=) $1",
				   1, types, &value, NULL);
	lh_catalog_end(&catalog);
	if (job->cron_job_id != 0)
		lh_cron_unschedule(job);
	PG_RETURN_VOID();
}

static void
set_paused(int32 job_id, const char *reason)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	LhCatalog	catalog;

	values[0] = Int32GetDatum(job_id);
	values[1] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.job SET paused = $2 WHERE job_id OPERATOR(pg_catalog.=) $1",
				   2, types, values, reason ? "  " : " n");
	lh_catalog_end(&catalog);
	lh_job_changed = true;
}

/*
 * lakehouse.pause_job(name, reason): no run begins until resume_job; runs that
 * have begun go on.
 */
Datum
lakehouse_pause_job(PG_FUNCTION_ARGS)
{
	LhJob	   *job = find_own_job(job_name_arg(fcinfo, 0));

	set_paused(job->job_id,
			   PG_ARGISNULL(1) ? psprintf("paused by %s", GetUserNameFromId(GetUserId(), false))
			   : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

Datum
lakehouse_resume_job(PG_FUNCTION_ARGS)
{
	set_paused(find_own_job(job_name_arg(fcinfo, 0))->job_id, NULL);
	PG_RETURN_VOID();
}

/*
 * lakehouse.schedule_job(name, cron) hands the clock to pg_cron; a schedule
 * that the job had before is replaced.
 */
Datum
lakehouse_schedule_job(PG_FUNCTION_ARGS)
{
	LhJob	   *job = find_own_job(job_name_arg(fcinfo, 0));
	char	   *schedule;

	require_arg(fcinfo, 1, "cron");
	schedule = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (job->cron_job_id != 0)
		lh_cron_unschedule(job);
	set_schedule(job->job_id, schedule, lh_cron_schedule(job, schedule));
	PG_RETURN_VOID();
}

Datum
lakehouse_unschedule_job(PG_FUNCTION_ARGS)
{
	LhJob	   *job = find_own_job(job_name_arg(fcinfo, 0));

	if (job->cron_job_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" has no schedule", job->name)));
	lh_cron_unschedule(job);
	set_schedule(job->job_id, NULL, 0);
	PG_RETURN_VOID();
}

static void
set_schedule(int32 job_id, const char *schedule, int64 cron_job_id)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8OID};
	Datum		values[3];
	LhCatalog	catalog;

	values[0] = Int32GetDatum(job_id);
	values[1] = schedule ? CStringGetTextDatum(schedule) : (Datum) 0;
	values[2] = Int64GetDatum(cron_job_id);
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.job SET schedule = $2, cron_job_id = $3"
				   " WHERE job_id OPERATOR(pg_catalog.=) $1",
				   3, types, values, schedule ? "   " : " nn");
	lh_catalog_end(&catalog);
}
