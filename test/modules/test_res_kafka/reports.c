/*
 * test_res_kafka: delivery reports.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief One report for each accepted record, its contents, and the end of reports.
 */

#include "asterisk.h"

#include <stdio.h>

#include "kit.h"

#define MOST 256 /* records a test produces */

/* Contents of reports, by the number of the record. */
struct desk {
	ast_mutex_t lock;
	ast_cond_t changed;
	struct ast_kafka_reports *reports; /* the test's; desk_free() ends the handle */
	int shut;    /* callbacks wait inside */
	int inside;  /* callbacks under way */
	int overlapped;
	int count;
	int reported[MOST]; /* how often */
	int failed[MOST];   /* with an error */
	int32_t partition[MOST];
	int64_t offset[MOST];
	char topic[128]; /* of the last */
	char error[256]; /* of the last report with an error */
	void (*hook)(struct desk *desk, int number);
	int result; /* the hook's */
};

static void desk_report(const struct ast_kafka_report *report, void *userdata)
{
	struct desk *desk = userdata;
	int number = (int) (intptr_t) report->opaque;

	ast_mutex_lock(&desk->lock);
	desk->overlapped += desk->inside++;
	ast_cond_broadcast(&desk->changed);
	while (desk->shut) {
		ast_cond_wait(&desk->changed, &desk->lock);
	}
	if (number >= 0 && number < MOST) {
		desk->reported[number]++;
		desk->failed[number] += report->error != NULL;
		desk->partition[number] = report->partition;
		desk->offset[number] = report->offset;
	}
	ast_copy_string(desk->topic, report->topic, sizeof(desk->topic));
	if (report->error) {
		ast_copy_string(desk->error, report->error, sizeof(desk->error));
	}
	ast_mutex_unlock(&desk->lock);
	if (desk->hook) {
		desk->hook(desk, number);
	}
	ast_mutex_lock(&desk->lock);
	desk->count++;
	desk->inside--;
	ast_cond_broadcast(&desk->changed);
	ast_mutex_unlock(&desk->lock);
}

static struct desk *desk_new(struct ast_kafka_producer *producer)
{
	struct desk *desk = ast_calloc(1, sizeof(*desk));

	if (desk) {
		ast_mutex_init(&desk->lock);
		ast_cond_init(&desk->changed, NULL);
		desk->reports = ast_kafka_reports_create(producer, desk_report, desk);
	}
	return desk;
}

static void desk_shut(struct desk *desk, int shut)
{
	ast_mutex_lock(&desk->lock);
	desk->shut = shut;
	ast_cond_broadcast(&desk->changed);
	ast_mutex_unlock(&desk->lock);
}

static void desk_free(struct desk *desk)
{
	if (!desk) {
		return;
	}
	desk_shut(desk, 0);
	ast_kafka_reports_end(desk->reports, 0);
	ao2_cleanup(desk->reports);
	ast_cond_destroy(&desk->changed);
	ast_mutex_destroy(&desk->lock);
	ast_free(desk);
}

/* Waits until that many callbacks have returned (inside = 0), or until one runs. 0, or -1 after ms. */
static int desk_wait_for(struct desk *desk, int count, int inside, int ms)
{
	struct timeval end = ast_tvadd(ast_tvnow(), ast_samp2tv(ms, 1000));
	struct timespec limit = { .tv_sec = end.tv_sec, .tv_nsec = end.tv_usec * 1000 };
	int res = 0;

	ast_mutex_lock(&desk->lock);
	while (!res && (inside ? !desk->inside : desk->count < count)) {
		res = ast_cond_timedwait(&desk->changed, &desk->lock, &limit);
	}
	ast_mutex_unlock(&desk->lock);
	return res ? -1 : 0;
}

static int desk_wait(struct desk *desk, int count)
{
	return desk_wait_for(desk, count, 0, PATIENCE_S * 1000);
}

#define DESK(variable, producer) RAII_VAR(struct desk *, variable, desk_new(producer), desk_free)

/* Produces the numbers from..to-1, each as payload, key and opaque; how many were refused. */
static int produce_reported(struct desk *desk, const char *topic, int from, int to)
{
	char text[12];
	int i, refused = 0;

	for (i = from; i < to; i++) {
		snprintf(text, sizeof(text), "%d", i);
		refused += ast_kafka_produce_reported(desk->reports, topic, text, text, strlen(text), NULL, 0,
			(void *) (intptr_t) i) != 0;
	}
	return refused;
}

/* How many of the numbers from..to-1 were reported once, with an error or without. */
static int reported_once(struct desk *desk, int from, int to, int failed)
{
	int i, count = 0;

	for (i = from; i < to; i++) {
		count += desk->reported[i] == 1 && desk->failed[i] == failed;
	}
	return count;
}

KAFKA_TEST(report_acknowledged, "a report says where the record stands",
	"Each of 200 records brings one report without an error, with the partition and offset at which a consumer finds it; "
	"headers are those that were given and no others")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_create_consumer(CONNECTION));
	DESK(desk, producer);
	struct topic topic = topic_new(producer, "reported", 3);
	struct ast_kafka_header header = { "name", "value" };
	size_t i;

	CHECK(desk && desk->reports && inbox && topic.name[0], "no reports, inbox or topic");
	CHECK(!produce_reported(desk, topic.name, 0, 200), "refused");
	CHECK(!ast_kafka_produce_reported(desk->reports, topic.name, NULL, "200", 3, &header, 1, (void *) (intptr_t) 200),
		"one with a header");
	CHECK(!desk_wait(desk, 201), "%d of 201 reports", desk->count);
	CHECK(reported_once(desk, 0, 201, 0) == 201, "%d of 201 were reported once; error %s", reported_once(desk, 0, 201, 0),
		desk->error);
	CHECK(!strcmp(desk->topic, topic.name), "topic %s", desk->topic);
	CHECK(!desk->overlapped, "callbacks came side by side");
	CHECK(!ast_kafka_consumer_subscribe_records(inbox->consumer, topic.name, inbox_record, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 201), "%zu of 201 came", inbox_count(inbox));
	for (i = 0; i < 201; i++) {
		struct message message = inbox_at(inbox, i);
		int number = atoi(message.payload);

		CHECK(message.partition == desk->partition[number] && message.offset == desk->offset[number],
			"%s is at %d/%ld and was reported at %d/%ld", message.payload, message.partition, (long) message.offset,
			desk->partition[number], (long) desk->offset[number]);
		CHECK(message.header_count == (number == 200), "%s has %zu headers", message.payload, message.header_count);
	}
	CHECK(ast_kafka_reports_end(desk->reports, 0) == 0, "nothing is outstanding");
	return AST_TEST_PASS;
}

KAFKA_TEST(report_dropped, "a report says why a record was dropped",
	"With nobody to deliver to, each record brings one report with an error when message_timeout_ms have passed")
{
	PRODUCER("test_hopeless");
	DESK(desk, producer);

	CHECK(desk && desk->reports, "no reports");
	CHECK(!produce_reported(desk, "hopeless", 0, 10), "refused");
	CHECK(produce_reported(desk, "hopeless", 10, 11) == 1, "more than queue_buffering_max_messages");
	CHECK(!desk_wait(desk, 10), "%d of 10 reports", desk->count);
	CHECK(reported_once(desk, 0, 10, 1) == 10, "%d of 10 were reported once with an error", reported_once(desk, 0, 10, 1));
	CHECK(desk->partition[3] == -1 && desk->offset[3] == -1, "at %d/%ld", desk->partition[3], (long) desk->offset[3]);
	CHECK(desk->error[0] && !strcmp(desk->topic, "hopeless"), "topic %s, error '%s'", desk->topic, desk->error);
	CHECK(desk_wait_for(desk, 11, 0, QUIET_MS), "a report for a record that was refused");
	return AST_TEST_PASS;
}

KAFKA_TEST(report_refused, "what is refused has no report",
	"Wrong arguments give -1 or NULL and no report")
{
	PRODUCER(CONNECTION);
	DESK(desk, producer);
	struct ast_kafka_header valueless = { "x", NULL };

	CHECK(desk && desk->reports, "no reports");
	CHECK(!ast_kafka_reports_create(NULL, desk_report, desk), "no producer");
	CHECK(!ast_kafka_reports_create(producer, NULL, desk), "no callback");
	CHECK(ast_kafka_produce_reported(NULL, "t", NULL, "x", 1, NULL, 0, NULL) == -1, "no reports");
	CHECK(ast_kafka_produce_reported(desk->reports, NULL, NULL, "x", 1, NULL, 0, NULL) == -1, "no topic");
	CHECK(ast_kafka_produce_reported(desk->reports, "a/b", NULL, "x", 1, NULL, 0, NULL) == -1, "no topic's name");
	CHECK(ast_kafka_produce_reported(desk->reports, "t", NULL, NULL, 1, NULL, 0, NULL) == -1, "a length of nothing");
	CHECK(ast_kafka_produce_reported(desk->reports, "t", NULL, "x", 1, &valueless, 1, NULL) == -1, "a header without a value");
	CHECK(ast_kafka_reports_end(NULL, 0) == -1, "the end of no reports");
	CHECK(desk_wait_for(desk, 1, 0, QUIET_MS), "a report came");
	CHECK(ast_kafka_reports_end(desk->reports, 0) == 0, "nothing is outstanding");
	CHECK(ast_kafka_produce_reported(desk->reports, "t", NULL, "x", 1, NULL, 0, NULL) == -1, "reports that have been ended");
	CHECK(ast_kafka_reports_end(desk->reports, 0) == 0, "a second end");
	return AST_TEST_PASS;
}

static void *end_waiting(void *data)
{
	struct desk *desk = data;

	return (void *) (intptr_t) ast_kafka_reports_end(desk->reports, 0);
}

KAFKA_TEST(report_end, "no report comes after the end",
	"Ending reports waits for the callback under way, none comes after it, and the records are delivered all the same")
{
	PRODUCER(CONNECTION);
	INBOX(inbox, ast_kafka_create_consumer(CONNECTION));
	DESK(desk, producer);
	RAII_VAR(struct task *, task, NULL, task_cleanup);
	struct topic topic = topic_new(producer, "report_end", 1);

	CHECK(desk && desk->reports && inbox && topic.name[0], "no reports, inbox or topic");
	desk_shut(desk, 1);
	CHECK(!produce_reported(desk, topic.name, 0, 20), "refused");
	CHECK(!desk_wait_for(desk, 0, 1, PATIENCE_S * 1000), "no report came");
	task = task_start(end_waiting, desk);
	CHECK(task, "no thread");
	CHECK(!task_asleep(task), "the end did not wait for the callback under way");
	desk_shut(desk, 0);
	CHECK(!task_wait(task, PATIENCE_S * 1000), "the end did not come");
	CHECK((intptr_t) task->result == 19, "%ld were left", (long) (intptr_t) task->result);
	CHECK(desk_wait_for(desk, 2, 0, QUIET_MS), "a report came after the end");
	CHECK(!ast_kafka_consumer_subscribe(inbox->consumer, topic.name, inbox_message, inbox), "subscribe");
	CHECK(!inbox_wait(inbox, 20), "%zu of 20 came", inbox_count(inbox));
	return AST_TEST_PASS;
}

KAFKA_TEST(report_wait, "the end can wait for what is outstanding",
	"Ending reports with time to wait gives 0 when all reports have come, and as soon as they have")
{
	PRODUCER(CONNECTION);
	DESK(desk, producer);
	struct topic topic = topic_new(producer, "report_wait", 2);

	CHECK(desk && desk->reports && topic.name[0], "no reports or topic");
	CHECK(!produce_reported(desk, topic.name, 0, 200), "refused");
	CHECK(ast_kafka_reports_end(desk->reports, PATIENCE_S * 1000) == 0, "some were left");
	CHECK(reported_once(desk, 0, 200, 0) == 200, "%d of 200 were reported once", reported_once(desk, 0, 200, 0));
	return AST_TEST_PASS;
}

static void produce_again(struct desk *desk, int number)
{
	if (number < 10) {
		desk->result += produce_reported(desk, desk->topic, number + 10, number + 11);
	} else if (number == 19) {
		desk->result += 100 * ast_kafka_reports_end(desk->reports, PATIENCE_S * 1000);
	}
}

KAFKA_TEST(report_inside, "a report's callback may use the API",
	"Inside the callback a record can be produced, which is reported too, and the reports can be ended without waiting")
{
	PRODUCER(CONNECTION);
	DESK(desk, producer);
	struct topic topic = topic_new(producer, "report_inside", 1);

	CHECK(desk && desk->reports && topic.name[0], "no reports or topic");
	desk->hook = produce_again;
	CHECK(!produce_reported(desk, topic.name, 0, 10), "refused");
	CHECK(!desk_wait(desk, 20), "%d of 20 reports", desk->count);
	CHECK(reported_once(desk, 0, 20, 0) == 20, "%d of 20 were reported once", reported_once(desk, 0, 20, 0));
	CHECK(desk->result == 0, "inside, calls gave %d", desk->result);
	return AST_TEST_PASS;
}

KAFKA_TEST(report_piles_up, "reports that nobody takes do not pile up",
	"While a callback hangs, no more records are accepted than queue_buffering_max_messages; those of others are")
{
	PRODUCER("test_hopeless");
	DESK(desk, producer);
	DESK(other, producer);
	int i;

	CHECK(desk && desk->reports && other && other->reports, "no reports");
	desk_shut(desk, 1);
	CHECK(!produce_reported(desk, "piled", 0, 10), "refused");
	CHECK(!desk_wait_for(desk, 0, 1, PATIENCE_S * 1000), "no report came");
	/* The queue has room again after each dropped record, so only the reports limit. */
	for (i = 0; i < PATIENCE_S * 100 && produce_reported(other, "other", 0, 1); i++) {
		usleep(10000);
	}
	CHECK(i < PATIENCE_S * 100, "no room for a record of others");
	CHECK(produce_reported(desk, "piled", 10, 20) == 10, "a record beyond the limit was accepted");
	desk_shut(desk, 0);
	CHECK(!desk_wait(desk, 10), "%d of 10 reports", desk->count);
	CHECK(reported_once(desk, 0, 10, 1) == 10, "%d of 10 were reported once", reported_once(desk, 0, 10, 1));
	CHECK(!desk_wait(other, 1), "no report of the other");
	return AST_TEST_PASS;
}

KAFKA_TEST(reports_keep_the_module, "reports keep res_kafka.so loaded",
	"Reports hold their producer, and with it the module; releasing the last reference ends them")
{
	struct desk *desk;
	struct ast_kafka_producer *producer;
	int before = use_count();

	producer = ast_kafka_get_producer(OTHER_CONNECTION);
	desk = desk_new(producer);
	ao2_cleanup(producer);
	CHECK(desk && desk->reports, "no reports");
	CHECK(use_count() == before + 1, "%d with reports, %d before", use_count(), before);
	desk_free(desk);
	CHECK(use_count() == before, "%d at the end, %d before", use_count(), before);
	return AST_TEST_PASS;
}

/* Opens the desk for threads with a later join. */
static void desk_release(struct desk *desk)
{
	if (desk) {
		desk_shut(desk, 0);
	}
}

static void *end_patiently(void *data)
{
	struct desk *desk = data;

	/* Longer than the tests wait: reaching the end is a failure. */
	return (void *) (intptr_t) ast_kafka_reports_end(desk->reports, 2 * PATIENCE_S * 1000);
}

KAFKA_TEST(report_end_again, "an end waits for nothing that will not come",
	"When the reports are ended by somebody else, or have been, an end with time to wait returns at once")
{
	PRODUCER(CONNECTION);
	DESK(desk, producer);
	RAII_VAR(struct task *, patient, NULL, task_cleanup);
	RAII_VAR(struct task *, ending, NULL, task_cleanup);
	RAII_VAR(struct task *, late, NULL, task_cleanup);
	RAII_VAR(struct desk *, opened, desk, desk_release); /* goes first: with the desk shut no thread above ends */
	struct topic topic = topic_new(producer, "report_end_again", 1);

	CHECK(desk && desk->reports && topic.name[0], "no reports or topic");
	desk_shut(desk, 1);
	CHECK(!produce_reported(desk, topic.name, 0, 20), "refused");
	CHECK(!desk_wait_for(desk, 0, 1, PATIENCE_S * 1000), "no report came");
	patient = task_start(end_patiently, desk);
	CHECK(patient && !task_asleep(patient), "no thread, or it does not wait");
	ending = task_start(end_waiting, desk);
	CHECK(ending && !task_asleep(ending), "no thread, or it does not wait");
	desk_shut(desk, 0);
	CHECK(!task_wait(ending, PATIENCE_S * 1000), "the end did not come");
	CHECK(!task_wait(patient, PATIENCE_S * 1000), "who was waiting still is");
	CHECK((intptr_t) patient->result == 19, "%ld were left", (long) (intptr_t) patient->result);
	late = task_start(end_patiently, desk);
	CHECK(late && !task_wait(late, PATIENCE_S * 1000), "no thread, or a second end waits");
	CHECK((intptr_t) late->result == 19, "%ld were left", (long) (intptr_t) late->result);
	return AST_TEST_PASS;
}

struct refuser {
	struct ast_kafka_reports *reports;
	int stop;
};

static void *refuse(void *data)
{
	struct refuser *refuser = data;

	while (!__atomic_load_n(&refuser->stop, __ATOMIC_SEQ_CST)) {
		ast_kafka_produce_reported(refuser->reports, "a/b", NULL, "x", 1, NULL, 0, NULL);
	}
	return NULL;
}

KAFKA_TEST(report_end_refused, "an end does not wait for what is refused",
	"While another thread produces what is refused, an end with time to wait returns at once each time")
{
	PRODUCER(CONNECTION);
	int round, res = 0;

	for (round = 0; round < 50 && !res; round++) {
		DESK(desk, producer);
		RAII_VAR(struct task *, ending, NULL, task_cleanup);
		struct refuser refuser = { .reports = desk ? desk->reports : NULL };
		struct task *refusing;

		CHECK(desk && desk->reports, "no reports");
		refusing = task_start(refuse, &refuser);
		ending = refusing ? task_start(end_patiently, desk) : NULL;
		res = ending ? task_wait(ending, PATIENCE_S * 1000) : -1;
		__atomic_store_n(&refuser.stop, 1, __ATOMIC_SEQ_CST);
		if (refusing) {
			task_join(refusing);
		}
	}
	CHECK(!res, "no thread, or the end of round %d still waits", round);
	return AST_TEST_PASS;
}

static void produce_full(struct desk *desk, int number)
{
	if (number < 10) {
		desk->result += produce_reported(desk, desk->topic, number + 10, number + 11);
	}
}

KAFKA_TEST(report_inside_full, "a callback may produce its record again when the queue was full",
	"As many records as the queue holds are dropped, and each one's callback has room for it once more")
{
	PRODUCER("test_hopeless");
	DESK(desk, producer);

	CHECK(desk && desk->reports, "no reports");
	desk->hook = produce_full;
	CHECK(!produce_reported(desk, "again", 0, 10), "refused");
	CHECK(!desk_wait(desk, 10), "%d of 10 reports", desk->count);
	CHECK(desk->result == 0, "%d refused", desk->result);
	CHECK(!desk_wait(desk, 20), "%d of 20 reports", desk->count);
	CHECK(reported_once(desk, 0, 20, 1) == 20, "%d of 20 were reported once", reported_once(desk, 0, 20, 1));
	return AST_TEST_PASS;
}

static void release(struct desk *desk, int number)
{
	struct ast_kafka_reports *reports = desk->reports;

	desk->reports = NULL;
	ao2_cleanup(reports);
}

KAFKA_TEST(report_release_inside, "the last reference can go inside the callback",
	"Releasing reports inside their callback ends them: no callback comes after it, and their producer is let go")
{
	PRODUCER(CONNECTION);
	DESK(desk, producer);
	struct topic topic = topic_new(producer, "report_release", 1);
	int before = use_count();

	CHECK(desk && desk->reports && topic.name[0], "no reports or topic");
	ao2_cleanup(producer);
	producer = NULL;
	CHECK(use_count() == before, "%d held by the reports, %d before", use_count(), before);
	desk->hook = release;
	CHECK(!produce_reported(desk, topic.name, 0, 20), "refused");
	CHECK(!desk_wait(desk, 1), "no report came");
	CHECK(use_count() == before - 1, "%d at the end, %d before", use_count(), before);
	CHECK(desk_wait_for(desk, 2, 0, QUIET_MS), "a callback came after it");
	return AST_TEST_PASS;
}

struct crowd {
	struct ast_kafka_producer *producer;
	const char *topic;
	int failed; /* failed creations of handles */
	int wrong;  /* callbacks side by side, or under way when the end had come */
};

static void end_inside(struct desk *desk, int number)
{
	if (number == 3) {
		produce_reported(desk, desk->topic, 40, 41);
	} else if (number == 5) {
		ast_kafka_reports_end(desk->reports, PATIENCE_S * 1000);
	}
}

/* Makes, uses and ends one handle after the other, at a different moment each time; another thread ends the
 * handle too. */
static void *crowd_run(void *data)
{
	struct crowd *crowd = data;
	int round;

	for (round = 0; round < 60; round++) {
		DESK(desk, crowd->producer);
		RAII_VAR(struct task *, other, NULL, task_cleanup);

		if (!desk || !desk->reports) {
			crowd->failed++;
			continue;
		}
		desk->hook = end_inside;
		produce_reported(desk, crowd->topic, 0, round % 8 + 1);
		other = task_start(round % 2 ? end_waiting : end_patiently, desk);
		usleep(round % 3 * 500);
		produce_reported(desk, crowd->topic, 10, 12);
		ast_kafka_reports_end(desk->reports, round % 5);
		ast_mutex_lock(&desk->lock);
		crowd->wrong += desk->inside || desk->overlapped;
		ast_mutex_unlock(&desk->lock);
	}
	return NULL;
}

KAFKA_TEST(report_crowd, "reports end in every way at once",
	"Threads make, use and end reports, two at a time and from inside the callback: none is under way when an end has come")
{
	PRODUCER(CONNECTION);
	struct topic topic = topic_new(producer, "report_crowd", 1);
	struct crowd crowds[4];
	struct task *tasks[ARRAY_LEN(crowds)];
	int failed = 0, wrong = 0;
	size_t i;

	CHECK(producer && topic.name[0], "no topic");
	for (i = 0; i < ARRAY_LEN(crowds); i++) {
		crowds[i] = (struct crowd) { .producer = producer, .topic = topic.name };
		tasks[i] = task_start(crowd_run, &crowds[i]);
	}
	for (i = 0; i < ARRAY_LEN(crowds); i++) {
		task_cleanup(tasks[i]);
		failed += !tasks[i] + crowds[i].failed;
		wrong += crowds[i].wrong;
	}
	CHECK(!failed && !wrong, "%d could not be made, %d were wrong", failed, wrong);
	return AST_TEST_PASS;
}

ast_test_cb_t *const report_tests[] = {
	report_acknowledged, report_dropped, report_refused, report_end, report_wait, report_inside, report_piles_up,
	report_end_again, report_end_refused, report_inside_full, report_release_inside, report_crowd, reports_keep_the_module, NULL,
};
