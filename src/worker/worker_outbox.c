/*
 * worker_outbox.c
 *	  A worker that sends the messages of one role to one server.
 *
 * Reading and settling are a transaction each; between them, while it waits for
 * the cluster, none is open.  The lock that keeps others from sending for the
 * same pair is held from before the first of them until there is nothing left.
 * Where nothing more can be sent the worker records why and ends; the scheduler
 * starts another one when the back-off is over.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "fault.h"
#include "outbox/outbox.h"
#include "worker/worker.h"

/* how long it stays without work: connecting again takes longer than sending */
#define LINGER_MS 30000
/* without a wake-up it looks again after this */
#define LOOK_MS 1000
/* somebody else sends: look again after this */
#define BUSY_MS 200

static bool locked = false;

static int	read_messages(const LhWorkerConfig *config, LhSender *sender);
static bool send_messages(LhSender *sender);
static void record_failure(const LhWorkerConfig *config, const ErrorData *error);

/*
 * lh_outbox_worker_run sends until there has been nothing to send for a while,
 * or nothing can be sent.
 */
void
lh_outbox_worker_run(const LhWorkerConfig *config)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "lakehouse outbox",
												  ALLOCSET_DEFAULT_SIZES);
	LhSender   *sender;
	TimestampTz last = GetCurrentTimestamp();

	MemoryContextSwitchTo(context);
	sender = lh_sender_open(config->name, config->role);
	PG_TRY();
	{
		while (!lh_slot_stop_requested())
		{
			int			count = read_messages(config, sender);

			if (count > 0)
			{
				last = GetCurrentTimestamp();
				if (!send_messages(sender))
					break;
				lh_worker_interrupts();
			}
			else if (TimestampDifferenceExceeds(last, GetCurrentTimestamp(), LINGER_MS) ||
					 lh_worker_wait(count < 0 ? BUSY_MS : LOOK_MS, "LakehouseOutbox"))
				break;
		}
	}
	PG_CATCH();
	{
		ErrorData  *error = lh_worker_caught(context);

		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			record_failure(config, error);
	}
	PG_END_TRY();
	lh_sender_close(sender);
}

/*
 * read_messages returns how many messages are to be sent, -1 if somebody else is
 * sending them.
 */
static int
read_messages(const LhWorkerConfig *config, LhSender *sender)
{
	int32		lock = lh_sender_lock_id(config->name, config->role);
	int			count = -1;

	lh_worker_begin("outbox");
	if (!locked)
		locked = lh_catalog_lock_session(LH_LOCK_OUTBOX_SENDER, lock);
	if (locked)
		count = lh_sender_read(sender);
	if (count == 0)
	{
		lh_catalog_unlock_session(LH_LOCK_OUTBOX_SENDER, lock);
		locked = false;
	}
	LH_FAULT("outbox-read");
	lh_worker_commit();
	return count;
}

/*
 * send_messages sends what was read; false if nothing more can be sent.
 */
static bool
send_messages(LhSender *sender)
{
	LhOutboxCounts counts = {0};
	bool		fine = lh_sender_deliver(sender);

	/* what is still in the client must not arrive behind what comes next */
	if (!fine)
		lh_sender_close(sender);
	lh_worker_begin("outbox");
	lh_sender_settle(sender, &counts);
	lh_worker_commit();
	LH_FAULT("outbox-committed");
	return fine;
}

static void
record_failure(const LhWorkerConfig *config, const ErrorData *error)
{
	lh_worker_begin("failure");
	lh_outbox_failed(config->name, config->role, NULL, error->sqlerrcode, error->message);
	lh_worker_commit();
}
