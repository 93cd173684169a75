/*
 * json_reader.c
 *	  Records of files with one JSON object on each line, or with objects anywhere.
 *
 * A batch is what the window of the file holds: records are its lines, or what
 * json_split.c finds.  They are parsed when they are filled, in one pass from
 * bytes to values.  Whatever is wrong with a line, the next record begins behind
 * its line feed.
 *
 * Invariant: the window begins at a record boundary, and the place of the next
 * record is always input.offset + position.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "catalog/pg_type.h"
#include "convert/guess.h"
#include "guc.h"
#include "json/json_document.h"
#include "json/json_lax.h"
#include "mb/pg_wchar.h"
#include "source/encoding.h"
#include "source/input.h"
#include "source/json_split.h"
#include "source/reader.h"
#include "utils/memutils.h"

#define MAX_RECORDS 4096		/* of a batch */
#define RAW_KEPT (64 * 1024)	/* bytes shown of a record that is too long */

/* One record of the window. */
typedef struct JsonRecord
{
	uint32		start;
	uint32		length;			/* without the line end */
	uint32		line;			/* lines of the window before it */
	bool		too_long;		/* to be shown with its first bytes only */
	bool		unclosed;		/* stands for the end of an array, which is missing */
} JsonRecord;

typedef struct JsonReader
{
	LhEncoding	encoding;
	LhInput		input;
	uint32		position;		/* in the window, of the next record */
	uint32		lines;			/* lines of the window before that */
	int64		line;			/* lines before the window */

	bool		multi_line;
	LhJsonSplit split;			/* if so: what finds the records */

	JsonRecord *records;		/* of the batch */
	int			count;
	int			records_allocated;

	uint32		lax;			/* notations that are allowed: see json_lax.h */
	LhConvertOptions convert;
	LhJsonDocument *document;
	LhFieldSink *sink;
	uint32		max_length;		/* bytes that a record may have */
	int64		end;			/* no record that begins here or behind is read */

	bool		jump;			/* behind this batch the reader goes on elsewhere: */
	int64		jump_position;
	int64		jump_lines;		/* lines of the record that is passed over */
	MemoryContext context;
} JsonReader;

static const char *const option_names[] = {
	"allow_backslash_escaping_any_character", "allow_comments", "allow_non_numeric_numbers",
	"allow_numeric_leading_zeros", "allow_single_quotes", "allow_unquoted_control_chars",
	"allow_unquoted_field_names", "drop_field_if_all_null", "encoding", "encoding_errors",
	"infer_timestamp", "multi_line", "paths", "prefers_decimal", "primitives_as_string",
	LH_JSON_VARIANT_OPTION, LH_CONVERT_OPTION_NAMES, NULL
};

static const LhOptionAlias aliases[] = {{"charset", "encoding"}, {NULL, NULL}};

/* Notations beyond JSON. */
static const struct
{
	const char *option;
	uint32		bit;
}			notations[] = {
	{"allow_backslash_escaping_any_character", LH_JSON_ANY_ESCAPE},
	{"allow_comments", LH_JSON_COMMENTS},
	{"allow_non_numeric_numbers", LH_JSON_NON_NUMBERS},
	{"allow_numeric_leading_zeros", LH_JSON_LEADING_ZEROS},
	{"allow_single_quotes", LH_JSON_SINGLE_QUOTES},
	{"allow_unquoted_control_chars", LH_JSON_CONTROLS},
	{"allow_unquoted_field_names", LH_JSON_BARE_KEYS}
};

typedef struct JsonOptions
{
	Jsonb	   *json;			/* under their own names */
	int			encoding;
	bool		replace;		/* wrong bytes of it are replaced */
	bool		multi_line;		/* records may be anywhere, not one on a line */
	uint32		lax;
	char	   *variant;		/* column for records as a whole, or NULL */
	LhConvertOptions convert;
} JsonOptions;

static void
parse_options(Jsonb *json, JsonOptions *options)
{
	options->json = json = lh_options_canonical(json, option_names, aliases);
	lh_options_check(json, option_names, "JSON option");
	options->encoding = lh_encoding_option(json);
	options->replace = lh_encoding_replace_option(json);
	options->multi_line = lh_options_bool(json, "multi_line", false);
	options->lax = 0;
	for (int i = 0; i < lengthof(notations); i++)
		if (lh_options_bool(json, notations[i].option, false))
			options->lax |= notations[i].bit;
	options->variant = lh_options_text(json, LH_JSON_VARIANT_OPTION, NULL);
	lh_convert_options_parse(json, &options->convert);
	lh_guess_options_check(json);
	if (options->multi_line && PG_ENCODING_IS_CLIENT_ONLY(options->encoding))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"multi_line\" cannot be used with encoding \"%s\"",
						pg_encoding_to_char(options->encoding)),
				 errdetail("Brackets and quotes can be a part of other characters there.")));
}

static void
json_validate(Jsonb *json, TupleDesc tupdesc)
{
	JsonOptions options;
	LhEncoding	encoding;

	parse_options(json, &options);
	lh_encoding_init(&encoding, options.encoding);
	lh_json_document_validate(options.json, tupdesc);
}

/*
 * Records that go into one column as a whole need no other.
 */
static const LhReaderColumn *
json_columns(Jsonb *json)
{
	LhReaderColumn *columns = palloc0(sizeof(LhReaderColumn) * 2);
	JsonOptions options;

	parse_options(json, &options);
	if (options.variant == NULL)
		return NULL;
	columns[0] = (LhReaderColumn) {options.variant, "jsonb", JSONBOID};
	return columns;
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
	if (json->multi_line)
		lh_json_split_feed(&json->split, json->input.data, json->input.length, json->input.last);
	return more;
}

static LhReader *
json_open(const LhReaderInput *input)
{
	JsonReader *json = palloc0(sizeof(JsonReader));
	JsonOptions options;

	json->context = CurrentMemoryContext;
	parse_options(input->options, &options);
	lh_encoding_init(&json->encoding, options.encoding);
	json->encoding.replace = options.replace;
	json->multi_line = options.multi_line;
	json->lax = options.lax;
	json->line = input->line;
	json->end = input->end > 0 ? input->end : PG_INT64_MAX;
	json->convert = options.convert;
	json->convert.exact_dates = input->sink != NULL && input->sink->exact_dates;
	json->document = lh_json_document_create(options.json, input->tupdesc, input->fillable,
											 &json->convert, json->context);
	lh_json_split_begin(&json->split);
	json->split.lax = json->lax;
	if (input->header != NULL && strlen(input->header) > 2)
	{
		/* as json_header wrote it */
		json->split.in_array = input->header[0] == '[';
		json->split.indenting = input->header[1] == '+';
		json->split.indent = strtoi64(input->header + 2, NULL, 10);
	}
	json->sink = input->sink;
	json->max_length = (uint32) lh_max_record_size * 1024;

	/* room for a record and its line end */
	lh_input_open(&json->input, input->fd, input->name, input->size, input->position,
				  json->max_length + 2);
	lh_input_inflate(&json->input, input->inflate);
	json->input.tap = input->tap;
	refill(json);
	if (input->position == 0)
		lh_encoding_refuse_wide(&json->encoding, input->name, json->input.data, json->input.length);
	if (input->position == 0 && json->input.length >= 3 &&
		memcmp(json->input.data, "\xEF\xBB\xBF", 3) == 0)
		json->position = json->split.position = 3;
	return (LhReader *) json;
}

/* ------------------------------------------------------------- batches */

static bool
is_blank(uint32 lax, const char *p, const char *end)
{
	for (;;)
	{
		int64		comment;

		while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
			p++;
		if (likely(lax == 0) || p == end)
			return p == end;
		comment = lh_json_lax_comment(lax, p, end - p);
		if (comment <= 0)
			return comment < 0 && end - p > 1 && p[1] == '/';
		p += comment;
	}
}

static JsonRecord *
add_record(JsonReader *json, uint32 start, uint32 end, bool too_long)
{
	JsonRecord *record;

	if (json->count == json->records_allocated)
	{
		Size		allocated = Max(json->records_allocated * 2, 64);

		json->records = json->records == NULL ?
			MemoryContextAlloc(json->context, allocated * sizeof(JsonRecord)) :
			repalloc(json->records, allocated * sizeof(JsonRecord));
		json->records_allocated = allocated;
	}
	record = &json->records[json->count++];
	record->start = start;
	record->length = end - start;
	record->line = json->lines;
	record->unclosed = false;
	if (!too_long && end > start && json->input.data[end - 1] == '\r')
		record->length--;
	record->too_long = too_long || record->length > json->max_length;
	if (record->too_long)
		record->length = Min(record->length, RAW_KEPT);
	return record;
}

static inline bool
is_at_end(const JsonReader *json)
{
	return json->input.offset + json->position >= json->end;
}

/*
 * Takes the lines of the window as records, blank ones left out.
 */
static void
collect_lines(JsonReader *json)
{
	const char *data = json->input.data;

	while (json->count < MAX_RECORDS && json->position < json->input.length && !is_at_end(json))
	{
		uint32		start = json->position;
		const char *mark = memchr(data + start, '\n', json->input.length - start);
		uint32		end = mark != NULL ? mark - data : json->input.length;

		if (mark == NULL && !json->input.last)
			return;
		if (!is_blank(json->lax, data + start, data + end))
			(void) add_record(json, start, end, false);
		json->position = end + (mark != NULL);
		json->lines++;
	}
}

/*
 * Takes the records of the window, wherever they are.  A batch may become one
 * longer than others: the end of the input must be looked at with what is before
 * it.
 */
static void
collect_records(JsonReader *json)
{
	LhJsonSplit *split = &json->split;

	while (json->count < MAX_RECORDS ||
		   (json->input.last && split->position == split->length))
	{
		LhJsonSplitResult result = lh_json_split_next(split);

		json->lines = split->line;
		if (result == LH_JSON_SPLIT_RECORD)
			(void) add_record(json, split->start, split->end, false);
		else if (result == LH_JSON_SPLIT_UNCLOSED)
			add_record(json, split->start, split->end, false)->unclosed = true;
		json->position = split->position;
		json->lines = split->lines;
		if (result == LH_JSON_SPLIT_MORE || result == LH_JSON_SPLIT_END)
			break;
	}
}

/*
 * The record at the start of the window is too long for it: makes a batch of its
 * first bytes, and finds where it ends.
 */
static void
give_long_value(JsonReader *json)
{
	int64		position = json->input.offset + json->input.length;
	char	   *chunk = palloc(RAW_KEPT);
	LhJsonSkip	skip;
	uint32		length;

	lh_json_skip_begin(&skip, json->input.data[0], json->split.indent);
	lh_json_skip_feed(&skip, json->input.data, json->input.length);
	while (!skip.done &&
		   (length = lh_input_peek(&json->input, position, chunk, RAW_KEPT)) > 0)
	{
		lh_json_skip_feed(&skip, chunk, length);
		position += length;
	}
	pfree(chunk);
	(void) add_record(json, 0, Min(json->input.length, RAW_KEPT), true);
	json->jump = true;
	json->jump_position = json->input.offset + skip.offset;
	json->jump_lines = skip.lines;
	json->split.indenting = skip.line_start;
	if (skip.lines > 0)
		json->split.indent = skip.indent;
}

/*
 * The line at the start of the window is too long for it: makes a batch of its
 * first bytes, and finds where the next line begins.
 */
static void
give_long_line(JsonReader *json)
{
	char	   *chunk = palloc(RAW_KEPT);
	uint32		length;

	json->jump = true;
	json->jump_lines = 1;
	json->jump_position = json->input.offset + json->input.length;
	while ((length = lh_input_peek(&json->input, json->jump_position, chunk, RAW_KEPT)) > 0)
	{
		const char *mark = memchr(chunk, '\n', length);

		json->jump_position += mark != NULL ? mark - chunk + 1 : length;
		if (mark != NULL)
			break;
	}
	pfree(chunk);
	(void) add_record(json, 0, Min(json->input.length, RAW_KEPT), true);
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
		json->line += json->jump_lines;
		lh_input_seek(&json->input, json->jump_position);
		refill(json);
	}
	for (;;)
	{
		if (json->multi_line)
			collect_records(json);
		else
			collect_lines(json);
		if (json->count > 0 || is_at_end(json) ||
			(json->input.last && json->position == json->input.length))
			break;
		if (!refill(json))
		{
			if (json->multi_line)
				give_long_value(json);
			else
				give_long_line(json);
			break;
		}
	}
	records->count = json->count;
	records->reader = json;
	records->fill = json_fill;
	records->place = json_place;
	return json->count > 0;
}

/*
 * Gives the text of a record in the server's encoding, as JSON if it is that in a
 * notation that is allowed.
 */
static bool
get_text(JsonReader *json, const JsonRecord *record, const char **text, int *length, LhError *error)
{
	char	   *rewritten;

	if (record->unclosed)
		return lh_error_set(error, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"the file ends within an array: \"]\" is missing");
	if (record->too_long)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"record is longer than %d kB", lh_max_record_size);
	if (!lh_encoding_convert(&json->encoding, json->input.data + record->start, record->length,
							 text, length, error))
		return false;
	if (likely(json->lax == 0))
		return true;
	if (*length > (int) (MaxAllocSize / 8))
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"%d bytes are too many to be rewritten as JSON", *length);
	rewritten = palloc(lh_json_lax_rewrite(json->lax, *text, *length, NULL) + 1);
	*length = lh_json_lax_rewrite(json->lax, *text, *length, rewritten);
	*text = rewritten;
	return true;
}

static bool
json_fill(void *reader, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	JsonReader *json = (JsonReader *) reader;
	const char *text;
	int			length;

	*column = NULL;
	return get_text(json, &json->records[i], &text, &length, error) &&
		lh_json_document_fill(json->document, text, length, json->sink, values, nulls,
							  error, column);
}

static void
json_place(void *reader, int i, LhPlace *place)
{
	JsonReader *json = (JsonReader *) reader;
	const JsonRecord *record = &json->records[i];

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
	*line = json->line + json->lines + (json->jump ? json->jump_lines : 0);
}

/*
 * What a resumed read must know of the bytes before it.
 */
static const char *
json_header(LhReader *reader)
{
	JsonReader *json = (JsonReader *) reader;

	if (!json->multi_line)
		return NULL;
	return psprintf("%c%c" INT64_FORMAT, json->split.in_array ? '[' : '-',
					json->split.indenting ? '+' : '-', json->split.indent);
}

/*
 * Where records may be anywhere, what is passed over between them depends on the
 * bytes before.
 */
static bool
json_splits(LhReader *reader)
{
	return !((JsonReader *) reader)->multi_line;
}

static bool
json_may_raise(LhReader *reader)
{
	return lh_json_document_may_raise(((JsonReader *) reader)->document);
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
	.columns = json_columns,
	.validate = json_validate,
	.open = json_open,
	.next = json_next,
	.tell = json_tell,
	.splits = json_splits,
	.header = json_header,
	.header_is_state = true,
	.may_raise = json_may_raise,
	.close = json_close
};
