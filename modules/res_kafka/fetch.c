/*
 * res_kafka: what the engine delivers: messages of subscriptions.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Subscriptions, across the deaths of engines.
 *
 * Each subscription's thread subscribes again at a new engine (bind). No callback runs then; the new engine would count its
 * end for one of its own messages.
 */

#include "asterisk.h"

#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "engine_internal.h"

/* How long threads sleep that wait for an engine, ms: an end that comes meanwhile is noticed by then. */
#define WAIT_MS 200

/* How long a subscription waits that the new engine cannot serve, because a reload has removed its connection, ms. */
#define RETRY_MS 1000

/* How long unsubscribing may take, ms; the engine itself takes about one second at most. */
#define UNSUBSCRIBE_MS 2000

AST_MUTEX_DEFINE_STATIC(lock);
static uint64_t last_number; /* of a progress record; under the lock, as is */
static struct resk_subscription *users[RESK_PROGRESS]; /* by the number of their progress record */

void deliveries_clear(void)
{
	ast_mutex_lock(&lock);
	memset(users, 0, sizeof(users));
	last_number = 0;
	ast_mutex_unlock(&lock);
}

/* Finds a free progress record, the one longest unused. Returns its number, 0 = there is none. */
static uint64_t number_get(struct resk_subscription *s)
{
	uint64_t number = 0;
	int i;

	ast_mutex_lock(&lock);
	for (i = 1; i < RESK_PROGRESS && !number; i++) {
		last_number = last_number % (RESK_PROGRESS - 1) + 1;
		if (!users[last_number]) {
			number = last_number;
			users[number] = s;
		}
	}
	ast_mutex_unlock(&lock);
	return number;
}

static void number_put(uint64_t number)
{
	ast_mutex_lock(&lock);
	users[number] = NULL;
	ast_mutex_unlock(&lock);
}

/* The longest id of a member that is kept, bytes: Kafka's are the client's id, at most 249 here, and a UUID. */
#define MEMBER_MAX 1024

void deliveries_note(uint64_t number, const char *member)
{
	char *copy = strlen(member) <= MEMBER_MAX ? ast_strdup(member) : NULL;

	ast_mutex_lock(&lock);
	if (copy && number < RESK_PROGRESS && users[number]) {
		SWAP(users[number]->member, copy);
	}
	ast_mutex_unlock(&lock);
	ast_free(copy);
}

static int has_ended(const int *ended)
{
	return __atomic_load_n(ended, __ATOMIC_SEQ_CST);
}

uint64_t engine_await_until(const int *ended)
{
	uint64_t generation = 0;

	while (!has_ended(ended) && !(generation = peer_wait(engine_peer, WAIT_MS)) && !peer_is_closed(engine_peer)) {
	}
	return generation;
}

enum peer_result engine_send_number(uint16_t kind, uint64_t generation, uint64_t number, int timeout_ms)
{
	struct boundary_writer request = { 0 };
	struct peer_answer answer;
	enum peer_result result;

	boundary_begin(&request, kind, 0, 1);
	boundary_put_number(&request, number);
	result = engine_ask(&request, generation, timeout_ms, NULL, &answer);
	peer_free(answer.fields);
	return result;
}

/* A pause, or the end of one, that a new engine is to be told. */
struct resk_pause {
	struct resk_pause *next;
	int on;
	char topics[]; /* "" = all */
};

/* Stores a pause and removes older ones of the same topics; a pause of all topics removes all older ones. */
static void note_pause(struct resk_subscription *s, const char *topics, int on)
{
	struct resk_pause *pause = ast_malloc(sizeof(*pause) + strlen(topics) + 1), **at, *old;

	if (!pause) {
		return;
	}
	pause->on = on;
	strcpy(pause->topics, topics); /* Safe: the memory was sized for it */
	ast_mutex_lock(&lock);
	for (at = &s->pauses; (old = *at);) {
		if (!*topics || !strcmp(old->topics, topics)) {
			*at = old->next;
			ast_free(old);
		} else {
			at = &old->next;
		}
	}
	if (*topics || on) {
		pause->next = s->pauses;
		s->pauses = pause;
		pause = NULL;
	}
	ast_mutex_unlock(&lock);
	ast_free(pause);
}

static void put_pause(struct boundary_writer *request, uint64_t id, const char *topics, int on)
{
	boundary_begin(request, BOUNDARY_PAUSE, 0, 1);
	boundary_put_number(request, id);
	boundary_put_string(request, topics);
	boundary_put_number(request, !!on);
}

static void ignore(void *owner, enum peer_result result, const unsigned char *fields, size_t length)
{
}

/* Tells a new engine of pauses, the earliest first. Caller must hold the lock. */
static void post_pauses(struct resk_subscription *s, const struct resk_pause *pause)
{
	struct boundary_writer request = { 0 };

	if (!pause) {
		return;
	}
	post_pauses(s, pause->next);
	put_pause(&request, s->id, pause->topics, pause->on);
	if (!boundary_finish(&request)) {
		peer_post(engine_peer, request.bytes, request.used, ignore, NULL);
	}
	boundary_free(&request);
}

/* Tells an engine of a subscription. Only the subscription's thread, or before there is one. */
static int32_t introduce(struct resk_subscription *s, uint64_t generation, enum peer_result *asked)
{
	struct boundary_writer request = { 0 };
	int32_t result;

	__atomic_store_n(&s->progress->delivered, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->progress->hurry, 0, __ATOMIC_SEQ_CST);
	boundary_begin(&request, BOUNDARY_SUBSCRIBE, 0, 1);
	boundary_put_string(&request, s->name);
	boundary_put_string(&request, s->topics);
	boundary_put_number(&request, s->id);
	ast_mutex_lock(&lock);
	boundary_put_string(&request, S_OR(s->member, ""));
	ast_mutex_unlock(&lock);
	result = engine_ask_result(&request, generation, ASK_MS, asked);
	if (*asked == PEER_OK && result == RESK_OK) {
		__atomic_store_n(&s->generation, generation, __ATOMIC_SEQ_CST);
		ast_mutex_lock(&lock);
		post_pauses(s, s->pauses);
		ast_mutex_unlock(&lock);
	} else if (*asked == PEER_LATE) {
		engine_send_number(BOUNDARY_SUBSCRIPTION_FREE, generation, s->id, ASK_MS); /* so that it can be asked again */
	}
	return result;
}

int32_t resk_subscribe(struct resk_subscription *s, const char *name, const char *topics)
{
	enum peer_result asked = PEER_AWAY;
	uint64_t generation = engine_now();
	int32_t result = RESK_ESTATE;

	s->id = number_get(s);
	if (!s->id) {
		ast_log(LOG_ERROR, "No more than %d Kafka subscriptions are possible\n", RESK_PROGRESS - 1);
		return RESK_EINVAL;
	}
	s->progress = &engine_memory()->control->progress[s->id];
	s->name = ast_strdup(name);
	s->topics = ast_strdup(topics);
	if (!s->name || !s->topics) {
		return RESK_ESTATE;
	}
	if (generation) {
		result = introduce(s, generation, &asked);
	}
	if (asked == PEER_OK) {
		return result;
	}
	/* The thread asks the next engine. */
	if (topics[strspn(topics, " \t,")] == '\0') {
		ast_log(LOG_ERROR, "No topic to subscribe to on Kafka connection '%s'\n", name);
		return RESK_EINVAL;
	}
	return names_have(name, true) ? RESK_OK : RESK_ENOENT;
}

/* Waits until the subscription is known to the engine that serves. Returns the generation, 0 = it has ended. */
static uint64_t bound(struct resk_subscription *s)
{
	enum peer_result asked;
	uint64_t generation;
	int waited;

	while ((generation = engine_await_until(&s->ended)) && generation != __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST)) {
		if (introduce(s, generation, &asked) == RESK_OK) {
			break;
		}
		for (waited = 0; waited < RETRY_MS && !has_ended(&s->ended) && !peer_is_closed(engine_peer); waited += WAIT_MS) {
			usleep(WAIT_MS * 1000);
		}
	}
	return generation;
}

static void forget_batch(struct resk_subscription *s)
{
	peer_free(s->fields);
	ast_free(s->messages);
	ast_free(s->headers);
	s->fields = NULL;
	s->messages = NULL;
	s->headers = NULL;
}

/* Counts the headers of the messages that follow. */
static size_t count_headers(struct boundary_reader reader, uint32_t messages)
{
	size_t count = 0;
	uint32_t i, j, headers;

	for (i = 0; i < messages && !reader.failed; i++) {
		boundary_get_text(&reader, NULL);
		boundary_get_number(&reader);
		boundary_get_number(&reader);
		boundary_get_number(&reader);
		boundary_get_text(&reader, NULL);
		boundary_get_text(&reader, NULL);
		headers = boundary_get_count(&reader, 2 * sizeof(uint32_t));
		for (j = 0; j < headers; j++) {
			boundary_get_text(&reader, NULL);
			boundary_get_text(&reader, NULL);
		}
		count += headers;
	}
	return count;
}

static void get_message(struct boundary_reader *reader, struct resk_message *m, struct resk_message_header *headers)
{
	size_t i;

	m->topic = boundary_get_string(reader);
	m->partition = boundary_get_int32(reader);
	m->offset = (int64_t) boundary_get_number(reader);
	m->timestamp_ms = (int64_t) boundary_get_number(reader);
	m->key = boundary_get_text(reader, &m->key_length);
	m->value = boundary_get_text(reader, &m->value_length);
	m->header_count = boundary_get_count(reader, 2 * sizeof(uint32_t));
	m->headers = m->header_count ? headers : NULL;
	for (i = 0; i < m->header_count; i++) {
		headers[i].name = boundary_get_string(reader);
		headers[i].value = boundary_get_text(reader, &headers[i].value_length);
	}
}

/* Reads a batch, which stays where it was received. Returns the number of messages, or -1 with the reason logged. */
static int64_t read_batch(struct resk_subscription *s, const struct peer_answer *answer)
{
	struct boundary_reader reader;
	size_t headers = 0;
	uint32_t count, i;

	s->fields = answer->fields;
	boundary_read(&reader, answer->fields, answer->length);
	count = boundary_get_count(&reader, 4 * sizeof(uint32_t) + 3 * sizeof(uint64_t));
	s->messages = ast_calloc(count + 1, sizeof(*s->messages));
	s->headers = ast_calloc(count_headers(reader, count) + 1, sizeof(*s->headers));
	if (!s->messages || !s->headers) {
		ast_log(LOG_ERROR, "No memory for %u messages of Kafka connection '%s'\n", count, s->name);
		return -1;
	}
	for (i = 0; i < count && !reader.failed; i++) {
		get_message(&reader, &s->messages[i], s->headers + headers);
		headers += s->messages[i].header_count;
	}
	if (boundary_end(&reader)) {
		engine_broken();
		return -1;
	}
	return count;
}

const struct resk_batch *resk_next(struct resk_subscription *s)
{
	struct boundary_writer request = { 0 };
	struct peer_answer answer;
	enum peer_result asked;
	uint64_t generation;
	int64_t count;

	while ((generation = bound(s)) && !has_ended(&s->ended)) {
		forget_batch(s);
		boundary_begin(&request, BOUNDARY_NEXT, 0, 1);
		boundary_put_number(&request, s->id);
		asked = engine_ask(&request, generation, -1, s, &answer);
		if (asked != PEER_OK) {
			if (asked == PEER_NO_MEMORY) {
				usleep(WAIT_MS * 1000);
			}
			continue;
		}
		count = read_batch(s, &answer);
		if (count > 0) {
			s->batch = (struct resk_batch) { .count = count, .messages = s->messages, .generation = generation };
			return &s->batch;
		}
		if (!count) {
			break;
		}
		usleep(WAIT_MS * 1000); /* its engine is being ended, or memory comes back */
	}
	return NULL;
}

int resk_is_stale(const struct resk_batch *batch)
{
	return batch->generation != engine_now();
}

void resk_unsubscribe(struct resk_subscription *s)
{
	uint64_t generation;

	if (__atomic_exchange_n(&s->ended, 1, __ATOMIC_SEQ_CST)) {
		return;
	}
	/* The thread stores the generation and then looks whether it has ended. */
	generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	if (generation) {
		engine_send_number(BOUNDARY_UNSUBSCRIBE, generation, s->id, UNSUBSCRIBE_MS);
	}
	peer_cancel(engine_peer, s); /* its thread, if the engine has not let it go by now */
}

void resk_subscription_free(struct resk_subscription *s)
{
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);

	__atomic_store_n(&s->ended, 1, __ATOMIC_SEQ_CST);
	if (generation) {
		engine_send_number(BOUNDARY_SUBSCRIPTION_FREE, generation, s->id, ASK_MS);
	}
	if (s->id) {
		number_put(s->id);
	}
	forget_batch(s);
	ast_free(s->name);
	ast_free(s->topics);
	ast_free(s->member);
	note_pause(s, "", 0);
	s->name = s->topics = s->member = NULL;
}

int32_t resk_commit(struct resk_subscription *s, int current)
{
	struct boundary_writer request = { 0 };
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	int32_t result = RESK_ESTATE;

	if (generation) {
		boundary_begin(&request, BOUNDARY_COMMIT, 0, 1);
		boundary_put_number(&request, s->id);
		boundary_put_number(&request, !!current);
		result = engine_ask_result(&request, generation, names_patience(s->name), NULL);
	}
	if (result == RESK_ESTATE) {
		ast_log(LOG_ERROR, "Nothing is committed for the subscription to '%s': the Kafka engine is being restarted, or stops\n", s->topics);
	}
	return result;
}

int32_t resk_pause(struct resk_subscription *s, const char *topics, int on)
{
	struct boundary_writer request = { 0 };
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	enum peer_result asked = PEER_AWAY;
	int32_t result = RESK_OK;

	note_pause(s, S_OR(topics, ""), on);
	if (generation) {
		put_pause(&request, s->id, topics, on);
		result = engine_ask_result(&request, generation, ASK_MS, &asked);
	}
	return asked == PEER_OK ? result : RESK_OK;
}
