/*
 * error.h
 *	  A soft error: why one record could not be converted or stored.
 *
 * Readers and converters report bad data by filling an LhError instead of
 * raising, because PostgreSQL 15 has no soft errors and a subtransaction for
 * each record would cost more than the record.
 */
#ifndef LH_ERROR_H
#define LH_ERROR_H

typedef struct LhError
{
	int			sqlstate;		/* as made by MAKE_SQLSTATE; 0 = no error */
	bool		stored;			/* the record is stored all the same: set by the
								 * writer to false, by a "fill" that succeeds to true */
	char		message[512];	/* primary message, one line, UTF-8 or server
								 * encoding safe (no raw input bytes) */
} LhError;

/*
 * lh_error_set fills *error; sqlstate is an ERRCODE_ constant.  Returns false,
 * so that a converter can say "return lh_error_set(...)".
 */
extern bool lh_error_set(LhError *error, int sqlstate, const char *format,...) pg_attribute_printf(3, 4);

#endif							/* LH_ERROR_H */
