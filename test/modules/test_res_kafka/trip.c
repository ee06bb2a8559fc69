/*
 * test_res_kafka: from produce to the callback.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief The callback gets the produced record.
 */

#include "asterisk.h"

#include "kit.h"

/* 0 if a text of a message equals the produced one; NULL and "" differ. */
static int differs(const char *got, size_t got_length, const char *want, size_t want_length)
{
	return !got != !want || got_length != want_length || (want && memcmp(got, want, want_length));
}

static const struct {
	const char *key, *payload;
	size_t length;
} apart[] = {
	{ NULL, NULL, 0 }, { NULL, "", 0 }, { NULL, "v", 1 },
	{ "", NULL, 0 }, { "", "", 0 }, { "", "v", 1 },
	{ "k", NULL, 0 }, { "k", "", 0 }, { "k", "a\0b\xff\n", 5 },
	{ "\xff\x01", "v", 0 },
};

/* Produces all of apart; how many were refused. */
static int produce_apart(struct ast_kafka_producer *producer, const char *topic)
{
	int refused = 0;
	size_t i;

	for (i = 0; i < ARRAY_LEN(apart); i++) {
		refused += ast_kafka_produce(producer, topic, apart[i].key, apart[i].payload, apart[i].length) != 0;
	}
	return refused;
}

/* The number of the first changed message, -1 = none. */
static int not_apart(struct inbox *inbox)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(apart); i++) {
		struct message got = inbox_at(inbox, i);

		if (differs(got.key, got.key_length, apart[i].key, apart[i].key ? strlen(apart[i].key) : 0)
			|| differs(got.payload, got.length, apart[i].payload, apart[i].length) || got.offset != (int64_t) i) {
			return i;
		}
	}
	return -1;
}

KAFKA_TEST(trip_null_and_empty, "NULL and empty stay apart",
	"Every combination of no, an empty and a filled key and payload arrives as it was produced, in both kinds of callback")
{
	PRODUCER(CONNECTION);
	INBOX(plain, ast_kafka_get_consumer(CONNECTION));
	INBOX(records, ast_kafka_get_consumer(OTHER_CONNECTION));
	struct topic topic = topic_new(producer, "apart", 1);

	CHECK(plain && records && topic.name[0], "no inbox or no topic");
	CHECK(!produce_apart(producer, topic.name), "refused");
	CHECK(!ast_kafka_consumer_subscribe(plain->consumer, topic.name, inbox_message, plain), "subscribe");
	CHECK(!ast_kafka_consumer_subscribe_records(records->consumer, topic.name, inbox_record, records), "subscribe_records");
	CHECK(!inbox_wait(plain, ARRAY_LEN(apart)), "%zu came to the plain callback", inbox_count(plain));
	CHECK(!inbox_wait(records, ARRAY_LEN(apart)), "%zu came to the record callback", inbox_count(records));
	CHECK(not_apart(plain) == -1, "message %d of the plain callback", not_apart(plain));
	CHECK(not_apart(records) == -1, "message %d of the record callback", not_apart(records));
	CHECK(!strcmp(inbox_at(plain, 0).topic, topic.name), "the topic is %s", inbox_at(plain, 0).topic);
	return AST_TEST_PASS;
}

KAFKA_TEST(trip_order, "one partition keeps the order",
	"1000 records come in the order of the calls, with offsets from 0 without a gap, and timestamps between before and after")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "order", 1);
	int64_t before = ast_tvdiff_ms(ast_tvnow(), ast_tv(0, 0)), after, last = before;
	char want[16];
	int i;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	CHECK(!produce_numbers(producer, topic.name, 0, 1000), "refused");
	after = ast_tvdiff_ms(ast_tvnow(), ast_tv(0, 0));
	CHECK(!ast_kafka_consumer_subscribe_records(inbox->consumer, topic.name, inbox_record, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 1000), "%zu of 1000 came", inbox_count(inbox));
	for (i = 0; i < 1000; i++) {
		struct message message = inbox_at(inbox, i);

		snprintf(want, sizeof(want), "%d", i);
		CHECK(message.offset == i && message.partition == 0, "message %d has offset %lld", i, (long long) message.offset);
		CHECK(inbox_is(inbox, i, want), "message %d is %s", i, message.payload);
		CHECK(message.timestamp_ms >= last && message.timestamp_ms <= after, "message %d: %lld, not in %lld..%lld", i,
			(long long) message.timestamp_ms, (long long) last, (long long) after);
		last = message.timestamp_ms;
	}
	CHECK(!inbox_overlapped(inbox) && !inbox->strangers, "callbacks overlapped or came from several threads");
	return AST_TEST_PASS;
}

KAFKA_TEST(trip_keys, "a key keeps its partition and its order",
	"Records with the same key come from one partition in the order of the calls; offsets grow in each of four partitions")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "keys", 4);
	int partition_of[16], next_of[16] = { 0 }, used[4] = { 0 }, i, number;
	int64_t last_of[4] = { -1, -1, -1, -1 };
	char key[16], payload[16];

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	for (i = 0; i < 800; i++) {
		snprintf(key, sizeof(key), "key %d", i % 16);
		snprintf(payload, sizeof(payload), "%d", i / 16);
		CHECK(!ast_kafka_produce(producer, topic.name, key, payload, strlen(payload)), "refused");
	}
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 800), "%zu of 800 came", inbox_count(inbox));
	for (i = 0; i < 800; i++) {
		struct message message = inbox_at(inbox, i);

		CHECK(sscanf(message.key, "key %d", &number) == 1 && number >= 0 && number < 16, "key '%s'", message.key);
		CHECK(message.partition >= 0 && message.partition < 4, "partition %d", message.partition);
		CHECK(message.offset == last_of[message.partition] + 1, "offset %lld after %lld", (long long) message.offset,
			(long long) last_of[message.partition]);
		CHECK(!next_of[number] || partition_of[number] == message.partition, "key %d is in two partitions", number);
		CHECK(atoi(message.payload) == next_of[number], "key %d: %s instead of %d", number, message.payload, next_of[number]);
		last_of[message.partition] = message.offset;
		partition_of[number] = message.partition;
		next_of[number]++;
		used[message.partition] = 1;
	}
	CHECK(used[0] + used[1] + used[2] + used[3] > 1, "16 keys share one of 4 partitions");
	CHECK(!inbox_overlapped(inbox) && !inbox->strangers, "callbacks overlapped or came from several threads");
	return AST_TEST_PASS;
}

#define HEADERS_MOST 1000

/* Produces one record with count headers: alternating empty, short and long values, a common name for all odd
 * headers. */
static int produce_with_headers(struct ast_kafka_producer *producer, const char *topic, int count)
{
	struct ast_kafka_header *headers = ast_calloc(count + 1, sizeof(*headers));
	char (*names)[16] = ast_calloc(count + 1, sizeof(*names)), (*values)[256] = ast_calloc(count + 1, sizeof(*values));
	int i, res;

	for (i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), i % 2 ? "odd" : "header %d", i);
		if (i % 3) {
			snprintf(values[i], sizeof(values[i]), "%0*d", i % 3 == 1 ? 1 : 200, i);
		}
		headers[i] = (struct ast_kafka_header) { names[i], values[i] };
	}
	res = ast_kafka_produce_hdrs(producer, topic, "k", "v", 1, headers, count);
	/* The caller may free its memory at once. */
	memset(names, 'x', count * sizeof(*names));
	memset(values, 'x', count * sizeof(*values));
	ast_free(headers);
	ast_free(names);
	ast_free(values);
	return res;
}

/* The number of the first header other than produce_with_headers() made, -1 = none. */
static int wrong_header(const struct message *message)
{
	char name[16], value[256];
	size_t i;

	for (i = 0; i < message->header_count; i++) {
		const struct header *header = &message->headers[i];

		snprintf(name, sizeof(name), i % 2 ? "odd" : "header %d", (int) i);
		value[0] = '\0';
		if (i % 3) {
			snprintf(value, sizeof(value), "%0*d", i % 3 == 1 ? 1 : 200, (int) i);
		}
		if (strcmp(header->name, name) || !header->value || header->length != strlen(value) || !header->terminated
			|| strcmp(header->value, value)) {
			return i;
		}
	}
	return -1;
}

KAFKA_TEST(trip_headers, "headers arrive as they are",
	"0 to 1000 headers on one record arrive in order, empty and long values and equal names included; NULL and 0 are none")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	static const int counts[] = { 0, 1, 15, 16, 17, 64, HEADERS_MOST };
	struct topic topic = topic_new(producer, "headers", 1);
	struct ast_kafka_header nameless = { "", "" };
	struct message message;
	size_t i;

	CHECK(inbox && topic.name[0], "no inbox or no topic");
	for (i = 0; i < ARRAY_LEN(counts); i++) {
		CHECK(!produce_with_headers(producer, topic.name, counts[i]), "%d headers", counts[i]);
	}
	CHECK(!ast_kafka_produce_hdrs(producer, topic.name, NULL, "v", 1, NULL, 7), "NULL and 7");
	CHECK(!ast_kafka_produce_hdrs(producer, topic.name, NULL, "v", 1, &nameless, 1), "an empty name");
	CHECK(!ast_kafka_consumer_subscribe_records(inbox->consumer, topic.name, inbox_record, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, ARRAY_LEN(counts) + 2), "%zu came", inbox_count(inbox));
	for (i = 0; i < ARRAY_LEN(counts); i++) {
		message = inbox_at(inbox, i);
		CHECK((int) message.header_count == counts[i], "%zu headers instead of %d", message.header_count, counts[i]);
		CHECK(wrong_header(&message) == -1, "header %d of %d", wrong_header(&message), counts[i]);
	}
	CHECK(inbox_at(inbox, i).header_count == 0, "headers of NULL");
	message = inbox_at(inbox, i + 1);
	CHECK(message.header_count == 1 && !message.headers[0].name[0] && message.headers[0].value, "the empty name");
	return AST_TEST_PASS;
}

KAFKA_TEST(trip_copies, "the caller's memory is free at once",
	"Topic, key and payload are overwritten as soon as ast_kafka_produce() has returned, and arrive as they were")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_get_consumer(CONNECTION));
	struct topic topic = topic_new(producer, "copies", 1), name;
	char key[32], *payload = ast_malloc(100000), want[32];
	int i, refused = 0;
	size_t j;

	for (i = 0; i < 50; i++) {
		name = topic;
		snprintf(key, sizeof(key), "key %d", i);
		memset(payload, 'a' + i % 26, 100000);
		refused += ast_kafka_produce(producer, name.name, key, payload, 100000) != 0;
		memset(&name, '!', sizeof(name));
		memset(key, '!', sizeof(key));
	}
	memset(payload, '!', 100000);
	ast_free(payload);
	CHECK(inbox && topic.name[0] && !refused, "%d refused", refused);
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 50), "%zu of 50 came", inbox_count(inbox));
	for (i = 0; i < 50; i++) {
		struct message message = inbox_at(inbox, i);

		snprintf(want, sizeof(want), "key %d", i);
		CHECK(!strcmp(message.key, want) && message.length == 100000, "message %d has key %s", i, message.key);
		for (j = 0; j < message.length && message.payload[j] == 'a' + i % 26; j++) {
		}
		CHECK(j == 100000, "byte %zu of message %d", j, i);
	}
	return AST_TEST_PASS;
}

ast_test_cb_t *const trip_tests[] = {
	trip_null_and_empty, trip_order, trip_keys, trip_headers, trip_copies, NULL,
};
