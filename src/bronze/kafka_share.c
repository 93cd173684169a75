/*
 * kafka_share.c
 *	  Which worker of a Kafka source reads which partition: rows of
 *	  lakehouse.kafka_share.
 *
 * Only the scheduler writes these rows, and the workers look at nothing else
 * but who of them is alive, so all come to the same answer; while they do not
 * (one has not looked yet) the position, which is locked and compared, keeps
 * the slower one from writing.
 *
 * What a partition weighs is the number of records that it will bring in the
 * next minute: those that are waiting and those that came in the last one.
 * Partitions are moved only where that lowers by a tenth what the records wait
 * for, because each move makes two workers fetch again what they had read ahead.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"

#include "bronze/kafka_share.h"
#include "catalog/catalog_access.h"

#define MOST_WORKERS 64

/* what is left of the cost when partitions move, at most */
#define WORTH_MOVING 0.9

/* less than so many records a minute are not worth a move */
#define WORTH_WEIGHT 1000.0

/* partitions that move at once, at most */
#define MOST_MOVES 1000

/* One partition while partitions are divided. */
typedef struct Portion
{
	char	   *topic;
	int32		partition;
	int			given;			/* as its row says, -1 = has none */
	int			before;			/* who reads it now */
	int			worker;			/* who shall */
	double		weight;
} Portion;

/* What the workers have; those that are not alive have count 0 and no place. */
typedef struct Division
{
	Portion    *portions;
	int			count;
	uint64		alive;
	double		load[MOST_WORKERS];
	int			has[MOST_WORKERS];
} Division;

static bool
is_alive(uint64 alive, int worker)
{
	return worker >= 0 && worker < MOST_WORKERS && (alive & (UINT64CONST(1) << worker)) != 0;
}

int
lh_kafka_share_read(int32 source_id, LhKafkaShare **result)
{
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};
	MemoryContext context = CurrentMemoryContext;
	LhCatalog	catalog;
	LhKafkaShare *shares;
	uint64		count;

	lh_catalog_begin(&catalog);
	count = lh_catalog_run("SELECT topic, \"partition\", worker FROM lakehouse.kafka_share"
						   " WHERE source_id OPERATOR(pg_catalog.=) $1"
						   " ORDER BY topic COLLATE \"C\", \"partition\"",
						   1, types, values, NULL);
	shares = MemoryContextAlloc(context, sizeof(LhKafkaShare) * Max(count, 1));
	for (uint64 row = 0; row < count; row++)
	{
		shares[row].topic = lh_catalog_text(row, 1, context);
		shares[row].partition = (int32) lh_catalog_int64(row, 2, 0);
		shares[row].worker = (int) lh_catalog_int64(row, 3, 0);
	}
	lh_catalog_end(&catalog);
	*result = shares;
	return (int) count;
}

/*
 * follows gives the worker of a partition that was given to none, or to one
 * that is not there: the partitions of each topic go round.
 */
static int
follows(uint64 alive, const char *topic, int32 partition)
{
	uint32		workers = pg_popcount64(alive);
	uint32		hash = DatumGetUInt32(hash_any((const unsigned char *) topic, (int) strlen(topic)));
	uint32		place = (hash % workers + partition % workers) % workers;

	while (place-- > 0)
		alive &= alive - 1;
	return pg_rightmost_one_pos64(alive);
}

int
lh_kafka_share_owner(const LhKafkaShare *shares, int count, uint64 alive,
					 const char *topic, int32 partition)
{
	int			low = 0;
	int			high = count - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(shares[middle].topic, topic);

		if (order == 0)
			order = shares[middle].partition < partition ? -1 : shares[middle].partition > partition;
		if (order == 0 && is_alive(alive, shares[middle].worker))
			return shares[middle].worker;
		if (order == 0)
			break;
		if (order < 0)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return follows(alive, topic, partition);
}

static const char weigh_statement[] =
"SELECT o.topic, o.\"partition\", s.worker,"
" CASE WHEN o.sqlstate IS NOT NULL THEN 0 ELSE"
"  (LEAST(GREATEST(o.end_offset OPERATOR(pg_catalog.-) o.next_offset, 0), 1000000000000)"
"   OPERATOR(pg_catalog.+) pg_catalog.round(60.0::pg_catalog.float8 OPERATOR(pg_catalog.*) o.row_rate"
"   OPERATOR(pg_catalog.*) pg_catalog.exp(GREATEST(-700::pg_catalog.float8, LEAST(0::pg_catalog.float8,"
"     pg_catalog.date_part('epoch', o.updated OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())"
"     OPERATOR(pg_catalog./) 30.0::pg_catalog.float8))))::pg_catalog.int8) END"
" FROM lakehouse.kafka_offset o LEFT JOIN lakehouse.kafka_share s"
" ON s.source_id OPERATOR(pg_catalog.=) o.source_id AND s.topic OPERATOR(pg_catalog.=) o.topic"
" AND s.\"partition\" OPERATOR(pg_catalog.=) o.\"partition\""
" WHERE o.source_id OPERATOR(pg_catalog.=) $1";

/*
 * weigh reads the partitions of a source, with what they weigh and who has them.
 */
static void
weigh(int32 source_id, uint64 alive, Division *division)
{
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};

	memset(division, 0, sizeof(Division));
	division->alive = alive;
	division->count = (int) lh_catalog_run(weigh_statement, 1, types, values, NULL);
	division->portions = palloc(sizeof(Portion) * Max(division->count, 1));
	for (int i = 0; i < division->count; i++)
	{
		Portion    *portion = &division->portions[i];

		portion->topic = lh_catalog_text(i, 1, CurrentMemoryContext);
		portion->partition = (int32) lh_catalog_int64(i, 2, 0);
		portion->given = (int) lh_catalog_int64(i, 3, -1);
		/* one that brings nothing has a place all the same */
		portion->weight = 1.0 + lh_catalog_int64(i, 4, 0);
		portion->before = portion->worker = is_alive(alive, portion->given) ? portion->given
			: follows(alive, portion->topic, portion->partition);
		division->load[portion->worker] += portion->weight;
		division->has[portion->worker]++;
	}
}

/*
 * cost_of is what a division costs: what a partition waits for on average, which
 * is all that its worker has to do, and what the busiest worker has to do, when
 * all is done.  So a heavy partition is left alone, and the rest is even.
 */
static double
cost_of(const Division *division)
{
	double		sum = 0;
	double		most = 0;

	for (int w = 0; w < MOST_WORKERS; w++)
	{
		sum += division->has[w] * division->load[w];
		most = Max(most, division->load[w]);
	}
	return sum / division->count + most;
}

/*
 * cost_after is the cost if a partition were moved to another worker; "others"
 * is the load of the busiest worker beside these two.
 */
static double
cost_after(const Division *division, double sum, double others, const Portion *portion, int to)
{
	int			from = portion->worker;
	double		less = division->load[from] - portion->weight;
	double		more = division->load[to] + portion->weight;

	sum += (division->has[from] - 1) * less + (division->has[to] + 1) * more
		- division->has[from] * division->load[from] - division->has[to] * division->load[to];
	return sum / division->count + Max(others, Max(less, more));
}

/*
 * move_best moves the partition whose move to the idlest worker lowers the cost
 * most; false if none does, by more than is worth it.
 */
static bool
move_best(Division *division)
{
	double		others[MOST_WORKERS] = {0};
	double		sum = 0;
	double		most = 0;
	double		best;
	Portion    *moved = NULL;
	int			to = pg_rightmost_one_pos64(division->alive);

	for (int w = 0; w < MOST_WORKERS; w++)
	{
		sum += division->has[w] * division->load[w];
		most = Max(most, division->load[w]);
		if (is_alive(division->alive, w) && division->load[w] < division->load[to])
			to = w;
	}
	for (int w = 0; w < MOST_WORKERS; w++)
		for (int o = 0; o < MOST_WORKERS; o++)
			if (o != w && o != to)
				others[w] = Max(others[w], division->load[o]);
	best = sum / division->count + most - 0.1 * most / division->count;
	for (int i = 0; i < division->count; i++)
	{
		Portion    *portion = &division->portions[i];
		double		cost;

		if (portion->worker == to)
			continue;
		cost = cost_after(division, sum, others[portion->worker], portion, to);
		if (cost < best)
		{
			best = cost;
			moved = portion;
		}
	}
	if (moved == NULL)
		return false;
	division->has[moved->worker]--;
	division->load[moved->worker] -= moved->weight;
	division->has[to]++;
	division->load[to] += moved->weight;
	moved->worker = to;
	return true;
}

/*
 * save writes the rows that are not there or say something else; true if a
 * partition has another worker now.
 */
static bool
save(int32 source_id, const Division *division)
{
	static const Oid types[] = {INT4OID, TEXTOID, INT4OID, INT4OID};
	Datum		values[4] = {Int32GetDatum(source_id)};
	bool		moved = false;

	for (int i = 0; i < division->count; i++)
	{
		const Portion *portion = &division->portions[i];

		moved |= portion->worker != portion->before;
		if (portion->worker == portion->given)
			continue;
		values[1] = CStringGetTextDatum(portion->topic);
		values[2] = Int32GetDatum(portion->partition);
		values[3] = Int32GetDatum(portion->worker);
		lh_catalog_run("INSERT INTO lakehouse.kafka_share (source_id, topic, \"partition\", worker)"
					   " VALUES ($1, $2, $3, $4) ON CONFLICT (source_id, topic, \"partition\")"
					   " DO UPDATE SET worker = excluded.worker",
					   4, types, values, NULL);
	}
	lh_catalog_run("DELETE FROM lakehouse.kafka_share s WHERE s.source_id OPERATOR(pg_catalog.=) $1"
				   " AND NOT EXISTS (SELECT FROM lakehouse.kafka_offset o WHERE o.source_id OPERATOR(pg_catalog.=) s.source_id"
				   " AND o.topic OPERATOR(pg_catalog.=) s.topic AND o.\"partition\" OPERATOR(pg_catalog.=) s.\"partition\")",
				   1, types, values, NULL);
	return moved;
}

/*
 * lh_kafka_share_divide divides anew where that is worth it; see the header.
 */
bool
lh_kafka_share_divide(int32 source_id, uint64 alive)
{
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(source_id)};
	Division	division;
	LhCatalog	catalog;
	double		before;
	bool		moved = false;

	lh_catalog_begin(&catalog);
	/* one that is being dropped, or defined anew, has no use for it */
	if (lh_catalog_run("SELECT 1 FROM lakehouse.source WHERE source_id OPERATOR(pg_catalog.=) $1"
					   " FOR KEY SHARE SKIP LOCKED", 1, types, values, NULL) > 0)
	{
		weigh(source_id, alive, &division);
		before = division.count > 0 ? cost_of(&division) : 0;
		for (int moves = 0; before > WORTH_WEIGHT && moves < MOST_MOVES; moves++)
			if (!move_best(&division))
				break;
		if (before > WORTH_WEIGHT && cost_of(&division) > WORTH_MOVING * before)
			for (int i = 0; i < division.count; i++)
				division.portions[i].worker = division.portions[i].before;
		if (division.count > 0)
			moved = save(source_id, &division);
	}
	lh_catalog_end(&catalog);
	return moved;
}
