/*
 * res_kafka: starts the engine's process, watches it, and starts another engine after its death. Knows
 * nothing of Asterisk.
 *
 * The supervisor has one thread, which is also the peer's reader: it polls the socket, the engine's standard
 * error, its pidfd and the time. A successor starts only after the proof of the old engine's death.
 *
 *     stopped ──start──► running ──socket or process ends, watchdog──► ending ──dead──► pausing ──pause is over──► running
 *
 * The program is opened once. Later engines are started from this descriptor, so an upgrade of the files
 * under a running PBX does not mix builds.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_SUPERVISOR_H
#define RES_KAFKA_SUPERVISOR_H

#include <stdint.h>
#include <sys/types.h>

#include "peer.h"

/* Numbers of an engine's descriptors at its start. 0 is /dev/null, 1 and 2 the pipe of standard error. */
#define SUPERVISOR_SOCKET 3
#define SUPERVISOR_SHARED 4 /* first of the caller's descriptors */

/* Maximum of the caller's descriptors. */
#define SUPERVISOR_HANDED 3

/* An engine without an answer to pings for this time is replaced, ms: longer than the pauses of a swapping
 * machine, and shorter than the time for 1,000 records a second to fill a queue of the default size. */
#define SUPERVISOR_SILENCE_MS 30000

struct supervisor;

struct supervisor_options {
	const char *path;         /* of the binary; copied */
	const char *trace_folder; /* for standard error of engines; copied; NULL = none */
	struct peer *peer;        /* outlives the supervisor */
	int handed[SUPERVISOR_HANDED]; /* descriptors for SUPERVISOR_SHARED and following; the caller keeps ownership */

	/* The level is enum resk_log_level. Any thread. */
	void (*log)(int level, const char *text);
	/* An engine has been started and the peer attached. From the supervisor's thread. */
	void (*started)(void);
	/* The engine is dead and the peer detached. From the supervisor's thread. */
	void (*died)(void);
	/* Posts a cheap request; its answer must call supervisor_alive. From the supervisor's thread. */
	void (*ping)(void);
	/* on = 1: no code may reap children of this process until the call with 0. Bounded; may be NULL. */
	void (*keep_children)(int on);
};

/* State for `kafka show status`. */
struct supervisor_status {
	pid_t pid;           /* 0 = there is none */
	int64_t since_ms;    /* time since the start of the engine, or of its absence */
	unsigned int deaths; /* how many engines have died, stops not counted */
	unsigned int attempt;/* since the last ready engine */
	char last[256];      /* end of the last engine; empty = none */
};

/* supervisor_start opens the program and creates the thread, which starts the first engine. *supervisor is
 * set before the first callback. Returns 0, or -1 with the reason in the log and *supervisor NULL. */
int supervisor_start(const struct supervisor_options *options, struct supervisor **supervisor);

/* supervisor_ready notes that the engine serves: after its death a successor starts. An engine that dies
 * before the first ready engine has no successor. Any thread. */
void supervisor_ready(struct supervisor *supervisor);

/* supervisor_wait_first waits for the first engine, timeout_ms at most. Returns 0 for a ready engine, -1
 * after its death, with a log line, and 1 after the timeout. */
int supervisor_wait_first(struct supervisor *supervisor, int timeout_ms);

/* supervisor_alive notes an answer to a ping. Any thread. */
void supervisor_alive(struct supervisor *supervisor);

/* supervisor_refuse ends the engine, which has said something unacceptable. why goes to the log and is a constant. Any thread. */
void supervisor_refuse(struct supervisor *supervisor, const char *why);

/* supervisor_hurry ends a pause. Any thread. */
void supervisor_hurry(struct supervisor *supervisor);

/* supervisor_hasten shortens the watchdog for a waiting stop: from now on a ping every second, and the end
 * after three seconds without an answer. Any thread. */
void supervisor_hasten(struct supervisor *supervisor);

/* supervisor_status says how the engine is. Any thread. */
void supervisor_status(struct supervisor *supervisor, struct supervisor_status *status);

/* supervisor_stop closes the socket, waits for the engine's end, kills the engine after grace_ms, and ends
 * the thread. Blocks until the engine's death, or another second for an unkillable engine. Once. supervisor
 * may be NULL. */
void supervisor_stop(struct supervisor *supervisor, int grace_ms);

/* supervisor_free frees a stopped supervisor without users. supervisor may be NULL. */
void supervisor_free(struct supervisor *supervisor);

#endif /* RES_KAFKA_SUPERVISOR_H */
