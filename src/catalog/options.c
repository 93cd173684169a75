/*
 * options.c
 *	  Checked access to the options that a user gives as one jsonb object.
 *
 * A misspelt option must never be ignored: whoever takes options checks all
 * names first, and each value when it reads it.  All errors have SQLSTATE 22023.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "common/int.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/varlena.h"

static const char *const *other_names = NULL;

/*
 * lh_options_closest returns the allowed name that is most like "name", or NULL
 * if none is near enough for a guess to be of help.
 */
const char *
lh_options_closest(const char *name, const char *const *allowed)
{
	const char *closest = NULL;
	int			length = strlen(name);
	int			distance = length / 2;

	if (length == 0 || length > NAMEDATALEN)
		return NULL;
	for (; *allowed != NULL; allowed++)
	{
		int			d = varstr_levenshtein_less_equal(name, length, *allowed, strlen(*allowed),
													  1, 1, 1, distance, true);

		if (d <= distance && d < (int) strlen(*allowed) && (closest == NULL || d < distance))
		{
			closest = *allowed;
			distance = d;
		}
	}
	return closest;
}

const char *const *
lh_options_set_others(const char *const *names)
{
	const char *const *before = other_names;

	other_names = names;
	return before;
}

/*
 * lh_options_refuse raises the error for a name that is not allowed.
 */
void
lh_options_refuse(const char *name, const char *const *allowed, const char *noun)
{
	const char *closest = lh_options_closest(name, allowed);
	StringInfoData list;

	/* a value may not be meant to be an option */
	if (closest == NULL && other_names != NULL && strstr(noun, "value") == NULL)
		closest = lh_options_closest(name, other_names);
	initStringInfo(&list);
	for (; *allowed != NULL; allowed++)
		appendStringInfo(&list, "%s\"%s\"", list.len > 0 ? ", " : "", *allowed);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized %s \"%s\"", noun, name),
			 closest != NULL ? errhint("Did you mean \"%s\"?", closest) :
			 list.len > 0 ? errhint("Known names are %s.", list.data) :
			 errhint("There are no options here.")));
}

/*
 * lh_options_check raises an error unless "options" is an object whose keys are
 * all allowed.
 */
void
lh_options_check(Jsonb *options, const char *const *allowed, const char *noun)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("Write them as '{\"name\": value, ...}'.")));

	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		const char *const *name;
		char	   *key;

		if (token != WJB_KEY)
			continue;
		key = pnstrdup(value.val.string.val, value.val.string.len);
		for (name = allowed; *name != NULL && strcmp(*name, key) != 0; name++)
			;
		if (*name == NULL)
			lh_options_refuse(key, allowed, noun);
		pfree(key);
	}
}

/*
 * Returns a name in lower case, without underscores and the prefix that others
 * write before it.
 */
static char *
fold_name(const char *name)
{
	static const char prefix[] = "cloudfiles.";
	char	   *folded = pstrdup(name);
	char	   *to = folded;

	for (; *name != '\0'; name++)
		if (*name != '_')
			*to++ = pg_ascii_tolower((unsigned char) *name);
	*to = '\0';
	if (strncmp(folded, prefix, strlen(prefix)) == 0)
		folded += strlen(prefix);
	return folded;
}

/*
 * Returns the allowed name that is meant; the name itself if there is none.
 */
static const char *
canonical_name(const char *name, const char *const *allowed, const LhOptionAlias *aliases)
{
	const char *folded;
	const char *const *candidate;

	for (candidate = allowed; *candidate != NULL; candidate++)
		if (strcmp(*candidate, name) == 0)
			return name;
	folded = fold_name(name);
	for (; aliases->alias != NULL; aliases++)
		if (strcmp(aliases->alias, folded) == 0)
			return aliases->name;
	for (candidate = allowed; *candidate != NULL; candidate++)
		if (strcmp(fold_name(*candidate), folded) == 0)
			return *candidate;
	return name;
}

Jsonb *
lh_options_canonical(Jsonb *options, const char *const *allowed, const LhOptionAlias *aliases)
{
	JsonbParseState *state = NULL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	List	   *names = NIL;
	List	   *spellings = NIL;

	if (!JB_ROOT_IS_OBJECT(options))
		return options;			/* lh_options_check says it */
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *spelling = pnstrdup(value.val.string.val, value.val.string.len);
			const char *name = canonical_name(spelling, allowed, aliases);
			ListCell   *cell,
					   *other;

			forboth(cell, names, other, spellings)
				if (strcmp(lfirst(cell), name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("options \"%s\" and \"%s\" mean the same", (char *) lfirst(other), spelling),
						 errhint("Give only one of them.")));
			names = lappend(names, unconstify(char *, name));
			spellings = lappend(spellings, spelling);
			value.val.string.val = unconstify(char *, name);
			value.val.string.len = strlen(name);
			(void) pushJsonbValue(&state, WJB_KEY, &value);
		}
		else if (token == WJB_VALUE)
			(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Returns the value of an option; NULL if it is absent or JSON null.
 */
static JsonbValue *
find_option(Jsonb *options, const char *name)
{
	JsonbValue *value;

	if (options == NULL || !JB_ROOT_IS_OBJECT(options))
		return NULL;
	value = getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL);
	return value == NULL || value->type == jbvNull ? NULL : value;
}

static void
refuse_value(const char *name, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", name),
			 errdetail("The option takes %s.", wanted)));
}

/*
 * lh_options_bool reads a truth value, written as JSON or as text.
 */
bool
lh_options_bool(Jsonb *options, const char *name, bool missing)
{
	JsonbValue *value = find_option(options, name);
	bool		result = missing;

	if (value == NULL)
		return missing;
	if (value->type == jbvBool)
		return value->val.boolean;
	if (value->type != jbvString ||
		!parse_bool_with_len(value->val.string.val, value->val.string.len, &result))
		refuse_value(name, "true or false");
	return result;
}

/*
 * number_text gives what may be a number as text; empty, which is none, for
 * values that cannot be one.
 */
static char *
number_text(const JsonbValue *value)
{
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	return "";
}

/*
 * lh_options_int reads a whole number between the two limits, written as JSON
 * number or as text.
 */
int64
lh_options_int(Jsonb *options, const char *name, int64 missing, int64 minimum, int64 maximum)
{
	JsonbValue *value = find_option(options, name);
	char	   *text;
	char	   *end;
	int64		result;

	if (value == NULL)
		return missing;
	text = number_text(value);
	errno = 0;
	result = strtoi64(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' ||
		result < minimum || result > maximum)
		refuse_value(name, psprintf("a whole number from " INT64_FORMAT " to " INT64_FORMAT,
									minimum, maximum));
	return result;
}

/*
 * lh_options_real reads a number between the two limits, written as JSON number
 * or as text.
 */
double
lh_options_real(Jsonb *options, const char *name, double missing, double minimum, double maximum)
{
	JsonbValue *value = find_option(options, name);
	char	   *text;
	char	   *end;
	double		result;

	if (value == NULL)
		return missing;
	text = number_text(value);
	errno = 0;
	result = strtod(text, &end);
	/* written so that NaN is refused */
	if (errno != 0 || end == text || *end != '\0' ||
		!(result >= minimum && result <= maximum))
		refuse_value(name, psprintf("a number from %g to %g", minimum, maximum));
	return result;
}

/*
 * lh_options_text reads a text; the result is the caller's (a copy of "missing"
 * if that is not NULL).
 */
char *
lh_options_text(Jsonb *options, const char *name, const char *missing)
{
	JsonbValue *value = find_option(options, name);

	if (value == NULL)
		return missing == NULL ? NULL : pstrdup(missing);
	if (value->type != jbvString)
		refuse_value(name, "a text");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * split_list takes a text apart at its commas; NULL if a part is empty.
 */
static char **
split_list(const char *text)
{
	char	  **parts = palloc0(sizeof(char *) * (strlen(text) + 2));
	int			count = 0;

	while (*text != '\0')
	{
		size_t		length = strcspn(text, ",");
		size_t		used = length;

		while (used > 0 && *text == ' ')
			text++, used--, length--;
		while (used > 0 && text[used - 1] == ' ')
			used--;
		if (used == 0)
			return NULL;
		parts[count++] = pnstrdup(text, used);
		text += length;
		if (*text == ',')
			text++;
	}
	return parts;
}

/*
 * lh_options_list reads a list of texts that are not empty; the result, ended by
 * NULL, is the caller's.
 */
char **
lh_options_list(Jsonb *options, const char *name, const char *wanted)
{
	JsonbValue *value = find_option(options, name);
	char	  **parts = NULL;
	uint32		count;

	if (value == NULL)
		return NULL;
	if (value->type == jbvString)
		parts = split_list(pnstrdup(value->val.string.val, value->val.string.len));
	else if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data))
	{
		count = JsonContainerSize(value->val.binary.data);
		parts = palloc0(sizeof(char *) * (count + 1));
		for (uint32 i = 0; i < count && parts != NULL; i++)
		{
			JsonbValue *part = getIthJsonbValueFromContainer(value->val.binary.data, i);

			if (part->type == jbvString && part->val.string.len > 0)
				parts[i] = pnstrdup(part->val.string.val, part->val.string.len);
			else
				parts = NULL;
		}
	}
	if (parts == NULL)
		refuse_value(name, wanted);
	return parts;
}

/*
 * lh_options_amount reads a whole number, alone or, as a text, with a unit
 * behind it; an "s" at the end of the unit's name counts for nothing.
 */
int64
lh_options_amount(Jsonb *options, const char *name, int64 missing, const LhOptionUnit *units,
				  const char *wanted)
{
	JsonbValue *value = find_option(options, name);
	char	   *text = NULL;
	char	   *unit;
	size_t		length;
	int64		number;
	int64		result;

	if (value == NULL)
		return missing;
	if (value->type == jbvNumeric)
		text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	else if (value->type == jbvString)
		text = pnstrdup(value->val.string.val, value->val.string.len);
	if (text == NULL)
		refuse_value(name, wanted);
	errno = 0;
	number = strtoi64(text, &unit, 10);
	if (errno != 0 || unit == text || number < 1)
		refuse_value(name, wanted);
	while (*unit == ' ')
		unit++;
	length = strlen(unit);
	if (length > 1 && pg_ascii_tolower(unit[length - 1]) == 's')
		length--;
	for (; units->name != NULL; units++)
		if (strlen(units->name) == length && pg_strncasecmp(units->name, unit, length) == 0 &&
			!pg_mul_s64_overflow(number, units->factor, &result))
			return result;
	refuse_value(name, wanted);
	return 0;					/* not reached */
}
