/*
 * generate.h
 *	  What the files of the simulator share: options, counters, repeatable
 *	  random numbers, and the way that files and messages take.
 */
#ifndef GENERATE_H
#define GENERATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define MAX_VALUE		1024

enum
{
	TOPIC_USER_INFO, TOPIC_WORKOUT, TOPIC_BPM, TOPICS
};

/* the random numbers of one purpose */
typedef struct Random
{
	uint64_t	state;
} Random;

/* a message on its way to a file or to standard output */
typedef struct Message
{
	int			topic;
	int			partition;
	int64_t		offset;
	int64_t		timestamp;		/* milliseconds */
	int64_t		key;
	bool		nested;			/* write an object instead of a string */
	char		value[MAX_VALUE];
	struct Message *next;
} Message;

typedef struct Options
{
	const char *directory;
	uint64_t	seed;
	int64_t		users;
	int			sets;
	int			first_set;
	int64_t		bpm;			/* readings of a set; -1 = in proportion */
	int			partitions;
	int64_t		lines;			/* messages of a file */
	double		late;
	double		out_of_order;
	double		duplicate;
	double		broken;
	double		deletes;
	bool		csv;
	bool		messages;
	bool		to_stdout;
} Options;

typedef struct Counts
{
	int64_t		registered_users;
	int64_t		gym_logins;
	int64_t		messages[TOPICS];
	int64_t		broken_registered_users;
	int64_t		broken_gym_logins;
	int64_t		broken[TOPICS];
} Counts;

extern Options option;
extern Counts count;
extern bool writing;			/* false while sets before the first one pass */

extern void fail(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

extern Random random_for(uint64_t purpose, uint64_t number);
extern uint64_t random_bits(Random *random);
extern int64_t random_between(Random *random, int64_t low, int64_t high);
extern bool random_chance(Random *random, double rate);

extern void make_directory(const char *name);
extern FILE *open_file(const char *directory, const char *name);
extern void close_file(FILE *file);

/* the topics: begin_topics once, then for each set begin, pass and release */
extern void begin_topics(void);
extern void begin_messages(int set);
extern void pass_message(Message *message, int set);
extern void release_messages(int set);

#endif							/* GENERATE_H */
