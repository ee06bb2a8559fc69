/*
 * res_kafka: use of a stage's limits.
 *
 * Frames in use are the frames put by writers minus the frames reported as done by the engine. Writers count
 * in the module's memory. The engine counts in the gate and may write anything there. Its count is therefore
 * used only if it lies between the previous count and the number of puts.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include "internal.h"

/* held_anew reads the engine's count and returns the number in use, of frames or charge. It sets *put to the
 * writers' count. The engine's count is used only if it is no smaller than the previous count and no larger
 * than the writers'. */
static uint64_t held_anew(const int64_t *done_field, uint64_t *seen_field, const uint64_t *put_field, uint64_t *put)
{
	uint64_t seen = __atomic_load_n(seen_field, __ATOMIC_RELAXED);
	/* The acquire makes the puts of done frames visible to the next load. */
	uint64_t done = (uint64_t) __atomic_load_n(done_field, __ATOMIC_ACQUIRE);

	*put = __atomic_load_n(put_field, __ATOMIC_RELAXED);
	if (*put - done > *put - seen) {
		return *put - seen;
	}
	/* An exchange, because the pump may have reset the value. */
	if (done != seen) {
		__atomic_compare_exchange_n(seen_field, &seen, done, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	return *put - done;
}

static uint64_t frames_anew(struct stage *stage, uint64_t *put)
{
	return held_anew(&stage->gate->done_frames, &stage->seen_frames, &stage->put_frames, put);
}

/* count_charge adds a frame's charge to the charge in use within the limit. */
static bool count_charge(struct stage *stage, uint64_t charge, uint64_t most)
{
	uint64_t put = __atomic_load_n(&stage->put_charge, __ATOMIC_RELAXED);

	do {
		uint64_t held = put - __atomic_load_n(&stage->seen_charge, __ATOMIC_RELAXED);
		uint64_t frames_put;

		if (held > most || charge > most - held) {
			held = held_anew(&stage->gate->done_charge, &stage->seen_charge, &stage->put_charge, &put);
			/* An empty stage admits a frame of any charge. */
			if ((held > most || charge > most - held) && (held > 0 || frames_anew(stage, &frames_put) > 0)) {
				return false;
			}
		}
	} while (!__atomic_compare_exchange_n(&stage->put_charge, &put, put + charge, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* count_frame adds a frame to the frames in use within the limit. */
static bool count_frame(struct stage *stage, uint64_t most)
{
	uint64_t put = __atomic_load_n(&stage->put_frames, __ATOMIC_RELAXED);

	do {
		if (put - __atomic_load_n(&stage->seen_frames, __ATOMIC_RELAXED) >= most && frames_anew(stage, &put) >= most) {
			return false;
		}
	} while (!__atomic_compare_exchange_n(&stage->put_frames, &put, put + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* not_negative reads a limit of the gate; negative becomes 0. */
static uint64_t not_negative(const int64_t *field)
{
	int64_t value = __atomic_load_n(field, __ATOMIC_RELAXED);

	return value > 0 ? value : 0;
}

enum stage_result stage_count(struct stage *stage, uint32_t weight, bool memory_only)
{
	uint64_t frames = not_negative(&stage->gate->max_frames);
	uint64_t charge = not_negative(&stage->gate->max_charge);
	uint64_t put;

	if (memory_only) {
		uint64_t memory = (uint64_t) __atomic_load_n(&stage->gate->memory, __ATOMIC_RELAXED);

		frames = frames < (memory & UINT32_MAX) ? frames : (memory & UINT32_MAX);
		charge = charge < (memory >> 32) * 1024 ? charge : (memory >> 32) * 1024;
	}
	if (__atomic_load_n(&stage->put_frames, __ATOMIC_RELAXED) - __atomic_load_n(&stage->seen_frames, __ATOMIC_RELAXED) >= frames
		&& frames_anew(stage, &put) >= frames) {
		return STAGE_FULL_FRAMES;
	}
	/* The frame last: two heavy frames then cannot block each other in an empty stage. */
	if (!count_charge(stage, weight, charge)) {
		return STAGE_FULL_CHARGE;
	}
	if (!count_frame(stage, frames)) {
		__atomic_fetch_sub(&stage->put_charge, weight, __ATOMIC_RELAXED);
		return STAGE_FULL_FRAMES;
	}
	return STAGE_OK;
}

void stage_uncount(struct stage *stage, uint32_t weight)
{
	__atomic_fetch_sub(&stage->put_frames, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&stage->put_charge, weight, __ATOMIC_RELAXED);
}
