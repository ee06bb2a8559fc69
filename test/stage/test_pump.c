/*
 * res_kafka: when the pump comes: lingers, full slabs, notes, many stages, and no wake-up without a reason.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

#define SLAB (64 * 1024)

/* A frame with a linger of an hour is not taken, at any number of the pump's visits to other stages. */
static void lingers_of_their_own(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner slow = { 0 };
	struct owner quick = { 0 };
	struct owner immediate = { 0 };
	int64_t i;

	owner_open(&slow, pump, HOUR);
	owner_open(&quick, pump, MILLISECOND);
	owner_open(&immediate, pump, 0);
	CHECK_EQUAL(put_bytes(slow.stage, 's', 100, 1), STAGE_OK);
	for (i = 1; i <= 100; i++) {
		CHECK_EQUAL(put_bytes(quick.stage, 'q', 100, 1), STAGE_OK);
		CHECK_EQUAL(put_bytes(immediate.stage, 'i', 100, 1), STAGE_OK);
		owner_wait(&immediate, &immediate.frames, i);
		owner_wait(&quick, &quick.frames, i);
	}
	CHECK_EQUAL(owner_get(&slow, &slow.frames), 0);
	flush(slow.stage);
	CHECK_EQUAL(owner_get(&slow, &slow.frames), 1);
	owner_close(&slow);
	owner_close(&quick);
	owner_close(&immediate);
	rig_stop();
}

struct timed {
	struct owner owner;
	int64_t taken;
};

static int64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static void keep_time(struct owner *owner, const struct stage_frame *frame)
{
	(void) frame;
	((struct timed *) owner)->taken = clock_now();
}

/* A frame lingers from the put, plus or minus an eighth, not from the pump's last visit. */
static void lingers_from_its_own_put(void)
{
	const int64_t linger = 40 * MILLISECOND;
	const struct timespec half = { .tv_nsec = linger / 2 };
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct timed timed = { .owner.frame = keep_time };
	int64_t i;

	owner_open(&timed.owner, pump, linger);
	for (i = 1; i <= 6; i++) {
		int64_t put = clock_now();

		CHECK_EQUAL(put_bytes(timed.owner.stage, 'a', 10, 1), STAGE_OK);
		owner_wait(&timed.owner, &timed.owner.frames, i);
		CHECK(timed.taken - put >= linger - linger / 8);
		nanosleep(&half, NULL); /* between two looks of a pump with a linger counted from the last look */
	}
	owner_close(&timed.owner);
	rig_stop();
}

/* The pump leaves the frames of a followed slab to the engine for a while. A stage disarmed meanwhile is
 * checked after the linger. A thread may come late, so a third of the attempts is enough. */
static void leaves_a_followed_slab_to_the_engine(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct timed timed = { .owner.frame = keep_time };
	int left = 0;
	int64_t i;

	owner_open(&timed.owner, pump, MILLISECOND);
	__atomic_store_n(&timed.owner.stage->gate->follows, 1, __ATOMIC_RELAXED);
	for (i = 1; i <= 15; i++) {
		int64_t put = clock_now();

		CHECK_EQUAL(put_bytes(timed.owner.stage, 'a', 10, 1), STAGE_OK);
		owner_wait(&timed.owner, &timed.owner.frames, i);
		left += timed.taken - put >= STAGE_FOLLOWED_NS / 2;
	}
	CHECK(left >= 5);
	owner_close(&timed.owner);
	rig_stop();
}

/* The next frame is expected after the shorter of the last two delays, within limits, and at once without a
 * history. */
static void expects_what_came_before(void)
{
	static const struct {
		int64_t gap; /* from the last taking to the next frame; -1 = no frame, -2 = unknown */
		int64_t linger;
		int64_t expected;
	} steps[] = {
		{ 1000, MILLISECOND, 0 },
		{ 1000, MILLISECOND, 1000 },
		{ 3000, MILLISECOND, 1000 },
		{ 2000, MILLISECOND, 2000 },
		{ -1, MILLISECOND, 0 },
		{ 2000, MILLISECOND, 0 },
		{ 2000, MILLISECOND, 2000 },
		{ -2, MILLISECOND, 0 },
		{ MILLISECOND, MILLISECOND, 0 },
		{ MILLISECOND, MILLISECOND, MILLISECOND / 2 },
		{ 10 * MILLISECOND, HOUR, MILLISECOND },
		{ 10 * MILLISECOND, HOUR, STAGE_LATE_NS },
		{ 10 * MILLISECOND, 0, 0 },
	};
	static struct stage stage;
	int64_t now = HOUR;
	size_t i;

	stage_expect(&stage, now, 0, MILLISECOND);
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int64_t since = steps[i].gap == -1 ? 0 : steps[i].gap == -2 ? STAGE_LONG_AGO : now + steps[i].gap;

		now += 20 * MILLISECOND;
		CHECK_EQUAL(stage_expect(&stage, now, since, steps[i].linger), steps[i].expected);
	}
}

static void a_full_slab_does_not_linger(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	int i;

	owner_open(&owner, pump, HOUR);
	/* Six such frames fit a slab, the seventh begins the next. */
	for (i = 0; i < 7; i++) {
		CHECK_EQUAL(owner_get(&owner, &owner.frames), 0);
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 10000, 1), STAGE_OK);
	}
	owner_wait(&owner, &owner.frames, 6);
	CHECK_EQUAL(owner_get(&owner, &owner.calls), 1);
	/* A separate slab is full by itself, and earlier frames go first. */
	CHECK_EQUAL(put_bytes(owner.stage, 'b', 3 * SLAB, 1), STAGE_OK);
	owner_wait(&owner, &owner.frames, 8);
	/* The slab gathers later frames again. */
	for (i = 0; i < 7; i++) {
		CHECK_EQUAL(put_bytes(owner.stage, 'c', 10000, 1), STAGE_OK);
	}
	owner_wait(&owner, &owner.frames, 8 + 6);
	flush(owner.stage);
	CHECK_EQUAL(owner_get(&owner, &owner.frames), 8 + 7);
	owner_close(&owner);
	rig_stop();
}

/* Every length around a slab's size passes, alone and among others. */
struct late {
	struct owner owner;
	sem_t asked;
	int64_t seen;
};

/* Holds the pump at the first frame, and puts another frame at the end of the look that answers a flush, of
 * 16 slabs. */
static void put_while_flushed(struct owner *owner, const struct stage_frame *frame)
{
	struct late *late = (struct late *) owner;

	(void) frame;
	if (late->seen++ == 0) {
		sem_wait(&late->asked);
	} else if (late->seen == 6 * 32) {
		CHECK_EQUAL(put_bytes(owner->stage, 'l', 10, 1), STAGE_OK);
	}
}

static void *let_go(void *argument)
{
	const struct timespec moment = { .tv_nsec = 20 * MILLISECOND };

	nanosleep(&moment, NULL);
	sem_post(argument);
	return NULL;
}

/* More slabs than one look takes are flushed too, in spite of puts between two looks: a later frame lingers,
 * and earlier frames do not. */
static void a_flush_of_many_slabs(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct late late = { .owner.frame = put_while_flushed };
	pthread_t thread;
	int i;

	sem_init(&late.asked, 0, 0);
	owner_open(&late.owner, pump, HOUR);
	for (i = 0; i < 6 * 40 + 1; i++) {
		CHECK_EQUAL(put_bytes(late.owner.stage, 'a', 10000, 1), STAGE_OK);
	}
	thread = start(let_go, &late.asked);
	flush(late.owner.stage);
	CHECK(owner_get(&late.owner, &late.owner.frames) >= 6 * 40 + 1);
	pthread_join(thread, NULL);
	owner_close(&late.owner);
	rig_stop();
	sem_destroy(&late.asked);
}

static void lengths_around_a_slab(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	int64_t bytes = 0;
	int length;

	owner_open(&owner, pump, HOUR);
	for (length = SLAB - 100; length < SLAB + 50; length++) {
		CHECK_EQUAL(put_bytes(owner.stage, 'a', length, 1), STAGE_OK);
		CHECK_EQUAL(put_bytes(owner.stage, 'b', length % 64, 1), STAGE_OK);
		bytes += length + length % 64;
		if (length % 2) {
			flush(owner.stage);
			CHECK_EQUAL(owner_get(&owner, &owner.bytes), bytes);
		}
	}
	owner_close(&owner);
	CHECK_EQUAL(owner.bytes, bytes);
	CHECK_EQUAL(owner.frames, 300);
	rig_stop();
}

/* round_trip returns after the pump has handled all earlier calls: it may visit `immediate` first among the
 * callers, but not twice. */
static void round_trip(struct owner *immediate)
{
	int64_t frames = owner_get(immediate, &immediate->frames);
	int i;

	for (i = 1; i <= 2; i++) {
		CHECK_EQUAL(put_bytes(immediate->stage, 'r', 10, 1), STAGE_OK);
		owner_wait(immediate, &immediate->frames, frames + i);
	}
}

static void a_shorter_linger_counts_from_the_next_put(void)
{
	static const int64_t shorter[] = { MILLISECOND, 0 };
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner other = { 0 };
	int i;

	owner_open(&other, pump, 0);
	for (i = 0; i < 2; i++) {
		struct owner owner = { 0 };

		owner_open(&owner, pump, HOUR);
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
		round_trip(&other);
		CHECK_EQUAL(owner_get(&owner, &owner.frames), 0);
		set(&owner.gate->linger_ns, shorter[i]);
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
		owner_wait(&owner, &owner.frames, 2);
		owner_close(&owner);
	}
	owner_close(&other);
	rig_stop();
}

struct noted {
	struct owner owner;
	uint64_t counts[STAGE_NOTE_SLOTS];
	char texts[STAGE_NOTE_SLOTS][STAGE_NOTE_TEXT];
};

static void keep_note(struct owner *owner, unsigned int slot, uint64_t count, const char *text)
{
	struct noted *noted = (struct noted *) owner;

	noted->counts[slot] += count;
	snprintf(noted->texts[slot], STAGE_NOTE_TEXT, "%s", text);
}

static void notes(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct noted noted = { .owner.noted = keep_note };
	char text[2 * STAGE_NOTE_TEXT];

	owner_open(&noted.owner, pump, HOUR);
	set(&noted.owner.gate->open, 0);
	/* The notes come by themselves, also from a closed stage and with any linger. */
	stage_note(noted.owner.stage, 3, 1, "first", 5);
	owner_wait(&noted.owner, &noted.owner.notes, 1);
	CHECK(strcmp(noted.texts[3], "first") == 0);
	stage_note(noted.owner.stage, 3, 1, "again", 5);
	owner_wait(&noted.owner, &noted.owner.notes, 2);
	memset(text, 'x', sizeof(text));
	stage_note(noted.owner.stage, 0, 1, NULL, 0);
	stage_note(noted.owner.stage, 7, 1, text, sizeof(text));
	stage_note(noted.owner.stage, STAGE_NOTE_SLOTS, 1, text, sizeof(text));
	stage_note(noted.owner.stage, 3, 1, "second", 3);
	flush(noted.owner.stage);
	CHECK_EQUAL(noted.counts[0], 1);
	CHECK_EQUAL(noted.counts[3], 3);
	CHECK_EQUAL(noted.counts[7], 1);
	CHECK_EQUAL(noted.owner.notes, 5);
	CHECK(strcmp(noted.texts[0], "") == 0);
	CHECK(strcmp(noted.texts[3], "sec") == 0);
	CHECK_EQUAL(strlen(noted.texts[7]), STAGE_NOTE_TEXT - 1);
	owner_close(&noted.owner);
	rig_stop();
}

/* pump_status reads a number of the pump thread's /proc/self/task/.../status; the thread is found by its
 * name. */
static unsigned long long pump_status(const char *name, const char *field, int base)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	unsigned long long value = 0;
	bool found = false;

	CHECK(tasks != NULL);
	while (!found && (task = readdir(tasks))) {
		char path[300];
		char line[256];
		bool ours = false;
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		status = fopen(path, "r");
		while (status && fgets(line, sizeof(line), status)) {
			line[strcspn(line, "\n")] = '\0';
			ours = ours || (strncmp(line, "Name:\t", 6) == 0 && strcmp(line + 6, name) == 0);
			if (ours && strncmp(line, field, strlen(field)) == 0) {
				value = strtoull(line + strlen(field), NULL, base);
				found = true;
			}
		}
		if (status) {
			fclose(status);
		}
	}
	closedir(tasks);
	CHECK(found);
	return value;
}

static void the_thread(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "a name that is too long", test_folder(), 0);
	struct owner owner = { 0 };
	unsigned long long others = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1);
	sigset_t mask;
	int number;

	owner_open(&owner, pump, 0);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	owner_wait(&owner, &owner.frames, 1);
	/* All except SIGKILL, SIGSTOP and the C library's own. */
	for (number = 32; number < SIGRTMIN; number++) {
		others |= 1ull << (number - 1);
	}
	CHECK_EQUAL(pump_status("a name that is ", "SigBlk:", 16) | others, ~0ull);
	/* The creator's own mask is unchanged. */
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	CHECK_EQUAL(sigismember(&mask, SIGTERM), 0);
	owner_close(&owner);
	rig_stop();
}

static void rest_for(int64_t duration)
{
	struct timespec time = { .tv_sec = duration / SECOND, .tv_nsec = duration % SECOND };

	while (nanosleep(&time, &time)) {
	}
}

/* An idle pump makes no wake-ups: not before the first frame, and not once all stages have been quiet for a while. */
static void idle(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "idle pump", test_folder(), 0);
	struct owner owners[3] = { 0 };
	static const int64_t lingers[] = { 0, MILLISECOND, 20 * MILLISECOND };
	unsigned long long before = 0;
	bool quiet = false;
	int i;
	int j;

	for (i = 0; i < 3; i++) {
		owner_open(&owners[i], pump, lingers[i]);
	}
	for (i = 0; i < 3; i++) {
		/* Enough for spares beyond an idle pump's. */
		for (j = 0; j < 40; j++) {
			CHECK_EQUAL(put_bytes(owners[i].stage, 'a', 40000, 1), STAGE_OK);
		}
		CHECK_EQUAL(put_bytes(owners[i].stage, 'b', 200000, 1), STAGE_OK);
		stage_note(owners[i].stage, 1, 1, "note", 4);
	}
	for (i = 0; i < 3; i++) {
		owner_wait(&owners[i], &owners[i].frames, 41);
		owner_wait(&owners[i], &owners[i].notes, 1);
	}
	/* No event marks silence, so the test waits. The delay depends on the machine; a pump with needless looks
	 * would be seen in every half second. */
	for (i = 0; i < 60 && !quiet; i++) {
		before = pump_status("idle pump", "voluntary_ctxt_switches:", 10);
		rest_for(500 * MILLISECOND);
		quiet = pump_status("idle pump", "voluntary_ctxt_switches:", 10) == before;
	}
	CHECK(quiet);
	/* A put still wakes the pump. */
	CHECK_EQUAL(put_bytes(owners[1].stage, 'a', 10, 1), STAGE_OK);
	owner_wait(&owners[1], &owners[1].frames, 42);
	/* The wake-up is counted when the pump goes to sleep again. */
	for (i = 0; i < 10000 && pump_status("idle pump", "voluntary_ctxt_switches:", 10) == before; i++) {
		rest_for(MILLISECOND);
	}
	CHECK(pump_status("idle pump", "voluntary_ctxt_switches:", 10) > before);
	for (i = 0; i < 3; i++) {
		owner_close(&owners[i]);
	}
	rig_stop();
}

/* An engine without progress for a while: the ring gets full, and frames without space come later, all in
 * order. */
struct slow {
	struct owner owner;
	sem_t go_on;
	int64_t seen; /* the engine only */
};

static void see_slowly(struct owner *owner, const struct stage_frame *frame)
{
	struct slow *slow = (struct slow *) owner;

	if (slow->seen == 0) {
		sem_wait(&slow->go_on);
	}
	CHECK_EQUAL(frame->charge, slow->seen);
	slow->seen++;
}

static void a_full_ring(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "waiting pump", test_folder(), 0);
	struct slow slow = { .owner.frame = see_slowly };
	unsigned long long before;
	int64_t began;
	uint32_t frames = 0;

	sem_init(&slow.go_on, 0, 0);
	owner_open(&slow.owner, pump, 0);
	/* Each of these is a separate entry, until the ring is full. */
	do {
		CHECK_EQUAL(put_bytes(slow.owner.stage, 'a', 10, frames++), STAGE_OK);
		CHECK(frames < RESK_RING + 10);
	} while (stage_flush(slow.owner.stage, 50 * MILLISECOND) || frames < RESK_RING);
	CHECK_EQUAL(__atomic_load_n(&rig.memory.control->ring.put, __ATOMIC_SEQ_CST), RESK_RING);
	while (frames < 4 * RESK_RING) {
		CHECK_EQUAL(put_bytes(slow.owner.stage, 'a', 1000, frames++), STAGE_OK);
	}
	/* The pump does not look for room all the time. */
	rest_for(100 * MILLISECOND);
	before = pump_status("waiting pump", "voluntary_ctxt_switches:", 10);
	began = clock_now();
	rest_for(500 * MILLISECOND);
	CHECK((int64_t) (pump_status("waiting pump", "voluntary_ctxt_switches:", 10) - before) < (clock_now() - began) / (8 * MILLISECOND));
	CHECK_EQUAL(stage_flush(slow.owner.stage, MILLISECOND), false);
	sem_post(&slow.go_on);
	flush(slow.owner.stage);
	CHECK_EQUAL(slow.seen, frames);
	owner_close(&slow.owner);
	rig_stop();
	sem_destroy(&slow.go_on);
}

static void *put_many(void *argument)
{
	struct owner *owners = argument;
	uint64_t random = (uintptr_t) &random | 1;
	int i;

	for (i = 0; i < 64 * 100; i++) {
		CHECK_EQUAL(put_bytes(owners[i % 64].stage, i % 64, random_next(&random) % 500, 1), STAGE_OK);
	}
	return NULL;
}

static void sixty_four_stages_on_one_pump(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner *owners = calloc(64, sizeof(*owners));
	pthread_t threads[4];
	int i;

	for (i = 0; i < 64; i++) {
		owner_open(&owners[i], pump, i % 8 * MILLISECOND);
	}
	for (i = 0; i < 4; i++) {
		threads[i] = start(put_many, owners);
	}
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	for (i = 0; i < 64; i++) {
		owner_wait(&owners[i], &owners[i].frames, 400);
		CHECK_EQUAL(owner_get(&owners[i], &owners[i].frames), 400);
		owner_close(&owners[i]);
	}
	free(owners);
	rig_stop();
}

#ifdef SHARED
#define PINNED 200

/* Stages with long unfinished frames share the pump's checks, at any times of their last use. */
static void many_that_wait(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "waiting pump", test_folder(), 0);
	static struct owner owners[PINNED];
	unsigned long long before;
	bool seldom = false;
	int i;

	for (i = 0; i < PINNED; i++) {
		owners[i].done_elsewhere = true;
		owner_open(&owners[i], pump, MILLISECOND);
		CHECK_EQUAL(put_bytes(owners[i].stage, 'a', 10, 1), STAGE_OK);
		rest_for(MILLISECOND);
	}
	rest_for(1500 * MILLISECOND); /* until the longest interval, with two or three checks in this time */
	/* A busy machine takes longer to get there, but not much longer: late checks are shared anyway. */
	for (i = 0; i < 5 && !seldom; i++) {
		before = pump_status("waiting pump", "voluntary_ctxt_switches:", 10);
		rest_for(650 * MILLISECOND);
		seldom = pump_status("waiting pump", "voluntary_ctxt_switches:", 10) - before < PINNED / 25;
	}
	CHECK(seldom);
	for (i = 0; i < PINNED; i++) {
		owner_close(&owners[i]);
	}
	rig_stop();
}
#endif

int main(void)
{
	RUN(lingers_of_their_own);
	RUN(lingers_from_its_own_put);
	RUN(leaves_a_followed_slab_to_the_engine);
	RUN(expects_what_came_before);
	RUN(a_full_slab_does_not_linger);
	RUN(a_flush_of_many_slabs);
	RUN(lengths_around_a_slab);
	RUN(a_shorter_linger_counts_from_the_next_put);
	RUN(notes);
	RUN(the_thread);
	RUN(idle);
	RUN(a_full_ring);
#ifdef SHARED
	RUN(many_that_wait);
#endif
	RUN(sixty_four_stages_on_one_pump);
	return 0;
}
