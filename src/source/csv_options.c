/*
 * csv_options.c
 *	  The options of the format "csv".
 */
#include "postgres.h"

#include "catalog/options.h"
#include "mb/pg_wchar.h"
#include "source/csv_options.h"

static const char *const option_names[] = {
	"comment", "empty_value", "encoding", "escape", "header", "ignore_extra_columns",
	"null_value", "quote", "ragged", "sep", "skip_rows", NULL
};

static const LhOptionAlias aliases[] = {{"charset", "encoding"}, {"delimiter", "sep"}, {NULL, NULL}};

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

void
lh_csv_options_parse(Jsonb *json, LhCsvOptions *options)
{
	char	   *encoding;

	json = lh_options_canonical(json, option_names, aliases);
	lh_options_check(json, option_names, "CSV option");
	memset(options, 0, sizeof(*options));
	options->header = lh_options_bool(json, "header", false);
	options->ignore_extra_columns = lh_options_bool(json, "ignore_extra_columns", false);
	options->sep = get_character(json, "sep", ",", false);
	options->quote = get_character(json, "quote", "\"", true);
	options->escape = get_character(json, "escape", "", true);
	if (options->escape == options->quote)
		options->escape = '\0';
	options->comment = get_character(json, "comment", "", true);
	options->null_value = lh_options_text(json, "null_value", "");
	options->empty_value = lh_options_text(json, "empty_value", "");
	options->ragged = get_ragged(json);
	options->skip_rows = lh_options_int(json, "skip_rows", 0, 0, PG_INT32_MAX);

	encoding = lh_options_text(json, "encoding", "UTF8");
	options->encoding = pg_char_to_encoding(encoding);
	if (options->encoding < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"encoding\""),
				 errdetail("There is no encoding \"%s\".", encoding)));
	check_characters(options);
}
