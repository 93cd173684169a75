/*
 * file_known.c
 *	  The files of a source that a listing may pass over, in little memory.
 *
 * A listing of a million files of which nothing changed must not look each of
 * them up in the ledger.  One pass over the ledger makes a table of fingerprints
 * (128 bits of path, size and modification time); what is found there needs no
 * look-up.
 *
 * Invariant: only entries are in it for which a listing with this path, size and
 * time means nothing, as lh_ledger_enter decides.  What is not in it is looked
 * up: an entry that is missing costs time, never a file.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "bronze/file_known.h"
#include "catalog/catalog_access.h"

/* entries that are read from the ledger at once */
#define READ_CHUNK 10000

/* a table of more would take more than 32 MB */
#define MAX_SLOTS (2 * 1024 * 1024)
#define MIN_SLOTS 4096

/* reading an entry in a pass costs about this part of looking it up */
#define PASS_ADVANTAGE 4

typedef struct Fingerprint
{
	uint64		words[2];		/* both 0 = empty slot */
} Fingerprint;

struct LhKnownFiles
{
	MemoryContext context;
	int			count;
	int			slots;			/* a power of two */
	Fingerprint *table;
};

static Fingerprint
make_fingerprint(const char *path, int length, int64 size, int64 mtime_ns)
{
	uint64		facts[2] = {(uint64) size, (uint64) mtime_ns};
	Fingerprint print;

	for (int i = 0; i < 2; i++)
		print.words[i] = hash_bytes_extended((const unsigned char *) path, length,
											 hash_bytes_extended((const unsigned char *) facts, sizeof(facts), i + 1));
	print.words[0] |= 1;
	return print;
}

static Fingerprint *
find_slot(const LhKnownFiles *known, Fingerprint print)
{
	for (uint64 at = print.words[1];; at++)
	{
		Fingerprint *slot = &known->table[at & (known->slots - 1)];

		if (slot->words[0] == 0 ||
			(slot->words[0] == print.words[0] && slot->words[1] == print.words[1]))
			return slot;
	}
}

static void
make_table(LhKnownFiles *known, int slots)
{
	Fingerprint *old = known->table;
	int			old_slots = known->slots;

	known->slots = slots;
	known->table = MemoryContextAllocZero(known->context, sizeof(Fingerprint) * slots);
	for (int i = 0; i < old_slots; i++)
		if (old[i].words[0] != 0)
			*find_slot(known, old[i]) = old[i];
	if (old != NULL)
		pfree(old);
}

/*
 * add_print returns false when the table is full.
 */
static bool
add_print(LhKnownFiles *known, Fingerprint print)
{
	if (known->count * 4 >= known->slots * 3)
	{
		if (known->slots == MAX_SLOTS)
			return false;
		make_table(known, known->slots * 2);
	}
	*find_slot(known, print) = print;
	known->count++;
	return true;
}

/*
 * read_chunk adds entries behind *path, which it moves on in the given context;
 * returns how many it read, or -1 when the table is full.  What was seen but not
 * loaded counts under LH_CHANGE_TAIL alone.
 */
static int64
read_chunk(LhKnownFiles *known, int32 source_id, LhOnChange on_change, MemoryContext context,
		   char **path)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID, BOOLOID};
	Datum		values[4] = {Int32GetDatum(source_id), CStringGetTextDatum(*path),
	Int32GetDatum(READ_CHUNK), BoolGetDatum(on_change == LH_CHANGE_TAIL)};
	LhCatalog	catalog;
	int64		count;
	bool		room = true;

	lh_catalog_begin(&catalog);
	lh_catalog_by_index();
	count = (int64) lh_catalog_run("SELECT path, coalesce(seen_size, size), coalesce(seen_mtime_ns, mtime_ns),"
								   "  ((seen_size IS NULL AND state OPERATOR(pg_catalog.=) ANY ('{discovered,loading,loaded,failed}'))"
								   "   OR ($4 AND state OPERATOR(pg_catalog.=) ANY ('{loading,loaded,changed}')))::pg_catalog.int4"
								   " FROM lakehouse.file"
								   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.>) $2 AND ended IS NULL"
								   " ORDER BY path LIMIT $3",
								   4, types, values, NULL);
	for (int64 row = 0; row < count && room; row++)
	{
		bool		isnull;
		text	   *name = DatumGetTextPP(lh_catalog_value(row, 1, &isnull));

		if (lh_catalog_int64(row, 4, 0) != 0)
			room = add_print(known, make_fingerprint(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name),
													 lh_catalog_int64(row, 2, 0), lh_catalog_int64(row, 3, 0)));
		if (row == count - 1)
			*path = lh_catalog_text(row, 1, context);
	}
	lh_catalog_end(&catalog);
	return room ? count : -1;
}

LhKnownFiles *
lh_known_read(int32 source_id, LhOnChange on_change)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse known files",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext chunk = AllocSetContextCreate(context, "lakehouse known files read",
												ALLOCSET_DEFAULT_SIZES);
	LhKnownFiles *known = MemoryContextAllocZero(context, sizeof(LhKnownFiles));
	char	   *path = "";
	int64		count;

	known->context = context;
	make_table(known, MIN_SLOTS);
	do
	{
		MemoryContext oldcontext;

		CHECK_FOR_INTERRUPTS();
		oldcontext = MemoryContextSwitchTo(chunk);
		count = read_chunk(known, source_id, on_change, context, &path);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(chunk);
	} while (count == READ_CHUNK);
	MemoryContextDelete(chunk);
	if (count >= 0)
		return known;
	lh_known_free(known);
	return NULL;
}

bool
lh_known_has(const LhKnownFiles *known, const LhListed *listed)
{
	Fingerprint print;

	if (listed->problem != NULL)
		return false;
	print = make_fingerprint(listed->path, (int) strlen(listed->path), listed->size, listed->mtime_ns);
	return find_slot(known, print)->words[0] != 0;
}

void
lh_known_free(LhKnownFiles *known)
{
	MemoryContextDelete(known->context);
}

/*
 * lh_known_pays compares with the size of the ledger, all sources together, as
 * the statistics have it: a pass over many entries for a few files would not.
 */
bool
lh_known_pays(int64 listed)
{
	LhCatalog	catalog;
	int64		entries;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT reltuples::pg_catalog.int8 FROM pg_catalog.pg_class"
				   " WHERE oid OPERATOR(pg_catalog.=) 'lakehouse.file'::pg_catalog.regclass",
				   0, NULL, NULL, NULL);
	entries = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	return entries <= listed * PASS_ADVANTAGE;
}
