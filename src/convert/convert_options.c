/*
 * convert_options.c
 *	  Notations of values that the user tells.
 *
 * Invariant: a converter that no option concerns is the one that it would be
 * without options, so they cost nothing where nobody gives them.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "catalog/pg_type.h"
#include "convert/convert_options.h"
#include "convert/convert_types.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* What stands behind a converter that goes by options. */
typedef struct LhConvertSpecial
{
	const LhConvertOptions *options;
	LhConverter plain;			/* of the type, or of the domain's base type */
	void	   *domain_state;
	MemoryContext context;
} LhConvertSpecial;

static pg_tz *
find_zone(Jsonb *json)
{
	char	   *name = lh_options_text(json, "time_zone", NULL);
	pg_tz	   *zone;

	if (name == NULL)
		return NULL;
	zone = pg_tzset(name);
	if (zone == NULL || !pg_tz_acceptable(zone))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"time_zone\""),
				 errdetail("There is no time zone \"%s\".", name),
				 errhint("Names are in the view pg_timezone_names.")));
	return zone;
}

static LhTimePattern *
find_pattern(Jsonb *json, const char *name)
{
	char	   *text = lh_options_text(json, name, NULL);

	return text == NULL ? NULL : lh_time_pattern_compile(text, name);
}

void
lh_convert_options_parse(Jsonb *json, LhConvertOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->date = find_pattern(json, "date_format");
	options->timestamp = find_pattern(json, "timestamp_format");
	options->time_zone = find_zone(json);
	options->nan = lh_options_text(json, "nan_value", NULL);
	options->positive_inf = lh_options_text(json, "positive_inf", NULL);
	options->negative_inf = lh_options_text(json, "negative_inf", NULL);
}

/* ---------------------------------------------------------------- times */

static bool
date_of(const LhTimeText *read, Datum *value)
{
	*value = DateADTGetDatum(date2j(read->tm.tm_year, read->tm.tm_mon, read->tm.tm_mday) -
							 POSTGRES_EPOCH_JDATE);
	return true;
}

/*
 * Makes a timestamp; as the server does it, a zone counts only for the type that
 * has one.
 */
static bool
timestamp_of(LhConvertSpecial *special, LhTimeText *read, const char *data, int length,
			   Datum *value, LhError *error)
{
	const LhConvertOptions *options = special->options;
	bool		with_zone = special->plain.type == TIMESTAMPTZOID;
	int			zone = read->offset;
	Timestamp	result;

	if (with_zone && !read->has_offset)
		zone = DetermineTimeZoneOffset(&read->tm, read->zone != NULL ? read->zone :
									   options->time_zone != NULL ? options->time_zone : session_timezone);
	if (tm2timestamp(&read->tm, read->fsec, with_zone ? &zone : NULL, &result) != 0)
		return lh_error_set(error, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
							"timestamp out of range: \"%s\"", lh_convert_excerpt(data, length));
	if (special->plain.typmod >= 0)
	{
		*value = with_zone ?
			DirectFunctionCall2(timestamptz_scale, TimestampTzGetDatum(result),
								Int32GetDatum(special->plain.typmod)) :
			DirectFunctionCall2(timestamp_scale, TimestampGetDatum(result),
								Int32GetDatum(special->plain.typmod));
		return true;
	}
	*value = TimestampGetDatum(result);
	return true;
}

/*
 * Converts with another zone than the session's.
 */
static bool
convert_in_zone(LhConvertSpecial *special, const char *data, int length, Datum *value,
				LhError *error)
{
	pg_tz	   *saved = session_timezone;
	volatile bool result = false;

	PG_TRY();
	{
		session_timezone = special->options->time_zone;
		result = lh_convert(&special->plain, data, length, value, error);
	}
	PG_FINALLY();
	{
		session_timezone = saved;
	}
	PG_END_TRY();
	return result;
}

/*
 * has_time tells whether a text says more than a day: a time that is not midnight.
 */
static bool
has_time(const char *data, int length)
{
	static const char midnight[] = "00:00:00";
	int			at = 11 + (int) sizeof(midnight) - 1;

	if (memchr(data, ':', length) == NULL)
		return false;
	if (length < at || memcmp(data + 11, midnight, sizeof(midnight) - 1) != 0)
		return true;
	if (at < length && data[at] == '.')
		for (at++; at < length && data[at] == '0'; at++);
	if (at < length && data[at] == 'Z')
		at++;
	return at < length;
}

static bool
convert_time(LhConvertSpecial *special, const char *data, int length, Datum *value, LhError *error)
{
	bool		date = special->plain.type == DATEOID;
	const LhTimePattern *pattern = date ? special->options->date : special->options->timestamp;
	LhTimeText	read;

	if (pattern == NULL && date)
		return has_time(data, length) ?
			lh_error_set(error, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
						 "\"%s\" is no date without a time", lh_convert_excerpt(data, length)) :
			lh_convert(&special->plain, data, length, value, error);
	if (pattern == NULL)
		return convert_in_zone(special, data, length, value, error);
	if (!lh_time_pattern_read(pattern, data, length, &read, error))
		return false;
	return date ? date_of(&read, value) :
		timestamp_of(special, &read, data, length, value, error);
}

/* -------------------------------------------------------------- numbers */

static bool
is_text(const char *text, const char *data, int length)
{
	return text != NULL && strlen(text) == length && memcmp(text, data, length) == 0;
}

static bool
convert_number(LhConvertSpecial *special, const char *data, int length, Datum *value,
			   LhError *error)
{
	const LhConvertOptions *options = special->options;
	const char *usual = is_text(options->nan, data, length) ? "NaN" :
		is_text(options->positive_inf, data, length) ? "Infinity" :
		is_text(options->negative_inf, data, length) ? "-Infinity" : NULL;

	if (usual != NULL)
		return lh_convert(&special->plain, usual, strlen(usual), value, error);
	return lh_convert(&special->plain, data, length, value, error);
}

/* ------------------------------------------------------------ converters */

static bool
is_time(Oid type)
{
	return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
}

/*
 * Do the options say anything of values of the (base) type?
 */
static bool
concerns(const LhConvertOptions *options, Oid type)
{
	switch (type)
	{
		case DATEOID:
			return options->date != NULL || options->exact_dates;
		case TIMESTAMPOID:
			return options->timestamp != NULL;
		case TIMESTAMPTZOID:
			return options->timestamp != NULL || options->time_zone != NULL;
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			return options->nan != NULL || options->positive_inf != NULL ||
				options->negative_inf != NULL;
		default:
			return false;
	}
}

static bool
convert_special(LhConverter *converter, const char *data, int length, Datum *value, LhError *error)
{
	LhConvertSpecial *special = converter->special;

	if (is_time(special->plain.type) ?
		!convert_time(special, data, length, value, error) :
		!convert_number(special, data, length, value, error))
		return false;
	if (converter->is_domain)
		domain_check(*value, false, converter->type, &special->domain_state, special->context);
	return true;
}

void
lh_converter_adapt(LhConverter *converter, const LhConvertOptions *options, MemoryContext context)
{
	FormData_pg_attribute attribute;
	LhConvertSpecial *special;

	memset(&attribute, 0, sizeof(attribute));
	attribute.atttypmod = converter->typmod;
	attribute.atttypid = getBaseTypeAndTypmod(converter->type, &attribute.atttypmod);
	if (!concerns(options, attribute.atttypid))
		return;
	special = MemoryContextAllocZero(context, sizeof(LhConvertSpecial));
	special->options = options;
	special->context = context;
	lh_converter_init(&special->plain, &attribute, context);
	converter->special = special;
	converter->convert = convert_special;
}
