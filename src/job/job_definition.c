/*
 * job_definition.c
 *	  The definition of a job: jsonb in the words of the Jobs API, parsed and
 *	  checked.
 *
 * Invariant: what lh_job_definition_parse returns is a DAG: every dependency
 * exists, there is no circle, and "order" lists each task after all that it
 * depends on.  A field that is not known is an error, never ignored, and every
 * error names the JSON path of the wrong field.
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "catalog/catalog_access.h"
#include "catalog/options.h"
#include "job/job.h"

#define MAX_TASKS 1000
#define MAX_TASK_KEY 100

/* a field of an object and what it must hold */
typedef struct Field
{
	const char *name;
	enum jbvType type;
} Field;

static const Field job_fields[] = {
	{"description", jbvString},
	{"max_concurrent_runs", jbvNumeric},
	{"parameters", jbvObject},
	{"queue", jbvObject},
	{"tasks", jbvArray},
	{NULL}
};

static const Field queue_fields[] = {
	{"enabled", jbvBool},
	{NULL}
};

static const Field task_fields[] = {
	{"depends_on", jbvArray},
	{"description", jbvString},
	{"flow", jbvString},
	{"max_retries", jbvNumeric},
	{"min_retry_interval_millis", jbvNumeric},
	{"parameters", jbvObject},
	{"retry_on_timeout", jbvBool},
	{"run", jbvBool},
	{"run_if", jbvString},
	{"source", jbvString},
	{"sql", jbvString},
	{"task_key", jbvString},
	{"timeout_seconds", jbvNumeric},
	{NULL}
};

static const Field depends_fields[] = {
	{"task_key", jbvString},
	{NULL}
};

static const char *const run_if_names[] = {
	"ALL_SUCCESS", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED", "ALL_DONE",
	"AT_LEAST_ONE_FAILED", "ALL_FAILED", NULL
};

static void parse_task(const char *job, const char *path, JsonbContainer *object, LhTask *task);
static void parse_work(const char *job, const char *path, JsonbContainer *object, LhTask *task);
static void parse_dependencies(const char *job, LhJobDefinition *definition, JsonbContainer *tasks);
static void parse_task_dependencies(const char *job, const char *path, LhJobDefinition *definition,
									LhTask *task, JsonbContainer *list);
static void sort_tasks(const char *job, LhJobDefinition *definition);
static void report_circle(const char *job, const LhJobDefinition *definition, const bool *placed);
static void check_parameters(const char *job, const char *path, JsonbContainer *object);
static void check_name_exists(const char *job, int task, const char *noun, const char *name);
static void check_sql(const char *job, const LhTask *task);

/* ------------------------------------------------------------ small readers */

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static const char *
type_name(enum jbvType type)
{
	switch (type)
	{
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "true or false";
		case jbvArray:
			return "an array";
		default:
			return "an object";
	}
}

static bool
value_is(const JsonbValue *value, enum jbvType type)
{
	if (type == jbvArray)
		return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
	if (type == jbvObject)
		return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
	return value->type == type;
}

/*
 * join_path names a field beneath "path", which is "" for the whole definition.
 */
static char *
join_path(const char *path, const char *field)
{
	return path[0] ? psprintf("%s.%s", path, field) : pstrdup(field);
}

/*
 * suggest returns a hint that names the candidate nearest to "name", or NULL if
 * none is near.
 */
static char *
suggest(const char *name, const char *const *candidates, int count)
{
	const char **list = palloc(sizeof(char *) * (count + 1));
	const char *closest;

	if (count > 0)
		memcpy(list, candidates, sizeof(char *) * count);
	list[count] = NULL;
	closest = lh_options_closest(name, list);
	return closest ? psprintf("Did you mean \"%s\"?", closest) : NULL;
}

static void
report_unknown(const char *job, const char *path, const char *name,
			   const char *const *candidates, int count)
{
	char	   *hint = suggest(name, candidates, count);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("job \"%s\": field \"%s\" is not recognized", job, path),
			 hint ? errhint("%s", hint) : 0));
}

/*
 * check_fields raises unless every field of the object is known and has its
 * type.
 */
static void
check_fields(const char *job, const char *path, JsonbContainer *object, const Field *fields)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;
	const char *names[32];
	int			count = 0;

	for (; fields[count].name; count++)
		names[count] = fields[count].name;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *name;
		int			i;

		if (token != WJB_KEY)
			continue;
		name = string_of(&value);
		for (i = 0; i < count && strcmp(names[i], name) != 0; i++)
			;
		if (i == count)
			report_unknown(job, join_path(path, name), name, names, count);
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (!value_is(&value, fields[i].type))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s\" must be %s", job,
							join_path(path, name), type_name(fields[i].type))));
	}
}

static JsonbValue *
get_field(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

static int64
get_integer(const char *job, const char *path, JsonbContainer *object, const char *name,
			int64 if_absent, int64 lowest, int64 highest)
{
	JsonbValue *value = get_field(object, name);
	char	   *text;
	char	   *end;
	int64		result;

	if (value == NULL)
		return if_absent;
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	errno = 0;
	result = strtoi64(text, &end, 10);
	if (errno != 0 || *end != '\0' || result < lowest || result > highest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job \"%s\": field \"%s\" must be a whole number from " INT64_FORMAT " to " INT64_FORMAT,
						job, join_path(path, name), lowest, highest)));
	return result;
}

static bool
get_boolean(JsonbContainer *object, const char *name, bool if_absent)
{
	JsonbValue *value = get_field(object, name);

	return value ? value->val.boolean : if_absent;
}

static Jsonb *
get_parameters(const char *job, const char *path, JsonbContainer *object)
{
	JsonbValue *value = get_field(object, "parameters");

	if (value == NULL)
		return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	check_parameters(job, join_path(path, "parameters"), value->val.binary.data);
	return JsonbValueToJsonb(value);
}

/* ------------------------------------------------------------------ parsing */

/*
 * lh_job_definition_parse turns a definition into structs in the current
 * context.  Raises 22023 with the path of the first field that is wrong.  What
 * depends on the database is left to lh_job_definition_check.
 */
LhJobDefinition *
lh_job_definition_parse(const char *job, Jsonb *definition)
{
	LhJobDefinition *result = palloc0(sizeof(LhJobDefinition));
	JsonbValue *tasks;
	JsonbValue *queue;

	if (!JB_ROOT_IS_OBJECT(definition))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("definition of job \"%s\" must be a JSON object", job),
				 errhint("The smallest definition is {\"tasks\": [{\"task_key\": \"all\", \"run\": true}]}.")));
	check_fields(job, "", &definition->root, job_fields);
	result->parameters = get_parameters(job, "", &definition->root);
	result->max_concurrent_runs = (int) get_integer(job, "", &definition->root,
													"max_concurrent_runs", 1, 1, 1000);
	queue = get_field(&definition->root, "queue");
	if (queue)
		check_fields(job, "queue", queue->val.binary.data, queue_fields);
	result->queue = queue ? get_boolean(queue->val.binary.data, "enabled", true) : true;

	tasks = get_field(&definition->root, "tasks");
	result->ntasks = tasks ? JsonContainerSize(tasks->val.binary.data) : 0;
	if (result->ntasks < 1 || result->ntasks > MAX_TASKS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job \"%s\": field \"tasks\" must hold from 1 to %d tasks", job, MAX_TASKS)));
	result->tasks = palloc0(sizeof(LhTask) * result->ntasks);
	for (int i = 0; i < result->ntasks; i++)
	{
		JsonbValue *task = getIthJsonbValueFromContainer(tasks->val.binary.data, i);
		char	   *path = psprintf("tasks[%d]", i);

		if (!value_is(task, jbvObject))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s\" must be an object", job, path)));
		parse_task(job, path, task->val.binary.data, &result->tasks[i]);
		for (int j = 0; j < i; j++)
			if (strcmp(result->tasks[j].key, result->tasks[i].key) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("job \"%s\": field \"%s.task_key\" repeats \"%s\"",
								job, path, result->tasks[i].key),
						 errdetail("It is also the key of \"tasks[%d]\".", j)));
	}
	parse_dependencies(job, result, tasks->val.binary.data);
	sort_tasks(job, result);
	return result;
}

static void
parse_task(const char *job, const char *path, JsonbContainer *object, LhTask *task)
{
	JsonbValue *value;

	check_fields(job, path, object, task_fields);

	value = get_field(object, "task_key");
	task->key = value ? string_of(value) : "";
	if (task->key[0] == '\0' || strlen(task->key) > MAX_TASK_KEY ||
		strspn(task->key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(task->key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job \"%s\": field \"%s.task_key\" must be from 1 to %d letters, digits, underscores or hyphens",
						job, path, MAX_TASK_KEY)));

	value = get_field(object, "run_if");
	if (value)
	{
		char	   *name = string_of(value);
		int			i;

		for (i = 0; run_if_names[i] && strcmp(run_if_names[i], name) != 0; i++)
			;
		if (run_if_names[i] == NULL)
		{
			char	   *hint = suggest(name, run_if_names, lengthof(run_if_names) - 1);

			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s.run_if\" cannot be \"%s\"", job, path, name),
					 hint ? errhint("%s", hint) :
					 errhint("Use ALL_SUCCESS, AT_LEAST_ONE_SUCCESS, NONE_FAILED, ALL_DONE, AT_LEAST_ONE_FAILED or ALL_FAILED.")));
		}
		task->run_if = (LhRunIf) i;
	}
	parse_work(job, path, object, task);
	task->parameters = get_parameters(job, path, object);
	task->max_retries = (int) get_integer(job, path, object, "max_retries", 0, -1, 1000000);
	task->retry_interval = get_integer(job, path, object, "min_retry_interval_millis",
									   0, 0, (int64) 86400000 * 30);
	task->retry_on_timeout = get_boolean(object, "retry_on_timeout", false);
	task->timeout = (int) get_integer(job, path, object, "timeout_seconds", 0, 0, INT_MAX / 1000);
}

/*
 * parse_work finds which of the four kinds of work the task does.
 */
static void
parse_work(const char *job, const char *path, JsonbContainer *object, LhTask *task)
{
	static const char *const kinds[] = {"source", "flow", "run", "sql"};
	int			found = 0;

	for (int i = 0; i < lengthof(kinds); i++)
	{
		JsonbValue *value = get_field(object, kinds[i]);

		if (value == NULL)
			continue;
		found++;
		task->kind = (LhTaskKind) i;
		if (value->type == jbvString)
			task->object = string_of(value);
		else if (!value->val.boolean)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s.run\" must be true", job, path)));
	}
	if (found != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job \"%s\": \"%s\" must have exactly one of \"source\", \"flow\", \"run\" and \"sql\"",
						job, path)));
}

/*
 * check_parameters raises unless every value is a scalar: parameters are handed
 * on as text.
 */
static void
check_parameters(const char *job, const char *path, JsonbContainer *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = string_of(&value);
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvBinary)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s\" must be a string, a number, true, false or null",
							job, join_path(path, name))));
	}
}

static void
parse_dependencies(const char *job, LhJobDefinition *definition, JsonbContainer *tasks)
{
	for (int i = 0; i < definition->ntasks; i++)
	{
		JsonbValue *task = getIthJsonbValueFromContainer(tasks, i);
		JsonbValue *list = get_field(task->val.binary.data, "depends_on");

		if (list)
			parse_task_dependencies(job, psprintf("tasks[%d].depends_on", i), definition,
									&definition->tasks[i], list->val.binary.data);
	}
}

/*
 * parse_task_dependencies reads depends_on: keys, or objects with a task_key as
 * the Jobs API writes them.
 */
static void
parse_task_dependencies(const char *job, const char *path, LhJobDefinition *definition,
						LhTask *task, JsonbContainer *list)
{
	int			count = JsonContainerSize(list);
	const char **keys = palloc(sizeof(char *) * definition->ntasks);

	for (int i = 0; i < definition->ntasks; i++)
		keys[i] = definition->tasks[i].key;
	task->depends_on = palloc(sizeof(int) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(list, i);
		char	   *place = psprintf("%s[%d]", path, i);
		char	   *key;
		int			found;

		if (value_is(item, jbvObject))
		{
			check_fields(job, place, item->val.binary.data, depends_fields);
			item = get_field(item->val.binary.data, "task_key");
		}
		if (item == NULL || item->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s\" must be a task key or an object with \"task_key\"",
							job, place)));
		key = string_of(item);
		for (found = 0; found < definition->ntasks && strcmp(keys[found], key) != 0; found++)
			;
		if (found == definition->ntasks)
		{
			char	   *hint = suggest(key, keys, definition->ntasks);

			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\": field \"%s\" names task \"%s\", which does not exist",
							job, place, key),
					 hint ? errhint("%s", hint) : 0));
		}
		for (int j = 0; j < task->ndepends; j++)
			if (task->depends_on[j] == found)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("job \"%s\": field \"%s\" repeats task \"%s\"", job, place, key)));
		task->depends_on[task->ndepends++] = found;
	}
}

/*
 * sort_tasks fills "order"; raises if tasks depend on each other in a circle.
 */
static void
sort_tasks(const char *job, LhJobDefinition *definition)
{
	bool	   *placed = palloc0(sizeof(bool) * definition->ntasks);
	int			count = 0;
	bool		progress = true;

	definition->order = palloc(sizeof(int) * definition->ntasks);
	while (progress && count < definition->ntasks)
	{
		progress = false;
		for (int i = 0; i < definition->ntasks; i++)
		{
			LhTask	   *task = &definition->tasks[i];
			bool		ready = !placed[i];

			for (int j = 0; j < task->ndepends && ready; j++)
				ready = placed[task->depends_on[j]];
			if (!ready)
				continue;
			placed[i] = true;
			definition->order[count++] = i;
			progress = true;
		}
	}
	if (count < definition->ntasks)
		report_circle(job, definition, placed);
}

/*
 * report_circle walks from any task that could not be placed to one that it
 * waits for, until a task comes again: the walk from there on is the circle.
 */
static void
report_circle(const char *job, const LhJobDefinition *definition, const bool *placed)
{
	int		   *walk = palloc(sizeof(int) * (definition->ntasks + 1));
	int			length = 0;
	int			at = 0;
	int			first = -1;
	StringInfoData text;

	while (placed[at])
		at++;
	while (first < 0)
	{
		const LhTask *task = &definition->tasks[at];

		walk[length++] = at;
		for (int j = 0; j < task->ndepends; j++)
			if (!placed[task->depends_on[j]])
			{
				at = task->depends_on[j];
				break;
			}
		for (int i = 0; i < length && first < 0; i++)
			if (walk[i] == at)
				first = i;
	}
	initStringInfo(&text);
	for (int i = first; i < length; i++)
		appendStringInfo(&text, "\"%s\" -> ", definition->tasks[walk[i]].key);
	appendStringInfo(&text, "\"%s\"", definition->tasks[at].key);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("job \"%s\": tasks depend on each other in a circle", job),
			 errdetail("The circle is %s.", text.data)));
}

/* ------------------------------------------- checks against the database */

/*
 * lh_job_definition_check raises unless the sources and flows that tasks name
 * exist and belong to the current user, and all SQL can be parsed.
 */
void
lh_job_definition_check(const char *job, const LhJobDefinition *definition)
{
	for (int i = 0; i < definition->ntasks; i++)
	{
		const LhTask *task = &definition->tasks[i];

		if (task->kind == LH_TASK_SOURCE)
			check_name_exists(job, i, "source", task->object);
		else if (task->kind == LH_TASK_FLOW)
			check_name_exists(job, i, "flow", task->object);
		else if (task->kind == LH_TASK_SQL)
			check_sql(job, task);
	}
}

static void
check_name_exists(const char *job, int task, const char *noun, const char *name)
{
	MemoryContext context = CurrentMemoryContext;
	bool		is_source = strcmp(noun, "source") == 0;
	LhCatalog	catalog;
	const char **names;
	Oid			owner = InvalidOid;
	int			count;

	lh_catalog_begin(&catalog);
	count = (int) (is_source ?
				   lh_catalog_run("SELECT name, owner FROM lakehouse.source ORDER BY name", 0, NULL, NULL, NULL) :
				   lh_catalog_run("SELECT name, owner FROM lakehouse.flow ORDER BY name", 0, NULL, NULL, NULL));
	names = MemoryContextAlloc(context, sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		names[i] = lh_catalog_text(i, 1, context);
		if (strcmp(names[i], name) == 0)
			owner = lh_catalog_oid(i, 2);
	}
	lh_catalog_end(&catalog);

	if (!OidIsValid(owner))
	{
		char	   *hint = suggest(name, names, count);

		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job \"%s\": field \"tasks[%d].%s\" names %s \"%s\", which does not exist",
						job, task, noun, noun, name),
				 hint ? errhint("%s", hint) : 0));
	}
	lh_catalog_check_owner(owner, noun, name);
}

/* what check_sql was looking at, for the error context */
typedef struct SqlContext
{
	const char *job;
	const LhTask *task;
} SqlContext;

static void
describe_sql(void *arg)
{
	SqlContext *where = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(where->task->object);
	}
	errcontext("task \"%s\" of job \"%s\"", where->task->key, where->job);
}

/*
 * check_sql parses the statements of a task without looking up names: an
 * earlier task may create what a later one uses.
 */
static void
check_sql(const char *job, const LhTask *task)
{
	SqlContext	where = {job, task};
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = describe_sql,
		.arg = &where
	};
	List	   *statements;
	ListCell   *cell;

	error_context_stack = &callback;
	statements = raw_parser(task->object, RAW_PARSE_DEFAULT);
	if (statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no statement")));
	foreach(cell, statements)
	{
		Node	   *statement = lfirst_node(RawStmt, cell)->stmt;

		if (IsA(statement, TransactionStmt))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a task cannot contain transaction control statements"),
					 errhint("Use CALL of a procedure that commits.")));
		if (IsA(statement, CopyStmt) && castNode(CopyStmt, statement)->filename == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a task cannot COPY from or to its client")));
	}
	error_context_stack = callback.previous;
}

/*
 * lh_job_parameters_check raises unless the parameters given to a run are
 * scalars and each is declared by the job or one of its tasks.
 */
void
lh_job_parameters_check(const char *job, const LhJobDefinition *definition, Jsonb *parameters)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	List	   *declared = NIL;
	const char **names;
	ListCell   *cell;
	int			count = 0;

	if (!JB_ROOT_IS_OBJECT(parameters))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameters of job \"%s\" must be a JSON object", job)));
	check_parameters(job, "parameters", &parameters->root);

	for (int i = -1; i < definition->ntasks; i++)
	{
		Jsonb	   *source = i < 0 ? definition->parameters : definition->tasks[i].parameters;

		iterator = JsonbIteratorInit(&source->root);
		while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
			if (token == WJB_KEY)
				declared = lappend(declared, string_of(&value));
	}
	names = palloc(sizeof(char *) * (list_length(declared) + 1));
	foreach(cell, declared)
		names[count++] = lfirst(cell);

	iterator = JsonbIteratorInit(&parameters->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *name;
		int			i;

		if (token != WJB_KEY)
			continue;
		name = string_of(&value);
		for (i = 0; i < count && strcmp(names[i], name) != 0; i++)
			;
		if (i == count)
		{
			char	   *hint = suggest(name, names, count);

			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("job \"%s\" has no parameter \"%s\"", job, name),
					 hint ? errhint("%s", hint) :
					 errhint("Declare it in \"parameters\" of the job or of a task.")));
		}
	}
}
