/*
 * kafka_headers.c
 *	  Headers of a Kafka message as JSON, and back.
 *
 * Invariant: what lh_kafka_headers_keep writes, lh_kafka_headers_restore gives
 * back byte by byte, in the same order, also names that come twice, values that
 * are null or empty, and bytes that are no text.
 */
#include "postgres.h"

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "source/kafka_headers.h"

/* is it text that every reader of JSON in UTF-8 takes? */
static bool
is_text(const char *bytes, Size length)
{
	return pg_encoding_verifymbstr(PG_UTF8, bytes, (int) length) == length;
}

/* ... and that stands the same in the server's encoding? */
static bool
is_server_text(const char *bytes, Size length)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return is_text(bytes, length);
	for (Size i = 0; i < length; i++)
	{
		if (bytes[i] == '\0' || IS_HIGHBIT_SET(bytes[i]))
			return false;
	}
	return true;
}

/*
 * append_member appends a name and bytes, as text or in base64.
 */
static void
append_member(StringInfo text, const char *name, const char *bytes, Size length, bool as_text)
{
	if (bytes == NULL)
		appendStringInfo(text, "\"%s\": null", name);
	else if (as_text)
	{
		char	   *copy = pnstrdup(bytes, length);

		appendStringInfo(text, "\"%s\": ", name);
		escape_json(text, copy);
		pfree(copy);
	}
	else
	{
		int			size = pg_b64_enc_len((int) length);
		char	   *base64 = palloc(size + 1);

		size = pg_b64_encode(bytes, (int) length, base64, size);
		appendStringInfo(text, "\"%s_base64\": \"", name);
		appendBinaryStringInfo(text, base64, size);
		appendStringInfoChar(text, '"');
		pfree(base64);
	}
}

static void
append_headers(const LhKafkaMessage *message, StringInfo text,
			   bool (*stands_as_text) (const char *bytes, Size length))
{
	int			count = lh_kafka_headers(message);
	const char *name;
	const char *bytes;
	Size		length;

	appendStringInfoChar(text, '[');
	for (int i = 0; i < count && lh_kafka_header(message, i, &name, &bytes, &length); i++)
	{
		appendStringInfoString(text, i > 0 ? ", {" : "{");
		append_member(text, "key", name, strlen(name), stands_as_text(name, strlen(name)));
		appendStringInfoString(text, ", ");
		append_member(text, "value", bytes, length, bytes != NULL && stands_as_text(bytes, length));
		appendStringInfoChar(text, '}');
	}
	appendStringInfoChar(text, ']');
}

bool
lh_kafka_headers_write(const LhKafkaMessage *message, StringInfo text, LhError *error)
{
	int			count = lh_kafka_headers(message);
	const char *name;
	const char *bytes;
	Size		length;

	for (int i = 0; i < count && lh_kafka_header(message, i, &name, &bytes, &length); i++)
	{
		if (!is_text(name, strlen(name)))
			return lh_error_set(error, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
								"name of a header of the message is not UTF-8");
	}
	append_headers(message, text, is_text);
	return true;
}

Size
lh_kafka_headers_size(const LhKafkaMessage *message)
{
	int			count = lh_kafka_headers(message);
	const char *name;
	const char *bytes;
	Size		length;
	Size		size = 0;

	for (int i = 0; i < count && lh_kafka_header(message, i, &name, &bytes, &length); i++)
		size += strlen(name) + length;
	return size;
}

char *
lh_kafka_headers_keep(const LhKafkaMessage *message)
{
	StringInfoData text;

	if (lh_kafka_headers(message) == 0)
		return NULL;
	initStringInfo(&text);
	append_headers(message, &text, is_server_text);
	return text.data;
}

/*
 * member_bytes returns the bytes of a member under one of its two names, ended
 * by a zero that does not count; NULL if it is null.
 */
static char *
member_bytes(JsonbContainer *header, const char *name, Size *length)
{
	char		encoded[32];
	JsonbValue	value;
	char	   *text;
	int			size;

	*length = 0;
	if (getKeyJsonValueFromContainer(header, name, strlen(name), &value) != NULL)
	{
		if (value.type != jbvString)
			return NULL;
		text = pnstrdup(value.val.string.val, value.val.string.len);
		text = pg_server_to_any(text, value.val.string.len, PG_UTF8);
		*length = strlen(text);
		return text;
	}
	snprintf(encoded, sizeof(encoded), "%s_base64", name);
	if (getKeyJsonValueFromContainer(header, encoded, strlen(encoded), &value) == NULL ||
		value.type != jbvString)
		elog(ERROR, "a kept header has no member \"%s\"", name);
	size = pg_b64_dec_len(value.val.string.len);
	text = palloc(size + 1);
	size = pg_b64_decode(value.val.string.val, value.val.string.len, text, size);
	if (size < 0)
		elog(ERROR, "a kept header has no base64 in \"%s\"", encoded);
	text[size] = '\0';
	*length = size;
	return text;
}

void
lh_kafka_headers_restore(Jsonb *kept, LhKafkaMessage *message)
{
	LhKafkaHeader *headers;
	int			count;

	message->header_count = 0;
	message->headers = NULL;
	if (kept == NULL)
		return;
	if (!JB_ROOT_IS_ARRAY(kept) || JB_ROOT_IS_SCALAR(kept))
		elog(ERROR, "kept headers are no array");
	count = JB_ROOT_COUNT(kept);
	headers = palloc(sizeof(LhKafkaHeader) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *header = getIthJsonbValueFromContainer(&kept->root, i);
		Size		length;

		if (header->type != jbvBinary || !JsonContainerIsObject(header->val.binary.data))
			elog(ERROR, "a kept header is no object");
		headers[i].name = member_bytes(header->val.binary.data, "key", &length);
		headers[i].value = member_bytes(header->val.binary.data, "value", &headers[i].length);
		if (headers[i].name == NULL)
			elog(ERROR, "a kept header has no name");
	}
	message->headers = headers;
	message->header_count = count;
}
