/*
 * file_metadata.c
 *	  Columns of the target that tell where a row came from: option "metadata".
 *
 * The option is an object: name of a target column -> name of a fact.  The load
 * of a row leads to the same facts without storing them in every row.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "bronze/file_metadata.h"
#include "catalog/options.h"

#define OPTION "metadata"

typedef enum Fact
{
	FACT_FILE_PATH,
	FACT_FILE_NAME,
	FACT_FILE_SIZE,
	FACT_FILE_MTIME,
	FACT_LINE,
	FACT_BYTE_OFFSET,
	FACT_LOAD_TIME,
	FACT_SOURCE
} Fact;

static const char *const fact_names[] = {"file_path", "file_name", "file_size", "file_mtime",
"line", "byte_offset", "load_time", "source", NULL};
static const Oid fact_types[] = {TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID,
INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID};

typedef struct FactColumn
{
	int			column;			/* from 0 */
	Fact		fact;
	Datum		value;			/* of the file at hand, unless it differs by row */
} FactColumn;

struct LhFileMetadata
{
	int			count;
	FactColumn *columns;
	bool		by_row;			/* some fact differs by row */
	const LhRecords *inner;
	LhRecords	outer;
};

typedef void (*PairFunction) (const char *column, const char *fact, void *arg);

static int	find_fact(const char *name);
static void add_column(LhFileMetadata *metadata, TupleDesc tupdesc, const char *column,
					   const char *fact, bool *fillable);

/*
 * for_each_pair calls "found" for each column and its fact.
 */
static void
for_each_pair(Jsonb *options, PairFunction found, void *arg)
{
	JsonbValue *object = getKeyJsonValueFromContainer(&options->root, OPTION, strlen(OPTION), NULL);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *column = NULL;

	if (object == NULL || object->type == jbvNull)
		return;
	if (object->type != jbvBinary || !JsonContainerIsObject(object->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be an object", OPTION),
				 errhint("For example {\"%s\": {\"source_file\": \"file_path\"}}.", OPTION)));
	iterator = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			column = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (value.type != jbvString)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"%s\" must name a fact for column \"%s\"", OPTION, column),
						 errhint("Facts are file_path, file_name, file_size, file_mtime, line, byte_offset, load_time and source.")));
			found(column, pnstrdup(value.val.string.val, value.val.string.len), arg);
		}
	}
}

/* Where lh_file_metadata_parse puts what it finds. */
typedef struct Parse
{
	LhFileMetadata *metadata;
	TupleDesc	tupdesc;
	bool	   *fillable;
} Parse;

static void
parse_pair(const char *column, const char *fact, void *arg)
{
	Parse	   *parse = arg;

	add_column(parse->metadata, parse->tupdesc, column, fact, parse->fillable);
}

/*
 * lh_file_metadata_parse returns the columns, in the current context.
 */
LhFileMetadata *
lh_file_metadata_parse(Jsonb *options, TupleDesc tupdesc, bool *fillable)
{
	Parse		parse = {palloc0(sizeof(LhFileMetadata)), tupdesc, fillable};

	parse.metadata->columns = palloc0(sizeof(FactColumn) * tupdesc->natts);
	for_each_pair(options, parse_pair, &parse);
	return parse.metadata;
}

/* Where lh_file_metadata_list gives what it finds. */
typedef struct Listing
{
	void		(*found) (const char *column, Oid type, void *arg);
	void	   *arg;
} Listing;

static void
list_pair(const char *column, const char *fact, void *arg)
{
	Listing    *listing = arg;

	listing->found(column, fact_types[find_fact(fact)], listing->arg);
}

void
lh_file_metadata_list(Jsonb *options, void (*found) (const char *column, Oid type, void *arg),
					  void *arg)
{
	Listing		listing = {found, arg};

	for_each_pair(options, list_pair, &listing);
}

static int
find_fact(const char *name)
{
	for (int fact = 0; fact_names[fact] != NULL; fact++)
		if (strcmp(fact_names[fact], name) == 0)
			return fact;
	lh_options_refuse(name, fact_names, "metadata fact");
}

static void
add_column(LhFileMetadata *metadata, TupleDesc tupdesc, const char *column,
		   const char *fact_name, bool *fillable)
{
	int			fact = find_fact(fact_name);
	int			number = SPI_fnumber(tupdesc, column) - 1;
	Form_pg_attribute attribute;

	if (number < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of option \"%s\" does not exist in the target", column, OPTION),
				 errhint("The option maps columns of the target table to facts.")));
	attribute = TupleDescAttr(tupdesc, number);
	if (attribute->atttypid != fact_types[fact] || attribute->attgenerated ||
		attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS || strcmp(column, "_load_id") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" cannot hold %s", column, fact_name),
				 errdetail("The column must be an ordinary one of type %s.",
						   format_type_be(fact_types[fact]))));
	metadata->columns[metadata->count].column = number;
	metadata->columns[metadata->count++].fact = fact;
	if (fact == FACT_LINE || fact == FACT_BYTE_OFFSET)
		metadata->by_row = true;
	if (fillable != NULL)
		fillable[number] = false;
}

TimestampTz
lh_file_timestamp(int64 mtime_ns)
{
	int64		us = mtime_ns >= 0 ? mtime_ns / 1000 : -((-mtime_ns + 999) / 1000);

	return us - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/*
 * lh_file_metadata_begin sets what is the same for all rows of a file; values
 * are made in the current context, which must outlive the file's records.
 */
void
lh_file_metadata_begin(LhFileMetadata *metadata, const LhFileFacts *facts)
{
	const char *slash = strrchr(facts->path, '/');

	for (int i = 0; i < metadata->count; i++)
	{
		FactColumn *column = &metadata->columns[i];

		switch (column->fact)
		{
			case FACT_FILE_PATH:
				column->value = CStringGetTextDatum(facts->path);
				break;
			case FACT_FILE_NAME:
				column->value = CStringGetTextDatum(slash ? slash + 1 : facts->path);
				break;
			case FACT_FILE_SIZE:
				column->value = Int64GetDatum(facts->size);
				break;
			case FACT_FILE_MTIME:
				column->value = TimestampTzGetDatum(lh_file_timestamp(facts->mtime_ns));
				break;
			case FACT_LOAD_TIME:
				column->value = TimestampTzGetDatum(GetCurrentTimestamp());
				break;
			case FACT_SOURCE:
				column->value = CStringGetTextDatum(facts->source);
				break;
			case FACT_LINE:
			case FACT_BYTE_OFFSET:
				break;
		}
	}
}

static bool
fill_with_facts(void *arg, int i, Datum *values, bool *nulls,
				LhError *error, const char **column)
{
	LhFileMetadata *metadata = arg;
	const LhRecords *inner = metadata->inner;
	LhPlace		place = {.byte_offset = -1};

	if (!inner->fill(inner->reader, i, values, nulls, error, column))
		return false;
	if (metadata->by_row)
		inner->place(inner->reader, i, &place);
	for (int n = 0; n < metadata->count; n++)
	{
		const FactColumn *fact = &metadata->columns[n];

		nulls[fact->column] = false;
		if (fact->fact == FACT_LINE)
			values[fact->column] = Int64GetDatum(place.line);
		else if (fact->fact == FACT_BYTE_OFFSET)
			values[fact->column] = Int64GetDatum(place.byte_offset);
		else
			values[fact->column] = fact->value;
	}
	return true;
}

static void
place_of_inner(void *arg, int i, LhPlace *place)
{
	LhFileMetadata *metadata = arg;

	metadata->inner->place(metadata->inner->reader, i, place);
}

const LhRecords *
lh_file_metadata_wrap(LhFileMetadata *metadata, const LhRecords *inner)
{
	if (metadata->count == 0)
		return inner;
	metadata->inner = inner;
	metadata->outer.count = inner->count;
	metadata->outer.reader = metadata;
	metadata->outer.fill = fill_with_facts;
	metadata->outer.place = place_of_inner;
	return &metadata->outer;
}
