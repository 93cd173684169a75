/*
 * http_client.c
 *	  Asking a web server for something small: the only file that includes
 *	  libcurl.
 *
 * A question goes to the host of its URL and nowhere else: redirects are not
 * followed, proxies of the environment and .netrc are not read, and no protocol
 * but http and https is spoken.  Time and length of an answer are bounded.
 *
 * Invariants: libcurl calls into PostgreSQL in take_body alone, which neither
 * raises nor looks for interrupts.  Threads that libcurl starts to look names up
 * have all signals blocked.  Names, passwords and bodies appear in no message.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>

#include "miscadmin.h"
#include "source/http_client.h"
#include "utils/memutils.h"

#define CONNECT_LIMIT_MS 3000
#define ANSWER_LIMIT_MS 5000

/* how long an interrupt may go unnoticed */
#define WAIT_MS 50

struct LhHttp
{
	CURL	   *easy;			/* keeps its connection between questions */
	CURLM	   *multi;
	MemoryContextCallback callback;
	char	   *body;			/* of the answer under way */
	int			length;
	int			room;
	bool		too_long;
};

/*
 * take_body keeps a part of an answer; less than all of it ends the transfer.
 */
static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	LhHttp	   *http = arg;
	size_t		bytes = size * count;

	if (bytes > (size_t) (http->room - http->length))
	{
		http->too_long = true;
		return 0;
	}
	memcpy(http->body + http->length, data, bytes);
	http->length += bytes;
	return bytes;
}

static void
close_at_reset(void *arg)
{
	LhHttp	   *http = arg;

	if (http->easy != NULL)
		curl_easy_cleanup(http->easy);
	if (http->multi != NULL)
		curl_multi_cleanup(http->multi);
}

/*
 * set_protocols lets the client speak http and https only.
 */
static void
set_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	/* a name look-up that is given up is not waited for */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
}

/*
 * set_options sets what all questions have in common; libcurl copies the texts.
 */
static void
set_options(LhHttp *http, const LhHttpOptions *options)
{
	CURL	   *easy = http->easy;

	set_protocols(easy);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) CONNECT_LIMIT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) ANSWER_LIMIT_MS);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "lakehouse");
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
	if (options->username != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
		curl_easy_setopt(easy, CURLOPT_USERNAME, options->username);
		curl_easy_setopt(easy, CURLOPT_PASSWORD, options->password == NULL ? "" : options->password);
	}
	if (options->ca_pem != NULL)
	{
		struct curl_blob blob = {.data = unconstify(char *, options->ca_pem),
		.len = strlen(options->ca_pem), .flags = CURL_BLOB_COPY};

		curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

LhHttp *
lh_http_open(const LhHttpOptions *options, MemoryContext context)
{
	static bool initialized = false;
	LhHttp	   *http = MemoryContextAllocZero(context, sizeof(LhHttp));

	/* librdkafka may do so as well: from version 7.84 on that is safe at any time,
	 * and before this comes first, since a registry is opened before a client */
	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("libcurl cannot be initialized")));
	initialized = true;
	http->callback.func = close_at_reset;
	http->callback.arg = http;
	MemoryContextRegisterResetCallback(context, &http->callback);
	http->easy = curl_easy_init();
	http->multi = curl_multi_init();
	if (http->easy == NULL || http->multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	set_options(http, options);
	return http;
}

/*
 * perform lets libcurl work, with signals blocked for the threads that it makes.
 */
static CURLMcode
perform(CURLM *multi, int *running)
{
	sigset_t	all;
	sigset_t	saved;
	CURLMcode	code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	code = curl_multi_perform(multi, running);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	return code;
}

/*
 * run_transfer waits for the end of the transfer and tells how it ended.
 */
static CURLcode
run_transfer(LhHttp *http)
{
	CURLMcode	code;
	CURLMsg    *message;
	int			running = 1;
	int			left;

	while ((code = perform(http->multi, &running)) == CURLM_OK && running > 0)
	{
		code = curl_multi_poll(http->multi, NULL, 0, WAIT_MS, NULL);
		if (code != CURLM_OK)
			break;
		CHECK_FOR_INTERRUPTS();
	}
	message = code == CURLM_OK ? curl_multi_info_read(http->multi, &left) : NULL;
	return message == NULL || message->msg != CURLMSG_DONE ? CURLE_FAILED_INIT : message->data.result;
}

/*
 * ask runs one transfer; an interrupt leaves nothing under way.
 */
static CURLcode
ask(LhHttp *http, const char *url)
{
	volatile CURLcode code = CURLE_FAILED_INIT;

	if (curl_easy_setopt(http->easy, CURLOPT_URL, url) != CURLE_OK ||
		curl_multi_add_handle(http->multi, http->easy) != CURLM_OK)
		return CURLE_FAILED_INIT;
	PG_TRY();
	{
		code = run_transfer(http);
	}
	PG_CATCH();
	{
		curl_multi_remove_handle(http->multi, http->easy);
		PG_RE_THROW();
	}
	PG_END_TRY();
	curl_multi_remove_handle(http->multi, http->easy);
	return code;
}

int
lh_http_get(LhHttp *http, const char *url, int limit, StringInfo body, LhError *error)
{
	CURLcode	code;
	long		status = 0;

	resetStringInfo(body);
	enlargeStringInfo(body, limit);
	http->body = body->data;
	http->room = limit;
	http->length = 0;
	http->too_long = false;
	code = ask(http, url);
	body->len = http->length;
	body->data[body->len] = '\0';
	if (code != CURLE_OK)
	{
		/* fixed texts, which quote nothing */
		lh_error_set(error, ERRCODE_CONNECTION_FAILURE, "%s",
					 http->too_long ? "its answer is too long" : curl_easy_strerror(code));
		return -1;
	}
	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int) status;
}

char *
lh_http_escape(const char *text, int length)
{
	static const char digits[] = "0123456789ABCDEF";
	char	   *result = palloc(3 * (Size) length + 1);
	char	   *to = result;

	for (int i = 0; i < length; i++)
	{
		unsigned char c = text[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '_' || c == '~' || (c == '.' && length > 2))
			*to++ = c;
		else
		{
			*to++ = '%';
			*to++ = digits[c >> 4];
			*to++ = digits[c & 15];
		}
	}
	*to = '\0';
	return result;
}
