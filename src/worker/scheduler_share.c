/*
 * scheduler_share.c
 *	  Divides the partitions of a Kafka source among its workers by what they
 *	  have to do.
 *
 * While workers come and go nothing is divided: who is there takes over what
 * the others leave, by a rule that needs no decision, and gives it back when
 * they return.  Only when the same ones have been there for some time is their
 * work looked at, now and then.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/kafka_share.h"
#include "guc.h"
#include "worker/scheduler_internal.h"

/* What is remembered of a source with several workers. */
typedef struct Shared
{
	int64		source_id;
	int64		version;
	uint64		alive;
	bool		seen;			/* in this pass */
	TimestampTz due;			/* when its work is looked at next */
} Shared;

static List *shared_sources = NIL;

static Shared *
find_shared(const LhWorkerConfig *config)
{
	MemoryContext old;
	Shared	   *result;
	ListCell   *cell;

	foreach(cell, shared_sources)
	{
		result = lfirst(cell);
		if (result->source_id == config->object)
			return result;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	result = palloc0(sizeof(Shared));
	result->source_id = config->object;
	shared_sources = lappend(shared_sources, result);
	MemoryContextSwitchTo(old);
	return result;
}

static uint64
alive_workers(const LhSchedulerPass *pass, const LhWorkerConfig *config)
{
	uint64		alive = 0;

	for (int i = 0; i < pass->nslots; i++)
	{
		const LhSlot *slot = &pass->slots[i];

		if (slot->state == LH_SLOT_ALIVE && !slot->stop && slot->config.kind == LH_WORKER_SOURCE &&
			slot->config.database == MyDatabaseId && slot->config.object == config->object &&
			slot->config.version == config->version)
			alive |= UINT64CONST(1) << slot->config.worker;
	}
	return alive;
}

/*
 * divide_source divides one source if that is due.
 */
static void
divide_source(const LhSchedulerPass *pass, const LhWorkerConfig *config)
{
	Shared	   *source = find_shared(config);
	uint64		alive = alive_workers(pass, config);
	TimestampTz now = GetCurrentTimestamp();
	bool		moved;

	source->seen = true;
	if (alive != source->alive || config->version != source->version)
	{
		source->alive = alive;
		source->version = config->version;
		source->due = TimestampTzPlusMilliseconds(now, lh_kafka_refresh_interval);
	}
	if (pg_popcount64(alive) < 2 || now < source->due)
		return;
	source->due = TimestampTzPlusMilliseconds(now, lh_kafka_refresh_interval);
	lh_worker_begin("partitions");
	moved = lh_kafka_share_divide((int32) config->object, alive);
	lh_worker_commit();
	if (moved)
	{
		ereport(DEBUG1,
				(errmsg_internal("lakehouse: partitions of source \"%s\" were divided anew", config->name)));
		lh_source_divided(config->database, config->object);
	}
}

/*
 * lh_scheduler_divide looks at all sources that several workers read.
 */
void
lh_scheduler_divide(const LhSchedulerPass *pass, const LhWorkerConfig *sources, int count)
{
	ListCell   *cell;

	foreach(cell, shared_sources)
		((Shared *) lfirst(cell))->seen = false;
	for (int i = 0; i < count; i++)
		if (sources[i].partitions && sources[i].workers > 1)
			divide_source(pass, &sources[i]);
	foreach(cell, shared_sources)
		if (!((Shared *) lfirst(cell))->seen)
		{
			pfree(lfirst(cell));
			shared_sources = foreach_delete_current(shared_sources, cell);
		}
}
