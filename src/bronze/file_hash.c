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
 * hashes are chained.
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
 * hash_block hashes bytes in four lanes, which the processor computes side by
 * side.
 */
static uint64
hash_block(const char *data, size_t length, uint64 seed)
{
	uint64		lanes[4] = {seed ^ FACTOR_A, seed + FACTOR_B, ~seed, seed ^ length};
	size_t		at = 0;

	for (; at + 32 <= length; at += 32)
	{
		uint64		words[4];

		memcpy(words, data + at, sizeof(words));
		for (int i = 0; i < 4; i++)
			lanes[i] = rotate((lanes[i] ^ words[i]) * FACTOR_A, 29);
	}
	if (at < length)
		lanes[0] ^= hash_bytes_extended((const unsigned char *) data + at, (int) (length - at), seed);
	return mix(lanes[0] + mix(lanes[1] + mix(lanes[2] + mix(lanes[3] + length))));
}

static void
read_exactly(int fd, const char *name, char *buffer, size_t length, int64 position)
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
 * lh_file_hash reads the file once more from where its whole blocks end; the
 * bytes were read a moment ago and come from the system's cache.
 */
int64
lh_file_hash(int fd, const char *name, int64 begin, int64 end, int64 *blocks)
{
	int64		position = begin / LH_HASH_BLOCK * LH_HASH_BLOCK;
	uint64		chain = position > 0 ? (uint64) *blocks : 0;
	char	   *buffer = palloc(Min(LH_HASH_BLOCK, Max(end - position, 1)));
	uint64		hash;

	for (; position + LH_HASH_BLOCK <= end; position += LH_HASH_BLOCK)
	{
		read_exactly(fd, name, buffer, LH_HASH_BLOCK, position);
		chain = hash_block(buffer, LH_HASH_BLOCK, chain);
	}
	*blocks = (int64) chain;
	read_exactly(fd, name, buffer, (size_t) (end - position), position);
	hash = hash_block(buffer, (size_t) (end - position), chain);
	pfree(buffer);
	return (int64) hash;
}
