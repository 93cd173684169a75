/*
 * inflate_bzip2.c
 *	  bzip2; the only file that includes libbz2.
 */
#include "postgres.h"

#include <bzlib.h>
#include <stdlib.h>

#include "source/inflate_format.h"

typedef struct Bzip2State
{
	bz_stream	stream;
	bool		started;
} Bzip2State;

/*
 * "BZh9" alone could begin a text: what follows is the number pi, or that of the
 * end if nothing was compressed.
 */
static bool
bzip2_matches(const unsigned char *magic, int length)
{
	return length >= 10 && memcmp(magic, "BZh", 3) == 0 && magic[3] >= '1' && magic[3] <= '9' &&
		(memcmp(magic + 4, "\x31\x41\x59\x26\x53\x59", 6) == 0 ||
		 memcmp(magic + 4, "\x17\x72\x45\x38\x50\x90", 6) == 0);
}

static void *
bzip2_open(void)
{
	return calloc(1, sizeof(Bzip2State));
}

static bool
bzip2_begin(void *state)
{
	Bzip2State *bzip2 = state;

	if (bzip2->started)
		(void) BZ2_bzDecompressEnd(&bzip2->stream);
	memset(&bzip2->stream, 0, sizeof(bzip2->stream));
	bzip2->started = BZ2_bzDecompressInit(&bzip2->stream, 0, 0) == BZ_OK;
	return bzip2->started;
}

static LhInflateResult
bzip2_step(void *state, LhInflateBuffers *buffers)
{
	bz_stream  *stream = &((Bzip2State *) state)->stream;
	int			result;

	stream->next_in = unconstify(char *, buffers->in);
	stream->avail_in = buffers->in_left;
	stream->next_out = buffers->out;
	stream->avail_out = buffers->out_left;
	result = BZ2_bzDecompress(stream);
	buffers->in = stream->next_in;
	buffers->in_left = stream->avail_in;
	buffers->out = stream->next_out;
	buffers->out_left = stream->avail_out;
	switch (result)
	{
		case BZ_OK:
			return LH_INFLATE_MORE;
		case BZ_STREAM_END:
			return LH_INFLATE_END;
		case BZ_MEM_ERROR:
			return LH_INFLATE_NO_MEMORY;
		case BZ_DATA_ERROR_MAGIC:
			buffers->message = "incorrect header";
			return LH_INFLATE_BROKEN;
		default:
			buffers->message = "data error";
			return LH_INFLATE_BROKEN;
	}
}

static void
bzip2_close(void *state)
{
	Bzip2State *bzip2 = state;

	if (bzip2->started)
		(void) BZ2_bzDecompressEnd(&bzip2->stream);
	free(bzip2);
}

const LhInflateFormat lh_inflate_bzip2 = {
	.name = "bzip2",
	.matches = bzip2_matches,
	.open = bzip2_open,
	.begin = bzip2_begin,
	.step = bzip2_step,
	.close = bzip2_close
};
