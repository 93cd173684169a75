/*
 * access.c
 *	  Opening the extension to a role.
 *
 * Invariant: what lakehouse.grant_use grants is the public surface and nothing
 * else.  Our tables stay closed: who may see which row of them is decided by
 * the status views, and who may do what to which object by the functions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "catalog/catalog_access.h"

PG_FUNCTION_INFO_V1(lakehouse_grant_use);

/*
 * lakehouse.grant_use(regrole) lets a role use the extension: the schema, the
 * views, and the functions whose names do not begin with an underscore.
 */
Datum
lakehouse_grant_use(PG_FUNCTION_ARGS)
{
	Oid			role = PG_GETARG_OID(0);
	const char *name = quote_identifier(GetUserNameFromId(role, false));
	StringInfoData sql;
	uint64		count;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to grant the use of lakehouse")));

	initStringInfo(&sql);
	SPI_connect();
	appendStringInfo(&sql, "GRANT USAGE ON SCHEMA lakehouse TO %s", name);
	SPI_execute(sql.data, false, 0);
	SPI_execute("SELECT pg_catalog.format('GRANT %s ON %s lakehouse.%s TO ', privilege, kind, object)"
				" FROM (SELECT 'SELECT', 'TABLE', pg_catalog.quote_ident(relname)"
				"         FROM pg_catalog.pg_class"
				"        WHERE relnamespace OPERATOR(pg_catalog.=) 'lakehouse'::pg_catalog.regnamespace"
				"          AND relkind OPERATOR(pg_catalog.=) 'v'"
				"       UNION ALL"
				"       SELECT 'EXECUTE', 'ROUTINE', pg_catalog.format('%I(%s)', proname,"
				"              pg_catalog.pg_get_function_identity_arguments(oid))"
				"         FROM pg_catalog.pg_proc"
				"        WHERE pronamespace OPERATOR(pg_catalog.=) 'lakehouse'::pg_catalog.regnamespace"
				"          AND proname NOT LIKE '\\_%'"
				"          AND proname OPERATOR(pg_catalog.<>) 'grant_use') o(privilege, kind, object)",
				true, 0);
	count = SPI_processed;
	{
		char	  **grants = palloc(sizeof(char *) * count);

		for (uint64 row = 0; row < count; row++)
			grants[row] = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1);
		for (uint64 row = 0; row < count; row++)
		{
			resetStringInfo(&sql);
			appendStringInfo(&sql, "%s%s", grants[row], name);
			SPI_execute(sql.data, false, 0);
		}
	}
	SPI_finish();
	PG_RETURN_VOID();
}
