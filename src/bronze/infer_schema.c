/*
 * infer_schema.c
 *	  Columns and their types from what is in the files.
 *
 * The format's own reader reads a sample into no columns at all: then every
 * field is one that the table does not have, and is told to our sink.  So what
 * is inferred and what is loaded are read by the same code.
 *
 * Invariant: the result depends on the files and the limits of the sample only.
 * Files are taken in the order of their paths (as bytes), each with an equal
 * share of the rows.
 */
#include "postgres.h"

#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "bronze/corrupt_record.h"
#include "bronze/file_ingest.h"
#include "bronze/file_metadata.h"
#include "bronze/file_options.h"
#include "bronze/file_schema.h"
#include "bronze/infer_schema.h"
#include "bronze/partition_path.h"
#include "bronze/schema_hint.h"
#include "catalog/catalog_access.h"
#include "catalog/options.h"
#include "catalog/subtransaction.h"
#include "convert/guess.h"
#include "delta/load.h"
#include "source/file_list.h"
#include "source/reader.h"

#define SAMPLE_ROWS 100000
#define SAMPLE_FILES 1000
#define MAX_SAMPLE_FILES 100000

/* rows that each file of a sample gives at least */
#define SHARE_OF_FILE 100

PG_FUNCTION_INFO_V1(lakehouse_infer_schema);

/* One inferred column. */
typedef struct Column
{
	const char *name;
	const char *type;
	const LhGuess *guess;		/* NULL = known from a hint only */
} Column;

typedef struct Sample
{
	LhFieldSink sink;			/* first: the reader's pointer is ours */
	Oid			server;
	const char *path;
	LhFileSelection selection;
	const LhReaderRoutine *reader;
	const LhReaderColumn *fixed;	/* columns of the format; NULL = to be inferred */
	LhGuessOptions guess;
	LhGuessOptions folder_guess;
	Jsonb	   *options;
	LhInflateOptions inflate;
	char	  **partitions;
	int			max_columns;
	int			max_files;
	int64		max_rows;

	char	  **files;			/* chosen */
	int			file_count;
	int			file_allocated;

	LhGuesses  *fields;
	LhGuesses  *folders;		/* partition columns */
	int64		rows;

	LhField    *record;			/* fields of the record at hand */
	int			count;
	int			allocated;
	MemoryContext context;
} Sample;

/* -------------------------------------------------------- choosing files */

static int
compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * Keeps the first files by path, whatever the number of all.
 */
static void
trim_files(Sample *sample)
{
	qsort(sample->files, sample->file_count, sizeof(char *), compare_paths);
	while (sample->file_count > sample->max_files)
		pfree(sample->files[--sample->file_count]);
}

static void
add_file(const LhListed *listed, void *arg)
{
	Sample	   *sample = arg;

	if (listed->problem != NULL || listed->size == 0)
		return;
	if (sample->file_count == sample->file_allocated)
		trim_files(sample);
	sample->files[sample->file_count++] = MemoryContextStrdup(sample->context, listed->path);
}

/* -------------------------------------------------------- reading a file */

static void
take_field(LhFieldSink *sink, const LhField *field)
{
	Sample	   *sample = (Sample *) sink;

	if (sample->count == sample->allocated)
	{
		sample->allocated = Max(sample->allocated * 2, 64);
		sample->record = sample->record == NULL ?
			MemoryContextAlloc(sample->context, sizeof(LhField) * sample->allocated) :
			repalloc(sample->record, sizeof(LhField) * sample->allocated);
	}
	sample->record[sample->count++] = *field;
}

/*
 * Finds a field by its name, or adds it within the limit.
 */
static LhGuess *
find_field(Sample *sample, const char *name, int length)
{
	LhGuess    *guess = lh_guesses_find(sample->fields, name, length, false);

	if (guess != NULL)
		return guess;
	if (sample->fields->count >= sample->max_columns)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("files of path \"%s\" have more than %d fields", sample->path, sample->max_columns),
				 errhint("Create a table with the columns you want and a column \"%s\" of type jsonb for the others, or set the option \"max_columns\".",
						 LH_RESCUED_COLUMN)));
	return lh_guesses_find(sample->fields, name, length, true);
}

static void
declare_field(LhFieldSink *sink, const char *name, int length)
{
	Sample	   *sample = (Sample *) sink;

	(void) find_field(sample, name, length);
}

/*
 * A record that could be read as a whole counts.
 */
static void
count_record(Sample *sample)
{
	sample->rows++;
	for (int i = 0; i < sample->count; i++)
	{
		const LhField *field = &sample->record[i];

		lh_guess_add(sample->fields, find_field(sample, field->name, field->name_length),
					 field->kind, field->text, field->length, 1);
	}
}

static void
read_file(Sample *sample, const LhDescriptor *root, const char *path, int64 limit)
{
	LhDescriptor *descriptor = lh_file_open(root, path);
	bool		no_columns = false;
	LhReaderInput input = {.name = path, .tupdesc = CreateTemplateTupleDesc(0),
		.fillable = &no_columns,
	.options = sample->options, .sink = &sample->sink};
	MemoryContext record_context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse record",
														 ALLOCSET_DEFAULT_SIZES);
	LhReader   *reader;
	LhRecords	records;
	int64		end = sample->rows + limit;

	if (descriptor == NULL)
		return;
	input.fd = descriptor->fd;
	input.size = descriptor->status.st_size;
	if (!sample->reader->raw)
		input.inflate = lh_inflate_open(input.fd, input.name, input.size, &sample->inflate);
	reader = sample->reader->open(&input);
	while (sample->rows < end && sample->reader->next(reader, &records))
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(record_context);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < records.count && sample->rows < end; i++)
		{
			LhError		error;
			const char *column;

			sample->count = 0;
			if (records.fill(records.reader, i, NULL, NULL, &error, &column))
				count_record(sample);
			MemoryContextReset(record_context);
		}
		MemoryContextSwitchTo(oldcontext);
	}
	sample->reader->close(reader);
	lh_descriptor_close(descriptor);
}

/*
 * Counts what the folders of a file say, once for each of its rows.
 */
static void
count_folders(Sample *sample, const char *path, int64 rows)
{
	for (int i = 0; sample->partitions[i] != NULL && rows > 0; i++)
	{
		char	   *value = lh_partition_value(path, sample->partitions[i]);
		LhGuess    *guess = lh_guesses_find(sample->folders, sample->partitions[i],
											strlen(sample->partitions[i]), true);

		lh_guess_add(sample->folders, guess, value != NULL ? LH_FIELD_TEXT : LH_FIELD_NULL,
					 value, value != NULL ? strlen(value) : 0, rows);
	}
}

/*
 * Reads a file in a subtransaction: one that cannot be read stops no other.
 */
static void
try_file(Sample *sample, const LhDescriptor *root, const char *path, int64 limit)
{
	MemoryContext file_context = AllocSetContextCreate(CurrentMemoryContext, "lakehouse sampled file",
													   ALLOCSET_DEFAULT_SIZES);
	LhSubtransaction sub;
	int64		before = sample->rows;

	lh_subtransaction_begin(&sub);
	MemoryContextSwitchTo(file_context);
	PG_TRY();
	{
		read_file(sample, root, path, limit);
		lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		ErrorData  *error = lh_subtransaction_caught(&sub);

		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INTERNAL_ERROR ||
			error->sqlerrcode == ERRCODE_TOO_MANY_COLUMNS)
			ReThrowError(error);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("file \"%s\" was left out of the sample: %s", path, error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	count_folders(sample, path, sample->rows - before);
	MemoryContextDelete(file_context);
}

/*
 * read_sample reads what there is, as the current user.
 */
static void
read_sample(Sample *sample)
{
	LhDescriptor *root;
	LhListCounts counts = {0};
	int64		share;

	root = lh_file_root_open(sample->server);
	sample->context = CurrentMemoryContext;
	sample->sink.unknown = sample->sink.exact = sample->sink.positions = true;
	sample->sink.take = take_field;
	sample->sink.declare = declare_field;
	sample->fields = lh_guesses_create(&sample->guess);
	sample->folders = lh_guesses_create(&sample->folder_guess);
	sample->file_allocated = sample->max_files * 2;
	sample->files = palloc(sizeof(char *) * sample->file_allocated);
	lh_file_list(root, lh_file_filter_create(&sample->selection), NULL, add_file, sample, &counts);
	trim_files(sample);

	/* the columns are known, but for those of folders */
	for (int i = 0; i < sample->file_count && sample->fixed != NULL; i++)
		count_folders(sample, sample->files[i], 1);
	if (sample->fixed != NULL)
		sample->file_count = 0;
	share = sample->file_count > 0 ? sample->max_rows / sample->file_count : 0;
	share = Min(Max(share, SHARE_OF_FILE), sample->max_rows);
	for (int i = 0; i < sample->file_count && sample->rows < sample->max_rows; i++)
		try_file(sample, root, sample->files[i], Min(share, sample->max_rows - sample->rows));
	lh_descriptor_close(root);
}

/* ------------------------------------------------------------- the result */

static void
add_columns(List **columns, const LhGuesses *guesses, const LhGuesses *except, const List *hints)
{
	for (int i = 0; i < guesses->count; i++)
	{
		const LhGuess *guess = &guesses->items[i];
		const LhHint *hint = lh_schema_hints_find(hints, guess->name, guess->name_length);
		Column	   *column;

		if (guesses->options->drop_all_null && !lh_guess_has_value(guess))
			continue;
		/* a folder's value goes before that of a field */
		if (except != NULL &&
			lh_guesses_find(unconstify(LhGuesses *, except), guess->name, guess->name_length, false) != NULL)
			continue;
		column = palloc(sizeof(Column));
		column->name = guess->name;
		column->type = hint != NULL ? hint->type : lh_guess_class_name(lh_guess_class(guess));
		column->guess = guess;
		*columns = lappend(*columns, column);
	}
}

/*
 * list_columns returns the columns: fields in the order in which they appeared,
 * partition columns, and what only hints name.
 */
static List *
list_columns(const Sample *sample, const List *hints)
{
	List	   *columns = NIL;
	ListCell   *cell;

	for (const LhReaderColumn *fixed = sample->fixed; fixed != NULL && fixed->name != NULL; fixed++)
	{
		const LhHint *hint = lh_schema_hints_find(hints, fixed->name, strlen(fixed->name));
		Column	   *column = palloc0(sizeof(Column));

		column->name = fixed->name;
		column->type = hint != NULL ? hint->type : fixed->type;
		columns = lappend(columns, column);
	}
	add_columns(&columns, sample->fields, sample->folders, hints);
	add_columns(&columns, sample->folders, NULL, hints);
	foreach(cell, hints)
	{
		const LhHint *hint = lfirst(cell);
		Column	   *column;
		ListCell   *other;
		bool		found = false;

		foreach(other, columns)
			found |= strcmp(((Column *) lfirst(other))->name, hint->name) == 0;
		if (found)
			continue;
		column = palloc0(sizeof(Column));
		column->name = hint->name;
		column->type = hint->type;
		columns = lappend(columns, column);
	}
	return columns;
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	pushJsonbValue(state, token, &value);
}

/*
 * conflicts_of tells what the values look like if not all look the same: type ->
 * number of values and the first of them.
 */
static Jsonb *
conflicts_of(const LhGuess *guess)
{
	JsonbParseState *state = NULL;
	int			classes = 0;

	for (int class = 0; class < LH_GUESS_CLASSES; class++)
		classes += guess->counts[class] > 0;
	if (classes < 2)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int class = 0; class < LH_GUESS_CLASSES; class++)
	{
		JsonbValue	count = {.type = jbvNumeric};

		if (guess->counts[class] == 0)
			continue;
		push_string(&state, WJB_KEY, lh_guess_class_name(class));
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_string(&state, WJB_KEY, "values");
		count.val.numeric = DatumGetNumeric(DirectFunctionCall1(int8_numeric,
																Int64GetDatum(guess->counts[class])));
		pushJsonbValue(&state, WJB_VALUE, &count);
		push_string(&state, WJB_KEY, "example");
		push_string(&state, WJB_VALUE, guess->examples[class]);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
put_column(ReturnSetInfo *result, const Sample *sample, const Column *column)
{
	const LhGuess *guess = column->guess;
	Datum		values[7] = {0};
	bool		nulls[7] = {false};
	int64		missing = sample->rows - (guess != NULL ? guess->values : 0);
	Jsonb	   *conflicts = guess != NULL ? conflicts_of(guess) : NULL;

	values[0] = CStringGetTextDatum(column->name);
	values[1] = CStringGetTextDatum(column->type);
	values[2] = BoolGetDatum(missing > 0 || guess == NULL);
	values[3] = Int64GetDatum(sample->rows);
	values[4] = Int64GetDatum(Max(missing, 0));
	nulls[5] = guess == NULL || guess->example == NULL;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(guess->example);
	nulls[6] = conflicts == NULL;
	values[6] = nulls[6] ? (Datum) 0 : JsonbPGetDatum(conflicts);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static char *
text_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must be given", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static int64
limit_argument(FunctionCallInfo fcinfo, int number, const char *name, int64 missing, int64 maximum)
{
	int64		value = PG_ARGISNULL(number) ? missing : PG_GETARG_INT64(number);

	if (value < 1 || value > maximum)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for argument \"%s\"", name),
				 errdetail("The argument takes a whole number from 1 to " INT64_FORMAT ".", maximum)));
	return value;
}

/*
 * describe_fixed makes the row type of the columns that a format has.
 */
static TupleDesc
describe_fixed(const Sample *sample)
{
	TupleDesc	tupdesc;
	int			count = 0;

	while (sample->fixed != NULL && sample->fixed[count].name != NULL)
		count++;
	tupdesc = CreateTemplateTupleDesc(count);
	for (int i = 0; i < count; i++)
		TupleDescInitEntry(tupdesc, i + 1, sample->fixed[i].name, sample->fixed[i].type_id, -1, 0);
	return tupdesc;
}

/*
 * begin_sample checks what a source of these files would check, and fills
 * "sample"; returns the hints.
 */
static List *
begin_sample(Sample *sample, Oid server, const char *path, const char *format, Jsonb *options,
			 const char *hints)
{
	char	   *more = lh_options_text(options, "schema_hints", NULL);
	LhFileOptions file_options;
	List	   *result;

	sample->server = server;
	sample->path = path;
	lh_file_options_parse(options, path, false, &file_options);
	sample->selection = file_options.selection;
	sample->reader = lh_reader_find(format);
	/* paths lead to columns, and there are none yet */
	sample->options = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete,
														 JsonbPGetDatum(lh_file_reader_options(options)),
														 CStringGetTextDatum("paths")));
	sample->fixed = sample->reader->columns != NULL ? sample->reader->columns(sample->options) : NULL;
	lh_guess_options_parse(sample->options, &sample->guess);
	sample->folder_guess = (LhGuessOptions) {.infer_timestamp = true, .prefer_date = true};
	lh_inflate_options_parse(options, &sample->inflate);
	sample->max_columns = lh_file_schema_max_columns(options);
	sample->partitions = lh_partition_names(options);
	sample->reader->validate(sample->options, describe_fixed(sample));
	result = lh_schema_hints_parse(hints != NULL ? hints : more);
	if (hints != NULL && more != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema hints are given twice"),
				 errhint("Give either the argument \"hints\" or the option \"schema_hints\".")));
	return result;
}

/*
 * lakehouse.infer_schema(server, path, format, options, hints, sample_rows,
 * sample_files)
 */
Datum
lakehouse_infer_schema(PG_FUNCTION_ARGS)
{
	Sample		sample = {0};
	char	   *server_name = text_argument(fcinfo, 0, "server");
	char	   *path = text_argument(fcinfo, 1, "path");
	char	   *format = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Jsonb	   *options = PG_ARGISNULL(3) ?
		DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))) : PG_GETARG_JSONB_P(3);
	LhIdentity	identity;
	Oid			server;
	List	   *hints;
	ListCell   *cell;

	sample.max_rows = limit_argument(fcinfo, 5, "sample_rows", SAMPLE_ROWS, PG_INT64_MAX);
	sample.max_files = (int) limit_argument(fcinfo, 6, "sample_files", SAMPLE_FILES, MAX_SAMPLE_FILES);
	InitMaterializedSRF(fcinfo, 0);
	lh_identity_role(&identity, GetUserId(), "pg_catalog, pg_temp");
	server = lh_file_source_check(server_name, path, &format);
	options = lh_file_options_canonical(options);
	hints = begin_sample(&sample, server, path, format, options,
						 PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4)));
	read_sample(&sample);
	if (sample.file_count == 0)
		ereport(NOTICE,
				(errmsg("no file matches path \"%s\"", path),
				 errhint("A path is a pattern beneath the server's directory, for example \"orders/*.csv\" or \"**/*.json\".")));
	foreach(cell, list_columns(&sample, hints))
		put_column((ReturnSetInfo *) fcinfo->resultinfo, &sample, lfirst(cell));
	lh_identity_restore(&identity);
	return (Datum) 0;
}

/* ------------------------------------------------------------- the table */

static bool
is_listed(const List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

static void
list_name(const char *column, Oid type, void *arg)
{
	List	  **names = arg;

	*names = lappend(*names, pstrdup(column));
}

/*
 * append_column adds a column to the statement, unless its name cannot be one or
 * was there before.
 */
static void
append_column(StringInfo sql, List **names, const char *name, const char *type)
{
	if (is_listed(*names, name))
		return;
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN || strcmp(name, LH_LOAD_COLUMN) == 0 ||
		SystemAttributeByName(name) != NULL)
	{
		ereport(NOTICE,
				(errmsg("field \"%s\" cannot become a column", name),
				 errdetail("Its values are kept as rescued data.")));
		return;
	}
	appendStringInfo(sql, "%s\n    %s %s", *names == NIL ? "" : ",", quote_identifier(name), type);
	*names = lappend(*names, unconstify(char *, name));
}

static void
append_metadata(const char *column, Oid type, void *arg)
{
	void	  **pair = arg;

	append_column(pair[0], pair[1], pstrdup(column), format_type_be(type));
}

Oid
lh_schema_create_table(const char *schema, const char *name, Oid server,
					   const char *path, const char *format, Jsonb *options)
{
	Sample		sample = {.max_rows = SAMPLE_ROWS, .max_files = SAMPLE_FILES};
	List	   *hints = begin_sample(&sample, server, path, format, options, NULL);
	char	   *rescued = lh_file_schema_rescued_column(options);
	List	   *columns;
	List	   *names = NIL;
	List	   *facts = NIL;
	ListCell   *cell;
	StringInfoData sql;
	void	   *pair[2] = {&sql, &names};

	read_sample(&sample);
	columns = list_columns(&sample, hints);
	if (columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("target table \"%s.%s\" does not exist", schema, name),
				 errdetail("It cannot be created, because no file of path \"%s\" has a record to infer columns from.", path),
				 errhint("Create the table with the columns to be filled, or bring a file.")));
	lh_file_metadata_list(options, list_name, &facts);
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", quote_qualified_identifier(schema, name));
	foreach(cell, columns)
	{
		const Column *column = lfirst(cell);

		if (!is_listed(facts, column->name) &&
			(rescued == NULL || strcmp(column->name, rescued) != 0))
			append_column(&sql, &names, column->name, column->type);
	}
	lh_file_metadata_list(options, append_metadata, pair);
	if (rescued != NULL && sample.fixed == NULL)
		append_column(&sql, &names, rescued, "jsonb");
	if (lh_options_text(options, LH_CORRUPT_OPTION, "")[0] != '\0')
		append_column(&sql, &names, lh_options_text(options, LH_CORRUPT_OPTION, NULL), "text");
	appendStringInfoString(&sql, "\n)");
	SPI_connect();
	if (SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "statement failed: %s", sql.data);
	SPI_finish();
	ereport(NOTICE,
			(errmsg("target table \"%s.%s\" was created from the schema of the files", schema, name),
			 errdetail_internal("%s", sql.data)));
	return get_relname_relid(name, get_namespace_oid(schema, false));
}
