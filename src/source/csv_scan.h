/*
 * csv_scan.h
 *	  Finds records and fields in CSV bytes; knows nothing of PostgreSQL's state.
 */
#ifndef LH_CSV_SCAN_H
#define LH_CSV_SCAN_H

/* bytes that must follow the data: readable, ASCII, not NUL */
#define LH_CSV_PADDING 64

/* One field: its bytes, without enclosing quotes but with escapes as written. */
typedef struct LhCsvField
{
	uint32		start;
	uint32		length;			/* in the low 30 bits, and the two flags */
} LhCsvField;

#define LH_CSV_LENGTH	0x3FFFFFFF
#define LH_CSV_ESCAPED	0x40000000	/* holds doubled quotes or escapes */
#define LH_CSV_QUOTED	0x80000000

typedef enum LhCsvFault
{
	LH_CSV_GOOD,
	LH_CSV_OPEN_QUOTE,			/* no closing quote up to the end of the file */
	LH_CSV_AFTER_QUOTE,			/* data behind a closing quote */
	LH_CSV_TOO_LONG				/* longer than a record may be (set by the reader) */
} LhCsvFault;

typedef struct LhCsvRecord
{
	uint32		start;			/* first byte */
	uint32		end;			/* behind the last byte, without the line end */
	uint32		line;			/* lines of the scan before this record */
	uint32		first_field;	/* index into the scan's fields */
	uint32		fields;			/* how many it has; only "width" are stored */
	LhCsvFault	fault;
	bool		plain;			/* all bytes are ASCII and none is NUL */
} LhCsvRecord;

typedef enum LhCsvResult
{
	LH_CSV_RECORD,				/* a record was found */
	LH_CSV_MORE,				/* bytes from "position" on are no whole record:
								 * feed them again, with more behind them */
	LH_CSV_END					/* nothing left */
} LhCsvResult;

/* bytes that a separator of fields or lines has at most */
#define LH_CSV_MAX_MARK 8

/* What is made of a field with data behind its closing quote. */
typedef enum LhCsvUnescaped
{
	LH_CSV_REJECT,				/* the record is faulty */
	LH_CSV_TO_SEPARATOR,		/* it is unquoted, and ends with the next separator */
	LH_CSV_FROM_QUOTE,			/* it is unquoted from its beginning on */
	LH_CSV_TO_QUOTE				/* the quote is data, and the field still quoted */
} LhCsvUnescaped;

/* A dialect that needs more than one byte for each mark: see csv_scan_wide.c. */
typedef struct LhCsvWide
{
	char		sep[LH_CSV_MAX_MARK];
	uint32		sep_length;		/* 0 = there is none */
	char		line_sep[LH_CSV_MAX_MARK];
	uint32		line_sep_length;	/* 0 = LF, CRLF or CR */
	bool		trim_left;		/* blanks in front of a field are no part of it */
	bool		trim_right;		/* nor are those behind it */
	LhCsvUnescaped unescaped;
} LhCsvWide;

typedef struct LhCsvScan
{
	const LhCsvWide *wide;		/* for lh_csv_next_wide; it counts before sep */

	/* the dialect; 0 = there is none such */
	char		sep;
	char		quote;
	char		escape;			/* 0 if it is the quote itself */
	char		comment;
	bool		skip_blank;		/* empty lines are no records */
	uint32		width;			/* fields stored of each record */
	bool		bounds;			/* only where records begin and end is asked: their
								 * fields are not counted */

	/* where fields go; room for "width" more is needed before each call */
	LhCsvField *fields;
	uint32		used;

	/* the bytes */
	const char *data;
	uint32		length;
	bool		last;			/* nothing follows them */

	/* the state */
	uint32		position;		/* where the next record begins */
	uint32		lines;			/* lines passed since lh_csv_feed */
	uint32		base;			/* block of 64 bytes that mask describes */
	uint64		mask;			/* bytes not yet passed that mean something */
	bool		block_dirty;	/* block holds non-ASCII bytes or NULs */
	bool		dirty;			/* and so did a block of this record */
} LhCsvScan;

/* sets the bytes and begins at the first; fields found so far stay */
extern void lh_csv_feed(LhCsvScan *scan, const char *data, uint32 length, bool last);
extern LhCsvResult lh_csv_next(LhCsvScan *scan, LhCsvRecord *record);

/* the same for a scan with a wide dialect */
extern LhCsvResult lh_csv_next_wide(LhCsvScan *scan, LhCsvRecord *record);

/* Finds the end of a record that is too long to be held in memory. */
typedef struct LhCsvSkip
{
	int			state;
	int64		offset;			/* bytes seen */
	int64		first_line;		/* bytes of the first line with its end, or -1 */
	int64		lines;			/* lines of the record */
	bool		broken;			/* its quoting is faulty: ends with its first line */
	bool		done;			/* the end was found, at offset */
	char		tail[LH_CSV_MAX_MARK];	/* wide: the last bytes since a mark */
	uint32		tail_length;
	uint32		behind;			/* wide: bytes behind a closing quote, but for blanks */
	bool		apart;			/* wide: there are any */
} LhCsvSkip;

extern void lh_csv_skip_begin(LhCsvSkip *skip);
extern void lh_csv_skip_feed(LhCsvSkip *skip, const LhCsvScan *dialect,
							 const char *data, uint32 length);
extern void lh_csv_skip_end(LhCsvSkip *skip);

/* private to the two scanners: where the scan of an oversized record is */
enum
{
	SKIP_FIELD_START,
	SKIP_UNQUOTED,
	SKIP_QUOTED,
	SKIP_ESCAPED,				/* behind an escape in quotes */
	SKIP_QUOTE					/* behind a quote in quotes */
};

extern void lh_csv_skip_wide(LhCsvSkip *skip, const LhCsvScan *dialect,
							 const char *data, uint32 length);

#endif							/* LH_CSV_SCAN_H */
