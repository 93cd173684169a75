/*
 * subtransaction.c
 *	  A subtransaction around what may fail.
 *
 * Invariant: behind its end, whichever it was, memory context and resource owner
 * are those from before its beginning.
 */
#include "postgres.h"

#include "access/xact.h"

#include "catalog/subtransaction.h"

void
lh_subtransaction_begin(LhSubtransaction *sub)
{
	sub->context = CurrentMemoryContext;
	sub->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(sub->context);
}

static void
go_back(const LhSubtransaction *sub)
{
	MemoryContextSwitchTo(sub->context);
	CurrentResourceOwner = sub->owner;
}

void
lh_subtransaction_commit(const LhSubtransaction *sub)
{
	ReleaseCurrentSubTransaction();
	go_back(sub);
}

void
lh_subtransaction_abort(const LhSubtransaction *sub)
{
	RollbackAndReleaseCurrentSubTransaction();
	go_back(sub);
}

ErrorData *
lh_subtransaction_caught(const LhSubtransaction *sub)
{
	ErrorData  *error;

	MemoryContextSwitchTo(sub->context);
	error = CopyErrorData();
	FlushErrorState();
	lh_subtransaction_abort(sub);
	return error;
}
