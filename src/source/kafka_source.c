/*
 * kafka_source.c
 *	  What the definition of a Kafka source needs of Kafka: options, and where
 *	  reading starts.
 *
 * Invariant: the start is resolved to offsets when the source is made, so that
 * "latest" means that moment and not the first run.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "bronze/ingest.h"
#include "catalog/catalog_access.h"
#include "catalog/options.h"
#include "source/kafka.h"
#include "source/kafka_client.h"
#include "source/server.h"

/* how long a broker may take to answer while a source is being defined */
#define ANSWER_LIMIT_MS 8000

static const char *const option_names[] = {"columns", "paths", "reader_case_sensitive",
"rescued_data_column", "schema_evolution_mode", "starting_offsets", "value_format", NULL};

/* Where to start, as the option says. */
typedef struct Start
{
	int64		everywhere;		/* LH_KAFKA_BEGINNING, LH_KAFKA_END, or a time
								 * in milliseconds */
	JsonbContainer *by_topic;	/* {"topic": {"partition": offset}}, or NULL */
	int64		unnamed;		/* for partitions that by_topic does not name:
								 * LH_KAFKA_BEGINNING or KEEP_POSITION */
} Start;

#define KEEP_POSITION INT64CONST(-3)

/* Where one partition starts. */
typedef struct Position
{
	int64		next;
	int64		low;
	int64		end;
} Position;

PG_FUNCTION_INFO_V1(lakehouse_seek_source);

static void parse_start(Jsonb *options, Start *start);
static void parse_start_text(const char *text, Start *start);
static void check_start_offsets(JsonbContainer *by_topic, char **topics);
static int	resolve_topic(LhKafka *kafka, const char *topic, const Start *start, Position **result);
static void write_positions(int32 source_id, const char *topic, const Position *positions, int count);

static JsonbValue *
find_member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

/*
 * lh_kafka_source_validate checks the options; see the header.
 */
void
lh_kafka_source_validate(Jsonb *options)
{
	Start		start;

	lh_options_check(options, option_names, "option of a Kafka source");
	parse_start(options, &start);
}

/*
 * parse_start reads the option starting_offsets.
 */
static void
parse_start(Jsonb *options, Start *start)
{
	JsonbValue *value = options == NULL ? NULL : find_member(&options->root, "starting_offsets");

	start->everywhere = LH_KAFKA_BEGINNING;
	start->by_topic = NULL;
	start->unnamed = LH_KAFKA_BEGINNING;
	if (value == NULL || value->type == jbvNull)
		return;
	if (value->type == jbvString)
		parse_start_text(pnstrdup(value->val.string.val, value->val.string.len), start);
	else if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
	{
		start->by_topic = value->val.binary.data;
		check_start_offsets(start->by_topic, NULL);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"starting_offsets\" is neither text nor an object"),
				 errhint("Use \"earliest\", \"latest\", a timestamp, or {\"topic\": {\"0\": 123}}.")));
}

static void
parse_start_text(const char *text, Start *start)
{
	static const char *const words[] = {"earliest", "latest", NULL};
	TimestampTz time;

	if (strcmp(text, "earliest") == 0)
		return;
	if (strcmp(text, "latest") == 0)
	{
		start->everywhere = LH_KAFKA_END;
		return;
	}
	/* a time begins with a digit; anything else is a word */
	if (text[0] < '0' || text[0] > '9')
		lh_options_refuse(text, words, "value of option \"starting_offsets\"");
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"starting_offsets\" must be a finite time")));
	start->everywhere = time / 1000 +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
	if (start->everywhere < 0)
		start->everywhere = 0;	/* negative numbers have other meanings */
}

static int64
offset_value(const JsonbValue *value, const char *topic, const char *partition)
{
	int64		offset = -3;

	/* numeric_int8 raises an error of its own for what does not fit */
	if (value->type == jbvNumeric &&
		fabs(DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value->val.numeric)))) < 9.2e18)
		offset = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
	if (offset < LH_KAFKA_BEGINNING)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"starting_offsets\" has no offset for partition %s of topic \"%s\"",
						partition, topic),
				 errhint("Use a number: an offset, -2 (earliest) or -1 (latest).")));
	return offset;
}

/*
 * check_start_offsets checks the form of {"topic": {"partition": offset}}, and,
 * if topics are given, that it names no other.
 */
static void
check_start_offsets(JsonbContainer *by_topic, char **topics)
{
	JsonbIterator *iterator = JsonbIteratorInit(by_topic);
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *topic = NULL;
	char	   *partition = NULL;
	int			depth = 0;

	while ((token = JsonbIteratorNext(&iterator, &item, false)) != WJB_DONE)
	{
		char	   *end;

		if (token == WJB_BEGIN_OBJECT)
			depth++;
		else if (token == WJB_END_OBJECT)
			depth--;
		else if (token == WJB_KEY && depth == 1)
		{
			topic = pnstrdup(item.val.string.val, item.val.string.len);
			if (topics != NULL)
			{
				int			t = 0;

				while (topics[t] != NULL && strcmp(topics[t], topic) != 0)
					t++;
				if (topics[t] == NULL)
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("option \"starting_offsets\" names topic \"%s\", which the source does not read", topic)));
			}
		}
		else if (token == WJB_KEY && depth == 2)
		{
			partition = pnstrdup(item.val.string.val, item.val.string.len);
			errno = 0;
			if (partition[0] < '0' || partition[0] > '9' ||
				strtol(partition, &end, 10) > PG_INT32_MAX || *end != '\0' || errno != 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"starting_offsets\" names partition \"%s\" of topic \"%s\", which is no number",
								partition, topic)));
		}
		else if (token == WJB_VALUE && depth == 2)
			(void) offset_value(&item, topic, partition);
		else if (depth != 1 || token == WJB_VALUE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"starting_offsets\" is not of the form {\"topic\": {\"0\": 123}}")));
	}
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

static Datum
topics_array(char **topics)
{
	int			count = 0;
	Datum	   *values;

	while (topics[count] != NULL)
		count++;
	values = palloc(sizeof(Datum) * Max(count, 1));
	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(topics[i]);
	return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * delete_positions deletes the rows of topics that are not in the list.
 */
static void
delete_positions(int32 source_id, char **topics)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID};
	Datum		values[] = {Int32GetDatum(source_id), topics_array(topics)};
	LhCatalog	catalog;

	lh_catalog_begin(&catalog);
	lh_catalog_run("DELETE FROM lakehouse.kafka_offset"
				   " WHERE source_id OPERATOR(pg_catalog.=) $1"
				   " AND topic OPERATOR(pg_catalog.<>) ALL ($2)", 2, types, values, NULL);
	lh_catalog_end(&catalog);
}

/*
 * prepare_topics resolves and writes the start of each topic that has no
 * positions yet, or of all.
 */
static void
prepare_topics(const LhSource *source, const Start *start, bool keep)
{
	List	   *properties = lh_server_kafka_properties(source->server, source->owner);
	LhKafka    *kafka = NULL;

	if (start->by_topic != NULL)
		check_start_offsets(start->by_topic, source->topics);
	for (int t = 0; source->topics[t] != NULL; t++)
	{
		const char *topic = source->topics[t];
		Position   *positions;
		int			count;

		for (int other = 0; other < t; other++)
		{
			if (strcmp(source->topics[other], topic) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("topic \"%s\" is named twice", topic)));
		}
		if (keep && has_positions(source->source_id, topic))
			continue;
		if (kafka == NULL)
			kafka = lh_kafka_open(properties, CurrentMemoryContext);
		count = resolve_topic(kafka, topic, start, &positions);
		write_positions(source->source_id, topic, positions, count);
	}
	if (kafka != NULL)
		lh_kafka_close(kafka);
}

/*
 * lh_kafka_source_prepare resolves the start; see the header.
 */
void
lh_kafka_source_prepare(const LhSource *source, bool replace)
{
	Jsonb	   *options = source->options == NULL ? NULL
		: DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source->options)));
	Start		start;

	if (source->topics == NULL || source->topics[0] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" names no topic", source->name),
				 errhint("Give topics => '{name}'.")));
	parse_start(options, &start);
	if (replace)
		delete_positions(source->source_id, source->topics);
	prepare_topics(source, &start, replace);
}

/*
 * raise_kafka_error raises what the client reported.
 */
static void
raise_kafka_error(const LhError *error, const char *topic)
{
	if (error->sqlstate == ERRCODE_UNDEFINED_OBJECT)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("topic \"%s\" does not exist", topic),
				 errhint("Create the topic first, or correct its name.")));
	if (error->sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("%s", error->message),
				 errhint("Check the option \"bootstrap.servers\" of the server, the network and the brokers.")));
	if (error->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
		ereport(ERROR,
				(errcode(error->sqlstate),
				 errmsg("%s", error->message),
				 errhint("Check the user mapping of the source's owner and the security options of the server.")));
	ereport(ERROR,
			(errcode(error->sqlstate),
			 errmsg("could not read topic \"%s\": %s", topic, error->message)));
}

/*
 * wanted_offset returns where one partition is to start: an offset, a time or
 * one of LH_KAFKA_BEGINNING and LH_KAFKA_END.
 */
static int64
wanted_offset(const Start *start, const char *topic, int partition)
{
	JsonbValue *partitions;
	JsonbValue *value = NULL;
	char		name[16];

	if (start->by_topic == NULL)
		return start->everywhere;
	snprintf(name, sizeof(name), "%d", partition);
	partitions = find_member(start->by_topic, topic);
	if (partitions != NULL && partitions->type == jbvBinary)
		value = find_member(partitions->val.binary.data, name);
	return value == NULL ? start->unnamed : offset_value(value, topic, name);
}

static void
check_range(const char *topic, int partition, int64 wanted, int64 low, int64 end)
{
	if (wanted >= low && wanted <= end)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("partition %d of topic \"%s\" cannot be read from offset " INT64_FORMAT,
					partition, topic, wanted),
			 errdetail("The broker has the offsets from " INT64_FORMAT " to " INT64_FORMAT ".",
					   low, end)));
}

/*
 * ask answers all questions or raises.
 */
static void
ask(LhKafka *kafka, const char *topic, LhKafkaQuestion *questions, int count)
{
	LhError		error;

	if (!lh_kafka_offsets(kafka, questions, count, ANSWER_LIMIT_MS, &error) || error.sqlstate != 0)
		raise_kafka_error(&error, topic);
}

/*
 * resolve_topic returns the number of partitions and where to start each of
 * them, in the current context.
 */
static int
resolve_topic(LhKafka *kafka, const char *topic, const Start *start, Position **result)
{
	LhError		error;
	int			count = lh_kafka_partitions(kafka, topic, ANSWER_LIMIT_MS, &error);
	bool		by_time = start->by_topic == NULL && start->everywhere >= 0;
	LhKafkaQuestion *low;
	LhKafkaQuestion *end;
	LhKafkaQuestion *time;
	Position   *positions;

	if (count < 0)
		raise_kafka_error(&error, topic);
	low = palloc(sizeof(LhKafkaQuestion) * Max(3 * count, 1));
	end = low + count;
	time = end + count;
	positions = palloc(sizeof(Position) * Max(count, 1));
	for (int p = 0; p < count; p++)
	{
		low[p] = (LhKafkaQuestion) {topic, p, LH_KAFKA_BEGINNING};
		end[p] = (LhKafkaQuestion) {topic, p, LH_KAFKA_END};
		time[p] = (LhKafkaQuestion) {topic, p, start->everywhere};
	}
	ask(kafka, topic, low, count);
	ask(kafka, topic, end, count);
	if (by_time)
		ask(kafka, topic, time, count);
	for (int p = 0; p < count; p++)
	{
		int64		wanted = by_time ? time[p].offset : wanted_offset(start, topic, p);

		/* nothing is as late as a time: start behind the last record */
		if (wanted == LH_KAFKA_END)
			wanted = end[p].offset;
		else if (wanted == LH_KAFKA_BEGINNING)
			wanted = low[p].offset;
		if (wanted != KEEP_POSITION)
			check_range(topic, p, wanted, low[p].offset, end[p].offset);
		positions[p] = (Position) {wanted, low[p].offset, end[p].offset};
	}
	*result = positions;
	return count;
}

static Datum
offsets_array(const Position *positions, Size field, int count)
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
write_positions(int32 source_id, const char *topic, const Position *positions, int count)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[5];
	LhCatalog	catalog;

	values[0] = Int32GetDatum(source_id);
	values[1] = CStringGetTextDatum(topic);
	values[2] = offsets_array(positions, offsetof(Position, next), count);
	values[3] = offsets_array(positions, offsetof(Position, low), count);
	values[4] = offsets_array(positions, offsetof(Position, end), count);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.kafka_offset AS o"
				   " (source_id, topic, \"partition\", next_offset, low_offset, end_offset)"
				   " SELECT $1, $2, (u.n OPERATOR(pg_catalog.-) 1)::pg_catalog.int4, u.x, u.low, u.e"
				   " FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5))"
				   " WITH ORDINALITY u(x, low, e, n) WHERE u.x OPERATOR(pg_catalog.>=) 0"
				   " ON CONFLICT (source_id, topic, \"partition\") DO UPDATE SET"
				   " next_offset = excluded.next_offset, low_offset = excluded.low_offset,"
				   " end_offset = excluded.end_offset, last_offset = NULL, last_timestamp = NULL,"
				   " last_hash = NULL, sqlstate = NULL, error = NULL,"
				   " updated = pg_catalog.clock_timestamp()",
				   5, types, values, NULL);
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
	Start		start;

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
	parse_start(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)), &start);
	start.unnamed = KEEP_POSITION;
	lh_identity_role(&identity, source->owner, "pg_catalog, pg_temp");
	prepare_topics(source, &start, false);
	lh_identity_restore(&identity);
	touch_source(source->source_id);
	PG_RETURN_VOID();
}
