/*
 * convert_options.h
 *	  Notations of values that the user tells, for all text formats: options
 *	  date_format, timestamp_format, time_zone, nan_value, positive_inf and
 *	  negative_inf.
 */
#ifndef LH_CONVERT_OPTIONS_H
#define LH_CONVERT_OPTIONS_H

#include "utils/jsonb.h"

#include "convert/convert.h"
#include "convert/time_pattern.h"

/* names of these options, for the list of a format */
#define LH_CONVERT_OPTION_NAMES \
	"date_format", "nan_value", "negative_inf", "positive_inf", "time_zone", "timestamp_format"

typedef struct LhConvertOptions
{
	LhTimePattern *date;		/* NULL = what the type's input function takes */
	LhTimePattern *timestamp;
	pg_tz	   *time_zone;		/* of times without one; NULL = the session's */
	char	   *nan;			/* texts that mean this; NULL = only the usual ones */
	char	   *positive_inf;
	char	   *negative_inf;
	bool		exact_dates;	/* set by the reader: without a pattern, a day with a time
								 * is no date; the server would drop the time */
} LhConvertOptions;

/* reads them under these names, in the current context; raises 22023 */
extern void lh_convert_options_parse(Jsonb *json, LhConvertOptions *options);

/*
 * Lets a converter go by the options, which must live as long.  One of a type that
 * they do not concern stays as it is.
 */
extern void lh_converter_adapt(LhConverter *converter, const LhConvertOptions *options,
							   MemoryContext context);

#endif							/* LH_CONVERT_OPTIONS_H */
