/*
 * guc.c
 *	  Every setting of lakehouse, sorted by name.
 *
 * A setting that bounds resources of the server may be set by a superuser or in
 * the configuration file only; what shapes one session's work may be set by
 * anybody.
 */
#include "postgres.h"

#include <limits.h>

#include "fault.h"
#include "guc.h"
#include "utils/guc.h"
#include "utils/varlena.h"

char	   *lh_allowed_directories = NULL;
int			lh_batch_bytes = 64 * 1024;
int			lh_batch_files = 1000;
int			lh_batch_rows = 1000000;
int			lh_kafka_linger_ms = 10;
int			lh_kafka_read_ahead = 16 * 1024;
int			lh_kafka_refresh_interval = 10000;
int			lh_launcher_naptime = 5000;
int			lh_max_decompression_ratio = 1000;
int			lh_max_record_size = 64 * 1024;
int			lh_max_workers = 8;
int			lh_poll_interval = 1000;
int			lh_schema_lock_timeout = 1000;
int			lh_widen_max_rows = 1000000;

/*
 * check_directories accepts a list of absolute paths.
 */
static bool
check_directories(char **value, void **extra, GucSource source)
{
	List	   *directories = NIL;
	ListCell   *cell;

	if (!SplitDirectoriesString(pstrdup(*value), ',', &directories))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach(cell, directories)
	{
		if (is_absolute_path((char *) lfirst(cell)) && !path_contains_parent_reference(lfirst(cell)))
			continue;
		GUC_check_errdetail("\"%s\" is not an absolute path without \"..\".", (char *) lfirst(cell));
		return false;
	}
	return true;
}

/*
 * lh_guc_init defines the settings.  Names outside this list under the prefix
 * "lakehouse" are refused from then on.
 */
void
lh_guc_init(void)
{
	DefineCustomStringVariable("lakehouse.allowed_directories",
							   "Directories beneath which roles that are no superusers may name directories.",
							   NULL, &lh_allowed_directories, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, check_directories, NULL, NULL);
	DefineCustomIntVariable("lakehouse.batch_bytes",
							"Input size after which an ingesting worker commits.",
							NULL, &lh_batch_bytes, 64 * 1024, 64, INT_MAX,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.batch_files",
							"Number of files after which an ingesting worker commits.",
							NULL, &lh_batch_files, 1000, 1, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.batch_rows",
							"Number of records after which an ingesting worker commits.",
							NULL, &lh_batch_rows, 1000000, 1, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
#ifdef LH_FAULTS
	DefineCustomStringVariable("lakehouse.fault",
							   "Fault point to trigger (test builds only): point:action[:pass].",
							   NULL, &lh_fault, "", PGC_SUSET, 0, NULL, NULL, NULL);
#endif
	DefineCustomIntVariable("lakehouse.kafka_linger_ms",
							"Time that a Kafka record may wait for others to share its commit.",
							NULL, &lh_kafka_linger_ms, 10, 0, 60000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.kafka_read_ahead",
							"Bytes of Kafka records that one reader may hold before they are stored.",
							NULL, &lh_kafka_read_ahead, 16 * 1024, 1024, 1024 * 1024,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.kafka_refresh_interval",
							"Time between two looks of a continuous Kafka source for new partitions.",
							NULL, &lh_kafka_refresh_interval, 10000, 100, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.launcher_naptime",
							"Time between two looks of the launcher for databases that have the extension.",
							NULL, &lh_launcher_naptime, 5000, 100, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.max_decompression_ratio",
							"How many times its size a compressed file may decompress to; 0 for any.",
							NULL, &lh_max_decompression_ratio, 1000, 0, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.max_record_size",
							"Size above which a record becomes a reject.",
							NULL, &lh_max_record_size, 64 * 1024, 1, 512 * 1024,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.max_workers",
							"Background workers that one database may use at once.",
							NULL, &lh_max_workers, 8, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.poll_interval",
							"Time between two listings of a continuous source's directory.",
							NULL, &lh_poll_interval, 1000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.schema_lock_timeout",
							"Time that an attempt to add or widen a column of a target waits for the table's lock.",
							NULL, &lh_schema_lock_timeout, 1000, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("lakehouse.widen_max_rows",
							"Rows of a table up to which sources may rewrite it with a wider type of a column; -1 for any.",
							NULL, &lh_widen_max_rows, 1000000, -1, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("lakehouse");
}
