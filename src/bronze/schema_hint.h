/*
 * schema_hint.h
 *	  "name type, name type": columns whose type a person gives.
 */
#ifndef LH_SCHEMA_HINT_H
#define LH_SCHEMA_HINT_H

#include "nodes/pg_list.h"

typedef struct LhHint
{
	char	   *name;
	char	   *type;			/* as format_type writes it */
} LhHint;

/* a list of LhHint in the current context; NIL for NULL. Raises 22023, 42601,
 * 42704, 0A000 */
extern List *lh_schema_hints_parse(const char *text);

/* the hint for a name, or NULL */
extern const LhHint *lh_schema_hints_find(const List *hints, const char *name, int length);

#endif							/* LH_SCHEMA_HINT_H */
