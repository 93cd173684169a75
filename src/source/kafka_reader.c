/*
 * kafka_reader.c
 *	  Kafka messages as records of a bronze table.
 *
 * Invariant: a part of a message is stored as it is, or the message becomes a
 * reject.  A missing part (no key, no value, no headers, no timestamp) is NULL
 * and differs from an empty one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/options.h"
#include "convert/convert.h"
#include "delta/load.h"
#include "guc.h"
#include "source/decoder.h"
#include "source/kafka_headers.h"
#include "source/kafka_reader.h"

/* The parts of a message. */
typedef enum Part
{
	PART_KEY,
	PART_VALUE,
	PART_TOPIC,
	PART_PARTITION,
	PART_OFFSET,
	PART_TIMESTAMP,
	PART_TIMESTAMP_TYPE,
	PART_HEADERS
} Part;

static const char *const part_names[] = {
	"key", "value", "topic", "partition", "offset", "timestamp", "timestamp_type", "headers", NULL
};

/* One column that is filled. */
typedef struct Column
{
	int			index;			/* in the tuple, from 0 */
	Part		part;
	Oid			type;			/* base type of a domain */
	bool		plain;			/* no domain: our own forms will do */
	LhConverter converter;		/* for text forms, and for what a domain checks */
	void	   *domain;			/* of bytes: the state of domain_check, */
	MemoryContext context;		/* and where that lives */
	const char *name;
} Column;

struct LhKafkaReader
{
	int			column_count;
	Column	   *columns;
	bool		may_raise;
	const LhDecoderRoutine *routine;	/* or NULL: the value is not decoded */
	LhDecoder  *decoder;
	int			decoded_count;
	int		   *decoded;		/* columns that the decoder may fill, from 0 */
	LhConverter *decoded_null;	/* of each: what makes its NULL */
	const LhKafkaMessage *messages;
	const LhKafkaPlace *places;
	StringInfoData text;		/* headers as JSON text */
};

static void add_column(LhKafkaReader *reader, TupleDesc tupdesc, int index, Part part);
static void open_decoder(LhKafkaReader *reader, TupleDesc tupdesc, const bool *left,
						 Jsonb *options, LhSchemaRegistry *registry, LhFieldSink *sink);
static bool fill_record(void *arg, int i, Datum *values, bool *nulls,
						LhError *error, const char **column);
static void place_record(void *arg, int i, LhPlace *place);

/*
 * column_entry returns what an option that is an object has for a column, or
 * NULL.
 */
static JsonbValue *
column_entry(Jsonb *options, const char *option, const char *column)
{
	JsonbValue *object = options == NULL ? NULL
		: getKeyJsonValueFromContainer(&options->root, option, strlen(option), NULL);

	if (object == NULL || object->type != jbvBinary ||
		!JsonContainerIsObject(object->val.binary.data))
		return NULL;
	return getKeyJsonValueFromContainer(object->val.binary.data, column, strlen(column), NULL);
}

/*
 * mapped_part returns the part that fills a column, or -1.  What the options
 * say of a column goes before its name.
 */
static int
mapped_part(Jsonb *options, const char *column)
{
	JsonbValue *part = column_entry(options, "columns", column);

	if (part != NULL && part->type == jbvString)
	{
		for (int p = 0; part_names[p] != NULL; p++)
		{
			if (strlen(part_names[p]) == part->val.string.len &&
				strncmp(part_names[p], part->val.string.val, part->val.string.len) == 0)
				return p;
		}
	}
	if (column_entry(options, "paths", column) != NULL)
		return -1;
	for (int p = 0; part_names[p] != NULL; p++)
	{
		if (strcmp(part_names[p], column) == 0)
			return p;
	}
	return -1;
}

static bool
can_fill(TupleDesc tupdesc, const bool *fillable, int index)
{
	Form_pg_attribute attribute = TupleDescAttr(tupdesc, index);

	return !attribute->attisdropped && attribute->attgenerated == '\0' &&
		strcmp(NameStr(attribute->attname), LH_LOAD_COLUMN) != 0 &&
		(fillable == NULL || fillable[index]);
}

/*
 * check_mapping checks that the option "columns" names columns that the source
 * can fill, and parts that exist.
 */
static void
check_mapping(TupleDesc tupdesc, const bool *fillable, Jsonb *options)
{
	JsonbValue *columns = options == NULL ? NULL
		: getKeyJsonValueFromContainer(&options->root, "columns", strlen("columns"), NULL);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *name = NULL;

	if (columns == NULL || columns->type == jbvNull)
		return;
	if (columns->type != jbvBinary || !JsonContainerIsObject(columns->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"columns\" must be an object"),
				 errhint("For example {\"columns\": {\"event_time\": \"timestamp\"}}.")));
	iterator = JsonbIteratorInit(columns->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		char	   *part;
		int			found = -1;

		if (token == WJB_KEY)
			name = pnstrdup(item.val.string.val, item.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (item.type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"columns\" must give a part of the message for column \"%s\"", name)));
		part = pnstrdup(item.val.string.val, item.val.string.len);
		for (int p = 0; part_names[p] != NULL; p++)
		{
			if (strcmp(part, part_names[p]) == 0)
				found = p;
		}
		if (found < 0)
			lh_options_refuse(part, part_names, "part of a Kafka message");
		found = -1;
		for (int i = 0; i < tupdesc->natts; i++)
		{
			Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

			if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
				found = i;
		}
		if (found < 0 || !can_fill(tupdesc, fillable, found))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("option \"columns\" names column \"%s\", which a source cannot fill", name),
					 errdetail(found < 0 ? "The target table has no such column."
							   : "The column is generated or kept by lakehouse.")));
	}
}

/*
 * lh_kafka_reader_open decides which column takes which part; see the header.
 */
LhKafkaReader *
lh_kafka_reader_open(TupleDesc tupdesc, const bool *fillable, Jsonb *options,
					 LhSchemaRegistry *registry, LhFieldSink *sink)
{
	LhKafkaReader *reader = palloc0(sizeof(LhKafkaReader));
	bool	   *left = palloc0(sizeof(bool) * Max(tupdesc->natts, 1));
	bool		has_value = false;

	check_mapping(tupdesc, fillable, options);
	reader->routine = lh_decoder_find(options);
	reader->columns = palloc0(sizeof(Column) * Max(tupdesc->natts, 1));
	initStringInfo(&reader->text);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		int			part;

		if (!can_fill(tupdesc, fillable, i))
			continue;
		part = mapped_part(options, NameStr(TupleDescAttr(tupdesc, i)->attname));
		left[i] = part < 0;
		if (part < 0)
			continue;
		add_column(reader, tupdesc, i, (Part) part);
		if (part == PART_VALUE)
			has_value = true;
	}
	if (reader->routine != NULL)
		open_decoder(reader, tupdesc, left, options, registry, sink);
	else if (!has_value)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("target table has no column for the value of a message"),
				 errhint("Add a column \"value\", name one with the option {\"columns\": {\"name\": \"value\"}}, or decode the value with the option \"value_format\".")));
	return reader;
}

/*
 * open_decoder gives the decoder the columns that no part of a message fills.
 */
static void
open_decoder(LhKafkaReader *reader, TupleDesc tupdesc, const bool *left, Jsonb *options,
			 LhSchemaRegistry *registry, LhFieldSink *sink)
{
	reader->decoded = palloc(sizeof(int) * Max(tupdesc->natts, 1));
	reader->decoded_null = palloc(sizeof(LhConverter) * Max(tupdesc->natts, 1));
	for (int i = 0; i < tupdesc->natts; i++)
	{
		LhConverter *converter = &reader->decoded_null[reader->decoded_count];

		if (!left[i])
			continue;
		lh_converter_init(converter, TupleDescAttr(tupdesc, i), CurrentMemoryContext);
		reader->may_raise |= converter->is_domain;
		reader->decoded[reader->decoded_count++] = i;
	}
	if (reader->decoded_count == 0 && (sink == NULL || !sink->rescue))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("target table has no column for a field of the value"),
				 errdetail("Its columns are filled by parts of the message."),
				 errhint("Add columns with the names of the fields, or name some with the option \"paths\".")));
	reader->decoder = reader->routine->open(tupdesc, left, options, registry, sink);
	reader->may_raise |= reader->routine->may_raise(reader->decoder);
}

/*
 * check_type raises unless a column of that type can hold the part.
 */
static void
check_type(const Column *column, int32 typmod)
{
	const char *wanted = NULL;
	bool		is_text = column->type == TEXTOID || column->type == VARCHAROID;
	bool		is_json = column->type == JSONOID || column->type == JSONBOID;
	bool		is_int = column->type == INT2OID || column->type == INT4OID || column->type == INT8OID;

	switch (column->part)
	{
		case PART_KEY:
		case PART_VALUE:
		case PART_TOPIC:
			break;
		case PART_PARTITION:
			if (column->type != INT4OID && column->type != INT8OID)
				wanted = "integer or bigint";
			break;
		case PART_OFFSET:
			if (column->type != INT8OID)
				wanted = "bigint";
			break;
		case PART_TIMESTAMP:
			/* fewer than three digits would cut the milliseconds */
			if ((column->type != TIMESTAMPTZOID && column->type != TIMESTAMPOID &&
				 column->type != INT8OID) || (typmod >= 0 && typmod < 3))
				wanted = "timestamptz, timestamp (with milliseconds) or bigint";
			break;
		case PART_TIMESTAMP_TYPE:
			if (!is_int && !is_text)
				wanted = "integer or text";
			break;
		case PART_HEADERS:
			if (!is_json && !is_text)
				wanted = "jsonb, json or text";
			break;
	}
	if (wanted != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of type %s cannot hold the %s of a message",
						column->name, format_type_be(column->type), part_names[column->part]),
				 errhint("Use type %s.", wanted)));
}

static void
add_column(LhKafkaReader *reader, TupleDesc tupdesc, int index, Part part)
{
	Form_pg_attribute attribute = TupleDescAttr(tupdesc, index);
	Column	   *column = &reader->columns[reader->column_count++];
	bool		as_text;

	column->index = index;
	column->part = part;
	column->name = pstrdup(NameStr(attribute->attname));
	column->context = CurrentMemoryContext;
	as_text = part == PART_KEY || part == PART_VALUE || part == PART_TOPIC || part == PART_HEADERS;
	/* numbers and times are stored without the checks of a domain */
	column->type = as_text ? getBaseType(attribute->atttypid) : attribute->atttypid;
	check_type(column, attribute->atttypmod);
	/* a domain may have checks, a typmod may cut: the converter knows */
	column->plain = column->type == attribute->atttypid && attribute->atttypmod < 0;
	lh_converter_init(&column->converter, attribute, CurrentMemoryContext);
	if (column->plain && (column->type == BYTEAOID || !as_text))
		return;
	/* a character may be missing in the server's encoding */
	if (column->converter.may_raise ||
		(GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII))
		reader->may_raise = true;
}

bool
lh_kafka_reader_may_raise(const LhKafkaReader *reader)
{
	return reader->may_raise;
}

void
lh_kafka_reader_records(LhKafkaReader *reader, const LhKafkaMessage *messages,
						int count, const LhKafkaPlace *places, LhRecords *records)
{
	reader->messages = messages;
	reader->places = places;
	records->count = count;
	records->reader = reader;
	records->fill = fill_record;
	records->place = place_record;
}

static Datum
make_varlena(const char *data, Size length)
{
	struct varlena *result = palloc(VARHDRSZ + length);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), data, length);
	return PointerGetDatum(result);
}

/*
 * fill_text converts text of a message: UTF-8 without NUL, or a soft error.
 */
static bool
fill_text(Column *column, const char *data, Size length, Datum *value, LhError *error)
{
	int			good;

	good = pg_encoding_verifymbstr(PG_UTF8, data, (int) length);
	if (good < length)
		return lh_error_set(error, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							data[good] == '\0'
							? "%s of the message holds a NUL byte at position %d"
							: "%s of the message is not UTF-8 at byte %d",
							part_names[column->part], good + 1);
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *converted;

		converted = (char *) pg_do_encoding_conversion((unsigned char *) unconstify(char *, data),
													   (int) length, PG_UTF8, GetDatabaseEncoding());
		/* the same pointer comes back when there was nothing to do */
		if (converted != data)
			length = strlen(converted);
		data = converted;
	}
	if (column->plain && column->type == TEXTOID)
	{
		*value = make_varlena(data, length);
		return true;
	}
	return lh_convert(&column->converter, data, (int) length, value, error);
}

/*
 * fill_bytes stores key or value: as they are into bytea, else as text.
 */
static bool
fill_bytes(Column *column, const char *data, Size length, Datum *value, bool *isnull,
		   LhError *error)
{
	*isnull = data == NULL;
	if (data == NULL)
	{
		lh_convert_null(&column->converter, value, isnull);
		return true;
	}
	if (column->type == BYTEAOID)
	{
		*value = make_varlena(data, length);
		if (column->converter.is_domain)
			domain_check(*value, false, column->converter.type, &column->domain, column->context);
		return true;
	}
	return fill_text(column, data, length, value, error);
}

/*
 * fill_timestamp stores milliseconds since 1970 in the column's form.
 */
static bool
fill_timestamp(Column *column, int64 milliseconds, int type, Datum *value, bool *isnull,
			   LhError *error)
{
	static const int64 epoch_ms = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
	int64		microseconds;

	*isnull = type < 0 || milliseconds == -1;
	*value = Int64GetDatum(milliseconds);
	if (*isnull || column->type == INT8OID)
		return true;
	if (milliseconds < PG_INT64_MIN + epoch_ms ||
		__builtin_mul_overflow(milliseconds - epoch_ms, INT64CONST(1000), &microseconds) ||
		!IS_VALID_TIMESTAMP(microseconds))
		return lh_error_set(error, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
							"timestamp of the message is out of range: " INT64_FORMAT " ms",
							milliseconds);
	*value = TimestampTzGetDatum(microseconds);
	return true;
}

static bool
fill_timestamp_type(Column *column, int type, Datum *value, bool *isnull)
{
	*isnull = type < 0;
	*value = (Datum) 0;
	if (*isnull)
		return true;
	if (column->type == INT2OID)
		*value = Int16GetDatum((int16) type);
	else if (column->type == INT4OID)
		*value = Int32GetDatum(type);
	else if (column->type == INT8OID)
		*value = Int64GetDatum((int64) type);
	else
		*value = CStringGetTextDatum(type == 0 ? "CreateTime" : "LogAppendTime");
	return true;
}

static bool
fill_headers(LhKafkaReader *reader, Column *column, const LhKafkaMessage *message,
			 Datum *value, bool *isnull, LhError *error)
{
	*isnull = lh_kafka_headers(message) == 0;
	if (*isnull)
	{
		lh_convert_null(&column->converter, value, isnull);
		return true;
	}
	resetStringInfo(&reader->text);
	if (!lh_kafka_headers_write(message, &reader->text, error))
		return false;
	return fill_text(column, reader->text.data, reader->text.len, value, error);
}

/*
 * fill_decoded fills the columns that the decoded value has fields for.  Where
 * there is no value, nothing of it is known: not even a default.
 */
static bool
fill_decoded(LhKafkaReader *reader, const LhKafkaMessage *message, Datum *values, bool *nulls,
			 LhError *error, const char **column)
{
	if (message->value != NULL)
		return reader->routine->fill(reader->decoder, message->value, message->value_length,
									 values, nulls, error, column);
	for (int i = 0; i < reader->decoded_count; i++)
		lh_convert_null(&reader->decoded_null[i], &values[reader->decoded[i]], &nulls[reader->decoded[i]]);
	return true;
}

/*
 * fill_record turns message i into a row; see LhRecords.
 */
static bool
fill_record(void *arg, int i, Datum *values, bool *nulls, LhError *error, const char **column_name)
{
	LhKafkaReader *reader = arg;
	const LhKafkaMessage *message = &reader->messages[i];
	const LhKafkaPlace *place = &reader->places[message->slot];

	*column_name = NULL;
	if (message->key_length + message->value_length > (Size) lh_max_record_size * 1024)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"message is longer than lakehouse.max_record_size: %zu bytes",
							message->key_length + message->value_length);
	for (int c = 0; c < reader->column_count; c++)
	{
		Column	   *column = &reader->columns[c];
		Datum	   *value = &values[column->index];
		bool	   *isnull = &nulls[column->index];
		bool		good = true;

		switch (column->part)
		{
			case PART_KEY:
				good = fill_bytes(column, message->key, message->key_length, value, isnull, error);
				break;
			case PART_VALUE:
				good = fill_bytes(column, message->value, message->value_length, value, isnull, error);
				break;
			case PART_TOPIC:
				good = fill_bytes(column, place->topic, strlen(place->topic), value, isnull, error);
				break;
			case PART_PARTITION:
				*isnull = false;
				*value = column->type == INT8OID ? Int64GetDatum((int64) place->partition)
					: Int32GetDatum(place->partition);
				break;
			case PART_OFFSET:
				*isnull = false;
				*value = Int64GetDatum(message->offset);
				break;
			case PART_TIMESTAMP:
				good = fill_timestamp(column, message->timestamp, message->timestamp_type,
									  value, isnull, error);
				break;
			case PART_TIMESTAMP_TYPE:
				good = fill_timestamp_type(column, message->timestamp_type, value, isnull);
				break;
			case PART_HEADERS:
				good = fill_headers(reader, column, message, value, isnull, error);
				break;
		}
		if (!good)
		{
			*column_name = column->name;
			return false;
		}
	}
	return reader->routine == NULL ||
		fill_decoded(reader, message, values, nulls, error, column_name);
}

static void
place_record(void *arg, int i, LhPlace *place)
{
	LhKafkaReader *reader = arg;
	const LhKafkaMessage *message = &reader->messages[i];

	memset(place, 0, sizeof(LhPlace));
	place->byte_offset = -1;
	place->topic = reader->places[message->slot].topic;
	place->partition = reader->places[message->slot].partition;
	place->offset = message->offset;
	place->raw = message->value;
	place->raw_length = message->value_length;
	place->message = message;
}
