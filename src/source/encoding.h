/*
 * encoding.h
 *	  Bytes of a file in its encoding to text in the server's.
 */
#ifndef LH_ENCODING_H
#define LH_ENCODING_H

#include "error.h"
#include "utils/jsonb.h"

typedef struct LhEncoding
{
	int			encoding;		/* what the bytes must be valid in */
	Oid			conversion;		/* function that converts them, or InvalidOid */
	bool		replace;		/* what is no character becomes U+FFFD, or a question
								 * mark where the server's encoding lacks that */
} LhEncoding;

/* reads the option "encoding", UTF-8 if it is missing; raises 22023 */
extern int	lh_encoding_option(Jsonb *options);

/* reads the option "encoding_errors": are wrong bytes replaced, not refused? raises 22023 */
extern bool lh_encoding_replace_option(Jsonb *options);

/* raises 0A000 if there is no conversion to the server's encoding */
extern void lh_encoding_init(LhEncoding *encoding, int file_encoding);

/* raises 22021 for a file whose first bytes show that it is UTF-16 or UTF-32 */
extern void lh_encoding_refuse_wide(const LhEncoding *encoding, const char *name,
									const char *data, uint32 length);

/* soft: are the bytes valid, and none of them NUL? */
extern bool lh_encoding_check(const LhEncoding *encoding, const char *data, int length,
							  LhError *error);

/* soft: checks and converts, or with "replace" takes anything; the result is "data" itself or in the current context */
extern bool lh_encoding_convert(const LhEncoding *encoding, const char *data, int length,
								const char **result, int *result_length, LhError *error);

#endif							/* LH_ENCODING_H */
