/*
 * inflate.h
 *	  A compressed file as a stream of the bytes that it stands for.
 */
#ifndef LH_INFLATE_H
#define LH_INFLATE_H

#include "utils/jsonb.h"

typedef struct LhInflate LhInflate;

/* What the source's options allow. */
typedef struct LhInflateOptions
{
	bool		enabled;		/* false: files are taken as they are */
	int64		max_size;		/* bytes that a file may stand for */
} LhInflateOptions;

/* names of the options, for those who pass the others on; ends with NULL */
extern const char *const lh_inflate_option_names[];

/* reads the options "compression" and "max_decompressed_size"; raises 22023 */
extern void lh_inflate_options_parse(Jsonb *options, LhInflateOptions *result);

/*
 * lh_inflate_open looks at the first bytes of a file of "size" bytes: NULL if it
 * is not compressed.  Raises 0A000 for a compression that cannot be read.  The
 * result goes with the current memory context.
 */
extern LhInflate *lh_inflate_open(int fd, const char *name, int64 size,
								  const LhInflateOptions *options);

/*
 * lh_inflate_read gives up to "length" bytes from "position" of the stream on; 0
 * at its end.  Going back far means beginning anew.  Raises 22P04 for a file
 * that is broken, cut off or followed by something else, and 54000 for one that
 * stands for more than it may.
 */
extern uint32 lh_inflate_read(LhInflate *inflate, int64 position, char *buffer, uint32 length);

/* bytes of the compressed file that were read so far */
extern int64 lh_inflate_consumed(const LhInflate *inflate);

extern void lh_inflate_close(LhInflate *inflate);

#endif							/* LH_INFLATE_H */
