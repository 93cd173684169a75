/*
 * partition_path.c
 *	  Values that stand in the names of folders: key=value.
 */
#include "postgres.h"

#include "bronze/partition_path.h"
#include "catalog/options.h"
#include "mb/pg_wchar.h"

#define OPTION "partition_columns"
#define NULL_VALUE "__HIVE_DEFAULT_PARTITION__"

char **
lh_partition_names(Jsonb *options)
{
	char	  **names = lh_options_list(options, OPTION,
										"an array of column names, or a text with commas between them");

	return names != NULL ? names : palloc0(sizeof(char *));
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/*
 * Resolves %XX, as writers of such folders use it for bytes that a name cannot
 * have.  What would be no text stays as it is.
 */
static char *
unescape(const char *text, int length)
{
	char	   *result = palloc(length + 1);
	char	   *to = result;

	for (int i = 0; i < length; i++)
	{
		if (text[i] == '%' && i + 2 < length &&
			hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0)
		{
			*to++ = (char) (hex_digit(text[i + 1]) << 4 | hex_digit(text[i + 2]));
			i += 2;
		}
		else
			*to++ = text[i];
	}
	*to = '\0';
	if (strlen(result) != to - result || !pg_verifymbstr(result, to - result, true))
		return pnstrdup(text, length);
	return result;
}

char *
lh_partition_value(const char *path, const char *name)
{
	size_t		name_length = strlen(name);
	const char *slash;

	/* folders only: what follows the last slash is the file's name */
	for (; (slash = strchr(path, '/')) != NULL; path = slash + 1)
	{
		const char *value = path + name_length + 1;

		if ((size_t) (slash - path) <= name_length || strncmp(path, name, name_length) != 0 ||
			path[name_length] != '=')
			continue;
		if (slash - value == strlen(NULL_VALUE) && strncmp(value, NULL_VALUE, slash - value) == 0)
			return NULL;
		return unescape(value, slash - value);
	}
	return NULL;
}
