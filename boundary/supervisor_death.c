/*
 * res_kafka: starts and watches the engine's process: the steps after a death.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "supervisor_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "messages.h"

/* The pause before the next engine. It doubles with each death before HEALTHY_MS of service, or before ten
 * times the last pause if less. */
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 60000
#define HEALTHY_MS 60000
#define SERVED_MS 2000

/* SUPERVISOR_DEATHS crashes within this make the pause longer at once. */
#define CRASHES_WITHIN_MS 60000
#define PAUSE_CRASHES_MS 10000

/* Whether the engine may have died from another process's SIGKILL. */
static bool was_killed(const struct supervisor *s, const struct spawn_end *end)
{
	return !s->killed && !s->trace.length && (!end->known || (WIFSIGNALED(end->status) && WTERMSIG(end->status) == SIGKILL));
}

/* Describes the engine's end. Returns whether the cause was a limit of the kernel. */
static bool describe(const struct supervisor *s, const struct spawn_end *end, char *text, size_t size)
{
	char reason[160], status[128], words[LIMITS_WORDS] = "";
	int error;

	trace_reason(&s->trace, reason, sizeof(reason));
	if (!end) {
		snprintf(text, size, "cannot be started: %s", s->why);
		return true;
	}
	error = limits_of_reason(reason);
	if (error) {
		limits_words(error, &s->limits, words, sizeof(words));
	} else if (was_killed(s, end) && limits_kills() > s->kills) {
		limits_memory_words(words, sizeof(words));
		error = ENOMEM;
	}
	if (!end->known) {
		snprintf(status, sizeof(status), "ended");
	} else if (WIFSIGNALED(end->status)) {
		snprintf(status, sizeof(status), "was ended by signal %d%s", WTERMSIG(end->status),
			WTERMSIG(end->status) == SIGSYS ? " of a filter of system calls; see SystemCallFilter= in Asterisk's unit" : "");
	} else {
		snprintf(status, sizeof(status), "ended with status %d", WEXITSTATUS(end->status));
	}
	snprintf(text, size, "%s%s%s%s%s%s%s", status, s->why[0] ? ", " : "", s->why,
		reason[0] ? ": " : "", reason, error ? "; " : "", words);
	return error;
}

/* Whether the engine failed by itself, as opposed to a kill from outside without last words. */
static bool has_crashed(const struct supervisor *s, const struct spawn_end *end)
{
	if (!end || s->killed || s->trace.length) {
		return true;
	}
	return end->known && !(WIFSIGNALED(end->status) && WTERMSIG(end->status) == SIGKILL);
}

/* Returns the pause before the next start. */
static int next_pause(struct supervisor *s, bool crashed, int64_t now)
{
	int64_t served = s->ready_at ? now - s->ready_at : 0;
	int64_t enough = 10LL * s->pause_ms;
	bool too_often;

	enough = enough < SERVED_MS ? SERVED_MS : enough > HEALTHY_MS ? HEALTHY_MS : enough;
	s->pause_ms = served >= enough || !s->pause_ms ? PAUSE_MIN_MS : 2 * s->pause_ms;
	if (crashed) {
		memmove(&s->crashes[1], &s->crashes[0], sizeof(s->crashes) - sizeof(s->crashes[0]));
		s->crashes[0] = now;
		too_often = s->crashes[SUPERVISOR_DEATHS - 1] && now - s->crashes[SUPERVISOR_DEATHS - 1] < CRASHES_WITHIN_MS;
		if (too_often && s->pause_ms < PAUSE_CRASHES_MS) {
			s->pause_ms = PAUSE_CRASHES_MS;
		}
	}
	if (s->pause_ms > PAUSE_MAX_MS) {
		s->pause_ms = PAUSE_MAX_MS;
	}
	return s->pause_ms;
}

/* Saves the engine's last words and appends their place to text. */
static void save(struct supervisor *s, char *text, size_t size)
{
	char title[512], path[512], now[32];
	size_t length = strlen(text);
	time_t seconds = time(NULL);
	struct tm broken;

	if (!s->trace.length || !s->trace_folder) {
		return;
	}
	strftime(now, sizeof(now), "%Y-%m-%d %H:%M:%S %z", localtime_r(&seconds, &broken));
	snprintf(title, sizeof(title), "%s: the Kafka engine (pid %d) %s\n\n", now, (int) s->status.pid, text);
	if (trace_save(&s->trace, s->trace_folder, title, path, sizeof(path))) {
		snprintf(text + length, size - length, " (its trace cannot be written to %s: %s)", path, strerror(errno));
	} else {
		snprintf(text + length, size - length, " (trace: %s)", path);
	}
}

/* Closes the engine's remains. */
static void clean(struct supervisor *s)
{
	if (s->engine.errors >= 0) {
		close(s->engine.errors);
		s->engine.errors = -1;
	}
	peer_detach(s->options.peer);
	trace_forget(&s->trace);
	s->limits.known = false;
}

void supervisor_bury(struct supervisor *s, const struct spawn_end *end)
{
	int64_t now = clock_now();
	bool crashed = has_crashed(s, end), stopping, first, limited;
	char text[1024], who[32] = "", often[96] = "";
	int pause_ms = 0;

	limited = describe(s, end, text, sizeof(text));
	if (end) {
		snprintf(who, sizeof(who), "(pid %d) ", (int) s->status.pid);
	}
	pthread_mutex_lock(&s->lock);
	stopping = s->stop;
	first = !s->ever_ready;
	pthread_mutex_unlock(&s->lock);
	if (!stopping || s->trace.length) {
		save(s, text, sizeof(text));
	}
	if (!stopping && !first) {
		pause_ms = next_pause(s, crashed, now);
		if (crashed && !limited && pause_ms >= PAUSE_CRASHES_MS) {
			snprintf(often, sizeof(often), "; it has died %u times, again and again%s", s->status.deaths + 1,
				s->trace.length ? ": please report the trace" : "");
		}
		supervisor_log(s, RESK_LOG_ERROR, "The Kafka engine %s%s; another one is started in %d ms%s", who, text, pause_ms, often);
	} else if (first || s->trace.length) {
		supervisor_log(s, RESK_LOG_ERROR, "The Kafka engine %s%s", who, text);
	}
	clean(s);
	s->options.died();
	pthread_mutex_lock(&s->lock);
	s->status.deaths += !stopping;
	s->status.pid = 0;
	s->status.since_ms = now;
	snprintf(s->status.last, sizeof(s->status.last), "%.*s", (int) sizeof(s->status.last) - 1, text);
	s->ready_at = 0;
	s->failed = first;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	s->state = stopping || first ? SUPERVISOR_OVER : SUPERVISOR_PAUSING;
	s->due = now + pause_ms;
	s->why[0] = '\0';
}
