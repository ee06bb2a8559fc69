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

/* Limit of a kept member id, bytes: Kafka's ids are the client id, at most 249 here, and a UUID. */
#define MEMBER_MAX 1024

/* Limit of partitions with a kept position. */
#define POSITIONS_MAX 4096

/* Limit of kept pauses, bytes. */
#define PAUSES_MAX 65536

struct subscription {
	struct worker *worker;
	struct seat *seat; /* a reference */
	ast_kafka_message_cb callback;
	ast_kafka_record_cb record_callback; /* one of the two */
	void *userdata;
	uint64_t id; /* of its progress record; 0 = none */
	struct resk_progress *progress;
	char *topics;
	char *pauses; /* lines for the next engine, see the message subscribe */
	char *member; /* its id in the group; the next engine removes the member of a killed engine */
	uint64_t generation; /* of the engine with this subscription, 0 = none; atomic */
	int ended;           /* prevents further callbacks; atomic */
	/* The thread's alone. */
	struct ast_kafka_record_header *headers;
	size_t header_room;
	struct position {
		char *topic;
		int32_t partition;
		int64_t next; /* the offset behind the last delivered message */
	} *positions;         /* for the next engine after a kill before the commit */
	uint32_t position_count, position_at; /* position_at: index of the last one */
};

AST_MUTEX_DEFINE_STATIC(lock); /* of member and pauses, and of the next fields */
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
	char *copy = strlen(member) <= MEMBER_MAX ? ast_strdup(member) : NULL;

	ast_mutex_lock(&lock);
	if (copy && number < RESK_PROGRESS && users[number]) {
		SWAP(users[number]->member, copy);
	}
	ast_mutex_unlock(&lock);
	ast_free(copy);
}

static int has_ended(const struct subscription *s)
{
	return __atomic_load_n(&s->ended, __ATOMIC_SEQ_CST);
}

/* Adds a pause or its end. The new entry replaces earlier ones for the same topics, and all with topics "".
 * Returns 0 or -1. */
static int note_pause(struct subscription *s, const char *topics, int on)
{
	size_t length = strlen(topics), room;
	const char *line, *next;
	char *noted, *at;
	int result = -1;

	ast_mutex_lock(&lock);
	room = strlen(S_OR(s->pauses, "")) + length + 3;
	noted = at = room <= PAUSES_MAX && !strchr(topics, '\n') ? ast_malloc(room) : NULL;
	if (noted) {
		for (line = S_OR(s->pauses, ""); *line; line = next) {
			next = strchr(line, '\n') + 1;
			if (length && (next - line != (ssize_t) length + 2 || memcmp(line + 1, topics, length))) {
				at = mempcpy(at, line, next - line);
			}
		}
		sprintf(at, "%c%s\n", on ? '+' : '-', topics);
		SWAP(s->pauses, noted);
		result = 0;
	}
	ast_mutex_unlock(&lock);
	ast_free(noted);
	return result;
}

/* Subscribes at an engine. Only for the subscription's thread, or before its start. */
static int32_t introduce(struct subscription *s, uint64_t generation, enum peer_result *asked)
{
	struct boundary_writer request = { 0 };
	int32_t result;
	uint32_t i;

	__atomic_store_n(&s->progress->delivered, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->progress->hurry, 0, __ATOMIC_SEQ_CST);
	boundary_begin(&request, BOUNDARY_SUBSCRIBE, 0, 1);
	boundary_put_string(&request, s->seat->name);
	boundary_put_string(&request, s->topics);
	boundary_put_number(&request, s->id);
	ast_mutex_lock(&lock);
	boundary_put_string(&request, S_OR(s->member, ""));
	boundary_put_string(&request, S_OR(s->pauses, ""));
	ast_mutex_unlock(&lock);
	boundary_put_count(&request, s->position_count);
	for (i = 0; i < s->position_count; i++) {
		boundary_put_string(&request, s->positions[i].topic);
		boundary_put_number(&request, (int64_t) s->positions[i].partition);
		boundary_put_number(&request, s->positions[i].next);
	}
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

/* Reads a message in place. Returns -1 without memory for its headers. */
static int get_message(struct subscription *s, struct boundary_reader *reader, struct ast_kafka_record *m)
{
	size_t i;

	m->topic = boundary_get_string(reader);
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

/* Finds or makes the position of a message's partition. NULL without memory, or at the limit. */
static struct position *position_of(struct subscription *s, const struct ast_kafka_record *m)
{
	struct position *p;
	uint32_t i;

	for (i = 0; i < s->position_count; i++) {
		p = &s->positions[(s->position_at + i) % s->position_count];
		if (p->partition == m->partition && !strcmp(p->topic, m->topic)) {
			return p;
		}
	}
	if (i == POSITIONS_MAX || !(p = ast_realloc(s->positions, (i + 1) * sizeof(*p)))) {
		return NULL;
	}
	s->positions = p;
	p[i] = (struct position) { .topic = ast_strdup(m->topic), .partition = m->partition };
	s->position_count += p[i].topic != NULL;
	return p[i].topic ? &p[i] : NULL;
}

/* Counts a message as delivered. */
static void count_delivered(struct subscription *s, const struct ast_kafka_record *m)
{
	struct position *p = position_of(s, m);

	if (p) {
		p->next = m->offset + 1;
		s->position_at = p - s->positions;
	}
	__atomic_add_fetch(&s->progress->delivered, 1, __ATOMIC_SEQ_CST);
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
	count_delivered(s, m);
	turn_end(&s->seat->turn);
	return 0;
}

/* Delivers messages of an answer, until the engine is in a hurry or gone. The rest comes again. Returns -1
 * for unreadable messages. */
static int deliver_all(struct subscription *s, struct boundary_reader *reader, uint32_t count, uint64_t generation)
{
	struct ast_kafka_consumer *consumer = s->record_callback ? consumer_lend(s->seat) : NULL;
	int result = s->record_callback && !consumer ? -1 : 0;
	struct ast_kafka_record message = { 0 };
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

/* Leaves out a message above the connection's limit. A reload may have changed the limit since the request:
 * then the request is repeated. */
static void leave_out(struct subscription *s, struct boundary_reader *reader, uint64_t needed)
{
	struct ast_kafka_record message = { 0 };

	usleep(PAUSE_MS * 1000); /* limits the cost of an engine that repeats this answer */
	if (get_message(s, reader, &message) || reader->failed || needed <= connection_most(s->seat->name)) {
		return;
	}
	ast_log(LOG_ERROR, "A message of Kafka connection '%s' is left out, topic '%s' partition %d offset %lld: it needs %llu bytes, more than %zu; "
		"a larger message_max_bytes raises the limit\n", s->seat->name, message.topic, message.partition, (long long) message.offset,
		(unsigned long long) needed, connection_most(s->seat->name));
	count_delivered(s, &message);
}

static void run(void *object)
{
	struct subscription *s = object;
	struct boundary_writer request = { 0 };
	enum peer_result asked;
	struct peer_answer answer;
	uint64_t generation, needed;
	uint32_t count = 1;

	while (count && (generation = bound(s))) {
		size_t most = connection_most(s->seat->name);

		boundary_begin(&request, BOUNDARY_NEXT, 0, 1);
		boundary_put_number(&request, s->id);
		boundary_put_number(&request, most);
		asked = engine_ask(&request, generation, LOST_MS, s, most, &answer);
		if (asked == PEER_OK) {
			needed = boundary_get_number(&answer.reader);
			count = boundary_get_count(&answer.reader, 4 * sizeof(uint32_t) + 3 * sizeof(uint64_t));
			if (answer.reader.failed) {
				engine_broken();
				count = 1;
			} else if (needed) {
				leave_out(s, &answer.reader, needed);
			} else if (deliver_all(s, &answer.reader, count, generation)) {
				usleep(PAUSE_MS * 1000); /* during the engine's end, or until there is memory */
			}
			peer_free(answer.fields);
		} else if (asked == PEER_NO_MEMORY) {
			usleep(PAUSE_MS * 1000);
		}
	}
	__atomic_store_n(&s->ended, 1, __ATOMIC_SEQ_CST);
	if ((generation = __atomic_load_n(&s->generation, __ATOMIC_SEQ_CST))) {
		engine_send_number(BOUNDARY_SUBSCRIPTION_FREE, generation, s->id, ASK_MS);
	}
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
	ast_free(s->pauses);
	ast_free(s->member);
	ast_free(s->headers);
	while (s->position_count) {
		ast_free(s->positions[--s->position_count].topic);
	}
	ast_free(s->positions);
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

	if (note_pause(s, topics, on)) {
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
