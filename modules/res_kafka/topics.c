/*
 * res_kafka: topics.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The administrative calls of asterisk/kafka.h.
 */

#include "asterisk.h"

#include "boundary/clock.h" /* before Asterisk renames the types of pthread.h */

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

/* Encodes a request, for the caller to free. */
static void encode(struct boundary_writer *request, const char *name, const char *topic, int partitions, int replication, bool wait)
{
	boundary_begin(request, BOUNDARY_ENSURE_TOPIC, 0, 1);
	boundary_put_string(request, name);
	boundary_put_string(request, topic);
	boundary_put_number(request, (int64_t) partitions);
	boundary_put_number(request, (int64_t) replication);
	boundary_put_number(request, wait);
}

static int ensure(struct ast_kafka_producer *producer, const char *topic, int partitions, int replication, bool wait)
{
	const char *name = producer ? producer_name(producer) : "";
	struct boundary_writer request = { 0 };
	enum peer_result asked = PEER_AWAY;
	int32_t result = RESK_ESTATE;
	int64_t deadline;
	int tries;

	if (in_forked_child()) {
		return -1;
	}
	if (!producer || ast_strlen_zero(topic)) {
		ast_log(LOG_ERROR, "No Kafka topic is made without a producer and a name\n");
		return -1;
	}
	/* One repetition after the engine's death: a second creation of a topic does no harm. */
	deadline = clock_now() + (wait ? connection_patience(name) : ASK_MS);
	for (tries = 0; tries < 2 && asked == PEER_AWAY; tries++) {
		if (wait) {
			engine_await(MIN(AWAIT_MS, MAX(deadline - clock_now(), 0)));
		}
		encode(&request, name, topic, partitions, replication, wait);
		result = engine_ask_result(&request, 0, MAX(deadline - clock_now(), 0), &asked);
	}
	if (asked != PEER_OK && !wait && connection_can(name, false, false)) {
		encode(&request, name, topic, partitions, replication, false);
		if (!replay_keep(REPLAY_ONCE, 0, &request, 0, NULL)) {
			result = RESK_OK;
		}
		boundary_free(&request);
	}
	if (asked != PEER_OK && result != RESK_OK) {
		ast_log(LOG_ERROR, "Topic '%s' is not created: %s\n", topic, asked == PEER_LATE ? "the Kafka engine did not answer in time" : AWAY);
	}
	return result == RESK_OK ? 0 : -1;
}

int ast_kafka_ensure_topic(struct ast_kafka_producer *producer, const char *topic, int num_partitions, int replication_factor)
{
	return ensure(producer, topic, num_partitions, replication_factor, true);
}

int ast_kafka_ensure_topic_async(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor)
{
	return ensure(producer, topic, num_partitions, replication_factor, false);
}
