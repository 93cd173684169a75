/*
 * field_sink.h
 *	  Fields of a record that the table does not take as they are.
 *
 * A reader tells them to the sink that its input names, each time it fills the
 * record; a record that is filled again tells them again.
 */
#ifndef LH_FIELD_SINK_H
#define LH_FIELD_SINK_H

#include "convert/guess.h"

typedef struct LhField
{
	bool		mismatch;		/* there is a column, but the value does not
								 * convert; otherwise no column has the name */
	bool		duplicate;		/* there is a column, but a later value of the
								 * record counts */
	const char *name;			/* in the server's encoding, not terminated */
	int			name_length;
	LhFieldKind kind;
	const char *text;			/* the value, until the next batch */
	int			length;
} LhField;

typedef struct LhFieldSink LhFieldSink;

struct LhFieldSink
{
	bool		unknown;		/* wants fields that are no columns */
	bool		rescue;			/* wants values that do not convert: the column
								 * becomes NULL and the record goes on */
	bool		exact;			/* CSV: a header must spell a column as it is */
	bool		fold;			/* JSON: a key may differ from it in case */
	bool		exact_dates;	/* a day with a time is no date */
	bool		positions;		/* CSV without a header: the first record tells
								 * how many fields there are; they are c1, c2, ... */

	/* a field that all records of the file have; NULL = of no interest */
	void		(*declare) (LhFieldSink *sink, const char *name, int length);
	void		(*take) (LhFieldSink *sink, const LhField *field);
};

#endif							/* LH_FIELD_SINK_H */
