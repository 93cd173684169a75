/*
 * input.c
 *	  A window of a file's bytes in memory.
 *
 * Files are read with pread and never mapped: a file that its writer truncates
 * would otherwise kill the server.  Such a file is an error here.
 *
 * Invariant: data[0 .. length) are the file's bytes from offset on, and are
 * followed by LH_INPUT_PADDING blanks.
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "source/input.h"
#include "utils/memutils.h"

/* a window that the processor's cache can hold is read fastest */
#define WINDOW_SIZE (256 * 1024)

void
lh_input_open(LhInput *input, int fd, const char *name, int64 size, int64 position, uint32 limit)
{
	memset(input, 0, sizeof(*input));
	input->fd = fd;
	input->name = pstrdup(name);
	input->size = size;
	input->offset = position;
	input->limit = Max(limit, WINDOW_SIZE);
	input->capacity = (uint32) Min(WINDOW_SIZE, Max(size - position, 0) + 1);
	input->data = palloc(input->capacity + LH_INPUT_PADDING);
	memset(input->data, ' ', LH_INPUT_PADDING);
}

void
lh_input_inflate(LhInput *input, LhInflate *inflate)
{
	if (inflate == NULL)
		return;
	input->inflate = inflate;
	input->size = PG_INT64_MAX;
	input->capacity = WINDOW_SIZE;
	input->data = repalloc(input->data, input->capacity + LH_INPUT_PADDING);
}

/*
 * Reads bytes of the stream; whoever finds its end knows its size.
 */
static uint32
peek_stream(LhInput *input, int64 position, char *buffer, uint32 length)
{
	uint32		count = lh_inflate_read(input->inflate, position, buffer, length);

	if (count == 0 && length > 0)
		input->size = position;
	return count;
}

/*
 * lh_input_peek reads bytes of the file, up to the end of the input.
 */
uint32
lh_input_peek(LhInput *input, int64 position, char *buffer, uint32 length)
{
	int64		left = input->size - position;
	ssize_t		count;

	length = (uint32) Min((int64) length, Max(left, 0));
	if (length == 0)
		return 0;
	if (input->inflate != NULL)
		return peek_stream(input, position, buffer, length);
	do
	{
		CHECK_FOR_INTERRUPTS();
		count = pread(input->fd, buffer, length, position);
	} while (count < 0 && errno == EINTR);

	if (count < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", input->name)));
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("file \"%s\" became shorter while it was read", input->name),
				 errdetail("The file had " INT64_FORMAT " bytes when it was opened and ends at byte " INT64_FORMAT " now.",
						   input->size, position),
				 errhint("Write files under another name and rename them when they are complete.")));
	return (uint32) count;
}

bool
lh_input_advance(LhInput *input, uint32 from)
{
	uint32		kept = input->length - from;

	if (from > 0)
	{
		if (input->tap != NULL)
			input->tap->take(input->tap, input->offset, input->data, from);
		memmove(input->data, input->data + from, kept);
		input->offset += from;
		input->length = kept;
	}
	if (input->length == input->capacity && input->offset + input->length < input->size)
	{
		if (input->capacity >= input->limit)
			return false;
		input->capacity = (uint32) Min((uint64) input->capacity * 2, (uint64) input->limit);
		input->data = repalloc_huge(input->data, (Size) input->capacity + LH_INPUT_PADDING);
	}
	input->length += lh_input_peek(input, input->offset + input->length,
								   input->data + input->length,
								   input->capacity - input->length);
	memset(input->data + input->length, ' ', LH_INPUT_PADDING);
	input->last = input->offset + input->length >= input->size;
	return true;
}

void
lh_input_seek(LhInput *input, int64 position)
{
	input->offset = position;
	input->length = 0;
	input->last = false;
}

void
lh_input_close(LhInput *input)
{
	if (input->data != NULL)
		pfree(input->data);
	input->data = NULL;
}
