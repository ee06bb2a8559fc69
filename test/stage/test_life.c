/*
 * res_kafka: flush, close, stop and destroy, and the engine's possible actions meanwhile.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "check.h"

#define WRITERS 4

/* Bytes of slabs where the engine hangs. */
#define LIMIT (4 * 1024 * 1024)

struct work {
	struct owner owner;
	atomic_bool enough;
	atomic_llong admitted;
	struct owner *other;   /* destination of a frame for each taken frame */
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
			/* The pump has no processor: yield this processor. */
			CHECK_EQUAL(result, STAGE_NO_MEMORY);
			sched_yield();
		}
	}
	return NULL;
}

/* Once the gate is shut and a flush has returned there is nothing more to come, however many are still knocking. */
static void close_and_flush(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
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
		while (stage_admitted(work.owner.stage) < 100) {
			sched_yield();
		}
		set(&work.owner.gate->open, 0);
		flush(work.owner.stage);
		frames = owner_get(&work.owner, &work.owner.frames);
		for (i = 0; i < WRITERS; i++) {
			pthread_join(threads[i], NULL);
		}
		CHECK_EQUAL(frames, work.admitted);
		CHECK_EQUAL(stage_admitted(work.owner.stage), work.admitted);
		owner_destroy(&work.owner);
		CHECK_EQUAL(work.owner.frames, work.admitted);
	}
	rig_stop();
}

/* Stop hands over everything, including lingering frames and notes; the stages may outlive the pump. */
static void stop_takes_everything(void)
{
	int round;

	for (round = 0; round < 50; round++) {
		struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
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
			stage_note(works[i].owner.stage, 2, 1, "note", 4);
			set(&works[i].owner.gate->open, 0);
			pthread_join(threads[i], NULL);
		}
		if (round % 2) {
			owner_destroy(&works[1].owner);
		}
		stage_pump_stop(rig.pump);
		rig_end();
		for (i = 0; i < 3; i++) {
			CHECK_EQUAL(works[i].owner.frames, works[i].admitted);
			CHECK_EQUAL(works[i].owner.notes, 1);
			if (i != 1 || round % 2 == 0) {
				/* The pump can no longer hand over these frames, but every call returns. */
				CHECK_EQUAL(put_bytes(works[i].owner.stage, 'a', 10, 1), STAGE_CLOSED);
				stage_note(works[i].owner.stage, 2, 1, "late", 4);
				CHECK(stage_flush(works[i].owner.stage, SECOND) == false);
				stage_destroy(works[i].owner.stage);
			}
		}
		stage_memory_close(&rig.memory);
	}
}

static void *flush_often(void *argument)
{
	struct work *work = argument;

	while (!atomic_load(&work->enough)) {
		int64_t admitted = stage_admitted(work->owner.stage);

		flush(work->owner.stage);
		CHECK(owner_get(&work->owner, &work->owner.frames) >= admitted);
	}
	return NULL;
}

static void flush_while_others_put(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
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
	flush(work.owner.stage);
	CHECK_EQUAL(work.owner.frames, work.admitted);
	atomic_store(&work.enough, true);
	for (i = 0; i < 2; i++) {
		pthread_join(flushers[i], NULL);
	}
	owner_destroy(&work.owner);
	rig_stop();
}

static void destroy_while_others_work(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
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
			stage_note(passing.stage, 0, 1, "note", 4);
		}
		owner_close(&passing);
		/* No further callback comes. */
		CHECK_EQUAL(passing.frames, frames);
		CHECK_EQUAL(passing.notes, i % 7 == 0);
	}
	set(&steady.owner.gate->open, 0);
	pthread_join(writer, NULL);
	owner_destroy(&steady.owner);
	CHECK_EQUAL(steady.owner.frames, steady.admitted);
	rig_stop();
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

/* While the pump hangs in its taker, puts continue, are refused by limits, and in the end by memory; no
 * admitted frame is lost. */
static void an_engine_that_hangs(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), LIMIT);
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
	CHECK_EQUAL(put_bytes(other.stage, 'c', 10000, 1), STAGE_OK);
	while ((result = put_bytes(work.owner.stage, 'b', 10000, 1)) == STAGE_OK) {
		admitted++;
		CHECK(admitted < LIMIT / 10000);
	}
	CHECK_EQUAL(result, STAGE_NO_MEMORY);
	CHECK(admitted * 10000 > (int64_t) LIMIT / 2);
	CHECK_EQUAL(held_frames(work.owner.stage), admitted);
	CHECK_EQUAL(held_charge(work.owner.stage), admitted);
	/* A frame that fits a started slab is admitted. */
	CHECK_EQUAL(put_bytes(other.stage, 'c', 10000, 1), STAGE_OK);
	set(&work.owner.gate->max_frames, admitted);
	CHECK_EQUAL(put_bytes(work.owner.stage, 'd', 10, 1), STAGE_FULL_FRAMES);
	set(&work.owner.gate->max_frames, INT64_MAX);
	atomic_store(&work.held, false);
	flush(work.owner.stage);
	CHECK_EQUAL(work.owner.frames, admitted);
	while (put_bytes(work.owner.stage, 'e', 10000, 1) != STAGE_OK) {
		sched_yield(); /* until the pump has found the done frames */
	}
	owner_close(&work.owner);
	owner_close(&other);
	CHECK_EQUAL(work.owner.frames, admitted + 1);
	CHECK_EQUAL(other.frames, 2);
	rig_stop();
}

static void put_again(struct owner *owner, const struct stage_frame *frame)
{
	struct work *work = (struct work *) owner;

	CHECK_EQUAL(put_bytes(work->other->stage, 'x', frame->length, frame->charge), STAGE_OK);
	stage_note(work->other->stage, 1, 1, "from the engine", 15);
}

/* In the pump's thread, maybe while the stage is destroyed. */
static void note_again(struct owner *owner, unsigned int slot, uint64_t count, const char *text)
{
	(void) count;
	(void) text;
	put_bytes(owner->stage, 'y', 0, 0);
	if (slot == 0) {
		stage_note(owner->stage, 1, 1, "from the pump", 13);
	}
}

/* Puts and notes from the engine's side, and from the pump's thread on its reporting stage. */
static void puts_from_everywhere(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	int round;

	for (round = 0; round < 200; round++) {
		struct owner other = { 0 };
		struct work work = { .owner.frame = put_again, .owner.noted = note_again, .other = &other };
		int i;

		owner_open(&other, pump, 0);
		owner_open(&work.owner, pump, round % 2 ? HOUR : 0);
		set(&work.owner.gate->max_frames, 20);
		for (i = 0; i < 20; i++) {
			put_bytes(work.owner.stage, 'a', 10, 1);
		}
		stage_note(work.owner.stage, 0, 1, "note", 4);
		owner_close(&work.owner);
		owner_close(&other);
		CHECK_EQUAL(work.owner.frames, 20);
		CHECK_EQUAL(other.frames, 20);
		CHECK_EQUAL(other.notes, 20);
	}
	rig_stop();
}

/* dies_of returns the signal that ends a child which writes to memory. */
static int dies_of(volatile unsigned char *memory)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (!child) {
		signal(SIGSEGV, SIG_DFL); /* sanitizers use the signal differently */
		signal(SIGBUS, SIG_DFL);
		*memory = 1;
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* A forked child, as Asterisk has many, can write nothing into the stage. */
static void not_in_a_child(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	struct slab *slab;

	owner_open(&owner, pump, HOUR);
	owner.done_elsewhere = true;
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	slab = slab_of(&pump->slabs, owner.stage->word);
	CHECK_EQUAL(dies_of((unsigned char *) owner.gate), SIGSEGV);
	CHECK_EQUAL(dies_of(slab->frames), SIGSEGV);
	CHECK_EQUAL(put_bytes(owner.stage, 'b', 200000, 1), STAGE_OK);
	/* This thread made the slab, and the pump may have removed it from the stage. */
	for (slab = &pump->slabs.slabs[1]; !slab_is_large(slab); slab++) {
		CHECK(slab < &pump->slabs.slabs[pump->slabs.numbers]);
	}
	CHECK_EQUAL(dies_of(slab->frames), SIGSEGV);
	owner_close(&owner);
	rig_stop();
}

static void nothing_at_all(void)
{
	struct stage_pump *pump;
	struct owner owner = { 0 };

	stage_pump_stop(NULL);
	stage_destroy(NULL);
	pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	CHECK(pump != NULL);
	rig_stop();
	pump = rig_start(owner_take, owner_note, "", test_folder(), 0);
	owner_open(&owner, pump, 0);
	flush(owner.stage);
	owner_close(&owner);
	CHECK_EQUAL(owner.calls, 0);
	rig_stop();
}

int main(void)
{
	RUN(close_and_flush);
	RUN(stop_takes_everything);
	RUN(flush_while_others_put);
	RUN(destroy_while_others_work);
	RUN(an_engine_that_hangs);
	RUN(puts_from_everywhere);
	RUN(not_in_a_child);
	RUN(nothing_at_all);
	return 0;
}
