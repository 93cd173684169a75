/*
 * file_listing.c
 *	  A look at the directory: what it holds goes to the ledger.
 *
 * Either all that is there is listed, or, when the system told of some names,
 * these alone are looked at.  Where the system tells all that happens, a listing
 * only proves that nothing was missed.
 *
 * Invariant: what is told is forgotten only with a transaction that entered it
 * or after a listing has begun; after a rollback everything is listed.
 *
 * A worker that shares its source changes no entry that is there, as what it
 * listed is some moments old; it enters what is new, and asks for the source
 * alone if more is to be done.
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

/* how long a continuous source trusts what it read of the ledger */
#define KNOWN_US (INT64CONST(300) * 1000000)

/* files of which it is not asked yet whether they are known */
#define AHEAD 16

typedef struct Expected
{
	LhListed	listed;
	LhFingerprint print;
	char		path[PATH_MAX];
} Expected;

/* Names on their way to the ledger. */
typedef struct ListingChunk
{
	LhLedgerLook look;
	const LhKnownFiles *known;	/* or NULL */
	uint64		expecting;
	Expected   *ahead;			/* the last AHEAD ones, if "known" */
	MemoryContext context;
	int			count;
	LhListed	listed[LISTING_CHUNK];
} ListingChunk;

typedef enum Due
{
	DUE_NOTHING,
	DUE_TOLD,					/* what the system told of */
	DUE_LISTING
} Due;

static Due	find_due(const FileBatch *batch);
static void read_listing(FileBatch *batch, ListingChunk *chunk);
static void read_told(FileBatch *batch, ListingChunk *chunk);
static void add_listed(const LhListed *listed, void *arg);
static void enter_chunk(ListingChunk *chunk);
static void finish_chunk(ListingChunk *chunk);
static bool is_same_directory(const FileIngest *ingest, const LhDescriptor *root);
static void read_known(FileBatch *batch);
static void plan_listing(FileIngest *ingest, TimestampTz started);

static ListingChunk *
begin_chunk(int32 source_id, const LhFileOptions *options)
{
	ListingChunk *chunk = palloc(sizeof(ListingChunk));
	LhLedgerLook look = {.source_id = source_id, .on_change = options->on_change,
	.by_name = options->by_name};

	chunk->look = look;
	chunk->known = NULL;
	chunk->expecting = 0;
	chunk->ahead = palloc(sizeof(Expected) * AHEAD);
	for (int i = 0; i < AHEAD; i++)
		chunk->ahead[i].path[0] = '\0';
	chunk->count = 0;
	chunk->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse listing",
										   ALLOCSET_DEFAULT_SIZES);
	return chunk;
}

static void
end_chunk(ListingChunk *chunk)
{
	MemoryContextDelete(chunk->context);
	pfree(chunk->ahead);
	pfree(chunk);
}

/*
 * lh_file_look looks at the directory if that is due; false if the batch is to
 * end with it.
 */
bool
lh_file_look(FileBatch *batch)
{
	FileIngest *ingest = batch->ingest;
	ListingChunk *chunk;
	Due			due;
	bool		others;

	if (ingest->watch != NULL)
		(void) lh_file_watch_drain(ingest->watch);
	due = find_due(batch);
	if (due == DUE_NOTHING)
		return true;
	chunk = begin_chunk(ingest->base.source->source_id, &ingest->options);
	chunk->look.new_only = ingest->base.source->shared && !ingest->base.alone;
	if (due == DUE_LISTING)
		read_listing(batch, chunk);
	else
		read_told(batch, chunk);
	others = chunk->look.others && !ingest->follower;
	ingest->base.alone = others;
	if (others)
		ingest->next_look = 0;
	if (others && due == DUE_LISTING)
		ingest->next_listing = 0;
	if (!others && due == DUE_TOLD)
		lh_file_watch_forget(ingest->watch);
	/* what is new now will be known when it is listed again */
	if (chunk->look.changed > LISTING_CHUNK)
		lh_file_forget_known(ingest);
	batch->touched += chunk->look.changed;
	batch->counts->discovered += batch->touched;
	ingest->cursor.started = false;
	end_chunk(chunk);
	return !ingest->base.source->shared || (batch->touched == 0 && !others);
}

static Due
find_due(const FileBatch *batch)
{
	const FileIngest *ingest = batch->ingest;
	bool		told;

	if (!ingest->continuous)
		return ingest->listed ? DUE_NOTHING : DUE_LISTING;
	if (ingest->follower && !ingest->base.stand_in)
		return DUE_NOTHING;
	if (batch->seen_before >= ingest->next_listing || !is_same_directory(ingest, batch->root))
		return DUE_LISTING;
	if (ingest->watch == NULL)
		return DUE_NOTHING;
	if (lh_file_watch_has_lost(ingest->watch) && batch->seen_before >= ingest->earliest_listing)
		return DUE_LISTING;
	told = lh_file_watch_has_told(ingest->watch);
	return told ? DUE_TOLD : DUE_NOTHING;
}

/*
 * is_same_directory tells whether the server's directory is the one that was
 * listed, and not another one under the same name.
 */
static bool
is_same_directory(const FileIngest *ingest, const LhDescriptor *root)
{
	return !ingest->listed ||
		(ingest->root_device == root->status.st_dev && ingest->root_inode == root->status.st_ino);
}

/*
 * read_told looks at what the system told of.
 */
static void
read_told(FileBatch *batch, ListingChunk *chunk)
{
	FileIngest *ingest = batch->ingest;
	LhListCounts counts = {0};

	chunk->known = ingest->known;
	lh_file_list_told(batch->root, ingest->filter, ingest->watch, add_listed, chunk, &counts);
	finish_chunk(chunk);
	ingest->news.looks++;
	ingest->news.looked_at += counts.looked_at;
	ingest->news.found_told += chunk->look.added;
	/* a new directory may have been one too many */
	if (ingest->told_all && !lh_file_watch_is_complete(ingest->watch))
		ingest->next_listing = Min(ingest->next_listing, ingest->earliest_listing);
	/* no endless looks where many names change that are not the source's */
	ingest->earliest_look = GetCurrentTimestamp() + LH_MIN_PAUSE_US;
}

/*
 * read_listing compares all that is there with the ledger.
 */
static void
read_listing(FileBatch *batch, ListingChunk *chunk)
{
	FileIngest *ingest = batch->ingest;
	LhDiscoveryNews *news = &ingest->news;
	TimestampTz started = GetCurrentTimestamp();
	bool		backfill = ingest->listed && ingest->watch != NULL && started >= ingest->next_listing &&
	lh_file_watch_is_complete(ingest->watch) && !lh_file_watch_has_lost(ingest->watch) &&
	is_same_directory(ingest, batch->root);

	/* what the others set aside is not known here */
	if (ingest->base.source->shared || started - ingest->known_since > KNOWN_US)
		lh_file_forget_known(ingest);
	if (ingest->known == NULL)
		read_known(batch);
	chunk->known = ingest->known;
	memset(&news->counts, 0, sizeof(news->counts));
	lh_file_list(batch->root, ingest->filter, ingest->watch, add_listed, chunk, &news->counts);
	finish_chunk(chunk);

	ingest->root_device = batch->root->status.st_dev;
	ingest->root_inode = batch->root->status.st_ino;
	plan_listing(ingest, started);
	news->listings++;
	news->found_listed += chunk->look.added;
	if (backfill)
		news->found_backfill += chunk->look.added;
	news->watched = ingest->told_all;
	news->directories = ingest->watch != NULL ? lh_file_watch_count(ingest->watch) : 0;
	news->listed = started;
	news->listing_us = ingest->listed_at - started;
	/* the next one is far away, and so is the next question */
	if (ingest->told_all)
		lh_file_forget_known(ingest);
}

/*
 * plan_listing says when the next one is due, after one that began at "started".
 */
static void
plan_listing(FileIngest *ingest, TimestampTz started)
{
	TimestampTz now = GetCurrentTimestamp();

	ingest->told_all = ingest->watch != NULL && lh_file_watch_is_complete(ingest->watch);
	ingest->earliest_listing = now + Max(LH_MIN_PAUSE_US, (now - started) * LISTING_SHARE);
	if (!ingest->told_all)
		ingest->next_listing = now + (int64) lh_poll_interval * 1000;
	else if (ingest->options.discovery == LH_DISCOVERY_NOTIFY)
		ingest->next_listing = DT_NOEND;
	else
		ingest->next_listing = now + ingest->options.backfill_us;
	ingest->next_listing = Max(ingest->next_listing, ingest->earliest_listing);
	ingest->listed = true;
	ingest->listed_from = started;
	ingest->listed_at = now;
}

static int
compare_paths(const void *a, const void *b)
{
	return strcmp(((const LhListed *) a)->path, ((const LhListed *) b)->path);
}

/*
 * enter_chunk enters names in their order, in which pages of the ledger's index
 * are found in memory, and each once: a directory that changes while it is read
 * may tell of a name twice.
 */
static void
enter_chunk(ListingChunk *chunk)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(chunk->context);
	int			count = 0;

	qsort(chunk->listed, chunk->count, sizeof(LhListed), compare_paths);
	for (int i = 0; i < chunk->count; i++)
		if (count == 0 || compare_paths(&chunk->listed[count - 1], &chunk->listed[i]) != 0)
			chunk->listed[count++] = chunk->listed[i];
	if (count > 0)
		lh_ledger_enter(&chunk->look, chunk->listed, count);
	chunk->count = 0;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(chunk->context);
}

/*
 * add_unknown adds a name to the chunk, as it can stand in the ledger.
 */
static void
add_unknown(ListingChunk *chunk, const LhListed *listed)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(chunk->context);
	LhListed   *item;
	bool		valid;
	const char *printable;

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
	if (chunk->count == LISTING_CHUNK)
		enter_chunk(chunk);
}

static void
settle_expected(ListingChunk *chunk, Expected *expected)
{
	if (expected->path[0] != '\0' && !lh_known_has(chunk->known, expected->print))
		add_unknown(chunk, &expected->listed);
	expected->path[0] = '\0';
}

/*
 * add_listed takes what a walk found.  That a file is known is asked some files
 * later: until then its place in the table has come from memory.
 */
static void
add_listed(const LhListed *listed, void *arg)
{
	ListingChunk *chunk = arg;
	Expected   *expected;

	if (chunk->known == NULL || listed->problem != NULL)
	{
		add_unknown(chunk, listed);
		return;
	}
	expected = &chunk->ahead[chunk->expecting++ % AHEAD];
	settle_expected(chunk, expected);
	expected->listed = *listed;
	strlcpy(expected->path, listed->path, sizeof(expected->path));
	expected->listed.path = expected->path;
	expected->print = lh_known_expect(chunk->known, listed);
}

/*
 * finish_chunk brings what was listed to its end.
 */
static void
finish_chunk(ListingChunk *chunk)
{
	for (int i = 0; i < AHEAD; i++)
		settle_expected(chunk, &chunk->ahead[i]);
	enter_chunk(chunk);
}

/*
 * read_known reads what of the ledger need not be looked up, if there are enough
 * files for that.
 */
static void
read_known(FileBatch *batch)
{
	FileIngest *ingest = batch->ingest;
	int64		least = lh_known_least();
	MemoryContext oldcontext;

	if (least == 0 || !lh_file_list_reaches(batch->root, ingest->filter, least))
		return;
	oldcontext = MemoryContextSwitchTo(ingest->base.context);
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
 * lh_file_skip_existing enters the files that are there as ones not to be
 * loaded.  As the owner of the source.
 */
void
lh_file_skip_existing(const LhSource *source, Jsonb *options)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse existing files",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	LhListCounts counts = {0};
	LhFileOptions parsed;
	ListingChunk *chunk;

	lh_file_options_parse(options, source->path, false, &parsed);
	chunk = begin_chunk(source->source_id, &parsed);
	chunk->look.existing = true;
	lh_file_list(lh_file_root_open(source->server), lh_file_filter_create(&parsed.selection), NULL,
				 add_listed, chunk, &counts);
	finish_chunk(chunk);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}
