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
 * A consumer is what other modules hold. A subscription is what its last subscribe asked for: it has a thread of its
 * own, which fetches batches from the engine and calls back, and it outlives the consumer's interest only until the
 * callback under way has returned. The consumer's turn, which is held over each callback, keeps two subscriptions of it apart:
 * one that replaces another from inside its callback waits for that callback.
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

/* Held over each callback of one consumer. It outlives the consumer by its last callback. */
struct turn {
	ast_mutex_t lock;
};

struct subscription {
	uint64_t id;
	struct resk_delivery *delivery;
	struct turn *turn;
	ast_kafka_message_cb callback;
	ast_kafka_record_cb record_callback; /* the one or the other */
	void *userdata;
	pthread_t thread;
	int stopped; /* no callback begins any more */
};

struct ast_kafka_consumer {
	struct subscription *subscription; /* under the object's lock */
	struct turn *turn;
	char name[];
};

/* The consumers that ast_kafka_get_consumer() gives out, held weakly as producers are. */
struct consumer_slot {
	AO2_WEAKPROXY();
	AST_LIST_ENTRY(consumer_slot) next;
	char name[];
};

static AST_LIST_HEAD_STATIC(consumers, consumer_slot);
static int held;

int consumers_held(void)
{
	return __atomic_load_n(&held, __ATOMIC_SEQ_CST);
}

static void turn_destroy(void *obj)
{
	ast_mutex_destroy(&((struct turn *) obj)->lock);
}

static void subscription_destroy(void *obj)
{
	ao2_cleanup(((struct subscription *) obj)->turn);
}

/* Calls back with one message, unless the subscription has been ended. Whether it was, decides under the turn. */
static int deliver(struct subscription *subscription, struct ast_kafka_consumer *consumer, const struct resk_message *m)
{
	int stopped;

	ast_mutex_lock(&subscription->turn->lock);
	stopped = __atomic_load_n(&subscription->stopped, __ATOMIC_SEQ_CST);
	if (!stopped) {
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
		__atomic_add_fetch(&subscription->delivery->delivered, 1, __ATOMIC_SEQ_CST);
	}
	ast_mutex_unlock(&subscription->turn->lock);
	return stopped;
}

struct start {
	struct subscription *subscription;
	struct ast_kafka_consumer *consumer; /* not a reference: it may go, and the subscription is ended first */
};

static void *run(void *argument)
{
	struct start *start = argument;
	struct subscription *subscription = start->subscription;
	struct ast_kafka_consumer *consumer = start->consumer;
	struct resk_batch *batch;
	size_t i;

	ast_free(start);
	while ((batch = engine.resk_next(subscription->id))) {
		for (i = 0; i < batch->count; i++) {
			if (__atomic_load_n(&subscription->delivery->hurry, __ATOMIC_SEQ_CST)
				|| deliver(subscription, consumer, &batch->messages[i])) {
				break;
			}
		}
		engine.resk_free(batch);
	}
	engine.resk_subscription_free(subscription->id);
	ao2_ref(subscription, -1);
	return NULL;
}

/* Ends the consumer's subscription, if it has one. No callback of it begins any more; one that is under way has
 * returned, unless this is called from inside it. */
static void end_subscription(struct ast_kafka_consumer *consumer)
{
	struct subscription *subscription;

	ao2_lock(consumer);
	subscription = consumer->subscription;
	consumer->subscription = NULL;
	ao2_unlock(consumer);
	if (!subscription) {
		return;
	}
	__atomic_store_n(&subscription->stopped, 1, __ATOMIC_SEQ_CST);
	engine.resk_unsubscribe(subscription->id);
	if (pthread_equal(pthread_self(), subscription->thread)) {
		pthread_detach(subscription->thread);
	} else {
		pthread_join(subscription->thread, NULL);
	}
	ao2_ref(subscription, -1);
}

static void consumer_destroy(void *obj)
{
	struct ast_kafka_consumer *consumer = obj;

	end_subscription(consumer);
	ao2_cleanup(consumer->turn);
	__atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
	ast_module_unref(AST_MODULE_SELF);
}

struct ast_kafka_consumer *ast_kafka_create_consumer(const char *name)
{
	struct ast_kafka_consumer *consumer;

	if (in_forked_child()) {
		return NULL;
	}
	if (ast_strlen_zero(name)) {
		ast_log(LOG_ERROR, "No Kafka consumer without the name of a connection in kafka.conf\n");
		return NULL;
	}
	if (engine.resk_consumer_check(text_of(name)) != RESK_OK) {
		return NULL;
	}
	consumer = ao2_alloc(sizeof(*consumer) + strlen(name) + 1, consumer_destroy);
	if (!consumer) {
		return NULL;
	}
	ast_module_ref(AST_MODULE_SELF);
	__atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
	strcpy(consumer->name, name); /* Safe: the memory was sized for it */
	consumer->turn = ao2_alloc_options(sizeof(*consumer->turn), turn_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK);
	if (!consumer->turn) {
		ao2_ref(consumer, -1);
		return NULL;
	}
	ast_mutex_init(&consumer->turn->lock);
	return consumer;
}

static struct consumer_slot *slot_get(const char *name)
{
	struct consumer_slot *slot;

	AST_LIST_TRAVERSE(&consumers, slot, next) {
		if (!strcmp(slot->name, name)) {
			return slot;
		}
	}
	slot = ao2_weakproxy_alloc(sizeof(*slot) + strlen(name) + 1, NULL);
	if (slot) {
		strcpy(slot->name, name); /* Safe: the memory was sized for it */
		AST_LIST_INSERT_TAIL(&consumers, slot, next);
	}
	return slot;
}

struct ast_kafka_consumer *ast_kafka_get_consumer(const char *name)
{
	struct ast_kafka_consumer *consumer;
	struct consumer_slot *slot;

	consumer = ast_kafka_create_consumer(name);
	if (!consumer) {
		return NULL;
	}
	AST_LIST_LOCK(&consumers);
	slot = slot_get(name);
	if (slot) {
		struct ast_kafka_consumer *known = ao2_weakproxy_get_object(slot, 0);

		if (known) {
			ao2_ref(consumer, -1);
			consumer = known;
		} else if (ao2_weakproxy_set_object(slot, consumer, 0)) {
			slot = NULL;
		}
	}
	AST_LIST_UNLOCK(&consumers);
	if (!slot) {
		ao2_ref(consumer, -1);
		return NULL;
	}
	return consumer;
}

void consumers_stop(void)
{
	struct consumer_slot *slot;

	AST_LIST_LOCK(&consumers);
	while ((slot = AST_LIST_REMOVE_HEAD(&consumers, next))) {
		ao2_ref(slot, -1);
	}
	AST_LIST_UNLOCK(&consumers);
}

static int subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	ast_kafka_record_cb record_callback, void *userdata)
{
	struct subscription *subscription;
	struct start *start;

	if (in_forked_child() || !consumer || !topics || (!callback && !record_callback)) {
		return -1;
	}
	subscription = ao2_alloc_options(sizeof(*subscription), subscription_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK);
	start = ast_malloc(sizeof(*start));
	if (!subscription || !start) {
		ao2_cleanup(subscription);
		ast_free(start);
		return -1;
	}
	subscription->turn = ao2_bump(consumer->turn);
	subscription->callback = callback;
	subscription->record_callback = record_callback;
	subscription->userdata = userdata;
	end_subscription(consumer);
	if (engine.resk_subscribe(text_of(consumer->name), text_of(topics), &subscription->delivery, &subscription->id) != RESK_OK) {
		ao2_ref(subscription, -1);
		ast_free(start);
		return -1;
	}
	start->subscription = ao2_bump(subscription);
	start->consumer = consumer;
	ao2_lock(consumer);
	if (ast_pthread_create(&subscription->thread, NULL, run, start)) {
		ao2_unlock(consumer);
		ast_log(LOG_ERROR, "No thread for the messages of Kafka connection '%s'\n", consumer->name);
		engine.resk_subscription_free(subscription->id);
		ast_free(start);
		ao2_ref(subscription, -2);
		return -1;
	}
	consumer->subscription = subscription;
	ao2_unlock(consumer);
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
	end_subscription(consumer);
	return 0;
}

/* The number of the consumer's subscription, 0 = none, and whether this is the thread of its callback. */
static uint64_t subscribed(struct ast_kafka_consumer *consumer, int *inside)
{
	uint64_t id = 0;

	ao2_lock(consumer);
	if (consumer->subscription) {
		id = consumer->subscription->id;
		*inside = pthread_equal(pthread_self(), consumer->subscription->thread);
	}
	ao2_unlock(consumer);
	return id;
}

int ast_kafka_consumer_commit(struct ast_kafka_consumer *consumer)
{
	int inside = 0;
	uint64_t id;

	if (in_forked_child() || !consumer || !(id = subscribed(consumer, &inside))) {
		return -1;
	}
	return engine.resk_commit(id, inside) == RESK_OK ? 0 : -1;
}

int ast_kafka_consumer_pause(struct ast_kafka_consumer *consumer, const char *topics, int paused)
{
	int inside = 0;
	uint64_t id;

	if (in_forked_child() || !consumer || !(id = subscribed(consumer, &inside))) {
		return -1;
	}
	return engine.resk_pause(id, text_of(topics), paused) == RESK_OK ? 0 : -1;
}
