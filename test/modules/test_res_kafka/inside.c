/*
 * test_res_kafka: inside the callback.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Calls from inside the callback.
 */

#include "asterisk.h"

#include "kit.h"

/* Inside the callback of the payload "now": ends the subscription, and stays inside while the inbox is held. */
static void unsubscribe_hook(struct inbox *inbox, const struct message *message)
{
	if (!strcmp(S_OR(message->payload, ""), "now")) {
		inbox->result = ast_kafka_consumer_unsubscribe(inbox->consumer);
		inbox_hold(inbox);
	}
}

KAFKA_TEST(unsubscribe_inside, "unsubscribing inside the callback",
	"It gives 0, that callback is the last one, its message counts as delivered, and another subscription goes on after it")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "inside", 1);

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox->hook = unsubscribe_hook;
	inbox->result = -2;
	CHECK(!produce_text(producer, topic.name, "before") && !produce_text(producer, topic.name, "now")
		&& !produce_text(producer, topic.name, "after"), "refused");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait_done(inbox, 2), "%zu came", inbox_count(inbox));
	CHECK(inbox->result == 0, "it gave %d", (int) inbox->result);
	CHECK(!inbox_quiet(inbox, 2), "a callback came after unsubscribing inside the callback");
	CHECK(ast_kafka_consumer_commit(inbox->consumer) == -1, "it is still subscribed");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 3) && inbox_is(inbox, 2, "after"), "it went on with %s", inbox_at(inbox, 2).payload);
	return AST_TEST_PASS;
}

static void *unsubscribe(void *consumer)
{
	return (void *) (intptr_t) ast_kafka_consumer_unsubscribe(consumer);
}

KAFKA_TEST(unsubscribe_inside_outside, "unsubscribe waits for a callback that has unsubscribed itself",
	"A module that unsubscribes before it unloads may rely on no callback being under way, also when that callback has unsubscribed")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "inside-outside", 1);
	struct task *task;
	int early;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox->hook = unsubscribe_hook;
	inbox->held = 1;
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!produce_text(producer, topic.name, "now") && !inbox_wait_holding(inbox), "nothing came");
	CHECK((task = task_start(unsubscribe, inbox->consumer)), "no thread");
	early = task_asleep(task);
	inbox_open(inbox);
	task_join(task);
	CHECK(!early, "unsubscribe returned while the callback was under way");
	return AST_TEST_PASS;
}

struct replacement {
	struct inbox *inbox, *watcher;
	const char *topics, *own;
	int began; /* the new callback began before the old one returned */
};

/* Replaces the subscription from inside the callback, and leaves the new callback time for an early start. */
static void replace_hook(struct inbox *inbox, const struct message *message)
{
	struct replacement *replacement = inbox->data;

	inbox->hook = NULL;
	inbox->result = ast_kafka_consumer_subscribe_records(inbox->consumer, replacement->topics, inbox_record, replacement->inbox);
	replacement->began = inbox_quiet(replacement->inbox, 0);
}

KAFKA_TEST(subscribe_inside, "replacing the subscription inside the callback",
	"The old callback gets nothing more, and the new one does not begin before the callback that asked for it has returned")
{
	PRODUCER(CONNECTION);
	RAII_VAR(struct ast_kafka_consumer *, consumer, ast_kafka_get_consumer(CONNECTION), ao2_cleanup);
	INBOX(before, ao2_bump(consumer));
	INBOX(after, ao2_bump(consumer));
	struct topic old = topic_new(producer, "inside-old", 1), new = topic_new(producer, "inside-new", 1);
	struct replacement replacement = { .inbox = after, .topics = new.name };

	CHECK(before && after && old.name[0] && new.name[0], "no inbox or no topic");
	before->hook = replace_hook;
	before->data = &replacement;
	before->result = -2;
	CHECK(!produce_numbers(producer, new.name, 0, 5) && !produce_numbers(producer, old.name, 0, 5), "refused");
	CHECK(!ast_kafka_consumer_subscribe(consumer, old.name, inbox_message, before), "subscribe");
	CHECK(!inbox_wait_done(before, 1), "nothing came");
	CHECK(before->result == 0, "it gave %d", (int) before->result);
	CHECK(!inbox_wait(after, 5) && inbox_is(after, 0, "0"), "%zu came to the new one", inbox_count(after));
	CHECK(!replacement.began, "the new callback began inside the old one");
	CHECK(!inbox_quiet(before, 1), "%zu came to the old one", inbox_count(before));
	return AST_TEST_PASS;
}

/* Replaces the subscription, waits until the new subscription is ready for a callback, and ends the new
 * subscription. The old member delays the group until max_poll_interval_ms takes its partitions away. The
 * watcher's message of the old topic proves new assignments of all other members. */
static void replace_and_end_hook(struct inbox *inbox, const struct message *message)
{
	struct replacement *replacement = inbox->data;

	inbox->hook = NULL;
	inbox->result = ast_kafka_consumer_subscribe(inbox->consumer, replacement->topics, inbox_message, replacement->inbox)
		|| ast_kafka_consumer_subscribe(replacement->watcher->consumer, replacement->own, inbox_message, replacement->watcher)
		|| inbox_wait(replacement->watcher, 1);
	replacement->began = inbox_quiet_for(replacement->inbox, 0, 1000);
	inbox->result += ast_kafka_consumer_unsubscribe(inbox->consumer);
}

KAFKA_TEST(replace_and_end_inside, "replacing and ending inside one callback",
	"A callback that subscribes to something else, takes long and then unsubscribes returns, and nothing comes any more")
{
	PRODUCER(HASTY_CONNECTION);
	RAII_VAR(struct ast_kafka_consumer *, consumer, ast_kafka_create_consumer(HASTY_CONNECTION), ao2_cleanup);
	INBOX(before, ao2_bump(consumer));
	INBOX(after, ao2_bump(consumer));
	INBOX(watcher, ast_kafka_create_consumer(HASTY_CONNECTION));
	struct topic old = topic_new(producer, "both-old", 1), new = topic_new(producer, "both-new", 1);
	struct replacement replacement = { .inbox = after, .watcher = watcher, .topics = new.name, .own = old.name };

	CHECK(before && after && watcher && old.name[0] && new.name[0], "no inbox or no topic");
	before->hook = replace_and_end_hook;
	before->data = &replacement;
	before->result = -2;
	CHECK(!produce_numbers(producer, new.name, 0, 5) && !produce_numbers(producer, old.name, 0, 1), "refused");
	CHECK(!ast_kafka_consumer_subscribe(consumer, old.name, inbox_message, before), "subscribe");
	if (inbox_wait_done(before, 1)) {
		before = after = NULL; /* leaked, as is the consumer: the callback still uses both */
		consumer = NULL;
		CHECK(0, "the callback did not return");
	}
	CHECK(before->result == 0, "the calls gave %d", (int) before->result);
	CHECK(!replacement.began, "the new callback began inside the old one");
	CHECK(!inbox_quiet(after, 0) && inbox_count(before) == 1, "%zu and %zu came", inbox_count(before), inbox_count(after));
	return AST_TEST_PASS;
}

/* Releases the last reference inside the callback. */
static void release_hook(struct inbox *inbox, const struct message *message)
{
	struct ast_kafka_consumer *consumer = inbox->consumer;

	inbox->hook = NULL;
	inbox->consumer = NULL;
	ao2_cleanup(consumer);
}

KAFKA_TEST(release_inside, "the last reference goes inside the callback",
	"The messages behind the callback that releases the consumer come too, and the module's use count goes back")
{
	PRODUCER(CONNECTION);
	int before = use_count(), without, came;
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "release-inside", 1);

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox->hook = release_hook;
	CHECK(!produce_numbers(producer, topic.name, 0, 5), "refused");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	came = !inbox_wait_done(inbox, 5);
	without = use_count();
	inbox->consumer = inbox->consumer ? inbox->consumer : ast_kafka_get_consumer(CONNECTION); /* the inbox must outlive
	                                                                                           * its subscription */
	CHECK(came && !inbox_quiet(inbox, 5), "%zu came", inbox_count(inbox));
	CHECK(without == before, "the use count is %d, before it was %d", without, before);
	return AST_TEST_PASS;
}

/* All other calls allowed inside a callback. */
static void busy_hook(struct inbox *inbox, const struct message *message)
{
	struct ast_kafka_consumer *consumer = ast_kafka_get_consumer(CONNECTION);
	struct ast_kafka_producer *producer = ast_kafka_get_producer(CONNECTION);

	if (inbox_count(inbox) <= 3) {
		inbox->result = consumer == inbox->consumer && !produce_text(producer, message->topic, "again")
			&& !ast_kafka_consumer_pause(consumer, NULL, 1) && !ast_kafka_consumer_pause(consumer, NULL, 0)
			&& !ast_kafka_ensure_topic(producer, message->topic, 1, 0) && !ast_kafka_consumer_commit(consumer);
	}
	ao2_cleanup(producer);
	ao2_cleanup(consumer);
}

KAFKA_TEST(calls_inside, "a callback may call everything",
	"Producing to its own topic, creating a topic, pausing, committing and getting handles work inside the callback")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "calls-inside", 1);

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox->hook = busy_hook;
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!produce_text(producer, topic.name, "first"), "refused");
	CHECK(!inbox_wait_done(inbox, 4), "%zu came", inbox_count(inbox));
	CHECK(inbox->result == 1, "a call inside the callback failed");
	CHECK(inbox_having(inbox, "again") == 3, "%zu of 3 came", inbox_having(inbox, "again"));
	return AST_TEST_PASS;
}

ast_test_cb_t *const inside_tests[] = {
	unsubscribe_inside, unsubscribe_inside_outside, subscribe_inside, replace_and_end_inside, release_inside,
	calls_inside, NULL,
};
