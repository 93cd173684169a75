/*
 * writer_session.c
 *	  The executor's state while rows are written.
 *
 * Invariant: everything that a session opens (indexes, partitions, triggers'
 * queue) it also closes before the subtransaction around it ends.  After a
 * rollback only memory is left, and lh_write_session_drop frees it.
 */
#include "postgres.h"

#include "access/hio.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "bronze/writer_internal.h"
#include "compat.h"

static void open_relation(LhWriter *writer, WriteSession *session);
static void prepare_defaults(LhWriter *writer, WriteSession *session);
static void make_constraints_immediate(LhWriter *writer);

/*
 * lh_write_session_open makes the executor ready for rows.  Errors raised here
 * are blamed on no record.
 */
void
lh_write_session_open(LhWriter *writer)
{
	MemoryContext context = AllocSetContextCreate(writer->context, "lakehouse writer session",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	WriteSession *session = palloc0(sizeof(WriteSession));

	Assert(writer->session == NULL);
	session->context = context;
	session->row_context = AllocSetContextCreate(context, "lakehouse buffered rows",
												 ALLOCSET_DEFAULT_MINSIZE, 256 * 1024, ALLOCSET_DEFAULT_MAXSIZE);
	session->current = -1;
	session->phase = PHASE_OPEN;
	writer->session = session;

	session->estate = CreateExecutorState();
	session->command = GetCurrentCommandId(true);
	session->estate->es_output_cid = session->command;
	AfterTriggerBeginQuery();
	make_constraints_immediate(writer);
	open_relation(writer, session);
	prepare_defaults(writer, session);
	if (session->routing == NULL)
		session->root_buffer = lh_write_buffer_create(writer, session->root);
	else
		session->root_slot = MakeSingleTupleTableSlot(writer->tupdesc, &TTSOpsVirtual);
	ExecBSInsertTriggers(session->estate, session->root);
	session->phase = PHASE_STORE;
	MemoryContextSwitchTo(oldcontext);
}

static void
open_relation(LhWriter *writer, WriteSession *session)
{
	EState	   *estate = session->estate;
	Relation	relation = writer->relation;
	ModifyTableState *modify;

	lh_compat_init_range_table(estate, relation);
	session->root = makeNode(ResultRelInfo);
	ExecInitResultRelation(estate, session->root, 1);
	ExecOpenIndices(session->root, false);

	modify = makeNode(ModifyTableState);
	modify->ps.plan = NULL;
	modify->ps.state = estate;
	modify->operation = CMD_INSERT;
	modify->mt_nrels = 1;
	modify->resultRelInfo = session->root;
	modify->rootResultRelInfo = session->root;
	session->modify = modify;
	session->capture = modify->mt_transition_capture =
		MakeTransitionCaptureState(relation->trigdesc, RelationGetRelid(relation), CMD_INSERT);
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		session->routing = ExecSetupPartitionTupleRouting(estate, relation);
}

/*
 * make_constraints_immediate lets deferred constraints of the target judge the
 * rows of this session at its end.
 */
static void
make_constraints_immediate(LhWriter *writer)
{
	ConstraintsSetStmt *statement;

	if (writer->deferred == NIL)
		return;
	statement = makeNode(ConstraintsSetStmt);
	statement->constraints = writer->deferred;
	statement->deferred = false;
	AfterTriggerSetState(statement);
}

/*
 * prepare_defaults evaluates the defaults that are the same for all rows, and
 * makes the others ready.
 */
static void
prepare_defaults(LhWriter *writer, WriteSession *session)
{
	TupleDesc	tupdesc = writer->tupdesc;
	ExprContext *econtext = GetPerTupleExprContext(session->estate);

	session->values = palloc0(sizeof(Datum) * tupdesc->natts);
	session->nulls = palloc(sizeof(bool) * tupdesc->natts);
	memset(session->nulls, true, sizeof(bool) * tupdesc->natts);
	session->values[writer->load_column] = Int64GetDatum(writer->load_id);
	session->nulls[writer->load_column] = false;

	for (int i = 0; i < writer->batch_default_count; i++)
	{
		int			column = writer->batch_defaults[i].column;
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, column);
		ExprState  *state = ExecInitExpr(writer->batch_defaults[i].expression, NULL);
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(state, econtext, &isnull);

		session->nulls[column] = isnull;
		if (!isnull)
			session->values[column] = datumCopy(value, attribute->attbyval, attribute->attlen);
	}
	session->defaults = palloc(sizeof(ExprState *) * (writer->row_default_count + 1));
	for (int i = 0; i < writer->row_default_count; i++)
	{
		session->defaults[i] = ExecInitExpr(writer->row_defaults[i].expression, NULL);
		session->values[writer->row_defaults[i].column] = UNFILLED;
		session->nulls[writer->row_defaults[i].column] = false;
	}
	ResetPerTupleExprContext(session->estate);
}

/*
 * lh_write_session_close runs the statement's last triggers and closes all that
 * the session opened.
 */
void
lh_write_session_close(LhWriter *writer)
{
	WriteSession *session = writer->session;
	EState	   *estate = session->estate;
	ListCell   *cell;

	session->current = -1;
	session->phase = PHASE_STORE;
	ExecASInsertTriggers(estate, session->root, session->capture);
	AfterTriggerEndQuery(estate);

	ExecResetTupleTable(estate->es_tupleTable, false);
	if (session->root_slot != NULL)
		ExecDropSingleTupleTableSlot(session->root_slot);
	foreach(cell, session->buffers)
		lh_write_buffer_finish(writer, lfirst(cell));
	if (session->routing != NULL)
		ExecCleanupTupleRouting(session->modify, session->routing);
	ExecCloseResultRelations(estate);
	ExecCloseRangeTableRelations(estate);
	FreeExecutorState(estate);
	writer->session = NULL;
	MemoryContextDelete(session->context);
}

/*
 * lh_write_session_drop frees what is left of a session after the rollback of
 * the subtransaction in which it was opened.
 */
void
lh_write_session_drop(LhWriter *writer)
{
	/* the rollback released the pin */
	writer->bulk->current_buf = InvalidBuffer;
	if (writer->session != NULL)
		MemoryContextDelete(writer->session->context);
	writer->session = NULL;
}
