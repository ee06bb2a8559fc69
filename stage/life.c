/*
 * res_kafka: creation and end of pumps and stages, and waits for the pump.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

void stage_mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
#ifdef __GLIBC__ /* musl has no adaptive mutexes */
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
	pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static void pump_free(struct stage_pump *pump)
{
	while (pump->orphans) {
		struct slab *slab = pump->orphans;

		pump->orphans = slab->next;
		if (slab->shared) {
			stage_slab_leave(&pump->shared, slab);
		} else {
			stage_slab_discard(&pump->plain, slab);
		}
	}
	stage_slab_trim(&pump->shared, 0);
	while (stage_pool_idle(&pump->shared)) {
		stage_pool_give_back(&pump->shared, true);
	}
	stage_pool_close(&pump->shared);
	stage_pool_close(&pump->plain);
	stage_slabs_close(&pump->slabs);
	pthread_mutex_destroy(&pump->ring.lock);
	pthread_cond_destroy(&pump->progress);
	pthread_mutex_destroy(&pump->lock);
	free(pump);
}

/* create_thread starts the pump's thread with every signal blocked from its first instruction: the thread
 * inherits the mask of its creator, which is restored afterwards. */
static int create_thread(struct stage_pump *pump, const char *name)
{
	char short_name[16]; /* the kernel's limit, NUL included */
	sigset_t all;
	sigset_t before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&pump->thread, NULL, stage_pump_run, pump);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error) {
		snprintf(short_name, sizeof(short_name), "%s", name);
		pthread_setname_np(pump->thread, short_name);
	}
	return error;
}

/* init_lock initializes lock and condition. Timed waits use the monotonic clock. */
static void init_lock(struct stage_pump *pump)
{
	pthread_condattr_t attributes;

	stage_mutex_init(&pump->lock);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&pump->progress, &attributes);
	pthread_condattr_destroy(&attributes);
}

struct stage_pump *stage_pump_start(const struct stage_memory *memory, stage_note_cb note, const char *name,
	const char *folder, uint64_t bytes)
{
	struct stage_pump *pump = aligned_alloc(_Alignof(struct stage_pump), sizeof(*pump));
	int error;

	if (!pump) {
		return NULL;
	}
	memset(pump, 0, sizeof(*pump));
	pump->note = note;
	pump->references = 1;
	pump->plain.table = pump->shared.table = &pump->slabs;
	pump->plain.target = pump->shared.target = STAGE_SPARES_READY;
	pump->shared.folder = pump->shared.file = -1;
	init_lock(pump);
	stage_ring_open(&pump->ring, memory);
	if (!stage_slabs_open(&pump->slabs, bytes && bytes < STAGE_BYTES_MAX ? bytes : STAGE_BYTES_MAX)
		|| !stage_pool_open_plain(&pump->plain, memory->plain_file)) {
		error = errno;
		pump_free(pump);
		errno = error;
		return NULL;
	}
	stage_pool_open_durable(&pump->shared, folder);
	pump->ring.usual_bytes = pump->plain.regions * STAGE_SLAB_BYTES;
	__atomic_store_n(&memory->control->head.usual_bytes, pump->ring.usual_bytes, __ATOMIC_RELEASE);
	error = create_thread(pump, name);
	if (error) {
		pump_free(pump);
		errno = error;
		return NULL;
	}
	return pump;
}

/* release drops a reference; the last release frees the pump. */
static void release(struct stage_pump *pump)
{
	bool last;

	pthread_mutex_lock(&pump->lock);
	last = --pump->references == 0;
	pthread_mutex_unlock(&pump->lock);
	if (last) {
		pump_free(pump);
	}
}

void stage_pump_stop(struct stage_pump *pump)
{
	if (!pump) {
		return;
	}
	__atomic_store_n(&pump->stop, true, __ATOMIC_SEQ_CST);
	stage_pump_wake(pump);
	pthread_join(pump->thread, NULL);
	release(pump);
}

/* clear_gate sets all fields to 0. It also allocates the gate's page, so no put has to. */
static void clear_gate(struct resk_gate *gate)
{
	int64_t *field = (int64_t *) gate;
	size_t i;

	for (i = 0; i < sizeof(*gate) / sizeof(*field); i++) {
		__atomic_store_n(&field[i], 0, __ATOMIC_RELAXED);
	}
}

struct stage *stage_create(struct stage_pump *pump, void *owner, const char *label)
{
	/* Separate cache lines, so two stages do not slow each other down. */
	struct stage *stage = aligned_alloc(_Alignof(struct stage), sizeof(*stage));

	if (!stage) {
		return NULL;
	}
	*stage = (struct stage) {
		.pump = pump, .owner = owner, .frame_due = STAGE_NEVER, .note_due = STAGE_NEVER, .kept_due = STAGE_NEVER,
	};
	stage->kept_end = &stage->kept;
	if (label && strlen(label) <= STAGE_LABEL_MAX) {
		strcpy(stage->label, label);
	}
	stage_mutex_init(&stage->lock);
	pthread_mutex_lock(&pump->lock);
	if (pump->created == RESK_GATES - 1) {
		pthread_mutex_unlock(&pump->lock);
		pthread_mutex_destroy(&stage->lock);
		free(stage);
		return NULL;
	}
	stage->number = ++pump->created;
	stage->gate = &pump->ring.control->gates[stage->number];
	clear_gate(stage->gate);
	stage->next = pump->stages;
	if (stage->next) {
		stage->next->previous = stage;
	}
	pump->stages = stage;
	pump->references++;
	pthread_mutex_unlock(&pump->lock);
	return stage;
}

void stage_destroy(struct stage *stage)
{
	struct stage_pump *pump;

	if (!stage) {
		return;
	}
	pump = stage->pump;
	pthread_mutex_lock(&pump->lock);
	__atomic_fetch_add(&pump->waiters, 1, __ATOMIC_SEQ_CST);
	stage_pump_call(stage, STAGE_ASK_LEAVE, 0);
	while (!stage->gone && !pump->ended) {
		pthread_cond_wait(&pump->progress, &pump->lock);
	}
	__atomic_fetch_sub(&pump->waiters, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&pump->lock);
	/* No unlink after the pump's end: no other thread walks the list. */
	pthread_mutex_destroy(&stage->lock);
	free(stage);
	release(pump);
}

/* caught_up reports whether the pump has handed over this many frames and notes of the stage. Without an
 * engine only done frames count as handed over. */
static bool caught_up(const struct stage *stage, int64_t frames, uint64_t notes)
{
	bool engine = __atomic_load_n(&stage->pump->ring.open, __ATOMIC_ACQUIRE);

	return __atomic_load_n(&stage->handed, __ATOMIC_ACQUIRE) >= frames
		&& __atomic_load_n(&stage->reported, __ATOMIC_ACQUIRE) >= notes
		&& (engine || __atomic_load_n(&stage->put_frames, __ATOMIC_RELAXED)
			== (uint64_t) __atomic_load_n(&stage->gate->done_frames, __ATOMIC_RELAXED));
}

/* anew returns an equivalent word with another value. */
static uint64_t anew(uint64_t word)
{
	return stage_word(STAGE_WORD_SLAB(word), STAGE_WORD_COUNT(word), STAGE_WORD_USED(word), word, true);
}

bool stage_flush(struct stage *stage, int64_t patience)
{
	struct stage_pump *pump = stage->pump;
	int64_t until = stage_now() + (patience < STAGE_LINGER_MAX ? patience : STAGE_LINGER_MAX);
	struct timespec limit = { .tv_sec = until / STAGE_SECOND, .tv_nsec = until % STAGE_SECOND };
	int64_t frames;
	uint64_t notes;
	uint64_t word;
	bool done;

	/* A writer that found the gate open before its close has reserved its place by now, or will fail. */
	word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);
	do {
		frames = stage_total(stage, word);
	} while (!__atomic_compare_exchange_n(&stage->word, &word, anew(word), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	pthread_mutex_lock(&stage->lock);
	notes = stage->noted;
	pthread_mutex_unlock(&stage->lock);
	if (caught_up(stage, frames, notes)) {
		return true;
	}
	pthread_mutex_lock(&pump->lock);
	__atomic_fetch_add(&pump->waiters, 1, __ATOMIC_SEQ_CST);
	stage_pump_call(stage, STAGE_ASK_NOW, 0);
	while (!(done = caught_up(stage, frames, notes)) && !pump->ended
		&& pthread_cond_timedwait(&pump->progress, &pump->lock, &limit) != ETIMEDOUT) {
	}
	__atomic_fetch_sub(&pump->waiters, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&pump->lock);
	return done;
}
