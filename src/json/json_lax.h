/*
 * json_lax.h
 *	  Notations beyond JSON that a user may allow; knows nothing of PostgreSQL's
 *	  state and allocates nothing.
 */
#ifndef LH_JSON_LAX_H
#define LH_JSON_LAX_H

/* what is allowed: bits */
#define LH_JSON_COMMENTS		0x01	/* slash-star ... star-slash, and // up to the line's end */
#define LH_JSON_SINGLE_QUOTES	0x02	/* strings and keys in single quotes */
#define LH_JSON_BARE_KEYS		0x04	/* keys without quotes */
#define LH_JSON_LEADING_ZEROS	0x08	/* 007 */
#define LH_JSON_ANY_ESCAPE		0x10	/* a backslash before any character */
#define LH_JSON_CONTROLS		0x20	/* control characters in strings */
#define LH_JSON_NON_NUMBERS		0x40	/* NaN, Infinity, INF */

/*
 * lh_json_lax_rewrite writes the same in JSON, and returns its length; with "to"
 * NULL it only measures.  Numbers that are none become strings.  What is not
 * allowed, or makes no sense, stays as it is.
 */
extern int	lh_json_lax_rewrite(uint32 allowed, const char *data, int length, char *to);

/*
 * lh_json_lax_end gives the length of the object or array at the beginning, found
 * by its brackets; 0 = the bytes end within it, -1 = a string in it is broken.
 */
extern int64 lh_json_lax_end(uint32 allowed, const char *data, uint32 length);

/* length of the comment at the beginning; 0 = there is none, -1 = it is not whole */
extern int64 lh_json_lax_comment(uint32 allowed, const char *data, uint32 length);

#endif							/* LH_JSON_LAX_H */
