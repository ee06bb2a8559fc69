/*
 * test_res_kafka: threads.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Many threads at once, during reloads.
 */

#include "asterisk.h"

#include "kit.h"

#define WRITERS 8
#define EACH 500

struct writer {
	struct ast_kafka_producer *producer;
	const char *topic;
	int number;
	int (*between)(void); /* called by the first writer now and then; 0 is well */
};

/* Produces EACH records with the writer's number as key; returns the number of failures. */
static void *write_run(void *data)
{
	struct writer *writer = data;
	char key[16], payload[16];
	intptr_t wrong = 0;
	int i;

	snprintf(key, sizeof(key), "%d", writer->number);
	for (i = 0; i < EACH; i++) {
		snprintf(payload, sizeof(payload), "%d", i);
		wrong += ast_kafka_produce(writer->producer, writer->topic, key, payload, strlen(payload)) != 0;
		if (writer->between && i % 100 == 50) {
			wrong += writer->between() != 0;
		}
		usleep(500);
	}
	return (void *) wrong;
}

/* Starts all writers; how many run. */
static int start_writers(struct writer *writers, struct task **tasks, struct ast_kafka_producer *producer, const char *topic,
	int (*between)(void))
{
	int i, n = 0;

	for (i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer) { producer, topic, i, i ? NULL : between };
		tasks[i] = task_start(write_run, &writers[i]);
		n += tasks[i] != NULL;
	}
	return n;
}

/* Waits for the writers; how much went wrong in all. */
static int join_writers(struct task **tasks)
{
	int i, wrong = 0;

	for (i = 0; i < WRITERS; i++) {
		wrong += tasks[i] ? (int) (intptr_t) task_join(tasks[i]) : EACH;
	}
	return wrong;
}

/* Reads the inbox for the first deliveries of the writers' records, in order. Returns their number; -1 for a
 * record before an earlier record of the same key. */
static int first_times(struct inbox *inbox)
{
	int next[WRITERS] = { 0 }, total = 0, number, value;
	size_t i, count = inbox_count(inbox);

	for (i = 0; i < count; i++) {
		struct message message = inbox_at(inbox, i);

		if (sscanf(message.key, "%d", &number) != 1 || sscanf(message.payload, "%d", &value) != 1 || value > next[number]) {
			return -1;
		}
		if (value == next[number]) {
			next[number]++;
			total++;
		}
	}
	return total;
}

/* Waits for all of the writers' records; returns the result of first_times(). */
static int wait_for_all(struct inbox *inbox)
{
	size_t want = WRITERS * EACH;
	int total = first_times(inbox);

	while (total >= 0 && (size_t) total < WRITERS * EACH && !inbox_wait(inbox, want)) {
		total = first_times(inbox);
		want = inbox_count(inbox) + 1;
	}
	return total;
}

KAFKA_TEST(threads_and_subscriptions, "eight threads produce while another subscribes and unsubscribes",
	"Every record of every thread comes, in the order of its calls, and callbacks never overlap")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "threads", 3);
	struct writer writers[WRITERS];
	struct task *tasks[WRITERS];
	int wrong, failed = 0, late = 0, i, total;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	start_writers(writers, tasks, producer, topic.name, NULL);
	for (i = 0; i < 10 && !failed && !late; i++) {
		size_t count = inbox_count(inbox);

		/* Every third subscription ends before its first message. */
		failed = ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox)
			|| (i % 3 != 2 && count < WRITERS * EACH && inbox_wait(inbox, count + 1))
			|| ast_kafka_consumer_unsubscribe(inbox->consumer);
		late = inbox->inside;
	}
	wrong = join_writers(tasks);
	CHECK(!wrong, "%d records were refused", wrong);
	CHECK(!failed && !late, "round %d", i);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	total = wait_for_all(inbox);
	CHECK(total == WRITERS * EACH, "%d of %d came in order", total, WRITERS * EACH);
	CHECK(!inbox_overlapped(inbox), "callbacks overlapped");
	return AST_TEST_PASS;
}

/* Changes the connection, or restores it. */
static int reload_next(void)
{
	static int changed;

	changed = !changed;
	return reload(changed);
}

KAFKA_TEST(threads_and_reloads, "handles outlive reloads",
	"Six reloads that change the connection while eight threads produce and a consumer listens: nothing is lost or out of order, and "
	"the handles are the ones that new callers get")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "reloads", 3);
	struct ast_kafka_producer *same_producer;
	struct ast_kafka_consumer *same_consumer;
	struct writer writers[WRITERS];
	struct task *tasks[WRITERS];
	int wrong, total, before = use_count();

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	start_writers(writers, tasks, producer, topic.name, reload_next);
	wrong = join_writers(tasks) + (reload_next() != 0);
	CHECK(!wrong, "%d records or reloads went wrong", wrong);
	total = wait_for_all(inbox);
	CHECK(total == WRITERS * EACH, "%d of %d came in order", total, WRITERS * EACH);
	CHECK(!inbox_overlapped(inbox), "callbacks overlapped");
	CHECK(use_count() == before, "the use count went from %d to %d", before, use_count());
	same_producer = ast_kafka_get_producer(CONNECTION);
	same_consumer = ast_kafka_get_consumer(CONNECTION);
	ao2_cleanup(same_producer);
	ao2_cleanup(same_consumer);
	CHECK(same_producer == producer && same_consumer == inbox->consumer, "new callers get other objects");
	return AST_TEST_PASS;
}

/* Gets, uses and releases handles; returns the number of failures. */
static void *handles_run(void *data)
{
	const char *topic = data;
	intptr_t wrong = 0;
	int i;

	for (i = 0; i < 200; i++) {
		struct ast_kafka_producer *producer = ast_kafka_get_producer(OTHER_CONNECTION);
		struct ast_kafka_consumer *consumer = ast_kafka_get_consumer(OTHER_CONNECTION);

		wrong += !producer || !consumer || produce_text(producer, topic, "x") || ast_kafka_consumer_unsubscribe(consumer);
		ao2_cleanup(consumer);
		ao2_cleanup(producer);
	}
	return (void *) wrong;
}

KAFKA_TEST(threads_and_handles, "eight threads get and release handles",
	"Handles that many threads get, use and release at once always work, and the module's use count is as before")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "handles", 1);
	struct task *tasks[WRITERS];
	int before = use_count(), i, wrong;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	for (i = 0; i < WRITERS; i++) {
		tasks[i] = task_start(handles_run, topic.name);
	}
	wrong = join_writers(tasks);
	CHECK(!wrong, "%d rounds went wrong", wrong);
	CHECK(use_count() == before, "the use count went from %d to %d", before, use_count());
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, WRITERS * 200), "%zu of %d came", inbox_count(inbox), WRITERS * 200);
	return AST_TEST_PASS;
}

ast_test_cb_t *const thread_tests[] = { threads_and_subscriptions, threads_and_reloads, threads_and_handles, NULL };
