/*
 * json_text.h
 *	  What the scanner finds, as text in the server's encoding, as jsonb, and as
 *	  soft errors.
 */
#ifndef LH_JSON_TEXT_H
#define LH_JSON_TEXT_H

#include "error.h"
#include "json/json_scan.h"
#include "utils/jsonb.h"

/* fills *error with what the scanner found wrong; returns false */
extern bool lh_json_refuse(const LhJsonScan *scan, LhError *error);

/*
 * lh_json_string gives the text of a string or key: a slice of the input, or of
 * memory from the current context if it held escapes.
 */
extern bool lh_json_string(const LhJsonScan *scan, const char **text, int *length,
						   LhError *error);

/*
 * lh_json_build makes a jsonb, in the current context, of the value that begins
 * with token "first", and goes to its end.
 */
extern bool lh_json_build(LhJsonScan *scan, LhJsonToken first, Jsonb **result, LhError *error);

#endif							/* LH_JSON_TEXT_H */
