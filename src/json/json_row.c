/*
 * json_row.c
 *	  JSON values to typed values.
 *
 * Objects of one producer have their keys in the same order nearly always: for
 * each position of a key the mapping remembers which column it was last time and
 * compares that name first; a hash table finds the others.
 *
 * Invariant: when a value does not convert, the scanner still goes to its end,
 * so that reading can go on behind it; it stops only where the text is no JSON.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/subtransaction.h"
#include "common/hashfn.h"
#include "convert/convert.h"
#include "funcapi.h"
#include "json/json_row.h"
#include "json/json_text.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#define GUESSES 64				/* positions of keys that are remembered */
#define LEAD_BYTES 62			/* that are remembered of what is before a value */

typedef enum ValueKind
{
	VALUE_SCALAR,				/* the text of the value, converted */
	VALUE_STRING,				/* that text itself */
	VALUE_JSON,					/* the JSON text as written */
	VALUE_JSONB,
	VALUE_ROW,
	VALUE_ARRAY
} ValueKind;

struct LhJsonValue
{
	ValueKind	kind;
	bool		may_raise;
	bool		plain;			/* nothing but the converter is asked, which does not
								 * raise */
	LhConverter converter;		/* of the type, or of the domain's base type */

	Oid			domain;			/* type to check the result against, or InvalidOid */
	void	   *domain_state;

	LhJsonRow  *row;			/* VALUE_ROW */

	LhJsonValue *element;		/* VALUE_ARRAY */
	Oid			element_type;
	int16		element_length;
	bool		element_by_value;
	char		element_align;

	MemoryContext context;
};

/* One column: its name as key, and its type. */
typedef struct RowColumn
{
	const char *name;
	int			length;
	uint32		hash;
	LhJsonValue *value;			/* NULL = not to be filled */
} RowColumn;

/* What a column took last. */
typedef struct TakenValue
{
	uint64		object;			/* from the n-th object */
	const char *start;
	int			length;
} TakenValue;

/* What stood before the n-th value: its key, and what separates it. */
typedef struct Lead
{
	uint8		length;			/* 0 = nothing is remembered */
	int16		column;
	char		bytes[LEAD_BYTES];
} Lead;

struct LhJsonRow
{
	TupleDesc	tupdesc;
	int			count;			/* of columns */
	RowColumn  *columns;
	uint32		mask;			/* size of the hash table - 1 */
	int16	   *table;			/* column + 1; 0 = empty */
	int16		guess[GUESSES]; /* column that the n-th key was last time */
	Lead		leads[GUESSES];
	bool		may_raise;
	TakenValue *taken;			/* by each column, if that is of interest; or NULL */
	uint64		objects;		/* read so */
};

/* ------------------------------------------------------------ creation */

/*
 * Finds how values of the (base) type are read.
 */
static void
describe_type(LhJsonValue *target, Oid type, int32 typmod, const char *column,
			  const LhConvertOptions *options)
{
	FormData_pg_attribute attribute;
	Oid			element;

	memset(&attribute, 0, sizeof(attribute));
	attribute.atttypid = type;
	attribute.atttypmod = typmod;
	namestrcpy(&attribute.attname, column);
	lh_converter_init(&target->converter, &attribute, target->context);
	if (options != NULL)
		lh_converter_adapt(&target->converter, options, target->context);
	target->may_raise |= target->converter.may_raise;

	if (target->converter.is_string)
		target->kind = VALUE_STRING;
	else if (target->converter.is_json)
		target->kind = type == JSONBOID ? VALUE_JSONB : VALUE_JSON;
	else if (get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		target->kind = VALUE_ROW;
		target->row = lh_json_row_create(lookup_rowtype_tupdesc_copy(type, typmod), NULL,
										 options, target->context);
		target->may_raise = lh_json_row_may_raise(target->row);
	}
	else if (OidIsValid(element = get_element_type(type)))
	{
		target->kind = VALUE_ARRAY;
		target->element_type = element;
		target->element = lh_json_value_create(element, typmod, column, options, target->context);
		get_typlenbyvalalign(element, &target->element_length, &target->element_by_value,
							 &target->element_align);
		target->may_raise = target->element->may_raise;
	}
	else
		target->kind = VALUE_SCALAR;
}

LhJsonValue *
lh_json_value_create(Oid type, int32 typmod, const char *column, const LhConvertOptions *options,
					 MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	LhJsonValue *target = palloc0(sizeof(LhJsonValue));

	/* types can be nested as deeply as somebody has defined them */
	check_stack_depth();
	target->context = context;
	if (get_typtype(type) == TYPTYPE_DOMAIN)
	{
		target->domain = type;
		target->may_raise = true;
		type = getBaseTypeAndTypmod(type, &typmod);
	}
	describe_type(target, type, typmod, column, options);
	target->may_raise |= OidIsValid(target->domain);
	target->plain = !target->may_raise &&
		(target->kind == VALUE_SCALAR || target->kind == VALUE_STRING);
	MemoryContextSwitchTo(old);
	return target;
}

static void
fill_table(LhJsonRow *row)
{
	uint32		size = 4;
	int			i;

	while (size < (uint32) row->count * 2)
		size *= 2;
	row->mask = size - 1;
	row->table = palloc0(sizeof(int16) * size);
	for (i = 0; i < row->count; i++)
	{
		RowColumn  *column = &row->columns[i];
		uint32		slot = column->hash & row->mask;

		if (column->value == NULL)
			continue;
		while (row->table[slot] != 0)
			slot = (slot + 1) & row->mask;
		row->table[slot] = i + 1;
	}
}

LhJsonRow *
lh_json_row_create(TupleDesc tupdesc, const bool *fillable, const LhConvertOptions *options,
				   MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	LhJsonRow  *row = palloc0(sizeof(LhJsonRow));
	int			i;

	row->tupdesc = tupdesc;
	row->count = tupdesc->natts;
	row->columns = palloc0(sizeof(RowColumn) * Max(row->count, 1));
	for (i = 0; i < row->count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		RowColumn  *column = &row->columns[i];

		column->name = pstrdup(NameStr(attribute->attname));
		column->length = strlen(column->name);
		column->hash = hash_bytes((const unsigned char *) column->name, column->length);
		if (attribute->attisdropped || (fillable != NULL && !fillable[i]))
			continue;
		column->value = lh_json_value_create(attribute->atttypid, attribute->atttypmod,
											 column->name, options, context);
		row->may_raise |= column->value->may_raise;
	}
	fill_table(row);
	for (i = 0; i < GUESSES; i++)
		row->guess[i] = i < row->count ? i : -1;
	MemoryContextSwitchTo(old);
	return row;
}

bool
lh_json_row_may_raise(const LhJsonRow *row)
{
	return row->may_raise;
}

bool
lh_json_value_may_raise(const LhJsonValue *target)
{
	return target->may_raise;
}

/* ------------------------------------------------------------- reading */

/*
 * Returns the column that a key names, or -1.
 */
static int
find_column(const LhJsonRow *row, const char *key, int length)
{
	uint32		hash = hash_bytes((const unsigned char *) key, length);
	uint32		slot = hash & row->mask;

	while (row->table[slot] != 0)
	{
		int			i = row->table[slot] - 1;
		const RowColumn *column = &row->columns[i];

		if (column->hash == hash && column->length == length &&
			memcmp(column->name, key, length) == 0)
			return i;
		slot = (slot + 1) & row->mask;
	}
	return -1;
}

/*
 * Finds the column for the key that was scanned last, the position-th of its
 * object.  Returns -1 if the object has a key that is no column, and -2 with the
 * error set for a key that is no text.
 */
static inline int
match_key(LhJsonRow *row, LhJsonReading *reading, int position)
{
	const LhJsonScan *scan = reading->scan;
	const char *key = scan->text;
	int			length = scan->length;
	int			i = position < GUESSES ? row->guess[position] : -1;

	if (likely(i >= 0 && !scan->escaped && row->columns[i].length == length &&
			   memcmp(row->columns[i].name, key, length) == 0))
		return row->columns[i].value != NULL ? i : -1;
	if (scan->escaped && !lh_json_string(scan, &key, &length, reading->error))
		return -2;
	i = find_column(row, key, length);
	if (position < GUESSES && i >= 0)
		row->guess[position] = i;
	return i;
}

/*
 * Gives the text that stands for a value in types that have no JSON form of
 * their own: a string's content, or the JSON as written.
 */
static bool
value_text(LhJsonReading *reading, LhJsonToken first, const char **text, int *length)
{
	LhJsonScan *scan = reading->scan;

	if (first == LH_JSON_STRING)
		return lh_json_string(scan, text, length, reading->error);
	if (!lh_json_pass(scan, first))
		return lh_json_refuse(scan, reading->error);
	*text = scan->token;
	*length = scan->p - scan->token;
	return true;
}

static bool
read_scalar(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first, Datum *value)
{
	const char *text;
	int			length;
	bool		result;

	if (!value_text(reading, first, &text, &length))
		return false;
	result = lh_convert(&target->converter, text, length, value, reading->error);

	/* what was unescaped for the conversion is of no more use */
	if (first == LH_JSON_STRING && text != reading->scan->text)
		pfree(unconstify(char *, text));
	return result;
}

static bool
read_json(LhJsonReading *reading, LhJsonToken first, Datum *value)
{
	LhJsonScan *scan = reading->scan;

	if (!lh_json_pass(scan, first))
		return lh_json_refuse(scan, reading->error);
	*value = PointerGetDatum(cstring_to_text_with_len(scan->token, scan->p - scan->token));
	return true;
}

static bool
read_jsonb(LhJsonReading *reading, LhJsonToken first, Datum *value)
{
	Jsonb	   *result;

	if (!lh_json_build(reading->scan, first, &result, reading->error))
		return false;
	*value = JsonbPGetDatum(result);
	return true;
}

static bool
read_row(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first, Datum *value)
{
	TupleDesc	tupdesc = target->row->tupdesc;
	Datum	   *values;
	bool	   *nulls;

	if (first != LH_JSON_OBJECT)
		return lh_error_set(reading->error, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"a JSON object was expected for type %s",
							format_type_be(target->converter.type));
	values = palloc0(tupdesc->natts * (sizeof(Datum) + sizeof(bool)) + 1);
	nulls = (bool *) (values + tupdesc->natts);
	memset(nulls, true, tupdesc->natts);
	reading->sink = NULL;
	if (!lh_json_row_fill(target->row, reading, values, nulls))
		return false;
	*value = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
	pfree(values);
	return true;
}

/* An array while its elements are read. */
typedef struct ArrayReading
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int			allocated;
	int			dimensions;		/* 0 until the first element shows it */
	int			size[MAXDIM];	/* -1 = not known yet */
	bool		ragged;
} ArrayReading;

static void
add_element(ArrayReading *array, Datum value, bool isnull)
{
	if (array->count == array->allocated)
	{
		array->allocated = Max(array->allocated * 2, 16);
		array->values = array->values == NULL ?
			palloc(array->allocated * sizeof(Datum)) :
			repalloc_huge(array->values, array->allocated * sizeof(Datum));
		array->nulls = array->nulls == NULL ?
			palloc(array->allocated * sizeof(bool)) :
			repalloc_huge(array->nulls, array->allocated * sizeof(bool));
	}
	array->values[array->count] = value;
	array->nulls[array->count++] = isnull;
}

/*
 * Reads the elements of one array, and of the arrays in it, which must all have
 * one shape.
 */
static bool
read_elements(LhJsonValue *target, LhJsonReading *reading, ArrayReading *array, int level)
{
	int			count = 0;

	if (level >= MAXDIM)
		return lh_error_set(reading->error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"number of array dimensions exceeds the maximum allowed (%d)", MAXDIM);
	for (;; count++)
	{
		LhJsonToken token = lh_json_next(reading->scan);
		Datum		value;
		bool		isnull;

		if (token == LH_JSON_FAULT)
			return lh_json_refuse(reading->scan, reading->error);
		if (token == LH_JSON_ARRAY_END)
			break;
		if (count >= (int) MaxArraySize || array->count >= (int) MaxArraySize)
			return lh_error_set(reading->error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
								"array has more than %d elements", (int) MaxArraySize);
		if (token == LH_JSON_ARRAY &&
			(array->dimensions == 0 || level + 1 < array->dimensions) &&
			target->element->kind != VALUE_JSON && target->element->kind != VALUE_JSONB)
		{
			if (!read_elements(target, reading, array, level + 1))
				return false;
			continue;
		}
		if (array->dimensions == 0)
			array->dimensions = level + 1;
		array->ragged |= level + 1 != array->dimensions;
		if (!lh_json_value_read(target->element, reading, token, &value, &isnull))
			return false;
		add_element(array, value, isnull);
	}
	if (array->size[level] < 0)
		array->size[level] = count;
	array->ragged |= array->size[level] != count;
	return true;
}

static bool
read_array(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first, Datum *value)
{
	ArrayReading array;
	int			lower[MAXDIM];
	int			i;

	if (first != LH_JSON_ARRAY)
		return lh_error_set(reading->error, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"a JSON array was expected for type %s",
							format_type_be(target->converter.type));
	memset(&array, 0, sizeof(array));
	for (i = 0; i < MAXDIM; i++)
	{
		array.size[i] = -1;
		lower[i] = 1;
	}
	if (!read_elements(target, reading, &array, 0))
		return false;
	if (array.count == 0)
	{
		*value = PointerGetDatum(construct_empty_array(target->element_type));
		return true;
	}
	if (array.ragged)
		return lh_error_set(reading->error, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"nested arrays must have the same number of elements");
	*value = PointerGetDatum(construct_md_array(array.values, array.nulls, array.dimensions,
												array.size, lower, target->element_type,
												target->element_length, target->element_by_value,
												target->element_align));
	pfree(array.values);
	pfree(array.nulls);
	return true;
}

static bool
read_kind(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first, Datum *value)
{
	switch (target->kind)
	{
		case VALUE_JSON:
			return read_json(reading, first, value);
		case VALUE_JSONB:
			return read_jsonb(reading, first, value);
		case VALUE_ROW:
			return read_row(target, reading, first, value);
		case VALUE_ARRAY:
			return read_array(target, reading, first, value);
		default:
			return read_scalar(target, reading, first, value);
	}
}

/*
 * Reads a value that is not null, and checks it against its domain.
 */
static bool
read_checked(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first,
			 Datum *value, bool isnull)
{
	if (!isnull && !read_kind(target, reading, first, value))
		return false;
	if (OidIsValid(target->domain))
		domain_check(*value, isnull, target->domain, &target->domain_state, target->context);
	return true;
}

/*
 * Reads a value whose conversion can raise, when an error is to become NULL: in
 * a subtransaction.  A parallel query cannot have one; there it is the caller
 * who chooses not to come here, and the error is raised.
 */
static bool
read_guarded(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first,
			 Datum *value, bool isnull)
{
	LhSubtransaction sub;
	volatile bool result = false;

	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		result = read_checked(target, reading, first, value, isnull);
		lh_subtransaction_commit(&sub);
	}
	PG_CATCH();
	{
		ErrorData  *data = lh_subtransaction_caught(&sub);

		if (!lh_convert_is_data_error(data->sqlerrcode))
			ReThrowError(data);
		lh_error_set(reading->error, data->sqlerrcode, "%s", data->message);
		FreeErrorData(data);
		result = false;
	}
	PG_END_TRY();
	return result;
}

bool
lh_json_value_read(LhJsonValue *target, LhJsonReading *reading, LhJsonToken first,
				   Datum *value, bool *isnull)
{
	LhJsonScan *scan = reading->scan;
	int			depth = scan->depth - (first == LH_JSON_OBJECT || first == LH_JSON_ARRAY);
	bool		guard = false;

	if (first == LH_JSON_FAULT || first == LH_JSON_END)
		return lh_json_refuse(scan, reading->error);
	*isnull = first == LH_JSON_NULL;
	*value = (Datum) 0;
	if (unlikely(target->may_raise) && reading->permissive && !IsInParallelMode())
		guard = OidIsValid(target->domain) || target->kind == VALUE_SCALAR;
	else if (unlikely(target->may_raise) && reading->sink != NULL && reading->sink->rescue)
		guard = true;
	if (guard ? read_guarded(target, reading, first, value, *isnull) :
		read_checked(target, reading, first, value, *isnull))
		return true;
	if (scan->fault == LH_JSON_FINE && !lh_json_leave(scan, depth))
		lh_json_refuse(scan, reading->error);
	return false;
}

/*
 * Tells the sink of the value that begins at "start" and was read to its end.
 */
static void
give_to_sink(const LhJsonReading *reading, LhFieldSink *sink, bool mismatch,
			 const char *name, int length, const char *start)
{
	LhField		field = {.mismatch = mismatch, .name = name, .name_length = length,
		.kind = LH_FIELD_JSON, .text = start, .length = reading->scan->p - start};

	if (field.length == 4 && memcmp(start, "null", 4) == 0)
		field.kind = LH_FIELD_NULL;
	sink->take(sink, &field);
}

/*
 * Passes over a member that is no column, whose key was scanned last.
 */
static bool
pass_unknown(LhJsonReading *reading, LhFieldSink *sink)
{
	LhJsonScan *scan = reading->scan;
	const char *key = scan->text;
	int			length = scan->length;
	const char *start;
	LhJsonToken token;

	if (sink != NULL && scan->escaped && !lh_json_string(scan, &key, &length, reading->error))
		return false;
	token = lh_json_next(scan);
	start = scan->token;
	if (!lh_json_pass(scan, token))
		return lh_json_refuse(scan, reading->error);
	if (sink != NULL)
		give_to_sink(reading, sink, false, key, length, start);
	return true;
}

/*
 * Finds the column whose name differs from the key only in the case of ASCII
 * letters, or gives -1.
 */
static int
find_folded(const LhJsonRow *row, const LhJsonScan *scan)
{
	if (scan->escaped)
		return -1;
	for (int i = 0; i < row->count; i++)
		if (row->columns[i].value != NULL && row->columns[i].length == scan->length &&
			pg_strncasecmp(row->columns[i].name, scan->text, scan->length) == 0)
			return i;
	return -1;
}

/*
 * Gives a value that did not convert to the sink, and its column NULL.  False if
 * the document fails instead.
 */
static bool
give_mismatch(RowColumn *column, LhJsonReading *reading, LhFieldSink *sink, const char *start,
			  Datum *value, bool *isnull)
{
	*value = (Datum) 0;
	*isnull = true;
	if (reading->permissive)
		return true;
	if (sink == NULL || !sink->rescue)
		return false;
	give_to_sink(reading, sink, true, column->name, column->length, start);
	/* a domain may refuse the NULL: then the record is a reject */
	if (OidIsValid(column->value->domain))
		domain_check((Datum) 0, true, column->value->domain, &column->value->domain_state,
					 column->value->context);
	return true;
}

/*
 * Begins to remember what the columns take of an object, because a value that a
 * later one of the same name replaces is to be rescued.
 */
static void
begin_taking(LhJsonRow *row)
{
	if (row->taken == NULL)
		row->taken = MemoryContextAllocZero(GetMemoryChunkContext(row),
											sizeof(TakenValue) * Max(row->count, 1));
	row->objects++;
}

/*
 * The column took the value that was read last; what it took before from the same
 * object goes to the sink.
 */
static void
take_value(LhJsonRow *row, const LhJsonReading *reading, LhFieldSink *sink, int i,
		   const char *start, bool nothing)
{
	TakenValue *taken = &row->taken[i];
	LhField		field = {.duplicate = true, .name = row->columns[i].name,
		.name_length = row->columns[i].length, .kind = LH_FIELD_JSON,
	.text = taken->start, .length = taken->length};

	if (taken->object == row->objects)
		sink->take(sink, &field);
	taken->object = nothing ? 0 : row->objects;
	taken->start = start;
	taken->length = reading->scan->p - start;
}

/*
 * Remembers what stands from "start" to the value that comes.
 */
static inline void
remember_lead(Lead *lead, int column, const char *start, const char *value)
{
	lead->length = value - start <= LEAD_BYTES ? value - start : 0;
	lead->column = column;
	memcpy(lead->bytes, start, lead->length);
}

/*
 * Goes to the value of the position-th member, whose first token is *token, and
 * returns its column.  Else less than 0: *token is LH_JSON_KEY for a member of no
 * column (as match_key tells), or what came instead of a member.
 */
static inline int
next_column(LhJsonRow *row, LhJsonReading *reading, int position, LhJsonToken *token)
{
	LhJsonScan *scan = reading->scan;
	Lead	   *lead = position < GUESSES ? &row->leads[position] : NULL;
	const char *before = scan->p;
	int			i;

	if (likely(lead != NULL && lead->length > 0))
		switch (lh_json_follow(scan, lead->bytes, lead->length))
		{
			case LH_JSON_PLAIN:
				*token = *scan->token == '"' ? LH_JSON_STRING : LH_JSON_NUMBER;
				return lead->column;
			case LH_JSON_AT_VALUE:
				*token = lh_json_next(scan);
				return lead->column;
			default:
				break;
		}
	*token = lh_json_next(scan);
	if (*token != LH_JSON_KEY)
		return -1;
	i = match_key(row, reading, position);
	if (i < 0)
		return i;
	*token = lh_json_next(scan);
	if (lead != NULL && *token != LH_JSON_FAULT)
		remember_lead(lead, i, before, scan->token);
	return i;
}

/*
 * Reads the value of a column, of which "token" is the first.
 */
static inline bool
read_member(const RowColumn *column, LhJsonReading *reading, LhFieldSink *sink,
			const char **raising, LhJsonToken token, Datum *value, bool *isnull)
{
	const LhJsonScan *scan = reading->scan;
	LhJsonValue *target = column->value;

	if (likely(target->plain &&
			   (token == LH_JSON_NUMBER || (token == LH_JSON_STRING && !scan->escaped))))
	{
		*isnull = false;
		return lh_convert(&target->converter, scan->text, scan->length, value, reading->error);
	}
	reading->column = column->name;
	if (raising != NULL)
		*raising = reading->column;
	reading->sink = sink;
	return lh_json_value_read(target, reading, token, value, isnull);
}

/*
 * Within the loop an error of a value leaves the scanner behind it; an error of
 * the text, which "fault" shows, ends everything.
 */
bool
lh_json_row_fill(LhJsonRow *row, LhJsonReading *reading, Datum *values, bool *nulls)
{
	LhJsonScan *scan = reading->scan;
	LhFieldSink *sink = reading->sink;
	const char **raising = reading->raising;
	bool		rescue = sink != NULL && sink->rescue;
	int			position = 0;

	/* what is within belongs to the column at hand */
	reading->raising = NULL;
	if (rescue)
		begin_taking(row);
	for (;; position++)
	{
		LhJsonToken token;
		int			i = next_column(row, reading, position, &token);
		const char *start;

		if (i < 0)
		{
			if (token == LH_JSON_OBJECT_END)
				return true;
			if (token != LH_JSON_KEY)
				return lh_json_refuse(scan, reading->error);
			if (i == -2 && !reading->permissive)
				return false;
			if (i == -1 && sink != NULL && sink->fold && (i = find_folded(row, scan)) >= 0)
				token = lh_json_next(scan);
		}
		if (i < 0)
		{
			if (!pass_unknown(reading, sink != NULL && sink->unknown ? sink : NULL))
				return false;
			continue;
		}
		start = scan->token;
		if (read_member(&row->columns[i], reading, sink, raising, token, &values[i], &nulls[i]))
		{
			if (rescue)
				take_value(row, reading, sink, i, start, nulls[i]);
			continue;
		}
		if (scan->fault != LH_JSON_FINE)
			return false;

		/* a row in this one may have set it */
		reading->column = row->columns[i].name;
		if (!give_mismatch(&row->columns[i], reading, sink, start, &values[i], &nulls[i]))
			return false;
		if (rescue)
			take_value(row, reading, sink, i, start, true);
	}
}
