/*
 * writer_buffer.c
 *	  Records to slots, slots to the right partition, full buffers to the heap
 *	  and its indexes.
 *
 * Invariant: between two flushes the values of all buffered rows live in the
 * session's row context or in the reader; a flush inserts them all and resets
 * the context, so that memory does not depend on the number of records.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/hio.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "executor/nodeModifyTable.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "bronze/writer_internal.h"
#include "compat.h"
#include "delta/load.h"

static void order_indexes(LhWriter *writer, WriteBuffer *buffer);
static void choose_slots(LhWriter *writer, WriteBuffer *buffer);
static bool fill_row(LhWriter *writer, const LhRecords *records, int i,
					 Datum *values, bool *nulls);
static void fill_defaults(LhWriter *writer, Datum *values, bool *nulls);
static void store_routed(LhWriter *writer, int record);
static void finish_row(LhWriter *writer, WriteBuffer *buffer, TupleTableSlot *slot, int record);
static void flush_all(LhWriter *writer);
static void flush_buffer(LhWriter *writer, WriteBuffer *buffer);

/*
 * lh_write_buffer_create makes the buffer of the target or of a leaf partition;
 * allocates in the session's context.
 */
WriteBuffer *
lh_write_buffer_create(LhWriter *writer, ResultRelInfo *relation)
{
	WriteSession *session = writer->session;
	MemoryContext oldcontext = MemoryContextSwitchTo(session->context);
	WriteBuffer *buffer = palloc0(sizeof(WriteBuffer));
	Relation	table = relation->ri_RelationDesc;
	TupleConstr *constr = RelationGetDescr(table)->constr;
	TriggerDesc *triggers = relation->ri_TrigDesc;
	bool		is_root = (relation == session->root);

	if (relation->ri_FdwRoutine != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot load into foreign table \"%s\"", RelationGetRelationName(table)),
				 errdetail("Rows written to another server could not be rolled back together with their load.")));
	buffer->relation = relation;
	buffer->bulk = is_root ? writer->bulk : GetBulkInsertState();
	buffer->slots = palloc0(sizeof(TupleTableSlot *) * BUFFER_ROWS);
	buffer->records = palloc(sizeof(int) * BUFFER_ROWS);
	buffer->before_row = triggers != NULL && triggers->trig_insert_before_row;
	buffer->after_row = (triggers != NULL && triggers->trig_insert_after_row) || session->capture != NULL;
	buffer->generated = constr != NULL && constr->has_generated_stored;
	buffer->constraints = constr != NULL &&
		(constr->num_check > 0 || !is_root || buffer->generated || buffer->before_row);
	buffer->partition_check = table->rd_rel->relispartition &&
		(is_root || buffer->before_row);
	/* it is made in the context in hand, and kept: not in one that is reset */
	if (session->capture != NULL)
		(void) ExecGetChildToRootMap(relation);
	order_indexes(writer, buffer);
	choose_slots(writer, buffer);
	relation->ri_CopyMultiInsertBuffer = (struct CopyMultiInsertBuffer *) buffer;
	session->buffers = lappend(session->buffers, buffer);
	MemoryContextSwitchTo(oldcontext);
	return buffer;
}

/*
 * choose_slots decides whether rows need not be copied.  Generated values live in
 * the executor's memory for a row, which is then kept until the flush; so nobody
 * may want it emptied while rows are flushed.
 */
static void
choose_slots(LhWriter *writer, WriteBuffer *buffer)
{
	Relation	table = buffer->relation->ri_RelationDesc;
	bool		is_root = buffer->relation == writer->session->root;

	if (buffer->generated && (!is_root || buffer->row_indexes > 0 || buffer->after_row))
		return;
	if (is_root)
		buffer->form = writer->form;
	else if (lh_write_form_suits(table))
		buffer->form = lh_write_form_create(RelationGetDescr(table));
	if (buffer->generated && buffer->form != NULL)
		writer->session->kept = GetPerTupleMemoryContext(writer->session->estate);
}

/*
 * order_indexes puts block-range indexes on nothing but _load_id last: all rows
 * of a page have the same value, so one entry for each page is enough.
 */
static void
order_indexes(LhWriter *writer, WriteBuffer *buffer)
{
	ResultRelInfo *relation = buffer->relation;
	AttrNumber	load = InvalidAttrNumber;
	int			front = 0;
	TupleDesc	tupdesc = RelationGetDescr(relation->ri_RelationDesc);

	for (int i = 0; i < tupdesc->natts; i++)
		if (!TupleDescAttr(tupdesc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), LH_LOAD_COLUMN) == 0)
			load = i + 1;
	buffer->indexes = relation->ri_NumIndices;
	for (int i = 0; i < buffer->indexes; i++)
	{
		Relation	index = relation->ri_IndexRelationDescs[i];
		IndexInfo  *info = relation->ri_IndexRelationInfo[i];

		if (index->rd_rel->relam == BRIN_AM_OID && info->ii_NumIndexAttrs == 1 &&
			info->ii_IndexAttrNumbers[0] == load && info->ii_Predicate == NIL)
			continue;
		relation->ri_IndexRelationDescs[i] = relation->ri_IndexRelationDescs[front];
		relation->ri_IndexRelationInfo[i] = relation->ri_IndexRelationInfo[front];
		relation->ri_IndexRelationDescs[front] = index;
		relation->ri_IndexRelationInfo[front] = info;
		front++;
	}
	buffer->row_indexes = front;
}

/*
 * lh_write_buffer_finish ends a buffer whose rows were flushed.
 */
void
lh_write_buffer_finish(LhWriter *writer, WriteBuffer *buffer)
{
	Assert(buffer->count == 0);
	buffer->relation->ri_NumIndices = buffer->indexes;
	if (buffer->form != NULL)
		for (int i = 0; i < BUFFER_ROWS && buffer->slots[i] != NULL; i++)
			ExecDropSingleTupleTableSlot(buffer->slots[i]);
	table_finish_bulk_insert(buffer->relation->ri_RelationDesc, 0);
	if (buffer->bulk == writer->bulk)
		ReleaseBulkInsertStatePin(buffer->bulk);
	else
		FreeBulkInsertState(buffer->bulk);
}

static TupleTableSlot *
next_slot(LhWriter *writer, WriteBuffer *buffer)
{
	TupleTableSlot *slot = buffer->slots[buffer->count];

	if (slot == NULL)
	{
		WriteSession *session = writer->session;
		MemoryContext oldcontext = MemoryContextSwitchTo(session->context);

		slot = buffer->form != NULL
			? lh_write_form_slot(buffer->relation == session->root ? writer->tupdesc :
								 RelationGetDescr(buffer->relation->ri_RelationDesc), buffer->form)
			: table_slot_create(buffer->relation->ri_RelationDesc, &session->estate->es_tupleTable);
		buffer->slots[buffer->count] = slot;
		MemoryContextSwitchTo(oldcontext);
	}
	return slot;
}

static inline bool
is_full(const WriteSession *session)
{
	return MemoryContextMemAllocated(session->row_context, false) > BUFFER_BYTES ||
		(session->kept != NULL && MemoryContextMemAllocated(session->kept, false) > BUFFER_BYTES);
}

/*
 * lh_write_range stores records [first, last) through the open session; bad
 * ones are collected as rejects.  On return nothing is buffered.
 */
void
lh_write_range(LhWriter *writer, const LhRecords *records, int first, int last)
{
	WriteSession *session = writer->session;
	MemoryContext oldcontext = MemoryContextSwitchTo(session->row_context);
	bool		plain = writer->form != NULL && writer->row_default_count == 0;

	for (int i = first; i < last; i++)
	{
		CHECK_FOR_INTERRUPTS();
		session->current = i;
		if (!plain && session->kept == NULL)
			ResetPerTupleExprContext(session->estate);
		if (session->root_buffer != NULL)
		{
			TupleTableSlot *slot = next_slot(writer, session->root_buffer);

			if (!fill_row(writer, records, i, slot->tts_values, slot->tts_isnull))
				continue;
			ExecStoreVirtualTuple(slot);
			finish_row(writer, session->root_buffer, slot, i);
		}
		else
		{
			ExecClearTuple(session->root_slot);
			if (!fill_row(writer, records, i, session->root_slot->tts_values,
						  session->root_slot->tts_isnull))
				continue;
			ExecStoreVirtualTuple(session->root_slot);
			store_routed(writer, i);
		}
		if (session->buffered >= BUFFER_ROWS || is_full(session))
			flush_all(writer);
	}
	flush_all(writer);
	session->current = -1;
	MemoryContextSwitchTo(oldcontext);
}

static void
reject_record(LhWriter *writer, const LhRecords *records, int i,
			  const char *stage, const LhError *error, const char *column)
{
	LhPlace		place = {.byte_offset = -1};
	LhReason	reason = {
		.stage = stage,
		.sqlstate = error->sqlstate,
		.message = error->message,
		.column = column,
		.stored = error->stored
	};

	records->place(records->reader, i, &place);
	lh_rejects_add(writer->rejects, &place, &reason);
}

/*
 * accepts_nulls tells whether the row of a record that could not be read can be
 * stored; if a trigger may still fill columns, the executor judges.
 */
static bool
accepts_nulls(LhWriter *writer, const bool *nulls)
{
	TriggerDesc *triggers = writer->session->root->ri_TrigDesc;

	if (triggers != NULL && triggers->trig_insert_before_row)
		return true;
	for (int n = 0; n < writer->not_null_count; n++)
		if (nulls[writer->not_null[n]])
			return false;
	return true;
}

/*
 * count_rescued counts a row that has rescued data.
 */
static void
count_rescued(LhWriter *writer)
{
	writer->session->rescued++;
	if (writer->rescue_counts != NULL)
		lh_rescue_counts_take(writer->rescue_counts);
}

/*
 * fill_row turns record i into a row of the target; false if it was rejected.
 */
static bool
fill_row(LhWriter *writer, const LhRecords *records, int i, Datum *values, bool *nulls)
{
	WriteSession *session = writer->session;
	int			natts = writer->tupdesc->natts;
	LhError		error;
	const char *column;
	bool		rescued;

	memcpy(values, session->values, sizeof(Datum) * natts);
	memcpy(nulls, session->nulls, sizeof(bool) * natts);
	session->phase = PHASE_CONVERT;
	session->column = NULL;
	error.stored = false;
	if (!records->fill(records->reader, i, values, nulls, &error, &session->column) ||
		unlikely(error.stored))
	{
		error.stored &= accepts_nulls(writer, nulls);
		reject_record(writer, records, i, session->column ? "convert" : "parse", &error, session->column);
		if (!error.stored)
			return false;
	}
	session->phase = PHASE_STORE;
	rescued = writer->rescued_column > 0 && !nulls[writer->rescued_column - 1];
	if (writer->row_default_count > 0)
		fill_defaults(writer, values, nulls);

	/* a trigger may still fill the column; then the executor judges */
	if (session->root->ri_TrigDesc != NULL && session->root->ri_TrigDesc->trig_insert_before_row)
	{
		if (rescued)
			count_rescued(writer);
		return true;
	}
	for (int n = 0; n < writer->not_null_count; n++)
	{
		int			c = writer->not_null[n];

		if (likely(!nulls[c]))
			continue;
		column = NameStr(TupleDescAttr(writer->tupdesc, c)->attname);
		(void) lh_error_set(&error, ERRCODE_NOT_NULL_VIOLATION,
							"null value in column \"%s\" of relation \"%s\" violates not-null constraint",
							column, RelationGetRelationName(writer->relation));
		reject_record(writer, records, i, "store", &error, column);
		return false;
	}
	if (rescued)
		count_rescued(writer);
	return true;
}

/*
 * fill_defaults evaluates the volatile defaults of columns that the source left
 * out.
 */
static void
fill_defaults(LhWriter *writer, Datum *values, bool *nulls)
{
	WriteSession *session = writer->session;
	ExprContext *econtext = GetPerTupleExprContext(session->estate);

	for (int i = 0; i < writer->row_default_count; i++)
	{
		int			column = writer->row_defaults[i].column;

		if (nulls[column] || values[column] != UNFILLED)
			continue;
		/* the result must live as long as the buffered row */
		values[column] = ExecEvalExpr(session->defaults[i], econtext, &nulls[column]);
	}
}

/*
 * store_routed finds the partition of the row in the root slot and buffers it
 * there.
 */
static void
store_routed(LhWriter *writer, int record)
{
	WriteSession *session = writer->session;
	ResultRelInfo *relation = ExecFindPartition(session->modify, session->root, session->routing,
												session->root_slot, session->estate);
	WriteBuffer *buffer = (WriteBuffer *) relation->ri_CopyMultiInsertBuffer;
	TupleConversionMap *map = lh_compat_root_to_child(relation, session->estate);
	TupleTableSlot *slot;

	if (buffer == NULL)
		buffer = lh_write_buffer_create(writer, relation);
	slot = next_slot(writer, buffer);
	if (map != NULL)
		(void) execute_attr_map_slot(map->attrMap, session->root_slot, slot);
	else
	{
		int			natts = session->root_slot->tts_tupleDescriptor->natts;

		memcpy(slot->tts_values, session->root_slot->tts_values, sizeof(Datum) * natts);
		memcpy(slot->tts_isnull, session->root_slot->tts_isnull, sizeof(bool) * natts);
		ExecStoreVirtualTuple(slot);
	}
	finish_row(writer, buffer, slot, record);
}

/*
 * finish_row does what must be done to a row before it is inserted, and
 * buffers it.
 */
static void
finish_row(LhWriter *writer, WriteBuffer *buffer, TupleTableSlot *slot, int record)
{
	WriteSession *session = writer->session;
	EState	   *estate = session->estate;
	ResultRelInfo *relation = buffer->relation;

	if (buffer->before_row)
	{
		/* the trigger sees all rows before this one; with those of other partitions
		 * the memory of this row's values would go */
		buffer->records[buffer->count] = record;
		if (session->buffered > 0)
			ExecMaterializeSlot(slot);
		flush_all(writer);
		session->current = record;
		if (!ExecBRInsertTriggers(estate, relation, slot))
		{
			ExecClearTuple(slot);
			return;				/* "do nothing" */
		}
	}
	if (unlikely(buffer->generated || buffer->constraints || buffer->partition_check))
	{
		slot->tts_tableOid = RelationGetRelid(relation->ri_RelationDesc);
		if (buffer->generated)
			ExecComputeStoredGenerated(relation, estate, slot, CMD_INSERT);
		if (buffer->constraints)
			ExecConstraints(relation, slot, estate);
		if (buffer->partition_check)
			ExecPartitionCheck(relation, slot, estate, true);
	}
	buffer->records[buffer->count++] = record;
	session->buffered++;
	if (buffer->before_row || writer->one_by_one)
		flush_all(writer);
}

static void
flush_all(LhWriter *writer)
{
	WriteSession *session = writer->session;
	ListCell   *cell;

	if (session->buffered == 0)
		return;
	foreach(cell, session->buffers)
	{
		WriteBuffer *buffer = lfirst(cell);

		if (buffer->count > 0)
			flush_buffer(writer, buffer);
	}
	session->buffered = 0;
	if (session->kept != NULL)
		MemoryContextReset(session->kept);
	MemoryContextReset(session->row_context);
}

/*
 * flush_buffer inserts the buffered rows of one table and their index entries,
 * and queues their AFTER ROW triggers.
 */
static void
flush_buffer(LhWriter *writer, WriteBuffer *buffer)
{
	WriteSession *session = writer->session;
	ResultRelInfo *relation = buffer->relation;
	BlockNumber block = InvalidBlockNumber;

	session->current = buffer->count == 1 ? buffer->records[0] : -1;
	lh_write_insert(writer, buffer);
	for (int i = 0; i < buffer->count; i++)
	{
		TupleTableSlot *slot = buffer->slots[i];
		List	   *recheck = NIL;

		session->current = buffer->records[i];
		relation->ri_NumIndices = buffer->row_indexes;
		if (ItemPointerGetBlockNumber(&slot->tts_tid) != block)
		{
			block = ItemPointerGetBlockNumber(&slot->tts_tid);
			relation->ri_NumIndices = buffer->indexes;
			writer->pages.filled++;
		}
		if (relation->ri_NumIndices > 0)
		{
			recheck = lh_compat_insert_index_tuples(relation, slot, session->estate);
			ResetPerTupleExprContext(session->estate);
		}
		if (buffer->after_row)
			ExecARInsertTriggers(session->estate, relation, slot, recheck, session->capture);
		ExecClearTuple(slot);
	}
	session->stored += buffer->count;
	buffer->count = 0;
}
