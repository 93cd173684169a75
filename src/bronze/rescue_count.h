/*
 * rescue_count.h
 *	  How many values of which field were rescued by one load, and why.
 *
 * Counts follow the rows: those of a record are noted when it is filled, taken
 * when the record becomes a row, and kept when the rows of its session are; a
 * session that is rolled back drops them.
 */
#ifndef LH_RESCUE_COUNT_H
#define LH_RESCUE_COUNT_H

#include "c.h"

typedef enum LhRescueReason
{
	LH_RESCUE_UNKNOWN_COLUMN,
	LH_RESCUE_TYPE_MISMATCH,
	LH_RESCUE_DUPLICATE,
	LH_RESCUE_CASE_MISMATCH,
	LH_RESCUE_REASONS
} LhRescueReason;

extern const char *const lh_rescue_reason_names[];

typedef struct LhRescueCounts LhRescueCounts;

/* in the current context */
extern LhRescueCounts *lh_rescue_counts_create(void);

/* a load begins: nothing was counted */
extern void lh_rescue_counts_reset(LhRescueCounts *counts);

/* the record in hand has nothing rescued so far; one more value of it is */
extern void lh_rescue_counts_begin_record(LhRescueCounts *counts);
extern void lh_rescue_counts_note(LhRescueCounts *counts, const char *name, int length,
								  LhRescueReason reason);

/* that record is a row; the rows of the session are kept, or dropped */
extern void lh_rescue_counts_take(LhRescueCounts *counts);
extern void lh_rescue_counts_keep(LhRescueCounts *counts);
extern void lh_rescue_counts_drop(LhRescueCounts *counts);

/* writes what was counted since the reset; in the transaction of the load */
extern void lh_rescue_counts_write(const LhRescueCounts *counts, int64 load_id);

#endif							/* LH_RESCUE_COUNT_H */
