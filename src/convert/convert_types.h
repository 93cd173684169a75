/*
 * convert_types.h
 *	  The conversions that convert.c chooses from; private to this folder.
 */
#ifndef LH_CONVERT_TYPES_H
#define LH_CONVERT_TYPES_H

#include "convert/convert.h"

#define LH_CONVERT_FUNCTION(name) \
	extern bool name(LhConverter *converter, const char *data, int length, \
					 Datum *value, LhError *error)

LH_CONVERT_FUNCTION(lh_convert_bool);
LH_CONVERT_FUNCTION(lh_convert_bpchar);
LH_CONVERT_FUNCTION(lh_convert_date);
LH_CONVERT_FUNCTION(lh_convert_float4);
LH_CONVERT_FUNCTION(lh_convert_float8);
LH_CONVERT_FUNCTION(lh_convert_input);
LH_CONVERT_FUNCTION(lh_convert_int2);
LH_CONVERT_FUNCTION(lh_convert_int4);
LH_CONVERT_FUNCTION(lh_convert_int8);
LH_CONVERT_FUNCTION(lh_convert_json);
LH_CONVERT_FUNCTION(lh_convert_jsonb);
LH_CONVERT_FUNCTION(lh_convert_numeric);
LH_CONVERT_FUNCTION(lh_convert_text);
LH_CONVERT_FUNCTION(lh_convert_timestamp);
LH_CONVERT_FUNCTION(lh_convert_timestamptz);
LH_CONVERT_FUNCTION(lh_convert_uuid);
LH_CONVERT_FUNCTION(lh_convert_varchar);

/* the server's "invalid input syntax for type ..." as a soft error */
extern bool lh_convert_refuse(LhError *error, int sqlstate, const char *type,
							  const char *data, int length);

/* the value for a message: shortened, on one line; valid until the next call */
extern const char *lh_convert_excerpt(const char *data, int length);

/* a copy that ends with NUL; in "buffer" if it fits, else allocated */
extern char *lh_convert_cstring(const char *data, int length, char *buffer, int size);

#endif							/* LH_CONVERT_TYPES_H */
