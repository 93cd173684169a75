/*
 * kafka_option_names.c
 *	  Options of Kafka sources as people know them from elsewhere.
 *
 * Structured Streaming takes every option as text, objects too; here they become
 * what they would be if they had been written as JSON.  What there is no option
 * for is refused with the way that there is.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "catalog/options.h"
#include "source/kafka_options.h"

static const LhOptionAlias aliases[] = {
	{"assign", "partitions"},
	{"maxbytespertrigger", "batch_bytes"},
	{"maxtriggerdelay", "max_batch_delay"},
	{"minoffsetspertrigger", "min_batch_rows"},
	{"maxoffsetspertrigger", "batch_rows"},
	{"kafka.group.id", "publish_group"},
	{"committogroup", "publish_group"},
	{"startingtimestampstrategy", "starting_offsets_by_timestamp_strategy"},
	{"subscribepattern", "topic_pattern"},
	{NULL, NULL}
};

/* options that are objects */
static const char *const object_names[] = {
	"ending_offsets", "ending_offsets_by_timestamp", "partitions", "starting_offsets",
	"starting_offsets_by_timestamp", NULL
};

/* "x.*" stands for everything that begins so */
static const struct
{
	const char *name;
	const char *hint;
}			elsewhere[] = {
	{"failOnDataLoss", "Use {\"on_data_loss\": \"stop\"} for true and \"skip\" for false; see also \"wait\"."},
	{"subscribe", "Topics are an argument: topics => '{orders,payments}'."},
	{"includeHeaders", "Headers are stored where the target has a column \"headers\", or the option \"columns\" names one."},
	{"minPartitions", "The partitions are divided among the workers of the source: option \"workers\"."},
	{"maxRecordsPerPartition", "The partitions are divided among the workers of the source: option \"workers\"; a batch ends after \"batch_rows\"."},
	{"max_partitions", "The partitions are divided among the workers of the source: option \"workers\"."},
	{"groupIdPrefix", "No consumer group is needed; the option \"publish_group\" names one that is told the positions."},
	{"kafkaConsumer.*", "Timeouts are properties of the server; a source that fails is tried again with growing pauses."},
	{"fetchOffset.*", "Timeouts are properties of the server; a source that fails is tried again with growing pauses."},
	{"useDeprecatedOffsetFetching", "Offsets are asked for without a consumer group."},
	{"kafka.*", "Properties of the connection are options of the foreign server, without \"kafka.\": ALTER SERVER name OPTIONS (ADD \"client.id\" '...'); names and passwords stand in a user mapping."}
};

static bool
is_named(const char *name, const char *pattern)
{
	size_t		length = strlen(pattern);

	if (pattern[length - 1] == '*')
		return pg_strncasecmp(name, pattern, length - 1) == 0;
	return pg_strcasecmp(name, pattern) == 0;
}

static void
refuse_elsewhere(const char *name)
{
	for (int i = 0; i < lengthof(elsewhere); i++)
	{
		if (is_named(name, elsewhere[i].name))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unrecognized option of a Kafka source \"%s\"", name),
					 errhint("%s", elsewhere[i].hint)));
	}
}

static bool
is_object(const char *name)
{
	for (int i = 0; object_names[i] != NULL; i++)
	{
		if (strcmp(object_names[i], name) == 0)
			return true;
	}
	return false;
}

static void
tell_option(void *arg)
{
	errcontext("option \"%s\" of a Kafka source", (const char *) arg);
}

/*
 * parse_object makes an object of text that holds one; false if it does not look
 * so.
 */
static bool
parse_object(char *name, JsonbValue *value)
{
	ErrorContextCallback callback = {.callback = tell_option, .arg = name};
	char	   *text;
	Jsonb	   *object;

	if (value->type != jbvString)
		return false;
	text = pnstrdup(value->val.string.val, value->val.string.len);
	if (text[strspn(text, " \t\n\r")] != '{')
		return false;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	error_context_stack = callback.previous;
	value->type = jbvBinary;
	value->val.binary.data = &object->root;
	value->val.binary.len = VARSIZE(object) - VARHDRSZ;
	return true;
}

/*
 * parse_objects returns the options with objects for text that holds them.
 */
static Jsonb *
parse_objects(Jsonb *options)
{
	JsonbParseState *state = NULL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	bool		changed = false;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			changed |= is_object(name) && parse_object(name, &value);
		if (token == WJB_KEY || token == WJB_VALUE)
			(void) pushJsonbValue(&state, token, &value);
	}
	return changed ? JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)) : options;
}

Jsonb *
lh_kafka_options_canonical(Jsonb *options)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;

	options = lh_options_canonical(options, lh_kafka_option_names, aliases);
	if (JB_ROOT_IS_OBJECT(options))
	{
		options = parse_objects(options);
		iterator = JsonbIteratorInit(&options->root);
		while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		{
			if (token == WJB_KEY)
				refuse_elsewhere(pnstrdup(value.val.string.val, value.val.string.len));
		}
	}
	lh_options_check(options, lh_kafka_option_names, "option of a Kafka source");
	return options;
}
