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

/* Longest content of a frame whose size, with padding, fits 32 bits. */
#define LENGTH_LIMIT ((size_t) UINT32_MAX - sizeof(struct stage_frame) - (STAGE_GRANULE - 1))

/* How much of the next frame's memory is fetched ahead, bytes. */
#define PREPARED_MOST 512
#define CACHE_LINE    64

/* The pump need not be told. */
#define NO_CALL (-1)

/* A frame during its put. */
struct put {
	size_t length;
	size_t size; /* of the frame, header and padding included */
	uint32_t charge;
	bool memory_only;          /* gate.memory is a limit, too */
	bool counted;              /* against the limits */
	bool filled;               /* the frame began a new slab behind another slab, or has its own */
	struct slab *slab;         /* place of the frame, once reserved, and */
	size_t at;                 /* where there, in granules */
	struct slab *fresh;        /* a slab brought along because the stage had no room */
};

static int64_t load(const int64_t *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

/* total_length adds up the parts, and stops at the first sum too long for any stage. */
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
	return (sizeof(struct stage_frame) + length + STAGE_GRANULE - 1) & ~(size_t) (STAGE_GRANULE - 1);
}

/* admit decides by the state after the read of the stage's word: a reservation succeeds only while the word
 * is unchanged. */
static enum stage_result admit(struct stage *stage, uint64_t word, struct put *put)
{
	const struct resk_gate *gate = stage->gate;
	int64_t max_length = load(&gate->max_length);
	enum stage_result result;

	if ((word & STAGE_WORD_SHUT) || !load(&gate->open)) {
		return STAGE_CLOSED;
	}
	if (put->length > LENGTH_LIMIT || max_length < 0 || put->length > (uint64_t) max_length) {
		return STAGE_TOO_LONG;
	}
	if (put->counted) {
		return STAGE_OK;
	}
	result = stage_count(stage, put->charge, put->memory_only);
	put->counted = result == STAGE_OK;
	STAGE_STEP(true);
	return result;
}

/* wants_shared reports whether the next slab should be durable, if available. */
static bool wants_shared(const struct stage *stage)
{
	return load(&stage->gate->shared);
}

int64_t stage_total(const struct stage *stage, uint64_t word)
{
	const struct slab *slab = slab_of(&stage->pump->slabs, word);

	return slab ? load(&slab->base) + STAGE_WORD_COUNT(word) : load(&stage->before);
}

static bool can_share(const struct stage *stage)
{
	return stage->label[0] && stage->pump->shared.folder >= 0;
}

void stage_hold(struct stage *stage, bool held)
{
	__atomic_store_n(&stage->held, held, __ATOMIC_SEQ_CST);
	if (!held) {
		stage_pump_call(stage, STAGE_ASK_NOW, 0);
	}
}

void stage_ready(struct stage *stage)
{
	if (wants_shared(stage) && can_share(stage)) {
		__atomic_store_n(&stage->pump->shared.wanted, true, __ATOMIC_RELAXED);
		stage_pump_call(stage, 0, 0);
	}
}

/* fresh_slab gets a slab of the stage's wanted kind, or of the other kind if necessary. */
static struct slab *fresh_slab(struct stage *stage, size_t size)
{
	struct stage_pump *pump = stage->pump;
	bool wanted = wants_shared(stage);
	struct slab *slab = NULL;

	if (wanted && can_share(stage)) {
		__atomic_store_n(&pump->shared.wanted, true, __ATOMIC_RELAXED);
		slab = stage_slab_get(&pump->shared, size);
	}
	if (!slab) {
		slab = stage_slab_get(&pump->plain, size);
		if (!slab) {
			return NULL;
		}
		slab->fallback = wanted;
	}
	memcpy(slab->head->label, stage->label, sizeof(slab->head->label));
	slab->head->stage = stage->number;
	STAGE_STEP(true);
	return slab;
}

/* begin reserves the first place of the new slab, which replaces the stage's current slab. false: the word
 * has changed. */
static bool begin(struct stage *stage, uint64_t *word, struct put *put)
{
	struct slab *slab = put->fresh;
	bool large = slab_is_large(slab);
	uint32_t number = slab - stage->pump->slabs.slabs;
	int64_t base = stage_total(stage, *word);
	bool filled = STAGE_WORD_SLAB(*word) || large;

	slab->before = *word;
	slab->only = put->size;
	slab->head->first = base;
	__atomic_store_n(&slab->base, base, __ATOMIC_RELAXED);
	STAGE_STEP(true);
	if (!__atomic_compare_exchange_n(&stage->word, word,
		stage_word(number, 1, large ? STAGE_WORD_FULL : put->size / STAGE_GRANULE, *word, true), false, __ATOMIC_SEQ_CST,
		__ATOMIC_SEQ_CST)) {
		return false;
	}
	put->filled = filled;
	put->slab = slab;
	put->fresh = NULL;
	return true;
}

/* go_on reserves the next place in the current slab. false: the word has changed. */
static bool go_on(struct stage *stage, uint64_t *word, struct put *put)
{
	uint32_t used = STAGE_WORD_USED(*word);
	uint64_t then = stage_word(STAGE_WORD_SLAB(*word), STAGE_WORD_COUNT(*word) + 1, used + put->size / STAGE_GRANULE, *word, false);

	if (!__atomic_compare_exchange_n(&stage->word, word, then, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		return false;
	}
	put->slab = slab_of(&stage->pump->slabs, then);
	put->at = used;
	return true;
}

/* reserve reserves the place of put in the stage, or returns the reason of a refusal. */
static enum stage_result reserve(struct stage *stage, struct put *put)
{
	uint64_t word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);
	enum stage_result result;

	for (;;) {
		result = admit(stage, word, put);
		if (result != STAGE_OK) {
			return result;
		}
		if (STAGE_WORD_SLAB(word) && STAGE_WORD_USED(word) + put->size / STAGE_GRANULE <= STAGE_SLAB_ROOM / STAGE_GRANULE) {
			if (go_on(stage, &word, put)) {
				return STAGE_OK;
			}
			continue;
		}
		if (!put->fresh) {
			put->fresh = fresh_slab(stage, put->size);
			if (!put->fresh) {
				return STAGE_NO_MEMORY;
			}
		}
		if (begin(stage, &word, put)) {
			return STAGE_OK;
		}
	}
}

/* prepare prefetches the memory behind a frame, for the next put of the stage, probably of similar size. With
 * puts to many stages in turn, no hardware prefetcher predicts the access. */
static void prepare(const unsigned char *behind, size_t size, size_t room)
{
	size_t line;

	if (size > PREPARED_MOST) {
		size = PREPARED_MOST;
	}
	for (line = 0; line < size && line < room; line += CACHE_LINE) {
#ifdef __x86_64__
		__asm__ volatile("prefetchw %0" : : "m"(behind[line])); /* the builtin prefetches for writing only on known
		                                                         * processors */
#else
		__builtin_prefetch(behind + line, 1);
#endif
	}
}

/* fill copies the parts into the frame's place and marks the frame as complete. From then on the frame may be
 * gone. */
static void fill(const struct put *put, const struct iovec *parts, int n)
{
	struct stage_frame *frame = (struct stage_frame *) (put->slab->frames + put->at * STAGE_GRANULE);
	unsigned char *to = (unsigned char *) (frame + 1);
	size_t end = put->at * STAGE_GRANULE + put->size;
	int i;

	frame->size = put->size;
	frame->length = put->length;
	frame->charge = put->charge;
	STAGE_STEP(true);
	for (i = 0; i < n; i++) {
		/* memcpy wants a pointer even for nothing. */
		if (parts[i].iov_len) {
			memcpy(to, parts[i].iov_base, parts[i].iov_len);
			to += parts[i].iov_len;
		}
		STAGE_STEP(true);
	}
	__atomic_store_n(&frame->state, STAGE_FRAME_READY, __ATOMIC_RELAXED);
	STAGE_STEP(true);
	/* The release pairs with the pump's acquire of the bit: the pump sees all writes above. */
	__atomic_fetch_or(&put->slab->head->whole[put->at / 64], UINT64_C(1) << put->at % 64, __ATOMIC_RELEASE);
	if (end <= STAGE_SLAB_ROOM) {
		prepare((unsigned char *) frame + put->size, put->size, STAGE_SLAB_ROOM - end);
	}
}

/* call_for returns how soon the pump must be called for a frame, if at all, and notes the expectation. A
 * writer exchanges the word and then reads the flags; the pump does the reverse. The pump therefore sees
 * either the frame or the call. */
static int64_t call_for(struct stage *stage, bool filled)
{
	unsigned int flags = __atomic_load_n(&stage->flags, __ATOMIC_SEQ_CST);
	int64_t linger = stage_linger(stage);
	int64_t patience = NO_CALL;

	if (!(flags & STAGE_ARMED) || linger < load(&stage->linger)) {
		__atomic_store_n(&stage->linger, linger, __ATOMIC_RELAXED);
		__atomic_fetch_or(&stage->flags, STAGE_ARMED, __ATOMIC_SEQ_CST);
		patience = linger;
	}
	if (filled && !(flags & STAGE_FILLED)
		&& !(__atomic_fetch_or(&stage->flags, STAGE_FILLED, __ATOMIC_SEQ_CST) & STAGE_FILLED)) {
		patience = 0;
	}
	return patience;
}

enum stage_result stage_put(struct stage *stage, const struct iovec *parts, int n, uint32_t charge, bool memory_only)
{
	struct put put = { .length = total_length(parts, n), .charge = charge, .memory_only = memory_only };
	enum stage_result result;
	int64_t nothing = 0;
	int64_t patience;

	put.size = frame_size(put.length);
	result = reserve(stage, &put);
	STAGE_STEP(true);
	if (put.fresh) {
		stage_slab_put(pool_of(stage->pump, put.fresh), put.fresh);
	}
	if (result != STAGE_OK) {
		if (put.counted) {
			stage_uncount(stage, charge);
		}
		return result;
	}
	if (put.slab->fallback && wants_shared(stage)) {
		__atomic_fetch_add(&stage->unshared, 1, __ATOMIC_RELAXED);
	}
	/* An exchange: a writer that loses its processor here must not overwrite a later request to the pump. */
	if (!load(&stage->since)) {
		__atomic_compare_exchange_n(&stage->since, &nothing, stage_now(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	fill(&put, parts, n);
	__atomic_fetch_add(&stage->complete, 1, __ATOMIC_RELEASE);
	STAGE_STEP(true);
	patience = call_for(stage, put.filled);
	if (patience != NO_CALL) {
		stage_pump_call(stage, 0, patience);
	}
	return STAGE_OK;
}

void stage_shut(struct stage *stage)
{
	__atomic_fetch_or(&stage->word, STAGE_WORD_SHUT, __ATOMIC_SEQ_CST);
}

void stage_note(struct stage *stage, unsigned int slot, uint64_t count, const char *text, size_t length)
{
	struct note *note;
	bool first;

	if (slot >= STAGE_NOTE_SLOTS) {
		return;
	}
	note = &stage->notes[slot];
	pthread_mutex_lock(&stage->lock);
	if (!note->count) {
		if (length > sizeof(note->text) - 1) {
			length = sizeof(note->text) - 1;
		}
		if (length) {
			memcpy(note->text, text, length);
		}
		note->text[length] = '\0';
	}
	note->count += count;
	stage->noted++;
	first = !(__atomic_fetch_or(&stage->flags, STAGE_NOTED, __ATOMIC_SEQ_CST) & STAGE_NOTED);
	pthread_mutex_unlock(&stage->lock);
	if (first) {
		stage_pump_call(stage, 0, STAGE_NOTE_NS);
	}
}

struct resk_gate *stage_gate(struct stage *stage)
{
	return stage->gate;
}

uint32_t stage_number(const struct stage *stage)
{
	return stage->number;
}

int64_t stage_admitted(const struct stage *stage)
{
	uint64_t word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);
	uint64_t before;
	int64_t total;

	do {
		before = word;
		total = stage_total(stage, word);
		word = __atomic_load_n(&stage->word, __ATOMIC_SEQ_CST);
	} while (word != before);
	return total;
}

void stage_publish(struct stage *stage)
{
	__atomic_store_n(&stage->gate->handed, __atomic_load_n(&stage->handed, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	__atomic_store_n(&stage->gate->admitted, stage_admitted(stage), __ATOMIC_RELAXED);
	__atomic_store_n(&stage->gate->unshared, load(&stage->unshared), __ATOMIC_RELAXED);
}
