/*
 * json_reader.c
 *	  Records of files with one JSON object on each line.
 *
 * A batch is what the window of the file holds: records are its lines.  They are
 * parsed when they are filled, in one pass from bytes to values.  Whatever is
 * wrong with a line, the next record begins behind its line feed.
 *
 * Invariant: the window begins at a record boundary, and the place of the next
 * record is always input.offset + position.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "guc.h"
#include "json/json_row.h"
#include "json/json_text.h"
#include "mb/pg_wchar.h"
#include "source/encoding.h"
#include "source/input.h"
#include "source/reader.h"
#include "utils/memutils.h"

#define MAX_RECORDS 4096		/* of a batch */
#define RAW_KEPT (64 * 1024)	/* bytes shown of a record that is too long */

/* One line of the window. */
typedef struct JsonLine
{
	uint32		start;
	uint32		length;			/* without the line end */
	uint32		line;			/* lines of the window before it */
	bool		too_long;		/* to be shown with its first bytes only */
} JsonLine;

typedef struct JsonReader
{
	LhEncoding	encoding;
	LhInput		input;
	uint32		position;		/* in the window, of the next record */
	uint32		lines;			/* lines of the window before that */
	int64		line;			/* lines before the window */

	JsonLine   *records;		/* of the batch */
	int			count;
	int			records_allocated;

	LhJsonRow  *row;
	uint32		max_length;		/* bytes that a record may have */

	bool		jump;			/* behind this batch the reader goes on elsewhere: */
	int64		jump_position;
	MemoryContext context;
} JsonReader;

static const char *const option_names[] = {"encoding", NULL};

static int
get_encoding(Jsonb *options)
{
	char	   *name;
	int			encoding;

	lh_options_check(options, option_names, "JSON option");
	name = lh_options_text(options, "encoding", "UTF8");
	encoding = pg_char_to_encoding(name);
	if (encoding < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"encoding\""),
				 errdetail("There is no encoding \"%s\".", name)));
	return encoding;
}

static void
json_validate(Jsonb *options, TupleDesc tupdesc)
{
	LhEncoding	encoding;

	lh_encoding_init(&encoding, get_encoding(options));
}

/*
 * Moves the window so that it begins with the next record, and reads on behind
 * it.  Returns false if the record alone fills it.
 */
static bool
refill(JsonReader *json)
{
	bool		more = lh_input_advance(&json->input, json->position);

	json->line += json->lines;
	json->lines = 0;
	json->position = 0;
	return more;
}

static LhReader *
json_open(const LhReaderInput *input)
{
	JsonReader *json = palloc0(sizeof(JsonReader));

	json->context = CurrentMemoryContext;
	lh_encoding_init(&json->encoding, get_encoding(input->options));
	json->line = input->line;
	json->row = lh_json_row_create(input->tupdesc, input->fillable, json->context);
	json->max_length = (uint32) lh_max_record_size * 1024;

	/* room for a record and its line end */
	lh_input_open(&json->input, input->fd, input->name, input->size, input->position,
				  json->max_length + 2);
	lh_input_inflate(&json->input, input->inflate);
	refill(json);
	if (input->position == 0 && json->input.length >= 3 &&
		memcmp(json->input.data, "\xEF\xBB\xBF", 3) == 0)
		json->position = 3;
	return (LhReader *) json;
}

/* ------------------------------------------------------------- batches */

static bool
is_blank(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p == end;
}

static void
add_record(JsonReader *json, uint32 start, uint32 end, bool too_long)
{
	JsonLine   *record;

	if (json->count == json->records_allocated)
	{
		Size		allocated = Max(json->records_allocated * 2, 64);

		json->records = json->records == NULL ?
			MemoryContextAlloc(json->context, allocated * sizeof(JsonLine)) :
			repalloc(json->records, allocated * sizeof(JsonLine));
		json->records_allocated = allocated;
	}
	record = &json->records[json->count++];
	record->start = start;
	record->length = end - start;
	record->line = json->lines;
	if (!too_long && end > start && json->input.data[end - 1] == '\r')
		record->length--;
	record->too_long = too_long || record->length > json->max_length;
	if (record->too_long)
		record->length = Min(record->length, RAW_KEPT);
}

/*
 * Takes the lines of the window as records, blank ones left out.
 */
static void
collect_lines(JsonReader *json)
{
	const char *data = json->input.data;

	while (json->count < MAX_RECORDS && json->position < json->input.length)
	{
		uint32		start = json->position;
		const char *mark = memchr(data + start, '\n', json->input.length - start);
		uint32		end = mark != NULL ? mark - data : json->input.length;

		if (mark == NULL && !json->input.last)
			return;
		if (!is_blank(data + start, data + end))
			add_record(json, start, end, false);
		json->position = end + (mark != NULL);
		json->lines++;
	}
}

/*
 * The line at the start of the window is too long for it: makes a batch of its
 * first bytes, and finds where the next line begins.
 */
static void
give_long_record(JsonReader *json)
{
	char	   *chunk = palloc(RAW_KEPT);
	uint32		length;

	json->jump = true;
	json->jump_position = json->input.offset + json->input.length;
	while ((length = lh_input_peek(&json->input, json->jump_position, chunk, RAW_KEPT)) > 0)
	{
		const char *mark = memchr(chunk, '\n', length);

		json->jump_position += mark != NULL ? mark - chunk + 1 : length;
		if (mark != NULL)
			break;
	}
	pfree(chunk);
	add_record(json, 0, Min(json->input.length, RAW_KEPT), true);
}

static bool json_fill(void *reader, int i, Datum *values, bool *nulls,
					  LhError *error, const char **column);
static void json_place(void *reader, int i, LhPlace *place);

static bool
json_next(LhReader *reader, LhRecords *records)
{
	JsonReader *json = (JsonReader *) reader;

	json->count = 0;
	if (json->jump)
	{
		json->jump = false;
		json->line += 1;
		lh_input_seek(&json->input, json->jump_position);
		refill(json);
	}
	for (;;)
	{
		collect_lines(json);
		if (json->count > 0 || (json->input.last && json->position == json->input.length))
			break;
		if (!refill(json))
		{
			give_long_record(json);
			break;
		}
	}
	records->count = json->count;
	records->reader = json;
	records->fill = json_fill;
	records->place = json_place;
	return json->count > 0;
}

static bool
json_fill(void *reader, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	JsonReader *json = (JsonReader *) reader;
	const JsonLine *record = &json->records[i];
	LhJsonScan	scan;
	LhJsonReading reading = {.scan = &scan, .error = error};
	LhJsonToken token;
	const char *text;
	int			length;

	*column = NULL;
	if (record->too_long)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"record is longer than %d kB", lh_max_record_size);
	if (!lh_encoding_convert(&json->encoding, json->input.data + record->start, record->length,
							 &text, &length, error))
		return false;
	lh_json_begin(&scan, text, length);
	token = lh_json_next(&scan);
	if (token == LH_JSON_FAULT)
		return lh_json_refuse(&scan, error);
	if (token != LH_JSON_OBJECT)
	{
		if (!lh_json_pass(&scan, token) || lh_json_next(&scan) != LH_JSON_END)
			return lh_json_refuse(&scan, error);
		return lh_error_set(error, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"record is no JSON object");
	}
	if (!lh_json_row_fill(json->row, &reading, values, nulls))
	{
		/* a text that is no JSON is so before any of its fields is wrong */
		if (scan.fault != LH_JSON_FINE)
			return false;
		*column = reading.column;
		return false;
	}
	if (lh_json_next(&scan) != LH_JSON_END)
		return lh_json_refuse(&scan, error);
	return true;
}

static void
json_place(void *reader, int i, LhPlace *place)
{
	JsonReader *json = (JsonReader *) reader;
	const JsonLine *record = &json->records[i];

	memset(place, 0, sizeof(*place));
	place->line = json->line + record->line + 1;
	place->byte_offset = json->input.offset + record->start;
	place->raw = json->input.data + record->start;
	place->raw_length = record->length;
	place->cut = record->too_long && record->length >= RAW_KEPT;
}

/* --------------------------------------------------------------- others */

static void
json_tell(LhReader *reader, int64 *position, int64 *line)
{
	JsonReader *json = (JsonReader *) reader;

	*position = json->jump ? json->jump_position : json->input.offset + json->position;
	*line = json->line + json->lines + (json->jump ? 1 : 0);
}

static const char *
json_header(LhReader *reader)
{
	return NULL;
}

static bool
json_may_raise(LhReader *reader)
{
	return lh_json_row_may_raise(((JsonReader *) reader)->row);
}

static void
json_close(LhReader *reader)
{
	JsonReader *json = (JsonReader *) reader;

	lh_input_close(&json->input);
	if (json->records != NULL)
		pfree(json->records);
	pfree(json);
}

const LhReaderRoutine lh_json_reader = {
	.format = "json",
	.validate = json_validate,
	.open = json_open,
	.next = json_next,
	.tell = json_tell,
	.header = json_header,
	.may_raise = json_may_raise,
	.close = json_close
};
