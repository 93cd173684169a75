/*
 * worker.h
 *	  Background workers: launcher, one scheduler for each database, workers.
 */
#ifndef LH_WORKER_H
#define LH_WORKER_H

extern void lh_worker_init(void);

#endif							/* LH_WORKER_H */
