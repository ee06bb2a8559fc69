/*
 * res_kafka: reusing slabs whose frames are done, and handing over again after the engine has died.
 *
 *             put fills it, the pump hands it over               every frame is done
 *     filled ──────────────────────────────────────► kept ──────────────────────────► spare
 *        ▲                                             │ a new engine                   │
 *        │                                             ▼                                │
 *        │                                           again ──handed over──► kept        │
 *        └──────────────────────────────────────────────────────────────────────────────┘
 *
 * The slab that is being filled becomes a spare, too, when all that it holds is done.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <sched.h>

#include "internal.h"

/* How often the pump waits for a frame that is being copied before it shows the frames of a stage: some milliseconds
 * where the writer has lost its processor. */
#define SHOW_TRIES 1000

void stage_keep(struct stage *stage, struct slab *slab)
{
	slab->next = NULL;
	*stage->kept_end = slab;
	stage->kept_end = &slab->next;
	stage->kept_more = true;
}

/* finish returns a done slab to its pool. stage is NULL for an orphan. */
static void finish(struct stage_pump *pump, struct stage *stage, struct slab *slab)
{
	if (stage) {
		stage->done_frames += slab->done_count;
		stage->done_charge += slab->done_charge;
	}
	stage_slab_put(pool_of(pump, slab), slab);
}

/* reclaim_current makes the slab that is being filled a spare when all its frames are done. So with little
 * traffic no slab gets full, which would need a wake-up, and the same memory is reused. Returns whether
 * frames are left to wait for. */
static bool reclaim_current(struct stage_pump *pump, struct stage *stage)
{
	uint64_t word = stage_look(stage);
	struct slab *slab = stage->oldest;

	if (!slab || slab != stage->newest || slab_is_large(slab) || slab->taken == 0) {
		return false;
	}
	if (!stage_slab_is_done(slab)) {
		return true;
	}
	/* More that has come is not here to wait for. */
	if (STAGE_WORD_USED(word) * STAGE_GRANULE == slab->done && stage_slab_take_away(stage, word)) {
		finish(pump, stage, slab);
	}
	return false;
}

/* reclaim_kept takes back the slabs of a list that are done: those before the first that is not, or all of
 * them. *end stays the place behind the last one. Returns whether there were any. */
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

/* Each visit checks the oldest slabs up to the first that is not done. All slabs are checked only when
 * that is due: a slow frame must not pin later slabs, and many slow frames must not be checked each time. */
int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now)
{
	/* A quiet stage is checked a little early, so that many stages share a wake-up. While frames come, a
	 * later check finds more of them done. */
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

/* count_done adds up the done frames of a slab. It reads all frames that any engine ever got, not only the
 * last one. */
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

/* rewind_slab marks the frames of a slab as not handed over, except for done frames at its beginning. */
static void rewind_slab(struct stage *stage, struct slab *slab, int64_t *frames, int64_t *charge)
{
	stage_slab_is_done(slab);
	count_done(slab, frames, charge);
	__atomic_store_n(&stage->handed, stage->handed - (slab->count - slab->done_count), __ATOMIC_RELEASE);
	slab->taken = slab->done;
	slab->count = slab->done_count;
}

/* is_shown reports whether a frame is complete. It gives a writer in the middle of its put some time. */
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

/* show calls back for the frames of a slab that begin before end and are not done. Behind a frame that is not complete
 * the bytes may be those of the slab's last use. */
static void show(const struct stage_pump *pump, const struct stage *stage, const struct slab *slab, size_t end)
{
	size_t at = slab->done;
	size_t size;

	for (; at < end && is_shown(stage, slab, at) && (size = stage_frame_size(slab, at, end)); at += size) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + at);
		uint32_t length = __atomic_load_n(&frame->length, __ATOMIC_RELAXED);

		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) != STAGE_FRAME_DONE && length <= size - sizeof(*frame)) {
			pump->again(frame + 1, length);
		}
	}
}

/* show_all does so for all slabs of a stage, up to the end that its word names. */
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
	/* Slabs that the dead engine got are older than slabs that it was still to get. */
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

/* take_chain detaches all slabs that the stage was filling. A concurrent flush may change the word, hence
 * the loop. */
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
