/*
 * schema_registry.c
 *	  Schemas of values by their number, from a schema registry (the REST interface
 *	  that Confluent's has, and others speak).
 *
 * What a number stands for never changes, so it is asked for once by each worker
 * or run.  References to other schemas are resolved with it.
 *
 * Invariants: only an answer of the registry itself, in its own form, says that a
 * schema is not there or is none; messages become rejects by that alone.  All else
 * (no answer, another status, an answer that is no JSON) is trouble, after which
 * the same question is asked again.  Texts are kept as they came and made schemas
 * when they are used, because that needs a transaction where the server's encoding
 * is not UTF-8.
 */
#include "postgres.h"

#include "foreign/foreign.h"
#include "json/json_scan.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "source/encoding.h"
#include "source/http_client.h"
#include "source/schema_registry.h"
#include "source/server.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* bytes of one answer */
#define ANSWER_LIMIT (4 * 1024 * 1024)

/* that a schema is not there is believed for this long */
#define REFUSAL_LIFE_MS 10000

/* schemas that one may refer to, all in all, and how deep */
#define MAX_REFERENCES 50
#define MAX_REFERENCE_DEPTH 10

/* what is kept before all is forgotten */
#define MAX_ENTRIES 1000
#define MAX_BYTES (64 * 1024 * 1024)

/* error codes of a registry for a schema that it does not have */
#define NO_SUBJECT 40401
#define NO_VERSION 40402
#define NO_SCHEMA 40403

/* One schema. */
typedef struct Entry
{
	int32		id;				/* first: the key */
	MemoryContext context;		/* of all that is in it */
	TimestampTz asked;
	List	   *texts;			/* of char *: UTF-8; the schema's own is the last */
	LhAvroSchema *schema;		/* made of the texts, or NULL: not yet */
	LhError    *refusal;		/* why there is none, or NULL */
} Entry;

struct LhSchemaRegistry
{
	MemoryContext context;
	char	   *server;			/* its name */
	char	   *url;			/* without a slash at the end */
	LhHttp	   *http;
	HTAB	   *entries;
	Entry	   *last;			/* that was found last, or NULL */
	Size		bytes;			/* of texts and schemas, about */
};

/* An answer of the registry; texts are UTF-8. */
typedef struct Answer
{
	int			status;
	char	   *schema;
	char	   *type;
	int			code;			/* of an error; 0 = none */
	List	   *references;		/* of Reference; what is beyond the limit is not in it */
	bool		too_many;
} Answer;

typedef struct Reference
{
	char	   *subject;
	int			version;
} Reference;

/* A schema being asked for, with all that it refers to. */
typedef struct Asking
{
	LhSchemaRegistry *registry;
	Entry	   *entry;
	List	   *seen;			/* paths of what was asked for */
	LhError    *error;			/* of trouble */
} Asking;

static bool ask_path(Asking *asking, const char *path, int depth);

/* ------------------------------------------------------------- opening */

static void
make_table(LhSchemaRegistry *registry)
{
	HASHCTL		control = {.keysize = sizeof(int32), .entrysize = sizeof(Entry),
	.hcxt = registry->context};

	registry->entries = hash_create("lakehouse schemas", 64, &control,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	registry->last = NULL;
	registry->bytes = 0;
}

LhSchemaRegistry *
lh_schema_registry_open(Oid server, Oid role, MemoryContext context)
{
	LhServerRegistry options;
	LhHttpOptions http = {0};
	LhSchemaRegistry *registry;

	lh_server_registry(server, role, &options);
	if (options.url == NULL)
		return NULL;
	registry = MemoryContextAllocZero(context, sizeof(LhSchemaRegistry));
	registry->context = AllocSetContextCreate(context, "lakehouse schema registry",
											  ALLOCSET_DEFAULT_SIZES);
	registry->server = MemoryContextStrdup(registry->context, GetForeignServer(server)->servername);
	registry->url = MemoryContextStrdup(registry->context, options.url);
	for (int last = strlen(registry->url) - 1; last > 0 && registry->url[last] == '/'; last--)
		registry->url[last] = '\0';
	http.username = options.username;
	http.password = options.password;
	http.ca_pem = options.ca_pem;
	registry->http = lh_http_open(&http, context);
	make_table(registry);
	return registry;
}

void
lh_schema_registry_trim(LhSchemaRegistry *registry)
{
	HASH_SEQ_STATUS status;
	Entry	   *entry;

	if (hash_get_num_entries(registry->entries) <= MAX_ENTRIES && registry->bytes <= MAX_BYTES)
		return;
	hash_seq_init(&status, registry->entries);
	while ((entry = hash_seq_search(&status)) != NULL)
		MemoryContextDelete(entry->context);
	hash_destroy(registry->entries);
	make_table(registry);
}

/* ------------------------------------------------------------- finding */

/*
 * value_id reads the number of a value's schema; false if it has none.
 */
static bool
value_id(const char *value, Size length, int32 *id)
{
	const uint8 *bytes = (const uint8 *) value;

	if (value == NULL || length < LH_REGISTRY_HEADER || bytes[0] != 0)
		return false;
	*id = (int32) ((uint32) bytes[1] << 24 | (uint32) bytes[2] << 16 | (uint32) bytes[3] << 8 | bytes[4]);
	return *id > 0;
}

static Entry *
find_entry(LhSchemaRegistry *registry, int32 id)
{
	Entry	   *entry = registry->last;

	if (entry != NULL && entry->id == id)
		return entry;
	entry = hash_search(registry->entries, &id, HASH_FIND, NULL);
	if (entry != NULL)
		registry->last = entry;
	return entry;
}

bool
lh_schema_registry_knows(LhSchemaRegistry *registry, const char *value, Size length, TimestampTz at)
{
	int32		id;
	Entry	   *entry;

	/* one without a header is a reject, whatever the registry has */
	if (!value_id(value, length, &id))
		return true;
	entry = find_entry(registry, id);
	if (entry == NULL)
		return false;
	return entry->refusal == NULL ||
		!TimestampDifferenceExceeds(entry->asked, at, REFUSAL_LIFE_MS);
}

static bool refuse_entry(Entry *entry, int sqlstate, const char *format,...) pg_attribute_printf(3, 4);

/*
 * refuse_entry notes why there is no usable schema; returns true, because that is
 * an answer.
 */
static bool
refuse_entry(Entry *entry, int sqlstate, const char *format,...)
{
	char		message[400];
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	entry->refusal = MemoryContextAllocZero(entry->context, sizeof(LhError));
	lh_error_set(entry->refusal, sqlstate, "schema %d %s", entry->id, message);
	return true;
}

/*
 * make_schema makes the texts of an entry its schema, or a refusal.
 */
static void
make_schema(LhSchemaRegistry *registry, Entry *entry)
{
	LhAvroSchema *schema = lh_avro_schema_create(entry->context);
	LhEncoding	encoding;
	LhError		error;
	ListCell   *cell;

	lh_encoding_init(&encoding, PG_UTF8);
	foreach(cell, entry->texts)
	{
		const char *text = lfirst(cell);
		int			length;

		if (!lh_encoding_convert(&encoding, text, strlen(text), &text, &length, &error) ||
			!lh_avro_schema_add(schema, text, length, &error))
		{
			refuse_entry(entry, error.sqlstate, "of the registry is no Avro schema: %s", error.message);
			lh_avro_schema_free(schema);
			return;
		}
	}
	if (!lh_avro_schema_has_members(schema))
	{
		refuse_entry(entry, ERRCODE_INVALID_PARAMETER_VALUE, "of the registry is not that of a record");
		lh_avro_schema_free(schema);
		return;
	}
	entry->schema = schema;
	registry->bytes += lh_avro_schema_size(schema);
}

LhAvroSchema *
lh_schema_registry_find(LhSchemaRegistry *registry, const char *value, Size length, LhError *error)
{
	int32		id;
	Entry	   *entry;

	if (!value_id(value, length, &id))
	{
		lh_error_set(error, ERRCODE_INVALID_BINARY_REPRESENTATION,
					 "value does not begin with a byte 0 and the number of a schema");
		return NULL;
	}
	entry = find_entry(registry, id);
	if (entry == NULL)
		elog(ERROR, "schema %d was not asked for", id);
	if (entry->schema == NULL && entry->refusal == NULL)
		make_schema(registry, entry);
	if (entry->refusal != NULL)
		*error = *entry->refusal;
	return entry->schema;
}

/* ------------------------------------------------------------- answers */

/*
 * scan_text takes a string as text, in the current context; NULL if the token is
 * none or holds what no text can.
 */
static char *
scan_text(const LhJsonScan *scan, LhJsonToken token)
{
	char	   *text;
	int			length;

	if (token != LH_JSON_STRING)
		return NULL;
	text = palloc(scan->length + 1);
	if (lh_json_unescape(scan->text, scan->length, NULL, text, &length) != LH_JSON_FINE)
		return NULL;
	text[length] = '\0';
	return text;
}

/*
 * scan_number takes a number of few digits; -1 if the token is none.
 */
static int
scan_number(const LhJsonScan *scan, LhJsonToken token)
{
	int			number = 0;

	if (token != LH_JSON_NUMBER || scan->length > 9)
		return -1;
	for (int i = 0; i < scan->length; i++)
	{
		if (scan->text[i] < '0' || scan->text[i] > '9')
			return -1;
		number = number * 10 + scan->text[i] - '0';
	}
	return number;
}

static bool
is_key(const LhJsonScan *scan, const char *name)
{
	return scan->length == strlen(name) && memcmp(scan->text, name, scan->length) == 0;
}

/*
 * scan_references reads the array of references; false if it is none.
 */
static bool
scan_references(LhJsonScan *scan, LhJsonToken token, Answer *answer)
{
	if (token == LH_JSON_NULL)
		return true;
	if (token != LH_JSON_ARRAY)
		return false;
	while ((token = lh_json_next(scan)) == LH_JSON_OBJECT)
	{
		Reference  *reference = palloc0(sizeof(Reference));

		while ((token = lh_json_next(scan)) == LH_JSON_KEY)
		{
			bool		is_subject = is_key(scan, "subject");
			bool		is_version = is_key(scan, "version");

			token = lh_json_next(scan);
			if (is_subject)
				reference->subject = scan_text(scan, token);
			else if (is_version)
				reference->version = scan_number(scan, token);
			if (!lh_json_pass(scan, token))
				return false;
		}
		if (token != LH_JSON_OBJECT_END || reference->subject == NULL || reference->version <= 0)
			return false;
		answer->too_many |= list_length(answer->references) >= MAX_REFERENCES;
		if (!answer->too_many)
			answer->references = lappend(answer->references, reference);
	}
	return token == LH_JSON_ARRAY_END;
}

/*
 * scan_answer reads the members of an answer; false if it is no JSON object.
 */
static bool
scan_answer(const StringInfo body, Answer *answer)
{
	LhJsonScan	scan;
	LhJsonToken token;

	if (pg_encoding_verifymbstr(PG_UTF8, body->data, body->len) != body->len)
		return false;
	lh_json_begin(&scan, body->data, body->len);
	if (lh_json_next(&scan) != LH_JSON_OBJECT)
		return false;
	while ((token = lh_json_next(&scan)) == LH_JSON_KEY)
	{
		bool		is_schema = is_key(&scan, "schema");
		bool		is_type = is_key(&scan, "schemaType");
		bool		is_code = is_key(&scan, "error_code");

		if (is_key(&scan, "references"))
		{
			if (!scan_references(&scan, lh_json_next(&scan), answer))
				return false;
			continue;
		}
		token = lh_json_next(&scan);
		if (is_schema)
			answer->schema = scan_text(&scan, token);
		else if (is_type)
			answer->type = scan_text(&scan, token);
		else if (is_code)
			answer->code = Max(scan_number(&scan, token), 0);
		if (!lh_json_pass(&scan, token))
			return false;
	}
	return token == LH_JSON_OBJECT_END && lh_json_next(&scan) == LH_JSON_END;
}

/* -------------------------------------------------------------- asking */

/*
 * fail_status is trouble: an answer that says nothing of the schema.
 */
static bool
fail_status(const Asking *asking, int status)
{
	const char *server = asking->registry->server;

	if (status == 401 || status == 403)
		return lh_error_set(asking->error, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
							"the schema registry of server \"%s\" refuses the credentials (HTTP status %d)",
							server, status);
	if (status >= 300 && status < 400)
		return lh_error_set(asking->error, ERRCODE_PROTOCOL_VIOLATION,
							"the schema registry of server \"%s\" is elsewhere (HTTP status %d), and redirects are not followed",
							server, status);
	if (status == 200)
		return lh_error_set(asking->error, ERRCODE_PROTOCOL_VIOLATION,
							"what answers at the URL of the schema registry of server \"%s\" is none",
							server);
	return lh_error_set(asking->error, ERRCODE_PROTOCOL_VIOLATION,
						"the schema registry of server \"%s\" answers with HTTP status %d",
						server, status);
}

/*
 * get_answer asks for a path; false is trouble.
 */
static bool
get_answer(const Asking *asking, const char *path, Answer *answer)
{
	LhSchemaRegistry *registry = asking->registry;
	StringInfoData body;
	LhError		error;
	bool		good;

	memset(answer, 0, sizeof(*answer));
	initStringInfo(&body);
	answer->status = lh_http_get(registry->http, psprintf("%s%s", registry->url, path), ANSWER_LIMIT,
								 &body, &error);
	if (answer->status < 0)
		return lh_error_set(asking->error, error.sqlstate,
							"the schema registry of server \"%s\" gives no answer: %s",
							registry->server, error.message);
	good = scan_answer(&body, answer);
	pfree(body.data);
	/* a code of its own tells that it is not just a page that is not there */
	if (answer->status == 404 && good &&
		(answer->code == NO_SUBJECT || answer->code == NO_VERSION || answer->code == NO_SCHEMA))
		return true;
	if (answer->status != 200 || !good || answer->schema == NULL)
		return fail_status(asking, answer->status);
	return true;
}

static bool
refuse_many(Entry *entry)
{
	return refuse_entry(entry, ERRCODE_STATEMENT_TOO_COMPLEX,
						"of the registry refers to too many others");
}

/*
 * ask_references asks for what a schema refers to, each once.
 */
static bool
ask_references(Asking *asking, const Answer *answer, int depth)
{
	ListCell   *cell;
	ListCell   *other;

	if (answer->too_many)
		return refuse_many(asking->entry);
	foreach(cell, answer->references)
	{
		const Reference *reference = lfirst(cell);
		char	   *path = psprintf("/subjects/%s/versions/%d",
									lh_http_escape(reference->subject, strlen(reference->subject)),
									reference->version);
		bool		seen = false;

		foreach(other, asking->seen)
			seen |= strcmp(lfirst(other), path) == 0;
		if (seen)
			continue;
		if (list_length(asking->seen) > MAX_REFERENCES || depth >= MAX_REFERENCE_DEPTH)
			return refuse_many(asking->entry);
		if (!ask_path(asking, path, depth + 1))
			return false;
		if (asking->entry->refusal != NULL)
			return true;
	}
	return true;
}

/*
 * ask_path asks for one schema and what it refers to; false is trouble.
 */
static bool
ask_path(Asking *asking, const char *path, int depth)
{
	Entry	   *entry = asking->entry;
	MemoryContext oldcontext;
	Answer		answer;

	asking->seen = lappend(asking->seen, unconstify(char *, path));
	if (!get_answer(asking, path, &answer))
		return false;
	if (answer.status == 404)
		return refuse_entry(entry, ERRCODE_UNDEFINED_OBJECT,
							depth == 0 ? "is not in the registry"
							: "of the registry refers to one that is not there");
	if (answer.type != NULL && strcmp(answer.type, "AVRO") != 0)
		return refuse_entry(entry, ERRCODE_DATATYPE_MISMATCH, "of the registry is of another type than AVRO");
	if (!ask_references(asking, &answer, depth))
		return false;
	if (entry->refusal != NULL)
		return true;
	oldcontext = MemoryContextSwitchTo(entry->context);
	entry->texts = lappend(entry->texts, pstrdup(answer.schema));
	MemoryContextSwitchTo(oldcontext);
	asking->registry->bytes += strlen(answer.schema);
	return true;
}

bool
lh_schema_registry_ask(LhSchemaRegistry *registry, const char *value, Size length, LhError *error)
{
	MemoryContext scratch;
	MemoryContext oldcontext;
	Entry		entry = {0};
	Entry	   *old;
	Asking		asking = {.registry = registry, .entry = &entry, .error = error};
	bool		good;

	if (!value_id(value, length, &entry.id))
		return true;
	if (registry->bytes > 2 * MAX_BYTES)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"the schema registry of server \"%s\" has more schemas for one batch than memory is meant for",
							registry->server);
	scratch = AllocSetContextCreate(registry->context, "lakehouse schema question", ALLOCSET_DEFAULT_SIZES);
	entry.context = AllocSetContextCreate(scratch, "lakehouse schema", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(scratch);
	good = ask_path(&asking, psprintf("/schemas/ids/%d", entry.id), 0);
	MemoryContextSwitchTo(oldcontext);
	if (good)
	{
		entry.asked = GetCurrentTimestamp();
		MemoryContextSetParent(entry.context, registry->context);
		old = hash_search(registry->entries, &entry.id, HASH_FIND, NULL);
		if (old != NULL)
			MemoryContextDelete(old->context);
		*(Entry *) hash_search(registry->entries, &entry.id, HASH_ENTER, NULL) = entry;
	}
	MemoryContextDelete(scratch);
	return good;
}
