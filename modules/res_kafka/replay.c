/*
 * res_kafka: what a new engine is told.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The requests that an engine has to know before it serves, encoded as they were sent first, in their order.
 *
 * An item is sent when an engine was greeted, and to an engine that serves when it is new. Whether the engine that serves
 * knows an item is decided under the lock, and so is that an engine serves: none is left out.
 */

#include "asterisk.h"

#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/time.h"
#include "asterisk/utils.h"

#include "engine_internal.h"

/* Most items that wait for an engine's answer to be forgotten: topics to be created in the background. */
#define ONCE_MAX 1000

struct item {
	struct item *next;
	enum replay_rank rank;
	uint64_t key;
	uint64_t serial;     /* of no other item, ever */
	uint64_t generation; /* of the engine that it was sent to last */
	struct stage *stage; /* of a REPLAY_PRODUCER */
	bool answered;       /* by that engine, and */
	int32_t result;      /* how */
	size_t length;
	unsigned char frame[];
};

AST_MUTEX_DEFINE_STATIC(lock);
static ast_cond_t opened = PTHREAD_COND_INITIALIZER; /* a REPLAY_PRODUCER was answered */
static struct item *items;
static uint64_t serials;
static int once;
static uint64_t greeted;    /* the generation of the engine that is told everything, until it serves; else 0 */
static int outstanding;     /* its answers that have not come */
static void (*call_when_ready)(void);

static void proceed(void);

/* Finds an item, or the place for one. Caller must hold the lock. */
static struct item **find(enum replay_rank rank, uint64_t key)
{
	struct item **at;

	for (at = &items; *at && (*at)->rank <= rank && ((*at)->rank != rank || (*at)->key != key); at = &(*at)->next) {
	}
	return at;
}

/* Whether an engine is to be told. The producer of a connection that a reload has removed comes back with the connection. */
static bool is_wanted(const struct item *item)
{
	struct boundary_reader reader;

	if (item->rank != REPLAY_PRODUCER) {
		return true;
	}
	boundary_read(&reader, item->frame + BOUNDARY_HEAD_SIZE, item->length - BOUNDARY_HEAD_SIZE);
	return names_have(boundary_get_string(&reader), false);
}

/* Notes the answer to the request that opens a gate. What was refused is sent again when the configuration changes. Caller must
 * hold the lock. */
static void note_opened(struct item *item, const unsigned char *fields, size_t length)
{
	struct boundary_reader reader;

	boundary_read(&reader, fields, length);
	item->result = boundary_get_int32(&reader);
	if (boundary_end(&reader)) {
		engine_broken();
		return;
	}
	item->answered = true;
	if (item->result == RESK_OK) {
		stage_hold(item->stage, false);
	} else {
		item->generation = 0;
	}
	ast_cond_broadcast(&opened);
}

static void answered(void *owner, enum peer_result result, const unsigned char *fields, size_t length)
{
	uint64_t serial = (uintptr_t) owner;
	struct item **at, *item;

	ast_mutex_lock(&lock);
	for (at = &items; (item = *at) && item->serial != serial; at = &item->next) {
	}
	if (result == PEER_OK && item && item->rank == REPLAY_ONCE) {
		*at = item->next;
		once--;
		ast_free(item);
	} else if (result == PEER_OK && item && item->rank == REPLAY_PRODUCER) {
		note_opened(item, fields, length);
	}
	if (greeted && result != PEER_AWAY) {
		outstanding--;
		proceed();
	}
	ast_mutex_unlock(&lock);
}

/* Sends one item. Caller must hold the lock. Returns whether an answer will come. */
static bool post(struct item *item, uint64_t generation)
{
	item->generation = generation;
	item->answered = false;
	return peer_post(engine_peer, item->frame, item->length, answered, (void *) (uintptr_t) item->serial) == PEER_OK;
}

/* Sends what the greeted engine does not know yet, or has it serve. Caller must hold the lock. */
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
		call_when_ready();
	}
}

void replay_start(uint64_t generation, void (*ready)(void))
{
	ast_mutex_lock(&lock);
	greeted = generation;
	outstanding = 0;
	call_when_ready = ready;
	proceed();
	ast_mutex_unlock(&lock);
}

static struct item *create(enum replay_rank rank, uint64_t key, const unsigned char *frame, size_t length)
{
	struct item *item = ast_malloc(sizeof(*item) + length);

	if (item) {
		*item = (struct item) { .rank = rank, .key = key, .length = length };
		memcpy(item->frame, frame, length);
	}
	return item;
}

/* Puts an item into its place and sends it to an engine that serves and does not know it. Caller must hold the lock. Returns the item
 * that was there before. */
static struct item *put(struct item *item)
{
	enum replay_rank rank = item->rank;
	struct item **at, *old;
	uint64_t now;

	item->serial = ++serials;
	once += rank == REPLAY_ONCE;
	at = find(rank, rank == REPLAY_ONCE ? UINT64_MAX : item->key);
	old = *at;
	if (old && old->rank == rank && old->key == item->key && rank != REPLAY_ONCE) {
		item->next = old->next;
	} else {
		item->next = old;
		old = NULL;
	}
	*at = item;
	now = engine_now();
	if (now && now != item->generation) {
		post(item, now);
	}
	return old;
}

int replay_keep(enum replay_rank rank, uint64_t key, const unsigned char *frame, size_t length, uint64_t generation)
{
	struct item *item = create(rank, key, frame, length), *old;

	if (!item) {
		return -1;
	}
	item->generation = generation;
	ast_mutex_lock(&lock);
	if (rank == REPLAY_ONCE && once >= ONCE_MAX) {
		ast_mutex_unlock(&lock);
		ast_free(item);
		return -1;
	}
	old = put(item);
	ast_mutex_unlock(&lock);
	ast_free(old);
	return 0;
}

int32_t replay_open(struct stage *stage, const unsigned char *frame, size_t length, int timeout_ms)
{
	struct item *item = create(REPLAY_PRODUCER, stage_number(stage), frame, length), *old;
	struct timeval until = ast_tvadd(ast_tvnow(), ast_samp2tv(timeout_ms, 1000));
	struct timespec limit = { .tv_sec = until.tv_sec, .tv_nsec = until.tv_usec * 1000 };
	int32_t result = RESK_ESTATE;

	if (!item) {
		return RESK_ESTATE;
	}
	item->stage = stage;
	ast_mutex_lock(&lock);
	old = put(item);
	/* Only the caller, who has the list of producers locked, replaces the item or drops it. */
	while (!item->answered && item->generation && !ast_cond_timedwait(&opened, &lock, &limit)) {
	}
	if (item->answered) {
		result = item->result;
	}
	ast_mutex_unlock(&lock);
	ast_free(old);
	if (result != RESK_OK && result != RESK_ESTATE) {
		replay_drop(REPLAY_PRODUCER, stage_number(stage));
	}
	return result;
}

void replay_rest(void)
{
	struct item *item;
	uint64_t now;

	ast_mutex_lock(&lock);
	now = engine_now();
	for (item = items; now && item; item = item->next) {
		if (item->generation != now && is_wanted(item)) {
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
	ast_free(item);
}

void replay_clear(void)
{
	struct item *item;

	ast_mutex_lock(&lock);
	while ((item = items)) {
		items = item->next;
		ast_free(item);
	}
	once = 0;
	greeted = 0;
	ast_mutex_unlock(&lock);
}
