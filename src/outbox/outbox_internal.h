/*
 * outbox_internal.h
 *	  What the files of this folder share; nobody else includes it.
 */
#ifndef LH_OUTBOX_INTERNAL_H
#define LH_OUTBOX_INTERNAL_H

#include "outbox/outbox.h"

/*
 * Condition on message o of batch b: it may be sent now.  The cluster has not
 * refused it, its topic is not in back-off, and no message of its key was
 * refused: those that follow such a one wait for it.
 */
#define LH_OUTBOX_SENDABLE \
	" o.sqlstate IS NULL" \
	" AND NOT EXISTS (SELECT FROM lakehouse.outbox_state t" \
	"  WHERE t.server OPERATOR(pg_catalog.=) b.server AND t.owner OPERATOR(pg_catalog.=) b.owner" \
	"    AND t.topic OPERATOR(pg_catalog.=) o.topic AND t.retry_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp())" \
	" AND NOT EXISTS (SELECT FROM lakehouse.outbox f JOIN lakehouse.outbox_batch g" \
	"    ON g.batch_id OPERATOR(pg_catalog.=) f.batch_id" \
	"  WHERE f.sqlstate IS NOT NULL AND f.key_hash OPERATOR(pg_catalog.=) o.key_hash" \
	"    AND f.key OPERATOR(pg_catalog.=) o.key AND f.topic OPERATOR(pg_catalog.=) o.topic" \
	"    AND g.server OPERATOR(pg_catalog.=) b.server AND g.owner OPERATOR(pg_catalog.=) b.owner)"

#endif							/* LH_OUTBOX_INTERNAL_H */
