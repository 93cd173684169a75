/*
 * csv_columns.c
 *	  Which field of a CSV record goes to which column.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/options.h"
#include "source/csv_internal.h"

static void
use_column(LhCsvReader *csv, const LhReaderInput *input, int attribute, const char *name)
{
	LhCsvColumn  *column = &csv->columns[csv->scan.width++];

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
	lh_converter_adapt(&column->converter, &csv->options.convert, csv->context);
	csv->may_raise |= column->converter.may_raise;
}

/*
 * Without a header the fields are the columns that a source may fill, in order.
 */
void
lh_csv_map_by_position(LhCsvReader *csv, const LhReaderInput *input)
{
	int			i;

	csv->columns = palloc0(sizeof(LhCsvColumn) * Max(input->tupdesc->natts, 1));
	for (i = 0; i < input->tupdesc->natts; i++)
		if (input->fillable[i] && !TupleDescAttr(input->tupdesc, i)->attisdropped)
			use_column(csv, input, i, NameStr(TupleDescAttr(input->tupdesc, i)->attname));
}

/*
 * Without a table the fields have numbers.
 */
void
lh_csv_map_by_count(LhCsvReader *csv, const LhReaderInput *input, uint32 count)
{
	csv->columns = palloc0(sizeof(LhCsvColumn) * Max(count, 1));
	for (uint32 i = 0; i < count; i++)
		use_column(csv, input, -1, psprintf("c%u", i + 1));
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
map_header_name(LhCsvReader *csv, const LhReaderInput *input, const char *name)
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
 * Maps a header line, which is in the server's encoding, to columns.
 */
void
lh_csv_map_by_header(LhCsvReader *csv, const LhReaderInput *input, const char *line)
{
	uint32		length = strlen(line);
	char	   *data = palloc(length + LH_CSV_PADDING);
	LhCsvScan	scan = csv->scan;
	LhCsvRecord record;
	uint32		i;

	memcpy(data, line, length);
	memset(data + length, ' ', LH_CSV_PADDING);
	scan.width = LH_CSV_MAX_HEADER_FIELDS;
	scan.fields = palloc(sizeof(LhCsvField) * LH_CSV_MAX_HEADER_FIELDS);
	scan.used = 0;
	scan.skip_blank = false;
	lh_csv_feed(&scan, data, length, true);
	if (lh_csv_next_record(&scan, &record) != LH_CSV_RECORD || record.fault != LH_CSV_GOOD)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("header of file \"%s\" is no CSV record", input->name)));
	if (record.fields > LH_CSV_MAX_HEADER_FIELDS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("header of file \"%s\" has more than %d columns", input->name,
						LH_CSV_MAX_HEADER_FIELDS)));

	csv->columns = palloc0(sizeof(LhCsvColumn) * record.fields);
	csv->scan.width = 0;
	for (i = 0; i < record.fields; i++)
	{
		int			name_length;
		const char *name = lh_csv_field_text(csv, data, &scan.fields[i], &name_length);

		map_header_name(csv, input, pnstrdup(name, name_length));
	}
	pfree(scan.fields);
	pfree(data);
}
