/*
 * scheduler.c
 *	  Decides what runs in the background in one database.
 *
 * Logs in as the bootstrap superuser, and therefore runs nothing but our own
 * statements: whatever a user named is run by a worker that has logged in as
 * its owner.
 *
 * Each pass looks at all there is and starts what is missing, so nothing
 * depends on a signal being seen: signals only make the next pass come sooner.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "bronze/clean.h"
#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "compat.h"
#include "flow/flow.h"
#include "guc.h"
#include "job/job.h"
#include "outbox/outbox.h"
#include "worker/scheduler_internal.h"
#include "worker/worker.h"

/* without a wake-up the next pass comes after this */
#define PASS_MS 1000
/* with many wake-ups not more often than this */
#define PASS_MIN_MS 20
/* a worker that lived for this long has not failed at once */
#define HEALTHY_MS 60000

/* Workers that died, and when the next one may be started. */
typedef struct BackOff
{
	LhWorkerKind kind;
	int64		object;
	int			delay_ms;
	TimestampTz next;
} BackOff;

/* when the next pass must come because the delay of a retry is over */
static TimestampTz next_due = DT_NOEND;

static List *back_offs = NIL;

static long time_to_wait(void);
static bool extension_exists(void);
static bool try_pass(MemoryContext context);
static void do_pass(void);
static void review_slots(LhSchedulerPass *pass);
static void note_death(const LhSlot *slot);
static void put_off(const LhWorkerConfig *config);
static BackOff *find_back_off(LhWorkerKind kind, int64 object);
static LhSlot *find_slot(const LhSchedulerPass *pass, LhWorkerKind kind, int64 object, int *index);
static void serve_flows(LhSchedulerPass *pass);
static void serve_outbox(LhSchedulerPass *pass);
static void serve_clean_up(LhSchedulerPass *pass);
static void serve_sources(LhSchedulerPass *pass);
static bool serve_source(LhSchedulerPass *pass, const LhWorkerConfig *config);
static void show_waiting(const LhSchedulerPass *pass);

/*
 * lh_scheduler_run serves the database until it is told to leave or the
 * extension is dropped.
 */
void
lh_scheduler_run(const LhWorkerConfig *config)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "lakehouse scheduler",
												  ALLOCSET_DEFAULT_SIZES);

	while (!lh_slot_stop_requested())
	{
		TimestampTz begun = GetCurrentTimestamp();
		long		spent;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		if (!extension_exists())
			lh_worker_exit(LH_OUTCOME_NO_EXTENSION);
		if (!try_pass(context))
		{
			/* an extension dropped in mid-pass is no failure */
			if (!extension_exists())
				lh_worker_exit(LH_OUTCOME_NO_EXTENSION);
			if (lh_worker_wait(PASS_MS, "LakehouseScheduler"))
				break;
		}
		spent = TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp());
		if (spent < PASS_MIN_MS)
			pg_usleep((PASS_MIN_MS - spent) * 1000L);
		if (lh_worker_wait(time_to_wait(), "LakehouseScheduler"))
			break;
	}
}

static long
time_to_wait(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (next_due == DT_NOEND)
		return PASS_MS;
	return Min(PASS_MS, Max(1, TimestampDifferenceMilliseconds(now, next_due)));
}

void
lh_scheduler_come_by(TimestampTz when)
{
	next_due = Min(next_due, when);
}

static bool
extension_exists(void)
{
	bool		exists;

	lh_worker_begin("extension");
	exists = OidIsValid(get_extension_oid("lakehouse", true)) &&
		OidIsValid(get_namespace_oid("lakehouse", true));
	lh_worker_commit();
	return exists;
}

static bool
try_pass(MemoryContext context)
{
	volatile bool ok = true;

	PG_TRY();
	{
		do_pass();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		/* a table that is gone: see first whether the extension is */
		if (error->sqlerrcode != ERRCODE_UNDEFINED_TABLE && error->sqlerrcode != ERRCODE_UNDEFINED_OBJECT)
		{
			error->elevel = LOG;
			ThrowErrorData(error);
		}
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

/*
 * do_pass looks at everything once.  Flows and tasks come before sources: they
 * end, and so give their place back.
 */
static void
do_pass(void)
{
	LhSchedulerPass		pass = {0};

	next_due = DT_NOEND;
	review_slots(&pass);
	serve_flows(&pass);
	serve_outbox(&pass);
	lh_scheduler_serve_jobs(&pass);
	serve_clean_up(&pass);
	serve_sources(&pass);
	show_waiting(&pass);
}

/* -------------------------------------------------------------- the workers */

/*
 * review_slots counts the workers of this database and takes note of those that
 * have ended.
 */
static void
review_slots(LhSchedulerPass *pass)
{
	pass->slots = lh_slots_copy(&pass->nslots);
	for (int i = 0; i < pass->nslots; i++)
	{
		LhSlot	   *slot = &pass->slots[i];

		if (slot->state == LH_SLOT_FREE || slot->config.database != MyDatabaseId ||
			slot->config.kind == LH_WORKER_SCHEDULER)
			continue;
		lh_worker_check_started(slot, i);
		if (slot->state == LH_SLOT_DONE)
		{
			if (slot->outcome == LH_OUTCOME_DIED && !slot->stop)
				note_death(slot);
			lh_slot_free(i, slot->generation);
		}
		else
			pass->workers++;
	}
}

/*
 * note_death shows why a worker is not there, and puts off the next one for the
 * same object.  An attempt of a task ends with its worker; another attempt is
 * the job's decision.
 */
static void
note_death(const LhSlot *slot)
{
	const LhWorkerConfig *config = &slot->config;

	if (config->kind != LH_WORKER_TASK)
		put_off(config);
	lh_worker_begin("failure");
	if (config->kind == LH_WORKER_SOURCE)
		lh_source_failed((int32) config->object, ERRCODE_ADMIN_SHUTDOWN,
						 "the worker of the source ended abnormally; the server log says why");
	if (config->kind == LH_WORKER_TASK)
		(void) lh_scheduler_attempt_crashed(config->object, config->task_key, config->attempt);
	lh_worker_commit();
}

static void
put_off(const LhWorkerConfig *config)
{
	BackOff    *back_off = find_back_off(config->kind, config->object);

	if (back_off == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		back_off = palloc0(sizeof(BackOff));
		back_off->kind = config->kind;
		back_off->object = config->object;
		back_offs = lappend(back_offs, back_off);
		MemoryContextSwitchTo(old);
	}
	back_off->delay_ms = Min(Max(back_off->delay_ms * 2, 1000), HEALTHY_MS);
	back_off->next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), back_off->delay_ms);
}

static BackOff *
find_back_off(LhWorkerKind kind, int64 object)
{
	ListCell   *cell;

	foreach(cell, back_offs)
	{
		BackOff    *back_off = lfirst(cell);

		if (back_off->kind != kind || back_off->object != object)
			continue;
		/* long past: forgiven */
		if (TimestampDifferenceExceeds(back_off->next, GetCurrentTimestamp(), HEALTHY_MS))
			back_off->delay_ms = 0;
		return back_off;
	}
	return NULL;
}

/*
 * lh_scheduler_start starts a worker if fewer than "places" are there and its object is not
 * in back-off; false if it has to wait.
 */
bool
lh_scheduler_start(LhSchedulerPass *pass, const LhWorkerConfig *config, int places)
{
	BackOff    *back_off = find_back_off(config->kind, config->object);

	if (back_off && back_off->next > GetCurrentTimestamp())
		return false;
	if (pass->workers >= places || !lh_worker_start(config))
	{
		pass->waiting[config->kind]++;
		return false;
	}
	pass->workers++;
	return true;
}

static LhSlot *
find_slot(const LhSchedulerPass *pass, LhWorkerKind kind, int64 object, int *index)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		LhSlot	   *slot = &pass->slots[i];

		if ((slot->state == LH_SLOT_STARTING || slot->state == LH_SLOT_ALIVE) &&
			slot->config.database == MyDatabaseId &&
			slot->config.kind == kind && slot->config.object == object)
		{
			*index = i;
			return slot;
		}
	}
	return NULL;
}

/*
 * lh_scheduler_login_obstacle tells why a worker cannot log in as the role, or NULL.
 */
char *
lh_scheduler_login_obstacle(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	Form_pg_authid form;
	char	   *result = NULL;

	if (!HeapTupleIsValid(tuple))
		return psprintf("role with OID %u does not exist", role);
	form = (Form_pg_authid) GETSTRUCT(tuple);
	if (!form->rolcanlogin)
		result = psprintf("role \"%s\" is not permitted to log in", NameStr(form->rolname));
	else if (lh_database_aclcheck(MyDatabaseId, role, ACL_CONNECT) != ACLCHECK_OK)
		result = psprintf("role \"%s\" has no right to connect to database \"%s\"",
						  NameStr(form->rolname), get_database_name(MyDatabaseId));
	ReleaseSysCache(tuple);
	return result;
}

/* -------------------------------------------------------------------- flows */

/*
 * serve_flows starts a worker for each owner of due flows that has none, and
 * wakes those that are there.
 */
static void
serve_flows(LhSchedulerPass *pass)
{
	List	   *owners = NIL;
	ListCell   *cell;

	lh_worker_begin("flows");
	foreach(cell, lh_flow_order(true))
	{
		LhFlow	   *flow = lh_flow_get(lfirst_int(cell));
		char	   *obstacle;

		if (flow == NULL || list_member_oid(owners, flow->owner))
			continue;
		obstacle = lh_scheduler_login_obstacle(flow->owner);
		if (obstacle)
			lh_flow_failed(flow->flow_id, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, obstacle);
		else
			owners = lappend_oid(owners, flow->owner);
	}
	lh_worker_commit();

	foreach(cell, owners)
	{
		LhWorkerConfig config = {0};
		int			index;

		if (find_slot(pass, LH_WORKER_FLOW, lfirst_oid(cell), &index))
		{
			lh_wake_workers(MyDatabaseId, false);
			continue;
		}
		config.kind = LH_WORKER_FLOW;
		config.database = MyDatabaseId;
		config.role = lfirst_oid(cell);
		config.object = lfirst_oid(cell);
		lh_worker_begin("flows");
		strlcpy(config.name, GetUserNameFromId(config.role, false), sizeof(config.name));
		lh_worker_commit();
		lh_scheduler_start(pass, &config, lh_max_workers);
	}
}

/* ------------------------------------------------------------------- outbox */

/*
 * serve_outbox starts a worker for each pair of server and role that has
 * messages to send and no worker.
 */
static void
serve_outbox(LhSchedulerPass *pass)
{
	ListCell   *cell;
	List	   *due;

	lh_worker_begin("outbox");
	lh_outbox_tidy();
	due = lh_outbox_due();
	foreach(cell, due)
	{
		LhOutboxPair *pair = lfirst(cell);
		char	   *obstacle = lh_scheduler_login_obstacle(pair->owner);

		if (!OidIsValid(pair->server))
			lh_outbox_failed(pair->server_name, pair->owner, NULL, ERRCODE_UNDEFINED_OBJECT,
							 psprintf("server \"%s\" does not exist", pair->server_name));
		else if (obstacle != NULL)
			lh_outbox_failed(pair->server_name, pair->owner, NULL,
							 ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, obstacle);
		else
			continue;
		due = foreach_delete_current(due, cell);
	}
	lh_worker_commit();

	foreach(cell, due)
	{
		LhOutboxPair *pair = lfirst(cell);
		LhWorkerConfig config = {0};
		int			index;

		config.kind = LH_WORKER_OUTBOX;
		config.database = MyDatabaseId;
		config.role = pair->owner;
		config.object = lh_outbox_object(pair->server, pair->owner);
		strlcpy(config.name, pair->server_name, sizeof(config.name));
		if (find_slot(pass, LH_WORKER_OUTBOX, config.object, &index) == NULL)
			lh_scheduler_start(pass, &config, lh_max_workers);
	}
}

/* ----------------------------------------------------------------- clean-up */

/*
 * serve_clean_up starts a worker for each owner of sources of which files are
 * due to be moved or deleted.  An owner who cannot log in has no such worker;
 * the sources say so.
 */
static void
serve_clean_up(LhSchedulerPass *pass)
{
	List	   *owners;
	ListCell   *cell;

	lh_worker_begin("clean-up");
	owners = lh_clean_due(InvalidOid);
	lh_worker_commit();
	foreach(cell, owners)
	{
		LhWorkerConfig config = {.kind = LH_WORKER_CLEAN, .database = MyDatabaseId,
		.role = lfirst_oid(cell), .object = lfirst_oid(cell)};
		char	   *obstacle;
		int			index;

		if (find_slot(pass, LH_WORKER_CLEAN, lfirst_oid(cell), &index))
			continue;
		lh_worker_begin("clean-up");
		obstacle = lh_scheduler_login_obstacle(config.role);
		if (obstacle == NULL)
			strlcpy(config.name, GetUserNameFromId(config.role, false), sizeof(config.name));
		else
		{
			ListCell   *source;

			foreach(source, lh_clean_due(config.role))
				lh_clean_failed(lfirst_int(source), ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, obstacle);
		}
		lh_worker_commit();
		if (obstacle == NULL)
			lh_scheduler_start(pass, &config, lh_max_workers);
	}
}

/* ------------------------------------------------------------------ sources */

/*
 * has_source_worker tells whether the worker of the source with that number is
 * there or coming, or, if asked, at work with success.
 */
static bool
has_source_worker(const LhSchedulerPass *pass, const LhWorkerConfig *config, int number, bool ready)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		const LhSlot *slot = &pass->slots[i];

		if ((slot->state == LH_SLOT_STARTING || slot->state == LH_SLOT_ALIVE) &&
			slot->config.database == MyDatabaseId && slot->config.kind == LH_WORKER_SOURCE &&
			slot->config.object == config->object && slot->config.worker == number &&
			(slot->ready || !ready))
			return true;
	}
	return false;
}

/* What a worker took from the catalog when it connected, and keeps. */
#define CONNECTION \
	"(SELECT pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', v.oid, v.xmin," \
	" pg_catalog.has_server_privilege(s.owner::pg_catalog.oid, v.oid, 'USAGE')," \
	" (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', m.oid, m.xmin), ' ' ORDER BY m.oid)" \
	"   FROM pg_catalog.pg_user_mapping m WHERE m.umserver OPERATOR(pg_catalog.=) v.oid" \
	"    AND m.umuser OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, s.owner::pg_catalog.oid]))), 0)" \
	" FROM pg_catalog.pg_foreign_server v WHERE v.srvname OPERATOR(pg_catalog.=) s.server)"

/*
 * read_wanted returns the first worker of each continuous source that may run,
 * in the current context, and which of them are not in back-off.
 */
static LhWorkerConfig *
read_wanted(bool **due, int *count)
{
	static const Oid types[] = {TEXTOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		value;
	LhCatalog	catalog;
	LhWorkerConfig *wanted;

	lh_worker_begin("sources");
	value = CStringGetTextDatum(lh_catalog_home());
	lh_catalog_begin(&catalog);
	*count = (int) lh_catalog_run("SELECT s.source_id, s.owner, s.name, s.xmin::pg_catalog.text::pg_catalog.int8,"
								  " t.retry_at IS NULL OR t.retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp(),"
								  " (s.options OPERATOR(pg_catalog.->>) 'workers')::pg_catalog.int4,"
								  " s.kind OPERATOR(pg_catalog.=) 'kafka', " CONNECTION
								  " FROM lakehouse.source s LEFT JOIN lakehouse.source_state t"
								  " ON t.source_id OPERATOR(pg_catalog.=) s.source_id"
								  " WHERE s.trigger OPERATOR(pg_catalog.=) 'continuous'"
								  " AND s.paused IS NULL AND s.home OPERATOR(pg_catalog.=) $1"
								  " ORDER BY s.source_id", 1, types, &value, NULL);
	wanted = MemoryContextAllocZero(context, sizeof(LhWorkerConfig) * Max(*count, 1));
	*due = MemoryContextAllocZero(context, sizeof(bool) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		bool		isnull;

		wanted[i].kind = LH_WORKER_SOURCE;
		wanted[i].database = MyDatabaseId;
		wanted[i].object = lh_catalog_int64(i, 1, 0);
		wanted[i].role = lh_catalog_oid(i, 2);
		strlcpy(wanted[i].name, lh_catalog_text(i, 3, CurrentMemoryContext), sizeof(wanted[i].name));
		wanted[i].version = lh_catalog_int64(i, 4, 0);
		(*due)[i] = DatumGetBool(lh_catalog_value(i, 5, &isnull));
		wanted[i].workers = (int) lh_catalog_int64(i, 6, 1);
		wanted[i].partitions = DatumGetBool(lh_catalog_value(i, 7, &isnull));
		wanted[i].connection = lh_catalog_int64(i, 8, 0);
	}
	lh_catalog_end(&catalog);
	lh_worker_commit();
	return wanted;
}

/*
 * serve_sources starts the workers of each continuous source that may run, and
 * asks those to leave whose source was altered, paused or dropped, or whose
 * server, user mapping or right to use the server is another one by now.  Every
 * source gets its first worker before any gets a second one; the others of a
 * source follow when the first has shown that it works.  Two places are
 * kept for flows and tasks, or sources could keep them out for ever.
 */
static void
serve_sources(LhSchedulerPass *pass)
{
	bool	   *due;
	int			count;
	int			most = 1;
	LhWorkerConfig *wanted = read_wanted(&due, &count);

	for (int i = 0; i < count; i++)
		most = Max(most, wanted[i].workers);
	for (int i = 0; i < pass->nslots; i++)
	{
		LhSlot	   *slot = &pass->slots[i];
		bool		current = false;

		if ((slot->state != LH_SLOT_STARTING && slot->state != LH_SLOT_ALIVE) ||
			slot->config.database != MyDatabaseId || slot->config.kind != LH_WORKER_SOURCE)
			continue;
		for (int j = 0; j < count; j++)
			current = current || (wanted[j].object == slot->config.object &&
								  wanted[j].version == slot->config.version &&
								  wanted[j].connection == slot->config.connection);
		if (!current)
			lh_slot_request_stop(i, slot->generation, false);
	}
	for (int worker = 0; worker < most; worker++)
		for (int i = 0; i < count; i++)
		{
			wanted[i].worker = worker;
			if (due[i] && worker < wanted[i].workers)
				due[i] = serve_source(pass, &wanted[i]);
		}
	lh_scheduler_divide(pass, wanted, count);
}

/*
 * serve_source starts the worker unless it is there; false if the source's
 * owner cannot log in.
 */
static bool
serve_source(LhSchedulerPass *pass, const LhWorkerConfig *config)
{
	char	   *obstacle;

	if (has_source_worker(pass, config, config->worker, false) ||
		(config->worker > 0 && !has_source_worker(pass, config, 0, true)))
		return true;
	lh_worker_begin("sources");
	obstacle = lh_scheduler_login_obstacle(config->role);
	if (obstacle)
		lh_source_failed((int32) config->object, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, obstacle);
	lh_worker_commit();
	if (obstacle == NULL)
		lh_scheduler_start(pass, config, Max(1, lh_max_workers - 2));
	return obstacle == NULL;
}

/* ------------------------------------------------------------------ waiting */

/*
 * show_waiting says in lakehouse.worker_status, and once in the log, that
 * something waits for a place.
 */
static void
show_waiting(const LhSchedulerPass *pass)
{
	static bool shown = false;
	int			total = 0;
	char		note[128] = "";

	for (int kind = 0; kind < lengthof(pass->waiting); kind++)
		total += pass->waiting[kind];
	if (total > 0)
		snprintf(note, sizeof(note), "no worker free for %d workers of sources, %d owners of flows, %d owners of files, %d senders, %d tasks",
				 pass->waiting[LH_WORKER_SOURCE], pass->waiting[LH_WORKER_FLOW],
				 pass->waiting[LH_WORKER_CLEAN], pass->waiting[LH_WORKER_OUTBOX], pass->waiting[LH_WORKER_TASK]);
	lh_slot_set_note(note);
	if (total > 0 && !shown)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("lakehouse: %s in database with OID %u", note, MyDatabaseId),
				 errhint("Increase lakehouse.max_workers (now %d) or max_worker_processes (now %d).",
						 lh_max_workers, max_worker_processes)));
	shown = total > 0;
}
