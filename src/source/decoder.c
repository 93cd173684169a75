/*
 * decoder.c
 *	  The decoders that there are.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "source/decoder.h"

static const LhDecoderRoutine *const decoders[] = {&lh_avro_decoder, &lh_json_decoder};

static bool
is_given(Jsonb *options, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL);

	return value != NULL && value->type != jbvNull;
}

/*
 * refuse_foreign raises for an option of other decoders that was given.
 */
static void
refuse_foreign(Jsonb *options, const LhDecoderRoutine *found, const LhDecoderRoutine *other)
{
	for (int o = 0; other->options[o] != NULL; o++)
	{
		const char *name = other->options[o];
		bool		shared = false;

		for (int f = 0; found != NULL && found->options[f] != NULL; f++)
			shared |= strcmp(found->options[f], name) == 0;
		if (shared || !is_given(options, name))
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" does not apply to values in format \"%s\"", name, found->format),
					 errhint("Set the option \"value_format\" to \"%s\", or leave \"%s\" out.",
							 other->format, name)));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" applies to decoded values only", name),
				 errhint("Set the option \"value_format\", for example to \"%s\".", other->format)));
	}
}

const LhDecoderRoutine *
lh_decoder_find(Jsonb *options)
{
	char	   *format = options == NULL ? NULL : lh_options_text(options, "value_format", NULL);
	const LhDecoderRoutine *found = NULL;
	const char *names[lengthof(decoders) + 1] = {NULL};

	if (options == NULL)
		return NULL;
	for (int d = 0; d < lengthof(decoders); d++)
	{
		names[d] = decoders[d]->format;
		if (format != NULL && strcmp(format, decoders[d]->format) == 0)
			found = decoders[d];
	}
	if (format != NULL && found == NULL)
		lh_options_refuse(format, names, "value of option \"value_format\"");
	for (int d = lengthof(decoders) - 1; d >= 0; d--)
	{
		if (decoders[d] != found)
			refuse_foreign(options, found, decoders[d]);
	}
	return found;
}
