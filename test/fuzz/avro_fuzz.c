/*
 * avro_fuzz.c
 *	  Fuzzes the reading of values in Avro's binary encoding, with libFuzzer.
 *
 * The first byte of an input tells how many of those behind it make the schema,
 * which may use itself; the rest is the value.  Beyond what the sanitizers see:
 *
 * - a value that is taken becomes one JSON text in UTF-8 within the limit, and one
 *   that is not has a reason;
 * - no value that is taken is the beginning of another one;
 * - all this takes a time that the limit bounds, which libFuzzer watches.
 */
#include "postgres.h"

#include "avro/avro_json.h"
#include "json/json_scan.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#define LIMIT 100000
#define MAX_NODES 40
#define MAX_CHILDREN 6

struct LhAvroSchema
{
	LhAvroNode *root;
	LhAvroNode	nodes[MAX_NODES];
	LhAvroNode *children[MAX_NODES][MAX_CHILDREN];
	int			count;
	const uint8 *p;				/* rest of what makes it */
	const uint8 *end;
};

/* ------------------------- what the server has, in the plainest way that serves */

volatile sig_atomic_t InterruptPending = false;

void
ProcessInterrupts(void)
{
}

const LhAvroNode *
lh_avro_schema_root(const LhAvroSchema *schema)
{
	return schema->root;
}

int
pg_mbcliplen(const char *text, int length, int limit)
{
	return Min(length, limit);
}

int
pg_lltoa(int64 value, char *to)
{
	return sprintf(to, INT64_FORMAT, value);
}

int
pg_ultoa_n(uint32 value, char *to)
{
	return sprintf(to, "%u", value);
}

char *
pg_ultostr_zeropad(char *to, uint32 value, int32 width)
{
	return to + sprintf(to, "%0*u", width, value);
}

uint64
hex_encode(const char *from, size_t length, char *to)
{
	for (size_t i = 0; i < length; i++)
	{
		to[2 * i] = "0123456789abcdef"[(uint8) from[i] >> 4];
		to[2 * i + 1] = "0123456789abcdef"[from[i] & 15];
	}
	return 2 * length;
}

/*
 * Which day it is does not matter here, as long as it is one.
 */
void
j2date(int julian, int *year, int *month, int *day)
{
	*year = julian / 366 - 4713;
	*month = julian % 12 + 1;
	*day = julian % 28 + 1;
}

/* -------------------------------------------------------------- the schema */

static uint8
next_byte(LhAvroSchema *schema)
{
	return schema->p < schema->end ? *schema->p++ : 0;
}

/*
 * Makes a type of what comes, or takes one that is there, if only in part.
 */
static LhAvroNode *
make_type(LhAvroSchema *schema)
{
	static LhAvroText texts[MAX_CHILDREN] = {
		{"\"a\":", 4}, {"\"b\":", 4}, {"\"\\\"\":", 5}, {"\"d\":", 4}, {"\"e\":", 4}, {"\"\303\244\":", 5}
	};
	static LhAvroText symbols[MAX_CHILDREN] = {
		{"\"A\"", 3}, {"\"B\"", 3}, {"\"C\"", 3}, {"\"D\"", 3}, {"\"E\"", 3}, {"\"F\"", 3}
	};
	static const char *names[MAX_CHILDREN] = {"a", "b", "\"", "d", "e", "f"};
	static const int8 least[] = {0, 1, 1, 1, 4, 8, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 16, 12};
	uint8		byte = next_byte(schema);
	int			number = schema->count;
	LhAvroNode *node;

	if (number > 0 && (byte > 200 || number == MAX_NODES))
		return &schema->nodes[next_byte(schema) % number];
	schema->count++;
	node = &schema->nodes[number];
	node->kind = byte % lengthof(least);
	node->children = schema->children[number];
	node->names = names;
	node->texts = node->kind == LH_AVRO_ENUM ? symbols : texts;
	node->scale = node->kind == LH_AVRO_DECIMAL_BYTES || node->kind == LH_AVRO_DECIMAL_FIXED ? next_byte(schema)
		: node->kind == LH_AVRO_TIME_INT ? 3 : 3 + byte % 3 * 3;
	if (node->kind == LH_AVRO_FIXED || node->kind == LH_AVRO_DECIMAL_FIXED)
		node->size = next_byte(schema);
	if (node->kind >= LH_AVRO_ENUM && node->kind <= LH_AVRO_RECORD)
		node->count = 1 + next_byte(schema) % MAX_CHILDREN;
	if (node->kind == LH_AVRO_ARRAY || node->kind == LH_AVRO_MAP)
		node->count = 1;
	for (int i = 0; node->kind > LH_AVRO_ENUM && i < node->count; i++)
		node->children[i] = make_type(schema);
	node->least = node->size > 0 ? node->size : least[node->kind];
	for (int i = 0; node->kind == LH_AVRO_RECORD && i < node->count; i++)
		node->least += node->children[i]->least;
	return node;
}

/* --------------------------------------------------------------- the rules */

static void
violate(const char *rule, const char *text)
{
	fprintf(stderr, "rule broken: %s (%s)\n", rule, text);
	abort();
}

static void
check_text(const StringInfo json)
{
	LhJsonScan	scan;

	if (json->len > LIMIT)
		violate("no text is longer than the limit", "");
	if (pg_encoding_verifymbstr(PG_UTF8, json->data, json->len) != json->len)
		violate("the text is UTF-8", json->data);
	lh_json_begin(&scan, json->data, json->len);
	if (!lh_json_pass(&scan, lh_json_next(&scan)) || lh_json_next(&scan) != LH_JSON_END)
		violate("the text is JSON", json->data);
}

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	LhAvroSchema schema = {0};
	StringInfoData json;
	LhError		error = {0};
	size_t		head;
	const char *value;

	if (size < 1)
		return 0;
	head = Min(1 + (size_t) data[0], size);
	schema.p = data + 1;
	schema.end = data + head;
	schema.root = make_type(&schema);
	/* a copy of its own: the sanitizer sees a byte too far */
	value = memcpy(malloc(size - head + 1), data + head, size - head);
	value = realloc((void *) value, Max(size - head, 1));
	size -= head;
	initStringInfo(&json);
	if (!lh_avro_json_write(&schema, value, size, LIMIT, &json, &error))
	{
		if (error.sqlstate == 0 || error.message[0] == '\0')
			violate("what is refused has a reason", error.message);
	}
	else
	{
		json.data[json.len] = '\0';
		check_text(&json);
		resetStringInfo(&json);
		if (size > 0 && lh_avro_json_write(&schema, value, size - 1, LIMIT, &json, &error))
			violate("no value is the beginning of another", "");
	}
	free((void *) value);
	pfree(json.data);
	return 0;
}
