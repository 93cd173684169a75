/*
 * kafka_replay.c
 *	  Kept rejects of a Kafka source as messages again.
 *
 * Invariant: the reader of a replay sees what it saw when the message came from
 * the cluster: key, value and headers byte by byte, null apart from empty, the
 * timestamp and the place.  No broker is asked and no position moves.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "bronze/kafka_decode.h"
#include "bronze/kafka_replay.h"
#include "catalog/catalog_access.h"
#include "source/kafka_headers.h"

struct LhKafkaReplay
{
	LhKafkaReader *reader;
	LhSchemaRegistry *registry; /* or NULL */
	LhFileSchema *schema;		/* or NULL */
	MemoryContext context;		/* of the message at hand */
	LhKafkaMessage message;
	LhKafkaPlace place;
	LhRecords	records;
};

LhKafkaReplay *
lh_kafka_replay_open(const LhSource *source, LhWriter *writer, LhFileSchema **schema)
{
	LhKafkaReplay *replay = palloc0(sizeof(LhKafkaReplay));
	Jsonb	   *options = NULL;

	if (source->options != NULL)
		options = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));
	replay->context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse replayed message",
											ALLOCSET_DEFAULT_SIZES);
	replay->registry = lh_kafka_decode_registry(options, source->server, source->owner);
	replay->reader = lh_kafka_decode_open(options, replay->registry, lh_writer_tupdesc(writer),
										  lh_writer_fillable(writer), &replay->schema);
	lh_writer_set_may_raise(writer, lh_kafka_reader_may_raise(replay->reader));
	*schema = replay->schema;
	return replay;
}

/*
 * take_bytes copies a column of the reject at hand; NULL stays NULL.
 */
static const char *
take_bytes(int column, Size *length)
{
	bool		isnull;
	Datum		value = lh_catalog_value(0, column, &isnull);
	bytea	   *bytes;
	char	   *copy;

	*length = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPP(value);
	*length = VARSIZE_ANY_EXHDR(bytes);
	copy = palloc(*length + 1);
	memcpy(copy, VARDATA_ANY(bytes), *length);
	copy[*length] = '\0';
	return copy;
}

/*
 * read_message takes the message of a reject, in replay->context.
 */
static void
read_message(LhKafkaReplay *replay, int64 reject_id)
{
	static const Oid types[] = {INT8OID};
	Datum		argument = Int64GetDatum(reject_id);
	MemoryContext oldcontext = CurrentMemoryContext;
	LhKafkaMessage *message = &replay->message;
	LhCatalog	catalog;
	Datum		headers;
	bool		isnull;

	lh_catalog_begin(&catalog);
	if (lh_catalog_run("SELECT topic, \"partition\", \"offset\", key, raw, headers, timestamp_ms, timestamp_type"
					   " FROM lakehouse.reject WHERE reject_id OPERATOR(pg_catalog.=) $1",
					   1, types, &argument, NULL) != 1)
		elog(ERROR, "reject " INT64_FORMAT " disappeared", reject_id);
	MemoryContextSwitchTo(replay->context);
	memset(message, 0, sizeof(LhKafkaMessage));
	message->event = LH_KAFKA_RECORD;
	replay->place.topic = lh_catalog_text(0, 1, replay->context);
	replay->place.partition = (int32) lh_catalog_int64(0, 2, 0);
	message->offset = lh_catalog_int64(0, 3, 0);
	message->key = take_bytes(4, &message->key_length);
	message->value = take_bytes(5, &message->value_length);
	headers = lh_catalog_value(0, 6, &isnull);
	lh_kafka_headers_restore(isnull ? NULL : DatumGetJsonbP(headers), message);
	message->timestamp = lh_catalog_int64(0, 7, -1);
	message->timestamp_type = (int) lh_catalog_int64(0, 8, -1);
	MemoryContextSwitchTo(oldcontext);
	lh_catalog_end(&catalog);
	MemoryContextSwitchTo(oldcontext);
}

/*
 * learn_schema asks for the schema of the message at hand, in the transaction of
 * who replays.
 */
static void
learn_schema(LhKafkaReplay *replay)
{
	const LhKafkaMessage *message = &replay->message;
	LhError		error;

	if (lh_schema_registry_knows(replay->registry, message->value, message->value_length, 0))
		return;
	lh_schema_registry_trim(replay->registry);
	if (!lh_schema_registry_ask(replay->registry, message->value, message->value_length, &error))
		ereport(ERROR,
				(errcode(error.sqlstate),
				 errmsg("%s", error.message)));
}

const LhRecords *
lh_kafka_replay_read(LhKafkaReplay *replay, int64 reject_id, int64 *bytes)
{
	MemoryContextReset(replay->context);
	read_message(replay, reject_id);
	*bytes = replay->message.key_length + replay->message.value_length;
	if (replay->registry != NULL)
		learn_schema(replay);
	lh_kafka_reader_records(replay->reader, &replay->message, 1, &replay->place, &replay->records);
	if (replay->schema == NULL)
		return &replay->records;
	return lh_file_schema_wrap(replay->schema, &replay->records);
}

void
lh_kafka_replay_count(int32 source_id, Datum reject_ids)
{
	static const Oid types[] = {INT4OID, INT8ARRAYOID};
	Datum		values[] = {Int32GetDatum(source_id), reject_ids};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.kafka_offset AS o SET rows = o.rows OPERATOR(pg_catalog.+) r.records,"
				   "  rejected = o.rejected OPERATOR(pg_catalog.-) r.records"
				   " FROM (SELECT topic, \"partition\", pg_catalog.count(*) AS records FROM lakehouse.reject"
				   "        WHERE reject_id OPERATOR(pg_catalog.=) ANY ($2) GROUP BY topic, \"partition\") r"
				   " WHERE o.source_id OPERATOR(pg_catalog.=) $1 AND o.topic OPERATOR(pg_catalog.=) r.topic"
				   "   AND o.\"partition\" OPERATOR(pg_catalog.=) r.\"partition\""
				   /* a partition that the source left and came back to counts from nothing */
				   "   AND o.rejected OPERATOR(pg_catalog.>=) r.records", 2, types, values, NULL);
	lh_catalog_end(&catalog);
}
