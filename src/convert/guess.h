/*
 * guess.h
 *	  Which type all values seen of a field would fit, and the evidence.
 */
#ifndef LH_GUESS_H
#define LH_GUESS_H

#include "convert/convert_options.h"

/* What a value is given as. */
typedef enum LhFieldKind
{
	LH_FIELD_TEXT,				/* text of a CSV field or a folder's name */
	LH_FIELD_JSON,				/* JSON as written, not null */
	LH_FIELD_NULL
} LhFieldKind;

/* What one value looks like, and the types that come of it. */
typedef enum LhGuessClass
{
	LH_GUESS_BOOLEAN,
	LH_GUESS_BIGINT,
	LH_GUESS_DOUBLE,
	LH_GUESS_NUMERIC,
	LH_GUESS_DATE,
	LH_GUESS_TIMESTAMPTZ,
	LH_GUESS_TEXT,
	LH_GUESS_JSONB,
	LH_GUESS_CLASSES
} LhGuessClass;

/* How values are looked at. */
typedef struct LhGuessOptions
{
	LhConvertOptions convert;	/* notations of times and numbers */
	bool		primitives_as_string;	/* JSON: what is no object or array is text */
	bool		prefers_decimal;	/* fractions are numeric */
	bool		infer_timestamp;	/* JSON: strings may be times */
	bool		prefer_date;	/* CSV: days are dates, and no times */
	bool		drop_all_null;	/* JSON: fields without any value are none */
} LhGuessOptions;

/* raises 22023; names may be spelled as elsewhere */
extern void lh_guess_options_parse(Jsonb *json, LhGuessOptions *options);
extern void lh_guess_options_check(Jsonb *json);

/* bytes of a value that are kept as an example */
#define LH_GUESS_EXAMPLE 100

typedef struct LhGuess
{
	char	   *name;			/* as it was spelled first */
	int			name_length;
	int64		seen;			/* records that had the field */
	int64		values;			/* of those, not null */
	int64		empty;			/* of those, JSON objects and arrays with nothing in them */
	int64		counts[LH_GUESS_CLASSES];
	char	   *examples[LH_GUESS_CLASSES]; /* the first of each, or NULL */
	char	   *example;		/* the first of all, or NULL */
	bool		wide;			/* an integer that a float would not hold */
} LhGuess;

/* Guesses of the fields of a source, in the order in which they appeared. */
typedef struct LhGuesses
{
	MemoryContext context;
	int			count;
	int			allocated;
	LhGuess    *items;
	uint32		mask;			/* size of the hash table - 1 */
	int		   *table;			/* item + 1; 0 = empty */
	const LhGuessOptions *options;
	LhConverter date;
	LhConverter timestamptz;
} LhGuesses;

/* in the current context; "options" must live as long */
extern LhGuesses *lh_guesses_create(const LhGuessOptions *options);

/* was there any value, as the option drop_field_if_all_null wants it? */
extern bool lh_guess_has_value(const LhGuess *guess);

/* finds a field by its name without regard to the case of ASCII letters; NULL
 * if it is not there and not to be added.  Valid until the next one is added. */
extern LhGuess *lh_guesses_find(LhGuesses *guesses, const char *name, int length, bool add);

/* counts a value "weight" times */
extern void lh_guess_add(LhGuesses *guesses, LhGuess *guess, LhFieldKind kind,
						 const char *text, int length, int64 weight);

/* the type for all values: text if there was none */
extern LhGuessClass lh_guess_class(const LhGuess *guess);
extern const char *lh_guess_class_name(LhGuessClass class);

#endif							/* LH_GUESS_H */
