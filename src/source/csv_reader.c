/*
 * csv_reader.c
 *	  Records of CSV files.
 *
 * A batch is what the window of the file holds: records are slices of it, and so
 * are their fields, until fill converts them.  The window moves only when the
 * next batch is asked for, so a record can be filled again and its raw bytes
 * shown for as long as the batch lives.
 *
 * Invariant: the window begins at a record boundary, and the place of the next
 * record is always input.offset + scan.position.
 */
#include "postgres.h"

#include "guc.h"
#include "source/csv_internal.h"

#define MAX_RECORDS 4096		/* of a batch */
#define RAW_KEPT (64 * 1024)	/* bytes shown of a record that is too long */

static void
csv_validate(Jsonb *json, TupleDesc tupdesc)
{
	LhCsvOptions options;
	LhEncoding	encoding;

	lh_csv_options_parse(json, &options);
	lh_encoding_init(&encoding, options.encoding);
}

/* ------------------------------------------------------------- opening */

/*
 * Moves the window so that it begins with the next record, and reads on behind
 * it.  Returns false if the record alone fills it.
 */
static bool
refill(LhCsvReader *csv)
{
	bool		more = lh_input_advance(&csv->input, csv->scan.position);

	csv->line += csv->scan.lines;
	lh_csv_feed(&csv->scan, csv->input.data, csv->input.length, csv->input.last);
	return more;
}

/*
 * Passes over the byte order mark and the lines that the user wants skipped.
 */
static void
skip_start(LhCsvReader *csv)
{
	int64		left = csv->options.skip_rows;
	LhCsvScan	whole = csv->scan;
	LhCsvWide	lines = {{0}};
	LhCsvRecord record;

	refill(csv);
	lh_encoding_refuse_wide(&csv->encoding, csv->input.name, csv->input.data, csv->input.length);
	if (csv->input.length >= 3 && memcmp(csv->input.data, "\xEF\xBB\xBF", 3) == 0)
	{
		csv->scan.position = 3;
		refill(csv);
	}

	/* lines, not records: nothing but their ends means anything */
	csv->scan.sep = csv->scan.quote = csv->scan.escape = csv->scan.comment = '\0';
	csv->scan.skip_blank = false;
	csv->scan.width = 0;
	if (whole.wide != NULL)
	{
		memcpy(lines.line_sep, whole.wide->line_sep, sizeof(lines.line_sep));
		lines.line_sep_length = whole.wide->line_sep_length;
		csv->scan.wide = &lines;
	}
	lh_csv_feed(&csv->scan, csv->input.data, csv->input.length, csv->input.last);
	while (left > 0)
	{
		LhCsvResult result = lh_csv_next_record(&csv->scan, &record);

		if (result == LH_CSV_END)
			break;
		if (result == LH_CSV_RECORD)
			left--;
		else if (!refill(csv))
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("first lines of file \"%s\" are too long", csv->input.name)));
	}
	csv->scan.wide = whole.wide;
	csv->scan.sep = whole.sep;
	csv->scan.quote = whole.quote;
	csv->scan.escape = whole.escape;
	csv->scan.comment = whole.comment;
	csv->scan.skip_blank = whole.skip_blank;
	refill(csv);
}

/*
 * Without a table the first record tells how many fields there are.
 */
static void
map_by_count(LhCsvReader *csv, const LhReaderInput *input)
{
	LhCsvRecord record;
	LhCsvResult result;
	uint32		count = 0;

	csv->scan.width = 0;
	csv->scan.skip_blank = true;
	while ((result = lh_csv_next_record(&csv->scan, &record)) == LH_CSV_MORE)
		if (!refill(csv))
			break;
	if (result == LH_CSV_RECORD)
	{
		count = Min(record.fields, LH_CSV_MAX_HEADER_FIELDS);
		/* back to where the record begins */
		csv->scan.position = record.start;
		csv->scan.lines = record.line;
		refill(csv);
	}
	lh_csv_map_by_count(csv, input, count);
}

/*
 * Reads the header line at the start of a file.  An empty file has none.
 */
static void
read_header(LhCsvReader *csv, const LhReaderInput *input)
{
	LhCsvRecord record;
	LhCsvResult result;
	LhError		error;
	const char *line;
	int			length;

	csv->scan.width = 0;
	csv->scan.skip_blank = true;
	while ((result = lh_csv_next_record(&csv->scan, &record)) == LH_CSV_MORE)
		if (!refill(csv))
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("header of file \"%s\" is too long", input->name)));
	if (result == LH_CSV_END)
		return;
	if (!lh_encoding_convert(&csv->encoding, csv->input.data + record.start,
							 record.end - record.start, &line, &length, &error))
		ereport(ERROR,
				(errcode(error.sqlstate),
				 errmsg("header of file \"%s\" cannot be read: %s", input->name, error.message)));
	csv->header = pnstrdup(line, length);
	lh_csv_map_by_header(csv, input, csv->header);
}

static LhReader *
csv_open(const LhReaderInput *input)
{
	LhCsvReader  *csv = palloc0(sizeof(LhCsvReader));

	csv->context = CurrentMemoryContext;
	lh_csv_options_parse(input->options, &csv->options);
	lh_encoding_init(&csv->encoding, csv->options.encoding);
	csv->encoding.replace = csv->options.replace;
	csv->special = csv->options.replace || csv->options.more_nulls != NULL ||
		csv->options.max_chars >= 0;
	csv->null_length = strlen(csv->options.null_value);
	csv->scan.wide = csv->options.wide;
	csv->scan.sep = csv->options.sep;
	csv->scan.quote = csv->options.quote;
	csv->scan.escape = csv->options.escape;
	csv->scan.comment = csv->options.comment;
	csv->line = input->line;
	csv->end = input->end > 0 ? input->end : PG_INT64_MAX;
	csv->sink = input->sink;
	csv->rescue = input->sink != NULL && input->sink->rescue;
	csv->options.convert.exact_dates = input->sink != NULL && input->sink->exact_dates;
	csv->max_length = (uint32) lh_max_record_size * 1024;

	/* room for a record and its line end; the line feed behind a record that stands
	 * for itself is no line end of every dialect */
	lh_input_open(&csv->input, input->fd, input->name,
				  input->size - (input->single && csv->scan.wide != NULL && csv->scan.wide->line_sep_length > 0),
				  input->position, csv->max_length + LH_CSV_MAX_MARK);
	lh_input_inflate(&csv->input, input->inflate);
	csv->input.tap = input->tap;
	lh_csv_feed(&csv->scan, csv->input.data, 0, false);

	if (input->position == 0)
		skip_start(csv);
	if (!csv->options.header && csv->sink != NULL && csv->sink->positions)
		map_by_count(csv, input);
	else if (!csv->options.header)
		lh_csv_map_by_position(csv, input);
	else if (input->position == 0)
		read_header(csv, input);
	else if (input->header != NULL)
	{
		csv->header = pstrdup(input->header);
		lh_csv_map_by_header(csv, input, csv->header);
	}
	else
		elog(ERROR, "header of a partly loaded file is missing");

	/* an empty line is a record only where one empty field is expected */
	csv->scan.skip_blank = csv->scan.width != 1;
	csv->scan.used = 0;
	if (input->bounds && csv->scan.wide == NULL)
	{
		/* what was found behind the place so far holds the separators */
		csv->scan.bounds = true;
		refill(csv);
	}
	csv->behind = csv->scan.position;
	csv->behind_lines = csv->scan.lines;
	return (LhReader *) csv;
}

/* ------------------------------------------------------------- batches */

/*
 * Makes room for one more record and its fields.
 */
static inline void
make_room(LhCsvReader *csv)
{
	if (csv->count == csv->records_allocated)
	{
		Size		allocated = Max(csv->records_allocated * 2, 64);

		csv->records = csv->records == NULL ?
			MemoryContextAlloc(csv->context, allocated * sizeof(LhCsvRecord)) :
			repalloc(csv->records, allocated * sizeof(LhCsvRecord));
		csv->records_allocated = allocated;
	}
	if (csv->scan.used + csv->scan.width > csv->fields_allocated || csv->scan.fields == NULL)
	{
		Size		allocated = Max(csv->fields_allocated * 2, 64 * (Size) csv->scan.width + 1);

		csv->scan.fields = csv->scan.fields == NULL ?
			MemoryContextAllocHuge(csv->context, allocated * sizeof(LhCsvField)) :
			repalloc_huge(csv->scan.fields, allocated * sizeof(LhCsvField));
		csv->fields_allocated = allocated;
	}
}

/*
 * Tells how many of the first bytes of the window, the last ones of so many, end a
 * line.
 */
static uint32
line_end_length(const LhCsvReader *csv, uint32 end)
{
	const LhCsvWide *wide = csv->scan.wide;
	const char *data = csv->input.data;
	uint32		length = 0;

	if (wide != NULL && wide->line_sep_length > 0)
		return end >= wide->line_sep_length &&
			memcmp(data + end - wide->line_sep_length, wide->line_sep, wide->line_sep_length) == 0 ?
			wide->line_sep_length : 0;
	if (end > 0 && data[end - 1] == '\n')
		length++;
	if (end > length && data[end - length - 1] == '\r')
		length++;
	return length;
}

/*
 * The record at the start of the window is too long for it: makes a batch of its
 * first bytes, and finds where the next record begins.
 */
static void
give_long_record(LhCsvReader *csv)
{
	LhCsvRecord *record;
	LhCsvSkip	skip;
	int64		position = csv->input.offset + csv->input.length;
	char	   *chunk = palloc(RAW_KEPT);
	uint32		length;

	lh_csv_skip_begin(&skip);
	lh_csv_skip_feed(&skip, &csv->scan, csv->input.data, csv->input.length);
	while (!skip.done &&
		   (length = lh_input_peek(&csv->input, position, chunk, RAW_KEPT)) > 0)
	{
		lh_csv_skip_feed(&skip, &csv->scan, chunk, length);
		position += length;
	}
	lh_csv_skip_end(&skip);
	pfree(chunk);

	make_room(csv);
	record = &csv->records[csv->count++];
	memset(record, 0, sizeof(*record));
	record->fault = skip.broken && skip.offset <= csv->max_length ?
		LH_CSV_OPEN_QUOTE : LH_CSV_TOO_LONG;
	record->end = (uint32) Min(skip.offset, RAW_KEPT);
	if (record->end == skip.offset)
	{
		/* its line end is no part of it */
		record->end -= line_end_length(csv, record->end);
	}
	csv->jump = true;
	csv->jump_position = csv->input.offset + skip.offset;
	csv->jump_line = csv->line + skip.lines;
}

/*
 * Goes to where the record that was too long ends.
 */
static void
jump(LhCsvReader *csv)
{
	csv->jump = false;
	csv->line = csv->jump_line;
	lh_input_seek(&csv->input, csv->jump_position);
	csv->scan.position = 0;
	csv->scan.lines = 0;
	refill(csv);
	csv->behind = 0;
}

static void csv_place(void *reader, int i, LhPlace *place);

/*
 * Takes away the records that begin at the place where the read is to stop, or
 * behind it.  The place stays unreached if it lies within a record.
 */
static void
drop_beyond_end(LhCsvReader *csv)
{
	int64		end = csv->end - csv->input.offset;

	while (csv->count > 0 && csv->records[csv->count - 1].start >= end)
		csv->count--;
	if (csv->count == 0)
		csv->jump = false;
	if (csv->count == 0 || csv->records[csv->count - 1].end < end)
		csv->behind = end;
}

/*
 * Takes the records of the window, and the next window if it has none.
 */
static void
collect_records(LhCsvReader *csv)
{
	while (csv->count < MAX_RECORDS)
	{
		LhCsvResult result;

		make_room(csv);
		csv->behind = csv->scan.position;
		csv->behind_lines = csv->scan.lines;
		result = lh_csv_next_record(&csv->scan, &csv->records[csv->count]);
		if (result == LH_CSV_RECORD)
		{
			LhCsvRecord *record = &csv->records[csv->count++];

			if (unlikely(record->end - record->start > csv->max_length))
				record->fault = LH_CSV_TOO_LONG;
		}
		else if (result == LH_CSV_MORE && csv->count > 0)
			return;				/* lines may have been passed over */
		else if (result == LH_CSV_END)
			break;
		else if (!refill(csv))
		{
			give_long_record(csv);
			break;
		}
	}
	csv->behind = csv->scan.position;
	csv->behind_lines = csv->scan.lines;
}

static bool
csv_next(LhReader *reader, LhRecords *records)
{
	LhCsvReader  *csv = (LhCsvReader *) reader;

	csv->count = 0;
	csv->scan.used = 0;
	if (csv->jump)
		jump(csv);
	if (csv->input.offset + csv->scan.position < csv->end)
	{
		collect_records(csv);
		if (unlikely(csv->input.offset + csv->behind > csv->end))
			drop_beyond_end(csv);
	}
	records->count = csv->count;
	records->reader = csv;
	records->fill = csv->special ? lh_csv_fill_special : lh_csv_fill;
	records->place = csv_place;
	return csv->count > 0;
}

static void
csv_place(void *reader, int i, LhPlace *place)
{
	LhCsvReader  *csv = (LhCsvReader *) reader;
	const LhCsvRecord *record = &csv->records[i];

	memset(place, 0, sizeof(*place));
	place->line = csv->line + record->line + 1;
	place->byte_offset = csv->input.offset + record->start;
	place->raw = csv->input.data + record->start;
	place->raw_length = record->end - record->start;
	if (record->fault == LH_CSV_TOO_LONG)
		place->raw_length = Min(place->raw_length, RAW_KEPT);
	/* a line end may have been taken off */
	place->cut = (csv->jump || record->fault == LH_CSV_TOO_LONG) &&
		place->raw_length + 2 >= RAW_KEPT;
}

/* --------------------------------------------------------------- others */

static void
csv_tell(LhReader *reader, int64 *position, int64 *line)
{
	LhCsvReader  *csv = (LhCsvReader *) reader;

	*position = csv->jump ? csv->jump_position : csv->input.offset + csv->behind;
	*line = csv->jump ? csv->jump_line : csv->line + csv->behind_lines;
}

static bool
csv_splits(LhReader *reader)
{
	return true;
}

static const char *
csv_header(LhReader *reader)
{
	return ((LhCsvReader *) reader)->header;
}

static bool
csv_may_raise(LhReader *reader)
{
	return ((LhCsvReader *) reader)->may_raise;
}

/*
 * The reader's memory goes with the context it was opened in; the large parts of
 * it go at once.
 */
static void
csv_close(LhReader *reader)
{
	LhCsvReader  *csv = (LhCsvReader *) reader;

	lh_input_close(&csv->input);
	if (csv->records != NULL)
		pfree(csv->records);
	if (csv->scan.fields != NULL)
		pfree(csv->scan.fields);
	if (csv->scratch != NULL)
		pfree(csv->scratch);
	pfree(csv);
}

const LhReaderRoutine lh_csv_reader = {
	.format = "csv",
	.validate = csv_validate,
	.open = csv_open,
	.next = csv_next,
	.tell = csv_tell,
	.splits = csv_splits,
	.header = csv_header,
	.may_raise = csv_may_raise,
	.close = csv_close
};
