/*
 * res_kafka: the pump's work at one stage: hand over its frames, report its notes, find the stage empty.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>
#include <string.h>

#include "internal.h"

/* all_complete reports whether no writer of the stage is in the middle of a put. */
static bool all_complete(const struct stage *stage)
{
	uint64_t complete = __atomic_load_n(&stage->complete, __ATOMIC_ACQUIRE);
	uint64_t word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);

	return complete == (uint64_t) stage_total(stage, word);
}

bool stage_is_ready(const struct stage *stage, const struct slab *slab, size_t at)
{
	size_t granule = at / STAGE_GRANULE;
	int spins;

	if (at < slab->ready) {
		return true;
	}
	for (spins = 0; spins < STAGE_COPY_SPINS; spins++) {
		if (__atomic_load_n(&slab->head->whole[granule / 64], __ATOMIC_ACQUIRE) >> granule % 64 & 1) {
			return true;
		}
	}
	return all_complete(stage);
}

uint64_t stage_look(struct stage *stage)
{
	const struct slab_table *slabs = &stage->pump->slabs;
	uint64_t word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);
	struct slab *newest = slab_of(slabs, word);
	struct slab *slab = newest;

	while (slab != stage->newest) {
		struct slab *before = slab_of(slabs, slab->before);

		if (before) {
			before->next = slab;
			before->end = slab_is_large(before) ? before->only : STAGE_WORD_USED(slab->before) * STAGE_GRANULE;
			before->total = STAGE_WORD_COUNT(slab->before);
			before->closed = true;
		} else {
			stage->oldest = slab;
		}
		slab = before;
	}
	stage->newest = newest;
	return word;
}

bool stage_slab_take_away(struct stage *stage, uint64_t word)
{
	struct slab *slab = stage->newest;

	/* A thread with an earlier read of this fails to exchange the word. */
	__atomic_store_n(&stage->before, stage_total(stage, word), __ATOMIC_RELAXED);
	if (!__atomic_compare_exchange_n(&stage->word, &word, stage_word(0, 0, 0, word, true), false, __ATOMIC_SEQ_CST,
		__ATOMIC_RELAXED)) {
		return false;
	}
	STAGE_STEP(false);
	stage->oldest = NULL;
	stage->newest = NULL;
	slab->end = slab->taken;
	slab->total = slab->count;
	slab->closed = true;
	slab->next = NULL;
	return true;
}

bool stage_is_followed(const struct stage *stage)
{
	const struct slab *slab = stage->newest;

	return slab && slab == stage->shown && !slab_is_large(slab)
		&& __atomic_load_n(&stage->gate->follows, __ATOMIC_RELAXED);
}

/* hand_slab hands over the complete frames of a slab from `taken` to `end`; frame number `total` ends there.
 * REST_NONE: nothing is left before `end`. */
static enum rest hand_slab(struct stage_pump *pump, struct stage *stage, struct slab *slab, size_t end, int64_t total)
{
	size_t start = slab->taken;
	size_t at = start;
	size_t behind = start; /* the last unfinished frame */
	int64_t frames = slab->count;

	if (__atomic_load_n(&stage->held, __ATOMIC_SEQ_CST)) {
		return REST_BLOCKED;
	}
	while (at < end && stage_is_ready(stage, slab, at)) {
		size_t size = stage_frame_size(slab, at, end);

		if (!size) {
			at = end; /* as in stage_slab_is_done */
			break;
		}
		if (__atomic_load_n(&((const struct stage_frame *) (slab->frames + at))->state, __ATOMIC_ACQUIRE)
			!= STAGE_FRAME_DONE) {
			behind = at + size;
		}
		at += size;
		frames++;
	}
	if (behind > start) {
		if (!stage_ring_put(&pump->ring, stage->number, slab, start, behind - start)) {
			return REST_BLOCKED;
		}
		stage->shown = slab;
	}
	if (at == end) {
		frames = total;
	}
	slab->taken = at;
	if (at > slab->ready) {
		slab->ready = at;
	}
	__atomic_store_n(&stage->handed, stage->handed + frames - slab->count, __ATOMIC_RELEASE);
	slab->count = frames;
	return at == end ? REST_NONE : REST_COPYING;
}

/* hand_again hands over the unfinished slabs of a dead engine. */
static enum rest hand_again(struct stage_pump *pump, struct stage *stage)
{
	struct slab *slab;

	while ((slab = stage->again)) {
		enum rest rest = hand_slab(pump, stage, slab, slab->end, slab->total);

		if (rest != REST_NONE) {
			return rest;
		}
		stage->again = slab->next;
		stage_keep(stage, slab);
	}
	return REST_NONE;
}

/* retire moves the oldest slab to the kept ones after the handover of all its frames. The current slab stays,
 * except a larger one. */
static void retire(struct stage *stage, uint64_t word)
{
	struct slab *slab = stage->oldest;

	if (slab->closed) {
		stage->oldest = slab->next;
	} else if (!slab_is_large(slab) || !stage_slab_take_away(stage, word)) {
		return;
	}
	stage_keep(stage, slab);
}

/* hand_oldest hands over the oldest slab. *more: another slab may follow. */
static enum rest hand_oldest(struct stage_pump *pump, struct stage *stage, bool all, bool *more)
{
	uint64_t word = stage_look(stage);
	struct slab *slab = stage->oldest;
	bool full = slab && (slab->closed || slab_is_large(slab));
	size_t end;
	enum rest rest;

	*more = full;
	if (!slab || (!full && !all)) {
		return REST_NONE;
	}
	end = slab->closed ? slab->end : slab_is_large(slab) ? slab->only : STAGE_WORD_USED(word) * STAGE_GRANULE;
	rest = hand_slab(pump, stage, slab, end, slab->closed ? slab->total : STAGE_WORD_COUNT(word));
	if (rest == REST_NONE) {
		bool shared = slab->shared;

		retire(stage, word);
		if (full) { /* writers may be ahead by many slabs */
			stage_slab_refill(shared ? &pump->shared : &pump->plain);
		}
	}
	return rest;
}

static enum rest hand_out(struct stage_pump *pump, struct stage *stage, bool all)
{
	enum rest rest = hand_again(pump, stage);
	bool more = true;
	int slabs;

	for (slabs = 0; rest == REST_NONE && more; slabs++) {
		if (slabs == STAGE_SLABS_PER_LOOK) {
			return REST_MORE;
		}
		/* The next frame sets this again. */
		if (all) {
			__atomic_store_n(&stage->since, 0, __ATOMIC_RELAXED);
		}
		rest = hand_oldest(pump, stage, all, &more);
	}
	return rest;
}

enum rest stage_hand_out(struct stage_pump *pump, struct stage *stage, bool all)
{
	enum rest rest = hand_out(pump, stage, all);

	/* The remaining frames are due, regardless of a writer's later time. */
	if (rest != REST_NONE && (all || rest != REST_MORE)) {
		__atomic_store_n(&stage->since, STAGE_LONG_AGO, __ATOMIC_RELAXED);
	}
	stage_publish(stage);
	return rest;
}

bool stage_disarm(struct stage *stage)
{
	struct slab *slab;
	uint64_t word;

	/* A writer exchanges the word and then reads the flags. */
	__atomic_fetch_and(&stage->flags, ~STAGE_ARMED, __ATOMIC_SEQ_CST);
	STAGE_STEP(false);
	word = stage_look(stage);
	slab = stage->oldest;
	if (slab && (slab->closed || slab_is_large(slab) || slab->taken != STAGE_WORD_USED(word) * STAGE_GRANULE)) {
		__atomic_fetch_or(&stage->flags, STAGE_ARMED, __ATOMIC_SEQ_CST);
		return false;
	}
	return true;
}

void stage_report(struct stage_pump *pump, struct stage *stage)
{
	uint64_t noted;
	unsigned int slot;

	pthread_mutex_lock(&stage->lock);
	for (slot = 0; slot < STAGE_NOTE_SLOTS; slot++) {
		pump->notes[slot].count = stage->notes[slot].count;
		if (stage->notes[slot].count) {
			memcpy(pump->notes[slot].text, stage->notes[slot].text, STAGE_NOTE_TEXT);
			stage->notes[slot].count = 0;
		}
	}
	noted = stage->noted;
	__atomic_fetch_and(&stage->flags, ~STAGE_NOTED, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&stage->lock);
	for (slot = 0; slot < STAGE_NOTE_SLOTS; slot++) {
		if (pump->notes[slot].count) {
			pump->note(stage->owner, slot, pump->notes[slot].count, pump->notes[slot].text);
		}
	}
	__atomic_store_n(&stage->reported, noted, __ATOMIC_RELEASE);
}

/* drained hands over all frames. false: the time is over, or there is no engine. */
static bool drained(struct stage_pump *pump, struct stage *stage, int64_t until)
{
	const struct timespec moment = { .tv_nsec = STAGE_RING_NS };
	enum rest rest;

	while ((rest = stage_hand_out(pump, stage, true)) != REST_NONE) {
		if (rest != REST_MORE && stage_now() >= until) {
			return false;
		}
		if (rest == REST_COPYING) {
			sched_yield();
		} else if (rest == REST_BLOCKED) {
			if (!__atomic_load_n(&pump->ring.open, __ATOMIC_ACQUIRE)) {
				return false;
			}
			nanosleep(&moment, NULL);
		}
	}
	return true;
}

void stage_drain(struct stage_pump *pump, struct stage *stage, int64_t until)
{
	while (drained(pump, stage, until) && !stage_disarm(stage)) {
	}
	stage_report(pump, stage);
	stage_orphan(pump, stage);
}
