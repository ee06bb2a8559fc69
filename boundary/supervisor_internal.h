/*
 * res_kafka: what supervisor.c and supervisor_thread.c share. Nobody else includes this.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_SUPERVISOR_INTERNAL_H
#define RES_KAFKA_SUPERVISOR_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "clock.h"
#include "limits.h"
#include "spawn.h"
#include "supervisor.h"
#include "trace.h"

/* Deaths that are remembered, to see that they come too often. */
#define SUPERVISOR_DEATHS 5

enum supervisor_state { SUPERVISOR_RUNNING, SUPERVISOR_ENDING, SUPERVISOR_PAUSING, SUPERVISOR_OVER };

struct supervisor {
	struct supervisor_options options;
	char *path, *trace_folder; /* what options points to */
	char **environment;        /* as it was at the start, for nobody may change it while an engine starts */
	int binary;
	pthread_t thread;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct supervisor_status status; /* since_ms is a moment here */
	bool stop, hurry, hasten;
	bool ever_ready; /* an engine was */
	bool failed;     /* the first one has died before it was ready */
	int grace_ms;
	int64_t ready_at; /* of the present engine, 0 = it is not ready */
	bool alive;       /* the ping under way was answered */
	const char *refused; /* the present engine is unacceptable, and why */

	/* The thread's alone. */
	enum supervisor_state state;
	struct spawned engine;
	struct trace trace;
	struct limits limits; /* of the engine, as they were when it first wrote to standard error */
	char why[LIMITS_WORDS]; /* the engine is ended, when that was decided here */
	int64_t due;         /* the next thing to do by the clock: of a pause, the start; of an end, the kill */
	bool killed;         /* the last signal was sent */
	int64_t pinged;      /* when the next ping is due, or the present one was seen last */
	int silent_ms;       /* for how long a ping has not been answered while this thread was running; -1 = none is under way */
	int unready_ms;      /* for how long the engine has not served, as silent_ms counts; -1 = it serves */
	int64_t watched;     /* when that was counted last */
	int pause_ms;        /* the last one */
	int64_t crashes[SUPERVISOR_DEATHS]; /* when, the latest first */
};

/* supervisor_run is the thread. */
void *supervisor_run(void *supervisor);

/* supervisor_log writes one line. */
void supervisor_log(struct supervisor *supervisor, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* supervisor_launch starts an engine, or notes why it cannot. */
void supervisor_launch(struct supervisor *supervisor);

/* supervisor_bury sees to a dead engine: its last words, the log, and when the next one is due. */
void supervisor_bury(struct supervisor *supervisor, const struct spawn_end *end);

#endif /* RES_KAFKA_SUPERVISOR_INTERNAL_H */
