/*
 * file_hash.c
 *	  A hash of a file's first bytes that can be continued.
 *
 * The hash tells whether the bytes that were loaded are still those of the
 * file.  It is made for that, and to cost little beside the reading: whoever
 * may write the file and wants to can make other bytes with the same hash.
 *
 * Invariant: the hash of a prefix depends on its bytes alone, not on the parts
 * in which the file was loaded: bytes are hashed in blocks of fixed size, whose
 * hashes are chained.  They are taken from the reader when it has passed them; only
 * what it has not, or not in order, is read once more.
 */
#include "postgres.h"

#include <unistd.h>

#include "common/hashfn.h"
#include "miscadmin.h"

#include "bronze/file_hash.h"

/* odd numbers with well mixed bits */
#define FACTOR_A UINT64CONST(0x9E3779B97F4A7C15)
#define FACTOR_B UINT64CONST(0xD6E8FEB86659FD93)

static inline uint64
rotate(uint64 value, int bits)
{
	return (value << bits) | (value >> (64 - bits));
}

static inline uint64
mix(uint64 value)
{
	value ^= value >> 32;
	value *= FACTOR_B;
	value ^= value >> 29;
	value *= FACTOR_A;
	return value ^ (value >> 32);
}

/*
 * Begins the hash of so many bytes, in four lanes, which the processor computes
 * side by side.
 */
static inline void
begin_lanes(uint64 *lanes, size_t length, uint64 seed)
{
	lanes[0] = seed ^ FACTOR_A;
	lanes[1] = seed + FACTOR_B;
	lanes[2] = ~seed;
	lanes[3] = seed ^ length;
}

static inline uint64
take_word(uint64 lane, const char *data)
{
	uint64		word;

	memcpy(&word, data, sizeof(word));
	return rotate((lane ^ word) * FACTOR_A, 29);
}

/* takes bytes, a multiple of 32 of them */
static void
fill_lanes(uint64 *lanes, const char *data, size_t length)
{
	/* in variables of their own they stay in registers */
	uint64		a = lanes[0];
	uint64		b = lanes[1];
	uint64		c = lanes[2];
	uint64		d = lanes[3];

	for (size_t at = 0; at < length; at += 32)
	{
		a = take_word(a, data + at);
		b = take_word(b, data + at + 8);
		c = take_word(c, data + at + 16);
		d = take_word(d, data + at + 24);
	}
	lanes[0] = a;
	lanes[1] = b;
	lanes[2] = c;
	lanes[3] = d;
}

static inline uint64
end_lanes(const uint64 *lanes, size_t length)
{
	return mix(lanes[0] + mix(lanes[1] + mix(lanes[2] + mix(lanes[3] + length))));
}

static uint64
hash_block(const char *data, size_t length, uint64 seed)
{
	uint64		lanes[4];
	size_t		whole = length / 32 * 32;

	begin_lanes(lanes, length, seed);
	fill_lanes(lanes, data, whole);
	if (whole < length)
		lanes[0] ^= hash_bytes_extended((const unsigned char *) data + whole, (int) (length - whole), seed);
	return end_lanes(lanes, length);
}

void
lh_file_read_exactly(int fd, const char *name, char *buffer, size_t length, int64 position)
{
	size_t		filled = 0;

	while (filled < length)
	{
		ssize_t		count;

		CHECK_FOR_INTERRUPTS();
		count = pread(fd, buffer + filled, length - filled, position + (int64) filled);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", name)));
		if (count == 0)
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("file \"%s\" became shorter while it was read", name)));
		filled += (size_t) count;
	}
}

/*
 * Takes bytes that belong to one block.
 */
static void
take_in_block(LhFileHash *hash, const char *data, size_t length)
{
	size_t		kept = hash->position % sizeof(hash->rest);
	size_t		whole;

	hash->position += length;
	if (kept > 0)
	{
		size_t		added = Min(length, sizeof(hash->rest) - kept);

		memcpy(hash->rest + kept, data, added);
		data += added;
		length -= added;
		if (kept + added < sizeof(hash->rest))
			return;
		fill_lanes(hash->lanes, hash->rest, sizeof(hash->rest));
	}
	whole = length / sizeof(hash->rest) * sizeof(hash->rest);
	fill_lanes(hash->lanes, data, whole);
	memcpy(hash->rest, data + whole, length - whole);
	if (hash->position % LH_HASH_BLOCK == 0)
	{
		hash->chain = end_lanes(hash->lanes, LH_HASH_BLOCK);
		begin_lanes(hash->lanes, LH_HASH_BLOCK, hash->chain);
	}
}

static void
take_bytes(LhFileHash *hash, const char *data, size_t length)
{
	while (length > 0)
	{
		size_t		part = Min(length, LH_HASH_BLOCK - hash->position % LH_HASH_BLOCK);

		take_in_block(hash, data, part);
		data += part;
		length -= part;
	}
}

/*
 * Reads bytes that were not taken, up to a place in the block at hand or its end.
 */
static void
read_missing(LhFileHash *hash, int64 end)
{
	char	   *buffer = palloc(LH_HASH_BLOCK);
	size_t		length = (size_t) (end - hash->position);

	lh_file_read_exactly(hash->fd, hash->name, buffer, length, hash->position);
	take_bytes(hash, buffer, length);
	pfree(buffer);
}

/*
 * Takes bytes that a reader has passed.  What is far from those before is left to
 * lh_file_hash_end.
 */
static void
take_passed(LhInputTap *tap, int64 position, const char *data, uint32 length)
{
	LhFileHash *hash = (LhFileHash *) tap;

	if (position > hash->position && position / LH_HASH_BLOCK == hash->position / LH_HASH_BLOCK)
		read_missing(hash, position);
	if (position == hash->position)
		take_bytes(hash, data, length);
}

void
lh_file_hash_begin(LhFileHash *hash, int fd, const char *name, int64 begin, int64 blocks)
{
	hash->tap.take = take_passed;
	hash->fd = fd;
	hash->name = name;
	hash->begin = begin;
	hash->blocks = blocks;
	hash->position = begin / LH_HASH_BLOCK * LH_HASH_BLOCK;
	hash->chain = hash->position > 0 ? (uint64) blocks : 0;
	begin_lanes(hash->lanes, LH_HASH_BLOCK, hash->chain);
}

int64
lh_file_hash_end(LhFileHash *hash, int64 end, int64 *blocks)
{
	int64		last = end / LH_HASH_BLOCK * LH_HASH_BLOCK;
	char	   *buffer;
	int64		result;

	/* more was taken than is asked for */
	if (hash->position / LH_HASH_BLOCK > end / LH_HASH_BLOCK)
		lh_file_hash_begin(hash, hash->fd, hash->name, Min(hash->begin, end), hash->blocks);
	while (hash->position < last)
		read_missing(hash, (hash->position / LH_HASH_BLOCK + 1) * LH_HASH_BLOCK);
	*blocks = (int64) hash->chain;
	buffer = palloc(Max(end - last, 1));
	lh_file_read_exactly(hash->fd, hash->name, buffer, (size_t) (end - last), last);
	result = (int64) hash_block(buffer, (size_t) (end - last), hash->chain);
	pfree(buffer);
	return result;
}

int64
lh_file_hash(int fd, const char *name, int64 begin, int64 end, int64 *blocks)
{
	LhFileHash	hash;

	lh_file_hash_begin(&hash, fd, name, begin, *blocks);
	return lh_file_hash_end(&hash, end, blocks);
}
