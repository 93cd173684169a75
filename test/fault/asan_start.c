/*
 * asan_start.c
 *	  A library for LD_PRELOAD that lets the address sanitizer start.
 *
 * Its start and that of libp11-kit, which LDAP brings, together leave the C
 * library's locks of locales and of messages counted wrongly, and whoever takes
 * one of them waits for ever. So messages are left as they are here, and
 * libp11-kit gets no locale.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libintl.h>
#include <locale.h>
#include <string.h>

#undef bindtextdomain
#undef bind_textdomain_codeset
#undef textdomain
#undef gettext
#undef dgettext
#undef dcgettext
#undef ngettext
#undef dngettext
#undef dcngettext

char *
bindtextdomain(const char *domain, const char *directory)
{
	return (char *) directory;
}

char *
bind_textdomain_codeset(const char *domain, const char *codeset)
{
	return (char *) codeset;
}

char *
textdomain(const char *domain)
{
	return (char *) domain;
}

char *
gettext(const char *message)
{
	return (char *) message;
}

char *
dgettext(const char *domain, const char *message)
{
	return (char *) message;
}

char *
dcgettext(const char *domain, const char *message, int category)
{
	return (char *) message;
}

char *
ngettext(const char *one, const char *many, unsigned long n)
{
	return (char *) (n == 1 ? one : many);
}

char *
dngettext(const char *domain, const char *one, const char *many, unsigned long n)
{
	return (char *) (n == 1 ? one : many);
}

char *
dcngettext(const char *domain, const char *one, const char *many, unsigned long n, int category)
{
	return (char *) (n == 1 ? one : many);
}

/* "POSIX" is what libp11-kit asks for when it is loaded; it can do without */
locale_t
newlocale(int mask, const char *name, locale_t base)
{
	static locale_t (*real) (int, const char *, locale_t);

	if (strcmp(name, "POSIX") == 0)
		return (locale_t) 0;
	if (real == NULL)
		real = (locale_t (*) (int, const char *, locale_t)) dlsym(RTLD_NEXT, "newlocale");
	return real(mask, name, base);
}

void
freelocale(locale_t locale)
{
}
