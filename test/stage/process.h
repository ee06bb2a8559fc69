/*
 * res_kafka: an engine in a separate process, killed at any step.
 *
 * The process is a fork of the test, maps control memory and slabs by descriptor, and calls no function with
 * a lock of the C library: another thread of the test may have held such a lock.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_TEST_STAGE_PROCESS_H
#define RES_KAFKA_TEST_STAGE_PROCESS_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "check.h"

#define WRITERS 4
#define MOST    200000
#define NEVER   UINT64_MAX

/* Part of every content. */
struct mark {
	uint32_t writer;
	uint32_t sequence;
};

/* Memory shared by test and engine, beside the memory of module and engine. */
struct ledger {
	uint64_t steps;   /* of this engine */
	uint64_t kill_at; /* the last step */
	char error[256];  /* a fault found by an engine */
	bool stop;        /* the engine ends when there is nothing left */
	int64_t begun[WRITERS];
	int64_t returned[WRITERS];        /* puts with the result STAGE_OK */
	bool marking[WRITERS][MOST];      /* frames being marked as done, or marked, */
	bool finished[WRITERS][MOST];     /* and marked */
	int64_t again;                    /* frames already seen by an earlier engine */
	bool handed[WRITERS][MOST];
};

static struct ledger *ledger;

/* An unfinished frame of the engine. */
struct held {
	struct stage_frame *frame;
	struct resk_gate *gate;
};

#define HELD 256

struct engine {
	int64_t last[WRITERS]; /* sequence number of this engine's last frame */
	struct held held[HELD];
	uint64_t random;
};

static inline void wrong(const char *what, struct mark mark)
{
	snprintf(ledger->error, sizeof(ledger->error), "%s: frame %u of writer %u", what, mark.sequence, mark.writer);
	_exit(1);
}

static inline void engine_step(void)
{
	if (ledger->steps++ == ledger->kill_at) {
		kill(getpid(), SIGKILL);
	}
}

/* be_done marks and counts a done frame. */
static inline void be_done(const struct held *held)
{
	struct mark mark;
	uint32_t charge = held->frame->charge;

	memcpy(&mark, held->frame + 1, sizeof(mark));
	ledger->marking[mark.writer][mark.sequence] = true;
	engine_step();
	frame_done(held->frame);
	engine_step();
	__atomic_store_n(&ledger->finished[mark.writer][mark.sequence], true, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&held->gate->done_charge, charge, __ATOMIC_SEQ_CST);
	engine_step();
	__atomic_fetch_add(&held->gate->done_frames, 1, __ATOMIC_SEQ_CST);
	engine_step();
}

/* check_order checks a frame at its hand-over: no finished frame comes again, and no unfinished frame is left
 * out. */
static inline void check_order(struct engine *engine, struct mark mark)
{
	int64_t earlier;

	if (mark.writer >= WRITERS || mark.sequence >= ledger->begun[mark.writer]) {
		wrong("never put", mark);
	}
	if (ledger->finished[mark.writer][mark.sequence]) {
		wrong("handed over when it was done", mark);
	}
	if (mark.sequence <= engine->last[mark.writer]) {
		wrong("handed over twice, or behind a later one", mark);
	}
	for (earlier = engine->last[mark.writer] + 1; earlier < mark.sequence; earlier++) {
		if (!ledger->marking[mark.writer][earlier]) {
			wrong("handed over before an earlier one", mark);
		}
	}
	engine->last[mark.writer] = mark.sequence;
	ledger->again += ledger->handed[mark.writer][mark.sequence];
	ledger->handed[mark.writer][mark.sequence] = true;
}

static inline void get_frame(struct engine *engine, struct resk_gate *gate, struct stage_frame *frame)
{
	struct held held = { frame, gate };
	uint64_t lot = random_next(&engine->random);
	struct mark mark;

	memcpy(&mark, frame + 1, sizeof(mark));
	check_order(engine, mark);
	engine_step();
	if (lot % 3 == 0) { /* this frame later, and a waiting frame now */
		struct held swapped = engine->held[lot / 3 % HELD];

		engine->held[lot / 3 % HELD] = held;
		held = swapped;
	}
	if (held.frame) {
		be_done(&held);
	}
}

static inline void get_range(struct engine *engine, const struct resk_ring_entry *entry)
{
	unsigned char *frames = rig_frames(entry);
	struct mark none = { 0, 0 };
	uint32_t last = 0;
	size_t at = 0;

	while (at < entry->length) {
		struct stage_frame *frame = (struct stage_frame *) (frames + at);
		uint32_t state = __atomic_load_n(&frame->state, __ATOMIC_ACQUIRE);
		uint32_t size = frame->size; /* the slab may be reused as soon as its last frame is done */

		if (size < sizeof(*frame) || size % 8 || size > entry->length - at) {
			wrong("a frame runs past its range", none);
		}
		if (state == STAGE_FRAME_READY) {
			get_frame(engine, &rig.memory.control->gates[entry->id], frame);
		} else if (state != STAGE_FRAME_DONE) {
			wrong("a frame has no state", none);
		}
		last = state;
		at += size;
	}
	if (last != STAGE_FRAME_READY) {
		wrong("a range ends with a frame that is done, so its slab could be used again meanwhile", none);
	}
}

static inline void engine_live(void)
{
	static struct engine engine;
	struct resk_ring *ring;
	uint64_t taken = 0;
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rig_remap();
	ring = &rig.memory.control->ring;
	rig.usual[0] = rig.usual[1] = NULL;
	engine.random = (uint64_t) getpid() * 0x9e3779b97f4a7c15u + 1;
	for (i = 0; i < WRITERS; i++) {
		engine.last[i] = -1;
	}
	for (;;) {
		struct pollfd wake = { .fd = rig.memory.wake, .events = POLLIN };
		bool stop = __atomic_load_n(&ledger->stop, __ATOMIC_SEQ_CST);
		uint64_t count;

		while (taken != __atomic_load_n(&ring->put, __ATOMIC_SEQ_CST)) {
			struct resk_ring_entry entry = ring->entries[taken % RESK_RING];

			engine_step();
			get_range(&engine, &entry);
			__atomic_store_n(&ring->taken, ++taken, __ATOMIC_SEQ_CST);
			engine_step();
		}
		if (stop) {
			break;
		}
		__atomic_store_n(&ring->asleep, 1, __ATOMIC_SEQ_CST);
		engine_step();
		if (taken == __atomic_load_n(&ring->put, __ATOMIC_SEQ_CST)) {
			poll(&wake, 1, 20);
		}
		__atomic_store_n(&ring->asleep, 0, __ATOMIC_SEQ_CST);
		if (read(rig.memory.wake, &count, sizeof(count)) < 0) {
			continue; /* no wake-up */
		}
	}
	for (i = 0; i < HELD; i++) {
		if (engine.held[i].frame) {
			be_done(&engine.held[i]);
		}
	}
	_exit(0);
}

/* engine_start starts an engine that ends at step kill_at. */
static inline pid_t engine_start(uint64_t kill_at)
{
	pid_t child;

	ledger->kill_at = kill_at;
	ledger->steps = 0;
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		engine_live();
	}
	return child;
}

/* engine_wait waits for the engine's end, and returns whether the engine was killed. */
static inline bool engine_wait(pid_t child)
{
	int status;

	CHECK_EQUAL(waitpid(child, &status, 0), child);
	if (ledger->error[0]) {
		fprintf(stderr, "the engine that was to end at step %llu: %s\n", (unsigned long long) ledger->kill_at, ledger->error);
		exit(1);
	}
	CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
	return WIFSIGNALED(status);
}

#endif /* RES_KAFKA_TEST_STAGE_PROCESS_H */
