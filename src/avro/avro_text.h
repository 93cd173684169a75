/*
 * avro_text.h
 *	  Values of Avro's logical types as text, without quotes.
 */
#ifndef LH_AVRO_TEXT_H
#define LH_AVRO_TEXT_H

#include "postgres.h"

/* room for any text of a time, a date, a UUID or a duration */
#define LH_AVRO_TEXT_SIZE 64

/* a decimal in more bytes than this is refused by who calls; what its digits take */
#define LH_AVRO_DECIMAL_BYTES_MAX 512
#define LH_AVRO_DECIMAL_TEXT_SIZE (LH_AVRO_DECIMAL_BYTES_MAX * 5 / 2 + 1024)

/* these return the length of the text, or 0 if PostgreSQL has no such value */
extern int	lh_avro_date_text(int32 days, char *to);
extern int	lh_avro_time_text(int64 value, int digits, char *to);
extern int	lh_avro_timestamp_text(int64 value, int digits, bool local, char *to);

extern int	lh_avro_uuid_text(const uint8 *bytes, char *to);
extern int	lh_avro_duration_text(const uint8 *bytes, char *to);

/* an integer of "length" > 0 bytes, the highest first, with a decimal point
 * before the last "scale" digits */
extern int	lh_avro_decimal_text(const uint8 *bytes, int length, int scale, char *to);

#endif							/* LH_AVRO_TEXT_H */
