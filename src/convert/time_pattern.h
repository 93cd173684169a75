/*
 * time_pattern.h
 *	  Dates and times in a notation that the user describes with a pattern.
 *
 * Patterns are those of Spark (and of Java's DateTimeFormatter): yyyy-MM-dd,
 * dd.MM.yyyy HH:mm[:ss], yyyy-MM-dd'T'HH:mm:ss.SSSXXX.
 */
#ifndef LH_TIME_PATTERN_H
#define LH_TIME_PATTERN_H

#include "pgtime.h"
#include "utils/timestamp.h"

#include "error.h"

typedef struct LhTimePattern LhTimePattern;

/* What a text says; fields that the pattern lacks have their defaults. */
typedef struct LhTimeText
{
	struct pg_tm tm;
	fsec_t		fsec;
	bool		has_offset;
	int			offset;			/* seconds west of Greenwich, as the server counts */
	pg_tz	   *zone;			/* a zone that the text names, or NULL */
} LhTimeText;

/* raises 22023 for a pattern that has no meaning; "option" stands in messages */
extern LhTimePattern *lh_time_pattern_compile(const char *pattern, const char *option);

/* soft: 22007 if the text does not have the form, 22008 if there is no such time */
extern bool lh_time_pattern_read(const LhTimePattern *pattern, const char *data, int length,
								 LhTimeText *result, LhError *error);

#endif							/* LH_TIME_PATTERN_H */
