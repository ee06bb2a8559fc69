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
static bool is_ready(const struct stage_frame *frame)
{
	int spins;

	for (spins = 0; spins < STAGE_COPY_SPINS; spins++) {
		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) == STAGE_FRAME_READY) {
			return true;
		}
	}
	return false;
}

/* hand_slab hands over what is ready between what was taken and end. Returns whether that was all. */
static bool hand_slab(struct stage_pump *pump, struct stage *stage, struct slab *slab, size_t end)
{
	size_t start = slab->taken;
	size_t at = start;
	int64_t frames = 0;

	while (at < end) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + at);

		if (!is_ready(frame)) {
			break;
		}
		at += frame->size;
		frames++;
	}
	if (frames) {
		pump->taker.take(stage->owner, slab->frames + start, at - start, slab->shared);
		slab->taken = at;
		__atomic_store_n(&stage->handed, stage->handed + frames, __ATOMIC_RELEASE);
		__atomic_store_n(&stage->gate.taken, stage->handed, __ATOMIC_RELAXED);
	}
	return at == end;
}

/* retire disposes of the oldest slab, whose first end bytes were handed over, unless frames were added meanwhile. The
 * slab that is being filled is started anew if the next one would be no other kind; one made for a single frame is full
 * by nature and never is. A shared slab has to wait for its frames to be done, which is not here. */
static void retire(struct stage_pump *pump, struct stage *stage, size_t end)
{
	struct slab *done = NULL;
	struct slab *slab;
	bool current;

	pthread_mutex_lock(&stage->lock);
	slab = stage->head;
	current = !slab->next && !slab_is_large(slab);
	if (slab->head.used != end || (current && slab->shared)) {
		/* stays */
	} else if (current && !stage_wants_shared(stage)) {
		slab_set_used(slab, 0);
		slab->taken = 0;
	} else {
		done = slab;
		stage->head = slab->next;
		if (!stage->head) {
			stage->tail = NULL;
		}
		stage->bytes -= slab->head.size;
	}
	pthread_mutex_unlock(&stage->lock);
	if (done && done->shared) {
		stage_keep(stage, done);
	} else if (done) {
		stage_slab_put(&pump->plain, done);
	}
}

enum rest stage_hand_out(struct stage_pump *pump, struct stage *stage, bool all)
{
	int slabs;

	for (slabs = 0; slabs < STAGE_SLABS_PER_LOOK; slabs++) {
		struct slab *slab;
		size_t end = 0;
		bool full = false;

		pthread_mutex_lock(&stage->lock);
		slab = stage->head;
		if (slab) {
			end = slab->head.used;
			full = slab->next || slab_is_large(slab);
		}
		if (!slab || (!full && all)) {
			stage->since = 0;
		}
		pthread_mutex_unlock(&stage->lock);
		if (!slab || (!full && !all)) {
			return REST_NONE;
		}
		if (!hand_slab(pump, stage, slab, end)) {
			pthread_mutex_lock(&stage->lock);
			stage->since = STAGE_LONG_AGO;
			pthread_mutex_unlock(&stage->lock);
			return REST_COPYING;
		}
		retire(pump, stage, end);
		if (!full) {
			return REST_NONE;
		}
	}
	return REST_MORE;
}

bool stage_disarm(struct stage_pump *pump, struct stage *stage)
{
	struct slab *slab = NULL;
	bool empty;

	pthread_mutex_lock(&stage->lock);
	slab = stage->head;
	empty = !slab || (slab == stage->tail && slab->head.used == slab->taken);
	if (empty) {
		stage->flags &= ~(STAGE_ARMED | STAGE_FILLED);
	}
	if (!empty || (slab && slab->shared && slab->done < slab->taken)) {
		slab = NULL;
	} else {
		stage->head = NULL;
		stage->tail = NULL;
		stage->bytes = 0;
	}
	pthread_mutex_unlock(&stage->lock);
	if (slab) {
		stage_slab_put(slab->shared ? &pump->shared : &pump->plain, slab);
	}
	return empty;
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
	stage->flags &= ~STAGE_NOTED;
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
