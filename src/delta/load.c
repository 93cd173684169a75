/*
 * load.c
 *	  Loads: the unit of arrival in one table, and who has yet to consume it.
 *
 * Invariant: the rows of a load, its row in lakehouse.load and one row in
 * lakehouse.pending for every flow that streams from the table are written by
 * one transaction.  A flow therefore sees a load exactly when it sees its rows,
 * in whatever order transactions commit; no watermark is compared.
 *
 * Which flows stream from a table is read under a snapshot taken after the
 * writer has locked the table.  create_flow takes a lock that conflicts with
 * writers before it lists the loads that are there, so each load is found by
 * exactly one of the two.
 *
 * A user's own INSERT or COPY makes a load as well: the default of _load_id is
 * lakehouse.current_load(table), which records a load at the first row that a
 * transaction writes into a table and gives the same number afterwards.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/catalog_access.h"
#include "delta/load.h"

/* the load that this transaction writes into a table now */
typedef struct CurrentLoad
{
	Oid			relation;		/* key */
	int64		load_id;
	SubTransactionId subxact;	/* which subtransaction recorded it */
} CurrentLoad;

static HTAB *current_loads = NULL;

/* whether this transaction recorded a load with rows */
static bool recorded = false;

lh_load_committed_hook_type lh_load_committed_hook = NULL;

static const char *const kind_names[] = {"file", "kafka", "flow", "user"};

static void enqueue(Oid relation, int64 load_id);
static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId subxact,
								  SubTransactionId parent, void *arg);

PG_FUNCTION_INFO_V1(lakehouse_current_load);

void
lh_load_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/*
 * lh_load_reserve returns the number of a new load.  Numbers order nothing:
 * a load with a smaller number may commit later.
 */
int64
lh_load_reserve(void)
{
	LhCatalog	catalog;
	int64		load_id;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.nextval('lakehouse.load_id_seq')", 0, NULL, NULL, NULL);
	load_id = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	return load_id;
}

/*
 * lh_load_record writes the load's row, and queues it for every flow that
 * streams from the table unless it is known to hold no rows.  To be called in
 * the transaction that wrote the rows, after the table was locked for writing.
 */
void
lh_load_record(const LhLoad *load)
{
	static const Oid types[] = {INT8OID, OIDOID, TEXTOID, INT4OID, INT4OID, INT8OID,
		INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, OIDOID, TIMESTAMPTZOID, TEXTOID, INT8OID};
	Datum		values[16];
	char		nulls[17] = "                ";
	LhCatalog	catalog;

	values[0] = Int64GetDatum(load->load_id);
	values[1] = ObjectIdGetDatum(load->relation);
	values[2] = CStringGetTextDatum(kind_names[load->kind]);
	values[3] = Int32GetDatum(load->source_id);
	values[4] = Int32GetDatum(load->flow_id);
	values[5] = Int64GetDatum(load->file_id);
	values[6] = Int64GetDatum(load->first_position);
	values[7] = Int64GetDatum(load->last_position);
	values[8] = load->offsets ? CStringGetTextDatum(load->offsets) : (Datum) 0;
	values[9] = Int64GetDatum(load->rows);
	values[10] = Int64GetDatum(load->rejected);
	values[11] = Int64GetDatum(load->bytes);
	/* the role that writes, which is not the identity of this statement */
	values[12] = ObjectIdGetDatum(GetUserId());
	values[13] = TimestampTzGetDatum(load->started);
	values[14] = load->header ? CStringGetTextDatum(load->header) : (Datum) 0;
	values[15] = Int64GetDatum(load->rescued);

	if (load->source_id == 0)
		nulls[3] = 'n';
	if (load->flow_id == 0)
		nulls[4] = 'n';
	if (load->kind != LH_LOAD_FILE)
		nulls[5] = nulls[6] = nulls[7] = 'n';
	if (load->first_position < 0)
		nulls[6] = nulls[7] = 'n';
	if (load->offsets == NULL)
		nulls[8] = 'n';
	if (load->header == NULL)
		nulls[14] = 'n';
	if (load->rows < 0)
		nulls[9] = 'n';
	if (load->bytes < 0)
		nulls[11] = 'n';

	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.load (load_id, relation, kind, source_id, flow_id, file_id,"
				   " first_position, last_position, offsets, rows, rejected, bytes, role, started, header, rescued)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::pg_catalog.jsonb, $10, $11, $12, $13, $14, $15, $16)",
				   16, types, values, nulls);
	if (load->rows != 0)
		enqueue(load->relation, load->load_id);
	lh_catalog_end(&catalog);
}

/*
 * enqueue adds the load to the queue of each flow that streams from the table.
 * The caller holds an open catalog bracket.
 */
static void
enqueue(Oid relation, int64 load_id)
{
	static const Oid read_types[] = {OIDOID};
	static const Oid write_types[] = {INT4ARRAYOID, OIDOID, INT8OID};
	Datum		values[3];
	Datum	   *flows;
	uint64		count;

	values[0] = ObjectIdGetDatum(relation);
	count = lh_catalog_read_latest("SELECT flow_id FROM lakehouse.flow_input"
								   " WHERE input OPERATOR(pg_catalog.=) $1 AND streaming",
								   1, read_types, values, NULL);
	recorded = true;
	if (count == 0)
		return;

	flows = palloc(sizeof(Datum) * count);
	for (uint64 row = 0; row < count; row++)
		flows[row] = Int32GetDatum((int32) lh_catalog_int64(row, 1, 0));
	values[0] = PointerGetDatum(construct_array(flows, (int) count, INT4OID,
												sizeof(int32), true, TYPALIGN_INT));
	values[1] = ObjectIdGetDatum(relation);
	values[2] = Int64GetDatum(load_id);
	lh_catalog_run("INSERT INTO lakehouse.pending (flow_id, input, load_id)"
				   " SELECT f, $2, $3 FROM pg_catalog.unnest($1) f",
				   3, write_types, values, NULL);
}

/*
 * lh_load_set_current makes "load_id" the load of what this transaction writes
 * into the table from now on through the default of _load_id.  The caller
 * records the load itself.
 */
void
lh_load_set_current(Oid relation, int64 load_id)
{
	CurrentLoad *entry;

	if (current_loads == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(Oid),
			.entrysize = sizeof(CurrentLoad),
			.hcxt = TopTransactionContext
		};

		current_loads = hash_create("lakehouse current loads", 16, &control,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(current_loads, &relation, HASH_ENTER, NULL);
	entry->load_id = load_id;
	entry->subxact = GetCurrentSubTransactionId();
}

/*
 * lh_load_clear_current ends what lh_load_set_current began: a later write of
 * this transaction makes a load of its own.
 */
void
lh_load_clear_current(Oid relation)
{
	if (current_loads != NULL)
		(void) hash_search(current_loads, &relation, HASH_REMOVE, NULL);
}

/*
 * lh_load_current returns the load that this transaction writes into the table;
 * at the first call it records one of kind "user" and sets *created.
 */
int64
lh_load_current(Oid relation, bool *created)
{
	LhLoad		load = {0};
	CurrentLoad *entry = NULL;

	if (created)
		*created = false;
	if (current_loads != NULL)
		entry = hash_search(current_loads, &relation, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->load_id;

	load.load_id = lh_load_reserve();
	load.relation = relation;
	load.kind = LH_LOAD_USER;
	load.rows = -1;
	load.bytes = -1;
	load.started = GetCurrentTimestamp();
	lh_load_record(&load);
	lh_load_set_current(relation, load.load_id);
	if (created)
		*created = true;
	return load.load_id;
}

/*
 * lakehouse.current_load(regclass) is the default of _load_id.  It is declared
 * STABLE although it may write: within one transaction it gives one value for
 * one table, and COPY can batch rows only when no default is volatile.
 */
Datum
lakehouse_current_load(PG_FUNCTION_ARGS)
{
	Oid			relation = PG_GETARG_OID(0);
	CurrentLoad *entry = NULL;

	if (current_loads != NULL)
		entry = hash_search(current_loads, &relation, HASH_FIND, NULL);
	if (entry != NULL)
		PG_RETURN_INT64(entry->load_id);

	/* Only who may write the table may make a load of it. */
	if (pg_class_aclcheck(relation, GetUserId(), ACL_INSERT) != ACLCHECK_OK &&
		pg_class_aclcheck(relation, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relation, GetUserId(), ACL_INSERT, ACLMASK_ANY) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", get_rel_name(relation))));
	if (!lh_managed_is(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not managed by lakehouse", get_rel_name(relation)),
				 errhint("Only a table that a source or a flow reads or writes has loads.")));
	PG_RETURN_INT64(lh_load_current(relation, NULL));
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	bool		committed = (event == XACT_EVENT_COMMIT);

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	current_loads = NULL;		/* its memory goes with the transaction */
	if (recorded && committed && lh_load_committed_hook != NULL)
		lh_load_committed_hook();
	recorded = false;
}

/*
 * A load recorded in a subtransaction that rolls back is gone with it.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subxact,
					  SubTransactionId parent, void *arg)
{
	HASH_SEQ_STATUS scan;
	CurrentLoad *entry;

	if (current_loads == NULL ||
		(event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	hash_seq_init(&scan, current_loads);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->subxact != subxact)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			entry->subxact = parent;
		else
			(void) hash_search(current_loads, &entry->relation, HASH_REMOVE, NULL);
	}
}
