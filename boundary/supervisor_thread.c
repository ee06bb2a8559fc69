/*
 * res_kafka: starts and watches the engine's process: the thread.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "supervisor_internal.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "messages.h"
#include "thread.h"

/* The time between two pings. */
#define PING_EVERY_MS 10000

/* SUPERVISOR_SILENCE_MS while the engine is to stop: Asterisk waits. */
#define SILENCE_HASTENED_MS 3000

/* Limit for an engine to serve, ms: the configuration opens spools and waits for the disk. Beyond this limit
 * an engine with answers to pings has lost an answer, or has refused this module without ending. Tests have a
 * lower limit. */
#ifndef SUPERVISOR_SERVE_MS
#define SUPERVISOR_SERVE_MS 120000
#endif

/* The most time between two looks counted as silence. A stop of this process (SIGSTOP) does not count. */
#define LOOK_MS 1000

/* Limit for the engine's end after the close of its connection, or for its trace after SIGQUIT, ms. */
#define END_MS 2000
#define END_HASTENED_MS 500

/* Without a pidfd the thread has to look whether the engine has ended, this often, ms. */
#define LOOK_FOR_DEATH_MS 20

/* supervisor_stop waits this long for a killed engine, ms. An engine in a wait for the disk takes longer. */
#define GONE_MS 1000

void supervisor_launch(struct supervisor *s)
{
	const struct spawn_source source = {
		.binary = s->binary, .path = s->path, .environment = s->environment, .handed = s->options.handed,
		.keep_children = s->options.keep_children,
	};
	int64_t now;
	int error;

	s->kills = limits_kills();
	error = spawn_engine(&source, &s->engine, s->why, sizeof(s->why));
	now = clock_now();
	pthread_mutex_lock(&s->lock);
	s->ready_at = 0;
	s->alive = false;
	s->hurry = false;
	s->refused = NULL;
	s->status.attempt++;
	if (!error) {
		s->status.pid = s->engine.pid;
		s->status.since_ms = now;
	}
	pthread_mutex_unlock(&s->lock);
	s->killed = false;
	s->silent_ms = -1;
	s->unready_ms = 0;
	s->watched = now;
	s->pinged = now; /* the first ping goes out at once; without an answer the engine never served */
	if (error) {
		supervisor_bury(s, NULL);
		return;
	}
	s->why[0] = '\0';
	s->state = SUPERVISOR_RUNNING;
	peer_attach(s->options.peer, s->engine.socket);
	s->engine.socket = -1;
	s->options.started();
}

/* Begins the end of an engine: by itself within wait_ms, then by a signal. */
static void end(struct supervisor *s, const char *why, int wait_ms)
{
	if (s->state != SUPERVISOR_RUNNING) {
		return;
	}
	peer_detach(s->options.peer);
	snprintf(s->why, sizeof(s->why), "%s", why);
	s->state = SUPERVISOR_ENDING;
	s->due = clock_now() + wait_ms;
}

/* Takes the engine's messages and output, all of them after its death. */
static void move(struct supervisor *s, bool dead)
{
	const char *why;
	int result = 0, rounds;

	if (s->engine.errors >= 0 && trace_read(&s->trace, s->engine.errors)) {
		close(s->engine.errors);
		s->engine.errors = -1;
	}
	if (s->state != SUPERVISOR_RUNNING) {
		return;
	}
	for (rounds = dead ? 256 : 1; rounds > 0 && !result; rounds--) {
		result = peer_move(s->options.peer, &why);
	}
	if (result) {
		end(s, why ? why : "", why ? 0 : END_MS);
	}
}

/* The counted part of the time since the last look. */
static int counted(int64_t now, int64_t last)
{
	return now - last < LOOK_MS ? (int) (now - last) : LOOK_MS;
}

/* Pings the engine, and ends the engine after too long a time without an answer or without serving. */
static void watch(struct supervisor *s, int64_t now)
{
	bool alive, ready, hasten;
	int limit_ms;

	pthread_mutex_lock(&s->lock);
	alive = s->alive;
	s->alive = false;
	ready = s->ready_at != 0;
	hasten = s->hasten;
	pthread_mutex_unlock(&s->lock);
	s->unready_ms = ready ? -1 : s->unready_ms + counted(now, s->watched);
	s->watched = now;
	if (s->unready_ms >= SUPERVISOR_SERVE_MS) {
		spawn_signal(&s->engine, SIGQUIT);
		end(s, "it answered, but did not serve", END_MS);
		return;
	}
	limit_ms = hasten ? SILENCE_HASTENED_MS : SUPERVISOR_SILENCE_MS;
	if (alive) {
		s->silent_ms = -1;
		s->pinged = now + PING_EVERY_MS;
	}
	if (hasten && s->silent_ms < 0 && s->pinged > now + LOOK_MS) {
		s->pinged = now + LOOK_MS;
	}
	if (s->silent_ms >= 0) {
		s->silent_ms += counted(now, s->pinged);
		s->pinged = now;
		if (s->silent_ms >= limit_ms) {
			spawn_signal(&s->engine, SIGQUIT); /* Go writes the stacks of all goroutines, and ends */
			end(s, hasten ? "it did not answer for 3 seconds" : "it did not answer for 30 seconds",
				hasten ? END_HASTENED_MS : END_MS);
		}
	} else if (now >= s->pinged) {
		s->silent_ms = 0;
		s->pinged = now;
		s->options.ping();
	}
}

/* Executes the requests of other threads. */
static void obey(struct supervisor *s, int64_t now)
{
	const char *refused;
	bool stop, hurry;
	int grace_ms;

	pthread_mutex_lock(&s->lock);
	stop = s->stop;
	hurry = s->hurry;
	grace_ms = s->grace_ms;
	refused = s->refused;
	s->refused = NULL;
	pthread_mutex_unlock(&s->lock);
	if (refused) {
		end(s, refused, 0);
	}
	if (hurry && s->state == SUPERVISOR_PAUSING) {
		s->due = now;
	}
	if (!stop) {
		return;
	}
	if (s->state == SUPERVISOR_PAUSING) {
		s->state = SUPERVISOR_OVER;
	}
	end(s, "", grace_ms);
}

/* Takes the steps due by the clock. */
static void act(struct supervisor *s, int64_t now)
{
	switch (s->state) {
	case SUPERVISOR_RUNNING:
		watch(s, now);
		break;
	case SUPERVISOR_ENDING:
		if (now < s->due) {
			break;
		}
		if (s->killed && s->stop) {
			supervisor_log(s, RESK_LOG_ERROR, "The Kafka engine (pid %d) cannot be ended; it is left behind", (int) s->engine.pid);
			s->state = SUPERVISOR_OVER;
			break;
		}
		if (s->killed) {
			supervisor_log(s, RESK_LOG_ERROR, "The Kafka engine (pid %d) has not ended yet; no other is started before it has",
				(int) s->engine.pid);
		}
		spawn_signal(&s->engine, SIGKILL);
		s->killed = true;
		s->due = now + (s->stop ? GONE_MS : 60000);
		break;
	case SUPERVISOR_PAUSING:
		if (now >= s->due) {
			supervisor_launch(s);
		}
		break;
	case SUPERVISOR_OVER:
		break;
	}
}

/* How long to sleep, ms. */
static int patience(const struct supervisor *s, int64_t now)
{
	int64_t rest = s->due - now;

	if (s->state == SUPERVISOR_RUNNING) {
		rest = s->silent_ms >= 0 ? LOOK_MS : s->pinged - now;
		rest = s->unready_ms >= 0 && rest > LOOK_MS ? LOOK_MS : rest;
	} else if (s->state == SUPERVISOR_ENDING && s->engine.pidfd < 0 && rest > LOOK_FOR_DEATH_MS) {
		rest = LOOK_FOR_DEATH_MS;
	}
	return rest < 0 ? 0 : (int) rest;
}

static void sleep_until_something_happens(struct supervisor *s)
{
	struct pollfd events[4] = {
		{ .fd = peer_wake_descriptor(s->options.peer), .events = POLLIN },
		{ .fd = s->engine.pidfd, .events = POLLIN },
		{ .fd = s->engine.errors, .events = POLLIN },
		{ .fd = -1 },
	};

	if (s->state == SUPERVISOR_RUNNING) {
		events[3].fd = peer_socket(s->options.peer, &events[3].events);
	}
	poll(events, 4, patience(s, clock_now()));
	if (events[0].revents) {
		peer_woken(s->options.peer);
	}
	if (events[2].revents && !s->limits.known) {
		limits_read(s->engine.pid, &s->limits); /* before the trace: see F_SETPIPE_SZ in spawn.c */
	}
}

void *supervisor_run(void *supervisor)
{
	struct supervisor *s = supervisor;
	struct spawn_end how;

	thread_leave_real_time();
	supervisor_launch(s);
	while (s->state != SUPERVISOR_OVER) {
		sleep_until_something_happens(s);
		if (s->state == SUPERVISOR_RUNNING || s->state == SUPERVISOR_ENDING) {
			bool dead = (s->engine.pidfd >= 0 || s->state == SUPERVISOR_ENDING) && spawn_is_dead(&s->engine, &how);

			move(s, dead);
			if (dead) {
				supervisor_bury(s, &how);
			}
		}
		obey(s, clock_now());
		act(s, clock_now());
	}
	return NULL;
}
