/*
 * test_res_kafka: topics, inboxes and threads of the tests.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Topics, inboxes and threads for the tests of asterisk/kafka.h.
 *
 * An inbox stores a copy of each message of its callback, and verifies the rule for every consumer: one
 * callback at a time, from one thread. Every wait has the limit PATIENCE_S; reaching the limit is a failure.
 * QUIET_MS is the time of a check for silence.
 *
 * A test may end before its last callback. inbox_free() therefore ends the consumer before the inbox is
 * freed.
 */

#ifndef TEST_RES_KAFKA_KIT_H
#define TEST_RES_KAFKA_KIT_H

#ifndef TEST_FRAMEWORK
#error "These tests need an Asterisk that was built with TEST_FRAMEWORK"
#endif

#include <pthread.h>
#include <time.h>

#include "asterisk/astobj2.h"
#include "asterisk/kafka.h"
#include "asterisk/lock.h"
#include "asterisk/test.h"
#include "asterisk/time.h"
#include "asterisk/utils.h"

#define PATIENCE_S 30
#define QUIET_MS 200

/* Names of connections, see the top of test_res_kafka.c. */
#define CONNECTION "test"
#define OTHER_CONNECTION "test_other"
#define HASTY_CONNECTION "test_hasty"
#define RACE_CONNECTION "test_race"
#define OFTEN_CONNECTION "test_often"
#define MANUAL_CONNECTION "test_manual"

/* The tests of each file; NULL behind the last. */
extern ast_test_cb_t *const producer_tests[], *const trip_tests[], *const consumer_tests[], *const ending_tests[],
	*const inside_tests[], *const group_tests[], *const topic_tests[], *const thread_tests[], *const report_tests[];

/* Defines one test: KAFKA_TEST(name, summary, description) { ... }. Names have 30 characters at most, the
 * limit of Asterisk's list. The body returns AST_TEST_PASS, or fails through CHECK. */
#define KAFKA_TEST(test_name, test_summary, test_description) \
	static enum ast_test_result_state test_name##_body(struct ast_test *test); \
	AST_TEST_DEFINE(test_name) \
	{ \
		if (cmd == TEST_INIT) { \
			info->name = #test_name; \
			info->category = "/res/kafka/"; \
			info->summary = test_summary; \
			info->description = test_description; \
			return AST_TEST_NOT_RUN; \
		} \
		return test_name##_body(test); \
	} \
	static enum ast_test_result_state test_name##_body(struct ast_test *test)

/* Fails the test, with the condition and a text. RAII_VAR does the cleanup. */
#define CHECK(condition, text, ...) \
	do { \
		if (!(condition)) { \
			ast_test_status_update(test, "%s: " text "\n", #condition, ##__VA_ARGS__); \
			return AST_TEST_FAIL; \
		} \
	} while (0)

struct header {
	char *name;
	char *value; /* NULL = null */
	size_t length;
	int terminated; /* a NUL stood behind the value */
};

struct message {
	char *topic;
	int32_t partition;
	int64_t offset;
	int64_t timestamp_ms; /* 0 from the plain callback */
	char *key;            /* NULL = no key; a final NUL is added, as for payload */
	size_t key_length;
	char *payload; /* NULL = null value */
	size_t length;
	struct header *headers;
	size_t header_count;
};

struct inbox;

/* Called inside the callback, with no lock held. The message stays the inbox's. */
typedef void (*inbox_hook)(struct inbox *inbox, const struct message *message);

struct inbox {
	ast_mutex_t lock;
	ast_cond_t changed;
	struct ast_kafka_consumer *consumer; /* the test's; inbox_free() ends the consumer */
	struct message *messages;
	size_t count, capacity;
	int inside;      /* callbacks under way */
	int overlapped;  /* how often a callback began while another was under way */
	int strangers;   /* how often a callback came from another thread than the first */
	int shut;        /* callbacks wait inside until inbox_open(), after their message is stored */
	int held;        /* hooks wait in inbox_hold() until inbox_open() */
	int holding;     /* a callback waits */
	int done;        /* returned callbacks */
	pthread_t thread;
	inbox_hook hook;
	void *data; /* the hook's */
	int64_t result; /* the hook's: the result of a call inside the callback */
};

/* Makes an inbox for a consumer and takes its reference; NULL for NULL. */
struct inbox *inbox_new(struct ast_kafka_consumer *consumer);

/* Ends the consumer, releases waiting callbacks, and frees everything. */
void inbox_free(struct inbox *inbox);

/* The callbacks; userdata is the inbox. */
void inbox_message(const char *topic, int32_t partition, int64_t offset, const void *payload, size_t len, const void *key,
	size_t key_len, void *userdata);
void inbox_record(struct ast_kafka_consumer *consumer, const struct ast_kafka_record *record, void *userdata);

/* Makes callbacks wait inside, or releases them. */
void inbox_shut(struct inbox *inbox);
void inbox_open(struct inbox *inbox);

/* For a hook: waits while the inbox is held. inbox_wait_holding() waits for such a hook; 0, or -1 after
 * PATIENCE_S. */
void inbox_hold(struct inbox *inbox);
int inbox_wait_holding(struct inbox *inbox);

/* Waits until the inbox has count messages (inbox_wait) or returned callbacks (inbox_wait_done); 0, or -1
 * after PATIENCE_S. */
int inbox_wait(struct inbox *inbox, size_t count);
int inbox_wait_done(struct inbox *inbox, size_t count);

/* Waits for QUIET_MS, or the given time; 0 if the inbox still has exactly count messages. */
int inbox_quiet(struct inbox *inbox, size_t count);
int inbox_quiet_for(struct inbox *inbox, size_t count, int ms);

size_t inbox_count(struct inbox *inbox);

/* Message number i, valid as long as the inbox. */
struct message inbox_at(struct inbox *inbox, size_t i);

/* How many messages have this payload. */
size_t inbox_having(struct inbox *inbox, const char *payload);

/* 0 when no two callbacks were under way at once. */
int inbox_overlapped(struct inbox *inbox);

/* Whether message i has this payload. */
int inbox_is(struct inbox *inbox, size_t i, const char *payload);

struct topic {
	char name[128];
};

/* Creates a new topic with the given partitions; its name is empty after a failure. */
struct topic topic_new(struct ast_kafka_producer *producer, const char *what, int partitions);

/* Produces the numbers from..to-1 as payloads, with the payload as the key; how many were refused. */
int produce_numbers(struct ast_kafka_producer *producer, const char *topic, int from, int to);

int produce_text(struct ast_kafka_producer *producer, const char *topic, const char *payload);

/* Asterisk's use count of res_kafka.so. */
int use_count(void);

/* Reloads res_kafka with a changed connection (changed = 1) or with the original one (0); 0 after a
 * success. */
int reload(int changed);

/* A thread for one function, and its end. */
struct task {
	ast_mutex_t lock;
	ast_cond_t changed;
	pthread_t thread;
	void *(*run)(void *);
	void *argument;
	void *result;
	int finished;
	int tid; /* 0 = not started */
};

/* Starts a thread; NULL for a failure. */
struct task *task_start(void *(*run)(void *), void *argument);

/* Waits for the thread's end: -1 after ms. */
int task_wait(struct task *task, int ms);

/*
 * Waits until the thread sleeps for QUIET_MS: 0, or -1 after the thread's end or PATIENCE_S. A thread without
 * a processor does not count as asleep.
 */
int task_asleep(struct task *task);

/* Waits for the thread without a limit and frees the task. */
void *task_join(struct task *task);

/* For RAII_VAR: waits for the task, if there is one. */
void task_cleanup(struct task *task);

#define PRODUCER(name) RAII_VAR(struct ast_kafka_producer *, producer, ast_kafka_get_producer(name), ao2_cleanup)
#define INBOX(variable, consumer) RAII_VAR(struct inbox *, variable, inbox_new(consumer), inbox_free)

#endif
