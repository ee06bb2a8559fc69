/*
 * test_res_kafka: producers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Handles, and every refused call.
 */

#include "asterisk.h"

#include "kit.h"

KAFKA_TEST(producer_same, "a name gives the same producer",
	"ast_kafka_get_producer() gives one object for a name, another for another name, and NULL for names that there are not")
{
	RAII_VAR(struct ast_kafka_producer *, first, ast_kafka_get_producer(CONNECTION), ao2_cleanup);
	RAII_VAR(struct ast_kafka_producer *, second, ast_kafka_get_producer(CONNECTION), ao2_cleanup);
	RAII_VAR(struct ast_kafka_producer *, upper, ast_kafka_get_producer("TEST"), ao2_cleanup);
	RAII_VAR(struct ast_kafka_producer *, other, ast_kafka_get_producer(OTHER_CONNECTION), ao2_cleanup);

	CHECK(first && other, "no producer");
	CHECK(first == second, "two calls gave two objects");
	CHECK(first == upper, "a name in another case gave another object");
	CHECK(first != other, "two connections gave one object");
	CHECK(!ast_kafka_get_producer("test_unknown"), "an unknown connection");
	CHECK(!ast_kafka_get_producer("general"), "a section that is no connection");
	CHECK(!ast_kafka_get_producer(""), "an empty name");
	CHECK(!ast_kafka_get_producer(NULL), "no name");
	return AST_TEST_PASS;
}

KAFKA_TEST(handles_keep_the_module, "a handle keeps res_kafka.so loaded",
	"Each producer and consumer that somebody holds counts once in the module's use count, until its last reference goes")
{
	RAII_VAR(struct ast_kafka_producer *, producer, NULL, ao2_cleanup);
	RAII_VAR(struct ast_kafka_producer *, again, NULL, ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, consumer, NULL, ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, further, NULL, ao2_cleanup);
	int before = use_count();

	CHECK(before >= 1, "this module needs it, and its use count is %d", before);
	producer = ast_kafka_get_producer(CONNECTION);
	CHECK(use_count() == before + 1, "%d with a producer", use_count());
	again = ast_kafka_get_producer(CONNECTION);
	CHECK(use_count() == before + 1, "%d with the same producer twice", use_count());
	consumer = ast_kafka_get_consumer(CONNECTION);
	CHECK(use_count() == before + 2, "%d with a consumer too", use_count());
	further = ast_kafka_create_consumer(CONNECTION);
	CHECK(use_count() == before + 3, "%d with a further consumer", use_count());
	ao2_cleanup(producer);
	producer = NULL;
	CHECK(use_count() == before + 3, "%d when one of two references has gone", use_count());
	ao2_cleanup(again);
	again = NULL;
	CHECK(use_count() == before + 2, "%d when the producer has gone", use_count());
	ao2_cleanup(consumer);
	consumer = NULL;
	ao2_cleanup(further);
	further = NULL;
	CHECK(use_count() == before, "%d at the end, %d at the beginning", use_count(), before);
	return AST_TEST_PASS;
}

KAFKA_TEST(produce_refused, "what must be refused is refused",
	"Every wrong argument of ast_kafka_produce() and ast_kafka_produce_hdrs() gives -1, and nothing of it reaches the topic")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_create_consumer(CONNECTION));
	struct ast_kafka_header nameless[] = { { "a", "b" }, { NULL, "x" } }, valueless[] = { { "x", NULL } };
	struct topic topic = topic_new(producer, "refused", 1);
	char long_name[251];

	memset(long_name, 'n', 250);
	long_name[250] = '\0';
	CHECK(inbox && topic.name[0], "no inbox or no topic");
	CHECK(ast_kafka_produce(NULL, topic.name, "k", "x", 1) == -1, "no producer");
	CHECK(ast_kafka_produce(producer, NULL, "k", "x", 1) == -1, "no topic");
	CHECK(ast_kafka_produce(producer, "", "k", "x", 1) == -1, "empty topic");
	CHECK(ast_kafka_produce(producer, "a/b", "k", "x", 1) == -1, "a slash");
	CHECK(ast_kafka_produce(producer, "a b", "k", "x", 1) == -1, "a blank");
	CHECK(ast_kafka_produce(producer, "t\xc3\xa4", "k", "x", 1) == -1, "letters that are not ASCII");
	CHECK(ast_kafka_produce(producer, long_name, "k", "x", 1) == -1, "250 characters");
	CHECK(ast_kafka_produce(producer, topic.name, "k", NULL, 1) == -1, "a length of nothing");
	CHECK(ast_kafka_produce(producer, topic.name, "k", "x", (size_t) 1 << 40) == -1, "a terabyte");
	CHECK(ast_kafka_produce(producer, topic.name, "k", "x", SIZE_MAX) == -1, "all there is");
	CHECK(ast_kafka_produce_hdrs(producer, topic.name, "k", "x", 1, nameless, 2) == -1, "a header without a name");
	CHECK(ast_kafka_produce_hdrs(producer, topic.name, "k", "x", 1, valueless, 1) == -1, "a header without a value");
	CHECK(ast_kafka_produce_hdrs(NULL, topic.name, "k", "x", 1, NULL, 0) == -1, "no producer");
	CHECK(produce_text(producer, topic.name, "right") == 0, "a right one");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 1) && inbox_is(inbox, 0, "right") && inbox_at(inbox, 0).offset == 0, "the right one is the first");
	CHECK(!inbox_quiet(inbox, 1), "%zu came", inbox_count(inbox));
	return AST_TEST_PASS;
}

/* The size beside key, payload and headers, as documented for ast_kafka_produce(). */
#define OVERHEAD 36

KAFKA_TEST(produce_limits, "the limit of a record's size is exact",
	"A record of message_max_bytes is accepted and one byte more refused, whether key, payload or headers make it so")
{
	PRODUCER("test_small");
	RAII_VAR(struct ast_kafka_producer *, plain, ast_kafka_get_producer(CONNECTION), ao2_cleanup);
	INBOX(inbox, ast_kafka_create_consumer(CONNECTION));
	struct topic topic = topic_new(plain, "limits", 1);
	char bytes[1001], topic_name[250];
	struct ast_kafka_header header = { "name", bytes };
	struct message message;

	memset(bytes, 'b', sizeof(bytes));
	memset(topic_name, 't', sizeof(topic_name));
	topic_name[249] = '\0';
	CHECK(inbox && producer && topic.name[0], "no producer, inbox or topic");
	CHECK(ast_kafka_produce(producer, topic.name, NULL, bytes, 1000 - OVERHEAD) == 0, "1000 bytes");
	CHECK(ast_kafka_produce(producer, topic.name, NULL, bytes, 1001 - OVERHEAD) == -1, "1001 bytes");
	bytes[500] = '\0';
	CHECK(ast_kafka_produce(producer, topic.name, bytes, bytes, 500 - OVERHEAD) == 0, "1000 bytes with a key of 500");
	CHECK(ast_kafka_produce(producer, topic.name, bytes, bytes, 501 - OVERHEAD) == -1, "1001 bytes with a key of 500");
	CHECK(ast_kafka_produce_hdrs(producer, topic.name, bytes, bytes, 500 - OVERHEAD, &header, 1) == -1, "headers count");
	CHECK(ast_kafka_produce_hdrs(producer, topic.name, NULL, bytes, 1, &header, 1) == 0, "a header of 504 bytes");
	CHECK(ast_kafka_produce(plain, topic_name, NULL, "x", 1) == 0, "a topic of 249 characters");
	CHECK(!ast_kafka_consumer_subscribe_records(inbox->consumer, topic.name, inbox_record, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 3), "%zu of 3 came", inbox_count(inbox));
	CHECK((message = inbox_at(inbox, 0)).length == 1000 - OVERHEAD && message.payload[963] == 'b', "%zu bytes", message.length);
	CHECK((message = inbox_at(inbox, 1)).key_length == 500 && message.length == 500 - OVERHEAD, "%zu bytes", message.length);
	CHECK((message = inbox_at(inbox, 2)).header_count == 1 && message.headers[0].length == 500, "the header");
	return AST_TEST_PASS;
}

KAFKA_TEST(produce_queue_full, "a full queue refuses",
	"With nobody to deliver to and nowhere else to go, queue_buffering_max_messages records are accepted and every one"
	" after them refused")
{
	PRODUCER("test_nobody");
	int i;

	CHECK(producer, "no producer of a connection whose broker is out of reach");
	for (i = 0; i < 10; i++) {
		CHECK(ast_kafka_produce(producer, "queue", NULL, "x", 1) == 0, "record %d of 10", i + 1);
	}
	for (i = 0; i < 10; i++) {
		CHECK(ast_kafka_produce(producer, "queue", NULL, "x", 1) == -1, "record %d of 10", i + 11);
	}
	return AST_TEST_PASS;
}

KAFKA_TEST(produce_queue_spools, "what a full queue does not hold goes to disk",
	"With nobody to deliver to and a spool, records beyond queue_buffering_max_messages are accepted")
{
	PRODUCER("test_spooling");
	int i;

	CHECK(producer, "no producer of a connection whose broker is out of reach");
	for (i = 0; i < 1000; i++) {
		CHECK(ast_kafka_produce(producer, "queue", NULL, "x", 1) == 0, "record %d", i + 1);
	}
	return AST_TEST_PASS;
}

ast_test_cb_t *const producer_tests[] = {
	producer_same, handles_keep_the_module, produce_refused, produce_limits, produce_queue_full, produce_queue_spools, NULL,
};
