/*
 * produce.c
 *	  lakehouse.kafka_produce and what a person can do about messages: send now,
 *	  try again, discard.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "catalog/catalog_access.h"
#include "compat.h"
#include "outbox/outbox_internal.h"
#include "source/server.h"

/* condition on message o of batch b: kafka_discard takes it */
#define DISCARDED_MESSAGE \
	"o.batch_id OPERATOR(pg_catalog.=) b.batch_id AND (o.sqlstate IS NOT NULL OR $4 IS NOT NULL)" \
	" AND ($3 IS NULL OR o.topic OPERATOR(pg_catalog.=) $3)" \
	" AND ($4 IS NULL OR o.message_id OPERATOR(pg_catalog.=) ANY ($4))"

PG_FUNCTION_INFO_V1(lakehouse_kafka_produce);
PG_FUNCTION_INFO_V1(lakehouse_kafka_produce_bytea);
PG_FUNCTION_INFO_V1(lakehouse_kafka_produce_jsonb);
PG_FUNCTION_INFO_V1(lakehouse_kafka_send);
PG_FUNCTION_INFO_V1(lakehouse_kafka_retry);
PG_FUNCTION_INFO_V1(lakehouse_kafka_discard);

static char *
required_text(FunctionCallInfo fcinfo, int number, const char *argument)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", argument)));
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/*
 * find_server returns a Kafka server that the caller may use.
 */
static Oid
find_server(const char *name)
{
	Oid			server = get_foreign_server_oid(name, true);

	if (!OidIsValid(server))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("Create it with CREATE SERVER ... FOREIGN DATA WRAPPER lakehouse_kafka.")));
	lh_server_check_kafka(server);
	return server;
}

/*
 * check_size raises for what the cluster would refuse: an error now is better
 * than a message that never arrives.
 */
static void
check_size(Oid server, const LhOutboxMessage *message)
{
	int64		limit = lh_server_message_limit(server);
	int64		size = 0;

	if (message->key != NULL)
		size += VARSIZE_ANY_EXHDR(message->key);
	if (message->value != NULL)
		size += VARSIZE_ANY_EXHDR(message->value);
	if (message->headers != NULL)
		size += VARSIZE_ANY_EXHDR(message->headers);
	if (size > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("message is too large for server \"%s\"", GetForeignServer(server)->servername),
				 errdetail("Key, value and headers have " INT64_FORMAT " bytes; the limit is " INT64_FORMAT " bytes.",
						   size, limit),
				 errhint("The option \"message.max.bytes\" of the server is the limit; the cluster has one of its own for each topic.")));
}

/*
 * produce reads the arguments that all forms of kafka_produce have in common.
 */
static Datum
produce(FunctionCallInfo fcinfo, bytea *key, bytea *value)
{
	LhOutboxMessage message = {.partition = -1,.key = key,.value = value};
	char	   *name = required_text(fcinfo, 0, "server");
	char	   *topic = required_text(fcinfo, 1, "topic");
	Oid			server = find_server(name);
	LhKafkaHeader *headers;

	lh_outbox_check_topic(topic);
	if (!PG_ARGISNULL(4))
	{
		message.headers = PG_GETARG_JSONB_P(4);
		(void) lh_outbox_headers(message.headers, &headers);
	}
	if (!PG_ARGISNULL(5))
		message.partition = PG_GETARG_INT32(5);
	if (message.partition < -1 || (!PG_ARGISNULL(5) && message.partition < 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition must not be negative"),
				 errhint("Leave it out, and the key decides.")));
	check_size(server, &message);
	PG_RETURN_INT64(lh_outbox_add(server, GetUserId(), topic, &message, 1));
}

static bytea *
text_argument(FunctionCallInfo fcinfo, int number)
{
	text	   *value;

	if (PG_ARGISNULL(number))
		return NULL;
	value = PG_GETARG_TEXT_PP(number);
	return lh_outbox_text(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

/*
 * lakehouse.kafka_produce(server, topic, key text, value text, headers, partition)
 */
Datum
lakehouse_kafka_produce(PG_FUNCTION_ARGS)
{
	return produce(fcinfo, text_argument(fcinfo, 2), text_argument(fcinfo, 3));
}

/*
 * lakehouse.kafka_produce(server, topic, key bytea, value bytea, headers, partition)
 */
Datum
lakehouse_kafka_produce_bytea(PG_FUNCTION_ARGS)
{
	return produce(fcinfo, PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_PP(2),
				   PG_ARGISNULL(3) ? NULL : PG_GETARG_BYTEA_PP(3));
}

/*
 * lakehouse.kafka_produce(server, topic, key text, value jsonb, headers, partition)
 */
Datum
lakehouse_kafka_produce_jsonb(PG_FUNCTION_ARGS)
{
	bytea	   *value = NULL;

	if (!PG_ARGISNULL(3))
	{
		Jsonb	   *json = PG_GETARG_JSONB_P(3);
		char	   *text = JsonbToCString(NULL, &json->root, VARSIZE(json));

		value = lh_outbox_text(text, strlen(text));
	}
	return produce(fcinfo, text_argument(fcinfo, 2), value);
}

/*
 * count_waiting returns how many committed messages of the pair wait.
 */
static int64
count_waiting(const char *server, Oid owner)
{
	static const Oid types[] = {TEXTOID, OIDOID};
	Datum		values[] = {CStringGetTextDatum(server), ObjectIdGetDatum(owner)};
	LhCatalog	catalog;
	int64		result;

	lh_catalog_begin(&catalog);
	lh_catalog_run("SELECT pg_catalog.count(*) FROM lakehouse.outbox_batch b JOIN lakehouse.outbox o"
				   " ON o.batch_id OPERATOR(pg_catalog.=) b.batch_id"
				   " WHERE b.server OPERATOR(pg_catalog.=) $1::pg_catalog.name"
				   "   AND b.owner OPERATOR(pg_catalog.=) $2 AND o.sqlstate IS NULL",
				   2, types, values, NULL);
	result = lh_catalog_int64(0, 1, 0);
	lh_catalog_end(&catalog);
	return result;
}

/*
 * lakehouse.kafka_send(server) sends the caller's committed messages now.
 */
Datum
lakehouse_kafka_send(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "server");
	Oid			owner = GetUserId();
	LhOutboxCounts counts = {0};
	LhSender   *sender;
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		nulls[3] = {0};
	int64		present;

	(void) find_server(name);
	lh_outbox_forget();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	(void) lh_catalog_lock(LH_LOCK_OUTBOX_SENDER, lh_sender_lock_id(name, owner), true);
	CommandCounterIncrement();
	/* what comes meanwhile does not keep this going */
	present = count_waiting(name, owner);
	sender = lh_sender_open(name, owner);
	while (counts.sent + counts.refused < present && lh_sender_read(sender) > 0)
	{
		if (!lh_sender_deliver(sender))
		{
			LhError		error = *lh_sender_trouble(sender);

			lh_sender_close(sender);
			ereport(ERROR,
					(errcode(error.sqlstate),
					 errmsg("%s", error.message),
					 errdetail("No message was taken out of the outbox; what arrived will arrive again.")));
		}
		lh_sender_settle(sender, &counts);
		CommandCounterIncrement();
	}
	lh_sender_close(sender);
	values[0] = Int64GetDatum(counts.sent);
	values[1] = Int64GetDatum(counts.refused);
	values[2] = Int64GetDatum(count_waiting(name, owner));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/*
 * run_on_messages runs one statement of (caller, server, topic, message ids,
 * home) and returns how many rows it changed.
 */
static int64
run_on_messages(FunctionCallInfo fcinfo, const char *sql)
{
	static const Oid types[] = {OIDOID, TEXTOID, TEXTOID, INT8ARRAYOID, TEXTOID};
	Datum		values[5];
	char		nulls[6] = "     ";
	LhCatalog	catalog;
	int64		result;

	values[0] = ObjectIdGetDatum(GetUserId());
	values[1] = CStringGetTextDatum(required_text(fcinfo, 0, "server"));
	values[2] = PG_GETARG_DATUM(1);
	nulls[2] = PG_ARGISNULL(1) ? 'n' : ' ';
	values[3] = PG_GETARG_DATUM(2);
	nulls[3] = PG_ARGISNULL(2) ? 'n' : ' ';
	values[4] = CStringGetTextDatum(lh_catalog_home());
	lh_catalog_begin(&catalog);
	result = (int64) lh_catalog_run(sql, 5, types, values, nulls);
	lh_catalog_end(&catalog);
	return result;
}

/*
 * lakehouse.kafka_retry(server, topic, message_ids)
 */
Datum
lakehouse_kafka_retry(PG_FUNCTION_ARGS)
{
	int64		refused;
	int64		foreign = 0;

	refused = run_on_messages(fcinfo,
							  "UPDATE lakehouse.outbox o SET sqlstate = NULL, error = NULL, failed = NULL"
							  "  FROM lakehouse.outbox_batch b"
							  " WHERE b.batch_id OPERATOR(pg_catalog.=) o.batch_id AND o.sqlstate IS NOT NULL"
							  "   AND b.server OPERATOR(pg_catalog.=) $2::pg_catalog.name"
							  "   AND pg_catalog.pg_has_role($1, b.owner::pg_catalog.oid, 'USAGE')"
							  "   AND ($3 IS NULL OR o.topic OPERATOR(pg_catalog.=) $3)"
							  "   AND ($4 IS NULL OR o.message_id OPERATOR(pg_catalog.=) ANY ($4)) AND $5 IS NOT NULL");
	run_on_messages(fcinfo,
					"UPDATE lakehouse.outbox_state SET retry_at = NULL"
					" WHERE server OPERATOR(pg_catalog.=) $2::pg_catalog.name"
					"   AND pg_catalog.pg_has_role($1, owner::pg_catalog.oid, 'USAGE')"
					"   AND ($3 IS NULL OR topic OPERATOR(pg_catalog.=) $3 OR topic OPERATOR(pg_catalog.=) '')"
					"   AND $4 IS NOT DISTINCT FROM $4 AND $5 IS NOT NULL");
	/* a restored or copied database: from now on it is this one that sends */
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2))
		foreign = run_on_messages(fcinfo,
								  "WITH adopted AS (UPDATE lakehouse.outbox_batch b SET home = $5"
								  "  WHERE b.server OPERATOR(pg_catalog.=) $2::pg_catalog.name"
								  "    AND b.home OPERATOR(pg_catalog.<>) $5"
								  "    AND pg_catalog.pg_has_role($1, b.owner::pg_catalog.oid, 'USAGE')"
								  "    AND $3 IS NULL AND $4 IS NULL RETURNING b.batch_id)"
								  "SELECT FROM adopted a JOIN lakehouse.outbox o ON o.batch_id OPERATOR(pg_catalog.=) a.batch_id");
	PG_RETURN_INT64(refused + foreign);
}

/*
 * lakehouse.kafka_discard(server, topic, message_ids)
 */
Datum
lakehouse_kafka_discard(PG_FUNCTION_ARGS)
{
	int64		discarded;

	/* whoever sends the rest of a batch waits, and then sees that it is the rest */
	(void) run_on_messages(fcinfo,
						   "SELECT FROM lakehouse.outbox_batch b"
						   " WHERE b.server OPERATOR(pg_catalog.=) $2::pg_catalog.name"
						   "   AND pg_catalog.pg_has_role($1, b.owner::pg_catalog.oid, 'USAGE') AND $5 IS NOT NULL"
						   "   AND EXISTS (SELECT FROM lakehouse.outbox o WHERE " DISCARDED_MESSAGE ")"
						   " ORDER BY b.batch_id FOR UPDATE OF b");
	discarded = run_on_messages(fcinfo,
								"DELETE FROM lakehouse.outbox o USING lakehouse.outbox_batch b"
								" WHERE b.server OPERATOR(pg_catalog.=) $2::pg_catalog.name"
								"   AND pg_catalog.pg_has_role($1, b.owner::pg_catalog.oid, 'USAGE') AND $5 IS NOT NULL"
								"   AND " DISCARDED_MESSAGE);
	CommandCounterIncrement();
	if (discarded > 0)
		(void) run_on_messages(fcinfo,
							   "DELETE FROM lakehouse.outbox_batch b"
							   " WHERE b.server OPERATOR(pg_catalog.=) $2::pg_catalog.name"
							   "   AND pg_catalog.pg_has_role($1, b.owner::pg_catalog.oid, 'USAGE')"
							   "   AND NOT EXISTS (SELECT FROM lakehouse.outbox o WHERE o.batch_id OPERATOR(pg_catalog.=) b.batch_id)"
							   "   AND $3 IS NOT DISTINCT FROM $3 AND $4 IS NOT DISTINCT FROM $4 AND $5 IS NOT NULL");
	CommandCounterIncrement();
	lh_outbox_forget();
	PG_RETURN_INT64(discarded);
}
