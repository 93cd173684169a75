/*
 * guc.h
 *	  Settings of lakehouse; docs/settings.md describes each.
 */
#ifndef LH_GUC_H
#define LH_GUC_H

extern char *lh_allowed_directories;	/* what roles that are no superusers may name */
extern int	lh_batch_bytes;		/* kB: a worker commits after this much input */
extern int	lh_batch_files;		/* a worker commits after this many files */
extern int	lh_batch_rows;		/* a worker commits after this many records */
extern int	lh_kafka_linger_ms; /* a Kafka record may wait so long for others */
extern int	lh_kafka_read_ahead;	/* kB of records that one reader may hold */
extern int	lh_kafka_refresh_interval;	/* ms between looks for new partitions */
extern int	lh_launcher_naptime;	/* ms between looks for new databases */
extern int	lh_max_decompression_ratio; /* of a compressed file; 0 = any */
extern int	lh_max_record_size; /* kB: a longer record becomes a reject */
extern int	lh_max_workers;		/* background workers of one database */
extern int	lh_poll_interval;	/* ms between listings of a directory */
extern int	lh_schema_lock_timeout;	/* ms to wait for a table to add columns to */
extern int	lh_widen_max_rows;	/* of a table that sources may rewrite; -1 = any */

extern void lh_guc_init(void);

#endif							/* LH_GUC_H */
