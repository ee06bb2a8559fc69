/*
 * res_kafka: what the parts of the module that talk to the engine know of each other: engine.c, replay.c, calls.c, fetch.c,
 * commands.c. Nobody else includes this.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_ENGINE_INTERNAL_H
#define RES_KAFKA_ENGINE_INTERNAL_H

#include <stdbool.h>

#include "boundary/codec.h"
#include "boundary/peer.h"
#include "boundary/supervisor.h"
#include "engine.h"

/* How long a question that the engine answers from memory may take, ms: a machine may be busy with much else. */
#define ASK_MS 2000

/* The longest wait of ast_kafka_get_producer() and ast_kafka_get_consumer(), ms. */
#define ASK_QUICKLY_MS 10

extern struct peer *engine_peer;

/* engine_ask finishes a request, sends it and frees it. The result is PEER_OK exactly if *answer is to be freed. */
enum peer_result engine_ask(struct boundary_writer *request, uint64_t generation, int timeout_ms, const void *tag,
	struct peer_answer *answer);

/* engine_ask_result asks for an answer that is a result alone. *peer_result may be NULL. */
int32_t engine_ask_result(struct boundary_writer *request, uint64_t generation, int timeout_ms, enum peer_result *peer_result);

/* engine_refuse ends an engine that has said something unacceptable; why is a constant. engine_broken: what cannot be read. */
void engine_refuse(const char *why);
void engine_broken(void);

/* engine_supervised fills in what the supervisor knows of the engine. */
void engine_supervised(struct supervisor_status *status);

/* engine_log.c. What the peer and the supervisor call. */
void engine_says(void *owner, uint16_t kind, const unsigned char *fields, size_t length);
void engine_supervisor_says(int level, const char *text);

/* engine_now returns the generation of the engine that serves, 0 = none. */
uint64_t engine_now(void);

/* engine_status appends the section Engine of `kafka show status`. */
struct ast_str;
void engine_status(struct ast_str **text);

/* engine_limits is what hello's answer said. */
const struct resk_limits *engine_limits(void);

/* replay.c. Requests that are repeated for a new engine, in this order. Each item is identified by its rank and key. */
enum replay_rank { REPLAY_CONFIGURE, REPLAY_SOURCE, REPLAY_REPORTS, REPLAY_PRODUCER, REPLAY_ONCE };

/* replay_keep stores a finished request and replaces the item with the same rank and key. It sends the request, unless the
 * engine of that generation serves and has it already. A REPLAY_ONCE is removed after its answer. Returns 0, or -1 without
 * memory or when too many REPLAY_ONCE wait. */
int replay_keep(enum replay_rank rank, uint64_t key, const unsigned char *frame, size_t length, uint64_t generation);
/* replay_open keeps and sends the request that opens a stage's gate, and waits for the answer, timeout_ms at most. When that comes,
 * also later, the stage is no longer held. Returns what the engine answers, or RESK_ESTATE. A refused one is forgotten. */
int32_t replay_open(struct stage *stage, const unsigned char *frame, size_t length, int timeout_ms);
/* replay_rest sends what the engine that serves was not told, because its connection was not in the configuration. */
void replay_rest(void);
void replay_drop(enum replay_rank rank, uint64_t key);
void replay_clear(void);

/* replay_start posts everything to an engine that was greeted, and calls ready with the lock of replay_keep held when it has
 * answered all. The supervisor's thread. */
void replay_start(uint64_t generation, void (*ready)(void));

/* calls.c. The names of the configuration in force. */
bool names_have(const char *name, bool consumes);
/* Returns the limit of a request that needs a broker of that connection, ms: request_timeout_ms plus 2 s. NULL = of any. */
int names_patience(const char *name);
/* Returns name number n of the names that begin with prefix, which the caller frees with ast_free; NULL past the last. */
char *names_nth(const char *prefix, uint32_t n);
void names_clear(void);

/* commands.c. Takes over the commands of hello's answer; the second time it skips them. 0, or -1 when they are unacceptable. */
int commands_read(struct boundary_reader *reader);
void commands_clear(void);

/* calls.c. Sends what resk_refused kept. */
void refusals_send(void);

/* fetch.c. Waits for an engine that serves. Returns its generation, 0 when there will be none, or *ended is set. */
uint64_t engine_await_until(const int *ended);
/* Asks for what needs a number alone, and ignores the answer. */
enum peer_result engine_send_number(uint16_t kind, uint64_t generation, uint64_t number, int timeout_ms);
void deliveries_clear(void);
/* Notes which member the subscription of a number is. */
void deliveries_note(uint64_t number, const char *member);

#endif /* RES_KAFKA_ENGINE_INTERNAL_H */
