/*
 * avro_json.h
 *	  A value in Avro's binary encoding as JSON text.
 */
#ifndef LH_AVRO_JSON_H
#define LH_AVRO_JSON_H

#include "avro/avro_schema.h"
#include "error.h"
#include "lib/stringinfo.h"

/*
 * lh_avro_json_write writes the value, which must take all of the bytes, behind
 * what "json" holds: UTF-8, of at most "limit" bytes more.  False with *error
 * (22P03 for bytes that are no such value, 22021 for text that is none, 22008 for
 * times that do not exist here, 54000 beyond a limit); then "json" is of no use.
 */
extern bool lh_avro_json_write(const LhAvroSchema *schema, const char *data, Size length,
							   Size limit, StringInfo json, LhError *error);

#endif							/* LH_AVRO_JSON_H */
