/*
 * res_kafka: a stage at its limits refuses at once and keeps exact accounts, also with many writers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void refusals(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct owner owner = { 0 };
	struct stage_gate *gate;

	owner_open(&owner, pump, 0);
	gate = owner.gate;
	set(&gate->open, 0);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 1, 1), STAGE_CLOSED);
	set(&gate->open, 1);
	set(&gate->max_length, 10);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 11, 1), STAGE_TOO_LONG);
	CHECK_EQUAL(get(&gate->held_frames), 0);
	CHECK_EQUAL(get(&gate->admitted), 0);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	set(&gate->max_frames, 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_FULL_FRAMES);
	set(&gate->max_frames, 10);
	set(&gate->max_charge, 5);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 5), STAGE_FULL_CHARGE);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 4), STAGE_OK);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_FULL_CHARGE);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 0), STAGE_OK);
	CHECK_EQUAL(get(&gate->held_frames), 3);
	CHECK_EQUAL(get(&gate->held_charge), 5);
	CHECK_EQUAL(get(&gate->admitted), 3);
	stage_flush(owner.stage);
	CHECK_EQUAL(owner.frames, 3);
	CHECK_EQUAL(owner.charge, 5);
	add(&gate->held_frames, -3);
	add(&gate->held_charge, -5);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 1, 1), STAGE_OK);
	stage_shut(owner.stage);
	set(&gate->open, 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 1, 1), STAGE_CLOSED);
	owner_close(&owner);
	stage_pump_stop(pump);
}

static void heavy_frame_needs_an_empty_stage(void)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct owner owner = { 0 };
	struct stage_gate *gate;

	owner_open(&owner, pump, 0);
	gate = owner.gate;
	set(&gate->max_charge, 5);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, UINT32_MAX), STAGE_OK);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 0), STAGE_FULL_CHARGE);
	add(&gate->held_charge, -(int64_t) UINT32_MAX);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 6), STAGE_FULL_CHARGE);
	add(&gate->held_frames, -1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 6), STAGE_OK);
	add(&gate->held_frames, -1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 6), STAGE_FULL_CHARGE);
	owner_close(&owner);
	stage_pump_stop(pump);
}

static void lengths_that_no_frame_can_say(void)
{
	static char byte[1];
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct owner owner = { 0 };
	struct iovec huge = { byte, UINT32_MAX };
	struct iovec wrapping[] = { { byte, 1 }, { byte, SIZE_MAX }, { byte, 1 } };

	owner_open(&owner, pump, 0);
	/* None of these bytes exist: a put that read any would crash. */
	CHECK_EQUAL(stage_put(owner.stage, &huge, 1, 0), STAGE_TOO_LONG);
	CHECK_EQUAL(stage_put(owner.stage, wrapping, 3, 0), STAGE_TOO_LONG);
	CHECK_EQUAL(stage_put(owner.stage, NULL, 0, 0), STAGE_OK);
	owner_close(&owner);
	CHECK_EQUAL(owner.frames, 1);
	CHECK_EQUAL(owner.bytes, 0);
	stage_pump_stop(pump);
}

/* The crowd: writers that never let up, one thread that gives back what the pump took, one that watches. */
struct crowd {
	struct owner owner;
	int64_t max_frames;
	int64_t max_charge;
	unsigned int puts; /* of each writer */
	uint32_t charge;   /* of each frame; 0 = random up to 100 */
	atomic_llong given;
	atomic_llong given_charge;
	atomic_bool done;
	atomic_llong admitted;
	atomic_llong refused;
};

static void give(struct owner *owner, const struct stage_frame *frame)
{
	struct crowd *crowd = (struct crowd *) owner;

	atomic_fetch_add(&crowd->given_charge, frame->charge);
	atomic_fetch_add(&crowd->given, 1);
}

static void *give_back(void *argument)
{
	struct crowd *crowd = argument;
	bool done;

	do {
		long long charge;
		long long frames;

		done = atomic_load(&crowd->done);
		/* Frames first: each one counted has its charge in the other counter already. */
		frames = atomic_exchange(&crowd->given, 0);
		charge = atomic_exchange(&crowd->given_charge, 0);
		add(&crowd->owner.gate->held_charge, -charge);
		add(&crowd->owner.gate->held_frames, -frames);
		sched_yield();
	} while (!done);
	return NULL;
}

static void *watch(void *argument)
{
	struct crowd *crowd = argument;

	while (!atomic_load(&crowd->done)) {
		int64_t frames = get(&crowd->owner.gate->held_frames);
		int64_t charge = get(&crowd->owner.gate->held_charge);

		CHECK(frames >= 0 && frames <= crowd->max_frames);
		CHECK(charge >= 0 && charge <= crowd->max_charge);
		sched_yield();
	}
	return NULL;
}

static void *hammer(void *argument)
{
	struct crowd *crowd = argument;
	uint64_t random = (uintptr_t) &random | 1;
	unsigned int i;

	for (i = 0; i < crowd->puts; i++) {
		uint32_t charge = crowd->charge ? crowd->charge : random_next(&random) % 101;
		enum stage_result result = put_bytes(crowd->owner.stage, 'a', random_next(&random) % 64, charge);

		if (result == STAGE_OK) {
			atomic_fetch_add(&crowd->admitted, 1);
		} else {
			CHECK(result == STAGE_FULL_FRAMES || result == STAGE_FULL_CHARGE);
			atomic_fetch_add(&crowd->refused, 1);
			sched_yield();
		}
	}
	return NULL;
}

/* crowd_at runs eight writers against the limits; watch_charge is the most that may ever be held. */
static void crowd_at(int64_t max_frames, int64_t max_charge, uint32_t charge, int64_t watch_charge, int64_t watch_frames)
{
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct crowd crowd = { .owner.frame = give, .max_frames = watch_frames, .max_charge = watch_charge, .charge = charge };
	pthread_t writers[8];
	pthread_t giver;
	pthread_t watcher;
	int i;

	crowd.puts = SANITIZED ? 4000 : 20000;
	owner_open(&crowd.owner, pump, 0);
	set(&crowd.owner.gate->max_frames, max_frames);
	set(&crowd.owner.gate->max_charge, max_charge);
	giver = start(give_back, &crowd);
	watcher = start(watch, &crowd);
	for (i = 0; i < 8; i++) {
		writers[i] = start(hammer, &crowd);
	}
	for (i = 0; i < 8; i++) {
		pthread_join(writers[i], NULL);
	}
	stage_flush(crowd.owner.stage);
	atomic_store(&crowd.done, true);
	pthread_join(giver, NULL);
	pthread_join(watcher, NULL);
	CHECK(crowd.admitted > 0);
	CHECK(crowd.refused > 0);
	CHECK_EQUAL(crowd.admitted + crowd.refused, 8 * (long long) crowd.puts);
	CHECK_EQUAL(get(&crowd.owner.gate->admitted), crowd.admitted);
	CHECK_EQUAL(get(&crowd.owner.gate->taken), crowd.admitted);
	CHECK_EQUAL(crowd.owner.frames, crowd.admitted);
	CHECK_EQUAL(get(&crowd.owner.gate->held_frames), 0);
	CHECK_EQUAL(get(&crowd.owner.gate->held_charge), 0);
	owner_close(&crowd.owner);
	stage_pump_stop(pump);
}

static void crowd_at_a_frame_limit(void)
{
	crowd_at(5, INT64_MAX / 2, 0, 5 * 100, 5);
}

static void crowd_at_a_charge_limit(void)
{
	crowd_at(INT64_MAX / 2, 300, 0, 300, INT64_MAX);
}

static void crowd_of_heavy_frames(void)
{
	crowd_at(INT64_MAX / 2, 300, 1000, 1000, 1);
}

static void fill_past_the_data_limit(void)
{
	static char block[1024 * 1024];
	struct iovec parts[512];
	struct rlimit limit = { 128 * 1024 * 1024, 128 * 1024 * 1024 };
	struct stage_pump *pump = stage_pump_start(&owner_taker, "test pump", test_folder());
	struct owner owner = { 0 };
	int i;

	owner_open(&owner, pump, 0);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	CHECK_EQUAL(setrlimit(RLIMIT_DATA, &limit), 0);
	for (i = 0; i < 512; i++) {
		parts[i] = (struct iovec) { block, sizeof(block) };
	}
	CHECK_EQUAL(stage_put(owner.stage, parts, 512, 1), STAGE_NO_MEMORY);
	CHECK_EQUAL(get(&owner.gate->held_frames), 1);
	CHECK_EQUAL(get(&owner.gate->held_charge), 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	stage_flush(owner.stage);
	CHECK_EQUAL(owner.frames, 2);
	owner_close(&owner);
	stage_pump_stop(pump);
	exit(0);
}

/* In a process of its own, which the limit does not outlive. */
static void no_memory(void)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		fill_past_the_data_limit();
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
}

int main(void)
{
	RUN(refusals);
	RUN(heavy_frame_needs_an_empty_stage);
	RUN(lengths_that_no_frame_can_say);
	RUN(crowd_at_a_frame_limit);
	RUN(crowd_at_a_charge_limit);
	RUN(crowd_of_heavy_frames);
	if (!SANITIZED) {
		/* Sanitizers need more address space than any limit that would show something. */
		RUN(no_memory);
	}
	return 0;
}
