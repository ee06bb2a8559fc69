/*
 * res_kafka: the requests for a new engine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The requests needed by an engine before it serves, in their first encoding and in their order.
 *
 * An item is sent to each engine after its hello; a new item also goes to the serving engine. The lock covers
 * the engine's change to serving and the test whether the engine has an item, so no item is left out.
 */

#include "asterisk.h"

#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Limit of items in wait for their only answer: topics to be created in the background. */
#define ONCE_MAX 1000

struct item {
	struct item *next;
	enum replay_rank rank;
	uint64_t key;
	uint64_t serial;     /* of no other item, ever */
	uint64_t generation; /* of the engine with the last copy */
	struct stage *stage; /* of a REPLAY_PRODUCER */
	bool refused;        /* by the latest answer; logged */
	struct boundary_writer request;
};

AST_MUTEX_DEFINE_STATIC(lock);
static struct item *items;
static uint64_t serials;
static int once;
static uint64_t greeted;    /* the generation of the engine in replay; 0 outside a replay */
static int outstanding;     /* missing answers of that engine */

static void proceed(void);

/* Frees an item. item may be NULL. */
static void item_free(struct item *item)
{
	if (item) {
		boundary_free(&item->request);
		ast_free(item);
	}
}

/* Finds an item, or its place. Caller must hold the lock. */
static struct item **find(enum replay_rank rank, uint64_t key)
{
	struct item **at;

	for (at = &items; *at && (*at)->rank <= rank && ((*at)->rank != rank || (*at)->key != key); at = &(*at)->next) {
	}
	return at;
}

/* The connection of a REPLAY_PRODUCER. */
static const char *name_of(const struct item *item)
{
	struct boundary_reader reader;

	boundary_read(&reader, item->request.bytes + BOUNDARY_HEAD_SIZE, item->request.used - BOUNDARY_HEAD_SIZE);
	return boundary_get_string(&reader);
}

/* Whether to send an item. The producer of a removed connection waits until a reload restores the
 * connection. */
static bool is_wanted(const struct item *item)
{
	return item->rank != REPLAY_PRODUCER || connection_can(name_of(item), false, false);
}

/* Reads the answer to the request for a gate. A refused gate is shut, because nothing takes its frames.
 * replay_rest repeats the request. Caller must hold the lock. */
static void opened(struct item *item, struct boundary_reader *answer)
{
	struct resk_gate *gate = stage_gate(item->stage);
	int32_t result = boundary_get_int32(answer);

	if (boundary_end(answer)) {
		engine_broken();
		return;
	}
	if (result == RESK_OK) {
		item->refused = false;
		stage_hold(item->stage, false);
		return;
	}
	__atomic_store_n(&gate->open, 0, __ATOMIC_SEQ_CST);
	if (item->refused) {
		return;
	}
	item->refused = true;
	ast_log(LOG_ERROR, "Connection '%s' refuses records, and %lld record(s) wait until it has a producer; the engine's line above says why it has none\n",
		name_of(item), (long long) (stage_admitted(item->stage) - __atomic_load_n(&gate->done_frames, __ATOMIC_SEQ_CST)));
}

static void answered(void *owner, enum peer_result result, struct boundary_reader *answer)
{
	uint64_t serial = (uintptr_t) owner;
	struct item **at, *item;

	ast_mutex_lock(&lock);
	for (at = &items; (item = *at) && item->serial != serial; at = &item->next) {
	}
	if (result == PEER_OK && item && item->rank == REPLAY_ONCE) {
		*at = item->next;
		once--;
		item_free(item);
	} else if (result == PEER_OK && item && item->rank == REPLAY_PRODUCER) {
		opened(item, answer);
	}
	if (greeted && result != PEER_AWAY) {
		outstanding--;
		proceed();
	}
	ast_mutex_unlock(&lock);
}

/* Sends one item. Caller must hold the lock. Returns whether to expect an answer. */
static bool post(struct item *item, uint64_t generation)
{
	item->generation = generation;
	if (item->stage) {
		stage_hold(item->stage, true); /* until this engine knows the gate */
	}
	return peer_post(engine_peer, &item->request, answered, (void *) (uintptr_t) item->serial) == PEER_OK;
}

/* Sends the rest of the replay, or lets the engine serve. Caller must hold the lock. */
static void proceed(void)
{
	struct item *item;

	for (item = items; item; item = item->next) {
		if (item->generation == greeted) {
			continue;
		}
		if (is_wanted(item)) {
			outstanding += post(item, greeted);
		} else {
			stage_hold(item->stage, true); /* this engine does not know the gate */
		}
	}
	if (!outstanding) {
		greeted = 0;
		engine_serve();
	}
}

void replay_start(uint64_t generation)
{
	ast_mutex_lock(&lock);
	greeted = generation;
	outstanding = 0;
	proceed();
	ast_mutex_unlock(&lock);
}

/* Puts an item into its place. Caller must hold the lock. Returns the former item. */
static struct item *put(struct item *item)
{
	bool is_once = item->rank == REPLAY_ONCE;
	struct item **at = find(item->rank, is_once ? UINT64_MAX : item->key), *old = *at;

	if (!old || is_once || old->rank != item->rank || old->key != item->key) {
		item->next = old;
		old = NULL;
	} else {
		item->next = old->next;
	}
	*at = item;
	once += is_once;
	return old;
}

int replay_keep(enum replay_rank rank, uint64_t key, struct boundary_writer *request, uint64_t generation, struct stage *stage)
{
	struct item *item = boundary_finish(request) ? NULL : ast_malloc(sizeof(*item)), *old;
	uint64_t now;

	if (!item) {
		return -1;
	}
	*item = (struct item) { .rank = rank, .key = key, .request = *request, .generation = generation, .stage = stage };
	*request = (struct boundary_writer) { 0 };
	ast_mutex_lock(&lock);
	if (rank == REPLAY_ONCE && once >= ONCE_MAX) {
		ast_mutex_unlock(&lock);
		item_free(item);
		return -1;
	}
	item->serial = ++serials;
	old = put(item);
	now = engine_now();
	if (now && now != generation) {
		post(item, now);
	} else if (stage && !now) {
		stage_hold(stage, true);
	}
	ast_mutex_unlock(&lock);
	item_free(old);
	return 0;
}

void replay_rest(void)
{
	struct item *item;
	uint64_t now;

	ast_mutex_lock(&lock);
	now = engine_now();
	for (item = items; now && item; item = item->next) {
		if ((item->generation != now || item->refused) && is_wanted(item)) {
			post(item, now);
		}
	}
	ast_mutex_unlock(&lock);
}

void replay_drop(enum replay_rank rank, uint64_t key)
{
	struct item **at, *item;

	ast_mutex_lock(&lock);
	at = find(rank, key);
	item = *at;
	if (item && item->rank == rank && item->key == key) {
		*at = item->next;
	} else {
		item = NULL;
	}
	ast_mutex_unlock(&lock);
	item_free(item);
}

void replay_clear(void)
{
	struct item *item;

	ast_mutex_lock(&lock);
	while ((item = items)) {
		items = item->next;
		item_free(item);
	}
	once = 0;
	greeted = 0;
	ast_mutex_unlock(&lock);
}
