/*
 * partition_path.h
 *	  Values that stand in the names of folders: key=value.
 */
#ifndef LH_PARTITION_PATH_H
#define LH_PARTITION_PATH_H

#include "utils/jsonb.h"

/* names in option "partition_columns", ended by NULL; raises 22023 */
extern char **lh_partition_names(Jsonb *options);

/*
 * The value of a key in a path, in the current context; NULL if the path does
 * not have it or says that it is null.
 */
extern char *lh_partition_value(const char *path, const char *name);

#endif							/* LH_PARTITION_PATH_H */
