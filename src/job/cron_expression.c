/*
 * cron_expression.c
 *	  When a cron expression fires next, for show only: pg_cron decides.
 *
 * Five fields as pg_cron reads them: minute, hour, day of the month, month and
 * day of the week, each a list of *, n, a-b, with an optional step, months and
 * days also by their first three letters.  If both day fields are restricted, a
 * day that matches one of them will do.
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "job/job.h"

/* the dates on which a rare expression fires lie within this many days:
 * 29 February on a given day of the week */
#define DAYS_TO_SEARCH (366 * 41)

typedef struct CronExpression
{
	bool		minute[60];
	bool		hour[24];
	bool		day[32];
	bool		month[13];
	bool		weekday[8];		/* 0 and 7 are Sunday */
	bool		any_day;		/* field starts with * */
	bool		any_weekday;
} CronExpression;

static const char *const month_names[] = {
	"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL
};
static const char *const weekday_names[] = {
	"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL
};

static bool parse_expression(const char *text, CronExpression *cron);
static bool parse_field(const char **at, bool *set, int lowest, int highest, const char *const *names);
static bool parse_number(const char **at, int *number, int lowest, const char *const *names);
static bool matches_day(const CronExpression *cron, int julian_day);

PG_FUNCTION_INFO_V1(lakehouse_next_cron_time);

/*
 * lakehouse.next_cron_time(cron, after) returns the first time after "after" at
 * which the expression fires, NULL if that cannot be said.
 */
Datum
lakehouse_next_cron_time(PG_FUNCTION_ARGS)
{
	char	   *expression = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TimestampTz after = PG_GETARG_TIMESTAMPTZ(1);
	const char *zone = GetConfigOption("cron.timezone", true, false);
	CronExpression cron;
	int64		minute;
	int			first_day;

	/* only newer versions of pg_cron know another zone than GMT */
	if (zone && pg_strcasecmp(zone, "GMT") != 0 && pg_strcasecmp(zone, "UTC") != 0)
		PG_RETURN_NULL();
	if (TIMESTAMP_NOT_FINITE(after) || !parse_expression(expression, &cron))
		PG_RETURN_NULL();

	/* whole minutes since midnight 2000-01-01 GMT */
	minute = after / USECS_PER_MINUTE - (after % USECS_PER_MINUTE < 0 ? 1 : 0) + 1;
	first_day = (int) (minute / MINS_PER_HOUR / HOURS_PER_DAY - (minute % (MINS_PER_HOUR * HOURS_PER_DAY) < 0 ? 1 : 0));
	for (int day = first_day; day < first_day + DAYS_TO_SEARCH; day++)
	{
		if (!matches_day(&cron, day + POSTGRES_EPOCH_JDATE))
			continue;
		for (int i = 0; i < MINS_PER_HOUR * HOURS_PER_DAY; i++)
		{
			int64		candidate = (int64) day * MINS_PER_HOUR * HOURS_PER_DAY + i;

			if (candidate >= minute && cron.hour[i / MINS_PER_HOUR] && cron.minute[i % MINS_PER_HOUR])
				PG_RETURN_TIMESTAMPTZ(candidate * USECS_PER_MINUTE);
		}
	}
	PG_RETURN_NULL();
}

static bool
matches_day(const CronExpression *cron, int julian_day)
{
	int			year;
	int			month;
	int			day;
	bool		by_day;
	bool		by_weekday;

	j2date(julian_day, &year, &month, &day);
	by_day = cron->day[day];
	by_weekday = cron->weekday[j2day(julian_day)];
	return cron->month[month] &&
		(cron->any_day || cron->any_weekday ? by_day && by_weekday : by_day || by_weekday);
}

static bool
parse_expression(const char *text, CronExpression *cron)
{
	memset(cron, 0, sizeof(CronExpression));
	while (isspace((unsigned char) *text))
		text++;
	if (!parse_field(&text, cron->minute, 0, 59, NULL) ||
		!parse_field(&text, cron->hour, 0, 23, NULL))
		return false;
	cron->any_day = *text == '*';
	if (!parse_field(&text, cron->day, 1, 31, NULL) ||
		!parse_field(&text, cron->month, 1, 12, month_names))
		return false;
	cron->any_weekday = *text == '*';
	if (!parse_field(&text, cron->weekday, 0, 7, weekday_names))
		return false;
	cron->weekday[0] = cron->weekday[0] || cron->weekday[7];
	return *text == '\0';
}

/*
 * parse_field reads one field and the blanks after it.
 */
static bool
parse_field(const char **at, bool *set, int lowest, int highest, const char *const *names)
{
	do
	{
		int			from = lowest;
		int			to = highest;
		int			step = 1;

		if (**at == '*')
			(*at)++;
		else
		{
			if (!parse_number(at, &from, lowest, names))
				return false;
			to = from;
			if (**at == '-')
			{
				(*at)++;
				if (!parse_number(at, &to, lowest, names))
					return false;
			}
		}
		if (**at == '/')
		{
			(*at)++;
			if (!parse_number(at, &step, 0, NULL) || step < 1)
				return false;
		}
		if (from < lowest || to > highest || from > to)
			return false;
		for (int i = from; i <= to; i += step)
			set[i] = true;
	} while (*(*at)++ == ',');

	(*at)--;
	if (**at != '\0' && !isspace((unsigned char) **at))
		return false;
	while (isspace((unsigned char) **at))
		(*at)++;
	return true;
}

static bool
parse_number(const char **at, int *number, int lowest, const char *const *names)
{
	if (isdigit((unsigned char) **at))
	{
		*number = 0;
		while (isdigit((unsigned char) **at))
		{
			*number = *number * 10 + (*(*at)++ - '0');
			if (*number > 1000)
				return false;
		}
		return true;
	}
	for (int i = 0; names != NULL && names[i] != NULL; i++)
		if (pg_strncasecmp(*at, names[i], 3) == 0)
		{
			*number = lowest + i;
			*at += 3;
			return true;
		}
	return false;
}
