/*
 * res_kafka: an engine that writes anything anywhere: into ring, gates and slabs, during puts and the pump's
 * work. The module is unharmed, waits for nothing, and works with the next engine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SHARED

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

#define STAGES  3
#define WRITERS 3
#define ROUNDS  8
#define ROUND   (200 * MILLISECOND)

static struct owner owners[STAGES];
static bool enough; /* atomic */

static uint64_t odd_value(uint64_t *random)
{
	static const uint64_t odd[] = {
		0, 1, 7, 8, 16, 24, 0xffff, 65536, UINT32_MAX, UINT64_C(1) << 32, INT64_MAX, (uint64_t) INT64_MIN, UINT64_MAX, UINT64_MAX - 7,
		STAGE_FRAME_DONE, STAGE_FRAME_READY, STAGE_SLAB_MAGIC, 300, 3000,
	};
	uint64_t lot = random_next(random);

	return lot % 3 ? odd[lot / 3 % (sizeof(odd) / sizeof(odd[0]))] : random_next(random);
}

/* scribble writes odd values to words of a part of memory. */
static void scribble(unsigned char *memory, size_t size, int many, uint64_t *random)
{
	while (size >= 8 && many--) {
		size_t at = random_next(random) % (size - 7);

		if (random_next(random) % 4) {
			at = at / 8 * 8;
			__atomic_store_n((uint64_t *) (memory + at), odd_value(random), __ATOMIC_RELAXED);
		} else {
			memory[at] = odd_value(random);
		}
	}
}

/* scribble_frames writes to reachable heads of frames. */
static void scribble_frames(unsigned char *slab, size_t end, uint64_t *random)
{
	size_t at = sizeof(struct stage_slab);
	int most = 100;

	while (at + sizeof(struct stage_frame) <= end && most--) {
		struct stage_frame *frame = (struct stage_frame *) (slab + at);
		uint32_t size = frame->size;
		uint32_t *fields = (uint32_t *) frame;

		if (random_next(random) % 8 == 0) {
			__atomic_store_n(&fields[random_next(random) % 4], odd_value(random), __ATOMIC_RELAXED);
		}
		if (size < 16 || size % 8 || size > end - at) {
			return;
		}
		at += size;
	}
}

static void scribble_slabs(unsigned char *memory, size_t size, uint64_t *random)
{
	size_t slabs = size / STAGE_SLAB_BYTES;
	unsigned char *slab;

	if (!slabs) {
		return;
	}
	slab = memory + random_next(random) % slabs * STAGE_SLAB_BYTES;
	switch (random_next(random) % 4) {
	case 0:
		scribble(slab, sizeof(struct stage_slab), 20, random);
		break;
	case 1:
		scribble(slab, STAGE_SLAB_BYTES, 20, random);
		break;
	default:
		scribble_frames(slab, STAGE_SLAB_BYTES, random);
	}
}

static size_t size_of(int file)
{
	struct stat status;

	return fstat(file, &status) ? 0 : status.st_size;
}

/* hostile_live is the engine. The engine's writes may end the engine. */
static void hostile_live(uint64_t random)
{
	int durable = rig_file(shared_folder, RESK_POOL_DURABLE, 0);
	unsigned char *plain_memory = rig_map(rig.memory.plain_file, 0, STAGE_BYTES_MAX);
	unsigned char *durable_memory = rig_map(durable, 0, STAGE_SHARED_MAX);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rig_remap();
	for (;;) {
		struct resk_control *control = rig.memory.control;

		switch (random_next(&random) % 6) {
		case 0:
			scribble((unsigned char *) &control->ring, sizeof(control->ring), 50, &random);
			break;
		case 1:
			scribble((unsigned char *) &control->ring, 3 * RESK_LINE, 2, &random);
			scribble((unsigned char *) &control->head, sizeof(control->head), 1, &random);
			break;
		case 2:
			scribble((unsigned char *) &control->gates[1 + random_next(&random) % STAGES], sizeof(control->gates[0]), 4, &random);
			break;
		case 3:
			__atomic_store_n(&control->gates[1 + random_next(&random) % STAGES].open, 1, __ATOMIC_RELAXED);
			__atomic_store_n(&control->gates[1 + random_next(&random) % STAGES].max_frames, 100000, __ATOMIC_RELAXED);
			__atomic_store_n(&control->gates[1 + random_next(&random) % STAGES].max_charge, INT64_MAX, __ATOMIC_RELAXED);
			__atomic_store_n(&control->gates[1 + random_next(&random) % STAGES].max_length, 1000000, __ATOMIC_RELAXED);
			__atomic_store_n(&control->ring.taken, __atomic_load_n(&control->ring.put, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
			break;
		case 4:
			scribble_slabs(plain_memory, size_of(rig.memory.plain_file), &random);
			break;
		default:
			scribble_slabs(durable_memory, size_of(durable), &random);
		}
	}
}

static void *write_frames(void *argument)
{
	uint64_t random = (uintptr_t) argument + 1;
	int64_t puts = 0;

	while (!__atomic_load_n(&enough, __ATOMIC_SEQ_CST)) {
		struct owner *owner = &owners[random_next(&random) % STAGES];
		size_t length = random_next(&random) % (random_next(&random) % 50 ? 500 : 150000);

		if (put_bytes(owner->stage, 'a', length, length) == STAGE_OK) {
			puts++;
		} else {
			usleep(100);
		}
	}
	return (void *) puts;
}

/* An engine in expectation of damage: every recognizable frame is finished. */
static void tolerate(void *context, void *frames, size_t length, int durable)
{
	struct owner *owner = context;
	size_t at = 0;

	(void) durable;
	while (length - at >= sizeof(struct stage_frame)) {
		struct stage_frame *frame = (struct stage_frame *) ((unsigned char *) frames + at);
		uint32_t charge = frame->charge;
		uint32_t size = frame->size;

		if (size < sizeof(*frame) || size % 8 || size > length - at) {
			return;
		}
		if (frame->state != STAGE_FRAME_DONE) {
			frame_done(frame);
			add(&owner->gate->done_charge, charge);
			add(&owner->gate->done_frames, 1);
		}
		at += size;
		add(&owner->frames, 1);
	}
}

static void open_gate(struct owner *owner, int64_t durable)
{
	*owner->gate = (struct resk_gate) {
		.max_frames = 100000, .max_charge = INT64_MAX / 2, .max_length = 1000000, .linger_ns = MILLISECOND, .shared = durable,
		.memory = INT64_MAX, .done_frames = get(&owner->gate->done_frames), .done_charge = get(&owner->gate->done_charge),
	};
	set(&owner->gate->open, 1);
}

/* do_everything makes all calls of the module, in parallel with the writers. */
static void do_everything(int64_t until)
{
	while (stage_now() < until) {
		for (int i = 0; i < STAGES; i++) {
			stage_note(owners[i].stage, i, 1, "note", 4);
			stage_ready(owners[i].stage);
			stage_publish(owners[i].stage);
			stage_admitted(owners[i].stage);
			stage_flush(owners[i].stage, MILLISECOND);
		}
	}
}

static void hostile_round(int round)
{
	const struct resk_head head = rig.memory.control->head;
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (!child) {
		hostile_live(round * 4711 + 1);
	}
	stage_pump_engine_new(rig.pump);
	do_everything(stage_now() + ROUND);
	kill(child, SIGKILL);
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	stage_pump_engine_lost(rig.pump);
	CHECK_EQUAL(memcmp(&head, &rig.memory.control->head, sizeof(head)), 0);
}

/* works_again checks that a stage admits frames, all frames arrive, and no frame is in use afterwards. */
static void works_again(struct owner *owner, int frames)
{
	int64_t admitted = stage_admitted(owner->stage);
	int64_t tries;
	int i;

	for (i = 0; i < frames; i++) {
		const struct slab *slab;

		for (tries = 0; put_bytes(owner->stage, 'b', 300, 300) != STAGE_OK; tries++) {
			CHECK(tries < FOREVER_SECONDS * 1000);
			usleep(1000);
		}
		/* After any writes to slab heads, reused slabs are readable for others. */
		slab = slab_of(&rig.pump->slabs, __atomic_load_n(&owner->stage->word, __ATOMIC_SEQ_CST));
		if (slab) {
			CHECK_EQUAL(slab->head->magic, STAGE_SLAB_MAGIC);
			CHECK_EQUAL(slab->head->size, STAGE_SLAB_BYTES);
			CHECK(strcmp(slab->head->label, "test") == 0);
		}
	}
	CHECK_EQUAL(stage_admitted(owner->stage), admitted + frames);
	flush(owner->stage);
}

/* let_reclaim waits until the pump has found all slabs of a stage done. */
static void let_reclaim(struct owner *owner)
{
	int64_t tries;

	for (tries = 0; __atomic_load_n(&owner->stage->done_frames, __ATOMIC_RELAXED) < stage_admitted(owner->stage); tries++) {
		CHECK(tries < FOREVER_SECONDS * 1000);
		usleep(1000);
	}
}

static void scribbles_everywhere(void)
{
	pthread_t writers[WRITERS];
	struct owner fresh = { 0 };
	uintptr_t i;

	rig = (struct rig) { .folder = shared_folder };
	CHECK_EQUAL(stage_memory_open(&rig.memory), 0);
	rig.pump = stage_pump_start(&rig.memory, owner_note, "test pump", shared_folder, 64 * 1024 * 1024);
	CHECK(rig.pump != NULL);
	for (i = 0; i < STAGES; i++) {
		owner_open(&owners[i], rig.pump, MILLISECOND);
		set(&owners[i].gate->shared, i % 2);
	}
	for (i = 0; i < WRITERS; i++) {
		writers[i] = start(write_frames, (void *) i);
	}
	for (i = 0; i < ROUNDS; i++) {
		hostile_round(i);
	}
	__atomic_store_n(&enough, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < WRITERS; i++) {
		void *puts;

		pthread_join(writers[i], &puts);
		CHECK((intptr_t) puts > 0);
	}
	/* Now a good engine; and another, before which the module counts the done frames. */
	rig.take = tolerate;
	for (i = 0; i < STAGES; i++) {
		open_gate(&owners[i], i % 2);
	}
	CHECK_EQUAL(pthread_create(&rig.thread, NULL, rig_run, NULL), 0);
	stage_pump_engine_new(rig.pump);
	for (i = 0; i < STAGES; i++) {
		flush(owners[i].stage);
		let_reclaim(&owners[i]);
	}
	rig_halt();
	stage_pump_engine_lost(rig.pump);
	CHECK_EQUAL(pthread_create(&rig.thread, NULL, rig_run, NULL), 0);
	stage_pump_engine_new(rig.pump);
	for (i = 0; i < STAGES; i++) {
		works_again(&owners[i], 1000);
		CHECK_EQUAL(held_frames(owners[i].stage), 0);
	}
	owner_open(&fresh, rig.pump, MILLISECOND);
	works_again(&fresh, 1000);
	CHECK_EQUAL(fresh.frames, 1000);
	CHECK_EQUAL(held_charge(fresh.stage), 0);
	owner_close(&fresh);
	for (i = 0; i < STAGES; i++) {
		owner_close(&owners[i]);
	}
	rig_stop();
}

int main(void)
{
	test_folder();
	RUN(scribbles_everywhere);
	return 0;
}
