/*
 * writer_tuple.c
 *	  Slots of plain heap tables, and how their rows become heap tuples.
 *
 * The slots are virtual ones whose values need not be copied before the tuple is
 * formed, because they outlive the insert.  The tuple is formed in one pass over
 * a short description of the columns.
 *
 * Invariant: a tuple has the bytes that heap_form_tuple would give it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "executor/tuptable.h"

#include "bronze/writer_internal.h"

/* What forming a tuple needs to know of a column. */
typedef struct FormColumn
{
	int16		length;			/* attlen */
	bool		by_value;
	bool		packable;		/* a short value gets a short header */
	uint8		alignment;		/* in bytes */
	uint32		offset;			/* of the first columns, if none of them is NULL */
} FormColumn;

struct WriteForm
{
	Size		fixed_size;		/* at most, of all columns of fixed length */
	int			variable_count;
	int		   *variable;		/* the other columns */
	int			prefix_count;	/* first columns that are passed by value */
	Size		prefix_size;	/* bytes of them, if none is NULL */
	FormColumn	columns[FLEXIBLE_ARRAY_MEMBER];
};

typedef struct FormSlot
{
	VirtualTupleTableSlot base;
	const WriteForm *form;
	HeapTuple	formed;			/* the row's tuple, if its length was asked for */
} FormSlot;

static TupleTableSlotOps form_slot_ops;

static HeapTuple form_tuple(TupleTableSlot *slot);
static HeapTuple take_tuple(TupleTableSlot *slot);
static void clear_slot(TupleTableSlot *slot);

static int
alignment_bytes(char align)
{
	switch (align)
	{
		case TYPALIGN_CHAR:
			return 1;
		case TYPALIGN_SHORT:
			return ALIGNOF_SHORT;
		case TYPALIGN_INT:
			return ALIGNOF_INT;
		default:
			return ALIGNOF_DOUBLE;
	}
}

/*
 * lh_write_form_create describes the columns of a table, in the current context;
 * NULL if there is one of a kind that only the server should handle.
 */
WriteForm *
lh_write_form_create(TupleDesc tupdesc)
{
	WriteForm  *form = palloc0(offsetof(WriteForm, columns) + sizeof(FormColumn) * tupdesc->natts);

	form->variable = palloc(sizeof(int) * (tupdesc->natts + 1));
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		FormColumn *column = &form->columns[i];

		if (attribute->attlen < -1)
			return NULL;
		column->length = attribute->attlen;
		column->by_value = attribute->attbyval;
		column->packable = attribute->attlen == -1 && attribute->attstorage != TYPSTORAGE_PLAIN;
		column->alignment = alignment_bytes(attribute->attalign);
		if (column->by_value && form->prefix_count == i)
		{
			column->offset = TYPEALIGN(column->alignment, form->prefix_size);
			form->prefix_size = column->offset + column->length;
			form->prefix_count++;
		}
		if (attribute->attlen == -1)
			form->variable[form->variable_count++] = i;
		else
			form->fixed_size += attribute->attlen + column->alignment - 1;
	}
	return form;
}

static void
materialize_nothing(TupleTableSlot *slot)
{
}

/*
 * lh_write_form_slot makes a slot, in the current context.
 */
TupleTableSlot *
lh_write_form_slot(TupleDesc tupdesc, const WriteForm *form)
{
	TupleTableSlot *slot;

	if (form_slot_ops.base_slot_size == 0)
	{
		form_slot_ops = TTSOpsVirtual;
		form_slot_ops.base_slot_size = sizeof(FormSlot);
		form_slot_ops.materialize = materialize_nothing;
		form_slot_ops.copy_heap_tuple = take_tuple;
		form_slot_ops.clear = clear_slot;
	}
	slot = MakeSingleTupleTableSlot(tupdesc, &form_slot_ops);
	((FormSlot *) slot)->form = form;
	((FormSlot *) slot)->formed = NULL;
	return slot;
}

/*
 * take_tuple gives the tuple of a slot to a caller who may free it.
 */
static HeapTuple
take_tuple(TupleTableSlot *slot)
{
	FormSlot   *form = (FormSlot *) slot;
	HeapTuple	tuple = form->formed;

	if (tuple == NULL)
		return form_tuple(slot);
	form->formed = NULL;
	return tuple;
}

static void
clear_slot(TupleTableSlot *slot)
{
	((FormSlot *) slot)->formed = NULL;
	TTSOpsVirtual.clear(slot);
}

/*
 * lh_write_form_length tells how long the tuple of a slot made here will be, unless
 * it is moved to the TOAST table.
 */
Size
lh_write_form_length(TupleTableSlot *slot)
{
	FormSlot   *form = (FormSlot *) slot;

	if (form->formed == NULL)
		form->formed = form_tuple(slot);
	return form->formed->t_len;
}

/*
 * variable_size tells how many bytes the values of variable length may need; 0
 * if one of them stands elsewhere and the server is to form the tuple.
 */
static Size
variable_size(const WriteForm *form, const Datum *values, const bool *nulls)
{
	Size		size = 1;

	for (int n = 0; n < form->variable_count; n++)
	{
		int			i = form->variable[n];
		Pointer		value;

		if (nulls[i])
			continue;
		value = DatumGetPointer(values[i]);
		if (VARATT_IS_EXTERNAL(value))
			return 0;
		size += VARSIZE_ANY(value) + ALIGNOF_DOUBLE - 1;
	}
	return size;
}

static inline char *
pad(char *data, uint8 alignment)
{
	while (((uintptr_t) data & (alignment - 1)) != 0)
		*data++ = '\0';
	return data;
}

static inline char *
put_variable(char *data, const FormColumn *column, Pointer value)
{
	Size		length;

	if (VARATT_IS_SHORT(value))
	{
		length = VARSIZE_SHORT(value);
		memcpy(data, value, length);
		return data + length;
	}
	if (column->packable && VARATT_CAN_MAKE_SHORT(value))
	{
		length = VARATT_CONVERTED_SHORT_SIZE(value);
		SET_VARSIZE_SHORT(data, length);
		memcpy(data + 1, VARDATA(value), length - 1);
		return data + length;
	}
	data = pad(data, column->alignment);
	length = VARSIZE(value);
	memcpy(data, value, length);
	return data + length;
}

static inline char *
put_fixed(char *data, const FormColumn *column, Datum value)
{
	data = pad(data, column->alignment);
	if (column->by_value)
		store_att_byval(data, value, column->length);
	else
		memcpy(data, DatumGetPointer(value), column->length);
	return data + column->length;
}

/*
 * put_prefix writes the first columns, none of which is NULL, to their places.
 */
static inline char *
put_prefix(char *data, const WriteForm *form, const Datum *values)
{
	/* what is between them is zero */
	memset(data, 0, form->prefix_size);
	for (int i = 0; i < form->prefix_count; i++)
		store_att_byval(data + form->columns[i].offset, values[i], form->columns[i].length);
	return data + form->prefix_size;
}

/*
 * put_values writes the columns behind the header, and the bits of those that
 * are not NULL if there are bits.
 */
static inline char *
put_values(char *data, const WriteForm *form, int natts, const Datum *values, const bool *nulls,
		   bits8 *bits)
{
	int			first = 0;

	if (bits == NULL)
	{
		data = put_prefix(data, form, values);
		first = form->prefix_count;
	}
	for (int i = first; i < natts; i++)
	{
		const FormColumn *column = &form->columns[i];

		if (bits != NULL)
		{
			if (nulls[i])
				continue;
			bits[i >> 3] |= 1 << (i & 7);
		}
		if (column->length == -1)
			data = put_variable(data, column, DatumGetPointer(values[i]));
		else
			data = put_fixed(data, column, values[i]);
	}
	return data;
}

/*
 * form_tuple makes the tuple of a slot, in the current context.
 */
static HeapTuple
form_tuple(TupleTableSlot *slot)
{
	const WriteForm *form = ((FormSlot *) slot)->form;
	TupleDesc	tupdesc = slot->tts_tupleDescriptor;
	int			natts = tupdesc->natts;
	bool		has_nulls = memchr(slot->tts_isnull, true, natts) != NULL;
	Size		variable = variable_size(form, slot->tts_values, slot->tts_isnull);
	int			offset = MAXALIGN(SizeofHeapTupleHeader + (has_nulls ? BITMAPLEN(natts) : 0));
	HeapTuple	tuple;
	HeapTupleHeader header;
	char	   *end;

	if (variable == 0)
		return heap_form_tuple(tupdesc, slot->tts_values, slot->tts_isnull);
	tuple = palloc(HEAPTUPLESIZE + offset + form->fixed_size + variable);
	tuple->t_data = header = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	ItemPointerSetInvalid(&tuple->t_self);
	tuple->t_tableOid = InvalidOid;
	memset(header, 0, offset);
	end = put_values((char *) header + offset, form, natts, slot->tts_values, slot->tts_isnull,
					 has_nulls ? header->t_bits : NULL);
	tuple->t_len = end - (char *) header;
	HeapTupleHeaderSetDatumLength(header, tuple->t_len);
	HeapTupleHeaderSetTypeId(header, tupdesc->tdtypeid);
	HeapTupleHeaderSetTypMod(header, tupdesc->tdtypmod);
	ItemPointerSetInvalid(&header->t_ctid);
	HeapTupleHeaderSetNatts(header, natts);
	header->t_hoff = offset;
	if (has_nulls)
		header->t_infomask |= HEAP_HASNULL;
	for (int n = 0; n < form->variable_count; n++)
		if (!slot->tts_isnull[form->variable[n]])
		{
			header->t_infomask |= HEAP_HASVARWIDTH;
			break;
		}
	return tuple;
}
