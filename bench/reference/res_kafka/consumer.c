/*
 * The reference of res_kafka's measurements: consumers. For measurements only.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Consumers polled in turn by one thread, each until it is empty.
 *
 * A consumer's own lock is held during its share of a turn, so no callback comes after
 * ast_kafka_consumer_unsubscribe(); the lock is recursive, so a callback may call any function.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "internal.h"

#define HEADERS_MAX 64

struct ast_kafka_consumer {
	struct client client; /* first, for a container of clients */
	ast_kafka_message_cb message; /* either of both while there is a subscription */
	ast_kafka_record_cb record;
	void *userdata;
	int subscribed;
};

static struct ao2_container *consumers;

static void consumer_destroy(void *object)
{
	struct ast_kafka_consumer *consumer = object;

	if (consumer->client.rk) {
		rd_kafka_consumer_close(consumer->client.rk);
		rd_kafka_destroy(consumer->client.rk);
	}
}

static struct ast_kafka_consumer *consumer_new(const char *name)
{
	struct ast_kafka_consumer *consumer = ao2_alloc(sizeof(*consumer), consumer_destroy);

	if (!consumer) {
		return NULL;
	}
	if (config_new_client(&consumer->client, name, ROLE_CONSUMER)) {
		ao2_ref(consumer, -1);
		return NULL;
	}
	rd_kafka_poll_set_consumer(consumer->client.rk);
	ao2_link(consumers, consumer);
	return consumer;
}

struct ast_kafka_consumer *ast_kafka_get_consumer(const char *name)
{
	struct ast_kafka_consumer *consumer;

	if (!consumers || !name) {
		return NULL;
	}
	ao2_lock(consumers);
	consumer = ao2_find(consumers, name, OBJ_SEARCH_KEY | OBJ_NOLOCK);
	if (!consumer) {
		consumer = consumer_new(name);
	}
	ao2_unlock(consumers);
	return consumer;
}

struct ast_kafka_consumer *ast_kafka_create_consumer(const char *name)
{
	return consumers && name ? consumer_new(name) : NULL;
}

static rd_kafka_topic_partition_list_t *topic_list(const char *topics)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
	char *rest = ast_strdupa(topics), *name;

	while ((name = strsep(&rest, ","))) {
		name = ast_strip(name);
		if (name[0]) {
			rd_kafka_topic_partition_list_add(list, name, RD_KAFKA_PARTITION_UA);
		}
	}
	return list;
}

static int subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb message,
	ast_kafka_record_cb record, void *userdata)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__INVALID_ARG;

	if (!consumer || !topics || (!message && !record)) {
		return -1;
	}
	list = topic_list(topics);
	ao2_lock(consumer);
	if (list->cnt) {
		consumer->message = message;
		consumer->record = record;
		consumer->userdata = userdata;
		error = rd_kafka_subscribe(consumer->client.rk, list);
		__atomic_store_n(&consumer->subscribed, !error, __ATOMIC_RELEASE);
	}
	ao2_unlock(consumer);
	rd_kafka_topic_partition_list_destroy(list);
	return error ? -1 : 0;
}

int ast_kafka_consumer_subscribe(struct ast_kafka_consumer *consumer, const char *topics, ast_kafka_message_cb callback,
	void *userdata)
{
	return subscribe(consumer, topics, callback, NULL, userdata);
}

int ast_kafka_consumer_subscribe_records(struct ast_kafka_consumer *consumer, const char *topics,
	ast_kafka_record_cb callback, void *userdata)
{
	return subscribe(consumer, topics, NULL, callback, userdata);
}

int ast_kafka_consumer_unsubscribe(struct ast_kafka_consumer *consumer)
{
	if (!consumer) {
		return -1;
	}
	/* Before the lock, to end a turn under constant traffic. */
	if (__atomic_exchange_n(&consumer->subscribed, 0, __ATOMIC_ACQ_REL)) {
		ao2_lock(consumer);
		rd_kafka_unsubscribe(consumer->client.rk);
		ao2_unlock(consumer);
	}
	return 0;
}

int ast_kafka_consumer_commit(struct ast_kafka_consumer *consumer)
{
	rd_kafka_resp_err_t error = consumer ? rd_kafka_commit(consumer->client.rk, NULL, 0) : RD_KAFKA_RESP_ERR__INVALID_ARG;

	return error && error != RD_KAFKA_RESP_ERR__NO_OFFSET ? -1 : 0;
}

int ast_kafka_consumer_pause(struct ast_kafka_consumer *consumer, const char *topics, int paused)
{
	return -1;
}

static void deliver_record(struct ast_kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	struct ast_kafka_record_header headers[HEADERS_MAX];
	struct ast_kafka_record record = {
		.topic = rd_kafka_topic_name(message->rkt),
		.partition = message->partition,
		.offset = message->offset,
		.timestamp_ms = rd_kafka_message_timestamp(message, NULL),
		.key = message->key,
		.key_len = message->key_len,
		.payload = message->payload,
		.len = message->len,
		.headers = headers,
	};
	rd_kafka_headers_t *list;

	if (!rd_kafka_message_headers(message, &list)) {
		while (record.header_count < HEADERS_MAX
			&& !rd_kafka_header_get_all(list, record.header_count, &headers[record.header_count].name,
				&headers[record.header_count].value, &headers[record.header_count].value_len)) {
			record.header_count++;
		}
	}
	consumer->record(consumer, &record, consumer->userdata);
}

static void deliver(struct ast_kafka_consumer *consumer, const rd_kafka_message_t *message)
{
	if (message->err) {
		if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF && client_may_log(&consumer->client)) {
			ast_log(LOG_WARNING, "Connection '%s': %s\n", consumer->client.name, rd_kafka_message_errstr(message));
		}
	} else if (consumer->message) {
		consumer->message(rd_kafka_topic_name(message->rkt), message->partition, message->offset, message->payload,
			message->len, message->key, message->key_len, consumer->userdata);
	} else {
		deliver_record(consumer, message);
	}
}

int consumers_start(void)
{
	return (consumers = clients_alloc()) ? 0 : -1;
}

void consumers_poll(void)
{
	struct ao2_iterator each = ao2_iterator_init(consumers, 0);
	struct ast_kafka_consumer *consumer;

	for (; (consumer = ao2_iterator_next(&each)); ao2_ref(consumer, -1)) {
		rd_kafka_message_t *message;

		ao2_lock(consumer);
		while (__atomic_load_n(&consumer->subscribed, __ATOMIC_ACQUIRE)
			&& (message = rd_kafka_consumer_poll(consumer->client.rk, 0))) {
			deliver(consumer, message);
			rd_kafka_message_destroy(message);
		}
		ao2_unlock(consumer);
	}
	ao2_iterator_destroy(&each);
}

void consumers_stop(void)
{
	ao2_cleanup(consumers);
	consumers = NULL;
}
