/*
 * schema_registry.h
 *	  Schemas of values by their number, from a schema registry.
 */
#ifndef LH_SCHEMA_REGISTRY_H
#define LH_SCHEMA_REGISTRY_H

#include "postgres.h"

#include "avro/avro_schema.h"
#include "datatype/timestamp.h"
#include "error.h"

/* options of a server, and of its user mappings */
#define LH_REGISTRY_URL "schema.registry.url"
#define LH_REGISTRY_CA "schema.registry.ssl.ca.pem"
#define LH_REGISTRY_USERNAME "schema.registry.username"
#define LH_REGISTRY_PASSWORD "schema.registry.password"

/* bytes before a value: 0, and the number of its schema */
#define LH_REGISTRY_HEADER 5

typedef struct LhSchemaRegistry LhSchemaRegistry;

/*
 * lh_schema_registry_open makes a registry for a server's values as "role" reads
 * them; NULL if the server names none.  It lives in "context", together with what
 * it learns, and reaches nobody yet.  In a transaction; raises as
 * lh_server_check_kafka does.
 */
extern LhSchemaRegistry *lh_schema_registry_open(Oid server, Oid role, MemoryContext context);

/*
 * lh_schema_registry_knows tells whether a value can be judged without a question
 * to the registry.  A refusal that was some seconds old at the time "at" does not
 * count any more; 0 = any does.
 */
extern bool lh_schema_registry_knows(LhSchemaRegistry *registry, const char *value, Size length,
									 TimestampTz at);

/*
 * lh_schema_registry_ask asks for the schema of a value, in or outside of a
 * transaction.  Waits for some seconds at most, looking for interrupts.  False with
 * *error (08006 no answer, 28000 credentials refused, 08P01 an answer that is none)
 * if it has to be asked again; a registry that has no such schema has answered.
 */
extern bool lh_schema_registry_ask(LhSchemaRegistry *registry, const char *value, Size length,
								   LhError *error);

/* forgets what was learnt if that is much */
extern void lh_schema_registry_trim(LhSchemaRegistry *registry);

/*
 * lh_schema_registry_find gives the schema of a value, in a transaction; NULL with
 * *error if the value has no header, or no usable schema.
 */
extern LhAvroSchema *lh_schema_registry_find(LhSchemaRegistry *registry, const char *value,
											 Size length, LhError *error);

#endif							/* LH_SCHEMA_REGISTRY_H */
