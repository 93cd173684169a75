/*
 * input.h
 *	  A window of a file's bytes in memory, moved forward by a reader.
 *
 * Of a compressed file the window shows what it stands for: offsets and sizes are
 * those of the stream, and the reader need not know.
 */
#ifndef LH_INPUT_H
#define LH_INPUT_H

#include "source/inflate.h"

/* bytes behind the window that a scanner may read */
#define LH_INPUT_PADDING 64

/*
 * Takes the bytes of a window when they are dropped from it: those that a reader
 * has passed, in order, but for what it leaves out by going elsewhere.
 */
typedef struct LhInputTap LhInputTap;

struct LhInputTap
{
	void		(*take) (LhInputTap *tap, int64 position, const char *data, uint32 length);
};

typedef struct LhInput
{
	int			fd;
	const char *name;
	LhInflate  *inflate;		/* the file is compressed; or NULL */
	int64		size;			/* where the input ends; PG_INT64_MAX = not
								 * known yet */
	int64		offset;			/* byte of the file at data[0] */
	char	   *data;
	uint32		length;			/* bytes in the window */
	uint32		capacity;
	uint32		limit;			/* bytes the window may grow to */
	bool		last;			/* the window reaches to the end of the input */
	LhInputTap *tap;			/* or NULL */
} LhInput;

/* allocates the window in the current context; nothing is read yet */
extern void lh_input_open(LhInput *input, int fd, const char *name, int64 size,
						  int64 position, uint32 limit);

/* takes the bytes from a stream; called right behind lh_input_open, or with NULL */
extern void lh_input_inflate(LhInput *input, LhInflate *inflate);

/* drops the first "from" bytes and reads on; false if the window is full */
extern bool lh_input_advance(LhInput *input, uint32 from);

/* empties the window and goes to another place of the file */
extern void lh_input_seek(LhInput *input, int64 position);

/* reads up to "length" bytes from elsewhere; 0 at the end of the input */
extern uint32 lh_input_peek(LhInput *input, int64 position, char *buffer, uint32 length);

extern void lh_input_close(LhInput *input);

#endif							/* LH_INPUT_H */
