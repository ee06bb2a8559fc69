/*
 * res_kafka: how pumps and stages come and go, and how others wait for the pump.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

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
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static void pump_free(struct stage_pump *pump)
{
	while (pump->orphans) {
		struct slab *slab = pump->orphans;

		pump->orphans = slab->next;
		stage_shared_leave(&pump->shared, slab);
	}
	stage_slab_trim(&pump->shared, 0);
	stage_shared_close(&pump->shared);
	stage_slabs_close(&pump->slabs);
	pthread_cond_destroy(&pump->progress);
	pthread_mutex_destroy(&pump->lock);
	free(pump);
}

/* create_thread starts the pump's thread with every signal blocked from its first instruction on: it inherits the
 * mask of its creator, who gets back its own. */
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

struct stage_pump *stage_pump_start(const struct stage_taker *taker, const char *name, const char *folder)
{
	struct stage_pump *pump = calloc(1, sizeof(*pump));

	if (!pump) {
		return NULL;
	}
	pump->taker = *taker;
	pump->references = 1;
	pump->plain.table = pump->shared.table = &pump->slabs;
	pump->plain.target = pump->shared.target = STAGE_SPARES_READY;
	stage_shared_open(&pump->shared, folder);
	stage_mutex_init(&pump->lock);
	pthread_cond_init(&pump->progress, NULL);
	if (!stage_slabs_open(&pump->slabs) || create_thread(pump, name)) {
		pump_free(pump);
		return NULL;
	}
	return pump;
}

void stage_pump_limit(struct stage_pump *pump, uint64_t bytes)
{
	if (bytes < pump->shared.most) {
		pump->shared.most = bytes;
	}
}

/* release gives up a reference; the last one, whoever has it, frees the pump. */
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

struct stage *stage_create(struct stage_pump *pump, void *owner, const char *label)
{
	/* Whole cache lines of its own, so that two stages do not slow each other down. */
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
	stage->next = pump->stages;
	if (stage->next) {
		stage->next->previous = stage;
	}
	pump->stages = stage;
	pump->references++;
	stage->number = ++pump->created;
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
	/* Nothing to unlink when the pump has ended: it was the only one to walk the list. */
	pthread_mutex_destroy(&stage->lock);
	free(stage);
	release(pump);
}

/* caught_up says whether the pump has handed over so many frames and notes of the stage. */
static bool caught_up(const struct stage *stage, int64_t frames, uint64_t notes)
{
	return __atomic_load_n(&stage->handed, __ATOMIC_ACQUIRE) >= frames
		&& __atomic_load_n(&stage->reported, __ATOMIC_ACQUIRE) >= notes;
}

/* anew gives the word that says the same as word and is not it. */
static uint64_t anew(uint64_t word)
{
	return stage_word(STAGE_WORD_SLAB(word), STAGE_WORD_COUNT(word), STAGE_WORD_USED(word), word, true);
}

void stage_flush(struct stage *stage)
{
	struct stage_pump *pump = stage->pump;
	int64_t frames;
	uint64_t notes;
	uint64_t word;

	/* Who has found the gate open before it was closed has got its place before this, or does not get it. */
	word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);
	do {
		frames = stage_total(stage, word);
	} while (!__atomic_compare_exchange_n(&stage->word, &word, anew(word), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	pthread_mutex_lock(&stage->lock);
	notes = stage->noted;
	pthread_mutex_unlock(&stage->lock);
	if (caught_up(stage, frames, notes)) {
		return;
	}
	pthread_mutex_lock(&pump->lock);
	__atomic_fetch_add(&pump->waiters, 1, __ATOMIC_SEQ_CST);
	stage_pump_call(stage, STAGE_ASK_NOW, 0);
	while (!pump->ended && !caught_up(stage, frames, notes)) {
		pthread_cond_wait(&pump->progress, &pump->lock);
	}
	__atomic_fetch_sub(&pump->waiters, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&pump->lock);
}
