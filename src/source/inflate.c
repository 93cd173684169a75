/*
 * inflate.c
 *	  A compressed file as a stream of the bytes that it stands for.
 *
 * What a file is, its first bytes tell and not its name.  Memory is flat: a part
 * of the file, a part of the stream, and what the library keeps.
 *
 * Invariant: kept[0 .. kept_length) are the bytes of the stream from kept_start
 * on, and the library has given exactly those before them as well.  A stream is
 * at its end only if a member was complete, with its checksum, and nothing else
 * follows it.
 */
#include "postgres.h"

#include <limits.h>
#include <unistd.h>

#include "catalog/options.h"
#include "guc.h"
#include "miscadmin.h"
#include "source/inflate.h"
#include "source/inflate_format.h"
#include "utils/builtins.h"

#define IN_SIZE (64 * 1024)
#define KEPT_SIZE (256 * 1024)

/* readers go back by a chunk when they look for the end of a long record */
#define LOOK_BACK (KEPT_SIZE / 2)

/* a stream of up to so many bytes is no bomb, whatever its ratio */
#define HARMLESS_SIZE (16 * 1024 * 1024)

#define DEFAULT_MAX_SIZE (INT64CONST(100) * 1024 * 1024 * 1024)

struct LhInflate
{
	int			fd;
	const char *name;
	int64		size;			/* of the file */
	int64		max_size;		/* of the stream */
	const LhInflateFormat *format;
	void	   *state;			/* the library's; NULL = closed */
	bool		in_member;		/* between the start and the end of one */
	bool		ended;

	char	   *in;				/* bytes of the file, and what is not used yet */
	int64		in_position;	/* in the file, behind the buffer */
	const char *in_next;
	uint32		in_left;

	char	   *kept;
	int64		kept_start;
	uint32		kept_length;
	MemoryContextCallback release;
};

const char *const lh_inflate_option_names[] = {"compression", "max_decompressed_size", NULL};

static const LhInflateFormat *const formats[] = {
	&lh_inflate_gzip,
	&lh_inflate_zstd,
	&lh_inflate_lz4,
	&lh_inflate_bzip2
};

/* What cannot be read: better said than loaded as garbage. */
static const struct
{
	const char *name;
	const char *magic;
	int			length;
}			refused[] = {
	{"xz", "\xfd" "7zXZ\0", 6},
	{"zip", "PK\003\004", 4},
	{"compress", "\x1f\x9d", 2},
	{"old lz4", "\x02\x21\x4c\x18", 4},
	{"framed snappy", "\xff\x06\0\0sNaPpY", 10}
};

void
lh_inflate_options_parse(Jsonb *options, LhInflateOptions *result)
{
	char	   *compression = lh_options_text(options, "compression", "auto");

	result->enabled = strcmp(compression, "auto") == 0;
	if (!result->enabled && strcmp(compression, "none") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"compression\""),
				 errdetail("The first bytes of a file tell how it is compressed."),
				 errhint("Values are \"auto\" and \"none\", which takes files as they are.")));
	result->max_size = lh_options_int(options, "max_decompressed_size", DEFAULT_MAX_SIZE, 1, PG_INT64_MAX / 2);
}

/* ------------------------------------------------------------- opening */

/*
 * Reads from the file, as much as there is up to "length".
 */
static int
read_file(int fd, const char *name, int64 size, int64 position, char *buffer, int length)
{
	ssize_t		count;

	length = (int) Min((int64) length, size - position);
	if (length <= 0)
		return 0;
	do
	{
		CHECK_FOR_INTERRUPTS();
		count = pread(fd, buffer, length, position);
	} while (count < 0 && errno == EINTR);
	if (count < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", name)));
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("file \"%s\" became shorter while it was read", name),
				 errhint("Write files under another name and rename them when they are complete.")));
	return (int) count;
}

/*
 * Passes over frames that zstd and lz4 let anybody put before their own, and
 * reads the first bytes behind them.
 */
static int
read_magic(int fd, const char *name, int64 size, unsigned char *magic)
{
	int64		position = 0;
	int			length;
	int			frames = 0;

	for (;;)
	{
		length = read_file(fd, name, size, position, (char *) magic, LH_INFLATE_MAGIC);
		if (length < 8 || (magic[0] & 0xf0) != 0x50 || memcmp(magic + 1, "\x2a\x4d\x18", 3) != 0 ||
			++frames > 100)
			return length;
		position += 8 + (magic[4] | magic[5] << 8 | magic[6] << 16 | (int64) magic[7] << 24);
	}
}

static void
release(void *arg)
{
	LhInflate  *inflate = arg;

	if (inflate->state != NULL)
		inflate->format->close(inflate->state);
	inflate->state = NULL;
}

static void
refuse_memory(LhInflate *inflate)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("File \"%s\" could not be decompressed.", inflate->name)));
}

/*
 * Goes to the start of the stream.
 */
static void
rewind_stream(LhInflate *inflate)
{
	inflate->in_position = 0;
	inflate->in_left = 0;
	inflate->kept_start = 0;
	inflate->kept_length = 0;
	inflate->in_member = false;
	inflate->ended = false;
}

static LhInflate *
create(int fd, const char *name, int64 size, int64 max_size, const LhInflateFormat *format)
{
	LhInflate  *inflate = palloc0(sizeof(LhInflate));

	inflate->fd = fd;
	inflate->name = pstrdup(name);
	inflate->size = size;
	inflate->max_size = max_size;
	inflate->format = format;
	inflate->in = palloc(IN_SIZE);
	inflate->kept = palloc(KEPT_SIZE);
	inflate->release.func = release;
	inflate->release.arg = inflate;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &inflate->release);
	inflate->state = format->open();
	if (inflate->state == NULL)
		refuse_memory(inflate);
	rewind_stream(inflate);
	return inflate;
}

LhInflate *
lh_inflate_open(int fd, const char *name, int64 size, const LhInflateOptions *options)
{
	unsigned char magic[LH_INFLATE_MAGIC];
	int			length;
	int			i;

	if (!options->enabled)
		return NULL;
	length = read_magic(fd, name, size, magic);
	for (i = 0; i < lengthof(formats); i++)
		if (formats[i]->matches(magic, length))
			return create(fd, name, size, options->max_size, formats[i]);
	for (i = 0; i < lengthof(refused); i++)
		if (length >= refused[i].length && memcmp(magic, refused[i].magic, refused[i].length) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("file \"%s\" is compressed with %s, which cannot be read", name, refused[i].name),
					 errhint("Compress it with gzip, zstd, lz4 or bzip2. If it is no compressed file, set the option \"compression\" to \"none\".")));
	return NULL;
}

/* ------------------------------------------------------------- reading */

static void
refuse_content(LhInflate *inflate, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
			 errmsg("%s data of file \"%s\" cannot be decompressed: %s",
					inflate->format->name, inflate->name, what),
			 errdetail("The fault lies before byte " INT64_FORMAT " of the file; " INT64_FORMAT " bytes were decompressed before it.",
					   inflate->in_position - inflate->in_left,
					   inflate->kept_start + inflate->kept_length),
			 errhint("Nothing of the file is loaded. Write it again.")));
}

/*
 * Raises if the stream has become longer than it may be.
 */
static void
check_limits(LhInflate *inflate)
{
	int64		given = inflate->kept_start + inflate->kept_length;
	int64		taken = Max(inflate->in_position - inflate->in_left, 1);

	if (given > inflate->max_size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" decompresses to more than " INT64_FORMAT " bytes",
						inflate->name, inflate->max_size),
				 errhint("Nothing of the file is loaded. If it may be so large, raise the option \"max_decompressed_size\".")));
	if (lh_max_decompression_ratio > 0 && given > HARMLESS_SIZE &&
		given / lh_max_decompression_ratio > taken)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" decompresses to more than %d times its size",
						inflate->name, lh_max_decompression_ratio),
				 errdetail("The first " INT64_FORMAT " bytes of the file gave " INT64_FORMAT " bytes.", taken, given),
				 errhint("Nothing of the file is loaded. If it is no decompression bomb, raise \"lakehouse.max_decompression_ratio\".")));
}

/*
 * Is there another member behind one that ended?  Reads on in the file.
 */
static bool
has_input(LhInflate *inflate)
{
	if (inflate->in_left == 0)
	{
		inflate->in_left = read_file(inflate->fd, inflate->name, inflate->size,
									 inflate->in_position, inflate->in, IN_SIZE);
		inflate->in_position += inflate->in_left;
		inflate->in_next = inflate->in;
	}
	return inflate->in_left > 0;
}

/*
 * Lets the library take a step.
 */
static void
step(LhInflate *inflate)
{
	LhInflateBuffers buffers = {
		.in = inflate->in_next, .in_left = inflate->in_left,
		.out = inflate->kept + inflate->kept_length, .out_left = KEPT_SIZE - inflate->kept_length
	};
	uint32		in_left = inflate->in_left;
	uint32		room = buffers.out_left;
	LhInflateResult result = inflate->format->step(inflate->state, &buffers);

	inflate->in_next = buffers.in;
	inflate->in_left = buffers.in_left;
	inflate->kept_length += room - buffers.out_left;
	switch (result)
	{
		case LH_INFLATE_END:
			inflate->in_member = false;
			break;
		case LH_INFLATE_MORE:
			/* with room for what comes, a library that stands still lacks input */
			if (buffers.in_left == in_left && buffers.out_left == room &&
				inflate->in_position >= inflate->size)
				refuse_content(inflate, "the file is cut off");
			break;
		case LH_INFLATE_BROKEN:
			refuse_content(inflate, buffers.message);
			break;
		case LH_INFLATE_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("file \"%s\" needs too much memory to be decompressed", inflate->name),
					 errhint("Compress it without --ultra and --long.")));
			break;
		case LH_INFLATE_NO_MEMORY:
			refuse_memory(inflate);
			break;
	}
	check_limits(inflate);
}

/*
 * Decompresses some more bytes; false at the end of the stream.
 */
static bool
produce(LhInflate *inflate)
{
	uint32		before;

	if (inflate->kept_length == KEPT_SIZE)
	{
		memmove(inflate->kept, inflate->kept + KEPT_SIZE - LOOK_BACK, LOOK_BACK);
		inflate->kept_start += KEPT_SIZE - LOOK_BACK;
		inflate->kept_length = LOOK_BACK;
	}
	before = inflate->kept_length;
	while (!inflate->ended && inflate->kept_length == before)
	{
		CHECK_FOR_INTERRUPTS();
		if (!has_input(inflate) && !inflate->in_member)
		{
			inflate->ended = true;
			break;
		}
		if (!inflate->in_member && !inflate->format->begin(inflate->state))
			refuse_memory(inflate);
		inflate->in_member = true;
		step(inflate);
	}
	return inflate->kept_length > before;
}

uint32
lh_inflate_read(LhInflate *inflate, int64 position, char *buffer, uint32 length)
{
	uint32		start;

	if (position < inflate->kept_start)
		rewind_stream(inflate);
	while (position >= inflate->kept_start + inflate->kept_length)
		if (!produce(inflate))
			return 0;
	start = (uint32) (position - inflate->kept_start);
	length = Min(length, inflate->kept_length - start);
	memcpy(buffer, inflate->kept + start, length);
	return length;
}

int64
lh_inflate_consumed(const LhInflate *inflate)
{
	return inflate->in_position - inflate->in_left;
}

void
lh_inflate_close(LhInflate *inflate)
{
	release(inflate);
	pfree(inflate->in);
	pfree(inflate->kept);
	inflate->in = inflate->kept = NULL;
}
