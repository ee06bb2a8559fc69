/*
 * res_kafka: consumers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Consumer handles, and the one thread that delivers a subscription's messages.
 *
 * A consumer is the handle that other modules hold, and what keeps this module from being unloaded. A subscription is
 * what the last subscribe asked for, with a thread of its own that fetches batches from the engine and calls back. The seat
 * is what the two share: the consumer's weak proxy, and the turn, which is held over each callback, so that they come one at
 * a time whatever subscribes and unsubscribes. A seat with a subscription outlives its consumer, as the modules of the
 * reference expect, which release theirs once they are subscribed; whoever asks for the consumer again gets a new handle of
 * the same seat. All seats are in a list, where the unload finds the subscriptions that nobody else can end.
 *
 * No callback begins once a subscription is stopped, which is decided under the turn; so whoever has stopped one and then has had
 * the turn knows that none is under way. A thread is joined by whoever ended its subscription, or, when that was
 * a callback of the same consumer, by whoever comes next (worker.c). AO2 runs a consumer's destructor with the seat locked, so
 * it waits for nothing.
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

/* The engine's headers are handed to callbacks as they are. */
_Static_assert(sizeof(struct ast_kafka_record_header) == sizeof(struct resk_message_header)
	&& offsetof(struct ast_kafka_record_header, value) == offsetof(struct resk_message_header, value)
	&& offsetof(struct ast_kafka_record_header, value_len) == offsetof(struct resk_message_header, value_length),
	"the public and the engine's header of a message differ");

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

struct subscription {
	struct worker *worker;
	struct resk_subscription engine; /* what the engine knows of it */
	struct seat *seat;
	ast_kafka_message_cb callback;
	ast_kafka_record_cb record_callback; /* the one or the other */
	void *userdata;
	int stopped; /* no callback begins any more */
};

struct ast_kafka_consumer {
	struct seat *seat;
	int pins; /* it keeps the module from being unloaded; under the seat's AO2 lock */
};

/* The seats that have a consumer or a subscription, and some that had. */
static AST_LIST_HEAD_STATIC(seats, seat);
static int held;

int consumers_held(void)
{
	return __atomic_load_n(&held, __ATOMIC_SEQ_CST);
}

static void seat_destroy(void *obj)
{
	struct seat *seat = obj;

	turn_destroy(&seat->turn);
	ast_mutex_destroy(&seat->lock);
}

static void subscription_destroy(void *obj)
{
	struct subscription *subscription = obj;

	ao2_cleanup(subscription->worker);
	ao2_cleanup(subscription->seat);
}

/* Calls back with one message, unless the subscription has been ended: then -1. consumer is lent to callbacks that take one. */
static int deliver(struct subscription *subscription, struct ast_kafka_consumer *consumer, const struct resk_message *m)
{
	struct turn *turn = &subscription->seat->turn;

	turn_take(turn);
	if (__atomic_load_n(&subscription->stopped, __ATOMIC_SEQ_CST)) {
		turn_give(turn);
		return -1;
	}
	turn_enter(turn);
	if (subscription->callback) {
		subscription->callback(m->topic, m->partition, m->offset, m->value, m->value_length, m->key, m->key_length,
			subscription->userdata);
	} else {
		struct ast_kafka_record record = {
			.topic = m->topic, .partition = m->partition, .offset = m->offset, .timestamp_ms = m->timestamp_ms,
			.payload = m->value, .len = m->value_length, .key = m->key, .key_len = m->key_length,
			.headers = (const struct ast_kafka_record_header *) m->headers, .header_count = m->header_count,
		};

		subscription->record_callback(consumer, &record, subscription->userdata);
	}
	turn_leave(turn);
	__atomic_add_fetch(&subscription->engine.progress->delivered, 1, __ATOMIC_SEQ_CST);
	turn_give(turn);
	return 0;
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

/* Returns a reference to the seat's consumer, made if there is none. pinned: it keeps the module from being unloaded. */
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

/* Ends what sit() has lent. Whoever has kept the consumer beyond its callback keeps the module too. */
static void rise(struct ast_kafka_consumer *consumer)
{
	struct seat *seat = consumer->seat;

	ao2_lock(seat);
	if (ao2_ref(consumer, 0) > seat->alone) {
		pin(consumer);
	}
	ao2_unlock(seat);
	ao2_ref(consumer, -1);
}

/* Delivers a batch, or as much of it as is wanted. */
static void deliver_batch(struct subscription *subscription, const struct resk_batch *batch)
{
	struct ast_kafka_consumer *consumer = subscription->record_callback ? sit(subscription->seat, 0) : NULL;
	size_t i;

	if (!consumer && subscription->record_callback) {
		return;
	}
	for (i = 0; i < batch->count; i++) {
		if (__atomic_load_n(&subscription->engine.progress->hurry, __ATOMIC_SEQ_CST) || resk_is_stale(batch)
			|| deliver(subscription, consumer, &batch->messages[i])) {
			break;
		}
	}
	if (consumer) {
		rise(consumer);
	}
}

static void run(void *object)
{
	struct subscription *subscription = object;
	const struct resk_batch *batch;

	while ((batch = resk_next(&subscription->engine))) {
		deliver_batch(subscription, batch);
	}
	resk_subscription_free(&subscription->engine);
}

/* Puts a subscription, or NULL, in the place of the present one, which is stopped and returned with its reference. */
static struct subscription *replace(struct seat *seat, struct subscription *with)
{
	struct subscription *old;

	ast_mutex_lock(&seat->lock);
	old = seat->current;
	seat->current = with;
	if (old) {
		__atomic_store_n(&old->stopped, 1, __ATOMIC_SEQ_CST);
	}
	ast_mutex_unlock(&seat->lock);
	if (old) {
		resk_unsubscribe(&old->engine);
	}
	return old;
}

/* Waits until a stopped subscription has come to its end, and until no callback is under way, unless this is called
 * from inside one. subscription may be NULL: somebody else has ended it. */
static void finish(struct seat *seat, struct subscription *subscription)
{
	turn_wait(&seat->turn);
	if (subscription && !turn_is_mine(&seat->turn)) {
		worker_join(subscription->worker);
	}
	ao2_cleanup(subscription);
}

static struct seat *seat_create(const char *name, int shared)
{
	struct seat *seat = ao2_weakproxy_alloc(sizeof(*seat) + strlen(name) + 1, seat_destroy);

	if (seat) {
		turn_init(&seat->turn);
		ast_mutex_init(&seat->lock);
		seat->shared = shared;
		strcpy(seat->name, name); /* Safe: the memory was sized for it */
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

/* Takes seats out of the list that are empty and finds the shared one of a name, NULL for none. Caller must hold the list's
 * lock, which is what keeps an empty seat from being used again. */
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

/* Returns a reference to a consumer: the one of that name, or another one. */
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

/* Whether the connection can consume; the log says why not. */
static int can_consume(const char *name)
{
	if (in_forked_child() || !producers_running("consumer", name)) {
		return 0;
	}
	if (ast_strlen_zero(name)) {
		ast_log(LOG_ERROR, "No Kafka consumer without the name of a connection in kafka.conf\n");
		return 0;
	}
	return resk_consumer_check(name) == RESK_OK;
}

struct ast_kafka_consumer *ast_kafka_create_consumer(const char *name)
{
	return can_consume(name) ? consumer_get(name, 0) : NULL;
}

struct ast_kafka_consumer *ast_kafka_get_consumer(const char *name)
{
	return can_consume(name) ? consumer_get(name, 1) : NULL;
}

void consumers_stop(void)
{
	struct seat *seat;

	/* The list is not held meanwhile: a callback that is waited for may ask for a consumer. */
	for (;;) {
		AST_LIST_LOCK(&seats);
		seat = AST_LIST_REMOVE_HEAD(&seats, next);
		AST_LIST_UNLOCK(&seats);
		if (!seat) {
			break;
		}
		finish(seat, replace(seat, NULL));
		ao2_ref(seat, -1);
	}
}

static int subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	ast_kafka_record_cb record_callback, void *userdata)
{
	struct subscription *subscription;
	struct seat *seat;

	if (in_forked_child() || !consumer || !topics || (!callback && !record_callback)) {
		return -1;
	}
	workers_reap();
	seat = consumer->seat;
	subscription = ao2_alloc_options(sizeof(*subscription), subscription_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK);
	if (!subscription) {
		return -1;
	}
	subscription->seat = ao2_bump(seat);
	subscription->callback = callback;
	subscription->record_callback = record_callback;
	subscription->userdata = userdata;
	finish(seat, replace(seat, NULL));
	if (resk_subscribe(&subscription->engine, seat->name, topics) != RESK_OK) {
		resk_subscription_free(&subscription->engine);
		ao2_ref(subscription, -1);
		return -1;
	}
	subscription->worker = worker_start(run, subscription);
	if (!subscription->worker) {
		ast_log(LOG_ERROR, "Kafka connection '%s' is not subscribed to, without a thread for its messages\n", seat->name);
		resk_subscription_free(&subscription->engine);
		ao2_ref(subscription, -1);
		return -1;
	}
	/* Another thread may have subscribed meanwhile: the later one stays. */
	finish(seat, replace(seat, subscription));
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
	finish(consumer->seat, replace(consumer->seat, NULL));
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
	int32_t result;

	if (in_forked_child() || !consumer || !(subscription = subscribed(consumer))) {
		return -1;
	}
	result = resk_commit(&subscription->engine, turn_is_mine(&consumer->seat->turn));
	ao2_ref(subscription, -1);
	return result == RESK_OK ? 0 : -1;
}

int ast_kafka_consumer_pause(struct ast_kafka_consumer *consumer, const char *topics, int paused)
{
	struct subscription *subscription;
	int32_t result;

	if (in_forked_child() || !consumer || !(subscription = subscribed(consumer))) {
		return -1;
	}
	result = resk_pause(&subscription->engine, topics, paused);
	ao2_ref(subscription, -1);
	return result == RESK_OK ? 0 : -1;
}
