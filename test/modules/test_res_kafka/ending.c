/*
 * test_res_kafka: unsubscribing.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The end of subscriptions, and no callback after the end.
 */

#include "asterisk.h"

#include "kit.h"

static void *unsubscribe(void *consumer)
{
	return (void *) (intptr_t) ast_kafka_consumer_unsubscribe(consumer);
}

struct stream {
	struct ast_kafka_producer *producer;
	const char *topic;
	int stop;
};

/* Produces until a stop; returns the number of accepted messages. */
static void *stream_run(void *data)
{
	struct stream *stream = data;
	intptr_t produced = 0;

	while (!__atomic_load_n(&stream->stop, __ATOMIC_SEQ_CST)) {
		produced += !produce_numbers(stream->producer, stream->topic, produced, produced + 1);
		usleep(200);
	}
	return (void *) produced;
}

KAFKA_TEST(unsubscribe_ends, "nothing comes after unsubscribe",
	"While messages keep being produced, no callback comes once ast_kafka_consumer_unsubscribe() has returned, twenty times; none is lost")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "ends", 1);
	struct stream stream = { producer, topic.name, 0 };
	struct task *task = inbox && topic.name[0] ? task_start(stream_run, &stream) : NULL;
	int late = 0, failed = 0, round;
	intptr_t produced, i;
	char want[24];

	CHECK(task, "no inbox, topic or thread");
	for (round = 0; round < 20 && !failed && !late; round++) {
		size_t count = inbox_count(inbox);

		failed = ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox) || inbox_wait(inbox, count + 20)
			|| ast_kafka_consumer_unsubscribe(inbox->consumer);
		count = inbox_count(inbox);
		late = inbox->inside || (round % 5 == 4 ? inbox_quiet(inbox, count) : inbox_count(inbox) != count);
	}
	__atomic_store_n(&stream.stop, 1, __ATOMIC_SEQ_CST);
	produced = (intptr_t) task_join(task);
	CHECK(!failed, "round %d failed with %zu messages", round, inbox_count(inbox));
	CHECK(!late, "a callback came after unsubscribe in round %d", round);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, produced), "%zu of %d came", inbox_count(inbox), (int) produced);
	for (i = 0; i < produced; i++) {
		snprintf(want, sizeof(want), "%d", (int) i);
		CHECK(inbox_is(inbox, i, want), "message %d is %s", (int) i, inbox_at(inbox, i).payload);
	}
	CHECK(!inbox_overlapped(inbox), "callbacks overlapped");
	return AST_TEST_PASS;
}

KAFKA_TEST(unsubscribe_waits, "unsubscribe waits for the callback under way",
	"ast_kafka_consumer_unsubscribe() and a subscription that replaces return when the callback under way has, and not before")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "waits", 1);
	struct task *task;
	int early;
	void *res;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox_shut(inbox);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!produce_numbers(producer, topic.name, 0, 10) && !inbox_wait(inbox, 1), "nothing came");
	CHECK((task = task_start(unsubscribe, inbox->consumer)), "no thread");
	early = task_asleep(task);
	inbox_open(inbox);
	CHECK(!(res = task_join(task)), "unsubscribe gave %d", (int) (intptr_t) res);
	CHECK(!early, "unsubscribe returned before the callback");
	CHECK(inbox_count(inbox) == 1 && !inbox->inside, "%zu came", inbox_count(inbox));
	CHECK(!inbox_quiet(inbox, 1), "a callback came after unsubscribe");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 10) && inbox_is(inbox, 1, "1"), "it went on with %s", inbox_at(inbox, 1).payload);
	return AST_TEST_PASS;
}

KAFKA_TEST(unsubscribe_waits_twice, "every unsubscribe waits for the callback under way",
	"Of two threads that call ast_kafka_consumer_unsubscribe() neither returns before the callback under way has")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "waits-twice", 1);
	struct task *one, *two;
	int early_one, early_two;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox_shut(inbox);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!produce_text(producer, topic.name, "1") && !inbox_wait(inbox, 1), "nothing came");
	one = task_start(unsubscribe, inbox->consumer);
	CHECK(one, "no thread");
	early_one = task_asleep(one);
	two = task_start(unsubscribe, inbox->consumer);
	early_two = two && task_asleep(two);
	inbox_open(inbox);
	task_join(one);
	CHECK(two, "no thread");
	task_join(two);
	CHECK(!early_one, "the first returned before the callback");
	CHECK(!early_two, "the second returned before the callback");
	return AST_TEST_PASS;
}

KAFKA_TEST(release_keeps, "a subscription keeps its consumer",
	"Messages go on coming when the last reference was released, which no longer holds the module; the consumer of that name ends them")
{
	PRODUCER(CONNECTION);
	int before = use_count(), without, again, came, ended;
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "release", 1);

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	ao2_cleanup(inbox->consumer);
	inbox->consumer = NULL;
	without = use_count();
	came = !produce_numbers(producer, topic.name, 0, 3) && !inbox_wait(inbox, 3);
	inbox->consumer = ast_kafka_get_consumer(CONNECTION); /* before anything is checked: the inbox must not go before */
	again = use_count();
	ended = ast_kafka_consumer_unsubscribe(inbox->consumer);
	CHECK(without == before && again == before + 1, "the use count was %d, %d without and %d with a consumer again", before, without, again);
	CHECK(came && inbox_is(inbox, 2, "2"), "%zu of 3 came", inbox_count(inbox));
	CHECK(!ended && !produce_text(producer, topic.name, "never") && !inbox_quiet(inbox, 3), "%zu came", inbox_count(inbox));
	return AST_TEST_PASS;
}

struct subscriber {
	struct inbox *inbox;
	const char *topic;
	pthread_barrier_t *together;
};

static void *subscribe(void *data)
{
	struct subscriber *subscriber = data;

	pthread_barrier_wait(subscriber->together);
	return (void *) (intptr_t) ast_kafka_consumer_subscribe(subscriber->inbox->consumer, subscriber->topic, inbox_message,
		subscriber->inbox);
}

KAFKA_TEST(subscribe_at_once, "two threads that subscribe leave one subscription",
	"Of two ast_kafka_consumer_subscribe() at the same moment one replaces the other, and one unsubscribe ends what there is")
{
	PRODUCER(RACE_CONNECTION);
	RAII_VAR(struct inbox *, inbox, inbox_new(ast_kafka_create_consumer(RACE_CONNECTION)), inbox_free);
	struct topic topic = topic_new(producer, "at-once", 1);
	pthread_barrier_t together;
	struct subscriber subscriber = { inbox, topic.name, &together };
	int round;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	pthread_barrier_init(&together, NULL, 2);
	for (round = 0; round < 20; round++) {
		struct task *one = task_start(subscribe, &subscriber), *two = task_start(subscribe, &subscriber);
		int failed = one && two ? task_join(one) || task_join(two) : 1;

		CHECK(!failed, "subscribe in round %d", round);
		CHECK(!ast_kafka_consumer_unsubscribe(inbox->consumer), "unsubscribe in round %d", round);
	}
	pthread_barrier_destroy(&together);
	CHECK(!produce_text(producer, topic.name, "never"), "refused");
	if (inbox_quiet(inbox, 0)) {
		inbox = NULL; /* leaked: a subscription without a handle calls back into the inbox */
		CHECK(0, "a subscription was left after unsubscribe");
	}
	/* A left-over member may delay the messages: the next consumer notices a shared group. */
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 1) && inbox_is(inbox, 0, "never"), "the message did not come");
	if (inbox_overlapped(inbox) || inbox->strangers) {
		inbox = NULL;
		CHECK(0, "callbacks came from several subscriptions");
	}
	return AST_TEST_PASS;
}

KAFKA_TEST(subscribe_often, "subscriptions that end at once leave the group",
	"After subscriptions of two members that were ended while they joined their group, the next gets its message: no member is left")
{
	PRODUCER(OFTEN_CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(OFTEN_CONNECTION));
	INBOX(second, ast_kafka_create_consumer(OFTEN_CONNECTION));
	struct topic topic = topic_new(producer, "often", 1);
	int round;

	CHECK(inbox && second && topic.name[0], "no inbox or no topic");
	for (round = 0; round < 8; round++) {
		struct ast_kafka_consumer *first = round % 2 ? inbox->consumer : second->consumer;

		CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe in round %d", round);
		CHECK(!ast_kafka_consumer_subscribe(second->consumer, topic.name, inbox_message, second), "subscribe in round %d", round);
		/* At another moment of joining each time. */
		usleep(round * 500);
		CHECK(!ast_kafka_consumer_unsubscribe(first), "unsubscribe in round %d", round);
		CHECK(!ast_kafka_consumer_unsubscribe(inbox->consumer), "unsubscribe in round %d", round);
		CHECK(!ast_kafka_consumer_unsubscribe(second->consumer), "unsubscribe in round %d", round);
	}
	CHECK(!produce_text(producer, topic.name, "1"), "refused");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 1), "the message did not come in %d s", PATIENCE_S);
	CHECK(!inbox_quiet(inbox, 1), "%zu came", inbox_count(inbox));
	return AST_TEST_PASS;
}

ast_test_cb_t *const ending_tests[] = {
	unsubscribe_ends, unsubscribe_waits, unsubscribe_waits_twice, release_keeps, subscribe_at_once, subscribe_often, NULL,
};
