/*
 * res_kafka: a process that stages frames is killed, at every step and at any time, and the files are read.
 *
 * Built with STAGE_STEPS, the stage calls stage_step at every moment distinguishable for a reader of the
 * files. A child is killed at the first step, the second, and so on, later at random steps. The child records
 * all required frames in memory shared with the parent.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SHARED

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "folder.h"

#define WRITERS 3
#define PUTS    120
#define NEVER   UINT64_MAX

void stage_step(bool writer);

/* Memory shared by child and parent. */
struct ledger {
	uint64_t steps;
	uint64_t kill_at;  /* the child's last step */
	uint64_t stall_at; /* from this step on, the first writer inside a put stops there permanently */
	bool stalled;
	int64_t begun[WRITERS];
	int64_t returned[WRITERS]; /* puts with the result STAGE_OK */
	bool done[WRITERS][PUTS];  /* frames being marked as done, or marked */
};

static struct ledger *ledger;
static bool durable; /* whether frames are in durable slabs */
static __thread bool writing;

/* Part of every content. */
struct mark {
	uint32_t writer;
	uint32_t sequence;
};

void stage_step(bool writer)
{
	uint64_t step = __atomic_fetch_add(&ledger->steps, 1, __ATOMIC_SEQ_CST);

	if (step == ledger->kill_at) {
		kill(getpid(), SIGKILL);
	}
	if (writer && writing && step >= ledger->stall_at
		&& !__atomic_exchange_n(&ledger->stalled, true, __ATOMIC_SEQ_CST)) {
		for (;;) {
			pause();
		}
	}
}

/* Usually some hundred bytes, for several slabs; sometimes a slab's size and more. */
static size_t length_of(struct mark mark)
{
	uint64_t random = (((uint64_t) mark.writer << 32) | mark.sequence) * 0x9e3779b97f4a7c15u + 1;

	random_next(&random);
	return sizeof(mark) + random_next(&random) % (random_next(&random) % 40 ? 2500 : 150000);
}

static void fill(unsigned char *content, struct mark mark)
{
	size_t length = length_of(mark);
	size_t i;

	for (i = 0; i < length; i++) {
		content[i] = mark.writer * 31 + mark.sequence * 7 + i;
	}
	memcpy(content, &mark, sizeof(mark));
}

static struct stage *the_stage;

static void *write_frames(void *argument)
{
	struct mark mark = { .writer = (uintptr_t) argument };
	unsigned char *content = malloc(200000);

	CHECK(content != NULL);
	writing = true;
	for (mark.sequence = 0; mark.sequence < PUTS; mark.sequence++) {
		size_t length = length_of(mark);
		size_t cut = sizeof(mark) + (length - sizeof(mark)) / 3;
		struct iovec parts[] = { { content, cut }, { content + cut, length - cut } };

		fill(content, mark);
		__atomic_store_n(&ledger->begun[mark.writer], mark.sequence + 1, __ATOMIC_SEQ_CST);
		CHECK_EQUAL(stage_put(the_stage, parts, 2, 0, false), STAGE_OK);
		__atomic_store_n(&ledger->returned[mark.writer], mark.sequence + 1, __ATOMIC_SEQ_CST);
	}
	free(content);
	return NULL;
}

/* take_some is done with some frames at once, with some later, and with some never. */
static void take_some(void *context, void *frames, size_t length, int durable_slab)
{
	static struct stage_frame *later[64];
	static uint64_t random = 88172645463325252u;
	unsigned char *at = frames;
	unsigned char *end = at + length;

	(void) context;
	CHECK_EQUAL(durable_slab, durable);
	while (at < end) {
		struct stage_frame *frame = (struct stage_frame *) at;
		uint64_t lot = random_next(&random);

		at += frame->size;
		if (lot % 200 == 0) {
			continue;
		}
		if (lot % 3 == 0) {
			struct stage_frame *swapped = later[lot / 3 % 64];

			later[lot / 3 % 64] = frame;
			frame = swapped;
		}
		if (frame) {
			struct mark mark;

			memcpy(&mark, frame + 1, sizeof(mark));
			__atomic_store_n(&ledger->done[mark.writer][mark.sequence], true, __ATOMIC_SEQ_CST);
			stage_step(false);
			frame_done(frame);
			stage_step(false);
		}
	}
}

static void live(const char *folder)
{
	struct stage_pump *pump;
	struct resk_gate *gate;
	pthread_t threads[WRITERS];
	uintptr_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rig_remap();
	pump = rig_begin(take_some, owner_note, "test pump", folder, 0);
	the_stage = stage_create(pump, NULL, "killed");
	rig.owners[stage_number(the_stage)] = the_stage;
	gate = stage_gate(the_stage);
	set(&gate->max_frames, INT64_MAX / 2);
	set(&gate->max_charge, INT64_MAX / 2);
	set(&gate->max_length, INT64_MAX / 2);
	set(&gate->shared, durable);
	set(&gate->open, 1);
	for (i = 0; i < WRITERS; i++) {
		threads[i] = start(write_frames, (void *) i);
	}
	for (i = 0; i < WRITERS; i++) {
		/* A stalled writer is left behind after the end of the others. */
		while (pthread_tryjoin_np(threads[i], NULL)) {
			if (__atomic_load_n(&ledger->stalled, __ATOMIC_SEQ_CST)
				&& get(&ledger->returned[0]) + get(&ledger->returned[1]) + get(&ledger->returned[2]) >= (WRITERS - 1) * PUTS) {
				break;
			}
			sched_yield();
		}
	}
	stage_publish(the_stage);
	CHECK_EQUAL(get(&gate->unshared), 0);
	kill(getpid(), SIGKILL);
}

struct found {
	int64_t last[WRITERS]; /* sequence number of the last frame */
	bool ready[WRITERS][PUTS];
};

static void check_frame(void *context, const struct copy *copy, const struct stage_frame *frame)
{
	struct found *found = context;
	unsigned char expected[200000];
	struct mark mark;

	CHECK(strcmp(copy->head.label, "killed") == 0);
	if (frame->state != STAGE_FRAME_READY) {
		return;
	}
	CHECK(frame->length >= sizeof(mark) && frame->length <= frame->size - sizeof(*frame));
	memcpy(&mark, frame + 1, sizeof(mark));
	CHECK(mark.writer < WRITERS && mark.sequence < PUTS);
	CHECK_EQUAL(frame->length, length_of(mark));
	fill(expected, mark);
	CHECK(memcmp(expected, frame + 1, frame->length) == 0);
	CHECK(mark.sequence < ledger->begun[mark.writer]);
	CHECK(mark.sequence > found->last[mark.writer]);
	found->last[mark.writer] = mark.sequence;
	found->ready[mark.writer][mark.sequence] = true;
}

/* inspect checks the files. Returns the number of ready frames. */
static int inspect(const char *folder)
{
	static struct copies copies;
	struct found found = { .last = { -1, -1, -1 } };
	int ready = 0;
	int writer;
	int i;

	if (durable) {
		copies_read(&copies, folder);
	} else {
		copies_read_plain(&copies, rig.memory.plain_file);
	}
	copies_each(&copies, check_frame, &found);
	for (writer = 0; writer < WRITERS; writer++) {
		for (i = 0; i < PUTS; i++) {
			ready += found.ready[writer][i];
			if (i < ledger->returned[writer] && !ledger->done[writer][i] && !found.ready[writer][i]) {
				fprintf(stderr, "killed at step %lld: frame %d of writer %d is lost\n", (long long) ledger->kill_at, i, writer);
				exit(1);
			}
		}
	}
	copies_free(&copies);
	return ready;
}

/* kill_one lets a child live until kill_at, or for after microseconds, and reads the files. Returns the
 * number of steps. */
static uint64_t kill_one(uint64_t kill_at, uint64_t stall_at, useconds_t after, int64_t *ready)
{
	char folder[] = "/dev/shm/res_kafka-test-XXXXXX";
	int status;
	pid_t child;

	CHECK(mkdtemp(folder) != NULL);
	memset(ledger, 0, sizeof(*ledger));
	ledger->kill_at = kill_at;
	ledger->stall_at = stall_at;
	rig = (struct rig) { 0 };
	CHECK_EQUAL(stage_memory_open(&rig.memory), 0);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		live(folder);
	}
	if (after) {
		usleep(after);
		kill(child, SIGKILL);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	*ready += inspect(folder);
	stage_memory_close(&rig.memory);
	remove_folder(folder);
	return ledger->steps;
}

static uint64_t steps; /* of an unkilled child */

static void every_early_step(void)
{
	int64_t ready = 0;
	uint64_t i;

	steps = kill_one(NEVER, NEVER, 0, &ready);
	CHECK(ready > 0);
	for (i = 0; i < 120; i++) {
		kill_one(i, NEVER, 0, &ready);
	}
}

static void steps_by_lot(void)
{
	uint64_t random = 4711;
	int64_t ready = 0;
	int i;

	for (i = 0; i < 150; i++) {
		kill_one(random_next(&random) % steps, NEVER, 0, &ready);
	}
	CHECK(ready > 0);
}

/* A writer without a processor anywhere in a put delays only frames behind its own, and costs none. */
static void a_writer_in_the_middle(void)
{
	uint64_t random = 815;
	int64_t ready = 0;
	int i;

	for (i = 0; i < 60; i++) {
		uint64_t stall = random_next(&random) % (steps / 2);

		kill_one(i % 2 ? stall + random_next(&random) % (steps / 2) : NEVER, stall, 0, &ready);
	}
	CHECK(ready > 0);
}

static void any_time(void)
{
	uint64_t random = 42;
	int64_t ready = 0;
	int i;

	for (i = 0; i < 60; i++) {
		kill_one(NEVER, NEVER, 1 + random_next(&random) % 20000, &ready);
	}
}

int main(void)
{
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(ledger != MAP_FAILED);
	for (int kind = 0; kind < 2; kind++) {
		durable = !kind;
		RUN(every_early_step);
		RUN(steps_by_lot);
		RUN(a_writer_in_the_middle);
		RUN(any_time);
	}
	return 0;
}
