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

static int ensure(struct ast_kafka_producer *producer, const char *topic, int partitions, int replication, bool wait)
{
	struct boundary_writer request = { 0 };
	enum peer_result asked = PEER_AWAY;
	struct peer_answer answer = { 0 };
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
	boundary_begin(&request, BOUNDARY_ENSURE_TOPIC, 0, 1);
	boundary_put_string(&request, producer_name(producer));
	boundary_put_string(&request, topic);
	boundary_put_number(&request, (int64_t) partitions);
	boundary_put_number(&request, (int64_t) replication);
	boundary_put_number(&request, wait);
	/* One repetition after the engine's death: a second creation of a topic does no harm. */
	deadline = clock_now() + (wait ? connection_patience(producer_name(producer)) : ASK_MS);
	for (tries = 0; tries < 2 && asked == PEER_AWAY; tries++) {
		if (wait) {
			engine_await(MIN(AWAIT_MS, MAX(deadline - clock_now(), 0)));
		}
		asked = peer_call(engine_peer, 0, &request, MAX(deadline - clock_now(), 0), NULL, 0, &answer);
	}
	if (asked == PEER_OK) {
		result = boundary_get_int32(&answer.reader);
		result = answer_end(&answer) ? RESK_ESTATE : result;
	} else if (!wait && connection_can(producer_name(producer), false, false)
		&& !replay_keep(REPLAY_ONCE, 0, &request, 0, NULL)) {
		result = RESK_OK;
	} else {
		ast_log(LOG_ERROR, "Topic '%s' is not created: %s\n", topic, asked == PEER_LATE ? "the Kafka engine did not answer in time" : AWAY);
	}
	boundary_free(&request);
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
