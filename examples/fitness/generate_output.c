/*
 * generate_output.c
 *	  Files and topics of the simulator: how a message travels from its producer
 *	  to where it is read, and what goes wrong on the way.
 *
 * Invariant: faults are decided by random numbers of their own, never by those
 * that make the records; a file appears under its name when it is complete.
 */
#include "generate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define POOL			512		/* how far a message may be displaced */

static const char *const topic_names[TOPICS] = {"user_info", "workout", "bpm"};

static int64_t *next_offset[TOPICS];
static Message *pool[POOL];		/* displaced messages, by when they are due */
static Message *late_first;		/* messages that wait for the end of the set */
static Message **late_last = &late_first;
static int64_t passed;			/* messages that passed in this set */
static Random fate;				/* decides about displacement and doubling */
static FILE *message_file;
static int64_t message_lines;
static int	message_files;
static char temporary_name[4096];
static char final_name[4096];

/* ---------------------------------------------------------------- helpers */

void
fail(const char *format,...)
{
	va_list		arguments;

	fputs("generate: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

/* random_bits is splitmix64. */
uint64_t
random_bits(Random *random)
{
	uint64_t	z = (random->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* random_for gives the numbers of one purpose, whatever was drawn before. */
Random
random_for(uint64_t purpose, uint64_t number)
{
	Random		random = {option.seed * UINT64_C(0xd1342543de82ef95) + purpose};

	random.state = random_bits(&random) ^ (number * UINT64_C(0xa0761d6478bd642f));
	(void) random_bits(&random);
	return random;
}

int64_t
random_between(Random *random, int64_t low, int64_t high)
{
	return low + (int64_t) (random_bits(random) % (uint64_t) (high - low + 1));
}

bool
random_chance(Random *random, double rate)
{
	/* draws even if the rate is zero, so that rates do not disturb each other */
	return (random_bits(random) >> 11) * 0x1.0p-53 < rate;
}

/* ------------------------------------------------------------------ files */

void
make_directory(const char *name)
{
	char		path[4096];

	snprintf(path, sizeof(path), "%s/%s", option.directory, name);
	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		fail("could not create directory \"%s\": %s", path, strerror(errno));
}

/*
 * open_file begins a file under a name that readers ignore; close_file gives it
 * its own name, so that nobody ever sees half of it.
 */
FILE *
open_file(const char *directory, const char *name)
{
	FILE	   *file;

	snprintf(temporary_name, sizeof(temporary_name), "%s/%s/.%s.tmp",
			 option.directory, directory, name);
	snprintf(final_name, sizeof(final_name), "%s/%s/%s", option.directory, directory, name);
	file = fopen(temporary_name, "w");
	if (file == NULL)
		fail("could not create file \"%s\": %s", temporary_name, strerror(errno));
	return file;
}

void
close_file(FILE *file)
{
	if (ferror(file) || fclose(file) != 0)
		fail("could not write file \"%s\": %s", temporary_name, strerror(errno));
	if (rename(temporary_name, final_name) != 0)
		fail("could not rename file \"%s\": %s", temporary_name, strerror(errno));
}

/* --------------------------------------------------------------- messages */

static void
print_json_string(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++)
	{
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		fputc(*text, file);
	}
	fputc('"', file);
}

static void
print_message(FILE *file, const Message *message)
{
	fprintf(file, "{\"key\":\"%" PRId64 "\",\"value\":", message->key);
	if (message->nested)
		fputs(message->value, file);
	else
		print_json_string(file, message->value);
	fprintf(file, ",\"topic\":\"%s\",\"partition\":%d,\"offset\":%" PRId64
			",\"timestamp\":%" PRId64 "}\n", topic_names[message->topic],
			message->partition, message->offset, message->timestamp);
}

static void
finish_message_file(void)
{
	if (message_file == NULL)
		return;
	close_file(message_file);
	message_file = NULL;
}

/* write_message gives the message its offset, in the order of writing. */
static void
write_message(Message *message, int set)
{
	message->offset = next_offset[message->topic][message->partition]++;
	if (!writing || !option.messages)
		return;
	if (option.to_stdout)
	{
		print_message(stdout, message);
		return;
	}
	if (message_file != NULL && message_lines >= option.lines)
		finish_message_file();
	if (message_file == NULL)
	{
		char		name[64];

		snprintf(name, sizeof(name), "set_%04d_%05d.json", set, ++message_files);
		message_file = open_file("kafka_multiplex", name);
		message_lines = 0;
	}
	print_message(message_file, message);
	message_lines++;
}

static Message *
copy_message(const Message *message)
{
	Message    *copy = malloc(sizeof(Message));

	if (copy == NULL)
		fail("out of memory");
	*copy = *message;
	copy->next = NULL;
	return copy;
}

/* displace puts a message aside until up to POOL others have passed. */
static void
displace(const Message *message)
{
	int			due = (int) ((passed + random_between(&fate, 1, POOL - 1)) % POOL);
	Message    *copy = copy_message(message);

	copy->next = pool[due];
	pool[due] = copy;
}

static void
release_list(Message *list, int set)
{
	while (list != NULL)
	{
		Message    *next = list->next;

		write_message(list, set);
		free(list);
		list = next;
	}
}

/*
 * send_message decides what happens to a message between its producer and the
 * topic: it may come late, out of order, or twice.
 */
static void
send_message(Message *message, int set)
{
	bool		late = random_chance(&fate, option.late);
	bool		displaced = random_chance(&fate, option.out_of_order);
	bool		doubled = random_chance(&fate, option.duplicate);
	Message    *due;

	if (doubled)
	{
		displace(message);
		if (writing)
			count.messages[message->topic]++;
	}
	if (late)
	{
		*late_last = copy_message(message);
		late_last = &(*late_last)->next;
	}
	else if (displaced)
		displace(message);
	else
		write_message(message, set);
	if (writing)
		count.messages[message->topic]++;

	passed++;
	due = pool[passed % POOL];
	pool[passed % POOL] = NULL;
	release_list(due, set);
}

/* release_messages writes whatever is still on its way. */
void
release_messages(int set)
{
	for (int i = 0; i < POOL; i++)
	{
		Message    *due = pool[(passed + i) % POOL];

		pool[(passed + i) % POOL] = NULL;
		release_list(due, set);
	}
	release_list(late_first, set);
	late_first = NULL;
	late_last = &late_first;
	finish_message_file();
}

/* send_broken sends a message that no reader can make a row of. */
static void
send_broken(const Message *good, int set)
{
	Message		bad = *good;
	size_t		length = strlen(good->value);

	bad.nested = false;
	switch (random_between(&fate, 0, 3))
	{
		case 0:					/* cut off */
			bad.value[length / 3] = '\0';
			break;
		case 1:					/* no JSON at all */
			strcpy(bad.value, "device reset");
			break;
		case 2:					/* the key is missing */
			strcpy(bad.value, "{\"firmware\": \"2.1\"}");
			break;
		default:				/* an array where an object belongs */
			strcpy(bad.value, "[1, 2, 3]");
			break;
	}
	write_message(&bad, set);
	if (writing)
	{
		count.messages[bad.topic]++;
		count.broken[bad.topic]++;
	}
}

void
pass_message(Message *message, int set)
{
	if (random_chance(&fate, option.broken))
		send_broken(message, set);
	send_message(message, set);
}

/* begin_topics makes the offsets, which go on from set to set. */
void
begin_topics(void)
{
	for (int i = 0; i < TOPICS; i++)
	{
		next_offset[i] = calloc((size_t) option.partitions, sizeof(int64_t));
		if (next_offset[i] == NULL)
			fail("out of memory");
	}
}

void
begin_messages(int set)
{
	fate = random_for(6, (uint64_t) set);
	passed = 0;
	message_files = 0;
}
