/*
 * res_kafka: what the pump does with one stage: hand out its frames, report its notes, find it empty.
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

/* is_ready waits a moment for a frame that is being copied. */
static bool is_ready(const struct slab *slab, size_t at)
{
	size_t granule = at / STAGE_GRANULE;
	int spins;

	for (spins = 0; spins < STAGE_COPY_SPINS; spins++) {
		if (__atomic_load_n(&slab->head->whole[granule / 64], __ATOMIC_ACQUIRE) >> granule % 64 & 1) {
			return true;
		}
	}
	return false;
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

	/* Who reads this while the word names a slab finds it changed. */
	__atomic_store_n(&stage->before, stage_total(stage, word), __ATOMIC_RELAXED);
	if (!__atomic_compare_exchange_n(&stage->word, &word, stage_word(0, 0, 0, word, true), false, __ATOMIC_SEQ_CST,
		__ATOMIC_RELAXED)) {
		return false;
	}
	STAGE_STEP(false);
	stage->oldest = NULL;
	stage->newest = NULL;
	__atomic_fetch_sub(&stage->bytes, (int64_t) slab->size, __ATOMIC_RELAXED);
	return true;
}

/* count_handed notes that the taker has got so many frames. */
static void count_handed(struct stage *stage, int64_t frames)
{
	__atomic_store_n(&stage->handed, stage->handed + frames, __ATOMIC_RELEASE);
	__atomic_store_n(&stage->gate.taken, stage->handed, __ATOMIC_RELAXED);
}

/* leave_behind takes the oldest slab, which is closed, out of its stage. */
static void leave_behind(struct stage *stage, struct slab *slab)
{
	stage->oldest = slab->next;
	__atomic_fetch_sub(&stage->bytes, (int64_t) slab->size, __ATOMIC_RELAXED);
}

/* hand_slab hands over what is ready between what was taken and end. Returns whether that was all. */
static bool hand_slab(struct stage_pump *pump, struct stage *stage, struct slab *slab, size_t end)
{
	size_t start = slab->taken;
	size_t at = start;
	int64_t frames = 0;

	while (at < end && is_ready(slab, at)) {
		at += ((const struct stage_frame *) (slab->frames + at))->size;
		frames++;
	}
	if (frames) {
		pump->taker.take(stage->owner, slab->frames + start, at - start, slab->shared);
		slab->taken = at;
		count_handed(stage, frames);
	}
	return at == end;
}

/* lend hands over the oldest slab if the taker may keep its memory: then all of it has to be there, and it is full. Returns
 * whether it did. The taker may give back the slab at any time, so it is nobody's before. A large one is not lent: nobody keeps spares
 * of those, so the next caller with a large frame would fetch memory that the process has not seen. */
static bool lend(struct stage_pump *pump, struct stage *stage, struct slab *slab)
{
	size_t at = 0;
	int64_t frames = 0;

	if (!pump->taker.keep || slab->shared || slab_is_large(slab) || !slab->closed || slab->taken) {
		return false;
	}
	for (; at < slab->end && is_ready(slab, at); frames++) {
		at += ((const struct stage_frame *) (slab->frames + at))->size;
	}
	if (at < slab->end || !frames) {
		return false;
	}
	leave_behind(stage, slab);
	slab->lent = true;
	__atomic_fetch_add(&pump->lent, 1, __ATOMIC_RELAXED);
	if (!pump->taker.keep(stage->owner, slab->frames, at, slab)) {
		stage_give_back(pump, slab);
	}
	count_handed(stage, frames);
	return true;
}

/* retire disposes of the oldest slab when all that is in it was handed over. If it is the one that is being filled, the
 * next frame begins it anew, as the spare that was put back last: so in little traffic no slab is ever full, which would
 * need a call, and the same memory is used again and again. A shared slab has to wait for its frames to be done, which is
 * not here. */
static void retire(struct stage_pump *pump, struct stage *stage, uint64_t word)
{
	struct slab *slab = stage->oldest;

	if (slab->closed) {
		leave_behind(stage, slab);
	} else if ((slab->shared && !slab_is_large(slab)) || !stage_slab_take_away(stage, word)) {
		return;
	}
	if (slab->shared) {
		stage_keep(stage, slab);
	} else {
		stage_slab_put(&pump->plain, slab);
	}
}

enum rest stage_hand_out(struct stage_pump *pump, struct stage *stage, bool all)
{
	int slabs;

	for (slabs = 0; slabs < STAGE_SLABS_PER_LOOK; slabs++) {
		uint64_t word;
		struct slab *slab;
		bool full;
		bool shared;
		size_t end;

		/* What comes from now on says so anew. */
		if (all) {
			__atomic_store_n(&stage->since, 0, __ATOMIC_RELAXED);
		}
		word = stage_look(stage);
		slab = stage->oldest;
		full = slab && (slab->closed || slab_is_large(slab));
		shared = slab && slab->shared;

		if (!slab || (!full && !all)) {
			return REST_NONE;
		}
		end = slab->closed ? slab->end : slab_is_large(slab) ? slab->only : STAGE_WORD_USED(word) * STAGE_GRANULE;
		if (!lend(pump, stage, slab)) {
			if (!hand_slab(pump, stage, slab, end)) {
				__atomic_store_n(&stage->since, STAGE_LONG_AGO, __ATOMIC_RELAXED);
				return REST_COPYING;
			}
			retire(pump, stage, word);
		}
		if (!full) {
			return REST_NONE;
		}
		/* Writers may be ahead by many slabs. */
		stage_slab_refill(shared ? &pump->shared : &pump->plain);
	}
	/* What is left is due as well, whatever a writer has said since. */
	if (all) {
		__atomic_store_n(&stage->since, STAGE_LONG_AGO, __ATOMIC_RELAXED);
	}
	return REST_MORE;
}

bool stage_disarm(struct stage_pump *pump, struct stage *stage)
{
	struct slab *slab;
	uint64_t word;

	/* A writer exchanges the word and then reads the flags. */
	__atomic_fetch_and(&stage->flags, ~STAGE_ARMED, __ATOMIC_SEQ_CST);
	STAGE_STEP(false);
	word = stage_look(stage);
	slab = stage->oldest;
	if (!slab) {
		return true;
	}
	if (slab->closed || slab_is_large(slab) || slab->taken != STAGE_WORD_USED(word) * STAGE_GRANULE) {
		__atomic_fetch_or(&stage->flags, STAGE_ARMED, __ATOMIC_SEQ_CST);
		return false;
	}
	/* Who has come since has found the stage disarmed. */
	if (!(slab->shared && slab->done < slab->taken) && stage_slab_take_away(stage, word)) {
		stage_slab_put(slab->shared ? &pump->shared : &pump->plain, slab);
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
			pump->taker.note(stage->owner, slot, pump->notes[slot].count, pump->notes[slot].text);
		}
	}
	__atomic_store_n(&stage->reported, noted, __ATOMIC_RELEASE);
}

void stage_drain(struct stage_pump *pump, struct stage *stage)
{
	do {
		while (stage_hand_out(pump, stage, true) == REST_COPYING) {
			sched_yield();
		}
	} while (!stage_disarm(pump, stage));
	stage_report(pump, stage);
	stage_orphan(pump, stage);
}
