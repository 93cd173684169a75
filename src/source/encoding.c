/*
 * encoding.c
 *	  Bytes of a file in its encoding to text in the server's, without raising.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/options.h"
#include "mb/pg_wchar.h"
#include "source/encoding.h"
#include "utils/memutils.h"

int
lh_encoding_option(Jsonb *options)
{
	char	   *name = lh_options_text(options, "encoding", "UTF8");
	int			encoding = pg_char_to_encoding(name);

	if (encoding < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"encoding\""),
				 errdetail("There is no encoding \"%s\".", name)));
	return encoding;
}

void
lh_encoding_init(LhEncoding *encoding, int file_encoding)
{
	int			server = GetDatabaseEncoding();

	encoding->conversion = InvalidOid;
	encoding->encoding = file_encoding == PG_SQL_ASCII ? server : file_encoding;
	if (encoding->encoding == server || server == PG_SQL_ASCII)
		return;
	encoding->conversion = FindDefaultConversionProc(file_encoding, server);
	if (!OidIsValid(encoding->conversion))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("there is no conversion from encoding \"%s\" to \"%s\"",
						pg_encoding_to_char(file_encoding), GetDatabaseEncodingName())));
}

/*
 * Names the bytes at "data" that are no character.
 */
static bool
refuse_bytes(int encoding, const char *data, int length, LhError *error)
{
	int			shown = Min(length, pg_encoding_mblen(encoding, data));
	char		bytes[8 * 5 + 1];
	int			i;

	shown = Max(1, Min(shown, 8));
	for (i = 0; i < shown; i++)
		sprintf(bytes + 5 * i, " 0x%02x", (unsigned char) data[i]);
	return lh_error_set(error, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
						"invalid byte sequence for encoding \"%s\":%s",
						pg_encoding_to_char(encoding), bytes);
}

bool
lh_encoding_check(const LhEncoding *encoding, const char *data, int length, LhError *error)
{
	int			valid = pg_encoding_verifymbstr(encoding->encoding, data, length);

	if (valid < length)
		return refuse_bytes(encoding->encoding, data + valid, length - valid, error);
	return true;
}

bool
lh_encoding_convert(const LhEncoding *encoding, const char *data, int length,
					const char **result, int *result_length, LhError *error)
{
	Size		size;
	char	   *buffer;
	int			used;

	*result = data;
	*result_length = length;
	if (!lh_encoding_check(encoding, data, length, error))
		return false;
	if (!OidIsValid(encoding->conversion))
		return true;

	size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	if (size > MaxAllocSize)
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"%d bytes are too many for a conversion of encoding", length);
	buffer = palloc(size);
	used = pg_do_encoding_conversion_buf(encoding->conversion, encoding->encoding,
										 GetDatabaseEncoding(),
										 (unsigned char *) unconstify(char *, data), length,
										 (unsigned char *) buffer, (int) size, true);
	if (used < length)
	{
		pfree(buffer);
		return lh_error_set(error, ERRCODE_UNTRANSLATABLE_CHARACTER,
							"character at byte %d has no equivalent in encoding \"%s\"",
							used, GetDatabaseEncodingName());
	}
	*result = buffer;
	*result_length = strlen(buffer);
	return true;
}
