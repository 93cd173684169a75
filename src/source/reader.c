/*
 * reader.c
 *	  The file formats that there are.
 */
#include "postgres.h"

#include "source/reader.h"

static const LhReaderRoutine *const readers[] = {
	&lh_binary_reader,
	&lh_csv_reader,
	&lh_json_reader,
	&lh_text_reader
};

const LhReaderRoutine *
lh_reader_find(const char *format)
{
	int			i;

	for (i = 0; i < lengthof(readers); i++)
		if (strcmp(readers[i]->format, format) == 0)
			return readers[i];
	return NULL;
}
