/*
 * decoder.c
 *	  The decoders that there are.
 */
#include "postgres.h"

#include "catalog/options.h"
#include "source/decoder.h"

static const LhDecoderRoutine *const decoders[] = {&lh_json_decoder};

static bool
is_given(Jsonb *options, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL);

	return value != NULL && value->type != jbvNull;
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
	for (int d = 0; d < lengthof(decoders); d++)
		for (int o = 0; decoders[d] != found && decoders[d]->options[o] != NULL; o++)
			if (is_given(options, decoders[d]->options[o]))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"%s\" applies to decoded values only", decoders[d]->options[o]),
						 errhint("Set the option \"value_format\", for example to \"%s\".",
								 decoders[d]->format)));
	return found;
}
