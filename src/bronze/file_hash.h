/*
 * file_hash.h
 *	  A hash of a file's first bytes that can be continued.
 */
#ifndef LH_FILE_HASH_H
#define LH_FILE_HASH_H

#include "source/input.h"

/* bytes that are hashed as one; what lies behind the last whole block is read
 * again when a hash is continued */
#define LH_HASH_BLOCK 65536

/* A hash while the bytes come. */
typedef struct LhFileHash
{
	LhInputTap	tap;			/* takes them from a reader */
	int			fd;
	const char *name;
	int64		begin;			/* as it was begun */
	int64		blocks;
	int64		position;		/* bytes before it were taken */
	uint64		chain;			/* hash of the whole blocks among them */
	uint64		lanes[4];		/* of the block at hand, but for: */
	char		rest[32];		/* bytes since the last multiple of this */
} LhFileHash;

/*
 * lh_file_hash_begin begins a hash that goes on behind the first "begin" bytes, of
 * whose whole blocks "blocks" is the hash (0 if there are none).
 */
extern void lh_file_hash_begin(LhFileHash *hash, int fd, const char *name, int64 begin, int64 blocks);

/*
 * lh_file_hash_end gives the hash of the bytes [0, end); *blocks becomes that of the
 * whole blocks among them.  Bytes that were not taken are read from the file; raises
 * if it cannot be read or is shorter.
 */
extern int64 lh_file_hash_end(LhFileHash *hash, int64 end, int64 *blocks);

/* reads bytes that the file must have; raises if it cannot be read or is shorter */
extern void lh_file_read_exactly(int fd, const char *name, char *buffer, size_t length, int64 position);

/* both at once */
extern int64 lh_file_hash(int fd, const char *name, int64 begin, int64 end, int64 *blocks);

#endif							/* LH_FILE_HASH_H */
