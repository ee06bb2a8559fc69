/*
 * res_kafka: reuse of slabs with finished frames, and repeated hand-over after the death of an engine.
 *
 *             put fills it, the pump hands it over               every frame is done
 *     filled ──────────────────────────────────────► kept ──────────────────────────► spare
 *        ▲                                             │ a new engine                   │
 *        │                                             ▼                                │
 *        │                                           again ──handed over──► kept        │
 *        └──────────────────────────────────────────────────────────────────────────────┘
 *
 * The current slab becomes spare, too, once all of its frames are done.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>

#include "internal.h"

/* Number of waits for an unfinished copy before the pump shows the frames of a stage: some milliseconds for a
 * writer without a processor. */
#define SHOW_TRIES 1000

void stage_keep(struct stage *stage, struct slab *slab)
{
	slab->next = NULL;
	*stage->kept_end = slab;
	stage->kept_end = &slab->next;
	stage->kept_more = true;
}

/* finish returns a finished slab to its pool. stage is NULL for an orphan. */
static void finish(struct stage_pump *pump, struct stage *stage, struct slab *slab)
{
	if (stage) {
		stage->done_frames += slab->done_count;
		stage->done_charge += slab->done_charge;
	}
	stage_slab_put(pool_of(pump, slab), slab);
}

/* reclaim_current makes the current slab spare once all its frames are done. With little traffic no slab then
 * gets full, which would need a wake-up, and the same memory is reused. Returns whether unfinished frames are
 * left. */
static bool reclaim_current(struct stage_pump *pump, struct stage *stage)
{
	uint64_t word = stage_look(stage);
	struct slab *slab = stage->oldest;

	if (!slab || slab != stage->newest || slab_is_large(slab) || slab->taken == 0) {
		return false;
	}
	/* Of another slab the engine would not know before the pump's next look. */
	if (stage->frame_due != STAGE_NEVER && stage_is_followed(stage)) {
		return false;
	}
	if (!stage_slab_is_done(slab)) {
		return true;
	}
	/* Frames put meanwhile are not waited for here. */
	if (STAGE_WORD_USED(word) * STAGE_GRANULE == slab->done && stage_slab_take_away(stage, word)) {
		finish(pump, stage, slab);
	}
	return false;
}

/* reclaim_kept reclaims the finished slabs of a list: up to the first unfinished slab, or all. *end stays the
 * place behind the last slab. Returns whether there were any. */
static bool reclaim_kept(struct stage_pump *pump, struct stage *stage, struct slab **place, struct slab ***end, bool all)
{
	bool progress = false;

	while (*place) {
		struct slab *slab = *place;

		if (stage_slab_is_done(slab)) {
			*place = slab->next;
			if (!*place) {
				*end = place;
			}
			finish(pump, stage, slab);
			progress = true;
		} else if (all) {
			place = &slab->next;
		} else {
			break;
		}
	}
	return progress;
}

/* Each visit checks the oldest slabs up to the first unfinished slab. The check of all slabs has an interval:
 * a slow frame must not pin later slabs, and many slow frames must not be checked each time. */
int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now)
{
	/* A quiet stage is checked slightly early, so several stages share a wake-up. During traffic, a later
	 * check finds more finished slabs. */
	int64_t early = stage->frame_due == STAGE_NEVER ? stage->kept_pace / 4 : 0;
	bool due = stage->kept_due != STAGE_NEVER && stage->kept_due - early <= now;
	bool anew = reclaim_kept(pump, stage, &stage->kept, &stage->kept_end, due);
	bool waits = reclaim_current(pump, stage) || stage->kept;

	anew = anew || stage->kept_more || stage->kept_due == STAGE_NEVER;
	stage->kept_more = false;
	if (!waits) {
		stage->kept_due = STAGE_NEVER;
	} else if (anew || due) {
		int64_t pace = anew ? STAGE_KEPT_NS : 2 * stage->kept_pace;

		stage->kept_pace = pace < STAGE_KEPT_MAX_NS ? pace : STAGE_KEPT_MAX_NS;
		/* An earlier due time stays, or steady traffic would postpone the check for ever. */
		if (due || now + stage->kept_pace < stage->kept_due) {
			stage->kept_due = now + stage->kept_pace;
		}
	}
	return stage->kept_due;
}

/* count_done adds up the done frames of a slab. It reads all frames given to any engine, not only to the
 * last. */
static void count_done(const struct slab *slab, int64_t *frames, int64_t *charge)
{
	size_t at = slab->done;
	size_t size;

	*frames += slab->done_count;
	*charge += slab->done_charge;
	for (; at < slab->ready && (size = stage_frame_size(slab, at, slab->ready)); at += size) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + at);

		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) == STAGE_FRAME_DONE) {
			*frames += 1;
			*charge += __atomic_load_n(&frame->charge, __ATOMIC_RELAXED);
		}
	}
}

/* rewind_slab marks the frames of a slab as not handed over, except done frames at the beginning. */
static void rewind_slab(struct stage *stage, struct slab *slab, int64_t *frames, int64_t *charge)
{
	stage_slab_is_done(slab);
	count_done(slab, frames, charge);
	__atomic_store_n(&stage->handed, stage->handed - (slab->count - slab->done_count), __ATOMIC_RELEASE);
	slab->taken = slab->done;
	slab->count = slab->done_count;
}

/* is_shown reports whether a frame is complete, with some patience for a running put. */
static bool is_shown(const struct stage *stage, const struct slab *slab, size_t at)
{
	int tries;

	for (tries = 0; tries < SHOW_TRIES; tries++) {
		if (stage_is_ready(stage, slab, at)) {
			return true;
		}
		sched_yield();
	}
	return false;
}

/* show calls back for the unfinished frames of a slab that begin before end. Bytes behind an incomplete frame
 * may come from the slab's previous use. */
static void show(const struct stage_pump *pump, const struct stage *stage, const struct slab *slab, size_t end)
{
	size_t at = slab->done;
	size_t size;

	for (; at < end && is_shown(stage, slab, at) && (size = stage_frame_size(slab, at, end)); at += size) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + at);
		uint32_t length = __atomic_load_n(&frame->length, __ATOMIC_RELAXED);

		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) == STAGE_FRAME_READY && length <= size - sizeof(*frame)) {
			pump->again(frame + 1, length);
		}
	}
}

/* show_all calls show for all slabs of a stage, up to the end in its word. */
static void show_all(const struct stage_pump *pump, const struct stage *stage, uint64_t word)
{
	const struct slab *slab;

	for (slab = stage->again; slab; slab = slab->next) {
		show(pump, stage, slab, slab->end);
	}
	for (slab = stage->oldest; slab; slab = slab == stage->newest ? NULL : slab->next) {
		show(pump, stage, slab, slab->closed ? slab->end
			: slab_is_large(slab) ? slab->only : STAGE_WORD_USED(word) * STAGE_GRANULE);
	}
}

/* set_done sets the gate's counts of done frames and charge. The engine may have written over states and
 * charges, so neither may exceed the writers' counts. */
static void set_done(struct stage *stage, int64_t frames, int64_t charge)
{
	int64_t put_frames = __atomic_load_n(&stage->put_frames, __ATOMIC_RELAXED);
	int64_t put_charge = __atomic_load_n(&stage->put_charge, __ATOMIC_RELAXED);

	frames = frames < put_frames ? frames : put_frames;
	charge = charge < put_charge ? charge : put_charge;
	__atomic_store_n(&stage->gate->done_frames, frames, __ATOMIC_RELAXED);
	__atomic_store_n(&stage->gate->done_charge, charge, __ATOMIC_RELAXED);
	__atomic_store_n(&stage->seen_frames, frames, __ATOMIC_RELAXED);
	__atomic_store_n(&stage->seen_charge, charge, __ATOMIC_RELAXED);
}

void stage_rewind(struct stage_pump *pump, struct stage *stage)
{
	int64_t frames;
	int64_t charge;
	struct slab *slab;
	uint64_t word = stage_look(stage);

	reclaim_kept(pump, stage, &stage->kept, &stage->kept_end, true);
	/* Slabs given to the dead engine are older than slabs still to be handed over. */
	*stage->kept_end = stage->again;
	stage->again = stage->kept;
	stage->kept = NULL;
	stage->kept_end = &stage->kept;
	frames = stage->done_frames;
	charge = stage->done_charge;
	for (slab = stage->again; slab; slab = slab->next) {
		rewind_slab(stage, slab, &frames, &charge);
	}
	for (slab = stage->oldest; slab; slab = slab == stage->newest ? NULL : slab->next) {
		rewind_slab(stage, slab, &frames, &charge);
	}
	if (pump->again) {
		show_all(pump, stage, word);
	}
	stage->shown = NULL;
	__atomic_store_n(&stage->gate->follows, 0, __ATOMIC_RELAXED);
	set_done(stage, frames, charge);
	stage_publish(stage);
	__atomic_store_n(&stage->since, STAGE_LONG_AGO, __ATOMIC_RELAXED);
	stage->filled = true;
	stage->frame_due = STAGE_LONG_AGO;
	stage_activate(pump, stage);
}

/* take_rest marks a slab as handed over in full. */
static void take_rest(struct slab *slab, size_t end, int64_t total)
{
	slab->taken = end;
	slab->count = total;
}

/* take_chain detaches the chain of the current slab. A concurrent flush may change the word, hence the
 * loop. */
static struct slab *take_chain(struct stage *stage)
{
	struct slab *chain;
	uint64_t word;

	do {
		struct slab *newest;

		word = stage_look(stage);
		chain = stage->oldest;
		newest = stage->newest;
		if (!newest) {
			return NULL;
		}
		take_rest(newest, slab_is_large(newest) ? newest->only : STAGE_WORD_USED(word) * STAGE_GRANULE, STAGE_WORD_COUNT(word));
	} while (!stage_slab_take_away(stage, word));
	return chain;
}

void stage_orphan(struct stage_pump *pump, struct stage *stage)
{
	struct slab **end;

	*stage->kept_end = stage->again;
	for (end = stage->kept_end; *end; end = &(*end)->next) {
	}
	*end = take_chain(stage);
	for (end = &stage->kept; *end; end = &(*end)->next) {
		take_rest(*end, (*end)->end, (*end)->total);
	}
	*end = pump->orphans;
	pump->orphans = stage->kept;
	stage->kept = stage->again = NULL;
	stage->kept_end = &stage->kept;
	stage_reclaim_orphans(pump);
}

void stage_reclaim_orphans(struct stage_pump *pump)
{
	struct slab **end;

	reclaim_kept(pump, NULL, &pump->orphans, &end, true);
}
