/*
 * res_kafka: requests to the engine: configuration, connections, sources and topics.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Requests to the engine, and the names of the connections in force, which answer while it is slow or away.
 */

#include "asterisk.h"

#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "engine_internal.h"

/* How long the engine may take to read a configuration, ms: it opens spools, which wait for a disk. */
#define CONFIGURE_MS 60000

/* How long a module that loads or reloads waits for an engine that is being restarted, ms. */
#define AWAIT_MS 5000

#define AWAY "the Kafka engine is not there to answer; it is being restarted"

struct names {
	uint32_t count;
	struct {
		char *name;
		bool produces, consumes;
		uint32_t request_timeout_ms;
	} list[];
};

AST_MUTEX_DEFINE_STATIC(names_lock);
static struct names *names; /* of the configuration in force; under the lock */

static void names_free(struct names *old)
{
	uint32_t i;

	for (i = 0; old && i < old->count; i++) {
		ast_free(old->list[i].name);
	}
	ast_free(old);
}

static void names_replace(struct names *with)
{
	struct names *old;

	ast_mutex_lock(&names_lock);
	old = names;
	names = with;
	ast_mutex_unlock(&names_lock);
	names_free(old);
}

void names_clear(void)
{
	names_replace(NULL);
}

/* Reads the connections that an answer lists. NULL when it cannot. */
static struct names *names_read(struct boundary_reader *reader)
{
	uint32_t count = boundary_get_count(reader, sizeof(uint32_t) + 3 * sizeof(uint64_t)), i;
	struct names *read = ast_calloc(1, sizeof(*read) + count * sizeof(read->list[0]));

	for (i = 0; read && i < count; i++) {
		read->list[i].name = ast_strdup(boundary_get_string(reader));
		read->list[i].produces = boundary_get_bool(reader);
		read->list[i].consumes = boundary_get_bool(reader);
		read->list[i].request_timeout_ms = boundary_get_uint32(reader);
		read->count++;
	}
	if (boundary_end(reader)) {
		names_free(read);
		return NULL;
	}
	return read;
}

bool names_have(const char *name, bool consumes)
{
	bool found = false;
	uint32_t i;

	ast_mutex_lock(&names_lock);
	for (i = 0; names && i < names->count && !found; i++) {
		found = names->list[i].name && !strcasecmp(names->list[i].name, name)
			&& (consumes ? names->list[i].consumes : names->list[i].produces);
	}
	ast_mutex_unlock(&names_lock);
	return found;
}

/* How long an answer may take that needs a broker, beyond request_timeout_ms, ms; and the longest request_timeout_ms that is waited
 * for. */
#define GRACE_MS 2000
#define TIMEOUT_MAX_MS (24 * 3600 * 1000)

int names_patience(const char *name)
{
	uint32_t longest = 0, i;

	ast_mutex_lock(&names_lock);
	for (i = 0; names && i < names->count; i++) {
		if (!name || (names->list[i].name && !strcasecmp(names->list[i].name, name))) {
			longest = MAX(longest, MIN(names->list[i].request_timeout_ms, TIMEOUT_MAX_MS));
		}
	}
	ast_mutex_unlock(&names_lock);
	return longest + GRACE_MS;
}

char *names_nth(const char *prefix, uint32_t n)
{
	size_t length = strlen(prefix);
	char *found = NULL;
	uint32_t i;

	ast_mutex_lock(&names_lock);
	for (i = 0; names && i < names->count && !found; i++) {
		if (names->list[i].name && !strncasecmp(names->list[i].name, prefix, length) && !n--) {
			found = ast_strdup(names->list[i].name);
		}
	}
	ast_mutex_unlock(&names_lock);
	return found;
}

static void put_entries(struct boundary_writer *request, const struct resk_entry *entries, size_t count)
{
	size_t i;

	boundary_put_count(request, count);
	for (i = 0; i < count; i++) {
		boundary_put_string(request, entries[i].file);
		boundary_put_number(request, entries[i].line);
		boundary_put_string(request, entries[i].section);
		boundary_put_string(request, entries[i].name);
		boundary_put_string(request, entries[i].value);
		boundary_put_number(request, !!entries[i].inherited);
	}
}

int32_t resk_configure(const struct resk_entry *entries, size_t count)
{
	struct boundary_writer request = { 0 };
	struct boundary_reader reader;
	struct peer_answer answer = { 0 };
	struct names *accepted = NULL;
	uint64_t generation;
	int32_t result = RESK_ESTATE;

	engine_await(AWAIT_MS); /* a reload ends the pause before the next engine */
	generation = engine_now();
	boundary_begin(&request, BOUNDARY_CONFIGURE, 0, 1);
	put_entries(&request, entries, count);
	if (boundary_finish(&request) || !generation
		|| peer_call(engine_peer, generation, request.bytes, request.used, CONFIGURE_MS, NULL, &answer) != PEER_OK) {
		ast_log(LOG_ERROR, "kafka.conf cannot be read, the previous configuration stays in force: " AWAY "\n");
		boundary_free(&request);
		return RESK_ESTATE;
	}
	boundary_read(&reader, answer.fields, answer.length);
	result = boundary_get_int32(&reader);
	accepted = names_read(&reader);
	if (!accepted) {
		engine_broken();
		result = RESK_ESTATE;
	} else if (result == RESK_OK) {
		names_replace(accepted);
		replay_keep(REPLAY_CONFIGURE, 0, request.bytes, request.used, generation);
		replay_rest();
	} else {
		names_free(accepted);
	}
	peer_free(answer.fields);
	boundary_free(&request);
	return result;
}

/* Sets small limits of a connection until the engine sets its own. */
static void provide_limits(struct resk_gate *gate)
{
	__atomic_store_n(&gate->max_frames, 1000, __ATOMIC_RELAXED);
	__atomic_store_n(&gate->max_charge, 16 << 20, __ATOMIC_RELAXED);
	__atomic_store_n(&gate->max_length, 1 << 20, __ATOMIC_RELAXED);
	__atomic_store_n(&gate->max_weight, 1000000, __ATOMIC_RELAXED);
	__atomic_store_n(&gate->linger_ns, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&gate->memory, INT64_MAX, __ATOMIC_RELAXED);
}

int32_t resk_producer_open(const char *name, struct stage *stage)
{
	struct boundary_writer request = { 0 };
	struct resk_gate *gate = stage_gate(stage);
	bool is_new = !__atomic_load_n(&gate->max_frames, __ATOMIC_RELAXED);
	bool known = names_have(name, false);
	int32_t result = RESK_ESTATE;
	int64_t shut = 0;

	boundary_begin(&request, BOUNDARY_PRODUCER_OPEN, 0, 1);
	boundary_put_string(&request, name);
	boundary_put_number(&request, stage_number(stage));
	if (is_new && known) {
		provide_limits(gate); /* the engine replaces them before it answers */
		stage_hold(stage, true);
	}
	if (!boundary_finish(&request)) {
		result = replay_open(stage, request.bytes, request.used, ASK_QUICKLY_MS);
	}
	boundary_free(&request);
	if (result != RESK_ESTATE) {
		return result;
	}
	/* The engine is slow or away. */
	if (!known) {
		replay_drop(REPLAY_PRODUCER, stage_number(stage));
		ast_log(LOG_ERROR, "No Kafka producer for connection '%s': there is none of that name in the configuration in force, and " AWAY "\n",
			name);
		return RESK_ENOENT;
	}
	if (is_new) {
		__atomic_compare_exchange_n(&gate->open, &shut, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	return RESK_OK;
}

void resk_producer_forget(struct stage *stage)
{
	replay_drop(REPLAY_PRODUCER, stage_number(stage));
}

int32_t resk_consumer_check(const char *name)
{
	struct boundary_writer request = { 0 };
	bool known = names_have(name, true);
	enum peer_result asked;
	int32_t result;

	boundary_begin(&request, BOUNDARY_CONSUMER_CHECK, 0, 1);
	boundary_put_string(&request, name);
	result = engine_ask_result(&request, 0, ASK_QUICKLY_MS, &asked);
	if (asked == PEER_OK) {
		return result;
	}
	if (!known) {
		ast_log(LOG_ERROR, "No Kafka consumer for connection '%s': there is none of that name with a group_id in the configuration in force, and "
			AWAY "\n", name);
	}
	return known ? RESK_OK : RESK_ENOENT;
}

static int put_source(struct boundary_writer *request, const char *kind, uint64_t source, const struct resk_entry *entries, size_t count)
{
	boundary_begin(request, BOUNDARY_SOURCE_OPEN, 0, 1);
	boundary_put_string(request, kind);
	boundary_put_number(request, source);
	put_entries(request, entries, count);
	return boundary_finish(request);
}

int32_t resk_source_open(const char *kind, const struct resk_entry *entries, size_t count, uint64_t *source, char **connection)
{
	struct boundary_writer request = { 0 };
	struct boundary_reader reader;
	struct peer_answer answer = { 0 };
	uint64_t generation, number;
	const char *name;
	int32_t result = RESK_ESTATE;

	*connection = NULL;
	engine_await(AWAIT_MS);
	generation = engine_now();
	if (put_source(&request, kind, *source, entries, count) || !generation
		|| peer_call(engine_peer, generation, request.bytes, request.used, CONFIGURE_MS, NULL, &answer) != PEER_OK) {
		ast_log(LOG_ERROR, "The configuration of '%s' cannot be read: " AWAY "\n", kind);
		boundary_free(&request);
		return RESK_ESTATE;
	}
	boundary_read(&reader, answer.fields, answer.length);
	result = boundary_get_int32(&reader);
	number = boundary_get_number(&reader);
	name = boundary_get_string(&reader);
	if (boundary_end(&reader) || (result == RESK_OK && (!number || (*source && number != *source)))) {
		engine_broken();
		result = RESK_ESTATE;
	}
	if (result == RESK_OK && !(*connection = ast_strdup(name))) {
		result = RESK_ESTATE;
	}
	if (result == RESK_OK) {
		*source = number;
		if (!put_source(&request, kind, number, entries, count)) {
			replay_keep(REPLAY_SOURCE, number, request.bytes, request.used, generation);
		}
	}
	peer_free(answer.fields);
	boundary_free(&request);
	return result;
}

static void put_topic(struct boundary_writer *request, const char *name, const char *topic, int32_t partitions, int32_t replication, int32_t wait)
{
	boundary_begin(request, BOUNDARY_ENSURE_TOPIC, 0, 1);
	boundary_put_string(request, name);
	boundary_put_string(request, topic);
	boundary_put_number(request, (int64_t) partitions);
	boundary_put_number(request, (int64_t) replication);
	boundary_put_number(request, !!wait);
}

int32_t resk_ensure_topic(const char *name, const char *topic, int32_t partitions, int32_t replication, int32_t wait)
{
	struct boundary_writer request = { 0 };
	enum peer_result asked = PEER_AWAY;
	int32_t result = RESK_ESTATE;
	int tries;

	/* Creating a topic twice does no harm, so the request is repeated once if the engine dies over it. */
	for (tries = 0; tries < 2 && asked == PEER_AWAY; tries++) {
		if (wait) {
			engine_await(AWAIT_MS);
		}
		put_topic(&request, name, topic, partitions, replication, wait);
		result = engine_ask_result(&request, 0, wait ? names_patience(name) : ASK_MS, &asked);
	}
	if (asked == PEER_OK) {
		return result;
	}
	if (!wait && names_have(name, false)) {
		put_topic(&request, name, topic, partitions, replication, 0);
		result = boundary_finish(&request) || replay_keep(REPLAY_ONCE, 0, request.bytes, request.used, 0) ? RESK_ESTATE : RESK_OK;
		boundary_free(&request);
	}
	if (result != RESK_OK) {
		ast_log(LOG_ERROR, "Topic '%s' is not created: " AWAY "\n", topic);
	}
	return result;
}

/* Refusals while there was no engine to count and log them. */
#define REFUSALS_MAX 64

AST_MUTEX_DEFINE_STATIC(refusals_lock);
static struct refusal {
	uint64_t id;
	uint32_t reason;
	uint64_t count;
	char sample[STAGE_NOTE_TEXT];
} refusals[REFUSALS_MAX];
static unsigned int refusal_count;

static int send_refusal(const struct refusal *refusal)
{
	struct boundary_writer request = { 0 };
	enum peer_result sent = PEER_NO_MEMORY;

	boundary_begin(&request, BOUNDARY_REFUSED, 0, 0);
	boundary_put_number(&request, refusal->id);
	boundary_put_number(&request, refusal->reason);
	boundary_put_number(&request, refusal->count);
	boundary_put_string(&request, refusal->sample);
	if (!boundary_finish(&request)) {
		sent = peer_send(engine_peer, request.bytes, request.used);
	}
	boundary_free(&request);
	return sent == PEER_OK ? 0 : -1;
}

void refusals_send(void)
{
	ast_mutex_lock(&refusals_lock);
	while (refusal_count && !send_refusal(&refusals[refusal_count - 1])) {
		refusal_count--;
	}
	ast_mutex_unlock(&refusals_lock);
}

void resk_refused(uint64_t id, uint32_t reason, uint64_t count, const char *sample)
{
	struct refusal refusal = { .id = id, .reason = reason, .count = count };
	unsigned int i;

	ast_copy_string(refusal.sample, S_OR(sample, ""), sizeof(refusal.sample));
	if (!send_refusal(&refusal)) {
		refusals_send();
		return;
	}
	ast_mutex_lock(&refusals_lock);
	for (i = 0; i < refusal_count && (refusals[i].id != id || refusals[i].reason != reason); i++) {
	}
	if (i < refusal_count) {
		refusals[i].count += count;
	} else if (refusal_count < REFUSALS_MAX) {
		refusals[refusal_count++] = refusal;
		ast_log(LOG_WARNING, "Records are refused, the first for topic '%s', and " AWAY "\n", refusal.sample);
	}
	ast_mutex_unlock(&refusals_lock);
}
