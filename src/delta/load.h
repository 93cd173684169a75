/*
 * load.h
 *	  Loads: the unit of arrival in one table, and who has yet to consume it.
 */
#ifndef LH_LOAD_H
#define LH_LOAD_H

#include "datatype/timestamp.h"

typedef enum LhLoadKind
{
	LH_LOAD_FILE,
	LH_LOAD_KAFKA,
	LH_LOAD_FLOW,
	LH_LOAD_USER
} LhLoadKind;

/* One row of lakehouse.load. */
typedef struct LhLoad
{
	int64		load_id;		/* from lh_load_reserve */
	Oid			relation;		/* table that received the rows */
	LhLoadKind	kind;
	int32		source_id;		/* 0 = none */
	int32		flow_id;		/* 0 = none */
	int64		file_id;		/* 0 = none */
	int64		first_position; /* file: bytes [first, last); -1 = rejects of it
								 * that were replayed */
	int64		last_position;
	const char *offsets;		/* kafka: json text, or NULL */
	int64		rows;			/* -1 = not counted */
	int64		rejected;
	int64		rescued;		/* rows with rescued data */
	int64		bytes;			/* -1 = not known */
	TimestampTz started;
	const char *header;			/* file: CSV header that its rejects need, or NULL */
} LhLoad;

/* the column that every managed table carries */
#define LH_LOAD_COLUMN "_load_id"

extern void lh_load_init(void);
extern int64 lh_load_reserve(void);
extern void lh_load_record(const LhLoad *load);
extern void lh_load_set_current(Oid relation, int64 load_id);
extern void lh_load_clear_current(Oid relation);
extern int64 lh_load_current(Oid relation, bool *created);

/* called after commit of a transaction that recorded loads (set by src/worker) */
typedef void (*lh_load_committed_hook_type) (void);
extern lh_load_committed_hook_type lh_load_committed_hook;

/* tables that carry _load_id */
extern void lh_managed_ensure(Oid relation, bool updatable);
extern bool lh_managed_is(Oid relation);

/* the queue of a flow */
extern void lh_pending_enqueue_existing(int32 flow_id, Oid input);

#endif							/* LH_LOAD_H */
