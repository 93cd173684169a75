/*
 * clean_act.c
 *	  Moving and deleting one file, so that it can be done again after any crash.
 *
 * The intent is journaled and durable before anything happens here.  The file
 * first gets a hidden name in its own directory, which tells by itself that it is
 * ours; there it is judged once more, so a version that took its place a moment
 * ago is never touched: it is given its name back.  Only then it is moved to its
 * target or removed.
 *
 *		path -> hidden name -> target
 *		                    -> nothing
 *
 * Each step is one rename that replaces nothing, or one removal, so whoever
 * comes after a crash finds the file under exactly one of these names and goes
 * on from there.  Only where the target is another file system there may be two
 * copies, the one at the target being whole and durable before the other goes.
 *
 * Invariant: what is removed or hidden has size, modification time and hash of
 * what was loaded.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"

#include "bronze/clean_internal.h"
#include "bronze/file_hash.h"
#include "catalog/catalog_access.h"
#include "fault.h"
#include "source/file_filter.h"
#include "source/file_move.h"
#include "source/file_root.h"

/* numbers that are tried for the name of a file at the target */
#define MAX_NUMBER 10000

/* Where one file is, and where it goes. */
typedef struct Place
{
	const LhCleanFile *file;
	bool		moves;			/* else deletes */
	LhDescriptor *from;			/* directory; NULL = it is gone */
	const char *name;
	const char *hidden;
	LhDescriptor *to;			/* directory of the target; NULL = none was chosen */
	const char *new_name;
	const char *copy;			/* name of an unfinished copy there */
	LhDescriptor *taken;		/* the file under its hidden name */
} Place;

static char *
directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return pstrdup(".");
	return slash == path ? pstrdup("/") : pnstrdup(path, slash - path);
}

static const char *
name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * hidden_name returns a name that no other file of this or another database has.
 */
static char *
hidden_name(const LhCleanFile *file)
{
	char	   *home = lh_catalog_home();

	for (char *c = home; *c != '\0'; c++)
		if (*c == '/')
			*c = '-';
	return psprintf(LH_HIDDEN_NAME "%s-" INT64_FORMAT, home, file->file_id);
}

/*
 * sync_directory makes durable what was done in a directory, and forgets it.
 */
static void
sync_directory(LhCleanDirectory *directory)
{
	if (directory->path == NULL)
		return;
	if (directory->changed)
		lh_directory_sync(directory->descriptor, directory->path);
	if (directory->descriptor != NULL)
		lh_descriptor_close(directory->descriptor);
	memset(directory, 0, sizeof(*directory));
}

void
lh_clean_sync(LhCleanPass *pass)
{
	sync_directory(&pass->to);
	sync_directory(&pass->from);
}

static void
raise_errno(int error, const char *what, const char *path)
{
	errno = error;
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("%s \"%s\": %m", what, path)));
}

/*
 * open_from opens the directory that the file lies in, or finds it open.
 */
static LhDescriptor *
open_from(LhCleanPass *pass, const char *path)
{
	char	   *directory = directory_of(path);
	MemoryContext oldcontext;

	if (pass->from.path != NULL && strcmp(pass->from.path, directory) == 0)
		return pass->from.descriptor;
	sync_directory(&pass->from);
	oldcontext = MemoryContextSwitchTo(pass->context);
	pass->from.descriptor = lh_subdirectory_open(pass->root, directory);
	if (pass->from.descriptor == NULL && errno != ENOENT && errno != ENOTDIR)
		raise_errno(errno, "could not open directory", directory);
	pass->from.path = pstrdup(directory);
	MemoryContextSwitchTo(oldcontext);
	return pass->from.descriptor;
}

/*
 * open_to opens the directory of the target, which no link may lead to.
 */
static LhDescriptor *
open_to(LhCleanPass *pass, const char *target)
{
	char	   *directory = directory_of(target);
	MemoryContext oldcontext;

	if (pass->to.path != NULL && strcmp(pass->to.path, directory) == 0)
		return pass->to.descriptor;
	sync_directory(&pass->to);
	oldcontext = MemoryContextSwitchTo(pass->context);
	pass->to.descriptor = lh_root_open_unlinked(directory, pass->source->owner);
	if (pass->to.descriptor == NULL)
		raise_errno(errno, "could not open directory", directory);
	pass->to.path = pstrdup(directory);
	MemoryContextSwitchTo(oldcontext);
	return pass->to.descriptor;
}

/*
 * lh_clean_choose_target returns a path beneath the directory for moved files
 * that nothing has, and makes the directories it needs.  The name of the file
 * with its directories stays; a number is put behind it if it is taken.
 */
char *
lh_clean_choose_target(LhCleanPass *pass, const LhCleanFile *file, const char *target)
{
	LhDescriptor *from = open_from(pass, file->path);
	LhDescriptor *root;
	LhDescriptor *directory;
	char	   *result = NULL;
	const char *name = name_of(file->path);

	root = lh_root_open_unlinked(target, pass->source->owner);
	if (root == NULL)
		raise_errno(errno, "could not open directory", target);
	directory = strchr(file->path, '/') == NULL ? root :
		lh_directory_make(root, directory_of(file->path), from ? from->status.st_mode : 0700);
	if (directory == NULL)
		raise_errno(errno, "could not make directory",
					psprintf("%s/%s", target, directory_of(file->path)));
	for (int i = 0; result == NULL && i < MAX_NUMBER; i++)
	{
		char	   *candidate = i == 0 ? pstrdup(name) : psprintf("%s.%d", name, i);

		CHECK_FOR_INTERRUPTS();
		if (!lh_file_exists(directory, candidate))
			result = psprintf("%s/%s%s%s", target[1] ? target : "",
							  directory == root ? "" : directory_of(file->path),
							  directory == root ? "" : "/", candidate);
	}
	if (directory != root)
		lh_descriptor_close(directory);
	lh_descriptor_close(root);
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FILE),
				 errmsg("directory \"%s\" has %d files of the name \"%s\"", target, MAX_NUMBER, name)));
	return result;
}

/*
 * lh_clean_is_there tells whether something has the file's name, or the name it
 * gets while it is cleaned up.
 */
bool
lh_clean_is_there(LhCleanPass *pass, const LhCleanFile *file)
{
	LhDescriptor *from = open_from(pass, file->path);

	return from != NULL && (lh_file_exists(from, name_of(file->path)) ||
							lh_file_exists(from, hidden_name(file)));
}

/*
 * is_loaded tells whether an open file has the content that was loaded.
 */
static bool
is_loaded(const LhDescriptor *opened, const LhCleanFile *file)
{
	int64		blocks = 0;

	return opened->status.st_size == file->size &&
		lh_file_mtime_ns(&opened->status) == file->mtime_ns &&
		lh_file_hash(opened->fd, file->path, 0, file->size, &blocks) == file->hash;
}

/*
 * open_file opens a regular file; NULL if there is none.  *other is set if there
 * is something else.
 */
static LhDescriptor *
open_file(const LhDescriptor *directory, const char *name, const char *shown, bool *other)
{
	LhDescriptor *opened = directory ? lh_file_open(directory, name) : NULL;

	*other = false;
	if (opened != NULL || directory == NULL || errno == ENOENT)
		return opened;
	if (errno != ELOOP && errno != EFTYPE_NOT_REGULAR && errno != ENXIO)
		raise_errno(errno, "could not open file", shown);
	*other = true;
	return NULL;
}

static bool
is_at_target(const Place *place)
{
	bool		other;
	LhDescriptor *opened;
	bool		result;

	if (place->to == NULL)
		return false;
	opened = open_file(place->to, place->new_name, place->file->target, &other);
	if (opened == NULL)
		return false;
	result = is_loaded(opened, place->file);
	lh_descriptor_close(opened);
	return result;
}

/*
 * give_back gives the file its own name again, unless another one has it now.
 */
static int
give_back(LhCleanPass *pass, Place *place)
{
	int			error = lh_file_rename(place->from, place->hidden, place->from, place->name);

	pass->from.changed = true;
	return error;
}

static void
refuse_give_back(int error, const Place *place)
{
	errno = error;
	ereport(ERROR,
			(error == EEXIST ? errcode(ERRCODE_OBJECT_IN_USE) : errcode_for_file_access(),
			 errmsg("could not give its name back to file \"%s\", which is \"%s\" now: %m",
					place->file->path, place->hidden)));
}

/*
 * take gives the file its hidden name; false if another file had the name by
 * then, which has it again now.
 */
static bool
take(LhCleanPass *pass, Place *place, LhDescriptor *original)
{
	int			error = lh_file_rename(place->from, place->name, place->from, place->hidden);

	if (error == ENOENT)
		return false;
	if (error != 0)
		raise_errno(error, "could not rename file", place->file->path);
	pass->from.changed = true;
	place->taken = original;
	LH_FAULT("archive-taken");
	if (lh_file_is_named(original, place->from, place->hidden) == 0)
		return true;
	error = give_back(pass, place);
	if (error != 0)
		refuse_give_back(error, place);
	return false;
}

/*
 * copy_to_target copies the file that was taken to another file system, and
 * removes it when the copy is whole and durable there.
 */
static int
copy_to_target(LhCleanPass *pass, Place *place)
{
	int			error = lh_file_copy(place->taken, place->to, place->copy);
	LhDescriptor *copy;
	bool		whole;

	if (error != 0)
		return error;
	copy = lh_file_open(place->to, place->copy);
	whole = copy != NULL && is_loaded(copy, place->file);
	if (copy != NULL)
		lh_descriptor_close(copy);
	if (!whole)
		return EIO;
	LH_FAULT("archive-copied");
	error = lh_file_rename(place->to, place->copy, place->to, place->new_name);
	if (error != 0)
	{
		(void) lh_file_remove(place->to, place->copy);
		return error;
	}
	lh_directory_sync(place->to, pass->to.path);
	LH_FAULT("archive-placed");
	return lh_file_remove(place->from, place->hidden);
}

/*
 * finish moves or removes the file that was taken.
 */
static void
finish(LhCleanPass *pass, Place *place)
{
	struct stat now;
	int			error;

	if (fstat(place->taken->fd, &now) < 0 || now.st_size != place->file->size ||
		lh_file_mtime_ns(&now) != place->file->mtime_ns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("file \"%s\" is being written", place->file->path)));
	if (!place->moves)
		error = lh_file_remove(place->from, place->hidden);
	else if (is_at_target(place))
		error = lh_file_remove(place->from, place->hidden); /* a copy of it */
	else
	{
		error = lh_file_rename(place->from, place->hidden, place->to, place->new_name);
		if (error == EXDEV)
			error = copy_to_target(pass, place);
		pass->to.changed = true;
	}
	if (error != 0)
		raise_errno(error, place->moves ? "could not move file" : "could not delete file", place->file->path);
}

/*
 * finish_or_give_back leaves the file under its own name if it cannot be
 * finished, and raises why.
 */
static void
finish_or_give_back(LhCleanPass *pass, Place *place)
{
	PG_TRY();
	{
		finish(pass, place);
		pass->from.changed = true;
	}
	PG_CATCH();
	{
		if (lh_file_is_named(place->taken, place->from, place->hidden) == 0)
			(void) give_back(pass, place);
		PG_RE_THROW();
	}
	PG_END_TRY();
	LH_FAULT("after-archive");
}

/*
 * judge_missing tells what became of a file that is not at its path as it was
 * loaded.  "present": something else is there.
 */
static LhCleanVerdict
judge_missing(const Place *place, bool present, const char **reason, int *sqlstate)
{
	if (is_at_target(place))
		return LH_CLEAN_MOVED;
	/* gone after the intent: removed by us, or by somebody who wanted it as well */
	if (!present && !place->moves)
		return LH_CLEAN_DELETED;
	*reason = present ? "another file than the one that was loaded is there" :
		"the file is not there any more";
	*sqlstate = present ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_UNDEFINED_FILE;
	return LH_CLEAN_LEFT;
}

static void
find_place(LhCleanPass *pass, const LhCleanFile *file, Place *place)
{
	place->file = file;
	place->moves = strcmp(file->mode, "move") == 0;
	place->name = name_of(file->path);
	place->hidden = hidden_name(file);
	place->from = open_from(pass, file->path);
}

static void
find_target(LhCleanPass *pass, const LhCleanFile *file, Place *place)
{
	if (file->target == NULL)
		return;
	place->to = open_to(pass, file->target);
	place->new_name = name_of(file->target);
	place->copy = psprintf("%s.part", place->hidden);
}

/*
 * lh_clean_act brings a file whose intent is journaled to its end, from wherever
 * it is.  If the file has an objection the verdict is "unwanted" unless it is
 * too late, and a file that was begun is given back.  Raises what may be
 * better next time.
 */
LhCleanVerdict
lh_clean_act(LhCleanPass *pass, const LhCleanFile *file, LhCleanVerdict unwanted,
			 const char **reason, int *sqlstate)
{
	Place		place = {0};
	LhDescriptor *original;
	bool		other;

	find_place(pass, file, &place);
	place.taken = open_file(place.from, place.hidden, file->path, &other);
	/* where a rename is a link and a removal, a crash may leave both names */
	if (place.taken != NULL && lh_file_is_named(place.taken, place.from, place.name) == 0)
		(void) lh_file_remove(place.from, place.name);
	if (other || (place.taken != NULL && (file->objection != NULL || !is_loaded(place.taken, file))))
	{
		int			error = give_back(pass, &place);

		if (error != 0)
			refuse_give_back(error, &place);
		place.taken = NULL;
	}
	/* only now: a target that is gone must not keep a file from its name */
	find_target(pass, file, &place);
	if (place.taken == NULL)
	{
		original = open_file(place.from, place.name, file->path, &other);
		if (original == NULL || !is_loaded(original, file))
			return judge_missing(&place, original != NULL || other, reason, sqlstate);
		if (file->objection != NULL)
		{
			*reason = file->objection;
			*sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
			return unwanted;
		}
		if (!take(pass, &place, original))
			return judge_missing(&place, lh_file_exists(place.from, place.name), reason, sqlstate);
	}
	finish_or_give_back(pass, &place);
	return place.moves ? LH_CLEAN_MOVED : LH_CLEAN_DELETED;
}
