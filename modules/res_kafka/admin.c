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

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "internal.h"

static int ensure(struct ast_kafka_producer *producer, const char *topic, int partitions, int replication, int wait)
{
	if (in_forked_child()) {
		return -1;
	}
	if (!producer || ast_strlen_zero(topic)) {
		ast_log(LOG_ERROR, "No Kafka topic is made without a producer and a name\n");
		return -1;
	}
	return resk_ensure_topic(producer_name(producer), topic, partitions, replication, wait) == RESK_OK ? 0 : -1;
}

int ast_kafka_ensure_topic(struct ast_kafka_producer *producer, const char *topic, int num_partitions, int replication_factor)
{
	return ensure(producer, topic, num_partitions, replication_factor, 1);
}

int ast_kafka_ensure_topic_async(struct ast_kafka_producer *producer, const char *topic, int num_partitions,
	int replication_factor)
{
	return ensure(producer, topic, num_partitions, replication_factor, 0);
}
