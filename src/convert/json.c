/*
 * json.c
 *	  Conversion to json and jsonb.
 */
#include "postgres.h"

#include "convert/convert_types.h"
#include "json/json_text.h"

bool
lh_convert_json(LhConverter *converter, const char *data, int length,
				Datum *value, LhError *error)
{
	LhJsonScan	scan;

	lh_json_begin(&scan, data, length);
	if (!lh_json_pass(&scan, lh_json_next(&scan)) || lh_json_next(&scan) != LH_JSON_END)
		return lh_json_refuse(&scan, error);
	return lh_convert_text(converter, data, length, value, error);
}

bool
lh_convert_jsonb(LhConverter *converter, const char *data, int length,
				 Datum *value, LhError *error)
{
	LhJsonScan	scan;
	Jsonb	   *result;

	lh_json_begin(&scan, data, length);
	if (!lh_json_build(&scan, lh_json_next(&scan), &result, error))
		return false;
	if (lh_json_next(&scan) != LH_JSON_END)
		return lh_json_refuse(&scan, error);
	*value = JsonbPGetDatum(result);
	return true;
}
