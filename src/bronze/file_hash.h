/*
 * file_hash.h
 *	  A hash of a file's first bytes that can be continued.
 */
#ifndef LH_FILE_HASH_H
#define LH_FILE_HASH_H

/* bytes that are hashed as one; what lies behind the last whole block is read
 * again when a hash is continued */
#define LH_HASH_BLOCK 65536

/*
 * Gives the hash of the bytes [0, end).  *blocks is the hash of the whole
 * blocks among the first "begin" bytes (0 if there are none) and becomes that
 * of the whole blocks among the first "end".  Raises if the file cannot be read
 * or is shorter.
 */
extern int64 lh_file_hash(int fd, const char *name, int64 begin, int64 end, int64 *blocks);

#endif							/* LH_FILE_HASH_H */
