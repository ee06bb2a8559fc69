/*
 * res_kafka: starts the engine's process, watches it, and starts another one when it has died. Knows nothing of Asterisk.
 *
 * The supervisor has one thread, which is also the peer's reader: it polls the socket, the engine's standard error, its
 * pidfd and the time. A successor is started only when the old engine is proved dead.
 *
 *     stopped ──start──► running ──socket or process ends, watchdog──► ending ──dead──► pausing ──pause is over──► running
 *
 * The binary is opened once. Later engines are started from that descriptor, so an upgrade of the files under a running PBX
 * does not mix builds.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_SUPERVISOR_H
#define RES_KAFKA_SUPERVISOR_H

#include <stdint.h>
#include <sys/types.h>

#include "peer.h"

/* Numbers of the descriptors that an engine is born with. 0 is /dev/null, 1 and 2 the pipe of its standard error. */
#define SUPERVISOR_SOCKET 3
#define SUPERVISOR_SHARED 4 /* the first of those that the caller hands over */

/* Most descriptors that the caller hands over. */
#define SUPERVISOR_HANDED 3

struct supervisor;

struct supervisor_options {
	const char *path;         /* of the binary; copied */
	const char *trace_folder; /* for what engines write to standard error; copied; NULL = nowhere */
	struct peer *peer;        /* outlives the supervisor */
	int handed[SUPERVISOR_HANDED]; /* descriptors that become SUPERVISOR_SHARED and following; they stay the caller's */

	/* The level is enum resk_log_level. Any thread. */
	void (*log)(int level, const char *text);
	/* An engine has been started and the peer attached. From the supervisor's thread. */
	void (*started)(void);
	/* The engine is dead and the peer detached. From the supervisor's thread. */
	void (*died)(void);
	/* Posts a cheap request whose answer is to call supervisor_alive. From the supervisor's thread. */
	void (*ping)(void);
	/* on = 1: nobody may reap children of this process until it is called with 0. Bounded; may be NULL. */
	void (*keep_children)(int on);
};

/* What `kafka show status` shows. */
struct supervisor_status {
	pid_t pid;           /* 0 = there is none */
	int64_t since_ms;    /* for how long it has run, or there has been none */
	unsigned int deaths; /* how many engines have died, stops not counted */
	unsigned int attempt;/* since the last engine that became ready */
	char last[256];      /* how the last one ended; empty when none did */
};

/* supervisor_start opens the binary and creates the thread, which starts the first engine. *supervisor is set before its first
 * callback. Returns 0, or -1 with the reason in the log and *supervisor NULL. */
int supervisor_start(const struct supervisor_options *options, struct supervisor **supervisor);

/* supervisor_ready says that the engine serves: its death will be followed by another one. An engine that dies before the
 * first was ready is the last. Any thread. */
void supervisor_ready(struct supervisor *supervisor);

/* supervisor_wait_first waits until the first engine was ready or has died, timeout_ms at most. Returns 0 when it is ready, -1 when it
 * has died, which the log says, and 1 when the time is over. */
int supervisor_wait_first(struct supervisor *supervisor, int timeout_ms);

/* supervisor_alive says that the engine answered a ping. Any thread. */
void supervisor_alive(struct supervisor *supervisor);

/* supervisor_refuse ends the engine, which has said something unacceptable. why goes to the log and is a constant. Any thread. */
void supervisor_refuse(struct supervisor *supervisor, const char *why);

/* supervisor_hurry ends a pause. Any thread. */
void supervisor_hurry(struct supervisor *supervisor);

/* supervisor_hasten has the engine asked every second from now on whether it works, and ended when it does not answer for three:
 * somebody waits for it to stop. Any thread. */
void supervisor_hasten(struct supervisor *supervisor);

/* supervisor_status says how the engine is. Any thread. */
void supervisor_status(struct supervisor *supervisor, struct supervisor_status *status);

/* supervisor_stop closes the socket, waits for the engine to end, kills it after grace_ms, and ends the thread. Blocks until
 * the engine is dead, or for another second when it cannot be killed. Once. supervisor may be NULL. */
void supervisor_stop(struct supervisor *supervisor, int grace_ms);

/* supervisor_free frees a supervisor that was stopped and is used by no thread. supervisor may be NULL. */
void supervisor_free(struct supervisor *supervisor);

#endif /* RES_KAFKA_SUPERVISOR_H */
