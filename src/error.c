/*
 * error.c
 *	  Soft errors of readers and converters.
 */
#include "postgres.h"

#include "error.h"
#include "mb/pg_wchar.h"

/*
 * lh_error_set fills an error with a formatted message and returns false.  A
 * message too long for the buffer is cut at a character boundary.
 */
bool
lh_error_set(LhError *error, int sqlstate, const char *format,...)
{
	va_list		args;
	int			length;

	error->sqlstate = sqlstate;
	va_start(args, format);
	length = vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	if (length >= (int) sizeof(error->message))
	{
		length = pg_mbcliplen(error->message, sizeof(error->message) - 1,
							  sizeof(error->message) - 1);
		error->message[length] = '\0';
	}
	return false;
}
