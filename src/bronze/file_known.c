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

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "bronze/file_known.h"
#include "catalog/catalog_access.h"

/* a table of more would take more than 32 MB; what has no room is looked up */
#define MAX_SLOTS (2 * 1024 * 1024)
#define MIN_SLOTS 4096

/* reading an entry in a pass costs about this part of looking it up */
#define PASS_ADVANTAGE 8

/* what an entry takes in the table at least: a table of fingerprints that has to
 * grow takes half as much memory more for a moment */
#define ENTRY_BYTES 150

/* entries whose place is being fetched from memory */
#define AHEAD 16

struct LhKnownFiles
{
	MemoryContext context;
	int			count;
	int			slots;			/* a power of two */
	LhFingerprint *table;		/* a word that is 0 is in an empty slot */
};

static LhFingerprint
make_fingerprint(const char *path, int length, int64 size, int64 mtime_ns)
{
	uint64		version = hash_combine64((uint64) size, (uint64) mtime_ns);
	LhFingerprint print;

	for (int i = 0; i < 2; i++)
		print.words[i] = hash_bytes_extended((const unsigned char *) path, length, version + i);
	print.words[0] |= 1;
	return print;
}

static LhFingerprint *
find_slot(const LhKnownFiles *known, LhFingerprint print)
{
	for (uint64 at = print.words[1];; at++)
	{
		LhFingerprint *slot = &known->table[at & (known->slots - 1)];

		if (slot->words[0] == 0 ||
			(slot->words[0] == print.words[0] && slot->words[1] == print.words[1]))
			return slot;
	}
}

static void
make_table(LhKnownFiles *known, int slots)
{
	LhFingerprint *old = known->table;
	int			old_slots = known->slots;

	known->slots = slots;
	known->table = MemoryContextAllocZero(known->context, sizeof(LhFingerprint) * slots);
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
add_print(LhKnownFiles *known, LhFingerprint print)
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

/* A reading of the ledger. */
typedef struct KnownPass
{
	LhKnownFiles *known;
	bool		tail;			/* option on_change is "tail" */
	bool		full;
	uint64		taken;
	LhFingerprint ahead[AHEAD]; /* the last ones, not added yet */
} KnownPass;

/* columns of the pass */
enum
{
	COLUMN_PATH, COLUMN_SIZE, COLUMN_MTIME, COLUMN_SEEN_SIZE, COLUMN_SEEN_MTIME, COLUMN_STATE,
	COLUMN_HAS_REASON
};

/*
 * is_settled tells whether nothing follows when the file is listed as it is in
 * the ledger.  What was seen but not loaded counts under LH_CHANGE_TAIL alone.
 */
static bool
is_settled(const KnownPass *pass, const char *state, bool seen, bool has_reason)
{
	switch (state[0])
	{
		case 'd':				/* discovered, duplicate */
		case 'f':				/* failed */
			return !seen;
		case 'l':				/* loading, loaded */
			return !seen || pass->tail;
		case 'c':				/* changed */
			return pass->tail;
		case 's':				/* skipped; for good if there is no SQLSTATE */
			return !has_reason;
		case 'u':				/* undone */
			return true;
		default:
			return false;
	}
}

static inline void
fetch_slot(const LhKnownFiles *known, LhFingerprint print)
{
	__builtin_prefetch(&known->table[print.words[1] & (known->slots - 1)]);
}

/*
 * add_later adds the entry of some calls before, whose place has come from
 * memory by now.
 */
static void
add_later(KnownPass *pass, LhFingerprint print)
{
	LhFingerprint *place = &pass->ahead[pass->taken++ % AHEAD];

	if (place->words[0] != 0)
		pass->full = !add_print(pass->known, *place);
	*place = print;
	if (print.words[0] != 0)
		fetch_slot(pass->known, print);
}

static bool
take_entry(TupleTableSlot *slot, void *arg)
{
	KnownPass  *pass = arg;
	text	   *path;
	text	   *state;
	bool		seen;
	Datum	   *values = slot->tts_values;

	slot_getallattrs(slot);
	path = DatumGetTextPP(values[COLUMN_PATH]);
	state = DatumGetTextPP(values[COLUMN_STATE]);
	seen = !slot->tts_isnull[COLUMN_SEEN_SIZE];
	if (is_settled(pass, VARDATA_ANY(state), seen, DatumGetBool(values[COLUMN_HAS_REASON])))
		add_later(pass, make_fingerprint(VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path),
										 DatumGetInt64(values[seen ? COLUMN_SEEN_SIZE : COLUMN_SIZE]),
										 DatumGetInt64(values[seen ? COLUMN_SEEN_MTIME : COLUMN_MTIME])));
	return !pass->full;
}

/*
 * count_entries estimates the size of the ledger.
 */
static int64
count_entries(void)
{
	LhCatalog	catalog;
	int64		bytes;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.pg_relation_size('lakehouse.file'::pg_catalog.regclass)",
				   0, NULL, NULL, NULL);
	bytes = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	return bytes / ENTRY_BYTES;
}

LhKnownFiles *
lh_known_read(int32 source_id, LhOnChange on_change)
{
	static const Oid types[] = {INT4OID};
	Datum		value = Int32GetDatum(source_id);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse known files",
												  ALLOCSET_DEFAULT_SIZES);
	LhKnownFiles *known = MemoryContextAllocZero(context, sizeof(LhKnownFiles));
	KnownPass	pass = {.known = known, .tail = on_change == LH_CHANGE_TAIL};
	LhFingerprint none = {{0, 0}};
	int64		entries = count_entries();
	int			slots = MIN_SLOTS;
	LhCatalog	catalog;

	known->context = context;
	while (slots < MAX_SLOTS && slots / 4 * 3 < entries)
		slots *= 2;
	make_table(known, slots);
	lh_catalog_begin(&catalog);
	lh_catalog_each("SELECT path, size, mtime_ns, seen_size, seen_mtime_ns, state, sqlstate IS NOT NULL"
					" FROM lakehouse.file"
					" WHERE source_id OPERATOR(pg_catalog.=) $1 AND ended IS NULL",
					1, types, &value, take_entry, &pass);
	lh_catalog_end(&catalog);
	for (int i = 0; i < AHEAD; i++)
		add_later(&pass, none);
	return known;
}

LhFingerprint
lh_known_expect(const LhKnownFiles *known, const LhListed *listed)
{
	LhFingerprint print = make_fingerprint(listed->path, (int) strlen(listed->path),
										   listed->size, listed->mtime_ns);

	fetch_slot(known, print);
	return print;
}

bool
lh_known_has(const LhKnownFiles *known, LhFingerprint print)
{
	return find_slot(known, print)->words[0] != 0;
}

void
lh_known_free(LhKnownFiles *known)
{
	MemoryContextDelete(known->context);
}

/*
 * lh_known_least goes by the size of the ledger, all sources together: a pass
 * over many entries for a few files would cost more than looking these up.
 */
int64
lh_known_least(void)
{
	return count_entries() / PASS_ADVANTAGE;
}
