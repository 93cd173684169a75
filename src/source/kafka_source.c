/*
 * kafka_source.c
 *	  What the definition of a Kafka source needs of Kafka: whether it holds
 *	  together, and where reading starts.
 *
 * Invariant: the start is resolved to offsets when the source is made, so that
 * "latest" means that moment and not the first run.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "source/kafka.h"
#include "source/kafka_bound.h"
#include "source/kafka_client.h"
#include "source/kafka_options.h"
#include "source/server.h"

/* how long a broker may take to answer while a source is being defined */
#define ANSWER_LIMIT_MS 8000

PG_FUNCTION_INFO_V1(lakehouse_seek_source);

static int	list_partitions(const LhKafkaSubscription *subscription, LhKafka *kafka,
							const char *topic, LhKafkaPosition **result);
static void write_positions(int32 source_id, const char *topic, const LhKafkaPosition *positions, int count);

/*
 * lh_kafka_source_validate checks the definition; see the header.
 */
Jsonb *
lh_kafka_source_validate(char **topics, Jsonb *options, bool continuous)
{
	LhKafkaOptions parsed;
	LhKafkaBound bound;

	options = lh_kafka_options_canonical(options);
	lh_kafka_options_parse(topics, options, &parsed);
	lh_kafka_bound_parse(options, false, &bound);
	lh_kafka_bound_check(&bound, &parsed.subscription);
	lh_kafka_bound_parse(options, true, &bound);
	lh_kafka_bound_check(&bound, &parsed.subscription);
	if (bound.given && continuous)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a continuous source has no end"),
				 errdetail("Options \"ending_offsets\", \"ending_offsets_by_timestamp\" and \"ending_timestamp\" bound a run of a source with trigger \"available_now\"."),
				 errhint("Use trigger => 'available_now', or leave the option out.")));
	return options;
}

/*
 * has_positions tells whether the source has rows for a topic.
 */
static bool
has_positions(int32 source_id, const char *topic)
{
	static const Oid types[] = {INT4OID, TEXTOID};
	Datum		values[] = {Int32GetDatum(source_id), CStringGetTextDatum(topic)};
	LhCatalog	catalog;
	uint64		rows;

	lh_catalog_begin(&catalog);
	rows = lh_catalog_run("SELECT 1 FROM lakehouse.kafka_offset"
						  " WHERE source_id OPERATOR(pg_catalog.=) $1"
						  " AND topic OPERATOR(pg_catalog.=) $2 LIMIT 1", 2, types, values, NULL);
	lh_catalog_end(&catalog);
	return rows > 0;
}

/*
 * delete_positions deletes the rows of partitions that the source does not read
 * any more.  Whoever lets it read them again later should know what that means.
 */
static void
delete_positions(const LhSource *source, const LhKafkaSubscription *subscription)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID};
	Datum		values[3] = {Int32GetDatum(source->source_id)};
	int			forgotten = 0;
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	uint64		count;
	char	  **topics;
	int32	   *partitions;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT topic, \"partition\" FROM lakehouse.kafka_offset"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1", 1, types, values, NULL);
	topics = palloc(sizeof(char *) * Max(count, 1));
	partitions = palloc(sizeof(int32) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
	{
		topics[row] = lh_catalog_text(row, 1, context);
		partitions[row] = (int32) lh_catalog_int64(row, 2, 0);
	}
	for (uint64 row = 0; row < count; row++)
	{
		if (lh_kafka_reads(subscription, topics[row], partitions[row]))
			continue;
		values[1] = CStringGetTextDatum(topics[row]);
		values[2] = Int32GetDatum(partitions[row]);
		lh_catalog_run("DELETE FROM lakehouse.kafka_offset WHERE source_id OPERATOR(pg_catalog.=) $1"
					   " AND topic OPERATOR(pg_catalog.=) $2 AND \"partition\" OPERATOR(pg_catalog.=) $3",
					   3, types, values, NULL);
		forgotten++;
	}
	lh_catalog_end(&catalog);
	if (forgotten > 0)
		ereport(NOTICE,
				(errmsg("source \"%s\" forgets its positions in %d partitions that it does not read any more",
						source->name, forgotten),
				 errdetail("If it reads them again later, that starts as for a new topic, with records that were loaded before.")));
}

/*
 * prepare_topics resolves and writes the start of each topic that has no
 * positions yet, or of all.
 */
static void
prepare_topics(const LhSource *source, const LhKafkaSubscription *subscription,
			   const LhKafkaBound *start, bool keep)
{
	List	   *properties = lh_server_kafka_properties(source->server, source->owner);
	LhKafka    *kafka = NULL;
	char	  **topics = subscription->topics;
	LhError		error;

	lh_kafka_bound_check(start, subscription);
	if (topics == NULL)
	{
		kafka = lh_kafka_open(properties, CurrentMemoryContext);
		topics = lh_kafka_topics_of(subscription, kafka, ANSWER_LIMIT_MS, &error);
		if (topics == NULL)
			lh_kafka_raise(&error, "");
		if (topics[0] == NULL)
			ereport(NOTICE,
					(errmsg("no topic of the cluster matches the pattern of source \"%s\" now", source->name),
					 errdetail("Topics that come later are read from their beginning.")));
	}
	for (int t = 0; topics[t] != NULL; t++)
	{
		LhKafkaPosition *positions;
		int			count;

		CHECK_FOR_INTERRUPTS();
		/* a topic that is gone keeps nobody from moving another one */
		if (keep ? has_positions(source->source_id, topics[t]) : !lh_kafka_bound_moves(start, topics[t]))
			continue;
		if (kafka == NULL)
			kafka = lh_kafka_open(properties, CurrentMemoryContext);
		count = list_partitions(subscription, kafka, topics[t], &positions);
		lh_kafka_bound_resolve(start, kafka, topics[t], positions, count);
		write_positions(source->source_id, topics[t], positions, count);
	}
	if (kafka != NULL)
		lh_kafka_close(kafka);
}

/*
 * list_partitions returns the partitions of a topic that the source reads.
 */
static int
list_partitions(const LhKafkaSubscription *subscription, LhKafka *kafka, const char *topic,
				LhKafkaPosition **result)
{
	LhError		error;
	int			present = lh_kafka_partitions(kafka, topic, ANSWER_LIMIT_MS, &error);
	int			count = 0;

	if (present < 0)
		lh_kafka_raise(&error, topic);
	*result = palloc0(sizeof(LhKafkaPosition) * Max(present, 1));
	for (int p = 0; p < present; p++)
	{
		if (lh_kafka_reads(subscription, topic, p))
			(*result)[count++].partition = p;
	}
	for (int t = 0; subscription->assigned != NULL && subscription->topics[t] != NULL; t++)
	{
		const LhKafkaAssigned *assigned = &subscription->assigned[t];

		for (int i = 0; i < assigned->count && strcmp(assigned->topic, topic) == 0; i++)
		{
			if (assigned->partitions[i] >= present)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_OBJECT),
						 errmsg("topic \"%s\" has no partition %d", topic, assigned->partitions[i]),
						 errdetail("It has %d partitions, from 0 on.", present)));
		}
	}
	return count;
}

static Jsonb *
jsonb_of(const char *text)
{
	return text == NULL ? NULL : DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/*
 * notice_start tells that another start moves no position.
 */
static void
notice_start(const LhSource *source, Jsonb *options, Jsonb *old_options)
{
	static const char *const names[] = {
		"starting_offsets", "starting_offsets_by_timestamp", "starting_timestamp"
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		JsonbValue *value = options == NULL ? NULL
			: getKeyJsonValueFromContainer(&options->root, names[i], strlen(names[i]), NULL);
		JsonbValue *old = old_options == NULL ? NULL
			: getKeyJsonValueFromContainer(&old_options->root, names[i], strlen(names[i]), NULL);

		if (value == NULL && old == NULL)
			continue;
		if (value == NULL || old == NULL ||
			compareJsonbContainers(&JsonbValueToJsonb(value)->root, &JsonbValueToJsonb(old)->root) != 0)
		{
			ereport(NOTICE,
					(errmsg("option \"%s\" of source \"%s\" moves no partition that has a position", names[i], source->name),
					 errhint("Move positions with lakehouse.seek_source('%s', ...).", source->name)));
			return;
		}
	}
}

/*
 * lh_kafka_source_prepare resolves the start; see the header.
 */
void
lh_kafka_source_prepare(const LhSource *source, const char *old_options)
{
	Jsonb	   *options = jsonb_of(source->options);
	LhKafkaOptions parsed;
	LhKafkaBound start;

	lh_kafka_options_parse(source->topics, options, &parsed);
	lh_kafka_bound_parse(options, false, &start);
	if (old_options != NULL)
	{
		notice_start(source, options, jsonb_of(old_options));
		delete_positions(source, &parsed.subscription);
	}
	prepare_topics(source, &parsed.subscription, &start, old_options != NULL);
}

static Datum
offsets_array(const LhKafkaPosition *positions, Size field, int count)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int p = 0; p < count; p++)
		elements[p] = Int64GetDatum(*(const int64 *) ((const char *) &positions[p] + field));
	return PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * write_positions writes the rows of one topic; what stood there is replaced.
 */
static void
write_positions(int32 source_id, const char *topic, const LhKafkaPosition *positions, int count)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum	   *partitions = palloc(sizeof(Datum) * Max(count, 1));
	Datum		values[6];
	LhCatalog	catalog;

	for (int p = 0; p < count; p++)
		partitions[p] = Int32GetDatum(positions[p].partition);
	values[0] = Int32GetDatum(source_id);
	values[1] = CStringGetTextDatum(topic);
	values[2] = PointerGetDatum(construct_array(partitions, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[3] = offsets_array(positions, offsetof(LhKafkaPosition, wanted), count);
	values[4] = offsets_array(positions, offsetof(LhKafkaPosition, low), count);
	values[5] = offsets_array(positions, offsetof(LhKafkaPosition, end), count);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.kafka_offset AS o"
				   " (source_id, topic, \"partition\", next_offset, low_offset, end_offset)"
				   " SELECT $1, $2, u.p, u.x, u.low, u.e"
				   " FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
				   " pg_catalog.unnest($6)) u(p, x, low, e) WHERE u.x OPERATOR(pg_catalog.>=) 0"
				   " ON CONFLICT (source_id, topic, \"partition\") DO UPDATE SET"
				   " next_offset = excluded.next_offset, low_offset = excluded.low_offset,"
				   " end_offset = excluded.end_offset, high_offset = NULL, last_offset = NULL,"
				   " last_timestamp = NULL, last_hash = NULL, last_epoch = NULL, topic_id = NULL, sqlstate = NULL, error = NULL, since = NULL,"
				   " caught_up = NULL, updated = pg_catalog.clock_timestamp()",
				   6, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * touch_source makes a new version of the source's row, which makes the worker
 * that reads it begin anew.
 */
static void
touch_source(int32 source_id)
{
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("UPDATE lakehouse.source SET name = name"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1", 1, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * lakehouse.seek_source(source text, starting_offsets jsonb) moves the position
 * of a Kafka source: the way on after lost or re-created data.  Partitions that
 * an object does not name keep their position.
 */
Datum
lakehouse_seek_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb	   *where = PG_GETARG_JSONB_P(1);
	LhSource   *source = lh_source_find(name);
	JsonbValue	key;
	JsonbValue	value;
	JsonbParseState *state = NULL;
	LhIdentity	identity;
	Jsonb	   *options;
	LhKafkaOptions parsed;
	LhKafkaBound start;

	lh_catalog_check_owner(source->owner, "source", name);
	if (!source->is_kafka)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s\" reads no Kafka topics", name)));
	(void) lh_catalog_lock(LH_LOCK_SOURCE, source->source_id, true);

	/* in the form of the option */
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	key.type = jbvString;
	key.val.string.val = "starting_offsets";
	key.val.string.len = strlen("starting_offsets");
	pushJsonbValue(&state, WJB_KEY, &key);
	if (JB_ROOT_IS_SCALAR(where))
		JsonbExtractScalar(&where->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &where->root;
		value.val.binary.len = VARSIZE(where) - VARHDRSZ;
	}
	pushJsonbValue(&state, WJB_VALUE, &value);
	options = jsonb_of(source->options);
	lh_kafka_options_parse(source->topics, options, &parsed);
	lh_kafka_bound_parse(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), false, &start);
	start.unnamed = LH_KAFKA_KEEP;
	lh_identity_role(&identity, source->owner, "pg_catalog, pg_temp");
	prepare_topics(source, &parsed.subscription, &start, false);
	lh_identity_restore(&identity);
	touch_source(source->source_id);
	PG_RETURN_VOID();
}
