/*
 * res_kafka: the contract between the modules (C, in Asterisk) and the engine (Go, in libreskafka.so).
 *
 * The engine library is opened by res_kafka.so and, being Go, is never closed again: a module that is unloaded and
 * loaded again finds the library where it was and starts it anew with resk_start. The engine imports nothing from the
 * module: what it calls, it was given in struct resk_host.
 *
 * Rules for every call
 *   Threads   any, unless said otherwise; but never one that carries a call or an event. Those use the stage.
 *   Text      struct resk_text: a pointer and a length, borrowed for the duration of the call. A NULL pointer is
 *             "none", which is not the same as an empty text.
 *   Results   enum resk_result. Text comes back as memory that the caller gives to resk_free.
 *   Panics    never cross: a panic in Go is logged with its stack and becomes RESK_PANIC (or NULL, or 0).
 *   Forks     a forked child must not call at all.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_ENGINE_H
#define RES_KAFKA_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "../boundary/messages.h" /* RESK_ABI_VERSION; enums resk_result, resk_log_level, resk_refusal */
#include "../stage/stage.h"

/* const, but for cgo, which compares these declarations with those of the Go functions and cannot say const there. */
#ifndef RESK_CONST
#define RESK_CONST const
#endif

/* The gate as it was before it went to boundary/shared.h, for as long as cmd/libreskafka is there. */
struct stage_gate {
	int64_t open, max_frames, max_charge, max_length, linger_ns, max_weight, shared, taken;
	int64_t held_frames, held_charge, admitted, unshared, memory;
};

struct resk_text {
	const char *data;
	size_t length;
};

/* What the module offers the engine, and who the PBX is. Functions are called from any of the engine's threads, and
 * not after resk_stop has returned. Strings are NUL-terminated; start copies them. */
struct resk_host {
	uint32_t abi_version; /* RESK_ABI_VERSION of the module */
	uint32_t size;        /* sizeof(struct resk_host) */
	/* log writes one line (no newline at its end) to the log; file, line and function are the engine's. */
	void (*log)(int32_t level, const char *file, int32_t line, const char *function, const char *text);
	/* give_back ends the engine's use of a slab, see resk_keep. Short and without I/O. */
	void (*give_back)(void *slab);
	const char *entity_id;
	const char *system_name;
	const char *version;
	const char *hostname;
	const char *spool_dir; /* Asterisk's directory for spools */
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

/* What a frame in the stage holds, also in shared memory where a later version may find it: a change raises
 * STAGE_SLAB_LAYOUT too. It is this head, then topic, key, value, then fields of struct resk_field_head each
 * followed by its name and value, all without padding. Integers are in the machine's byte order. */
struct resk_frame_head {
	int64_t accepted_ns;  /* CLOCK_REALTIME when the caller's call accepted it */
	uint64_t source;      /* 0 = a record; else the number, by resk_source_open, of the source whose fields these are: its
	                       * upper half says the kind to later runs as well */
	uint32_t topic_length;
	uint32_t key_length;  /* RESK_NULL = no key */
	uint32_t value_length;/* RESK_NULL = null value */
	uint32_t field_count; /* the record's headers, or the event's fields */
};

#define RESK_NULL UINT32_MAX

/* The field's own values come as bytes: text as it is; an integer as int64_t; a time as two int64_t, seconds and
 * microseconds. A record's headers are text. */
enum resk_field_kind {
	RESK_FIELD_TEXT = 0,
	RESK_FIELD_INTEGER = 1,
	RESK_FIELD_TIME = 2,
	RESK_FIELD_VARIABLE = 3, /* text, a variable whose name the user chose */
	RESK_FIELD_REPORT = 4,   /* of a record, no header: its value is a struct resk_report_to and its name is empty */
};

struct resk_field_head {
	uint32_t name_length;
	uint32_t value_length; /* RESK_NULL = null */
	uint32_t kind;
};

/* Who is to learn what becomes of a record. */
struct resk_report_to {
	uint64_t reports; /* the number from resk_reports_open; one that is closed by then is nobody */
	uint64_t opaque;  /* comes back in the report */
};

/* How much the inbox holds, and the longest slab that is left there, bytes. At linger_ms = 5 a slab is longer from some
 * 10,000 messages a second on; then it is worth a call, and the copy would not be free any more. */
#define RESK_INBOX_BYTES   65536
#define RESK_INBOX_LONGEST 16384

/* One slab in the inbox. What follows it begins at the next multiple of RESK_INBOX_ALIGN. */
struct resk_inbox_entry {
	uint64_t id;     /* as for resk_take; 0 = nothing, go on at the beginning of the ring */
	uint64_t length; /* of the frames, bytes */
	void *kept;      /* the frames of a shared slab, where they are; NULL = they follow this struct */
	uint64_t unused;
};

#define RESK_INBOX_ALIGN 32

/* Where the pump leaves short slabs for the engine without a call. A thread that enters Go takes a processor of Go's
 * along, which Go's monitor thread has to notice and take back before anybody can work on what was brought: several
 * wake-ups for each slab, which at low rates cost more than all else. This is one. One thread puts at a time. put, taken
 * and asleep are read and written atomically, in sequential order. */
struct resk_inbox {
	uint64_t put;    /* bytes of entries ever put; the putting thread writes it */
	uint64_t taken;  /* and taken; the engine writes it */
	uint64_t asleep; /* 1 = the engine wants to be woken: whoever changes it to 0 writes 8 bytes to wake */
	int32_t wake;    /* a descriptor, an eventfd */
	int32_t unused;
	_Alignas(RESK_INBOX_ALIGN) unsigned char ring[RESK_INBOX_BYTES];
};

/* What the module has to know of the engine to stage records. What a topic name may be is Kafka's rule, given as data so
 * that the check in the caller's thread is a look-up and not a rule. */
struct resk_limits {
	uint8_t topic_bytes[256];  /* 1 = allowed in a topic name */
	uint32_t topic_length_max; /* bytes */
	uint32_t record_overhead;  /* what a record weighs against its size limit beside its bytes */
	uint32_t header_overhead;  /* the same for each of its headers */
	const char *stage_folder;  /* where the pump is to put shared slabs; empty = nowhere. Valid until resk_stop, which removes
	                            * the folder unless it holds frames that are ready and not done */
	uint64_t stage_bytes;      /* most bytes of shared slabs; 0 = as many as the stage wants */
	struct resk_inbox *inbox;  /* NULL = there is none. Valid as long as the library; what is put after resk_stop has begun is
	                            * lost */
};

/* What a subscription's thread and the engine tell each other without a call. The engine's memory, valid from
 * resk_subscribe until resk_subscription_free. Both members are read and written atomically. */
struct resk_delivery {
	uint64_t delivered; /* the thread adds 1 when a callback has returned: that offset may be committed */
	uint64_t hurry;     /* not 0: begin no other callback, ask for the next batch instead; set by the engine */
};

struct resk_message_header {
	const char *name;  /* ends with NUL */
	const void *value; /* NULL = null */
	size_t value_length;
};

/* One message as a callback gets it. Pointers are into the batch. */
struct resk_message {
	const char *topic; /* ends with NUL */
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms; /* since 1970, -1 = none */
	const void *key;   /* NULL = no key */
	size_t key_length;
	const void *value; /* NULL = null value */
	size_t value_length;
	const struct resk_message_header *headers;
	size_t header_count;
};

/* Messages in the order in which they are to be delivered; one block of memory, the engine's, which resk_next says the life of. */
struct resk_batch {
	size_t count;
	struct resk_message messages[];
};

/* What became of one record that an accepted frame asked a report for. Pointers are into the batch. */
struct resk_report {
	uint64_t opaque;
	const char *topic; /* ends with NUL */
	int32_t partition; /* -1 when not known */
	int64_t offset;    /* -1 when not known */
	const char *error; /* NULL = acknowledged; else why it was dropped, ends with NUL */
};

/* One block of memory, given back with resk_free. */
struct resk_report_batch {
	size_t count;
	struct resk_report reports[];
};

/* One CLI command. The texts live as long as the library. words may contain the alternatives and <placeholders> that
 * Asterisk's CLI understands. */
struct resk_command {
	const char *words;
	const char *summary;
	const char *usage;
};

/* resk_abi answers RESK_ABI_VERSION of the engine. */
extern uint32_t resk_abi(void);

/* resk_start brings the engine up without configuration. Not concurrently with itself, configure or stop. Blocks: no
 * longer than it takes to allocate. RESK_OK, RESK_EINVAL (host of another version), RESK_ESTATE (running already). */
extern int32_t resk_start(RESK_CONST struct resk_host *host, struct resk_limits *limits);

/* resk_stop delivers what the outboxes hold for at most grace_ms, then gives up the rest (counted and logged), closes
 * every client and forgets connections, sources and configuration. After it has returned the engine calls nothing of
 * the host and touches no gate. Blocks: grace_ms at most, and then for as long as closing the clients takes: tens of
 * milliseconds, or a second when a broker hangs. Idempotent. */
extern void resk_stop(uint32_t grace_ms);

/* resk_configure reads kafka.conf. On success the new configuration is in force; connections whose options did not
 * change are not touched. On RESK_EINVAL every problem has been logged and the configuration before stays in force.
 * Never touches the network before it returns. RESK_OK, RESK_EINVAL, RESK_ESTATE. */
extern int32_t resk_configure(RESK_CONST struct resk_entry *entries, size_t count);

/* resk_producer_open binds the stage of connection `name` to its outbox: fills the gate's limits, opens it, and keeps
 * them up to date over reloads. What earlier runs left in shared memory under this name is taken over before that. id is what the stage's taker passes to resk_take. The gate stays in use until
 * resk_stop; called again for a name, after a reload that had removed it, it brings the same one. Never touches the network. RESK_OK, RESK_ENOENT, RESK_EDISABLED (each
 * logged), RESK_ESTATE. */
extern int32_t resk_producer_open(struct resk_text name, struct stage_gate *gate, uint64_t *id);

/* resk_take takes over a slab of frames for connection id, after all that is in the inbox; when it returns the slab may be reused. kept = 1: it is a shared
 * one, and each frame stays until the engine has stored STAGE_FRAME_DONE into its state, which it does not after resk_stop has
 * returned. Blocks for no I/O. */
extern void resk_take(uint64_t id, void *frames, size_t length, int32_t kept);

/* resk_keep is resk_take for a slab that is not shared, full and whole, whose memory the engine may go on using, so that records
 * that wait need not be copied: 1 = it does, until it calls give_back with slab, which may be before this returns; 0 = the slab may
 * be reused. What it uses when resk_stop returns it goes on using for good. */
extern int32_t resk_keep(uint64_t id, void *frames, size_t length, void *slab);

/* resk_refused logs (throttled) and counts what the stage of connection id refused: reason is enum resk_refusal, sample the
 * topic of the first one. id 0 = refused before there was a connection. */
extern void resk_refused(uint64_t id, uint32_t reason, uint64_t count, struct resk_text sample);

/* resk_source_open reads the configuration of an event source (kind "cdr": cdr_kafka.conf) and gives its number and the name of the connection it publishes on, the latter
 * to be given to resk_free. Again with the same *source != 0: a reload, which changes nothing when it fails.
 * RESK_OK, RESK_ENOENT (no such kind), RESK_EINVAL (problems, logged), RESK_ESTATE. */
extern int32_t resk_source_open(struct resk_text kind, RESK_CONST struct resk_entry *entries, size_t count,
	uint64_t *source, char **connection);

/* resk_consumer_check says whether connection `name` can consume. RESK_OK, RESK_ENOENT, RESK_EDISABLED, RESK_EINVAL (no
 * group_id), each but the first logged; RESK_ESTATE. */
extern int32_t resk_consumer_check(struct resk_text name);

/* resk_subscribe makes connection `name` a member of its group for topics, a comma-separated list. The subscription's one thread
 * then calls resk_next. It goes on over reloads, also over one that removes the connection and another that brings it
 * back. Never touches the network before it returns. RESK_OK, RESK_EINVAL (no topic; logged), RESK_ENOENT, RESK_EDISABLED, RESK_ESTATE. */
extern int32_t resk_subscribe(struct resk_text name, struct resk_text topics, struct resk_delivery **delivery, uint64_t *id);

/* resk_next gives the next messages, or NULL when the subscription has ended. Calling it says that of the batch before
 * as many have been delivered as resk_delivery counts; the others come again. Blocks until there are messages. Only
 * the subscription's thread. A batch is valid until the next call of resk_next or resk_subscription_free for the
 * subscription. */
extern struct resk_batch *resk_next(uint64_t id);

/* resk_unsubscribe ends a subscription: what was delivered is committed where auto-commit is on, the group is left, and
 * resk_next answers NULL from now on. Blocks for about a second at most, whatever the brokers do. Idempotent. */
extern void resk_unsubscribe(uint64_t id);

/* resk_subscription_free ends a subscription if need be and forgets it. The last call of its thread. */
extern void resk_subscription_free(uint64_t id);

/* resk_commit commits what the subscription has delivered, for a connection with enable_auto_commit = no; current = 1: the
 * message whose callback is under way counts as delivered. Blocks until
 * the broker has answered, request_timeout_ms at most. RESK_OK, RESK_EINVAL (refused; logged), RESK_ENOENT, RESK_ESTATE. */
extern int32_t resk_commit(uint64_t id, int32_t current);

/* resk_pause stops (on = 1) or lets go on (0) the messages of some topics of a subscription, all when topics is none. The
 * membership stays. RESK_OK, RESK_ENOENT, RESK_ESTATE. */
extern int32_t resk_pause(uint64_t id, struct resk_text topics, int32_t on);

/* resk_reports_open makes a queue of reports, *id its number from 1, which a thread empties with resk_reports_next. Each
 * record that is accepted with that number brings one report. RESK_OK, RESK_ESTATE. */
extern int32_t resk_reports_open(uint64_t *id);

/* resk_reports_next gives the next reports and blocks until there are some; NULL when there will be none any more:
 * resk_reports_close was called, or resk_stop has returned and all were given, which may still be asked after it. One
 * thread at a time. */
extern struct resk_report_batch *resk_reports_next(uint64_t id);

/* resk_reports_close forgets a queue and what is in it; the records go on. Idempotent, also after resk_stop. */
extern void resk_reports_close(uint64_t id);

/* resk_ensure_topic creates a topic unless it is there; partitions and replication of 0 or less leave the number to the
 * broker. wait = 1: blocks until it is known, request_timeout_ms plus 2 s at most; 0: returns at once and goes on in the
 * background until resk_stop. RESK_OK, RESK_EINVAL (refused, logged with the broker's reason), RESK_ENOENT, RESK_EDISABLED, RESK_ESTATE. */
extern int32_t resk_ensure_topic(struct resk_text name, struct resk_text topic, int32_t partitions, int32_t replication, int32_t wait);

/* resk_command_at describes CLI command number index of the engine's table. RESK_OK, RESK_ENOENT past the last one.
 * Needs no start. */
extern int32_t resk_command_at(uint32_t index, struct resk_command *command);

/* resk_run runs CLI command number index with its words and gives what it prints, or NULL for "show the usage". Blocks for
 * as long as the command says, `kafka test send` up to request_timeout_ms. */
extern char *resk_run(uint32_t index, RESK_CONST struct resk_text *words, size_t count);

/* resk_complete gives candidate number n for word number position of a command line of that command, beginning with
 * word, or NULL. words are the complete words before it. */
extern char *resk_complete(uint32_t index, RESK_CONST struct resk_text *words, size_t count, struct resk_text word, uint32_t n);

/* resk_free frees what another call gave. NULL is allowed. */
extern void resk_free(void *memory);

/* resk_fault panics inside the engine, for tests of the fence. Returns RESK_PANIC. */
extern int32_t resk_fault(void);

/* Every call above, for whoever looks them up by name. */
#define RESK_CALLS(X) \
	X(resk_abi) \
	X(resk_start) \
	X(resk_stop) \
	X(resk_configure) \
	X(resk_producer_open) \
	X(resk_take) \
	X(resk_keep) \
	X(resk_refused) \
	X(resk_source_open) \
	X(resk_consumer_check) \
	X(resk_subscribe) \
	X(resk_next) \
	X(resk_unsubscribe) \
	X(resk_subscription_free) \
	X(resk_commit) \
	X(resk_pause) \
	X(resk_reports_open) \
	X(resk_reports_next) \
	X(resk_reports_close) \
	X(resk_ensure_topic) \
	X(resk_command_at) \
	X(resk_run) \
	X(resk_complete) \
	X(resk_free) \
	X(resk_fault)

#endif /* RES_KAFKA_ENGINE_H */
