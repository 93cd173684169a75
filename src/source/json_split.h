/*
 * json_split.h
 *	  Finds records in JSON bytes that are not one on a line; knows nothing of
 *	  PostgreSQL's state.
 */
#ifndef LH_JSON_SPLIT_H
#define LH_JSON_SPLIT_H

typedef enum LhJsonSplitResult
{
	LH_JSON_SPLIT_RECORD,
	LH_JSON_SPLIT_UNCLOSED,		/* no record: the bytes end within an array */
	LH_JSON_SPLIT_MORE,			/* what begins at "position" is not whole: feed it
								 * again, with more behind it */
	LH_JSON_SPLIT_END			/* nothing left */
} LhJsonSplitResult;

typedef struct LhJsonSplit
{
	/* the state at "position", which outlives the bytes */
	bool		in_array;		/* within an array whose elements are the records */
	int64		indent;			/* blanks, commas and brackets that its line begins
								 * with */
	bool		indenting;		/* there is nothing else before it on the line */
	uint32		lax;			/* notations that are allowed: see json_lax.h */

	/* the bytes */
	const char *data;
	uint32		length;
	bool		last;			/* nothing follows them */
	uint32		position;
	uint32		lines;			/* lines passed in them */

	/* the record */
	uint32		start;
	uint32		end;
	uint32		line;			/* lines passed before it */
} LhJsonSplit;

/* before the first byte of a file */
extern void lh_json_split_begin(LhJsonSplit *split);
extern void lh_json_split_feed(LhJsonSplit *split, const char *data, uint32 length, bool last);
extern LhJsonSplitResult lh_json_split_next(LhJsonSplit *split);

/* Finds the end of a record that is no JSON, or too long to be held in memory. */
typedef struct LhJsonSkip
{
	char		open;			/* brackets that are counted; 0: the record ends with
								 * its line */
	char		close;
	int64		limit;			/* indent of the line where the record began */
	int			depth;
	bool		in_string;
	bool		escaped;
	bool		line_start;		/* only blanks and commas since the line began */
	int64		indent;			/* how many */
	int64		offset;			/* bytes seen */
	int64		lines;			/* lines passed */
	bool		done;			/* the end was found, at offset */
} LhJsonSkip;

extern void lh_json_skip_begin(LhJsonSkip *skip, char first, int64 indent);
extern void lh_json_skip_feed(LhJsonSkip *skip, const char *data, uint32 length);

#endif							/* LH_JSON_SPLIT_H */
