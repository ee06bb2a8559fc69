/*
 * res_kafka: the engine, a process beside Asterisk, as the rest of the module calls it.
 *
 * Rules for every call
 *   Threads   any, unless said otherwise; but never one that carries a call or an event. Those use the stage.
 *   Text      struct resk_text: a pointer and a length, borrowed for the duration of the call. A NULL pointer is none,
 *             which is not the same as an empty text.
 *   Results   enum resk_result. RESK_ESTATE: there is no engine just now, or it ended before it answered.
 *   Death     the module repeats configuration, sources, reports, producers and subscriptions for a new engine. Threads
 *             in resk_next and resk_reports_next wait for it.
 *   Forks     a forked child must not call at all.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_ENGINE_H
#define RES_KAFKA_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "boundary/frame.h"
#include "boundary/messages.h"
#include "boundary/shared.h"
#include "stage/stage.h"

struct resk_text {
	const char *data;
	size_t length;
};

/* One line of a configuration file as Asterisk's loader read it, templates and includes applied. A section is
 * announced by an entry without a name, also when it holds nothing. */
struct resk_entry {
	const char *file; /* may be NULL for the announcement of a section */
	int32_t line;
	const char *section;
	const char *name; /* NULL: the section begins */
	const char *value;
	int32_t inherited; /* 1 = it came from a template */
};

/* What the module has to know of the engine to stage records. What a topic name may be is Kafka's rule, given as data so
 * that the check in the caller's thread is a look-up and not a rule. */
struct resk_limits {
	uint8_t topic_bytes[256];  /* 1 = allowed in a topic name */
	uint32_t topic_length_max; /* bytes */
	uint32_t record_overhead;  /* what a record weighs against its size limit beside its bytes */
	uint32_t header_overhead;  /* the same for each of its headers */
	const char *stage_folder;  /* for slabs in files; empty = there is none. Valid until engine_close */
	uint64_t stage_bytes;      /* most bytes of them; 0 = no limit */
};

struct resk_message_header {
	const char *name;  /* ends with NUL */
	const void *value; /* NULL = null */
	size_t value_length;
};

/* One message as a callback gets it. */
struct resk_message {
	const char *topic; /* ends with NUL */
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms; /* since 1970, -1 = none */
	const void *key;      /* NULL = no key */
	size_t key_length;
	const void *value;    /* NULL = null value */
	size_t value_length;
	const struct resk_message_header *headers;
	size_t header_count;
};

/* Messages in the order in which they are to be delivered, valid until the next call of resk_next or
 * resk_subscription_free for the subscription. */
struct resk_batch {
	size_t count;
	const struct resk_message *messages;
	uint64_t generation; /* of the engine that gave it */
};

/* What became of one record that an accepted frame asked a report for. */
struct resk_report {
	uint64_t opaque;
	const char *topic; /* ends with NUL */
	int32_t partition; /* -1 when not known */
	int64_t offset;    /* -1 when not known */
	const char *error; /* NULL = acknowledged; else why it was dropped, ends with NUL */
};

/* One block of memory, to be given to resk_reports_free. */
struct resk_report_batch {
	int engine_died; /* then there are no reports in it: what the engine before has not said it will not say any more */
	size_t count;
	struct resk_report *reports;
	unsigned char *fields;
};

/* One CLI command. Valid until engine_close. words may contain the alternatives and <placeholders> that Asterisk's CLI
 * understands. */
struct resk_command {
	const char *words;
	const char *summary;
	const char *usage;
};

/* A subscription as its consumer and the engine know it. Its owner zeroes it. */
struct resk_subscription {
	uint64_t id; /* of its progress record; 0 = there is none */
	struct resk_progress *progress;
	char *name, *topics;
	struct resk_pause *pauses; /* that were asked for, the latest first */
	char *member; /* which it is in its group, for the next engine to take out if this one is killed */
	uint64_t generation; /* of the engine that knows it, 0 = none; atomic */
	int ended;           /* atomic */
	unsigned char *fields; /* of the last batch, and what points into it; the thread's alone */
	struct resk_message *messages;
	struct resk_message_header *headers;
	struct resk_batch batch;
};

/* engine_open finds the binary beside this module, starts the engine and waits until it serves. *limits is filled in. 0, or -1
 * with the reason in the log; then engine_close is to be called as well. Blocks for ten seconds at most. */
int engine_open(struct resk_limits *limits);

/* engine_memory returns the memory that stages share with engines, from engine_open to engine_close. */
const struct stage_memory *engine_memory(void);

/* engine_pump sets the pump that is notified of the start and death of engines; NULL = none. */
void engine_pump(struct stage_pump *pump);

/* engine_await waits until there is an engine that serves, timeout_ms at most, and starts one now if there is none. */
void engine_await(int timeout_ms);

/* engine_close ends the engine's process, bounded, and what this module knows of it. forget = 0: Asterisk ends, and threads may
 * still call, which are answered with RESK_ESTATE. */
void engine_close(int forget);

/* resk_stop delivers what is queued for at most grace_ms, then gives up the rest (counted and logged), and closes every
 * client. Afterwards only reports can be asked for. Blocks for grace_ms, flush_timeout_ms and the closing. Idempotent. */
void resk_stop(uint32_t grace_ms);

/* resk_configure reads kafka.conf. On success the new configuration is in force; connections whose options did not change
 * are not touched. On RESK_EINVAL every problem has been logged and the previous configuration stays in force; also on
 * RESK_ESTATE, which is logged. Never touches the network. */
int32_t resk_configure(const struct resk_entry *entries, size_t count);

/* resk_producer_open binds the stage's gate to connection `name` and opens it, now and in every later engine. Blocks for 10 ms at
 * most: an engine that is slow or away opens it later, if the connection is one of the accepted configuration. RESK_OK,
 * RESK_ENOENT, RESK_EDISABLED (each logged). */
int32_t resk_producer_open(const char *name, struct stage *stage);

/* resk_producer_forget has no later engine open the stage's gate. Before the stage is destroyed. */
void resk_producer_forget(struct stage *stage);

/* resk_refused logs (throttled) and counts what the stage of connection id refused: reason is enum resk_refusal, sample the
 * topic of the first one. id 0 = refused before there was a connection. */
void resk_refused(uint64_t id, uint32_t reason, uint64_t count, const char *sample);

/* resk_source_open reads the configuration of an event source (kind "cdr": cdr_kafka.conf) and gives its number and the
 * connection it publishes on, which the caller frees with ast_free. A call with the same *source != 0 is a reload; a failed reload
 * changes nothing. RESK_OK, RESK_ENOENT (no such kind), RESK_EINVAL (problems, logged), RESK_ESTATE (logged). */
int32_t resk_source_open(const char *kind, const struct resk_entry *entries, size_t count, uint64_t *source, char **connection);

/* resk_consumer_check reports whether connection `name` can consume. Blocks for 10 ms at most. RESK_OK, RESK_ENOENT,
 * RESK_EDISABLED, RESK_EINVAL (no group_id), each logged. */
int32_t resk_consumer_check(const char *name);

/* resk_subscribe makes connection `name` a member of its group for topics, a comma-separated list, now and in every later
 * engine. The subscription's one thread then calls resk_next. Never touches the network. RESK_OK, RESK_EINVAL (no topic;
 * logged), RESK_ENOENT, RESK_EDISABLED, RESK_ESTATE. */
int32_t resk_subscribe(struct resk_subscription *subscription, const char *name, const char *topics);

/* resk_next gives the next messages, or NULL when the subscription has ended. Calling it says that of the batch before
 * as many have been delivered as its progress record counts; the others come again. Blocks until there are messages. Only the
 * subscription's thread. */
const struct resk_batch *resk_next(struct resk_subscription *subscription);

/* resk_is_stale reports whether the engine that gave a batch is gone: what was not delivered of it comes again. */
int resk_is_stale(const struct resk_batch *batch);

/* resk_unsubscribe ends a subscription: what was delivered is committed where auto-commit is on, the group is left, and
 * resk_next returns NULL from now on. Blocks for two seconds at most. Idempotent. */
void resk_unsubscribe(struct resk_subscription *subscription);

/* resk_subscription_free ends a subscription if need be and has the engine forget it. The last call of its thread; without
 * one, of its owner. */
void resk_subscription_free(struct resk_subscription *subscription);

/* resk_commit commits what the subscription has delivered, for a connection with enable_auto_commit = no; current = 1: the
 * message whose callback is under way counts as delivered. Blocks until the broker has answered, request_timeout_ms at
 * most. RESK_OK, RESK_EINVAL (refused), RESK_ENOENT, RESK_ESTATE, each logged. */
int32_t resk_commit(struct resk_subscription *subscription, int current);

/* resk_pause stops (on = 1) or lets go on (0) the messages of some topics of a subscription, all when topics is NULL. The
 * membership stays. RESK_OK, RESK_ENOENT, RESK_ESTATE. */
int32_t resk_pause(struct resk_subscription *subscription, const char *topics, int on);

/* resk_reports_open makes a queue of reports, *id its number from 1, which a thread empties with resk_reports_next. Each
 * record that is accepted with that number brings one report. RESK_OK, RESK_ESTATE. */
int32_t resk_reports_open(uint64_t *id);

/* resk_reports_next returns the next reports and blocks until there are some. It returns an empty batch with
 * engine_died = 1 once for each new engine. It returns NULL when *ended is not 0, or when resk_stop has returned and no report is left. It may be called after
 * resk_stop. *generation belongs to the caller, 0 at first. One thread at a time. */
struct resk_report_batch *resk_reports_next(uint64_t id, const int *ended, uint64_t *generation);
void resk_reports_free(struct resk_report_batch *batch);

/* resk_reports_close forgets a queue and what is in it; the records go on. Its *ended has been set. Idempotent, also after
 * resk_stop. */
void resk_reports_close(uint64_t id, const int *ended);

/* resk_ensure_topic creates a topic unless it is there; partitions and replication of 0 or less leave the number to the
 * broker. wait = 1: blocks until the broker has answered, request_timeout_ms plus 2 s at most. wait = 0: returns at once and
 * continues in the background until resk_stop, also while there is no engine. RESK_OK, RESK_EINVAL (refused, logged with the broker's reason),
 * RESK_ENOENT, RESK_EDISABLED, RESK_ESTATE (logged). */
int32_t resk_ensure_topic(const char *name, const char *topic, int32_t partitions, int32_t replication, int32_t wait);

/* resk_command_at describes CLI command number index of the engine's table. RESK_OK, RESK_ENOENT past the last one. */
int32_t resk_command_at(uint32_t index, struct resk_command *command);

/* resk_run runs CLI command number index with its words. Returns the printed text, which the caller frees with ast_free, or
 * NULL for "show the usage". Blocks as long as the command takes, at most request_timeout_ms plus 2 s. */
char *resk_run(uint32_t index, const struct resk_text *words, size_t count);

/* resk_complete returns candidate number n for the next word of that command, beginning with word, or NULL. The caller frees
 * it with ast_free. words are the complete words before it. Blocks for a second at most. */
char *resk_complete(uint32_t index, const struct resk_text *words, size_t count, const char *word, uint32_t n);

#endif /* RES_KAFKA_ENGINE_H */
