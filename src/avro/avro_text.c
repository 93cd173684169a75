/*
 * avro_text.c
 *	  Values of Avro's logical types as text.
 *
 * Invariant: the text says exactly what the value says.  Years are those of the
 * proleptic Gregorian calendar, which Avro and PostgreSQL share; those before 1
 * are written as PostgreSQL reads them.
 */
#include "postgres.h"

#include "avro/avro_text.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#define SECONDS_PER_DAY 86400
#define DECIMAL_GROUP 1000000000	/* digits are made nine at a time */

/*
 * units_per_second is 10 to the power of the digits of the fraction.
 */
static int64
units_per_second(int digits)
{
	return digits == 3 ? INT64CONST(1000) : digits == 6 ? INT64CONST(1000000) : INT64CONST(1000000000);
}

/*
 * write_date writes a Julian day; *bc tells that the year counts backwards.
 */
static char *
write_date(char *p, int julian, bool *bc)
{
	int			year,
				month,
				day;

	j2date(julian, &year, &month, &day);
	*bc = year <= 0;
	p = pg_ultostr_zeropad(p, *bc ? 1 - year : year, 4);
	*p++ = '-';
	p = pg_ultostr_zeropad(p, month, 2);
	*p++ = '-';
	return pg_ultostr_zeropad(p, day, 2);
}

/*
 * write_clock writes a time of day; a fraction that is nothing is left out.
 */
static char *
write_clock(char *p, int seconds, int64 fraction, int digits)
{
	p = pg_ultostr_zeropad(p, seconds / 3600, 2);
	*p++ = ':';
	p = pg_ultostr_zeropad(p, seconds / 60 % 60, 2);
	*p++ = ':';
	p = pg_ultostr_zeropad(p, seconds % 60, 2);
	if (fraction == 0)
		return p;
	*p++ = '.';
	return pg_ultostr_zeropad(p, (uint32) fraction, digits);
}

static char *
write_literal(char *p, const char *text)
{
	size_t		length = strlen(text);

	memcpy(p, text, length);
	return p + length;
}

int
lh_avro_date_text(int32 days, char *to)
{
	int64		julian = (int64) days + UNIX_EPOCH_JDATE;
	char	   *p;
	bool		bc;

	if (julian < DATETIME_MIN_JULIAN || julian >= DATE_END_JULIAN)
		return 0;
	p = write_date(to, (int) julian, &bc);
	if (bc)
		p = write_literal(p, " BC");
	return p - to;
}

int
lh_avro_time_text(int64 value, int digits, char *to)
{
	int64		units = units_per_second(digits);

	if (value < 0 || value >= SECONDS_PER_DAY * units)
		return 0;
	return write_clock(to, (int) (value / units), value % units, digits) - to;
}

int
lh_avro_timestamp_text(int64 value, int digits, bool local, char *to)
{
	int64		units = units_per_second(digits);
	int64		fraction = value % units;
	int64		seconds = value / units;
	int64		day_seconds;
	int64		julian;
	char	   *p;
	bool		bc;

	/* C rounds towards zero; times before 1970 are to be rounded down */
	if (fraction < 0)
	{
		fraction += units;
		seconds--;
	}
	day_seconds = seconds % SECONDS_PER_DAY;
	julian = seconds / SECONDS_PER_DAY + UNIX_EPOCH_JDATE;
	if (day_seconds < 0)
	{
		day_seconds += SECONDS_PER_DAY;
		julian--;
	}
	if (julian < DATETIME_MIN_JULIAN || julian >= TIMESTAMP_END_JULIAN)
		return 0;
	p = write_date(to, (int) julian, &bc);
	*p++ = bc ? ' ' : 'T';
	p = write_clock(p, (int) day_seconds, fraction, digits);
	if (!local)
		p = write_literal(p, bc ? "+00" : "Z");
	if (bc)
		p = write_literal(p, " BC");
	return p - to;
}

int
lh_avro_uuid_text(const uint8 *bytes, char *to)
{
	static const char digits[] = "0123456789abcdef";
	char	   *p = to;

	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[bytes[i] >> 4];
		*p++ = digits[bytes[i] & 15];
	}
	return p - to;
}

/*
 * lh_avro_duration_text writes an interval of ISO 8601.
 */
int
lh_avro_duration_text(const uint8 *bytes, char *to)
{
	uint32		parts[3];

	for (int i = 0; i < 3; i++)
		parts[i] = (uint32) bytes[4 * i] | (uint32) bytes[4 * i + 1] << 8 |
			(uint32) bytes[4 * i + 2] << 16 | (uint32) bytes[4 * i + 3] << 24;
	return snprintf(to, LH_AVRO_TEXT_SIZE, "P%uM%uDT%u.%03uS", parts[0], parts[1],
					parts[2] / 1000, parts[2] % 1000);
}

/*
 * write_magnitude writes the digits of an unsigned number, the lowest word first,
 * which is used up; returns how many.
 */
static int
write_magnitude(uint32 *words, int count, char *to)
{
	uint32		groups[LH_AVRO_DECIMAL_BYTES_MAX * 8 / 29 + 1];
	int			group_count = 0;
	char	   *p = to;

	while (count > 0 && words[count - 1] == 0)
		count--;
	while (count > 0)
	{
		uint64		rest = 0;

		for (int i = count - 1; i >= 0; i--)
		{
			rest = rest << 32 | words[i];
			words[i] = (uint32) (rest / DECIMAL_GROUP);
			rest %= DECIMAL_GROUP;
		}
		groups[group_count++] = (uint32) rest;
		while (count > 0 && words[count - 1] == 0)
			count--;
	}
	if (group_count == 0)
		groups[group_count++] = 0;
	p += pg_ultoa_n(groups[group_count - 1], p);
	for (int i = group_count - 2; i >= 0; i--)
		p = pg_ultostr_zeropad(p, groups[i], 9);
	return p - to;
}

int
lh_avro_decimal_text(const uint8 *bytes, int length, int scale, char *to)
{
	uint32		words[LH_AVRO_DECIMAL_BYTES_MAX / 4 + 1] = {0};
	int			count = (length + 3) / 4;
	bool		negative = (bytes[0] & 0x80) != 0;
	uint32		carry = 1;
	char	   *p = to;
	int			digits;

	for (int i = 0; i < 4 * count; i++)
	{
		uint8		byte = i < length ? bytes[length - 1 - i] : negative ? 0xff : 0;

		words[i / 4] |= (uint32) byte << (8 * (i % 4));
	}
	for (int i = 0; negative && i < count; i++)
	{
		words[i] = ~words[i] + carry;
		carry = carry && words[i] == 0;
	}
	if (negative)
		*p++ = '-';
	digits = write_magnitude(words, count, p);
	if (digits <= scale)
	{
		memmove(p + scale + 1 - digits, p, digits);
		memset(p, '0', scale + 1 - digits);
		digits = scale + 1;
	}
	p += digits;
	if (scale > 0)
	{
		memmove(p - scale + 1, p - scale, scale);
		p[-scale] = '.';
		p++;
	}
	return p - to;
}
