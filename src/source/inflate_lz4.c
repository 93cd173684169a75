/*
 * inflate_lz4.c
 *	  LZ4 frames; the only file that includes liblz4.
 */
#include "postgres.h"

#include <lz4frame.h>

#include "source/inflate_format.h"

static bool
lz4_matches(const unsigned char *magic, int length)
{
	return length >= 4 && memcmp(magic, "\x04\x22\x4d\x18", 4) == 0;
}

static void *
lz4_open(void)
{
	LZ4F_dctx  *context = NULL;

	return LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)) ? NULL : context;
}

static bool
lz4_begin(void *state)
{
	LZ4F_resetDecompressionContext(state);
	return true;
}

static LhInflateResult
lz4_step(void *state, LhInflateBuffers *buffers)
{
	size_t		in = buffers->in_left;
	size_t		out = buffers->out_left;
	size_t		result = LZ4F_decompress(state, buffers->out, &out, buffers->in, &in, NULL);

	buffers->in += in;
	buffers->in_left -= in;
	buffers->out += out;
	buffers->out_left -= out;
	if (!LZ4F_isError(result))
		return result == 0 ? LH_INFLATE_END : LH_INFLATE_MORE;
	buffers->message = LZ4F_getErrorName(result);
	return LH_INFLATE_BROKEN;
}

static void
lz4_close(void *state)
{
	(void) LZ4F_freeDecompressionContext(state);
}

const LhInflateFormat lh_inflate_lz4 = {
	.name = "lz4",
	.matches = lz4_matches,
	.open = lz4_open,
	.begin = lz4_begin,
	.step = lz4_step,
	.close = lz4_close
};
