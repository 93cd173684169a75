/*
 * file_listing.c
 *	  A look at the directory: what it holds goes to the ledger.
 *
 * Invariant: a worker that shares its source changes no entry that is there, as
 * what it listed is some moments old; it enters what is new, and asks for the
 * source alone if more is to be done.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/file_ingest_internal.h"
#include "guc.h"
#include "source/file_list.h"

/* entries of a listing that are compared with the ledger at once */
#define LISTING_CHUNK 1000

/* a continuous source spends at most one part in this many on listing */
#define LISTING_SHARE 10

/* or in this many, while all its directories are watched */
#define WATCHED_SHARE 100

/* how long a continuous source trusts what it read of the ledger */
#define KNOWN_US (INT64CONST(300) * 1000000)

static bool read_listing(FileBatch *batch);
static void read_known(FileIngest *ingest);

/*
 * lh_file_look lists the directory if that is due; false if the batch is
 * to end with it.
 */
bool
lh_file_look(FileBatch *batch)
{
	FileIngest *ingest = batch->ingest;
	bool		others;

	if (ingest->continuous ? batch->seen_before < ingest->next_listing : ingest->listed)
		return true;
	if (ingest->follower && !ingest->base.stand_in)
		return true;
	others = read_listing(batch) && !ingest->follower;
	ingest->base.alone = others;
	if (others)
		ingest->next_listing = ingest->next_look = 0;
	batch->counts->discovered += batch->touched;
	return !ingest->base.source->shared || (batch->touched == 0 && !others);
}

/* A chunk of a listing on its way to the ledger. */
typedef struct ListingChunk
{
	FileBatch  *batch;
	MemoryContext context;
	bool		new_only;
	bool		others;			/* an entry was left that should have changed */
	int64		looked_up;		/* entries so far that were not known */
	int			count;
	LhListed	listed[LISTING_CHUNK];
} ListingChunk;

static void
enter_chunk(ListingChunk *chunk)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(chunk->context);

	chunk->looked_up += chunk->count;
	if (chunk->count > 0)
		chunk->batch->touched += lh_ledger_enter(chunk->batch->ingest->base.source->source_id,
												 chunk->batch->ingest->options.on_change,
												 chunk->listed, chunk->count,
												 chunk->new_only, &chunk->others);
	chunk->count = 0;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(chunk->context);
}

static void
add_listed(const LhListed *listed, void *arg)
{
	ListingChunk *chunk = arg;
	FileIngest *ingest = chunk->batch->ingest;
	MemoryContext oldcontext;
	LhListed   *item;
	bool		valid;
	const char *printable;

	if (ingest->known != NULL && lh_known_has(ingest->known, listed))
		return;
	oldcontext = MemoryContextSwitchTo(chunk->context);
	item = &chunk->listed[chunk->count++];
	printable = lh_file_printable(listed->path, &valid);

	*item = *listed;
	item->path = pstrdup(printable);
	if (!valid)
	{
		item->sqlstate = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		item->problem = "its name is not valid in the encoding of the database";
		item->size = item->mtime_ns = 0;
	}
	else if (listed->problem != NULL)
		item->problem = pstrdup(listed->problem);
	MemoryContextSwitchTo(oldcontext);
	if (chunk->count < LISTING_CHUNK)
		return;
	enter_chunk(chunk);
	if (ingest->known == NULL && ingest->known_since == 0 && lh_known_pays(chunk->looked_up))
		read_known(ingest);
}

/*
 * read_known reads what of the ledger need not be looked up.
 */
static void
read_known(FileIngest *ingest)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(ingest->base.context);

	ingest->known_since = GetCurrentTimestamp();
	ingest->known = lh_known_read(ingest->base.source->source_id, ingest->options.on_change);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * lh_file_forget_known: the ledger is not what was read of it any more.
 */
void
lh_file_forget_known(FileIngest *ingest)
{
	if (ingest->known != NULL)
		lh_known_free(ingest->known);
	ingest->known = NULL;
	ingest->known_since = 0;
}

/*
 * read_listing compares the directory with the ledger; true if entries were
 * left as they are that have to be changed with nobody beside.
 */
static bool
read_listing(FileBatch *batch)
{
	FileIngest *ingest = batch->ingest;
	ListingChunk *chunk = palloc(sizeof(ListingChunk));
	TimestampTz started = GetCurrentTimestamp();
	TimestampTz now;
	bool		others;

	/* what the others set aside is not known here */
	if (ingest->base.source->shared || started - ingest->known_since > KNOWN_US)
		lh_file_forget_known(ingest);
	chunk->batch = batch;
	chunk->looked_up = 0;
	chunk->count = 0;
	chunk->new_only = ingest->base.source->shared && !ingest->base.alone;
	chunk->others = false;
	chunk->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse listing",
										   ALLOCSET_DEFAULT_SIZES);
	lh_file_list(batch->root, ingest->base.source->path, ingest->watch, add_listed, chunk);
	enter_chunk(chunk);
	others = chunk->others;
	MemoryContextDelete(chunk->context);
	pfree(chunk);

	/* what is new now will be known when it is listed again */
	if (batch->touched > LISTING_CHUNK)
		lh_file_forget_known(ingest);
	now = GetCurrentTimestamp();
	ingest->earliest_listing = now + Max(LH_MIN_PAUSE_US, (now - started) * LISTING_SHARE);
	ingest->next_listing = Max(now + (int64) lh_poll_interval * 1000, ingest->earliest_listing);
	if (ingest->watch != NULL && lh_file_watch_is_complete(ingest->watch))
		ingest->next_listing = Max(ingest->next_listing, now + (now - started) * WATCHED_SHARE);
	ingest->listed = true;
	ingest->listed_at = now;
	ingest->cursor.started = false;
	return others;
}
