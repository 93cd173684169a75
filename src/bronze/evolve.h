/*
 * evolve.h
 *	  New columns for the target of a source.
 */
#ifndef LH_EVOLVE_H
#define LH_EVOLVE_H

#include "bronze/ingest.h"
#include "nodes/pg_list.h"

/*
 * Adds columns (LhNewColumn) that a file has to the source's target and records
 * them, as the current user.  The target must not be open.  Raises 55P03 if
 * others kept the table locked, 42501 if the user does not own it.
 */
extern void lh_evolve_add_columns(const LhSource *source, int64 file_id, const List *columns);

/*
 * Locks a table against everybody, in short attempts.  Raises 55P03 "could not lock
 * table to <purpose>" with the hint "<consequence>; ...".
 */
extern void lh_evolve_lock(Oid relation, const char *purpose, const char *consequence);

#endif							/* LH_EVOLVE_H */
