/*
 * avro_schema.c
 *	  The JSON text of an Avro schema (specification 1.11) made a tree.
 *
 * Logical types that are unknown, or do not fit their type, are ignored, as the
 * specification says.  Aliases and defaults serve readers with a schema of their
 * own; here the columns of a table take that place.
 *
 * Invariant: a schema of any origin makes a tree of bounded size and depth, or a
 * soft error.  A named type is one node however often it is used, so the tree
 * is in truth a graph, which whoever walks it must bound by its data.
 */
#include "postgres.h"

#include "avro/avro_schema.h"
#include "avro/avro_text.h"
#include "json/json_scan.h"
#include "json/json_text.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define MAX_NODES 50000
#define MAX_NAMES 1000			/* of types; they are searched one by one */
#define MAX_DEPTH 100			/* of types within types */
#define MAX_PRECISION 1000		/* of a decimal; more is left as bytes */

/* what a sum of "least" stops at */
#define MOST_LEAST (1 << 30)

/* A record, an enum or a fixed under its full name. */
typedef struct NamedType
{
	const char *name;
	LhAvroNode *node;
} NamedType;

struct LhAvroSchema
{
	MemoryContext context;
	LhAvroNode *root;
	int			nodes;
	int			depth;
	int			name_count;
	NamedType  *names;
	StringInfoData path;		/* field that is being read, for messages */
	StringInfoData quoted;		/* name that is being written */
	LhError    *error;			/* of the addition under way */
};

static const struct
{
	const char *name;
	LhAvroKind	kind;
	int			least;
}			primitives[] = {
	{"null", LH_AVRO_NULL, 0},
	{"boolean", LH_AVRO_BOOLEAN, 1},
	{"int", LH_AVRO_INT, 1},
	{"long", LH_AVRO_LONG, 1},
	{"float", LH_AVRO_FLOAT, 4},
	{"double", LH_AVRO_DOUBLE, 8},
	{"bytes", LH_AVRO_BYTES, 1},
	{"string", LH_AVRO_STRING, 1}
};

/* Logical types that say nothing but how a number is to be read. */
static const struct
{
	const char *name;
	LhAvroKind	base;
	LhAvroKind	kind;
	int			scale;
}			logical_times[] = {
	{"date", LH_AVRO_INT, LH_AVRO_DATE, 0},
	{"time-millis", LH_AVRO_INT, LH_AVRO_TIME_INT, 3},
	{"time-micros", LH_AVRO_LONG, LH_AVRO_TIME_LONG, 6},
	{"timestamp-millis", LH_AVRO_LONG, LH_AVRO_TIMESTAMP, 3},
	{"timestamp-micros", LH_AVRO_LONG, LH_AVRO_TIMESTAMP, 6},
	{"timestamp-nanos", LH_AVRO_LONG, LH_AVRO_TIMESTAMP, 9},
	{"local-timestamp-millis", LH_AVRO_LONG, LH_AVRO_LOCAL_TIMESTAMP, 3},
	{"local-timestamp-micros", LH_AVRO_LONG, LH_AVRO_LOCAL_TIMESTAMP, 6},
	{"local-timestamp-nanos", LH_AVRO_LONG, LH_AVRO_LOCAL_TIMESTAMP, 9}
};

static LhAvroNode *parse_type(LhAvroSchema *schema, const JsonbValue *value, const char *space);

/* ------------------------------------------------------------- helpers */

/*
 * Fills the error with a message, and the field that it is about.
 */
static LhAvroNode *refuse(LhAvroSchema *schema, const char *format,...) pg_attribute_printf(2, 3);

static LhAvroNode *
refuse(LhAvroSchema *schema, const char *format,...)
{
	char		message[300];
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	message[pg_mbcliplen(message, strlen(message), sizeof(message) - 1)] = '\0';
	if (schema->path.len == 0)
		lh_error_set(schema->error, ERRCODE_INVALID_PARAMETER_VALUE, "%s", message);
	else
	{
		int			length = pg_mbcliplen(schema->path.data, schema->path.len, 150);

		lh_error_set(schema->error, ERRCODE_INVALID_PARAMETER_VALUE, "field \"%.*s\": %s",
					 length, schema->path.data, message);
	}
	return NULL;
}

/*
 * A name in a message, cut where it is long.
 */
static const char *
shown(const char *name)
{
	int			length = strlen(name);

	return length <= 80 ? name : pnstrdup(name, pg_mbcliplen(name, length, 80));
}

static JsonbValue *
member(const JsonbValue *object, const char *name)
{
	return getKeyJsonValueFromContainer(object->val.binary.data, name, strlen(name), NULL);
}

/*
 * Gives the member as text, or NULL if it is missing or no text.
 */
static char *
member_text(const JsonbValue *object, const char *name)
{
	JsonbValue *value = member(object, name);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * Gives the member as a number, or "missing"; -1 if it is no number that fits.
 */
static int
member_int(const JsonbValue *object, const char *name, int missing)
{
	JsonbValue *value = member(object, name);
	bool		failed = false;
	int			result;

	if (value == NULL || value->type == jbvNull)
		return missing;
	if (value->type != jbvNumeric)
		return -1;
	result = numeric_int4_opt_error(value->val.numeric, &failed);
	return failed || result < 0 ? -1 : result;
}

/*
 * Gives the member if it is an array.
 */
static JsonbContainer *
member_array(const JsonbValue *object, const char *name)
{
	JsonbValue *value = member(object, name);

	if (value == NULL || value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data) ||
		JsonContainerIsScalar(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

static LhAvroNode *
make_node(LhAvroSchema *schema, LhAvroKind kind, int least)
{
	LhAvroNode *node;

	if (++schema->nodes > MAX_NODES)
		return refuse(schema, "the schema has more than %d types", MAX_NODES);
	node = palloc0(sizeof(LhAvroNode));
	node->kind = kind;
	node->least = least;
	return node;
}

/*
 * Writes a name as JSON text in UTF-8, with "tail" behind it.
 */
static void
quote_name(LhAvroSchema *schema, LhAvroText *text, const char *name, const char *tail)
{
	StringInfo	buffer = &schema->quoted;
	const char *converted;

	resetStringInfo(buffer);
	escape_json(buffer, name);
	appendStringInfoString(buffer, tail);
	converted = pg_server_to_any(buffer->data, buffer->len, PG_UTF8);
	text->data = pstrdup(converted);
	text->length = strlen(text->data);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/*
 * Finds a name that stands twice, or NULL.
 */
static const char *
find_duplicate(const char **names, int count)
{
	const char **sorted = palloc(sizeof(char *) * Max(count, 1));

	memcpy(sorted, names, sizeof(char *) * count);
	qsort(sorted, count, sizeof(char *), compare_names);
	for (int i = 1; i < count; i++)
	{
		if (strcmp(sorted[i - 1], sorted[i]) == 0)
			return sorted[i];
	}
	pfree(sorted);
	return NULL;
}

/* --------------------------------------------------------------- names */

static const char *
full_name(const char *space, const char *name)
{
	if (strchr(name, '.') != NULL || space == NULL || space[0] == '\0')
		return name;
	return psprintf("%s.%s", space, name);
}

static LhAvroNode *
find_named(const LhAvroSchema *schema, const char *name)
{
	for (int i = 0; i < schema->name_count; i++)
	{
		if (strcmp(schema->names[i].name, name) == 0)
			return schema->names[i].node;
	}
	return NULL;
}

/*
 * Finds the type that a text names: a primitive one, or one that was defined.
 */
static LhAvroNode *
find_type(LhAvroSchema *schema, const char *name, const char *space)
{
	LhAvroNode *node;

	for (int i = 0; i < lengthof(primitives); i++)
	{
		if (strcmp(primitives[i].name, name) == 0)
			return make_node(schema, primitives[i].kind, primitives[i].least);
	}
	node = find_named(schema, full_name(space, name));
	if (node == NULL)
		node = find_named(schema, name);
	if (node == NULL)
		return refuse(schema, "type \"%s\" is not defined", shown(name));
	return node;
}

/*
 * Gives the node its name, before what is in it may use that, and the namespace
 * of what is in it.
 */
static bool
define_name(LhAvroSchema *schema, const JsonbValue *object, LhAvroNode *node, const char **space)
{
	const char *name = member_text(object, "name");
	const char *own_space = member_text(object, "namespace");
	const char *end;

	if (name == NULL || name[0] == '\0')
		return refuse(schema, "a record, an enum or a fixed has no name") != NULL;
	if (own_space == NULL)
		own_space = *space;
	name = full_name(own_space, name);
	end = strrchr(name, '.');
	*space = end == NULL ? NULL : pnstrdup(name, end - name);
	if (find_named(schema, name) != NULL)
		return refuse(schema, "type \"%s\" is defined twice", shown(name)) != NULL;
	if (schema->name_count == MAX_NAMES)
		return refuse(schema, "the schema defines more than %d names", MAX_NAMES) != NULL;
	if (schema->names == NULL)
		schema->names = palloc(sizeof(NamedType) * MAX_NAMES);
	schema->names[schema->name_count].name = name;
	schema->names[schema->name_count++].node = node;
	return true;
}

/* ------------------------------------------------------- complex types */

/*
 * Reads the field that a member of "fields" describes.
 */
static bool
parse_field(LhAvroSchema *schema, const JsonbValue *field, LhAvroNode *record, int i,
			const char *space)
{
	int			path_length = schema->path.len;
	char	   *name = NULL;
	JsonbValue *type;

	if (field->type == jbvBinary && JsonContainerIsObject(field->val.binary.data))
		name = member_text(field, "name");
	if (name == NULL || name[0] == '\0')
		return refuse(schema, "field %d of a record has no name", i + 1) != NULL;
	appendStringInfo(&schema->path, "%s%s", path_length > 0 ? "." : "", name);
	type = member(field, "type");
	if (type == NULL)
		return refuse(schema, "it has no type") != NULL;
	record->names[i] = name;
	quote_name(schema, &record->texts[i], name, ":");
	record->children[i] = parse_type(schema, type, space);
	if (record->children[i] == NULL)
		return false;
	schema->path.len = path_length;
	schema->path.data[path_length] = '\0';
	return true;
}

static LhAvroNode *
parse_record(LhAvroSchema *schema, const JsonbValue *object, const char *space)
{
	LhAvroNode *node = make_node(schema, LH_AVRO_RECORD, 0);
	JsonbContainer *fields = member_array(object, "fields");
	const char *duplicate;
	int64		least = 0;
	int			count;

	if (node == NULL || !define_name(schema, object, node, &space))
		return NULL;
	if (fields == NULL)
		return refuse(schema, "a record has no array of fields");
	count = JsonContainerSize(fields);
	if (count > MAX_NODES)
		return refuse(schema, "the schema has more than %d types", MAX_NODES);
	node->children = palloc0(sizeof(LhAvroNode *) * Max(count, 1));
	node->names = palloc0(sizeof(char *) * Max(count, 1));
	node->texts = palloc0(sizeof(LhAvroText) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		if (!parse_field(schema, getIthJsonbValueFromContainer(fields, i), node, i, space))
			return NULL;
		least = Min(least + node->children[i]->least, MOST_LEAST);
	}
	duplicate = find_duplicate(node->names, count);
	if (duplicate != NULL)
		return refuse(schema, "field \"%s\" is defined twice", shown(duplicate));
	node->count = count;
	node->least = (int) least;
	return node;
}

static LhAvroNode *
parse_enum(LhAvroSchema *schema, const JsonbValue *object, const char *space)
{
	LhAvroNode *node = make_node(schema, LH_AVRO_ENUM, 1);
	JsonbContainer *symbols = member_array(object, "symbols");

	if (node == NULL || !define_name(schema, object, node, &space))
		return NULL;
	if (symbols == NULL)
		return refuse(schema, "an enum has no array of symbols");
	node->count = JsonContainerSize(symbols);
	if ((schema->nodes += node->count) > MAX_NODES)
		return refuse(schema, "the schema has more than %d types and symbols", MAX_NODES);
	node->texts = palloc0(sizeof(LhAvroText) * Max(node->count, 1));
	for (int i = 0; i < node->count; i++)
	{
		JsonbValue *symbol = getIthJsonbValueFromContainer(symbols, i);

		if (symbol->type != jbvString)
			return refuse(schema, "symbol %d of an enum is no text", i + 1);
		quote_name(schema, &node->texts[i], pnstrdup(symbol->val.string.val, symbol->val.string.len), "");
	}
	return node;
}

static LhAvroNode *
parse_fixed(LhAvroSchema *schema, const JsonbValue *object, const char *space)
{
	LhAvroNode *node = make_node(schema, LH_AVRO_FIXED, 0);

	if (node == NULL || !define_name(schema, object, node, &space))
		return NULL;
	node->size = member_int(object, "size", -1);
	if (node->size < 0)
		return refuse(schema, "a fixed has no size");
	node->least = Min(node->size, MOST_LEAST);
	return node;
}

/*
 * Reads an array or a map, whose elements are of the type that a member tells.
 */
static LhAvroNode *
parse_collection(LhAvroSchema *schema, const JsonbValue *object, LhAvroKind kind,
				 const char *name, const char *space)
{
	LhAvroNode *node = make_node(schema, kind, 1);
	JsonbValue *type = member(object, name);

	if (node == NULL)
		return NULL;
	if (type == NULL)
		return refuse(schema, "type \"%s\" has no \"%s\"",
					  kind == LH_AVRO_ARRAY ? "array" : "map", name);
	node->count = 1;
	node->children = palloc(sizeof(LhAvroNode *));
	node->children[0] = parse_type(schema, type, space);
	return node->children[0] == NULL ? NULL : node;
}

static LhAvroNode *
parse_union(LhAvroSchema *schema, JsonbContainer *branches, const char *space)
{
	LhAvroNode *node = make_node(schema, LH_AVRO_UNION, 1);
	int			least = MOST_LEAST;

	if (node == NULL)
		return NULL;
	node->count = JsonContainerSize(branches);
	if (node->count == 0)
		return refuse(schema, "a union has no types");
	if (node->count > MAX_NODES)
		return refuse(schema, "the schema has more than %d types", MAX_NODES);
	node->children = palloc0(sizeof(LhAvroNode *) * node->count);
	for (int i = 0; i < node->count; i++)
	{
		node->children[i] = parse_type(schema, getIthJsonbValueFromContainer(branches, i), space);
		if (node->children[i] == NULL)
			return NULL;
		if (node->children[i]->kind == LH_AVRO_UNION)
			return refuse(schema, "a union stands directly in a union");
		least = Min(least, node->children[i]->least);
	}
	node->least = Min(1 + least, MOST_LEAST);
	return node;
}

/* ------------------------------------------------------- logical types */

/*
 * Makes bytes or a fixed a decimal, if what is said of it holds together.
 */
static void
apply_decimal(const JsonbValue *object, LhAvroNode *node)
{
	int			precision = member_int(object, "precision", -1);
	int			scale = member_int(object, "scale", 0);

	if (precision < 1 || precision > MAX_PRECISION || scale < 0 || scale > precision)
		return;
	/* digits that so many bytes can hold: 8 bits make 2.408 of them */
	if (node->kind == LH_AVRO_FIXED &&
		(node->size == 0 || node->size > LH_AVRO_DECIMAL_BYTES_MAX ||
		 precision > (int64) (node->size * 8.0 - 1) * 0.30103))
		return;
	node->kind = node->kind == LH_AVRO_FIXED ? LH_AVRO_DECIMAL_FIXED : LH_AVRO_DECIMAL_BYTES;
	node->scale = scale;
}

/*
 * Applies the logical type of an object to what its type is.
 */
static void
apply_logical(const JsonbValue *object, LhAvroNode *node)
{
	const char *name = member_text(object, "logicalType");

	if (name == NULL)
		return;
	for (int i = 0; i < lengthof(logical_times); i++)
	{
		if (strcmp(logical_times[i].name, name) != 0 || node->kind != logical_times[i].base)
			continue;
		node->kind = logical_times[i].kind;
		node->scale = logical_times[i].scale;
		return;
	}
	if (strcmp(name, "decimal") == 0 && (node->kind == LH_AVRO_BYTES || node->kind == LH_AVRO_FIXED))
		apply_decimal(object, node);
	else if (strcmp(name, "uuid") == 0 && node->kind == LH_AVRO_FIXED && node->size == 16)
		node->kind = LH_AVRO_UUID;
	else if (strcmp(name, "duration") == 0 && node->kind == LH_AVRO_FIXED && node->size == 12)
		node->kind = LH_AVRO_DURATION;
}

/* --------------------------------------------------------------- types */

static bool
is_primitive(const char *name)
{
	for (int i = 0; i < lengthof(primitives); i++)
	{
		if (strcmp(primitives[i].name, name) == 0)
			return true;
	}
	return false;
}

/*
 * Reads the object form of a type.
 */
static LhAvroNode *
parse_object(LhAvroSchema *schema, const JsonbValue *object, const char *space)
{
	JsonbValue *type = member(object, "type");
	LhAvroNode *node;
	const char *name;

	if (type == NULL)
		return refuse(schema, "a type has no \"type\"");
	if (type->type != jbvString)
		return parse_type(schema, type, space);
	name = pnstrdup(type->val.string.val, type->val.string.len);
	if (strcmp(name, "record") == 0 || strcmp(name, "error") == 0)
		return parse_record(schema, object, space);
	if (strcmp(name, "enum") == 0)
		return parse_enum(schema, object, space);
	if (strcmp(name, "array") == 0)
		return parse_collection(schema, object, LH_AVRO_ARRAY, "items", space);
	if (strcmp(name, "map") == 0)
		return parse_collection(schema, object, LH_AVRO_MAP, "values", space);
	if (strcmp(name, "fixed") == 0)
		node = parse_fixed(schema, object, space);
	else if (is_primitive(name))
		node = find_type(schema, name, space);
	else
		/* defined elsewhere, and so is what it means */
		return find_type(schema, name, space);
	if (node != NULL)
		apply_logical(object, node);
	return node;
}

static LhAvroNode *
parse_type(LhAvroSchema *schema, const JsonbValue *value, const char *space)
{
	LhAvroNode *node;

	if (++schema->depth > MAX_DEPTH)
		return refuse(schema, "types are nested deeper than %d levels", MAX_DEPTH);
	CHECK_FOR_INTERRUPTS();
	if (value->type == jbvString)
		node = find_type(schema, pnstrdup(value->val.string.val, value->val.string.len), space);
	else if (value->type != jbvBinary)
		node = refuse(schema, "a type is neither text, nor an object, nor an array");
	else if (JsonContainerIsObject(value->val.binary.data))
		node = parse_object(schema, value, space);
	else
		node = parse_union(schema, value->val.binary.data, space);
	schema->depth--;
	return node;
}

/* -------------------------------------------------------------- public */

LhAvroSchema *
lh_avro_schema_create(MemoryContext context)
{
	MemoryContext own = AllocSetContextCreate(context, "lakehouse Avro schema", ALLOCSET_SMALL_SIZES);
	LhAvroSchema *schema = MemoryContextAllocZero(own, sizeof(LhAvroSchema));

	schema->context = own;
	return schema;
}

void
lh_avro_schema_free(LhAvroSchema *schema)
{
	MemoryContextDelete(schema->context);
}

bool
lh_avro_schema_add_value(LhAvroSchema *schema, const JsonbValue *value, LhError *error)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(schema->context);

	schema->error = error;
	schema->depth = 0;
	initStringInfo(&schema->path);
	initStringInfo(&schema->quoted);
	schema->root = parse_type(schema, value, NULL);
	MemoryContextSwitchTo(oldcontext);
	return schema->root != NULL;
}

/*
 * without_nul copies a text with blanks for the escape \u0000, which defaults of
 * bytes have: jsonb cannot hold it, and defaults are of no interest.
 */
static char *
without_nul(const char *text, int length)
{
	char	   *copy = pnstrdup(text, length);

	for (int i = 0; i + 1 < length; i++)
	{
		if (copy[i] != '\\')
			continue;
		if (length - i >= 6 && strncmp(copy + i, "\\u0000", 6) == 0)
			memcpy(copy + i, "\\u0020", 6);
		i++;
	}
	return copy;
}

bool
lh_avro_schema_add(LhAvroSchema *schema, const char *text, int length, LhError *error)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lakehouse Avro schema text",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(scratch);
	LhJsonScan	scan;
	Jsonb	   *json;
	JsonbValue	value;
	bool		good;

	lh_json_begin(&scan, without_nul(text, length), length);
	good = lh_json_build(&scan, lh_json_next(&scan), &json, error);
	if (good && lh_json_next(&scan) != LH_JSON_END)
		good = lh_json_refuse(&scan, error);
	if (good && JB_ROOT_IS_SCALAR(json))
		(void) JsonbExtractScalar(&json->root, &value);
	else if (good)
	{
		value.type = jbvBinary;
		value.val.binary.data = &json->root;
		value.val.binary.len = VARSIZE(json) - VARHDRSZ;
	}
	good = good && lh_avro_schema_add_value(schema, &value, error);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(scratch);
	return good;
}

const LhAvroNode *
lh_avro_schema_root(const LhAvroSchema *schema)
{
	return schema->root;
}

bool
lh_avro_schema_has_members(const LhAvroSchema *schema)
{
	const LhAvroNode *root = schema->root;

	for (int i = 0; root->kind == LH_AVRO_UNION && i < root->count; i++)
	{
		if (root->children[i]->kind == LH_AVRO_RECORD || root->children[i]->kind == LH_AVRO_MAP)
			return true;
	}
	return root->kind == LH_AVRO_RECORD || root->kind == LH_AVRO_MAP;
}

Size
lh_avro_schema_size(const LhAvroSchema *schema)
{
	return MemoryContextMemAllocated(schema->context, true);
}
