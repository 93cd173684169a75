/*
 * csv_options.c
 *	  The options of the format "csv".
 */
#include "postgres.h"

#include "catalog/options.h"
#include "mb/pg_wchar.h"
#include "source/csv_options.h"
#include "source/encoding.h"

static const char *const option_names[] = {
	"comment", "empty_value", "encoding", "encoding_errors", "enforce_schema", "escape", "header",
	"ignore_extra_columns", "ignore_leading_white_space", "ignore_trailing_white_space", "line_sep",
	"locale", "max_chars_per_column", "merge_schema", "multi_line", "null_value", "prefer_date",
	"quote", "ragged", "sep", "skip_rows", "unescaped_quote_handling", LH_CONVERT_OPTION_NAMES, NULL
};

static const LhOptionAlias aliases[] = {{"charset", "encoding"}, {"delimiter", "sep"},
{"nullvalues", "null_value"}, {"maxcharspercol", "max_chars_per_column"}, {NULL, NULL}};

/*
 * Reads what is to become of records with another number of fields.
 */
static bool
get_ragged(Jsonb *json)
{
	char	   *text = lh_options_text(json, "ragged", "reject");
	bool		permissive = strcmp(text, "permissive") == 0;

	if (!permissive && strcmp(text, "reject") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"ragged\""),
				 errhint("Values are \"reject\" and \"permissive\".")));
	return permissive;
}

/*
 * Reads an option that is one byte, or none at all if it may be empty.
 */
static char
get_character(Jsonb *json, const char *name, const char *missing, bool may_be_empty)
{
	char	   *text = lh_options_text(json, name, missing);
	char		result = text[0];

	if (strlen(text) > 1 || (text[0] == '\0' && !may_be_empty) ||
		text[0] == '\n' || text[0] == '\r' || ((unsigned char) text[0] & 0x80) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("The option takes one ASCII character that does not end a line%s.",
						   may_be_empty ? ", or an empty text" : "")));
	pfree(text);
	return result;
}

/*
 * Characters with a meaning must differ, and in an encoding whose multi-byte
 * characters contain ASCII bytes must not be one of those.
 */
static void
check_characters(const LhCsvOptions *options)
{
	char		special[] = {options->sep, options->quote, options->escape, options->comment};
	int			i,
				j;

	for (i = 0; i < lengthof(special); i++)
	{
		for (j = 0; j < i; j++)
			if (special[i] != '\0' && special[i] == special[j])
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("options \"sep\", \"quote\", \"escape\" and \"comment\" must differ"),
						 errdetail("The character \"%c\" is used twice.", special[i])));
		if (special[i] >= '0' && PG_ENCODING_IS_CLIENT_ONLY(options->encoding))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the character \"%c\" has no clear meaning in encoding \"%s\"",
							special[i], pg_encoding_to_char(options->encoding)),
					 errdetail("It can be a part of other characters there.")));
	}
}

/*
 * Reads what is made of quotes that were not escaped.
 */
static LhCsvUnescaped
get_unescaped(Jsonb *json)
{
	/* in the order of LhCsvUnescaped */
	static const char *const names[] = {"RAISE_ERROR", "STOP_AT_DELIMITER", "BACK_TO_DELIMITER",
	"STOP_AT_CLOSING_QUOTE", NULL};
	char	   *text = lh_options_text(json, "unescaped_quote_handling", names[0]);

	for (int i = 0; names[i] != NULL; i++)
		if (pg_strcasecmp(text, names[i]) == 0)
			return (LhCsvUnescaped) i;
	lh_options_refuse(text, names, "value of option \"unescaped_quote_handling\"");
}

/*
 * Reads a mark of up to LH_CSV_MAX_MARK bytes; returns its length.
 */
static uint32
get_mark(Jsonb *json, const char *name, const char *missing, char *mark, int encoding)
{
	char	   *text = lh_options_text(json, name, missing);
	uint32		length = strlen(text);
	bool		ascii = true;

	for (uint32 i = 0; i < length; i++)
		ascii &= (text[i] & 0x80) == 0;
	if (length > LH_CSV_MAX_MARK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("The option takes up to %d bytes.", LH_CSV_MAX_MARK)));
	if (!ascii && encoding != GetDatabaseEncoding())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"%s\" must be ASCII for files in encoding \"%s\"",
						name, pg_encoding_to_char(encoding)),
				 errdetail("The encoding is not that of the database.")));
	memcpy(mark, text, length);
	return length;
}

/*
 * In an encoding whose characters contain ASCII bytes, or next to other marks, some
 * marks have no clear meaning.
 */
static void
check_wide(const LhCsvOptions *options, const LhCsvWide *wide)
{
	const char	special[] = {options->quote, options->escape, options->comment};

	if (PG_ENCODING_IS_CLIENT_ONLY(options->encoding))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("separators of several bytes, line ends and blanks cannot be chosen for encoding \"%s\"",
						pg_encoding_to_char(options->encoding)),
				 errdetail("Their bytes can be a part of other characters there.")));
	for (int i = 0; i < lengthof(special); i++)
		if (special[i] != '\0' &&
			(memchr(wide->sep, special[i], wide->sep_length) != NULL ||
			 memchr(wide->line_sep, special[i], wide->line_sep_length) != NULL))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("options \"sep\" and \"line_sep\" must not hold the character \"%c\"", special[i]),
					 errdetail("It is the quote, the escape or the comment character.")));
	if (wide->line_sep_length > 0 && wide->line_sep_length <= wide->sep_length &&
		memcmp(wide->sep, wide->line_sep, wide->line_sep_length) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"sep\" must not begin with the value of option \"line_sep\"")));
	if (wide->line_sep_length == 0 &&
		(memchr(wide->sep, '\n', wide->sep_length) != NULL || memchr(wide->sep, '\r', wide->sep_length) != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"sep\""),
				 errdetail("A separator with an end of line needs the option \"line_sep\".")));
}

/*
 * Reads what the fast scanner does not know; leaves options->wide NULL if there is
 * nothing of it.
 */
static void
parse_wide(Jsonb *json, LhCsvOptions *options)
{
	LhCsvWide  *wide = palloc0(sizeof(LhCsvWide));

	wide->sep_length = get_mark(json, "sep", ",", wide->sep, options->encoding);
	wide->line_sep_length = get_mark(json, "line_sep", "", wide->line_sep, options->encoding);
	wide->trim_left = lh_options_bool(json, "ignore_leading_white_space", false);
	wide->trim_right = lh_options_bool(json, "ignore_trailing_white_space", false);
	wide->unescaped = get_unescaped(json);
	if (wide->sep_length <= 1 && wide->line_sep_length == 0 && !wide->trim_left &&
		!wide->trim_right && wide->unescaped == LH_CSV_REJECT)
	{
		options->sep = get_character(json, "sep", ",", false);
		return;
	}
	if (wide->sep_length == 0)
		(void) get_character(json, "sep", ",", false);	/* raises */
	check_wide(options, wide);
	options->wide = wide;
}

/*
 * Reads one null marker, or a list of them: the first goes into null_value.
 */
static void
parse_nulls(Jsonb *json, LhCsvOptions *options)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&json->root, "null_value", 10, NULL);
	uint32		count;

	if (value == NULL || value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data) ||
		(count = JsonContainerSize(value->val.binary.data)) == 0)
	{
		options->null_value = lh_options_text(json, "null_value", "");
		return;
	}
	options->more_nulls = palloc0(sizeof(char *) * (count + 1));
	for (uint32 i = 0; i < count; i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(value->val.binary.data, i);

		if (item->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"null_value\""),
					 errdetail("The option takes a text, or an array of texts.")));
		options->more_nulls[i] = pnstrdup(item->val.string.val, item->val.string.len);
	}
	options->null_value = *options->more_nulls++;
	if (count == 1)
		options->more_nulls = NULL;
}

/*
 * Options that others have and that change nothing here, because what they ask for
 * is done anyway; and those of inference, which guess.c reads.
 */
static void
check_others(Jsonb *json)
{
	char	   *locale = lh_options_text(json, "locale", "en");

	(void) lh_options_bool(json, "multi_line", true);
	(void) lh_options_bool(json, "enforce_schema", true);
	(void) lh_options_bool(json, "merge_schema", true);
	(void) lh_options_bool(json, "prefer_date", true);
	if (pg_strncasecmp(locale, "en", 2) != 0 || (locale[2] != '\0' && strchr("-_", locale[2]) == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("locale \"%s\" is not known", locale),
				 errdetail("Names of months and days are read in English only.")));
}

void
lh_csv_options_parse(Jsonb *json, LhCsvOptions *options)
{
	json = lh_options_canonical(json, option_names, aliases);
	lh_options_check(json, option_names, "CSV option");
	memset(options, 0, sizeof(*options));
	options->header = lh_options_bool(json, "header", false);
	options->ignore_extra_columns = lh_options_bool(json, "ignore_extra_columns", false);
	options->encoding = lh_encoding_option(json);
	options->replace = lh_encoding_replace_option(json);
	options->quote = get_character(json, "quote", "\"", true);
	options->escape = get_character(json, "escape", "", true);
	if (options->escape == options->quote)
		options->escape = '\0';
	options->comment = get_character(json, "comment", "", true);
	parse_wide(json, options);
	parse_nulls(json, options);
	options->empty_value = lh_options_text(json, "empty_value", "");
	options->ragged = get_ragged(json);
	options->skip_rows = lh_options_int(json, "skip_rows", 0, 0, PG_INT32_MAX);
	options->max_chars = lh_options_int(json, "max_chars_per_column", -1, -1, PG_INT32_MAX);
	lh_convert_options_parse(json, &options->convert);
	check_others(json);
	check_characters(options);
}
