/*
 * inflate_zstd.c
 *	  Zstandard; the only file that includes libzstd.
 */
#include "postgres.h"

#include <zstd.h>
#include <zstd_errors.h>

#include "source/inflate_format.h"

/* memory for the window, as a power of two: what "zstd -19" needs and four times
 * more; --ultra and --long can ask for as much as a server has */
#define MAX_WINDOW_LOG 25

static bool
zstd_matches(const unsigned char *magic, int length)
{
	return length >= 4 && memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0;
}

static void *
zstd_open(void)
{
	return ZSTD_createDCtx();
}

static bool
zstd_begin(void *state)
{
	return !ZSTD_isError(ZSTD_DCtx_reset(state, ZSTD_reset_session_only)) &&
		!ZSTD_isError(ZSTD_DCtx_setParameter(state, ZSTD_d_windowLogMax, MAX_WINDOW_LOG));
}

static LhInflateResult
zstd_step(void *state, LhInflateBuffers *buffers)
{
	ZSTD_inBuffer in = {buffers->in, buffers->in_left, 0};
	ZSTD_outBuffer out = {buffers->out, buffers->out_left, 0};
	size_t		result = ZSTD_decompressStream(state, &out, &in);

	buffers->in += in.pos;
	buffers->in_left -= in.pos;
	buffers->out += out.pos;
	buffers->out_left -= out.pos;
	if (!ZSTD_isError(result))
		return result == 0 ? LH_INFLATE_END : LH_INFLATE_MORE;
	switch (ZSTD_getErrorCode(result))
	{
		case ZSTD_error_frameParameter_windowTooLarge:
			return LH_INFLATE_TOO_LARGE;
		case ZSTD_error_memory_allocation:
			return LH_INFLATE_NO_MEMORY;
		default:
			buffers->message = ZSTD_getErrorName(result);
			return LH_INFLATE_BROKEN;
	}
}

static void
zstd_close(void *state)
{
	(void) ZSTD_freeDCtx(state);
}

const LhInflateFormat lh_inflate_zstd = {
	.name = "zstd",
	.matches = zstd_matches,
	.open = zstd_open,
	.begin = zstd_begin,
	.step = zstd_step,
	.close = zstd_close
};
