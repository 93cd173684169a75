/*
 * file_schema.c
 *	  How the fields of files and the columns of the target go together.
 *
 * Invariant: with a column for rescued data no value of a record that is stored
 * is lost: what has no column, or does not fit the one it has, is in there with
 * the reason and its place, and the column is NULL where nothing was rescued.
 * Where columns are added instead, a part of a file in which new fields were met
 * is rolled back and read again with the new columns: see file_load.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "bronze/corrupt_record.h"
#include "bronze/file_schema.h"
#include "bronze/rescued_key.h"
#include "bronze/partition_path.h"
#include "bronze/schema_hint.h"
#include "bronze/widen.h"
#include "catalog/options.h"
#include "convert/convert.h"
#include "delta/load.h"
#include "json/json_text.h"

#define MAX_COLUMNS 1600		/* that a table can have */
#define DEFAULT_MAX_COLUMNS 1000
#define NAMES_SHOWN 10

const char *const lh_file_schema_options[] = {"schema_evolution_mode", "rescued_data_column",
"reader_case_sensitive", "schema_hints", "max_columns", "partition_columns", LH_CORRUPT_OPTION, NULL};

typedef enum EvolutionMode
{
	MODE_NONE,
	MODE_RESCUE,
	MODE_ADD,
	MODE_WIDEN,					/* adds columns, too */
	MODE_FAIL
} EvolutionMode;

static const char *const mode_names[] = {"none", "rescue", "addNewColumns",
"addNewColumnsWithTypeWidening", "failOnNewColumns", NULL};

/* What a name that the reader found no column for is to the table. */
typedef enum NameKind
{
	NAME_NEW,
	NAME_TAKEN,					/* by a column that no source fills, or that
								 * another value fills */
	NAME_OTHER_CASE,			/* a column's, but for the case of letters */
	NAME_UNUSABLE,				/* empty, or too long for a column */
	NAME_TOO_MANY				/* the table would have too many columns */
} NameKind;

typedef struct Partition
{
	int			column;			/* from 0 */
	char	   *name;
	LhConverter converter;
	Datum		value;			/* of the file at hand */
	bool		isnull;
} Partition;

struct LhFileSchema
{
	LhFieldSink sink;			/* first: the reader's pointer is ours */
	MemoryContext context;
	EvolutionMode mode;
	TupleDesc	tupdesc;
	int			columns;		/* of the target */
	int			max_columns;
	int			rescued;		/* column for rescued data, from 0; -1 = none */
	List	   *hints;
	LhGuessOptions guess;
	int			partition_count;
	Partition  *partitions;
	LhCorruptRecord *corrupt;	/* or NULL */
	bool		keep_corrupt;	/* and it is to be filled */
	LhRescueCounts *counts;		/* of the load; NULL without the column */
	bool		adds;			/* fields that are no columns become some */
	LhWiden    *widen;			/* mode addNewColumnsWithTypeWidening; or NULL */

	/* of the file */
	const char *path;
	LhGuesses  *unknown;		/* new fields; NULL = of no interest */
	NameKind	problem;		/* why the file cannot be loaded; NAME_NEW = none */
	char	   *problem_name;

	/* of the record */
	LhField    *fields;			/* to be rescued */
	int			count;
	int			allocated;
	const LhRecords *inner;
	LhRecords	outer;
};

static void find_rescued(LhFileSchema *schema, Jsonb *options, bool *fillable);
static void find_partitions(LhFileSchema *schema, Jsonb *options, bool *fillable);
static void take_field(LhFieldSink *sink, const LhField *field);
static void declare_field(LhFieldSink *sink, const char *name, int length);

/* ------------------------------------------------------------- options */

static int
find_column(TupleDesc tupdesc, const char *name, int length)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (!attribute->attisdropped && strlen(NameStr(attribute->attname)) == length &&
			memcmp(NameStr(attribute->attname), name, length) == 0)
			return i;
	}
	return -1;
}

int
lh_file_schema_max_columns(Jsonb *options)
{
	return (int) lh_options_int(options, "max_columns", DEFAULT_MAX_COLUMNS, 1, MAX_COLUMNS);
}

char *
lh_file_schema_rescued_column(Jsonb *options)
{
	char	   *name = lh_options_text(options, "rescued_data_column", LH_RESCUED_COLUMN);

	return name[0] == '\0' ? NULL : name;
}

static EvolutionMode
find_mode(Jsonb *options)
{
	char	   *name = lh_options_text(options, "schema_evolution_mode", mode_names[MODE_NONE]);

	for (int mode = 0; mode_names[mode] != NULL; mode++)
		if (strcmp(mode_names[mode], name) == 0)
			return mode;
	lh_options_refuse(name, mode_names, "schema evolution mode");
}

LhFileSchema *
lh_file_schema_parse(Jsonb *options, TupleDesc tupdesc, bool *fillable)
{
	LhFileSchema *schema = palloc0(sizeof(LhFileSchema));
	bool		case_given = lh_options_bool(options, "reader_case_sensitive", true) ==
		lh_options_bool(options, "reader_case_sensitive", false);

	schema->context = CurrentMemoryContext;
	schema->tupdesc = tupdesc;
	schema->mode = find_mode(options);
	schema->adds = schema->mode == MODE_ADD || schema->mode == MODE_WIDEN;
	schema->max_columns = lh_file_schema_max_columns(options);
	lh_guess_options_parse(options, &schema->guess);
	schema->hints = lh_schema_hints_parse(lh_options_text(options, "schema_hints", NULL));
	for (int i = 0; i < tupdesc->natts; i++)
		schema->columns += !TupleDescAttr(tupdesc, i)->attisdropped;
	find_rescued(schema, options, fillable);
	find_partitions(schema, options, fillable);
	schema->corrupt = lh_corrupt_parse(options, tupdesc, fillable);

	schema->sink.rescue = schema->rescued >= 0;
	schema->sink.unknown = schema->rescued >= 0 || schema->adds || schema->mode == MODE_FAIL;
	schema->sink.exact = lh_options_bool(options, "reader_case_sensitive", schema->rescued >= 0);
	schema->sink.fold = case_given && !schema->sink.exact;
	schema->sink.take = take_field;
	schema->sink.declare = declare_field;
	if (schema->mode == MODE_WIDEN)
	{
		/* with notations of the user, days that were dates would be no timestamps */
		bool		dates = schema->guess.convert.date == NULL && schema->guess.convert.timestamp == NULL;

		schema->widen = lh_widen_create(tupdesc, dates);
		schema->sink.exact_dates = schema->guess.convert.date == NULL;
	}
	return schema;
}

/*
 * Finds the column for rescued data: the one that the option names, or else one
 * of the usual name and type.
 */
static void
find_rescued(LhFileSchema *schema, Jsonb *options, bool *fillable)
{
	char	   *given = lh_options_text(options, "rescued_data_column", NULL);
	const char *name = given != NULL ? given : LH_RESCUED_COLUMN;
	Form_pg_attribute attribute;

	schema->rescued = find_column(schema->tupdesc, name, strlen(name));
	attribute = schema->rescued >= 0 ? TupleDescAttr(schema->tupdesc, schema->rescued) : NULL;
	if (attribute != NULL && (attribute->atttypid != JSONBOID || attribute->attgenerated))
	{
		if (given != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" cannot hold rescued data", name),
					 errdetail("The column must be an ordinary one of type jsonb.")));
		schema->rescued = -1;
	}
	if (schema->rescued < 0 && ((given != NULL && given[0] != '\0') || schema->mode == MODE_RESCUE ||
								schema->mode == MODE_WIDEN))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" for rescued data does not exist in the target", name),
				 errhint("Add it with ALTER TABLE ... ADD COLUMN %s jsonb.", quote_identifier(name))));
	if (schema->rescued < 0)
		return;
	if (fillable != NULL)
		fillable[schema->rescued] = false;
	schema->counts = lh_rescue_counts_create();
}

static void
find_partitions(LhFileSchema *schema, Jsonb *options, bool *fillable)
{
	char	  **names = lh_partition_names(options);
	int			count = 0;

	while (names[count] != NULL)
		count++;
	schema->partitions = palloc0(sizeof(Partition) * (count + 1));
	for (int i = 0; i < count; i++)
	{
		Partition  *partition = &schema->partitions[schema->partition_count++];
		Form_pg_attribute attribute;

		partition->name = names[i];
		partition->column = find_column(schema->tupdesc, names[i], strlen(names[i]));
		if (partition->column < 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of option \"%s\" does not exist in the target",
							names[i], "partition_columns"),
					 errhint("Add the column to the table; it gets what stands behind \"%s=\" in the names of folders.",
							 names[i])));
		attribute = TupleDescAttr(schema->tupdesc, partition->column);
		if (attribute->attgenerated || attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS ||
			strcmp(names[i], LH_LOAD_COLUMN) == 0 || partition->column == schema->rescued)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					 errmsg("column \"%s\" cannot be filled from the names of folders", names[i])));
		lh_converter_init(&partition->converter, attribute, schema->context);
		if (fillable != NULL)
			fillable[partition->column] = false;
	}
}

bool
lh_file_schema_rescues(const LhFileSchema *schema)
{
	return schema->rescued >= 0;
}

void
lh_file_schema_begin_load(LhFileSchema *schema, LhWriter *writer)
{
	lh_writer_set_rescued_column(writer, schema->rescued + 1, schema->counts);
	if (schema->counts != NULL)
		lh_rescue_counts_reset(schema->counts);
}

void
lh_file_schema_end_load(LhFileSchema *schema, int64 load_id)
{
	if (schema->counts != NULL)
		lh_rescue_counts_write(schema->counts, load_id);
}

bool
lh_file_schema_adds(const LhFileSchema *schema)
{
	return schema->adds;
}

void
lh_file_schema_pin(LhFileSchema *schema, const LhSource *source)
{
	if (schema->widen != NULL)
		lh_widen_pin(schema->widen, source);
}

void
lh_file_schema_keep_corrupt(LhFileSchema *schema)
{
	schema->keep_corrupt = schema->corrupt != NULL;
}

/* -------------------------------------------------------------- a file */

/*
 * Converts what the folders say of the partition columns.
 */
static void
begin_partitions(LhFileSchema *schema)
{
	for (int i = 0; i < schema->partition_count; i++)
	{
		Partition  *partition = &schema->partitions[i];
		char	   *text = lh_partition_value(schema->path, partition->name);
		LhError		error;

		if (text == NULL)
			lh_convert_null(&partition->converter, &partition->value, &partition->isnull);
		else if (!lh_convert_guarded(&partition->converter, text, strlen(text),
									 &partition->value, &error))
			ereport(ERROR,
					(errcode(error.sqlstate),
					 errmsg("folder \"%s=%s\" has no value for column \"%s\": %s",
							partition->name, text, partition->name, error.message)));
		else
			partition->isnull = false;
	}
}

LhFieldSink *
lh_file_schema_begin(LhFileSchema *schema, const char *path)
{
	schema->path = path;
	schema->problem = NAME_NEW;
	schema->count = 0;
	schema->unknown = schema->adds || schema->mode == MODE_FAIL ?
		lh_guesses_create(&schema->guess) : NULL;
	if (schema->widen != NULL)
		lh_widen_begin(schema->widen);
	begin_partitions(schema);
	return schema->sink.unknown || schema->sink.exact || schema->sink.fold ? &schema->sink : NULL;
}

/*
 * Tells what a name is to the table for which the reader found no column.
 */
static NameKind
kind_of_name(LhFileSchema *schema, const char *name, int length)
{
	if (find_column(schema->tupdesc, name, length) >= 0)
		return NAME_TAKEN;
	for (int i = 0; schema->sink.exact && i < schema->tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(schema->tupdesc, i);

		if (!attribute->attisdropped && strlen(NameStr(attribute->attname)) == length &&
			pg_strncasecmp(NameStr(attribute->attname), name, length) == 0)
			return NAME_OTHER_CASE;
	}
	if (!schema->adds)
		return NAME_NEW;
	if (length == 0 || length >= NAMEDATALEN)
		return NAME_UNUSABLE;
	if (schema->columns + schema->unknown->count >= schema->max_columns)
		return NAME_TOO_MANY;
	return NAME_NEW;
}

/*
 * Remembers a field that is no column; false if it is for the column for rescued
 * data, or of no use.
 */
static bool
note_unknown(LhFileSchema *schema, const LhField *field)
{
	LhGuess    *guess = lh_guesses_find(schema->unknown, field->name, field->name_length, false);
	NameKind	kind;

	if (guess == NULL)
	{
		kind = kind_of_name(schema, field->name, field->name_length);
		if (kind != NAME_NEW)
		{
			/* with a null nothing is lost */
			if (schema->rescued < 0 && schema->problem == NAME_NEW && kind != NAME_TAKEN &&
				field->kind != LH_FIELD_NULL)
			{
				schema->problem = kind;
				schema->problem_name = pnstrdup(field->name, Min(field->name_length, NAMEDATALEN * 2));
			}
			return false;
		}
		guess = lh_guesses_find(schema->unknown, field->name, field->name_length, true);
	}
	lh_guess_add(schema->unknown, guess, field->kind, field->text, field->length, 1);
	return true;
}

/*
 * A header names a field that is no column.
 */
static void
declare_field(LhFieldSink *sink, const char *name, int length)
{
	LhFileSchema *schema = (LhFileSchema *) sink;
	NameKind	kind;

	if (schema->unknown == NULL)
		return;
	kind = kind_of_name(schema, name, length);
	if (kind == NAME_NEW)
		(void) lh_guesses_find(schema->unknown, name, length, true);
	else if (schema->rescued < 0)
	{
		schema->problem = kind;
		schema->problem_name = pnstrdup(name, length);
	}
}

static void
take_field(LhFieldSink *sink, const LhField *field)
{
	LhFileSchema *schema = (LhFileSchema *) sink;

	if (!field->mismatch && !field->duplicate && schema->unknown != NULL && note_unknown(schema, field))
		return;
	if (schema->rescued < 0 || field->kind == LH_FIELD_NULL)
		return;
	if (field->mismatch && schema->widen != NULL)
		lh_widen_note(schema->widen, field);
	if (schema->count == schema->allocated)
	{
		schema->allocated = Max(schema->allocated * 2, 16);
		schema->fields = schema->fields == NULL ?
			MemoryContextAlloc(schema->context, sizeof(LhField) * schema->allocated) :
			repalloc(schema->fields, sizeof(LhField) * schema->allocated);
	}
	schema->fields[schema->count++] = *field;
}

/* --------------------------------------------------------- rescued data */

static void
push_key(JsonbParseState **state, const char *name, int length)
{
	JsonbValue	key = {.type = jbvString};

	key.val.string.val = unconstify(char *, name);
	key.val.string.len = length;
	pushJsonbValue(state, WJB_KEY, &key);
}

static void
push_text(JsonbParseState **state, const char *text, int length, JsonbIteratorToken token)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = length;
	pushJsonbValue(state, token, &value);
}

/*
 * Adds the value of a field: JSON as it is, unless jsonb cannot hold it; then,
 * and for other formats, its text.
 */
static void
push_field(JsonbParseState **state, const LhField *field, JsonbIteratorToken token)
{
	Jsonb	   *json;
	JsonbValue	value;
	LhJsonScan	scan;
	LhError		error;

	if (field->kind == LH_FIELD_JSON)
	{
		lh_json_begin(&scan, field->text, field->length);
		if (lh_json_build(&scan, lh_json_next(&scan), &json, &error))
		{
			if (JB_ROOT_IS_SCALAR(json))
				(void) JsonbExtractScalar(&json->root, &value);
			else
			{
				value.type = jbvBinary;
				value.val.binary.data = &json->root;
				value.val.binary.len = VARSIZE(json) - VARHDRSZ;
			}
			pushJsonbValue(state, token, &value);
			return;
		}
	}
	push_text(state, field->text, field->length, token);
}

static void
push_name(JsonbParseState **state, const LhField *field)
{
	if (lh_rescued_key_is_longer(field->name, field->name_length))
		push_key(state, psprintf("_%.*s", field->name_length, field->name), field->name_length + 1);
	else
		push_key(state, field->name, field->name_length);
}

static LhRescueReason
reason_of(LhFileSchema *schema, const LhField *field)
{
	if (field->mismatch)
		return LH_RESCUE_TYPE_MISMATCH;
	if (field->duplicate)
		return LH_RESCUE_DUPLICATE;
	return kind_of_name(schema, field->name, field->name_length) == NAME_OTHER_CASE ?
		LH_RESCUE_CASE_MISMATCH : LH_RESCUE_UNKNOWN_COLUMN;
}

static void
push_number(JsonbParseState **state, const char *name, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	push_key(state, name, strlen(name));
	value.val.numeric = DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(number)));
	pushJsonbValue(state, WJB_VALUE, &value);
}

/*
 * Tells whether field i has the name of another one, which comes before it or
 * behind it.
 */
static bool
is_repeated(const LhFileSchema *schema, int i, bool before)
{
	const LhField *field = &schema->fields[i];
	int			end = before ? i : schema->count;

	for (int j = before ? 0 : i + 1; j < end; j++)
		if (schema->fields[j].name_length == field->name_length &&
			memcmp(schema->fields[j].name, field->name, field->name_length) == 0)
			return true;
	return false;
}

/*
 * Adds the fields. A name that comes more than once gets an array of its values,
 * if "repeated" says that there is one: to look for it costs time.
 */
static void
push_fields(LhFileSchema *schema, JsonbParseState **state, bool repeated)
{
	for (int i = 0; i < schema->count; i++)
	{
		const LhField *field = &schema->fields[i];

		CHECK_FOR_INTERRUPTS();
		if (!repeated || (!is_repeated(schema, i, true) && !is_repeated(schema, i, false)))
		{
			push_name(state, field);
			push_field(state, field, WJB_VALUE);
			continue;
		}
		if (is_repeated(schema, i, true))
			continue;
		push_name(state, field);
		pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
		for (int j = i; j < schema->count; j++)
			if (schema->fields[j].name_length == field->name_length &&
				memcmp(schema->fields[j].name, field->name, field->name_length) == 0)
				push_field(state, &schema->fields[j], WJB_ELEM);
		pushJsonbValue(state, WJB_END_ARRAY, NULL);
	}
}

/*
 * Builds what is kept of a record, with its place.
 */
static JsonbValue *
build_rescued(LhFileSchema *schema, const LhPlace *place, bool repeated)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_fields(schema, &state, repeated);
	push_key(&state, "_reason", strlen("_reason"));
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	lh_rescue_counts_begin_record(schema->counts);
	for (int i = 0; i < schema->count; i++)
	{
		const LhField *field = &schema->fields[i];
		LhRescueReason number = reason_of(schema, field);
		const char *reason = lh_rescue_reason_names[number];

		lh_rescue_counts_note(schema->counts, field->name, field->name_length, number);
		push_key(&state, schema->fields[i].name, schema->fields[i].name_length);
		push_text(&state, reason, strlen(reason), WJB_VALUE);
	}
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	if (place->topic != NULL)
	{
		push_key(&state, "_topic", strlen("_topic"));
		push_text(&state, place->topic, strlen(place->topic), WJB_VALUE);
		push_number(&state, "_partition", place->partition);
		push_number(&state, "_offset", place->offset);
	}
	else
	{
		push_key(&state, "_file_path", strlen("_file_path"));
		push_text(&state, schema->path, strlen(schema->path), WJB_VALUE);
		push_number(&state, "_line", place->line);
	}
	return pushJsonbValue(&state, WJB_END_OBJECT, NULL);
}

static Datum
rescued_value(LhFileSchema *schema, int record)
{
	LhPlace		place = {.byte_offset = -1};
	JsonbValue *value;
	int			members;

	schema->inner->place(schema->inner->reader, record, &place);
	/* with the reasons and the place: topic, partition and offset, or file and line */
	members = schema->count + (place.topic != NULL ? 4 : 3);
	value = build_rescued(schema, &place, false);
	/* of a name that came twice one value is gone */
	if (value->val.object.nPairs < members)
		value = build_rescued(schema, &place, true);
	return JsonbPGetDatum(JsonbValueToJsonb(value));
}

static bool
fill_with_ours(void *arg, int i, Datum *values, bool *nulls, LhError *error, const char **column)
{
	LhFileSchema *schema = arg;

	schema->count = 0;
	if (!schema->inner->fill(schema->inner->reader, i, values, nulls, error, column))
	{
		if (!schema->keep_corrupt ||
			!lh_corrupt_store(schema->corrupt, schema->inner, i, values, nulls, error))
			return false;
		schema->count = 0;
	}
	for (int n = 0; n < schema->partition_count; n++)
	{
		const Partition *partition = &schema->partitions[n];

		values[partition->column] = partition->value;
		nulls[partition->column] = partition->isnull;
	}
	if (schema->rescued >= 0)
	{
		nulls[schema->rescued] = schema->count == 0;
		values[schema->rescued] = schema->count > 0 ? rescued_value(schema, i) : (Datum) 0;
	}
	return true;
}

static void
place_of_inner(void *arg, int i, LhPlace *place)
{
	LhFileSchema *schema = arg;

	schema->inner->place(schema->inner->reader, i, place);
}

const LhRecords *
lh_file_schema_wrap(LhFileSchema *schema, const LhRecords *inner)
{
	if (schema->rescued < 0 && schema->partition_count == 0 && !schema->keep_corrupt)
		return inner;
	schema->inner = inner;
	schema->outer.count = inner->count;
	schema->outer.reader = schema;
	schema->outer.fill = fill_with_ours;
	schema->outer.place = place_of_inner;
	return &schema->outer;
}

/* -------------------------------------------------------- new columns */

static void
report_problem(LhFileSchema *schema)
{
	switch (schema->problem)
	{
		case NAME_TAKEN:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					 errmsg("file \"%s\" has field \"%s\", a column that the source does not fill from fields",
							schema->path, schema->problem_name),
					 errhint("Add a column \"%s\" of type jsonb to the table to keep such fields.", LH_RESCUED_COLUMN)));
			break;
		case NAME_TOO_MANY:
			ereport(ERROR,
					(errcode(ERRCODE_TOO_MANY_COLUMNS),
					 errmsg("field \"%s\" of file \"%s\" would give the target more than %d columns",
							schema->problem_name, schema->path, schema->max_columns),
					 errhint("Set the option \"max_columns\", or add a column \"%s\" of type jsonb to the table to keep such fields.", LH_RESCUED_COLUMN)));
			break;
		default:
			ereport(ERROR,
					(errcode(schema->problem == NAME_UNUSABLE ? ERRCODE_NAME_TOO_LONG : ERRCODE_UNDEFINED_COLUMN),
					 errmsg("field \"%s\" of file \"%s\" cannot become a column",
							schema->problem_name, schema->path),
					 errdetail("The name of a column has from 1 to %d bytes, and differs from the others not only in case.", NAMEDATALEN - 1),
					 errhint("Add a column \"%s\" of type jsonb to the table to keep such fields.", LH_RESCUED_COLUMN)));
	}
}

static void
report_new(LhFileSchema *schema)
{
	const LhGuesses *unknown = schema->unknown;
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < Min(unknown->count, NAMES_SHOWN); i++)
		appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "", unknown->items[i].name);
	if (unknown->count > NAMES_SHOWN)
		appendStringInfo(&names, " and %d more", unknown->count - NAMES_SHOWN);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("file \"%s\" has fields that the target table does not have: %s", schema->path, names.data),
			 errhint("Add the columns to the table, or set the option \"schema_evolution_mode\" to \"addNewColumns\".")));
}

bool
lh_file_schema_grows(LhFileSchema *schema)
{
	if (schema->unknown == NULL)
		return false;
	if (schema->problem != NAME_NEW)
		report_problem(schema);
	if (schema->mode == MODE_FAIL && schema->unknown->count > 0)
		report_new(schema);
	/* a field that is always null waits for its first value, and its type */
	for (int i = 0; i < schema->unknown->count; i++)
		if (schema->unknown->items[i].values > 0)
			return true;
	return lh_file_schema_widens(schema);
}

bool
lh_file_schema_widens(const LhFileSchema *schema)
{
	return schema->widen != NULL && lh_widen_is_wanted(schema->widen);
}

List *
lh_file_schema_widenings(LhFileSchema *schema)
{
	return schema->widen != NULL ? lh_widen_wanted(schema->widen) : NIL;
}

bool
lh_file_schema_check_record(LhFileSchema *schema, LhError *error)
{
	if (schema->unknown == NULL)
		return true;
	if (schema->problem != NAME_NEW)
		return lh_error_set(error, ERRCODE_UNDEFINED_COLUMN,
							"field \"%s\" is no column of the target", schema->problem_name);
	for (int i = 0; i < schema->unknown->count; i++)
		if (schema->unknown->items[i].values > 0)
			return lh_error_set(error, ERRCODE_UNDEFINED_COLUMN,
								"field \"%s\" is no column of the target",
								schema->unknown->items[i].name);
	return true;
}

List *
lh_file_schema_new_columns(LhFileSchema *schema)
{
	List	   *columns = NIL;

	for (int i = 0; i < schema->unknown->count; i++)
	{
		const LhGuess *guess = &schema->unknown->items[i];
		const LhHint *hint = lh_schema_hints_find(schema->hints, guess->name, guess->name_length);
		LhNewColumn *column = palloc(sizeof(LhNewColumn));

		if (guess->values == 0)
			continue;
		column->name = guess->name;
		column->type = hint != NULL ? hint->type : lh_guess_class_name(lh_guess_class(guess));
		columns = lappend(columns, column);
	}
	return columns;
}
