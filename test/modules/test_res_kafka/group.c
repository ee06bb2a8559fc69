/*
 * test_res_kafka: groups.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Sharing partitions, committing, pausing.
 */

#include "asterisk.h"

#include "kit.h"

#define PARTITIONS 4
#define ROUND 64

/* The partitions of an inbox's messages from number `from` on, a bit for each. */
static unsigned int partitions(struct inbox *inbox, size_t from)
{
	unsigned int bits = 0;

	for (; from < inbox_count(inbox); from++) {
		bits |= 1u << inbox_at(inbox, from).partition;
	}
	return bits;
}

/* Produces one round of numbers over all partitions and waits for each in one of the two inboxes. */
static int round_trip(struct ast_kafka_producer *producer, const char *topic, int round, struct inbox *one, struct inbox *two)
{
	struct timeval until = ast_tvadd(ast_tvnow(), ast_tv(PATIENCE_S, 0));
	char text[16];
	int i;

	if (produce_numbers(producer, topic, round * ROUND, (round + 1) * ROUND)) {
		return -1;
	}
	for (i = round * ROUND; i < (round + 1) * ROUND; i++) {
		snprintf(text, sizeof(text), "%d", i);
		while (!inbox_having(one, text) && !inbox_having(two, text)) {
			if (ast_tvcmp(ast_tvnow(), until) > 0) {
				return -1;
			}
			inbox_quiet_for(one, inbox_count(one), 10);
		}
	}
	return 0;
}

KAFKA_TEST(group_shares, "two members share the partitions",
	"A consumer of ast_kafka_create_consumer() takes some of the partitions of the first, no message is lost, and all come to the first "
	"again when the second ends")
{
	PRODUCER(CONNECTION);
	INBOX(one, ast_kafka_get_consumer(CONNECTION));
	INBOX(two, ast_kafka_create_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "shares", PARTITIONS);
	size_t from_one = 0, from_two = 0;
	int round;

	CHECK(one && two && topic.name[0], "no inbox or no topic");
	CHECK(!ast_kafka_consumer_subscribe(one->consumer, topic.name, inbox_message, one), "subscribe");
	CHECK(!round_trip(producer, topic.name, 0, one, two), "%zu of %d came", inbox_count(one), ROUND);
	CHECK(partitions(one, 0) == (1u << PARTITIONS) - 1, "one member has %#x", partitions(one, 0));
	CHECK(!ast_kafka_consumer_subscribe(two->consumer, topic.name, inbox_message, two), "subscribe the second");
	/* The rebalance has been when a round comes to both. */
	for (round = 1; round < 500; round++) {
		from_one = inbox_count(one);
		from_two = inbox_count(two);
		CHECK(!round_trip(producer, topic.name, round, one, two), "round %d is lost", round);
		if (inbox_count(two) > from_two && inbox_count(one) > from_one && !(partitions(one, from_one) & partitions(two, from_two))) {
			break;
		}
		inbox_quiet_for(two, inbox_count(two), 50);
	}
	CHECK(round < 500, "they never share");
	CHECK((partitions(one, from_one) | partitions(two, from_two)) == (1u << PARTITIONS) - 1, "a partition is nobody's");
	CHECK(!pthread_equal(one->thread, two->thread), "they share a thread");
	CHECK(!ast_kafka_consumer_unsubscribe(two->consumer), "unsubscribe");
	from_one = inbox_count(one);
	CHECK(!round_trip(producer, topic.name, round + 1, one, two), "a message is lost after the second has gone");
	CHECK(partitions(one, from_one) == (1u << PARTITIONS) - 1, "it got %#x back", partitions(one, from_one));
	CHECK(!inbox_overlapped(one) && !inbox_overlapped(two), "callbacks overlapped");
	return AST_TEST_PASS;
}

/* Commits inside the callback of the payload "2", keeps "4" under way. */
static void commit_hook(struct inbox *inbox, const struct message *message)
{
	if (!strcmp(message->payload, "2")) {
		inbox->result = ast_kafka_consumer_commit(inbox->consumer);
	} else if (!strcmp(message->payload, "4")) {
		inbox_hold(inbox);
	}
}

/* Subscribes again until the inbox has count messages, and ends the subscription; 0 if the next message was
 * the expected one. */
static int goes_on_with(struct inbox *inbox, const char *topic, const char *payload)
{
	size_t count;

	ast_kafka_consumer_unsubscribe(inbox->consumer);
	count = inbox_count(inbox);
	return ast_kafka_consumer_subscribe(inbox->consumer, topic, inbox_message, inbox) || inbox_wait(inbox, count + 1)
		|| !inbox_is(inbox, count, payload);
}

KAFKA_TEST(commit_by_hand, "without auto-commit only a commit counts",
	"Everything comes again until ast_kafka_consumer_commit(); inside the callback it counts that message, outside those before the one "
	"under way")
{
	PRODUCER(MANUAL_CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(MANUAL_CONNECTION));
	struct topic topic = topic_new(producer, "by-hand", 1);

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!ast_kafka_consumer_commit(inbox->consumer), "committing when nothing has come");
	CHECK(!produce_numbers(producer, topic.name, 0, 6), "refused");
	CHECK(!inbox_wait_done(inbox, 6), "%zu of 6 came", inbox_count(inbox));
	CHECK(!goes_on_with(inbox, topic.name, "0"), "without a commit it does not begin again");
	CHECK(!inbox_wait_done(inbox, 12), "%zu of 12 came", inbox_count(inbox));
	ast_kafka_consumer_unsubscribe(inbox->consumer);

	inbox->hook = commit_hook;
	inbox->result = -2;
	inbox->held = 1;
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait_holding(inbox), "%zu came", inbox_count(inbox));
	CHECK(inbox->result == 0, "the commit inside gave %d", (int) inbox->result);
	inbox_open(inbox);
	CHECK(!inbox_wait_done(inbox, 18), "%zu of 18 came", inbox_count(inbox));
	inbox->hook = NULL;
	CHECK(!goes_on_with(inbox, topic.name, "3"), "it did not go on behind the commit inside the callback");
	CHECK(!inbox_wait_done(inbox, 21), "%zu of 21 came", inbox_count(inbox));
	ast_kafka_consumer_unsubscribe(inbox->consumer);

	inbox->hook = commit_hook;
	inbox->held = 1;
	inbox->holding = 0;
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait_holding(inbox), "%zu came", inbox_count(inbox));
	CHECK(!ast_kafka_consumer_commit(inbox->consumer), "the commit outside");
	inbox_open(inbox);
	CHECK(!inbox_wait_done(inbox, 24), "%zu of 24 came", inbox_count(inbox));
	inbox->hook = NULL;
	CHECK(!goes_on_with(inbox, topic.name, "4"), "it did not go on with the message that was under way");
	return AST_TEST_PASS;
}

KAFKA_TEST(pause_some, "pausing topics",
	"A paused topic delivers nothing, others do; resumed it delivers what there is, in order, once. NULL and the empty text are all topics")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic a = topic_new(producer, "pause-a", 1), b = topic_new(producer, "pause-b", 1);
	char topics[300];
	int i;

	CHECK(inbox && a.name[0] && b.name[0], "no inbox or no topic");
	snprintf(topics, sizeof(topics), "%s,%s", a.name, b.name);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topics, inbox_message, inbox), "subscribe");
	CHECK(!produce_text(producer, a.name, "a1") && !produce_text(producer, b.name, "b1"), "refused");
	CHECK(!inbox_wait_done(inbox, 2), "%zu of 2 came", inbox_count(inbox));

	CHECK(!ast_kafka_consumer_pause(inbox->consumer, a.name, 1), "pause");
	CHECK(!produce_text(producer, a.name, "a2") && !produce_text(producer, b.name, "b2"), "refused");
	CHECK(!inbox_wait_done(inbox, 3) && inbox_is(inbox, 2, "b2"), "the third is %s", inbox_at(inbox, 2).payload);
	CHECK(!inbox_quiet(inbox, 3), "a paused topic delivered");
	CHECK(!ast_kafka_consumer_pause(inbox->consumer, a.name, 0), "resume");
	CHECK(!inbox_wait_done(inbox, 4) && inbox_is(inbox, 3, "a2"), "the fourth is %s", inbox_at(inbox, 3).payload);

	for (i = 0; i < 2; i++) {
		size_t count = inbox_count(inbox);
		const char *all = i ? "" : NULL;

		CHECK(!ast_kafka_consumer_pause(inbox->consumer, all, 1), "pause all");
		CHECK(!produce_text(producer, a.name, "a3") && !produce_text(producer, b.name, "b3"), "refused");
		CHECK(!inbox_quiet(inbox, count), "a paused subscription delivered");
		CHECK(!ast_kafka_consumer_pause(inbox->consumer, all, 0), "resume all");
		CHECK(!inbox_wait_done(inbox, count + 2), "%zu of 2 came after all were resumed", inbox_count(inbox) - count);
	}
	CHECK(inbox_having(inbox, "a3") == 2 && inbox_having(inbox, "b3") == 2, "not each once");

	/* A subscription begins unpaused. */
	CHECK(!ast_kafka_consumer_pause(inbox->consumer, NULL, 1), "pause all");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topics, inbox_message, inbox), "subscribe");
	CHECK(!produce_text(producer, a.name, "last") && !inbox_wait(inbox, 9) && inbox_is(inbox, 8, "last"), "the last did not come");
	return AST_TEST_PASS;
}

/* Pauses everything inside the callback of the first message. */
static void pause_hook(struct inbox *inbox, const struct message *message)
{
	if (!strcmp(message->payload, "0")) {
		inbox->result = ast_kafka_consumer_pause(inbox->consumer, NULL, 1);
	}
}

KAFKA_TEST(pause_inside, "pausing inside the callback",
	"No callback comes after the one that has paused, though its messages were there already; nothing is lost or repeated")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "pause-inside", 1);
	char want[16];
	int i;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	inbox->hook = pause_hook;
	inbox->result = -2;
	CHECK(!produce_numbers(producer, topic.name, 0, 100), "refused");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait_done(inbox, 1), "nothing came");
	CHECK(inbox->result == 0, "it gave %d", (int) inbox->result);
	CHECK(!inbox_quiet(inbox, 1), "%zu came though it was paused", inbox_count(inbox));
	CHECK(!ast_kafka_consumer_pause(inbox->consumer, NULL, 0), "resume");
	CHECK(!inbox_wait(inbox, 100), "%zu of 100 came", inbox_count(inbox));
	for (i = 0; i < 100; i++) {
		snprintf(want, sizeof(want), "%d", i);
		CHECK(inbox_is(inbox, i, want), "message %d is %s", i, inbox_at(inbox, i).payload);
	}
	return AST_TEST_PASS;
}

ast_test_cb_t *const group_tests[] = { group_shares, commit_by_hand, pause_some, pause_inside, NULL };
