/*
 * csv_internal.h
 *	  What the files of the CSV reader share; private to them.
 */
#ifndef LH_CSV_INTERNAL_H
#define LH_CSV_INTERNAL_H

#include "convert/convert.h"
#include "source/csv_options.h"
#include "source/csv_scan.h"
#include "source/encoding.h"
#include "source/input.h"
#include "source/reader.h"
#include "utils/memutils.h"

#define LH_CSV_MAX_HEADER_FIELDS 10000

/* One field of a record: where it goes and how. */
typedef struct LhCsvColumn
{
	int			attribute;		/* index in the tuple descriptor; -1 = no column */
	const char *name;			/* for the sink; NULL = ignored if it is no column */
	int			name_length;
	LhConverter converter;
} LhCsvColumn;

typedef struct LhCsvReader
{
	LhCsvOptions options;
	LhEncoding	encoding;
	LhInput		input;
	LhCsvScan	scan;
	uint32		fields_allocated;
	int64		line;			/* lines before the window */

	LhCsvRecord *records;		/* of the batch */
	int			count;
	int			records_allocated;

	LhCsvColumn *columns;		/* one for each field, scan.width of them */
	LhFieldSink *sink;			/* or NULL */
	bool		rescue;			/* and it wants what does not convert */
	bool		may_raise;
	bool		special;		/* fields are filled by lh_csv_fill_special */
	char	   *header;			/* header line in the server's encoding, or NULL */
	uint32		null_length;	/* of options.null_value */
	uint32		max_length;		/* bytes that a record may have */

	char	   *scratch;		/* for a field without its escapes */
	uint32		scratch_size;

	int64		end;			/* no record that begins here or behind is read */
	int64		behind;			/* where what follows the batch begins, in bytes of
								 * the window */
	uint32		behind_lines;	/* lines of the window before it */

	bool		jump;			/* behind this batch the reader goes on elsewhere: */
	int64		jump_position;
	int64		jump_line;
	MemoryContext context;
} LhCsvReader;

/* csv_columns.c: which field of a record goes where */
extern void lh_csv_map_by_position(LhCsvReader *csv, const LhReaderInput *input);
extern void lh_csv_map_by_count(LhCsvReader *csv, const LhReaderInput *input, uint32 count);

/* the line is in the server's encoding */
extern void lh_csv_map_by_header(LhCsvReader *csv, const LhReaderInput *input, const char *line);

/* csv_fill.c: "fill" of records; the second one for options that the first does
 * not know */
extern bool lh_csv_fill(void *reader, int i, Datum *values, bool *nulls,
						LhError *error, const char **column);
extern bool lh_csv_fill_special(void *reader, int i, Datum *values, bool *nulls,
								LhError *error, const char **column);

static inline LhCsvResult
lh_csv_next_record(LhCsvScan *scan, LhCsvRecord *record)
{
	return unlikely(scan->wide != NULL) ? lh_csv_next_wide(scan, record) : lh_csv_next(scan, record);
}

/*
 * Gives the text of a field: its bytes as they stand, or without their escapes
 * in the reader's scratch memory.
 */
static inline const char *
lh_csv_field_text(LhCsvReader *csv, const char *data, const LhCsvField *field, int *length)
{
	const char *p = data + field->start;
	const char *end = p + (field->length & LH_CSV_LENGTH);
	char	   *to;

	*length = end - p;
	if (likely((field->length & LH_CSV_ESCAPED) == 0))
		return p;
	if ((uint32) *length > csv->scratch_size)
	{
		csv->scratch_size = *length;
		if (csv->scratch != NULL)
			pfree(csv->scratch);
		csv->scratch = MemoryContextAllocHuge(csv->context, csv->scratch_size);
	}
	for (to = csv->scratch; p < end; p++)
	{
		if (p + 1 < end &&
			((*p == csv->scan.quote && p[1] == csv->scan.quote) ||
			 (csv->scan.escape != 0 && *p == csv->scan.escape &&
			  (p[1] == csv->scan.quote || p[1] == csv->scan.escape))))
			p++;
		*to++ = *p;
	}
	*length = to - csv->scratch;
	return csv->scratch;
}

#endif							/* LH_CSV_INTERNAL_H */
