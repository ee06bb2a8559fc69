/*
 * test_res_kafka: topics.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Creating topics.
 */

#include "asterisk.h"

#include "kit.h"

/* How many partitions a topic has, seen from where 300 keys come; -1 when not all come. */
static int partitions_of(struct ast_kafka_producer *producer, const char *topic, struct inbox *inbox)
{
	unsigned char seen[64] = { 0 };
	int i, n = 0;

	if (produce_numbers(producer, topic, 0, 300) || ast_kafka_consumer_subscribe(inbox->consumer, topic, inbox_message, inbox)
		|| inbox_wait(inbox, 300)) {
		return -1;
	}
	for (i = 0; i < 300; i++) {
		seen[inbox_at(inbox, i).partition % 64] = 1;
	}
	for (i = 0; i < 64; i++) {
		n += seen[i];
	}
	return n;
}

KAFKA_TEST(ensure_makes, "a topic is made once",
	"ast_kafka_ensure_topic() makes a topic of the partitions asked for, and gives 0 for one that is there, whatever it has")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "ensure", 7), of_the_broker = topic_new(producer, "broker", -1);
	int n;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	CHECK(of_the_broker.name[0], "the number of partitions is not left to the broker");
	CHECK(!ast_kafka_ensure_topic(producer, topic.name, 7, 0), "again");
	CHECK(!ast_kafka_ensure_topic(producer, topic.name, 3, 0), "again, with other partitions");
	CHECK(!ast_kafka_ensure_topic(producer, topic.name, 0, 0), "again, with the broker's partitions");
	CHECK((n = partitions_of(producer, topic.name, inbox)) == 7, "%d partitions", n);
	return AST_TEST_PASS;
}

/* More replicas than any brokers: a request with this number tests a topic's existence and creates none. */
#define TOO_MANY_REPLICAS 1000

KAFKA_TEST(ensure_refused, "what must be refused is refused",
	"Wrong arguments give -1 from both calls, and what the broker refuses from the one that waits")
{
	PRODUCER(CONNECTION);
	int (*const calls[])(struct ast_kafka_producer *, const char *, int, int) = {
		ast_kafka_ensure_topic, ast_kafka_ensure_topic_async,
	};
	size_t i;

	CHECK(producer, "no producer");
	for (i = 0; i < ARRAY_LEN(calls); i++) {
		CHECK(calls[i](NULL, "asttest-never", 1, 1) == -1, "no producer, call %zu", i);
		CHECK(calls[i](producer, NULL, 1, 1) == -1, "no topic, call %zu", i);
		CHECK(calls[i](producer, "", 1, 1) == -1, "an empty name, call %zu", i);
		CHECK(calls[i](producer, "no/topic", 1, 1) == -1, "a slash, call %zu", i);
		CHECK(calls[i](producer, "..", 1, 1) == -1, "two dots, call %zu", i);
	}
	CHECK(ast_kafka_ensure_topic(producer, "asttest-never", 1, TOO_MANY_REPLICAS) == -1, "the broker refuses");
	CHECK(ast_kafka_ensure_topic_async(producer, "asttest-never", 1, TOO_MANY_REPLICAS) == 0, "it is only queued");
	return AST_TEST_PASS;
}

KAFKA_TEST(ensure_in_the_background, "making a topic in the background",
	"ast_kafka_ensure_topic_async() makes the topic though its producer is released at once")
{
	RAII_VAR(struct ast_kafka_producer *, producer, ast_kafka_get_producer(OTHER_CONNECTION), ao2_cleanup);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic like = topic_new(producer, "async", 1);
	char name[sizeof(like.name) + 2];
	int i, queued, n;

	CHECK(inbox && like.name[0], "no inbox or no topic");
	snprintf(name, sizeof(name), "%s-5", like.name);
	CHECK(ast_kafka_ensure_topic(producer, name, 1, TOO_MANY_REPLICAS) == -1, "it is there before");
	queued = ast_kafka_ensure_topic_async(producer, name, 5, 0);
	ao2_cleanup(producer);
	producer = NULL;
	CHECK(!queued, "it gave %d", queued);
	producer = ast_kafka_get_producer(CONNECTION);
	for (i = 0; i < PATIENCE_S * 10 && ast_kafka_ensure_topic(producer, name, 1, TOO_MANY_REPLICAS); i++) {
		usleep(100000);
	}
	CHECK(i < PATIENCE_S * 10, "it was never made");
	CHECK((n = partitions_of(producer, name, inbox)) == 5, "%d partitions", n);
	return AST_TEST_PASS;
}

ast_test_cb_t *const topic_tests[] = { ensure_makes, ensure_refused, ensure_in_the_background, NULL };
