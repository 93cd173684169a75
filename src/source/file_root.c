/*
 * file_root.c
 *	  Directories that a role may name, and what of them is never opened.
 *
 * Invariant: a role that is no superuser reaches nothing outside the
 * directories of lakehouse.allowed_directories, and nobody the files of the
 * database cluster: its data directory and its tablespaces.
 */
#include "postgres.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "utils/varlena.h"

#include "guc.h"
#include "source/file_root.h"

static const char *find_allowed(const char *directory);
static void close_cluster(LhDescriptor *root, const char *shown);
static List *cluster_directories(void);

const char *
lh_path_beneath(const char *path, const char *directory)
{
	size_t		length = strlen(directory);

	if (length > 0 && directory[length - 1] == '/')
		length--;
	if (strncmp(path, directory, length) != 0)
		return NULL;
	if (path[length] == '\0')
		return path + length;
	if (path[length] != '/')
		return NULL;
	path += length;
	while (*path == '/')
		path++;
	return path;
}

bool
lh_path_is_plain(const char *path)
{
	while (path != NULL)
	{
		size_t		length;

		path += strspn(path, "/");
		length = strcspn(path, "/");
		if ((length == 1 && path[0] == '.') || (length == 2 && strncmp(path, "..", 2) == 0))
			return false;
		path = path[length] == '/' ? path + length : NULL;
	}
	return true;
}

/*
 * find_allowed returns the allowed directory that a path lies beneath, or NULL.
 */
static const char *
find_allowed(const char *directory)
{
	List	   *allowed = NIL;
	ListCell   *cell;

	if (!SplitDirectoriesString(pstrdup(lh_allowed_directories), ',', &allowed))
		return NULL;
	foreach(cell, allowed)
		if (lh_path_beneath(directory, lfirst(cell)) != NULL)
			return lfirst(cell);
	return NULL;
}

void
lh_root_check(const char *directory, Oid role)
{
	if (superuser_arg(role) || find_allowed(directory) != NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for directory \"%s\"", directory),
			 errdetail("It does not lie beneath a directory that is named in \"lakehouse.allowed_directories\"."),
			 errhint("A superuser can add a directory to the setting, or own what names this one.")));
}

LhDescriptor *
lh_root_open(const char *directory, Oid role)
{
	LhDescriptor *root;

	lh_root_check(directory, role);
	if (superuser_arg(role))
		root = lh_directory_open(directory);
	else
	{
		const char *allowed = find_allowed(directory);
		const char *rest = lh_path_beneath(directory, allowed);
		LhDescriptor *outer = lh_directory_open(allowed);

		root = lh_subdirectory_open(outer, rest[0] ? rest : ".");
		if (root == NULL)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not open directory \"%s\": %m", directory),
					 errhint("The directory must exist and be readable by the operating system user of the server; beneath an allowed directory no symbolic link may lead to it.")));
		lh_descriptor_close(outer);
	}
	close_cluster(root, directory);
	return root;
}

LhDescriptor *
lh_root_open_unlinked(const char *directory, Oid role)
{
	LhDescriptor *outer;
	LhDescriptor *root;

	lh_root_check(directory, role);
	outer = lh_directory_open("/");
	root = lh_subdirectory_open(outer, directory[1] ? directory + 1 : ".");
	if (root != NULL)
		close_cluster(root, directory);
	lh_descriptor_close(outer);
	return root;
}

char *
lh_root_real_path(const LhDescriptor *root)
{
	char		link[64];
	char		path[PATH_MAX + 1];
	ssize_t		length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", root->fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length <= 0 || path[0] != '/')
		return NULL;
	path[length] = '\0';
	return pstrdup(path);
}

/*
 * close_cluster raises if the directory is a part of the cluster, and closes
 * what of the cluster lies beneath it.
 */
static void
close_cluster(LhDescriptor *root, const char *shown)
{
	char	   *real = lh_root_real_path(root);
	ListCell   *cell;

	if (real == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not tell where directory \"%s\" lies: %m", shown),
				 errdetail("This needs the file system \"/proc\".")));
	foreach(cell, cluster_directories())
	{
		const char *rest;

		if (lh_path_beneath(real, lfirst(cell)) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("directory \"%s\" cannot be used", shown),
					 errdetail("It is a part of the database cluster.")));
		rest = lh_path_beneath(lfirst(cell), real);
		if (rest != NULL)
			root->closed = lappend(root->closed, pstrdup(rest));
	}
}

/*
 * cluster_directories lists the data directory and the tablespaces, without
 * links.
 */
static List *
cluster_directories(void)
{
	static char data[PATH_MAX + 1] = "";
	List	   *result;
	DIR		   *spaces;
	struct dirent *entry;

	if (data[0] == '\0' && realpath(DataDir, data) == NULL)
	{
		data[0] = '\0';
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not tell where directory \"%s\" lies: %m", DataDir)));
	}
	result = list_make1(data);
	spaces = AllocateDir("pg_tblspc");
	while ((entry = ReadDir(spaces, "pg_tblspc")) != NULL)
	{
		char		link[MAXPGPATH];
		char		space[PATH_MAX + 1];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(link, sizeof(link), "pg_tblspc/%s", entry->d_name);
		if (realpath(link, space) != NULL && lh_path_beneath(space, data) == NULL)
			result = lappend(result, pstrdup(space));
	}
	FreeDir(spaces);
	return result;
}
