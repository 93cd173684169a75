/*
 * writer_page.c
 *	  Inserts buffered rows, into pages that are made many at a time.
 *
 * PostgreSQL 15 makes the pages of a growing table one by one: it takes the lock
 * for that, writes a page of zeros, and gives the lock back.  That is a good part
 * of the time of a load, and workers that fill one table wait for each other.
 * Here the space of many pages is reserved by one call of the system, and the
 * server writes the last of them only; later versions do the like by themselves.
 *
 * Invariant: when a page can be seen by others (it lies before the end of the
 * file), its space is reserved and it is in shared buffers with nothing but
 * zeros, which is what the file holds, too.  Whoever finds it first may use it,
 * so it is looked at again before rows are put there; what decides is
 * heap_multi_insert, which inserts all rows, whatever was expected here.
 */
#include "postgres.h"

#include "access/hio.h"
#include "compat.h"
#include "miscadmin.h"

#include "bronze/writer_internal.h"

/* of shared buffers, what one batch may fill */
#define CACHE_SHARE 8

#ifdef LH_MAKE_PAGES

#include <fcntl.h>

#include "access/heaptoast.h"
#include "common/relpath.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/freespace.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/rel.h"

/* pages that are made at once: as many as were filled, within these limits; they
 * should still be in the processor's cache when their rows come */
#define LEAST_PAGES 8
#define MOST_PAGES 32

/*
 * reserve lets the system find space for pages behind the end of a segment.  False
 * if that is not possible; whoever makes pages one by one then will say why.
 */
static bool
reserve(const char *path, off_t position, off_t length)
{
	int			fd = OpenTransientFile(path, O_RDWR | PG_BINARY);
	int			result;

	if (fd < 0)
		return false;
	do
		result = fallocate(fd, FALLOC_FL_KEEP_SIZE, position, length);
	while (result != 0 && errno == EINTR);
	return CloseTransientFile(fd) == 0 && result == 0;
}

/*
 * put_zeros makes buffers of pages behind the end of the file.  They are not
 * dirty: their bytes are those that will be read.
 */
static void
put_zeros(Relation relation, BlockNumber first, BlockNumber count, BulkInsertState bulk)
{
	for (BlockNumber i = 0; i < count; i++)
		UnlockReleaseBuffer(ReadBufferExtended(relation, MAIN_FORKNUM, first + i,
											   RBM_ZERO_AND_LOCK, bulk->strategy));
}

/*
 * make_pages adds pages to the target.  As long as its file has the old length
 * nobody sees them, and as long as the lock is held nobody else adds any.  The
 * server gives it the new length: it writes the last page, and what lies between
 * that and the old end reads as zeros.
 */
static bool
make_pages(LhWriter *writer, Relation relation)
{
	WritePages *pages = &writer->pages;
	BlockNumber count = Min(pages->filled, MOST_PAGES);
	BlockNumber first;
	BlockNumber in_segment;
	PGAlignedBlock zeros = {0};
	char	   *path;
	bool		made;

	LockRelationForExtension(relation, ExclusiveLock);
	first = RelationGetNumberOfBlocks(relation);
	in_segment = first % RELSEG_SIZE;
	/* the server itself begins a new segment */
	count = in_segment == 0 ? 0 : Min(count, RELSEG_SIZE - in_segment);
	path = relpathperm(relation->rd_node, MAIN_FORKNUM);
	if (first >= RELSEG_SIZE)
		path = psprintf("%s.%u", path, first / RELSEG_SIZE);
	made = count > 0 && reserve(path, (off_t) in_segment * BLCKSZ, (off_t) count * BLCKSZ);
	if (made)
	{
		put_zeros(relation, first, count, writer->bulk);
		smgrextend(RelationGetSmgr(relation), MAIN_FORKNUM, first + count - 1, zeros.data, false);
	}
	UnlockRelationForExtension(relation, ExclusiveLock);
	if (made)
	{
		pages->next = first;
		pages->end = first + count;
	}
	return made;
}

/*
 * free_space tells how much a tuple may need to get onto the page in hand.
 */
static Size
free_space(Buffer buffer)
{
	Page		page;

	if (buffer == InvalidBuffer)
		return 0;
	page = BufferGetPage(buffer);
	return PageIsNew(page) ? BLCKSZ - SizeOfPageHeaderData - sizeof(ItemIdData) : PageGetHeapFreeSpace(page);
}

/*
 * find_page sees to it that the page in hand has room for a tuple; false if the
 * server is to look for one: few rows came so far, or there is room in pages that
 * are there.
 */
static bool
find_page(LhWriter *writer, Relation relation, Size needed)
{
	WritePages *pages = &writer->pages;
	Buffer		buffer = writer->bulk->current_buf;

	if (needed <= free_space(buffer))
		return true;
	if (pages->next == pages->end)
	{
		BlockNumber other;

		if (pages->filled < LEAST_PAGES)
			return false;
		other = buffer == InvalidBuffer ? GetPageWithFreeSpace(relation, needed) :
			RecordAndGetPageWithFreeSpace(relation, BufferGetBlockNumber(buffer),
										  free_space(buffer), needed);
		if (other != InvalidBlockNumber || !make_pages(writer, relation))
			return false;
	}
	if (buffer != InvalidBuffer)
		ReleaseBulkInsertStatePin(writer->bulk);
	writer->bulk->current_buf = ReadBufferExtended(relation, MAIN_FORKNUM, pages->next++,
												   RBM_NORMAL, writer->bulk->strategy);
	return true;
}

/*
 * tuple_size tells what a row takes on its page, about: of one whose values go to
 * the TOAST table little is left.
 */
static inline Size
tuple_size(TupleTableSlot *slot)
{
	Size		length = lh_write_form_length(slot);

	return MAXALIGN(likely(length <= TOAST_TUPLE_THRESHOLD) ? length : TOAST_TUPLE_TARGET);
}

/*
 * insert_by_page inserts rows as long as there are pages for them, and tells how
 * many.
 */
static int
insert_by_page(LhWriter *writer, WriteBuffer *buffer)
{
	Relation	relation = buffer->relation->ri_RelationDesc;
	Size		kept = RelationGetTargetPageFreeSpace(relation, HEAP_DEFAULT_FILLFACTOR);
	int			first = 0;

	while (first < buffer->count)
	{
		Size		length = tuple_size(buffer->slots[first]);
		Size		room;
		int			last = first + 1;

		if (!find_page(writer, relation, Min(length + kept, MaxHeapTupleSize)))
			break;
		room = free_space(writer->bulk->current_buf);
		while (last < buffer->count && room >= length + sizeof(ItemIdData))
		{
			room -= length + sizeof(ItemIdData);
			length = tuple_size(buffer->slots[last]);
			if (room < length + kept)
				break;
			last++;
		}
		table_multi_insert(relation, buffer->slots + first, last - first,
						   writer->session->command, 0, buffer->bulk);
		first = last;
	}
	return first;
}

/*
 * lh_write_pages_release lets others use the pages that stayed empty.
 */
void
lh_write_pages_release(LhWriter *writer)
{
	WritePages *pages = &writer->pages;
	BlockNumber first = pages->next;

	for (; pages->next < pages->end; pages->next++)
	{
		Buffer		buffer = ReadBuffer(writer->relation, pages->next);
		Page		page = BufferGetPage(buffer);

		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		if (PageIsNew(page))
		{
			PageInit(page, BLCKSZ, 0);
			MarkBufferDirty(buffer);
		}
		RecordPageWithFreeSpace(writer->relation, pages->next, PageGetHeapFreeSpace(page));
		UnlockReleaseBuffer(buffer);
	}
	if (first < pages->end)
		FreeSpaceMapVacuumRange(writer->relation, first, pages->end);
}

#else

#define insert_by_page(writer, buffer) 0

void
lh_write_pages_release(LhWriter *writer)
{
}

#endif

/*
 * lh_write_insert inserts all rows of a buffer.  The rows of a batch stay in shared
 * buffers, for the flows that read them next, unless they took a good part of these
 * already: then the rest goes through the few buffers that COPY takes for all.
 */
void
lh_write_insert(LhWriter *writer, WriteBuffer *buffer)
{
	int			first = 0;

	if (writer->bulk->strategy == NULL && writer->pages.filled > NBuffers / CACHE_SHARE)
		writer->bulk->strategy = writer->ring;
	if (buffer->bulk == writer->bulk && buffer->form != NULL)
		first = insert_by_page(writer, buffer);
	if (first < buffer->count)
		table_multi_insert(buffer->relation->ri_RelationDesc, buffer->slots + first,
						   buffer->count - first, writer->session->command, 0, buffer->bulk);
}
