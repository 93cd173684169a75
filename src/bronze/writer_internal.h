/*
 * writer_internal.h
 *	  What the files of the writer share; nobody else includes it.
 *
 * Three lifetimes: the writer (one batch of an ingest, in one transaction), the
 * session (executor state: opened and closed within one subtransaction, or
 * within one load when nothing can raise), and the buffered rows.
 */
#ifndef LH_WRITER_INTERNAL_H
#define LH_WRITER_INTERNAL_H

#include "access/heapam.h"
#include "commands/trigger.h"
#include "executor/execPartition.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"

#include "bronze/reject.h"
#include "bronze/writer.h"

/* rows that are buffered before they are inserted together */
#define BUFFER_ROWS 1000

/* memory of buffered rows that makes the writer insert earlier */
#define BUFFER_BYTES (8 * 1024 * 1024)

/* how rows of a table become tuples: writer_tuple.c */
typedef struct WriteForm WriteForm;

/* Rows waiting for one table: the target or one of its leaf partitions. */
typedef struct WriteBuffer
{
	ResultRelInfo *relation;
	BulkInsertState bulk;
	int			count;
	TupleTableSlot **slots;		/* made when first needed */
	int		   *records;		/* for each slot: number of its record */
	bool		before_row;		/* has BEFORE ROW triggers: one row at a time */
	bool		after_row;		/* has AFTER ROW triggers */
	bool		generated;		/* has stored generated columns */
	const WriteForm *form;		/* of slots made by writer_tuple.c; or NULL */
	bool		constraints;	/* the executor must check constraints */
	bool		partition_check;	/* ... and the partition's bounds */
	int			indexes;		/* all indexes */
	int			row_indexes;	/* those that need an entry for every row */
} WriteBuffer;

/* What is being done to a record when an error is raised. */
typedef enum WritePhase
{
	PHASE_OPEN,					/* nothing yet: no record is to blame */
	PHASE_CONVERT,
	PHASE_STORE
} WritePhase;

typedef struct WriteSession
{
	MemoryContext context;
	MemoryContext row_context;	/* values of buffered rows; reset by a flush */
	MemoryContext kept;			/* the executor's memory for a row, if buffered
								 * rows have values there: reset by a flush as
								 * well; or NULL */
	EState	   *estate;
	ResultRelInfo *root;
	ModifyTableState *modify;
	PartitionTupleRouting *routing; /* NULL = not partitioned */
	TransitionCaptureState *capture;
	TupleTableSlot *root_slot;	/* a row before routing */
	List	   *buffers;
	WriteBuffer *root_buffer;	/* NULL = partitioned */
	CommandId	command;
	int			buffered;
	int64		stored;
	Datum	   *values;			/* row template: defaults */
	bool	   *nulls;
	ExprState **defaults;		/* for each of writer->row_defaults */
	int			current;		/* record in hand, -1 = none in particular */
	WritePhase	phase;
	const char *column;			/* while converting: the one in hand, or NULL */
	int64		rescued;		/* rows with rescued data, as "stored" */
} WriteSession;

/* A default that must be evaluated. */
typedef struct WriteDefault
{
	int			column;			/* from 0 */
	Expr	   *expression;
} WriteDefault;

/* Pages of the target that were made in advance and hold nothing yet. */
typedef struct WritePages
{
	BlockNumber next;
	BlockNumber end;			/* behind the last one */
	BlockNumber filled;			/* pages that this writer put rows into, about */
} WritePages;

struct LhWriter
{
	MemoryContext context;
	Relation	relation;
	int32		source_id;
	int64		load_id;
	TupleDesc	tupdesc;		/* own copy */
	int			load_column;	/* from 0 */
	bool	   *fillable;
	int			not_null_count;
	int		   *not_null;		/* columns checked by us, from 0 */
	int			batch_default_count;
	WriteDefault *batch_defaults;	/* the same for all rows of a session */
	int			row_default_count;
	WriteDefault *row_defaults; /* volatile: evaluated for each row */
	bool		one_by_one;		/* a default may look at the table */
	WriteForm  *form;			/* of the target; NULL = it needs other slots */
	bool		relation_raises;	/* something of the table can raise */
	bool		may_raise;		/* a conversion can raise */
	int			rescued_column; /* for rescued data, from 1; 0 = none */
	LhRescueCounts *rescue_counts;	/* or NULL */
	List	   *deferred;		/* RangeVars of deferred constraints */
	BulkInsertState bulk;		/* of the target itself */
	BufferAccessStrategy ring;	/* for it, when it has filled many buffers */
	WritePages	pages;			/* likewise */
	LhRejects  *rejects;
	LhWriteCounts counts;
	WriteSession *session;		/* open one, or NULL */
};

/* value of a column with a volatile default until somebody fills it */
extern const char lh_write_unfilled;
#define UNFILLED PointerGetDatum(&lh_write_unfilled)

/* writer_profile.c */
extern void lh_write_profile(LhWriter *writer);

extern bool lh_write_form_suits(Relation relation);

/* writer_tuple.c */
extern WriteForm *lh_write_form_create(TupleDesc tupdesc);
extern TupleTableSlot *lh_write_form_slot(TupleDesc tupdesc, const WriteForm *form);
extern Size lh_write_form_length(TupleTableSlot *slot);

/* writer_page.c */
extern void lh_write_insert(LhWriter *writer, WriteBuffer *buffer);
extern void lh_write_pages_release(LhWriter *writer);

/* writer_session.c */
extern void lh_write_session_open(LhWriter *writer);
extern void lh_write_session_close(LhWriter *writer);
extern void lh_write_session_drop(LhWriter *writer);

/* writer_buffer.c */
extern WriteBuffer *lh_write_buffer_create(LhWriter *writer, ResultRelInfo *relation);
extern void lh_write_buffer_finish(LhWriter *writer, WriteBuffer *buffer);
extern void lh_write_range(LhWriter *writer, const LhRecords *records, int first, int last);

#endif							/* LH_WRITER_INTERNAL_H */
