/*
 * test_res_kafka: subscribing.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Consumers and their subscriptions.
 */

#include "asterisk.h"

#include "kit.h"

KAFKA_TEST(consumer_same, "a name gives the same consumer",
	"ast_kafka_get_consumer() gives one object for a name, ast_kafka_create_consumer() another each time, both NULL where they must")
{
	RAII_VAR(struct ast_kafka_consumer *, first, ast_kafka_get_consumer(CONNECTION), ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, second, ast_kafka_get_consumer(CONNECTION), ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, upper, ast_kafka_get_consumer("TEST"), ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, created, ast_kafka_create_consumer(CONNECTION), ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, another, ast_kafka_create_consumer(CONNECTION), ao2_cleanup);
	RAII_VAR(struct ast_kafka_consumer *, other, ast_kafka_get_consumer(OTHER_CONNECTION), ao2_cleanup);
	static const char *const none[] = { "test_unknown", "test_groupless", "general", "", NULL };
	size_t i;

	CHECK(first && created && another && other, "no consumer");
	CHECK(first == second, "two calls gave two objects");
	CHECK(first == upper, "a name in another case gave another object");
	CHECK(created != first && created != another && other != first, "two that must be two are one");
	for (i = 0; i < ARRAY_LEN(none); i++) {
		CHECK(!ast_kafka_get_consumer(none[i]), "get '%s'", S_OR(none[i], "NULL"));
		CHECK(!ast_kafka_create_consumer(none[i]), "create '%s'", S_OR(none[i], "NULL"));
	}
	return AST_TEST_PASS;
}

KAFKA_TEST(consumer_refused, "what must be refused is refused",
	"Every wrong argument of the calls of a consumer gives -1, and so do those that need a subscription without one")
{
	RAII_VAR(struct ast_kafka_consumer *, consumer, ast_kafka_get_consumer(CONNECTION), ao2_cleanup);

	CHECK(consumer, "no consumer");
	CHECK(ast_kafka_consumer_subscribe(NULL, "t", inbox_message, NULL) == -1, "no consumer");
	CHECK(ast_kafka_consumer_subscribe(consumer, NULL, inbox_message, NULL) == -1, "no topics");
	CHECK(ast_kafka_consumer_subscribe(consumer, "", inbox_message, NULL) == -1, "empty topics");
	CHECK(ast_kafka_consumer_subscribe(consumer, " ,\t, ,", inbox_message, NULL) == -1, "no topic left");
	CHECK(ast_kafka_consumer_subscribe(consumer, "t", NULL, NULL) == -1, "no callback");
	CHECK(ast_kafka_consumer_subscribe_records(NULL, "t", inbox_record, NULL) == -1, "no consumer");
	CHECK(ast_kafka_consumer_subscribe_records(consumer, NULL, inbox_record, NULL) == -1, "no topics");
	CHECK(ast_kafka_consumer_subscribe_records(consumer, " , ", inbox_record, NULL) == -1, "no topic left");
	CHECK(ast_kafka_consumer_subscribe_records(consumer, "t", NULL, NULL) == -1, "no callback");
	CHECK(ast_kafka_consumer_unsubscribe(NULL) == -1, "no consumer");
	CHECK(ast_kafka_consumer_unsubscribe(consumer) == 0, "unsubscribing nothing");
	CHECK(ast_kafka_consumer_unsubscribe(consumer) == 0, "unsubscribing nothing again");
	CHECK(ast_kafka_consumer_commit(NULL) == -1, "no consumer");
	CHECK(ast_kafka_consumer_commit(consumer) == -1, "committing without a subscription");
	CHECK(ast_kafka_consumer_pause(NULL, NULL, 1) == -1, "no consumer");
	CHECK(ast_kafka_consumer_pause(consumer, NULL, 1) == -1, "pausing without a subscription");
	CHECK(ast_kafka_consumer_pause(consumer, "t", 0) == -1, "resuming without a subscription");
	return AST_TEST_PASS;
}

KAFKA_TEST(subscribe_lists, "topics are a list",
	"Blanks around names are trimmed and empty names ignored; what is named twice comes once; ^ begins a regular expression")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	INBOX(matching, ast_kafka_get_consumer(OTHER_CONNECTION));
	struct topic a = topic_new(producer, "list-a", 1), b = topic_new(producer, "list-b", 1), not = topic_new(producer, "not", 1);
	char topics[400];

	CHECK(inbox && matching && a.name[0] && b.name[0] && not.name[0], "no inbox or no topic");
	CHECK(!produce_text(producer, not.name, "not") && !produce_text(producer, a.name, "a") && !produce_text(producer, b.name, "b"),
		"refused");
	snprintf(topics, sizeof(topics), " ,, %s ,\t%s,%s,", a.name, b.name, a.name);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topics, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 2), "%zu of 2 came", inbox_count(inbox));
	CHECK(inbox_having(inbox, "a") == 1 && inbox_having(inbox, "b") == 1, "not one of each");
	CHECK(!inbox_quiet(inbox, 2), "%zu came", inbox_count(inbox));

	/* The end of a name is this test's own: other runs may have left topics behind. */
	snprintf(topics, sizeof(topics), "^asttest-list-.%s", strchr(a.name + strlen("asttest-list-"), '-'));
	*strrchr(topics, '-') = '\0';
	CHECK(!ast_kafka_consumer_subscribe(matching->consumer, topics, inbox_message, matching), "subscribe to %s", topics);
	CHECK(!inbox_wait(matching, 2), "%zu of 2 came of %s", inbox_count(matching), topics);
	CHECK(inbox_having(matching, "a") == 1 && inbox_having(matching, "b") == 1, "not one of each of %s", topics);
	return AST_TEST_PASS;
}

KAFKA_TEST(subscribe_replaces, "subscribing again replaces everything",
	"After another ast_kafka_consumer_subscribe() only the new topics come, to the new callback with the new userdata")
{
	PRODUCER(CONNECTION);
	RAII_VAR(struct ast_kafka_consumer *, consumer, ast_kafka_get_consumer(CONNECTION), ao2_cleanup);
	INBOX(before, ao2_bump(consumer));
	INBOX(after, ao2_bump(consumer));
	struct topic old = topic_new(producer, "old", 1), new = topic_new(producer, "new", 1);

	CHECK(before && after && old.name[0] && new.name[0], "no inbox or no topic");
	CHECK(!ast_kafka_consumer_subscribe(consumer, old.name, inbox_message, before), "subscribe");
	CHECK(!produce_text(producer, old.name, "1") && !inbox_wait(before, 1), "the first did not come");
	CHECK(!ast_kafka_consumer_subscribe_records(consumer, new.name, inbox_record, after), "subscribe again");
	CHECK(!produce_text(producer, old.name, "2") && !produce_text(producer, new.name, "3"), "refused");
	CHECK(!inbox_wait(after, 1) && inbox_is(after, 0, "3") && inbox_at(after, 0).timestamp_ms, "not as the second asked for");
	CHECK(!inbox_quiet(before, 1) && inbox_count(after) == 1, "%zu and %zu came", inbox_count(before), inbox_count(after));
	return AST_TEST_PASS;
}

KAFKA_TEST(subscribe_continues, "a subscription goes on where the last one ended",
	"What was delivered before ast_kafka_consumer_unsubscribe() does not come again, what was produced meanwhile does")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "continues", 1);
	char want[16];
	int i;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	for (i = 0; i < 5; i++) {
		CHECK(!produce_numbers(producer, topic.name, 3 * i, 3 * i + 3), "refused");
		CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe %d", i);
		CHECK(!inbox_wait(inbox, 3 * i + 3), "%zu came in round %d", inbox_count(inbox), i);
		CHECK(!ast_kafka_consumer_unsubscribe(inbox->consumer), "unsubscribe %d", i);
	}
	CHECK(inbox_count(inbox) == 15, "%zu came", inbox_count(inbox));
	for (i = 0; i < 15; i++) {
		snprintf(want, sizeof(want), "%d", i);
		CHECK(inbox_is(inbox, i, want), "message %d is %s", i, inbox_at(inbox, i).payload);
	}
	return AST_TEST_PASS;
}

KAFKA_TEST(consumers_have_threads, "a slow callback delays nobody else",
	"While a callback of one consumer does not return, another of another connection gets all of its messages, on a thread of its own")
{
	PRODUCER(CONNECTION);
	INBOX(slow, ast_kafka_get_consumer(CONNECTION));
	INBOX(quick, ast_kafka_get_consumer(OTHER_CONNECTION));
	struct topic topic = topic_new(producer, "slow", 1);

	CHECK(slow && quick && topic.name[0], "no inbox or no topic");
	inbox_shut(slow);
	CHECK(!ast_kafka_consumer_subscribe(slow->consumer, topic.name, inbox_message, slow), "subscribe");
	CHECK(!produce_numbers(producer, topic.name, 0, 500), "refused");
	CHECK(!inbox_wait(slow, 1), "the slow one gets nothing");
	CHECK(!ast_kafka_consumer_subscribe(quick->consumer, topic.name, inbox_message, quick), "subscribe");
	CHECK(!inbox_wait(quick, 500), "%zu of 500 came", inbox_count(quick));
	CHECK(inbox_count(slow) == 1, "%zu came to the callback that has not returned", inbox_count(slow));
	CHECK(!pthread_equal(slow->thread, quick->thread), "they share a thread");
	inbox_open(slow);
	CHECK(!inbox_wait(slow, 500), "%zu of 500 came afterwards", inbox_count(slow));
	CHECK(!inbox_overlapped(slow) && !inbox_overlapped(quick), "callbacks overlapped");
	return AST_TEST_PASS;
}

ast_test_cb_t *const consumer_tests[] = {
	consumer_same, consumer_refused, subscribe_lists, subscribe_replaces, subscribe_continues, consumers_have_threads, NULL,
};
