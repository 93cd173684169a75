/*
 * avro_schema.h
 *	  An Avro schema: its JSON text made a tree that values are read by.
 */
#ifndef LH_AVRO_SCHEMA_H
#define LH_AVRO_SCHEMA_H

#include "error.h"
#include "utils/jsonb.h"

typedef struct LhAvroSchema LhAvroSchema;

/* What a value is, and how it is written; those of logical types are their own. */
typedef enum LhAvroKind
{
	LH_AVRO_NULL,
	LH_AVRO_BOOLEAN,
	LH_AVRO_INT,
	LH_AVRO_LONG,
	LH_AVRO_FLOAT,
	LH_AVRO_DOUBLE,
	LH_AVRO_BYTES,
	LH_AVRO_STRING,
	LH_AVRO_FIXED,
	LH_AVRO_ENUM,
	LH_AVRO_ARRAY,
	LH_AVRO_MAP,
	LH_AVRO_UNION,
	LH_AVRO_RECORD,
	LH_AVRO_DECIMAL_BYTES,
	LH_AVRO_DECIMAL_FIXED,
	LH_AVRO_DATE,				/* int */
	LH_AVRO_TIME_INT,
	LH_AVRO_TIME_LONG,
	LH_AVRO_TIMESTAMP,			/* long, since 1970 in UTC */
	LH_AVRO_LOCAL_TIMESTAMP,	/* long, since 1970 in no zone */
	LH_AVRO_UUID,				/* fixed(16) */
	LH_AVRO_DURATION			/* fixed(12) */
} LhAvroKind;

/* A piece of JSON text in UTF-8. */
typedef struct LhAvroText
{
	const char *data;
	int			length;
} LhAvroText;

/* One type.  A named one that is used again, also within itself, is the same node. */
typedef struct LhAvroNode LhAvroNode;

struct LhAvroNode
{
	LhAvroKind	kind;
	int			size;			/* FIXED and decimals in it: bytes */
	int			scale;			/* decimals: digits behind the point; times: of the
								 * fraction of a second */
	int			least;			/* bytes that each value takes at least */
	int			count;			/* of fields, branches or symbols */
	LhAvroNode **children;		/* fields, branches, or the one of items or values */
	const char **names;			/* RECORD: of the fields, in the server's encoding */
	LhAvroText *texts;			/* RECORD: "name": of each field; ENUM: each symbol
								 * with its quotes */
};

/* makes an empty schema, which lives in a context of its own beneath "context" */
extern LhAvroSchema *lh_avro_schema_create(MemoryContext context);
extern void lh_avro_schema_free(LhAvroSchema *schema);

/*
 * lh_avro_schema_add adds the JSON of a schema, which may use the types that
 * those added before have defined; the last one is what values have.  Bad JSON
 * and bad schemas are soft errors, with the place in them.  The text is in the
 * server's encoding.
 */
extern bool lh_avro_schema_add(LhAvroSchema *schema, const char *text, int length, LhError *error);

/* the same for JSON that is part of an option */
extern bool lh_avro_schema_add_value(LhAvroSchema *schema, const JsonbValue *value, LhError *error);

extern const LhAvroNode *lh_avro_schema_root(const LhAvroSchema *schema);

/* can a value be a record, or a map, whose members columns could take? */
extern bool lh_avro_schema_has_members(const LhAvroSchema *schema);

/* bytes of memory that it takes */
extern Size lh_avro_schema_size(const LhAvroSchema *schema);

#endif							/* LH_AVRO_SCHEMA_H */
