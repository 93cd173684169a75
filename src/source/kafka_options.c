/*
 * kafka_options.c
 *	  Options of a Kafka source: what it reads, and how.
 *
 * Invariant: which partitions a source reads follows from its definition and
 * the names in the cluster alone, so that all its workers agree on it.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "catalog/options.h"
#include "source/kafka_options.h"

/* most workers that one source may ask for */
#define MAX_SOURCE_WORKERS 64

/* milliseconds that records wait for the minimum of a batch */
#define DEFAULT_BATCH_DELAY (15 * 60 * 1000)
#define MAX_BATCH_DELAY (24 * 60 * 60 * 1000)

/* what Kafka permits as the name of a group */
#define MAX_GROUP_LENGTH 249

const char *const lh_kafka_option_names[] = {
	"avro_schema", "batch_bytes", "batch_rows", "columns", "ending_offsets", "ending_offsets_by_timestamp",
	"ending_timestamp", "linger_ms", "max_batch_delay", "min_batch_rows", "on_data_loss", "partitions", "paths", "publish_group",
	"reader_case_sensitive", "rescued_data_column", "schema_evolution_mode",
	"starting_offsets", "starting_offsets_by_timestamp", "starting_offsets_by_timestamp_strategy",
	"starting_timestamp", "topic_pattern", "value_format", "workers", NULL
};

/* in the order of LhOnDataLoss */
static const char *const loss_names[] = {"stop", "skip", "wait", NULL};

static void parse_minimum(Jsonb *options, LhKafkaOptions *result);
static void parse_loss(Jsonb *options, LhKafkaOptions *result);
static void parse_subscription(char **topics, Jsonb *options, LhKafkaSubscription *result);
static void parse_assigned(Jsonb *options, LhKafkaSubscription *result);
static void parse_group(Jsonb *options, LhKafkaOptions *result);
static bool is_internal(const char *topic);

/*
 * Returns an option that was given and is not null.
 */
static JsonbValue *
find_option(Jsonb *options, const char *name)
{
	JsonbValue *value = options == NULL || !JB_ROOT_IS_OBJECT(options) ? NULL
		: getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

/*
 * lh_kafka_options_parse reads all options but those of columns and of where
 * reading starts and ends; see the header.
 */
void
lh_kafka_options_parse(char **topics, Jsonb *options, LhKafkaOptions *result)
{
	memset(result, 0, sizeof(*result));
	result->linger_ms = result->batch_rows = result->batch_bytes = -1;
	parse_loss(options, result);
	parse_subscription(topics, options, &result->subscription);
	parse_group(options, result);
	result->workers = 1;
	if (options == NULL)
		return;
	result->linger_ms = (int) lh_options_int(options, "linger_ms", -1, 0, 60000);
	result->batch_rows = (int) lh_options_int(options, "batch_rows", -1, 1, INT_MAX);
	if (find_option(options, "batch_bytes") != NULL)
		result->batch_bytes = (int) (lh_options_int(options, "batch_bytes", 0, 65536,
													INT64CONST(1024) * INT_MAX) / 1024);
	parse_minimum(options, result);
	result->workers = (int) lh_options_int(options, "workers", 1, 1, MAX_SOURCE_WORKERS);
}

/*
 * parse_minimum reads how many records a batch should have, and how long they
 * may wait for that.
 */
static void
parse_minimum(Jsonb *options, LhKafkaOptions *result)
{
	JsonbValue *delay = find_option(options, "max_batch_delay");
	int64		milliseconds = DEFAULT_BATCH_DELAY;

	result->min_batch_rows = (int) lh_options_int(options, "min_batch_rows", 0, 1, INT_MAX);
	if (delay != NULL && result->min_batch_rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"max_batch_delay\" needs option \"min_batch_rows\""),
				 errhint("How long a record waits for others without a minimum says \"linger_ms\".")));
	if (delay != NULL && delay->type == jbvString)
	{
		Datum		interval = DirectFunctionCall3(interval_in,
												   CStringGetDatum(pnstrdup(delay->val.string.val, delay->val.string.len)),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		const Interval *value = DatumGetIntervalP(interval);

		milliseconds = value->month != 0 || value->day > 1 ? -1
			: (value->day * USECS_PER_DAY + value->time) / 1000;
	}
	else if (delay != NULL)
		milliseconds = lh_options_int(options, "max_batch_delay", 0, 0, MAX_BATCH_DELAY);
	if (milliseconds < 0 || milliseconds > MAX_BATCH_DELAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value of option \"max_batch_delay\" is out of range"),
				 errhint("Use milliseconds, or an interval like \"15m\", up to a day.")));
	if (result->min_batch_rows > 0)
		result->linger_ms = (int) milliseconds;
}

static void
parse_loss(Jsonb *options, LhKafkaOptions *result)
{
	char	   *text;

	if (find_option(options, "on_data_loss") == NULL)
		return;
	text = lh_options_text(options, "on_data_loss", NULL);
	for (int i = 0; loss_names[i] != NULL; i++)
	{
		if (strcmp(text, loss_names[i]) == 0)
		{
			result->on_data_loss = (LhOnDataLoss) i;
			return;
		}
	}
	lh_options_refuse(text, loss_names, "value of option \"on_data_loss\"");
}

/*
 * parse_group reads the group that is told positions.  What Kafka accepts as a
 * name it says itself; here only what could disturb a log line is refused.
 */
static void
parse_group(Jsonb *options, LhKafkaOptions *result)
{
	char	   *group;

	if (find_option(options, "publish_group") == NULL)
		return;
	group = lh_options_text(options, "publish_group", NULL);
	for (const char *c = group; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			group[0] = '\0';
	}
	if (group[0] == '\0' || strlen(group) > MAX_GROUP_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value of option \"publish_group\" is not valid"),
				 errdetail("The name of a consumer group has 1 to %d bytes and no control characters.",
						   MAX_GROUP_LENGTH)));
	result->publish_group = group;
}

/*
 * parse_subscription finds out which of the three ways says what is read.
 */
static void
parse_subscription(char **topics, Jsonb *options, LhKafkaSubscription *result)
{
	bool		named = topics != NULL && topics[0] != NULL;
	bool		pattern = find_option(options, "topic_pattern") != NULL;
	bool		assigned = find_option(options, "partitions") != NULL;

	if (named + pattern + assigned != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 named + pattern + assigned == 0
				 ? errmsg("a Kafka source needs topics")
				 : errmsg("a Kafka source has only one of topics, option \"topic_pattern\" and option \"partitions\""),
				 errhint("Give topics => '{orders,payments}', or the option {\"topic_pattern\": \"^shop\\\\.\"} or {\"partitions\": {\"orders\": [0, 2]}}.")));
	if (pattern)
	{
		result->pattern = CStringGetTextDatum(lh_options_text(options, "topic_pattern", NULL));
		/* raises if it is no regular expression */
		(void) DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID, CStringGetTextDatum(""),
									   result->pattern);
	}
	else if (assigned)
		parse_assigned(options, result);
	else
		result->topics = topics;
	for (int t = 0; result->topics != NULL && result->topics[t] != NULL; t++)
	{
		for (int other = 0; other < t; other++)
		{
			if (strcmp(result->topics[other], result->topics[t]) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("topic \"%s\" is named twice", result->topics[t])));
		}
	}
}

static void
refuse_assigned(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"partitions\" must give numbers of partitions for each topic"),
			 errhint("For example {\"partitions\": {\"orders\": [0, 2]}}.")));
}

static int32
partition_number(const JsonbValue *value)
{
	char	   *text;
	char	   *end;
	long		number;

	if (value->type != jbvNumeric)
		refuse_assigned();
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	errno = 0;
	number = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0' || number < 0 || number > PG_INT32_MAX)
		refuse_assigned();
	return (int32) number;
}

/*
 * read_partitions reads the array of one topic.
 */
static void
read_partitions(JsonbContainer *array, LhKafkaAssigned *assigned)
{
	int			count = JsonContainerSize(array);

	if (count == 0)
		refuse_assigned();
	assigned->partitions = palloc(sizeof(int32) * count);
	for (int i = 0; i < count; i++)
	{
		int32		number = partition_number(getIthJsonbValueFromContainer(array, i));

		for (int other = 0; other < i; other++)
		{
			if (assigned->partitions[other] == number)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"partitions\" names partition %d of topic \"%s\" twice",
								number, assigned->topic)));
		}
		assigned->partitions[i] = number;
	}
	assigned->count = count;
}

/*
 * parse_assigned reads {"topic": [0, 2]}.
 */
static void
parse_assigned(Jsonb *options, LhKafkaSubscription *result)
{
	JsonbValue *value = find_option(options, "partitions");
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	int			count;
	int			t = 0;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data) ||
		JsonContainerSize(value->val.binary.data) == 0)
		refuse_assigned();
	count = JsonContainerSize(value->val.binary.data);
	result->assigned = palloc0(sizeof(LhKafkaAssigned) * count);
	result->topics = palloc0(sizeof(char *) * (count + 1));
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			result->topics[t] = result->assigned[t].topic =
				pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (item.type != jbvBinary || !JsonContainerIsArray(item.val.binary.data))
				refuse_assigned();
			read_partitions(item.val.binary.data, &result->assigned[t++]);
		}
	}
}

/*
 * Topics in which Kafka keeps what concerns itself match no pattern.
 */
static bool
is_internal(const char *topic)
{
	static const char *const names[] = {
		"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(topic, names[i]) == 0)
			return true;
	}
	return false;
}

bool
lh_kafka_reads_topic(const LhKafkaSubscription *subscription, const char *topic)
{
	if (subscription->pattern != (Datum) 0)
	{
		Datum		name;
		bool		result;

		if (is_internal(topic))
			return false;
		name = CStringGetTextDatum(topic);
		result = DatumGetBool(DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID, name,
													  subscription->pattern));
		pfree(DatumGetPointer(name));
		return result;
	}
	for (int t = 0; subscription->topics[t] != NULL; t++)
	{
		if (strcmp(subscription->topics[t], topic) == 0)
			return true;
	}
	return false;
}

bool
lh_kafka_reads(const LhKafkaSubscription *subscription, const char *topic, int32 partition)
{
	if (subscription->assigned == NULL)
		return lh_kafka_reads_topic(subscription, topic);
	for (int t = 0; subscription->topics[t] != NULL; t++)
	{
		const LhKafkaAssigned *assigned = &subscription->assigned[t];

		for (int i = 0; i < assigned->count && strcmp(assigned->topic, topic) == 0; i++)
		{
			if (assigned->partitions[i] == partition)
				return true;
		}
	}
	return false;
}

char **
lh_kafka_topics_of(const LhKafkaSubscription *subscription, LhKafka *kafka,
				   int timeout_ms, LhError *error)
{
	char	  **topics;
	int			count = 0;

	if (subscription->pattern == (Datum) 0)
		return subscription->topics;
	topics = lh_kafka_topics(kafka, timeout_ms, error);
	if (topics == NULL)
		return NULL;
	for (int t = 0; topics[t] != NULL; t++)
	{
		CHECK_FOR_INTERRUPTS();
		if (lh_kafka_reads_topic(subscription, topics[t]))
			topics[count++] = topics[t];
	}
	topics[count] = NULL;
	return topics;
}
