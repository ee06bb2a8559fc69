/*
 * res_kafka: interfaces between the parts of res_kafka.so.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_INTERNAL_H
#define RES_KAFKA_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "asterisk/astobj2.h"
#include "asterisk/linkedlists.h"
#include "asterisk/lock.h"

#include "asterisk/kafka.h"
#include "boundary/codec.h"
#include "boundary/frame.h"
#include "boundary/peer.h"
#include "boundary/supervisor.h"
#include "stage/stage.h"

struct ast_str;

/* engine.c: the engine's process, and requests to the engine. Requests are for any thread except those of
 * calls and events. */

extern struct peer *engine_peer;
extern struct stage_memory engine_memory; /* from engine_open to engine_close */

/* engine_open starts the engine and waits until the engine serves, ten seconds at most. 0, or -1 with the
 * reason in the log; engine_close is due in both cases. */
int engine_open(void);
/* engine_stage_folder returns the folder of durable slabs, empty = there is none, and the most bytes of slabs there,
 * 0 = no limit. */
const char *engine_stage_folder(uint64_t *bytes);
/* engine_serve lets the calls of other threads through: the replay to the engine is complete. */
void engine_serve(void);
/* engine_pump sets the pump for notices of the start and death of engines; NULL = none. */
void engine_pump(struct stage_pump *pump);
/* engine_stop delivers waiting records for at most grace_ms; only requests for reports are possible after
 * that. Idempotent. */
void engine_stop(uint32_t grace_ms);
/* engine_close ends the process, bounded. forget = 0: Asterisk ends, and threads may still call. */
void engine_close(int forget);

/* engine_now returns the generation of the serving engine, 0 = none. */
uint64_t engine_now(void);
/* engine_await returns the same; during a start it waits timeout_ms at most. */
uint64_t engine_await(int timeout_ms);
/* engine_await_until waits without limit. 0 = no engine will follow, or *ended is set. */
uint64_t engine_await_until(const int *ended);

/* engine_ask is peer_call, and frees the request. After PEER_OK the caller calls answer_end. */
enum peer_result engine_ask(struct boundary_writer *request, uint64_t generation, int timeout_ms, const void *tag, size_t most,
	struct peer_answer *answer);
/* answer_end frees an answer. -1 for an unreadable answer; its engine is ended. */
int answer_end(struct peer_answer *answer);
/* engine_ask_result is for an answer with a result only; RESK_ESTATE without an answer. */
int32_t engine_ask_result(struct boundary_writer *request, uint64_t generation, int timeout_ms, enum peer_result *asked);
/* engine_send_number sends a request with one number and waits for the answer, whose fields it ignores. */
enum peer_result engine_send_number(uint16_t kind, uint64_t generation, uint64_t number, int timeout_ms);
/* engine_refuse ends an engine after an unacceptable message; why is a constant. engine_broken: after an
 * unreadable message. */
void engine_refuse(const char *why);
void engine_broken(void);

/* Limit for an answer from the engine's memory, ms; generous, for a busy machine. */
#define ASK_MS 2000
/* Limit for a load, a reload, ensure_topic and the end of Asterisk to wait for a starting engine, ms. */
#define AWAIT_MS 5000
#define AWAIT_END_MS 2000
/* An answer without a limit counts as lost after this time and is requested again, ms. */
#define LOST_MS 60000

#define AWAY "the Kafka engine is not there to answer; it is being restarted"

/* engine_log.c: log lines of the engine and of the supervisor; the section Engine of the command kafka show
 * status. */
void engine_says(uint16_t kind, struct boundary_reader *fields);
void engine_supervisor_says(int level, const char *text);
/* silent_ms: how long the engine has not answered a command, 0 = it has. */
void engine_status(int silent_ms, struct ast_str **text);
/* engine_supervised sets the fields known to the supervisor. */
void engine_supervised(struct supervisor_status *status);

/* replay.c: requests repeated for each new engine, in this order. A rank and a key identify a request. */
enum replay_rank { REPLAY_CONFIGURE, REPLAY_SOURCE, REPLAY_REPORTS, REPLAY_PRODUCER, REPLAY_ONCE };

/* replay_keep takes a request out of its writer, in place of the one with the same rank and key. It sends the request,
 * unless the serving engine has that generation: then the engine has the request already. A REPLAY_ONCE is
 * removed after its answer. stage: of a REPLAY_PRODUCER; the stage is held until the engine has opened its
 * gate. Returns 0, or -1 without memory or with too many waiting REPLAY_ONCE. */
int replay_keep(enum replay_rank rank, uint64_t key, struct boundary_writer *request, uint64_t generation, struct stage *stage);
/* replay_rest sends the serving engine the requests left out earlier, because their connection was not in the
 * configuration, and the refused requests. Never blocks. */
void replay_rest(void);
void replay_drop(enum replay_rank rank, uint64_t key);
void replay_clear(void);
/* replay_start posts all requests to an engine after its hello. After all answers it calls engine_serve with the
 * lock of replay_keep held. The supervisor's thread. */
void replay_start(uint64_t generation);

/* config.c: configuration files, and the table of connections of the configuration in force. */
int config_load(void);
/* config_source reads the file of an event source of that kind. *source is the source's number, 0 = a new
 * source. *connection is for ast_free. 0, or -1 with the reason in the log and nothing changed. */
int config_source(const char *kind, const char *file, uint64_t *source, char **connection);
/* connection_can reports whether a connection has a producer, or a consumer. log: the log gets the reason why not. */
bool connection_can(const char *name, bool consume, bool log);
/* connection_fill sets the limits of a new gate. */
void connection_fill(const char *name, struct resk_gate *gate);
/* connection_patience returns the limit of a request with a broker's answer, ms: request_timeout_ms plus 2 s.
 * NULL = the longest limit. */
int connection_patience(const char *name);
/* connection_most returns the limit of a batch of messages, bytes. */
size_t connection_most(const char *name);
/* connection_nth returns name number n among the names with the prefix, for ast_free; NULL past the last. */
char *connection_nth(const char *prefix, uint32_t n);
void connections_clear(void);

/* cli.c: the commands of the engine's table. */
int cli_register(void);
void cli_unregister(void);
/* commands_read copies the commands, the last fields of hello's answer. 0, or -1 for unacceptable commands. */
int commands_read(struct boundary_reader *reader);
void commands_clear(void);

/* stages.c: the pump, and the stages of all connections. A slot is a connection's name and stage, and its
 * producer's weak proxy. Slots live until the unload. */
struct slot {
	AO2_WEAKPROXY();
	AST_LIST_ENTRY(slot) next;
	struct stage *stage;
	char name[];
};
AST_LIST_HEAD(slots, slot);
extern struct slots slots;
/* slot_open finds or makes a slot and requests its gate. NULL with the reason in the log. Caller must hold
 * the list's lock. */
struct slot *slot_open(const char *name);
int stages_start(void);
/* stages_ready prepares the pump for the demands of a new configuration. */
void stages_ready(void);
/* stages_publish updates the counts of the stages for the engine's status. */
void stages_publish(void);
/* stages_settle waits until no record was produced for 40 ms, 300 ms at most. */
void stages_settle(void);
/* stages_close refuses all later records and waits until the engine has all staged records, for seconds at
 * most. */
void stages_close(void);
/* stages_tell_late logs the number of records after stages_close. The first one after that is logged at once,
 * later ones never. */
void stages_tell_late(void);
/* stages_stop frees the stages; no module may have a producer then. */
void stages_stop(void);
/* stages_running returns whether a call of the API for connection `name` is possible: not in a forked child, nor after a
 * declined load (Asterisk keeps the code, and other modules may call it), nor without a name. The log then reports a
 * missing `what`. */
int stages_running(const char *what, const char *name);
/* stages_refuse notes a refused record, for the log; stage NULL = there is no connection. Returns -1. */
int stages_refuse(struct stage *stage, enum resk_refusal reason, const char *topic);

/* producer.c */
int producers_held(void);
const char *producer_name(struct ast_kafka_producer *producer);
struct stage *producer_stage(struct ast_kafka_producer *producer);
/* producer_put stages one frame: parts[0] becomes head; producer_put adds the time to head. weight follows
 * the engine's rule. 0, or -1 with the refusal noted. */
int producer_put(struct ast_kafka_producer *producer, struct resk_frame_head *head, struct iovec *parts, int count,
	size_t weight, uint32_t charge, const char *topic);
/* A record as in the public calls; headers is NULL exactly if header_count is 0. */
struct record {
	const char *topic;
	const char *key;
	const void *payload;
	size_t len;
	const struct ast_kafka_header *headers;
	size_t header_count;
	const struct resk_report_to *report; /* NULL = no report */
};
/* producer_record stages a record. 0, or -1 with the refusal noted, also for producer NULL. */
int producer_record(struct ast_kafka_producer *producer, const struct record *record);

/* worker.c. A thread holds the turn during each callback of one consumer or one handle of reports, so
 * callbacks run one at a time. The owner initializes and destroys the lock. */
struct turn {
	ast_mutex_t lock;
	pthread_t inside; /* the thread of the callback, while is_inside; under the lock */
	int is_inside;
};
/* turn_begin waits for the turn. Returns 0, then turn_end comes after the callback; or -1 without a turn when *ended is set. */
int turn_begin(struct turn *turn, const int *ended);
void turn_end(struct turn *turn);
/* 1 when this thread is inside the callback. */
int turn_is_mine(struct turn *turn);
/* Waits until no callback runs, except from inside one. If *ended was set before, no callback begins after
 * that. */
void turn_wait(struct turn *turn);

/* Starts a thread for work(object). Thread and worker have references of their own; the caller owns the
 * worker, an AO2 object. NULL without a thread. */
struct worker;
struct worker *worker_start(void (*work)(void *object), void *object);
/* Waits until work has returned, unless another thread did so before. Not from inside work. */
void worker_join(struct worker *worker);
/* Joins the finished threads. */
void workers_reap(void);
/* How many are at work. */
int workers_busy(void);

/* consumer.c. A seat is the state of a consumer and outlives its handle; it is also the handle's weak
 * proxy. */
struct seat {
	AO2_WEAKPROXY();
	AST_LIST_ENTRY(seat) next;
	struct turn turn;             /* of callbacks */
	ast_mutex_t lock;             /* of the next fields; taken after the turn */
	struct subscription *current; /* a reference, or NULL */
	int alone;  /* the consumer's reference count with a single owner; AO2 counts the weak proxy's reference too */
	int shared; /* for every caller of ast_kafka_get_consumer() with its name */
	char name[];
};
/* consumer_lend returns a reference to the seat's consumer, a new one if necessary; consumer_return ends the
 * loan. The module may be unloaded meanwhile, unless a callback keeps the consumer. */
struct ast_kafka_consumer *consumer_lend(struct seat *seat);
void consumer_return(struct ast_kafka_consumer *consumer);
int consumers_held(void);
/* consumers_stop ends all subscriptions, when no consumer is held. */
void consumers_stop(void);

/* bequest.c: what a subscription leaves to the next engine. Its memory begins zeroed. The positions are for the
 * subscription's thread only, or before its start; all others for any thread. */
struct bequest {
	char *member; /* the id in the group; the next engine removes the member of a dead engine */
	char *pauses; /* lines, see the message subscribe */
	struct position *positions;
	uint32_t position_count, position_at; /* position_at: index of the last one */
};
void bequest_member(struct bequest *bequest, const char *member);
/* bequest_pause adds a pause or its end in place of earlier ones for the same topics, "" = in place of all. 0 or -1. */
int bequest_pause(struct bequest *bequest, const char *topics, int on);
/* bequest_position notes a message as delivered. */
void bequest_position(struct bequest *bequest, const struct ast_kafka_record *message);
/* bequest_put appends the member, the pauses if asked for, and the positions. */
void bequest_put(struct bequest *bequest, struct boundary_writer *request, bool pauses);
void bequest_free(struct bequest *bequest);

/* subscription.c: an AO2 object. Its thread fetches messages and calls back. */
struct subscription;
/* subscription_start subscribes a seat to topics, now and in each later engine. NULL with the reason in the log. */
struct subscription *subscription_start(struct seat *seat, const char *topics, ast_kafka_message_cb callback,
	ast_kafka_record_cb record_callback, void *userdata);
/* subscription_end prevents further callbacks and lets the engine commit the delivered messages. Blocks for
 * two seconds at most. Idempotent. */
void subscription_end(struct subscription *subscription);
/* subscription_join waits for the thread. */
void subscription_join(struct subscription *subscription);
/* subscription_commit: current = the message of the running callback counts as delivered. 0 or -1. */
int subscription_commit(struct subscription *subscription, int current);
int subscription_pause(struct subscription *subscription, const char *topics, int on);
/* subscriptions_member stores the group member's id of subscription `number`. */
void subscriptions_member(uint64_t number, const char *member);
void subscriptions_clear(void);

/* tickets.c: numbers in place of the callers' pointers; each number is valid once. Any thread. */
struct tickets {
	ast_mutex_t lock;
	struct ticket *list;
	uint32_t count; /* of tickets */
	uint32_t free;  /* the first free ticket, plus 1 */
};
void tickets_init(struct tickets *tickets);
void tickets_destroy(struct tickets *tickets);
/* Returns a number, never 0, for a pointer; 0 without memory. engine: how many engines have died. */
uint64_t tickets_take(struct tickets *tickets, void *opaque, uint32_t engine);
/* Returns the pointer and ends the number. 1, or 0 for an invalid number. */
int tickets_redeem(struct tickets *tickets, uint64_t number, void **opaque);
/* Marks a number: its record was handed over once more after the death of engine number `engine`. */
void tickets_again(struct tickets *tickets, uint64_t number, uint32_t engine);
/* Ends a number older than the death of engine number `engine` and without a mark since, and returns the
 * pointer. *from is the place of the search, 0 at first. 1, or 0 for none. */
int tickets_lost(struct tickets *tickets, uint32_t engine, uint32_t *from, void **opaque);

/* reports.c. reports_again gets each frame of the pump's repetition, then NULL. */
void reports_again(const void *content, uint32_t length);
void reports_engine_died(void);
/* Waits for a moment until the callbacks of all present reports have returned, after the engine's stop. */
void reports_stop(void);

/* 1 in a forked child, where the engine does not exist. */
int in_forked_child(void);

#endif /* RES_KAFKA_INTERNAL_H */
