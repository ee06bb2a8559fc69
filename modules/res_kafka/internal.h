/*
 * res_kafka: what the parts of res_kafka.so know of each other.
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

/* engine.c: the engine's process, and requests to it. Requests are for any thread but those of calls and events. */

/* What records are checked with in the caller's thread, as the engine's hello says. */
struct record_limits {
	uint8_t topic_bytes[256];  /* 1 = allowed in a topic's name */
	uint32_t topic_length_max; /* bytes */
	uint32_t record_overhead;  /* what a record weighs beside its bytes */
	uint32_t header_overhead;  /* the same for each header */
	uint64_t stage_bytes;      /* most bytes of slabs in files; 0 = no limit */
};

extern struct peer *engine_peer;
extern struct record_limits engine_limits;       /* constant from engine_open on */
extern struct stage_memory engine_memory; /* from engine_open to engine_close */

/* engine_open starts the engine and waits until it serves, ten seconds at most. 0, or -1 with the reason in the log; then
 * engine_close must be called too. */
int engine_open(void);
/* engine_stage_folder returns the folder of durable slabs; empty = there is none. */
const char *engine_stage_folder(void);
/* engine_pump sets the pump that is notified of the start and death of engines; NULL = none. */
void engine_pump(struct stage_pump *pump);
/* engine_stop delivers what is queued for at most grace_ms; then only reports can be asked for. Idempotent. */
void engine_stop(uint32_t grace_ms);
/* engine_close ends the process, bounded. forget = 0: Asterisk ends, and threads may still call. */
void engine_close(int forget);

/* engine_now returns the generation of the engine that serves, 0 = none. */
uint64_t engine_now(void);
/* engine_await does so when there is one, and waits timeout_ms at most for one that is started now. */
uint64_t engine_await(int timeout_ms);
/* engine_await_until waits without limit. It returns 0 when there will be none, or *ended is set. */
uint64_t engine_await_until(const int *ended);

/* An answer: its fields, and what reads them. */
struct answer {
	unsigned char *fields;
	struct boundary_reader reader;
};
/* engine_ask finishes a request, sends it to the engine of that generation (0 = any), and frees it. timeout_ms, tag and most: see
 * peer_call. After PEER_OK the caller calls answer_end. */
enum peer_result engine_ask(struct boundary_writer *request, uint64_t generation, int timeout_ms, const void *tag, size_t most,
	struct answer *answer);
/* answer_end frees an answer. -1 when it could not be read: its engine is ended. */
int answer_end(struct answer *answer);
/* engine_ask_result asks for an answer that is a result alone; RESK_ESTATE without one. */
int32_t engine_ask_result(struct boundary_writer *request, uint64_t generation, int timeout_ms, enum peer_result *asked);
/* engine_send_number asks for what needs a number alone, and ignores the answer. */
void engine_send_number(uint16_t kind, uint64_t generation, uint64_t number, int timeout_ms);
/* engine_refuse ends an engine that sent something unacceptable; why is a constant. engine_broken: what cannot be read. */
void engine_refuse(const char *why);
void engine_broken(void);

/* How long a question that the engine answers from memory may take, ms: a machine may be busy with much else. */
#define ASK_MS 2000
/* How long a load, a reload and ensure_topic wait for an engine that is being restarted, and how long the end of Asterisk does, ms. */
#define AWAIT_MS 5000
#define AWAIT_END_MS 2000
/* After how long an answer that may take for ever is taken for lost and asked for again, ms. */
#define LOST_MS 60000

#define AWAY "the Kafka engine is not there to answer; it is being restarted"

/* engine_log.c: what the engine and the supervisor say; the section Engine of the command kafka show status. */
void engine_says(void *owner, uint16_t kind, const unsigned char *fields, size_t length);
void engine_supervisor_says(int level, const char *text);
void engine_status(struct ast_str **text);
/* engine_supervised fills in what the supervisor knows. */
void engine_supervised(struct supervisor_status *status);

/* replay.c: requests that are repeated for a new engine, in this order. Each is identified by its rank and key. */
enum replay_rank { REPLAY_CONFIGURE, REPLAY_SOURCE, REPLAY_REPORTS, REPLAY_PRODUCER, REPLAY_ONCE };

/* replay_keep stores a finished request in place of the one with the same rank and key. It sends the request, unless the engine of
 * that generation serves and has it already. A REPLAY_ONCE is removed after its answer. stage: of a REPLAY_PRODUCER; the stage is
 * held until the engine has opened its gate. Returns 0, or -1 without memory or when too many REPLAY_ONCE wait. */
int replay_keep(enum replay_rank rank, uint64_t key, const struct boundary_writer *request, uint64_t generation, struct stage *stage);
/* replay_rest sends what the engine that serves was not told, because its connection was not in the configuration. */
void replay_rest(void);
void replay_drop(enum replay_rank rank, uint64_t key);
void replay_clear(void);
/* replay_start posts everything to an engine that was greeted, and calls ready with the lock of replay_keep held when it has
 * answered all. The supervisor's thread. */
void replay_start(uint64_t generation, void (*ready)(void));

/* config.c: configuration files, and the table of connections of the configuration in force. */
int config_load(void);
/* config_source reads the file of an event source of that kind. *source is its number, 0 = a new one. *connection is for ast_free.
 * 0, or -1 with the reason in the log and nothing changed. */
int config_source(const char *kind, const char *file, uint64_t *source, char **connection);
/* connection_can reports whether a connection has a producer, or a consumer. log: the log gets the reason why not. */
bool connection_can(const char *name, bool consume, bool log);
/* connection_fill sets the limits of a new gate. */
void connection_fill(const char *name, struct resk_gate *gate);
/* connection_patience returns the limit of a request that needs a broker, ms: request_timeout_ms plus 2 s. NULL = the longest. */
int connection_patience(const char *name);
/* connection_most returns the most bytes of messages that are received at once. */
size_t connection_most(const char *name);
/* connection_nth returns name number n of those that begin with prefix, for ast_free; NULL past the last. */
char *connection_nth(const char *prefix, uint32_t n);
void connections_clear(void);

/* cli.c: the commands of the engine's table. */
int cli_register(void);
void cli_unregister(void);
/* commands_read takes over the commands of hello's answer, once. 0, or -1 when they are unacceptable. */
int commands_read(struct boundary_reader *reader);
void commands_clear(void);

/* stages.c: the pump, and the stages of all connections. A slot is a connection by name and its stage. It lives until the unload
 * and is its producer's weak proxy. */
struct slot {
	AO2_WEAKPROXY();
	AST_LIST_ENTRY(slot) next;
	struct stage *stage;
	char name[];
};
AST_LIST_HEAD(slots, slot);
extern struct slots slots;
/* slot_open finds or makes a slot and has its gate opened. NULL with the reason in the log. Caller must hold the list's lock. */
struct slot *slot_open(const char *name);
int stages_start(void);
/* stages_ready has the pump get ready for what a new configuration asks of the stages. */
void stages_ready(void);
/* stages_publish updates what the engine is to know of the stages for its status. */
void stages_publish(void);
/* stages_settle waits until no record was produced for quiet_ms, or for limit_ms. */
void stages_settle(int quiet_ms, int limit_ms);
/* stages_close refuses all later records and waits until the engine has what is staged, for seconds at most. */
void stages_close(void);
/* stages_tell_late logs how many records came after stages_close. A later one is logged at once, and only the first. */
void stages_tell_late(void);
/* stages_stop frees the stages; nobody may hold a producer any more. */
void stages_stop(void);
/* stages_running reports whether the module is at work. Asterisk keeps the code of a module that declined to load, and others may
 * call it: then the log says that there is no `what` for connection `name`. */
int stages_running(const char *what, const char *name);
/* stages_refuse notes a refused record, for the log; stage NULL = there is no connection. Returns -1. */
int stages_refuse(struct stage *stage, enum resk_refusal reason, const char *topic);

/* producer.c */
int producers_held(void);
const char *producer_name(struct ast_kafka_producer *producer);
struct stage *producer_stage(struct ast_kafka_producer *producer);
/* producer_put stages one frame: parts[0] becomes head, which is completed with the time. weight is by the engine's rule. 0, or -1
 * with the refusal noted. */
int producer_put(struct ast_kafka_producer *producer, struct resk_frame_head *head, struct iovec *parts, int count,
	size_t weight, uint32_t charge, const char *topic);
/* A record as the public calls take it; headers is NULL exactly if header_count is 0. */
struct record {
	const char *topic;
	const char *key;
	const void *payload;
	size_t len;
	const struct ast_kafka_header *headers;
	size_t header_count;
	const struct resk_report_to *report; /* NULL = nobody wants one */
};
/* producer_record stages a record. 0, or -1 with the refusal noted, also for producer NULL. */
int producer_record(struct ast_kafka_producer *producer, const struct record *record);

/* worker.c. A turn is held over each callback of one consumer or one handle of reports, so callbacks come one at a time. Its owner
 * initializes and destroys the lock. */
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
/* Waits until no callback is under way, unless this thread is inside it. A thread that has set *ended before knows that no callback
 * begins any more. */
void turn_wait(struct turn *turn);

/* Starts a thread for work(object); both the thread and the worker, an AO2 object that is the caller's, have
 * references of their own. NULL when there is no thread. */
struct worker;
struct worker *worker_start(void (*work)(void *object), void *object);
/* Waits until work has returned, unless another thread has waited for it already. Not from inside work. */
void worker_join(struct worker *worker);
/* Joins those that are done. */
void workers_reap(void);
/* How many are at work. */
int workers_busy(void);

/* consumer.c. A seat is the state of a consumer that outlives its handle, and the handle's weak proxy. */
struct seat {
	AO2_WEAKPROXY();
	AST_LIST_ENTRY(seat) next;
	struct turn turn;             /* of callbacks */
	ast_mutex_t lock;             /* of what follows; taken after the turn */
	struct subscription *current; /* a reference, or NULL */
	int alone;  /* the consumer's count of references while a single one is held; AO2 counts the weak proxy's too */
	int shared; /* ast_kafka_get_consumer() gives it to whoever asks for its name */
	char name[];
};
/* consumer_lend returns a reference to the seat's consumer, made if there is none; consumer_return ends that. The module may be
 * unloaded meanwhile, unless a callback keeps the consumer. */
struct ast_kafka_consumer *consumer_lend(struct seat *seat);
void consumer_return(struct ast_kafka_consumer *consumer);
int consumers_held(void);
/* consumers_stop ends all subscriptions, when no consumer is held. */
void consumers_stop(void);

/* subscription.c: an AO2 object. Its thread fetches messages and calls back. */
struct subscription;
/* subscription_start subscribes a seat to topics, now and in each later engine. NULL with the reason in the log. */
struct subscription *subscription_start(struct seat *seat, const char *topics, ast_kafka_message_cb callback,
	ast_kafka_record_cb record_callback, void *userdata);
/* subscription_end lets no callback begin any more and has the engine commit what was delivered. Blocks for two seconds at most.
 * Idempotent. */
void subscription_end(struct subscription *subscription);
/* subscription_join waits for the thread. */
void subscription_join(struct subscription *subscription);
/* subscription_commit: current = the message whose callback is under way counts as delivered. 0 or -1. */
int subscription_commit(struct subscription *subscription, int current);
int subscription_pause(struct subscription *subscription, const char *topics, int on);
/* subscriptions_member notes which member of its group the subscription of a number is. */
void subscriptions_member(uint64_t number, const char *member);
void subscriptions_clear(void);

/* tickets.c: numbers in place of pointers that come back once. Any thread. */
struct tickets {
	ast_mutex_t lock;
	struct ticket *list;
	uint32_t count; /* of tickets */
	uint32_t free;  /* the first free one, plus 1 */
};
void tickets_init(struct tickets *tickets);
void tickets_destroy(struct tickets *tickets);
/* Returns a number, never 0, for a pointer; 0 without memory. engine: how many engines have died. */
uint64_t tickets_take(struct tickets *tickets, void *opaque, uint32_t engine);
/* Gives the pointer back and ends the number. 1, or 0 when there is no such number. */
int tickets_redeem(struct tickets *tickets, uint64_t number, void **opaque);
/* Notes that a number's record was handed over once more after engine number `engine` had died. */
void tickets_again(struct tickets *tickets, uint64_t number, uint32_t engine);
/* Ends a number that was taken before engine number `engine` died and was not noted since, and gives the pointer back. *from is
 * where to look, 0 for the first time. 1, or 0 when there is none. */
int tickets_lost(struct tickets *tickets, uint32_t engine, uint32_t *from, void **opaque);

/* reports.c. reports_again gets each frame that the pump hands over again, then NULL. */
void reports_again(const void *content, uint32_t length);
void reports_engine_died(void);
/* Waits for a moment until the callbacks for all reports that there are have returned, once the engine has stopped. */
void reports_stop(void);

/* 1 in a forked child, where the engine does not exist. */
int in_forked_child(void);

#endif /* RES_KAFKA_INTERNAL_H */
