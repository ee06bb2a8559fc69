/*
 * res_kafka: flush, close, stop and destroy, and what the taker itself may do. Built with a small STAGE_WAITING_MAX.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <stdatomic.h>

#include "check.h"

#define WRITERS 4

struct work {
	struct owner owner;
	atomic_bool enough;
	atomic_llong admitted;
	struct owner *other;   /* where the taker puts a frame for each it is given */
	atomic_bool held;      /* the taker waits as long as this is set */
	atomic_bool in_taker;
};

static void *put_until_closed(void *argument)
{
	struct work *work = argument;
	enum stage_result result;

	while ((result = put_bytes(work->owner.stage, 'a', 100, 1)) != STAGE_CLOSED) {
		if (result == STAGE_OK) {
			atomic_fetch_add(&work->admitted, 1);
		} else {
			/* The pump has no processor: let it have this one. */
			CHECK_EQUAL(result, STAGE_NO_MEMORY);
			sched_yield();
		}
	}
	return NULL;
}

/* Once the gate is shut and a flush has returned there is nothing more to come, however many are still knocking. */
static void close_and_flush(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	int round;

	for (round = 0; round < 50; round++) {
		struct work work = { 0 };
		pthread_t threads[WRITERS];
		int64_t frames;
		int i;

		owner_open(&work.owner, pump, round % 2 ? HOUR : 0);
		for (i = 0; i < WRITERS; i++) {
			threads[i] = start(put_until_closed, &work);
		}
		while (get(&work.owner.gate->admitted) < 100) {
			sched_yield();
		}
		set(&work.owner.gate->open, 0);
		stage_flush(work.owner.stage);
		frames = owner_get(&work.owner, &work.owner.frames);
		for (i = 0; i < WRITERS; i++) {
			pthread_join(threads[i], NULL);
		}
		CHECK_EQUAL(frames, work.admitted);
		CHECK_EQUAL(get(&work.owner.gate->admitted), work.admitted);
		stage_destroy(work.owner.stage);
		CHECK_EQUAL(work.owner.frames, work.admitted);
	}
	stage_pump_stop(pump);
}

/* Stop takes what is there, also what would have lingered, and notes; the stages may outlive the pump. */
static void stop_takes_everything(void)
{
	int round;

	for (round = 0; round < 50; round++) {
		struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
		struct work works[3] = { 0 };
		pthread_t threads[3];
		int i;

		for (i = 0; i < 3; i++) {
			owner_open(&works[i].owner, pump, i * i * i * HOUR);
			threads[i] = start(put_until_closed, &works[i]);
		}
		for (i = 0; i < 3; i++) {
			while (get(&works[i].owner.gate->admitted) < 10) {
				sched_yield();
			}
			stage_note(works[i].owner.stage, 2, "note", 4);
			set(&works[i].owner.gate->open, 0);
			pthread_join(threads[i], NULL);
		}
		if (round % 2) {
			stage_destroy(works[1].owner.stage);
		}
		stage_pump_stop(pump);
		for (i = 0; i < 3; i++) {
			CHECK_EQUAL(works[i].owner.frames, works[i].admitted);
			CHECK_EQUAL(works[i].owner.notes, 1);
			if (i != 1 || round % 2 == 0) {
				/* Nothing of this can be handed to anyone any more, but nothing hangs. */
				CHECK_EQUAL(put_bytes(works[i].owner.stage, 'a', 10, 1), STAGE_CLOSED);
				stage_note(works[i].owner.stage, 2, "late", 4);
				stage_flush(works[i].owner.stage);
				stage_destroy(works[i].owner.stage);
			}
		}
	}
}

static void *flush_often(void *argument)
{
	struct work *work = argument;

	while (!atomic_load(&work->enough)) {
		int64_t admitted = get(&work->owner.gate->admitted);

		stage_flush(work->owner.stage);
		CHECK(owner_get(&work->owner, &work->owner.frames) >= admitted);
	}
	return NULL;
}

static void flush_while_others_put(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct work work = { 0 };
	pthread_t flushers[2];
	pthread_t writers[2];
	int i;

	owner_open(&work.owner, pump, HOUR);
	for (i = 0; i < 2; i++) {
		flushers[i] = start(flush_often, &work);
		writers[i] = start(put_until_closed, &work);
	}
	owner_wait(&work.owner, &work.owner.frames, 20000);
	set(&work.owner.gate->open, 0);
	for (i = 0; i < 2; i++) {
		pthread_join(writers[i], NULL);
	}
	stage_flush(work.owner.stage);
	CHECK_EQUAL(work.owner.frames, work.admitted);
	atomic_store(&work.enough, true);
	for (i = 0; i < 2; i++) {
		pthread_join(flushers[i], NULL);
	}
	stage_destroy(work.owner.stage);
	stage_pump_stop(pump);
}

static void destroy_while_others_work(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct work steady = { 0 };
	pthread_t writer;
	int i;

	owner_open(&steady.owner, pump, MILLISECOND);
	writer = start(put_until_closed, &steady);
	for (i = 0; i < 500; i++) {
		struct owner passing = { 0 };
		int frames = i % 5;
		int j;

		owner_open(&passing, pump, i % 3 ? HOUR : 0);
		for (j = 0; j < frames; j++) {
			CHECK_EQUAL(put_bytes(passing.stage, 'p', i * 400 % 150000, 1), STAGE_OK);
		}
		if (i % 7 == 0) {
			stage_note(passing.stage, 0, "note", 4);
		}
		owner_close(&passing);
		/* Nobody calls back any more. */
		CHECK_EQUAL(passing.frames, frames);
		CHECK_EQUAL(passing.notes, i % 7 == 0);
	}
	set(&steady.owner.gate->open, 0);
	pthread_join(writer, NULL);
	stage_destroy(steady.owner.stage);
	CHECK_EQUAL(steady.owner.frames, steady.admitted);
	stage_pump_stop(pump);
}

static void hold(struct owner *owner, const struct stage_frame *frame)
{
	struct work *work = (struct work *) owner;

	(void) frame;
	atomic_store(&work->in_taker, true);
	while (atomic_load(&work->held)) {
		sched_yield();
	}
}

/* While the pump hangs in its taker, puts go on, refuse by limits, and in the end for want of memory; nothing that
 * was admitted is lost. */
static void a_taker_that_hangs(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct work work = { .owner.frame = hold };
	struct owner other = { 0 };
	enum stage_result result;
	int64_t admitted = 1;

	owner_open(&work.owner, pump, 0);
	owner_open(&other, pump, 0);
	atomic_store(&work.held, true);
	CHECK_EQUAL(put_bytes(work.owner.stage, 'a', 10, 1), STAGE_OK);
	while (!atomic_load(&work.in_taker)) {
		sched_yield();
	}
	while ((result = put_bytes(work.owner.stage, 'b', 10000, 1)) == STAGE_OK) {
		admitted++;
		CHECK(admitted < 100 * STAGE_WAITING_MAX / 10000);
	}
	CHECK_EQUAL(result, STAGE_NO_MEMORY);
	CHECK(admitted * 10000 > (int64_t) STAGE_WAITING_MAX / 2);
	CHECK_EQUAL(get(&work.owner.gate->held_frames), admitted);
	CHECK_EQUAL(get(&work.owner.gate->held_charge), admitted);
	/* What still fits the slab that was begun is admitted, and other stages have memory of their own. */
	CHECK_EQUAL(put_bytes(other.stage, 'c', 10000, 1), STAGE_OK);
	set(&work.owner.gate->max_frames, admitted);
	CHECK_EQUAL(put_bytes(work.owner.stage, 'd', 10, 1), STAGE_FULL_FRAMES);
	set(&work.owner.gate->max_frames, INT64_MAX);
	atomic_store(&work.held, false);
	stage_flush(work.owner.stage);
	CHECK_EQUAL(work.owner.frames, admitted);
	CHECK_EQUAL(put_bytes(work.owner.stage, 'e', 10000, 1), STAGE_OK);
	/* A single frame beyond it all still goes through. */
	CHECK_EQUAL(put_bytes(work.owner.stage, 'f', 2 * STAGE_WAITING_MAX, 1), STAGE_OK);
	owner_close(&work.owner);
	owner_close(&other);
	CHECK_EQUAL(work.owner.frames, admitted + 2);
	CHECK_EQUAL(other.frames, 1);
	stage_pump_stop(pump);
}

static void put_again(struct owner *owner, const struct stage_frame *frame)
{
	struct work *work = (struct work *) owner;

	CHECK_EQUAL(put_bytes(work->other->stage, 'x', frame->length, frame->charge), STAGE_OK);
	stage_note(work->other->stage, 1, "from the pump", 13);
	/* Its own stage is being destroyed when the last frames come. */
	put_bytes(work->owner.stage, 'y', 0, 0);
	stage_note(work->owner.stage, 1, "from the pump", 13);
}

/* A taker that puts and notes, on another stage and on its own, in the pump's thread and during the destruction. */
static void a_taker_that_puts(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	int round;

	for (round = 0; round < 200; round++) {
		struct owner other = { 0 };
		struct work work = { .owner.frame = put_again, .other = &other };
		int i;

		owner_open(&other, pump, 0);
		owner_open(&work.owner, pump, round % 2 ? HOUR : 0);
		set(&work.owner.gate->max_frames, 20);
		for (i = 0; i < 20; i++) {
			put_bytes(work.owner.stage, 'a', 10, 1);
		}
		owner_close(&work.owner);
		owner_close(&other);
		CHECK_EQUAL(work.owner.frames, 20);
		CHECK_EQUAL(other.frames, 20);
		CHECK_EQUAL(other.notes, 20);
	}
	stage_pump_stop(pump);
}

static void nothing_at_all(void)
{
	struct stage_pump *pump;
	struct owner owner = { 0 };

	stage_pump_stop(NULL);
	stage_destroy(NULL);
	pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	CHECK(pump != NULL);
	stage_pump_stop(pump);
	pump = stage_pump_start(&owner_taker, "", test_folder());
	owner_open(&owner, pump, 0);
	stage_flush(owner.stage);
	owner_close(&owner);
	CHECK_EQUAL(owner.calls, 0);
	stage_pump_stop(pump);
}

int main(void)
{
	RUN(close_and_flush);
	RUN(stop_takes_everything);
	RUN(flush_while_others_put);
	RUN(destroy_while_others_work);
	RUN(a_taker_that_hangs);
	RUN(a_taker_that_puts);
	RUN(nothing_at_all);
	return 0;
}
