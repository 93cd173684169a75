/*
 * generate.c
 *	  Simulates the sources of the fitness pipeline: two kinds of CSV files and
 *	  three Kafka topics.
 *
 * Invariant: what is written depends on the seed and the options only.  A set
 * is the same whether it is generated alone (--first-set) or together with the
 * sets before it, and the faults that are asked for (--late, --out-of-order,
 * --duplicate, --broken) never change what the good records say.
 *
 * Users and messages are made from random numbers that belong to one user of
 * one set, so memory grows with the users of one set and not with the messages.
 */
#include "generate.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define USERS_PER_SET	5
#define BPM_PER_USER	50760	/* 14.1 hours of one reading a second ... */
#define BPM_PER_SET		253801	/* ... and one more */
#define DAY				86400

typedef struct Workout
{
	int64_t		start;			/* epoch seconds */
	int64_t		stop;
	int64_t		login;
	int64_t		logout;
	int			gym;
	int			session;
} Workout;

/* a stretch of time in which the device sends one reading a second */
typedef struct Span
{
	int64_t		begin;
	int64_t		end;			/* first second after it */
} Span;

typedef struct Event
{
	double		time;			/* epoch seconds, as in the value */
	int			topic;
	int			kind;			/* user_info: 0 new, 1 update, 2 delete;
								 * workout: 0 start, 1 stop */
	int			workout;
} Event;

typedef struct User
{
	int64_t		number;			/* over all sets */
	int64_t		user_id;
	int64_t		device_id;
	char		mac_address[18];
	int64_t		registered;
	int			workouts;
	Workout		workout[2];
	int			spans;
	Span		span[2];
	int			events;
	Event		event[8];
	int			next_event;		/* position in the stream of this user */
	int			next_span;
	int64_t		next_second;
	Random		heart;
	int			rate;			/* heart rate in tenths */
} User;

Options		option =
{
	.seed = 1, .users = USERS_PER_SET, .sets = 1, .first_set = 1, .bpm = -1,
	.partitions = 1, .lines = 50000, .csv = true, .messages = true
};

Counts		count;
bool		writing;

/* ---------------------------------------------------------------- helpers */

/* days_before_year counts the days from 1970-01-01 to 1 January of a year. */
static int64_t
days_before_year(int year)
{
	int64_t		y = year - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 - 719162;
}

static int64_t
at_least_one(double seconds)
{
	return seconds < 1 ? 1 : (int64_t) seconds;
}

/* --------------------------------------------------- what the messages say */

static const char *const first_names[] = {"Ada", "Bruno", "Chloe", "Dmitri", "Elena",
"Farid", "Grace", "Hiro", "Ines", "Jamal", "Karin", "Luis", "Mei", "Noor", "Olga", "Zo\xc3\xab"};
static const char *const last_names[] = {"Smith", "O'Brien", "M\xc3\xbcller", "Garcia", "Tanaka",
"Okafor", "Silva", "Kowalski", "Haddad", "Lindqvist", "Rossi", "Nguyen"};
static const char *const streets[] = {"Oak Street", "Main Street", "Hill Road", "Lake View",
"5th Avenue, \\\"B\\\" wing", "Sunset Boulevard", "Park Lane", "River Walk"};
static const struct
{
	const char *city;
	const char *state;
	int			zip;
}			cities[] =
{
	{"Los Angeles", "CA", 90001}, {"San Diego", "CA", 92101}, {"Pasadena", "CA", 91101},
	{"Phoenix", "AZ", 85001}, {"Austin", "TX", 73301}, {"Boston", "MA", 2108},
	{"Seattle", "WA", 98101}, {"Denver", "CO", 80201}
};

#define LENGTH(array) ((int64_t) (sizeof(array) / sizeof((array)[0])))

/* format_time writes epoch seconds, with a fraction only where there is one. */
static void
format_time(char *buffer, size_t size, double seconds)
{
	int64_t		milliseconds = (int64_t) (seconds * 1000 + 0.5);

	if (milliseconds % 1000 == 0)
		snprintf(buffer, size, "%" PRId64, milliseconds / 1000);
	else
		snprintf(buffer, size, "%" PRId64 ".%03d", milliseconds / 1000, (int) (milliseconds % 1000));
}

/*
 * say_user_info writes a user's profile: a new one has the first address, an
 * update the second one, and a delete says nothing but the key.
 */
static void
say_user_info(Message *message, const User *user, const Event *event)
{
	static const char *const types[] = {"new", "update", "delete"};
	Random		random = random_for(3, (uint64_t) user->number);
	char		time[32];
	int			year = (int) random_between(&random, 1925, 2002);
	int			month = (int) random_between(&random, 1, 12);
	int			day = (int) random_between(&random, 1, 28);
	const char *sex = random_chance(&random, 0.5) ? "F" : "M";
	const char *gender = random_chance(&random, 0.04) ? "X" : sex;
	const char *first = first_names[random_between(&random, 0, LENGTH(first_names) - 1)];
	const char *last = last_names[random_between(&random, 0, LENGTH(last_names) - 1)];
	int64_t		city = random_between(&random, 0, LENGTH(cities) - 1);
	int64_t		street = random_between(&random, 0, LENGTH(streets) - 1);
	int			house = (int) random_between(&random, 1, 9999);

	format_time(time, sizeof(time), event->time);
	if (event->kind == 2)
	{
		snprintf(message->value, MAX_VALUE,
				 "{\"user_id\": %" PRId64 ", \"update_type\": \"delete\", \"timestamp\": %s}",
				 user->user_id, time);
		return;
	}
	if (event->kind == 1)
	{
		city = (city + 1 + random_between(&random, 0, LENGTH(cities) - 2)) % LENGTH(cities);
		house = (int) random_between(&random, 1, 9999);
	}
	snprintf(message->value, MAX_VALUE,
			 "{\"user_id\": %" PRId64 ", \"update_type\": \"%s\", \"timestamp\": %s, "
			 "\"dob\": \"%02d/%02d/%04d\", \"sex\": \"%s\", \"gender\": \"%s\", "
			 "\"first_name\": \"%s\", \"last_name\": \"%s\", "
			 "\"address\": {\"street_address\": \"%d %s\", \"city\": \"%s\", \"state\": \"%s\", \"zip\": %d}}",
			 user->user_id, types[event->kind], time, month, day, year, sex, gender, first, last,
			 house, streets[street], cities[city].city, cities[city].state,
			 cities[city].zip + (int) (house % 50));
}

static void
say_workout(Message *message, const User *user, const Event *event)
{
	char		time[32];

	format_time(time, sizeof(time), event->time);
	snprintf(message->value, MAX_VALUE,
			 "{\"user_id\": %" PRId64 ", \"workout_id\": %d, \"timestamp\": %s, "
			 "\"action\": \"%s\", \"session_id\": %d}",
			 user->user_id, event->workout + 1, time, event->kind == 0 ? "start" : "stop",
			 user->workout[event->workout].session);
}

/*
 * say_bpm writes one reading.  The heart follows its own random walk, faster in
 * a workout; outside of the workout that is counted exactly, one reading in 400
 * is a sensor without contact: zero or negative.
 */
static void
say_bpm(Message *message, User *user, int64_t second)
{
	int			aim = 650;
	int64_t		drawn = (int64_t) (random_bits(&user->heart) >> 1);

	for (int i = 0; i < user->workouts; i++)
		if (second > user->workout[i].start && second <= user->workout[i].stop)
			aim = 1400;
	user->rate += (int) (drawn % 41) - 20 + (aim - user->rate) / 60;
	if ((drawn >> 20) % 400 == 0 && user->number > 0)
		snprintf(message->value, MAX_VALUE,
				 "{\"device_id\": %" PRId64 ", \"time\": %" PRId64 ", \"heartrate\": %s}",
				 user->device_id, second, (drawn >> 40) % 2 == 0 ? "0.0" : "-1.0");
	else
		snprintf(message->value, MAX_VALUE,
				 "{\"device_id\": %" PRId64 ", \"time\": %" PRId64 ", \"heartrate\": %d.%d}",
				 user->device_id, second, user->rate / 10, user->rate % 10);
}

/* ----------------------------------------------------------------- a user */

static void
add_event(User *user, double time, int topic, int kind, int workout)
{
	Event	   *event = &user->event[user->events++];

	event->time = time;
	event->topic = topic;
	event->kind = kind;
	event->workout = workout;
}

static int
compare_events(const void *left, const void *right)
{
	double		l = ((const Event *) left)->time;
	double		r = ((const Event *) right)->time;

	return (l > r) - (l < r);
}

/*
 * plan_workouts lays out the days of a user.  Three of five users train twice:
 * in odd sets on two days, in even sets on one day in two gyms.  "quota"
 * readings are spread over the time around it; fewer readings shrink all times.
 */
static void
plan_workouts(User *user, int64_t index, int set, int64_t day, int64_t quota)
{
	Random		random = random_for(2, (uint64_t) user->number);
	bool		odd = set % 2 == 1;
	double		scale = quota >= BPM_PER_USER ? 1.0 : (double) quota / BPM_PER_USER;
	int64_t		morning = day + random_between(&random, 4 * 3600, 6 * 3600);

	user->workouts = index % 5 < 3 ? 2 : 1;
	for (int i = 0; i < user->workouts; i++)
	{
		Workout    *workout = &user->workout[i];
		int64_t		length = random_between(&random, 1200, 5400);

		workout->start = morning;
		if (i == 1)
			workout->start += odd ? DAY : at_least_one(14400 * scale) + 1;
		if (user->number == 0 && i == 0)
			length = 3968;
		workout->stop = workout->start + at_least_one(length * scale);
		workout->login = workout->start - at_least_one(random_between(&random, 300, 900) * scale);
		workout->logout = workout->stop + at_least_one(random_between(&random, 300, 900) * scale);
		workout->gym = (int) random_between(&random, 1, 9);
		if (i == 1 && !odd && workout->gym == user->workout[0].gym)
			workout->gym = workout->gym % 9 + 1;
		workout->session = i + 1;
	}
	user->spans = user->workouts == 2 && odd ? 2 : 1;
	for (int i = 0; i < user->spans; i++)
	{
		Span	   *span = &user->span[i];

		span->begin = user->workout[i].start - (int64_t) (600 * scale);
		span->end = span->begin + (i == 0 ? quota - (user->spans - 1) * (quota / 2) : quota / 2);
	}
}

static void
plan_events(User *user, int64_t index, int set, double joined)
{
	Random		random = random_for(4, (uint64_t) user->number);
	double		fraction = random_chance(&random, 0.3) ? 0.25 : 0;
	int64_t		last_day = user->workout[user->workouts - 1].stop;

	add_event(user, joined + fraction, TOPIC_USER_INFO, 0, 0);
	if (set % 2 == 1 ? index % 5 == 1 || index % 5 == 3 : index % 5 == 4)
		add_event(user, set % 2 == 1 ? (double) (last_day + 7200) : joined + fraction + 11,
				  TOPIC_USER_INFO, 1, 0);
	if (random_chance(&random, option.deletes))
		add_event(user, (double) (last_day + 9000), TOPIC_USER_INFO, 2, 0);
	for (int i = 0; i < user->workouts; i++)
	{
		fraction = random_chance(&random, 0.3) ? 0.5 : 0;
		add_event(user, user->workout[i].start + fraction, TOPIC_WORKOUT, 0, i);
		add_event(user, user->workout[i].stop + fraction, TOPIC_WORKOUT, 1, i);
	}
	qsort(user->event, (size_t) user->events, sizeof(Event), compare_events);
}

static void
plan_user(User *user, int64_t index, int set)
{
	int64_t		total = option.bpm >= 0 ? option.bpm :
		BPM_PER_SET * option.users / USERS_PER_SET;
	int64_t		quota = total / option.users + (index < total % option.users);
	int			year = set % 2 == 1 ? 2014 : 2015;
	int64_t		base = (days_before_year(year) + 150 + ((set - 1) / 2 % 28) * 7) * DAY;
	int64_t		spacing = option.users > 20 ? DAY / option.users : 3600;
	Random		random;

	memset(user, 0, sizeof(*user));
	user->number = (int64_t) (set - 1) * option.users + index;
	random = random_for(1, (uint64_t) user->number);
	user->user_id = 12474 + 17 * user->number;
	user->device_id = 102043 + 13 * user->number;
	{
		/* an odd factor keeps 40 bits distinct */
		uint64_t	mixed = ((uint64_t) user->number * UINT64_C(0x9e3779b97f4a7c15) + option.seed)
			& UINT64_C(0xffffffffff);

		snprintf(user->mac_address, sizeof(user->mac_address), "02:%02x:%02x:%02x:%02x:%02x",
				 (int) (mixed >> 32) & 255, (int) (mixed >> 24) & 255, (int) (mixed >> 16) & 255,
				 (int) (mixed >> 8) & 255, (int) mixed & 255);
	}
	user->registered = base - DAY + index * spacing + random_between(&random, 0, 59);
	user->heart = random_for(5, (uint64_t) user->number);
	user->rate = 650;
	plan_workouts(user, index, set, base + 2 * DAY, quota);
	plan_events(user, index, set, (double) (base + index * spacing));
	user->next_second = user->span[0].begin;
}

/* peek_user gives the time of a user's next message, or infinity. */
static double
peek_user(const User *user)
{
	double		time = 1e300;

	if (user->next_event < user->events)
		time = user->event[user->next_event].time;
	if (user->next_span < user->spans && (double) user->next_second < time)
		time = (double) user->next_second;
	return time;
}

static void
send_next(User *user, int set)
{
	Message		message;
	double		time = peek_user(user);

	memset(&message, 0, offsetof(Message, value));
	if (user->next_event < user->events && user->event[user->next_event].time <= time)
	{
		const Event *event = &user->event[user->next_event++];

		message.topic = event->topic;
		message.key = user->user_id;
		if (event->topic == TOPIC_USER_INFO)
			say_user_info(&message, user, event);
		else
			say_workout(&message, user, event);
	}
	else
	{
		message.topic = TOPIC_BPM;
		message.key = user->device_id;
		say_bpm(&message, user, user->next_second);
		if (++user->next_second >= user->span[user->next_span].end &&
			++user->next_span < user->spans)
			user->next_second = user->span[user->next_span].begin;
	}
	message.partition = (int) (message.key % option.partitions);
	{
		/* of this message alone, so that faults of others leave it as it is */
		Random		random = random_for(11, (uint64_t) (message.key ^ (int64_t) (time * 1000)));

		message.timestamp = (int64_t) (time * 1000) + random_between(&random, 3, 40);
		message.nested = random_chance(&random, 0.1);
	}
	pass_message(&message, set);
}

/* ------------------------------------------------------------------ a set */

static void
sift_down(User **heap, int64_t n, int64_t i)
{
	for (;;)
	{
		int64_t		least = i;

		for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
		{
			double		c = peek_user(heap[child]);
			double		l = peek_user(heap[least]);

			if (c < l || (c == l && heap[child]->number < heap[least]->number))
				least = child;
		}
		if (least == i)
			return;

		User	   *swap = heap[i];

		heap[i] = heap[least];
		heap[least] = swap;
		i = least;
	}
}

/* generate_messages merges the streams of all users by time. */
static void
generate_messages(User *users, int set)
{
	User	  **heap = malloc(sizeof(User *) * (size_t) option.users);
	int64_t		n = option.users;

	if (heap == NULL)
		fail("out of memory");
	for (int64_t i = 0; i < n; i++)
		heap[i] = &users[i];
	for (int64_t i = n / 2 - 1; i >= 0; i--)
		sift_down(heap, n, i);
	begin_messages(set);
	while (n > 0 && peek_user(heap[0]) < 1e300)
	{
		send_next(heap[0], set);
		sift_down(heap, n, 0);
	}
	release_messages(set);
	free(heap);
}

static void
print_broken_row(FILE *file, Random *random)
{
	switch (random_between(random, 0, 3))
	{
		case 0:					/* too few fields */
			fputs("02:00:00:00:00\n", file);
			break;
		case 1:					/* too many fields */
			fputs("1,2,3,4,5,6,7,8\n", file);
			break;
		case 2:					/* no numbers */
			fputs("x,y,z,w\n", file);
			break;
		default:				/* no number again, and a quoted line break */
			fputs("\"a\nb\",one,two,three\n", file);
			break;
	}
}

/*
 * write_registered_users writes the users of one set: those who are not late
 * ("pass" 0) or those who are ("pass" 1).  The file exists only if it has rows.
 */
static void
write_registered_users(const User *users, int set, int pass)
{
	Random		random = random_for(7, (uint64_t) set);
	Random		broken = random_for(8, (uint64_t) set);
	FILE	   *file = NULL;
	char		name[64];

	snprintf(name, sizeof(name), "set_%04d%s.csv", set, pass == 0 ? "" : "_late");
	for (int64_t i = 0; i < option.users; i++)
	{
		bool		late = random_chance(&random, option.late);
		bool		doubled = random_chance(&random, option.duplicate);

		if (late != (pass == 1))
			continue;
		if (file == NULL)
		{
			file = open_file("registered_users", name);
			fputs("user_id,device_id,mac_address,registration_timestamp\n", file);
		}
		if (pass == 0 && random_chance(&broken, option.broken))
		{
			print_broken_row(file, &broken);
			count.broken_registered_users++;
		}
		for (int copy = 0; copy <= doubled; copy++)
		{
			fprintf(file, "%" PRId64 ",%" PRId64 ",%s,%" PRId64 "\n", users[i].user_id,
					users[i].device_id, users[i].mac_address, users[i].registered);
			count.registered_users++;
		}
	}
	if (file != NULL)
		close_file(file);
}

/*
 * write_gym_logins writes the visits of one set.  A late visit stands in the
 * first file without its logout, or with one that is too early, and comes again
 * in the second file.
 */
static void
write_gym_logins(const User *users, int set, int pass)
{
	Random		random = random_for(9, (uint64_t) set);
	Random		broken = random_for(10, (uint64_t) set);
	FILE	   *file = NULL;
	char		name[64];

	snprintf(name, sizeof(name), "set_%04d%s.csv", set, pass == 0 ? "" : "_late");
	for (int64_t i = 0; i < option.users; i++)
		for (int j = 0; j < users[i].workouts; j++)
		{
			const Workout *visit = &users[i].workout[j];
			bool		late = random_chance(&random, option.late);
			bool		open = random_chance(&random, 0.5);
			bool		doubled = random_chance(&random, option.duplicate);

			if (pass == 1 && !late)
				continue;
			if (file == NULL)
			{
				file = open_file("gym_logins", name);
				fputs("mac_address,gym,login,logout\n", file);
			}
			if (pass == 0 && random_chance(&broken, option.broken))
			{
				print_broken_row(file, &broken);
				count.broken_gym_logins++;
			}
			for (int copy = 0; copy <= doubled; copy++)
			{
				fprintf(file, "%s,%d,%" PRId64 ",", users[i].mac_address, visit->gym, visit->login);
				if (pass == 1 || !late)
					fprintf(file, "%" PRId64 "\n", visit->logout);
				else if (open)
					fputs("\n", file);
				else
					fprintf(file, "%" PRId64 "\n", visit->login + (visit->start - visit->login + 1) / 2);
				count.gym_logins++;
			}
		}
	if (file != NULL)
		close_file(file);
}

static void
generate_set(int set)
{
	User	   *users = malloc(sizeof(User) * (size_t) option.users);

	if (users == NULL)
		fail("out of memory");
	for (int64_t i = 0; i < option.users; i++)
		plan_user(&users[i], i, set);
	writing = set >= option.first_set;
	if (writing && option.csv)
		for (int pass = 0; pass < 2; pass++)
		{
			write_registered_users(users, set, pass);
			write_gym_logins(users, set, pass);
		}
	if (option.messages)
		generate_messages(users, set);
	free(users);
}

/* ------------------------------------------------------------ command line */

static void
print_usage(FILE *file)
{
	fputs("Usage: generate [OPTION]... DIRECTORY\n"
		  "Writes the sources of the fitness pipeline: DIRECTORY/registered_users/*.csv,\n"
		  "DIRECTORY/gym_logins/*.csv and DIRECTORY/kafka_multiplex/*.json.\n\n"
		  "  --seed N          other seed, other data (1)\n"
		  "  --sets N          number of sets (1)\n"
		  "  --first-set N     number of the first set (1)\n"
		  "  --users N         users in a set (5)\n"
		  "  --bpm N           heart rates in a set (253801 for 5 users)\n"
		  "  --partitions N    partitions of each topic (1)\n"
		  "  --lines N         messages in a file (50000)\n"
		  "  --late R          share of records that come late, 0 to 1 (0)\n"
		  "  --out-of-order R  share of messages that change places with others (0)\n"
		  "  --duplicate R     share of records that come twice (0)\n"
		  "  --broken R        broken records for each good one (0)\n"
		  "  --deletes R       share of users that are deleted at the end (0)\n"
		  "  --only WHAT       csv or messages\n"
		  "  --stdout          messages go to standard output, one JSON object a line\n"
		  "Prints what it wrote to standard error.\n", file);
}

static double
parse_rate(const char *name, const char *text)
{
	char	   *end;
	double		rate = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(rate >= 0 && rate <= 1))
		fail("--%s is \"%s\" and must be between 0 and 1", name, text);
	return rate;
}

static int64_t
parse_number(const char *name, const char *text, int64_t low, int64_t high)
{
	char	   *end;
	long long	number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (*text == '\0' || *end != '\0' || errno != 0 || number < low || number > high)
		fail("--%s is \"%s\" and must be between %" PRId64 " and %" PRId64, name, text, low, high);
	return number;
}

static void
set_option(const char *name, const char *text)
{
	if (strcmp(name, "seed") == 0)
		option.seed = (uint64_t) parse_number(name, text, 0, INT64_MAX);
	else if (strcmp(name, "sets") == 0)
		option.sets = (int) parse_number(name, text, 0, 9999);
	else if (strcmp(name, "first-set") == 0)
		option.first_set = (int) parse_number(name, text, 1, 9999);
	else if (strcmp(name, "users") == 0)
		option.users = parse_number(name, text, 1, 10000000);
	else if (strcmp(name, "bpm") == 0)
		option.bpm = parse_number(name, text, 0, INT64_MAX / 2);
	else if (strcmp(name, "partitions") == 0)
		option.partitions = (int) parse_number(name, text, 1, 1000);
	else if (strcmp(name, "lines") == 0)
		option.lines = parse_number(name, text, 1, INT64_MAX);
	else if (strcmp(name, "late") == 0)
		option.late = parse_rate(name, text);
	else if (strcmp(name, "out-of-order") == 0)
		option.out_of_order = parse_rate(name, text);
	else if (strcmp(name, "duplicate") == 0)
		option.duplicate = parse_rate(name, text);
	else if (strcmp(name, "broken") == 0)
		option.broken = parse_rate(name, text);
	else if (strcmp(name, "deletes") == 0)
		option.deletes = parse_rate(name, text);
	else if (strcmp(name, "stdout") == 0)
		option.to_stdout = true;
	else if (strcmp(text, "csv") == 0)
		option.messages = false;
	else if (strcmp(text, "messages") == 0)
		option.csv = false;
	else
		fail("--only is \"%s\" and must be csv or messages", text);
}

static void
parse_command_line(int argc, char **argv)
{
	static const char *const names[] = {"seed", "sets", "first-set", "users", "bpm", "partitions",
		"lines", "late", "out-of-order", "duplicate", "broken", "deletes", "only", "stdout", "help"};
	struct option known[LENGTH(names) + 1];
	int			found;
	int			i;

	memset(known, 0, sizeof(known));
	for (i = 0; i < LENGTH(names); i++)
	{
		known[i].name = names[i];
		known[i].has_arg = strcmp(names[i], "stdout") == 0 || strcmp(names[i], "help") == 0 ?
			no_argument : required_argument;
	}
	while ((found = getopt_long(argc, argv, "", known, &i)) != -1)
	{
		if (found == '?')
		{
			print_usage(stderr);
			exit(2);
		}
		if (strcmp(names[i], "help") == 0)
		{
			print_usage(stdout);
			exit(0);
		}
		set_option(names[i], optarg);
	}
	if (optind != argc - 1)
	{
		print_usage(stderr);
		exit(2);
	}
	option.directory = argv[optind];
}

int
main(int argc, char **argv)
{
	parse_command_line(argc, argv);
	if (option.csv)
	{
		make_directory("registered_users");
		make_directory("gym_logins");
	}
	if (option.messages && !option.to_stdout)
		make_directory("kafka_multiplex");
	begin_topics();
	for (int set = 1; set < option.first_set + option.sets; set++)
		generate_set(set);
	if (option.to_stdout && (ferror(stdout) || fflush(stdout) != 0))
		fail("could not write to standard output: %s", strerror(errno));
	fprintf(stderr, "registered_users=%" PRId64 " gym_logins=%" PRId64
			" user_info=%" PRId64 " workout=%" PRId64 " bpm=%" PRId64
			" broken_registered_users=%" PRId64 " broken_gym_logins=%" PRId64
			" broken_user_info=%" PRId64 " broken_workout=%" PRId64 " broken_bpm=%" PRId64 "\n",
			count.registered_users, count.gym_logins, count.messages[TOPIC_USER_INFO],
			count.messages[TOPIC_WORKOUT], count.messages[TOPIC_BPM],
			count.broken_registered_users, count.broken_gym_logins, count.broken[TOPIC_USER_INFO],
			count.broken[TOPIC_WORKOUT], count.broken[TOPIC_BPM]);
	return 0;
}
