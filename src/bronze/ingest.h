/*
 * ingest.h
 *	  A source being read into its bronze table, batch by batch.
 *
 * The caller (run_source, a background worker) owns the transactions.  An
 * LhIngest outlives them: it keeps the directory watch or the Kafka client, and
 * holds nothing that a rollback could make wrong, because each batch re-reads
 * its position from the catalog under the source's lock.
 */
#ifndef LH_INGEST_H
#define LH_INGEST_H

#include "datatype/timestamp.h"

typedef struct LhIngest LhIngest;

/* One row of lakehouse.source with its server. */
typedef struct LhSource
{
	int32		source_id;
	char	   *name;
	Oid			owner;
	Oid			server;			/* foreign server */
	bool		is_kafka;
	Oid			target;
	char	   *format;
	char	   *path;
	char	  **topics;			/* NULL-terminated */
	char	   *options;		/* json text */
	bool		continuous;
	char	   *paused;			/* reason, or NULL */
	char	   *home;

	/* not of the row: set by who reads it together with others */
	bool		shared;			/* several workers read the source at once */
	bool		follower;		/* this one leaves listing to another */
} LhSource;

/* Which of the workers of a shared source this one is. */
typedef struct LhShare
{
	int			worker;			/* its number, from 0 */
	uint64		alive;			/* a bit for each worker that reads the source; 0 =
								 * it is read alone */
	uint32		division;		/* goes up when its work was divided anew */
} LhShare;

typedef struct LhIngestCounts
{
	int64		loads;
	int64		files;
	int64		rows;
	int64		rejected;
	int64		bytes;
	int64		failed_files;	/* files set aside because of an error */
	int64		discovered;		/* entries of the ledger that a listing changed */
} LhIngestCounts;

typedef struct LhIngestRoutine
{
	/* in a transaction, as the source's owner */
	LhIngest   *(*open) (const LhSource *source, bool continuous);

	/*
	 * Waits up to timeout_ms for something to ingest; true if there is (or may
	 * be).  Opens no transaction.  Called inside the caller's transaction by
	 * run_source, outside of any by a worker.  With timeout_ms = 0 and
	 * continuous = false it waits just as long as it takes to know.
	 */
	bool		(*wait) (LhIngest *ingest, long timeout_ms);

	/* In a transaction, as the source's owner, source locked (shared with
	 * others if it is read so, but "alone" if the last batch asked for that):
	 * one bounded batch, counted in *counts; false when nothing was left. */
	bool		(*batch) (LhIngest *ingest, LhIngestCounts *counts);

	/* after the commit of a batch */
	void		(*committed) (LhIngest *ingest);

	/* after the rollback of a batch: forget what was read ahead */
	void		(*aborted) (LhIngest *ingest);

	void		(*close) (LhIngest *ingest);
} LhIngestRoutine;

struct LhIngest
{
	const LhIngestRoutine *routine;
	const LhSource *source;		/* in the ingest's own context */
	MemoryContext context;
	bool		alone;			/* the next batch must not run beside others */
	bool		stand_in;		/* set by the caller: a follower is to list, because
								 * the one whom it follows is busy */
	LhShare		share;			/* set by the caller of a shared source */
	LhIngest   *outer;			/* ingest whose batch this one's is a part of */
};

extern const LhIngestRoutine lh_file_ingest;
extern const LhIngestRoutine lh_kafka_ingest;

/* reads a source's definition into the current context; raises 42704 */
extern LhSource *lh_source_find(const char *name);
extern LhSource *lh_source_get(int32 source_id);

/* the same, but NULL if there is none */
extern LhSource *lh_source_get_if(int32 source_id);

/* why the source may not run now (paused, other home, target gone), or NULL */
extern char *lh_source_obstacle(const LhSource *source);
extern void lh_source_check_can_run(const LhSource *source);

/* as above, but find the routine, switch to the owner, take the lock */
extern LhIngest *lh_ingest_open(const LhSource *source, bool continuous);
extern bool lh_ingest_wait(LhIngest *ingest, long timeout_ms);
extern bool lh_ingest_batch(LhIngest *ingest, LhIngestCounts *counts);
extern void lh_ingest_committed(LhIngest *ingest);
extern void lh_ingest_aborted(LhIngest *ingest);
extern void lh_ingest_close(LhIngest *ingest);

/* does the source still exist, may it run, and is it defined as it was when the
 * ingest was opened?  If not, a batch does nothing: close, look, open again */
extern bool lh_ingest_is_current(const LhIngest *ingest);

/* reads everything present, in the caller's transaction */
extern void lh_ingest_run(const LhSource *source, LhIngestCounts *counts);

/* remembers success or failure in lakehouse.source_state (with back-off) */
extern void lh_source_succeeded(int32 source_id);
extern void lh_source_failed(int32 source_id, int sqlstate, const char *message);

#endif							/* LH_INGEST_H */
