/*
 * res_kafka: the pump's schedule: one thread, and when it looks at which stage.
 *
 * A stage is *armed* from its first frame on: the pump looks at it every linger without being told, and takes what has
 * waited that long, or comes again when it will have; so its writers call nobody. After STAGE_QUIET_NS without a frame
 * (at once when there is no linger) the pump disarms it, and the next writer arms it again and calls. Both happen under
 * the stage's lock together with the reservation of frames, so a frame is either seen by the look that disarms or finds
 * the stage disarmed. With no stage armed and no note to report the pump sleeps without a time limit.
 *
 *               put: call                              look: nothing for STAGE_QUIET_NS
 *     disarmed ───────────► armed, look every linger ───────────────────────────────────► disarmed
 *                             put fills a slab: call, full slabs are taken at once
 *
 * The pump visits the stages that are armed or have called, and those whose shared slabs wait for their frames to be
 * done, ever more rarely (shared.c); no others.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>

#include "internal.h"

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

bool stage_pump_call_locked(struct stage *stage, unsigned int asks, int64_t patience)
{
	struct stage_pump *pump = stage->pump;

	stage->asks |= asks;
	if (!stage->called) {
		stage->called = true;
		stage->next_call = pump->calls;
		pump->calls = stage;
	}
	/* The pump began to sleep before now and will have slept enough sleep_ns after that: soon enough for a caller
	 * who can wait as long. */
	if (!pump->sleeping || patience >= pump->sleep_ns) {
		return false;
	}
	pump->sleeping = false;
	return true;
}

void stage_pump_call(struct stage *stage, unsigned int asks, int64_t patience)
{
	struct stage_pump *pump = stage->pump;
	bool wake;

	pthread_mutex_lock(&pump->lock);
	wake = stage_pump_call_locked(stage, asks, patience);
	pthread_mutex_unlock(&pump->lock);
	/* Outside the lock, which the woken pump wants first of all. */
	if (wake) {
		pthread_cond_signal(&pump->wake);
	}
}

/* look takes what there is, only full slabs unless all, and decides when to come again. What has not lingered as long as it
 * may is left until it has: each time the engine is brought something costs more than the time of the pump's to come again. */
static void look(struct stage_pump *pump, struct stage *stage, int64_t now, bool all)
{
	int64_t handed = stage->handed;
	int64_t linger;
	int64_t ripe;
	enum rest rest;

	pthread_mutex_lock(&stage->lock);
	stage->flags &= ~STAGE_FILLED;
	linger = stage_linger(stage);
	stage->linger = linger;
	ripe = stage->since ? stage->since + linger : now;
	pthread_mutex_unlock(&stage->lock);
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
		stage->frame_due = earlier(all ? STAGE_NEVER : stage->frame_due, now + STAGE_COPY_NS);
		return;
	}
	if (!all) {
		return;
	}
	/* What is put from now on, or was since the look began, must not wait longer than linger. */
	stage->pace = linger;
	stage->frame_due = rest == REST_MORE ? now : now + linger;
	if (rest == REST_NONE && (linger == 0 || now - stage->last_frame >= STAGE_QUIET_NS)
		&& stage_disarm(pump, stage)) {
		stage->frame_due = STAGE_NEVER;
	}
}

/* leave forgets a stage, which may be freed as soon as the lock is released. The taker itself may have noted
 * something during the last calls, so the stage may be in the list of calls again. */
static void leave(struct stage_pump *pump, struct stage *stage)
{
	struct stage **call;

	stage_drain(pump, stage);
	pthread_mutex_lock(&pump->lock);
	for (call = &pump->calls; *call; call = &(*call)->next_call) {
		if (*call == stage) {
			*call = stage->next_call;
			break;
		}
	}
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

/* hear finds out what a stage that called wants. It called after `since`, so that is where its times count from. */
static void hear(struct stage *stage, int64_t now, int64_t since)
{
	unsigned int flags;
	int64_t linger;

	pthread_mutex_lock(&stage->lock);
	flags = stage->flags;
	stage->linger = earlier(stage->linger, stage_linger(stage));
	linger = stage->linger;
	pthread_mutex_unlock(&stage->lock);
	if ((flags & STAGE_ARMED) && since + linger < stage->frame_due) {
		stage->last_frame = stage->frame_due == STAGE_NEVER ? now : stage->last_frame;
		stage->frame_due = since + linger;
		stage->pace = linger;
	}
	stage->heard = false;
	if (flags & STAGE_FILLED) {
		stage->filled = true;
	}
	if (flags & STAGE_NOTED) {
		stage->note_due = earlier(stage->note_due, since + STAGE_NOTE_NS);
	}
	if (stage->asked & STAGE_ASK_NOW) {
		stage->asked &= ~STAGE_ASK_NOW;
		pthread_mutex_lock(&stage->lock);
		stage->since = STAGE_LONG_AGO;
		pthread_mutex_unlock(&stage->lock);
		stage->frame_due = now;
		stage->note_due = now;
	}
}

/* visit does what is due at one stage and returns when something will be again. */
static int64_t visit(struct stage_pump *pump, struct stage *stage, int64_t now, int64_t since)
{
	if (stage->heard) {
		hear(stage, now, since);
	}
	/* A look that would be due soon is as well had now: stages with like lingers come to share their wake-ups. */
	if (stage->frame_due != STAGE_NEVER && stage->frame_due - stage->pace / 8 <= now) {
		look(pump, stage, now, true);
	} else if (stage->filled) {
		look(pump, stage, now, false);
	}
	if (stage->note_due <= now) {
		stage_report(pump, stage);
		stage->note_due = STAGE_NEVER;
	}
	return stage->filled ? now : earlier(stage->frame_due, stage->note_due);
}

/* visit_all visits the stages that want to be and forgets about those with no plans. Returns when to come again; *busy
 * says whether somebody is waiting for that, or only slabs are. */
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

/* answer moves the stages that have called to the active ones, under the pump's lock. */
static void answer(struct stage_pump *pump)
{
	while (pump->calls) {
		struct stage *stage = pump->calls;

		pump->calls = stage->next_call;
		stage->called = false;
		stage->heard = true;
		stage->asked |= stage->asks;
		stage->asks = 0;
		if (!stage->active) {
			stage->active = true;
			stage->next_active = pump->active;
			pump->active = stage;
		}
	}
}

/* sleep_until sleeps under the pump's lock, until a call that cannot wait so long, or not at all if there are calls
 * already. deep: no stage is busy, so that whoever calls is to be heard at once even if the sleep is not meant to
 * last. Returns whether it slept. */
static bool sleep_until(struct stage_pump *pump, int64_t until, bool deep)
{
	struct timespec limit = { .tv_sec = until / STAGE_SECOND, .tv_nsec = until % STAGE_SECOND };
	int64_t duration = until == STAGE_NEVER ? STAGE_NEVER : until - stage_now();

	if (pump->calls || pump->stop || duration <= 0) {
		return false;
	}
	pump->sleep_ns = deep ? STAGE_NEVER : duration;
	pump->sleeping = true;
	while (pump->sleeping) {
		if (until == STAGE_NEVER) {
			pthread_cond_wait(&pump->wake, &pump->lock);
		} else if (pthread_cond_timedwait(&pump->wake, &pump->lock, &limit) == ETIMEDOUT) {
			pump->sleeping = false;
		}
	}
	return true;
}

/* finish takes everything from every stage when the pump is to stop. Stages do not come or go during it: who
 * destroys one waits for the pump. */
static void finish(struct stage_pump *pump)
{
	struct stage *stage;

	pthread_mutex_lock(&pump->lock);
	stage = pump->stages;
	pthread_mutex_unlock(&pump->lock);
	for (; stage; stage = stage->next) {
		stage_drain(pump, stage);
	}
	pthread_mutex_lock(&pump->lock);
	pump->ended = true;
	pthread_cond_broadcast(&pump->progress);
	pthread_mutex_unlock(&pump->lock);
}

void *stage_pump_run(void *argument)
{
	struct stage_pump *pump = argument;
	int64_t now = stage_now();
	int64_t due = STAGE_NEVER;
	bool stop = false;
	bool busy = false;

	while (!stop) {
		/* Whoever calls while stages are busy, or before the pump sleeps, does so after this moment. */
		int64_t since = now;
		bool deep = !busy;

		stage_slab_refill(&pump->plain);
		stage_slab_refill(&pump->shared);
		pthread_mutex_lock(&pump->lock);
		if (pump->waiters) {
			pthread_cond_broadcast(&pump->progress);
		}
		deep = sleep_until(pump, due, deep) && deep;
		answer(pump);
		stop = pump->stop;
		pthread_mutex_unlock(&pump->lock);
		now = stage_now();
		if (deep && !pump->active) {
			stage_slab_trim(&pump->plain, STAGE_SPARES_READY);
			stage_slab_trim(&pump->shared, STAGE_SPARES_READY);
		}
		due = visit_all(pump, now, deep ? now : since, &busy);
		stage_reclaim_orphans(pump);
		/* With nothing else to do the pump comes back once, for the spares that an idle one does not keep. */
		if (!pump->active && (stage_slab_surplus(&pump->plain) || stage_slab_surplus(&pump->shared))) {
			due = now + STAGE_QUIET_NS;
		}
	}
	finish(pump);
	return NULL;
}
