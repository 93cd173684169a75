/*
 * rescued_key.h
 *	  Under which keys the column for rescued data keeps what.
 *
 * Invariant: different names of fields have different keys, and none has a key
 * under which something is said of the record.
 */
#ifndef LH_RESCUED_KEY_H
#define LH_RESCUED_KEY_H

#include "c.h"

/* what is said of a record, of a file or of a topic; ended by NULL */
extern const char *const lh_rescued_members[];

/*
 * Is the field kept with one more underscore in front of its name?  So it is if
 * its name is one of ours, or one of ours with more underscores.
 */
extern bool lh_rescued_key_is_longer(const char *name, int length);

#endif							/* LH_RESCUED_KEY_H */
