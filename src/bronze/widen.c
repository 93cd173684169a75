/*
 * widen.c
 *	  Wider types for columns of the target of a source.
 *
 * Invariant: a value that did not fit is in the wider column, or in the column
 * for rescued data of the narrow one; never changed to fit.  A column is widened
 * by the transaction that stores the first such value, together with its row in
 * lakehouse.schema_change.  What cannot be widened never stops the source: it is
 * entered as pending and not tried again until a person acts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "bronze/evolve.h"
#include "bronze/widen.h"
#include "catalog/catalog_access.h"
#include "catalog/subtransaction.h"
#include "compat.h"
#include "convert/convert.h"
#include "fault.h"
#include "guc.h"

struct LhWiden
{
	MemoryContext context;
	TupleDesc	tupdesc;
	bool		dates;
	bool	   *pinned;			/* for each column */
	Oid		   *wanted;			/* for each column; InvalidOid = none */
	int			wanted_count;
};

/* each type, and the next wider one; values keep their meaning exactly */
static const Oid ladder[][2] = {
	{INT2OID, INT4OID}, {INT4OID, INT8OID}, {INT8OID, NUMERICOID},
	{FLOAT4OID, FLOAT8OID}, {DATEOID, TIMESTAMPOID}
};

static Oid
next_type(Oid type)
{
	for (int i = 0; i < lengthof(ladder); i++)
		if (ladder[i][0] == type)
			return ladder[i][1];
	return InvalidOid;
}

/* ------------------------------------------------------- what is wanted */

LhWiden *
lh_widen_create(TupleDesc tupdesc, bool dates)
{
	LhWiden    *widen = palloc0(sizeof(LhWiden));

	widen->context = CurrentMemoryContext;
	widen->tupdesc = tupdesc;
	widen->dates = dates;
	widen->pinned = palloc0(sizeof(bool) * (tupdesc->natts + 1));
	widen->wanted = palloc0(sizeof(Oid) * (tupdesc->natts + 1));
	return widen;
}

void
lh_widen_begin(LhWiden *widen)
{
	memset(widen->wanted, 0, sizeof(Oid) * widen->tupdesc->natts);
	widen->wanted_count = 0;
}

static int
find_column(const LhWiden *widen, const char *name, int length)
{
	int			found = -1;

	for (int i = 0; i < widen->tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(widen->tupdesc, i);

		if (attribute->attisdropped || strlen(NameStr(attribute->attname)) != length ||
			pg_strncasecmp(NameStr(attribute->attname), name, length) != 0)
			continue;
		if (memcmp(NameStr(attribute->attname), name, length) == 0)
			return i;
		found = i;
	}
	return found;
}

void
lh_widen_pin(LhWiden *widen, const LhSource *source)
{
	static const Oid types[] = {INT4OID, OIDOID};
	Datum		values[2] = {Int32GetDatum(source->source_id), ObjectIdGetDatum(source->target)};
	LhCatalog	catalog;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT column_name, old_type FROM lakehouse.schema_change"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1 AND relation OPERATOR(pg_catalog.=) $2 AND pending",
						   2, types, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		char	   *name = lh_catalog_text(row, 1, CurrentMemoryContext);
		char	   *type = lh_catalog_text(row, 2, CurrentMemoryContext);
		int			column = find_column(widen, name, strlen(name));

		/* somebody may have changed the type since */
		if (column >= 0 && strcmp(type, format_type_be(TupleDescAttr(widen->tupdesc, column)->atttypid)) == 0)
			widen->pinned[column] = true;
	}
	lh_catalog_end(&catalog);
}

/*
 * field_text gives what the type's conversion would be given: what stands in
 * the quotes of a JSON string that has no escapes.
 */
static bool
field_text(const LhField *field, const char **text, int *length)
{
	*text = field->text;
	*length = field->length;
	if (field->kind == LH_FIELD_JSON && *length >= 2 && (*text)[0] == '"')
	{
		if (memchr(*text, '\\', *length) != NULL)
			return false;
		(*text)++;
		*length -= 2;
	}
	return field->kind != LH_FIELD_NULL;
}

/*
 * is_local_time tells whether a text is a day and a time without a zone, which a
 * timestamp would drop.
 */
static bool
is_local_time(const char *text, int length)
{
	static const char day[] = "dddd-dd-dd";

	if (length < (int) sizeof(day) - 1)
		return false;
	for (int i = 0; i < (int) sizeof(day) - 1; i++)
		if (day[i] == 'd' ? !(text[i] >= '0' && text[i] <= '9') : text[i] != day[i])
			return false;
	for (int i = sizeof(day) - 1; i < length; i++)
		if (strchr("0123456789:. T", text[i]) == NULL || text[i] == '\0')
			return false;
	return true;
}

static bool
fits(Oid type, const char *text, int length)
{
	FormData_pg_attribute attribute;
	LhConverter converter;
	LhError		error;
	Datum		value;

	if (type == TIMESTAMPOID && !is_local_time(text, length))
		return false;
	memset(&attribute, 0, sizeof(attribute));
	attribute.atttypid = type;
	attribute.atttypmod = -1;
	lh_converter_init(&converter, &attribute, CurrentMemoryContext);
	if (!lh_convert(&converter, text, length, &value, &error))
		return false;
	/* a word for no number is no reason to widen */
	if (type == NUMERICOID)
		return !numeric_is_nan(DatumGetNumeric(value)) && !numeric_is_inf(DatumGetNumeric(value));
	if (type == FLOAT8OID)
		return !isnan(DatumGetFloat8(value)) && !isinf(DatumGetFloat8(value));
	return true;
}

void
lh_widen_note(LhWiden *widen, const LhField *field)
{
	int			column = find_column(widen, field->name, field->name_length);
	Form_pg_attribute attribute;
	const char *text;
	int			length;
	Oid			type;

	if (column < 0 || widen->pinned[column] || !field_text(field, &text, &length))
		return;
	attribute = TupleDescAttr(widen->tupdesc, column);
	if (attribute->atttypid == DATEOID && !widen->dates)
		return;
	type = OidIsValid(widen->wanted[column]) ? widen->wanted[column] : next_type(attribute->atttypid);
	for (; OidIsValid(type); type = next_type(type))
		if (fits(type, text, length))
		{
			widen->wanted_count += !OidIsValid(widen->wanted[column]);
			widen->wanted[column] = type;
			return;
		}
}

bool
lh_widen_is_wanted(const LhWiden *widen)
{
	return widen->wanted_count > 0;
}

List *
lh_widen_wanted(const LhWiden *widen)
{
	List	   *widenings = NIL;

	for (int i = 0; widen->wanted_count > 0 && i < widen->tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(widen->tupdesc, i);
		LhWidening *widening;

		if (!OidIsValid(widen->wanted[i]))
			continue;
		widening = palloc(sizeof(LhWidening));
		widening->column = pstrdup(NameStr(attribute->attname));
		widening->from = attribute->atttypid;
		widening->to = widen->wanted[i];
		widenings = lappend(widenings, widening);
	}
	return widenings;
}

/* ---------------------------------------------------------- what is done */

/*
 * record_change enters a column that was widened; or, with an obstacle, one that
 * was not.
 */
static void
record_change(const LhSource *source, int64 file_id, const LhWidening *widening, const LhError *obstacle)
{
	static const Oid types[] = {INT4OID, OIDOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID};
	bool		pending = obstacle->sqlstate != 0;
	Datum		values[9];
	char		nulls[10] = "         ";
	LhCatalog	catalog;

	values[0] = Int32GetDatum(source->source_id);
	values[1] = ObjectIdGetDatum(source->target);
	values[2] = Int64GetDatum(file_id);
	values[3] = CStringGetTextDatum(pending ? "widening pending" : "column widened");
	values[4] = CStringGetTextDatum(widening->column);
	values[5] = CStringGetTextDatum(format_type_be(widening->to));
	values[6] = CStringGetTextDatum(format_type_be(widening->from));
	values[7] = pending ? CStringGetTextDatum(psprintf("%s %s", unpack_sql_state(obstacle->sqlstate), obstacle->message)) : (Datum) 0;
	nulls[7] = pending ? ' ' : 'n';
	values[8] = BoolGetDatum(pending);
	lh_catalog_begin(&catalog);
	lh_catalog_run("INSERT INTO lakehouse.schema_change (source_id, relation, file_id, change, column_name, column_type,"
				   "  old_type, reason, pending) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", 9, types, values, nulls);
	lh_catalog_end(&catalog);
	LH_FAULT("widen-recorded");
	if (pending)
		ereport(WARNING,
				(errcode(obstacle->sqlstate),
				 errmsg("column \"%s\" of table \"%s\" is not widened to %s: %s", widening->column,
						get_rel_name(source->target), format_type_be(widening->to), obstacle->message),
				 errdetail("Values that do not fit are kept as rescued data."),
				 errhint("Change the type with ALTER TABLE and use lakehouse.promote_rescued, or remove the reason and call lakehouse.alter_source or lakehouse.resume_source to have it tried again.")));
}

/*
 * is_too_large looks whether the table has more rows than may be rewritten while
 * everybody waits.
 */
static bool
is_too_large(const char *table)
{
	int64		rows;
	bool		isnull;

	if (lh_widen_max_rows < 0)
		return false;
	SPI_connect();
	if (SPI_execute(psprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM %s LIMIT " INT64_FORMAT ") q",
							 table, (int64) lh_widen_max_rows + 1), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not count the rows of %s", table);
	rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return rows > lh_widen_max_rows;
}

/*
 * is_obstacle tells errors that ALTER TABLE raises because of what the column is,
 * from those of the server, of somebody's wish, or of the moment.
 */
static bool
is_obstacle(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:	/* a lock, or the table in use */
			return false;
		default:
			return true;
	}
}

/*
 * alter_type changes the type in a subtransaction; false with *obstacle if that is
 * not possible: a view, a generated column, a partition key ...
 */
static bool
alter_type(const char *table, const LhWidening *widening, LhError *obstacle)
{
	LhSubtransaction sub;
	char	   *sql = psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s", table,
							   quote_identifier(widening->column),
							   format_type_extended(widening->to, -1, FORMAT_TYPE_FORCE_QUALIFY));
	volatile bool done = false;

	lh_subtransaction_begin(&sub);
	PG_TRY();
	{
		SPI_connect();
		if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "statement failed: %s", sql);
		SPI_finish();
		LH_FAULT("widen-altered");
		lh_subtransaction_commit(&sub);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error = lh_subtransaction_caught(&sub);

		if (!is_obstacle(error->sqlerrcode))
			ReThrowError(error);
		(void) lh_error_set(obstacle, error->sqlerrcode, "%s%s%s", error->message,
							error->detail ? ": " : "", error->detail ? error->detail : "");
		FreeErrorData(error);
	}
	PG_END_TRY();
	return done;
}

/*
 * is_as_seen tells whether the column is still what the file was read for; another
 * source or worker may have been faster.
 */
static bool
is_as_seen(Oid relation, const LhWidening *widening)
{
	AttrNumber	number = get_attnum(relation, widening->column);

	return number > 0 && get_atttype(relation, number) == widening->from;
}

static void
widen_column(const LhSource *source, int64 file_id, const LhWidening *widening)
{
	char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(source->target)),
												   get_rel_name(source->target));
	LhError		obstacle = {0};

	if (!is_as_seen(source->target, widening))
		return;
	/* nobody's table is locked who does not own it, or for long */
	if (!lh_compat_table_ownercheck(source->target, GetUserId()))
		(void) lh_error_set(&obstacle, ERRCODE_INSUFFICIENT_PRIVILEGE, "role \"%s\", which owns the source, does not own the table",
							GetUserNameFromId(GetUserId(), false));
	else if (is_too_large(table))
		(void) lh_error_set(&obstacle, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"the table has more than %d rows (lakehouse.widen_max_rows)", lh_widen_max_rows);
	else
	{
		lh_evolve_lock(source->target, "widen a column", "The file is tried again");
		if (!is_as_seen(source->target, widening))
			return;
		(void) alter_type(table, widening, &obstacle);
	}
	record_change(source, file_id, widening, &obstacle);
}

void
lh_widen_columns(const LhSource *source, int64 file_id, const List *widenings)
{
	ListCell   *cell;

	foreach(cell, widenings)
		widen_column(source, file_id, lfirst(cell));
}
