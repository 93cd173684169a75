/*
 * replay.c
 *	  replay_rejects: kept records are read once more, as the source is defined
 *	  now.
 *
 * A reject holds the bytes of its record, and its load the header of the file.
 * Each record is given to the reader of the format as a file of its own, so that
 * a broken one cannot take others with it.  A message of Kafka is kept whole:
 * kafka_replay.c.
 *
 * Invariant: a row and the mark "resolved" of its reject are written by one
 * transaction, under the lock of the source, and a resolved reject is never read
 * again.  A record that is still bad keeps its reject, with the new reason.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bronze/file_ingest.h"
#include "bronze/file_metadata.h"
#include "bronze/file_schema.h"
#include "bronze/ingest.h"
#include "bronze/kafka_replay.h"
#include "bronze/writer.h"
#include "catalog/catalog_access.h"
#include "delta/load.h"
#include "fault.h"
#include "source/reader.h"

/* code of the owner (triggers, defaults, checks) runs under this path */
#define OWNER_PATH "pg_catalog, pg_temp"

/* A reject that is to be tried again. */
typedef struct Candidate
{
	int64		reject_id;
	int64		load_id;		/* during which it was rejected */
	bool		cut;			/* its record is not complete */
	bool		bare;			/* of Kafka, without what belongs to its value */
} Candidate;

typedef struct Replay
{
	const LhSource *source;
	LhFileSchema *schema;		/* NULL = messages that are not decoded */
	LhKafkaReplay *kafka;		/* or NULL: what follows is of files */
	const LhReaderRoutine *routine;
	Jsonb	   *reader_options;
	LhWriter   *writer;
	bool	   *fillable;
	LhFileMetadata *metadata;
	int			fd;				/* memory that stands for a file */
	MemoryContext record_context;

	/* of the load whose rejects are tried */
	int64		file_id;
	LhFileFacts facts;
	char	   *header;
	LhLoad		load;			/* the new one */

	/* the record at hand */
	LhPlace		place;
	LhRecords	inner;
	LhRecords	outer;
	const char *problem;		/* why the bytes are not one record, or NULL */

	int64		replayed;
	int64		still_rejected;
	int64		cut;			/* refused, because the record is not complete */
	int64		bare;			/* ... because it is nothing but a value */
	int64		loads;
} Replay;

static LhSource *find_source(const char *name);
static int	find_candidates(const LhSource *source, ArrayType *ids, Datum load_id, bool any_load,
							int64 limit, Candidate **candidates);
static void replay_load(Replay *replay, const Candidate *candidates, int count);
static bool replay_record(Replay *replay, int64 reject_id);
static void keep_rejected(int64 reject_id, const LhFirstReject *reason);
static Datum mark_resolved(const Replay *replay, const int64 *ids, int count);

PG_FUNCTION_INFO_V1(lakehouse_replay_rejects);

static void
close_memory(void *arg)
{
	close(DatumGetInt32(PointerGetDatum(arg)));
	ReleaseExternalFD();
}

/*
 * open_memory makes the memory that readers read as a file; it is released with
 * the current context, which outlives *replay.
 */
static void
open_memory(Replay *replay)
{
	MemoryContextCallback *release = palloc0(sizeof(MemoryContextCallback));

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not open memory for records: %m")));
	replay->fd = memfd_create("lakehouse", MFD_CLOEXEC);
	if (replay->fd < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open memory for records: %m")));
	}
	release->func = close_memory;
	release->arg = DatumGetPointer(Int32GetDatum(replay->fd));
	MemoryContextRegisterResetCallback(CurrentMemoryContext, release);
}

/*
 * open_format makes ready what reads records of files.
 */
static void
open_format(Replay *replay)
{
	TupleDesc	tupdesc = lh_writer_tupdesc(replay->writer);
	Jsonb	   *options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(replay->source->options)));

	open_memory(replay);
	replay->routine = lh_reader_find(replay->source->format);
	replay->reader_options = lh_file_reader_options(options);
	replay->fillable = palloc(sizeof(bool) * tupdesc->natts);
	memcpy(replay->fillable, lh_writer_fillable(replay->writer), sizeof(bool) * tupdesc->natts);
	replay->metadata = lh_file_metadata_parse(options, tupdesc, replay->fillable);
	replay->schema = lh_file_schema_parse(options, tupdesc, replay->fillable);
}

/*
 * warn_of_refused says which rejects no replay will ever take.
 */
static void
warn_of_refused(const Replay *replay)
{
	bool		is_kafka = replay->source->is_kafka;

	if (replay->cut > 0)
		ereport(WARNING,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg(INT64_FORMAT " rejects of source \"%s\" cannot be replayed",
						replay->cut, replay->source->name),
				 errdetail("Only the beginning of their records was kept (raw_cut in lakehouse.reject_status)."),
				 is_kafka ? errhint("Read them from the cluster, as long as it has them, by another source with the option \"starting_offsets\".")
				 : errhint("Correct the records and let them come in a new file.")));
	if (replay->bare > 0)
		ereport(WARNING,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg(INT64_FORMAT " rejects of source \"%s\" cannot be replayed",
						replay->bare, replay->source->name),
				 errdetail("They were stored by a version of lakehouse that kept the value of a message without its key, headers and timestamp (timestamp_type is null in lakehouse.reject_status)."),
				 errhint("Read them from the cluster, as long as it has them, by another source with the option \"starting_offsets\", or insert their values by hand.")));
}

/*
 * lakehouse.replay_rejects(source, reject_ids, load_id, max_records)
 */
Datum
lakehouse_replay_rejects(PG_FUNCTION_ARGS)
{
	Replay		replay = {0};
	ArrayType  *ids = PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1);
	int64		limit = PG_ARGISNULL(3) ? PG_INT64_MAX : PG_GETARG_INT64(3);
	Candidate  *candidates;
	LhIdentity	identity;
	TupleDesc	tupdesc;
	Datum		values[4];
	bool		nulls[4] = {false};
	int			count;

	if (PG_ARGISNULL(0) || limit < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("replay_rejects needs a source, and a limit that is not negative")));
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "replay_rejects must return a record");
	replay.source = find_source(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	count = find_candidates(replay.source, ids, PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2),
							PG_ARGISNULL(2), limit, &candidates);

	if (count > 0)
	{
		replay.record_context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse replayed record",
													  ALLOCSET_DEFAULT_SIZES);
		lh_identity_role(&identity, replay.source->owner, OWNER_PATH);
		replay.writer = lh_writer_open(replay.source->target, replay.source->source_id, false);
		lh_writer_set_reject_use(replay.writer, LH_REJECT_FORGET);
		if (replay.source->is_kafka)
			replay.kafka = lh_kafka_replay_open(replay.source, replay.writer, &replay.schema);
		else
			open_format(&replay);
		for (int first = 0, last; first < count; first = last)
		{
			/* messages of all loads become one: nothing of a load matters to them */
			for (last = first + 1; last < count && (replay.kafka != NULL ||
													candidates[last].load_id == candidates[first].load_id);)
				last++;
			replay_load(&replay, &candidates[first], last - first);
		}
		lh_writer_close(replay.writer);
		lh_identity_restore(&identity);
	}
	warn_of_refused(&replay);
	values[0] = Int64GetDatum(replay.replayed);
	values[1] = Int64GetDatum(replay.still_rejected);
	values[2] = Int64GetDatum(replay.cut + replay.bare);
	values[3] = Int64GetDatum(replay.loads);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/*
 * find_source returns the definition of a source whose rejects the current user
 * may replay; holds its lock until the end of the transaction.
 */
static LhSource *
find_source(const char *name)
{
	LhSource   *source = lh_source_find(name);

	lh_catalog_check_owner(source->owner, "source", name);
	(void) lh_catalog_lock(LH_LOCK_SOURCE, source->source_id, true);
	/* a change that came before the lock counts */
	source = lh_source_get(source->source_id);
	if (get_rel_name(source->target) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replay rejects of source \"%s\"", name),
				 errdetail("The source's target table does not exist any more."),
				 errhint("Define the source anew with lakehouse.create_source(..., replace => true).")));
	return source;
}

/*
 * find_candidates returns the rejects to be tried, load by load.  Those that
 * were dropped by the mode of the source are tried only when they are named.
 */
static int
find_candidates(const LhSource *source, ArrayType *ids, Datum load_id, bool any_load,
				int64 limit, Candidate **candidates)
{
	static const Oid types[] = {INT4OID, INT8ARRAYOID, INT8OID, INT8OID, BOOLOID};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[5];
	char		nulls[6] = "     ";
	LhCatalog	catalog;
	int			count;

	values[0] = Int32GetDatum(source->source_id);
	values[1] = PointerGetDatum(ids);
	nulls[1] = ids ? ' ' : 'n';
	values[2] = load_id;
	nulls[2] = any_load ? 'n' : ' ';
	values[3] = Int64GetDatum(limit);
	values[4] = BoolGetDatum(source->is_kafka);
	lh_catalog_begin(&catalog);
	/* those never tried come first, so that a limit lets each have its turn */
	count = (int) lh_catalog_run("SELECT c.reject_id, c.load_id, c.cut::pg_catalog.int4, c.bare::pg_catalog.int4 FROM ("
								 "SELECT reject_id, load_id, raw_cut OR (raw IS NULL AND NOT $5) AS cut,"
								 "    $5 AND timestamp_type IS NULL AS bare"
								 " FROM lakehouse.reject"
								 " WHERE source_id OPERATOR(pg_catalog.=) $1"
								 "   AND CASE WHEN $5 THEN topic IS NOT NULL ELSE file_id IS NOT NULL END"
								 "   AND (state OPERATOR(pg_catalog.=) 'open'"
								 "        OR ($2 IS NOT NULL AND state OPERATOR(pg_catalog.=) 'dropped'))"
								 "   AND ($2 IS NULL OR reject_id OPERATOR(pg_catalog.=) ANY ($2))"
								 "   AND ($3 IS NULL OR load_id OPERATOR(pg_catalog.=) $3)"
								 " ORDER BY raw_cut, $5 AND timestamp_type IS NULL, replayed_at NULLS FIRST, load_id, reject_id LIMIT $4) c"
								 " ORDER BY c.load_id, c.reject_id", 5, types, values, nulls);
	*candidates = MemoryContextAllocHuge(context, sizeof(Candidate) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		(*candidates)[i].reject_id = lh_catalog_int64(i, 1, 0);
		(*candidates)[i].load_id = lh_catalog_int64(i, 2, 0);
		(*candidates)[i].cut = lh_catalog_int64(i, 3, 0) != 0;
		(*candidates)[i].bare = lh_catalog_int64(i, 4, 0) != 0;
	}
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(context);
	return count;
}

/*
 * read_load learns which file the rejects of a load came from, and its header.
 */
static void
read_load(Replay *replay, int64 reject_id)
{
	static const Oid types[] = {INT8OID};
	Datum		value = Int64GetDatum(reject_id);
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;

	replay->facts.path = "";
	replay->facts.source = replay->source->name;
	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT r.file_id, f.path, f.size, f.mtime_ns, l.header"
				   " FROM lakehouse.reject r"
				   " LEFT JOIN lakehouse.load l ON l.load_id OPERATOR(pg_catalog.=) r.load_id"
				   " LEFT JOIN lakehouse.file f ON f.file_id OPERATOR(pg_catalog.=) r.file_id"
				   " WHERE r.reject_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL);
	replay->file_id = lh_catalog_int64(0, 1, 0);
	if (lh_catalog_text(0, 2, context) != NULL)
		replay->facts.path = lh_catalog_text(0, 2, context);
	replay->facts.size = lh_catalog_int64(0, 3, 0);
	replay->facts.mtime_ns = lh_catalog_int64(0, 4, 0);
	replay->header = lh_catalog_text(0, 5, context);
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(context);
}

/*
 * count_in_ledger moves resolved records from the rejects of their file, or of
 * their partitions, to its rows.
 */
static void
count_in_ledger(const Replay *replay, Datum reject_ids, int count)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(replay->file_id), Int64GetDatum(replay->load.rows), Int64GetDatum(count)};
	LhCatalog	catalog;

	if (replay->kafka != NULL)
	{
		lh_kafka_replay_count(replay->source->source_id, reject_ids);
		return;
	}
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.file SET rows = rows OPERATOR(pg_catalog.+) $2,"
				   "  rejected = rejected OPERATOR(pg_catalog.-) $3"
				   " WHERE file_id OPERATOR(pg_catalog.=) $1", 3, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * replay_load tries rejects of one load, or any messages.  What can be stored now
 * becomes a load of the same file, or of the source.
 */
static void
replay_load(Replay *replay, const Candidate *candidates, int count)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse replayed load",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	int64	   *resolved = palloc_extended(sizeof(int64) * count, MCXT_ALLOC_HUGE);
	int			resolved_count = 0;
	Datum		reject_ids;

	if (replay->kafka == NULL)
	{
		read_load(replay, candidates[0].reject_id);
		lh_file_metadata_begin(replay->metadata, &replay->facts);
	}
	replay->load = (LhLoad)
	{
		.load_id = lh_load_reserve(), .relation = replay->source->target,
			.kind = replay->kafka ? LH_LOAD_KAFKA : LH_LOAD_FILE,
			.source_id = replay->source->source_id, .file_id = replay->file_id,
			.first_position = -1, .last_position = -1, .started = GetCurrentTimestamp()
	};
	if (replay->schema != NULL)
		lh_file_schema_begin_load(replay->schema, replay->writer);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (candidates[i].cut)
			replay->cut++;
		else if (candidates[i].bare)
			replay->bare++;
		else if (replay_record(replay, candidates[i].reject_id))
			resolved[resolved_count++] = candidates[i].reject_id;
	}
	(void) lh_writer_end_load(replay->writer);
	LH_FAULT("replay-stored");
	if (resolved_count > 0)
	{
		reject_ids = mark_resolved(replay, resolved, resolved_count);
		LH_FAULT("replay-marked");
		count_in_ledger(replay, reject_ids, resolved_count);
		lh_load_record(&replay->load);
		if (replay->schema != NULL)
			lh_file_schema_end_load(replay->schema, replay->load.load_id);
		LH_FAULT("replay-recorded");
		replay->replayed += resolved_count;
		replay->loads++;
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

static bool
fill_one(void *arg, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	Replay	   *replay = arg;

	*column = NULL;
	if (replay->problem != NULL)
		return lh_error_set(error, ERRCODE_BAD_COPY_FILE_FORMAT, "%s", replay->problem);
	return replay->inner.fill(replay->inner.reader, 0, values, nulls, error, column) &&
		lh_file_schema_check_record(replay->schema, error);
}

static void
place_of_reject(void *arg, int i, LhPlace *place)
{
	*place = ((Replay *) arg)->place;
}

/*
 * read_record takes the bytes of a reject, in the current context.
 */
static void
read_record(Replay *replay, int64 reject_id)
{
	static const Oid types[] = {INT8OID};
	Datum		value = Int64GetDatum(reject_id);
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	bytea	   *raw;
	char	   *copy;
	bool		isnull;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT line, byte_offset, raw FROM lakehouse.reject"
					   " WHERE reject_id OPERATOR(pg_catalog.=) $1", 1, types, &value, NULL) != 1)
		elog(ERROR, "reject " INT64_FORMAT " disappeared", reject_id);
	memset(&replay->place, 0, sizeof(LhPlace));
	replay->place.line = lh_catalog_int64(0, 1, 0);
	replay->place.byte_offset = lh_catalog_int64(0, 2, -1);
	raw = DatumGetByteaPP(lh_catalog_value(0, 3, &isnull));
	replay->place.raw_length = VARSIZE_ANY_EXHDR(raw);
	copy = MemoryContextAlloc(context, replay->place.raw_length + 1);
	memcpy(copy, VARDATA_ANY(raw), replay->place.raw_length);
	replay->place.raw = copy;
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(context);
}

/*
 * open_record makes a file of the record, between two line ends so that it does
 * not stand where a header would, and reads it.
 */
static LhReader *
open_record(Replay *replay)
{
	LhReaderInput input = {.fd = replay->fd, .name = replay->facts.path,
		.size = replay->place.raw_length + 2, .position = 1, .single = true, .line = Max(replay->place.line - 1, 0),
		.header = replay->header, .tupdesc = lh_writer_tupdesc(replay->writer),
		.fillable = replay->fillable, .options = replay->reader_options,
	.sink = lh_file_schema_begin(replay->schema, replay->facts.path)};
	Size		length = replay->place.raw_length;
	LhReader   *reader;
	int64		position;
	int64		line;

	if (ftruncate(replay->fd, 0) < 0 || pwrite(replay->fd, "\n", 1, 0) != 1 ||
		pwrite(replay->fd, replay->place.raw, length, 1) != (ssize_t) length ||
		pwrite(replay->fd, "\n", 1, length + 1) != 1)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write record to memory: %m")));
	reader = replay->routine->open(&input);
	replay->problem = NULL;
	if (!replay->routine->next(reader, &replay->inner))
		replay->problem = "the bytes are no record as the source is defined now";
	else
	{
		replay->routine->tell(reader, &position, &line);
		/* the line feed behind the record is no line end of every dialect */
		if (replay->inner.count != 1 || position < input.size - 1)
			replay->problem = "the bytes are more than one record as the source is defined now";
	}
	return reader;
}

/*
 * file_record makes the record that the reader found ready for the writer.
 */
static const LhRecords *
file_record(Replay *replay, LhReader *reader)
{
	replay->outer.count = 1;
	replay->outer.reader = replay;
	replay->outer.fill = fill_one;
	replay->outer.place = place_of_reject;
	lh_writer_set_may_raise(replay->writer, replay->routine->may_raise(reader) ||
							lh_file_schema_rescues(replay->schema));
	return lh_file_metadata_wrap(replay->metadata, lh_file_schema_wrap(replay->schema, &replay->outer));
}

/*
 * replay_record stores one record, or enters why that is still not possible;
 * true if it is resolved.
 */
static bool
replay_record(Replay *replay, int64 reject_id)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(replay->record_context);
	LhReader   *reader = NULL;
	const LhRecords *records;
	int64		bytes;
	LhWriteCounts counts;

	if (replay->kafka != NULL)
		records = lh_kafka_replay_read(replay->kafka, reject_id, &bytes);
	else
	{
		read_record(replay, reject_id);
		reader = open_record(replay);
		records = file_record(replay, reader);
		bytes = replay->place.raw_length;
	}
	lh_writer_begin_load(replay->writer, replay->load.load_id, replay->file_id);
	lh_writer_write(replay->writer, records);
	counts = lh_writer_counts(replay->writer);
	if (reader != NULL)
		replay->routine->close(reader);
	if (counts.rejected > 0)
	{
		keep_rejected(reject_id, lh_writer_first_reject(replay->writer));
		replay->still_rejected++;
	}
	else
	{
		replay->load.rows += counts.rows;
		replay->load.rescued += counts.rescued;
		replay->load.bytes += bytes;
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(replay->record_context);
	return counts.rejected == 0;
}

static void
keep_rejected(int64 reject_id, const LhFirstReject *reason)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[5];
	char		nulls[6] = "     ";
	LhCatalog	catalog;

	values[0] = Int64GetDatum(reject_id);
	values[1] = CStringGetTextDatum(reason->stage);
	values[2] = CStringGetTextDatum(unpack_sql_state(reason->sqlstate));
	values[3] = CStringGetTextDatum(reason->message);
	values[4] = CStringGetTextDatum(reason->column);
	nulls[4] = reason->column[0] ? ' ' : 'n';
	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.reject SET stage = $2, sqlstate = $3, message = $4, column_name = $5,"
				   "  replayed_at = pg_catalog.clock_timestamp()"
				   " WHERE reject_id OPERATOR(pg_catalog.=) $1", 5, types, values, nulls);
	lh_catalog_end(&catalog);
}

/*
 * mark_resolved returns the numbers of the rejects as an array; raises if another transaction, which this one does not see, has
 * resolved one of them.
 */
static Datum
mark_resolved(const Replay *replay, const int64 *ids, int count)
{
	static const Oid types[] = {INT8ARRAYOID, INT8OID};
	Datum	   *elements = palloc_extended(sizeof(Datum) * count, MCXT_ALLOC_HUGE);
	Datum		values[2];
	LhCatalog	catalog;
	uint64		marked;

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(ids[i]);
	values[0] = PointerGetDatum(construct_array(elements, count, INT8OID, 8, true, TYPALIGN_DOUBLE));
	values[1] = Int64GetDatum(replay->load.load_id);
	lh_catalog_begin(&catalog);
	marked = lh_catalog_run("UPDATE lakehouse.reject SET state = 'resolved', replayed_load = $2,"
							"  replayed_at = pg_catalog.clock_timestamp()"
							" WHERE reject_id OPERATOR(pg_catalog.=) ANY ($1)"
							"   AND state OPERATOR(pg_catalog.<>) 'resolved'", 2, types, values, NULL);
	lh_catalog_end(&catalog);
	if (marked != (uint64) count)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("rejects of source \"%s\" were resolved by another transaction", replay->source->name),
				 errhint("Run lakehouse.replay_rejects again.")));
	return values[0];
}
