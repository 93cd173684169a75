/*
 * widen.h
 *	  Wider types for columns of the target of a source: schema evolution mode
 *	  addNewColumnsWithTypeWidening.
 */
#ifndef LH_WIDEN_H
#define LH_WIDEN_H

#include "access/tupdesc.h"
#include "bronze/ingest.h"
#include "nodes/pg_list.h"
#include "source/field_sink.h"

typedef struct LhWiden LhWiden;

/* A column whose values need another type. */
typedef struct LhWidening
{
	char	   *column;
	Oid			from;
	Oid			to;
} LhWidening;

/* in the current context; "dates" says whether dates may become timestamps */
extern LhWiden *lh_widen_create(TupleDesc tupdesc, bool dates);

/* leaves columns as they are of which it is known that they cannot be widened */
extern void lh_widen_pin(LhWiden *widen, const LhSource *source);

/* a file begins: nothing is wanted */
extern void lh_widen_begin(LhWiden *widen);

/* a value did not convert to the type of its column */
extern void lh_widen_note(LhWiden *widen, const LhField *field);

/* is anything wanted? */
extern bool lh_widen_is_wanted(const LhWiden *widen);

/* what would let all values noted convert that can, as LhWidening in the current
 * context */
extern List *lh_widen_wanted(const LhWiden *widen);

/*
 * Widens columns of the source's target, as the current user, and records that; or
 * records why it is left to a person.  The target must not be open.  Raises 55P03
 * if others kept the table locked.
 */
extern void lh_widen_columns(const LhSource *source, int64 file_id, const List *widenings);

#endif							/* LH_WIDEN_H */
