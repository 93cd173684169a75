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
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

/* What an ISO 8601 text says. */
typedef struct IsoTime
{
	struct pg_tm tm;
	fsec_t		fsec;
	bool		has_time;
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

/*
 * Reads YYYY-MM-DD at p, of which 10 bytes are there.
 */
static inline bool
parse_iso_date(const char *p, struct pg_tm *tm)
{
	int			century,
				year;

	if (p[4] != '-' || p[7] != '-' ||
		!two_digits(p, &century) || !two_digits(p + 2, &year) ||
		!two_digits(p + 5, &tm->tm_mon) || !two_digits(p + 8, &tm->tm_mday))
		return false;
	tm->tm_year = century * 100 + year;
	return tm->tm_year > 0 && tm->tm_mon >= 1 && tm->tm_mon <= 12 && tm->tm_mday >= 1 &&
		tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1];
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
static bool
parse_iso(const char *p, int length, IsoTime *iso)
{
	const char *end = p + length;
	struct pg_tm *tm = &iso->tm;

	memset(iso, 0, sizeof(IsoTime));
	tm->tm_isdst = -1;
	if (length < 10 || !parse_iso_date(p, tm))
		return false;
	p += 10;
	if (p == end)
		return true;
	if (end - p < 9 || (*p != ' ' && *p != 'T') || p[3] != ':' || p[6] != ':' ||
		!two_digits(p + 1, &tm->tm_hour) || !two_digits(p + 4, &tm->tm_min) ||
		!two_digits(p + 7, &tm->tm_sec) ||
		tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 59)
		return false;
	iso->has_time = true;
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

static Timestamp
make_timestamp(const struct pg_tm *tm, fsec_t fsec)
{
	int64		days = date2j(tm->tm_year, tm->tm_mon, tm->tm_mday) - POSTGRES_EPOCH_JDATE;

	return days * USECS_PER_DAY +
		((tm->tm_hour * 60 + tm->tm_min) * 60 + tm->tm_sec) * USECS_PER_SEC + fsec;
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
	struct pg_tm tm;

	if (length != 10 || !parse_iso_date(data, &tm))
		return convert_odd_date(converter, data, length, value, error);
	*value = DateADTGetDatum(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE);
	return true;
}

bool
lh_convert_timestamp(LhConverter *converter, const char *data, int length,
					 Datum *value, LhError *error)
{
	IsoTime		iso;
	Timestamp	result;

	if (converter->typmod >= 0 || !parse_iso(data, length, &iso))
		return convert_odd_timestamp(converter, data, length, false, value, error);

	/* as the server: a zone is read and has no effect */
	result = make_timestamp(&iso.tm, iso.fsec);
	*value = TimestampGetDatum(result);
	return true;
}

bool
lh_convert_timestamptz(LhConverter *converter, const char *data, int length,
					   Datum *value, LhError *error)
{
	IsoTime		iso;
	TimestampTz result;

	if (converter->typmod >= 0 || !parse_iso(data, length, &iso))
		return convert_odd_timestamp(converter, data, length, true, value, error);

	if (!iso.has_zone)
		iso.zone = DetermineTimeZoneOffset(&iso.tm, session_timezone);
	result = make_timestamp(&iso.tm, iso.fsec) + iso.zone * USECS_PER_SEC;
	*value = TimestampTzGetDatum(result);
	return true;
}
