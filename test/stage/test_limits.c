/*
 * res_kafka: a stage at its limits refuses at once and keeps exact accounts, also with many writers.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
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
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	struct resk_gate *gate;

	owner_open(&owner, pump, 0);
	gate = owner.gate;
	set(&gate->open, 0);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 1, 1), STAGE_CLOSED);
	set(&gate->open, 1);
	set(&gate->max_length, 10);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 11, 1), STAGE_TOO_LONG);
	CHECK_EQUAL(held_frames(owner.stage), 0);
	CHECK_EQUAL(stage_admitted(owner.stage), 0);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	set(&gate->max_frames, 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_FULL_FRAMES);
	set(&gate->max_frames, 10);
	set(&gate->max_charge, 5);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 5), STAGE_FULL_CHARGE);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 4), STAGE_OK);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_FULL_CHARGE);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 0), STAGE_OK);
	CHECK_EQUAL(held_frames(owner.stage), 3);
	CHECK_EQUAL(held_charge(owner.stage), 5);
	CHECK_EQUAL(stage_admitted(owner.stage), 3);
	flush(owner.stage);
	CHECK_EQUAL(owner.frames, 3);
	CHECK_EQUAL(owner.charge, 5);
	add(&gate->done_frames, 3);
	add(&gate->done_charge, 5);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 1, 1), STAGE_OK);
	stage_shut(owner.stage);
	set(&gate->open, 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 1, 1), STAGE_CLOSED);
	owner_close(&owner);
	rig_stop();
}

static void heavy_frame_needs_an_empty_stage(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	struct resk_gate *gate;

	owner_open(&owner, pump, 0);
	gate = owner.gate;
	set(&gate->max_charge, 5);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, UINT32_MAX), STAGE_OK);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 0), STAGE_FULL_CHARGE);
	add(&gate->done_charge, (int64_t) UINT32_MAX);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 6), STAGE_FULL_CHARGE);
	add(&gate->done_frames, 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 6), STAGE_OK);
	add(&gate->done_frames, 1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 6), STAGE_FULL_CHARGE);
	owner_close(&owner);
	rig_stop();
}

static void lengths_that_no_frame_can_say(void)
{
	static char byte[1];
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	struct iovec huge = { byte, UINT32_MAX };
	struct iovec wrapping[] = { { byte, 1 }, { byte, SIZE_MAX }, { byte, 1 } };

	owner_open(&owner, pump, 0);
	/* These bytes do not exist: any read would crash. */
	CHECK_EQUAL(stage_put(owner.stage, &huge, 1, 0, false), STAGE_TOO_LONG);
	CHECK_EQUAL(stage_put(owner.stage, wrapping, 3, 0, false), STAGE_TOO_LONG);
	CHECK_EQUAL(stage_put(owner.stage, NULL, 0, 0, false), STAGE_OK);
	owner_close(&owner);
	CHECK_EQUAL(owner.frames, 1);
	CHECK_EQUAL(owner.bytes, 0);
	rig_stop();
}

/* The engine's count of done frames is used only if possible: no value admits more than the limits, and a
 * correct value counts again. */
static void counts_that_cannot_be(void)
{
	static const int64_t wrong[] = { -1, INT64_MIN, INT64_MAX, 4, 100 };
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	struct resk_gate *gate;
	size_t i;

	owner_open(&owner, pump, 0);
	gate = owner.gate;
	set(&gate->max_frames, 3);
	set(&gate->max_charge, 30);
	for (i = 0; i < 3; i++) {
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 10), STAGE_OK);
	}
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		set(&gate->done_frames, wrong[i]);
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 0), STAGE_FULL_FRAMES);
		set(&gate->done_charge, wrong[i] == 4 ? 31 : wrong[i]);
		set(&gate->max_frames, 4);
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_FULL_CHARGE);
		set(&gate->max_frames, 3);
	}
	set(&gate->done_frames, 1);
	set(&gate->done_charge, 10);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 10), STAGE_OK);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 10), STAGE_FULL_FRAMES);
	/* Nor do impossible limits. */
	set(&gate->done_frames, 4);
	set(&gate->done_charge, 40);
	set(&gate->max_frames, INT64_MIN);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 10), STAGE_FULL_FRAMES);
	set(&gate->max_frames, INT64_MAX);
	set(&gate->max_charge, -1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 0), STAGE_OK);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_FULL_CHARGE);
	set(&gate->max_length, -1);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 0, 0), STAGE_TOO_LONG);
	owner_close(&owner);
	rig_stop();
}

/* The crowd: constant writers, a thread to finish taken frames, a thread to watch. */
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
		/* Frames first: the charge of each counted frame is already in the other counter. */
		frames = atomic_exchange(&crowd->given, 0);
		charge = atomic_exchange(&crowd->given_charge, 0);
		add(&crowd->owner.gate->done_charge, charge);
		add(&crowd->owner.gate->done_frames, frames);
		sched_yield();
	} while (!done);
	return NULL;
}

/* watch_one checks the number in use at the read of put: done only grows. */
static void watch_one(const uint64_t *put_field, const int64_t *done_field, int64_t most)
{
	int64_t before = __atomic_load_n(done_field, __ATOMIC_ACQUIRE);
	int64_t put = __atomic_load_n(put_field, __ATOMIC_ACQUIRE);
	int64_t after = __atomic_load_n(done_field, __ATOMIC_ACQUIRE);

	CHECK(put - before >= 0);
	CHECK(put - after <= most);
}

static void *watch(void *argument)
{
	struct crowd *crowd = argument;

	while (!atomic_load(&crowd->done)) {
		const struct stage *stage = crowd->owner.stage;

		watch_one(&stage->put_frames, &crowd->owner.gate->done_frames, crowd->max_frames);
		watch_one(&stage->put_charge, &crowd->owner.gate->done_charge, crowd->max_charge);
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

/* crowd_at runs eight writers against the limits; watch_charge is the maximum ever in use. */
static void crowd_at(int64_t max_frames, int64_t max_charge, uint32_t charge, int64_t watch_charge, int64_t watch_frames)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
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
	flush(crowd.owner.stage);
	atomic_store(&crowd.done, true);
	pthread_join(giver, NULL);
	pthread_join(watcher, NULL);
	CHECK(crowd.admitted > 0);
	CHECK(crowd.refused > 0);
	CHECK_EQUAL(crowd.admitted + crowd.refused, 8 * (long long) crowd.puts);
	CHECK_EQUAL(stage_admitted(crowd.owner.stage), crowd.admitted);
	CHECK_EQUAL(get(&crowd.owner.gate->handed), crowd.admitted);
	CHECK_EQUAL(crowd.owner.frames, crowd.admitted);
	CHECK_EQUAL(held_frames(crowd.owner.stage), 0);
	CHECK_EQUAL(held_charge(crowd.owner.stage), 0);
	owner_close(&crowd.owner);
	rig_stop();
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

static char block[1024 * 1024];

/* large puts a frame of this many MiB. */
static enum stage_result large(struct owner *owner, int many)
{
	struct iovec parts[512];
	int i;

	for (i = 0; i < many; i++) {
		parts[i] = (struct iovec) { block, sizeof(block) };
	}
	return stage_put(owner->stage, parts, many, 1, false);
}

/* A frame without memory is refused and not counted; smaller frames continue. */
static void all_stages_together(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 64 * sizeof(block));
	struct owner owner = { 0 };
	struct owner other = { 0 };

	owner_open(&owner, pump, 0);
	owner_open(&other, pump, 0);
	owner.done_elsewhere = other.done_elsewhere = true;
	CHECK_EQUAL(large(&owner, 40), STAGE_OK);
	CHECK_EQUAL(large(&other, 40), STAGE_NO_MEMORY);
	CHECK_EQUAL(held_frames(other.stage), 0);
	CHECK_EQUAL(held_charge(other.stage), 0);
	CHECK_EQUAL(large(&other, 20), STAGE_OK);
	CHECK_EQUAL(large(&owner, 5), STAGE_NO_MEMORY);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	flush(owner.stage);
	flush(other.stage);
	CHECK_EQUAL(owner.frames, 2);
	CHECK_EQUAL(other.frames, 1);
	owner_close(&owner);
	owner_close(&other);
	rig_stop();
}

static size_t addresses_used(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages;

	CHECK(file != NULL);
	CHECK_EQUAL(fscanf(file, "%lu", &pages), 1);
	fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

/* By a limit of file sizes the process would be ended, and a limit of addresses is none of the first mapping's business. */
static void limits_of_the_process(void)
{
	struct rlimit size = { 8 * sizeof(block), 8 * sizeof(block) };
	struct rlimit addresses = { addresses_used() + 512 * sizeof(block), RLIM_INFINITY };
	struct stage_pump *pump;
	struct owner owner = { 0 };
	struct stage_memory memory;
	enum stage_result result;
	int puts = 0;

	CHECK_EQUAL(setrlimit(RLIMIT_AS, &addresses), 0);
	pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	CHECK(rig.memory.control->head.usual_bytes <= 64 * sizeof(block)); /* an eighth of the rest */
	addresses.rlim_cur = RLIM_INFINITY; /* the engine of this test is in the same process */
	CHECK_EQUAL(setrlimit(RLIMIT_AS, &addresses), 0);
	owner_open(&owner, pump, 0);
	owner.done_elsewhere = true;
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &size), 0);
	CHECK_EQUAL(large(&owner, 9), STAGE_NO_MEMORY);
	while ((result = put_bytes(owner.stage, 'a', 60000, 1)) == STAGE_OK) {
		puts++;
	}
	CHECK_EQUAL(result, STAGE_NO_MEMORY);
	CHECK(puts > 100);
	CHECK_EQUAL(held_frames(owner.stage), puts + 1);
	flush(owner.stage);
	CHECK_EQUAL(owner.frames, puts + 1);
	owner_close(&owner);
	rig_stop();
	size.rlim_cur = 1000;
	CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &size), 0);
	CHECK_EQUAL(stage_memory_open(&memory), EFBIG);
	exit(0);
}

/* In a separate process, because of the process's limits. */
static void no_memory(void)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		limits_of_the_process();
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
}

int main(void)
{
	RUN(refusals);
	RUN(heavy_frame_needs_an_empty_stage);
	RUN(lengths_that_no_frame_can_say);
	RUN(counts_that_cannot_be);
	RUN(crowd_at_a_frame_limit);
	RUN(crowd_at_a_charge_limit);
	RUN(crowd_of_heavy_frames);
	RUN(all_stages_together);
	if (!SANITIZED) {
		/* Sanitizers need more address space than any useful limit. */
		RUN(no_memory);
	}
	return 0;
}
