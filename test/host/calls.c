/*
 * res_kafka: the engine's answers to a module of another build, to correct and wrong calls, to many threads,
 * and during its stop.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <pthread.h>
#include <stdlib.h>

#include "build.h"
#include "host.h"

void greets(void)
{
	struct boundary_reader reader;

	CHECK(host_enter());
	CHECK(configure(NULL) == RESK_OK);
	begin(BOUNDARY_RUN);
	boundary_put_number(&request, 0);
	boundary_put_count(&request, 3);
	boundary_put_string(&request, "kafka");
	boundary_put_string(&request, "show");
	boundary_put_string(&request, "status");
	CHECK(ask_more(&reader));
	CHECK(strstr(boundary_get_string(&reader), "127.0.0.1:1"));
	begin(BOUNDARY_COMPLETE);
	boundary_put_number(&request, 1);
	boundary_put_count(&request, 3);
	boundary_put_string(&request, "kafka");
	boundary_put_string(&request, "show");
	boundary_put_string(&request, "connection");
	boundary_put_string(&request, "n");
	CHECK(ask_more(&reader));
	CHECK(boundary_get_count(&reader, 4) == 1 && !strcmp(boundary_get_string(&reader), "nobody"));
	DONE();
}

void refuses_another_build(void)
{
	CHECK(!host_enter_as(RESK_ABI_VERSION + 1, RESK_BUILD));
	CHECK(was_logged("it refuses to serve"));
	host_leave();
	CHECK(!host_enter_as(RESK_ABI_VERSION, "another"));
	CHECK(was_logged("another"));
	DONE();
}

/* The number of messages in an answer to next, -1 for `again` or an area. */
static int64_t next_count(struct boundary_reader *reader)
{
	uint64_t again = boundary_get_number(reader), area = boundary_get_number(reader), length = boundary_get_number(reader);

	return again || area || length ? -1 : (int64_t) boundary_get_count(reader, 1);
}

void refuses_bad_calls(void)
{
	struct boundary_reader reader;
	uint32_t i;

	CHECK(host_enter());
	CHECK(configure("lingr_ms=5") == RESK_EINVAL);
	CHECK(was_logged("lingr_ms"));
	CHECK(producer_open("nobody", 1) == RESK_ENOENT);
	CHECK(configure(NULL) == RESK_OK);
	CHECK(producer_open("unknown", 1) == RESK_ENOENT);
	CHECK(producer_open("nobody", 0) != RESK_OK);
	CHECK(producer_open("nobody", UINT64_MAX) != RESK_OK);
	CHECK(producer_open("nobody", 1) == RESK_OK);
	CHECK(memory.control->gates[1].open == 1 && memory.control->gates[1].max_weight == 1000000);
	begin(BOUNDARY_SOURCE_OPEN);
	boundary_put_string(&request, "no such kind");
	boundary_put_number(&request, 0);
	boundary_put_count(&request, 0);
	CHECK(ask() == RESK_ENOENT);
	for (i = 0; i < 3; i++) {
		begin(BOUNDARY_SUBSCRIBE);
		boundary_put_string(&request, i ? "nobody" : "unknown");
		boundary_put_string(&request, "t");
		boundary_put_number(&request, i == 2 ? UINT64_MAX : i);
		boundary_put_string(&request, "");
		boundary_put_string(&request, "");
		boundary_put_count(&request, 0);
		CHECK(ask() != RESK_OK); /* "nobody" is without a group_id */
	}
	begin(BOUNDARY_NEXT);
	boundary_put_number(&request, 77);
	boundary_put_number(&request, 1000);
	CHECK(ask_more(&reader) && next_count(&reader) == 0);
	number(BOUNDARY_UNSUBSCRIBE, UINT64_MAX);
	number(BOUNDARY_SUBSCRIPTION_FREE, UINT64_MAX);
	number(BOUNDARY_REPORTS_CLOSE, UINT64_MAX);
	begin(BOUNDARY_ENSURE_TOPIC);
	boundary_put_string(&request, "nobody");
	boundary_put_string(&request, "a/b");
	boundary_put_number(&request, (int64_t) INT32_MIN);
	boundary_put_number(&request, INT32_MAX);
	boundary_put_number(&request, 0);
	CHECK(ask() == RESK_EINVAL);
	begin(BOUNDARY_RUN);
	boundary_put_number(&request, 0);
	boundary_put_count(&request, 0);
	CHECK(ask_more(&reader) && !boundary_get_text(&reader, NULL), "an empty command line is answered with the usage");
	begin(BOUNDARY_RUN);
	boundary_put_number(&request, 4000000000u);
	boundary_put_count(&request, 0);
	ask_more(&reader);
	CHECK(engine_pid() && configure(NULL) == RESK_OK);
	DONE();
}

/* Invalid entries of the ring, and invalid frames: the engine takes neither, and continues. */
void refuses_noise(void)
{
	struct resk_ring *ring;
	unsigned int i;

	CHECK(host_enter());
	CHECK(configure(NULL) == RESK_OK && producer_open("nobody", 1) == RESK_OK);
	ring = &memory.control->ring;
	srandom(1);
	for (i = 0; i < 500; i++) {
		struct resk_ring_entry *entry = &ring->entries[ring->put % RESK_RING];
		uint64_t one = 1;

		*entry = (struct resk_ring_entry) {
			.id = random() % 3 ? 1 : random(), .pool = random() % 4, .slab = random() % 4 ? 0 : (uint64_t) random() << random() % 33,
			.start = random() % 4 ? sizeof(struct stage_slab) : (uint64_t) random() << random() % 33, .length = random() % 70000,
		};
		__atomic_fetch_add(&ring->put, 1, __ATOMIC_SEQ_CST);
		if (write(memory.wake, &one, sizeof(one)) < 0) {
			break;
		}
	}
	__atomic_store_n(&ring->put, UINT64_MAX, __ATOMIC_SEQ_CST);
	usleep(100000);
	__atomic_store_n(&ring->put, 0, __ATOMIC_SEQ_CST);
	CHECK(engine_pid());
	DONE();
}

static void *fetch(void *id)
{
	uint64_t generation = peer_wait(peer, 0);
	struct boundary_reader reader;

	do {
		begin(BOUNDARY_NEXT);
		boundary_put_number(&request, *(uint64_t *) id);
		boundary_put_number(&request, 1 << 20);
	} while (ask_more(&reader) && next_count(&reader) > 0 && peer_wait(peer, 0) == generation);
	number(BOUNDARY_SUBSCRIPTION_FREE, *(uint64_t *) id);
	return NULL;
}

/* Unsubscribe and the engine's end both release a thread waiting for messages. */
void lets_waiting_threads_go(void)
{
	uint64_t ids[2] = { 1, 2 };
	pthread_t threads[2];
	int i;

	CHECK(host_enter());
	CHECK(configure("group_id=g") == RESK_OK);
	for (i = 0; i < 2; i++) {
		begin(BOUNDARY_SUBSCRIBE);
		boundary_put_string(&request, "nobody");
		boundary_put_string(&request, " a , ,b");
		boundary_put_number(&request, ids[i]);
		boundary_put_string(&request, "");
		boundary_put_string(&request, "+b\n-b\n");
		boundary_put_count(&request, 0);
		CHECK(ask() == RESK_OK);
		pthread_create(&threads[i], NULL, fetch, &ids[i]);
	}
	number(BOUNDARY_UNSUBSCRIBE, ids[0]);
	pthread_join(threads[0], NULL);
	number(BOUNDARY_STOP, 0);
	pthread_join(threads[1], NULL);
	DONE();
}

/* Stages a record for topic t with a report. */
static enum stage_result put_reported(struct stage *stage, uint64_t reports, uint64_t opaque)
{
	struct resk_frame_head head = { .topic_length = 1, .key_length = RESK_NULL, .value_length = RESK_NULL, .field_count = 1 };
	struct resk_field_head field = { .value_length = sizeof(struct resk_report_to), .kind = RESK_FIELD_REPORT };
	struct resk_report_to to = { .reports = reports, .opaque = opaque };
	struct iovec parts[] = { { &head, sizeof(head) }, { "t", 1 }, { &field, sizeof(field) }, { &to, sizeof(to) } };

	return stage_put(stage, parts, 4, 0, true);
}

/* Outcomes of records at the engine's stop are reported afterwards to any caller, once. */
void reports_outlive_the_stop(void)
{
	struct boundary_reader reader;
	uint64_t seen = 0;
	uint32_t count = 0, more, i;
	struct stage *stage;

	CHECK(host_enter());
	CHECK(configure(NULL) == RESK_OK);
	stage = stage_create(pump, NULL, "nobody");
	CHECK(producer_open("nobody", stage_number(stage)) == RESK_OK);
	CHECK(number(BOUNDARY_REPORTS_OPEN, 1) == RESK_OK && number(BOUNDARY_REPORTS_OPEN, 2) == RESK_OK);
	for (i = 0; i < 64; i++) {
		CHECK(put_reported(stage, 1, i) == STAGE_OK);
		put_reported(stage, 2, i);
		put_reported(stage, UINT64_MAX, i); /* an unknown queue */
	}
	number(BOUNDARY_REPORTS_CLOSE, 2);
	stage_shut(stage);
	CHECK(stage_flush(stage, 10000000000LL));
	number(BOUNDARY_STOP, 0);
	do {
		begin(BOUNDARY_REPORTS_NEXT);
		boundary_put_number(&request, 1);
		boundary_put_number(&request, 0);
		CHECK(ask_more(&reader));
		more = boundary_get_count(&reader, 1);
		for (i = 0; i < more; i++) {
			seen |= 1ull << boundary_get_number(&reader);
			CHECK(!strcmp(boundary_get_string(&reader), "t"));
			CHECK(boundary_get_int32(&reader) == -1 && (int64_t) boundary_get_number(&reader) == -1);
			CHECK(strlen(boundary_get_string(&reader)) > 3);
		}
		count += more;
	} while (more);
	CHECK(count == 64 && seen == UINT64_MAX, "%u reports", count);
	stage_destroy(stage);
	DONE();
}

static volatile int hammering;

static void *hammer(void *unused)
{
	struct boundary_reader reader;

	while (hammering) {
		configure(NULL);
		producer_open("nobody", 1);
		begin(BOUNDARY_RUN);
		boundary_put_number(&request, 1);
		boundary_put_count(&request, 4);
		boundary_put_string(&request, "kafka");
		boundary_put_string(&request, "show");
		boundary_put_string(&request, "connection");
		boundary_put_string(&request, "nobody");
		ask_more(&reader);
		number(BOUNDARY_REPORTS_OPEN, 7);
		number(BOUNDARY_REPORTS_CLOSE, 7);
	}
	return unused;
}

void bears_many_threads(void)
{
	pthread_t threads[8];
	int i;

	CHECK(host_enter());
	CHECK(configure(NULL) == RESK_OK);
	hammering = 1;
	for (i = 0; i < 8; i++) {
		pthread_create(&threads[i], NULL, hammer, NULL);
	}
	usleep(300000);
	number(BOUNDARY_STOP, 0); /* in the middle: the threads continue to call and get an error */
	usleep(20000);
	hammering = 0;
	for (i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
	}
	CHECK(engine_pid());
	DONE();
}
