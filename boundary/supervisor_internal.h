/*
 * res_kafka: common parts of supervisor.c and supervisor_thread.c. No other file includes this header.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_SUPERVISOR_INTERNAL_H
#define RES_KAFKA_SUPERVISOR_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "clock.h"
#include "kernel_limits.h"
#include "spawn.h"
#include "supervisor.h"
#include "trace.h"

/* Number of remembered deaths, to detect a crash loop. */
#define SUPERVISOR_DEATHS 5

enum supervisor_state { SUPERVISOR_RUNNING, SUPERVISOR_ENDING, SUPERVISOR_PAUSING, SUPERVISOR_OVER };

struct supervisor {
	struct supervisor_options options;
	char *path, *trace_folder; /* copies of options */
	char **environment;        /* copy from the start, because another thread could change it during a start */
	int binary;
	pthread_t thread;

	pthread_mutex_t lock; /* of the fields below */
	pthread_cond_t changed;
	struct supervisor_status status; /* since_ms is a moment here */
	bool stop, hurry, hasten;
	bool ever_ready; /* an engine was */
	bool failed;     /* the first engine has died before ready */
	int grace_ms;
	int64_t ready_at; /* of the present engine, 0 = not ready */
	bool alive;       /* the ping under way was answered */
	const char *refused; /* the present engine is unacceptable, and why */

	/* The thread's alone. */
	enum supervisor_state state;
	struct spawned engine;
	struct trace trace;
	struct limits limits; /* of the engine, as they were when it first wrote to standard error */
	uint64_t kills;       /* limits_kills before the engine's start */
	char why[LIMITS_WORDS]; /* reason of an end decided here */
	int64_t due;         /* the next thing to do by the clock: of a pause, the start; of an end, the kill */
	bool killed;         /* the last signal was sent */
	int64_t pinged;      /* time of the next ping, or of the last look at a running ping */
	int silent_ms;       /* for how long a ping has not been answered while this thread was running; -1 = none is under way */
	int unready_ms;      /* time without readiness, counted like silent_ms; -1 = ready */
	int64_t watched;     /* time of the last count */
	int pause_ms;        /* of the last pause */
	int64_t crashes[SUPERVISOR_DEATHS]; /* when, the latest first */
};

/* supervisor_run is the thread. */
void *supervisor_run(void *supervisor);

/* supervisor_log writes a line. */
void supervisor_log(struct supervisor *supervisor, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* supervisor_launch starts an engine, or notes the obstacle. */
void supervisor_launch(struct supervisor *supervisor);

/* supervisor_bury handles a dead engine: its last words, the log, and the time of the next start. */
void supervisor_bury(struct supervisor *supervisor, const struct spawn_end *end);

#endif /* RES_KAFKA_SUPERVISOR_INTERNAL_H */
