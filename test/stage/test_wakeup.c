/*
 * res_kafka: no frame is forgotten by a pump about to sleep, at any time of the put. Built with a short
 * STAGE_QUIET_NS, for thousands of such moments.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "check.h"

#define RIVALS 3

struct pause {
	struct owner *owner;
	int64_t longest; /* ns */
	int64_t rounds;
	uint64_t random;
	bool note;
};

static void spin(int64_t duration)
{
	struct timespec now;
	int64_t end;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec * SECOND + now.tv_nsec + duration;
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec * SECOND + now.tv_nsec < end);
}

/* One at a time: the pump may go to sleep between any two, and no later frame would help. */
static void *put_with_pauses(void *argument)
{
	struct pause *pause = argument;
	int64_t i;

	for (i = 1; i <= pause->rounds; i++) {
		int64_t duration = random_next(&pause->random) % pause->longest;
		struct timespec time = { .tv_nsec = duration };

		/* Spinning hits any moment; sleeping leaves the processor to the pump. */
		if (i % 4) {
			spin(duration);
		} else {
			nanosleep(&time, NULL);
		}
		if (pause->note && i % 16 == 0) {
			int64_t notes = owner_get(pause->owner, &pause->owner->notes);

			stage_note(pause->owner->stage, 0, 1, "note", 4);
			if (i % 64 == 0) {
				owner_wait(pause->owner, &pause->owner->notes, notes + 1);
			}
		}
		CHECK_EQUAL(put_bytes(pause->owner->stage, 'a', 20, 1), STAGE_OK);
		owner_wait(pause->owner, &pause->owner->frames, i);
	}
	return NULL;
}

static void pauses(int64_t linger, int64_t longest, int64_t rounds)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owners[RIVALS] = { 0 };
	struct pause work[RIVALS];
	pthread_t threads[RIVALS];
	int i;

	for (i = 0; i < RIVALS; i++) {
		owner_open(&owners[i], pump, linger * (i + 1));
		work[i] = (struct pause) { &owners[i], longest, rounds / (i ? 2 : 1), 77 + i, i == 1 };
	}
	/* Alone, and then with stages of other lingers on the same pump. */
	put_with_pauses(&work[0]);
	for (i = 1; i < RIVALS; i++) {
		threads[i] = start(put_with_pauses, &work[i]);
	}
	for (i = 1; i < RIVALS; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQUAL(owners[i].frames, work[i].rounds);
	}
	for (i = 0; i < RIVALS; i++) {
		owner_close(&owners[i]);
	}
	rig_stop();
}

static void pauses_without_linger(void)
{
	pauses(0, 100000, 6000);
}

static void pauses_with_a_linger_of_100_us(void)
{
	pauses(100000, 1500000, 1500);
}

static void pauses_with_a_linger_of_1_ms(void)
{
	pauses(MILLISECOND, 3 * MILLISECOND, 400);
}

static void pauses_with_a_linger_of_5_ms(void)
{
	pauses(5 * MILLISECOND, 12 * MILLISECOND, 80);
}

/* Several writers on one stage: the first arms the stage, the others rely on this call. */
static void *put_and_wait(void *argument)
{
	struct pause *pause = argument;
	int64_t i;

	for (i = 0; i < pause->rounds; i++) {
		int64_t seen;

		spin(random_next(&pause->random) % pause->longest);
		seen = stage_admitted(pause->owner->stage) + 1;
		CHECK_EQUAL(put_bytes(pause->owner->stage, 'a', 20, 1), STAGE_OK);
		owner_wait(pause->owner, &pause->owner->frames, seen);
	}
	return NULL;
}

static void rivals_on_one_stage(int64_t linger, int64_t longest, int64_t rounds)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	struct pause work[RIVALS];
	pthread_t threads[RIVALS];
	int i;

	owner_open(&owner, pump, linger);
	for (i = 0; i < RIVALS; i++) {
		work[i] = (struct pause) { &owner, longest, rounds, 99 + i, false };
		threads[i] = start(put_and_wait, &work[i]);
	}
	for (i = 0; i < RIVALS; i++) {
		pthread_join(threads[i], NULL);
	}
	CHECK_EQUAL(owner.frames, RIVALS * rounds);
	owner_close(&owner);
	rig_stop();
}

static void rivals_without_linger(void)
{
	rivals_on_one_stage(0, 50000, 5000);
}

static void rivals_with_linger(void)
{
	rivals_on_one_stage(200000, 1000000, 800);
}

static struct owner *put_into; /* atomic; NULL = none */

/* During the pump's disarming of a stage: a put at this moment. */
void stage_step(bool writer)
{
	struct owner *owner = writer ? NULL : __atomic_exchange_n(&put_into, NULL, __ATOMIC_SEQ_CST);

	if (owner) {
		CHECK_EQUAL(put_bytes(owner->stage, 'b', 20, 1), STAGE_OK);
	}
}

static void while_it_is_disarmed(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { 0 };
	int64_t i;

	owner_open(&owner, pump, 0);
	for (i = 0; i < 500; i++) {
		__atomic_store_n(&put_into, &owner, __ATOMIC_SEQ_CST);
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 20, 1), STAGE_OK);
		owner_wait(&owner, &owner.frames, 2 * i + 2);
	}
	owner_close(&owner);
	rig_stop();
}

int main(void)
{
	RUN(while_it_is_disarmed);
	RUN(pauses_without_linger);
	RUN(pauses_with_a_linger_of_100_us);
	RUN(pauses_with_a_linger_of_1_ms);
	RUN(pauses_with_a_linger_of_5_ms);
	RUN(rivals_without_linger);
	RUN(rivals_with_linger);
	return 0;
}
