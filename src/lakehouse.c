/*
 * lakehouse.c
 *	  Module magic and _PG_init: one call for each capability, nothing else.
 */
#include "postgres.h"

#include "fmgr.h"

#include "bronze/progress.h"
#include "delta/load.h"
#include "guc.h"
#include "outbox/outbox.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	lh_guc_init();
	lh_load_init();
	lh_progress_init();
	lh_outbox_init();
	lh_worker_init();
}
