/*
 * res_kafka: a process of the engine: its start and its identity. Knows nothing of Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_SPAWN_H
#define RES_KAFKA_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "supervisor.h"

struct spawned {
	pid_t pid;  /* 0 = there is none */
	int pidfd;  /* -1 = this kernel has none: then the process cannot be signalled */
	int socket; /* ours; does not block */
	int errors; /* reading end of standard error; does not block; -1 = closed */
};

/* How a process ended. */
struct spawn_end {
	bool known; /* else reaped elsewhere: Asterisk's handler of SIGCHLD reaps every child */
	int status; /* as by waitpid */
};

struct spawn_source {
	int binary;         /* -1 = start by path */
	const char *path;
	char **environment;
	const int *handed;  /* SUPERVISOR_HANDED descriptors */
	void (*keep_children)(int on);
};

/* spawn_engine starts the engine with default signals, an empty mask, SCHED_OTHER and its own session. Other
 * inherited descriptors are closed, where the C library can; the engine closes the rest. Returns 0, or -1
 * with the reason in why. */
int spawn_engine(const struct spawn_source *source, struct spawned *engine, char *why, size_t size);

/* spawn_signal sends a signal. Does nothing without a pidfd. */
void spawn_signal(const struct spawned *engine, int signal);

/* spawn_is_dead reports whether and how the process has ended. A dead process is then reaped and the pidfd is
 * closed. */
bool spawn_is_dead(struct spawned *engine, struct spawn_end *end);

#endif /* RES_KAFKA_SPAWN_H */
