/*
 * digits.h
 *	  Eight decimal digits at once.
 */
#ifndef LH_DIGITS_H
#define LH_DIGITS_H

#ifndef WORDS_BIGENDIAN
#define LH_DIGITS_EIGHT

static inline uint64
lh_digits_load(const char *p)
{
	uint64		bytes;

	memcpy(&bytes, p, sizeof(bytes));
	return bytes;
}

/* are all eight bytes digits?  The high half of each is 3, also when 6 is added */
static inline bool
lh_digits_are(uint64 bytes)
{
	return ((bytes & UINT64CONST(0xF0F0F0F0F0F0F0F0)) |
			(((bytes + UINT64CONST(0x0606060606060606)) & UINT64CONST(0xF0F0F0F0F0F0F0F0)) >> 4)) ==
		UINT64CONST(0x3333333333333333);
}

/* their value: pairs, then fours, then all */
static inline uint64
lh_digits_value(uint64 bytes)
{
	bytes -= UINT64CONST(0x3030303030303030);
	bytes = bytes * 10 + (bytes >> 8);
	return (((bytes & UINT64CONST(0x000000FF000000FF)) * UINT64CONST(0x000F424000000064)) +
			(((bytes >> 16) & UINT64CONST(0x000000FF000000FF)) * UINT64CONST(0x0000271000000001))) >> 32;
}
#endif

#endif							/* LH_DIGITS_H */
