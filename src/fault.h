/*
 * fault.h
 *	  Named fault points for crash tests.
 *
 * LH_FAULT("name") stands between two steps that must not be torn apart.  It
 * compiles to nothing unless LH_FAULTS is defined (make FAULTS=1), so a release
 * build holds no fault points.  In a test build the setting lakehouse.fault,
 * for example 'after-insert:kill:3', says which point acts, how (error, kill,
 * exit, stop, sleep) and at which pass.
 */
#ifndef LH_FAULT_H
#define LH_FAULT_H

#ifdef LH_FAULTS
extern char *lh_fault;			/* setting lakehouse.fault */
extern void lh_fault_point(const char *name);
#define LH_FAULT(name) lh_fault_point(name)
#else
#define LH_FAULT(name) ((void) 0)
#endif

#endif							/* LH_FAULT_H */
