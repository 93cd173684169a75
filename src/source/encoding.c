/*
 * encoding.c
 *	  Bytes of a file in its encoding to text in the server's, without raising.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/options.h"
#include "lib/stringinfo.h"
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

bool
lh_encoding_replace_option(Jsonb *options)
{
	char	   *text = lh_options_text(options, "encoding_errors", "reject");
	bool		replace = strcmp(text, "replace") == 0;

	if (!replace && strcmp(text, "reject") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"encoding_errors\""),
				 errhint("Values are \"reject\" and \"replace\".")));
	return replace;
}

void
lh_encoding_init(LhEncoding *encoding, int file_encoding)
{
	int			server = GetDatabaseEncoding();

	encoding->replace = false;
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

/*
 * Are all bytes ASCII, and none NUL?  Such a text is valid in every encoding.
 */
static inline bool
is_plain(const char *data, int length)
{
	const char *end = data + length;
	uint64		bytes;
	uint64		high = 0;

	if (length < 8)
		return false;
	for (; end - data > 8; data += 8)
	{
		memcpy(&bytes, data, 8);
		/* less 1, only a NUL gets the high bit that it did not have */
		high |= bytes | (bytes - UINT64CONST(0x0101010101010101));
	}
	/* the last ones, some of them once more */
	memcpy(&bytes, end - 8, 8);
	high |= bytes | (bytes - UINT64CONST(0x0101010101010101));
	return (high & UINT64CONST(0x8080808080808080)) == 0;
}

bool
lh_encoding_check(const LhEncoding *encoding, const char *data, int length, LhError *error)
{
	int			valid;

	if (likely(is_plain(data, length)))
		return true;
	valid = pg_encoding_verifymbstr(encoding->encoding, data, length);
	if (valid < length)
		return refuse_bytes(encoding->encoding, data + valid, length - valid, error);
	return true;
}

/* ------------------------------------------------- units of several bytes */

/* bytes that are looked at */
#define WIDE_LOOK 1024

/* fewer tell too little, unless all of them say the same */
#define WIDE_ENOUGH 16

/*
 * find_mark names the encoding whose byte order mark the bytes begin with, or
 * gives NULL.
 */
static const char *
find_mark(const char *data, uint32 length)
{
	if (length >= 4 && memcmp(data, "\xFF\xFE\0\0", 4) == 0)
		return "UTF-32LE";
	if (length >= 4 && memcmp(data, "\0\0\xFE\xFF", 4) == 0)
		return "UTF-32BE";
	if (length >= 2 && memcmp(data, "\xFF\xFE", 2) == 0)
		return "UTF-16LE";
	if (length >= 2 && memcmp(data, "\xFE\xFF", 2) == 0)
		return "UTF-16BE";
	return NULL;
}

/*
 * find_nulls names the encoding that has its NULs where these bytes have them, or
 * gives NULL.  Text that is mostly ASCII has them in each unit; a file with a NUL
 * here and there is not meant.
 */
static const char *
find_nulls(const char *data, uint32 length)
{
	uint32		units = Min(length, WIDE_LOOK) / 4;
	uint32		nulls[4] = {0, 0, 0, 0};
	uint32		odd;
	uint32		even;

	for (uint32 i = 0; i < units * 4; i++)
		nulls[i % 4] += data[i] == '\0';
	if (units == 0)
		return NULL;
	if (nulls[0] == 0 && Min(nulls[1], Min(nulls[2], nulls[3])) == units)
		return "UTF-32LE";
	if (nulls[3] == 0 && Min(nulls[0], Min(nulls[1], nulls[2])) == units)
		return "UTF-32BE";
	even = nulls[0] + nulls[2];
	odd = nulls[1] + nulls[3];
	if (even == 0 && odd >= (units * 4 >= WIDE_ENOUGH ? units : units * 2))
		return "UTF-16LE";
	if (odd == 0 && even >= (units * 4 >= WIDE_ENOUGH ? units : units * 2))
		return "UTF-16BE";
	return NULL;
}

/*
 * lh_encoding_refuse_wide looks at the beginning of a file.  Its records would
 * be refused one by one for bytes that say little about the cause.
 */
void
lh_encoding_refuse_wide(const LhEncoding *encoding, const char *name, const char *data, uint32 length)
{
	const char *found = find_nulls(data, length);
	const char *sign = "the NULs in it";

	/* where the mark is text, or is to be replaced, it is no sign */
	if (found == NULL && !encoding->replace &&
		pg_encoding_verifymbstr(encoding->encoding, data, (int) Min(length, 4)) < (int) Min(length, 4))
	{
		found = find_mark(data, length);
		sign = "its byte order mark";
	}
	if (found != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("file \"%s\" looks like %s by %s and cannot be read as %s",
						name, found, sign, pg_encoding_to_char(encoding->encoding)),
				 errhint("Convert it before it is brought, for example with iconv -f %s -t UTF-8, and bring it again.", found)));
}

/* ---------------------------------------------------------- replacement */

/*
 * Tells how many bytes at p, which do not begin a character, one replacement
 * stands for: in UTF-8 the longest beginning of a character, as is usual.
 */
static int
wrong_length(int encoding, const unsigned char *p, int left)
{
	int			more;
	int			i = 1;

	if (encoding != PG_UTF8)
		return 1;
	more = *p >= 0xC2 && *p <= 0xDF ? 1 : (*p & 0xF0) == 0xE0 ? 2 : *p >= 0xF0 && *p <= 0xF4 ? 3 : 0;
	if (left > 1 && ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) ||
					 (*p == 0xF0 && p[1] < 0x90) || (*p == 0xF4 && p[1] > 0x8F)))
		return 1;
	while (i <= more && i < left && (p[i] & 0xC0) == 0x80)
		i++;
	return i;
}

/*
 * Converts bytes that are valid, except that characters without an equivalent
 * become question marks.
 */
static void
append_valid(const LhEncoding *encoding, const char *data, int length, StringInfo to)
{
	while (length > 0)
	{
		/* what is converted at once fits into memory */
		int			part = pg_encoding_mbcliplen(encoding->encoding, data, length, Min(length, 1024 * 1024));
		int			used;

		enlargeStringInfo(to, part * MAX_CONVERSION_GROWTH + 1);
		used = pg_do_encoding_conversion_buf(encoding->conversion, encoding->encoding,
											 GetDatabaseEncoding(),
											 (unsigned char *) unconstify(char *, data), part,
											 (unsigned char *) to->data + to->len,
											 part * MAX_CONVERSION_GROWTH + 1, true);
		to->len += strlen(to->data + to->len);
		if (used < part)
		{
			used += Max(1, Min(part - used, pg_encoding_mblen(encoding->encoding, data + used)));
			appendStringInfoChar(to, '?');
		}
		data += used;
		length -= used;
	}
}

/*
 * Makes text of any bytes, in the current context.
 */
static bool
convert_replacing(const LhEncoding *encoding, const char *data, int length,
				  const char **result, int *result_length, LhError *error)
{
	const char *mark = GetDatabaseEncoding() == PG_UTF8 ? "\xEF\xBF\xBD" : "?";
	StringInfoData to;

	if (length > (int) (MaxAllocSize / MAX_CONVERSION_GROWTH / 2))
		return lh_error_set(error, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							"%d bytes are too many for a conversion of encoding", length);
	initStringInfo(&to);
	for (;;)
	{
		int			valid = pg_encoding_verifymbstr(encoding->encoding, data, length);
		int			wrong;

		if (OidIsValid(encoding->conversion))
			append_valid(encoding, data, valid, &to);
		else
			appendBinaryStringInfo(&to, data, valid);
		if (valid == length)
			break;
		wrong = wrong_length(encoding->encoding, (const unsigned char *) data + valid, length - valid);
		appendStringInfoString(&to, mark);
		data += valid + wrong;
		length -= valid + wrong;
	}
	*result = to.data;
	*result_length = to.len;
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
	if (encoding->replace)
		return convert_replacing(encoding, data, length, result, result_length, error);
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
