/*
 * merge_diff.c
 *	  Makes a set of rows of the target exactly the given rows, and writes only
 *	  what differs.
 *
 * Old and new rows go into one sort by (hash of the key, hash of the row).  Rows
 * that are alike meet there and cancel out; what is left of one key is paired
 * into updates in place, and the rest becomes deletes and inserts.
 *
 * Invariant: hashes only decide what meets.  Two rows cancel out only after a
 * comparison of all their columns, and every other old row is deleted or
 * overwritten and every other new row written, so a collision costs a needless
 * write and never a wrong table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"

#include "fault.h"
#include "flow/merge_internal.h"

/* columns of a sorted row before those of the work row */
enum
{
	DIFF_KEY_HASH = 1,
	DIFF_ROW_HASH,
	DIFF_OLD,					/* true: a row of the target */
	DIFF_PLACE,					/* its ctid */
	DIFF_PART,					/* and tableoid */
	DIFF_HEAD = DIFF_PART
};

/* how many rows of one key wait to be paired with rows of the other side */
#define MAX_WAITING 1000

/* One comparison; also the receiver of the target's rows. */
typedef struct Diff
{
	DestReceiver receiver;		/* must come first */
	LhMergePlan *plan;
	TupleDesc	desc;			/* of the sorted rows */
	Tuplesortstate *sort;
	TupleTableSlot *row;		/* one sorted row being formed */
	MemoryContext scratch;

	/* results: rows of "desc" without the head's first three columns */
	TupleDesc	change_desc;
	TupleTableSlot *change;
	LhMergeRows deletes;
	LhMergeRows updates;
	LhMergeRows inserts;

	/* rows of the current key that found no equal: all old or all new */
	MinimalTuple waiting[MAX_WAITING];
	int			nwaiting;
	bool		waiting_new;
	TupleTableSlot *waited;
} Diff;

static Diff *diff_begin(LhMergePlan *plan);
static void read_new_rows(Diff *diff, Tuplestorestate *rows, TupleDesc delta, int64 *count);
static void read_old_rows(Diff *diff, Tuplestorestate *touched, TupleDesc touched_desc);
static LhMergeRows *coerce_touched(LhMergePlan *plan, Tuplestorestate *touched,
								   TupleDesc desc, List **masks);
static bool receive_old_row(TupleTableSlot *slot, DestReceiver *self);
static void put_row(Diff *diff, TupleTableSlot *slot, int skip, bool new);
static void compare_sorted(Diff *diff);
static bool same_row(Diff *diff, TupleTableSlot *a, TupleTableSlot *b);
static void unmatched(Diff *diff, TupleTableSlot *slot);
static void flush_waiting(Diff *diff);
static void add_change(Diff *diff, LhMergeRows *changes, TupleTableSlot *place,
					   TupleTableSlot *values);
static void write_changes(Diff *diff, LhMergeCounts *counts);
static void diff_end(Diff *diff);

/*
 * lh_merge_diff makes the target's rows (all, or those of the touched keys)
 * exactly the given rows.
 */
void
lh_merge_diff(LhMergePlan *plan, Tuplestorestate *rows, TupleDesc delta,
			  Tuplestorestate *touched, TupleDesc touched_desc, LhMergeCounts *counts)
{
	Diff	   *diff = diff_begin(plan);

	read_new_rows(diff, rows, delta, &counts->rows_in);
	read_old_rows(diff, touched, touched_desc);
	tuplesort_performsort(diff->sort);
	compare_sorted(diff);
	write_changes(diff, counts);
	diff_end(diff);
}

static Diff *
diff_begin(LhMergePlan *plan)
{
	Diff	   *diff = palloc0(sizeof(Diff));
	AttrNumber	columns[] = {DIFF_KEY_HASH, DIFF_ROW_HASH, DIFF_OLD};
	Oid			operators[] = {Int8LessOperator, Int8LessOperator, InvalidOid};
	Oid			collations[3] = {0};
	bool		nulls_first[3] = {0};

	operators[2] = lookup_type_cache(BOOLOID, TYPECACHE_LT_OPR)->lt_opr;
	diff->plan = plan;
	diff->scratch = AllocSetContextCreate(CurrentMemoryContext, "lakehouse merge row",
										  ALLOCSET_DEFAULT_SIZES);
	diff->desc = CreateTemplateTupleDesc(DIFF_HEAD + plan->ncolumns);
	TupleDescInitEntry(diff->desc, DIFF_KEY_HASH, "key_hash", INT8OID, -1, 0);
	TupleDescInitEntry(diff->desc, DIFF_ROW_HASH, "row_hash", INT8OID, -1, 0);
	TupleDescInitEntry(diff->desc, DIFF_OLD, "old", BOOLOID, -1, 0);
	TupleDescInitEntry(diff->desc, DIFF_PLACE, "place", TIDOID, -1, 0);
	TupleDescInitEntry(diff->desc, DIFF_PART, "part", OIDOID, -1, 0);
	diff->change_desc = CreateTemplateTupleDesc(2 + plan->ncolumns);
	TupleDescCopyEntry(diff->change_desc, 1, diff->desc, DIFF_PLACE);
	TupleDescCopyEntry(diff->change_desc, 2, diff->desc, DIFF_PART);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		TupleDescCopyEntry(diff->desc, DIFF_HEAD + i + 1, plan->work, i + 1);
		TupleDescCopyEntry(diff->change_desc, 2 + i + 1, plan->work, i + 1);
	}

	diff->row = MakeSingleTupleTableSlot(diff->desc, &TTSOpsVirtual);
	diff->waited = MakeSingleTupleTableSlot(diff->desc, &TTSOpsMinimalTuple);
	diff->change = MakeSingleTupleTableSlot(diff->change_desc, &TTSOpsVirtual);
	diff->deletes.desc = diff->updates.desc = diff->inserts.desc = diff->change_desc;
	diff->deletes.store = tuplestore_begin_heap(false, false, work_mem);
	diff->updates.store = tuplestore_begin_heap(false, false, work_mem);
	diff->inserts.store = tuplestore_begin_heap(false, false, work_mem);
	diff->sort = tuplesort_begin_heap(diff->desc, 3, columns, operators, collations,
									  nulls_first, maintenance_work_mem, NULL, TUPLESORT_NONE);
	return diff;
}

static void
diff_end(Diff *diff)
{
	tuplesort_end(diff->sort);
	tuplestore_end(diff->deletes.store);
	tuplestore_end(diff->updates.store);
	tuplestore_end(diff->inserts.store);
	ExecDropSingleTupleTableSlot(diff->row);
	ExecDropSingleTupleTableSlot(diff->waited);
	ExecDropSingleTupleTableSlot(diff->change);
	MemoryContextDelete(diff->scratch);
}

static void
read_new_rows(Diff *diff, Tuplestorestate *rows, TupleDesc delta, int64 *count)
{
	LhProjection *projection = lh_projection_begin(diff->plan->expressions, delta,
												   diff->plan->work);
	TupleTableSlot *slot;

	tuplestore_rescan(rows);
	while ((slot = lh_projection_next(projection, rows)) != NULL)
	{
		(*count)++;
		put_row(diff, slot, 0, true);
	}
	lh_projection_end(projection);
}

/*
 * read_old_rows reads the target's rows, with one statement, or with touched
 * keys one for each combination of keys that are NULL in some of them.
 */
static void
read_old_rows(Diff *diff, Tuplestorestate *touched, TupleDesc touched_desc)
{
	LhMergeRows *keys;
	List	   *masks;
	ListCell   *cell;

	diff->receiver.receiveSlot = receive_old_row;
	diff->receiver.rStartup = None_Receiver->rStartup;
	diff->receiver.rShutdown = None_Receiver->rShutdown;
	diff->receiver.rDestroy = None_Receiver->rDestroy;
	diff->receiver.mydest = DestNone;
	if (diff->plan->merge->mode == LH_MERGE_COMPLETE)
	{
		lh_merge_read(lh_merge_sql_old_rows(diff->plan, false, 0), NULL, &diff->receiver);
		return;
	}

	keys = coerce_touched(diff->plan, touched, touched_desc, &masks);
	foreach(cell, masks)
		lh_merge_read(lh_merge_sql_old_rows(diff->plan, true, (uint32) lfirst_int(cell)),
					  keys, &diff->receiver);
	tuplestore_end(keys->store);
}

/*
 * coerce_touched turns touched keys into the target's types, and collects which
 * combinations of NULL keys (bit masks) occur.
 */
static LhMergeRows *
coerce_touched(LhMergePlan *plan, Tuplestorestate *touched, TupleDesc desc, List **masks)
{
	LhMergeRows *keys = palloc0(sizeof(LhMergeRows));
	LhProjection *projection;
	List	   *expressions = NIL;
	TupleTableSlot *slot;

	*masks = NIL;
	if (touched == NULL || desc->natts != plan->nkeys)
		elog(ERROR, "touched keys do not match the keys of the merge");
	keys->desc = CreateTemplateTupleDesc(plan->nkeys);
	for (int i = 0; i < plan->nkeys; i++)
	{
		LhMergeColumn *key = plan->keys[i];
		Form_pg_attribute from = TupleDescAttr(desc, i);
		Node	   *value = (Node *) makeVar(1, i + 1, from->atttypid, from->atttypmod,
											 from->attcollation, 0);

		value = coerce_to_target_type(NULL, value, from->atttypid, key->type, key->typmod,
									  COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
		if (value == NULL)
			elog(ERROR, "touched keys do not fit the keys of the merge");
		expressions = lappend(expressions, value);
		TupleDescInitEntry(keys->desc, i + 1, psprintf("k%d", i + 1), key->type, key->typmod, 0);
		TupleDescInitEntryCollation(keys->desc, i + 1, key->collation);
	}

	keys->store = tuplestore_begin_heap(false, false, work_mem);
	projection = lh_projection_begin(expressions, desc, keys->desc);
	tuplestore_rescan(touched);
	while ((slot = lh_projection_next(projection, touched)) != NULL)
	{
		uint32		mask = 0;

		for (int i = 0; i < plan->nkeys; i++)
			if (slot->tts_isnull[i])
				mask |= (uint32) 1 << i;
		*masks = list_append_unique_int(*masks, (int) mask);
		tuplestore_puttupleslot(keys->store, slot);
		keys->count++;
	}
	lh_projection_end(projection);
	return keys;
}

static bool
receive_old_row(TupleTableSlot *slot, DestReceiver *self)
{
	slot_getallattrs(slot);
	put_row((Diff *) self, slot, 2, false);
	return true;
}

/*
 * put_row adds a row to the sort.  "skip" columns stand before the work row's:
 * ctid and tableoid of an old row.
 */
static void
put_row(Diff *diff, TupleTableSlot *slot, int skip, bool new)
{
	LhMergePlan *plan = diff->plan;
	TupleTableSlot *row = diff->row;
	MemoryContext old = MemoryContextSwitchTo(diff->scratch);
	uint64		row_hash = 0;
	uint64		key_hash = 0;

	ExecClearTuple(row);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(plan->work, i);
		uint64		hash = 0;

		row->tts_values[DIFF_HEAD + i] = slot->tts_values[skip + i];
		row->tts_isnull[DIFF_HEAD + i] = slot->tts_isnull[skip + i];
		if (!slot->tts_isnull[skip + i])
			hash = hash_bytes_uint32_extended(datum_image_hash(slot->tts_values[skip + i],
															   attribute->attbyval,
															   attribute->attlen), i + 1);
		row_hash = hash_combine64(row_hash, hash);
		if (plan->columns[i].key)
			key_hash = hash_combine64(key_hash, hash);
	}
	/* without keys nothing can be paired: then only equal rows need to meet */
	if (plan->nkeys == 0)
		key_hash = row_hash;

	row->tts_values[DIFF_KEY_HASH - 1] = Int64GetDatum((int64) key_hash);
	row->tts_values[DIFF_ROW_HASH - 1] = Int64GetDatum((int64) row_hash);
	row->tts_values[DIFF_OLD - 1] = BoolGetDatum(!new);
	row->tts_isnull[DIFF_KEY_HASH - 1] = row->tts_isnull[DIFF_ROW_HASH - 1] =
		row->tts_isnull[DIFF_OLD - 1] = false;
	row->tts_isnull[DIFF_PLACE - 1] = row->tts_isnull[DIFF_PART - 1] = new;
	if (!new)
	{
		row->tts_values[DIFF_PLACE - 1] = slot->tts_values[0];
		row->tts_values[DIFF_PART - 1] = slot->tts_values[1];
	}
	ExecStoreVirtualTuple(row);
	MemoryContextSwitchTo(old);
	tuplesort_puttupleslot(diff->sort, row);
	MemoryContextReset(diff->scratch);
}

static uint64
hash_of(TupleTableSlot *slot, AttrNumber column)
{
	bool		isnull;

	return (uint64) DatumGetInt64(slot_getattr(slot, column, &isnull));
}

static bool
is_new(TupleTableSlot *slot)
{
	bool		isnull;

	return !DatumGetBool(slot_getattr(slot, DIFF_OLD, &isnull));
}

/*
 * compare_sorted walks through the sorted rows.  Of rows with the same hash the
 * new ones come first: they are counted, as long as they are alike, and old ones
 * that are like them cancel them out.  So any number of equal rows takes no more
 * memory than one.
 */
static void
compare_sorted(Diff *diff)
{
	TupleTableSlot *next = MakeSingleTupleTableSlot(diff->desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new = MakeSingleTupleTableSlot(diff->desc, &TTSOpsMinimalTuple);
	int64		pending = 0;	/* new rows like "new" that found no old one */
	uint64		key_hash = 0;
	uint64		row_hash = 0;
	bool		more;

	do
	{
		CHECK_FOR_INTERRUPTS();
		more = tuplesort_gettupleslot(diff->sort, true, false, next, NULL);
		if (!more || hash_of(next, DIFF_ROW_HASH) != row_hash ||
			hash_of(next, DIFF_KEY_HASH) != key_hash)
		{
			for (; pending > 0; pending--)
				unmatched(diff, new);
			ExecClearTuple(new);
		}
		if (!more || hash_of(next, DIFF_KEY_HASH) != key_hash)
			flush_waiting(diff);
		if (!more)
			break;

		key_hash = hash_of(next, DIFF_KEY_HASH);
		row_hash = hash_of(next, DIFF_ROW_HASH);
		if (is_new(next))
		{
			if (TTS_EMPTY(new))
				ExecCopySlot(new, next);
			else if (!same_row(diff, new, next))
			{
				/* another row with the same hash */
				unmatched(diff, next);
				continue;
			}
			pending++;
		}
		else if (pending > 0 && same_row(diff, new, next))
			pending--;
		else
			unmatched(diff, next);
	} while (more);

	ExecDropSingleTupleTableSlot(next);
	ExecDropSingleTupleTableSlot(new);
}

static bool
same_row(Diff *diff, TupleTableSlot *a, TupleTableSlot *b)
{
	bool		same = true;
	MemoryContext old = MemoryContextSwitchTo(diff->scratch);

	slot_getallattrs(a);
	slot_getallattrs(b);
	for (int i = DIFF_HEAD; i < diff->desc->natts && same; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(diff->desc, i);

		if (a->tts_isnull[i] || b->tts_isnull[i])
			same = a->tts_isnull[i] == b->tts_isnull[i];
		else
			same = datum_image_eq(a->tts_values[i], b->tts_values[i],
								  attribute->attbyval, attribute->attlen);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(diff->scratch);
	return same;
}

/*
 * unmatched pairs a row that found no equal with a waiting row of the other
 * side, or lets it wait.
 */
static void
unmatched(Diff *diff, TupleTableSlot *slot)
{
	bool		new = is_new(slot);

	if (diff->nwaiting > 0 && diff->waiting_new != new && diff->plan->nkeys > 0)
	{
		ExecStoreMinimalTuple(diff->waiting[--diff->nwaiting], diff->waited, true);
		add_change(diff, &diff->updates, new ? diff->waited : slot, new ? slot : diff->waited);
		ExecClearTuple(diff->waited);
		return;
	}
	if (diff->nwaiting == MAX_WAITING || (diff->nwaiting > 0 && diff->waiting_new != new))
		flush_waiting(diff);
	diff->waiting[diff->nwaiting++] = ExecCopySlotMinimalTuple(slot);
	diff->waiting_new = new;
}

/*
 * flush_waiting turns what waits into deletes or inserts.
 */
static void
flush_waiting(Diff *diff)
{
	for (int i = 0; i < diff->nwaiting; i++)
	{
		ExecStoreMinimalTuple(diff->waiting[i], diff->waited, true);
		if (diff->waiting_new)
			add_change(diff, &diff->inserts, NULL, diff->waited);
		else
			add_change(diff, &diff->deletes, diff->waited, NULL);
		ExecClearTuple(diff->waited);
	}
	diff->nwaiting = 0;
}

static void
add_change(Diff *diff, LhMergeRows *changes, TupleTableSlot *place, TupleTableSlot *values)
{
	TupleTableSlot *change = diff->change;

	ExecClearTuple(change);
	memset(change->tts_isnull, true, sizeof(bool) * change->tts_tupleDescriptor->natts);
	if (place)
	{
		change->tts_values[0] = slot_getattr(place, DIFF_PLACE, &change->tts_isnull[0]);
		change->tts_values[1] = slot_getattr(place, DIFF_PART, &change->tts_isnull[1]);
	}
	if (values)
	{
		slot_getallattrs(values);
		for (int i = 0; i < diff->plan->ncolumns; i++)
		{
			change->tts_values[2 + i] = values->tts_values[DIFF_HEAD + i];
			change->tts_isnull[2 + i] = values->tts_isnull[DIFF_HEAD + i];
		}
	}
	ExecStoreVirtualTuple(change);
	tuplestore_puttupleslot(changes->store, change);
	changes->count++;
	ExecClearTuple(change);
}

/*
 * write_changes deletes first, so that a row may take over another's unique
 * values.
 */
static void
write_changes(Diff *diff, LhMergeCounts *counts)
{
	if (diff->deletes.count > 0)
		lh_merge_write(lh_merge_sql_delete_row(diff->plan), &diff->deletes, counts);
	LH_FAULT("merge-before-watermark");
	if (diff->updates.count > 0)
		lh_merge_write(lh_merge_sql_update_row(diff->plan), &diff->updates, counts);
	if (diff->inserts.count > 0)
		lh_merge_write(lh_merge_sql_insert(diff->plan, false), &diff->inserts, counts);
}
