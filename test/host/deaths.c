/*
 * res_kafka: deaths of engines and their consequences.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <time.h>

#include "host.h"

static int32_t fault(const char *how)
{
	begin(BOUNDARY_FAULT);
	boundary_put_string(&request, how);
	return ask();
}

void survives_its_own_faults(void)
{
	pid_t pid;
	int i;

	CHECK(host_enter());
	pid = engine_pid();
	for (i = 0; i < 10; i++) {
		CHECK(fault("panic") == RESK_PANIC);
	}
	CHECK(SOON(was_logged("panicked")));
	CHECK(configure(NULL) == RESK_OK && engine_pid() == pid);
	DONE();
}

/* An uncaught panic ends the engine, and another engine starts. */
void is_replaced(void)
{
	pid_t first;

	CHECK(host_enter());
	CHECK(configure(NULL) == RESK_OK);
	first = engine_pid();
	fault("crash");
	CHECK(SOON(engine_pid() && engine_pid() != first && peer_wait(peer, 0) == 2));
	CHECK(was_logged("(trace: "));
	CHECK(producer_open("nobody", 1) == RESK_ENOENT); /* before any configuration */
	CHECK(configure(NULL) == RESK_OK);
	fault("exit");
	CHECK(SOON(peer_wait(peer, 0) == 3));
	DONE();
}

/* The next engine gets the unfinished frames of a dead engine. */
void takes_over_frames(void)
{
	struct resk_frame_head head = { .topic_length = 1, .key_length = RESK_NULL, .value_length = 100 };
	char value[100] = "";
	struct iovec parts[] = { { &head, sizeof(head) }, { "u", 1 }, { value, sizeof(value) } };
	struct resk_gate *gate;
	struct stage *stage;
	struct timespec now;
	int64_t again;
	int i;

	CHECK(host_enter());
	CHECK(configure("durability=memory") == RESK_OK);
	stage = stage_create(pump, NULL, "nobody");
	gate = stage_gate(stage);
	CHECK(producer_open("nobody", stage_number(stage)) == RESK_OK);
	CHECK(SOON(__atomic_load_n(&shown_all, __ATOMIC_SEQ_CST) == 1)); /* the pump has searched for frames of an earlier engine */
	/* Expired records leave the stage, and so do records of a topic on disk. */
	clock_gettime(CLOCK_REALTIME, &now);
	head.accepted_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
	for (i = 0; i < 1000; i++) {
		CHECK(stage_put(stage, parts, 3, sizeof(value), true) == STAGE_OK);
	}
	CHECK(SOON(__atomic_load_n(&gate->handed, __ATOMIC_SEQ_CST) == 1000));
	CHECK(!frames_again);
	kill(engine_pid(), SIGKILL);
	CHECK(SOON(peer_wait(peer, 0) == 2));
	CHECK(configure("durability=memory") == RESK_OK);
	CHECK(producer_open("nobody", stage_number(stage)) == RESK_OK);
	stage_pump_engine_new(pump);
	CHECK(SOON(__atomic_load_n(&shown_all, __ATOMIC_SEQ_CST) == 2));
	again = __atomic_load_n(&frames_again, __ATOMIC_SEQ_CST);
	CHECK(again == 1000, "%lld frames are handed over again", (long long) again);
	CHECK(SOON(__atomic_load_n(&gate->handed, __ATOMIC_SEQ_CST) == 1000));
	stage_shut(stage);
	CHECK(stage_flush(stage, 10000000000LL));
	/* Without a broker, the stop drops each record once. */
	number(BOUNDARY_STOP, 0);
	CHECK(__atomic_load_n(&gate->done_frames, __ATOMIC_SEQ_CST) == 1000, "%ld", (long) gate->done_frames);
	stage_destroy(stage);
	DONE();
}

/* An engine gets no frames of an unknown gate: such frames would stay in the stage. */
void holds_frames_back(void)
{
	struct resk_frame_head head = { .topic_length = 1, .key_length = RESK_NULL, .value_length = RESK_NULL };
	struct iovec parts[] = { { &head, sizeof(head) }, { "t", 1 } };
	struct resk_gate *gate;
	struct stage *stage;

	CHECK(host_enter());
	CHECK(configure(NULL) == RESK_OK);
	stage = stage_create(pump, NULL, "nobody");
	gate = stage_gate(stage);
	gate->max_frames = gate->max_charge = gate->max_length = 1000;
	gate->memory = INT64_MAX;
	gate->open = 1;
	stage_hold(stage, true);
	CHECK(stage_put(stage, parts, 2, 0, false) == STAGE_OK);
	usleep(100000);
	CHECK(!__atomic_load_n(&gate->handed, __ATOMIC_SEQ_CST) && !was_logged("not open"));
	CHECK(producer_open("nobody", stage_number(stage)) == RESK_OK);
	stage_hold(stage, false);
	CHECK(SOON(__atomic_load_n(&gate->handed, __ATOMIC_SEQ_CST) == 1));
	stage_shut(stage);
	number(BOUNDARY_STOP, 0);
	CHECK(__atomic_load_n(&gate->done_frames, __ATOMIC_SEQ_CST) == 1);
	stage_destroy(stage);
	DONE();
}

/* The death of a module ends its engine. */
void ends_with_its_module(void)
{
	int ends[2];
	pid_t module, engine = 0;

	CHECK(!pipe(ends));
	module = fork();
	if (!module) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* the alarm of this program may end it first */

		pid_t pid = host_enter() && configure(NULL) == RESK_OK ? engine_pid() : 0;

		if (write(ends[1], &pid, sizeof(pid)) == sizeof(pid)) {
			pause();
		}
		_exit(1);
	}
	CHECK(read(ends[0], &engine, sizeof(engine)) == sizeof(engine) && engine > 0);
	kill(module, SIGKILL);
	waitpid(module, NULL, 0);
	CHECK(SOON(kill(engine, 0) < 0 && errno == ESRCH), "engine %d lives", (int) engine);
	close(ends[0]);
	close(ends[1]);
	DONE();
}

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	while (dir && readdir(dir)) {
		n++;
	}
	closedir(dir);
	return n;
}

void leaves_nothing_behind(void)
{
	int round, files = 0, threads = 0;

	for (round = 0; round < 20; round++) {
		CHECK(host_enter());
		CHECK(configure(NULL) == RESK_OK);
		number(BOUNDARY_STOP, 0);
		host_leave();
		if (round == 2) {
			files = count_entries("/proc/self/fd");
			threads = count_entries("/proc/self/task");
		}
	}
	CHECK(count_entries("/proc/self/fd") == files && count_entries("/proc/self/task") == threads);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	DONE();
}
