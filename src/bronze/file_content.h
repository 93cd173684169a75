/*
 * file_content.h
 *	  Files that are known by their content: option identity = "content".
 */
#ifndef LH_FILE_CONTENT_H
#define LH_FILE_CONTENT_H

#include "bronze/file_ledger.h"
#include "common/sha2.h"

typedef struct LhContent
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
} LhContent;

/* What follows from the content of a file. */
typedef enum LhContentVerdict
{
	LH_CONTENT_NEW,				/* to be loaded, and claimed with its first load */
	LH_CONTENT_DUPLICATE,		/* loaded from another file, whose entry is *owner */
	LH_CONTENT_BUSY				/* being loaded from another file */
} LhContentVerdict;

/*
 * Reads a file of "size" bytes of which nothing is loaded.  If others load files
 * of the source at once ("shared"), the content is locked for this transaction.
 * Raises 55000 if another file has the content and its load stands still.
 */
extern LhContentVerdict lh_content_judge(int32 source_id, bool shared, const LhLedgerFile *file,
										 int fd, int64 size, LhContent *content, int64 *owner);

/* enters that the content is loaded from this file */
extern void lh_content_claim(const LhLedgerFile *file, const LhContent *content);

/* enters that it was loaded from another one */
extern void lh_content_set_duplicate(int64 file_id, int64 owner, int64 size, int64 mtime_ns);

/* has another look at a file whose content is busy, a little later */
extern void lh_content_wait(int64 file_id, int64 wait_us);

/* the versions of a path but "keep" have no content any more: their duplicates
 * wait again */
extern void lh_content_release(int32 source_id, const char *path, int64 keep);

#endif							/* LH_FILE_CONTENT_H */
