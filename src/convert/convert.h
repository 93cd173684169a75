/*
 * convert.h
 *	  From the text of one field to a Datum of a column's type.
 *
 * Common types (integers, floats, numeric, text, bool, date, timestamp,
 * timestamptz, uuid, jsonb) have a strict conversion of our own that reports
 * bad input softly and gives the same bits as the server's input function.  All
 * other types, and input that the fast form does not want to judge, go through
 * the type's input function, which may raise.
 */
#ifndef LH_CONVERT_H
#define LH_CONVERT_H

#include "access/tupdesc.h"
#include "fmgr.h"

#include "error.h"

typedef struct LhConverter LhConverter;

/*
 * One conversion.  "data" need not be terminated; it is in the server encoding
 * and valid (the reader checked it).  Returns false with *error filled if the
 * text is no value of the type.  Results are made in the current memory
 * context.
 */
typedef bool (*LhConvertFunction) (LhConverter *converter, const char *data, int length,
								   Datum *value, LhError *error);

struct LhConverter
{
	LhConvertFunction convert;
	Oid			type;			/* the column's type, possibly a domain */
	int32		typmod;
	bool		may_raise;		/* conversion can ereport(ERROR): the caller
								 * needs a subtransaction around it */
	bool		is_domain;		/* NULL needs a look: lh_convert_null */
	bool		is_json;		/* json or jsonb: wants the raw JSON text */
	bool		is_string;		/* text, varchar, bpchar: JSON null differs
								 * from "" and objects come as their text */
	FmgrInfo	input;			/* the type's input function */
	Oid			typioparam;
	const char *column;			/* for messages */
	struct LhConvertSpecial *special;	/* notations of the user, or NULL: see
										 * convert_options.h */
};

extern void lh_converter_init(LhConverter *converter, Form_pg_attribute attribute,
							  MemoryContext context);

/*
 * A NULL of the column's type.  A domain may have something against it, and
 * raises then.
 */
extern void lh_convert_null(LhConverter *converter, Datum *value, bool *isnull);

/*
 * As lh_convert, but what the type's input function raises comes softly too: at
 * the cost of a subtransaction where may_raise is set.
 */
extern bool lh_convert_guarded(LhConverter *converter, const char *data, int length,
							   Datum *value, LhError *error);

/* is an error one of the value, and not of the server or of somebody's wish? */
extern bool lh_convert_is_data_error(int sqlstate);

static inline bool
lh_convert(LhConverter *converter, const char *data, int length,
		   Datum *value, LhError *error)
{
	return converter->convert(converter, data, length, value, error);
}

#endif							/* LH_CONVERT_H */
