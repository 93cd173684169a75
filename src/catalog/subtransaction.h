/*
 * subtransaction.h
 *	  A subtransaction around what may fail.
 *
 *		LhSubtransaction sub;
 *
 *		lh_subtransaction_begin(&sub);
 *		PG_TRY();
 *		{
 *			...
 *			lh_subtransaction_commit(&sub);
 *		}
 *		PG_CATCH();
 *		{
 *			ErrorData  *error = lh_subtransaction_caught(&sub);
 *			...
 *		}
 *		PG_END_TRY();
 */
#ifndef LH_SUBTRANSACTION_H
#define LH_SUBTRANSACTION_H

#include "utils/resowner.h"

/* What is current outside of it, and is again behind it. */
typedef struct LhSubtransaction
{
	MemoryContext context;
	ResourceOwner owner;
} LhSubtransaction;

/* the memory context stays */
extern void lh_subtransaction_begin(LhSubtransaction *sub);
extern void lh_subtransaction_commit(const LhSubtransaction *sub);
extern void lh_subtransaction_abort(const LhSubtransaction *sub);

/* in PG_CATCH: rolls it back and gives the error, which lies in the context that
 * was current outside */
extern ErrorData *lh_subtransaction_caught(const LhSubtransaction *sub);

#endif							/* LH_SUBTRANSACTION_H */
