/*
 * res_kafka: the engine dies at every step and at any time, and a new engine takes over. Every frame is
 * handed over until done, in the order of its writer, and not afterwards.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SHARED

#include "process.h"

#define STAGES 2

struct world {
	struct owner owners[STAGES];
	pthread_t writers[WRITERS];
	bool enough;     /* atomic */
	int64_t refused; /* atomic */
};

static struct world world;

/* Frames shown by the pump for a new engine: the number of the engine, by frame. */
static int shown[WRITERS][MOST];
static int generation;
static int ends; /* number of ends of the list */

static void show_frame(const void *content, uint32_t length)
{
	struct mark mark;

	if (!content) {
		ends++;
		return;
	}
	CHECK(length >= sizeof(mark));
	memcpy(&mark, content, sizeof(mark));
	CHECK(mark.writer < WRITERS && mark.sequence < ledger->begun[mark.writer]);
	CHECK(!ledger->finished[mark.writer][mark.sequence]);
	CHECK(shown[mark.writer][mark.sequence] < generation);
	shown[mark.writer][mark.sequence] = generation;
}

/* check_shown checks that the pump has shown every frame of the repeated hand-over. */
static void check_shown(const int64_t returned[WRITERS])
{
	int i;

	CHECK_EQUAL(ends, generation);
	for (i = 0; i < WRITERS; i++) {
		int64_t frame;

		for (frame = 0; frame < returned[i]; frame++) {
			CHECK(shown[i][frame] == generation || ledger->marking[i][frame]);
		}
	}
}

/* Usually some hundred bytes; sometimes a slab's size and more. */
static size_t length_of(uint64_t *random)
{
	return sizeof(struct mark) + random_next(random) % (random_next(random) % 100 ? 800 : 150000);
}

static void *write_frames(void *argument)
{
	struct mark mark = { .writer = (uintptr_t) argument };
	uint64_t random = mark.writer + 4711;
	unsigned char *content = calloc(1, 200000);

	CHECK(content != NULL);
	while (!__atomic_load_n(&world.enough, __ATOMIC_SEQ_CST) && mark.sequence < MOST) {
		struct iovec part = { content, length_of(&random) };
		struct stage *stage = world.owners[mark.writer % STAGES].stage;

		memcpy(content, &mark, sizeof(mark));
		__atomic_store_n(&ledger->begun[mark.writer], mark.sequence + 1, __ATOMIC_SEQ_CST);
		if (stage_put(stage, &part, 1, 1 + random_next(&random) % 100, false) == STAGE_OK) {
			__atomic_store_n(&ledger->returned[mark.writer], ++mark.sequence, __ATOMIC_SEQ_CST);
		} else {
			add(&world.refused, 1);
			usleep(1000);
		}
		if (random_next(&random) % 32 == 0) {
			usleep(random_next(&random) % 400);
		}
	}
	free(content);
	return NULL;
}

static void world_open(int64_t linger)
{
	uintptr_t i;

	memset(ledger, 0, sizeof(*ledger));
	memset(&world, 0, sizeof(world));
	rig = (struct rig) { .folder = shared_folder };
	CHECK_EQUAL(stage_memory_open(&rig.memory), 0);
	rig.pump = stage_pump_start(&rig.memory, owner_note, "test pump", shared_folder, 24 * 1024 * 1024);
	CHECK(rig.pump != NULL);
	memset(shown, 0, sizeof(shown));
	generation = ends = 0;
	stage_pump_again(rig.pump, show_frame);
	for (i = 0; i < STAGES; i++) {
		owner_open(&world.owners[i], rig.pump, linger);
		set(&world.owners[i].gate->max_frames, 3000);
		set(&world.owners[i].gate->shared, i);
	}
	for (i = 0; i < WRITERS; i++) {
		world.writers[i] = start(write_frames, (void *) i);
	}
}

/* check_gates checks the module's counts of done frames before a new engine gets its first entry: no less
 * than certainly done, and no more than possibly done. */
static void check_gates(void)
{
	int64_t done[STAGES] = { 0 };
	int64_t maybe[STAGES] = { 0 };
	int64_t frames;
	int i;

	for (i = 0; i < WRITERS; i++) {
		for (frames = 0; frames < ledger->begun[i]; frames++) {
			done[i % STAGES] += ledger->finished[i][frames];
			maybe[i % STAGES] += ledger->marking[i][frames];
		}
	}
	for (i = 0; i < STAGES; i++) {
		frames = get(&world.owners[i].gate->done_frames);
		if (frames < done[i] || frames > maybe[i]) {
			fprintf(stderr, "stage %d: %lld frames are done by the gate, between %lld and %lld by the engines; after step %llu\n", i, (long long) frames,
				(long long) done[i], (long long) maybe[i], (unsigned long long) ledger->kill_at);
			exit(1);
		}
	}
}

static void wait_until_open(void)
{
	while (!__atomic_load_n(&rig.pump->ring.open, __ATOMIC_ACQUIRE)) {
		sched_yield();
	}
}

/* one_engine lets an engine live until kill_at, or for this many microseconds. */
static void one_engine(uint64_t kill_at, useconds_t after, bool early)
{
	int64_t returned[WRITERS];
	pid_t child = -1;
	int i;

	generation++;
	for (i = 0; i < WRITERS; i++) {
		returned[i] = get(&ledger->returned[i]);
	}
	/* The engine may begin to read the ring before or after the pump's first entry. */
	if (early) {
		child = engine_start(kill_at);
		stage_pump_engine_new(rig.pump);
		wait_until_open();
	} else {
		for (i = 0; i < STAGES; i++) {
			set(&world.owners[i].gate->follows, 1); /* like a dead engine's leftover: no engine follows now */
		}
		stage_pump_engine_new(rig.pump);
		wait_until_open();
		for (i = 0; i < STAGES; i++) {
			CHECK_EQUAL(get(&world.owners[i].gate->follows), 0);
		}
		check_gates();
		check_shown(returned);
		child = engine_start(kill_at);
	}
	if (after) {
		usleep(after);
		kill(child, after % 2 ? SIGSTOP : SIGKILL);
		usleep(after % 1000);
		kill(child, SIGKILL);
	}
	CHECK(engine_wait(child));
	stage_pump_engine_lost(rig.pump);
}

/* world_close lets a last engine take the rest, and checks that nothing is left. */
static void world_close(void)
{
	int64_t puts[STAGES] = { 0 };
	pid_t child;
	int i;

	__atomic_store_n(&world.enough, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < WRITERS; i++) {
		pthread_join(world.writers[i], NULL);
		puts[i % STAGES] += ledger->returned[i];
	}
	generation++;
	child = engine_start(NEVER);
	stage_pump_engine_new(rig.pump);
	for (i = 0; i < STAGES; i++) {
		CHECK(stage_flush(world.owners[i].stage, FOREVER_SECONDS * SECOND));
	}
	__atomic_store_n(&ledger->stop, true, __ATOMIC_SEQ_CST);
	CHECK(!engine_wait(child));
	for (i = 0; i < WRITERS; i++) {
		int64_t frame;

		for (frame = 0; frame < ledger->returned[i]; frame++) {
			/* A kill right after the mark is possible; the gates below count the frame. */
			CHECK(ledger->marking[i][frame]);
		}
	}
	for (i = 0; i < STAGES; i++) {
		CHECK_EQUAL(stage_admitted(world.owners[i].stage), puts[i]);
		CHECK_EQUAL(get(&world.owners[i].gate->done_frames), puts[i]);
		CHECK_EQUAL(held_frames(world.owners[i].stage), 0);
		CHECK_EQUAL(held_charge(world.owners[i].stage), 0);
		set(&world.owners[i].gate->open, 0);
		stage_destroy(world.owners[i].stage);
	}
	CHECK(rig.pump->orphans == NULL);
	stage_pump_stop(rig.pump);
	stage_memory_close(&rig.memory);
	rig.pump = NULL;
}

static void killed_at_every_step(void)
{
	uint64_t step;

	world_open(MILLISECOND);
	for (step = 0; step < 150; step++) {
		one_engine(step, 0, step % 2);
	}
	world_close();
	CHECK(ledger->again > 0);
}

static void killed_at_steps_by_lot(void)
{
	uint64_t random = 4711;
	int i;

	world_open(0);
	for (i = 0; i < 60; i++) {
		one_engine(random_next(&random) % 20000, 0, i % 2);
	}
	world_close();
	CHECK(ledger->again > 0);
}

static void killed_at_any_time(void)
{
	uint64_t random = 42;
	int i;

	world_open(5 * MILLISECOND);
	for (i = 0; i < 60; i++) {
		one_engine(NEVER, 1 + random_next(&random) % 30000, i % 2);
	}
	world_close();
	CHECK(ledger->again > 0);
}

/* Without an engine writers fill the stage and are then refused; no thread waits, and the pump sleeps. */
static void no_engine_for_long(void)
{
	world_open(MILLISECOND);
	while (get(&world.refused) < 50) {
		usleep(1000);
	}
	CHECK_EQUAL(stage_flush(world.owners[0].stage, MILLISECOND), false);
	world_close();
	CHECK(ledger->again == 0);
}

int main(void)
{
	test_folder();
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(ledger != MAP_FAILED);
	RUN(no_engine_for_long);
	RUN(killed_at_every_step);
	RUN(killed_at_steps_by_lot);
	RUN(killed_at_any_time);
	return 0;
}
