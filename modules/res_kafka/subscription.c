/*
 * res_kafka: subscriptions.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Subscriptions, across the deaths of engines. Each has a thread for fetching messages and for
 * callbacks.
 *
 * The thread subscribes again at a new engine (bound). No callback runs then: the new engine would count the
 * callback's end for one of its own messages.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Wait for memory, or for the end of a broken engine, ms. */
#define PAUSE_MS 200

/* Attempts at a new engine after the removal of the connection by a reload, one per PAUSE_MS. */
#define RETRY_STEPS 5

/* Limit of the end, ms; the engine itself takes about one second at most. */
#define END_MS 2000

struct subscription {
	struct worker *worker;
	struct seat *seat; /* a reference */
	ast_kafka_message_cb callback;
	ast_kafka_record_cb record_callback; /* one of the two */
	void *userdata;
	uint64_t id; /* of its progress record; 0 = none */
	struct resk_progress *progress;
	char *topics;
	struct bequest bequest;
	uint64_t generation; /* of the engine with this subscription, 0 = none; atomic */
	int ended;           /* prevents further callbacks; atomic */
	/* The thread's alone. */
	struct ast_kafka_record_header *headers;
	size_t header_room;
	unsigned char *copy; /* of an area, during a backlog; RESK_AREA_BYTES, or NULL */
};

AST_MUTEX_DEFINE_STATIC(lock); /* of the next fields */
static uint64_t last_number;   /* of a progress record */
static struct subscription *users[RESK_PROGRESS]; /* by the number of their progress record */

void subscriptions_clear(void)
{
	ast_mutex_lock(&lock);
	memset(users, 0, sizeof(users));
	last_number = 0;
	ast_mutex_unlock(&lock);
}

/* Finds a free progress record, the one longest unused. Returns its number, 0 = none. */
static uint64_t number_get(struct subscription *s)
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

void subscriptions_member(uint64_t number, const char *member)
{
	ast_mutex_lock(&lock);
	if (number < RESK_PROGRESS && users[number]) {
		bequest_member(&users[number]->bequest, member);
	}
	ast_mutex_unlock(&lock);
}

static int has_ended(const struct subscription *s)
{
	return __atomic_load_n(&s->ended, __ATOMIC_SEQ_CST);
}

/* Subscribes at an engine. Only for the subscription's thread, or before its start. */
static int32_t introduce(struct subscription *s, uint64_t generation, enum peer_result *asked)
{
	struct boundary_writer request = { 0 };
	int32_t result;

	__atomic_store_n(&s->progress->delivered, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->progress->hurry, 0, __ATOMIC_SEQ_CST);
	boundary_begin(&request, BOUNDARY_SUBSCRIBE, 0, 1);
	boundary_put_string(&request, s->seat->name);
	boundary_put_string(&request, s->topics);
	boundary_put_number(&request, s->id);
	bequest_put(&s->bequest, &request, true);
	result = engine_ask_result(&request, generation, ASK_MS, asked);
	if (result == RESK_OK) {
		__atomic_store_n(&s->generation, generation, __ATOMIC_SEQ_CST);
	} else if (*asked == PEER_LATE) {
		engine_send_number(BOUNDARY_SUBSCRIPTION_FREE, generation, s->id, ASK_MS); /* for a second attempt */
	}
	return result;
}

/* Waits until the serving engine has the subscription. Returns the generation, 0 = the subscription has
 * ended. */
static uint64_t bound(struct subscription *s)
{
	enum peer_result asked;
	uint64_t generation;
	int steps;

	while ((generation = engine_await_until(&s->ended)) && generation != __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST)
		&& introduce(s, generation, &asked) != RESK_OK) {
		for (steps = 0; steps < RETRY_STEPS && !has_ended(s) && !peer_is_closed(engine_peer); steps++) {
			usleep(PAUSE_MS * 1000);
		}
	}
	return has_ended(s) ? 0 : generation;
}

/* Reads a message in place. m is the message before, whose topic stays in force. Returns -1 without memory for its
 * headers. */
static int get_message(struct subscription *s, struct boundary_reader *reader, struct ast_kafka_record *m)
{
	const char *topic = boundary_get_text(reader, NULL);
	size_t i;

	m->topic = S_OR(topic, m->topic);
	m->partition = boundary_get_int32(reader);
	m->offset = (int64_t) boundary_get_number(reader);
	m->timestamp_ms = (int64_t) boundary_get_number(reader);
	m->key = boundary_get_text(reader, &m->key_len);
	m->payload = boundary_get_text(reader, &m->len);
	m->header_count = boundary_get_count(reader, 2 * sizeof(uint32_t));
	if (m->header_count > s->header_room) {
		ast_free(s->headers);
		s->headers = ast_calloc(m->header_count, sizeof(*s->headers));
		s->header_room = s->headers ? m->header_count : 0;
		if (!s->headers) {
			return -1;
		}
	}
	m->headers = m->header_count ? s->headers : NULL;
	for (i = 0; i < m->header_count; i++) {
		s->headers[i].name = boundary_get_string(reader);
		s->headers[i].value = boundary_get_text(reader, &s->headers[i].value_len);
	}
	return 0;
}

/* Calls back with one message; -1 after the subscription's end. Callbacks with a consumer get the lent
 * one. */
static int deliver(struct subscription *s, struct ast_kafka_consumer *consumer, const struct ast_kafka_record *m)
{
	if (turn_begin(&s->seat->turn, &s->ended)) {
		return -1;
	}
	if (s->callback) {
		s->callback(m->topic, m->partition, m->offset, m->payload, m->len, m->key, m->key_len, s->userdata);
	} else {
		s->record_callback(consumer, m, s->userdata);
	}
	bequest_position(&s->bequest, m);
	__atomic_add_fetch(&s->progress->delivered, 1, __ATOMIC_SEQ_CST);
	turn_end(&s->seat->turn);
	return 0;
}

/* Delivers messages of an answer, until the engine is in a hurry or gone. The rest comes again. Returns -1
 * for unreadable messages. */
static int deliver_all(struct subscription *s, struct boundary_reader *reader, uint32_t count, uint64_t generation)
{
	struct ast_kafka_consumer *consumer = s->record_callback ? consumer_lend(s->seat) : NULL;
	int result = s->record_callback && !consumer ? -1 : 0;
	struct ast_kafka_record message = { .topic = "" };
	uint32_t i;

	for (i = 0; i < count && !result; i++) {
		result = get_message(s, reader, &message);
		if (reader->failed) {
			engine_broken();
			result = -1;
		}
		if (result || __atomic_load_n(&s->progress->hurry, __ATOMIC_SEQ_CST) || generation != engine_now()
			|| deliver(s, consumer, &message)) {
			break;
		}
	}
	if (consumer) {
		consumer_return(consumer);
	}
	return result;
}

/* Ends the subscription at its engine, or lets the next engine end what the dead engine left behind. */
static void leave(struct subscription *s)
{
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	struct boundary_writer request = { 0 };

	if (!generation || engine_send_number(BOUNDARY_SUBSCRIPTION_FREE, generation, s->id, ASK_MS) == PEER_OK) {
		return;
	}
	boundary_begin(&request, BOUNDARY_END_MEMBER, 0, 1);
	boundary_put_string(&request, s->seat->name);
	bequest_put(&s->bequest, &request, false);
	replay_keep(REPLAY_ONCE, 0, &request, 0, NULL);
	boundary_free(&request);
}

/* Copies the messages of an area: the engine may change the area at any time, but not the copy. The copy's memory
 * serves the further areas of a backlog. Returns -1 without memory. */
static int copy_area(struct subscription *s, uint64_t area, uint64_t length, struct boundary_reader *reader)
{
	if (area > RESK_AREAS || length > RESK_AREA_BYTES) {
		engine_broken();
		return -1;
	}
	if (!s->copy && !(s->copy = ast_malloc(RESK_AREA_BYTES))) {
		return -1;
	}
	memcpy(s->copy, engine_memory.control->areas[area - 1], length);
	__atomic_thread_fence(__ATOMIC_ACQUIRE); /* the copy precedes the caller's look at the generation */
	boundary_read(reader, s->copy, length);
	return 0;
}

/* Delivers the messages of an answer. Returns 0 at the end of the subscription, else 1. */
static int take(struct subscription *s, struct boundary_reader *reader, uint64_t generation)
{
	int again = boundary_get_bool(reader);
	uint64_t area = boundary_get_uint32(reader), length = boundary_get_uint32(reader);
	int result = !reader->failed && area ? copy_area(s, area, length, reader) : 0;
	uint32_t count = result ? 1 : boundary_get_count(reader, 4 * sizeof(uint32_t) + 3 * sizeof(uint64_t));

	if (area && generation != engine_now()) {
		return 1; /* the next engine may have written the area before the copy was complete */
	}
	if (!area) {
		ast_free(s->copy);
		s->copy = NULL;
	}
	if (reader->failed) {
		engine_broken();
		return 1;
	}
	/* again: until the table of connections has the new limit; else during the engine's end, or until there is
	 * memory. */
	if (result || again || deliver_all(s, reader, count, generation)) {
		usleep(PAUSE_MS * 1000);
		return 1;
	}
	return count > 0;
}

static void run(void *object)
{
	struct subscription *s = object;
	struct boundary_writer request = { 0 };
	enum peer_result asked;
	struct peer_answer answer;
	uint64_t generation;
	int more = 1;

	while (more && (generation = bound(s))) {
		size_t most = connection_most(s->seat->name);

		boundary_begin(&request, BOUNDARY_NEXT, 0, 1);
		boundary_put_number(&request, s->id);
		boundary_put_number(&request, most);
		asked = engine_ask(&request, generation, LOST_MS, s, most, &answer);
		if (asked == PEER_OK) {
			more = take(s, &answer.reader, generation);
			peer_free(answer.fields);
		} else if (asked == PEER_NO_MEMORY) {
			usleep(PAUSE_MS * 1000);
		}
	}
	__atomic_store_n(&s->ended, 1, __ATOMIC_SEQ_CST);
	leave(s);
}

static void subscription_destroy(void *obj)
{
	struct subscription *s = obj;

	if (s->id) {
		ast_mutex_lock(&lock);
		users[s->id] = NULL;
		ast_mutex_unlock(&lock);
	}
	ao2_cleanup(s->worker);
	ao2_cleanup(s->seat);
	ast_free(s->topics);
	ast_free(s->headers);
	ast_free(s->copy);
	bequest_free(&s->bequest);
}

struct subscription *subscription_start(struct seat *seat, const char *topics, ast_kafka_message_cb callback,
	ast_kafka_record_cb record_callback, void *userdata)
{
	struct subscription *s = ao2_alloc_options(sizeof(*s), subscription_destroy, AO2_ALLOC_OPT_LOCK_NOLOCK);
	enum peer_result asked = PEER_AWAY;
	uint64_t generation = engine_now();
	int32_t result = RESK_ESTATE;

	if (!s || !(s->topics = ast_strdup(topics))) {
		ao2_cleanup(s);
		return NULL;
	}
	s->seat = ao2_bump(seat);
	s->callback = callback;
	s->record_callback = record_callback;
	s->userdata = userdata;
	s->id = number_get(s);
	s->progress = &engine_memory.control->progress[s->id];
	if (!s->id) {
		ast_log(LOG_ERROR, "No more than %d Kafka subscriptions are possible\n", RESK_PROGRESS - 1);
	} else if (topics[strspn(topics, " \t,")] == '\0') {
		ast_log(LOG_ERROR, "No topic to subscribe to on Kafka connection '%s'\n", seat->name);
	} else if (!connection_can(seat->name, true, true)) {
		result = RESK_ENOENT;
	} else {
		result = generation ? introduce(s, generation, &asked) : RESK_OK;
		result = asked == PEER_OK ? result : RESK_OK; /* else the thread asks the next engine */
	}
	if (result == RESK_OK && !(s->worker = worker_start(run, s))) {
		ast_log(LOG_ERROR, "Kafka connection '%s' is not subscribed to, without a thread for its messages\n", seat->name);
		engine_send_number(BOUNDARY_SUBSCRIPTION_FREE, 0, s->id, ASK_MS);
		result = RESK_ESTATE;
	}
	if (result != RESK_OK) {
		ao2_ref(s, -1);
		return NULL;
	}
	return s;
}

void subscription_end(struct subscription *s)
{
	uint64_t generation;

	if (__atomic_exchange_n(&s->ended, 1, __ATOMIC_SEQ_CST)) {
		return;
	}
	/* The thread stores the generation and then looks for the end. */
	generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	if (generation) {
		engine_send_number(BOUNDARY_UNSUBSCRIBE, generation, s->id, END_MS);
	}
	peer_cancel(engine_peer, s); /* its thread, if the engine has not done so */
}

void subscription_join(struct subscription *s)
{
	worker_join(s->worker);
}

int subscription_commit(struct subscription *s, int current)
{
	struct boundary_writer request = { 0 };
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	int32_t result = RESK_ESTATE;
	enum peer_result asked;

	if (generation) {
		boundary_begin(&request, BOUNDARY_COMMIT, 0, 1);
		boundary_put_number(&request, s->id);
		boundary_put_number(&request, !!current);
		result = engine_ask_result(&request, generation, connection_patience(s->seat->name), &asked);
	}
	if (result == RESK_ESTATE) {
		ast_log(LOG_ERROR, "Nothing is committed for the subscription to '%s': the Kafka engine is being restarted, or stops\n", s->topics);
	}
	return result == RESK_OK ? 0 : -1;
}

int subscription_pause(struct subscription *s, const char *topics, int on)
{
	struct boundary_writer request = { 0 };
	uint64_t generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST);
	enum peer_result asked = PEER_AWAY;
	int32_t result = RESK_OK;

	if (bequest_pause(&s->bequest, topics, on)) {
		return -1;
	}
	if (generation) {
		boundary_begin(&request, BOUNDARY_PAUSE, 0, 1);
		boundary_put_number(&request, s->id);
		boundary_put_string(&request, topics);
		boundary_put_number(&request, !!on);
		result = engine_ask_result(&request, generation, ASK_MS, &asked);
	}
	return asked == PEER_OK && result != RESK_OK ? -1 : 0;
}
