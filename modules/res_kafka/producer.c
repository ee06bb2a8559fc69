/*
 * res_kafka: producers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Producer handles, and the way of a record from a caller into its connection's stage.
 *
 * A slot is a connection by name and its stage, whose number the engine knows it by. It lives until the module is
 * unloaded. A producer is what other modules hold; each one that exists holds a reference to the module. The slot is
 * the producer's weak proxy: it finds the producer as long as somebody outside holds it, and a new one is made for the
 * next who asks.
 */

#include "asterisk.h"

#include <pthread.h>
#include <time.h>

#include "asterisk/astobj2.h"
#include "asterisk/linkedlists.h"
#include "asterisk/lock.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "boundary/kernel_limits.h"
#include "internal.h"

struct slot {
	AO2_WEAKPROXY();
	AST_LIST_ENTRY(slot) next;
	struct stage *stage;
	char name[];
};

struct ast_kafka_producer {
	struct slot *slot;
};

static AST_LIST_HEAD_STATIC(slots, slot);
static struct stage_pump *pump;
static struct stage *nowhere; /* notes of refusals that belong to no connection */
static struct resk_limits limits;
static int closing; /* no stage is opened any more; under the lock of slots */
static int held;
static int forked;
static int64_t late;  /* records that came when their stage was shut: atomic */
static int told_late; /* how many there were is logged, and so is the next one: atomic */

int in_forked_child(void)
{
	return forked;
}

static void after_fork_in_child(void)
{
	forked = 1;
}

static void note(void *owner, unsigned int reason, uint64_t count, const char *text)
{
	struct slot *slot = owner;

	resk_refused(slot ? stage_number(slot->stage) : 0, reason, count, text);
}

int producers_start(const struct resk_limits *given)
{
	char words[LIMITS_WORDS];
	static int fork_handler; /* once for each time the module's code is mapped */

	if (!fork_handler && !pthread_atfork(NULL, NULL, after_fork_in_child)) {
		fork_handler = 1;
	}
	limits = *given;
	closing = 0;
	late = told_late = 0;
	pump = stage_pump_start(engine_memory(), note, "kafka-pump", limits.stage_folder, limits.stage_bytes);
	if (pump) {
		stage_pump_again(pump, reports_again);
	}
	nowhere = pump ? stage_create(pump, NULL, NULL) : NULL;
	if (!nowhere) {
		ast_log(LOG_ERROR, "The thread that hands records to the Kafka engine cannot be started: %s\n",
			limits_words(errno, NULL, words, sizeof(words)));
		return -1;
	}
	engine_pump(pump);
	return 0;
}

void producers_ready(void)
{
	struct slot *slot;

	AST_LIST_LOCK(&slots);
	AST_LIST_TRAVERSE(&slots, slot, next) {
		stage_ready(slot->stage);
	}
	AST_LIST_UNLOCK(&slots);
}

void producers_publish(void)
{
	struct slot *slot;

	AST_LIST_LOCK(&slots);
	AST_LIST_TRAVERSE(&slots, slot, next) {
		stage_publish(slot->stage);
	}
	AST_LIST_UNLOCK(&slots);
}

/* How many records were produced since the module was loaded. */
static int64_t produced(void)
{
	int64_t sum = 0;
	struct slot *slot;

	AST_LIST_LOCK(&slots);
	AST_LIST_TRAVERSE(&slots, slot, next) {
		sum += stage_admitted(slot->stage);
	}
	AST_LIST_UNLOCK(&slots);
	return sum;
}

#define SETTLE_STEP_MS 5

void producers_settle(int quiet_ms, int limit_ms)
{
	int64_t before = produced();
	int quiet = 0;
	int waited;

	for (waited = 0; producers_held() && quiet < quiet_ms && waited < limit_ms; waited += SETTLE_STEP_MS) {
		int64_t now;

		usleep(SETTLE_STEP_MS * 1000);
		now = produced();
		quiet = now == before ? quiet + SETTLE_STEP_MS : 0;
		before = now;
	}
}

#define LATE_ADVICE "Asterisk produced %s after res_kafka had ended; safeshutdown = yes in cdr.conf makes it wait for its call records"

void producers_tell_late(void)
{
	int64_t count = __atomic_load_n(&late, __ATOMIC_SEQ_CST);

	if (count) {
		ast_log(LOG_ERROR, "%lld record(s) are lost: " LATE_ADVICE "\n", (long long) count, "them");
	}
	__atomic_store_n(&told_late, 1, __ATOMIC_SEQ_CST);
}

/* Counts a record that came too late, which the engine cannot log any more. */
static void refuse_late(const char *topic)
{
	__atomic_add_fetch(&late, 1, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&told_late, 0, __ATOMIC_SEQ_CST)) {
		ast_log(LOG_ERROR, "A record for topic '%s' is lost, and so are later ones: " LATE_ADVICE "\n", topic, "it");
	}
}

/* How long the end waits for an engine that is being restarted, and for it to take what is staged, ms. What it has not taken by
 * then stays in shared memory, if its durability is disk, and is lost otherwise. */
#define AWAIT_MS 2000
#define FLUSH_MS 2000

void producers_close(void)
{
	struct slot *slot;

	AST_LIST_LOCK(&slots);
	__atomic_store_n(&closing, 1, __ATOMIC_SEQ_CST);
	AST_LIST_TRAVERSE(&slots, slot, next) {
		stage_shut(slot->stage); /* and not its gate, which the engine may open until it is stopped */
	}
	if (pump) {
		engine_await(AWAIT_MS);
	}
	AST_LIST_TRAVERSE(&slots, slot, next) {
		stage_flush(slot->stage, FLUSH_MS * 1000000LL);
	}
	AST_LIST_UNLOCK(&slots);
	if (nowhere) {
		stage_flush(nowhere, FLUSH_MS * 1000000LL);
	}
}

void producers_stop(void)
{
	struct slot *slot;

	engine_pump(NULL);
	stage_pump_stop(pump);
	pump = NULL;
	stage_destroy(nowhere);
	nowhere = NULL;
	AST_LIST_LOCK(&slots);
	while ((slot = AST_LIST_REMOVE_HEAD(&slots, next))) {
		resk_producer_forget(slot->stage);
		stage_destroy(slot->stage);
		ao2_ref(slot, -1);
	}
	AST_LIST_UNLOCK(&slots);
}

int producers_running(const char *what, const char *name)
{
	if (!__atomic_load_n(&pump, __ATOMIC_SEQ_CST)) {
		ast_log(LOG_ERROR, "No Kafka %s for connection '%s': res_kafka.so is not running, the log of its loading says why\n",
			what, S_OR(name, ""));
		return 0;
	}
	return 1;
}

int producers_held(void)
{
	return __atomic_load_n(&held, __ATOMIC_SEQ_CST);
}

const char *producer_name(struct ast_kafka_producer *producer)
{
	return producer->slot->name;
}

static void producer_destroy(void *obj)
{
	struct ast_kafka_producer *producer = obj;

	ao2_cleanup(producer->slot);
	__atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
	ast_module_unref(AST_MODULE_SELF);
}

/* Finds or makes the slot of a connection and sees to it that its stage is bound. The list is locked. */
static struct slot *slot_get(const char *name)
{
	struct slot *slot;

	AST_LIST_TRAVERSE(&slots, slot, next) {
		if (!strcasecmp(slot->name, name)) {
			break;
		}
	}
	if (slot && __atomic_load_n(&stage_gate(slot->stage)->open, __ATOMIC_SEQ_CST)) {
		return slot;
	}
	if (!slot) {
		slot = ao2_weakproxy_alloc(sizeof(*slot) + strlen(name) + 1, NULL);
		if (!slot) {
			return NULL;
		}
		strcpy(slot->name, name); /* Safe: the memory was sized for it */
		slot->stage = stage_create(pump, slot, slot->name);
		if (!slot->stage) {
			ao2_ref(slot, -1);
			return NULL;
		}
		AST_LIST_INSERT_TAIL(&slots, slot, next);
	}
	/* A slot stays in the list when this fails: its name may be in the next configuration. */
	if (resk_producer_open(name, slot->stage) != RESK_OK) {
		return NULL;
	}
	stage_ready(slot->stage);
	return slot;
}

static struct ast_kafka_producer *producer_create(struct slot *slot)
{
	struct ast_kafka_producer *producer = ao2_alloc_options(sizeof(*producer), producer_destroy, AO2_ALLOC_OPT_LOCK_MUTEX);

	if (!producer) {
		return NULL;
	}
	producer->slot = ao2_bump(slot);
	__atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
	ast_module_ref(AST_MODULE_SELF);
	if (ao2_weakproxy_set_object(slot, producer, 0)) {
		ao2_ref(producer, -1);
		return NULL;
	}
	return producer;
}

struct ast_kafka_producer *ast_kafka_get_producer(const char *name)
{
	struct ast_kafka_producer *producer = NULL;
	struct slot *slot;

	if (in_forked_child() || !producers_running("producer", name)) {
		return NULL;
	}
	if (ast_strlen_zero(name)) {
		ast_log(LOG_ERROR, "No Kafka producer without the name of a connection in kafka.conf\n");
		return NULL;
	}
	AST_LIST_LOCK(&slots);
	slot = closing ? NULL : slot_get(name);
	if (closing) {
		ast_log(LOG_ERROR, "No Kafka producer for connection '%s': Asterisk ends, or res_kafka.so is being unloaded\n", name);
	}
	if (slot && !(producer = ao2_weakproxy_get_object(slot, 0))) {
		producer = producer_create(slot);
	}
	AST_LIST_UNLOCK(&slots);
	return producer;
}

/* The engine's rule of what a topic is called, looked up. Gives the name's length, or -1. */
static int topic_length(const char *topic)
{
	uint32_t length = 0;

	for (; topic && topic[length]; length++) {
		if (length == limits.topic_length_max || !limits.topic_bytes[(unsigned char) topic[length]]) {
			return -1;
		}
	}
	return length ? (int) length : -1;
}

static int refuse(struct stage *stage, enum resk_refusal reason, const char *topic)
{
	topic = S_OR(topic, "");
	if (!stage) { /* the module declined to load: there is nobody to count for */
		return -1;
	}
	stage_note(stage, reason, topic, strnlen(topic, STAGE_NOTE_TEXT));
	return -1;
}

int producer_put(struct ast_kafka_producer *producer, struct resk_frame_head *head, struct iovec *parts, int count,
	size_t weight, uint32_t charge, const char *topic)
{
	struct stage *stage = producer->slot->stage;
	struct timespec now;
	enum stage_result result;

	if (weight > (size_t) __atomic_load_n(&stage_gate(stage)->max_weight, __ATOMIC_RELAXED)) {
		return refuse(stage, RESK_REFUSED_TOO_LONG, topic);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	head->accepted_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	parts[0] = (struct iovec) { head, sizeof(*head) };
	/* Events have a durability of their own, which the engine sees to. */
	result = stage_put(stage, parts, count, charge, !head->source);
	if (result == STAGE_CLOSED && __atomic_load_n(&closing, __ATOMIC_SEQ_CST)) {
		refuse_late(topic);
	}
	return result == STAGE_OK ? 0 : refuse(stage, (enum resk_refusal) result, topic);
}

/* Adds the headers to the parts of a record and what they weigh to weight. -1 when a pointer is NULL. */
static int add_headers(const struct ast_kafka_header *headers, size_t count, struct resk_field_head *heads,
	struct iovec *parts, size_t *weight)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (!headers[i].name || !headers[i].value) {
			return -1;
		}
		heads[i] = (struct resk_field_head) {
			.name_length = strlen(headers[i].name),
			.value_length = strlen(headers[i].value),
			.kind = RESK_FIELD_TEXT,
		};
		*parts++ = (struct iovec) { &heads[i], sizeof(heads[i]) };
		*parts++ = (struct iovec) { (void *) headers[i].name, heads[i].name_length };
		*parts++ = (struct iovec) { (void *) headers[i].value, heads[i].value_length };
		*weight += limits.header_overhead + heads[i].name_length + heads[i].value_length;
	}
	return 0;
}

/* Records with up to this many headers need no memory of their own while they are staged. */
#define HEADERS_ON_STACK 16

/* What describes a record before its headers: the frame's head, topic, key, value, and who wants a report. */
#define PARTS_BEFORE 6

/* Stages a record whose parts have been checked and have room; heads describe its headers. */
static int put(struct ast_kafka_producer *producer, const struct record *record, size_t topic_len, struct iovec *parts,
	struct resk_field_head *heads)
{
	static const struct resk_field_head report_head = {
		.value_length = sizeof(*record->report), .kind = RESK_FIELD_REPORT,
	};
	size_t key_length = record->key ? strlen(record->key) : 0;
	size_t weight = limits.record_overhead + key_length + record->len;
	struct resk_frame_head head = {
		.topic_length = topic_len,
		.key_length = record->key ? (uint32_t) key_length : RESK_NULL,
		.value_length = record->payload ? (uint32_t) record->len : RESK_NULL,
		.field_count = record->header_count + (record->report ? 1 : 0),
	};
	int count = 4;

	if (key_length >= RESK_NULL) {
		return refuse(producer->slot->stage, RESK_REFUSED_TOO_LONG, record->topic);
	}
	parts[1] = (struct iovec) { (void *) record->topic, topic_len };
	parts[2] = (struct iovec) { (void *) record->key, key_length };
	parts[3] = (struct iovec) { (void *) record->payload, record->len };
	if (record->report) {
		parts[count++] = (struct iovec) { (void *) &report_head, sizeof(report_head) };
		parts[count++] = (struct iovec) { (void *) record->report, sizeof(*record->report) };
	}
	if (add_headers(record->headers, record->header_count, heads, parts + count, &weight)) {
		return refuse(producer->slot->stage, RESK_REFUSED_ARGUMENT, record->topic);
	}
	return producer_put(producer, &head, parts, count + 3 * record->header_count, weight, record->len, record->topic);
}

int producer_record(struct ast_kafka_producer *producer, const struct record *record)
{
	struct iovec few_parts[PARTS_BEFORE + 3 * HEADERS_ON_STACK], *parts = few_parts;
	struct resk_field_head few_heads[HEADERS_ON_STACK], *heads = few_heads;
	size_t headers = record->header_count;
	int topic_len, res;

	if (in_forked_child()) {
		return -1;
	}
	if (!producer) {
		return refuse(nowhere, RESK_REFUSED_ARGUMENT, record->topic);
	}
	topic_len = topic_length(record->topic);
	if (topic_len < 0) {
		return refuse(producer->slot->stage, RESK_REFUSED_TOPIC, record->topic);
	}
	if (!record->payload && record->len) {
		return refuse(producer->slot->stage, RESK_REFUSED_ARGUMENT, record->topic);
	}
	if (record->len >= RESK_NULL || headers > UINT16_MAX) {
		return refuse(producer->slot->stage, RESK_REFUSED_TOO_LONG, record->topic);
	}
	if (headers > HEADERS_ON_STACK) {
		parts = ast_malloc((PARTS_BEFORE + 3 * headers) * sizeof(*parts) + headers * sizeof(*heads));
		if (!parts) {
			return refuse(producer->slot->stage, RESK_REFUSED_NO_MEMORY, record->topic);
		}
		heads = (struct resk_field_head *) (parts + PARTS_BEFORE + 3 * headers);
	}
	res = put(producer, record, topic_len, parts, heads);
	if (parts != few_parts) {
		ast_free(parts);
	}
	return res;
}

int producer_refuse(struct ast_kafka_producer *producer, enum resk_refusal reason, const char *topic)
{
	return refuse(producer ? producer->slot->stage : nowhere, reason, topic);
}

int64_t producer_queue_limit(struct ast_kafka_producer *producer)
{
	return __atomic_load_n(&stage_gate(producer->slot->stage)->max_frames, __ATOMIC_RELAXED);
}

int ast_kafka_produce_hdrs(struct ast_kafka_producer *producer, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count)
{
	const struct record record = {
		.topic = topic, .key = key, .payload = payload, .len = len,
		.headers = headers, .header_count = headers ? header_count : 0,
	};

	return producer_record(producer, &record);
}

int ast_kafka_produce(struct ast_kafka_producer *producer, const char *topic, const char *key, const void *payload,
	size_t len)
{
	return ast_kafka_produce_hdrs(producer, topic, key, payload, len, NULL, 0);
}
