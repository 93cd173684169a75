/*
 * http_client.h
 *	  Asking a web server for something small.
 */
#ifndef LH_HTTP_CLIENT_H
#define LH_HTTP_CLIENT_H

#include "postgres.h"

#include "error.h"
#include "lib/stringinfo.h"

typedef struct LhHttp LhHttp;

/* What a client needs to be known and to trust; each may be NULL. */
typedef struct LhHttpOptions
{
	const char *username;
	const char *password;
	const char *ca_pem;			/* certificates to trust, instead of the system's */
} LhHttpOptions;

/* makes a client, which is closed when "context" is reset; reaches nobody yet */
extern LhHttp *lh_http_open(const LhHttpOptions *options, MemoryContext context);

/*
 * lh_http_get asks for a URL (http or https) and returns the status of the
 * answer, whose body is in *body, of at most "limit" bytes.  -1 with *error
 * (08006) if there is none within some seconds, or it is too long.  Waits, looking
 * for interrupts.  Follows no redirects.
 */
extern int	lh_http_get(LhHttp *http, const char *url, int limit, StringInfo body, LhError *error);

/* a text as one part of a URL's path, in the current context */
extern char *lh_http_escape(const char *text, int length);

#endif							/* LH_HTTP_CLIENT_H */
