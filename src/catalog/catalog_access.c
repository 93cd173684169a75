/*
 * catalog_access.c
 *	  The one way to our own tables, and to another identity.
 *
 * Invariant: user-named code (a flow's query, a trigger, an input function of a
 * user's type) never runs while the identity is the extension's owner.  Between
 * lh_catalog_begin and lh_catalog_end only fixed statements of ours run, with
 * search_path pinned to pg_catalog, so nothing a user made can be called.
 *
 * An error needs no clean-up: abort of the transaction or subtransaction
 * restores user, security context, settings and SPI.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/dest.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog/catalog_access.h"

/* prepared statements, found by the address of the statement's literal */
typedef struct PlanEntry
{
	const char *sql;			/* key */
	SPIPlanPtr	plan;
} PlanEntry;

static HTAB *plans = NULL;

static void set_local(const char *name, const char *value);
static SPIPlanPtr find_plan(const char *sql, int nargs, const Oid *types);

/*
 * extension_owner returns the role that owns schema lakehouse.
 */
static Oid
extension_owner(void)
{
	Oid			namespace = get_namespace_oid("lakehouse", true);
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(namespace));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"lakehouse\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION lakehouse.")));
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * lh_identity_role makes "role" the current user, as a SECURITY DEFINER
 * function would, with the given search_path, UTC and ISO dates until
 * lh_identity_restore or abort.  The security context forbids SET ROLE.
 *
 * Where that changes the user, it is a security-restricted operation as well:
 * otherwise a deferred trigger on the role's table would be queued now and fire
 * at commit with the rights of whoever called us, a superuser perhaps.
 */
void
lh_identity_role(LhIdentity *saved, Oid role, const char *search_path)
{
	int			restriction = SECURITY_LOCAL_USERID_CHANGE;

	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	if (role != saved->userid)
		restriction |= SECURITY_RESTRICTED_OPERATION;
	SetUserIdAndSecContext(role, saved->sec_context | restriction);
	saved->guc_nest = NewGUCNestLevel();
	set_local("search_path", search_path);
	set_local("timezone", "UTC");
	set_local("datestyle", "ISO, MDY");
	set_local("intervalstyle", "postgres");
}

/*
 * lh_identity_extension makes the extension's owner the current user.
 */
void
lh_identity_extension(LhIdentity *saved)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(extension_owner(),
						   saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	saved->guc_nest = NewGUCNestLevel();
	set_local("search_path", "pg_catalog, pg_temp");
	/* timestamps that pass through text must not depend on the session */
	set_local("datestyle", "ISO, MDY");
}

/*
 * lh_identity_restore goes back to what lh_identity_* replaced.
 */
void
lh_identity_restore(const LhIdentity *saved)
{
	AtEOXact_GUC(false, saved->guc_nest);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * lh_catalog_begin opens a bracket of statements on our tables.
 */
void
lh_catalog_begin(LhCatalog *catalog)
{
	lh_identity_extension(&catalog->saved);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to the server programming interface");
}

/*
 * lh_catalog_by_index keeps plans off what only small tables can bear: a plan is
 * kept for the session, and may be made when the tables are empty.
 */
void
lh_catalog_by_index(void)
{
	set_local("enable_seqscan", "off");
	set_local("enable_bitmapscan", "off");
	set_local("enable_sort", "off");
}

/*
 * lh_catalog_end closes the bracket; results read before must have been copied.
 */
void
lh_catalog_end(LhCatalog *catalog)
{
	SPI_finish();
	lh_identity_restore(&catalog->saved);
}

/*
 * execute runs a fixed statement, under the active snapshot if it only reads.
 */
static uint64
execute(const char *sql, int nargs, const Oid *types, const Datum *values,
		const char *nulls, bool read_only)
{
	int			code = SPI_execute_plan(find_plan(sql, nargs, types), (Datum *) values, nulls,
										read_only, 0);

	if (code < 0)
		elog(ERROR, "catalog statement failed: %s: %s",
			 SPI_result_code_string(code), sql);
	return SPI_processed;
}

/*
 * lh_catalog_run executes one fixed statement and returns how many rows it
 * processed.  "sql" must be a literal: its plan is kept for the session under
 * its address.  nulls is 'n' or ' ' for each argument, or NULL.
 */
uint64
lh_catalog_run(const char *sql, int nargs, const Oid *types,
			   const Datum *values, const char *nulls)
{
	return execute(sql, nargs, types, values, nulls, false);
}

void
lh_catalog_run_for(int32 id, const char *sql)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(id);
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run(sql, 1, types, &value, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lh_catalog_read_latest executes a fixed SELECT under a snapshot taken now,
 * whatever the isolation level of the transaction.  For what must be seen as
 * soon as it is committed: which flows read from a table.
 */
uint64
lh_catalog_read_latest(const char *sql, int nargs, const Oid *types,
					   const Datum *values, const char *nulls)
{
	uint64		processed;

	/* own changes of this transaction must be seen as well */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	processed = execute(sql, nargs, types, values, nulls, true);
	PopActiveSnapshot();
	return processed;
}

/*
 * lh_catalog_read executes a fixed SELECT under the active snapshot: what it
 * finds agrees with what a query under the same snapshot finds.
 */
uint64
lh_catalog_read(const char *sql, int nargs, const Oid *types,
				const Datum *values, const char *nulls)
{
	return execute(sql, nargs, types, values, nulls, true);
}

/* Where the rows of lh_catalog_each go. */
typedef struct EachReceiver
{
	DestReceiver receiver;
	LhCatalogRow take;
	void	   *arg;
} EachReceiver;

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	EachReceiver *each = (EachReceiver *) self;

	return each->take(slot, each->arg);
}

static void
begin_rows(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
end_rows(DestReceiver *self)
{
}

/*
 * lh_catalog_each executes a fixed SELECT whose result may be of any size.  The
 * plan may be a scan of the whole table where that is the cheapest.
 */
void
lh_catalog_each(const char *sql, int nargs, const Oid *types, const Datum *values,
				LhCatalogRow take, void *arg)
{
	EachReceiver each = {.receiver = {.receiveSlot = receive_row, .rStartup = begin_rows,
			.rShutdown = end_rows, .rDestroy = end_rows, .mydest = DestTuplestore},
	.take = take, .arg = arg};
	SPIExecuteOptions options = {.params = makeParamList(nargs), .dest = &each.receiver};
	int			code;

	for (int i = 0; i < nargs; i++)
	{
		options.params->params[i].value = values[i];
		options.params->params[i].isnull = false;
		options.params->params[i].pflags = PARAM_FLAG_CONST;
		options.params->params[i].ptype = types[i];
	}
	code = SPI_execute_plan_extended(find_plan(sql, nargs, types), &options);
	if (code < 0)
		elog(ERROR, "catalog statement failed: %s: %s",
			 SPI_result_code_string(code), sql);
}

static SPIPlanPtr
find_plan(const char *sql, int nargs, const Oid *types)
{
	PlanEntry  *entry;
	bool		found;

	if (plans == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(const char *),
			.entrysize = sizeof(PlanEntry),
			.hcxt = TopMemoryContext
		};

		plans = hash_create("lakehouse catalog statements", 64, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(plans, &sql, HASH_FIND, NULL);
	if (entry == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql, nargs, (Oid *) types);

		if (plan == NULL)
			elog(ERROR, "could not prepare catalog statement: %s: %s",
				 SPI_result_code_string(SPI_result), sql);
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep catalog statement: %s", sql);
		entry = hash_search(plans, &sql, HASH_ENTER, &found);
		entry->plan = plan;
	}
	return entry->plan;
}

/*
 * lh_catalog_value returns one value of the last result, owned by SPI.
 */
Datum
lh_catalog_value(uint64 row, int column, bool *isnull)
{
	Assert(row < SPI_processed);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/*
 * lh_catalog_text returns one value as text in "context", or NULL.
 */
char *
lh_catalog_text(uint64 row, int column, MemoryContext context)
{
	char	   *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return text ? MemoryContextStrdup(context, text) : NULL;
}

/*
 * lh_catalog_int64 returns an integer, bigint or smallint value.
 */
int64
lh_catalog_int64(uint64 row, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = lh_catalog_value(row, column, &isnull);

	if (isnull)
		return if_null;
	switch (SPI_gettypeid(SPI_tuptable->tupdesc, column))
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

/*
 * lh_catalog_oid returns an oid, regclass or regrole value, InvalidOid if NULL.
 */
Oid
lh_catalog_oid(uint64 row, int column)
{
	bool		isnull;
	Datum		value = lh_catalog_value(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

/*
 * lh_catalog_home names this cluster and database.  A source remembers it, so
 * that a restored or copied database does not ingest until a person says so.
 */
char *
lh_catalog_home(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

static LOCKTAG
object_tag(LhLockClass class, int32 id)
{
	static const char *const tables[] = {"source", "flow", "job", "outbox", "outbox_state", "file"};
	Oid			namespace = get_namespace_oid("lakehouse", false);
	Oid			relation = get_relname_relid(tables[class], namespace);
	LOCKTAG		tag;

	/* not the key space of advisory locks, which belongs to the user */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relation, (Oid) id, 0);
	return tag;
}

/*
 * lh_catalog_lock takes the exclusive lock on one source, flow or job until the
 * end of the transaction; returns false only if it was told not to wait.
 */
bool
lh_catalog_lock(LhLockClass class, int32 id, bool wait)
{
	LOCKTAG		tag = object_tag(class, id);

	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * lh_catalog_lock_shared waits for an exclusive lock on the object and keeps
 * others from taking one until the end of the transaction, but not from sharing
 * it.
 */
void
lh_catalog_lock_shared(LhLockClass class, int32 id)
{
	LOCKTAG		tag = object_tag(class, id);

	(void) LockAcquire(&tag, RowExclusiveLock, false, false);
}

/*
 * The server releases session locks of this kind when a transaction is aborted,
 * but not when a process ends between two: the lock would stay, with nobody who
 * holds it.
 */
static void
release_session_locks(int code, Datum arg)
{
	LockReleaseSession(DEFAULT_LOCKMETHOD);
}

bool
lh_catalog_lock_session(LhLockClass class, int32 id)
{
	static bool registered = false;
	LOCKTAG		tag = object_tag(class, id);

	if (!registered)
		before_shmem_exit(release_session_locks, (Datum) 0);
	registered = true;
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
lh_catalog_unlock_session(LhLockClass class, int32 id)
{
	LOCKTAG		tag = object_tag(class, id);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

/*
 * lh_catalog_check_owner raises unless the current user has the rights of
 * "owner".  noun is source, flow or job.
 */
void
lh_catalog_check_owner(Oid owner, const char *noun, const char *name)
{
	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of %s \"%s\"", noun, name)));
}

/*
 * lh_catalog_current_path returns the schemas that unqualified names are looked
 * up in now, as text for search_path: pg_catalog first, pg_temp last.
 */
char *
lh_catalog_current_path(void)
{
	List	   *path = fetch_search_path(false);
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	appendStringInfoString(&text, "pg_catalog");
	foreach(cell, path)
	{
		Oid			namespace = lfirst_oid(cell);
		char	   *name = get_namespace_name(namespace);

		if (name == NULL || namespace == PG_CATALOG_NAMESPACE || isAnyTempNamespace(namespace))
			continue;
		appendStringInfo(&text, ", %s", quote_identifier(name));
	}
	appendStringInfoString(&text, ", pg_temp");
	return text.data;
}
