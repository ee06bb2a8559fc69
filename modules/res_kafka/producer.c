/*
 * res_kafka: producers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Producer handles, and the path of a record from a caller into its connection's stage.
 *
 * A producer is the handle of other modules and holds a reference to the module. Its slot (stages.c) is its
 * weak proxy: the slot finds the producer as long as another module holds a reference. The next caller then
 * gets a new producer.
 */

#include "asterisk.h"

#include <time.h>

#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/utils.h"

#include "internal.h"

struct ast_kafka_producer {
	struct slot *slot;
};

static int held;

int producers_held(void)
{
	return __atomic_load_n(&held, __ATOMIC_SEQ_CST);
}

const char *producer_name(struct ast_kafka_producer *producer)
{
	return producer->slot->name;
}

struct stage *producer_stage(struct ast_kafka_producer *producer)
{
	return producer ? producer->slot->stage : NULL;
}

static void producer_destroy(void *obj)
{
	struct ast_kafka_producer *producer = obj;

	ao2_cleanup(producer->slot);
	__atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
	ast_module_unref(AST_MODULE_SELF);
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

	if (!stages_running("producer", name)) {
		return NULL;
	}
	AST_LIST_LOCK(&slots);
	slot = slot_open(name);
	if (slot && !(producer = ao2_weakproxy_get_object(slot, 0))) {
		producer = producer_create(slot);
	}
	AST_LIST_UNLOCK(&slots);
	return producer;
}

/* Applies the engine's rule for topic names. Returns the name's length, or -1. */
static int topic_length(const char *topic)
{
	static const uint64_t allowed[] = RESK_TOPIC_BYTES;
	int length = 0;

	for (; topic && topic[length]; length++) {
		unsigned char byte = topic[length];

		if (length == RESK_TOPIC_LENGTH_MAX || !(allowed[byte / 64] >> byte % 64 & 1)) {
			return -1;
		}
	}
	return length ? length : -1;
}

int producer_put(struct ast_kafka_producer *producer, struct resk_frame_head *head, struct iovec *parts, int count,
	size_t weight, uint32_t charge, const char *topic)
{
	struct stage *stage = producer->slot->stage;
	struct timespec now;
	enum stage_result result;

	if (weight > (size_t) __atomic_load_n(&stage_gate(stage)->max_weight, __ATOMIC_RELAXED)) {
		return stages_refuse(stage, RESK_REFUSED_TOO_LONG, topic);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	head->accepted_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	parts[0] = (struct iovec) { head, sizeof(*head) };
	/* The engine handles the durability of events. */
	result = stage_put(stage, parts, count, charge, !head->source);
	return result == STAGE_OK ? 0 : stages_refuse(stage, (enum resk_refusal) result, topic);
}

/* Adds the headers to a record's parts and their weight to weight. -1 for a NULL pointer. */
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
		*weight += RESK_HEADER_OVERHEAD + heads[i].name_length + heads[i].value_length;
	}
	return 0;
}

/* A record with at most this many headers is staged without allocation. */
#define HEADERS_ON_STACK 16

/* The parts before a record's headers: the frame's head, topic, key, value, and the report's address. */
#define PARTS_BEFORE 6

/* Stages a record with checked parts; heads describe its headers. */
static int put(struct ast_kafka_producer *producer, const struct record *record, size_t topic_len, struct iovec *parts,
	struct resk_field_head *heads)
{
	static const struct resk_field_head report_head = {
		.value_length = sizeof(*record->report), .kind = RESK_FIELD_REPORT,
	};
	size_t key_length = record->key ? strlen(record->key) : 0;
	size_t weight = RESK_RECORD_OVERHEAD + key_length + record->len;
	struct resk_frame_head head = {
		.topic_length = topic_len,
		.key_length = record->key ? (uint32_t) key_length : RESK_NULL,
		.value_length = record->payload ? (uint32_t) record->len : RESK_NULL,
		.field_count = record->header_count + (record->report ? 1 : 0),
	};
	int count = 4;

	if (key_length >= RESK_NULL) {
		return stages_refuse(producer->slot->stage, RESK_REFUSED_TOO_LONG, record->topic);
	}
	parts[1] = (struct iovec) { (void *) record->topic, topic_len };
	parts[2] = (struct iovec) { (void *) record->key, key_length };
	parts[3] = (struct iovec) { (void *) record->payload, record->len };
	if (record->report) {
		parts[count++] = (struct iovec) { (void *) &report_head, sizeof(report_head) };
		parts[count++] = (struct iovec) { (void *) record->report, sizeof(*record->report) };
	}
	if (add_headers(record->headers, record->header_count, heads, parts + count, &weight)) {
		return stages_refuse(producer->slot->stage, RESK_REFUSED_ARGUMENT, record->topic);
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
		return stages_refuse(NULL, RESK_REFUSED_ARGUMENT, record->topic);
	}
	topic_len = topic_length(record->topic);
	if (topic_len < 0) {
		return stages_refuse(producer->slot->stage, RESK_REFUSED_TOPIC, record->topic);
	}
	if (!record->payload && record->len) {
		return stages_refuse(producer->slot->stage, RESK_REFUSED_ARGUMENT, record->topic);
	}
	if (record->len >= RESK_NULL || headers > UINT16_MAX) {
		return stages_refuse(producer->slot->stage, RESK_REFUSED_TOO_LONG, record->topic);
	}
	if (headers > HEADERS_ON_STACK) {
		parts = ast_malloc((PARTS_BEFORE + 3 * headers) * sizeof(*parts) + headers * sizeof(*heads));
		if (!parts) {
			return stages_refuse(producer->slot->stage, RESK_REFUSED_NO_MEMORY, record->topic);
		}
		heads = (struct resk_field_head *) (parts + PARTS_BEFORE + 3 * headers);
	}
	res = put(producer, record, topic_len, parts, heads);
	if (parts != few_parts) {
		ast_free(parts);
	}
	return res;
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
