/*
 * res_kafka: consumers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Consumer handles.
 *
 * A consumer is the handle of other modules and prevents the unload of this module. The seat holds the turn
 * of the callbacks and the subscription. A seat with a subscription outlives its consumer: the modules of the
 * reference release their consumer after subscribing. The next request for the consumer gets a new handle of
 * the same seat. A list holds all seats; the unload finds the remaining subscriptions there.
 *
 * No callback begins after the end of a subscription. The turn guards this decision. A thread ends a
 * subscription and then takes the turn: no callback runs after that. The thread then joins the subscription's
 * thread, except from inside a callback of the same consumer; the next caller joins then (worker.c). AO2 runs
 * a consumer's destructor with the seat locked, so the destructor never waits.
 */

#include "asterisk.h"

#include <pthread.h>

#include "asterisk/astobj2.h"
#include "asterisk/linkedlists.h"
#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "internal.h"

struct ast_kafka_consumer {
	struct seat *seat;
	int pins; /* prevents the unload of the module; under the seat's AO2 lock */
};

/* All seats with a consumer or a subscription, and some former ones. */
static AST_LIST_HEAD_STATIC(seats, seat);
static int held;

int consumers_held(void)
{
	return __atomic_load_n(&held, __ATOMIC_SEQ_CST);
}

static void seat_destroy(void *obj)
{
	struct seat *seat = obj;

	ast_mutex_destroy(&seat->turn.lock);
	ast_mutex_destroy(&seat->lock);
}

static void consumer_destroy(void *obj)
{
	struct ast_kafka_consumer *consumer = obj;

	ao2_cleanup(consumer->seat);
	if (consumer->pins) {
		__atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
		ast_module_unref(AST_MODULE_SELF);
	}
}

/* Caller must hold the seat's AO2 lock. */
static void pin(struct ast_kafka_consumer *consumer)
{
	if (!consumer->pins) {
		consumer->pins = 1;
		ast_module_ref(AST_MODULE_SELF);
		__atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
	}
}

/* Returns a reference to the seat's consumer, a new one if necessary. pinned: the consumer prevents the
 * unload. */
static struct ast_kafka_consumer *sit(struct seat *seat, int pinned)
{
	struct ast_kafka_consumer *consumer;

	ao2_lock(seat);
	consumer = ao2_weakproxy_get_object(seat, OBJ_NOLOCK);
	if (!consumer && (consumer = ao2_alloc(sizeof(*consumer), consumer_destroy))) {
		if (ao2_weakproxy_set_object(seat, consumer, OBJ_NOLOCK)) {
			ao2_ref(consumer, -1);
			consumer = NULL;
		} else {
			consumer->seat = ao2_bump(seat);
			seat->alone = ao2_ref(consumer, 0);
		}
	}
	if (consumer && pinned) {
		pin(consumer);
	}
	ao2_unlock(seat);
	return consumer;
}

struct ast_kafka_consumer *consumer_lend(struct seat *seat)
{
	return sit(seat, 0);
}

void consumer_return(struct ast_kafka_consumer *consumer)
{
	struct seat *seat = consumer->seat;

	ao2_lock(seat);
	if (ao2_ref(consumer, 0) > seat->alone) {
		pin(consumer); /* a callback kept the consumer */
	}
	ao2_unlock(seat);
	ao2_ref(consumer, -1);
}

/* Replaces and ends the present subscription; with may be NULL. Waits for its callback and its thread, except
 * from inside a callback. */
static void replace(struct seat *seat, struct subscription *with)
{
	struct subscription *old;

	ast_mutex_lock(&seat->lock);
	old = seat->current;
	seat->current = with;
	ast_mutex_unlock(&seat->lock);
	if (old) {
		subscription_end(old);
	}
	turn_wait(&seat->turn);
	if (old && !turn_is_mine(&seat->turn)) {
		subscription_join(old);
	}
	ao2_cleanup(old);
}

static struct seat *seat_create(const char *name, int shared)
{
	struct seat *seat = ao2_weakproxy_alloc(sizeof(*seat) + strlen(name) + 1, seat_destroy);

	if (seat) {
		ast_mutex_init(&seat->turn.lock);
		ast_mutex_init(&seat->lock);
		seat->shared = shared;
		strcpy(seat->name, name); /* Safe: the memory has the name's size */
	}
	return seat;
}

/* Whether a seat has neither a consumer nor a subscription. */
static int seat_empty(struct seat *seat)
{
	struct ast_kafka_consumer *consumer = ao2_weakproxy_get_object(seat, 0);
	int empty;

	if (consumer) {
		ao2_ref(consumer, -1);
		return 0;
	}
	ast_mutex_lock(&seat->lock);
	empty = !seat->current;
	ast_mutex_unlock(&seat->lock);
	return empty;
}

/* Removes empty seats from the list and finds the shared seat of a name, NULL for none. Caller must hold the
 * list's lock: the lock prevents new use of an empty seat. */
static struct seat *find(const char *name)
{
	struct seat *found = NULL, *seat;

	AST_LIST_TRAVERSE_SAFE_BEGIN(&seats, seat, next) {
		if (seat->shared && !strcasecmp(seat->name, name)) {
			found = seat;
		} else if (seat_empty(seat)) {
			AST_LIST_REMOVE_CURRENT(next);
			ao2_ref(seat, -1);
		}
	}
	AST_LIST_TRAVERSE_SAFE_END;
	return found;
}

/* Returns a reference to the consumer of a name, or to a separate one. */
static struct ast_kafka_consumer *consumer_get(const char *name, int shared)
{
	struct ast_kafka_consumer *consumer = NULL;
	struct seat *seat;

	AST_LIST_LOCK(&seats);
	seat = find(name);
	if (!seat || !shared) {
		if ((seat = seat_create(name, shared))) {
			AST_LIST_INSERT_TAIL(&seats, seat, next);
		}
	}
	if (seat) {
		consumer = sit(seat, 1);
	}
	AST_LIST_UNLOCK(&seats);
	return consumer;
}

/* Returns a reference to a consumer, if the connection has one. */
static struct ast_kafka_consumer *consumer_for(const char *name, int shared)
{
	return stages_running("consumer", name) && connection_can(name, true, true) ? consumer_get(name, shared) : NULL;
}

struct ast_kafka_consumer *ast_kafka_create_consumer(const char *name)
{
	return consumer_for(name, 0);
}

struct ast_kafka_consumer *ast_kafka_get_consumer(const char *name)
{
	return consumer_for(name, 1);
}

void consumers_stop(void)
{
	struct seat *seat;

	/* The list is unlocked here: a callback may ask for a consumer meanwhile. */
	for (;;) {
		AST_LIST_LOCK(&seats);
		seat = AST_LIST_REMOVE_HEAD(&seats, next);
		AST_LIST_UNLOCK(&seats);
		if (!seat) {
			break;
		}
		replace(seat, NULL);
		ao2_ref(seat, -1);
	}
}

static int subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	ast_kafka_record_cb record_callback, void *userdata)
{
	struct subscription *subscription;

	if (in_forked_child() || !consumer || !topics || (!callback && !record_callback)) {
		return -1;
	}
	workers_reap();
	replace(consumer->seat, NULL);
	subscription = subscription_start(consumer->seat, topics, callback, record_callback, userdata);
	if (!subscription) {
		return -1;
	}
	replace(consumer->seat, subscription); /* another thread's, subscribed meanwhile */
	return 0;
}

int ast_kafka_consumer_subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	void *userdata)
{
	return subscribe(consumer, topics, callback, NULL, userdata);
}

int ast_kafka_consumer_subscribe_records(struct ast_kafka_consumer *consumer, const char *topics,
	ast_kafka_record_cb callback, void *userdata)
{
	return subscribe(consumer, topics, NULL, callback, userdata);
}

int ast_kafka_consumer_unsubscribe(struct ast_kafka_consumer *consumer)
{
	if (in_forked_child() || !consumer) {
		return -1;
	}
	replace(consumer->seat, NULL);
	workers_reap();
	return 0;
}

/* Returns a reference to the consumer's subscription, or NULL. */
static struct subscription *subscribed(struct ast_kafka_consumer *consumer)
{
	struct subscription *subscription;

	ast_mutex_lock(&consumer->seat->lock);
	subscription = ao2_bump(consumer->seat->current);
	ast_mutex_unlock(&consumer->seat->lock);
	return subscription;
}

int ast_kafka_consumer_commit(struct ast_kafka_consumer *consumer)
{
	struct subscription *subscription;
	int result;

	if (in_forked_child() || !consumer || !(subscription = subscribed(consumer))) {
		return -1;
	}
	result = subscription_commit(subscription, turn_is_mine(&consumer->seat->turn));
	ao2_ref(subscription, -1);
	return result;
}

int ast_kafka_consumer_pause(struct ast_kafka_consumer *consumer, const char *topics, int paused)
{
	struct subscription *subscription;
	int result;

	if (in_forked_child() || !consumer || !(subscription = subscribed(consumer))) {
		return -1;
	}
	result = subscription_pause(subscription, S_OR(topics, ""), paused);
	ao2_ref(subscription, -1);
	return result;
}
