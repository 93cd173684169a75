/*
 * json_scan.h
 *	  A strict RFC 8259 pull tokenizer over bytes in memory; knows nothing of
 *	  PostgreSQL's state and allocates nothing.
 */
#ifndef LH_JSON_SCAN_H
#define LH_JSON_SCAN_H

/* deeper nesting is refused: consumers may recurse once for each level */
#define LH_JSON_MAX_DEPTH 1000

typedef enum LhJsonToken
{
	LH_JSON_FAULT,				/* not JSON: fault and message tell why */
	LH_JSON_END,				/* nothing but blanks follow the value */
	LH_JSON_OBJECT,				/* { */
	LH_JSON_OBJECT_END,
	LH_JSON_ARRAY,				/* [ */
	LH_JSON_ARRAY_END,
	LH_JSON_KEY,				/* of a member; the colon is passed too */
	LH_JSON_STRING,
	LH_JSON_NUMBER,
	LH_JSON_TRUE,
	LH_JSON_FALSE,
	LH_JSON_NULL
} LhJsonToken;

typedef enum LhJsonFaultKind
{
	LH_JSON_FINE,
	LH_JSON_BAD_SYNTAX,
	LH_JSON_TOO_DEEP,
	LH_JSON_NUL_ESCAPE,			/* \u0000, which no text can hold */
	LH_JSON_LONE_SURROGATE,		/* half of a surrogate pair */
	LH_JSON_UNTRANSLATABLE		/* escape of a character that the encoding lacks */
} LhJsonFaultKind;

typedef struct LhJsonScan
{
	const char *start;
	const char *p;				/* next byte */
	const char *end;

	/* the token: its first byte, and its text (of strings and keys: what stands
	 * between the quotes, as written) */
	const char *token;
	const char *text;
	int			length;
	bool		escaped;		/* text holds escapes */

	int			depth;			/* objects and arrays that are open */
	int			state;

	LhJsonFaultKind fault;
	const char *message;		/* what was expected */
	uint8		in_object[LH_JSON_MAX_DEPTH / 8 + 1];	/* bit for each level */
} LhJsonScan;

extern void lh_json_begin(LhJsonScan *scan, const char *data, int length);
extern LhJsonToken lh_json_next(LhJsonScan *scan);

/* What lh_json_follow found. */
typedef enum LhJsonFollowed
{
	LH_JSON_ELSEWHERE,			/* other bytes: nothing was passed */
	LH_JSON_AT_VALUE,			/* a value, which lh_json_next gives */
	LH_JSON_PLAIN				/* a number, or a string without escapes, which was
								 * passed: text and length tell it */
} LhJsonFollowed;

/*
 * lh_json_follow passes over "lead", which was scanned before: all that stood from
 * the place where a member was to come to the first byte of its value.  It may be
 * called at such a place only.
 */
extern LhJsonFollowed lh_json_follow(LhJsonScan *scan, const char *lead, int length);

/*
 * lh_json_pass goes to the end of the value whose first token was given last;
 * false if it is faulty.  The value's text is then [token's first byte, p).
 */
extern bool lh_json_pass(LhJsonScan *scan, LhJsonToken first);

/* goes on until only "depth" objects and arrays are open */
extern bool lh_json_leave(LhJsonScan *scan, int depth);

/* writes a character in another encoding than UTF-8; 0 = it has no such character */
typedef int (*LhJsonEncode) (uint32 character, char *to);

/*
 * lh_json_unescape writes the text that a string or key stands for, which is
 * never longer than it was, to "to".  "encode" is NULL for UTF-8.
 */
extern LhJsonFaultKind lh_json_unescape(const char *text, int length, LhJsonEncode encode,
										char *to, int *written);

#endif							/* LH_JSON_SCAN_H */
