/*
 * server.c
 *	  Servers: landing directories and Kafka clusters, as foreign servers.
 *
 * Invariant: a property reaches librdkafka only if it stands in "properties"
 * below.  Nothing in that list runs a command, loads code, reads a file of the
 * server or reaches a host that bootstrap.servers does not lead to; those of the
 * schema registry, which librdkafka does not get, name one more host.  The list is
 * applied when options are stored and again when they are read, because a
 * catalog can be filled by other means than CREATE SERVER.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/syscache.h"

#include "catalog/options.h"
#include "compat.h"
#include "source/file_root.h"
#include "source/kafka_client.h"
#include "source/schema_registry.h"
#include "source/server.h"

/* librdkafka's default of message.max.bytes */
#define DEFAULT_MESSAGE_LIMIT 1000000

/* Which catalog a property belongs to. */
typedef enum PropertyPlace
{
	IN_SERVER,
	IN_USER_MAPPING
} PropertyPlace;

typedef struct Property
{
	const char *name;
	PropertyPlace place;
	bool		secret;			/* its value appears in no message */
} Property;

static const Property properties[] = {
	{"bootstrap.servers", IN_SERVER, false},
	{"broker.address.family", IN_SERVER, false},
	{"broker.address.ttl", IN_SERVER, false},
	{"client.id", IN_SERVER, false},
	{"client.rack", IN_SERVER, false},
	{"compression.codec", IN_SERVER, false},
	{"connections.max.idle.ms", IN_SERVER, false},
	{"enable.ssl.certificate.verification", IN_SERVER, false},
	{"fetch.error.backoff.ms", IN_SERVER, false},
	{"fetch.max.bytes", IN_SERVER, false},
	{"fetch.min.bytes", IN_SERVER, false},
	{"fetch.wait.max.ms", IN_SERVER, false},
	{"linger.ms", IN_SERVER, false},
	{"max.partition.fetch.bytes", IN_SERVER, false},
	{"message.max.bytes", IN_SERVER, false},
	{"metadata.max.age.ms", IN_SERVER, false},
	{"receive.message.max.bytes", IN_SERVER, false},
	{"reconnect.backoff.max.ms", IN_SERVER, false},
	{"reconnect.backoff.ms", IN_SERVER, false},
	{"sasl.mechanism", IN_SERVER, false},
	{LH_REGISTRY_CA, IN_SERVER, false},
	{LH_REGISTRY_URL, IN_SERVER, false},
	{"security.protocol", IN_SERVER, false},
	{"socket.connection.setup.timeout.ms", IN_SERVER, false},
	{"socket.keepalive.enable", IN_SERVER, false},
	{"socket.nagle.disable", IN_SERVER, false},
	{"socket.receive.buffer.bytes", IN_SERVER, false},
	{"socket.timeout.ms", IN_SERVER, false},
	{"ssl.ca.pem", IN_SERVER, false},
	{"ssl.cipher.suites", IN_SERVER, false},
	{"ssl.curves.list", IN_SERVER, false},
	{"ssl.endpoint.identification.algorithm", IN_SERVER, false},
	{"ssl.sigalgs.list", IN_SERVER, false},
	{LH_KAFKA_TOKEN, IN_USER_MAPPING, true},
	{"sasl.password", IN_USER_MAPPING, true},
	{"sasl.username", IN_USER_MAPPING, true},
	{LH_REGISTRY_PASSWORD, IN_USER_MAPPING, true},
	{LH_REGISTRY_USERNAME, IN_USER_MAPPING, true},
	{"ssl.certificate.pem", IN_USER_MAPPING, true},
	{"ssl.key.password", IN_USER_MAPPING, true},
	{"ssl.key.pem", IN_USER_MAPPING, true}
};

/* Why families of properties are refused; the first match counts. */
static const struct
{
	const char *part;			/* at the start, or anywhere after '*' */
	const char *reason;
}			refusals[] = {
	{"*.location", "It would read a file of the server; properties that end in \".pem\" take the text itself."},
	{"plugin.", "It would load code into the server."},
	{"ssl.engine", "It would load code into the server."},
	{"ssl_engine", "It would load code into the server."},
	{"ssl.providers", "It would load code into the server."},
	{"ssl.ca.certificate.stores", "It would read a file of the server."},
	{"ssl.keystore.", "It would read a file of the server."},
	{"ssl.truststore.", "It would read a file of the server; properties that end in \".pem\" take the text itself."},
	{"key.deserializer", "Key and value are bytes; the columns of the target say what becomes of them."},
	{"value.deserializer", "Key and value are bytes; the columns of the target say what becomes of them."},
	{"sasl.jaas.", "Who connects is told in a user mapping, as \"sasl.username\" and \"sasl.password\"."},
	{"interceptor", "It would load code into the server."},
	{"sasl.kerberos.", "It would run a command on the server."},
	{"sasl.oauthbearer.", "It would make the server call other hosts; only a token itself is taken, as \"" LH_KAFKA_TOKEN "\" of the user mapping."},
	{"enable.sasl.oauthbearer.", "It would make the server accept tokens that nobody signed."},
	{"schema.registry.basic.auth.", "Who asks is told in a user mapping, as \"" LH_REGISTRY_USERNAME "\" and \"" LH_REGISTRY_PASSWORD "\"."},
	{"basic.auth.", "Who asks is told in a user mapping, as \"" LH_REGISTRY_USERNAME "\" and \"" LH_REGISTRY_PASSWORD "\"."},
	{"sasl.mechanisms", "The property is called \"sasl.mechanism\" here."},
	{"metadata.broker.list", "The property is called \"bootstrap.servers\" here."},
	{"test.mock.", "It would make the client its own broker."},
	{"debug", "It would write into the log of the server."},
	{"log", "It would write into the log of the server."},
	{"statistics.", "It would take time of the server for output that nobody reads."},
	{"enabled_events", "The extension sets it itself."},
	{"enable.auto.", "The extension sets it itself: positions are kept in lakehouse.kafka_offset."},
	{"auto.", "The extension sets it itself: positions are kept in lakehouse.kafka_offset."},
	{"offset.", "The extension sets it itself: positions are kept in lakehouse.kafka_offset."},
	{"enable.idempotence", "The extension sets it itself."},
	{"transactional.", "Messages are sent from an outbox, without transactions of Kafka."},
	{"group.", "The extension reads without a consumer group."},
	{"session.timeout.", "The extension reads without a consumer group."},
	{"heartbeat.", "The extension reads without a consumer group."},
	{"max.poll.", "The extension reads without a consumer group."},
	{"partition.assignment.", "The extension reads without a consumer group."},
	{"isolation.level", "The extension sets it itself: only committed records are read."},
	{"enable.partition.eof", "The extension sets it itself."},
	{"check.crcs", "The extension sets it itself."},
	{"queued.", "The extension sets it itself: memory is bounded by lakehouse.batch_bytes."},
	{"allow.auto.create.topics", "A reader creates no topics."},
	{"topic.", "The extension sets it itself."}
};

PG_FUNCTION_INFO_V1(lakehouse_files_validator);
PG_FUNCTION_INFO_V1(lakehouse_kafka_validator);

static void check_directory(const char *directory);
static void refuse_options(List *options, const char *noun);
static const Property *find_property(const char *name);
static void check_property(DefElem *option, PropertyPlace place);
static void refuse_property(const char *name, PropertyPlace place);
static void refuse_unknown(const char *name, PropertyPlace place);
static void check_bootstrap_servers(const char *value);
static bool is_registry_property(const char *name);
static void check_registry(const char *name, const char *value);
static void check_security(List *options);
static const char *option_value(List *options, const char *name);
static List *user_mapping_options(Oid server, Oid role);
static void append_properties(List **result, List *options, PropertyPlace place);

/*
 * lakehouse._files_validator(text[], oid) checks options of the wrapper
 * lakehouse_files and of its servers and user mappings.
 */
Datum
lakehouse_files_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	const char *directory = NULL;
	ListCell   *cell;

	if (catalog != ForeignServerRelationId)
	{
		refuse_options(options, catalog == UserMappingRelationId ? "user mapping" : "wrapper");
		PG_RETURN_VOID();
	}
	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "directory") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not known for a lakehouse_files server", option->defname),
					 errhint("The only option is \"directory\".")));
		if (directory != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("option \"%s\" is given twice", option->defname)));
		directory = defGetString(option);
	}
	if (directory == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"directory\" is missing"),
				 errhint("CREATE SERVER name FOREIGN DATA WRAPPER lakehouse_files OPTIONS (directory '/path').")));
	check_directory(directory);
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to name a directory of the server"),
				 errdetail("Only a superuser or a role with the privileges of pg_read_server_files may do so.")));
	lh_root_check(directory, GetUserId());
	PG_RETURN_VOID();
}

/*
 * check_directory accepts an absolute path without "." and ".." steps.
 */
static void
check_directory(const char *directory)
{
	if (directory[0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("directory \"%s\" is not an absolute path", directory)));
	if (strlen(directory) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("directory name is too long"),
				 errdetail("It has %zu bytes; the limit is %d bytes.", strlen(directory), MAXPGPATH - 1)));
	if (!lh_path_is_plain(directory))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("directory \"%s\" has a step \".\" or \"..\"", directory),
				 errhint("Write the path as it is without them.")));
}

static void
refuse_options(List *options, const char *noun)
{
	if (options == NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("option \"%s\" is not known here",
					((DefElem *) linitial(options))->defname),
			 errdetail("This %s has no options.", noun)));
}

/*
 * lakehouse._kafka_validator(text[], oid) checks options of the wrapper
 * lakehouse_kafka and of its servers and user mappings.
 */
Datum
lakehouse_kafka_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	PropertyPlace place = catalog == UserMappingRelationId ? IN_USER_MAPPING : IN_SERVER;
	ListCell   *cell;

	if (catalog != ForeignServerRelationId && catalog != UserMappingRelationId)
	{
		refuse_options(options, "object");
		PG_RETURN_VOID();
	}
	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);
		ListCell   *later;

		check_property(option, place);
		for_each_cell(later, options, lnext(options, cell))
		{
			if (strcmp(((DefElem *) lfirst(later))->defname, option->defname) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_OBJECT),
						 errmsg("property \"%s\" is given twice", option->defname)));
		}
	}
	if (place == IN_SERVER)
		check_security(options);
	PG_RETURN_VOID();
}

/*
 * check_property raises unless the property is permitted there and librdkafka
 * takes its value.
 */
static void
check_property(DefElem *option, PropertyPlace place)
{
	const Property *property = find_property(option->defname);
	const char *value = defGetString(option);
	char		message[512];

	if (property == NULL || property->place != place)
		refuse_property(option->defname, place);
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("property \"%s\" is empty", property->name)));
	if (strcmp(property->name, "bootstrap.servers") == 0)
		check_bootstrap_servers(value);
	if (is_registry_property(property->name))
		check_registry(property->name, value);
	else if (!lh_kafka_check_property(property->name, value, message, sizeof(message)))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("value of property \"%s\" is not valid", property->name),
				 property->secret ? 0 : errdetail("librdkafka: %s.", message)));
}

static const Property *
find_property(const char *name)
{
	for (int i = 0; i < lengthof(properties); i++)
	{
		if (strcmp(properties[i].name, name) == 0)
			return &properties[i];
	}
	return NULL;
}

/*
 * refuse_property says why a property cannot stand there: wrong catalog, wrong
 * case, a family that is refused, or just not in the list.
 */
static void
refuse_property(const char *name, PropertyPlace place)
{
	const Property *property = find_property(name);
	char	   *lower = asc_tolower(name, strlen(name));

	if (property != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" is not an option of a %s", name,
						place == IN_SERVER ? "server" : "user mapping"),
				 place == IN_SERVER
				 ? errhint("Who connects is told in a user mapping: CREATE USER MAPPING FOR role SERVER name OPTIONS (\"%s\" '...').", name)
				 : errhint("Set it with ALTER SERVER name OPTIONS (ADD \"%s\" '...').", name)));
	if (strcmp(lower, name) != 0 && find_property(lower) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" is not permitted", name),
				 errhint("Names of properties are in lower case: \"%s\".", lower)));
	for (int i = 0; i < lengthof(refusals); i++)
	{
		const char *part = refusals[i].part;
		bool		match = part[0] == '*' ? strstr(lower, part + 1) != NULL
			: strncmp(lower, part, strlen(part)) == 0;

		if (match)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("property \"%s\" is not permitted", name),
					 errdetail("%s", refusals[i].reason)));
	}
	refuse_unknown(name, place);
}

/*
 * refuse_unknown guesses which property was meant, or lists them.
 */
static void
refuse_unknown(const char *name, PropertyPlace place)
{
	const char *allowed[lengthof(properties) + 1];
	const char *closest;
	StringInfoData list;
	int			count = 0;

	initStringInfo(&list);
	for (int i = 0; i < lengthof(properties); i++)
	{
		if (properties[i].place != place)
			continue;
		allowed[count++] = properties[i].name;
		appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", properties[i].name);
	}
	allowed[count] = NULL;
	closest = lh_options_closest(name, allowed);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("property \"%s\" is not permitted", name),
			 closest != NULL ? errhint("Did you mean \"%s\"?", closest)
			 : errhint("The properties of a %s are: %s.",
					   place == IN_SERVER ? "server" : "user mapping", list.data)));
}

/*
 * check_bootstrap_servers accepts a list of host[:port], so that the protocol
 * is told by security.protocol alone.
 */
static void
check_bootstrap_servers(const char *value)
{
	static const char allowed[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[], ";

	if (value[strspn(value, allowed)] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("value of property \"bootstrap.servers\" is not valid"),
				 errhint("Write it as host:port, or a list of these with commas.")));
}

static bool
is_registry_property(const char *name)
{
	return strncmp(name, "schema.registry.", strlen("schema.registry.")) == 0;
}

/*
 * check_registry accepts a URL that is nothing but a host, a port and a path, and
 * certificates as text.
 */
static void
check_registry(const char *name, const char *value)
{
	bool		good = true;
	const char *hint = NULL;

	if (strcmp(name, LH_REGISTRY_URL) == 0)
	{
		const char *host = strncmp(value, "https://", 8) == 0 ? value + 8
			: strncmp(value, "http://", 7) == 0 ? value + 7 : "";

		good = host[0] != '\0' && host[0] != '/' && host[0] != ':' && host[0] != '.';
		for (const char *c = host; *c != '\0'; c++)
			good = good && *c > ' ' && *c < 0x7f && strchr("@?#\\\"<>{}|^`,", *c) == NULL;
		hint = strchr(value, '@') != NULL
			? "Who asks is told in a user mapping, as \"" LH_REGISTRY_USERNAME "\" and \"" LH_REGISTRY_PASSWORD "\"."
			: "Write it as https://host:port/path or http://host:port/path.";
	}
	else if (strcmp(name, LH_REGISTRY_CA) == 0)
	{
		good = strstr(value, "-----BEGIN CERTIFICATE-----") != NULL;
		hint = "It takes the text of certificates in PEM format.";
	}
	else if (strcmp(name, LH_REGISTRY_USERNAME) == 0)
	{
		/* where the password begins */
		good = strchr(value, ':') == NULL;
		hint = "A name holds no colon.";
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("value of property \"%s\" is not valid", name),
				 errhint("%s", hint)));
}

/*
 * check_security refuses the one mechanism that runs a command (GSSAPI, which
 * is also librdkafka's default).
 */
static void
check_security(List *options)
{
	const char *protocol = option_value(options, "security.protocol");
	const char *mechanism = option_value(options, "sasl.mechanism");
	const char *verification = option_value(options, "enable.ssl.certificate.verification");

	if (option_value(options, "bootstrap.servers") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"bootstrap.servers\" is missing"),
				 errhint("CREATE SERVER name FOREIGN DATA WRAPPER lakehouse_kafka OPTIONS (\"bootstrap.servers\" 'host:port').")));
	if (mechanism != NULL && strcmp(mechanism, "PLAIN") != 0 && strcmp(mechanism, "OAUTHBEARER") != 0 &&
		strcmp(mechanism, "SCRAM-SHA-256") != 0 && strcmp(mechanism, "SCRAM-SHA-512") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("value of property \"sasl.mechanism\" is not permitted"),
				 errhint("The mechanisms are PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER.")));
	if (protocol != NULL && pg_strncasecmp(protocol, "sasl_", 5) == 0 && mechanism == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"sasl.mechanism\" is missing"),
				 errdetail("Security protocol \"%s\" needs it.", protocol),
				 errhint("The mechanisms are PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER.")));
	if (verification != NULL && strcmp(verification, "true") != 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("certificates of brokers are not verified"),
				 errdetail("Whoever can redirect the connection can read what it carries.")));
}

static const char *
option_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return defGetString(option);
	}
	return NULL;
}

/*
 * lh_server_is_kafka tells the two kinds of servers apart.
 */
bool
lh_server_is_kafka(Oid server)
{
	ForeignServer *definition = GetForeignServer(server);
	const char *wrapper = GetForeignDataWrapper(definition->fdwid)->fdwname;

	if (strcmp(wrapper, "lakehouse_kafka") == 0)
		return true;
	if (strcmp(wrapper, "lakehouse_files") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("server \"%s\" is no place that lakehouse reads from", definition->servername),
			 errdetail("It belongs to the foreign-data wrapper \"%s\".", wrapper),
			 errhint("Use a server of lakehouse_files or lakehouse_kafka.")));
	return false;				/* keep the compiler quiet */
}

/*
 * lh_server_check_usage raises unless the current user may use the server.
 */
void
lh_server_check_usage(Oid server)
{
	AclResult	result = lh_compat_server_aclcheck(server, GetUserId(), ACL_USAGE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, GetForeignServer(server)->servername);
}

/*
 * lh_server_directory returns the directory of a lakehouse_files server.
 */
char *
lh_server_directory(Oid server)
{
	char	   *directory;

	lh_server_check_usage(server);
	directory = lh_server_is_kafka(server) ? NULL : lh_server_directory_of(server);
	if (directory == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" has no directory", GetForeignServer(server)->servername)));
	check_directory(directory);
	return directory;
}

/*
 * lh_server_directory_of gives one slash between steps, none at the end.
 */
char *
lh_server_directory_of(Oid server)
{
	const char *directory = OidIsValid(server) ? option_value(GetForeignServer(server)->options, "directory") : NULL;
	char	   *result;
	size_t		length = 0;

	if (directory == NULL)
		return NULL;
	result = palloc(strlen(directory) + 1);
	for (const char *c = directory; *c != '\0'; c++)
	{
		if (*c != '/' || (c[1] != '/' && (c[1] != '\0' || length == 0)))
			result[length++] = *c;
	}
	if (length == 0)
		result[length++] = '/';
	result[length] = '\0';
	return result;
}

void
lh_server_check_kafka(Oid server)
{
	lh_server_check_usage(server);
	if (!lh_server_is_kafka(server))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is no Kafka cluster", GetForeignServer(server)->servername)));
}

int64
lh_server_message_limit(Oid server)
{
	const char *value = option_value(GetForeignServer(server)->options, "message.max.bytes");

	return value ? pg_strtoint64(value) : DEFAULT_MESSAGE_LIMIT;
}

/*
 * lh_server_kafka_properties returns what a connection needs.
 */
List *
lh_server_kafka_properties(Oid server, Oid role)
{
	ForeignServer *definition = GetForeignServer(server);
	List	   *result = NIL;

	lh_server_check_kafka(server);
	check_security(definition->options);
	append_properties(&result, definition->options, IN_SERVER);
	append_properties(&result, user_mapping_options(server, role), IN_USER_MAPPING);
	return result;
}

/*
 * lh_server_registry returns what a connection to the schema registry needs.
 */
void
lh_server_registry(Oid server, Oid role, LhServerRegistry *result)
{
	ForeignServer *definition = GetForeignServer(server);
	List	   *personal = user_mapping_options(server, role);
	ListCell   *cell;

	lh_server_check_kafka(server);
	foreach(cell, definition->options)
		check_property(lfirst(cell), IN_SERVER);
	foreach(cell, personal)
		check_property(lfirst(cell), IN_USER_MAPPING);
	result->url = option_value(definition->options, LH_REGISTRY_URL);
	result->ca_pem = option_value(definition->options, LH_REGISTRY_CA);
	result->username = option_value(personal, LH_REGISTRY_USERNAME);
	result->password = option_value(personal, LH_REGISTRY_PASSWORD);
}

/*
 * user_mapping_options returns the options of the role's user mapping, else of
 * PUBLIC's, else none: a cluster may want no credentials.
 */
static List *
user_mapping_options(Oid server, Oid role)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
										ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	List	   *options = NIL;
	Datum		value;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
								ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return NIL;
	value = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		options = untransformRelOptions(value);
	ReleaseSysCache(tuple);
	return options;
}

static void
append_properties(List **result, List *options, PropertyPlace place)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);
		LhKafkaProperty *property;

		check_property(option, place);
		if (is_registry_property(option->defname))
			continue;
		property = palloc(sizeof(LhKafkaProperty));
		property->name = option->defname;
		property->value = pstrdup(defGetString(option));
		*result = lappend(*result, property);
	}
}
