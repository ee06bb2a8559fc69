/*
 * res_kafka: the writers' side of the stage: admission, reservation, copy, notes.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>

#include "internal.h"

/* The longest content whose frame's size still fits its 32 bits, padding included. */
#define LENGTH_LIMIT ((size_t) UINT32_MAX - sizeof(struct stage_frame) - 7)

/* The pump need not be told. */
#define NO_CALL (-1)

/* One frame on its way in. */
struct put {
	size_t length;
	uint32_t charge;
	struct stage_frame *frame; /* its place, once it has one */
	struct slab *fresh;        /* a slab brought along because the stage had no room */
	int64_t patience;          /* how long the pump may go on sleeping, or NO_CALL */
};

static int64_t load(const int64_t *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

/* total_length adds up the parts and stops at the first sum that is too long for any stage. */
static size_t total_length(const struct iovec *parts, int n)
{
	size_t length = 0;
	int i;

	for (i = 0; i < n; i++) {
		if (parts[i].iov_len > LENGTH_LIMIT - length) {
			return SIZE_MAX;
		}
		length += parts[i].iov_len;
	}
	return length;
}

static size_t frame_size(size_t length)
{
	return (sizeof(struct stage_frame) + length + 7) & ~(size_t) 7;
}

/* admit decides under the stage's lock. All who add to held_* do so under that lock; who subtracts does not, which
 * can only make room, so a limit is never passed. */
static enum stage_result admit(const struct stage *stage, size_t length, uint32_t charge)
{
	const struct stage_gate *gate = &stage->gate;
	int64_t max_length = load(&gate->max_length);
	int64_t held_charge;

	if (stage->shut || !load(&gate->open)) {
		return STAGE_CLOSED;
	}
	if (length > LENGTH_LIMIT || max_length < 0 || length > (uint64_t) max_length) {
		return STAGE_TOO_LONG;
	}
	if (load(&gate->held_frames) >= load(&gate->max_frames)) {
		return STAGE_FULL_FRAMES;
	}
	held_charge = load(&gate->held_charge);
	if (held_charge + charge > load(&gate->max_charge) && (held_charge > 0 || load(&gate->held_frames) > 0)) {
		return STAGE_FULL_CHARGE;
	}
	return STAGE_OK;
}

/* call_for notes under the stage's lock that the pump is expected, and says how soon. filled: the frame began a slab
 * behind another, or has one of its own. */
static int64_t call_for(struct stage *stage, bool filled)
{
	int64_t linger = stage_linger(stage);
	bool sooner = !(stage->flags & STAGE_ARMED) || linger < stage->linger;

	if (sooner) {
		stage->flags |= STAGE_ARMED;
		stage->linger = linger;
	}
	if (filled && !(stage->flags & STAGE_FILLED)) {
		stage->flags |= STAGE_FILLED;
		return 0;
	}
	return sooner ? linger : NO_CALL;
}

/* place finds room for an admitted frame under the stage's lock and counts it. STAGE_OK without put->frame: there is
 * no room, come back with a fresh slab. */
static enum stage_result place(struct stage *stage, struct put *put)
{
	struct slab *tail = stage->tail;
	size_t size = frame_size(put->length);
	bool filled = false;

	if (!tail || size > slab_room(tail) - tail->head.used) {
		if (stage->bytes > STAGE_WAITING_MAX) {
			return STAGE_NO_MEMORY;
		}
		if (!put->fresh) {
			return STAGE_OK;
		}
		filled = (tail && tail->head.used > 0) || size > STAGE_SLAB_ROOM;
		if (tail) {
			tail->next = put->fresh;
		} else {
			stage->head = put->fresh;
		}
		tail = stage->tail = put->fresh;
		stage->bytes += tail->head.size;
		put->fresh = NULL;
	}
	if (!tail->head.used) {
		tail->head.first = stage->admitted;
	}
	if (tail->fallback && stage_wants_shared(stage)) {
		__atomic_store_n(&stage->gate.unshared, load(&stage->gate.unshared) + 1, __ATOMIC_RELAXED);
	}
	put->frame = (struct stage_frame *) (tail->frames + tail->head.used);
	put->frame->size = size;
	STAGE_STEP(false);
	__atomic_store_n(&put->frame->state, STAGE_FRAME_RESERVED, __ATOMIC_RELAXED);
	STAGE_STEP(false);
	slab_set_used(tail, tail->head.used + size);
	STAGE_STEP(false);
	if (!stage->since) {
		stage->since = stage_now();
	}
	stage->admitted++;
	__atomic_store_n(&stage->gate.admitted, stage->admitted, __ATOMIC_RELAXED);
	__atomic_fetch_add(&stage->gate.held_frames, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&stage->gate.held_charge, put->charge, __ATOMIC_RELAXED);
	put->patience = call_for(stage, filled);
	return STAGE_OK;
}

bool stage_wants_shared(const struct stage *stage)
{
	return load(&stage->gate.shared);
}

/* fresh_slab fetches a slab of the kind that the stage wants, of the other one if it must. */
static struct slab *fresh_slab(struct stage *stage, size_t size)
{
	struct stage_pump *pump = stage->pump;
	bool wanted = stage_wants_shared(stage);
	struct slab *slab = NULL;

	if (wanted && stage->label[0] && pump->shared.folder >= 0) {
		__atomic_store_n(&pump->shared.wanted, true, __ATOMIC_RELAXED);
		slab = stage_slab_get(&pump->shared, size);
	}
	if (slab) {
		memcpy(slab->head.label, stage->label, sizeof(slab->head.label));
		slab->head.stage = stage->number;
		STAGE_STEP(false);
		return slab;
	}
	slab = stage_slab_get(&pump->plain, size);
	if (slab) {
		slab->fallback = wanted;
	}
	return slab;
}

/* reserve gives put its place in the stage, or says why not. Memory is fetched with the lock released, so admission
 * is decided anew afterwards; whoever came in between may have brought a slab too. */
static enum stage_result reserve(struct stage *stage, struct put *put)
{
	enum stage_result result;

	for (;;) {
		pthread_mutex_lock(&stage->lock);
		result = admit(stage, put->length, put->charge);
		if (result == STAGE_OK) {
			result = place(stage, put);
		}
		pthread_mutex_unlock(&stage->lock);
		if (result != STAGE_OK || put->frame) {
			return result;
		}
		put->fresh = fresh_slab(stage, frame_size(put->length));
		if (!put->fresh) {
			return STAGE_NO_MEMORY;
		}
	}
}

void stage_shut(struct stage *stage)
{
	pthread_mutex_lock(&stage->lock);
	stage->shut = true;
	pthread_mutex_unlock(&stage->lock);
}

enum stage_result stage_put(struct stage *stage, const struct iovec *parts, int n, uint32_t charge)
{
	struct put put = { .length = total_length(parts, n), .charge = charge, .patience = NO_CALL };
	enum stage_result result = reserve(stage, &put);
	unsigned char *to;
	int i;

	if (put.fresh) {
		stage_slab_put(put.fresh->shared ? &stage->pump->shared : &stage->pump->plain, put.fresh);
	}
	if (result != STAGE_OK) {
		return result;
	}
	put.frame->length = put.length;
	put.frame->charge = charge;
	to = (unsigned char *) (put.frame + 1);
	for (i = 0; i < n; i++) {
		/* memcpy wants a pointer even for nothing. */
		if (parts[i].iov_len) {
			memcpy(to, parts[i].iov_base, parts[i].iov_len);
			to += parts[i].iov_len;
		}
		STAGE_STEP(true);
	}
	/* The release pairs with the acquire of the pump that finds the frame ready: it sees all of the above. From here
	 * on the frame may be gone. */
	__atomic_store_n(&put.frame->state, STAGE_FRAME_READY, __ATOMIC_RELEASE);
	STAGE_STEP(false);
	if (put.patience != NO_CALL) {
		stage_pump_call(stage, 0, put.patience);
	}
	return STAGE_OK;
}

void stage_note(struct stage *stage, unsigned int slot, const char *text, size_t length)
{
	struct note *note;
	bool first;

	if (slot >= STAGE_NOTE_SLOTS) {
		return;
	}
	note = &stage->notes[slot];
	pthread_mutex_lock(&stage->lock);
	if (note->count++ == 0) {
		if (length > sizeof(note->text) - 1) {
			length = sizeof(note->text) - 1;
		}
		if (length) {
			memcpy(note->text, text, length);
		}
		note->text[length] = '\0';
	}
	stage->noted++;
	first = !(stage->flags & STAGE_NOTED);
	stage->flags |= STAGE_NOTED;
	pthread_mutex_unlock(&stage->lock);
	if (first) {
		stage_pump_call(stage, 0, STAGE_NOTE_NS);
	}
}

struct stage_gate *stage_gate(struct stage *stage)
{
	return &stage->gate;
}
