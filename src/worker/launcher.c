/*
 * launcher.c
 *	  Finds the databases that have the extension.
 */
#include "postgres.h"

#include "worker/worker.h"

void
lh_worker_init(void)
{
}
