/*
 * schema_hint.c
 *	  "name type, name type": columns whose type a person gives.
 *
 * Type names are PostgreSQL's; those that the field uses beside them are
 * translated, so that hints can be taken over as they are.
 */
#include "postgres.h"

#include "bronze/schema_hint.h"
#include "parser/parse_type.h"
#include "parser/scansup.h"
#include "utils/builtins.h"

static const char *const aliases[][2] = {
	{"string", "text"}, {"long", "bigint"}, {"short", "smallint"}, {"byte", "smallint"},
	{"tinyint", "smallint"}, {"float", "real"}, {"double", "double precision"},
	{"binary", "bytea"}, {"timestamp", "timestamptz"}, {"timestamp_ntz", "timestamp"},
	{"timestamp_ltz", "timestamptz"}, {"variant", "jsonb"}
};

static void
refuse(const char *text, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("schema hints cannot be read"),
			 errdetail("%s: \"%s\".", why, text),
			 errhint("Write them as \"name type, name type\", with double quotes around a name that holds blanks or commas.")));
}

/*
 * Returns where the hint that begins at p ends: at a comma outside of quotes and
 * parentheses.
 */
static const char *
end_of_hint(const char *p, const char *text)
{
	int			depth = 0;
	bool		quoted = false;

	for (; *p != '\0'; p++)
	{
		if (*p == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (*p == '(' || *p == '<')
			depth++;
		else if (*p == ')' || *p == '>')
			depth--;
		else if (*p == ',' && depth == 0)
			break;
	}
	if (quoted || depth != 0)
		refuse(text, "A quote or parenthesis is not closed");
	return p;
}

/*
 * Takes the name off the front of a hint; *p is then behind it.
 */
static char *
take_name(char **p, const char *text)
{
	char	   *name = *p;
	char	   *to = *p;

	if (**p != '"')
	{
		while (**p != '\0' && !scanner_isspace(**p))
			(*p)++;
		name = pnstrdup(name, *p - name);
		if (strchr(name, '.') != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("schema hints for parts of a column are not supported"),
					 errdetail("\"%s\" is such a part, unless it stands in double quotes.", name),
					 errhint("Nested objects are kept whole, as jsonb; or give the column a composite type.")));
		return name;
	}
	for ((*p)++; **p != '\0'; (*p)++)
	{
		if (**p == '"' && *(*p + 1) != '"')
			break;
		if (**p == '"')
			(*p)++;
		*to++ = **p;
	}
	if (**p != '"')
		refuse(text, "A quote is not closed");
	(*p)++;
	return pnstrdup(name, to - name);
}

/*
 * Returns the type as the server writes it.
 */
static char *
resolve_type(char *type)
{
	Oid			oid;
	int32		typmod;

	for (int i = 0; i < lengthof(aliases); i++)
		if (pg_strcasecmp(type, aliases[i][0]) == 0)
			type = pstrdup(aliases[i][1]);
	if (pg_strncasecmp(type, "struct<", 7) == 0 || pg_strncasecmp(type, "map<", 4) == 0 ||
		pg_strncasecmp(type, "array<", 6) == 0)
		type = pstrdup("jsonb");
	parseTypeString(type, &oid, &typmod, false);
	return format_type_with_typemod(oid, typmod);
}

List *
lh_schema_hints_parse(const char *text)
{
	List	   *hints = NIL;
	const char *p = text;

	while (p != NULL)
	{
		const char *end = end_of_hint(p, text);
		LhHint	   *hint = palloc(sizeof(LhHint));
		char	   *part;
		int			length;

		while (p < end && scanner_isspace(*p))
			p++;
		for (length = end - p; length > 0 && scanner_isspace(p[length - 1]);)
			length--;
		if (length == 0 && *end == '\0' && hints == NIL)
			break;
		part = pnstrdup(p, length);
		hint->name = take_name(&part, text);
		while (scanner_isspace(*part))
			part++;
		if (hint->name[0] == '\0' || *part == '\0')
			refuse(text, "A hint lacks its name or its type");
		if (lh_schema_hints_find(hints, hint->name, strlen(hint->name)) != NULL)
			refuse(text, psprintf("Column \"%s\" is named twice", hint->name));
		hint->type = resolve_type(part);
		hints = lappend(hints, hint);
		p = *end == ',' ? end + 1 : NULL;
	}
	return hints;
}

const LhHint *
lh_schema_hints_find(const List *hints, const char *name, int length)
{
	ListCell   *cell;

	foreach(cell, hints)
	{
		const LhHint *hint = lfirst(cell);

		if (strlen(hint->name) == length && memcmp(hint->name, name, length) == 0)
			return hint;
	}
	return NULL;
}
