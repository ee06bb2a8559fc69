/*
 * res_kafka: common parts of the supervisor's test.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef KIT_H
#define KIT_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "boundary/codec.h"
#include "boundary/peer.h"
#include "boundary/supervisor.h"

extern int failures;
extern char folder[64]; /* of this run: how engines behave, and traces */

/* CHECK(condition) or CHECK(condition, format, …): a failed condition ends the case. */
#define CHECK(condition, ...) do { \
		if (!(condition)) { \
			printf("not ok supervisor/%s: line %d: %s ", __func__, __LINE__, #condition); \
			printf(" " __VA_ARGS__); \
			printf("\n"); \
			failures++; \
			leave(); \
			return; \
		} \
	} while (0)
#define DONE() do { leave(); printf("ok supervisor/%s\n", __func__); } while (0)

/* Waits up to ten seconds until something is so. */
#define SOON(condition) __extension__ ({ \
		int waits; \
		for (waits = 0; waits < 2000 && !(condition); waits++) { \
			usleep(5000); \
		} \
		(condition); \
	})

/* The module's side of the running case. */
extern struct peer *peer;
extern struct supervisor *supervisor;
extern int handed[SUPERVISOR_HANDED];
extern _Atomic int started, died;
extern _Atomic int pongs; /* of the latest engine */
extern _Atomic int slow_death; /* duration of the supervisor's `died`, ms */
extern char logged[65536];

int was_logged(const char *text);

/* behave sets how later engines behave, see be_engine. */
void behaviour_path(char *path, size_t size);
void behave(const char *how);

/* enter starts the first engine and reports whether it serves. leave ends everything. */
int enter(const char *how);
void leave(void);

/* ask sends a request of this size, only to the engine of ask_generation unless 0. The answer must be
 * "yes". */
extern uint64_t ask_generation;
enum peer_result ask(uint16_t kind, size_t bytes, int timeout_ms, const void *tag);

pid_t engine_pid(void);
void kill_engine(void);

/* reap is Asterisk's handler of SIGCHLD: it reaps every child, except after keep_children. */
void reap(int signal);

/* engine.c: this program as an engine. Returns the exit status. */
int be_engine(void);

/* cases.c */
void run_cases(int slow);

#endif /* KIT_H */
