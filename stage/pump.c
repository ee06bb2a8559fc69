/*
 * res_kafka: the pump's schedule: one thread, and when it looks at which stage.
 *
 * A stage is *armed* from its first frame on: the pump looks at it by itself, again and again, so its writers
 * need not call the pump. It looks a linger after the next expected frame (stage_expect), and takes the frames
 * that have waited that long. After STAGE_QUIET_NS without a frame (at once without a linger) it disarms the
 * stage, and the next writer arms the stage and calls. No frame is missed: a writer reserves its frame and then
 * reads whether the stage is armed; the pump disarms the stage and then looks for frames. With no stage armed
 * and no note to report the pump sleeps without a time limit.
 *
 *               put: call                              look: nothing for STAGE_QUIET_NS
 *     disarmed ───────────► armed, look by itself ──────────────────────────────────────► disarmed
 *                             put fills a slab: call, full slabs are taken at once
 *
 * The pump also visits stages whose slabs wait for frames to be done, ever more rarely (reclaim.c). Without an
 * engine it hands over nothing and reports notes only (ring.c).
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../boundary/thread.h"
#include "internal.h"

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* push adds a stage to the list of calls. */
static void push(struct stage_pump *pump, struct stage *stage)
{
	struct stage *first = __atomic_load_n(&pump->calls, __ATOMIC_RELAXED);

	do {
		stage->next_call = first;
	} while (!__atomic_compare_exchange_n(&pump->calls, &first, stage, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
}

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *until)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

void stage_pump_wake(struct stage_pump *pump)
{
	if (__atomic_exchange_n(&pump->sleeping, 0, __ATOMIC_SEQ_CST)) {
		futex(&pump->sleeping, FUTEX_WAKE, 1, NULL);
	}
}

/* The caller first stores its request and then reads whether the pump sleeps. The pump first stores that it
 * sleeps and then reads requests. */
void stage_pump_call(struct stage *stage, unsigned int asks, int64_t patience)
{
	struct stage_pump *pump = stage->pump;

	__atomic_fetch_or(&stage->asks, asks, __ATOMIC_SEQ_CST);
	if (!__atomic_exchange_n(&stage->called, true, __ATOMIC_SEQ_CST)) {
		push(pump, stage);
	}
	/* The pump began to sleep before now and sleeps for sleep_ns: soon enough for a caller with that
	 * patience. */
	if (__atomic_load_n(&pump->sleeping, __ATOMIC_SEQ_CST)
		&& patience < __atomic_load_n(&pump->sleep_ns, __ATOMIC_RELAXED)) {
		stage_pump_wake(pump);
	}
}

int64_t stage_expect(struct stage *stage, int64_t now, int64_t since, int64_t linger)
{
	int64_t gap = since > stage->emptied ? since - stage->emptied : 0;
	int64_t expected = earlier(earlier(gap, stage->gap), earlier(linger / 2, STAGE_LATE_NS));

	stage->gap = gap;
	stage->emptied = now;
	return expected;
}

/* look hands over frames, only full slabs unless all, and sets the time of the next look. Frames within their
 * linger stay: a wake-up of the engine costs more than another look of the pump. */
static void look(struct stage_pump *pump, struct stage *stage, int64_t now, bool all)
{
	int64_t handed = stage->handed;
	int64_t since = __atomic_load_n(&stage->since, __ATOMIC_RELAXED);
	int64_t linger;
	int64_t ripe;
	enum rest rest;

	__atomic_fetch_and(&stage->flags, ~STAGE_FILLED, __ATOMIC_SEQ_CST);
	linger = stage_linger(stage);
	__atomic_store_n(&stage->linger, linger, __ATOMIC_RELAXED);
	ripe = since ? since + linger : now;
	if (all && ripe - linger / 8 > now) {
		stage->frame_due = ripe;
		stage->last_frame = now;
		stage->pace = linger;
		if (!stage->filled) {
			return;
		}
		all = false;
	}
	rest = stage_hand_out(pump, stage, all);
	stage->filled = rest == REST_MORE;
	if (stage->handed != handed) {
		stage->last_frame = now;
	}
	if (rest == REST_COPYING) {
		stage->copying = stage->handed != handed || !stage->copying ? STAGE_COPY_NS : earlier(2 * stage->copying, STAGE_COPY_MAX_NS);
		stage->frame_due = earlier(all ? STAGE_NEVER : stage->frame_due, now + stage->copying);
		return;
	}
	if (rest == REST_BLOCKED) {
		stage->filled = true;
		stage->frame_due = all ? now : stage->frame_due;
		return;
	}
	stage->copying = 0;
	if (!all) {
		return;
	}
	stage->pace = linger;
	stage->frame_due = rest == REST_MORE ? now : now + linger + stage_expect(stage, now, since, linger);
	if (rest == REST_NONE && stage_is_followed(stage) && stage->frame_due < now + STAGE_FOLLOWED_NS) {
		stage->frame_due = now + STAGE_FOLLOWED_NS;
	}
	if (rest == REST_NONE && (linger == 0 || now - stage->last_frame >= STAGE_QUIET_NS) && stage_disarm(stage)) {
		stage->frame_due = STAGE_NEVER;
	}
}

/* unlist removes a stage from the list of calls before its end. */
static void unlist(struct stage_pump *pump, const struct stage *stage)
{
	struct stage *call = __atomic_exchange_n(&pump->calls, NULL, __ATOMIC_SEQ_CST);

	while (call) {
		struct stage *next = call->next_call;

		if (call != stage) {
			push(pump, call);
		}
		call = next;
	}
}

/* leave forgets a stage, which may be freed as soon as the lock is released. The taker itself may have noted
 * something during the last calls, so the stage may be in the list of calls again. */
static void leave(struct stage_pump *pump, struct stage *stage)
{
	stage_drain(pump, stage, stage_now() + STAGE_DRAIN_NS);
	/* The destroyer of a stage holds the lock until the stage is in the list, or is found there: the pump may
	 * have read the call before. */
	pthread_mutex_lock(&pump->lock);
	unlist(pump, stage);
	if (stage->previous) {
		stage->previous->next = stage->next;
	} else {
		pump->stages = stage->next;
	}
	if (stage->next) {
		stage->next->previous = stage->previous;
	}
	stage->gone = true;
	pthread_cond_broadcast(&pump->progress);
	pthread_mutex_unlock(&pump->lock);
}

/* hear reads the requests of a stage after its call. The call came after `since`, so its times count from
 * there. */
static void hear(struct stage *stage, int64_t now, int64_t since)
{
	unsigned int flags = __atomic_load_n(&stage->flags, __ATOMIC_SEQ_CST);
	int64_t linger = earlier(__atomic_load_n(&stage->linger, __ATOMIC_RELAXED), stage_linger(stage));

	__atomic_store_n(&stage->linger, linger, __ATOMIC_RELAXED);
	if ((flags & STAGE_ARMED) && since + linger < stage->frame_due) {
		stage->last_frame = stage->frame_due == STAGE_NEVER ? now : stage->last_frame;
		stage->frame_due = since + linger;
		stage->pace = linger;
	}
	stage->heard = false;
	/* The next full slab calls again: without an engine the pump makes spare slabs only. */
	if (flags & STAGE_FILLED) {
		__atomic_fetch_and(&stage->flags, ~STAGE_FILLED, __ATOMIC_SEQ_CST);
		stage->filled = true;
	}
	if (flags & STAGE_NOTED) {
		stage->note_due = earlier(stage->note_due, since + STAGE_NOTE_NS);
	}
	if (stage->asked & STAGE_ASK_NOW) {
		stage->asked &= ~STAGE_ASK_NOW;
		__atomic_store_n(&stage->since, STAGE_LONG_AGO, __ATOMIC_RELAXED);
		stage->frame_due = now;
		stage->note_due = now;
	}
}

/* next_look returns the time of the next look at a stage's frames: never without an engine or a gate, and not
 * before the next attempt at a full ring. */
static int64_t next_look(const struct stage_pump *pump, const struct stage *stage, int64_t now)
{
	int64_t next = stage->filled ? now : stage->frame_due;

	if (!__atomic_load_n(&pump->ring.open, __ATOMIC_ACQUIRE) || __atomic_load_n(&stage->held, __ATOMIC_SEQ_CST)) {
		return STAGE_NEVER;
	}
	return next < pump->ring.retry ? pump->ring.retry : next;
}

/* visit takes all due steps at one stage and returns the time of the next. */
static int64_t visit(struct stage_pump *pump, struct stage *stage, int64_t now, int64_t since)
{
	if (stage->heard) {
		hear(stage, now, since);
	}
	if (stage_ring_ready(&pump->ring, now) && !__atomic_load_n(&stage->held, __ATOMIC_SEQ_CST)) {
		/* A look due soon is made now: stages with similar lingers come to share wake-ups. */
		if (stage->frame_due != STAGE_NEVER && stage->frame_due - stage->pace / 8 <= now) {
			look(pump, stage, now, true);
		} else if (stage->filled) {
			look(pump, stage, now, false);
		}
	}
	if (stage->note_due <= now) {
		stage_report(pump, stage);
		stage->note_due = STAGE_NEVER;
	}
	return earlier(next_look(pump, stage, now), stage->note_due);
}

/* visit_all visits the due stages and drops the ones without plans. Returns the time of the next visit;
 * *busy: a stage waits for that visit, as opposed to slabs. */
static int64_t visit_all(struct stage_pump *pump, int64_t now, int64_t since, bool *busy)
{
	struct stage **place = &pump->active;
	int64_t due = STAGE_NEVER;

	*busy = false;
	while (*place) {
		struct stage *stage = *place;
		bool leaving = stage->asked & STAGE_ASK_LEAVE;
		int64_t next = leaving ? STAGE_NEVER : visit(pump, stage, now, since);
		int64_t kept = leaving ? STAGE_NEVER : stage_reclaim(pump, stage, now);

		if (next == STAGE_NEVER && kept == STAGE_NEVER) {
			*place = stage->next_active;
			stage->active = false;
		} else {
			place = &stage->next_active;
			due = earlier(due, earlier(next, kept));
			*busy = *busy || next != STAGE_NEVER;
		}
		if (leaving) {
			leave(pump, stage);
		}
	}
	return due;
}

void stage_activate(struct stage_pump *pump, struct stage *stage)
{
	if (!stage->active) {
		stage->active = true;
		stage->next_active = pump->active;
		pump->active = stage;
	}
}

/* answer moves the calling stages to the active ones. */
static void answer(struct stage_pump *pump)
{
	struct stage *stage = __atomic_exchange_n(&pump->calls, NULL, __ATOMIC_SEQ_CST);

	while (stage) {
		struct stage *next = stage->next_call;

		/* Later requests need another call. */
		__atomic_store_n(&stage->called, false, __ATOMIC_SEQ_CST);
		stage->heard = true;
		stage->asked |= __atomic_exchange_n(&stage->asks, 0, __ATOMIC_SEQ_CST);
		stage_activate(pump, stage);
		stage = next;
	}
}

/* sleep_until sleeps until a call of too little patience, or not at all after a call. deep: no stage is busy,
 * so a call ends the sleep at once even before a short sleep's end. Returns whether it slept. */
static bool sleep_until(struct stage_pump *pump, int64_t until, bool deep)
{
	struct timespec limit = { .tv_sec = until / STAGE_SECOND, .tv_nsec = until % STAGE_SECOND };
	int64_t duration = until == STAGE_NEVER ? STAGE_NEVER : until - stage_now();

	if (duration <= 0) {
		return false;
	}
	__atomic_store_n(&pump->sleep_ns, deep ? STAGE_NEVER : duration, __ATOMIC_RELAXED);
	__atomic_store_n(&pump->sleeping, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&pump->calls, __ATOMIC_SEQ_CST) || __atomic_load_n(&pump->stop, __ATOMIC_SEQ_CST)
		|| __atomic_load_n(&pump->ring.fresh, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&pump->sleeping, 0, __ATOMIC_SEQ_CST);
		return false;
	}
	while (__atomic_load_n(&pump->sleeping, __ATOMIC_SEQ_CST)) {
		if (futex(&pump->sleeping, FUTEX_WAIT_BITSET, 1, until == STAGE_NEVER ? NULL : &limit) && errno == ETIMEDOUT) {
			__atomic_store_n(&pump->sleeping, 0, __ATOMIC_SEQ_CST);
		}
	}
	return true;
}

/* finish takes everything from every stage at the pump's stop. No stage comes or goes during finish: its
 * destroyer waits for the pump. */
static void finish(struct stage_pump *pump)
{
	int64_t until = stage_now() + STAGE_DRAIN_NS;
	struct stage *stage;

	pthread_mutex_lock(&pump->lock);
	stage = pump->stages;
	pthread_mutex_unlock(&pump->lock);
	for (; stage; stage = stage->next) {
		stage_drain(pump, stage, until);
	}
	pthread_mutex_lock(&pump->lock);
	pump->ended = true;
	pthread_cond_broadcast(&pump->progress);
	pthread_mutex_unlock(&pump->lock);
}

/* give_back releases pages that nobody has needed for a while. Returns the time of the next call. */
static int64_t give_back(struct stage_pump *pump, int64_t now)
{
	bool scarce = __atomic_load_n(&pump->slabs.bytes, __ATOMIC_RELAXED) > pump->slabs.most / 2;
	bool anew = scarce || now - pump->period >= STAGE_IDLE_NS;
	int64_t soon;

	if (now - pump->given_back >= STAGE_QUIET_NS) {
		bool plain = stage_pool_give_back(&pump->plain, anew);
		bool shared = stage_pool_give_back(&pump->shared, anew);

		pump->more_back = scarce || plain || shared;
		pump->given_back = now;
		pump->period = anew ? now : pump->period;
	}
	if (!stage_pool_idle(&pump->plain) && !stage_pool_idle(&pump->shared)) {
		return STAGE_NEVER;
	}
	soon = pump->given_back + STAGE_QUIET_NS;
	return pump->more_back || pump->period + STAGE_IDLE_NS < soon ? soon : pump->period + STAGE_IDLE_NS;
}

void *stage_pump_run(void *argument)
{
	struct stage_pump *pump = argument;
	int64_t now = stage_now();
	int64_t due = STAGE_NEVER;
	bool stop = false;
	bool busy = false;

	thread_leave_real_time();
	while (!stop) {
		/* Calls during busy stages, or before the pump's sleep, come after this moment. */
		int64_t since = now;
		bool deep = !busy;

		stage_slab_refill(&pump->plain);
		stage_slab_refill(&pump->shared);
		if (__atomic_load_n(&pump->waiters, __ATOMIC_SEQ_CST)) {
			pthread_mutex_lock(&pump->lock);
			pthread_cond_broadcast(&pump->progress);
			pthread_mutex_unlock(&pump->lock);
		}
		deep = sleep_until(pump, due, deep) && deep;
		answer(pump);
		if (__atomic_load_n(&pump->ring.fresh, __ATOMIC_SEQ_CST)) {
			stage_pump_attach(pump);
		}
		stop = __atomic_load_n(&pump->stop, __ATOMIC_SEQ_CST);
		now = stage_now();
		if (deep && !pump->active) {
			stage_slab_trim(&pump->plain, STAGE_SPARES_READY);
			stage_slab_trim(&pump->shared, STAGE_SPARES_READY);
		}
		due = visit_all(pump, now, deep ? now : since, &busy);
		stage_reclaim_orphans(pump);
		due = earlier(due, give_back(pump, now));
		/* With nothing else to do the pump returns once to trim what an idle pump does not keep. */
		if (!pump->active && (stage_slab_surplus(&pump->plain) || stage_slab_surplus(&pump->shared))) {
			due = earlier(due, now + STAGE_QUIET_NS);
		}
	}
	finish(pump);
	return NULL;
}
