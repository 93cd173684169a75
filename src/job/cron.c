/*
 * cron.c
 *	  The clock of jobs: the only file that talks to pg_cron.
 *
 * pg_cron only queues a run ("SELECT lakehouse.enqueue_job(...)", in the name
 * of whoever scheduled the job); background workers do the work.  The row in
 * cron.job is found again by its number, which is kept in lakehouse.job.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "job/job.h"

static void require_pg_cron(const LhJob *job, const char *schedule);
static char *cron_job_name(const LhJob *job);
static char *cron_command(const LhJob *job);

/*
 * lh_cron_schedule makes pg_cron queue a run of the job at the times of
 * "schedule", as the current user, and returns the number of its row.
 */
int64
lh_cron_schedule(const LhJob *job, const char *schedule)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];
	bool		isnull;
	int64		cron_job_id;

	require_pg_cron(job, schedule);
	values[0] = CStringGetTextDatum(cron_job_name(job));
	values[1] = CStringGetTextDatum(schedule);
	values[2] = CStringGetTextDatum(cron_command(job));
	SPI_connect();
	if (SPI_execute_with_args("SELECT cron.schedule($1, $2, $3)", 3, types, values, NULL,
							  false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "pg_cron did not schedule job \"%s\"", job->name);
	cron_job_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return cron_job_id;
}

/*
 * lh_cron_unschedule removes the job's row from pg_cron.  A row that is gone
 * already, or a pg_cron that is, costs a notice and no more.  After a restore
 * the number may be that of a row of somebody else, so the command must agree.
 */
void
lh_cron_unschedule(const LhJob *job)
{
	Oid			types[] = {INT8OID, TEXTOID};
	Datum		values[2];
	bool		found = false;

	values[0] = Int64GetDatum(job->cron_job_id);
	values[1] = CStringGetTextDatum(cron_command(job));

	if (OidIsValid(get_extension_oid("pg_cron", true)))
	{
		SPI_connect();
		SPI_execute_with_args("SELECT 1 FROM cron.job WHERE jobid OPERATOR(pg_catalog.=) $1"
							  " AND command OPERATOR(pg_catalog.=) $2",
							  2, types, values, NULL, true, 1);
		found = SPI_processed > 0;
		if (found)
			SPI_execute_with_args("SELECT cron.unschedule($1)", 1, types, values, NULL, false, 1);
		SPI_finish();
	}
	if (!found)
		ereport(NOTICE,
				(errmsg("pg_cron has no schedule of job \"%s\" that you may remove", job->name)));
}

/*
 * require_pg_cron raises, with the way out as a hint, unless cron.schedule can
 * be called here.
 */
static void
require_pg_cron(const LhJob *job, const char *schedule)
{
	const char *database = GetConfigOption("cron.database_name", true, false);
	char	   *here = get_database_name(MyDatabaseId);

	if (database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot schedule job \"%s\" because pg_cron is not loaded", job->name),
				 errhint("Install pg_cron, add it to shared_preload_libraries, set cron.database_name to \"%s\" and restart the server.", here)));
	if (OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	if (strcmp(database, here) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot schedule job \"%s\" because extension \"pg_cron\" is not installed in this database", job->name),
				 errhint("Run CREATE EXTENSION pg_cron.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot schedule job \"%s\" from this database", job->name),
			 errdetail("pg_cron keeps its schedules in database \"%s\".", database),
			 errhint("Run there: SELECT cron.schedule_in_database(%s, %s, %s, %s);",
					 quote_literal_cstr(cron_job_name(job)), quote_literal_cstr(schedule),
					 quote_literal_cstr(cron_command(job)), quote_literal_cstr(here))));
}

static char *
cron_job_name(const LhJob *job)
{
	return psprintf("lakehouse job %s", job->name);
}

static char *
cron_command(const LhJob *job)
{
	return psprintf("SELECT lakehouse.enqueue_job(%s)", quote_literal_cstr(job->name));
}
