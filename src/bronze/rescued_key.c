/*
 * rescued_key.c
 *	  See rescued_key.h.
 */
#include "postgres.h"

#include "bronze/rescued_key.h"

const char *const lh_rescued_members[] = {"_reason", "_file_path", "_line", "_topic", "_partition", "_offset", NULL};

bool
lh_rescued_key_is_longer(const char *name, int length)
{
	while (length > 1 && name[0] == '_' && name[1] == '_')
	{
		name++;
		length--;
	}
	for (int i = 0; lh_rescued_members[i] != NULL; i++)
		if (strlen(lh_rescued_members[i]) == length && memcmp(lh_rescued_members[i], name, length) == 0)
			return true;
	return false;
}
