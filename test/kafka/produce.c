/*
 * produce.c
 *	  JSON lines to Kafka messages, for the test broker and kafka_produce.
 *
 * A line is decoded in place: a decoded string is never longer than its JSON
 * form, so nothing is allocated for a message.
 */
#include "produce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_HEADERS 64

/* One JSON value: text of a string, or the raw text of anything else. */
typedef struct Span
{
	char	   *data;
	size_t		length;
	bool		is_string;
	bool		is_null;
} Span;

typedef struct Message
{
	Span		topic;
	Span		key;
	Span		value;
	long		partition;
	long long	timestamp;
	int			headers;
	Span		header_key[MAX_HEADERS];
	Span		header_value[MAX_HEADERS];
} Message;

static char *
skip_space(char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
		p++;
	return p;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int
hex4(const char *p)
{
	int			code = 0;

	for (int i = 0; i < 4; i++)
	{
		int			digit = hex_digit(p[i]);

		if (digit < 0)
			return -1;
		code = code * 16 + digit;
	}
	return code;
}

static char *
put_utf8(char *out, int code)
{
	if (code < 0x80)
		*out++ = (char) code;
	else if (code < 0x800)
	{
		*out++ = (char) (0xC0 | code >> 6);
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else if (code < 0x10000)
	{
		*out++ = (char) (0xE0 | code >> 12);
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else
	{
		*out++ = (char) (0xF0 | code >> 18);
		*out++ = (char) (0x80 | (code >> 12 & 0x3F));
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	return out;
}

/*
 * scan_escape decodes the escape at *p (behind the backslash) to *out.
 */
static bool
scan_escape(char **p, char **out)
{
	static const char names[] = "\"\\/bfnrt";
	static const char values[] = "\"\\/\b\f\n\r\t";
	const char *found;
	int			code;

	if (**p != 'u')
	{
		if (**p == '\0' || (found = strchr(names, **p)) == NULL)
			return false;
		*(*out)++ = values[found - names];
		(*p)++;
		return true;
	}
	code = hex4(*p + 1);
	if (code < 0)
		return false;
	*p += 5;
	if (code >= 0xD800 && code < 0xDC00 && (*p)[0] == '\\' && (*p)[1] == 'u')
	{
		int			low = hex4(*p + 2);

		if (low >= 0xDC00 && low < 0xE000)
		{
			code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
			*p += 6;
		}
	}
	*out = put_utf8(*out, code);
	return true;
}

static char *
scan_string(char *p, Span *span)
{
	char	   *out = ++p;

	span->data = p;
	span->is_string = true;
	while (*p != '"')
	{
		if (*p == '\0')
			return NULL;
		if (*p != '\\')
			*out++ = *p++;
		else
		{
			p++;
			if (!scan_escape(&p, &out))
				return NULL;
		}
	}
	span->length = (size_t) (out - span->data);
	return p + 1;
}

/*
 * scan_value reads a string (decoded), or finds the end of anything else.
 */
static char *
scan_value(char *p, Span *span)
{
	int			depth = 0;
	bool		quoted = false;

	memset(span, 0, sizeof(*span));
	p = skip_space(p);
	if (*p == '"')
		return scan_string(p, span);
	span->data = p;
	for (; *p != '\0'; p++)
	{
		if (quoted)
		{
			if (*p == '\\' && p[1] != '\0')
				p++;
			else if (*p == '"')
				quoted = false;
		}
		else if (*p == '"')
			quoted = true;
		else if (*p == '{' || *p == '[')
			depth++;
		else if (depth == 0 && (*p == ',' || *p == '}' || *p == ']'))
			break;
		else if (*p == '}' || *p == ']')
			depth--;
	}
	if (quoted || depth != 0)
		return NULL;
	span->length = (size_t) (p - span->data);
	while (span->length > 0 && strchr(" \t\r\n", span->data[span->length - 1]))
		span->length--;
	span->is_null = span->length == 4 && memcmp(span->data, "null", 4) == 0;
	return span->length > 0 ? p : NULL;
}

static bool
decode_hex(Span *span)
{
	if (!span->is_string || span->length % 2 != 0)
		return false;
	for (size_t i = 0; i < span->length / 2; i++)
	{
		int			high = hex_digit(span->data[2 * i]);
		int			low = hex_digit(span->data[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		span->data[i] = (char) (high * 16 + low);
	}
	span->length /= 2;
	return true;
}

/* Calls member for each name and value of the object at p. */
static char *
scan_object(char *p, bool (*member) (const Span *name, Span *value, void *arg), void *arg)
{
	p = skip_space(p);
	if (*p++ != '{')
		return NULL;
	p = skip_space(p);
	if (*p == '}')
		return p + 1;
	for (;;)
	{
		Span		name = {0};
		Span		value;

		p = skip_space(p);
		if (*p != '"' || (p = scan_string(p, &name)) == NULL)
			return NULL;
		p = skip_space(p);
		if (*p++ != ':' || (p = scan_value(p, &value)) == NULL ||
			!member(&name, &value, arg))
			return NULL;
		p = skip_space(p);
		if (*p == '}')
			return p + 1;
		if (*p++ != ',')
			return NULL;
	}
}

static bool
is_named(const Span *name, const char *text)
{
	return name->length == strlen(text) && memcmp(name->data, text, name->length) == 0;
}

static bool
header_member(const Span *name, Span *value, void *arg)
{
	Message    *message = arg;

	if (is_named(name, "key"))
		message->header_key[message->headers] = *value;
	else if (is_named(name, "value"))
		message->header_value[message->headers] = *value;
	else if (is_named(name, "value_hex"))
	{
		if (!decode_hex(value))
			return false;
		message->header_value[message->headers] = *value;
	}
	return true;
}

static bool
scan_headers(Message *message, Span *span)
{
	char	   *p = span->data;

	if (span->is_null)
		return true;
	if (*p++ != '[')
		return false;
	p = skip_space(p);
	while (*p == '{')
	{
		if (message->headers == MAX_HEADERS)
			return false;
		message->header_value[message->headers].is_null = true;
		p = scan_object(p, header_member, message);
		if (p == NULL || message->header_key[message->headers].data == NULL)
			return false;
		message->headers++;
		p = skip_space(p);
		if (*p == ',')
			p = skip_space(p + 1);
	}
	return *p == ']';
}

static bool
message_member(const Span *name, Span *value, void *arg)
{
	Message    *message = arg;

	if (is_named(name, "topic"))
		message->topic = *value;
	else if (is_named(name, "key"))
		message->key = *value;
	else if (is_named(name, "value"))
		message->value = *value;
	else if (is_named(name, "key_hex"))
	{
		message->key = *value;
		return decode_hex(&message->key);
	}
	else if (is_named(name, "value_hex"))
	{
		message->value = *value;
		return decode_hex(&message->value);
	}
	else if (is_named(name, "partition") && !value->is_null)
		message->partition = strtol(value->data, NULL, 10);
	else if (is_named(name, "timestamp") && !value->is_null)
		message->timestamp = strtoll(value->data, NULL, 10);
	else if (is_named(name, "headers"))
		return scan_headers(message, value);
	return true;
}

static rd_kafka_headers_t *
make_headers(const Message *message)
{
	rd_kafka_headers_t *headers;

	if (message->headers == 0)
		return NULL;
	headers = rd_kafka_headers_new((size_t) message->headers);
	for (int i = 0; i < message->headers; i++)
	{
		const Span *value = &message->header_value[i];

		rd_kafka_header_add(headers, message->header_key[i].data,
							(ssize_t) message->header_key[i].length,
							value->is_null ? NULL : value->data,
							value->is_null ? 0 : (ssize_t) value->length);
	}
	return headers;
}

/*
 * send_message hands one message to librdkafka, waiting while its queue is
 * full.
 */
static bool
send_message(rd_kafka_t *rk, Message *message, ProduceCounts *counts)
{
	char		topic[256];
	bool		has_value = message->value.data != NULL && !message->value.is_null;
	bool		has_key = message->key.data != NULL && !message->key.is_null;
	rd_kafka_resp_err_t err;

	if (message->topic.length == 0 || message->topic.length >= sizeof(topic))
		return false;
	memcpy(topic, message->topic.data, message->topic.length);
	topic[message->topic.length] = '\0';
	for (;;)
	{
		rd_kafka_headers_t *headers = make_headers(message);

		err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic),
								RD_KAFKA_V_PARTITION((int32_t) message->partition),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_VALUE(has_value ? message->value.data : NULL,
												 has_value ? message->value.length : 0),
								RD_KAFKA_V_KEY(has_key ? message->key.data : NULL,
											   has_key ? message->key.length : 0),
								RD_KAFKA_V_TIMESTAMP(message->timestamp),
								headers ? RD_KAFKA_VTYPE_HEADERS : RD_KAFKA_VTYPE_END, headers,
								RD_KAFKA_V_END);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (headers)
			rd_kafka_headers_destroy(headers);
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
		{
			snprintf(counts->error, sizeof(counts->error), "%s: %s", topic, rd_kafka_err2str(err));
			return false;
		}
		rd_kafka_poll(rk, 10);
	}
	counts->sent++;
	if (counts->sent % 1000 == 0)
		rd_kafka_poll(rk, 0);
	return true;
}

bool
produce_line(rd_kafka_t *rk, char *line, ProduceCounts *counts)
{
	Message		message;

	message.topic.data = message.key.data = message.value.data = NULL;
	message.topic.length = 0;
	message.partition = RD_KAFKA_PARTITION_UA;
	message.timestamp = 0;
	message.headers = 0;
	counts->error[0] = '\0';
	if (scan_object(line, message_member, &message) != NULL &&
		send_message(rk, &message, counts))
		return true;
	if (counts->error[0] == '\0')
		snprintf(counts->error, sizeof(counts->error), "not a message");
	counts->failed++;
	return false;
}

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	ProduceCounts *counts = opaque;

	(void) rk;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		counts->delivered++;
	else
	{
		counts->failed++;
		snprintf(counts->error, sizeof(counts->error), "%s", rd_kafka_err2str(message->err));
	}
}

static void
on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	(void) rk;
	(void) level;
	(void) facility;
	(void) text;
}

void
produce_configure(rd_kafka_conf_t *conf, ProduceCounts *counts)
{
	static const char *const settings[][2] = {
		{"linger.ms", "5"},
		{"message.max.bytes", "20000000"},
		{"batch.num.messages", "10000"},
		{"queue.buffering.max.messages", "200000"},
		{"max.in.flight.requests.per.connection", "1"},
		{"message.timeout.ms", "30000"}
	};
	char		error[256];

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1],
							  error, sizeof(error)) != RD_KAFKA_CONF_OK)
		{
			fprintf(stderr, "%s\n", error);
			exit(2);
		}
	}
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rd_kafka_conf_set_log_cb(conf, on_log);
	rd_kafka_conf_set_opaque(conf, counts);
}

bool
produce_flush(rd_kafka_t *rk, ProduceCounts *counts)
{
	rd_kafka_resp_err_t err = rd_kafka_flush(rk, 60000);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		snprintf(counts->error, sizeof(counts->error), "%s", rd_kafka_err2str(err));
	return err == RD_KAFKA_RESP_ERR_NO_ERROR && counts->failed == 0;
}

/*
 * keep_rate sleeps until "sent" messages may have been sent since "start".
 */
static void
keep_rate(rd_kafka_t *rk, const struct timespec *start, long sent, long rate)
{
	struct timespec now;
	double		ahead;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ahead = (double) sent / (double) rate -
		((double) (now.tv_sec - start->tv_sec) + (double) (now.tv_nsec - start->tv_nsec) / 1e9);
	if (ahead > 0.001)
		rd_kafka_poll(rk, (int) (ahead * 1000));
}

bool
produce_file(rd_kafka_t *rk, const char *path, long rate, ProduceCounts *counts)
{
	FILE	   *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	char	   *line = NULL;
	size_t		size = 0;
	long		number = 0;
	bool		good = true;
	struct timespec start;

	if (file == NULL)
	{
		snprintf(counts->error, sizeof(counts->error), "could not open %s", path);
		return false;
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (good && getline(&line, &size, file) >= 0)
	{
		char	   *p = skip_space(line);

		number++;
		if (*p == '\0')
			continue;
		good = produce_line(rk, p, counts);
		if (!good)
			fprintf(stderr, "line %ld: %s\n", number, counts->error);
		if (rate > 0 && number % (1 + rate / 100) == 0)
			keep_rate(rk, &start, number, rate);
	}
	free(line);
	if (file != stdin)
		fclose(file);
	return produce_flush(rk, counts) && good;
}

bool
produce_fill(rd_kafka_t *rk, const char *topic, int partitions, long count, int size,
			 ProduceCounts *counts)
{
	char		key[32];
	char	   *value = malloc((size_t) size + 1);
	Message		message;
	bool		good = true;

	memset(&message, 0, sizeof(message));
	memset(value, 'x', (size_t) size + 1);
	message.topic.data = (char *) topic;
	message.topic.length = strlen(topic);
	message.key.data = key;
	message.value.data = value;
	message.value.length = (size_t) size;
	for (long i = 0; good && i < count; i++)
	{
		message.key.length = (size_t) snprintf(key, sizeof(key), "%ld", i);
		message.partition = i % partitions;
		message.timestamp = 1400000000000LL + i;
		if (size >= 24)
		{
			int			length = snprintf(value, (size_t) size, "{\"id\": %ld, \"pad\": \"", i);

			memset(value + length, 'x', (size_t) (size - length));
			memcpy(value + size - 2, "\"}", 2);
		}
		good = send_message(rk, &message, counts);
	}
	good = produce_flush(rk, counts) && good;
	free(value);
	return good;
}
