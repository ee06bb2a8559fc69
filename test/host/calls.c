/*
 * res_kafka: what the engine answers: before its start and after its end, to wrong calls, to many threads, and after a
 * defect of its own.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "modules/res_kafka/inbox.h"

void is_not_there_before_its_start(void)
{
	struct resk_command command;
	uint64_t id = 7, source = 0;
	struct resk_delivery *delivery = NULL;
	struct stage_gate gate = { 0 };
	struct resk_text word = text("kafka");
	char *connection = NULL, *printed;

	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_ESTATE);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &id) == RESK_ESTATE);
	CHECK(engine.resk_source_open(text("cdr"), NULL, 0, &source, &connection) == RESK_ESTATE);
	engine.resk_take(1, (char[]) { "" }, 0, 0);
	engine.resk_refused(1, RESK_REFUSED_TOPIC, 1, text("t"));
	CHECK(engine.resk_consumer_check(text("nobody")) == RESK_ESTATE);
	CHECK(engine.resk_subscribe(text("nobody"), text("t"), &delivery, &id) == RESK_ESTATE);
	CHECK(!engine.resk_next(1));
	engine.resk_unsubscribe(1);
	engine.resk_subscription_free(1);
	CHECK(engine.resk_commit(1, 0) == RESK_ESTATE);
	CHECK(engine.resk_pause(1, text(NULL), 1) == RESK_ESTATE);
	CHECK(engine.resk_ensure_topic(text("nobody"), text("t"), 1, 1, 1) == RESK_ESTATE);
	CHECK(engine.resk_reports_open(&id) == RESK_ESTATE);
	CHECK(!engine.resk_reports_next(1));
	engine.resk_reports_close(1);
	engine.resk_stop(0);
	CHECK(engine.resk_command_at(0, &command) == RESK_OK);
	CHECK(command.words && command.summary && command.usage);
	CHECK(engine.resk_command_at(4000000000u, &command) == RESK_ENOENT);
	printed = engine.resk_run(0, &word, 1);
	CHECK(printed && strstr(printed, "not running"));
	engine.resk_free(printed);
	CHECK(!engine.resk_complete(0, &word, 1, word, 0));
	engine.resk_free(NULL);
	DONE();
}

void start_checks_its_host(void)
{
	struct resk_host other = the_host;

	other.abi_version++;
	CHECK(engine.resk_start(&other, &limits) == RESK_EINVAL);
	other = the_host;
	other.size--;
	CHECK(engine.resk_start(&other, &limits) == RESK_EINVAL);
	CHECK(engine.resk_start(NULL, &limits) == RESK_EINVAL);
	CHECK(engine.resk_start(&the_host, NULL) == RESK_EINVAL);
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_start(&the_host, &limits) == RESK_ESTATE);
	CHECK(limits.topic_length_max == 249 && limits.topic_bytes['a'] && !limits.topic_bytes['/'] && !limits.topic_bytes[0]);
	engine.resk_stop(0);
	engine.resk_stop(0);
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	engine.resk_stop(0);
	DONE();
}

void refuses_bad_calls(void)
{
	struct stage_gate gate = { 0 };
	struct resk_text words[3] = { { NULL, 0 }, { "a\0b", 3 }, { "", 0 } };
	struct resk_delivery *delivery = NULL;
	uint64_t id = 99, source = 12345, other = 0;
	char *connection = NULL;
	unsigned char noise[4096];
	struct resk_entry broken[] = { { .section = NULL }, { .section = "x", .name = NULL }, { .section = "x", .name = "type", .value = NULL } };
	uint32_t i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(broken)) == RESK_EINVAL);
	CHECK(errors_logged() > 0);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK, "%s", host_log.last);
	CHECK(engine.resk_producer_open(text("unknown"), &gate, &id) == RESK_ENOENT);
	CHECK(engine.resk_producer_open(text(NULL), &gate, &id) == RESK_ENOENT);
	CHECK(engine.resk_source_open(text("no such kind"), NULL, 0, &source, &connection) == RESK_ENOENT);
	source = 12345;
	CHECK(engine.resk_source_open(text("cdr"), NULL, 0, &source, &connection) != RESK_OK);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &id) == RESK_OK, "%s", host_log.last);
	CHECK(gate.open == 1 && gate.max_frames == 100000 && gate.max_weight == 1000000);
	srandom(1);
	for (i = 0; i < sizeof(noise); i++) {
		noise[i] = random();
	}
	for (i = 0; i < 200; i++) {
		engine.resk_take(id, noise + i, i * 8, 0);
		engine.resk_take(i * 1000, noise, sizeof(noise), 0);
	}
	CHECK(engine.resk_consumer_check(text("unknown")) == RESK_ENOENT);
	CHECK(engine.resk_consumer_check(text("nobody")) == RESK_EINVAL); /* without a group_id */
	CHECK(engine.resk_subscribe(text(NULL), text(NULL), &delivery, &other) != RESK_OK);
	CHECK(!engine.resk_next(0) && !engine.resk_next(UINT64_MAX));
	engine.resk_unsubscribe(UINT64_MAX);
	engine.resk_subscription_free(UINT64_MAX);
	CHECK(engine.resk_commit(UINT64_MAX, 1) == RESK_ENOENT);
	CHECK(engine.resk_pause(UINT64_MAX, text("t"), 1) == RESK_ENOENT);
	CHECK(engine.resk_ensure_topic(text("unknown"), text("t"), 1, 1, 1) == RESK_ENOENT);
	CHECK(engine.resk_ensure_topic(text("nobody"), text("a/b"), 1, 1, 0) == RESK_EINVAL);
	CHECK(engine.resk_ensure_topic(text("nobody"), text(NULL), INT32_MIN, INT32_MAX, 0) == RESK_EINVAL);
	engine.resk_refused(UINT64_MAX, 4711, UINT64_MAX, text(NULL));
	for (i = 0; i < 10; i++) {
		char *printed = engine.resk_run(i, words, i % 4);

		engine.resk_free(printed);
		engine.resk_free(engine.resk_complete(i, words, i % 4, words[i % 3], i));
	}
	CHECK(!engine.resk_run(0, NULL, 0), "an empty command line is answered with the usage");
	engine.resk_stop(0);
	DONE();
}

static void *fetch(void *id)
{
	while (engine.resk_next(*(uint64_t *) id)) {
		/* nobody sends anything */
	}
	engine.resk_subscription_free(*(uint64_t *) id);
	return NULL;
}

/* A thread that waits for messages is let go by unsubscribing, and by the engine's end. */
void lets_waiting_threads_go(void)
{
	struct resk_entry group[] = {
		{ .file = "kafka.conf", .section = "group" },
		{ .file = "kafka.conf", .line = 2, .section = "group", .name = "type", .value = "connection" },
		{ .file = "kafka.conf", .line = 3, .section = "group", .name = "brokers", .value = "127.0.0.1:1" },
		{ .file = "kafka.conf", .line = 4, .section = "group", .name = "group_id", .value = "g" },
	};
	struct resk_delivery *delivery;
	uint64_t ids[2];
	pthread_t threads[2];
	int i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(group)) == RESK_OK);
	for (i = 0; i < 2; i++) {
		CHECK(engine.resk_subscribe(text("group"), text(" a , ,b"), &delivery, &ids[i]) == RESK_OK, "%s", host_log.last);
		CHECK(delivery && delivery->delivered == 0);
		pthread_create(&threads[i], NULL, fetch, &ids[i]);
	}
	engine.resk_unsubscribe(ids[0]);
	pthread_join(threads[0], NULL);
	CHECK(engine.resk_subscribe(text("group"), text(" , "), &delivery, &ids[0]) == RESK_EINVAL);
	engine.resk_stop(0);
	pthread_join(threads[1], NULL);
	DONE();
}

/* Stages a record for topic t that asks for a report, and hands it over. */
static void take_reported(uint64_t connection, uint64_t reports, uint64_t opaque)
{
	struct resk_frame_head head = { .topic_length = 1, .key_length = RESK_NULL, .value_length = RESK_NULL, .field_count = 1 };
	struct resk_field_head field = { .value_length = sizeof(struct resk_report_to), .kind = RESK_FIELD_REPORT };
	struct resk_report_to to = { .reports = reports, .opaque = opaque };
	_Alignas(8) unsigned char slab[sizeof(struct stage_frame) + sizeof(head) + 8 + sizeof(field) + sizeof(to)];
	struct stage_frame frame = { .state = STAGE_FRAME_READY };
	size_t at = sizeof(frame);

	memset(slab, 0, sizeof(slab));
	memcpy(slab + at, &head, sizeof(head));
	at += sizeof(head);
	slab[at++] = 't';
	memcpy(slab + at, &field, sizeof(field));
	at += sizeof(field);
	memcpy(slab + at, &to, sizeof(to));
	at += sizeof(to);
	frame.length = at - sizeof(frame);
	frame.size = (at + 7) / 8 * 8;
	memcpy(slab, &frame, sizeof(frame));
	/* Either way, in turn: the inbox first, which has room for all of these. */
	if (opaque % 2 || !inbox_put(limits.inbox, connection, slab, frame.size, 0)) {
		engine.resk_take(connection, slab, frame.size, 0);
	}
}

/* put_records fills a slab with frames of one topic and says how long they are in all. */
static size_t put_records(unsigned char *slab, const char *topics)
{
	struct resk_frame_head head = { .topic_length = 1, .key_length = RESK_NULL, .value_length = 100 };
	struct stage_frame frame = { .state = STAGE_FRAME_READY, .length = sizeof(head) + 101 };
	size_t at = 0;

	frame.size = (sizeof(frame) + frame.length + 7) / 8 * 8;
	memset(slab, 0, SLAB_BYTES);
	for (; *topics; topics++) {
		memcpy(slab + at, &frame, sizeof(frame));
		memcpy(slab + at + sizeof(frame), &head, sizeof(head));
		slab[at + sizeof(frame) + sizeof(head)] = *topics;
		at += frame.size;
	}
	return at;
}

/* The engine keeps a slab of one topic, and no other; when it is stopped it has given back all. */
void slabs_are_kept_and_given_back(void)
{
	static _Alignas(8) unsigned char slabs[4][SLAB_BYTES];
	struct stage_gate gate = { 0 };
	uint64_t connection = 0;
	unsigned int before = slabs_back;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &connection) == RESK_OK, "%s", host_log.last);
	CHECK(engine.resk_keep(connection, slabs[0], put_records(slabs[0], "tttttttttt"), slabs[0]) == 1);
	CHECK(engine.resk_keep(connection, slabs[1], put_records(slabs[1], "tttttttttt"), slabs[1]) == 1);
	CHECK(engine.resk_keep(connection, slabs[2], put_records(slabs[2], "ttttutttt"), slabs[2]) == 0);
	CHECK(engine.resk_keep(connection, slabs[2], 100, slabs[2]) == 0); /* in the middle of a frame */
	CHECK(engine.resk_keep(connection, slabs[2], 0, slabs[2]) == 0);
	CHECK(engine.resk_keep(connection + 1, slabs[3], put_records(slabs[3], "t"), slabs[3]) == 0);
	CHECK(slabs_back == before);
	engine.resk_stop(0);
	CHECK(slabs_back == before + 2, "%u", slabs_back - before);
	CHECK(engine.resk_keep(connection, slabs[3], put_records(slabs[3], "t"), slabs[3]) == 0);
	DONE();
}

/* What becomes of records when the engine stops is told after it has, to whoever asks, and then no more. */
void reports_outlive_the_stop(void)
{
	struct stage_gate gate = { 0 };
	struct resk_report_batch *batch;
	uint64_t connection = 0, reports[2] = { 0 }, seen = 0;
	size_t count = 0, i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	CHECK(engine.resk_producer_open(text("nobody"), &gate, &connection) == RESK_OK, "%s", host_log.last);
	CHECK(engine.resk_reports_open(&reports[0]) == RESK_OK && engine.resk_reports_open(&reports[1]) == RESK_OK);
	CHECK(reports[0] && reports[1] && reports[0] != reports[1]);
	for (i = 0; i < 64; i++) {
		take_reported(connection, reports[0], i);
		take_reported(connection, reports[1], i);
		take_reported(connection, UINT64_MAX, i); /* nobody */
	}
	engine.resk_reports_close(reports[1]);
	engine.resk_stop(0);
	while ((batch = engine.resk_reports_next(reports[0]))) {
		for (i = 0; i < batch->count; i++) {
			const struct resk_report *report = &batch->reports[i];

			CHECK(!strcmp(report->topic, "t") && report->partition == -1 && report->offset == -1);
			CHECK(report->error && strlen(report->error) > 3, "'%s'", report->error);
			seen |= 1ull << report->opaque;
		}
		count += batch->count;
		engine.resk_free(batch);
	}
	CHECK(count == 64 && seen == UINT64_MAX, "%zu reports", count);
	CHECK(!engine.resk_reports_next(reports[1]));
	engine.resk_reports_close(reports[0]);
	engine.resk_reports_close(reports[0]);
	CHECK(!engine.resk_reports_next(reports[0]));
	DONE();
}

void survives_its_own_faults(void)
{
	int i;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	for (i = 0; i < 10; i++) {
		CHECK(engine.resk_fault() == RESK_PANIC);
	}
	CHECK(errors_logged() > 10, "no stack in the log: %d", errors_logged());
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	engine.resk_stop(0);
	DONE();
}

static volatile int hammering;

static void *hammer(void *arg)
{
	struct stage_gate *gate = calloc(1, sizeof(*gate));
	struct resk_text words[] = { text("kafka"), text("show"), text("connection"), text("nobody") };
	uint64_t id;

	(void) arg;
	while (hammering) {
		engine.resk_producer_open(text("nobody"), gate, &id);
		engine.resk_configure(ENTRIES(nobody));
		engine.resk_free(engine.resk_run(1, words, 4));
		engine.resk_free(engine.resk_complete(1, words, 3, text("n"), 0));
		engine.resk_refused(id, RESK_REFUSED_TOPIC, 1, text("t"));
		engine.resk_take(id, (char[]) { "" }, 0, 0);
	}
	free(gate);
	return NULL;
}

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	while (dir && readdir(dir)) {
		n++;
	}
	if (dir) {
		closedir(dir);
	}
	return n;
}

/* What is being closed is given up to ten seconds until there are no more entries than that. Gives how many there are. */
static int settled_entries(const char *path, int most)
{
	struct timespec moment = { 0, 5000000 };
	int i;

	for (i = 0; i < 2000 && count_entries(path) > most; i++) {
		nanosleep(&moment, NULL);
	}
	return count_entries(path);
}

void bears_many_threads_and_restarts(void)
{
	int round, threads = 0, files = 0, left;

	log_reset();
	for (round = 0; round < 40; round++) {
		pthread_t workers[8];
		struct timespec moment = { 0, 5000000 };
		int i;

		log_reset();
		CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
		CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
		hammering = 1;
		for (i = 0; i < 8; i++) {
			pthread_create(&workers[i], NULL, hammer, NULL);
		}
		nanosleep(&moment, NULL);
		engine.resk_stop(0); /* in the middle of it: the threads call on and are told so */
		log_close();
		nanosleep(&moment, NULL);
		hammering = 0;
		for (i = 0; i < 8; i++) {
			pthread_join(workers[i], NULL);
		}
		CHECK(!host_log.after_close, "%d line(s) after resk_stop had returned", host_log.after_close);
		if (round == 9) {
			threads = count_entries("/proc/self/task");
			files = count_entries("/proc/self/fd");
		}
	}
	/* Go keeps its threads, and makes more of them the busier the machine is; what is looked for is one for each round. */
	left = count_entries("/proc/self/task");
	CHECK(left <= threads + 15, "threads grow: %d, then %d", threads, left);
	/* Threads have been added by now. */
	CHECK(!unblocked_in_others(SIGTERM, (int[]) { getpid() }, 1));
	left = settled_entries("/proc/self/fd", files);
	CHECK(left <= files, "descriptors grow: %d, then %d", files, left);
	DONE();
}
