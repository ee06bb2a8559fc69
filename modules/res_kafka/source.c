/*
 * res_kafka: event sources.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The path of an event's fields from a tap into the stage of its source's connection.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"
#include "asterisk/kafka_source.h"

struct ast_kafka_source {
	struct ast_kafka_producer *producer; /* changes under the object's lock */
	uint64_t number;
	const char *file;
	char kind[];
};

static void source_destroy(void *obj)
{
	struct ast_kafka_source *source = obj;

	ao2_cleanup(source->producer);
}

int ast_kafka_source_reload(struct ast_kafka_source *source)
{
	struct ast_kafka_producer *producer;
	char *connection = NULL;

	if (!stages_running("event source", source->kind)
		|| config_source(source->kind, source->file, &source->number, &connection)) {
		return -1;
	}
	producer = ast_kafka_get_producer(connection);
	ast_free(connection);
	if (!producer) {
		return -1;
	}
	ao2_lock(source);
	SWAP(source->producer, producer);
	ao2_unlock(source);
	ao2_cleanup(producer);
	return 0;
}

struct ast_kafka_source *ast_kafka_source_open(const char *kind, const char *file)
{
	size_t kind_size = strlen(kind) + 1;
	struct ast_kafka_source *source;

	source = ao2_alloc(sizeof(*source) + kind_size + strlen(file) + 1, source_destroy);
	if (!source) {
		return NULL;
	}
	strcpy(source->kind, kind); /* Safe: the memory was sized for both */
	source->file = strcpy(source->kind + kind_size, file);
	if (ast_kafka_source_reload(source)) {
		ao2_ref(source, -1);
		return NULL;
	}
	return source;
}

void ast_kafka_source_settle(struct ast_kafka_source *source)
{
	if (!in_forked_child()) {
		stages_settle();
	}
}

/* The bytes of a field's value in the frame. number gets integers and times. */
static struct iovec field_bytes(const struct ast_kafka_field *field, int64_t number[2], uint32_t *kind)
{
	switch (field->kind) {
	case AST_KAFKA_INTEGER:
		*kind = RESK_FIELD_INTEGER;
		number[0] = field->integer;
		return (struct iovec) { number, sizeof(number[0]) };
	case AST_KAFKA_TIME:
		*kind = RESK_FIELD_TIME;
		number[0] = field->time.tv_sec;
		number[1] = field->time.tv_usec;
		return (struct iovec) { number, 2 * sizeof(number[0]) };
	case AST_KAFKA_VARIABLE:
		*kind = RESK_FIELD_VARIABLE;
		break;
	default:
		*kind = RESK_FIELD_TEXT;
	}
	return (struct iovec) { (void *) field->text, field->text ? strlen(field->text) : 0 };
}

int ast_kafka_source_publish(struct ast_kafka_source *source, const struct ast_kafka_field *fields, size_t count)
{
	struct {
		struct resk_field_head head;
		int64_t number[2];
	} *values;
	struct resk_frame_head head = { .key_length = RESK_NULL, .value_length = RESK_NULL, .field_count = count };
	struct ast_kafka_producer *producer;
	struct iovec *parts;
	size_t i, weight = 0;
	int res;

	if (in_forked_child()) {
		return -1;
	}
	/* One block describes all fields; the values are copied once, into the stage. */
	values = ast_malloc(count * sizeof(*values) + (1 + 3 * count) * sizeof(*parts));
	if (!values) {
		return -1;
	}
	parts = (struct iovec *) (values + count);
	for (i = 0; i < count; i++) {
		struct iovec value = field_bytes(&fields[i], values[i].number, &values[i].head.kind);

		values[i].head.name_length = strlen(fields[i].name);
		values[i].head.value_length = value.iov_base ? value.iov_len : RESK_NULL;
		parts[1 + 3 * i] = (struct iovec) { &values[i].head, sizeof(values[i].head) };
		parts[2 + 3 * i] = (struct iovec) { (void *) fields[i].name, values[i].head.name_length };
		parts[3 + 3 * i] = value;
		weight += value.iov_len;
	}
	ao2_lock(source);
	producer = ao2_bump(source->producer);
	head.source = source->number;
	ao2_unlock(source);
	res = producer_put(producer, &head, parts, 1 + 3 * count, weight, weight, source->kind);
	ao2_ref(producer, -1);
	ast_free(values);
	return res;
}
