/*
 * rescue_count.c
 *	  How many values of which field were rescued by one load, and why.
 *
 * Invariant: memory does not grow with the names in the files: beyond
 * MAX_NAMES of them, each cut to what a column's name can have, all others of a
 * reason are counted as one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "bronze/rescue_count.h"
#include "catalog/catalog_access.h"

#define MAX_NAMES 200
#define TABLE_SIZE 512			/* a power of two, more than twice as many */

const char *const lh_rescue_reason_names[] = {"unknown_column", "type_mismatch", "duplicate", "case_mismatch"};

typedef struct Count
{
	int64		kept;
	int64		session;		/* of rows that may still be dropped */
	int32		record;			/* of the record in hand */
} Count;

typedef struct FieldCounts
{
	int			length;
	char		text[NAMEDATALEN];
	Count		counts[LH_RESCUE_REASONS];
} FieldCounts;

/* a value of the record in hand */
typedef struct Noted
{
	int16		name;
	int16		reason;
} Noted;

struct LhRescueCounts
{
	MemoryContext context;
	int			name_count;
	FieldCounts *names;			/* MAX_NAMES, and one for all others */
	int16		table[TABLE_SIZE];	/* name + 1; 0 = empty */
	Noted	   *noted;			/* distinct ones */
	int			noted_count;
	int			noted_allocated;
	bool		dirty;			/* the session counted something */
};

LhRescueCounts *
lh_rescue_counts_create(void)
{
	LhRescueCounts *counts = palloc0(sizeof(LhRescueCounts));

	counts->context = CurrentMemoryContext;
	return counts;
}

void
lh_rescue_counts_reset(LhRescueCounts *counts)
{
	if (counts->names != NULL)
		memset(counts->names, 0, sizeof(FieldCounts) * (MAX_NAMES + 1));
	memset(counts->table, 0, sizeof(counts->table));
	counts->name_count = 0;
	counts->noted_count = 0;
	counts->dirty = false;
}

/*
 * find_name returns the number of a name, which may be that of all others.
 */
static int
find_name(LhRescueCounts *counts, const char *name, int length)
{
	uint32		slot;
	FieldCounts *entry;

	if (counts->names == NULL)
		counts->names = MemoryContextAllocZero(counts->context, sizeof(FieldCounts) * (MAX_NAMES + 1));
	if (length >= NAMEDATALEN)
		length = pg_mbcliplen(name, length, NAMEDATALEN - 1);
	slot = hash_bytes((const unsigned char *) name, length) % TABLE_SIZE;
	for (; counts->table[slot] != 0; slot = (slot + 1) % TABLE_SIZE)
	{
		entry = &counts->names[counts->table[slot] - 1];
		if (entry->length == length && memcmp(entry->text, name, length) == 0)
			return counts->table[slot] - 1;
	}
	if (counts->name_count == MAX_NAMES)
		return MAX_NAMES;
	entry = &counts->names[counts->name_count++];
	entry->length = length;
	memcpy(entry->text, name, length);
	counts->table[slot] = counts->name_count;
	return counts->name_count - 1;
}

void
lh_rescue_counts_begin_record(LhRescueCounts *counts)
{
	for (int i = 0; i < counts->noted_count; i++)
		counts->names[counts->noted[i].name].counts[counts->noted[i].reason].record = 0;
	counts->noted_count = 0;
}

void
lh_rescue_counts_note(LhRescueCounts *counts, const char *name, int length, LhRescueReason reason)
{
	int			number = find_name(counts, name, length);

	if (counts->names[number].counts[reason].record++ > 0)
		return;
	if (counts->noted_count == counts->noted_allocated)
	{
		counts->noted_allocated = Max(counts->noted_allocated * 2, 16);
		counts->noted = counts->noted == NULL ?
			MemoryContextAlloc(counts->context, sizeof(Noted) * counts->noted_allocated) :
			repalloc(counts->noted, sizeof(Noted) * counts->noted_allocated);
	}
	counts->noted[counts->noted_count++] = (Noted) {.name = number, .reason = reason};
}

void
lh_rescue_counts_take(LhRescueCounts *counts)
{
	for (int i = 0; i < counts->noted_count; i++)
	{
		Count	   *count = &counts->names[counts->noted[i].name].counts[counts->noted[i].reason];

		count->session += count->record;
	}
	counts->dirty |= counts->noted_count > 0;
}

static void
end_session(LhRescueCounts *counts, bool keep)
{
	if (!counts->dirty)
		return;
	for (int i = 0; i <= MAX_NAMES; i++)
		for (int reason = 0; reason < LH_RESCUE_REASONS; reason++)
		{
			Count	   *count = &counts->names[i].counts[reason];

			count->kept += keep ? count->session : 0;
			count->session = 0;
		}
	counts->dirty = false;
}

void
lh_rescue_counts_keep(LhRescueCounts *counts)
{
	end_session(counts, true);
}

void
lh_rescue_counts_drop(LhRescueCounts *counts)
{
	end_session(counts, false);
}

void
lh_rescue_counts_write(const LhRescueCounts *counts, int64 load_id)
{
	static const Oid types[] = {INT8OID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID};
	int			size = (counts->name_count + 1) * LH_RESCUE_REASONS;
	Datum	   *names = palloc(sizeof(Datum) * size);
	bool	   *unnamed = palloc(sizeof(bool) * size);
	Datum	   *reasons = palloc(sizeof(Datum) * size);
	Datum	   *numbers = palloc(sizeof(Datum) * size);
	int			count = 0;
	int			lower = 1;
	LhCatalog	catalog;
	Datum		values[4];

	for (int i = 0; counts->names != NULL && i <= MAX_NAMES; i++)
		for (int reason = 0; reason < LH_RESCUE_REASONS; reason++)
		{
			const FieldCounts *name = &counts->names[i];

			if (name->counts[reason].kept == 0)
				continue;
			unnamed[count] = i == MAX_NAMES;
			names[count] = PointerGetDatum(cstring_to_text_with_len(name->text, name->length));
			reasons[count] = CStringGetTextDatum(lh_rescue_reason_names[reason]);
			numbers[count++] = Int64GetDatum(name->counts[reason].kept);
		}
	if (count == 0)
		return;
	values[0] = Int64GetDatum(load_id);
	values[1] = PointerGetDatum(construct_md_array(names, unnamed, 1, &count, &lower, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(reasons, count, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = PointerGetDatum(construct_array(numbers, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.rescued (load_id, column_name, reason, count)"
				   " SELECT $1, n, r, c FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) u (n, r, c)",
				   4, types, values, NULL);
	lh_catalog_end(&catalog);
}
