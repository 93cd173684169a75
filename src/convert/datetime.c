/*
 * datetime.c
 *	  Conversion to date, timestamp and timestamp with time zone.
 *
 * ISO 8601 with a year of four digits is read here; it means the same under
 * every DateStyle.  All other spellings go to the server's own parser, whose
 * parts return codes where the input functions raise.
 */
#include "postgres.h"

#include "compat.h"
#include "convert/convert_types.h"
#include "convert/digits.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

typedef struct IsoDate
{
	int			year;
	int			month;
	int			day;
	int64		days;			/* since the server's epoch */
} IsoDate;

/* What an ISO 8601 text says. */
typedef struct IsoTime
{
	IsoDate		date;
	int			hour;
	int			minute;
	int			second;
	fsec_t		fsec;
	bool		has_zone;
	int			zone;			/* seconds west of Greenwich, as the server counts */
} IsoTime;

static inline bool
two_digits(const char *p, int *result)
{
	unsigned int high = (unsigned char) p[0] - '0';
	unsigned int low = (unsigned char) p[1] - '0';

	*result = high * 10 + low;
	return high <= 9 && low <= 9;
}

#define DATE_LENGTH 10			/* of YYYY-MM-DD */

static bool
parse_iso_date(const char *p, IsoDate *date)
{
	int			century,
				year;

	if (p[4] != '-' || p[7] != '-' ||
		!two_digits(p, &century) || !two_digits(p + 2, &year) ||
		!two_digits(p + 5, &date->month) || !two_digits(p + 8, &date->day))
		return false;
	date->year = century * 100 + year;
	if (date->year == 0 || date->month < 1 || date->month > 12 || date->day < 1 ||
		date->day > day_tab[isleap(date->year)][date->month - 1])
		return false;
	date->days = date2j(date->year, date->month, date->day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/*
 * Reads YYYY-MM-DD at p, of which 10 bytes are there.  The last one is remembered:
 * records that come together are of one day, often.
 */
static inline bool
read_iso_date(const char *p, IsoDate *date)
{
	static char last[DATE_LENGTH] = {'2', '0', '0', '0', '-', '0', '1', '-', '0', '1'};
	static IsoDate last_date = {2000, 1, 1, 0};

	if (memcmp(p, last, DATE_LENGTH) == 0)
	{
		*date = last_date;
		return true;
	}
	if (!parse_iso_date(p, date))
		return false;
	memcpy(last, p, DATE_LENGTH);
	last_date = *date;
	return true;
}

/*
 * Reads HH:MM:SS at p, of which 8 bytes are there.
 */
static inline bool
read_iso_time(const char *p, IsoTime *iso)
{
#ifdef LH_DIGITS_EIGHT
	uint64		bytes = lh_digits_load(p);
	uint64		digits = bytes & UINT64CONST(0x0F0F000F0F000F0F);

	/* 3 is the high half of digits, and stays clear when 6 is added to the low one */
	if ((bytes & UINT64CONST(0xF0F0FFF0F0FFF0F0)) != UINT64CONST(0x30303A30303A3030) ||
		((digits + UINT64CONST(0x0606000606000606)) & UINT64CONST(0xF0F000F0F000F0F0)) != 0)
		return false;
	iso->hour = (digits & 0xF) * 10 + ((digits >> 8) & 0xF);
	iso->minute = ((digits >> 24) & 0xF) * 10 + ((digits >> 32) & 0xF);
	iso->second = ((digits >> 48) & 0xF) * 10 + (digits >> 56);
#else
	if (p[2] != ':' || p[5] != ':' || !two_digits(p, &iso->hour) ||
		!two_digits(p + 3, &iso->minute) || !two_digits(p + 6, &iso->second))
		return false;
#endif
	return iso->hour <= 23 && iso->minute <= 59 && iso->second <= 59;
}

/*
 * Reads a zone: Z, +HH, +HHMM or +HH:MM, up to the end of the text.
 */
static inline bool
parse_iso_zone(const char *p, const char *end, IsoTime *iso)
{
	int			hours,
				minutes = 0;

	iso->has_zone = true;
	if (*p == 'Z' && end - p == 1)
	{
		iso->zone = 0;
		return true;
	}
	if ((*p != '+' && *p != '-') || end - p < 3 || !two_digits(p + 1, &hours) || hours > 14)
		return false;
	if (end - p == 5)
	{
		if (!two_digits(p + 3, &minutes))
			return false;
	}
	else if (end - p == 6)
	{
		if (p[3] != ':' || !two_digits(p + 4, &minutes))
			return false;
	}
	else if (end - p != 3)
		return false;
	iso->zone = (hours * 60 + minutes) * 60;
	if (*p == '+')
		iso->zone = -iso->zone;
	return minutes < 60;
}

/*
 * Reads a date, perhaps followed by a time (after a blank or T), a fraction of
 * up to six digits and a zone.  False for everything else, right or wrong.
 */
static inline bool
parse_iso(const char *p, int length, IsoTime *iso)
{
	const char *end = p + length;

	iso->hour = iso->minute = iso->second = 0;
	iso->fsec = 0;
	iso->zone = 0;
	iso->has_zone = false;
	if (length < DATE_LENGTH || !read_iso_date(p, &iso->date))
		return false;
	p += DATE_LENGTH;
	if (p == end)
		return true;
	if (end - p < 9 || (*p != ' ' && *p != 'T') || !read_iso_time(p + 1, iso))
		return false;
	p += 9;
	if (p < end && *p == '.')
	{
		int			unit = 100000;
		const char *digits = ++p;

		for (; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10)
			iso->fsec += (*p - '0') * unit;
		if (p == digits || p - digits > 6)
			return false;
	}
	return p == end || parse_iso_zone(p, end, iso);
}

static inline Timestamp
make_timestamp(const IsoTime *iso)
{
	return iso->date.days * USECS_PER_DAY +
		((iso->hour * 60 + iso->minute) * 60 + iso->second) * USECS_PER_SEC + iso->fsec;
}

/*
 * Tells the offset of the session's time zone at a local time.
 */
static int
session_zone(const IsoTime *iso)
{
	struct pg_tm tm = {.tm_year = iso->date.year, .tm_mon = iso->date.month,
		.tm_mday = iso->date.day, .tm_hour = iso->hour, .tm_min = iso->minute,
	.tm_sec = iso->second, .tm_isdst = -1};

	return DetermineTimeZoneOffset(&tm, session_timezone);
}

#ifndef LH_SOFT_INPUT

/*
 * How many of year, month and day may a field have given to the parser?
 */
static int
count_date_parts(const char *field, int ftype)
{
	static const char *const months = "jan feb mar apr may jun jul aug sep oct nov dec";
	static const char *const weekdays = "sun mon tue wed thu fri sat";
	char		word[4];

	switch (ftype)
	{
		case DTK_DATE:
			return 3;
		case DTK_NUMBER:
			return strlen(field) >= 5 || strchr(field, '.') != NULL ? 3 : 1;
		case DTK_STRING:
		case DTK_SPECIAL:
			if (strlen(field) < 3)
				return 3;
			strlcpy(word, field, sizeof(word));
			return strstr(weekdays, word) != NULL ? 0 : strstr(months, word) != NULL ? 1 : 3;
		default:
			return 0;
	}
}

/*
 * The one place where DecodeDateTime raises is a time zone with punctuation that
 * does not exist: a word with punctuation, after a date.  Finds it beforehand.
 * Without a date before it such a word is a date itself (Jan-08-1999).
 */
static bool
has_missing_zone(char **field, const int *ftype, int fields)
{
	int			parts = 0;
	int			i;

	for (i = 0; i < fields; i++)
	{
		/* two numbers can be a whole date: a year and a day of the year */
		if (ftype[i] == DTK_DATE && parts >= 2 &&
			!(*field[i] >= '0' && *field[i] <= '9') && pg_tzset(field[i]) == NULL)
			return true;
		parts += count_date_parts(field[i], ftype[i]);
	}
	return false;
}

static bool
refuse_datetime(LhError *error, int code, const char *type, const char *data, int length)
{
	switch (code)
	{
		case DTERR_FIELD_OVERFLOW:
		case DTERR_MD_FIELD_OVERFLOW:
			return lh_error_set(error, ERRCODE_DATETIME_FIELD_OVERFLOW,
								"date/time field value out of range: \"%s\"",
								lh_convert_excerpt(data, length));
		case DTERR_TZDISP_OVERFLOW:
			return lh_error_set(error, ERRCODE_INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
								"time zone displacement out of range: \"%s\"",
								lh_convert_excerpt(data, length));
		default:
			return lh_convert_refuse(error, ERRCODE_INVALID_DATETIME_FORMAT, type, data, length);
	}
}

/*
 * Lets the server's parser take the text apart.
 */
static bool
decode(const char *data, int length, const char *type, int *dtype,
	   struct pg_tm *tm, fsec_t *fsec, int *zone, LhError *error)
{
	char		text[MAXDATELEN + 1];
	char		work[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			fields;
	int			code;

	/* the server's own buffer is of this size: a longer text is refused */
	if (length > MAXDATELEN)
		return refuse_datetime(error, DTERR_BAD_FORMAT, type, data, length);
	lh_convert_cstring(data, length, text, sizeof(text));
	code = ParseDateTime(text, work, sizeof(work), field, ftype, MAXDATEFIELDS, &fields);
	if (code == 0 && has_missing_zone(field, ftype, fields))
		code = DTERR_BAD_FORMAT;
	if (code == 0)
		code = DecodeDateTime(field, ftype, fields, dtype, tm, fsec, zone);
	if (code != 0)
		return refuse_datetime(error, code, type, data, length);
	return true;
}

static pg_noinline bool
convert_odd_date(LhConverter *converter, const char *data, int length, Datum *value, LhError *error)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			zone,
				dtype;
	DateADT		date;

	if (!decode(data, length, "date", &dtype, &tm, &fsec, &zone, error))
		return false;
	switch (dtype)
	{
		case DTK_DATE:
			break;
		case DTK_EPOCH:
			GetEpochTime(&tm);
			break;
		case DTK_LATE:
			DATE_NOEND(date);
			*value = DateADTGetDatum(date);
			return true;
		case DTK_EARLY:
			DATE_NOBEGIN(date);
			*value = DateADTGetDatum(date);
			return true;
		default:
			return refuse_datetime(error, DTERR_BAD_FORMAT, "date", data, length);
	}
	if (IS_VALID_JULIAN(tm.tm_year, tm.tm_mon, tm.tm_mday))
	{
		date = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
		if (IS_VALID_DATE(date))
		{
			*value = DateADTGetDatum(date);
			return true;
		}
	}
	return lh_error_set(error, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
						"date out of range: \"%s\"", lh_convert_excerpt(data, length));
}

static pg_noinline bool
convert_odd_timestamp(LhConverter *converter, const char *data, int length, bool with_zone,
					  Datum *value, LhError *error)
{
	const char *type = with_zone ? "timestamp with time zone" : "timestamp";
	struct pg_tm tm;
	fsec_t		fsec;
	int			zone,
				dtype;
	Timestamp	result;
	bool		failed = false;

	if (!decode(data, length, type, &dtype, &tm, &fsec, &zone, error))
		return false;
	switch (dtype)
	{
		case DTK_DATE:
			if (tm2timestamp(&tm, fsec, with_zone ? &zone : NULL, &result) != 0)
				return lh_error_set(error, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
									"timestamp out of range: \"%s\"",
									lh_convert_excerpt(data, length));
			break;
		case DTK_EPOCH:
			result = SetEpochTimestamp();
			break;
		case DTK_LATE:
			TIMESTAMP_NOEND(result);
			break;
		case DTK_EARLY:
			TIMESTAMP_NOBEGIN(result);
			break;
		default:
			return refuse_datetime(error, DTERR_BAD_FORMAT, type, data, length);
	}
	AdjustTimestampForTypmodError(&result, converter->typmod, &failed);
	*value = TimestampGetDatum(result);
	return true;
}

#else
#define convert_odd_date(converter, data, length, value, error) \
	lh_convert_input(converter, data, length, value, error)
#define convert_odd_timestamp(converter, data, length, with_zone, value, error) \
	lh_convert_input(converter, data, length, value, error)
#endif

bool
lh_convert_date(LhConverter *converter, const char *data, int length, Datum *value, LhError *error)
{
	IsoDate		date;

	if (length != DATE_LENGTH || !read_iso_date(data, &date))
		return convert_odd_date(converter, data, length, value, error);
	*value = DateADTGetDatum((DateADT) date.days);
	return true;
}

bool
lh_convert_timestamp(LhConverter *converter, const char *data, int length,
					 Datum *value, LhError *error)
{
	IsoTime		iso;

	if (converter->typmod >= 0 || !parse_iso(data, length, &iso))
		return convert_odd_timestamp(converter, data, length, false, value, error);

	/* as the server: a zone is read and has no effect */
	*value = TimestampGetDatum(make_timestamp(&iso));
	return true;
}

bool
lh_convert_timestamptz(LhConverter *converter, const char *data, int length,
					   Datum *value, LhError *error)
{
	IsoTime		iso;

	if (converter->typmod >= 0 || !parse_iso(data, length, &iso))
		return convert_odd_timestamp(converter, data, length, true, value, error);

	if (!iso.has_zone)
		iso.zone = session_zone(&iso);
	*value = TimestampTzGetDatum(make_timestamp(&iso) + iso.zone * USECS_PER_SEC);
	return true;
}
