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

#include "access/htup_details.h"
#include "catalog/options.h"
#include "convert/convert.h"
#include "guc.h"
#include "mb/pg_wchar.h"
#include "source/csv_options.h"
#include "source/csv_scan.h"
#include "source/encoding.h"
#include "source/input.h"
#include "source/reader.h"
#include "utils/memutils.h"

#define MAX_RECORDS 4096		/* of a batch */
#define MAX_HEADER_FIELDS 10000
#define RAW_KEPT (64 * 1024)	/* bytes shown of a record that is too long */

/* One field of a record: where it goes and how. */
typedef struct CsvColumn
{
	int			attribute;		/* index in the tuple descriptor; -1 = no column */
	const char *name;			/* for the sink; NULL = ignored if it is no column */
	int			name_length;
	LhConverter converter;
} CsvColumn;

typedef struct CsvReader
{
	LhCsvOptions options;
	LhEncoding	encoding;
	LhInput		input;
	LhCsvScan	scan;
	uint32		fields_allocated;
	int64		line;			/* lines before the window */

	LhCsvRecord *records;		/* of the batch */
	int			count;
	int			records_allocated;

	CsvColumn  *columns;		/* one for each field, scan.width of them */
	LhFieldSink *sink;			/* or NULL */
	bool		rescue;			/* and it wants what does not convert */
	bool		may_raise;
	char	   *header;			/* header line in the server's encoding, or NULL */
	uint32		null_length;	/* of options.null_value */
	uint32		max_length;		/* bytes that a record may have */

	char	   *scratch;		/* for a field without its escapes */
	uint32		scratch_size;

	int64		end;			/* no record that begins here or behind is read */
	int64		behind;			/* where what follows the batch begins, in bytes of
								 * the window */
	uint32		behind_lines;	/* lines of the window before it */

	bool		jump;			/* behind this batch the reader goes on elsewhere: */
	int64		jump_position;
	int64		jump_line;
	MemoryContext context;
} CsvReader;

static void
csv_validate(Jsonb *json, TupleDesc tupdesc)
{
	LhCsvOptions options;
	LhEncoding	encoding;

	lh_csv_options_parse(json, &options);
	lh_encoding_init(&encoding, options.encoding);
}

/* ------------------------------------------------------------- columns */

static void
use_column(CsvReader *csv, const LhReaderInput *input, int attribute, const char *name)
{
	CsvColumn  *column = &csv->columns[csv->scan.width++];

	column->attribute = attribute;
	if (csv->sink != NULL && (attribute >= 0 || csv->sink->unknown))
	{
		column->name = name;
		column->name_length = strlen(name);
		if (attribute < 0 && csv->sink->declare != NULL)
			csv->sink->declare(csv->sink, column->name, column->name_length);
	}
	if (attribute < 0)
		return;
	lh_converter_init(&column->converter, TupleDescAttr(input->tupdesc, attribute), csv->context);
	csv->may_raise |= column->converter.may_raise;
}

/*
 * Without a header the fields are the columns that a source may fill, in order.
 */
static void
map_by_position(CsvReader *csv, const LhReaderInput *input)
{
	int			i;

	csv->columns = palloc0(sizeof(CsvColumn) * Max(input->tupdesc->natts, 1));
	for (i = 0; i < input->tupdesc->natts; i++)
		if (input->fillable[i] && !TupleDescAttr(input->tupdesc, i)->attisdropped)
			use_column(csv, input, i, NameStr(TupleDescAttr(input->tupdesc, i)->attname));
}

/*
 * Finds the column that a header names: as written, or else without regard to
 * the case of ASCII letters, which SQL folds, if that is asked for.  Returns -1 if
 * there is none.
 */
static int
find_column(TupleDesc tupdesc, const char *name, bool fold)
{
	int			folded = -1;
	int			i;

	for (i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (attribute->attisdropped)
			continue;
		if (strcmp(NameStr(attribute->attname), name) == 0)
			return i;
		if (fold && folded < 0 && pg_strcasecmp(NameStr(attribute->attname), name) == 0)
			folded = i;
	}
	return folded;
}

/*
 * Raises the error for a name in the header that is no column of the table.
 */
static void
refuse_header_name(const LhReaderInput *input, const char *name)
{
	const char **names = palloc0(sizeof(char *) * (input->tupdesc->natts + 1));
	const char *closest;
	int			count = 0;
	int			i;

	for (i = 0; i < input->tupdesc->natts; i++)
		if (input->fillable[i])
			names[count++] = NameStr(TupleDescAttr(input->tupdesc, i)->attname);
	closest = lh_options_closest(name, names);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("header of file \"%s\" names column \"%s\", which the target table does not have",
					input->name, name),
			 closest != NULL ?
			 errhint("Did the file mean \"%s\"? Add the column to the table, or set the option \"ignore_extra_columns\".", closest) :
			 errhint("Add the column to the table, or set the option \"ignore_extra_columns\".")));
}

/*
 * Maps one name of the header to a column.
 */
static void
map_header_name(CsvReader *csv, const LhReaderInput *input, const char *name)
{
	bool		may_be_unknown = csv->options.ignore_extra_columns ||
		(csv->sink != NULL && csv->sink->unknown);
	int			attribute = find_column(input->tupdesc, name,
										csv->sink == NULL || !csv->sink->exact);
	uint32		i;

	if (attribute < 0 && !may_be_unknown)
		refuse_header_name(input, name);
	if (attribute >= 0 && !input->fillable[attribute])
	{
		if (!may_be_unknown)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					 errmsg("header of file \"%s\" names column \"%s\", which a source cannot fill",
							input->name, name),
					 errhint("Set the option \"ignore_extra_columns\" to read the other columns.")));
		attribute = -1;
	}
	for (i = 0; i < csv->scan.width; i++)
		if (attribute >= 0 ? csv->columns[i].attribute == attribute :
			csv->columns[i].attribute < 0 && csv->columns[i].name != NULL &&
			strcmp(csv->columns[i].name, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("header of file \"%s\" names column \"%s\" more than once",
							input->name, name)));
	use_column(csv, input, attribute, name);
}

/*
 * Gives the text of a field: its bytes as they stand, or without their escapes
 * in the reader's scratch memory.
 */
static const char *
field_text(CsvReader *csv, const char *data, const LhCsvField *field, int *length)
{
	const char *p = data + field->start;
	const char *end = p + (field->length & LH_CSV_LENGTH);
	char	   *to;

	*length = end - p;
	if (likely((field->length & LH_CSV_ESCAPED) == 0))
		return p;
	if ((uint32) *length > csv->scratch_size)
	{
		csv->scratch_size = *length;
		if (csv->scratch != NULL)
			pfree(csv->scratch);
		csv->scratch = MemoryContextAllocHuge(csv->context, csv->scratch_size);
	}
	for (to = csv->scratch; p < end; p++)
	{
		if (p + 1 < end &&
			((*p == csv->scan.quote && p[1] == csv->scan.quote) ||
			 (csv->scan.escape != 0 && *p == csv->scan.escape &&
			  (p[1] == csv->scan.quote || p[1] == csv->scan.escape))))
			p++;
		*to++ = *p;
	}
	*length = to - csv->scratch;
	return csv->scratch;
}

/*
 * Maps a header line, which is in the server's encoding, to columns.
 */
static void
map_by_header(CsvReader *csv, const LhReaderInput *input, const char *line)
{
	uint32		length = strlen(line);
	char	   *data = palloc(length + LH_CSV_PADDING);
	LhCsvScan	scan = csv->scan;
	LhCsvRecord record;
	uint32		i;

	memcpy(data, line, length);
	memset(data + length, ' ', LH_CSV_PADDING);
	scan.width = MAX_HEADER_FIELDS;
	scan.fields = palloc(sizeof(LhCsvField) * MAX_HEADER_FIELDS);
	scan.used = 0;
	scan.skip_blank = false;
	lh_csv_feed(&scan, data, length, true);
	if (lh_csv_next(&scan, &record) != LH_CSV_RECORD || record.fault != LH_CSV_GOOD)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("header of file \"%s\" is no CSV record", input->name)));
	if (record.fields > MAX_HEADER_FIELDS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("header of file \"%s\" has more than %d columns", input->name,
						MAX_HEADER_FIELDS)));

	csv->columns = palloc0(sizeof(CsvColumn) * record.fields);
	csv->scan.width = 0;
	for (i = 0; i < record.fields; i++)
	{
		int			name_length;
		const char *name = field_text(csv, data, &scan.fields[i], &name_length);

		map_header_name(csv, input, pnstrdup(name, name_length));
	}
	pfree(scan.fields);
	pfree(data);
}

/* ------------------------------------------------------------- opening */

/*
 * Moves the window so that it begins with the next record, and reads on behind
 * it.  Returns false if the record alone fills it.
 */
static bool
refill(CsvReader *csv)
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
skip_start(CsvReader *csv)
{
	int64		left = csv->options.skip_rows;
	LhCsvScan	whole = csv->scan;
	LhCsvRecord record;

	refill(csv);
	if (csv->input.length >= 3 && memcmp(csv->input.data, "\xEF\xBB\xBF", 3) == 0)
	{
		csv->scan.position = 3;
		refill(csv);
	}

	/* lines, not records: nothing but their ends means anything */
	csv->scan.sep = csv->scan.quote = csv->scan.escape = csv->scan.comment = '\0';
	csv->scan.skip_blank = false;
	csv->scan.width = 0;
	lh_csv_feed(&csv->scan, csv->input.data, csv->input.length, csv->input.last);
	while (left > 0)
	{
		LhCsvResult result = lh_csv_next(&csv->scan, &record);

		if (result == LH_CSV_END)
			break;
		if (result == LH_CSV_RECORD)
			left--;
		else if (!refill(csv))
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("first lines of file \"%s\" are too long", csv->input.name)));
	}
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
map_by_count(CsvReader *csv, const LhReaderInput *input)
{
	LhCsvRecord record;
	LhCsvResult result;
	uint32		count = 0;

	csv->scan.width = 0;
	csv->scan.skip_blank = true;
	while ((result = lh_csv_next(&csv->scan, &record)) == LH_CSV_MORE)
		if (!refill(csv))
			break;
	if (result == LH_CSV_RECORD)
	{
		count = Min(record.fields, MAX_HEADER_FIELDS);
		/* back to where the record begins */
		csv->scan.position = record.start;
		csv->scan.lines = record.line;
		refill(csv);
	}
	csv->columns = palloc0(sizeof(CsvColumn) * Max(count, 1));
	for (uint32 i = 0; i < count; i++)
		use_column(csv, input, -1, psprintf("c%u", i + 1));
}

/*
 * Reads the header line at the start of a file.  An empty file has none.
 */
static void
read_header(CsvReader *csv, const LhReaderInput *input)
{
	LhCsvRecord record;
	LhCsvResult result;
	LhError		error;
	const char *line;
	int			length;

	csv->scan.width = 0;
	csv->scan.skip_blank = true;
	while ((result = lh_csv_next(&csv->scan, &record)) == LH_CSV_MORE)
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
	map_by_header(csv, input, csv->header);
}

static LhReader *
csv_open(const LhReaderInput *input)
{
	CsvReader  *csv = palloc0(sizeof(CsvReader));

	csv->context = CurrentMemoryContext;
	lh_csv_options_parse(input->options, &csv->options);
	lh_encoding_init(&csv->encoding, csv->options.encoding);
	csv->null_length = strlen(csv->options.null_value);
	csv->scan.sep = csv->options.sep;
	csv->scan.quote = csv->options.quote;
	csv->scan.escape = csv->options.escape;
	csv->scan.comment = csv->options.comment;
	csv->line = input->line;
	csv->end = input->end > 0 ? input->end : PG_INT64_MAX;
	csv->sink = input->sink;
	csv->rescue = input->sink != NULL && input->sink->rescue;
	csv->max_length = (uint32) lh_max_record_size * 1024;

	/* room for a record and its line end */
	lh_input_open(&csv->input, input->fd, input->name, input->size, input->position,
				  csv->max_length + 2);
	lh_input_inflate(&csv->input, input->inflate);
	lh_csv_feed(&csv->scan, csv->input.data, 0, false);

	if (input->position == 0)
		skip_start(csv);
	if (!csv->options.header && csv->sink != NULL && csv->sink->positions)
		map_by_count(csv, input);
	else if (!csv->options.header)
		map_by_position(csv, input);
	else if (input->position == 0)
		read_header(csv, input);
	else if (input->header != NULL)
	{
		csv->header = pstrdup(input->header);
		map_by_header(csv, input, csv->header);
	}
	else
		elog(ERROR, "header of a partly loaded file is missing");

	/* an empty line is a record only where one empty field is expected */
	csv->scan.skip_blank = csv->scan.width != 1;
	csv->scan.used = 0;
	csv->behind = csv->scan.position;
	csv->behind_lines = csv->scan.lines;
	return (LhReader *) csv;
}

/* ------------------------------------------------------------- batches */

/*
 * Makes room for one more record and its fields.
 */
static inline void
make_room(CsvReader *csv)
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
 * The record at the start of the window is too long for it: makes a batch of its
 * first bytes, and finds where the next record begins.
 */
static void
give_long_record(CsvReader *csv)
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
		if (record->end > 0 && csv->input.data[record->end - 1] == '\n')
			record->end--;
		if (record->end > 0 && csv->input.data[record->end - 1] == '\r')
			record->end--;
	}
	csv->jump = true;
	csv->jump_position = csv->input.offset + skip.offset;
	csv->jump_line = csv->line + skip.lines;
}

/*
 * Goes to where the record that was too long ends.
 */
static void
jump(CsvReader *csv)
{
	csv->jump = false;
	csv->line = csv->jump_line;
	lh_input_seek(&csv->input, csv->jump_position);
	csv->scan.position = 0;
	csv->scan.lines = 0;
	refill(csv);
	csv->behind = 0;
}

static bool csv_fill(void *reader, int i, Datum *values, bool *nulls,
					 LhError *error, const char **column);
static void csv_place(void *reader, int i, LhPlace *place);

/*
 * Takes away the records that begin at the place where the read is to stop, or
 * behind it.  The place stays unreached if it lies within a record.
 */
static void
drop_beyond_end(CsvReader *csv)
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
collect_records(CsvReader *csv)
{
	while (csv->count < MAX_RECORDS)
	{
		LhCsvResult result;

		make_room(csv);
		csv->behind = csv->scan.position;
		csv->behind_lines = csv->scan.lines;
		result = lh_csv_next(&csv->scan, &csv->records[csv->count]);
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
	CsvReader  *csv = (CsvReader *) reader;

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
	records->fill = csv_fill;
	records->place = csv_place;
	return csv->count > 0;
}

static bool
report_fault(CsvReader *csv, const LhCsvRecord *record, LhError *error)
{
	switch (record->fault)
	{
		case LH_CSV_OPEN_QUOTE:
			return lh_error_set(error, ERRCODE_BAD_COPY_FILE_FORMAT,
								"a quoted field has no closing quote");
		case LH_CSV_AFTER_QUOTE:
			return lh_error_set(error, ERRCODE_BAD_COPY_FILE_FORMAT,
								"there is data behind the closing quote of a field");
		case LH_CSV_TOO_LONG:
			return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
								"record is longer than %d kB", lh_max_record_size);
		default:
			return lh_error_set(error, ERRCODE_BAD_COPY_FILE_FORMAT,
								"record has %u fields, but %u are expected",
								record->fields, csv->scan.width);
	}
}

/*
 * Converts one field that is not NULL.
 */
static inline bool
fill_field(CsvReader *csv, CsvColumn *column, const LhCsvField *field, bool plain,
		   Datum *value, LhError *error)
{
	int			length;
	const char *text = field_text(csv, csv->input.data, field, &length);

	if (length == 0 && (field->length & LH_CSV_QUOTED) != 0)
	{
		text = csv->options.empty_value;
		length = strlen(text);
	}
	else if (unlikely(!plain) && OidIsValid(csv->encoding.conversion) &&
			 !lh_encoding_convert(&csv->encoding, text, length, &text, &length, error))
		return false;
	return lh_convert(&column->converter, text, length, value, error);
}

/*
 * Tells the sink of a field that is no column or does not convert.  False if the
 * text has no equivalent in the server's encoding.
 */
static bool
give_to_sink(CsvReader *csv, const CsvColumn *column, const LhCsvField *field, bool plain,
			 LhError *error)
{
	LhField		told = {.mismatch = column->attribute >= 0, .name = column->name,
	.name_length = column->name_length, .kind = LH_FIELD_TEXT};

	if (field->length == csv->null_length &&
		memcmp(csv->input.data + field->start, csv->options.null_value, csv->null_length) == 0)
		told.kind = LH_FIELD_NULL;
	else
	{
		told.text = field_text(csv, csv->input.data, field, &told.length);
		if (told.length == 0 && (field->length & LH_CSV_QUOTED) != 0)
		{
			told.text = csv->options.empty_value;
			told.length = strlen(told.text);
		}
		else if (!plain && !lh_encoding_convert(&csv->encoding, told.text, told.length,
												&told.text, &told.length, error))
			return false;
		/* the scratch memory is the next field's */
		if (told.text == csv->scratch)
		{
			char	   *copy = palloc(told.length + 1);

			memcpy(copy, told.text, told.length);
			told.text = copy;
		}
	}
	csv->sink->take(csv->sink, &told);
	return true;
}

/*
 * Converts one field whose failure is no failure of the record: the sink gets
 * what does not convert, and the column NULL.
 */
static bool
fill_or_give(CsvReader *csv, CsvColumn *column, const LhCsvField *field, bool plain,
			 Datum *value, bool *isnull, LhError *error)
{
	int			length;
	const char *text = field_text(csv, csv->input.data, field, &length);

	if (length == 0 && (field->length & LH_CSV_QUOTED) != 0)
	{
		text = csv->options.empty_value;
		length = strlen(text);
	}
	else if (!plain && !lh_encoding_convert(&csv->encoding, text, length, &text, &length, error))
		return false;
	if (lh_convert_guarded(&column->converter, text, length, value, error))
		return true;
	lh_convert_null(&column->converter, value, isnull);
	return give_to_sink(csv, column, field, plain, error);
}

static bool
csv_fill(void *reader, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	CsvReader  *csv = (CsvReader *) reader;
	const LhCsvRecord *record = &csv->records[i];
	const LhCsvField *field = &csv->scan.fields[record->first_field];
	const LhCsvField *end = field + csv->scan.width;
	CsvColumn  *target = csv->columns;
	const char *data = csv->input.data;

	*column = NULL;
	if (unlikely(record->fault != LH_CSV_GOOD || record->fields != csv->scan.width))
	{
		/* fields beyond the header have no name to be rescued under */
		if (record->fault != LH_CSV_GOOD || !csv->options.ragged ||
			(csv->rescue && record->fields > csv->scan.width))
			return report_fault(csv, record, error);
		if (record->fields < csv->scan.width)
			end = field + record->fields;
	}
	if (unlikely(!record->plain) &&
		!lh_encoding_check(&csv->encoding, data + record->start,
						   record->end - record->start, error))
		return false;

	for (; field < end; field++, target++)
	{
		if (target->attribute < 0)
		{
			*column = NULL;
			if (target->name != NULL && !give_to_sink(csv, target, field, record->plain, error))
				return false;
			continue;
		}
		if (field->length == csv->null_length &&
			memcmp(data + field->start, csv->options.null_value, csv->null_length) == 0)
		{
			lh_convert_null(&target->converter, &values[target->attribute],
							&nulls[target->attribute]);
			continue;
		}
		nulls[target->attribute] = false;
		if (csv->may_raise)
			*column = target->converter.column;
		if (unlikely(csv->rescue))
		{
			if (!fill_or_give(csv, target, field, record->plain, &values[target->attribute],
							  &nulls[target->attribute], error))
			{
				*column = NULL;
				return false;
			}
		}
		else if (!fill_field(csv, target, field, record->plain, &values[target->attribute], error))
		{
			*column = target->converter.column;
			return false;
		}
	}
	for (; unlikely(target < csv->columns + csv->scan.width); target++)
		if (target->attribute >= 0)
			lh_convert_null(&target->converter, &values[target->attribute],
							&nulls[target->attribute]);
	return true;
}

static void
csv_place(void *reader, int i, LhPlace *place)
{
	CsvReader  *csv = (CsvReader *) reader;
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
	CsvReader  *csv = (CsvReader *) reader;

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
	return ((CsvReader *) reader)->header;
}

static bool
csv_may_raise(LhReader *reader)
{
	return ((CsvReader *) reader)->may_raise;
}

/*
 * The reader's memory goes with the context it was opened in; the large parts of
 * it go at once.
 */
static void
csv_close(LhReader *reader)
{
	CsvReader  *csv = (CsvReader *) reader;

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
