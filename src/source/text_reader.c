/*
 * text_reader.c
 *	  Text files: a record for each line, or one for each file.
 *
 * A batch is what the window of the file holds: records are slices of it.
 *
 * Invariant: the window begins at a record boundary, and the place of the next
 * record is always input.offset + position.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "catalog/pg_type.h"
#include "convert/convert.h"
#include "guc.h"
#include "source/encoding.h"
#include "source/input.h"
#include "source/reader.h"
#include "utils/memutils.h"

#define MAX_RECORDS 4096		/* of a batch */
#define RAW_KEPT (64 * 1024)	/* bytes shown of a record that is too long */

typedef struct TextOptions
{
	char	   *column;			/* or NULL */
	char	   *separator;		/* "" = LF or CRLF */
	bool		whole;			/* the file is one record */
	int			encoding;
	bool		replace;		/* wrong bytes of it are replaced */
} TextOptions;

typedef struct TextRecord
{
	uint32		start;
	uint32		length;
	bool		too_long;		/* shown with its first bytes only */
} TextRecord;

typedef struct TextReader
{
	TextOptions options;
	int			separator_length;
	LhEncoding	encoding;
	LhInput		input;
	uint32		position;		/* in the window, of the next record */
	int64		line;			/* records before the batch */

	TextRecord *records;		/* of the batch; MAX_RECORDS of them */
	int			count;

	int			attribute;		/* of the target */
	LhConverter converter;
	uint32		max_length;		/* bytes that a record may have */
	bool		done;			/* a whole file was given */
	int64		end;			/* of the input as the caller knows it */
	int64		stop;			/* no record that begins here or behind is read */

	bool		jump;			/* behind this batch the reader goes on elsewhere: */
	int64		jump_position;
} TextReader;

static const char *const option_names[] = {"column", "encoding", "encoding_errors", "line_sep", "whole_text", NULL};

static const LhOptionAlias aliases[] = {{"charset", "encoding"}, {NULL, NULL}};

static void
parse_options(Jsonb *json, TextOptions *options)
{
	json = lh_options_canonical(json, option_names, aliases);
	lh_options_check(json, option_names, "text option");
	options->column = lh_options_text(json, "column", NULL);
	options->separator = lh_options_text(json, "line_sep", "");
	options->whole = lh_options_bool(json, "whole_text", false);
	options->encoding = lh_encoding_option(json);
	options->replace = lh_encoding_replace_option(json);
	if (strlen(options->separator) > LH_MAX_SEPARATOR)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"line_sep\""),
				 errdetail("The option takes up to %d bytes.", LH_MAX_SEPARATOR)));
}

/*
 * Finds the column by its name; raises 42703 if there is none.
 */
static int
find_column(TupleDesc tupdesc, const char *name)
{
	int			i;

	for (i = 0; i < tupdesc->natts; i++)
		if (!TupleDescAttr(tupdesc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("option \"column\" names column \"%s\", which the target table does not have", name)));
}

static void
text_validate(Jsonb *json, TupleDesc tupdesc)
{
	TextOptions options;
	LhEncoding	encoding;

	parse_options(json, &options);
	lh_encoding_init(&encoding, options.encoding);
	if (options.column != NULL)
		(void) find_column(tupdesc, options.column);
}

/*
 * A table for lines has one column.
 */
static const LhReaderColumn *
text_columns(Jsonb *options)
{
	LhReaderColumn *columns = palloc0(sizeof(LhReaderColumn) * 2);
	TextOptions parsed;

	parse_options(options, &parsed);
	columns[0] = (LhReaderColumn) {parsed.column != NULL ? parsed.column : "value", "text", TEXTOID};
	return columns;
}

/*
 * Chooses the column: the named one, or "value", or the only one there is.
 */
static int
choose_column(const TextOptions *options, const LhReaderInput *input)
{
	int			found = -1;
	int			i;

	if (options->column != NULL)
	{
		found = find_column(input->tupdesc, options->column);
		if (!input->fillable[found])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					 errmsg("option \"column\" names column \"%s\", which a source cannot fill", options->column)));
		return found;
	}
	for (i = 0; i < input->tupdesc->natts; i++)
	{
		if (!input->fillable[i] || TupleDescAttr(input->tupdesc, i)->attisdropped)
			continue;
		if (strcmp(NameStr(TupleDescAttr(input->tupdesc, i)->attname), "value") == 0)
			return i;
		found = found == -1 ? i : -2;
	}
	if (found < 0)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_COLUMN),
				 errmsg("the target table has no column \"value\" and not just one column for text to go to"),
				 errhint("Name the column with the option \"column\".")));
	return found;
}

static LhReader *
text_open(const LhReaderInput *input)
{
	TextReader *reader = palloc0(sizeof(TextReader));

	parse_options(input->options, &reader->options);
	lh_encoding_init(&reader->encoding, reader->options.encoding);
	reader->encoding.replace = reader->options.replace;
	reader->separator_length = strlen(reader->options.separator);
	reader->attribute = choose_column(&reader->options, input);
	lh_converter_init(&reader->converter, TupleDescAttr(input->tupdesc, reader->attribute),
					  CurrentMemoryContext);
	reader->line = input->line;
	reader->max_length = (uint32) lh_max_record_size * 1024;
	reader->records = palloc(sizeof(TextRecord) * MAX_RECORDS);

	/* room for a record, a byte order mark and the line end */
	reader->end = input->size;
	reader->stop = input->end > 0 ? input->end : PG_INT64_MAX;
	reader->options.whole |= input->single;
	lh_input_open(&reader->input, input->fd, input->name, input->size - input->single,
				  input->position, reader->max_length + 3 + LH_MAX_SEPARATOR);
	lh_input_inflate(&reader->input, input->inflate);
	reader->input.tap = input->tap;
	(void) lh_input_advance(&reader->input, 0);
	if (input->position == 0)
		lh_encoding_refuse_wide(&reader->encoding, input->name, reader->input.data, reader->input.length);
	if (input->position == 0 && reader->input.length >= 3 &&
		memcmp(reader->input.data, "\xEF\xBB\xBF", 3) == 0)
		reader->position = 3;
	return (LhReader *) reader;
}

/* ------------------------------------------------------------- batches */

static void
add_record(TextReader *reader, uint32 start, uint32 length, bool too_long)
{
	TextRecord *record = &reader->records[reader->count++];

	record->start = start;
	record->too_long = too_long || length > reader->max_length;
	record->length = record->too_long ? Min(length, RAW_KEPT) : length;
}

/*
 * Finds the separator in bytes; NULL if it is not there.  Sets *behind to the
 * place behind it.
 */
static const char *
find_separator(const TextReader *reader, const char *data, uint32 length, const char **behind)
{
	const char *mark;

	if (reader->separator_length == 0)
	{
		mark = memchr(data, '\n', length);
		*behind = mark + 1;
		if (mark != NULL && mark > data && mark[-1] == '\r')
			mark--;
		return mark;
	}
	mark = memmem(data, length, reader->options.separator, reader->separator_length);
	*behind = mark + reader->separator_length;
	return mark;
}

static inline bool
is_at_end(const TextReader *reader)
{
	return reader->input.offset + reader->position >= reader->stop ||
		(reader->input.last && reader->position == reader->input.length);
}

/*
 * Takes the lines of the window as records.
 */
static void
collect_lines(TextReader *reader)
{
	LhInput    *input = &reader->input;

	while (reader->count < MAX_RECORDS && reader->position < input->length && !is_at_end(reader))
	{
		const char *start = input->data + reader->position;
		const char *behind;
		const char *end = find_separator(reader, start, input->length - reader->position, &behind);

		if (end == NULL)
		{
			if (!input->last)
				return;
			end = behind = input->data + input->length;
		}
		add_record(reader, reader->position, end - start, false);
		reader->position = behind - input->data;
	}
}

/*
 * The line at the start of the window is too long for it: makes a batch of its
 * first bytes, and finds where the next line begins.
 */
static void
give_long_record(TextReader *reader)
{
	int			overlap = Max(reader->separator_length, 1) - 1;
	int64		position = reader->input.offset + reader->input.length - overlap;
	char	   *chunk = palloc(RAW_KEPT);
	const char *mark = NULL;
	uint32		length;

	while (mark == NULL &&
		   (length = lh_input_peek(&reader->input, position, chunk, RAW_KEPT)) > 0)
	{
		const char *behind;

		mark = find_separator(reader, chunk, length, &behind);
		if (mark != NULL)
			position += behind - chunk;
		else if ((int) length <= overlap)
			break;				/* the end of the input, looked at already */
		else
			position += length - overlap;
	}
	if (mark == NULL)
		position = reader->input.size;
	pfree(chunk);
	add_record(reader, 0, Min(reader->input.length, RAW_KEPT), true);
	reader->jump = true;
	reader->jump_position = position;
}

/*
 * Reads the whole file as one record.  One that is too long is read to its end
 * as well: a compressed file may turn out to be broken.
 */
static void
give_whole_file(TextReader *reader)
{
	LhInput    *input = &reader->input;
	bool		too_long = false;

	while (!input->last && !too_long)
		too_long = !lh_input_advance(input, 0);
	if (too_long)
	{
		int64		position = input->offset + input->length;
		char	   *chunk = palloc(RAW_KEPT);
		uint32		length;

		while ((length = lh_input_peek(input, position, chunk, RAW_KEPT)) > 0)
			position += length;
		pfree(chunk);
	}
	add_record(reader, reader->position, input->length - reader->position, too_long);
	reader->done = true;
}

static bool text_fill(void *arg, int i, Datum *values, bool *nulls,
					  LhError *error, const char **column);
static void text_place(void *arg, int i, LhPlace *place);

static bool
text_next(LhReader *arg, LhRecords *records)
{
	TextReader *reader = (TextReader *) arg;

	reader->line += reader->count;
	reader->count = 0;
	if (reader->jump)
	{
		reader->jump = false;
		reader->position = 0;
		lh_input_seek(&reader->input, reader->jump_position);
		(void) lh_input_advance(&reader->input, 0);
	}
	if (reader->options.whole && !reader->done)
		give_whole_file(reader);
	while (!reader->options.whole)
	{
		bool		more;

		collect_lines(reader);
		if (reader->count > 0 || is_at_end(reader))
			break;
		more = lh_input_advance(&reader->input, reader->position);
		reader->position = 0;
		if (!more)
		{
			give_long_record(reader);
			break;
		}
	}
	records->count = reader->count;
	records->reader = reader;
	records->fill = text_fill;
	records->place = text_place;
	return reader->count > 0;
}

static bool
text_fill(void *arg, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	TextReader *reader = (TextReader *) arg;
	const TextRecord *record = &reader->records[i];
	const char *text;
	int			length;

	*column = NULL;
	if (record->too_long)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"record is longer than %d kB", lh_max_record_size);
	if (!lh_encoding_convert(&reader->encoding, reader->input.data + record->start,
							 record->length, &text, &length, error))
		return false;
	*column = reader->converter.column;
	nulls[reader->attribute] = false;
	return lh_convert(&reader->converter, text, length, &values[reader->attribute], error);
}

static void
text_place(void *arg, int i, LhPlace *place)
{
	TextReader *reader = (TextReader *) arg;
	const TextRecord *record = &reader->records[i];

	memset(place, 0, sizeof(*place));
	place->line = reader->line + i + 1;
	place->byte_offset = reader->input.offset + record->start;
	place->raw = reader->input.data + record->start;
	place->raw_length = record->length;
}

/* --------------------------------------------------------------- others */

static void
text_tell(LhReader *arg, int64 *position, int64 *line)
{
	TextReader *reader = (TextReader *) arg;

	*line = reader->line + reader->count;
	if (reader->done)
		*position = reader->end;
	else
		*position = reader->jump ? reader->jump_position : reader->input.offset + reader->position;
}

static bool
text_splits(LhReader *arg)
{
	return !((TextReader *) arg)->options.whole;
}

static const char *
text_header(LhReader *arg)
{
	return NULL;
}

static bool
text_may_raise(LhReader *arg)
{
	return ((TextReader *) arg)->converter.may_raise;
}

static void
text_close(LhReader *arg)
{
	TextReader *reader = (TextReader *) arg;

	lh_input_close(&reader->input);
	pfree(reader->records);
	pfree(reader);
}

const LhReaderRoutine lh_text_reader = {
	.format = "text",
	.columns = text_columns,
	.validate = text_validate,
	.open = text_open,
	.next = text_next,
	.tell = text_tell,
	.splits = text_splits,
	.header = text_header,
	.may_raise = text_may_raise,
	.close = text_close
};
