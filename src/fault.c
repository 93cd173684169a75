/*
 * fault.c
 *	  Named fault points for crash tests; empty in a release build.
 */
#include "postgres.h"

#include "fault.h"

#ifdef LH_FAULTS

#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/builtins.h"

char	   *lh_fault = NULL;

/* how often the point of the setting was passed in this process */
static char counted[128] = "";
static int	passes = 0;

/*
 * lh_fault_point acts when lakehouse.fault names this point: the setting reads
 * point:action[:pass], where pass (default 1) counts from one.
 */
void
lh_fault_point(const char *name)
{
	char		point[64];
	char		action[16];
	int			pass = 1;

	if (lh_fault == NULL || lh_fault[0] == '\0')
		return;
	if (strncmp(counted, lh_fault, sizeof(counted) - 1) != 0)
	{
		strlcpy(counted, lh_fault, sizeof(counted));
		passes = 0;
	}
	if (sscanf(lh_fault, "%63[^:]:%15[^:]:%d", point, action, &pass) < 2 ||
		strcmp(point, name) != 0 || ++passes != pass)
		return;

	elog(LOG, "fault point \"%s\" reached: %s", name, action);
	if (strcmp(action, "error") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("fault point \"%s\"", name)));
	else if (strcmp(action, "kill") == 0)
		kill(MyProcPid, SIGKILL);
	else if (strcmp(action, "killall") == 0)
	{
		/* the postmaster first, so that it cannot clean up after us */
		kill(PostmasterPid, SIGKILL);
		kill(MyProcPid, SIGKILL);
	}
	else if (strcmp(action, "exit") == 0)
		_exit(2);
	else if (strcmp(action, "stop") == 0)
		raise(SIGSTOP);
	else if (strcmp(action, "sleep") == 0)
		pg_usleep(1000000L);
}

#endif							/* LH_FAULTS */
