/*
 * outbox.h
 *	  Messages that transactions want to be in Kafka.
 */
#ifndef LH_OUTBOX_H
#define LH_OUTBOX_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "source/kafka_producer.h"

/* One message on its way into the outbox. */
typedef struct LhOutboxMessage
{
	int32		partition;		/* -1 = by key */
	bytea	   *key;			/* NULL = none */
	bytea	   *value;			/* NULL = none (a tombstone) */
	Jsonb	   *headers;		/* checked by lh_outbox_headers, or NULL */
} LhOutboxMessage;

/* One message to be sent. */
typedef struct LhOutboxRow
{
	int64		message_id;
	int64		batch_id;
	bool		has_key;
	int32		key_hash;
	LhKafkaOutgoing out;
	LhKafkaDelivery state;
	LhError    *error;			/* why it was not delivered, or NULL */
} LhOutboxRow;

typedef struct LhOutboxCounts
{
	int64		sent;
	int64		refused;		/* by the cluster, for good */
	int64		waiting;		/* of those that were read */
} LhOutboxCounts;

/* Messages of one role for one server. */
typedef struct LhOutboxPair
{
	Oid			server;			/* InvalidOid if it is gone */
	char	   *server_name;
	Oid			owner;
} LhOutboxPair;

extern void lh_outbox_init(void);

/* outbox.c */

/*
 * lh_outbox_add writes messages into the outbox, in the caller's transaction, to
 * be sent in the name of "owner" after its commit.  Returns the number of the
 * last one.
 */
extern int64 lh_outbox_add(Oid server, Oid owner, const char *topic,
						   const LhOutboxMessage *messages, int count);

/* true if this transaction has messages, which have no batch before it ends */
extern bool lh_outbox_own_messages(void);

/* raises 22023 unless it can be the name of a topic */
extern void lh_outbox_check_topic(const char *topic);

/* text in the server's encoding as bytes in UTF-8 */
extern bytea *lh_outbox_text(const char *text, int length);

/* headers.c: an array of {"key": k, "value": v} or {"key": k, "value_base64": v},
 * or an object of names and values; raises 22023 */
extern int	lh_outbox_headers(Jsonb *headers, LhKafkaHeader **result);

/* called after the commit of a transaction that has messages, for each pair (set
 * by src/worker) */
typedef void (*lh_outbox_committed_hook_type) (Oid server, Oid owner);
extern lh_outbox_committed_hook_type lh_outbox_committed_hook;

/* outbox_state.c: who has something to send now, as a list of LhOutboxPair */
extern List *lh_outbox_due(void);

/* remembers a failure (with back-off) of a topic, or of the server (topic NULL) */
extern void lh_outbox_failed(const char *server, Oid owner, const char *topic,
							 int sqlstate, const char *message);

/* deletes what is kept of servers and roles that are gone: now, or if something
 * may be gone, to be called often */
extern void lh_outbox_forget(void);
extern void lh_outbox_tidy(void);

/* send.c */
typedef struct LhSender LhSender;

/* lives in the current context */
extern LhSender *lh_sender_open(const char *server, Oid owner);

/* number of the lock that whoever sends for the pair must hold */
extern int32 lh_sender_lock_id(const char *server, Oid owner);

/* reads what comes next, in the caller's transaction; how many messages.  Makes
 * a client if there is none: raises what that raises. */
extern int	lh_sender_read(LhSender *sender);

/* sends what was read, and waits; needs no transaction.  False if nothing more
 * can be sent now. */
extern bool lh_sender_deliver(LhSender *sender);

/* writes what became of it, in the caller's transaction */
extern void lh_sender_settle(LhSender *sender, LhOutboxCounts *counts);

/* why lh_sender_deliver gave up */
extern const LhError *lh_sender_trouble(const LhSender *sender);
extern void lh_sender_close(LhSender *sender);

#endif							/* LH_OUTBOX_H */
