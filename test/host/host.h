/*
 * res_kafka: common parts of the host program: a module's side of the connection, its log, and the end of a
 * case.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "boundary/codec.h"
#include "boundary/frame.h"
#include "boundary/peer.h"
#include "boundary/supervisor.h"
#include "stage/stage.h"

extern int failures;

/* CHECK(condition) or CHECK(condition, format, …): a failed condition ends the case. */
#define CHECK(condition, ...) do { \
		if (!(condition)) { \
			printf("not ok host/%s: line %d: %s ", __func__, __LINE__, #condition); \
			printf(" " __VA_ARGS__); \
			printf("\n%s", host_log()); \
			failures++; \
			host_leave(); \
			return; \
		} \
	} while (0)
#define DONE() do { host_leave(); printf("ok host/%s\n", __func__); } while (0)

/* Waits up to twenty seconds until something is so. */
#define SOON(condition) __extension__ ({ \
		int waits; \
		for (waits = 0; waits < 4000 && !(condition); waits++) { \
			usleep(5000); \
		} \
		(condition); \
	})

/* The module's side, while a case runs. */
extern struct peer *peer;
extern struct supervisor *supervisor;
extern struct stage_memory memory;
extern struct stage_pump *pump;
extern char host_folder[64]; /* of this run: spool and traces */

/* host_enter starts an engine and waits until it serves. Returns whether the engine serves. */
bool host_enter(void);
/* host_enter_as does so with a number and a name of a build. */
bool host_enter_as(uint64_t abi, const char *build);
/* host_leave stops the engine in any state. */
void host_leave(void);

/* Number of frames handed over again by the pump, and number of its reports of completeness: atomic. */
extern unsigned int frames_again, shown_all;

/* Returns the log lines of engine and supervisor since host_enter; valid until the next line. */
const char *host_log(void);
bool was_logged(const char *text);
pid_t engine_pid(void);

/* A request: begin, fill in with boundary_put_..., and ask. Returns the answer's result, or RESK_ESTATE
 * without an answer. */
extern __thread struct boundary_writer request;
void begin(enum boundary_kind kind);
int32_t ask(void);
/* The same for an answer with more fields: *reader is valid until the next request of this thread. Returns
 * whether there is an answer. */
bool ask_more(struct boundary_reader *reader);

/* Frequent requests. */
int32_t configure(const char *lines); /* NULL = connection "nobody" without a broker; else its name=value lines */
int32_t producer_open(const char *name, uint64_t id);
int32_t number(enum boundary_kind kind, uint64_t number);

/* calls.c */
void greets(void);
void refuses_another_build(void);
void refuses_bad_calls(void);
void refuses_noise(void);
void lets_waiting_threads_go(void);
void reports_outlive_the_stop(void);
void bears_many_threads(void);

/* deaths.c */
void survives_its_own_faults(void);
void is_replaced(void);
void takes_over_frames(void);
void holds_frames_back(void);
void ends_with_its_module(void);
void leaves_nothing_behind(void);

#endif /* HOST_H */
