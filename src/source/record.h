/*
 * record.h
 *	  What a reader gives and the bronze writer takes: a batch of records.
 *
 * A reader (CSV, JSON, Kafka) holds the bytes of up to a few thousand records.
 * The writer asks it to turn record i into a row, and, when a record cannot be
 * stored, where that record came from.  Both may be asked again for the same
 * record, because the writer repeats a batch in smaller pieces to find the
 * record that the table refused.
 */
#ifndef LH_RECORD_H
#define LH_RECORD_H

#include "postgres.h"

#include "error.h"

struct LhKafkaMessage;

/* Where a record came from and what it looked like: becomes a reject row. */
typedef struct LhPlace
{
	int64		line;			/* from 1; 0 = has none */
	int64		byte_offset;	/* from 0; -1 = has none */
	const char *topic;			/* NULL = has none */
	int32		partition;
	int64		offset;
	const char *raw;			/* the record as it stood */
	Size		raw_length;
	bool		cut;			/* raw is only its beginning */
	const struct LhKafkaMessage *message;	/* Kafka: what raw is the value of; or NULL */
} LhPlace;

typedef struct LhRecords
{
	int			count;
	void	   *reader;

	/*
	 * Turns record i into values and nulls of the target's tuple descriptor;
	 * columns that the source does not fill are left as they are (the writer
	 * has set their defaults).  Returns false with *error filled, and
	 * *column (or NULL) naming the column, if the record is bad.  Where a
	 * conversion may raise, *column names its column meanwhile.  Results live
	 * in the current memory context or in the reader until its next batch.
	 */
	bool		(*fill) (void *reader, int i, Datum *values, bool *nulls,
						 LhError *error, const char **column);

	/* Tells where record i came from; pointers live until the next batch. */
	void		(*place) (void *reader, int i, LhPlace *place);
} LhRecords;

#endif							/* LH_RECORD_H */
