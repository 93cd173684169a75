/*
 * writer.c
 *	  Batches of records into a bronze table.
 *
 * Invariant: a record that the table refuses becomes a reject and costs no
 * other record.  Conversion errors come softly from the reader.  Where anything
 * else can raise (constraints, indexes, triggers, partition routing, input
 * functions of other types), each piece of a batch is written in one
 * subtransaction; when it fails, the piece is rolled back and written again
 * without, or in front of, the record to blame.  Where nothing can raise there
 * is no subtransaction.
 *
 * Only errors that data can cause are blamed on a record; all others (full
 * disk, cancel, deadlock, privileges, our own bugs) are raised again.
 */
#include "postgres.h"

#include "access/hio.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "bronze/writer_internal.h"
#include "catalog/subtransaction.h"
#include "delta/load.h"
#include "fault.h"

/* Why a piece could not be written. */
typedef struct Failure
{
	int			record;			/* to blame, or -1 */
	int			sqlstate;
	char	   *message;
	const char *column;
	const char *stage;
} Failure;

static void check_target(Relation relation);
static void write_guarded(LhWriter *writer, const LhRecords *records);
static bool attempt(LhWriter *writer, const LhRecords *records, int first, int last,
					Failure *failure);
static void reject_failure(LhWriter *writer, const LhRecords *records, const Failure *failure);

/*
 * lh_writer_open returns a writer for the rest of this transaction.  Takes
 * RowExclusiveLock on the target and keeps it.
 */
LhWriter *
lh_writer_open(Oid target, int32 source_id, bool may_raise)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse writer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	LhWriter   *writer = palloc0(sizeof(LhWriter));

	writer->context = context;
	writer->relation = table_open(target, RowExclusiveLock);
	writer->source_id = source_id;
	writer->may_raise = may_raise;
	check_target(writer->relation);
	lh_write_profile(writer);
	writer->bulk = GetBulkInsertState();
	writer->ring = writer->bulk->strategy;
	writer->bulk->strategy = NULL;
	writer->rejects = lh_rejects_create(source_id);
	MemoryContextSwitchTo(oldcontext);
	return writer;
}

/*
 * check_target raises unless the current user can write the table, and the
 * table is one in which rows and ledger share their fate.
 */
static void
check_target(Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	char		kind = relation->rd_rel->relkind;
	AclResult	allowed;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 errdetail("A source writes into a table or a partitioned table.")));
	allowed = pg_class_aclcheck(RelationGetRelid(relation), GetUserId(), ACL_INSERT);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, name);
	if (relation->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not permanent", name),
				 errdetail("After a crash an unlogged table is empty, but its loads would count as done."),
				 errhint("Use ALTER TABLE ... SET LOGGED.")));
	if (check_enable_rls(RelationGetRelid(relation), InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot load into table \"%s\" with row-level security", name),
				 errdetail("The policies of the table apply to role \"%s\".",
						   GetUserNameFromId(GetUserId(), false)),
				 errhint("Let the table's owner own the source, or use ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.")));
	if (get_attnum(RelationGetRelid(relation), LH_LOAD_COLUMN) == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column \"%s\"", name, LH_LOAD_COLUMN),
				 errhint("The column holds the load of each row; add it again as bigint NOT NULL with the default lakehouse.current_load('%s').",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)), name))));
}

TupleDesc
lh_writer_tupdesc(LhWriter *writer)
{
	return writer->tupdesc;
}

const bool *
lh_writer_fillable(LhWriter *writer)
{
	return writer->fillable;
}

/*
 * What was rescued of the rows of the session counts, or does not.
 */
static void
keep_counts(LhWriter *writer, bool keep)
{
	if (writer->rescue_counts == NULL)
		return;
	if (keep)
		lh_rescue_counts_keep(writer->rescue_counts);
	else
		lh_rescue_counts_drop(writer->rescue_counts);
}

void
lh_writer_set_may_raise(LhWriter *writer, bool may_raise)
{
	writer->may_raise = may_raise;
}

void
lh_writer_begin_load(LhWriter *writer, int64 load_id, int64 file_id)
{
	writer->load_id = load_id;
	writer->counts.rows = 0;
	writer->counts.rejected = 0;
	writer->counts.rescued = 0;
	writer->counts.corrupt = 0;
	lh_rejects_begin_load(writer->rejects, load_id, file_id);
}

/*
 * lh_writer_write stores a batch.  On return all its rows and rejects are
 * written: the reader may reuse its memory.
 */
void
lh_writer_write(LhWriter *writer, const LhRecords *records)
{
	LH_FAULT("before-insert");
	if (writer->may_raise || writer->relation_raises)
		write_guarded(writer, records);
	else
	{
		if (writer->session == NULL)
			lh_write_session_open(writer);
		lh_write_range(writer, records, 0, records->count);
		writer->counts.rows += writer->session->stored;
		writer->counts.rescued += writer->session->rescued;
		writer->session->stored = writer->session->rescued = 0;
		keep_counts(writer, true);
	}
	LH_FAULT("after-insert");
	writer->counts.rejected += lh_rejects_mark(writer->rejects) - lh_rejects_stored(writer->rejects);
	writer->counts.corrupt += lh_rejects_stored(writer->rejects);
	lh_rejects_flush(writer->rejects);
}

void
lh_writer_set_rescued_column(LhWriter *writer, int column, LhRescueCounts *counts)
{
	writer->rescued_column = column;
	writer->rescue_counts = counts;
}

void
lh_writer_set_reject_use(LhWriter *writer, LhRejectUse use)
{
	lh_rejects_set_use(writer->rejects, use);
}

LhWriteCounts
lh_writer_counts(const LhWriter *writer)
{
	return writer->counts;
}

const LhFirstReject *
lh_writer_first_reject(const LhWriter *writer)
{
	return lh_rejects_first(writer->rejects);
}

LhWriteCounts
lh_writer_end_load(LhWriter *writer)
{
	if (writer->session != NULL)
		lh_write_session_close(writer);
	return writer->counts;
}

/*
 * lh_writer_abort_load forgets a load whose subtransaction was rolled back.
 */
void
lh_writer_abort_load(LhWriter *writer)
{
	lh_write_session_drop(writer);
	keep_counts(writer, false);
	lh_rejects_back_to(writer->rejects, 0);
}

void
lh_writer_close(LhWriter *writer)
{
	if (writer->session != NULL)
		lh_write_session_close(writer);
	FreeBulkInsertState(writer->bulk);
	lh_write_pages_release(writer);
	table_close(writer->relation, NoLock);
	MemoryContextDelete(writer->context);
}

/*
 * write_guarded writes a batch in pieces, each in a subtransaction: first all
 * of it; after a failure the records in front of the one to blame, then on with
 * small pieces that grow again, so that a batch of nothing but bad records
 * costs one attempt for each.
 */
static void
write_guarded(LhWriter *writer, const LhRecords *records)
{
	int			position = 0;
	int			size = records->count;
	Failure		failure = {0};
	int			known = -1;		/* record known to fail, with "failure" */
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse failures",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);

	while (position < records->count)
	{
		int			last = Min(position + size, records->count);
		Failure		latest;

		CHECK_FOR_INTERRUPTS();
		if (position == known)
		{
			reject_failure(writer, records, &failure);
			/* a batch may hold millions of failures: keep none of them */
			MemoryContextReset(context);
			position++;
			size = 1;
			continue;
		}
		if (attempt(writer, records, position, last, &latest))
		{
			position = last;
			size = Min(size, records->count) * 2;
			continue;
		}
		if (latest.record < 0 && last - position == 1)
			latest.record = position;
		if (latest.record >= 0)
		{
			failure = latest;
			known = latest.record;
			size = known - position;
		}
		else
			size = (last - position) / 2;
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/*
 * can_be_data tells whether an error may be the fault of a record.
 */
static bool
can_be_data(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:
			/* an exhausted sequence is nobody's record's fault */
			return sqlstate != ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED;
		case ERRCODE_CARDINALITY_VIOLATION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_WITH_CHECK_OPTION_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_PLPGSQL_ERROR:
		case ERRCODE_TRIGGERED_ACTION_EXCEPTION:
		case ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION:
		case ERRCODE_EXTERNAL_ROUTINE_EXCEPTION:
			return true;
		default:
			return false;
	}
}

/*
 * describe_failure turns the error of a rolled back attempt into a reason,
 * or raises it again.
 */
static void
describe_failure(ErrorData *error, int record, WritePhase phase, const char *column, Failure *failure)
{
	if (phase == PHASE_OPEN || !can_be_data(error->sqlerrcode))
		ReThrowError(error);
	failure->record = record;
	failure->sqlstate = error->sqlerrcode;
	failure->message = error->detail
		? psprintf("%s: %s", error->message, error->detail)
		: error->message;
	failure->column = error->column_name;
	failure->stage = "store";
	if (phase == PHASE_CONVERT && record >= 0)
	{
		failure->stage = "convert";
		failure->column = column;
	}
}

/*
 * attempt writes records [first, last) in a subtransaction of their own.
 * Returns false with *failure filled, and nothing written, when that failed for
 * a reason that a record can be blamed for.
 */
static bool
attempt(LhWriter *writer, const LhRecords *records, int first, int last, Failure *failure)
{
	LhSubtransaction sub;
	int			mark = lh_rejects_mark(writer->rejects);
	bool		done = false;

	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		int64		stored;
		int64		rescued;

		lh_write_session_open(writer);
		lh_write_range(writer, records, first, last);
		stored = writer->session->stored;
		rescued = writer->session->rescued;
		lh_write_session_close(writer);
		lh_subtransaction_commit(&sub);
		writer->counts.rows += stored;
		writer->counts.rescued += rescued;
		keep_counts(writer, true);
		done = true;
	}
	PG_CATCH();
	{
		WriteSession *session = writer->session;
		int			record = session ? session->current : -1;
		WritePhase	phase = session ? session->phase : PHASE_OPEN;
		const char *column = session ? session->column : NULL;
		ErrorData  *error = lh_subtransaction_caught(&sub);

		lh_write_session_drop(writer);
		keep_counts(writer, false);
		lh_rejects_back_to(writer->rejects, mark);
		describe_failure(error, record, phase, column, failure);
	}
	PG_END_TRY();
	return done;
}

static void
reject_failure(LhWriter *writer, const LhRecords *records, const Failure *failure)
{
	LhPlace		place = {.byte_offset = -1};
	LhReason	reason = {
		.stage = failure->stage,
		.sqlstate = failure->sqlstate,
		.message = failure->message,
		.column = failure->column
	};

	records->place(records->reader, failure->record, &place);
	lh_rejects_add(writer->rejects, &place, &reason);
}
