/*
 * reader.h
 *	  The interface of a file format: bytes of an open file to batches of records.
 *
 * A new format is a new file with one LhReaderRoutine; file_ingest.c finds it by
 * name and knows nothing else of it.
 */
#ifndef LH_READER_H
#define LH_READER_H

#include "access/tupdesc.h"
#include "utils/jsonb.h"

#include "source/field_sink.h"
#include "source/inflate.h"
#include "source/input.h"
#include "source/record.h"

/* bytes that an option for a separator takes */
#define LH_MAX_SEPARATOR 8

typedef struct LhReader LhReader;

/* What the reader is to read, and from where. */
typedef struct LhReaderInput
{
	int			fd;				/* regular file, opened by file_open.c; the
								 * caller closes it */
	const char *name;			/* for messages: path beneath the directory */
	LhInflate  *inflate;		/* the file is compressed: positions and lines are
								 * those of the stream; or NULL */
	LhInputTap *tap;			/* is given the bytes that were read, as far as the
								 * reader likes; not with "inflate"; or NULL */
	int64		size;			/* bytes to read at most: the file's size when
								 * it was opened */
	int64		position;		/* byte to start at: 0, or a record boundary */
	int64		end;			/* a record boundary where to stop, though more
								 * follows; 0 = go on to the end of the file */
	int64		line;			/* lines before that byte */
	bool		bounds;			/* only tell is asked for, and how many records there
								 * are */
	bool		single;			/* the bytes from position on are one record and a
								 * line feed: a replay */
	const char *header;			/* CSV: header line kept when the file was
								 * begun, or NULL */
	TupleDesc	tupdesc;		/* target table */
	const bool *fillable;		/* for each column: may the source fill it
								 * (not generated, not _load_id, ...) */
	Jsonb	   *options;		/* validated format options */
	LhFieldSink *sink;			/* told of fields that the table does not take,
								 * or NULL */
} LhReaderInput;

/* One column of a format that has the same ones for all files. */
typedef struct LhReaderColumn
{
	const char *name;
	const char *type;
	Oid			type_id;
} LhReaderColumn;

typedef struct LhReaderRoutine
{
	const char *format;			/* csv, json, ... */

	/* what a table gets that is made for such files, ended by a NULL name; NULL =
	 * that depends on what is in them.  In the current context. */
	const LhReaderColumn *(*columns) (Jsonb *options);
	bool		raw;			/* compressed files are read as they are */

	/* raises 22023 for an option it does not know, with a hint */
	void		(*validate) (Jsonb *options, TupleDesc tupdesc);

	/* allocates in the current context; raises if the file as a whole cannot
	 * be read (wrong header, ...) */
	LhReader   *(*open) (const LhReaderInput *input);

	/*
	 * Gives the next batch; false at the end of the input.  A batch holds at
	 * least one record, and its bytes stay valid until the next call.  Records
	 * that cannot even be split into fields are in the batch too: their fill
	 * returns false.
	 */
	bool		(*next) (LhReader *reader, LhRecords *records);

	/* position after the last batch given: a record boundary */
	void		(*tell) (LhReader *reader, int64 *position, int64 *line);

	/*
	 * May the records between two places that tell gave be read by somebody
	 * else, who knows the header and the lines before the first of them?  Where
	 * it is so, tell gives the byte behind the line end of a record, and a
	 * reader with such an "end" gives the same records as one that goes on.
	 * NULL = never.
	 */
	bool		(*splits) (LhReader *reader);

	/* header line to keep for a resumed read, or NULL */
	const char *(*header) (LhReader *reader);
	bool		header_is_state;	/* it tells where the read stands, and nothing of
									 * the records */

	/* does any column that the source fills need a conversion that may raise? */
	bool		(*may_raise) (LhReader *reader);

	void		(*close) (LhReader *reader);
} LhReaderRoutine;

extern const LhReaderRoutine lh_binary_reader;
extern const LhReaderRoutine lh_csv_reader;
extern const LhReaderRoutine lh_json_reader;
extern const LhReaderRoutine lh_text_reader;

/* NULL if there is no such format */
extern const LhReaderRoutine *lh_reader_find(const char *format);

#endif							/* LH_READER_H */
