/*
 * csv_fill.c
 *	  From the fields of a CSV record to the values of a row.
 *
 * There are two ways: the usual one, and one for the options that need a closer
 * look at each field.  Which of them is chosen when the reader is opened, so that
 * the usual one asks for no option.
 */
#include "postgres.h"

#include "guc.h"
#include "mb/pg_wchar.h"
#include "source/csv_internal.h"

static bool
report_fault(LhCsvReader *csv, const LhCsvRecord *record, LhError *error)
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
 * Is the field a null marker?  A quoted field never is: its length holds a flag.
 */
static inline bool
is_null(const LhCsvReader *csv, const LhCsvField *field, const bool special)
{
	const char *text = csv->input.data + field->start;

	if (field->length == csv->null_length &&
		memcmp(text, csv->options.null_value, csv->null_length) == 0)
		return true;
	if (special && csv->options.more_nulls != NULL)
		for (char **marker = csv->options.more_nulls; *marker != NULL; marker++)
			if (field->length == strlen(*marker) && memcmp(text, *marker, field->length) == 0)
				return true;
	return false;
}

/*
 * Gives the text of a field that is not NULL, in the server's encoding.  It may be
 * in the reader's scratch memory, which is the next field's.
 */
static inline bool
get_text(LhCsvReader *csv, const LhCsvField *field, bool plain, const char **text, int *length,
		 LhError *error, const bool special)
{
	*text = lh_csv_field_text(csv, csv->input.data, field, length);
	if (*length == 0 && (field->length & LH_CSV_QUOTED) != 0)
	{
		*text = csv->options.empty_value;
		*length = strlen(*text);
	}
	else if (unlikely(!plain) && (OidIsValid(csv->encoding.conversion) || (special && csv->encoding.replace)) &&
			 !lh_encoding_convert(&csv->encoding, *text, *length, text, length, error))
		return false;
	if (special && csv->options.max_chars >= 0 && *length > csv->options.max_chars &&
		pg_mbstrlen_with_len(*text, *length) > csv->options.max_chars)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"a field is longer than the " INT64_FORMAT " characters of option \"max_chars_per_column\"",
							csv->options.max_chars);
	return true;
}

/*
 * Tells the sink of a field that is no column or does not convert.  False if its
 * text cannot be had.
 */
static bool
give_to_sink(LhCsvReader *csv, const LhCsvColumn *column, const LhCsvField *field, bool plain,
			 LhError *error, const bool special)
{
	LhField		told = {.mismatch = column->attribute >= 0, .name = column->name,
	.name_length = column->name_length, .kind = LH_FIELD_TEXT};

	if (is_null(csv, field, special))
		told.kind = LH_FIELD_NULL;
	else
	{
		if (!get_text(csv, field, plain, &told.text, &told.length, error, special))
			return false;
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
 * Converts one field that is not NULL.  If values are to be rescued, one that does
 * not convert goes to the sink, and the column becomes NULL.
 */
static inline bool
fill_field(LhCsvReader *csv, LhCsvColumn *column, const LhCsvField *field, bool plain,
		   Datum *value, bool *isnull, LhError *error, const bool special)
{
	const char *text;
	int			length;

	if (!get_text(csv, field, plain, &text, &length, error, special))
		return false;
	if (likely(!csv->rescue))
		return lh_convert(&column->converter, text, length, value, error);
	if (lh_convert_guarded(&column->converter, text, length, value, error))
		return true;
	lh_convert_null(&column->converter, value, isnull);
	return give_to_sink(csv, column, field, plain, error, special);
}

/*
 * Fills record i; "special" is a constant in each place of call.
 */
static pg_attribute_always_inline bool
fill_record(LhCsvReader *csv, int i, Datum *values, bool *nulls, LhError *error,
			const char **column, const bool special)
{
	const LhCsvRecord *record = &csv->records[i];
	const LhCsvField *field = &csv->scan.fields[record->first_field];
	const LhCsvField *end = field + csv->scan.width;
	LhCsvColumn *target = csv->columns;

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
	if (unlikely(!record->plain) && !(special && csv->encoding.replace) &&
		!lh_encoding_check(&csv->encoding, csv->input.data + record->start,
						   record->end - record->start, error))
		return false;

	for (; field < end; field++, target++)
	{
		if (target->attribute < 0)
		{
			*column = NULL;
			if (target->name != NULL &&
				!give_to_sink(csv, target, field, record->plain, error, special))
				return false;
			continue;
		}
		if (is_null(csv, field, special))
		{
			lh_convert_null(&target->converter, &values[target->attribute],
							&nulls[target->attribute]);
			continue;
		}
		nulls[target->attribute] = false;
		if (csv->may_raise)
			*column = target->converter.column;
		if (!fill_field(csv, target, field, record->plain, &values[target->attribute],
						&nulls[target->attribute], error, special))
		{
			/* what cannot even be rescued is no matter of the column */
			*column = csv->rescue ? NULL : target->converter.column;
			return false;
		}
	}
	for (; unlikely(target < csv->columns + csv->scan.width); target++)
		if (target->attribute >= 0)
			lh_convert_null(&target->converter, &values[target->attribute],
							&nulls[target->attribute]);
	return true;
}

bool
lh_csv_fill(void *reader, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	return fill_record(reader, i, values, nulls, error, column, false);
}

bool
lh_csv_fill_special(void *reader, int i, Datum *values, bool *nulls, LhError *error,
					const char **column)
{
	return fill_record(reader, i, values, nulls, error, column, true);
}
