/*
 * res_kafka: slabs whose frames are done, and what a new engine has to get again.
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

#include "internal.h"

void stage_keep(struct stage *stage, struct slab *slab)
{
	slab->next = NULL;
	*stage->kept_end = slab;
	stage->kept_end = &slab->next;
	stage->kept_more = true;
}

/* finish takes a slab back that is done. Its stage may be gone. */
static void finish(struct stage_pump *pump, struct stage *stage, struct slab *slab)
{
	if (stage) {
		stage->done_frames += slab->done_count;
		stage->done_charge += slab->done_charge;
	}
	stage_slab_put(pool_of(pump, slab), slab);
}

/* reclaim_current looks at the slab that is being filled. When all it holds is done it becomes a spare, with which the next
 * frame may begin anew. So in little traffic no slab is ever full, which would need a call, and the same memory is used again
 * and again. Returns whether there is something to wait for. */
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

/* reclaim_kept takes back the slabs of a list that are done: those before the first that is not, or all of them. *end
 * stays the place behind the last one. Returns whether there were any. */
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

/* At every visit the oldest slabs are looked at, all of them only when that is due: a frame that takes long must not
 * hold up what is behind it, but many such frames must not be looked at each time. */
int64_t stage_reclaim(struct stage_pump *pump, struct stage *stage, int64_t now)
{
	/* What would be due soon is as well seen to now when the stage is quiet: many stages come to share their wake-ups.
	 * While frames come, a look between them finds more done than one at them. */
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
		/* What is due sooner is not put off, or much traffic would do so for ever. */
		if (due || now + stage->kept_pace < stage->kept_due) {
			stage->kept_due = now + stage->kept_pace;
		}
	}
	return stage->kept_due;
}

/* count_done adds the frames of a slab that are done, wherever they stand in it. An engine may have got more than the last one. */
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

/* rewind_slab takes back that frames of a slab were handed over, but for those at its beginning that are done. */
static void rewind_slab(struct stage *stage, struct slab *slab, int64_t *frames, int64_t *charge)
{
	stage_slab_is_done(slab);
	count_done(slab, frames, charge);
	__atomic_store_n(&stage->handed, stage->handed - (slab->count - slab->done_count), __ATOMIC_RELEASE);
	slab->taken = slab->done;
	slab->count = slab->done_count;
}

/* show shows the frames of a slab that are not done and begin before end. */
static void show(const struct stage_pump *pump, const struct slab *slab, size_t end)
{
	size_t at = slab->done;
	size_t size;

	for (; at < end && (size = stage_frame_size(slab, at, end)); at += size) {
		const struct stage_frame *frame = (const struct stage_frame *) (slab->frames + at);
		uint32_t length = __atomic_load_n(&frame->length, __ATOMIC_RELAXED);

		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) != STAGE_FRAME_DONE && length <= size - sizeof(*frame)) {
			pump->again(frame + 1, length);
		}
	}
}

/* show_all does so for a stage whose slabs were found up to word. */
static void show_all(const struct stage_pump *pump, const struct stage *stage, uint64_t word)
{
	const struct slab *slab;

	for (slab = stage->again; slab; slab = slab->next) {
		show(pump, slab, slab->end);
	}
	for (slab = stage->oldest; slab; slab = slab == stage->newest ? NULL : slab->next) {
		show(pump, slab, slab->closed ? slab->end : slab_is_large(slab) ? slab->only : STAGE_WORD_USED(word) * STAGE_GRANULE);
	}
}

/* set_done has so many frames count as done. The engine may have spoilt their states and charges: no more can be done than was
 * put. */
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
	/* What was handed over to the engine before precedes what not even that one had got. */
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

/* take_rest has a slab count as handed over in full. */
static void take_rest(struct slab *slab, size_t end, int64_t total)
{
	slab->taken = end;
	slab->count = total;
}

/* take_chain takes all slabs that the stage was filling out of it. Others may wait for the last frames meanwhile. */
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
