/*
 * binary_reader.c
 *	  Whole files as they are: one record for each, with path, modification time,
 *	  length and content.
 *
 * Each fact goes to the column of its name; at least one must be there.  Without
 * a column for the content the file is not read at all.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "catalog/options.h"
#include "catalog/pg_type.h"
#include "guc.h"
#include "source/file_open.h"
#include "source/input.h"
#include "source/reader.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define RAW_KEPT (64 * 1024)	/* bytes shown of a file that is too long */

typedef enum BinaryFact
{
	FACT_PATH,
	FACT_MODIFICATION_TIME,
	FACT_LENGTH,
	FACT_CONTENT
} BinaryFact;

#define FACTS (FACT_CONTENT + 1)

static const struct
{
	const char *name;
	const char *other;			/* as the same fact is called elsewhere */
	Oid			type;
	const char *type_name;
}			facts[FACTS] = {
	[FACT_PATH] = {"path", NULL, TEXTOID, "text"},
	[FACT_MODIFICATION_TIME] = {"modification_time", "modificationTime", TIMESTAMPTZOID, "timestamp with time zone"},
	[FACT_LENGTH] = {"length", NULL, INT8OID, "bigint"},
	[FACT_CONTENT] = {"content", NULL, BYTEAOID, "bytea"}
};

typedef struct BinaryReader
{
	LhInput		input;
	int			attributes[FACTS];	/* columns, or -1 */
	Datum		values[FACTS];
	bool		given;			/* the record was, or there is none */
	bool		too_long;
	char	   *content;		/* bytes read, of the file or its start */
	uint32		content_length;
} BinaryReader;

static const char *const option_names[] = {NULL};

/*
 * Finds the columns, those that may be filled if "fillable" tells; raises 42703 if
 * there is none and 42804 for one of another type.
 */
static void
find_columns(TupleDesc tupdesc, const bool *fillable, int *attributes)
{
	int			found = 0;

	for (int fact = 0; fact < FACTS; fact++)
	{
		attributes[fact] = -1;
		for (int i = 0; i < tupdesc->natts; i++)
		{
			Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
			const char *name = NameStr(attribute->attname);

			if (attribute->attisdropped || (fillable != NULL && !fillable[i]) ||
				(strcmp(name, facts[fact].name) != 0 &&
				 (facts[fact].other == NULL || pg_strcasecmp(name, facts[fact].other) != 0)))
				continue;
			if (attribute->atttypid != facts[fact].type)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("column \"%s\" is of type %s, but format \"binary\" fills it with %s",
								name, format_type_be(attribute->atttypid),
								format_type_be(facts[fact].type))));
			attributes[fact] = i;
			found++;
		}
	}
	if (found == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the target table has no column for format \"binary\""),
				 errhint("The columns are path text, modification_time timestamptz, length bigint and content bytea; at least one of them is needed.")));
}

static void
binary_validate(Jsonb *options, TupleDesc tupdesc)
{
	int			attributes[FACTS];

	lh_options_check(options, option_names, "binary option");
	find_columns(tupdesc, NULL, attributes);
}

/*
 * A table for files has a column for each fact.
 */
static const LhReaderColumn *
binary_columns(Jsonb *options)
{
	LhReaderColumn *columns = palloc0(sizeof(LhReaderColumn) * (FACTS + 1));

	for (int fact = 0; fact < FACTS; fact++)
		columns[fact] = (LhReaderColumn) {facts[fact].name, facts[fact].type_name, facts[fact].type};
	return columns;
}

static LhReader *
binary_open(const LhReaderInput *input)
{
	BinaryReader *reader = palloc0(sizeof(BinaryReader));
	struct stat status;
	TimestampTz modified;

	lh_options_check(input->options, option_names, "binary option");
	find_columns(input->tupdesc, input->fillable, reader->attributes);
	if (fstat(input->fd, &status) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", input->name)));
	modified = lh_file_mtime_ns(&status) / 1000 -
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	/* the file itself is what a record is made of: its bytes alone are none */
	reader->given = input->single;
	reader->values[FACT_PATH] = CStringGetTextDatum(input->name);
	reader->values[FACT_MODIFICATION_TIME] = TimestampTzGetDatum(modified);
	reader->values[FACT_LENGTH] = Int64GetDatum(input->size);
	lh_input_open(&reader->input, input->fd, input->name, input->size, 0, 0);
	return (LhReader *) reader;
}

/*
 * Reads the file, or the start of one that is too long.
 */
static void
read_content(BinaryReader *reader)
{
	int64		size = reader->input.size;
	bytea	   *result;

	reader->too_long = size > (int64) lh_max_record_size * 1024;
	if (reader->too_long)
		size = RAW_KEPT;
	result = palloc(size + VARHDRSZ);
	SET_VARSIZE(result, size + VARHDRSZ);
	reader->content = VARDATA(result);
	while (reader->content_length < size)
		reader->content_length += lh_input_peek(&reader->input, reader->content_length,
												reader->content + reader->content_length,
												size - reader->content_length);
	reader->values[FACT_CONTENT] = PointerGetDatum(result);
}

static bool
binary_fill(void *arg, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	BinaryReader *reader = (BinaryReader *) arg;

	*column = NULL;
	if (reader->too_long)
	{
		*column = facts[FACT_CONTENT].name;
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"file is longer than %d kB", lh_max_record_size);
	}
	for (int fact = 0; fact < FACTS; fact++)
		if (reader->attributes[fact] >= 0)
		{
			values[reader->attributes[fact]] = reader->values[fact];
			nulls[reader->attributes[fact]] = false;
		}
	return true;
}

static void
binary_place(void *arg, int i, LhPlace *place)
{
	BinaryReader *reader = (BinaryReader *) arg;

	memset(place, 0, sizeof(*place));
	place->line = 1;
	place->raw = reader->content != NULL ? reader->content : "";
	place->raw_length = reader->content_length;
}

static bool
binary_next(LhReader *arg, LhRecords *records)
{
	BinaryReader *reader = (BinaryReader *) arg;

	if (reader->given)
		return false;
	reader->given = true;
	if (reader->attributes[FACT_CONTENT] >= 0)
		read_content(reader);
	records->count = 1;
	records->reader = reader;
	records->fill = binary_fill;
	records->place = binary_place;
	return true;
}

static void
binary_tell(LhReader *arg, int64 *position, int64 *line)
{
	BinaryReader *reader = (BinaryReader *) arg;

	*position = reader->given ? reader->input.size : 0;
	*line = reader->given;
}

static const char *
binary_header(LhReader *arg)
{
	return NULL;
}

static bool
binary_may_raise(LhReader *arg)
{
	return false;
}

static void
binary_close(LhReader *arg)
{
	BinaryReader *reader = (BinaryReader *) arg;

	lh_input_close(&reader->input);
	if (reader->content != NULL)
		pfree(DatumGetPointer(reader->values[FACT_CONTENT]));
	pfree(reader);
}

const LhReaderRoutine lh_binary_reader = {
	.format = "binary",
	.columns = binary_columns,
	.raw = true,
	.validate = binary_validate,
	.open = binary_open,
	.next = binary_next,
	.tell = binary_tell,
	.header = binary_header,
	.may_raise = binary_may_raise,
	.close = binary_close
};
