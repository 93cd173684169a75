/*
 * inflate_gzip.c
 *	  gzip; the only file that includes zlib.
 */
#include "postgres.h"

#include <stdlib.h>
#include <zlib.h>

#include "source/inflate_format.h"

typedef struct GzipState
{
	z_stream	stream;
	bool		started;
} GzipState;

static bool
gzip_matches(const unsigned char *magic, int length)
{
	return length >= 3 && magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == 8;
}

static void *
gzip_open(void)
{
	return calloc(1, sizeof(GzipState));
}

static bool
gzip_begin(void *state)
{
	GzipState  *gzip = state;

	if (gzip->started)
		return inflateReset(&gzip->stream) == Z_OK;

	/* 16: gzip's header and trailer, whose checksum and length are checked */
	gzip->started = inflateInit2(&gzip->stream, 16 + MAX_WBITS) == Z_OK;
	return gzip->started;
}

static LhInflateResult
gzip_step(void *state, LhInflateBuffers *buffers)
{
	z_stream   *stream = &((GzipState *) state)->stream;
	int			result;

	stream->next_in = (Bytef *) unconstify(char *, buffers->in);
	stream->avail_in = buffers->in_left;
	stream->next_out = (Bytef *) buffers->out;
	stream->avail_out = buffers->out_left;
	result = inflate(stream, Z_NO_FLUSH);
	buffers->in = (const char *) stream->next_in;
	buffers->in_left = stream->avail_in;
	buffers->out = (char *) stream->next_out;
	buffers->out_left = stream->avail_out;
	switch (result)
	{
		case Z_OK:
		case Z_BUF_ERROR:
			return LH_INFLATE_MORE;
		case Z_STREAM_END:
			return LH_INFLATE_END;
		case Z_MEM_ERROR:
			return LH_INFLATE_NO_MEMORY;
		default:
			buffers->message = stream->msg != NULL ? stream->msg : "data error";
			return LH_INFLATE_BROKEN;
	}
}

static void
gzip_close(void *state)
{
	GzipState  *gzip = state;

	if (gzip->started)
		(void) inflateEnd(&gzip->stream);
	free(gzip);
}

const LhInflateFormat lh_inflate_gzip = {
	.name = "gzip",
	.matches = gzip_matches,
	.open = gzip_open,
	.begin = gzip_begin,
	.step = gzip_step,
	.close = gzip_close
};
