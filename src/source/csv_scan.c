/*
 * csv_scan.c
 *	  Finds records and fields in CSV bytes.
 *
 * The bytes that mean something (separator, quote, escape, line ends) are found
 * 64 at a time as a bit mask; between two of them nothing is looked at.
 *
 * Invariant: mask holds exactly those meaningful bytes of the block at base that
 * lie at or behind the scanner's place, so each is met once, in order.
 *
 * A quote opens a quoted field only as the field's first byte; elsewhere it is
 * data.  A record whose quoting is broken ends with its first line, whatever it
 * swallowed: one stray quote must not take the lines behind it away.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "source/csv_scan.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * Computes the mask of a block.  Reads 64 bytes from base, beyond the end of the
 * data too.  A dialect without quotes has the byte 0 there: that NULs are marked
 * then does no harm, as nobody acts on them.
 */
#ifdef __SSE2__
static inline void
classify(LhCsvScan *scan, uint32 base)
{
	const __m128i sep = _mm_set1_epi8(scan->bounds ? '\n' : scan->sep);
	const __m128i quote = _mm_set1_epi8(scan->quote);
	const __m128i escape = _mm_set1_epi8(scan->escape != 0 ? scan->escape : scan->quote);
	const __m128i lf = _mm_set1_epi8('\n');
	const __m128i cr = _mm_set1_epi8('\r');
	const __m128i zero = _mm_setzero_si128();
	uint64		mask = 0;
	int			dirty = 0;
	int			i;

	for (i = 0; i < 4; i++)
	{
		__m128i		bytes = _mm_loadu_si128((const __m128i *) (scan->data + base) + i);
		__m128i		hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, sep),
													_mm_cmpeq_epi8(bytes, quote)),
									   _mm_or_si128(_mm_cmpeq_epi8(bytes, lf),
													_mm_cmpeq_epi8(bytes, cr)));

		hit = _mm_or_si128(hit, _mm_cmpeq_epi8(bytes, escape));
		mask |= (uint64) (uint32) _mm_movemask_epi8(hit) << (16 * i);
		dirty |= _mm_movemask_epi8(_mm_or_si128(bytes, _mm_cmpeq_epi8(bytes, zero)));
	}
	scan->mask = mask;
	scan->block_dirty = dirty != 0;
}
#else
static inline void
classify(LhCsvScan *scan, uint32 base)
{
	uint64		mask = 0;
	bool		dirty = false;
	int			i;

	for (i = 0; i < 64; i++)
	{
		char		c = scan->data[base + i];

		if ((c == scan->sep && !scan->bounds) || c == scan->quote || c == scan->escape || c == '\n' || c == '\r')
			mask |= UINT64CONST(1) << i;
		dirty |= c == '\0' || ((unsigned char) c & 0x80) != 0;
	}
	scan->mask = mask;
	scan->block_dirty = dirty;
}
#endif

/*
 * Makes the block at base current.
 */
static inline void
load_block(LhCsvScan *scan, uint32 base)
{
	scan->base = base;
	classify(scan, base);
	if (base + 64 > scan->length)
		scan->mask &= ((uint64) 1 << (scan->length - base)) - 1;
	scan->dirty |= scan->block_dirty;
}

/*
 * Passes to the next meaningful byte and returns its place; the length of the
 * data if there is none.
 */
static inline uint32
next_mark(LhCsvScan *scan)
{
	uint32		place;

	while (scan->mask == 0)
	{
		if (scan->base + 64 >= scan->length)
			return scan->length;
		load_block(scan, scan->base + 64);
	}
	place = scan->base + pg_rightmost_one_pos64(scan->mask);
	scan->mask &= scan->mask - 1;
	return place;
}

/*
 * Goes to a place, forwards or backwards.
 */
static void
seek(LhCsvScan *scan, uint32 place)
{
	scan->mask = 0;
	scan->base = place & ~(uint32) 63;
	if (scan->base < scan->length)
	{
		load_block(scan, scan->base);
		scan->mask &= ~UINT64CONST(0) << (place & 63);
	}
}

void
lh_csv_feed(LhCsvScan *scan, const char *data, uint32 length, bool last)
{
	scan->data = data;
	scan->length = length;
	scan->last = last;
	scan->position = 0;
	scan->lines = 0;
	scan->block_dirty = false;
	seek(scan, 0);
}

/*
 * Passes over the end of a line whose first byte is at "place" and has been
 * passed already.  Returns the place behind it, or 0 if the next byte, which is
 * not there yet, decides.
 */
static inline uint32
pass_line_end(LhCsvScan *scan, uint32 place)
{
	if (scan->data[place] == '\r')
	{
		if (place + 1 == scan->length && !scan->last)
			return 0;
		if (place + 1 < scan->length && scan->data[place + 1] == '\n')
			return next_mark(scan) + 1;
	}
	return place + 1;
}

/*
 * Passes over empty lines and comments.  Returns false if that takes more bytes
 * than there are.
 */
static bool
skip_lines(LhCsvScan *scan)
{
	while (scan->position < scan->length)
	{
		char		c = scan->data[scan->position];
		uint32		place;

		if (!(scan->skip_blank && (c == '\n' || c == '\r')) &&
			!(scan->comment != 0 && c == scan->comment))
			return true;
		do
			place = next_mark(scan);
		while (place < scan->length && scan->data[place] != '\n' && scan->data[place] != '\r');
		if (place == scan->length)
		{
			if (scan->last)
				scan->position = place;
			return false;
		}
		place = pass_line_end(scan, place);
		if (place == 0)
			return false;
		scan->position = place;
		scan->lines++;
	}
	return false;
}

/* What scanning of one record has found about its lines and its faults. */
typedef struct Progress
{
	uint32		inner_lines;	/* line ends inside quotes */
	uint32		first_end;		/* where the first of them begins */
	uint32		first_next;		/* and the line behind it; 0 = none */
	LhCsvFault	fault;
} Progress;

static inline void
note_inner_line(LhCsvScan *scan, uint32 place, Progress *progress)
{
	bool		crlf = scan->data[place] == '\r' && place + 1 < scan->length &&
		scan->data[place + 1] == '\n';

	if (crlf)
		next_mark(scan);
	if (progress->first_next == 0)
	{
		progress->first_end = place;
		progress->first_next = place + 1 + crlf;
	}
	progress->inner_lines++;
}

/*
 * Passes through a quoted field, whose opening quote has been passed, to the
 * place behind its closing quote.  Returns false if that is not there.
 */
static bool
scan_quoted(LhCsvScan *scan, uint32 start, LhCsvField *field, uint32 *behind,
			Progress *progress)
{
	uint32		flags = LH_CSV_QUOTED;

	field->start = start;
	for (;;)
	{
		uint32		place = next_mark(scan);
		char		c;

		if (place == scan->length)
			return false;
		c = scan->data[place];
		if (c == scan->quote)
		{
			if (place + 1 < scan->length && scan->data[place + 1] == scan->quote)
			{
				next_mark(scan);
				flags |= LH_CSV_ESCAPED;
				continue;
			}
			if (place + 1 == scan->length && !scan->last)
				return false;
			field->length = (place - start) | flags;
			*behind = place + 1;
			return true;
		}
		if (c == scan->escape && scan->escape != 0)
		{
			/* the byte behind it is data, whatever it is */
			if (place + 1 < scan->length)
			{
				uint32		next = place + 1;

				flags |= LH_CSV_ESCAPED;
				if (scan->data[next] == scan->quote || scan->data[next] == scan->escape)
					next_mark(scan);
			}
		}
		else if (c == '\n' || c == '\r')
		{
			if (c == '\r' && place + 1 == scan->length && !scan->last)
				return false;
			note_inner_line(scan, place, progress);
		}
	}
}

/*
 * Passes to the next separator or line end.
 */
static inline uint32
scan_unquoted(LhCsvScan *scan)
{
	uint32		place;

	do
		place = next_mark(scan);
	while (place < scan->length && scan->data[place] != scan->sep &&
		   scan->data[place] != '\n' && scan->data[place] != '\r');
	return place;
}

/*
 * Ends a record with broken quoting at its first line.
 */
static void
cut_record(LhCsvScan *scan, LhCsvRecord *record, const Progress *progress)
{
	record->fault = progress->fault;
	if (progress->first_next != 0)
	{
		record->end = progress->first_end;
		scan->position = progress->first_next;
		scan->lines -= progress->inner_lines;
		seek(scan, scan->position);
	}
}

/*
 * Finishes the record whose last field ends at "place".
 */
static inline LhCsvResult
finish_record(LhCsvScan *scan, LhCsvRecord *record, uint32 place, const Progress *progress)
{
	if (place == scan->length)
	{
		if (!scan->last)
			return LH_CSV_MORE;
		scan->position = place;
	}
	else
	{
		uint32		next = pass_line_end(scan, place);

		if (next == 0)
			return LH_CSV_MORE;
		scan->position = next;
	}
	record->end = place;
	record->plain = !scan->dirty;
	scan->lines += progress->inner_lines + 1;
	scan->used += Min(record->fields, scan->width);
	if (unlikely(progress->fault != LH_CSV_GOOD))
		cut_record(scan, record, progress);
	return LH_CSV_RECORD;
}

/*
 * Finds the end of a record without looking at separators: a quote opens a field
 * where one of them, or the record's first byte, is before it.  What is an end
 * and what is a fault is what lh_csv_next finds.
 */
static LhCsvResult
next_bounds(LhCsvScan *scan, LhCsvRecord *record)
{
	Progress	progress = {0};
	LhCsvField	ignored;

	for (;;)
	{
		uint32		place = next_mark(scan);
		uint32		behind;

		if (place == scan->length || scan->data[place] == '\n' || scan->data[place] == '\r')
			return finish_record(scan, record, place, &progress);
		if (scan->quote == 0 || scan->data[place] != scan->quote ||
			(place != record->start && scan->data[place - 1] != scan->sep))
			continue;
		if (!scan_quoted(scan, place + 1, &ignored, &behind, &progress))
		{
			if (!scan->last)
				return LH_CSV_MORE;
			progress.fault = LH_CSV_OPEN_QUOTE;
			return finish_record(scan, record, scan->length, &progress);
		}
		if (behind < scan->length && scan->data[behind] != scan->sep &&
			scan->data[behind] != '\n' && scan->data[behind] != '\r' &&
			progress.fault == LH_CSV_GOOD)
			progress.fault = LH_CSV_AFTER_QUOTE;
	}
}

/*
 * lh_csv_next finds the next record and its fields.
 */
LhCsvResult
lh_csv_next(LhCsvScan *scan, LhCsvRecord *record)
{
	Progress	progress = {0};
	LhCsvField	ignored;
	uint32		place;

	if (!skip_lines(scan))
		return scan->last ? LH_CSV_END : LH_CSV_MORE;
	scan->dirty = scan->block_dirty;
	record->start = place = scan->position;
	record->line = scan->lines;
	record->first_field = scan->used;
	record->fields = 0;
	record->fault = LH_CSV_GOOD;
	if (scan->bounds)
		return next_bounds(scan, record);

	for (;;)
	{
		LhCsvField *field = record->fields < scan->width ?
			&scan->fields[scan->used + record->fields] : &ignored;

		record->fields++;
		if (scan->quote != 0 && place < scan->length && scan->data[place] == scan->quote)
		{
			uint32		behind;

			next_mark(scan);
			if (!scan_quoted(scan, place + 1, field, &behind, &progress))
			{
				if (!scan->last)
					return LH_CSV_MORE;
				progress.fault = LH_CSV_OPEN_QUOTE;
				field->length = 0;
				return finish_record(scan, record, scan->length, &progress);
			}
			place = scan_unquoted(scan);
			if (place != behind && progress.fault == LH_CSV_GOOD)
				progress.fault = LH_CSV_AFTER_QUOTE;
		}
		else
		{
			field->start = place;
			place = scan_unquoted(scan);
			field->length = place - field->start;
		}
		if (place == scan->length || scan->data[place] != scan->sep)
			return finish_record(scan, record, place, &progress);
		place++;
	}
}

/* ---------------------------------------------------- records too long */

void
lh_csv_skip_begin(LhCsvSkip *skip)
{
	memset(skip, 0, sizeof(*skip));
	skip->state = SKIP_FIELD_START;
	skip->first_line = -1;
	skip->lines = 1;
}

/*
 * Takes one byte outside of quotes; true if it ends the record.
 */
static bool
skip_outside(LhCsvSkip *skip, const LhCsvScan *dialect, char c)
{
	if (c == '\n')
		return true;
	if (c == dialect->sep)
		skip->state = SKIP_FIELD_START;
	else if (skip->state == SKIP_QUOTE)
	{
		skip->broken = true;
		skip->state = SKIP_UNQUOTED;
	}
	else if (skip->state == SKIP_FIELD_START && c == dialect->quote && dialect->quote != 0)
		skip->state = SKIP_QUOTED;
	else
		skip->state = SKIP_UNQUOTED;
	return false;
}

/*
 * lh_csv_skip_feed looks at the next bytes of an oversized record.  Only the
 * line feed ends a line here: a file with bare carriage returns is given up as
 * one record, which is what the caller does with it anyway.
 */
void
lh_csv_skip_feed(LhCsvSkip *skip, const LhCsvScan *dialect, const char *data, uint32 length)
{
	uint32		i;

	if (dialect->wide != NULL)
	{
		lh_csv_skip_wide(skip, dialect, data, length);
		return;
	}
	for (i = 0; i < length && !skip->done; i++)
	{
		char		c = data[i];

		skip->offset++;
		if (c == '\n' && skip->first_line < 0)
			skip->first_line = skip->offset;
		switch (skip->state)
		{
			case SKIP_QUOTED:
				if (c == dialect->quote)
					skip->state = SKIP_QUOTE;
				else if (dialect->escape != 0 && c == dialect->escape)
					skip->state = SKIP_ESCAPED;
				else if (c == '\n')
					skip->lines++;
				break;
			case SKIP_ESCAPED:
				if (c == '\n')
					skip->lines++;
				skip->state = SKIP_QUOTED;
				break;
			case SKIP_QUOTE:
				if (c == dialect->quote)
				{
					skip->state = SKIP_QUOTED;
					break;
				}
				/* CRLF behind the closing quote is no data */
				if (c == '\r')
					break;
				/* FALLTHROUGH */
			default:
				skip->done = skip_outside(skip, dialect, c);
		}
	}
}

/*
 * lh_csv_skip_end decides where the record ends, when its end was found or
 * nothing is left of the file: offset and lines tell it.
 */
void
lh_csv_skip_end(LhCsvSkip *skip)
{
	if (!skip->done && (skip->state == SKIP_QUOTED || skip->state == SKIP_ESCAPED))
		skip->broken = true;
	/* of a wide dialect, where only a mark tells */
	if (!skip->done && skip->state == SKIP_QUOTE && skip->behind > 0)
		skip->broken = true;
	if (skip->broken && skip->first_line >= 0)
	{
		skip->offset = skip->first_line;
		skip->lines = 1;
	}
	skip->done = true;
}
