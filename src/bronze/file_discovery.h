/*
 * file_discovery.h
 *	  What looking for the files of a source comes to: table lakehouse.discovery.
 */
#ifndef LH_FILE_DISCOVERY_H
#define LH_FILE_DISCOVERY_H

#include "datatype/timestamp.h"

#include "source/file_list.h"

/* What looks came to since it was last stored. */
typedef struct LhDiscoveryNews
{
	int64		listings;
	int64		looks;			/* at what the system told of */
	int64		looked_at;		/* names in these */
	int64		found_told;		/* files new to the ledger */
	int64		found_listed;
	int64		found_backfill; /* of these, though all is watched */
	bool		watched;		/* from here on: of the last listing */
	int			directories;
	TimestampTz listed;
	int64		listing_us;
	LhListCounts counts;
} LhDiscoveryNews;

/* adds the news to the table, if there are any, and clears them */
extern void lh_discovery_store(int32 source_id, LhDiscoveryNews *news);

#endif							/* LH_FILE_DISCOVERY_H */
