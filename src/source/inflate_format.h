/*
 * inflate_format.h
 *	  One compression: what inflate.c asks of a library.
 *
 * Each library is used by one file, inflate_NAME.c, and holds its memory outside
 * of PostgreSQL's: inflate.c calls "close" when the memory context goes.
 */
#ifndef LH_INFLATE_FORMAT_H
#define LH_INFLATE_FORMAT_H

/* bytes at the start of a file by which compressions are known */
#define LH_INFLATE_MAGIC 10

typedef struct LhInflateBuffers
{
	const char *in;				/* moved behind what was taken */
	uint32		in_left;
	char	   *out;			/* moved behind what was written */
	uint32		out_left;
	const char *message;		/* with LH_INFLATE_BROKEN: what is wrong */
} LhInflateBuffers;

typedef enum LhInflateResult
{
	LH_INFLATE_MORE,			/* call again, with more input or room */
	LH_INFLATE_END,				/* a member has ended; another may follow */
	LH_INFLATE_BROKEN,
	LH_INFLATE_TOO_LARGE,		/* needs more memory than we give it */
	LH_INFLATE_NO_MEMORY
} LhInflateResult;

typedef struct LhInflateFormat
{
	const char *name;

	/* does a file with these first bytes have this format? */
	bool		(*matches) (const unsigned char *magic, int length);

	/* NULL if there is no memory */
	void	   *(*open) (void);

	/* makes ready for the start of a member */
	bool		(*begin) (void *state);
	LhInflateResult (*step) (void *state, LhInflateBuffers *buffers);
	void		(*close) (void *state);
} LhInflateFormat;

extern const LhInflateFormat lh_inflate_bzip2;
extern const LhInflateFormat lh_inflate_gzip;
extern const LhInflateFormat lh_inflate_lz4;
extern const LhInflateFormat lh_inflate_zstd;

#endif							/* LH_INFLATE_FORMAT_H */
