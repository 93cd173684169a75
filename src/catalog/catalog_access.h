/*
 * catalog_access.h
 *	  The one way to our own tables, and to another identity.
 */
#ifndef LH_CATALOG_ACCESS_H
#define LH_CATALOG_ACCESS_H

#include "executor/spi.h"

/* What lh_identity_* replaced; restored by lh_identity_restore, or by abort. */
typedef struct LhIdentity
{
	Oid			userid;
	int			sec_context;
	int			guc_nest;
} LhIdentity;

extern void lh_identity_extension(LhIdentity *saved);
extern void lh_identity_role(LhIdentity *saved, Oid role, const char *search_path);
extern void lh_identity_restore(const LhIdentity *saved);

/* A bracket of fixed statements on our tables, run as the extension's owner. */
typedef struct LhCatalog
{
	LhIdentity	saved;
} LhCatalog;

extern void lh_catalog_begin(LhCatalog *catalog);
extern uint64 lh_catalog_run(const char *sql, int nargs, const Oid *types,
							 const Datum *values, const char *nulls);
extern uint64 lh_catalog_read_latest(const char *sql, int nargs, const Oid *types,
									 const Datum *values, const char *nulls);
extern uint64 lh_catalog_read(const char *sql, int nargs, const Oid *types,
							  const Datum *values, const char *nulls);
extern void lh_catalog_end(LhCatalog *catalog);

/* one fixed statement in a bracket of its own, of which $1 is the id of an object */
extern void lh_catalog_run_for(int32 id, const char *sql);

/* Gives each row of a fixed SELECT to "take" and keeps none; false ends it. */
typedef bool (*LhCatalogRow) (TupleTableSlot *slot, void *arg);
extern void lh_catalog_each(const char *sql, int nargs, const Oid *types,
							const Datum *values, LhCatalogRow take, void *arg);

/* within a bracket: plans made from now on read indexes in their order, however
 * small the tables are now */
extern void lh_catalog_by_index(void);

/* results of the last lh_catalog_run: row from 0, column from 1 */
extern Datum lh_catalog_value(uint64 row, int column, bool *isnull);
extern char *lh_catalog_text(uint64 row, int column, MemoryContext context);
extern int64 lh_catalog_int64(uint64 row, int column, int64 if_null);
extern Oid	lh_catalog_oid(uint64 row, int column);

/* identity of this database: where a source may run */
extern char *lh_catalog_home(void);

/* heavyweight lock on one object of ours, held to the end of the transaction */
typedef enum LhLockClass
{
	LH_LOCK_SOURCE,
	LH_LOCK_FLOW,
	LH_LOCK_JOB,
	LH_LOCK_OUTBOX_KEY,			/* keys of messages that commit, by hash */
	LH_LOCK_OUTBOX_SENDER,		/* who sends the messages of one role to one server */
	LH_LOCK_CONTENT				/* contents of files that are loaded, by hash */
} LhLockClass;

extern bool lh_catalog_lock(LhLockClass class, int32 id, bool wait);
extern void lh_catalog_lock_shared(LhLockClass class, int32 id);

/* the same lock as lh_catalog_lock takes, but held by the session across
 * transactions; both are to be called within one, taking it does not wait */
extern bool lh_catalog_lock_session(LhLockClass class, int32 id);
extern void lh_catalog_unlock_session(LhLockClass class, int32 id);

/* privilege to act on what a role owns; raises 42501 */
extern void lh_catalog_check_owner(Oid owner, const char *noun, const char *name);

/* "search_path" of the caller as text that can be pinned later */
extern char *lh_catalog_current_path(void);

#endif							/* LH_CATALOG_ACCESS_H */
