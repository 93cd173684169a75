/*
 * decoder.h
 *	  Decoders: the bytes of a message's value to typed columns.
 *
 * A new format is one more LhDecoderRoutine in decoder.c.  A decoder is opened
 * for each batch; schemas from a registry are kept with the ingest.
 */
#ifndef LH_DECODER_H
#define LH_DECODER_H

#include "access/tupdesc.h"
#include "error.h"
#include "source/field_sink.h"
#include "source/schema_registry.h"
#include "utils/jsonb.h"

typedef struct LhDecoder LhDecoder;

typedef struct LhDecoderRoutine
{
	const char *format;			/* value of the option "value_format" */

	/* options of the source that belong to this format, ended by NULL */
	const char *const *options;

	/* do values with these options need schemas of a registry?  NULL = never */
	bool		(*needs_registry) (Jsonb *options);

	/*
	 * Makes the mapping to the columns that are "fillable", in the current
	 * context.  Raises 22023, 42703, 42P10 for options that do not fit.  "sink"
	 * is told of fields that are no columns or do not convert, or is NULL;
	 * "registry" has the schemas of the source's server, or is NULL.
	 */
	LhDecoder  *(*open) (TupleDesc tupdesc, const bool *fillable, Jsonb *options,
						 LhSchemaRegistry *registry, LhFieldSink *sink);

	/* can "fill" raise, or does it only return errors? */
	bool		(*may_raise) (const LhDecoder *decoder);

	/* sets the columns that the value has fields for; false with *error, and
	 * *column (or NULL), if it cannot be decoded */
	bool		(*fill) (LhDecoder *decoder, const char *value, Size length,
						 Datum *values, bool *nulls, LhError *error, const char **column);
} LhDecoderRoutine;

/*
 * lh_decoder_find returns the decoder that the option "value_format" names, or
 * NULL if it is absent.  Raises 22023 for a name that is none, and for an option
 * of a decoder that is not the source's.
 */
extern const LhDecoderRoutine *lh_decoder_find(Jsonb *options);

extern const LhDecoderRoutine lh_avro_decoder;
extern const LhDecoderRoutine lh_json_decoder;

#endif							/* LH_DECODER_H */
