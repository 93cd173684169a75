/*
 * json_path.c
 *	  Values deep within a JSON document to columns of a row.
 *
 * All paths make one tree, so that a document is walked once: first the places
 * of the values are found, then they are read.  Of duplicate keys the last
 * counts, and takes everything beneath it: when a key comes again, the places
 * that were found beneath it are forgotten.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "json/json_path.h"
#include "json/json_row.h"
#include "json/json_scan.h"
#include "json/json_text.h"
#include "utils/memutils.h"

#define OPTION "paths"
#define MAX_STEPS 64

/* One step of a path, shared by all that begin alike. */
typedef struct PathNode
{
	const char *key;			/* NULL = an element of an array */
	int			length;
	int64		index;
	int			target;			/* that ends here, or -1 */
	struct PathNode *child;		/* the first step behind it */
	struct PathNode *sibling;
} PathNode;

typedef struct PathTarget
{
	int			attribute;
	const char *column;
	LhJsonValue *value;
	const char *text;			/* in the document at hand; NULL = not there */
	int			length;
} PathTarget;

struct LhJsonPaths
{
	PathNode	root;
	PathTarget *targets;
	int			count;
	bool		may_raise;
};

/* ------------------------------------------------------------ creation */

static void
refuse_path(const char *path, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid path \"%s\" for column \"%s\"", path, column),
			 errhint("Write it as $.name.\"other name\"[0], with up to %d steps; $ is the whole record.", MAX_STEPS)));
}

/*
 * Returns the step behind a node, made if it is not there.
 */
static PathNode *
get_child(PathNode *node, const char *key, int length, int64 index)
{
	PathNode   *child;

	for (child = node->child; child != NULL; child = child->sibling)
		if (key == NULL ? child->key == NULL && child->index == index :
			child->key != NULL && child->length == length && memcmp(child->key, key, length) == 0)
			return child;
	child = palloc0(sizeof(PathNode));
	child->key = key != NULL ? pnstrdup(key, length) : NULL;
	child->length = length;
	child->index = index;
	child->target = -1;
	child->sibling = node->child;
	node->child = child;
	return child;
}

/*
 * Reads one step at *p and moves behind it; NULL if it is none.
 */
static PathNode *
read_step(PathNode *node, const char **p)
{
	bool		bracket = **p == '[';
	const char *start = *p + 1;
	const char *end;
	char	   *behind;
	int64		index;

	if (*start == '"' || (bracket && *start == '\''))
	{
		end = strchr(start + 1, *start);
		if (end == NULL || (bracket && end[1] != ']'))
			return NULL;
		*p = end + 1 + bracket;
		return get_child(node, start + 1, end - start - 1, 0);
	}
	if (!bracket)
	{
		end = start + strcspn(start, ".[]\"'");
		if (end == start)
			return NULL;
		*p = end;
		return get_child(node, start, end - start, 0);
	}
	if (*start < '0' || *start > '9')
		return NULL;
	index = strtoi64(start, &behind, 10);
	if (*behind != ']' || behind - start > 10)
		return NULL;
	*p = behind + 1;
	return get_child(node, NULL, 0, index);
}

/*
 * Enters a path into the tree; returns its last step.
 */
static PathNode *
add_path(LhJsonPaths *paths, const char *path, const char *column)
{
	PathNode   *node = &paths->root;
	const char *p = path + 1;
	int			steps = 0;

	if (path[0] != '$')
		refuse_path(path, column);
	while (*p != '\0')
	{
		if ((*p != '.' && *p != '[') || ++steps > MAX_STEPS ||
			(node = read_step(node, &p)) == NULL)
			refuse_path(path, column);
	}
	return node;
}

/*
 * Makes the target that is a column.
 */
static PathTarget *
add_target(LhJsonPaths *paths, const char *column, TupleDesc tupdesc, bool *fillable,
		   const LhConvertOptions *convert, MemoryContext context)
{
	PathTarget *target = &paths->targets[paths->count++];
	Form_pg_attribute attribute = NULL;
	int			i;

	for (i = 0; i < tupdesc->natts; i++)
	{
		attribute = TupleDescAttr(tupdesc, i);
		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), column) == 0)
			break;
	}
	if (i == tupdesc->natts)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("option \"%s\" names column \"%s\", which the target table does not have",
						OPTION, column)));
	if (attribute->attgenerated != '\0' || (fillable != NULL && !fillable[i]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("option \"%s\" names column \"%s\", which a source cannot fill", OPTION, column)));
	if (fillable != NULL)
		fillable[i] = false;
	target->attribute = i;
	target->column = column;
	target->value = lh_json_value_create(attribute->atttypid, attribute->atttypmod, column,
										 convert, context);
	paths->may_raise |= lh_json_value_may_raise(target->value);
	return target;
}

/*
 * Gives one more target to a step: those of one path follow each other under a
 * step of their own.
 */
static void
set_target(PathNode *node, int target)
{
	PathNode   *child;

	if (node->target < 0)
	{
		node->target = target;
		return;
	}
	child = palloc0(sizeof(PathNode));
	child->index = -1;			/* no element; looked for when the step ends */
	child->target = target;
	child->sibling = node->child;
	node->child = child;
}

LhJsonPaths *
lh_json_paths_create(Jsonb *options, TupleDesc tupdesc, bool *fillable,
					 const LhConvertOptions *convert, MemoryContext context)
{
	JsonbValue *object = getKeyJsonValueFromContainer(&options->root, OPTION, strlen(OPTION), NULL);
	MemoryContext old;
	LhJsonPaths *paths;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *column = NULL;

	if (object == NULL || object->type == jbvNull)
		return NULL;
	if (object->type != jbvBinary || !JsonContainerIsObject(object->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be an object", OPTION),
				 errhint("For example {\"%s\": {\"city\": \"$.address.city\"}}.", OPTION)));
	old = MemoryContextSwitchTo(context);
	paths = palloc0(sizeof(LhJsonPaths));
	paths->root.target = -1;
	paths->targets = palloc0(sizeof(PathTarget) * JsonContainerSize(object->val.binary.data) + 1);
	iterator = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			column = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (value.type != jbvString)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"%s\" must give a path for column \"%s\"", OPTION, column)));
			(void) add_target(paths, column, tupdesc, fillable, convert, context);
			set_target(add_path(paths, pnstrdup(value.val.string.val, value.val.string.len), column),
					   paths->count - 1);
		}
	}
	MemoryContextSwitchTo(old);
	return paths;
}

bool
lh_json_paths_may_raise(const LhJsonPaths *paths)
{
	return paths->may_raise;
}

/* ------------------------------------------------------------- reading */

/*
 * Sets the place of a step's targets; NULL forgets it.
 */
static void
set_place(LhJsonPaths *paths, const PathNode *node, const char *text, int length)
{
	const PathNode *child;

	if (node->target >= 0)
	{
		paths->targets[node->target].text = text;
		paths->targets[node->target].length = length;
	}
	for (child = node->child; child != NULL; child = child->sibling)
		if (child->index < 0)
			set_place(paths, child, text, length);
		else if (text == NULL)
			set_place(paths, child, NULL, 0);
}

static const PathNode *
find_key(const PathNode *node, const char *key, int length)
{
	const PathNode *child;

	for (child = node->child; child != NULL; child = child->sibling)
		if (child->key != NULL && child->length == length && memcmp(child->key, key, length) == 0)
			return child;
	return NULL;
}

static const PathNode *
find_element(const PathNode *node, int64 index)
{
	const PathNode *child;

	for (child = node->child; child != NULL; child = child->sibling)
		if (child->key == NULL && child->index == index)
			return child;
	return NULL;
}

static bool walk(LhJsonPaths *paths, LhJsonScan *scan, LhJsonToken first, const PathNode *node,
				 LhError *error);

/*
 * Walks through the members of an object or the elements of an array.
 */
static bool
walk_members(LhJsonPaths *paths, LhJsonScan *scan, LhJsonToken first, const PathNode *node,
			 LhError *error)
{
	int64		index = 0;

	for (;; index++)
	{
		LhJsonToken token = lh_json_next(scan);
		const PathNode *child;

		if (token == LH_JSON_OBJECT_END || token == LH_JSON_ARRAY_END)
			return true;
		if (token == LH_JSON_KEY)
		{
			const char *key = scan->text;
			int			length = scan->length;

			if (scan->escaped && !lh_json_string(scan, &key, &length, error))
				return false;
			child = find_key(node, key, length);
			token = lh_json_next(scan);
		}
		else
			child = find_element(node, index);
		if (child != NULL ? !walk(paths, scan, token, child, error) : !lh_json_pass(scan, token))
			return child != NULL ? false : lh_json_refuse(scan, error);
	}
}

/*
 * Walks through the value that begins with token "first" and that a step leads
 * to.  The depth is that of the paths.
 */
static bool
walk(LhJsonPaths *paths, LhJsonScan *scan, LhJsonToken first, const PathNode *node, LhError *error)
{
	const char *start = scan->token;

	set_place(paths, node, NULL, 0);
	if ((first == LH_JSON_OBJECT || first == LH_JSON_ARRAY) && node->child != NULL)
	{
		if (!walk_members(paths, scan, first, node, error))
			return false;
	}
	else if (!lh_json_pass(scan, first))
		return lh_json_refuse(scan, error);
	set_place(paths, node, start, scan->p - start);
	return true;
}

bool
lh_json_paths_fill(LhJsonPaths *paths, const char *text, int length,
				   Datum *values, bool *nulls, LhError *error, const char **column)
{
	LhJsonScan	scan;
	int			i;

	lh_json_begin(&scan, text, length);
	if (!walk(paths, &scan, lh_json_next(&scan), &paths->root, error))
		return false;
	for (i = 0; i < paths->count; i++)
	{
		PathTarget *target = &paths->targets[i];
		LhJsonReading reading = {.scan = &scan, .error = error};

		if (target->text == NULL)
			continue;
		lh_json_begin(&scan, target->text, target->length);
		*column = target->column;
		if (!lh_json_value_read(target->value, &reading, lh_json_next(&scan),
								&values[target->attribute], &nulls[target->attribute]))
			return false;
	}
	return true;
}
