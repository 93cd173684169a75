/*
 * headers.c
 *	  Headers of messages, written as jsonb in the form in which sources store them.
 */
#include "postgres.h"

#include "common/base64.h"
#include "utils/builtins.h"

#include "compat.h"
#include "outbox/outbox.h"

static void
refuse(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("headers are not valid"),
			 errdetail("%s", detail),
			 errhint("Use an object such as {\"name\": \"value\"}, or an array such as [{\"key\": \"name\", \"value\": \"value\"}].")));
}

static char *
header_name(const JsonbValue *value)
{
	bytea	   *bytes = lh_outbox_text(value->val.string.val, value->val.string.len);

	return pnstrdup(VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
}

/*
 * set_value takes text as it is, and anything else as its JSON text.
 */
static void
set_value(LhKafkaHeader *header, JsonbValue *value)
{
	bytea	   *bytes;

	if (value->type == jbvNull)
		return;
	if (value->type == jbvString)
		bytes = lh_outbox_text(value->val.string.val, value->val.string.len);
	else
	{
		Jsonb	   *json = JsonbValueToJsonb(value);
		char	   *text = JsonbToCString(NULL, &json->root, VARSIZE(json));

		bytes = lh_outbox_text(text, strlen(text));
	}
	header->value = VARDATA(bytes);
	header->length = VARSIZE(bytes) - VARHDRSZ;
}

static void
set_base64(LhKafkaHeader *header, const JsonbValue *value)
{
	char	   *bytes;
	int			length = -1;

	if (value->type == jbvString)
	{
		bytes = palloc(pg_b64_dec_len(value->val.string.len) + 1);
		length = pg_b64_decode(value->val.string.val, value->val.string.len, (void *) bytes,
							   pg_b64_dec_len(value->val.string.len));
		header->value = bytes;
	}
	if (length < 0)
		refuse("The member \"value_base64\" of a header is not in base64.");
	header->length = length;
}

/*
 * parse_element reads {"key": k, "value": v}.
 */
static void
parse_element(JsonbValue *element, LhKafkaHeader *header)
{
	JsonbValue *name;
	JsonbValue *value;
	JsonbValue *base64;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		refuse("An element of the array is no object.");
	name = getKeyJsonValueFromContainer(element->val.binary.data, "key", 3, NULL);
	value = getKeyJsonValueFromContainer(element->val.binary.data, "value", 5, NULL);
	base64 = getKeyJsonValueFromContainer(element->val.binary.data, "value_base64", 12, NULL);
	if (name == NULL || name->type != jbvString)
		refuse("A header has no member \"key\" that is text.");
	if (JsonContainerSize(element->val.binary.data) != 1 + (value != NULL) + (base64 != NULL) ||
		(value != NULL && base64 != NULL))
		refuse("A header has the members \"key\" and either \"value\" or \"value_base64\".");
	header->name = header_name(name);
	if (value != NULL)
		set_value(header, value);
	else if (base64 != NULL)
		set_base64(header, base64);
}

/*
 * lh_outbox_headers reads headers into the current context; returns how many.
 */
int
lh_outbox_headers(Jsonb *headers, LhKafkaHeader **result)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	int			count = 0;

	*result = NULL;
	if (headers == NULL)
		return 0;
	if (JB_ROOT_IS_SCALAR(headers))
		refuse("They are neither an object nor an array.");
	*result = palloc0(sizeof(LhKafkaHeader) * (JB_ROOT_COUNT(headers) + 1));
	iterator = JsonbIteratorInit(&headers->root);
	(void) JsonbIteratorNext(&iterator, &item, false);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			(*result)[count].name = header_name(&item);
		else if (token == WJB_VALUE)
			set_value(&(*result)[count++], &item);
		else if (token == WJB_ELEM)
			parse_element(&item, &(*result)[count++]);
	}
	return count;
}
