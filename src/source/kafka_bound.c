/*
 * kafka_bound.c
 *	  Where reading of a Kafka source starts or ends: offsets, times, or an end
 *	  of the partition.
 *
 * Three options say it, and the first that is given counts, as in Structured
 * Streaming: one time, times by partition, offsets.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "catalog/options.h"
#include "source/kafka_bound.h"
#include "source/kafka_options.h"

/* how long a broker may take to answer while a source is being defined */
#define ANSWER_LIMIT_MS 8000

/* so many digits are milliseconds since 1970, from 2001 to 2286 */
#define MILLISECOND_DIGITS 13

static const char *const option_names[2][3] = {
	{"starting_timestamp", "starting_offsets_by_timestamp", "starting_offsets"},
	{"ending_timestamp", "ending_offsets_by_timestamp", "ending_offsets"}
};

static const char *const strategy_names[] = {"latest", "error", NULL};

static void parse_offsets(const JsonbValue *value, LhKafkaBound *bound);
static void check_object(const LhKafkaBound *bound, JsonbContainer *object, const char *option,
						 const LhKafkaSubscription *subscription);
static int64 offset_value(const JsonbValue *value, const LhKafkaBound *bound,
						  const char *topic, const char *partition);
static int64 time_value(const JsonbValue *value, const char *option);

static JsonbValue *
find_member(JsonbContainer *object, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, name, strlen(name), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

/*
 * lh_kafka_bound_parse reads the options; see the header.
 */
void
lh_kafka_bound_parse(Jsonb *options, bool ending, LhKafkaBound *bound)
{
	const char *const *names = option_names[ending];
	JsonbValue *values[3] = {NULL};
	LhKafkaBound unused;

	memset(bound, 0, sizeof(*bound));
	bound->ending = ending;
	bound->everywhere = bound->unnamed = ending ? LH_KAFKA_END : LH_KAFKA_BEGINNING;
	for (int i = 0; i < 3 && options != NULL && JB_ROOT_IS_OBJECT(options); i++)
		values[i] = find_member(&options->root, names[i]);
	bound->given = values[0] != NULL || values[1] != NULL || values[2] != NULL;
	unused = *bound;
	/* those that do not count are checked, too */
	if (values[2] != NULL)
		parse_offsets(values[2], values[0] || values[1] ? &unused : bound);
	if (values[1] != NULL)
	{
		if (values[1]->type != jbvBinary || !JsonContainerIsObject(values[1]->val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" is not an object", names[1]),
					 errhint("Use {\"topic\": {\"0\": \"2014-05-01 00:00:00+00\"}}.")));
		check_object(bound, values[1]->val.binary.data, names[1], NULL);
		if (values[0] == NULL)
			bound->times = values[1]->val.binary.data;
	}
	if (values[0] != NULL)
		bound->everywhere = time_value(values[0], names[0]);
	if (!ending && options != NULL)
	{
		char	   *strategy = lh_options_text(options, "starting_offsets_by_timestamp_strategy", "latest");

		bound->strict = strcmp(strategy, "error") == 0;
		if (!bound->strict && strcmp(strategy, "latest") != 0)
			lh_options_refuse(strategy, strategy_names,
							  "value of option \"starting_offsets_by_timestamp_strategy\"");
	}
}

/*
 * parse_offsets reads a word, a time as text, or an object.
 */
static void
parse_offsets(const JsonbValue *value, LhKafkaBound *bound)
{
	static const char *const words[] = {"earliest", "latest", NULL};
	const char *name = option_names[bound->ending][2];
	char	   *text;

	if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
	{
		check_object(bound, value->val.binary.data, name, NULL);
		bound->offsets = value->val.binary.data;
		return;
	}
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is neither text nor an object", name),
				 bound->ending
				 ? errhint("Use \"latest\", a timestamp, or {\"topic\": {\"0\": 123}}.")
				 : errhint("Use \"earliest\", \"latest\", a timestamp, or {\"topic\": {\"0\": 123}}.")));
	text = pnstrdup(value->val.string.val, value->val.string.len);
	/* a time begins with a digit; anything else is a word */
	if (text[0] >= '0' && text[0] <= '9')
		bound->everywhere = time_value(value, name);
	else if (strcmp(text, "latest") == 0)
		bound->everywhere = LH_KAFKA_END;
	else if (strcmp(text, "earliest") != 0 || bound->ending)
		lh_options_refuse(text, bound->ending ? words + 1 : words,
						  psprintf("value of option \"%s\"", name));
}

/*
 * time_value reads a timestamp as text, or milliseconds since 1970.
 */
static int64
time_value(const JsonbValue *value, const char *option)
{
	int64		result = -1;

	if (value->type == jbvNumeric)
	{
		double		number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
																NumericGetDatum(value->val.numeric)));

		if (number >= 0 && number < 9.2e18 && number == floor(number))
			return (int64) number;
	}
	else if (value->type == jbvString)
	{
		char	   *text = pnstrdup(value->val.string.val, value->val.string.len);
		TimestampTz time;

		/* no form of a timestamp: milliseconds, as text */
		if (strlen(text) == MILLISECOND_DIGITS && strspn(text, "0123456789") == MILLISECOND_DIGITS)
			return strtoll(text, NULL, 10);
		time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
																   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

		if (!TIMESTAMP_NOT_FINITE(time))
		{
			result = time / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
			/* negative numbers have other meanings */
			return Max(result, 0);
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" needs a finite time", option),
			 errhint("Use a timestamp, or milliseconds since 1970.")));
}

static int64
offset_value(const JsonbValue *value, const LhKafkaBound *bound, const char *topic, const char *partition)
{
	int64		offset = LH_KAFKA_KEEP;

	/* numeric_int8 raises an error of its own for what does not fit */
	if (value->type == jbvNumeric &&
		fabs(DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												NumericGetDatum(value->val.numeric)))) < 9.2e18)
		offset = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
	if (offset < (bound->ending ? LH_KAFKA_END : LH_KAFKA_BEGINNING))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" has no offset for partition %s of topic \"%s\"",
						option_names[bound->ending][2], partition, topic),
				 bound->ending ? errhint("Use a number: an offset, or -1 (latest).")
				 : errhint("Use a number: an offset, -2 (earliest) or -1 (latest).")));
	return offset;
}

/*
 * check_partition_name checks the key of a partition, and that it is read.
 */
static void
check_partition_name(const char *option, const char *topic, const char *partition,
					 const LhKafkaSubscription *subscription)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(partition, &end, 10);
	if (partition[0] < '0' || partition[0] > '9' || number > PG_INT32_MAX || *end != '\0' || errno != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" names partition \"%s\" of topic \"%s\", which is no number",
						option, partition, topic)));
	if (subscription != NULL && !lh_kafka_reads(subscription, topic, (int32) number))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" names partition %ld of topic \"%s\", which the source does not read",
						option, number, topic)));
}

/*
 * check_object checks the form {"topic": {"partition": value}}, and, if a
 * subscription is given, that it names nothing else.
 */
static void
check_object(const LhKafkaBound *bound, JsonbContainer *object, const char *option,
			 const LhKafkaSubscription *subscription)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *topic = NULL;
	char	   *partition = NULL;
	int			depth = 0;

	while ((token = JsonbIteratorNext(&iterator, &item, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT)
			depth++;
		else if (token == WJB_END_OBJECT)
			depth--;
		else if (token == WJB_KEY && depth == 1)
		{
			topic = pnstrdup(item.val.string.val, item.val.string.len);
			if (subscription != NULL && !lh_kafka_reads_topic(subscription, topic))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"%s\" names topic \"%s\", which the source does not read",
								option, topic)));
		}
		else if (token == WJB_KEY && depth == 2)
		{
			partition = pnstrdup(item.val.string.val, item.val.string.len);
			check_partition_name(option, topic, partition, subscription);
		}
		else if (token == WJB_VALUE && depth == 2)
			(void) (option == option_names[bound->ending][2]
					? offset_value(&item, bound, topic, partition) : time_value(&item, option));
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" is not of the form {\"topic\": {\"0\": 123}}", option)));
	}
}

void
lh_kafka_bound_check(const LhKafkaBound *bound, const LhKafkaSubscription *subscription)
{
	if (bound->times != NULL)
		check_object(bound, bound->times, option_names[bound->ending][1], subscription);
	if (bound->offsets != NULL)
		check_object(bound, bound->offsets, option_names[bound->ending][2], subscription);
}

/*
 * lh_kafka_bound_question tells what to ask for one partition; see the header.
 */
bool
lh_kafka_bound_question(const LhKafkaBound *bound, const char *topic, int32 partition, int64 *wanted)
{
	JsonbContainer *object = bound->times != NULL ? bound->times : bound->offsets;
	JsonbValue *partitions;
	JsonbValue *value = NULL;
	char		name[16];

	if (object == NULL)
	{
		*wanted = bound->everywhere;
		return *wanted >= 0;
	}
	snprintf(name, sizeof(name), "%d", partition);
	partitions = find_member(object, topic);
	if (partitions != NULL && partitions->type == jbvBinary)
		value = find_member(partitions->val.binary.data, name);
	if (value == NULL)
		*wanted = bound->unnamed;
	else if (bound->times != NULL)
		*wanted = time_value(value, option_names[bound->ending][1]);
	else
		*wanted = offset_value(value, bound, topic, name);
	return value != NULL && bound->times != NULL;
}

bool
lh_kafka_bound_moves(const LhKafkaBound *bound, const char *topic)
{
	return bound->unnamed != LH_KAFKA_KEEP || bound->offsets == NULL ||
		find_member(bound->offsets, topic) != NULL;
}

/*
 * lh_kafka_raise raises what the client reported.
 */
void
lh_kafka_raise(const LhError *error, const char *topic)
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
 * ask answers all questions or raises.
 */
static void
ask(LhKafka *kafka, const char *topic, LhKafkaQuestion *questions, int count)
{
	LhError		error;

	if (count > 0 &&
		(!lh_kafka_offsets(kafka, questions, count, ANSWER_LIMIT_MS, &error) || error.sqlstate != 0))
		lh_kafka_raise(&error, topic);
}

/*
 * ask_times replaces the times among the wanted offsets by offsets; what is
 * behind the last record becomes LH_KAFKA_END.
 */
static void
ask_times(const LhKafkaBound *bound, LhKafka *kafka, const char *topic, LhKafkaPosition *positions, int count)
{
	LhKafkaQuestion *times = palloc(sizeof(LhKafkaQuestion) * Max(count, 1));
	int		   *asked = palloc(sizeof(int) * Max(count, 1));
	int			n = 0;

	for (int p = 0; p < count; p++)
	{
		if (!lh_kafka_bound_question(bound, topic, positions[p].partition, &positions[p].wanted))
			continue;
		times[n] = (LhKafkaQuestion) {topic, positions[p].partition, positions[p].wanted};
		asked[n++] = p;
	}
	ask(kafka, topic, times, n);
	for (int i = 0; i < n; i++)
	{
		if (times[i].offset == LH_KAFKA_END && bound->strict)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition %d of topic \"%s\" has no record at or after the starting time",
							times[i].partition, topic),
					 errhint("Give an offset, or {\"starting_offsets_by_timestamp_strategy\": \"latest\"} to start at its end.")));
		positions[asked[i]].wanted = times[i].offset;
	}
}

/*
 * check_present raises if the bound names a partition that the topic does not have.
 */
static void
check_present(const LhKafkaBound *bound, const char *topic, const LhKafkaPosition *positions, int count)
{
	JsonbContainer *object = bound->times != NULL ? bound->times : bound->offsets;
	JsonbValue *partitions = object == NULL ? NULL : find_member(object, topic);
	JsonbIterator *iterator;
	JsonbValue	item;
	JsonbIteratorToken token;

	if (partitions == NULL || partitions->type != jbvBinary)
		return;
	iterator = JsonbIteratorInit(partitions->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		int			number;
		int			p = 0;

		if (token != WJB_KEY)
			continue;
		number = atoi(pnstrdup(item.val.string.val, item.val.string.len));
		while (p < count && positions[p].partition != number)
			p++;
		if (p == count)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("topic \"%s\" has no partition %d", topic, number),
					 errdetail("The source reads %d partitions of it.", count),
					 errhint("Partitions that come later are read from their beginning; name only those that are there.")));
	}
}

/*
 * lh_kafka_bound_resolve fills the positions; see the header.
 */
void
lh_kafka_bound_resolve(const LhKafkaBound *bound, LhKafka *kafka, const char *topic,
					   LhKafkaPosition *positions, int count)
{
	LhKafkaQuestion *low = palloc(sizeof(LhKafkaQuestion) * Max(2 * count, 1));
	LhKafkaQuestion *end = low + count;

	check_present(bound, topic, positions, count);
	for (int p = 0; p < count; p++)
	{
		low[p] = (LhKafkaQuestion) {topic, positions[p].partition, LH_KAFKA_BEGINNING};
		end[p] = (LhKafkaQuestion) {topic, positions[p].partition, LH_KAFKA_END};
	}
	ask(kafka, topic, low, count);
	ask(kafka, topic, end, count);
	ask_times(bound, kafka, topic, positions, count);
	for (int p = 0; p < count; p++)
	{
		LhKafkaPosition *position = &positions[p];

		position->low = low[p].offset;
		position->end = end[p].offset;
		/* nothing is as late as a time: start behind the last record */
		if (position->wanted == LH_KAFKA_END)
			position->wanted = position->end;
		else if (position->wanted == LH_KAFKA_BEGINNING)
			position->wanted = position->low;
		if (position->wanted != LH_KAFKA_KEEP &&
			(position->wanted < position->low || position->wanted > position->end))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition %d of topic \"%s\" cannot be read from offset " INT64_FORMAT,
							position->partition, topic, position->wanted),
					 errdetail("The broker has the offsets from " INT64_FORMAT " to " INT64_FORMAT ".",
							   position->low, position->end)));
	}
	pfree(low);
}
