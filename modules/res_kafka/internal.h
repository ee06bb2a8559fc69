/*
 * res_kafka: what the parts of res_kafka.so know of each other. Nobody else includes this.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_INTERNAL_H
#define RES_KAFKA_INTERNAL_H

#include <pthread.h>

#include "asterisk/lock.h"

#include "asterisk/kafka.h"
#include "engine.h"

/* config.c. Reads a configuration file with Asterisk's loader. *entries is to be given to entries_free, also when there are
 * none. 0, or -1 with the reason in the log. */
struct entries {
	struct resk_entry *list;
	size_t count;
	struct ast_config *owner; /* holds every string of the list */
};
int entries_load(const char *file, struct entries *entries);
void entries_free(struct entries *entries);

/* cli.c. Registers every command of the engine's table. 0 or -1. */
int cli_register(void);
void cli_unregister(void);

/* producer.c. The pump and the stages of all connections. */
int producers_start(const struct resk_limits *limits);
/* Has the pump get ready for what a new configuration asks of the stages. */
void producers_ready(void);
/* Brings up to date what the engine is to know of the stages for its status. */
void producers_publish(void);
/* Waits until no record was produced for quiet_ms, or for limit_ms. */
void producers_settle(int quiet_ms, int limit_ms);
/* Logs how many records were refused because the stages are shut already. A later one is logged at once, and only the first. */
void producers_tell_late(void);
/* Shuts every stage to writers and waits until the engine has got what they hold, for a few seconds at most. */
void producers_close(void);
/* Frees the stages; nobody may hold a producer any more. */
void producers_stop(void);
/* How many producers are held outside. */
int producers_held(void);
/* Whether the module is at work. Asterisk keeps the code of a module that declined to load, and other modules may call
 * it: then the log says that there is no `what` for connection `name`. */
int producers_running(const char *what, const char *name);

/* The name of a producer's connection. */
const char *producer_name(struct ast_kafka_producer *producer);
/* producer_put stages one frame for a producer: head is completed with the time. 0, or -1 with the refusal noted. weight is what the record weighs by the engine's rule. */
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
/* Notes that a record is refused; producer may be NULL. Gives -1. */
int producer_refuse(struct ast_kafka_producer *producer, enum resk_refusal reason, const char *topic);
/* How many records a producer's connection may hold. */
int64_t producer_queue_limit(struct ast_kafka_producer *producer);

/* consumer.c. How many consumers are held outside; the end, when there are none. */
int consumers_held(void);
void consumers_stop(void);

/* tickets.c. Numbers in place of pointers that come back once. Any thread; a lock is held for the time of a few instructions,
 * and of an allocation for one in a thousand. */
struct tickets {
	ast_mutex_t lock;
	struct ticket **chunks;
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

/* reports.c. What the pump shows of frames that it hands over again. */
void reports_again(const void *content, uint32_t length);
/* An engine has died. */
void reports_engine_died(void);
/* Waits for a moment until the callbacks for all reports that there are have returned, once the engine has
 * stopped. */
void reports_stop(void);

/* worker.c. A turn is held over each callback of one consumer or one handle of reports, so that they come one at a time.
 * Whoever has decided that no callback begins any more, and then has waited for the turn, knows that none is under way. */
struct turn {
	ast_mutex_t lock;
	pthread_t inside; /* whose callback it is, while is_inside; under the lock */
	int is_inside;
};
void turn_init(struct turn *turn);
void turn_destroy(struct turn *turn);
void turn_take(struct turn *turn);
void turn_give(struct turn *turn);
/* Around the callback itself, by whoever has the turn. */
void turn_enter(struct turn *turn);
void turn_leave(struct turn *turn);
/* 1 when this thread is inside the callback. */
int turn_is_mine(struct turn *turn);
/* Waits until no callback is under way, unless this thread is inside it. */
void turn_wait(struct turn *turn);

/* Starts a thread for work(object); both the thread and the worker, an AO2 object that is the caller's, have
 * references of their own. NULL when there is no thread. */
struct worker;
struct worker *worker_start(void (*work)(void *object), void *object);
/* Waits until work has returned, unless somebody else has waited for it already. Not from inside work. */
void worker_join(struct worker *worker);
/* Joins those that are done. */
void workers_reap(void);
/* How many are at work. */
int workers_busy(void);

/* 1 in a forked child, where the engine does not exist. */
int in_forked_child(void);

#endif /* RES_KAFKA_INTERNAL_H */
