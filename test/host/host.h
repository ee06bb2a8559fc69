/*
 * res_kafka: what the parts of the host program share: the engine's calls, the host's log, and how a case ends.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef HOST_H
#define HOST_H

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "abi/engine.h"

#define ENGINE_POINTER(call) __typeof__(call) *call;
struct engine {
	RESK_CALLS(ENGINE_POINTER)
};
extern struct engine engine;
extern int failures;

/* CHECK(condition) or CHECK(condition, format, …): a case ends where it fails. */
#define CHECK(condition, ...) do { \
		if (!(condition)) { \
			printf("not ok host/%s: line %d: %s ", __func__, __LINE__, #condition); \
			printf(" " __VA_ARGS__); \
			printf("\n"); \
			failures++; \
			return; \
		} \
	} while (0)
#define DONE() printf("ok host/%s\n", __func__)

/* The host's log: how many lines of each level there were since log_reset, and the last one; and how many came after
 * log_close. */
struct host_log {
	int lines[4];
	char last[4096];
	int closed, after_close;
};
extern struct host_log host_log;
void log_reset(void);
void log_close(void);
int errors_logged(void);

extern struct resk_host the_host;

/* Slabs of this size that were given back. */
#define SLAB_BYTES 4096
extern unsigned int slabs_back;
extern struct resk_limits limits;

static inline struct resk_text text(const char *s)
{
	return (struct resk_text) { s, s ? strlen(s) : 0 };
}

/* A configuration with one connection to a port of this machine where nobody listens. */
extern struct resk_entry nobody[3];
#define ENTRIES(list) list, sizeof(list) / sizeof(list[0])

/* How many threads other than ours there are with the signal not blocked. */
int unblocked_in_others(int signal, const int *ours, int count);

/* calls.c: what the engine answers, rightly and wrongly called. */
void is_not_there_before_its_start(void);
void start_checks_its_host(void);
void refuses_bad_calls(void);
void lets_waiting_threads_go(void);
void reports_outlive_the_stop(void);
void slabs_are_kept_and_given_back(void);
void survives_its_own_faults(void);
void bears_many_threads_and_restarts(void);

/* signals.c: that the process's signals stay its own. */
void on_urgent(int signal);
void handlers_are_the_hosts(void);
void its_threads_take_no_signals(void);
void faults_elsewhere_still_end_the_process(void);
void threads_wake_on_sigurg(void);
void sigchld_goes_to_the_thread_that_forked(void);

#endif
