/*
 * The reference of res_kafka's measurements: producers. For measurements only.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief ast_kafka_produce() as rd_kafka_producev() with a copy.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

#define FLUSH_MS 5000
#define FULL_POLL_MS 100

struct ast_kafka_producer {
	struct client client; /* first, for a container of clients */
};

static struct ao2_container *producers;

static void producer_destroy(void *object)
{
	struct ast_kafka_producer *producer = object;

	if (producer->client.rk) {
		rd_kafka_flush(producer->client.rk, FLUSH_MS);
		rd_kafka_destroy(producer->client.rk);
	}
}

struct ast_kafka_producer *ast_kafka_get_producer(const char *name)
{
	struct ast_kafka_producer *producer = NULL;

	if (!producers || !name) {
		return NULL;
	}
	ao2_lock(producers);
	producer = ao2_find(producers, name, OBJ_SEARCH_KEY | OBJ_NOLOCK);
	if (!producer && (producer = ao2_alloc(sizeof(*producer), producer_destroy))) {
		if (config_new_client(&producer->client, name, ROLE_PRODUCER)) {
			ao2_ref(producer, -1);
			producer = NULL;
		} else {
			ao2_link_flags(producers, producer, OBJ_NOLOCK);
		}
	}
	ao2_unlock(producers);
	return producer;
}

static rd_kafka_resp_err_t produce(struct ast_kafka_producer *producer, const char *topic, const char *key,
	const void *payload, size_t len, rd_kafka_headers_t *headers)
{
	return rd_kafka_producev(producer->client.rk,
		RD_KAFKA_V_TOPIC(topic),
		RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
		RD_KAFKA_V_KEY(key, key ? strlen(key) : 0),
		RD_KAFKA_V_VALUE((void *) payload, len),
		RD_KAFKA_V_HEADERS(headers),
		RD_KAFKA_V_END);
}

int ast_kafka_produce_hdrs(struct ast_kafka_producer *producer, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count)
{
	rd_kafka_headers_t *copy = NULL;
	rd_kafka_resp_err_t error;
	size_t i;

	if (!producer || !topic) {
		return -1;
	}
	if (headers && header_count) {
		copy = rd_kafka_headers_new(header_count);
		for (i = 0; i < header_count; i++) {
			rd_kafka_header_add(copy, headers[i].name, -1, headers[i].value, -1);
		}
	}
	error = produce(producer, topic, key, payload, len, copy);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
		if (client_may_log(&producer->client)) {
			ast_log(LOG_WARNING, "The queue of connection '%s' is full\n", producer->client.name);
		}
		/* In the caller's thread, like the replaced module. */
		rd_kafka_poll(producer->client.rk, FULL_POLL_MS);
		error = produce(producer, topic, key, payload, len, copy);
	}
	if (!error) {
		return 0;
	}
	if (copy) {
		rd_kafka_headers_destroy(copy);
	}
	if (client_may_log(&producer->client)) {
		ast_log(LOG_ERROR, "A message to topic '%s' is refused: %s\n", topic, rd_kafka_err2str(error));
	}
	return -1;
}

int ast_kafka_produce(struct ast_kafka_producer *producer, const char *topic, const char *key, const void *payload,
	size_t len)
{
	return ast_kafka_produce_hdrs(producer, topic, key, payload, len, NULL, 0);
}

int ast_kafka_ensure_topic(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor)
{
	ast_log(LOG_ERROR, "The reference makes no topics\n");
	return -1;
}

int ast_kafka_ensure_topic_async(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor)
{
	return ast_kafka_ensure_topic(producer, topic, num_partitions, replication_factor);
}

struct ast_kafka_reports *ast_kafka_reports_create(struct ast_kafka_producer *producer, ast_kafka_report_cb callback,
	void *userdata)
{
	return NULL;
}

int ast_kafka_produce_reported(struct ast_kafka_reports *reports, const char *topic, const char *key,
	const void *payload, size_t len, const struct ast_kafka_header *headers, size_t header_count, void *opaque)
{
	return -1;
}

int ast_kafka_reports_end(struct ast_kafka_reports *reports, int wait_ms)
{
	return -1;
}

int producers_start(void)
{
	return (producers = clients_alloc()) ? 0 : -1;
}

void producers_poll(void)
{
	struct ao2_iterator each = ao2_iterator_init(producers, 0);
	struct ast_kafka_producer *producer;

	for (; (producer = ao2_iterator_next(&each)); ao2_ref(producer, -1)) {
		rd_kafka_poll(producer->client.rk, 0);
	}
	ao2_iterator_destroy(&each);
}

void producers_stop(void)
{
	ao2_cleanup(producers);
	producers = NULL;
}
